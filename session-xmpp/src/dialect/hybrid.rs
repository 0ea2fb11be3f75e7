//! Both vocabularies in one request, until the peer's first message shows which it speaks (libjingle 0.5 and later).
//!
//! Only the messages that may come before that answer are written twice: the offer, candidates and the endings. The
//! others are Jingle. RFC 6120 §8.2.3 allows one child in a request, and several servers refuse two.

use session_core::{Action, Dialect, Message};

use super::{EncodeError, gtalk, jingle};
use crate::xml::Writer;

/// Whether the message can be said in all the vocabularies that it is to be said in.
pub(super) fn check(message: &Message) -> Result<(), EncodeError> {
    jingle::check(message, jingle_action(message.action))?;
    if is_twofold(message.action) {
        gtalk::check(message, Dialect::HYBRID)
    } else {
        Ok(())
    }
}

/// Writes `<jingle/>`, and after it, where both are wanted, `<session/>`.
pub(super) fn write<'a>(message: &'a Message, writer: &mut Writer<'a>) {
    jingle::write(message, jingle_action(message.action), writer);
    if is_twofold(message.action) {
        gtalk::write(message, Dialect::HYBRID, writer);
    }
}

fn is_twofold(action: Action) -> bool {
    matches!(
        action,
        Action::SessionInitiate | Action::TransportInfo | Action::SessionTerminate | Action::Reject
    )
}

/// Jingle has no `reject`.
fn jingle_action(action: Action) -> Action {
    if action == Action::Reject {
        Action::SessionTerminate
    } else {
        action
    }
}
