//! Whether the peer still has the session: what a ping says on the wire, and what is heard of it.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use session_core::*;
use std::time::Duration;

fn running() -> Table {
    let mut t = Table::new(Setup::default());
    t.call();
    t.settle();
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.settle();
    assert_eq!(t.state(Alice), State::InProgress);
    t
}

fn ping(t: &mut Table) {
    t.act(Alice, |s, now| s.ping(now)).unwrap();
}

/// What Alice has heard of her questions.
fn pongs(t: &Table) -> Vec<String> {
    let lines = t.lines(Alice).into_iter();
    lines.filter(|line| line.starts_with("pong")).collect()
}

/// The question that Alice has sent, which Bob does not get.
fn asked(t: &mut Table) -> RequestId {
    let Some(Output::Message { id, message }) = t.alice.out.pop_front() else {
        panic!("nothing was asked")
    };
    assert_eq!(message.action, Action::SessionInfo);
    assert!(message.extra.is_empty());
    id
}

/// Bob's server answers in his stead.
fn refuse(t: &mut Table, id: RequestId, error: StanzaError) {
    let (now, reply) = (t.now, Err(error));
    t.alice
        .manager
        .handle_input(Input::Reply { id, reply }, now);
    t.drain(Alice);
}

#[test]
fn a_peer_that_is_there_says_so() {
    let mut t = running();
    ping(&mut t);
    t.settle();
    assert_eq!(pongs(&t), ["pong Here"]);
    // It is no word of an application.
    assert!(!t.lines(Bob).iter().any(|line| line.starts_with("info")));
}

#[test]
fn one_question_at_a_time() {
    let mut t = running();
    for _ in 0..5 {
        ping(&mut t);
    }
    assert_eq!(t.alice.out.len(), 1);
    t.settle();
    assert_eq!(pongs(&t), ["pong Here"]);
    ping(&mut t);
    t.settle();
    assert_eq!(pongs(&t).len(), 2);

    // Nor do they pile up while there is no way out.
    let now = t.now;
    let link = |up| Input::Link(up);
    t.alice.manager.handle_input(link(false), now);
    for _ in 0..1_000 {
        ping(&mut t);
        t.pass(Duration::from_secs(1));
    }
    assert!(t.alice.out.is_empty());
    assert_eq!(pongs(&t).len(), 2, "nobody is silent who is not asked");
    let now = t.now;
    t.alice.manager.handle_input(link(true), now);
    t.settle();
    assert_eq!(pongs(&t).len(), 3);
    assert_eq!(t.state(Alice), State::InProgress);
}

#[test]
fn a_server_says_that_nobody_is_there_and_a_client_that_it_does_not_understand() {
    let mut t = running();
    for (condition, heard) in [
        (
            Condition::ServiceUnavailable,
            "pong gone service-unavailable",
        ),
        (
            Condition::RecipientUnavailable,
            "pong gone recipient-unavailable",
        ),
        (Condition::ItemNotFound, "pong gone item-not-found"),
        (Condition::FeatureNotImplemented, "pong Here"),
        (Condition::BadRequest, "pong Here"),
    ] {
        ping(&mut t);
        let id = asked(&mut t);
        refuse(&mut t, id, StanzaError::new(condition, ErrorKind::Cancel));
        assert_eq!(pongs(&t).last().unwrap(), heard);
    }
    assert_eq!(
        t.state(Alice),
        State::InProgress,
        "that is the client's to end"
    );
    assert!(!t.lines(Alice).iter().any(|line| line.starts_with("error")));

    ping(&mut t);
    let id = asked(&mut t);
    let mut error = StanzaError::new(Condition::ItemNotFound, ErrorKind::Cancel);
    error.jingle = Some(JingleCondition::UnknownSession);
    refuse(&mut t, id, error);
    assert_eq!(t.alice.manager.session_count(), 0);
    assert_eq!(pongs(&t).len(), 5);
}

#[test]
fn silence_is_heard_of_too() {
    let mut t = running();
    ping(&mut t);
    asked(&mut t);
    t.pass(Duration::from_secs(14));
    assert!(pongs(&t).is_empty());
    t.pass(Duration::from_secs(1));
    assert_eq!(pongs(&t), ["pong Silent"]);
    assert_eq!(t.state(Alice), State::InProgress);
    assert!(t.alice.out.is_empty(), "it is not asked again by itself");
}

#[test]
fn who_was_not_asked_for_a_session_is_not_pinged() {
    let mut t = Table::new(Setup::default());
    let (name, now) = (t.alice.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.alice.manager.session(id).unwrap();
    assert!(matches!(session.ping(now), Err(Misuse::NotNow { .. })));
}
