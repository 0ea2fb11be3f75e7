//! The sound of a call: a codec, the jitter buffer and the packets in one, in whatever time it is told.

#[cfg(test)]
mod tests;

use crate::{
    AudioCodec, Call, CodecError, ComfortNoise, Digit, DigitError, LossPattern, MediaConfig,
    MediaError, MediaEvent, MediaOutput, MediaStats, MediaStream, PayloadType, Playout, Protection,
    Redundancy, SpeechActivity, Stretch, TELEPHONE_EVENT, codec_for, lengthen, shorten,
};
use bytes::Bytes;
use std::{
    fmt,
    time::{Duration, Instant},
};
use thiserror::Error;

/// How long a frame is.
const FRAME: Duration = Duration::from_millis(20);

/// How often the background is described while nobody speaks (RFC 3389 §4 leaves it open).
const NOISE_EVERY: u32 = 10;

/// Sound that waits to be encoded at most: what is older is lost.
const RECORDED_MAX: usize = 48_000;

/// What a [`VoiceEngine`] is made of.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// What both sides agreed on, ours first: the first codec that this build has is sent, any of them is received.
    pub agreed: Vec<PayloadType>,
    /// What our own description names: the peer may send with its numbers where its answer has others (RFC 3264 §5.1,
    /// §6.1). Default: the same.
    pub ours: Vec<PayloadType>,
    /// Our canonical name: random per call, and no address (RFC 7022).
    pub cname: String,
    /// Whether silence is left out. Default no.
    pub dtx: bool,
    /// The mean time between two reports. Default 5 s.
    pub report_every: Duration,
    /// Whether to report how the peer sounds here, and which packets were lost (RFC 3611). Default yes.
    pub metrics: bool,
}

impl EngineConfig {
    /// The defaults, with these codecs.
    pub fn new(agreed: Vec<PayloadType>, cname: &str) -> Self {
        Self {
            ours: agreed.clone(),
            agreed,
            cname: cname.to_owned(),
            dtx: false,
            report_every: Duration::from_secs(5),
            metrics: true,
        }
    }

    /// Of what a call has agreed on; none before its answer.
    pub fn of_call(call: &Call, cname: &str) -> Option<Self> {
        call.agreed().map(|_| Self::early(call, cname))
    }

    /// For early media, or a call that is answered: of what is known of the agreement by now ([`Call::expected`]). With the
    /// answer follows [`VoiceEngine::set_agreed`].
    pub fn early(call: &Call, cname: &str) -> Self {
        Self {
            ours: call.local.payload_types.clone(),
            ..Self::new(call.expected().payload_types.clone(), cname)
        }
    }
}

/// Why there is no engine.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EngineError {
    /// This build has none of the codecs.
    #[error("none of the agreed codecs is in this build: {0}")]
    NoCodec(String),
}

/// How a call sounds, beside what [`MediaStats`] tells.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct EngineStats {
    /// Of the packets.
    pub media: MediaStats,
    /// Root of the mean square of what was spoken last, 0 to 1.
    pub level_out: f32,
    /// The same of what was heard last.
    pub level_in: f32,
    /// Frames that were made shorter, and frames that were made longer.
    pub stretched: (u64, u64),
    /// Payloads of the peer that the codec refused.
    pub undecoded: u64,
}

/// The sound of a call in both directions. Pure: sound, packets and instants in, sound and packets out.
///
/// # The run loop
/// Hand in what the microphone has ([`record`](Self::record)), in pieces of any length, and what arrives
/// ([`handle_rtp`](Self::handle_rtp), [`handle_rtcp`](Self::handle_rtcp)); fill what the loudspeaker needs
/// ([`play`](Self::play)). At [`poll_timeout`](Self::poll_timeout) call [`handle_timeout`](Self::handle_timeout). After
/// each of them send whatever [`poll_output`](Self::poll_output) has.
///
/// ```
/// use session_voice::{EngineConfig, MediaOutput, PayloadType, Protection, VoiceEngine};
/// use std::time::Duration;
/// # let mut now = session_core::testing::epoch();
/// let engine = |seed| {
///     let config = EngineConfig::new(vec![PayloadType::of_id(8).unwrap()], "b7c1");
///     VoiceEngine::new(&config, Protection::Plain, seed, now).unwrap()
/// };
/// let (mut alice, mut bob) = (engine([1; 16]), engine([2; 16]));
/// let (tone, mut heard) = ([0.5; 80], [0.0; 80]);
/// for _ in 0..20 {
///     now += Duration::from_millis(10);
///     alice.record(&tone, now);
///     while let Some(MediaOutput::Rtp(packet)) = alice.poll_output() {
///         bob.handle_rtp(packet, now).unwrap();
///     }
///     bob.play(&mut heard, now);
/// }
/// assert!((heard[0] - 0.5).abs() < 0.02);
/// ```
pub struct VoiceEngine {
    media: MediaStream,
    codec: Box<dyn AudioCodec>,
    agreed: Vec<PayloadType>,
    ours: Vec<PayloadType>,
    send_type: u8,
    /// The codec of the peer's, where it sends with another than we do.
    other: Option<Box<dyn AudioCodec>>,
    receive_type: u8,
    recorded: Vec<f32>,
    played: Played,
    payload: Vec<u8>,
    sends: bool,
    listens: bool,
    dtx: bool,
    /// What finds silence, where the codec cannot; and how many frames it has lasted.
    activity: Option<SpeechActivity>,
    quiet: u32,
    noise: ComfortNoise,
    /// The last reports that the codec was fitted to.
    fitted: Option<LossPattern>,
    outputs: std::collections::VecDeque<MediaOutput>,
    stats: EngineStats,
}

/// Sound that waits for the loudspeaker.
#[derive(Debug, Default)]
struct Played {
    sound: Vec<f32>,
    at: usize,
}

impl VoiceEngine {
    /// A call's sound at rest. `seed` must be random ([`MediaStream::new`]).
    ///
    /// # Errors
    /// [`EngineError::NoCodec`].
    pub fn new(
        config: &EngineConfig,
        protection: Protection,
        seed: [u8; 16],
        now: Instant,
    ) -> Result<Self, EngineError> {
        let (agreed, mut codec) = first_codec(&config.agreed)?;
        codec.set_dtx(config.dtx);
        let media = MediaConfig {
            report_every: config.report_every,
            metrics: config.metrics,
            quality: codec.quality(),
            ..media_config(&config.agreed, &config.ours, agreed, &config.cname)
        };
        let activity = activity(config.dtx, &media, codec.as_ref());
        Ok(Self {
            media: MediaStream::new(media, protection, seed, now),
            codec,
            agreed: config.agreed.clone(),
            ours: config.ours.clone(),
            send_type: agreed.id,
            other: None,
            receive_type: agreed.id,
            recorded: Vec::new(),
            played: Played::default(),
            payload: Vec::new(),
            sends: true,
            listens: true,
            dtx: config.dtx,
            activity,
            quiet: 0,
            noise: ComfortNoise::new(),
            fitted: None,
            outputs: std::collections::VecDeque::new(),
            stats: EngineStats::default(),
        })
    }

    /// Other keys from now on: those of a [`CallChange::Secured`](crate::CallChange::Secured) after the first. The sound
    /// goes on.
    pub fn set_protection(&mut self, protection: &Protection) {
        self.media.set_protection(protection);
    }

    /// Keys of RTCP's own, where it has a channel of its own: [`Call::control_protection`](crate::Call::control_protection).
    pub fn set_control_protection(&mut self, protection: &Protection) {
        self.media.set_control_protection(protection);
    }

    /// What both sides agree on now: the answer, to an engine that was made before it for early media. What is heard goes
    /// on; what is spoken goes on in the first of these codecs that this build has.
    ///
    /// # Errors
    /// [`EngineError::NoCodec`]; then nothing has changed.
    pub fn set_agreed(&mut self, agreed: &[PayloadType]) -> Result<(), EngineError> {
        let (first, mut codec) = first_codec(agreed)?;
        let media = media_config(agreed, &self.ours, first, "");
        if first.id != self.send_type {
            if self.receive_type == first.id {
                codec = self.other.take().unwrap_or(codec);
            }
            codec.set_dtx(self.dtx);
            let before = std::mem::replace(&mut self.codec, codec);
            if self.receive_type == self.send_type {
                self.other = Some(before);
            }
            self.send_type = first.id;
            self.fitted = None;
            self.recorded.clear();
        }
        self.activity = activity(self.dtx, &media, self.codec.as_ref());
        self.media.set_send(&MediaConfig {
            quality: self.codec.quality(),
            ..media
        });
        self.agreed = agreed.to_vec();
        Ok(())
    }

    /// Samples per second of what [`record`](Self::record) takes.
    pub fn record_rate(&self) -> u32 {
        self.codec.sample_rate()
    }

    /// Samples per second of what [`play`](Self::play) gives. It changes when the peer changes its codec.
    pub fn play_rate(&self) -> u32 {
        self.decoder().sample_rate()
    }

    /// The codec with which we send.
    pub fn codec(&self) -> &'static str {
        self.codec.name()
    }

    /// The codec with which the peer sends.
    pub fn peer_codec(&self) -> &'static str {
        self.decoder().name()
    }

    /// Whether anything is sent: not while muted or on hold. What is recorded meanwhile is lost, and time goes on. The peer is
    /// told with the next frame, where the codec has a way to (Opus, or comfort noise beside another): it takes nothing for lost.
    pub fn set_sending(&mut self, sends: bool) {
        self.sends = sends;
    }

    /// Whether anything is heard: not while we hold the peer.
    pub fn set_listening(&mut self, listens: bool) {
        self.listens = listens;
    }

    /// The microphone has recorded this, whose last sample is of now.
    pub fn record(&mut self, sound: &[f32], now: Instant) {
        self.recorded.extend_from_slice(sound);
        let excess = self.recorded.len().saturating_sub(RECORDED_MAX);
        self.recorded.drain(..excess);
        let frame = samples(FRAME, self.codec.sample_rate());
        let mut recorded = std::mem::take(&mut self.recorded);
        let mut frames = recorded.chunks_exact(frame);
        for frame in &mut frames {
            self.stats.level_out = level(frame);
            self.send_frame(frame, now);
        }
        let rest = frames.remainder().len();
        recorded.drain(..recorded.len() - rest);
        self.recorded = recorded;
    }

    /// Fills what the loudspeaker needs from now on.
    pub fn play(&mut self, sound: &mut [f32], now: Instant) {
        let mut filled = 0;
        while filled < sound.len() {
            if self.played.at >= self.played.sound.len() {
                self.next_frame(now);
            }
            let ready = &self.played.sound[self.played.at..];
            let count = ready.len().min(sound.len() - filled);
            sound[filled..filled + count].copy_from_slice(&ready[..count]);
            self.played.at += count;
            filled += count;
        }
        if !self.listens {
            sound.fill(0.0);
        }
        self.stats.level_in = level(sound);
    }

    /// A packet of RTP came.
    ///
    /// # Errors
    /// [`MediaError`]; nothing has changed, and the call goes on.
    pub fn handle_rtp(
        &mut self,
        packet: Bytes,
        now: Instant,
    ) -> Result<Option<MediaEvent>, MediaError> {
        let result = self.media.handle_rtp(packet, now);
        if let Err(MediaError::PayloadType(payload_type)) = &result {
            self.follow(*payload_type);
        }
        result
    }

    /// A compound of RTCP came.
    ///
    /// # Errors
    /// [`MediaError`]; nothing has changed, and the call goes on.
    pub fn handle_rtcp(
        &mut self,
        packet: Bytes,
        now: Instant,
    ) -> Result<Option<MediaEvent>, MediaError> {
        let event = self.media.handle_rtcp(packet, now)?;
        self.fit(now);
        Ok(event)
    }

    /// Sends a digit in place of sound (RFC 4733).
    ///
    /// # Errors
    /// [`DigitError::NoPayloadType`], [`DigitError::TooMany`].
    pub fn press(&mut self, digit: Digit, now: Instant) -> Result<(), DigitError> {
        self.media.press(digit, now)
    }

    /// Whether digits can be sent: a payload type for them was agreed on, in the clock rate of the codec.
    pub fn takes_digits(&self) -> bool {
        self.media.takes_digits()
    }

    /// Whether a digit sounds or waits.
    pub fn is_pressing(&self) -> bool {
        self.media.is_pressing()
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.media.poll_timeout()
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.media.handle_timeout(now);
    }

    /// The next packet that is to leave.
    pub fn poll_output(&mut self) -> Option<MediaOutput> {
        self.outputs
            .pop_front()
            .or_else(|| self.media.poll_output())
    }

    /// Says that we are gone, when the call ends. Nothing is to be sent after it.
    pub fn goodbye(&mut self, reason: &str, now: Instant) -> Option<Bytes> {
        self.media.goodbye(reason, now)
    }

    /// How it goes.
    pub fn stats(&self, now: Instant) -> EngineStats {
        EngineStats {
            media: self.media.stats(now),
            ..self.stats
        }
    }

    fn send_frame(&mut self, frame: &[f32], now: Instant) {
        if !self.sends {
            self.pause(now);
            return;
        }
        if self.is_quiet(frame, now) {
            return;
        }
        match self.codec.encode(frame, &mut self.payload) {
            Ok(()) if !self.payload.is_empty() => {
                let packet = self.media.send_frame(&self.payload, FRAME, now);
                self.outputs.extend(packet.map(MediaOutput::Rtp));
            }
            // Nobody speaks, or the codec is broken, which is heard as silence.
            Ok(()) | Err(_) => self.media.skip(FRAME),
        }
    }

    /// A frame that is not sent. Behind one that was, the peer is told that what does not come is not missing, where its codec
    /// has a way to.
    fn pause(&mut self, now: Instant) {
        let mut rest = FRAME;
        if self.media.is_speaking() {
            let toc = self.payload.first().filter(|_| self.codec.name() == "opus");
            let packet = if let Some(toc) = toc {
                // As DTX begins: a frame like the one before, without sound (RFC 6716 §3.2.1).
                rest = Duration::ZERO;
                self.media.send_frame(&[toc & !3], FRAME, now)
            } else {
                // Of silence: what is behind us is not to be heard now.
                self.media.send_noise(&ComfortNoise::describe(&[]), now)
            };
            self.outputs.extend(packet.map(MediaOutput::Rtp));
        }
        self.media.skip(rest);
    }

    /// Whether the frame is left out because nobody speaks; now and then the background is described in its place.
    fn is_quiet(&mut self, frame: &[f32], now: Instant) -> bool {
        let Some(activity) = &mut self.activity else {
            return false;
        };
        if activity.is_speech(frame, FRAME) {
            self.quiet = 0;
            return false;
        }
        if self.quiet.is_multiple_of(NOISE_EVERY) {
            let payload = ComfortNoise::describe(frame);
            let packet = self.media.send_noise(&payload, now);
            self.outputs.extend(packet.map(MediaOutput::Rtp));
        }
        self.quiet += 1;
        self.media.skip(FRAME);
        true
    }

    /// Decodes what is next.
    fn next_frame(&mut self, now: Instant) {
        let mut sound = std::mem::take(&mut self.played.sound);
        sound.clear();
        self.played.at = 0;
        let (playout, stretch) = self.media.pull(now);
        let rate = self.decoder().sample_rate();
        // Whatever a peer says of its frames, time goes on.
        let length = samples(self.media.peer_frame(), rate).max(1);
        let is_sound = matches!(playout, Playout::Packet(_) | Playout::Recover { .. });
        self.decode(playout, length, &mut sound);
        let (shorter, longer) = &mut self.stats.stretched;
        match stretch {
            Stretch::Shorten if is_sound => *shorter += u64::from(shorten(&mut sound, rate) > 0),
            Stretch::Lengthen if is_sound => *longer += u64::from(lengthen(&mut sound, rate) > 0),
            Stretch::Keep | Stretch::Shorten | Stretch::Lengthen => {}
        }
        if sound.is_empty() {
            // Whatever a codec does, time goes on.
            sound.resize(length, 0.0);
        }
        self.played.sound = sound;
    }

    fn decode(&mut self, playout: Playout, length: usize, sound: &mut Vec<f32>) {
        let codec = self.other.as_mut().unwrap_or(&mut self.codec);
        match playout {
            Playout::Packet(payload) => {
                let decoded = codec.decode(&payload, sound);
                if let Err(CodecError::Payload { .. } | CodecError::Broken { .. }) = decoded {
                    self.stats.undecoded += 1;
                    codec.conceal(length, sound);
                }
            }
            Playout::Noise(payload) => {
                self.noise.learn(&payload);
                self.noise.fill(length, sound);
            }
            Playout::Recover { from, distance } => {
                if !codec.recover(&from, distance, length, sound) {
                    codec.conceal(length, sound);
                }
            }
            Playout::Conceal => codec.conceal(length, sound),
            Playout::Silence => self.noise.fill(length, sound),
        }
    }

    /// Fits the codec to what the peer reports.
    fn fit(&mut self, now: Instant) {
        let stats = self.media.stats(now);
        let Some(loss) = stats.loss_there else {
            return;
        };
        // A quiet spell is no reason to give up what the next one needs.
        let before = self.fitted.map_or(0.0, |fitted| fitted.loss);
        let pattern = LossPattern {
            loss: if loss > before {
                loss
            } else {
                before * 0.7 + loss * 0.3
            },
            burst: stats.burst_there.unwrap_or(1.0),
        };
        if self.fitted != Some(pattern) {
            self.fitted = Some(pattern);
            self.codec.adapt(pattern);
        }
    }

    /// The peer sends with another of the agreed codecs, which it may at any time (RFC 3264 §7).
    fn follow(&mut self, payload_type: u8) {
        if payload_type == self.receive_type {
            return;
        }
        let mut known = self.ours.iter().chain(&self.agreed);
        let Some(agreed) = known.find(|known| known.id == payload_type) else {
            return;
        };
        if !self.agreed.iter().any(|at| at.matches(agreed)) {
            return;
        }
        let other = if payload_type == self.send_type {
            None
        } else {
            match codec_for(agreed) {
                Some(codec) => Some(codec),
                None => return,
            }
        };
        self.media
            .set_receive(&media_config(&self.agreed, &self.ours, agreed, ""));
        self.receive_type = payload_type;
        self.other = other;
    }

    fn decoder(&self) -> &dyn AudioCodec {
        self.other.as_ref().unwrap_or(&self.codec).as_ref()
    }
}

impl fmt::Debug for VoiceEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VoiceEngine")
            .field("codec", &self.codec.name())
            .field("media", &self.media)
            .finish_non_exhaustive()
    }
}

/// The first that this build has.
fn first_codec(agreed: &[PayloadType]) -> Result<(&PayloadType, Box<dyn AudioCodec>), EngineError> {
    let found = agreed
        .iter()
        .find_map(|agreed| Some((agreed, codec_for(agreed)?)));
    found.ok_or_else(|| {
        let names: Vec<_> = agreed.iter().map(|agreed| &*agreed.name).collect();
        EngineError::NoCodec(names.join(", "))
    })
}

/// What finds silence, where that is to be left out and the codec does not by itself.
fn activity(dtx: bool, media: &MediaConfig, codec: &dyn AudioCodec) -> Option<SpeechActivity> {
    let finds_silence = dtx && media.noise.is_some() && codec.name() != "opus";
    finds_silence.then(SpeechActivity::new)
}

/// The stream of one of the agreed codecs.
fn media_config(
    agreed: &[PayloadType],
    ours: &[PayloadType],
    codec: &PayloadType,
    cname: &str,
) -> MediaConfig {
    let is_opus = codec.is("opus");
    let rate = match codec.clock_rate {
        0 => PayloadType::of_id(codec.id).map_or(8_000, |known| known.clock_rate),
        rate => rate,
    };
    let digits = |at: &&PayloadType| at.is(TELEPHONE_EVENT);
    let with_rate = agreed.iter().filter(digits).find(|d| d.clock_rate == rate);
    // Comfort noise is of 8 kHz, as the codecs are that have none of their own.
    let is_noise = |at: &&PayloadType| at.is(crate::payload::COMFORT_NOISE);
    let noise = agreed.iter().find(is_noise);
    let all = || agreed.iter().chain(ours);
    let same = all().filter(|at| at.matches(codec)).map(|at| at.id);
    MediaConfig {
        receive_types: [codec.id].into_iter().chain(same).collect(),
        digits: with_rate.map(|digits| digits.id),
        receive_digits: all().filter(digits).map(|at| at.id).collect(),
        noise: noise.filter(|_| !is_opus).map(|noise| noise.id),
        receive_noise: all().filter(is_noise).map(|at| at.id).collect(),
        redundancy: if is_opus {
            Redundancy::Opus
        } else {
            Redundancy::None
        },
        unit_bytes: u32::from(["PCMU", "PCMA", "G722"].iter().any(|name| codec.is(name))),
        ..MediaConfig::new(codec.id, rate, cname)
    }
}

fn samples(time: Duration, rate: u32) -> usize {
    (time.as_nanos() * u128::from(rate) / 1_000_000_000) as usize
}

fn level(sound: &[f32]) -> f32 {
    let power = sound.iter().map(|s| s * s).sum::<f32>() / sound.len().max(1) as f32;
    power.sqrt()
}
