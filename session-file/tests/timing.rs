//! The last word of a file over slow signalling and fast streams, and the other way round: whoever comes first, both know
//! that it arrived.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use filekit::{
    persona::{Persona, all},
    *,
};
use proptest::prelude::*;
use session_core::{
    Config,
    testing::{Conditions, World},
};
use session_file::{FILE_TRANSFER, FileClient, HashAlgorithm, Integrity, Outcome, Read};
use std::time::Duration;

fn slow(world: &mut World, wire: u64, network: u64) {
    world.set_wire(Conditions::with_delay(Duration::from_millis(wire)));
    world.set_network(Conditions::with_delay(Duration::from_millis(network)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn two_of_ours_agree_whatever_is_slow(
        carrier in prop::sample::select(&[Carrier::Stream, Carrier::PseudoTcp][..]),
        wire in 0..400u64,
        network in 0..100u64,
        sizes in prop::collection::vec(0..100_000usize, 1..4),
        seed in any::<u64>(),
    ) {
        let mut world = world_with(carrier, seed, |_| {});
        slow(&mut world, wire, network);
        accept_all(&mut world, BOB);
        let names: Vec<String> = (0..sizes.len()).map(|at| format!("f{at}")).collect();
        let files: Vec<(&str, usize)> = names.iter().map(String::as_str).zip(sizes).collect();
        let ids = offer(&mut world, &files);
        let add = |app: App, (name, size): &(&str, usize)| app.with(name, data(name, *size));
        let mut both = [files.iter().fold(App::new(), add), App::new()];
        run(&mut world, &mut both);
        for (id, (name, size)) in ids.iter().zip(files) {
            let theirs = other(&mut world, ALICE, id);
            prop_assert!(both[BOB].received[&theirs] == data(name, size));
            let verified = Outcome::Received(Integrity::Verified(HashAlgorithm::Sha256));
            prop_assert_eq!(outcome(&mut world, BOB, &theirs), Some(verified));
            prop_assert_eq!(outcome(&mut world, ALICE, id), Some(Outcome::Sent { confirmed: true }));
        }
    }

    #[test]
    fn others_get_and_give_their_files_whatever_is_slow(
        habits in prop::sample::select(all()),
        ours in any::<bool>(),
        wire in 0..400u64,
        network in 0..100u64,
        size in 0..100_000usize,
    ) {
        let bytes = data("f", size);
        let (us, them) = if ours { (ALICE, BOB) } else { (BOB, ALICE) };
        let persona = Persona::new(habits.clone(), bytes.clone());
        let diary = persona.diary.clone();
        let mut persona = Some(persona);
        let mut world = World::new(5);
        for (host, name) in NAMES.into_iter().enumerate() {
            world.add_host(name, Config::default(), |manager| {
                add_transports(manager, Carrier::Stream, host)?;
                match host == them {
                    true => manager.add_client(persona.take().unwrap()),
                    false => manager.add_client(FileClient::new(config(Carrier::Stream))),
                }
            });
        }
        slow(&mut world, wire, network);
        accept_all(&mut world, us);
        if ours {
            offer(&mut world, &[("f", size)]);
        } else {
            let description = Persona::description(&habits, "f", &bytes);
            world.call(ALICE, BOB, FILE_TRANSFER, &description).unwrap();
        }
        let mut app = App::new().with("f", bytes.clone());
        let mut begun = false;
        let done = world.run_until(Duration::from_secs(600), |world| {
            app.step(world, us);
            begun |= !is_over(world, us);
            begun && is_over(world, us)
        });
        prop_assert!(done);
        app.step(&mut world, us);
        if ours && size > 0 {
            prop_assert!(diary.lock().unwrap().received == bytes);
            let session = only(&mut world, us);
            let outcome = client(&mut world, us, |c| c.transfers(session).next().unwrap().outcome().cloned());
            prop_assert_eq!(outcome, Some(Outcome::Sent { confirmed: true }), "{}", habits.name);
        } else if !ours {
            prop_assert!(app.received.values().next().unwrap() == &bytes);
            prop_assert!(matches!(app.ends.values().next(), Some(Read::End(_))), "{}", habits.name);
        }
    }
}
