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
//! # A server of one's own
//! Between two symmetric NATs, or from behind a firewall without UDP, there is no direct path. coturn with this
//! `/etc/turnserver.conf` is a relay (the tests run one: `cargo test -p transport-relay --test coturn --test relayed`):
//!
//! ```text
//! listening-port=3478
//! tls-listening-port=5349
//! realm=example.org
//! use-auth-secret
//! static-auth-secret=CHANGE-ME
//! cert=/etc/ssl/turn.example.org/fullchain.pem
//! pkey=/etc/ssl/turn.example.org/key.pem
//! stale-nonce=600
//! no-cli
//! no-multicast-peers
//! denied-peer-ip=0.0.0.0-0.255.255.255
//! denied-peer-ip=10.0.0.0-10.255.255.255
//! denied-peer-ip=100.64.0.0-100.127.255.255
//! denied-peer-ip=127.0.0.0-127.255.255.255
//! denied-peer-ip=169.254.0.0-169.254.255.255
//! denied-peer-ip=172.16.0.0-172.31.255.255
//! denied-peer-ip=192.0.0.0-192.0.0.255
//! denied-peer-ip=192.168.0.0-192.168.255.255
//! denied-peer-ip=198.18.0.0-198.19.255.255
//! denied-peer-ip=240.0.0.0-255.255.255.255
//! denied-peer-ip=::-::1
//! denied-peer-ip=::ffff:0:0-::ffff:ffff:ffff
//! denied-peer-ip=64:ff9b::-64:ff9b::ffff:ffff
//! denied-peer-ip=fc00::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff
//! denied-peer-ip=fe80::-febf:ffff:ffff:ffff:ffff:ffff:ffff:ffff
//! ```
//!
//! Without the denied ranges, everybody with a password reaches through the relay whatever the relay itself reaches: the
//! services of its own host and network, and what a cloud tells its machines at 169.254.169.254. Peers that are to meet
//! inside such a network need their range taken out.
//!
//! Behind a NAT add `external-ip=PUBLIC/PRIVATE`. The secret makes passwords that end by themselves
//! ([`Credentials::rest`]). An XMPP server that knows it hands them out by XEP-0215; Prosody with `turn_external` in
//! `modules_enabled` and:
//!
//! ```text
//! turn_external_host = "turn.example.org"
//! turn_external_secret = "CHANGE-ME"
//! turn_external_tcp = true
//! ```
//!
//! Name the server once for each protocol: all are asked at once, and UDP is preferred. For an ICE agent, push
//! `Arc::new(TurnFactory::new(TurnConfig::new(vec![udp, tcp, tls])))` onto the relays of its `IceConfig`, whose
//! `relay_only` keeps the peer from learning own addresses.
//!
//! # What of TURN is not here, and why
//! - **Mobility** (RFC 8016): a ticket moves an allocation to another address of ours. When ours is gone, the allocation is
//!   given up and another sought, and ICE goes on with its address: that works with every server, takes two round trips
//!   more, and reveals to nobody but the relay that both are the same client. coturn has it switched off unless it is told
//!   otherwise.
//! - **Authorization by a third party** (RFC 7635): an OAuth token instead of a password. No XMPP server hands such out;
//!   what XEP-0215 brings are passwords that end by themselves, which do the same for us. A server that accepts nothing else
//!   refuses the credentials, and says so.
//! - **Data over DTLS**: relays over UDP see who talks to whom as those over TLS do, and what is said is encrypted between
//!   the peers.
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
