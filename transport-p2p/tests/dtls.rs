//! DTLS between two managers in virtual time: negotiation, keys, records, and what an attacker can do.
#![cfg(feature = "dtls")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

use bytes::Bytes;
use session_core::testing::{
    Answer, Callback, Conditions, Conformance, Deed, Envelope, MemoryDatagram, Note, Parcel,
    RECORDER_NAMESPACE, Recorder, World,
};
use session_core::*;
use std::{sync::Arc, time::Duration};
use transport_p2p::{
    dtls::{DtlsConfig, DtlsLayer, Identity, NAMESPACE, Versions},
    ice::{IceConfig, IceTransportFactory},
    raw_udp::RawUdp,
};

const ALICE: usize = 0;
const BOB: usize = 1;
const BOTH: [usize; 2] = [ALICE, BOB];

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    Identity::new(made.cert.der(), &made.signing_key.serialize_der())
}

fn versions(versions: Versions) -> DtlsConfig {
    DtlsConfig {
        versions,
        ..DtlsConfig::default()
    }
}

type Setup = fn(&mut SessionManager) -> Result<(), Misuse>;

fn memory(manager: &mut SessionManager) -> Result<(), Misuse> {
    manager.add_transport(MemoryDatagram::new())
}

struct Scene {
    world: World,
    session: SessionId,
}

/// Both are there, and Alice has not called yet.
fn world(layers: [Option<DtlsLayer>; 2], transports: Setup) -> World {
    let mut world = World::new(11);
    for (name, layer) in ["alice@example.org/a", "bob@example.org/b"]
        .into_iter()
        .zip(layers)
    {
        world.add_host(name, Config::default(), |manager| {
            transports(manager)?;
            let recorder = Recorder::new().with_answer(Answer::Accept);
            manager.add_client(match layer {
                Some(layer) => recorder.with_layered("rtp", Arc::new(layer)),
                None => recorder.with_channel("rtp"),
            })
        });
    }
    world
}

fn call(mut world: World) -> Scene {
    let session = world
        .call(ALICE, BOB, RECORDER_NAMESPACE, &Note("hi".into()))
        .unwrap();
    Scene { world, session }
}

fn scene(layers: [DtlsLayer; 2], transports: Setup) -> Scene {
    let mut scene = call(world(layers.map(Some), transports));
    scene.world.run_for(Duration::from_secs(20));
    scene
}

impl Scene {
    fn secured(&self, host: usize) -> Vec<Secured> {
        let entries = self.world.log(host).entries().into_iter();
        entries
            .filter_map(|entry| match entry.callback {
                Callback::Secured(_, secured) => Some(*secured),
                _ => None,
            })
            .collect()
    }

    fn only(&self, host: usize) -> Secured {
        let mut secured = self.secured(host);
        assert_eq!(
            secured.len(),
            1,
            "{host}: {:?}",
            self.world.log(host).entries()
        );
        secured.remove(0)
    }

    fn send(&mut self, host: usize, packet: &[u8]) -> Result<(), SendError> {
        let session = self.world.sessions(host)[0];
        let packet = Bytes::copy_from_slice(packet);
        let sent = self.world.with_session(host, session, |session, now| {
            let channel = session.channel("rtp").unwrap();
            session.send(channel, packet, now)
        });
        sent.unwrap()
    }

    fn received(&self, host: usize) -> Vec<Bytes> {
        let entries = self.world.log(host).entries().into_iter();
        entries
            .filter_map(|entry| match entry.callback {
                Callback::Packet(_, packet) => Some(packet),
                _ => None,
            })
            .collect()
    }

    fn assert_carries(&mut self, packet: &[u8]) {
        for host in BOTH {
            let before = self.received(1 - host).len();
            self.send(host, packet).unwrap();
            self.world.run_for(Duration::from_secs(1));
            assert_eq!(self.received(1 - host)[before..], [packet], "from {host}");
        }
        self.world.check();
    }

    fn writable(&mut self, host: usize) -> bool {
        let Some(session) = self.world.sessions(host).first().copied() else {
            return false;
        };
        let writable = self.world.with_session(host, session, |session, _| {
            session
                .channel("rtp")
                .is_some_and(|channel| session.writable(channel))
        });
        writable.unwrap_or_default()
    }
}

const RTP: [u8; 16] = [
    0x80, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 1, 0xDE, 0xAD, 0xBE, 0xEF,
];

#[test]
fn both_sides_get_the_same_keys_and_know_each_other() {
    for (ours, theirs, expected) in [
        (Versions::Any, Versions::Any, "DTLS 1.3"),
        (Versions::Any, Versions::Dtls12, "DTLS 1.2"),
        (Versions::Dtls12, Versions::Any, "DTLS 1.2"),
        (Versions::Dtls13, Versions::Any, "DTLS 1.3"),
    ] {
        let layers = [ours, theirs].map(|v| DtlsLayer::srtp(identity()).with_config(versions(v)));
        let fingerprints = [0, 1].map(|at| layers[at].fingerprint().clone());
        let mut scene = scene(layers, memory);
        let [alice, bob] = BOTH.map(|host| scene.only(host));
        assert_eq!([&*alice.protocol, &*bob.protocol], [expected; 2]);
        assert_eq!(alice.side, HandshakeSide::Server, "who offers waits");
        assert_eq!(bob.side, HandshakeSide::Client);
        assert_eq!(alice.peer_fingerprint.as_ref(), Some(&fingerprints[1]));
        assert_eq!(bob.peer_fingerprint.as_ref(), Some(&fingerprints[0]));
        assert_eq!(bob.local_fingerprint.as_ref(), Some(&fingerprints[1]));
        assert_eq!(alice.srtp, bob.srtp);
        let keys = alice.srtp.unwrap();
        assert_eq!(keys.profile, SrtpProfile::AEAD_AES_256_GCM);
        assert_eq!(keys.material.as_bytes().len(), 2 * (32 + 12));
        scene.assert_carries(&RTP);
    }
}

#[test]
fn records_carry_what_is_sent_and_keys_stay_below() {
    let layers = [Versions::Any, Versions::Dtls12]
        .map(|v| DtlsLayer::data(identity()).with_config(versions(v)));
    let mut scene = scene(layers, memory);
    assert_eq!(scene.only(ALICE).srtp, None);
    for size in [1, 13, 1_000, 1_200] {
        scene.assert_carries(&vec![0x16; size]);
    }
}

#[test]
fn it_runs_over_ice_and_over_raw_udp() {
    let transports: [Setup; 2] = [
        |manager| {
            manager.add_transport(IceTransportFactory::new(IceConfig::new(vec![
                [127, 0, 0, 1].into(),
            ])))
        },
        |manager| manager.add_transport(RawUdp::new(([127, 0, 0, 1], 0).into())),
    ];
    for transport in transports {
        let layers = [0, 1].map(|_| DtlsLayer::srtp(identity()));
        let mut over = scene(layers, transport);
        assert_eq!(over.only(ALICE).srtp, over.only(BOB).srtp);
        over.assert_carries(&RTP);
        let layers = [0, 1].map(|_| DtlsLayer::data(identity()));
        let mut over = scene(layers, transport);
        over.assert_carries(b"data");
    }
}

/// Who answers may have a path and begin to shake hands before the answer is here, which takes the longer way.
#[test]
fn what_the_peer_says_before_our_own_check_is_answered_at_once() {
    let mut world = World::new(11);
    for (host, name) in ["alice@example.org/a", "bob@example.org/b"]
        .into_iter()
        .enumerate()
    {
        let config = Config {
            speculative: host == ALICE,
            ..Config::default()
        };
        let ice = IceConfig::new(vec![[10, 0, 0, host as u8 + 1].into()]);
        world.add_host(name, config, |manager| {
            manager.add_transport(IceTransportFactory::new(ice))?;
            let layer = Arc::new(DtlsLayer::srtp(identity()));
            manager.add_client(Recorder::new().with_layered("rtp", layer))
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(75)));
    world.set_network(Conditions::with_delay(Duration::from_millis(20)));
    let mut scene = call(world);
    scene.world.run_for(Duration::from_secs(1));
    let bob = scene.world.sessions(BOB)[0];
    assert!(scene.world.act(BOB, bob, &Deed::Accept));
    scene.world.run_for(Duration::from_millis(400));
    for host in BOTH {
        scene.only(host);
    }
}

/// What somebody in the way of signalling does to each `<transport/>`.
fn tampered(layers: [Option<DtlsLayer>; 2], mut tamper: impl FnMut(usize, &mut Element)) -> Scene {
    let mut world = world(layers, memory);
    world.hold(true);
    let mut scene = call(world);
    for _ in 0..400 {
        scene.world.run_for(Duration::from_millis(100));
        while !scene.world.held().is_empty() {
            let mut envelope = scene.world.discard(0);
            if let Envelope {
                from,
                parcel: Parcel::Message { message, .. },
                ..
            } = &mut envelope
            {
                let parts = message.contents.iter_mut();
                for transport in parts.flat_map(|part| &mut part.transports) {
                    tamper(*from, transport);
                }
            }
            scene.world.forge(envelope);
        }
    }
    scene
}

/// The `<transport/>` with its fingerprints changed, or without what `change` gives `None` for.
fn with_fingerprint(transport: &Element, change: impl Fn(&Element) -> Option<Element>) -> Element {
    let mut changed = Element::new(transport.namespace(), transport.name());
    for attribute in transport.attributes() {
        changed.set_attribute(attribute.name, attribute.value);
    }
    for child in transport.children() {
        let child = child.to_element();
        match child.namespace() == NAMESPACE {
            true => change(&child)
                .into_iter()
                .for_each(|child| changed.push(child)),
            false => changed.push(child),
        }
    }
    changed
}

fn fingerprint(hash: &str, setup: &str, text: &str) -> Element {
    let fingerprint = Element::new(NAMESPACE, "fingerprint");
    fingerprint
        .with("hash", hash)
        .with("setup", setup)
        .text(text)
}

#[test]
fn a_certificate_that_signalling_did_not_name_ends_the_channel() {
    let other = identity();
    let other = other.fingerprint().to_string();
    let other = other.strip_prefix("sha-256 ").unwrap();
    for victim in BOTH {
        let layers = [0, 1].map(|_| Some(DtlsLayer::srtp(identity())));
        let mut scene = tampered(layers, |from, transport| {
            if from != victim {
                *transport = with_fingerprint(transport, |child| {
                    let setup = child.attribute("setup").unwrap_or_default();
                    Some(fingerprint("sha-256", setup, other))
                });
            }
        });
        assert!(scene.secured(victim).is_empty(), "{victim}");
        assert!(!scene.writable(victim));
        assert!(scene.received(victim).is_empty());
    }
}

#[test]
fn who_asks_for_dtls_is_not_talked_into_doing_without() {
    for victim in BOTH {
        let layers = [0, 1].map(|_| Some(DtlsLayer::srtp(identity())));
        let mut scene = tampered(layers, |from, transport| {
            if from != victim {
                *transport = with_fingerprint(transport, |_| None);
            }
        });
        assert!(scene.secured(victim).is_empty());
        assert!(!scene.writable(victim), "{victim}");
    }
    let mut without = call(world([Some(DtlsLayer::srtp(identity())), None], memory));
    without.world.run_for(Duration::from_secs(10));
    assert!(!without.writable(ALICE));
    let optional = DtlsLayer::srtp(identity()).optional();
    let mut without = call(world([Some(optional), None], memory));
    without.world.run_for(Duration::from_secs(10));
    without.assert_carries(&RTP);
}

#[test]
fn roles_and_hashes_of_other_clients_are_taken() {
    // As the answer is rewritten, Bob's role has to follow: he is passive if Alice was said to be active.
    let setups = [
        ("active", HandshakeSide::Server),
        ("passive", HandshakeSide::Client),
    ];
    for (setup, bobs) in setups {
        let layers = [0, 1].map(|_| Some(DtlsLayer::srtp(identity())));
        let mut scene = tampered(layers, |from, transport| {
            *transport = with_fingerprint(transport, |child| {
                let text = child.text_content().to_lowercase();
                let own = child.attribute("setup").unwrap_or_default();
                let setup = if from == ALICE { setup } else { own };
                Some(fingerprint("SHA-256", setup, &format!("\n  {text} ")))
            });
        });
        assert_eq!(scene.only(BOB).side, bobs, "{setup}");
        scene.assert_carries_while_held();
    }
}

impl Scene {
    fn assert_carries_while_held(&mut self) {
        self.send(ALICE, &RTP).unwrap();
        self.world.run_for(Duration::from_secs(1));
        assert_eq!(self.received(BOB), [Bytes::from_static(&RTP)]);
    }
}

#[test]
fn a_network_that_loses_doubles_and_reorders_delays_a_handshake_and_breaks_none() {
    for loss in [0.0, 0.2, 0.4] {
        let layers = [0, 1].map(|_| Some(DtlsLayer::data(identity())));
        let mut world = world(layers, memory);
        let mut conditions = Conditions::with_delay(Duration::from_millis(30));
        conditions.loss = loss;
        conditions.duplicate = 0.2;
        conditions.reorder = 0.3;
        world.set_network(conditions);
        let mut scene = call(world);
        let open = scene.world.run_until(Duration::from_secs(60), |world| {
            BOTH.iter().all(|&host| {
                let entries = world.log(host).entries();
                entries
                    .iter()
                    .any(|e| matches!(e.callback, Callback::Secured(..)))
            })
        });
        assert!(open, "loss {loss}");
        scene.world.set_network(Conditions::default());
        scene.world.run_for(Duration::from_secs(5));
        for host in BOTH {
            scene.send(host, b"whole").unwrap();
        }
        scene.world.run_for(Duration::from_secs(1));
        for host in BOTH {
            assert_eq!(
                scene.received(host),
                [Bytes::from_static(b"whole")],
                "replays are dropped"
            );
        }
    }
}

#[test]
fn rtp_before_the_handshake_reaches_nobody() {
    let mut world = world([0, 1].map(|_| Some(DtlsLayer::srtp(identity()))), memory);
    let mut conditions = Conditions::with_delay(Duration::from_millis(10));
    conditions.loss = 1.0;
    world.set_network(conditions);
    let mut scene = call(world);
    scene.world.run_for(Duration::from_secs(3));
    for host in BOTH {
        assert_eq!(scene.send(host, &RTP), Err(SendError::NotWritable));
    }
}

#[test]
fn the_layer_conforms_over_a_transport_that_keeps_strangers_out() {
    let mut suite = Conformance::new().with_layer(DtlsLayer::data(identity()));
    suite.seeds = 2;
    // Keys are drawn by the backend; an empty record carries nothing in DTLS 1.3's form.
    suite.deterministic = false;
    suite.run(MemoryDatagram::new());
}

#[test]
fn a_fingerprint_may_be_said_again_and_not_changed() {
    let other = identity();
    let other = other.fingerprint().to_string();
    let other = other.strip_prefix("sha-256 ").unwrap().to_owned();
    let layers = [0, 1].map(|_| DtlsLayer::srtp(identity()));
    let bobs = layers[1].fingerprint().to_string();
    let bobs = bobs.strip_prefix("sha-256 ").unwrap().to_owned();
    let mut scene = scene(layers, memory);
    for (text, refused) in [(bobs, false), (other, true), ("12:34".to_owned(), true)] {
        let namespace = MemoryDatagram::new();
        let transport = Element::new(TransportFactory::namespace(&namespace), "transport");
        let transport = transport.child(fingerprint("sha-256", "active", &text));
        let mut part = ContentPart::named(DEFAULT_CONTENT);
        part.transports.push(transport);
        let sid = scene
            .world
            .with_session(ALICE, scene.session, |s, _| s.sid().clone());
        let [alice, bob] = BOTH.map(|host| scene.world.name(host).clone());
        let action = Action::TransportInfo;
        let mut message = Message::new(bob, alice, sid.unwrap(), Dialect::JINGLE, action);
        message.contents.push(part);
        scene.world.hold(true);
        let id = scene.world.request_id();
        let message = Box::new(message);
        let parcel = Parcel::Message { id, message };
        scene.world.forge(Envelope {
            from: BOB,
            to: ALICE,
            parcel,
        });
        let reply = scene.world.discard(0);
        scene.world.hold(false);
        match reply.parcel {
            Parcel::Reply { id: about, reply } => {
                assert_eq!((about, reply.is_err()), (id, refused), "{text}");
            }
            other => panic!("{other:?}"),
        }
    }
    scene.assert_carries(&RTP);
}
