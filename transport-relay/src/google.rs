//! Relays as Google Talk had them before TURN was a standard, for the dialects of Google Talk.
//!
//! [`GoogleRelayFactory`] is what Google's ICE agent takes. The [`GoogleRelaySource`] that it makes asks a relay's web
//! server for a session, where a token opens it, then allocates over UDP, TCP, and TCP that begins as if it were TLS: one
//! after the other, until one answers. What `google:jingleinfo` tells is what a [`GoogleRelay`] is made of.
//!
//! # The protocol (libjingle p2p/base/relayport.cc, p2p/client/httpportallocator.cc)
//! It is an early draft of TURN. Whoever knows the user name has the allocation: nothing is sealed. What is for the relay
//! itself is marked by a magic cookie, the first attribute of every message. Data travels in Send requests and Data
//! indications until both sides have agreed on one peer, the *lock*; from then on it travels as it is. Peers ask first by
//! a STUN request that begins with the user name, which is therefore the name of the relayed candidate
//! ([`RelaySource::username`]).
//!
//! # What is not secret
//! The relay learns everything, anybody on the way to it the user name, and with it the place of whom it belongs to.
//! TURN is better wherever there is one.

mod framing;
mod session;
mod source;
mod wire;

pub use framing::{
    CLIENT_HELLO, FRAME_MAX, NotARelay, SERVER_HELLO, Unframed, Unframer, write_frame,
};
pub use session::{RelaySession, SessionError};
pub use source::GoogleRelaySource;
pub use wire::MAGIC_COOKIE;

use crate::{
    source::{RelayFactory, RelaySource},
    stun::Timing,
};
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

/// The port of a relay's web server.
pub const HTTP_PORT: u16 = 80;

/// How bytes get to a relay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GoogleProtocol {
    /// Datagrams.
    Udp,
    /// A connection, with the length before each message.
    Tcp,
    /// The same after a handshake that looks like one of TLS, and is none: it gets through firewalls, and hides nothing.
    SslTcp,
}

/// A relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoogleRelay {
    /// Its name, which its web server wants to hear.
    pub name: Arc<str>,
    /// Its web server, already looked up, best first.
    pub web: Vec<SocketAddr>,
    /// Where it takes allocations, best first: used as they stand where nobody has to be asked for a session, and else
    /// where the session names no address of its own.
    pub ways: Vec<(GoogleProtocol, SocketAddr)>,
}

/// What opens relays.
#[derive(Clone, PartialEq, Eq)]
pub enum GoogleAccess {
    /// Nothing: any user name is taken, as by libjingle's own relay server.
    Open,
    /// A token, for which a relay's web server gives a session (`google:jingleinfo`).
    Token(Arc<str>),
}

impl fmt::Debug for GoogleAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::Token(_) => "Token(..)",
        })
    }
}

/// Which relays, and how long to wait for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GoogleRelayConfig {
    /// The relays, best first.
    pub relays: Vec<GoogleRelay>,
    /// What opens them.
    pub access: GoogleAccess,
    /// How long a web server may take for one answer. Default 5 s.
    pub session_timeout: Duration,
    /// How often web servers are asked in all, in turn. Default 5.
    pub session_tries: u32,
    /// How requests over UDP are repeated. Default 200 ms, five times.
    pub timing: Timing,
    /// How long a connection may take to stand, and to be answered on. Default 3 s.
    pub connection_timeout: Duration,
    /// How long after one way the next is tried beside it. Default 1 s.
    pub stagger: Duration,
    /// Ways that are tried at most. Default 12.
    pub ways_max: usize,
    /// How often an allocation that was lost is replaced. Default 3.
    pub recoveries: u32,
    /// Over a connection, datagrams are dropped while more bytes than this wait to leave. Default 256 KiB.
    pub backlog_max: usize,
}

impl GoogleRelayConfig {
    /// The defaults, with these relays.
    pub fn new(relays: Vec<GoogleRelay>, access: GoogleAccess) -> Self {
        Self {
            relays,
            access,
            session_timeout: Duration::from_secs(5),
            session_tries: 5,
            timing: Timing {
                rto: Duration::from_millis(200),
                requests: 5,
                last: 8,
            },
            connection_timeout: Duration::from_secs(3),
            stagger: Duration::from_secs(1),
            ways_max: 12,
            recoveries: 3,
            backlog_max: 256 << 10,
        }
    }
}

/// Makes a client of Google's relays for each channel.
#[derive(Clone, Debug)]
pub struct GoogleRelayFactory(Arc<GoogleRelayConfig>);

impl GoogleRelayFactory {
    /// For these relays.
    pub fn new(config: GoogleRelayConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl RelayFactory for GoogleRelayFactory {
    fn create(&self, seed: [u8; 32]) -> Box<dyn RelaySource> {
        Box::new(GoogleRelaySource::new(self.0.clone(), seed))
    }
}
