//! Contents that come, go and share a transport, at moments at which that was once mistaken.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

mod common;

use bytes::Bytes;
use common::*;
use session_core::*;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

const THREE: &str = "https://example.org/three";

/// Two that know two transports.
fn pair() -> Table {
    let transports = || vec![fake(ONE), fake(TWO)];
    Table::new(Setup {
        alice: transports(),
        bob: transports(),
        channels: vec!["data"],
        ..Setup::default()
    })
}

/// Offers contents of these names, the first of them as the default one.
fn offered(names: [&str; 2], bundle: bool) -> Table {
    offered_at(pair(), names, bundle)
}

fn offered_at(mut t: Table, names: [&str; 2], bundle: bool) -> Table {
    let (name, to, now) = (t.alice.name.clone(), t.bob.name.clone(), t.now);
    let id = t.alice.manager.create_session(name, TYPE, now).unwrap();
    let session = t.alice.manager.session(id).unwrap();
    session.set_content_name(names[0]).unwrap();
    let second = ContentSpec::new(names[1], description(names[1]));
    session.add_content(second, now).unwrap();
    if bundle {
        session.bundle(&names).unwrap();
    }
    let offer = description(names[0]);
    session.initiate_with(to, vec![], offer, now).unwrap();
    t.drain(Alice);
    t
}

/// Both in progress, with one content.
fn running() -> Table {
    let mut t = ringing();
    t.answer();
    t.settle();
    assert_eq!([t.state(Alice), t.state(Bob)], [State::InProgress; 2]);
    t
}

/// As [`offered`], with a channel in each, and accepted.
fn running_two(t: Table, names: [&str; 2], bundle: bool) -> Table {
    let mut t = offered_at(t, names, bundle);
    for who in [Alice, Bob] {
        t.act(who, |s, now| {
            s.create_channel_in(names[1], "side", None, now)
        })
        .unwrap();
        t.settle();
    }
    t.answer();
    t.settle();
    t
}

fn ringing() -> Table {
    let mut t = pair();
    t.call();
    t.settle();
    t
}

fn group(semantics: &str, names: &[&str]) -> Group {
    Group {
        semantics: semantics.into(),
        contents: names.iter().map(|&name| name.into()).collect(),
    }
}

impl Table {
    fn answer(&mut self) {
        self.act(Bob, |s, now| s.accept_with(description("answer"), now))
            .unwrap();
    }

    fn propose(&mut self, who: Who, name: &str) {
        let spec = ContentSpec::new(name, description(name));
        self.act(who, |s, now| {
            s.add_content(spec, now)?;
            s.create_channel_in(name, "side", None, now)
        })
        .unwrap();
    }

    fn take_up(&mut self, who: Who, name: &str) {
        self.act(who, |s, now| {
            s.accept_content(name, description(name), now)?;
            s.create_channel_in(name, "side", None, now)
        })
        .unwrap();
    }

    /// Changes the next message of this kind before it is carried.
    fn change(&mut self, who: Who, action: Action, change: impl FnOnce(&mut Message)) {
        let mut out = self.side(who).out.iter_mut();
        let message = out.find_map(|output| match output {
            Output::Message { message, .. } if message.action == action => Some(message),
            _ => None,
        });
        change(message.expect("it was said"));
    }

    /// The number of the last message of this kind.
    fn number(&mut self, who: Who, action: Action) -> RequestId {
        let out = self.side(who).out.iter();
        let found = out.filter_map(|output| match output {
            Output::Message { id, message } if message.action == action => Some(*id),
            _ => None,
        });
        found.last().expect("it was said")
    }

    /// What a message of this kind says of groups.
    fn groups(&mut self, who: Who, action: Action) -> Vec<Group> {
        let mut groups = None;
        self.change(who, action, |message| groups = Some(message.groups.clone()));
        groups.unwrap()
    }

    fn bundled(&mut self, who: Who, name: &str) -> Option<String> {
        let content = self.only(who).content(name).unwrap();
        content.bundled_with().map(str::to_owned)
    }

    /// Says something about the transport of a content, as the other would.
    fn tell(&mut self, to: Who, action: Action, content: &str, transport: &str) -> String {
        let mut message = self.message(to.other(), action);
        message.contents.push(ContentPart {
            transports: vec![Element::new(transport, "transport")],
            ..ContentPart::named(content)
        });
        self.inject(to, message)
    }

    fn count(&self, who: Who, line: &str) -> usize {
        let lines = self.lines(who);
        lines.iter().filter(|l| l.starts_with(line)).count()
    }

    fn side_is_writable(&mut self, who: Who, content: &str) -> bool {
        let session = self.only(who);
        let channel = session.channel_in(content, "side").unwrap();
        session.writable(channel)
    }

    /// Lets time pass. Everything is carried but what channels tell each other.
    fn live_without_candidates(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            loop {
                for who in [Alice, Bob] {
                    self.side(who).out.retain(
                        |o| !matches!(o, Output::Message { message, .. } if message.action == Action::TransportInfo),
                    );
                }
                if self.carry(Alice).is_none() && self.carry(Bob).is_none() {
                    break;
                }
            }
        }
    }
}

#[test]
fn a_proposal_that_nobody_answers_harms_no_session() {
    for who in [Alice, Bob] {
        let mut t = running();
        t.propose(who, "more");
        t.live(300);
        for side in [Alice, Bob] {
            assert!(
                t.state(side).is_accepted(),
                "{who:?} proposed: {:?}",
                t.said
            );
            assert_eq!(t.only(side).transport(), Some(ONE));
        }
        assert!(!t.said.iter().any(|l| l.contains("transport-replace")));
        t.take_up(who.other(), "more");
        t.settle();
        for side in [Alice, Bob] {
            assert_eq!(t.state(side), State::InProgress);
            let content = t.only(side).content("more").unwrap();
            assert_eq!(content.transport(), Some(ONE), "{side:?}");
        }
        t.live(300);
        assert_eq!(t.state(Alice), State::InProgress);
    }
}

#[test]
fn a_content_that_is_accepted_late_has_all_the_time_for_its_path() {
    for who in [Alice, Bob] {
        let mut t = running();
        t.propose(who, "more");
        t.live_without_candidates(45);
        t.take_up(who.other(), "more");
        t.live_without_candidates(45);
        let lines = t.said.iter();
        let given_up = |l: &&String| l.contains("transport-replace") || l.contains("terminate");
        assert_eq!(lines.filter(given_up).count(), 0, "{who:?} {:?}", t.said);
        assert_eq!([t.state(Alice), t.state(Bob)], [State::InProgress; 2]);
        t.live_without_candidates(45);
        let lines = t.said.iter();
        assert!(lines.filter(given_up).count() > 0, "it is watched");
    }
}

#[test]
fn a_proposal_that_is_open_when_the_session_is_accepted_does_not_hold_it_up() {
    for who in [Alice, Bob] {
        let mut t = ringing();
        t.propose(who, "more");
        t.settle();
        t.answer();
        t.live(100);
        for side in [Alice, Bob] {
            assert!(t.saw(side, "InProgress"), "{who:?} {:?}", t.lines(side));
        }
        t.take_up(who.other(), "more");
        t.settle();
        for side in [Alice, Bob] {
            assert_eq!(t.state(side), State::InProgress);
            let content = t.only(side).content("more").unwrap();
            assert_eq!(content.transport(), Some(ONE), "{side:?}");
            let channel = t.only(side).channel_in("more", "side").unwrap();
            assert!(t.only(side).writable(channel), "{who:?} {side:?}");
        }
    }
}

#[test]
fn a_transport_that_fails_before_its_proposal_is_answered_is_replaced_after_that() {
    let broken = Fake {
        broken: true,
        ..fake(ONE)
    };
    let mut t = Table::new(Setup {
        alice: vec![broken, fake(TWO)],
        bob: vec![fake(ONE), fake(TWO)],
        channels: vec![],
        ..Setup::default()
    });
    t.call();
    t.settle();
    t.answer();
    t.settle();
    t.propose(Alice, "more");
    t.live(10);
    let replaces = |t: &Table| t.said.iter().any(|l| l.contains("transport-replace"));
    assert!(!replaces(&t), "{:?}", t.said);
    t.take_up(Bob, "more");
    t.settle();
    assert!(replaces(&t));
    for side in [Alice, Bob] {
        assert_eq!(t.state(side), State::InProgress);
        let content = t.only(side).content("more").unwrap();
        assert_eq!(content.transport(), Some(TWO), "{side:?}");
    }
}

#[test]
fn an_offer_is_refused_also_after_its_first_content_went() {
    let mut t = offered(["main", "more"], false);
    t.act(Alice, |s, now| s.remove_content("main", decline(), now))
        .unwrap();
    let id = t.number(Alice, Action::SessionInitiate);
    let error = StanzaError::new(Condition::ServiceUnavailable, ErrorKind::Cancel);
    let (reply, now) = (Err(error), t.now);
    t.alice
        .manager
        .handle_input(Input::Reply { id, reply }, now);
    t.drain(Alice);
    assert_eq!(t.alice.manager.session_count(), 0);
}

#[test]
fn an_offer_is_sent_again_also_after_its_first_content_went() {
    let mut t = offered(["main", "more"], false);
    t.act(Alice, |s, now| s.remove_content("main", decline(), now))
        .unwrap();
    t.alice.out.clear();
    t.pass(Duration::from_secs(300));
    assert_eq!(t.alice.manager.session_count(), 0, "nobody is there");
}

#[test]
fn an_acceptance_is_refused_also_after_its_first_content_went() {
    let mut t = offered(["main", "more"], false);
    t.settle();
    t.answer();
    t.act(Bob, |s, now| s.remove_content("main", decline(), now))
        .unwrap();
    let id = t.number(Bob, Action::SessionAccept);
    let error = StanzaError::new(Condition::BadRequest, ErrorKind::Cancel);
    let (reply, now) = (Err(error), t.now);
    t.bob.manager.handle_input(Input::Reply { id, reply }, now);
    t.drain(Bob);
    assert_eq!(t.bob.manager.session_count(), 0);
}

#[test]
fn only_a_bundle_shares_a_transport() {
    let mut t = offered(["main", "more"], false);
    t.change(Alice, Action::SessionInitiate, |message| {
        message.groups = vec![group("LS", &["main", "more"])];
    });
    t.settle();
    t.answer();
    assert_eq!(t.bundled(Bob, "more"), None);
    t.settle();
    assert_eq!(t.bundled(Alice, "more"), None);
    assert_eq!([t.state(Alice), t.state(Bob)], [State::InProgress; 2]);
}

#[test]
fn an_answer_groups_only_what_it_has() {
    let mut t = offered(["main", "more"], true);
    t.change(Alice, Action::SessionInitiate, |message| {
        message.groups = vec![
            group(Group::BUNDLE, &["main", "more", "gone"]),
            group("LS", &["gone", "main"]),
        ];
    });
    t.settle();
    t.answer();
    let both = group(Group::BUNDLE, &["main", "more"]);
    assert_eq!(t.groups(Bob, Action::SessionAccept), [both]);
    t.settle();
    assert_eq!(t.bundled(Alice, "more"), Some("main".into()));

    let mut t = offered(["main", "more"], true);
    t.change(Alice, Action::SessionInitiate, |message| {
        message.contents[1].description = Some(Element::new("urn:example:other", "description"));
    });
    t.settle();
    t.answer();
    assert_eq!(t.groups(Bob, Action::SessionAccept), []);

    // A bundle of one is one, and stays it.
    let mut t = offered(["main", "more"], true);
    let one = group(Group::BUNDLE, &["main"]);
    let said = one.clone();
    t.change(Alice, Action::SessionInitiate, |message| {
        message.groups = vec![said];
    });
    t.settle();
    t.answer();
    assert_eq!(t.groups(Bob, Action::SessionAccept), [one]);
}

#[test]
fn a_content_is_in_one_bundle() {
    let mut t = offered(["main", "more"], true);
    t.change(Alice, Action::SessionInitiate, |message| {
        message.groups = vec![
            group(Group::BUNDLE, &["main", "more", "main"]),
            group(Group::BUNDLE, &["more", "main"]),
        ];
    });
    t.settle();
    t.answer();
    assert_eq!(t.bundled(Bob, "main"), None);
    assert_eq!(t.bundled(Bob, "more"), Some("main".into()));
}

#[test]
fn an_answer_bundles_nothing_that_was_not_offered_so() {
    for (offers, answer, bundled) in [
        (false, group(Group::BUNDLE, &["main", "more"]), None),
        (true, group("LS", &["main", "more"]), None),
        (true, group(Group::BUNDLE, &["main"]), None),
        (
            true,
            group(Group::BUNDLE, &["gone", "main", "more"]),
            Some("main"),
        ),
    ] {
        let mut t = offered(["main", "more"], offers);
        t.settle();
        t.answer();
        let said = answer.clone();
        t.change(Bob, Action::SessionAccept, |message| {
            message.groups = vec![said];
        });
        while t.carry(Bob).is_some() {}
        let found = t.bundled(Alice, "more");
        assert_eq!(found.as_deref(), bundled, "{offers} {answer:?}");
    }
}

#[test]
fn nobody_accepts_what_he_has_proposed() {
    let mut t = ringing();
    t.propose(Bob, "more");
    t.settle();
    let part = |name: &str| ContentPart {
        description: Some(description("answer")),
        transports: vec![Element::new(ONE, "transport")],
        ..ContentPart::named(name)
    };
    let mut accept = t.message(Bob, Action::SessionAccept);
    accept.contents.push(part("more"));
    let reply = t.inject(Alice, accept.clone());
    assert!(reply.starts_with("error"), "{reply}");
    assert_eq!(t.state(Alice), State::SentInitiate);
    accept.contents.push(part("main"));
    assert_eq!(t.inject(Alice, accept), "result");
    let states = |t: &mut Table| {
        let contents = t.only(Alice).contents();
        contents.map(Content::state).collect::<Vec<_>>()
    };
    let open = [ContentState::Active, ContentState::ProposedThere];
    assert_eq!(states(&mut t), open);
    let more = t.only(Alice).content("more").unwrap();
    assert_eq!(more.remote_description(), Some(&description("more")));
}

#[test]
fn a_refused_replacement_by_the_same_transport_leaves_it_in_use() {
    let mut t = running();
    let mut reject = t.message(Bob, Action::TransportReject);
    reject.contents.push(ContentPart {
        transports: vec![Element::new(ONE, "transport")],
        ..ContentPart::named("main")
    });
    t.act(Alice, |s, now| s.replace_transport("main", ONE, now))
        .unwrap();
    t.alice.out.clear();
    assert_eq!(t.inject(Alice, reject), "result");
    let garbage = Element::new(ONE, "transport").child(Element::new(ONE, "nonsense"));
    let mut info = t.message(Bob, Action::TransportInfo);
    info.contents.push(ContentPart {
        transports: vec![garbage],
        ..ContentPart::named("main")
    });
    let reply = t.inject(Alice, info);
    assert!(reply.starts_with("error"), "it was read: {reply}");
}

/// Knows for whom its transports are made.
struct Noted(Arc<Mutex<Vec<String>>>);

impl TransportFactory for Noted {
    fn namespace(&self) -> &str {
        TWO
    }
    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }
    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        self.0.lock().unwrap().push(context.remote.to_string());
        fake(TWO).create(context)
    }
}

/// A transport may have the peer's address in it, and what the first one said of it is void.
#[test]
fn an_offer_that_is_redirected_has_transports_of_its_own() {
    for dialect in [Dialect::GTALK, Dialect::JINGLE] {
        let mut t = Table::new(Setup {
            dialect,
            alice: vec![],
            bob: vec![fake(TWO)],
            ..Setup::default()
        });
        let noted = Arc::default();
        let factory = Noted(Arc::clone(&noted));
        t.alice.manager.add_transport(factory).unwrap();
        t.alice.manager.add_transport(fake(ONE)).unwrap();
        t.call();
        t.settle();
        let mut message = t.message(Bob, Action::Redirect);
        message.redirect = Some(Redirect {
            target: "bob@example.org/phone".into(),
            cookie: None,
        });
        assert_eq!(t.inject(Alice, message), "result");
        let peers = ["bob@example.org/lap", "bob@example.org/phone"];
        assert_eq!(*noted.lock().unwrap(), peers);
        let offered = [TWO, ONE];
        let transports = t.only(Alice).contents().next().unwrap();
        let transports: Vec<_> = transports.transports().map(str::to_owned).collect();
        let several = dialect.offers == Offers::All;
        assert_eq!(transports, offered[..1 + usize::from(several)]);
        assert_eq!(t.only(Alice).transport(), None, "nothing is agreed on");
        // The other device takes it.
        t.side(Bob).name = "bob@example.org/phone".into();
        t.alice.out.retain(|output| match output {
            Output::Message { message, .. } => message.to.as_str() == peers[1],
            _ => false,
        });
        t.bob.out.clear();
        t.settle();
        let id = t.bob.manager.session_ids().pop().unwrap();
        let now = t.now;
        let session = t.bob.manager.session(id).unwrap();
        session.accept_with(description("answer"), now).unwrap();
        t.settle();
        assert_eq!(t.state(Alice), State::InProgress);
        assert_eq!(t.only(Alice).transport(), Some(TWO));
        assert!(t.saw(Alice, "writable a true"));
    }
}

#[test]
fn a_refusal_that_comes_again_is_not_one_of_the_next_proposal() {
    let transports = || vec![fake(ONE), fake(TWO), fake(THREE)];
    let mut t = Table::new(Setup {
        alice: transports(),
        bob: transports(),
        channels: vec!["data"],
        ..Setup::default()
    });
    t.call();
    t.settle();
    t.answer();
    t.settle();
    assert!(t.act(Alice, |s, now| s.fall_back("main", now)));
    t.alice.out.clear();
    for _ in 0..2 {
        let reply = t.tell(Alice, Action::TransportReject, "main", TWO);
        assert_eq!(reply, "result");
    }
    t.live(60);
    for side in [Alice, Bob] {
        assert_eq!(t.state(side), State::InProgress);
        assert_eq!(t.only(side).transport(), Some(THREE), "{side:?}");
    }
    let proposals = t.said.iter().filter(|l| l.contains("transport-replace"));
    assert_eq!(proposals.count(), 1, "the first was answered: {:?}", t.said);
}

#[test]
fn a_replacement_that_comes_again_is_made_once() {
    let mut t = running();
    for _ in 0..2 {
        let reply = t.tell(Bob, Action::TransportReplace, "main", TWO);
        assert_eq!(reply, "result");
    }
    let said = t.bob.out.iter();
    let accepts = said.filter(|output| match output {
        Output::Message { message, .. } => message.action == Action::TransportAccept,
        _ => false,
    });
    assert_eq!(accepts.count(), 1);
    assert_eq!(t.count(Bob, "modify TransportReplaced"), 1);
}

#[test]
fn a_bundle_goes_over_to_another_transport_as_a_whole() {
    for who in [Alice, Bob] {
        let mut t = running_two(pair(), ["main", "more"], true);
        let before = [Alice, Bob].map(|side| t.count(side, "writable side true"));
        t.act(who, |s, now| s.replace_transport("main", TWO, now))
            .unwrap();
        t.settle();
        for (side, before) in [Alice, Bob].into_iter().zip(before) {
            assert_eq!(t.only(side).transport(), Some(TWO));
            assert_eq!(t.bundled(side, "more"), Some("main".into()));
            assert!(t.side_is_writable(side, "more"));
            let after = t.count(side, "writable side true");
            assert_eq!(after, before + 1, "{who:?} {side:?}");
            // Whoever has data on its way hears that it is lost, whichever content it is of.
            for name in ["main", "more"] {
                let told = format!("modify TransportReplaced {{ name: {name:?} }}");
                assert_eq!(t.count(side, &told), 1, "{who:?} {side:?} {name}");
            }
        }
    }
}

#[test]
fn a_bundle_falls_back_as_a_whole() {
    for speculative in [true, false] {
        let broken = Fake {
            broken: true,
            ..fake(ONE)
        };
        let t = Table::new(Setup {
            alice: vec![broken, fake(TWO)],
            bob: vec![fake(ONE), fake(TWO)],
            channels: vec!["data"],
            config: Config {
                speculative,
                ..Config::default()
            },
            ..Setup::default()
        });
        let mut t = running_two(t, ["main", "more"], true);
        for side in [Alice, Bob] {
            assert_eq!(t.state(side), State::InProgress, "{speculative}");
            assert_eq!(t.only(side).transport(), Some(TWO));
            assert_eq!(t.bundled(side, "more"), Some("main".into()));
            assert!(t.side_is_writable(side, "more"));
        }
    }
}

#[test]
fn a_member_of_a_bundle_gives_up_the_transport_of_all() {
    for who in [Alice, Bob] {
        let mut t = running_two(pair(), ["main", "more"], true);
        assert!(t.act(who, |s, now| s.fall_back("more", now)), "{who:?}");
        t.settle();
        for side in [Alice, Bob] {
            assert_eq!(t.state(side), State::InProgress);
            assert_eq!(t.only(side).transport(), Some(TWO), "{who:?}");
            assert_eq!(t.bundled(side, "more"), Some("main".into()));
            assert!(t.side_is_writable(side, "more"));
        }
    }
}

#[test]
fn the_transport_of_a_bundle_outlives_its_first_content() {
    for who in [Alice, Bob] {
        let mut t = running_two(pair(), ["main", "more"], true);
        t.act(who, |s, now| s.remove_content("main", decline(), now))
            .unwrap();
        t.settle();
        for side in [Alice, Bob] {
            assert_eq!(t.bundled(side, "more"), None);
            assert_eq!(t.only(side).transport(), Some(ONE));
            assert!(t.side_is_writable(side, "more"));
        }
        t.act(who, |s, now| s.replace_transport("more", TWO, now))
            .unwrap();
        t.settle();
        for side in [Alice, Bob] {
            assert_eq!(t.only(side).transport(), Some(TWO));
            assert!(t.side_is_writable(side, "more"));
        }
    }
}

#[test]
fn the_content_that_was_longest_without_a_path_is_given_up_first() {
    let mut t = running_two(pair(), ["main", "more"], false);
    // Alice's sockets are numbered in their order.
    for (port, seconds) in [(1002, 49), (1001, 2)] {
        let [from, to] = [2000, port].map(|port| ([10, 0, 0, 1], port).into());
        t.datagrams.push_back((from, to, Bytes::from_static(CUT)));
        t.carry_datagrams();
        t.pass(Duration::from_secs(seconds));
    }
    let mut given_up = None;
    t.change(Alice, Action::TransportReplace, |message| {
        given_up = Some(message.contents[0].name.to_string());
    });
    assert_eq!(given_up.as_deref(), Some("more"));
}

#[test]
fn a_channel_is_gone_from_the_content_of_which_that_was_said() {
    for replaced in [false, true] {
        let mut t = running_two(pair(), ["main", "more"], false);
        let data = t.act(Alice, |s, now| {
            s.create_channel_in("more", "data", None, now)
        });
        let id = t.number(Alice, Action::TransportInfo);
        t.alice.out.clear();
        t.act(Alice, |s, now| match replaced {
            true => s.replace_transport("more", TWO, now),
            false => s.destroy_channel(data.unwrap(), now),
        })
        .unwrap();
        t.settle();
        let (name, namespace) = ("data".into(), ONE.into());
        let error = PeerError::UnknownChannel { name, namespace };
        let reply = Err(error.to_stanza_error(Dialect::JINGLE));
        let now = t.now;
        t.alice
            .manager
            .handle_input(Input::Reply { id, reply }, now);
        t.drain(Alice);
        assert!(!t.saw(Alice, "gone data"), "{replaced}");
    }
}
