//! `--limit`.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// For so long a time may be saved up that was not used.
const BURST: Duration = Duration::from_millis(100);

/// How long the bytes take that leave at once.
const PART: Duration = Duration::from_millis(100);

/// Fewer bytes than this do not leave by themselves.
const LEAST_PART: u64 = 1_024;

/// Holds back who sends faster than is allowed: all who share it, together.
#[derive(Debug)]
pub struct Limit {
    rate: Option<u64>,
    free_at: Mutex<Instant>,
}

impl Limit {
    /// So many bytes a second; `None` for as fast as it goes.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time, where there is a limit.
    pub fn new(rate: Option<u64>) -> Self {
        Self {
            rate: rate.filter(|rate| *rate > 0),
            free_at: Mutex::new(Instant::now()),
        }
    }

    /// How many of so many bytes are to be taken at once, so that they leave evenly.
    pub fn part(&self, bytes: usize) -> usize {
        let Some(rate) = self.rate else { return bytes };
        let part = (rate as f64 * PART.as_secs_f64()) as u64;
        let part = usize::try_from(part.max(LEAST_PART)).unwrap_or(usize::MAX);
        part.min(bytes)
    }

    /// Waits until so many bytes may leave.
    pub async fn take(&self, bytes: usize) {
        let Some(rate) = self.rate else { return };
        let begin = {
            let now = Instant::now();
            let earliest = now.checked_sub(BURST).unwrap_or(now);
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let begin = (*free_at).max(earliest);
            *free_at = begin + Duration::from_secs_f64(bytes as f64 / rate as f64);
            begin
        };
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
        let limit = Limit::new(Some(1_000_000));
        for _ in 0..20 {
            limit.take(100_000).await;
        }
        let took = Instant::now().duration_since(begun);
        assert!((1_750..2_050).contains(&took.as_millis()), "{took:?}");
        Limit::new(None).take(usize::MAX).await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_shares_a_limit_is_held_back_together_and_evenly() {
        let limit = std::sync::Arc::new(Limit::new(Some(50_000)));
        assert_eq!([limit.part(300_000), limit.part(70)], [5_000, 70]);
        let begun = Instant::now();
        let mut taking = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let limit = limit.clone();
            taking.spawn(async move {
                for _ in 0..10 {
                    limit.take(limit.part(300_000)).await;
                }
            });
        }
        while let Some(taken) = taking.join_next().await {
            taken.unwrap();
        }
        let took = Instant::now().duration_since(begun);
        assert!((3_700..4_100).contains(&took.as_millis()), "{took:?}");
    }
}
