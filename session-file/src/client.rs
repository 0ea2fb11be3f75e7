//! [`TunnelClient`]: the session client of tunnels.

mod config;

pub use config::{Offer, TunnelConfig, TunnelError, TunnelLimits, Verdict};

use crate::{
    Tunnel,
    moving::{MOVE_TIME, Report},
    stream::{Completeness, Phase, Read, TunnelStream},
    tunnel::TUNNEL,
};
use bytes::Bytes;
use session_core::{
    Cause, ChannelId, Element, Misuse, Modification, Peer, PeerError, Reason, ReasonCondition,
    Role, Session, SessionClient, SessionDescription, SessionError, SessionId, SessionManager,
    Signal, State,
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

/// The name of a tunnel's channel (libjingle `tunnelsessionclient.cc`).
pub const CHANNEL: &str = "tcp";

/// The name of a tunnel's content, where the dialect writes one (libjingle 0.7.1).
pub const CONTENT: &str = "tunnel";

type Policy = Box<dyn FnMut(&Offer) -> Verdict + Send>;

/// The session client of tunnels (libjingle `TunnelSessionClient`).
///
/// It is registered once ([`SessionManager::add_client`]). What an application does with tunnels are functions that
/// take the manager, because they act on a client and a session of it at the same time, and because a tunnel outlives
/// its session: what had arrived can be read until [`release`](Self::release).
///
/// What happens by itself:
/// - The channel is created when both sides have accepted, as libjingle does, so that nobody learns our addresses from a
///   mere offer.
/// - A receiver whose application has read [`Read::End`] of a marked stream ends the session with `success`. A sender
///   whose every byte was delivered waits [`TunnelConfig::linger`] for that, and then does it itself, as libjingle's
///   receivers expect. In a tunnel in which both may send, both directions count.
/// - When the transport is replaced while bytes are under way, two of ours go on where the receiver is. With another peer,
///   and when the transport fails for good, the tunnel breaks.
pub struct TunnelClient {
    config: TunnelConfig,
    streams: BTreeMap<SessionId, TunnelStream>,
    policy: Option<Policy>,
    signal_offer: Signal<Offer>,
}

/// Setting up, and looking.
impl TunnelClient {
    /// A client without a policy: every offer waits for the application.
    pub fn new(mut config: TunnelConfig) -> Self {
        config.limits.send_bytes = config.limits.send_bytes.max(1);
        Self {
            config,
            streams: BTreeMap::new(),
            policy: None,
            signal_offer: Signal::new(),
        }
    }

    /// Who decides about offers before the application is asked.
    pub fn set_policy(&mut self, policy: impl FnMut(&Offer) -> Verdict + Send + 'static) {
        self.policy = Some(Box::new(policy));
    }

    /// Announces each offer that waits for the application.
    pub fn signal_offer(&self) -> &Signal<Offer> {
        &self.signal_offer
    }

    /// The offers that wait for the application, in no particular order.
    pub fn offers(&self) -> impl Iterator<Item = Offer> {
        let offered = self
            .streams
            .iter()
            .filter(|(_, s)| s.phase() == Phase::Offered);
        offered.map(|(id, stream)| offer(*id, stream))
    }

    /// A tunnel to look at.
    pub fn stream(&self, session: SessionId) -> Option<&TunnelStream> {
        self.streams.get(&session)
    }

    /// All tunnels that were not released.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.streams.keys().copied()
    }
}

/// Acting.
impl TunnelClient {
    /// Offers `tunnel` to `to`, in a session that was made by
    /// [`SessionManager::create_session`] with [`TUNNEL`] as its type. Transports and dialect of the session may be
    /// chosen before.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing was sent.
    pub fn open(
        manager: &mut SessionManager,
        session: SessionId,
        to: Peer,
        tunnel: &Tunnel,
        now: Instant,
    ) -> Result<(), TunnelError> {
        let (client, session) = both(manager, session)?;
        let id = session.id();
        if client.streams.contains_key(&id) {
            return Err(TunnelError::InUse(id));
        }
        client.check_room()?;
        session.set_content_name(CONTENT)?;
        client.announce(session)?;
        session.initiate(to.clone(), Vec::new(), tunnel, now)?;
        let limits = client.config.limits;
        let stream = TunnelStream::new(tunnel.clone(), to, Role::Initiator, Phase::Waiting, limits);
        client.streams.insert(id, stream);
        Ok(())
    }

    /// Accepts an offer. The same description is the answer (libjingle AcceptTunnel).
    ///
    /// # Errors
    /// [`TunnelError`]; then the offer still waits.
    pub fn accept(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), TunnelError> {
        let (client, session) = both(manager, session)?;
        client.accept_in(session, now)
    }

    /// Declines an offer (libjingle DeclineTunnel), which is then released.
    ///
    /// # Errors
    /// [`TunnelError`]; then the offer still waits.
    pub fn decline(
        manager: &mut SessionManager,
        session: SessionId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), TunnelError> {
        let (client, session) = both(manager, session)?;
        let id = session.id();
        client.offered(id)?;
        session.reject(reason, now)?;
        client.streams.remove(&id);
        Ok(())
    }

    /// Takes as much of `bytes` as there is room for off its front, and returns how much that is. When it is not all,
    /// [`Change::Writable`](crate::Change::Writable) follows.
    ///
    /// Possible as soon as the tunnel is offered or accepted by us; bytes leave once there is a path.
    ///
    /// # Errors
    /// [`TunnelError`]; nothing was taken.
    pub fn write(
        manager: &mut SessionManager,
        session: SessionId,
        bytes: &mut Bytes,
        now: Instant,
    ) -> Result<usize, TunnelError> {
        let (client, session) = live(manager, session)?;
        let Some(stream) = client.streams.get_mut(&session.id()) else {
            return Err(TunnelError::Unknown(session.id()));
        };
        if stream.is_finished() {
            return Err(TunnelError::Finished);
        }
        let count = stream.write(bytes);
        client.pump(session, now);
        Ok(count)
    }

    /// Nothing more will be written. What was written is still sent; then the peer is told, if the protocol has a word
    /// for it, and the tunnel announces [`Change::Delivered`](crate::Change::Delivered).
    ///
    /// # Errors
    /// [`TunnelError`].
    pub fn finish(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), TunnelError> {
        let (client, session) = live(manager, session)?;
        if let Some(stream) = client.streams.get_mut(&session.id()) {
            stream.finish();
        }
        client.pump(session, now);
        Ok(())
    }

    /// What there is to read, at most `max` bytes of it. Possible also when the tunnel is over.
    ///
    /// To read the end of a marked stream is to say that all is well: the session is ended with `success`. An
    /// application that could not keep what it read closes the tunnel with another reason before that.
    ///
    /// # Errors
    /// [`TunnelError::NoClient`], [`TunnelError::Unknown`].
    pub fn read(
        manager: &mut SessionManager,
        session: SessionId,
        max: usize,
        now: Instant,
    ) -> Result<Read, TunnelError> {
        let client = client(manager)?;
        let stream = client.streams.get_mut(&session);
        let stream = stream.ok_or(TunnelError::Unknown(session))?;
        let (read, resume) = stream.read(max);
        let channel = stream.channel().filter(|_| resume);
        let satisfied = read == Read::End(Completeness::Verified) && stream.is_satisfied();
        if channel.is_some() || satisfied {
            let Some(session) = manager.session(session) else {
                return Ok(read);
            };
            if let Some(channel) = channel {
                session.pause(channel, false, now);
            }
            if satisfied {
                end(session, ReasonCondition::Success.into(), now);
            }
        }
        Ok(read)
    }

    /// Ends a tunnel with a reason, whatever is under way. It stays to be looked at until it is released. Does nothing
    /// when it is over already.
    ///
    /// # Errors
    /// [`TunnelError::NoClient`], [`TunnelError::Unknown`].
    pub fn close(
        manager: &mut SessionManager,
        session: SessionId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), TunnelError> {
        if !client(manager)?.streams.contains_key(&session) {
            return Err(TunnelError::Unknown(session));
        }
        if let Some(session) = manager.session(session) {
            end(session, reason, now);
        }
        Ok(())
    }

    /// Lets go of a tunnel, with what was not read. One that is not over is ended as cancelled, an offer is declined.
    ///
    /// # Errors
    /// [`TunnelError::NoClient`], [`TunnelError::Unknown`].
    pub fn release(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), TunnelError> {
        let stream = client(manager)?.streams.remove(&session);
        let stream = stream.ok_or(TunnelError::Unknown(session))?;
        if let Some(session) = manager.session(session) {
            match stream.phase() {
                Phase::Offered => reject(session, ReasonCondition::Decline.into(), now),
                Phase::Waiting | Phase::Open => end(session, ReasonCondition::Cancel.into(), now),
                Phase::Ended => {}
            }
        }
        Ok(())
    }
}

impl TunnelClient {
    fn check_room(&self) -> Result<(), TunnelError> {
        let max = self.config.limits.streams;
        if self.streams.len() >= max {
            return Err(TunnelError::TooMany {
                limit: "streams",
                max,
            });
        }
        Ok(())
    }

    fn offered(&mut self, id: SessionId) -> Result<&mut TunnelStream, TunnelError> {
        match self.streams.get_mut(&id) {
            Some(stream) if stream.phase() == Phase::Offered => Ok(stream),
            Some(_) => Err(TunnelError::NotOffered(id)),
            None => Err(TunnelError::Unknown(id)),
        }
    }

    fn accept_in(&mut self, session: &mut Session, now: Instant) -> Result<(), TunnelError> {
        let id = session.id();
        let stream = self.offered(id)?;
        let tunnel = stream.tunnel().clone();
        self.announce(session)?;
        session.accept(&tunnel, now)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.opened();
        }
        self.connect(session, now);
        Ok(())
    }

    /// What the layer has to say belongs into the offer or the answer; the channel comes after both.
    fn announce(&self, session: &mut Session) -> Result<(), Misuse> {
        match &self.config.layer {
            Some(layer) => session.announce_layer(layer),
            None => Ok(()),
        }
    }

    /// A peer offers: the policy, then the application.
    fn receive_offer(&mut self, session: &mut Session, now: Instant) {
        let description = session.remote_description().map(Tunnel::from_element);
        let Some(Ok(tunnel)) = description else {
            let reason = Reason::new(ReasonCondition::IncompatibleParameters);
            return reject(session, reason, now);
        };
        let waiting = self.offers().count();
        if self.check_room().is_err() || waiting >= self.config.limits.offers {
            return reject(session, ReasonCondition::Busy.into(), now);
        }
        let peer = session.remote_name().clone();
        let limits = self.config.limits;
        let stream = TunnelStream::new(tunnel, peer, Role::Responder, Phase::Offered, limits);
        let offer = offer(session.id(), &stream);
        let verdict = self.policy.as_mut().map(|policy| policy(&offer));
        if let Some(Verdict::Decline(reason)) = verdict {
            return reject(session, reason, now);
        }
        self.streams.insert(session.id(), stream);
        if verdict != Some(Verdict::Accept) {
            self.signal_offer.emit(offer);
        } else if let Err(error) = self.accept_in(session, now) {
            let reason = Reason::new(ReasonCondition::FailedApplication);
            reject(session, reason.with_text(error.to_string()), now);
        }
    }

    /// Both sides have accepted: the stream gets its channel.
    fn connect(&mut self, session: &mut Session, now: Instant) {
        let Some(stream) = self.streams.get_mut(&session.id()) else {
            return;
        };
        let channel = match &self.config.layer {
            Some(layer) => session.create_stream_channel(CHANNEL, Arc::clone(layer), now),
            None => session.create_channel(CHANNEL, now),
        };
        match channel {
            Ok(channel) => {
                stream.set_channel(channel);
                stream.begin(session, now);
            }
            // It ended meanwhile, which is told next.
            Err(Misuse::TooLate(_)) => {}
            Err(misuse) => {
                let reason = Reason::new(ReasonCondition::FailedTransport);
                end(session, reason.with_text(misuse.to_string()), now);
            }
        }
    }

    fn pump(&mut self, session: &mut Session, now: Instant) {
        if let Some(stream) = self.streams.get_mut(&session.id())
            && let Err(reason) = stream.pump(session, now)
        {
            end(session, reason, now);
        }
    }

    /// Ends a session that has served its purpose, unless the peer does it soon.
    fn linger(&self, session: &mut Session, now: Instant) {
        let stream = self.streams.get(&session.id());
        if stream.is_some_and(TunnelStream::is_done) {
            session.set_timer(now.checked_add(self.config.linger));
        }
    }

    /// The transport is gone while bytes were under way.
    fn broken(&self, session: &mut Session, why: &str, now: Instant) {
        let Some(stream) = self.streams.get(&session.id()) else {
            return;
        };
        let reason = if stream.is_satisfied() {
            Reason::new(ReasonCondition::Success)
        } else if stream.is_under_way() {
            Reason::new(ReasonCondition::FailedTransport).with_text(why)
        } else {
            return;
        };
        end(session, reason, now);
    }

    /// The stream of a session whose channel this is.
    fn stream_of(&mut self, session: &Session, channel: ChannelId) -> Option<&mut TunnelStream> {
        let stream = self.streams.get_mut(&session.id())?;
        (stream.channel() == Some(channel)).then_some(stream)
    }
}

impl SessionClient for TunnelClient {
    fn namespace(&self) -> &str {
        TUNNEL
    }

    fn check_offer(&mut self, description: &Element) -> Result<(), PeerError> {
        Tunnel::from_element(description).map(|_| ())
    }

    fn on_session_create(&mut self, _: &mut Session, _: bool, _: Instant) {}

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        match state {
            State::ReceivedInitiate => self.receive_offer(session, now),
            State::ReceivedAccept => {
                if let Some(stream) = self.streams.get_mut(&session.id()) {
                    stream.opened();
                    self.connect(session, now);
                }
            }
            State::Init
            | State::SentInitiate
            | State::SentAccept
            | State::SentModify
            | State::ReceivedModify
            | State::SentReject
            | State::ReceivedReject
            | State::SentRedirect
            | State::SentTerminate
            | State::ReceivedTerminate
            | State::InProgress
            | State::Deinit => {}
        }
    }

    fn on_packet(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) {
        if let Some(stream) = self.stream_of(session, channel) {
            stream.receive(packet, session, now);
        }
    }

    fn on_writable(&mut self, session: &mut Session, _: ChannelId, writable: bool, now: Instant) {
        if writable {
            self.pump(session, now);
        }
    }

    fn on_finished(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {
        if let Some(stream) = self.stream_of(session, channel) {
            stream.peer_finished();
            self.linger(session, now);
        }
    }

    fn on_delivered(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {
        if let Some(stream) = self.stream_of(session, channel) {
            stream.everything_delivered();
            self.linger(session, now);
        }
    }

    fn on_timer(&mut self, session: &mut Session, now: Instant) {
        let Some(stream) = self.streams.get(&session.id()) else {
            return;
        };
        if stream.is_done() {
            end(session, ReasonCondition::Success.into(), now);
        } else if stream.flow().is_moving() {
            self.broken(session, "the peer does not say where to go on", now);
        }
    }

    fn on_info(
        &mut self,
        session: &mut Session,
        info: &[Element],
        now: Instant,
    ) -> Result<(), PeerError> {
        let Some(report) = Report::find(info) else {
            return Ok(());
        };
        let report = report?;
        let stream = self.streams.get_mut(&session.id());
        let Some(stream) = stream.filter(|stream| stream.channel().is_some()) else {
            return Err(PeerError::NotAllowed(
                "the stream has not begun, or is over",
            ));
        };
        stream.told(&report, session)?;
        if let Some(channel) = stream.channel() {
            session.set_movable(channel, stream.flow().can_move());
        }
        if !stream.flow().is_moving() {
            session.set_timer(None);
        }
        self.pump(session, now);
        self.linger(session, now);
        Ok(())
    }

    fn on_channel_gone(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        _: &str,
        now: Instant,
    ) {
        if self.stream_of(session, channel).is_some() {
            let reason = Reason::new(ReasonCondition::FailedTransport);
            end(
                session,
                reason.with_text("the peer does not have the channel"),
                now,
            );
        }
    }

    fn on_modify(&mut self, session: &mut Session, modification: &Modification, now: Instant) {
        if let Modification::ContentAdded { name } = modification {
            let reason = Reason::new(ReasonCondition::UnsupportedApplications);
            // It is gone if that is not possible any more.
            let _ = session.reject_content(name, reason, now);
        }
        if let Modification::TransportReplaced { .. } = modification {
            // What was on the way is lost, and a stream must not have a gap: whoever knows how, goes on from there.
            let Some(stream) = self.streams.get_mut(&session.id()) else {
                return;
            };
            if !stream.replaced(session, now) {
                self.broken(session, "a stream cannot move to another transport", now);
            } else if stream.flow().is_moving() {
                session.set_timer(now.checked_add(MOVE_TIME));
            }
        }
    }

    fn on_error(&mut self, session: &mut Session, error: &SessionError, now: Instant) {
        let lost = matches!(error.cause, Cause::Transport(_) | Cause::ConnectionLost);
        let stream = self.streams.get(&session.id());
        let moves = stream.is_some_and(|stream| {
            // A peer that has all of it need not be followed anywhere.
            stream.flow().can_move() && !stream.is_satisfied()
        });
        if lost && !error.fatal && !moves {
            // The session would go on with another transport.
            self.broken(session, &error.to_string(), now);
        }
    }

    fn on_session_destroy(&mut self, session: &mut Session, _: Instant) {
        let id = session.id();
        let cause = session.cause().cloned();
        match self.streams.get_mut(&id) {
            Some(stream) if stream.phase() == Phase::Offered => {
                self.streams.remove(&id);
            }
            Some(stream) => {
                let gone = || Cause::Local(Reason::new(ReasonCondition::Gone));
                stream.ended(cause.unwrap_or_else(gone));
            }
            None => {}
        }
    }
}

impl fmt::Debug for TunnelClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelClient")
            .field("config", &self.config)
            .field("streams", &self.streams)
            .finish_non_exhaustive()
    }
}

fn offer(session: SessionId, stream: &TunnelStream) -> Offer {
    Offer {
        session,
        from: stream.peer().clone(),
        tunnel: stream.tunnel().clone(),
    }
}

fn client(manager: &mut SessionManager) -> Result<&mut TunnelClient, TunnelError> {
    manager.find_client().ok_or(TunnelError::NoClient)
}

fn both(
    manager: &mut SessionManager,
    session: SessionId,
) -> Result<(&mut TunnelClient, &mut Session), TunnelError> {
    client(manager)?;
    manager.client(session).ok_or(TunnelError::Unknown(session))
}

/// As [`both`], for what needs a tunnel that is not over.
fn live(
    manager: &mut SessionManager,
    session: SessionId,
) -> Result<(&mut TunnelClient, &mut Session), TunnelError> {
    let stream = client(manager)?.streams.get(&session);
    let stream = stream.ok_or(TunnelError::Unknown(session))?;
    if let Some(cause) = stream.cause() {
        return Err(TunnelError::Ended(cause.clone()));
    }
    both(manager, session)
}

fn reject(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.reject(reason, now);
}

fn end(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.terminate(reason, now);
}
