//! [`Observer`]: who looks on.

use session_core::{Input, Output, SessionManager};
use std::time::Instant;

/// Sees what an endpoint's manager and the world tell each other, and changes nothing.
///
/// # For implementers
/// An [`Endpoint`](super::Endpoint) calls it under its own lock, for every packet too: nothing may wait, and nothing may call
/// the endpoint.
#[allow(unused_variables)]
pub trait Observer: Send + 'static {
    /// The manager wants this. Datagrams and bytes of connections are not shown.
    fn output(&mut self, output: &Output) {}

    /// The manager is told this. Datagrams and bytes of connections are not shown.
    fn input(&mut self, input: &Input) {}

    /// Everything that the manager wanted is done.
    fn drained(&mut self, manager: &SessionManager, now: Instant) {}
}
