//! What was sent and not yet acknowledged, and which of it must be sent again.
//!
//! With selective acknowledgements (own peers) a hole counts as lost once [`REORDER`] segments beyond it arrived (RFC
//! 6675), or once a reordering timer ran out (RFC 8985 in spirit); a retransmission counts as lost by the same rule,
//! counted from what was unsent when it left. So all holes of a window are filled in one round trip, and a lost
//! retransmission does not wait for the timeout. Without them, recovery begins as NewReno's (RFC 6582), one hole per
//! round trip, and after a few of these goes back to the first unacknowledged byte.

use super::ranges::Ranges;
use std::{
    collections::VecDeque,
    ops::Range,
    time::{Duration, Instant},
};

/// A segment is lost when this many later ones arrived (RFC 5681 §3.2).
pub(super) const REORDER: u64 = 3;

/// After so many partial acknowledgements in one recovery, everything unacknowledged is sent again: a peer that does
/// not acknowledge selectively shows one hole per round trip, and there are many.
const PATIENCE: u32 = 3;

/// Most selectively acknowledged ranges that are remembered; further ones count as not acknowledged.
const MAX_SACKED: usize = 2048;

/// Most retransmissions that are watched for being lost again; older ones are left to the timeout.
const MAX_WATCHED: usize = 4096;

/// Most batches whose departure is remembered for measuring the round trip.
const MAX_TIMED: usize = 4096;

/// The part of the stream that is on its way.
#[derive(Debug)]
pub(super) struct Flight {
    /// Everything below is acknowledged.
    una: u64,
    /// Everything below was sent at least once.
    nxt: u64,
    sacked: Ranges,
    /// To be sent again.
    lost: Ranges,
    /// What was sent more than once: of it an acknowledgement may mean either (Karn).
    resent: Ranges,
    watched: VecDeque<Retransmission>,
    timed: VecDeque<Departure>,
    /// First transmissions below this have been judged.
    judged: u64,
    /// Recovery lasts until this is acknowledged.
    recovery: Option<u64>,
    /// Whether the recovery was begun by a timeout.
    timed_out: bool,
    duplicates: u64,
    /// Partial acknowledgements in this recovery.
    partials: u32,
    /// Bytes that duplicate acknowledgements show to have left the network, though not which.
    departed: u64,
    /// Whether a segment thought lost turned out to be late: from then on only the timer judges.
    reordering: bool,
}

#[derive(Debug)]
struct Retransmission {
    range: Range<u64>,
    /// What had been sent when it left: later acknowledgement of more is evidence.
    marker: u64,
    /// When it left, if it was due to evidence of loss: only that can prove to have been wrong.
    at: Option<Instant>,
}

#[derive(Debug)]
struct Departure {
    range: Range<u64>,
    at: Instant,
}

/// What an acknowledgement brought.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes that are newly known to have arrived.
    pub(super) delivered: u64,
    /// When the newest of them left, if none of it was sent again.
    pub(super) sent: Option<Instant>,
    /// A retransmission was not needed.
    pub(super) spurious: bool,
}

impl Flight {
    pub(super) fn new(start: u64) -> Self {
        Self {
            una: start,
            nxt: start,
            sacked: Ranges::default(),
            lost: Ranges::default(),
            resent: Ranges::default(),
            watched: VecDeque::new(),
            timed: VecDeque::new(),
            judged: start,
            recovery: None,
            timed_out: false,
            duplicates: 0,
            partials: 0,
            departed: 0,
            reordering: false,
        }
    }

    pub(super) fn una(&self) -> u64 {
        self.una
    }

    pub(super) fn nxt(&self) -> u64 {
        self.nxt
    }

    /// Sent and not cumulatively acknowledged.
    pub(super) fn is_empty(&self) -> bool {
        self.una == self.nxt
    }

    /// Bytes thought to be in the network (RFC 6675's pipe).
    pub(super) fn pipe(&self) -> u64 {
        let known = self.sacked.length() + self.lost.length() + self.departed;
        (self.nxt - self.una).saturating_sub(known)
    }

    /// Bytes that are to be sent again.
    pub(super) fn lost(&self) -> u64 {
        self.lost.length()
    }

    pub(super) fn in_recovery(&self) -> bool {
        self.recovery.is_some()
    }

    /// Whether holes below acknowledged data wait for the reordering timer.
    pub(super) fn has_suspects(&self) -> bool {
        let highest = self.highest();
        let from = self.judged.max(self.una);
        self.sacked.gaps(from..highest).next().is_some()
            || self
                .watched
                .front()
                .is_some_and(|front| front.marker < highest)
    }

    /// The first range that must be sent again.
    pub(super) fn next_lost(&self) -> Option<Range<u64>> {
        self.lost.first().cloned()
    }

    /// Notes that everything up to `end` has now been sent.
    pub(super) fn on_sent(&mut self, end: u64, now: Instant) {
        if self.timed.len() < MAX_TIMED {
            let range = self.nxt..end;
            self.timed.push_back(Departure { range, at: now });
        }
        self.nxt = end;
    }

    /// Notes that `range` was sent again; `probe` if only to provoke an acknowledgement.
    pub(super) fn on_resent(&mut self, range: Range<u64>, probe: bool, now: Instant) {
        self.lost.remove(range.clone());
        if self.resent.count() < MAX_SACKED {
            self.resent.insert(range.clone());
        }
        if self.watched.len() == MAX_WATCHED {
            self.watched.pop_front();
        }
        self.watched.push_back(Retransmission {
            range,
            marker: self.nxt,
            at: (!probe && !self.timed_out).then_some(now),
        });
    }

    /// Notes a cumulative acknowledgement and selectively acknowledged ranges, all of them within what was sent.
    pub(super) fn on_ack(
        &mut self,
        una: u64,
        blocks: impl Iterator<Item = Range<u64>>,
        least_rtt: Option<Duration>,
        now: Instant,
    ) -> Progress {
        let before = self.una + self.sacked.length();
        let mut progress = Progress::default();
        let mut newest = None;
        for block in blocks {
            // The byte at `una` is missing by definition: a block that has it is about what arrived twice.
            let block = block.start..block.end.min(self.nxt);
            if self.sacked.count() < MAX_SACKED && block.start > una && !block.is_empty() {
                newest = newest.max(self.newest_new(block.clone()));
                self.lost.remove(block.clone());
                self.sacked.insert(block);
            }
        }
        if una > self.una {
            // What is acknowledged along with a retransmission may have waited for it.
            if self.resent.first().is_none_or(|first| first.start >= una) {
                newest = newest.max(self.newest_new(self.una..una));
            }
            self.una = una;
            self.judged = self.judged.max(una);
            self.sacked.remove_below(una);
            self.lost.remove_below(una);
            self.resent.remove_below(una);
            self.duplicates = 0;
            progress.spurious = self.forget_watched(least_rtt, now);
        }
        progress.sent = newest.and_then(|byte| self.departure(byte));
        self.forget_departures();
        progress.delivered = (self.una + self.sacked.length()).saturating_sub(before);
        progress
    }

    /// Ends the recovery once everything that was sent when it began has arrived.
    pub(super) fn finish_recovery(&mut self) {
        if self.recovery.is_some_and(|until| self.una >= until) {
            self.recovery = None;
            self.timed_out = false;
            self.departed = 0;
        }
    }

    /// Judges holes by selective acknowledgements; `overdue` says that the reordering timer ran out.
    /// Returns whether a new recovery began.
    pub(super) fn judge(&mut self, mss: u64, overdue: bool) -> bool {
        let highest = self.highest();
        let slack = match (overdue, self.reordering) {
            (true, _) => 0,
            (false, false) => REORDER * mss,
            (false, true) => return false,
        };
        let mut first_lost = None;
        let from = self.judged.max(self.una);
        for gap in self.sacked.gaps(from..highest) {
            let mut end = gap.end;
            if end + slack > highest {
                // Whole segments only: the rest of the hole is judged when there is more evidence.
                let ripe = highest.saturating_sub(slack).saturating_sub(gap.start);
                end = gap.start + ripe / mss * mss;
            }
            self.judged = end;
            if end > gap.start {
                first_lost.get_or_insert(gap.start);
                self.lost.insert(gap.start..end);
            }
            if end < gap.end {
                break;
            }
        }
        while let Some(front) = self.watched.front()
            && front.marker + slack.max(1) <= highest
        {
            let range = front.range.start.max(self.una)..front.range.end;
            for gap in self.sacked.gaps(range) {
                first_lost.get_or_insert(gap.start);
                self.lost.insert(gap);
            }
            self.watched.pop_front();
        }
        first_lost.is_some_and(|first| self.begin_recovery(first))
    }

    /// Counts a duplicate acknowledgement of a peer that does not acknowledge selectively. Returns whether a recovery
    /// began.
    pub(super) fn on_duplicate(&mut self, mss: u64) -> bool {
        self.duplicates += 1;
        if !self.timed_out {
            self.departed = (self.departed + mss).min(self.nxt - self.una - self.lost.length());
        }
        if self.duplicates != REORDER || self.recovery.is_some() {
            return false;
        }
        self.lose_first(mss);
        self.begin_recovery(self.una)
    }

    /// Follows an acknowledgement of `delivered` bytes of a peer that does not acknowledge selectively: in recovery
    /// it shows the next hole.
    pub(super) fn on_partial(&mut self, delivered: u64, mss: u64) {
        // One segment of it is the retransmission, which was never counted as departed.
        self.departed = self.departed.saturating_sub(delivered.saturating_sub(mss));
        if self.recovery.is_none() || self.timed_out || self.is_empty() {
            return;
        }
        self.partials += 1;
        if self.partials > PATIENCE {
            self.on_timeout();
        } else {
            self.lose_first(mss);
        }
    }

    /// Declares everything lost that was not selectively acknowledged; duplicate acknowledgements then mean nothing
    /// until all of it has arrived.
    pub(super) fn on_timeout(&mut self) {
        self.lose_all();
        self.recovery = Some(self.nxt);
        self.timed_out = true;
    }

    /// Schedules everything again, though not because of congestion.
    pub(super) fn lose_all(&mut self) {
        // A peer that acknowledged a block selectively, but not when its turn came, has dropped it.
        if self
            .sacked
            .first()
            .is_some_and(|first| first.start <= self.una)
        {
            self.sacked.clear();
        }
        let missing: Vec<_> = self.sacked.gaps(self.una..self.nxt).collect();
        for gap in missing {
            self.lost.insert(gap);
        }
        self.watched.clear();
        self.judged = self.nxt;
        self.duplicates = 0;
        self.departed = 0;
    }

    /// What to send again to learn about a lost tail: the last segment if the peer acknowledges selectively, else the
    /// first.
    pub(super) fn probe(&self, mss: u64, selective: bool) -> Option<Range<u64>> {
        if self.is_empty() {
            return None;
        }
        if !selective {
            return Some(self.una..self.nxt.min(self.una + mss));
        }
        let gap = self.sacked.gaps(self.una..self.nxt).last()?;
        Some(gap.start.max(gap.end.saturating_sub(mss))..gap.end)
    }

    fn highest(&self) -> u64 {
        self.sacked.last().map_or(self.una, |last| last.end)
    }

    fn lose_first(&mut self, mss: u64) {
        self.lost.insert(self.una..self.nxt.min(self.una + mss));
        let rest = self.nxt - self.una - self.lost.length();
        self.departed = self.departed.min(rest);
    }

    fn begin_recovery(&mut self, first_lost: u64) -> bool {
        if self.recovery.is_some_and(|until| first_lost < until) {
            return false;
        }
        self.recovery = Some(self.nxt);
        self.timed_out = false;
        self.partials = 0;
        true
    }

    /// The last byte of a range that was not known to have arrived.
    fn newest_new(&self, range: Range<u64>) -> Option<u64> {
        self.sacked.gaps(range).last().map(|gap| gap.end - 1)
    }

    /// When a byte left, if it did so once.
    fn departure(&self, byte: u64) -> Option<Instant> {
        let once =
            self.resent.count() < MAX_SACKED && self.resent.gaps(byte..byte + 1).next().is_some();
        let at = self
            .timed
            .partition_point(|departure| departure.range.end <= byte);
        let departure = self.timed.get(at).filter(|_| once)?;
        departure.range.contains(&byte).then_some(departure.at)
    }

    fn forget_departures(&mut self) {
        while self
            .timed
            .front()
            .is_some_and(|first| first.range.end <= self.una)
        {
            self.timed.pop_front();
        }
    }

    fn forget_watched(&mut self, least_rtt: Option<Duration>, now: Instant) -> bool {
        let mut spurious = false;
        while let Some(front) = self
            .watched
            .front()
            .filter(|front| front.range.end <= self.una)
        {
            if let (Some(at), Some(least)) = (front.at, least_rtt) {
                spurious |= now.saturating_duration_since(at) < least / 2;
            }
            self.watched.pop_front();
        }
        self.reordering |= spurious;
        spurious
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::single_range_in_vec_init)]
    use super::*;
    use session_core::testing::epoch;

    const MSS: u64 = 100;

    /// Ten segments on their way.
    fn flight(now: Instant) -> Flight {
        let mut flight = Flight::new(1000);
        flight.on_sent(2000, now);
        flight
    }

    fn lost(flight: &Flight) -> Vec<Range<u64>> {
        let missing = |range: &Range<u64>| flight.lost.gaps(range.clone()).next().is_none();
        (0..20)
            .map(|at| 1000 + at * MSS..1100 + at * MSS)
            .filter(missing)
            .collect()
    }

    fn sack(flight: &mut Flight, una: u64, blocks: &[Range<u64>], now: Instant) -> Progress {
        flight.on_ack(una, blocks.iter().cloned(), None, now)
    }

    #[test]
    fn a_hole_is_lost_when_three_segments_beyond_it_arrived() {
        let now = epoch();
        let mut flight = flight(now);
        sack(&mut flight, 1000, &[1100..1300], now);
        assert!(!flight.judge(MSS, false));
        assert!(flight.has_suspects());
        sack(&mut flight, 1000, &[1400..1500], now);
        assert!(flight.judge(MSS, false));
        assert_eq!(lost(&flight), [1000..1100], "1300..1400 has one beyond it");
        assert_eq!(flight.pipe(), 1000 - 300 - 100);
        assert!(!flight.judge(MSS, true), "the same recovery");
        assert_eq!(lost(&flight), [1000..1100, 1300..1400]);
        assert!(!flight.has_suspects());
    }

    #[test]
    fn what_arrives_late_is_not_sent_again() {
        let now = epoch();
        let mut flight = flight(now);
        sack(&mut flight, 1000, &[1100..2000], now);
        flight.judge(MSS, false);
        let delivered = sack(&mut flight, 1000, &[1050..1100, 900..1100], now).delivered;
        assert_eq!(
            delivered, 50,
            "the byte at the cumulative number is missing"
        );
        assert_eq!(flight.next_lost(), Some(1000..1050));
    }

    #[test]
    fn a_retransmission_is_lost_when_what_left_after_it_arrived() {
        let now = epoch();
        let mut flight = flight(now);
        sack(&mut flight, 1000, &[1100..2000], now);
        assert!(flight.judge(MSS, false));
        flight.on_resent(1000..1100, false, now);
        flight.on_sent(2300, now);
        sack(&mut flight, 1000, &[2000..2200], now);
        assert!(!flight.judge(MSS, false));
        assert!(lost(&flight).is_empty());
        sack(&mut flight, 1000, &[2200..2300], now);
        flight.judge(MSS, false);
        assert_eq!(lost(&flight), [1000..1100]);
    }

    #[test]
    fn late_segments_are_told_from_lost_ones() {
        let now = epoch();
        let least = Some(Duration::from_millis(100));
        let mut flight = flight(now);
        sack(&mut flight, 1000, &[1100..2000], now);
        flight.judge(MSS, false);
        flight.on_resent(1000..1100, false, now);
        let soon = now + Duration::from_millis(10);
        let progress = flight.on_ack(2000, [].into_iter(), least, soon);
        assert!(progress.spurious);
        // From now on only the timer judges.
        flight.on_sent(3000, soon);
        sack(&mut flight, 2000, &[2100..3000], soon);
        flight.judge(MSS, false);
        assert!(lost(&flight).is_empty());
        flight.judge(MSS, true);
        assert_eq!(lost(&flight).len(), 1);
    }

    #[test]
    fn what_a_retransmission_blurs_is_no_round_trip() {
        let now = epoch();
        let later = now + Duration::from_millis(70);
        let mut flight = Flight::new(0);
        flight.on_sent(100, now);
        flight.on_sent(200, now);
        flight.on_sent(300, now);
        assert_eq!(sack(&mut flight, 100, &[], later).sent, Some(now));
        flight.on_resent(100..200, false, now);
        flight.on_sent(400, later);
        assert_eq!(sack(&mut flight, 300, &[], later).sent, None);
        assert_eq!(sack(&mut flight, 400, &[], later).sent, Some(later));
    }

    #[test]
    fn duplicates_show_the_first_hole_and_partial_acknowledgements_the_next() {
        let now = epoch();
        let mut flight = flight(now);
        assert!(!flight.on_duplicate(MSS) && !flight.on_duplicate(MSS));
        assert_eq!(flight.pipe(), 800, "limited transmit");
        assert!(flight.on_duplicate(MSS));
        assert_eq!(lost(&flight), [1000..1100]);
        flight.on_resent(1000..1100, false, now);
        sack(&mut flight, 1200, &[], now);
        flight.on_partial(200, MSS);
        assert_eq!(lost(&flight), [1200..1300]);
        sack(&mut flight, 2000, &[], now);
        flight.finish_recovery();
        assert!(!flight.in_recovery() && flight.pipe() == 0);
    }

    #[test]
    fn many_holes_without_selective_acknowledgement_are_not_filled_one_by_one() {
        let now = epoch();
        let mut flight = flight(now);
        for _ in 0..3 {
            flight.on_duplicate(MSS);
        }
        for hole in 1..=4 {
            flight.on_resent(900 + hole * MSS..1000 + hole * MSS, false, now);
            sack(&mut flight, 1000 + hole * MSS, &[], now);
            flight.on_partial(MSS, MSS);
        }
        assert_eq!(lost(&flight).len(), 6, "all that is left");
    }

    #[test]
    fn blocks_that_the_peer_takes_back_are_sent_again() {
        let now = epoch();
        let mut flight = flight(now);
        sack(&mut flight, 1000, &[1100..2000], now);
        flight.judge(MSS, false);
        flight.on_resent(1000..1100, false, now);
        sack(&mut flight, 1100, &[], now);
        flight.on_timeout();
        assert_eq!(lost(&flight).len(), 9);
    }

    #[test]
    fn remembered_blocks_are_limited() {
        let now = epoch();
        let mut flight = Flight::new(0);
        flight.on_sent(100_000, now);
        let blocks = (1..50_000).map(|at| 2 * at..2 * at + 1);
        flight.on_ack(0, blocks, None, now);
        assert_eq!(flight.sacked.count(), MAX_SACKED);
        flight.judge(1, false);
        for _ in 0..2 * MAX_WATCHED {
            let Some(range) = flight.next_lost() else {
                break;
            };
            flight.on_resent(range, false, now);
            flight.on_timeout();
        }
        assert!(flight.watched.len() <= MAX_WATCHED);
        assert!(flight.lost.count() <= MAX_SACKED + 1);
    }
}
