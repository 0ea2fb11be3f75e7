//! A client against a reference server with faults, in virtual time: whatever happens, it keeps to the rules, and once
//! the faults are over it has an address again and data flows both ways.

#![allow(clippy::unwrap_used, unreachable_pub)]

mod turn_world;

use proptest::prelude::*;
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};
use transport_relay::turn::{Credentials, TurnProtocol};
use turn_world::{World, home, peer, server::PASSWORD};

#[derive(Clone, Debug)]
enum Op {
    Wait(u64),
    Send(u8),
    PeerSends(u8),
    Restart,
    Stale,
    /// Answers nothing for so many milliseconds.
    Down(u64),
    /// Allocates nothing for so many milliseconds.
    Refuse(u16, u64),
    Network(f64, f64, u64),
    NewCredentials,
    ShortLifetime(u32),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => (1_u64..5_000).prop_map(Op::Wait),
        1 => (1_u64..1_500_000).prop_map(Op::Wait),
        6 => (1_u8..5).prop_map(Op::Send),
        4 => (1_u8..6).prop_map(Op::PeerSends),
        1 => Just(Op::Restart),
        2 => Just(Op::Stale),
        1 => (1_u64..20_000).prop_map(Op::Down),
        1 => (prop::sample::select(vec![486_u16, 508, 500, 437, 403]), 1_u64..20_000)
            .prop_map(|(code, time)| Op::Refuse(code, time)),
        1 => (0.0..0.3_f64, 0.0..0.2_f64, 0_u64..200).prop_map(|(l, d, j)| Op::Network(l, d, j)),
        1 => Just(Op::NewCredentials),
        1 => (5_u32..600).prop_map(Op::ShortLifetime),
    ]
}

#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise, and only differences to it are used"
)]
fn epoch() -> Instant {
    Instant::now()
}

fn carry_out(world: &mut World, op: &Op, count: &mut u32) {
    let mut text = |what: &str| {
        *count += 1;
        format!("{what} {count}").into_bytes()
    };
    match *op {
        Op::Wait(time) => world.run(Duration::from_millis(time)),
        Op::Send(to) => world.send(to, &text("out")),
        Op::PeerSends(from) => world.peer_sends(from, &text("in")),
        Op::Restart => world.restart(),
        Op::Stale => world.server.stale(),
        Op::Down(time) => {
            world.server.down = true;
            world.run(Duration::from_millis(time));
            world.server.down = false;
        }
        Op::Refuse(code, time) => {
            world.server.refuse = Some(code);
            world.run(Duration::from_millis(time));
            world.server.refuse = None;
        }
        Op::Network(loss, doubled, jitter) => {
            (world.loss, world.doubled) = (loss, doubled);
            world.jitter = Duration::from_millis(jitter);
        }
        Op::NewCredentials => {
            let name = format!("alice{count}");
            world.credentials.update(Credentials::new(name, PASSWORD));
        }
        Op::ShortLifetime(seconds) => world.server.lifetime_max = seconds,
    }
}

/// Both ways, with as much patience as a server that died while nobody looked takes.
fn converges(world: &mut World) -> Duration {
    (world.loss, world.doubled, world.jitter) = (0.0, 0.0, Duration::ZERO);
    (world.server.down, world.server.refuse) = (false, None);
    let started = world.now;
    world.received.clear();
    world.server.at_peers.clear();
    loop {
        world.send(1, b"ping");
        world.peer_sends(1, b"pong");
        world.run(Duration::from_millis(250));
        let relayed = world.relayed.first().copied();
        let out =
            world.server.at_peers.iter().any(|(from, to, data)| {
                Some(*from) == relayed && *to == peer(1) && data == b"ping"
            });
        let elapsed = world.now - started;
        if out && world.received.contains(&(peer(1), b"pong".to_vec())) {
            return elapsed;
        }
        let state = (&world.relayed, &world.losses, &world.failed);
        assert!(
            elapsed < Duration::from_secs(90),
            "nothing flows: {state:?}"
        );
    }
}

fn plays(protocol: TurnProtocol, seed: u64, ops: &[Op]) {
    let mut world = World::new(protocol, seed, epoch());
    world.run(Duration::from_secs(1));
    assert_eq!(
        world.relayed.len(),
        1,
        "on a good network there is an address"
    );
    let mut count = 0;
    for op in ops {
        carry_out(&mut world, op, &mut count);
        assert_eq!(world.failed, None);
    }
    for (_, _, data) in &world.server.at_peers {
        assert!(data.starts_with(b"out "), "what was sent, and nothing else");
    }
    for (from, data) in &world.received {
        assert!(data.starts_with(b"in "), "what was sent, and nothing else");
        assert_ne!(*from, peer(5), "nobody said a word to this one");
    }
    converges(&mut world);
    assert!(
        world.server.violations.is_empty(),
        "{:?}",
        world.server.violations
    );
    let relayed = world.relayed[0];
    world.source.close(world.now);
    world.drain();
    world.run(Duration::from_secs(1));
    assert_eq!(
        world.server.holder(relayed, world.now),
        None,
        "it was given back"
    );
    world.run(Duration::from_secs(3_700));
    assert_eq!(
        world.server.count(world.now),
        0,
        "whatever was left alone runs out"
    );
    assert_eq!(world.source.poll_timeout(), None, "nothing is left to do");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn datagrams(seed: u64, ops in prop::collection::vec(op(), 0..60)) {
        plays(TurnProtocol::Udp, seed, &ops);
    }

    #[test]
    fn streams(seed: u64, ops in prop::collection::vec(op(), 0..60)) {
        plays(TurnProtocol::Tcp, seed, &ops);
    }
}

/// Nothing happens for a day but consent checks, or not even these.
#[test]
fn a_quiet_day_costs_little_and_loses_nothing() {
    for (protocol, talks) in [(TurnProtocol::Udp, true), (TurnProtocol::Udp, false)] {
        let mut world = World::new(protocol, 1, epoch());
        world.run(Duration::from_secs(1));
        for minute in 0..24 * 60 {
            if talks || minute < 2 {
                world.send(1, b"consent");
                world.peer_sends(1, b"consent");
            }
            world.run(Duration::from_secs(60));
        }
        assert_eq!(world.losses, Vec::<String>::new());
        assert!(world.server.violations.is_empty());
        assert!(converges(&mut world) < Duration::from_secs(1));
    }
}

/// What RFC 8656 lets one hope for: two round trips after the challenge the first byte is at the peer.
#[test]
fn the_first_byte_is_at_the_peer_two_round_trips_after_the_challenge() {
    let mut world = World::new(TurnProtocol::Udp, 1, epoch());
    // One round trip to the challenge, one to the allocation, and half of one for the data.
    world.run(Duration::from_millis(80));
    assert_eq!(world.relayed.len(), 1);
    world.send(1, b"first");
    world.run(Duration::from_millis(20));
    assert_eq!(world.server.at_peers.len(), 1);
}

/// Found by the property: the server made a channel, none of its answers arrived, and the client did not hear what came
/// in it.
#[test]
fn a_channel_whose_answers_are_lost_is_heard() {
    let mut world = World::new(TurnProtocol::Udp, 1, epoch());
    world.run(Duration::from_secs(1));
    world.send(1, b"out");
    world.run(Duration::from_secs(1));
    world.peer_sends(1, b"in");
    world.run(Duration::from_millis(20));
    // The request for a channel is under way. What comes back is lost, until the client gives up.
    world.run(Duration::from_millis(1));
    world.loss_to_client = true;
    world.run(Duration::from_secs(7));
    world.loss_to_client = false;
    world.received.clear();
    world.run(Duration::from_secs(2));
    world.peer_sends(1, b"again");
    world.run(Duration::from_millis(50));
    assert_eq!(world.received, [(peer(1), b"again".to_vec())]);
}

/// Found by the property: two copies of a request arrive just before and just after what its first one made has run out,
/// so that the server tells of one allocation and has another.
#[test]
fn an_allocation_that_may_have_run_out_before_it_is_told_is_not_used() {
    let ops = [
        Op::ShortLifetime(17),
        Op::Wait(586_182),
        Op::Restart,
        Op::Network(0.10559878653050087, 0.04966454377665342, 1),
        Op::ShortLifetime(7),
        Op::Refuse(486, 10_962),
        Op::Wait(246_267),
        Op::Wait(1_483),
    ];
    plays(TurnProtocol::Udp, 16_320_443_235_630_022_829, &ops);
}

/// Allocations that are good for nothing: each of them is told to the peer, and asked for and given back.
#[test]
fn a_server_that_forgets_each_allocation_at_once_is_asked_less_and_less() {
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let minute = Duration::from_secs(60);
        let mut world = World::start(protocol, 1, epoch(), &[home(1)], minute);
        world.run(Duration::from_secs(1));
        world.server.refuse_permission = Some(437);
        for _ in 0..1_000 {
            world.send(1, b"out");
            world.run(Duration::from_millis(100));
            assert!(
                world.server.count(world.now) <= 1,
                "the others are given back"
            );
        }
        assert!(world.losses.len() < 15, "{} losses", world.losses.len());
        let failed = world.failed.expect("it has an end");
        assert!(failed.contains("437"), "{failed}");
    }
}

/// What served for long is sought again without delay.
#[test]
fn an_allocation_that_served_is_followed_by_another_at_once() {
    let mut world = World::new(TurnProtocol::Udp, 1, epoch());
    for _ in 0..5 {
        world.run(Duration::from_secs(40));
        world.restart();
        world.send(1, b"out");
        world.run(Duration::from_millis(400));
        assert_eq!(world.relayed.len(), 1, "{:?}", world.losses);
    }
    assert_eq!(world.losses.len(), 5);
}

/// The network changes before there is an allocation: at once, with a gap, or from nothing at all.
#[test]
fn an_address_that_comes_while_there_is_no_allocation_is_used() {
    let away = Duration::from_secs(2);
    let six = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1]);
    for (first, gap) in [
        (&[home(1)][..], None),
        (&[home(1)], Some(away)),
        (&[], Some(away)),
        (&[six], Some(away)),
    ] {
        let minute = Duration::from_secs(60);
        let mut world = World::start(TurnProtocol::Udp, 1, epoch(), first, minute);
        // The first request is under way.
        world.run(Duration::from_millis(30));
        if let Some(gap) = gap {
            world.moves(&[]);
            world.run(gap);
        }
        world.moves(&[home(2)]);
        world.run(Duration::from_millis(100));
        assert_eq!(world.failed, None);
        assert_eq!(world.relayed.len(), 1, "{first:?} {gap:?}");
        assert_eq!(world.server.count(world.now), 1);
    }
}

/// Of two addresses one goes: what the other has begun goes on, and a third joins it.
#[test]
fn an_address_that_goes_takes_nothing_from_the_others() {
    let both = [home(1), home(2)];
    let mut world = World::start(TurnProtocol::Udp, 1, epoch(), &both, Duration::ZERO);
    world.server.down = true;
    world.run(Duration::from_millis(300));
    world.moves(&[home(2)]);
    world.run(Duration::from_millis(300));
    world.moves(&[home(2), home(3)]);
    world.run(Duration::from_millis(10));
    world.moves(&[home(3)]);
    world.server.down = false;
    world.run(Duration::from_millis(600));
    assert_eq!(world.failed, None);
    assert_eq!(world.relayed.len(), 1);
}

/// Who has no address for long is told so.
#[test]
fn without_any_address_the_search_has_an_end() {
    let minute = Duration::from_secs(60);
    for first in [&[][..], &[home(1)]] {
        let mut world = World::start(TurnProtocol::Udp, 1, epoch(), first, minute);
        world.run(Duration::from_millis(30));
        world.moves(&[]);
        world.run(Duration::from_secs(50));
        assert_eq!(world.failed, None);
        world.run(Duration::from_secs(20));
        assert!(world.failed.is_some());
        assert_eq!(world.source.poll_timeout(), None, "nothing is left to do");
    }
}

/// A host that goes from network to network is no server that forgets.
#[test]
fn allocations_that_end_with_their_address_are_followed_by_others_at_once() {
    let minute = Duration::from_secs(60);
    let mut world = World::start(TurnProtocol::Udp, 1, epoch(), &[home(1)], minute);
    for number in 2..30 {
        world.run(Duration::from_secs(10));
        world.moves(&[home(number)]);
        world.run(Duration::from_millis(100));
        assert_eq!(world.relayed.len(), 1, "{number}: {:?}", world.failed);
    }
}
