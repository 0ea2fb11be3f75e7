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
