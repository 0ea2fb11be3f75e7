//! Payload types: what an id in an RTP packet stands for, and when two of them are the same codec.

use crate::description::{Feedback, Parameter};
use std::sync::Arc;

/// The first id that has no meaning of its own (RFC 3551 §6). Ids from here to 127 mean what the description says.
pub const DYNAMIC: u8 = 96;

/// The largest id (RFC 3550 §5.1: seven bits).
pub const ID_MAX: u8 = 127;

/// The name under which DTMF digits travel (RFC 4733).
pub const TELEPHONE_EVENT: &str = "telephone-event";

/// The name of comfort noise (RFC 3389).
pub const COMFORT_NOISE: &str = "CN";

/// A codec under the id that it has in this session (XEP-0167 §4, libjingle `Codec`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadType {
    /// 0 to 127. Below [`DYNAMIC`] it says by itself which codec it is (RFC 3551 §6).
    pub id: u8,
    /// The encoding's name as in RFC 3551, compared without case. Empty where a static id says enough.
    pub name: Arc<str>,
    /// In Hz; 0 where nobody said.
    pub clock_rate: u32,
    /// How many channels; 1 where nobody said.
    pub channels: u8,
    /// How many milliseconds of media the sender of this description would like in one packet.
    pub ptime: Option<u32>,
    /// At most how many milliseconds of media it takes in one packet.
    pub max_ptime: Option<u32>,
    /// In bit/s: an attribute of Google's description, a parameter elsewhere. 0 and none are the same.
    pub bit_rate: Option<u32>,
    /// What SDP calls fmtp.
    pub parameters: Vec<Parameter>,
    /// Which feedback is wanted for this one (XEP-0293).
    pub feedback: Vec<Feedback>,
    /// `rtcp-fb-trr-int`: at least how many milliseconds between two regular reports (XEP-0293, RFC 4585 §4.2).
    pub feedback_interval: Option<u32>,
}

impl PayloadType {
    /// A codec with one channel and no parameters.
    pub fn new(id: u8, name: &str, clock_rate: u32) -> Self {
        Self {
            id,
            name: name.into(),
            clock_rate,
            channels: 1,
            ptime: None,
            max_ptime: None,
            bit_rate: None,
            parameters: Vec::new(),
            feedback: Vec::new(),
            feedback_interval: None,
        }
    }

    /// Opus as everybody offers it: 48 kHz and two channels whatever is sent, with in-band FEC (RFC 7587 §7).
    pub fn opus(id: u8) -> Self {
        Self {
            channels: 2,
            parameters: vec![
                Parameter::new("minptime", "10"),
                Parameter::new("useinbandfec", "1"),
            ],
            ..Self::new(id, "opus", 48_000)
        }
    }

    /// A codec that has an id of its own (RFC 3551 §6, table 4); none for what is dynamic, reserved or video.
    ///
    /// ```
    /// use session_voice::PayloadType;
    /// let pcma = PayloadType::of_id(8).unwrap();
    /// assert_eq!((&*pcma.name, pcma.clock_rate), ("PCMA", 8_000));
    /// assert_eq!(PayloadType::of_id(111), None);
    /// ```
    pub fn of_id(id: u8) -> Option<Self> {
        let (name, clock_rate, channels) = match id {
            0 => ("PCMU", 8_000, 1),
            3 => ("GSM", 8_000, 1),
            4 => ("G723", 8_000, 1),
            5 => ("DVI4", 8_000, 1),
            6 => ("DVI4", 16_000, 1),
            7 => ("LPC", 8_000, 1),
            8 => ("PCMA", 8_000, 1),
            // Eight thousand is an old mistake that everybody keeps: it samples at 16 kHz (RFC 3551 §4.5.2).
            9 => ("G722", 8_000, 1),
            10 => ("L16", 44_100, 2),
            11 => ("L16", 44_100, 1),
            12 => ("QCELP", 8_000, 1),
            13 => (COMFORT_NOISE, 8_000, 1),
            14 => ("MPA", 90_000, 1),
            15 => ("G728", 8_000, 1),
            16 => ("DVI4", 11_025, 1),
            17 => ("DVI4", 22_050, 1),
            18 => ("G729", 8_000, 1),
            _ => return None,
        };
        Some(Self {
            channels,
            ..Self::new(id, name, clock_rate)
        })
    }

    /// A parameter's value. Names are compared without case (RFC 4855 §3).
    pub fn parameter(&self, name: &str) -> Option<&str> {
        let same = |p: &&Parameter| p.name.eq_ignore_ascii_case(name);
        self.parameters.iter().find(same).map(|p| &*p.value)
    }

    /// Whether it goes by this name.
    pub fn is(&self, name: &str) -> bool {
        if self.name.is_empty() {
            return Self::of_id(self.id).is_some_and(|known| known.name.eq_ignore_ascii_case(name));
        }
        self.name.eq_ignore_ascii_case(name)
    }

    /// Whether both are the same codec, under whatever ids (libjingle `AudioCodec::Matches`, with the exceptions that
    /// video has today).
    ///
    /// Two static ids are compared as they are. Anything else by name, clock rate, bit rate and number of channels,
    /// where a rate that nobody said fits any. H.264 also by packetisation mode and by the profile, as RFC 6184 §8.2.2
    /// asks; VP9 by its profile.
    pub fn matches(&self, other: &Self) -> bool {
        if self.id < DYNAMIC && other.id < DYNAMIC {
            return self.id == other.id;
        }
        let (this, other) = (self.known(), other.known());
        let rates = |a: u32, b: u32| a == b || a == 0 || b == 0;
        this.name.eq_ignore_ascii_case(&other.name)
            && !this.name.is_empty()
            && rates(this.clock_rate, other.clock_rate)
            && rates(this.bit_rate.unwrap_or(0), other.bit_rate.unwrap_or(0))
            && this.channels.max(1) == other.channels.max(1)
            && this.parameters_fit(&other)
    }

    /// With the name and rates that a static id implies.
    fn known(&self) -> Self {
        match Self::of_id(self.id) {
            Some(known) if self.name.is_empty() => Self {
                name: known.name,
                clock_rate: known.clock_rate,
                channels: known.channels,
                ..self.clone()
            },
            _ => self.clone(),
        }
    }

    fn parameters_fit(&self, other: &Self) -> bool {
        let same = |name, default| {
            let value = |codec: &Self| codec.parameter(name).unwrap_or(default).to_owned();
            value(self).eq_ignore_ascii_case(&value(other))
        };
        if self.is("H264") {
            // Constrained baseline, level 1, where nobody says (RFC 6184 §8.1). The level is no reason to part.
            let profile = |codec: &Self| {
                let id = codec.parameter("profile-level-id").unwrap_or("42000A");
                id.get(..4).unwrap_or(id).to_ascii_lowercase()
            };
            return same("packetization-mode", "0") && profile(self) == profile(other);
        }
        !self.is("VP9") || same("profile-id", "0")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn static_ids_speak_for_themselves() {
        assert!(PayloadType::new(0, "", 0).matches(&PayloadType::new(0, "PCMU", 8_000)));
        // libjingle: below 96 on both sides only the id counts.
        assert!(PayloadType::new(0, "x", 1).matches(&PayloadType::new(0, "PCMU", 8_000)));
        assert!(!PayloadType::new(0, "PCMU", 8_000).matches(&PayloadType::new(8, "PCMU", 8_000)));
        // A static codec under a dynamic id.
        assert!(PayloadType::new(0, "", 0).matches(&PayloadType::new(100, "pcmu", 8_000)));
        assert!(PayloadType::new(0, "", 0).is("pcmu"));
    }

    #[test]
    fn dynamic_ones_match_by_what_they_say() {
        let isac = PayloadType::new(103, "ISAC", 16_000);
        assert!(isac.matches(&PayloadType::new(111, "isac", 16_000)));
        assert!(isac.matches(&PayloadType::new(111, "isac", 0)));
        assert!(!isac.matches(&PayloadType::new(103, "isac", 32_000)));
        let rate = |bit_rate| PayloadType {
            bit_rate,
            ..isac.clone()
        };
        assert!(rate(Some(0)).matches(&rate(Some(40_000))));
        assert!(rate(None).matches(&rate(Some(40_000))));
        assert!(!rate(Some(20_000)).matches(&rate(Some(40_000))));
        assert!(!PayloadType::opus(111).matches(&PayloadType::new(96, "opus", 48_000)));
        assert!(PayloadType::opus(111).matches(&PayloadType::opus(96)));
        assert!(!PayloadType::new(96, "", 8_000).matches(&PayloadType::new(97, "", 8_000)));
    }

    #[test]
    fn video_parameters_part_what_names_join() {
        let h264 = |mode: &str, profile: &str| PayloadType {
            parameters: vec![
                Parameter::new("packetization-mode", mode),
                Parameter::new("profile-level-id", profile),
            ],
            ..PayloadType::new(96, "H264", 90_000)
        };
        assert!(h264("1", "42e01f").matches(&h264("1", "42E034")));
        assert!(!h264("1", "42e01f").matches(&h264("0", "42e01f")));
        assert!(!h264("1", "42e01f").matches(&h264("1", "640c1f")));
        assert!(h264("0", "42000a").matches(&PayloadType::new(97, "h264", 90_000)));
        // A profile that is no ASCII is compared as it is, without a panic.
        assert!(!h264("0", "42é").matches(&h264("0", "42")));
        let vp9 = PayloadType::new(98, "VP9", 90_000);
        let other = PayloadType {
            parameters: vec![Parameter::new("profile-id", "2")],
            ..vp9.clone()
        };
        assert!(!vp9.matches(&other));
    }
}
