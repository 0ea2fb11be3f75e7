//! Files between two of ours: every way they can go well, and every way they can end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use filekit::*;
use proptest::prelude::*;
use session_core::{Reason, ReasonCondition, testing::Parcel};
use session_file::{
    Acceptance, Completeness, Decision, Direction, Fault, File, FileClient, FileError, FileRange,
    FileVerdict, HashAlgorithm, Integrity, NameError, Outcome, Phase, Proposal, Read, TransferId,
    file_not_available, sanitize_name,
};
use std::{sync::Arc, time::Duration};

const VERIFIED: Outcome = Outcome::Received(Integrity::Verified(HashAlgorithm::Sha256));
const SENT: Outcome = Outcome::Sent { confirmed: true };

fn apps(files: &[(&str, usize)]) -> [App; 2] {
    let add = |app: App, (name, size): &(&str, usize)| app.with(name, data(name, *size));
    [files.iter().fold(App::new(), add), App::new()]
}

/// The peer has what it asks for by name.
fn provide(world: &mut session_core::testing::World, host: usize, files: &'static [(&str, usize)]) {
    set_policy(world, host, move |offer| {
        let decide = |file: &session_file::OfferedFile| {
            let known = files
                .iter()
                .find(|(name, _)| file.file.name.as_deref() == Some(name));
            let decision = match (file.direction, known) {
                (Direction::Receive, _) => Decision::Accept(Acceptance::default()),
                (Direction::Send, Some((name, size))) => {
                    Decision::Provide(File::new(name, *size as u64))
                }
                (Direction::Send, None) => Decision::Skip(file_not_available()),
            };
            (file.content.clone(), decision)
        };
        FileVerdict::Decide(offer.files.iter().map(decide).collect())
    });
}

fn selector(name: &str) -> File {
    File {
        name: Some(name.into()),
        ..File::default()
    }
}

#[test]
fn files_of_one_session_arrive_verified_over_every_carrier() {
    let files = [("a", 300_000), ("b", 0), ("c", 1), ("d", 70_001)];
    for carrier in CARRIERS {
        let mut world = world(carrier);
        accept_all(&mut world, BOB);
        let ids = offer(&mut world, &files);
        let mut apps = apps(&files);
        run(&mut world, &mut apps);
        for (id, (name, size)) in ids.iter().zip(files) {
            let theirs = other(&mut world, ALICE, id);
            assert!(
                apps[BOB].received[&theirs] == data(name, size),
                "{carrier:?} {name}"
            );
            assert_eq!(apps[BOB].ends[&theirs], Read::End(Completeness::Verified));
            assert_eq!(outcome(&mut world, BOB, &theirs), Some(VERIFIED));
            assert_eq!(
                outcome(&mut world, ALICE, id),
                Some(SENT),
                "{carrier:?} {name}"
            );
            let kept = look(&mut world, BOB, &theirs, |t| t.name().unwrap().to_string());
            assert_eq!(kept, name);
        }
    }
}

#[test]
fn who_lets_go_of_what_it_has_ends_well_and_of_what_it_has_not_cancels() {
    for (has_it, expected) in [
        (true, ReasonCondition::Success),
        (false, ReasonCondition::Cancel),
    ] {
        let files = [("a", 300_000)];
        let mut world = world(Carrier::Stream);
        accept_all(&mut world, BOB);
        let ids = offer(&mut world, &files);
        let mut apps = apps(&files);
        apps[BOB].reads = (!has_it).then_some(1_000);
        let under_way = world.run_until(Duration::from_secs(60), |world| {
            for (host, app) in apps.iter_mut().enumerate() {
                app.step(world, host);
            }
            let some = |read: &Vec<u8>| !has_it && !read.is_empty();
            !apps[BOB].ends.is_empty() || apps[BOB].received.values().any(some)
        });
        assert!(under_way);
        let theirs = other(&mut world, BOB, &ids[0]);
        world.hold(true);
        world.update(BOB, |manager, now| {
            FileClient::release(manager, theirs.session, now).unwrap()
        });
        let reasons = world.held().iter().filter_map(|envelope| {
            let Parcel::Message { message, .. } = &envelope.parcel else {
                return None;
            };
            message.reason.clone()
        });
        let reasons: Vec<_> = reasons.map(|reason| reason.condition).collect();
        assert_eq!(reasons, [expected], "{has_it}");
    }
}

#[test]
fn what_is_asked_for_is_sent_and_what_is_not_there_is_refused() {
    for carrier in CARRIERS {
        let mut world = world(carrier);
        provide(&mut world, BOB, &[("there", 200_000)]);
        let asks = ["there", "gone"].map(|name| Proposal::Request(selector(name), None));
        let ids = open(&mut world, ALICE, asks.into()).unwrap();
        let mut apps = [App::new(), App::new().with("there", data("there", 200_000))];
        run(&mut world, &mut apps);
        assert!(apps[ALICE].received[&ids[0]] == data("there", 200_000));
        assert_eq!(outcome(&mut world, ALICE, &ids[0]), Some(VERIFIED));
        let declined = Outcome::Failed(Fault::Declined(Some(file_not_available())));
        assert_eq!(outcome(&mut world, ALICE, &ids[1]), Some(declined));
    }
    let mut world = world(Carrier::Stream);
    provide(&mut world, BOB, &[]);
    let ids = open(
        &mut world,
        ALICE,
        vec![Proposal::Request(selector("x"), None)],
    )
    .unwrap();
    run(&mut world, &mut [App::new(), App::new()]);
    assert!(matches!(
        outcome(&mut world, ALICE, &ids[0]),
        Some(Outcome::Failed(Fault::Session(_)))
    ));
}

#[test]
fn both_offer_and_ask_in_one_session_and_add_to_it_while_it_runs() {
    let mut world = world(Carrier::Stream);
    provide(&mut world, ALICE, &[]);
    provide(&mut world, BOB, &[("wanted", 90_000)]);
    let proposals = vec![
        Proposal::Offer(File::new("given", 2_000_000)),
        Proposal::Request(selector("wanted"), None),
    ];
    let ids = open(&mut world, ALICE, proposals).unwrap();
    let sources = [
        ("given", 2_000_000),
        ("wanted", 90_000),
        ("more", 50_000),
        ("back", 60_000),
    ];
    let mut both = apps(&sources);
    both[BOB] = sources.iter().fold(App::new(), |app, (name, size)| {
        app.with(name, data(name, *size))
    });
    both[BOB].reads = Some(1_000);
    world.run_for(Duration::from_millis(10));
    let session = only(&mut world, BOB);
    for (host, session, name, size) in [
        (ALICE, ids[0].session, "more", 50_000),
        (BOB, session, "back", 60_000),
    ] {
        world.update(host, |manager, now| {
            FileClient::add(
                manager,
                session,
                Proposal::Offer(File::new(name, size)),
                now,
            )
            .unwrap()
        });
    }
    for _ in 0..20 {
        both.iter_mut()
            .enumerate()
            .for_each(|(host, app)| app.step(&mut world, host));
        world.settle();
    }
    both[BOB].reads = None;
    run(&mut world, &mut both);
    for host in [ALICE, BOB] {
        let outcomes = client(&mut world, host, |client| {
            let session = client.sessions().next().unwrap();
            client
                .transfers(session)
                .map(|t| (t.direction(), t.outcome().cloned()))
                .collect::<Vec<_>>()
        });
        assert_eq!(outcomes.len(), 4);
        for (direction, outcome) in outcomes {
            let good = if direction == Direction::Send {
                SENT
            } else {
                VERIFIED
            };
            assert_eq!(outcome, Some(good), "host {host}");
        }
    }
}

#[test]
fn one_is_skipped_one_is_renamed_and_the_rest_is_taken() {
    let mut world = world(Carrier::Stream);
    let ids = offer(
        &mut world,
        &[("no", 10), ("../../etc/cron.d/x y", 20), ("yes", 30)],
    );
    world.settle();
    let theirs = client(&mut world, BOB, |client| client.offers().next().unwrap());
    assert_eq!(theirs.files.len(), 3);
    let content = |at: usize| theirs.files[at].content.clone();
    let renamed = Acceptance {
        name: Some(sanitize_name("harmless").unwrap()),
        ..Acceptance::default()
    };
    let decisions = vec![
        (content(1), Decision::Accept(renamed)),
        (content(2), Decision::Accept(Acceptance::default())),
    ];
    world.update(BOB, |manager, now| {
        FileClient::answer(manager, theirs.session, decisions, now).unwrap()
    });
    let mut both = [App::new(), App::new()];
    for name in ["../../etc/cron.d/x y", "yes"] {
        let size = if name == "yes" { 30 } else { 20 };
        both[ALICE].sources.insert(name.into(), data(name, size));
    }
    run(&mut world, &mut both);
    let reason = Reason::new(ReasonCondition::Decline);
    assert_eq!(
        outcome(&mut world, ALICE, &ids[0]),
        Some(Outcome::Failed(Fault::Declined(Some(reason))))
    );
    assert_eq!(outcome(&mut world, ALICE, &ids[1]), Some(SENT));
    let id = other(&mut world, ALICE, &ids[1]);
    assert_eq!(
        look(&mut world, BOB, &id, |t| t.name().unwrap().to_string()),
        "harmless"
    );
    assert_eq!(
        apps_received(&both[BOB], &id),
        data("../../etc/cron.d/x y", 20)
    );
}

fn apps_received(app: &App, id: &TransferId) -> Vec<u8> {
    app.received[id].clone()
}

#[test]
fn a_name_that_is_none_must_be_replaced_and_a_policy_that_does_not_is_a_refusal() {
    let mut world = world(Carrier::Stream);
    offer(&mut world, &[("..", 10)]);
    world.settle();
    let theirs = client(&mut world, BOB, |client| client.offers().next().unwrap());
    let decisions = vec![(
        theirs.files[0].content.clone(),
        Decision::Accept(Acceptance::default()),
    )];
    let result = world.update(BOB, |manager, now| {
        FileClient::answer(manager, theirs.session, decisions, now)
    });
    assert_eq!(result, Err(FileError::Name(NameError::Directory)));
    assert_eq!(
        client(&mut world, BOB, |client| client.offers().count()),
        1,
        "it still waits"
    );

    let mut world = filekit::world(Carrier::Stream);
    accept_all(&mut world, BOB);
    let ids = offer(&mut world, &[("nul.txt", 10)]);
    run(&mut world, &mut [App::new(), App::new()]);
    assert!(matches!(
        outcome(&mut world, ALICE, &ids[0]),
        Some(Outcome::Failed(_))
    ));
}

#[test]
fn a_receiver_goes_on_where_it_was_and_verifies_what_can_be() {
    let whole = data("f", 500_000);
    for (carrier, primed, primes) in [
        (Carrier::Stream, true, true),
        (Carrier::PseudoTcp, true, true),
        (Carrier::Plain, false, true),
        (Carrier::Stream, true, false),
    ] {
        let mut world = world(carrier);
        let part = whole.clone();
        set_policy(&mut world, BOB, move |offer| {
            let acceptance = Acceptance {
                offset: 300_000,
                prefix: primed.then(|| hashed(&part[..300_000])),
                ..Acceptance::default()
            };
            let content = offer.files[0].content.clone();
            FileVerdict::Decide(vec![(content, Decision::Accept(acceptance))])
        });
        let ids = offer(&mut world, &[("f", 500_000)]);
        let mut both = apps(&[("f", 500_000)]);
        both[ALICE].primes = primes;
        run(&mut world, &mut both);
        let id = other(&mut world, ALICE, &ids[0]);
        assert!(both[BOB].received[&id] == whole[300_000..]);
        // Unless both show what is in front, only the part can be compared.
        let integrity = match primed && primes {
            true => Integrity::Verified(HashAlgorithm::Sha256),
            false => Integrity::Part(HashAlgorithm::Sha256),
        };
        let outcome = outcome(&mut world, BOB, &id);
        assert_eq!(outcome, Some(Outcome::Received(integrity)), "{carrier:?}");
        let sent = look(&mut world, ALICE, &ids[0], |t| (t.offset(), t.bytes()));
        assert_eq!(sent, (300_000, Some(200_000)));
    }
}

#[test]
fn a_receiver_that_has_something_else_in_front_is_told_before_a_byte_is_sent() {
    let mut world = world(Carrier::Stream);
    set_policy(&mut world, BOB, move |offer| {
        let acceptance = Acceptance {
            offset: 1_000,
            prefix: Some(hashed(&[7; 1_000])),
            ..Acceptance::default()
        };
        let content = offer.files[0].content.clone();
        FileVerdict::Decide(vec![(content, Decision::Accept(acceptance))])
    });
    let ids = offer(&mut world, &[("f", 500_000)]);
    let mut both = apps(&[("f", 500_000)]);
    run(&mut world, &mut both);
    assert_eq!(
        outcome(&mut world, ALICE, &ids[0]),
        Some(Outcome::Failed(Fault::Changed))
    );
    let id = other(&mut world, ALICE, &ids[0]);
    assert!(both[BOB].received[&id].is_empty());
    assert!(matches!(both[BOB].ends[&id], Read::Broken(_)));
}

#[test]
fn a_part_that_was_not_of_this_file_is_noticed() {
    let mut world = world(Carrier::Stream);
    set_policy(&mut world, BOB, move |offer| {
        let acceptance = Acceptance {
            offset: 1_000,
            prefix: Some(hashed(&[7; 1_000])),
            ..Acceptance::default()
        };
        FileVerdict::Decide(vec![(
            offer.files[0].content.clone(),
            Decision::Accept(acceptance),
        )])
    });
    let file = File::new("f", 5_000).with_hash(hashed(&data("f", 5_000)).hashes()[1].clone());
    let ids = open(&mut world, ALICE, vec![Proposal::Offer(file)]).unwrap();
    let mut both = apps(&[("f", 5_000)]);
    both[ALICE].primes = false;
    run(&mut world, &mut both);
    let id = other(&mut world, ALICE, &ids[0]);
    let fault = Fault::WrongHash(HashAlgorithm::Sha256);
    assert_eq!(outcome(&mut world, BOB, &id), Some(Outcome::Failed(fault)));
}

#[test]
fn a_part_in_the_middle_can_be_asked_for() {
    let mut world = world(Carrier::Stream);
    provide(&mut world, BOB, &[("f", 100_000)]);
    let range = FileRange {
        offset: 40_000,
        length: Some(10_000),
        hashes: Vec::new(),
    };
    let ids = open(
        &mut world,
        ALICE,
        vec![Proposal::Request(selector("f").with_range(range), None)],
    )
    .unwrap();
    let mut both = [App::new(), App::new().with("f", data("f", 100_000))];
    run(&mut world, &mut both);
    assert!(both[ALICE].received[&ids[0]] == data("f", 100_000)[40_000..50_000]);
    assert_eq!(
        outcome(&mut world, ALICE, &ids[0]),
        Some(Outcome::Received(Integrity::Part(HashAlgorithm::Sha256)))
    );
}

/// Who has a part of another file, and asks for the rest.
#[test]
fn what_is_behind_the_end_is_answered_with_the_whole() {
    let mut world = world(Carrier::Stream);
    provide(&mut world, BOB, &[("f", 1_000)]);
    let asked = selector("f").with_range(FileRange::from_offset(5_000));
    let ids = open(&mut world, ALICE, vec![Proposal::Request(asked, None)]).unwrap();
    let mut both = [App::new(), App::new().with("f", data("f", 1_000))];
    run(&mut world, &mut both);
    assert!(both[ALICE].received[&ids[0]] == data("f", 1_000));
}

#[test]
fn a_peer_without_parts_sends_all_of_it_and_one_that_is_not_offered_parts_gets_none() {
    let mut world = world(Carrier::Stream);
    set_policy(&mut world, BOB, |offer| {
        let file = File {
            range: None,
            ..File::new("f", 50_000)
        };
        FileVerdict::Decide(vec![(
            offer.files[0].content.clone(),
            Decision::Provide(file),
        )])
    });
    let asked = selector("f").with_range(FileRange::from_offset(20_000));
    let ids = open(&mut world, ALICE, vec![Proposal::Request(asked, None)]).unwrap();
    let mut both = [App::new(), App::new().with("f", data("f", 50_000))];
    run(&mut world, &mut both);
    assert_eq!(
        look(&mut world, ALICE, &ids[0], |t| t.offset()),
        0,
        "it begins at the beginning"
    );
    assert!(both[ALICE].received[&ids[0]] == data("f", 50_000));

    let mut world = filekit::world(Carrier::Stream);
    open(
        &mut world,
        ALICE,
        vec![Proposal::Offer(File {
            range: None,
            ..File::new("f", 10)
        })],
    )
    .unwrap();
    world.settle();
    let theirs = client(&mut world, BOB, |client| client.offers().next().unwrap());
    let acceptance = Acceptance {
        offset: 5,
        ..Acceptance::default()
    };
    let decisions = vec![(
        theirs.files[0].content.clone(),
        Decision::Accept(acceptance),
    )];
    let result = world.update(BOB, |manager, now| {
        FileClient::answer(manager, theirs.session, decisions, now)
    });
    assert_eq!(result, Err(FileError::Range));
}

#[test]
fn a_source_that_changed_or_ended_early_is_not_sent_as_if_it_were_whole() {
    let mut world = world(Carrier::Stream);
    accept_all(&mut world, BOB);
    let promised = File::new("f", 1_000).with_hash(hashed(&data("g", 1_000)).hashes()[1].clone());
    let ids = open(&mut world, ALICE, vec![Proposal::Offer(promised)]).unwrap();
    run(&mut world, &mut apps(&[("f", 1_000)]));
    assert_eq!(
        outcome(&mut world, ALICE, &ids[0]),
        Some(Outcome::Failed(Fault::Changed))
    );
    let id = other(&mut world, ALICE, &ids[0]);
    assert!(matches!(
        outcome(&mut world, BOB, &id),
        Some(Outcome::Failed(_))
    ));

    let mut world = filekit::world(Carrier::Stream);
    accept_all(&mut world, BOB);
    let ids = offer(&mut world, &[("f", 1_000)]);
    world.settle();
    world.update(ALICE, |manager, now| {
        let mut bytes = data("f", 400);
        assert_eq!(
            FileClient::write(manager, &ids[0], &mut bytes, now),
            Ok(400)
        );
        let short = FileError::TooLittle {
            written: 400,
            expected: 1_000,
        };
        assert_eq!(FileClient::finish(manager, &ids[0], now), Err(short));
        let mut much = data("f", 601);
        assert_eq!(
            FileClient::write(manager, &ids[0], &mut much, now),
            Err(FileError::TooMuch(1_000))
        );
        assert_eq!(
            FileClient::write(manager, &ids[0], &mut data("f", 600), now),
            Ok(600)
        );
        assert_eq!(
            FileClient::write(manager, &ids[0], &mut data("f", 1), now),
            Err(FileError::TooMuch(1_000))
        );
    });
}

#[test]
fn a_size_that_is_not_known_ends_with_the_stream() {
    let mut world = world(Carrier::Stream);
    accept_all(&mut world, BOB);
    let file = File {
        size: None,
        ..File::new("f", 0)
    };
    let ids = open(&mut world, ALICE, vec![Proposal::Offer(file)]).unwrap();
    let mut both = apps(&[("f", 123_456)]);
    run(&mut world, &mut both);
    let id = other(&mut world, ALICE, &ids[0]);
    assert!(both[BOB].received[&id] == data("f", 123_456));
    assert_eq!(outcome(&mut world, BOB, &id), Some(VERIFIED));
    assert_eq!(outcome(&mut world, ALICE, &ids[0]), Some(SENT));
}

#[test]
fn one_of_many_is_cancelled_by_either_side_and_the_others_arrive() {
    for host in [ALICE, BOB] {
        let mut world = world(Carrier::Stream);
        accept_all(&mut world, BOB);
        let files = [("a", 3_000_000), ("b", 3_000_000)];
        let ids = offer(&mut world, &files);
        let mut both = apps(&files);
        both[BOB].reads = Some(1_000);
        for _ in 0..10 {
            both.iter_mut()
                .enumerate()
                .for_each(|(host, app)| app.step(&mut world, host));
            world.settle();
        }
        let theirs = other(&mut world, ALICE, &ids[0]);
        let mine = [&ids[0], &theirs][host].clone();
        let reason = Reason::new(ReasonCondition::Cancel);
        world.update(host, |manager, now| {
            FileClient::cancel(manager, &mine, reason.clone(), now).unwrap()
        });
        both[BOB].reads = None;
        run(&mut world, &mut both);
        let aborted = Outcome::Failed(Fault::Aborted(Some(reason)));
        assert_eq!(outcome(&mut world, ALICE, &ids[0]), Some(aborted.clone()));
        assert_eq!(outcome(&mut world, BOB, &theirs), Some(aborted));
        assert_eq!(outcome(&mut world, ALICE, &ids[1]), Some(SENT));
    }
}

#[test]
fn a_transport_that_fails_is_replaced_before_a_byte_and_under_way() {
    let mut early = world(Carrier::Failing(Duration::ZERO));
    accept_all(&mut early, BOB);
    let ids = offer(&mut early, &[("a", 100_000)]);
    let mut both = apps(&[("a", 100_000)]);
    run(&mut early, &mut both);
    assert_eq!(outcome(&mut early, ALICE, &ids[0]), Some(SENT));

    let mut late = world(Carrier::Failing(Duration::from_millis(100)));
    late.set_network(session_core::testing::Conditions::with_delay(
        Duration::from_millis(30),
    ));
    accept_all(&mut late, BOB);
    let ids = offer(&mut late, &[("a", 50_000_000)]);
    let mut both = apps(&[("a", 50_000_000)]);
    run(&mut late, &mut both);
    assert_eq!(outcome(&mut late, ALICE, &ids[0]), Some(SENT));
    let id = other(&mut late, ALICE, &ids[0]);
    assert!(both[BOB].received[&id] == data("a", 50_000_000));
}

#[test]
fn a_receiver_that_does_not_read_holds_its_peer_back() {
    let mut world = world_with(Carrier::Plain, 1, |config| {
        config.limits.send_bytes = 10_000;
        config.limits.receive_bytes = 20_000;
    });
    accept_all(&mut world, BOB);
    let ids = offer(&mut world, &[("a", 1_000_000)]);
    let mut both = apps(&[("a", 1_000_000)]);
    both[BOB].reads = Some(0);
    for _ in 0..200 {
        both.iter_mut()
            .enumerate()
            .for_each(|(host, app)| app.step(&mut world, host));
        world.settle();
    }
    let id = other(&mut world, ALICE, &ids[0]);
    let held = look(&mut world, BOB, &id, |t| t.readable());
    let limit = 20_000 + plain::WINDOW as usize;
    assert!((20_000..=limit).contains(&held), "{held} bytes are held");
    both[BOB].reads = None;
    run(&mut world, &mut both);
    assert_eq!(outcome(&mut world, BOB, &id), Some(VERIFIED));
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    let mut world = world(Carrier::Stream);
    assert_eq!(open(&mut world, ALICE, Vec::new()), Err(FileError::Nothing));
    let many = vec![Proposal::Offer(File::new("a", 1)); 17];
    let limit = FileError::TooMany {
        limit: "contents",
        max: 16,
    };
    assert_eq!(open(&mut world, ALICE, many), Err(limit));
    let ids = offer(&mut world, &[("a", 5)]);
    world.settle();
    let id = TransferId {
        session: client(&mut world, BOB, |c| c.sessions().next().unwrap()),
        content: ids[0].content.clone(),
    };
    let now = |world: &mut session_core::testing::World, host, id: &TransferId| {
        world.update(host, |manager, now| {
            FileClient::write(manager, id, &mut data("a", 5), now)
        })
    };
    assert_eq!(
        now(&mut world, ALICE, &ids[0]),
        Err(FileError::NotOpen(ids[0].clone()))
    );
    let wrong = vec![(id.content.clone(), Decision::Provide(File::new("a", 5)))];
    let nobody: Arc<str> = "nobody".into();
    let unknown = vec![(nobody.clone(), Decision::Accept(Acceptance::default()))];
    world.update(BOB, |manager, now| {
        let answer = |manager: &mut session_core::SessionManager, d| {
            FileClient::answer(manager, id.session, d, now)
        };
        assert_eq!(answer(manager, wrong), Err(FileError::WrongWay(id.clone())));
        let missing = TransferId {
            session: id.session,
            content: nobody,
        };
        assert_eq!(answer(manager, unknown), Err(FileError::Unknown(missing)));
        let take = vec![(id.content.clone(), Decision::Accept(Acceptance::default()))];
        assert_eq!(answer(manager, take.clone()), Ok(()));
        assert_eq!(
            answer(manager, take),
            Err(FileError::NotOffered(id.clone()))
        );
        assert_eq!(
            FileClient::write(manager, &id, &mut data("a", 5), now),
            Err(FileError::WrongWay(id.clone()))
        );
    });
    assert_eq!(look(&mut world, BOB, &id, |t| t.phase()), Phase::Open);
    run(&mut world, &mut apps(&[("a", 5)]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Whatever the sizes, pieces, limits and carriers, every file arrives whole and verified, and both know it.
    #[test]
    fn every_file_arrives(
        carrier in prop::sample::select(&CARRIERS[..]),
        sizes in prop::collection::vec(prop_oneof![Just(0usize), 0..3_000usize, 0..200_000usize], 1..5),
        pieces in (500..70_000usize, 500..70_000usize),
        send_bytes in 1_000..60_000usize,
        receive_bytes in 1_000..60_000usize,
        offsets in prop::collection::vec(0.0..1.0f64, 4),
        seed in any::<u64>(),
    ) {
        let mut world = world_with(carrier, seed, |config| {
            config.limits.send_bytes = send_bytes;
            config.limits.receive_bytes = receive_bytes;
        });
        let names: Vec<String> = (0..sizes.len()).map(|at| format!("f{at}")).collect();
        let starts: Vec<usize> = sizes.iter().zip(&offsets).map(|(size, at)| (*size as f64 * at) as usize).collect();
        let (sizes_there, starts_there) = (sizes.clone(), starts.clone());
        set_policy(&mut world, BOB, move |offer| {
            let accept = |(at, file): (usize, &session_file::OfferedFile)| {
                let bytes = data(&format!("f{at}"), sizes_there[at]);
                let start = starts_there[at];
                let prefix = Some(hashed(&bytes[..start]));
                (file.content.clone(), Decision::Accept(Acceptance { offset: start as u64, prefix, ..Acceptance::default() }))
            };
            FileVerdict::Decide(offer.files.iter().enumerate().map(accept).collect())
        });
        let files: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(sizes.iter().copied()).collect();
        let ids = offer(&mut world, &files);
        let mut both = apps(&files);
        (both[ALICE].piece, both[BOB].piece) = pieces;
        run(&mut world, &mut both);
        for ((id, (name, size)), start) in ids.iter().zip(&files).zip(starts) {
            let theirs = other(&mut world, ALICE, id);
            prop_assert!(both[BOB].received[&theirs] == data(name, *size)[start..]);
            prop_assert_eq!(outcome(&mut world, BOB, &theirs), Some(VERIFIED));
            prop_assert_eq!(outcome(&mut world, ALICE, id), Some(SENT));
        }
    }
}
