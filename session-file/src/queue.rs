//! Bytes that wait, in order.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Pieces below this are copied together.
const COPY_BELOW: usize = 16 * 1024;

/// What copied pieces are collected in.
const BLOCK: usize = 64 * 1024;

/// Bytes in the order in which they came.
///
/// Small pieces are copied together: a piece of one byte can keep the whole buffer that it was received in from being
/// freed, so that memory would not be bounded by the number of bytes; and whoever takes them out gets fewer, larger
/// pieces.
#[derive(Debug, Default)]
pub(crate) struct ByteQueue {
    pieces: VecDeque<Bytes>,
    /// Behind all pieces.
    tail: BytesMut,
    length: usize,
}

impl ByteQueue {
    /// How many bytes wait.
    pub(crate) fn length(&self) -> usize {
        self.length
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(crate) fn push(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        if bytes.len() >= COPY_BELOW {
            self.close_tail();
            self.pieces.push_back(bytes);
            return;
        }
        if self.tail.capacity() - self.tail.len() < bytes.len() {
            self.close_tail();
            self.tail.reserve(BLOCK);
        }
        self.tail.extend_from_slice(&bytes);
    }

    /// The next bytes, at most `max` of them; `None` when none wait.
    pub(crate) fn pop(&mut self, max: usize) -> Option<Bytes> {
        if self.pieces.is_empty() {
            self.close_tail();
        }
        let first = self.pieces.front_mut()?;
        let piece = if first.len() > max {
            first.split_to(max)
        } else {
            self.pieces.pop_front()?
        };
        self.length -= piece.len();
        Some(piece)
    }

    /// Puts back what [`pop`](Self::pop) gave last.
    pub(crate) fn unpop(&mut self, bytes: Bytes) {
        self.length += bytes.len();
        self.pieces.push_front(bytes);
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            self.pieces.push_back(self.tail.split().freeze());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_goes_in_comes_out_in_order(steps in prop::collection::vec((0..40_000usize, 1..50_000usize, any::<bool>()), 0..60)) {
            let mut queue = ByteQueue::default();
            let (mut into, mut out) = (0u64, 0u64);
            let next = |counter: &mut u64| { *counter += 1; (*counter % 251) as u8 };
            for (size, max, back) in steps {
                let piece: Vec<u8> = (0..size).map(|_| next(&mut into)).collect();
                queue.push(piece.into());
                prop_assert_eq!(queue.length() as u64, into - out);
                if back && let Some(piece) = queue.pop(max) {
                    queue.unpop(piece);
                }
                if let Some(piece) = queue.pop(max) {
                    prop_assert!(!piece.is_empty() && piece.len() <= max);
                    for byte in piece {
                        prop_assert_eq!(byte, next(&mut out));
                    }
                }
                prop_assert_eq!(queue.is_empty(), into == out);
            }
            while let Some(piece) = queue.pop(usize::MAX) {
                for byte in piece {
                    prop_assert_eq!(byte, next(&mut out));
                }
            }
            prop_assert_eq!(into, out);
        }
    }

    #[test]
    fn small_pieces_do_not_keep_the_buffers_they_came_in() {
        let mut queue = ByteQueue::default();
        let received = Bytes::from(vec![7; 2_000]);
        queue.push(received.slice(5..6));
        assert!(received.is_unique());
        let large = Bytes::from(vec![7; 64_000]);
        queue.push(large.clone());
        assert_eq!(queue.pop(9).unwrap().len(), 1);
        assert_eq!(
            queue.pop(1 << 20).unwrap().as_ptr(),
            large.as_ptr(),
            "large ones are not copied"
        );
    }
}
