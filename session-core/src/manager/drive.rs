//! Being driven: callbacks to clients, outputs in order, timers without scanning.

use super::{Farewell, Key, Owner, SessionManager};
use crate::{
    Condition, ErrorKind, Message, Output, RequestId, Session, SessionId, StanzaError,
    session::{ManagerRequest, Outgoing, SessionEvent, is_last_word},
};
use std::{
    cmp::Reverse,
    time::{Duration, Instant},
};

/// How many queues of resting sessions are kept.
const SPARES_MAX: usize = 32;

impl SessionManager {
    /// The next thing to do. Call it until it is [`Output::Wait`]. Clients react while this is being drained, and to some
    /// things before, within the call that brings them ([`handle_input`](Self::handle_input), and what creates or destroys
    /// a session).
    #[must_use]
    pub fn poll_output(&mut self, now: Instant) -> Output {
        for id in self.shared.woken() {
            if let Some(session) = self.session(id) {
                session.collect_all(now);
            }
        }
        loop {
            if let Some(output) = self
                .passing
                .pop_front()
                .or_else(|| self.parting.pop_front())
            {
                return output;
            }
            // Begins where it did: in as little memory as it needs.
            self.passing.clear();
            if self.link
                && let Some(output) = self.replies.pop_front().or_else(|| self.next_farewell(now))
            {
                return output;
            }
            let Some(&id) = self.dirty.front() else {
                return Output::Wait(self.next_deadline());
            };
            if let Some(output) = self.poll_session(id, now) {
                return output;
            }
        }
    }

    /// The next output of one session, or `None` when it is at rest, or gone, or there is more to look at.
    fn poll_session(&mut self, id: SessionId, now: Instant) -> Option<Output> {
        self.dispatch(id, now);
        let link = self.link;
        let Some(session) = self
            .slot_mut(id)
            .and_then(|slot| slot.session.as_deref_mut())
        else {
            self.dirty.pop_front();
            return None;
        };
        if !session.abandoned.is_empty() {
            for request in std::mem::take(&mut session.abandoned) {
                self.owners.remove(&request);
            }
            return None;
        }
        if session.rekeyed {
            self.rekey(id);
            return None;
        }
        if let Some(output) = session.data.pop_front() {
            return Some(output);
        }
        let gathering = session.is_gathering(now);
        if session.outbox.is_empty() {
            session.flush_infos(now);
        }
        if link && !gathering {
            if let Some((request, message)) = session.repeats.pop_front() {
                return Some(Output::Message {
                    id: request,
                    message: *message,
                });
            }
            if let Some(outgoing) = session.outbox.pop_front() {
                return Some(self.emit(id, outgoing, now));
            }
        }
        if !session.events.is_empty() || session.rekeyed {
            return None;
        }
        if session.state().is_ended() {
            self.destroy(id, now);
            return None;
        }
        self.file_deadline(id);
        self.dirty.pop_front();
        if let Some(slot) = self.slot_mut(id) {
            slot.dirty = false;
            let spare = slot.session.as_deref_mut().and_then(Session::rest);
            if self.spares.len() < SPARES_MAX {
                self.spares.extend(spare);
            }
        }
        None
    }

    /// When an answer that may take this long is due; never, while none can arrive.
    pub(super) fn answer_due(&self, patience: Duration, now: Instant) -> Option<Instant> {
        self.answers.then(|| now.checked_add(patience)).flatten()
    }

    fn emit(&mut self, session: SessionId, outgoing: Outgoing, now: Instant) -> Output {
        let id = self.request_id();
        let answer = self.shared.config.clocks.answer;
        match outgoing {
            Outgoing::Message(message, undo) => {
                self.owners.insert(id, Owner::Session(session));
                let due = self.answer_due(answer, now);
                if let Some(session) = self.session(session) {
                    session.sent(id, &message, undo, due);
                }
                Output::Message {
                    id,
                    message: *message,
                }
            }
            Outgoing::Request {
                channel,
                epoch,
                token,
                to,
                payload,
                kind,
                patience,
            } => {
                let patience = patience.unwrap_or(answer);
                let due = self.answer_due(patience, now);
                self.request_deadlines.extend(due.map(|due| (due, id)));
                self.owners.insert(
                    id,
                    Owner::Channel {
                        session,
                        channel,
                        epoch,
                        token,
                        patience,
                        due,
                    },
                );
                let from = self.peek(session).map(|s| s.name().clone());
                let from = from.unwrap_or_else(|| crate::Peer::from(""));
                Output::Request {
                    id,
                    from,
                    to,
                    payload,
                    kind,
                }
            }
        }
    }

    fn request_id(&mut self) -> RequestId {
        self.next_request += 1;
        RequestId(self.next_request)
    }

    /// Tells the client what happened, in order, until there is nothing more to tell.
    pub(super) fn dispatch(&mut self, id: SessionId, now: Instant) {
        let mut wishes = Vec::new();
        if let Some(slot) = self.slots.get_mut(id.slot as usize)
            && slot.generation == id.generation
            && let Some(session) = slot.session.as_deref_mut()
        {
            let client = self.clients[slot.client as usize].as_mut();
            while let Some(event) = session.events.pop_front() {
                tell(client, session, event, now);
            }
            wishes = std::mem::take(&mut session.manager_requests);
        }
        for wish in wishes {
            match wish {
                ManagerRequest::TerminateAll(reason) => self.terminate_all(reason, now),
            }
        }
    }

    /// The last events of a session that the manager has let go of.
    pub(super) fn dispatch_last(&mut self, client: usize, session: &mut Session, now: Instant) {
        let client = self.clients[client].as_mut();
        while let Some(event) = session.events.pop_front() {
            tell(client, session, event, now);
        }
    }

    /// Keeps what a session still had to say and to close.
    pub(super) fn part(&mut self, session: &mut Session) {
        self.parting.append(&mut session.data);
        for outgoing in std::mem::take(&mut session.outbox) {
            match outgoing {
                // Anything but a last word would have the peer believe that there is a session.
                Outgoing::Message(message, _) if is_last_word(message.action) => {
                    self.say_farewell(message);
                }
                Outgoing::Message(..) | Outgoing::Request { .. } => {}
            }
        }
        // What is under way goes on until it is acknowledged, if it is a last word.
        for request in session.abandoned.drain(..) {
            self.owners.remove(&request);
        }
        for pending in session.pending.drain(..) {
            self.owners.remove(&pending.id);
            if let Some((message, attempts, due)) = pending.last_word() {
                self.owners.insert(pending.id, Owner::Farewell);
                self.request_deadlines
                    .extend(due.map(|due| (due, pending.id)));
                self.farewells.insert(
                    pending.id,
                    Farewell {
                        message,
                        attempts,
                        due,
                    },
                );
            }
        }
    }

    /// A message of a session that is gone.
    pub(super) fn say_farewell(&mut self, message: Box<Message>) {
        let max = self.shared.config.limits.remembered_sessions;
        if self.last_words.len() >= max {
            self.last_words.pop_front();
        }
        self.last_words.push_back(message);
    }

    fn next_farewell(&mut self, now: Instant) -> Option<Output> {
        if let Some(id) = self.farewell_repeats.pop() {
            let message = self.farewells.get(&id)?.message.clone();
            return Some(Output::Message {
                id,
                message: *message,
            });
        }
        let message = self.last_words.pop_front()?;
        let id = self.request_id();
        if self.farewells.len() >= self.shared.config.limits.remembered_sessions
            && let Some((oldest, farewell)) = self.farewells.pop_first()
        {
            self.owners.remove(&oldest);
            if let Some(due) = farewell.due {
                self.request_deadlines.remove(&(due, oldest));
            }
        }
        let due = self.answer_due(self.shared.config.clocks.answer, now);
        self.request_deadlines.extend(due.map(|due| (due, id)));
        self.owners.insert(id, Owner::Farewell);
        self.farewells.insert(
            id,
            Farewell {
                message: message.clone(),
                attempts: 1,
                due,
            },
        );
        Some(Output::Message {
            id,
            message: *message,
        })
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while let Some(&Reverse((due, id))) = self.deadlines.peek()
            && due <= now
        {
            self.deadlines.pop();
            let current = self
                .slot_mut(id)
                .filter(|slot| slot.filed.deadline == Some(due));
            if let Some(slot) = current {
                slot.filed.deadline = None;
                if let Some(session) = self.session(id) {
                    session.handle_timeout(now);
                }
            }
        }
        while let Some(&(due, id)) = self.request_deadlines.first()
            && due <= now
        {
            self.request_deadlines.remove(&(due, id));
            self.request_overdue(id, now);
        }
        self.forget(now);
    }

    fn request_overdue(&mut self, id: RequestId, now: Instant) {
        match self.owners.get(&id) {
            Some(&Owner::Channel {
                session,
                channel,
                epoch,
                token,
                ..
            }) => {
                self.owners.remove(&id);
                let silence = StanzaError::new(Condition::RemoteServerTimeout, ErrorKind::Wait);
                if let Some(session) = self.session(session) {
                    session.handle_response(channel, epoch, token, Err(silence), now);
                }
            }
            Some(Owner::Farewell) => {
                let clocks = &self.shared.config.clocks;
                let Some(farewell) = self.farewells.get_mut(&id) else {
                    return;
                };
                if farewell.attempts >= clocks.attempts {
                    self.farewells.remove(&id);
                    self.owners.remove(&id);
                    return;
                }
                farewell.attempts += 1;
                farewell.due = now.checked_add(clocks.answer);
                self.request_deadlines
                    .extend(farewell.due.map(|due| (due, id)));
                self.farewell_repeats.push(id);
            }
            Some(Owner::Session(_)) | None => {}
        }
    }

    /// Forgets ended sessions whose time has come.
    pub(super) fn forget(&mut self, now: Instant) {
        let max = self.shared.config.limits.remembered_sessions;
        while let Some((until, key)) = self.ended_order.front()
            && (*until <= now || self.ended_order.len() > max)
        {
            if self.ended.get(key) == Some(until) {
                self.ended.remove(key);
            }
            self.ended_order.pop_front();
        }
    }

    pub(super) fn remember(&mut self, key: Key, now: Instant) {
        if let Some(until) = now.checked_add(self.shared.config.clocks.memory) {
            self.ended.insert(key.clone(), until);
            self.ended_order.push_back((until, key));
        }
        self.forget(now);
    }

    /// Files when the session wants to be called. Entries that are no longer true are skipped when they surface.
    fn file_deadline(&mut self, id: SessionId) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        let Some(session) = slot.session.as_deref_mut() else {
            return;
        };
        slot.way = session.reviewed();
        let deadline = session.poll_timeout();
        if slot.filed.deadline == deadline {
            return;
        }
        slot.filed.deadline = deadline;
        if let Some(deadline) = deadline {
            self.deadlines.push(Reverse((deadline, id)));
        }
        if self.deadlines.len() > 2 * self.live + 64 {
            let slots = &self.slots;
            self.deadlines.retain(|Reverse((due, id))| {
                let slot = &slots[id.slot as usize];
                slot.generation == id.generation && slot.filed.deadline == Some(*due)
            });
        }
    }

    fn next_deadline(&mut self) -> Option<Instant> {
        while let Some(&Reverse((due, id))) = self.deadlines.peek() {
            if self
                .slot_mut(id)
                .is_some_and(|slot| slot.filed.deadline == Some(due))
            {
                break;
            }
            self.deadlines.pop();
        }
        let session = self.deadlines.peek().map(|Reverse((due, _))| *due);
        let request = self.request_deadlines.first().map(|(due, _)| *due);
        session.into_iter().chain(request).min()
    }
}

fn tell(
    client: &mut dyn crate::SessionClient,
    session: &mut Session,
    event: SessionEvent,
    now: Instant,
) {
    match event {
        SessionEvent::Packet(channel, packet) => client.on_packet(session, channel, packet, now),
        SessionEvent::Writable(channel, writable) => {
            client.on_writable(session, channel, writable, now)
        }
        SessionEvent::State(state) => client.on_state(session, state, now),
        SessionEvent::Finished(channel) => client.on_finished(session, channel, now),
        SessionEvent::Delivered(channel) => client.on_delivered(session, channel, now),
        SessionEvent::Secured(channel, secured) => {
            client.on_secured(session, channel, &secured, now)
        }
        SessionEvent::ChannelGone(channel, name) => {
            client.on_channel_gone(session, channel, &name, now)
        }
        SessionEvent::Modify(modification) => client.on_modify(session, &modification, now),
        SessionEvent::Error(error) => client.on_error(session, &error, now),
        SessionEvent::TerminateReason(reason) => {
            client.on_terminate_reason(session, reason.as_ref(), now)
        }
        SessionEvent::Timer => client.on_timer(session, now),
        SessionEvent::Pong(pong) => client.on_pong(session, &pong, now),
    }
}
