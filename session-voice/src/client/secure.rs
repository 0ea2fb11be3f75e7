//! Keys out of a handshake, and the layer that makes it.

use super::{CallForm, VoiceClient, end};
use crate::{CallChange, CallSecurity, ContentChange, Protection, SrtpMaster, SrtpProfile};
use session_core::{
    ChannelId, ChannelLayer, HandshakeSide, Misuse, Reason, ReasonCondition, Secured, Session,
};
use std::{sync::Arc, time::Instant};

impl<F: CallForm> VoiceClient<F> {
    /// The layer of a call's channels.
    pub(super) fn layer(&self) -> Option<Arc<dyn ChannelLayer>> {
        self.config.layer.clone().filter(|_| self.config.dtls)
    }

    /// A channel through the layer, when there is one.
    ///
    /// # Errors
    /// The layer cannot work with the peer's offer.
    pub(super) fn secure_channel(
        &self,
        session: &mut Session,
        name: &str,
        now: Instant,
    ) -> Result<Option<ChannelId>, Misuse> {
        let Some(layer) = self.layer() else {
            return Ok(None);
        };
        match session.channel(name) {
            Some(channel) => Ok(Some(channel)),
            None => create_channel(session, name, Some(&layer), now).map(Some),
        }
    }

    /// The layer knows the peer: its keys are for the call, unless the peer is not whom we mean.
    pub(super) fn take_keys(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        secured: &Secured,
        now: Instant,
    ) {
        let Some(call) = self.calls.get_mut(session.id()) else {
            return;
        };
        let refuse = |text: &str| Reason::new(ReasonCondition::SecurityError).with_text(text);
        let verify = self.config.verify.as_ref();
        if verify.is_some_and(|verify| !verify(call.peer(), secured)) {
            return end(
                session,
                refuse("the peer is not the one that is known"),
                now,
            );
        }
        if ![call.gate.rtp, call.gate.rtcp].contains(&Some(channel)) {
            call.contents.emit(ContentChange::Secured(channel));
            return;
        }
        let Some(protection) = Protection::from_secured(secured) else {
            return end(session, refuse("the handshake gave no keys that fit"), now);
        };
        // The layer made them, whatever the answer says that is still to come.
        call.security.get_or_insert(CallSecurity::Dtls);
        if call.gate.rtcp == Some(channel) {
            call.control_protection = Some(protection);
        } else {
            call.protection = Some(protection);
            call.secured = Some(secured.clone());
        }
        call.signal.emit(CallChange::Secured);
    }
}

/// A channel, through the layer if there is one.
///
/// # Errors
/// Of the session.
pub(super) fn create_channel(
    session: &mut Session,
    name: &str,
    layer: Option<&Arc<dyn ChannelLayer>>,
    now: Instant,
) -> Result<ChannelId, Misuse> {
    match layer {
        Some(layer) => session.create_layered_channel(name, Arc::clone(layer), now),
        None => session.create_channel(name, now),
    }
}

impl Protection {
    /// The keys that a handshake has made. None if it made none, or none of a profile that we have.
    pub fn from_secured(secured: &Secured) -> Option<Self> {
        let keys = secured.srtp.as_ref()?;
        let profile = SrtpProfile::try_from(keys.profile).ok()?;
        let [client, server] = SrtpMaster::from_dtls(profile, keys.material.as_bytes()).ok()?;
        // The client's key is what the client sends with (RFC 5764 §4.2).
        let (ours, theirs) = match secured.side {
            HandshakeSide::Client => (client, server),
            HandshakeSide::Server => (server, client),
        };
        Some(Self::Srtp { ours, theirs })
    }
}
