//! Relays that come and go: of options, and of a server that hands out credentials for a time (XEP-0215).

use super::network::{Relay, STUN_PORT, STUNS_PORT, look_up};
use crate::{
    client::extdisco::{self, ExternalService},
    endpoint::{WeakEndpoint, lock},
    trace::Trace,
};
use serde_json::json;
use session_core::Peer;
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};
use tokio::time::sleep;
use transport_relay::{
    RelayFactory, RelaySource,
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
