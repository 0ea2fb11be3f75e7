//! Where relayed candidates come from: what an ICE agent asks of a relay, and what it is told.

use session_core::{
    Batch, Datagram, LocalSocket, SocketError, StreamEvent, StreamTarget, Transmit,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// Makes a [`RelaySource`] for each component: one for each relay, or group of equivalent relays, that is configured.
pub trait RelayFactory: Send + Sync {
    /// A client of the relay that has asked nothing yet. All its randomness comes from `seed`.
    fn create(&self, seed: [u8; 32]) -> Box<dyn RelaySource>;
}

/// A client of a relay, with an address on it: a state machine like a channel.
///
/// # For implementers
/// It numbers its own sockets below [`RELAY_SOCKETS_MAX`], and hears only of those. After each call the agent
/// drains [`poll_output`](Self::poll_output). It keeps its allocation and permissions alive by itself.
pub trait RelaySource: Send {
    /// Begin, from these local addresses.
    fn start(&mut self, local: &[IpAddr], now: Instant);

    /// The addresses of this host are others now. What was bound to one that is gone will not work any more.
    fn update_local(&mut self, local: &[IpAddr], now: Instant) {
        let _ = (local, now);
    }

    /// The answer to [`RelayOutput::Bind`].
    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    );

    /// One datagram, or a batch, on one of its sockets.
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant);

    /// Something happened to one of its connections.
    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        let _ = (socket, event, now);
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Instant);

    /// Let through what `peer` sends. Called before anything is sent to it, and again without harm.
    fn permit(&mut self, peer: SocketAddr, now: Instant);

    /// Sends datagrams of equal size to a peer, through the relay. What cannot be sent is lost.
    fn send(&mut self, peer: SocketAddr, batch: Batch, now: Instant);

    /// It is not needed any more: gives back what it holds on the relay. What it wants to transmit or to write is
    /// still carried out, and nothing is told to it afterwards.
    fn close(&mut self, now: Instant) {
        let _ = now;
    }

    /// The name by which peers have to ask at its address, where a relay passes on nothing else. Known once there is one.
    fn username(&self) -> Option<Arc<str>> {
        None
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next thing that it wants or says.
    fn poll_output(&mut self) -> Option<RelayOutput>;
}

/// Sockets that one [`RelaySource`] may have: the numbers below it are its own.
pub const RELAY_SOCKETS_MAX: u32 = 1 << 10;

/// What a [`RelaySource`] wants or says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RelayOutput {
    /// Open a UDP socket.
    Bind(LocalSocket, SocketAddr),
    /// Open a connection.
    Connect(LocalSocket, StreamTarget),
    /// Bytes for a connection.
    Write(LocalSocket, bytes::Bytes),
    /// Close a socket.
    Close(LocalSocket),
    /// Datagrams for the network.
    Transmit(Transmit),
    /// There is an address on the relay: at most one of each family at a time.
    Allocated {
        /// Where peers reach us.
        relayed: SocketAddr,
        /// Where the relay sees us.
        mapped: Option<SocketAddr>,
    },
    /// A datagram, or a batch, of a peer.
    Received {
        /// Who sent it to the relayed address.
        peer: SocketAddr,
        /// What.
        batch: Batch,
    },
    /// An address on the relay is no more. Another is sought; what comes of it is told by
    /// [`Allocated`](Self::Allocated) or [`Failed`](Self::Failed).
    Lost {
        /// Which.
        relayed: SocketAddr,
        /// Why, for people.
        why: Arc<str>,
    },
    /// There is no address on the relay, or no longer. Nothing follows.
    Failed(Arc<str>),
}
