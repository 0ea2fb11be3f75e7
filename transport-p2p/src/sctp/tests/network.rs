//! A network that has a rate, delays, loses, doubles and reorders, between two associations.

use super::super::{Association, Config, Delivery, Event, State};
use bytes::Bytes;
use session_core::testing::epoch;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    /// Bytes a second; 0 is without limit.
    pub(super) rate: f64,
    /// One way.
    pub(super) delay: Duration,
    /// Bytes that may wait.
    pub(super) buffer: u64,
    /// Bytes of the largest packet that it carries.
    pub(super) mtu: usize,
    pub(super) loss: f64,
    pub(super) double: f64,
    /// Of a packet to be late by up to a delay.
    pub(super) reorder: f64,
    pub(super) seed: u64,
}

impl Path {
    pub(super) fn clean() -> Self {
        Self {
            rate: 0.0,
            delay: Duration::from_millis(25),
            buffer: u64::MAX,
            mtu: 1_450,
            loss: 0.0,
            double: 0.0,
            reorder: 0.0,
            seed: 1,
        }
    }

    /// 100 Mbit/s, 50 ms, and a buffer of one product of both.
    pub(super) fn usual(loss: f64) -> Self {
        Self {
            rate: 12.5e6,
            buffer: 625_000,
            loss,
            ..Self::clean()
        }
    }
}

pub(super) struct World {
    pub(super) ends: [Association; 2],
    pub(super) path: Path,
    pub(super) now: Instant,
    pub(super) events: [Vec<Event>; 2],
    wire: BinaryHeap<Reverse<(Instant, u64, usize, Bytes)>>,
    count: u64,
    free_at: [Instant; 2],
    random: u64,
    /// Packets and bytes that have left each end.
    pub(super) sent: [u64; 2],
    pub(super) bytes: [u64; 2],
    /// The largest of them.
    pub(super) largest: [usize; 2],
    /// Longest wait in the buffer.
    pub(super) worst_queue: Duration,
}

impl World {
    pub(super) fn new(path: Path, configs: [Config; 2]) -> Self {
        let now = epoch();
        let [a, b] = configs;
        Self {
            ends: [
                Association::new(a, [1; 32], now),
                Association::new(b, [2; 32], now),
            ],
            path,
            now,
            events: [Vec::new(), Vec::new()],
            wire: BinaryHeap::new(),
            count: 0,
            free_at: [now; 2],
            random: path.seed,
            sent: [0; 2],
            bytes: [0; 2],
            largest: [0; 2],
            worst_queue: Duration::ZERO,
        }
    }

    /// Two ends that are open.
    pub(super) fn open(path: Path, configs: [Config; 2]) -> Self {
        let mut world = Self::new(path, configs);
        let now = world.now;
        world.ends.iter_mut().for_each(|end| end.connect(now));
        let open = world.run_until(Duration::from_secs(600), |world| {
            world
                .ends
                .iter()
                .all(|end| end.state() == State::Established)
        });
        assert!(open, "not open");
        world
    }

    pub(super) fn chance(&mut self) -> f64 {
        // SplitMix64.
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn send(&mut self, end: usize, stream: u16, payload: impl Into<Bytes>) {
        let now = self.now;
        self.ends[end]
            .send(stream, 53, payload.into(), &Delivery::default(), now)
            .expect("room");
    }

    /// Sends what the ends want to send.
    pub(super) fn drain(&mut self) {
        for end in 0..2 {
            while let Some(batch) = self.ends[end].poll_transmit(self.now, 64) {
                assert!(batch.payload.len() <= super::super::MAX_BATCH_BYTES);
                for packet in batch {
                    self.carry(end, packet);
                }
            }
            while let Some(event) = self.ends[end].poll_event() {
                self.events[end].push(event);
            }
        }
    }

    fn carry(&mut self, from: usize, packet: Bytes) {
        self.sent[from] += 1;
        self.bytes[from] += packet.len() as u64;
        self.largest[from] = self.largest[from].max(packet.len());
        if self.chance() < self.path.loss || packet.len() > self.path.mtu {
            return;
        }
        let mut at = self.now;
        if self.path.rate > 0.0 {
            let waiting = self.free_at[from].saturating_duration_since(self.now);
            let waits = waiting.as_secs_f64() * self.path.rate + packet.len() as f64;
            if waits > self.path.buffer as f64 {
                return;
            }
            self.worst_queue = self.worst_queue.max(waiting);
            // What IP and UDP and DTLS take of the link.
            let time = Duration::from_secs_f64((packet.len() + 65) as f64 / self.path.rate);
            self.free_at[from] = self.free_at[from].max(self.now) + time;
            at = self.free_at[from];
        }
        at += self.path.delay;
        if self.chance() < self.path.reorder {
            at += self.path.delay.mul_f64(self.chance());
        }
        if self.chance() < self.path.double {
            self.push(at + self.path.delay, 1 - from, packet.clone());
        }
        self.push(at, 1 - from, packet);
    }

    fn push(&mut self, at: Instant, to: usize, packet: Bytes) {
        self.count += 1;
        self.wire.push(Reverse((at, self.count, to, packet)));
    }

    /// Advances to the next thing that happens; `false` if nothing is to come.
    pub(super) fn step(&mut self) -> bool {
        self.drain();
        let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
        let deadlines = self.ends.iter().filter_map(Association::poll_timeout);
        let Some(next) = deadlines.chain(arrival).min() else {
            return false;
        };
        self.now = self.now.max(next);
        while let Some(Reverse((at, ..))) = self.wire.peek()
            && *at <= self.now
            && let Some(Reverse((_, _, to, packet))) = self.wire.pop()
        {
            self.ends[to].handle_packet(&packet, self.now);
        }
        for end in &mut self.ends {
            end.handle_timeout(self.now);
        }
        self.drain();
        true
    }

    /// Whether `done` became true within a time.
    pub(super) fn run_until(
        &mut self,
        most: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let end = self.now + most;
        while !done(self) {
            if self.now > end || !self.step() {
                return done(self);
            }
        }
        true
    }

    /// Lets `duration` pass.
    pub(super) fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        loop {
            self.drain();
            let arrival = self.wire.peek().map(|Reverse((at, ..))| *at);
            let deadlines = self.ends.iter().filter_map(Association::poll_timeout);
            match deadlines.chain(arrival).min() {
                Some(next) if next <= end => self.step(),
                Some(_) | None => break,
            };
        }
        self.now = end;
    }
}

/// How fast bytes of end 0 arrive at end 1 that always has more to send, after `warm` seconds for `seconds`: bytes a
/// second, and what was lost and repeated.
pub(super) fn throughput(path: Path, config: Config, warm: u64, seconds: u64) -> (f64, World) {
    let mut world = World::open(path, [config.clone(), config]);
    let message = Bytes::from(vec![7; 64 * 1024]);
    let mut received = 0u64;
    let mut pump = |world: &mut World| {
        while world.ends[0].buffered() < 6 << 20 {
            world.send(0, 1, message.clone());
        }
        while let Some(message) = world.ends[1].read(world.now) {
            received += message.payload.len() as u64;
        }
        received
    };
    let start = world.now + Duration::from_secs(warm);
    world.run_until(Duration::from_secs(1000), |world| {
        pump(world);
        world.now >= start
    });
    let before = pump(&mut world);
    let end = start + Duration::from_secs(seconds);
    world.run_until(Duration::from_secs(1000), |world| {
        pump(world);
        world.now >= end
    });
    let after = pump(&mut world);
    ((after - before) as f64 / seconds as f64, world)
}
