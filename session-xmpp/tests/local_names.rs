//! Names of the local network over real sockets, on loopback.

#![cfg(feature = "mdns")]
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use session_core::testing::{Answer, Note, RECORDER_NAMESPACE, Recorder};
use session_core::{
    ChannelOutput, Config, Datagram, Element, Finding, Inquiry, LocalSocket, SeededEntropy,
    SendError, SessionManager, SocketError, Transport, TransportChannel, TransportContext,
    TransportError, TransportFactory, TransportKind,
};
use session_xmpp::endpoint::{Endpoint, LocalNames, Options, Router};
use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::time::timeout;

fn names() -> LocalNames {
    LocalNames::new()
        .and_then(LocalNames::with_loopback)
        .unwrap()
}

#[tokio::test]
async fn what_one_announces_another_finds() {
    let (one, other) = (names(), names());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let name = one.announce(address).unwrap();
    assert!(name.ends_with(".local"), "{name}");
    assert_ne!(
        one.announce(address).unwrap(),
        name,
        "a name for each who asks"
    );
    let found = timeout(Duration::from_secs(3), other.look_up(&name)).await;
    assert_eq!(found, Ok(Some(address)));
}

#[tokio::test]
async fn what_nobody_announces_is_not_found() {
    let names = names();
    assert_eq!(
        names.look_up("example.org").await,
        None,
        "not of the local network"
    );
    let nobody = names.look_up("00000000-0000-4000-8000-000000000000.local");
    assert_eq!(timeout(Duration::from_secs(8), nobody).await, Ok(None));
}

const NAMESPACE: &str = "urn:example:names";

/// A transport whose channel hides an address, looks up the name that it got, and is writable once that leads back.
#[derive(Default)]
struct Asking(VecDeque<ChannelOutput>);

struct AskingFactory;

impl TransportFactory for AskingFactory {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, _: &TransportContext) -> Box<dyn Transport> {
        Box::new(Self)
    }
}

impl Transport for AskingFactory {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn offer(&mut self) -> Element {
        Element::new(NAMESPACE, "transport")
    }

    fn accept_offer(&mut self, _: &Element) -> Result<Element, TransportError> {
        Ok(self.offer())
    }

    fn accept_answer(&mut self, _: &Element) -> Result<(), TransportError> {
        Ok(())
    }

    fn create_channel(&mut self, _: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        Ok(Box::<Asking>::default())
    }
}

impl TransportChannel for Asking {
    fn connect(&mut self, _: Instant) {
        let hide = Inquiry::HideAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
        self.0.push_back(ChannelOutput::Inquire(1, hide));
    }

    fn handle_finding(&mut self, inquiry: u32, finding: Finding, _: Instant) {
        self.0.push_back(match (inquiry, finding) {
            (1, Finding::Name(name)) => ChannelOutput::Inquire(2, Inquiry::LocalName(name)),
            (2, Finding::Address(ip)) if ip.is_loopback() => ChannelOutput::Writable(true),
            (_, other) => {
                let why = format!("{other:?}").into();
                ChannelOutput::Failed(TransportError::NoResource(why))
            }
        });
    }

    fn handle_info(&mut self, _: &Element, _: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn handle_bound(&mut self, _: LocalSocket, _: Result<SocketAddr, SocketError>, _: Instant) {}

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_timeout(&mut self, _: Instant) {}

    fn send(&mut self, _: Bytes, _: Instant) -> Result<(), SendError> {
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.0.pop_front()
    }
}

#[tokio::test]
async fn a_channel_asks_through_its_endpoint() {
    let router = Router::new();
    let endpoint = |address: &str, names: Option<LocalNames>| {
        let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        manager.add_transport(AskingFactory).unwrap();
        let recorder = Recorder::new()
            .with_channel("data")
            .with_answer(Answer::Accept);
        manager.add_client(recorder).unwrap();
        let mut options = Options::default();
        options.local_names = names;
        Endpoint::spawn_with(manager, router.link(address), options)
    };
    let (a, b) = ("a@example.org/1", "b@example.org/2");
    // Both, or the callee's transport fails and takes the session with it.
    let (caller, callee) = (endpoint(a, Some(names())), endpoint(b, Some(names())));
    let id = caller.update(|manager, now| {
        let id = manager
            .create_session(a.into(), RECORDER_NAMESPACE, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        let note = Note("call".into());
        session.initiate(b.into(), Vec::new(), &note, now).unwrap();
        id
    });
    let writable = || {
        caller.update(|manager, _| {
            let session = manager.session(id)?;
            Some(session.writable(session.channel("data")?))
        })
    };
    for _ in 0..400 {
        if writable() == Some(true) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(writable(), Some(true));
    drop(callee);
}
