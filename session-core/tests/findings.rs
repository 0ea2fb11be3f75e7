//! What the model test has found, each as the smallest story that shows it.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use session_core::{
    Config, ContentSpec, Element, Input, LocalSocket, Output, ReasonCondition, Senders, Session,
    SessionId, State, StreamEvent,
    testing::{
        Conditions, Deed, Envelope, MemoryDatagram, MemoryStream, Mishap, Note, Parcel,
        RECORDER_NAMESPACE, Recorder, World,
    },
};
use std::time::Duration;

const ONE: &str = "urn:example:one";
const TWO: &str = "urn:example:two";
const SECOND: Duration = Duration::from_secs(1);

fn world(mishaps: [[Mishap; 2]; 2]) -> World {
    let mut world = World::new(1);
    for (name, mishaps) in ["alice@a.example/1", "bob@b.example/2"]
        .into_iter()
        .zip(mishaps)
    {
        world.add_host(name, Config::default(), |manager| {
            for (namespace, mishap) in [ONE, TWO].into_iter().zip(mishaps) {
                let transport = MemoryDatagram::new().with_namespace(namespace);
                manager.add_transport(transport.with_mishap(mishap))?;
            }
            manager.add_client(Recorder::new().with_channel("data"))
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world
}

const FINE: [[Mishap; 2]; 2] = [[Mishap::None; 2]; 2];

/// Alice has called Bob, and nothing was lost.
fn ringing(mishaps: [[Mishap; 2]; 2]) -> (World, SessionId, SessionId) {
    let mut world = world(mishaps);
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(SECOND);
    let other = world.sessions(1)[0];
    (world, id, other)
}

fn running(mishaps: [[Mishap; 2]; 2]) -> (World, SessionId, SessionId) {
    let (mut world, id, other) = ringing(mishaps);
    assert!(world.act(1, other, &Deed::Accept));
    world.run_for(SECOND);
    assert_eq!(world.state(0, id), Some(State::InProgress));
    (world, id, other)
}

fn senders(world: &World, host: usize, id: SessionId) -> Senders {
    let session = world.manager(host).peek(id).unwrap();
    session.contents().next().unwrap().senders()
}

fn set_senders(world: &mut World, host: usize, id: SessionId, senders: Senders) {
    let done = world.with_session(host, id, |session, now| {
        session.set_senders("main", senders, now)
    });
    assert_eq!(done, Some(Ok(())));
}

fn agree_on(world: &World, ids: [SessionId; 2], expected: Senders) {
    let found = [0, 1].map(|host| senders(world, host, ids[host]));
    assert_eq!(found, [expected; 2]);
    world.check();
}

/// Loses everything that waits and is for this host, and says how many messages (not answers) that were.
fn lose(world: &mut World, to: usize) -> usize {
    let is_message = |e: &Envelope| matches!(e.parcel, Parcel::Message { .. });
    let mut messages = 0;
    while let Some(at) = world.held().iter().position(|envelope| envelope.to == to) {
        messages += usize::from(is_message(&world.discard(at)));
    }
    messages
}

#[test]
fn a_session_that_is_let_go_before_its_offer_left_is_never_heard_of() {
    let mut world = world(FINE);
    world.set_link(0, false);
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.act(0, id, &Deed::Destroy);
    world.set_link(0, true);
    world.run_for(100 * SECOND);
    assert_eq!(world.log(1).entries(), []);
    world.check_empty();
}

#[test]
fn a_change_of_senders_that_crosses_the_accept_holds_on_both_sides() {
    let (mut world, id, other) = ringing(FINE);
    world.act(1, other, &Deed::Accept);
    set_senders(&mut world, 0, id, Senders::Initiator);
    world.run_for(SECOND);
    agree_on(&world, [id, other], Senders::Initiator);
}

#[test]
fn a_change_of_senders_that_was_answered_outlives_an_accept_that_comes_again() {
    let (mut world, id, other) = ringing(FINE);
    world.hold(true);
    world.act(1, other, &Deed::Accept);
    assert_eq!(lose(&mut world, 0), 1, "the accept is lost");
    set_senders(&mut world, 0, id, Senders::Initiator);
    world.deliver_all();
    world.hold(false);
    world.run_for(20 * SECOND);
    agree_on(&world, [id, other], Senders::Initiator);
}

#[test]
fn what_is_sent_again_keeps_its_order() {
    let (mut world, id, other) = ringing(FINE);
    world.hold(true);
    world.act(1, other, &Deed::Accept);
    set_senders(&mut world, 1, other, Senders::Responder);
    assert_eq!(lose(&mut world, 0), 2);
    world.hold(false);
    world.run_for(20 * SECOND);
    let expected = [
        State::SentInitiate,
        State::ReceivedAccept,
        State::InProgress,
    ];
    assert_eq!(world.log(0).states(id)[..3], expected);
    agree_on(&world, [id, other], Senders::Responder);
}

#[test]
fn two_changes_of_senders_do_not_overtake_each_other() {
    let (mut world, id, other) = running(FINE);
    set_senders(&mut world, 0, id, Senders::None);
    world.hold(true);
    world.run_for(SECOND);
    lose(&mut world, 0);
    set_senders(&mut world, 0, id, Senders::Both);
    world.deliver_all();
    world.hold(false);
    world.run_for(60 * SECOND);
    agree_on(&world, [id, other], Senders::Both);
}

#[test]
fn of_two_changes_that_cross_the_initiators_holds_even_if_the_other_was_lost_at_first() {
    let (mut world, id, other) = running(FINE);
    world.hold(true);
    set_senders(&mut world, 1, other, Senders::Responder);
    assert_eq!(lose(&mut world, 0), 1);
    set_senders(&mut world, 0, id, Senders::Initiator);
    world.hold(false);
    world.deliver_all();
    world.run_for(60 * SECOND);
    agree_on(&world, [id, other], Senders::Initiator);
}

#[test]
fn an_offer_with_the_next_transport_forgets_what_was_proposed_for_the_one_before() {
    let mut world = world([[Mishap::None; 2], [Mishap::RefusesOffers, Mishap::None]]);
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    let done = world.with_session(0, id, |session, now| {
        session.replace_transport("main", ONE, now)
    });
    assert_eq!(done, Some(Ok(())));
    world.run_for(SECOND);
    let other = world.sessions(1)[0];
    world.act(1, other, &Deed::Accept);
    world.run_for(SECOND);
    for (host, id) in [(0, id), (1, other)] {
        let session = world.manager(host).peek(id).unwrap();
        assert_eq!(
            (session.state(), session.transport()),
            (State::InProgress, Some(TWO))
        );
    }
    world.check();
}

#[test]
fn an_answer_to_a_replacement_that_cannot_be_used_ends_the_replacement() {
    let (mut world, id, other) =
        running([[Mishap::None, Mishap::RefusesAnswers], [Mishap::None; 2]]);
    let done = world.with_session(0, id, |session, now| {
        session.replace_transport("main", TWO, now)
    });
    assert_eq!(done, Some(Ok(())));
    world.run_for(300 * SECOND);
    // The peer has moved, so that the old path is gone: in the end there is one view, here that it is over.
    assert_eq!([world.state(0, id), world.state(1, other)], [None, None]);
    world.check_empty();
}

#[test]
fn a_replacement_whose_answer_was_lost_is_answered_again() {
    let (mut world, id, other) = running(FINE);
    world.hold(true);
    world.with_session(0, id, |session, now| {
        session.replace_transport("main", TWO, now)
    });
    for _ in 0..5 {
        // Only the peer's own messages are lost, not its acknowledgements.
        let answers = |e: &Envelope| e.to == 0 && matches!(e.parcel, Parcel::Message { .. });
        while let Some(at) = world.held().iter().position(|e| !answers(e)) {
            world.deliver(at);
        }
        lose(&mut world, 0);
        world.run_for(10 * SECOND);
    }
    world.hold(false);
    world.deliver_all();
    world.run_for(100 * SECOND);
    let transport = |host: usize, id| world.manager(host).peek(id).and_then(Session::transport);
    assert_eq!([transport(0, id), transport(1, other)], [Some(TWO); 2]);
    assert_eq!(world.state(0, id), Some(State::InProgress));
    world.check();
}

fn propose(world: &mut World, host: usize, id: SessionId) {
    let done = world.with_session(host, id, |session, now| {
        let description = Element::new(RECORDER_NAMESPACE, "description");
        session.add_content(ContentSpec::new("second", description), now)
    });
    assert_eq!(done, Some(Ok(())));
}

fn contents(world: &World, host: usize, id: SessionId) -> usize {
    world.manager(host).peek(id).unwrap().contents().count()
}

#[test]
fn a_proposal_that_was_withdrawn_is_not_made_again() {
    let (mut world, id, other) = running(FINE);
    world.hold(true);
    propose(&mut world, 0, id);
    // It arrives, the acknowledgement does not.
    world.deliver(0);
    lose(&mut world, 0);
    world.hold(false);
    world.with_session(0, id, |session, now| {
        session.remove_content("second", ReasonCondition::Success.into(), now)
    });
    world.run_for(100 * SECOND);
    assert_eq!(
        [contents(&world, 0, id), contents(&world, 1, other)],
        [1, 1]
    );
    world.check();
}

#[test]
fn an_acceptance_that_comes_too_late_is_taken_back() {
    let (mut world, id, other) = running(FINE);
    propose(&mut world, 0, id);
    world.run_for(SECOND);
    world.hold(true);
    world.with_session(0, id, |session, now| {
        session.remove_content("second", ReasonCondition::Success.into(), now)
    });
    assert_eq!(lose(&mut world, 1), 1, "the removal is lost");
    assert!(world.act(1, other, &Deed::AcceptContent(1)));
    world.deliver_all();
    assert_eq!(
        [contents(&world, 0, id), contents(&world, 1, other)],
        [1, 1]
    );
    world.check();
}

#[test]
fn a_proposal_whose_answer_cannot_be_used_is_dropped_on_both_sides() {
    let mut world = world([[Mishap::None; 2], [Mishap::None; 2]]);
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(SECOND);
    let other = world.sessions(1)[0];
    world.act(1, other, &Deed::Accept);
    world.run_for(SECOND);
    world.hold(true);
    propose(&mut world, 0, id);
    world.deliver_all();
    world.act(1, other, &Deed::AcceptContent(1));
    let accept = world.discard(0);
    let Parcel::Message {
        id: number,
        mut message,
    } = accept.parcel
    else {
        panic!("{:?}", accept.parcel);
    };
    message.contents[0].transports = vec![Element::new("urn:example:never-offered", "transport")];
    let parcel = Parcel::Message {
        id: number,
        message,
    };
    world.forge(Envelope { parcel, ..accept });
    world.deliver_all();
    assert_eq!(
        [contents(&world, 0, id), contents(&world, 1, other)],
        [1, 1]
    );
    world.check();
}

#[test]
fn a_session_without_contents_ends() {
    let (mut world, id, other) = ringing(FINE);
    propose(&mut world, 0, id);
    world.run_for(SECOND);
    let removed = world.with_session(0, id, |session, now| {
        session.remove_content("main", ReasonCondition::Success.into(), now)
    });
    assert_eq!(removed, Some(Ok(())));
    world.run_for(SECOND);
    assert!(world.act(1, other, &Deed::RejectContent(1)));
    world.run_for(SECOND);
    assert_eq!([world.state(0, id), world.state(1, other)], [None, None]);
    world.check();
}

/// The time to find a path runs out a moment after another transport was proposed, the last there is: its answer decides.
#[test]
fn a_transport_that_fails_while_the_last_is_proposed_waits_for_the_answer() {
    // One that never had a path, and one that had one before the answer.
    for (answers, had_path) in [(true, false), (false, false), (true, true), (false, true)] {
        let mut world = world(FINE);
        cut(&mut world, !had_path);
        let note = Note("call".into());
        let id = world.call(0, 1, RECORDER_NAMESPACE, &note).unwrap();
        world.run_for(SECOND);
        let other = world.sessions(1)[0];
        cut(&mut world, true);
        assert!(world.act(1, other, &Deed::Accept));
        world.run_for(49 * SECOND);
        world.hold(true);
        let done = world.with_session(0, id, |session, now| {
            session.replace_transport("main", TWO, now)
        });
        assert_eq!(done, Some(Ok(())));
        world.run_for(5 * SECOND);
        assert_eq!(world.state(0, id), Some(State::SentModify));
        cut(&mut world, false);
        if answers {
            world.hold(false);
            world.deliver_all();
            world.run_for(20 * SECOND);
            for (host, id) in [(0, id), (1, other)] {
                let session = world.manager(host).peek(id).unwrap();
                assert_eq!(
                    (session.state(), session.transport()),
                    (State::InProgress, Some(TWO))
                );
            }
        } else {
            // It is acknowledged, and nothing more comes.
            for _ in 0..30 {
                let words = |e: &Envelope| e.to == 0 && matches!(e.parcel, Parcel::Message { .. });
                while let Some(at) = world.held().iter().position(|e| !words(e)) {
                    world.deliver(at);
                }
                lose(&mut world, 0);
                world.run_for(5 * SECOND);
            }
            assert_eq!(world.state(0, id), None);
        }
        world.check();
    }
}

fn cut(world: &mut World, is_cut: bool) {
    let now = world.now();
    world.network().set_cut(0, 1, is_cut, now);
    world.network().set_cut(1, 0, is_cut, now);
}

/// A responder's transport fails while its own proposal is open: when nothing comes of that, the initiator has another.
#[test]
fn a_responder_whose_proposal_is_not_answered_asks_for_what_the_initiator_has() {
    let fails = Mishap::FailsAfter(20 * SECOND);
    let (mut world, id, other) = running([[Mishap::None; 2], [fails, Mishap::None]]);
    world.hold(true);
    let done = world.with_session(1, other, |session, now| {
        session.replace_transport("main", TWO, now)
    });
    assert_eq!(done, Some(Ok(())));
    // For so long a proposal is repeated.
    for _ in 0..44 {
        lose(&mut world, 0);
        world.run_for(SECOND);
    }
    world.hold(false);
    world.run_for(20 * SECOND);
    for (host, id) in [(0, id), (1, other)] {
        let session = world.manager(host).peek(id);
        assert_eq!(session.and_then(Session::transport), Some(TWO));
    }
    world.check();
}

#[test]
fn a_lost_path_does_not_spin_while_another_transport_is_proposed() {
    let (mut world, id, _) = running(FINE);
    world.set_link(0, false);
    world.with_session(0, id, |session, now| {
        session.replace_transport("main", TWO, now)
    });
    let now = world.now();
    world.network().set_cut(0, 1, true, now);
    world.network().set_cut(1, 0, true, now);
    world.run_for(300 * SECOND);
    world.check();
}

#[test]
fn a_connection_that_is_accepted_too_late_is_closed() {
    let mut world = World::new(1);
    world.add_host("alice@a.example/1", Config::default(), |manager| {
        manager.add_transport(MemoryStream::new())?;
        manager.add_client(Recorder::new().with_channel("data"))
    });
    let id = world.update(0, |manager, now| {
        let id = manager.create_session("alice@a.example/1".into(), RECORDER_NAMESPACE, now);
        let session = manager.session(id.clone().unwrap()).unwrap();
        let offered = session.initiate("bob@b.example/2".into(), Vec::new(), &Note::default(), now);
        assert_eq!(offered, Ok(()));
        id.unwrap()
    });
    let listener = world.network().sockets().next().unwrap().socket;
    world.act(0, id, &Deed::Destroy);
    let connection = LocalSocket(LocalSocket::FIRST_ACCEPTED);
    let output = world.update(0, |manager, now| {
        let remote = "10.0.0.2:40000".parse().unwrap();
        let event = StreamEvent::Accepted { connection, remote };
        manager.handle_input(
            Input::Stream {
                socket: listener,
                event,
            },
            now,
        );
        manager.poll_output(now)
    });
    let socket = listener.sibling(connection);
    assert_eq!(output, Output::Close { socket });
}

#[test]
fn information_that_overtakes_the_offer_does_not_end_it() {
    let mut world = world(FINE);
    world.hold(true);
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.with_session(0, id, |session, now| session.send_info(Vec::new(), now));
    world.deliver(1);
    world.deliver_all();
    assert_eq!(world.state(0, id), Some(State::SentInitiate));
    assert_eq!(world.sessions(1).len(), 1);
    world.check();
}

/// Hands over the first that waits for this host, and says whether there was one.
fn hand_over(world: &mut World, which: impl Fn(&Envelope) -> bool) -> bool {
    let at = world.held().iter().position(which);
    at.is_some_and(|at| {
        world.deliver(at);
        true
    })
}

#[test]
fn a_change_of_senders_that_is_said_again_does_not_undo_a_newer_one() {
    let (mut world, id, other) = running(FINE);
    world.hold(true);
    set_senders(&mut world, 0, id, Senders::None);
    assert!(hand_over(&mut world, |e| e.to == 1));
    set_senders(&mut world, 1, other, Senders::Both);
    world.run_for(16 * SECOND);
    assert!(hand_over(&mut world, |e| e.to == 1), "it was said again");
    assert_eq!(senders(&world, 1, other), Senders::Both);
    world.hold(false);
    world.deliver_all();
    world.run_for(20 * SECOND);
    agree_on(&world, [id, other], Senders::Both);
}

#[test]
fn a_change_of_senders_that_is_said_again_is_no_tie() {
    let (mut world, id, other) = running(FINE);
    world.hold(true);
    set_senders(&mut world, 1, other, Senders::None);
    assert!(hand_over(&mut world, |e| e.to == 0));
    lose(&mut world, 1);
    set_senders(&mut world, 0, id, Senders::Initiator);
    let is_message = |e: &Envelope| matches!(e.parcel, Parcel::Message { .. });
    // What the initiator asks is lost until it is given up; its answers arrive.
    for _ in 0..60 {
        while hand_over(&mut world, |e| e.to == 0 || !is_message(e)) {}
        lose(&mut world, 1);
        world.run_for(SECOND);
    }
    agree_on(&world, [id, other], Senders::None);
}
