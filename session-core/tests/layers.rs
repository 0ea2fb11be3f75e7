//! Layers that negotiate: what they say travels in `<transport/>`, in every dialect and over every change of transport.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    unreachable_pub,
    reason = "a test names only what it looks for"
)]

#[path = "layers/seal.rs"]
mod seal;

use bytes::Bytes;
use seal::{Seal, seal};
use session_core::testing::{
    Answer, Callback, Conformance, Envelope, MemoryDatagram, MemoryStream, Mishap, Note, Parcel,
    RECORDER_NAMESPACE, Recorder, World,
};
use session_core::*;
use std::{sync::Arc, time::Duration};

const ONE: &str = "urn:example:seal:1";
const TWO: &str = "urn:example:seal:2";
const SECOND: &str = "urn:example:second";

type Layer = Arc<dyn ChannelLayer>;

fn layer(layer: impl ChannelLayer + 'static) -> Layer {
    Arc::new(layer)
}

fn choice(layers: impl IntoIterator<Item = Seal>) -> Layer {
    layer(LayerChoice::new(
        layers.into_iter().map(|s| Arc::new(s) as Layer),
    ))
}

/// Alice calls, Bob has what he has, and answers at once.
struct Scene {
    world: World,
    session: SessionId,
}

const ALICE: usize = 0;
const BOB: usize = 1;

fn scene(layers: [Option<Layer>; 2], dialect: &'static Dialect) -> Scene {
    scene_over(layers, dialect, [Mishap::None; 2])
}

fn scene_over(
    layers: [Option<Layer>; 2],
    dialect: &'static Dialect,
    mishaps: [Mishap; 2],
) -> Scene {
    let mut world = World::new(7);
    for (name, layer) in ["alice@example.org/a", "bob@example.org/b"]
        .into_iter()
        .zip(layers)
    {
        world.add_host(name, Config::default(), |manager| {
            let first = match dialect.implied_transport {
                Some(namespace) => MemoryDatagram::new().with_namespace(namespace),
                None => MemoryDatagram::new(),
            };
            manager.add_transport(first.with_mishap(mishaps[0]))?;
            let second = MemoryDatagram::new().with_namespace(SECOND);
            manager.add_transport(second.with_mishap(mishaps[1]))?;
            let recorder = Recorder::new().with_answer(Answer::Accept);
            manager.add_client(match layer {
                Some(layer) => recorder.with_layered("data", layer),
                None => recorder.with_channel("data"),
            })
        });
    }
    let bob = world.name(BOB).clone();
    let session = world.update(ALICE, |manager, now| {
        let id = manager.create_session("alice@example.org/a".into(), RECORDER_NAMESPACE, now);
        let session = manager.session(id.as_ref().copied().unwrap()).unwrap();
        session.set_dialect(dialect).unwrap();
        session
            .initiate(bob, Vec::new(), &Note("hello".into()), now)
            .unwrap();
        id.unwrap()
    });
    world.run_for(Duration::from_secs(20));
    Scene { world, session }
}

impl Scene {
    fn secured(&self, host: usize) -> Vec<String> {
        let entries = self.world.log(host).entries().into_iter();
        entries
            .filter_map(|entry| match entry.callback {
                Callback::Secured(_, secured) => Some(secured.protocol.to_string()),
                _ => None,
            })
            .collect()
    }

    /// Sends both ways, and says what arrived.
    fn talk(&mut self) -> [Vec<Bytes>; 2] {
        let bobs = self.world.sessions(BOB)[0];
        for (host, session) in [(ALICE, self.session), (BOB, bobs)] {
            self.world.with_session(host, session, |session, now| {
                let channel = session.channel("data").unwrap();
                session
                    .send(channel, Bytes::from(format!("from {host}")), now)
                    .unwrap();
            });
        }
        self.world.run_for(Duration::from_secs(1));
        [ALICE, BOB].map(|host| {
            let entries = self.world.log(host).entries().into_iter();
            let packet = |callback| match callback {
                Callback::Packet(_, packet) => Some(packet),
                _ => None,
            };
            entries.filter_map(|entry| packet(entry.callback)).collect()
        })
    }

    fn assert_talks(&mut self) {
        assert_eq!(
            self.talk(),
            [vec![Bytes::from("from 1")], vec![Bytes::from("from 0")]]
        );
        self.world.check();
    }

    fn error(&self, host: usize) -> Option<Cause> {
        let entries = self.world.log(host).entries().into_iter();
        entries
            .filter_map(|entry| match entry.callback {
                Callback::Error(error) if error.fatal => Some(error.cause),
                _ => None,
            })
            .next()
    }
}

#[test]
fn both_sides_learn_the_others_key_before_data_passes() {
    // The form of Google's without transports has no place for a layer's words.
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        let mut scene = scene(
            [Some(layer(seal(ONE, "a"))), Some(layer(seal(ONE, "bb")))],
            dialect,
        );
        assert_eq!(scene.secured(ALICE), ["seal bb"], "{dialect}");
        assert_eq!(scene.secured(BOB), ["seal a"], "{dialect}");
        scene.assert_talks();
        let shown = scene
            .world
            .with_session(ALICE, scene.session, |session, _| {
                let channel = session.channel("data").unwrap();
                session
                    .secured(channel)
                    .map(|secured| secured.protocol.to_string())
            });
        assert_eq!(shown.flatten().unwrap(), "seal bb");
    }
}

#[test]
fn a_layer_that_the_peer_does_not_know_decides_whether_it_is_needed() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK, Dialect::GTALK_LATE] {
        for (with, without) in [(ALICE, BOB), (BOB, ALICE)] {
            let mut layers = [None, None];
            layers[with] = Some(layer(seal(ONE, "key")));
            let strict = scene(layers.clone(), dialect);
            assert!(strict.secured(with).is_empty());
            assert_ne!(
                strict.world.state(ALICE, strict.session),
                Some(State::InProgress),
                "{dialect}: {with} needs it"
            );
            let optional = Seal {
                optional: true,
                ..seal(ONE, "key")
            };
            layers[with] = Some(layer(optional));
            let mut scene = scene(layers, dialect);
            scene.assert_talks();
            assert!(scene.secured(with).is_empty() && scene.secured(without).is_empty());
        }
    }
}

#[test]
fn of_several_layers_the_responder_picks_the_first_that_both_have() {
    let both = |first: &'static str, second: &'static str| {
        choice([seal(first, "first"), seal(second, "second")])
    };
    let mut order = scene(
        [Some(both(ONE, TWO)), Some(both(TWO, ONE))],
        Dialect::JINGLE,
    );
    assert_eq!(
        order.secured(BOB),
        ["seal second"],
        "Bob prefers TWO, which is Alice's second"
    );
    assert_eq!(order.secured(ALICE), ["seal first"]);
    order.assert_talks();

    let mut only = scene(
        [Some(both(ONE, TWO)), Some(layer(seal(TWO, "alone")))],
        Dialect::GTALK,
    );
    assert_eq!(only.secured(ALICE), ["seal alone"]);
    only.assert_talks();

    let none = scene([Some(both(ONE, TWO)), None], Dialect::JINGLE);
    assert_eq!(none.error(ALICE), Some(Cause::NoCommonTransport));
    assert_ne!(
        none.world.state(ALICE, none.session),
        Some(State::InProgress)
    );
}

#[test]
fn a_layer_negotiates_again_when_another_transport_takes_over() {
    let layers = [Some(layer(seal(ONE, "a"))), Some(layer(seal(ONE, "b")))];
    let mishap = Mishap::FailsAfter(Duration::from_secs(5));
    let mut scene = scene_over(layers, Dialect::JINGLE, [mishap, Mishap::None]);
    scene.world.run_for(Duration::from_secs(60));
    assert_eq!(scene.secured(ALICE), ["seal b", "seal b"]);
    assert_eq!(scene.secured(BOB), ["seal a", "seal a"]);
    let transport = scene
        .world
        .with_session(ALICE, scene.session, |session, _| {
            session.transport().map(str::to_owned)
        });
    assert_eq!(transport.flatten().as_deref(), Some(SECOND));
    scene.assert_talks();
}

#[test]
fn a_transport_that_streams_is_not_used_below_a_layer_of_datagrams() {
    let mut world = World::new(3);
    for name in ["alice@example.org/a", "bob@example.org/b"] {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryStream::new())?;
            manager.add_transport(MemoryDatagram::new())?;
            let recorder = Recorder::new().with_answer(Answer::Accept);
            manager.add_client(recorder.with_layered("data", layer(seal(ONE, "k"))))
        });
    }
    let id = world
        .call(ALICE, BOB, RECORDER_NAMESPACE, &Note("hi".into()))
        .unwrap();
    world.run_for(Duration::from_secs(5));
    let transport = world.with_session(ALICE, id, |s, _| s.transport().map(str::to_owned));
    assert_eq!(
        transport.flatten().as_deref(),
        Some(TransportFactory::namespace(&MemoryDatagram::new()))
    );
    world.check();
}

/// The peer says a key in a transport-info; the answer to that.
fn say(scene: &mut Scene, key: Option<&str>) -> Result<(), StanzaError> {
    let namespace = MemoryDatagram::new();
    let mut transport = Element::new(TransportFactory::namespace(&namespace), "transport");
    transport.push(Element::new(ONE, "seal").with_opt("key", key));
    let sid = scene
        .world
        .with_session(ALICE, scene.session, |s, _| s.sid().clone());
    let [alice, bob] = [ALICE, BOB].map(|host| scene.world.name(host).clone());
    let mut message = Message::new(
        bob,
        alice,
        sid.unwrap(),
        Dialect::JINGLE,
        Action::TransportInfo,
    );
    let mut part = ContentPart::named(DEFAULT_CONTENT);
    part.transports.push(transport);
    message.contents.push(part);
    scene.world.hold(true);
    let id = scene.world.request_id();
    let message = Box::new(message);
    scene.world.forge(Envelope {
        from: BOB,
        to: ALICE,
        parcel: Parcel::Message { id, message },
    });
    let replies = scene.world.held().iter();
    let mut replies = replies.filter_map(|envelope| match &envelope.parcel {
        Parcel::Reply { id: about, reply } if *about == id => Some(reply.clone()),
        _ => None,
    });
    let reply = replies.next().unwrap().map(|_| ());
    while !scene.world.held().is_empty() {
        scene.world.discard(0);
    }
    scene.world.hold(false);
    reply
}

#[test]
fn a_key_may_be_said_again_and_not_changed() {
    let layers = [Some(layer(seal(ONE, "a"))), Some(layer(seal(ONE, "b")))];
    let mut scene = scene(layers, Dialect::JINGLE);
    say(&mut scene, Some("b")).unwrap();
    say(&mut scene, Some("other")).unwrap_err();
    say(&mut scene, None).unwrap_err();
    scene.assert_talks();
}

#[test]
fn a_layer_may_come_between_an_offer_and_its_answer_and_not_after() {
    let mut world = World::new(9);
    for name in ["alice@example.org/a", "bob@example.org/b"] {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryDatagram::new())?;
            let recorder = Recorder::new();
            manager.add_client(match name.starts_with("alice") {
                true => recorder.with_layered("data", layer(seal(ONE, "a"))),
                false => recorder,
            })
        });
    }
    let session = world
        .call(ALICE, BOB, RECORDER_NAMESPACE, &Note("hi".into()))
        .unwrap();
    world.run_for(Duration::from_secs(5));
    let theirs = world.sessions(BOB)[0];
    let late = world.with_session(BOB, theirs, |session, now| {
        session
            .create_layered_channel("data", layer(seal(ONE, "b")), now)
            .unwrap();
        session.accept(&Note("yes".into()), now).unwrap();
        session.create_layered_channel("late", layer(seal(TWO, "c")), now)
    });
    let needs = Misuse::Transport(TransportError::Unacceptable("no seal"));
    assert_eq!(late.unwrap(), Err(needs));
    world.run_for(Duration::from_secs(5));
    let mut scene = Scene { world, session };
    assert_eq!(
        (scene.secured(ALICE), scene.secured(BOB)),
        (vec!["seal b".into()], vec!["seal a".into()])
    );
    scene.assert_talks();
}

#[test]
fn a_content_that_is_added_later_has_its_layer_in_its_proposal() {
    let layers = [Some(layer(seal(ONE, "a"))), Some(layer(seal(ONE, "b")))];
    let mut scene = scene(layers, Dialect::JINGLE);
    let later: [Layer; 2] = [layer(seal(TWO, "later-a")), layer(seal(TWO, "later-b"))];
    let spec = ContentSpec::new("more", Note("more".into()).to_element());
    let [mine, theirs] = later;
    scene
        .world
        .with_session(ALICE, scene.session, |session, now| {
            session
                .add_content_with_layer(spec, Arc::clone(&mine), now)
                .unwrap();
            session
                .create_channel_in("more", "more", Some(mine), now)
                .unwrap();
        });
    scene.world.run_for(Duration::from_secs(1));
    let bobs = scene.world.sessions(BOB)[0];
    scene.world.with_session(BOB, bobs, |session, now| {
        session
            .create_channel_in("more", "more", Some(theirs), now)
            .unwrap();
        let answer = Note("yes".into()).to_element();
        session.accept_content("more", answer, now).unwrap();
    });
    scene.world.run_for(Duration::from_secs(5));
    assert_eq!(scene.secured(ALICE), ["seal b", "seal later-b"]);
    assert_eq!(scene.secured(BOB), ["seal a", "seal later-a"]);
    scene.world.check();
}

/// Two contents that share a transport, with these layers for this key.
fn bundle(layers: fn(&'static str) -> [Layer; 2]) -> Scene {
    let mut world = World::new(5);
    for (name, key) in [("alice@example.org/a", "a"), ("bob@example.org/b", "b")] {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryDatagram::new())?;
            manager.add_transport(MemoryDatagram::new().with_namespace(SECOND))?;
            let [first, second] = layers(key);
            let recorder = Recorder::new().with_layered("data", first);
            manager.add_client(recorder.with_reaction(move |session, callback, now| {
                let calls = *callback == Callback::Created(false);
                let rings = *callback == Callback::State(State::ReceivedInitiate);
                if calls {
                    let spec = ContentSpec::new("more", Note("more".into()).to_element());
                    session.add_content(spec, now).unwrap();
                    session.bundle(&[DEFAULT_CONTENT, "more"]).unwrap();
                }
                if calls || rings {
                    let second = Some(Arc::clone(&second));
                    session
                        .create_channel_in("more", "more", second, now)
                        .unwrap();
                }
                if rings {
                    session.accept(&Note("yes".into()), now).unwrap();
                }
            }))
        });
    }
    let session = world
        .call(ALICE, BOB, RECORDER_NAMESPACE, &Note("hi".into()))
        .unwrap();
    world.run_for(Duration::from_secs(10));
    Scene { world, session }
}

#[test]
fn contents_that_share_a_transport_share_its_layer() {
    let mut scene = bundle(|key| {
        let shared = layer(seal(ONE, key));
        [Arc::clone(&shared), shared]
    });
    let session = scene.session;
    let leader = scene.world.with_session(ALICE, session, |session, _| {
        let content = session.content("more").unwrap();
        content.bundled_with().map(str::to_owned)
    });
    assert_eq!(leader.flatten().as_deref(), Some(DEFAULT_CONTENT));
    let last = |host| scene.secured(host).pop();
    assert_eq!(
        [last(ALICE), last(BOB)],
        [Some("seal b".into()), Some("seal a".into())]
    );
    assert!(scene.secured(ALICE).len() >= 2, "both channels have it");
    scene.assert_talks();
}

#[test]
fn contents_that_share_a_transport_take_their_layers_to_another() {
    for who in [ALICE, BOB] {
        let mut scene = bundle(|key| [layer(seal(ONE, key)), layer(seal(TWO, key))]);
        let before = [ALICE, BOB].map(|host| scene.secured(host).len());
        let session = [scene.session, scene.world.sessions(BOB)[0]][who];
        let replaced = scene.world.with_session(who, session, |session, now| {
            session.replace_transport(DEFAULT_CONTENT, SECOND, now)
        });
        assert_eq!(replaced, Some(Ok(())));
        scene.world.run_for(Duration::from_secs(10));
        let after = [ALICE, BOB].map(|host| scene.secured(host).len());
        assert_eq!(after, before.map(|before| before + 2), "both channels anew");
        scene.assert_talks();
    }
}

#[test]
fn a_layer_conforms_with_what_is_below_it() {
    Conformance::new()
        .with_layer(seal(ONE, "key"))
        .run(MemoryDatagram::new());
}

#[test]
fn a_layer_can_be_announced_before_its_channel_is_created() {
    let mut world = World::new(7);
    for name in ["alice@example.org/a", "bob@example.org/b"] {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryDatagram::new())?;
            manager.add_client(Recorder::new())
        });
    }
    let layers = [layer(seal(ONE, "a")), layer(seal(ONE, "bb"))];
    let bob = world.name(BOB).clone();
    let alices = world.update(ALICE, |manager, now| {
        let id = manager.create_session("alice@example.org/a".into(), RECORDER_NAMESPACE, now);
        let session = manager.session(id.as_ref().copied().unwrap()).unwrap();
        session.announce_layer(&layers[0]).unwrap();
        let nowhere = session.announce_layer_in("nowhere", &layers[0]);
        assert!(matches!(nowhere, Err(Misuse::UnknownContent(_))));
        session
            .initiate(bob, Vec::new(), &Note("hello".into()), now)
            .unwrap();
        id.unwrap()
    });
    world.run_for(Duration::from_secs(1));
    let ids = [alices, world.sessions(BOB)[0]];
    world.with_session(BOB, ids[BOB], |session, now| {
        session.announce_layer(&layers[BOB]).unwrap();
        session.accept(&Note("yes".into()), now).unwrap();
    });
    world.run_for(Duration::from_secs(1));
    for host in [ALICE, BOB] {
        world.with_session(host, ids[host], |session, now| {
            let layer = Arc::clone(&layers[host]);
            session.create_layered_channel("data", layer, now).unwrap();
        });
    }
    world.run_for(Duration::from_secs(5));
    for host in [ALICE, BOB] {
        let session = world.manager(host).peek(ids[host]).unwrap();
        let channel = session.channel("data").unwrap();
        assert!(session.secured(channel).is_some() && session.writable(channel));
    }
    world.check();
}
