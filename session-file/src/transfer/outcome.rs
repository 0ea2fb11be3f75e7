//! Which file, which way, and how it ended.

use crate::HashAlgorithm;
use session_core::{Cause, Reason, ReasonCondition, SessionId};
use std::{fmt, sync::Arc};
use thiserror::Error;

/// Which file: a content of a session.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId {
    /// The session.
    pub session: SessionId,
    /// The content's name.
    pub content: Arc<str>,
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of session {}", self.content, self.session)
    }
}

/// Which way a file goes, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// We send it.
    Send,
    /// We receive it.
    Receive,
}

/// What the hash said of a file that arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Integrity {
    /// It has the hash that the peer named.
    Verified(HashAlgorithm),
    /// What arrived now has the hash that the peer named for this part. What is in front of it was not compared: the
    /// peer did not name the hash of the whole, or we did not give the hasher of what we have.
    Part(HashAlgorithm),
    /// The peer named none that we could compare, but the stream was encrypted within itself (XEP-0391), and its tag says
    /// that all of it is what the peer has encrypted.
    Authenticated,
    /// The peer named none that we could compare.
    Unverified,
}

/// Why a file did not arrive, or was not sent.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// The peer sent more than it had announced, or than we take.
    #[error("more than {0} bytes were sent")]
    TooMuch(u64),
    /// The stream ended before the file.
    #[error("the stream ended after {received} of {expected} bytes")]
    TooLittle {
        /// Bytes that arrived, or left.
        received: u64,
        /// Bytes that were announced.
        expected: u64,
    },
    /// What arrived is not what the peer named the hash of.
    #[error("the {0} is another than the peer named")]
    WrongHash(HashAlgorithm),
    /// What was sent is not what the hash was named of, or not what was sent before, when all of it was sent again.
    #[error("the file is another than the one that was offered")]
    Changed,
    /// What arrived encrypted within the stream (XEP-0391) is not what the peer has encrypted, or its tag is missing. None
    /// of it may be used.
    #[error("what arrived is not what the other side has encrypted")]
    Forged,
    /// The rest of an encrypted file arrived as it should, but the peer named no hash of the whole, and nothing else proves
    /// what is in front of the rest: its tag never came. None of it may be used.
    #[error("nothing proves what had arrived of the encrypted file before")]
    Unproven,
    /// Nothing would protect it on its way ([`FileConfig::plaintext`](crate::FileConfig::plaintext)). No byte of it has
    /// passed.
    #[error("nothing would protect it on its way")]
    Unprotected,
    /// The peer answered with a part that was not asked for.
    #[error("the peer answered with another part of the file")]
    WrongRange,
    /// It was declined before it began, by either side.
    #[error("declined{}", why(.0))]
    Declined(Option<Reason>),
    /// It was taken out of the session, by either side.
    #[error("aborted{}", why(.0))]
    Aborted(Option<Reason>),
    /// The session ended.
    #[error("{0}")]
    Session(Cause),
}

fn why(reason: &Option<Reason>) -> String {
    reason
        .as_ref()
        .map_or_else(String::new, |reason| format!(": {reason}"))
}

/// How a transfer ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte was received.
    Received(Integrity),
    /// Sent. `confirmed` when the peer's application said that it has it, and not only its transport.
    Sent {
        /// Whether the peer said so.
        confirmed: bool,
    },
    /// It did not come to that.
    Failed(Fault),
}

/// What the peer is told when a transfer fails here.
pub(crate) fn reason_of(fault: &Fault) -> Reason {
    let text = |condition| Reason::new(condition).with_text(fault.to_string());
    match fault {
        Fault::TooMuch(_) => Reason {
            text: Some(fault.to_string().into()),
            ..crate::file_too_large()
        },
        Fault::TooLittle { .. } | Fault::WrongHash(_) | Fault::Changed => {
            text(ReasonCondition::MediaError)
        }
        Fault::Forged | Fault::Unproven | Fault::Unprotected => {
            text(ReasonCondition::SecurityError)
        }
        Fault::WrongRange => text(ReasonCondition::IncompatibleParameters),
        Fault::Declined(Some(reason)) | Fault::Aborted(Some(reason)) => reason.clone(),
        Fault::Declined(None) => Reason::new(ReasonCondition::Decline),
        Fault::Aborted(None) | Fault::Session(_) => Reason::new(ReasonCondition::Cancel),
    }
}

/// What a reader is told.
pub(super) fn cause_of(fault: &Fault) -> Cause {
    match fault {
        Fault::Session(cause) => cause.clone(),
        Fault::Declined(reason) | Fault::Aborted(reason) => Cause::Remote(reason.clone()),
        Fault::TooMuch(_)
        | Fault::TooLittle { .. }
        | Fault::WrongHash(_)
        | Fault::Changed
        | Fault::Forged
        | Fault::Unproven
        | Fault::Unprotected
        | Fault::WrongRange => Cause::Local(reason_of(fault)),
    }
}
