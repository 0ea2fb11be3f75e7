//! What an application does with calls.

use super::{
    AUDIO_CONTENT, CallError, CallForm, RTP_CHANNEL, VoiceClient, create_channel, end, reject, tell,
};
use crate::{Call, CallInfo, CallPhase, Digit, DigitMessage, Part};
use bytes::Bytes;
use session_core::{
    Peer, Reason, ReasonCondition, Role, SendError, Session, SessionId, SessionManager,
};
use std::time::Instant;

/// Acting.
impl<F: CallForm> VoiceClient<F> {
    /// Calls `to`, in a session that was made by [`SessionManager::create_session`] with the form's namespace as its
    /// type. Transports and dialect of the session may be chosen before.
    ///
    /// # Errors
    /// [`CallError`]; nothing was sent.
    pub fn dial(
        manager: &mut SessionManager,
        session: SessionId,
        to: Peer,
        now: Instant,
    ) -> Result<(), CallError> {
        let (client, session) = both::<F>(manager, session)?;
        let id = session.id();
        if client.calls.contains(id) {
            return Err(CallError::InUse(id));
        }
        client.check_room()?;
        let offer = client.offer()?;
        let channel = match session.channel(RTP_CHANNEL) {
            Some(channel) => channel,
            None => create_channel(session, RTP_CHANNEL, client.layer().as_ref(), now)?,
        };
        session.initiate_with(to.clone(), Vec::new(), F::write(&offer), now)?;
        session.set_timer(now.checked_add(client.config.ring_for));
        let conversation = client.new_conversation();
        let mut call = Call::new(to, Role::Initiator, CallPhase::Calling, offer, conversation);
        call.gate.rtp = Some(channel);
        client.calls.insert(id, Box::new(call));
        Ok(())
    }

    /// Tells the caller that it rings here (XEP-0167 §8.5).
    ///
    /// # Errors
    /// [`CallError`].
    pub fn ring(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), CallError> {
        let (client, session) = both::<F>(manager, session)?;
        match client.calls.get(session.id()).map(|call| call.phase()) {
            Some(CallPhase::Offered) => tell(session, &CallInfo::Ringing, now),
            Some(_) => return Err(CallError::NotOffered(session.id())),
            None => return Err(CallError::Unknown(session.id())),
        }
        Ok(())
    }

    /// Answers an offer.
    ///
    /// # Errors
    /// [`CallError`]; then the offer still waits.
    pub fn answer(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), CallError> {
        let (client, session) = both::<F>(manager, session)?;
        client.answer_in(session, now)
    }

    /// Declines an offer, which is then released.
    ///
    /// # Errors
    /// [`CallError`]; then the offer still waits.
    pub fn decline(
        manager: &mut SessionManager,
        session: SessionId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), CallError> {
        let (client, session) = both::<F>(manager, session)?;
        let id = session.id();
        match client.calls.get(id).map(|call| call.phase()) {
            Some(CallPhase::Offered) => {}
            Some(_) => return Err(CallError::NotOffered(id)),
            None => return Err(CallError::Unknown(id)),
        }
        session.reject(reason, now)?;
        client.calls.remove(id);
        Ok(())
    }

    /// Ends a call, whatever it is doing. It stays to be looked at until it is released. Does nothing when it is over.
    ///
    /// # Errors
    /// [`CallError::NoClient`], [`CallError::Unknown`].
    pub fn hang_up(
        manager: &mut SessionManager,
        session: SessionId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), CallError> {
        let call = client::<F>(manager)?.calls.get(session);
        let phase = call.ok_or(CallError::Unknown(session))?.phase();
        if let Some(session) = manager.session(session) {
            match phase {
                CallPhase::Offered => reject(session, reason, now),
                CallPhase::Calling | CallPhase::Answered => end(session, reason, now),
                CallPhase::Ended => {}
            }
        }
        Ok(())
    }

    /// Lets go of a call. One that is not over is ended: an offer is declined, a call of ours cancelled.
    ///
    /// # Errors
    /// [`CallError::NoClient`], [`CallError::Unknown`].
    pub fn release(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), CallError> {
        let call = client::<F>(manager)?.calls.remove(session);
        let call = call.ok_or(CallError::Unknown(session))?;
        if let Some(session) = manager.session(session) {
            match call.phase() {
                CallPhase::Offered => reject(session, ReasonCondition::Decline.into(), now),
                CallPhase::Calling => end(session, ReasonCondition::Cancel.into(), now),
                CallPhase::Answered => end(session, ReasonCondition::Success.into(), now),
                CallPhase::Ended => {}
            }
        }
        Ok(())
    }

    /// Puts the peer on hold, or takes it off (XEP-0167 §8.2). Who has not the [focus](Self::set_focus) stays on hold.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn set_hold(
        manager: &mut SessionManager,
        session: SessionId,
        hold: bool,
        now: Instant,
    ) -> Result<(), CallError> {
        let id = session;
        let (call, _) = answered::<F>(manager, id)?;
        call.wants_hold = hold;
        let (client, session) = both::<F>(manager, id)?;
        client.settle_hold(session, now);
        Ok(())
    }

    /// Stops sending our sound, or goes on (XEP-0167 §8.3). The peer is told.
    ///
    /// # Errors
    /// [`CallError`].
    pub fn set_mute(
        manager: &mut SessionManager,
        session: SessionId,
        mute: bool,
        now: Instant,
    ) -> Result<(), CallError> {
        let (call, session) = answered::<F>(manager, session)?;
        if std::mem::replace(&mut call.mute.here, mute) != mute {
            let content = session.contents().next();
            let part = Part {
                name: Some(content.map_or_else(|| AUDIO_CONTENT.into(), |c| c.name().clone())),
                creator: content.map(|content| content.creator()),
            };
            let info = if mute {
                CallInfo::Mute(part)
            } else {
                CallInfo::Unmute(part)
            };
            tell(session, &info, now);
        }
        Ok(())
    }

    /// Tells the peer of a key in a message (XEP-0181), for one that has no [`Call::digits`].
    ///
    /// # Errors
    /// [`CallError`].
    pub fn press(
        manager: &mut SessionManager,
        session: SessionId,
        digit: Digit,
        now: Instant,
    ) -> Result<(), CallError> {
        let (_, session) = answered::<F>(manager, session)?;
        let message = DigitMessage {
            digit,
            duration: None,
            volume: None,
        };
        session.send_info(vec![message.to_element()], now)?;
        Ok(())
    }

    /// Sends a packet of RTP, or of DTLS, as it is: encrypted already.
    ///
    /// # Errors
    /// [`CallError`]; [`CallError::NotConnected`] for RTP before the answer, except where we
    /// [speak early](Self::speak_early). A packet that the network does not take now is lost, as packets are.
    pub fn send_rtp(
        manager: &mut SessionManager,
        session: SessionId,
        packet: Bytes,
        now: Instant,
    ) -> Result<(), CallError> {
        // What is DTLS begins with less (RFC 7983 §7).
        let is_sound = packet.first().is_some_and(|first| *first >= 128);
        let channel = |call: &Call| call.gate.rtp.filter(|_| !is_sound || call.may_speak());
        send::<F>(manager, session, packet, channel, now)
    }

    /// Sends a packet of RTCP, encrypted already.
    ///
    /// # Errors
    /// [`CallError`]. A packet that the network does not take now is lost, as packets are.
    pub fn send_rtcp(
        manager: &mut SessionManager,
        session: SessionId,
        packet: Bytes,
        now: Instant,
    ) -> Result<(), CallError> {
        send::<F>(manager, session, packet, Call::control_channel, now)
    }

    /// Asks the processor for the memory that the next packets of a call will touch in the manager and here, and does not wait
    /// for it: beside [`MediaStream::prefetch`](crate::MediaStream::prefetch), and for the same who.
    pub fn prefetch(manager: &mut SessionManager, session: SessionId) {
        manager.prefetch(session);
        if let Ok(client) = client::<F>(manager)
            && let Some(call) = client.calls.get(session)
        {
            call.gate.prefetch();
        }
    }
}

fn send<F: CallForm>(
    manager: &mut SessionManager,
    session: SessionId,
    packet: Bytes,
    channel: impl FnOnce(&Call) -> Option<session_core::ChannelId>,
    now: Instant,
) -> Result<(), CallError> {
    let call = client::<F>(manager)?.calls.get(session);
    let call = call.ok_or(CallError::Unknown(session))?;
    let Some(channel) = channel(call) else {
        let ended = call.cause().cloned().map(CallError::Ended);
        return Err(ended.unwrap_or(CallError::NotConnected));
    };
    match manager.send(session, channel, packet, now) {
        Ok(()) | Err(SendError::NotWritable | SendError::TooLarge) => Ok(()),
        Err(SendError::NoSuchChannel | SendError::Finished) => Err(CallError::NotConnected),
    }
}

pub(super) fn client<F: CallForm>(
    manager: &mut SessionManager,
) -> Result<&mut VoiceClient<F>, CallError> {
    manager.find_client().ok_or(CallError::NoClient)
}

pub(super) fn both<F: CallForm>(
    manager: &mut SessionManager,
    session: SessionId,
) -> Result<(&mut VoiceClient<F>, &mut Session), CallError> {
    let cause = client::<F>(manager)?
        .calls
        .get(session)
        .and_then(|call| call.cause());
    if let Some(cause) = cause {
        return Err(CallError::Ended(cause.clone()));
    }
    manager.client(session).ok_or(CallError::Unknown(session))
}

/// A call that both sides have accepted.
fn answered<F: CallForm>(
    manager: &mut SessionManager,
    session: SessionId,
) -> Result<(&mut Call, &mut Session), CallError> {
    let (client, session) = both::<F>(manager, session)?;
    let id = session.id();
    match client.calls.get_mut(id) {
        Some(call) if call.gate.phase == CallPhase::Answered => Ok((call, session)),
        Some(_) => Err(CallError::NotConnected),
        None => Err(CallError::Unknown(id)),
    }
}
