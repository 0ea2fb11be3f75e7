//! Opus by libopus: in-band copies for single losses, deep redundancy for bursts, and concealment by a network that has
//! learned voices.

use super::{
    CodecError,
    opus::{BIT_RATE, Library, NotEncoded, Opus, Tuning, broken},
};
use opusic_c::{
    Application, Bitrate, Channels, Decoder, ErrorCode, InbandFec, SampleRate, dred::Dred,
};

/// How far back deep redundancy reaches, in units of 10 ms: one second.
const DEPTH: u8 = 100;

/// [`Opus`] by libopus.
pub type LibOpus = Opus<CLibrary>;

/// libopus (feature `opus`).
#[allow(missing_debug_implementations, reason = "the library shows nothing")]
pub struct CLibrary {
    encoder: opusic_c::Encoder,
    decoder: Dred,
}

impl LibOpus {
    /// At rest, for speech at 32 kbit/s and with the greatest complexity.
    ///
    /// # Errors
    /// [`CodecError::Broken`], for want of memory.
    pub fn new() -> Result<Self, CodecError> {
        let new = || {
            let (channels, rate) = (Channels::Mono, SampleRate::Hz48000);
            let mut encoder = opusic_c::Encoder::new(channels, rate, Application::Voip)?;
            encoder.set_bitrate(Bitrate::Value(BIT_RATE))?;
            encoder.set_complexity(10)?;
            encoder.set_signal(opusic_c::Signal::Voice)?;
            let mut decoder = Decoder::new(channels, rate)?;
            // From 5 on, what is lost is made up by a network that has learned voices.
            decoder.set_complexity(6)?;
            let decoder = Dred::new(decoder)?;
            Ok(CLibrary { encoder, decoder })
        };
        let library = new().map_err(|error: ErrorCode| broken(error.message()))?;
        Ok(Self::with(library))
    }
}

impl Library for CLibrary {
    const HAS_DEEP: bool = true;

    fn encode(&mut self, frame: &[f32], payload: &mut [u8]) -> Result<usize, NotEncoded> {
        let encoded = self.encoder.encode_float_to_slice(frame, payload);
        encoded.map_err(|error| {
            if error == ErrorCode::BadArg {
                NotEncoded::Length
            } else {
                NotEncoded::Broken(error.message().to_owned())
            }
        })
    }

    fn decode(&mut self, packet: &[u8], sound: &mut [f32], copy: bool) -> Result<usize, String> {
        let decoder = self.decoder.decoder_mut();
        let decoded = decoder.decode_float_to_slice(packet, sound, copy);
        decoded.map_err(|error| error.message().to_owned())
    }

    fn decode_deep(&mut self, packet: &[u8], sound: &mut [f32]) -> bool {
        self.decoder.decode_float_to_slice(packet, sound) == Ok(sound.len())
    }

    fn tune(&mut self, tuning: Tuning) {
        let copies = match tuning.copies {
            true => InbandFec::Mode1,
            false => InbandFec::Off,
        };
        let depth = if tuning.deep { DEPTH } else { 0 };
        let _ = self.encoder.set_inband_fec(copies);
        let _ = self.encoder.set_packet_loss(tuning.loss);
        let _ = self.encoder.set_dred_duration(depth);
        let _ = self.encoder.set_bitrate(Bitrate::Value(tuning.rate));
    }

    fn set_dtx(&mut self, on: bool) {
        let _ = self.encoder.set_dtx(on);
    }
}
