//! The two endpoints: what each is made of, and the little that both do alike.

use std::fmt::Display;
use std::hash::{BuildHasher, RandomState};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use session_core::{
    Config, Dialect, ErrorStyle, Misuse, Notice, Peer, SessionId, SessionManager, Slot, State,
};
use session_file::{CHANNEL, TunnelClient, TunnelConfig};
use session_xmpp::endpoint::{Endpoint, Options, Router};
use session_xmpp::trace::Trace;
use transport_p2p::ice::{GoogleIceFactory, IceConfig, IceTransportFactory};
use transport_p2p::pseudotcp::PseudoTcpLayer;
use transport_p2p::raw_udp::{GoogleRawUdp, RawUdp};
use transport_relay::ibb::Ibb;
use transport_relay::s5b::{S5b, S5bConfig};
use transport_relay::turn::{TurnConfig, TurnFactory, TurnServer};

use super::Only;
use super::stanza::short;
use super::view::View;
use crate::tools::Failure;

/// Bytes of a full datagram: what PseudoTCP makes of its default MTU.
pub(super) const DATAGRAM: usize = 1_408;

/// One of the two.
#[derive(Clone)]
pub(super) struct Side {
    pub(super) name: &'static str,
    pub(super) peer: Peer,
    pub(super) endpoint: Endpoint,
}

impl Side {
    /// An endpoint at the router, with one transport, PseudoTCP above it, and tunnels above that.
    pub(super) fn new(
        name: &'static str,
        router: &Router,
        dialect: &'static Dialect,
        only: Option<Only>,
        relay: Option<TurnServer>,
        trace: &Trace,
    ) -> Result<Self, Failure> {
        let peer = Peer::from(format!("{name}@demo.example/{name}"));
        let config = Config {
            dialect,
            ..Config::default()
        };
        let mut manager = SessionManager::new(config, entropy);
        let parts = register(&mut manager, dialect, only, relay);
        parts.map_err(|misuse| broken("put the endpoints together", &misuse))?;
        let mut options = Options::default();
        options.observer = trace.observer(name);
        let link = trace.link(name, router.link(peer.clone()));
        let endpoint = Endpoint::spawn_with(manager, link, options);
        Ok(Self {
            name,
            peer,
            endpoint,
        })
    }

    /// Does something with the tunnels of this side.
    pub(super) fn client<R>(&self, act: impl FnOnce(&mut TunnelClient) -> R) -> Result<R, Failure> {
        let found = self
            .endpoint
            .update(|manager, _| manager.find_client().map(act));
        found.ok_or_else(|| broken("find the client of tunnels", &"it is gone"))
    }

    /// Tells the states of a session until it is gone, and the transport that it came to.
    pub(super) fn follow(
        &self,
        id: SessionId,
        (first, mut states): (State, Slot<State>),
        view: &Arc<View>,
    ) {
        let (side, view) = (self.clone(), Arc::clone(view));
        view.fact(side.name, "state", first);
        tokio::spawn(async move {
            while let Some(notice) = states.next().await {
                let state = match notice {
                    Notice::Snapshot { last, .. } => last,
                    Notice::Value(state) => Some(state),
                    Notice::Ended => None,
                };
                let Some(state) = state else { continue };
                view.fact(side.name, "state", state);
                if state == State::InProgress {
                    side.tell_transport(id, &view);
                }
            }
        });
    }

    /// The transports that a session may use.
    pub(super) fn tell_offer(&self, id: SessionId, view: &View) {
        let offered = self.endpoint.update(|manager, _| {
            let session = manager.peek(id)?;
            let names: Vec<String> = session
                .potential_transports()
                .iter()
                .map(|name| short(name))
                .collect();
            Some(names.join(", "))
        });
        if let Some(offered) = offered {
            view.fact(self.name, "offers", offered);
        }
    }

    /// The path that a session's stream uses.
    pub(super) fn tell_path(&self, id: SessionId, view: &View) {
        let path = self.endpoint.update(|manager, _| {
            let session = manager.peek(id)?;
            session.describe_channel(session.channel(CHANNEL)?)
        });
        if let Some(path) = path {
            view.fact(self.name, "path", path);
        }
    }

    fn tell_transport(&self, id: SessionId, view: &View) {
        if let Some(transport) = self.transport(id) {
            view.fact(self.name, "transport", transport);
        }
    }

    /// The transport that a session has come to.
    pub(super) fn transport(&self, id: SessionId) -> Option<String> {
        self.endpoint
            .update(|manager, _| manager.peek(id)?.transport().map(str::to_owned))
    }
}

/// What is our own fault, or the library's.
pub(super) fn broken(what: &str, why: &dyn Display) -> Failure {
    Failure::new(
        what,
        why.to_string(),
        "run it again with --trace FILE; if it happens again, report it with that file",
    )
}

fn register(
    manager: &mut SessionManager,
    dialect: &'static Dialect,
    only: Option<Only>,
    relay: Option<TurnServer>,
) -> Result<(), Misuse> {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let ice = || IceConfig::new(vec![loopback.ip()]);
    match (only, dialect.errors) {
        (None, ErrorStyle::Jingle) => manager.add_transport(IceTransportFactory::new(ice()))?,
        (None, ErrorStyle::Google) => manager.add_transport(GoogleIceFactory::new(ice()))?,
        (Some(Only::RawUdp), ErrorStyle::Jingle) => manager.add_transport(RawUdp::new(loopback))?,
        (Some(Only::RawUdp), ErrorStyle::Google) => {
            manager.add_transport(GoogleRawUdp::new(loopback))?;
        }
        (Some(Only::S5b), _) => manager.add_transport(S5b::new(S5bConfig {
            listen: vec![loopback.ip()],
            ..S5bConfig::default()
        }))?,
        (Some(Only::Turn), _) => {
            let mut config = ice();
            config.relay_only = true;
            let relays = relay.map(|server| TurnConfig::new(vec![server]));
            let relays = relays.map(|config| Arc::new(TurnFactory::new(config)) as _);
            config.relays.extend(relays);
            manager.add_transport(IceTransportFactory::new(config))?;
        }
        (Some(Only::Ibb), _) => manager.add_transport(Ibb::new())?,
    }
    let layer = Arc::new(PseudoTcpLayer::default());
    manager.add_client(TunnelClient::new(TunnelConfig::new(layer)))
}

/// Unpredictable: a hasher's keys come from the operating system.
pub(crate) fn entropy(buffer: &mut [u8]) {
    for chunk in buffer.chunks_mut(8) {
        let bytes = RandomState::new().hash_one(chunk.len()).to_le_bytes();
        chunk.copy_from_slice(&bytes[..chunk.len()]);
    }
}
