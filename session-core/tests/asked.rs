//! Channels are asked what they want after words that their transport got.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

mod common;

use bytes::Bytes;
use common::*;
use session_core::*;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Instant,
};

/// A transport whose channel has a path once its transport has heard of the peer, and not before.
#[derive(Clone, Default)]
struct Hearing {
    /// Whether it is the device of the peer that it waits for, and not its answer.
    by_device: bool,
    out: Arc<Mutex<VecDeque<ChannelOutput>>>,
}

impl Hearing {
    fn hear(&self, device: bool) {
        if device == self.by_device {
            let mut out = self.out.lock().unwrap();
            out.push_back(ChannelOutput::Writable(true));
        }
    }
}

impl TransportFactory for Hearing {
    fn namespace(&self) -> &str {
        ONE
    }
    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }
    fn create(&self, _: &TransportContext) -> Box<dyn Transport> {
        Box::new(self.clone())
    }
}

impl Transport for Hearing {
    fn namespace(&self) -> &str {
        ONE
    }
    fn offer(&mut self) -> Element {
        Element::new(ONE, "transport")
    }
    fn accept_offer(&mut self, _: &Element) -> Result<Element, TransportError> {
        Ok(self.offer())
    }
    fn accept_answer(&mut self, _: &Element) -> Result<(), TransportError> {
        self.hear(false);
        Ok(())
    }
    fn handle_remote(&mut self, _: &Peer) {
        self.hear(true);
    }
    fn create_channel(&mut self, _: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        Ok(Box::new(self.clone()))
    }
}

impl TransportChannel for Hearing {
    fn connect(&mut self, _: Instant) {}
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
        self.out.lock().unwrap().pop_front()
    }
}

/// Alice's, who has offered to the whole account. Her channels begin before the answer.
fn offered(by_device: bool) -> Table {
    let mut t = Table::new(Setup {
        alice: vec![],
        bob: vec![fake(ONE)],
        channels: vec!["data"],
        ..Setup::default()
    });
    let hearing = Hearing {
        by_device,
        ..Hearing::default()
    };
    t.alice.manager.add_transport(hearing).unwrap();
    let (name, now) = (t.alice.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.alice.manager.session(id).unwrap();
    let account = Peer::from(t.bob.name.account());
    session
        .initiate_with(account, vec![], description("offer"), now)
        .unwrap();
    t.drain(Alice);
    t
}

#[test]
fn after_the_answer_and_after_the_device_is_known() {
    for by_device in [true, false] {
        let mut t = offered(by_device);
        let mut accept = t.message(Bob, Action::SessionAccept);
        accept.contents.push(ContentPart {
            description: Some(description("answer")),
            transports: vec![Element::new(ONE, "transport")],
            ..ContentPart::named("main")
        });
        assert!(!t.saw(Alice, "writable data true"));
        assert_eq!(t.inject(Alice, accept), "result");
        assert!(t.saw(Alice, "writable data true"), "{by_device}");
    }
}
