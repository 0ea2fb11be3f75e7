//! [`SessionClient`]: what a kind of session means.

use crate::{ChannelId, Element, PeerError, Pong, Reason, Secured, Session, SessionError, State};
use bytes::Bytes;
use std::{any::Any, sync::Arc, time::Instant};

/// Understands what is being sent; one per kind of content, registered by namespace (libjingle `sessionclient.h`).
///
/// # For callers
/// A client lives inside the [`SessionManager`](crate::SessionManager), which drives it in order and without loss.
/// Whoever stands outside connects to signals, or reaches the client by
/// [`SessionManager::client`](crate::SessionManager::client).
///
/// # For implementers
/// Every callback gets the session to act on: accepting, terminating or sending from inside is what they are for.
/// Callbacks are never nested: what an action causes is told after the callback returns. A client keeps what it knows
/// of a session under [`Session::id`] and lets go of it in [`on_session_destroy`](Self::on_session_destroy).
/// Nothing may block.
#[allow(unused_variables)]
pub trait SessionClient: Any + Send {
    /// The namespace of the descriptions that this client understands.
    fn namespace(&self) -> &str;

    /// Judges a description of its namespace in a peer's offer, before there is a session. The default takes any.
    ///
    /// # Errors
    /// What the peer is to be told; nobody hears of the offer.
    fn check_offer(&mut self, description: &Element) -> Result<(), PeerError> {
        Ok(())
    }

    /// A session came into being, in state [`State::Init`]; `received` when the peer offers it. Of its contents and
    /// descriptions nothing is known yet: [`on_state`](Self::on_state) tells when they are there.
    ///
    /// The place to create channels and to choose potential transports. [`Session::terminate`] declines what the peer
    /// offers, for its reason.
    fn on_session_create(&mut self, session: &mut Session, received: bool, now: Instant);

    /// The session is in a new state. Each state once, in order, while `session.state()` may be further already.
    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {}

    /// A datagram, or the next bytes of a stream.
    fn on_packet(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) {
    }

    /// A channel can take data, or can no longer. After [`SendError::NotWritable`](crate::SendError::NotWritable) wait
    /// for `true`.
    fn on_writable(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        writable: bool,
        now: Instant,
    ) {
    }

    /// The peer will send nothing more on this stream.
    fn on_finished(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {}

    /// After [`Session::finish`]: everything that was sent on this stream has reached the peer's end of it, as far as
    /// the transport can tell. Whether the peer's application has taken it is for that to say.
    fn on_delivered(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {}

    /// A layer proved who is at the other end of a channel and protects it, or has the keys for that. Before the channel
    /// is writable, and again after another transport took over. Also [`Session::secured`].
    fn on_secured(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        secured: &Secured,
        now: Instant,
    ) {
    }

    /// A channel is of no more use: the peer does not have it (libjingle SignalChannelGone), or its transport failed after
    /// we had finished the stream, and no other can go on with it: a peer that closes it because it has all of it looks
    /// the same. The session lives on unless it is told otherwise. Where a transport fails before, and none is left, the
    /// session ends instead.
    fn on_channel_gone(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        name: &str,
        now: Instant,
    ) {
    }

    /// The peer sent information (session-info). The return value is the answer: an error does not end the session
    /// here, though some clients end theirs on any error, so that a tolerant `Ok` is the default.
    ///
    /// # Errors
    /// What the peer is to be told.
    fn on_info(
        &mut self,
        session: &mut Session,
        info: &[Element],
        now: Instant,
    ) -> Result<(), PeerError> {
        Ok(())
    }

    /// The peer changed or proposes to change the running session. A proposal ([`Modification::is_proposal`]) stays
    /// open until [`Session::accept_content`] or [`Session::reject_content`], here or later; anything else has happened
    /// already. The default declines.
    fn on_modify(&mut self, session: &mut Session, modification: &Modification, now: Instant) {
        if let Modification::ContentAdded { name } = modification {
            let reason = Reason::new(crate::ReasonCondition::UnsupportedApplications);
            let _ = session.reject_content(name, reason, now);
        }
    }

    /// Something went wrong. When [`SessionError::fatal`], the session is ending and its last states follow.
    fn on_error(&mut self, session: &mut Session, error: &SessionError, now: Instant) {}

    /// The peer ended the session, with a reason if it gave one (libjingle SignalReceivedTerminateReason). Once.
    fn on_terminate_reason(
        &mut self,
        session: &mut Session,
        reason: Option<&Reason>,
        now: Instant,
    ) {
    }

    /// The instant that [`Session::set_timer`] named has come.
    fn on_timer(&mut self, session: &mut Session, now: Instant) {}

    /// What came of a [`Session::ping`]. Nothing follows from it by itself.
    fn on_pong(&mut self, session: &mut Session, pong: &Pong, now: Instant) {}

    /// The session is gone after this call. Its state is [`State::Deinit`].
    fn on_session_destroy(&mut self, session: &mut Session, now: Instant) {}
}

/// A change of a session by the peer, or the peer's verdict on one of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Modification {
    /// The peer proposes another content: to be accepted or rejected.
    ContentAdded {
        /// Its name.
        name: Arc<str>,
    },
    /// Our content was accepted.
    ContentAccepted {
        /// Its name.
        name: Arc<str>,
    },
    /// Our content was rejected, or could not be proposed; it is gone.
    ContentRejected {
        /// Its name.
        name: Arc<str>,
        /// Why, if the peer said so.
        reason: Option<Reason>,
    },
    /// The peer removed a content.
    ContentRemoved {
        /// Its name.
        name: Arc<str>,
        /// Why, if the peer said so.
        reason: Option<Reason>,
    },
    /// The peer changed who sends.
    SendersChanged {
        /// The content's name.
        name: Arc<str>,
    },
    /// The peer's description has new parameters (description-info). They are a supplement: what was accepted,
    /// [`Content::remote_description`](crate::Content::remote_description), stays as it is.
    DescriptionChanged {
        /// The content's name.
        name: Arc<str>,
        /// The parameters.
        description: Element,
    },
    /// The peer sent security information.
    SecurityInfo {
        /// The content's name.
        name: Arc<str>,
        /// What it sent.
        security: Element,
    },
    /// Another transport is in use for a content. Its channels connect anew.
    TransportReplaced {
        /// The content's name.
        name: Arc<str>,
    },
    /// A change that we made was refused by the peer and taken back here.
    Refused {
        /// The content's name.
        name: Arc<str>,
    },
}

impl Modification {
    /// Whether the peer awaits a verdict.
    pub fn is_proposal(&self) -> bool {
        matches!(self, Self::ContentAdded { .. })
    }
}
