//! Microphone and loudspeaker (feature `devices`).

use super::{AudioError, SoundSink, SoundSource};
use cpal::{
    BufferSize, Device, SampleFormat, Stream, StreamConfig,
    traits::{DeviceTrait, HostTrait, StreamTrait},
};
use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

/// Sound between a device and a call at most, in seconds: what is older is left out, so that delay does not pile up.
const BUFFER_MAX: f32 = 0.25;

/// What is between a device and a call.
#[derive(Clone, Debug)]
struct Buffer {
    sound: Arc<Mutex<VecDeque<f32>>>,
    most: usize,
}

impl Buffer {
    fn new(sample_rate: u32) -> Self {
        Self {
            sound: Arc::default(),
            most: (sample_rate as f32 * BUFFER_MAX) as usize,
        }
    }

    fn push(&self, sound: impl Iterator<Item = f32>) {
        let mut buffer = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        buffer.extend(sound);
        let excess = buffer.len().saturating_sub(self.most);
        buffer.drain(..excess);
    }

    /// As much as there is, and silence behind it.
    fn pull(&self, sound: impl Iterator<Item = impl FnOnce(f32)>) {
        let mut buffer = self.sound.lock().unwrap_or_else(PoisonError::into_inner);
        for put in sound {
            put(buffer.pop_front().unwrap_or(0.0));
        }
    }
}

/// The default microphone of the system.
pub struct Microphone {
    buffer: Buffer,
    sample_rate: u32,
    _stream: Stream,
}

/// The default loudspeaker of the system.
pub struct Loudspeaker {
    buffer: Buffer,
    sample_rate: u32,
    _stream: Stream,
}

impl Microphone {
    /// Starts it.
    ///
    /// # Errors
    /// [`AudioError::NoDevice`].
    pub fn open() -> Result<Self, AudioError> {
        const NAME: &str = "microphone";
        let device = cpal::default_host().default_input_device();
        let device = device.ok_or_else(|| none(NAME, &"the system names none"))?;
        let config = device.default_input_config();
        let config = config.map_err(|error| none(NAME, &error))?;
        let (format, config) = (config.sample_format(), fitted(config.config()));
        let buffer = Buffer::new(config.sample_rate);
        let stream = listen(&device, config, format, buffer.clone());
        let stream = stream.and_then(|stream| stream.play().map(|()| stream));
        Ok(Self {
            buffer,
            sample_rate: config.sample_rate,
            _stream: stream.map_err(|error| none(NAME, &error))?,
        })
    }
}

impl Loudspeaker {
    /// Starts it.
    ///
    /// # Errors
    /// [`AudioError::NoDevice`].
    pub fn open() -> Result<Self, AudioError> {
        const NAME: &str = "loudspeaker";
        let device = cpal::default_host().default_output_device();
        let device = device.ok_or_else(|| none(NAME, &"the system names none"))?;
        let config = device.default_output_config();
        let config = config.map_err(|error| none(NAME, &error))?;
        let (format, config) = (config.sample_format(), fitted(config.config()));
        let buffer = Buffer::new(config.sample_rate);
        let stream = speak(&device, config, format, buffer.clone());
        let stream = stream.and_then(|stream| stream.play().map(|()| stream));
        Ok(Self {
            buffer,
            sample_rate: config.sample_rate,
            _stream: stream.map_err(|error| none(NAME, &error))?,
        })
    }
}

impl SoundSource for Microphone {
    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn read(&mut self, sound: &mut [f32]) -> Result<usize, AudioError> {
        let count = sound.len();
        self.buffer
            .pull(sound.iter_mut().map(|place| |sample| *place = sample));
        Ok(count)
    }
}

impl SoundSink for Loudspeaker {
    fn sample_rate(&self) -> u32 {
        self.sample_rate
    }

    fn write(&mut self, sound: &[f32]) -> Result<(), AudioError> {
        self.buffer.push(sound.iter().copied());
        Ok(())
    }

    fn finish(&mut self) -> Result<(), AudioError> {
        Ok(())
    }
}

fn listen(
    device: &Device,
    config: StreamConfig,
    format: SampleFormat,
    buffer: Buffer,
) -> Result<Stream, cpal::Error> {
    let channels = usize::from(config.channels).max(1);
    // What a device says while it runs is heard, or rather not.
    let ignore = |_| {};
    if format == SampleFormat::I16 {
        let take = move |sound: &[i16], _: &cpal::InputCallbackInfo| {
            let first = sound.iter().step_by(channels);
            buffer.push(first.map(|sample| crate::codec::to_f32(*sample)));
        };
        return device.build_input_stream(config, take, ignore, None);
    }
    let take = move |sound: &[f32], _: &cpal::InputCallbackInfo| {
        buffer.push(sound.iter().step_by(channels).copied());
    };
    device.build_input_stream(config, take, ignore, None)
}

fn speak(
    device: &Device,
    config: StreamConfig,
    format: SampleFormat,
    buffer: Buffer,
) -> Result<Stream, cpal::Error> {
    let channels = usize::from(config.channels).max(1);
    let ignore = |_| {};
    if format == SampleFormat::I16 {
        let give = move |sound: &mut [i16], _: &cpal::OutputCallbackInfo| {
            let frames = sound.chunks_mut(channels);
            buffer.pull(frames.map(|frame| |sample| frame.fill(crate::codec::to_i16(sample))));
        };
        return device.build_output_stream(config, give, ignore, None);
    }
    let give = move |sound: &mut [f32], _: &cpal::OutputCallbackInfo| {
        let frames = sound.chunks_mut(channels);
        buffer.pull(frames.map(|frame| |sample| frame.fill(sample)));
    };
    device.build_output_stream(config, give, ignore, None)
}

fn fitted(config: StreamConfig) -> StreamConfig {
    StreamConfig {
        buffer_size: BufferSize::Default,
        ..config
    }
}

fn none(device: &'static str, why: &dyn fmt::Display) -> AudioError {
    AudioError::NoDevice {
        device,
        // Of a sentence of its own, a part of ours.
        why: why.to_string().trim_end_matches('.').to_owned(),
    }
}

impl fmt::Debug for Microphone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Microphone")
            .field("sample_rate", &self.sample_rate)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Loudspeaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loudspeaker")
            .field("sample_rate", &self.sample_rate)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With or without sound in this machine: it works, or says what is missing and what to try.
    #[test]
    fn a_missing_device_is_told() {
        let errors = [Microphone::open().err(), Loudspeaker::open().err()];
        for error in errors.into_iter().flatten() {
            let text = error.to_string();
            assert!(
                text.contains("there is no") && text.contains("--play") && !text.contains(".;"),
                "{text}"
            );
        }
    }

    #[test]
    fn delay_does_not_pile_up() {
        let buffer = Buffer::new(1_000);
        buffer.push((0..1_000).map(|at| at as f32));
        let mut sound = [0.0; 300];
        buffer.pull(sound.iter_mut().map(|place| |sample| *place = sample));
        assert_eq!((sound[0], sound[249], sound[250]), (750.0, 999.0, 0.0));
    }
}
