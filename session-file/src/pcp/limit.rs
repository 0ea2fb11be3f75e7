//! `--limit`.

use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// For so long a time may be saved up that was not used.
const BURST: Duration = Duration::from_millis(100);

/// Holds back who sends faster than is allowed.
#[derive(Debug)]
pub struct Limit {
    rate: Option<u64>,
    free_at: Instant,
}

impl Limit {
    /// So many bytes a second; `None` for as fast as it goes.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, where there is a limit.
    pub fn new(rate: Option<u64>) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0),
            free_at: Instant::now(),
        }
    }

    /// Waits until so many bytes may leave.
    pub async fn take(&mut self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let now = Instant::now();
        let earliest = now.checked_sub(BURST).unwrap_or(now);
        let begin = self.free_at.max(earliest);
        self.free_at = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
        sleep_until(begin).await;
    }
}

/// Bytes a second in words: `500k`, `2.5M`, `1G`, or a number.
///
/// # Errors
/// Why it is none.
pub fn parse_rate(text: &str) -> Result<u64, String> {
    let (number, unit) = match text.chars().next_back() {
        Some('k' | 'K') => (&text[..text.len() - 1], 1e3),
        Some('m' | 'M') => (&text[..text.len() - 1], 1e6),
        Some('g' | 'G') => (&text[..text.len() - 1], 1e9),
        Some(_) | None => (text, 1.0),
    };
    let rate = number.parse::<f64>().map_err(|error| error.to_string())? * unit;
    if !(1.0..=1e15).contains(&rate) {
        return Err("a rate is a number of bytes a second: 500k, 2.5M, 1G".to_owned());
    }
    Ok(rate as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read() {
        for (text, rate) in [
            ("500k", 500_000),
            ("2.5M", 2_500_000),
            ("1G", 1_000_000_000),
            ("7", 7),
        ] {
            assert_eq!(parse_rate(text), Ok(rate));
        }
        for text in ["", "k", "0", "-1", "fast", "inf", "NaN", "1T"] {
            assert!(parse_rate(text).is_err(), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_holds_back() {
        let begun = Instant::now();
        let mut limit = Limit::new(Some(1_000_000));
        for _ in 0..20 {
            limit.take(100_000).await;
        }
        let took = Instant::now().duration_since(begun);
        assert!((1_750..2_050).contains(&took.as_millis()), "{took:?}");
        Limit::new(None).take(usize::MAX).await;
    }
}
