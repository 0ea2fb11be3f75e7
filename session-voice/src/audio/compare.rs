//! How much of a recording arrived.

/// Samples per second at which recordings are compared: what is above 2 kHz does not count.
const RATE: u32 = 4_000;

/// How long the parts are that are looked for.
const PART: usize = RATE as usize / 4;

/// How far a part may be from where the others say that it is: buffers grow and shrink.
const NEAR: usize = RATE as usize / 4;

/// Loud parts that are looked for everywhere.
const SOUGHT: usize = 8;

/// Parts quieter than the loudest by this factor, in power, do not count.
const QUIET: f64 = 1e-3;

/// How alike a recording is to what was said: 1 where all of it is there, about 0.1 for something else of the same kind, 0 for
/// silence. They may begin at different instants, differ in loudness, and parts may have moved a little against each other.
///
/// It is the mean of the correlations of all parts of a quarter of a second, of what is below 2 kHz: a check that sound arrives,
/// and no measure of how good it is.
///
/// ```
/// use session_voice::audio::similarity;
/// let mut state = 1_u32;
/// let said: Vec<f32> = (0..48_000)
///     .map(|_| {
///         state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
///         (state >> 8) as f32 / (1 << 24) as f32 - 0.5
///     })
///     .collect();
/// let mut heard = vec![0.0; 12_000];
/// heard.extend(said.iter().map(|sample| sample * 0.3));
/// assert!(similarity(&said, &heard, 48_000) > 0.95);
/// assert!(similarity(&said, &vec![0.0; 48_000], 48_000) < 0.01);
/// ```
pub fn similarity(said: &[f32], heard: &[f32], sample_rate: u32) -> f64 {
    let (said, heard) = (slower(said, sample_rate), slower(heard, sample_rate));
    if heard.len() < PART {
        return 0.0;
    }
    let mut loud: Vec<(usize, &[f64])> = said.chunks_exact(PART).enumerate().collect();
    loud.sort_by(|(_, one), (_, two)| power(two).total_cmp(&power(one)));
    let least = loud.first().map_or(0.0, |(_, part)| power(part)) * QUIET;
    if least <= 0.0 {
        return 0.0;
    }
    // Where all of it is, as one of the loudest says: others may be missing.
    let sought = loud.iter().take(SOUGHT);
    let found = sought.map(|(number, part)| (*number, find(part, &heard, 0, heard.len())));
    let best = found.max_by(|(_, (_, one)), (_, (_, two))| one.total_cmp(two));
    let shift = best.map_or(0, |(number, (at, _))| at as i64 - (number * PART) as i64);
    let (mut sum, mut count) = (0.0, 0);
    for (number, part) in loud.into_iter().filter(|(_, part)| power(part) >= least) {
        let from = (number * PART) as i64 + shift - NEAR as i64;
        let until = usize::try_from(from + 2 * NEAR as i64).unwrap_or_default();
        let from = usize::try_from(from).unwrap_or_default();
        sum += find(part, &heard, from, until).1;
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// The mean of each few samples.
fn slower(sound: &[f32], sample_rate: u32) -> Vec<f64> {
    let each = (sample_rate / RATE).max(1) as usize;
    let mean = |few: &[f32]| few.iter().map(|s| f64::from(*s)).sum::<f64>() / each as f64;
    sound.chunks_exact(each).map(mean).collect()
}

fn power(sound: &[f64]) -> f64 {
    sound.iter().map(|s| s * s).sum()
}

/// Where in this range a part is the most like what was heard, and how much.
fn find(part: &[f64], heard: &[f64], from: usize, until: usize) -> (usize, f64) {
    let own = power(part);
    let mut best = (from, 0.0);
    let last = heard.len().saturating_sub(part.len());
    for at in from..=until.min(last) {
        let Some(there) = heard.get(at..at + part.len()) else {
            break;
        };
        let both: f64 = part.iter().zip(there).map(|(one, two)| one * two).sum();
        let powers = own * power(there);
        let like = if powers > 0.0 {
            both / powers.sqrt()
        } else {
            0.0
        };
        if like > best.1 {
            best = (at, like);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(seed: u32, samples: usize) -> Vec<f32> {
        let mut state = seed;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        (0..samples).map(|_| next()).collect()
    }

    #[test]
    fn what_is_missing_or_other_counts() {
        let said = noise(1, 32_000);
        assert!(similarity(&said, &said, 8_000) > 0.99);
        // A part that moved, as after a longer buffer.
        let mut moved = said[..16_000].to_vec();
        moved.extend([0.0; 400]);
        moved.extend(&said[16_000..]);
        assert!(similarity(&said, &moved, 8_000) > 0.95);
        let half = &said[..16_000];
        let like = similarity(&said, half, 8_000);
        assert!((0.45..0.65).contains(&like), "{like}");
        let other = similarity(&said, &noise(2, 32_000), 8_000);
        assert!(other < 0.25, "{other}");
        assert!(similarity(&said, &[], 8_000) < 0.01);
        assert!(similarity(&[], &said, 8_000) < 0.01);
    }
}
