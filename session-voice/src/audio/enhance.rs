//! What a microphone hears, made better: without the loudspeaker's echo and the room's noise, and as loud as it should be.

use sonora::{
    AudioProcessing, Config, StreamConfig,
    config::{AdaptiveDigital, EchoCanceller, GainController2, NoiseSuppression},
};
use std::fmt;

/// Samples of the pieces that are worked on: 10 ms at 48 kHz.
const PIECE: usize = 480;

/// Echo cancellation, noise suppression and gain, for sound at 48 kHz.
///
/// Tell it what the loudspeaker gets ([`heard`](Self::heard)) before what the microphone heard of it
/// ([`spoken`](Self::spoken)), both as they come.
pub struct Enhancer {
    processing: AudioProcessing,
    heard: Vec<f32>,
    spoken: Vec<f32>,
}

impl Enhancer {
    /// Everything at once.
    pub fn new() -> Self {
        let config = Config {
            echo_canceller: Some(EchoCanceller::default()),
            noise_suppression: Some(NoiseSuppression::default()),
            gain_controller2: Some(GainController2 {
                adaptive_digital: Some(AdaptiveDigital::default()),
                ..GainController2::default()
            }),
            ..Config::default()
        };
        let stream = || StreamConfig::new(48_000, 1);
        let processing = AudioProcessing::builder()
            .config(config)
            .capture_config(stream())
            .render_config(stream())
            .build();
        Self {
            processing,
            heard: Vec::new(),
            spoken: Vec::new(),
        }
    }

    /// What the loudspeaker gets.
    pub fn heard(&mut self, sound: &[f32]) {
        self.heard.extend_from_slice(sound);
        let mut piece = [0.0; PIECE];
        let (pieces, _) = self.heard.as_chunks::<PIECE>();
        for heard in pieces {
            // What it cannot work on is not there.
            let _ = self
                .processing
                .process_render_f32(&[heard], &mut [&mut piece]);
        }
        let done = pieces.len() * PIECE;
        self.heard.drain(..done);
    }

    /// What the microphone heard; what it should have heard is added to `better`, in pieces of 10 ms.
    pub fn spoken(&mut self, sound: &[f32], better: &mut Vec<f32>) {
        self.spoken.extend_from_slice(sound);
        let (pieces, _) = self.spoken.as_chunks::<PIECE>();
        for spoken in pieces {
            let mut piece = [0.0; PIECE];
            let done = self
                .processing
                .process_capture_f32(&[spoken], &mut [&mut piece]);
            // As it was, where it cannot be made better.
            better.extend_from_slice(if done.is_ok() { &piece } else { spoken });
        }
        let done = pieces.len() * PIECE;
        self.spoken.drain(..done);
    }
}

impl Default for Enhancer {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Enhancer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Enhancer").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn power(sound: &[f32]) -> f32 {
        sound.iter().map(|s| s * s).sum::<f32>() / sound.len() as f32
    }

    /// The far voice comes back from the room, quieter and 40 ms later: little of it is left after some seconds.
    #[test]
    fn an_echo_is_taken_out() {
        let mut random = 1_u32;
        let mut noise = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let mut low = 0.0;
        let far: Vec<f32> = (0..48_000 * 8)
            .map(|at| {
                // Something like speech: coloured noise in syllables.
                low = low * 0.9 + noise() * 0.1;
                let loud = (at as f32 / 48_000.0 * 4.0 * std::f32::consts::PI)
                    .sin()
                    .max(0.0);
                low * loud
            })
            .collect();
        let (mut enhancer, mut better) = (Enhancer::new(), Vec::new());
        for (number, piece) in far.chunks(PIECE).enumerate() {
            enhancer.heard(piece);
            let from = (number * PIECE).saturating_sub(1_920);
            let echo: Vec<f32> = far[from..from + PIECE].iter().map(|s| s * 0.4).collect();
            enhancer.spoken(&echo, &mut better);
        }
        assert_eq!(better.len(), far.len());
        let last = 48_000 * 6..48_000 * 8;
        let left = power(&better[last.clone()]) / (power(&far[last]) * 0.16);
        assert!(left < 0.01, "{left}");
    }
}
