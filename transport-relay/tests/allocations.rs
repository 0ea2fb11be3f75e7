//! Data through a relay costs no memory: not per packet, not per batch.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

mod turn_world;

use bytes::{Bytes, BytesMut};
use session_core::{Batch, Datagram, LocalSocket, StreamEvent};
use std::time::{Duration, Instant};
use transport_relay::turn::{TurnProtocol, write_channel_data};
use turn_world::{World, peer};

#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise, and only differences to it are used"
)]
fn epoch() -> Instant {
    Instant::now()
}

/// One whose peer 1 has a channel, the first.
fn connected(protocol: TurnProtocol) -> World {
    let mut world = World::new(protocol, 1, epoch());
    world.run(Duration::from_secs(1));
    world.send(1, b"out");
    world.run(Duration::from_secs(1));
    world.peer_sends(1, b"in");
    world.run(Duration::from_secs(1));
    world
}

fn allocations(mut call: impl FnMut()) -> u64 {
    (0..200).for_each(|_| call());
    allocation_counter::measure(|| (0..1_000).for_each(|_| call())).count_total
}

/// Headers and data of so many datagrams of one channel.
fn channel_data(count: usize, size: usize, padded: bool) -> Bytes {
    let mut buffer = BytesMut::new();
    for _ in 0..count {
        assert!(write_channel_data(
            &mut buffer,
            0x4000,
            &vec![7; size],
            padded
        ));
    }
    buffer.freeze()
}

#[test]
fn sending_and_receiving_in_a_channel_allocates_nothing() {
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let mut world = connected(protocol);
        let now = world.now;
        let is_stream = world.is_stream();
        for (count, size) in [(1, 1_200), (40, 1_200), (1, 0), (3, 17)] {
            let payload = Bytes::from(vec![7; count * size]);
            let segment_size = if count > 1 { size } else { 0 };
            let batch = Batch {
                payload,
                segment_size,
            };
            let mut packets = 0;
            let sent = allocations(|| {
                world.source.permit(peer(1), now);
                world.source.send(peer(1), batch.clone(), now);
                while let Some(output) = world.source.poll_output() {
                    packets += 1;
                    drop(output);
                }
                // The connection has taken it.
                let event = StreamEvent::Buffered(0);
                world.source.handle_stream(LocalSocket(0), event, now);
                assert!(world.source.poll_timeout().is_some());
            });
            assert_eq!(
                (sent, packets),
                (0, 1_200),
                "{count} of {size}, stream {is_stream}"
            );

            let payload = channel_data(count, size, is_stream);
            let (mut heard, source) = (0, "203.0.113.1:3478".parse().unwrap());
            let received = allocations(|| {
                if is_stream {
                    let event = StreamEvent::Data(payload.clone());
                    world.source.handle_stream(LocalSocket(0), event, now);
                } else {
                    let datagram = Datagram {
                        socket: LocalSocket(0),
                        source,
                        payload: payload.clone(),
                        segment_size: if count > 1 { size + 4 } else { 0 },
                    };
                    world.source.handle_datagram(datagram, now);
                }
                while let Some(output) = world.source.poll_output() {
                    heard += 1;
                    drop(output);
                }
            });
            let outputs = if is_stream { count as u32 } else { 1 };
            assert_eq!(
                (received, heard),
                (0, 1_200 * outputs),
                "{count} of {size}, stream {is_stream}"
            );
        }
    }
}
