//! A session's messages in each vocabulary: `<jingle/>` (XEP-0166) and `<session/>` (libjingle's own), to and from
//! [`Message`].
//!
//! Readers are tolerant where live peers are known to be careless, and answer the rest with a typed [`PeerError`].
//! Writers are strict: they write what the specifications define, and what a vocabulary has no words for is an
//! [`EncodeError`] rather than a stanza that means something else.
//!
//! # Which dialect a message is in
//! `<jingle/>` is [`Dialect::JINGLE`], also beside a `<session/>` (the hybrid form), which is then ignored. A message is
//! never read as [`Dialect::HYBRID`].
//!
//! The variants of `<session/>` share most of their words. [`Message::dialect`] is the variant that the message *shows*,
//! so that [`Dialect::settles_into`] can tell when a session has to change its way of speaking:
//!
//! | `type` | dialect | because |
//! |---|---|---|
//! | `initiate` with a transport | `gtalk` | only libjingle 0.4 offers transports |
//! | `initiate` without one, or with a description of video | `gtalk-late` | 0.5 and later, and the speakers alive. The pre-transport clients of 2005 wrote the same; what they do not know (a redirect in an error reply) ends their session in order |
//! | `transport-info`, `transport-accept`, `redirect` | `gtalk` | only 0.4 has them |
//! | `candidates` | `gtalk-compat` | transports play no part; a `gtalk` session goes on in that form |
//! | `accept`, `reject`, `terminate`, `info`, `update` | `gtalk-late` | they look the same in all variants and tell nothing: no variant but the undecided hybrid settles into it |

mod gtalk;
mod hybrid;
mod jingle;
mod reason;

pub(crate) use reason::read as read_reason;

use session_core::{Dialect, Element, ElementRef, Message, Peer, PeerError};

use crate::xml::{WriteError, Writer};
use crate::{address, ns};

/// Why something cannot be written. The buffer is as it was.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EncodeError {
    /// The vocabulary has no words for it.
    #[error("the {dialect} dialect cannot say this: {what}")]
    Cannot {
        /// The dialect.
        dialect: &'static str,
        /// What it cannot say.
        what: &'static str,
    },
    /// A field is missing or has a value that it cannot have.
    #[error("{field}: {problem}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A name or a character that XML cannot carry.
    #[error(transparent)]
    Xml(#[from] WriteError),
}

/// The message in a request of type `set`, if it carries one; an error with the dialect in which to refuse it.
pub(crate) fn read(
    iq: &Element,
    from: &Peer,
    to: &Peer,
) -> Option<Result<Message, (PeerError, &'static Dialect)>> {
    let mut google = None;
    for child in iq.children() {
        if child.is(ns::JINGLE, "jingle") {
            return Some(jingle::read(child, from, to).map_err(|error| (error, Dialect::JINGLE)));
        }
        if google.is_none() && child.is(ns::GOOGLE_SESSION, "session") {
            google = Some(child);
        }
    }
    google
        .map(|session| gtalk::read(session, from, to).map_err(|error| (error, Dialect::GTALK_LATE)))
}

/// Whether the message can be said in its dialect.
pub(crate) fn check(message: &Message) -> Result<(), EncodeError> {
    match Vocabulary::of(message.dialect) {
        Vocabulary::Jingle => jingle::check(message, message.action),
        Vocabulary::Google => gtalk::check(message, message.dialect),
        Vocabulary::Both => hybrid::check(message),
    }
}

/// Writes what goes into the request. To be called only for what [`check`] has passed.
pub(crate) fn write<'a>(message: &'a Message, writer: &mut Writer<'a>) {
    match Vocabulary::of(message.dialect) {
        Vocabulary::Jingle => jingle::write(message, message.action, writer),
        Vocabulary::Google => gtalk::write(message, message.dialect, writer),
        Vocabulary::Both => hybrid::write(message, writer),
    }
}

/// Which words a dialect uses.
enum Vocabulary {
    Jingle,
    Google,
    Both,
}

impl Vocabulary {
    fn of(dialect: &Dialect) -> Self {
        if *dialect == *Dialect::JINGLE {
            Self::Jingle
        } else if *dialect == *Dialect::HYBRID {
            Self::Both
        } else {
            Self::Google
        }
    }
}

/// Whom an attribute names. What is no address is taken as absent: the field is only a hint.
fn hint(element: ElementRef<'_>, key: &str, known: [&Peer; 2]) -> Option<Peer> {
    let text = element.attribute(key)?;
    let same = known.into_iter().find(|peer| peer.as_str() == text);
    same.cloned().or_else(|| address::parse(text).ok())
}

fn missing(field: &'static str) -> PeerError {
    PeerError::Malformed {
        field,
        problem: "is missing",
    }
}

fn required(field: &'static str) -> EncodeError {
    EncodeError::Invalid {
        field,
        problem: "is missing",
    }
}

/// That an element has the name under which it will be looked for.
fn check_name(element: Option<&Element>, name: &'static str) -> Result<(), EncodeError> {
    match element {
        Some(element) if element.name() != name => Err(EncodeError::Invalid {
            field: name,
            problem: "is an element of another name",
        }),
        Some(_) | None => Ok(()),
    }
}
