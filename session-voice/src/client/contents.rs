//! Contents beside the sound: video, a shared screen, and whatever else is added to a call.

use super::{CallError, CallForm, JingleForm, RTP_CHANNEL, VoiceClient, actions::both};
use crate::{Call, CallChange, Media};
use session_core::{
    ChannelId, Content, ContentSpec, Element, Modification, Reason, ReasonCondition, Role, Senders,
    Session, SessionId, SessionManager, State,
};
use std::{sync::Arc, time::Instant};

/// A content beside the sound, as a peer proposes it: with its call, or to one that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallContent {
    /// Its name, by which it is answered.
    pub name: Arc<str>,
    /// Who is to send.
    pub senders: Senders,
    /// What it carries, where it is described as RTP (XEP-0167).
    pub media: Option<Media>,
    /// The peer's description of it, whole.
    pub description: Element,
}

impl CallContent {
    pub(super) fn new(content: &Content) -> Option<Self> {
        let description = content.remote_description()?.clone();
        let is_rtp = description.namespace() == JingleForm::NAMESPACE;
        let rtp = is_rtp.then(|| JingleForm::read(&description).ok());
        Some(Self {
            name: content.name().clone(),
            senders: content.senders(),
            media: rtp.flatten().map(|rtp| rtp.media),
            description,
        })
    }
}

/// What happens to the contents of a call ([`Call::contents`]). All but [`Senders`](Self::Senders) is about those beside the
/// sound, or about the sound being taken out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentChange {
    /// The peer adds a content. [`Declined`](Self::Declined) follows at once unless somebody takes it, or may do so later
    /// ([`CallConfig::ask_contents`](crate::CallConfig::ask_contents)).
    Proposed(CallContent),
    /// What the peer proposed, with the call or later, was declined because nobody here took it.
    Declined(Arc<str>),
    /// The peer has accepted a content of ours; its description is the session's
    /// ([`Content::remote_description`](session_core::Content::remote_description)).
    Accepted(Arc<str>),
    /// The peer has declined a content of ours, which is gone.
    Refused {
        /// Its name.
        name: Arc<str>,
        /// Why, if the peer said so.
        reason: Option<Reason>,
    },
    /// The peer has removed a content.
    Removed {
        /// Its name.
        name: Arc<str>,
        /// Why, if the peer said so.
        reason: Option<Reason>,
    },
    /// Who sends in a content has changed.
    Senders {
        /// Its name.
        name: Arc<str>,
        /// Who sends from now on.
        senders: Senders,
    },
    /// The peer has told new parameters of a content (description-info), which supplement its description.
    Described {
        /// Its name.
        name: Arc<str>,
        /// The parameters.
        description: Element,
    },
    /// A channel beside the sound has its keys, or new ones: [`Session::secured`], of which
    /// [`Protection::from_secured`](crate::Protection::from_secured) makes what a stream needs.
    Secured(ChannelId),
}

/// What an application does with contents. One whose media is RTP has a channel named [`RTP_CHANNEL`], through the same layer
/// as the sound. What arrives on it goes to [`set_other_sink`](Self::set_other_sink); what leaves is sent by
/// [`SessionManager::send`].
impl<F: CallForm> VoiceClient<F> {
    /// Proposes another content to the peer of a call, or as part of an offer that was not made yet. It has the channel from
    /// now on; [`ContentChange::Accepted`] or [`ContentChange::Refused`] follows.
    ///
    /// # Errors
    /// [`CallError`]; nothing has changed.
    pub fn add_content(
        manager: &mut SessionManager,
        session: SessionId,
        spec: ContentSpec,
        now: Instant,
    ) -> Result<ChannelId, CallError> {
        let (client, session) = both::<F>(manager, session)?;
        let (name, layer) = (spec.name.clone(), client.layer());
        match &layer {
            Some(layer) => session.add_content_with_layer(spec, Arc::clone(layer), now)?,
            None => session.add_content(spec, now)?,
        }
        let made = session.create_channel_in(&name, RTP_CHANNEL, layer, now);
        made.map_err(|misuse| {
            let reason = Reason::new(ReasonCondition::FailedTransport);
            // It has said what it could.
            let _ = session.remove_content(&name, reason, now);
            misuse.into()
        })
    }

    /// Accepts a content that the peer proposed, with our description of it: at once in a call that runs, and with the
    /// answer otherwise.
    ///
    /// # Errors
    /// [`CallError`]; then it waits as before.
    pub fn accept_content(
        manager: &mut SessionManager,
        session: SessionId,
        name: &str,
        description: Element,
        now: Instant,
    ) -> Result<ChannelId, CallError> {
        let (client, session) = both::<F>(manager, session)?;
        let channel = session.create_channel_in(name, RTP_CHANNEL, client.layer(), now)?;
        let accepted = if session.state() == State::ReceivedInitiate {
            session.set_answer(name, description)
        } else {
            session.accept_content(name, description, now)
        };
        if let Err(misuse) = accepted {
            // It was made for this.
            let _ = session.destroy_channel(channel, now);
            return Err(misuse.into());
        }
        Ok(channel)
    }

    /// Declines a content that the peer proposed.
    ///
    /// # Errors
    /// [`CallError`]; nothing has changed.
    pub fn decline_content(
        manager: &mut SessionManager,
        session: SessionId,
        name: &str,
        reason: Reason,
        now: Instant,
    ) -> Result<(), CallError> {
        let (_, session) = both::<F>(manager, session)?;
        if session.state() == State::ReceivedInitiate {
            session.remove_content(name, reason, now)?;
        } else {
            session.reject_content(name, reason, now)?;
        }
        Ok(())
    }

    /// Says who sends in a content, the sound's included (XEP-0166 §7.2.4): [`Senders::None`] stops both.
    ///
    /// # Errors
    /// [`CallError`]; nothing has changed.
    pub fn set_senders(
        manager: &mut SessionManager,
        session: SessionId,
        name: &str,
        senders: Senders,
        now: Instant,
    ) -> Result<(), CallError> {
        let (client, session) = both::<F>(manager, session)?;
        session.set_senders(name, senders, now)?;
        client.follow(session);
        Ok(())
    }

    /// Takes a content out of a call.
    ///
    /// # Errors
    /// [`CallError`]; nothing has changed.
    pub fn remove_content(
        manager: &mut SessionManager,
        session: SessionId,
        name: &str,
        reason: Reason,
        now: Instant,
    ) -> Result<(), CallError> {
        let (client, session) = both::<F>(manager, session)?;
        session.remove_content(name, reason, now)?;
        client.follow(session);
        Ok(())
    }

    /// Before the answer: contents beside the sound are the application's, or declined.
    pub(super) fn settle_others(&mut self, session: &mut Session, now: Instant) {
        let others = session.contents().skip(1);
        // One that has its description was accepted before.
        let open = others.filter(|content| content.description().is_none());
        let names: Vec<_> = open.map(|content| content.name().clone()).collect();
        for name in names {
            if !self.takes(session, &name, now) {
                let reason = Reason::new(ReasonCondition::UnsupportedApplications);
                // One that cannot be declined now is accepted as it is, and nothing is ever sent in it.
                let _ = session.remove_content(&name, reason, now);
                self.tell_content(session, ContentChange::Declined(name));
            }
        }
    }

    fn takes(&mut self, session: &mut Session, name: &str, now: Instant) -> bool {
        let others = self.others.as_mut();
        others.is_some_and(|take| take(session, name, now))
    }

    /// The peer has changed something about a content.
    pub(super) fn content_changed(
        &mut self,
        session: &mut Session,
        modification: &Modification,
        now: Instant,
    ) {
        let senders = |session: &Session, name: &Arc<str>| {
            let content = session.content(name)?;
            Some(ContentChange::Senders {
                name: name.clone(),
                senders: content.senders(),
            })
        };
        let change = match modification {
            Modification::ContentAdded { name } => {
                return self.content_added(session, name, now);
            }
            Modification::ContentAccepted { name } => Some(ContentChange::Accepted(name.clone())),
            Modification::ContentRejected { name, reason } => Some(ContentChange::Refused {
                name: name.clone(),
                reason: reason.clone(),
            }),
            Modification::ContentRemoved { name, reason } => Some(ContentChange::Removed {
                name: name.clone(),
                reason: reason.clone(),
            }),
            // Taken back is changed as well.
            Modification::SendersChanged { name } | Modification::Refused { name } => {
                senders(session, name)
            }
            Modification::DescriptionChanged { name, description } => {
                Some(ContentChange::Described {
                    name: name.clone(),
                    description: description.clone(),
                })
            }
            Modification::SecurityInfo { .. } | Modification::TransportReplaced { .. } | _ => None,
        };
        let Some(change) = change else { return };
        self.follow(session);
        self.tell_content(session, change);
    }

    fn content_added(&mut self, session: &mut Session, name: &Arc<str>, now: Instant) {
        if let Some(content) = session.content(name).and_then(CallContent::new) {
            self.tell_content(session, ContentChange::Proposed(content));
        }
        if self.takes(session, name, now) || self.config.ask_contents {
            return;
        }
        let reason = Reason::new(ReasonCondition::UnsupportedApplications);
        // It is gone if that is not possible any more.
        let _ = session.reject_content(name, reason, now);
        self.tell_content(session, ContentChange::Declined(name.clone()));
    }

    fn follow(&mut self, session: &Session) {
        if let Some(call) = self.calls.get_mut(session.id()) {
            call.follow(session);
        }
    }

    pub(super) fn tell_content(&mut self, session: &Session, change: ContentChange) {
        if let Some(call) = self.calls.get_mut(session.id()) {
            call.contents.emit(change);
        }
    }
}

impl Call {
    /// What the session says of the sound: who sends in it, and whether it is there at all.
    pub(super) fn follow(&mut self, session: &Session) {
        let gone = |channel: &Option<ChannelId>| {
            channel.is_some_and(|channel| session.channel_name(channel).is_none())
        };
        if gone(&self.gate.rtp) {
            // The peer has taken the sound out, and goes on with something else.
            (self.gate.rtp, self.gate.rtcp) = (None, None);
            self.sounds = false;
            if std::mem::take(&mut self.connected) {
                self.signal.emit(CallChange::Connected(false));
            }
        } else if let Some(sound) = session.contents().next()
            && self.gate.rtp.is_some()
        {
            self.sounds = sends(sound.senders(), self.role());
        }
    }
}

/// Whether this side sends.
fn sends(senders: Senders, role: Role) -> bool {
    match senders {
        Senders::Both => true,
        Senders::None => false,
        Senders::Initiator => role == Role::Initiator,
        Senders::Responder => role == Role::Responder,
    }
}
