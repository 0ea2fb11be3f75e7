//! TURN (RFC 8656): an address on a server, for those who cannot be reached at their own.
//!
//! - [`TurnFactory`] is what an ICE agent takes. The [`TurnSource`] that it makes asks all servers of a [`TurnConfig`]
//!   at once, over UDP, TCP and TLS; takes the first that gives an address and gives back the others'; and seeks another
//!   when the address is lost.
//! - [`Allocation`] is one allocation on one server, without sockets: messages in, messages out. It logs in with
//!   long-term credentials, refreshes, permits, binds channels, and notices when the server has forgotten it.
//! - [`DataConnection`] is a connection to a peer through an allocation of [`Relayed::Connections`] (RFC 6062).
//! - [`Frame`] and [`Deframer`] are what stands in datagrams and streams.
//!
//! # What an attacker gets
//! A server learns who talks to whom and when, and sees the data: what must be secret has to be encrypted by whoever
//! sends it. A server that lies about addresses makes peers send to them what ICE sends to any candidate, and no more.
//! Peers that were not permitted are not heard, whatever the server passes on. Credentials are shown by no `Debug` and
//! no error.

mod allocation;
mod config;
mod credentials;
mod frame;
mod random;
mod source;
mod wire;

pub use allocation::{
    Allocation, AllocationConfig, AllocationOutput, DataConnection, DataOutput, Families, Framing,
    Relayed, TurnError,
};
pub use config::{TurnConfig, TurnFactory, TurnProtocol, TurnServer};
pub use credentials::{Credentials, SharedCredentials};
pub use frame::{
    CHANNEL_HEADER, CHANNEL_NUMBERS, Deframer, FRAME_MAX, Frame, FrameError, write_channel_data,
};
pub use source::TurnSource;
