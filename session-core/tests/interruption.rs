//! The way for signalling is interrupted and comes back with nothing lost: nobody is silent meanwhile who cannot be heard.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

mod common;

use common::*;
use session_core::*;
use std::time::Duration;

fn ringing() -> Table {
    let mut t = Table::new(Setup::default());
    t.call();
    t.settle();
    t
}

fn running() -> Table {
    let mut t = ringing();
    accept(&mut t);
    t.settle();
    assert_eq!([t.state(Alice), t.state(Bob)], [State::InProgress; 2]);
    t
}

fn accept(t: &mut Table) {
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
}

fn interrupt(t: &mut Table, who: Who, interrupted: bool) {
    let (now, input) = (t.now, Input::Interrupted(interrupted));
    t.side(who).manager.handle_input(input, now);
    t.drain(who);
}

/// What somebody has said that was not carried.
fn said(t: &mut Table, who: Who) -> Vec<Action> {
    let out = t.side(who).out.iter();
    out.filter_map(|output| match output {
        Output::Message { message, .. } if message.action != Action::TransportInfo => {
            Some(message.action)
        }
        _ => None,
    })
    .collect()
}

#[test]
fn an_answer_that_waits_for_the_way_is_said_once_and_no_end_of_the_session() {
    for before in [true, false] {
        let mut t = ringing();
        if before {
            accept(&mut t);
            t.pass(Duration::from_secs(10));
        }
        interrupt(&mut t, Bob, true);
        if !before {
            accept(&mut t);
        }
        t.pass(Duration::from_secs(120));
        assert_eq!(said(&mut t, Bob), [Action::SessionAccept], "{before}");
        assert_eq!(t.bob.manager.session_count(), 1);
        interrupt(&mut t, Bob, false);
        t.settle();
        for who in [Alice, Bob] {
            assert_eq!(t.state(who), State::InProgress, "{before} {who:?}");
        }
    }
}

#[test]
fn the_clock_of_an_answer_begins_anew_when_it_can_come() {
    let mut t = running();
    interrupt(&mut t, Alice, true);
    t.act(Alice, |s, now| s.ping(now)).unwrap();
    t.pass(Duration::from_secs(300));
    assert!(!t.lines(Alice).iter().any(|line| line.starts_with("pong")));
    interrupt(&mut t, Alice, false);
    t.pass(Duration::from_secs(14));
    assert!(!t.saw(Alice, "pong Silent"));
    t.pass(Duration::from_secs(1));
    assert!(t.saw(Alice, "pong Silent"));
}

#[test]
fn a_last_word_is_not_said_again_while_nobody_can_confirm_it() {
    let mut t = running();
    interrupt(&mut t, Alice, true);
    t.act(Alice, |s, now| s.terminate(success(), now)).unwrap();
    assert_eq!(t.alice.manager.session_count(), 0);
    t.pass(Duration::from_secs(120));
    assert_eq!(said(&mut t, Alice), [Action::SessionTerminate]);
    interrupt(&mut t, Alice, false);
    t.pass(Duration::from_secs(15));
    assert_eq!(said(&mut t, Alice), [Action::SessionTerminate; 2]);
    t.settle();
    assert_eq!(t.bob.manager.session_count(), 0);
}

#[test]
fn whatever_is_said_of_the_link_ends_an_interruption() {
    let mut t = running();
    interrupt(&mut t, Alice, true);
    t.act(Alice, |s, now| s.ping(now)).unwrap();
    let link = |t: &mut Table, up| {
        let now = t.now;
        t.alice.manager.handle_input(Input::Link(up), now);
        t.pass(Duration::from_secs(20));
    };
    link(&mut t, false);
    interrupt(&mut t, Alice, false);
    t.pass(Duration::from_secs(20));
    assert!(!t.saw(Alice, "pong Silent"), "there is no link");
    link(&mut t, true);
    assert!(t.saw(Alice, "pong Silent"));
}
