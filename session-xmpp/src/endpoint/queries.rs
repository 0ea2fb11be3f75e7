//! Requests beside those of sessions: of the application, and to it.

use crate::stanza::{Envelope, Request};
use session_core::{Condition, Element, ErrorKind, Message, Peer, SessionManager, StanzaError};
use std::{collections::BTreeMap, time::Instant};
use tokio::sync::oneshot;

/// Queries that await an answer. Past it a query is refused.
const QUERIES_MAX: usize = 1_024;

/// What a request asks for (RFC 6120 §8.2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryKind {
    /// To tell something.
    Get,
    /// To change something.
    Set,
}

/// Takes stanzas that are not for sessions: service discovery, pings, presence, messages that announce sessions.
///
/// # For implementers
/// An [`Endpoint`](super::Endpoint) calls it under its own lock: nothing may wait, and nothing may call the endpoint.
/// What is done to the manager takes effect when the call returns.
#[allow(unused_variables)]
pub trait Service: Send + 'static {
    /// Answers a request; `None` when it is for somebody else (a transport, or nobody).
    fn handle_request(
        &mut self,
        request: &Request,
        manager: &mut SessionManager,
        now: Instant,
    ) -> Option<Result<Option<Element>, StanzaError>> {
        None
    }

    /// Decides whether a session's message reaches the manager: an offer of somebody who is not welcome, say.
    ///
    /// # Errors
    /// What the sender is answered instead. The manager hears nothing of it.
    fn admit(&mut self, message: &Message, now: Instant) -> Result<(), StanzaError> {
        Ok(())
    }

    /// Takes a message or a presence. Returns whether it had a use for it.
    fn handle_other(
        &mut self,
        other: &Envelope,
        manager: &mut SessionManager,
        now: Instant,
    ) -> bool {
        false
    }
}

/// Several services as one: a request goes to the first that answers it, messages and presence to all; a session's message
/// reaches the manager when all admit it.
impl Service for Vec<Box<dyn Service>> {
    fn handle_request(
        &mut self,
        request: &Request,
        manager: &mut SessionManager,
        now: Instant,
    ) -> Option<Result<Option<Element>, StanzaError>> {
        let mut services = self.iter_mut();
        services.find_map(|service| service.handle_request(request, manager, now))
    }

    fn admit(&mut self, message: &Message, now: Instant) -> Result<(), StanzaError> {
        self.iter_mut()
            .try_for_each(|service| service.admit(message, now))
    }

    fn handle_other(
        &mut self,
        other: &Envelope,
        manager: &mut SessionManager,
        now: Instant,
    ) -> bool {
        let mut taken = false;
        for service in self {
            taken |= service.handle_other(other, manager, now);
        }
        taken
    }
}

/// The payload of a result, or an error.
pub(super) type Answer = Result<Option<Element>, StanzaError>;

/// The application's requests that await an answer.
#[derive(Debug, Default)]
pub(super) struct Queries {
    prefix: String,
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
}

#[derive(Debug)]
struct Waiting {
    to: Peer,
    answer: oneshot::Sender<Answer>,
}

impl Queries {
    /// `nonce` keeps answers to an earlier run from being taken for ours.
    pub(super) fn new(nonce: u64) -> Self {
        Self {
            prefix: format!("{nonce:x}+"),
            ..Self::default()
        }
    }

    /// The id for a query, and where its answer comes.
    ///
    /// # Errors
    /// When too many await an answer.
    pub(super) fn open(
        &mut self,
        to: Peer,
    ) -> Result<(String, oneshot::Receiver<Answer>), StanzaError> {
        self.waiting
            .retain(|_, waiting| !waiting.answer.is_closed());
        if self.waiting.len() >= QUERIES_MAX {
            return Err(StanzaError::new(
                Condition::ResourceConstraint,
                ErrorKind::Wait,
            ));
        }
        self.next += 1;
        let (answer, receiver) = oneshot::channel();
        self.waiting.insert(self.next, Waiting { to, answer });
        Ok((format!("{}{:x}", self.prefix, self.next), receiver))
    }

    /// Hands over an answer. The reply comes back when there is no such query.
    pub(super) fn answered(&mut self, from: &Peer, id: &str, reply: Answer) -> Option<Answer> {
        let number = id.strip_prefix(&self.prefix);
        let number = number.and_then(|number| u64::from_str_radix(number, 16).ok());
        let Some(number) = number.filter(|number| {
            let waiting = self.waiting.get(number);
            waiting.is_some_and(|waiting| waiting.to == *from)
        }) else {
            return Some(reply);
        };
        if let Some(waiting) = self.waiting.remove(&number) {
            // Whoever asked may have stopped waiting.
            let _ = waiting.answer.send(reply);
        }
        None
    }
}

/// What silence means.
pub(super) fn no_answer() -> StanzaError {
    StanzaError::new(Condition::RemoteServerTimeout, ErrorKind::Wait)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reaches_whoever_asked() {
        let mut queries = Queries::new(1);
        let (id, mut receiver) = queries.open("a".into()).unwrap();
        assert!(queries.answered(&"b".into(), &id, Ok(None)).is_some());
        assert!(queries.answered(&"a".into(), "1+ff", Ok(None)).is_some());
        assert!(queries.answered(&"a".into(), "1-1", Ok(None)).is_some());
        assert_eq!(queries.answered(&"a".into(), &id, Ok(None)), None);
        assert_eq!(receiver.try_recv(), Ok(Ok(None)));
        assert!(queries.answered(&"a".into(), &id, Ok(None)).is_some());
    }

    #[test]
    fn those_that_nobody_waits_for_make_room() {
        let mut queries = Queries::new(1);
        let waiting: Vec<_> = (0..QUERIES_MAX)
            .map(|_| queries.open("a".into()).unwrap().1)
            .collect();
        assert!(queries.open("a".into()).is_err());
        drop(waiting);
        assert!(queries.open("a".into()).is_ok());
        assert_eq!(queries.waiting.len(), 1);
    }
}
