//! Segments that no honest peer sends.

use super::network::{Link, Random, World, pattern};
use crate::pseudotcp::{
    Config, Error, Event, PseudoTcp, State, fuzz,
    inbox::MAX_RUNS,
    wire::{FLAG_CTL, FLAG_FIN, FLAG_RST, FLAG_SACK, HEADER, Header},
};
use bytes::Bytes;
use proptest::prelude::*;
use session_core::testing::epoch;
use std::time::{Duration, Instant};

fn header(sequence: u32, acknowledged: u32, flags: u8) -> Header {
    Header {
        conversation: 0,
        sequence,
        acknowledged,
        flags,
        window: 0xffff,
        tsval: 1,
        tsecr: 0,
    }
}

fn segment(sequence: u32, acknowledged: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    [&header(sequence, acknowledged, flags).encode(), payload].concat()
}

/// An open end whose peer is at 11 and which is at 11 itself, with all options.
fn opened(now: Instant) -> PseudoTcp {
    let mut end = PseudoTcp::new(Config::default(), now);
    let call = [0, 3, 1, 14, 254, 1, 0, 253, 2, b'S', b'K'];
    end.handle_segment(&segment(0, 0, FLAG_CTL, &call), now);
    end.poll_transmit(now, 1).unwrap();
    end.handle_segment(&segment(11, 11, 0, &[]), now);
    assert_eq!(end.poll_event(), Some(Event::Open));
    end
}

fn drain(end: &mut PseudoTcp, now: Instant) -> usize {
    std::iter::from_fn(|| end.poll_transmit(now, 64)).count()
}

#[test]
fn short_segments_are_refused() {
    let now = epoch();
    let mut end = opened(now);
    for length in 0..24 {
        end.handle_segment(&segment(11, 11, 0, &[])[..length], now);
        end.handle_batch(Bytes::from(vec![0; length]), length, now);
    }
    end.handle_batch(Bytes::new(), 0, now);
    assert_eq!(end.stats().segments_refused, 47);
    assert_eq!(end.poll_transmit(now, 64), None);
}

#[test]
fn a_connect_that_opens_by_being_repeated_acknowledges_ours() {
    let mut now = epoch();
    let mut end = PseudoTcp::new(Config::default(), now);
    end.connect(now).unwrap();
    let ours = end.poll_transmit(now, 1).unwrap().payload.len() - HEADER;
    let call = [0, 3, 1, 14, 254, 1, 0, 253, 2, b'S', b'K'];
    end.handle_segment(&segment(0, 0, FLAG_CTL, &call), now);
    assert_eq!(end.state(), State::SynReceived, "both called at once");
    end.poll_transmit(now, 1).unwrap();
    end.handle_segment(&segment(0, ours as u32, FLAG_CTL, &call), now);
    assert_eq!(end.state(), State::Established);
    end.write(b"data", now).unwrap();
    for _ in 0..5 {
        while let Some(batch) = end.poll_transmit(now, 64) {
            let header = Header::decode(&batch.payload).unwrap();
            assert!(
                header.sequence >= ours as u32,
                "the CONNECT has arrived: {header:?}"
            );
        }
        now = end.poll_timeout().unwrap();
        end.handle_timeout(now);
    }
}

#[test]
fn reset_must_lie_in_the_window() {
    let now = epoch();
    let window = 4 << 20;
    for (sequence, acknowledged, believed) in [
        (11, 11, true),
        (11 + window, 11, true),
        (12 + window, 11, false),
        (10, 11, false),
        (0x8000_0000, 11, false),
        (11, 12, false),
        (11, 0x8000_0000, false),
    ] {
        let mut end = opened(now);
        end.handle_segment(&segment(sequence, acknowledged, FLAG_RST, &[]), now);
        let expected = believed.then_some(Event::Closed(Some(Error::Reset)));
        assert_eq!(end.poll_event(), expected, "{sequence} {acknowledged}");
        assert_eq!(end.state() == State::Closed, believed);
    }
}

#[test]
fn reset_of_a_call_must_acknowledge_it() {
    let now = epoch();
    let mut end = PseudoTcp::new(Config::default(), now);
    end.connect(now).unwrap();
    let call = end.poll_transmit(now, 1).unwrap().payload.len() as u32 - 24;
    end.handle_segment(&segment(0, 0, FLAG_RST, &[]), now);
    assert_eq!(end.state(), State::SynSent);
    end.handle_segment(&segment(0, call, FLAG_RST, &[]), now);
    assert_eq!(end.error(), Some(Error::Reset));
}

#[test]
fn reset_after_everything_arrived_is_no_error() {
    let now = epoch();
    let mut end = opened(now);
    end.handle_segment(&segment(11, 11, FLAG_FIN, &[]), now);
    end.close(now);
    drain(&mut end, now);
    end.handle_segment(&segment(12, 11, FLAG_RST, &[]), now);
    assert_eq!(end.error(), None, "a peer that went without our last FIN");
    assert_eq!(end.state(), State::Closed);
}

#[test]
fn acknowledgement_of_what_was_never_sent_is_refused() {
    let now = epoch();
    let mut end = opened(now);
    end.write(&[1; 5000], now).unwrap();
    drain(&mut end, now);
    end.handle_segment(&segment(11, 11 + 5001, 0, &[]), now);
    assert_eq!(end.unacknowledged(), 5000);
    end.handle_segment(&segment(11, 11 + 5000, 0, &[]), now);
    assert_eq!(end.unacknowledged(), 0);
}

#[test]
fn data_outside_of_the_window_is_refused_with_an_answer() {
    let now = epoch();
    let mut end = opened(now);
    let window = 4 << 20;
    end.handle_segment(&segment(12 + window, 11, 0, b"far"), now);
    assert_eq!(end.received(), 0);
    assert_eq!(drain(&mut end, now), 1);
    end.handle_segment(&segment(11 + window - 1, 11, 0, b"edge"), now);
    assert_eq!(end.received(), 1, "what fits into the window");
}

#[test]
fn window_is_all_that_is_held() {
    let now = epoch();
    let mut end = opened(now);
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let at = 11 + random.below(5 << 20) as u32;
        let size = random.below(1400) as usize;
        end.handle_segment(&segment(at, 11, 0, &vec![3; size]), now);
        while end.poll_transmit(now, 64).is_some() {}
    }
    assert!(end.received() <= 4 << 20);
    assert!(end.inbox.blocks(usize::MAX).len() <= MAX_RUNS);
}

#[test]
fn selective_acknowledgements_of_nonsense_lose_nothing() {
    let now = epoch();
    let mut end = opened(now);
    let mss = end.mss();
    end.write(&pattern(mss * 6, 1), now).unwrap();
    drain(&mut end, now);
    let mut random = Random::new(3);
    for _ in 0..5000 {
        let blocks: Vec<u8> = (0..64)
            .flat_map(|_| ((random.next() as u32) % 20_000).to_be_bytes())
            .collect();
        end.handle_segment(&segment(11, 11, FLAG_SACK, &blocks), now);
        drain(&mut end, now);
    }
    // It claimed that all arrived, and now asks for it: a timeout makes us believe the cumulative number again.
    for round in 0..100 {
        let Some(at) = end.poll_timeout() else { break };
        end.handle_timeout(at);
        while let Some(batch) = end.poll_transmit(at, 64) {
            for segment in batch {
                let got = Header::decode(&segment).unwrap();
                let expected = 11 + end.flight.una() as u32 - 11;
                if got.sequence == expected && segment.len() > 24 {
                    let upto = got.sequence + segment.len() as u32 - 24;
                    end.handle_segment(&header(11, upto, 0).encode(), at);
                }
            }
        }
        assert!(round < 99, "stuck");
    }
    assert_eq!(end.unacknowledged(), 0);
}

#[test]
fn fin_and_options_that_were_not_agreed_are_ignored() {
    let now = epoch();
    let mut end = PseudoTcp::new(Config::default(), now);
    end.handle_segment(&segment(0, 0, FLAG_CTL, &[0]), now);
    end.poll_transmit(now, 1).unwrap();
    end.handle_segment(&segment(1, 1, FLAG_FIN | FLAG_SACK, b"data"), now);
    assert!(!end.has_fin() && !end.has_sack());
    assert_eq!(end.poll_event(), Some(Event::Open));
    assert_eq!(end.poll_event(), Some(Event::Readable));
    assert_eq!(end.poll_event(), None);
    assert_eq!(end.read(now).unwrap()[..], *b"data");
}

#[test]
fn unanswered_call_and_unanswered_data_end_with_an_error() {
    let mut now = epoch();
    let begun = now;
    let mut end = PseudoTcp::new(Config::default(), now);
    end.connect(now).unwrap();
    let mut calls = drain(&mut end, now);
    while let Some(at) = end.poll_timeout().filter(|_| calls < 100) {
        now = at;
        end.handle_timeout(now);
        calls += drain(&mut end, now);
    }
    assert_eq!(end.error(), Some(Error::ConnectTimedOut));
    assert_eq!(calls, 31);
    assert!(now - begun < Duration::from_secs(3 * 31));

    let mut end = opened(now);
    end.write(b"x", now).unwrap();
    drain(&mut end, now);
    let mut copies = 0;
    while let Some(at) = end.poll_timeout().filter(|_| copies < 100) {
        now = at;
        end.handle_timeout(now);
        copies += drain(&mut end, now);
    }
    assert_eq!(copies, 16, "a probe for the tail, and one for each timeout");
    assert_eq!(end.poll_event(), Some(Event::Closed(Some(Error::TimedOut))));
}

#[test]
fn closed_window_is_probed_until_nobody_answers() {
    let mut now = epoch();
    let mut end = opened(now);
    let mut shut = header(11, 11, 0);
    shut.window = 0;
    end.window_edge = end.flight.nxt();
    end.handle_segment(&shut.encode(), now);
    end.write(b"waiting", now).unwrap();
    assert_eq!(end.poll_transmit(now, 64), None);
    for _ in 0..100 {
        now = end.poll_timeout().unwrap();
        end.handle_timeout(now);
        let probe = end.poll_transmit(now, 64).unwrap();
        assert_eq!(Header::decode(&probe.payload).unwrap().sequence, 10);
        end.handle_segment(&shut.encode(), now);
    }
    let mut probes = 0;
    while let Some(at) = end.poll_timeout().filter(|_| probes < 100) {
        end.handle_timeout(at);
        probes += drain(&mut end, at);
    }
    assert_eq!((probes, end.error()), (15, Some(Error::TimedOut)));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(data in prop::collection::vec(any::<u8>(), 0..3000)) {
        fuzz::fuzz_segments(&data);
    }

    /// A stranger who can write to the path but not read it does not change a single byte.
    #[test]
    fn blind_forgeries_do_not_matter(seed in any::<u64>(), count in 1..400usize) {
        let link = Link { loss: 10, ..Link::default() };
        let mut world = World::new([Config::default(), Config::default()], [link, link], seed);
        world.apps[0].data = pattern(200_000, seed);
        world.apps[1].data = pattern(50_000, !seed);
        world.apps.iter_mut().for_each(|app| app.close = true);
        let mut random = Random::new(seed);
        for _ in 0..count {
            let forged = segment(
                random.next() as u32 | 1 << 30,
                random.next() as u32 | 1 << 30,
                random.next() as u8 & 0x0d,
                &vec![0xee; random.below(100) as usize],
            );
            let at = world.now + Duration::from_micros(random.below(200_000) + 30_000);
            world.inject(random.below(2) as usize, forged.into(), at);
        }
        prop_assert!(world.run(Duration::from_secs(300), |_| false));
        for end in 0..2 {
            prop_assert_eq!(world.apps[end].closed, Some(None));
            prop_assert!(world.apps[end].received == world.apps[1 - end].data);
        }
    }
}
