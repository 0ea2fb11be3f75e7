//! What a voice call means, as pure values and machines: no socket, no device, no clock, no randomness.
//!
//! [`VoiceClient`] is the session client of calls: it offers, rings, answers, holds, mutes and ends them, and hands their
//! packets through without looking into them. Beside it: what is said of a medium ([`RtpDescription`], [`PhoneDescription`] in Google's form), how an offer
//! becomes an answer ([`Abilities`]), keys in signalling ([`Encryption`], [`Policy`]), and packets: [`RtpPacket`],
//! [`Rtcp`], [`SrtpSender`] and [`SrtpReceiver`], which work in place and allocate nothing per packet.
//!
//! # Example
//! Bob answers Alice's offer with the codecs that both have:
//! ```
//! use session_core::SessionDescription;
//! use session_voice::{Abilities, Media, PayloadType, Policy, Preference, RtpDescription};
//!
//! let mut offer = RtpDescription::new(Media::Audio);
//! offer.payload_types = vec![PayloadType::opus(111), PayloadType::of_id(0).unwrap()];
//! let wire = offer.to_element();
//!
//! let mut own = RtpDescription::new(Media::Audio);
//! own.payload_types = vec![PayloadType::of_id(0).unwrap()];
//! let bob = Abilities {
//!     description: own,
//!     policy: Policy::Disabled,
//!     dtls: true,
//!     preference: Preference::Answerer,
//! };
//! let answer = bob.answer(&RtpDescription::from_element(&wire).unwrap(), &[0; 30]).unwrap();
//! assert_eq!(answer.payload_types.len(), 1);
//! assert_eq!(&*answer.payload_types[0].name, "PCMU");
//! ```
//!
//! # Features
//! None is on by default. What is there without them: calls, packets, SRTP, the jitter buffer, and of codecs G.711.
//!
//! | feature | what it brings | what it needs |
//! |---|---|---|
//! | `opus` | Opus by libopus, with deep concealment and redundancy | cmake and a C compiler |
//! | `ropus` | Opus in Rust alone, without these; where both are on, `opus` wins | |
//! | `g722` | G.722 | |
//! | `ring` | SRTP in Galois counter mode in half the time | a C compiler |
//! | `audio` | where sound comes from and goes to (`audio`): WAV files, tones, mixing, resampling | |
//! | `devices` | `audio`, with microphone and loudspeaker | on Linux ALSA's headers |
//! | `enhance` | `audio`, with echo cancellation, noise suppression and gain | |
//! | `cli` | the program `call`, with `audio`, `g722`, `ring` and `ropus` | what `ring` needs |
//!
//! `call` has microphone and loudspeaker only with `devices`, and cancels echoes only with `enhance`.

#[cfg(feature = "audio")]
pub mod audio;
mod call;
mod client;
mod codec;
mod description;
mod dtmf;
mod encryption;
mod engine;
mod info;
mod jitter;
mod lines;
mod media;
mod negotiate;
mod payload;
mod quality;
mod rtcp;
mod rtp;
mod srtp;
mod stretch;

pub use call::{Call, CallChange, CallPhase, CallSecurity, Sides};
pub use client::{
    AUDIO_CONTENT, CallConfig, CallContent, CallError, CallForm, CallOffer, CallVerdict,
    ContentChange, ConversationId, Focus, GoogleForm, JingleForm, MediaPacket, RTCP_CHANNEL,
    RTP_CHANNEL, Verify, VoiceClient,
};
#[cfg(feature = "g722")]
pub use codec::G722;
#[cfg(any(feature = "opus", feature = "ropus"))]
pub use codec::Opus;
pub use codec::{
    AudioCodec, COMFORT_NOISE_ORDER, CodecError, ComfortNoise, G711, Law, LossPattern,
    SpeechActivity, codec_for, codecs,
};
#[cfg(feature = "opus")]
pub use codec::{CLibrary, LibOpus};
#[cfg(feature = "ropus")]
pub use codec::{RustLibrary, RustOpus};
pub use description::{
    Bandwidth, Feedback, GOOGLE_PHONE, GOOGLE_VIDEO, GROUPING, HeaderExtension, LIST_MAX, Media,
    PAYLOAD_TYPES_MAX, Parameter, PhoneDescription, RTCP_FEEDBACK, RTP, RTP_AUDIO,
    RTP_HEADER_EXTENSIONS, RTP_SOURCES, RTP_VIDEO, RtpDescription, Source, SourceGroup,
};
pub use dtmf::{
    DIGITS_MAX, DTMF, Digit, DigitError, DigitMessage, DigitPacket, DigitReceiver, DigitSender,
    EVENT_BYTES, TelephoneEvent,
};
pub use encryption::{
    AES_CM_128_HMAC_SHA1_32, AES_CM_128_HMAC_SHA1_80, Crypto, Encryption, EncryptionMismatch,
    KEY_BYTES, Policy,
};
pub use engine::{EngineConfig, EngineError, EngineStats, VoiceEngine};
pub use info::{CallInfo, Part, RTP_INFO};
pub use jitter::{
    FrameKind, JitterBuffer, JitterConfig, JitterFrame, JitterStats, Playout, Stretch,
};
pub use media::{
    MediaConfig, MediaError, MediaEvent, MediaOutput, MediaStats, MediaStream, Protection,
    Redundancy,
};
pub use negotiate::{Abilities, NegotiationError, Preference};
pub use payload::{COMFORT_NOISE, DYNAMIC, ID_MAX, PayloadType, TELEPHONE_EVENT};
pub use quality::{CodecQuality, Quality, Way};
pub use rtcp::{
    COUNT_MAX, LossCount, LossRuns, Lost, Reports, Rtcp, RtcpError, RtcpPacket, RtcpWriter,
    Sources, VoipMetrics,
};
pub use rtp::{
    Extensions, HEADER_BYTES, Reception, ReceptionReport, RtpError, RtpHeader, RtpPacket,
    SequenceExtender, is_rtcp,
};
pub use srtp::{
    SOURCES_MAX, SrtpError, SrtpMaster, SrtpProfile, SrtpReceiver, SrtpSender, UnknownProfile,
};
pub use stretch::{lengthen, shorten};
