//! Received bytes: in order until the application reads them, out of order until the holes are filled.

use bytes::{Bytes, BytesMut};
use std::{
    collections::{BTreeMap, VecDeque},
    ops::Range,
};

/// Payloads shorter than this are copied together instead of being kept as slices of the datagram.
const SLICE: usize = 512;

/// How large a block of copied bytes grows before the next one is begun.
const BLOCK: usize = 16 * 1024;

/// How large one out-of-order run grows before the next one is begun.
const RUN: usize = 64 * 1024;

/// Most out-of-order runs that are kept; a segment that would need one more is dropped (libjingle's list had no
/// limit).
pub(super) const MAX_RUNS: usize = 1024;

/// What became of a segment's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It advanced the stream.
    InOrder,
    /// It was kept behind a hole.
    OutOfOrder,
    /// Nothing of it was new, or it lay outside of the window, or a limit was reached.
    Useless,
}

/// The receive buffer. What it holds never exceeds the window that was promised.
#[derive(Debug)]
pub(super) struct Inbox {
    capacity: u64,
    /// Position of the next byte in order.
    next: u64,
    /// Right edge of the window that the peer was told, which never moves back.
    promised: u64,
    ready: VecDeque<Bytes>,
    ready_length: u64,
    /// Copied bytes behind the last of `ready`.
    tail: BytesMut,
    runs: BTreeMap<u64, BytesMut>,
    runs_length: u64,
    /// Position of the peer's FIN.
    fin: Option<u64>,
}

impl Inbox {
    /// An empty buffer of `capacity` bytes for a stream that begins at position `next`.
    pub(super) fn new(next: u64, capacity: usize) -> Self {
        let capacity = capacity as u64;
        Self {
            capacity,
            next,
            promised: next,
            ready: VecDeque::new(),
            ready_length: 0,
            tail: BytesMut::new(),
            runs: BTreeMap::new(),
            runs_length: 0,
            fin: None,
        }
    }

    /// Position of the next byte in order: what is acknowledged.
    pub(super) fn next(&self) -> u64 {
        self.next
    }

    /// Right edge of the promised window.
    pub(super) fn edge(&self) -> u64 {
        self.promised
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Bytes that wait for the application.
    pub(super) fn readable(&self) -> u64 {
        self.ready_length
    }

    /// Bytes held, in order and out of order.
    pub(super) fn held(&self) -> u64 {
        self.ready_length + self.runs_length
    }

    pub(super) fn has_holes(&self) -> bool {
        !self.runs.is_empty()
    }

    /// Whether the peer's FIN has been reached.
    pub(super) fn is_finished(&self) -> bool {
        self.fin.is_some_and(|fin| fin < self.next)
    }

    /// Right edge that the free space would allow.
    pub(super) fn allowed(&self) -> u64 {
        self.next + self.capacity.saturating_sub(self.ready_length)
    }

    /// Promises a window up to `edge`.
    pub(super) fn promise(&mut self, edge: u64) {
        self.promised = self.promised.max(edge);
    }

    /// Takes in a payload at `position`, of which only new bytes within the window are kept.
    pub(super) fn accept(&mut self, position: u64, payload: &Payload<'_>) -> Arrival {
        let end = position + payload.length() as u64;
        let limit = self.promised.min(self.fin.unwrap_or(u64::MAX));
        let range = position.max(self.next)..end.min(limit);
        if range.is_empty() {
            return Arrival::Useless;
        }
        let part = (range.start - position) as usize..(range.end - position) as usize;
        if range.start > self.next {
            return self.keep(range.start, payload.bytes(part));
        }
        self.append(payload, part);
        self.next = range.end;
        self.join_runs();
        self.pass_fin();
        Arrival::InOrder
    }

    /// Notes the peer's FIN at `position`; a second one elsewhere or one outside of the window is refused.
    pub(super) fn accept_fin(&mut self, position: u64) -> bool {
        let beyond = self
            .runs
            .last_key_value()
            .is_some_and(|(start, run)| start + run.len() as u64 > position);
        if self.fin.is_some() || position < self.next || position > self.promised || beyond {
            return false;
        }
        self.fin = Some(position);
        self.pass_fin();
        true
    }

    /// The next bytes in order.
    pub(super) fn read(&mut self) -> Option<Bytes> {
        let bytes = match self.ready.pop_front() {
            Some(bytes) => bytes,
            None if self.tail.is_empty() => return None,
            None => self.tail.split().freeze(),
        };
        self.ready_length -= bytes.len() as u64;
        Some(bytes)
    }

    /// The next bytes in order; slices that are shorter than `most` are joined.
    pub(super) fn read_joined(&mut self, most: usize) -> Option<Bytes> {
        let next = |ready: &VecDeque<Bytes>, tail: &BytesMut| match ready.front() {
            Some(bytes) => bytes.len(),
            None => tail.len(),
        };
        let mut joined = self.read()?;
        if joined.len() + next(&self.ready, &self.tail) > most || self.ready_length == 0 {
            return Some(joined);
        }
        let length = usize::try_from(self.ready_length).unwrap_or(usize::MAX);
        let mut block = BytesMut::with_capacity(most.min(length.saturating_add(joined.len())));
        block.extend_from_slice(&joined);
        while self.ready_length > 0 && block.len() + next(&self.ready, &self.tail) <= most {
            joined = self.read()?;
            block.extend_from_slice(&joined);
        }
        Some(block.freeze())
    }

    /// A mark for [`Inbox::settle`].
    pub(super) fn mark(&self) -> usize {
        self.ready.len()
    }

    /// Replaces the slices that were kept since `mark` by copies, if they pin a buffer that is more than twice as
    /// long.
    ///
    /// A peer could otherwise make us hold 64 KiB for every few hundred bytes of the window.
    pub(super) fn settle(&mut self, mark: usize, pinned: usize) {
        let kept: usize = self.ready.range(mark..).map(Bytes::len).sum();
        if kept == 0 || kept.saturating_mul(2) >= pinned {
            return;
        }
        for slice in self.ready.range_mut(mark..) {
            *slice = Bytes::copy_from_slice(slice);
        }
    }

    /// Drops everything that waits behind holes.
    pub(super) fn drop_runs(&mut self) {
        self.runs.clear();
        self.runs_length = 0;
    }

    /// The out-of-order ranges: the lowest and the highest ones when there are more than `most`.
    pub(super) fn blocks(&self, most: usize) -> Vec<Range<u64>> {
        let mut blocks: Vec<Range<u64>> = Vec::new();
        for (&start, run) in &self.runs {
            let end = start + run.len() as u64;
            match blocks.last_mut() {
                Some(last) if last.end == start => last.end = end,
                Some(_) | None => blocks.push(start..end),
            }
        }
        if blocks.len() > most {
            blocks.drain(most / 2..blocks.len() - most.div_ceil(2));
        }
        blocks
    }

    /// Appends a part of `payload` to the bytes in order.
    fn append(&mut self, payload: &Payload<'_>, part: Range<usize>) {
        match payload {
            Payload::Shared(bytes) if part.len() >= SLICE => self.push_slice(bytes.slice(part)),
            Payload::Shared(_) | Payload::Borrowed(_) => self.push_copy(payload.bytes(part)),
        }
    }

    fn push_slice(&mut self, bytes: Bytes) {
        self.flush_tail();
        self.ready_length += bytes.len() as u64;
        self.ready.push_back(bytes);
    }

    fn push_copy(&mut self, bytes: &[u8]) {
        if self.tail.len() >= BLOCK {
            self.flush_tail();
        }
        self.ready_length += bytes.len() as u64;
        self.tail.extend_from_slice(bytes);
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            self.ready.push_back(self.tail.split().freeze());
        }
    }

    /// Keeps bytes behind a hole: only those that no run has yet.
    fn keep(&mut self, start: u64, bytes: &[u8]) -> Arrival {
        let end = start + bytes.len() as u64;
        let mut at = start;
        let mut arrival = Arrival::Useless;
        while at < end {
            let covered = self
                .runs
                .range(..=at)
                .next_back()
                .map_or(0, |(start, run)| start + run.len() as u64);
            if covered > at {
                at = covered;
                continue;
            }
            let next_run = self.runs.range(at..).next();
            let stop = next_run.map_or(end, |(&next, _)| next.min(end));
            let piece = &bytes[(at - start) as usize..(stop - start) as usize];
            if !self.extend_run(at, piece) {
                break;
            }
            self.runs_length += piece.len() as u64;
            arrival = Arrival::OutOfOrder;
            at = stop;
        }
        arrival
    }

    /// Adds a piece that no run overlaps; `false` if there are too many runs.
    fn extend_run(&mut self, at: u64, piece: &[u8]) -> bool {
        if let Some((start, run)) = self.runs.range_mut(..at).next_back()
            && start + run.len() as u64 == at
            && run.len() < RUN
        {
            run.extend_from_slice(piece);
            return true;
        }
        if self.runs.len() >= MAX_RUNS {
            return false;
        }
        self.runs.insert(at, BytesMut::from(piece));
        true
    }

    /// Moves the runs that the stream has reached.
    fn join_runs(&mut self) {
        while let Some(first) = self
            .runs
            .first_entry()
            .filter(|run| *run.key() <= self.next)
        {
            let (start, mut run) = first.remove_entry();
            self.runs_length -= run.len() as u64;
            let known = (self.next - start) as usize;
            if known < run.len() {
                let new = run.split_off(known);
                self.next += new.len() as u64;
                if new.len() >= SLICE {
                    self.push_slice(new.freeze());
                } else {
                    self.push_copy(&new);
                }
            }
        }
    }

    fn pass_fin(&mut self) {
        if self.fin == Some(self.next) {
            self.next += 1;
            self.promised = self.promised.max(self.next);
        }
    }
}

/// A segment's payload: part of a datagram that may be kept, or bytes that must be copied.
#[derive(Debug)]
pub(super) enum Payload<'a> {
    Shared(Bytes),
    Borrowed(&'a [u8]),
}

impl Payload<'_> {
    pub(super) fn length(&self) -> usize {
        self.bytes(..).len()
    }

    pub(super) fn bytes(&self, part: impl std::slice::SliceIndex<[u8], Output = [u8]>) -> &[u8] {
        match self {
            Self::Shared(bytes) => &bytes[part],
            Self::Borrowed(bytes) => &bytes[part],
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn stream(range: Range<u64>) -> Vec<u8> {
        range.map(|at| (at * 31 / 7) as u8).collect()
    }

    fn drain(inbox: &mut Inbox) -> Vec<u8> {
        std::iter::from_fn(|| inbox.read()).flatten().collect()
    }

    proptest! {
        #[test]
        fn every_byte_once_in_order(
            parts in prop::collection::vec((0..9000u64, 1..1500u64, any::<bool>(), any::<bool>()), 1..120),
        ) {
            let mut inbox = Inbox::new(100, 5000);
            inbox.promise(inbox.allowed());
            let mut got = Vec::new();
            for (start, length, shared, read) in parts {
                let bytes = stream(start..start + length);
                let payload = if shared {
                    Payload::Shared(bytes.into())
                } else {
                    Payload::Borrowed(&bytes)
                };
                inbox.accept(100 + start, &payload);
                prop_assert!(inbox.held() <= 5000);
                prop_assert!(inbox.runs.len() <= MAX_RUNS);
                prop_assert_eq!(inbox.runs_length, inbox.runs.values().map(|run| run.len() as u64).sum::<u64>());
                let blocks = inbox.blocks(4);
                prop_assert!(blocks.len() <= 4);
                prop_assert!(blocks.iter().all(|block| block.start > inbox.next() && block.end <= inbox.edge()));
                if read {
                    got.extend(drain(&mut inbox));
                    inbox.promise(inbox.allowed());
                }
            }
            got.extend(drain(&mut inbox));
            prop_assert_eq!(inbox.readable(), 0);
            prop_assert_eq!(inbox.next(), 100 + got.len() as u64);
            prop_assert_eq!(&got, &stream(0..got.len() as u64));
        }
    }

    #[test]
    fn fin_comes_after_the_last_byte() {
        let mut inbox = Inbox::new(0, 100);
        inbox.promise(100);
        assert!(inbox.accept_fin(5));
        assert!(!inbox.is_finished());
        assert!(!inbox.accept_fin(7), "only one end");
        assert_eq!(
            inbox.accept(0, &Payload::Borrowed(b"helloWORLD")),
            Arrival::InOrder
        );
        assert!(inbox.is_finished());
        assert_eq!(inbox.next(), 6);
        assert_eq!(drain(&mut inbox), b"hello");
        assert_eq!(inbox.accept(6, &Payload::Borrowed(b"x")), Arrival::Useless);
    }

    #[test]
    fn fin_inside_of_known_data_or_outside_of_the_window_is_refused() {
        let mut inbox = Inbox::new(10, 100);
        inbox.promise(110);
        inbox.accept(20, &Payload::Borrowed(b"abc"));
        assert!(!inbox.accept_fin(9));
        assert!(!inbox.accept_fin(22));
        assert!(!inbox.accept_fin(111));
        assert!(inbox.accept_fin(23));
    }

    #[test]
    fn full_window_can_be_slices_but_small_pieces_are_copied() {
        let mut inbox = Inbox::new(0, 1 << 20);
        inbox.promise(1 << 20);
        let datagram = Bytes::from(stream(0..40_000));
        let mark = inbox.mark();
        inbox.accept(0, &Payload::Shared(datagram.slice(..30_000)));
        inbox.settle(mark, datagram.len());
        assert_eq!(inbox.ready[0].as_ptr(), datagram.as_ptr());
        let mark = inbox.mark();
        inbox.accept(30_000, &Payload::Shared(datagram.slice(30_000..31_000)));
        inbox.settle(mark, datagram.len());
        assert_ne!(inbox.ready[1].as_ptr(), datagram[30_000..].as_ptr());
        for at in 31_000..39_000 {
            inbox.accept(
                at,
                &Payload::Shared(datagram.slice(at as usize..at as usize + 1)),
            );
        }
        assert!(inbox.ready.len() < 4);
        assert_eq!(drain(&mut inbox), stream(0..39_000));
    }

    #[test]
    fn runs_are_limited() {
        let mut inbox = Inbox::new(0, 1 << 20);
        inbox.promise(1 << 20);
        for at in 0..2 * MAX_RUNS as u64 {
            inbox.accept(1 + 2 * at, &Payload::Borrowed(b"x"));
        }
        assert_eq!(inbox.runs.len(), MAX_RUNS);
        let blocks = inbox.blocks(32);
        assert_eq!(blocks.len(), 32);
        assert_eq!(blocks[0], 1..2);
        assert_eq!(blocks[31].end, 2 * MAX_RUNS as u64);
    }
}
