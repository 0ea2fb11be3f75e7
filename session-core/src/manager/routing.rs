//! Whose is what arrives: messages, requests, replies, and what the network brings.

use super::{Farewell, Key, Owner, SessionManager};
use crate::{
    Action, Datagram, Dialect, Element, ErrorStyle, Input, Message, Output, Peer, PeerError,
    Reason, ReasonCondition, RequestId, Role, SessionId, SocketId, StanzaError, State, StreamEvent,
    TRANSPORT_FAILED,
};
use std::{sync::Arc, time::Instant};

impl SessionManager {
    /// Something happened. Follow with [`poll_output`](Self::poll_output) until it waits. Clients are called from here, too:
    /// with the peer's messages, which they judge and which are answered (`check_offer`, `on_session_create`, `on_info`),
    /// after all that has happened to their session before, and with datagrams of a session at rest, where a channel has a
    /// [direct path](crate::DirectPath).
    pub fn handle_input(&mut self, input: Input, now: Instant) {
        match input {
            Input::Datagram {
                socket,
                source,
                payload,
                segment_size,
            } => {
                let local = socket.socket;
                let datagram = Datagram {
                    socket: local,
                    source,
                    payload,
                    segment_size,
                };
                if let Some(datagram) = self.pass(socket, datagram, now) {
                    self.with_socket(socket, |session| {
                        session.handle_datagram(socket, datagram, now)
                    });
                }
            }
            Input::Message { id, message } => self.handle_message(id, message, now),
            Input::Request {
                id,
                from,
                to,
                payload,
            } => self.handle_request(id, from, &to, &payload, now),
            Input::Reply { id, reply } => self.handle_reply(id, reply, now),
            Input::Bound { socket, address } => {
                self.with_socket(socket, |session| session.handle_bound(socket, address, now));
            }
            Input::Stream { socket, event } => self.handle_stream(socket, event, now),
            Input::Found { inquiry, finding } => {
                self.with_socket(inquiry, |session| {
                    session.handle_finding(inquiry, finding, now);
                });
            }
            Input::Link(up) => {
                self.link = up;
                self.set_answers(up, now);
            }
            Input::Interrupted(interrupted) => self.set_answers(self.link && !interrupted, now),
            Input::Timeout => self.handle_timeout(now),
        }
    }

    /// Hands datagrams that are the application's as they are to its client. They pass a session at rest only, so that
    /// whatever else has happened to it is told before. What does not pass comes back.
    fn pass(&mut self, socket: SocketId, datagram: Datagram, now: Instant) -> Option<Datagram> {
        let id = socket.session;
        let slot = self.slots.get_mut(id.slot as usize);
        let Some(slot) = slot.filter(|slot| slot.generation == id.generation && !slot.dirty) else {
            return Some(datagram);
        };
        let channel = slot.way.as_ref();
        let channel = channel.and_then(|way| way.arrives(socket, &datagram));
        let (Some(channel), Some(session)) = (channel, slot.session.as_deref_mut()) else {
            return Some(datagram);
        };
        let client = self.clients[slot.client as usize].as_mut();
        for packet in datagram.batch() {
            client.on_packet(session, channel, packet, now);
        }
        if session.is_stirred() {
            self.mark(id);
        }
        None
    }

    fn with_socket(&mut self, socket: SocketId, call: impl FnOnce(&mut crate::Session)) {
        // What belongs to a session that is gone is late, not wrong.
        if let Some(session) = self.session(socket.session) {
            call(session);
        }
    }

    fn handle_stream(&mut self, socket: SocketId, event: StreamEvent, now: Instant) {
        let listener = self
            .session(socket.session)
            .filter(|session| session.owns(socket));
        if let Some(session) = listener {
            session.handle_stream(socket, event, now);
        } else if let StreamEvent::Accepted { connection, .. } = event {
            // Nobody listens any more, and nobody else knows of this connection.
            let socket = socket.sibling(connection);
            self.parting.push_back(Output::Close { socket });
        }
    }

    fn handle_message(&mut self, id: RequestId, message: Message, now: Instant) {
        let (from, dialect) = (message.from.clone(), message.dialect);
        let result = match self.find(&message, now) {
            Some(session) => self.deliver(session, &message, now),
            None if message.action == Action::SessionInitiate => {
                self.receive_initiate(&message, now)
            }
            // It ended while this was on its way: the peer has what it wants.
            None if ends(message.action) && self.has_ended(&message, now) => Ok(()),
            None => Err(PeerError::UnknownSession),
        };
        let reply = result
            .map(|()| None)
            .map_err(|error| error.to_stanza_error(dialect));
        self.replies.push_back(Output::Reply {
            id,
            to: from,
            dialect,
            reply,
        });
    }

    /// The session that a message is for.
    fn find(&mut self, message: &Message, now: Instant) -> Option<SessionId> {
        let key = |remote: Peer| Key {
            remote,
            sid: message.sid.clone(),
            local: message.to.clone(),
        };
        if let Some(&id) = self.index.get(&key(message.from.clone())) {
            return Some(id);
        }
        if message.sid.is_empty() && message.action == Action::SessionTerminate {
            return self.only_session_with(&message.from, &message.to);
        }
        // We offered to an account, and one of its devices answers.
        let id = *self.index.get(&key(Peer::from(message.from.account())))?;
        let session = self.session(id)?;
        if session.state() != State::SentInitiate || message.from.device().is_none() {
            return None;
        }
        session.adopt_remote(message.from.clone(), now);
        self.rekey(id);
        Some(id)
    }

    /// Some clients end a call without naming it (Movim): it is meant when there is only one with this peer.
    fn only_session_with(&self, remote: &Peer, local: &Peer) -> Option<SessionId> {
        let mut ours = self.sessions_with(remote, local);
        let first = ours.next();
        first.filter(|_| ours.next().is_none())
    }

    /// The sessions of `local` with this peer.
    pub(super) fn sessions_with(
        &self,
        remote: &Peer,
        local: &Peer,
    ) -> impl Iterator<Item = SessionId> {
        let start = Key {
            remote: remote.clone(),
            sid: "".into(),
            local: Peer::from(""),
        };
        self.index
            .range(start..)
            .take_while(|(key, _)| key.remote == *remote)
            .filter(|(key, _)| key.local == *local)
            .map(|(_, id)| *id)
    }

    fn deliver(&mut self, id: SessionId, message: &Message, now: Instant) -> Result<(), PeerError> {
        // What happened before is told before: the client answers to information in order.
        self.dispatch(id, now);
        self.mark(id);
        let Some(slot) = self.slots.get_mut(id.slot as usize) else {
            return Err(PeerError::UnknownSession);
        };
        let Some(session) = slot.session.as_deref_mut() else {
            return Err(PeerError::UnknownSession);
        };
        if session.state().is_ended() {
            return if ends(message.action) {
                Ok(())
            } else {
                Err(PeerError::UnknownSession)
            };
        }
        session.receive(message, now)?;
        let infos = message
            .extra
            .iter()
            .filter(|info| info.namespace() != TRANSPORT_FAILED);
        if message.action == Action::SessionInfo && infos.clone().next().is_some() {
            let info: Arc<[Element]> = infos.map(Element::detach).collect();
            self.clients[slot.client as usize].on_info(session, &info, now)?;
            session.announce_info(info);
            session.settle(now);
        }
        Ok(())
    }

    fn receive_initiate(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        self.check_initiate(message, now)?;
        let namespaces = message
            .contents
            .iter()
            .filter_map(|c| Some(c.description.as_ref()?.namespace()));
        let client = namespaces
            .clone()
            .find_map(|namespace| self.client_position(namespace));
        let Some(client) = client else {
            let namespace: Arc<str> = namespaces.clone().next().unwrap_or_default().into();
            return self.decline(
                message,
                ReasonCondition::UnsupportedApplications,
                PeerError::UnsupportedApplication(namespace),
            );
        };
        for content in &message.contents {
            if let Some(description) = &content.description
                && description.namespace() == self.clients[client].namespace()
            {
                self.clients[client].check_offer(description)?;
            }
        }
        if message.dialect.breaks_ties {
            self.break_tie(message, self.clients[client].namespace())?;
        }
        let (local, remote) = (message.to.clone(), message.from.clone());
        let sid = message.sid.clone();
        let id = self.create(
            local,
            remote,
            sid,
            Role::Responder,
            message.dialect,
            client,
            now,
        );
        let Some(session) = self.session(id) else {
            return Err(PeerError::UnknownSession);
        };
        if let Some(reason) = session.declined_at_birth() {
            self.destroy(id, now);
            return self.decline(message, reason, PeerError::NotAllowed("declined"));
        }
        let result = session.receive_initiate(message, now);
        if let Err(error) = result {
            self.destroy(id, now);
            if error == PeerError::NoUsableTransport {
                return self.decline(message, ReasonCondition::UnsupportedTransports, error);
            }
            return Err(error);
        }
        // The application decides now whether it sends the initiator elsewhere: some dialects say that in the answer.
        self.dispatch(id, now);
        let redirected = self
            .session(id)
            .and_then(|session| session.answer_initiate());
        redirected.map_or(Ok(()), |target| {
            Err(PeerError::Redirect(target.as_str().into()))
        })
    }

    fn check_initiate(&mut self, message: &Message, now: Instant) -> Result<(), PeerError> {
        let limits = &self.shared.config.limits;
        let too_many = |limit, max| Err(PeerError::TooMany { limit, max });
        if message.sid.is_empty() {
            return Err(PeerError::Malformed {
                field: "sid",
                problem: "missing",
            });
        }
        if message.sid.len() > limits.sid_bytes {
            return Err(PeerError::Malformed {
                field: "sid",
                problem: "too long",
            });
        }
        if message.contents.is_empty() {
            return Err(PeerError::Malformed {
                field: "content",
                problem: "missing",
            });
        }
        if message.contents.len() > limits.contents {
            return too_many("contents", limits.contents);
        }
        if message.extra.len() > limits.extra_elements {
            return too_many("extra_elements", limits.extra_elements);
        }
        if message.contents.iter().all(|c| c.description.is_none()) {
            return Err(PeerError::Malformed {
                field: "description",
                problem: "missing",
            });
        }
        if self.live >= limits.sessions {
            return too_many("sessions", limits.sessions);
        }
        let with_account = self
            .accounts
            .get(message.from.account())
            .copied()
            .unwrap_or_default();
        if with_account >= limits.sessions_per_account {
            return too_many("sessions_per_account", limits.sessions_per_account);
        }
        if self.has_ended(message, now) {
            // A late copy of an offer that was dealt with must not ring again.
            return Err(PeerError::OutOfOrder {
                action: message.action,
                state: State::Deinit,
            });
        }
        Ok(())
    }

    /// Refuses an offer in the way of its dialect: by an error, or acknowledged and then ended with a reason.
    fn decline(
        &mut self,
        message: &Message,
        reason: impl Into<Reason>,
        error: PeerError,
    ) -> Result<(), PeerError> {
        if message.dialect.errors == ErrorStyle::Google {
            return Err(error);
        }
        let terminate = Message {
            initiator: Some(message.from.clone()),
            reason: Some(reason.into()),
            ..Message::new(
                message.to.clone(),
                message.from.clone(),
                message.sid.clone(),
                message.dialect,
                Action::SessionTerminate,
            )
        };
        self.say_farewell(Box::new(terminate));
        Ok(())
    }

    /// Two offers of the same kind cross: the one with the lower sid goes on, then that of the lower address
    /// (XEP-0166 §7.2.16).
    fn break_tie(&self, message: &Message, session_type: &str) -> Result<(), PeerError> {
        let sessions_with = |remote: &Peer| {
            let start = Key {
                remote: remote.clone(),
                sid: "".into(),
                local: Peer::from(""),
            };
            self.index.range(start..).take_while({
                let remote = remote.clone();
                move |(key, _)| key.remote == remote
            })
        };
        let bare = Peer::from(message.from.account());
        let both = sessions_with(&message.from).chain(sessions_with(&bare));
        let ours_wins = both
            .filter(|(key, _)| key.local == message.to)
            .any(|(key, id)| {
                self.peek(*id).is_some_and(|ours| {
                    ours.state() == State::SentInitiate
                        && ours.role() == Role::Initiator
                        && ours.session_type() == session_type
                        && (&*key.sid, ours.name().as_str())
                            < (&*message.sid, message.from.as_str())
                })
            });
        if ours_wins {
            Err(PeerError::TieBreak)
        } else {
            Ok(())
        }
    }

    fn has_ended(&mut self, message: &Message, now: Instant) -> bool {
        self.forget(now);
        let (remote, sid, local) = (
            message.from.clone(),
            message.sid.clone(),
            message.to.clone(),
        );
        self.ended.contains_key(&Key { remote, sid, local })
    }

    fn handle_request(
        &mut self,
        id: RequestId,
        from: Peer,
        to: &Peer,
        payload: &Element,
        now: Instant,
    ) {
        let ids: Vec<SessionId> = self.sessions_with(&from, to).collect();
        for session in ids {
            let session = self.session(session);
            match session.and_then(|s| s.handle_request(id, &from, payload, now)) {
                Some(Some(answer)) => return self.answer_request(id, from, answer),
                Some(None) => return,
                None => {}
            }
        }
        let error = self.registry.unclaimed_request(payload);
        let unknown = || PeerError::UnsupportedApplication(payload.namespace().into());
        self.answer_request(id, from, Err(error.unwrap_or_else(unknown)));
    }

    fn answer_request(
        &mut self,
        id: RequestId,
        from: Peer,
        answer: Result<Option<Element>, PeerError>,
    ) {
        let dialect = Dialect::JINGLE;
        let reply = answer.map_err(|error| error.to_stanza_error(dialect));
        self.replies.push_back(Output::Reply {
            id,
            to: from,
            dialect,
            reply,
        });
    }

    fn handle_reply(
        &mut self,
        id: RequestId,
        reply: Result<Option<Element>, StanzaError>,
        now: Instant,
    ) {
        // An answer to nothing, or one that comes again, is nobody's.
        let Some(owner) = self.owners.remove(&id) else {
            return;
        };
        match owner {
            Owner::Session(session) => {
                if let Some(session) = self.session(session) {
                    session.handle_reply(id, reply, now);
                }
            }
            Owner::Channel {
                session,
                channel,
                epoch,
                token,
                due,
                ..
            } => {
                if let Some(due) = due {
                    self.request_deadlines.remove(&(due, id));
                }
                if let Some(session) = self.session(session) {
                    session.handle_response(channel, epoch, token, reply, now);
                }
            }
            Owner::Farewell => {
                if let Some(Farewell { due: Some(due), .. }) = self.farewells.remove(&id) {
                    self.request_deadlines.remove(&(due, id));
                }
            }
        }
    }

    /// From now on answers can arrive, or cannot: their clocks begin anew, or stand still.
    fn set_answers(&mut self, answers: bool, now: Instant) {
        if std::mem::replace(&mut self.answers, answers) == answers {
            return;
        }
        let due = self.answer_due(self.shared.config.clocks.answer, now);
        for id in self.session_ids() {
            if let Some(session) = self.session(id) {
                session.set_answers_due(due);
            }
        }
        for (&id, owner) in &mut self.owners {
            if let Owner::Channel { due, patience, .. } = owner {
                let new = answers.then(|| now.checked_add(*patience)).flatten();
                if let Some(old) = std::mem::replace(due, new) {
                    self.request_deadlines.remove(&(old, id));
                }
                self.request_deadlines.extend(new.map(|due| (due, id)));
            }
        }
        for (&id, farewell) in &mut self.farewells {
            if let Some(old) = std::mem::replace(&mut farewell.due, due) {
                self.request_deadlines.remove(&(old, id));
            }
            self.request_deadlines.extend(due.map(|due| (due, id)));
        }
    }
}

/// Whether the peer says that it is over.
fn ends(action: Action) -> bool {
    matches!(action, Action::SessionTerminate | Action::Reject)
}
