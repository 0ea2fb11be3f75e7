//! Tools to test with: a virtual network and clock, transports in memory, the suite that every transport must pass.
//!
//! Nothing here is for production, and nothing here touches a socket or a clock either: a test is a pure function of
//! its seed.
//!
//! - [`Netem`] makes a bad link of a good one; [`Network`] gives sockets to channels that ask for them.
//! - [`MemoryDatagram`] and [`MemoryStream`] are small, complete transports: to test clients with, and to read.
//! - [`World`] is two or more managers, the way of signalling between them, a network and a clock; [`Recorder`] is a
//!   client for it that writes down what it is told.
//! - [`Taped`] notes what goes into a manager and plays it again; [`strategies`] draws messages and [`Operation`]s.
//! - [`conformance()`] is for authors of transports.

pub mod conformance;
pub mod crowd;
pub mod memory;
pub mod netem;
pub mod network;
pub mod operation;
pub mod persona;
pub mod recorder;
pub mod replay;
pub mod strategies;
pub mod world;

pub use conformance::{Conformance, conformance};
pub use crowd::Crowd;
pub use memory::{MemoryDatagram, MemoryStream, Mishap};
pub use netem::{Conditions, Netem};
pub use network::{Delivery, Network, SocketKey, Tapped};
pub use operation::{Deed, Operation};
pub use recorder::{Answer, Callback, Entry, Log, Note, RECORDER_NAMESPACE, Recorder};
pub use replay::{Tape, Taped};
pub use world::{Envelope, HostSocket, Parcel, World};

use std::time::Instant;

/// An instant to begin a virtual clock at.
///
/// An [`Instant`] cannot be made from a number, so the clock is read; nothing may depend on its value but by
/// difference.
#[allow(
    clippy::disallowed_methods,
    reason = "an Instant cannot be made otherwise, and only differences to it are used"
)]
pub fn epoch() -> Instant {
    Instant::now()
}
