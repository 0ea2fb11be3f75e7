//! What we ask the peer, and what becomes of it: answers, errors, silence.

use super::{Session, SessionEvent, ping::is_ping};
use crate::{
    Action, Cause, ChannelId, Condition, Dialect, Element, ErrorKind, Message, Modification,
    Output, Peer, PeerError, RequestId, RequestKind, Senders, StanzaError,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// Signalling that waits for the link.
#[derive(Debug)]
pub(crate) enum Outgoing {
    Message(Box<Message>, Undo),
    Request {
        channel: ChannelId,
        epoch: u16,
        token: u32,
        to: Peer,
        payload: Element,
        kind: RequestKind,
        patience: Option<Duration>,
    },
}

/// A request of the peer that a channel answers later.
#[derive(Debug)]
pub(crate) struct Deferred {
    pub(crate) channel: ChannelId,
    pub(crate) epoch: u16,
    pub(crate) token: u32,
    pub(crate) id: RequestId,
    pub(crate) from: Peer,
}

impl Outgoing {
    /// What is to be taken back when the peer refuses it.
    pub(crate) fn undo(&mut self) -> Option<&mut (Arc<str>, Senders)> {
        match self {
            Self::Message(_, undo) => undo.as_mut(),
            Self::Request { .. } => None,
        }
    }

    pub(crate) fn forget_undo(&mut self) {
        match self {
            Self::Message(_, undo) => *undo = None,
            Self::Request { .. } => {}
        }
    }
}

/// What to take back when the peer refuses.
pub(crate) type Undo = Option<(Arc<str>, Senders)>;

/// A message that was sent and not answered.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) id: RequestId,
    pub(crate) action: Action,
    content: Option<Arc<str>>,
    senders: Option<Senders>,
    undo: Undo,
    /// Kept while it may have to be sent again.
    message: Option<Box<Message>>,
    /// What a transport-info said: its transport is told the answer.
    info: Option<Element>,
    /// It asked nothing but whether the peer is there.
    pub(super) ping: bool,
    attempts: u8,
    pub(crate) due: Option<Instant>,
}

impl Pending {
    /// Whether it asks about this content and nothing else. What is about the session names its contents, too.
    pub(crate) fn is_about(&self, content: &str) -> bool {
        is_about_content(self.action) && self.content.as_deref() == Some(content)
    }

    /// Whether it asks for this about this content.
    pub(crate) fn is(&self, action: Action, content: &str) -> bool {
        self.action == action && self.is_about(content)
    }

    /// What is to be taken back when the peer refuses it.
    pub(crate) fn undo(&mut self) -> Option<&mut (Arc<str>, Senders)> {
        self.undo.as_mut()
    }

    pub(crate) fn forget_undo(&mut self) {
        self.undo = None;
    }

    /// What is to go on being sent after the session is gone: the message, how often it went out, when it is due.
    pub(crate) fn last_word(&self) -> Option<(Box<Message>, u8, Option<Instant>)> {
        let message = self.message.clone().filter(|_| is_last_word(self.action))?;
        Some((message, self.attempts, self.due))
    }
}

/// Whether a message is the last of a session, which is said even when the session is gone.
pub(crate) fn is_last_word(action: Action) -> bool {
    matches!(
        action,
        Action::SessionTerminate | Action::Reject | Action::Redirect
    )
}

/// Whether a message is about contents, so that it makes no sense any more when they are gone.
fn is_about_content(action: Action) -> bool {
    match action {
        Action::ContentAccept
        | Action::ContentAdd
        | Action::ContentModify
        | Action::ContentReject
        | Action::ContentRemove
        | Action::DescriptionInfo
        | Action::SecurityInfo
        | Action::TransportAccept
        | Action::TransportInfo
        | Action::TransportReject
        | Action::TransportReplace => true,
        Action::SessionAccept
        | Action::SessionInfo
        | Action::SessionInitiate
        | Action::SessionTerminate
        | Action::Reject
        | Action::Redirect => false,
    }
}

/// What silence means for a message, and whether it is sent again before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Silence {
    /// Nothing: some peers answer nothing to what they do not know (Asterisk). Of a ping it is told.
    Ignored,
    /// Sent again, then as if refused.
    Refused,
    /// Sent again, ever more seldom, as long as the session lives: it answers what the peer itself proposed, and
    /// without it the two would hold different things for true.
    Repeated,
    /// Sent again, then the session ends.
    Fatal,
}

/// What becomes of each kind of message that nobody answers.
pub(crate) const SILENCE: [(Action, Silence); 17] = [
    (Action::ContentAccept, Silence::Repeated),
    (Action::ContentAdd, Silence::Refused),
    (Action::ContentModify, Silence::Refused),
    (Action::ContentReject, Silence::Repeated),
    (Action::ContentRemove, Silence::Repeated),
    (Action::DescriptionInfo, Silence::Ignored),
    (Action::SecurityInfo, Silence::Ignored),
    (Action::SessionAccept, Silence::Fatal),
    (Action::SessionInfo, Silence::Ignored),
    (Action::SessionInitiate, Silence::Fatal),
    (Action::SessionTerminate, Silence::Refused),
    (Action::TransportAccept, Silence::Repeated),
    (Action::TransportInfo, Silence::Refused),
    (Action::TransportReject, Silence::Repeated),
    (Action::TransportReplace, Silence::Refused),
    (Action::Reject, Silence::Refused),
    (Action::Redirect, Silence::Refused),
];

/// The `<transport/>` of a transport-info, which has one.
fn info_of(message: &Message) -> Option<Element> {
    let part = message.contents.first()?;
    let info = part.transports.first()?;
    (message.action == Action::TransportInfo).then(|| info.clone())
}

/// How often the time between repetitions doubles at most.
const REPEAT_DOUBLINGS: u8 = 4;

pub(crate) fn silence(action: Action) -> Silence {
    SILENCE
        .iter()
        .find(|(known, _)| *known == action)
        .map_or(Silence::Ignored, |(_, silence)| *silence)
}

impl Session {
    /// The head of a message of this session.
    pub(crate) fn message(&self, action: Action) -> Message {
        Message {
            initiator: Some(self.initiator.clone()),
            ..Message::new(
                self.local.clone(),
                self.remote.clone(),
                self.sid.clone(),
                self.dialect,
                action,
            )
        }
    }

    pub(crate) fn say(&mut self, message: Message, now: Instant) {
        self.ask(Outgoing::Message(Box::new(message), None), now);
    }

    pub(crate) fn say_with_undo(&mut self, message: Message, undo: Undo, now: Instant) {
        self.ask(Outgoing::Message(Box::new(message), undo), now);
    }

    pub(crate) fn ask(&mut self, outgoing: Outgoing, now: Instant) {
        let max = self.limits().queued_messages;
        if self.outbox.len() >= max && !self.state.is_ended() {
            return self.fail(Cause::QueueFull(max), false, now);
        }
        self.stir();
        self.outbox.push_back(outgoing);
    }

    /// The manager sends a message under `id`, whose answer is due then; `None` while no answer can arrive.
    pub(crate) fn sent(
        &mut self,
        id: RequestId,
        message: &Message,
        undo: Undo,
        due: Option<Instant>,
    ) {
        let again = match silence(message.action) {
            Silence::Ignored => false,
            Silence::Refused | Silence::Fatal => self.shared.config.clocks.attempts > 1,
            Silence::Repeated => true,
        };
        // The oldest is given up as if it had been ignored: its answer will be, too.
        if self.pending.len() >= self.limits().pending_requests {
            self.abandoned.push(self.pending.remove(0).id);
        }
        self.pending.push(Pending {
            id,
            action: message.action,
            content: message.contents.first().map(|c| c.name.clone()),
            senders: message.contents.first().and_then(|c| c.senders),
            undo,
            message: again.then(|| Box::new(message.clone())),
            info: info_of(message),
            ping: is_ping(message),
            attempts: 1,
            due,
        });
    }

    /// Whether this was asked about a content, or is to be, and is not answered.
    pub(crate) fn is_asked(&self, action: Action, content: &str) -> bool {
        let waits = |outgoing: &Outgoing| match outgoing {
            Outgoing::Message(message, _) => {
                message.action == action && message.contents.iter().any(|c| *c.name == *content)
            }
            Outgoing::Request { .. } => false,
        };
        self.pending.iter().any(|asked| asked.is(action, content)) || self.outbox.iter().any(waits)
    }

    /// Gives up some of what was asked: it is not said again, and its answer does not matter.
    pub(crate) fn abandon(&mut self, which: impl Fn(&Pending) -> bool) {
        let gone = self.pending.extract_if(.., |pending| which(pending));
        let gone: Vec<_> = gone.map(|pending| pending.id).collect();
        self.repeats.retain(|(id, _)| !gone.contains(id));
        self.abandoned.extend(gone);
    }

    /// All answers that are open are due then; with `None` their clocks stand still.
    pub(crate) fn set_answers_due(&mut self, due: Option<Instant>) {
        for pending in &mut self.pending {
            pending.due = due;
        }
    }

    /// The messages that are to be sent again, with their old numbers; gives up what was sent often enough.
    pub(crate) fn answers_overdue(&mut self, now: Instant) {
        let clocks = &self.shared.config.clocks;
        let (attempts, answer) = (clocks.attempts, clocks.answer);
        let mut given_up = Vec::new();
        let mut at = 0;
        while at < self.pending.len() {
            let pending = &mut self.pending[at];
            if pending.due.is_none_or(|due| due > now) {
                at += 1;
            } else if let Some(message) = &pending.message
                && (pending.attempts < attempts || silence(pending.action) == Silence::Repeated)
            {
                self.repeats.push_back((pending.id, message.clone()));
                pending.attempts = pending.attempts.saturating_add(1);
                let doublings = pending
                    .attempts
                    .saturating_sub(attempts)
                    .min(REPEAT_DOUBLINGS);
                pending.due = now.checked_add(answer.saturating_mul(1 << doublings));
                at += 1;
            } else {
                given_up.push(self.pending.remove(at));
            }
        }
        for pending in given_up {
            self.abandoned.push(pending.id);
            match silence(pending.action) {
                Silence::Fatal => self.fail(Cause::NoAnswer(pending.action), false, now),
                Silence::Refused => self.refused(pending, None, now),
                Silence::Ignored => self.ponged(&pending, None),
                Silence::Repeated => {}
            }
        }
    }

    /// The peer's answer to one of our messages.
    pub(crate) fn handle_reply(
        &mut self,
        id: RequestId,
        reply: Result<Option<Element>, StanzaError>,
        now: Instant,
    ) {
        let Some(at) = self.pending.iter().position(|p| p.id == id) else {
            return;
        };
        let pending = self.pending.remove(at);
        match reply {
            Ok(_) if pending.action == Action::SessionInitiate => self.initiate_acknowledged = true,
            Ok(_) if pending.action == Action::ContentModify => {
                if let (Some(content), Some(senders)) = (pending.content, pending.senders) {
                    self.senders_answered(&content, senders, now);
                }
            }
            Ok(_) => {
                self.ponged(&pending, Some(Ok(())));
                self.info_answered(&pending, Ok(()), now);
            }
            Err(error) => self.refused(pending, Some(error), now),
        }
        self.settle(now);
    }

    /// An error, or silence, was the answer.
    fn refused(&mut self, pending: Pending, error: Option<StanzaError>, now: Instant) {
        if self.state.is_ended() {
            return;
        }
        let action = pending.action;
        if let Some(error) = &error {
            let about_initiate = action == Action::SessionInitiate;
            if about_initiate && self.state == crate::State::SentInitiate {
                return self.initiate_refused(error.clone(), now);
            }
            // Before the offer is acknowledged, this may have overtaken it.
            let offered = self.state != crate::State::SentInitiate || self.initiate_acknowledged;
            if error.is_unknown_session() && action != Action::SessionInitiate && offered {
                let error = error.clone();
                return self.fail(Cause::Refused { action, error }, true, now);
            }
            if action == Action::SessionAccept && error.kind != ErrorKind::Continue {
                let error = error.clone();
                return self.fail(Cause::Refused { action, error }, false, now);
            }
            if action == Action::TransportInfo && self.channel_gone(&pending, error) {
                return;
            }
        }
        if let Some(error) = error.as_ref().filter(|_| pending.ping) {
            return self.ponged(&pending, Some(Err(error)));
        }
        let name = pending.content.clone();
        match action {
            Action::ContentAdd => self.content_refused(name.as_deref(), None, now),
            Action::TransportReplace => self.replace_refused(name.as_deref(), now),
            Action::ContentModify => {
                if let Some((name, senders)) = pending.undo
                    && let Some(at) = self.content_position(&name)
                {
                    self.contents[at].senders = senders;
                    self.contents[at].senders_changed = false;
                    self.modified(Modification::Refused { name: name.clone() });
                    self.senders_answered(&name, senders, now);
                }
            }
            Action::ContentAccept if error.is_some() => self.content_lost(name.as_deref(), now),
            Action::TransportInfo => {
                if let Some(error) = &error {
                    self.info_answered(&pending, Err(error), now);
                }
            }
            Action::ContentAccept
            | Action::ContentReject
            | Action::ContentRemove
            | Action::DescriptionInfo
            | Action::SecurityInfo
            | Action::SessionAccept
            | Action::SessionInfo
            | Action::SessionInitiate
            | Action::SessionTerminate
            | Action::TransportAccept
            | Action::TransportReject
            | Action::Reject
            | Action::Redirect => {
                if let Some(error) = error {
                    self.warn(Cause::Refused { action, error });
                }
            }
        }
    }

    /// Tells a transport what became of a `<transport/>` that it wrapped, unless it has been replaced.
    fn info_answered(&mut self, pending: &Pending, reply: Result<(), &StanzaError>, now: Instant) {
        let (Some(info), Some(name)) = (&pending.info, &pending.content) else {
            return;
        };
        let Some(host) = self.content_position(name) else {
            return;
        };
        let carrier = self.contents[host].carriers.first_mut();
        let Some(carrier) = carrier.filter(|carrier| *carrier.namespace == *info.namespace())
        else {
            return;
        };
        carrier.transport.handle_info_reply(info, reply, now);
        self.collect_hosted(host, now);
    }

    fn initiate_refused(&mut self, error: StanzaError, now: Instant) {
        let action = Action::SessionInitiate;
        if error.kind == ErrorKind::Continue {
            return;
        }
        if error.is_tie_break() {
            return self.fail(Cause::TieBreak, true, now);
        }
        let target = error
            .extra
            .as_ref()
            .filter(|e| error.condition == Condition::Redirect && e.name() == "redirect")
            .map(|e| {
                e.text_content()
                    .trim()
                    .trim_start_matches("xmpp:")
                    .to_owned()
            });
        match target {
            Some(target) => self.follow_redirect(Peer::from(target), None, now),
            None => self.fail(Cause::Refused { action, error }, true, now),
        }
    }

    /// Answers a request of the peer that a channel kept waiting.
    pub(crate) fn answer_deferred(
        &mut self,
        channel: ChannelId,
        epoch: u16,
        token: u32,
        answer: Result<Option<Element>, PeerError>,
    ) {
        let found = self
            .deferred
            .iter()
            .position(|d| (d.channel, d.epoch, d.token) == (channel, epoch, token));
        if let Some(at) = found {
            let deferred = self.deferred.remove(at);
            self.reply_deferred(deferred, answer);
        }
    }

    /// The channel is gone: nobody will answer any more.
    pub(crate) fn refuse_deferred(&mut self, channel: ChannelId) {
        let gone: Vec<_> = self
            .deferred
            .extract_if(.., |d| d.channel == channel)
            .collect();
        for deferred in gone {
            let error = StanzaError::new(Condition::ItemNotFound, ErrorKind::Cancel);
            self.reply_deferred(deferred, Err(PeerError::Stanza(Box::new(error))));
        }
    }

    fn reply_deferred(&mut self, deferred: Deferred, answer: Result<Option<Element>, PeerError>) {
        let dialect = Dialect::JINGLE;
        self.stir();
        self.data.push_back(Output::Reply {
            id: deferred.id,
            to: deferred.from,
            dialect,
            reply: answer.map_err(|error| error.to_stanza_error(dialect)),
        });
    }

    /// Whether the error says that the peer does not have one of our channels (libjingle `unknown-channel-name`): one of the
    /// transport that was spoken of, by the namespace of that.
    fn channel_gone(&mut self, pending: &Pending, error: &StanzaError) -> bool {
        let info = pending.info.as_ref();
        let extra = error.extra.as_ref().filter(|extra| {
            let ours = info.is_some_and(|info| info.namespace() == extra.namespace());
            ours && extra.name() == "unknown-channel-name"
        });
        let at = pending
            .content
            .as_deref()
            .and_then(|name| self.content_position(name));
        let (Some(extra), Some(at)) = (extra, at) else {
            return false;
        };
        let host = self.host_of(at);
        let name = extra.attribute("name").unwrap_or_default();
        let known = self.channels.iter().find(|c| {
            c.is_bound() && c.is_named(name, extra.namespace()) && self.is_hosted(&c.content, host)
        });
        let Some(channel) = known.map(|c| c.id) else {
            return false;
        };
        self.stir();
        self.signals.channel_gone.emit(name.into());
        self.events
            .push_back(SessionEvent::ChannelGone(channel, name.into()));
        true
    }
}
