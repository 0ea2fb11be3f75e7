//! Two endpoints, each with a thread of its own, and a tunnel between them over real sockets.

use super::Run;
use bytes::Bytes;
use cpu_time::ProcessTime;
use session_core::{Peer, SessionId, SessionManager, Slot};
use session_file::{Change, Phase, Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
use session_xmpp::endpoint::{Endpoint, Link, Router};
use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::Instant,
};
use tokio::runtime::{Builder, Runtime};

/// What is written at once, as a reader of a disk would hand it over.
const PIECE: usize = 256 * 1024;
/// What is read at once.
const READ: usize = 1 << 20;

/// Both sides, before they know each other.
pub(crate) struct Sides {
    place: Option<Arc<crate::link::Link>>,
    sender: Side,
    receiver: Side,
}

/// One of them.
pub(crate) struct Side {
    runtime: Runtime,
    endpoint: Endpoint,
    address: Peer,
}

impl Sides {
    /// Over a router of this process, with what `add` gives to each.
    pub(crate) fn new(add: impl Fn(&mut SessionManager) -> TunnelConfig) -> Self {
        let router = Router::new();
        let side = |name: &str| {
            let link = |_: &Runtime| (router.link(name), Peer::from(name));
            Side::new(link, &add)
        };
        Self::of(side("alice@bench.example/a"), side("bob@bench.example/b"))
    }

    /// These two.
    pub(crate) fn of(sender: Side, receiver: Side) -> Self {
        Self {
            place: None,
            sender,
            receiver,
        }
    }

    /// On the two hosts of a link, if there is one.
    pub(crate) fn on(self, link: Option<&Arc<crate::link::Link>>) -> Self {
        Self {
            place: link.cloned(),
            ..self
        }
    }

    /// From the first byte that can be written to the last that is read.
    pub(crate) fn run(self, bytes: u64) -> Run {
        let Self {
            place,
            sender,
            receiver,
        } = self;
        let to = receiver.address.clone();
        let calls = receiver
            .endpoint
            .update(|manager, _| manager.signal_session_create().connect());
        let reading = move || {
            let work = receive(&receiver.endpoint, calls, bytes);
            receiver.runtime.block_on(work)
        };
        let writing = move || {
            let work = send(&sender, to, bytes);
            sender.runtime.block_on(work)
        };
        // Sockets are made by the thread that drives an endpoint, and belong where it is.
        let [reading, writing] = match place {
            Some(link) => [link.run(1, reading), link.run(0, writing)],
            None => [std::thread::spawn(reading), std::thread::spawn(writing)],
        };
        let missing = "it panics only when bytes are missing";
        let (begun, cpu) = writing.join().expect(missing);
        let ended = reading.join().expect(missing);
        Run {
            wall: ended.0 - begun,
            cpu: ended.1.duration_since(cpu),
        }
    }
}

impl Side {
    /// With this link, and what `add` gives it.
    pub(crate) fn new<L: Link>(
        link: impl FnOnce(&Runtime) -> (L, Peer),
        add: impl Fn(&mut SessionManager) -> TunnelConfig,
    ) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.expect("a runtime");
        let entropy = |buffer: &mut [u8]| {
            for chunk in buffer.chunks_mut(8) {
                let bytes = RandomState::new().hash_one(chunk.len()).to_le_bytes();
                chunk.copy_from_slice(&bytes[..chunk.len()]);
            }
        };
        let mut manager = SessionManager::new(session_core::Config::default(), entropy);
        let mut tunnels = TunnelClient::new(add(&mut manager));
        tunnels.set_policy(|_| Verdict::Accept);
        manager.add_client(tunnels).expect("the first of its kind");
        let (link, address) = link(&runtime);
        let guard = runtime.enter();
        let endpoint = Endpoint::spawn(manager, link);
        drop(guard);
        Self {
            runtime,
            endpoint,
            address,
        }
    }
}

async fn send(side: &Side, to: Peer, bytes: u64) -> (Instant, ProcessTime) {
    let endpoint = &side.endpoint;
    let tunnel = Tunnel::receive("bench").expect("a name");
    let id = endpoint.update(|manager, now| {
        let id = manager
            .create_session(side.address.clone(), TUNNEL, now)
            .expect("room");
        TunnelClient::open(manager, id, to, &tunnel, now).expect("a transport");
        id
    });
    let mut changes = changes(endpoint, id);
    while phase(endpoint, id) == Phase::Waiting {
        changes.next().await;
    }
    let piece = Bytes::from(vec![0xA5; PIECE]);
    let (begun, cpu) = (Instant::now(), ProcessTime::now());
    let mut left = bytes;
    while left > 0 {
        let mut piece = piece.slice(..(PIECE as u64).min(left) as usize);
        while !piece.is_empty() {
            let before = piece.len();
            endpoint
                .update(|manager, now| TunnelClient::write(manager, id, &mut piece, now))
                .expect("a stream that stands");
            left -= (before - piece.len()) as u64;
            if piece.len() == before {
                changes.next().await;
            }
        }
    }
    endpoint
        .update(|manager, now| TunnelClient::finish(manager, id, now))
        .expect("a stream that stands");
    while phase(endpoint, id) != Phase::Ended {
        changes.next().await;
    }
    (begun, cpu)
}

async fn receive(
    endpoint: &Endpoint,
    mut calls: Slot<(SessionId, bool)>,
    bytes: u64,
) -> (Instant, ProcessTime) {
    let (id, _) = calls.wait_for(|_| true).await.expect("a caller");
    let mut changes = changes(endpoint, id);
    let mut received = 0;
    let ended = loop {
        let read = endpoint.update(|manager, now| TunnelClient::read(manager, id, READ, now));
        match read.expect("a stream that stands") {
            Read::Bytes(piece) => received += piece.len() as u64,
            Read::Pending => {
                let _ = changes.next().await;
            }
            Read::End(_) => break (Instant::now(), ProcessTime::now()),
            Read::Broken(cause) => panic!("after {received} bytes: {cause}"),
        }
    };
    assert_eq!(received, bytes, "everything arrives");
    // The other side is told that it has, and ends the session.
    while phase(endpoint, id) != Phase::Ended {
        changes.next().await;
    }
    ended
}

fn changes(endpoint: &Endpoint, id: SessionId) -> Slot<Change> {
    endpoint.update(|manager, _| {
        let client = manager.find_client::<TunnelClient>().expect("registered");
        client.stream(id).expect("a tunnel").signal().connect()
    })
}

fn phase(endpoint: &Endpoint, id: SessionId) -> Phase {
    endpoint.update(|manager, _| {
        let client = manager.find_client::<TunnelClient>().expect("registered");
        client
            .stream(id)
            .map_or(Phase::Ended, |stream| stream.phase())
    })
}
