//! The checklist against a model: of whatever addresses both have, whoever reaches whom, in whatever order things
//! happen, they connect exactly if there is a way, on a way that there is, and on the same one.

#![allow(clippy::unwrap_used)]

mod ice_world;

use ice_world::{Nat, Setup, World};
use proptest::prelude::*;
use session_core::Role;
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use transport_p2p::ice::IceConfig;

#[derive(Clone, Debug)]
struct Case {
    /// How many addresses each has, 1 to 4.
    counts: [u8; 2],
    /// A bit for each pair of addresses: both ways or none.
    ways: u16,
    roles: [Role; 2],
    signalling: u64,
    delay: u64,
    jitter: u64,
    loss: f64,
    seed: u64,
}

fn case() -> impl Strategy<Value = Case> {
    let role = || prop_oneof![Just(Role::Initiator), Just(Role::Responder)];
    (
        [1..=4_u8, 1..=4_u8],
        any::<u16>(),
        [role(), role()],
        prop_oneof![Just(0), 0..200_u64, Just(3_000)],
        0..80_u64,
        prop_oneof![Just(0), 0..150_u64],
        prop_oneof![Just(0.0), 0.0..0.15],
        any::<u64>(),
    )
        .prop_map(
            |(counts, ways, roles, signalling, delay, jitter, loss, seed)| Case {
                counts,
                ways,
                roles,
                signalling,
                delay,
                jitter,
                loss,
                seed,
            },
        )
}

fn address(end: usize, number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 10 * (end as u8 + 1) + number))
}

fn configure(_: usize, config: &mut IceConfig) {
    config.stun_servers.clear();
}

impl Case {
    fn reaches(&self, a: u8, b: u8) -> bool {
        self.ways & 1 << (a * 4 + b) != 0
    }

    fn ways(&self) -> Vec<(IpAddr, IpAddr)> {
        let all = (0..self.counts[0]).flat_map(|a| (0..self.counts[1]).map(move |b| (a, b)));
        all.filter(|(a, b)| self.reaches(*a, *b))
            .map(|(a, b)| (address(0, a), address(1, b)))
            .collect()
    }

    fn world(&self) -> World {
        let mut setup = Setup::new(Nat::None, Nat::None);
        setup.relay = false;
        setup.roles = self.roles;
        setup.seed = self.seed;
        setup.configure = configure;
        let mut world = World::new(&setup);
        for end in 0..2 {
            let addresses = (0..self.counts[end])
                .map(|number| address(end, number))
                .collect();
            world.ends[end].interfaces.update(addresses);
        }
        let ways = self.ways();
        for a in 0..self.counts[0] {
            for b in 0..self.counts[1] {
                let way = (address(0, a), address(1, b));
                if !ways.contains(&way) {
                    world.unreachable.extend([way, (way.1, way.0)]);
                }
            }
        }
        world.signalling = Duration::from_millis(self.signalling);
        world.delay = Duration::from_millis(self.delay);
        world.jitter = Duration::from_millis(self.jitter);
        world.loss = self.loss;
        world.negotiate(1);
        world
    }
}

/// With Ta 20 ms, the last of 16 pairs is checked after 320 ms, and the last of 256 after 5.12 s.
#[test]
fn the_worst_pair_is_found_in_its_turn() {
    for (count, bound) in [(4, 400), (16, 6_000)] {
        let mut setup = Setup::new(Nat::None, Nat::None);
        setup.relay = false;
        setup.configure = configure;
        let mut world = World::new(&setup);
        let of = |end: u8, number| IpAddr::V4(Ipv4Addr::new(203, 0, 112 + end, number));
        for end in 0..2_u8 {
            let addresses = (0..count).map(|number| of(end, number)).collect();
            world.ends[usize::from(end)].interfaces.update(addresses);
        }
        for a in 0..count {
            for b in 0..count {
                if (a, b) != (count - 1, count - 1) {
                    world
                        .unreachable
                        .extend([(of(0, a), of(1, b)), (of(1, b), of(0, a))]);
                }
            }
        }
        world.delay = Duration::ZERO;
        world.signalling = Duration::ZERO;
        world.negotiate(1);
        assert!(world.run_until(Duration::from_millis(bound), World::all_writable));
    }
}

/// The addresses of a path as it describes itself: `ice host A:P -> host B:Q, rtt ...`.
fn path(text: &str) -> (IpAddr, IpAddr) {
    let addresses: Vec<_> = text
        .split([' ', ','])
        .filter_map(|word| word.parse::<std::net::SocketAddr>().ok())
        .map(|address| address.ip())
        .collect();
    (addresses[0], addresses[1])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(400) })]

    #[test]
    fn they_connect_exactly_if_there_is_a_way_and_on_the_same_one(case in case()) {
        let mut world = case.world();
        let ways = case.ways();
        let connected = world.run_until(Duration::from_secs(30), World::all_writable);
        prop_assert_eq!(connected, !ways.is_empty(), "{:?}", world.describe());
        if !connected {
            return Ok(());
        }
        // Six checks in a row, each of which takes two packets, is how consent ends: at 15 % loss that happens by
        // itself once in three thousand windows of 30 s, and rightly so. At 5 % it would be once in a million.
        world.loss = world.loss.min(0.05);
        world.run_for(Duration::from_secs(60));
        prop_assert!(world.all_writable());
        let [a, b] = [path(&world.describe()[0]), path(&world.describe()[1])];
        prop_assert_eq!(a, (b.1, b.0), "both ends use one way");
        prop_assert!(ways.contains(&a), "{:?} is not a way", a);
        // Nobody gave it up on the way there: a path once had is kept.
        prop_assert!(world.ends.iter().all(|end| end.paths[0] == [true]));
        world.loss = 0.0;
        world.jitter = Duration::ZERO;
        world.assert_carries();
    }

    /// On a good network the best way that there is is used, or one that was there sooner than it could be.
    #[test]
    fn they_use_the_best_way_when_all_are_open(counts in [1..=4_u8, 1..=4_u8], seed: u64) {
        let case = Case {
            counts, ways: u16::MAX, roles: [Role::Initiator, Role::Responder],
            signalling: 50, delay: 20, jitter: 0, loss: 0.0, seed,
        };
        let mut world = case.world();
        prop_assert!(world.run_until(Duration::from_secs(1), World::all_writable));
        world.run_for(Duration::from_secs(1));
        prop_assert_eq!(path(&world.describe()[0]), (address(0, 0), address(1, 0)));
    }
}
