//! What is sent, and in which order.

use super::{
    Association, MAX_BATCH_BYTES, MAX_BATCH_PACKETS, State,
    wire::{self, Header, cause, kind},
};
use bytes::{BufMut, Bytes, BytesMut};
use session_core::Batch;
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// How much is allocated at once for packets: small answers and large batches share blocks.
const SMALL_BLOCK: usize = 4 * 1024;
const LARGE_BLOCK: usize = 256 * 1024;
/// A smaller window is not worth a packet.
const LEAST_WINDOW: u64 = 1024;
/// Most entries of a FORWARD TSN.
const MAX_SKIPPED: usize = 64;

/// What we owe the peer.
#[derive(Debug, Default)]
pub(super) struct Acknowledgement {
    pub(super) due: bool,
    /// Deadline of a delayed one.
    pub(super) at: Option<Instant>,
    packets: u32,
}

impl Acknowledgement {
    /// A packet with data came: every second is acknowledged at once (RFC 9260 §6.2).
    pub(super) fn on_packet(&mut self, delay: Duration, now: Instant) {
        self.packets += 1;
        if self.packets >= 2 || delay.is_zero() {
            self.due = true;
        } else if self.at.is_none() {
            self.at = Some(now + delay);
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// Messages of the end that are due, and a whole packet of the beginning.
#[derive(Debug, Default)]
pub(super) struct Ending {
    pub(super) shutdown: bool,
    pub(super) acknowledge: bool,
    pub(super) complete: bool,
    pub(super) abort: bool,
    /// An INIT ACK, whose tag is the peer's of the INIT.
    pub(super) packet: Option<Bytes>,
}

impl Association {
    /// The next packets to send, one for each datagram: at most `max_packets` (1 when 0) and [`MAX_BATCH_PACKETS`] of
    /// them, all of one size but the last, which may be shorter. `None` when nothing is to be sent at present.
    pub fn poll_transmit(&mut self, now: Instant, max_packets: usize) -> Option<Batch> {
        let most = max_packets.clamp(1, MAX_BATCH_PACKETS);
        if let Some(packet) = self.ending.packet.take() {
            self.stats.packets_sent += 1;
            return Some(packet.into());
        }
        self.poll_ending()
            .or_else(|| self.poll_setup(now))
            .or_else(|| self.poll_open(most, now))
    }

    fn poll_ending(&mut self) -> Option<Batch> {
        let ending = &mut self.ending;
        if std::mem::take(&mut ending.abort) {
            let cause = match self.error {
                Some(super::Error::Violation(_)) => cause::PROTOCOL_VIOLATION,
                _ => cause::USER_ABORT,
            };
            return Some(self.packet(false, |_, buffer| {
                wire::put_chunk(buffer, kind::ABORT, 0, |buffer| {
                    wire::put_parameter(buffer, cause, &[]);
                });
            }));
        }
        if std::mem::take(&mut ending.complete) {
            return Some(self.packet(false, |_, buffer| {
                wire::put_chunk(buffer, kind::SHUTDOWN_COMPLETE, 0, |_| {});
            }));
        }
        if std::mem::take(&mut ending.acknowledge) {
            return Some(self.packet(false, |_, buffer| {
                wire::put_chunk(buffer, kind::SHUTDOWN_ACK, 0, |_| {});
            }));
        }
        if std::mem::take(&mut ending.shutdown) {
            return Some(self.packet(true, |association, buffer| {
                let last = (association.inbound.next() - 1) as u32;
                wire::put_chunk(buffer, kind::SHUTDOWN, 0, |buffer| buffer.put_u32(last));
            }));
        }
        None
    }

    fn poll_setup(&mut self, now: Instant) -> Option<Batch> {
        if std::mem::take(&mut self.setup.init_due) {
            self.timers.retransmit = Some(now + self.rto());
            // The tag is not known yet.
            let tag = std::mem::take(&mut self.remote_tag);
            let packet = self.packet(false, |association, buffer| association.write_init(buffer));
            self.remote_tag = tag;
            return Some(packet);
        }
        if std::mem::take(&mut self.setup.cookie_due) {
            self.timers.retransmit = Some(now + self.rto());
            // What went with it before is lost with it.
            self.flight.on_timeout(false);
            let plain = std::mem::take(&mut self.features.no_checksums);
            // RFC 9653 §5.2: this packet has its checksum.
            let packet = self.packet(false, |association, buffer| {
                association.write_cookie(buffer);
                association.accompany_cookie(buffer, now);
            });
            self.features.no_checksums = plain;
            return Some(packet);
        }
        None
    }

    /// Data that has room in the packet of our cookie (RFC 9260 §5.1): it arrives a round trip earlier than what waits for
    /// the answer. More must not leave before that.
    fn accompany_cookie(&mut self, buffer: &mut BytesMut, now: Instant) {
        let limit = self.config.max_packet;
        let mut budget = limit as u64;
        if buffer.len() < limit {
            self.flight.begin_packet();
            self.fill(buffer, limit, false, &mut budget, now);
        }
    }

    fn poll_open(&mut self, most: usize, now: Instant) -> Option<Batch> {
        if !self.replies.is_empty() {
            return Some(self.packet(false, |association, buffer| {
                let room = association.config.max_packet;
                while let Some(reply) = association.replies.front()
                    && (buffer.len() <= wire::HEADER || buffer.len() + reply.len() <= room)
                    && let Some(reply) = association.replies.pop_front()
                {
                    buffer.put_slice(&reply);
                }
            }));
        }
        if !self.is_open() {
            return None;
        }
        if let Some(batch) = self.poll_reset(now) {
            return Some(batch);
        }
        if std::mem::take(&mut self.forward_due)
            && let Some(batch) = self.poll_forward(now)
        {
            return Some(batch);
        }
        if let Some(batch) = self.poll_mtu(now) {
            return Some(batch);
        }
        if let Some(batch) = self.poll_data(most, now) {
            return Some(batch);
        }
        // What was lost may have been given up just now.
        if std::mem::take(&mut self.forward_due)
            && let Some(batch) = self.poll_forward(now)
        {
            return Some(batch);
        }
        let due = self.acknowledgement.due;
        due.then(|| self.packet(true, |_, _| {}))
    }

    /// A packet of its own: an acknowledgement if wanted, and what `write` appends.
    pub(super) fn packet(
        &mut self,
        acknowledge: bool,
        write: impl FnOnce(&mut Self, &mut BytesMut),
    ) -> Batch {
        self.sized_packet(self.config.max_packet, acknowledge, write)
    }

    /// The same, of about this size.
    pub(super) fn sized_packet(
        &mut self,
        size: usize,
        acknowledge: bool,
        write: impl FnOnce(&mut Self, &mut BytesMut),
    ) -> Batch {
        let mut buffer = std::mem::take(&mut self.buffer);
        reserve(&mut buffer, size);
        wire::begin_packet(&mut buffer, self.header());
        if acknowledge {
            self.put_sack(&mut buffer);
        }
        write(self, &mut buffer);
        let plain = self.features.no_checksums && self.is_open();
        wire::end_packet(&mut buffer, 0, plain);
        let payload = buffer.split().freeze();
        self.buffer = buffer;
        self.stats.packets_sent += 1;
        payload.into()
    }

    fn put_sack(&mut self, buffer: &mut BytesMut) {
        let room = self.config.max_packet - wire::HEADER - wire::CHUNK_HEADER;
        let inbound = &mut self.inbound;
        wire::put_chunk(buffer, kind::SACK, 0, |buffer| {
            inbound.write_sack(buffer, room.min(1024))
        });
        self.acknowledgement.clear();
    }

    pub(super) fn header(&self) -> Header {
        Header {
            source: self.config.local_port,
            destination: self.config.remote_port,
            tag: self.remote_tag,
        }
    }

    /// Packets with data: what is lost first, then what is new.
    fn poll_data(&mut self, most: usize, now: Instant) -> Option<Batch> {
        let probe = std::mem::take(&mut self.probe_due);
        let mut budget = self.budget(probe, now)?;
        let largest = self.mtu.packet();
        let most = most.min((MAX_BATCH_BYTES / largest).max(1));
        let mut buffer = std::mem::take(&mut self.buffer);
        let expected = (budget as usize / largest + 1).min(most) * largest;
        reserve(&mut buffer, expected);
        let (mut size, mut count) = (0, 0);
        while count < most {
            let start = buffer.len();
            wire::begin_packet(&mut buffer, self.header());
            if self.acknowledgement.due && count == 0 {
                self.put_sack(&mut buffer);
            }
            let control = buffer.len();
            self.flight.begin_packet();
            let limit = start + if count == 0 { largest } else { size };
            self.fill(&mut buffer, limit, probe && count == 0, &mut budget, now);
            if buffer.len() == control {
                // An acknowledgement without data leaves by itself.
                buffer.truncate(if control > start + wire::HEADER {
                    control
                } else {
                    start
                });
                if buffer.len() == start {
                    break;
                }
            }
            wire::end_packet(&mut buffer, start, self.features.no_checksums);
            count += 1;
            let length = buffer.len() - start;
            size = if count == 1 { length } else { size };
            if length < size || budget == 0 || probe || length == control - start {
                break;
            }
        }
        let payload = buffer.split().freeze();
        self.buffer = buffer;
        self.stats.packets_sent += count as u64;
        (count > 0).then(|| Batch {
            segment_size: if count > 1 { size } else { 0 },
            payload,
        })
    }

    /// Bytes that may leave now; `None` if there is nothing to send or nothing may leave.
    fn budget(&mut self, probe: bool, now: Instant) -> Option<u64> {
        self.expire_lost(now);
        let lost = self.flight.has_lost() && self.flight.next_lost().is_some();
        let new = !self.outbound.is_empty() && self.peer_room() > 0;
        if probe && !self.flight.is_empty() {
            return Some(self.mtu.packet() as u64);
        }
        if !lost && !new {
            self.controller.on_limited(self.flight.on_way());
            return None;
        }
        let on_way = self.flight.on_way();
        let window = self.controller.window().saturating_sub(on_way);
        // Less than a packet's worth waits for more, or many small ones would leave.
        let least = (self.mtu.packet() as u64).min(self.controller.window() / 2);
        if on_way > 0 && window < least {
            return None;
        }
        let window = window.max(self.mtu.packet() as u64);
        let rate = self.controller.pacing_rate();
        let paced = self.pacer.budget(rate, now);
        self.timers.pace = if paced == 0 {
            self.pacer.next(rate)
        } else {
            None
        };
        (paced > 0).then(|| window.min(paced))
    }

    /// Whether the peer has no room for a packet.
    pub(super) fn is_window_closed(&self) -> bool {
        self.window < self.config.max_packet as u64
    }

    /// Bytes that the peer has room for; a chunk when nothing is on its way, to ask a closed window (RFC 9260 §6.1).
    fn peer_room(&self) -> u64 {
        let room = self.window.saturating_sub(self.flight.outstanding());
        if self.flight.is_empty() {
            room.max(1)
        } else {
            room
        }
    }

    /// Fills a packet with chunks up to `limit`.
    fn fill(
        &mut self,
        buffer: &mut BytesMut,
        limit: usize,
        probe: bool,
        budget: &mut u64,
        now: Instant,
    ) {
        let header = self.chunk_header();
        let piece = self.mtu.piece(header);
        let before = buffer.len();
        if probe {
            for number in self.flight.tail(limit - buffer.len(), header) {
                self.resend(number, true, buffer, now);
            }
            if buffer.len() > before {
                self.on_departure(before, buffer.len(), budget, now);
                return;
            }
        }
        while let Some(number) = self.flight.next_lost() {
            if self.asking && self.flight.on_way() > 0 {
                break;
            }
            let length = self
                .flight
                .get(number)
                .map_or(0, |sent| sent.fragment.payload.len());
            if buffer.len() + wire::padded(header + length) > limit {
                break;
            }
            self.resend(number, false, buffer, now);
        }
        while !self.flight.has_lost() {
            let room = limit.saturating_sub(buffer.len() + header) / 4 * 4;
            let room = room.min(piece);
            let granted = self.peer_room();
            // A small window is filled by what is on its way (RFC 9260 §6.1 A), or asked with a whole packet.
            let small = granted < LEAST_WINDOW;
            if room == 0 || small && !self.flight.is_empty() {
                break;
            }
            let room = if small {
                room
            } else {
                room.min(granted as usize)
            };
            let Some(fragment) = self.outbound.next(room, self.features.interleave, now) else {
                break;
            };
            self.stats.bytes_sent += fragment.payload.len() as u64;
            // Its acknowledgement is the first that tells of the path, or nothing comes behind it for now.
            let last = self.outbound.is_empty() || self.state == State::CookieEchoed;
            let number = self.flight.push(fragment, now);
            self.put_data(number, last, buffer);
        }
        self.on_departure(before, buffer.len(), budget, now);
    }

    fn on_departure(&mut self, before: usize, after: usize, budget: &mut u64, now: Instant) {
        let bytes = (after - before) as u64;
        if bytes == 0 {
            return;
        }
        *budget = budget.saturating_sub(bytes);
        if *budget < self.mtu.packet() as u64 {
            *budget = 0;
        }
        self.pacer.on_sent(bytes);
        self.controller.on_sent(now, bytes, self.flight.on_way());
        if self.timers.retransmit.is_none() {
            self.timers.retransmit = Some(now + self.rto());
        }
        self.arm_probe(now);
    }

    fn resend(&mut self, number: u64, probe: bool, buffer: &mut BytesMut, now: Instant) {
        self.flight.resend(number, now);
        let length = self
            .flight
            .get(number)
            .map_or(0, |sent| sent.fragment.payload.len());
        self.stats.bytes_sent += length as u64;
        self.stats.bytes_retransmitted += length as u64;
        self.put_data(number, probe, buffer);
    }

    fn chunk_header(&self) -> usize {
        if self.features.interleave {
            wire::IDATA_HEADER
        } else {
            wire::DATA_HEADER
        }
    }

    /// Appends a DATA or I-DATA chunk.
    fn put_data(&self, number: u64, immediate: bool, buffer: &mut BytesMut) {
        let Some(sent) = self.flight.get(number) else {
            return;
        };
        let fragment = &sent.fragment;
        let flags = fragment.flags | if immediate { wire::IMMEDIATE } else { 0 };
        let interleave = self.features.interleave;
        let kind = if interleave { kind::I_DATA } else { kind::DATA };
        wire::put_chunk(buffer, kind, flags, |buffer| {
            buffer.put_u32(number as u32);
            buffer.put_u16(fragment.stream);
            if interleave {
                buffer.put_u16(0);
                buffer.put_u32(fragment.number);
                let begin = flags & wire::BEGIN != 0;
                buffer.put_u32(if begin {
                    fragment.protocol
                } else {
                    fragment.index
                });
            } else {
                buffer.put_u16(fragment.number as u16);
                buffer.put_u32(fragment.protocol);
            }
            buffer.put_slice(&fragment.payload);
        });
    }

    /// Gives up lost messages whose time or tries are over.
    fn expire_lost(&mut self, now: Instant) {
        while self.features.partial
            && let Some(number) = self.flight.next_lost()
            && self.flight.is_expired(number, now)
        {
            if let Some(rest) = self.flight.abandon(number)
                && self.outbound.abandon(rest.stream, rest.message)
            {
                self.flight.push_abandoned(rest, now);
            }
            self.check_forward();
        }
    }

    /// Whether the peer must be told that it need not wait.
    pub(super) fn check_forward(&mut self) {
        self.forward_due |= self
            .flight
            .skippable()
            .any(|(_, given_up)| given_up.is_some());
    }

    /// FORWARD TSN or I-FORWARD-TSN (RFC 3758 §3.2, RFC 8260 §2.3.1).
    fn poll_forward(&mut self, now: Instant) -> Option<Batch> {
        let mut streams = BTreeMap::new();
        let mut last = None;
        for (number, given_up) in self.flight.skippable() {
            if let Some(fragment) = given_up {
                let unordered = fragment.flags & wire::UNORDERED != 0;
                if self.features.interleave || !unordered {
                    if streams.len() >= MAX_SKIPPED {
                        break;
                    }
                    streams.insert((fragment.stream, unordered), fragment.number);
                }
            }
            last = Some(number);
        }
        let last = last?;
        let interleave = self.features.interleave;
        let kind = if interleave {
            kind::I_FORWARD_TSN
        } else {
            kind::FORWARD_TSN
        };
        if self.timers.retransmit.is_none() {
            self.timers.retransmit = Some(now + self.rto());
        }
        Some(self.packet(true, |_, buffer| {
            wire::put_chunk(buffer, kind, 0, |buffer| {
                buffer.put_u32(last as u32);
                for ((stream, unordered), number) in streams {
                    buffer.put_u16(stream);
                    if interleave {
                        buffer.put_u16(unordered.into());
                        buffer.put_u32(number);
                    } else {
                        buffer.put_u16(number as u16);
                    }
                }
            });
        }))
    }

    /// Whether acknowledgements of data are outstanding in a state in which the retransmission timer is the data's.
    pub(super) fn waits_for_data(&self) -> bool {
        match self.state {
            State::Established | State::ShutdownPending | State::ShutdownReceived => {
                !self.flight.is_empty()
            }
            State::Idle
            | State::CookieWait
            | State::CookieEchoed
            | State::ShutdownSent
            | State::ShutdownAckSent
            | State::Closed => false,
        }
    }
}

/// Makes room for `length` bytes; a block is reused when everything that was cut from it is gone.
fn reserve(buffer: &mut BytesMut, length: usize) {
    if buffer.capacity() - buffer.len() < length {
        let block = if length > SMALL_BLOCK / 2 {
            LARGE_BLOCK
        } else {
            SMALL_BLOCK
        };
        buffer.reserve(length.max(block));
    }
}
