//! Relays that come and go: of options, and of a server that hands out credentials for a time (XEP-0215); and those of
//! Google's kind.

use super::network::{Relay, STUN_PORT, STUNS_PORT, look_up};
use crate::{
    client::{
        extdisco::{self, ExternalService},
        jingleinfo::JingleInfo,
    },
    endpoint::{WeakEndpoint, lock},
    trace::Trace,
};
use serde_json::json;
use session_core::Peer;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::time::sleep;
use transport_relay::{
    RelayFactory, RelaySource,
    google::{
        GoogleAccess, GoogleProtocol, GoogleRelay, GoogleRelayConfig, GoogleRelayFactory, HTTP_PORT,
    },
    turn::{Credentials, SharedCredentials, TurnConfig, TurnFactory, TurnProtocol, TurnServer},
};

/// Relays that are used at most: of options first, and then in the order of the server.
const RELAYS_MAX: usize = 8;

/// The relays of the moment. Who asks for one later gets those of then; allocations that stand get new credentials with
/// their next refresh. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub(super) struct Relays(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    /// Of options: they stay.
    fixed: Vec<TurnServer>,
    /// Of the server.
    given: Vec<TurnServer>,
    /// The credentials of each host.
    credentials: BTreeMap<String, SharedCredentials>,
}

impl RelayFactory for Relays {
    fn create(&self, seed: [u8; 32]) -> Box<dyn RelaySource> {
        let state = lock(&self.0);
        let servers = state.fixed.iter().chain(&state.given).take(RELAYS_MAX);
        TurnFactory::new(TurnConfig::new(servers.cloned().collect())).create(seed)
    }
}

impl Relays {
    /// Those of options, looked up.
    pub(super) async fn fix(&self, relays: &[Relay]) {
        for relay in relays {
            let addresses = look_up(&relay.host, relay.port).await;
            if !addresses.is_empty() {
                lock(&self.0).fixed.push(TurnServer {
                    addresses,
                    protocol: relay.protocol.clone(),
                    credentials: relay.credentials.clone().into(),
                });
            }
        }
    }

    /// Those that a server tells of, with what it takes to use them.
    pub(super) async fn give(&self, services: &[ExternalService]) {
        let mut given = Vec::new();
        for service in services {
            let Some((protocol, port)) = protocol(service) else {
                continue;
            };
            let (Some(user), Some(password)) = (&service.username, &service.password) else {
                continue;
            };
            let addresses = look_up(&service.host, service.port.unwrap_or(port)).await;
            if addresses.is_empty() || given.len() >= RELAYS_MAX {
                continue;
            }
            let credentials = self.renew(&service.host, Credentials::new(&**user, &**password));
            given.push(TurnServer {
                addresses,
                protocol,
                credentials,
            });
        }
        lock(&self.0).given = given;
    }

    /// The credentials of a host, now these. TURN and TURN over TLS at one host share them.
    fn renew(&self, host: &str, new: Credentials) -> SharedCredentials {
        let mut state = lock(&self.0);
        if let Some(known) = state.credentials.get(host) {
            known.update(new);
            return known.clone();
        }
        let shared = SharedCredentials::new(new);
        if state.credentials.len() >= RELAYS_MAX {
            state.credentials.pop_first();
        }
        state.credentials.insert(host.to_owned(), shared.clone());
        shared
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = lock(&self.0);
        state.fixed.is_empty() && state.given.is_empty()
    }
}

/// Relays as `google:jingleinfo` tells of them; `None` where it does not, or where nothing opens them.
pub(super) async fn google(info: &JingleInfo) -> Option<Arc<dyn RelayFactory>> {
    let token = info.token.clone()?;
    let mut relays = Vec::new();
    for told in &info.relays {
        let web = look_up(&told.host, HTTP_PORT).await;
        let Some(ip) = web.iter().map(SocketAddr::ip).find(IpAddr::is_ipv4) else {
            continue;
        };
        let ports = [
            (GoogleProtocol::Udp, told.udp),
            (GoogleProtocol::Tcp, told.tcp),
            (GoogleProtocol::SslTcp, told.ssl_tcp),
        ];
        let ways = ports
            .into_iter()
            .filter_map(|(protocol, port)| Some((protocol, SocketAddr::new(ip, port?))));
        relays.push(GoogleRelay {
            name: told.host.as_str().into(),
            web,
            ways: ways.collect(),
        });
    }
    if relays.is_empty() {
        return None;
    }
    let config = GoogleRelayConfig::new(relays, GoogleAccess::Token(token));
    Some(Arc::new(GoogleRelayFactory::new(config)))
}

/// How to talk to a relay, and its port where none is said.
fn protocol(service: &ExternalService) -> Option<(TurnProtocol, u16)> {
    match (&*service.kind, &*service.transport) {
        ("turn", "" | "udp") => Some((TurnProtocol::Udp, STUN_PORT)),
        ("turn", "tcp") => Some((TurnProtocol::Tcp, STUN_PORT)),
        ("turns", "" | "tcp") => {
            Some((TurnProtocol::Tls(service.host.as_str().into()), STUNS_PORT))
        }
        _ => None,
    }
}

/// Asks a server for its relays again, each time before what it gave runs out, as long as there is the endpoint.
pub(super) async fn renew(
    relays: Relays,
    mut services: Vec<ExternalService>,
    server: Peer,
    endpoint: WeakEndpoint,
    (trace, who): (Trace, String),
) {
    loop {
        sleep(wait(&services)).await;
        let Some(strong) = endpoint.upgrade() else {
            return;
        };
        match extdisco::fetch(&strong, &server).await {
            Ok(new) => {
                drop(strong);
                relays.give(&new).await;
                trace.event(
                    &who,
                    "note",
                    json!({ "text": "relays renewed", "services": new.len() }),
                );
                services = new;
            }
            // What is in use lasts for as long again; it is tried sooner then.
            Err(error) => {
                let text = format!("relays were not renewed: {error}");
                trace.note(&who, &text);
            }
        }
    }
}

/// How long until services are to be asked for again.
fn wait(services: &[ExternalService]) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = now.ok().and_then(|now| i64::try_from(now.as_secs()).ok());
    extdisco::renewal(services, now.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        client::extdisco::{EXTDISCO, RENEWAL_MIN},
        endpoint::{Endpoint, Link, LinkEvent, Router, RouterLink},
    };
    use session_core::{Config, SeededEntropy, SessionManager};
    use time::{OffsetDateTime, format_description::well_known::Rfc3339};
    use tokio::sync::mpsc;

    fn service(kind: &str, transport: &str, password: Option<&str>) -> ExternalService {
        ExternalService {
            kind: kind.to_owned(),
            host: "192.0.2.1".to_owned(),
            port: None,
            transport: transport.to_owned(),
            username: Some("u".to_owned()),
            password: password.map(str::to_owned),
            expires: None,
            restricted: true,
        }
    }

    /// A server that tells of one relay, and of its credentials when it is asked for them.
    async fn server(mut link: RouterLink, asked: mpsc::Sender<&'static str>) {
        for turn in 0_u32.. {
            let stanza = loop {
                match link.next_event().await {
                    Some(LinkEvent::Stanza(stanza)) => {
                        break String::from_utf8(stanza.to_vec()).unwrap();
                    }
                    Some(_) => {}
                    None => return,
                }
            };
            let id = stanza
                .split(" id='")
                .nth(1)
                .and_then(|rest| rest.split('\'').next());
            let relay = "<service type='turn' host='192.0.2.1' port='3478' restricted='1'";
            let wants = if stanza.contains("<credentials") {
                "credentials"
            } else {
                "services"
            };
            let inner = match wants {
                "credentials" => {
                    let ends = OffsetDateTime::now_utc() + 2 * RENEWAL_MIN + RENEWAL_MIN / 2;
                    let ends = ends.format(&Rfc3339).unwrap();
                    format!("{relay} username='u{turn}' password='p{turn}' expires='{ends}'/>")
                }
                _ => format!("{relay}/>"),
            };
            let answer = format!(
                "<iq type='result' id='{}' to='alice@x/1'><{wants} xmlns='{EXTDISCO}'>{inner}</{wants}></iq>",
                id.unwrap()
            );
            link.send(answer.into()).unwrap();
            if asked.send(wants).await.is_err() {
                return;
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn restricted_relays_are_asked_for_and_renewed_in_mid_session() {
        let router = Router::new();
        let (asked, mut questions) = mpsc::channel(16);
        tokio::spawn(server(router.link("x"), asked));
        let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
        let endpoint = Endpoint::spawn(manager, router.link("alice@x/1"));
        let services = extdisco::fetch(&endpoint, &"x".into()).await.unwrap();
        assert_eq!(services[0].username.as_deref(), Some("u1"));
        let relays = Relays::default();
        relays.give(&services).await;
        let before = lock(&relays.0).given[0].credentials.clone();
        let told = (Trace::default(), "test".to_owned());
        let begun = tokio::time::Instant::now();
        tokio::spawn(renew(
            relays.clone(),
            services,
            "x".into(),
            endpoint.downgrade(),
            told,
        ));
        let mut heard = Vec::new();
        for _ in 0..6 {
            heard.push(questions.recv().await.unwrap());
        }
        assert_eq!(heard, ["services", "credentials"].repeat(3));
        // Twice at half of the time that was left: the clock of the credentials itself stands still here.
        let waited = tokio::time::Instant::now() - begun;
        assert!(
            (2 * RENEWAL_MIN..3 * RENEWAL_MIN).contains(&waited),
            "{waited:?}"
        );
        // What stands goes on with the new ones.
        tokio::task::yield_now().await;
        let after = lock(&relays.0).given[0].credentials.clone();
        assert!(after.is_same(&before));
        drop(endpoint);
    }

    #[tokio::test]
    async fn relays_of_google_need_a_token_and_an_address() {
        let told = |token: &str, host: &str| {
            let query = format!(
                "<query xmlns='google:jingleinfo'><relay>{token}<server host='{host}' udp='19295' tcpssl='443'/></relay></query>"
            );
            let limits = session_core::ElementLimits::default();
            let query = crate::xml::parse(query.as_bytes(), &crate::xml::Context::NONE, &limits);
            JingleInfo::read(query.unwrap().view())
        };
        let token = "<token>T</token>";
        assert!(google(&told(token, "192.0.2.1")).await.is_some());
        assert!(google(&told("", "192.0.2.1")).await.is_none());
        assert!(google(&told(token, "nobody.invalid")).await.is_none());
    }

    #[tokio::test]
    async fn renewed_credentials_take_the_place_of_the_old() {
        let relays = Relays::default();
        let told = [
            service("turn", "udp", Some("old")),
            service("turns", "tcp", Some("old")),
            service("turn", "sctp", Some("old")),
            service("turn", "tcp", None),
            service("stun", "udp", None),
        ];
        assert!(relays.is_empty());
        relays.give(&told).await;
        {
            let state = lock(&relays.0);
            let ports: Vec<_> = state
                .given
                .iter()
                .map(|server| server.addresses[0].port())
                .collect();
            assert_eq!(ports, [STUN_PORT, STUNS_PORT]);
            assert_eq!(state.credentials.len(), 1, "one host has one pair");
        }
        let before = lock(&relays.0)
            .credentials
            .values()
            .next()
            .cloned()
            .unwrap();
        relays.give(&[service("turn", "udp", Some("new"))]).await;
        let state = lock(&relays.0);
        assert_eq!((state.given.len(), state.credentials.len()), (1, 1));
        // Whoever holds the old ones holds the new ones.
        let after = &state.given[0].credentials;
        assert!(after.is_same(&before));
        drop(state);
        let _source = relays.create([1; 32]);
    }
}
