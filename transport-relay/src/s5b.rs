//! SOCKS5 bytestreams: a TCP connection between two peers, directly or through a proxy (XEP-0260, XEP-0065).
//!
//! [`S5b`] is the factory. Both sides offer candidates: addresses at which they listen themselves, and proxies. Each
//! connects to the other's, best first; both say which one they reached (`candidate-used`), and the
//! better of the two is used. A proxy is told by whom it belongs to that it may begin.
//!
//! # What peers can do to us, and what is done about it
//! - **Strangers at our listener** get nothing but a refusal: a connection must name the hash of this stream, one does,
//!   and from then on the listener and everybody else is gone.
//! - **A peer's candidates** make us connect to whatever it names. At most 16 of them are tried, never
//!   multicast or broadcast addresses, and loopback only if we listen there ourselves. Hosts by name are left out, because
//!   nothing here can look them up. Whoever hides connects to proxies alone that it knows itself
//!   ([`S5bConfig::known_proxies_only`]).
//! - **A proxy that lies**: one that says it connected to another destination is not used; [`Discovery`] takes no
//!   address that a stranger may not name, and none for another proxy than the one that was asked.
//! - **A peer that says it is connected and is not** ends this transport, and the next one is tried.
//!
//! # Ports
//! XEP-0260 has no way to add a candidate later, so that the port is drawn from a range ([`S5bConfig::ports`]) before
//! it is bound. When it is taken already, our direct candidates lead nowhere, and the peer's remain.

mod attempts;
mod candidate;
mod channel;
mod discovery;
mod pipe;
mod plan;
mod visitors;

pub use candidate::CandidateKind;
pub use discovery::{Discovery, DiscoveryError, Host, Proxy};

use crate::socks5::Destination;
use candidate::{CANDIDATES_MAX, Candidate, Said};
use channel::S5bChannel;
use plan::Plan;
use session_core::{
    Dialect, Element, ErrorStyle, InfoTarget, Peer, Role, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// The namespace of XEP-0260.
pub const NAMESPACE: &str = "urn:xmpp:jingle:transports:s5b:1";

/// The namespace of XEP-0065.
pub const BYTESTREAMS: &str = "http://jabber.org/protocol/bytestreams";

/// What we offer, and how long we try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S5bConfig {
    /// Our own addresses at which to listen, best first, to begin with ([`S5b::addresses`]). Peers are told them. Default none.
    pub listen: Vec<IpAddr>,
    /// Addresses of a router that passes on to us; port 0 is the port at which we listen. Default none.
    pub assisted: Vec<SocketAddr>,
    /// Addresses in a tunnel that leads to us; port 0 is the port at which we listen. Default none.
    pub tunnel: Vec<SocketAddr>,
    /// Whether to connect to no other place of the peer's than proxies that we [know](S5b::proxies) ourselves: whatever else it
    /// names may be its own, and learns our address. Default no.
    pub known_proxies_only: bool,
    /// The ports from which one is drawn for each stream. Default 20,000 to 32,767: below those that Linux gives to
    /// connections.
    pub ports: RangeInclusive<u16>,
    /// How long one attempt may take, from the connection to the end of the SOCKS5 handshake. Default 4 s.
    pub attempt: Duration,
    /// How long after an attempt the next one begins beside it. Default 200 ms (XEP-0260 §4).
    pub stagger: Duration,
    /// How much later proxies are tried than direct candidates. Default 300 ms.
    pub proxy_delay: Duration,
    /// How long the peer may take to say its verdict after ours, to activate a proxy. Default 20 s.
    pub verdict: Duration,
}

impl Default for S5bConfig {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            assisted: Vec::new(),
            tunnel: Vec::new(),
            known_proxies_only: false,
            ports: 20_000..=32_767,
            attempt: Duration::from_secs(4),
            stagger: Duration::from_millis(200),
            proxy_delay: Duration::from_millis(300),
            verdict: Duration::from_secs(20),
        }
    }
}

/// The proxies that are offered, shared with whoever finds them. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Proxies(Arc<Mutex<Vec<(Peer, SocketAddr)>>>);

impl Proxies {
    /// Replaces them, best first; at most 16 are kept. Streams that were offered before keep those of their time.
    pub fn set(&self, proxies: impl IntoIterator<Item = (Peer, SocketAddr)>) {
        let proxies = proxies.into_iter().take(CANDIDATES_MAX).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = proxies;
    }

    fn get(&self) -> Vec<(Peer, SocketAddr)> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Our own addresses at which new streams listen, shared with whoever knows when they change. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Addresses(Arc<Mutex<Arc<[IpAddr]>>>);

impl Addresses {
    /// Replaces them, best first; at most 16 are kept. Streams that were offered before keep those of their time.
    pub fn set(&self, addresses: impl IntoIterator<Item = IpAddr>) {
        let addresses = addresses.into_iter().take(CANDIDATES_MAX).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = addresses;
    }

    fn get(&self) -> Arc<[IpAddr]> {
        Arc::clone(&self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The factory of SOCKS5 bytestreams.
#[derive(Clone, Debug, Default)]
pub struct S5b {
    config: Arc<S5bConfig>,
    addresses: Addresses,
    proxies: Proxies,
}

impl S5b {
    /// With this configuration, and no proxies yet.
    pub fn new(config: S5bConfig) -> Self {
        let addresses = Addresses::default();
        addresses.set(config.listen.iter().copied());
        Self {
            config: Arc::new(config),
            addresses,
            proxies: Proxies::default(),
        }
    }

    /// Our addresses that it offers: to be set when there are others.
    pub fn addresses(&self) -> Addresses {
        self.addresses.clone()
    }

    /// The proxies that it offers: to be set when they are found.
    pub fn proxies(&self) -> Proxies {
        self.proxies.clone()
    }

    fn candidates(
        &self,
        context: &TransportContext,
        listen: &[IpAddr],
        port: u16,
    ) -> Vec<Candidate> {
        let config = &self.config;
        let own = |address: &SocketAddr| match address.port() {
            0 => SocketAddr::new(address.ip(), port),
            _ => *address,
        };
        let direct = listen.iter().map(|ip| SocketAddr::new(*ip, port));
        let here = context.local.clone();
        let groups = [
            (CandidateKind::Direct, direct.collect::<Vec<_>>()),
            (
                CandidateKind::Assisted,
                config.assisted.iter().map(own).collect(),
            ),
            (
                CandidateKind::Tunnel,
                config.tunnel.iter().map(own).collect(),
            ),
        ];
        let proxies = self.proxies.get();
        let own = groups.into_iter().flat_map(|(kind, addresses)| {
            let named = addresses.into_iter().map(|address| (here.clone(), address));
            named
                .enumerate()
                .map(move |item| (kind, item))
                .collect::<Vec<_>>()
        });
        let proxies = proxies.into_iter().enumerate();
        let all = own.chain(proxies.map(|item| (CandidateKind::Proxy, item)));
        let salt = u16::from_be_bytes([context.seed[18], context.seed[19]]);
        let id = hex(&context.seed[20..24]);
        all.take(CANDIDATES_MAX)
            .enumerate()
            .map(|(number, (kind, (index, (jid, address))))| Candidate {
                cid: format!("{id}-{number}").into(),
                address,
                jid,
                priority: Candidate::priority(kind, index, salt, context.role),
                kind,
            })
            .collect()
    }
}

impl TransportFactory for S5b {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Streaming
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        let draw = u16::from_be_bytes([context.seed[16], context.seed[17]]);
        let (first, last) = (*self.config.ports.start(), *self.config.ports.end());
        let span = u32::from(last.saturating_sub(first)) + 1;
        let port = first.saturating_add((u32::from(draw) % span) as u16);
        let listen = self.addresses.get();
        Box::new(S5bTransport {
            plan: Plan {
                config: Arc::clone(&self.config),
                role: context.role,
                local: context.local.clone(),
                remote: context.remote.clone(),
                account: None,
                port,
                candidates: self.candidates(context, &listen, port).into(),
                listen,
                sid: match context.role {
                    Role::Initiator => Some(hex(&context.seed[..16]).into()),
                    Role::Responder => None,
                },
            },
            theirs: None,
            has_channel: false,
        })
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        dialect.errors == ErrorStyle::Jingle
    }
}

struct S5bTransport {
    plan: Plan,
    theirs: Option<Said>,
    has_channel: bool,
}

impl S5bTransport {
    /// The head of everything that we say.
    fn transport(&self) -> Element {
        let sid = self.plan.sid.as_deref();
        Element::new(NAMESPACE, "transport").with_opt("sid", sid)
    }

    fn with_candidates(&self) -> Element {
        let candidates = &self.plan.candidates;
        let has_proxy = candidates.iter().any(|c| c.kind == CandidateKind::Proxy);
        let destination = self.plan.own_destination().filter(|_| has_proxy);
        self.transport()
            .with("mode", "tcp")
            .with_opt("dstaddr", destination.as_ref().map(Destination::as_str))
            .children_from(candidates.iter().map(Candidate::to_element))
    }
}

impl Transport for S5bTransport {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn offer(&mut self) -> Element {
        self.with_candidates()
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        let said = Said::from_element(offer)?;
        self.plan.sid = Some(said.sid.clone());
        self.theirs = Some(said);
        Ok(self.with_candidates())
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        let said = Said::from_element(answer)?;
        self.plan.check(&said)?;
        self.theirs = Some(said);
        Ok(())
    }

    fn handle_remote(&mut self, remote: &Peer) {
        self.plan.adopt(remote);
    }

    /// There is one: a stream is a connection.
    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        if self.has_channel {
            let why = format!("a SOCKS5 bytestream carries one channel, and {name:?} is another");
            return Err(TransportError::NoResource(why.into()));
        }
        self.has_channel = true;
        let theirs = self.theirs.clone();
        Ok(Box::new(S5bChannel::new(self.plan.clone(), theirs)))
    }

    fn wrap_info(&mut self, infos: Vec<(Arc<str>, Element)>) -> Element {
        self.transport()
            .children_from(infos.into_iter().map(|(_, info)| info))
    }

    /// The whole, which the channel understands as a whole or not at all.
    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        Said::from_element(info)?;
        Ok(vec![(InfoTarget::All, info.clone())])
    }
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        let _ = write!(text, "{byte:02x}");
    }
    text
}
