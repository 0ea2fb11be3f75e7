use super::*;
use crate::{SrtpMaster, SrtpProfile};
use session_core::testing::epoch;

const TICK: Duration = Duration::from_millis(10);

fn codec(id: u8) -> PayloadType {
    PayloadType::of_id(id).unwrap()
}

fn digits() -> PayloadType {
    PayloadType::new(101, TELEPHONE_EVENT, 8_000)
}

fn key(byte: u8) -> SrtpMaster {
    SrtpMaster::new(SrtpProfile::Aes128CmSha1_80, &[byte; 16], &[byte; 14]).unwrap()
}

/// Two engines, and a network of 30 ms between them.
struct Talk {
    now: Instant,
    engines: [VoiceEngine; 2],
    way: Vec<(Instant, usize, MediaOutput)>,
    events: [Vec<MediaEvent>; 2],
    /// What each has heard.
    heard: [Vec<f32>; 2],
    /// Whether the packet of this number is lost.
    loses: fn(u32) -> bool,
    sent: [u32; 2],
    said: usize,
}

impl Talk {
    fn new(configs: [&EngineConfig; 2]) -> Self {
        let now = epoch();
        let engine = |config, ours, theirs| {
            let (ours, theirs) = (key(ours), key(theirs));
            let seed = if ours == key(1) { [1; 16] } else { [2; 16] };
            VoiceEngine::new(config, Protection::Srtp { ours, theirs }, seed, now).unwrap()
        };
        Self {
            now,
            engines: [engine(configs[0], 1, 2), engine(configs[1], 2, 1)],
            way: Vec::new(),
            events: [Vec::new(), Vec::new()],
            heard: [Vec::new(), Vec::new()],
            loses: |_| false,
            sent: [0; 2],
            said: 0,
        }
    }

    fn like(configs: &[PayloadType]) -> Self {
        let config = EngineConfig::new(configs.to_vec(), "x");
        Self::new([&config, &config])
    }

    /// Both say `sound` for so many ticks, by the time in seconds.
    fn run(&mut self, ticks: u32, sound: impl Fn(f32) -> f32) {
        for _ in 0..ticks {
            self.now += TICK;
            let due: Vec<_> = self
                .way
                .extract_if(.., |(at, _, _)| *at <= self.now)
                .collect();
            for (at, side, output) in due {
                let engine = &mut self.engines[side];
                let event = match output {
                    MediaOutput::Rtp(packet) => engine.handle_rtp(packet, at),
                    MediaOutput::Rtcp(packet) => engine.handle_rtcp(packet, at),
                };
                if !matches!(event, Err(MediaError::PayloadType(_))) {
                    self.events[side].extend(event.unwrap());
                }
            }
            for side in 0..2 {
                let engine = &mut self.engines[side];
                let rate = engine.record_rate();
                let count = samples(TICK, rate);
                let begin = self.said as f32 * 0.01;
                let piece: Vec<f32> = (0..count)
                    .map(|at| sound(begin + at as f32 / rate as f32))
                    .collect();
                engine.record(&piece, self.now);
                if engine.poll_timeout().is_some_and(|at| at <= self.now) {
                    engine.handle_timeout(self.now);
                }
                while let Some(output) = engine.poll_output() {
                    self.sent[side] += 1;
                    let is_rtp = matches!(output, MediaOutput::Rtp(_));
                    if !is_rtp || !(self.loses)(self.sent[side]) {
                        let at = self.now + Duration::from_millis(30);
                        self.way.push((at, 1 - side, output));
                    }
                }
                let mut played = vec![0.0; samples(TICK, engine.play_rate())];
                engine.play(&mut played, self.now);
                self.heard[side].extend(played);
            }
            self.said += 1;
        }
    }

    fn power(&self, side: usize, last: usize) -> f32 {
        level(&self.heard[side][self.heard[side].len() - last..])
    }
}

fn tone(time: f32) -> f32 {
    (time * 440.0 * std::f32::consts::TAU).sin() * 0.3
}

#[test]
fn both_hear_each_other_with_each_codec() {
    for codec in crate::codecs() {
        if codec_for(&codec).is_none() {
            continue;
        }
        let mut talk = Talk::like(std::slice::from_ref(&codec));
        talk.run(300, tone);
        for side in 0..2 {
            let level = talk.power(side, talk.heard[side].len() / 3);
            assert!((0.17..0.25).contains(&level), "{}: {level}", codec.name);
            let stats = talk.engines[side].stats(talk.now);
            assert_eq!(stats.media.playout.concealed, 0, "{}", codec.name);
            assert_eq!(stats.undecoded, 0);
            assert!(stats.media.buffer < Duration::from_millis(60), "{stats:?}");
        }
    }
}

/// What is not there is not heard, and what is not recorded is not sent.
#[test]
fn mute_and_hold_stop_what_they_should() {
    let mut talk = Talk::like(&[codec(0)]);
    talk.run(100, tone);
    talk.engines[0].set_sending(false);
    talk.run(100, tone);
    assert!(talk.power(1, 400) < 0.001 && talk.power(0, 400) > 0.1);
    talk.engines[0].set_sending(true);
    talk.engines[0].set_listening(false);
    talk.run(100, tone);
    assert!(talk.power(1, 400) > 0.1 && talk.power(0, 400) == 0.0);
    // Nothing of the pause counts as lost.
    let stats = talk.engines[1].stats(talk.now).media;
    assert_eq!(stats.loss_there, Some(0.0));
}

/// Who stops sending says so, where there is a way to: nothing of the pause is taken for a loss.
#[test]
fn a_pause_is_no_loss() {
    let mut kinds = vec![(vec![codec(0), codec(13)], 0), (vec![codec(0)], 10)];
    if cfg!(any(feature = "opus", feature = "ropus")) {
        kinds.push((vec![PayloadType::opus(111)], 0));
    }
    for (agreed, made_up) in kinds {
        let name = agreed[0].name.clone();
        let mut talk = Talk::like(&agreed);
        for pauses in 1..4 {
            talk.engines[0].set_sending(true);
            talk.run(100, tone);
            assert!(talk.power(1, 400) > 0.15, "{name}");
            talk.engines[0].set_sending(false);
            for _ in 0..100 {
                talk.run(10, tone);
                let stats = talk.engines[1].stats(talk.now).media;
                assert_eq!(stats.loss_here, 0.0, "{name}: {stats:?}");
            }
            let stats = talk.engines[1].stats(talk.now).media;
            assert!(
                stats.playout.concealed <= pauses * made_up,
                "{name}: {stats:?}"
            );
            assert!(stats.quality.unwrap().mos > 4.0, "{name}: {stats:?}");
            assert!(talk.power(1, 400) < 0.001, "{name}");
        }
        let stats = talk.engines[1].stats(talk.now).media;
        // Three spells of a second in frames of 20 ms, each with its end, and no more.
        let ends = if made_up == 0 { 3 } else { 0 };
        assert_eq!(stats.received, 150 + ends, "{name}: {stats:?}");
    }
}

/// Figures of before a pause do not stay through it.
#[test]
fn a_loss_before_a_pause_is_over() {
    let mut talk = Talk::like(&[codec(0)]);
    talk.loses = |number| number % 5 == 0;
    talk.run(1_000, tone);
    let stats = talk.engines[1].stats(talk.now).media;
    assert!(stats.loss_here > 0.1, "{stats:?}");
    talk.engines[0].set_sending(false);
    talk.run(2_000, tone);
    let stats = talk.engines[1].stats(talk.now).media;
    assert_eq!(stats.loss_here, 0.0);
    assert!(stats.quality.unwrap().mos > 4.0, "{stats:?}");
}

/// What its background is like, a peer says in the payload type of its own codec, whatever ours is.
#[cfg(any(feature = "opus", feature = "ropus"))]
#[test]
fn noise_of_a_peer_with_another_codec_is_heard() {
    let [one, two] = [[111, 0, 13], [0, 111, 13]].map(|ids| EngineConfig {
        dtx: true,
        ..EngineConfig::new(
            ids.map(|id| match id {
                111 => PayloadType::opus(111),
                id => codec(id),
            })
            .to_vec(),
            "x",
        )
    });
    let hiss = |time: f32| ((time * 7_919.0).sin() * 43_758.547).fract() * 0.004;
    let mut talk = Talk::new([&one, &two]);
    talk.run(200, |time| tone(time) + hiss(time));
    let before = talk.engines[0].stats(talk.now).media;
    talk.run(400, hiss);
    let stats = talk.engines[0].stats(talk.now).media;
    assert_eq!(talk.engines[0].peer_codec(), "PCMU");
    assert_eq!(stats.refused, before.refused);
    assert_eq!(stats.playout.concealed, before.playout.concealed);
    let (heard, said) = (talk.power(0, 8_000), 0.004 / 3.0_f32.sqrt());
    assert!((0.4..2.5).contains(&(heard / said)), "{heard} {said}");
}

#[test]
fn silence_is_replaced_by_noise_of_its_kind() {
    let config = EngineConfig {
        dtx: true,
        ..EngineConfig::new(vec![codec(8), codec(13)], "x")
    };
    let mut talk = Talk::new([&config, &config]);
    let hiss = |time: f32| ((time * 7_919.0).sin() * 43_758.547).fract() * 0.004;
    talk.run(200, |time| tone(time) + hiss(time));
    let before = talk.sent[0];
    talk.run(400, hiss);
    // A few of speech's end, and two descriptions a second.
    assert!(talk.sent[0] - before < 50, "{}", talk.sent[0] - before);
    let (heard, said) = (talk.power(1, 8_000), 0.004 / 3.0_f32.sqrt());
    assert!((0.4..2.5).contains(&(heard / said)), "{heard} {said}");
    assert_eq!(talk.engines[1].stats(talk.now).media.playout.concealed, 0);
    talk.run(100, tone);
    assert!(talk.power(1, 400) > 0.15, "speech comes back");
}

#[test]
fn a_peer_that_changes_its_codec_is_followed() {
    let one = EngineConfig::new(vec![codec(0), codec(8), digits()], "x");
    let two = EngineConfig::new(vec![codec(8), codec(0), digits()], "x");
    let mut talk = Talk::new([&one, &two]);
    talk.run(200, tone);
    for side in 0..2 {
        assert!(talk.power(side, 800) > 0.15, "{side}");
    }
    assert_eq!(talk.engines[0].codec(), "PCMU");
    assert_eq!(talk.engines[0].peer_codec(), "PCMA");
    talk.engines[0]
        .press(Digit::new('7').unwrap(), talk.now)
        .unwrap();
    talk.run(50, tone);
    assert_eq!(
        talk.events[1],
        [MediaEvent::Digit(Digit::new('7').unwrap())]
    );
}

/// Digits that wait are told of until the last has sounded, and go with their payload type.
#[test]
fn whether_digits_wait_is_told() {
    let mut talk = Talk::like(&[codec(0), digits()]);
    let engine = &mut talk.engines[0];
    assert!(engine.takes_digits() && !engine.is_pressing());
    for key in ['1', '2'] {
        engine.press(Digit::new(key).unwrap(), talk.now).unwrap();
    }
    // The second waits for 300 ms, between the two nothing sounds, and its end is told three times, the last at 500 ms.
    for _ in 0..50 {
        assert!(talk.engines[0].is_pressing(), "{:?}", talk.now);
        talk.run(1, tone);
    }
    talk.run(1, tone);
    assert!(!talk.engines[0].is_pressing());
    talk.engines[0]
        .press(Digit::new('3').unwrap(), talk.now)
        .unwrap();
    talk.engines[0].set_agreed(&[codec(0)]).unwrap();
    let engine = &talk.engines[0];
    assert!(!engine.takes_digits() && !engine.is_pressing());
    assert!(engine.poll_timeout().is_none_or(|at| at > talk.now));
}

/// An engine that was made for early media knows only what was offered; the answer picks of that.
#[cfg(feature = "g722")]
#[test]
fn the_answer_changes_what_is_spoken_and_not_what_is_heard() {
    let [g722, pcma] = [9, 8].map(codec);
    let noise = PayloadType::new(13, "CN", 8_000);
    let offered = EngineConfig::new(vec![g722.clone(), pcma.clone(), digits()], "a");
    for agreed in [vec![pcma, digits(), noise], vec![g722, digits()]] {
        // The callee speaks as it will answer, from the beginning.
        let answer = EngineConfig::new(agreed.clone(), "b");
        let mut talk = Talk::new([&offered, &answer]);
        talk.engines[0].set_sending(false);
        talk.run(100, tone);
        assert!(talk.power(0, 4_000) > 0.05, "early media are heard");
        assert_eq!(talk.sent[0], 0);
        let refused = talk.engines[0].set_agreed(&[PayloadType::new(96, "nothing", 8_000)]);
        assert_eq!(refused, Err(EngineError::NoCodec("nothing".into())));
        talk.engines[0].set_agreed(&agreed).unwrap();
        talk.engines[0].set_sending(true);
        let said = talk.engines[1].codec();
        assert_eq!(talk.engines[0].codec(), said);
        assert_eq!(talk.engines[0].peer_codec(), said);
        talk.run(100, tone);
        for side in 0..2 {
            let stats = talk.engines[side].stats(talk.now);
            assert!(talk.power(side, 4_000) > 0.05, "{said}: {side}");
            // What is heard has no seam where the answer came.
            assert_eq!(stats.media.playout.concealed, 0, "{said}: {side}");
            assert_eq!(stats.media.refused, u64::from(side == 0 && said == "PCMA"));
        }
        talk.engines[0]
            .press(Digit::new('7').unwrap(), talk.now)
            .unwrap();
        talk.run(50, tone);
        let pressed = MediaEvent::Digit(Digit::new('7').unwrap());
        assert_eq!(talk.events[1], [pressed]);
    }
}

#[test]
fn no_codec_is_told() {
    let config = EngineConfig::new(vec![PayloadType::new(18, "G729", 8_000)], "x");
    let error = VoiceEngine::new(&config, Protection::Plain, [1; 16], epoch()).unwrap_err();
    assert!(error.to_string().contains("G729"), "{error}");
}

/// The peer's reports switch copies on, and then hide losses; and bursts are known from chance.
#[cfg(any(feature = "opus", feature = "ropus"))]
#[test]
fn redundancy_follows_what_the_network_loses() {
    let voice = |time: f32| {
        let loud = 0.2 + 0.8 * (time * 4.0 * std::f32::consts::PI).sin().abs();
        (1..8)
            .map(|n| (time * 140.0 * n as f32 * std::f32::consts::TAU).sin() * loud * 0.1)
            .sum()
    };
    let mut talk = Talk::like(&[PayloadType::opus(111)]);
    talk.run(500, voice);
    assert_eq!(talk.engines[1].stats(talk.now).media.playout.recovered, 0);
    talk.loses = |number| number % 11 == 0;
    talk.run(3_000, voice);
    let stats = talk.engines[1].stats(talk.now).media;
    assert!(stats.playout.recovered > 60, "{stats:?}");
    let burst = talk.engines[0].stats(talk.now).media.burst_there.unwrap();
    assert!((0.9..1.2).contains(&burst), "{burst}");
    talk.loses = |number| number % 64 < 6;
    talk.run(4_000, voice);
    let burst = talk.engines[0].stats(talk.now).media.burst_there.unwrap();
    assert!((5.0..7.0).contains(&burst), "{burst}");
}

/// RFC 3264 §6.1: each side is sent what its own description names.
#[test]
fn an_answer_with_numbers_of_its_own_is_heard() {
    let numbered = |sound, events| {
        [
            PayloadType::new(sound, "PCMU", 8_000),
            PayloadType::new(events, TELEPHONE_EVENT, 8_000),
        ]
    };
    let (alices, bobs) = (numbered(111, 101), numbered(96, 97));
    let config = |agreed: &[PayloadType], ours: &[PayloadType]| EngineConfig {
        ours: ours.to_vec(),
        ..EngineConfig::new(agreed.to_vec(), "x")
    };
    let mut talk = Talk::new([&config(&bobs, &alices), &config(&alices, &bobs)]);
    talk.run(200, tone);
    let seven = Digit::new('7').unwrap();
    for side in 0..2 {
        assert!(talk.power(side, 800) > 0.15, "{side}");
        talk.engines[side].press(seven, talk.now).unwrap();
    }
    talk.run(50, tone);
    assert_eq!(talk.events, [0, 1].map(|_| vec![MediaEvent::Digit(seven)]));
}
