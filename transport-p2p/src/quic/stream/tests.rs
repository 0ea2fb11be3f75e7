//! Two ends and a network between them, in virtual time.

mod attacks;
mod link;
mod properties;
mod scenarios;

use super::{Closed, QuicStream};
use crate::quic::{Config, Fingerprint, Identity};
use bytes::{Bytes, BytesMut};
use session_core::{
    Role,
    testing::{Conditions, Netem, epoch},
};
use std::{
    sync::LazyLock,
    time::{Duration, Instant},
};

/// Identities that serve all tests: making one takes longer than using it.
static IDENTITIES: LazyLock<[Identity; 3]> = LazyLock::new(|| [make(), make(), make()]);

const READ_MAX: usize = 64 * 1024;

fn make() -> Identity {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    Identity::new(made.cert.der(), &made.signing_key.serialize_der()).unwrap()
}

/// The bytes of a stream from a position on: none of 251 periods can be mistaken for another.
fn pattern(from: u64, length: usize) -> Bytes {
    (from..from + length as u64)
        .map(|at| (at % 251) as u8)
        .collect()
}

struct End {
    stream: QuicStream,
    /// How much is to be sent, and how much of it was taken.
    to_send: u64,
    taken: u64,
    /// The size of what is sent at once.
    piece: usize,
    received: u64,
    paused: bool,
    finishes: bool,
}

impl End {
    fn new(at: usize, config: Config, trusts: Fingerprint, start: Instant) -> Self {
        let role = [Role::Initiator, Role::Responder][at];
        let identity = &IDENTITIES[at];
        let seed = [at as u8 + 1; 32];
        let stream = QuicStream::new(config, role, identity, trusts, seed, start).unwrap();
        Self {
            stream,
            to_send: 0,
            taken: 0,
            piece: READ_MAX,
            received: 0,
            paused: false,
            finishes: true,
        }
    }

    /// What an application does whenever something happened.
    fn work(&mut self) {
        while self.taken < self.to_send && self.stream.is_writable() {
            let length = (self.to_send - self.taken).min(self.piece as u64) as usize;
            assert!(self.stream.send(pattern(self.taken, length)));
            self.taken += length as u64;
        }
        if self.taken == self.to_send && self.finishes {
            self.stream.finish();
        }
        while !self.paused
            && let Some(bytes) = self.stream.read(READ_MAX)
        {
            assert_eq!(bytes, pattern(self.received, bytes.len()));
            self.received += bytes.len() as u64;
        }
    }
}

struct Pair {
    ends: [End; 2],
    /// From the end with this number.
    wires: [Netem<Bytes>; 2],
    now: Instant,
    start: Instant,
    /// Datagrams in one batch at most.
    batch: usize,
    /// What each datagram has around it on the wire.
    header: usize,
    /// What left, from whom: attackers read it.
    record: Option<Vec<(usize, Bytes)>>,
}

/// For a path that carries no more than Ethernet does.
fn ethernet() -> Config {
    Config {
        datagram_max: 1_452,
        ..Config::default()
    }
}

impl Pair {
    fn new(config: &Config, conditions: &Conditions, seed: u64) -> Self {
        let trusts = [1, 0].map(|other: usize| IDENTITIES[other].fingerprint());
        Self::trusting(config, conditions, seed, trusts)
    }

    fn trusting(
        config: &Config,
        conditions: &Conditions,
        seed: u64,
        trusts: [Fingerprint; 2],
    ) -> Self {
        let start = epoch();
        Self {
            ends: [0, 1].map(|at| End::new(at, config.clone(), trusts[at], start)),
            wires: [0, 1].map(|at| Netem::new(conditions.clone(), seed * 2 + at)),
            now: start,
            start,
            batch: 44,
            header: 0,
            record: None,
        }
    }

    fn perfect() -> Self {
        let delay = Conditions::with_delay(Duration::from_millis(10));
        Self::new(&ethernet(), &delay, 1)
    }

    /// Applications work, and what is to leave leaves.
    fn settle(&mut self) {
        for at in 0..2 {
            self.ends[at].work();
            while let Some(batch) = self.ends[at].stream.poll_transmit(self.batch, self.now) {
                assert!(batch.len() <= self.batch);
                for datagram in batch {
                    // RFC 9443 §3: a first byte that no other protocol on the path begins with.
                    assert!(matches!(datagram[0], 64..=127 | 192..=255));
                    if let Some(record) = &mut self.record {
                        record.push((at, datagram.clone()));
                    }
                    let size = datagram.len() + self.header;
                    self.wires[at].handle_input(datagram, size, self.now);
                }
            }
            self.ends[at].work();
        }
    }

    /// Goes to the next thing that happens; `false` when nothing will before `until`.
    fn step(&mut self, until: Instant) -> bool {
        self.settle();
        let mut due: Option<Instant> = None;
        for at in 0..2 {
            for next in [
                self.wires[at].poll_timeout(),
                self.ends[at].stream.poll_timeout(),
            ]
            .into_iter()
            .flatten()
            {
                due = Some(due.map_or(next, |due| due.min(next)));
            }
        }
        let Some(next) = due.filter(|next| *next <= until) else {
            self.now = until.max(self.now);
            return false;
        };
        self.now = next.max(self.now);
        for at in 0..2 {
            self.deliver(at);
            let end = &mut self.ends[at];
            if end.stream.poll_timeout().is_some_and(|at| at <= self.now) {
                end.stream.handle_timeout(self.now);
            }
        }
        true
    }

    /// Hands to the other end what arrives now: in batches, as generic receive offload makes them.
    fn deliver(&mut self, from: usize) {
        let mut batch: Vec<Bytes> = Vec::new();
        loop {
            let next = self.wires[from].poll_output(self.now);
            let size = batch.first().map_or(0, Bytes::len);
            let ends = match &next {
                None => true,
                Some(next) => {
                    batch.len() >= self.batch
                        || next.len() > size
                        || batch.last().is_some_and(|last| last.len() < size)
                }
            };
            if ends && !batch.is_empty() {
                let mut payload = BytesMut::new();
                batch.drain(..).for_each(|d| payload.extend_from_slice(&d));
                let stream = &mut self.ends[1 - from].stream;
                stream.handle_batch(payload.freeze(), size, self.now);
            }
            let Some(next) = next else { return };
            batch.push(next);
        }
    }

    /// Runs until it holds, at most this long.
    fn run_until(&mut self, limit: Duration, mut holds: impl FnMut(&mut Self) -> bool) -> bool {
        let until = self.now + limit;
        loop {
            if holds(self) {
                return true;
            }
            if !self.step(until) {
                return holds(self);
            }
        }
    }

    fn run(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    fn open(&mut self) {
        let open = |pair: &mut Self| pair.ends.iter().all(|end| end.stream.is_open());
        assert!(self.run_until(Duration::from_secs(60), open), "{self:?}");
    }

    fn is_done(&self) -> bool {
        let [a, b] = &self.ends;
        let done = |end: &End, other: &End| {
            end.stream.is_delivered() && end.stream.is_finished() && end.received == other.to_send
        };
        done(a, b) && done(b, a)
    }

    fn closed(&self) -> [Option<Closed>; 2] {
        [0, 1].map(|at| self.ends[at].stream.closed().cloned())
    }
}

impl std::fmt::Debug for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for end in &self.ends {
            writeln!(
                f,
                "{:?} taken {} of {} received {}",
                end.stream, end.taken, end.to_send, end.received
            )?;
        }
        Ok(())
    }
}
