//! Data of a known pattern, counted and summed on both sides.

use std::time::{Duration, Instant};

use bytes::Bytes;
use session_core::{Batch, TransportChannel};

/// Bytes of a datagram.
const DATAGRAM: u64 = 1_000;
/// Bytes of a piece of a stream: more than a packet carries.
const PIECE: u64 = 20_000;
/// Between two datagrams: slow enough that none is lost in a socket's buffer.
const PACE: Duration = Duration::from_micros(500);

/// What is sent and what has arrived.
pub(super) struct Flow {
    to_send: u64,
    expected: u64,
    /// Bytes that are sent at once.
    piece: u64,
    sent: Sum,
    received: Sum,
    next: Option<Instant>,
    told: bool,
}

/// How many bytes, and their checksum.
struct Sum {
    bytes: u64,
    adler: u32,
}

impl Flow {
    pub(super) fn new(to_send: u64, expected: u64, stream: bool) -> Self {
        let empty = || Sum { bytes: 0, adler: 1 };
        Self {
            to_send,
            expected,
            piece: if stream { PIECE } else { DATAGRAM },
            sent: empty(),
            received: empty(),
            next: None,
            told: false,
        }
    }

    /// There is a path on both sides.
    pub(super) fn start(&mut self, now: Instant) {
        self.next = Some(now);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }

    pub(super) fn handle_timeout(&mut self, channel: &mut dyn TransportChannel, now: Instant) {
        if self.next.is_none_or(|at| at > now) {
            return;
        }
        let left = self.to_send - self.sent.bytes;
        if left == 0 {
            self.next = None;
            return;
        }
        let range = self.sent.bytes..self.sent.bytes + left.min(self.piece);
        let datagram: Vec<u8> = range.map(pattern).collect();
        // What is refused is sent later.
        if channel.send(Bytes::from(datagram.clone()), now).is_ok() {
            self.sent.add(&datagram);
        }
        self.next = Some(now + PACE);
    }

    pub(super) fn receive(&mut self, batch: Batch) {
        for datagram in batch {
            self.received.add(&datagram);
        }
    }

    /// The last line, once.
    pub(super) fn finished(&mut self) -> Option<String> {
        let all = self.sent.bytes >= self.to_send && self.received.bytes >= self.expected;
        if !all || self.told || self.to_send + self.expected == 0 {
            return None;
        }
        self.told = true;
        let (sent, received) = (&self.sent, &self.received);
        Some(format!(
            "done sent {} {:08x} recv {} {:08x}",
            sent.bytes, sent.adler, received.bytes, received.adler
        ))
    }
}

impl Sum {
    /// Adler-32 (RFC 1950 §9): what zlib has in every language of the peers.
    fn add(&mut self, bytes: &[u8]) {
        const BASE: u32 = 65_521;
        let (mut low, mut high) = (self.adler & 0xffff, self.adler >> 16);
        for byte in bytes {
            low = (low + u32::from(*byte)) % BASE;
            high = (high + low) % BASE;
        }
        self.adler = high << 16 | low;
        self.bytes += bytes.len() as u64;
    }
}

/// The byte at this place of what is sent.
fn pattern(at: u64) -> u8 {
    ((at as u32).wrapping_mul(2_654_435_761) >> 13) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_is_adler_32() {
        let mut sum = Sum { bytes: 0, adler: 1 };
        sum.add(b"Wiki");
        sum.add(b"pedia");
        assert_eq!((sum.bytes, sum.adler), (9, 0x11e6_0398));
    }
}
