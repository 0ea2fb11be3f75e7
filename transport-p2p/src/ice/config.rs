//! What an application can choose.

use super::relay::RelayFactory;
use crate::stun::Timing;
use session_core::{Element, TransportContext, TransportError};
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering},
    },
    task::Waker,
    time::Duration,
};

/// Everything that can be chosen about an agent. The limits are named here too.
#[derive(Clone)]
pub struct IceConfig {
    /// The addresses of this host, most preferred first of each family. May be changed while agents run.
    pub interfaces: Interfaces,
    /// STUN servers; all are asked at once, from each address of the same family.
    pub stun_servers: Vec<SocketAddr>,
    /// Relays, each asked at once.
    pub relays: Vec<Arc<dyn RelayFactory>>,
    /// Whether only relayed candidates are told and used, so that the peer does not learn our addresses. Default no.
    pub relay_only: bool,
    /// The same for an offer of ours until the peer has answered it, so that whoever does not accept learns nothing: then the
    /// rest is told, and a direct path takes over. Default no.
    pub relay_until_answer: bool,
    /// Whether to tell private addresses (of RFC 1918, RFC 4193 and the like). If not, the peer learns only what the world
    /// sees anyway: of STUN servers and relays, and public ones. Default yes.
    pub tell_private: bool,
    /// Whether our own addresses are told as names that only hosts on the same local network can look up
    /// (draft-ietf-mmusic-mdns-ice-candidates §3.1), as browsers do. It needs a driver that announces them; with another,
    /// they are not told at all. Default no.
    pub hide_by_name: bool,
    /// Whether such names of the peer are looked up, which asks everybody on our local network. Default yes.
    pub look_up_names: bool,
    /// Whether to listen and to connect over TCP as well (RFC 6544), where the transport's words know it
    /// ([`IceTransportFactory::with_tcp`](super::IceTransportFactory::with_tcp)). Default yes.
    pub tcp: bool,
    /// Whether to ask the router in front of us for ports (RFC 6887, RFC 6886, UPnP IGD), where the driver can. Default no.
    pub map_ports: bool,
    /// Whether to tell the end of gathering by `<gathering-complete/>` (XEP-0371 §7). Default no: some clients take
    /// a transport-info without candidate for a restart.
    pub tell_end: bool,
    /// Whether the peer is known to be an ICE-lite agent (RFC 8445 §2.5), which Jingle has no words for: we control then, whoever began. Default no.
    pub remote_lite: bool,
    /// Whether to be an ICE-lite agent (RFC 8445 §2.5): for hosts that everybody reaches. It tells its own addresses only,
    /// asks nothing, never controls, and takes the peer's checks for consent. Both sides must not be. Default no.
    pub lite: bool,
    /// Whether our offers say that we know renomination (draft-thatcher-ice-renomination): the side that controls may go
    /// over to a better pair without a restart. Who offers it to us gets it in any case. Default no.
    pub renomination: bool,
    /// Ta, the pace of checks (RFC 8445 §14.2). Default 20 ms; 50 ms is what the RFC asks for on unknown networks.
    pub pace: Duration,
    /// How requests to servers and checks are repeated.
    pub timing: Timing,
    /// How long after the first valid pair to wait for a better one before one without relay is nominated.
    /// Default 40 ms.
    pub commit: Duration,
    /// The same for one through a relay. Default 650 ms: a check that a NAT dropped because it came too early is repeated
    /// after 500 ms.
    pub commit_relayed: Duration,
    /// How long to wait for a pair before giving up (RFC 8863 §4). Default 39.5 s.
    pub patience: Duration,
    /// The mean time between consent checks; each is drawn between 0.8 and 1.2 of it (RFC 7675 §5.1). Default 5 s.
    pub consent_every: Duration,
    /// How long without consent until a path is lost (RFC 7675 §5.1). Default 30 s.
    pub consent_for: Duration,
    /// How often to keep the mapping at STUN servers alive until there is a path (RFC 8445 §11). Default 15 s.
    pub keepalive: Duration,
    /// Local addresses used at most. Default 16.
    pub interfaces_max: usize,
    /// Remote candidates kept at most, for each component and generation. Default 64.
    pub remote_candidates_max: usize,
    /// Pairs at most. With the pace it bounds what a peer can make us send to addresses that never answered
    /// (RFC 8445 §19.5.1). Default 400.
    pub pairs_max: usize,
    /// Components at most. Default 64.
    pub components_max: usize,
    /// Who adds to `<transport/>` what is not ICE's.
    pub companion: Option<Arc<dyn Companion>>,
}

impl IceConfig {
    /// The defaults, with these local addresses.
    pub fn new(interfaces: impl Into<Interfaces>) -> Self {
        Self {
            interfaces: interfaces.into(),
            stun_servers: Vec::new(),
            relays: Vec::new(),
            relay_only: false,
            relay_until_answer: false,
            tell_private: true,
            hide_by_name: false,
            look_up_names: true,
            tcp: true,
            map_ports: false,
            tell_end: false,
            remote_lite: false,
            lite: false,
            renomination: false,
            pace: Duration::from_millis(20),
            timing: Timing::default(),
            commit: Duration::from_millis(40),
            commit_relayed: Duration::from_millis(650),
            patience: Duration::from_millis(39_500),
            consent_every: Duration::from_secs(5),
            consent_for: Duration::from_secs(30),
            keepalive: Duration::from_secs(15),
            interfaces_max: 16,
            remote_candidates_max: 64,
            pairs_max: 400,
            components_max: 64,
            companion: None,
        }
    }
}

impl fmt::Debug for IceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceConfig")
            .field("interfaces", &self.interfaces.addresses())
            .field("stun_servers", &self.stun_servers)
            .field("relays", &self.relays.len())
            .field("relay_only", &self.relay_only)
            .field("relay_until_answer", &self.relay_until_answer)
            .field("tell_private", &self.tell_private)
            .field("hide_by_name", &self.hide_by_name)
            .finish_non_exhaustive()
    }
}

/// Adds children to `<transport/>` that are not ICE's, and hears those of the peer: fingerprints of DTLS (XEP-0320),
/// for example. They are passed on as they are.
pub trait Companion: Send + Sync {
    /// What to put into our offer or answer.
    fn local(&self, context: &TransportContext) -> Vec<Element>;

    /// What the peer's offer, answer or transport-info had beside ICE's own.
    ///
    /// # Errors
    /// Why it cannot be accepted.
    fn remote(
        &self,
        context: &TransportContext,
        children: Vec<Element>,
    ) -> Result<(), TransportError>;
}

/// The addresses of this host, shared by all agents of a configuration.
///
/// [`update`](Self::update) makes each of them gather anew, and restart where its path went with an address.
#[derive(Clone, Default)]
pub struct Interfaces(Arc<Shared>);

#[derive(Default)]
struct Shared {
    version: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    addresses: Vec<IpAddr>,
    mtus: Vec<(IpAddr, usize)>,
    watchers: Vec<(Weak<()>, Waker)>,
    /// At this many watchers those that are gone are removed, so that each costs constant time on average.
    prune_at: usize,
}

/// Watchers that are gone and may stay.
const WATCHERS_KEPT: usize = 16;

impl Interfaces {
    /// The addresses now.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.state().addresses.clone()
    }

    /// An address appeared or went, or the order changed.
    pub fn update(&self, addresses: Vec<IpAddr>) {
        let mut state = self.state();
        if state.addresses == addresses {
            return;
        }
        state.addresses = addresses;
        state.watchers.retain(|(alive, _)| alive.strong_count() > 0);
        let wakers: Vec<_> = state.watchers.iter().map(|(_, w)| w.clone()).collect();
        drop(state);
        self.0.version.fetch_add(1, Ordering::Release);
        wakers.iter().for_each(Waker::wake_by_ref);
    }

    /// How large IP packets are that leave by the interface which has an address, in bytes, as far as that is known.
    /// Loopback's says it for what goes from this host to itself, also between other addresses.
    pub fn set_mtus(&self, mtus: Vec<(IpAddr, usize)>) {
        self.state().mtus = mtus;
    }

    /// How large IP packets are that go from an address of this host to another address, in bytes.
    pub(super) fn mtu(&self, from: IpAddr, to: IpAddr) -> Option<usize> {
        let state = self.state();
        let inside = to.is_loopback() || state.addresses.contains(&to);
        let is_it = |ip: IpAddr| match inside {
            true => ip.is_loopback(),
            false => ip == from,
        };
        let mtu = state.mtus.iter().find(|(ip, _)| is_it(*ip));
        mtu.map(|(_, bytes)| *bytes)
    }

    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    /// Wakes when there are others, as long as the agent holds what is returned.
    pub(super) fn watch(&self, waker: &Waker) -> Option<Arc<()>> {
        if waker.will_wake(Waker::noop()) {
            return None;
        }
        let alive = Arc::new(());
        let mut state = self.state();
        if state.watchers.len() >= state.prune_at {
            state.watchers.retain(|(alive, _)| alive.strong_count() > 0);
            state.prune_at = 2 * state.watchers.len() + WATCHERS_KEPT;
        }
        if state.watchers.is_empty() {
            // Many have interfaces of their own.
            state.watchers.reserve_exact(1);
        }
        state.watchers.push((Arc::downgrade(&alive), waker.clone()));
        Some(alive)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Vec<IpAddr>> for Interfaces {
    fn from(addresses: Vec<IpAddr>) -> Self {
        let this = Self::default();
        this.state().addresses = addresses;
        this
    }
}

impl fmt::Debug for Interfaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Interfaces")
            .field(&self.addresses())
            .finish()
    }
}
