//! PseudoTCP: a reliable byte stream over any datagram path, as libjingle and libnice speak it.
//!
//! [`PseudoTcp`] is one end of one stream: a state machine without sockets, clock or randomness. The caller hands in
//! segments and the time, and takes out segments, events and the next deadline:
//!
//! ```
//! use std::time::{Duration, Instant};
//! use transport_p2p::pseudotcp::{Config, Event, PseudoTcp};
//!
//! let mut now = Instant::now();
//! let mut caller = PseudoTcp::new(Config::default(), now);
//! let mut callee = PseudoTcp::new(Config::default(), now);
//! caller.connect(now)?;
//! caller.write(b"hello", now)?;
//! caller.close(now);
//!
//! let mut received = Vec::new();
//! loop {
//!     // 1. Drain what is to be sent; here the "network" is a function call.
//!     while let Some(batch) = caller.poll_transmit(now, 64) {
//!         callee.handle_batch(batch.payload, batch.segment_size, now);
//!     }
//!     while let Some(batch) = callee.poll_transmit(now, 64) {
//!         caller.handle_batch(batch.payload, batch.segment_size, now);
//!     }
//!     // 2. Drain events and data.
//!     while let Some(event) = callee.poll_event() {
//!         if event == Event::PeerClosed {
//!             callee.close(now);
//!         }
//!     }
//!     while let Some(bytes) = callee.read(now) {
//!         received.extend_from_slice(&bytes);
//!     }
//!     // 3. Wait for the earliest deadline, or for a datagram.
//!     let Some(deadline) = caller.poll_timeout().into_iter().chain(callee.poll_timeout()).min() else {
//!         break;
//!     };
//!     now = deadline;
//!     caller.handle_timeout(now);
//!     callee.handle_timeout(now);
//! }
//! assert_eq!(received, b"hello");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # On the wire
//!
//! The header and the CONNECT message are libjingle's (pseudotcp.cc); see `wire.rs` for the bytes. There is no SYN,
//! no ACK bit and, in libjingle, no FIN:
//!
//! - A segment with the CTL flag carries a control message. The only one in use, CONNECT (`00` and options), opens
//!   the stream in each direction and consumes as many sequence numbers as it has bytes. Sequence numbers start at 0.
//! - Options are kind, length, value: window scale (3), FIN-ACK (254, libnice), and our own selective acknowledgement
//!   (253 with the identifier `SK`, RFC 6994). An option is in force if both sides sent it. Without window scale in
//!   the peer's CONNECT, windows are unscaled in both directions and at most 60 KiB.
//! - With FIN-ACK, a segment with flag 0x01 ends its direction and consumes one sequence number. Without it, nothing
//!   on the wire tells the end: after [`close`](PseudoTcp::close) the stream is over as soon as everything is
//!   acknowledged, and signalling has to tell the peer.
//! - With selective acknowledgement, a segment with flag 0x08 carries no data but up to 128 ranges (two sequence
//!   numbers each) that arrived out of order.
//! - RST (0x04) ends the stream at once. It is believed only if its sequence number lies in the receive window and
//!   its acknowledgement number is plausible.
//!
//! # Who waits for whom
//!
//! Nothing is sent but by [`poll_transmit`](PseudoTcp::poll_transmit): hold the CONNECT, or the answer to it, by not
//! polling until the datagram path is writable. (libjingle's responder drops its answer silently while its own path
//! is not writable, and repeats it only after 3 s: connect when a connectivity check of the peer was answered.)
//!
//! # Limits
//!
//! Memory is bounded by [`Config::send_buffer`] and [`Config::receive_buffer`] (in order and out of order together),
//! plus [`MAX_BATCH_BYTES`] per batch and less than 400 KiB of bookkeeping under attack. A slice that
//! [`read`](PseudoTcp::read) returns keeps its datagram's buffer alive; a batch of which less than half is used is
//! copied.

mod close;
mod flight;
#[cfg(any(test, fuzzing, feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;
mod inbox;
mod input;
mod layer;
mod output;
mod queue;
pub(crate) mod ranges;
pub(crate) mod rtt;
mod timers;
mod wire;

#[cfg(test)]
mod tests;

pub use self::layer::PseudoTcpLayer;

use self::{
    close::Events, flight::Flight, inbox::Inbox, output::Acknowledgement, queue::SendQueue,
    ranges::ORIGIN, rtt::Rtt, timers::Timers, wire::Options,
};
use crate::congestion::{Congestion, Model, Pacer};
use bytes::{Bytes, BytesMut};
use std::time::{Duration, Instant};
use thiserror::Error;

/// Smallest path MTU: the last step of libjingle's ladder.
pub const MIN_MTU: u16 = 296;

/// Path MTUs that are tried one after the other when datagrams are too large (libjingle).
pub const MTU_LADDER: [u16; 10] = [
    65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, MIN_MTU,
];

/// Bytes of a datagram around the segment that libjingle reckons with: UDP 8, IP 20, relay framing 64.
pub const DEFAULT_OVERHEAD: u16 = 92;

/// Receive window towards a peer that does not scale windows (libjingle's default buffer).
pub const UNSCALED_WINDOW: usize = 60 * 1024;

/// Largest receive buffer: what a window field with the largest shift can tell.
pub const MAX_BUFFER: usize = 0xffff << 14;

/// Most segments in one batch (the kernel's limit for UDP segmentation offload).
pub const MAX_BATCH_SEGMENTS: usize = 64;

/// Most bytes in one batch.
pub const MAX_BATCH_BYTES: usize = 65_000;

/// What a stream is set up with. [`Config::default`] suits two ends of this implementation and works with libjingle
/// and libnice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The conversation that both ends must name in each segment; libjingle and libnice use 0. Default 0.
    pub conversation: u32,
    /// Path MTU in bytes, IP header included; taken into [`MIN_MTU`]..=65535. Default 1500.
    pub mtu: u16,
    /// Bytes of the MTU that go to what is around a segment, at most 128. Default [`DEFAULT_OVERHEAD`].
    pub overhead: u16,
    /// Most bytes that are held for the application to read; taken into 1..=[`MAX_BUFFER`]. Default 4 MiB.
    pub receive_buffer: usize,
    /// Most bytes that are held unacknowledged; at least 1. Default 4 MiB.
    pub send_buffer: usize,
    /// Offer scaled windows. Without, the receive buffer is at most 65,535 bytes. Default `true`.
    pub window_scale: bool,
    /// Offer an orderly end by FIN (libnice's extension). Default `true`.
    pub fin: bool,
    /// Offer selective acknowledgement (our own extension, which others ignore). Default `true`.
    pub sack: bool,
    /// Send short segments at once. Otherwise a short one waits while another short one is unacknowledged. Default
    /// `false`.
    pub no_delay: bool,
    /// How long an acknowledgement may wait for company. Default 100 ms.
    pub ack_delay: Duration,
    /// The retransmission timeout before a round trip was measured, taken into 250 ms..=3 s. libjingle has 3 s.
    /// Default 1 s.
    pub initial_rto: Duration,
    /// Timeouts in a row before the stream is given up. Default 15.
    pub max_retransmits: u32,
    /// Timeouts in a row before connecting is given up. Default 30.
    pub max_connect_retransmits: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            conversation: 0,
            mtu: 1500,
            overhead: DEFAULT_OVERHEAD,
            receive_buffer: 4 << 20,
            send_buffer: 4 << 20,
            window_scale: true,
            fin: true,
            sack: true,
            no_delay: false,
            ack_delay: Duration::from_millis(100),
            initial_rto: Duration::from_secs(1),
            max_retransmits: 15,
            max_connect_retransmits: 30,
        }
    }
}

impl Config {
    /// Every value in its range.
    fn bounded(mut self) -> Self {
        let most = if self.window_scale {
            MAX_BUFFER
        } else {
            0xffff
        };
        self.mtu = self.mtu.max(MIN_MTU);
        self.overhead = self.overhead.min(128);
        self.receive_buffer = self.receive_buffer.clamp(1, most);
        self.send_buffer = self.send_buffer.max(1);
        self
    }

    /// The shift that makes the receive buffer fit into the window field.
    fn scale(&self) -> u8 {
        let mut scale = 0;
        while self.receive_buffer >> scale > 0xffff && scale < wire::MAX_SCALE {
            scale += 1;
        }
        scale
    }

    fn options(&self) -> Options {
        Options {
            scale: self.window_scale.then(|| self.scale()),
            fin: self.fin,
            sack: self.sack,
        }
    }
}

/// Where a stream is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Neither end has said anything: waiting for [`PseudoTcp::connect`] or for the peer's CONNECT.
    Listen,
    /// We connect, and the peer has not answered.
    SynSent,
    /// The peer's CONNECT was received, and ours is not acknowledged.
    SynReceived,
    /// Open in both directions, or closed by the peer only.
    Established,
    /// Closed by us; some of our data or the peer's end is still to come.
    Closing,
    /// Over, and told so; still here for a moment to acknowledge what the peer repeats.
    Lingering,
    /// Over.
    Closed,
}

/// What the application should know. Each can be re-read: [`PseudoTcp::state`], [`PseudoTcp::error`],
/// [`PseudoTcp::read`], [`PseudoTcp::writable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The peer has answered: the stream is open.
    Open,
    /// There is data to read. Comes again after [`PseudoTcp::read`] has returned `None`.
    Readable,
    /// Half of the send buffer is free again, after a write was cut short or refused.
    Writable,
    /// The peer sends no more (FIN); what it sent before can still be read.
    PeerClosed,
    /// The stream is over, orderly or with an error. Received data can still be read.
    Closed(Option<Error>),
}

/// Why a stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Error {
    /// The peer reset the stream.
    #[error("stream reset by peer")]
    Reset,
    /// The peer acknowledged nothing for too long.
    #[error("peer stopped acknowledging")]
    TimedOut,
    /// The peer did not answer our CONNECT, or did not acknowledge its answer.
    #[error("peer did not answer the connect request")]
    ConnectTimedOut,
    /// We called [`PseudoTcp::abort`].
    #[error("stream aborted")]
    Aborted,
    /// The path does not carry even the smallest datagrams.
    #[error("path does not carry datagrams of {MIN_MTU} bytes")]
    PathTooSmall,
}

/// A call that the stream's state does not permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Misuse {
    /// [`PseudoTcp::connect`] was called on a stream that already is connecting, connected or over.
    #[error("stream was connected before")]
    Connected,
    /// Data was written after [`PseudoTcp::close`], or to a stream that is over.
    #[error("stream is closed for writing")]
    Closed,
}

/// Counters since the stream was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Segments handed out by [`PseudoTcp::poll_transmit`].
    pub segments_sent: u64,
    /// Segments handed in that belong to this stream.
    pub segments_received: u64,
    /// Segments handed in that were dropped: too short, another conversation, outside of the window, against the
    /// state.
    pub segments_refused: u64,
    /// Data bytes that were sent, each time counted.
    pub bytes_sent: u64,
    /// Data bytes that were sent again.
    pub bytes_retransmitted: u64,
    /// Data bytes that were concluded to be lost, other than by a timeout.
    pub bytes_lost: u64,
    /// Times that the retransmission timer ran out.
    pub timeouts: u64,
    /// Times that loss was noticed by acknowledgements.
    pub recoveries: u64,
    /// Retransmissions that turned out to be needless.
    pub spurious: u64,
}

/// One end of one stream. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct PseudoTcp {
    config: Config,
    /// Zero of our timestamps.
    epoch: Instant,
    state: State,
    error: Option<Error>,
    /// What both ends have offered; before the peer's CONNECT, what we offer.
    options: Options,
    send_scale: u8,
    receive_scale: u8,
    /// Position of our CONNECT.
    start: u64,
    /// Our CONNECT message.
    connect: Vec<u8>,
    connect_due: bool,
    reset_due: bool,
    /// The application has closed its direction.
    closing: bool,
    queue: SendQueue,
    flight: Flight,
    /// Right edge of the peer's window.
    window_edge: u64,
    /// The window that the peer told last.
    window: u64,
    largest_window: u64,
    inbox: Inbox,
    /// Whether any data has come.
    has_received: bool,
    controller: Box<dyn Congestion>,
    pacer: Pacer,
    /// When the newest data left that is known to have arrived.
    newest_sent: Instant,
    /// End of the last short segment.
    short_end: u64,
    rtt: Rtt,
    /// Timeouts in a row.
    backoff: u32,
    /// Window probes that no segment has answered.
    unanswered: u32,
    probe_due: bool,
    window_probe_due: bool,
    probed: bool,
    mss: u64,
    timers: Timers,
    acknowledgement: Acknowledgement,
    events: Events,
    buffer: BytesMut,
    stats: Stats,
}

impl PseudoTcp {
    /// A stream that listens. `now` is the zero of its timestamps.
    pub fn new(config: Config, now: Instant) -> Self {
        Self::with_start(config, 0, now)
    }

    /// A stream whose own sequence numbers begin at `start` instead of 0, for testing the wrap-around.
    fn with_start(config: Config, start: u32, now: Instant) -> Self {
        let config = config.bounded();
        let options = config.options();
        let connect = options.encode();
        let start = ORIGIN + u64::from(start);
        let mss = u64::from(segment_payload(config.mtu, config.overhead));
        Self {
            epoch: now,
            state: State::Listen,
            error: None,
            send_scale: 0,
            receive_scale: options.scale.unwrap_or(0),
            start,
            queue: SendQueue::new(start + connect.len() as u64, config.send_buffer),
            connect,
            connect_due: false,
            reset_due: false,
            closing: false,
            flight: Flight::new(start),
            window_edge: start,
            window: 0,
            largest_window: 0,
            inbox: Inbox::new(0, config.receive_buffer),
            has_received: false,
            controller: Box::new(Model::new(mss, now)),
            pacer: Pacer::new(mss, now),
            newest_sent: now,
            short_end: start,
            rtt: Rtt::new(config.initial_rto),
            backoff: 0,
            unanswered: 0,
            probe_due: false,
            window_probe_due: false,
            probed: false,
            mss,
            timers: Timers::default(),
            acknowledgement: Acknowledgement::default(),
            events: Events::default(),
            buffer: BytesMut::new(),
            stats: Stats::default(),
            options,
            config,
        }
    }

    /// Begins to connect. The CONNECT leaves with the next [`poll_transmit`](Self::poll_transmit).
    ///
    /// # Errors
    /// [`Misuse::Connected`] in any state but [`State::Listen`].
    pub fn connect(&mut self, _now: Instant) -> Result<(), Misuse> {
        if self.state != State::Listen {
            return Err(Misuse::Connected);
        }
        self.state = State::SynSent;
        self.connect_due = true;
        Ok(())
    }

    /// Queues a copy of `data` as far as there is space, and returns how many bytes that was. Permitted before the
    /// stream is open.
    ///
    /// After less than all was taken, [`Event::Writable`] tells when half of the send buffer is free.
    ///
    /// # Errors
    /// [`Misuse::Closed`] after [`close`](Self::close) or the end of the stream.
    pub fn write(&mut self, data: &[u8], _now: Instant) -> Result<usize, Misuse> {
        self.check_writable()?;
        let accepted = self.queue.write(data);
        self.events.write_blocked |= accepted < data.len();
        Ok(accepted)
    }

    /// Queues as much from the front of `data` as there is space for, without copying when that is at least 4 KiB;
    /// the rest stays in `data`. Returns how many bytes were taken. Otherwise as [`write`](Self::write).
    ///
    /// # Errors
    /// [`Misuse::Closed`] after [`close`](Self::close) or the end of the stream.
    pub fn send(&mut self, data: &mut Bytes, _now: Instant) -> Result<usize, Misuse> {
        self.check_writable()?;
        let accepted = self.queue.push(data);
        self.events.write_blocked |= !data.is_empty();
        Ok(accepted)
    }

    /// Queues all of `data` if there is any space at all, so that the send buffer is exceeded by one piece at most.
    /// Returns whether it was taken. Otherwise as [`write`](Self::write).
    ///
    /// # Errors
    /// [`Misuse::Closed`] after [`close`](Self::close) or the end of the stream.
    pub fn send_whole(&mut self, data: Bytes, _now: Instant) -> Result<bool, Misuse> {
        self.check_writable()?;
        let taken = self.queue.space() > 0;
        if taken {
            self.queue.push_whole(data);
        }
        self.events.write_blocked |= !taken;
        Ok(taken)
    }

    /// The next received bytes in order, or `None` if there are none at present. See
    /// [`is_finished`](Self::is_finished) for the end.
    pub fn read(&mut self, _now: Instant) -> Option<Bytes> {
        let bytes = self.inbox.read();
        self.on_read(bytes.is_some());
        bytes
    }

    /// As [`read`](Self::read), but joins short slices by copying: up to `most` bytes, or one slice if that is
    /// longer.
    pub fn read_joined(&mut self, most: usize, _now: Instant) -> Option<Bytes> {
        let bytes = self.inbox.read_joined(most);
        self.on_read(bytes.is_some());
        bytes
    }

    fn on_read(&mut self, any: bool) {
        if any {
            self.update_window();
        } else {
            self.events.read_blocked = true;
        }
    }

    /// Path MTU in bytes, taken into [`MIN_MTU`]..=65535; unsent data is cut accordingly.
    pub fn set_mtu(&mut self, mtu: u16) {
        self.config.mtu = mtu.max(MIN_MTU);
        self.mss = u64::from(segment_payload(self.config.mtu, self.config.overhead));
        self.controller.set_packet_size(self.mss);
        self.pacer.set_packet_size(self.mss);
    }

    /// The path refused a batch as too large: steps down [`MTU_LADDER`] and sends again what is unacknowledged.
    ///
    /// Ends the stream with [`Error::PathTooSmall`] when there is no smaller step.
    pub fn handle_too_large(&mut self, now: Instant) {
        let Some(&mtu) = MTU_LADDER.iter().find(|&&step| step < self.config.mtu) else {
            self.fail(Error::PathTooSmall);
            return;
        };
        self.set_mtu(mtu);
        match self.state {
            State::SynSent | State::SynReceived => self.connect_due = true,
            State::Established | State::Closing => {
                self.flight.lose_all();
                self.arm_retransmit(now);
            }
            State::Listen | State::Lingering | State::Closed => {}
        }
    }

    /// The path is there again after an interruption, or is another one: asks at once for what is missing instead of
    /// waiting for the timeout.
    pub fn handle_path_up(&mut self, now: Instant) {
        self.backoff = 0;
        match self.state {
            State::SynSent | State::SynReceived => self.connect_due = true,
            State::Established | State::Closing if !self.flight.is_empty() => {
                self.probe_due = true;
                self.arm_retransmit(now);
            }
            State::Established | State::Closing => {
                self.window_probe_due |= self.timers.window.is_some()
            }
            State::Listen | State::Lingering | State::Closed => {}
        }
    }

    /// The next event, in the order open, readable, writable, peer closed, closed.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.poll()
    }

    /// Where the stream is in its life.
    pub fn state(&self) -> State {
        self.state
    }

    /// Why the stream is over; `None` while it is not, and after an orderly end.
    pub fn error(&self) -> Option<Error> {
        self.error
    }

    /// Whether the peer has ended its direction and everything was read.
    pub fn is_finished(&self) -> bool {
        self.inbox.is_finished() && self.inbox.readable() == 0
    }

    /// Whether the end of a direction is told on the wire: both sides have offered FIN. Meaningful from
    /// [`Event::Open`] on.
    pub fn has_fin(&self) -> bool {
        self.options.fin
    }

    /// Whether everything that was written, and after [`close`](Self::close) the FIN, has been acknowledged.
    pub fn is_delivered(&self) -> bool {
        let fin = self.closing && self.options.fin;
        self.flight.una() >= self.queue.end() + u64::from(fin)
    }

    /// Whether both sides have offered selective acknowledgement. Meaningful from [`Event::Open`] on.
    pub fn has_sack(&self) -> bool {
        self.options.sack
    }

    /// Bytes that wait to be read.
    pub fn readable(&self) -> u64 {
        self.inbox.readable()
    }

    /// Bytes that can be written at present.
    pub fn writable(&self) -> u64 {
        if self.check_writable().is_ok() {
            self.queue.space()
        } else {
            0
        }
    }

    /// Bytes that were written and not yet acknowledged, sent or not.
    pub fn unacknowledged(&self) -> u64 {
        self.queue.length()
    }

    /// Bytes thought to be in the network.
    pub fn in_flight(&self) -> u64 {
        self.flight.pipe()
    }

    /// Bytes held for reading, in order and behind holes.
    pub fn received(&self) -> u64 {
        self.inbox.held()
    }

    /// The congestion window, in bytes.
    pub fn congestion_window(&self) -> u64 {
        self.controller.window()
    }

    /// Most data bytes in one segment.
    pub fn mss(&self) -> usize {
        self.mss as usize
    }

    /// The present path MTU in bytes.
    pub fn mtu(&self) -> u16 {
        self.config.mtu
    }

    /// Smoothed round-trip time; `None` before the first measurement.
    pub fn srtt(&self) -> Option<Duration> {
        self.rtt.smoothed()
    }

    /// Counters.
    pub fn stats(&self) -> Stats {
        self.stats
    }

    fn check_writable(&self) -> Result<(), Misuse> {
        match self.state {
            State::Listen | State::SynSent | State::SynReceived | State::Established
                if !self.closing =>
            {
                Ok(())
            }
            State::Listen
            | State::SynSent
            | State::SynReceived
            | State::Established
            | State::Closing
            | State::Lingering
            | State::Closed => Err(Misuse::Closed),
        }
    }

    /// Our timestamp, in milliseconds; never 0 at the start, which peers take for none.
    fn clock(&self, now: Instant) -> u32 {
        let elapsed = now.saturating_duration_since(self.epoch).as_millis() as u32;
        elapsed.wrapping_add(1)
    }
}

/// Data bytes of a segment on a path of this MTU.
fn segment_payload(mtu: u16, overhead: u16) -> u16 {
    mtu - overhead - wire::HEADER as u16
}
