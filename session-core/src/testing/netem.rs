//! [`Netem`]: one direction of a bad link, as a queue whose randomness and time are arguments.

use crate::SeededEntropy;
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    fmt,
    time::{Duration, Instant},
};

/// How bad a link is. The default is perfect: nothing is lost and nothing takes time.
///
/// Probabilities are between 0 and 1; what lies outside counts as the nearer end.
#[derive(Clone, Debug, PartialEq)]
pub struct Conditions {
    /// How long everything takes.
    pub delay: Duration,
    /// Up to so much longer, evenly distributed. Jitter alone reorders nothing: who is late holds up who follows.
    pub jitter: Duration,
    /// The probability to be lost.
    pub loss: f64,
    /// How many in a row are lost on average, at least 1. The share of the lost stays what [`loss`](Self::loss) says.
    pub loss_burst: f64,
    /// The probability to arrive twice.
    pub duplicate: f64,
    /// The probability to be overtaken: to arrive up to [`reorder_delay`](Self::reorder_delay) later, out of the row.
    pub reorder: f64,
    /// How much later the overtaken arrive at most.
    pub reorder_delay: Duration,
    /// Bytes per second; `None` is unlimited.
    pub rate: Option<u64>,
    /// Bytes that may wait for [`rate`](Self::rate). What does not fit is lost.
    pub queue: usize,
    /// Larger payloads than this many bytes are lost.
    pub mtu: Option<usize>,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            loss: 0.0,
            loss_burst: 1.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_delay: Duration::from_millis(50),
            rate: None,
            queue: 256 * 1024,
            mtu: None,
        }
    }
}

impl Conditions {
    /// A link that only takes time.
    pub fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// A link that does everything wrong: 20 ms, 10 ms of jitter, one in ten lost, one in twenty doubled, one in ten
    /// overtaken.
    pub fn bad() -> Self {
        Self {
            delay: Duration::from_millis(20),
            jitter: Duration::from_millis(10),
            loss: 0.1,
            duplicate: 0.05,
            reorder: 0.1,
            ..Self::default()
        }
    }
}

/// What became of the payloads so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Given to [`Netem::handle_input`].
    pub entered: u64,
    /// Handed out by [`Netem::poll_output`], duplicates included.
    pub delivered: u64,
    /// Lost on the way, or to a partition.
    pub lost: u64,
    /// Lost because the queue was full or the payload too large.
    pub dropped: u64,
    /// Added by duplication.
    pub duplicated: u64,
}

/// One direction of a link: payloads go in, and come out later, or not, or twice.
///
/// Two of the same seed, given the same inputs at the same instants, do the same.
pub struct Netem<T> {
    conditions: Conditions,
    entropy: SeededEntropy,
    in_flight: Agenda<T>,
    /// When the last payload leaves the sender; what comes later queues behind it.
    busy_until: Option<Instant>,
    /// When the last payload that keeps its place in the row arrives.
    row_until: Option<Instant>,
    in_burst: bool,
    partitioned: bool,
    statistics: Statistics,
}

impl<T: Clone> Netem<T> {
    /// How many payloads may be on the way at once; what comes on top is lost.
    pub const IN_FLIGHT_MAX: usize = 1 << 20;

    /// A link.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            entropy: SeededEntropy::new(seed),
            in_flight: Agenda::default(),
            busy_until: None,
            row_until: None,
            in_burst: false,
            partitioned: false,
            statistics: Statistics::default(),
        }
    }

    /// A payload of `size` bytes enters the link.
    pub fn handle_input(&mut self, payload: T, size: usize, now: Instant) {
        self.statistics.entered += 1;
        if self.partitioned || self.is_lost() {
            self.statistics.lost += 1;
            return;
        }
        if self.conditions.mtu.is_some_and(|mtu| size > mtu)
            || self.in_flight.len() >= Self::IN_FLIGHT_MAX
        {
            self.statistics.dropped += 1;
            return;
        }
        let Some(departure) = self.departure(size, now) else {
            self.statistics.dropped += 1;
            return;
        };
        let again = self.chance(self.conditions.duplicate);
        if again {
            self.statistics.duplicated += 1;
            let at = self.arrival(departure);
            self.in_flight.push(at, payload.clone());
        }
        let at = self.arrival(departure);
        self.in_flight.push(at, payload);
    }

    /// The next payload that has arrived by `now`.
    pub fn poll_output(&mut self, now: Instant) -> Option<T> {
        let arrived = self.in_flight.pop(now)?;
        self.statistics.delivered += 1;
        Some(arrived)
    }

    /// When the next payload arrives.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.in_flight.next()
    }

    /// Changes the link. What is on the way stays as it is.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        self.conditions = conditions;
        self.in_burst = false;
    }

    /// Cuts the link, or joins it again. A cut loses what enters; what is on the way arrives.
    pub fn set_partitioned(&mut self, partitioned: bool) {
        self.partitioned = partitioned;
    }

    /// Forgets what is on the way.
    pub fn clear(&mut self) {
        self.statistics.lost += self.in_flight.len() as u64;
        self.in_flight = Agenda::default();
    }

    /// The link as it is now.
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// How many payloads are on the way.
    pub fn len(&self) -> usize {
        self.in_flight.len()
    }

    /// Whether nothing is on the way.
    pub fn is_empty(&self) -> bool {
        self.in_flight.len() == 0
    }

    /// What became of the payloads so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// When the payload has left the sender, or `None` when the queue before it is full.
    fn departure(&mut self, size: usize, now: Instant) -> Option<Instant> {
        let Some(rate) = self.conditions.rate else {
            return Some(now);
        };
        let rate = rate.max(1);
        let start = self.busy_until.map_or(now, |busy| busy.max(now));
        let waiting = start.saturating_duration_since(now).as_nanos() * u128::from(rate);
        let free = (self.conditions.queue as u128 * 1_000_000_000).saturating_sub(waiting);
        // An idle link takes anything: the queue bounds what waits, not what is being sent.
        if waiting > 0 && size as u128 * 1_000_000_000 > free {
            return None;
        }
        let nanoseconds = size as u128 * 1_000_000_000 / u128::from(rate);
        let takes = Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX));
        let departure = start + takes;
        self.busy_until = Some(departure);
        Some(departure)
    }

    fn arrival(&mut self, departure: Instant) -> Instant {
        let mut at = departure + self.conditions.delay + self.up_to(self.conditions.jitter);
        if self.chance(self.conditions.reorder) {
            return at + self.up_to(self.conditions.reorder_delay);
        }
        if let Some(row) = self.row_until {
            at = at.max(row);
        }
        self.row_until = Some(at);
        at
    }

    /// Two states, as of Gilbert: within a burst everything is lost, outside nothing is.
    fn is_lost(&mut self) -> bool {
        let loss = self.conditions.loss.clamp(0.0, 1.0);
        if loss == 0.0 {
            return false;
        }
        let leave = 1.0 / self.conditions.loss_burst.max(1.0);
        let enter = if loss == 1.0 {
            1.0
        } else {
            (leave * loss / (1.0 - loss)).min(1.0)
        };
        // Bursts of one, which are the default, are not a chain: each payload is on its own.
        self.in_burst = if self.conditions.loss_burst <= 1.0 {
            self.chance(loss)
        } else if self.in_burst {
            loss == 1.0 || !self.chance(leave)
        } else {
            self.chance(enter)
        };
        self.in_burst
    }

    fn chance(&mut self, probability: f64) -> bool {
        // Nothing is drawn for what cannot happen, so that a switched-off fault does not shift the others.
        probability > 0.0 && self.unit() < probability
    }

    fn up_to(&mut self, most: Duration) -> Duration {
        if most.is_zero() {
            return most;
        }
        most.mul_f64(self.unit())
    }

    /// Evenly distributed in [0, 1).
    fn unit(&mut self) -> f64 {
        const BITS: u32 = f64::MANTISSA_DIGITS;
        (self.entropy.next_u64() >> (u64::BITS - BITS)) as f64 / (1_u64 << BITS) as f64
    }
}

impl<T> fmt::Debug for Netem<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Netem")
            .field("conditions", &self.conditions)
            .field("in_flight", &self.in_flight.len())
            .field("partitioned", &self.partitioned)
            .field("statistics", &self.statistics)
            .finish_non_exhaustive()
    }
}

/// What is to happen, by time; what is due at the same instant comes in the order of entry.
pub(crate) struct Agenda<T> {
    items: BinaryHeap<Reverse<Item<T>>>,
    entered: u64,
}

struct Item<T> {
    at: Instant,
    number: u64,
    what: T,
}

impl<T> Agenda<T> {
    pub(crate) fn push(&mut self, at: Instant, what: T) {
        self.entered += 1;
        self.items.push(Reverse(Item {
            at,
            number: self.entered,
            what,
        }));
    }

    pub(crate) fn pop(&mut self, now: Instant) -> Option<T> {
        if self.next()? > now {
            return None;
        }
        self.items.pop().map(|Reverse(item)| item.what)
    }

    pub(crate) fn next(&self) -> Option<Instant> {
        self.items.peek().map(|Reverse(item)| item.at)
    }

    pub(crate) fn len(&self) -> usize {
        self.items.len()
    }
}

impl<T> Default for Agenda<T> {
    fn default() -> Self {
        Self {
            items: BinaryHeap::new(),
            entered: 0,
        }
    }
}

impl<T> PartialEq for Item<T> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}

impl<T> Eq for Item<T> {}

impl<T> PartialOrd for Item<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Item<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    /// Sends 0..count, one a millisecond, and gives what arrives with its time since the start.
    fn run(conditions: Conditions, seed: u64, count: u32) -> Vec<(Duration, u32)> {
        let start = epoch();
        let mut link = Netem::new(conditions, seed);
        for number in 0..count {
            link.handle_input(number, 100, start + Duration::from_millis(number.into()));
        }
        drain(&mut link, start)
    }

    fn drain<T: Clone>(link: &mut Netem<T>, start: Instant) -> Vec<(Duration, T)> {
        let mut arrived = Vec::new();
        while let Some(at) = link.poll_timeout() {
            assert_eq!(
                link.poll_output(at - Duration::from_nanos(1)).map(|_| ()),
                None
            );
            arrived.extend(link.poll_output(at).map(|payload| (at - start, payload)));
        }
        arrived
    }

    #[test]
    fn a_perfect_link_changes_nothing() {
        let arrived = run(Conditions::default(), 1, 100);
        let expected = (0..100).map(|n| (Duration::from_millis(n.into()), n));
        assert!(arrived.into_iter().eq(expected));
    }

    #[test]
    fn the_same_seed_does_the_same_and_another_does_not() {
        let run = |seed| run(Conditions::bad(), seed, 500);
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn jitter_alone_keeps_the_order_and_reordering_does_not() {
        let jitter = Conditions {
            jitter: Duration::from_millis(80),
            ..Conditions::default()
        };
        let order: Vec<u32> = run(jitter.clone(), 3, 1_000).iter().map(|a| a.1).collect();
        assert!(order.is_sorted() && order.len() == 1_000);
        let reorder = Conditions {
            reorder: 0.2,
            ..jitter
        };
        let mut order: Vec<u32> = run(reorder, 3, 1_000).iter().map(|a| a.1).collect();
        assert!(!order.is_sorted());
        order.sort_unstable();
        assert!(order.into_iter().eq(0..1_000));
    }

    #[test]
    fn the_share_of_the_lost_is_as_asked_and_bursts_are_as_long_as_asked() {
        for burst in [1.0, 8.0] {
            let conditions = Conditions {
                loss: 0.2,
                loss_burst: burst,
                ..Conditions::default()
            };
            let arrived = run(conditions, 11, 50_000);
            let lost = 50_000 - arrived.len();
            assert!((9_000..11_000).contains(&lost), "{lost} lost by {burst}");
            let bursts = arrived
                .windows(2)
                .filter(|pair| pair[1].1 - pair[0].1 > 1)
                .count();
            let mean = lost as f64 / bursts as f64;
            let expected = if burst == 1.0 { 1.0 / 0.8 } else { burst };
            assert!((mean / expected - 1.0).abs() < 0.15, "{mean} of {expected}");
        }
    }

    #[test]
    fn a_rate_spreads_payloads_and_a_full_queue_loses_them() {
        let start = epoch();
        let conditions = Conditions {
            rate: Some(100_000),
            queue: 1_000,
            ..Conditions::default()
        };
        let mut link = Netem::new(conditions, 1);
        for number in 0..20 {
            link.handle_input(number, 100, start);
        }
        let arrived = drain(&mut link, start);
        // One being sent, ten waiting.
        assert_eq!(arrived.len(), 10);
        assert_eq!(link.statistics().dropped, 10);
        for (index, (at, _)) in arrived.iter().enumerate() {
            assert_eq!(*at, Duration::from_millis(index as u64 + 1));
        }
    }

    #[test]
    fn a_partition_loses_everything_until_it_heals() {
        let start = epoch();
        let mut link = Netem::new(Conditions::default(), 1);
        link.set_partitioned(true);
        link.handle_input(1, 1, start);
        link.set_partitioned(false);
        link.handle_input(2, 1, start);
        assert_eq!(link.poll_output(start), Some(2));
        assert_eq!(link.poll_output(start), None);
        assert_eq!(link.poll_timeout(), None, "nothing is pending");
    }

    #[test]
    fn too_large_is_lost_and_duplicates_are_counted() {
        let start = epoch();
        let conditions = Conditions {
            mtu: Some(1_200),
            duplicate: 1.0,
            ..Conditions::default()
        };
        let mut link = Netem::new(conditions, 1);
        link.handle_input('a', 1_201, start);
        link.handle_input('b', 1_200, start);
        assert_eq!(drain(&mut link, start).len(), 2);
        let Statistics {
            entered,
            delivered,
            dropped,
            duplicated,
            lost,
        } = link.statistics();
        assert_eq!(
            (entered, delivered, dropped, duplicated, lost),
            (2, 2, 1, 1, 0)
        );
    }
}
