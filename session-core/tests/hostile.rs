//! What a peer that means harm, or is broken, can do: it gets typed errors, memory stays bounded, others go on.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

use proptest::prelude::*;
use session_core::SessionDescription as _;
use session_core::{
    Action, Condition, Config, ContentPart, Dialect, Element, Input, Message, Output, Peer,
    RequestId, Role, SeededEntropy, SessionId, SessionManager, StanzaError, State,
    testing::{
        Answer, MemoryDatagram, Note, RECORDER_NAMESPACE, Recorder, World, epoch,
        memory::DATAGRAM_NAMESPACE, strategies::any_message,
    },
};
use std::time::{Duration, Instant};

const BOB: &str = "bob@b.example/2";
const KIB: u64 = 1024;

type Answered = Result<Option<Element>, StanzaError>;

/// A manager alone, so that nothing but its own memory is measured.
struct Victim {
    manager: SessionManager,
    now: Instant,
    number: u64,
    /// Messages and requests that it sent.
    sent: Vec<(RequestId, Action)>,
}

impl Victim {
    fn new(config: Config, answer: Answer) -> Self {
        let mut entropy = SeededEntropy::new(1);
        let fill = move |bytes: &mut [u8]| session_core::Entropy::fill(&mut entropy, bytes);
        let mut manager = SessionManager::new(config, fill);
        manager.add_transport(MemoryDatagram::new()).unwrap();
        let reaction = move |session: &mut session_core::Session, state: State, now| {
            if state == State::ReceivedInitiate && answer == Answer::Accept {
                let _ = session.accept(&Note::default(), now);
            }
        };
        manager.add_client(Quiet(Box::new(reaction))).unwrap();
        Self {
            manager,
            now: epoch(),
            number: 0,
            sent: Vec::with_capacity(64),
        }
    }

    /// Exactly one answer to a message, and what else the manager wants is noted or dropped.
    fn hear(&mut self, message: Message) -> Answered {
        self.number += 1;
        let id = RequestId(self.number);
        self.manager
            .handle_input(Input::Message { id, message }, self.now);
        let mut replies = self.drain();
        assert_eq!(replies.len(), 1, "exactly one reply");
        let (to, reply) = replies.remove(0);
        assert_eq!(to, id);
        reply
    }

    fn drain(&mut self) -> Vec<(RequestId, Answered)> {
        let mut replies = Vec::new();
        self.sent.clear();
        loop {
            match self.manager.poll_output(self.now) {
                Output::Wait(_) => return replies,
                Output::Reply { id, reply, .. } => replies.push((id, reply)),
                Output::Message { id, message } => self.sent.push((id, message.action)),
                _ => {}
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.manager.handle_input(Input::Timeout, self.now);
        assert_eq!(self.drain(), []);
    }

    fn only_session(&self) -> (SessionId, State) {
        let ids = self.manager.session_ids();
        assert_eq!(ids.len(), 1);
        (ids[0], self.manager.peek(ids[0]).unwrap().state())
    }
}

/// A client that keeps nothing.
struct Quiet(Reaction);

type Reaction = Box<dyn FnMut(&mut session_core::Session, State, Instant) + Send>;

impl session_core::SessionClient for Quiet {
    fn namespace(&self) -> &str {
        RECORDER_NAMESPACE
    }

    fn on_session_create(&mut self, session: &mut session_core::Session, _: bool, now: Instant) {
        session.create_channel("data", now).unwrap();
    }

    fn on_state(&mut self, session: &mut session_core::Session, state: State, now: Instant) {
        (self.0)(session, state, now);
    }
}

fn message(from: &str, sid: &str, action: Action) -> Message {
    Message::new(from.into(), BOB.into(), sid, Dialect::JINGLE, action)
}

fn initiate(from: &str, sid: &str) -> Message {
    let part = ContentPart {
        creator: Some(Role::Initiator),
        description: Some(Note("offer".into()).to_element()),
        transports: vec![Element::new(DATAGRAM_NAMESPACE, "transport")],
        ..ContentPart::named("main")
    };
    Message {
        initiator: Some(from.into()),
        contents: vec![part],
        ..message(from, sid, Action::SessionInitiate)
    }
}

fn candidate(number: usize, name: &str) -> Element {
    Element::new(DATAGRAM_NAMESPACE, "candidate")
        .with(
            "address",
            format!(
                "10.1.{}.{}:{}",
                number >> 8 & 255,
                number & 255,
                1 + number % 60_000
            ),
        )
        .with("key", format!("{number:032x}"))
        .with("name", name)
}

fn transport_info(from: &str, sid: &str, candidates: impl IntoIterator<Item = Element>) -> Message {
    let transport = Element::new(DATAGRAM_NAMESPACE, "transport").children_from(candidates);
    let part = ContentPart {
        transports: vec![transport],
        ..ContentPart::named("main")
    };
    Message {
        contents: vec![part],
        ..message(from, sid, Action::TransportInfo)
    }
}

fn condition(reply: &Answered) -> Option<Condition> {
    reply.as_ref().err().map(|error| error.condition)
}

/// How many bytes more there are after `f` than before, and how many there were at most.
fn growth(f: impl FnOnce()) -> (i64, u64) {
    let memory = allocation_counter::measure(f);
    (memory.bytes_current, memory.bytes_max)
}

#[test]
fn ten_thousand_offers_from_one_account_are_sixty_four_sessions() {
    let mut victim = Victim::new(Config::default(), Answer::Wait);
    assert_eq!(
        victim.hear(initiate("carol@c.example/1", "friend")),
        Ok(None)
    );
    let limit = victim.manager.config().limits.sessions_per_account;
    let mut refused = 0;
    let (grown, most) = growth(|| {
        for number in 0..10_000 {
            let from = format!("eve@e.example/{}", number % 100);
            let reply = victim.hear(initiate(&from, &format!("sid{number}")));
            match condition(&reply) {
                None => {}
                Some(condition) => {
                    assert_eq!(condition, Condition::ResourceConstraint);
                    refused += 1;
                }
            }
        }
    });
    assert_eq!(refused, 10_000 - limit);
    assert_eq!(victim.manager.session_count(), limit + 1);
    println!("{limit} sessions of one account take {} KiB", grown / 1024);
    assert!(most < 1_024 * KIB, "{most} bytes");
    let friend = message("carol@c.example/1", "friend", Action::SessionTerminate);
    assert_eq!(victim.hear(friend), Ok(None), "others are served");
}

#[test]
fn a_hundred_thousand_candidates_are_bounded() {
    let mut victim = Victim::new(Config::default(), Answer::Accept);
    assert_eq!(victim.hear(initiate("eve@e.example/1", "one")), Ok(None));
    let (grown, most) = growth(|| {
        for block in 0..1_000 {
            // The same again is nothing wrong, and others are: the channel has one.
            let all = |number| if block % 2 == 0 { 1 } else { number };
            let candidates = (0..100).map(|number| candidate(all(block * 100 + number), "data"));
            let reply = victim.hear(transport_info("eve@e.example/1", "one", candidates));
            match block {
                0 => assert_eq!(reply, Ok(None)),
                1 => assert_eq!(condition(&reply), Some(Condition::BadRequest)),
                _ => {
                    assert!(block < 25 || condition(&reply) == Some(Condition::ResourceConstraint))
                }
            }
        }
    });
    assert!(grown < 64 * 1024, "{grown} bytes stay");
    assert!(most < 512 * KIB, "{most} bytes");
    assert_eq!(victim.only_session().1, State::InProgress);
}

#[test]
fn candidates_for_channels_that_never_come_are_bounded() {
    let mut victim = Victim::new(Config::default(), Answer::Wait);
    assert_eq!(victim.hear(initiate("eve@e.example/1", "one")), Ok(None));
    let (grown, _) = growth(|| {
        for number in 0..10_000 {
            let name = format!("channel{number}");
            let info = transport_info("eve@e.example/1", "one", [candidate(number, &name)]);
            let reply = victim.hear(info);
            if number > 1_024 {
                assert!(reply.is_err());
            }
        }
    });
    assert!(grown < 64 * 1024, "{grown} bytes stay");
    assert_eq!(victim.only_session().1, State::ReceivedInitiate);
}

#[test]
fn a_message_in_the_name_of_another_is_for_no_session() {
    let mut victim = Victim::new(Config::default(), Answer::Accept);
    assert_eq!(
        victim.hear(initiate("carol@c.example/1", "friend")),
        Ok(None)
    );
    for from in ["eve@e.example/1", "carol@c.example/2", "carol@c.example"] {
        for action in Action::JINGLE {
            if action == Action::SessionInitiate {
                continue;
            }
            let forged = Message {
                initiator: Some("carol@c.example/1".into()),
                responder: Some(BOB.into()),
                contents: vec![ContentPart::named("main")],
                ..message(from, "friend", action)
            };
            let reply = victim.hear(forged);
            assert!(reply.unwrap_err().is_unknown_session(), "{from} {action}");
        }
    }
    assert_eq!(victim.only_session().1, State::InProgress);
}

#[test]
fn answers_to_nothing_leave_nothing() {
    let mut victim = Victim::new(Config::default(), Answer::Accept);
    assert_eq!(
        victim.hear(initiate("carol@c.example/1", "friend")),
        Ok(None)
    );
    let (grown, _) = growth(|| {
        for number in 0..100_000 {
            let reply = match number % 2 {
                0 => Ok(Some(Element::new("urn:example", "x"))),
                _ => Err(session_core::PeerError::UnknownSession.to_stanza_error(Dialect::JINGLE)),
            };
            let id = RequestId(1_000 + number);
            victim
                .manager
                .handle_input(Input::Reply { id, reply }, victim.now);
            assert_eq!(victim.drain(), []);
        }
    });
    assert_eq!(grown, 0);
    assert_eq!(victim.only_session().1, State::InProgress);
}

#[test]
fn sessions_that_come_and_go_leave_a_bounded_memory() {
    let mut victim = Victim::new(Config::default(), Answer::Accept);
    let come_and_go = |victim: &mut Victim, range: std::ops::Range<u32>| {
        for number in range {
            let from = format!("eve{number}@e.example/1");
            assert_eq!(victim.hear(initiate(&from, "sid")), Ok(None));
            let end = message(&from, "sid", Action::SessionTerminate);
            assert_eq!(victim.hear(end), Ok(None));
            // Nobody answers the accept.
            victim.pass(Duration::from_millis(1));
        }
    };
    let warm = growth(|| come_and_go(&mut victim, 0..6_000)).0;
    let (grown, _) = growth(|| come_and_go(&mut victim, 6_000..30_000));
    println!("ended sessions take {} KiB", warm / 1024);
    assert!(grown.abs() < 64 * 1024, "{grown} bytes more");
    assert_eq!(victim.manager.session_count(), 0);
}

#[test]
fn what_a_silent_peer_never_answers_is_forgotten() {
    let config = Config::default();
    let mut victim = Victim::new(config, Answer::Wait);
    assert_eq!(victim.hear(initiate("eve@e.example/1", "one")), Ok(None));
    let id = victim.only_session().0;
    let ask = |victim: &mut Victim, count: u32| {
        for _ in 0..count {
            let now = victim.now;
            let session = victim.manager.session(id).unwrap();
            session.send_info(Vec::new(), now).unwrap();
            assert_eq!(victim.drain(), []);
            victim.pass(Duration::from_secs(20));
        }
    };
    ask(&mut victim, 200);
    let (grown, _) = growth(|| ask(&mut victim, 5_000));
    assert!(grown < 4 * 1024, "{grown} bytes for what was given up");
}

#[test]
fn too_much_of_anything_in_an_offer_is_refused_by_name() {
    let mut victim = Victim::new(Config::default(), Answer::Wait);
    let from = "eve@e.example/1";
    let part = |number: usize| ContentPart {
        name: format!("content{number}").into(),
        ..initiate(from, "x").contents.remove(0)
    };
    let many_contents = Message {
        contents: (0..1_000).map(part).collect(),
        ..initiate(from, "a")
    };
    let many_extras = Message {
        extra: vec![Element::new("urn:example", "x"); 1_000],
        ..initiate(from, "b")
    };
    for offer in [many_contents, many_extras] {
        let reply = victim.hear(offer);
        assert_eq!(condition(&reply), Some(Condition::ResourceConstraint));
    }
    let long = "s".repeat(10_000);
    for sid in ["", &long] {
        assert_eq!(
            condition(&victim.hear(initiate(from, sid))),
            Some(Condition::BadRequest)
        );
    }
    let mut crowded = initiate(from, "c");
    let candidates = (0..100_000).map(|number| candidate(number, "data"));
    crowded.contents[0].transports =
        vec![Element::new(DATAGRAM_NAMESPACE, "transport").children_from(candidates)];
    let (grown, _) = growth(|| {
        let _ = victim.hear(crowded);
        victim.pass(Duration::from_secs(200));
    });
    assert!(grown < 64 * 1024, "{grown} bytes stay");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Messages as nobody should write them, from the session's own peer and from others, at any time.
    #[test]
    fn nonsense_is_answered_once_each_and_harms_nobody_else(
        messages in prop::collection::vec((any_message(), 0..4_u8, any::<bool>()), 1..60),
        google in any::<bool>(),
    ) {
        let dialect = if google { Dialect::GTALK } else { Dialect::JINGLE };
        let mut world = World::new(1);
        for name in [BOB, "eve@e.example/x", "carol@c.example/1"] {
            let config = Config { dialect, ..Config::default() };
            world.add_host(name, config, |manager| {
                manager.add_transport(MemoryDatagram::new())?;
                manager.add_client(Recorder::new().with_channel("data").with_answer(Answer::Accept))
            });
        }
        let attacked = world.call(1, 0, RECORDER_NAMESPACE, &Note("eve".into())).unwrap();
        let friend = world.call(2, 0, RECORDER_NAMESPACE, &Note("carol".into())).unwrap();
        world.run_for(Duration::from_secs(1));
        let sids = [(1, attacked), (2, friend)].map(|(host, id)| {
            world.manager(host).peek(id).map(|session| session.sid().clone())
        });
        for (message, target, own) in messages {
            let sid = match target {
                0 | 1 => sids[0].clone(),
                2 => sids[1].clone(),
                _ => None,
            };
            let from = if own { Peer::from("eve@e.example/x") } else { message.from };
            let message = Message {
                from,
                to: BOB.into(),
                sid: sid.unwrap_or(message.sid),
                ..message
            };
            let id = world.request_id();
            // Nobody but Carol speaks for Carol: the server stamps it.
            if message.from != Peer::from("carol@c.example/1") {
                world.handle_input(0, Input::Message { id, message });
            }
            world.run_for(Duration::from_millis(10));
        }
        prop_assert!(world.breaches().is_empty(), "{}", world.breaches().join("\n"));
        let carols = world.find(0, sids[1].as_ref().unwrap());
        prop_assert!(carols.is_some(), "the session with somebody else is there");
        prop_assert_eq!(world.state(2, friend), Some(State::InProgress));
        let channel = world.manager(2).peek(friend).unwrap().channel("data").unwrap();
        let sent = world.with_session(2, friend, |session, now| {
            session.send(channel, bytes::Bytes::from_static(b"still here"), now)
        });
        prop_assert_eq!(sent, Some(Ok(())));
        world.run_for(Duration::from_secs(1));
        let there = world.manager(0).peek(carols.unwrap()).unwrap().channel("data").unwrap();
        let received = world.log(0).received(carols.unwrap(), there);
        prop_assert_eq!(received, b"still here");
        world.check();
    }
}
