//! What comes late: the hash of a file that is here already, the first byte behind a part, an answer to what was added, and a look
//! at what has arrived.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use filekit::*;
use session_core::{Reason, ReasonCondition, testing::World};
use session_file::{
    Acceptance, Completeness, Decision, Fault, File, FileClient, FileError, FileVerdict,
    HashAlgorithm, Integrity, OfferedFile, Outcome, Proposal, Read, TransferId,
};
use std::time::Duration;

const VERIFIED: Outcome = Outcome::Received(Integrity::Verified(HashAlgorithm::Sha256));
const SENT: Outcome = Outcome::Sent { confirmed: true };

/// Bob has so much of a file from its beginning.
fn has(world: &mut World, count: usize) {
    set_policy(world, BOB, move |offer| {
        let file = &offer.files[0];
        let size = file.file.size.unwrap() as usize;
        let acceptance = Acceptance {
            offset: count as u64,
            prefix: Some(prefix(&data("f", size)[..count])),
            ..Acceptance::default()
        };
        FileVerdict::Decide(vec![(file.content.clone(), Decision::Accept(acceptance))])
    });
}

#[test]
fn a_file_that_is_here_is_recognised_however_long_its_sender_hashes_it() {
    let whole = prefix(&data("f", 500_000));
    for carrier in CARRIERS {
        let mut world = world_with(carrier, 1, |config| config.hashes_outside = true);
        has(&mut world, 500_000);
        let id = offer(&mut world, &[("f", 500_000)]).remove(0);
        world.run_for(Duration::from_secs(1));
        let theirs = other(&mut world, ALICE, &id);
        world.update(BOB, |manager, now| {
            FileClient::show(manager, &theirs, &whole, now).unwrap();
        });
        // Of 120 GB.
        world.run_for(Duration::from_secs(15 * 60));
        world.update(ALICE, |manager, now| {
            FileClient::prime(manager, &id, whole.clone(), now).unwrap();
            FileClient::show(manager, &id, &whole, now).unwrap();
        });
        run(&mut world, &mut [App::new(), App::new()]);
        assert_eq!(
            outcome(&mut world, BOB, &theirs),
            Some(VERIFIED),
            "{carrier:?}"
        );
        assert_eq!(outcome(&mut world, ALICE, &id), Some(SENT), "{carrier:?}");
    }
}

#[test]
fn a_sender_that_names_no_hash_behind_the_end_of_its_stream_is_not_waited_for() {
    let mut world = world_with(Carrier::Stream, 1, |config| {
        config.hashes_outside = true;
        // The end of the stream is all that says that it is one.
        config.moves = false;
    });
    has(&mut world, 500_000);
    let id = offer(&mut world, &[("f", 500_000)]).remove(0);
    world.run_for(Duration::from_secs(1));
    let theirs = other(&mut world, ALICE, &id);
    let whole = prefix(&data("f", 500_000));
    world.update(BOB, |manager, now| {
        FileClient::show(manager, &theirs, &whole, now).unwrap();
    });
    world.run_for(Duration::from_secs(20));
    assert_eq!(look(&mut world, BOB, &theirs, |t| t.integrity()), None);
    // The end of the stream comes, and nothing that is said of it.
    world.update(ALICE, |manager, now| {
        FileClient::prime(manager, &id, whole.clone(), now).unwrap();
    });
    world.hold(true);
    world.update(ALICE, |manager, now| {
        FileClient::show(manager, &id, &whole, now).unwrap();
    });
    world.run_for(Duration::from_secs(7));
    assert_eq!(
        look(&mut world, BOB, &theirs, |t| t.integrity()),
        Some(Integrity::Unverified)
    );
}

#[test]
fn a_sender_may_hash_what_is_in_front_of_a_part_for_long() {
    let mut world = world(Carrier::Stream);
    has(&mut world, 300_000);
    let id = offer(&mut world, &[("f", 500_000)]).remove(0);
    world.run_for(Duration::from_secs(15 * 60));
    let mut apps = [App::new().with("f", data("f", 500_000)), App::new()];
    run(&mut world, &mut apps);
    let theirs = other(&mut world, ALICE, &id);
    assert_eq!(outcome(&mut world, BOB, &theirs), Some(VERIFIED));
    assert_eq!(outcome(&mut world, ALICE, &id), Some(SENT));
}

#[test]
fn a_sender_that_sends_nothing_from_the_beginning_on_is_given_up() {
    let mut world = world(Carrier::Stream);
    accept_all(&mut world, BOB);
    let id = offer(&mut world, &[("f", 500_000)]).remove(0);
    world.run_for(Duration::from_secs(15 * 60));
    let theirs = other(&mut world, ALICE, &id);
    let outcome = outcome(&mut world, BOB, &theirs);
    assert!(matches!(outcome, Some(Outcome::Failed(_))), "{outcome:?}");
}

#[test]
fn what_has_arrived_can_be_shown_when_its_sender_has_ended_the_session() {
    let mut world = world_with(Carrier::Stream, 1, |config| {
        // As others do: their streams do not move, and they end what was delivered.
        config.moves = false;
        config.linger = Duration::ZERO;
    });
    accept_all(&mut world, BOB);
    let id = offer(&mut world, &[("f", 10_000)]).remove(0);
    world.run_for(Duration::from_secs(1));
    let theirs = other(&mut world, ALICE, &id);
    App::new()
        .with("f", data("f", 10_000))
        .step(&mut world, ALICE);
    world.run_for(Duration::from_secs(1));
    assert!(is_over(&world, BOB), "Alice has ended it");
    assert_eq!(outcome(&mut world, BOB, &theirs), Some(VERIFIED));
    world.update(BOB, |manager, now| {
        let read = FileClient::read(manager, &theirs, usize::MAX, now).unwrap();
        assert!(read == Read::Bytes(data("f", 10_000)));
        let whole = prefix(&data("f", 10_000));
        assert_eq!(FileClient::show(manager, &theirs, &whole, now), Ok(()));
        let end = FileClient::read(manager, &theirs, 1, now).unwrap();
        assert_eq!(end, Read::End(Completeness::Verified));
    });
}

fn accept(file: &OfferedFile) -> (std::sync::Arc<str>, Decision) {
    (
        file.content.clone(),
        Decision::Accept(Acceptance::default()),
    )
}

/// Adds a file to a session.
fn add(world: &mut World, host: usize, id: &TransferId, name: &str) -> TransferId {
    world.update(host, |manager, now| {
        let file = Proposal::Offer(File::new(name, 50_000));
        FileClient::add(manager, id.session, file, now).unwrap()
    })
}

/// Says yes to all that waits at a host, and names it.
fn answer_all(world: &mut World, host: usize) -> Vec<String> {
    world.update(host, |manager, now| {
        let client = manager.find_client::<FileClient>().unwrap();
        let offers: Vec<_> = client.offers().collect();
        let mut names = Vec::new();
        for offer in offers {
            let decisions = offer.files.iter().map(accept).collect();
            FileClient::answer(manager, offer.session, decisions, now).unwrap();
            let name = |file: &OfferedFile| file.file.name.as_deref().unwrap().to_owned();
            names.extend(offer.files.iter().map(name));
        }
        names
    })
}

fn both() -> [App; 2] {
    ["a", "b", "c"]
        .iter()
        .fold([App::new(), App::new()], |[alice, bob]: [App; 2], name| {
            let bytes = data(name, 50_000);
            [alice.with(name, bytes.clone()), bob.with(name, bytes)]
        })
}

#[test]
fn what_is_added_to_an_offer_is_decided_about_after_it() {
    let mut world = world(Carrier::Stream);
    let a = offer(&mut world, &[("a", 50_000)]).remove(0);
    world.run_for(Duration::from_secs(1));
    let b = add(&mut world, ALICE, &a, "b");
    world.run_for(Duration::from_secs(1));
    assert_eq!(answer_all(&mut world, BOB), ["a"]);
    assert_eq!(answer_all(&mut world, BOB), ["b"]);
    run(&mut world, &mut both());
    for id in [a, b] {
        assert_eq!(outcome(&mut world, ALICE, &id), Some(SENT));
        let theirs = other(&mut world, ALICE, &id);
        assert_eq!(outcome(&mut world, BOB, &theirs), Some(VERIFIED));
    }
}

/// Bob decides about what is added at once, and about what was offered later.
#[test]
fn what_is_decided_about_a_file_that_is_added_says_nothing_of_the_offer() {
    for (takes, adder) in [(true, ALICE), (false, ALICE), (true, BOB), (false, BOB)] {
        let mut world = world(Carrier::Stream);
        set_policy(&mut world, 1 - adder, move |offer| {
            if offer.files[0].file.name.as_deref() == Some("a") {
                return FileVerdict::Ask;
            }
            match takes {
                true => FileVerdict::Decide(offer.files.iter().map(accept).collect()),
                false => FileVerdict::Decline(ReasonCondition::Busy.into()),
            }
        });
        let a = offer(&mut world, &[("a", 50_000)]).remove(0);
        world.run_for(Duration::from_secs(1));
        let theirs = other(&mut world, ALICE, &a);
        let b = add(&mut world, adder, [&a, &theirs][adder], "b");
        world.run_for(Duration::from_secs(1));
        assert_eq!(outcome(&mut world, ALICE, &a), None, "it waits for Bob");
        assert_eq!(answer_all(&mut world, BOB), ["a"]);
        run(&mut world, &mut both());
        assert_eq!(outcome(&mut world, ALICE, &a), Some(SENT));
        assert_eq!(outcome(&mut world, BOB, &theirs), Some(VERIFIED));
        let reason = Reason::new(ReasonCondition::Busy);
        let expected = match takes {
            true => SENT,
            false => Outcome::Failed(Fault::Declined(Some(reason))),
        };
        let ended = outcome(&mut world, adder, &b);
        assert_eq!(ended, Some(expected), "{takes} {adder}");
    }
}

#[test]
fn an_offer_that_is_declined_takes_with_it_what_was_added() {
    let mut world = world(Carrier::Stream);
    let a = offer(&mut world, &[("a", 50_000)]).remove(0);
    world.run_for(Duration::from_secs(1));
    let b = add(&mut world, ALICE, &a, "b");
    world.run_for(Duration::from_secs(1));
    let session = only(&mut world, BOB);
    world.update(BOB, |manager, now| {
        FileClient::answer(manager, session, Vec::new(), now).unwrap();
    });
    run(&mut world, &mut both());
    for id in [a, b] {
        let ended = outcome(&mut world, ALICE, &id);
        assert!(matches!(ended, Some(Outcome::Failed(_))), "{ended:?}");
    }
}

#[test]
fn what_is_added_waits_until_it_is_named() {
    let mut world = world(Carrier::Stream);
    let a = offer(&mut world, &[("a", 50_000)]).remove(0);
    world.run_for(Duration::from_secs(1));
    assert_eq!(answer_all(&mut world, BOB), ["a"]);
    let [b, c] = ["b", "c"].map(|name| add(&mut world, ALICE, &a, name));
    world.run_for(Duration::from_secs(1));
    let theirs = other(&mut world, ALICE, &b);
    world.update(BOB, |manager, now| {
        let take = vec![(
            theirs.content.clone(),
            Decision::Accept(Acceptance::default()),
        )];
        FileClient::answer(manager, theirs.session, take.clone(), now).unwrap();
        let again = FileClient::answer(manager, theirs.session, take, now);
        assert_eq!(again, Err(FileError::NotOffered(theirs)));
    });
    world.run_for(Duration::from_secs(1));
    assert_eq!(answer_all(&mut world, BOB), ["c"]);
    run(&mut world, &mut both());
    for id in [a, b, c] {
        assert_eq!(outcome(&mut world, ALICE, &id), Some(SENT));
    }
}
