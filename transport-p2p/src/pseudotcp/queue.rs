//! Bytes that were written and not yet acknowledged.

use bytes::{BufMut, Bytes, BytesMut};
use std::collections::VecDeque;

/// How large an own chunk grows before the next one is begun.
const CHUNK: usize = 64 * 1024;

/// Buffers shorter than this are copied instead of kept: a chunk costs more to keep than to copy.
const KEEP: usize = 4096;

/// The send queue: chunks in order of position, either buffers of the application or copies of what it wrote.
#[derive(Debug)]
pub(super) struct SendQueue {
    chunks: VecDeque<Chunk>,
    /// Position of the first byte that is still held.
    start: u64,
    /// Position after the last byte.
    end: u64,
    capacity: u64,
}

#[derive(Debug)]
struct Chunk {
    start: u64,
    data: Data,
}

#[derive(Debug)]
enum Data {
    Kept(Bytes),
    Copied(Vec<u8>),
}

impl Chunk {
    fn bytes(&self) -> &[u8] {
        match &self.data {
            Data::Kept(bytes) => bytes,
            Data::Copied(bytes) => bytes,
        }
    }

    fn end(&self) -> u64 {
        self.start + self.bytes().len() as u64
    }
}

impl SendQueue {
    /// An empty queue whose first byte will have position `start`; it holds at most `capacity` bytes.
    pub(super) fn new(start: u64, capacity: usize) -> Self {
        Self {
            chunks: VecDeque::new(),
            start,
            end: start,
            capacity: capacity as u64,
        }
    }

    /// Position after the last byte that was written.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Bytes held.
    pub(super) fn length(&self) -> u64 {
        self.end - self.start
    }

    /// Bytes that still fit.
    pub(super) fn space(&self) -> u64 {
        self.capacity.saturating_sub(self.length())
    }

    /// Moves an empty queue: the positions are only known once the length of the CONNECT message is.
    pub(super) fn rebase(&mut self, start: u64) {
        let shift = start.wrapping_sub(self.start);
        for chunk in &mut self.chunks {
            chunk.start = chunk.start.wrapping_add(shift);
        }
        self.start = start;
        self.end = self.end.wrapping_add(shift);
    }

    /// Copies as much of `data` as fits; returns how much that was.
    pub(super) fn write(&mut self, data: &[u8]) -> usize {
        let accepted = data.len().min(self.room());
        self.copy(&data[..accepted]);
        accepted
    }

    /// Takes as much from the front of `data` as fits, without a copy when it is long; returns how much that was.
    pub(super) fn push(&mut self, data: &mut Bytes) -> usize {
        let accepted = data.len().min(self.room());
        self.push_whole(data.split_to(accepted));
        accepted
    }

    /// Takes all of `data`, whatever the capacity, without a copy when it is long.
    pub(super) fn push_whole(&mut self, data: Bytes) {
        if data.len() < KEEP {
            self.copy(&data);
            return;
        }
        let length = data.len() as u64;
        self.chunks.push_back(Chunk {
            start: self.end,
            data: Data::Kept(data),
        });
        self.end += length;
    }

    /// Forgets everything below `position`.
    pub(super) fn release(&mut self, position: u64) {
        let position = position.min(self.end);
        while self
            .chunks
            .front()
            .is_some_and(|chunk| chunk.end() <= position)
        {
            self.chunks.pop_front();
        }
        self.start = self.start.max(position);
    }

    /// A reader that starts at `position`, which must be held.
    pub(super) fn reader(&self, position: u64) -> Reader<'_> {
        debug_assert!(position >= self.start && position <= self.end);
        let index = self.chunks.partition_point(|chunk| chunk.end() <= position);
        let offset = self
            .chunks
            .get(index)
            .map_or(0, |chunk| (position - chunk.start) as usize);
        Reader {
            queue: self,
            index,
            offset,
        }
    }

    fn copy(&mut self, mut rest: &[u8]) {
        while !rest.is_empty() {
            let room = match self.chunks.back_mut() {
                Some(Chunk {
                    data: Data::Copied(bytes),
                    ..
                }) if bytes.len() < CHUNK => {
                    let (now, later) = rest.split_at(rest.len().min(CHUNK - bytes.len()));
                    bytes.extend_from_slice(now);
                    self.end += now.len() as u64;
                    rest = later;
                    continue;
                }
                Some(_) | None => rest.len().min(CHUNK),
            };
            self.chunks.push_back(Chunk {
                start: self.end,
                data: Data::Copied(Vec::with_capacity(room)),
            });
        }
    }

    fn room(&self) -> usize {
        usize::try_from(self.space()).unwrap_or(usize::MAX)
    }
}

/// Copies consecutive bytes out of the queue.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    queue: &'a SendQueue,
    index: usize,
    offset: usize,
}

impl Reader<'_> {
    /// Appends the next `length` bytes to `out`.
    pub(super) fn copy(&mut self, mut length: usize, out: &mut BytesMut) {
        while length > 0 {
            let Some(chunk) = self.queue.chunks.get(self.index) else {
                debug_assert!(false, "read past the end of the queue");
                out.put_bytes(0, length);
                return;
            };
            let rest = &chunk.bytes()[self.offset..];
            let part = &rest[..rest.len().min(length)];
            out.extend_from_slice(part);
            length -= part.len();
            if part.len() == rest.len() {
                self.index += 1;
                self.offset = 0;
            } else {
                self.offset += part.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn queue_is_a_window_of_the_stream(
            ops in prop::collection::vec((0..4u8, 0..12_000usize), 1..60),
        ) {
            let mut queue = SendQueue::new(1000, 40_000);
            let mut model: Vec<u8> = Vec::new();
            let mut released = 0;
            for (step, (op, size)) in ops.into_iter().enumerate() {
                let data: Vec<u8> = (0..size).map(|at| (at * 7 + step) as u8).collect();
                match op {
                    0 => {
                        let accepted = queue.write(&data);
                        prop_assert_eq!(accepted, size.min(40_000 - (model.len() - released)));
                        model.extend(&data[..accepted]);
                    }
                    1 => {
                        let mut bytes = Bytes::from(data.clone());
                        let accepted = queue.push(&mut bytes);
                        prop_assert_eq!(&bytes[..], &data[accepted..]);
                        model.extend(&data[..accepted]);
                    }
                    2 => {
                        released = (released + size).min(model.len());
                        queue.release(1000 + released as u64);
                    }
                    _ => {
                        let from = (released + size).min(model.len());
                        let mut out = BytesMut::new();
                        let mut reader = queue.reader(1000 + from as u64);
                        let half = (model.len() - from) / 2;
                        reader.copy(half, &mut out);
                        reader.copy(model.len() - from - half, &mut out);
                        prop_assert_eq!(&out[..], &model[from..]);
                    }
                }
                prop_assert_eq!(queue.length() as usize, model.len() - released);
            }
        }
    }

    #[test]
    fn long_buffers_are_kept_and_short_ones_share_a_chunk() {
        let mut queue = SendQueue::new(0, 1 << 20);
        let long = Bytes::from(vec![1; 8192]);
        assert_eq!(queue.push(&mut long.clone()), 8192);
        assert!(
            matches!(&queue.chunks[0].data, Data::Kept(kept) if kept.as_ptr() == long.as_ptr())
        );
        for _ in 0..10_000 {
            queue.push(&mut Bytes::from_static(b"abc"));
        }
        assert_eq!(queue.chunks.len(), 2);
    }
}
