//! How much goes through two endpoints over the loopback interface.
//!
//! The assertions are far below what any machine does: they catch what is broken, not what is slow. The figures are
//! printed with `--nocapture`.
#![cfg(feature = "endpoint")]
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

#[path = "loopback/probe.rs"]
mod probe;

use bytes::Bytes;
use probe::{Over, Seen, Side};
use session_core::{Batch, SessionId};
use session_xmpp::endpoint::Router;
use std::time::{Duration, Instant};

async fn connected(over: Over) -> (Side, Side, SessionId) {
    let router = Router::new();
    let mut a = Side::new(&router, "a@example.org/1", over).await;
    let mut b = Side::new(&router, "b@example.org/1", over).await;
    let id = a.offer(&b.address);
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;
    (a, b, id)
}

fn report(what: &str, bytes: usize, packets: usize, started: Instant) {
    let seconds = Instant::now()
        .saturating_duration_since(started)
        .as_secs_f64();
    let mib = bytes as f64 / (1 << 20) as f64;
    println!(
        "{what}: {:.0} MiB/s, {:.0} ns a packet",
        mib / seconds,
        seconds * 1e9 / packets as f64
    );
}

/// Sends windows of batches and waits until each has arrived, so that nothing is lost.
async fn datagrams(segment: usize, segments: usize) {
    const WINDOW: usize = 16;
    const ROUNDS: usize = 200;
    let (a, mut b, id) = connected(Over::Udp).await;
    let payload = Bytes::from(vec![7; segment * segments]);
    let started = Instant::now();
    let mut lost = 0;
    for _ in 0..ROUNDS {
        for _ in 0..WINDOW {
            let batch = Batch {
                payload: payload.clone(),
                segment_size: if segments > 1 { segment } else { 0 },
            };
            a.endpoint.update(|manager, now| {
                let session = manager.session(id).unwrap();
                let channel = session.channel(probe::CHANNEL).unwrap();
                session.send_batch(channel, batch, now).unwrap();
            });
        }
        for _ in 0..WINDOW * segments {
            match tokio::time::timeout(Duration::from_millis(500), b.packet()).await {
                Ok(packet) => assert_eq!(packet.len(), segment),
                Err(_) => {
                    lost += 1;
                    break;
                }
            }
        }
    }
    let packets = ROUNDS * WINDOW * segments;
    let what = format!("datagrams of {segment} by {segments}");
    report(&what, packets * segment, packets, started);
    assert!(lost <= ROUNDS / 20, "{lost} rounds with losses");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_one_by_one() {
    datagrams(1_200, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_in_batches() {
    datagrams(1_200, 50).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream() {
    const TOTAL: usize = 256 << 20;
    let (mut a, mut b, id) = connected(Over::Tcp).await;
    let piece = Bytes::from(vec![7; 64 << 10]);
    let started = Instant::now();
    let sender = tokio::spawn(async move {
        let mut sent = 0;
        while sent < TOTAL {
            if a.send(id, piece.clone()) {
                sent += piece.len();
            } else {
                a.until_seen(&Seen::Writable(true)).await;
            }
        }
        a
    });
    let (mut arrived, mut packets) = (0, 0);
    while arrived < TOTAL {
        arrived += b.packet().await.len();
        packets += 1;
    }
    report("a stream", TOTAL, packets, started);
    assert_eq!(sender.await.unwrap().endpoint.stats(), Default::default());
}
