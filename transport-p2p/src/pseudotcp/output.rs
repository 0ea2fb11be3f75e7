//! What is sent, and in which order.

use super::{
    MAX_BATCH_BYTES, MAX_BATCH_SEGMENTS, PseudoTcp, State,
    wire::{FLAG_CTL, FLAG_FIN, FLAG_RST, FLAG_SACK, HEADER, Header, MAX_BLOCKS},
};
use bytes::{BufMut, Bytes};
use session_core::Batch;
use std::{
    ops::Range,
    time::{Duration, Instant},
};

/// How much is allocated at once for batches: small acknowledgements and large batches share blocks.
const SMALL_BLOCK: usize = 2 * 1024;
const LARGE_BLOCK: usize = 128 * 1024;

/// Most acknowledgements that are owed one by one to a peer that counts duplicates.
const MAX_DUPLICATES: usize = 64;

/// What we owe the peer.
#[derive(Debug, Default)]
pub(super) struct Acknowledgement {
    /// To be sent with the next opportunity.
    pub(super) due: bool,
    /// Deadline of a delayed one.
    pub(super) at: Option<Instant>,
    /// Data segments since the last one.
    segments: u32,
    /// Segments that came out of order, each of which a peer without selective acknowledgement must hear of.
    duplicates: usize,
    /// What was acknowledged last.
    pub(super) last: u64,
    /// The timestamp to echo.
    pub(super) recent: u32,
}

impl Acknowledgement {
    /// Data came in order: every second segment is acknowledged at once (RFC 5681 §4.2), as is the `first` one of the
    /// stream, whose sender may know our window unscaled only, and a `large` one, which may have filled its sender's
    /// window.
    pub(super) fn on_data(&mut self, first: bool, large: bool, delay: Duration, now: Instant) {
        self.segments += 1;
        if self.segments >= 2 || first || large || delay.is_zero() {
            self.due = true;
        } else if self.at.is_none() {
            self.at = Some(now + delay);
        }
    }

    /// Data came out of order: acknowledged at once.
    pub(super) fn on_hole(&mut self, selective: bool) {
        self.due = true;
        if !selective {
            self.duplicates = (self.duplicates + 1).min(MAX_DUPLICATES);
        }
    }

    /// It went out with a segment.
    fn on_sent(&mut self, next: u64) {
        self.clear();
        self.last = next;
    }

    pub(super) fn clear(&mut self) {
        self.due = false;
        self.at = None;
        self.segments = 0;
        self.duplicates = 0;
    }
}

impl PseudoTcp {
    /// The next segments to send, one for each datagram: at most `max_segments` (1 when 0) and [`MAX_BATCH_SEGMENTS`]
    /// of them. The segment size of the batch is never 0. `None` when nothing is to be sent at present.
    pub fn poll_transmit(&mut self, now: Instant, max_segments: usize) -> Option<Batch> {
        let most = max_segments.clamp(1, MAX_BATCH_SEGMENTS);
        if std::mem::take(&mut self.reset_due) {
            return Some(self.control_segment(FLAG_RST, self.flight.nxt(), now));
        }
        match self.state {
            State::Listen => None,
            State::SynSent | State::SynReceived => self.poll_connect(now),
            State::Established | State::Closing => self.poll_stream(most, now),
            State::Lingering | State::Closed => self.poll_acknowledgement(most, now),
        }
    }

    fn poll_connect(&mut self, now: Instant) -> Option<Batch> {
        if !std::mem::take(&mut self.connect_due) {
            return None;
        }
        let range = self.start..self.queue_start();
        if self.flight.is_empty() {
            self.flight.on_sent(range.end, now);
        } else {
            self.flight.on_resent(range, true, now);
        }
        self.timers.retransmit = Some(now + self.rto());
        Some(self.connect_segment(now))
    }

    fn connect_segment(&mut self, now: Instant) -> Batch {
        let message = std::mem::take(&mut self.connect);
        let batch = self.segment(FLAG_CTL, self.start, &message, now);
        self.connect = message;
        batch
    }

    fn poll_stream(&mut self, most: usize, now: Instant) -> Option<Batch> {
        if self.acknowledgement.due && self.options.sack && self.inbox.has_holes() {
            return self.poll_acknowledgement(most, now);
        }
        self.poll_lost(most, now)
            .or_else(|| self.poll_new(most, now))
            .or_else(|| self.poll_fin(now))
            .or_else(|| self.poll_probe(now))
            .or_else(|| self.poll_window_probe(now))
            .or_else(|| self.poll_acknowledgement(most, now))
    }

    /// What must be sent again.
    fn poll_lost(&mut self, most: usize, now: Instant) -> Option<Batch> {
        let lost = self.flight.next_lost()?;
        let pipe = self.flight.pipe();
        let room = self.room(now);
        let length = (lost.end - lost.start).min(self.mss);
        if room < length && (pipe > 0 || room == 0) {
            return None;
        }
        let most = self.whole_segments(room, most).max(1) as u64;
        let end = lost.end.min(lost.start + most * self.mss);
        Some(self.resend(lost.start..end, false, now))
    }

    /// What was never sent.
    fn poll_new(&mut self, most: usize, now: Instant) -> Option<Batch> {
        let nxt = self.flight.nxt();
        let unsent = self.queue.end().saturating_sub(nxt);
        if unsent == 0 {
            self.controller.on_limited(self.flight.pipe());
            return None;
        }
        let controlled = self.room(now);
        let granted = self.window_edge.saturating_sub(nxt);
        let length = self.sendable(unsent, controlled, granted, most);
        if granted < unsent.min(self.mss) {
            self.controller.on_limited(self.flight.pipe());
        }
        if length == 0 {
            if granted < unsent.min(self.mss) && self.flight.is_empty() {
                self.arm_window(now);
            }
            return None;
        }
        self.timers.window = None;
        self.window_probe_due = false;
        let range = nxt..nxt + length;
        if !length.is_multiple_of(self.mss) {
            self.short_end = range.end;
        }
        self.flight.on_sent(range.end, now);
        self.on_departure(now);
        Some(self.data(range, now))
    }

    /// Bytes that window and pace permit.
    fn room(&mut self, now: Instant) -> u64 {
        let window = self.controller.window().saturating_sub(self.flight.pipe());
        if window < self.mss {
            return window;
        }
        let rate = self.controller.pacing_rate();
        let paced = self.pacer.budget(rate, now);
        self.timers.pace = if paced == 0 {
            self.pacer.next(rate)
        } else {
            None
        };
        window.min(paced)
    }

    /// How much of `unsent` bytes may leave in one batch now.
    fn sendable(&self, unsent: u64, controlled: u64, granted: u64, most: usize) -> u64 {
        let room = controlled.min(granted).min(unsent);
        let whole = self.whole_segments(room, most) as u64 * self.mss;
        let rest = unsent - whole;
        if rest > 0 && rest < self.mss && rest <= room - whole {
            // The end of what was written. Minshall's form of Nagle's rule: one short segment in flight at a time.
            let alone = self.short_end <= self.flight.una();
            let fits = (whole / self.mss) < most as u64;
            if fits && (self.config.no_delay || self.closing || alone) {
                return unsent;
            }
        }
        // RFC 9293 §3.8.6.2.1: a window that never has room for a segment is used when half of it is open.
        let narrow = whole == 0 && granted < self.mss && controlled >= granted;
        if narrow && granted < unsent && granted > 0 && granted >= self.largest_window / 2 {
            return granted;
        }
        whole
    }

    /// The end of our direction.
    fn poll_fin(&mut self, now: Instant) -> Option<Batch> {
        let end = self.queue.end();
        if self.state != State::Closing || !self.options.fin || self.flight.nxt() != end {
            return None;
        }
        self.flight.on_sent(end + 1, now);
        self.on_departure(now);
        Some(self.control_segment(FLAG_FIN, end, now))
    }

    /// A probe for a lost tail: new data would serve as well, but `poll_new` had none.
    fn poll_probe(&mut self, now: Instant) -> Option<Batch> {
        if !std::mem::take(&mut self.probe_due) {
            return None;
        }
        let range = self.flight.probe(self.mss, self.options.sack)?;
        Some(self.resend(range, true, now))
    }

    /// An empty segment with the last sequence number, which every implementation answers at once.
    fn poll_window_probe(&mut self, now: Instant) -> Option<Batch> {
        if !std::mem::take(&mut self.window_probe_due) {
            return None;
        }
        self.arm_window(now);
        Some(self.control_segment(0, self.flight.una() - 1, now))
    }

    fn poll_acknowledgement(&mut self, most: usize, now: Instant) -> Option<Batch> {
        if !self.acknowledgement.due {
            return None;
        }
        let sequence = self.flight.nxt();
        if self.options.sack && self.inbox.has_holes() {
            let blocks: Vec<u8> = self
                .inbox
                .blocks(MAX_BLOCKS.min(self.mss as usize / 8))
                .into_iter()
                .flat_map(|block| [block.start as u32, block.end as u32])
                .flat_map(u32::to_be_bytes)
                .collect();
            return Some(self.segment(FLAG_SACK, sequence, &blocks, now));
        }
        let count = self.acknowledgement.duplicates.clamp(1, most);
        let left = self.acknowledgement.duplicates.saturating_sub(count);
        let header = self.header(0, sequence, now).encode();
        self.reserve(count * HEADER);
        for _ in 0..count {
            self.buffer.put_slice(&header);
        }
        self.acknowledgement.duplicates = left;
        self.acknowledgement.due = left > 0;
        Some(self.batch(HEADER, count))
    }

    /// Sends a range again: data, or the FIN behind it.
    fn resend(&mut self, range: Range<u64>, probe: bool, now: Instant) -> Batch {
        // A stream opens only with its CONNECT acknowledged, so that this is never sent again here.
        debug_assert!(range.start >= self.queue_start());
        let end = self.queue.end();
        let range = if range.start < end {
            range.start..range.end.min(end)
        } else {
            range
        };
        self.flight.on_resent(range.clone(), probe, now);
        self.arm_retransmit(now);
        if range.start >= end {
            return self.control_segment(FLAG_FIN, end, now);
        }
        self.stats.bytes_retransmitted += range.end - range.start;
        self.data(range, now)
    }

    /// The segments of a range of the stream.
    fn data(&mut self, range: Range<u64>, now: Instant) -> Batch {
        let length = (range.end - range.start) as usize;
        let mss = self.mss as usize;
        let count = length.div_ceil(mss);
        self.stats.bytes_sent += length as u64;
        self.pacer.on_sent(length as u64);
        self.controller
            .on_sent(now, length as u64, self.flight.pipe());
        self.reserve(length + count * HEADER);
        let mut header = self.header(0, range.start, now);
        let mut reader = self.queue.reader(range.start);
        let mut rest = length;
        while rest > 0 {
            let part = rest.min(mss);
            self.buffer.put_slice(&header.encode());
            reader.copy(part, &mut self.buffer);
            header.sequence = header.sequence.wrapping_add(part as u32);
            rest -= part;
        }
        self.batch(HEADER + mss, count)
    }

    /// A single segment without data.
    fn control_segment(&mut self, flags: u8, sequence: u64, now: Instant) -> Batch {
        self.segment(flags, sequence, &[], now)
    }

    fn segment(&mut self, flags: u8, sequence: u64, payload: &[u8], now: Instant) -> Batch {
        let header = self.header(flags, sequence, now);
        self.reserve(HEADER + payload.len());
        self.buffer.put_slice(&header.encode());
        self.buffer.put_slice(payload);
        self.batch(HEADER + payload.len(), 1)
    }

    /// What was put into the buffer, as a batch.
    fn batch(&mut self, segment_size: usize, count: usize) -> Batch {
        self.stats.segments_sent += count as u64;
        let payload: Bytes = self.buffer.split().freeze();
        Batch {
            segment_size: segment_size.min(payload.len()),
            payload,
        }
    }

    /// A header that acknowledges all there is.
    fn header(&mut self, flags: u8, sequence: u64, now: Instant) -> Header {
        let answered = self.state != State::SynSent && self.state != State::Listen;
        let next = self.inbox.next();
        let window = self.advertise();
        if answered {
            self.acknowledgement.on_sent(next);
        }
        Header {
            conversation: self.config.conversation,
            sequence: sequence as u32,
            acknowledged: if answered { next as u32 } else { 0 },
            flags,
            window,
            tsval: self.clock(now),
            tsecr: self.acknowledgement.recent,
        }
    }

    /// The window field; its right edge moves in steps that are worth a segment (RFC 9293 §3.8.6.2.2).
    fn advertise(&mut self) -> u16 {
        let next = self.inbox.next();
        let (allowed, promised) = (self.inbox.allowed(), self.inbox.edge().max(next));
        let edge = if allowed >= promised + self.window_step() {
            allowed
        } else {
            promised
        };
        let units = ((edge - next) >> self.receive_scale).min(0xffff);
        self.inbox.promise(next + (units << self.receive_scale));
        units as u16
    }

    /// After a read: tells the peer about space that it may be waiting for.
    pub(super) fn update_window(&mut self) {
        let open = match self.state {
            State::SynReceived | State::Established | State::Closing => !self.inbox.is_finished(),
            State::Listen | State::SynSent | State::Lingering | State::Closed => false,
        };
        let left = self.inbox.edge().saturating_sub(self.inbox.next());
        let gain = self.inbox.allowed().saturating_sub(self.inbox.edge());
        let step = if left < self.mss {
            self.window_step()
        } else {
            self.inbox.capacity() / 4
        };
        self.acknowledgement.due |= open && gain >= step.max(1);
    }

    fn window_step(&self) -> u64 {
        (self.inbox.capacity() / 2).min(self.mss).max(1)
    }

    fn whole_segments(&self, room: u64, most: usize) -> usize {
        let fit = MAX_BATCH_BYTES / (self.mss as usize + HEADER);
        let room = usize::try_from(room / self.mss).unwrap_or(usize::MAX);
        room.min(most).min(fit.max(1))
    }

    fn on_departure(&mut self, now: Instant) {
        if self.timers.retransmit.is_none() {
            self.arm_retransmit(now);
        }
        self.arm_probe(now);
    }

    /// Makes room for `length` bytes; a block is reused when everything that was cut from it is gone.
    fn reserve(&mut self, length: usize) {
        let left = self.buffer.capacity() - self.buffer.len();
        if left < length {
            let block = if length > SMALL_BLOCK / 2 {
                LARGE_BLOCK
            } else {
                SMALL_BLOCK
            };
            self.buffer.reserve(length.max(block));
        }
    }
}
