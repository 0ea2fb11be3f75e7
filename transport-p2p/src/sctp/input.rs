//! What is done with what arrives.

use super::{
    Association, Error, State,
    assemble::{Label, Violation},
    flight::Losses,
    inbound::Arrival,
    wire::{self, Chunk, cause, kind},
};
use crate::{
    congestion::{Ack, Loss},
    pseudotcp::ranges::expand,
};
use bytes::BufMut;
use session_core::Batch;
use std::time::Instant;

/// Most answers that wait to be sent.
const MAX_REPLIES: usize = 32;
/// Longest heartbeat that is answered.
const MAX_HEARTBEAT: usize = 1024;

impl Association {
    /// Takes in packets of equal size, as receive offload yields them. What is kept of them is copied.
    pub fn handle_batch(&mut self, batch: &Batch, now: Instant) {
        if batch.segment_size == 0 {
            self.handle_packet(&batch.payload, now);
        } else {
            batch
                .payload
                .chunks(batch.segment_size)
                .for_each(|packet| self.handle_packet(packet, now));
        }
    }

    /// Takes in one packet.
    pub fn handle_packet(&mut self, packet: &[u8], now: Instant) {
        if self.dispatch(packet, now) {
            self.stats.packets_received += 1;
        } else {
            self.stats.packets_refused += 1;
        }
    }

    /// Whether the packet was acceptable.
    fn dispatch(&mut self, packet: &[u8], now: Instant) -> bool {
        let Some(header) = wire::read_header(packet, self.config.no_checksums) else {
            return false;
        };
        if header.source != self.config.remote_port || header.destination != self.config.local_port
        {
            return false;
        }
        let mut chunks = wire::chunks(packet).peekable();
        let Some(first) = chunks.peek().copied() else {
            return false;
        };
        let alone =
            wire::padded(first.value.len()) + wire::HEADER + wire::CHUNK_HEADER >= packet.len();
        match first.kind {
            // RFC 9260 §8.5.1: these have tags of their own rules.
            kind::INIT => return alone && header.tag == 0 && self.on_init(first.value, now),
            kind::COOKIE_ECHO => {
                chunks.next();
                if !self.on_cookie_echo(header.tag, first.value, now) {
                    return false;
                }
            }
            kind::ABORT | kind::SHUTDOWN_COMPLETE => {
                let reflected = first.flags & wire::REFLECTED != 0;
                let tag = if reflected {
                    self.remote_tag
                } else {
                    self.local_tag
                };
                return header.tag == tag && tag != 0 && self.on_end(first.kind);
            }
            _ => {}
        }
        if header.tag != self.local_tag || self.state == State::Closed {
            return false;
        }
        let mut data = false;
        for chunk in chunks {
            if self.state == State::Closed || !self.on_chunk(&chunk, &mut data, now) {
                break;
            }
        }
        if data {
            self.acknowledgement.on_packet(self.config.ack_delay, now);
            self.repeat_shutdown(now);
        }
        true
    }

    /// While the peer still sends, each packet is answered at once, and the wait for its end begins anew (RFC 9260 §9.2).
    fn repeat_shutdown(&mut self, now: Instant) {
        if self.state == State::ShutdownSent {
            self.ending.shutdown = true;
            self.backoff = 0;
            self.timers.retransmit = Some(now + self.rto());
        }
    }

    fn on_end(&mut self, kind: u8) -> bool {
        if kind == kind::SHUTDOWN_COMPLETE {
            let awaited = self.state == State::ShutdownAckSent;
            if awaited {
                self.end(None);
            }
            return awaited;
        }
        let open = !matches!(self.state, State::Idle | State::Closed);
        if open {
            self.fail(Error::Reset);
        }
        open
    }

    /// Whether the rest of the packet is to be read.
    fn on_chunk(&mut self, chunk: &Chunk<'_>, data: &mut bool, now: Instant) -> bool {
        match chunk.kind {
            kind::DATA | kind::I_DATA => {
                *data = true;
                self.on_data(chunk)
            }
            kind::SACK => self.on_sack(chunk.value, now),
            kind::INIT_ACK => self.on_init_ack(chunk.value, now),
            kind::COOKIE_ACK => self.on_cookie_ack(now),
            kind::HEARTBEAT => {
                if chunk.value.len() <= MAX_HEARTBEAT {
                    let value = chunk.value;
                    self.reply(kind::HEARTBEAT_ACK, |buffer| buffer.put_slice(value));
                }
                true
            }
            kind::FORWARD_TSN | kind::I_FORWARD_TSN => {
                *data = true;
                self.on_forward(chunk)
            }
            kind::RE_CONFIG => self.on_reconfig(chunk.value, now),
            kind::SHUTDOWN => self.on_shutdown(chunk.value, now),
            kind::SHUTDOWN_ACK => {
                let sent = matches!(self.state, State::ShutdownSent | State::ShutdownAckSent);
                if sent {
                    self.ending.complete = true;
                    self.end(None);
                }
                sent
            }
            kind::ERROR => self.on_error(chunk.value),
            kind::HEARTBEAT_ACK => {
                self.on_heartbeat_ack(chunk.value);
                true
            }
            kind::PAD => true,
            kind::INIT | kind::ABORT | kind::COOKIE_ECHO | kind::SHUTDOWN_COMPLETE => false,
            unknown => {
                // RFC 9260 §3.2: the upper bits say whether to go on and whether to report.
                if unknown & 0x40 != 0 && self.is_open() {
                    self.report(cause::UNRECOGNIZED_CHUNK, &[unknown, chunk.flags, 0, 4]);
                }
                unknown & 0x80 != 0
            }
        }
    }

    /// An error of the peer's: only a stale cookie means something to us.
    fn on_error(&mut self, value: &[u8]) -> bool {
        let stale = wire::parameters(value).any(|(kind, _)| kind == cause::STALE_COOKIE);
        if stale && self.state == State::CookieEchoed {
            self.setup.stale += 1;
            if self.setup.stale > self.config.max_retransmits {
                self.fail(Error::ConnectTimedOut);
                return false;
            }
            self.state = State::CookieWait;
            self.setup.init_due = true;
            self.setup.cookie_due = false;
        }
        true
    }

    fn on_data(&mut self, chunk: &Chunk<'_>) -> bool {
        match self.state {
            State::Established | State::ShutdownPending | State::ShutdownSent => {}
            State::Idle
            | State::CookieWait
            | State::CookieEchoed
            | State::ShutdownReceived
            | State::ShutdownAckSent
            | State::Closed => return false,
        }
        let interleaved = chunk.kind == kind::I_DATA;
        if interleaved != self.features.interleave {
            self.fail(Error::Violation("data of the other kind"));
            return false;
        }
        let Some((number, label, index, payload)) = self.read_data(chunk, interleaved) else {
            self.fail(Error::Violation("data chunk without data"));
            return false;
        };
        let accepted = if label.stream < self.config.streams {
            self.inbound.accept(number, label, index, payload)
        } else {
            let stream = label.stream.to_be_bytes();
            self.report(cause::INVALID_STREAM, &[stream[0], stream[1], 0, 0]);
            self.acknowledgement.due = true;
            self.inbound.discard(number)
        };
        match accepted {
            Ok(Arrival::InOrder) => {
                self.acknowledgement.due |= chunk.flags & wire::IMMEDIATE != 0;
                self.try_deferred_resets();
            }
            Ok(Arrival::OutOfOrder | Arrival::Duplicate | Arrival::Dropped) => {
                self.acknowledgement.due = true;
                self.try_deferred_resets();
            }
            Err(violation) => {
                self.fail(Error::Violation(match violation {
                    Violation::Fragments => "fragments that contradict each other",
                    Violation::TooLong => "message is longer than permitted",
                    Violation::Overrun => "more data than the window permitted",
                }));
                return false;
            }
        }
        true
    }

    fn read_data<'a>(
        &self,
        chunk: &Chunk<'a>,
        interleaved: bool,
    ) -> Option<(u64, Label, u32, &'a [u8])> {
        let value = chunk.value;
        let number = expand(self.inbound.next(), wire::u32_at(value, 0)?);
        let begin = chunk.flags & wire::BEGIN != 0;
        let mut label = Label {
            stream: wire::u16_at(value, 4)?,
            unordered: chunk.flags & wire::UNORDERED != 0,
            number: wire::u16_at(value, 6)?.into(),
            protocol: wire::u32_at(value, 8)?,
            begin,
            end: chunk.flags & wire::END != 0,
        };
        let mut index = 0;
        let header = if interleaved {
            label.number = wire::u32_at(value, 8)?;
            let shared = wire::u32_at(value, 12)?;
            (label.protocol, index) = if begin { (shared, 0) } else { (0, shared) };
            wire::IDATA_HEADER
        } else {
            if label.unordered {
                label.number = 0;
            }
            wire::DATA_HEADER
        };
        let payload = value.get(header - wire::CHUNK_HEADER..)?;
        (!payload.is_empty()).then_some((number, label, index, payload))
    }

    /// FORWARD TSN and I-FORWARD-TSN: what the peer has given up.
    fn on_forward(&mut self, chunk: &Chunk<'_>) -> bool {
        let interleaved = chunk.kind == kind::I_FORWARD_TSN;
        if !self.is_open() || interleaved != self.features.interleave {
            return true;
        }
        let Some(last) = wire::u32_at(chunk.value, 0) else {
            return false;
        };
        let next = expand(self.inbound.next(), last) + 1;
        let entry = if interleaved { 8 } else { 4 };
        let entries = chunk.value.get(4..).unwrap_or_default();
        let streams = entries.chunks_exact(entry).filter_map(|entry| {
            let stream = wire::u16_at(entry, 0)?;
            Some(if interleaved {
                let unordered = wire::u16_at(entry, 2)? & 1 != 0;
                (stream, unordered, wire::u32_at(entry, 4)?)
            } else {
                (stream, false, wire::u16_at(entry, 2)?.into())
            })
        });
        self.inbound.skip(next, streams);
        self.acknowledgement.due = true;
        self.try_deferred_resets();
        true
    }

    fn on_sack(&mut self, value: &[u8], now: Instant) -> bool {
        if !self.is_open() && self.state != State::ShutdownAckSent {
            return true;
        }
        let (Some(cumulative), Some(window), Some(count)) = (
            wire::u32_at(value, 0),
            wire::u32_at(value, 4),
            wire::u16_at(value, 8),
        ) else {
            return false;
        };
        let base = self.flight.base();
        let cumulative = expand(base, cumulative) + 1;
        if cumulative > self.flight.next() {
            self.fail(Error::Violation("acknowledged what was not sent"));
            return false;
        }
        if cumulative < base {
            // An older one: its blocks may be revoked by a newer one, its window is out of date.
            return true;
        }
        let was_closed = self.is_window_closed();
        self.window = window.into();
        let blocks = value.get(12..).unwrap_or_default();
        let blocks = blocks
            .chunks_exact(4)
            .take(count.into())
            .filter_map(|block| {
                let (start, end) = (wire::u16_at(block, 0)?, wire::u16_at(block, 2)?);
                (start <= end)
                    .then(|| cumulative - 1 + u64::from(start)..cumulative + u64::from(end))
            });
        self.on_acknowledgement(cumulative, blocks, now);
        if was_closed && !self.is_window_closed() {
            self.on_window_opened(now);
        }
        true
    }

    /// What was on its way when the window closed found no room. It goes again before anything new, which would fill
    /// the window before the peer can read any of it.
    fn on_window_opened(&mut self, now: Instant) {
        self.asking = false;
        if let Some(before) = now.checked_sub(self.rtt.smoothed().unwrap_or_default()) {
            self.flight.lose(|sent| sent < before);
        }
    }

    pub(super) fn on_acknowledgement(
        &mut self,
        cumulative: u64,
        blocks: impl Iterator<Item = std::ops::Range<u64>>,
        now: Instant,
    ) {
        let least = self.rtt.least();
        let progress = self.flight.on_sack(cumulative, blocks, least, now);
        if let Some(rtt) = progress.rtt {
            self.rtt.sample(rtt);
        }
        if progress.spurious {
            self.stats.spurious += 1;
            self.controller.on_spurious(now);
        }
        self.judge(now);
        if let Some(sent) = progress.sent {
            self.controller.on_ack(&Ack {
                now,
                sent,
                bytes: progress.delivered,
                rtt: progress.rtt,
                in_flight: self.flight.on_way(),
            });
        }
        // What was given up is passed over without being delivered.
        let moved = progress.delivered > 0 || progress.advanced;
        if moved || self.is_window_closed() {
            // A peer that answers is there, even if it lets us wait.
            self.backoff = 0;
        }
        if moved {
            self.asking = false;
            self.probed = false;
            self.probe_due = false;
            self.rearm(now);
        }
        self.check_forward();
        self.advance_shutdown(now);
    }

    /// Concludes losses, and when there is more to conclude.
    pub(super) fn judge(&mut self, now: Instant) {
        let (losses, deadline) = self.flight.judge(self.rtt.least(), now);
        self.timers.reordering = deadline;
        self.on_losses(losses, now);
    }

    fn on_losses(&mut self, losses: Losses, now: Instant) {
        let Some((bytes, sent)) = losses else { return };
        self.stats.bytes_lost += bytes;
        let in_flight = self.flight.on_way();
        self.controller.on_loss(&Loss {
            now,
            sent,
            bytes,
            in_flight,
        });
    }

    fn on_shutdown(&mut self, value: &[u8], now: Instant) -> bool {
        let Some(cumulative) = wire::u32_at(value, 0) else {
            return false;
        };
        if !self.is_open() {
            return false;
        }
        let cumulative = expand(self.flight.base(), cumulative) + 1;
        if (self.flight.base()..=self.flight.next()).contains(&cumulative) {
            self.on_acknowledgement(cumulative, std::iter::empty(), now);
        }
        self.state = match self.state {
            // Both at once (RFC 9260 §9.2).
            State::ShutdownSent => {
                self.ending.acknowledge = true;
                State::ShutdownAckSent
            }
            State::Established | State::ShutdownPending => State::ShutdownReceived,
            other @ (State::Idle
            | State::CookieWait
            | State::CookieEchoed
            | State::ShutdownReceived
            | State::ShutdownAckSent
            | State::Closed) => other,
        };
        self.advance_shutdown(now);
        true
    }

    /// Takes the next step of an orderly end when everything is acknowledged.
    pub(super) fn advance_shutdown(&mut self, now: Instant) {
        if !self.is_delivered() {
            return;
        }
        match self.state {
            State::ShutdownPending => {
                self.state = State::ShutdownSent;
                self.ending.shutdown = true;
            }
            State::ShutdownReceived => {
                self.state = State::ShutdownAckSent;
                self.ending.acknowledge = true;
            }
            State::Idle
            | State::CookieWait
            | State::CookieEchoed
            | State::Established
            | State::ShutdownSent
            | State::ShutdownAckSent
            | State::Closed => return,
        }
        self.backoff = 0;
        self.timers.retransmit = Some(now + self.rto());
        self.timers.guard_shutdown(now);
    }

    /// Queues a chunk in answer, as long as there is room for answers.
    pub(super) fn reply(&mut self, kind: u8, write: impl FnOnce(&mut bytes::BytesMut)) {
        if self.replies.len() < MAX_REPLIES {
            let mut buffer = bytes::BytesMut::new();
            wire::put_chunk(&mut buffer, kind, 0, write);
            self.replies.push_back(buffer.freeze());
        }
    }

    fn report(&mut self, cause: u16, value: &[u8]) {
        self.reply(kind::ERROR, |buffer| {
            wire::put_parameter(buffer, cause, value)
        });
    }
}
