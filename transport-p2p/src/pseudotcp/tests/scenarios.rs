//! Courses of events that have a name.

use super::network::{Link, World, pattern};
use crate::pseudotcp::{
    Config, Error, MIN_MTU, PseudoTcp, State,
    ranges::ORIGIN,
    wire::{HEADER, Header},
};
use bytes::Bytes;
use session_core::testing::epoch;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(600);

fn world(link: Link) -> World {
    World::new([Config::default(), Config::default()], [link, link], 1)
}

fn transfer(world: &mut World, size: usize) {
    world.apps[0].data = pattern(size, 5);
    world.apps.iter_mut().for_each(|app| app.close = true);
    assert!(world.run(LIMIT, |_| false));
    assert!(world.apps[1].received == world.apps[0].data);
    assert_eq!(world.apps[0].closed, Some(None));
    assert_eq!(world.apps[1].closed, Some(None));
}

#[test]
fn opens_in_one_round_trip() {
    let mut world = world(Link {
        delay: Duration::from_millis(25),
        ..Link::default()
    });
    assert!(world.run(LIMIT, |world| world.apps[0].opened));
    assert_eq!(world.elapsed(), Duration::from_millis(50));
    assert!(world.run(LIMIT, |world| world.apps[1].opened));
    assert_eq!(world.elapsed(), Duration::from_millis(75));
}

#[test]
fn both_may_call() {
    let mut world = world(Link::default());
    let now = world.now;
    world.ends[1].connect(now).unwrap();
    transfer(&mut world, 100_000);
}

#[test]
fn both_may_close_at_once() {
    let mut world = world(Link::default());
    assert!(world.run(LIMIT, |world| world.apps[0].opened && world.apps[1].opened));
    for end in 0..2 {
        let now = world.now;
        world.ends[end].close(now);
    }
    assert!(world.run(LIMIT, |world| world.states() == [State::Lingering; 2]));
    assert!(world.run(LIMIT, |_| false));
    assert_eq!(world.states(), [State::Closed; 2]);
}

#[test]
fn half_closed_streams_carry_the_other_direction() {
    let mut world = world(Link::default());
    world.apps[0].close = true;
    assert!(world.run(LIMIT, |world| world.apps[1].peer_closed));
    world.apps[1].data = pattern(300_000, 9);
    world.apps[1].close = true;
    assert!(world.run(LIMIT, |_| false));
    assert!(world.apps[0].received == world.apps[1].data);
}

#[test]
fn abort_reaches_the_peer() {
    let mut world = world(Link::default());
    world.apps[0].data = pattern(1 << 20, 2);
    world.run(LIMIT, |world| world.apps[1].received.len() > 200_000);
    let now = world.now;
    world.ends[0].abort(now);
    assert!(world.run(LIMIT, |_| false));
    assert_eq!(world.apps[0].closed, Some(Some(Error::Aborted)));
    assert_eq!(world.apps[1].closed, Some(Some(Error::Reset)));
    let received = &world.apps[1].received;
    assert!(world.apps[0].data.starts_with(received));
}

#[test]
fn one_lost_segment_is_repaired_without_a_timeout() {
    for sack in [true, false] {
        let mut world = world(Link::default());
        world.ends[1] = PseudoTcp::new(
            Config {
                sack,
                ..Config::default()
            },
            world.now,
        );
        world.apps[0].data = pattern(400_000, 5);
        world.run(LIMIT, |world| world.apps[1].received.len() > 100_000);
        world.links[0].drop = 1;
        assert!(world.run(LIMIT, |world| world.apps[1].received.len() == 400_000));
        let stats = world.ends[0].stats();
        assert_eq!((stats.timeouts, stats.recoveries), (0, 1), "sack {sack}");
        assert_eq!(world.ends[0].has_sack(), sack);
    }
}

#[test]
fn every_hole_of_a_window_is_filled_in_one_round_trip() {
    let rtt = Duration::from_millis(100);
    let mut world = world(Link {
        delay: rtt / 2,
        ..Link::default()
    });
    world.apps[0].data = pattern(1 << 20, 5);
    world.run(LIMIT, |world| world.apps[1].received.len() > 300_000);
    let before = world.ends[0].stats();
    world.links[0].loss = 150;
    let begun = world.now;
    world.run(LIMIT, |world| world.now > begun);
    world.run(LIMIT, |world| {
        world.ends[0].stats().segments_sent > before.segments_sent + 60
    });
    world.links[0].loss = 0;
    let lost = world.dropped;
    assert!(lost > 5, "{lost}");
    let healed = world.now + rtt * 5 / 2;
    world.run(LIMIT, |world| world.now > healed);
    let stats = world.ends[0].stats();
    assert_eq!(stats.timeouts, 0);
    assert!(!world.ends[1].inbox.has_holes());
    let resent = (stats.bytes_retransmitted - before.bytes_retransmitted).div_ceil(1384);
    assert!(resent <= lost + 2, "{resent} for {lost}");
}

#[test]
fn lost_tail_does_not_wait_for_the_timeout() {
    for lost in 1..6 {
        let mut world = world(Link::default());
        world.apps[0].data = pattern(200_000, 5);
        world.run(LIMIT, |world| {
            world.ends[0].unacknowledged() == 0 && world.apps[0].opened
        });
        world.apps[0].data.extend(pattern(1384 * 7, 6));
        // The last segments of seven.
        world.links[0].skip = 7 - lost;
        world.links[0].drop = lost;
        let begun = world.now;
        let all = world.apps[0].data.len();
        assert!(world.run(LIMIT, |world| world.apps[1].received.len() == all));
        assert_eq!(world.ends[0].stats().timeouts, 0, "{lost}");
        let taken = world.now - begun;
        // A lone segment may be waiting for the peer's delayed acknowledgement: that takes 100 ms more to rule out.
        let limit = if lost == 1 { 200 } else { 100 };
        assert!(taken < Duration::from_millis(limit), "{lost}: {taken:?}");
    }
}

#[test]
fn reordering_is_not_loss_twice() {
    let mut world = world(Link {
        delay: Duration::from_millis(20),
        jitter: Duration::from_millis(3),
        ..Link::default()
    });
    transfer(&mut world, 3 << 20);
    let stats = world.ends[0].stats();
    assert_eq!(stats.timeouts, 0);
    assert!(stats.bytes_retransmitted < 600_000, "{stats:?}");
}

#[test]
fn throughput_of_a_clean_path_is_the_paths() {
    // 100 Mbit/s, 50 ms, a buffer of one bandwidth-delay product: libnice's fixed window gives a tenth of it.
    let link = Link {
        delay: Duration::from_millis(25),
        rate: Some((12_500_000, 625_000)),
        ..Link::default()
    };
    let mut world = World::new(
        [Config::default(), Config::default()],
        [
            link,
            Link {
                delay: Duration::from_millis(25),
                ..Link::default()
            },
        ],
        1,
    );
    transfer(&mut world, 60 << 20);
    let finished = world.elapsed().saturating_sub(Duration::from_secs(30));
    let rate = 60.0 * 1.048_576 / finished.as_secs_f64();
    assert!(rate > 10.5, "{rate} MB/s");
}

#[test]
fn mtu_steps_down_until_datagrams_fit() {
    let mut world = World::new(
        [
            Config {
                mtu: 65535,
                ..Config::default()
            },
            Config::default(),
        ],
        [Link::default(), Link::default()],
        1,
    );
    world.links[0].mtu = 1200;
    transfer(&mut world, 200_000);
    assert_eq!(world.ends[0].mtu(), 1006);
}

#[test]
fn path_that_carries_nothing_is_an_error() {
    let mut world = world(Link::default());
    world.links[0].mtu = 100;
    world.apps[0].data = pattern(10_000, 1);
    assert!(world.run(LIMIT, |world| world.apps[0].closed.is_some()));
    assert_eq!(world.apps[0].closed, Some(Some(Error::PathTooSmall)));
    assert_eq!(world.ends[0].mtu(), MIN_MTU);
}

#[test]
fn slow_reader_stops_the_sender_and_loses_nothing() {
    let mut world = world(Link::default());
    world.ends[1] = PseudoTcp::new(
        Config {
            receive_buffer: 8000,
            ..Config::default()
        },
        world.now,
    );
    world.apps[1].reads_after = Some(world.now + Duration::from_secs(20));
    world.apps[0].data = pattern(100_000, 3);
    world.run(Duration::from_secs(19), |_| false);
    assert!(world.ends[1].received() <= 8000);
    assert!(world.ends[0].writable() > 0);
    assert!(world.run(LIMIT, |world| world.apps[1].received.len() == 100_000));
    // A read tells the peer about the space: nobody waits for a probe.
    assert!(
        world.elapsed() < Duration::from_secs(21),
        "{:?}",
        world.elapsed()
    );
    assert_eq!(world.ends[0].stats().timeouts, 0);
}

#[test]
fn short_writes_share_segments_unless_told_otherwise() {
    for no_delay in [false, true] {
        let now = epoch();
        let config = Config {
            no_delay,
            ..Config::default()
        };
        let mut world = World::new([config, Config::default()], Default::default(), 1);
        world.run(LIMIT, |world| world.apps[0].opened);
        let end = &mut world.ends[0];
        let mut segments = 0;
        for _ in 0..20 {
            end.write(b"key", now).unwrap();
            segments += usize::from(end.poll_transmit(world.now, 64).is_some());
        }
        // The first goes at once, the other ones wait for its acknowledgement.
        assert_eq!(segments, if no_delay { 20 } else { 1 });
    }
}

#[test]
fn streams_pass_four_gigabytes() {
    let mut now = epoch();
    let config = Config {
        mtu: 65535,
        receive_buffer: 64 << 20,
        send_buffer: 64 << 20,
        ..Config::default()
    };
    let mut a = PseudoTcp::with_start(config.clone(), 0, now);
    let mut b = PseudoTcp::with_start(config, 0, now);
    a.connect(now).unwrap();
    let block = Bytes::from(pattern(1 << 20, 1));
    let total = (4u64 << 30) + (300 << 20);
    let (mut written, mut read) = (0u64, 0u64);
    let begun = now;
    while read < total {
        now += Duration::from_micros(100);
        assert!(now - begun < Duration::from_secs(100), "stuck");
        while written < total {
            let at = (written % block.len() as u64) as usize;
            let Ok(taken @ 1..) = a.send(&mut block.slice(at..), now) else {
                break;
            };
            written += taken as u64;
        }
        while let Some(batch) = a.poll_transmit(now, 64) {
            b.handle_batch(batch.payload, batch.segment_size, now);
        }
        while let Some(bytes) = b.read(now) {
            let at = (read % block.len() as u64) as usize;
            let upto = bytes.len().min(block.len() - at);
            // Comparing some bytes of each slice keeps the test fast.
            assert_eq!(bytes[..upto.min(16)], block[at..at + upto.min(16)]);
            read += bytes.len() as u64;
        }
        while let Some(batch) = b.poll_transmit(now, 64) {
            a.handle_batch(batch.payload, batch.segment_size, now);
        }
    }
    assert!(a.flight.una() > 2 * ORIGIN);
    assert_eq!(a.stats().timeouts + a.stats().recoveries, 0);
    assert_eq!(a.unacknowledged(), 0);
}

#[test]
fn clock_may_wrap() {
    let now = epoch();
    let mut end = PseudoTcp::new(Config::default(), now);
    let wrap = Duration::from_millis(u32::MAX.into());
    end.connect(now + wrap).unwrap();
    let call = end.poll_transmit(now + wrap, 1).unwrap();
    let sent = Header::decode(&call.payload).unwrap();
    assert_eq!(sent.tsval, 0);
    let answer = Header {
        acknowledged: (call.payload.len() - HEADER) as u32,
        tsecr: u32::MAX - 2,
        ..sent
    };
    let answer = [&answer.encode()[..], &[0]].concat();
    end.handle_segment(&answer, now + wrap + Duration::from_millis(40));
    assert_eq!(end.srtt(), Some(Duration::from_millis(40)));
}

/// 100 Mbit/s, 50 ms, a buffer of one product of both: bytes a second over 32 MiB, and bytes sent again for each lost.
fn over_a_usual_link(loss: u32) -> (f64, f64, World) {
    let mut world = world(Link {
        delay: Duration::from_millis(25),
        rate: Some((12_500_000, 625_000)),
        loss,
        ..Link::default()
    });
    let size = 32 << 20;
    world.apps[0].data = pattern(size, 5);
    assert!(world.run(LIMIT, |world| world.apps[1].received.len() == size));
    let rate = size as f64 / world.elapsed().as_secs_f64();
    let stats = world.ends[0].stats();
    let again = stats.bytes_retransmitted as f64 / stats.bytes_lost.max(1) as f64;
    (rate, again, world)
}

#[test]
fn fills_a_link_whether_it_loses_or_not() {
    // Of 12.5 MB a second, with the start of about a second.
    let (rate, _, _) = over_a_usual_link(0);
    assert!(rate > 10.5e6, "{rate}");
    let (rate, again, world) = over_a_usual_link(10);
    assert!(rate > (9 << 20) as f64, "{rate}");
    assert!(again < 1.2, "{again} sent again for each byte lost");
    assert!(world.ends[0].stats().timeouts <= 1);
}
