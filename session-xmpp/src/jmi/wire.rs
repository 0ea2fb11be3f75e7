//! What messages say about calls.

use super::JMI;
use crate::{address, dialect, ns, stanza::Envelope};
use session_core::{Element, ElementRef, Peer, Reason};
use std::sync::Arc;

/// Versions 0.4 and 0.5.
const JMI_1: &str = "urn:xmpp:jingle-message:1";
/// Copies for other devices (XEP-0280).
const CARBONS: &str = "urn:xmpp:carbons:2";
const FORWARD: &str = "urn:xmpp:forward:0";
/// For the archive (XEP-0334).
const HINTS: &str = "urn:xmpp:hints";

/// How the ids of our messages begin, and those of proposals.
const PREFIX: &str = "jm-";
const PROPOSAL: &str = "jm-propose-";

/// Descriptions that are read of one proposal.
const DESCRIPTIONS_MAX: usize = 8;

/// What is done with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Propose,
    Ringing,
    Proceed,
    Accept,
    Reject,
    Retract,
    Finish,
}

const VERBS: &[(&str, Verb)] = &[
    ("propose", Verb::Propose),
    ("ringing", Verb::Ringing),
    ("proceed", Verb::Proceed),
    ("accept", Verb::Accept),
    ("reject", Verb::Reject),
    ("retract", Verb::Retract),
    ("finish", Verb::Finish),
];

impl Verb {
    fn name(self) -> &'static str {
        let found = VERBS.iter().find(|(_, verb)| *verb == self);
        found.map_or("", |(name, _)| name)
    }
}

/// What a message says.
#[derive(Clone, Debug)]
pub(super) struct Said {
    pub(super) verb: Verb,
    pub(super) id: Arc<str>,
    pub(super) from: Peer,
    pub(super) to: Peer,
    pub(super) descriptions: Vec<Element>,
    pub(super) reason: Option<Reason>,
    pub(super) tie_break: bool,
    pub(super) migrated: Option<Arc<str>>,
}

impl Said {
    /// Reads a message for `own`, or a carbon in it. Only our own account sends carbons: anybody else's would be a forgery
    /// (XEP-0280 §11).
    pub(super) fn read(message: &Envelope, own: &Peer) -> Option<Self> {
        if !message.is_message() || message.kind() == Some("error") {
            return None;
        }
        let carbon = message.stanza.children().find(|child| {
            child.namespace() == CARBONS && matches!(child.name(), "received" | "sent")
        });
        let Some(carbon) = carbon else {
            let (from, to) = (message.from.clone(), message.to.clone());
            return Self::of(message.stanza.view(), from, to);
        };
        if message.from.as_str() != own.account() {
            return None;
        }
        let inner = carbon
            .find(FORWARD, "forwarded")?
            .find(ns::CLIENT, "message")?;
        let from = address::parse(inner.attribute("from")?).ok()?;
        let to = address::parse(inner.attribute("to")?).ok()?;
        Self::of(inner, from, to)
    }

    fn of(message: ElementRef<'_>, from: Peer, to: Peer) -> Option<Self> {
        let element = message
            .children()
            .find(|child| matches!(child.namespace(), JMI | JMI_1))?;
        let (_, verb) = *VERBS.iter().find(|(name, _)| *name == element.name())?;
        let own = |name| element.find(element.namespace(), name);
        let descriptions = element
            .children()
            .filter(|child| child.name() == "description");
        let reason = element.find(ns::JINGLE, "reason");
        let migrated = own("migrated").and_then(|migrated| migrated.attribute("to"));
        Some(Self {
            verb,
            id: element.attribute("id")?.into(),
            from,
            to,
            descriptions: descriptions
                .take(DESCRIPTIONS_MAX)
                .map(ElementRef::detach)
                .collect(),
            reason: reason.and_then(dialect::read_reason),
            tie_break: own("tie-break").is_some(),
            migrated: migrated.map(Into::into),
        })
    }
}

/// The call whose proposal came back as an error. Such an error need not repeat what it is about (RFC 6120 §8.3.1), but has
/// its id.
pub(super) fn bounced(message: &Envelope) -> Option<&str> {
    if !message.is_message() || message.kind() != Some("error") {
        return None;
    }
    message.stanza.attribute("id")?.strip_prefix(PROPOSAL)
}

/// A message that says this.
pub(super) fn message(verb: Verb, id: &str, to: &Peer, parts: Vec<Element>) -> Element {
    let said = Element::new(JMI, verb.name()).with("id", id);
    Element::new(ns::CLIENT, "message")
        .with("type", "chat")
        .with("to", to.as_str())
        .with("id", format!("{PREFIX}{}-{id}", verb.name()))
        .child(said.children_from(parts))
        .child(Element::new(HINTS, "store"))
}

/// A reason as an element of its own.
pub(super) fn reason(reason: &Reason) -> Element {
    let condition = Element::new(ns::JINGLE, reason.condition.as_str());
    let text = reason.text.as_deref();
    let text = text.map(|text| Element::new(ns::JINGLE, "text").text(text));
    Element::new(ns::JINGLE, "reason")
        .child(condition)
        .children_from(text)
}
