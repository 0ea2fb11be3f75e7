//! A file through a server: by its proxy (XEP-0065, XEP-0260), and in stanzas (XEP-0047, XEP-0261), also where the server
//! takes little at a time.

use crate::{
    ejabberd,
    lab::{Running, SCRAM},
    prosody::{self, Wishes},
};
use bytes::Bytes;
use session_core::{Config, Peer, SeededEntropy, SessionId, SessionManager};
use session_file::{CHANNEL, Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
use session_xmpp::{
    client::{Client, ClientState},
    endpoint::{Endpoint, QueryKind},
};
use std::{net::SocketAddr, time::Duration};
use tokio::{
    net::TcpSocket,
    time::{sleep, timeout},
};
use transport_relay::{
    ibb::{self, Ibb},
    s5b::{self, Discovery, Host, S5b, S5bConfig},
};

/// How long anything may take.
const LONG: Duration = Duration::from_secs(90);

struct Side {
    client: Client,
    endpoint: Endpoint,
    address: Peer,
}

impl Side {
    async fn new(
        server: &Running,
        user: &str,
        seed: u64,
        add: impl FnOnce(&mut SessionManager),
    ) -> Self {
        let (client, link) = Client::start(server.options(user, SCRAM));
        let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(seed));
        add(&mut manager);
        let mut tunnels = TunnelClient::new(TunnelConfig::default());
        tunnels.set_policy(|_| Verdict::Accept);
        manager.add_client(tunnels).unwrap();
        let endpoint = Endpoint::spawn(manager, link);
        let address = timeout(LONG, client.online()).await.unwrap().unwrap();
        Self {
            client,
            endpoint,
            address,
        }
    }

    /// The server's proxies, as it describes them.
    async fn proxies(&self) -> Vec<(Peer, SocketAddr)> {
        let mut discovery = Discovery::new(SCRAM.into()).with_loopback();
        while let Some((whom, question)) = discovery.question() {
            let asked = self
                .endpoint
                .query(QueryKind::Get, whom.clone(), question, LONG);
            let answer = asked.await.ok().flatten();
            discovery.answer(&whom, answer.as_ref());
        }
        let found = discovery
            .proxies()
            .iter()
            .filter_map(|proxy| match proxy.host {
                Host::Address(ip) => Some((proxy.jid.clone(), SocketAddr::new(ip, proxy.port))),
                Host::Name(_) => None,
            });
        found.collect()
    }

    fn offer(&self, to: &Peer) -> SessionId {
        self.endpoint.update(|manager, now| {
            let id = manager
                .create_session(self.address.clone(), TUNNEL, now)
                .unwrap();
            let tunnel = Tunnel::receive("a file").unwrap();
            TunnelClient::open(manager, id, to.clone(), &tunnel, now).unwrap();
            id
        })
    }

    /// Hands over all that there is room for, and the end.
    async fn send(&self, id: SessionId, mut bytes: Bytes) {
        while !bytes.is_empty() {
            self.endpoint
                .update(|manager, now| TunnelClient::write(manager, id, &mut bytes, now))
                .unwrap();
            sleep(Duration::from_millis(2)).await;
        }
        self.endpoint
            .update(|manager, now| TunnelClient::finish(manager, id, now))
            .unwrap();
    }

    /// All that comes, to its end.
    async fn receive(&self) -> Vec<u8> {
        let mut received = Vec::new();
        loop {
            let read = self.endpoint.update(|manager, now| {
                let tunnels = manager.find_client::<TunnelClient>()?;
                let id = tunnels.sessions().next()?;
                TunnelClient::read(manager, id, usize::MAX, now).ok()
            });
            match read {
                Some(Read::Bytes(bytes)) => received.extend_from_slice(&bytes),
                Some(Read::End(_)) => return received,
                Some(Read::Broken(cause)) => panic!("{cause}"),
                Some(Read::Pending) | None => sleep(Duration::from_millis(2)).await,
            }
        }
    }

    /// Which transport a session has come to, and along which path.
    fn path(&self, id: SessionId) -> Option<(String, String)> {
        self.endpoint.update(|manager, _| {
            let session = manager.peek(id)?;
            let path = session.describe_channel(session.channel(CHANNEL)?)?;
            Some((session.transport()?.to_owned(), path))
        })
    }
}

/// From one to the other, and by which transport.
async fn carry(alice: &Side, bob: &Side, size: usize) -> (String, String) {
    let content: Bytes = (0..size).map(|n| (n % 251) as u8).collect();
    let id = alice.offer(&bob.address);
    let path = async {
        loop {
            if let Some(path) = alice.path(id) {
                return path;
            }
            sleep(Duration::from_millis(2)).await;
        }
    };
    let all = async { tokio::join!(alice.send(id, content.clone()), bob.receive(), path) };
    let Ok(((), received, path)) = timeout(LONG, all).await else {
        let far = |side: &Side| {
            side.endpoint.update(|manager, _| {
                let tunnels = manager.find_client::<TunnelClient>()?;
                let id = tunnels.sessions().next()?;
                Some(tunnels.stream(id)?.progress())
            })
        };
        panic!("it takes too long: {:?} {:?}", far(alice), far(bob));
    };
    assert!(content == received, "{} of {size} bytes", received.len());
    for side in [alice, bob] {
        assert!(
            matches!(
                side.client.state(),
                ClientState::Online { resumed: false, .. }
            ),
            "{:?}",
            side.client.state()
        );
    }
    path
}

/// A port that is taken, and where nobody listens.
fn taken() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// The ports at which they would listen are taken, so that the server's proxy is the only way.
async fn by_proxy(server: &Running) {
    let taken = [taken(), taken()];
    let [offering, answering] = [taken[0].1, taken[1].1].map(|port| {
        S5b::new(S5bConfig {
            // Loopback is for those alone who are there themselves.
            listen: vec![[127, 0, 0, 1].into()],
            ports: port..=port,
            ..S5bConfig::default()
        })
    });
    let offered = offering.proxies();
    let alice = Side::new(server, "alice", 1, |m| m.add_transport(offering).unwrap()).await;
    let bob = Side::new(server, "bob", 2, |m| m.add_transport(answering).unwrap()).await;
    let found = alice.proxies().await;
    assert_eq!(found.len(), 1, "{found:?}");
    offered.set(found);
    let (transport, path) = carry(&alice, &bob, 1_000_000).await;
    assert_eq!(transport, s5b::NAMESPACE);
    assert!(path.contains("proxy"), "{path}");
}

async fn in_band(server: &Running, size: usize) {
    let add = |manager: &mut SessionManager| manager.add_transport(Ibb::new()).unwrap();
    let alice = Side::new(server, "alice", 3, add).await;
    let bob = Side::new(server, "bob", 4, add).await;
    let (transport, _) = carry(&alice, &bob, size).await;
    assert_eq!(transport, ibb::NAMESPACE);
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let wishes = Wishes {
        proxy: true,
        ..Wishes::default()
    };
    let Some(server) = prosody::start("files-prosody", wishes) else {
        return;
    };
    by_proxy(&server).await;
    in_band(&server, 500_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let Some(server) = ejabberd::start("files-ejabberd") else {
        return;
    };
    by_proxy(&server).await;
    in_band(&server, 500_000).await;
}

/// Small stanzas and few bytes a second: it takes its time, and nobody is thrown out.
#[tokio::test(flavor = "multi_thread")]
async fn prosody_that_takes_little() {
    let wishes = Wishes {
        modules: "\"limits\";",
        settings: "limits = { c2s = { rate = \"60kb/s\"; burst = \"2s\" } }\nc2s_stanza_size_limit = 10000",
        ..Wishes::default()
    };
    let Some(server) = prosody::start("files-prosody-limits", wishes) else {
        return;
    };
    in_band(&server, 200_000).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd_that_takes_little() {
    // ejabberd counts what it has read at once as one stanza, so that what is under way must fit in, and not only a block.
    let wishes = ejabberd::Wishes {
        stanza_max: 10_000,
        rate: Some(60_000),
        ..ejabberd::Wishes::default()
    };
    let Some(server) = ejabberd::start_with("files-ejabberd-limits", wishes) else {
        return;
    };
    in_band(&server, 200_000).await;
}
