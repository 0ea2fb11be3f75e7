//! Opus in Rust alone (RFC 6716, RFC 7587): in-band copies, and concealment without a network.

use super::{AudioCodec, CodecError, LossPattern, opus_packet};
use crate::CodecQuality;
use ropus::{
    Application, Bitrate, Channels, DecodeMode, Decoder, EncodeError, Encoder, InbandFec, Signal,
};
use std::fmt;

/// Samples per second.
const RATE: u32 = 48_000;

/// The longest packet that there is: 120 ms.
const PACKET_MAX: usize = 5_760;

/// Bits per second on a network that loses nothing.
const BIT_RATE: u32 = 32_000;

/// Bits per second from this share of lost packets on: copies would take them from the sound itself.
const LOSSY: (f64, u32) = (0.03, 36_000);

/// From this share of lost packets on, copies are worth their bits.
const COPIES_FROM: f64 = 0.01;

/// Opus, one channel at 48 kHz.
pub struct RustOpus {
    encoder: Encoder,
    decoder: Decoder,
    buffer: Vec<f32>,
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
        Ok(Self {
            encoder,
            decoder: Decoder::new(RATE, Channels::Mono).map_err(broken)?,
            buffer: vec![0.0; PACKET_MAX],
        })
    }
}

impl AudioCodec for RustOpus {
    fn name(&self) -> &'static str {
        "opus"
    }

    fn sample_rate(&self) -> u32 {
        RATE
    }

    fn quality(&self) -> CodecQuality {
        CodecQuality::OPUS
    }

    fn encode(&mut self, frame: &[f32], payload: &mut Vec<u8>) -> Result<(), CodecError> {
        payload.resize(1_275 * 3, 0);
        match self.encoder.encode_float(frame, payload) {
            Ok(length) => {
                payload.truncate(if opus_packet::is_silence(&payload[..length]) {
                    0
                } else {
                    length
                });
                Ok(())
            }
            Err(EncodeError::BadArg) => Err(CodecError::Length {
                codec: "opus",
                samples: frame.len(),
            }),
            Err(error) => Err(broken(error)),
        }
    }

    fn decode(&mut self, payload: &[u8], sound: &mut Vec<f32>) -> Result<(), CodecError> {
        if payload.is_empty() {
            // It would be taken for a loss.
            return Err(CodecError::Payload {
                codec: "opus",
                why: "it is empty".to_owned(),
            });
        }
        let decoded = self
            .decoder
            .decode_float(payload, &mut self.buffer, DecodeMode::Normal);
        match decoded {
            Ok(samples) => {
                sound.extend_from_slice(&self.buffer[..samples.min(PACKET_MAX)]);
                Ok(())
            }
            Err(error) => Err(CodecError::Payload {
                codec: "opus",
                why: error.to_string(),
            }),
        }
    }

    fn recover(
        &mut self,
        from: &[u8],
        distance: u32,
        samples: usize,
        sound: &mut Vec<f32>,
    ) -> bool {
        if distance != 1 || !opus_packet::has_copy(from) || samples > PACKET_MAX {
            return false;
        }
        let frame = &mut self.buffer[..samples];
        let made = self.decoder.decode_float(from, frame, DecodeMode::Fec);
        if made == Ok(samples) {
            sound.extend_from_slice(&self.buffer[..samples]);
        }
        made == Ok(samples)
    }

    fn conceal(&mut self, samples: usize, sound: &mut Vec<f32>) {
        let samples = samples.min(PACKET_MAX);
        let frame = &mut self.buffer[..samples];
        match self.decoder.decode_float(&[], frame, DecodeMode::Normal) {
            Ok(made) => sound.extend_from_slice(&self.buffer[..made.min(samples)]),
            Err(_) => sound.resize(sound.len() + samples, 0.0),
        }
    }

    fn adapt(&mut self, pattern: LossPattern) {
        let copies = pattern.loss >= COPIES_FROM;
        let percent = (pattern.loss * 100.0).round().clamp(0.0, 30.0) as u8;
        let fec = if copies {
            InbandFec::Enabled
        } else {
            InbandFec::Disabled
        };
        let rate = if pattern.loss >= LOSSY.0 {
            LOSSY.1
        } else {
            BIT_RATE
        };
        // An encoder that refuses goes on as it was.
        let _ = self.encoder.set_bitrate(Bitrate::Bits(rate));
        let _ = self.encoder.set_inband_fec(fec);
        let _ = self.encoder.set_packet_loss_perc(percent);
    }

    fn set_dtx(&mut self, on: bool) {
        let _ = self.encoder.set_dtx(on);
    }
}

impl fmt::Debug for RustOpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RustOpus").finish_non_exhaustive()
    }
}

fn broken(error: impl fmt::Display) -> CodecError {
    CodecError::Broken {
        codec: "opus",
        why: error.to_string(),
    }
}
