//! A session client: two people exchange lines. Each packet is a line; the description carries a topic.
//!
//! A session that is offered is accepted at once if its topic is not empty. What was heard is read from outside by
//! [`Chat::hear`]; whoever wants to be told when connects to the session's signals.

use bytes::Bytes;
use session_core::{
    ChannelId, Element, PeerError, Reason, ReasonCondition, Session, SessionClient,
    SessionDescription, SessionId, State,
};
use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

/// The namespace of its `<description/>`.
pub const NAMESPACE: &str = "urn:example:chat:0";
/// How many unread lines of a session are kept; the oldest goes first.
pub const LINES_MAX: usize = 100;

/// What a chat is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topic(pub String);

impl SessionDescription for Topic {
    const NAMESPACE: &'static str = NAMESPACE;

    fn to_element(&self) -> Element {
        Element::new(NAMESPACE, "description").with("topic", &self.0)
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        let (field, problem) = ("topic", "missing or empty");
        let topic = element.attribute("topic").filter(|topic| !topic.is_empty());
        Ok(Self(
            topic
                .ok_or(PeerError::Malformed { field, problem })?
                .to_owned(),
        ))
    }
}

/// The client. One for all chats of a manager.
#[derive(Debug, Default)]
pub struct Chat {
    rooms: BTreeMap<SessionId, Room>,
}

#[derive(Debug)]
struct Room {
    channel: ChannelId,
    lines: VecDeque<String>,
}

impl Chat {
    /// The channel that carries the lines of a session.
    pub fn channel(&self, session: SessionId) -> Option<ChannelId> {
        self.rooms.get(&session).map(|room| room.channel)
    }

    /// The next line that the other side said.
    pub fn hear(&mut self, session: SessionId) -> Option<String> {
        self.rooms.get_mut(&session)?.lines.pop_front()
    }
}

impl SessionClient for Chat {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn on_session_create(&mut self, session: &mut Session, _: bool, now: Instant) {
        if let Ok(channel) = session.create_channel("lines", now) {
            let lines = VecDeque::new();
            self.rooms.insert(session.id(), Room { channel, lines });
        }
    }

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        if state != State::ReceivedInitiate {
            return;
        }
        let topic = session.remote_description().map(Topic::from_element);
        // Whoever got here first, the session is decided; there is nobody to tell that it was.
        let _ = match topic {
            Some(Ok(topic)) => session.accept(&topic, now),
            _ => session.reject(Reason::new(ReasonCondition::IncompatibleParameters), now),
        };
    }

    fn on_packet(&mut self, session: &mut Session, _: ChannelId, packet: Bytes, _: Instant) {
        if let Some(room) = self.rooms.get_mut(&session.id()) {
            if room.lines.len() == LINES_MAX {
                room.lines.pop_front();
            }
            room.lines
                .push_back(String::from_utf8_lossy(&packet).into_owned());
        }
    }

    fn on_session_destroy(&mut self, session: &mut Session, _: Instant) {
        self.rooms.remove(&session.id());
    }
}
