//! Codecs of speech behind one trait: encode, decode, and make up what is missing.
//!
//! Sound is one channel of `f32` samples between -1 and 1, at the codec's own rate ([`AudioCodec::sample_rate`]).
//! G.711 is always there. `g722`, `ropus` (Opus in Rust alone) and `opus` (Opus by libopus) are features.

mod activity;
mod conceal;
mod g711;
#[cfg(feature = "g722")]
mod g722;
#[cfg(feature = "opus")]
mod libopus;
mod noise;
#[cfg(any(feature = "opus", feature = "ropus"))]
mod opus;
pub(crate) mod opus_packet;
#[cfg(feature = "ropus")]
mod rust_opus;
#[cfg(test)]
mod tests;

pub use activity::SpeechActivity;
pub use g711::{G711, Law};
#[cfg(feature = "g722")]
pub use g722::G722;
#[cfg(feature = "opus")]
pub use libopus::{CLibrary, LibOpus};
pub use noise::{COMFORT_NOISE_ORDER, ComfortNoise};
#[cfg(any(feature = "opus", feature = "ropus"))]
pub use opus::Opus;
#[cfg(feature = "ropus")]
pub use rust_opus::{RustLibrary, RustOpus};

use crate::{CodecQuality, PayloadType};
use thiserror::Error;

/// Why a codec could not do something. It goes on with the next frame.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CodecError {
    /// The payload is none of this codec's.
    #[error("the payload is no {codec}: {why}")]
    Payload {
        /// The codec.
        codec: &'static str,
        /// What the codec says.
        why: String,
    },
    /// Sound of this length cannot be encoded.
    #[error("{codec} has no frames of {samples} samples")]
    Length {
        /// The codec.
        codec: &'static str,
        /// How many samples there were.
        samples: usize,
    },
    /// The codec itself failed, such as for want of memory.
    #[error("{codec} failed: {why}")]
    Broken {
        /// The codec.
        codec: &'static str,
        /// What the codec says.
        why: String,
    },
}

/// What the peer reports of our packets, by which an encoder chooses its redundancy.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossPattern {
    /// The share of packets that are lost, 0 to 1.
    pub loss: f64,
    /// How many are lost in a row, on average; 1 is chance.
    pub burst: f64,
}

impl LossPattern {
    /// Losses in a row at which a copy in the next packet no longer helps.
    pub const BURST: f64 = 2.0;

    /// Whether packets are lost several at a time.
    pub fn is_bursty(&self) -> bool {
        self.loss > 0.01 && self.burst >= Self::BURST
    }
}

/// Sound that follows on what was before, to be encoded and decoded for one call. Both directions are in one value, and
/// do not touch each other.
pub trait AudioCodec: Send {
    /// The name that an RTP description has for it.
    fn name(&self) -> &'static str;

    /// Samples per second, of what is encoded and of what is decoded.
    fn sample_rate(&self) -> u32;

    /// How the codec counts in the E-model.
    fn quality(&self) -> CodecQuality;

    /// Encodes a frame, and puts its bytes in place of what was in `payload`. None of them means that nothing has to be
    /// sent (DTX).
    ///
    /// # Errors
    /// [`CodecError::Length`] for a length that the codec does not have, [`CodecError::Broken`].
    fn encode(&mut self, frame: &[f32], payload: &mut Vec<u8>) -> Result<(), CodecError>;

    /// Decodes a payload to the end of `sound`.
    ///
    /// # Errors
    /// [`CodecError::Payload`]; then nothing was added.
    fn decode(&mut self, payload: &[u8], sound: &mut Vec<f32>) -> Result<(), CodecError>;

    /// Decodes the copy of a missing frame of `samples` samples that a later packet has, which is `distance` frames behind
    /// it. Whether there was one; if not, nothing was added.
    fn recover(&mut self, from: &[u8], distance: u32, samples: usize, sound: &mut Vec<f32>)
    -> bool;

    /// Adds something that sounds like what was before.
    fn conceal(&mut self, samples: usize, sound: &mut Vec<f32>);

    /// Fits the redundancy of what is encoded to what the network loses.
    fn adapt(&mut self, pattern: LossPattern);

    /// Whether frames without speech are left out. Where the codec cannot tell, nothing changes.
    fn set_dtx(&mut self, on: bool);
}

/// The codecs that this build has, in order of preference, each under a usual payload type, with digits and comfort
/// noise behind them.
///
/// ```
/// use session_voice::{codec_for, codecs};
/// assert!(codecs().iter().any(|codec| codec.is("PCMA")));
/// assert!(codecs().iter().filter(|codec| codec_for(codec).is_some()).count() >= 2);
/// ```
pub fn codecs() -> Vec<PayloadType> {
    let mut codecs = Vec::new();
    let has_opus = cfg!(any(feature = "opus", feature = "ropus"));
    if has_opus {
        codecs.push(PayloadType::opus(111));
    }
    if cfg!(feature = "g722") {
        codecs.extend(PayloadType::of_id(9));
    }
    codecs.extend([0, 8, 13].into_iter().filter_map(PayloadType::of_id));
    let digits = |id, rate| PayloadType::new(id, crate::TELEPHONE_EVENT, rate);
    if has_opus {
        codecs.push(digits(110, 48_000));
    }
    codecs.push(digits(101, 8_000));
    codecs
}

/// The codec of a payload type; none if this build does not have it.
pub fn codec_for(payload_type: &PayloadType) -> Option<Box<dyn AudioCodec>> {
    if payload_type.is("PCMU") {
        return Some(Box::new(G711::new(Law::Mu)));
    }
    if payload_type.is("PCMA") {
        return Some(Box::new(G711::new(Law::A)));
    }
    #[cfg(feature = "g722")]
    if payload_type.is("G722") {
        return Some(Box::new(G722::new()));
    }
    #[cfg(feature = "opus")]
    if payload_type.is("opus") {
        return LibOpus::new().ok().map(|codec| Box::new(codec) as _);
    }
    #[cfg(all(feature = "ropus", not(feature = "opus")))]
    if payload_type.is("opus") {
        return RustOpus::new().ok().map(|codec| Box::new(codec) as _);
    }
    None
}

/// A sample as sixteen bits.
pub(crate) fn to_i16(sample: f32) -> i16 {
    // The cast goes to the nearest that fits, and not a number becomes 0.
    (sample * 32_768.0).round() as i16
}

/// A sample of sixteen bits.
pub(crate) fn to_f32(sample: i16) -> f32 {
    f32::from(sample) / 32_768.0
}
