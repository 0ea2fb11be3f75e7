//! Layers that begin before the answer, by what the peer says of them in a transport-info while it rings there.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    dead_code,
    reason = "a test names only what it looks for"
)]

#[path = "layers/seal.rs"]
mod seal;

use bytes::Bytes;
use proptest::prelude::*;
use seal::{Seal, seal};
use session_core::testing::{
    Answer, Callback, Envelope, MemoryDatagram, Note, Parcel, RECORDER_NAMESPACE, Recorder, World,
};
use session_core::*;
use std::{sync::Arc, time::Duration};

const ONE: &str = "urn:example:seal:1";
const TWO: &str = "urn:example:seal:2";
const ALICE: usize = 0;
const BOB: usize = 1;
const SECOND: Duration = Duration::from_secs(1);

fn early(namespace: &'static str, key: &'static str) -> Seal {
    Seal {
        early: true,
        ..seal(namespace, key)
    }
}

/// Alice calls; it rings at Bob's, and the path is there.
struct Scene {
    world: World,
    sessions: [SessionId; 2],
}

fn ringing(layers: [Arc<dyn ChannelLayer>; 2], dialect: &'static Dialect, bob: Config) -> Scene {
    let mut world = World::new(11);
    let names = ["alice@example.org/a", "bob@example.org/b"];
    for ((name, layer), config) in names.into_iter().zip(layers).zip([Config::default(), bob]) {
        world.add_host(name, config, |manager| {
            manager.add_transport(match dialect.implied_transport {
                Some(namespace) => MemoryDatagram::new().with_namespace(namespace),
                None => MemoryDatagram::new(),
            })?;
            manager.add_client(Recorder::new().with_layered("data", layer))
        });
    }
    let [alice, bob] = [ALICE, BOB].map(|host| world.name(host).clone());
    let id = world.update(ALICE, |manager, now| {
        let id = manager
            .create_session(alice, RECORDER_NAMESPACE, now)
            .unwrap();
        let session = manager.session(id).unwrap();
        session.set_dialect(dialect).unwrap();
        let offer = Note("hello".into());
        session.initiate(bob, Vec::new(), &offer, now).unwrap();
        id
    });
    world.run_for(5 * SECOND);
    let sessions = [id, world.sessions(BOB)[0]];
    Scene { world, sessions }
}

fn jingle() -> Scene {
    ringing(
        [Arc::new(early(ONE, "a")), Arc::new(early(ONE, "b"))],
        Dialect::JINGLE,
        Config::default(),
    )
}

impl Scene {
    fn tell(&mut self) -> Result<bool, Misuse> {
        let bobs = self.sessions[BOB];
        self.world
            .with_session(BOB, bobs, |session, _| {
                let content = session.contents().next().unwrap().name().clone();
                session.tell_layers_early(&content)
            })
            .unwrap()
    }

    fn accept(&mut self) {
        let bobs = self.sessions[BOB];
        self.world.with_session(BOB, bobs, |session, now| {
            session.accept(&Note("yes".into()), now).unwrap();
        });
    }

    fn state(&self, host: usize) -> Option<State> {
        self.world.state(host, self.sessions[host])
    }

    fn callbacks<T>(&self, host: usize, of: impl Fn(Callback) -> Option<T>) -> Vec<T> {
        let entries = self.world.log(host).entries().into_iter();
        entries.filter_map(|entry| of(entry.callback)).collect()
    }

    fn secured(&self, host: usize) -> Vec<String> {
        self.callbacks(host, |callback| match callback {
            Callback::Secured(_, secured) => Some(secured.protocol.to_string()),
            _ => None,
        })
    }

    fn packets(&self, host: usize) -> Vec<Bytes> {
        self.callbacks(host, |callback| match callback {
            Callback::Packet(_, packet) => Some(packet),
            _ => None,
        })
    }

    fn cause(&self, host: usize) -> Option<Cause> {
        let causes = self.callbacks(host, |callback| match callback {
            Callback::Error(error) if error.fatal => Some(error.cause),
            _ => None,
        });
        causes.into_iter().next()
    }

    fn send(&mut self, host: usize) {
        let id = self.sessions[host];
        self.world.with_session(host, id, |session, now| {
            let channel = session.channel("data").unwrap();
            let packet = Bytes::from(format!("from {host}"));
            session.send(channel, packet, now).unwrap();
        });
        self.world.run_for(SECOND);
    }

    /// A request of Bob's to Alice that he does not make.
    fn forge(&mut self, message: Message) -> RequestId {
        let id = self.world.request_id();
        self.world.forge(Envelope {
            from: BOB,
            to: ALICE,
            parcel: Parcel::Message {
                id,
                message: Box::new(message),
            },
        });
        id
    }

    fn redirect(&mut self, target: &str) {
        let bobs = self.sessions[BOB];
        let sid = self.world.with_session(BOB, bobs, |s, _| s.sid().clone());
        let [alice, bob] = [ALICE, BOB].map(|host| self.world.name(host).clone());
        let action = Action::Redirect;
        let mut message = Message::new(bob, alice, sid.unwrap(), Dialect::JINGLE, action);
        message.redirect = Some(Redirect {
            target: target.into(),
            cookie: None,
        });
        self.forge(message);
    }

    /// Bob says this to Alice, whatever he is doing: her answer to that. Nothing else passes meanwhile.
    fn say(&mut self, action: Action, key: Option<&str>) -> Option<Result<(), StanzaError>> {
        let sid = self
            .world
            .with_session(BOB, self.sessions[BOB], |s, _| s.sid().clone());
        let [alice, bob] = [ALICE, BOB].map(|host| self.world.name(host).clone());
        let mut message = Message::new(bob.clone(), alice, sid?, Dialect::JINGLE, action);
        if action == Action::SessionTerminate {
            message.reason = Some(ReasonCondition::Decline.into());
        } else {
            let namespace = MemoryDatagram::new();
            let mut transport = Element::new(TransportFactory::namespace(&namespace), "transport");
            if let Some(key) = key {
                transport.push(Element::new(ONE, "seal").with("key", key));
            }
            let mut part = ContentPart::named(DEFAULT_CONTENT);
            part.creator = Some(Role::Initiator);
            part.transports.push(transport);
            if action == Action::SessionAccept {
                message.responder = Some(bob);
                part.description = Some(Note("yes".into()).to_element());
            }
            message.contents.push(part);
        }
        self.world.hold(true);
        let id = self.forge(message);
        let mut replies = self
            .world
            .held()
            .iter()
            .filter_map(|held| match &held.parcel {
                Parcel::Reply { id: about, reply } if *about == id => {
                    Some(reply.clone().map(|_| ()))
                }
                _ => None,
            });
        let reply = replies.next();
        while !self.world.held().is_empty() {
            self.world.discard(0);
        }
        self.world.hold(false);
        self.world.run_for(SECOND);
        reply
    }
}

#[test]
fn data_passes_before_the_answer_and_the_answer_changes_nothing() {
    let mut scene = jingle();
    assert!(scene.secured(ALICE).is_empty() && scene.secured(BOB) == ["seal a"]);
    // Twice is once: the second has nothing to add.
    assert_eq!((scene.tell(), scene.tell()), (Ok(true), Ok(true)));
    scene.world.run_for(SECOND);
    assert_eq!(scene.state(ALICE), Some(State::SentInitiate));
    assert_eq!(scene.secured(ALICE), ["seal b"]);
    scene.send(BOB);
    scene.send(ALICE);
    assert_eq!(scene.packets(ALICE), [Bytes::from("from 1")]);
    assert_eq!(scene.packets(BOB), [Bytes::from("from 0")]);
    scene.accept();
    scene.world.run_for(5 * SECOND);
    for host in [ALICE, BOB] {
        assert_eq!(scene.state(host), Some(State::InProgress));
        assert_eq!(scene.secured(host).len(), 1, "nothing begins anew");
        scene.send(host);
    }
    assert_eq!(scene.packets(ALICE).len(), 2);
    assert_eq!(scene.tell(), Err(Misuse::TooLate(State::InProgress)));
    scene.world.check();
}

#[test]
fn the_answer_may_overtake_what_was_said_before_it() {
    let mut scene = jingle();
    scene.world.hold(true);
    assert_eq!(scene.tell(), Ok(true));
    scene.world.run_for(SECOND);
    scene.accept();
    scene.world.run_for(SECOND);
    let action = |envelope: &Envelope| match &envelope.parcel {
        Parcel::Message { message, .. } => Some(message.action),
        _ => None,
    };
    let held: Vec<_> = scene.world.held().iter().filter_map(action).collect();
    assert_eq!(held, [Action::TransportInfo, Action::SessionAccept]);
    scene.world.deliver(1);
    scene.world.deliver(0);
    scene.world.hold(false);
    scene.world.run_for(5 * SECOND);
    assert_eq!(scene.secured(ALICE), ["seal b"]);
    scene.send(BOB);
    assert_eq!(scene.packets(ALICE).len(), 1);
    scene.world.check();
}

#[test]
fn who_declines_after_it_has_begun_ends_it() {
    let mut scene = jingle();
    assert_eq!(scene.tell(), Ok(true));
    scene.world.run_for(SECOND);
    let bobs = scene.sessions[BOB];
    scene.world.with_session(BOB, bobs, |session, now| {
        session
            .reject(ReasonCondition::Decline.into(), now)
            .unwrap();
    });
    scene.world.run_for(5 * SECOND);
    assert!([ALICE, BOB].iter().all(|host| scene.state(*host).is_none()));
    scene.world.check();
}

/// What has begun with one device is void when the offer goes to another.
#[test]
fn a_redirection_begins_anew() {
    let mut scene = jingle();
    let kitchen = "bob@example.org/kitchen";
    scene.world.add_host(kitchen, Config::default(), |manager| {
        manager.add_transport(MemoryDatagram::new())?;
        let layer: Arc<dyn ChannelLayer> = Arc::new(early(ONE, "c"));
        let recorder = Recorder::new().with_answer(Answer::Accept);
        manager.add_client(recorder.with_layered("data", layer))
    });
    assert_eq!(scene.tell(), Ok(true));
    scene.world.run_for(SECOND);
    assert_eq!(scene.secured(ALICE), ["seal b"]);
    scene.redirect(kitchen);
    scene.world.run_for(5 * SECOND);
    assert_eq!(scene.secured(ALICE), ["seal b", "seal c"]);
    assert_eq!(scene.state(ALICE), Some(State::InProgress));
    scene.sessions[BOB] = scene.world.sessions(2)[0];
    scene.send(ALICE);
    assert_eq!(scene.packets(2), [Bytes::from("from 0")]);
}

#[test]
fn nothing_is_told_where_nothing_may_be() {
    // Google's dialect answers the transports by themselves, with the layers' words.
    let layers =
        || -> [Arc<dyn ChannelLayer>; 2] { [Arc::new(early(ONE, "a")), Arc::new(early(ONE, "b"))] };
    let mut google = ringing(layers(), Dialect::GTALK, Config::default());
    assert_eq!(google.tell(), Ok(false));
    assert_eq!(google.secured(ALICE), ["seal b"]);
    // Who hides its addresses until it answers says nothing before.
    let hidden = Config {
        speculative: false,
        ..Config::default()
    };
    let mut hidden = ringing(layers(), Dialect::JINGLE, hidden);
    assert_eq!(hidden.tell(), Ok(false));
    hidden.world.run_for(SECOND);
    assert!(hidden.secured(ALICE).is_empty());
    hidden.accept();
    hidden.world.run_for(5 * SECOND);
    assert_eq!(hidden.secured(ALICE), ["seal b"]);
}

#[test]
fn who_does_not_begin_early_waits_for_the_answer() {
    let mut scene = ringing(
        [Arc::new(seal(ONE, "a")), Arc::new(seal(ONE, "b"))],
        Dialect::JINGLE,
        Config::default(),
    );
    assert_eq!(scene.tell(), Ok(true));
    scene.world.run_for(SECOND);
    assert!(scene.secured(ALICE).is_empty());
    scene.accept();
    scene.world.run_for(5 * SECOND);
    assert_eq!(scene.secured(ALICE), ["seal b"]);
    scene.send(BOB);
    assert_eq!(scene.packets(ALICE).len(), 1);
}

#[test]
fn of_several_layers_the_one_that_has_begun_stays() {
    let choice = |layers: [Seal; 2]| -> Arc<dyn ChannelLayer> {
        let layers = layers.map(|seal| Arc::new(seal) as Arc<dyn ChannelLayer>);
        Arc::new(LayerChoice::new(layers))
    };
    let scene = || {
        ringing(
            [
                choice([early(TWO, "a2"), early(ONE, "a1")]),
                choice([early(ONE, "b1"), early(TWO, "b2")]),
            ],
            Dialect::JINGLE,
            Config::default(),
        )
    };
    let mut same = scene();
    assert_eq!(same.tell(), Ok(true));
    same.world.run_for(SECOND);
    assert_eq!(same.secured(ALICE), ["seal b1"]);
    same.accept();
    same.world.run_for(5 * SECOND);
    assert_eq!(same.secured(ALICE), ["seal b1"]);
    same.send(ALICE);
    assert_eq!(same.packets(BOB).len(), 1);

    let mut other = scene();
    other
        .say(Action::TransportInfo, Some("b1"))
        .unwrap()
        .unwrap();
    assert_eq!(other.secured(ALICE), ["seal b1"]);
    // It begins with one and answers with the other.
    other.world.hold(true);
    other.accept();
    let mut envelope = other.world.discard(0);
    if let Parcel::Message { message, .. } = &mut envelope.parcel {
        let transport = &mut message.contents[0].transports[0];
        *transport = Element::new(transport.namespace(), "transport")
            .child(Element::new(TWO, "seal").with("key", "b2"));
    }
    other.world.hold(false);
    other.world.forge(envelope);
    other.world.run_for(SECOND);
    assert_eq!(other.state(ALICE), None);
    let why = Cause::Transport(TransportError::Untrusted(
        "the peer has begun with another layer",
    ));
    assert_eq!(other.cause(ALICE), Some(why));
}

/// What a peer, or somebody in the way of signalling, may say.
#[derive(Clone, Copy, Debug)]
enum Word {
    Info(&'static str),
    Accept(Option<&'static str>),
    Decline,
}

fn word() -> impl Strategy<Value = Word> {
    let key = || prop::sample::select(vec!["b", "b", "other"]);
    prop_oneof![
        5 => key().prop_map(Word::Info),
        3 => prop::option::weighted(0.8, key()).prop_map(Word::Accept),
        1 => Just(Word::Decline),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// In whatever order a peer names keys: the first counts, and no other ever comes to be used.
    #[test]
    fn the_first_key_counts(words in prop::collection::vec(word(), 1..7)) {
        let mut scene = jingle();
        let (mut known, mut answered) = (None, false);
        for word in words {
            let before = (scene.state(ALICE), scene.secured(ALICE));
            match word {
                Word::Decline => {
                    scene.say(Action::SessionTerminate, None);
                    prop_assert_eq!(scene.state(ALICE), None);
                    break;
                }
                Word::Info(key) => {
                    let reply = scene.say(Action::TransportInfo, Some(key)).unwrap();
                    let fits = known.is_none_or(|known| known == key);
                    prop_assert_eq!(reply.is_ok(), fits, "{:?}", word);
                    if !fits {
                        prop_assert_eq!((scene.state(ALICE), scene.secured(ALICE)), before);
                    }
                    known = known.or(Some(key));
                }
                Word::Accept(key) if answered => {
                    // The same answer again, as far as anybody knows: it is not looked at.
                    scene.say(Action::SessionAccept, key).unwrap().unwrap();
                    prop_assert_eq!((scene.state(ALICE), scene.secured(ALICE)), before);
                }
                Word::Accept(key) => {
                    let reply = scene.say(Action::SessionAccept, key).unwrap();
                    let fits = known.or(key).is_some() && (key.is_none() || known.is_none_or(|k| Some(k) == key));
                    // Who changes its key hears why it is over, and of no error.
                    prop_assert_eq!(reply.is_ok(), fits || known.is_some(), "{:?}", word);
                    if fits {
                        (known, answered) = (known.or(key), true);
                        prop_assert_eq!(scene.state(ALICE), Some(State::InProgress));
                    } else if known.is_some() {
                        let why = Cause::Transport(TransportError::Untrusted("another key"));
                        prop_assert_eq!(scene.cause(ALICE), Some(why));
                        prop_assert_eq!(scene.state(ALICE), None);
                        break;
                    }
                }
            }
            let secured: Vec<_> = known.iter().map(|known| format!("seal {known}")).collect();
            prop_assert_eq!(scene.secured(ALICE), secured);
        }
    }
}
