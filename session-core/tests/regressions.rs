//! One test for each defect of the original (libjingle.md §8.1): S1 to S22. What it did must not happen again.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use session_core::*;
use std::time::Duration;

fn gtalk() -> Setup {
    Setup {
        dialect: Dialect::GTALK,
        ..Setup::default()
    }
}

fn take(t: &mut Table, from: Who, action: Action) -> Output {
    let out = &mut t.side(from).out;
    let at = out
        .iter()
        .position(|o| matches!(o, Output::Message { message, .. } if message.action == action));
    out.remove(at.unwrap_or_else(|| panic!("{from:?} has no {action}")))
        .unwrap()
}

/// Both InProgress.
fn running(setup: Setup) -> Table {
    let mut t = Table::new(setup);
    t.call();
    t.settle();
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.settle();
    assert_eq!(
        (t.state(Alice), t.state(Bob)),
        (State::InProgress, State::InProgress)
    );
    t
}

#[test]
fn s1_an_accept_before_the_transport_accept_waits_for_it() {
    let mut t = Table::new(gtalk());
    t.call();
    t.settle_alice_offer();
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    let late = take(&mut t, Bob, Action::TransportAccept);
    t.settle();
    assert_eq!(
        t.state(Alice),
        State::ReceivedAccept,
        "no transport, so not yet in progress"
    );
    t.deliver(Bob, late);
    t.settle();
    assert_eq!(t.state(Alice), State::InProgress);
    assert_eq!(t.only(Alice).transport(), Some(ONE));
}

#[test]
fn s2_no_acceptable_transport_is_one_answer_and_no_session_is_left() {
    let picky = || {
        vec![Fake {
            picky: true,
            ..fake(ONE)
        }]
    };
    let mut t = Table::new(Setup {
        bob: picky(),
        ..gtalk()
    });
    t.call();
    t.carry(Alice);
    let answers: Vec<_> = t.bob.out.iter().collect();
    assert!(
        matches!(
            answers[..],
            [Output::Reply {
                reply: Err(StanzaError {
                    condition: Condition::NotAcceptable,
                    ..
                }),
                ..
            }]
        ),
        "{answers:?}"
    );
    assert_eq!(t.bob.manager.session_count(), 0);

    let mut t = Table::new(Setup {
        bob: picky(),
        ..Setup::default()
    });
    t.call();
    t.settle();
    assert_eq!(t.said[..2], ["Alice session-initiate", "Bob result"]);
    assert!(t.said.contains(&"Bob session-terminate".to_owned()));
    assert!(t.saw(Alice, "reason Some(\"unsupported-transports\")"));
    assert_eq!(
        (
            t.alice.manager.session_count(),
            t.bob.manager.session_count()
        ),
        (0, 0)
    );
}

#[test]
fn s3_an_offer_without_transports_to_one_without_p2p_is_refused() {
    let mut t = Table::new(gtalk());
    t.call();
    let Output::Message { id, mut message } = take(&mut t, Alice, Action::SessionInitiate) else {
        panic!()
    };
    message.contents[0].transports.clear();
    assert!(
        t.deliver(Alice, Output::Message { id, message })
            .starts_with("session-initiate")
    );
    assert!(matches!(
        t.bob.out.front(),
        Some(Output::Reply {
            reply: Err(StanzaError {
                condition: Condition::NotAcceptable,
                ..
            }),
            ..
        })
    ));
}

#[test]
fn s4_a_redirect_to_a_stranger_is_not_followed_and_a_good_one_repeats_everything() {
    let mut t = Table::new(gtalk());
    let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    let extra = Element::new("https://example.org/x", "extra");
    let session = t.alice.manager.session(id).unwrap();
    session
        .initiate_with(to, vec![extra.clone()], description("offer"), now)
        .unwrap();
    t.drain(Alice);
    let mut message = t.message(Bob, Action::Redirect);
    let cookie = Element::new("https://example.org/x", "cookie");
    message.redirect = Some(Redirect {
        target: "bob@example.org/phone".into(),
        cookie: Some(cookie.clone()),
    });
    t.alice.out.clear();
    assert_eq!(
        t.inject(Alice, message),
        "result",
        "the redirector is answered, not the target"
    );
    let Output::Message { message, .. } = take(&mut t, Alice, Action::SessionInitiate) else {
        panic!()
    };
    assert_eq!(message.extra, [extra, cookie]);
    assert_eq!(message.contents[0].transports.len(), 1);
    assert_eq!(message.to.as_str(), "bob@example.org/phone");

    let mut message = t.message(Bob, Action::Redirect);
    message.from = "bob@example.org/phone".into();
    message.redirect = Some(Redirect {
        target: "mallory@example.org/x".into(),
        cookie: None,
    });
    t.inject(Alice, message);
    assert!(t.saw(Alice, "SentTerminate"));
    assert!(
        t.lines(Alice)
            .iter()
            .any(|l| l.starts_with("error Response fatal=true"))
    );
}

#[test]
fn s5_a_second_redirect_carries_the_candidates_as_well() {
    let mut t = Table::new(gtalk());
    t.call();
    for device in ["phone", "tablet"] {
        let from = t.only(Alice).remote_name().clone();
        let mut message = t.message(Bob, Action::Redirect);
        message.from = from;
        message.redirect = Some(Redirect {
            target: format!("bob@example.org/{device}").into(),
            cookie: None,
        });
        t.alice.out.clear();
        assert_eq!(t.inject(Alice, message), "result");
        let Output::Message { message, .. } = take(&mut t, Alice, Action::TransportInfo) else {
            panic!()
        };
        assert_eq!(
            message.contents[0].transports[0].children().count(),
            2,
            "to the {device}"
        );
    }
}

#[test]
fn s6_terminating_before_the_offer_says_nothing_to_nobody() {
    let mut t = Table::new(Setup::default());
    let (name, now) = (t.alice.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    t.alice
        .manager
        .session(id)
        .unwrap()
        .terminate(success(), now)
        .unwrap();
    t.drain(Alice);
    assert!(t.alice.out.is_empty());
    assert_eq!(t.lines(Alice)[1..], ["SentTerminate", "Deinit", "destroy"]);
}

#[test]
fn s7_terminate_all_ends() {
    let mut t = running(Setup::default());
    for _ in 0..5 {
        let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
        let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
        t.alice
            .manager
            .session(id)
            .unwrap()
            .initiate_with(to, vec![], description("x"), now)
            .unwrap();
    }
    let now = t.now;
    t.alice.manager.terminate_all(success(), now);
    t.settle();
    assert_eq!(
        (
            t.alice.manager.session_count(),
            t.bob.manager.session_count()
        ),
        (0, 0)
    );
}

#[test]
fn s8_doubled_and_unknown_names_are_errors_of_the_caller() {
    let mut t = Table::new(Setup::default());
    let now = t.now;
    let client = |channels| Client {
        channels,
        log: Log::default(),
        on_received: None,
        on_packet: None,
        destroyed: 0,
    };
    assert_eq!(
        t.alice.manager.add_client(client(vec![])),
        Err(Misuse::DuplicateClient(TYPE.into()))
    );
    assert!(
        t.alice
            .manager
            .remove_client("https://example.org/other", now)
            .is_err()
    );
    let id = t.call();
    let session = t.alice.manager.session(id).unwrap();
    assert_eq!(
        session.create_channel("a", now),
        Err(Misuse::DuplicateChannel("a".into()))
    );
    assert_eq!(
        t.alice.manager.add_transport(fake(ONE)),
        Err(Misuse::DuplicateTransport(ONE.into()))
    );
}

#[test]
fn s9_potential_transports_replace_refuse_the_unknown_and_are_fixed_by_the_offer() {
    let mut t = Table::new(Setup {
        alice: vec![fake(ONE), fake(TWO)],
        ..gtalk()
    });
    let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.alice.manager.session(id).unwrap();
    session.set_potential_transports(&[ONE, TWO]).unwrap();
    session.set_potential_transports(&[TWO]).unwrap();
    assert_eq!(
        session.set_potential_transports(&["nope"]),
        Err(Misuse::UnknownTransport("nope".into()))
    );
    assert_eq!(session.potential_transports(), [TWO.into()]);
    session
        .initiate_with(to, vec![], description("x"), now)
        .unwrap();
    assert_eq!(
        session.set_potential_transports(&[ONE]),
        Err(Misuse::TooLate(State::SentInitiate))
    );
    t.drain(Alice);
    let Output::Message { message, .. } = take(&mut t, Alice, Action::SessionInitiate) else {
        panic!()
    };
    let offered: Vec<_> = message.contents[0]
        .transports
        .iter()
        .map(|e| e.namespace().to_owned())
        .collect();
    assert_eq!(offered, [TWO]);
}

#[test]
fn s10_every_registered_transport_can_be_used() {
    for namespace in [ONE, TWO] {
        let setup = Setup {
            alice: vec![fake(ONE), fake(TWO)],
            bob: vec![fake(namespace)],
            ..gtalk()
        };
        let mut t = running(setup);
        assert_eq!(t.only(Alice).transport(), Some(namespace));
    }
}

#[test]
fn s11_messages_in_the_wrong_state_are_refused_and_change_nothing() {
    let actions = Action::JINGLE
        .into_iter()
        .chain([Action::Reject, Action::Redirect]);
    for action in actions {
        for who in [Alice, Bob] {
            for progress in 0..3 {
                let mut t = Table::new(Setup::default());
                t.call();
                if progress > 0 {
                    t.settle();
                }
                if progress > 1 {
                    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
                        .unwrap();
                    t.settle();
                }
                if who == Bob && progress == 0 {
                    continue;
                }
                let before = t.state(who);
                let message = t.message(who.other(), action);
                // Exactly one reply, whatever it is; `inject` counts.
                let reply = t.inject(who, message);
                if reply.starts_with("error") {
                    assert_eq!(
                        t.state(who),
                        before,
                        "{action} to {who:?} in {before}: {reply}"
                    );
                }
            }
        }
    }
}

#[test]
fn s12_modifying_is_real_and_both_answers_are_possible() {
    let mut t = running(Setup::default());
    for accept in [true, false] {
        let spec = ContentSpec::new("more", description("more"));
        t.act(Alice, |s, now| s.add_content(spec, now)).unwrap();
        assert_eq!(t.state(Alice), State::SentModify);
        // The harness's client leaves proposals open.
        t.settle();
        assert_eq!(t.state(Bob), State::ReceivedModify);
        t.act(Bob, |s, now| match accept {
            true => s.accept_content("more", description("fine"), now),
            false => s.reject_content("more", decline(), now),
        })
        .unwrap();
        t.settle();
        assert_eq!(
            (t.state(Alice), t.state(Bob)),
            (State::InProgress, State::InProgress)
        );
        for who in [Alice, Bob] {
            assert_eq!(t.only(who).content("more").is_some(), accept);
        }
        if accept {
            t.act(Bob, |s, now| s.remove_content("more", decline(), now))
                .unwrap();
            t.settle();
            assert!(t.only(Alice).content("more").is_none());
            assert_eq!(
                (t.state(Alice), t.state(Bob)),
                (State::InProgress, State::InProgress)
            );
        }
    }
    let mut t = running(gtalk());
    let refused = t.act(Alice, |s, now| s.modify("main", description("x"), now));
    assert!(matches!(
        refused,
        Err(Misuse::DialectCannot {
            dialect: "gtalk",
            ..
        })
    ));
}

#[test]
fn s13_a_resource_that_cannot_be_had_is_a_network_error() {
    let broken = vec![Fake {
        broken: true,
        ..fake(ONE)
    }];
    let mut t = Table::new(Setup {
        alice: broken,
        ..Setup::default()
    });
    t.call();
    t.settle();
    assert!(
        t.lines(Alice)
            .iter()
            .any(|l| l.starts_with("error Network fatal=true")),
        "{:?}",
        t.lines(Alice)
    );
    assert_eq!(
        (
            t.alice.manager.session_count(),
            t.bob.manager.session_count()
        ),
        (0, 0)
    );
}

#[test]
fn s14_an_error_that_the_session_survives_says_so() {
    let mut t = running(Setup::default());
    let info = Element::new("https://example.org/x", "unknown");
    t.act(Alice, |s, now| s.send_info(vec![info], now)).unwrap();
    t.settle();
    assert!(
        t.lines(Alice)
            .iter()
            .any(|l| l.starts_with("error Response fatal=false"))
    );
    assert_eq!(t.state(Alice), State::InProgress);
}

#[test]
fn s15_a_missing_description_is_named() {
    let mut t = Table::new(Setup::default());
    t.call();
    let Output::Message { mut message, .. } = take(&mut t, Alice, Action::SessionInitiate) else {
        panic!()
    };
    message.contents[0].description = None;
    let reply = t.inject(Bob, message);
    assert_eq!(reply, "error bad-request (description: missing)");
    assert_eq!(t.bob.manager.session_count(), 0);
}

#[test]
fn s16_s17_one_bad_candidate_and_none_of_the_message_is_applied() {
    let mut t = Table::new(gtalk());
    t.call();
    t.carry(Alice);
    let candidate = |name: &str, address: &str| {
        Element::new(ONE, "candidate")
            .with("name", name)
            .with("address", address)
    };
    for bad in ["10.0.0.1:port", "10.0.0.1:99999", "nowhere", ""] {
        let transport = Element::new(ONE, "transport")
            .child(candidate("a", "10.0.0.1:7"))
            .child(candidate("b", bad));
        let mut message = t.message(Alice, Action::TransportInfo);
        message.contents.push(ContentPart {
            transports: vec![transport],
            ..ContentPart::named("")
        });
        assert_eq!(
            t.inject(Bob, message),
            "error bad-request (address: not an address)"
        );
        assert!(!t.saw(Bob, "writable a true"));
    }
}

#[test]
fn s18_the_reason_of_a_terminate_is_announced_once_even_when_there_is_none() {
    for reason in [None, Some(success())] {
        let mut t = running(Setup::default());
        let id = t.bob.manager.session_ids()[0];
        let mut slot = t
            .bob
            .manager
            .session(id)
            .unwrap()
            .signal_received_terminate_reason()
            .connect();
        slot.try_next();
        let mut message = t.message(Alice, Action::SessionTerminate);
        message.reason = reason.clone();
        assert_eq!(t.inject(Bob, message), "result");
        assert_eq!(slot.try_next(), Some(Notice::Value(reason)));
        assert_eq!(slot.try_next(), Some(Notice::Ended));
        assert_eq!(
            t.lines(Bob)
                .iter()
                .filter(|l| l.starts_with("reason"))
                .count(),
            1
        );
    }
}

#[test]
fn s19_what_a_dialect_cannot_say_is_an_error_and_nothing_leaves() {
    let mut t = running(gtalk());
    t.act(Alice, |s, now| {
        assert!(matches!(
            s.modify("main", description("x"), now),
            Err(Misuse::DialectCannot { .. })
        ));
        let spec = ContentSpec::new("x", description("x"));
        assert!(matches!(
            s.add_content(spec, now),
            Err(Misuse::DialectCannot { .. })
        ));
        assert!(matches!(
            s.set_senders("main", Senders::None, now),
            Err(Misuse::DialectCannot { .. })
        ));
        assert!(matches!(
            s.replace_transport("main", ONE, now),
            Err(Misuse::DialectCannot { .. })
        ));
    });
    assert!(t.alice.out.is_empty());
}

#[test]
fn s20_messages_of_others_do_not_reach_a_session() {
    let mut t = running(Setup::default());
    for stranger in [
        "bob@example.org/other",
        "mallory@example.org/lap",
        "bob@example.org",
    ] {
        for action in [
            Action::SessionTerminate,
            Action::SessionInfo,
            Action::TransportInfo,
        ] {
            let mut message = t.message(Bob, action);
            message.from = stranger.into();
            message.contents.push(ContentPart::named("main"));
            let reply = t.inject(Alice, message);
            assert!(
                reply.starts_with("error item-not-found/unknown-session"),
                "{stranger}: {reply}"
            );
        }
    }
    assert_eq!(t.state(Alice), State::InProgress);
}

#[test]
fn s21_glare_leaves_one_session() {
    let mut t = Table::new(Setup::default());
    t.call();
    let (name, to, now) = (t.bob.name.clone(), t.alice.name.clone(), t.now);
    let id = t.bob.manager.create_session(name, TYPE, now).unwrap();
    t.bob
        .manager
        .session(id)
        .unwrap()
        .initiate_with(to, vec![], description("bob's"), now)
        .unwrap();
    t.drain(Bob);
    let alice_wins = t
        .alice
        .manager
        .peek(t.alice.manager.session_ids()[0])
        .unwrap()
        .sid()
        < t.bob.manager.peek(id).unwrap().sid();
    t.settle();
    let loser = if alice_wins { Bob } else { Alice };
    assert!(
        t.saw(
            loser,
            "error Response fatal=true the peer's own offer goes on instead"
        ),
        "{:?}",
        t.said
    );
    t.act(loser, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.settle();
    assert_eq!(
        (t.state(Alice), t.state(Bob)),
        (State::InProgress, State::InProgress)
    );
    assert_eq!(t.only(Alice).sid().clone(), t.only(Bob).sid().clone());
}

#[test]
fn s21_a_flood_from_one_account_meets_its_limit() {
    let mut t = Table::new(Setup::default());
    t.call();
    let Output::Message { message, .. } = take(&mut t, Alice, Action::SessionInitiate) else {
        panic!()
    };
    let mut refused = 0;
    for n in 0..10_000 {
        let mut message = message.clone();
        message.sid = format!("flood{n}").into();
        message.from = format!("alice@example.org/{n}").into();
        refused += usize::from(
            t.inject(Bob, message)
                .starts_with("error resource-constraint"),
        );
        t.bob.out.clear();
    }
    let limit = Limits::default().sessions_per_account;
    assert_eq!(
        (t.bob.manager.session_count(), refused),
        (limit, 10_000 - limit)
    );
}

#[test]
fn s21_a_repeated_offer_is_one_session_and_does_not_ring_when_it_is_over() {
    let mut t = Table::new(Setup::default());
    t.call();
    let offer = take(&mut t, Alice, Action::SessionInitiate);
    let Output::Message { message, .. } = &offer else {
        panic!()
    };
    let copy = message.clone();
    t.deliver(Alice, offer);
    assert_eq!(t.inject(Bob, copy.clone()), "result");
    assert_eq!(t.bob.manager.session_count(), 1);
    // And once more when it is long over: it does not ring again.
    t.settle();
    t.act(Alice, |s, now| s.terminate(success(), now)).unwrap();
    t.settle();
    assert!(
        t.inject(Bob, copy.clone())
            .starts_with("error unexpected-request/out-of-order")
    );
    assert_eq!(t.bob.manager.session_count(), 0);
    t.pass(Duration::from_secs(61));
    assert_eq!(
        t.inject(Bob, copy),
        "result",
        "after its memory time it is a new one"
    );
}

#[test]
fn s22_candidates_before_their_channel_wait_for_it_in_bounds() {
    let mut t = Table::new(Setup {
        channels: vec![],
        ..gtalk()
    });
    t.call();
    t.carry(Alice);
    let info = |name: &str| {
        let candidate = Element::new(ONE, "candidate")
            .with("name", name)
            .with("address", "10.0.0.1:7");
        let transports = vec![Element::new(ONE, "transport").child(candidate)];
        ContentPart {
            transports,
            ..ContentPart::named("")
        }
    };
    let mut message = t.message(Alice, Action::TransportInfo);
    message.contents.push(info("later"));
    assert_eq!(t.inject(Bob, message.clone()), "result");
    t.act(Bob, |s, now| s.create_channel("later", now)).unwrap();
    assert!(t.saw(Bob, "writable later true"));
    let max = Limits::default().early_candidates;
    for n in 0..max {
        message.contents = vec![info(&format!("never{n}"))];
        assert_eq!(t.inject(Bob, message.clone()), "result");
    }
    message.contents = vec![info("never")];
    let reply = t.inject(Bob, message);
    assert!(reply.starts_with("error bad-request"), "{reply}");
}

impl Table {
    /// Carries what Alice has to say until Bob has answered the offer, and leaves his own messages waiting.
    fn settle_alice_offer(&mut self) {
        while self.carry(Alice).is_some() {}
    }
}
