//! Clocks, links, replacements and crossings: what a session does when things do not go as planned.
#![allow(clippy::unwrap_used)]

mod common;

use common::*;
use session_core::*;
use std::time::Duration;

fn accept(t: &mut Table) {
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
}

fn running(setup: Setup) -> Table {
    let mut t = Table::new(setup);
    t.call();
    t.settle();
    accept(&mut t);
    t.settle();
    assert_eq!(
        (t.state(Alice), t.state(Bob)),
        (State::InProgress, State::InProgress)
    );
    t
}

fn broken(namespace: &'static str) -> Fake {
    Fake {
        broken: true,
        ..fake(namespace)
    }
}

#[test]
fn an_unanswered_offer_is_sent_again_under_its_number_and_then_given_up() {
    let mut t = Table::new(Setup::default());
    t.call();
    let first = t.alice.out.pop_front().unwrap();
    for _ in 0..2 {
        t.pass(Duration::from_secs(15));
        assert_eq!(
            t.alice.out.pop_front().as_ref(),
            Some(&first),
            "the same request"
        );
    }
    t.pass(Duration::from_secs(15));
    assert!(t.saw(
        Alice,
        "error Time fatal=true the peer did not answer session-initiate"
    ));
    assert_eq!(t.alice.manager.session_count(), 0);
}

#[test]
fn an_unanswered_information_is_nothing() {
    let mut t = running(Setup::default());
    t.act(Alice, |s, now| s.send_info(vec![], now)).unwrap();
    t.alice.out.clear();
    t.pass(Duration::from_secs(45));
    assert_eq!(t.state(Alice), State::InProgress);
    assert!(t.alice.out.is_empty());
}

#[test]
fn a_ringing_call_lives_as_long_as_the_application_wants() {
    let mut t = Table::new(Setup::default());
    t.call();
    t.settle();
    t.live(600);
    assert_eq!(
        (t.state(Alice), t.state(Bob)),
        (State::SentInitiate, State::ReceivedInitiate)
    );
    t.act(Alice, |s, now| {
        s.set_ringing_timeout(Some(Duration::from_secs(30)), now)
    });
    t.live(31);
    assert!(t.saw(Alice, "error Time fatal=true nobody answered in time"));
    assert!(t.saw(Bob, "reason Some(\"timeout\")"));
}

#[test]
fn no_path_after_the_acceptance_is_the_end_in_time() {
    let mut t = Table::new(Setup::default());
    t.call();
    t.settle_without_candidates();
    accept(&mut t);
    t.settle_without_candidates();
    assert_eq!(t.state(Alice), State::InProgress);
    t.pass(Duration::from_secs(49));
    assert_eq!(t.state(Alice), State::InProgress);
    t.pass(Duration::from_secs(2));
    assert!(t.saw(
        Alice,
        "error Time fatal=true no connection to the peer came about in time"
    ));
}

#[test]
fn a_failed_transport_is_replaced_by_the_next_and_the_session_goes_on() {
    let mut t = Table::new(Setup {
        alice: vec![broken(ONE), fake(TWO)],
        bob: vec![fake(ONE), fake(TWO)],
        ..Setup::default()
    });
    t.call();
    t.settle();
    accept(&mut t);
    t.settle();
    assert!(
        t.said.contains(&"Alice transport-replace".into())
            && t.said.contains(&"Bob transport-accept".into())
    );
    for who in [Alice, Bob] {
        t.runs_on(who, TWO);
        assert!(t.saw(who, "writable a true"));
    }
    assert!(
        t.lines(Alice)
            .iter()
            .any(|l| l.starts_with("error Network fatal=false"))
    );
}

#[test]
fn a_replacement_that_is_declined_leads_to_the_next_and_past_the_last_to_the_end() {
    for (last, state) in [
        (fake("https://example.org/three"), Some(State::InProgress)),
        (broken(TWO), None),
    ] {
        let mut t = Table::new(Setup {
            alice: vec![broken(ONE), fake(TWO), fake("https://example.org/three")],
            bob: vec![fake(ONE), last],
            ..Setup::default()
        });
        t.call();
        t.settle();
        if t.bob.manager.session_count() > 0 {
            accept(&mut t);
            t.settle();
            t.live(70);
        }
        match state {
            Some(state) => {
                assert!(
                    t.said.contains(&"Bob transport-reject".into()),
                    "{:?}",
                    t.said
                );
                assert_eq!((t.state(Alice), t.state(Bob)), (state, state));
            }
            None => assert_eq!(
                (
                    t.alice.manager.session_count(),
                    t.bob.manager.session_count()
                ),
                (0, 0)
            ),
        }
    }
}

#[test]
fn a_replacement_that_crosses_the_acceptance_still_ends_in_one_transport() {
    let setup = || Setup {
        alice: vec![fake(ONE), fake(TWO)],
        bob: vec![fake(ONE), fake(TWO)],
        ..Setup::default()
    };
    for accept_first in [true, false] {
        let mut t = Table::new(setup());
        t.call();
        t.settle();
        t.act(Alice, |s, now| s.replace_transport("main", TWO, now))
            .unwrap();
        accept(&mut t);
        if accept_first {
            while t.carry(Bob).is_some() {}
        } else {
            while t.carry(Alice).is_some() {}
        }
        t.settle();
        for who in [Alice, Bob] {
            t.runs_on(who, TWO);
        }
        t.act(Alice, |s, now| {
            s.send(s.channel("a").unwrap(), "on two".into(), now)
        })
        .unwrap();
        t.carry_datagrams();
        assert!(t.saw(Bob, "packet a on two"));
    }
}

#[test]
fn late_candidates_of_a_replaced_transport_are_acknowledged_and_ignored() {
    let setup = Setup {
        alice: vec![fake(ONE), fake(TWO)],
        bob: vec![fake(ONE), fake(TWO)],
        ..Setup::default()
    };
    let mut t = running(setup);
    t.act(Alice, |s, now| s.replace_transport("main", TWO, now))
        .unwrap();
    t.settle();
    let garbage = Element::new(ONE, "transport").child(Element::new(ONE, "nonsense"));
    let mut message = t.message(Alice, Action::TransportInfo);
    message.contents.push(ContentPart {
        transports: vec![garbage],
        ..ContentPart::named("main")
    });
    assert_eq!(t.inject(Bob, message), "result");
}

#[test]
fn both_replace_at_once_and_the_initiator_wins() {
    let three = "https://example.org/three";
    let all = || vec![fake(ONE), fake(TWO), fake(three)];
    let mut t = running(Setup {
        alice: all(),
        bob: all(),
        ..Setup::default()
    });
    t.act(Alice, |s, now| s.replace_transport("main", TWO, now))
        .unwrap();
    t.act(Bob, |s, now| s.replace_transport("main", three, now))
        .unwrap();
    t.settle();
    for who in [Alice, Bob] {
        t.runs_on(who, TWO);
    }
    assert!(t.said.iter().any(|l| l.contains("tie-break")));
}

#[test]
fn unsupported_transports_lead_to_a_new_offer_with_the_next_one() {
    let setup = Setup {
        alice: vec![fake(ONE), fake(TWO)],
        bob: vec![fake(TWO)],
        ..Setup::default()
    };
    let mut t = Table::new(setup);
    t.call();
    let sid = t.only(Alice).sid().clone();
    t.settle();
    assert_ne!(*t.only(Alice).sid(), sid, "a new session on the wire");
    accept(&mut t);
    t.settle();
    for who in [Alice, Bob] {
        t.runs_on(who, TWO);
    }
}

#[test]
fn while_the_link_is_down_signalling_waits_and_data_flows() {
    let mut t = running(Setup::default());
    let now = t.now;
    t.alice.manager.handle_input(Input::Link(false), now);
    t.act(Alice, |s, now| s.send_info(vec![], now)).unwrap();
    assert!(t.alice.out.is_empty());
    t.act(Alice, |s, now| {
        s.send(s.channel("a").unwrap(), "media".into(), now)
    })
    .unwrap();
    t.carry_datagrams();
    assert!(t.saw(Bob, "packet a media"));
    t.pass(Duration::from_secs(300));
    assert_eq!(
        t.state(Alice),
        State::InProgress,
        "no clock of answers runs"
    );
    let now = t.now;
    t.alice.manager.handle_input(Input::Link(true), now);
    t.settle();
    assert_eq!(t.said.last().unwrap(), "Bob result");
}

#[test]
fn what_waits_for_the_link_is_bounded() {
    let mut t = running(Setup::default());
    let now = t.now;
    t.alice.manager.handle_input(Input::Link(false), now);
    let max = Limits::default().queued_messages;
    for n in 0..=max {
        let id = t.alice.manager.session_ids()[0];
        let session = t.alice.manager.session(id).unwrap();
        let result = session.send_info(vec![], now);
        assert!(result.is_ok() || n > max, "{n}");
    }
    t.drain(Alice);
    assert!(
        t.lines(Alice)
            .iter()
            .any(|l| l.starts_with("error Network fatal=true more than"))
    );
    let now = t.now;
    t.alice.manager.handle_input(Input::Link(true), now);
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
fn an_unanswered_terminate_is_repeated_although_the_session_is_gone() {
    let mut t = running(Setup::default());
    t.act(Alice, |s, now| s.terminate(success(), now)).unwrap();
    assert_eq!(
        t.alice.manager.session_count(),
        0,
        "ended at once, before the answer"
    );
    let first = t.alice.out.pop_front().unwrap();
    t.pass(Duration::from_secs(15));
    assert_eq!(t.alice.out.front(), Some(&first));
    t.settle();
    assert_eq!(t.bob.manager.session_count(), 0);
    t.pass(Duration::from_secs(100));
    assert!(t.alice.out.is_empty(), "acknowledged, so said no more");
}

#[test]
fn both_terminate_at_once_and_both_are_answered() {
    let mut t = running(Setup::default());
    t.act(Alice, |s, now| s.terminate(success(), now)).unwrap();
    t.act(Bob, |s, now| s.terminate(success(), now)).unwrap();
    t.settle();
    let results = t
        .said
        .iter()
        .rev()
        .take(4)
        .filter(|l| l.ends_with("result"))
        .count();
    assert_eq!(results, 2, "{:?}", t.said);
}

#[test]
fn a_peer_that_does_not_know_the_session_any_more_ends_it() {
    let mut t = running(Setup::default());
    let (id, now) = (t.bob.manager.session_ids()[0], t.now);
    t.bob.manager.destroy_session(id, now);
    t.drain(Bob);
    t.pass(Duration::from_secs(61));
    t.act(Alice, |s, now| s.send_info(vec![], now)).unwrap();
    t.settle();
    assert!(
        t.lines(Alice)
            .iter()
            .any(|l| l.starts_with("error Response fatal=true the peer refused session-info"))
    );
    assert_eq!(t.alice.manager.session_count(), 0);
    assert!(
        !t.said.contains(&"Alice session-terminate".into()),
        "nobody to say it to"
    );
}

#[test]
fn an_unknown_channel_is_announced_and_the_session_lives() {
    let mut t = running(Setup {
        dialect: Dialect::GTALK,
        ..Setup::default()
    });
    let id = t.alice.manager.session_ids()[0];
    let mut slot = t
        .alice
        .manager
        .session(id)
        .unwrap()
        .signal_channel_gone()
        .connect();
    slot.try_next();
    t.act(Alice, |s, now| s.create_channel("c", now)).unwrap();
    let Some(Output::Message { id: request, .. }) = t.alice.out.pop_front() else {
        panic!()
    };
    let error = PeerError::UnknownChannel {
        name: "c".into(),
        namespace: ONE.into(),
    };
    let reply = Err(error.to_stanza_error(Dialect::GTALK));
    let now = t.now;
    t.alice
        .manager
        .handle_input(Input::Reply { id: request, reply }, now);
    t.drain(Alice);
    assert_eq!(slot.try_next(), Some(Notice::Value("c".into())));
    assert!(t.saw(Alice, "gone c"));
    assert_eq!(t.state(Alice), State::InProgress);
}

#[test]
fn the_same_sid_with_two_peers_is_two_sessions() {
    let mut t = Table::new(Setup::default());
    t.call();
    let Some(Output::Message { message, .. }) = t.alice.out.pop_front() else {
        panic!()
    };
    for from in ["alice@example.org/desk", "carol@example.org/desk"] {
        assert_eq!(
            t.inject(
                Bob,
                Message {
                    from: from.into(),
                    ..message.clone()
                }
            ),
            "result"
        );
    }
    assert_eq!(t.bob.manager.session_count(), 2);
    let mut end = t.message(Alice, Action::SessionTerminate);
    end.from = "carol@example.org/desk".into();
    assert_eq!(t.inject(Bob, end), "result");
    assert_eq!(t.bob.manager.session_count(), 1);
    assert_eq!(t.only(Bob).remote_name().as_str(), "alice@example.org/desk");
}

#[test]
fn what_an_offer_says_of_a_contents_security_is_known_to_both() {
    let mut t = Table::new(Setup::default());
    let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
    t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.only(Alice);
    let content = session.contents().next().unwrap().name().clone();
    let security = Element::new("urn:example:security", "security").with("name", &content);
    let other = session.set_security("another", &security);
    assert_eq!(other, Err(Misuse::UnknownContent("another".into())));
    session.set_security(&content, &security).unwrap();
    session
        .initiate_with(to, vec![], description("offer"), now)
        .unwrap();
    t.drain(Alice);
    let late = t.act(Alice, |s, _| {
        s.set_security("data", &Element::new("a", "b"))
    });
    assert!(matches!(late, Err(Misuse::TooLate(_))));
    t.settle();
    let theirs = t.only(Bob).content(&content).unwrap();
    assert_eq!(theirs.security(), Some(&security));
}

#[test]
fn what_clients_draw_is_what_the_manager_was_given() {
    let mut t = Table::new(Setup::default());
    let (name, now) = (t.alice.name.clone(), t.now);
    t.alice.manager.create_session(name, TYPE, now).unwrap();
    let (mut one, mut other) = ([0; 44], [0; 44]);
    t.only(Alice).fill_random(&mut one);
    t.only(Alice).fill_random(&mut other);
    assert!(one != other && one != [0; 44]);
}

#[test]
fn an_id_that_was_agreed_on_before_is_that_of_the_session() {
    let mut t = Table::new(Setup::default());
    let long = "x".repeat(Limits::default().sid_bytes + 1);
    let id = "ca3cf894-5325-482f-a412-a6e9f832298d";
    let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
    t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.only(Alice);
    for bad in ["", &long] {
        assert_eq!(session.set_sid(bad), Err(Misuse::BadSid));
    }
    session.set_sid(id).unwrap();
    session
        .initiate_with(to, vec![], description("offer"), now)
        .unwrap();
    t.drain(Alice);
    assert_eq!(&**t.only(Alice).sid(), id);
    let late = t.act(Alice, |s, _| s.set_sid("other"));
    assert!(matches!(late, Err(Misuse::TooLate(_))));
    t.settle();
    assert_eq!(&**t.only(Bob).sid(), id);
}

#[test]
fn a_terminate_without_a_sid_means_the_only_session_with_that_peer() {
    let mut t = running(Setup::default());
    let mut end = t.message(Alice, Action::SessionTerminate);
    end.sid = "".into();
    assert_eq!(t.inject(Bob, end), "result");
    assert_eq!(t.bob.manager.session_count(), 0);
}

#[test]
fn an_offer_to_an_account_is_answered_by_one_of_its_devices() {
    let mut t = Table::new(Setup::default());
    let (name, now) = (t.alice.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.alice.manager.session(id).unwrap();
    session
        .initiate_with("bob@example.org".into(), vec![], description("offer"), now)
        .unwrap();
    t.drain(Alice);
    assert_eq!(t.only(Alice).remote_name().as_str(), "bob@example.org");
    t.alice.out.clear();
    let mut accept = t.message(Bob, Action::SessionAccept);
    let description = Some(description("answer"));
    accept.contents.push(ContentPart {
        description,
        ..ContentPart::named("main")
    });
    assert_eq!(t.inject(Alice, accept), "result");
    assert_eq!(t.only(Alice).remote_name().as_str(), "bob@example.org/lap");
    assert_eq!(t.state(Alice), State::InProgress);
    let mut other = t.message(Bob, Action::SessionTerminate);
    other.from = "bob@example.org/phone".into();
    assert!(
        t.inject(Alice, other).starts_with("error"),
        "now it is with that device"
    );
}

#[test]
fn groups_reasons_and_alternatives_are_carried() {
    let mut t = running(Setup::default());
    let reason = Reason {
        extra: Some(Element::new("https://example.org/x", "because")),
        ..Reason::new(ReasonCondition::AlternativeSession(Some("other".into()))).with_text("there")
    };
    let said = reason.clone();
    t.act(Alice, |s, now| s.terminate(said, now)).unwrap();
    let Some(Output::Message { message, .. }) = t.alice.out.front() else {
        panic!()
    };
    assert_eq!(message.reason.as_ref(), Some(&reason));
}

impl Table {
    fn runs_on(&mut self, who: Who, transport: &str) {
        let said = self.said.clone();
        let now = (
            self.state(who),
            self.only(who).transport().map(str::to_owned),
        );
        assert_eq!(
            now,
            (State::InProgress, Some(transport.to_owned())),
            "{who:?} {said:?}"
        );
    }

    fn settle_without_candidates(&mut self) {
        for _ in 0..100 {
            for who in [Alice, Bob] {
                self.side(who).out.retain(
                    |o| !matches!(o, Output::Message { message, .. } if message.action == Action::TransportInfo),
                );
            }
            if self.carry(Alice).is_none() && self.carry(Bob).is_none() {
                return;
            }
        }
    }
}

#[test]
fn a_client_that_ends_an_offered_session_at_its_birth_tells_the_initiator() {
    struct Closed;
    impl SessionClient for Closed {
        fn namespace(&self) -> &str {
            TYPE
        }
        fn on_session_create(&mut self, session: &mut Session, _: bool, now: std::time::Instant) {
            session
                .terminate(Reason::new(ReasonCondition::Busy), now)
                .unwrap();
        }
    }
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        let mut t = Table::new(Setup {
            dialect,
            ..Setup::default()
        });
        let now = t.now;
        t.bob.manager.remove_client(TYPE, now).unwrap();
        t.bob.manager.add_client(Closed).unwrap();
        t.call();
        t.settle();
        assert_eq!(
            (
                t.alice.manager.session_count(),
                t.bob.manager.session_count()
            ),
            (0, 0)
        );
        let told = match dialect.has_reject {
            true => t
                .lines(Alice)
                .iter()
                .any(|l| l.starts_with("error Response fatal=true")),
            false => t.saw(Alice, "reason Some(\"busy\")"),
        };
        assert!(told, "{:?}", t.lines(Alice));
    }
}

/// Found with Dino opposite: each refusal led to the next replacement, and the session never ended.
#[test]
fn a_peer_that_replaces_for_ever_what_is_refused_for_ever_is_left() {
    let limit = Limits::default().refused_transports;
    for who in [Alice, Bob] {
        let mut t = running(Setup::default());
        let content = t.only(who).contents().next().unwrap().name().to_owned();
        let mut part = ContentPart::named(&*content);
        part.creator = Some(Role::Initiator);
        part.transports = vec![Element::new("urn:example:none", "transport")];
        for count in 1..=limit {
            assert!(!t.only(who).state().is_ended(), "{who:?} {count}");
            let mut replace = t.message(who.other(), Action::TransportReplace);
            replace.contents = vec![part.clone()];
            assert_eq!(t.inject(who, replace), "result", "{count}");
        }
        t.settle();
        for side in [Alice, Bob] {
            assert_eq!(t.side(side).manager.session_count(), 0, "{side:?}");
        }
    }
}

#[test]
fn the_policy_decides_about_whom_we_call_whether_we_connect_before_the_answer() {
    let told = |t: &Table| {
        t.said
            .iter()
            .filter(|l| *l == "Alice transport-info")
            .count()
    };
    for (admitted, decided, connects) in [
        ("bob@example.org/lap", None, true),
        ("carol@example.org/lap", None, false),
        ("carol@example.org/lap", Some(true), true),
        ("bob@example.org/lap", Some(false), false),
    ] {
        let mut t = Table::new(Setup::default());
        let policy = move |peer: &Peer| peer.as_str() == admitted;
        t.alice.manager.set_speculation_policy(policy);
        let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
        let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
        let session = t.alice.manager.session(id).unwrap();
        if let Some(decided) = decided {
            session.set_speculative(decided).unwrap();
        }
        let offer = description("offer");
        session.initiate_with(to, vec![], offer, now).unwrap();
        t.settle();
        assert_eq!(told(&t) > 0, connects, "{admitted} {decided:?}");
    }
}

#[test]
fn the_policy_is_asked_again_about_whom_we_are_sent_to() {
    for (admitted, connects) in [("lap", [true, false]), ("phone", [false, true])] {
        let mut t = Table::new(Setup::default());
        let policy = move |peer: &Peer| peer.device() == Some(admitted);
        t.alice.manager.set_speculation_policy(policy);
        let tells = |t: &mut Table| {
            t.settle();
            let said = std::mem::take(&mut t.said);
            said.iter().any(|line| line == "Alice transport-info")
        };
        t.call();
        let first = tells(&mut t);
        let mut message = t.message(Bob, Action::Redirect);
        message.redirect = Some(Redirect {
            target: "bob@example.org/phone".into(),
            cookie: None,
        });
        assert_eq!(t.inject(Alice, message), "result");
        assert_eq!([first, tells(&mut t)], connects, "{admitted}");
    }
}
