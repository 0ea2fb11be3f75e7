//! What somebody without the keys can do to a call: nothing that is heard, and nothing that ends it.
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    dead_code,
    unreachable_pub,
    reason = "a test that cannot go on fails, and names only what it looks for"
)]

mod scene;

use bytes::Bytes;
use scene::{ALICE, BOB, Client, Scene};
use session_core::testing::{Envelope, Parcel, Tapped};
use session_core::{Element, Secured};
use session_voice::{
    Call, CallPhase, CallVerdict, Digit, EngineConfig, MediaError, MediaEvent, MediaOutput,
    PayloadType, Protection, SrtpMaster, SrtpProfile, VoiceEngine,
};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use transport_p2p::{dtls::Versions, ice::ICE_UDP};

const SECOND: Duration = Duration::from_secs(1);

fn key(byte: u8) -> SrtpMaster {
    SrtpMaster::new(SrtpProfile::AeadAes128Gcm, &[byte; 16], &[byte; 12]).unwrap()
}

fn keys(ours: u8, theirs: u8) -> Protection {
    let (ours, theirs) = (key(ours), key(theirs));
    Protection::Srtp { ours, theirs }
}

fn engine(protection: Protection, seed: u8, now: Instant) -> VoiceEngine {
    let agreed = vec![
        PayloadType::of_id(0).unwrap(),
        PayloadType::new(101, "telephone-event", 8_000),
    ];
    let config = EngineConfig::new(agreed, "name");
    VoiceEngine::new(&config, protection, [seed; 16], now).unwrap()
}

/// What Alice sends in three seconds, with digits and reports, and when.
fn recording() -> Vec<(Duration, MediaOutput)> {
    let start = session_core::testing::epoch();
    let mut alice = engine(keys(1, 2), 1, start);
    let mut sent = Vec::new();
    for tick in 0..300_u32 {
        let time = Duration::from_millis(10) * tick;
        if tick == 100 {
            alice.press(Digit::new('5').unwrap(), start + time).unwrap();
        }
        let sound: Vec<f32> = (0..80)
            .map(|n| ((tick * 80 + n) as f32 * 0.3).sin() * 0.4)
            .collect();
        alice.record(&sound, start + time);
        if alice.poll_timeout().is_some_and(|at| at <= start + time) {
            alice.handle_timeout(start + time);
        }
        sent.extend(std::iter::from_fn(|| alice.poll_output()).map(|output| (time, output)));
    }
    let bye = alice.goodbye("over", start + 3 * SECOND).unwrap();
    sent.push((3 * SECOND, MediaOutput::Rtcp(bye)));
    sent
}

/// What Bob hears and learns of it, while `attack` sends him what it makes of each packet; and how many of those he refused.
fn heard(attack: impl Fn(usize, &MediaOutput) -> Vec<MediaOutput>) -> (Vec<f32>, String, u64) {
    let start = session_core::testing::epoch();
    let mut bob = engine(keys(2, 1), 2, start);
    let (mut heard, mut events) = (Vec::new(), String::new());
    let sent = recording();
    let (mut next, mut injected) = (0, 0);
    for tick in 0..320_u32 {
        let now = start + Duration::from_millis(10) * tick;
        while let Some((_, packet)) = sent.get(next).filter(|(at, _)| start + *at <= now) {
            let forged = attack(next, packet);
            injected += forged.len() as u64;
            for packet in forged {
                let result = take(&mut bob, packet, now);
                assert!(matches!(result, Err(MediaError::Srtp(_))), "{result:?}");
            }
            match take(&mut bob, packet.clone(), now).unwrap() {
                Some(MediaEvent::Digit(digit)) => events.push(digit.key()),
                Some(MediaEvent::Goodbye) => events.push('!'),
                Some(MediaEvent::SourceChanged) => events.push('?'),
                None => {}
            }
            next += 1;
        }
        let mut sound = [0.0; 80];
        bob.play(&mut sound, now);
        heard.extend(sound);
    }
    let refused = bob.stats(start + 4 * SECOND).media.refused;
    assert_eq!(refused, injected, "each is counted");
    (heard, events, refused)
}

fn take(
    bob: &mut VoiceEngine,
    packet: MediaOutput,
    now: Instant,
) -> Result<Option<MediaEvent>, MediaError> {
    match packet {
        MediaOutput::Rtp(packet) => bob.handle_rtp(Bytes::copy_from_slice(&packet), now),
        MediaOutput::Rtcp(packet) => bob.handle_rtcp(Bytes::copy_from_slice(&packet), now),
    }
}

fn with(packet: &MediaOutput, change: impl Fn(&mut Vec<u8>)) -> MediaOutput {
    let changed = |bytes: &Bytes| {
        let mut bytes = bytes.to_vec();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    match packet {
        MediaOutput::Rtp(bytes) => MediaOutput::Rtp(changed(bytes)),
        MediaOutput::Rtcp(bytes) => MediaOutput::Rtcp(changed(bytes)),
    }
}

fn length(packet: &MediaOutput) -> usize {
    let (MediaOutput::Rtp(bytes) | MediaOutput::Rtcp(bytes)) = packet;
    bytes.len()
}

#[test]
fn forged_cut_and_repeated_packets_are_not_heard() {
    let (untouched, events, _) = heard(|_, _| Vec::new());
    assert_eq!(events, "5!");
    assert!(untouched.iter().any(|s| s.abs() > 0.3));
    let sent: Vec<_> = recording().into_iter().map(|(_, packet)| packet).collect();
    let same = |attack: &dyn Fn(usize, &MediaOutput) -> Vec<MediaOutput>| {
        let (sound, events, refused) = heard(attack);
        assert!(sound == untouched, "the sound is another one");
        assert_eq!(events, "5!");
        assert!(refused > 150, "{refused}");
    };
    // Each bit of a byte that moves on through the packet, before the packet itself.
    same(&|number, packet| {
        let at = number * 7 % length(packet);
        (0..8)
            .map(|bit| with(packet, |bytes| bytes[at] ^= 1 << bit))
            .collect()
    });
    // Cut, and with something behind it.
    same(&|number, packet| {
        let whole = length(packet);
        let cut = with(packet, |bytes| bytes.truncate(number * 5 % whole));
        vec![cut, with(packet, |bytes| bytes.push(0))]
    });
    // All that came before, again, near and far.
    same(&|number, _| {
        let back = [1, 2, 17, 63, 64, 65, 120];
        let old = back
            .iter()
            .filter_map(|back| sent.get(number.checked_sub(*back)?));
        old.cloned().collect()
    });
    // By whoever has other keys, under Alice's name and with her numbers.
    same(&|number, packet| {
        let start = session_core::testing::epoch();
        let mut mallory = engine(keys(9, 9), 1, start);
        mallory.record(
            &[0.9; 160],
            start + Duration::from_millis(20) * number as u32,
        );
        let forged = std::iter::from_fn(|| mallory.poll_output());
        forged
            .chain([with(packet, |bytes| bytes[1..].reverse())])
            .collect()
    });
}

#[test]
fn packets_that_overtake_each_other_are_heard_once() {
    let start = session_core::testing::epoch();
    let mut bob = engine(keys(2, 1), 2, start);
    let mut sent: Vec<_> = recording()
        .into_iter()
        .filter(|(_, packet)| matches!(packet, MediaOutput::Rtp(_)))
        .map(|(_, packet)| packet)
        .collect();
    // Backwards in groups: all within what is remembered.
    sent.chunks_mut(16).for_each(<[_]>::reverse);
    for packet in &sent {
        take(&mut bob, packet.clone(), start).unwrap();
    }
    for packet in &sent {
        assert!(matches!(
            take(&mut bob, packet.clone(), start),
            Err(MediaError::Srtp(_))
        ));
    }
    // What is older than what is remembered is not taken, although it never came.
    let mut bob = engine(keys(2, 1), 2, start);
    for packet in sent.iter().skip(16) {
        take(&mut bob, packet.clone(), start).unwrap();
    }
    assert!(take(&mut bob, sent[0].clone(), start).is_err());
}

/// A million packets a second, for a tenth of one.
#[test]
fn a_flood_is_not_heard_and_does_not_grow() {
    let (untouched, ..) = heard(|_, _| Vec::new());
    let (sound, events, refused) = heard(|number, packet| {
        let garbage = |at: usize| {
            let seed = (number * 1_000 + at) as u32;
            with(packet, |bytes| {
                let mut state = seed | 1;
                for byte in &mut bytes[2..] {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    *byte = (state >> 24) as u8;
                }
            })
        };
        (0..600).map(garbage).collect()
    });
    assert!(refused > 90_000, "{refused}");
    assert!(sound == untouched && events == "5!");
}

/// Whoever finds the port of a call sends it everything that he can think of.
#[test]
fn strangers_at_the_port_change_nothing() {
    let mut scene = Scene::new(&CallVerdict::Answer, None);
    scene.dial(&[ICE_UDP]);
    scene.talk(2 * SECOND);
    let since = scene.world.now();
    let heard_before = scene.line(BOB).heard.len();
    let (alice, bob) = (port(&scene, ALICE), port(&scene, BOB));
    let hello = [
        &[22, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0][..],
        &[0; 8],
    ]
    .concat();
    let sound = [&[0x80, 0, 0, 1, 0, 0, 0, 1, 9, 9, 9, 9][..], &[0x20; 160]].concat();
    let report = [&[0x80, 200, 0, 6][..], &[7; 24]].concat();
    let check = [&[0, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42][..], &[5; 12]].concat();
    let alert = vec![21, 0xFE, 0xFD, 0, 0, 0, 0, 0, 0, 0, 9, 0, 2, 2, 0];
    let stranger = SocketAddr::from(([203, 0, 113, 9], 4_000));
    for round in 0..200_u32 {
        for packet in [&hello, &sound, &report, &check, &alert] {
            // From anywhere, and as if it came from the peer.
            for (to, from) in [(bob, stranger), (bob, alice), (alice, bob)] {
                let mut packet = packet.clone();
                packet.rotate_left(usize::from(round % 50 == 49));
                let now = scene.world.now();
                scene.world.network().inject(to, from, packet.into(), now);
            }
        }
        scene.talk(Duration::from_millis(10));
    }
    scene.talk(SECOND);
    assert_undisturbed(&mut scene, since, heard_before);
}

/// Since then the call goes on without a gap, and Bob hears nothing but Alice's tone: as loud as it is, all the time.
fn assert_undisturbed(scene: &mut Scene, since: Instant, heard_before: usize) {
    for host in [ALICE, BOB] {
        let gap = scene.gap(host, since);
        assert!(gap <= Duration::from_millis(60), "{host}: {gap:?}");
        let phase = scene.call(host, |call| call.phase());
        assert_eq!(phase, Some(CallPhase::Answered));
    }
    let line = scene.line(BOB);
    for part in line.heard[heard_before..].chunks_exact(800) {
        let power = part.iter().map(|s| s * s).sum::<f32>() / 800.0;
        assert!((0.06..0.10).contains(&power), "{power}");
    }
}

/// Whoever has recorded a call and plays it into it again, as if it came from the peer: near, and after a while.
#[test]
fn what_was_recorded_in_a_call_is_not_heard_again() {
    let mut scene = Scene::new(&CallVerdict::Answer, None);
    scene.dial(&[ICE_UDP]);
    scene.talk(8 * SECOND);
    let since = scene.world.now();
    let ports = [ALICE, BOB].map(|host| port(&scene, host));
    let recorded = [ALICE, BOB].map(|host| scene.line(host).came.clone());
    let before = [ALICE, BOB].map(|host| scene.line(host).refused);
    let heard_before = scene.line(BOB).heard.len();
    for host in [ALICE, BOB] {
        let reports = recorded[host]
            .iter()
            .filter(|packet| session_voice::is_rtcp(packet));
        assert!(recorded[host].len() > 300 && reports.count() > 0);
        for packet in &recorded[host] {
            let now = scene.world.now();
            let network = scene.world.network();
            network.inject(ports[host], ports[1 - host], packet.clone(), now);
        }
    }
    scene.talk(3 * SECOND);
    for host in [ALICE, BOB] {
        let refused = scene.line(host).refused - before[host];
        assert_eq!(refused, recorded[host].len(), "{host}: each is refused");
    }
    assert_undisturbed(&mut scene, since, heard_before);
}

/// The handshake of a call: what came of it by DTLS, to whom.
fn handshake(scene: &mut Scene) -> Vec<(usize, Bytes)> {
    let tapped = scene.world.network().tapped();
    let is_dtls = |packet: &Tapped| (20..64).contains(&packet.payload[0]);
    let to = |packet: &Tapped| usize::from(packet.destination.ip() == scene::address(BOB, 1));
    let records = tapped.iter().filter(|packet| is_dtls(packet));
    records
        .map(|packet| (to(packet), packet.payload.clone()))
        .collect()
}

impl Scene {
    /// A call whose handshake is on record, of which three seconds have passed.
    fn recorded_call(&mut self) -> Vec<(usize, Bytes)> {
        self.world.network().set_tapped(true);
        self.dial(&[ICE_UDP]);
        self.talk(3 * SECOND);
        let records = handshake(self);
        for host in [ALICE, BOB] {
            let count = records.iter().filter(|(to, _)| *to == host).count();
            assert!(count > 0, "{records:?}");
        }
        records
    }

    /// As if it came from the peer.
    fn replay(&mut self, ports: [SocketAddr; 2], to: usize, packet: Bytes) {
        let now = self.world.now();
        let network = self.world.network();
        network.inject(ports[to], ports[1 - to], packet, now);
    }

    /// All of it, spoilt and whole, played into the call that runs: nothing comes of it.
    fn withstand(&mut self, records: &[(usize, Bytes)]) {
        let (since, secrets) = (self.world.now(), self.secrets());
        let heard_before = self.line(BOB).heard.len();
        let ports = [ALICE, BOB].map(|host| port(self, host));
        for packets in spoilt(records).chunks(8) {
            for (to, packet) in packets {
                self.replay(ports, *to, packet.clone());
            }
            self.talk(Duration::from_millis(10));
        }
        self.talk(5 * SECOND);
        assert_undisturbed(self, since, heard_before);
        assert!(self.secrets() == secrets, "the keys stay");
    }

    fn secrets(&mut self) -> [(Option<Protection>, Option<Secured>); 2] {
        [ALICE, BOB].map(|host| {
            let secrets = |call: &Call| (call.protection(), call.secured().cloned());
            self.call(host, secrets).unwrap()
        })
    }

    fn hang_up(&mut self) {
        let id = self.sessions[ALICE].unwrap();
        self.world.update(ALICE, |manager, now| {
            Client::release(manager, id, now).unwrap();
        });
        self.talk(SECOND);
        let id = self.sessions[BOB].unwrap();
        self.world.update(BOB, |manager, now| {
            Client::release(manager, id, now).unwrap();
        });
        for host in [ALICE, BOB] {
            self.sessions[host] = None;
            *self.line(host) = scene::Line::default();
        }
    }
}

/// Whole, cut, with an error in it, and in the opposite order, all of it and more than once.
fn spoilt(records: &[(usize, Bytes)]) -> Vec<(usize, Bytes)> {
    let mut spoilt = records.to_vec();
    spoilt.extend(records.iter().rev().cloned());
    for (number, (to, record)) in records.iter().enumerate() {
        for length in [1, 12, 13, 14, 25, 26, record.len() / 2, record.len() - 1] {
            spoilt.push((*to, record.slice(..length.min(record.len()))));
        }
        for bit in 0..64_usize {
            let mut changed = record.to_vec();
            let at = (bit * 37 + number) % changed.len();
            // What is no DTLS any more is another test.
            changed[at.max(1)] ^= 1 << (bit % 8);
            spoilt.push((*to, changed.into()));
        }
        spoilt.push((*to, [&record[..], &record[..]].concat().into()));
        // To whom it came from.
        spoilt.push((1 - *to, record.clone()));
    }
    spoilt.extend_from_slice(records);
    spoilt
}

fn versions() -> [Versions; 2] {
    [Versions::Dtls12, Versions::Dtls13]
}

/// Whoever has recorded the handshake of a call plays it into it again, in any state and order, as if it came from the peer.
#[test]
fn a_handshake_that_was_recorded_in_a_call_changes_nothing() {
    for versions in versions() {
        let mut scene = Scene::speaking(versions);
        let records = scene.recorded_call();
        scene.withstand(&records);
    }
}

/// The same with the handshake of a call of yesterday, between the same two with the same certificates.
#[test]
fn a_handshake_of_another_call_changes_nothing() {
    for versions in versions() {
        let mut scene = Scene::speaking(versions);
        let records = scene.recorded_call();
        let yesterday = scene.secrets();
        scene.hang_up();
        scene.dial(&[ICE_UDP]);
        scene.talk(3 * SECOND);
        let secrets = scene.secrets();
        for host in [ALICE, BOB] {
            let fingerprint = |secured: &Option<Secured>| {
                let secured = secured.as_ref().unwrap();
                secured.peer_fingerprint.clone()
            };
            assert_eq!(
                fingerprint(&secrets[host].1),
                fingerprint(&yesterday[host].1)
            );
            assert!(secrets[host].0 != yesterday[host].0 && secrets[host].0.is_some());
        }
        scene.withstand(&records);
    }
}

/// What is played while the hands are being shaken may keep a call from coming about, as whoever is on the way can; it never
/// leads to keys that somebody has seen, nor to sound that is not the peer's.
#[test]
fn a_handshake_of_another_call_is_no_part_of_this_one() {
    for versions in versions() {
        for every in [1, 2, 3] {
            let mut scene = Scene::speaking(versions);
            let records = scene.recorded_call();
            let yesterday = scene.secrets();
            scene.hang_up();
            scene.dial(&[ICE_UDP]);
            let mut ports = None;
            for tick in 0..400_usize {
                let found = [ALICE, BOB].map(|host| try_port(&scene, host));
                if let [Some(alice), Some(bob)] = found {
                    ports = ports.or(Some([alice, bob]));
                }
                let replayed = records.get(tick / every % records.len());
                if let (Some(ports), Some((to, packet))) = (ports, replayed) {
                    scene.replay(ports, *to, packet.clone());
                }
                scene.talk(Duration::from_millis(10));
            }
            assert!(ports.is_some());
            for host in [ALICE, BOB] {
                let keys = scene.call(host, Call::protection).flatten();
                assert!(keys.is_none() || keys != yesterday[host].0);
                let pitch = scene
                    .line(host)
                    .heard
                    .iter()
                    .fold(0.0_f32, |m, s| m.max(s.abs()));
                assert!(pitch < 0.5, "{pitch}");
            }
        }
    }
}

/// Two whose sources have the same name by chance (RFC 3550 §8.2): each takes another, and both are heard.
#[test]
fn two_of_one_name_are_heard() {
    let mut now = session_core::testing::epoch();
    // The name is the beginning of the seed.
    let made = |keys, last, now| {
        let mut seed = [last; 16];
        seed[..4].fill(7);
        let config = EngineConfig::new(vec![PayloadType::of_id(0).unwrap()], "name");
        VoiceEngine::new(&config, keys, seed, now).unwrap()
    };
    let mut engines = [made(keys(1, 2), 1, now), made(keys(2, 1), 2, now)];
    let (mut looped, mut heard) = ([0; 2], [0.0_f32; 2]);
    for tick in 0..300_u32 {
        now += Duration::from_millis(10);
        for side in 0..2 {
            let sound: Vec<f32> = (0..80)
                .map(|n| ((tick * 80 + n) as f32 * 0.3).sin() * 0.4)
                .collect();
            engines[side].record(&sound, now);
            if engines[side].poll_timeout().is_some_and(|at| at <= now) {
                engines[side].handle_timeout(now);
            }
            while let Some(packet) = engines[side].poll_output() {
                match take(&mut engines[1 - side], packet, now) {
                    Err(MediaError::Looped) => looped[1 - side] += 1,
                    result => assert_ne!(
                        result.unwrap(),
                        Some(MediaEvent::Digit(Digit::new('1').unwrap()))
                    ),
                }
            }
            let mut sound = [0.0; 80];
            engines[side].play(&mut sound, now);
            if tick > 200 {
                heard[side] += sound.iter().map(|s| s * s).sum::<f32>() / (80.0 * 99.0);
            }
        }
    }
    assert!(
        looped.iter().sum::<u32>() > 0 && looped.iter().all(|count| *count < 5),
        "{looped:?}"
    );
    assert!(
        heard.iter().all(|power| (0.06..0.10).contains(power)),
        "{heard:?}"
    );
}

/// Where a phone's end of the path is.
fn port(scene: &Scene, host: usize) -> SocketAddr {
    try_port(scene, host).unwrap()
}

/// The same, if there is a path by now.
fn try_port(scene: &Scene, host: usize) -> Option<SocketAddr> {
    let session = scene.world.manager(host).peek(scene.sessions[host]?)?;
    let channel = session.channel(session_voice::RTP_CHANNEL)?;
    let path = session.describe_channel(channel)?;
    let mut words = path.split_whitespace();
    words.find_map(|word| word.parse().ok())
}

/// Somebody in the way of signalling takes the fingerprints out and offers his own keys, or none.
#[test]
fn nobody_is_talked_down_to_less_protection() {
    let crypto = || {
        Element::new(session_voice::RTP, "encryption").child(
            Element::new(session_voice::RTP, "crypto")
                .with("tag", "1")
                .with("crypto-suite", "AES_CM_128_HMAC_SHA1_80")
                .with("key-params", format!("inline:{}", "A".repeat(40))),
        )
    };
    for (victim, keys) in [(ALICE, true), (ALICE, false), (BOB, true), (BOB, false)] {
        let mut scene = Scene::new(&CallVerdict::Answer, None);
        scene.world.hold(true);
        scene.dial(&[ICE_UDP]);
        for _ in 0..100 {
            scene.talk(Duration::from_millis(50));
            while !scene.world.held().is_empty() {
                let mut envelope = scene.world.discard(0);
                if let Envelope {
                    to,
                    parcel: Parcel::Message { message, .. },
                    ..
                } = &mut envelope
                    && *to == victim
                {
                    for part in &mut message.contents {
                        part.transports = part.transports.iter().map(bare).collect();
                        if keys && let Some(description) = &mut part.description {
                            description.push(crypto());
                        }
                    }
                }
                scene.world.forge(envelope);
            }
        }
        for host in [ALICE, BOB] {
            assert!(
                scene.line(host).engine.is_none(),
                "{victim}, {keys}: {host} speaks"
            );
            let may_send = scene.call(host, |call| call.may_send());
            assert_ne!(may_send, Some(true), "{victim}, {keys}: {host}");
        }
    }
}

/// Without fingerprints.
fn bare(transport: &Element) -> Element {
    let mut bare = Element::new(transport.namespace(), transport.name());
    for attribute in transport.attributes() {
        bare = bare.with(attribute.name, attribute.value);
    }
    for child in transport
        .children()
        .filter(|child| child.name() != "fingerprint")
    {
        bare.push(child.to_element());
    }
    bare
}
