//! Memory that is used again: what datagrams are written into, cut out of, and joined in.

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;

/// Buffers that are away, and watched for their return.
const LENT_MAX: usize = 16;

/// How many of those are looked at before a new one is made.
const LENT_TRIES: usize = 2;

/// What was sent, until nobody holds it any more.
#[derive(Debug, Default)]
pub(super) struct Lent {
    away: VecDeque<Bytes>,
    spare: Option<Vec<u8>>,
}

impl Lent {
    /// An empty buffer, if possible one that has been away.
    pub(super) fn take(&mut self) -> Vec<u8> {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        for _ in 0..LENT_TRIES {
            match self.away.pop_front().map(Bytes::try_into_mut) {
                Some(Ok(mut buffer)) => {
                    buffer.clear();
                    return buffer.into();
                }
                Some(Err(kept)) => self.away.push_back(kept),
                None => break,
            }
        }
        Vec::new()
    }

    /// One that was not needed.
    pub(super) fn put_back(&mut self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.spare = Some(buffer);
    }

    /// The first `length` bytes of a buffer, to be sent.
    pub(super) fn lend(&mut self, buffer: Vec<u8>, length: usize) -> Bytes {
        let whole = Bytes::from(buffer);
        let part = whole.slice(..length.min(whole.len()));
        if self.away.len() == LENT_MAX {
            self.away.pop_front();
        }
        self.away.push_back(whole);
        part
    }
}

/// What arrives, and what is handed out of it.
#[derive(Debug, Default)]
pub(super) struct Received {
    copy: BytesMut,
    joined: Lent,
}

impl Received {
    /// The datagrams of a batch, each to be changed where it lies: it is decrypted there.
    pub(super) fn datagrams(
        &mut self,
        payload: Bytes,
        segment_size: usize,
    ) -> impl Iterator<Item = BytesMut> + use<> {
        // Whoever received it may be watching for its return, or have cut several from one piece.
        let mut rest = payload.try_into_mut().unwrap_or_else(|shared| {
            self.copy.reserve(shared.len());
            self.copy.extend_from_slice(&shared);
            self.copy.split()
        });
        std::iter::from_fn(move || {
            let size = match segment_size {
                0 => rest.len(),
                size => size.min(rest.len()),
            };
            (size > 0).then(|| rest.split_to(size))
        })
    }

    /// Where up to `max` bytes are put together, to be handed out by [`hand_out`](Self::hand_out).
    pub(super) fn joined(&mut self, max: usize) -> Vec<u8> {
        let mut joined = self.joined.take();
        joined.reserve_exact(max);
        joined
    }

    /// What was put together. Its memory is used again.
    pub(super) fn hand_out(&mut self, joined: Vec<u8>) -> Option<Bytes> {
        if joined.is_empty() {
            self.joined.put_back(joined);
            return None;
        }
        let length = joined.len();
        Some(self.joined.lend(joined, length))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_once_nobody_holds_it() {
        let mut lent = Lent::default();
        let mut buffer = Vec::with_capacity(10_000);
        buffer.extend_from_slice(b"abcdef");
        let address = buffer.as_ptr();
        let part = lent.lend(buffer, 4);
        assert_eq!((&part[..], part.as_ptr()), (&b"abcd"[..], address));
        let other = lent.take();
        assert_ne!(other.as_ptr(), address, "somebody holds it");
        lent.put_back(other);
        drop(part);
        assert_eq!(lent.take().capacity(), 0, "the one that was put back");
        let again = lent.take();
        assert_eq!(
            (again.as_ptr(), again.len(), again.capacity()),
            (address, 0, 10_000)
        );
    }

    #[test]
    fn a_full_buffer_comes_back_whole() {
        let mut lent = Lent::default();
        let address = {
            let buffer = vec![7; 100];
            let address = buffer.as_ptr();
            drop(lent.lend(buffer, 100));
            address
        };
        let again = lent.take();
        assert_eq!((again.as_ptr(), again.capacity()), (address, 100));
    }

    #[test]
    fn what_is_watched_is_bounded() {
        let mut lent = Lent::default();
        let held: Vec<_> = (0..100).map(|_| lent.lend(vec![1], 1)).collect();
        assert_eq!((held.len(), lent.away.len()), (100, LENT_MAX));
    }

    #[test]
    fn a_batch_is_cut_into_its_datagrams_shared_or_not() {
        let mut received = Received::default();
        for shared in [false, true] {
            let payload = Bytes::from(b"abcdefgh".to_vec());
            let held = shared.then(|| payload.clone());
            let cut: Vec<_> = received.datagrams(payload, 3).collect();
            assert_eq!(cut, [&b"abc"[..], b"def", b"gh"]);
            drop(held);
        }
        let whole: Vec<_> = received.datagrams(Bytes::from_static(b"ab"), 0).collect();
        assert_eq!(whole, [&b"ab"[..]]);
        assert_eq!(received.datagrams(Bytes::new(), 3).count(), 0);
        for _ in 0..100 {
            let batch = Bytes::from_static(&[0; 600]);
            assert_eq!(received.datagrams(batch, 100).count(), 6);
        }
    }
}
