//! The connections of one side: the one that counts, and until it stands, attempts that may be it.

use super::{Config, Fingerprint, Identity, control::Gate, tls};
use bytes::BytesMut;
use quinn_proto::{
    Connection, ConnectionHandle, DatagramEvent, Endpoint, EndpointEvent, Incoming,
    crypto::rustls::QuicServerConfig,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// Attempts at a connection that are followed at the same time. A further one takes the place of the oldest: where the
/// channel below lets strangers in, they can delay a connection, and that is all.
pub(super) const ATTEMPTS_MAX: usize = 4;

/// Where everything goes and comes from, as QUIC sees it. The channel below knows better.
const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

pub(super) struct Link {
    handle: ConnectionHandle,
    pub(super) connection: Connection,
    pub(super) gate: Option<Gate>,
}

impl Link {
    /// Most bytes that may be on their way.
    pub(super) fn window(&self) -> u64 {
        match &self.gate {
            Some(gate) => gate.window(),
            None => self.connection.congestion_state().window(),
        }
    }
}

pub(super) struct Links {
    endpoint: Endpoint,
    pub(super) all: Vec<Link>,
    config: Config,
    server: Option<Arc<QuicServerConfig>>,
    /// Whether the one that counts is known, and is the only one.
    settled: bool,
    scratch: Vec<u8>,
}

impl Links {
    /// `None` when the cryptography does not work here.
    pub(super) fn new(
        config: &Config,
        identity: &Identity,
        peer: Fingerprint,
        calls: bool,
        seed: [u8; 32],
        now: Instant,
    ) -> Option<Self> {
        let server = match calls {
            true => None,
            false => Some(tls::server(identity, peer)?),
        };
        let accepting = server.clone().map(|tls| config.server(tls, None));
        let mut endpoint = Endpoint::new(config.endpoint(seed), accepting, true, None);
        let mut all = Vec::with_capacity(1);
        if calls {
            let gate = config.gate();
            let client = config.client(tls::client(identity, peer)?, seed, gate.as_ref());
            let (handle, connection) =
                endpoint.connect(now, client, PEER, tls::SERVER_NAME).ok()?;
            all.push(Link {
                handle,
                connection,
                gate,
            });
        }
        Some(Self {
            config: config.clone(),
            endpoint,
            all,
            server,
            settled: calls,
            scratch: Vec::new(),
        })
    }

    /// A datagram arrived. Whether a connection takes it.
    pub(super) fn handle(&mut self, datagram: BytesMut, now: Instant) -> bool {
        self.scratch.clear();
        let event = self
            .endpoint
            .handle(now, PEER, None, None, datagram, &mut self.scratch);
        match event {
            Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                let link = self.all.iter_mut().find(|link| link.handle == handle);
                let taken = link.is_some();
                if let Some(link) = link {
                    link.connection.handle_event(event);
                }
                taken
            }
            Some(DatagramEvent::NewConnection(incoming)) if self.settled => {
                self.endpoint.ignore(incoming);
                false
            }
            Some(DatagramEvent::NewConnection(incoming)) => self.accept(incoming, now),
            // There is one version, and a connection that is gone is gone: signalling says so.
            Some(DatagramEvent::Response(_)) | None => false,
        }
    }

    fn accept(&mut self, incoming: Incoming, now: Instant) -> bool {
        let Some(tls) = self.server.clone() else {
            self.endpoint.ignore(incoming);
            return false;
        };
        let gate = self.config.gate();
        let config = self.config.server(tls, gate.as_ref());
        let accepted = self
            .endpoint
            .accept(incoming, now, &mut self.scratch, Some(config));
        let Ok((handle, connection)) = accepted else {
            return false;
        };
        if self.all.len() == ATTEMPTS_MAX {
            self.remove(0);
        }
        self.all.push(Link {
            handle,
            connection,
            gate,
        });
        true
    }

    /// Exchanges what connections and endpoint have to say to each other.
    pub(super) fn attend(&mut self) {
        for link in &mut self.all {
            while let Some(event) = link.connection.poll_endpoint_events() {
                // A connection that has ended is forgotten by whoever takes it out.
                if !event.is_drained()
                    && let Some(event) = self.endpoint.handle_event(link.handle, event)
                {
                    link.connection.handle_event(event);
                }
            }
        }
    }

    /// This one counts.
    pub(super) fn settle(&mut self, at: usize) {
        self.settled = true;
        self.all.swap(0, at);
        while self.all.len() > 1
            && let Some(link) = self.all.pop()
        {
            self.forget(link.handle);
        }
    }

    /// One that did not come about.
    pub(super) fn remove(&mut self, at: usize) {
        let link = self.all.remove(at);
        self.forget(link.handle);
    }

    fn forget(&mut self, handle: ConnectionHandle) {
        let _ = self.endpoint.handle_event(handle, EndpointEvent::drained());
    }
}
