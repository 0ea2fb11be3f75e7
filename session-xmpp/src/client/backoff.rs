//! How long to wait before the next attempt.

use std::time::Duration;

/// The wait after the first loss. A server that restarts has all of its clients back at about this time.
const FIRST: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST: Duration = Duration::from_secs(60);

/// Doubles the wait after each failure, and spreads it, so that the clients of a server do not come back all at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The wait after one more failure; `random` spreads it over the upper half of what it may be.
    pub(super) fn fail(&mut self, random: u32) -> Duration {
        let whole = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    /// A login came to be.
    pub(super) fn succeed(&mut self) {
        self.failures = 0;
    }

    /// How many attempts have failed since the last login.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_minute_and_begin_anew() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.fail(u32::MAX).as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(backoff.fail(0).as_secs(), 30);
        assert_eq!(backoff.failures(), 10);
        backoff.succeed();
        assert_eq!(backoff.fail(0).as_millis(), 500);
    }
}
