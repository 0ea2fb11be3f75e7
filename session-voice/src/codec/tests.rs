use super::*;
use proptest::prelude::*;

/// A voice that glides between two pitches, with four syllables a second, for so many samples.
fn voice(rate: u32, samples: usize) -> Vec<f32> {
    let mut phase = 0.0_f32;
    (0..samples)
        .map(|at| {
            let time = at as f32 / rate as f32;
            phase += (140.0 + 40.0 * (time * 3.0).sin()) / rate as f32;
            let loud = 0.2 + 0.8 * (time * 4.0 * std::f32::consts::PI).sin().abs();
            (1..8)
                .map(|n| loud * (phase * n as f32 * std::f32::consts::TAU).sin() * 0.15 / n as f32)
                .sum()
        })
        .collect()
}

fn all() -> Vec<Box<dyn AudioCodec>> {
    let listed = codecs();
    let all = listed.iter().filter_map(codec_for);
    #[cfg(feature = "ropus")]
    let all = all.chain([Box::new(RustOpus::new().unwrap()) as Box<dyn AudioCodec>]);
    all.collect()
}

/// The best correlation of two sounds over the delays that a codec may have.
fn likeness(one: &[f32], two: &[f32], delay_max: usize) -> f32 {
    (0..delay_max)
        .map(|delay| {
            let pairs = || one.iter().zip(&two[delay..]);
            let both: f32 = pairs().map(|(a, b)| a * b).sum();
            let power: f32 =
                pairs().map(|(a, _)| a * a).sum::<f32>() * pairs().map(|(_, b)| b * b).sum::<f32>();
            both / power.sqrt().max(1e-9)
        })
        .fold(-1.0, f32::max)
}

#[test]
fn each_codec_gives_back_a_voice() {
    for mut codec in all() {
        let rate = codec.sample_rate();
        let frame = rate as usize / 50;
        let sound = voice(rate, 50 * frame);
        let (mut payload, mut heard) = (Vec::new(), Vec::new());
        for frame in sound.chunks(frame) {
            codec.encode(frame, &mut payload).unwrap();
            assert!(!payload.is_empty() && payload.len() <= 330);
            codec.decode(&payload, &mut heard).unwrap();
        }
        assert_eq!(heard.len(), sound.len(), "{}", codec.name());
        let like = likeness(&sound[..40 * frame], &heard, rate as usize / 50);
        assert!(like > 0.9, "{}: {like}", codec.name());
    }
}

#[test]
fn each_codec_makes_up_what_is_lost_and_goes_on() {
    for mut codec in all() {
        let frame = codec.sample_rate() as usize / 50;
        let sound = voice(codec.sample_rate(), 60 * frame);
        let (mut payload, mut heard) = (Vec::new(), Vec::new());
        for (number, piece) in sound.chunks(frame).enumerate() {
            codec.encode(piece, &mut payload).unwrap();
            if number % 20 == 19 {
                let from = heard.len();
                codec.conceal(frame, &mut heard);
                let power: f32 = heard[from..].iter().map(|s| s * s).sum();
                assert!(power > 0.05, "{} is silent: {power}", codec.name());
            } else {
                codec.decode(&payload, &mut heard).unwrap();
            }
        }
        assert_eq!(heard.len(), sound.len());
        let like = likeness(&sound[..50 * frame], &heard, frame);
        assert!(like > 0.75, "{}: {like}", codec.name());
    }
}

#[cfg(any(feature = "opus", feature = "ropus"))]
#[test]
fn opus_recovers_a_frame_from_the_next_packet_when_told_of_losses() {
    for mut codec in all().into_iter().filter(|codec| codec.name() == "opus") {
        let sound = voice(48_000, 100 * 960);
        let mut payload = Vec::new();
        let mut copies = 0;
        for (number, frame) in sound.chunks(960).enumerate() {
            if number == 50 {
                codec.adapt(LossPattern {
                    loss: 0.1,
                    burst: 1.0,
                });
            }
            codec.encode(frame, &mut payload).unwrap();
            let mut recovered = Vec::new();
            let has = codec.recover(&payload, 1, 960, &mut recovered);
            assert!(!has || number > 49, "a copy without loss");
            assert_eq!(recovered.len(), if has { 960 } else { 0 });
            copies += u32::from(has);
            codec.decode(&payload, &mut Vec::new()).unwrap();
        }
        assert!(copies > 20, "{copies}");
        assert!(!codec.recover(&payload, 2, 960, &mut Vec::new()));
    }
}

#[cfg(feature = "opus")]
#[test]
fn a_burst_comes_back_from_the_first_packet_behind_it() {
    let mut codec = LibOpus::new().unwrap();
    codec.adapt(LossPattern {
        loss: 0.1,
        burst: 5.0,
    });
    let sound = voice(48_000, 100 * 960);
    let (mut payload, mut heard) = (Vec::new(), Vec::new());
    for (number, frame) in sound.chunks(960).enumerate() {
        codec.encode(frame, &mut payload).unwrap();
        match number {
            70..80 => {}
            80 => {
                for distance in (1..=10).rev() {
                    assert!(
                        codec.recover(&payload, distance, 960, &mut heard),
                        "{distance}"
                    );
                }
                codec.decode(&payload, &mut heard).unwrap();
            }
            _ => codec.decode(&payload, &mut heard).unwrap(),
        }
    }
    assert_eq!(heard.len(), sound.len());
    // It is no copy of the wave, but as loud as it was, where concealment would have faded out.
    let power = |sound: &[f32]| sound.iter().map(|s| s * s).sum::<f32>();
    let lost = 76 * 960..79 * 960;
    let ratio = power(&heard[lost.clone()]) / power(&sound[lost]);
    assert!((0.3..3.0).contains(&ratio), "{ratio}");
}

#[test]
fn frames_without_speech_are_left_out_when_asked() {
    for mut codec in all().into_iter().filter(|codec| codec.name() == "opus") {
        codec.set_dtx(true);
        let silence = vec![0.0; 960];
        let mut payload = Vec::new();
        let (mut sent, mut pauses) = (0, 0);
        for _ in 0..100 {
            codec.encode(&silence, &mut payload).unwrap();
            sent += u32::from(!payload.is_empty());
            // What says that nothing behind it is missing: one for each row of frames that are left out.
            pauses += u32::from(matches!(payload.len(), 1 | 2));
        }
        assert!(sent < 40 && (1..20).contains(&pauses), "{sent} {pauses}");
    }
}

proptest! {
    /// Whatever a peer sends: an error or some sound, never more than a payload may hold, and the codec goes on.
    #[test]
    fn any_payload_is_survived(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..20)) {
        for mut codec in all() {
            let frame = codec.sample_rate() as usize / 50;
            let mut sound = Vec::new();
            for payload in &payloads {
                let before = sound.len();
                let result = codec.decode(payload, &mut sound);
                prop_assert!(result.is_ok() || sound.len() == before);
                codec.recover(payload, 1, frame, &mut sound);
                codec.recover(payload, 7, frame, &mut sound);
                codec.conceal(frame, &mut sound);
                prop_assert!(sound.len() - before <= 5_760 + 9 * frame);
            }
            prop_assert!(sound.iter().all(|sample| sample.is_finite()));
        }
    }
}
