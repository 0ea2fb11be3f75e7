//! Calls whose keys DTLS makes, in virtual time, with the real layer on both sides.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

use bytes::Bytes;
use session_core::testing::{Conditions, Envelope, MemoryDatagram, Parcel, World};
use session_core::{
    Action, Cause, ChannelLayer, Config, Element, Message, ReasonCondition, Secured, SessionId,
};
use session_voice::{
    Call, CallConfig, CallPhase, CallSecurity, CallVerdict, JingleForm, Media, MediaConfig,
    MediaPacket, MediaStream, PayloadType, Playout, Policy, Protection, RTP, RtpDescription,
    SrtpMaster, SrtpProfile, VoiceClient,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use transport_p2p::dtls::{DtlsLayer, Identity, NAMESPACE};

type Client = VoiceClient<JingleForm>;
type Packets = Arc<Mutex<Vec<MediaPacket>>>;

const ALICE: usize = 0;
const BOB: usize = 1;
const BOTH: [usize; 2] = [ALICE, BOB];
const SECOND: Duration = Duration::from_secs(1);

fn identity() -> Identity {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    Identity::new(made.cert.der(), &made.signing_key.serialize_der())
}

fn layer() -> Option<Arc<dyn ChannelLayer>> {
    Some(Arc::new(DtlsLayer::srtp(identity())))
}

fn config(rtcp_mux: bool) -> CallConfig {
    let mut audio = RtpDescription::new(Media::Audio);
    audio.payload_types = vec![PayloadType::new(0, "PCMU", 8_000)];
    audio.rtcp_mux = rtcp_mux;
    CallConfig {
        layer: layer(),
        ..CallConfig::new(audio)
    }
}

struct Phones {
    world: World,
    packets: [Packets; 2],
    /// Alice's session, and Bob's once there is one.
    sessions: [Option<SessionId>; 2],
}

/// Two phones, of which Bob's answers at once.
fn phones(configs: [CallConfig; 2]) -> Phones {
    let mut world = World::new(23);
    let packets = [Packets::default(), Packets::default()];
    for (host, config) in configs.into_iter().enumerate() {
        let name = ["alice@a.example/desk", "bob@b.example/lap"][host];
        let packets = Arc::clone(&packets[host]);
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryDatagram::new())?;
            let mut client = Client::new(config);
            client.set_policy(|_| CallVerdict::Answer);
            let mut next = host as u8;
            client.set_keys(move || {
                next += 2;
                [next; session_voice::KEY_BYTES]
            });
            client.set_sink(move |_, packet, _| packets.lock().unwrap().push(packet));
            manager.add_client(client)
        });
    }
    Phones {
        world,
        packets,
        sessions: [None, None],
    }
}

impl Phones {
    fn dial(&mut self) {
        let [alice, bob] = BOTH.map(|host| self.world.name(host).clone());
        let id = self.world.update(ALICE, |manager, now| {
            let id = manager.create_session(alice, RTP, now).unwrap();
            Client::dial(manager, id, bob, now).unwrap();
            id
        });
        self.sessions[ALICE] = Some(id);
    }

    fn run(&mut self, time: Duration) {
        self.world.run_for(time);
        let bobs = self.world.update(BOB, |manager, _| {
            manager.find_client::<Client>()?.sessions().next()
        });
        self.sessions[BOB] = self.sessions[BOB].or(bobs);
    }

    fn call<R>(&mut self, host: usize, look: impl FnOnce(&Call) -> R) -> Option<R> {
        let id = self.sessions[host]?;
        self.world.update(host, |manager, _| {
            manager.find_client::<Client>()?.call(id).map(look)
        })
    }

    fn protection(&mut self, host: usize) -> Option<Protection> {
        self.call(host, Call::protection).flatten()
    }

    fn why(&mut self, host: usize) -> Option<ReasonCondition> {
        match self.call(host, |call| call.cause().cloned()).flatten()? {
            Cause::Local(reason) => Some(reason.condition),
            Cause::Remote(reason) => reason.map(|reason| reason.condition),
            _ => None,
        }
    }

    /// There are no keys, and nothing may be sent.
    fn assert_silent(&mut self, host: usize) {
        assert_eq!(self.protection(host), None, "{host}");
        let may_send = self.call(host, Call::may_send).unwrap_or_default();
        assert!(!may_send, "{host}");
    }
}

#[test]
fn sound_passes_with_keys_that_only_the_two_have() {
    for mux in [true, false] {
        let mut phones = phones([config(mux), config(mux)]);
        phones.dial();
        phones.run(5 * SECOND);
        for host in BOTH {
            assert!(phones.call(host, Call::may_send).unwrap(), "{host}");
            let security = phones.call(host, |call| call.security().cloned());
            assert_eq!(security.flatten(), Some(CallSecurity::Dtls));
        }
        let both = BOTH.map(|host| phones.protection(host).unwrap());
        let control = BOTH.map(|host| phones.call(host, Call::control_protection));
        let control = control.map(|protection| protection.flatten().unwrap());
        for [alice, bob] in [&both, &control] {
            let (Protection::Srtp { ours, theirs }, Protection::Srtp { .. }) = (alice, bob) else {
                panic!("not protected")
            };
            let crossed = Protection::Srtp {
                ours: theirs.clone(),
                theirs: ours.clone(),
            };
            assert!(crossed == *bob && ours != theirs);
        }
        // The responder begins the handshake, and a client's key is the first (RFC 5764 §4.2).
        let secured = phones.call(BOB, |call| call.secured().cloned());
        let keys = secured.flatten().unwrap().srtp.unwrap();
        let profile = SrtpProfile::try_from(keys.profile).unwrap();
        let [client, server] = SrtpMaster::from_dtls(profile, keys.material.as_bytes()).unwrap();
        let expected = Protection::Srtp {
            ours: client,
            theirs: server,
        };
        assert!(both[BOB] == expected);
        assert_eq!(both == control, mux, "RTCP of its own has keys of its own");
        phones.assert_sound(both);
        phones.world.check();
    }
}

impl Phones {
    fn assert_sound(&mut self, keys: [Protection; 2]) {
        let now = self.world.now();
        let stream = |seed: u8, protection: Protection| {
            let config = MediaConfig::new(0, 8_000, "name");
            MediaStream::new(config, protection, [seed; 16], now)
        };
        let [alice, bob] = keys;
        let (mut alice, mut bob) = (stream(1, alice), stream(2, bob));
        let frame = Duration::from_millis(20);
        for number in 0..5_u8 {
            let sound = [number; 160];
            let packet = alice.send_frame(&sound, frame, self.world.now()).unwrap();
            assert!(
                !packet.windows(16).any(|part| part == [number; 16]),
                "clear"
            );
            let id = self.sessions[ALICE].unwrap();
            self.world.update(ALICE, |manager, now| {
                Client::send_rtp(manager, id, packet, now).unwrap();
            });
            self.run(frame);
        }
        let now = self.world.now();
        let heard: Vec<_> = self.packets[BOB].lock().unwrap().drain(..).collect();
        assert_eq!(heard.len(), 5);
        for packet in heard {
            let MediaPacket::Rtp(packet) = packet else {
                panic!("{packet:?}")
            };
            bob.handle_rtp(packet, now).unwrap();
        }
        let first = Playout::Packet(Bytes::from(vec![0; 160]));
        assert_eq!(bob.pull(now).0, first);
    }
}

#[test]
fn a_peer_without_dtls_gets_no_call_and_no_sound() {
    // Neither with keys in signalling nor in clear, although the peer would.
    let plain = || CallConfig {
        dtls: false,
        layer: None,
        sdes: Policy::Enabled,
        allow_plain: true,
        ..config(true)
    };
    for (configs, careful) in [
        ([config(true), plain()], ALICE),
        ([plain(), config(true)], BOB),
    ] {
        let mut phones = phones(configs);
        phones.dial();
        phones.run(10 * SECOND);
        phones.assert_silent(careful);
        let phase = phones.call(careful, Call::phase);
        assert!(
            matches!(phase, None | Some(CallPhase::Ended)),
            "{careful}: {phase:?}"
        );
    }
}

/// A call in which somebody is in the way of signalling: what comes of each parcel goes on, in this order.
fn intercepted(mut each: impl FnMut(&mut World, Envelope) -> Vec<Envelope>) -> Phones {
    let mut phones = phones([config(true), config(true)]);
    phones.world.hold(true);
    phones.dial();
    for _ in 0..100 {
        phones.run(Duration::from_millis(100));
        while !phones.world.held().is_empty() {
            let envelope = phones.world.discard(0);
            for envelope in each(&mut phones.world, envelope) {
                phones.world.forge(envelope);
            }
        }
    }
    phones
}

/// Somebody in the way of signalling changes what `victim` hears of fingerprints.
fn tampered(victim: usize, change: impl Fn(&Element) -> Option<Element>) -> Phones {
    intercepted(|_, mut envelope| {
        if let Envelope {
            to,
            parcel: Parcel::Message { message, .. },
            ..
        } = &mut envelope
            && *to == victim
        {
            change_all(message, &change);
        }
        vec![envelope]
    })
}

fn change_all(message: &mut Message, change: impl Fn(&Element) -> Option<Element>) {
    let parts = message.contents.iter_mut();
    for transport in parts.flat_map(|part| &mut part.transports) {
        *transport = changed(transport, &change);
    }
}

fn changed(transport: &Element, change: impl Fn(&Element) -> Option<Element>) -> Element {
    let mut changed = Element::new(transport.namespace(), transport.name());
    for child in transport.children().map(|child| child.to_element()) {
        if child.namespace() == NAMESPACE {
            change(&child).into_iter().for_each(|c| changed.push(c));
        } else {
            changed.push(child);
        }
    }
    changed
}

#[test]
fn neither_another_fingerprint_nor_none_leads_to_sound() {
    let other = identity();
    let other = other.fingerprint().to_string();
    let other = other.strip_prefix("sha-256 ").unwrap();
    for victim in BOTH {
        // What nobody changes leads to sound by the same way.
        let mut untouched = tampered(victim, |child| Some(child.clone()));
        assert!(untouched.protection(victim).is_some());
        let mut forged = tampered(victim, |child| {
            let setup = child.attribute("setup").unwrap_or_default();
            let changed = Element::new(NAMESPACE, "fingerprint").with("hash", "sha-256");
            Some(changed.with("setup", setup).text(other))
        });
        forged.assert_silent(victim);
        let mut stripped = tampered(victim, |_| None);
        stripped.assert_silent(victim);
    }
}

/// Bob's fingerprint comes in a transport-info before his answer, in which there is none, or another one.
fn announced_early(in_answer: impl Fn(&Element) -> Option<Element>) -> Phones {
    intercepted(|world, mut envelope| {
        let mut info = envelope.clone();
        if let (Parcel::Message { message, .. }, Parcel::Message { id, message: first }) =
            (&mut envelope.parcel, &mut info.parcel)
            && message.action == Action::SessionAccept
        {
            *id = world.request_id();
            first.action = Action::TransportInfo;
            for part in &mut first.contents {
                part.description = None;
                part.transports = part.transports.iter().map(only_fingerprints).collect();
            }
            change_all(message, &in_answer);
            return vec![info, envelope];
        }
        vec![envelope]
    })
}

fn only_fingerprints(transport: &Element) -> Element {
    let mut only = Element::new(transport.namespace(), transport.name());
    let children = transport.children().map(|child| child.to_element());
    children
        .filter(|child| child.namespace() == NAMESPACE)
        .for_each(|child| only.push(child));
    only
}

#[test]
fn a_fingerprint_before_the_answer_counts_and_does_not_change() {
    for in_answer in [|_: &Element| None, |child: &Element| Some(child.clone())] {
        let mut phones = announced_early(in_answer);
        assert!(phones.call(ALICE, Call::may_send).unwrap());
        let both = BOTH.map(|host| phones.protection(host).unwrap());
        phones.world.hold(false);
        phones.assert_sound(both);
    }
    let other = identity().fingerprint().to_string();
    let other = other.strip_prefix("sha-256 ").unwrap().to_owned();
    let mut changed = announced_early(|_| {
        let changed = Element::new(NAMESPACE, "fingerprint").with("hash", "sha-256");
        Some(changed.with("setup", "active").text(&other))
    });
    changed.assert_silent(ALICE);
}

#[test]
fn who_knows_better_is_asked() {
    let asked: Arc<Mutex<Vec<Secured>>> = Arc::default();
    let verify = |verdict: bool| {
        let asked = Arc::clone(&asked);
        CallConfig {
            verify: Some(Arc::new(move |_, secured: &Secured| {
                asked.lock().unwrap().push(secured.clone());
                verdict
            })),
            ..config(true)
        }
    };
    let mut trusted = phones([verify(true), config(true)]);
    trusted.dial();
    trusted.run(5 * SECOND);
    assert!(trusted.call(ALICE, Call::may_send).unwrap());
    let shown = trusted.call(ALICE, |call| call.secured().cloned());
    assert_eq!(*asked.lock().unwrap(), [shown.flatten().unwrap()]);

    let mut mistrusted = phones([verify(false), config(true)]);
    mistrusted.dial();
    mistrusted.run(5 * SECOND);
    mistrusted.assert_silent(ALICE);
    for host in BOTH {
        let why = mistrusted.why(host);
        assert_eq!(why, Some(ReasonCondition::SecurityError), "{host}");
    }
}

#[test]
fn a_bad_network_delays_the_keys_and_changes_none() {
    let mut phones = phones([config(true), config(true)]);
    let mut conditions = Conditions::with_delay(Duration::from_millis(40));
    (conditions.loss, conditions.duplicate, conditions.reorder) = (0.3, 0.3, 0.3);
    phones.world.set_network(conditions);
    phones.dial();
    phones.run(40 * SECOND);
    let [Some(alice), Some(bob)] = BOTH.map(|host| phones.protection(host)) else {
        panic!("no keys")
    };
    let (Protection::Srtp { ours, .. }, Protection::Srtp { theirs, .. }) = (&alice, &bob) else {
        panic!("not protected")
    };
    assert_eq!(ours, theirs);
}
