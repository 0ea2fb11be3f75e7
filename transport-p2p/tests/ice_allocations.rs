//! How often memory is asked for while data flows along a path: not for a packet.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod ice_pair;

use bytes::Bytes;
use ice_pair::Pair;
use session_core::{Batch, Datagram, LocalSocket};
use std::net::SocketAddr;
use transport_p2p::ice::Output;

const PACKETS: u64 = 10_000;

/// From one application to the other; the number of packets that arrived.
fn carry(pair: &mut Pair, batch: Batch) -> usize {
    let now = pair.now;
    let [sender, receiver] = &mut pair.ends;
    sender.agent.send(1, batch, now).unwrap();
    let mut arrived = 0;
    while let Some(output) = sender.agent.poll_output() {
        let Output::Transmit(transmit) = output else {
            continue;
        };
        let datagram = Datagram {
            socket: transmit.socket,
            source: sender.sockets[&transmit.socket],
            payload: transmit.payload,
            segment_size: transmit.segment_size,
        };
        receiver.agent.handle_datagram(datagram, now);
        while let Some(output) = receiver.agent.poll_output() {
            if let Output::Packet(_, batch) = output {
                arrived += batch.len();
            }
        }
    }
    arrived
}

#[test]
fn a_packet_allocates_nothing() {
    let mut pair = Pair::at_rest();
    for (size, segment_size) in [(1_200, 0), (60_000, 1_200), (20, 0)] {
        let payload = Bytes::from(vec![7; size]);
        let batch = Batch {
            payload: payload.clone(),
            segment_size,
        };
        let each = batch.len();
        assert_eq!(carry(&mut pair, batch.clone()), each);
        let mut arrived = 0;
        let count = allocation_counter::measure(|| {
            for _ in 0..PACKETS {
                arrived += carry(&mut pair, batch.clone());
            }
        });
        assert_eq!(arrived as u64, PACKETS * each as u64);
        assert_eq!(count.count_total, 0, "{size} bytes by {segment_size}");
    }
}

#[test]
fn a_packet_that_the_application_carries_allocates_nothing() {
    let mut pair = Pair::at_rest();
    let [sender, receiver] = &mut pair.ends;
    let (socket, destination) = sender.agent.send_direct(1, 1_200).unwrap();
    let source = sender.sockets[&socket];
    let on = |(_, at): &(&LocalSocket, &SocketAddr)| **at == destination;
    let socket = *receiver.sockets.iter().find(on).unwrap().0;
    let payload = [7; 1_200];
    let count = allocation_counter::measure(|| {
        for _ in 0..PACKETS {
            assert!(sender.agent.send_direct(1, payload.len()).is_some());
            assert!(receiver.agent.receive_direct(socket, source, &payload));
        }
    });
    assert_eq!(count.count_total, 0);
}

/// What looks like STUN is looked at, and asks for no memory either unless it is a valid check.
#[test]
fn what_strangers_send_allocates_nothing() {
    let mut pair = Pair::at_rest();
    let now = pair.now;
    let end = &mut pair.ends[0];
    let socket = *end.sockets.keys().next().unwrap();
    let mut stun = vec![0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([9; 12]);
    stun.extend([0, 6, 0, 3, b'a', b':', b'b', 0]);
    for payload in [Bytes::from(stun), Bytes::from_static(b"data of a stranger")] {
        let count = allocation_counter::measure(|| {
            for port in 0..10_000 {
                let datagram = Datagram {
                    socket,
                    source: ([192, 0, 2, 66], port).into(),
                    payload: payload.clone(),
                    segment_size: 0,
                };
                end.agent.handle_datagram(datagram, now);
                assert!(end.agent.poll_output().is_none());
            }
        });
        assert!(count.count_total <= 1, "{count:?}");
    }
    assert_eq!(end.agent.stats().strangers, 10_000);
}
