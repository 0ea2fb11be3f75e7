//! Presence: who shows himself to us is shown us, if he may know.

use crate::{
    address,
    client::{Policy, Verdict},
    endpoint::Service,
    stanza::Envelope,
};
use session_core::{Peer, SessionManager};
use std::{collections::BTreeSet, time::Instant};
use tokio::sync::mpsc;

/// Devices that were greeted. Past it, no more are.
const GREETED_MAX: usize = 4_096;

/// Greetings that wait. Past it, they are left out.
const WAITING_MAX: usize = 256;

/// Answers the presence of those who may start sessions with ours, once each: so find each other also who have no
/// subscription.
pub(super) struct Greeter {
    policy: Policy,
    greeted: BTreeSet<Peer>,
    to_greet: mpsc::Sender<Peer>,
}

impl Greeter {
    /// With where those are told that are to be greeted.
    pub(super) fn new(policy: Policy) -> (Self, mpsc::Receiver<Peer>) {
        let (to_greet, receiver) = mpsc::channel(WAITING_MAX);
        let greeter = Self {
            policy,
            greeted: BTreeSet::new(),
            to_greet,
        };
        (greeter, receiver)
    }
}

impl Service for Greeter {
    fn handle_other(&mut self, other: &Envelope, _: &mut SessionManager, _: Instant) -> bool {
        let peer = &other.from;
        if other.is_message() || peer.device().is_none() {
            return false;
        }
        match other.kind() {
            Some("unavailable") => {
                self.greeted.remove(peer);
            }
            // Our own devices know us.
            None if address::bare(peer) != address::bare(&other.to)
                && self.policy.decide(peer) == Verdict::Admit
                && self.greeted.len() < GREETED_MAX
                && self.greeted.insert(peer.clone()) =>
            {
                // One that is left out may show himself again.
                if self.to_greet.try_send(peer.clone()).is_err() {
                    self.greeted.remove(peer);
                }
            }
            Some(_) | None => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Rule;
    use session_core::{Config, Element, SeededEntropy};

    #[test]
    fn who_may_is_greeted_once() {
        let policy = Policy::new([Rule::Peer("a@x".into())]);
        let (mut greeter, mut greetings) = Greeter::new(policy);
        let mut manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        let mut hear = |from: &str, kind: Option<&str>| {
            let stanza = Element::new(crate::ns::CLIENT, "presence").with_opt("type", kind);
            let other = Envelope {
                from: from.into(),
                to: "me@x/1".into(),
                stanza,
            };
            greeter.handle_other(&other, &mut manager, Instant::now());
        };
        hear("a@x/1", None);
        hear("a@x/1", None);
        hear("b@x/1", None);
        hear("me@x/2", None);
        assert_eq!(greetings.try_recv(), Ok("a@x/1".into()));
        assert!(greetings.try_recv().is_err());
        hear("a@x/1", Some("unavailable"));
        hear("a@x/1", None);
        assert_eq!(
            greetings.try_recv(),
            Ok("a@x/1".into()),
            "after it was gone"
        );
    }
}
