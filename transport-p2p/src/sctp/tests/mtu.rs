use super::{
    super::Config,
    network::{Path, World},
};
use bytes::Bytes;
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);

fn on(mtu: usize) -> World {
    let path = Path {
        mtu,
        ..Path::usual(0.0)
    };
    World::open(path, [Config::default(), Config::default()])
}

/// Sends so many messages of 60,000 bytes, and sees that they arrive as they were.
fn carry(world: &mut World, messages: u8) {
    for message in 0..messages {
        world.send(0, 1, vec![message; 60_000]);
    }
    assert!(world.run_until(MINUTE, |world| world.ends[0].is_delivered()));
    for message in 0..messages {
        let read = world.ends[1].read(world.now).expect("a message");
        assert_eq!(read.payload, Bytes::from(vec![message; 60_000]));
    }
}

#[test]
fn packets_grow_to_what_the_path_carries() {
    for (mtu, expected) in [(1_200, 1_180), (8_700, 1_180), (9_000, 8_800)] {
        let mut world = on(mtu);
        assert_eq!(world.ends[0].packet_size(), 1_180);
        carry(&mut world, 40);
        assert_eq!(world.ends[0].packet_size(), expected, "{mtu}");
        assert_eq!(world.ends[0].stats().timeouts, 0, "{mtu}");
        let packets = world.sent[0];
        carry(&mut world, 40);
        let least = 40 * 60_000 / expected as u64;
        assert!(
            world.sent[0] - packets <= least * 110 / 100,
            "{} packets of {expected} bytes",
            world.sent[0] - packets
        );
    }
}

#[test]
fn who_wants_no_larger_packets_asks_for_none() {
    let plain = Config {
        largest_packet: 1_180,
        ..Config::default()
    };
    let path = Path {
        mtu: 65_000,
        ..Path::usual(0.0)
    };
    let mut world = World::open(path, [plain, Config::default()]);
    carry(&mut world, 40);
    assert_eq!(world.ends[0].packet_size(), 1_180);
}

/// What the channel below takes is known: nothing is tried that cannot leave, or that would be worth nothing.
#[test]
fn no_more_is_tried_than_the_channel_below_takes() {
    for (most, expected) in [(1_435, 1_180), (3_963, 3_960), (65_000, 8_800)] {
        let mut world = on(9_000);
        world.ends[0].limit_packets(Some(most));
        carry(&mut world, 40);
        assert_eq!(world.ends[0].packet_size(), expected);
        assert_eq!(world.largest[0], expected, "and no probe was larger");
    }
    // Another path takes less.
    let mut world = on(9_000);
    carry(&mut world, 40);
    world.ends[0].limit_packets(Some(4_000));
    world.largest = [0; 2];
    carry(&mut world, 40);
    assert_eq!(
        (world.ends[0].packet_size(), world.largest[0]),
        (4_000, 4_000)
    );
}

#[test]
fn a_path_that_carries_less_all_of_a_sudden_loses_nothing() {
    for after in [1_200, 1_450] {
        let mut world = on(9_000);
        carry(&mut world, 40);
        for message in 0..40 {
            world.send(0, 1, vec![message; 60_000]);
        }
        let sent = world.sent[0];
        assert!(world.run_until(MINUTE, |world| world.sent[0] > sent + 60));
        world.path.mtu = after;
        let start = world.now;
        let done = world.run_until(MINUTE, |world| world.ends[0].is_delivered());
        assert!(done, "{after} {:?}", world.ends[0].stats());
        assert_eq!(world.ends[0].packet_size(), 1_180);
        assert!(
            world.now - start < Duration::from_secs(4),
            "{:?}",
            world.now - start
        );
        for message in 0..40 {
            let read = world.ends[1].read(world.now).expect("a message");
            assert_eq!(read.payload, Bytes::from(vec![message; 60_000]));
        }
        // It may have been for a moment.
        world.run_for(Duration::from_secs(2));
        carry(&mut world, 40);
        assert_eq!(world.ends[0].packet_size(), 1_180);
    }
}

#[test]
fn a_path_that_carries_nothing_for_a_moment_is_asked_again() {
    let mut world = on(9_000);
    carry(&mut world, 40);
    world.send(0, 1, vec![7; 60_000]);
    world.path.loss = 1.0;
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.ends[0].packet_size(), 1_180);
    world.path.loss = 0.0;
    assert!(world.run_until(MINUTE, |world| world.ends[0].is_delivered()));
    world.ends[1].read(world.now).expect("a message");
    carry(&mut world, 40);
    assert_eq!(world.ends[0].packet_size(), 8_800);
}

#[test]
fn another_path_is_asked_anew() {
    let mut world = on(9_000);
    carry(&mut world, 40);
    assert_eq!(world.ends[0].packet_size(), 8_800);
    let now = world.now;
    world.ends[0].handle_path_up(now);
    assert_eq!(world.ends[0].packet_size(), 1_180);
    carry(&mut world, 40);
    assert_eq!(world.ends[0].packet_size(), 8_800);
}

#[test]
fn a_lossy_path_is_asked_again() {
    for seed in 0..20 {
        let path = Path {
            mtu: 9_000,
            loss: 0.02,
            seed,
            ..Path::usual(0.0)
        };
        let mut world = World::open(path, [Config::default(), Config::default()]);
        // When nothing came back for a while, it begins anew.
        let grown = (0..20).any(|_| {
            carry(&mut world, 100);
            world.ends[0].packet_size() == 8_800
        });
        assert!(grown, "seed {seed}");
    }
}
