//! TCP between the two hosts, as far as firewalls, NATs and proxies let it.

use super::{Event, Key, Nat, RELAY, RELAY_WEB, World, home};
use bytes::Bytes;
use session_core::{LocalSocket, SocketError, StreamEvent};
use std::{net::SocketAddr, time::Duration};

/// How long an attempt that nobody answers takes.
const SYN_TIMEOUT: Duration = Duration::from_secs(20);

/// Connections and listeners.
#[derive(Default)]
pub struct Streams {
    pub listeners: Vec<(SocketAddr, Key)>,
    connections: Vec<[Key; 2]>,
    /// Simultaneous opens of which one side has sent its SYN: from, to, whose.
    opening: Vec<(SocketAddr, SocketAddr, Key)>,
    opened: u32,
}

impl World {
    /// An end opens a connection.
    pub fn connect(&mut self, key: Key, to: SocketAddr) {
        let nat = self.ends[key.end].nat;
        let from = home(key.end, nat);
        let allowed = nat.reaches_by_tcp(to.port());
        if allowed && (to == RELAY || to == RELAY_WEB) {
            let connected = StreamEvent::Connected(Ok(SocketAddr::new(from, 50_000)));
            self.push(self.delay * 2, Event::Stream(key, connected));
            return;
        }
        let listener = self.streams.listeners.iter().find(|(at, _)| *at == to);
        let listener = listener.map(|(_, key)| *key).filter(|listener| {
            let other = self.ends[listener.end].nat;
            let network = self.network_of(listener.end, to.ip());
            let neighbours = network != 0 && network == self.network_of(key.end, from);
            neighbours || other.is_reached_by_tcp()
        });
        let Some(listener) = listener.filter(|_| allowed) else {
            let failed = StreamEvent::Connected(Err(SocketError {
                what: "connect",
                why: "timed out".into(),
            }));
            self.push(SYN_TIMEOUT, Event::Stream(key, failed));
            return;
        };
        self.streams.opened += 1;
        let connection = LocalSocket(LocalSocket::FIRST_ACCEPTED + self.streams.opened);
        let accepted = Key {
            socket: connection,
            ..listener
        };
        self.streams.connections.push([key, accepted]);
        let port = 50_000 + self.streams.opened as u16;
        let remote = SocketAddr::new(self.internet.outermost(key.end, from), port);
        let event = StreamEvent::Accepted { connection, remote };
        self.push(self.delay, Event::Stream(listener, event));
        let connected = StreamEvent::Connected(Ok(SocketAddr::new(from, port)));
        self.push(self.delay * 2, Event::Stream(key, connected));
    }

    /// An end opens a connection from a port that the other knows, and the other does the same (RFC 6544 §4.1). A firewall
    /// lets a SYN in where one went out; without a firewall who comes too early is refused. NATs are in the way: nobody
    /// knows the port that they give.
    pub fn open_simultaneously(&mut self, key: Key, from: SocketAddr, to: SocketAddr) {
        let nat = self.ends[key.end].nat;
        // A proxy connects from its own address.
        let open = |nat: Nat, port| {
            let proxied = matches!(nat, Nat::HttpsProxy | Nat::SocksProxy);
            home(0, nat) == home(0, Nat::None) && nat.reaches_by_tcp(port) && !proxied
        };
        let other = 1 - key.end;
        let crossing = self
            .streams
            .opening
            .iter()
            .position(|(theirs, ours, _)| (*theirs, *ours) == (to, from));
        if let Some(at) = crossing {
            let (.., peer) = self.streams.opening.remove(at);
            self.streams.connections.push([key, peer]);
            for (end, local) in [(key, from), (peer, to)] {
                let connected = StreamEvent::Connected(Ok(local));
                self.push(self.delay * 2, Event::Stream(end, connected));
            }
            return;
        }
        let there = self.ends[other].nat;
        let possible = open(nat, to.port()) && open(there, from.port());
        if possible && !there.is_reached_by_tcp() {
            self.streams.opening.push((from, to, key));
            return;
        }
        let wait = if possible {
            self.delay * 2
        } else {
            SYN_TIMEOUT
        };
        let failed = StreamEvent::Connected(Err(SocketError {
            what: "connect",
            why: "refused, or nobody answers".into(),
        }));
        self.push(wait, Event::Stream(key, failed));
    }

    /// Bytes for a connection, which keeps their order; false if it is none.
    pub fn write(&mut self, key: Key, bytes: Bytes) -> bool {
        let Some(other) = self.other_end(key) else {
            return false;
        };
        let left = StreamEvent::Buffered(0);
        self.push(Duration::ZERO, Event::Stream(key, left));
        // In pieces, because a stream has no borders.
        let half = bytes.len() / 2;
        for piece in [bytes.slice(..half), bytes.slice(half..)] {
            self.push(self.delay, Event::Stream(other, StreamEvent::Data(piece)));
        }
        true
    }

    pub fn close(&mut self, key: Key) {
        self.sockets.retain(|_, other| *other != key);
        self.streams.listeners.retain(|(_, other)| *other != key);
        self.streams.opening.retain(|(.., other)| *other != key);
        if let Some(other) = self.other_end(key) {
            self.streams.connections.retain(|pair| !pair.contains(&key));
            self.push(self.delay, Event::Stream(other, StreamEvent::Closed(None)));
        }
    }

    /// All connections break.
    pub fn reset_streams(&mut self) {
        for key in std::mem::take(&mut self.streams.connections)
            .into_iter()
            .flatten()
        {
            self.push(
                Duration::ZERO,
                Event::Stream(key, StreamEvent::Closed(None)),
            );
        }
    }

    fn other_end(&self, key: Key) -> Option<Key> {
        let mut connections = self.streams.connections.iter();
        let pair = connections.find(|pair| pair.contains(&key))?;
        pair.iter().copied().find(|other| *other != key)
    }
}
