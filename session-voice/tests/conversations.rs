//! Several calls at once: who is heard, who is on hold, and what joining them does.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use session_core::testing::{MemoryDatagram, World};
use session_core::{Config, Peer, Reason, ReasonCondition, SessionId};
use session_voice::{
    Call, CallConfig, CallError, CallPhase, CallVerdict, ConversationId, Focus, JingleForm, Media,
    PayloadType, RTP, RtpDescription, Sides, VoiceClient,
};
use std::time::Duration;

type Client = VoiceClient<JingleForm>;

const SECOND: Duration = Duration::from_secs(1);

/// Who talks with the two others.
const ALICE: usize = 0;

struct Phones {
    world: World,
    /// Alice's calls to Bob and to Carol.
    calls: [SessionId; 2],
}

fn phones() -> Phones {
    let mut world = World::new(5);
    for name in ["alice@a.example/a", "bob@b.example/b", "carol@c.example/c"] {
        let mut audio = RtpDescription::new(Media::Audio);
        audio.payload_types = vec![PayloadType::opus(111)];
        audio.rtcp_mux = true;
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryDatagram::new())?;
            let mut client = Client::new(CallConfig::new(audio));
            client.set_policy(|_| CallVerdict::Answer);
            manager.add_client(client)
        });
    }
    let calls = [1, 2].map(|host| dial(&mut world, host));
    world.run_for(2 * SECOND);
    Phones { world, calls }
}

fn dial(world: &mut World, host: usize) -> SessionId {
    let (alice, to) = (world.name(ALICE).clone(), world.name(host).clone());
    world.update(ALICE, |manager, now| {
        let id = manager.create_session(alice, RTP, now).unwrap();
        Client::dial(manager, id, to, now).unwrap();
        id
    })
}

impl Phones {
    /// Whom Alice hears and lets hear, and who believes to be on hold.
    fn heard(&mut self) -> [(bool, bool); 2] {
        self.world.run_for(SECOND);
        let calls = self.calls;
        [0, 1].map(|at| {
            let here = self.at_alice(calls[at], |call| (call.may_send(), call.hold().here));
            assert_ne!(here.0, here.1);
            let there = self.world.sessions(at + 1)[0];
            let held = self.world.update(at + 1, |manager, _| {
                let client = manager.find_client::<Client>().unwrap();
                client.call(there).map(Call::hold).unwrap()
            });
            (here.0, held.there)
        })
    }

    fn at_alice<R>(&mut self, call: SessionId, look: impl FnOnce(&Call) -> R) -> R {
        self.world.update(ALICE, |manager, _| {
            look(manager.find_client::<Client>().unwrap().call(call).unwrap())
        })
    }

    fn conversation(&mut self, at: usize) -> ConversationId {
        let call = self.calls[at];
        self.at_alice(call, Call::conversation)
    }

    fn focus(&mut self, focus: Focus) -> Result<(), CallError> {
        self.world
            .update(ALICE, |manager, now| Client::set_focus(manager, focus, now))
    }
}

const HEARD: (bool, bool) = (true, false);
const HELD: (bool, bool) = (false, true);

#[test]
fn who_has_the_focus_is_heard_and_the_others_know_that_they_wait() {
    let mut phones = phones();
    assert_eq!(
        phones.heard(),
        [HEARD, HEARD],
        "without a choice, everybody"
    );
    let [bob, carol] = [phones.conversation(0), phones.conversation(1)];
    assert_ne!(bob, carol);
    phones.focus(Focus::Conversation(bob)).unwrap();
    assert_eq!(phones.heard(), [HEARD, HELD]);
    // Whoever is put on hold by name stays so with the focus, and the other way round.
    let [to_bob, to_carol] = phones.calls;
    phones.world.update(ALICE, |manager, now| {
        Client::set_hold(manager, to_bob, true, now).unwrap();
        Client::set_hold(manager, to_carol, false, now).unwrap();
    });
    assert_eq!(phones.heard(), [HELD, HELD]);
    phones.focus(Focus::Conversation(carol)).unwrap();
    assert_eq!(phones.heard(), [HELD, HEARD]);
    phones.focus(Focus::Everybody).unwrap();
    assert_eq!(phones.heard(), [HELD, HEARD]);
    phones.world.update(ALICE, |manager, now| {
        Client::set_hold(manager, to_bob, false, now).unwrap();
    });
    assert_eq!(phones.heard(), [HEARD, HEARD]);
    phones.focus(Focus::Nobody).unwrap();
    assert_eq!(phones.heard(), [HELD, HELD]);
}

#[test]
fn a_call_that_is_answered_without_the_focus_waits() {
    let mut phones = phones();
    let bob = phones.conversation(0);
    phones.focus(Focus::Conversation(bob)).unwrap();
    let again = dial(&mut phones.world, 2);
    phones.world.run_for(2 * SECOND);
    let state = phones.at_alice(again, |call| (call.phase(), call.hold(), call.may_send()));
    let here = Sides {
        here: true,
        there: false,
    };
    assert_eq!(state, (CallPhase::Answered, here, false));
}

#[test]
fn joined_calls_share_the_focus_the_mute_and_the_end() {
    let mut phones = phones();
    let [bob, carol] = [phones.conversation(0), phones.conversation(1)];
    phones.focus(Focus::Conversation(bob)).unwrap();
    assert_eq!(phones.heard(), [HEARD, HELD]);
    let calls = phones.calls;
    phones.world.update(ALICE, |manager, now| {
        Client::join(manager, carol, bob, now).unwrap();
        let client = manager.find_client::<Client>().unwrap();
        assert_eq!(client.calls_of(carol).collect::<Vec<_>>(), calls);
        assert_eq!(client.focus(), Focus::Conversation(carol), "it goes along");
        assert_eq!(client.conversation(calls[0]), Some(carol));
        assert_eq!(
            Client::join(manager, bob, carol, now),
            Err(CallError::NoConversation)
        );
    });
    assert_eq!(phones.heard(), [HEARD, HEARD]);
    phones.world.update(ALICE, |manager, now| {
        Client::mute_all(manager, carol, true, now).unwrap();
    });
    for call in calls {
        let muted = phones.at_alice(call, |call| (call.mute().here, call.may_send()));
        assert_eq!(muted, (true, false));
    }
    let reason = Reason::new(ReasonCondition::Success);
    phones.world.update(ALICE, |manager, now| {
        Client::hang_up_all(manager, carol, &reason, now).unwrap();
    });
    phones.world.run_for(SECOND);
    for call in calls {
        assert_eq!(phones.at_alice(call, Call::phase), CallPhase::Ended);
    }
    phones.world.update(ALICE, |manager, now| {
        for call in calls {
            Client::release(manager, call, now).unwrap();
        }
        let gone = Client::hang_up_all(manager, carol, &reason, now);
        assert_eq!(gone, Err(CallError::NoConversation));
        let gone = Client::set_focus(manager, Focus::Conversation(carol), now);
        assert_eq!(gone, Err(CallError::NoConversation));
    });
    phones.world.run_for(100 * SECOND);
    phones.world.check_empty();
}

/// Bob ends his call: Carol stays where she was.
#[test]
fn the_focus_does_not_wander() {
    let mut phones = phones();
    let bob = phones.conversation(0);
    phones.focus(Focus::Conversation(bob)).unwrap();
    let peer = Peer::from("alice@a.example/a");
    let at_bob = phones.world.sessions(1)[0];
    phones.world.update(1, |manager, now| {
        assert_eq!(manager.peek(at_bob).unwrap().remote_name(), &peer);
        Client::hang_up(manager, at_bob, ReasonCondition::Success.into(), now).unwrap();
    });
    phones.world.run_for(SECOND);
    let [ended, held] = phones.calls;
    phones.world.update(ALICE, |manager, now| {
        Client::release(manager, ended, now).unwrap()
    });
    let state = phones.at_alice(held, |call| (call.phase(), call.hold().here));
    assert_eq!(state, (CallPhase::Answered, true));
}
