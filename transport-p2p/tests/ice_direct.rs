//! Data that the application carries by itself: `Agent::send_direct` and `Agent::receive_direct`.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod ice_pair;

use bytes::Bytes;
use ice_pair::Pair;
use session_core::LocalSocket;
use std::{net::SocketAddr, time::Duration};
use transport_p2p::ice::Output;

/// Where the agent itself sends a packet.
fn queued_way(pair: &mut Pair, end: usize, payload: &Bytes) -> (LocalSocket, SocketAddr) {
    let now = pair.now;
    let agent = &mut pair.ends[end].agent;
    agent.send(1, payload.clone(), now).unwrap();
    let Some(Output::Transmit(transmit)) = agent.poll_output() else {
        panic!("a packet leaves at once");
    };
    assert_eq!(transmit.payload, payload);
    (transmit.socket, transmit.destination)
}

#[test]
fn it_takes_the_way_that_the_agent_takes_and_is_counted() {
    let mut pair = Pair::at_rest();
    let payload = Bytes::from_static(b"data");
    for end in 0..2 {
        let before = pair.ends[end].agent.stats();
        let way = pair.ends[end].agent.send_direct(1, payload.len()).unwrap();
        let after = pair.ends[end].agent.stats();
        assert_eq!(after.packets_sent, before.packets_sent + 1);
        assert_eq!(after.bytes_sent, before.bytes_sent + 4);
        assert_eq!(way, queued_way(&mut pair, end, &payload));

        let source = pair.ends[end].sockets[&way.0];
        let other = &mut pair.ends[1 - end];
        let to_it = |(_, address): &(&LocalSocket, &SocketAddr)| **address == way.1;
        let socket = *other.sockets.iter().find(to_it).unwrap().0;
        let before = other.agent.stats();
        assert!(other.agent.receive_direct(socket, source, &payload));
        let after = other.agent.stats();
        assert_eq!(after.packets_received, before.packets_received + 1);
        assert_eq!(after.bytes_received, before.bytes_received + 4);
        assert!(other.agent.poll_output().is_none(), "nothing is left to do");
    }
}

#[test]
fn what_is_not_plain_data_on_the_path_is_left_to_the_agent() {
    let mut pair = Pair::at_rest();
    let [first, second] = &mut pair.ends;
    let (from, to) = first.agent.send_direct(1, 4).unwrap();
    let source = first.sockets[&from];
    let on = |address: SocketAddr| move |(_, at): &(&LocalSocket, &SocketAddr)| **at == address;
    let socket = *second.sockets.iter().find(on(to)).unwrap().0;
    let elsewhere = *second.sockets.keys().find(|s| **s != socket).unwrap();
    let stranger = SocketAddr::new(source.ip(), source.port() ^ 1);
    let mut stun = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    stun.extend([9; 12]);
    let before = second.agent.stats();
    assert!(!second.agent.receive_direct(socket, source, &stun));
    assert!(!second.agent.receive_direct(socket, stranger, b"data"));
    assert!(!second.agent.receive_direct(elsewhere, source, b"data"));
    assert!(
        !second
            .agent
            .receive_direct(LocalSocket(u32::MAX), source, b"data")
    );
    assert_eq!(
        second.agent.stats().packets_received,
        before.packets_received
    );

    let before = first.agent.stats();
    assert!(first.agent.send_direct(2, 4).is_none(), "no such component");
    assert!(first.agent.send_direct(1, 65_508).is_none(), "too large");
    let now = pair.now;
    let [first, _] = &mut pair.ends;
    first.agent.send(1, Bytes::from_static(b"1"), now).unwrap();
    assert!(first.agent.send_direct(1, 4).is_none(), "one waits");
    assert_eq!(first.agent.stats().packets_sent, before.packets_sent + 1);
    while first.agent.poll_output().is_some() {}
    assert!(first.agent.send_direct(1, 4).is_some());
}

/// RFC 7675: nobody sends to who does not consent any more.
#[test]
fn without_a_path_or_consent_there_is_no_way() {
    let mut pair = Pair::new(2, |_| {});
    assert!(pair.ends[0].agent.send_direct(1, 4).is_none());
    pair.start();
    assert!(pair.run_until(Duration::from_secs(1), Pair::selected));
    assert!(pair.ends[0].agent.send_direct(1, 4).is_some());
    pair.reaches = |_, _| false;
    pair.run_for(Duration::from_secs(40));
    for end in &mut pair.ends {
        assert!(end.agent.send_direct(1, 4).is_none());
    }
}
