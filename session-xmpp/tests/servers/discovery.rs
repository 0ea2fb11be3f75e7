//! Who is there, what they can, and what the server knows of relays.

use crate::{
    ejabberd,
    lab::{Running, SCRAM},
    prosody::{self, Wishes},
};
use session_core::{Config, Peer, SeededEntropy, SessionManager};
use session_xmpp::{
    client::{Client, Discovery, Info, discovery, extdisco},
    endpoint::{Endpoint, Options},
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

const LONG: Duration = Duration::from_secs(30);
const JINGLE: &str = "urn:xmpp:jingle:1";

struct Side {
    endpoint: Endpoint,
    discovery: Discovery,
    address: Peer,
}

async fn side(server: &Running, user: &str, features: &[&str]) -> Side {
    let (client, link) = Client::start(server.options(user, SCRAM));
    let info = Info::new("client", "pc", "a test", features.iter().copied());
    let discovery = Discovery::new("https://example.org/test", info);
    let mut options = Options::default();
    options.service = Some(discovery.service());
    let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
    let endpoint = Endpoint::spawn_with(manager, link, options);
    let address = timeout(LONG, client.online()).await.unwrap().unwrap();
    Side {
        endpoint,
        discovery,
        address,
    }
}

/// Two who share no presence show themselves to each other; one asks what the other can.
async fn who_can_what(server: &Running) {
    let alice = side(server, "alice", &[JINGLE, "urn:example:calls"]).await;
    let bob = side(server, "bob", &[]).await;
    let account = session_xmpp::address::bare(&alice.address);
    assert_eq!(
        bob.discovery.find(&bob.endpoint, &account, &[JINGLE]).await,
        None
    );
    let shown = alice.discovery.presence(Some(&bob.address));
    assert_eq!(alice.endpoint.send_stanza(&shown), Ok(true));
    let seen = async {
        while !bob
            .discovery
            .with(|directory| directory.is_available(&account))
        {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, seen).await.unwrap();
    let find = async |feature: &str| {
        bob.discovery
            .find(&bob.endpoint, &account, &[JINGLE, feature])
            .await
    };
    let (device, info) = find("urn:example:calls").await.unwrap();
    assert_eq!(device, alice.address);
    assert!(info.has(discovery_namespace()) && !info.has("urn:example:files"));
    assert_eq!(find("urn:example:files").await, None);
    let dialect = bob.discovery.with(|directory| directory.dialect(&device));
    assert_eq!(dialect, Some(session_core::Dialect::JINGLE));

    let domain = Peer::from(SCRAM);
    let info = timeout(LONG, discovery::ask(&bob.endpoint, &domain, None))
        .await
        .unwrap();
    let info = info.unwrap();
    assert!(
        info.identities()
            .iter()
            .any(|identity| identity.category == "server")
    );

    let services = extdisco::fetch(&bob.endpoint, &domain).await.unwrap();
    let turn = services
        .iter()
        .find(|service| service.kind == "turn")
        .unwrap();
    assert_eq!((turn.host.as_str(), turn.port), ("192.0.2.7", Some(3478)));
    assert!(!turn.lacks_credentials(), "{turn:?}");
    assert!(services.iter().any(|service| service.kind == "stun"));
    let now = turn
        .username
        .as_deref()
        .and_then(|name| name.split(':').next());
    let ends: i64 = now.unwrap().parse().unwrap();
    // The name of a login at coturn begins with its end.
    assert!((ends - turn.expires.unwrap_or(ends)).abs() <= 1);
    let renewal = extdisco::renewal(&services, ends - 600);
    assert!((renewal.as_secs_f64() - 300.0).abs() < 2.0, "{renewal:?}");
}

fn discovery_namespace() -> &'static str {
    session_xmpp::client::disco::DISCO_INFO
}

#[tokio::test(flavor = "multi_thread")]
async fn prosody() {
    let wishes = Wishes {
        modules: "\"external_services\";",
        settings: "external_service_secret = \"a secret\"\n\
            external_services = { { type = \"stun\"; transport = \"udp\"; host = \"192.0.2.7\"; port = 3478 };\n\
            { type = \"turn\"; transport = \"udp\"; host = \"192.0.2.7\"; port = 3478; secret = true; ttl = 600 } }",
        ..Wishes::default()
    };
    let Some(server) = prosody::start("discovery-prosody", wishes) else {
        return;
    };
    who_can_what(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ejabberd() {
    let Some(server) = ejabberd::start("discovery-ejabberd") else {
        return;
    };
    who_can_what(&server).await;
}
