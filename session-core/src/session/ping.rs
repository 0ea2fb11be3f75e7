//! Whether the peer still has the session (XEP-0166 §6.8).

use super::{Outgoing, Pending, Session, SessionEvent};
use crate::{Action, Message, Misuse, StanzaError};
use std::time::Instant;

/// What came of a [`Session::ping`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pong {
    /// The peer has answered. An error counts, too, unless it says that nobody is there: clients that do not know the
    /// question say so.
    Here,
    /// A server has answered in the peer's stead: there is no such device any more ([`StanzaError::is_unreachable`]).
    Gone(StanzaError),
    /// Nobody has answered for [`Clocks::answer`](crate::Clocks::answer). A server that waits for its client to come back
    /// (XEP-0198) looks the same, and so does a network that is gone for a while.
    Silent,
}

impl Session {
    /// Asks whether the peer still has the session, by a session-info without a payload (XEP-0166 §6.8). What comes of
    /// it is told by [`SessionClient::on_pong`](crate::SessionClient::on_pong), once. A peer that does not know the
    /// session any more (`unknown-session`) ends it instead, with [`Cause::Refused`](crate::Cause::Refused).
    ///
    /// While an earlier one is under way nothing more is sent, so that it may be called as often as there is reason to:
    /// without a link to the server no questions pile up.
    ///
    /// # Errors
    /// [`Misuse`] before the offer and after the end.
    pub fn ping(&mut self, now: Instant) -> Result<(), Misuse> {
        let waits = self.outbox.iter().any(|outgoing| match outgoing {
            Outgoing::Message(message, _) => is_ping(message),
            Outgoing::Request { .. } => false,
        });
        if waits || self.pending.iter().any(|pending| pending.ping) {
            return Ok(());
        }
        self.send_info(Vec::new(), now)
    }

    /// Tells what came of a ping, if it was one: `answer` is what came back, `None` when nothing did.
    pub(super) fn ponged(&mut self, asked: &Pending, answer: Option<Result<(), &StanzaError>>) {
        if !asked.ping || self.state.is_ended() {
            return;
        }
        let pong = match answer {
            Some(Err(error)) if error.is_unreachable() => Pong::Gone(error.clone()),
            Some(Ok(()) | Err(_)) => Pong::Here,
            None => Pong::Silent,
        };
        self.stir();
        self.events.push_back(SessionEvent::Pong(pong));
    }
}

pub(super) fn is_ping(message: &Message) -> bool {
    message.action == Action::SessionInfo && message.extra.is_empty()
}
