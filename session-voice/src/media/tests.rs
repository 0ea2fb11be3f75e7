#![allow(clippy::wildcard_enum_match_arm)]

use super::*;
use crate::{Rtcp, RtcpPacket, RtpPacket, SrtpProfile, is_rtcp};
use proptest::prelude::*;
use session_core::testing::epoch;

const FRAME: Duration = Duration::from_millis(20);

fn key(profile: SrtpProfile, byte: u8) -> SrtpMaster {
    SrtpMaster::new(
        profile,
        &vec![byte; profile.key_bytes()],
        &vec![byte; profile.salt_bytes()],
    )
    .unwrap()
}

fn pair(now: Instant) -> [MediaStream; 2] {
    seeded(now, |ours| [ours; 16])
}

fn seeded(now: Instant, seed: fn(u8) -> [u8; 16]) -> [MediaStream; 2] {
    let config = MediaConfig {
        digits: Some(101),
        metrics: true,
        redundancy: Redundancy::Next,
        ..MediaConfig::new(111, 48_000, "name")
    };
    [(1, 2), (2, 1)].map(|(ours, theirs)| {
        let profile = SrtpProfile::Aes128CmSha1_80;
        let protection = Protection::Srtp {
            ours: key(profile, ours),
            theirs: key(profile, theirs),
        };
        MediaStream::new(config.clone(), protection, seed(ours), now)
    })
}

/// Both talk for so many frames, over a way of this length that loses every `lose`th packet.
struct Talk {
    streams: [MediaStream; 2],
    now: Instant,
    way: Vec<(Instant, usize, MediaOutput)>,
    heard: [u32; 2],
    silent: [u32; 2],
    events: [Vec<MediaEvent>; 2],
    sent: u32,
    lose: u32,
}

impl Talk {
    fn new() -> Self {
        Self {
            streams: pair(epoch()),
            now: epoch(),
            way: Vec::new(),
            heard: [0; 2],
            silent: [0; 2],
            events: [vec![], vec![]],
            sent: 0,
            lose: u32::MAX,
        }
    }

    /// Alice has pressed these keys so long ago.
    fn press(&mut self, keys: &str, ago: Duration) {
        for key in keys.chars() {
            let digit = Digit::new(key).unwrap();
            self.streams[0].press(digit, self.now - ago).unwrap();
        }
    }

    /// What one side has heard of digits.
    fn digits(&self, side: usize) -> String {
        let digit = |event: &MediaEvent| match event {
            MediaEvent::Digit(digit) => digit.key(),
            other => panic!("{other:?}"),
        };
        self.events[side].iter().map(digit).collect()
    }

    /// Other keys for both, as after another transport took over. What is on its way is lost.
    fn rekey(&mut self, renumbers: bool) {
        let profile = SrtpProfile::Aes128CmSha1_80;
        for (stream, [ours, theirs]) in self.streams.iter_mut().zip([[7, 8], [8, 7]]) {
            let sequence = stream.sending.sequence;
            stream.set_protection(&Protection::Srtp {
                ours: key(profile, ours),
                theirs: key(profile, theirs),
            });
            if !renumbers {
                stream.sending.sequence = sequence;
            }
        }
        self.way.clear();
    }

    fn run(&mut self, frames: u32) {
        for _ in 0..frames {
            for side in 0..2 {
                let stream = &mut self.streams[side];
                let packet = stream.send_frame(b"a frame of sound", FRAME, self.now);
                let mut out: Vec<_> = packet.map(MediaOutput::Rtp).into_iter().collect();
                if stream.poll_timeout().is_some_and(|at| at <= self.now) {
                    stream.handle_timeout(self.now);
                }
                out.extend(std::iter::from_fn(|| stream.poll_output()));
                for output in out {
                    self.sent += 1;
                    if !self.sent.is_multiple_of(self.lose) {
                        self.way
                            .push((self.now + Duration::from_millis(30), 1 - side, output));
                    }
                }
            }
            self.now += FRAME;
            let due: Vec<_> = self
                .way
                .extract_if(.., |(at, _, _)| *at <= self.now)
                .collect();
            for (at, side, output) in due {
                let stream = &mut self.streams[side];
                let event = match output {
                    MediaOutput::Rtp(packet) => stream.handle_rtp(packet, at).unwrap(),
                    MediaOutput::Rtcp(packet) => {
                        assert!(is_rtcp(&packet));
                        stream.handle_rtcp(packet, at).unwrap()
                    }
                };
                self.events[side].extend(event);
            }
            for side in 0..2 {
                match self.streams[side].pull(self.now).0 {
                    Playout::Packet(_) | Playout::Recover { distance: 1, .. } => {
                        self.heard[side] += 1
                    }
                    _ => self.silent[side] += 1,
                }
            }
        }
    }
}

#[test]
fn both_hear_each_other_and_know_how_it_goes() {
    let mut talk = Talk::new();
    talk.run(1_000);
    for side in 0..2 {
        assert!(talk.heard[side] > 990, "{:?}", talk.heard);
        let stats = talk.streams[side].stats(talk.now);
        assert_eq!(
            (stats.loss_here, stats.loss_there, stats.refused),
            (0.0, Some(0.0), 0)
        );
        let rtt = stats.round_trip.unwrap();
        assert!(
            rtt.abs_diff(Duration::from_millis(60)) < Duration::from_millis(2),
            "{rtt:?}"
        );
        assert!(stats.quality.unwrap().mos > 4.3, "{stats:?}");
        assert!(stats.jitter < Duration::from_millis(1));
    }
}

#[test]
fn loss_is_heard_of_on_both_sides_and_hidden() {
    let mut talk = Talk::new();
    // Odd, so that both lose.
    talk.lose = 21;
    talk.run(2_000);
    for side in 0..2 {
        let stats = talk.streams[side].stats(talk.now);
        let loss = stats.loss_there.unwrap();
        assert!((0.02..0.08).contains(&loss), "{loss}");
        assert!(stats.loss_here < 0.02, "copies hide it: {stats:?}");
        assert!(talk.heard[side] > 1_950);
    }
}

#[test]
fn digits_take_the_place_of_sound_and_arrive_once() {
    // Pressed at any moment within a frame, and with losses.
    for (ago, lose) in [
        (0, u32::MAX),
        (3, u32::MAX),
        (13, u32::MAX),
        (19, u32::MAX),
        (0, 7),
    ] {
        let mut talk = Talk::new();
        talk.run(50);
        talk.lose = lose;
        talk.press("42#", Duration::from_millis(ago));
        talk.run(400);
        assert_eq!(talk.digits(1), "42#");
        assert!(talk.events[0].is_empty());
        let stats = talk.streams[1].stats(talk.now);
        if lose == u32::MAX {
            let JitterStats {
                concealed,
                recovered,
                late,
                ..
            } = stats.playout;
            let made_up = (concealed, recovered, late, stats.loss_here);
            assert_eq!(made_up, (0, 0, 0, 0.0), "{ago} ms");
            // All that was sent is counted, and comes.
            let on_its_way = talk.way.iter().filter(|(_, side, _)| *side == 1);
            let sent = talk.streams[0].stats(talk.now).sent.0;
            assert_eq!(sent, stats.received + on_its_way.count() as u64);
            // All that was said is heard to its end.
            let waiting = stats.playout.received - stats.playout.played;
            assert!(waiting <= 3, "{ago} ms: {stats:?}");
        } else {
            // Those of sound are made up for, and count.
            let missed = stats.playout.concealed + stats.playout.recovered;
            assert!((30..80).contains(&missed), "{stats:?}");
        }
    }
    // The other way there are none to press.
    let now = epoch();
    let mut stream = MediaStream::new(
        MediaConfig::new(0, 8_000, "x"),
        Protection::Plain,
        [1; 16],
        now,
    );
    assert!(stream.press(Digit::new('1').unwrap(), now).is_err());
}

#[test]
fn the_end_is_told() {
    let mut talk = Talk::new();
    talk.run(10);
    let last = talk.streams[0].goodbye("hung up", talk.now).unwrap();
    assert_eq!(
        talk.streams[1].handle_rtcp(last, talk.now),
        Ok(Some(MediaEvent::Goodbye))
    );
}

#[test]
fn what_is_not_the_peers_changes_nothing() {
    let mut talk = Talk::new();
    talk.run(100);
    let now = talk.now;
    let before = talk.streams[1].stats(now);
    let genuine = talk.streams[0].send_frame(b"sound", FRAME, now).unwrap();
    let mut forged = BytesMut::from(&genuine[..]);
    forged[15] ^= 1;
    let bob = &mut talk.streams[1];
    assert_eq!(
        bob.handle_rtp(forged.freeze(), now),
        Err(MediaError::Srtp(SrtpError::Forged))
    );
    assert_eq!(bob.handle_rtp(genuine.clone(), now), Ok(None));
    assert_eq!(
        bob.handle_rtp(genuine, now),
        Err(MediaError::Srtp(SrtpError::Replayed))
    );
    // His own packet, sent back: its keys are the other direction's.
    let own = bob.send_frame(b"mine", FRAME, now).unwrap();
    assert_eq!(
        bob.handle_rtp(own, now),
        Err(MediaError::Srtp(SrtpError::Forged))
    );
    assert_eq!(
        bob.handle_rtcp(Bytes::from_static(&[0x80, 201, 0, 1, 0, 0, 0, 1]), now),
        Err(MediaError::Srtp(SrtpError::Truncated))
    );
    let after = bob.stats(now);
    assert_eq!((after.received, after.refused), (before.received + 1, 4));
}

#[test]
fn in_clear_our_own_packets_make_us_take_another_name() {
    let now = epoch();
    let mut stream = MediaStream::new(
        MediaConfig::new(0, 8_000, "x"),
        Protection::Plain,
        [1; 16],
        now,
    );
    let own = stream.send_frame(b"mine", FRAME, now).unwrap();
    let before = stream.ssrc();
    assert_eq!(stream.handle_rtp(own, now), Err(MediaError::Looped));
    assert_ne!(stream.ssrc(), before);
    assert!(matches!(stream.poll_output(), Some(MediaOutput::Rtcp(_))));
    let wrong = stream.handle_rtp(
        Bytes::from_static(&[0x80, 96, 0, 1, 0, 0, 0, 1, 0, 0, 0, 2]),
        now,
    );
    assert_eq!(wrong, Err(MediaError::PayloadType(96)));
}

/// Reports count what was sent under our name (RFC 3550 §6.4.1), with digits and noise; what we count ourselves, all of it.
#[test]
fn reports_count_what_was_sent_under_their_name() {
    let mut now = epoch();
    let config = MediaConfig {
        digits: Some(101),
        noise: Some(13),
        ..MediaConfig::new(0, 8_000, "x")
    };
    let mut stream = MediaStream::new(config, Protection::Plain, [1; 16], now);
    let last_report = |stream: &mut MediaStream, now| {
        stream.handle_timeout(now);
        let mut counts = None;
        while let Some(output) = stream.poll_output() {
            let MediaOutput::Rtcp(report) = output else {
                continue;
            };
            for part in Rtcp::new(&report).flatten() {
                if let RtcpPacket::SenderReport { packets, bytes, .. } = part {
                    counts = Some((u64::from(packets), u64::from(bytes)));
                }
            }
        }
        counts
    };
    let own = stream.send_frame(b"sound", FRAME, now).unwrap();
    stream.send_noise(b"no", now).unwrap();
    stream.press(Digit::new('1').unwrap(), now).unwrap();
    for _ in 0..=10 {
        stream.handle_timeout(now);
        now += FRAME;
    }
    now += Duration::from_secs(8);
    assert_eq!(last_report(&mut stream, now), Some((2 + 11, 7 + 11 * 4)));
    assert_eq!(stream.stats(now).sent, (2 + 11, 7 + 11 * 4));
    assert_eq!(stream.handle_rtp(own, now), Err(MediaError::Looped));
    // That of the name we leave.
    assert_eq!(last_report(&mut stream, now), Some((2 + 11, 7 + 11 * 4)));
    stream.send_frame(b"sound", FRAME, now).unwrap();
    now += Duration::from_secs(8);
    assert_eq!(last_report(&mut stream, now), Some((1, 5)));
    assert_eq!(stream.stats(now).sent, (2 + 11 + 1, 7 + 11 * 4 + 5));
}

#[test]
fn another_source_begins_anew() {
    let now = epoch();
    let stream = |seed| {
        MediaStream::new(
            MediaConfig::new(0, 8_000, "x"),
            Protection::Plain,
            [seed; 16],
            now,
        )
    };
    let (mut bob, mut one, mut two) = (stream(9), stream(1), stream(2));
    assert_eq!(
        bob.handle_rtp(one.send_frame(b"1", FRAME, now).unwrap(), now),
        Ok(None)
    );
    assert_eq!(
        bob.handle_rtp(two.send_frame(b"2", FRAME, now).unwrap(), now),
        Ok(Some(MediaEvent::SourceChanged))
    );
    assert_eq!(
        bob.pull(now + 3 * FRAME).0,
        Playout::Packet(Bytes::from_static(b"2"))
    );
}

#[test]
fn silence_is_skipped_and_marked() {
    let now = epoch();
    let mut stream = MediaStream::new(
        MediaConfig::new(0, 8_000, "x"),
        Protection::Plain,
        [1; 16],
        now,
    );
    let send = |stream: &mut MediaStream| {
        let packet = stream.send_frame(b"x", FRAME, now).unwrap();
        let rtp = RtpPacket::parse(&packet).unwrap();
        (rtp.marker(), rtp.timestamp())
    };
    let first = send(&mut stream);
    assert!(first.0);
    assert_eq!(send(&mut stream), (false, first.1.wrapping_add(160)));
    stream.skip(Duration::from_millis(100));
    assert_eq!(
        send(&mut stream),
        (true, first.1.wrapping_add(160 + 160 + 800))
    );
}

proptest! {
    /// Garbage, before anything and in the middle: counted, bounded, and the call goes on.
    #[test]
    fn garbage_is_counted(packets in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..80)), 0..60)) {
        let mut talk = Talk::new();
        talk.run(10);
        let now = talk.now;
        let count = packets.len() as u64;
        for (rtp, packet) in packets {
            let bob = &mut talk.streams[1];
            let refused = if rtp { bob.handle_rtp(packet.into(), now) } else { bob.handle_rtcp(packet.into(), now) };
            prop_assert!(refused.is_err());
        }
        prop_assert_eq!(talk.streams[1].stats(now).refused, count);
        talk.run(100);
        prop_assert!(talk.heard[1] > 95);
    }
}

/// One memory for all streams: the same packets, and none is asked for once it is there.
#[test]
fn streams_share_the_memory_of_what_they_send() {
    let mut now = epoch();
    let (mut own, mut sharing) = (pair(now), pair(now));
    let mut room = BytesMut::new();
    let mut round = |number: u8| {
        now += FRAME;
        for (own, sharing) in own.iter_mut().zip(&mut sharing) {
            if number == 3 {
                // What was there is nobody's packet.
                room.extend_from_slice(b"left");
            }
            let payload = [number; 80];
            let expected = own.send_frame(&payload, FRAME, now).unwrap();
            let packet = sharing.send_frame_in(&mut room, &payload, FRAME, now);
            assert_eq!(packet.as_ref(), Some(&expected));
        }
    };
    (0..10).for_each(&mut round);
    let count = allocation_counter::measure(|| (10..200).for_each(&mut round));
    assert_eq!(count.count_total, 0);
}

/// Without rtcp-mux, RTCP shakes hands for itself (RFC 5764 §5).
#[test]
fn reports_have_keys_of_their_own_where_they_have_a_channel_of_their_own() {
    let control = |ours, theirs| Protection::Srtp {
        ours: key(SrtpProfile::Aes128CmSha1_80, ours),
        theirs: key(SrtpProfile::Aes128CmSha1_80, theirs),
    };
    let mut talk = Talk::new();
    talk.streams[0].set_control_protection(&control(3, 4));
    talk.streams[1].set_control_protection(&control(4, 3));
    talk.run(1_000);
    for stream in &talk.streams {
        let stats = stream.stats(talk.now);
        assert!(
            stats.round_trip.is_some() && stats.refused == 0,
            "{stats:?}"
        );
    }
    // They are what protects them.
    let mut report = None;
    while report.is_none() {
        talk.now += FRAME;
        talk.streams[0].handle_timeout(talk.now);
        report = talk.streams[0].poll_output();
    }
    let Some(MediaOutput::Rtcp(report)) = report else {
        panic!("a report")
    };
    talk.streams[1].control = None;
    let refused = talk.streams[1].handle_rtcp(report, talk.now);
    assert_eq!(refused, Err(MediaError::Srtp(SrtpError::Forged)));
}

/// A key that has counted must not count again from the beginning: what it makes would be another packet's.
#[test]
fn the_same_keys_again_change_nothing() {
    let mut streams = pair(epoch());
    let mut now = epoch();
    let profile = SrtpProfile::Aes128CmSha1_80;
    let same = |ours, theirs| Protection::Srtp {
        ours: key(profile, ours),
        theirs: key(profile, theirs),
    };
    for number in 0..2 * u32::from(u16::MAX) {
        now += FRAME;
        let packet = streams[0].send_frame(b"sound", FRAME, now).unwrap();
        streams[1].handle_rtp(packet.clone(), now).unwrap();
        if number.is_multiple_of(10_000) {
            streams[0].set_protection(&same(1, 2));
            streams[1].set_protection(&same(2, 1));
            // It was heard, and is not taken again.
            assert!(streams[1].handle_rtp(packet, now).is_err());
        }
    }
    let packet = streams[0].send_frame(b"sound", FRAME, now).unwrap();
    assert!(streams[1].handle_rtp(packet, now).is_ok());
    // Others do count anew.
    streams[0].set_protection(&same(7, 8));
    streams[1].set_protection(&same(8, 7));
    let packet = streams[0].send_frame(b"sound", FRAME, now).unwrap();
    assert!(streams[1].handle_rtp(packet, now).is_ok());
}

/// Under other keys numbers begin anew, or go on: neither is a loss, and a loss is told as before.
#[test]
fn loss_is_known_after_another_transport_took_over() {
    for renumbers in [true, false] {
        let mut talk = Talk::new();
        // The half of the numbers in which none begins is reached before, or after.
        for last in [0x7F_u8, 0x7C] {
            talk.streams = match last {
                0x7F => seeded(talk.now, |ours| numbered(ours, 0x7F)),
                _ => seeded(talk.now, |ours| numbered(ours, 0x7C)),
            };
            talk.run(500);
            talk.rekey(renumbers);
            for _ in 0..12 {
                talk.run(50);
                for stream in &talk.streams {
                    let stats = stream.stats(talk.now);
                    assert_eq!(stats.loss_there, Some(0.0), "{renumbers}, {last}");
                    assert!(stats.burst_there.is_none_or(|burst| burst == 0.0));
                }
            }
            talk.lose = 21;
            talk.run(1_000);
            talk.lose = u32::MAX;
            for stream in &talk.streams {
                let stats = stream.stats(talk.now);
                let loss = stats.loss_there.unwrap();
                assert!((0.02..0.08).contains(&loss), "{renumbers}, {last}: {loss}");
                let burst = stats.burst_there.unwrap();
                assert!((0.9..1.5).contains(&burst), "{burst}");
            }
            talk = Talk::new();
        }
    }
}

/// A seed whose first number has this as its upper half.
fn numbered(ours: u8, upper: u8) -> [u8; 16] {
    let mut seed = [ours; 16];
    (seed[6], seed[7]) = (upper, 0);
    seed
}

/// What was counted of a source or a codec stays counted when another follows.
#[test]
fn counts_never_go_down() {
    let mut talk = Talk::new();
    talk.lose = 5;
    let mut before = JitterStats::default();
    for step in 0..4 {
        talk.run(200);
        match step {
            0 => talk.streams[0].sending.ssrc ^= 1,
            1 => {
                let config = talk.streams[1].config.clone();
                talk.streams[1].set_receive(&config);
            }
            _ => {}
        }
        let after = talk.streams[1].stats(talk.now).playout;
        for (before, after) in [
            (before.received, after.received),
            (before.played, after.played),
            (before.recovered, after.recovered),
            (before.missing.0, after.missing.0),
        ] {
            assert!(after > before, "{step}: {before:?}, then {after:?}");
        }
        assert!(after.concealed >= before.concealed && after.late >= before.late);
        before = after;
    }
}

/// While nothing is spoken the time of reports goes on as the frames' does (RFC 3550 §6.4.1).
#[test]
fn reports_name_the_time_of_their_timestamp_in_a_pause_too() {
    let mut stream = MediaStream::new(
        MediaConfig::new(111, 48_000, "name"),
        Protection::Plain,
        [1; 16],
        epoch(),
    );
    let (mut now, mut named) = (epoch(), Vec::new());
    for number in 0..3_000 {
        now += FRAME;
        if number < 500 {
            stream.send_frame(b"sound", FRAME, now);
        } else {
            stream.skip(FRAME);
        }
        if stream.poll_timeout().is_some_and(|at| at <= now) {
            stream.handle_timeout(now);
        }
        while let Some(MediaOutput::Rtcp(report)) = stream.poll_output() {
            for part in Rtcp::new(&report).flatten() {
                if let RtcpPacket::SenderReport { ntp, rtp, .. } = part {
                    named.push((ntp as f64 / f64::from(u32::MAX), rtp));
                }
            }
        }
    }
    let first = named[0];
    assert!(named.len() > 8);
    for (ntp, rtp) in named {
        let by_stamp = f64::from(rtp.wrapping_sub(first.1)) / 48_000.0;
        let apart = (ntp - first.0 - by_stamp).abs();
        assert!(apart < 0.03, "{apart} s");
    }
}
