//! Presence: we show ourselves, and who shows himself to us is shown us, if he may know.

use crate::{
    address,
    client::{Discovery, Policy, Verdict},
    endpoint::{LinkState, Service, WeakEndpoint, lock},
    stanza::Envelope,
};
use session_core::{Element, Notice, Peer, SessionManager};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::sync::mpsc;

/// Devices that are greeted again after a new login. Past it, no more are greeted.
const GREETED_MAX: usize = 4_096;

/// Greetings that wait. Past it, they are left out.
const WAITING_MAX: usize = 256;

/// Who was greeted, and whether that was since the last login.
type Greeted = Arc<Mutex<BTreeMap<Peer, bool>>>;

/// Answers the presence of those who may start sessions with ours, once each at a login: so find each other also who have
/// no subscription.
pub(super) struct Greeter {
    policy: Policy,
    greeted: Greeted,
    to_greet: mpsc::Sender<Peer>,
}

/// Those who are to be greeted.
pub(super) struct Greetings {
    greeted: Greeted,
    next: mpsc::Receiver<Peer>,
}

impl Greeter {
    /// With where those are told that are to be greeted.
    pub(super) fn new(policy: Policy) -> (Self, Greetings) {
        let (to_greet, next) = mpsc::channel(WAITING_MAX);
        let greeted = Greeted::default();
        let greeter = Self {
            policy,
            greeted: greeted.clone(),
            to_greet,
        };
        (greeter, Greetings { greeted, next })
    }

    /// Somebody shows himself who is to be shown us. One that is left out may show himself again.
    fn greet(&self, peer: &Peer) {
        let mut greeted = lock(&self.greeted);
        if greeted.get(peer) == Some(&true) {
            return;
        }
        if greeted.len() >= GREETED_MAX && !greeted.contains_key(peer) {
            // Who has not been heard since the last login may have left before it.
            let silent = greeted.iter().find(|(_, heard)| !**heard);
            let Some(silent) = silent.map(|(peer, _)| peer.clone()) else {
                return;
            };
            greeted.remove(&silent);
        }
        if self.to_greet.try_send(peer.clone()).is_ok() {
            greeted.insert(peer.clone(), true);
        }
    }
}

impl Service for Greeter {
    fn handle_other(&mut self, other: &Envelope, _: &mut SessionManager, _: Instant) -> bool {
        let peer = &other.from;
        if other.is_message() || peer.device().is_none() {
            return false;
        }
        match other.kind() {
            Some("unavailable" | "error") => {
                lock(&self.greeted).remove(peer);
            }
            // Our own devices know us.
            None if address::bare(peer) != address::bare(&other.to)
                && self.policy.decide(peer) == Verdict::Admit =>
            {
                self.greet(peer);
            }
            Some(_) | None => {}
        }
        false
    }
}

impl Greetings {
    /// Shows us after each login, and to those who are to be greeted. Of who was there before a login nothing is known
    /// after it.
    pub(super) async fn show(
        mut self,
        endpoint: WeakEndpoint,
        discovery: Discovery,
        presence: Element,
    ) {
        let Some(strong) = endpoint.upgrade() else {
            return;
        };
        let mut link = strong.connect_link_state();
        drop(strong);
        let send = |to: Option<&Peer>| {
            let presence = presence.clone().with_opt("to", to.map(Peer::as_str));
            // A link that is down is told again when it is up.
            endpoint
                .upgrade()
                .map(|endpoint| endpoint.send_stanza(&presence))
        };
        loop {
            tokio::select! {
                notice = link.next() => match notice {
                    Some(
                        Notice::Value(LinkState::Up(own))
                        | Notice::Snapshot { last: Some(LinkState::Up(own)), .. },
                    ) => {
                        discovery.with(|directory| {
                            directory.clear();
                            directory.set_own(&own);
                        });
                        send(None);
                        self.again().iter().for_each(|peer| {
                            send(Some(peer));
                        });
                    }
                    Some(Notice::Ended) | None => return,
                    Some(Notice::Value(_) | Notice::Snapshot { .. }) => {
                        discovery.with(|directory| directory.clear());
                    }
                },
                peer = self.next.recv() => {
                    let Some(peer) = peer else { return };
                    send(Some(&peer));
                }
            }
        }
    }

    /// Who is to be greeted after a new login. Each may have begun anew, and is greeted when he shows himself.
    fn again(&self) -> Vec<Peer> {
        let mut greeted = lock(&self.greeted);
        greeted.values_mut().for_each(|heard| *heard = false);
        greeted.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::{Info, Rule},
        endpoint::{Endpoint, Link, LinkEvent, Options, Router, RouterLink},
    };
    use session_core::{Config, SeededEntropy};
    use std::time::Duration;
    use tokio::time::timeout;

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
        assert_eq!(greetings.next.try_recv(), Ok("a@x/1".into()));
        assert!(greetings.next.try_recv().is_err());
        hear("a@x/1", Some("unavailable"));
        hear("a@x/1", None);
        assert_eq!(
            greetings.next.try_recv(),
            Ok("a@x/1".into()),
            "after it was gone"
        );
        assert_eq!(greetings.again(), ["a@x/1".into()]);
        hear("a@x/1", None);
        assert_eq!(
            greetings.next.try_recv(),
            Ok("a@x/1".into()),
            "it may have begun anew"
        );
        hear("a@x/1", Some("unavailable"));
        assert!(greetings.again().is_empty(), "it has left");
    }

    /// The next presence that somebody hears: its type.
    async fn presence(link: &mut RouterLink) -> String {
        let heard = async {
            loop {
                if let Some(LinkEvent::Stanza(stanza)) = link.next_event().await {
                    return String::from_utf8(stanza.to_vec()).unwrap();
                }
            }
        };
        timeout(Duration::from_secs(5), heard).await.unwrap()
    }

    #[tokio::test]
    async fn after_a_new_login_nobody_is_there_who_does_not_show_himself() {
        let router = Router::new();
        let (greeter, greetings) = Greeter::new(Policy::new([Rule::Peer("a@x".into())]));
        let discovery = Discovery::new("n", Info::new("client", "pc", "x", ["files"]));
        let services: Vec<Box<dyn Service>> = vec![Box::new(greeter), discovery.service()];
        let options = Options {
            service: Some(Box::new(services)),
            ..Options::default()
        };
        let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        let own = Peer::from("me@x/1");
        let mut tap = router.tap();
        let endpoint = Endpoint::spawn_with(manager, router.link(own.clone()), options);
        let shown = discovery.presence(None);
        let showing = greetings.show(endpoint.downgrade(), discovery.clone(), shown);
        let showing = tokio::spawn(showing);
        let mut peer = router.link("a@x/1");
        let account = Peer::from("a@x");
        let is_there = || discovery.with(|directory| directory.is_available(&account));
        let shown = timeout(Duration::from_secs(5), tap.next()).await;
        assert_eq!(shown.unwrap().unwrap().from, own);
        peer.send("<presence to='me@x/1'/>".into()).unwrap();
        assert!(presence(&mut peer).await.contains("me@x/1"));
        assert!(is_there());
        router.set_up(&own, false);
        router.set_up(&own, true);
        // It is greeted again, whether it is there or not.
        assert!(presence(&mut peer).await.contains("me@x/1"));
        assert!(!is_there());
        showing.abort();
    }
}
