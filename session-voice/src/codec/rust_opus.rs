//! Opus in Rust alone: in-band copies, and concealment without a network.

use super::{
    CodecError,
    opus::{BIT_RATE, Library, NotEncoded, Opus, RATE, Tuning, broken},
};
use ropus::{
    Application, Bitrate, Channels, DecodeMode, Decoder, EncodeError, Encoder, InbandFec, Signal,
};

/// [`Opus`] in Rust alone.
pub type RustOpus = Opus<RustLibrary>;

/// ropus (feature `ropus`).
#[allow(missing_debug_implementations, reason = "the library shows nothing")]
pub struct RustLibrary {
    encoder: Encoder,
    decoder: Decoder,
}

impl RustOpus {
    /// At rest, for speech at 32 kbit/s and with the greatest complexity.
    ///
    /// # Errors
    /// [`CodecError::Broken`].
    pub fn new() -> Result<Self, CodecError> {
        let encoder = Encoder::builder(RATE, Channels::Mono, Application::Voip)
            .bitrate(Bitrate::Bits(BIT_RATE))
            .complexity(10)
            .signal(Signal::Voice)
            .build()
            .map_err(broken)?;
        let decoder = Decoder::new(RATE, Channels::Mono).map_err(broken)?;
        Ok(Self::with(RustLibrary { encoder, decoder }))
    }
}

impl Library for RustLibrary {
    const HAS_DEEP: bool = false;

    fn encode(&mut self, frame: &[f32], payload: &mut [u8]) -> Result<usize, NotEncoded> {
        let encoded = self.encoder.encode_float(frame, payload);
        encoded.map_err(|error| {
            if matches!(error, EncodeError::BadArg) {
                NotEncoded::Length
            } else {
                NotEncoded::Broken(error.to_string())
            }
        })
    }

    fn decode(&mut self, packet: &[u8], sound: &mut [f32], copy: bool) -> Result<usize, String> {
        let mode = match copy {
            true => DecodeMode::Fec,
            false => DecodeMode::Normal,
        };
        let decoded = self.decoder.decode_float(packet, sound, mode);
        decoded.map_err(|error| error.to_string())
    }

    fn decode_deep(&mut self, _: &[u8], _: &mut [f32]) -> bool {
        false
    }

    fn tune(&mut self, tuning: Tuning) {
        let copies = match tuning.copies {
            true => InbandFec::Enabled,
            false => InbandFec::Disabled,
        };
        let _ = self.encoder.set_bitrate(Bitrate::Bits(tuning.rate));
        let _ = self.encoder.set_inband_fec(copies);
        let _ = self.encoder.set_packet_loss_perc(tuning.loss);
    }

    fn set_dtx(&mut self, on: bool) {
        let _ = self.encoder.set_dtx(on);
    }
}
