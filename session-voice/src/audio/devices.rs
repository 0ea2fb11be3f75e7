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

/// What of it may always be left when sound is taken, in seconds: more is delay that a stall has left, and that nobody needs.
const SURPLUS: f32 = 0.02;

/// Over how much of the sound one end of a cut becomes the other, in seconds.
const FADE: f32 = 0.005;

/// What is between a device and a call.
#[derive(Clone, Debug)]
struct Buffer {
    held: Arc<Mutex<Held>>,
    sample_rate: u32,
}

#[derive(Debug, Default)]
struct Held {
    sound: VecDeque<f32>,
    /// Somebody has asked for sound: what came before is of no time that anybody wants to hear.
    wanted: bool,
    /// How much was taken since the last look at it, and the least that was left.
    taken: usize,
    least: Option<usize>,
}

impl Buffer {
    fn new(sample_rate: u32) -> Self {
        Self {
            held: Arc::default(),
            sample_rate,
        }
    }

    fn push(&self, sound: impl Iterator<Item = f32>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if !held.wanted {
            return;
        }
        held.sound.extend(sound);
        let excess = held.sound.len().saturating_sub(self.samples(BUFFER_MAX));
        held.sound.drain(..excess);
    }

    /// As much as there is, and silence behind it.
    fn pull(&self, sound: impl Iterator<Item = impl FnOnce(f32)>) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.wanted = true;
        for put in sound {
            put(held.sound.pop_front().unwrap_or(0.0));
            held.taken += 1;
        }
        let left = held.sound.len();
        let least = held.least.map_or(left, |least| least.min(left));
        held.least = Some(least);
        // What was left for a whole second is needed by nobody.
        if held.taken >= self.samples(1.0) {
            let surplus = least.saturating_sub(self.samples(SURPLUS));
            cut(&mut held.sound, surplus, self.samples(FADE));
            (held.taken, held.least) = (0, None);
        }
    }

    fn samples(&self, seconds: f32) -> usize {
        (self.sample_rate as f32 * seconds) as usize
    }
}

/// Leaves out so many samples, so that it is not heard as a crack.
fn cut(sound: &mut VecDeque<f32>, count: usize, fade: usize) {
    let fade = fade.min(sound.len().saturating_sub(count));
    // From the end on, because what is written may be what is read.
    for at in (0..fade).rev() {
        let share = (at + 1) as f32 / (fade + 1) as f32;
        sound[count + at] = sound[at] * (1.0 - share) + sound[count + at] * share;
    }
    sound.drain(..count);
}

/// The default microphone of the system. What it records before it is first read is left out.
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

    fn pulled<const COUNT: usize>(buffer: &Buffer) -> [f32; COUNT] {
        let mut sound = [0.0; COUNT];
        buffer.pull(sound.iter_mut().map(|place| |sample| *place = sample));
        sound
    }

    #[test]
    fn delay_does_not_pile_up() {
        let buffer = Buffer::new(1_000);
        pulled::<0>(&buffer);
        buffer.push((0..1_000).map(|at| at as f32));
        let sound = pulled::<300>(&buffer);
        assert_eq!((sound[0], sound[249], sound[250]), (750.0, 999.0, 0.0));
    }

    /// What was recorded while nobody listened is not what is said now.
    #[test]
    fn sound_begins_when_it_is_first_asked_for() {
        let buffer = Buffer::new(1_000);
        buffer.push((0..1_000).map(|_| 1.0));
        assert_eq!(pulled(&buffer), [0.0; 10]);
        buffer.push((0..10).map(|_| 2.0));
        assert_eq!(pulled(&buffer), [2.0; 10]);
    }

    /// Delay that a stall has left is taken back, and where it was nothing cracks.
    #[test]
    fn delay_does_not_stay() {
        let buffer = Buffer::new(1_000);
        pulled::<0>(&buffer);
        let wave = |at: u32| (at as f32 / 40.0).sin();
        buffer.push((0..1_000).map(wave));
        let mut heard = Vec::new();
        for step in 0..300 {
            buffer.push((0..10).map(|at| wave(1_000 + step * 10 + at)));
            heard.extend(pulled::<10>(&buffer));
        }
        let left = buffer.held.lock().unwrap().sound.len();
        assert!((15..=30).contains(&left), "{left}");
        let steps = heard.windows(2).map(|pair| (pair[1] - pair[0]).abs());
        let steepest = steps.fold(0.0, f32::max);
        assert!(steepest < 0.5, "{steepest}");
        // What comes in larger pieces than it goes is no surplus.
        for step in 0..100 {
            buffer.push((0..60).map(wave));
            for at in 0..6 {
                let sound = pulled::<10>(&buffer);
                assert!(step == 0 || sound[9] != 0.0, "{step}, {at}");
            }
        }
    }
}
