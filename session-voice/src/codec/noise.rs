//! Comfort noise (RFC 3389): how loud the background is, and what it sounds like.

/// How many reflection coefficients we say, and understand at most.
pub const COMFORT_NOISE_ORDER: usize = 8;

/// The noise that is heard between talk spurts, as the peer described it. Also says what ours is like.
///
/// ```
/// use session_voice::ComfortNoise;
///
/// let hiss: Vec<f32> = (0..800).map(|at| (at as f32 * 7_919.0).sin() * 0.01).collect();
/// let payload = ComfortNoise::describe(&hiss);
/// let mut noise = ComfortNoise::new();
/// noise.learn(&payload);
/// let mut sound = Vec::new();
/// noise.fill(800, &mut sound);
/// let power = |sound: &[f32]| sound.iter().map(|s| s * s).sum::<f32>() / 800.0;
/// assert!((power(&sound) / power(&hiss)).log10().abs() < 0.3);
/// ```
#[derive(Clone, Debug)]
pub struct ComfortNoise {
    /// Root of the mean square, 0 to 1.
    level: f32,
    reflections: [f32; COMFORT_NOISE_ORDER],
    memory: [f32; COMFORT_NOISE_ORDER + 1],
    random: u32,
}

impl ComfortNoise {
    /// Silence, until something is learned.
    pub fn new() -> Self {
        Self {
            level: 0.0,
            reflections: [0.0; COMFORT_NOISE_ORDER],
            memory: [0.0; COMFORT_NOISE_ORDER + 1],
            random: 0x1234_5678,
        }
    }

    /// The payload that describes this sound: the level, and the shape of its spectrum.
    pub fn describe(sound: &[f32]) -> Vec<u8> {
        let power = sound.iter().map(|s| s * s).sum::<f32>() / sound.len().max(1) as f32;
        // dBov: a square wave of full scale is 0.
        let level = (-10.0 * power.max(1e-13).log10()).clamp(0.0, 127.0);
        let mut payload = vec![level.round() as u8];
        let quantised = |k: f32| (127.0 + k * 32_768.0 / 258.0).round().clamp(0.0, 254.0) as u8;
        payload.extend(reflections(sound).map(quantised));
        payload
    }

    /// Takes over what a payload describes. More coefficients than [`COMFORT_NOISE_ORDER`] are left out (RFC 3389 §3.2
    /// allows any number); an empty one changes nothing.
    pub fn learn(&mut self, payload: &[u8]) {
        let Some((level, coefficients)) = payload.split_first() else {
            return;
        };
        self.level = 10.0_f32.powf(-f32::from(level & 0x7F) / 20.0);
        self.reflections = [0.0; COMFORT_NOISE_ORDER];
        for (own, byte) in self.reflections.iter_mut().zip(coefficients) {
            *own = (258.0 / 32_768.0 * (f32::from(*byte) - 127.0)).clamp(-0.98, 0.98);
        }
    }

    /// Adds so many samples of it.
    pub fn fill(&mut self, samples: usize, sound: &mut Vec<f32>) {
        // The filter makes it louder by this.
        let gain: f32 = self.reflections.iter().map(|k| 1.0 - k * k).product();
        // Uniform noise has a third of the square of its greatest.
        let amplitude = self.level * (3.0 * gain).sqrt();
        for _ in 0..samples {
            let mut value = self.white() * amplitude;
            // A lattice of the reflections, which is stable whatever they are below 1.
            for order in (0..COMFORT_NOISE_ORDER).rev() {
                value -= self.reflections[order] * self.memory[order];
                self.memory[order + 1] = self.memory[order] + self.reflections[order] * value;
            }
            self.memory[0] = value;
            sound.push(value.clamp(-1.0, 1.0));
        }
    }

    /// Between -1 and 1. It is noise for the ear, and no secret.
    fn white(&mut self) -> f32 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 17;
        self.random ^= self.random << 5;
        self.random as f32 / (u32::MAX / 2) as f32 - 1.0
    }
}

impl Default for ComfortNoise {
    fn default() -> Self {
        Self::new()
    }
}

/// The reflection coefficients of a sound, by Levinson and Durbin.
fn reflections(sound: &[f32]) -> impl Iterator<Item = f32> {
    let mut correlation = [0.0_f64; COMFORT_NOISE_ORDER + 1];
    for (lag, value) in correlation.iter_mut().enumerate() {
        let pairs = sound.iter().zip(sound.get(lag..).unwrap_or(&[]));
        *value = pairs.map(|(a, b)| f64::from(a * b)).sum();
    }
    // A little white noise keeps a pure tone from an unstable filter.
    let mut error = correlation[0] * 1.001 + 1e-9;
    let mut coefficients = [0.0_f64; COMFORT_NOISE_ORDER + 1];
    let mut found = [0.0_f32; COMFORT_NOISE_ORDER];
    for order in 0..COMFORT_NOISE_ORDER {
        let past = |i: usize| coefficients[i] * correlation[order + 1 - i];
        let k = -(correlation[order + 1] + (1..=order).map(past).sum::<f64>()) / error;
        let before = coefficients;
        for at in 1..=order {
            coefficients[at] += k * before[order + 1 - at];
        }
        coefficients[order + 1] = k;
        error *= 1.0 - k * k;
        found[order] = k as f32;
    }
    found.into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn power(sound: &[f32]) -> f32 {
        sound.iter().map(|s| s * s).sum::<f32>() / sound.len() as f32
    }

    /// Noise that was low stays low: its neighbours are alike; and noise that was high is not.
    #[test]
    fn the_shape_comes_over() {
        let alike = |sound: &[f32]| {
            sound.windows(2).map(|w| w[0] * w[1]).sum::<f32>()
                / sound.iter().map(|s| s * s).sum::<f32>()
        };
        for (tilt, low) in [(0.8, true), (-0.8, false)] {
            let (mut source, mut white) = (ComfortNoise::new(), Vec::new());
            source.level = 0.05;
            source.fill(4_000, &mut white);
            let mut before = 0.0;
            let shaped: Vec<f32> = white
                .iter()
                .map(|sample| {
                    before = before * tilt + sample;
                    before
                })
                .collect();
            let mut noise = ComfortNoise::new();
            noise.learn(&ComfortNoise::describe(&shaped));
            let mut made = Vec::new();
            noise.fill(4_000, &mut made);
            assert!((alike(&made) - alike(&shaped)).abs() < 0.1);
            assert_eq!(alike(&made) > 0.0, low);
            assert!((power(&made) / power(&shaped)).log10().abs() < 0.2);
        }
    }

    proptest! {
        /// Whatever a peer describes: as loud as it says at most by much, and never without end.
        #[test]
        fn no_description_is_louder_than_it_says(payload in prop::collection::vec(any::<u8>(), 0..40)) {
            let mut noise = ComfortNoise::new();
            noise.learn(&payload);
            let mut sound = Vec::new();
            noise.fill(4_000, &mut sound);
            prop_assert!(sound.iter().all(|sample| sample.is_finite()));
            let level = payload.first().map_or(0.0, |level| 10.0_f32.powf(-f32::from(level & 0x7F) / 20.0));
            prop_assert!(power(&sound).sqrt() <= level * 3.0 + 1e-6);
        }
    }
}
