//! Transports through a relay: TURN, SOCKS5 bytestreams, in-band bytestreams.
//!
//! - `google` (feature `gtalk`): relays as Google Talk had them.
//! - [`ibb`]: in-band bytestreams, a stream through the XMPP server itself.
//! - [`s5b`]: SOCKS5 bytestreams, a TCP connection between two peers or through a proxy.
//! - [`socks5`]: as much of SOCKS5 as bytestreams need.
//! - [`stun`]: the codec and the transactions that everything between a host and a STUN or TURN server needs, and that
//!   the checks of ICE (crate `transport-p2p`) are made of.
//! - [`turn`]: addresses on TURN servers, for an ICE agent, which takes them through [`RelaySource`].

#[cfg(feature = "gtalk")]
pub mod google;
pub mod ibb;
mod random;
pub mod s5b;
pub mod socks5;
mod source;
pub mod stun;
pub mod turn;

#[cfg(any(test, fuzzing, feature = "testing"))]
#[doc(hidden)]
pub mod fuzz;

pub use source::{RELAY_SOCKETS_MAX, RelayFactory, RelayOutput, RelaySource};
