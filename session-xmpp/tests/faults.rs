//! Servers that misbehave, and peers that flood: bounded, told, and nothing else is disturbed.
#![cfg(feature = "client")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

#[path = "faults/answers.rs"]
mod answers;
#[path = "faults/devices.rs"]
mod devices;
#[path = "faults/nasty.rs"]
mod nasty;
#[path = "loopback/probe.rs"]
mod probe;

use session_core::{
    Condition, Config, Element, ElementLimits, Peer, SeededEntropy, SessionManager,
};
use session_xmpp::{
    client::{Calls, Client, ClientState, Discovery, Info, Options, Policy, Rule, Server, disco},
    endpoint::{self, Endpoint, Link, LinkEvent, QueryKind, Router, RouterLink, Service},
    jmi::{CALLS_MAX, JMI, JmiConfig, JmiOutput},
    xml,
};
use std::time::Duration;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

const LONG: Duration = Duration::from_secs(60);

/// What a server does after a login, each time something else.
const MISDEEDS: &[&[u8]] = &[
    // It goes away in the middle of a stanza.
    b"<message from='a@fault.test/1'><body>half",
    b"<<<>>&&&\xff\x00\x01",
    b"<message from='a@fault.test/1'><body>&nosuch;</body></message>",
    b"<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e 'x'>]><message/>",
    b"</stream:stream>",
    b"<stream:error><reset xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>",
];

/// What the last connection carries, after a stanza that is too long.
const LAST: &[u8] = b"<message from='a@fault.test/1' id='well'><body>all is well</body></message>";

/// Waits until the client has said this.
async fn hear(stream: &mut TcpStream, heard: &mut String, wanted: &str) {
    let mut buffer = [0; 4_096];
    while !heard.contains(wanted) {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0, "{wanted} was not said: {heard}");
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
    }
    heard.clear();
}

/// Lets in anybody, without TLS and stream management.
async fn let_in(stream: &mut TcpStream) {
    let header = "<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' \
        id='1' from='fault.test' version='1.0'>";
    let mut heard = String::new();
    hear(stream, &mut heard, "<stream:stream").await;
    let mechanisms = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>\
        <mechanism>ANONYMOUS</mechanism></mechanisms></stream:features>";
    stream
        .write_all(format!("{header}{mechanisms}").as_bytes())
        .await
        .unwrap();
    hear(stream, &mut heard, "<auth").await;
    let success = "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>";
    stream.write_all(success.as_bytes()).await.unwrap();
    hear(stream, &mut heard, "<stream:stream").await;
    let bind =
        "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></stream:features>";
    stream
        .write_all(format!("{header}{bind}").as_bytes())
        .await
        .unwrap();
    let mut buffer = [0; 4_096];
    let id = loop {
        let count = stream.read(&mut buffer).await.unwrap();
        assert!(count > 0);
        heard.push_str(&String::from_utf8_lossy(&buffer[..count]));
        let id = heard
            .split("id='")
            .nth(1)
            .and_then(|rest| rest.split_once('\''));
        if let Some((id, _)) = id.filter(|_| heard.contains("</iq>")) {
            break id.to_owned();
        }
    };
    let bound = format!(
        "<iq type='result' id='{id}'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
         <jid>me@fault.test/1</jid></bind></iq>"
    );
    stream.write_all(bound.as_bytes()).await.unwrap();
}

async fn misbehave(listener: TcpListener) {
    for misdeed in MISDEEDS {
        let (mut stream, _) = listener.accept().await.unwrap();
        let_in(&mut stream).await;
        stream.write_all(misdeed).await.unwrap();
        // Perhaps the client says good-bye; then it is gone.
        let _ = stream.shutdown().await;
        let mut waste = Vec::new();
        let _ = timeout(Duration::from_secs(5), stream.read_to_end(&mut waste)).await;
    }
    // A stanza of a megabyte: the stream ends with an error, and nothing of it is kept.
    let (mut stream, _) = listener.accept().await.unwrap();
    let_in(&mut stream).await;
    let long = format!("<message><body>{}</body></message>", "x".repeat(1 << 20));
    let _ = stream.write_all(long.as_bytes()).await;
    let mut heard = String::new();
    let _ = timeout(Duration::from_secs(5), stream.read_to_string(&mut heard)).await;
    drop(stream);
    let (mut stream, _) = listener.accept().await.unwrap();
    let_in(&mut stream).await;
    stream.write_all(LAST).await.unwrap();
    sleep(LONG).await;
}

#[tokio::test]
async fn a_client_comes_back_from_whatever_a_server_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(misbehave(listener));
    let mut options = Options::anonymous("fault.test");
    options.login.allow_unencrypted = true;
    options.server = Server::At {
        host: "127.0.0.1".to_owned(),
        port,
        direct_tls: false,
    };
    let (client, mut link) = Client::start(options);
    let (mut ups, mut downs) = (0, 0);
    let well = async {
        loop {
            match link.next_event().await {
                Some(LinkEvent::Up(_)) => ups += 1,
                Some(LinkEvent::Down(_)) => downs += 1,
                Some(LinkEvent::Stanza(stanza)) => {
                    if stanza == LAST {
                        return;
                    }
                    // Cut out of the stream as one, it is no XML; an endpoint counts it and goes on.
                    let limits = ElementLimits::default();
                    let parsed = xml::parse(&stanza, &xml::Context::CLIENT, &limits);
                    assert!(parsed.is_err(), "half a stanza is none: {parsed:?}");
                }
                other => panic!("{other:?}"),
            }
        }
    };
    timeout(2 * LONG, well).await.unwrap();
    assert_eq!((ups, downs), (MISDEEDS.len() + 2, MISDEEDS.len() + 1));
    assert!(matches!(client.state(), ClientState::Online { .. }));
    server.abort();
}

struct Device {
    endpoint: Endpoint,
    calls: Calls,
    told: mpsc::Receiver<JmiOutput>,
}

fn device(router: &Router, address: &str) -> Device {
    device_with(router.link(address))
}

fn device_with(link: impl Link) -> Device {
    let (calls, told) = Calls::new(JmiConfig::default());
    let policy = Policy::new([Rule::Any]);
    calls.set_policy(policy.clone());
    let info = Info::new("client", "pc", "x", [JMI]);
    let discovery = Discovery::new("https://example.org/x", info);
    let services: Vec<Box<dyn Service>> =
        vec![policy.service(), discovery.service(), calls.service()];
    let mut options = endpoint::Options::default();
    options.service.replace(Box::new(services));
    let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
    let endpoint = Endpoint::spawn_with(manager, link, options);
    Device {
        endpoint,
        calls,
        told,
    }
}

/// What comes next over a link that is no endpoint's.
async fn next_stanza(link: &mut RouterLink) -> String {
    loop {
        if let LinkEvent::Stanza(stanza) = link.next_event().await.unwrap() {
            return String::from_utf8(stanza.to_vec()).unwrap();
        }
    }
}

/// An attribute of a stanza's start tag.
fn attribute(stanza: &str, name: &str) -> String {
    let value = stanza.split(&format!(" {name}='")).nth(1);
    let value = value.and_then(|rest| rest.split('\'').next());
    value.unwrap().to_owned()
}

async fn ask(device: &Device, whom: &str, wait: Duration) -> Result<Option<Element>, Condition> {
    let query = Element::new(disco::DISCO_INFO, "query");
    let asked = device
        .endpoint
        .query(QueryKind::Get, whom.into(), query, wait);
    asked.await.map_err(|error| error.condition)
}

#[tokio::test]
async fn a_flood_of_calls_is_bounded_and_disturbs_nobody() {
    let router = Router::new();
    let bob = device(&router, "bob@x/1");
    let carol = device(&router, "carol@x/1");
    for account in 0..40 {
        let mallory = format!("mallory{account}@x/1");
        let mut link = router.link(&*mallory);
        for number in 0..50 {
            let propose = format!(
                "<message to='bob@x/1' from='{mallory}' type='chat'>\
                 <propose xmlns='{JMI}' id='{account}-{number}'><description xmlns='urn:x'/></propose></message>"
            );
            link.send(propose.into()).unwrap();
        }
        // What a device cannot take yet is refused by the router, not kept.
        tokio::task::yield_now().await;
    }
    let info = ask(&carol, "bob@x/1", LONG).await.unwrap().unwrap();
    assert!(info.is(disco::DISCO_INFO, "query"));
    let ringing = bob.calls.update(|jmi, _| jmi.calls().count());
    assert!((1..=CALLS_MAX).contains(&ringing), "{ringing}");
    assert_eq!(bob.endpoint.update(|manager, _| manager.session_count()), 0);
}

#[tokio::test]
async fn answers_that_come_never_late_or_twice_are_told() {
    let router = Router::new();
    let alice = device(&router, "alice@x/1");
    let mut silent = router.link("silent@x/1");
    let short = Duration::from_millis(200);
    let never = ask(&alice, "silent@x/1", short).await;
    assert_eq!(never, Err(Condition::RemoteServerTimeout));
    // Now it answers, and again, and for somebody else.
    let id = attribute(&next_stanza(&mut silent).await, "id");
    for _ in 0..2 {
        let late = format!("<iq type='result' id='{id}' from='silent@x/1' to='alice@x/1'/>");
        silent.send(late.into()).unwrap();
    }
    let told = async {
        while alice.endpoint.stats().replies_unexpected < 1 {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(LONG, told).await.unwrap();
    let bob = device(&router, "bob@x/1");
    assert!(ask(&alice, "bob@x/1", LONG).await.unwrap().is_some());
    let nobody = ask(&alice, "nobody@x/1", LONG).await;
    assert_eq!(nobody, Err(Condition::ServiceUnavailable));
    drop(bob);
}

#[tokio::test]
async fn an_offer_that_comes_twice_is_one_session() {
    let router = Router::new();
    let bob = device(&router, "bob@x/1");
    let mut link = router.link("alice@x/1");
    let offer = |id: u32| {
        format!(
            "<iq type='set' id='{id}' from='alice@x/1' to='bob@x/1'><jingle xmlns='urn:xmpp:jingle:1' \
             action='session-initiate' sid='s' initiator='alice@x/1'><content creator='initiator' name='c'>\
             <description xmlns='urn:example:unknown'/><transport xmlns='urn:example:unknown'/></content></jingle></iq>"
        )
    };
    for id in 0..3 {
        link.send(offer(id).into()).unwrap();
    }
    let mut answers = 0;
    let all = async {
        while answers < 3 {
            let text = next_stanza(&mut link).await;
            answers += usize::from(text.contains("type='error'") || text.contains("type='result'"));
        }
    };
    timeout(LONG, all).await.unwrap();
    let peer = Peer::from("alice@x/1");
    let live = bob.endpoint.update(|manager, _| {
        let ids = manager.session_ids();
        ids.iter()
            .filter(|id| *manager.peek(**id).unwrap().remote_name() == peer)
            .count()
    });
    assert!(live <= 1, "{live}");
}
