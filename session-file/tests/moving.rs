//! Tunnels whose transport fails while bytes are under way, and that go on over the next.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use common::*;
use proptest::prelude::*;
use session_core::testing::Conditions;
use session_file::{Completeness, Read, Tunnel, TunnelClient};
use std::time::Duration;

/// The first transport fails after `after`, while Alice writes a piece and Bob reads one every so often.
fn moves(after: Duration, size: usize, piece: usize, pace: Duration, both: bool) {
    let mut world = world(Setup {
        carrier: Carrier::Failing(after),
        ..Setup::default()
    });
    let tunnel = if both {
        Tunnel::new("both").unwrap()
    } else {
        Tunnel::receive("f").unwrap()
    };
    let (alice, bob) = opened(&mut world, &tunnel);
    // The end of the session overtakes the end of its connection, which is no end that anybody asked for.
    world.set_wire(Conditions::with_delay(Duration::from_millis(20)));
    world.set_network(Conditions::with_delay(Duration::from_millis(25)));
    let mut senders = vec![Sender::new(ALICE, alice, data(size))];
    let mut receivers = vec![Receiver::new(BOB, bob)];
    if both {
        senders.push(Sender::new(BOB, bob, data(size / 2)));
        receivers.push(Receiver::new(ALICE, alice));
    }
    for _ in 0..2_000 {
        for sender in &mut senders {
            // One piece at a time, and not as much as is taken.
            let count = piece.min(sender.left.len());
            let (host, id) = (sender.host, sender.id);
            let mut bytes = sender.left.slice(..count);
            let last = count == sender.left.len() && !sender.finished;
            world.update(host, |manager, now| {
                if count > 0 {
                    TunnelClient::write(manager, id, &mut bytes, now).unwrap();
                }
                if last && bytes.is_empty() {
                    TunnelClient::finish(manager, id, now).unwrap();
                    sender.finished = true;
                }
            });
            let _ = sender.left.split_to(count - bytes.len());
        }
        world.run_for(pace);
        for receiver in &mut receivers {
            receiver.step(&mut world, 3_000);
        }
        if receivers.iter().all(|r| r.end.is_some()) {
            break;
        }
    }
    for (receiver, size) in receivers.iter().zip([size, size / 2]) {
        assert_eq!(
            receiver.bytes.len(),
            size,
            "after {after:?}: {:?}",
            receiver.end
        );
        assert!(receiver.bytes == data(size), "each byte once and in order");
        assert_eq!(receiver.end, Some(Read::End(Completeness::Verified)));
    }
    world.run_for(Duration::from_secs(60));
    for (host, id) in [(ALICE, alice), (BOB, bob)] {
        let cause = look(&mut world, host, id, |s| s.cause().cloned().unwrap());
        let text = cause.to_string();
        assert!(text.contains("success"), "{text}");
    }
    world.check();
}

#[test]
fn a_stream_that_is_under_way_moves_and_no_byte_comes_twice() {
    for ms in [10, 100, 500, 1_000, 2_490, 4_990, 5_030, 9_000] {
        for both in [false, true] {
            moves(
                Duration::from_millis(ms),
                500_000,
                5_000,
                Duration::from_millis(50),
                both,
            );
        }
    }
    // More than is told of at once.
    moves(
        Duration::from_millis(700),
        6_000_000,
        60_000,
        Duration::from_millis(10),
        true,
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn whenever_the_transport_fails_each_byte_comes_once(
        after in 0..4_000u64,
        size in 1..200_000usize,
        piece in 500..20_000usize,
        pace in 1..80u64,
        both: bool,
    ) {
        moves(Duration::from_millis(after), size, piece, Duration::from_millis(pace), both);
    }
}
