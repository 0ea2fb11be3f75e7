//! Streams that begin anew (RFC 6525), as data channels are closed by (RFC 8831 §6.7).

use super::{
    Association, Event, MAX_EVENTS, State,
    wire::{self, kind, parameter},
};
use crate::pseudotcp::ranges::expand;
use bytes::BufMut;
use session_core::Batch;
use std::{
    collections::{BTreeSet, VecDeque},
    time::Instant,
};

/// Most streams in one request, so that it fits into any packet.
const MAX_STREAMS: usize = 200;
/// Most requests of the peer that wait for data.
const MAX_DEFERRED: usize = 16;

/// Results (RFC 6525 §4.4).
const NOTHING: u32 = 0;
const PERFORMED: u32 = 1;
const DENIED: u32 = 2;
const BAD_NUMBER: u32 = 5;
const IN_PROGRESS: u32 = 6;

/// A request of ours that is not answered.
#[derive(Debug)]
struct Request {
    number: u32,
    /// The last chunk before it. A repetition says the same, whatever was sent since (RFC 6525 §4.1).
    last: u32,
    streams: Vec<u16>,
    due: bool,
}

/// A request of the peer's that waits until its data is here.
#[derive(Debug)]
struct Deferred {
    number: u32,
    last: u64,
    streams: Vec<u16>,
}

#[derive(Debug)]
pub(super) struct Resets {
    wanted: BTreeSet<u16>,
    request: Option<Request>,
    /// How often it was asked again without a word in answer.
    tries: u32,
    next: u32,
    /// Number of the peer's next request, and what the last one was answered.
    expected: u32,
    answered: Option<u32>,
    deferred: VecDeque<Deferred>,
}

impl Resets {
    pub(super) fn new(first: u32) -> Self {
        Self {
            wanted: BTreeSet::new(),
            request: None,
            tries: 0,
            next: first,
            expected: 0,
            answered: None,
            deferred: VecDeque::new(),
        }
    }

    /// The peer's requests are numbered from its first chunk on.
    pub(super) fn begin(&mut self, first: u32) {
        self.expected = first;
    }

    pub(super) fn want(&mut self, stream: u16) {
        self.wanted.insert(stream);
    }

    /// Whether a stream is being reset.
    pub(super) fn holds(&self, stream: u16) -> bool {
        let asked = self
            .request
            .as_ref()
            .is_some_and(|request| request.streams.contains(&stream));
        asked || self.wanted.contains(&stream)
    }

    /// Asks again. Returns how often that makes.
    pub(super) fn repeat(&mut self) -> u32 {
        if let Some(request) = &mut self.request {
            request.due = true;
            self.tries += 1;
        }
        self.tries
    }

    /// The path may be another: asks again as if for the first time.
    pub(super) fn begin_anew(&mut self) {
        self.repeat();
        self.tries = 0;
    }
}

impl Association {
    /// The request that is due, when everything of its streams is acknowledged.
    pub(super) fn poll_reset(&mut self, now: Instant) -> Option<Batch> {
        if self.resets.request.is_none()
            && !self.resets.wanted.is_empty()
            && self.state == State::Established
        {
            let idle =
                |stream: &&u16| self.outbound.is_idle(**stream) && self.flight.is_idle(**stream);
            let streams: Vec<u16> = self
                .resets
                .wanted
                .iter()
                .filter(idle)
                .take(MAX_STREAMS)
                .copied()
                .collect();
            if streams.is_empty() {
                return None;
            }
            streams.iter().for_each(|stream| {
                self.resets.wanted.remove(stream);
            });
            if !self.features.reset {
                self.events.push_back(Event::OutgoingReset(streams, false));
                return None;
            }
            self.resets.request = Some(Request {
                number: self.resets.next,
                last: (self.flight.next() - 1) as u32,
                streams,
                due: true,
            });
            self.resets.tries = 0;
            self.resets.next = self.resets.next.wrapping_add(1);
        }
        let answered = self.resets.expected.wrapping_sub(1);
        let request = self.resets.request.as_mut().filter(|request| request.due)?;
        request.due = false;
        let mut value = Vec::with_capacity(12 + request.streams.len() * 2);
        value.put_u32(request.number);
        value.put_u32(answered);
        value.put_u32(request.last);
        request
            .streams
            .iter()
            .for_each(|stream| value.put_u16(*stream));
        self.timers.reset = Some(now + self.rto_after(self.resets.tries));
        Some(self.packet(true, |_, buffer| {
            wire::put_chunk(buffer, kind::RE_CONFIG, 0, |buffer| {
                wire::put_parameter(buffer, parameter::OUTGOING_RESET, &value);
            });
        }))
    }

    pub(super) fn on_reconfig(&mut self, value: &[u8], _now: Instant) -> bool {
        if !self.is_open() {
            return true;
        }
        for (kind, value) in wire::parameters(value).take(2) {
            match kind {
                parameter::OUTGOING_RESET => self.on_outgoing_reset(value),
                parameter::RESET_RESPONSE => self.on_response(value),
                parameter::INCOMING_RESET
                | parameter::TSN_RESET
                | parameter::ADD_OUTGOING
                | parameter::ADD_INCOMING => {
                    // RFC 8831 §6.2 asks for the outgoing reset alone.
                    if let Some(number) = wire::u32_at(value, 0) {
                        self.answer(number, DENIED);
                    }
                }
                _ => {}
            }
        }
        true
    }

    /// The peer begins streams anew: now, or when what it had sent on them is here.
    fn on_outgoing_reset(&mut self, value: &[u8]) {
        let (Some(number), Some(last)) = (wire::u32_at(value, 0), wire::u32_at(value, 8)) else {
            return;
        };
        let streams = value.get(12..).unwrap_or_default().chunks_exact(2);
        let streams: Vec<u16> = streams
            .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
            .collect();
        let last = expand(self.inbound.next(), last);
        if number == self.resets.expected.wrapping_sub(1)
            && let Some(result) = self.resets.answered
        {
            // Our answer was lost, or it asks again.
            let mut deferred = self.resets.deferred.iter();
            let waits = deferred.any(|deferred| deferred.number == number);
            let result = if result == IN_PROGRESS && !waits {
                PERFORMED
            } else {
                result
            };
            self.answer_again(number, result);
            return;
        }
        if number != self.resets.expected {
            self.answer_again(number, BAD_NUMBER);
            return;
        }
        let done = last < self.inbound.next();
        let result = if self.events.len() >= MAX_EVENTS
            || !done && self.resets.deferred.len() >= MAX_DEFERRED
        {
            DENIED
        } else if done {
            self.perform_reset(streams);
            PERFORMED
        } else {
            let deferred = Deferred {
                number,
                last,
                streams,
            };
            self.resets.deferred.push_back(deferred);
            IN_PROGRESS
        };
        self.answer(number, result);
    }

    fn perform_reset(&mut self, streams: Vec<u16>) {
        self.inbound.reset(&streams);
        self.events.push_back(Event::IncomingReset(streams));
    }

    /// Performs the resets whose data has arrived.
    pub(super) fn try_deferred_resets(&mut self) {
        while let Some(deferred) = self.resets.deferred.front()
            && deferred.last < self.inbound.next()
            && let Some(deferred) = self.resets.deferred.pop_front()
        {
            self.perform_reset(deferred.streams);
        }
    }

    fn answer(&mut self, number: u32, result: u32) {
        if number == self.resets.expected {
            self.resets.expected = number.wrapping_add(1);
            self.resets.answered = Some(result);
        }
        self.answer_again(number, result);
    }

    fn answer_again(&mut self, number: u32, result: u32) {
        let mut value = [0; 8];
        value[..4].copy_from_slice(&number.to_be_bytes());
        value[4..].copy_from_slice(&result.to_be_bytes());
        self.reply(kind::RE_CONFIG, |buffer| {
            wire::put_parameter(buffer, parameter::RESET_RESPONSE, &value);
        });
    }

    fn on_response(&mut self, value: &[u8]) {
        let (Some(number), Some(result)) = (wire::u32_at(value, 0), wire::u32_at(value, 4)) else {
            return;
        };
        let asked = self.resets.request.as_ref();
        if asked.is_some_and(|request| request.number == number) {
            self.resets.tries = 0;
        }
        // Still in progress: asked again when the timer runs out.
        let answers = |request: &mut Request| request.number == number && result != IN_PROGRESS;
        let Some(request) = self.resets.request.take_if(answers) else {
            return;
        };
        self.timers.reset = None;
        let done = matches!(result, NOTHING | PERFORMED);
        if done {
            request
                .streams
                .iter()
                .for_each(|stream| self.outbound.reset(*stream));
        }
        self.events
            .push_back(Event::OutgoingReset(request.streams, done));
    }
}
