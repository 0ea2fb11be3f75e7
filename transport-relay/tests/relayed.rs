//! Sessions whose ICE agents may use nothing but a real coturn on loopback: files both ways, over UDP, TCP and TLS.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a real server, real sockets and the real clock"
)]

#[path = "coturn/server.rs"]
mod server;

use bytes::Bytes;
use server::{Coturn, Login, NAME, SECRET, USER};
use session_core::{Config, Reason, ReasonCondition, SeededEntropy, SessionId, SessionManager};
use session_file::{Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
use session_xmpp::endpoint::{
    Endpoint, Options, Router,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer},
};
use sha2::{Digest, Sha256};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    pseudotcp::PseudoTcpLayer,
};
use transport_relay::turn::{Credentials, TurnConfig, TurnFactory, TurnProtocol, TurnServer};

const ALICE: &str = "alice@example.org/desk";
const BOB: &str = "bob@example.org/lap";
/// Bytes of a file.
const SIZE: usize = 10_000_000;

fn user() -> Credentials {
    Credentials::new(USER.0, USER.1)
}

/// Trusts the server's certificate, and nothing else.
fn trust(server: &Coturn) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(server.certificate.clone()))
        .unwrap();
    ClientConfig::builder_with_provider(ring::default_provider().into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
        .into()
}

fn endpoint(name: &str, router: &Router, server: &Coturn, turn: TurnServer, seed: u64) -> Endpoint {
    let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(seed));
    let mut config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    config.relay_only = true;
    config.relays = vec![Arc::new(TurnFactory::new(TurnConfig::new(vec![turn])))];
    manager
        .add_transport(IceTransportFactory::new(config))
        .unwrap();
    let layer = Arc::new(PseudoTcpLayer::default());
    let mut tunnels = TunnelClient::new(TunnelConfig::new(layer));
    tunnels.set_policy(|_| Verdict::Accept);
    manager.add_client(tunnels).unwrap();
    let mut options = Options::default();
    options.tls = Some(trust(server));
    Endpoint::spawn_with(manager, router.link(name), options)
}

fn two(server: &Coturn, turn: &TurnServer) -> (Router, Endpoint, Endpoint) {
    let router = Router::new();
    let alice = endpoint(ALICE, &router, server, turn.clone(), 1);
    let bob = endpoint(BOB, &router, server, turn.clone(), 2);
    (router, alice, bob)
}

fn data(seed: u8) -> Bytes {
    let mut state = u32::from(seed) + 1;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..SIZE).map(|_| next()).collect()
}

/// Sends to the other side.
struct Sending<'a> {
    endpoint: &'a Endpoint,
    id: SessionId,
    left: Bytes,
    hash: Vec<u8>,
    finished: bool,
}

impl<'a> Sending<'a> {
    fn new(endpoint: &'a Endpoint, from: &str, to: &str, name: &str, left: Bytes) -> Self {
        let tunnel = Tunnel::receive(name).unwrap();
        let id = endpoint.update(|manager, now| {
            let id = manager.create_session(from.into(), TUNNEL, now).unwrap();
            TunnelClient::open(manager, id, to.into(), &tunnel, now).unwrap();
            id
        });
        Self {
            endpoint,
            id,
            hash: Sha256::digest(&left).to_vec(),
            left,
            finished: false,
        }
    }

    fn step(&mut self) {
        let Self {
            endpoint,
            id,
            left,
            finished,
            ..
        } = self;
        endpoint.update(|manager, now| {
            if !left.is_empty() {
                // Before the peer has accepted, nothing is taken.
                let _ = TunnelClient::write(manager, *id, left, now);
            }
            if left.is_empty() && !*finished {
                *finished = TunnelClient::finish(manager, *id, now).is_ok();
            }
        });
    }

    fn path(&self) -> String {
        self.endpoint.update(|manager, _| {
            let session = manager.peek(self.id).unwrap();
            let channel = session.channel_ids().next().unwrap();
            session.describe_channel(channel).unwrap_or_default()
        })
    }
}

/// Receives the only file that somebody is being sent.
struct Receiving<'a> {
    endpoint: &'a Endpoint,
    hash: Sha256,
    bytes: usize,
    end: Option<Read>,
}

impl<'a> Receiving<'a> {
    fn new(endpoint: &'a Endpoint) -> Self {
        Self {
            endpoint,
            hash: Sha256::new(),
            bytes: 0,
            end: None,
        }
    }

    fn step(&mut self, own: &[SessionId]) {
        self.endpoint.update(|manager, now| {
            let client = manager.find_client::<TunnelClient>().unwrap();
            let Some(id) = client.sessions().find(|id| !own.contains(id)) else {
                return;
            };
            loop {
                match TunnelClient::read(manager, id, usize::MAX, now).unwrap() {
                    Read::Bytes(bytes) => {
                        self.hash.update(&bytes);
                        self.bytes += bytes.len();
                    }
                    Read::Pending => return,
                    end @ (Read::End(_) | Read::Broken(_)) => {
                        self.end = Some(end);
                        return;
                    }
                }
            }
        });
    }
}

/// A file each way at once; `at` is called with the bytes that Bob has.
async fn exchange(alice: &Endpoint, bob: &Endpoint, mut at: impl FnMut(usize)) -> Duration {
    let mut to_bob = Sending::new(alice, ALICE, BOB, "a", data(1));
    let mut to_alice = Sending::new(bob, BOB, ALICE, "b", data(2));
    let (mut at_bob, mut at_alice) = (Receiving::new(bob), Receiving::new(alice));
    let started = Instant::now();
    let (mut paths, mut progress) = (String::new(), (0, Instant::now()));
    while at_bob.end.is_none() || at_alice.end.is_none() {
        to_bob.step();
        to_alice.step();
        at_bob.step(&[to_alice.id]);
        at_alice.step(&[to_bob.id]);
        at(at_bob.bytes.min(at_alice.bytes));
        if paths.is_empty() && at_bob.bytes > 0 {
            paths = to_bob.path();
        }
        let now = (at_bob.bytes + at_alice.bytes, Instant::now());
        if now.0 > progress.0 {
            progress = now;
        }
        let still = progress.1.elapsed() < Duration::from_secs(60);
        assert!(
            still,
            "at {:?}: {}, {}",
            now.0,
            to_bob.path(),
            to_alice.path()
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let elapsed = started.elapsed();
    println!("{} bytes each way in {elapsed:?} by {paths}", SIZE);
    assert!(paths.contains("relay"), "{paths}");
    for (sent, received) in [(&to_bob, at_bob), (&to_alice, at_alice)] {
        assert!(
            matches!(received.end, Some(Read::End(_))),
            "{:?}",
            received.end
        );
        assert_eq!(
            (SIZE, &sent.hash[..]),
            (received.bytes, &received.hash.finalize()[..])
        );
    }
    elapsed
}

async fn files_both_ways(login: Login, protocol: TurnProtocol) {
    let Some(server) = Coturn::start(login, "stale-nonce=2") else {
        return;
    };
    let credentials = match login {
        Login::LongTerm => user(),
        Login::Secret => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            Credentials::rest(SECRET.as_bytes(), "alice", now.as_secs() + 600)
        }
    };
    let address = match protocol {
        TurnProtocol::Udp | TurnProtocol::Tcp => server.address,
        TurnProtocol::Tls(_) => server.tls,
    };
    let (_router, alice, bob) = two(&server, &TurnServer::new(address, protocol, credentials));
    exchange(&alice, &bob, |_| ()).await;
}

/// The server dies when a part is there, and comes back a second later, having forgotten everything.
async fn files_past_a_restart(protocol: TurnProtocol) {
    let Some(mut server) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    let turn = TurnServer::new(server.address, protocol, user());
    let (_router, alice, bob) = two(&server, &turn);
    let mut killed = None;
    let elapsed = exchange(&alice, &bob, |bytes| match killed {
        None if bytes > SIZE / 8 => {
            server.kill();
            killed = Some(Some(Instant::now()));
        }
        Some(Some(at)) if at.elapsed() > Duration::from_secs(1) => {
            server.restart();
            killed = Some(None);
        }
        None | Some(_) => {}
    })
    .await;
    assert_eq!(killed, Some(None), "it was restarted in the middle");
    println!("with a restart of the server: {elapsed:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_past_a_restart_of_the_server_over_udp() {
    files_past_a_restart(TurnProtocol::Udp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_past_a_restart_of_the_server_over_tls() {
    files_past_a_restart(TurnProtocol::Tls(NAME.into())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_cannot_be_trusted_or_refuses_us_ends_the_session_with_a_reason() {
    let Some(server) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    let other_name = TurnProtocol::Tls("turn.example.net".into());
    let wrong = Credentials::new(USER.0, "guess");
    for (turn, reason) in [
        (
            TurnServer::new(server.tls, other_name, user()),
            "certificate",
        ),
        (
            TurnServer::new(server.address, TurnProtocol::Udp, wrong),
            "refuses the credentials",
        ),
    ] {
        // Bob's server is a good one: whichever side fails first tells the other, who then says that.
        let router = Router::new();
        let good = TurnServer::new(server.address, TurnProtocol::Udp, user());
        let alice = endpoint(ALICE, &router, &server, turn, 1);
        let _bob = endpoint(BOB, &router, &server, good, 2);
        let sending = Sending::new(&alice, ALICE, BOB, "a", data(1));
        let until = Instant::now() + Duration::from_secs(10);
        let cause = loop {
            let cause = alice.update(|manager, _| {
                let client = manager.find_client::<TunnelClient>().unwrap();
                client
                    .stream(sending.id)
                    .and_then(|stream| stream.cause().cloned())
            });
            if let Some(cause) = cause {
                break cause.to_string();
            }
            assert!(Instant::now() < until, "{reason}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        println!("{cause}");
        assert!(cause.contains(reason), "{cause}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ends_gives_its_allocation_back() {
    let Some(server) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let turn = TurnServer::new(server.address, protocol, user());
        let (_router, alice, bob) = two(&server, &turn);
        let mut sending = Sending::new(&alice, ALICE, BOB, "a", data(1));
        let mut receiving = Receiving::new(&bob);
        while receiving.bytes == 0 {
            sending.step();
            receiving.step(&[]);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let reason = || Reason::new(ReasonCondition::Gone);
        alice.update(|manager, now| manager.terminate_all(reason(), now));
        bob.update(|manager, now| manager.terminate_all(reason(), now));
        tokio::time::sleep(Duration::from_secs(2)).await;
        let log = server.log();
        let count = |word: &str| log.lines().filter(|line| line.contains(word)).count();
        assert!(count(": new, realm") >= 2);
        assert_eq!(count(": new, realm"), count("delete: realm"), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_both_ways_over_udp() {
    files_both_ways(Login::LongTerm, TurnProtocol::Udp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_both_ways_over_udp_with_a_secret() {
    files_both_ways(Login::Secret, TurnProtocol::Udp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_both_ways_over_tcp() {
    files_both_ways(Login::LongTerm, TurnProtocol::Tcp).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_both_ways_over_tls() {
    files_both_ways(Login::Secret, TurnProtocol::Tls(NAME.into())).await;
}
