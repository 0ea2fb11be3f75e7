//! The twelve ways to be connected of libjingle's own test, each with each, and what is special about some of them.

#![allow(clippy::unwrap_used)]

mod ice_world;

use ice_world::{Nat, Setup, Shared, World, home};
use session_core::TransportError;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};

/// What theory says of two hosts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Udp,
    Tcp,
    Relay,
}

fn expected(a: Nat, b: Nat) -> Way {
    // Whose port nobody can know before, and who lets in only what it has talked to.
    let symmetric = |nat| matches!(nat, Nat::Symmetric | Nat::SymmetricCone);
    let strict = |nat| nat == Nat::Port || symmetric(nat);
    let hopeless = strict(a) && strict(b) && (symmetric(a) || symmetric(b));
    if a.has_udp() && b.has_udp() && !hopeless {
        return Way::Udp;
    }
    // A port that a listener gets from its system is none of the web's.
    let connects = |from: Nat, to: Nat| to.is_reached_by_tcp() && from.reaches_by_tcp(40_001);
    // Who goes out to somebody lets that one in.
    let both_blocked = a == Nat::BlockedIncoming && b == Nat::BlockedIncoming;
    if connects(a, b) || connects(b, a) || both_blocked {
        Way::Tcp
    } else {
        Way::Relay
    }
}

fn way(text: &str) -> Way {
    match text {
        text if text.contains("relay") => Way::Relay,
        text if text.starts_with("ice tcp") => Way::Tcp,
        _ => Way::Udp,
    }
}

fn setup(a: Nat, b: Nat) -> Setup {
    let mut setup = Setup::new(a, b);
    setup.tcp = true;
    setup
}

fn all() -> impl Iterator<Item = (Nat, Nat)> {
    let with = |a| Nat::TWELVE.into_iter().map(move |b| (a, b));
    Nat::TWELVE.into_iter().flat_map(with)
}

/// Runs until both have their path, and some time more.
fn connect(setup: &Setup) -> (World, Duration) {
    let world = World::connected(setup);
    let took = world
        .ends
        .iter()
        .filter_map(|end| end.connected_after)
        .max();
    (world, took.unwrap())
}

#[test]
fn twelve_by_twelve_connect_as_theory_says_and_in_time() {
    let mut counts = [0; 3];
    for (a, b) in all() {
        let (mut world, took) = connect(&setup(a, b));
        world.run_for(Duration::from_secs(3));
        let expected = expected(a, b);
        for text in world.describe() {
            assert_eq!(way(&text), expected, "{a:?} {b:?}: {text}");
        }
        let bound = if expected == Way::Udp { 1_000 } else { 2_500 };
        assert!(
            took <= Duration::from_millis(bound),
            "{a:?} {b:?} took {took:?}"
        );
        world.assert_carries();
        counts[expected as usize] += 1;
    }
    // Of 144: the 49 of hosts with UDP but for 8 with a symmetric NAT against a strict one; then who can listen for TCP.
    // or go out to each other at once.
    assert_eq!(counts, [41, 24, 79]);
}

#[test]
fn without_a_relay_those_fail_who_have_no_other_way() {
    for (a, b) in all() {
        let mut setup = setup(a, b);
        setup.relay = false;
        let mut world = World::new(&setup);
        world.negotiate(1);
        let connected = world.run_until(Duration::from_secs(90), World::all_writable);
        assert_eq!(connected, expected(a, b) != Way::Relay, "{a:?} {b:?}");
        if !connected {
            let failed = &world.ends[0].failed[0];
            assert!(
                matches!(failed, Some(TransportError::Unreachable(_))),
                "{failed:?}"
            );
        }
    }
}

/// How many seeds: few by themselves, as many as you like with `SIMULATE_SEEDS`.
#[allow(
    clippy::disallowed_methods,
    reason = "how many seeds to run is the caller's choice"
)]
fn seeds() -> u64 {
    let wanted = std::env::var("SIMULATE_SEEDS").ok();
    wanted.and_then(|text| text.parse().ok()).unwrap_or(4)
}

#[test]
fn loss_and_reordering_hold_nobody_up_for_long() {
    for seed in 0..seeds() {
        for (a, b) in all() {
            let mut setup = setup(a, b);
            setup.seed = seed;
            let mut world = World::new(&setup);
            world.loss = 0.05;
            world.jitter = Duration::from_millis(40);
            world.negotiate(1);
            let connected = world.run_until(Duration::from_secs(15), World::all_writable);
            assert!(
                connected,
                "seed {seed}, {a:?} {b:?}: {:?}",
                world.describe()
            );
            world.loss = 0.0;
            world.run_for(Duration::from_secs(5));
            assert!(world.all_writable(), "seed {seed}, {a:?} {b:?}");
            world.assert_carries();
        }
    }
}

/// Who learns nothing of the other waits for what comes in: enough for who can be reached.
#[test]
fn incoming_only() {
    for (nat, connects) in [
        (Nat::None, true),
        (Nat::Full, true),
        (Nat::DoubleCone, true),
        (Nat::Port, false),
        (Nat::Symmetric, false),
    ] {
        let mut setup = Setup::new(nat, Nat::Port);
        setup.relay = false;
        let mut world = World::new(&setup);
        world.deaf = Some(0);
        world.negotiate(1);
        let connected = world.run_until(Duration::from_secs(30), World::all_writable);
        assert_eq!(connected, connects, "{nat:?}");
        if connected {
            world.assert_carries();
        }
    }
}

/// Hosts of one network find each other there, whatever stands in front of it.
#[test]
fn neighbours_talk_at_home() {
    for tcp in [false, true] {
        for nat in [Nat::Full, Nat::Port, Nat::Symmetric, Nat::DoubleCone] {
            let mut setup = Setup::new(nat, nat);
            (setup.shared, setup.tcp) = (Shared::Network, tcp);
            let (mut world, took) = connect(&setup);
            assert!(took < Duration::from_secs(1));
            world.run_for(Duration::from_secs(1));
            for text in world.describe() {
                let home = text.starts_with("ice host 10.0.") && text.contains("-> host 10.0.");
                assert!(home, "{nat:?}: {text}");
            }
            world.assert_carries();
        }
    }
}

/// Cones behind one cone: what both see of each other is the outer one's address, so that the way leads back to it.
#[test]
fn cones_behind_one_cone_need_one_that_turns_datagrams_round() {
    for hairpins in [true, false] {
        for (a, b) in [
            (Nat::Full, Nat::Full),
            (Nat::Full, Nat::Port),
            (Nat::Address, Nat::Full),
        ] {
            let mut setup = Setup::new(a, b);
            setup.shared = Shared::Cone;
            let mut world = World::new(&setup);
            world.internet.hairpins = hairpins;
            world.negotiate(1);
            assert!(world.run_until(Duration::from_secs(5), World::all_writable));
            world.run_for(Duration::from_secs(3));
            for text in world.describe() {
                assert_eq!(way(&text) == Way::Udp, hairpins, "{a:?} {b:?}: {text}");
            }
            world.assert_carries();
        }
    }
}

fn second(end: usize) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 150 + end as u8))
}

/// Both have two addresses. The one in use dies without a word: consent goes, and ICE finds the other.
#[test]
fn a_multihomed_host_fails_over() {
    for end in 0..2 {
        let mut world = World::new(&Setup::new(Nat::None, Nat::None));
        for number in 0..2 {
            let both = vec![home(number, Nat::None), second(number)];
            world.ends[number].interfaces.update(both);
        }
        world.negotiate(1);
        assert!(world.run_until(Duration::from_secs(1), World::all_writable));
        world.run_for(Duration::from_secs(5));
        let dead = home(end, Nat::None);
        assert!(world.describe()[end].contains(&dead.to_string()));
        for other in [home(1 - end, Nat::None), second(1 - end)] {
            world.unreachable.extend([(dead, other), (other, dead)]);
        }
        world.run_for(Duration::from_secs(36));
        assert!(world.run_until(Duration::from_secs(5), World::all_writable));
        let text = &world.describe()[end];
        assert!(text.contains(&second(end).to_string()), "{text}");
        world.assert_carries();
    }
}

/// From one network to the next, with the session: first both are there, then only the new one.
#[test]
fn a_host_drains_to_a_new_interface() {
    for end in 0..2 {
        for nat in [Nat::Port, Nat::None] {
            let mut world = World::connected(&Setup::new(nat, nat));
            world.run_for(Duration::from_secs(3));
            let old = home(end, nat);
            world.ends[end].interfaces.update(vec![old, second(end)]);
            world.run_for(Duration::from_secs(3));
            world.assert_carries();
            world.ends[end].interfaces.update(vec![second(end)]);
            world.run_for(Duration::from_secs(2));
            assert!(
                world.all_writable(),
                "{end} {nat:?}: {:?}",
                world.describe()
            );
            let text = &world.describe()[end];
            assert!(text.contains(&second(end).to_string()), "{text}");
            world.assert_carries();
        }
    }
}

/// A connection is a path like another: when it breaks, ICE restarts and connects anew.
#[test]
fn a_broken_tcp_connection_is_replaced() {
    for (a, b) in [(Nat::None, Nat::BlockedIncoming), (Nat::Blocked, Nat::Port)] {
        let mut setup = setup(a, b);
        setup.relay = false;
        let (mut world, _) = connect(&setup);
        for _ in 0..3 {
            world.assert_carries();
            world.run_for(Duration::from_secs(40));
            world.reset_streams();
            assert!(world.run_until(Duration::from_millis(20), |world| !world.all_writable()));
            assert!(world.run_until(Duration::from_secs(3), World::all_writable));
        }
        world.assert_carries();
    }
}

#[test]
fn slow_signalling_costs_its_own_time_and_no_more() {
    for (a, b) in [(Nat::Port, Nat::Port), (Nat::None, Nat::BlockedIncoming)] {
        for signalling in [1, 8, 30] {
            let mut world = World::new(&setup(a, b));
            world.signalling = Duration::from_secs(signalling);
            world.negotiate(1);
            let late = Duration::from_secs(signalling) + Duration::from_millis(2_500);
            assert!(
                world.run_until(late, World::all_writable),
                "{a:?} {b:?} {signalling}"
            );
            world.assert_carries();
        }
    }
}

fn renominate(_: usize, config: &mut transport_p2p::ice::IceConfig) {
    config.renomination = true;
}

/// How often an end began a generation.
fn generations(world: &World, end: usize) -> usize {
    let fragments = world.ends[end]
        .told
        .iter()
        .filter_map(|info| info.attribute("ufrag"));
    fragments.collect::<std::collections::BTreeSet<_>>().len()
}

/// Better pairs that come later are used by those who know how to nominate again, without a restart.
#[test]
fn renomination_moves_to_a_better_pair() {
    for knows in [true, false] {
        for end in 0..2 {
            let mut setup = Setup::new(Nat::Symmetric, Nat::Symmetric);
            if knows {
                setup.configure = renominate;
            }
            let mut world = World::connected(&setup);
            world.run_for(Duration::from_secs(5));
            assert!(world.describe().iter().all(|text| way(text) == Way::Relay));
            // A network without NAT appears.
            let old = home(end, Nat::Symmetric);
            world.ends[end].interfaces.update(vec![old, second(end)]);
            world.run_for(Duration::from_secs(3));
            for text in world.describe() {
                assert_eq!(way(&text) == Way::Udp, knows, "{end}: {text}");
            }
            assert!(world.ends.iter().all(|end| end.paths[0] == [true]));
            assert_eq!([generations(&world, 0), generations(&world, 1)], [1, 1]);
            world.assert_carries();
            world.run_for(Duration::from_secs(90));
            world.assert_carries();
        }
    }
}

#[test]
fn renomination_goes_over_to_a_pair_in_reserve() {
    let mut setup = Setup::new(Nat::None, Nat::None);
    setup.configure = renominate;
    let mut world = World::new(&setup);
    let both = vec![home(0, Nat::None), second(0)];
    world.ends[0].interfaces.update(both);
    world.negotiate(1);
    assert!(world.run_until(Duration::from_secs(1), World::all_writable));
    world.run_for(Duration::from_secs(2));
    world.ends[0].interfaces.update(vec![second(0)]);
    world.run_for(Duration::from_millis(200));
    for text in world.describe() {
        assert!(text.contains(&second(0).to_string()), "{text}");
    }
    assert_eq!(generations(&world, 0), 1, "no restart");
    world.assert_carries();
}

/// RFC 8445 §2.5: who is reached by everybody need not ask.
#[test]
fn a_lite_agent_connects_with_full_ones() {
    for lite in 0..2 {
        for nat in [Nat::None, Nat::Port, Nat::Symmetric, Nat::DoubleCone] {
            let nats = if lite == 0 {
                [Nat::None, nat]
            } else {
                [nat, Nat::None]
            };
            let mut setup = Setup::new(nats[0], nats[1]);
            setup.configure = match lite {
                0 => |end, config| config.lite = end == 0,
                _ => |end, config| config.lite = end == 1,
            };
            let mut world = World::connected(&setup);
            assert_eq!(world.ends[lite].told.len(), 1, "one address, no servers");
            world.assert_carries();
            world.run_for(Duration::from_secs(120));
            world.assert_carries();
            assert!(world.ends.iter().all(|end| end.paths[0] == [true]));
            // Its consent is the other's asking.
            world.cut = true;
            world.run_for(Duration::from_secs(40));
            assert!(!world.ends[lite].writable[0]);
        }
    }
}

const DEAD: &str = "198.51.100.66:3478";

/// A dead server costs nobody time: all are asked at once, and what one says is told.
#[test]
fn the_first_server_that_answers_is_enough() {
    let mut setup = Setup::new(Nat::Port, Nat::Port);
    setup.configure = |_, config| {
        config.stun_servers.insert(0, DEAD.parse().unwrap());
        let dead = ice_world::dead_relay(DEAD.parse().unwrap());
        config.relays.insert(0, dead);
    };
    let mut world = World::new(&setup);
    world.negotiate(1);
    world.run_for(Duration::from_millis(500));
    for end in &world.ends {
        let told = end.told.iter().flat_map(|info| info.children());
        let kinds: Vec<_> = told.filter_map(|c| c.attribute("type")).collect();
        assert_eq!(kinds, ["host", "srflx", "relay"]);
    }
    assert!(world.all_writable());
}
