//! What arrives: which chunks are here, messages out of them, and each stream's order.

use super::{
    Message,
    assemble::{Assembler, Label, Place, Violation, Whole},
};
use crate::pseudotcp::ranges::Ranges;
use bytes::{BufMut, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// Most separate ranges of chunks behind holes.
const MAX_RANGES: usize = 8192;
/// How far ahead of the cumulative acknowledgement a chunk may be.
const MAX_AHEAD: u64 = 1 << 18;
/// Most entries of a FORWARD TSN that are read: as many as fit into any packet that DTLS carries.
const MAX_ENTRIES: usize = 4096;
/// Most duplicates that an acknowledgement tells of.
const MAX_DUPLICATES: usize = 16;
/// What a message counts beside its data while it waits to be read or for its turn.
const OVERHEAD: usize = 64;
/// What a range of chunks behind a hole counts.
const RANGE: usize = 32;

/// What became of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    InOrder,
    OutOfOrder,
    Duplicate,
    /// No room: it must come again.
    Dropped,
}

#[derive(Debug)]
pub(super) struct Inbound {
    /// Everything before this has arrived.
    next: u64,
    arrived: Ranges,
    duplicates: Vec<u32>,
    capacity: usize,
    most: usize,
    assembler: Assembler,
    /// What each stream delivers next, if it is not its first.
    streams: BTreeMap<u16, u32>,
    /// The last unordered message of each stream that the peer gave up, with I-DATA.
    given_up: BTreeMap<u16, u32>,
    /// Whole messages that wait for those before them.
    waiting: BTreeMap<(u16, u32), Whole>,
    messages: VecDeque<Message>,
    /// Bytes in `waiting` and `messages`.
    held: usize,
    /// The window told last, in bytes.
    told: usize,
    interleaved: bool,
}

impl Inbound {
    pub(super) fn new(next: u64, capacity: usize, most: usize, interleaved: bool) -> Self {
        Self {
            next,
            arrived: Ranges::default(),
            duplicates: Vec::new(),
            capacity,
            most,
            assembler: Assembler::new(most),
            streams: BTreeMap::new(),
            given_up: BTreeMap::new(),
            waiting: BTreeMap::new(),
            messages: VecDeque::new(),
            held: 0,
            told: capacity,
            interleaved,
        }
    }

    /// The cumulative acknowledgement is the number before this.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn has_holes(&self) -> bool {
        self.arrived.count() > 0
    }

    /// Bytes held, with what bookkeeping counts.
    pub(super) fn held(&self) -> usize {
        self.held + self.assembler.held() + self.arrived.count() * RANGE
    }

    pub(super) fn has_messages(&self) -> bool {
        !self.messages.is_empty()
    }

    /// Messages that wait to be read.
    pub(super) fn unread(&self) -> usize {
        self.messages.len()
    }

    /// Whether reading has opened the window so far that the peer should hear of it.
    pub(super) fn window_opened(&self) -> bool {
        self.window() >= self.told + self.capacity / 4
    }

    fn window(&self) -> usize {
        self.capacity.saturating_sub(self.held())
    }

    pub(super) fn read(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.held -= message.payload.len() + OVERHEAD;
        Some(message)
    }

    /// Takes a chunk of data in. `index` is the fragment's number within its message, with I-DATA.
    pub(super) fn accept(
        &mut self,
        number: u64,
        label: Label,
        index: u32,
        data: &[u8],
    ) -> Result<Arrival, Violation> {
        let arrival = self.admit(number, data.len())?;
        let new = matches!(arrival, Arrival::InOrder | Arrival::OutOfOrder);
        if !new || self.is_given_up(&label) {
            return Ok(arrival);
        }
        let place = if self.interleaved {
            let lane = lane(label.stream, label.unordered, label.number);
            Place {
                lane,
                position: index.into(),
            }
        } else {
            Place {
                lane: 0,
                position: number,
            }
        };
        if let Some(whole) = self.assembler.accept(place, label, data)? {
            self.deliver(whole);
        }
        Ok(arrival)
    }

    /// A chunk that is acknowledged and thrown away. It is remembered like others, and within the same bounds.
    pub(super) fn discard(&mut self, number: u64) -> Result<Arrival, Violation> {
        self.admit(number, 0)
    }

    /// Marks a chunk with so many bytes as here, unless it is already or there is no room for it.
    fn admit(&mut self, number: u64, length: usize) -> Result<Arrival, Violation> {
        let known = number < self.next || self.arrived.gaps(number..number + 1).next().is_none();
        if known {
            if self.duplicates.len() < MAX_DUPLICATES {
                self.duplicates.push(number as u32);
            }
            return Ok(Arrival::Duplicate);
        }
        // What comes next is always taken: without it nothing else could be given out. What fills a hole may take more
        // than the window permits: without it what is behind could not be given out.
        let follows = number == self.next;
        let fills = self.arrived.last().is_some_and(|last| number < last.end);
        let room = self.capacity + if fills { self.most } else { 0 };
        let full = self.held() + length > room;
        if !follows
            && (full || number > self.next + MAX_AHEAD || self.arrived.count() >= MAX_RANGES)
        {
            return Ok(Arrival::Dropped);
        }
        if follows && full && !self.messages.is_empty() {
            return Ok(Arrival::Dropped);
        }
        if self.held() > self.capacity + 2 * self.most {
            return Err(Violation::Overrun);
        }
        let in_order = follows && !self.has_holes();
        self.mark(number);
        Ok(if in_order {
            Arrival::InOrder
        } else {
            Arrival::OutOfOrder
        })
    }

    /// Whether a fragment is late: of a message that the peer gave up. Its number can lie ahead of those that were skipped
    /// with the message, and nothing would ever complete it.
    fn is_given_up(&self, label: &Label) -> bool {
        let behind = |number: u32, of: u32| of.wrapping_sub(number).wrapping_sub(1) < 1 << 31;
        if !self.interleaved {
            return false;
        }
        if label.unordered {
            let last = self.given_up.get(&label.stream);
            return last.is_some_and(|last| behind(label.number, last.wrapping_add(1)));
        }
        let next = self.streams.get(&label.stream).copied().unwrap_or(0);
        behind(label.number, next)
    }

    fn mark(&mut self, number: u64) {
        if number == self.next {
            self.next += 1;
            if let Some(first) = self
                .arrived
                .first()
                .filter(|first| first.start == self.next)
            {
                self.next = first.end;
                self.arrived.remove_below(self.next);
            }
        } else if number > self.next {
            self.arrived.insert(number..number + 1);
        }
    }

    fn deliver(&mut self, whole: Whole) {
        self.held += whole.payload.len() + OVERHEAD;
        let label = whole.label;
        if label.unordered {
            self.hand_out(whole);
            return;
        }
        let next = self.streams.get(&label.stream).copied().unwrap_or(0);
        if label.number != next {
            // A number behind the next is a lie of the peer's: it waits for as long as the association lives, and
            // counts.
            if let Some(other) = self.waiting.insert((label.stream, label.number), whole) {
                self.held -= other.payload.len() + OVERHEAD;
            }
            return;
        }
        self.hand_out(whole);
        self.go_on(label.stream, self.following(next));
    }

    /// Hands out what waited for `next`.
    fn go_on(&mut self, stream: u16, mut next: u32) {
        while let Some(whole) = self.waiting.remove(&(stream, next)) {
            self.hand_out(whole);
            next = self.following(next);
        }
        self.streams.insert(stream, next);
    }

    fn following(&self, number: u32) -> u32 {
        let next = number.wrapping_add(1);
        if self.interleaved {
            next
        } else {
            next & 0xffff
        }
    }

    fn hand_out(&mut self, whole: Whole) {
        self.messages.push_back(Message {
            stream: whole.label.stream,
            protocol: whole.label.protocol,
            unordered: whole.label.unordered,
            payload: whole.payload,
        });
    }

    /// The peer gives up everything before `next` that is not here (RFC 3758 §3.6), and with it the messages of
    /// `streams` up to a number.
    pub(super) fn skip(
        &mut self,
        next: u64,
        streams: impl Iterator<Item = (u16, bool, u32)>,
    ) -> bool {
        if next <= self.next || next > self.next + MAX_AHEAD {
            return false;
        }
        self.next = next;
        self.arrived.remove_below(next);
        if let Some(first) = self.arrived.first().filter(|first| first.start == next) {
            self.next = first.end;
            self.arrived.remove_below(self.next);
        }
        if !self.interleaved {
            self.assembler.skip_to(next - 1);
        }
        // Each stream once, however often it is named: its last number holds for those before.
        let last: BTreeMap<_, _> = streams
            .take(MAX_ENTRIES)
            .map(|(stream, unordered, number)| ((stream, unordered), number))
            .collect();
        for ((stream, unordered), number) in last {
            if self.interleaved {
                let first = lane(stream, unordered, 0);
                self.assembler
                    .skip_lanes(first..=lane(stream, unordered, number));
            }
            if unordered {
                self.given_up.insert(stream, number);
            } else {
                self.skip_stream(stream, number);
            }
        }
        true
    }

    /// Goes on behind `number`.
    fn skip_stream(&mut self, stream: u16, number: u32) {
        let next = self.streams.get(&stream).copied().unwrap_or(0);
        let ahead = if self.interleaved {
            number.wrapping_sub(next) < 1 << 31
        } else {
            number.wrapping_sub(next) as u16 & 0x8000 == 0
        };
        if !ahead {
            return;
        }
        // What is whole before that is still handed out, in its order. It may lie on both sides of the numbers' end.
        let spans = if next <= number {
            [Some((next, number)), None]
        } else {
            [Some((next, u32::MAX)), Some((0, number))]
        };
        for (from, to) in spans.into_iter().flatten() {
            let span = (stream, from)..=(stream, to);
            while let Some((&key, _)) = self.waiting.range(span.clone()).next()
                && let Some(whole) = self.waiting.remove(&key)
            {
                self.hand_out(whole);
            }
        }
        self.go_on(stream, self.following(number));
    }

    /// The peer begins these streams anew (RFC 6525 §5.2.2); all when there are none.
    pub(super) fn reset(&mut self, streams: &[u16]) {
        if streams.is_empty() {
            self.streams.clear();
            self.given_up.clear();
        }
        for stream in streams {
            self.streams.remove(stream);
            self.given_up.remove(stream);
        }
    }

    /// Writes the value of a SACK (RFC 9260 §3.3.4) of at most `most` bytes.
    pub(super) fn write_sack(&mut self, buffer: &mut BytesMut, most: usize) {
        let window = self.window();
        self.told = window;
        buffer.put_u32((self.next - 1) as u32);
        buffer.put_u32(window as u32);
        let room = most.saturating_sub(12 + self.duplicates.len() * 4) / 4;
        let near = |position: u64| u16::try_from(position + 1 - self.next).ok();
        let blocks = || {
            self.arrived
                .iter()
                .map_while(|range| Some((near(range.start)?, near(range.end - 1)?)))
                .take(room)
        };
        buffer.put_u16(blocks().count() as u16);
        buffer.put_u16(self.duplicates.len() as u16);
        for (start, end) in blocks() {
            buffer.put_u16(start);
            buffer.put_u16(end);
        }
        for duplicate in self.duplicates.drain(..) {
            buffer.put_u32(duplicate);
        }
    }
}

/// Stream, order and message as one number, in which messages of one stream follow each other.
fn lane(stream: u16, unordered: bool, number: u32) -> u64 {
    u64::from(stream) << 33 | u64::from(unordered) << 32 | u64::from(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by a property: the last fragment of a message arrived after the peer had given the message up, and stayed.
    #[test]
    fn a_fragment_of_a_message_that_was_given_up_is_thrown_away() {
        for unordered in [false, true] {
            let mut inbound = Inbound::new(10, 10_000, 10_000, true);
            let label = |begin, end| Label {
                stream: 2,
                unordered,
                number: 0,
                protocol: 53,
                begin,
                end,
            };
            let first = inbound.accept(10, label(true, false), 0, b"abc");
            assert!(matches!(first, Ok(Arrival::InOrder)));
            assert!(inbound.skip(12, [(2, unordered, 0)].into_iter()));
            assert_eq!(inbound.held(), 0);
            let last = inbound.accept(13, label(false, true), 2, b"xyz");
            assert!(matches!(last, Ok(Arrival::OutOfOrder)));
            assert_eq!(inbound.held(), RANGE, "unordered: {unordered}");
            // It counts as here.
            let again = inbound.accept(13, label(false, true), 2, b"xyz");
            assert!(matches!(again, Ok(Arrival::Duplicate)));
        }
    }

    fn whole(stream: u16, number: u32) -> Label {
        Label {
            stream,
            unordered: false,
            number,
            protocol: 53,
            begin: true,
            end: true,
        }
    }

    /// One packet names thousands of streams, or one stream thousands of times.
    #[test]
    fn entries_cost_no_more_than_what_they_give_up() {
        // Whole messages that wait, and entries that come nearer to them.
        let mut inbound = Inbound::new(10, 8 << 20, 10_000, false);
        for number in 0..12_000 {
            let arrival =
                inbound.accept(11 + u64::from(number), whole(0, 20_000 + number), 0, b"x");
            assert!(matches!(arrival, Ok(Arrival::OutOfOrder)));
        }
        let entries = (0..4_000).map(|number| (0, false, number));
        let taken = allocation_counter::measure(|| assert!(inbound.skip(11, entries)));
        assert!(taken.bytes_total < 1 << 20, "{} bytes", taken.bytes_total);
        assert_eq!(inbound.messages.len(), 0);
        // Up to the last of them, and past the end of the numbers.
        let next = inbound.next;
        assert!(inbound.skip(next + 1, [(0, false, 19_999)].into_iter()));
        assert_eq!(inbound.messages.len(), 12_000);
        assert_eq!(inbound.held(), 12_000 * (OVERHEAD + 1));
    }

    #[test]
    #[allow(
        clippy::disallowed_methods,
        reason = "how long it takes is what is tested"
    )]
    fn entries_do_not_go_through_all_fragments() {
        let mut inbound = Inbound::new(10, 8 << 20, 10_000, true);
        let loose = |number| Label {
            begin: false,
            end: false,
            ..whole(1, number)
        };
        for number in 0..60_000 {
            let arrival = inbound.accept(11 + u64::from(number), loose(100 + number), 1, b"x");
            assert!(matches!(arrival, Ok(Arrival::OutOfOrder)));
        }
        let held = inbound.held();
        let began = std::time::Instant::now();
        // What they name is not here.
        let entries = (2..4_000).map(|stream| (stream, false, 5));
        assert!(inbound.skip(11, entries));
        assert_eq!(inbound.held(), held - RANGE);
        // Half of what is here, and the rest, one by one.
        let next = inbound.next;
        assert!(inbound.skip(next + 1, [(1, false, 30_099)].into_iter()));
        assert!(inbound.held() < held * 6 / 10 && inbound.held() > held * 4 / 10);
        for number in 30_100..60_100 {
            let next = inbound.next;
            assert!(inbound.skip(next + 1, [(1, false, number)].into_iter()));
        }
        assert_eq!(inbound.held(), 0);
        let took = began.elapsed();
        assert!(took.as_secs() < 3, "{took:?}");
    }

    #[test]
    fn what_waits_behind_the_end_of_the_numbers_is_handed_out_in_order() {
        for (interleaved, last) in [(false, 0xffff), (true, u32::MAX)] {
            let mut inbound = Inbound::new(10, 8 << 20, 10_000, interleaved);
            inbound.streams.insert(3, last - 2);
            for (at, number) in [1, last, 4, last - 1, 0].into_iter().enumerate() {
                let payload = [number as u8];
                let arrival = inbound.accept(11 + at as u64, whole(3, number), 0, &payload);
                assert!(matches!(arrival, Ok(Arrival::OutOfOrder)));
            }
            assert!(inbound.skip(11, [(3, false, 2)].into_iter()));
            let payloads: Vec<_> =
                std::iter::from_fn(|| inbound.read().map(|message| message.payload[0])).collect();
            assert_eq!(payloads, [last as u8 - 1, last as u8, 0, 1]);
            assert!(matches!(
                inbound.accept(16, whole(3, 3), 0, b"x"),
                Ok(Arrival::InOrder)
            ));
            assert_eq!(inbound.messages.len(), 2);
        }
    }
}
