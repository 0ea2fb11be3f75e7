#![allow(clippy::wildcard_enum_match_arm)]

use super::*;
use crate::{Digit, GOOGLE_PHONE, PayloadType, RTP, Sides};
use session_core::{
    Config, Dialect, Notice, Peer, Slot,
    testing::{MemoryDatagram, World},
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

type Client = VoiceClient<JingleForm>;
type Packets = Arc<Mutex<Vec<MediaPacket>>>;

const SECOND: Duration = Duration::from_secs(1);
const ALICE: usize = 0;
const BOB: usize = 1;

fn audio(codecs: &[PayloadType]) -> RtpDescription {
    let mut audio = RtpDescription::new(Media::Audio);
    audio.payload_types = codecs.to_vec();
    audio.rtcp_mux = true;
    audio
}

fn codecs() -> RtpDescription {
    audio(&[
        PayloadType::opus(111),
        PayloadType::new(0, "PCMU", 8_000),
        PayloadType::new(101, "telephone-event", 48_000),
    ])
}

struct Phones {
    world: World,
    packets: [Packets; 2],
    changes: Option<Slot<CallChange>>,
}

/// Two phones with these configurations and policies.
fn phones<F: CallForm>(
    dialect: &'static Dialect,
    configs: [CallConfig; 2],
    verdict: CallVerdict,
) -> Phones {
    let mut world = World::new(1);
    let packets = [Packets::default(), Packets::default()];
    for (host, config) in configs.into_iter().enumerate() {
        let (verdict, packets) = (verdict.clone(), packets[host].clone());
        let session = Config {
            dialect,
            ..Config::default()
        };
        world.add_host(
            ["alice@a.example/desk", "bob@b.example/lap"][host],
            session,
            |manager| {
                manager.add_transport(MemoryDatagram::new())?;
                manager.add_transport(
                    MemoryDatagram::new().with_namespace(session_core::GOOGLE_P2P),
                )?;
                let mut client = VoiceClient::<F>::new(config);
                client.set_policy(move |_| verdict.clone());
                client.set_sink(move |_, packet, _| packets.lock().unwrap().push(packet));
                let mut next = host as u8;
                client.set_keys(move || {
                    next += 2;
                    [next; KEY_BYTES]
                });
                manager.add_client(client)
            },
        );
    }
    Phones {
        world,
        packets,
        changes: None,
    }
}

fn jingle(verdict: CallVerdict) -> Phones {
    phones::<JingleForm>(
        Dialect::JINGLE,
        [CallConfig::new(codecs()), CallConfig::new(codecs())],
        verdict,
    )
}

impl Phones {
    fn dial<F: CallForm>(&mut self) -> SessionId {
        let (local, to) = (self.world.name(ALICE).clone(), self.world.name(BOB).clone());
        let (id, slot) = self.world.update(ALICE, |manager, now| {
            let id = manager.create_session(local, F::NAMESPACE, now).unwrap();
            VoiceClient::<F>::dial(manager, id, to, now).unwrap();
            let call = manager
                .find_client::<VoiceClient<F>>()
                .unwrap()
                .call(id)
                .unwrap();
            (id, call.signal().connect())
        });
        self.changes = Some(slot);
        self.changes();
        id
    }

    fn at_bob(&self) -> SessionId {
        self.world.sessions(BOB)[0]
    }

    fn call<F: CallForm, R>(
        &mut self,
        host: usize,
        id: SessionId,
        look: impl FnOnce(&Call) -> R,
    ) -> R {
        self.world.update(host, |manager, _| {
            look(
                manager
                    .find_client::<VoiceClient<F>>()
                    .unwrap()
                    .call(id)
                    .unwrap(),
            )
        })
    }

    /// What Alice's last call has announced since the last time.
    fn changes(&mut self) -> Vec<CallChange> {
        let slot = self.changes.as_mut().unwrap();
        std::iter::from_fn(|| slot.try_next())
            .filter_map(|notice| match notice {
                Notice::Value(change) => Some(change),
                _ => None,
            })
            .collect()
    }
}

#[test]
fn a_call_from_ringing_to_the_end() {
    let mut phones = jingle(CallVerdict::Ring);
    let id = phones.dial::<JingleForm>();
    phones.world.run_for(SECOND);
    assert_eq!(phones.changes(), [CallChange::Ringing]);
    let other = phones.at_bob();
    assert_eq!(
        phones.call::<JingleForm, _>(BOB, other, Call::phase),
        CallPhase::Offered
    );
    phones.world.update(BOB, |manager, now| {
        Client::answer(manager, other, now).unwrap()
    });
    phones.world.run_for(SECOND);
    assert_eq!(
        phones.changes(),
        [CallChange::Answered, CallChange::Connected(true)]
    );
    for (host, id) in [(ALICE, id), (BOB, other)] {
        phones.call::<JingleForm, _>(host, id, |call| {
            assert!(call.may_send() && call.answered_at().is_some());
            assert_eq!(&*call.codec().unwrap().name, "opus");
            assert_eq!(call.digits().map(|codec| codec.id), Some(101));
            assert_eq!(call.security(), Some(&CallSecurity::Dtls));
        });
    }
    // Sound both ways, and reports on the same channel.
    for (host, id) in [(ALICE, id), (BOB, other)] {
        phones.world.update(host, |manager, now| {
            Client::send_rtp(manager, id, Bytes::from_static(&[0x80, 111, 0, 1]), now).unwrap();
            Client::send_rtcp(manager, id, Bytes::from_static(&[0x80, 200, 0, 0]), now).unwrap();
            Client::send_rtp(manager, id, Bytes::from_static(&[22, 254, 253]), now).unwrap();
        });
    }
    phones.world.run_for(SECOND);
    for packets in &phones.packets {
        assert!(matches!(
            packets.lock().unwrap()[..],
            [
                MediaPacket::Rtp(_),
                MediaPacket::Rtcp(_),
                MediaPacket::Other(_)
            ]
        ));
    }
    phones.world.update(BOB, |manager, now| {
        Client::hang_up(manager, other, ReasonCondition::Success.into(), now).unwrap()
    });
    phones.world.run_for(SECOND);
    assert_eq!(
        phones.changes(),
        [CallChange::Connected(false), CallChange::Ended]
    );
    phones.call::<JingleForm, _>(ALICE, id, |call| {
        assert!(matches!(call.cause(), Some(Cause::Remote(Some(reason))) if reason.condition == ReasonCondition::Success));
        assert!(!call.may_send());
    });
    phones.world.update(ALICE, |manager, now| {
        assert!(matches!(
            Client::set_mute(manager, id, true, now),
            Err(CallError::Ended(_))
        ));
        Client::release(manager, id, now).unwrap();
        assert_eq!(
            Client::release(manager, id, now),
            Err(CallError::Unknown(id))
        );
    });
    phones.world.run_for(100 * SECOND);
    phones.world.check_empty();
}

#[test]
fn hold_mute_and_keys_are_told() {
    let mut phones = jingle(CallVerdict::Answer);
    let id = phones.dial::<JingleForm>();
    phones.world.run_for(SECOND);
    let other = phones.at_bob();
    phones.changes();
    let mut told = |act: &dyn Fn(&mut session_core::SessionManager, Instant)| {
        phones.world.update(BOB, |manager, now| act(manager, now));
        phones.world.run_for(SECOND);
        (
            phones.changes(),
            phones.call::<JingleForm, _>(ALICE, id, |call| {
                (call.hold(), call.mute(), call.may_send())
            }),
        )
    };
    let there = Sides {
        here: false,
        there: true,
    };
    let none = Sides::default();
    let hold = |on| {
        move |manager: &mut session_core::SessionManager, now| {
            Client::set_hold(manager, other, on, now).unwrap()
        }
    };
    let mute = |on| {
        move |manager: &mut session_core::SessionManager, now| {
            Client::set_mute(manager, other, on, now).unwrap()
        }
    };
    assert_eq!(
        told(&hold(true)),
        (vec![CallChange::Held(true)], (there, none, false))
    );
    assert_eq!(told(&hold(true)), (vec![], (there, none, false)));
    assert_eq!(
        told(&mute(true)),
        (vec![CallChange::Muted(true)], (there, there, false))
    );
    assert_eq!(
        told(&hold(false)),
        (vec![CallChange::Held(false)], (none, there, true))
    );
    assert_eq!(
        told(&mute(false)),
        (vec![CallChange::Muted(false)], (none, none, true))
    );
    let five = Digit::new('5').unwrap();
    let press = |manager: &mut session_core::SessionManager, now| {
        Client::press(manager, other, five, now).unwrap()
    };
    assert_eq!(told(&press).0, [CallChange::Digit(five)]);
    // `active` ends both.
    told(&hold(true));
    told(&mute(true));
    let active = |manager: &mut session_core::SessionManager, now| {
        tell(manager.session(other).unwrap(), &CallInfo::Active, now);
    };
    assert_eq!(
        told(&active),
        (
            vec![CallChange::Held(false), CallChange::Muted(false)],
            (none, none, true)
        )
    );
    // What nobody understands is said to be so, and nothing happens.
    let unknown = |manager: &mut session_core::SessionManager, now| {
        manager
            .session(other)
            .unwrap()
            .send_info(vec![Element::new("urn:example:x", "x")], now)
            .unwrap();
    };
    assert_eq!(told(&unknown), (vec![], (none, none, true)));
}

#[test]
fn nobody_answers() {
    let mut phones = jingle(CallVerdict::Ask);
    let id = phones.dial::<JingleForm>();
    phones.world.run_for(59 * SECOND);
    assert_eq!(
        phones.call::<JingleForm, _>(ALICE, id, Call::phase),
        CallPhase::Calling
    );
    phones.world.run_for(3 * SECOND);
    phones.call::<JingleForm, _>(ALICE, id, |call| {
        assert!(matches!(call.cause(), Some(Cause::Local(reason)) if reason.condition == ReasonCondition::Timeout));
    });
    // The offer that was not taken up is gone on the other side.
    phones.world.update(BOB, |manager, _| {
        assert_eq!(
            manager.find_client::<Client>().unwrap().sessions().count(),
            0
        )
    });
}

fn cause_at_alice(configs: [CallConfig; 2], verdict: CallVerdict) -> ReasonCondition {
    let mut phones = phones::<JingleForm>(Dialect::JINGLE, configs, verdict);
    let id = phones.dial::<JingleForm>();
    phones.world.run_for(2 * SECOND);
    phones.call::<JingleForm, _>(ALICE, id, |call| match call.cause() {
        Some(Cause::Remote(Some(reason)) | Cause::Local(reason)) => reason.condition.clone(),
        other => panic!("{other:?}"),
    })
}

#[test]
fn what_cannot_be_is_declined_with_its_reason() {
    let config = || CallConfig::new(codecs());
    let decline = CallVerdict::Decline(ReasonCondition::Decline.into());
    assert_eq!(
        cause_at_alice([config(), config()], decline),
        ReasonCondition::Decline
    );
    let other = CallConfig::new(audio(&[PayloadType::new(8, "PCMA", 8_000)]));
    assert_eq!(
        cause_at_alice([config(), other], CallVerdict::Ask),
        ReasonCondition::IncompatibleParameters
    );
    let full = CallConfig {
        calls_max: 0,
        ..config()
    };
    assert_eq!(
        cause_at_alice([config(), full], CallVerdict::Ask),
        ReasonCondition::Busy
    );
    // Nobody sends in clear by accident, whoever would.
    let plain = || CallConfig {
        dtls: false,
        allow_plain: true,
        ..config()
    };
    let careful = || CallConfig {
        dtls: false,
        sdes: Policy::Enabled,
        ..config()
    };
    assert_eq!(
        cause_at_alice([plain(), careful()], CallVerdict::Answer),
        ReasonCondition::SecurityError
    );
    assert_eq!(
        cause_at_alice([careful(), plain()], CallVerdict::Answer),
        ReasonCondition::SecurityError
    );
}

#[test]
fn keys_cross_in_googles_words() {
    let config = CallConfig {
        dtls: false,
        sdes: Policy::Required,
        ..CallConfig::new(audio(&[PayloadType::new(0, "PCMU", 8_000)]))
    };
    let mut phones = phones::<GoogleForm>(
        Dialect::GTALK,
        [config.clone(), config],
        CallVerdict::Answer,
    );
    let id = phones.dial::<GoogleForm>();
    phones.world.run_for(SECOND);
    let other = phones.at_bob();
    let keys = |call: &Call| match call.security() {
        Some(CallSecurity::Sdes { ours, theirs }) => (ours.key().unwrap(), theirs.key().unwrap()),
        security => panic!("{security:?}"),
    };
    let (alice, bob) = (
        phones.call::<GoogleForm, _>(ALICE, id, keys),
        phones.call::<GoogleForm, _>(BOB, other, keys),
    );
    assert_eq!(alice, (bob.1, bob.0));
    assert_ne!(alice.0, alice.1);
    // Google's form has no word for a shared channel: RTCP has its own.
    phones.call::<GoogleForm, _>(ALICE, id, |call| {
        assert!(call.gate.rtcp.is_some() && call.may_send())
    });
    phones.world.update(ALICE, |manager, now| {
        VoiceClient::<GoogleForm>::send_rtcp(
            manager,
            id,
            Bytes::from_static(&[0x80, 200, 0, 0]),
            now,
        )
        .unwrap();
    });
    phones.world.run_for(SECOND);
    assert_eq!(phones.packets[BOB].lock().unwrap().len(), 1);
}

#[test]
fn pictures_are_declined_and_the_sound_stays() {
    let mut phones = jingle(CallVerdict::Answer);
    let (local, to) = (
        phones.world.name(ALICE).clone(),
        phones.world.name(BOB).clone(),
    );
    let id = phones.world.update(ALICE, |manager, now| {
        let id = manager.create_session(local, RTP, now).unwrap();
        let video = JingleForm::write(&RtpDescription::new(Media::Video));
        let session = manager.session(id).unwrap();
        session
            .add_content(session_core::ContentSpec::new("video", video), now)
            .unwrap();
        Client::dial(manager, id, to, now).unwrap();
        id
    });
    phones.world.run_for(2 * SECOND);
    let other = phones.at_bob();
    for (host, id) in [(ALICE, id), (BOB, other)] {
        assert_eq!(
            phones
                .world
                .manager(host)
                .peek(id)
                .unwrap()
                .contents()
                .count(),
            1
        );
        phones.call::<JingleForm, _>(host, id, |call| assert!(call.may_send()));
    }
    // In the middle of the call the same.
    phones.world.update(ALICE, |manager, now| {
        let video = JingleForm::write(&RtpDescription::new(Media::Video));
        manager
            .session(id)
            .unwrap()
            .add_content(session_core::ContentSpec::new("screen", video), now)
            .unwrap();
    });
    phones.world.run_for(2 * SECOND);
    assert_eq!(
        phones
            .world
            .manager(ALICE)
            .peek(id)
            .unwrap()
            .contents()
            .count(),
        1
    );
    phones.call::<JingleForm, _>(ALICE, id, |call| assert!(call.may_send()));
}

/// An application that knows video takes it, with the call and in the middle of it, and has packets of its own.
#[test]
fn pictures_are_the_applications_if_it_takes_them() {
    let mut phones = jingle(CallVerdict::Answer);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let video = || JingleForm::write(&RtpDescription::new(Media::Video));
    let sink = seen.clone();
    phones.world.update(BOB, |manager, _| {
        let client = manager.find_client::<Client>().unwrap();
        client.set_others(move |session, name, now| {
            if name == "unwanted" {
                return false;
            }
            if session.state().is_accepted() {
                session.accept_content(name, video(), now).unwrap();
            } else {
                session.set_answer(name, video()).unwrap();
            }
            session.create_channel_in(name, "rtp", None, now).unwrap();
            true
        });
        client.set_other_sink(move |_, _, packet, _| sink.lock().unwrap().push(packet));
    });
    let [local, to] = [ALICE, BOB].map(|host| phones.world.name(host).clone());
    let add = |session: &mut Session, name: &str, now| {
        let spec = session_core::ContentSpec::new(name, video());
        session.add_content(spec, now).unwrap();
        session.create_channel_in(name, "rtp", None, now).unwrap()
    };
    let (id, first) = phones.world.update(ALICE, |manager, now| {
        let id = manager.create_session(local, RTP, now).unwrap();
        let first = add(manager.session(id).unwrap(), "video", now);
        Client::dial(manager, id, to, now).unwrap();
        (id, first)
    });
    phones.world.run_for(2 * SECOND);
    let second = phones.world.update(ALICE, |manager, now| {
        add(manager.session(id).unwrap(), "unwanted", now);
        add(manager.session(id).unwrap(), "screen", now)
    });
    phones.world.run_for(2 * SECOND);
    let names: Vec<_> = phones
        .world
        .manager(ALICE)
        .peek(id)
        .unwrap()
        .contents()
        .map(|c| c.name().to_string())
        .collect();
    assert_eq!(names.len(), 3, "{names:?}");
    assert!(!names.contains(&"unwanted".to_owned()));
    phones.world.update(ALICE, |manager, now| {
        let session = manager.session(id).unwrap();
        for (channel, frame) in [(first, &b"picture"[..]), (second, b"screen")] {
            session
                .send(channel, Bytes::from_static(frame), now)
                .unwrap();
        }
    });
    phones.world.run_for(SECOND);
    assert_eq!(*seen.lock().unwrap(), [&b"picture"[..], b"screen"]);
    phones.call::<JingleForm, _>(ALICE, id, |call| assert!(call.may_send()));
    assert!(phones.packets[BOB].lock().unwrap().is_empty());
}

#[test]
fn misuse_is_refused_and_changes_nothing() {
    let mut phones = jingle(CallVerdict::Ask);
    let id = phones.dial::<JingleForm>();
    let to = Peer::from("carol@c.example/3");
    phones.world.update(ALICE, |manager, now| {
        assert_eq!(
            Client::dial(manager, id, to, now),
            Err(CallError::InUse(id))
        );
        assert_eq!(
            Client::answer(manager, id, now),
            Err(CallError::NotOffered(id))
        );
        assert_eq!(
            Client::ring(manager, id, now),
            Err(CallError::NotOffered(id))
        );
        assert_eq!(
            Client::set_hold(manager, id, true, now),
            Err(CallError::NotConnected)
        );
        assert_eq!(
            VoiceClient::<GoogleForm>::hang_up(manager, id, ReasonCondition::Success.into(), now),
            Err(CallError::NoClient)
        );
    });
    assert_eq!(
        phones.call::<JingleForm, _>(ALICE, id, Call::phase),
        CallPhase::Calling
    );
    assert_eq!(GoogleForm::NAMESPACE, GOOGLE_PHONE);
    // Released, it is cancelled.
    phones.world.update(ALICE, |manager, now| {
        Client::release(manager, id, now).unwrap()
    });
    phones.world.run_for(SECOND);
    phones.world.update(BOB, |manager, _| {
        assert_eq!(
            manager.find_client::<Client>().unwrap().sessions().count(),
            0
        )
    });
}

/// Keys in signalling prove nothing of who has them.
#[test]
fn who_is_to_be_verified_is_not_believed_for_keys_in_signalling() {
    let config = CallConfig {
        dtls: false,
        sdes: Policy::Required,
        ..CallConfig::new(audio(&[PayloadType::new(0, "PCMU", 8_000)]))
    };
    let verifying = CallConfig {
        verify: Some(Arc::new(|_, _| true)),
        ..config.clone()
    };
    for (dialect, alice, bob) in [
        (Dialect::GTALK_LATE, &config, &verifying),
        (Dialect::JINGLE, &config, &verifying),
        // Google's form in another dialect than Google's, which nobody speaks that has no certificate.
        (Dialect::JINGLE, &config, &config),
    ] {
        let configs = [alice.clone(), bob.clone()];
        let mut phones = phones::<GoogleForm>(dialect, configs, CallVerdict::Answer);
        let id = phones.dial::<GoogleForm>();
        phones.world.run_for(2 * SECOND);
        let cause = phones.call::<GoogleForm, _>(ALICE, id, |call| call.cause().cloned());
        let Some(Cause::Remote(Some(reason))) = cause else {
            panic!("{}: {cause:?}", dialect.name)
        };
        assert_eq!(reason.condition, ReasonCondition::SecurityError);
    }
    // Nothing is offered that would not be believed.
    let configs = [verifying, config];
    let mut phones = phones::<GoogleForm>(Dialect::GTALK, configs, CallVerdict::Answer);
    let [local, to] = [ALICE, BOB].map(|host| phones.world.name(host).clone());
    phones.world.update(ALICE, |manager, now| {
        let id = manager.create_session(local, GOOGLE_PHONE, now).unwrap();
        assert!(VoiceClient::<GoogleForm>::dial(manager, id, to, now).is_err());
    });
    phones.world.run_for(SECOND);
    assert_eq!(phones.world.sessions(BOB).len(), 0);
}

/// Reports do not travel among the sound of a peer that did not agree to it.
#[test]
fn reports_end_with_a_channel_of_their_own() {
    let config = CallConfig {
        dtls: false,
        sdes: Policy::Required,
        ..CallConfig::new(audio(&[PayloadType::new(0, "PCMU", 8_000)]))
    };
    let configs = [config.clone(), config];
    let mut phones = phones::<GoogleForm>(Dialect::GTALK, configs, CallVerdict::Answer);
    let id = phones.dial::<GoogleForm>();
    phones.world.run_for(SECOND);
    let report = Bytes::from_static(&[0x80, 200, 0, 0]);
    phones.world.update(ALICE, |manager, now| {
        let (client, session) = manager.client::<VoiceClient<GoogleForm>>(id).unwrap();
        let channel = client.call(id).unwrap().gate.rtcp.unwrap();
        client.on_channel_gone(session, channel, RTCP_CHANNEL, now);
        let sent = VoiceClient::<GoogleForm>::send_rtcp(manager, id, report, now);
        assert_eq!(sent, Err(CallError::NotConnected));
    });
    phones.call::<GoogleForm, _>(ALICE, id, |call| assert!(call.may_send()));
    phones.world.run_for(SECOND);
    assert_eq!(phones.packets[BOB].lock().unwrap().len(), 0);
}

/// Who was silent when it was asked, and is heard again, is asked again before it is given up.
#[test]
fn who_is_heard_again_is_there() {
    let mut phones = jingle(CallVerdict::Answer);
    let id = phones.dial::<JingleForm>();
    phones.world.run_for(SECOND);
    let other = phones.at_bob();
    let speak = |phones: &mut Phones| {
        phones.world.update(BOB, |manager, now| {
            let packet = Bytes::from_static(&[0x80, 111, 0, 1]);
            Client::send_rtp(manager, other, packet, now).unwrap();
        });
        phones.world.run_for(SECOND);
    };
    speak(&mut phones);
    phones.world.hold(true);
    // Nothing comes, and nobody answers.
    while phones.call::<JingleForm, _>(ALICE, id, |call| call.answers) {
        phones.world.run_for(SECOND);
    }
    for _ in 0..6 {
        speak(&mut phones);
    }
    // It falls silent, and at the same time the path goes: it has not been asked since.
    phones.world.run_for(6 * SECOND);
    phones.world.update(ALICE, |manager, now| {
        let (client, session) = manager.client::<Client>(id).unwrap();
        let channel = client.call(id).unwrap().gate.rtp.unwrap();
        client.on_writable(session, channel, false, now);
    });
    let phase = phones.call::<JingleForm, _>(ALICE, id, Call::phase);
    assert_eq!(phase, CallPhase::Answered);
}
