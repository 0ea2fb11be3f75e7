//! What waits to be sent: messages of streams, cut into fragments when they leave.

use super::{Delivery, wire};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

/// A fragment shorter than this is not worth a chunk of its own if the message goes on.
const LEAST_FRAGMENT: usize = 256;

/// When a message is given up (RFC 3758).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    Never,
    /// After so many repetitions.
    Repeated(u16),
    At(Instant),
}

#[derive(Debug)]
struct Message {
    serial: u64,
    protocol: u32,
    rest: Bytes,
    unordered: bool,
    limit: Limit,
    /// Its number in the stream and the number of its next fragment, once it has begun.
    begun: Option<(u32, u32)>,
}

#[derive(Debug, Default)]
struct Stream {
    queue: VecDeque<Message>,
    next_ordered: u32,
    next_unordered: u32,
}

/// A fragment that leaves.
#[derive(Debug)]
pub(super) struct Fragment {
    pub(super) message: u64,
    pub(super) stream: u16,
    pub(super) flags: u8,
    pub(super) protocol: u32,
    /// Stream sequence number, or message identifier.
    pub(super) number: u32,
    pub(super) index: u32,
    pub(super) payload: Bytes,
    pub(super) limit: Limit,
}

#[derive(Debug, Default)]
pub(super) struct Outbound {
    streams: BTreeMap<u16, Stream>,
    /// Streams with messages, the one whose turn it is first.
    turns: VecDeque<u16>,
    queued: u64,
    serial: u64,
}

impl Outbound {
    /// Bytes that wait.
    pub(super) fn queued(&self) -> u64 {
        self.queued
    }

    pub(super) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Whether a stream has nothing that waits.
    pub(super) fn is_idle(&self, stream: u16) -> bool {
        self.streams
            .get(&stream)
            .is_none_or(|stream| stream.queue.is_empty())
    }

    pub(super) fn push(
        &mut self,
        stream: u16,
        protocol: u32,
        payload: Bytes,
        delivery: &Delivery,
        now: Instant,
    ) {
        self.serial += 1;
        self.queued += payload.len() as u64;
        let limit = match (delivery.max_retransmits, delivery.lifetime) {
            (Some(times), _) => Limit::Repeated(times),
            (None, Some(lifetime)) => Limit::At(now + lifetime),
            (None, None) => Limit::Never,
        };
        let queue = &mut self.streams.entry(stream).or_default().queue;
        if queue.is_empty() {
            self.turns.push_back(stream);
        }
        queue.push_back(Message {
            serial: self.serial,
            protocol,
            rest: payload,
            unordered: delivery.unordered,
            limit,
            begun: None,
        });
    }

    /// Cuts the next fragment, of at most `room` bytes; with `interleave` the streams take turns with each.
    pub(super) fn next(&mut self, room: usize, interleave: bool, now: Instant) -> Option<Fragment> {
        self.drop_expired(now);
        let id = *self.turns.front()?;
        let stream = self.streams.get_mut(&id)?;
        let message = stream.queue.front_mut()?;
        let length = message.rest.len().min(room);
        if length == 0 || length < message.rest.len() && length < LEAST_FRAGMENT {
            return None;
        }
        let mut flags = if message.unordered {
            wire::UNORDERED
        } else {
            0
        };
        let (number, index) = message.begun.unwrap_or_else(|| {
            flags |= wire::BEGIN;
            let next = if message.unordered {
                &mut stream.next_unordered
            } else {
                &mut stream.next_ordered
            };
            let number = *next;
            *next = next.wrapping_add(1);
            (number, 0)
        });
        message.begun = Some((number, index.wrapping_add(1)));
        self.queued -= length as u64;
        let payload = message.rest.split_to(length);
        let done = message.rest.is_empty();
        if done {
            flags |= wire::END;
        }
        let fragment = Fragment {
            message: message.serial,
            stream: id,
            flags,
            protocol: message.protocol,
            number,
            index,
            payload,
            limit: message.limit,
        };
        if done {
            stream.queue.pop_front();
        }
        if stream.queue.is_empty() {
            self.turns.pop_front();
        } else if done || interleave {
            self.turns.rotate_left(1);
        }
        Some(fragment)
    }

    /// Forgets what is left of a message that is given up. Returns whether there was something.
    pub(super) fn abandon(&mut self, stream: u16, message: u64) -> bool {
        let Some(queue) = self
            .streams
            .get_mut(&stream)
            .map(|stream| &mut stream.queue)
        else {
            return false;
        };
        // Only the first of a stream can have begun.
        let begun = queue.front().is_some_and(|first| first.serial == message);
        let Some(first) = begun.then(|| queue.pop_front()).flatten() else {
            return false;
        };
        self.queued -= first.rest.len() as u64;
        if queue.is_empty() {
            self.turns.retain(|turn| *turn != stream);
        }
        true
    }

    /// The stream begins anew (RFC 6525).
    pub(super) fn reset(&mut self, stream: u16) {
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.next_ordered = 0;
            stream.next_unordered = 0;
        }
    }

    pub(super) fn clear(&mut self) {
        self.streams.clear();
        self.turns.clear();
        self.queued = 0;
    }

    /// Messages whose time is over before they have begun.
    fn drop_expired(&mut self, now: Instant) {
        while let Some(&id) = self.turns.front() {
            let Some(stream) = self.streams.get_mut(&id) else {
                return;
            };
            let expired = stream.queue.front().is_some_and(|message| {
                message.begun.is_none() && matches!(message.limit, Limit::At(at) if at <= now)
            });
            if !expired {
                return;
            }
            if let Some(message) = stream.queue.pop_front() {
                self.queued -= message.rest.len() as u64;
            }
            if stream.queue.is_empty() {
                self.turns.pop_front();
            }
        }
    }
}
