//! Files through tunnels: every way they can go well, and every way they can end.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod common;

use bytes::Bytes;
use common::*;
use proptest::prelude::*;
use session_core::{
    Action, Cause, ContentPart, Dialect, Element, Message, Notice, Reason, ReasonCondition, Role,
    SessionId, State,
    testing::{Conditions, Envelope, Parcel},
};
use session_file::{
    Change, Completeness, Offer, Phase, Progress, Purpose, Read, TUNNEL, Tunnel, TunnelClient,
    TunnelError, TunnelLimits, Verdict,
};
use std::time::Duration;

const CARRIERS: [Carrier; 2] = [Carrier::Marked, Carrier::Plain];

fn success() -> Reason {
    Reason::new(ReasonCondition::Success)
}

/// How a transfer that went well ends for its sender or its receiver: who can tell where a stream ends, ends the session.
fn ending(carrier: Carrier, sender: bool) -> Cause {
    if (carrier == Carrier::Plain) == sender {
        Cause::Local(success())
    } else {
        Cause::Remote(Some(success()))
    }
}

/// Alice's file reaches Bob; everything that is to be known of it, at both ends.
fn send_a_file(setup: Setup, size: usize, write: usize, read: usize) {
    let mut world = world(setup);
    let (alice, bob) = opened(&mut world, &Tunnel::receive("file").unwrap());
    let mut sender = Sender::new(ALICE, alice, data(size));
    let mut receiver = Receiver::new(BOB, bob);
    transfer(&mut world, &mut sender, &mut receiver, write, read);
    world.run_for(Duration::from_secs(1));

    assert!(receiver.bytes == data(size), "the same bytes");
    assert_eq!(receiver.end, Some(Read::End(verified(setup.carrier))));
    let size = size as u64;
    look(&mut world, ALICE, alice, |stream| {
        assert!(stream.is_delivered());
        assert_eq!(stream.phase(), Phase::Ended);
        assert_eq!(stream.cause(), Some(&ending(setup.carrier, true)));
        let progress = Progress {
            written: size,
            sent: size,
            ..Progress::default()
        };
        assert_eq!(stream.progress(), progress);
    });
    look(&mut world, BOB, bob, |stream| {
        assert_eq!(stream.received(), Some(verified(setup.carrier)));
        assert_eq!(stream.cause(), Some(&ending(setup.carrier, false)));
        let progress = Progress {
            received: size,
            read: size,
            ..Progress::default()
        };
        assert_eq!(stream.progress(), progress);
    });
    for host in [ALICE, BOB] {
        assert_eq!(world.manager(host).session_count(), 0);
    }
    world.check();
}

#[test]
fn a_file_is_sent_in_either_dialect_over_either_stream() {
    for carrier in CARRIERS {
        for dialect in [Dialect::JINGLE, Dialect::GTALK] {
            let setup = Setup {
                carrier,
                dialect,
                ..Setup::default()
            };
            send_a_file(setup, 300_000, 65_536, 65_536);
        }
    }
}

#[test]
fn a_file_of_no_bytes_is_a_file() {
    for carrier in CARRIERS {
        let setup = Setup {
            carrier,
            ..Setup::default()
        };
        send_a_file(setup, 0, 1, 1);
    }
}

#[test]
fn a_file_can_be_asked_for() {
    for carrier in CARRIERS {
        let mut world = world(Setup {
            carrier,
            ..Setup::default()
        });
        let (alice, bob) = opened(&mut world, &Tunnel::send("file").unwrap());
        let mut sender = Sender::new(BOB, bob, data(100_000));
        let mut receiver = Receiver::new(ALICE, alice);
        transfer(&mut world, &mut sender, &mut receiver, 1 << 20, 1 << 20);
        world.settle();
        assert!(receiver.bytes == data(100_000));
        assert_eq!(receiver.end, Some(Read::End(verified(carrier))));
        let cause = look(&mut world, BOB, bob, |s| s.cause().cloned());
        assert_eq!(cause, Some(ending(carrier, true)));
        world.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the limits and sizes, the same bytes arrive, and nobody holds more than the limits say.
    #[test]
    fn every_file_arrives_whole(
        marked in any::<bool>(),
        size in prop_oneof![0..2_000usize, 0..400_000usize],
        write in 1..100_000usize,
        read in 1..100_000usize,
        send_bytes in 1_000..50_000usize,
        receive_bytes in 0..50_000usize,
        seed in any::<u64>(),
    ) {
        let carrier = if marked { Carrier::Marked } else { Carrier::Plain };
        let limits = TunnelLimits { send_bytes, receive_bytes, ..TunnelLimits::default() };
        send_a_file(Setup { carrier, limits, seed, ..Setup::default() }, size, write.max(size / 500), read.max(size / 500));
    }
}

#[test]
fn both_may_send_in_a_tunnel_that_is_for_nothing_in_particular() {
    let mut world = world(Setup::default());
    let (alice, bob) = opened(&mut world, &Tunnel::new("chess").unwrap());
    let mut there = (
        Sender::new(ALICE, alice, data(90_000)),
        Receiver::new(BOB, bob),
    );
    let mut back = (
        Sender::new(BOB, bob, data(70_000)),
        Receiver::new(ALICE, alice),
    );
    transfer(&mut world, &mut there.0, &mut there.1, 999, 5_000);
    assert!(look(&mut world, ALICE, alice, |s| s.cause().is_none()));
    transfer(&mut world, &mut back.0, &mut back.1, 5_000, 999);
    world.settle();
    assert!(there.1.bytes == data(90_000) && back.1.bytes == data(70_000));
    for (host, id) in [(ALICE, alice), (BOB, bob)] {
        look(&mut world, host, id, |stream| {
            assert_eq!(stream.phase(), Phase::Ended);
            assert_eq!(stream.received(), Some(Completeness::Verified));
            assert!(stream.is_delivered());
        });
    }
    world.check();
}

#[test]
fn a_writer_is_held_back_and_told_when_there_is_room() {
    let limits = TunnelLimits {
        send_bytes: 10_000,
        receive_bytes: 20_000,
        ..TunnelLimits::default()
    };
    let mut world = world(Setup {
        carrier: Carrier::Plain,
        limits,
        ..Setup::default()
    });
    let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
    let mut slot = look(&mut world, ALICE, alice, |s| listen(s.signal()));
    let mut sender = Sender::new(ALICE, alice, data(1_000_000));
    for _ in 0..1_000 {
        sender.step(&mut world, 10_000);
        world.settle();
    }
    let held = look(&mut world, BOB, bob, |s| s.readable());
    let limit = limits.receive_bytes + plain::WINDOW as usize;
    assert!((20_000..=limit).contains(&held), "{held} bytes are held");
    look(&mut world, ALICE, alice, |stream| {
        assert_eq!(stream.room(), 0)
    });
    assert!(changes(&mut slot).contains(&Change::Writable));
    sender.step(&mut world, 10_000);
    world.settle();
    assert_eq!(changes(&mut slot), [], "there is no room");
    // One byte does not open the way, half of the limit does.
    read(&mut world, BOB, bob, 1);
    world.settle();
    assert_eq!(changes(&mut slot), []);
    while look(&mut world, BOB, bob, |s| s.readable()) > 10_000 {
        read(&mut world, BOB, bob, 1_000);
        if look(&mut world, BOB, bob, |s| s.readable()) > 10_000 {
            assert_eq!(changes(&mut slot), []);
        }
    }
    world.settle();
    assert_eq!(changes(&mut slot), [Change::Writable]);
}

#[test]
fn a_receiver_reads_on_after_the_session_is_gone() {
    // With slow signalling, that the connection is gone is heard before that the session is over.
    let delays = [Duration::ZERO, Duration::from_millis(300)];
    for (carrier, delay) in CARRIERS.into_iter().flat_map(|c| delays.map(|d| (c, d))) {
        let limits = TunnelLimits {
            receive_bytes: 1_000,
            ..TunnelLimits::default()
        };
        let mut world = world(Setup {
            carrier,
            limits,
            ..Setup::default()
        });
        let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
        world.set_wire(Conditions::with_delay(delay));
        let mut sender = Sender::new(ALICE, alice, data(20_000));
        sender.step(&mut world, 20_000);
        world.run_for(Duration::from_secs(2));
        // The session ended while the stream held most of it back.
        assert_eq!(world.manager(BOB).session_count(), 0);
        assert_eq!(look(&mut world, BOB, bob, |s| s.readable()), 20_000);
        let mut receiver = Receiver::new(BOB, bob);
        transfer(&mut world, &mut sender, &mut receiver, 1, 7_000);
        assert!(receiver.bytes == data(20_000), "{carrier:?} {delay:?}");
        assert_eq!(receiver.end, Some(Read::End(verified(carrier))));
        world.check();
    }
}

#[test]
fn an_early_success_without_a_mark_is_not_called_verified() {
    let mut world = world(Setup {
        carrier: Carrier::Plain,
        ..Setup::default()
    });
    let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
    let mut bytes = data(500);
    world.update(ALICE, |manager, now| {
        TunnelClient::write(manager, alice, &mut bytes, now).unwrap();
        TunnelClient::close(manager, alice, success(), now).unwrap();
    });
    world.settle();
    let mut receiver = Receiver::new(BOB, bob);
    receiver.step(&mut world, 1_000);
    assert_eq!(receiver.end, Some(Read::End(Completeness::Unverified)));
    // The sender knows that it did not wait.
    assert!(!look(&mut world, ALICE, alice, |s| s.is_delivered()));
}

#[test]
fn either_side_can_break_it_off_and_the_other_hears_why() {
    for breaker in [ALICE, BOB] {
        let mut world = world(Setup::default());
        let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
        let mut sender = Sender::new(ALICE, alice, data(5_000_000));
        sender.step(&mut world, 100_000);
        world.settle();
        let full = Reason::new(ReasonCondition::FailedApplication).with_text("disk full");
        let (id, other, other_id) = if breaker == ALICE {
            (alice, BOB, bob)
        } else {
            (bob, ALICE, alice)
        };
        world.update(breaker, |manager, now| {
            TunnelClient::close(manager, id, full.clone(), now).unwrap();
        });
        world.settle();
        let cause = look(&mut world, other, other_id, |s| s.cause().cloned());
        assert_eq!(cause, Some(Cause::Remote(Some(full.clone()))));
        let mut receiver = Receiver::new(BOB, bob);
        receiver.step(&mut world, 1 << 20);
        let cause = look(&mut world, BOB, bob, |s| s.cause().cloned().unwrap());
        assert_eq!(receiver.end, Some(Read::Broken(cause)));
        assert!(receiver.bytes.len() < 5_000_000);
        assert!(!look(&mut world, ALICE, alice, |s| s.is_delivered()));
        world.update(ALICE, |manager, now| {
            let result = TunnelClient::write(manager, alice, &mut data(1), now);
            assert!(matches!(result, Err(TunnelError::Ended(_))), "{result:?}");
        });
        world.check();
    }
}

#[test]
fn a_peer_that_vanishes_ends_it_with_an_error_on_both_sides() {
    for carrier in CARRIERS {
        let mut world = world(Setup {
            carrier,
            ..Setup::default()
        });
        let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
        let mut sender = Sender::new(ALICE, alice, data(3_000_000));
        sender.step(&mut world, 100_000);
        world.settle();
        let now = world.now();
        for (from, to) in [(ALICE, BOB), (BOB, ALICE)] {
            world.network().set_cut(from, to, true, now);
        }
        let mut receiver = Receiver::new(BOB, bob);
        transfer(&mut world, &mut sender, &mut receiver, 1_000, 1_000_000);
        assert!(receiver.bytes.len() < 3_000_000);
        assert!(data(3_000_000).starts_with(&receiver.bytes));
        assert!(
            matches!(receiver.end, Some(Read::Broken(_))),
            "{:?}",
            receiver.end
        );
        world.run_for(Duration::from_secs(60));
        for (host, id) in [(ALICE, alice), (BOB, bob)] {
            look(&mut world, host, id, |stream| {
                assert_eq!(stream.phase(), Phase::Ended);
                assert!(!stream.is_delivered());
                assert_eq!(stream.received(), None);
            });
        }
        world.check();
    }
}

#[test]
fn before_the_first_byte_another_transport_may_take_over() {
    let mut world = world(Setup {
        carrier: Carrier::Failing(Duration::ZERO),
        ..Setup::default()
    });
    let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
    let mut sender = Sender::new(ALICE, alice, data(50_000));
    let mut receiver = Receiver::new(BOB, bob);
    transfer(&mut world, &mut sender, &mut receiver, 9_000, 9_000);
    assert!(receiver.bytes == data(50_000));
    assert_eq!(receiver.end, Some(Read::End(Completeness::Verified)));
}

#[test]
fn a_stream_that_is_under_way_breaks_with_a_peer_that_cannot_go_on_elsewhere() {
    let mut world = world(Setup {
        carrier: Carrier::Failing(Duration::from_secs(5)),
        ..Setup::default()
    });
    // Nobody hears how far the other is.
    world.hold(true);
    accept_all(&mut world);
    let alice = open(&mut world, &Tunnel::receive("f").unwrap());
    let mut bytes = data(50_000);
    world.update(ALICE, |manager, now| {
        TunnelClient::write(manager, alice, &mut bytes, now).unwrap();
    });
    for _ in 0..120 {
        while !world.held().is_empty() {
            match &world.held()[0].parcel {
                Parcel::Message { message, .. } if message.action == Action::SessionInfo => {
                    world.discard(0);
                }
                Parcel::Message { .. } | Parcel::Request { .. } | Parcel::Reply { .. } => {
                    world.deliver(0);
                }
            }
            world.settle();
        }
        world.run_for(Duration::from_secs(1));
    }
    let bob = client(&mut world, BOB, |client| client.sessions().next().unwrap());
    let mut receiver = Receiver::new(BOB, bob);
    receiver.step(&mut world, 1 << 20);
    assert!(
        receiver.bytes == data(50_000),
        "what arrived before can be read"
    );
    assert!(
        matches!(receiver.end, Some(Read::Broken(_))),
        "{:?}",
        receiver.end
    );
    for (host, id) in [(ALICE, alice), (BOB, bob)] {
        let cause = look(&mut world, host, id, |s| s.cause().cloned().unwrap());
        let text = cause.to_string();
        assert!(text.contains("failed-transport"), "{text}");
    }
}

#[test]
fn offers_wait_for_the_application_and_beyond_a_limit_are_declined_as_busy() {
    let limits = TunnelLimits {
        offers: 2,
        ..TunnelLimits::default()
    };
    let mut world = world(Setup {
        limits,
        ..Setup::default()
    });
    let mut slot = client(&mut world, BOB, |client| listen(client.signal_offer()));
    let ids: Vec<SessionId> = ["a", "b", "c"]
        .into_iter()
        .map(|name| {
            let id = open(&mut world, &Tunnel::receive(name).unwrap());
            world.settle();
            id
        })
        .collect();
    let offers: Vec<Offer> = client(&mut world, BOB, |client| client.offers().collect());
    let announced: Vec<Offer> = std::iter::from_fn(|| slot.try_next())
        .filter_map(|notice| match notice {
            Notice::Value(offer) => Some(offer),
            Notice::Snapshot { .. } | Notice::Ended => None,
        })
        .collect();
    assert_eq!(offers, announced);
    assert_eq!(offers.len(), 2);
    assert_eq!(offers[0].tunnel.purpose(), Purpose::Receive("a"));
    assert_eq!(&offers[0].from, world.name(ALICE));
    let cause = look(&mut world, ALICE, ids[2], |s| s.cause().cloned());
    let busy = Reason::new(ReasonCondition::Busy);
    assert_eq!(cause, Some(Cause::Remote(Some(busy))));

    world.update(BOB, |manager, now| {
        let no = Reason::new(ReasonCondition::Decline);
        TunnelClient::decline(manager, offers[0].session, no, now).unwrap();
        TunnelClient::accept(manager, offers[1].session, now).unwrap();
        let again = TunnelClient::accept(manager, offers[1].session, now);
        assert_eq!(again, Err(TunnelError::NotOffered(offers[1].session)));
        let gone = TunnelClient::accept(manager, offers[0].session, now);
        assert_eq!(gone, Err(TunnelError::Unknown(offers[0].session)));
    });
    world.settle();
    let no = Cause::Remote(Some(Reason::new(ReasonCondition::Decline)));
    assert_eq!(read(&mut world, ALICE, ids[0], 1), Read::Broken(no));
    assert_eq!(look(&mut world, ALICE, ids[1], |s| s.phase()), Phase::Open);
    world.check();
}

#[test]
fn an_offer_that_is_withdrawn_waits_no_longer() {
    let mut world = world(Setup::default());
    let id = open(&mut world, &Tunnel::receive("a").unwrap());
    world.settle();
    let offer = only(&mut world, BOB);
    world.update(ALICE, |manager, now| {
        TunnelClient::release(manager, id, now).unwrap()
    });
    world.settle();
    client(&mut world, BOB, |client| {
        assert_eq!(client.offers().count(), 0)
    });
    world.update(BOB, |manager, now| {
        let late = TunnelClient::accept(manager, offer, now);
        assert_eq!(late, Err(TunnelError::Unknown(offer)));
    });
    world.check();
}

#[test]
fn a_policy_sees_what_is_offered_and_decides() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        let mut world = world(Setup {
            dialect,
            ..Setup::default()
        });
        set_policy(&mut world, BOB, |offer| match offer.tunnel.purpose() {
            Purpose::Receive(name) if session_file::sanitize_name(name).is_ok() => Verdict::Accept,
            Purpose::Other(_) => Verdict::Ask,
            Purpose::Receive(_) | Purpose::Send(_) => {
                Verdict::Decline(ReasonCondition::Decline.into())
            }
        });
        let mut outcome = |tunnel: Tunnel| {
            let id = open(&mut world, &tunnel);
            world.settle();
            look(&mut world, ALICE, id, |s| s.phase())
        };
        assert_eq!(outcome(Tunnel::receive("fine").unwrap()), Phase::Open);
        assert_eq!(outcome(Tunnel::receive("../no").unwrap()), Phase::Ended);
        assert_eq!(outcome(Tunnel::send("secret").unwrap()), Phase::Ended);
        assert_eq!(outcome(Tunnel::new("chess").unwrap()), Phase::Waiting);
        world.check();
    }
}

#[test]
fn an_offer_without_a_type_is_answered_with_an_error_and_nothing_else_happens() {
    for dialect in [Dialect::JINGLE, Dialect::GTALK] {
        let mut world = world(Setup {
            dialect,
            ..Setup::default()
        });
        let (from, to) = (world.name(ALICE).clone(), world.name(BOB).clone());
        let mut message = Message::new(from, to, "s15", dialect, Action::SessionInitiate);
        let transport = Element::new("https://pcp.example/ns/memory-stream", "transport");
        message.contents.push(ContentPart {
            description: Some(Element::new(TUNNEL, "description")),
            transports: vec![transport],
            ..ContentPart::named("tunnel")
        });
        world.hold(true);
        let id = world.request_id();
        let parcel = Parcel::Message {
            id,
            message: Box::new(message),
        };
        world.forge(Envelope {
            from: ALICE,
            to: BOB,
            parcel,
        });
        let said: Vec<String> = world.held().iter().map(ToString::to_string).collect();
        assert_eq!(said.len(), 1, "{said:?}");
        assert!(
            said[0].contains("bad-request") && said[0].contains("type: missing"),
            "{said:?}"
        );
        assert_eq!(world.manager(BOB).session_count(), 0);
        client(&mut world, BOB, |client| {
            assert_eq!(client.sessions().count(), 0)
        });
    }
}

#[test]
fn no_address_is_told_before_the_offer_is_accepted() {
    let mut world = world(Setup::default());
    let id = open(&mut world, &Tunnel::receive("a").unwrap());
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.state(ALICE, id), Some(State::SentInitiate));
    assert_eq!(world.network().sockets().count(), 0);
}

#[test]
fn streams_that_are_over_count_until_they_are_released() {
    let limits = TunnelLimits {
        streams: 1,
        ..TunnelLimits::default()
    };
    let mut world = world(Setup {
        limits,
        ..Setup::default()
    });
    let (alice, bob) = opened(&mut world, &Tunnel::receive("a").unwrap());
    let mut sender = Sender::new(ALICE, alice, data(10));
    let mut receiver = Receiver::new(BOB, bob);
    transfer(&mut world, &mut sender, &mut receiver, 10, 10);
    world.settle();
    world.update(ALICE, |manager, now| {
        let local = "alice@a.example/desk".into();
        let id = manager.create_session(local, TUNNEL, now).unwrap();
        let tunnel = Tunnel::receive("b").unwrap();
        let again = TunnelClient::open(manager, id, "bob@b.example/lap".into(), &tunnel, now);
        let many = TunnelError::TooMany {
            limit: "streams",
            max: 1,
        };
        assert_eq!(again, Err(many));
        manager.destroy_session(id, now);
        TunnelClient::release(manager, alice, now).unwrap();
        let gone = TunnelClient::release(manager, alice, now);
        assert_eq!(gone, Err(TunnelError::Unknown(alice)));
    });
    let second = open(&mut world, &Tunnel::receive("b").unwrap());
    world.settle();
    let busy = look(&mut world, ALICE, second, |s| s.cause().cloned());
    let reason = Reason::new(ReasonCondition::Busy);
    assert_eq!(busy, Some(Cause::Remote(Some(reason))));
}

#[test]
fn a_stream_announces_its_life_once_each() {
    let mut world = world(Setup::default());
    let alice = open(&mut world, &Tunnel::receive("f").unwrap());
    let mut slot = look(&mut world, ALICE, alice, |s| listen(s.signal()));
    assert_eq!(
        look(&mut world, ALICE, alice, |s| s.phase()),
        Phase::Waiting
    );
    world.settle();
    let bob = only(&mut world, BOB);
    let mut other = look(&mut world, BOB, bob, |s| listen(s.signal()));
    assert_eq!(
        look(&mut world, BOB, bob, |s| (s.phase(), s.role())),
        (Phase::Offered, Role::Responder)
    );
    world.update(BOB, |manager, now| {
        TunnelClient::accept(manager, bob, now).unwrap()
    });
    world.settle();
    let mut bytes = data(10);
    world.update(ALICE, |manager, now| {
        TunnelClient::write(manager, alice, &mut bytes, now).unwrap();
        TunnelClient::finish(manager, alice, now).unwrap();
        let late = TunnelClient::write(manager, alice, &mut data(1), now);
        assert_eq!(late, Err(TunnelError::Finished));
    });
    world.settle();
    assert_eq!(changes(&mut slot), [Change::Opened, Change::Delivered]);
    let seen = changes(&mut other);
    assert_eq!(seen, [Change::Opened, Change::Readable, Change::Readable]);
    let mut receiver = Receiver::new(BOB, bob);
    receiver.step(&mut world, 100);
    world.settle();
    assert_eq!(changes(&mut slot), [Change::Ended]);
    assert_eq!(changes(&mut other), [Change::Ended]);
}

#[test]
fn a_receiver_that_cannot_keep_what_it_read_says_so_before_it_reads_the_end() {
    let mut world = world(Setup::default());
    let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
    let mut sender = Sender::new(ALICE, alice, data(1_000));
    sender.step(&mut world, 1_000);
    world.settle();
    assert_eq!(read(&mut world, BOB, bob, 1_000), Read::Bytes(data(1_000)));
    let full = Reason::new(ReasonCondition::FailedApplication).with_text("disk full");
    world.update(BOB, |manager, now| {
        TunnelClient::close(manager, bob, full.clone(), now).unwrap();
    });
    world.settle();
    look(&mut world, ALICE, alice, |stream| {
        assert!(stream.is_delivered());
        assert_eq!(stream.cause(), Some(&Cause::Remote(Some(full.clone()))));
    });
}

#[test]
fn a_sender_does_not_wait_for_ever_for_a_receiver_to_read() {
    let mut world = world(Setup::default());
    let (alice, bob) = opened(&mut world, &Tunnel::receive("f").unwrap());
    let mut sender = Sender::new(ALICE, alice, data(1_000));
    sender.step(&mut world, 1_000);
    world.run_for(Duration::from_millis(900));
    assert_eq!(world.state(ALICE, alice), Some(State::InProgress));
    world.run_for(Duration::from_millis(200));
    for (host, id) in [(ALICE, alice), (BOB, bob)] {
        assert_eq!(world.state(host, id), None);
    }
    let mut receiver = Receiver::new(BOB, bob);
    receiver.step(&mut world, 1_000);
    assert!(receiver.bytes == data(1_000));
    assert_eq!(receiver.end, Some(Read::End(Completeness::Verified)));
}

#[test]
fn mistakes_of_the_caller_change_nothing() {
    let mut world = world(Setup::default());
    let (alice, _) = opened(&mut world, &Tunnel::receive("f").unwrap());
    world.update(ALICE, |manager, now| {
        let tunnel = Tunnel::receive("g").unwrap();
        let again = TunnelClient::open(manager, alice, "x".into(), &tunnel, now);
        assert_eq!(again, Err(TunnelError::InUse(alice)));
        assert_eq!(
            TunnelClient::accept(manager, alice, now),
            Err(TunnelError::NotOffered(alice))
        );
        manager.remove_client(TUNNEL, now).unwrap();
        let mut none = Bytes::new();
        let without = TunnelClient::write(manager, alice, &mut none, now);
        assert_eq!(without, Err(TunnelError::NoClient));
    });
}
