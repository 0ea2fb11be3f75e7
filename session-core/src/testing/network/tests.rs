use super::*;
use crate::testing::epoch;

impl SocketKey for (usize, LocalSocket) {
    fn accepted(self, connection: LocalSocket) -> Self {
        (self.0, connection)
    }
}

type Key = (usize, LocalSocket);

const ANY: &str = "0.0.0.0:0";

fn bound(network: &mut Network<Key>, key: Key, kind: BindKind, now: Instant) -> SocketAddr {
    network.bind(key.0, key, kind, ANY.parse().unwrap(), now);
    let (to, delivery) = network.poll_output(now).unwrap();
    assert_eq!(to, key);
    assert!(matches!(delivery, Delivery::Bound(Ok(_))), "{delivery:?}");
    network.reached_at(key).unwrap()
}

#[test]
fn datagrams_go_to_whom_they_are_addressed_and_batches_come_apart_and_together() {
    let now = epoch();
    let mut network = Network::new(Conditions::default(), 1);
    let [alice, bob] = [(0, LocalSocket(0)), (1, LocalSocket(0))];
    let from = bound(&mut network, alice, BindKind::Udp, now);
    let to = bound(&mut network, bob, BindKind::Udp, now);
    for coalescing in [false, true] {
        network.set_coalescing(coalescing);
        network.transmit(alice, to, Bytes::from_static(b"abcdefg"), 3, now);
        let arrived: Vec<_> = std::iter::from_fn(|| network.poll_output(now)).collect();
        let datagram = |payload: &'static [u8], segment_size| {
            let payload = Bytes::from_static(payload);
            let source = from;
            (
                bob,
                Delivery::Datagram {
                    source,
                    payload,
                    segment_size,
                },
            )
        };
        if coalescing {
            assert_eq!(arrived, [datagram(b"abcdefg", 3)]);
        } else {
            assert_eq!(
                arrived,
                [datagram(b"abc", 0), datagram(b"def", 0), datagram(b"g", 0)]
            );
        }
    }
    network.close(bob, now);
    network.transmit(alice, to, Bytes::from_static(b"late"), 0, now);
    assert!(network.is_idle());
}

#[test]
fn a_stream_arrives_in_order_through_a_cut_and_ends_once() {
    let start = epoch();
    let mut network = Network::new(Conditions::with_delay(Duration::from_millis(10)), 1);
    let [alice, bob] = [(0, LocalSocket(0)), (1, LocalSocket(0))];
    let address = bound(&mut network, bob, BindKind::TcpListener, start);
    let target = StreamTarget::new(address);
    network.connect(0, alice, &target, start);
    let mut log = Vec::new();
    let mut now = start;
    for round in 0..6 {
        while let Some(at) = network.poll_timeout() {
            now = at;
            while let Some((key, delivery)) = network.poll_output(now) {
                log.push((key.0, delivery));
            }
        }
        match round {
            0 => network.write(alice, Bytes::from_static(b"one"), now),
            1 => network.set_cut(0, 1, true, now),
            2 => network.write(alice, Bytes::from_static(b"two"), now),
            3 => network.close(alice, now),
            4 => network.set_cut(0, 1, false, now),
            _ => {}
        }
    }
    let events: Vec<_> = log
        .into_iter()
        .map(|(host, delivery)| match delivery {
            Delivery::Stream(StreamEvent::Accepted { .. }) => (host, "accepted"),
            Delivery::Stream(StreamEvent::Connected(Ok(_))) => (host, "connected"),
            Delivery::Stream(StreamEvent::Data(bytes)) if bytes == "one" => (host, "one"),
            Delivery::Stream(StreamEvent::Data(bytes)) if bytes == "two" => (host, "two"),
            Delivery::Stream(StreamEvent::Buffered(0)) => (host, "left"),
            Delivery::Stream(StreamEvent::Finished) => (host, "finished"),
            Delivery::Stream(StreamEvent::Closed(None)) => (host, "closed"),
            Delivery::Stream(_)
            | Delivery::Bound(_)
            | Delivery::Found(_)
            | Delivery::Datagram { .. } => (host, "else"),
        })
        .collect();
    assert_eq!(
        events,
        [
            (1, "accepted"),
            (0, "connected"),
            (0, "left"),
            (1, "one"),
            (1, "two"),
            (1, "finished"),
            (1, "closed")
        ]
    );
}

#[test]
fn a_slow_link_tells_what_waits() {
    let start = epoch();
    let conditions = Conditions {
        rate: Some(1_000),
        ..Conditions::default()
    };
    let mut network = Network::new(conditions, 1);
    let [alice, bob] = [(0, LocalSocket(0)), (1, LocalSocket(0))];
    let address = bound(&mut network, bob, BindKind::TcpListener, start);
    network.connect(0, alice, &StreamTarget::new(address), start);
    while network.poll_output(start).is_some() {}
    network.write(alice, Bytes::from(vec![0; 100]), start);
    let told = Delivery::Stream(StreamEvent::Buffered(100));
    assert_eq!(network.poll_output(start), Some((alice, told)));
    let later = start + Duration::from_millis(100);
    assert_eq!(network.poll_timeout(), Some(later));
    let told = Delivery::Stream(StreamEvent::Buffered(0));
    assert_eq!(network.poll_output(later), Some((alice, told)));
}

#[test]
fn what_is_not_read_waits_at_the_writer() {
    let now = epoch();
    let mut network = Network::new(Conditions::default(), 1);
    let [alice, bob] = [(0, LocalSocket(0)), (1, LocalSocket(0))];
    let address = bound(&mut network, bob, BindKind::TcpListener, now);
    network.connect(0, alice, &StreamTarget::new(address), now);
    while network.poll_output(now).is_some() {}
    let accepted = bob.accepted(LocalSocket(LocalSocket::FIRST_ACCEPTED));
    network.hold(accepted, true, now);
    network.write(alice, Bytes::from_static(b"late"), now);
    network.write(accepted, Bytes::from_static(b"back"), now);
    let event = |event| Delivery::Stream(event);
    let others: Vec<_> = std::iter::from_fn(|| network.poll_output(now)).collect();
    let back = event(StreamEvent::Data(Bytes::from_static(b"back")));
    let left = event(StreamEvent::Buffered(0));
    assert_eq!(others, [(accepted, left.clone()), (alice, back)]);
    network.hold(accepted, false, now);
    let late = event(StreamEvent::Data(Bytes::from_static(b"late")));
    let resumed: Vec<_> = std::iter::from_fn(|| network.poll_output(now)).collect();
    assert_eq!(resumed, [(alice, left.clone()), (accepted, late)]);
    // A reader that goes away holds nobody.
    network.hold(accepted, true, now);
    network.write(alice, Bytes::from_static(b"lost"), now);
    network.close(accepted, now);
    let events: Vec<_> = std::iter::from_fn(|| network.poll_output(now)).collect();
    assert!(events.contains(&(alice, left)), "{events:?}");
}

#[test]
fn refusals_are_told() {
    let now = epoch();
    let mut network = Network::new(Conditions::default(), 1);
    let key = (0, LocalSocket(0));
    network.set_refusing(0, true);
    network.bind(0, key, BindKind::Udp, ANY.parse().unwrap(), now);
    let refused = network.poll_output(now);
    assert!(matches!(refused, Some((_, Delivery::Bound(Err(_))))));
    network.set_refusing(0, false);
    let address = "10.0.0.9:1".parse().unwrap();
    network.connect(0, key, &StreamTarget::new(address), now);
    let refused = network.poll_output(now);
    let Some((_, Delivery::Stream(StreamEvent::Connected(Err(error))))) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(error.to_string(), "connect: connection refused");
}
