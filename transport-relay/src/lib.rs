//! Transports through a relay: TURN, SOCKS5 bytestreams, in-band bytestreams.
//!
//! - [`stun`]: the codec and the transactions that everything between a host and a STUN or TURN server needs, and that
//!   the checks of ICE (crate `transport-p2p`) are made of.
//! - [`turn`]: addresses on TURN servers, for an ICE agent, which takes them through [`RelaySource`].

mod source;
pub mod stun;
pub mod turn;

pub use source::{RELAY_SOCKETS_MAX, RelayFactory, RelayOutput, RelaySource};
