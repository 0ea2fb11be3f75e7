//! The media of a call, between codec and network: RTP with its reports, SRTP, digits and the jitter buffer in one.

mod digits;
mod memory;
mod receive;
mod report;
#[cfg(test)]
mod tests;

use crate::lines::{self, Lines, Start};
use crate::rtcp::ReceivedMap;
use crate::{
    CodecQuality, Digit, DigitReceiver, DigitSender, JitterBuffer, JitterConfig, JitterStats,
    Playout, Quality, Reception, RtpError, RtpHeader, SrtpError, SrtpMaster, SrtpReceiver,
    SrtpSender, Stretch,
};
use bytes::{BufMut, Bytes, BytesMut};
use memory::Memory;
use std::{
    collections::VecDeque,
    fmt,
    mem::offset_of,
    ops::Range,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Room behind a packet for what protects it.
const TAG_ROOM: usize = 16;

/// Room before a payload.
const HEADER_ROOM: usize = 12;

/// Packets of ours that wait to be polled; older ones go.
const OUTPUTS_MAX: usize = 64;

/// What a [`MediaStream`] needs to know.
#[derive(Clone, Debug)]
pub struct MediaConfig {
    /// Timestamps per second of the codec: 48,000 for Opus, 8,000 for G.711 and for G.722.
    pub clock_rate: u32,
    /// The same of what is received, which may be another codec.
    pub receive_rate: u32,
    /// The payload type to send with.
    pub send_type: u8,
    /// The payload types that carry the peer's sound.
    pub receive_types: Vec<u8>,
    /// The payload type of digits, in both directions, with the codec's clock rate.
    pub digits: Option<u8>,
    /// Other payload types in which the peer may send digits.
    pub receive_digits: Vec<u8>,
    /// How long frames are until packets say otherwise.
    pub frame: Duration,
    /// Bytes of what is received for each unit of its clock, where every frame has as many, so that its length can be told: 1
    /// for G.711 and G.722. 0 where it cannot; Opus says itself how long a frame is.
    pub unit_bytes: u32,
    /// The payload type of comfort noise, with the codec's clock rate.
    pub noise: Option<u8>,
    /// Other payload types in which the peer may describe its background: it may send with another codec than we do.
    pub receive_noise: Vec<u8>,
    /// What packets carry of the frames before them.
    pub redundancy: Redundancy,
    /// How the codec counts in the E-model.
    pub quality: CodecQuality,
    /// Our canonical name: random per call, and no address (RFC 7022).
    pub cname: String,
    /// The mean time between two reports (RFC 3550 §6.2); each is drawn between half and one and a half of it.
    pub report_every: Duration,
    /// Whether to report how the peer sounds here (RFC 3611 §4.7).
    pub metrics: bool,
}

impl MediaConfig {
    /// With a codec's payload type and clock rate, and what is usual.
    pub fn new(payload_type: u8, clock_rate: u32, cname: &str) -> Self {
        Self {
            clock_rate: clock_rate.max(1),
            receive_rate: clock_rate.max(1),
            send_type: payload_type,
            receive_types: vec![payload_type],
            digits: None,
            receive_digits: Vec::new(),
            frame: Duration::from_millis(20),
            unit_bytes: 0,
            noise: None,
            receive_noise: Vec::new(),
            redundancy: Redundancy::None,
            quality: CodecQuality::G711,
            cname: cname.to_owned(),
            report_every: Duration::from_secs(5),
            metrics: false,
        }
    }
}

/// What packets carry of the frames before them, so that it is worth waiting for the next one when one is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Redundancy {
    /// Nothing.
    #[default]
    None,
    /// Each a copy of the frame before it.
    Next,
    /// What each packet of Opus says itself (RFC 6716): a copy of the frame before, or deep redundancy.
    Opus,
}

/// How packets are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protection {
    /// With keys, of which DTLS or signalling gave one to each side.
    Srtp {
        /// With which we send.
        ours: SrtpMaster,
        /// With which the peer sends.
        theirs: SrtpMaster,
    },
    /// Not at all. Whoever chooses this has said so by name.
    Plain,
}

/// A packet for the network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaOutput {
    /// RTP.
    Rtp(Bytes),
    /// RTCP.
    Rtcp(Bytes),
}

/// What the peer's packets said, beside sound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEvent {
    /// It pressed a key.
    Digit(Digit),
    /// It sends under another name from now on; its sound begins anew.
    SourceChanged,
    /// It will send no more.
    Goodbye,
}

/// Why a packet of the peer was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MediaError {
    /// It is not protected as it should be.
    #[error(transparent)]
    Srtp(#[from] SrtpError),
    /// It is no RTP.
    #[error(transparent)]
    Rtp(#[from] RtpError),
    /// It is no RTCP.
    #[error(transparent)]
    Rtcp(#[from] crate::RtcpError),
    /// Its payload type is none that was agreed on.
    #[error("payload type {0} was not agreed on")]
    PayloadType(u8),
    /// It carries our own name: it came back to us.
    #[error("the packet is our own")]
    Looped,
}

/// How the call goes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MediaStats {
    /// Packets and bytes of payload sent.
    pub sent: (u64, u64),
    /// Packets received, each once.
    pub received: u64,
    /// Packets that were refused.
    pub refused: u64,
    /// The time there and back, from the peer's reports.
    pub round_trip: Option<Duration>,
    /// Of our packets, the share that the peer said it lost in its last report, 0 to 1.
    pub loss_there: Option<f64>,
    /// How many of our packets get lost in a row on average, if the peer says which it got.
    pub burst_there: Option<f64>,
    /// Of the peer's frames, the share that had to be made up since the last report, 0 to 1.
    pub loss_here: f64,
    /// How much the peer's packets' ways differ.
    pub jitter: Duration,
    /// From being here to being played.
    pub buffer: Duration,
    /// How the peer sounds here, by the E-model.
    pub quality: Option<Quality>,
    /// The buffer's own counts, of all sources and codecs of the peer's so far.
    pub playout: JitterStats,
}

/// The media of a call in both directions, of one source each. Pure: packets and instants in, packets and frames out.
///
/// # The run loop
/// Encode a frame, [`send_frame`](Self::send_frame), send what comes back. Hand in what arrives
/// ([`handle_rtp`](Self::handle_rtp), [`handle_rtcp`](Self::handle_rtcp)). When the loudspeaker needs a frame, decode what
/// [`pull`](Self::pull) says. At [`poll_timeout`](Self::poll_timeout) call [`handle_timeout`](Self::handle_timeout), and
/// send whatever [`poll_output`](Self::poll_output) has.
///
/// ```
/// use session_voice::{MediaConfig, MediaStream, Playout, Protection, SrtpMaster, SrtpProfile};
/// use std::time::Duration;
/// # let mut now = session_core::testing::epoch();
/// let key = |byte: u8| SrtpMaster::new(SrtpProfile::AeadAes128Gcm, &[byte; 16], &[byte; 12]).unwrap();
/// let stream = |ours, theirs, seed| {
///     let protection = Protection::Srtp { ours: key(ours), theirs: key(theirs) };
///     MediaStream::new(MediaConfig::new(111, 48_000, "b7c1"), protection, seed, now)
/// };
/// let (mut alice, mut bob) = (stream(1, 2, [1; 16]), stream(2, 1, [2; 16]));
/// let frame = Duration::from_millis(20);
/// for number in 0..3_u8 {
///     let packet = alice.send_frame(&[number], frame, now).unwrap();
///     bob.handle_rtp(packet, now).unwrap();
///     now += frame;
/// }
/// assert_eq!(bob.pull(now).0, Playout::Packet(b"\0"[..].into()));
/// ```
// In this order, so that what each packet touches is at the beginning.
#[repr(C, align(64))]
pub struct MediaStream {
    start: Start,
    sending: Sending,
    kinds: Kinds,
    /// Boxed, because a stream that has heard nothing yet needs little.
    source: Option<Box<Lines<Source>>>,
    arrivals: Arrivals,
    sender: Option<SrtpSender>,
    receiver: Option<SrtpReceiver>,
    memory: Memory,
    // From here on, what few packets touch.
    /// Where packets are made that leave by [`send_frame`](Self::send_frame).
    room: BytesMut,
    /// Of playout, what was counted of the sources before this one; and what was sent under our names before this one.
    stats: MediaStats,
    config: MediaConfig,
    control: Option<Box<Control>>,
    outputs: VecDeque<MediaOutput>,
    /// The time from which NTP counts in our reports (RFC 3550 §6.4.1 allows it).
    born: Instant,
    random: u64,
    digits_in: DigitReceiver,
    /// When the last digit began, and its timestamp.
    digit: Option<(Instant, u32)>,
    /// What the jitter buffer had counted at the report before.
    counted: JitterStats,
    /// Of our packets, as the peer says: how many were lost, in how many runs. Older ones count less.
    runs: (f64, f64),
}

/// Packets of the peer.
#[derive(Clone, Copy, Default)]
struct Arrivals {
    taken: u64,
    refused: u64,
}

/// What protects RTCP that has keys of its own.
struct Control {
    sender: Option<SrtpSender>,
    receiver: Option<SrtpReceiver>,
}

/// What each packet that is sent touches: beside each other, because the memory of thousands of calls is far away.
struct Sending {
    clock_rate: u32,
    payload_type: u8,
    /// The next packet begins a talk spurt.
    marker: bool,
    sequence: u16,
    ssrc: u32,
    /// The timestamp of the next frame.
    timestamp: u32,
    /// When the first sample of the one before was spoken.
    spoken_at: Instant,
    report_at: Option<Instant>,
    /// Packets and bytes of payload under this name.
    sent: (u64, u64),
    /// Made when the first digit is pressed.
    digits: Option<Box<DigitSender>>,
}

/// What payload types mean, of which there are 128: bit n is number n. And what their packets say of themselves.
#[derive(Clone, Copy)]
struct Kinds {
    sound: u128,
    digits: u128,
    noise: u128,
    /// [`MediaConfig::redundancy`] and [`MediaConfig::unit_bytes`].
    redundancy: Redundancy,
    unit_bytes: u32,
}

impl Kinds {
    fn new(config: &MediaConfig) -> Self {
        let bits = |numbers: &mut dyn Iterator<Item = &u8>| {
            numbers.fold(0, |bits, number| bits | 1_u128 << (number & 0x7F))
        };
        Self {
            sound: bits(&mut config.receive_types.iter()),
            digits: bits(&mut config.digits.iter().chain(&config.receive_digits)),
            noise: bits(&mut config.noise.iter().chain(&config.receive_noise)),
            redundancy: config.redundancy,
            unit_bytes: config.unit_bytes,
        }
    }
}

/// The peer's source. In this order, so that what each packet touches lies together.
#[repr(C)]
struct Source {
    jitter: JitterBuffer,
    ssrc: u32,
    arrived: ReceivedMap,
    reception: Reception,
}

/// Where what each packet touches lies, of a stream: before its keys, and behind them. The keys lie between, so that all of it is
/// in one page or two: a page that was not touched lately has to be found before any of its lines can be fetched.
const OF_STREAM: [Range<usize>; 2] = [
    0..offset_of!(MediaStream, sender),
    offset_of!(MediaStream, memory)..offset_of!(MediaStream, memory) + Memory::TOUCHED,
];
/// Where it lies, of a source.
const OF_SOURCE: Range<usize> =
    JitterBuffer::TOUCHED_FROM..offset_of!(Source, reception) + Reception::TOUCHED;

// In thousands of calls each line more is felt.
const _: () = assert!(OF_STREAM[0].end + Memory::TOUCHED <= 4 * lines::LINE);
const _: () = assert!(OF_SOURCE.end.div_ceil(lines::LINE) - OF_SOURCE.start / lines::LINE <= 7);

impl MediaStream {
    /// A stream at rest. `seed` gives our source's name, the first sequence number and timestamp, and must be random.
    pub fn new(config: MediaConfig, protection: Protection, seed: [u8; 16], now: Instant) -> Self {
        let [a, b] = [&seed[..8], &seed[8..]].map(|half| {
            half.iter()
                .fold(0_u64, |word, byte| word << 8 | u64::from(*byte))
        });
        let (sender, receiver) = contexts(&protection);
        Self {
            start: [],
            digits_in: DigitReceiver::default(),
            digit: None,
            sender,
            receiver,
            control: None,
            born: now,
            random: a ^ b.rotate_left(17) | 1,
            sending: Sending {
                clock_rate: config.clock_rate,
                payload_type: config.send_type,
                ssrc: (a >> 32) as u32,
                // The first half of the numbers, so that the round is known from the first packet on (RFC 3711 §3.3.1).
                sequence: (a as u16) & 0x7FFF,
                timestamp: (b >> 32) as u32,
                spoken_at: now,
                marker: true,
                report_at: None,
                sent: (0, 0),
                digits: None,
            },
            room: BytesMut::new(),
            kinds: Kinds::new(&config),
            memory: Memory::default(),
            source: None,
            outputs: VecDeque::new(),
            arrivals: Arrivals::default(),
            stats: MediaStats::default(),
            counted: JitterStats::default(),
            runs: (0.0, 0.0),
            config,
        }
    }

    /// Other keys from now on, as after another transport took over. Numbers and timestamps go on, and what waits to be
    /// played stays. With the same keys nothing happens: what was counted under a key must not be counted again.
    pub fn set_protection(&mut self, protection: &Protection) {
        if is_under(protection, self.sender.as_ref(), self.receiver.as_ref()) {
            return;
        }
        (self.sender, self.receiver) = contexts(protection);
        // So that the round is known from the first packet on, as at the beginning.
        self.sending.sequence &= 0x7FFF;
        // The peer's numbers may do the same, or go on: what comes next was not heard of under the keys before.
        if let Some(source) = &mut self.source {
            source.reception.begin_anew();
            source.arrived = ReceivedMap::new();
        }
    }

    /// Keys of RTCP's own, where it has a channel of its own with DTLS (RFC 5764 §5): [`Call::control_protection`].
    ///
    /// [`Call::control_protection`]: crate::Call::control_protection
    pub fn set_control_protection(&mut self, protection: &Protection) {
        if is_under(protection, self.sender.as_ref(), self.receiver.as_ref()) {
            // They are those of RTP, which have counted already.
            self.control = None;
            return;
        }
        let known = |control: &Control| {
            is_under(
                protection,
                control.sender.as_ref(),
                control.receiver.as_ref(),
            )
        };
        if !self.control.as_deref().is_some_and(known) {
            let (sender, receiver) = contexts(protection);
            self.control = Some(Box::new(Control { sender, receiver }));
        }
    }

    /// Our source's name.
    pub fn ssrc(&self) -> u32 {
        self.sending.ssrc
    }

    /// Makes the packet of a frame that follows the one before. None while a digit sounds, which takes the frame's place,
    /// and when a key is used up, after which nothing more can be sent.
    pub fn send_frame(&mut self, payload: &[u8], length: Duration, now: Instant) -> Option<Bytes> {
        let mut room = std::mem::take(&mut self.room);
        let packet = self.send_frame_in(&mut room, payload, length, now);
        self.room = room;
        packet
    }

    /// The same in memory of the caller's, which thousands of streams may share: where the packet of one is gone before the
    /// next one sends, the same memory serves again, and is never far away. What `room` holds is lost.
    pub fn send_frame_in(
        &mut self,
        room: &mut BytesMut,
        payload: &[u8],
        length: Duration,
        now: Instant,
    ) -> Option<Bytes> {
        let timestamp = self.sending.timestamp;
        let sounding = self.sounding_since();
        if let Some(began) = sounding {
            // That of the first frame whose place it takes, however soon its own packets leave.
            self.digit_timestamp(began);
        }
        self.skip_units(length);
        self.begin_reports(now);
        self.sending.spoken_at = now;
        if sounding.is_some() {
            self.sending.marker = true;
            return None;
        }
        let marker = std::mem::replace(&mut self.sending.marker, false);
        let payload_type = self.sending.payload_type;
        self.packet_in(room, payload_type, marker, timestamp, payload)
    }

    /// Makes the packet that says what the background sounds like while nobody speaks (RFC 3389). None without a payload
    /// type for it, and while a digit sounds.
    pub fn send_noise(&mut self, payload: &[u8], now: Instant) -> Option<Bytes> {
        let payload_type = self.config.noise?;
        self.begin_reports(now);
        if self.sounding_since().is_some() {
            return None;
        }
        self.packet(payload_type, false, self.sending.timestamp, payload)
    }

    /// Whether the frame before was sent: what does not come behind it is missing, unless its receiver is told.
    pub(crate) fn is_speaking(&self) -> bool {
        !self.sending.marker
    }

    /// The peer sends with another of the agreed codecs from now on: its sound begins anew.
    pub fn set_receive(&mut self, config: &MediaConfig) {
        self.config.receive_types.clone_from(&config.receive_types);
        self.config.receive_rate = config.receive_rate;
        self.config.redundancy = config.redundancy;
        self.config.unit_bytes = config.unit_bytes;
        self.kinds = Kinds::new(&self.config);
        self.leave_source();
    }

    /// We send with another of the agreed codecs from now on. What the peer sends, and what waits to be played, stay.
    pub fn set_send(&mut self, config: &MediaConfig) {
        if self.sending.clock_rate != config.clock_rate.max(1) || config.digits.is_none() {
            // Digits count in the codec's time, and so do those that wait; without a payload type they would for ever.
            self.sending.digits = None;
            self.digit = None;
        }
        self.sending.clock_rate = config.clock_rate.max(1);
        self.sending.payload_type = config.send_type;
        self.sending.marker = true;
        self.config.clock_rate = self.sending.clock_rate;
        self.config.send_type = config.send_type;
        self.config.digits = config.digits;
        self.config.noise = config.noise;
        self.config.quality = config.quality;
        self.config
            .receive_digits
            .clone_from(&config.receive_digits);
        self.config.receive_noise.clone_from(&config.receive_noise);
        self.kinds = Kinds::new(&self.config);
    }

    /// Says that nothing was spoken for so long: the next frame begins a talk spurt (RFC 3551 §4.1).
    pub fn skip(&mut self, length: Duration) {
        self.skip_units(length);
        self.sending.marker = true;
        // Reports go by it: it belongs to the timestamp, which has gone on.
        self.sending.spoken_at += length;
    }

    /// The frame that the loudspeaker needs now, and whether to play it shorter or longer.
    pub fn pull(&mut self, now: Instant) -> (Playout, Stretch) {
        match &mut self.source {
            Some(source) => source.jitter.pull(now),
            None => (Playout::Silence, Stretch::Keep),
        }
    }

    /// Asks the processor for the memory that the next packets of this stream will touch, and does not wait for it. Who
    /// serves thousands of calls in one thread, and knows whose turn is next, does this before it turns to the one whose turn
    /// it is: the next one's memory is then there when it is needed. With few calls it gains nothing. It changes nothing, and
    /// does nothing on processors that cannot be asked (others than x86 and 64-bit ARM).
    pub fn prefetch(&self) {
        for bytes in OF_STREAM {
            lines::prefetch(&self.start, bytes);
        }
        if let Some(sender) = &self.sender {
            sender.prefetch();
        }
        if let Some(receiver) = &self.receiver {
            receiver.prefetch();
        }
        self.memory.prefetch();
        if let Some(source) = &self.source {
            source.prefetch(OF_SOURCE);
            source.jitter.prefetch();
        }
    }

    /// How long the peer's frames are: what is made up for one is to be as long.
    pub fn peer_frame(&self) -> Duration {
        let frame = self.source.as_ref().map(|source| source.jitter.frame());
        frame.unwrap_or(self.config.frame)
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let digit = self
            .sending
            .digits
            .as_ref()
            .and_then(|digits| digits.next_at());
        [self.sending.report_at, digit].into_iter().flatten().min()
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.send_digits(now);
        if self.sending.report_at.is_some_and(|at| at <= now) {
            self.report(now);
        }
    }

    /// The next packet that is to leave.
    pub fn poll_output(&mut self) -> Option<MediaOutput> {
        self.outputs.pop_front()
    }

    /// How it goes.
    pub fn stats(&self, now: Instant) -> MediaStats {
        let mut stats = self.stats;
        stats.sent.0 += self.sending.sent.0;
        stats.sent.1 += self.sending.sent.1;
        stats.received = self.arrivals.taken;
        stats.refused = self.arrivals.refused;
        if let Some(source) = &self.source {
            stats.jitter = source.reception.jitter();
            stats.buffer = source.jitter.delay(now).unwrap_or_default();
            stats.playout += source.jitter.stats();
        }
        stats
    }

    /// The peer's sound begins anew. What was counted of it stays counted.
    fn leave_source(&mut self) {
        if let Some(source) = self.source.take() {
            self.stats.playout += source.jitter.stats();
        }
    }

    /// Writes and protects a packet. None when the key is used up.
    fn packet(
        &mut self,
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
    ) -> Option<Bytes> {
        let mut room = std::mem::take(&mut self.room);
        let packet = self.packet_in(&mut room, payload_type, marker, timestamp, payload);
        self.room = room;
        packet
    }

    fn packet_in(
        &mut self,
        room: &mut BytesMut,
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
    ) -> Option<Bytes> {
        room.clear();
        room.reserve(HEADER_ROOM + payload.len() + TAG_ROOM);
        let header = RtpHeader {
            marker,
            payload_type,
            sequence: self.sending.sequence,
            timestamp,
            ssrc: self.sending.ssrc,
            ..RtpHeader::default()
        };
        header.write(room);
        room.put_slice(payload);
        if let Some(sender) = &mut self.sender
            && sender.protect_rtp(room).is_err()
        {
            room.clear();
            return None;
        }
        let packet = room.split().freeze();
        self.sending.sequence = self.sending.sequence.wrapping_add(1);
        self.sending.sent.0 += 1;
        self.sending.sent.1 += payload.len() as u64;
        Some(packet)
    }

    fn push(&mut self, output: MediaOutput) {
        if self.outputs.len() >= OUTPUTS_MAX {
            self.outputs.pop_front();
        }
        self.outputs.push_back(output);
    }

    fn skip_units(&mut self, length: Duration) {
        self.sending.timestamp = self.sending.timestamp.wrapping_add(self.units(length));
    }

    fn units(&self, time: Duration) -> u32 {
        (time.as_nanos() * u128::from(self.sending.clock_rate) / 1_000_000_000) as u32
    }

    /// A number that nobody guesses without the seed: for names and times, not for keys.
    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    fn new_jitter(&self) -> JitterBuffer {
        JitterBuffer::new(JitterConfig {
            frame: self.config.frame,
            // Said of each packet.
            copies: 0,
            ..JitterConfig::new(self.config.receive_rate)
        })
    }
}

/// Whether these are of this protection.
fn is_under(
    protection: &Protection,
    sender: Option<&SrtpSender>,
    receiver: Option<&SrtpReceiver>,
) -> bool {
    match (protection, sender, receiver) {
        (Protection::Srtp { ours, theirs }, Some(sender), Some(receiver)) => {
            sender.master() == ours && receiver.master() == theirs
        }
        (Protection::Plain, None, None) => true,
        (Protection::Srtp { .. } | Protection::Plain, _, _) => false,
    }
}

/// What protects what we send, and what opens what the peer sends.
fn contexts(protection: &Protection) -> (Option<SrtpSender>, Option<SrtpReceiver>) {
    match protection {
        Protection::Srtp { ours, theirs } => {
            (Some(SrtpSender::new(ours)), Some(SrtpReceiver::new(theirs)))
        }
        Protection::Plain => (None, None),
    }
}

impl fmt::Debug for MediaStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MediaStream")
            .field("ssrc", &self.sending.ssrc)
            .field("protected", &self.sender.is_some())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
