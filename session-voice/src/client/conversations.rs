//! Calls that belong together, and which of them are heard (libjingle `call.cc`, where a Call has several Sessions).

use super::{CallError, CallForm, VoiceClient, actions::client, tell};
use crate::{CallInfo, CallPhase};
use session_core::{Reason, Session, SessionId, SessionManager};
use std::time::Instant;

/// A conversation: one call or several, whose voices an application mixes ([`Mixer`](crate::audio::Mixer), with the feature
/// `audio`). It is there as long as one of its calls was not released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationId(pub(super) u64);

/// Who is heard and hears us. The calls of all others are on hold, and their peers know it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Focus {
    /// All conversations, each as its own calls have it.
    #[default]
    Everybody,
    /// This one alone. When it is over nobody is heard until the application chooses again.
    Conversation(ConversationId),
    /// Nobody.
    Nobody,
}

/// Conversations. Each call begins one of its own.
impl<F: CallForm> VoiceClient<F> {
    /// The conversation that a call belongs to.
    pub fn conversation(&self, session: SessionId) -> Option<ConversationId> {
        self.calls.get(session).map(|call| call.conversation())
    }

    /// The calls of a conversation.
    pub fn calls_of(&self, conversation: ConversationId) -> impl Iterator<Item = SessionId> {
        let of = self.calls.iter();
        of.filter(move |(_, call)| call.conversation == conversation)
            .map(|(id, _)| id)
    }

    /// Who is heard.
    pub fn focus(&self) -> Focus {
        self.focus
    }

    /// Chooses who is heard (libjingle SetFocus). Calls that are answered later follow it.
    ///
    /// # Errors
    /// [`CallError::NoClient`], [`CallError::NoConversation`].
    pub fn set_focus(
        manager: &mut SessionManager,
        focus: Focus,
        now: Instant,
    ) -> Result<(), CallError> {
        let voice = client::<F>(manager)?;
        if let Focus::Conversation(conversation) = focus {
            voice.check(conversation)?;
        }
        voice.focus = focus;
        Self::refocus(manager, now)
    }

    /// Moves the calls of one conversation into another (libjingle JoinCalls). Their mute stays as it is.
    ///
    /// # Errors
    /// [`CallError::NoClient`], [`CallError::NoConversation`].
    pub fn join(
        manager: &mut SessionManager,
        into: ConversationId,
        from: ConversationId,
        now: Instant,
    ) -> Result<(), CallError> {
        let voice = client::<F>(manager)?;
        voice.check(into)?;
        voice.check(from)?;
        let calls = voice.calls.iter_mut().map(|(_, call)| call);
        for call in calls.filter(|call| call.conversation == from) {
            call.conversation = into;
        }
        if voice.focus == Focus::Conversation(from) {
            voice.focus = Focus::Conversation(into);
        }
        Self::refocus(manager, now)
    }

    /// Mutes us in all answered calls of a conversation, or ends that.
    ///
    /// # Errors
    /// [`CallError::NoClient`], [`CallError::NoConversation`].
    pub fn mute_all(
        manager: &mut SessionManager,
        conversation: ConversationId,
        mute: bool,
        now: Instant,
    ) -> Result<(), CallError> {
        for id in Self::members(manager, conversation)? {
            // Those that are not answered, or over, have no sound to mute.
            let _ = Self::set_mute(manager, id, mute, now);
        }
        Ok(())
    }

    /// Ends all calls of a conversation (libjingle Terminate). They stay to be looked at until they are released.
    ///
    /// # Errors
    /// [`CallError::NoClient`], [`CallError::NoConversation`].
    pub fn hang_up_all(
        manager: &mut SessionManager,
        conversation: ConversationId,
        reason: &Reason,
        now: Instant,
    ) -> Result<(), CallError> {
        for id in Self::members(manager, conversation)? {
            Self::hang_up(manager, id, reason.clone(), now)?;
        }
        Ok(())
    }

    fn members(
        manager: &mut SessionManager,
        conversation: ConversationId,
    ) -> Result<Vec<SessionId>, CallError> {
        let voice = client::<F>(manager)?;
        voice.check(conversation)?;
        Ok(voice.calls_of(conversation).collect())
    }

    fn check(&self, conversation: ConversationId) -> Result<(), CallError> {
        let known = self.calls_of(conversation).next().is_some();
        known.then_some(()).ok_or(CallError::NoConversation)
    }

    /// Tells all peers what the focus means for them.
    fn refocus(manager: &mut SessionManager, now: Instant) -> Result<(), CallError> {
        let ids: Vec<SessionId> = client::<F>(manager)?.calls.ids().collect();
        for id in ids {
            if let Some((voice, session)) = manager.client::<Self>(id) {
                voice.settle_hold(session, now);
            }
        }
        Ok(())
    }

    /// Says whether the peer is on hold, if that has changed: because somebody wants it, or because others have the focus.
    pub(super) fn settle_hold(&mut self, session: &mut Session, now: Instant) {
        let focus = self.focus;
        let Some(call) = self.calls.get_mut(session.id()) else {
            return;
        };
        if call.gate.phase != CallPhase::Answered {
            return;
        }
        let heard = match focus {
            Focus::Everybody => true,
            Focus::Conversation(conversation) => call.conversation == conversation,
            Focus::Nobody => false,
        };
        let hold = call.wants_hold || !heard;
        if std::mem::replace(&mut call.hold.here, hold) != hold {
            // Not `active`, which would end a mute as well.
            let info = if hold {
                CallInfo::Hold
            } else {
                CallInfo::Unhold
            };
            tell(session, &info, now);
        }
    }

    pub(super) fn new_conversation(&mut self) -> ConversationId {
        self.conversations += 1;
        ConversationId(self.conversations)
    }
}
