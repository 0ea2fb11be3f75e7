//! Two managers with file clients in a virtual world, and an application at each side.
#![allow(dead_code, unreachable_pub)]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[cfg(feature = "jet")]
#[path = "../common/keys.rs"]
pub mod keys;
pub mod persona;
#[path = "../common/plain.rs"]
pub mod plain;
pub mod tree;

use bytes::Bytes;
use plain::Plain;
use session_core::{
    Config, SessionId,
    testing::{HostSocket, MemoryDatagram, MemoryStream, Mishap, Network, World},
};
use session_file::{
    Acceptance, Decision, Direction, FILE_TRANSFER, File, FileClient, FileConfig, FileError,
    FileOffer, FileVerdict, Hasher, Outcome, Phase, Proposal, Read, Transfer, TransferId,
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    pseudotcp::PseudoTcpLayer,
    raw_udp::RawUdp,
};
use transport_relay::{
    ibb::Ibb,
    s5b::{S5b, S5bConfig},
};

pub const ALICE: usize = 0;
pub const BOB: usize = 1;
pub const NAMES: [&str; 2] = ["alice@a.example/desk", "bob@b.example/lap"];

/// What carries the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// A stream that marks its end.
    Stream,
    /// A layer over datagrams that marks no end.
    Plain,
    /// PseudoTCP over raw UDP.
    PseudoTcp,
    /// First a stream that fails after so long, then one that works.
    Failing(Duration),
    /// SOCKS5 bytestreams.
    S5b,
    /// In-band bytestreams.
    Ibb,
    /// PseudoTCP over ICE.
    Ice,
}

pub const CARRIERS: [Carrier; 3] = [Carrier::Stream, Carrier::Plain, Carrier::PseudoTcp];

/// Whatever carries streams between other people's clients, too.
pub const STREAMS: [Carrier; 3] = [Carrier::S5b, Carrier::Ibb, Carrier::Ice];

pub fn config(carrier: Carrier) -> FileConfig {
    match carrier {
        Carrier::PseudoTcp | Carrier::Ice => FileConfig::new(Arc::new(PseudoTcpLayer::default())),
        Carrier::Stream | Carrier::Plain | Carrier::Failing(_) => FileConfig::new(Arc::new(Plain)),
        Carrier::S5b | Carrier::Ibb => FileConfig::default(),
    }
}

pub fn add_transports(
    manager: &mut session_core::SessionManager,
    carrier: Carrier,
    host: usize,
) -> Result<(), session_core::Misuse> {
    let address = Network::<HostSocket>::address_of(host);
    match carrier {
        Carrier::Stream => manager.add_transport(MemoryStream::new()),
        Carrier::Plain => manager.add_transport(MemoryDatagram::new()),
        Carrier::PseudoTcp => manager.add_transport(RawUdp::new(SocketAddr::new(address, 0))),
        Carrier::S5b => manager.add_transport(S5b::new(S5bConfig {
            listen: vec![address],
            ..S5bConfig::default()
        })),
        Carrier::Ibb => manager.add_transport(Ibb::new()),
        Carrier::Ice => {
            manager.add_transport(IceTransportFactory::new(IceConfig::new(vec![address])))
        }
        Carrier::Failing(after) => {
            let failing = MemoryStream::new().with_namespace("https://first.example/");
            manager.add_transport(failing.with_mishap(Mishap::FailsAfter(after)))?;
            manager.add_transport(MemoryStream::new())
        }
    }
}

pub fn world_with(carrier: Carrier, seed: u64, adjust: impl Fn(&mut FileConfig)) -> World {
    let mut world = World::new(seed);
    for (host, name) in NAMES.into_iter().enumerate() {
        world.add_host(name, Config::default(), |manager| {
            add_transports(manager, carrier, host)?;
            let mut config = config(carrier);
            adjust(&mut config);
            manager.add_client(FileClient::new(config))
        });
    }
    world
}

pub fn world(carrier: Carrier) -> World {
    world_with(carrier, 1, |_| {})
}

pub fn client<R>(world: &mut World, host: usize, f: impl FnOnce(&mut FileClient) -> R) -> R {
    world.update(host, |manager, _| {
        f(manager.find_client::<FileClient>().unwrap())
    })
}

pub fn set_policy(
    world: &mut World,
    host: usize,
    policy: impl FnMut(&FileOffer) -> FileVerdict + Send + 'static,
) {
    client(world, host, |client| client.set_policy(policy));
}

/// Takes what is offered, and has nothing to give.
pub fn accept_all(world: &mut World, host: usize) {
    set_policy(world, host, |offer| {
        let accept =
            |content: &Arc<str>| (content.clone(), Decision::Accept(Acceptance::default()));
        FileVerdict::Decide(
            offer
                .files
                .iter()
                .map(|file| accept(&file.content))
                .collect(),
        )
    });
}

pub fn look<R>(
    world: &mut World,
    host: usize,
    id: &TransferId,
    f: impl FnOnce(&Transfer) -> R,
) -> R {
    client(world, host, |client| f(client.transfer(id).unwrap()))
}

pub fn outcome(world: &mut World, host: usize, id: &TransferId) -> Option<Outcome> {
    look(world, host, id, |transfer| transfer.outcome().cloned())
}

pub fn open(
    world: &mut World,
    from: usize,
    proposals: Vec<Proposal>,
) -> Result<Vec<TransferId>, FileError> {
    let (local, to) = (world.name(from).clone(), world.name(1 - from).clone());
    world.update(from, |manager, now| {
        let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
        let result = FileClient::open(manager, id, to, proposals, now);
        if result.is_err() {
            manager.destroy_session(id, now);
        }
        result
    })
}

pub fn offer(world: &mut World, files: &[(&str, usize)]) -> Vec<TransferId> {
    let file = |(name, size): &(&str, usize)| Proposal::Offer(File::new(name, *size as u64));
    open(world, ALICE, files.iter().map(file).collect()).unwrap()
}

/// The same, encrypted within its stream where it is to be and can.
#[cfg(feature = "jet")]
pub fn seal(proposal: Proposal, sealed: bool) -> Proposal {
    match sealed {
        true => proposal.encrypted(session_file::JetCipher::Aes128Gcm),
        false => proposal,
    }
}

#[cfg(not(feature = "jet"))]
pub fn seal(proposal: Proposal, _: bool) -> Proposal {
    proposal
}

/// Lets each open what the other has encrypted.
pub fn share_keys(world: &mut World) {
    #[cfg(feature = "jet")]
    for host in [ALICE, BOB] {
        client(world, host, |client| client.set_keys(keys::Stub::new(5)));
    }
    #[cfg(not(feature = "jet"))]
    let _ = world;
}

/// The only session of a host.
pub fn only(world: &mut World, host: usize) -> SessionId {
    client(world, host, |client| {
        let all: Vec<_> = client.sessions().collect();
        assert_eq!(all.len(), 1, "one session");
        all[0]
    })
}

/// The same file, seen by the other host.
pub fn other(world: &mut World, host: usize, id: &TransferId) -> TransferId {
    TransferId {
        session: only(world, host),
        content: id.content.clone(),
    }
}

/// Bytes that tell where they belong, and of which file.
pub fn data(name: &str, size: usize) -> Bytes {
    let salt = name.bytes().fold(0usize, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(byte.into())
    });
    let byte = |at: usize| (at ^ (at >> 8) ^ (at >> 16)).wrapping_add(salt) as u8;
    (0..size).map(byte).collect::<Vec<_>>().into()
}

pub fn hashed(bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new(session_file::HashAlgorithm::ALL);
    hasher.update(bytes);
    hasher
}

/// As [`hashed`], of the one algorithm that offers announce.
pub fn prefix(bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new([session_file::HashAlgorithm::Sha256]);
    hasher.update(bytes);
    hasher
}

/// One who sends what it has by name, and reads what comes.
#[derive(Default)]
pub struct App {
    pub sources: BTreeMap<String, Bytes>,
    pub received: BTreeMap<TransferId, Vec<u8>>,
    pub ends: BTreeMap<TransferId, Read>,
    /// Bytes at a time.
    pub piece: usize,
    /// Shows what is in front of what it sends.
    pub primes: bool,
    /// Does not read beyond this many bytes of each file.
    pub reads: Option<usize>,
}

impl App {
    pub fn new() -> Self {
        Self {
            piece: 50_000,
            primes: true,
            ..Self::default()
        }
    }

    pub fn with(mut self, name: &str, bytes: Bytes) -> Self {
        self.sources.insert(name.to_owned(), bytes);
        self
    }

    pub fn step(&mut self, world: &mut World, host: usize) {
        let all: Vec<(TransferId, Direction, Phase, u64, u64, String)> =
            client(world, host, |client| {
                let of = |session: SessionId| {
                    client.transfers(session).map(move |t| {
                        let id = TransferId {
                            session,
                            content: t.content().clone(),
                        };
                        let name = t.file().name.as_deref().unwrap_or_default().to_owned();
                        (
                            id,
                            t.direction(),
                            t.phase(),
                            t.offset(),
                            t.progress().written,
                            name,
                        )
                    })
                };
                client.sessions().flat_map(of).collect()
            });
        for (id, direction, phase, offset, written, name) in all {
            match direction {
                Direction::Send if phase == Phase::Open => {
                    self.send(world, host, &id, offset + written, &name)
                }
                Direction::Send => {}
                Direction::Receive => self.receive(world, host, &id),
            }
        }
    }

    fn send(&self, world: &mut World, host: usize, id: &TransferId, from: u64, name: &str) {
        let Some(source) = self.sources.get(name) else {
            return;
        };
        let end = look(world, host, id, |t| {
            t.bytes().map(|bytes| t.offset() + bytes)
        });
        let end = end.unwrap_or(source.len() as u64).min(source.len() as u64);
        let mut left = source.slice(from as usize..end as usize);
        let whole = left.is_empty() && from > 0;
        let offset = look(world, host, id, |t| t.offset());
        world.update(host, |manager, now| {
            if self.primes && offset > 0 && from == offset {
                // Said again when nothing was written yet, which is refused.
                let _ = FileClient::prime(manager, id, prefix(&source[..offset as usize]), now);
            }
            while !left.is_empty() {
                let mut piece = left.slice(..self.piece.min(left.len()));
                let taken = FileClient::write(manager, id, &mut piece, now).unwrap_or(0);
                let _ = left.split_to(taken);
                if !piece.is_empty() {
                    return;
                }
            }
            let size = manager
                .find_client::<FileClient>()
                .unwrap()
                .transfer(id)
                .unwrap()
                .bytes();
            if size.is_none() && !whole || offset > 0 && size == Some(0) {
                let _ = FileClient::finish(manager, id, now);
            }
        });
    }

    fn receive(&mut self, world: &mut World, host: usize, id: &TransferId) {
        let bytes = self.received.entry(id.clone()).or_default();
        while !self.ends.contains_key(id) {
            if self.reads.is_some_and(|reads| bytes.len() >= reads) {
                return;
            }
            let read = world.update(host, |manager, now| {
                FileClient::read(manager, id, self.piece, now).unwrap()
            });
            match read {
                Read::Bytes(piece) => bytes.extend_from_slice(&piece),
                Read::Pending => return,
                end @ (Read::End(_) | Read::Broken(_)) => {
                    self.ends.insert(id.clone(), end);
                }
            }
        }
    }
}

/// Whether no session of a host is left, and every file has its outcome.
pub fn is_over(world: &World, host: usize) -> bool {
    world.manager(host).session_count() == 0
}

/// Runs until the sessions of both are over.
pub fn run(world: &mut World, apps: &mut [App; 2]) {
    let done = world.run_until(Duration::from_secs(600), |world| {
        for (host, app) in apps.iter_mut().enumerate() {
            app.step(world, host);
        }
        is_over(world, ALICE) && is_over(world, BOB)
    });
    for (host, app) in apps.iter_mut().enumerate() {
        app.step(world, host);
    }
    assert!(done, "both sessions end");
    world.check();
}
