//! One tunnel's bytes: what waits to be sent, what waits to be read, how far it is, and how it ended.

use crate::{Tunnel, TunnelLimits, queue::ByteQueue};
use bytes::Bytes;
use session_core::{
    Cause, ChannelId, Peer, Reason, ReasonCondition, Role, SendError, Session, Signal,
};
use std::time::Instant;

/// Most bytes that are handed to the channel at once.
const PIECE_MAX: usize = 64 * 1024;

/// A channel that does not take this many bytes at once takes nothing.
const PIECE_MIN: usize = 256;

/// One tunnel, seen from our side. It is there from the offer until
/// [`TunnelClient::release`](crate::TunnelClient::release), also when its session is gone.
#[derive(Debug)]
pub struct TunnelStream {
    tunnel: Tunnel,
    peer: Peer,
    role: Role,
    phase: Phase,
    pub(crate) channel: Option<ChannelId>,
    limits: TunnelLimits,
    outgoing: ByteQueue,
    incoming: ByteQueue,
    /// Most bytes that the channel takes at once, as far as we know.
    piece: usize,
    /// Somebody was refused, or the queue was filled, and is to be told when there is room.
    refused: bool,
    finish: bool,
    finish_told: bool,
    delivered: bool,
    peer_finished: bool,
    paused: bool,
    progress: Progress,
    cause: Option<Cause>,
    signal: Signal<Change>,
}

/// Where a tunnel is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// The peer offers it; we have not decided.
    Offered,
    /// We offered it; the peer has not decided.
    Waiting,
    /// Both sides have accepted it. Whether bytes flow, [`Progress`] tells.
    Open,
    /// It is over. What had arrived can still be read.
    Ended,
}

/// What a tunnel announces. The getters of [`TunnelStream`] tell where things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Change {
    /// Both sides have accepted.
    Opened,
    /// There is something to read where there was nothing: bytes, or the end.
    Readable,
    /// There is room to write after there was none.
    Writable,
    /// Everything that we wrote before we finished has reached the peer.
    Delivered,
    /// The tunnel is over.
    Ended,
}

/// How many bytes have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Taken from our application.
    pub written: u64,
    /// Of those, handed to the transport.
    pub sent: u64,
    /// Received from the peer, in order.
    pub received: u64,
    /// Of those, read by our application.
    pub read: u64,
}

/// How well it is known that a stream is whole.
///
/// libjingle's streams have no mark at their end: the sender waits until everything is acknowledged and then ends the
/// session with `success`, which is all that a receiver sees of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Completeness {
    /// The end of the stream itself has arrived.
    Verified,
    /// The peer ended the session with `success`, and nothing but its word says that this was the end.
    Unverified,
}

/// What there is to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    /// The next bytes; never empty.
    Bytes(Bytes),
    /// Nothing yet. A [`Change`] follows.
    Pending,
    /// The peer's stream is over, and everything was read.
    End(Completeness),
    /// The tunnel broke: what was read is not all.
    Broken(Cause),
}

/// What outsiders may know.
impl TunnelStream {
    /// What it is for.
    pub fn tunnel(&self) -> &Tunnel {
        &self.tunnel
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Which side of the session we are.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How many bytes have come how far.
    pub fn progress(&self) -> Progress {
        self.progress
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        if self.finish || self.phase == Phase::Ended {
            return 0;
        }
        self.limits
            .send_bytes
            .saturating_sub(self.outgoing.length())
    }

    /// How many bytes can be read now.
    pub fn readable(&self) -> usize {
        self.incoming.length()
    }

    /// Whether all that we wrote is known to have reached the peer: after we finished, the transport had every byte
    /// acknowledged, or the peer ended the session with `success`, which it says of a stream whose end it has read.
    pub fn is_delivered(&self) -> bool {
        self.delivered || self.finish_told && self.outgoing.is_empty() && self.ended_well()
    }

    /// Whether all that the peer sends has been received (read or not). `None` while more may come, and when the
    /// tunnel broke.
    pub fn received(&self) -> Option<Completeness> {
        if self.peer_finished {
            return Some(Completeness::Verified);
        }
        self.ended_well().then_some(Completeness::Unverified)
    }

    /// Why it is over, once it is.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Announces what changes. A listener looks at the getters after each notice; it may miss steps, never the end.
    pub fn signal(&self) -> &Signal<Change> {
        &self.signal
    }

    fn ended_well(&self) -> bool {
        matches!(&self.cause, Some(Cause::Remote(Some(reason))) if reason.condition == ReasonCondition::Success)
    }
}

/// What the client does with it.
impl TunnelStream {
    pub(crate) fn new(
        tunnel: Tunnel,
        peer: Peer,
        role: Role,
        phase: Phase,
        limits: TunnelLimits,
    ) -> Self {
        Self {
            tunnel,
            peer,
            role,
            phase,
            channel: None,
            limits,
            outgoing: ByteQueue::default(),
            incoming: ByteQueue::default(),
            piece: PIECE_MAX,
            refused: false,
            finish: false,
            finish_told: false,
            delivered: false,
            peer_finished: false,
            paused: false,
            progress: Progress::default(),
            cause: None,
            signal: Signal::new(),
        }
    }

    /// Whether bytes have been on the way in either direction, so that the stream cannot begin anew.
    pub(crate) fn is_under_way(&self) -> bool {
        self.progress.sent > 0 || self.progress.received > 0 || self.finish_told
    }

    /// Whether the file was ours to send.
    pub(crate) fn is_sender(&self) -> bool {
        self.tunnel.sender() == Some(self.role)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.finish
    }

    pub(crate) fn opened(&mut self) {
        if matches!(self.phase, Phase::Offered | Phase::Waiting) {
            self.phase = Phase::Open;
            self.signal.emit(Change::Opened);
        }
    }

    /// Takes as much of `bytes` as there is room for, and returns how much that is.
    pub(crate) fn write(&mut self, bytes: &mut Bytes) -> usize {
        let count = bytes.len().min(self.room());
        if count < bytes.len() {
            self.refused = true;
        }
        if count > 0 {
            self.outgoing.push(bytes.split_to(count));
            self.progress.written += count as u64;
        }
        count
    }

    pub(crate) fn finish(&mut self) {
        self.finish = true;
        self.refused = false;
    }

    /// Hands to the channel what it takes now.
    ///
    /// # Errors
    /// The channel takes not even the smallest piece.
    pub(crate) fn pump(&mut self, session: &mut Session, now: Instant) -> Result<(), Reason> {
        let Some(channel) = self.channel.filter(|_| self.phase != Phase::Ended) else {
            return Ok(());
        };
        while session.writable(channel)
            && let Some(piece) = self.outgoing.pop(self.piece)
        {
            let size = piece.len();
            let result = session.send(channel, piece.clone(), now);
            if result.is_ok() {
                self.progress.sent += size as u64;
                continue;
            }
            self.outgoing.unpop(piece);
            match result {
                Ok(()) | Err(SendError::NotWritable) => break,
                Err(SendError::TooLarge) if self.piece > PIECE_MIN => self.piece /= 2,
                Err(SendError::TooLarge | SendError::NoSuchChannel | SendError::Finished) => {
                    let reason = Reason::new(ReasonCondition::FailedTransport);
                    return Err(reason.with_text("the channel takes no more bytes"));
                }
            }
        }
        // A stream that ends before it began would not tell the peer.
        let began = self.progress.sent > 0 || session.writable(channel);
        if self.finish && !self.finish_told && self.outgoing.is_empty() && began {
            self.finish_told = true;
            session.finish(channel, now);
        }
        if self.refused && self.outgoing.length() <= self.limits.send_bytes / 2 {
            self.refused = false;
            self.signal.emit(Change::Writable);
        }
        Ok(())
    }

    /// Bytes of the peer. More than our limit is taken: it was under way when we held the peer back.
    pub(crate) fn receive(&mut self, bytes: Bytes, session: &mut Session, now: Instant) {
        if bytes.is_empty() || self.phase == Phase::Ended {
            return;
        }
        self.progress.received += bytes.len() as u64;
        let was_empty = self.incoming.is_empty();
        self.incoming.push(bytes);
        if !self.paused
            && self.incoming.length() >= self.limits.receive_bytes
            && let Some(channel) = self.channel
        {
            self.paused = true;
            session.pause(channel, true, now);
        }
        if was_empty {
            self.signal.emit(Change::Readable);
        }
    }

    /// The next bytes, and whether the peer may go on now.
    pub(crate) fn read(&mut self, max: usize) -> (Read, bool) {
        if let Some(bytes) = self.incoming.pop(max.max(1)) {
            self.progress.read += bytes.len() as u64;
            let resume = self.paused && self.incoming.length() <= self.limits.receive_bytes / 2;
            if resume {
                self.paused = false;
            }
            return (Read::Bytes(bytes), resume);
        }
        let end = match (self.received(), &self.cause) {
            (Some(completeness), _) => Read::End(completeness),
            (None, Some(cause)) => Read::Broken(cause.clone()),
            (None, None) => Read::Pending,
        };
        (end, false)
    }

    pub(crate) fn peer_finished(&mut self) {
        if !self.peer_finished {
            self.peer_finished = true;
            self.signal.emit(Change::Readable);
        }
    }

    pub(crate) fn everything_delivered(&mut self) {
        if self.finish_told && !self.delivered {
            self.delivered = true;
            self.signal.emit(Change::Delivered);
        }
    }

    /// Whether all that we had to say was delivered, and nothing is to come.
    pub(crate) fn is_done(&self) -> bool {
        self.delivered && (self.is_sender() || self.peer_finished)
    }

    /// Whether all that was to come has come, and we have nothing to say.
    pub(crate) fn is_satisfied(&self) -> bool {
        let silent = self.tunnel.sender() == Some(self.role.other());
        self.peer_finished && (silent || self.delivered)
    }

    pub(crate) fn ended(&mut self, cause: Cause) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        self.channel = None;
        self.cause = Some(cause);
        // Nobody will ever take it.
        if !self.is_delivered() {
            self.outgoing.clear();
        }
        self.signal.emit(Change::Ended);
    }
}
