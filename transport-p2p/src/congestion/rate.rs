//! Delivery rate (draft-cheng-iccrg-delivery-rate-estimation), without anything kept for each packet: what was known at
//! a packet's departure is looked up by its time.

use super::Ack;
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Most points of the history. With [`STEPS`] of them a round trip, it reaches back for eight.
const MAX_POINTS: usize = 1024;
const STEPS: u32 = 128;
const LEAST_STEP: Duration = Duration::from_micros(5);

/// What was known at a time.
#[derive(Clone, Copy, Debug)]
struct Point {
    at: Instant,
    delivered: u64,
    /// When the newest packet that had arrived then was sent.
    newest_sent: Instant,
    limited: bool,
}

/// What an acknowledgement says about the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    /// Bytes a second, if the time was long enough to tell.
    pub(super) rate: Option<u64>,
    /// Whether the path could have carried more.
    pub(super) limited: bool,
    /// What had arrived when the packet was sent.
    pub(super) delivered_before: u64,
}

#[derive(Clone, Debug)]
pub(super) struct DeliveryRate {
    delivered: u64,
    newest_sent: Instant,
    /// Until more than this has arrived, samples are of a sender that was limited by something else.
    limited_until: Option<u64>,
    history: VecDeque<Point>,
}

impl DeliveryRate {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            delivered: 0,
            newest_sent: now,
            limited_until: None,
            history: VecDeque::with_capacity(MAX_POINTS),
        }
    }

    pub(super) fn delivered(&self) -> u64 {
        self.delivered
    }

    /// `alone`: nothing else was on its way.
    pub(super) fn on_sent(&mut self, now: Instant, alone: bool) {
        if alone || self.history.is_empty() {
            self.newest_sent = now;
            self.push(now, Duration::ZERO);
        }
    }

    pub(super) fn on_limited(&mut self, in_flight: u64) {
        self.limited_until = Some(self.delivered + in_flight);
        // What has left since the last point counts as well.
        if let Some(last) = self.history.back_mut() {
            last.limited = true;
        }
    }

    pub(super) fn on_ack(&mut self, ack: &Ack, least: Option<Duration>) -> Option<Sample> {
        let at = self.history.partition_point(|point| point.at <= ack.sent);
        let point = at
            .checked_sub(1)
            .and_then(|at| self.history.get(at))
            .copied();
        self.delivered += ack.bytes;
        self.limited_until = self.limited_until.filter(|until| *until >= self.delivered);
        self.newest_sent = self.newest_sent.max(ack.sent);
        self.push(ack.now, least.unwrap_or_default() / STEPS);
        let point = point?;
        let sending = ack.sent.saturating_duration_since(point.newest_sent);
        let arriving = ack.now.saturating_duration_since(point.at);
        let interval = sending.max(arriving);
        let long_enough = interval > Duration::ZERO && least.is_none_or(|least| interval >= least);
        let bytes = self.delivered - point.delivered;
        Some(Sample {
            rate: long_enough.then(|| (bytes as f64 / interval.as_secs_f64()) as u64),
            limited: point.limited,
            delivered_before: point.delivered,
        })
    }

    fn push(&mut self, now: Instant, step: Duration) {
        let point = Point {
            at: now,
            delivered: self.delivered,
            newest_sent: self.newest_sent,
            limited: self.limited_until.is_some(),
        };
        if let Some(last) = self.history.back_mut() {
            if now <= last.at {
                // Of several acknowledgements at one time the last counts.
                *last = Point {
                    at: last.at,
                    ..point
                };
                return;
            }
            if now.saturating_duration_since(last.at) < step.max(LEAST_STEP)
                && step > Duration::ZERO
            {
                return;
            }
        }
        if self.history.len() == MAX_POINTS {
            self.history.pop_front();
        }
        self.history.push_back(point);
    }
}
