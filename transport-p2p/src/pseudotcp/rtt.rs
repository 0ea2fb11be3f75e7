//! Round-trip time and the retransmission timeout (RFC 6298, with libjingle's bounds).

use std::time::Duration;

/// Shortest retransmission timeout.
pub(crate) const MIN_RTO: Duration = Duration::from_millis(250);
/// Longest retransmission timeout.
pub(crate) const MAX_RTO: Duration = Duration::from_secs(60);
/// Longest retransmission timeout before the connection is open.
pub(crate) const MAX_CONNECT_RTO: Duration = Duration::from_secs(3);

/// Smoothed round-trip time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rtt {
    smoothed: Option<Duration>,
    variation: Duration,
    least: Option<Duration>,
    initial: Duration,
}

impl Rtt {
    pub(crate) fn new(initial: Duration) -> Self {
        Self {
            smoothed: None,
            variation: Duration::ZERO,
            least: None,
            initial: initial.clamp(MIN_RTO, MAX_CONNECT_RTO),
        }
    }

    pub(crate) fn sample(&mut self, rtt: Duration) {
        let rtt = rtt.min(MAX_RTO);
        self.least = Some(self.least.map_or(rtt, |least| least.min(rtt)));
        match self.smoothed {
            None => {
                self.smoothed = Some(rtt);
                self.variation = rtt / 2;
            }
            Some(smoothed) => {
                self.variation = (self.variation * 3 + smoothed.abs_diff(rtt)) / 4;
                self.smoothed = Some((smoothed * 7 + rtt) / 8);
            }
        }
    }

    pub(crate) fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// Shortest round trip seen.
    pub(crate) fn least(&self) -> Option<Duration> {
        self.least
    }

    /// The timeout after `backoff` consecutive expiries, at most `most`.
    pub(crate) fn timeout(&self, backoff: u32, most: Duration) -> Duration {
        let base = match self.smoothed {
            None => self.initial,
            Some(smoothed) => smoothed + self.variation * 4,
        };
        let doubled = base
            .clamp(MIN_RTO, MAX_RTO)
            .checked_mul(1u32.checked_shl(backoff).unwrap_or(u32::MAX))
            .unwrap_or(MAX_RTO);
        doubled.min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_and_backoff() {
        let mut rtt = Rtt::new(Duration::from_secs(9));
        assert_eq!(rtt.timeout(0, MAX_CONNECT_RTO), MAX_CONNECT_RTO);
        assert_eq!(rtt.timeout(5, MAX_CONNECT_RTO), MAX_CONNECT_RTO);
        for _ in 0..50 {
            rtt.sample(Duration::from_millis(10));
        }
        assert_eq!(rtt.timeout(0, MAX_RTO), MIN_RTO);
        assert_eq!(rtt.timeout(1, MAX_RTO), MIN_RTO * 2);
        assert_eq!(rtt.timeout(31, MAX_RTO), MAX_RTO);
        assert_eq!(rtt.timeout(99, MAX_RTO), MAX_RTO);
        rtt.sample(Duration::MAX);
        assert!(rtt.timeout(0, MAX_RTO) <= MAX_RTO);
        assert_eq!(rtt.least(), Some(Duration::from_millis(10)));
    }

    #[test]
    fn follows_rfc_6298() {
        let mut rtt = Rtt::new(Duration::from_secs(1));
        rtt.sample(Duration::from_millis(400));
        assert_eq!(
            rtt.timeout(0, MAX_RTO),
            Duration::from_millis(400 + 4 * 200)
        );
        rtt.sample(Duration::from_millis(800));
        assert_eq!(rtt.smoothed(), Some(Duration::from_millis(450)));
        assert_eq!(
            rtt.timeout(0, MAX_RTO),
            Duration::from_millis(450 + 4 * 250)
        );
    }
}
