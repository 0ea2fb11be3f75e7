//! Sound before the answer (XEP-0269): what a callee plays while it rings there.

use super::{CallError, CallForm, VoiceClient, actions::both};
use crate::CallPhase;
use session_core::{ChannelId, Misuse, Session, SessionId, SessionManager};

impl<F: CallForm> VoiceClient<F> {
    /// Lets our sound be sent before the call is answered, as soon as there are a path and keys
    /// ([`Call::may_send`](crate::Call::may_send)). Otherwise nothing of ours is.
    ///
    /// As callee, for announcements and ringing tones: the caller is told what DTLS needs before the answer, by a
    /// transport-info (XEP-0320 §2). One that does not understand that hears us from the answer on. As caller, for those
    /// who have something to say to a callee who is not there yet; whether there is anything to hear or to say does not
    /// depend on us.
    ///
    /// Keys that travel in signalling (SDES) come with the answer, so that there is no early media with them: see
    /// [`CallError::NotEarly`].
    ///
    /// Does nothing once the call is answered.
    ///
    /// # Errors
    /// [`CallError::NotEarly`], [`CallError::Session`], and as of a call that is over or unknown.
    pub fn speak_early(manager: &mut SessionManager, session: SessionId) -> Result<(), CallError> {
        let (client, session) = both::<F>(manager, session)?;
        let id = session.id();
        let call = client.calls.get_mut(id).ok_or(CallError::Unknown(id))?;
        match call.phase() {
            CallPhase::Offered => prepare(session, call.gate.rtp)?,
            CallPhase::Calling if client.config.dtls && client.config.layer.is_some() => {}
            CallPhase::Calling => return Err(CallError::NotEarly),
            CallPhase::Answered | CallPhase::Ended => return Ok(()),
        }
        call.gate.early = true;
        Ok(())
    }
}

/// Tells the caller what the layer of the call's channel needs.
///
/// # Errors
/// Nothing can be told before the answer.
pub(super) fn prepare(session: &mut Session, rtp: Option<ChannelId>) -> Result<(), CallError> {
    // Without a layer there is no channel before the answer.
    let content = session.contents().next().filter(|_| rtp.is_some());
    let name = content.ok_or(CallError::NotEarly)?.name().clone();
    match session.tell_layers_early(&name) {
        Ok(true) => Ok(()),
        Ok(false) | Err(Misuse::TooLate(_)) => Err(CallError::NotEarly),
        Err(misuse) => Err(misuse.into()),
    }
}
