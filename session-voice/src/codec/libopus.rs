//! Opus by libopus (RFC 6716, RFC 7587): in-band copies for single losses, deep redundancy for bursts, and concealment by
//! a network that has learned voices.

use super::{AudioCodec, CodecError, LossPattern, opus_packet};
use crate::CodecQuality;
use opusic_c::{
    Application, Bitrate, Channels, Decoder, ErrorCode, InbandFec, SampleRate, dred::Dred,
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

/// Bits per second where packets are lost in bursts; deep redundancy comes on top.
const BURSTY: u32 = 40_000;

/// The loss that the encoder is told of for deep redundancy, in percent. More would take bits from the sound itself.
const DEEP_LOSS: u8 = 5;

/// From this share of lost packets on, copies are worth their bits.
const COPIES_FROM: f64 = 0.01;

/// How far back deep redundancy reaches, in units of 10 ms: one second.
const DEPTH: u8 = 100;

/// Opus, one channel at 48 kHz.
pub struct LibOpus {
    encoder: opusic_c::Encoder,
    decoder: Dred,
    /// What was decoded of a burst in one piece and is not yet asked for: samples, and the distance of the next.
    burst: Vec<f32>,
    next_distance: u32,
    buffer: Vec<f32>,
    deep: bool,
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
            Ok((encoder, Dred::new(decoder)?))
        };
        let (encoder, decoder) = new().map_err(broken)?;
        Ok(Self {
            encoder,
            decoder,
            burst: Vec::new(),
            next_distance: 0,
            buffer: vec![0.0; PACKET_MAX],
            deep: false,
        })
    }

    /// Decodes a whole gap at once, because the redundancy of a packet is read from its far end on.
    fn recover_burst(&mut self, from: &[u8], distance: u32, samples: usize) -> bool {
        let whole = samples * distance as usize;
        // Further back than redundancy reaches there is nothing.
        if whole > RATE as usize || !opus_packet::has_extension(from) {
            return false;
        }
        self.burst.clear();
        self.burst.resize(whole, 0.0);
        match self.decoder.decode_float_to_slice(from, &mut self.burst) {
            Ok(made) if made == whole => {
                self.next_distance = distance;
                true
            }
            Ok(_) | Err(_) => {
                self.burst.clear();
                false
            }
        }
    }
}

impl AudioCodec for LibOpus {
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
        match self.encoder.encode_float_to_slice(frame, payload) {
            Ok(length) => {
                payload.truncate(if opus_packet::is_silence(&payload[..length]) {
                    0
                } else {
                    length
                });
                Ok(())
            }
            Err(ErrorCode::BadArg) => Err(CodecError::Length {
                codec: "opus",
                samples: frame.len(),
            }),
            Err(error) => Err(broken(error)),
        }
    }

    fn decode(&mut self, payload: &[u8], sound: &mut Vec<f32>) -> Result<(), CodecError> {
        self.burst.clear();
        if payload.is_empty() {
            // libopus would take it for a loss.
            return Err(CodecError::Payload {
                codec: "opus",
                why: "it is empty".to_owned(),
            });
        }
        let decoder = self.decoder.decoder_mut();
        match decoder.decode_float_to_slice(payload, &mut self.buffer, false) {
            Ok(samples) => {
                sound.extend_from_slice(&self.buffer[..samples.min(PACKET_MAX)]);
                Ok(())
            }
            Err(error) => Err(CodecError::Payload {
                codec: "opus",
                why: error.message().to_owned(),
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
        let ready = self.next_distance == distance && self.burst.len() >= samples;
        if !ready && distance == 1 && opus_packet::has_copy(from) && samples <= PACKET_MAX {
            let decoder = self.decoder.decoder_mut();
            let frame = &mut self.buffer[..samples];
            if decoder.decode_float_to_slice(from, frame, true) == Ok(samples) {
                sound.extend_from_slice(&self.buffer[..samples]);
                return true;
            }
            return false;
        }
        if !ready && !self.recover_burst(from, distance, samples) {
            return false;
        }
        sound.extend(self.burst.drain(..samples));
        self.next_distance = distance.saturating_sub(1);
        true
    }

    fn conceal(&mut self, samples: usize, sound: &mut Vec<f32>) {
        self.burst.clear();
        let decoder = self.decoder.decoder_mut();
        let samples = samples.min(PACKET_MAX);
        let made = decoder.decode_float_to_slice(&[], &mut self.buffer[..samples], false);
        match made {
            Ok(made) => sound.extend_from_slice(&self.buffer[..made.min(samples)]),
            Err(_) => sound.resize(sound.len() + samples, 0.0),
        }
    }

    fn adapt(&mut self, pattern: LossPattern) {
        // Deep redundancy gets hardly a bit where copies are on, so it is one or the other.
        self.deep = pattern.is_bursty();
        let copies = !self.deep && pattern.loss >= COPIES_FROM;
        let percent = if self.deep {
            DEEP_LOSS
        } else {
            (pattern.loss * 100.0).round().clamp(0.0, 30.0) as u8
        };
        let (fec, depth) = match (self.deep, copies) {
            (true, _) => (InbandFec::Off, DEPTH),
            (false, true) => (InbandFec::Mode1, 0),
            (false, false) => (InbandFec::Off, 0),
        };
        let rate = match self.deep {
            true => BURSTY,
            false if pattern.loss >= LOSSY.0 => LOSSY.1,
            false => BIT_RATE,
        };
        // An encoder that refuses goes on as it was.
        let _ = self.encoder.set_inband_fec(fec);
        let _ = self.encoder.set_packet_loss(percent);
        let _ = self.encoder.set_dred_duration(depth);
        let _ = self.encoder.set_bitrate(Bitrate::Value(rate));
    }

    fn set_dtx(&mut self, on: bool) {
        let _ = self.encoder.set_dtx(on);
    }
}

impl fmt::Debug for LibOpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LibOpus")
            .field("deep", &self.deep)
            .finish_non_exhaustive()
    }
}

fn broken(error: ErrorCode) -> CodecError {
    CodecError::Broken {
        codec: "opus",
        why: error.message().to_owned(),
    }
}
