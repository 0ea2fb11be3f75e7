//! Changing a session that was offered already: contents come, go and change (XEP-0166 §7.2).

use super::{
    Session,
    content::{Carrier, Content, ContentSpec, ContentState},
};
use crate::{
    Action, Cause, ChannelLayer, ContentPart, Element, Event, Message, Misuse, Modification,
    PeerError, Reason, ReasonCondition, Role, Senders, State, TransportError,
};
use std::{sync::Arc, time::Instant};

/// Calls of the application.
impl Session {
    /// Adds a content: to the offer before [`initiate`](Self::initiate), as a proposal (content-add) after it.
    ///
    /// # Errors
    /// [`Misuse`]; nothing has changed.
    pub fn add_content(&mut self, spec: ContentSpec, now: Instant) -> Result<(), Misuse> {
        self.add(spec, None, now)
    }

    pub(super) fn add(
        &mut self,
        spec: ContentSpec,
        layer: Option<Arc<dyn ChannelLayer>>,
        now: Instant,
    ) -> Result<(), Misuse> {
        let max = self.limits().contents;
        if self.contents.len() >= max {
            return Err(Misuse::TooMany {
                limit: "contents",
                max,
            });
        }
        if self.content(&spec.name).is_some() {
            return Err(Misuse::DuplicateContent(spec.name));
        }
        let proposal = self.state != State::Init;
        if proposal {
            self.may_modify("another content")?;
        }
        let state = if proposal {
            ContentState::ProposedHere
        } else {
            ContentState::Offered
        };
        let mut content = Content::new(spec.name.clone(), self.role, state);
        content.describe(spec);
        content.layers.extend(layer);
        self.contents.push(content);
        if proposal {
            let at = self.contents.len() - 1;
            if let Err(error) = self.prepare_offer(at) {
                self.contents.pop();
                return Err(error);
            }
            let mut part = self.contents[at].described_part();
            let carriers = &mut self.contents[at].carriers;
            part.transports = carriers.iter_mut().map(Carrier::offer).collect();
            self.say_about(Action::ContentAdd, part, None, now);
        }
        Ok(())
    }

    /// Accepts a content that the peer proposed (content-accept), with our description of it.
    ///
    /// # Errors
    /// [`Misuse::UnknownContent`], [`Misuse::NothingToAnswer`].
    pub fn accept_content(
        &mut self,
        name: &str,
        description: Element,
        now: Instant,
    ) -> Result<(), Misuse> {
        let at = self.proposed_there(name)?;
        let content = &mut self.contents[at];
        content.state = ContentState::Active;
        content.description = Some(description.detach());
        let mut part = content.described_part();
        part.security = None;
        part.transports.extend(content.answer.take());
        self.say_about(Action::ContentAccept, part, None, now);
        if let Err(error) = self.bind_channels(name, now) {
            self.transport_failed(name, error, now);
        }
        self.await_path(now);
        Ok(())
    }

    /// Declines a content that the peer proposed (content-reject).
    ///
    /// # Errors
    /// [`Misuse::UnknownContent`], [`Misuse::NothingToAnswer`].
    pub fn reject_content(
        &mut self,
        name: &str,
        reason: Reason,
        now: Instant,
    ) -> Result<(), Misuse> {
        let at = self.proposed_there(name)?;
        let part = self.drop_content(at).part();
        self.say_about(Action::ContentReject, part, Some(reason), now);
        Ok(())
    }

    /// Takes a content out of the session (content-remove). The last one cannot be removed: end the session instead.
    ///
    /// # Errors
    /// [`Misuse`]; nothing has changed.
    pub fn remove_content(
        &mut self,
        name: &str,
        reason: Reason,
        now: Instant,
    ) -> Result<(), Misuse> {
        let at = self.position_of(name)?;
        if self.state == State::Init && at > 0 {
            self.drop_content(at);
            return Ok(());
        }
        self.may_modify("the removal of a content")?;
        if self.contents.len() == 1 {
            return Err(Misuse::DialectCannot {
                dialect: self.dialect.name,
                what: "a session without contents",
            });
        }
        let part = self.drop_content(at).part();
        self.say_about(Action::ContentRemove, part, Some(reason), now);
        Ok(())
    }

    /// Changes who sends in a content (content-modify): `none` puts it on hold.
    ///
    /// # Errors
    /// [`Misuse`]; nothing has changed.
    pub fn set_senders(
        &mut self,
        name: &str,
        senders: Senders,
        now: Instant,
    ) -> Result<(), Misuse> {
        let at = self.position_of(name)?;
        if self.state == State::Init {
            self.contents[at].senders = senders;
            return Ok(());
        }
        self.may_modify("a change of senders")?;
        let before = std::mem::replace(&mut self.contents[at].senders, senders);
        self.contents[at].senders_changed = true;
        if self.is_asked(Action::ContentModify, name) {
            // Sent again, the first could overtake the second: one at a time.
            self.contents[at].senders_wanted = Some(senders);
            return Ok(());
        }
        self.say_senders(at, before, now);
        Ok(())
    }

    fn say_senders(&mut self, at: usize, before: Senders, now: Instant) {
        let senders = self.contents[at].senders;
        let mut part = self.contents[at].part();
        part.senders = Some(senders);
        let undo = Some((self.contents[at].name.clone(), before));
        let message = Message {
            contents: vec![part],
            ..self.message(Action::ContentModify)
        };
        self.say_with_undo(message, undo, now);
        self.settle(now);
    }

    /// The change under way was answered: `before` is what the peer has now.
    pub(crate) fn senders_answered(&mut self, content: &str, before: Senders, now: Instant) {
        let Some(at) = self.content_position(content) else {
            return;
        };
        if let Some(senders) = self.contents[at].senders_wanted.take() {
            self.contents[at].senders = senders;
            self.say_senders(at, before, now);
        }
    }

    /// Tells the peer new parameters of a content (libjingle Modify; description-info). What was accepted stays.
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn modify(&mut self, name: &str, description: Element, now: Instant) -> Result<(), Misuse> {
        let at = self.position_of(name)?;
        self.may_modify("new parameters")?;
        let mut part = self.contents[at].part();
        part.description = Some(description);
        self.say_about(Action::DescriptionInfo, part, None, now);
        Ok(())
    }

    /// Sends security information about a content (security-info).
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn send_security_info(
        &mut self,
        name: &str,
        security: Element,
        now: Instant,
    ) -> Result<(), Misuse> {
        let at = self.position_of(name)?;
        self.may_modify("security information")?;
        let mut part = self.contents[at].part();
        part.security = Some(security);
        self.say_about(Action::SecurityInfo, part, None, now);
        Ok(())
    }

    fn may_modify(&self, what: &'static str) -> Result<(), Misuse> {
        if !self.dialect.has_modify {
            return Err(Misuse::DialectCannot {
                dialect: self.dialect.name,
                what,
            });
        }
        if self.state.is_pending() || self.state.is_accepted() {
            return Ok(());
        }
        Err(Misuse::NotNow {
            state: self.state,
            event: Event::SendModify,
        })
    }

    fn proposed_there(&self, name: &str) -> Result<usize, Misuse> {
        let at = self.position_of(name)?;
        match self.contents[at].state {
            ContentState::ProposedThere => Ok(at),
            ContentState::Offered | ContentState::ProposedHere | ContentState::Active => {
                Err(Misuse::NothingToAnswer)
            }
        }
    }

    fn say_about(
        &mut self,
        action: Action,
        part: ContentPart,
        reason: Option<Reason>,
        now: Instant,
    ) {
        let message = Message {
            contents: vec![part],
            reason,
            ..self.message(action)
        };
        self.say(message, now);
        self.settle(now);
    }
}

/// What the peer does.
impl Session {
    pub(crate) fn receive_content_add(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Result<(), PeerError> {
        let max = self.limits().contents;
        if self.contents.len() + message.contents.len() > max {
            return Err(PeerError::TooMany {
                limit: "contents",
                max,
            });
        }
        for part in &message.contents {
            if part.name.is_empty() {
                return Err(PeerError::Malformed {
                    field: "name",
                    problem: "missing",
                });
            }
            if part.description.is_none() {
                return Err(PeerError::Malformed {
                    field: "description",
                    problem: "missing",
                });
            }
            let Some(at) = self.content_position(&part.name) else {
                continue;
            };
            let ours = self.contents[at].state == ContentState::ProposedHere;
            return match (ours, self.role) {
                (true, Role::Initiator) => Err(PeerError::TieBreak),
                // The initiator's goes on.
                (true, Role::Responder) => {
                    self.drop_content(at);
                    continue;
                }
                // The same proposal again.
                (false, _) if self.contents[at].state == ContentState::ProposedThere => Ok(()),
                (false, _) => Err(PeerError::Malformed {
                    field: "name",
                    problem: "taken already",
                }),
            };
        }
        for part in &message.contents {
            let content = Content::proposed(
                part,
                part.name.clone(),
                ContentState::ProposedThere,
                self.role.other(),
            );
            self.contents.push(content);
            let at = self.contents.len() - 1;
            if self.choose(at, part).is_err() {
                let part = self.drop_content(at).part();
                let reason = Reason::new(ReasonCondition::UnsupportedTransports);
                self.say_about(Action::ContentReject, part, Some(reason), now);
            } else {
                self.modified(Modification::ContentAdded {
                    name: part.name.clone(),
                });
            }
        }
        Ok(())
    }

    pub(crate) fn receive_content_accept(
        &mut self,
        part: &ContentPart,
        now: Instant,
    ) -> Result<(), PeerError> {
        let at = self.known(part)?;
        match self.contents[at].state {
            ContentState::ProposedHere => {}
            ContentState::Active => return Ok(()),
            ContentState::Offered | ContentState::ProposedThere => {
                return Err(self.out_of_order(Action::ContentAccept));
            }
        }
        if let Some(answer) = part.transports.first() {
            if let Err(error) = self.take_answer(at, answer, now) {
                // The peer learns it from the error, and lets go of the content, too.
                let name = self.contents[at].name.clone();
                self.content_refused(Some(&name), None, now);
                return Err(error);
            }
        } else {
            self.take_unanswered(at, 0, now)?;
        }
        let content = &mut self.contents[at];
        content.remote_description = part.description.as_ref().map(Element::detach);
        content.state = ContentState::Active;
        content.settle();
        let (name, deferred) = (content.name.clone(), std::mem::take(&mut content.deferred));
        self.modified(Modification::ContentAccepted { name });
        if deferred {
            let error = TransportError::Unacceptable("it failed before the answer");
            self.give_up_transport(at, Cause::Transport(error), now);
        }
        self.await_path(now);
        Ok(())
    }

    pub(crate) fn receive_content_reject(
        &mut self,
        part: &ContentPart,
        reason: Option<&Reason>,
        now: Instant,
    ) -> Result<(), PeerError> {
        let Ok(at) = self.known(part) else {
            // It was withdrawn meanwhile.
            return Ok(());
        };
        if self.contents[at].state != ContentState::ProposedHere {
            return Err(self.out_of_order(Action::ContentReject));
        }
        let name = self.contents[at].name.clone();
        self.content_refused(Some(&name), reason.cloned(), now);
        Ok(())
    }

    pub(crate) fn receive_content_remove(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Result<(), PeerError> {
        for part in &message.contents {
            let Some(at) = self.content_position(&part.name) else {
                // Both removed it, or it never was: the peer has what it wants.
                continue;
            };
            if self.contents.len() == 1 {
                let reason = Reason::new(ReasonCondition::Success);
                self.cause = Some(Box::new(Cause::Remote(message.reason.clone())));
                self.end(Some(reason), now);
                return Ok(());
            }
            let name = self.drop_content(at).name;
            let reason = message.reason.clone();
            self.modified(Modification::ContentRemoved { name, reason });
        }
        self.touch();
        Ok(())
    }

    pub(crate) fn receive_content_modify(&mut self, part: &ContentPart) -> Result<(), PeerError> {
        let at = self.known(part)?;
        let Some(senders) = part.senders else {
            return Err(PeerError::Malformed {
                field: "senders",
                problem: "missing",
            });
        };
        let name = self.contents[at].name.clone();
        if self
            .senders_before(&name)
            .is_some_and(|before| *before == senders)
        {
            // Said again, because our acknowledgement was not there in time: our own change was made upon it, and goes on.
            return Ok(());
        }
        let crossing = self
            .pending
            .iter()
            .any(|p| p.action == Action::ContentModify);
        if crossing && self.role == Role::Initiator {
            return Err(PeerError::TieBreak);
        }
        // Ours, if there is one, lost: it must not be said again.
        self.abandon(|asked| asked.is(Action::ContentModify, &name));
        self.contents[at].senders_wanted = None;
        self.contents[at].senders = senders;
        self.contents[at].senders_changed = true;
        self.modified(Modification::SendersChanged { name });
        self.touch();
        Ok(())
    }

    /// The peer's accept says who sends. It knew nothing of a change of ours that is under way: that one goes on, and
    /// what was accepted is what it is taken back to.
    pub(crate) fn senders_accepted(&mut self, content: &str, senders: Senders) {
        if let Some(before) = self.senders_before(content) {
            *before = senders;
        } else if let Some(at) = self.content_position(content)
            && !self.contents[at].senders_changed
        {
            self.contents[at].senders = senders;
        }
    }

    /// What a change of ours that is under way is taken back to.
    fn senders_before(&mut self, content: &str) -> Option<&mut Senders> {
        let waiting = self.outbox.iter_mut().filter_map(super::Outgoing::undo);
        let mut undos = self
            .pending
            .iter_mut()
            .filter_map(super::Pending::undo)
            .chain(waiting);
        let found = undos.find(|(name, _)| **name == *content);
        found.map(|(_, before)| before)
    }

    /// The accept says who sends: no change under way is to be taken back.
    pub(crate) fn forget_undos(&mut self) {
        for pending in &mut self.pending {
            pending.forget_undo();
        }
        for outgoing in &mut self.outbox {
            outgoing.forget_undo();
        }
    }

    pub(crate) fn receive_description_info(&mut self, part: &ContentPart) -> Result<(), PeerError> {
        let at = self.known(part)?;
        let Some(description) = part.description.clone() else {
            return Err(PeerError::Malformed {
                field: "description",
                problem: "missing",
            });
        };
        let name = self.contents[at].name.clone();
        self.modified(Modification::DescriptionChanged { name, description });
        self.touch();
        Ok(())
    }

    pub(crate) fn receive_security_info(&mut self, part: &ContentPart) -> Result<(), PeerError> {
        let at = self.known(part)?;
        let Some(security) = part.security.clone() else {
            return Err(PeerError::Malformed {
                field: "security",
                problem: "missing",
            });
        };
        let name = self.contents[at].name.clone();
        self.modified(Modification::SecurityInfo { name, security });
        Ok(())
    }

    /// Our proposal of a content came to nothing.
    pub(crate) fn content_refused(
        &mut self,
        name: Option<&str>,
        reason: Option<Reason>,
        now: Instant,
    ) {
        let at = name.and_then(|name| self.content_position(name));
        if let Some(at) = at.filter(|&at| self.contents[at].state == ContentState::ProposedHere) {
            let name: Arc<str> = self.drop_content(at).name;
            self.modified(Modification::ContentRejected { name, reason });
            self.settle(now);
        }
    }

    /// The peer has no use for our acceptance of its proposal: it does not have the content, or no longer.
    pub(crate) fn content_lost(&mut self, name: Option<&str>, now: Instant) {
        let at = name.and_then(|name| self.content_position(name));
        if let Some(at) = at.filter(|_| self.contents.len() > 1) {
            let name = self.drop_content(at).name;
            self.modified(Modification::ContentRemoved { name, reason: None });
            self.settle(now);
        }
    }

    /// A change of the peer's that needs no verdict: the session shows it, and goes on.
    pub(crate) fn touch(&mut self) {
        if self.state.after(Event::ReceiveModify).is_some() {
            self.step(Event::ReceiveModify);
        }
    }

    /// Brings the state in line with what is open.
    pub(crate) fn settle_modifications(&mut self) {
        let here = self.open_here();
        let there = self
            .contents
            .iter()
            .any(|c| c.state == ContentState::ProposedThere);
        if std::mem::take(&mut self.replaced) {
            self.touch();
        }
        let events: &[Event] = match (self.state, there, here) {
            (State::InProgress, true, _) => &[Event::ReceiveModify],
            (State::InProgress, false, true) => &[Event::SendModify],
            (State::SentModify, true, _) => &[Event::ReceiveModify],
            (State::SentModify, false, false) => &[Event::ModifySettled],
            (State::ReceivedModify, false, true) => &[Event::SendModify],
            (State::ReceivedModify, false, false) => &[Event::ModifySettled],
            _ => &[],
        };
        for &event in events {
            self.step(event);
        }
    }

    fn open_here(&self) -> bool {
        let modifies = |action| {
            matches!(
                action,
                Action::ContentModify | Action::ContentRemove | Action::DescriptionInfo
            )
        };
        let waiting = self.outbox.iter().any(|outgoing| match outgoing {
            super::Outgoing::Message(message, _) => modifies(message.action),
            super::Outgoing::Request { .. } => false,
        });
        waiting
            || self.pending.iter().any(|p| modifies(p.action))
            || self
                .contents
                .iter()
                .any(|c| c.state == ContentState::ProposedHere || c.replacing.is_some())
    }

    /// The content that a part of a message speaks of. An empty name means the only one.
    pub(crate) fn known(&self, part: &ContentPart) -> Result<usize, PeerError> {
        if part.name.is_empty() && !self.contents.is_empty() {
            return Ok(0);
        }
        self.content_position(&part.name)
            .ok_or_else(|| PeerError::UnknownContent(part.name.clone()))
    }

    pub(crate) fn out_of_order(&self, action: Action) -> PeerError {
        PeerError::OutOfOrder {
            action,
            state: self.state,
        }
    }
}

/// Replacing a transport.
impl Session {
    /// Says that the peer's replacement is not taken (XEP-0166 §7.2.14). After too many in a row there is nothing else.
    pub(super) fn refuse_replacement(&mut self, at: usize, namespace: &str, now: Instant) {
        let mut reply = self.contents[at].part();
        reply.transports.push(Element::new(namespace, "transport"));
        let message = Message {
            contents: vec![reply],
            reason: Some(Reason::new(ReasonCondition::UnsupportedTransports)),
            ..self.message(Action::TransportReject)
        };
        self.say(message, now);
        let max = self.limits().refused_transports;
        let content = &mut self.contents[at];
        content.refused = content.refused.saturating_add(1);
        if usize::from(content.refused) >= max.min(usize::from(u8::MAX)) {
            self.fail(Cause::NoCommonTransport, false, now);
        }
    }
}
