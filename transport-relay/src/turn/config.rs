//! Which servers, and how.

use super::{AllocationConfig, Families, Framing, SharedCredentials, source::TurnSource};
use crate::source::{RelayFactory, RelaySource};
use session_core::TlsTarget;
use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

/// How to talk to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TurnProtocol {
    /// Datagrams: what is to be preferred.
    Udp,
    /// A connection, which gets through where UDP does not.
    Tcp,
    /// A connection with TLS (`turns:` of RFC 7065), whose certificate must be for this name.
    Tls(Arc<str>),
}

impl TurnProtocol {
    /// The lower the better.
    pub(super) fn rank(&self) -> u8 {
        match self {
            Self::Udp => 0,
            Self::Tcp => 1,
            Self::Tls(_) => 2,
        }
    }

    pub(super) fn framing(&self) -> Framing {
        match self {
            Self::Udp => Framing::Datagram,
            Self::Tcp | Self::Tls(_) => Framing::Stream,
        }
    }

    pub(super) fn tls(&self) -> Option<TlsTarget> {
        match self {
            Self::Udp | Self::Tcp => None,
            // The protocol name of RFC 7443.
            Self::Tls(name) => Some(TlsTarget {
                server_name: name.clone(),
                alpn: vec!["stun.turn".into()],
            }),
        }
    }
}

impl fmt::Display for TurnProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls(_) => "tls",
        })
    }
}

/// One server by one protocol, as XEP-0215 lists them.
#[derive(Clone, Debug)]
pub struct TurnServer {
    /// Its addresses, already looked up, most preferred first. They are tried a quarter of a second apart, the families
    /// in turn (RFC 8305), and each is tried at once when the one before has failed.
    pub addresses: Vec<SocketAddr>,
    /// How to talk to it.
    pub protocol: TurnProtocol,
    /// Who we are to it.
    pub credentials: SharedCredentials,
}

impl TurnServer {
    /// A server with one address.
    pub fn new(
        address: SocketAddr,
        protocol: TurnProtocol,
        credentials: impl Into<SharedCredentials>,
    ) -> Self {
        Self {
            addresses: vec![address],
            protocol,
            credentials: credentials.into(),
        }
    }
}

/// A group of servers, of which one is to give an address: the first that does.
#[derive(Clone, Debug)]
pub struct TurnConfig {
    /// The servers, and the protocols of each. All are asked at once; who is not needed is given back what it gave.
    pub servers: Vec<TurnServer>,
    /// What relayed addresses to ask for. Default IPv4.
    pub families: Families,
    /// The lifetime to ask for. Default 10 min.
    pub lifetime: Duration,
    /// Whether what is sent by indication is not to be fragmented (RFC 8656 §15). Default no.
    pub dont_fragment: bool,
    /// How the requests that lead to an allocation are repeated over UDP.
    pub timing: crate::stun::Timing,
    /// How long to wait between the addresses of one server (RFC 8305 §5). Default 250 ms.
    pub stagger: Duration,
    /// When a server answers over TCP or TLS first, how long to wait for one over UDP, which serves better.
    /// Default 200 ms.
    pub grace: Duration,
    /// How long a connection may take to stand. Default 10 s.
    pub connect_timeout: Duration,
    /// For how long to seek another allocation when one was lost. Default 60 s.
    pub recover_for: Duration,
    /// When something was sent and nothing heard for so long, the server is asked whether it is still there.
    /// Default 3 s.
    pub probe: Duration,
    /// Attempts of one round at most: servers times addresses times our own. Default 24.
    pub attempts_max: usize,
    /// Over a connection, datagrams are dropped while more bytes than this wait to leave. Default 256 KiB.
    pub backlog_max: usize,
}

impl TurnConfig {
    /// The defaults, with these servers.
    pub fn new(servers: Vec<TurnServer>) -> Self {
        Self {
            servers,
            families: Families::default(),
            lifetime: Duration::from_secs(600),
            dont_fragment: false,
            timing: crate::stun::Timing::default(),
            stagger: Duration::from_millis(250),
            grace: Duration::from_millis(200),
            connect_timeout: Duration::from_secs(10),
            recover_for: Duration::from_secs(60),
            probe: Duration::from_secs(3),
            attempts_max: 24,
            backlog_max: 256 << 10,
        }
    }

    pub(super) fn allocation(&self, protocol: &TurnProtocol) -> AllocationConfig {
        AllocationConfig {
            families: self.families,
            lifetime: self.lifetime,
            dont_fragment: self.dont_fragment,
            timing: self.timing,
            probe: self.probe,
            ..AllocationConfig::new(protocol.framing())
        }
    }
}

/// Makes a TURN client for each component of an ICE agent.
///
/// ```
/// use transport_relay::{RelayFactory, turn::{Credentials, TurnConfig, TurnFactory, TurnProtocol, TurnServer}};
/// let server = TurnServer::new(
///     "192.0.2.1:3478".parse()?,
///     TurnProtocol::Udp,
///     Credentials::new("alice", "sesame"),
/// );
/// let factory = TurnFactory::new(TurnConfig::new(vec![server]));
/// let source = factory.create([7; 32]);
/// assert_eq!(source.poll_timeout(), None, "nothing was asked yet");
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Clone, Debug)]
pub struct TurnFactory(Arc<TurnConfig>);

impl TurnFactory {
    /// For this group of servers.
    pub fn new(config: TurnConfig) -> Self {
        Self(Arc::new(config))
    }
}

impl RelayFactory for TurnFactory {
    fn create(&self, seed: [u8; 32]) -> Box<dyn RelaySource> {
        Box::new(TurnSource::new(self.0.clone(), seed))
    }
}
