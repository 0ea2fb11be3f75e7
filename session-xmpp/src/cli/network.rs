//! Addresses, transports, and how they are chosen.

use super::{AccountArgs, Problem, TransportName, account::place, relays::Relays};
use crate::endpoint::Endpoint;
use session_core::{Misuse, SessionManager, TransportFactory};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::time::{sleep, timeout};
use transport_p2p::{
    ice::{GoogleIceFactory, IceConfig, IceTransportFactory, Interfaces},
    raw_udp::{Bind, GoogleRawUdp, RawUdp},
};
use transport_relay::{
    RelayFactory,
    ibb::{Ibb, StanzaLimit},
    s5b::{Addresses, Proxies, S5b, S5bConfig},
    turn::{Credentials, TurnProtocol},
};

/// How often the addresses of this host are looked at.
pub const INTERFACES_EVERY: Duration = Duration::from_secs(5);

/// How long a name may take to be looked up.
const LOOK_UP_MAX: Duration = Duration::from_secs(5);

/// Addresses of one name that are used.
const ADDRESSES_MAX: usize = 4;

/// The port of STUN and TURN (RFC 8489 §18.6), and that over TLS.
pub(super) const STUN_PORT: u16 = 3478;
pub(super) const STUNS_PORT: u16 = 5349;

type Adjust = Box<dyn Fn(&mut IceConfig) + Send + Sync>;

type Register =
    Box<dyn Fn(&mut SessionManager, IceTransportFactory) -> Result<(), Misuse> + Send + Sync>;

/// A transport that has ICE within it.
struct AboveIce {
    namespace: &'static str,
    register: Register,
}

/// How to reach peers: what `--transports`, `--relay-only`, `--stun` and `--turn` say.
#[non_exhaustive]
pub struct Ways {
    /// The transports, best first.
    pub transports: Vec<TransportName>,
    /// Whether nobody is told our addresses.
    pub relay_only: bool,
    /// Whether a peer learns our addresses only when it has accepted.
    pub relay_until_accepted: bool,
    /// STUN servers: names or addresses, and ports.
    pub stun: Vec<(String, u16)>,
    /// Relays.
    pub(super) turn: Vec<Relay>,
    /// Changes the configuration of ICE before it is used.
    adjust: Option<Adjust>,
    /// Registered behind ICE, where that is among the transports.
    above_ice: Vec<AboveIce>,
}

/// A relay, by name.
#[derive(Clone, Debug)]
pub(super) struct Relay {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) protocol: TurnProtocol,
    pub(super) credentials: Credentials,
}

impl Ways {
    pub(super) fn new(args: &AccountArgs) -> Result<Self, Problem> {
        let mut transports = Vec::new();
        for name in &args.transports {
            if !transports.contains(name) {
                transports.push(*name);
            }
        }
        if transports.is_empty() {
            transports.extend(TransportName::DEFAULT);
        }
        let hides = args.relay_only || args.relay_until_accepted;
        if hides && transports.contains(&TransportName::RawUdp) {
            let hint = "leave out one of them";
            let why = "raw UDP tells the peer our address";
            return Err(Problem::usage(
                "--relay-only or --relay-until-accepted with --transports raw-udp",
                why,
                hint,
            ));
        }
        let stun = args.stun.iter().map(|text| {
            place(text, STUN_PORT).ok_or_else(|| {
                let hint = "like --stun stun.example.org:3478";
                Problem::usage(format!("--stun {text:?}"), "that is not HOST:PORT", hint)
            })
        });
        let turn = args.turn.iter().map(|text| {
            relay(text).ok_or_else(|| {
                // It may hold a password, so it is not repeated.
                let hint = "like --turn alice:sesame@relay.example.org:3478?transport=udp";
                Problem::usage("--turn", "that is not USER:PASSWORD@HOST:PORT", hint)
            })
        });
        Ok(Self {
            transports,
            relay_only: args.relay_only,
            relay_until_accepted: args.relay_until_accepted,
            stun: stun.collect::<Result<_, _>>()?,
            turn: turn.collect::<Result<_, _>>()?,
            adjust: None,
            above_ice: Vec::new(),
        })
    }

    /// Lets a program change the configuration of ICE: its companion, say, or limits.
    pub fn adjust_ice(&mut self, adjust: impl Fn(&mut IceConfig) + Send + Sync + 'static) {
        self.adjust = Some(Box::new(adjust));
    }

    /// Lets a program have a transport with ICE within it, by its namespace: `make` gets that of ICE over UDP. It is tried
    /// behind ICE itself, and told to others, where ICE is among the transports.
    pub fn add_above_ice<F: TransportFactory + 'static>(
        &mut self,
        namespace: &'static str,
        make: impl Fn(IceTransportFactory) -> F + Send + Sync + 'static,
    ) {
        self.above_ice.push(AboveIce {
            namespace,
            register: Box::new(move |manager, ice| manager.add_transport(make(ice))),
        });
    }

    /// The namespaces of transports with ICE within them that there are.
    pub(super) fn above_ice(&self) -> impl Iterator<Item = &'static str> {
        let has_ice = self.transports.contains(&TransportName::Ice);
        let above = self.above_ice.iter().filter(move |_| has_ice);
        above.map(|above| above.namespace)
    }

    /// Whether an offer of ours is not to tell where we are.
    fn hides(&self) -> bool {
        self.relay_only || self.relay_until_accepted
    }

    /// Whether ICE is among them.
    pub(super) fn has_ice(&self) -> bool {
        let ice = [TransportName::Ice, TransportName::IceTcp];
        ice.iter().any(|name| self.transports.contains(name))
    }

    /// Registers the transports, best first; where goes what is found later.
    pub(super) fn register(
        &self,
        manager: &mut SessionManager,
        network: &Network,
    ) -> Result<Shared, Misuse> {
        let mut ice = IceConfig::new(network.interfaces.clone());
        ice.stun_servers.clone_from(&network.stun);
        ice.relay_only = self.relay_only;
        ice.relay_until_answer = self.relay_until_accepted;
        if !network.relays.is_empty() {
            ice.relays.push(Arc::new(network.relays.clone()));
        }
        if let Some(adjust) = &self.adjust {
            adjust(&mut ice);
        }
        let bind = first(&network.interfaces.addresses());
        let (raw, google_raw) = (RawUdp::new(bind), GoogleRawUdp::new(bind));
        let s5b = S5b::new(S5bConfig {
            // Whoever has not accepted yet is not connected to.
            known_proxies_only: self.relay_only,
            ..S5bConfig::default()
        });
        let ibb = Ibb::new();
        let shared = Shared {
            stanza_limit: ibb.stanza_limit(),
            interfaces: network.interfaces.clone(),
            proxies: s5b.proxies(),
            s5b: (!self.hides()).then(|| s5b.addresses()),
            raw: [raw.bind(), google_raw.bind()],
        };
        shared.tell_others();
        let mut raw = Some((raw, google_raw));
        let mut google = ice.clone();
        google.relays.extend(network.google_relay.clone());
        let (mut google_ice, mut s5b) = (Some(GoogleIceFactory::new(google)), Some(s5b));
        for name in &self.transports {
            match name {
                TransportName::Ice => {
                    manager.add_transport(IceTransportFactory::new(ice.clone()))?;
                    for above in &self.above_ice {
                        (above.register)(manager, IceTransportFactory::new(ice.clone()))?;
                    }
                }
                TransportName::IceTcp => {
                    manager.add_transport(IceTransportFactory::with_tcp(ice.clone()))?;
                }
                TransportName::S5b => {
                    if let Some(s5b) = s5b.take() {
                        manager.add_transport(s5b)?;
                    }
                }
                TransportName::Ibb => manager.add_transport(ibb.clone())?,
                TransportName::RawUdp => {
                    if let Some((raw, google_raw)) = raw.take() {
                        manager.add_transport(raw)?;
                        manager.add_transport(google_raw)?;
                    }
                }
            }
            let is_ice = matches!(name, TransportName::Ice | TransportName::IceTcp);
            // Google's own ICE tells candidates of this host whatever the policy is, and its offers name all transports.
            if let Some(google) = google_ice.take_if(|_| is_ice && !self.hides()) {
                manager.add_transport(google)?;
            }
        }
        Ok(shared)
    }
}

impl fmt::Debug for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ways")
            .field("transports", &self.transports)
            .field("relay_only", &self.relay_only)
            .field("relay_until_accepted", &self.relay_until_accepted)
            .field("stun", &self.stun)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

/// What is known of the network around us.
pub(super) struct Network {
    pub(super) interfaces: Interfaces,
    pub(super) stun: Vec<SocketAddr>,
    pub(super) relays: Relays,
    /// Relays of Google's kind, for its own ICE.
    pub(super) google_relay: Option<Arc<dyn RelayFactory>>,
}

/// What is shared with the transports: what is found, or changes, later.
pub(super) struct Shared {
    interfaces: Interfaces,
    pub(super) proxies: Proxies,
    pub(super) stanza_limit: StanzaLimit,
    /// Where SOCKS5 bytestreams listen, unless nobody is to know.
    s5b: Option<Addresses>,
    raw: [Bind; 2],
}

impl Shared {
    /// Tells the addresses to those who do not look at the interfaces themselves.
    fn tell_others(&self) {
        let addresses = self.interfaces.addresses();
        self.raw.iter().for_each(|raw| raw.set(first(&addresses)));
        if let Some(s5b) = &self.s5b {
            s5b.set(addresses);
        }
    }
}

/// The address for who can have but one; any port.
fn first(addresses: &[IpAddr]) -> SocketAddr {
    let first = addresses.iter().find(|ip| ip.is_ipv4());
    let first = first.or_else(|| addresses.first()).copied();
    SocketAddr::new(first.unwrap_or_else(|| Ipv4Addr::LOCALHOST.into()), 0)
}

/// What is known of the interfaces of this host.
#[derive(Debug, Default)]
pub(super) struct Host {
    /// The addresses that others may reach, those of IPv4 first. Loopback counts where there is nothing else.
    addresses: Vec<IpAddr>,
    /// How large packets are that leave by the interface of an address.
    mtus: Vec<(IpAddr, usize)>,
}

impl Host {
    pub(super) fn look() -> Self {
        let mut all = if_addrs::get_if_addrs().unwrap_or_default();
        all.retain(|interface| !interface.is_link_local());
        let mtus = all
            .iter()
            .filter_map(|interface| Some((interface.ip(), mtu(&interface.name)?)))
            .collect();
        let mut addresses: Vec<IpAddr> = all.iter().map(if_addrs::Interface::ip).collect();
        addresses.sort_by_key(|ip| (!ip.is_ipv4(), *ip));
        addresses.dedup();
        if addresses.iter().any(|ip| !ip.is_loopback()) {
            addresses.retain(|ip| !ip.is_loopback());
        }
        Self { addresses, mtus }
    }

    /// Tells those who gather.
    fn tell(self, interfaces: &Interfaces) {
        interfaces.set_mtus(self.mtus);
        interfaces.update(self.addresses);
    }
}

impl From<Host> for Interfaces {
    fn from(host: Host) -> Self {
        let interfaces = Self::default();
        host.tell(&interfaces);
        interfaces
    }
}

/// How large packets are that leave by an interface, where the system says so in a file.
fn mtu(interface: &str) -> Option<usize> {
    let path = format!("/sys/class/net/{interface}/mtu");
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Looks at the addresses of this host again and again, as long as there is the endpoint.
pub(super) async fn watch(shared: Shared, endpoint: crate::endpoint::WeakEndpoint) {
    loop {
        sleep(INTERFACES_EVERY).await;
        let now = tokio::task::spawn_blocking(Host::look).await;
        let alive: Option<Endpoint> = endpoint.upgrade();
        if alive.is_none() {
            return;
        }
        if let Ok(now) = now {
            now.tell(&shared.interfaces);
            shared.tell_others();
        }
    }
}

/// The addresses of a name. None is no error: the next server may be better.
pub(super) async fn look_up(host: &str, port: u16) -> Vec<SocketAddr> {
    let found = timeout(LOOK_UP_MAX, tokio::net::lookup_host((host, port))).await;
    let found = found.ok().and_then(Result::ok);
    found.into_iter().flatten().take(ADDRESSES_MAX).collect()
}

/// `[turn:|turns:]USER:PASSWORD@HOST[:PORT][?transport=udp|tcp]`, after RFC 7065 §3.1.
fn relay(text: &str) -> Option<Relay> {
    let (tls, rest) = match text.split_once(':') {
        Some(("turn", rest)) => (false, rest),
        Some(("turns", rest)) => (true, rest),
        _ => (false, text),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (who, place_text) = rest.rsplit_once('@')?;
    let (user, password) = who.split_once(':')?;
    let port = if tls { STUNS_PORT } else { STUN_PORT };
    let (host, port) = place(place_text, port)?;
    let protocol = match (tls, query) {
        (true, "" | "transport=tcp") => TurnProtocol::Tls(host.as_str().into()),
        (false, "" | "transport=udp") => TurnProtocol::Udp,
        (false, "transport=tcp") => TurnProtocol::Tcp,
        _ => return None,
    };
    let whole = !user.is_empty() && !password.is_empty();
    whole.then(|| Relay {
        host,
        port,
        protocol,
        credentials: Credentials::new(user, password),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_can_have_one_address_has_one_of_ipv4() {
        let [v4, v6]: [IpAddr; 2] = ["192.0.2.4", "2001:db8::4"].map(|ip| ip.parse().unwrap());
        assert_eq!(first(&[v6, v4]), SocketAddr::new(v4, 0));
        assert_eq!(first(&[v6]), SocketAddr::new(v6, 0));
        assert!(first(&[]).ip().is_loopback());
    }

    #[test]
    fn relays_are_written_as_uris() {
        let found = |text| {
            let Relay {
                host,
                port,
                protocol,
                ..
            } = relay(text)?;
            Some(format!("{host} {port} {protocol}"))
        };
        assert_eq!(
            found("a:b@r.example").as_deref(),
            Some("r.example 3478 udp")
        );
        assert_eq!(
            found("turn:a:b:c@r:5?transport=tcp").as_deref(),
            Some("r 5 tcp")
        );
        assert_eq!(found("turns:a@x:b@[::1]").as_deref(), Some("::1 5349 tls"));
        for text in [
            "r.example",
            "a@r",
            "a:@r",
            ":b@r",
            "turns:a:b@r?transport=udp",
            "a:b@r?x",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
        assert!(!format!("{:?}", relay("a:sesame@r")).contains("sesame"));
    }

    #[test]
    fn transports_come_in_the_order_of_their_names() {
        let args = |transports: &[TransportName], relay_only| AccountArgs {
            transports: transports.to_vec(),
            relay_only,
            ..AccountArgs::default()
        };
        let ways = Ways::new(&args(&[], false)).unwrap();
        assert_eq!(ways.transports, TransportName::DEFAULT);
        let twice = [TransportName::Ibb, TransportName::Ice, TransportName::Ibb];
        let ways = Ways::new(&args(&twice, false)).unwrap();
        assert_eq!(ways.transports, twice[..2]);
        assert!(Ways::new(&args(&[TransportName::RawUdp], true)).is_err());
        let mut late = args(&[TransportName::RawUdp], false);
        late.relay_until_accepted = true;
        assert!(Ways::new(&late).is_err());
        let entropy = session_core::SeededEntropy::new(1);
        let mut manager = SessionManager::new(session_core::Config::default(), entropy);
        let network = Network {
            interfaces: Host::look().into(),
            stun: Vec::new(),
            relays: Relays::default(),
            google_relay: None,
        };
        let all = [
            TransportName::Ice,
            TransportName::IceTcp,
            TransportName::S5b,
            TransportName::Ibb,
            TransportName::RawUdp,
        ];
        let ways = Ways::new(&args(&all, false)).unwrap();
        let shared = ways.register(&mut manager, &network).ok();
        assert!(shared.expect("each once").s5b.is_some());
        let entropy = session_core::SeededEntropy::new(2);
        let mut manager = SessionManager::new(session_core::Config::default(), entropy);
        let ways = Ways::new(&args(&all[..4], true)).unwrap();
        let shared = ways.register(&mut manager, &network).unwrap();
        assert!(shared.s5b.is_none(), "nobody is told where we are later on");
    }
}
