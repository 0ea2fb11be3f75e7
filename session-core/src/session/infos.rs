//! What channels tell each other (transport-info): to ours, and from ours.

use super::{Outgoing, Session};
use crate::{Action, Element, InfoTarget, Message, Misuse, Peer, PeerError, Role, State};
use std::{sync::Arc, time::Instant};

/// From the peer's channels to ours.
impl Session {
    /// Hands messages of the peer to the channels that they are for; keeps those whose channel does not exist yet.
    ///
    /// # Errors
    /// Of the first message that a channel refuses.
    pub(crate) fn route_infos(
        &mut self,
        host: usize,
        infos: Vec<(InfoTarget, Element)>,
        now: Instant,
    ) -> Result<(), PeerError> {
        for (target, info) in infos {
            let mut found = false;
            for at in 0..self.channels.len() {
                let meant = match &target {
                    InfoTarget::Channel(name) => self.channels[at].wire_name == *name,
                    InfoTarget::All => true,
                };
                if !meant || self.carrier_host(&self.channels[at].content) != Some(host) {
                    continue;
                }
                if let Some(implementation) = &mut self.channels[at].implementation {
                    found = true;
                    let result = implementation.handle_info(&info, now);
                    self.collect(at, now);
                    result.map_err(|error| self.blame(host, error))?;
                }
            }
            if !found {
                let namespace = self.contents[host]
                    .carriers
                    .first()
                    .map(|c| c.namespace.clone());
                self.keep_early(host, namespace.unwrap_or_else(|| "".into()), target, info)?;
            }
        }
        Ok(())
    }

    /// Keeps a message for a channel or a transport that may still come.
    pub(crate) fn keep_early(
        &mut self,
        at: usize,
        namespace: Arc<str>,
        target: InfoTarget,
        info: Element,
    ) -> Result<(), PeerError> {
        let max = self.limits().early_candidates;
        let early = &mut self.contents[at].early;
        if early.len() >= max {
            return Err(match target {
                InfoTarget::Channel(name) => PeerError::UnknownChannel { name, namespace },
                InfoTarget::All => PeerError::TooMany {
                    limit: "early_candidates",
                    max,
                },
            });
        }
        early.push_back((namespace, Some(target), info.detach()));
        Ok(())
    }

    /// Hands out what was kept for channels that exist by now. What is still early stays.
    pub(crate) fn deliver_early(&mut self, host: usize, now: Instant) {
        let Some(namespace) = self.contents[host]
            .carriers
            .first()
            .map(|c| c.namespace.clone())
        else {
            return;
        };
        let early = std::mem::take(&mut self.contents[host].early);
        let (mine, other): (Vec<_>, Vec<_>) = early.into_iter().partition(|e| e.0 == namespace);
        self.contents[host].early.extend(other);
        for (_, target, info) in mine {
            let infos = match target {
                Some(target) => Ok(vec![(target, info)]),
                None => self.contents[host].carriers[0].take_info(&info),
            };
            // It was acknowledged when it came: what is wrong with it now can only be ignored.
            if let Ok(infos) = infos {
                let _ = self.route_infos(host, infos, now);
            }
        }
    }
}

/// From our channels to the peer's.
impl Session {
    /// Keeps what a channel wants to tell its counterpart until it may be told.
    pub(crate) fn tell(&mut self, content: &str, info: (Arc<str>, Element)) {
        if let Some(host) = self.carrier_host(content) {
            self.contents[host].infos.push(info);
        }
    }

    /// Says what channels want to tell, as far as it may be said by now. The manager calls it when nothing else is
    /// left to do, so that what came together travels together.
    pub(crate) fn flush_infos(&mut self, now: Instant) {
        if !self.may_tell() || self.timers.gathering.is_some() {
            return;
        }
        for at in 0..self.contents.len() {
            let infos = std::mem::take(&mut self.contents[at].infos);
            let batch = if self.dialect.batches_candidates {
                infos.len()
            } else {
                1
            };
            let mut words = self.take_words(at, infos.is_empty());
            let mut infos = infos.into_iter().peekable();
            while infos.peek().is_some() || words.is_some() {
                let some: Vec<_> = infos.by_ref().take(batch).collect();
                self.send_infos(at, some, words.take(), now);
            }
        }
    }

    /// What layers say before the answer, once. It travels with candidates if there will be more: some peers take no
    /// transport-info without.
    fn take_words(&mut self, at: usize, alone: bool) -> Option<Element> {
        if !self.contents[at].tells_layers {
            return None;
        }
        let name = self.contents[at].name.clone();
        let mut seeking = (0..self.channels.len())
            .filter(|channel| self.channels[*channel].content == name)
            .map(|channel| self.gathers(channel) && !self.channels[channel].gathered);
        if alone && seeking.any(|seeks| seeks) {
            return None;
        }
        self.contents[at].tells_layers = false;
        self.contents[at].layer_words()
    }

    fn send_infos(
        &mut self,
        at: usize,
        infos: Vec<(Arc<str>, Element)>,
        words: Option<Element>,
        now: Instant,
    ) {
        let max = self.limits().candidates;
        let content = &mut self.contents[at];
        if !content.agreed || self.state == State::SentInitiate {
            let room = max.saturating_sub(content.told.len());
            content.told.extend(infos.iter().take(room).cloned());
        }
        let Some(carrier) = content.carriers.first_mut() else {
            return;
        };
        let transport = match words {
            Some(words) if infos.is_empty() => words,
            Some(words) => {
                let words = words.children().map(|child| child.to_element());
                carrier.transport.wrap_info(infos).children_from(words)
            }
            None => carrier.transport.wrap_info(infos),
        };
        let mut part = content.part();
        part.transports.push(transport);
        let message = Message {
            contents: vec![part],
            ..self.message(Action::TransportInfo)
        };
        self.say(message, now);
    }

    pub(super) fn may_tell(&self) -> bool {
        if self.state.is_ended() || self.state == State::Init {
            return false;
        }
        match self.role {
            _ if self.state.is_accepted() => true,
            Role::Initiator => !self.dialect.candidates_wait || self.initiate_acknowledged,
            Role::Responder => self.speculative && !self.batches,
        }
    }
}

/// What is settled before the offer.
impl Session {
    /// The id on the wire, where it was agreed on before: that of the messages that announced the session (XEP-0353 §5). It
    /// has to be unique between the two. The dialect stays what it is now.
    ///
    /// # Errors
    /// [`Misuse::TooLate`] after [`State::Init`]; [`Misuse::BadSid`] if it is empty or longer than
    /// [`Limits::sid_bytes`](crate::Limits::sid_bytes).
    pub fn set_sid(&mut self, sid: &str) -> Result<(), Misuse> {
        self.only_in_init()?;
        if sid.is_empty() || sid.len() > self.shared.config.limits.sid_bytes {
            return Err(Misuse::BadSid);
        }
        self.dialect_chosen = true;
        self.sid = sid.into();
        Ok(())
    }

    /// What the offer says of a content's security (`<security/>`, XEP-0166 §7.3). That of a content which is added to a
    /// session that runs, or beside the first, stands in its [`ContentSpec`](crate::ContentSpec).
    ///
    /// # Errors
    /// [`Misuse::TooLate`] after [`State::Init`]; [`Misuse::UnknownContent`].
    pub fn set_security(&mut self, content: &str, security: &Element) -> Result<(), Misuse> {
        self.only_in_init()?;
        let mut contents = self.contents.iter_mut();
        let found = contents.find(|known| &*known.name == content);
        let found = found.ok_or_else(|| Misuse::UnknownContent(content.into()))?;
        found.security = Some(security.detach());
        Ok(())
    }
}

/// Candidates in the offer or the answer itself, for peers that cannot take them one by one.
impl Session {
    /// Whether channels connect before the session is accepted: see [`Config::speculative`](crate::Config::speculative). The
    /// [policy](crate::SessionManager::set_speculation_policy) is not asked then.
    ///
    /// # Errors
    /// [`Misuse::TooLate`] after [`State::Init`].
    pub fn set_speculative(&mut self, speculative: bool) -> Result<(), Misuse> {
        self.only_in_init()?;
        (self.speculative, self.speculative_chosen) = (speculative, true);
        Ok(())
    }

    /// Whom the offer goes to: the policy decides about it, unless the application has.
    pub(super) fn address(&mut self, to: Peer) {
        self.remote = to;
        if !self.speculative_chosen {
            self.speculative = self.shared.speculates(&self.remote);
        }
    }

    /// Whether candidates travel in the offer, or in the answer, which then waits for them: until all channels know
    /// theirs, at most for [`Clocks::gathering`](crate::Clocks::gathering). What is found later follows as usual.
    ///
    /// For peers that announce `urn:ietf:rfc:3264` (XEP-0176 §5.3). Default no. To be set before initiating or
    /// accepting; transports that do not [gather](crate::Transport::gathers) are not waited for.
    pub fn set_candidates_in_offer(&mut self, wanted: bool) {
        self.batches = wanted;
    }

    /// The offer or the answer is said: it waits for candidates, if it is to.
    pub(super) fn begin_batching(&mut self, now: Instant) {
        if self.batches && !self.state.is_ended() {
            let wait = self.shared.config.clocks.gathering;
            self.timers.gathering = now.checked_add(wait);
        }
    }

    /// Whether messages wait; what waited for candidates gets them once they are known.
    pub(crate) fn is_gathering(&mut self, now: Instant) -> bool {
        let Some(until) = self.timers.gathering else {
            return false;
        };
        let known =
            (0..self.channels.len()).all(|at| self.channels[at].gathered || !self.gathers(at));
        if !known && now < until {
            return true;
        }
        self.timers.gathering = None;
        self.fill_offer();
        false
    }

    fn gathers(&self, channel: usize) -> bool {
        let channel = &self.channels[channel];
        let host = self.carrier_host(&channel.content);
        let carrier = host.and_then(|host| self.contents[host].carriers.first());
        channel.is_bound() && carrier.is_some_and(|carrier| carrier.transport.gathers())
    }

    /// Puts what channels wanted to tell into the message that they belong to.
    fn fill_offer(&mut self) {
        let is_offer = |action| matches!(action, Action::SessionInitiate | Action::SessionAccept);
        let mut outbox = std::mem::take(&mut self.outbox);
        let message = outbox.iter_mut().find_map(|outgoing| match outgoing {
            Outgoing::Message(message, _) if is_offer(message.action) => Some(message),
            Outgoing::Message(..) | Outgoing::Request { .. } => None,
        });
        for part in message
            .into_iter()
            .flat_map(|message| &mut message.contents)
        {
            let Some(at) = self.content_position(&part.name) else {
                continue;
            };
            let content = &mut self.contents[at];
            let (Some(carrier), Some(transport)) =
                (content.carriers.first_mut(), part.transports.first_mut())
            else {
                continue;
            };
            if content.infos.is_empty() || *carrier.namespace != *transport.namespace() {
                continue;
            }
            let infos = std::mem::take(&mut content.infos);
            let whole = carrier.transport.wrap_info(infos.clone());
            for child in whole.children() {
                transport.push(child.to_element());
            }
            content.told.extend(infos);
        }
        self.outbox = outbox;
    }
}
