//! Two managers, the client and the transport of this package, and a driver of our own: what [`Output`] asks is done, over
//! a table of sockets and a clock that only moves when nothing is left to do.
#![allow(clippy::unwrap_used)]
#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an Output may grow, and what is not known here fails the test"
)]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use outside::{chat, hello_udp};
use session_core::{
    Config, Dialect, Input, Notice, Output, SeededEntropy, SessionId, SessionManager, SocketId,
    State,
};

const NAMES: [&str; 2] = ["alice@example.org/desk", "bob@example.org/lap"];
const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

struct Pair {
    managers: [SessionManager; 2],
    /// Who has which address.
    sockets: BTreeMap<SocketAddr, (usize, SocketId)>,
    now: Instant,
}

impl Pair {
    fn new(dialect: &'static Dialect) -> Self {
        let managers = [1, 2].map(|seed| {
            let config = Config {
                dialect,
                ..Config::default()
            };
            let mut manager = SessionManager::new(config, SeededEntropy::new(seed));
            manager.add_client(chat::Chat::default()).unwrap();
            manager.add_transport(hello_udp::HelloUdp(LOCAL)).unwrap();
            manager
        });
        Self {
            managers,
            sockets: BTreeMap::new(),
            now: Instant::now(),
        }
    }

    /// Offers a chat from the first to the second.
    fn call(&mut self, topic: &str) -> SessionId {
        let (alice, now) = (&mut self.managers[0], self.now);
        let id = alice
            .create_session(NAMES[0].into(), chat::NAMESPACE, now)
            .unwrap();
        let session = alice.session(id).unwrap();
        session
            .set_potential_transports(&[hello_udp::NAMESPACE])
            .unwrap();
        session
            .initiate(NAMES[1].into(), vec![], &chat::Topic(topic.into()), now)
            .unwrap();
        id
    }

    /// Does what both want, for this long.
    fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let mut next = end;
            let mut quiet = true;
            for side in [0, 1] {
                self.managers[side].handle_input(Input::Timeout, self.now);
                loop {
                    match self.managers[side].poll_output(self.now) {
                        Output::Wait(deadline) => {
                            break next = deadline.map_or(next, |at| next.min(at));
                        }
                        output => self.carry_out(side, output),
                    }
                    quiet = false;
                }
            }
            if quiet {
                self.now = next.max(self.now + Duration::from_millis(1));
            }
        }
    }

    fn carry_out(&mut self, side: usize, output: Output) {
        let (other, input) = match output {
            Output::Message { id, message } => (1 - side, Input::Message { id, message }),
            Output::Reply { id, reply, .. } => (1 - side, Input::Reply { id, reply }),
            Output::Bind {
                socket, address, ..
            } => {
                let address = SocketAddr::new(address.ip(), 40_000 + self.sockets.len() as u16);
                self.sockets.insert(address, (side, socket));
                (
                    side,
                    Input::Bound {
                        socket,
                        address: Ok(address),
                    },
                )
            }
            Output::Transmit {
                socket,
                destination,
                payload,
                segment_size,
            } => {
                let mut sockets = self.sockets.iter();
                let mine = sockets.find(|(_, owner)| **owner == (side, socket));
                let source = *mine.unwrap().0;
                let Some(&(to, socket)) = self.sockets.get(&destination) else {
                    return;
                };
                (
                    to,
                    Input::Datagram {
                        socket,
                        source,
                        payload,
                        segment_size,
                    },
                )
            }
            Output::Close { socket } => {
                return self.sockets.retain(|_, owner| *owner != (side, socket));
            }
            other => panic!("{other:?} is not for this transport"),
        };
        self.managers[other].handle_input(input, self.now);
    }

    fn say(&mut self, side: usize, id: SessionId, line: &'static str) {
        let (chat, session) = self.managers[side].client::<chat::Chat>(id).unwrap();
        let channel = chat.channel(id).unwrap();
        session
            .send(channel, Bytes::from_static(line.as_bytes()), self.now)
            .unwrap();
    }

    fn hear(&mut self, side: usize, id: SessionId) -> Option<String> {
        self.managers[side].client::<chat::Chat>(id)?.0.hear(id)
    }
}

#[test]
fn lines_go_both_ways_in_every_dialect() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        let mut pair = Pair::new(dialect);
        let alice = pair.call("weather");
        pair.run(Duration::from_secs(2));
        let bob = pair.managers[1].session_ids()[0];
        for (side, id) in [(0, alice), (1, bob)] {
            let session = pair.managers[side].peek(id).unwrap();
            assert_eq!(session.state(), State::InProgress, "{dialect}");
            assert_eq!(session.transport(), Some(hello_udp::NAMESPACE), "{dialect}");
        }

        pair.say(0, alice, "it rains");
        pair.say(1, bob, "not here");
        pair.run(Duration::from_secs(1));
        assert_eq!(pair.hear(1, bob).as_deref(), Some("it rains"), "{dialect}");
        assert_eq!(
            pair.hear(0, alice).as_deref(),
            Some("not here"),
            "{dialect}"
        );
        assert_eq!(pair.hear(0, alice), None);

        pair.managers[0].terminate_all(session_core::ReasonCondition::Success.into(), pair.now);
        pair.run(Duration::from_secs(60));
        assert_eq!(
            pair.managers.each_ref().map(SessionManager::session_count),
            [0, 0]
        );
        assert!(pair.sockets.is_empty(), "every socket is closed");
    }
}

#[test]
fn a_chat_about_nothing_is_declined() {
    let mut pair = Pair::new(Dialect::GTALK);
    let alice = pair.call("");
    let session = pair.managers[0].peek(alice).unwrap();
    let mut states = session.signal_state().connect();
    let mut seen = vec![states.try_next().unwrap()];
    pair.run(Duration::from_secs(2));
    seen.extend(std::iter::from_fn(|| states.try_next()));
    let expected = [
        Notice::Snapshot {
            missed: 0,
            last: Some(State::SentInitiate),
        },
        Notice::Value(State::ReceivedReject),
        Notice::Value(State::Deinit),
        Notice::Ended,
    ];
    assert_eq!(seen, expected);
}
