//! Tones in WAV files: what is said, and whether it was heard.

use std::{f64::consts::TAU, path::Path};

use hound::{SampleFormat, WavReader, WavSpec, WavWriter};

const RATE: u32 = 48_000;
/// Which part of a block's energy has to be the tone for the block to count.
const SHARE: f64 = 0.8;
/// How loud it has to be at least, on average (of 1).
const LOUD: f64 = 0.03;

/// Writes a tone at half of full scale.
pub(crate) fn write_tone(path: &Path, hertz: u32, seconds: f64) -> Result<(), String> {
    let spec = WavSpec {
        channels: 1,
        sample_rate: RATE,
        bits_per_sample: 16,
        sample_format: SampleFormat::Int,
    };
    let written = || -> Result<(), hound::Error> {
        let mut writer = WavWriter::create(path, spec)?;
        for at in 0..(seconds * f64::from(RATE)) as u32 {
            let phase = TAU * f64::from(hertz) * f64::from(at) / f64::from(RATE);
            writer.write_sample((phase.sin() * 16_000.0) as i16)?;
        }
        writer.finalize()
    };
    written().map_err(|error| format!("{}: {error}", path.display()))
}

/// For how many seconds a recording is this tone and little else, counted in tenths.
pub(crate) fn tone_seconds(path: &Path, hertz: u32) -> Result<f64, String> {
    let told = |error: hound::Error| format!("{}: {error}", path.display());
    let mut reader = WavReader::open(path).map_err(told)?;
    let spec = reader.spec();
    let samples: Result<Vec<f64>, _> = match spec.sample_format {
        SampleFormat::Int => {
            let full = f64::from(1_u32 << (spec.bits_per_sample - 1));
            let samples = reader.samples::<i32>();
            samples
                .map(|sample| sample.map(|sample| f64::from(sample) / full))
                .collect()
        }
        SampleFormat::Float => {
            let samples = reader.samples::<f32>();
            samples.map(|sample| sample.map(f64::from)).collect()
        }
    };
    let samples = samples.map_err(told)?;
    let step = TAU * f64::from(hertz) / f64::from(spec.sample_rate);
    let blocks = samples.chunks_exact(spec.sample_rate as usize / 10);
    Ok(blocks.filter(|block| is_tone(block, step)).count() as f64 / 10.0)
}

fn is_tone(block: &[f64], step: f64) -> bool {
    let (mut real, mut imaginary, mut energy) = (0.0, 0.0, 0.0);
    for (at, sample) in block.iter().enumerate() {
        let (sine, cosine) = (step * at as f64).sin_cos();
        real += sample * cosine;
        imaginary += sample * sine;
        energy += sample * sample;
    }
    let size = block.len() as f64;
    let of_tone = (real * real + imaginary * imaginary) * 2.0 / size;
    energy > LOUD * LOUD * size && of_tone > SHARE * energy
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Folder;

    #[test]
    fn a_tone_is_heard_as_itself_and_nothing_else() {
        let folder = Folder::new("tones").unwrap();
        let path = folder.path().join("tone.wav");
        write_tone(&path, 440, 1.25).unwrap();
        assert!((tone_seconds(&path, 440).unwrap() - 1.2).abs() < 1e-9);
        assert!(tone_seconds(&path, 660).unwrap() < 1e-9);
        write_tone(&path, 0, 1.0).unwrap();
        assert!(tone_seconds(&path, 0).unwrap() < 1e-9, "silence is no tone");
        assert!(tone_seconds(&folder.path().join("none"), 440).is_err());
    }
}
