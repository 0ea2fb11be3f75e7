//! Concealment for codecs that have none: the last period of the voice goes on, and fades.

use crate::stretch::{best_lag, similarity};

/// How long the voice goes on as it was, before it fades (G.711 appendix I: 10 ms).
const FULL: f32 = 0.010;

/// How long it takes to fade away after that.
const FADE: f32 = 0.050;

/// How long the new sound is blended with the made-up one.
const BLEND: f32 = 0.005;

/// What is remembered, to find the pitch in: two periods of the deepest voice.
const MEMORY: f32 = 0.040;

/// Makes up sound from what was heard before it.
#[derive(Clone, Debug)]
pub(super) struct Concealer {
    rate: f32,
    /// What was given out last, made up or not.
    heard: Vec<f32>,
    /// While it makes up: the period, where it stands in it, and how many samples were made up.
    period: Vec<f32>,
    at: usize,
    made_up: usize,
}

impl Concealer {
    pub(super) fn new(sample_rate: u32) -> Self {
        Self {
            rate: sample_rate as f32,
            heard: Vec::new(),
            period: Vec::new(),
            at: 0,
            made_up: 0,
        }
    }

    /// Sound came. Its beginning is blended with what was made up before it.
    pub(super) fn heard(&mut self, sound: &mut [f32]) {
        if self.made_up > 0 {
            let blend = self.samples(BLEND).min(sound.len());
            for (at, sample) in sound[..blend].iter_mut().enumerate() {
                let share = at as f32 / blend as f32;
                *sample = *sample * share + self.next() * (1.0 - share);
            }
            self.made_up = 0;
            self.period.clear();
        }
        self.remember(sound);
    }

    /// Adds so many made-up samples.
    pub(super) fn conceal(&mut self, samples: usize, sound: &mut Vec<f32>) {
        if self.made_up == 0 {
            self.begin();
        }
        let from = sound.len();
        for _ in 0..samples {
            let sample = self.next();
            sound.push(sample);
        }
        let made: Vec<f32> = sound[from..].to_vec();
        self.remember(&made);
    }

    /// Finds the period with which the voice goes on.
    fn begin(&mut self) {
        (self.at, self.made_up) = (0, 0);
        self.period.clear();
        let (shortest, longest) = (self.samples(0.0025), self.samples(0.015));
        let all = self.heard.len();
        if all < 2 * longest {
            return;
        }
        // In time backwards, so that the newest stands first.
        let newest: Vec<f32> = self.heard.iter().rev().copied().collect();
        let lag = best_lag(&newest, shortest, longest, longest.min(all - longest));
        // Noise has no period: a longer piece of it sounds less like a tone.
        let voiced = similarity(&newest, lag, longest.min(all - lag)) > 0.5;
        let lag = if voiced { lag } else { longest };
        self.period.extend_from_slice(&self.heard[all - lag..]);
        // Its end is blended into what comes before its beginning, so that it joins to itself.
        let blend = self.samples(0.00125).min(lag / 4);
        for at in 0..blend {
            let share = (at + 1) as f32 / (blend + 1) as f32;
            let before = self.heard[all - lag - blend + at];
            let end = lag - blend + at;
            self.period[end] = self.period[end] * (1.0 - share) + before * share;
        }
    }

    fn next(&mut self) -> f32 {
        self.made_up += 1;
        let Some(sample) = self.period.get(self.at) else {
            return 0.0;
        };
        self.at = (self.at + 1) % self.period.len();
        let since = self.made_up as f32 / self.rate - FULL;
        sample * (1.0 - since.max(0.0) / FADE).max(0.0)
    }

    fn remember(&mut self, sound: &[f32]) {
        self.heard.extend_from_slice(sound);
        let excess = self.heard.len().saturating_sub(self.samples(MEMORY));
        self.heard.drain(..excess);
    }

    fn samples(&self, seconds: f32) -> usize {
        (seconds * self.rate) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(at: usize) -> f32 {
        let time = at as f32 / 8_000.0;
        // A fundamental and two harmonics.
        (1..4)
            .map(|n| (time * 125.0 * n as f32 * std::f32::consts::TAU).sin() * 0.2 / n as f32)
            .sum()
    }

    /// A steady voice goes on for a while where it would have been, fades, and ends.
    #[test]
    fn a_voice_goes_on_and_fades() {
        let mut concealer = Concealer::new(8_000);
        let mut sound: Vec<f32> = (0..800).map(voice).collect();
        concealer.heard(&mut sound);
        let mut made = Vec::new();
        concealer.conceal(80, &mut made);
        let error: f32 = made
            .iter()
            .enumerate()
            .map(|(at, sample)| (sample - voice(800 + at)).abs())
            .fold(0.0, f32::max);
        assert!(error < 0.05, "{error}");
        for _ in 0..10 {
            concealer.conceal(160, &mut made);
        }
        assert!(made[made.len() - 160..].iter().all(|sample| *sample == 0.0));
        // What comes after it comes in gently, and then is as it is.
        let mut next: Vec<f32> = (0..160).map(|at| voice(at) + 0.5).collect();
        concealer.heard(&mut next);
        assert!(next[0].abs() < 0.1 && next[159] == voice(159) + 0.5);
    }

    #[test]
    fn before_anything_was_heard_there_is_silence() {
        let mut made = Vec::new();
        Concealer::new(16_000).conceal(320, &mut made);
        assert_eq!(made, [0.0; 320]);
    }
}
