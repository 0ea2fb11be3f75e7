//! Whatever the path does: every byte exactly once and in order, or an error.

use super::network::{Link, World, pattern};
use crate::pseudotcp::{Config, Error, State};
use proptest::prelude::*;
use std::{cell::Cell, time::Duration};

/// Virtual time after which a transfer counts as stuck.
const LIMIT: Duration = Duration::from_secs(3600);

fn config() -> impl Strategy<Value = Config> {
    (
        prop_oneof![1..40usize, 1000..10_000usize, Just(61_440), Just(4 << 20)],
        prop_oneof![1..40usize, 1000..10_000usize, Just(4 << 20)],
        prop_oneof![Just(296u16), Just(1500), 296..=65535u16],
        any::<(bool, bool, bool, bool)>(),
        prop_oneof![Just(0u64), Just(100), 0..500u64],
    )
        .prop_map(
            |(receive, send, mtu, (scale, fin, sack, no_delay), delay)| Config {
                receive_buffer: receive,
                send_buffer: send,
                mtu,
                window_scale: scale,
                fin,
                sack,
                no_delay,
                ack_delay: Duration::from_millis(delay),
                ..Config::default()
            },
        )
}

fn link() -> impl Strategy<Value = Link> {
    (
        0..200u64,
        prop_oneof![Just(0u64), 0..50u64],
        prop_oneof![Just(0u32), 0..50u32, 0..250u32],
        prop_oneof![Just(0u32), 0..100u32],
        prop::option::of((20_000..20_000_000u64, 3000..300_000u64)),
        any::<bool>(),
    )
        .prop_map(|(delay, jitter, loss, duplicate, rate, offload)| Link {
            delay: Duration::from_millis(delay),
            jitter: Duration::from_millis(jitter),
            loss,
            duplicate,
            rate: rate.map(|(rate, buffer)| (rate, buffer.max(70_000))),
            offload,
            ..Link::default()
        })
}

fn start() -> impl Strategy<Value = u32> {
    prop_oneof![
        Just(0u32),
        any::<u32>(),
        (0..100_000u32).prop_map(|below| u32::MAX - below),
    ]
}

fn size(config: &Config, want: usize) -> usize {
    // Tiny buffers take a round trip for every few bytes.
    want.min(config.receive_buffer.min(config.send_buffer).min(1 << 20) * 40)
}

proptest! {

    #[test]
    fn streams_arrive_whole_or_fail(
        configs in [config(), config()],
        starts in [start(), start()],
        links in [link(), link()],
        seed in any::<u64>(),
        wants in [0..150_000usize, 0..150_000usize],
        chunks in [0..5000usize, 0..5000usize],
        pauses in [prop_oneof![Just(0u64), 0..30u64], prop_oneof![Just(0u64), 0..30u64]],
        batch in 1..64usize,
    ) {
        let data = [0, 1].map(|end| {
            let least = if configs[end].receive_buffer < configs[1 - end].receive_buffer { &configs[end] } else { &configs[1 - end] };
            let want = wants[end] / if links.iter().any(|link| link.loss > 100) { 8 } else { 1 };
            pattern(size(least, want).min(size(&configs[end], want)), seed ^ end as u64)
        });
        let mut world = World::with_starts(configs.clone(), starts, links, seed);
        world.batch = batch;
        for end in 0..2 {
            let app = &mut world.apps[end];
            app.data = data[end].clone();
            app.chunk = chunks[end];
            app.read_pause = Duration::from_millis(pauses[end]);
        }
        let fin = configs[0].fin && configs[1].fin;
        for app in &mut world.apps {
            app.close = fin;
        }
        let within_bounds = |world: &World| (0..2).all(|end| {
            world.ends[end].received() <= configs[end].receive_buffer as u64
                && world.ends[end].unacknowledged() <= configs[end].send_buffer as u64
        });
        let exceeded = Cell::new(false);
        let finished = world.run(LIMIT, |world| {
            exceeded.set(exceeded.get() || !within_bounds(world));
            // Without FIN nothing on the wire tells that the peer has everything: the applications must know.
            !fin && (0..2).all(|end| world.apps[end].received.len() == data[1 - end].len()
                && world.ends[end].unacknowledged() == 0 && world.apps[end].opened)
        });
        prop_assert!(finished, "stuck: {:?}", world.states());
        prop_assert!(!exceeded.get(), "held more than the buffers");
        if !fin {
            for end in 0..2 {
                world.ends[end].close(world.now);
            }
            prop_assert!(world.run(LIMIT, |_| false));
        }
        for end in 0..2 {
            let (app, sent) = (&world.apps[end], &data[1 - end]);
            // Who is done first cannot know that its last acknowledgement arrived (two generals): if all are lost,
            // the other one gives up.
            let last = app.closed == Some(Some(Error::TimedOut)) && world.apps[1 - end].closed == Some(None);
            prop_assert!(app.closed == Some(None) || last, "{:?}", app.closed);
            prop_assert_eq!(world.ends[end].state(), State::Closed);
            prop_assert_eq!(app.peer_closed, fin);
            prop_assert_eq!(world.ends[end].received(), 0);
            prop_assert!(app.received == *sent, "{} of {} bytes, or other ones", app.received.len(), sent.len());
        }
    }
}
