//! A peer that is gone without a word, while a file is on its way.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use filekit::{
    ALICE, App, BOB, Carrier, accept_all, data, offer, other, outcome, prefix, run, set_policy,
    world,
};
use session_core::{
    Condition, ErrorKind, ReasonCondition, StanzaError,
    testing::{Envelope, Parcel, World},
};
use session_file::{Acceptance, Decision, Fault, FileVerdict, Outcome, TransferId};
use std::time::Duration;

/// Before Alice asks, and some time for the question to travel.
const ASKED: Duration = Duration::from_secs(13);

/// The same while somebody decides about her offer.
const ASKED_WHILE_UNDECIDED: Duration = Duration::from_secs(63);

/// What a dead one's server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// Says that nobody is there.
    Answers,
    /// Has not noticed, or is gone, too.
    Silent,
}

/// Bob has some of a file, and reads no more of it.
fn standing() -> (World, [App; 2], TransferId) {
    let mut world = world(Carrier::Stream);
    accept_all(&mut world, BOB);
    let source = data("file", 20_000_000);
    let id = offer(&mut world, &[("file", source.len())]).remove(0);
    let mut apps = [App::new().with("file", source), App::new()];
    apps[BOB].reads = Some(300_000);
    steps(&mut world, &mut apps, Duration::from_secs(2));
    (world, apps, id)
}

fn steps(world: &mut World, apps: &mut [App; 2], time: Duration) {
    let end = world.time() + time;
    world.run_until(time, |world| {
        for (host, app) in apps.iter_mut().enumerate() {
            app.step(world, host);
        }
        world.time() >= end
    });
}

/// `dead` is gone; how long until the other knows.
fn bury(world: &mut World, dead: usize, id: &TransferId, server: Server) -> (Duration, Fault) {
    let (living, died) = (1 - dead, world.time());
    world.hold(true);
    world.run_until(Duration::from_secs(300), |world| {
        while let Some(envelope) = world.held().first() {
            let asked = match &envelope.parcel {
                Parcel::Message { id, .. } | Parcel::Request { id, .. } => Some(*id),
                Parcel::Reply { .. } => None,
            };
            let from = world.discard(0).from;
            if let (Some(id), Server::Answers, true) = (asked, server, from == living) {
                let reply = Err(StanzaError::new(
                    Condition::ServiceUnavailable,
                    ErrorKind::Cancel,
                ));
                world.forge(Envelope {
                    from: living,
                    to: living,
                    parcel: Parcel::Reply { id, reply },
                });
            }
        }
        outcome(world, living, id).is_some()
    });
    match outcome(world, living, id) {
        Some(Outcome::Failed(fault)) => (world.time() - died, fault),
        other => panic!("{other:?}"),
    }
}

fn assert_gone(fault: &Fault) {
    assert!(
        matches!(fault, Fault::Aborted(Some(reason)) if reason.condition == ReasonCondition::Gone),
        "{fault:?}"
    );
}

#[test]
fn one_that_is_there_may_take_its_time() {
    let (mut world, mut apps, id) = standing();
    steps(&mut world, &mut apps, Duration::from_secs(600));
    assert_eq!(outcome(&mut world, ALICE, &id), None);
    apps[BOB].reads = None;
    run(&mut world, &mut apps);
    assert_eq!(
        outcome(&mut world, ALICE, &id),
        Some(Outcome::Sent { confirmed: true })
    );
}

#[test]
fn a_sender_learns_of_it_from_the_server() {
    let (mut world, _, id) = standing();
    let (took, fault) = bury(&mut world, BOB, &id, Server::Answers);
    assert!(took <= ASKED, "{took:?}");
    assert_gone(&fault);
}

#[test]
fn a_sender_learns_of_it_from_silence() {
    let (mut world, _, id) = standing();
    let (took, fault) = bury(&mut world, BOB, &id, Server::Silent);
    assert!(took <= ASKED + Duration::from_secs(16), "{took:?}");
    assert_gone(&fault);
}

#[test]
fn a_receiver_learns_of_it_as_well() {
    for server in [Server::Answers, Server::Silent] {
        let (mut world, mut apps, id) = standing();
        let id = other(&mut world, BOB, &id);
        apps[BOB].reads = None;
        // Bob reads all there is, and Alice writes nothing more.
        for _ in 0..100 {
            world.settle();
            apps[BOB].step(&mut world, BOB);
        }
        let (took, fault) = bury(&mut world, ALICE, &id, server);
        assert!(took <= ASKED + Duration::from_secs(16), "{took:?}");
        assert_gone(&fault);
    }
}

#[test]
fn who_has_everything_and_waits_for_its_hash_learns_of_it_as_well() {
    for server in [Server::Answers, Server::Silent] {
        let mut world = world(Carrier::Stream);
        set_policy(&mut world, BOB, |offer| {
            let acceptance = Acceptance {
                offset: 500_000,
                prefix: Some(prefix(&data("file", 500_000))),
                ..Acceptance::default()
            };
            let decision = Decision::Accept(acceptance);
            FileVerdict::Decide(vec![(offer.files[0].content.clone(), decision)])
        });
        let id = offer(&mut world, &[("file", 500_000)]).remove(0);
        world.run_for(Duration::from_secs(2));
        let id = other(&mut world, BOB, &id);
        let (took, fault) = bury(&mut world, ALICE, &id, server);
        assert!(took <= ASKED + Duration::from_secs(16), "{took:?}");
        assert_gone(&fault);
    }
}

#[test]
fn one_that_does_not_know_the_question_is_there() {
    let (mut world, mut apps, id) = standing();
    world.hold(true);
    world.run_until(Duration::from_secs(120), |world| {
        while let Some(envelope) = world.held().first() {
            let Parcel::Message { id, .. } = &envelope.parcel else {
                world.deliver(0);
                continue;
            };
            let (id, asker) = (*id, envelope.from);
            world.discard(0);
            let reply = Err(StanzaError::new(
                Condition::FeatureNotImplemented,
                ErrorKind::Cancel,
            ));
            world.forge(Envelope {
                from: 1 - asker,
                to: asker,
                parcel: Parcel::Reply { id, reply },
            });
        }
        false
    });
    assert_eq!(outcome(&mut world, ALICE, &id), None);
    world.hold(false);
    apps[BOB].reads = None;
    run(&mut world, &mut apps);
}

#[test]
fn an_offer_that_nobody_is_there_to_answer_ends_as_well() {
    let mut world = world(Carrier::Stream);
    // Bob asks somebody.
    let id = offer(&mut world, &[("file", 10)]).remove(0);
    world.settle();
    let (took, fault) = bury(&mut world, BOB, &id, Server::Answers);
    // A person has a minute: Gajim's cannot accept any more after a question.
    assert!(took > ASKED && took <= ASKED_WHILE_UNDECIDED, "{took:?}");
    assert_gone(&fault);
}
