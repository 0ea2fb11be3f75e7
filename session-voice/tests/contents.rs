//! Contents beside the sound: who learns of them, who answers them, and that the sound goes on whatever becomes of them.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unreachable_pub,
    reason = "a test that cannot go on fails, and names only what it looks for"
)]

mod scene;

use bytes::Bytes;
use scene::{ALICE, BOB, Client, Scene};
use session_core::{
    ChannelId, ContentSpec, Element, Notice, Reason, ReasonCondition, Senders, Session,
    SessionDescription, SessionId, SessionManager, Slot,
};
use session_voice::{
    AUDIO_CONTENT, Call, CallContent, CallError, CallInfo, CallOffer, CallPhase, CallVerdict,
    ContentChange, Media, Part, PayloadType, Protection, RTP, RtpDescription,
};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use transport_p2p::ice::ICE_UDP;

const SECOND: Duration = Duration::from_secs(1);
const BOTH: [usize; 2] = [ALICE, BOB];

fn video() -> Element {
    let mut video = RtpDescription::new(Media::Video);
    video.payload_types = vec![PayloadType::new(96, "VP8", 90_000)];
    video.rtcp_mux = true;
    video.to_element()
}

fn screen() -> ContentSpec {
    ContentSpec {
        senders: Senders::Initiator,
        ..ContentSpec::new("screen", video())
    }
}

/// What Bob, or Alice, is told of contents.
type Told = [Slot<ContentChange>; 2];

/// A call that runs; where it says so, contents wait for the application.
fn call(ask: bool) -> (Scene, Told) {
    let mut scene = Scene::with(&CallVerdict::Answer, None, |config| {
        config.ask_contents = ask
    });
    scene.dial(&[ICE_UDP]);
    scene.talk(2 * SECOND);
    let told = BOTH.map(|host| scene.call(host, |call| call.contents().connect()).unwrap());
    (scene, told)
}

fn next<T: Clone>(slot: &mut Slot<T>) -> Vec<T> {
    let notices = std::iter::from_fn(|| slot.try_next());
    let values = notices.filter_map(|notice| match notice {
        Notice::Value(value) => Some(value),
        _ => None,
    });
    values.collect()
}

impl Scene {
    fn act<R>(
        &mut self,
        host: usize,
        act: impl FnOnce(&mut SessionManager, SessionId, Instant) -> R,
    ) -> R {
        let id = self.sessions[host].unwrap();
        let result = self
            .world
            .update(host, |manager, now| act(manager, id, now));
        self.talk(SECOND);
        result
    }

    fn session<R>(&mut self, host: usize, act: impl FnOnce(&mut Session, Instant) -> R) -> R {
        self.act(host, |manager, id, now| {
            act(manager.session(id).unwrap(), now)
        })
    }

    fn contents(&self, host: usize) -> Vec<String> {
        let session = self.world.manager(host).peek(self.sessions[host].unwrap());
        let contents = session.unwrap().contents();
        contents.map(|content| content.name().to_string()).collect()
    }

    fn keys(&self, host: usize, channel: ChannelId) -> Option<Protection> {
        let session = self.world.manager(host).peek(self.sessions[host]?)?;
        Protection::from_secured(session.secured(channel)?)
    }

    /// Both hear each other, and have since then.
    fn assert_sound(&mut self, since: Instant) {
        for host in BOTH {
            let gap = self.gap(host, since);
            assert!(gap <= Duration::from_millis(60), "{host}: {gap:?}");
            assert_eq!(self.call(host, Call::phase), Some(CallPhase::Answered));
        }
    }
}

#[test]
fn a_picture_has_keys_of_its_own_and_the_sound_keeps_its() {
    let (mut scene, mut told) = call(true);
    let (since, sound) = (
        scene.world.now(),
        BOTH.map(|h| scene.call(h, Call::protection)),
    );
    let seen: Arc<Mutex<Vec<Bytes>>> = Arc::default();
    let sink = Arc::clone(&seen);
    scene.world.update(BOB, |manager, _| {
        let client = manager.find_client::<Client>().unwrap();
        client.set_other_sink(move |_, _, packet, _| sink.lock().unwrap().push(packet));
    });
    let added = scene.act(ALICE, |manager, id, now| {
        Client::add_content(manager, id, screen(), now).unwrap()
    });
    let proposed = CallContent {
        name: "screen".into(),
        senders: Senders::Initiator,
        media: Some(Media::Video),
        description: video(),
    };
    assert_eq!(next(&mut told[BOB]), [ContentChange::Proposed(proposed)]);
    assert!(next(&mut told[ALICE]).is_empty(), "nobody has decided");
    let taken = scene.act(BOB, |manager, id, now| {
        Client::accept_content(manager, id, "screen", video(), now).unwrap()
    });
    scene.talk(2 * SECOND);
    let accepted = ContentChange::Accepted("screen".into());
    assert_eq!(
        next(&mut told[ALICE]),
        [accepted, ContentChange::Secured(added)]
    );
    assert_eq!(next(&mut told[BOB]), [ContentChange::Secured(taken)]);

    let [alice, bob] = [(ALICE, added), (BOB, taken)].map(|(h, c)| scene.keys(h, c).unwrap());
    let (
        Protection::Srtp { ours, theirs },
        Protection::Srtp {
            ours: to,
            theirs: from,
        },
    ) = (&alice, &bob)
    else {
        panic!("not protected")
    };
    assert!(ours == from && theirs == to);
    let now = BOTH.map(|host| scene.call(host, Call::protection));
    assert!(
        now == sound && now[ALICE] != Some(Some(alice)),
        "keys are not mixed up"
    );
    scene.act(ALICE, |manager, id, now| {
        manager
            .send(id, added, Bytes::from_static(&[0x80, 96, 1]), now)
            .unwrap();
    });
    assert_eq!(*seen.lock().unwrap(), [Bytes::from_static(&[0x80, 96, 1])]);
    scene.assert_sound(since);
    // It is taken out again.
    scene.act(BOB, |manager, id, now| {
        let reason = Reason::new(ReasonCondition::Success);
        Client::remove_content(manager, id, "screen", reason, now).unwrap();
    });
    let removed = ContentChange::Removed {
        name: "screen".into(),
        reason: Some(Reason::new(ReasonCondition::Success)),
    };
    assert_eq!(next(&mut told[ALICE]), [removed]);
    assert_eq!(scene.contents(ALICE), [AUDIO_CONTENT]);
    scene.assert_sound(since);
}

#[test]
fn what_nobody_takes_is_declined_and_both_learn_of_it() {
    let declines = |ask: bool, reason: ReasonCondition| {
        let (mut scene, mut told) = call(ask);
        let since = scene.world.now();
        scene.act(ALICE, |manager, id, now| {
            Client::add_content(manager, id, screen(), now).unwrap();
        });
        let heard = next(&mut told[BOB]);
        assert!(
            matches!(&heard[0], ContentChange::Proposed(content) if &*content.name == "screen")
        );
        if ask {
            assert_eq!(heard.len(), 1);
            scene.act(BOB, |manager, id, now| {
                let reason = Reason::new(reason.clone());
                Client::decline_content(manager, id, "screen", reason, now).unwrap();
                let again = Client::accept_content(manager, id, "screen", video(), now);
                assert!(matches!(again, Err(CallError::Session(_))), "{again:?}");
            });
        } else {
            assert_eq!(heard[1..], [ContentChange::Declined("screen".into())]);
        }
        let refused = ContentChange::Refused {
            name: "screen".into(),
            reason: Some(Reason::new(reason)),
        };
        assert_eq!(next(&mut told[ALICE]), [refused]);
        assert!(
            BOTH.iter()
                .all(|host| scene.contents(*host) == [AUDIO_CONTENT])
        );
        scene.assert_sound(since);
    };
    declines(false, ReasonCondition::UnsupportedApplications);
    declines(true, ReasonCondition::Decline);
}

/// A description in other words than those of RTP says nothing of a medium.
#[test]
fn what_is_not_rtp_has_no_medium() {
    let (mut scene, mut told) = call(false);
    scene.act(ALICE, |manager, id, now| {
        let board = Element::new("urn:example:board", "description");
        Client::add_content(manager, id, ContentSpec::new("board", board), now).unwrap();
    });
    let heard = next(&mut told[BOB]);
    let Some(ContentChange::Proposed(content)) = heard.first() else {
        panic!("{heard:?}")
    };
    assert_eq!(content.description.namespace(), "urn:example:board");
    assert_eq!(content.media, None);
}

/// Offered with the call: it is part of the offer's event, waits for the answer, and is declined with that if nobody took it.
#[test]
fn what_comes_with_a_call_is_told_with_its_offer() {
    for takes in [true, false] {
        let mut scene = Scene::new(&CallVerdict::Ring, None);
        let mut offers = scene.world.update(BOB, |manager, _| {
            let client = manager.find_client::<Client>().unwrap();
            client.signal_offer().connect()
        });
        next(&mut offers);
        let [alice, bob] = BOTH.map(|host| scene.world.name(host).clone());
        let id = scene.world.update(ALICE, |manager, now| {
            let id = manager.create_session(alice, RTP, now).unwrap();
            let session = manager.session(id).unwrap();
            session.set_potential_transports(&[ICE_UDP]).unwrap();
            session.add_content(screen(), now).unwrap();
            Client::dial(manager, id, bob, now).unwrap();
            id
        });
        scene.sessions[ALICE] = Some(id);
        scene.talk(2 * SECOND);
        let mut told = scene.call(BOB, |call| call.contents().connect()).unwrap();
        next(&mut told);
        let offer: CallOffer = next(&mut offers).remove(0);
        let names: Vec<_> = offer
            .contents
            .iter()
            .map(|c| (&*c.name, c.senders))
            .collect();
        assert_eq!(names, [("screen", Senders::Initiator)]);
        assert_eq!(offer.contents[0].media, Some(Media::Video));
        scene.act(BOB, |manager, id, now| {
            if takes {
                let session = manager.session(id).unwrap();
                session.set_answer("screen", video()).unwrap();
            }
            Client::answer(manager, id, now).unwrap();
        });
        scene.talk(2 * SECOND);
        let declined = ContentChange::Declined("screen".into());
        if takes {
            assert_eq!(scene.contents(ALICE), [AUDIO_CONTENT, "screen"]);
            assert!(next(&mut told).is_empty());
        } else {
            assert_eq!(scene.contents(ALICE), [AUDIO_CONTENT]);
            assert_eq!(next(&mut told), [declined]);
        }
        assert!(scene.line(ALICE).taken.len() > 50 && scene.line(BOB).taken.len() > 50);
    }
}

#[test]
fn who_sends_is_told_and_obeyed() {
    let (mut scene, mut told) = call(false);
    for (senders, alice, bob) in [
        (Senders::None, false, false),
        (Senders::Initiator, true, false),
        (Senders::Responder, false, true),
        (Senders::Both, true, true),
    ] {
        // Who asks for it keeps to it, too, as soon as its application looks.
        scene.act(ALICE, |manager, id, now| {
            Client::set_senders(manager, id, AUDIO_CONTENT, senders, now).unwrap();
        });
        let change = ContentChange::Senders {
            name: AUDIO_CONTENT.into(),
            senders,
        };
        assert_eq!(next(&mut told[BOB]), [change]);
        assert_eq!(
            BOTH.map(|h| scene.call(h, Call::may_send).unwrap()),
            [alice, bob]
        );
    }
    let more = Element::new(RTP, "description").with("media", "audio");
    scene.session(ALICE, |session, now| {
        session.modify(AUDIO_CONTENT, more.clone(), now).unwrap();
    });
    let described = ContentChange::Described {
        name: AUDIO_CONTENT.into(),
        description: more,
    };
    assert_eq!(next(&mut told[BOB]), [described]);
}

/// The peer goes on without sound: nothing is sent on what is not there any more, and the rest goes on.
#[test]
fn the_sound_may_be_taken_out_of_a_call() {
    let (mut scene, mut told) = call(true);
    let added = scene.act(ALICE, |manager, id, now| {
        Client::add_content(manager, id, screen(), now).unwrap()
    });
    scene.act(BOB, |manager, id, now| {
        Client::accept_content(manager, id, "screen", video(), now).unwrap();
    });
    scene.talk(2 * SECOND);
    told.iter_mut().for_each(|slot| drop(next(slot)));
    scene.act(ALICE, |manager, id, now| {
        let reason = Reason::new(ReasonCondition::MediaError);
        Client::remove_content(manager, id, AUDIO_CONTENT, reason, now).unwrap();
    });
    let removed = ContentChange::Removed {
        name: AUDIO_CONTENT.into(),
        reason: Some(Reason::new(ReasonCondition::MediaError)),
    };
    assert_eq!(next(&mut told[BOB]), [removed]);
    for host in BOTH {
        let look = |call: &Call| (call.phase(), call.is_connected(), call.may_send());
        assert_eq!(
            scene.call(host, look),
            Some((CallPhase::Answered, false, false))
        );
        let sent = scene.act(host, |manager, id, now| {
            Client::send_rtp(manager, id, Bytes::from_static(&[0x80, 0, 1]), now)
        });
        assert_eq!(sent, Err(CallError::NotConnected));
        // No channel of another content is taken for that of the sound.
        assert_eq!(scene.contents(host), ["screen"]);
    }
    scene.act(ALICE, |manager, id, now| {
        manager
            .send(id, added, Bytes::from_static(&[0x80, 96, 1]), now)
            .unwrap();
    });
    assert_eq!(scene.call(BOB, Call::phase), Some(CallPhase::Answered));
}

/// XEP-0167 §8.3: who turns the camera off is still heard.
#[test]
fn a_mute_of_another_content_is_none_of_the_sound() {
    let (mut scene, _) = call(true);
    scene.act(ALICE, |manager, id, now| {
        Client::add_content(manager, id, screen(), now).unwrap()
    });
    scene.act(BOB, |manager, id, now| {
        Client::accept_content(manager, id, "screen", video(), now).unwrap()
    });
    let names = scene.contents(BOB);
    assert_eq!(names.len(), 2);
    for (name, is_muted) in [(Some("screen"), false), (Some(names[0].as_str()), true)] {
        let part = Part {
            name: name.map(Into::into),
            creator: None,
        };
        scene.session(BOB, |session, now| {
            let info = CallInfo::Mute(part).to_element();
            session.send_info(vec![info], now).unwrap();
        });
        let muted = scene.call(ALICE, |call| call.mute().there);
        assert_eq!(muted, Some(is_muted), "{name:?}");
    }
    scene.session(BOB, |session, now| {
        let other = Part {
            name: Some("screen".into()),
            creator: None,
        };
        let info = CallInfo::Unmute(other).to_element();
        session.send_info(vec![info], now).unwrap();
    });
    assert_eq!(scene.call(ALICE, |call| call.mute().there), Some(true));
}
