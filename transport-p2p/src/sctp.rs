//! SCTP above any datagram channel (RFC 9260), as WebRTC's data channels use it (RFC 8831): messages in streams,
//! reliable or not, ordered or not.
//!
//! [`Association`] is one end: a state machine without sockets, clock or randomness. The caller hands in packets and the
//! time, and takes out packets, messages, events and the next deadline. [`DataChannels`] opens and closes data channels
//! above it (RFC 8832).
//!
//! ```
//! use std::time::Instant;
//! use transport_p2p::sctp::{Association, Config, Delivery};
//!
//! let mut now = Instant::now();
//! let mut alice = Association::new(Config::default(), [1; 32], now);
//! let mut bob = Association::new(Config::default(), [2; 32], now);
//! alice.connect(now);
//! bob.connect(now);
//! alice.send(0, 53, "hello".into(), &Delivery::default(), now)?;
//! let message = loop {
//!     // The "network" is a function call.
//!     let mut quiet = true;
//!     while let Some(batch) = alice.poll_transmit(now, 64) {
//!         bob.handle_batch(&batch, now);
//!         quiet = false;
//!     }
//!     while let Some(batch) = bob.poll_transmit(now, 64) {
//!         alice.handle_batch(&batch, now);
//!         quiet = false;
//!     }
//!     if let Some(message) = bob.read(now) {
//!         break message;
//!     }
//!     if !quiet {
//!         continue;
//!     }
//!     now = alice.poll_timeout().into_iter().chain(bob.poll_timeout()).min().expect("more to come");
//!     alice.handle_timeout(now);
//!     bob.handle_timeout(now);
//! };
//! assert_eq!(message.payload, "hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it speaks
//! RFC 9260 with one path; both ends may begin at once. Interleaving (RFC 8260) with peers that have it, partial
//! reliability (RFC 3758), outgoing resets of streams (RFC 6525, as far as RFC 8831 needs it), no checksums above DTLS
//! where the peer agrees (RFC 9653), and set-up without a round trip where signalling carries the
//! [INIT of both](Association::init_chunk) (draft-hancke-tsvwg-snap).
//!
//! Losses are concluded from the order of departure (RFC 8985), a lost tail is probed for, what is sent is paced, and
//! [`congestion`](crate::congestion) decides how much that is.
//!
//! # What it does not
//! A peer that begins anew with tags of its own (RFC 9260 §5.2.4.1, a restart) ends the association with
//! [`Error::Restarted`], and is told by ABORT. Data channels have no word for what a restart loses: what the peer had
//! acknowledged went with its memory, and its channels are gone. libdatachannel ends the connection too; libwebrtc goes on
//! with empty streams, which a file must not. What is above begins again, and resumes where it verified.
//!
//! # Limits
//! Memory is bounded by [`Config::send_buffer`] and [`Config::receive_buffer`] with two messages of
//! [`Config::max_message_size`] above each; messages that grow take up to twice what they count. Nothing is kept for a peer
//! before its cookie has come back (RFC 9260 §5.1).

mod assemble;
mod channel;
mod flight;
#[cfg(any(test, fuzzing, feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;
mod inbound;
mod input;
mod layer;
mod mtu;
mod negotiation;
mod outbound;
mod reset;
mod setup;
mod timers;
mod transmit;
mod transport;
mod wire;

#[cfg(test)]
mod tests;

pub use self::channel::{
    ChannelConfig, ChannelEvent, ChannelMessage, DataChannels, MAX_CHANNELS, MAX_LABEL,
};

pub use self::{
    layer::{DataChannelConfig, DataChannelLayer},
    negotiation::{INIT_NAMESPACE, NAMESPACE},
    transport::{DataChannelTransportFactory, TRANSPORT_NAMESPACE},
};

use self::{
    flight::Flight, inbound::Inbound, outbound::Outbound, reset::Resets, setup::Setup,
    timers::Timers,
};
use crate::{
    congestion::{Congestion, Model, Pacer},
    pseudotcp::{ranges::ORIGIN, rtt::Rtt},
};
use bytes::{Bytes, BytesMut};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};
use thiserror::Error;

/// Most packets in one batch (the kernel's limit for UDP segmentation offload).
pub const MAX_BATCH_PACKETS: usize = 64;

/// Most bytes in one batch.
pub const MAX_BATCH_BYTES: usize = 65_000;

/// The port of WebRTC's data channels on both sides (RFC 8841).
pub const DEFAULT_PORT: u16 = 5000;

/// Smallest packet size that can be set.
pub const MIN_PACKET: usize = 512;

/// Largest packet that is ever sought: DTLS carries no more in a record (RFC 9147 §4).
const MOST_PACKET: usize = 16_000;

/// Most events that wait; past it, resets are not acknowledged until some are taken.
const MAX_EVENTS: usize = 1024;

/// What an association is set up with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Our port. Default [`DEFAULT_PORT`].
    pub local_port: u16,
    /// The peer's. Default [`DEFAULT_PORT`].
    pub remote_port: u16,
    /// Largest packet in bytes that every path carries, taken into [`MIN_PACKET`]..=65,000. Default 1180, which with DTLS
    /// fits into the 1,232 bytes that IPv6 carries everywhere.
    pub max_packet: usize,
    /// Size of packets in bytes, up to 16,000, on a path that is found to carry them (RFC 8899), or what the channel below
    /// takes ([`Association::limit_packets`]); not sought if that is less than twice `max_packet`. Default 8,800, which with
    /// DTLS and all below it fits into Ethernet's jumbo frames.
    pub largest_packet: usize,
    /// Largest message that is accepted, in bytes, at least 1,024. Default 256 KiB, what browsers say by default.
    pub max_message_size: usize,
    /// The receive window in bytes, at least twice the largest message. Default 8 MiB.
    pub receive_buffer: usize,
    /// Bytes that may wait to be sent or acknowledged. Default 8 MiB.
    pub send_buffer: usize,
    /// Streams in each direction, at least 1. Default 65,535.
    pub streams: u16,
    /// Interleave messages if the peer does (RFC 8260). Default `true`.
    pub interleave: bool,
    /// What is below protects packets itself (DTLS), so that checksums can be left out if the peer agrees (RFC 9653).
    /// Default `true`.
    pub no_checksums: bool,
    /// How long an acknowledgement may wait for company. Default 20 ms.
    pub ack_delay: Duration,
    /// The retransmission timeout before a round trip was measured. Default 1 s.
    pub initial_rto: Duration,
    /// Timeouts in a row before the association is given up. Default 10.
    pub max_retransmits: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            local_port: DEFAULT_PORT,
            remote_port: DEFAULT_PORT,
            max_packet: 1180,
            largest_packet: 8_800,
            max_message_size: 256 * 1024,
            receive_buffer: 8 << 20,
            send_buffer: 8 << 20,
            streams: u16::MAX,
            interleave: true,
            no_checksums: true,
            ack_delay: Duration::from_millis(20),
            initial_rto: Duration::from_secs(1),
            max_retransmits: 10,
        }
    }
}

impl Config {
    fn bounded(mut self) -> Self {
        self.max_packet = self.max_packet.clamp(MIN_PACKET, MAX_BATCH_BYTES) / 4 * 4;
        self.largest_packet = self.largest_packet.min(MOST_PACKET);
        self.max_message_size = self.max_message_size.max(1024);
        self.receive_buffer = self
            .receive_buffer
            .clamp(2 * self.max_message_size, u32::MAX as usize);
        self.streams = self.streams.max(1);
        self
    }
}

/// Where an association is in its life (RFC 9260 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing was said: waiting for [`Association::connect`] or for the peer.
    Idle,
    /// Our INIT has left.
    CookieWait,
    /// The peer has answered it, and its cookie goes back.
    CookieEchoed,
    /// Open.
    Established,
    /// We have ended it; what we have sent is still being acknowledged.
    ShutdownPending,
    /// We have told the peer.
    ShutdownSent,
    /// The peer has ended it; what we have sent is still being acknowledged.
    ShutdownReceived,
    /// We have told the peer that everything has arrived.
    ShutdownAckSent,
    /// Over.
    Closed,
}

/// How a message is to be delivered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// It may overtake others of its stream.
    pub unordered: bool,
    /// It is given up after so many repetitions. With peers that know RFC 3758; others get it reliably.
    pub max_retransmits: Option<u16>,
    /// It is given up after so long. Without effect beside `max_retransmits`.
    pub lifetime: Option<Duration>,
}

/// A message that arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its stream.
    pub stream: u16,
    /// Its payload protocol identifier.
    pub protocol: u32,
    /// Whether it could overtake others.
    pub unordered: bool,
    /// What was sent.
    pub payload: Bytes,
}

/// What the application should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The association is open.
    Open,
    /// There are messages to read. Comes again after [`Association::read`] has returned `None`.
    Readable,
    /// Half of the send buffer is free again, after a message was refused.
    Writable,
    /// The peer begins these streams anew, or all if there are none; what it sent on them before has arrived.
    IncomingReset(Vec<u16>),
    /// The peer has agreed that we begin these streams anew (`true`), or not.
    OutgoingReset(Vec<u16>, bool),
    /// The association is over, orderly or with an error. Received messages can still be read.
    Closed(Option<Error>),
}

/// Why an association ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The peer aborted the association.
    #[error("association aborted by peer")]
    Reset,
    /// The peer acknowledged nothing for too long.
    #[error("peer stopped acknowledging")]
    TimedOut,
    /// The peer did not answer our INIT, or not the cookie.
    #[error("peer did not answer the association's set-up")]
    ConnectTimedOut,
    /// We called [`Association::abort`].
    #[error("association aborted")]
    Aborted,
    /// The peer has forgotten the association and began another.
    #[error("peer restarted the association")]
    Restarted,
    /// The peer broke the protocol.
    #[error("peer broke the protocol: {0}")]
    Violation(&'static str),
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// The send buffer is full; [`Event::Writable`] tells when not.
    #[error("send buffer is full")]
    Full,
    /// A message has at least one byte (RFC 9260 §3.3.1).
    #[error("message is empty")]
    Empty,
    /// There is no such stream.
    #[error("no such stream")]
    NoSuchStream,
    /// The stream is being reset.
    #[error("stream is being reset")]
    Resetting,
    /// The association is over or ending.
    #[error("association is closed for sending")]
    Closed,
}

/// Counters since the association was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Packets handed out.
    pub packets_sent: u64,
    /// Packets handed in that belong to this association.
    pub packets_received: u64,
    /// Packets handed in that were dropped: damaged, of others, against the state.
    pub packets_refused: u64,
    /// Data bytes that were sent, each time counted.
    pub bytes_sent: u64,
    /// Data bytes that were sent again.
    pub bytes_retransmitted: u64,
    /// Data bytes that were concluded to be lost.
    pub bytes_lost: u64,
    /// Times that the retransmission timer ran out.
    pub timeouts: u64,
    /// Losses that were none.
    pub spurious: u64,
}

/// What both ends have agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Features {
    partial: bool,
    interleave: bool,
    reset: bool,
    no_checksums: bool,
}

/// One end of an association. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Association {
    config: Config,
    state: State,
    error: Option<Error>,
    setup: Setup,
    /// The tag that the peer's packets carry, and that of ours.
    local_tag: u32,
    remote_tag: u32,
    features: Features,
    /// Streams that we may use.
    streams: u16,
    outbound: Outbound,
    flight: Flight,
    /// The peer's window, as told last.
    window: u64,
    inbound: Inbound,
    resets: Resets,
    controller: Box<dyn Congestion>,
    pacer: Pacer,
    mtu: mtu::Mtu,
    rtt: Rtt,
    /// Timeouts in a row.
    backoff: u32,
    probed: bool,
    probe_due: bool,
    /// The peer's window was closed for a timeout: one packet asks, until something arrives.
    asking: bool,
    forward_due: bool,
    /// Shutdown messages that are due: SHUTDOWN, SHUTDOWN ACK, SHUTDOWN COMPLETE, ABORT.
    ending: transmit::Ending,
    acknowledgement: transmit::Acknowledgement,
    timers: Timers,
    /// Chunks in answer to the peer's, each whole.
    replies: VecDeque<Bytes>,
    events: VecDeque<Event>,
    read_blocked: bool,
    write_blocked: bool,
    buffer: BytesMut,
    stats: Stats,
}

impl Association {
    /// An end that waits. `seed` is fresh randomness: tags, numbers and the secret of cookies are drawn from it.
    pub fn new(config: Config, seed: [u8; 32], now: Instant) -> Self {
        Self::with_controller(config, seed, now, |packet| {
            Box::new(Model::new(packet, now))
        })
    }

    /// As [`new`](Self::new), with another controller, which is made for packets of so many bytes.
    pub fn with_controller(
        config: Config,
        seed: [u8; 32],
        now: Instant,
        controller: impl FnOnce(u64) -> Box<dyn Congestion>,
    ) -> Self {
        let config = config.bounded();
        let setup = Setup::new(seed, now);
        let packet = config.max_packet as u64;
        let first = ORIGIN + u64::from(setup.first_number());
        Self {
            state: State::Idle,
            error: None,
            local_tag: setup.local_tag(),
            remote_tag: 0,
            features: Features::default(),
            streams: config.streams,
            outbound: Outbound::default(),
            flight: Flight::new(first),
            window: 0,
            inbound: Inbound::new(
                ORIGIN,
                config.receive_buffer,
                config.max_message_size,
                false,
            ),
            resets: Resets::new(setup.first_number()),
            setup,
            controller: controller(packet),
            pacer: Pacer::new(packet, now),
            mtu: mtu::Mtu::new(config.max_packet, config.largest_packet),
            rtt: Rtt::new(config.initial_rto),
            backoff: 0,
            probed: false,
            probe_due: false,
            asking: false,
            forward_due: false,
            ending: transmit::Ending::default(),
            acknowledgement: transmit::Acknowledgement::default(),
            timers: Timers::default(),
            replies: VecDeque::new(),
            events: VecDeque::new(),
            read_blocked: true,
            write_blocked: false,
            buffer: BytesMut::new(),
            stats: Stats::default(),
            config,
        }
    }

    /// The round trip of the path as what is below has measured it: what is sent before the first acknowledgement can be
    /// spread over it, and is more for that. Without effect once one was measured here.
    pub fn assume_round_trip(&mut self, rtt: Duration) {
        self.controller.assume_round_trip(rtt);
    }

    /// Begins to connect. Both ends may (RFC 8831 §6.2: both do). Without effect in any state but [`State::Idle`].
    pub fn connect(&mut self, _now: Instant) {
        if self.state == State::Idle {
            self.state = State::CookieWait;
            self.setup.init_due = true;
        }
    }

    /// Queues a message; permitted before the association is open. The send buffer is exceeded by one message at most.
    ///
    /// # Errors
    /// The message was not taken, for the named reason.
    pub fn send(
        &mut self,
        stream: u16,
        protocol: u32,
        payload: Bytes,
        delivery: &Delivery,
        now: Instant,
    ) -> Result<(), SendError> {
        self.check_send(stream, &payload)?;
        if self.buffered() >= self.config.send_buffer as u64 {
            self.write_blocked = true;
            return Err(SendError::Full);
        }
        self.queue(stream, protocol, payload, delivery, now)
    }

    /// As [`send`](Self::send), whether the send buffer is full or not.
    fn queue(
        &mut self,
        stream: u16,
        protocol: u32,
        payload: Bytes,
        delivery: &Delivery,
        now: Instant,
    ) -> Result<(), SendError> {
        self.check_send(stream, &payload)?;
        self.outbound.push(stream, protocol, payload, delivery, now);
        Ok(())
    }

    fn check_send(&self, stream: u16, payload: &Bytes) -> Result<(), SendError> {
        match self.state {
            State::Idle | State::CookieWait | State::CookieEchoed | State::Established => {}
            State::ShutdownPending
            | State::ShutdownSent
            | State::ShutdownReceived
            | State::ShutdownAckSent
            | State::Closed => return Err(SendError::Closed),
        }
        if payload.is_empty() {
            return Err(SendError::Empty);
        }
        if stream >= self.streams {
            return Err(SendError::NoSuchStream);
        }
        if self.resets.holds(stream) {
            return Err(SendError::Resetting);
        }
        Ok(())
    }

    /// The next message that arrived. The peer's window opens as messages are read.
    pub fn read(&mut self, _now: Instant) -> Option<Message> {
        let message = self.inbound.read();
        self.read_blocked |= message.is_none();
        let hears = matches!(
            self.state,
            State::Established | State::ShutdownPending | State::ShutdownSent
        );
        self.acknowledgement.due |= hears && self.inbound.window_opened();
        message
    }

    /// Messages that wait to be read.
    fn unread(&self) -> usize {
        self.inbound.unread()
    }

    /// Begins streams anew: when what was sent on them is acknowledged, the peer is told (RFC 6525). Answered by
    /// [`Event::OutgoingReset`]. Until then nothing can be sent on them.
    pub fn reset_streams(&mut self, streams: &[u16]) {
        for &stream in streams.iter().filter(|stream| **stream < self.streams) {
            self.resets.want(stream);
        }
    }

    /// Ends the association when everything that was sent is acknowledged (RFC 9260 §9.2).
    pub fn shutdown(&mut self, now: Instant) {
        match self.state {
            State::Established => {
                self.state = State::ShutdownPending;
                self.advance_shutdown(now);
            }
            State::Idle | State::CookieWait | State::CookieEchoed => self.abort(),
            State::ShutdownPending
            | State::ShutdownSent
            | State::ShutdownReceived
            | State::ShutdownAckSent
            | State::Closed => {}
        }
    }

    /// Ends the association at once, and tells the peer with the next [`poll_transmit`](Self::poll_transmit).
    pub fn abort(&mut self) {
        self.fail(Error::Aborted);
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if self.read_blocked && self.inbound.has_messages() {
            self.read_blocked = false;
            return Some(Event::Readable);
        }
        let half = self.config.send_buffer as u64 / 2;
        if self.write_blocked && self.buffered() <= half {
            self.write_blocked = false;
            return Some(Event::Writable);
        }
        None
    }

    /// Where the association is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why the association is over; `None` while it is not, and after an orderly end.
    pub fn error(&self) -> Option<Error> {
        self.error
    }

    /// Bytes that were sent and are not acknowledged, whether they have left or not.
    pub fn buffered(&self) -> u64 {
        self.outbound.queued() + self.flight.outstanding()
    }

    /// Whether everything that was sent is acknowledged.
    pub fn is_delivered(&self) -> bool {
        self.outbound.is_empty() && self.flight.is_empty()
    }

    /// Bytes held of what the peer has sent, with what bookkeeping counts.
    pub fn received(&self) -> usize {
        self.inbound.held()
    }

    /// Smoothed round-trip time; `None` before the first measurement.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// The congestion window in bytes.
    pub fn congestion_window(&self) -> u64 {
        self.controller.window()
    }

    /// The largest packet in bytes that the path is known to carry.
    pub fn packet_size(&self) -> usize {
        self.mtu.packet()
    }

    /// Bytes thought to be on their way.
    pub fn in_flight(&self) -> u64 {
        self.flight.on_way()
    }

    /// Whether messages are interleaved (RFC 8260). Meaningful from [`Event::Open`] on.
    pub fn is_interleaved(&self) -> bool {
        self.features.interleave
    }

    /// Whether checksums are left out (RFC 9653). Meaningful from [`Event::Open`] on.
    pub fn has_no_checksums(&self) -> bool {
        self.features.no_checksums
    }

    /// Streams that can be used for sending. Meaningful from [`Event::Open`] on.
    pub fn streams(&self) -> u16 {
        self.streams
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    /// Ends with an error, which the peer is told by ABORT if it was ours to find.
    fn fail(&mut self, error: Error) {
        let known = self.remote_tag != 0;
        match error {
            Error::Reset => {}
            Error::TimedOut
            | Error::ConnectTimedOut
            | Error::Aborted
            | Error::Restarted
            | Error::Violation(_) => self.ending.abort |= known && self.state != State::Closed,
        }
        self.end(Some(error));
    }

    fn end(&mut self, error: Option<Error>) {
        if self.state == State::Closed {
            return;
        }
        self.state = State::Closed;
        self.error = error;
        self.timers.clear();
        self.acknowledgement.clear();
        self.outbound.clear();
        self.flight.clear();
        self.replies.clear();
        self.events.push_back(Event::Closed(error));
    }

    fn is_open(&self) -> bool {
        match self.state {
            State::Established
            | State::ShutdownPending
            | State::ShutdownSent
            | State::ShutdownReceived => true,
            State::Idle
            | State::CookieWait
            | State::CookieEchoed
            | State::ShutdownAckSent
            | State::Closed => false,
        }
    }
}
