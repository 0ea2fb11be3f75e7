//! Where sound comes from and goes to (feature `audio`): WAV files, tones, devices, and what is between them and a codec.
//!
//! [`SoundSource`] and [`SoundSink`] have one channel at a rate of their own; [`Resampler`] fits them to a codec. Nothing here
//! reads a clock: whoever runs a call asks for as much sound as time has passed.

mod compare;
#[cfg(feature = "devices")]
mod devices;
#[cfg(feature = "enhance")]
mod enhance;
mod mix;
mod resample;
mod tone;
mod wav;

pub use compare::similarity;
#[cfg(feature = "devices")]
pub use devices::{Loudspeaker, Microphone};
#[cfg(feature = "enhance")]
pub use enhance::Enhancer;
pub use mix::{Mixer, limit};
pub use resample::Resampler;
pub use tone::{Babble, Tone};
pub use wav::{WavSink, WavSource};

use thiserror::Error;

/// Sound of one channel that follows on what was before.
pub trait SoundSource: Send {
    /// Samples per second.
    fn sample_rate(&self) -> u32;

    /// Fills `sound` as far as there is any, and says how far: less than all only at its end. A source that is behind, such
    /// as a microphone, fills up with silence.
    ///
    /// # Errors
    /// [`AudioError`]; then there is no more.
    fn read(&mut self, sound: &mut [f32]) -> Result<usize, AudioError>;
}

/// Takes sound of one channel.
pub trait SoundSink: Send {
    /// Samples per second.
    fn sample_rate(&self) -> u32;

    /// Takes what follows on what was before.
    ///
    /// # Errors
    /// [`AudioError`].
    fn write(&mut self, sound: &[f32]) -> Result<(), AudioError>;

    /// There is no more. Files are whole only after it.
    ///
    /// # Errors
    /// [`AudioError`].
    fn finish(&mut self) -> Result<(), AudioError>;
}

/// Why there is no sound. Each says what to try.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum AudioError {
    /// The file is no WAV, or of a kind that is not known.
    #[error("the WAV file cannot be read: {0}; integers of 8 to 32 bits and floats of 32 bits can")]
    Read(#[source] hound::Error),
    /// The file cannot be written.
    #[error("the WAV file cannot be written: {0}; is there room, and may you write there?")]
    Write(#[source] hound::Error),
    /// There is no such device.
    #[error("there is no {device}: {why}; use files instead (--play, --record)")]
    NoDevice {
        /// `microphone` or `loudspeaker`.
        device: &'static str,
        /// What the system says.
        why: String,
    },
    /// These rates have no resampler.
    #[error("{from} samples per second cannot become {to}: {why}")]
    Rates {
        /// Samples per second.
        from: u32,
        /// Samples per second.
        to: u32,
        /// What the resampler says.
        why: String,
    },
}
