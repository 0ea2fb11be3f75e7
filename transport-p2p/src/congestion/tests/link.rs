//! A simulated bottleneck: one link with a rate, a delay, a drop-tail buffer and random loss; any number of senders.

use super::super::{Ack, Congestion, Loss, Pacer};
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque},
    time::{Duration, Instant},
};

pub(super) const PACKET: u64 = 1250;

#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    /// Bytes a second.
    pub(super) rate: f64,
    /// There and back.
    pub(super) round_trip: Duration,
    /// Bytes that may wait.
    pub(super) buffer: u64,
    /// Of a packet to be lost at random.
    pub(super) loss: f64,
    pub(super) seed: u64,
}

impl Link {
    /// 100 Mbit/s, 50 ms, and a buffer of one product of both.
    pub(super) fn usual() -> Self {
        Self {
            rate: 12.5e6,
            round_trip: Duration::from_millis(50),
            buffer: 625_000,
            loss: 0.0,
            seed: 7,
        }
    }
}

struct Packet {
    number: u64,
    sent: Instant,
}

/// A sender that always has data.
pub(super) struct Flow {
    controller: Box<dyn Congestion>,
    pacer: Pacer,
    begins: Instant,
    outstanding: VecDeque<Packet>,
    next: u64,
    wake: Option<Instant>,
    pub(super) delivered: u64,
    pub(super) sent: u64,
    pub(super) lost: u64,
    /// Most and all of the time that packets waited, and how many.
    pub(super) worst_queue: Duration,
    queued: Duration,
    packets: u32,
}

impl Flow {
    pub(super) fn new(controller: Box<dyn Congestion>, begins: Instant) -> Self {
        Self {
            controller,
            pacer: Pacer::new(PACKET, begins),
            begins,
            outstanding: VecDeque::new(),
            next: 0,
            wake: None,
            delivered: 0,
            sent: 0,
            lost: 0,
            worst_queue: Duration::ZERO,
            queued: Duration::ZERO,
            packets: 0,
        }
    }

    pub(super) fn mean_queue(&self) -> Duration {
        self.queued / self.packets.max(1)
    }

    /// Counts from here on.
    pub(super) fn reset(&mut self) {
        (self.delivered, self.sent, self.lost) = (0, 0, 0);
        (self.worst_queue, self.queued, self.packets) = (Duration::ZERO, Duration::ZERO, 0);
    }

    fn in_flight(&self) -> u64 {
        self.outstanding.len() as u64 * PACKET
    }

    /// An acknowledgement: a link without reordering, so everything older that is missing is lost.
    fn on_ack(&mut self, number: u64, now: Instant) {
        let mut lost = None;
        let mut count = 0;
        while let Some(front) = self.outstanding.front()
            && front.number < number
        {
            lost = Some(front.sent);
            count += 1;
            self.outstanding.pop_front();
        }
        let acked = self.outstanding.pop_front().expect("acknowledged once");
        let in_flight = self.in_flight();
        if let Some(sent) = lost {
            self.lost += count * PACKET;
            let bytes = count * PACKET;
            self.controller.on_loss(&Loss {
                now,
                sent,
                bytes,
                in_flight,
            });
        }
        self.delivered += PACKET;
        self.controller.on_ack(&Ack {
            now,
            sent: acked.sent,
            bytes: PACKET,
            rtt: Some(now - acked.sent),
            in_flight,
        });
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ack { flow: usize, number: u64 },
    Wake { flow: usize },
}

pub(super) struct World {
    pub(super) link: Link,
    pub(super) now: Instant,
    pub(super) flows: Vec<Flow>,
    events: BinaryHeap<Reverse<(Instant, u64, Event)>>,
    count: u64,
    /// When the link has carried all that waits.
    free_at: Instant,
    random: u64,
}

impl World {
    pub(super) fn new(link: Link, flows: Vec<Flow>, now: Instant) -> Self {
        let mut world = Self {
            link,
            now,
            events: BinaryHeap::new(),
            count: 0,
            free_at: now,
            random: link.seed,
            flows,
        };
        for flow in 0..world.flows.len() {
            let at = world.flows[flow].begins;
            world.push(at, Event::Wake { flow });
        }
        world
    }

    fn push(&mut self, at: Instant, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    fn chance(&mut self) -> f64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn run(&mut self, until: Instant) {
        while let Some(Reverse((at, _, _))) = self.events.peek()
            && *at <= until
        {
            let Some(Reverse((at, _, event))) = self.events.pop() else {
                break;
            };
            self.now = at;
            match event {
                Event::Ack { flow, number } => {
                    self.flows[flow].on_ack(number, at);
                    self.send(flow);
                }
                Event::Wake { flow } => {
                    if self.flows[flow].wake.is_some_and(|wake| wake <= at) {
                        self.flows[flow].wake = None;
                    }
                    self.send(flow);
                }
            }
        }
        self.now = until;
    }

    fn send(&mut self, index: usize) {
        let now = self.now;
        loop {
            let flow = &mut self.flows[index];
            let rate = flow.controller.pacing_rate();
            if flow.in_flight() + PACKET > flow.controller.window() {
                if flow.outstanding.is_empty() {
                    flow.controller.on_timeout(now);
                }
                return;
            }
            if flow.pacer.budget(rate, now) < PACKET {
                if flow.wake.is_none()
                    && let Some(at) = flow.pacer.next(rate)
                {
                    flow.wake = Some(at);
                    self.push(at, Event::Wake { flow: index });
                }
                return;
            }
            flow.pacer.on_sent(PACKET);
            let number = flow.next;
            flow.next += 1;
            flow.sent += PACKET;
            flow.outstanding.push_back(Packet { number, sent: now });
            let in_flight = flow.in_flight();
            flow.controller.on_sent(now, PACKET, in_flight);
            self.carry(index, number);
        }
    }

    fn carry(&mut self, flow: usize, number: u64) {
        let waiting = self.free_at.saturating_duration_since(self.now);
        let full = waiting.as_secs_f64() * self.link.rate + PACKET as f64 > self.link.buffer as f64;
        let unlucky = self.chance() < self.link.loss;
        if full || unlucky {
            return;
        }
        let sender = &mut self.flows[flow];
        sender.worst_queue = sender.worst_queue.max(waiting);
        sender.queued += waiting;
        sender.packets += 1;
        let time = Duration::from_secs_f64(PACKET as f64 / self.link.rate);
        self.free_at = self.free_at.max(self.now) + time;
        let at = self.free_at + self.link.round_trip;
        self.push(at, Event::Ack { flow, number });
    }
}
