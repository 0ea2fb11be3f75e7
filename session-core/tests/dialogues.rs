//! The dialogues of the original's own tests (libjingle.md §7.1, §7.2), as tables over dialects and transports.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

mod common;

use common::*;
use session_core::*;

/// The whole dialogue: offer, candidates, acceptance, data both ways, the end.
fn dialogue(setup: Setup, expected_transport: &str) -> Vec<String> {
    let mut t = Table::new(setup);
    t.call();
    assert_eq!(t.state(Alice), State::SentInitiate);
    t.settle();
    assert_eq!(t.state(Bob), State::ReceivedInitiate);
    assert_eq!(
        t.only(Bob).remote_description(),
        Some(&description("offer"))
    );
    // Everything connects while the peer rings: data can flow at the moment of acceptance.
    for who in [Alice, Bob] {
        let session = t.only(who);
        let channels: Vec<_> = session.channel_ids().collect();
        assert_eq!(channels.len(), 2);
        for channel in channels {
            assert!(session.writable(channel), "{who:?}");
        }
    }
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.settle();
    for who in [Alice, Bob] {
        assert_eq!(t.state(who), State::InProgress);
        assert_eq!(t.only(who).transport(), Some(expected_transport));
        let other = description(if who == Alice { "answer" } else { "offer" });
        assert_eq!(t.only(who).remote_description(), Some(&other));
    }
    for round in 0..20 {
        for who in [Alice, Bob] {
            for name in ["a", "b"] {
                let text = format!("{name}{round}");
                t.act(who, |s, now| {
                    s.send(s.channel(name).unwrap(), text.clone().into(), now)
                })
                .unwrap();
                t.carry_datagrams();
                assert!(t.saw(who.other(), &format!("packet {name} {text}")));
            }
        }
    }
    let said = t.said.clone();
    t.act(Alice, |s, now| s.terminate(success(), now)).unwrap();
    t.settle();
    for who in [Alice, Bob] {
        let lines = t.lines(who);
        assert_eq!(
            lines.iter().filter(|l| *l == "Deinit").count(),
            1,
            "{lines:?}"
        );
        assert_eq!(&lines[lines.len() - 2..], ["Deinit", "destroy"]);
        assert_eq!(t.side(who).manager.session_count(), 0);
        assert_eq!(t.client(who).destroyed, 1);
    }
    assert!(t.saw(Bob, "reason Some(\"success\")"));
    said
}

fn set(names: &[&'static str]) -> Vec<Fake> {
    names.iter().map(|n| fake(n)).collect()
}

const P2P: &str = GOOGLE_P2P;

#[test]
fn every_dialect_completes_the_dialogue() {
    for dialect in [
        Dialect::JINGLE,
        Dialect::GTALK,
        Dialect::GTALK_LATE,
        Dialect::GTALK_COMPAT,
    ] {
        let setup = Setup {
            dialect,
            alice: set(&[P2P]),
            bob: set(&[P2P]),
            ..Setup::default()
        };
        dialogue(setup, P2P);
    }
}

#[test]
fn the_offered_order_decides_among_what_the_responder_has() {
    let cases: [(&[&'static str], &[&'static str], &str); 5] = [
        (&[ONE], &[ONE], ONE),
        (&[ONE], &[TWO, ONE], ONE),
        (&[ONE, TWO], &[ONE], ONE),
        (&[ONE, TWO], &[TWO, ONE], ONE),
        (&[ONE, TWO], &[TWO], TWO),
    ];
    for (alice, bob, chosen) in cases {
        let setup = Setup {
            dialect: Dialect::GTALK,
            alice: set(alice),
            bob: set(bob),
            ..Setup::default()
        };
        dialogue(setup, chosen);
    }
}

#[test]
fn a_transport_that_refuses_the_offer_is_passed_over() {
    let picky = Fake {
        picky: true,
        ..fake(ONE)
    };
    let setup = Setup {
        dialect: Dialect::GTALK,
        alice: set(&[ONE, TWO]),
        bob: vec![picky, fake(TWO)],
        ..Setup::default()
    };
    dialogue(setup, TWO);
}

#[test]
fn gtalk_says_initiate_then_one_batch_of_candidates_then_transport_accept() {
    let setup = Setup {
        dialect: Dialect::GTALK,
        ..Setup::default()
    };
    let said = dialogue(setup, ONE);
    let alice: Vec<_> = said
        .iter()
        .filter(|l| l.starts_with("Alice") && !l.ends_with("result"))
        .collect();
    assert_eq!(
        alice[..2],
        ["Alice session-initiate", "Alice transport-info"]
    );
    assert_eq!(
        alice
            .iter()
            .filter(|l| l.ends_with("transport-info"))
            .count(),
        1,
        "{said:?}"
    );
    let bob: Vec<_> = said.iter().filter(|l| l.starts_with("Bob")).collect();
    assert_eq!(
        bob[..2],
        ["Bob result", "Bob transport-accept"],
        "the ack goes first"
    );
    assert!(bob.iter().any(|l| l.ends_with("session-accept")));
}

#[test]
fn jingle_holds_candidates_until_the_offer_was_acknowledged_and_sends_them_one_by_one() {
    let mut t = Table::new(Setup::default());
    t.call();
    assert_eq!(t.alice.out.len(), 1, "only the offer");
    assert_eq!(t.carry(Alice).as_deref(), Some("session-initiate"));
    assert_eq!(t.carry(Bob).as_deref(), Some("result"));
    assert_eq!(t.alice.out.len(), 2, "then a message for each candidate");
    t.settle();
    assert!(
        !t.said.contains(&"Bob transport-accept".to_owned()),
        "the answer travels in the accept"
    );
}

#[test]
fn an_initiator_that_hears_candidates_settles_into_the_old_form_and_repeats_itself() {
    let setup = Setup {
        dialect: Dialect::GTALK,
        alice: set(&[P2P, TWO]),
        bob: set(&[P2P]),
        ..Setup::default()
    };
    let mut t = Table::new(setup);
    t.call();
    let told = t.alice.out.len();
    assert_eq!(told, 2, "initiate and candidates");
    let mut part = ContentPart::named("");
    let candidate = Element::new(P2P, "candidate")
        .with("name", "a")
        .with("address", "10.0.0.9:9");
    part.transports
        .push(Element::new(P2P, "transport").child(candidate));
    let mut message = t.message(Bob, Action::TransportInfo);
    message.dialect = Dialect::GTALK_COMPAT;
    message.contents.push(part);
    assert_eq!(t.inject(Alice, message), "result");
    assert_eq!(t.only(Alice).dialect(), Dialect::GTALK_COMPAT);
    assert_eq!(
        t.only(Alice).transport(),
        Some(P2P),
        "the answer that never comes is taken for given"
    );
    let again = t.alice.out.back().unwrap();
    let Output::Message { message, .. } = again else {
        panic!("{again:?}")
    };
    assert_eq!(
        (message.action, message.dialect),
        (Action::TransportInfo, Dialect::GTALK_COMPAT)
    );
    assert_eq!(
        message.contents[0].transports[0].children().count(),
        2,
        "all candidates once more"
    );
}

#[test]
fn a_hybrid_offer_becomes_what_the_peer_speaks() {
    for answer in [Dialect::JINGLE, Dialect::GTALK_LATE] {
        let setup = Setup {
            dialect: Dialect::HYBRID,
            alice: set(&[P2P]),
            bob: set(&[P2P]),
            ..Setup::default()
        };
        let mut t = Table::new(setup);
        t.call();
        let Some(Output::Message { id, mut message }) = t.alice.out.pop_front() else {
            panic!()
        };
        message.dialect = answer;
        t.deliver(Alice, Output::Message { id, message });
        t.settle();
        t.act(Bob, |s, now| s.accept_with(description("answer"), now))
            .unwrap();
        t.settle();
        assert_eq!(t.only(Alice).dialect(), answer);
        assert_eq!(
            (t.state(Alice), t.state(Bob)),
            (State::InProgress, State::InProgress)
        );
    }
}

#[test]
fn early_termination_says_one_more_thing_and_is_acknowledged() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK, Dialect::GTALK_LATE] {
        let setup = Setup {
            dialect,
            alice: set(&[P2P]),
            bob: set(&[P2P]),
            ..Setup::default()
        };
        let mut t = Table::new(setup);
        t.call();
        t.carry(Alice);
        t.bob.out.clear();
        t.alice.out.clear();
        let reason = Reason::new(ReasonCondition::GeneralError);
        let id = t.alice.manager.session_ids()[0];
        let now = t.now;
        t.alice
            .manager
            .session(id)
            .unwrap()
            .terminate(reason, now)
            .unwrap();
        t.drain(Alice);
        assert_eq!(t.alice.out.len(), 1);
        assert_eq!(t.carry(Alice).as_deref(), Some("session-terminate"));
        assert!(t.saw(Alice, "SentTerminate") && t.saw(Bob, "ReceivedTerminate"));
        assert!(matches!(
            t.bob.out.front(),
            Some(Output::Reply { reply: Ok(_), .. })
        ));
    }
}

#[test]
fn a_rejection_has_the_state_of_its_dialect_and_no_terminate_follows() {
    for (dialect, state) in [
        (Dialect::GTALK, "ReceivedReject"),
        (Dialect::GTALK_LATE, "ReceivedReject"),
        (Dialect::JINGLE, "ReceivedTerminate"),
    ] {
        let setup = Setup {
            dialect,
            alice: set(&[P2P]),
            bob: set(&[P2P]),
            ..Setup::default()
        };
        let mut t = Table::new(setup);
        t.call();
        t.settle();
        t.act(Bob, |s, now| s.reject(decline(), now)).unwrap();
        t.settle();
        assert!(
            t.saw(Bob, "SentReject") && t.saw(Alice, state),
            "{:?}",
            t.lines(Alice)
        );
        let ends = t
            .said
            .iter()
            .filter(|l| l.ends_with("reject") || l.ends_with("terminate"))
            .count();
        assert_eq!(ends, 1, "{:?}", t.said);
        assert_eq!(
            (
                t.alice.manager.session_count(),
                t.bob.manager.session_count()
            ),
            (0, 0)
        );
    }
}

#[test]
fn candidates_inside_offer_and_answer_connect_without_any_transport_info() {
    let mut t = Table::new(Setup::default());
    t.call();
    let candidates = |first: u16| {
        let candidate = |name: &str, port| {
            Element::new(ONE, "candidate")
                .with("name", name)
                .with("address", format!("10.0.0.1:{port}"))
        };
        Element::new(ONE, "transport")
            .child(candidate("a", first))
            .child(candidate("b", first + 1))
    };
    let Some(Output::Message { id, mut message }) = t.alice.out.pop_front() else {
        panic!()
    };
    message.contents[0].transports = vec![candidates(1001)];
    t.deliver(Alice, Output::Message { id, message });
    t.bob.out.retain(|o| matches!(o, Output::Reply { .. }));
    t.carry(Bob);
    t.alice.out.clear();
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.bob.out.retain(
        |o| matches!(o, Output::Message { message, .. } if message.action == Action::SessionAccept),
    );
    let Some(Output::Message { id, mut message }) = t.bob.out.pop_front() else {
        panic!()
    };
    message.contents[0].transports = vec![candidates(2001)];
    t.deliver(Bob, Output::Message { id, message });
    for who in [Alice, Bob] {
        assert!(
            t.saw(who, "writable a true") && t.saw(who, "writable b true"),
            "{:?}",
            t.lines(who)
        );
        assert_eq!(t.state(who), State::InProgress);
    }
}

#[test]
fn a_good_redirect_offers_everything_again_to_the_other_device() {
    for dialect in [Dialect::GTALK, Dialect::JINGLE] {
        let mut t = Table::new(Setup {
            dialect,
            ..Setup::default()
        });
        let other = Peer::from("bob@example.org/phone");
        let target = other.clone();
        t.client(Bob).on_received = Some(Box::new(move |session, now| {
            session.redirect(target.clone(), None, now).unwrap();
        }));
        t.call();
        t.carry(Alice);
        while t.carry(Bob).is_some() {}
        assert_eq!(t.only(Alice).remote_name(), &other);
        assert_eq!(t.state(Alice), State::SentInitiate);
        assert!(t.saw(Bob, "SentRedirect") && t.saw(Bob, "destroy"));
        let again = t.alice.out.iter().find_map(|o| match o {
            Output::Message { message, .. } if message.action == Action::SessionInitiate => {
                Some(message)
            }
            _ => None,
        });
        let again = again.expect("the offer goes out again");
        assert_eq!(again.to, other);
        assert!(!again.contents[0].transports.is_empty(), "in full");
        // The other device takes it.
        t.bob.name = other;
        t.client(Bob).on_received = None;
        t.alice.out.retain(|o| matches!(o, Output::Message { message, .. } if message.to.device() == Some("phone")));
        t.settle();
        t.act(Bob, |s, now| s.accept_with(description("answer"), now))
            .unwrap();
        t.settle();
        assert_eq!(
            (t.state(Alice), t.state(Bob)),
            (State::InProgress, State::InProgress)
        );
        assert!(t.saw(Alice, "writable a true") && t.saw(Alice, "writable b true"));
    }
}

#[test]
fn a_bad_redirect_is_one_error_and_the_end() {
    for dialect in [Dialect::GTALK, Dialect::JINGLE] {
        let mut t = Table::new(Setup {
            dialect,
            ..Setup::default()
        });
        t.client(Bob).on_received = Some(Box::new(|session, now| {
            session
                .redirect(Peer::from("mallory@example.org/x"), None, now)
                .unwrap();
        }));
        let id = t.call();
        let mut errors = t
            .alice
            .manager
            .session(id)
            .unwrap()
            .signal_error()
            .connect();
        t.settle();
        let lines = t.lines(Alice);
        let fatal: Vec<_> = lines.iter().filter(|l| l.starts_with("error")).collect();
        assert_eq!(fatal.len(), 1, "{lines:?}");
        assert!(fatal[0].starts_with("error Response fatal=true"));
        assert!(t.saw(Alice, "SentTerminate"));
        assert_eq!(
            t.said
                .iter()
                .filter(|l| *l == "Alice session-initiate")
                .count(),
            1,
            "nothing goes there"
        );
        assert_eq!(t.alice.manager.session_count(), 0);
        assert!(matches!(
            errors.try_next(),
            Some(Notice::Snapshot { last: None, .. })
        ));
        assert!(matches!(errors.try_next(), Some(Notice::Value(_))));
    }
}

#[test]
fn contents_of_a_bundle_share_one_transport() {
    let mut t = Table::new(Setup {
        channels: vec!["rtp"],
        ..Setup::default()
    });
    let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.alice.manager.session(id).unwrap();
    session.set_content_name("audio").unwrap();
    session
        .add_content(ContentSpec::new("video", description("video")), now)
        .unwrap();
    session.bundle(&["audio", "video"]).unwrap();
    session
        .create_channel_in("video", "rtp", None, now)
        .unwrap();
    session
        .initiate_with(to, vec![], description("audio"), now)
        .unwrap();
    t.client(Bob).on_received = Some(Box::new(|session, now| {
        session
            .create_channel_in("video", "rtp", None, now)
            .unwrap();
    }));
    t.settle();
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.settle();
    for who in [Alice, Bob] {
        assert_eq!(t.state(who), State::InProgress, "{who:?}");
        let session = t.only(who);
        assert_eq!(
            session.content("video").unwrap().bundled_with(),
            Some("audio")
        );
        assert_eq!(session.content("video").unwrap().transports().count(), 0);
    }
    for content in ["audio", "video"] {
        t.act(Alice, |s, now| {
            s.send(s.channel_in(content, "rtp").unwrap(), content.into(), now)
        })
        .unwrap();
    }
    t.carry_datagrams();
    assert!(t.saw(Bob, "packet rtp audio") && t.saw(Bob, "packet rtp video"));
}

#[test]
fn description_info_is_acknowledged_announced_and_leaves_what_was_accepted() {
    let mut t = Table::new(Setup::default());
    t.call();
    t.settle();
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.settle();
    t.act(Alice, |s, now| s.modify("main", description("more"), now))
        .unwrap();
    assert_eq!(t.state(Alice), State::SentModify);
    t.settle();
    assert_eq!(
        (t.state(Alice), t.state(Bob)),
        (State::InProgress, State::InProgress)
    );
    assert_eq!(
        t.only(Bob).remote_description(),
        Some(&description("offer"))
    );
    let lines = t.lines(Bob);
    assert_eq!(
        lines
            .iter()
            .filter(|l| l.contains("DescriptionChanged"))
            .count(),
        1
    );
    assert!(t.saw(Bob, "ReceivedModify"));
}
