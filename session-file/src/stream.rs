//! One tunnel's bytes: what waits to be sent, what waits to be read, how far it is, and how it ended.

use crate::{
    Tunnel, TunnelLimits,
    flow::Flow,
    moving::{Keep, Report},
};
use bytes::Bytes;
use session_core::{
    Cause, ChannelId, Peer, PeerError, Reason, ReasonCondition, Role, Session, Signal,
};
use std::time::Instant;

/// One tunnel, seen from our side. It is there from the offer until
/// [`TunnelClient::release`](crate::TunnelClient::release), also when its session is gone.
#[derive(Debug)]
pub struct TunnelStream {
    tunnel: Tunnel,
    peer: Peer,
    role: Role,
    phase: Phase,
    flow: Flow,
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
    /// The bytes of a file are to be given again, from where the transfer began
    /// ([`FileClient::begin_again`](crate::FileClient::begin_again)).
    Rewound,
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
        self.flow.progress()
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        if self.phase == Phase::Ended {
            return 0;
        }
        self.flow.room()
    }

    /// How many bytes can be read now.
    pub fn readable(&self) -> usize {
        self.flow.readable()
    }

    /// Whether all that we wrote is known to have reached the peer: after we finished, the transport had every byte
    /// acknowledged, or the peer ended the session with `success`, which it says of a stream whose end it has read.
    pub fn is_delivered(&self) -> bool {
        self.flow.is_delivered() || self.flow.is_handed_over() && self.ended_well()
    }

    /// Whether all that the peer sends has been received (read or not). `None` while more may come, and when the
    /// tunnel broke.
    pub fn received(&self) -> Option<Completeness> {
        if self.flow.has_peer_finished() {
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
            flow: Flow::new(
                (limits.send_bytes, limits.receive_bytes),
                Keep::TUNNEL,
                None,
            ),
            cause: None,
            signal: Signal::new(),
        }
    }

    /// Whether bytes have been on the way in either direction, so that the stream cannot begin anew.
    pub(crate) fn is_under_way(&self) -> bool {
        self.flow.is_under_way()
    }

    /// What it does with the bytes.
    pub(crate) fn flow(&self) -> &Flow {
        &self.flow
    }

    /// Tells the peer where we are, so that it knows what we can.
    pub(crate) fn begin(&mut self, session: &mut Session, now: Instant) {
        self.flow.begin(session, now);
    }

    /// The channel has another transport now. Whether the stream goes on there.
    pub(crate) fn replaced(&mut self, session: &mut Session, now: Instant) -> bool {
        self.flow.replaced(session, now)
    }

    /// What the peer tells about the stream.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn told(&mut self, report: &Report, session: &Session) -> Result<(), PeerError> {
        if self.flow.told(report, session)? {
            self.signal.emit(Change::Readable);
        }
        Ok(())
    }

    pub(crate) fn channel(&self) -> Option<ChannelId> {
        self.flow.channel
    }

    pub(crate) fn set_channel(&mut self, channel: ChannelId) {
        self.flow.channel = Some(channel);
    }

    /// Whether the file was ours to send.
    pub(crate) fn is_sender(&self) -> bool {
        self.tunnel.sender() == Some(self.role)
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.flow.is_finished()
    }

    pub(crate) fn opened(&mut self) {
        if matches!(self.phase, Phase::Offered | Phase::Waiting) {
            self.phase = Phase::Open;
            self.signal.emit(Change::Opened);
        }
    }

    /// Takes as much of `bytes` as there is room for, and returns how much that is.
    pub(crate) fn write(&mut self, bytes: &mut Bytes) -> usize {
        self.flow.write(bytes)
    }

    pub(crate) fn finish(&mut self) {
        self.flow.finish();
    }

    /// Hands to the channel what it takes now.
    ///
    /// # Errors
    /// The channel takes not even the smallest piece.
    pub(crate) fn pump(&mut self, session: &mut Session, now: Instant) -> Result<(), Reason> {
        if self.phase != Phase::Ended && self.flow.pump(session, now)? {
            self.signal.emit(Change::Writable);
        }
        Ok(())
    }

    /// Bytes of the peer. More than our limit is taken: it was under way when we held the peer back.
    pub(crate) fn receive(&mut self, bytes: Bytes, session: &mut Session, now: Instant) {
        if self.phase != Phase::Ended && self.flow.receive(bytes, session, now) {
            self.signal.emit(Change::Readable);
        }
    }

    /// The next bytes, and whether the peer may go on now.
    pub(crate) fn read(&mut self, max: usize) -> (Read, bool) {
        if let Some((bytes, resume)) = self.flow.read(max) {
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
        if self.flow.peer_finished() {
            self.signal.emit(Change::Readable);
        }
    }

    pub(crate) fn everything_delivered(&mut self) {
        if self.flow.everything_delivered() {
            self.signal.emit(Change::Delivered);
        }
    }

    /// Whether all that we had to say was delivered, and nothing is to come.
    pub(crate) fn is_done(&self) -> bool {
        self.flow.is_delivered() && (self.is_sender() || self.flow.has_peer_finished())
    }

    /// Whether all that was to come has come, and we have nothing to say.
    pub(crate) fn is_satisfied(&self) -> bool {
        let silent = self.tunnel.sender() == Some(self.role.other());
        self.flow.has_peer_finished() && (silent || self.flow.is_delivered())
    }

    pub(crate) fn ended(&mut self, cause: Cause) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Ended;
        self.cause = Some(cause);
        // Nobody will ever take it.
        let forget = !self.is_delivered();
        self.flow.close(forget);
        self.signal.emit(Change::Ended);
    }
}
