//! Datagrams that pass by their channel, where it says that they may, and those that do not.
#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::*;
use session_core::*;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A call that stands, with one channel on each side, and what counts the calls of both implementations.
fn call() -> (Table, [SessionId; 2], Arc<AtomicUsize>) {
    call_with(vec!["a"])
}

fn call_with(channels: Vec<&'static str>) -> (Table, [SessionId; 2], Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let transport = Fake {
        direct: Some(count.clone()),
        ..fake(ONE)
    };
    let mut t = Table::new(Setup {
        alice: vec![transport.clone()],
        bob: vec![transport],
        channels,
        ..Setup::default()
    });
    t.call();
    t.settle();
    t.act(Bob, |s, now| s.accept_with(description("answer"), now))
        .unwrap();
    t.settle();
    let ids = [Alice, Bob].map(|who| t.side(who).manager.session_ids()[0]);
    (t, ids, count)
}

fn send(t: &mut Table, who: Who, id: SessionId, text: &'static str) -> Result<(), SendError> {
    let now = t.now;
    let manager = &mut t.side(who).manager;
    let channel = manager.peek(id).unwrap().channel("a").unwrap();
    let result = manager.send(id, channel, Bytes::from_static(text.as_bytes()), now);
    t.drain(who);
    result
}

fn heard(t: &mut Table, who: Who) -> Vec<String> {
    let log = t.side(who).log.lock().unwrap();
    let packets = log.iter().filter_map(|line| line.strip_prefix("packet a "));
    packets.map(str::to_owned).collect()
}

#[test]
fn data_passes_by_a_channel_that_knows_a_direct_path() {
    let (mut t, [alice, bob], count) = call();
    for text in ["one", "two"] {
        send(&mut t, Alice, alice, text).unwrap();
        send(&mut t, Bob, bob, text).unwrap();
        t.carry_datagrams();
    }
    for who in [Alice, Bob] {
        assert_eq!(heard(&mut t, who), ["one", "two"]);
    }
    assert_eq!(count.load(Ordering::Relaxed), 0, "neither was called");
}

#[test]
fn what_is_not_data_or_comes_from_elsewhere_is_for_the_channel() {
    let (mut t, [alice, _], count) = call();
    send(&mut t, Alice, alice, "PING").unwrap();
    let (source, destination, _) = t.datagrams[0];
    t.carry_datagrams();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    let stranger = "10.9.9.9:9".parse().unwrap();
    t.datagrams
        .push_back((stranger, destination, Bytes::from_static(b"strange")));
    t.carry_datagrams();
    assert_eq!(count.load(Ordering::Relaxed), 2);
    t.datagrams.push_back((source, destination, Bytes::new()));
    t.carry_datagrams();
    assert_eq!(count.load(Ordering::Relaxed), 3);
}

/// In a batch one packet that is for the channel takes the others with it.
#[test]
fn a_batch_passes_whole_or_not_at_all() {
    let (mut t, [alice, _], count) = call();
    send(&mut t, Alice, alice, "one").unwrap();
    let (source, destination, _) = t.datagrams.pop_front().unwrap();
    let now = t.now;
    for (payload, calls) in [("twosix", 0), ("twoSIX", 1)] {
        let (socket, _) = t.bob.socket_at(destination);
        let input = Input::Datagram {
            socket,
            source,
            payload: Bytes::from_static(payload.as_bytes()),
            segment_size: 3,
        };
        t.bob.manager.handle_input(input, now);
        assert_eq!(count.load(Ordering::Relaxed), calls, "{payload}");
        t.drain(Bob);
    }
    assert_eq!(heard(&mut t, Bob)[..2], ["two", "six"]);
}

#[test]
fn a_session_that_is_not_at_rest_takes_the_way_through_its_channel() {
    let (mut t, [alice, bob], count) = call();
    send(&mut t, Alice, alice, "one").unwrap();
    // Looked at, and not yet drained: whatever was done to it comes first.
    assert!(t.bob.manager.session(bob).is_some());
    t.carry_datagrams();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert_eq!(heard(&mut t, Bob), ["one"]);
    // It rests again.
    send(&mut t, Alice, alice, "two").unwrap();
    t.carry_datagrams();
    assert_eq!(count.load(Ordering::Relaxed), 1);
    assert_eq!(heard(&mut t, Bob), ["one", "two"]);
}

/// What a client does when it hears a packet is carried out like anything else.
#[test]
fn a_client_may_end_the_session_from_inside() {
    let (mut t, [alice, bob], _) = call();
    t.client(Bob).on_packet = Some(Box::new(|session, now| {
        session
            .terminate(ReasonCondition::Success.into(), now)
            .unwrap();
    }));
    send(&mut t, Alice, alice, "one").unwrap();
    t.carry_datagrams();
    t.settle();
    assert!(t.bob.manager.peek(bob).is_none());
    assert!(t.alice.manager.peek(alice).is_none());
    assert!(t.said.iter().any(|line| line == "Bob session-terminate"));
}

/// A timer that is set from inside is one that the driver hears of.
#[test]
fn a_client_may_set_its_timer_from_inside() {
    let (mut t, [alice, _], _) = call();
    t.client(Bob).on_packet = Some(Box::new(|session, now| {
        session.set_timer(now.checked_add(Duration::from_secs(7)));
    }));
    send(&mut t, Alice, alice, "one").unwrap();
    t.carry_datagrams();
    let now = t.now;
    let Output::Wait(at) = t.bob.manager.poll_output(now) else {
        panic!("it was drained");
    };
    assert_eq!(at, now.checked_add(Duration::from_secs(7)));
}

#[test]
fn nothing_is_sent_for_a_session_that_is_gone_or_finished() {
    let (mut t, [alice, bob], _) = call();
    t.act(Bob, |session, now| {
        let channel = session.channel("a").unwrap();
        session.finish(channel, now);
    });
    assert_eq!(send(&mut t, Bob, bob, "late"), Err(SendError::Finished));
    let now = t.now;
    let channel = t.alice.manager.peek(alice).unwrap().channel("a").unwrap();
    t.alice.manager.destroy_session(alice, now);
    let late = t
        .alice
        .manager
        .send(alice, channel, Bytes::from_static(b"late"), now);
    assert_eq!(late, Err(SendError::NoSuchChannel));
}

/// One of them has the way that costs least; the other goes through its channel.
#[test]
fn two_channels_do_not_mix() {
    let (mut t, [alice, _], _) = call_with(vec!["a", "b"]);
    let now = t.now;
    for (name, text) in [("a", "one"), ("b", "two"), ("a", "three"), ("b", "four")] {
        let manager = &mut t.alice.manager;
        let channel = manager.peek(alice).unwrap().channel(name).unwrap();
        let text = Bytes::from_static(text.as_bytes());
        manager.send(alice, channel, text, now).unwrap();
        t.drain(Alice);
        t.carry_datagrams();
    }
    let log = t.bob.log.lock().unwrap();
    let packets: Vec<_> = log
        .iter()
        .filter(|line| line.starts_with("packet"))
        .collect();
    let expected = [
        "packet a one",
        "packet b two",
        "packet a three",
        "packet b four",
    ];
    assert_eq!(packets, expected);
}
