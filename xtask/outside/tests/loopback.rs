//! The client and the transport of this package, driven by the real driver over real sockets.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::time::Duration;

use bytes::Bytes;
use outside::{chat, hello_udp};
use session_core::{Config, ReasonCondition, SessionId, SessionManager, State};
use session_xmpp::endpoint::{Endpoint, Router};

const ALICE: &str = "alice@example.org/desk";
const BOB: &str = "bob@example.org/lap";

fn endpoint(address: &str, router: &Router) -> Endpoint {
    let entropy = |buffer: &mut [u8]| getrandom::fill(buffer).unwrap();
    let mut manager = SessionManager::new(Config::default(), entropy);
    manager.add_client(chat::Chat::default()).unwrap();
    manager
        .add_transport(hello_udp::HelloUdp(Ipv4Addr::LOCALHOST.into()))
        .unwrap();
    Endpoint::spawn(manager, router.link(address))
}

/// Says it as soon as there is a path.
async fn say(endpoint: &Endpoint, id: SessionId, line: &'static str) {
    let send = |manager: &mut SessionManager, now| {
        let (chat, session) = manager.client::<chat::Chat>(id)?;
        session
            .send(chat.channel(id)?, Bytes::from_static(line.as_bytes()), now)
            .ok()
    };
    while endpoint.update(send).is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn hear(endpoint: &Endpoint, id: SessionId) -> String {
    loop {
        let line = endpoint.update(|manager, _| manager.client::<chat::Chat>(id)?.0.hear(id));
        match line {
            Some(line) => return line,
            None => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

#[tokio::test]
async fn lines_go_both_ways_over_sockets() {
    let router = Router::new();
    let (alice, bob) = (endpoint(ALICE, &router), endpoint(BOB, &router));
    let mut received = bob.update(|manager, _| manager.signal_session_create().connect());
    let (call, mut states) = alice.update(|manager, now| {
        let id = manager
            .create_session(ALICE.into(), chat::NAMESPACE, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        session
            .initiate(BOB.into(), vec![], &chat::Topic("weather".into()), now)
            .unwrap();
        (id, session.signal_state().connect())
    });
    states
        .wait_for(|state| *state == State::InProgress)
        .await
        .unwrap();
    let (answer, _) = received.wait_for(|_| true).await.unwrap();

    let talk = async {
        say(&alice, call, "it rains").await;
        assert_eq!(hear(&bob, answer).await, "it rains");
        say(&bob, answer, "not here").await;
        assert_eq!(hear(&alice, call).await, "not here");
    };
    tokio::time::timeout(Duration::from_secs(20), talk)
        .await
        .unwrap();
    assert!(
        alice
            .shutdown(ReasonCondition::Success.into(), Duration::from_secs(5))
            .await
    );
}
