//! Opus (RFC 6716, RFC 7587) by whichever library: what to send on which network, and where a missing frame is looked for.

use super::{AudioCodec, CodecError, LossPattern, opus_packet};
use crate::CodecQuality;
use std::fmt;

/// Samples per second.
pub(super) const RATE: u32 = 48_000;

/// The longest packet that there is: 120 ms.
const PACKET_MAX: usize = 5_760;

/// The most bytes of a packet of three frames.
const PAYLOAD_MAX: usize = 1_275 * 3;

/// Bits per second on a network that loses nothing.
pub(super) const BIT_RATE: u32 = 32_000;

/// Bits per second from this share of lost packets on: copies would take them from the sound itself.
const LOSSY: (f64, u32) = (0.03, 36_000);

/// Bits per second where packets are lost in bursts. Some of deep redundancy comes on top: some 40,000 in all.
const BURSTY: u32 = 36_000;

/// The loss that the encoder is told of for deep redundancy, in percent. More would take bits from the sound itself.
const DEEP_LOSS: u8 = 5;

/// From this share of lost packets on, copies are worth their bits.
const COPIES_FROM: f64 = 0.01;

impl Tuning {
    fn new(pattern: LossPattern, has_deep: bool) -> Self {
        // Deep redundancy gets hardly a bit where copies are on, so it is one or the other.
        let deep = has_deep && pattern.is_bursty();
        let percent = (pattern.loss * 100.0).round().clamp(0.0, 30.0) as u8;
        Self {
            copies: !deep && pattern.loss >= COPIES_FROM,
            deep,
            loss: if deep { DEEP_LOSS } else { percent },
            rate: match deep {
                true => BURSTY,
                false if pattern.loss >= LOSSY.0 => LOSSY.1,
                false => BIT_RATE,
            },
        }
    }
}

mod library {
    /// How the encoder is to be set.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    #[allow(unnameable_types, reason = "nobody else is to set one")]
    pub struct Tuning {
        /// Each packet has a copy of the frame before it.
        pub copies: bool,
        /// Each packet has something of the last second (DRED).
        pub deep: bool,
        /// The loss to reckon with, in percent.
        pub loss: u8,
        /// Bits per second.
        pub rate: u32,
    }

    /// Why a library did not encode.
    #[derive(Debug)]
    #[allow(unnameable_types, reason = "nobody else is to make one")]
    pub enum NotEncoded {
        /// There are no frames of this length.
        Length,
        /// What the library says.
        Broken(String),
    }

    /// What a library for Opus does.
    #[allow(unnameable_types, reason = "nobody else is to write one")]
    pub trait Library: Send {
        /// Whether it knows deep redundancy (DRED).
        const HAS_DEEP: bool;

        /// Encodes a frame; how many bytes it came to.
        fn encode(&mut self, frame: &[f32], payload: &mut [u8]) -> Result<usize, NotEncoded>;

        /// Decodes a packet, or the copy of the frame before it; without bytes it makes something up. How many samples it
        /// came to, or what the library says.
        fn decode(&mut self, packet: &[u8], sound: &mut [f32], copy: bool)
        -> Result<usize, String>;

        /// Decodes as much of what was before a packet as there is room for, out of deep redundancy. Whether it was there.
        fn decode_deep(&mut self, packet: &[u8], sound: &mut [f32]) -> bool;

        /// An encoder that refuses goes on as it was.
        fn tune(&mut self, tuning: Tuning);

        /// Whether silence is left out.
        fn set_dtx(&mut self, on: bool);
    }
}

pub(super) use library::{Library, NotEncoded, Tuning};

/// Opus, one channel at 48 kHz, by the library `L`.
pub struct Opus<L> {
    library: L,
    /// What was decoded of a burst in one piece and is not yet asked for: samples, and the distance of the next.
    burst: Vec<f32>,
    next_distance: u32,
    buffer: Vec<f32>,
    tuning: Option<Tuning>,
    /// The frame before was silence.
    pauses: bool,
}

impl<L: Library> Opus<L> {
    pub(super) fn with(library: L) -> Self {
        Self {
            library,
            burst: Vec::new(),
            next_distance: 0,
            buffer: vec![0.0; PACKET_MAX],
            tuning: None,
            pauses: false,
        }
    }

    /// Decodes a whole gap at once, because the redundancy of a packet is read from its far end on.
    fn recover_burst(&mut self, from: &[u8], distance: u32, samples: usize) -> bool {
        let whole = samples * distance as usize;
        self.burst.clear();
        // Further back than redundancy reaches there is nothing.
        if !L::HAS_DEEP || whole > RATE as usize || !opus_packet::has_extension(from) {
            return false;
        }
        self.burst.resize(whole, 0.0);
        let made = self.library.decode_deep(from, &mut self.burst);
        if made {
            self.next_distance = distance;
        } else {
            self.burst.clear();
        }
        made
    }
}

impl<L: Library> AudioCodec for Opus<L> {
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
        payload.resize(PAYLOAD_MAX, 0);
        let length = match self.library.encode(frame, payload) {
            Ok(length) => length,
            Err(NotEncoded::Length) => {
                return Err(CodecError::Length {
                    codec: "opus",
                    samples: frame.len(),
                });
            }
            Err(NotEncoded::Broken(why)) => return Err(broken(why)),
        };
        let is_silence = opus_packet::is_silence(&payload[..length]);
        // The first says that what does not come behind it is not missing.
        let pauses = std::mem::replace(&mut self.pauses, is_silence);
        payload.truncate(if is_silence && pauses { 0 } else { length });
        Ok(())
    }

    fn decode(&mut self, payload: &[u8], sound: &mut Vec<f32>) -> Result<(), CodecError> {
        self.burst.clear();
        let refused = |why: String| CodecError::Payload { codec: "opus", why };
        if payload.is_empty() {
            // It would be taken for a loss.
            return Err(refused("it is empty".to_owned()));
        }
        let samples = self.library.decode(payload, &mut self.buffer, false);
        let samples = samples.map_err(refused)?.min(PACKET_MAX);
        sound.extend_from_slice(&self.buffer[..samples]);
        Ok(())
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
            let frame = &mut self.buffer[..samples];
            let made = self.library.decode(from, frame, true) == Ok(samples);
            if made {
                sound.extend_from_slice(&self.buffer[..samples]);
            }
            return made;
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
        let samples = samples.min(PACKET_MAX);
        match self.library.decode(&[], &mut self.buffer[..samples], false) {
            Ok(made) => sound.extend_from_slice(&self.buffer[..made.min(samples)]),
            Err(_) => sound.resize(sound.len() + samples, 0.0),
        }
    }

    fn adapt(&mut self, pattern: LossPattern) {
        let tuning = Tuning::new(pattern, L::HAS_DEEP);
        if self.tuning.replace(tuning) != Some(tuning) {
            self.library.tune(tuning);
        }
    }

    fn set_dtx(&mut self, on: bool) {
        self.library.set_dtx(on);
    }
}

impl<L> fmt::Debug for Opus<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opus")
            .field("tuning", &self.tuning)
            .finish_non_exhaustive()
    }
}

pub(super) fn broken(why: impl ToString) -> CodecError {
    CodecError::Broken {
        codec: "opus",
        why: why.to_string(),
    }
}
