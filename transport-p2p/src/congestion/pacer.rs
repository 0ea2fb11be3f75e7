//! Spreads packets over time.

use std::time::{Duration, Instant};

/// How much of a rate may leave at once: what timers and wake-ups of an operating system resolve.
const QUANTUM: Duration = Duration::from_millis(1);
/// How much may gather while nothing leaves: more than a quantum, for wake-ups that come late.
const DEPTH: Duration = Duration::from_millis(4);
/// Fewest packets of a quantum.
const LEAST_PACKETS: u64 = 2;

/// A token bucket: what may leave now, and when more may.
///
/// Packets leave in groups of about a millisecond's worth, so that a batch stays worth its system call.
#[derive(Clone, Copy, Debug)]
pub struct Pacer {
    packet: u64,
    /// Bytes that may leave; negative after a group that was larger than permitted.
    tokens: f64,
    at: Instant,
}

impl Pacer {
    /// A pacer for packets of at most `packet` bytes, with a first group permitted.
    pub fn new(packet: u64, now: Instant) -> Self {
        Self {
            packet,
            tokens: (10 * packet) as f64,
            at: now,
        }
    }

    /// The largest packet is now this long.
    pub fn set_packet_size(&mut self, bytes: u64) {
        self.packet = bytes;
    }

    /// Bytes that may leave at `now`; 0 until a group's worth has gathered.
    pub fn budget(&mut self, rate: Option<u64>, now: Instant) -> u64 {
        let Some(rate) = rate else { return u64::MAX };
        self.gather(rate, now);
        if self.tokens >= self.quantum(rate) {
            // A first packet may leave with what is there.
            (self.tokens as u64).max(self.packet)
        } else {
            0
        }
    }

    /// `bytes` have left.
    pub fn on_sent(&mut self, bytes: u64) {
        self.tokens = (self.tokens - bytes as f64).max(-1e12);
    }

    /// When [`budget`](Self::budget) will permit something: `None` if it does so already.
    pub fn next(&self, rate: Option<u64>) -> Option<Instant> {
        let rate = rate?;
        let missing = self.quantum(rate) - self.tokens;
        // Rounded up to the next microsecond, or the budget is still 0 then.
        (missing > 0.0).then(|| {
            let wait = Duration::from_secs_f64((missing / rate.max(1) as f64).min(60.0));
            self.at + wait + Duration::from_micros(1)
        })
    }

    fn quantum(&self, rate: u64) -> f64 {
        let packets = (LEAST_PACKETS * self.packet) as f64;
        // Less than two packets' time at slow rates: a single packet leaves as soon as its time has come.
        let slow = self.packet as f64;
        let quantum = rate as f64 * QUANTUM.as_secs_f64();
        if quantum < packets { slow } else { quantum }
    }

    fn gather(&mut self, rate: u64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        self.at = self.at.max(now);
        let depth = (rate as f64 * DEPTH.as_secs_f64()).max((10 * self.packet) as f64);
        self.tokens = (self.tokens + elapsed * rate as f64).min(depth);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::testing::epoch;

    #[test]
    fn keeps_the_rate() {
        for rate in [1_000, 100_000, 12_500_000, 1_000_000_000] {
            let start = epoch();
            let mut now = start;
            let mut pacer = Pacer::new(1200, now);
            let mut sent = 0;
            while now < start + Duration::from_secs(10) {
                let mut budget = pacer.budget(Some(rate), now);
                while budget >= 1200 {
                    pacer.on_sent(1200);
                    sent += 1200;
                    budget -= 1200;
                }
                // A timer that is up to a millisecond late.
                let next = pacer.next(Some(rate)).map_or(now, |at| at.max(now));
                now = next + Duration::from_micros(1 + sent % 900);
            }
            let expected = rate * 10 + 12_000;
            assert!(sent <= expected + 12_000, "{sent} of {expected}");
            assert!(sent * 100 >= expected * 97, "{sent} of {expected}");
        }
    }

    #[test]
    fn no_rate_is_no_limit() {
        let now = epoch();
        let mut pacer = Pacer::new(1200, now);
        pacer.on_sent(1 << 40);
        assert_eq!(pacer.budget(None, now), u64::MAX);
        assert_eq!(pacer.next(None), None);
    }
}
