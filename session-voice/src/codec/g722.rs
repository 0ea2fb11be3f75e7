//! G.722: wideband speech in 64 kbit/s (ITU-T G.722).

use super::{AudioCodec, CodecError, LossPattern, conceal::Concealer, to_f32, to_i16};
use crate::CodecQuality;
use audio_codec::{
    Decoder as _, Encoder as _,
    g722::{G722Decoder, G722Encoder},
};
use std::fmt;

/// Samples of a payload at most: what two bytes short of a datagram of 64 KiB hold is never asked for.
const SAMPLES_MAX: usize = 8_192;

/// G.722 at 64 kbit/s, with concealment by the pitch of what was before.
pub struct G722 {
    encoder: G722Encoder,
    decoder: G722Decoder,
    concealer: Concealer,
    samples: Vec<i16>,
}

impl G722 {
    /// At rest.
    pub fn new() -> Self {
        Self {
            encoder: G722Encoder::new(),
            decoder: G722Decoder::new(),
            concealer: Concealer::new(16_000),
            samples: Vec::new(),
        }
    }
}

impl Default for G722 {
    fn default() -> Self {
        Self::new()
    }
}

impl AudioCodec for G722 {
    fn name(&self) -> &'static str {
        "G722"
    }

    fn sample_rate(&self) -> u32 {
        16_000
    }

    fn quality(&self) -> CodecQuality {
        CodecQuality::G722
    }

    fn encode(&mut self, frame: &[f32], payload: &mut Vec<u8>) -> Result<(), CodecError> {
        payload.clear();
        self.samples.clear();
        self.samples.extend(frame.iter().copied().map(to_i16));
        payload.resize(self.encoder.max_encode_bytes(frame.len()), 0);
        match self.encoder.encode_into(&self.samples, payload) {
            Ok(length) => payload.truncate(length),
            Err(error) => {
                return Err(CodecError::Broken {
                    codec: "G722",
                    why: format!("{error:?}"),
                });
            }
        }
        Ok(())
    }

    fn decode(&mut self, payload: &[u8], sound: &mut Vec<f32>) -> Result<(), CodecError> {
        let bad = |why: String| CodecError::Payload { codec: "G722", why };
        let most = self.decoder.max_decode_samples(payload.len());
        if most > SAMPLES_MAX {
            return Err(bad(format!("{} bytes are too many", payload.len())));
        }
        self.samples.resize(most, 0);
        let made = self.decoder.decode_into(payload, &mut self.samples);
        let made = made.map_err(|error| bad(format!("{error:?}")))?;
        let from = sound.len();
        sound.extend(self.samples.iter().take(made).copied().map(to_f32));
        self.concealer.heard(&mut sound[from..]);
        Ok(())
    }

    fn recover(&mut self, _: &[u8], _: u32, _: usize, _: &mut Vec<f32>) -> bool {
        false
    }

    fn conceal(&mut self, samples: usize, sound: &mut Vec<f32>) {
        self.concealer.conceal(samples, sound);
    }

    fn adapt(&mut self, _: LossPattern) {}

    fn set_dtx(&mut self, _: bool) {}
}

impl fmt::Debug for G722 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("G722").finish_non_exhaustive()
    }
}
