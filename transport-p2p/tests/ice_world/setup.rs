//! How the two ends are made.

use super::{End, Nat, RELAY, RELAY_WEB, STUN, Shared, home, relay};
use session_core::{Dialect, Role, TransportContext, TransportFactory};
use std::{sync::Arc, task::Waker};
use transport_p2p::ice::{IceConfig, IceTransportFactory, Interfaces};

/// How the two ends are made.
pub struct Setup {
    pub nats: [Nat; 2],
    pub shared: Shared,
    /// Whether the agents speak `ice:0`, and thus of TCP.
    pub tcp: bool,
    pub roles: [Role; 2],
    pub relay: bool,
    pub channels: usize,
    pub seed: u64,
    pub configure: fn(usize, &mut IceConfig),
}

impl Setup {
    pub fn new(a: Nat, b: Nat) -> Self {
        Self {
            nats: [a, b],
            shared: Shared::Nothing,
            tcp: false,
            roles: [Role::Initiator, Role::Responder],
            relay: true,
            channels: 1,
            seed: 1,
            configure: |_, _| {},
        }
    }
}

impl End {
    pub fn new(setup: &Setup, number: usize) -> Self {
        let nat = setup.nats[number];
        let interfaces = Interfaces::from(vec![home(number, nat)]);
        let mut config = IceConfig::new(interfaces.clone());
        config.stun_servers = vec![STUN];
        if setup.relay {
            config.relays = vec![Arc::new(relay::FakeRelayFactory(RELAY))];
            if setup.tcp {
                let web = relay::FakeRelayFactory(RELAY_WEB);
                config.relays.push(Arc::new(web));
            }
        }
        (setup.configure)(number, &mut config);
        let mut seed = [number as u8 + 1; 32];
        seed[..8].copy_from_slice(&setup.seed.to_le_bytes());
        let factory = if setup.tcp {
            IceTransportFactory::with_tcp(config)
        } else {
            IceTransportFactory::new(config)
        };
        let transport = factory.create(&TransportContext {
            role: setup.roles[number],
            local: format!("{number}@a.example/x").as_str().into(),
            remote: format!("{}@a.example/x", 1 - number).as_str().into(),
            sid: "sid".into(),
            content: "main".into(),
            dialect: Dialect::JINGLE,
            seed,
            waker: Waker::noop().clone(),
        });
        Self {
            transport,
            channels: Vec::new(),
            interfaces,
            packets: Vec::new(),
            writable: Vec::new(),
            paths: Vec::new(),
            failed: Vec::new(),
            connected_after: None,
            told: Vec::new(),
            maps_ports: false,
            early: Vec::new(),
            nat,
            ports: 40_000,
        }
    }
}
