//! How long packets are on their way, and how long to wait for them.

use super::JitterConfig;
use std::time::{Duration, Instant};

/// The width of a class of delays.
const CLASS: Duration = Duration::from_millis(5);

/// Classes: all beyond the last count as in it.
const CLASSES: usize = 200;

/// How much of what was known remains when the next packet comes, once much is known: half after about 7 s.
const MEMORY: f64 = 0.998;

/// How long the shortest way is remembered: clocks that differ move it.
const EPOCH: Duration = Duration::from_secs(5);

/// Knows the ways of recent packets, each against the shortest.
#[derive(Clone, Debug)]
pub(super) struct DelayModel {
    clock_rate: u32,
    late_share: f64,
    delay_min: Duration,
    delay_max: Duration,
    /// The first frame, to count from.
    origin: Option<(u64, Instant)>,
    /// The shortest way in this epoch and in the one before, in nanoseconds against the origin's.
    shortest: i64,
    shortest_before: i64,
    epoch_ends: Option<Instant>,
    /// The share of packets by their class.
    shares: Box<[f64; CLASSES]>,
    seen: u64,
    target: Duration,
}

impl DelayModel {
    pub(super) fn new(config: &JitterConfig) -> Self {
        Self {
            clock_rate: config.clock_rate,
            late_share: config.late_share.clamp(0.0001, 0.5),
            delay_min: config.delay_min,
            delay_max: config.delay_max.max(config.delay_min),
            origin: None,
            shortest: 0,
            shortest_before: i64::MAX,
            epoch_ends: None,
            shares: Box::new([0.0; CLASSES]),
            seen: 0,
            target: config.delay_start,
        }
    }

    /// What to aim at.
    pub(super) fn target(&self) -> Duration {
        self.target.clamp(self.delay_min, self.delay_max)
    }

    /// How much later than on the shortest way the frame of this timestamp is played when it is played at `at`.
    pub(super) fn since_best(&self, timestamp: u64, at: Instant) -> Option<Duration> {
        let way = self.way(timestamp, at)? - self.best();
        Some(Duration::from_nanos(u64::try_from(way).unwrap_or(0)))
    }

    /// The frame of this timestamp was there at `now`.
    pub(super) fn on_frame(&mut self, timestamp: u64, now: Instant) {
        let origin = *self.origin.get_or_insert((timestamp, now));
        let ends = *self.epoch_ends.get_or_insert(now + EPOCH);
        let Some(way) = self.way(timestamp, now) else {
            return;
        };
        if origin == (timestamp, now) && self.seen == 0 {
            self.shortest = way;
        }
        if now >= ends {
            self.shortest_before = self.shortest;
            self.shortest = way;
            self.epoch_ends = Some(now + EPOCH);
        }
        self.shortest = self.shortest.min(way);
        let extra = Duration::from_nanos(u64::try_from(way - self.best()).unwrap_or(0));
        self.count(extra);
    }

    fn count(&mut self, extra: Duration) {
        let class = (extra.as_nanos() / CLASS.as_nanos()) as usize;
        self.seen += 1;
        // At first all packets count the same; later the new ones count more.
        let memory = MEMORY.min(1.0 - 1.0 / self.seen as f64);
        for share in self.shares.iter_mut() {
            *share *= memory;
        }
        self.shares[class.min(CLASSES - 1)] += 1.0 - memory;
        // A few packets say little about the rare ones.
        if self.seen >= 10 {
            self.target = self.quantile();
        }
    }

    /// The least delay at which no more than the share comes too late.
    fn quantile(&self) -> Duration {
        let mut late = 0.0;
        for (class, share) in self.shares.iter().enumerate().rev() {
            late += share;
            if late > self.late_share {
                return CLASS * (class as u32 + 1);
            }
        }
        CLASS
    }

    fn best(&self) -> i64 {
        self.shortest.min(self.shortest_before)
    }

    /// Nanoseconds between the frame's time by its timestamp and `at`, against those of the origin.
    fn way(&self, timestamp: u64, at: Instant) -> Option<i64> {
        let (first, start) = self.origin?;
        let ahead = timestamp.cast_signed() - first.cast_signed();
        let by_stamp = i128::from(ahead) * 1_000_000_000 / i128::from(self.clock_rate);
        let passed = match at.checked_duration_since(start) {
            Some(passed) => passed.as_nanos() as i128,
            None => -(start.saturating_duration_since(at).as_nanos() as i128),
        };
        i64::try_from(passed - by_stamp).ok()
    }
}
