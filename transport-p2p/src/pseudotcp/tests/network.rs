//! Two ends, the links between them and their applications, in virtual time.

use crate::pseudotcp::{Config, Error, Event, PseudoTcp, State};
use bytes::Bytes;
use session_core::Batch;
use session_core::testing::epoch;
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// Random numbers that a seed decides (xorshift64*).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit.max(1)
    }

    fn permille(&mut self, chance: u32) -> bool {
        self.below(1000) < u64::from(chance)
    }
}

/// One direction of the path.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) delay: Duration,
    pub(super) jitter: Duration,
    /// Chances in a thousand.
    pub(super) loss: u32,
    pub(super) duplicate: u32,
    /// Bytes per second, and how many bytes may wait.
    pub(super) rate: Option<(u64, u64)>,
    /// Batches arrive as they were sent, unless something happens to one of their segments.
    pub(super) offload: bool,
    /// Larger datagrams are refused.
    pub(super) mtu: usize,
    /// How many of the next datagrams arrive before `drop` of them are lost.
    pub(super) skip: u32,
    pub(super) drop: u32,
    /// When the link is free again.
    pub(super) busy: Option<Instant>,
}

impl Default for Link {
    fn default() -> Self {
        Self {
            delay: Duration::from_millis(10),
            jitter: Duration::ZERO,
            loss: 0,
            duplicate: 0,
            rate: None,
            offload: false,
            mtu: 65_507,
            skip: 0,
            drop: 0,
            busy: None,
        }
    }
}

impl Link {
    fn is_plain(&self) -> bool {
        self.loss == 0
            && self.drop == 0
            && self.duplicate == 0
            && self.jitter.is_zero()
            && self.rate.is_none()
    }

    /// When a datagram that is sent now arrives; `None` if the buffer is full.
    fn arrival(&mut self, size: usize, now: Instant, random: &mut Random) -> Option<Instant> {
        let mut leaves = now;
        if let Some((rate, buffer)) = self.rate {
            let size = size as u64 + 28;
            let start = self.busy.map_or(now, |busy| busy.max(now));
            let queued = (start - now).as_nanos() as u64 * rate / 1_000_000_000;
            if queued + size > buffer {
                return None;
            }
            leaves = start + Duration::from_nanos(size * 1_000_000_000 / rate);
            self.busy = Some(leaves);
        }
        let jitter = Duration::from_micros(random.below(self.jitter.as_micros() as u64 + 1));
        Some(leaves + self.delay + jitter)
    }
}

/// An application: writes `data`, reads everything, closes when told to.
#[derive(Debug, Default)]
pub(super) struct App {
    pub(super) data: Vec<u8>,
    pub(super) written: usize,
    /// Most bytes of one write; 0 means 64 KiB.
    pub(super) chunk: usize,
    /// Reads nothing while this is in the future.
    pub(super) reads_after: Option<Instant>,
    /// Pause after each slice that was read.
    pub(super) read_pause: Duration,
    pub(super) received: Vec<u8>,
    pub(super) close: bool,
    pub(super) opened: bool,
    pub(super) peer_closed: bool,
    pub(super) closed: Option<Option<Error>>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Flying {
    at: Instant,
    order: u64,
    to: usize,
    payload: Bytes,
    segment_size: usize,
}

/// The whole world of a test.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) ends: [PseudoTcp; 2],
    pub(super) apps: [App; 2],
    /// `links[n]` carries what `ends[n]` sends.
    pub(super) links: [Link; 2],
    pub(super) random: Random,
    pub(super) batch: usize,
    flying: BinaryHeap<Reverse<Flying>>,
    order: u64,
    pub(super) dropped: u64,
}

impl World {
    pub(super) fn new(configs: [Config; 2], links: [Link; 2], seed: u64) -> Self {
        Self::with_starts(configs, [0, 0], links, seed)
    }

    pub(super) fn with_starts(
        configs: [Config; 2],
        starts: [u32; 2],
        links: [Link; 2],
        seed: u64,
    ) -> Self {
        let now = epoch();
        let [a, b] = configs;
        let mut caller = PseudoTcp::with_start(a, starts[0], now);
        let callee = PseudoTcp::with_start(b, starts[1], now);
        caller.connect(now).unwrap();
        Self {
            now,
            start: now,
            ends: [caller, callee],
            apps: Default::default(),
            links,
            random: Random::new(seed),
            batch: 64,
            flying: BinaryHeap::new(),
            order: 0,
            dropped: 0,
        }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Runs until `done` or until nothing is pending; `false` after `limit` of virtual time.
    pub(super) fn run(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let deadline = self.now + limit;
        loop {
            self.pump();
            if done(self) {
                return true;
            }
            let flying = self.flying.peek().map(|Reverse(first)| first.at);
            let timers = self.ends.iter().map(PseudoTcp::poll_timeout);
            let apps = self.apps.iter().map(|app| app.reads_after);
            let Some(next) = timers.chain(apps).chain([flying]).flatten().min() else {
                return true;
            };
            if next > deadline {
                return false;
            }
            self.now = self.now.max(next);
            self.deliver();
            for end in 0..2 {
                self.ends[end].handle_timeout(self.now);
                if self.apps[end].reads_after.is_some_and(|at| at <= self.now) {
                    self.apps[end].reads_after = None;
                }
            }
        }
    }

    /// Puts a datagram on the way to an end.
    pub(super) fn inject(&mut self, to: usize, payload: Bytes, at: Instant) {
        let segment_size = payload.len();
        self.fly(to, payload, segment_size, at);
    }

    fn deliver(&mut self) {
        while self
            .flying
            .peek()
            .is_some_and(|Reverse(first)| first.at <= self.now)
        {
            let Some(Reverse(datagram)) = self.flying.pop() else {
                return;
            };
            let end = &mut self.ends[datagram.to];
            if datagram.order % 2 == 0 || datagram.payload.len() > datagram.segment_size {
                end.handle_batch(datagram.payload, datagram.segment_size, self.now);
            } else {
                end.handle_segment(&datagram.payload, self.now);
            }
        }
    }

    /// Lets the applications and the ends do what they can at this instant.
    fn pump(&mut self) {
        loop {
            let mut busy = false;
            for end in 0..2 {
                busy |= self.pump_app(end);
                while let Some(batch) = self.ends[end].poll_transmit(self.now, self.batch) {
                    self.transmit(end, &batch);
                    busy = true;
                }
            }
            if !busy {
                return;
            }
        }
    }

    fn pump_app(&mut self, index: usize) -> bool {
        let (end, app) = (&mut self.ends[index], &mut self.apps[index]);
        let mut busy = false;
        while let Some(event) = end.poll_event() {
            busy = true;
            match event {
                Event::Open => app.opened = true,
                Event::Readable | Event::Writable => {}
                Event::PeerClosed => app.peer_closed = true,
                Event::Closed(error) => {
                    assert_eq!(app.closed, None, "told twice");
                    app.closed = Some(error);
                }
            }
        }
        while app.written < app.data.len() {
            let rest = &app.data[app.written..];
            let most = if app.chunk == 0 { 64 * 1024 } else { app.chunk };
            let part = &rest[..rest.len().min(most)];
            let accepted = if app.written % 3 == 0 {
                end.write(part, self.now)
            } else {
                end.send(&mut Bytes::copy_from_slice(part), self.now)
            };
            let Ok(accepted @ 1..) = accepted else { break };
            app.written += accepted;
            busy = true;
        }
        if app.close && app.written == app.data.len() && app.opened {
            app.close = false;
            end.close(self.now);
            busy = true;
        }
        while app.reads_after.is_none() {
            let Some(bytes) = end.read(self.now) else {
                break;
            };
            busy = true;
            app.received.extend_from_slice(&bytes);
            if !app.read_pause.is_zero() {
                app.reads_after = Some(self.now + app.read_pause);
            }
        }
        busy
    }

    fn transmit(&mut self, from: usize, batch: &Batch) {
        assert!(batch.segment_size > 0 && !batch.payload.is_empty());
        assert!(batch.segment_size <= batch.payload.len());
        assert!(batch.len() <= self.batch);
        let mut link = self.links[from];
        if batch.segment_size > link.mtu {
            self.ends[from].handle_too_large(self.now);
            return;
        }
        if link.offload && link.is_plain() {
            let at = self.now + link.delay;
            self.fly(1 - from, batch.payload.clone(), batch.segment_size, at);
            return;
        }
        for segment in batch.clone() {
            if link.skip > 0 {
                link.skip -= 1;
            } else if link.drop > 0 {
                link.drop -= 1;
                self.dropped += 1;
                continue;
            }
            let copies = 1 + u64::from(self.random.permille(link.duplicate));
            for _ in 0..copies {
                let arrival = link.arrival(segment.len(), self.now, &mut self.random);
                match arrival.filter(|_| !self.random.permille(link.loss)) {
                    Some(at) => self.inject(1 - from, segment.clone(), at),
                    None => self.dropped += 1,
                }
            }
        }
        self.links[from] = link;
    }

    fn fly(&mut self, to: usize, payload: Bytes, segment_size: usize, at: Instant) {
        self.order += 1;
        self.flying.push(Reverse(Flying {
            at,
            order: self.order,
            to,
            payload,
            segment_size,
        }));
    }

    pub(super) fn states(&self) -> [State; 2] {
        [self.ends[0].state(), self.ends[1].state()]
    }
}

/// Bytes in which a shift, a loss or a repetition shows.
pub(super) fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    let mut data = Vec::with_capacity(length + 8);
    while data.len() < length {
        data.extend(random.next().to_le_bytes());
    }
    data.truncate(length);
    data
}
