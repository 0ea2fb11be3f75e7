//! Any two peers find each other: every pair of NATs, with and without a relay, on good and bad networks.

#![allow(clippy::unwrap_used)]

mod ice_world;

use ice_world::{Nat, Setup, World};
use session_core::TransportError;
use std::time::Duration;

/// The pairs that theory and the lab with real NATs call direct.
fn is_direct(a: Nat, b: Nat) -> bool {
    let hard = |nat| matches!(nat, Nat::Port | Nat::Symmetric);
    let both_hard = hard(a) && hard(b) && (a == Nat::Symmetric || b == Nat::Symmetric);
    a != Nat::Blocked && b != Nat::Blocked && !both_hard
}

fn pairs() -> impl Iterator<Item = (Nat, Nat)> {
    Nat::ALL
        .into_iter()
        .flat_map(|a| Nat::ALL.into_iter().map(move |b| (a, b)))
}

#[test]
fn every_pair_of_nats_connects_directly_where_it_can_and_by_relay_where_not() {
    let mut direct = 0;
    for (a, b) in pairs() {
        let mut world = World::connected(&Setup::new(a, b));
        let took = world
            .ends
            .iter()
            .filter_map(|end| end.connected_after)
            .max()
            .unwrap();
        world.run_for(Duration::from_secs(3));
        for text in world.describe() {
            assert_eq!(
                text.contains("relay"),
                !is_direct(a, b),
                "{a:?} {b:?}: {text}"
            );
        }
        let bound = if is_direct(a, b) { 1_000 } else { 2_500 };
        assert!(
            took <= Duration::from_millis(bound),
            "{a:?} {b:?} took {took:?}"
        );
        world.assert_carries();
        direct += usize::from(a <= b && is_direct(a, b));
    }
    assert_eq!(direct, 13, "as in the lab: 13 of 21 pairs directly");
}

#[test]
fn without_a_relay_what_cannot_connect_says_why() {
    for (a, b) in pairs() {
        let mut setup = Setup::new(a, b);
        setup.relay = false;
        let mut world = World::new(&setup);
        world.negotiate(1);
        let connected = world.run_until(Duration::from_secs(90), World::all_writable);
        assert_eq!(connected, is_direct(a, b), "{a:?} {b:?}");
        if connected {
            world.assert_carries();
        } else {
            // The responder leaves it to the initiator to give up.
            let Some(TransportError::Unreachable(why)) = &world.ends[0].failed[0] else {
                panic!("{a:?} {b:?}: {:?}", world.ends[0].failed);
            };
            assert!(why.contains("no relay is configured"), "{why}");
            assert_eq!(world.ends[1].failed[0], None);
            assert!(world.describe().iter().any(|text| text.contains("no path")));
        }
    }
}

#[test]
fn loss_and_reordering_delay_but_do_not_prevent() {
    for seed in 0..60 {
        for (a, b) in [
            (Nat::None, Nat::None),
            (Nat::Port, Nat::Port),
            (Nat::Symmetric, Nat::Address),
            (Nat::Symmetric, Nat::Symmetric),
        ] {
            let mut setup = Setup::new(a, b);
            setup.seed = seed;
            let mut world = World::new(&setup);
            world.loss = 0.1;
            world.jitter = Duration::from_millis(60);
            world.negotiate(1);
            let connected = world.run_until(Duration::from_secs(15), World::all_writable);
            assert!(
                connected,
                "seed {seed}, {a:?} {b:?}: {:?}",
                world.describe()
            );
            world.run_for(Duration::from_secs(120));
            assert!(world.all_writable(), "seed {seed}: {:?}", world.describe());
            world.loss = 0.0;
            world.assert_carries();
        }
    }
}

/// The first check towards a filter comes before the way through it is open, or after: who has the way by relay waits for
/// the second, half a second later.
#[test]
fn no_order_of_first_checks_makes_a_direct_way_a_relayed_one() {
    for seed in 0..60 {
        for (a, b) in [
            (Nat::Address, Nat::Symmetric),
            (Nat::Symmetric, Nat::Address),
            (Nat::Port, Nat::Port),
        ] {
            let mut setup = Setup::new(a, b);
            setup.seed = seed;
            let mut world = World::new(&setup);
            world.jitter = Duration::from_millis(50);
            world.negotiate(1);
            world.run_for(Duration::from_secs(5));
            for text in world.describe() {
                assert!(!text.contains("relay"), "seed {seed}, {a:?} {b:?}: {text}");
            }
        }
    }
}

#[test]
fn several_components_each_have_their_path() {
    for (a, b) in [
        (Nat::None, Nat::Full),
        (Nat::Port, Nat::Port),
        (Nat::Blocked, Nat::None),
    ] {
        let mut setup = Setup::new(a, b);
        setup.channels = 3;
        let mut world = World::connected(&setup);
        world.assert_carries();
    }
}

#[test]
fn slow_signalling_is_overtaken_by_checks() {
    let mut world = World::new(&Setup::new(Nat::None, Nat::None));
    world.signalling = Duration::from_secs(30);
    world.negotiate(1);
    world.run_for(Duration::from_secs(29));
    assert!(!world.all_writable(), "nobody knows an address");
    assert!(world.run_until(Duration::from_secs(2), World::all_writable));

    // One direction of candidates is enough, even through NATs that let in who was talked to.
    let mut world = World::new(&Setup::new(Nat::None, Nat::Port));
    world.signalling = Duration::from_secs(10);
    world.negotiate(1);
    assert!(world.run_until(Duration::from_secs(11), World::all_writable));
}
