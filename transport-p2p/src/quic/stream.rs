//! One connection, and one stream in each direction.

mod buffers;
mod events;
#[cfg(test)]
mod tests;

use super::{Config, ConfigError, Fingerprint, Identity, close, control::Gate, links::Links};
use buffers::{Lent, Received};
use bytes::Bytes;
use quinn_proto::{Connection, ReadError, StreamId, VarInt, WriteError};
use session_core::{Batch, Role};
use std::{
    fmt,
    time::{Duration, Instant},
};
use thiserror::Error;

/// The least that is kept until it is acknowledged: what a path of unknown length needs at once.
const SEND_WINDOW_MIN: u64 = 1 << 20;

/// The most bytes of one batch of datagrams: an IP packet without its headers.
const BATCH_BYTES: usize = 65_535 - 48;

/// The most datagrams of one batch: what Linux takes in one system call.
const BATCH_SEGMENTS: usize = 64;

/// Later than any timer of a connection that has something under way.
const PROBE_AFTER: Duration = Duration::from_secs(3_600);

/// Why a connection is no more.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Closed {
    /// The peer let go of it ([`close::GONE`]).
    #[error("the peer let go of the connection")]
    Gone,
    /// The peer closed it because it could not go on, or refuses us.
    #[error("the peer closed the connection: {0}")]
    Refused(String),
    /// The peer's certificate is not the one whose fingerprint was told.
    #[error("the peer's certificate is not the one that was told in signalling")]
    WrongCertificate,
    /// The peer does what it must not.
    #[error("the peer broke the protocol: {0}")]
    Protocol(String),
    /// Nothing came for [`Config::patience`].
    #[error("the peer has fallen silent")]
    Silent,
    /// The channel below does not carry [`DATAGRAM_MIN`](super::DATAGRAM_MIN) bytes.
    #[error("the path does not carry the smallest datagrams of QUIC")]
    PathTooSmall,
    /// [`QuicStream::close`] was called.
    #[error("closed here")]
    Here,
    /// The cryptography that QUIC needs is missing here.
    #[error("the cryptography that QUIC needs is missing")]
    NoCryptography,
}

/// What is known of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// The smoothed round trip.
    pub rtt: Duration,
    /// The congestion window, in bytes.
    pub window: u64,
    /// The size of datagrams, in bytes.
    pub datagram_size: u16,
    /// Datagrams that were sent.
    pub sent: u64,
    /// Packets that were lost.
    pub lost: u64,
}

/// A reliable stream in each direction over a QUIC connection, as a state machine.
///
/// Call something, then drain [`poll_transmit`](Self::poll_transmit) and [`read`](Self::read), look at the getters, and
/// ask [`poll_timeout`](Self::poll_timeout).
pub struct QuicStream {
    config: Config,
    links: Option<Links>,
    /// Whether we are the client.
    calls: bool,
    open: bool,
    /// Whether the peer is known to have the whole handshake (RFC 9001 §4.1.2).
    confirmed: bool,
    outgoing: Option<StreamId>,
    incoming: Option<StreamId>,
    /// What was taken and does not yet fit into the window.
    rest: Bytes,
    finish: bool,
    finish_sent: bool,
    delivered: bool,
    finished: bool,
    closed: Option<Closed>,
    /// When the first datagram left after the last that came, or since when there is a path again.
    silent_since: Option<Instant>,
    /// Whether the peer was asked whether it is there.
    asked: bool,
    /// There is no path: nobody is expected to say anything.
    suspended: bool,
    lent: Lent,
    received: Received,
}

impl QuicStream {
    /// A connection to the peer that has the certificate with this fingerprint. The session's initiator calls; the first
    /// datagrams can be polled at once.
    ///
    /// `seed` is fresh randomness.
    ///
    /// # Errors
    /// A value of the configuration is out of its range.
    pub fn new(
        config: Config,
        role: Role,
        identity: &Identity,
        peer: Fingerprint,
        seed: [u8; 32],
        now: Instant,
    ) -> Result<Self, ConfigError> {
        config.check()?;
        let calls = role == Role::Initiator;
        let links = Links::new(&config, identity, peer, calls, seed, now);
        Ok(Self {
            closed: links.is_none().then_some(Closed::NoCryptography),
            config,
            links,
            calls,
            open: false,
            confirmed: false,
            outgoing: None,
            incoming: None,
            rest: Bytes::new(),
            finish: false,
            finish_sent: false,
            delivered: false,
            finished: false,
            silent_since: None,
            asked: false,
            suspended: false,
            lent: Lent::default(),
            received: Received::default(),
        })
    }

    /// Whether the handshake is over and the connection stands.
    pub fn is_open(&self) -> bool {
        self.open && self.closed.is_none()
    }

    /// Whether [`send`](Self::send) takes bytes now.
    pub fn is_writable(&self) -> bool {
        self.is_open() && !self.finish && self.rest.is_empty()
    }

    /// Whether the peer's stream has ended, and everything of it was [read](Self::read).
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// After [`finish`](Self::finish): whether the peer has acknowledged everything, the end included.
    pub fn is_delivered(&self) -> bool {
        self.delivered
    }

    /// Why there is no connection any more.
    pub fn closed(&self) -> Option<&Closed> {
        self.closed.as_ref()
    }

    /// One datagram arrived, or several of equal size.
    pub fn handle_batch(&mut self, payload: Bytes, segment_size: usize, now: Instant) {
        let Some(links) = &mut self.links else { return };
        let mut taken = false;
        for datagram in self.received.datagrams(payload, segment_size) {
            taken |= links.handle(datagram, now);
        }
        if taken {
            self.silent_since = None;
            self.asked = false;
            self.attend();
        }
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        for link in self.links.iter_mut().flat_map(|links| &mut links.all) {
            link.connection.handle_timeout(now);
            if let Some(gate) = &mut link.gate {
                gate.handle_timeout(now);
            }
        }
        self.review_silence(now);
        self.attend();
    }

    /// There is no path, and no telling when there will be one: the peer's silence means nothing.
    pub fn suspend(&mut self) {
        self.suspended = true;
    }

    /// There is a path again.
    pub fn resume(&mut self, now: Instant) {
        if !std::mem::take(&mut self.suspended) {
            return;
        }
        self.asked = false;
        if self.silent_since.is_some() {
            self.silent_since = Some(now);
        }
        // The answer tells what was lost meanwhile, which else the next timer would.
        if let Some(connection) = self.connection().filter(|c| !c.is_handshaking()) {
            connection.ping();
        }
    }

    /// The next bytes of the stream. `false` when they were not taken, because the window is full:
    /// [`is_writable`](Self::is_writable) changes when it is not any more. Not before it is open.
    ///
    /// Bytes that were taken are not copied.
    pub fn send(&mut self, bytes: Bytes) -> bool {
        if !self.is_writable() {
            return false;
        }
        self.rest = bytes;
        self.write();
        true
    }

    /// Nothing more will be sent. The peer is told behind the last byte.
    pub fn finish(&mut self) {
        self.finish = true;
        self.write();
    }

    /// At most `max` bytes that arrived, in one piece; `None` when there are none.
    pub fn read(&mut self, max: usize) -> Option<Bytes> {
        let id = self.incoming?;
        let connection = &mut self.links.as_mut()?.all.first_mut()?.connection;
        let mut stream = connection.recv_stream(id);
        let mut chunks = stream.read(true).ok()?;
        let mut joined = self.received.joined(max);
        let ended = loop {
            let room = max - joined.len();
            if room == 0 {
                break None;
            }
            match chunks.next(room) {
                Ok(Some(chunk)) => joined.extend_from_slice(&chunk.bytes),
                Ok(None) => break Some(true),
                Err(ReadError::Blocked) => break None,
                Err(ReadError::Reset(_)) => break Some(false),
            }
        };
        let _ = chunks.finalize();
        let bytes = self.received.hand_out(joined);
        match ended {
            Some(true) => self.finished = true,
            // A stream that breaks is never ended as if it were whole.
            Some(false) => self.end(Closed::Gone),
            None => {}
        }
        if ended.is_some() {
            self.incoming = None;
        }
        bytes
    }

    /// Lets go: the peer learns it by what [`poll_transmit`](Self::poll_transmit) gives once more.
    pub fn close(&mut self, now: Instant) {
        self.close_with(close::GONE, now);
        self.end(Closed::Here);
    }

    /// Datagrams to send, at most `max` of them and all of the same size but the last; `None` when there is nothing to
    /// send now.
    pub fn poll_transmit(&mut self, max: usize, now: Instant) -> Option<Batch> {
        if self.confirmed && self.closed.is_none() {
            self.fit_window();
        }
        let confirmed = self.confirmed;
        let links = self.links.as_mut()?;
        for link in &mut links.all {
            let size = link.connection.current_mtu();
            let mut max = max.min(BATCH_SEGMENTS).min(BATCH_BYTES / usize::from(size));
            if let Some(gate) = &mut link.gate {
                max = max.min(gate.permit(size.into(), !confirmed, now));
            }
            let mut buffer = self.lent.take();
            let transmit = link.connection.poll_transmit(now, max.max(1), &mut buffer);
            let Some(transmit) = transmit else {
                self.lent.put_back(buffer);
                continue;
            };
            if let Some(gate) = &mut link.gate {
                gate.on_sent(transmit.size as u64);
            }
            if self.silent_since.is_none() {
                self.silent_since = Some(now);
            }
            let payload = self.lent.lend(buffer, transmit.size);
            let segment_size = transmit.segment_size.filter(|size| *size < payload.len());
            return Some(Batch {
                payload,
                segment_size: segment_size.unwrap_or(0),
            });
        }
        None
    }

    /// The channel below refused datagrams of this size as too large. QUIC takes them for lost, and concludes.
    pub fn handle_too_large(&mut self, size: usize) {
        if size <= usize::from(super::DATAGRAM_MIN) {
            self.end(Closed::PathTooSmall);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` when nothing is pending.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        let silence = self.silence_due();
        let links = self.links.iter_mut().flat_map(|links| &mut links.all);
        let timers = links.flat_map(|link| {
            let pace = link.gate.as_ref().and_then(Gate::poll_timeout);
            [link.connection.poll_timeout(), pace]
        });
        timers.chain([silence]).flatten().min()
    }

    /// What is known of the connection, once it is [open](Self::is_open).
    pub fn stats(&self) -> Option<Stats> {
        let link = self.links.as_ref()?.all.first().filter(|_| self.open)?;
        let stats = link.connection.stats();
        Some(Stats {
            rtt: stats.path.rtt,
            window: link.window(),
            datagram_size: stats.path.current_mtu,
            sent: stats.udp_tx.datagrams,
            lost: stats.path.lost_packets,
        })
    }

    /// The one that counts.
    fn connection(&mut self) -> Option<&mut Connection> {
        let link = self.links.as_mut()?.all.first_mut();
        link.map(|link| &mut link.connection).filter(|_| self.open)
    }

    /// Keeps as much as the path can use twice over, and no more: what is kept leaves the processor's caches.
    fn fit_window(&mut self) {
        let most = u64::from(self.config.send_window);
        let link = self.links.as_mut().and_then(|links| links.all.first_mut());
        let Some(link) = link else { return };
        let window = link.window().saturating_mul(2);
        let window = window.clamp(SEND_WINDOW_MIN.min(most), most);
        link.connection.set_send_window(window);
    }

    /// Looks whether the peer has the whole handshake: then everything may be sent.
    fn confirm(&mut self) {
        if self.confirmed || !self.open {
            return;
        }
        let link = self.links.as_ref().and_then(|links| links.all.first());
        let done = link.is_some_and(|link| link.connection.stats().frame_rx.handshake_done > 0);
        // A server that has its client's last word need not be told.
        if done || !self.calls {
            self.confirmed = true;
            self.fit_window();
            self.write();
        }
    }

    /// Gives to the connection what waits for it.
    fn write(&mut self) {
        let Some(id) = self.outgoing.filter(|_| self.closed.is_none()) else {
            return;
        };
        let mut rest = std::mem::take(&mut self.rest);
        let finish = self.finish && !self.finish_sent;
        let Some(connection) = self.connection() else {
            return;
        };
        let mut stream = connection.send_stream(id);
        let mut failed = false;
        while !rest.is_empty() {
            match stream.write_chunks(std::slice::from_mut(&mut rest)) {
                Ok(_) => {}
                Err(WriteError::Blocked) => break,
                Err(WriteError::Stopped(_) | WriteError::ClosedStream) => {
                    failed = true;
                    break;
                }
            }
        }
        let all = rest.is_empty();
        if finish && all && !failed {
            failed = stream.finish().is_err();
        }
        self.rest = rest;
        self.finish_sent |= finish && all && !failed;
        if failed {
            self.end(Closed::Gone);
        }
    }

    fn close_with(&mut self, code: u32, now: Instant) {
        let links = self.links.iter_mut().flat_map(|links| &mut links.all);
        for link in links.filter(|link| !link.connection.is_closed()) {
            // quinn-proto has it wait behind data for the congestion window; what goes with a probe does not wait.
            link.connection.handle_timeout(now + PROBE_AFTER);
            link.connection
                .close(now, VarInt::from_u32(code), Bytes::new());
        }
    }

    /// The first cause is the cause.
    fn end(&mut self, why: Closed) {
        if self.closed.is_none() {
            self.closed = Some(why);
        }
    }

    /// When the peer's silence is to be looked at.
    fn silence_due(&self) -> Option<Instant> {
        let since = self.silent_since?;
        let patience = match self.asked {
            true => self.config.patience,
            false => self.config.patience / 2,
        };
        let counts = !self.suspended && self.closed.is_none();
        since.checked_add(patience).filter(|_| counts)
    }

    fn review_silence(&mut self, now: Instant) {
        if self.silence_due().is_none_or(|due| due > now) {
            return;
        }
        if !self.asked {
            self.asked = true;
            if let Some(connection) = self.connection() {
                connection.ping();
            }
        }
        if self.silence_due().is_some_and(|due| due <= now) {
            self.close_with(close::FAILED, now);
            self.end(Closed::Silent);
        }
    }
}

/// Shows no secrets.
impl fmt::Debug for QuicStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QuicStream")
            .field("calls", &self.calls)
            .field("open", &self.open)
            .field("closed", &self.closed)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
