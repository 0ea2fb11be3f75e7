//! ICE: finds the way between two hosts (RFC 8445), as the Jingle transport of XEP-0176.
//!
//! [`IceTransportFactory`] makes transports whose channels are components: the first channel is component 1, the next
//! component 2. All channels of a transport share one agent. The agent is pure: it asks for sockets by number, gets
//! told what arrives and what time it is, and draws all its randomness from the seed of its context.
//!
//! # What it does
//! - Candidates of own addresses, as STUN servers see them, as the peer sees them, and through relays
//!   ([`RelaySource`]); told one by one as they are found (RFC 8838).
//! - A paced checklist with foundations and freezing; triggered checks replace the one in flight; regular nomination
//!   that commits early; the aggressive nomination of others is accepted, and renomination where both know it; role
//!   conflicts are settled; peers may be lite, and so may we.
//! - Consent (RFC 7675), patience (RFC 8863), restarts by either side, and by itself when a path is lost.
//! - With [`IceTransportFactory::with_tcp`]: paths over TCP where no UDP gets through (RFC 6544: active, passive and simultaneous).
//! - New and vanished addresses while it runs ([`Interfaces::update`]).
//! - Names of browsers that hide their addresses are looked up, and ours can be hidden: behind such names
//!   ([`IceConfig::hide_by_name`]), behind NATs ([`IceConfig::tell_private`]) or behind relays ([`IceConfig::relay_only`]).
//!
//! # What an attacker gets
//! A check with wrong credentials is not answered. Data is handed out only from addresses whose checks were right. How
//! many candidates, pairs and checks there are is bounded by [`IceConfig`], so that a peer cannot use this host to send
//! more than one small datagram per [`pace`](IceConfig::pace) to an address that never answered.
//!
//! ```
//! use std::net::{IpAddr, Ipv4Addr};
//! use session_core::TransportFactory;
//! use transport_p2p::ice::{IceConfig, IceTransportFactory};
//! let mut config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))]);
//! config.stun_servers.push("198.51.100.1:3478".parse().unwrap());
//! let factory = IceTransportFactory::new(config);
//! assert_eq!(factory.namespace(), "urn:xmpp:jingle:transports:ice-udp:1");
//! ```

mod agent;
mod candidate;
mod component;
mod components;
mod config;
mod description;
#[cfg(feature = "gtalk")]
mod google;
mod pair;
mod random;
mod relay;
mod report;
mod sdp;
mod seldom;
mod standalone;
mod tcp;
mod transport;
mod xml;

pub use candidate::{Candidate, CandidateKind, Credentials, Foundation, Protocol};
pub use config::{Companion, IceConfig, Interfaces};
#[cfg(feature = "gtalk")]
pub use google::GoogleIceFactory;
pub use pair::PairState;
pub use relay::{RELAY_SOCKETS_MAX, RelayFactory, RelayOutput, RelaySource};
pub use report::{PairReport, SelectedPair, Stats};
pub use sdp::{Attribute, AttributeError};
pub use standalone::{Agent, Output};
pub use transport::{ICE_0, ICE_UDP, IceTransportFactory};
