//! Which answer belongs to which request, in both directions.

use crate::stanza::{Envelope, Request};
use session_core::{Peer, RequestId};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Requests of ours that await an answer. Past it the oldest is forgotten.
const SENT_MAX: usize = 65_536;

/// How long an answer is awaited. The core gives up sooner; this is when the driver forgets.
const SENT_AGE_MAX: Duration = Duration::from_secs(600);

/// Requests of peers that await our answer. Past it a request is refused.
const RECEIVED_MAX: usize = 16_384;

/// Keeps the core's numbers and the wire's ids apart and together.
///
/// The id of a request of ours is made from its number, so that the same request has the same id each time it is sent.
/// Peers choose ids freely: an answer counts only from whom was asked.
#[derive(Debug)]
pub(super) struct Requests {
    prefix: String,
    sent: BTreeMap<RequestId, Sent>,
    received: BTreeMap<RequestId, Asked>,
    next: u64,
}

/// What a peer sent, and what its answer is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// A request, which is answered.
    Query(Request),
    /// A message for a transport, to which only a refusal is an answer.
    Notice(Envelope),
}

#[derive(Debug)]
struct Sent {
    to: Peer,
    at: Instant,
}

impl Requests {
    /// `nonce` keeps answers to an earlier run from being taken for ours.
    pub(super) fn new(nonce: u64) -> Self {
        Self {
            prefix: format!("{nonce:x}-"),
            sent: BTreeMap::new(),
            received: BTreeMap::new(),
            next: 0,
        }
    }

    /// The id for a request that is being sent.
    pub(super) fn send(&mut self, id: RequestId, to: Peer, now: Instant) -> String {
        let too_old = |sent: &Sent| now.saturating_duration_since(sent.at) > SENT_AGE_MAX;
        while let Some(oldest) = self.sent.first_entry() {
            if !too_old(oldest.get()) {
                break;
            }
            oldest.remove();
        }
        if self.sent.len() >= SENT_MAX && !self.sent.contains_key(&id) {
            self.sent.pop_first();
        }
        self.sent.insert(id, Sent { to, at: now });
        format!("{}{:x}", self.prefix, id.0)
    }

    /// The request that an answer of `from` with this id is for.
    pub(super) fn answered(&mut self, from: &Peer, id: &str) -> Option<RequestId> {
        let number = u64::from_str_radix(id.strip_prefix(&self.prefix)?, 16).ok()?;
        let id = RequestId(number);
        if self.sent.get(&id)?.to != *from {
            return None;
        }
        self.sent.remove(&id).map(|_| id)
    }

    /// A request did not leave after all.
    pub(super) fn forget(&mut self, id: RequestId) {
        self.sent.remove(&id);
    }

    /// Whether a request that was sent at this instant or later awaits its answer.
    pub(super) fn sent_since(&self, instant: Instant) -> bool {
        self.sent.values().any(|sent| sent.at >= instant)
    }

    /// Numbers a request of a peer.
    ///
    /// # Errors
    /// The request comes back when too many await an answer.
    pub(super) fn receive(&mut self, request: Asked) -> Result<RequestId, Asked> {
        if self.received.len() >= RECEIVED_MAX {
            return Err(request);
        }
        let id = RequestId(self.next);
        self.next += 1;
        self.received.insert(id, request);
        Ok(id)
    }

    /// What a request was, once: the second answer to it finds nothing.
    pub(super) fn answer(&mut self, id: RequestId) -> Option<Asked> {
        self.received.remove(&id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{endpoint::codec, stanza::Incoming};
    use session_core::ElementLimits;

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn an_answer_counts_once_and_only_from_whom_was_asked() {
        let mut requests = Requests::new(0xab);
        let (a, b) = (Peer::from("a"), Peer::from("b"));
        let first = requests.send(RequestId(10), a.clone(), now());
        let second = requests.send(RequestId(11), b.clone(), now());
        assert_eq!((&*first, &*second), ("ab-a", "ab-b"));
        assert_eq!(requests.send(RequestId(10), a.clone(), now()), first);
        assert_eq!(requests.answered(&b, &first), None);
        assert_eq!(requests.answered(&a, &first), Some(RequestId(10)));
        assert_eq!(requests.answered(&a, &first), None);
        assert_eq!(requests.answered(&b, &second), Some(RequestId(11)));
        for id in ["", "ab-", "ab-10", "ac-a", "ab-x", "ab-+a"] {
            assert_eq!(requests.answered(&a, id), None, "{id}");
        }
    }

    fn request() -> Asked {
        let bytes = b"<iq type='get' id='1' from='a@x' to='b@x'><q xmlns='q'/></iq>";
        match codec::read(bytes, &"b@x".into(), &ElementLimits::default()) {
            Ok(Incoming::Request(request)) => Asked::Query(request),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_request_is_answered_once() {
        let mut requests = Requests::new(0);
        let first = requests.receive(request()).unwrap();
        let second = requests.receive(request()).unwrap();
        assert_ne!(first, second, "ids of peers are theirs");
        assert_eq!(requests.answer(first), Some(request()));
        assert_eq!(requests.answer(first), None);
        assert!(requests.answer(second).is_some());
    }

    #[test]
    fn both_directions_are_bounded() {
        let mut requests = Requests::new(0);
        let start = now();
        for number in 0..=SENT_MAX as u64 {
            requests.send(RequestId(number), "a".into(), start);
        }
        assert_eq!(requests.sent.len(), SENT_MAX);
        assert_eq!(requests.answered(&"a".into(), "0-0"), None);
        assert_eq!(requests.answered(&"a".into(), "0-1"), Some(RequestId(1)));
        let later = start + SENT_AGE_MAX + Duration::from_secs(1);
        requests.send(RequestId(u64::MAX), "a".into(), later);
        assert_eq!(requests.sent.len(), 1);

        for _ in 0..RECEIVED_MAX {
            assert!(requests.receive(request()).is_ok());
        }
        assert_eq!(requests.receive(request()), Err(request()));
    }

    #[test]
    fn what_was_sent_since_is_told_apart() {
        let mut requests = Requests::new(0);
        let early = now();
        let late = early + Duration::from_secs(1);
        requests.send(RequestId(1), "a".into(), early);
        assert!(requests.sent_since(early) && !requests.sent_since(late));
        requests.send(RequestId(2), "a".into(), late);
        requests.send(RequestId(1), "a".into(), late);
        requests.forget(RequestId(2));
        assert!(requests.sent_since(late), "the first was sent again");
        assert_eq!(requests.answered(&"a".into(), "0-1"), Some(RequestId(1)));
        assert!(!requests.sent_since(late));
    }
}
