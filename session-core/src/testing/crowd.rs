//! [`Crowd`]: one manager and any number of peers that want nothing more of it.

use super::{
    epoch,
    memory::{DATAGRAM_NAMESPACE, MemoryDatagram, answer_to_ping},
    recorder::{Note, RECORDER_NAMESPACE},
};
use crate::{
    Action, Config, ContentPart, Dialect, Element, Input, Message, Output, RequestId, Role,
    SeededEntropy, Session, SessionClient, SessionDescription, SessionManager, SocketId, State,
};
use bytes::Bytes;
use std::{collections::VecDeque, net::SocketAddr, time::Instant};

/// A manager whose sessions are established and idle, each with a channel that is writable: to measure what a session
/// costs that does nothing.
#[derive(Debug)]
pub struct Crowd {
    manager: SessionManager,
    now: Instant,
    peers: usize,
    last: Option<(SocketId, SocketAddr)>,
}

impl Crowd {
    /// A manager without sessions. Everything happens at one instant.
    ///
    /// # Panics
    /// Never: the manager is fresh.
    pub fn new(config: Config) -> Self {
        let mut entropy = SeededEntropy::new(1);
        let fill = move |bytes: &mut [u8]| crate::Entropy::fill(&mut entropy, bytes);
        let mut manager = SessionManager::new(config, fill);
        let added = manager
            .add_transport(MemoryDatagram::new())
            .and_then(|()| manager.add_client(Host));
        assert_eq!(added, Ok(()));
        Self {
            manager,
            now: epoch(),
            peers: 0,
            last: None,
        }
    }

    /// So many more peers, each of an account of its own, offer a session, connect, and are silent from then on.
    pub fn establish(&mut self, count: usize) {
        for _ in 0..count {
            self.peers += 1;
            let id = RequestId(self.peers as u64);
            let message = offer(self.peers);
            self.give(Input::Message { id, message });
        }
    }

    /// A packet of the last peer's arrives, and the manager does what follows.
    ///
    /// # Panics
    /// Before there is a peer.
    pub fn hear(&mut self, payload: Bytes) {
        let Some((socket, source)) = self.last else {
            panic!("nobody is there to send it");
        };
        self.give(Input::Datagram {
            socket,
            source,
            payload,
            segment_size: 0,
        });
    }

    /// The manager.
    pub fn manager(&mut self) -> &mut SessionManager {
        &mut self.manager
    }

    /// Plays the peer, the network and the driver until nothing is left to do.
    fn give(&mut self, input: Input) {
        let mut next = Some(input);
        let mut more = VecDeque::new();
        while let Some(input) = next {
            self.manager.handle_input(input, self.now);
            loop {
                let output = self.manager.poll_output(self.now);
                if let Output::Wait(_) = output {
                    break;
                }
                more.extend(self.answer(output));
            }
            next = more.pop_front();
        }
    }

    fn answer(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Message { id, .. } | Output::Request { id, .. } => Some(Input::Reply {
                id,
                reply: Ok(None),
            }),
            Output::Bind { socket, .. } => Some(Input::Bound {
                socket,
                address: Ok(SocketAddr::from(([10, 0, 0, 1], 4_000))),
            }),
            Output::Transmit {
                socket,
                destination,
                payload,
                ..
            } => {
                self.last = Some((socket, destination));
                Some(Input::Datagram {
                    socket,
                    source: destination,
                    payload: answer_to_ping(&payload)?,
                    segment_size: 0,
                })
            }
            Output::Reply { .. }
            | Output::Connect { .. }
            | Output::Write { .. }
            | Output::Hold { .. }
            | Output::Inquire { .. }
            | Output::Shutdown { .. }
            | Output::Close { .. }
            | Output::Wait(_) => None,
        }
    }
}

/// What a peer offers, its candidate with it.
fn offer(number: usize) -> Message {
    let candidate = Element::new(DATAGRAM_NAMESPACE, "candidate")
        .with("address", SocketAddr::from(([10, 0, 0, 2], 4_000)))
        .with("key", format!("{number:032x}"))
        .with("name", "data");
    let part = ContentPart {
        creator: Some(Role::Initiator),
        description: Some(Note("offer".into()).to_element()),
        transports: vec![Element::new(DATAGRAM_NAMESPACE, "transport").child(candidate)],
        ..ContentPart::named("main")
    };
    let from = format!("peer{number}@example.org/device");
    let sid = format!("{number:032x}");
    let (to, dialect) = ("host@example.org/device".into(), Dialect::JINGLE);
    Message {
        contents: vec![part],
        ..Message::new(from.into(), to, sid, dialect, Action::SessionInitiate)
    }
}

struct Host;

impl SessionClient for Host {
    fn namespace(&self) -> &str {
        RECORDER_NAMESPACE
    }

    fn on_session_create(&mut self, session: &mut Session, _: bool, now: Instant) {
        // The first channel of a session has room.
        let _ = session.create_channel("data", now);
    }

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        if state == State::ReceivedInitiate {
            // It may be over already; then there is nothing to accept.
            let _ = session.accept(&Note("answer".into()), now);
        }
    }
}
