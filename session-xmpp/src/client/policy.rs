//! [`Policy`]: who may start sessions with us, and learn what we can.
//!
//! A stranger who asks is told nothing that shows that anybody is here (XEP-0166 §8, XEP-0115 §7): no capabilities, no
//! ringing, and for an offer what a server says of a device that is not there. Who is asked for, in contrast, is asked about by the
//! application; until it has accepted, the peer gets none of our addresses
//! ([`SessionManager::set_speculation_policy`](session_core::SessionManager::set_speculation_policy)).

use super::{disco::DISCO_INFO, discovery::PING};
use crate::{
    address,
    endpoint::{Service, lock},
    stanza::Request,
};
use session_core::{
    Action, Condition, Element, ElementRef, ErrorKind, Message, Peer, SessionManager, StanzaError,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

/// Contacts of a roster that are kept. Past it, the rest counts as strangers.
pub const CONTACTS_MAX: usize = 16_384;

/// Accounts whose attempts are counted. Past it, the one that was counted longest ago is forgotten.
pub const COUNTED_MAX: usize = 1_024;

/// Attempts that one account has at once; they come back evenly over [`ATTEMPTS_EVERY`].
pub const ATTEMPTS_MAX: u32 = 20;

/// Attempts that all who are not known have together at once.
pub const STRANGERS_MAX: u32 = 60;

/// The time in which an account's attempts come back.
pub const ATTEMPTS_EVERY: Duration = Duration::from_secs(60);

/// The namespace of rosters (RFC 6121 §2).
pub const ROSTER: &str = "jabber:iq:roster";

/// What is to be done with somebody who wants something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Let in.
    Admit,
    /// The application is to be asked; until then nothing about us is told.
    Ask,
    /// As if nobody were here.
    Refuse,
}

/// Who may, as a person says it: see [`FromStr`](#impl-FromStr-for-Rule).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Anybody.
    Any,
    /// Those in the roster who may see our presence (RFC 6121 §3).
    Roster,
    /// This device, this account, or everybody at this domain.
    Peer(Peer),
    /// About everybody else the application is asked.
    Ask,
}

impl FromStr for Rule {
    type Err = address::AddressError;

    /// `any`, `roster`, `ask`, or an address.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.trim() {
            "any" => Self::Any,
            "roster" => Self::Roster,
            "ask" => Self::Ask,
            address => Self::Peer(address::from_uri(address)?),
        })
    }
}

/// See the [module](self). Cheap to clone; all clones are one. [`Self::service`] goes into an endpoint's
/// [`Options`](crate::endpoint::Options), before everything that tells about us.
#[derive(Clone, Debug)]
pub struct Policy(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    rules: Vec<Rule>,
    /// Our own account: its devices are no strangers.
    own: Option<Peer>,
    contacts: BTreeSet<Peer>,
    counts: BTreeMap<Peer, Bucket>,
    strangers: Bucket,
    refused: u64,
}

/// Attempts that are left, and since when that holds.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Option<Instant>,
}

impl Bucket {
    /// Takes one of at most `max`.
    fn take(&mut self, max: u32, now: Instant) -> bool {
        let max = f64::from(max);
        let passed = self
            .at
            .map_or(ATTEMPTS_EVERY, |at| now.saturating_duration_since(at));
        let back = max * passed.as_secs_f64() / ATTEMPTS_EVERY.as_secs_f64();
        self.left = (self.left + back).min(max);
        self.at = Some(now);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }
}

const EMPTY: Bucket = Bucket {
    left: 0.0,
    at: None,
};

impl Policy {
    /// Of these rules: whoever fits one may; nobody else may, unless [`Rule::Ask`] is one of them.
    pub fn new(rules: impl IntoIterator<Item = Rule>) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            rules: rules.into_iter().collect(),
            own: None,
            contacts: BTreeSet::new(),
            counts: BTreeMap::new(),
            strangers: EMPTY,
            refused: 0,
        })))
    }

    /// We are this account now.
    pub fn set_own(&self, own: &Peer) {
        lock(&self.0).own = Some(address::bare(own));
    }

    /// Lets somebody in from now on: whom we have called ourselves, or whom the application was asked about.
    pub fn allow(&self, peer: &Peer) {
        let mut inner = lock(&self.0);
        let rule = Rule::Peer(address::bare(peer));
        if !inner.rules.contains(&rule) && inner.rules.len() < CONTACTS_MAX {
            inner.rules.push(rule);
        }
    }

    /// Whether a roster is needed to decide.
    pub fn needs_roster(&self) -> bool {
        lock(&self.0).rules.contains(&Rule::Roster)
    }

    /// Takes a roster, whole, as the server's answer has it.
    pub fn set_roster(&self, query: ElementRef<'_>) {
        let mut inner = lock(&self.0);
        inner.contacts.clear();
        inner.contacts(query);
    }

    /// What is to be done with somebody.
    pub fn decide(&self, peer: &Peer) -> Verdict {
        lock(&self.0).decide(peer)
    }

    /// Counts an attempt of somebody who may. Returns whether it is one of not too many.
    pub fn count(&self, peer: &Peer, now: Instant) -> bool {
        let mut inner = lock(&self.0);
        let verdict = inner.decide(peer);
        inner.count(peer, verdict, now)
    }

    /// How many offers and questions were refused so far.
    pub fn refused(&self) -> u64 {
        lock(&self.0).refused
    }

    /// What decides in an endpoint.
    pub fn service(&self) -> Box<dyn Service> {
        Box::new(Gate(self.clone()))
    }
}

impl Inner {
    fn decide(&self, peer: &Peer) -> Verdict {
        let account = peer.account();
        // Our own devices, and our server, which asks for itself.
        let is_own = self
            .own
            .as_ref()
            .is_some_and(|own| own.as_str() == account || address::domain(own) == peer.as_str());
        let fits = |rule: &Rule| match rule {
            Rule::Any => true,
            Rule::Roster => self.contacts.contains(&address::bare(peer)),
            Rule::Peer(allowed) => {
                allowed == peer
                    || allowed.as_str() == account
                    || (!allowed.as_str().contains(['@', '/'])
                        && allowed.as_str() == address::domain(peer))
            }
            Rule::Ask => false,
        };
        if is_own || self.rules.iter().any(fits) {
            Verdict::Admit
        } else if self.rules.contains(&Rule::Ask) {
            Verdict::Ask
        } else {
            Verdict::Refuse
        }
    }

    fn count(&mut self, peer: &Peer, verdict: Verdict, now: Instant) -> bool {
        let known = verdict == Verdict::Admit;
        if !known && !self.strangers.take(STRANGERS_MAX, now) {
            return false;
        }
        let account = address::bare(peer);
        if self.counts.len() >= COUNTED_MAX && !self.counts.contains_key(&account) {
            let oldest = self.counts.iter().min_by_key(|(_, bucket)| bucket.at);
            if let Some(oldest) = oldest.map(|(peer, _)| peer.clone()) {
                self.counts.remove(&oldest);
            }
        }
        self.counts
            .entry(account)
            .or_insert(EMPTY)
            .take(ATTEMPTS_MAX, now)
    }

    /// Takes contacts in or out (RFC 6121 §2.1.6).
    fn contacts(&mut self, query: ElementRef<'_>) {
        for item in query.children().filter(|child| child.is(ROSTER, "item")) {
            let jid = item
                .attribute("jid")
                .and_then(|jid| address::parse(jid).ok());
            let Some(jid) = jid else { continue };
            let sees_us = matches!(item.attribute("subscription"), Some("both" | "from"));
            if !sees_us {
                self.contacts.remove(&jid);
            } else if self.contacts.len() < CONTACTS_MAX {
                self.contacts.insert(jid);
            }
        }
    }
}

struct Gate(Policy);

impl Service for Gate {
    fn handle_request(
        &mut self,
        request: &Request,
        _: &mut SessionManager,
        _: Instant,
    ) -> Option<Result<Option<Element>, StanzaError>> {
        let payload = request.payload()?;
        let mut inner = lock(&self.0.0);
        if payload.is(ROSTER, "query") && !request.is_get() {
            let from = request.from();
            let is_ours = from.as_str().is_empty()
                || inner
                    .own
                    .as_ref()
                    .is_some_and(|own| own.as_str() == from.account());
            // Who is no server of ours writes into no roster of ours (RFC 6121 §2.1.6).
            return is_ours.then(|| {
                inner.contacts(payload);
                Ok(None)
            });
        }
        let tells =
            request.is_get() && (payload.is(DISCO_INFO, "query") || payload.is(PING, "ping"));
        if tells && inner.decide(request.from()) != Verdict::Admit {
            inner.refused += 1;
            return Some(Err(nobody()));
        }
        None
    }

    fn admit(&mut self, message: &Message, now: Instant) -> Result<(), StanzaError> {
        if message.action != Action::SessionInitiate {
            return Ok(());
        }
        let mut inner = lock(&self.0.0);
        let verdict = inner.decide(&message.from);
        if verdict == Verdict::Refuse {
            inner.refused += 1;
            return Err(nobody());
        }
        if inner.count(&message.from, verdict, now) {
            return Ok(());
        }
        inner.refused += 1;
        Err(StanzaError::new(
            Condition::ResourceConstraint,
            ErrorKind::Wait,
        ))
    }
}

/// What a server says of a device that is not there (RFC 6121 §8.5.3.2.3).
fn nobody() -> StanzaError {
    StanzaError::new(Condition::ServiceUnavailable, ErrorKind::Cancel)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(texts: &[&str]) -> Policy {
        Policy::new(texts.iter().map(|text| text.parse::<Rule>().unwrap()))
    }

    fn roster(policy: &Policy, items: &[(&str, &str)]) {
        let items = items.iter().map(|(jid, subscription)| {
            Element::new(ROSTER, "item")
                .with("jid", *jid)
                .with("subscription", *subscription)
        });
        policy.set_roster(Element::new(ROSTER, "query").children_from(items).view());
    }

    #[test]
    fn rules_are_about_devices_accounts_domains_and_rosters() {
        let policy = rules(&["roster", "a@x", "b@x/1", "y"]);
        policy.set_own(&"me@z/1".into());
        roster(&policy, &[("c@x", "both"), ("d@x", "to"), ("e@x", "from")]);
        for (peer, verdict) in [
            ("a@x/9", Verdict::Admit),
            ("b@x/1", Verdict::Admit),
            ("b@x/2", Verdict::Refuse),
            ("any@y/1", Verdict::Admit),
            ("c@x/1", Verdict::Admit),
            ("d@x/1", Verdict::Refuse),
            ("e@x", Verdict::Admit),
            ("me@z/2", Verdict::Admit),
            ("a@xx/1", Verdict::Refuse),
            ("z", Verdict::Admit),
            ("other@z/2", Verdict::Refuse),
        ] {
            assert_eq!(policy.decide(&peer.into()), verdict, "{peer}");
        }
        assert_eq!(rules(&["ask"]).decide(&"a@x/1".into()), Verdict::Ask);
        assert_eq!(rules(&["any"]).decide(&"a@x/1".into()), Verdict::Admit);
        assert!("a@@x".parse::<Rule>().is_err());
        policy.allow(&"d@x/1".into());
        assert_eq!(policy.decide(&"d@x/2".into()), Verdict::Admit);
    }

    #[test]
    fn who_tries_too_often_waits_and_disturbs_nobody_else() {
        let policy = rules(&["any"]);
        let start = Instant::now();
        let tries = |peer: &str, now| {
            let tries = (0..100).filter(|_| policy.count(&Peer::from(peer), now));
            tries.count()
        };
        assert_eq!(tries("a@x/1", start), ATTEMPTS_MAX as usize);
        assert_eq!(tries("a@x/2", start), 0, "an account has many devices");
        assert_eq!(tries("b@x/1", start), ATTEMPTS_MAX as usize);
        let later = start + ATTEMPTS_EVERY / 2;
        assert_eq!(tries("a@x/1", later), ATTEMPTS_MAX as usize / 2);
        for number in 0..2 * COUNTED_MAX {
            policy.count(&Peer::from(format!("s{number}@x")), later);
        }
        assert_eq!(lock(&policy.0).counts.len(), COUNTED_MAX);
        let asked = rules(&["ask"]);
        let strangers =
            (0..500).filter(|number| asked.count(&Peer::from(format!("s{number}@x")), start));
        assert_eq!(strangers.count(), STRANGERS_MAX as usize);
    }

    #[test]
    fn a_stranger_learns_nothing() {
        let policy = rules(&["a@x"]);
        let mut gate = policy.service();
        let offer = |from: &str| {
            let (from, to) = (Peer::from(from), Peer::from("me@z/1"));
            Message::new(
                from,
                to,
                "s",
                session_core::Dialect::JINGLE,
                Action::SessionInitiate,
            )
        };
        let now = Instant::now();
        assert_eq!(gate.admit(&offer("a@x/1"), now), Ok(()));
        assert_eq!(gate.admit(&offer("b@x/1"), now), Err(nobody()));
        let mut end = offer("b@x/1");
        end.action = Action::SessionTerminate;
        assert_eq!(
            gate.admit(&end, now),
            Ok(()),
            "the core knows whose session it is"
        );
        assert_eq!(policy.refused(), 1);
    }
}
