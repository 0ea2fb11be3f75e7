//! How well a link is used: 100 Mbit/s, a round trip of 50 ms, and a queue of one round trip more.

use super::*;
use crate::quic::Control;

/// Bytes a second that the link carries, headers included.
const RATE: u64 = 12_500_000;

/// What UDP and IPv4 add to each datagram; the link carries them, too.
const HEADERS: usize = 28;

/// What a transfer made of it.
#[derive(Debug)]
struct Use {
    /// Bytes of the stream, in MiB a second.
    rate: f64,
    /// After two seconds, as a part of what the link carries of it.
    steady: f64,
    /// How long datagrams waited, after the start.
    queue: Duration,
    /// Datagrams sent for each that was needed.
    overhead: f64,
}

fn transfer(control: Control, loss: f64, seed: u64, bytes: u64) -> Use {
    let conditions = Conditions {
        delay: Duration::from_millis(25),
        loss,
        rate: Some(RATE),
        queue: 625_000,
        ..Conditions::default()
    };
    let config = Config {
        control,
        receive_window: 16 << 20,
        send_window: 16 << 20,
        ..ethernet()
    };
    let mut pair = Pair::new(&config, &conditions, seed);
    pair.header = HEADERS;
    pair.ends[0].to_send = bytes;
    let mut queues = Vec::new();
    let mut started = None;
    let done = pair.run_until(Duration::from_secs(600), |pair| {
        if pair.now > pair.start + Duration::from_secs(2) {
            started.get_or_insert((pair.now, pair.ends[1].received));
            queues.push(pair.wires[0].len());
        }
        pair.is_done()
    });
    assert!(done, "{pair:?}");
    queues.sort_unstable();
    // What is on the wire includes what travels.
    let median = queues.get(queues.len() / 2).copied().unwrap_or(0) as u64;
    let travelling = RATE / 40 / 1_480;
    let queued = median.saturating_sub(travelling) * 1_480;
    let entered = pair.wires[0].statistics().entered;
    let (from, before) = started.unwrap_or((pair.start, 0));
    let steady = (bytes - before) as f64 / (pair.now - from).as_secs_f64();
    Use {
        steady: steady / (RATE as f64 * 1_424.0 / 1_480.0),
        rate: bytes as f64 / (pair.now - pair.start).as_secs_f64() / f64::from(1 << 20),
        queue: Duration::from_secs_f64(queued as f64 / RATE as f64),
        overhead: entered as f64 / (bytes as f64 / 1_420.0),
    }
}

#[test]
fn without_loss_the_link_is_full_and_its_queue_empty() {
    let used = transfer(Control::Model, 0.0, 3, 64 << 20);
    assert!(used.steady >= 0.97, "{used:?}");
    assert!(used.queue <= Duration::from_millis(15), "{used:?}");
    assert!(used.overhead <= 1.01, "{used:?}");
}

#[test]
fn loss_that_is_not_congestion_costs_little_more_than_what_was_lost() {
    for loss in [0.001, 0.01] {
        let used = transfer(Control::Model, loss, 4, 64 << 20);
        assert!(used.rate >= 8.0, "{used:?}");
        assert!(used.overhead <= 1.01 + 1.5 * loss, "{used:?}");
    }
}

/// What the figures above are to be seen beside; and that the link is what it says.
#[test]
fn a_controller_that_takes_loss_for_congestion_does_not_fill_the_link() {
    let used = transfer(Control::Cubic, 0.01, 3, 4 << 20);
    assert!(used.rate <= 1.0, "{used:?}");
    let used = transfer(Control::Bbr, 0.0, 3, 32 << 20);
    assert!(used.queue >= Duration::from_millis(20), "{used:?}");
}

/// What quinn-proto asks for by itself is all there is: a packet of ours is written where another was, and decrypted where
/// it arrived.
#[test]
fn a_datagram_asks_for_little_memory() {
    let mut pair = Pair::perfect();
    pair.ends[0].to_send = 24 << 20;
    pair.run_until(Duration::from_secs(60), |pair| {
        pair.ends[1].received >= 8 << 20
    });
    let before = pair.ends[0].stream.stats().unwrap().sent;
    let mut sent = 0;
    let count = allocation_counter::measure(|| {
        assert!(pair.run_until(Duration::from_secs(60), |pair| pair.is_done()));
        sent = pair.ends[0].stream.stats().unwrap().sent - before;
    });
    let each = count.count_total as f64 / sent as f64;
    assert!(sent > 8_000 && each < 4.0, "{each} for each of {sent}");
}
