//! When a file was changed.

use std::{fmt, str::FromStr};
use thiserror::Error;
use time::{Date, OffsetDateTime, Time, format_description::well_known::Rfc3339};

/// A date and a time with their zone (XEP-0082 §3.2, a profile of RFC 3339). A bare date, which the schema of XEP-0234
/// speaks of, is its midnight in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileDate(OffsetDateTime);

/// Why a text is no [`FileDate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not a date and time of XEP-0082")]
pub struct DateError;

impl FileDate {
    /// So many seconds after the beginning of 1970 in UTC; `None` outside the years 0 to 9999.
    pub fn from_unix(seconds: i64) -> Option<Self> {
        let date = OffsetDateTime::from_unix_timestamp(seconds).ok()?;
        (date.year() >= 0).then_some(Self(date))
    }

    /// Seconds after the beginning of 1970 in UTC, rounded down.
    pub fn unix(self) -> i64 {
        self.0.unix_timestamp()
    }
}

impl FromStr for FileDate {
    type Err = DateError;

    fn from_str(text: &str) -> Result<Self, DateError> {
        let text = text.trim();
        if text.len() == 10 {
            let mut parts = text.split('-');
            let mut part = || {
                parts
                    .next()
                    .filter(|p| p.bytes().all(|b| b.is_ascii_digit()))
            };
            let (year, month, day) = (part(), part(), part());
            let number = |text: Option<&str>| text.and_then(|t| t.parse::<u16>().ok());
            let (year, month, day) = (number(year), number(month), number(day));
            let (Some(year), Some(month), Some(day)) = (year, month, day) else {
                return Err(DateError);
            };
            let month = u8::try_from(month)
                .ok()
                .and_then(|m| time::Month::try_from(m).ok());
            let date = month.and_then(|month| {
                Date::from_calendar_date(year.into(), month, u8::try_from(day).ok()?).ok()
            });
            return date
                .map(|date| Self(date.with_time(Time::MIDNIGHT).assume_utc()))
                .ok_or(DateError);
        }
        let parse = |text| OffsetDateTime::parse(text, &Rfc3339);
        // Gajim 1.7.3 writes a Z behind the offset.
        let date = parse(text).or_else(|error| text.strip_suffix('Z').map_or(Err(error), parse));
        date.map(Self).map_err(|_| DateError)
    }
}

impl fmt::Display for FileDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.0.format(&Rfc3339).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl fmt::Debug for FileDate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FileDate({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_peers_write_is_understood() {
        for (text, unix) in [
            ("1969-07-21T02:56:15Z", -14_159_025),
            ("2015-07-26T21:46:00+01:00", 1_437_943_560),
            ("2015-07-26T20:46:00.250Z", 1_437_943_560),
            (" 2015-07-26\n", 1_437_868_800),
            ("2026-11-30T06:53:31.683399+00:00Z", 1_796_021_611),
        ] {
            assert_eq!(
                text.parse::<FileDate>().map(FileDate::unix),
                Ok(unix),
                "{text}"
            );
        }
        for text in [
            "",
            "now",
            "2015-13-01",
            "2015-02-30",
            "2015-07-26T21:46:00",
            "2015_07_26",
            "+015-07-26",
        ] {
            assert_eq!(text.parse::<FileDate>(), Err(DateError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_date_comes_back(seconds in -62_167_219_200..253_402_300_800i64) {
            let date = FileDate::from_unix(seconds).unwrap();
            prop_assert_eq!(date.unix(), seconds);
            prop_assert_eq!(date.to_string().parse(), Ok(date));
        }
    }

    #[test]
    fn what_has_no_text_is_no_date() {
        assert_eq!(FileDate::from_unix(i64::MAX), None);
        assert_eq!(FileDate::from_unix(-62_167_219_201), None);
        assert_eq!(FileDate::from_unix(253_402_300_800), None);
    }
}
