//! Messages out of fragments.

use bytes::{Bytes, BytesMut};
use std::{collections::BTreeMap, ops::RangeInclusive};

/// What a fragment counts beside its data while it waits, so that many small ones cannot take much memory.
const OVERHEAD: usize = 128;

/// The first buffer of a message that grows at present. Of all others no buffer is much more than twice as large as its
/// content, which is what counts.
const FIRST_BUFFER: usize = 4096;

/// Where a fragment belongs: its message (all are one with DATA, whose fragments stand behind each other in the
/// numbering of chunks), and its place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Stream, order and message identifier, with I-DATA.
    pub(super) lane: u64,
    pub(super) position: u64,
}

impl Place {
    fn next(self) -> Self {
        Self {
            position: self.position + 1,
            ..self
        }
    }
}

/// What a chunk says of a fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label {
    pub(super) stream: u16,
    pub(super) unordered: bool,
    /// Stream sequence number or message identifier.
    pub(super) number: u32,
    /// Payload protocol identifier; with I-DATA known of the first fragment only.
    pub(super) protocol: u32,
    pub(super) begin: bool,
    pub(super) end: bool,
}

/// A message that is whole.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) label: Label,
    pub(super) payload: Bytes,
}

#[derive(Debug)]
struct Partial {
    label: Label,
    buffer: BytesMut,
}

impl Partial {
    /// Gives back a buffer that was meant for more.
    fn shrink(&mut self) {
        if self.buffer.capacity() > 2 * self.buffer.len() + OVERHEAD {
            self.buffer = BytesMut::from(&self.buffer[..]);
        }
    }
}

/// A fragment that contradicts others, or a message that is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Violation {
    /// Fragments of one message tell different streams, or a message begins within another.
    Fragments,
    /// It is longer than we have said we take.
    TooLong,
    /// More is held than any window has permitted.
    Overrun,
}

#[derive(Debug)]
pub(super) struct Assembler {
    most: usize,
    /// The message that grows at present, by the place of its next fragment: without the map in the usual case.
    current: Option<(Place, Partial)>,
    /// Other messages that have begun.
    partials: BTreeMap<Place, Partial>,
    /// Fragments that wait for those before them.
    loose: BTreeMap<Place, (Label, Bytes)>,
    held: usize,
}

impl Assembler {
    /// For messages of at most `most` bytes.
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            current: None,
            partials: BTreeMap::new(),
            loose: BTreeMap::new(),
            held: 0,
        }
    }

    /// Bytes held.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Takes a fragment in; gives out the message that it completes.
    pub(super) fn accept(
        &mut self,
        place: Place,
        label: Label,
        data: &[u8],
    ) -> Result<Option<Whole>, Violation> {
        if label.begin && label.end {
            let payload = Bytes::copy_from_slice(data);
            return Ok(Some(Whole { label, payload }));
        }
        let mut partial = if label.begin {
            let buffer = BytesMut::with_capacity(FIRST_BUFFER.max(data.len()));
            Partial { label, buffer }
        } else if let Some(partial) = self.take(place) {
            partial
        } else {
            if data.len() > self.most {
                return Err(Violation::TooLong);
            }
            self.held += data.len() + OVERHEAD;
            self.loose
                .insert(place, (label, Bytes::copy_from_slice(data)));
            return Ok(None);
        };
        let mut next = place.next();
        let mut done = self.append(&mut partial, label, data)?;
        while !done && let Some((label, data)) = self.loose.remove(&next) {
            self.held -= data.len() + OVERHEAD;
            next = next.next();
            done = self.append(&mut partial, label, &data)?;
        }
        if done {
            self.held -= partial.buffer.len();
            partial.shrink();
            let payload = partial.buffer.freeze();
            let label = partial.label;
            return Ok(Some(Whole { label, payload }));
        }
        if let Some((place, mut other)) = self.current.replace((next, partial)) {
            self.held += OVERHEAD;
            other.shrink();
            self.partials.insert(place, other);
        }
        Ok(None)
    }

    fn take(&mut self, place: Place) -> Option<Partial> {
        if self
            .current
            .as_ref()
            .is_some_and(|(next, _)| *next == place)
        {
            return self.current.take().map(|(_, partial)| partial);
        }
        let partial = self.partials.remove(&place)?;
        self.held -= OVERHEAD;
        Some(partial)
    }

    fn append(
        &mut self,
        partial: &mut Partial,
        label: Label,
        data: &[u8],
    ) -> Result<bool, Violation> {
        let (first, empty) = (partial.label, partial.buffer.is_empty());
        let same = label.stream == first.stream
            && label.unordered == first.unordered
            && label.number == first.number
            && (empty || !label.begin);
        if !same {
            return Err(Violation::Fragments);
        }
        if partial.buffer.len() + data.len() > self.most {
            return Err(Violation::TooLong);
        }
        let (length, capacity) = (partial.buffer.len(), partial.buffer.capacity());
        if capacity - length < data.len() {
            partial.buffer.reserve(data.len().max(capacity));
        }
        partial.buffer.extend_from_slice(data);
        self.held += data.len();
        Ok(label.end)
    }

    /// Forgets what the peer has given up: with DATA all that would have to go on at or before `position`.
    pub(super) fn skip_to(&mut self, position: u64) {
        let until = |position| Place::default()..=Place { lane: 0, position };
        self.drop_partials(until(position));
        self.drop_loose(until(position + 1));
    }

    /// Forgets messages of an I-DATA stream.
    pub(super) fn skip_lanes(&mut self, lanes: RangeInclusive<u64>) {
        let [first, last] = [(*lanes.start(), 0), (*lanes.end(), u64::MAX)]
            .map(|(lane, position)| Place { lane, position });
        self.drop_partials(first..=last);
        self.drop_loose(first..=last);
    }

    /// Visits nothing but what goes.
    fn drop_partials(&mut self, gone: RangeInclusive<Place>) {
        if let Some((_, partial)) = self.current.take_if(|(place, _)| gone.contains(place)) {
            self.held -= partial.buffer.len();
        }
        for (_, partial) in self.partials.extract_if(gone, |_, _| true) {
            self.held -= partial.buffer.len() + OVERHEAD;
        }
    }

    fn drop_loose(&mut self, gone: RangeInclusive<Place>) {
        for (_, (_, data)) in self.loose.extract_if(gone, |_, _| true) {
            self.held -= data.len() + OVERHEAD;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fragment(begin: bool, end: bool) -> Label {
        Label {
            stream: 0,
            unordered: true,
            number: 0,
            protocol: 53,
            begin,
            end,
        }
    }

    fn place(lane: u64, position: u64) -> Place {
        Place { lane, position }
    }

    #[test]
    fn messages_that_have_begun_take_about_what_they_count() {
        let mut assembler = Assembler::new(1 << 20);
        let taken = allocation_counter::measure(|| {
            for lane in 0..1000 {
                let begun = assembler.accept(place(lane, 0), fragment(true, false), b"x");
                assert!(matches!(begun, Ok(None)));
            }
        });
        let (taken, held) = (taken.bytes_current, assembler.held() as i64);
        assert!(taken <= 2 * held, "{taken} for {held}");
        // They go on, in any order, with buffers that grow.
        for position in 1..20 {
            for lane in 0..1000 {
                let more = assembler.accept(place(lane, position), fragment(false, false), b"more");
                assert!(matches!(more, Ok(None)));
            }
        }
        for lane in (0..1000).rev() {
            let last = assembler.accept(place(lane, 20), fragment(false, true), b"y");
            let payload = last.ok().flatten().map(|whole| whole.payload);
            assert_eq!(payload, Some(format!("x{}y", "more".repeat(19)).into()));
        }
        assert_eq!(assembler.held(), 0);
    }

    #[test]
    fn small_messages_of_several_fragments_do_not_keep_a_large_buffer() {
        let mut assembler = Assembler::new(1 << 20);
        let mut messages = Vec::with_capacity(1000);
        let taken = allocation_counter::measure(|| {
            for lane in 0..1000 {
                let _ = assembler.accept(place(lane, 0), fragment(true, false), b"x");
                messages.push(assembler.accept(place(lane, 1), fragment(false, true), b"y"));
            }
        });
        assert!(
            messages
                .iter()
                .all(|m| matches!(m, Ok(Some(whole)) if whole.payload == "xy"))
        );
        let taken = taken.bytes_current;
        assert!(taken <= 1000 * 64, "{taken}");
    }
}
