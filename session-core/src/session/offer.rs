//! Transports: offering, choosing, answering, and going on to the next when one fails.

use super::{
    Session,
    content::{Carrier, Content, ContentState},
};
use crate::{
    Action, Cause, ContentCapacity, ContentPart, Element, Event, InfoTarget, Message, Misuse,
    Modification, Offers, Peer, PeerError, Redirect, Role, State, TransportAnswer, TransportError,
    TransportFactory, TransportKind,
};
use std::{sync::Arc, time::Instant};

/// The namespace of the session-info by which a responder tells that its end of a transport has failed: between two of
/// ours. XEP-0166 leaves it to the initiator to offer another transport, and has no word by which it would learn.
pub const TRANSPORT_FAILED: &str = "https://pcp.example/ns/transport-failed";

/// Making an offer.
impl Session {
    /// Whether the dialect has words for what is to be offered.
    pub(crate) fn check_contents(&self) -> Result<(), Misuse> {
        let cannot = |what| {
            Err(Misuse::DialectCannot {
                dialect: self.dialect.name,
                what,
            })
        };
        let names = || self.contents.iter().map(|c| &*c.name);
        match self.dialect.contents {
            ContentCapacity::Many => {}
            ContentCapacity::One if self.contents.len() == 1 => {}
            ContentCapacity::AudioVideo if self.contents.len() == 1 => {}
            ContentCapacity::AudioVideo if names().eq(["audio", "video"]) => {}
            ContentCapacity::One => return cannot("several contents"),
            ContentCapacity::AudioVideo => return cannot("contents other than audio and video"),
        }
        match self.contents[1..].iter().find(|c| c.description.is_none()) {
            Some(content) => Err(Misuse::UnknownContent(content.name.clone())),
            None => Ok(()),
        }
    }

    /// Creates the transports that the offer will carry.
    pub(crate) fn prepare_offers(&mut self) -> Result<(), Misuse> {
        (0..self.contents.len()).try_for_each(|at| self.prepare_offer(at))
    }

    pub(crate) fn prepare_offer(&mut self, at: usize) -> Result<(), Misuse> {
        if !self.contents[at].carriers.is_empty() {
            return Ok(());
        }
        let mut usable = self.usable_factories(at);
        if self.dialect.offers == Offers::Implied {
            usable.retain(|f| Some(f.namespace()) == self.dialect.implied_transport);
        }
        if usable.is_empty() {
            return Err(Misuse::NoTransport);
        }
        let rest = match self.dialect.offers {
            Offers::All | Offers::Implied => Vec::new(),
            Offers::First => usable.split_off(1),
        };
        let carriers = usable.iter().map(|f| self.carrier(at, f)).collect();
        self.contents[at].carriers = carriers;
        self.contents[at].untried = rest.iter().map(|f| f.namespace().into()).collect();
        Ok(())
    }

    fn usable_factories(&self, at: usize) -> Vec<Arc<dyn TransportFactory>> {
        let layers = &self.contents[at].layers;
        let datagrams = layers.iter().any(|l| l.kind() == TransportKind::Datagram);
        self.potential_transports()
            .iter()
            .filter_map(|namespace| self.registry.factory(namespace))
            .filter(|factory| factory.supports(self.dialect))
            .filter(|factory| !datagrams || factory.kind() == TransportKind::Datagram)
            .cloned()
            .collect()
    }

    fn carrier(&self, at: usize, factory: &Arc<dyn TransportFactory>) -> Carrier {
        let name = self.contents[at].name.clone();
        let context = self.transport_context(&name);
        Carrier::new(factory.as_ref(), &self.contents[at].layers, &context)
    }

    /// Sends the initiate and lets the channels of the preferred transports connect.
    pub(crate) fn send_offer(&mut self, now: Instant) {
        let implied = self.dialect.offers == Offers::Implied;
        let mut message = self.message(Action::SessionInitiate);
        for content in &mut self.contents {
            let mut part = content.described_part();
            if !implied {
                part.transports = content.carriers.iter_mut().map(Carrier::offer).collect();
            }
            message.contents.push(part);
        }
        message.groups = self.groups.clone();
        message.extra = self.extra.clone();
        self.initiate_acknowledged = false;
        self.say(message, now);
        self.bind_all(now);
        self.begin_batching(now);
    }

    pub(crate) fn bind_all(&mut self, now: Instant) {
        let names: Vec<_> = self.contents.iter().map(|c| c.name.clone()).collect();
        for name in names {
            if let Err(error) = self.bind_channels(&name, now) {
                self.transport_failed(&name, error, now);
            }
        }
    }

    /// The offer goes out once more, in full, to another address.
    pub(crate) fn follow_redirect(&mut self, target: Peer, cookie: Option<Element>, now: Instant) {
        let known =
            self.reoffers >= self.limits().reoffers || !self.shared.follows(&self.remote, &target);
        if known || self.state != State::SentInitiate {
            return self.fail(Cause::BadRedirect(target), true, now);
        }
        self.remote = target;
        self.extra.extend(cookie);
        self.renew_layers();
        for content in &mut self.contents {
            // What was told to the old address is told to the new one.
            let told = std::mem::take(&mut content.told);
            content.infos.splice(0..0, told);
        }
        self.reoffer(now);
    }

    /// The peer knows none of the transports offered so far: offers the next, as a new session on the wire.
    /// Returns whether there was one.
    pub(crate) fn offer_next_transports(&mut self, now: Instant) -> bool {
        let next: Vec<_> = self
            .contents
            .iter()
            .map(|c| c.untried.front().cloned())
            .collect();
        if self.reoffers >= self.limits().reoffers || next.iter().any(Option::is_none) {
            return false;
        }
        for (at, namespace) in next.into_iter().flatten().enumerate() {
            let Some(factory) = self.registry.factory(&namespace).cloned() else {
                return false;
            };
            let name = self.contents[at].name.clone();
            self.unbind_channels(&name);
            let carrier = self.carrier(at, &factory);
            let content = &mut self.contents[at];
            content.untried.pop_front();
            content.deferred = false;
            content.carriers = vec![carrier];
            content.infos.clear();
            content.told.clear();
            content.early.clear();
        }
        self.sid = self.shared.sid(self.dialect);
        self.reoffer(now);
        true
    }

    fn reoffer(&mut self, now: Instant) {
        self.reoffers += 1;
        self.rekeyed = true;
        self.outbox.clear();
        self.abandon(|_| true);
        for content in &mut self.contents {
            // What was proposed for the offer before is part of this one, or void.
            content.replacing = None;
            content.senders_wanted = None;
            if content.state == ContentState::ProposedHere {
                content.state = ContentState::Offered;
            }
        }
        self.step(Event::Reoffer);
        self.send_offer(now);
    }
}

/// Judging an offer.
impl Session {
    /// Chooses among the transports that the peer offers for a content. The peer's order is its preference.
    ///
    /// # Errors
    /// [`PeerError::NoUsableTransport`].
    pub(crate) fn choose(&mut self, at: usize, part: &ContentPart) -> Result<(), PeerError> {
        let implied = self
            .dialect
            .implied_transport
            .filter(|_| part.transports.is_empty());
        let implied = implied.map(|namespace| Element::new(namespace, "transport"));
        let usable = self.usable_factories(at);
        for offer in part.transports.iter().chain(&implied) {
            let Some(factory) = usable.iter().find(|f| f.namespace() == offer.namespace()) else {
                continue;
            };
            let mut carrier = self.carrier(at, factory);
            let Ok(answer) = carrier.accept_offer(offer) else {
                continue;
            };
            let Ok(infos) = carrier.split_info(offer) else {
                continue;
            };
            let namespace = carrier.namespace.clone();
            let content = &mut self.contents[at];
            content.carriers = vec![carrier];
            content.agreed = true;
            content.answer = Some(answer);
            content.offer = Some(offer.detach());
            for (target, info) in infos {
                self.count_candidate(at)?;
                self.keep_early(at, namespace.clone(), target, info)?;
            }
            return Ok(());
        }
        Err(PeerError::NoUsableTransport)
    }

    pub(crate) fn count_candidate(&mut self, at: usize) -> Result<(), PeerError> {
        let max = self.limits().candidates;
        let content = &mut self.contents[at];
        if content.candidates >= max {
            return Err(PeerError::TooMany {
                limit: "candidates",
                max,
            });
        }
        content.candidates += 1;
        Ok(())
    }

    /// Tells the peer which transports we chose, where the dialect has a message for it.
    pub(crate) fn send_transport_answers(&mut self, now: Instant) {
        if self.dialect.transport_answer != TransportAnswer::Own {
            return;
        }
        let mut message = self.message(Action::TransportAccept);
        for content in &mut self.contents {
            let mut part = content.part();
            part.transports.extend(content.answer.take());
            message.contents.push(part);
        }
        self.say(message, now);
    }

    pub(crate) fn send_accept(&mut self, now: Instant) {
        let with_answer = self.dialect.transport_answer == TransportAnswer::InAccept;
        let mut message = self.message(Action::SessionAccept);
        message.responder = Some(self.local.clone());
        self.forget_undos();
        for content in &mut self.contents {
            if content.state != ContentState::Offered {
                continue;
            }
            content.state = ContentState::Active;
            if content.description.is_none() {
                content.description = content.remote_description.clone();
            }
            let mut part = content.described_part();
            part.security = None;
            part.transports
                .extend(content.answer.take().filter(|_| with_answer));
            message.contents.push(part);
        }
        message.groups = self.groups.clone();
        self.say(message, now);
        self.apply_groups(now);
        self.bind_all(now);
        self.begin_batching(now);
    }

    /// Contents that are bundled let go of their own transports (XEP-0338).
    pub(crate) fn apply_groups(&mut self, now: Instant) {
        for group in self.groups.clone() {
            let mut members = group
                .contents
                .iter()
                .filter(|name| self.content_position(name).is_some());
            let Some(leader) = members.next().cloned() else {
                continue;
            };
            let members: Vec<_> = members.cloned().collect();
            for name in members {
                let Some(at) = self.content_position(&name).filter(|_| name != leader) else {
                    continue;
                };
                self.unbind_channels(&name);
                let content = &mut self.contents[at];
                let layers = content.carriers.drain(..).next().map(|c| c.layers);
                content.infos.clear();
                content.untried.clear();
                content.bundled = Some(leader.clone());
                let early = std::mem::take(&mut content.early);
                if let Some(leader) = self.content_position(&leader) {
                    let leader = &mut self.contents[leader];
                    leader.early.extend(early);
                    if let (Some(carrier), Some(layers)) = (leader.carriers.first_mut(), layers) {
                        carrier.layers.adopt(layers);
                    }
                }
            }
        }
        self.bind_all(now);
    }
}

/// Answers to our offers.
impl Session {
    /// The peer chose: of the offered transports only this one stays.
    ///
    /// # Errors
    /// When it was not offered or its answer cannot be used; then nothing has changed.
    pub(crate) fn take_answer(
        &mut self,
        at: usize,
        answer: &Element,
        now: Instant,
    ) -> Result<(), PeerError> {
        let content = &mut self.contents[at];
        let offered = content
            .carriers
            .iter()
            .position(|c| &*c.namespace == answer.namespace());
        let Some(chosen) = offered else {
            return Err(PeerError::NotAllowed("this transport was not offered"));
        };
        let carrier = &mut content.carriers[chosen];
        let infos = carrier.split_info(answer);
        let judged = infos.and_then(|infos| carrier.accept_answer(answer).map(|()| infos));
        let infos = judged.map_err(|error| self.blame(at, error))?;
        self.take_carrier(at, chosen, now);
        for _ in &infos {
            self.count_candidate(at)?;
        }
        self.route_infos(at, infos, now)
    }

    /// Of a content's transports only `chosen` stays.
    pub(crate) fn take_carrier(&mut self, at: usize, chosen: usize, now: Instant) {
        let name = self.contents[at].name.clone();
        if chosen != 0 {
            self.unbind_channels(&name);
            self.contents[at].infos.clear();
        }
        let content = &mut self.contents[at];
        content.carriers.swap(0, chosen);
        content.carriers.truncate(1);
        content.agreed = true;
        if let Err(error) = self.bind_channels(&name, now) {
            self.transport_failed(&name, error, now);
        }
    }

    /// Turns a transport's verdict on what the peer sent into an answer.
    pub(crate) fn blame(&self, at: usize, error: TransportError) -> PeerError {
        let namespace = || {
            self.contents[at]
                .carriers
                .first()
                .map(|c| c.namespace.clone())
        };
        match error {
            TransportError::Malformed { field, problem } => PeerError::Malformed { field, problem },
            TransportError::UnknownChannel(name) => PeerError::UnknownChannel {
                name,
                namespace: namespace().unwrap_or_else(|| "".into()),
            },
            TransportError::Unacceptable(problem) => PeerError::Malformed {
                field: "transport",
                problem,
            },
            TransportError::TieBreak => PeerError::TieBreak,
            TransportError::Unreachable(_)
            | TransportError::NoResource(_)
            | TransportError::Closed => PeerError::NotAllowed("the transport cannot be used"),
        }
    }
}

/// Going on with another transport (XEP-0166 §7.2.14ff: transport-replace).
impl Session {
    /// Proposes another transport for a content of a session that was offered already.
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn replace_transport(
        &mut self,
        content: &str,
        namespace: &str,
        now: Instant,
    ) -> Result<(), Misuse> {
        let at = self.position_of(content)?;
        if !self.dialect.has_modify {
            return Err(Misuse::DialectCannot {
                dialect: self.dialect.name,
                what: "another transport",
            });
        }
        if !(self.state.is_pending() || self.state.is_accepted()) {
            return Err(Misuse::NotNow {
                state: self.state,
                event: Event::SendModify,
            });
        }
        if self.contents[at].replacing.is_some() {
            return Err(Misuse::ChangePending);
        }
        let factory = self.registry.factory(namespace).cloned();
        let factory = factory.ok_or_else(|| Misuse::UnknownTransport(namespace.into()))?;
        self.send_replace(at, &factory, now);
        self.settle(now);
        Ok(())
    }

    fn send_replace(&mut self, at: usize, factory: &Arc<dyn TransportFactory>, now: Instant) {
        let mut carrier = self.carrier(at, factory);
        let mut part = self.contents[at].part();
        part.transports.push(carrier.offer());
        let content = &mut self.contents[at];
        content.untried.retain(|n| **n != *carrier.namespace);
        content.replacing = Some(carrier);
        let message = Message {
            contents: vec![part],
            ..self.message(Action::TransportReplace)
        };
        self.say(message, now);
    }

    /// The peer offers another transport for a content.
    pub(crate) fn receive_replace(
        &mut self,
        at: usize,
        part: &ContentPart,
        now: Instant,
    ) -> Result<(), PeerError> {
        let [offer] = part.transports.as_slice() else {
            return Err(PeerError::Malformed {
                field: "transport",
                problem: "exactly one is needed",
            });
        };
        if self.contents[at].replacing.is_some() {
            if self.role == Role::Initiator {
                return Err(PeerError::TieBreak);
            }
            // The initiator's goes on; ours is answered with a tie-break, which finds nothing to do.
            self.contents[at].replacing = None;
        }
        let usable = self.usable_factories(at);
        let factory = usable.iter().find(|f| f.namespace() == offer.namespace());
        let accepted = factory.and_then(|factory| {
            let mut carrier = self.carrier(at, factory);
            let infos = carrier.split_info(offer).ok()?;
            let answer = carrier.accept_offer(offer).ok()?;
            Some((carrier, answer, infos))
        });
        let Some((carrier, answer, infos)) = accepted else {
            self.refuse_replacement(at, offer.namespace(), now);
            return Ok(());
        };
        self.contents[at].refused = 0;
        let mut reply = self.contents[at].part();
        reply.transports.push(answer);
        let message = Message {
            contents: vec![reply],
            ..self.message(Action::TransportAccept)
        };
        self.say(message, now);
        self.switch(at, carrier, infos, now)
    }

    /// The peer accepted our replacement.
    pub(crate) fn replace_accepted(
        &mut self,
        at: usize,
        answer: &Element,
        now: Instant,
    ) -> Result<(), PeerError> {
        let content = &mut self.contents[at];
        let Some(carrier) = content
            .replacing
            .as_mut()
            .filter(|c| &*c.namespace == answer.namespace())
        else {
            let known = |n: &Arc<str>| &**n == answer.namespace();
            // A late answer to what was given up, or the same answer again.
            let late = content.retired.iter().any(known)
                || content.transport() == Some(answer.namespace());
            return if late {
                Ok(())
            } else {
                Err(PeerError::NotAllowed("this transport was not offered"))
            };
        };
        let infos = carrier.split_info(answer);
        let judged = infos.and_then(|infos| carrier.accept_answer(answer).map(|()| infos));
        let infos = match judged {
            Ok(infos) => infos,
            Err(error) => {
                // The peer has moved to it; that it leads nowhere is for us to change.
                let blame = self.blame(at, error);
                let name = self.contents[at].name.clone();
                self.replace_refused(Some(&name), now);
                return Err(blame);
            }
        };
        match self.contents[at].replacing.take() {
            Some(carrier) => self.switch(at, carrier, infos, now),
            None => Ok(()),
        }
    }

    /// Puts a content's channels onto another transport.
    fn switch(
        &mut self,
        at: usize,
        carrier: Carrier,
        infos: Vec<(InfoTarget, Element)>,
        now: Instant,
    ) -> Result<(), PeerError> {
        let name = self.contents[at].name.clone();
        self.unbind_channels(&name);
        let content = &mut self.contents[at];
        content.retired.retain(|n| *n != carrier.namespace);
        for old in content.carriers.drain(..) {
            if old.namespace != carrier.namespace && !content.retired.contains(&old.namespace) {
                content.retired.push(old.namespace);
            }
        }
        content.carriers.push(carrier);
        content.agreed = true;
        content.bundled = None;
        content.answer = None;
        content.offer = None;
        content.infos.clear();
        content.told.clear();
        for _ in &infos {
            self.count_candidate(at)?;
        }
        self.replaced = true;
        if let Err(error) = self.bind_channels(&name, now) {
            self.transport_failed(&name, error, now);
            return Ok(());
        }
        self.route_infos(at, infos, now)?;
        self.modified(Modification::TransportReplaced { name });
        self.restart_connectivity(now);
        Ok(())
    }

    /// The peer declined our replacement, or nobody answered it.
    pub(crate) fn replace_refused(&mut self, content: Option<&str>, now: Instant) {
        let Some(at) = content.and_then(|name| self.content_position(name)) else {
            return;
        };
        let Some(carrier) = self.contents[at].replacing.take() else {
            return;
        };
        self.contents[at].retired.push(carrier.namespace);
        let name = self.contents[at].name.clone();
        let works = self
            .channels
            .iter()
            .any(|c| c.content == name && c.is_bound());
        if !works && !self.next_transport(at, now) {
            self.fail(Cause::NoCommonTransport, false, now);
        }
    }

    /// A channel's transport failed for good.
    pub(crate) fn transport_failed(&mut self, content: &str, error: TransportError, now: Instant) {
        let Some(at) = self.content_position(content) else {
            return;
        };
        self.give_up_transport(at, Cause::Transport(error), now);
    }

    /// A content's transport is of no use any more. The initiator goes on to the next; the responder waits for it.
    pub(crate) fn give_up_transport(&mut self, at: usize, cause: Cause, now: Instant) {
        if self.state.is_ended() || self.contents[at].replacing.is_some() {
            return;
        }
        let content = &mut self.contents[at];
        if self.state == State::SentInitiate
            && self.dialect.has_modify
            && !content.untried.is_empty()
        {
            content.deferred = true;
            let name = content.name.clone();
            self.unbind_channels(&name);
            return self.warn(cause);
        }
        if self.next_transport(at, now) {
            return self.warn(cause);
        }
        let waits = matches!(cause, Cause::Transport(_));
        if waits && self.role == Role::Responder && self.dialect.has_modify {
            // The initiator offers another: it is told, because not every failure shows at both ends. The connectivity
            // clock bounds the wait.
            self.say_transport_failed(at, now);
            self.warn(cause);
            return self.review_clocks(now);
        }
        if cause == Cause::Transport(TransportError::Closed) && self.state.is_accepted() {
            // A close overtakes the word that explains it, which has the longer way.
            return self.await_parting(now);
        }
        self.fail(cause, false, now);
    }

    /// A responder tells that a transport is of no use to it any more.
    fn say_transport_failed(&mut self, at: usize, now: Instant) {
        let content = &self.contents[at];
        if let Some(transport) = content.transport().filter(|_| self.state.is_accepted()) {
            let failed = Element::new(TRANSPORT_FAILED, "transport-failed")
                .with("content", &content.name)
                .with("transport", transport);
            let message = Message {
                extra: vec![failed],
                ..self.message(Action::SessionInfo)
            };
            self.say(message, now);
        }
    }

    /// The peer's responder says that a transport is of no use to it any more. Late words are about one that is gone.
    pub(crate) fn receive_transport_failed(&mut self, failed: &Element, now: Instant) {
        let name = failed.attribute("content").unwrap_or_default();
        let Some(at) = self.content_position(name) else {
            return;
        };
        let current = self.contents[at].transport();
        if self.role == Role::Initiator
            && self.state.is_accepted()
            && current.is_some()
            && current == failed.attribute("transport")
        {
            let name = self.contents[at].name.clone();
            self.unbind_channels(&name);
            self.give_up_transport(at, Cause::Transport(TransportError::Closed), now);
        }
    }

    /// The peer accepted: offers what could not be offered before.
    pub(crate) fn replace_deferred(&mut self, now: Instant) {
        for at in 0..self.contents.len() {
            if std::mem::take(&mut self.contents[at].deferred) && !self.next_transport(at, now) {
                return self.fail(Cause::NoCommonTransport, false, now);
            }
        }
    }

    fn next_transport(&mut self, at: usize, now: Instant) -> bool {
        if self.role == Role::Responder || !self.dialect.has_modify {
            return false;
        }
        let Some(namespace) = self.contents[at].untried.pop_front() else {
            return false;
        };
        let Some(factory) = self.registry.factory(&namespace).cloned() else {
            return false;
        };
        let name = self.contents[at].name.clone();
        self.unbind_channels(&name);
        self.send_replace(at, &factory, now);
        self.restart_connectivity(now);
        true
    }

    /// The peer redirects by a message (libjingle 0.4).
    pub(crate) fn receive_redirect(
        &mut self,
        redirect: Option<&Redirect>,
        now: Instant,
    ) -> Result<(), PeerError> {
        let Some(Redirect { target, cookie }) = redirect else {
            return Err(PeerError::Malformed {
                field: "target",
                problem: "missing",
            });
        };
        self.follow_redirect(target.clone(), cookie.clone(), now);
        Ok(())
    }

    /// Removes a content and what belongs to it.
    pub(crate) fn drop_content(&mut self, at: usize) -> Content {
        let name = self.contents[at].name.clone();
        self.remove_channels(&name);
        self.abandon(|asked| asked.is_about(&name));
        self.contents.remove(at)
    }
}
