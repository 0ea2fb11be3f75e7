//! What the peer says: each message is judged, applied as a whole or refused as a whole.

use super::{
    Session, SessionEvent, TRANSPORT_FAILED,
    content::{Carrier, Content, ContentState},
};
use crate::{
    Action, Cause, ContentPart, Element, Event, InfoTarget, Message, Modification, PeerError,
    ReasonCondition, Role, State, TransportAnswer, TransportError,
};
use std::{sync::Arc, time::Instant};

/// A `<transport/>` for a content: its namespace, its parts if the transport is there, and the whole.
type Understood = (usize, Arc<str>, Option<Vec<(InfoTarget, Element)>>, Element);

impl Session {
    /// The peer's offer, in a session that was created for it.
    ///
    /// # Errors
    /// The session is of no use then.
    pub(crate) fn receive_initiate(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Result<(), PeerError> {
        if self.state.is_ended() {
            // The client ended it while it was being created.
            return Ok(());
        }
        let default = self.contents[0].name.clone();
        let mut fresh: Vec<Content> = Vec::with_capacity(message.contents.len());
        let mut parts = Vec::new();
        for part in &message.contents {
            let ours = part
                .description
                .as_ref()
                .is_some_and(|d| d.namespace() == &*self.session_type);
            // A second content of the same name is an alternative to the first (Psi); the first is taken.
            let name = if part.name.is_empty() {
                default.clone()
            } else {
                part.name.clone()
            };
            if ours && !fresh.iter().any(|c| c.name == name) {
                fresh.push(Content::proposed(
                    part,
                    name,
                    ContentState::Offered,
                    Role::Initiator,
                ));
                parts.push(part);
            }
        }
        if fresh.is_empty() {
            return Err(PeerError::Malformed {
                field: "description",
                problem: "missing",
            });
        }
        // Channels that the client created for the default content follow its name, and so do their layers.
        let first = fresh[0].name.clone();
        fresh[0].layers = std::mem::take(&mut self.contents[0].layers);
        for channel in self.channels.iter_mut().filter(|c| c.content == default) {
            channel.content = first.clone();
        }
        self.contents = fresh;
        self.groups = message.groups.clone();
        self.step(Event::ReceiveInitiate);

        let mut at = 0;
        let mut failure = PeerError::NoUsableTransport;
        for part in parts {
            match self.choose(at, part) {
                Ok(()) => at += 1,
                Err(error) => {
                    failure = error;
                    self.drop_content(at);
                }
            }
        }
        if self.contents.is_empty() {
            return Err(failure);
        }
        self.extra = Vec::new();
        self.send_transport_answers(now);
        self.bind_all(now);
        self.settle(now);
        Ok(())
    }

    /// Any other message of the peer. Session-info is judged by the manager, which asks the client.
    ///
    /// # Errors
    /// What the peer is to be told; the session is unharmed.
    pub(crate) fn receive(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        self.settle_dialect(message, now)?;
        self.check_state(message)?;
        self.check_size(message)?;
        let result = self.apply(message, now);
        self.settle(now);
        result
    }

    fn apply(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        match message.action {
            // The same offer again: it was answered, and is answered again.
            Action::SessionInitiate => Ok(()),
            Action::SessionAccept => self.receive_accept(message, now),
            Action::SessionTerminate => self.receive_terminate(message, now),
            Action::Reject => {
                self.cause = Some(Box::new(Cause::Remote(message.reason.clone())));
                self.ended_by_peer(Event::ReceiveReject);
                Ok(())
            }
            Action::Redirect => self.receive_redirect(message.redirect.as_ref(), now),
            Action::SessionInfo => {
                let failed = |info: &&Element| info.is(TRANSPORT_FAILED, "transport-failed");
                for info in message.extra.iter().filter(failed) {
                    self.receive_transport_failed(info, now);
                }
                Ok(())
            }
            Action::TransportInfo => self.receive_transport_info(message, now),
            Action::TransportAccept => self.receive_transport_accept(message, now),
            Action::TransportReplace => {
                for part in &message.contents {
                    let at = self.known(part)?;
                    self.receive_replace(at, part, now)?;
                    if self.state.is_ended() {
                        break;
                    }
                }
                Ok(())
            }
            Action::TransportReject => {
                for part in &message.contents {
                    let at = self.known(part)?;
                    self.receive_replace_rejected(at, part, now);
                }
                Ok(())
            }
            Action::ContentAdd => self.receive_content_add(message, now),
            Action::ContentAccept => message
                .contents
                .iter()
                .try_for_each(|part| self.receive_content_accept(part, now)),
            Action::ContentReject => {
                let reason = message.reason.as_ref();
                message
                    .contents
                    .iter()
                    .try_for_each(|part| self.receive_content_reject(part, reason, now))
            }
            Action::ContentRemove => self.receive_content_remove(message, now),
            Action::ContentModify => message
                .contents
                .iter()
                .try_for_each(|part| self.receive_content_modify(part)),
            Action::DescriptionInfo => message
                .contents
                .iter()
                .try_for_each(|part| self.receive_description_info(part)),
            Action::SecurityInfo => message
                .contents
                .iter()
                .try_for_each(|part| self.receive_security_info(part)),
        }
    }

    /// Whether the state allows a message at all.
    pub(crate) fn check_state(&self, message: &Message) -> Result<(), PeerError> {
        let initiator = self.role == Role::Initiator;
        let fine = match message.action {
            // Idempotent for those whose turn it was.
            Action::SessionInitiate => !initiator,
            Action::SessionAccept => {
                initiator && (self.state == State::SentInitiate || self.state.is_accepted())
            }
            Action::Reject | Action::Redirect => self.state == State::SentInitiate,
            Action::SessionTerminate => self.state.after(Event::ReceiveTerminate).is_some(),
            Action::SessionInfo
            | Action::TransportInfo
            | Action::TransportAccept
            | Action::TransportReject => self.state.is_pending() || self.state.is_accepted(),
            Action::TransportReplace
            | Action::ContentAdd
            | Action::ContentAccept
            | Action::ContentReject
            | Action::ContentRemove
            | Action::ContentModify
            | Action::DescriptionInfo
            | Action::SecurityInfo => {
                self.dialect.has_modify && (self.state.is_pending() || self.state.is_accepted())
                    || message.action == Action::DescriptionInfo && self.state.is_accepted()
            }
        };
        if fine {
            Ok(())
        } else {
            Err(self.out_of_order(message.action))
        }
    }

    fn check_size(&self, message: &Message) -> Result<(), PeerError> {
        let limits = self.limits();
        if message.contents.len() > limits.contents {
            return Err(PeerError::TooMany {
                limit: "contents",
                max: limits.contents,
            });
        }
        if message.extra.len() > limits.extra_elements {
            return Err(PeerError::TooMany {
                limit: "extra_elements",
                max: limits.extra_elements,
            });
        }
        let needs_content = !matches!(
            message.action,
            Action::SessionInitiate
                | Action::SessionAccept
                | Action::SessionTerminate
                | Action::SessionInfo
                | Action::Reject
                | Action::Redirect
        );
        if needs_content && message.contents.is_empty() {
            return Err(PeerError::Malformed {
                field: "content",
                problem: "missing",
            });
        }
        Ok(())
    }

    /// The peer's first words may show that it speaks another form of our dialect.
    fn settle_dialect(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        if message.dialect == self.dialect || !self.dialect.settles_into(message.dialect) {
            return Ok(());
        }
        self.dialect = message.dialect;
        if self.dialect.transport_answer != TransportAnswer::Implied || self.role == Role::Responder
        {
            return Ok(());
        }
        let implied = self.dialect.implied_transport.unwrap_or_default();
        for at in 0..self.contents.len() {
            if self.contents[at].agreed {
                continue;
            }
            let carriers = &self.contents[at].carriers;
            let Some(chosen) = carriers.iter().position(|c| &*c.namespace == implied) else {
                if message.action == Action::TransportInfo {
                    return Err(PeerError::NotAllowed(
                        "the transport that this means was not offered",
                    ));
                }
                continue;
            };
            self.take_unanswered(at, chosen, now)?;
            // Candidates went out in a form that this peer does not read.
            let told = std::mem::take(&mut self.contents[at].told);
            self.contents[at].infos.splice(0..0, told);
        }
        Ok(())
    }

    fn receive_accept(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        if self.state != State::SentInitiate {
            // The same answer again.
            return Ok(());
        }
        let answered = self.accepted_parts(message)?;
        for &(at, part) in &answered {
            match self.accept_transport(at, part, now) {
                Ok(()) => {}
                // The end that we have said tells more than an error would.
                Err(_) if self.state.is_ended() => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        for (at, part) in &answered {
            let content = &mut self.contents[*at];
            content.remote_description = part.description.as_ref().map(Element::detach);
            content.state = ContentState::Active;
            let (name, senders) = (
                content.name.clone(),
                part.senders.unwrap_or(content.senders),
            );
            self.senders_accepted(&name, senders);
        }
        self.initiate_acknowledged = true;
        self.take_groups(message);
        self.step(Event::ReceiveAccept);
        let declined: Vec<Arc<str>> = self
            .contents
            .iter()
            .filter(|c| c.state == ContentState::Offered)
            .map(|c| c.name.clone())
            .collect();
        for name in declined {
            if let Some(at) = self.content_position(&name) {
                self.drop_content(at);
                self.modified(Modification::ContentRejected { name, reason: None });
            }
        }
        self.apply_groups(now);
        self.replace_deferred(now);
        Ok(())
    }

    /// What an accept says of the contents that we have offered.
    fn accepted_parts<'m>(
        &self,
        message: &'m Message,
    ) -> Result<Vec<(usize, &'m ContentPart)>, PeerError> {
        let mut answered = Vec::with_capacity(message.contents.len());
        let mut own = false;
        for part in &message.contents {
            let at = self.known(part)?;
            match self.contents[at].state {
                ContentState::Offered | ContentState::ProposedHere => {}
                // What the peer has proposed itself is for us to accept.
                ContentState::ProposedThere | ContentState::Active => {
                    own = true;
                    continue;
                }
            }
            if part.description.is_none() {
                return Err(PeerError::Malformed {
                    field: "description",
                    problem: "missing",
                });
            }
            if answered.iter().any(|(known, _)| *known == at) {
                return Err(PeerError::Malformed {
                    field: "content",
                    problem: "named twice",
                });
            }
            answered.push((at, part));
        }
        if answered.is_empty() && own {
            return Err(self.out_of_order(Action::SessionAccept));
        }
        if answered.is_empty() {
            return Err(PeerError::Malformed {
                field: "content",
                problem: "missing",
            });
        }
        Ok(answered)
    }

    /// The transport in an accept, where the dialect puts it.
    fn accept_transport(
        &mut self,
        at: usize,
        part: &ContentPart,
        now: Instant,
    ) -> Result<(), PeerError> {
        let content = &self.contents[at];
        let Some(answer) = part.transports.first() else {
            let implied = self.dialect.transport_answer == TransportAnswer::Implied;
            if !content.agreed
                && (implied || self.dialect.transport_answer == TransportAnswer::InAccept)
            {
                // Nothing was said against the only one offered.
                self.take_unanswered(at, 0, now)?;
            }
            return Ok(());
        };
        let replaced = content.replacing.is_some() || content.agreed;
        let old = |n: &str| n == answer.namespace();
        if replaced && (content.retired.iter().any(|n| old(n)) || content.transports().any(old)) {
            // It crossed our transport-replace: the answer to that decides.
            return Ok(());
        }
        let Err(error) = self.take_answer(at, answer, now) else {
            return Ok(());
        };
        let content = &mut self.contents[at];
        let offered = |c: &Carrier| &*c.namespace == answer.namespace();
        let Some(chosen) = content.carriers.iter().position(offered) else {
            return Err(error);
        };
        if content.untried.is_empty() || !self.dialect.has_modify || self.state.is_ended() {
            return Err(error);
        }
        // The peer accepts the session; that its answer to this transport is of no use is for us to change.
        content.deferred = true;
        let name = content.name.clone();
        self.unbind_channels(&name);
        self.take_carrier(at, chosen, now);
        let cause = TransportError::Unacceptable("the peer's answer is of no use");
        self.warn(Cause::Transport(cause));
        Ok(())
    }

    fn receive_transport_accept(
        &mut self,
        message: &Message,
        now: Instant,
    ) -> Result<(), PeerError> {
        for part in &message.contents {
            let at = self.known(part)?;
            let content = &self.contents[at];
            let offered = |e: &&Element| {
                content
                    .carriers
                    .iter()
                    .chain(&content.replacing)
                    .any(|c| &*c.namespace == e.namespace())
            };
            let mut answers = part.transports.iter().filter(offered);
            let (first, second) = (answers.next(), answers.next());
            let retired = || {
                let known = |e: &Element| content.retired.iter().any(|n| **n == *e.namespace());
                part.transports.iter().any(known)
            };
            match (first, second) {
                (Some(_), Some(_)) => {
                    return Err(PeerError::Malformed {
                        field: "transport",
                        problem: "more than one answer",
                    });
                }
                (None, _) if retired() => {}
                (None, _) => return Err(PeerError::NotAllowed("this transport was not offered")),
                (Some(answer), None) if content.replacing.is_some() || content.agreed => {
                    self.replace_accepted(at, answer, now)?;
                }
                (Some(answer), None) if self.role == Role::Initiator => {
                    self.take_answer(at, answer, now)?
                }
                (Some(_), None) => return Err(self.out_of_order(Action::TransportAccept)),
            }
        }
        Ok(())
    }

    fn receive_transport_info(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        // Everything is understood before anything is applied.
        let mut work: Vec<Understood> = Vec::new();
        for part in &message.contents {
            // One that we do not know may be on its way (content-add) or gone: neither is the peer's fault.
            let Ok(at) = self.known(part) else { continue };
            let host = self.host_of(at);
            for info in &part.transports {
                let namespace: Arc<str> = info.namespace().into();
                if self.contents[host].retired.contains(&namespace) {
                    continue;
                }
                let current = self.contents[host]
                    .carriers
                    .iter_mut()
                    .position(|c| c.namespace == namespace);
                let Some(current) = current else {
                    work.push((host, namespace, None, info.clone()));
                    continue;
                };
                let carrier = &mut self.contents[host].carriers[current];
                let infos = carrier.take_info(info);
                let infos = infos.map_err(|error| self.blame(host, error))?;
                work.push((host, namespace, Some(infos), info.clone()));
            }
        }
        for (host, namespace, infos, whole) in work {
            let current = self.contents[host]
                .carriers
                .first()
                .is_some_and(|c| c.namespace == namespace);
            match infos {
                Some(infos) => {
                    for (target, info) in infos {
                        self.count_candidate(host)?;
                        if current {
                            self.route_infos(host, vec![(target, info)], now)?;
                        } else {
                            self.keep_early(host, namespace.clone(), target, info)?;
                        }
                    }
                }
                // A transport that is not there: perhaps its transport-replace is on the way.
                None => self.keep_foreign(host, &namespace, &whole),
            }
        }
        Ok(())
    }

    /// Candidates of a transport that we do not have. It is skipped silently (libjingle), but kept in case.
    fn keep_foreign(&mut self, host: usize, namespace: &Arc<str>, whole: &Element) {
        if self.registry.factory(namespace).is_none() {
            return;
        }
        let early = &mut self.contents[host].early;
        if early.len() < self.shared.config.limits.early_candidates {
            early.push_back((namespace.clone(), None, whole.detach()));
        }
    }

    fn receive_terminate(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        let condition = message.reason.as_ref().map(|r| &r.condition);
        let other = condition == Some(&ReasonCondition::UnsupportedTransports);
        if other && self.state == State::SentInitiate && self.offer_next_transports(now) {
            self.warn(Cause::NoCommonTransport);
            return Ok(());
        }
        self.drain_streams(now);
        if self.state.is_ended() {
            return Ok(());
        }
        let reason = message.reason.clone();
        self.signals.terminate_reason.emit(reason.clone());
        self.events
            .push_back(SessionEvent::TerminateReason(reason.clone()));
        self.cause = Some(Box::new(Cause::Remote(reason)));
        self.ended_by_peer(Event::ReceiveTerminate);
        Ok(())
    }

    fn ended_by_peer(&mut self, event: Event) {
        self.outbox.clear();
        self.step(event);
        self.release_all();
    }
}
