//! What an endpoint does with stanzas that are not what it hoped for.
#![cfg(feature = "endpoint")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

#[path = "loopback/probe.rs"]
mod probe;

use bytes::Bytes;
use probe::{Over, Seen, Side, manager, soon};
use session_core::{Element, Reason, ReasonCondition, SessionManager, StanzaError, State};
use session_xmpp::{
    endpoint::{Endpoint, Link, LinkEvent, Options, QueryKind, Router, RouterLink, Service},
    stanza::{Envelope, Request},
};
use std::time::{Duration, Instant};

const US: &str = "us@example.org/1";
const PEER: &str = "peer@example.org/1";

/// A peer whose stanzas are written by hand.
struct Peer(RouterLink);

impl Peer {
    async fn new(router: &Router) -> Self {
        let mut link = router.link(PEER);
        assert!(matches!(link.next_event().await, Some(LinkEvent::Up(_))));
        Self(link)
    }

    fn say(&mut self, stanza: &str) {
        self.0
            .send(Bytes::copy_from_slice(stanza.as_bytes()))
            .unwrap();
    }

    async fn hear(&mut self) -> String {
        match soon(self.0.next_event()).await {
            Some(LinkEvent::Stanza(stanza)) => String::from_utf8(stanza.to_vec()).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// Asks something harmless and hears the answer next: nothing else was said.
    async fn hears_nothing(&mut self) {
        self.say(&format!(
            "<iq type='get' id='marker' to='{US}'><q xmlns='urn:example'/></iq>"
        ));
        let answer = self.hear().await;
        assert!(answer.contains("id='marker'"), "{answer}");
    }
}

fn attribute(stanza: &str, name: &str) -> String {
    let start = stanza.find(&format!(" {name}='")).unwrap() + name.len() + 3;
    stanza[start..].split('\'').next().unwrap().to_owned()
}

#[tokio::test]
async fn every_request_is_answered_exactly_once_whatever_it_is() {
    let router = Router::new();
    let us = Side::new(&router, US, Over::Udp).await;
    let mut peer = Peer::new(&router).await;
    let requests = [
        "<q xmlns='urn:example'/>",
        "",
        "<jingle xmlns='urn:xmpp:jingle:1'/>",
        "<jingle xmlns='urn:xmpp:jingle:1' action='session-initiate'/>",
        "<jingle xmlns='urn:xmpp:jingle:1' action='session-info' sid='none'/>",
        "<jingle xmlns='urn:xmpp:jingle:1' action='dance' sid='none'/>",
        "<session xmlns='http://www.google.com/session' type='accept' id='1'/>",
        "<session xmlns='http://www.google.com/session' type='nonsense'/>",
        "<data xmlns='http://jabber.org/protocol/ibb' sid='none' seq='0'>AAAA</data>",
    ];
    for (number, payload) in requests.into_iter().enumerate() {
        for kind in ["get", "set", "bad"] {
            let id = format!("{kind}{number}");
            peer.say(&format!(
                "<iq type='{kind}' id='{id}' to='{US}'>{payload}</iq>"
            ));
            let answer = peer.hear().await;
            assert_eq!(attribute(&answer, "id"), id, "{answer}");
            assert_eq!(attribute(&answer, "type"), "error", "{payload}: {answer}");
            assert_eq!(attribute(&answer, "from"), US);
            peer.hears_nothing().await;
        }
    }
    assert_eq!(us.endpoint.update(|manager, _| manager.session_count()), 0);
}

/// An error shows that somebody is here, also to whom only the account is known: messages reach it by that.
#[tokio::test]
async fn a_transports_message_is_refused_to_who_has_a_session_and_to_nobody_else() {
    let router = Router::new();
    let us = Side::new(&router, US, Over::Udp).await;
    us.endpoint
        .update(|manager, _| manager.add_transport(transport_relay::ibb::Ibb::new()))
        .unwrap();
    let mut peer = Peer::new(&router).await;
    let block = || {
        format!(
            "<message to='{US}' id='block'><data xmlns='http://jabber.org/protocol/ibb' sid='none' \
             seq='0'>AAAA</data></message>"
        )
    };
    peer.say(&block());
    peer.hears_nothing().await;
    us.offer(&PEER.into());
    assert!(peer.hear().await.contains("session-initiate"));
    peer.say(&block());
    let answer = peer.hear().await;
    assert!(answer.contains("item-not-found"), "{answer}");
    assert_eq!(attribute(&answer, "id"), "block");
}

#[tokio::test]
async fn garbage_is_counted_and_harms_nothing() {
    let router = Router::new();
    let us = Side::new(&router, US, Over::Udp).await;
    let mut peer = Peer::new(&router).await;
    let garbage: [&[u8]; 8] = [
        b"",
        b"\xff\xfe",
        b"<iq",
        b"<iq type='result' id='1'><a></iq>",
        b"<presence><!-- no --></presence>",
        b"<stream:error/>",
        b"<iq type='set' from='@' id='1' xmlns='jabber:client'/>",
        b"<wrong xmlns='jabber:client'/>",
    ];
    for bytes in garbage {
        assert!(router.deliver(&US.into(), bytes));
    }
    peer.hears_nothing().await;
    let stats = us.endpoint.stats();
    assert_eq!(stats.stanzas_malformed, garbage.len() as u64, "{stats:?}");

    // A request that is broken inside is one all the same.
    let broken = format!("<iq type='set' id='7' from='{PEER}' to='{US}'><a></iq>");
    router.deliver(&US.into(), broken);
    let answer = peer.hear().await;
    assert_eq!(attribute(&answer, "id"), "7");
    assert!(answer.contains("bad-request"), "{answer}");
    peer.say(&format!("<message to='{US}'><body>hi</body></message>"));
    peer.hears_nothing().await;
    assert_eq!(us.endpoint.stats().stanzas_ignored, 1);
}

#[tokio::test]
async fn only_the_peer_that_was_asked_can_answer() {
    let router = Router::new();
    let mut us = Side::new(&router, US, Over::Udp).await;
    let mut peer = Peer::new(&router).await;
    us.offer(&PEER.into());
    let offer = peer.hear().await;
    let id = attribute(&offer, "id");
    let mut mallory = router.link("mallory@example.org/1");
    let forged = format!(
        "<iq type='error' id='{id}' from='{PEER}' to='{US}'><error type='cancel'>\
         <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
    );
    mallory.send(forged.into()).unwrap();
    peer.say(&format!("<iq type='result' id='x{id}' to='{US}'/>"));
    peer.hears_nothing().await;
    assert_eq!(us.endpoint.stats().replies_unexpected, 2);
    us.until_seen(&Seen::State(State::SentInitiate)).await;
    // From the right one it counts, once: what waits for the acknowledgement of the offer follows.
    for _ in 0..2 {
        peer.say(&format!("<iq type='result' id='{id}' to='{US}'/>"));
    }
    let next = peer.hear().await;
    assert!(next.contains("transport-info"), "{next}");
    while us.endpoint.stats().replies_unexpected < 3 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_same_request_is_sent_again_as_the_same() {
    let router = Router::new();
    let us = Side::new(&router, US, Over::Udp).await;
    let mut peer = Peer::new(&router).await;
    us.offer(&PEER.into());
    let first = peer.hear().await;
    // The answer is overdue: the core's clock is told, and not waited for.
    let later = Instant::now() + Duration::from_secs(16);
    us.endpoint
        .update(|manager, _| manager.handle_input(session_core::Input::Timeout, later));
    let second = peer.hear().await;
    assert_eq!(first, second);
}

/// Answers one namespace, and keeps what is sent to it.
struct Echo(tokio::sync::mpsc::Sender<String>);

impl Service for Echo {
    fn handle_request(
        &mut self,
        request: &Request,
        _: &mut SessionManager,
        _: Instant,
    ) -> Option<Result<Option<Element>, StanzaError>> {
        let payload = request.payload().filter(|p| p.namespace() == "urn:echo")?;
        Some(Ok(Some(payload.to_element())))
    }

    fn handle_other(
        &mut self,
        other: &Envelope,
        manager: &mut SessionManager,
        now: Instant,
    ) -> bool {
        manager.terminate_all(Reason::new(ReasonCondition::Busy), now);
        let told = format!("{} from {}", other.stanza.name(), other.from);
        self.0.try_send(told).is_ok()
    }
}

#[tokio::test]
async fn services_answer_and_queries_are_answered() {
    let router = Router::new();
    let (sender, mut told) = tokio::sync::mpsc::channel(10);
    let mut options = Options::default();
    options.service = Some(Box::new(Echo(sender)));
    let server = Endpoint::spawn_with(manager(Over::Udp, false).0, router.link(PEER), options);
    let us = Side::new(&router, US, Over::Udp).await;
    let question = Element::new("urn:echo", "question").text("é & <");
    let ask = |to: &str, payload: &Element| {
        let (to, payload) = (to.into(), payload.clone());
        let endpoint = us.endpoint.clone();
        async move {
            let timeout = Duration::from_secs(10);
            soon(endpoint.query(QueryKind::Get, to, payload, timeout)).await
        }
    };
    assert_eq!(ask(PEER, &question).await, Ok(Some(question.clone())));
    let unknown = Element::new("urn:unknown", "question");
    let refused = ask(PEER, &unknown).await.unwrap_err();
    assert_eq!(refused.condition.as_str(), "service-unavailable");
    let nobody = ask("nobody@example.org", &question).await.unwrap_err();
    assert_eq!(nobody.condition.as_str(), "service-unavailable");

    let hello = Element::new("jabber:client", "message").with("to", PEER);
    assert_eq!(us.endpoint.send_stanza(&hello), Ok(true));
    assert_eq!(
        soon(told.recv()).await.unwrap(),
        format!("message from {US}")
    );
    assert_eq!(server.stats(), Default::default());

    // What a service does to the manager takes effect.
    let silent = router.link("silent@example.org/1");
    let id = server.update(|manager, now| {
        let id = manager
            .create_session(PEER.into(), probe::TYPE, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        let to = silent.address().clone();
        session
            .initiate_with(to, vec![], probe::description(), now)
            .unwrap();
        id
    });
    assert_eq!(us.endpoint.send_stanza(&hello), Ok(true));
    soon(told.recv()).await.unwrap();
    assert!(server.update(|manager, _| manager.peek(id).is_none()));

    let _silent = router.link("silent@example.org");
    let silence = us
        .endpoint
        .query(
            QueryKind::Set,
            "silent@example.org".into(),
            question,
            Duration::from_millis(20),
        )
        .await;
    assert_eq!(
        silence.unwrap_err().condition.as_str(),
        "remote-server-timeout"
    );
}
