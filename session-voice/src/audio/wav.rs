//! WAV files.

use super::{AudioError, SoundSink, SoundSource};
use hound::{SampleFormat, WavReader, WavSpec, WavWriter};
use std::{
    fmt,
    io::{Read, Seek, Write},
};

/// The sound of a WAV file, its channels mixed into one.
pub struct WavSource<R> {
    reader: WavReader<R>,
    spec: WavSpec,
}

impl<R: Read> WavSource<R> {
    /// Reads the head of a file.
    ///
    /// # Errors
    /// [`AudioError::Read`].
    pub fn new(file: R) -> Result<Self, AudioError> {
        let reader = WavReader::new(file).map_err(AudioError::Read)?;
        let spec = reader.spec();
        if spec.channels == 0 || spec.sample_rate == 0 {
            return Err(AudioError::Read(hound::Error::Unsupported));
        }
        Ok(Self { reader, spec })
    }

    /// Samples that the file says it has left, of one channel.
    pub fn remaining(&self) -> u64 {
        u64::from(self.reader.duration())
    }

    fn next(&mut self) -> Result<Option<f32>, AudioError> {
        let mut sum = 0.0;
        for _ in 0..self.spec.channels {
            let sample = match self.spec.sample_format {
                SampleFormat::Float => self.reader.samples::<f32>().next(),
                SampleFormat::Int => {
                    let full = (1_u64 << (self.spec.bits_per_sample - 1)) as f32;
                    let sample = self.reader.samples::<i32>().next();
                    sample.map(|sample| sample.map(|sample| sample as f32 / full))
                }
            };
            match sample {
                Some(sample) => sum += sample.map_err(AudioError::Read)?,
                None => return Ok(None),
            }
        }
        let sample = sum / f32::from(self.spec.channels);
        Ok(Some(if sample.is_finite() {
            sample.clamp(-1.0, 1.0)
        } else {
            0.0
        }))
    }
}

impl<R: Read + Send> SoundSource for WavSource<R> {
    fn sample_rate(&self) -> u32 {
        self.spec.sample_rate
    }

    fn read(&mut self, sound: &mut [f32]) -> Result<usize, AudioError> {
        for (at, sample) in sound.iter_mut().enumerate() {
            match self.next()? {
                Some(next) => *sample = next,
                None => return Ok(at),
            }
        }
        Ok(sound.len())
    }
}

/// Writes a WAV file of one channel with sixteen bits.
pub struct WavSink<W: Write + Seek> {
    writer: Option<WavWriter<W>>,
    sample_rate: u32,
}

impl<W: Write + Seek> WavSink<W> {
    /// Writes the head of a file.
    ///
    /// # Errors
    /// [`AudioError::Write`].
    pub fn new(file: W, sample_rate: u32) -> Result<Self, AudioError> {
        let spec = WavSpec {
            channels: 1,
            sample_rate,
            bits_per_sample: 16,
            sample_format: SampleFormat::Int,
        };
        let writer = WavWriter::new(file, spec).map_err(AudioError::Write)?;
        Ok(Self {
            writer: Some(writer),
            sample_rate,
        })
    }
}

impl<W: Write + Seek + Send> SoundSink for WavSink<W> {
    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn write(&mut self, sound: &[f32]) -> Result<(), AudioError> {
        let Some(writer) = &mut self.writer else {
            return Ok(());
        };
        for sample in sound {
            let sample = crate::codec::to_i16(*sample);
            writer.write_sample(sample).map_err(AudioError::Write)?;
        }
        Ok(())
    }

    fn finish(&mut self) -> Result<(), AudioError> {
        match self.writer.take() {
            Some(writer) => writer.finalize().map_err(AudioError::Write),
            None => Ok(()),
        }
    }
}

impl<R: Read> fmt::Debug for WavSource<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WavSource")
            .field("spec", &self.spec)
            .finish_non_exhaustive()
    }
}

impl<W: Write + Seek> fmt::Debug for WavSink<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WavSink")
            .field("sample_rate", &self.sample_rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    fn file(spec: WavSpec, samples: &[f32]) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        let mut writer = WavWriter::new(&mut bytes, spec).unwrap();
        for sample in samples {
            for _ in 0..spec.channels {
                match spec.sample_format {
                    SampleFormat::Float => writer.write_sample(*sample).unwrap(),
                    SampleFormat::Int => {
                        let full = (1_i64 << (spec.bits_per_sample - 1)) as f32;
                        writer.write_sample((sample * full) as i32).unwrap();
                    }
                }
            }
        }
        writer.finalize().unwrap();
        bytes.into_inner()
    }

    #[test]
    fn each_kind_is_read() {
        let samples = [0.0, 0.25, -0.5, 0.75, -0.875];
        for (bits_per_sample, sample_format) in [
            (8, SampleFormat::Int),
            (16, SampleFormat::Int),
            (24, SampleFormat::Int),
            (32, SampleFormat::Int),
            (32, SampleFormat::Float),
        ] {
            for channels in [1, 2] {
                let spec = WavSpec {
                    channels,
                    sample_rate: 22_050,
                    bits_per_sample,
                    sample_format,
                };
                let mut source = WavSource::new(Cursor::new(file(spec, &samples))).unwrap();
                assert_eq!((source.sample_rate(), source.remaining()), (22_050, 5));
                let mut read = [9.0; 8];
                assert_eq!(source.read(&mut read).unwrap(), 5);
                assert_eq!(read[..5], samples, "{spec:?}");
            }
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let mut bytes = Cursor::new(Vec::new());
        let mut sink = WavSink::new(&mut bytes, 48_000).unwrap();
        sink.write(&[0.5, -0.5, 2.0]).unwrap();
        sink.finish().unwrap();
        drop(sink);
        bytes.set_position(0);
        let mut source = WavSource::new(bytes).unwrap();
        let mut read = [0.0; 4];
        assert_eq!(source.read(&mut read).unwrap(), 3);
        assert_eq!(read[..2], [0.5, -0.5]);
        assert!((read[2] - 1.0).abs() < 0.001, "clipped");
    }

    proptest! {
        #[test]
        fn any_bytes_are_sound_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200), head: bool) {
            if head {
                let spec = WavSpec { channels: 2, sample_rate: 8_000, bits_per_sample: 16, sample_format: SampleFormat::Int };
                let mut whole = file(spec, &[0.5; 10]);
                for (at, byte) in bytes.iter().enumerate() {
                    let place = 20 + at % (whole.len() - 20);
                    whole[place] ^= byte & 0x11;
                }
                bytes = whole;
            }
            if let Ok(mut source) = WavSource::new(Cursor::new(bytes)) {
                let mut read = [0.0; 64];
                for _ in 0..10 {
                    if source.read(&mut read).is_err() {
                        break;
                    }
                }
                prop_assert!(read.iter().all(|sample| sample.is_finite()));
            }
        }
    }
}
