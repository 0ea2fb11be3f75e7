//! How long packets are on their way, and how long to wait for them.

use super::JitterConfig;
use crate::lines::prefetch_all;
use std::{
    mem::offset_of,
    time::{Duration, Instant},
};

/// Nanoseconds in a second.
const NANOS: i64 = 1_000_000_000;

/// The width of a class of short delays, of which there are [`SHORT`].
const CLASS: Duration = Duration::from_millis(5);

/// Classes of short delays: up to 200 ms.
const SHORT: usize = 40;

/// The width of a class of long delays.
const LONG_CLASS: Duration = Duration::from_millis(20);

/// All classes: up to 1 s. All beyond the last count as in it.
const CLASSES: usize = 80;

/// Packets between two looks at the classes.
const LOOK_EVERY: u32 = 8;

/// Beyond this, weights are made small again.
const WEIGHT_MAX: f32 = 1e18;

/// How much of what was known remains when the next packet comes: half after about 28 s. A longer delay is
/// learned at once, because it weighs as much as all that was on time; a shorter one slowly, because each change is heard.
const MEMORY: f32 = 0.9995;

/// How long the shortest way is remembered: clocks that differ move it.
const EPOCH: Duration = Duration::from_secs(5);

/// Knows the ways of recent packets, each against the shortest.
// In this order, so that what each packet touches lies together.
#[derive(Clone, Debug)]
#[repr(C)]
pub(super) struct DelayModel {
    /// The packets of each class, the newer the heavier. Of a size that is cheap to touch once a packet.
    weights: [f32; CLASSES],
    clock_rate: u32,
    late_share: f32,
    delay_min: Duration,
    delay_max: Duration,
    /// The first frame, to count from.
    origin: Option<(u64, Instant)>,
    /// The shortest way in this epoch and in the one before, in nanoseconds against the origin's.
    shortest: i64,
    shortest_before: i64,
    epoch_ends: Option<Instant>,
    all: f32,
    weight: f32,
    seen: u32,
    target: Duration,
}

impl DelayModel {
    /// From here to its end is what each packet touches; before it, of the classes, a few.
    pub(super) const TOUCHED_FROM: usize = offset_of!(Self, clock_rate);

    pub(super) fn new(config: &JitterConfig) -> Self {
        Self {
            clock_rate: config.clock_rate,
            late_share: config.late_share.clamp(0.0001, 0.5) as f32,
            delay_min: config.delay_min,
            delay_max: config.delay_max.max(config.delay_min),
            origin: None,
            shortest: 0,
            shortest_before: i64::MAX,
            epoch_ends: None,
            weights: [0.0; CLASSES],
            all: 0.0,
            weight: 1.0,
            seen: 0,
            target: config.delay_start,
        }
    }

    /// Timestamps count from somewhere else from now on. The network is the same: how much its ways differ stays known.
    pub(super) fn begin_anew(&mut self) {
        self.origin = None;
        (self.shortest, self.shortest_before) = (0, i64::MAX);
        self.epoch_ends = None;
    }

    /// Asks the processor for the classes of the shortest delays, in which most packets are, or for all of them where they will be
    /// looked at.
    pub(super) fn prefetch(&self) {
        let looks = self.seen.wrapping_add(1).is_multiple_of(LOOK_EVERY);
        let most = if looks { CLASSES } else { 1 };
        prefetch_all(&self.weights[..most]);
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

    /// The first frame behind a silence has come: one that would have been on its way for longer than is ever waited for has not
    /// been. Its sender's timestamps stood still, and ways count from it on.
    pub(super) fn go_on_at(&mut self, timestamp: u64, now: Instant) {
        let late = self.since_best(timestamp, now);
        if late.is_some_and(|late| late > self.delay_max)
            && let Some(way) = self.way(timestamp, now)
        {
            (self.shortest, self.shortest_before) = (way, way);
            self.epoch_ends = Some(now + EPOCH);
        }
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
        self.seen = self.seen.saturating_add(1);
        self.weights[class_of(extra)] += self.weight;
        self.all += self.weight;
        // A new one weighs more, which is cheaper than to make all before it weigh less.
        self.weight /= MEMORY;
        if self.weight > WEIGHT_MAX {
            for weight in self.weights.iter_mut().chain([&mut self.all]) {
                *weight /= WEIGHT_MAX;
            }
            self.weight /= WEIGHT_MAX;
        }
        let end = end_of(class_of(extra));
        // A few packets say little about the rare ones.
        if self.seen >= 10 && (self.seen.is_multiple_of(LOOK_EVERY) || end > self.target) {
            self.target = self.quantile();
        }
    }

    /// The least delay at which no more than the share comes too late.
    fn quantile(&self) -> Duration {
        let most = self.late_share * self.all;
        let mut late = 0.0;
        for (class, weight) in self.weights.iter().enumerate().rev() {
            late += weight;
            if late > most {
                return end_of(class);
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
        let ahead = timestamp.cast_signed().checked_sub(first.cast_signed())?;
        // In two steps, each of which has room in 64 bits: this is done several times for each packet.
        let rate = i64::from(self.clock_rate);
        let (seconds, rest) = (ahead / rate, ahead % rate);
        let by_stamp = seconds
            .checked_mul(NANOS)?
            .checked_add(rest * NANOS / rate)?;
        let passed = match at.checked_duration_since(start) {
            Some(passed) => nanos(passed)?,
            None => -nanos(start.saturating_duration_since(at))?,
        };
        passed.checked_sub(by_stamp)
    }
}

fn nanos(time: Duration) -> Option<i64> {
    let seconds = i64::try_from(time.as_secs()).ok()?;
    seconds
        .checked_mul(NANOS)?
        .checked_add(i64::from(time.subsec_nanos()))
}

fn class_of(delay: Duration) -> usize {
    let short = CLASS * SHORT as u32;
    let class = match delay.checked_sub(short) {
        Some(long) => SHORT + (long.as_nanos() / LONG_CLASS.as_nanos()) as usize,
        None => (delay.as_nanos() / CLASS.as_nanos()) as usize,
    };
    class.min(CLASSES - 1)
}

fn end_of(class: usize) -> Duration {
    let short = (class + 1).min(SHORT) as u32;
    let long = (class + 1).saturating_sub(SHORT) as u32;
    CLASS * short + LONG_CLASS * long
}
