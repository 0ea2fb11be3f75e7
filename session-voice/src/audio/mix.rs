//! Several voices in one.

/// Adds up what the parts of a conference say, and gives each what all the others say.
///
/// ```
/// use session_voice::audio::Mixer;
/// let mut mixer = Mixer::new(4);
/// mixer.add(&[0.1, 0.2, 0.3, 0.4]);
/// mixer.add(&[0.1; 4]);
/// let mut heard = [0.0; 4];
/// mixer.without(&[0.1; 4], &mut heard);
/// assert!((heard[3] - 0.4).abs() < 1e-6);
/// ```
#[derive(Clone, Debug)]
pub struct Mixer {
    sum: Vec<f32>,
}

impl Mixer {
    /// For pieces of this many samples, with nothing in it.
    pub fn new(samples: usize) -> Self {
        Self {
            sum: vec![0.0; samples],
        }
    }

    /// Begins the next piece.
    pub fn clear(&mut self) {
        self.sum.fill(0.0);
    }

    /// Adds what somebody says; what is longer than the piece is left out.
    pub fn add(&mut self, sound: &[f32]) {
        for (sum, sample) in self.sum.iter_mut().zip(sound) {
            *sum += sample;
        }
    }

    /// What all say.
    pub fn all(&self, heard: &mut [f32]) {
        for (heard, sum) in heard.iter_mut().zip(&self.sum) {
            *heard = limit(*sum);
        }
    }

    /// What all say but the one who said `own`, which was added before.
    pub fn without(&self, own: &[f32], heard: &mut [f32]) {
        let others = self.sum.iter().zip(own).map(|(sum, own)| sum - own);
        for (heard, others) in heard.iter_mut().zip(others) {
            *heard = limit(others);
        }
    }
}

/// Keeps a sum of voices below full scale: unchanged up to half of it, and gently bent above.
pub fn limit(sample: f32) -> f32 {
    const STRAIGHT: f32 = 0.5;
    let above = sample.abs() - STRAIGHT;
    if above <= 0.0 {
        return sample;
    }
    let room = 1.0 - STRAIGHT;
    (STRAIGHT + room * (above / room).tanh()).copysign(sample)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Everybody hears all the others, at any number of them below full scale, and never himself.
        #[test]
        fn each_hears_the_others(voices in prop::collection::vec(prop::collection::vec(-1.0..1.0_f32, 8), 1..6)) {
            let mut mixer = Mixer::new(8);
            voices.iter().for_each(|voice| mixer.add(voice));
            for (own, voice) in voices.iter().enumerate() {
                let mut heard = [0.0; 8];
                mixer.without(voice, &mut heard);
                for (at, heard) in heard.iter().enumerate() {
                    let others: f32 = voices.iter().enumerate().filter(|(other, _)| *other != own).map(|(_, voice)| voice[at]).sum();
                    prop_assert!((heard - limit(others)).abs() < 1e-5);
                    prop_assert!(heard.abs() <= 1.0);
                }
            }
        }
    }
}
