//! Sound at another rate.

use super::AudioError;
use rubato::{Fft, FixedSync, Resampler as _, audioadapter_buffers::direct::InterleavedSlice};
use std::fmt;

/// Makes sound of one rate into sound of another, as it comes. Equal rates pass through.
///
/// ```
/// use session_voice::audio::Resampler;
/// let mut resampler = Resampler::new(8_000, 48_000).unwrap();
/// let mut sound = Vec::new();
/// for _ in 0..100 {
///     resampler.push(&[0.5; 80], &mut sound).unwrap();
/// }
/// assert!(sound.len().abs_diff(48_000) < 4_800);
/// assert!((sound[20_000] - 0.5).abs() < 0.01);
/// ```
pub struct Resampler {
    from: u32,
    to: u32,
    fft: Option<Fft<f32>>,
    waiting: Vec<f32>,
    made: Vec<f32>,
}

impl Resampler {
    /// From and to so many samples per second.
    ///
    /// # Errors
    /// [`AudioError::Rates`].
    pub fn new(from: u32, to: u32) -> Result<Self, AudioError> {
        let fft = if from == to {
            None
        } else {
            // Pieces of 10 ms.
            let piece = (from / 100).max(1) as usize;
            let made = Fft::new(from as usize, to as usize, piece, 1, FixedSync::Input);
            Some(made.map_err(|error| AudioError::Rates {
                from,
                to,
                why: error.to_string(),
            })?)
        };
        let most = fft.as_ref().map_or(0, |fft| fft.output_frames_max());
        Ok(Self {
            from,
            to,
            fft,
            waiting: Vec::new(),
            made: vec![0.0; most],
        })
    }

    /// Samples per second of what is pushed.
    pub fn from_rate(&self) -> u32 {
        self.from
    }

    /// Samples per second of what comes out.
    pub fn to_rate(&self) -> u32 {
        self.to
    }

    /// Takes sound of any length, and adds what has become of it.
    ///
    /// # Errors
    /// [`AudioError::Rates`].
    pub fn push(&mut self, sound: &[f32], made: &mut Vec<f32>) -> Result<(), AudioError> {
        let Some(fft) = &mut self.fft else {
            made.extend_from_slice(sound);
            return Ok(());
        };
        let (from, to) = (self.from, self.to);
        let failed = |why: String| AudioError::Rates { from, to, why };
        self.waiting.extend_from_slice(sound);
        let mut used = 0;
        loop {
            let piece = fft.input_frames_next();
            let Some(input) = self.waiting.get(used..used + piece) else {
                break;
            };
            let room = self.made.len();
            let input = InterleavedSlice::new(input, 1, piece);
            let output = InterleavedSlice::new_mut(&mut self.made, 1, room);
            let input = input.map_err(|error| failed(error.to_string()))?;
            let mut output = output.map_err(|error| failed(error.to_string()))?;
            let done = fft.process_into_buffer(&input, &mut output, None);
            let (_, count) = done.map_err(|error| failed(error.to_string()))?;
            made.extend_from_slice(&self.made[..count]);
            used += piece;
        }
        self.waiting.drain(..used);
        Ok(())
    }
}

impl fmt::Debug for Resampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resampler")
            .field("from", &self.from)
            .field("to", &self.to)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tone keeps its pitch and its power at each pair of rates, whatever the pieces.
    #[test]
    fn a_tone_stays_what_it_was() {
        for from in [8_000, 16_000, 22_050, 44_100, 48_000] {
            for to in [8_000, 16_000, 44_100, 48_000] {
                let mut resampler = Resampler::new(from, to).unwrap();
                let tone: Vec<f32> = (0..from)
                    .map(|at| (at as f32 / from as f32 * 600.0 * std::f32::consts::TAU).sin() * 0.5)
                    .collect();
                let mut made = Vec::new();
                for (number, piece) in tone.chunks(97).enumerate() {
                    resampler.push(piece, &mut made).unwrap();
                    assert!(made.len() <= (number + 1) * 97 * to as usize / from as usize + 1_000);
                }
                let late = to as usize - made.len();
                assert!(late < to as usize / 10, "{from} to {to}: {late}");
                let middle = &made[made.len() / 4..made.len() * 3 / 4];
                let crossings = middle
                    .windows(2)
                    .filter(|w| w[0] <= 0.0 && w[1] > 0.0)
                    .count();
                let pitch = crossings as f32 * to as f32 / middle.len() as f32;
                assert!((pitch - 600.0).abs() < 4.0, "{from} to {to}: {pitch}");
                let power = middle.iter().map(|s| s * s).sum::<f32>() / middle.len() as f32;
                assert!((power - 0.125).abs() < 0.01, "{from} to {to}: {power}");
            }
        }
    }
}
