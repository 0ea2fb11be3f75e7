//! Transports: offering, choosing, answering, and going on to the next when one fails.

use super::{
    Session,
    content::{Carrier, Content, ContentState},
};
use crate::{
    Action, Cause, ContentCapacity, ContentPart, Element, Event, Group, Message, Misuse, Offers,
    Peer, PeerError, Redirect, State, TransportAnswer, TransportError, TransportFactory,
    TransportKind, layer::Layers,
};
use std::{sync::Arc, time::Instant};

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

    pub(super) fn usable_factories(&self, at: usize) -> Vec<Arc<dyn TransportFactory>> {
        let hosted = (0..self.contents.len()).filter(|&other| self.host_of(other) == at);
        let datagrams = hosted
            .chain([at])
            .flat_map(|at| &self.contents[at].layers)
            .any(|layer| layer.kind() == TransportKind::Datagram);
        self.potential_transports()
            .iter()
            .filter_map(|namespace| self.registry.factory(namespace))
            .filter(|factory| factory.supports(self.dialect))
            .filter(|factory| !datagrams || factory.kind() == TransportKind::Datagram)
            .cloned()
            .collect()
    }

    pub(super) fn carrier(&self, at: usize, factory: &Arc<dyn TransportFactory>) -> Carrier {
        let name = self.contents[at].name.clone();
        let context = self.transport_context(&name);
        let mut carrier = Carrier::new(factory.as_ref(), &self.contents[at].layers, &context);
        let others = self.contents.iter();
        for other in others.filter(|other| other.bundled.as_ref() == Some(&name)) {
            let context = self.transport_context(&other.name);
            let layers = Layers::new(&other.layers, carrier.kind, &context);
            carrier.layers.adopt(layers);
        }
        carrier
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
        self.address(target);
        self.extra.extend(cookie);
        self.renew_transports();
        self.reoffer(now);
    }

    /// The offer goes to somebody else: transports, layers and channels begin anew. Some have the address of whom the offer
    /// went to, and what that one said of them is void.
    fn renew_transports(&mut self) {
        for at in 0..self.contents.len() {
            let name = self.contents[at].name.clone();
            self.unbind_channels(&name);
            let content = &mut self.contents[at];
            content.infos.clear();
            content.told.clear();
            content.early.clear();
            content.retired.clear();
            content.candidates = 0;
            let chosen = std::mem::take(&mut content.agreed);
            let old = std::mem::take(&mut content.carriers);
            let again = if chosen && self.dialect.offers == Offers::All {
                // Those that were not chosen are offered, too.
                self.usable_factories(at)
            } else {
                let known = |carrier: &Carrier| self.registry.factory(&carrier.namespace).cloned();
                old.iter().filter_map(known).collect()
            };
            let carriers = again.iter().map(|f| self.carrier(at, f)).collect();
            self.contents[at].carriers = carriers;
        }
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
        // Of what was offered to belong together, this is what there is.
        let offered = std::mem::take(&mut self.groups);
        let has = |name: &str| message.contents.iter().any(|part| *part.name == *name);
        self.groups = offered
            .iter()
            .filter_map(|group| group.among(has))
            .collect();
        message.groups = self.groups.clone();
        self.say(message, now);
        self.apply_groups(now);
        self.bind_all(now);
        self.begin_batching(now);
    }

    /// The peer's accept says which contents belong together: of those that it has, and only as we offered it.
    pub(super) fn take_groups(&mut self, accept: &Message) {
        let offered = std::mem::take(&mut self.groups);
        let has = |name: &str| accept.contents.iter().any(|part| *part.name == *name);
        self.groups = accept
            .groups
            .iter()
            .filter_map(|group| {
                let like = |ours: &&Group| ours.semantics == group.semantics;
                offered.iter().filter(like).find_map(|ours| {
                    let known = |name: &str| ours.contents.iter().any(|our| **our == *name);
                    group.among(|name| has(name) && known(name))
                })
            })
            .collect();
    }

    /// Contents that are bundled let go of their own transports (XEP-0338). A content is in one bundle: the first.
    pub(crate) fn apply_groups(&mut self, now: Instant) {
        let mut taken: Vec<Arc<str>> = Vec::new();
        for group in self.groups.clone() {
            if *group.semantics != *Group::BUNDLE {
                continue;
            }
            let free = |name: &Arc<str>| {
                let known = self.content_position(name).is_some();
                known && !taken.contains(name)
            };
            let mut members = group.contents.into_iter().filter(free);
            let Some(leader) = members.next() else {
                continue;
            };
            let members: Vec<_> = members.filter(|name| *name != leader).collect();
            for name in &members {
                self.share_transport(name, &leader);
            }
            taken.push(leader);
            taken.extend(members);
        }
        self.bind_all(now);
    }

    /// A content goes over to the transport of another.
    fn share_transport(&mut self, name: &Arc<str>, leader: &Arc<str>) {
        let Some(at) = self.content_position(name) else {
            return;
        };
        self.unbind_channels(name);
        let content = &mut self.contents[at];
        let layers = content.carriers.drain(..).next().map(|c| c.layers);
        content.infos.clear();
        content.untried.clear();
        content.deferred = false;
        content.bundled = Some(leader.clone());
        let early = std::mem::take(&mut content.early);
        if let Some(leader) = self.content_position(leader) {
            let leader = &mut self.contents[leader];
            leader.early.extend(early);
            if let (Some(carrier), Some(layers)) = (leader.carriers.first_mut(), layers) {
                carrier.layers.adopt(layers);
            }
        }
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
        let infos = match judged {
            Ok(infos) => infos,
            Err(error) => {
                let blame = self.blame(at, error.clone());
                if matches!(error, TransportError::Untrusted(_)) {
                    // Not a matter of this transport: another one would lead to the same peer.
                    self.fail(Cause::Transport(error), false, now);
                }
                return Err(blame);
            }
        };
        self.take_carrier(at, chosen, now);
        for _ in &infos {
            self.count_candidate(at)?;
        }
        self.route_infos(at, infos, now)?;
        // Some began before the answer.
        self.collect_hosted(at, now);
        Ok(())
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
            TransportError::Unacceptable(problem) | TransportError::Untrusted(problem) => {
                PeerError::Malformed {
                    field: "transport",
                    problem,
                }
            }
            TransportError::TieBreak => PeerError::TieBreak,
            TransportError::Unreachable(_)
            | TransportError::NoResource(_)
            | TransportError::Closed => PeerError::NotAllowed("the transport cannot be used"),
        }
    }
}

/// Where an offer goes instead, and what is taken out of it.
impl Session {
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
        let mut gone = self.contents.remove(at);
        self.inherit_transport(&mut gone);
        gone
    }
}
