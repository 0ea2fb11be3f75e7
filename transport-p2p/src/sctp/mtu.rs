//! How large a packet the path carries (RFC 8899, as its §6.1 has it for SCTP): a larger one is tried by a HEARTBEAT that
//! is padded (RFC 4820), beside the data, so that nothing is lost with one that does not arrive.
//!
//! Chunks stay so small that any path carries each: only more of them go into a packet. So when the path is another all
//! of a sudden, everything that was sent can be sent again in smaller packets. It follows that packets which are only
//! somewhat larger would be worth nothing; what is tried is what several times as much data fits into.

use super::{Association, State, wire};
use bytes::BufMut;
use session_core::Batch;
use std::time::{Duration, Instant};

/// How often a size is tried (RFC 8899 §5.1.2).
const TRIES: u32 = 3;
/// How long an answer may take beside two round trips.
const PATIENCE: Duration = Duration::from_millis(50);
/// For so long a path that seems to carry large packets no more is not asked again: the first time, and at most. It may
/// have lost everything for a moment.
const PAUSES: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// Bytes that have to wait before larger packets are worth asking for.
const WORTH: u64 = 32 * 1024;
/// The parameter of a HEARTBEAT (RFC 9260 §3.3.5), and its length with what we write into it.
const INFO: u16 = 1;
const INFO_LENGTH: usize = 4 + 8;

#[derive(Debug)]
pub(super) struct Mtu {
    /// What every path carries, what is wanted, and what of that is tried: as much as the channel below takes.
    base: usize,
    wanted: usize,
    large: usize,
    is_large: bool,
    tries: u32,
    /// A number of the last probe's own, while its answer is awaited.
    awaited: Option<u32>,
    serial: u32,
    /// Nothing is tried before.
    not_before: Option<Instant>,
    pause: Duration,
}

impl Mtu {
    pub(super) fn new(base: usize, large: usize) -> Self {
        Self {
            base,
            wanted: large,
            large,
            is_large: false,
            tries: 0,
            awaited: None,
            serial: 0,
            not_before: None,
            pause: PAUSES[0],
        }
    }

    /// The largest packet that the path is known to carry.
    pub(super) fn packet(&self) -> usize {
        if self.is_large { self.large } else { self.base }
    }

    /// The most data of one chunk, so that chunks of equal size fill a packet, and each fits into one of any path's.
    pub(super) fn piece(&self, header: usize) -> usize {
        let room = self.packet() - wire::HEADER;
        let chunks = room.div_ceil(self.base - wire::HEADER);
        (room / chunks / 4 * 4).saturating_sub(header)
    }

    /// No larger packets than this are tried. Returns whether packets were larger than they are now.
    fn limit(&mut self, most: usize) -> bool {
        let large = self.wanted.min(most) / 4 * 4;
        let fell = large < self.packet() && self.forget();
        self.large = large;
        fell
    }

    /// Begins anew. Returns whether packets were larger than they are now.
    fn forget(&mut self) -> bool {
        self.tries = 0;
        self.awaited = None;
        self.not_before = None;
        std::mem::take(&mut self.is_large)
    }

    /// The path does not carry such packets any more, as it seems. Returns whether packets were larger than they are now.
    fn fall_back(&mut self, now: Instant) -> bool {
        let fell = self.is_large && self.forget();
        if fell {
            self.not_before = Some(now + self.pause);
            self.pause = (self.pause * 2).min(PAUSES[1]);
        }
        fell
    }

    /// A number and a size to try now, if any. `wait` is how long the answer may take.
    fn probe(&mut self, wait: Duration, now: Instant) -> Option<(u32, usize)> {
        let early = self.not_before.is_some_and(|at| now < at);
        // Of less there is nothing to gain: the chunks stay.
        let known = self.is_large || self.large < 2 * self.base;
        if early || known || self.tries >= TRIES {
            return None;
        }
        self.tries += 1;
        self.serial = self.serial.wrapping_add(1);
        self.awaited = Some(self.serial);
        self.not_before = Some(now + wait);
        Some((self.serial, self.large))
    }

    /// An answer to a HEARTBEAT. Returns whether packets are larger now.
    fn on_answer(&mut self, serial: u32) -> bool {
        let grows = self.awaited == Some(serial);
        if grows {
            self.awaited = None;
            self.is_large = true;
        }
        grows
    }
}

impl Association {
    /// A packet that asks whether the path carries more, if that is worth it.
    pub(super) fn poll_mtu(&mut self, now: Instant) -> Option<Batch> {
        let busy = self.state == State::Established && self.outbound.queued() >= WORTH;
        if !busy {
            return None;
        }
        let wait = self.rtt.smoothed()? * 2 + PATIENCE;
        let (serial, size) = self.mtu.probe(wait, now)?;
        Some(self.sized_packet(size, false, |_, buffer| {
            wire::put_chunk(buffer, wire::kind::HEARTBEAT, 0, |buffer| {
                buffer.put_u16(INFO);
                buffer.put_u16(INFO_LENGTH as u16);
                buffer.put_u32(serial);
                buffer.put_u32(size as u32);
            });
            let rest = size.saturating_sub(buffer.len() + wire::CHUNK_HEADER);
            wire::put_chunk(buffer, wire::kind::PAD, 0, |buffer| {
                buffer.put_bytes(0, rest);
            });
        }))
    }

    pub(super) fn on_heartbeat_ack(&mut self, value: &[u8]) {
        if let (Some(INFO), Some(serial)) = (wire::u16_at(value, 0), wire::u32_at(value, 4))
            && self.mtu.on_answer(serial)
        {
            self.set_packet_size();
        }
    }

    /// The largest packet that the channel below takes on the path in use, in bytes; `None` when that is not known. Larger
    /// ones are not tried.
    pub fn limit_packets(&mut self, most: Option<usize>) {
        if self.mtu.limit(most.unwrap_or(usize::MAX)) {
            self.set_packet_size();
        }
    }

    /// The path may be another.
    pub(super) fn forget_mtu(&mut self) {
        if self.mtu.forget() {
            self.set_packet_size();
        }
    }

    /// Nothing was heard of large packets.
    pub(super) fn on_black_hole(&mut self, now: Instant) {
        if self.mtu.fall_back(now) {
            self.set_packet_size();
        }
    }

    /// The channel below refused packets of this size. Returns whether smaller ones are left to try.
    pub(super) fn handle_too_large(&mut self, size: usize, now: Instant) -> bool {
        if size <= self.mtu.packet() {
            self.on_black_hole(now);
        }
        size > self.config.max_packet
    }

    fn set_packet_size(&mut self) {
        let size = self.mtu.packet() as u64;
        self.controller.set_packet_size(size);
        self.pacer.set_packet_size(size);
    }
}
