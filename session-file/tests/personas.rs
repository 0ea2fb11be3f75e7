//! Files with other people's clients, in both roles: who names which hash, who closes, who verifies.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use filekit::{
    persona::{Diary, Habits, Persona, all, hashes},
    *,
};
use session_core::{Config, testing::World};
use session_file::{
    Completeness, FILE_TRANSFER, Fault, FileClient, Hash, HashAlgorithm, Integrity, Outcome, Read,
    TransferId,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// Alice and Bob; one of them is somebody else's client.
fn meet(stranger: usize, persona: Persona) -> (World, Arc<Mutex<Diary>>) {
    let mut world = World::new(7);
    let diary = persona.diary.clone();
    let mut persona = Some(persona);
    for (host, name) in NAMES.into_iter().enumerate() {
        world.add_host(name, Config::default(), |manager| {
            add_transports(manager, Carrier::Stream, host)?;
            match host == stranger {
                true => manager.add_client(persona.take().unwrap()),
                false => manager.add_client(FileClient::new(config(Carrier::Stream))),
            }
        });
    }
    (world, diary)
}

fn run_alone(world: &mut World, host: usize, app: &mut App) -> Duration {
    let start = world.time();
    let done = world.run_until(Duration::from_secs(600), |world| {
        app.step(world, host);
        is_over(world, ALICE) && is_over(world, BOB)
    });
    assert!(done, "both sessions end");
    app.step(world, host);
    world.check();
    world.time() - start
}

fn sends_to_us(
    habits: &Habits,
    lie: Option<Hash>,
) -> (World, App, TransferId, Arc<Mutex<Diary>>, Duration) {
    let bytes = data("theirs", 300_000);
    let mut persona = Persona::new(habits.clone(), bytes.clone());
    persona.lie = lie;
    let (mut world, diary) = meet(ALICE, persona);
    accept_all(&mut world, BOB);
    let offer = Persona::description(habits, "theirs", &bytes);
    world.call(ALICE, BOB, FILE_TRANSFER, &offer).unwrap();
    let mut app = App::new();
    let took = run_alone(&mut world, BOB, &mut app);
    let session = only(&mut world, BOB);
    let id = client(&mut world, BOB, |client| {
        let content = client.transfers(session).next().unwrap().content().clone();
        TransferId { session, content }
    });
    (world, app, id, diary, took)
}

#[test]
fn every_client_sends_to_us_and_its_hash_is_compared_as_far_as_it_names_one() {
    for habits in all() {
        let (mut world, app, id, diary, took) = sends_to_us(&habits, None);
        assert!(
            app.received[&id] == data("theirs", 300_000),
            "{}",
            habits.name
        );
        assert_eq!(
            app.ends[&id],
            Read::End(Completeness::Verified),
            "{}",
            habits.name
        );
        let named = habits
            .checksum
            .iter()
            .copied()
            .chain(habits.offers_hash)
            .max();
        let integrity = named.map_or(Integrity::Unverified, Integrity::Verified);
        assert_eq!(
            outcome(&mut world, BOB, &id),
            Some(Outcome::Received(integrity)),
            "{}",
            habits.name
        );
        // The receiver says so and closes, which is what all of them wait for.
        assert_eq!(
            diary.lock().unwrap().heard,
            ["received", "success"],
            "{}",
            habits.name
        );
        let patience = Duration::from_secs(u64::from(named.is_none()));
        assert!(
            took <= patience + Duration::from_millis(100),
            "{}: {took:?}",
            habits.name
        );
    }
}

#[test]
fn a_hash_that_differs_ends_it_as_media_error_whenever_it_comes() {
    let wrong = hashes(b"something else", &[HashAlgorithm::Sha256]).remove(0);
    for habits in all()
        .into_iter()
        .filter(|habits| !habits.checksum.is_empty())
    {
        if habits.announces == Some(HashAlgorithm::Sha1) {
            // The receiver has computed what was announced, and cannot compare another.
            continue;
        }
        let (mut world, app, id, diary, _) = sends_to_us(&habits, Some(wrong.clone()));
        let fault = Fault::WrongHash(HashAlgorithm::Sha256);
        assert_eq!(
            outcome(&mut world, BOB, &id),
            Some(Outcome::Failed(fault)),
            "{}",
            habits.name
        );
        assert!(matches!(app.ends[&id], Read::Broken(_)));
        assert_eq!(
            diary.lock().unwrap().heard,
            ["media-error"],
            "{}",
            habits.name
        );
    }
}

#[test]
fn every_client_receives_from_us_and_hears_the_hash_before_it_stops_waiting() {
    for habits in all() {
        let (mut world, diary) = meet(BOB, Persona::new(habits.clone(), bytes::Bytes::new()));
        let ids = offer(&mut world, &[("ours", 300_000)]);
        let mut app = App::new().with("ours", data("ours", 300_000));
        let took = run_alone(&mut world, ALICE, &mut app);
        let diary = diary.lock().unwrap();
        assert!(diary.received == data("ours", 300_000), "{}", habits.name);
        assert_eq!(
            outcome(&mut world, ALICE, &ids[0]),
            Some(Outcome::Sent { confirmed: true }),
            "{}",
            habits.name
        );
        if habits.verifies {
            assert_eq!(diary.matched, Some(true), "{}", habits.name);
        }
        assert!(
            took < Duration::from_secs(1),
            "{}: nobody waits for another: {took:?}",
            habits.name
        );
    }
}

#[test]
fn a_file_without_bytes_goes_to_and_from_every_client() {
    for habits in all() {
        let (mut world, _) = meet(ALICE, Persona::new(habits.clone(), bytes::Bytes::new()));
        accept_all(&mut world, BOB);
        let offer = Persona::description(&habits, "empty", b"");
        world.call(ALICE, BOB, FILE_TRANSFER, &offer).unwrap();
        let mut app = App::new();
        run_alone(&mut world, BOB, &mut app);
        assert_eq!(app.ends.len(), 1, "{}", habits.name);
        assert!(
            matches!(
                app.ends.values().next(),
                Some(Read::End(Completeness::Verified))
            ),
            "{}",
            habits.name
        );
    }
}
