//! Two managers with tunnel clients in a virtual world, and an application at each side.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

pub mod plain;

use bytes::Bytes;
use plain::Plain;
use session_core::{
    Config, Dialect, SessionId, SessionManager,
    testing::{MemoryDatagram, MemoryStream, Mishap, World},
};
use session_file::{
    Change, Completeness, Offer, Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, TunnelLimits,
    TunnelStream, Verdict,
};
use std::{sync::Arc, time::Duration};

pub const ALICE: usize = 0;
pub const BOB: usize = 1;

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A stream that marks its end.
    Marked,
    /// A stream layer over datagrams that acknowledges and has no mark at its end, as libjingle's PseudoTCP.
    Plain,
    /// First one that fails after so long, then one that works.
    Failing(Duration),
}

#[derive(Clone, Copy, Debug)]
pub struct Setup {
    pub carrier: Carrier,
    pub dialect: &'static Dialect,
    pub limits: TunnelLimits,
    pub seed: u64,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            carrier: Carrier::Marked,
            dialect: Dialect::JINGLE,
            limits: TunnelLimits::default(),
            seed: 1,
        }
    }
}

pub fn world(setup: Setup) -> World {
    let mut world = World::new(setup.seed);
    for name in ["alice@a.example/desk", "bob@b.example/lap"] {
        let config = Config {
            dialect: setup.dialect,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            match setup.carrier {
                Carrier::Marked => manager.add_transport(MemoryStream::new())?,
                Carrier::Plain => manager.add_transport(MemoryDatagram::new())?,
                Carrier::Failing(after) => {
                    let failing = MemoryStream::new()
                        .with_namespace("https://first.example/")
                        .with_mishap(Mishap::FailsAfter(after));
                    manager.add_transport(failing)?;
                    manager.add_transport(MemoryStream::new())?;
                }
            }
            manager.add_client(TunnelClient::new(TunnelConfig {
                limits: setup.limits,
                ..TunnelConfig::new(Arc::new(Plain))
            }))
        });
    }
    world
}

/// Bob takes every offer.
pub fn accept_all(world: &mut World) {
    set_policy(world, BOB, |_| Verdict::Accept);
}

pub fn set_policy(
    world: &mut World,
    host: usize,
    policy: impl FnMut(&Offer) -> Verdict + Send + 'static,
) {
    client(world, host, |client| client.set_policy(policy));
}

pub fn client<R>(world: &mut World, host: usize, f: impl FnOnce(&mut TunnelClient) -> R) -> R {
    world.update(host, |manager, _| {
        f(manager.find_client::<TunnelClient>().unwrap())
    })
}

/// Looks at a tunnel.
pub fn look<R>(
    world: &mut World,
    host: usize,
    id: SessionId,
    f: impl FnOnce(&TunnelStream) -> R,
) -> R {
    client(world, host, |client| f(client.stream(id).unwrap()))
}

/// Alice offers a tunnel to Bob.
pub fn open(world: &mut World, tunnel: &Tunnel) -> SessionId {
    let (local, to) = (world.name(ALICE).clone(), world.name(BOB).clone());
    world.update(ALICE, |manager, now| {
        let id = manager.create_session(local, TUNNEL, now).unwrap();
        TunnelClient::open(manager, id, to, tunnel, now).unwrap();
        id
    })
}

/// The only tunnel of a host.
pub fn only(world: &mut World, host: usize) -> SessionId {
    client(world, host, |client| {
        let all: Vec<_> = client.sessions().collect();
        assert_eq!(all.len(), 1, "one tunnel");
        all[0]
    })
}

/// A tunnel that both sides have accepted: Alice's and Bob's end.
pub fn opened(world: &mut World, tunnel: &Tunnel) -> (SessionId, SessionId) {
    accept_all(world);
    let alice = open(world, tunnel);
    world.settle();
    (alice, only(world, BOB))
}

pub fn read(world: &mut World, host: usize, id: SessionId, max: usize) -> Read {
    world.update(host, |manager, now| {
        TunnelClient::read(manager, id, max, now).unwrap()
    })
}

pub fn finish(world: &mut World, host: usize, id: SessionId) {
    world.update(host, |manager, now| {
        TunnelClient::finish(manager, id, now).unwrap();
    });
}

/// Bytes that tell where they belong.
pub fn data(size: usize) -> Bytes {
    (0..size)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect::<Vec<_>>()
        .into()
}

/// One who sends, as an application does: writes what is taken, and finishes.
pub struct Sender {
    pub host: usize,
    pub id: SessionId,
    pub left: Bytes,
    pub finished: bool,
}

impl Sender {
    pub fn new(host: usize, id: SessionId, bytes: Bytes) -> Self {
        Self {
            host,
            id,
            left: bytes,
            finished: false,
        }
    }

    /// Writes in pieces of `piece` until nothing more is taken.
    pub fn step(&mut self, world: &mut World, piece: usize) {
        world.update(self.host, |manager, now| {
            while !self.finished {
                if self.left.is_empty() {
                    TunnelClient::finish(manager, self.id, now).unwrap();
                    self.finished = true;
                    return;
                }
                let mut bytes = self.left.slice(..piece.min(self.left.len()));
                let taken = TunnelClient::write(manager, self.id, &mut bytes, now).unwrap();
                let _ = self.left.split_to(taken);
                if !bytes.is_empty() {
                    return;
                }
            }
        });
    }
}

/// One who receives until there is nothing more.
pub struct Receiver {
    pub host: usize,
    pub id: SessionId,
    pub bytes: Vec<u8>,
    pub end: Option<Read>,
}

impl Receiver {
    pub fn new(host: usize, id: SessionId) -> Self {
        Self {
            host,
            id,
            bytes: Vec::new(),
            end: None,
        }
    }

    pub fn step(&mut self, world: &mut World, max: usize) {
        while self.end.is_none() {
            match read(world, self.host, self.id, max) {
                Read::Bytes(bytes) => {
                    assert!(!bytes.is_empty() && bytes.len() <= max);
                    self.bytes.extend_from_slice(&bytes);
                }
                Read::Pending => return,
                end @ (Read::End(_) | Read::Broken(_)) => self.end = Some(end),
            }
        }
    }
}

/// Runs a transfer until the receiver has its end.
pub fn transfer(
    world: &mut World,
    sender: &mut Sender,
    receiver: &mut Receiver,
    write: usize,
    read: usize,
) {
    let done = world.run_until(Duration::from_secs(600), |world| {
        let live = look(world, sender.host, sender.id, |s| s.cause().is_none());
        if live {
            sender.step(world, write);
        }
        receiver.step(world, read);
        receiver.end.is_some()
    });
    assert!(done, "the receiver hears of the end");
}

/// A listener that has seen where things stand.
pub fn listen<T: Clone>(signal: &session_core::Signal<T>) -> session_core::Slot<T> {
    let mut slot = signal.connect();
    assert!(slot.try_next().is_some());
    slot
}

/// Everything that a slot has by now.
pub fn changes(slot: &mut session_core::Slot<Change>) -> Vec<Change> {
    use session_core::Notice;
    let mut changes = Vec::new();
    while let Some(notice) = slot.try_next() {
        match notice {
            Notice::Value(change) => changes.push(change),
            Notice::Snapshot { .. } | Notice::Ended => {}
        }
    }
    changes
}

pub fn verified(carrier: Carrier) -> Completeness {
    match carrier {
        Carrier::Marked | Carrier::Failing(_) => Completeness::Verified,
        Carrier::Plain => Completeness::Unverified,
    }
}

pub fn manager<R>(world: &mut World, host: usize, f: impl FnOnce(&mut SessionManager) -> R) -> R {
    world.update(host, |manager, _| f(manager))
}
