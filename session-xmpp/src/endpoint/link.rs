//! [`Link`]: a way to exchange stanzas.

use bytes::Bytes;
use session_core::Peer;
use std::{
    sync::Arc,
    task::{Context, Poll},
};

/// A way to exchange stanzas: a login at a server, or a [`Router`](super::Router) in the same process.
///
/// # For implementers
/// An [`Endpoint`](super::Endpoint) calls all of it under its own lock: nothing may wait, and nothing may call the
/// endpoint. A link with tasks of its own keeps two bounded queues, and these methods work on their ends.
pub trait Link: Send + 'static {
    /// Takes one stanza, to be sent as soon as it can be.
    ///
    /// # Errors
    /// The stanza was not taken; see [`LinkError`].
    fn send(&mut self, stanza: Bytes) -> Result<(), LinkError>;

    /// What happens next. `None` when the link has ended for good.
    ///
    /// When pending, the waker of the last call is to be woken.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>>;

    /// Sends what was taken and ends the link in an orderly way. Called until it is ready, and nothing after that.
    ///
    /// A link that is dropped without this sends what was taken if it can.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

/// What happens on a [`Link`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkEvent {
    /// Stanzas can be sent, under this address of ours. It may be another one each time, and then the sessions of the
    /// last one are over.
    Up(Peer),
    /// Stanzas cannot be sent, for this reason, until the next [`Up`](Self::Up).
    Down(Arc<str>),
    /// The connection is lost, but the login lasts (XEP-0198): stanzas are taken, and arrive after [`Resumed`](Self::Resumed).
    /// Until then, or until [`Up`](Self::Up) or [`Down`](Self::Down), nobody can answer.
    Suspended,
    /// The login that was suspended goes on, and nothing was lost.
    Resumed,
    /// A stanza arrived: one element, as it would stand in a stream of the namespace `jabber:client`.
    Stanza(Bytes),
}

/// Why a [`Link`] did not take a stanza.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// The link is down. What is said now is lost, as what is under way.
    #[error("the link is down")]
    Down,
    /// Too much waits to be sent.
    #[error("too much waits to be sent")]
    Full,
}
