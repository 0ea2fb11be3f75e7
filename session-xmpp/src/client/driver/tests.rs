//! A server that stops reading.
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

use super::*;
use crate::client::sasl::{Password, Secured};
use std::future::poll_fn;
use tokio::{io::DuplexStream, task::JoinHandle, time::timeout};

/// All that a server says until a login stands, whatever it hears.
const LOGIN: &str = "<?xml version='1.0'?><stream:stream id='s' from='a.example' version='1.0' \
    xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><stream:features><mechanisms \
    xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>\
    <success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><stream:stream id='s' from='a.example' \
    version='1.0' xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>\
    <stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/><sm xmlns='urn:xmpp:sm:3'/>\
    </stream:features><iq type='result' id='bind'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'>\
    <jid>romeo@a.example/x</jid></bind></iq><enabled xmlns='urn:xmpp:sm:3' id='s1' resume='true'/>";

/// What a connection takes before it blocks.
const ROOM: usize = 8 * 1024;

/// A login whose server reads no more, while there is more to send.
struct Blocked {
    shared: Arc<Shared>,
    server: DuplexStream,
    driver: JoinHandle<Option<LoginError>>,
}

impl Blocked {
    async fn new(idle: Duration) -> Self {
        let address = Peer::from("romeo@a.example/x");
        let mut options = Options::new(&address, Password::new("secret"));
        options.login.idle = idle;
        let shared = Arc::new(Shared::new(&options));
        shared.update(|stream, now| stream.handle_connected(Some(Secured::default()), now));
        let (mut ours, mut server) = tokio::io::duplex(ROOM);
        let driven = shared.clone();
        let driver = tokio::spawn(async move { converse(&driven, &mut ours).await });
        server.write_all(LOGIN.as_bytes()).await.unwrap();
        let blocked = Self {
            shared,
            server,
            driver,
        };
        assert_eq!(blocked.next().await, LinkEvent::Up(address));
        blocked.shared.send(vec![b' '; 4 * ROOM].into()).unwrap();
        tokio::time::sleep(Duration::from_millis(20)).await;
        blocked
    }

    async fn next(&self) -> LinkEvent {
        let event = poll_fn(|cx| self.shared.poll_event(cx));
        let event = timeout(Duration::from_secs(5), event).await;
        event.expect("soon").expect("it lasts")
    }

    async fn end(self) -> Option<LoginError> {
        let ended = timeout(3 * LINGER, self.driver).await;
        ended.expect("it ends").expect("in order")
    }
}

#[tokio::test]
async fn what_arrives_is_delivered_while_nothing_can_be_sent() {
    let mut blocked = Blocked::new(Duration::from_secs(60)).await;
    for _ in 0..2_000 {
        let said = b"<message/><r xmlns='urn:xmpp:sm:3'/>";
        blocked.server.write_all(said).await.unwrap();
        let event = blocked.next().await;
        assert_eq!(event, LinkEvent::Stanza(Bytes::from_static(b"<message/>")));
    }
    // It reads again, and hears what was to be said, and one count.
    let mut heard = String::new();
    while !heard.ends_with("h='2000'/>") {
        let mut buffer = [0; ROOM];
        let read = blocked.server.read(&mut buffer);
        let count = timeout(Duration::from_secs(5), read).await;
        let count = count.expect("soon").unwrap();
        heard += std::str::from_utf8(&buffer[..count]).unwrap();
    }
    assert_eq!(heard.matches("<a xmlns").count(), 1);
    assert!(heard.contains(&" ".repeat(4 * ROOM)));
}

#[tokio::test]
async fn a_dead_network_is_noticed_while_nothing_can_be_sent() {
    let blocked = Blocked::new(Duration::from_millis(100)).await;
    assert_eq!(blocked.end().await, Some(LoginError::Timeout));
}

#[tokio::test]
async fn a_login_can_be_closed_while_nothing_can_be_sent() {
    let blocked = Blocked::new(Duration::from_secs(60)).await;
    blocked.shared.close();
    assert_eq!(blocked.end().await, Some(LoginError::Closed));
}

#[tokio::test]
async fn what_was_taken_is_said_before_the_end() {
    let mut blocked = Blocked::new(Duration::from_secs(60)).await;
    blocked.shared.close();
    let mut heard = String::new();
    let read = blocked.server.read_to_string(&mut heard);
    timeout(LINGER, read).await.expect("soon").unwrap();
    drop(blocked.server);
    assert!(heard.contains(&" ".repeat(4 * ROOM)));
    assert!(heard.ends_with("</stream:stream>"), "{}", heard.len());
    let ended = timeout(LINGER, blocked.driver).await;
    assert_eq!(ended.expect("at once").unwrap(), Some(LoginError::Closed));
}
