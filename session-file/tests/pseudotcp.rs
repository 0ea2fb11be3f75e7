//! Tunnels as libjingle has them, PseudoTCP above raw UDP, over networks that lose, double and reorder.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use proptest::prelude::*;
use session_core::{
    Cause, Config, Dialect, ErrorStyle, Reason, ReasonCondition,
    testing::{Conditions, HostSocket, Network, World},
};
use session_file::{Completeness, Phase, Read, Tunnel, TunnelClient, TunnelConfig, TunnelLimits};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use transport_p2p::{
    pseudotcp::{self, PseudoTcpLayer},
    raw_udp::{GoogleRawUdp, RawUdp},
};

/// Two hosts; `marked` tells which of them can mark the end of a stream.
fn two(dialect: &'static Dialect, marked: [bool; 2], limits: TunnelLimits, seed: u64) -> World {
    let mut world = World::new(seed);
    let names = ["alice@a.example/desk", "bob@b.example/lap"];
    for (host, (name, fin)) in names.into_iter().zip(marked).enumerate() {
        let config = Config {
            dialect,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            let address = SocketAddr::new(Network::<HostSocket>::address_of(host), 0);
            match dialect.errors {
                ErrorStyle::Jingle => manager.add_transport(RawUdp::new(address))?,
                ErrorStyle::Google => manager.add_transport(GoogleRawUdp::new(address))?,
            }
            let stream = pseudotcp::Config {
                fin,
                ..pseudotcp::Config::default()
            };
            manager.add_client(TunnelClient::new(TunnelConfig {
                limits,
                ..TunnelConfig::new(Arc::new(PseudoTcpLayer::new(stream)))
            }))
        });
    }
    world
}

#[test]
fn a_file_is_sent_in_both_dialects_to_peers_old_and_new() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        for marked in [[true, true], [true, false], [false, true]] {
            let mut world = two(dialect, marked, TunnelLimits::default(), 1);
            world.set_network(Conditions::with_delay(Duration::from_millis(10)));
            world.set_wire(Conditions::with_delay(Duration::from_millis(40)));
            accept_all(&mut world);
            let alice = open(&mut world, &Tunnel::receive("f").unwrap());
            world.run_for(Duration::from_millis(200));
            let bob = only(&mut world, BOB);
            let mut sender = Sender::new(ALICE, alice, data(700_000));
            let mut receiver = Receiver::new(BOB, bob);
            transfer(&mut world, &mut sender, &mut receiver, 65_536, 65_536);
            assert!(receiver.bytes == data(700_000));
            let known = if marked == [true, true] {
                Completeness::Verified
            } else {
                Completeness::Unverified
            };
            assert_eq!(receiver.end, Some(Read::End(known)), "{marked:?}");
            world.run_for(Duration::from_secs(1));
            look(&mut world, ALICE, alice, |stream| {
                assert!(stream.is_delivered());
                assert_eq!(stream.phase(), Phase::Ended);
            });
            world.check();
        }
    }
}

#[test]
fn the_last_bytes_are_not_lost_when_the_session_ends_before_they_were_read() {
    let limits = TunnelLimits {
        receive_bytes: 1_000,
        ..TunnelLimits::default()
    };
    let mut world = two(Dialect::GTALK, [true, false], limits, 1);
    let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
    let mut sender = Sender::new(ALICE, alice, data(300_000));
    sender.step(&mut world, 300_000);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.manager(BOB).session_count(), 0);
    let mut receiver = Receiver::new(BOB, bob);
    receiver.step(&mut world, 10_000);
    assert!(receiver.bytes == data(300_000));
    assert_eq!(receiver.end, Some(Read::End(Completeness::Unverified)));
}

#[test]
fn a_network_that_dies_breaks_the_tunnel_at_both_ends() {
    let mut world = two(Dialect::JINGLE, [true, true], TunnelLimits::default(), 1);
    world.set_network(Conditions::with_delay(Duration::from_millis(10)));
    let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
    let mut sender = Sender::new(ALICE, alice, data(20_000_000));
    let mut receiver = Receiver::new(BOB, bob);
    let until = world.now() + Duration::from_millis(200);
    while world.now() < until {
        sender.step(&mut world, 65_536);
        receiver.step(&mut world, 65_536);
        world.step();
    }
    assert!(!receiver.bytes.is_empty());
    let now = world.now();
    for (from, to) in [(ALICE, BOB), (BOB, ALICE)] {
        world.network().set_cut(from, to, true, now);
    }
    let done = world.run_until(Duration::from_secs(3_600), |world| {
        receiver.step(world, 65_536);
        receiver.end.is_some()
    });
    assert!(done, "it is noticed");
    assert!(
        matches!(receiver.end, Some(Read::Broken(_))),
        "{:?}",
        receiver.end
    );
    assert!(data(20_000_000).starts_with(&receiver.bytes));
    let cause = look(&mut world, ALICE, alice, |s| s.cause().cloned());
    let success = Reason::new(ReasonCondition::Success);
    assert!(cause.is_some() && cause != Some(Cause::Remote(Some(success))));
    world.check();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Whatever the network does to datagrams, short of stopping: the same bytes, and both ends know it.
    #[test]
    fn every_file_arrives_whole_over_a_bad_network(
        seed in any::<u64>(),
        size in 0..300_000usize,
        loss in 0.0..0.1f64,
        duplicate in 0.0..0.1f64,
        reorder in 0.0..0.2f64,
        delay in 0..50u64,
        receive_bytes in 1_000..100_000usize,
        write in 1_000..70_000usize,
        google in any::<bool>(),
    ) {
        let dialect = if google { Dialect::GTALK } else { Dialect::JINGLE };
        let limits = TunnelLimits { receive_bytes, ..TunnelLimits::default() };
        let mut world = two(dialect, [true, true], limits, seed);
        world.set_network(Conditions {
            loss,
            duplicate,
            reorder,
            delay: Duration::from_millis(delay),
            ..Conditions::default()
        });
        let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
        let mut sender = Sender::new(ALICE, alice, data(size));
        let mut receiver = Receiver::new(BOB, bob);
        transfer(&mut world, &mut sender, &mut receiver, write, 8_000);
        prop_assert!(receiver.bytes == data(size));
        prop_assert_eq!(&receiver.end, &Some(Read::End(Completeness::Verified)));
        world.run_for(Duration::from_secs(5));
        prop_assert!(look(&mut world, ALICE, alice, |s| s.is_delivered()));
        world.check();
    }
}
