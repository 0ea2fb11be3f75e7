//! From an [`Account`] to an [`Online`].

use super::{
    Account, DialectName, Exit, Online, Problem, Program, TransportName,
    greet::Greeter,
    network::{self, Network},
    online::Tasks,
    relays::{self, Relays},
};
use crate::{
    address,
    client::{
        Calls, Client, Discovery, Info, Policy, Verdict,
        discovery::PING,
        driver_random,
        extdisco::{self, ExternalService},
        jingleinfo,
        policy::ROSTER,
    },
    endpoint::{Endpoint, LinkState, Options, QueryKind, Service, WeakEndpoint},
    jmi::{JMI, JmiConfig},
    ns,
};
use session_core::{Config, Dialect, Element, Misuse, Notice, Peer, SessionManager, StanzaError};
use std::{collections::BTreeSet, net::SocketAddr, time::Duration};
use tokio::time::timeout;
use transport_p2p::{ice, raw_udp};
use transport_relay::{ibb, s5b};

/// How long the search for relays and proxies may hold up a program.
const SEARCH_MAX: Duration = Duration::from_secs(5);

/// How long one proxy or its server may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// How long the server may take to send a roster.
const ROSTER_WAIT: Duration = Duration::from_secs(20);

/// STUN servers that are asked.
const STUN_MAX: usize = 4;

/// Proxies whose addresses are looked up.
const PROXIES_MAX: usize = 4;

impl Account {
    /// Logs in, finds out what there is on the way to others, and shows what the program can. `setup` registers clients and
    /// whatever else the program's sessions need; transports are registered here, after it.
    ///
    /// # Errors
    /// Why there is no login ([`Exit::NoLogin`]), or what `setup` did wrong.
    ///
    /// # Panics
    /// Outside of a tokio runtime with I/O and time.
    pub async fn login(
        mut self,
        program: &Program,
        setup: impl FnOnce(&mut SessionManager) -> Result<(), Misuse>,
    ) -> Result<Online, Problem> {
        let who = program.name;
        let discovery = Discovery::new(program.node, self.info(program));
        let (calls, events) = Calls::new(JmiConfig::default());
        calls.set_policy(self.policy.clone());
        let (greeter, greetings) = Greeter::new(self.policy.clone());
        let services = self.services(program, greeter, &discovery, &calls);
        let mut manager = self.manager(&discovery);
        setup(&mut manager).map_err(|misuse| broken(&misuse))?;

        let mut options = Options::default();
        options.tls.clone_from(&self.options.tls);
        options.service = Some(Box::new(services));
        options.observer = self.trace.observer(who);
        let (client, link) = Client::start(self.options.clone());
        let endpoint = Endpoint::spawn_with(manager, self.trace.link(who, link), options);
        let mut tasks = Tasks::default();
        let address = client.online().await;
        let address = address.map_err(|error| Problem::login(self.address.as_str(), &error))?;
        self.policy.set_own(&address);
        #[cfg(feature = "keyring")]
        if let Some(password) = &self.remember {
            super::password::remember(&self.address, password)?;
        }

        let server = Peer::from(address::domain(&address));
        let found = self.search(&endpoint, &address).await?;
        let registered = endpoint.update(|manager, _| self.ways.register(manager, &found.network));
        let shared = registered.map_err(|misuse| broken(&misuse))?;
        shared.proxies.set(found.proxies);
        if let Some(bytes) = client.stanza_max() {
            shared.stanza_limit.set(bytes);
        }
        let weak = endpoint.downgrade();
        if !found.services.is_empty() {
            let told = (self.trace.clone(), who.to_owned());
            let relays = found.network.relays;
            tasks.spawn(relays::renew(
                relays,
                found.services,
                server,
                weak.clone(),
                told,
            ));
        }
        tasks.spawn(network::watch(shared, weak.clone()));
        let presence = presence(program, &discovery);
        let shown = presence.clone();
        tasks.spawn(greetings.show(weak.clone(), discovery.clone(), shown));
        if self.policy.needs_roster() {
            let own = address::bare(&address);
            tasks.spawn(follow_roster(weak, own, self.policy.clone()));
        }
        if program.calls {
            let (calls, endpoint) = (calls.clone(), endpoint.clone());
            tasks.spawn(async move { calls.run(&endpoint).await });
        }
        Ok(Online {
            endpoint,
            client,
            discovery,
            policy: self.policy,
            calls,
            events: program.calls.then_some(events),
            address,
            trace: self.trace,
            dialect: self.dialect,
            presence,
            json: self.json,
            quiet: self.quiet,
            who,
            _tasks: tasks,
        })
    }

    /// What takes stanzas that are not for sessions.
    fn services(
        &mut self,
        program: &Program,
        greeter: Greeter,
        discovery: &Discovery,
        calls: &Calls,
    ) -> Vec<Box<dyn Service>> {
        let mut services: Vec<Box<dyn Service>> = vec![
            self.policy.service(),
            Box::new(greeter),
            discovery.service(),
        ];
        if program.calls {
            services.push(calls.service());
        }
        services.append(&mut self.services);
        services
    }

    /// What we tell others that we are and can.
    fn info(&self, program: &Program) -> Info {
        let mut features: BTreeSet<&str> = program.features.iter().copied().collect();
        features.extend([ns::JINGLE, PING]);
        if program.calls {
            features.insert(JMI);
        }
        let google = self
            .dialect
            .dialect()
            .is_some_and(|dialect| dialect.name != "jingle");
        for name in &self.ways.transports {
            match name {
                TransportName::Ice => features.insert(ice::ICE_UDP),
                TransportName::IceTcp => features.insert(ice::ICE_0),
                TransportName::S5b => features.insert(s5b::NAMESPACE),
                TransportName::Ibb => features.insert(ibb::NAMESPACE),
                TransportName::RawUdp => features.insert(raw_udp::NAMESPACE),
            };
        }
        features.extend(self.ways.above_ice());
        if google {
            features.insert(ns::GOOGLE_SESSION);
            if self.ways.has_ice() {
                features.insert(ns::GOOGLE_P2P);
            }
        }
        Info::new("client", program.kind, program.name, features)
    }

    fn manager(&self, discovery: &Discovery) -> SessionManager {
        let fixed = self.dialect.dialect();
        let config = Config {
            dialect: fixed.unwrap_or(Dialect::JINGLE),
            ..Config::default()
        };
        let mut manager = SessionManager::new(config, driver_random);
        if self.dialect == DialectName::Auto {
            let known = discovery.clone();
            manager.set_dialect_policy(move |peer| {
                known
                    .with(|directory| directory.dialect(peer))
                    .unwrap_or(Dialect::JINGLE)
            });
        }
        let policy = self.policy.clone();
        let late = self.ways.relay_until_accepted;
        manager.set_speculation_policy(move |peer| !late && policy.decide(peer) == Verdict::Admit);
        manager
    }

    /// Finds out what there is on the way to others, all at once.
    async fn search(&self, endpoint: &Endpoint, own: &Peer) -> Result<Surroundings, Problem> {
        let server = &Peer::from(address::domain(own));
        let relays = Relays::default();
        let services = async {
            let services = timeout(SEARCH_MAX, extdisco::fetch(endpoint, server)).await;
            services.ok().and_then(Result::ok).unwrap_or_default()
        };
        let google = async {
            // Nobody else's servers know it, and asking takes a moment.
            let speaks = self
                .dialect
                .dialect()
                .is_some_and(|dialect| dialect.name != "jingle");
            let own = address::bare(own);
            let asked = speaks.then(|| timeout(SEARCH_MAX, jingleinfo::fetch(endpoint, &own)));
            let told = match asked {
                Some(asked) => asked.await.ok().and_then(Result::ok),
                None => None,
            };
            told.unwrap_or_default()
        };
        let (google, services, proxies, srv, fixed, roster) = tokio::join!(
            google,
            services,
            timeout(SEARCH_MAX, proxies(endpoint, server)),
            timeout(SEARCH_MAX, stun_of_domain(server)),
            relays.fix(&self.ways.turn),
            roster(endpoint, own, &self.policy),
        );
        let () = fixed;
        roster?;
        let mut stun = Vec::new();
        for (host, port) in self.ways.stun.iter().chain(&google.stun) {
            stun.extend(network::look_up(host, *port).await);
        }
        for service in services
            .iter()
            .filter(|service| service.kind == "stun" && service.transport != "tcp")
        {
            let port = service.port.unwrap_or(network::STUN_PORT);
            stun.extend(network::look_up(&service.host, port).await);
        }
        stun.extend(srv.unwrap_or_default());
        let mut seen = BTreeSet::new();
        stun.retain(|address| seen.insert(*address));
        stun.truncate(STUN_MAX);
        relays.give(&services).await;
        let interfaces = tokio::task::spawn_blocking(network::Host::look).await;
        let network = Network {
            interfaces: interfaces.unwrap_or_default().into(),
            stun,
            relays,
            google_relay: relays::google(&google).await,
        };
        Ok(Surroundings {
            network,
            services,
            proxies: proxies.unwrap_or_default(),
        })
    }
}

/// What was found on the way to others.
struct Surroundings {
    network: Network,
    services: Vec<ExternalService>,
    proxies: Vec<(Peer, SocketAddr)>,
}

/// The proxies of a server for SOCKS5 bytestreams (XEP-0065 §4).
async fn proxies(endpoint: &Endpoint, server: &Peer) -> Vec<(Peer, SocketAddr)> {
    let mut discovery = s5b::Discovery::new(server.clone()).with_loopback();
    while let Some((whom, question)) = discovery.question() {
        let answer = endpoint
            .query(QueryKind::Get, whom.clone(), question, ANSWER_MAX)
            .await;
        discovery.answer(&whom, answer.ok().flatten().as_ref());
    }
    let mut found = Vec::new();
    for proxy in discovery.proxies().iter().take(PROXIES_MAX) {
        match &proxy.host {
            s5b::Host::Address(ip) => {
                found.push((proxy.jid.clone(), SocketAddr::new(*ip, proxy.port)))
            }
            s5b::Host::Name(name) => {
                let addresses = network::look_up(name, proxy.port).await;
                found.extend(
                    addresses
                        .first()
                        .map(|address| (proxy.jid.clone(), *address)),
                );
            }
        }
    }
    found
}

/// The STUN servers that a domain's records name. Relays are left out: records hold no credentials.
#[cfg(feature = "srv")]
async fn stun_of_domain(server: &Peer) -> Vec<SocketAddr> {
    use crate::endpoint::{IceService, ice_servers};
    let found = ice_servers(server.as_str()).await.unwrap_or_default();
    let stun = found
        .into_iter()
        .filter(|server| server.service == IceService::Stun);
    stun.map(|server| server.address).collect()
}

#[cfg(not(feature = "srv"))]
async fn stun_of_domain(_: &Peer) -> Vec<SocketAddr> {
    std::future::ready(Vec::new()).await
}

/// Who is in the roster, where that decides.
async fn roster(endpoint: &Endpoint, own: &Peer, policy: &Policy) -> Result<(), Problem> {
    if !policy.needs_roster() {
        return Ok(());
    }
    let read = read_roster(endpoint, address::bare(own), policy).await;
    read.map_err(|error| {
        let hint = "name who may in --accept, or --accept any";
        let what = "read the roster, which decides who may start sessions";
        Problem::new(Exit::Failed, "roster", what, error.to_string(), hint)
    })
}

async fn read_roster(
    endpoint: &Endpoint,
    account: Peer,
    policy: &Policy,
) -> Result<(), StanzaError> {
    let query = Element::new(ROSTER, "query");
    let roster = endpoint.query(QueryKind::Get, account, query, ROSTER_WAIT);
    if let Some(roster) = roster.await? {
        policy.set_roster(roster.view());
    }
    Ok(())
}

/// How a program shows itself.
fn presence(program: &Program, discovery: &Discovery) -> Element {
    // Messages for an account go to none of its devices that is below zero (RFC 6121 §8.5.2.1.1).
    let priority = if program.calls { 0 } else { -1 };
    let priority = Element::new(ns::CLIENT, "priority").text(&priority.to_string());
    discovery.presence(None).child(priority)
}

/// Reads the roster again after each new login: of changes a server tells only those who have asked for it since then (RFC 6121
/// §2.1.6), and what changed meanwhile it tells nobody. Without an answer the one from before stays.
async fn follow_roster(endpoint: WeakEndpoint, account: Peer, policy: Policy) {
    let Some(strong) = endpoint.upgrade() else {
        return;
    };
    let mut link = strong.connect_link_state();
    drop(strong);
    // The first notice is of now, of which the roster was read already.
    let _ = link.next().await;
    while let Some(notice) = link.next().await {
        match notice {
            Notice::Value(LinkState::Up(_))
            | Notice::Snapshot {
                last: Some(LinkState::Up(_)),
                ..
            } => {
                let Some(endpoint) = endpoint.upgrade() else {
                    return;
                };
                let _ = read_roster(&endpoint, account.clone(), &policy).await;
            }
            Notice::Ended => return,
            Notice::Value(_) | Notice::Snapshot { .. } => {}
        }
    }
}

/// What the program, or this library, does wrong.
fn broken(misuse: &Misuse) -> Problem {
    let hint = "report it, with the options that lead to it";
    Problem::new(
        Exit::Failed,
        "misuse",
        "put the program together",
        misuse.to_string(),
        hint,
    )
}
