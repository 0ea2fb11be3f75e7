//! Memory that datagrams are received into, shared by all sockets of an endpoint.

use super::lock;
use bytes::{Bytes, BytesMut};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};
use std::{
    array,
    collections::VecDeque,
    fmt,
    io::{self, IoSliceMut},
    sync::Mutex,
};

/// Buffers that one system call fills. Each may hold many datagrams (generic receive offload).
const SLOTS: usize = 16;

/// The most that the system puts into one buffer.
const SLOT_BYTES: usize = 64 * 1024;

/// A fuller buffer is handed out as it is and replaced; what is in an emptier one is copied out, so that a small packet
/// that somebody keeps does not keep a large buffer.
const COPY_MAX: usize = 8 * 1024;

/// Buffers handed out that are watched for their return.
const LENT_MAX: usize = 16;

/// How many of those are looked at before a new one is made.
const LENT_TRIES: usize = 4;

/// One datagram, or several of equal size from one source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) source: std::net::SocketAddr,
    pub(super) payload: Bytes,
    /// 0 when there is one.
    pub(super) segment_size: usize,
}

/// Idle sockets hold no buffers: a reader takes a set while it receives. There are as many sets as readers ever received
/// at the same instant.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Buffers>>);

impl Pool {
    /// Receives what is there, up to one batch, and appends it to `received`.
    ///
    /// # Errors
    /// What the system says, [`io::ErrorKind::WouldBlock`] included.
    pub(super) fn receive(
        &self,
        socket: UdpSockRef<'_>,
        state: &UdpSocketState,
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        let spare = lock(&self.0).pop();
        let mut buffers = spare.unwrap_or_default();
        let result = buffers.receive(socket, state, received);
        lock(&self.0).push(buffers);
        result
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&lock(&self.0).len()).finish()
    }
}

struct Buffers {
    /// Each is full length: what the system is given must be initialised memory.
    slots: Box<[BytesMut; SLOTS]>,
    metas: Box<[RecvMeta; SLOTS]>,
    /// Small datagrams are copied to its end.
    block: BytesMut,
    lent: VecDeque<Bytes>,
}

impl Default for Buffers {
    fn default() -> Self {
        Self {
            slots: Box::new(array::from_fn(|_| BytesMut::zeroed(SLOT_BYTES))),
            metas: Box::new([RecvMeta::default(); SLOTS]),
            block: BytesMut::new(),
            lent: VecDeque::new(),
        }
    }
}

impl Buffers {
    fn receive(
        &mut self,
        socket: UdpSockRef<'_>,
        state: &UdpSocketState,
        received: &mut Vec<Received>,
    ) -> io::Result<()> {
        let mut slices = self.slots.each_mut().map(|slot| IoSliceMut::new(slot));
        let count = state.recv(socket, &mut slices, &mut *self.metas)?;
        for index in 0..count {
            let RecvMeta {
                addr, len, stride, ..
            } = self.metas[index];
            let payload = self.take(index, len);
            received.push(Received {
                source: addr,
                payload,
                segment_size: if stride < len { stride } else { 0 },
            });
        }
        Ok(())
    }

    fn take(&mut self, index: usize, len: usize) -> Bytes {
        if len <= COPY_MAX {
            if self.block.capacity() < len {
                self.block.reserve(SLOT_BYTES);
            }
            self.block.extend_from_slice(&self.slots[index][..len]);
            return self.block.split().freeze();
        }
        let spare = self.spare();
        let whole = std::mem::replace(&mut self.slots[index], spare).freeze();
        let payload = whole.slice(..len);
        if self.lent.len() == LENT_MAX {
            self.lent.pop_front();
        }
        self.lent.push_back(whole);
        payload
    }

    /// A buffer that has come back, else a new one. One that has come back is initialised already.
    fn spare(&mut self) -> BytesMut {
        for _ in 0..LENT_TRIES {
            match self.lent.pop_front().map(Bytes::try_into_mut) {
                Some(Ok(buffer)) => return buffer,
                Some(Err(kept)) => self.lent.push_back(kept),
                None => break,
            }
        }
        BytesMut::zeroed(SLOT_BYTES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_once_nobody_holds_it() {
        let mut buffers = Buffers::default();
        buffers.slots[3][..2].copy_from_slice(b"ab");
        let address = buffers.slots[3].as_ptr();
        let payload = buffers.take(3, SLOT_BYTES - 1);
        assert_eq!(payload.as_ptr(), address, "handed out without copying");
        assert_eq!(payload.len(), SLOT_BYTES - 1);
        let other = buffers.spare();
        assert_ne!(other.as_ptr(), address, "somebody holds it");
        drop(payload);
        let back = buffers.spare();
        assert_eq!((back.as_ptr(), back.len()), (address, SLOT_BYTES));
    }

    #[test]
    fn small_datagrams_share_a_block_and_let_it_go() {
        let mut buffers = Buffers::default();
        let first = buffers.take(0, 1_000);
        let second = buffers.take(0, 1_000);
        assert_eq!(second.as_ptr() as usize - first.as_ptr() as usize, 1_000);
        let start = first.as_ptr();
        drop((first, second));
        for _ in 0..1_000 {
            buffers.take(0, 1_000);
        }
        assert_eq!(
            buffers.block.as_ptr() as usize - start as usize,
            (1_002 % 65) * 1_000,
            "the same block, over and over"
        );
        assert_eq!(buffers.take(0, 0).len(), 0);
    }

    #[test]
    fn what_is_watched_is_bounded() {
        let mut buffers = Buffers::default();
        let kept: Vec<_> = (0..LENT_MAX + 10)
            .map(|_| buffers.take(0, SLOT_BYTES))
            .collect();
        assert_eq!((kept.len(), buffers.lent.len()), (LENT_MAX + 10, LENT_MAX));
    }
}
