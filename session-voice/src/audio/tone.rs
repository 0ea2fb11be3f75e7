//! A tone generator.

use super::{AudioError, SoundSource};
use std::f64::consts::TAU;

/// A tone that is interrupted twice a second: something to be heard, and to be recognised, when nobody speaks.
#[derive(Clone, Debug)]
pub struct Tone {
    sample_rate: u32,
    frequency: f64,
    loudness: f32,
    at: u64,
}

impl Tone {
    /// Of this pitch in Hz, at a tenth of full scale, at 48 kHz.
    pub fn new(frequency: f64) -> Self {
        Self {
            sample_rate: 48_000,
            frequency,
            loudness: 0.1,
            at: 0,
        }
    }
}

impl SoundSource for Tone {
    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn read(&mut self, sound: &mut [f32]) -> Result<usize, AudioError> {
        for sample in sound.iter_mut() {
            let time = self.at as f64 / f64::from(self.sample_rate);
            // Comes and goes gently, so that nothing clicks.
            let envelope = (time * TAU).sin().clamp(0.0, 0.2) as f32 * 5.0;
            *sample = (time * self.frequency * TAU).sin() as f32 * self.loudness * envelope;
            self.at += 1;
        }
        Ok(sound.len())
    }
}

/// Something like speech: noise as dull as a voice is, in three syllables a second. It differs everywhere, so that it can be told
/// what of it arrived ([`similarity`](super::similarity)). 48 kHz.
#[derive(Clone, Debug)]
pub struct Babble {
    state: u32,
    /// What the noise was, made dull once and twice.
    low: [f32; 2],
    at: u64,
}

impl Babble {
    /// Another for each seed.
    pub fn new(seed: u32) -> Self {
        Self {
            state: seed,
            low: [0.0; 2],
            at: 0,
        }
    }

    fn next(&mut self) -> f32 {
        self.state = self
            .state
            .wrapping_mul(1_664_525)
            .wrapping_add(1_013_904_223);
        let noise = (self.state >> 8) as f32 / (1 << 24) as f32 - 0.5;
        let [once, twice] = &mut self.low;
        *once = *once * 0.9 + noise * 0.1;
        *twice = *twice * 0.9 + *once * 0.1;
        let seconds = self.at as f64 / 48_000.0;
        let syllable = (seconds * TAU * 1.5).sin().abs().max(0.1);
        self.at += 1;
        *twice * 4.0 * syllable as f32
    }
}

impl SoundSource for Babble {
    fn sample_rate(&self) -> u32 {
        48_000
    }

    fn read(&mut self, sound: &mut [f32]) -> Result<usize, AudioError> {
        sound.fill_with(|| self.next());
        Ok(sound.len())
    }
}
