//! Sound before the answer: what a callee plays while it rings there, with keys that DTLS made by then.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unreachable_pub,
    reason = "a test that cannot go on fails, and names only what it looks for"
)]

mod scene;

use bytes::Bytes;
use proptest::prelude::*;
use scene::{ALICE, BOB, Client, Scene};
use session_core::testing::{Envelope, Parcel, World};
use session_core::{Action, Cause, Element, Message, Reason, ReasonCondition, TransportError};
use session_voice::{Call, CallError, CallPhase, CallVerdict, Protection, is_rtcp};
use std::time::Duration;
use transport_p2p::{dtls::NAMESPACE, ice::ICE_UDP};

const SECOND: Duration = Duration::from_secs(1);

/// Alice calls, and it rings at Bob's.
fn ringing() -> Scene {
    let mut scene = Scene::new(&CallVerdict::Ring, None);
    scene.dial(&[ICE_UDP]);
    scene.talk(2 * SECOND);
    scene
}

impl Scene {
    fn speak_early(&mut self, host: usize) -> Result<(), CallError> {
        let id = self.sessions[host].unwrap();
        self.world
            .update(host, |manager, _| Client::speak_early(manager, id))
    }

    fn answer(&mut self) {
        self.try_answer().unwrap();
    }

    fn try_answer(&mut self) -> Result<(), CallError> {
        let id = self.sessions[BOB].unwrap();
        self.world
            .update(BOB, |manager, now| Client::answer(manager, id, now))
    }

    fn keys(&mut self, host: usize) -> Option<Protection> {
        self.call(host, Call::protection).flatten()
    }

    fn phase(&mut self, host: usize) -> Option<CallPhase> {
        self.call(host, Call::phase)
    }

    /// How loud the last second was.
    fn power(&self, host: usize) -> f32 {
        let line = self.line(host);
        let last = &line.heard[line.heard.len().saturating_sub(8_000)..];
        last.iter().map(|s| s * s).sum::<f32>() / 8_000.0
    }

    /// Both talk, while somebody is in the way of signalling: what comes of each parcel goes on, in this order.
    fn talk_through(
        &mut self,
        time: Duration,
        mut each: impl FnMut(&mut World, Envelope) -> Vec<Envelope>,
    ) {
        self.world.hold(true);
        let until = self.world.now() + time;
        while self.world.now() < until {
            self.talk(Duration::from_millis(20));
            while !self.world.held().is_empty() {
                let envelope = self.world.discard(0);
                for envelope in each(&mut self.world, envelope) {
                    self.world.forge(envelope);
                }
            }
        }
        self.world.hold(false);
    }
}

fn message(envelope: &Envelope) -> Option<&Message> {
    match &envelope.parcel {
        Parcel::Message { message, .. } => Some(message),
        _ => None,
    }
}

/// The fingerprint in a message.
fn fingerprint(message: &Message) -> Option<Element> {
    let mut transports = message.contents.iter().flat_map(|part| &part.transports);
    let found = transports.find_map(|transport| transport.find(NAMESPACE, "fingerprint"))?;
    Some(found.to_element())
}

/// Whether it is what tells of the fingerprint before the answer.
fn tells_early(envelope: &Envelope) -> bool {
    let info = message(envelope).filter(|message| message.action == Action::TransportInfo);
    envelope.to == ALICE && info.is_some_and(|info| fingerprint(info).is_some())
}

/// With another fingerprint, or another role.
fn forged(mut envelope: Envelope, change: impl Fn(&mut Element)) -> Envelope {
    if let Parcel::Message { message, .. } = &mut envelope.parcel {
        for part in &mut message.contents {
            for transport in &mut part.transports {
                let mut changed = Element::new(transport.namespace(), transport.name());
                for attribute in transport.attributes() {
                    changed.set_attribute(attribute.name, attribute.value);
                }
                for child in transport.children() {
                    let mut child = child.to_element();
                    if child.is(NAMESPACE, "fingerprint") {
                        change(&mut child);
                    }
                    changed.push(child);
                }
                *transport = changed;
            }
        }
    }
    envelope
}

fn of_mallory(fingerprint: &mut Element) {
    let setup = fingerprint.attribute("setup").unwrap_or_default();
    *fingerprint = Element::new(NAMESPACE, "fingerprint")
        .with("hash", "sha-256")
        .with("setup", setup)
        .text(&["AB"; 32].join(":"));
}

#[test]
fn a_callee_is_heard_before_its_answer_and_the_caller_is_not() {
    let mut scene = ringing();
    assert!(scene.keys(ALICE).is_none() && scene.line(ALICE).engine.is_none());
    scene.speak_early(BOB).unwrap();
    scene.talk(3 * SECOND);
    assert_eq!(scene.phase(ALICE), Some(CallPhase::Calling));
    assert!((0.06..0.10).contains(&scene.power(ALICE)));
    // Nothing of Alice's sound leaves, whatever her application tries.
    assert_eq!(scene.call(ALICE, Call::may_send), Some(false));
    let id = scene.sessions[ALICE].unwrap();
    let sent = scene.world.update(ALICE, |manager, now| {
        let packet = Bytes::from_static(&[0x80, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9, 1, 2, 3]);
        Client::send_rtp(manager, id, packet, now)
    });
    assert_eq!(sent, Err(CallError::NotConnected));
    assert!(scene.line(BOB).came.iter().all(|packet| is_rtcp(packet)));

    let keys = [ALICE, BOB].map(|host| scene.keys(host).unwrap());
    let before = scene.world.now();
    scene.answer();
    scene.talk(3 * SECOND);
    for host in [ALICE, BOB] {
        assert_eq!(scene.phase(host), Some(CallPhase::Answered));
        assert!((0.06..0.10).contains(&scene.power(host)), "{host}");
        assert!(scene.keys(host).as_ref() == Some(&keys[host]));
    }
    let gap = scene.gap(ALICE, before);
    assert!(gap <= Duration::from_millis(60), "{gap:?}");
    assert_eq!(scene.speak_early(BOB), Ok(()));
}

#[test]
fn a_caller_speaks_before_the_answer_if_its_application_says_so() {
    let mut scene = ringing();
    scene.speak_early(ALICE).unwrap();
    scene.talk(SECOND);
    // Without keys there is nothing to speak with.
    assert_eq!(scene.call(ALICE, Call::may_send), Some(false));
    scene.speak_early(BOB).unwrap();
    scene.talk(3 * SECOND);
    for host in [ALICE, BOB] {
        assert!((0.06..0.10).contains(&scene.power(host)), "{host}");
    }
    assert_eq!(scene.phase(BOB), Some(CallPhase::Offered));
}

/// Asked for in the configuration, the fingerprint travels with the first candidates; else it is told to nobody early.
#[test]
fn the_fingerprint_travels_with_candidates_and_only_if_it_is_wanted() {
    for wanted in [true, false] {
        let mut scene = Scene::with(&CallVerdict::Ring, None, |config| {
            config.early_media = wanted;
        });
        scene.dial(&[ICE_UDP]);
        let (mut told, mut candidates) = (0, 0);
        scene.talk_through(3 * SECOND, |_, envelope| {
            if tells_early(&envelope) {
                told += 1;
                let message = message(&envelope).unwrap();
                let transport = &message.contents[0].transports[0];
                candidates += transport.find(ICE_UDP, "candidate").iter().count();
                assert!(transport.attribute("ufrag").is_some());
            }
            vec![envelope]
        });
        assert_eq!(
            (told, candidates),
            (usize::from(wanted), usize::from(wanted))
        );
        assert_eq!(scene.keys(ALICE).is_some(), wanted);
        assert_eq!(scene.call(BOB, Call::may_send), Some(wanted));
    }
}

/// A caller that takes no notice of what comes before the answer.
#[test]
fn who_does_not_understand_it_loses_nothing() {
    let mut scene = ringing();
    scene.world.hold(true);
    scene.speak_early(BOB).unwrap();
    let mut dropped = 0;
    scene.talk_through(3 * SECOND, |_, envelope| {
        let early = tells_early(&envelope);
        dropped += usize::from(early);
        if early { Vec::new() } else { vec![envelope] }
    });
    assert!(dropped == 1 && scene.keys(ALICE).is_none());
    assert_eq!(scene.call(BOB, Call::may_send), Some(false));
    scene.answer();
    scene.talk(3 * SECOND);
    for host in [ALICE, BOB] {
        assert!((0.06..0.10).contains(&scene.power(host)), "{host}");
    }
}

#[test]
fn a_callee_that_declines_after_it_has_spoken_is_gone() {
    let mut scene = ringing();
    scene.speak_early(BOB).unwrap();
    scene.talk(2 * SECOND);
    assert!(scene.keys(ALICE).is_some());
    let id = scene.sessions[BOB].unwrap();
    scene.world.update(BOB, |manager, now| {
        Client::decline(manager, id, ReasonCondition::Decline.into(), now).unwrap();
    });
    scene.talk(SECOND);
    let cause = scene.call(ALICE, |call| call.cause().cloned()).flatten();
    let declined = Reason::new(ReasonCondition::Decline);
    assert_eq!(cause, Some(Cause::Remote(Some(declined))));
    assert_eq!(scene.call(ALICE, Call::may_send), Some(false));
}

/// A role that is left open is no word about who begins: some gateways say this, and the opposite in their answer.
#[test]
fn a_role_that_is_left_open_waits_for_the_answer() {
    let mut scene = ringing();
    scene.world.hold(true);
    scene.speak_early(BOB).unwrap();
    scene.talk_through(2 * SECOND, |_, envelope| {
        let open = |child: &mut Element| child.set_attribute("setup", "actpass");
        vec![if tells_early(&envelope) {
            forged(envelope, open)
        } else {
            envelope
        }]
    });
    assert!(scene.keys(ALICE).is_none());
    scene.answer();
    scene.talk(2 * SECOND);
    assert!(scene.keys(ALICE).is_some() && scene.power(ALICE) > 0.06);
}

#[test]
fn who_knows_the_callee_better_is_asked_before_anything_is_heard() {
    let mut scene = Scene::with(&CallVerdict::Ring, None, |config| {
        config.early_media = true;
        config.verify = Some(std::sync::Arc::new(|_, _| false));
    });
    scene.dial(&[ICE_UDP]);
    scene.talk(3 * SECOND);
    assert!(scene.line(ALICE).heard.iter().all(|sample| *sample == 0.0));
    let why = scene.call(ALICE, |call| call.cause().cloned()).flatten();
    let condition = match why {
        Some(Cause::Local(reason) | Cause::Remote(Some(reason))) => reason.condition,
        why => panic!("{why:?}"),
    };
    assert_eq!(condition, ReasonCondition::SecurityError);
}

/// The answer names another than the one that is heard already.
#[test]
fn another_fingerprint_in_the_answer_ends_the_call() {
    let mut scene = ringing();
    scene.speak_early(BOB).unwrap();
    scene.talk(2 * SECOND);
    assert!(scene.keys(ALICE).is_some());
    scene.world.hold(true);
    scene.answer();
    let envelope = forged(scene.world.discard(0), of_mallory);
    assert_eq!(message(&envelope).unwrap().action, Action::SessionAccept);
    scene.world.hold(false);
    scene.world.forge(envelope);
    scene.talk(SECOND);
    let cause = scene.call(ALICE, |call| call.cause().cloned()).flatten();
    let changed = TransportError::Untrusted("the peer's fingerprint has changed");
    assert_eq!(cause, Some(Cause::Transport(changed)));
    let told = scene.call(BOB, |call| call.cause().cloned()).flatten();
    let Some(Cause::Remote(Some(told))) = told else {
        panic!("{told:?}")
    };
    assert_eq!(told.condition, ReasonCondition::SecurityError);
}

/// What happens to the word that tells of the fingerprint early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Comes,
    IsDoubled,
    IsLost,
    ComesAfterTheAnswer,
    /// Another comes before it.
    IsForestalled,
    /// Another comes after it, and again after the answer.
    IsFollowed,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop::sample::select(vec![
        Fate::Comes,
        Fate::IsDoubled,
        Fate::IsLost,
        Fate::ComesAfterTheAnswer,
        Fate::IsForestalled,
        Fate::IsFollowed,
    ])
}

fn of_its_own(world: &mut World, envelope: &Envelope) -> Envelope {
    let mut copy = envelope.clone();
    if let Parcel::Message { id, .. } = &mut copy.parcel {
        *id = world.request_id();
    }
    copy
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever becomes of the word and whenever the answer comes: either both have each other's keys, which never change,
    /// or nobody is heard and the call has ended.
    #[test]
    fn keys_are_the_two_s_or_nobody_s(fate in fate(), rings_for in 0_u32..40) {
        let mut scene = ringing();
        scene.world.hold(true);
    scene.speak_early(BOB).unwrap();
        let rings_for = rings_for * Duration::from_millis(50);
        let (mut kept, mut keys) = (None, None);
        for (time, answered) in [(rings_for, false), (3 * SECOND, true)] {
            if answered {
                keys = scene.keys(ALICE);
                scene.world.hold(true);
                // Where the wrong word was believed it is over before.
                let result = scene.try_answer();
                prop_assert!(result.is_ok() || fate == Fate::IsForestalled);
            }
            scene.talk_through(time, |world, envelope| {
                let is_answer = message(&envelope).is_some_and(|m| m.action == Action::SessionAccept);
                if is_answer {
                    let late: Option<Envelope> = kept.take();
                    return std::iter::once(envelope).chain(late).collect();
                }
                if !tells_early(&envelope) {
                    return vec![envelope];
                }
                match fate {
                    Fate::Comes => vec![envelope],
                    Fate::IsDoubled => vec![of_its_own(world, &envelope), envelope],
                    Fate::IsLost => Vec::new(),
                    Fate::ComesAfterTheAnswer => {
                        kept = Some(envelope);
                        Vec::new()
                    }
                    Fate::IsForestalled => {
                        vec![forged(of_its_own(world, &envelope), of_mallory), envelope]
                    }
                    Fate::IsFollowed => {
                        kept = Some(forged(of_its_own(world, &envelope), of_mallory));
                        let other = forged(of_its_own(world, &envelope), of_mallory);
                        vec![envelope, other]
                    }
                }
            });
        }
        scene.talk(SECOND);
        if fate == Fate::IsForestalled {
            prop_assert_eq!(scene.phase(ALICE), Some(CallPhase::Ended));
            prop_assert!(scene.line(ALICE).engine.is_none());
        } else {
            let (Some(Protection::Srtp { ours, theirs }), Some(Protection::Srtp { ours: to, theirs: from })) =
                (scene.keys(ALICE), scene.keys(BOB)) else { panic!("{fate:?}: no keys") };
            prop_assert!(ours == from && theirs == to);
            let now = scene.keys(ALICE);
            prop_assert!(keys.is_none() || keys == now, "the keys have changed");
            for host in [ALICE, BOB] {
                prop_assert!((0.06..0.10).contains(&scene.power(host)), "{}", host);
            }
        }
    }
}
