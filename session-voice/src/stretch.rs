//! Sound made a little shorter or longer by whole periods of the voice, so that its pitch stays.

/// The pitches that are looked for, as periods in seconds.
const PERIODS: (f32, f32) = (0.0025, 0.0125);

/// How long two pieces are blended.
const BLEND: f32 = 0.004;

/// How alike pieces must be to be joined, 0 to 1.
const ALIKE: f32 = 0.85;

/// What counts as silence, of which any piece can be left out: -50 dB of full scale.
const SILENCE: f32 = 1e-5;

/// Leaves a period of the voice out of a frame. How many samples it has lost: none where the sound does not allow it.
///
/// ```
/// use session_voice::{lengthen, shorten};
/// let mut tone: Vec<f32> = (0..960).map(|at| (at as f32 / 48_000.0 * 440.0 * std::f32::consts::TAU).sin()).collect();
/// assert!(lengthen(&mut tone.clone(), 48_000) > 0);
/// let shorter = shorten(&mut tone, 48_000);
/// assert_eq!(tone.len(), 960 - shorter);
/// // Whole periods, of 109 samples each.
/// let periods = shorter as f32 * 440.0 / 48_000.0;
/// assert!(shorter > 0 && (periods - periods.round()).abs() < 0.05, "{periods}");
/// ```
pub fn shorten(frame: &mut Vec<f32>, sample_rate: u32) -> usize {
    let Some((lag, blend)) = joint(frame, sample_rate) else {
        return 0;
    };
    for at in 0..blend {
        let share = (at as f32 + 0.5) / blend as f32;
        frame[lag + at] = frame[at] * (1.0 - share) + frame[lag + at] * share;
    }
    frame.drain(..lag);
    lag
}

/// Says a period of the voice in a frame twice. How many samples it has won: none where the sound does not allow it.
pub fn lengthen(frame: &mut Vec<f32>, sample_rate: u32) -> usize {
    let Some((lag, blend)) = joint(frame, sample_rate) else {
        return 0;
    };
    let mut longer = frame[..lag].to_vec();
    for at in 0..blend {
        let share = (at as f32 + 0.5) / blend as f32;
        longer.push(frame[lag + at] * (1.0 - share) + frame[at] * share);
    }
    longer.extend_from_slice(&frame[blend..]);
    *frame = longer;
    lag
}

/// How far apart the beginning of a frame and its like are, and how long to blend them.
fn joint(frame: &[f32], sample_rate: u32) -> Option<(usize, usize)> {
    let samples = |seconds: f32| (seconds * sample_rate as f32) as usize;
    let (shortest, longest, blend) = (samples(PERIODS.0), samples(PERIODS.1), samples(BLEND));
    let window = frame.len().checked_sub(longest)?;
    if window < blend || blend == 0 {
        return None;
    }
    let power = frame.iter().map(|s| s * s).sum::<f32>() / frame.len() as f32;
    if power < SILENCE {
        return Some((longest, blend));
    }
    let lag = best_lag(frame, shortest, longest, window);
    (similarity(frame, lag, window) >= ALIKE).then_some((lag, blend))
}

/// The distance at which a sound is most like its own beginning. It is sought roughly first, and then exactly.
pub(crate) fn best_lag(sound: &[f32], shortest: usize, longest: usize, window: usize) -> usize {
    // Voices are low: every fourth sample of 48 kHz tells enough to know where to look.
    let step = (shortest / 30).max(1);
    let rough = |lag: &usize| similarity_by(sound, *lag, window, step);
    let best = (shortest..=longest)
        .step_by(step)
        .max_by(|a, b| rough(a).total_cmp(&rough(b)))
        .unwrap_or(shortest);
    let near = best.saturating_sub(step).max(shortest)..=(best + step).min(longest);
    let exact = |lag: &usize| similarity(sound, *lag, window);
    near.max_by(|a, b| exact(a).total_cmp(&exact(b)))
        .unwrap_or(best)
}

/// How alike a sound and itself `lag` later are over a window: 1 is equal but for the volume.
pub(crate) fn similarity(sound: &[f32], lag: usize, window: usize) -> f32 {
    similarity_by(sound, lag, window, 1)
}

fn similarity_by(sound: &[f32], lag: usize, window: usize, step: usize) -> f32 {
    let (mut both, mut one, mut two) = (0.0_f32, 1e-9_f32, 1e-9_f32);
    let later = sound.get(lag..).unwrap_or(&[]);
    for (a, b) in sound.iter().zip(later).take(window).step_by(step) {
        both += a * b;
        one += a * a;
        two += b * b;
    }
    both / (one * two).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voice(pitch: f32, at: usize) -> f32 {
        let time = at as f32 / 48_000.0;
        (1..6)
            .map(|n| (time * pitch * n as f32 * std::f32::consts::TAU).sin() * 0.2 / n as f32)
            .sum()
    }

    /// What was cut or repeated joins without a step, and the voice keeps its pitch.
    #[test]
    fn a_voice_stays_smooth_and_keeps_its_pitch() {
        for pitch in [85.0, 120.0, 200.0, 330.0] {
            for stretch in [shorten, lengthen] {
                let mut frame: Vec<f32> = (0..960).map(|at| voice(pitch, at)).collect();
                let steepest = |frame: &[f32]| {
                    frame
                        .windows(2)
                        .map(|w| (w[1] - w[0]).abs())
                        .fold(0.0, f32::max)
                };
                let before = steepest(&frame);
                let changed = stretch(&mut frame, 48_000);
                assert!(changed >= 120, "{pitch} Hz");
                let periods = changed as f32 * pitch / 48_000.0;
                assert!(
                    (periods - periods.round()).abs() < 0.03,
                    "{pitch}: {periods}"
                );
                assert!(steepest(&frame) < before * 1.2, "{pitch} Hz");
            }
        }
    }

    #[test]
    fn noise_is_left_alone_and_silence_is_not() {
        let mut random = 7_u32;
        let mut noise: Vec<f32> = (0..960)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 8) as f32 / (1 << 24) as f32 - 0.5
            })
            .collect();
        assert_eq!(shorten(&mut noise, 48_000), 0);
        let mut silence = vec![0.0; 960];
        assert_eq!(shorten(&mut silence, 48_000), 600);
        assert_eq!(lengthen(&mut Vec::new(), 8_000), 0);
    }
}
