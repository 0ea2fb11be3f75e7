//! What happens between two that mean well.

use super::*;

#[test]
fn it_is_open_after_one_round_trip_and_bytes_go_both_ways() {
    let mut pair = Pair::perfect();
    pair.ends[0].to_send = 300_000;
    pair.ends[1].to_send = 5;
    assert!(!pair.ends[0].stream.is_writable());
    assert!(!pair.ends[0].stream.send(Bytes::from_static(b"early")));
    assert!(pair.run_until(Duration::from_secs(1), |pair| pair.ends[0].stream.is_open()));
    assert_eq!(pair.now, pair.start + Duration::from_millis(20));
    assert!(
        pair.run_until(Duration::from_secs(5), |pair| pair.is_done()),
        "{pair:?}"
    );
    let stats = pair.ends[0].stream.stats().unwrap();
    assert_eq!(stats.lost, 0);
    assert!(stats.rtt >= Duration::from_millis(20), "{stats:?}");
    assert_eq!(pair.closed(), [None, None]);
}

#[test]
fn an_empty_stream_has_an_end() {
    let mut pair = Pair::perfect();
    assert!(
        pair.run_until(Duration::from_secs(1), |pair| pair.is_done()),
        "{pair:?}"
    );
}

#[test]
fn the_called_side_may_speak_first_and_alone() {
    let mut pair = Pair::perfect();
    pair.ends[0].finishes = false;
    pair.ends[1].to_send = 100_000;
    let done = |pair: &mut Pair| pair.ends[1].stream.is_delivered();
    assert!(pair.run_until(Duration::from_secs(2), done), "{pair:?}");
    assert!(pair.ends[0].stream.is_finished());
    assert_eq!(pair.ends[0].received, 100_000);
    assert!(
        pair.ends[0].stream.is_writable(),
        "the other direction lives"
    );
}

#[test]
fn a_reader_that_pauses_holds_its_peer_back_and_memory_is_bounded() {
    let mut pair = Pair::perfect();
    pair.ends[1].paused = true;
    pair.ends[0].to_send = 64 << 20;
    pair.run(Duration::from_secs(30));
    let config = Config::default();
    let most = u64::from(config.receive_window) + u64::from(config.send_window) + (1 << 20);
    let taken = pair.ends[0].taken;
    assert!((1 << 20..most).contains(&taken), "{taken}");
    assert_eq!(pair.ends[1].received, 0);
    pair.run(Duration::from_secs(600));
    assert_eq!(pair.ends[0].taken, taken, "nothing more");
    assert_eq!(pair.closed(), [None, None], "held back is not silent");
    pair.ends[1].paused = false;
    assert!(
        pair.run_until(Duration::from_secs(60), |pair| pair.is_done()),
        "{pair:?}"
    );
}

#[test]
fn what_had_arrived_is_read_after_the_peer_let_go() {
    let mut pair = Pair::perfect();
    pair.ends[1].paused = true;
    pair.ends[0].to_send = 200_000;
    let delivered = |pair: &mut Pair| pair.ends[0].stream.is_delivered();
    assert!(pair.run_until(Duration::from_secs(5), delivered));
    let now = pair.now;
    pair.ends[0].stream.close(now);
    pair.run(Duration::from_secs(1));
    assert_eq!(pair.closed(), [Some(Closed::Here), Some(Closed::Gone)]);
    pair.ends[1].paused = false;
    pair.ends[1].work();
    assert_eq!(pair.ends[1].received, 200_000);
    assert!(pair.ends[1].stream.is_finished());
}

#[test]
fn who_lets_go_is_heard_at_once_and_a_broken_stream_has_no_end() {
    for who in 0..2 {
        let mut pair = Pair::perfect();
        pair.ends[0].to_send = 50 << 20;
        pair.open();
        pair.run(Duration::from_millis(100));
        let now = pair.now;
        pair.ends[who].stream.close(now);
        pair.run(Duration::from_millis(11));
        let closed = pair.ends[1 - who].stream.closed();
        assert_eq!(closed, Some(&Closed::Gone), "{pair:?}");
        pair.run(Duration::from_secs(10));
        assert!(!pair.ends[1].stream.is_finished());
        assert!(!pair.ends[0].stream.is_delivered());
    }
}

#[test]
fn a_peer_that_vanished_is_missed_but_not_while_there_is_no_path() {
    let mut pair = Pair::perfect();
    pair.ends[0].to_send = 50 << 20;
    pair.open();
    pair.run(Duration::from_millis(200));
    for wire in &mut pair.wires {
        wire.set_partitioned(true);
    }
    for end in &mut pair.ends {
        end.stream.suspend();
    }
    pair.run(Duration::from_secs(600));
    assert_eq!(pair.closed(), [None, None]);
    let now = pair.now;
    for end in &mut pair.ends {
        end.stream.resume(now);
    }
    pair.run(Duration::from_secs(59));
    assert_eq!(pair.closed(), [None, None]);
    pair.run(Duration::from_secs(2));
    assert_eq!(pair.closed()[0], Some(Closed::Silent));
}

#[test]
fn an_idle_connection_asks_rarely_and_lives() {
    let mut pair = Pair::perfect();
    pair.ends[0].finishes = false;
    pair.ends[1].finishes = false;
    pair.open();
    pair.run(Duration::from_secs(30));
    let before = pair.wires.each_ref().map(|wire| wire.statistics().entered);
    pair.run(Duration::from_secs(3_600));
    assert_eq!(pair.closed(), [None, None]);
    for (wire, before) in pair.wires.iter().zip(before) {
        let sent = wire.statistics().entered - before;
        assert!((60..=300).contains(&sent), "{sent} datagrams in an hour");
    }
}

#[test]
fn after_an_outage_it_goes_on_at_once() {
    let mut pair = Pair::perfect();
    pair.ends[0].to_send = 500 << 20;
    pair.open();
    pair.run(Duration::from_millis(200));
    for wire in &mut pair.wires {
        wire.set_partitioned(true);
    }
    pair.ends.iter_mut().for_each(|end| end.stream.suspend());
    pair.run(Duration::from_secs(29));
    let (before, now) = (pair.ends[1].received, pair.now);
    for at in 0..2 {
        pair.wires[at].set_partitioned(false);
        pair.ends[at].stream.resume(now);
    }
    pair.run(Duration::from_millis(100));
    assert!(pair.ends[1].received > before + 10_000, "{pair:?}");
}

#[test]
fn datagrams_grow_to_what_the_path_carries_and_shrink_again() {
    let conditions = Conditions {
        mtu: Some(1_400),
        rate: Some(4 << 20),
        ..Conditions::with_delay(Duration::from_millis(10))
    };
    let mut pair = Pair::new(&Config::default(), &conditions, 3);
    pair.ends[0].to_send = 30 << 20;
    pair.open();
    pair.run(Duration::from_secs(1));
    let size = |pair: &Pair| pair.ends[0].stream.stats().unwrap().datagram_size;
    assert!((1_360..=1_400).contains(&size(&pair)), "{pair:?}");
    for wire in &mut pair.wires {
        wire.set_conditions(Conditions {
            mtu: Some(1_250),
            ..conditions.clone()
        });
    }
    assert!(
        pair.run_until(Duration::from_secs(60), |pair| pair.is_done()),
        "{pair:?}"
    );
    assert!(size(&pair) <= 1_250, "{pair:?}");
}

#[test]
fn a_path_for_smaller_datagrams_than_quic_has_is_refused() {
    let mut pair = Pair::perfect();
    pair.open();
    pair.ends[0].stream.handle_too_large(1_452);
    assert_eq!(pair.closed()[0], None);
    pair.ends[0].stream.handle_too_large(1_200);
    assert_eq!(pair.closed()[0], Some(Closed::PathTooSmall));
}

#[test]
fn values_out_of_range_are_named() {
    for (field, config) in [
        (
            "receive_window",
            Config {
                receive_window: 0,
                ..Config::default()
            },
        ),
        (
            "send_window",
            Config {
                send_window: u32::MAX,
                ..Config::default()
            },
        ),
        (
            "datagram_max",
            Config {
                datagram_max: 1_199,
                ..Config::default()
            },
        ),
        (
            "patience",
            Config {
                patience: Duration::ZERO,
                ..Config::default()
            },
        ),
    ] {
        assert_eq!(config.check().map_err(|error| error.field), Err(field));
    }
}

/// quinn-proto does not probe for the end of a handshake that it holds back, and counts what was sent behind it.
#[test]
fn the_end_of_a_handshake_is_not_held_back_by_what_follows() {
    let conditions = Conditions {
        jitter: Duration::from_millis(5),
        loss: 0.167_575_844_148_328_69,
        duplicate: 0.143_505_214_713_674_1,
        reorder: 0.102_118_952_044_069_3,
        reorder_delay: Duration::from_millis(22),
        ..Conditions::default()
    };
    for seed in 17_700..17_800 {
        let mut pair = Pair::new(&Config::default(), &conditions, seed);
        pair.batch = 26;
        pair.ends[0].to_send = 9_309;
        pair.ends[1].to_send = 30_629;
        let done = |pair: &mut Pair| pair.is_done();
        assert!(
            pair.run_until(Duration::from_secs(60), done),
            "{seed}: {pair:?}"
        );
    }
}
