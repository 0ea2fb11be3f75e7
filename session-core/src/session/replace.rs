//! Going on with another transport when one fails, or when somebody wants to.

use super::{
    Session,
    content::{Carrier, ContentState},
};
use crate::{
    Action, Cause, ContentPart, Element, Event, InfoTarget, Message, Misuse, Modification,
    PeerError, Role, State, TransportError, TransportFactory,
};
use std::{sync::Arc, time::Instant};

/// The namespace of the session-info by which a responder tells that its end of a transport has failed: between two of
/// ours. XEP-0166 leaves it to the initiator to offer another transport, and has no word by which it would learn.
pub const TRANSPORT_FAILED: &str = "https://pcp.example/ns/transport-failed";

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

    /// Gives a content's transport up, because it leads nowhere although it does not say so. Whether another can follow: an
    /// initiator offers the next of its potential ones; a responder tells that, and waits for it as long as for any path.
    /// Possible once the session is accepted.
    pub fn fall_back(&mut self, content: &str, now: Instant) -> bool {
        let Some(at) = self.content_position(content) else {
            return false;
        };
        let is_new = self.replacing_for(at).is_none();
        let at = self.host_of(at);
        if !self.state.is_accepted() || !self.dialect.has_modify || !is_new {
            return false;
        }
        let follows = match self.role {
            Role::Initiator => self.next_transport(at, now),
            Role::Responder => {
                self.unbind_transport(at);
                self.say_transport_failed(at, now);
                true
            }
        };
        self.settle(now);
        follows
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
        // However little time the one before it had left: the answer may save the session.
        self.restart_connectivity(now);
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
        let content = &self.contents[at];
        let again = content.taken.as_ref() == Some(offer);
        if again && self.is_asked(Action::TransportAccept, &content.name) {
            // Our answer was not there in time. It is said again by itself, and what it says is in use.
            return Ok(());
        }
        if content.replacing.is_some() {
            if self.role == Role::Initiator {
                return Err(PeerError::TieBreak);
            }
            // The initiator's goes on, and ours is not said again.
            let name = self.contents[at].name.clone();
            self.abandon(|asked| asked.is(Action::TransportReplace, &name));
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
        self.contents[at].taken = Some(offer.detach());
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
        // Its answer says that it arrived: it need not be acknowledged, too.
        let name = self.contents[at].name.clone();
        self.abandon(|asked| asked.is(Action::TransportReplace, &name));
        match self.contents[at].replacing.take() {
            Some(carrier) => self.switch(at, carrier, infos, now),
            None => Ok(()),
        }
    }

    /// The peer declines a replacement: the one that is open, if it says of which it speaks.
    pub(crate) fn receive_replace_rejected(&mut self, at: usize, part: &ContentPart, now: Instant) {
        let content = &self.contents[at];
        let open = content.replacing.as_ref().map(|c| &*c.namespace);
        let mut named = part.transports.iter().map(Element::namespace);
        if part.transports.is_empty() || named.any(|named| Some(named) == open) {
            let name = content.name.clone();
            self.replace_refused(Some(&name), now);
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
        // Who shared a transport leaves it; who shares this one comes along.
        self.contents[at].bundled = None;
        self.unbind_transport(at);
        let content = &mut self.contents[at];
        content.retired.retain(|n| *n != carrier.namespace);
        for old in content.carriers.drain(..) {
            if old.namespace != carrier.namespace && !content.retired.contains(&old.namespace) {
                content.retired.push(old.namespace);
            }
        }
        content.carriers.push(carrier);
        content.agreed = true;
        content.answer = None;
        content.offer = None;
        content.infos.clear();
        content.told.clear();
        for _ in &infos {
            self.count_candidate(at)?;
        }
        self.replaced = true;
        if let Err(error) = self.bind_transport(at, now) {
            self.transport_failed(&name, error, now);
            return Ok(());
        }
        self.route_infos(at, infos, now)?;
        for name in self.hosted_names(at) {
            self.modified(Modification::TransportReplaced { name });
        }
        self.restart_connectivity(now);
        Ok(())
    }

    /// The peer declined our replacement, or nobody answered it.
    pub(crate) fn replace_refused(&mut self, content: Option<&str>, now: Instant) {
        let Some(at) = content.and_then(|name| self.content_position(name)) else {
            return;
        };
        let content = &mut self.contents[at];
        let Some(carrier) = content.replacing.take() else {
            return;
        };
        // It may be by the transport that is in use, and stays so.
        let in_use = content.transports().any(|used| used == &*carrier.namespace);
        if !in_use && !content.retired.contains(&carrier.namespace) {
            content.retired.push(carrier.namespace);
        }
        let name = self.contents[at].name.clone();
        // It is answered: neither its acknowledgement nor its silence is about what follows.
        self.abandon(|asked| asked.is(Action::TransportReplace, &name));
        let host = self.host_of(at);
        let works = self
            .channels
            .iter()
            .any(|c| c.is_bound() && self.is_hosted(&c.content, host));
        if works || self.contents[host].replacing.is_some() || self.next_transport(host, now) {
            return;
        }
        if self.role == Role::Responder && self.state.is_accepted() {
            // What failed meanwhile was not told as long as ours was open, and the initiator may have another.
            self.say_transport_failed(host, now);
            return self.review_clocks(now);
        }
        self.fail(Cause::NoCommonTransport, false, now);
    }

    /// A transport will not carry a channel. Where another may follow, that is a failure like any other.
    ///
    /// # Errors
    /// The same error, where none can follow; nothing has changed.
    pub(crate) fn go_on_after(
        &mut self,
        content: &str,
        error: TransportError,
        now: Instant,
    ) -> Result<(), TransportError> {
        let Some(at) = self.content_position(content) else {
            return Err(error);
        };
        let may_follow = match self.role {
            Role::Initiator => !self.contents[self.host_of(at)].untried.is_empty(),
            // The other side knows what is left.
            Role::Responder => true,
        };
        if !may_follow || !self.dialect.has_modify || self.state.is_ended() {
            return Err(error);
        }
        self.transport_failed(content, error, now);
        Ok(())
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
        if self.state.is_ended() {
            return;
        }
        if let Some(open) = self.replacing_for(at) {
            if cause == Cause::NoConnectivity {
                // Some peers acknowledge a replacement that they do not want, and say nothing more.
                let name = self.contents[open].name.clone();
                self.replace_refused(Some(&name), now);
            }
            return;
        }
        let at = self.host_of(at);
        let content = &mut self.contents[at];
        // Nothing is replaced that the peer has not accepted.
        let early =
            self.state == State::SentInitiate || content.state == ContentState::ProposedHere;
        if early && self.dialect.has_modify && !content.untried.is_empty() {
            content.deferred = true;
            self.unbind_transport(at);
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
        let at = self.host_of(at);
        let current = self.contents[at].transport();
        if self.role == Role::Initiator
            && self.state.is_accepted()
            && current.is_some()
            && current == failed.attribute("transport")
        {
            self.unbind_transport(at);
            self.give_up_transport(at, Cause::Transport(TransportError::Closed), now);
        }
    }

    /// The peer accepted: offers what could not be offered before.
    pub(crate) fn replace_deferred(&mut self, now: Instant) {
        for at in 0..self.contents.len() {
            let content = &mut self.contents[at];
            let deferred = !content.is_proposed() && std::mem::take(&mut content.deferred);
            if deferred && !self.next_transport(at, now) {
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
        self.unbind_transport(at);
        self.send_replace(at, &factory, now);
        true
    }
}
