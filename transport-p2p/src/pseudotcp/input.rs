//! What a segment does to the stream.

use super::{
    PseudoTcp, State,
    flight::Progress,
    inbox::{Arrival, Inbox, Payload},
    ranges::{ORIGIN, expand},
    wire::{self, FLAG_CTL, FLAG_FIN, FLAG_RST, FLAG_SACK, HEADER, Header, Options},
};
use crate::{
    congestion::{Ack, Loss},
    pseudotcp::{Error, UNSCALED_WINDOW},
};
use bytes::Bytes;
use std::time::{Duration, Instant};

/// How far from its expected place a number may lie and still be taken for an old one, at least; the largest unscaled
/// window.
const TOLERANCE: u64 = 0xffff;

/// A segment with its numbers as positions.
#[derive(Debug)]
struct Segment<'a> {
    flags: u8,
    window: u16,
    tsval: u32,
    tsecr: u32,
    sequence: u64,
    acknowledged: u64,
    payload: Payload<'a>,
}

impl Segment<'_> {
    fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

impl PseudoTcp {
    /// Takes in one datagram. What is kept of it is copied.
    pub fn handle_segment(&mut self, segment: &[u8], now: Instant) {
        if let Some(payload) = segment.get(HEADER..) {
            self.process(segment, Payload::Borrowed(payload), now);
        } else {
            self.stats.segments_refused += 1;
        }
    }

    /// Takes in a batch of datagrams of `segment_size` bytes each, of which the last may be shorter (as receive
    /// offload yields them). Data is kept as slices of `payload` if most of it is of use. A `segment_size` of 0, or
    /// of more than `payload` has, stands for a single datagram.
    pub fn handle_batch(&mut self, payload: Bytes, segment_size: usize, now: Instant) {
        let size = match segment_size {
            0 => payload.len(),
            size => size,
        };
        let mark = self.inbox.mark();
        let mut rest = payload.clone();
        while !rest.is_empty() {
            let segment = rest.split_to(size.min(rest.len()));
            if segment.len() >= HEADER {
                let data = Payload::Shared(segment.slice(HEADER..));
                self.process(&segment, data, now);
            } else {
                self.stats.segments_refused += 1;
            }
        }
        self.inbox.settle(mark, payload.len());
    }

    fn process(&mut self, segment: &[u8], payload: Payload<'_>, now: Instant) {
        let accepted = match Header::decode(segment) {
            Some(header) if header.conversation == self.config.conversation => {
                self.dispatch(&header, payload, now)
            }
            Some(_) | None => false,
        };
        if accepted {
            self.stats.segments_received += 1;
            self.unanswered = 0;
        } else {
            self.stats.segments_refused += 1;
        }
    }

    /// Whether the segment was acceptable.
    fn dispatch(&mut self, header: &Header, payload: Payload<'_>, now: Instant) -> bool {
        match self.state {
            State::Listen => self.on_call(header, &payload),
            State::SynSent => self.on_answer(header, &payload, now),
            State::SynReceived | State::Established | State::Closing | State::Lingering => {
                let segment = Segment {
                    flags: header.flags,
                    window: header.window,
                    tsval: header.tsval,
                    tsecr: header.tsecr,
                    sequence: expand(self.inbox.next(), header.sequence),
                    acknowledged: expand(self.flight.una(), header.acknowledged),
                    payload,
                };
                self.on_segment(&segment, now)
            }
            State::Closed => {
                self.on_late(header);
                false
            }
        }
    }

    /// In LISTEN: only a CONNECT counts.
    fn on_call(&mut self, header: &Header, payload: &Payload<'_>) -> bool {
        if header.flags & (FLAG_CTL | FLAG_RST) != FLAG_CTL {
            return false;
        }
        let Some(options) = Options::decode(payload.bytes(..)) else {
            return false;
        };
        self.adopt(header, options, payload.length());
        // Only what the peer has offered goes into the answer, as libnice does.
        if self.options.scale.is_some() {
            self.options.scale = Some(self.receive_scale);
        }
        self.connect = self.options.encode();
        self.queue.rebase(self.start + self.connect.len() as u64);
        self.state = State::SynReceived;
        self.connect_due = true;
        true
    }

    /// In SYN_SENT: a CONNECT opens, a reset of our CONNECT ends.
    fn on_answer(&mut self, header: &Header, payload: &Payload<'_>, now: Instant) -> bool {
        let acknowledged = expand(self.flight.una(), header.acknowledged);
        let all = self.queue_start();
        let answers = acknowledged == all && self.flight.nxt() == all;
        if header.flags & FLAG_RST != 0 {
            if answers {
                self.fail(Error::Reset);
            }
            return answers;
        }
        if header.flags & FLAG_CTL == 0 || !answers && acknowledged != self.start {
            return false;
        }
        let Some(options) = Options::decode(payload.bytes(..)) else {
            return false;
        };
        self.adopt(header, options, payload.length());
        if answers {
            let segment = Segment {
                flags: 0,
                window: header.window,
                tsval: header.tsval,
                tsecr: header.tsecr,
                sequence: self.inbox.next(),
                acknowledged,
                payload: Payload::Borrowed(&[]),
            };
            self.acknowledgement.due = true;
            self.open_by_connect(&segment, now);
        } else {
            self.state = State::SynReceived;
            self.connect_due = true;
        }
        true
    }

    /// A CONNECT acknowledged ours. `segment` is that acknowledgement, without payload.
    fn open_by_connect(&mut self, segment: &Segment<'_>, now: Instant) {
        // The window of a CONNECT counts as unscaled: too small at worst, and the next segment tells better.
        let scale = std::mem::take(&mut self.send_scale);
        self.on_acknowledgement(segment, now);
        self.send_scale = scale;
        self.open();
    }

    /// Takes over what the peer's CONNECT says.
    fn adopt(&mut self, header: &Header, options: Options, length: usize) {
        let next = ORIGIN + u64::from(header.sequence) + length as u64;
        let mut capacity = self.config.receive_buffer;
        match (self.options.scale, options.scale) {
            (Some(own), Some(peer)) => {
                self.receive_scale = own;
                self.send_scale = peer;
            }
            (None | Some(_), _) => {
                self.options.scale = None;
                self.receive_scale = 0;
                self.send_scale = 0;
                capacity = capacity.min(UNSCALED_WINDOW);
            }
        }
        self.options.fin &= options.fin;
        self.options.sack &= options.sack;
        self.inbox = Inbox::new(next, capacity);
        self.acknowledgement.recent = header.tsval;
        self.acknowledgement.last = next;
        self.window = header.window.into();
        self.largest_window = self.window;
        self.window_edge = self.start + self.window;
    }

    /// In every state with a peer.
    fn on_segment(&mut self, segment: &Segment<'_>, now: Instant) -> bool {
        let next = self.inbox.next();
        let edge = self.inbox.edge().max(next);
        let tolerance = self.inbox.capacity().max(TOLERANCE);
        let (una, nxt) = (self.flight.una(), self.flight.nxt());
        let plausible = segment.acknowledged <= nxt
            && segment.acknowledged + self.largest_window.max(TOLERANCE) >= una;
        if segment.has(FLAG_RST) {
            let believed = plausible && (next..=edge).contains(&segment.sequence);
            if believed {
                self.on_reset();
            }
            return believed;
        }
        if segment.has(FLAG_CTL) {
            return self.on_repeated_connect(segment, now);
        }
        if !plausible || segment.sequence > edge || segment.sequence + tolerance < next {
            // RFC 9293 §3.10.7.4 answers every unacceptable segment that is not a bare acknowledgement.
            self.acknowledgement.due |= plausible && segment.payload.length() > 0;
            return false;
        }
        // RFC 7323 §4.3: what fills a hole is echoed, not what comes behind it.
        let newer = segment.tsval.wrapping_sub(self.acknowledgement.recent);
        if segment.sequence <= self.acknowledgement.last && newer.cast_signed() >= 0 {
            self.acknowledgement.recent = segment.tsval;
        }
        if self.state == State::SynReceived && segment.acknowledged >= self.queue_start() {
            self.open();
        }
        self.on_acknowledgement(segment, now);
        self.on_payload(segment, now);
        self.advance_close(now);
        true
    }

    /// A CONNECT after the first is a repetition: ours, or our acknowledgement, was lost.
    fn on_repeated_connect(&mut self, segment: &Segment<'_>, now: Instant) -> bool {
        let length = segment.payload.length() as u64;
        let repeated = Options::decode(segment.payload.bytes(..)).is_some()
            && segment.sequence + length <= self.inbox.next();
        if repeated {
            if self.state == State::SynReceived {
                if segment.acknowledged >= self.queue_start()
                    && segment.acknowledged <= self.flight.nxt()
                {
                    let bare = Segment {
                        flags: 0,
                        payload: Payload::Borrowed(&[]),
                        ..*segment
                    };
                    self.open_by_connect(&bare, now);
                } else {
                    self.connect_due = true;
                }
            }
            self.acknowledgement.due = true;
        }
        repeated
    }

    /// The sender's side of a segment.
    fn on_acknowledgement(&mut self, segment: &Segment<'_>, now: Instant) {
        let una = self.flight.una();
        let selective = self.options.sack;
        let has_blocks = selective && segment.has(FLAG_SACK);
        let blocks = wire::blocks(if has_blocks {
            segment.payload.bytes(..)
        } else {
            &[]
        });
        let progress = self.flight.on_ack(
            segment.acknowledged,
            blocks.map(|(start, end)| expand(una, start)..expand(una, end)),
            self.rtt.least(),
            now,
        );
        let advanced = segment.acknowledged > una;
        let duplicate = segment.acknowledged == una
            && segment.payload.length() == 0
            && !segment.has(FLAG_FIN)
            && u64::from(segment.window) << self.send_scale == self.window;
        self.on_window(segment);
        self.flight.finish_recovery();
        let measured = progress.sent.map(|at| now.saturating_duration_since(at));
        if let Some(rtt) = measured.or_else(|| self.echoed(segment, advanced, now)) {
            self.rtt.sample(rtt);
        }
        if advanced {
            self.queue.release(segment.acknowledged);
            self.backoff = 0;
            self.probed = false;
            self.probe_due = false;
            self.rearm(now);
            self.events
                .on_space(self.queue.space(), self.config.send_buffer);
        }
        let lost = self.flight.lost();
        let began = if selective {
            self.flight.judge(self.mss, false)
        } else if advanced {
            self.flight.on_partial(progress.delivered, self.mss);
            false
        } else {
            duplicate && !self.flight.is_empty() && self.flight.on_duplicate(self.mss)
        };
        if progress.spurious {
            self.stats.spurious += 1;
            self.controller.on_spurious(now);
        }
        self.tell_loss(lost, now);
        if progress.delivered > 0 {
            self.control(&progress, now);
        }
        if began {
            self.on_loss(now);
        }
        self.arm_reordering(now);
    }

    /// Counts a new recovery.
    pub(super) fn on_loss(&mut self, now: Instant) {
        self.stats.recoveries += 1;
        self.arm_retransmit(now);
    }

    /// Tells the controller what is thought to be lost beyond `before`.
    pub(super) fn tell_loss(&mut self, before: u64, now: Instant) {
        let bytes = self.flight.lost().saturating_sub(before);
        if bytes > 0 {
            self.stats.bytes_lost += bytes;
            // About a round trip ago; what exactly it was the controller does not mind.
            let sent = now
                - self
                    .rtt
                    .smoothed()
                    .unwrap_or_default()
                    .min(now.duration_since(self.epoch));
            let in_flight = self.flight.pipe();
            self.controller.on_loss(&Loss {
                now,
                sent,
                bytes,
                in_flight,
            });
        }
    }

    fn control(&mut self, progress: &Progress, now: Instant) {
        if let Some(sent) = progress.sent {
            self.newest_sent = self.newest_sent.max(sent);
        }
        self.controller.on_ack(&Ack {
            now,
            sent: self.newest_sent,
            bytes: progress.delivered,
            rtt: progress.sent.map(|at| now.saturating_duration_since(at)),
            in_flight: self.flight.pipe(),
        });
    }

    /// The window only grows: the right edge is what counts, in whatever order the segments come. A timeout takes a
    /// promise back that was not kept.
    fn on_window(&mut self, segment: &Segment<'_>) {
        if segment.acknowledged < self.flight.una() {
            return;
        }
        self.window = u64::from(segment.window) << self.send_scale;
        self.largest_window = self.largest_window.max(self.window);
        self.window_edge = self.window_edge.max(segment.acknowledged + self.window);
        if self.window == 0 {
            // It is there and lets us wait: that is no reason to give up.
            self.backoff = 0;
        }
    }

    /// The round trip by the echoed timestamp, when the segment acknowledges something new (RFC 7323 §4.1).
    fn echoed(&self, segment: &Segment<'_>, advanced: bool, now: Instant) -> Option<Duration> {
        let elapsed = self.clock(now).wrapping_sub(segment.tsecr);
        (advanced && segment.tsecr != 0 && elapsed.cast_signed() >= 0)
            .then(|| Duration::from_millis(elapsed.into()))
    }

    /// The receiver's side of a segment.
    fn on_payload(&mut self, segment: &Segment<'_>, now: Instant) {
        let length = segment.payload.length();
        let selective = self.options.sack && segment.has(FLAG_SACK);
        if length > 0 && !selective {
            let had_holes = self.inbox.has_holes();
            let first = !std::mem::replace(&mut self.has_received, true);
            let large = length as u64 * 4 >= self.inbox.capacity();
            match self.inbox.accept(segment.sequence, &segment.payload) {
                Arrival::InOrder => {
                    self.events.on_data();
                    self.acknowledgement
                        .on_data(first, large, self.config.ack_delay, now);
                    self.acknowledgement.due |= had_holes;
                }
                Arrival::OutOfOrder => self.acknowledgement.on_hole(self.options.sack),
                Arrival::Useless => self.acknowledgement.due = true,
            }
        } else if segment.sequence < self.inbox.next() {
            // A probe: libjingle and libnice ask for the window with an empty segment of the last sequence number.
            self.acknowledgement.due |= !selective;
        }
        if segment.has(FLAG_FIN) && self.options.fin {
            self.inbox.accept_fin(segment.sequence + length as u64);
            self.acknowledgement.due = true;
        }
        if self.inbox.is_finished() {
            self.events.on_peer_closed();
        }
    }

    /// In CLOSED: who still sends to an aborted stream did not get our reset.
    fn on_late(&mut self, header: &Header) {
        if self.error == Some(Error::Aborted) && header.flags & FLAG_RST == 0 {
            self.reset_due = true;
        }
    }

    /// Position of the first data byte.
    pub(super) fn queue_start(&self) -> u64 {
        self.start + self.connect.len() as u64
    }
}
