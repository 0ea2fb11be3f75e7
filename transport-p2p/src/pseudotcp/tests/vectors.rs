//! The bytes of a conversation, as libjingle 0.7.1 and libnice 0.1.21 were seen to speak and answer.

use crate::pseudotcp::{
    Config, Event, PseudoTcp, State,
    wire::{FLAG_CTL, FLAG_FIN, FLAG_RST, Header},
};
use bytes::Bytes;
use session_core::testing::epoch;
use std::time::{Duration, Instant};

/// What libjingle 0.7.1 offers: windows of 60 KiB, a scale of 0, no FIN.
fn libjingle() -> Config {
    Config {
        receive_buffer: 60 * 1024,
        send_buffer: 90 * 1024,
        fin: false,
        sack: false,
        ..Config::default()
    }
}

/// What libnice 0.1.21 offers.
fn libnice() -> Config {
    Config {
        fin: true,
        ..libjingle()
    }
}

/// A segment as a peer would send it, with window f000.
fn segment(sequence: u32, acknowledged: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        conversation: 0,
        sequence,
        acknowledged,
        flags,
        window: 0xf000,
        tsval: 77,
        tsecr: 0,
    };
    [&header.encode(), payload].concat()
}

/// The only segment that is due.
fn sent(end: &mut PseudoTcp, now: Instant) -> (Header, Bytes) {
    let batch = end.poll_transmit(now, 64).unwrap();
    assert_eq!(batch.segment_size, batch.payload.len());
    assert_eq!(end.poll_transmit(now, 64), None);
    (
        Header::decode(&batch.payload).unwrap(),
        batch.payload.slice(24..),
    )
}

fn opened(config: Config, now: Instant) -> PseudoTcp {
    let mut end = PseudoTcp::new(config, now);
    end.handle_segment(&segment(0, 0, FLAG_CTL, &[0, 3, 1, 0]), now);
    assert_eq!(sent(&mut end, now).0.acknowledged, 4);
    end.handle_segment(&segment(4, 4, 0, &[]), now);
    assert_eq!(end.poll_event(), Some(Event::Open));
    end
}

#[test]
fn caller_of_libjingle() {
    let now = epoch();
    let mut caller = PseudoTcp::new(libjingle(), now);
    caller.write(b"data", now).unwrap();
    assert_eq!(caller.poll_transmit(now, 64), None, "not before connect");
    caller.connect(now).unwrap();
    caller.connect(now).unwrap_err();
    assert_eq!(
        caller.poll_transmit(now, 64).unwrap().payload[..],
        [
            0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0xf0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 3, 1, 0
        ]
    );
    caller.handle_segment(&segment(0, 4, FLAG_CTL, &[0, 3, 1, 0]), now);
    assert_eq!(caller.state(), State::Established);
    let (header, payload) = sent(&mut caller, now + Duration::from_millis(5));
    assert_eq!((header.sequence, header.acknowledged), (4, 4));
    assert_eq!((header.flags, header.window), (0, 0xf000));
    assert_eq!((header.tsval, header.tsecr), (6, 77));
    assert_eq!(payload[..], *b"data");
    assert_eq!(caller.mss(), 1384, "of an MTU of 1500");
}

#[test]
fn callee_answers_with_what_was_offered() {
    let now = epoch();
    for (offer, answer) in [
        (&[0][..], &[0][..]),
        (&[0, 3, 1, 0], &[0, 3, 1, 7]),
        (&[0, 3, 1, 0, 254, 1, 0], &[0, 3, 1, 7, 254, 1, 0]),
        (&[0, 253, 2, b'S', b'K'], &[0, 253, 2, b'S', b'K']),
    ] {
        let mut callee = PseudoTcp::new(Config::default(), now);
        callee.handle_segment(&segment(0, 0, FLAG_CTL, offer), now);
        assert_eq!(callee.state(), State::SynReceived);
        let (header, payload) = sent(&mut callee, now);
        assert_eq!(payload, answer);
        let window = if offer.len() > 3 && offer[1] == 3 {
            0x8000
        } else {
            0xf000
        };
        assert_eq!(header.window, window, "unscaled: libjingle's 60 KiB");
        assert_eq!(header.acknowledged, offer.len() as u32);
    }
}

#[test]
fn answer_waits_for_the_path_and_is_repeated() {
    let now = epoch();
    let mut callee = PseudoTcp::new(libnice(), now);
    callee.handle_segment(&segment(0, 0, FLAG_CTL, &[0, 3, 1, 0]), now);
    assert_eq!(
        callee.poll_timeout(),
        None,
        "held: the path is not writable"
    );
    let later = now + Duration::from_secs(9);
    assert_eq!(sent(&mut callee, later).0.flags, FLAG_CTL);
    callee.handle_segment(&segment(0, 0, FLAG_CTL, &[0, 3, 1, 0]), later);
    assert_eq!(sent(&mut callee, later).0.flags, FLAG_CTL, "asked again");
    let timeout = callee.poll_timeout().unwrap();
    assert_eq!(timeout, later + Duration::from_secs(1));
    callee.handle_timeout(timeout);
    assert_eq!(sent(&mut callee, timeout).0.flags, FLAG_CTL);
}

#[test]
fn repeated_connect_of_a_caller_that_lost_our_acknowledgement() {
    let now = epoch();
    let mut end = opened(libjingle(), now);
    end.handle_segment(&segment(0, 4, FLAG_CTL, &[0, 3, 1, 0]), now);
    let (header, payload) = sent(&mut end, now);
    assert_eq!((header.flags, header.acknowledged), (0, 4));
    assert!(payload.is_empty());
}

#[test]
fn probes_of_libnice_are_answered_and_bare_acknowledgements_are_not() {
    let now = epoch();
    let mut end = opened(libnice(), now);
    end.handle_segment(&segment(3, 4, 0, &[]), now);
    assert_eq!(sent(&mut end, now).0.acknowledged, 4);
    end.handle_segment(&segment(4, 4, 0, &[]), now);
    end.handle_segment(&segment(50, 4, 0, &[]), now);
    assert_eq!(end.poll_transmit(now, 64), None);
}

#[test]
fn every_second_segment_and_every_hole_is_acknowledged_at_once() {
    let now = epoch();
    let mut end = opened(libnice(), now);
    end.handle_segment(&segment(4, 4, 0, &[1; 50]), now);
    assert_eq!(sent(&mut end, now).0.acknowledged, 54, "the first one");
    end.handle_segment(&segment(54, 4, 0, &[1; 50]), now);
    assert_eq!(end.poll_transmit(now, 64), None);
    assert_eq!(end.poll_timeout(), Some(now + Duration::from_millis(100)));
    end.handle_segment(&segment(104, 4, 0, &[1; 100]), now);
    assert_eq!(sent(&mut end, now).0.acknowledged, 204);
    assert_eq!(end.poll_timeout(), None);
    let batch = [
        segment(304, 4, 0, &[1; 100]),
        segment(404, 4, 0, &[1; 100]),
        segment(504, 4, 0, &[1; 50]),
    ];
    end.handle_batch(batch.concat().into(), 124, now);
    let acks = end.poll_transmit(now, 64).unwrap();
    assert_eq!(acks.len(), 3, "one duplicate for each");
    assert_eq!(acks.segment_size, 24);
    assert!(
        acks.into_iter()
            .all(|ack| Header::decode(&ack).unwrap().acknowledged == 204)
    );
    end.handle_segment(&segment(204, 4, 0, &[1; 100]), now);
    assert_eq!(sent(&mut end, now).0.acknowledged, 554);
}

#[test]
fn fin_as_libnice_sends_it() {
    let now = epoch();
    let mut end = PseudoTcp::new(libnice(), now);
    end.handle_segment(&segment(0, 0, FLAG_CTL, &[0, 3, 1, 0, 254, 1, 0]), now);
    let (header, payload) = sent(&mut end, now);
    assert_eq!((header.acknowledged, header.window), (7, 0xf000));
    assert_eq!(payload[..], [0, 3, 1, 0, 254, 1, 0]);
    end.handle_segment(&segment(7, 7, 0, b"hello"), now);
    end.handle_segment(&segment(12, 7, FLAG_FIN, &[]), now);
    let (header, payload) = sent(&mut end, now);
    assert_eq!((header.flags, header.acknowledged), (0, 13));
    assert!(payload.is_empty());
    assert_eq!(end.poll_event(), Some(Event::Open));
    assert_eq!(end.poll_event(), Some(Event::Readable));
    assert_eq!(end.poll_event(), Some(Event::PeerClosed));
    assert!(!end.is_finished());
    assert_eq!(end.read(now).unwrap()[..], *b"hello");
    assert!(end.is_finished());

    end.close(now);
    let (header, payload) = sent(&mut end, now);
    assert_eq!((header.flags, header.sequence), (FLAG_FIN, 7));
    assert!(payload.is_empty());
    end.handle_segment(&segment(13, 8, 0, &[]), now);
    assert_eq!(end.poll_event(), Some(Event::Closed(None)));
    assert_eq!(end.state(), State::Lingering);
    end.handle_segment(&segment(12, 8, FLAG_FIN, &[]), now);
    assert_eq!(sent(&mut end, now).0.acknowledged, 13, "repeated FIN");
    let linger = end.poll_timeout().unwrap();
    end.handle_timeout(linger);
    assert_eq!((end.state(), end.poll_timeout()), (State::Closed, None));
    assert_eq!(end.poll_event(), None);
}

#[test]
fn end_without_fin_is_silent() {
    let now = epoch();
    let mut end = opened(libjingle(), now);
    end.write(b"x", now).unwrap();
    end.close(now);
    end.write(b"y", now).unwrap_err();
    assert_eq!(&sent(&mut end, now).1[..], b"x");
    assert_eq!(end.poll_event(), None);
    end.handle_segment(&segment(4, 5, 0, &[]), now);
    assert_eq!(end.poll_event(), Some(Event::Closed(None)));
    assert_eq!(end.poll_transmit(now, 64), None);
}

#[test]
fn abort_is_a_reset_with_the_next_sequence_number() {
    let now = epoch();
    let mut end = opened(libnice(), now);
    end.write(b"abc", now).unwrap();
    sent(&mut end, now);
    end.abort(now);
    let (header, payload) = sent(&mut end, now);
    assert_eq!((header.flags, header.sequence), (FLAG_RST, 7));
    assert!(payload.is_empty());
    assert_eq!(end.poll_timeout(), None);
    end.handle_segment(&segment(4, 4, 0, b"more"), now);
    assert_eq!(sent(&mut end, now).0.flags, FLAG_RST, "the first was lost");
}

#[test]
fn other_conversations_are_not_ours() {
    let now = epoch();
    let config = Config {
        conversation: 0x8000_0001,
        ..libjingle()
    };
    let mut end = PseudoTcp::new(config, now);
    end.handle_segment(&segment(0, 0, FLAG_CTL, &[0, 3, 1, 0]), now);
    assert_eq!(end.state(), State::Listen);
    assert_eq!(end.stats().segments_refused, 1);
    end.connect(now).unwrap();
    assert_eq!(sent(&mut end, now).0.conversation, 0x8000_0001);
}

#[test]
fn space_is_told_when_the_application_reads() {
    let now = epoch();
    let mut end = opened(libjingle(), now);
    let mut sequence = 4;
    while end.received() < 60 * 1024 {
        end.handle_segment(&segment(sequence, 4, 0, &[1; 1024]), now);
        sequence += 1024;
        while end.poll_transmit(now, 64).is_some() {}
    }
    end.handle_segment(&segment(sequence, 4, 0, b"more"), now);
    assert_eq!(sent(&mut end, now).0.window, 0);
    end.read(now).unwrap();
    while end.read(now).is_some() {}
    assert_eq!(sent(&mut end, now).0.window, 0xf000);
}
