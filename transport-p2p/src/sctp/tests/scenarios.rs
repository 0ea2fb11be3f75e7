use super::{
    super::{
        ChannelConfig, ChannelEvent, Config, DataChannels, Delivery, Error, Event, SendError, State,
    },
    network::{Path, World, throughput},
};
use crate::sctp::Association;
use bytes::Bytes;
use session_core::testing::epoch;
use std::time::{Duration, Instant};

const MINUTE: Duration = Duration::from_secs(60);

fn configs() -> [Config; 2] {
    [Config::default(), Config::default()]
}

/// Loses, doubles and reorders much.
fn rough(seed: u64) -> Path {
    Path {
        loss: 0.3,
        reorder: 0.2,
        double: 0.2,
        seed,
        ..Path::clean()
    }
}

#[test]
fn one_end_connects() {
    let mut world = World::new(Path::clean(), configs());
    let start = world.now;
    world.ends[0].connect(start);
    assert!(world.run_until(MINUTE, |world| {
        world
            .ends
            .iter()
            .all(|end| end.state() == State::Established)
    }));
    assert_eq!(world.now - start, Duration::from_millis(100));
    assert_eq!(world.events[0], [Event::Open]);
    assert_eq!(world.events[1], [Event::Open]);
    assert!(world.ends.iter().all(Association::is_interleaved));
    assert!(world.ends.iter().all(Association::has_no_checksums));
}

#[test]
fn both_ends_connect_at_once_and_through_losses() {
    for seed in 0..40 {
        let world = World::open(rough(seed), configs());
        assert_eq!(world.events[0], [Event::Open]);
        assert_eq!(world.events[1], [Event::Open]);
    }
}

#[test]
fn what_waits_leaves_with_the_cookie() {
    let mut world = World::new(Path::clean(), configs());
    let start = world.now;
    world.ends[0].connect(start);
    world.send(0, 3, "hello");
    world.send(0, 3, vec![1; 5_000]);
    assert!(world.run_until(MINUTE, |world| world.ends[1].inbound.has_messages()));
    assert_eq!(world.now - start, Duration::from_millis(75));
    assert_eq!(world.sent[0], 2, "one packet until the answer");
    assert!(world.run_until(MINUTE, |world| world.ends[0].is_delivered()));
    let messages: Vec<_> = std::iter::from_fn(|| world.ends[1].read(start)).collect();
    assert_eq!(messages[0].payload, "hello");
    assert_eq!(messages[1].payload, vec![1; 5_000]);
    assert_eq!(world.ends[0].stats().bytes_retransmitted, 0);
}

#[test]
fn what_left_with_a_cookie_arrives_once_whoever_opens() {
    for seed in 0..100 {
        let mut world = World::new(rough(seed), configs());
        let start = world.now;
        for end in 0..2 {
            world.ends[end].connect(start);
            for message in 0..5 {
                world.send(end, 3, vec![message; 700]);
            }
        }
        let done = world.run_until(MINUTE * 10, |world| {
            world.ends.iter().all(Association::is_delivered)
        });
        assert!(done, "seed {seed}");
        for end in 0..2 {
            let messages: Vec<_> = std::iter::from_fn(|| world.ends[end].read(start)).collect();
            let expected: Vec<_> = (0..5).map(|message| vec![message; 700]).collect();
            let payloads: Vec<_> = messages.iter().map(|m| m.payload.to_vec()).collect();
            assert_eq!(payloads, expected, "seed {seed}");
        }
    }
}

#[test]
fn signalled_inits_open_without_a_round_trip() {
    let mut world = World::new(Path::clean(), configs());
    let inits = [world.ends[0].init_chunk(), world.ends[1].init_chunk()];
    let now = world.now;
    assert!(!world.ends[0].connect_with(b"\x01\0\0\x04", now));
    assert!(world.ends[0].connect_with(&inits[1], now));
    assert!(world.ends[1].connect_with(&inits[0], now));
    world.send(0, 3, "hello");
    world.run_until(MINUTE, |world| world.ends[1].inbound.has_messages());
    assert_eq!(world.now - now, Duration::from_millis(25));
    let message = world.ends[1].read(now).expect("a message");
    assert_eq!((message.stream, message.payload), (3, "hello".into()));
}

#[test]
fn ends_that_have_less_agree_on_less() {
    let plain = Config {
        interleave: false,
        no_checksums: false,
        streams: 7,
        ..Config::default()
    };
    let mut world = World::open(Path::clean(), [plain, Config::default()]);
    for end in 0..2 {
        assert!(!world.ends[end].is_interleaved());
        assert!(!world.ends[end].has_no_checksums());
        assert_eq!(world.ends[end].streams(), 7);
        let refused = world.ends[end].send(7, 53, "x".into(), &Delivery::default(), world.now);
        assert_eq!(refused, Err(SendError::NoSuchStream));
    }
    world.send(0, 6, vec![5; 100_000]);
    assert!(world.run_until(MINUTE, |world| world.ends[0].is_delivered()));
    assert_eq!(
        world.ends[1].read(world.now).expect("it").payload.len(),
        100_000
    );
}

#[test]
fn an_orderly_end_delivers_everything() {
    for seed in 0..20 {
        let path = Path {
            loss: 0.1,
            seed,
            ..Path::clean()
        };
        let mut world = World::open(path, configs());
        world.send(0, 0, vec![1; 50_000]);
        world.send(1, 0, vec![2; 50_000]);
        let now = world.now;
        world.ends[0].shutdown(now);
        assert!(world.run_until(MINUTE * 3, |world| {
            world.ends.iter().all(|end| end.state() == State::Closed)
        }));
        for end in 0..2 {
            assert_eq!(world.ends[end].read(now).expect("it").payload.len(), 50_000);
            // The last word may be lost; then one end waits in vain, and everything is there all the same.
            assert!(matches!(
                world.ends[end].error(),
                None | Some(Error::TimedOut)
            ));
        }
    }
}

#[test]
fn a_peer_that_is_gone_is_noticed() {
    let mut world = World::open(Path::clean(), configs());
    world.path.loss = 1.0;
    world.send(0, 0, "x");
    assert!(world.run_until(MINUTE * 10, |world| world.ends[0].state() == State::Closed));
    assert_eq!(world.ends[0].error(), Some(Error::TimedOut));
    let mut world = World::new(
        Path {
            loss: 1.0,
            ..Path::clean()
        },
        configs(),
    );
    let now = world.now;
    world.ends[0].connect(now);
    assert!(world.run_until(MINUTE * 10, |world| world.ends[0].state() == State::Closed));
    assert_eq!(world.ends[0].error(), Some(Error::ConnectTimedOut));
}

#[test]
fn an_abort_reaches_the_peer() {
    let mut world = World::open(Path::clean(), configs());
    world.ends[0].abort();
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.ends[0].error(), Some(Error::Aborted));
    assert_eq!(world.ends[1].error(), Some(Error::Reset));
}

#[test]
fn a_peer_that_restarts_ends_the_association() {
    let mut world = World::open(Path::clean(), configs());
    let now = world.now;
    world.ends[1] = Association::new(Config::default(), [9; 32], now);
    world.ends[1].connect(now);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.ends[0].error(), Some(Error::Restarted));
    assert_eq!(world.ends[1].error(), Some(Error::Reset));
}

#[test]
fn a_slow_reader_holds_the_sender_back() {
    let small = Config {
        receive_buffer: 8192,
        max_message_size: 4096,
        send_buffer: 20_000,
        ..Config::default()
    };
    let mut world = World::open(Path::clean(), [small.clone(), small]);
    let mut sent = 0u32;
    let delivery = Delivery::default();
    let mut fill = |world: &mut World| {
        while world.ends[0]
            .send(
                0,
                53,
                Bytes::copy_from_slice(&[sent.to_be_bytes(); 500].concat()),
                &delivery,
                world.now,
            )
            .is_ok()
        {
            sent += 1;
        }
    };
    fill(&mut world);
    world.run_for(Duration::from_secs(5));
    assert!(world.ends[1].received() <= 8192 + 4096);
    let mut expected = 0u32;
    while expected < 200 {
        fill(&mut world);
        world.run_for(Duration::from_secs(1));
        assert_eq!(world.ends[0].state(), State::Established);
        while let Some(message) = world.ends[1].read(world.now) {
            assert_eq!(message.payload[..4], expected.to_be_bytes());
            expected += 1;
        }
    }
}

#[test]
fn messages_of_limited_life_are_given_up() {
    for interleave in [false, true] {
        let config = Config {
            interleave,
            ..Config::default()
        };
        let mut world = World::open(Path::clean(), [config.clone(), config]);
        let now = world.now;
        world.path.loss = 1.0;
        let brief = Delivery {
            max_retransmits: Some(0),
            ..Delivery::default()
        };
        let brief_unordered = Delivery {
            lifetime: Some(Duration::from_millis(10)),
            unordered: true,
            ..Delivery::default()
        };
        let end = &mut world.ends[0];
        end.send(1, 53, vec![1; 10_000].into(), &brief, now)
            .expect("room");
        end.send(2, 53, vec![2; 3_000].into(), &brief_unordered, now)
            .expect("room");
        world.drain();
        world.path.loss = 0.0;
        world.send(0, 1, "after");
        assert!(world.run_until(MINUTE, |world| world.ends[1].inbound.has_messages()));
        let message = world.ends[1].read(world.now).expect("it");
        assert_eq!((message.stream, message.payload), (1, "after".into()));
        assert!(world.run_until(MINUTE, |world| world.ends[0].is_delivered()));
        assert_eq!(world.ends[1].read(world.now), None);
        assert_eq!(world.ends[1].received(), 0);
    }
}

/// Nothing is outstanding then, and nobody waits for anything.
#[test]
fn an_association_outlives_the_last_message_that_was_given_up() {
    for interleave in [false, true] {
        let config = Config {
            interleave,
            ..Config::default()
        };
        let mut world = World::open(Path::clean(), [config.clone(), config]);
        world.path.loss = 1.0;
        let brief = Delivery {
            max_retransmits: Some(0),
            ..Delivery::default()
        };
        let now = world.now;
        world.ends[0]
            .send(1, 53, "lost".into(), &brief, now)
            .expect("room");
        world.drain();
        world.run_for(Duration::from_secs(3));
        world.path.loss = 0.0;
        world.run_for(MINUTE * 10);
        assert!(world.ends[0].is_delivered());
        assert_eq!(world.ends[0].state(), State::Established);
        assert_eq!(world.ends[0].poll_timeout(), None);
        assert!(world.ends[0].stats().timeouts < 6);
        world.send(0, 1, "after");
        assert!(world.run_until(MINUTE, |world| world.ends[1].inbound.has_messages()));
    }
}

/// RFC 9260 §9.2: who has ended it waits as long as data comes.
#[test]
fn an_orderly_end_waits_for_what_the_peer_has_still_to_send() {
    let path = Path {
        rate: 12_500.0,
        buffer: 50_000,
        ..Path::clean()
    };
    let mut world = World::open(path, configs());
    for _ in 0..60 {
        world.send(1, 0, vec![2; 50_000]);
    }
    let now = world.now;
    world.ends[0].shutdown(now);
    let mut received = 0;
    assert!(world.run_until(MINUTE * 20, |world| {
        while let Some(message) = world.ends[0].read(world.now) {
            received += message.payload.len();
        }
        world.ends.iter().all(|end| end.state() == State::Closed)
    }));
    assert_eq!(world.ends[0].error(), None);
    assert_eq!(world.ends[1].error(), None);
    assert_eq!(received, 3_000_000);
}

#[test]
fn streams_begin_anew() {
    let mut world = World::open(
        Path {
            loss: 0.2,
            ..Path::clean()
        },
        configs(),
    );
    for round in 0..5u8 {
        world.send(0, 4, vec![round; 20_000]);
        world.send(0, 4, vec![round; 20]);
        world.ends[0].reset_streams(&[4]);
        let refused = world.ends[0].send(4, 53, "x".into(), &Delivery::default(), world.now);
        assert_eq!(refused, Err(SendError::Resetting));
        let done = Event::OutgoingReset(vec![4], true);
        assert!(world.run_until(MINUTE, |world| world.events[0].contains(&done)));
        assert!(world.events[1].contains(&Event::IncomingReset(vec![4])));
        for length in [20_000, 20] {
            assert_eq!(
                world.ends[1].read(world.now).expect("it").payload,
                vec![round; length]
            );
        }
        world.events = [Vec::new(), Vec::new()];
    }
}

fn channels(now: Instant) -> [DataChannels; 2] {
    let ends = [1, 2].map(|seed| Association::new(Config::default(), [seed; 32], now));
    let [mut a, mut b] = ends;
    a.connect(now);
    b.connect(now);
    [DataChannels::new(a, true), DataChannels::new(b, false)]
}

fn turn(ends: &mut [DataChannels; 2]) {
    let now = epoch();
    for _ in 0..20 {
        for from in 0..2 {
            while let Some(batch) = ends[from].association_mut().poll_transmit(now, 8) {
                ends[1 - from].association_mut().handle_batch(&batch, now);
            }
            ends[from]
                .association_mut()
                .handle_timeout(now + MINUTE / 600);
        }
    }
}

fn events(end: &mut DataChannels) -> Vec<ChannelEvent> {
    std::iter::from_fn(|| end.poll_event()).collect()
}

#[test]
fn channels_open_carry_and_close() {
    let now = epoch();
    let mut ends = channels(now);
    let config = ChannelConfig {
        label: "test".into(),
        protocol: "xmpp-jingle".into(),
        delivery: Delivery {
            unordered: true,
            max_retransmits: Some(3),
            lifetime: None,
        },
        priority: 512,
    };
    let mine = ends[0].open(&config, now).expect("a stream");
    let theirs = ends[1]
        .open(&ChannelConfig::default(), now)
        .expect("a stream");
    assert_eq!((mine, theirs), (0, 1));
    ends[0].send(mine, true, "".into(), now).expect("room");
    ends[0]
        .send(mine, false, "bytes".into(), now)
        .expect("room");
    turn(&mut ends);
    let message = ends[1].read(now).expect("a message");
    assert_eq!(
        (message.channel, message.text, message.payload),
        (0, true, Bytes::new())
    );
    let message = ends[1].read(now).expect("a message");
    assert_eq!(
        (message.channel, message.text, message.payload),
        (0, false, "bytes".into())
    );
    assert_eq!(ends[1].read(now), None);
    assert!(events(&mut ends[1]).contains(&ChannelEvent::Opened(0, config)));
    turn(&mut ends);
    assert_eq!(ends[0].read(now), None);
    assert!(events(&mut ends[0]).contains(&ChannelEvent::Accepted(0)));
    ends[0].close(mine);
    assert!(!ends[0].is_open(mine));
    for _ in 0..3 {
        turn(&mut ends);
        assert_eq!(ends[0].read(now), None);
        if events(&mut ends[1]).contains(&ChannelEvent::Closed(mine)) {
            break;
        }
    }
    assert!(!ends[1].is_open(mine));
    assert!(ends[1].is_open(theirs));
    turn(&mut ends);
    events(&mut ends[0]);
    assert_eq!(ends[0].open(&ChannelConfig::default(), now), Ok(0));
}

/// Its reader was late: it reads what came on it, and the end. Who opens it anew has another channel.
#[test]
fn a_channel_that_was_closed_before_it_was_read_is_closed_after() {
    let now = epoch();
    let mut ends = channels(now);
    for round in 0..3 {
        let config = ChannelConfig::default();
        assert_eq!(ends[0].open(&config, now), Ok(0), "round {round}");
        ends[0].send(0, false, "bytes".into(), now).expect("room");
        turn(&mut ends);
        ends[0].close(0);
        turn(&mut ends);
        // The reset is seen before anything is read.
        let early = events(&mut ends[1]);
        assert!(!early.contains(&ChannelEvent::Closed(0)));
        let message = ends[1].read(now).expect("a message");
        assert_eq!(message.payload, "bytes");
        assert_eq!(ends[1].read(now), None);
        let mut told = Vec::new();
        for _ in 0..3 {
            told.extend(events(&mut ends[1]));
            turn(&mut ends);
            events(&mut ends[0]);
            assert_eq!(ends[0].read(now), None);
        }
        let of_channel = |event: &ChannelEvent| !matches!(event, ChannelEvent::Association(_));
        told.retain(of_channel);
        assert_eq!(
            told,
            [ChannelEvent::Opened(0, config), ChannelEvent::Closed(0)]
        );
    }
    // One that stays open is not taken for one that was closed.
    assert_eq!(ends[0].open(&ChannelConfig::default(), now), Ok(0));
    turn(&mut ends);
    events(&mut ends[1]);
    assert_eq!(ends[1].read(now), None);
    turn(&mut ends);
    assert!(ends[1].is_open(0));
}

#[test]
fn fills_a_clean_link() {
    let (rate, world) = throughput(Path::usual(0.0), Config::default(), 3, 10);
    let payload = 12.5e6 * (1180.0 - 32.0) / (1180.0 + 65.0);
    assert!(rate >= 0.96 * payload, "{rate} of {payload}");
    assert!(world.ends[0].stats().timeouts == 0);
}

#[test]
fn one_per_cent_of_loss_is_no_collapse() {
    for interleave in [false, true] {
        let config = Config {
            interleave,
            ..Config::default()
        };
        let (rate, world) = throughput(Path::usual(0.01), config, 3, 20);
        assert!(rate >= (9 << 20) as f64, "{rate}");
        let stats = world.ends[0].stats();
        assert!(stats.bytes_lost > 0);
        let again = stats.bytes_retransmitted as f64 / stats.bytes_lost as f64;
        assert!(again <= 1.1, "{again} sent again for each byte lost");
        assert_eq!(stats.timeouts, 0);
    }
}

/// Small messages take more room than they have bytes, so that the peer throws away what the window had granted. What it
/// gets after that fills its buffer behind the hole, if the hole is not filled first.
#[test]
fn a_reader_that_let_us_wait_gets_everything_at_once() {
    let small = Config {
        receive_buffer: 512 << 10,
        max_message_size: 64 << 10,
        ..Config::default()
    };
    for (size, pause) in [(20usize, 2), (700, 40), (16_000, 300), (60_000, 2)] {
        let path = Path {
            rate: 12.5e6,
            ..Path::clean()
        };
        let mut world = World::open(path, [Config::default(), small.clone()]);
        let total = 1_500_000 / size;
        for number in 0..total {
            world.send(0, 1, vec![number as u8; size]);
        }
        world.run_for(Duration::from_secs(pause));
        let held = world.ends[1].received();
        assert!(held <= (512 << 10) + 2 * (64 << 10), "{held}");
        let waiting = world.ends[0].stats().bytes_retransmitted;
        // It asks with a packet now and then.
        assert!(waiting < 300_000 + pause * 10_000, "{waiting} in {pause} s");
        let mut read = 0;
        let begun = world.now;
        let all = world.run_until(MINUTE, |world| {
            while let Some(message) = world.ends[1].read(world.now) {
                assert!(message.payload.iter().all(|byte| *byte == read as u8));
                read += 1;
            }
            read == total
        });
        let took = world.now - begun;
        assert!(
            all && took < Duration::from_secs(3),
            "{read} of {total} in {took:?}"
        );
    }
}
