//! Two endpoints, each with a thread of its own, and a tunnel between them over ICE and real sockets.

use super::Run;
use bytes::Bytes;
use cpu_time::ProcessTime;
use session_core::{ChannelLayer, Peer, SessionId, SessionManager, Slot};
use session_file::{Change, Phase, Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
use session_xmpp::endpoint::{Endpoint, Router};
use std::{
    hash::{BuildHasher, RandomState},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::Instant,
};
use tokio::runtime::{Builder, Runtime};
use transport_p2p::ice::{IceConfig, IceTransportFactory};

/// What is written at once, as a reader of a disk would hand it over.
const PIECE: usize = 256 * 1024;
/// What is read at once.
const READ: usize = 1 << 20;

/// Both sides, before they know each other.
pub(super) struct Sides {
    sender: (Runtime, Endpoint),
    receiver: (Runtime, Endpoint),
}

impl Sides {
    pub(super) fn new(layer: &Arc<dyn ChannelLayer>) -> Self {
        let router = Router::new();
        Self {
            sender: side("alice@bench.example/a", &router, layer),
            receiver: side("bob@bench.example/b", &router, layer),
        }
    }

    /// From the first byte that can be written to the last that is read.
    pub(super) fn run(self, bytes: u64) -> Run {
        let Self { sender, receiver } = self;
        let calls = receiver
            .1
            .update(|manager, _| manager.signal_session_create().connect());
        let reading = std::thread::spawn(move || {
            let (runtime, endpoint) = receiver;
            runtime.block_on(receive(&endpoint, calls, bytes))
        });
        let (runtime, endpoint) = sender;
        let (begun, cpu) = runtime.block_on(send(&endpoint, bytes));
        let ended = reading
            .join()
            .expect("it panics only when bytes are missing");
        Run {
            wall: ended.0 - begun,
            cpu: ended.1.duration_since(cpu),
        }
    }
}

fn side(name: &str, router: &Router, layer: &Arc<dyn ChannelLayer>) -> (Runtime, Endpoint) {
    let runtime = Builder::new_current_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let entropy = |buffer: &mut [u8]| {
        for chunk in buffer.chunks_mut(8) {
            let bytes = RandomState::new().hash_one(chunk.len()).to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    };
    let mut manager = SessionManager::new(session_core::Config::default(), entropy);
    let ice = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    manager
        .add_transport(IceTransportFactory::new(ice))
        .expect("the first of its kind");
    let mut tunnels = TunnelClient::new(TunnelConfig::new(Arc::clone(layer)));
    tunnels.set_policy(|_| Verdict::Accept);
    manager.add_client(tunnels).expect("the first of its kind");
    let guard = runtime.enter();
    let endpoint = Endpoint::spawn(manager, router.link(Peer::from(name)));
    drop(guard);
    (runtime, endpoint)
}

async fn send(endpoint: &Endpoint, bytes: u64) -> (Instant, ProcessTime) {
    let tunnel = Tunnel::receive("bench").expect("a name");
    let id = endpoint.update(|manager, now| {
        let id = manager
            .create_session("alice@bench.example/a".into(), TUNNEL, now)
            .expect("room");
        let bob = "bob@bench.example/b".into();
        TunnelClient::open(manager, id, bob, &tunnel, now).expect("a transport");
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
            Read::Pending => drop(changes.next().await),
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
