//! Single words between a client and a server.

use super::*;
use crate::stun::{Attribute, Class, MessageBuilder, Method, kind};
use crate::turn::{frame::write_channel_data, wire::attribute};

#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise, and only differences to it are used"
)]
fn epoch() -> Instant {
    Instant::now()
}

fn asked(allocation: &mut Allocation) -> Bytes {
    match allocation.poll_output() {
        Some(AllocationOutput::Transmit(batch)) => batch.payload,
        other => panic!("{other:?}"),
    }
}

/// Answers a request as a server without passwords does.
fn answer(allocation: &mut Allocation, request: &Bytes, attributes: &[Attribute], now: Instant) {
    let scan = Scan::new(request).unwrap();
    let mut answer = MessageBuilder::new(Class::Success, scan.method(), scan.transaction());
    for attribute in attributes {
        answer = answer.attribute(attribute.clone());
    }
    let answer = answer.finish(None, false).unwrap();
    allocation.handle_batch(answer.into(), now);
}

fn standing(config: AllocationConfig, relayed: &[SocketAddr], now: Instant) -> Allocation {
    let mut allocation = Allocation::new(config, Credentials::new("alice", "sesame"), [7; 32]);
    allocation.start(now);
    let request = asked(&mut allocation);
    let attributes = relayed.iter().map(|a| Attribute::XorRelayedAddress(*a));
    let mut attributes: Vec<_> = attributes.collect();
    attributes.push(Attribute::Lifetime(3600));
    answer(&mut allocation, &request, &attributes, now);
    assert!(matches!(
        allocation.poll_output(),
        Some(AllocationOutput::Allocated { relayed: told, .. }) if told == relayed
    ));
    allocation
}

fn method(request: &Bytes) -> Method {
    Scan::new(request).unwrap().method()
}

#[test]
fn a_dual_allocation_serves_both_families() {
    let now = epoch();
    let config = AllocationConfig {
        families: Families::Both,
        dont_fragment: true,
        ..AllocationConfig::new(Framing::Datagram)
    };
    let mut allocation = Allocation::new(config.clone(), Credentials::new("a", "b"), [7; 32]);
    allocation.start(now);
    let request = asked(&mut allocation);
    let scan = Scan::new(&request).unwrap();
    let kinds: Vec<_> = scan
        .attributes()
        .map(|a| (a.kind, a.value.to_vec()))
        .collect();
    assert!(kinds.contains(&(attribute::ADDITIONAL_ADDRESS_FAMILY, vec![2, 0, 0, 0])));
    assert!(kinds.contains(&(attribute::DONT_FRAGMENT, vec![])));
    assert!(
        !kinds
            .iter()
            .any(|(kind, _)| *kind == attribute::REQUESTED_ADDRESS_FAMILY)
    );

    let relayed = [
        "192.0.2.1:1000".parse().unwrap(),
        "[2001:db8::1]:1000".parse().unwrap(),
    ];
    let mut both = standing(config.clone(), &relayed, now);
    let mut one = standing(config, &relayed[..1], now);
    for peer in ["198.51.100.1:1", "[2001:db8::2]:1"] {
        let peer: SocketAddr = peer.parse().unwrap();
        both.permit(peer, now);
        let request = asked(&mut both);
        let message = Scan::new(&request).unwrap().decode().unwrap();
        assert_eq!(message.method, Method::CREATE_PERMISSION);
        assert_eq!(message.peer_address(), Some(peer));
        one.permit(peer, now);
        one.send(peer, Bytes::from_static(b"x").into(), now);
        assert_eq!(one.poll_output().is_some(), peer.is_ipv4());
        while one.poll_output().is_some() {}
    }
}

#[test]
fn what_a_server_does_not_know_is_left_out() {
    let now = epoch();
    let config = AllocationConfig {
        dont_fragment: true,
        ..AllocationConfig::new(Framing::Stream)
    };
    let mut allocation = Allocation::new(config, Credentials::new("a", "b"), [7; 32]);
    allocation.start(now);
    let request = asked(&mut allocation);
    let refusal = MessageBuilder::new(
        Class::Error,
        Method::ALLOCATE,
        Scan::new(&request).unwrap().transaction(),
    )
    .attribute(Attribute::Error(420, "Unknown".into()))
    .attribute(Attribute::UnknownAttributes(vec![attribute::DONT_FRAGMENT]));
    allocation.handle_bytes(refusal.finish(None, false).unwrap(), now);
    let again = asked(&mut allocation);
    let scan = Scan::new(&again).unwrap();
    assert!(
        !scan
            .attributes()
            .any(|a| a.kind == attribute::DONT_FRAGMENT)
    );
}

/// A server that lies about who sends, or passes on what nobody asked for, reaches no application.
#[test]
fn who_was_not_permitted_is_not_heard_whatever_the_server_says() {
    let now = epoch();
    let relayed = ["192.0.2.1:1000".parse().unwrap()];
    let config = AllocationConfig::new(Framing::Datagram);
    let mut allocation = standing(config, &relayed, now);
    let [friend, stranger]: [SocketAddr; 2] = [
        "198.51.100.1:1".parse().unwrap(),
        "198.51.100.2:1".parse().unwrap(),
    ];
    allocation.permit(friend, now);
    while let Some(AllocationOutput::Transmit(batch)) = allocation.poll_output() {
        answer(&mut allocation, &batch.payload, &[], now);
    }
    let mut channel = BytesMut::new();
    assert!(write_channel_data(&mut channel, 0x4000, b"words", false));
    let mut hears = |bytes: Bytes| {
        allocation.handle_batch(bytes.into(), now);
        allocation.poll_output()
    };
    assert_eq!(hears(data(stranger)), None);
    assert_eq!(
        hears(channel.freeze()),
        None,
        "of a channel that nobody bound"
    );
    let words = Batch::from(Bytes::from_static(b"words"));
    let heard = AllocationOutput::Received {
        peer: friend,
        batch: words,
    };
    assert_eq!(hears(data(friend)), Some(heard));
}

fn data(peer: SocketAddr) -> Bytes {
    MessageBuilder::new(Class::Indication, Method::DATA, TransactionId([1; 12]))
        .attribute(Attribute::XorPeerAddress(peer))
        .raw(kind::DATA, b"words")
        .finish(None, false)
        .unwrap()
}

/// Nobody answers a refresh, and a peer is heard for so long: how it ends, and when.
fn unanswered(heard_for: Duration) -> (TurnError, Duration) {
    let start = epoch();
    let relayed = ["192.0.2.1:1000".parse().unwrap()];
    let friend: SocketAddr = "198.51.100.1:1".parse().unwrap();
    let mut allocation = standing(AllocationConfig::new(Framing::Datagram), &relayed, start);
    allocation.permit(friend, start);
    for second in 1..5_000 {
        let now = start + Duration::from_secs(second);
        if now - start <= heard_for {
            allocation.handle_batch(data(friend).into(), now);
        }
        allocation.handle_timeout(now);
        while let Some(output) = allocation.poll_output() {
            match output {
                AllocationOutput::Transmit(batch) => match method(&batch.payload) {
                    Method::CREATE_PERMISSION => answer(&mut allocation, &batch.payload, &[], now),
                    method => assert!([Method::REFRESH, Method::BINDING].contains(&method)),
                },
                AllocationOutput::Received { .. } => {}
                AllocationOutput::Failed(error) => return (error, now - start),
                other @ (AllocationOutput::Allocated { .. }
                | AllocationOutput::Connection { .. }
                | AllocationOutput::NotConnected(..)
                | AllocationOutput::Closed) => panic!("{other:?}"),
            }
        }
    }
    panic!("it has no end");
}

/// The server stopped answering refreshes, but it carries data: that is no reason to give up what works.
#[test]
fn an_unanswered_refresh_ends_no_allocation_that_is_heard() {
    let hour = Duration::from_secs(3_600);
    assert_eq!(unanswered(hour * 2), (TurnError::Expired, hour));
    // It fell silent while it was asked: what is heard no more is given up before it runs out.
    let asked = hour - Duration::from_secs(60);
    let (error, after) = unanswered(asked + Duration::from_secs(3));
    assert_eq!(error, TurnError::NoAnswer);
    assert!(after < asked + Duration::from_secs(20), "{after:?}");
}

fn refuse(allocation: &mut Allocation, request: &Bytes, code: u16, now: Instant) {
    let scan = Scan::new(request).unwrap();
    let refusal = MessageBuilder::new(Class::Error, scan.method(), scan.transaction())
        .attribute(Attribute::Error(code, "no".into()))
        .raw(kind::REALM, b"example.org")
        .raw(kind::NONCE, b"fresh");
    allocation.handle_batch(refusal.finish(None, false).unwrap().into(), now);
}

/// The next request of a method, past everything else.
fn request(allocation: &mut Allocation, wanted: Method) -> Bytes {
    loop {
        let bytes = asked(allocation);
        if method(&bytes) == wanted {
            return bytes;
        }
    }
}

/// What a nonce has to do with an allocation is nothing: a request for a permission or a channel may be bad by itself.
#[test]
fn a_bad_request_after_a_stale_nonce_is_a_doubt_and_no_loss() {
    let now = epoch();
    let relayed = ["192.0.2.1:1000".parse().unwrap()];
    let peer: SocketAddr = "198.51.100.1:1".parse().unwrap();
    for wanted in [Method::CREATE_PERMISSION, Method::CHANNEL_BIND] {
        for lost in [false, true] {
            let config = AllocationConfig::new(Framing::Datagram);
            let mut allocation = standing(config, &relayed, now);
            for _ in 0..9 {
                allocation.send(peer, Bytes::from_static(b"x").into(), now);
            }
            let first = request(&mut allocation, wanted);
            refuse(&mut allocation, &first, 438, now);
            let second = request(&mut allocation, wanted);
            refuse(&mut allocation, &second, 400, now);
            let refresh = request(&mut allocation, Method::REFRESH);
            if lost {
                refuse(&mut allocation, &refresh, 400, now);
                assert!(!allocation.is_standing());
                continue;
            }
            let transaction = Scan::new(&refresh).unwrap().transaction();
            let key = IntegrityKey::long_term("alice", "example.org", "sesame");
            let granted = MessageBuilder::new(Class::Success, Method::REFRESH, transaction)
                .attribute(Attribute::Lifetime(600))
                .finish(Some(&key), false)
                .unwrap();
            allocation.handle_batch(granted.into(), now);
            assert!(allocation.is_standing());
            assert_eq!(allocation.poll_output(), None);
        }
    }
}

/// RFC 8656 §12: a number rests for five minutes after its channel ended before another peer may have it.
#[test]
fn places_of_peers_are_given_to_others_only_when_they_have_rested() {
    let start = epoch();
    let relayed = ["192.0.2.1:1000".parse().unwrap()];
    let config = AllocationConfig {
        peers_max: 1,
        probe: Duration::from_secs(100_000),
        keepalive: Duration::from_secs(100_000),
        ..AllocationConfig::new(Framing::Datagram)
    };
    let mut allocation = standing(config, &relayed, start);
    let peers: [SocketAddr; 2] = [
        "198.51.100.1:1".parse().unwrap(),
        "198.51.100.1:2".parse().unwrap(),
    ];
    let mut bound_at = None;
    for _ in 0..20 {
        allocation.send(peers[0], Bytes::from_static(b"x").into(), start);
        while let Some(output) = allocation.poll_output() {
            let AllocationOutput::Transmit(batch) = output else {
                continue;
            };
            if batch.payload[0] == 0 && method(&batch.payload) != Method::SEND {
                if method(&batch.payload) == Method::CHANNEL_BIND {
                    bound_at = Some(start);
                }
                answer(&mut allocation, &batch.payload, &[], start);
            }
        }
    }
    assert!(bound_at.is_some(), "it has a channel");
    let mut now = start;
    let mut taken = None;
    while taken.is_none() && now < start + Duration::from_secs(3_000) {
        now += Duration::from_secs(10);
        if allocation.poll_timeout().is_some_and(|at| at <= now) {
            allocation.handle_timeout(now);
        }
        while let Some(output) = allocation.poll_output() {
            if let AllocationOutput::Transmit(batch) = output {
                answer(
                    &mut allocation,
                    &batch.payload,
                    &[Attribute::Lifetime(3600)],
                    now,
                );
            }
        }
        allocation.send(peers[1], Bytes::from_static(b"y").into(), now);
        taken = allocation.poll_output().map(|_| now - start);
    }
    let taken = taken.expect("some day it is free");
    assert!(taken >= CHANNEL_AND_REST, "{taken:?}");
}

/// 10 min of the channel, 5 min of rest.
const CHANNEL_AND_REST: Duration = Duration::from_secs(900);
