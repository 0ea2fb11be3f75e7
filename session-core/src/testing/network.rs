//! [`Network`]: sockets without an operating system.
//!
//! It does what a driver and the internet do together: whoever asks for a socket gets a fake address, datagrams travel
//! over a [`Netem`] for each pair of hosts, and streams arrive in order, late but whole.

mod stream;

use super::netem::{Agenda, Conditions, Netem};
use crate::{
    BindKind, Finding, Inquiry, LocalSocket, SocketError, SocketId, StreamEvent, StreamTarget,
};
use bytes::{Bytes, BytesMut};
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant},
};
use stream::{Connection, Piece};

/// How long a connection attempt into a cut link takes to fail.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);

/// What a [`Network`] calls a socket.
pub trait SocketKey: Copy + Ord + fmt::Debug {
    /// The key of a connection that the listening socket `self` accepted.
    #[must_use]
    fn accepted(self, connection: LocalSocket) -> Self;
}

impl SocketKey for SocketId {
    fn accepted(self, connection: LocalSocket) -> Self {
        self.sibling(connection)
    }
}

/// What a socket gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// The answer to [`Network::bind`].
    Bound(Result<SocketAddr, SocketError>),
    /// Something happened to a stream socket.
    Stream(StreamEvent),
    /// The answer to [`Network::inquire`].
    Found(Finding),
    /// A datagram, or several of equal size.
    Datagram {
        /// From where.
        source: SocketAddr,
        /// The bytes.
        payload: Bytes,
        /// The size of each but the last; 0 when it is one.
        segment_size: usize,
    },
}

/// A network of hosts, which are numbers. Host `n` has the address `10.0.n/256.n%256`, counted from 1, and any other
/// that it binds to.
pub struct Network<K> {
    conditions: Conditions,
    seed: u64,
    sockets: BTreeMap<K, Socket>,
    /// Who listens where: datagrams and connections are separate spaces, as with an operating system.
    udp: BTreeMap<SocketAddr, K>,
    listeners: BTreeMap<SocketAddr, K>,
    connections: Vec<Connection<K>>,
    connecting: Vec<K>,
    links: BTreeMap<(usize, usize), Netem<Packet<K>>>,
    agenda: Agenda<Happening<K>>,
    /// What has arrived and was not handed out, so that neighbours can be joined.
    arrived: VecDeque<(K, Delivery)>,
    next_port: u16,
    refusing: Vec<usize>,
    /// Names of hosts that hide their addresses.
    names: Vec<(Arc<str>, IpAddr)>,
    cut: Vec<(usize, usize)>,
    coalescing: bool,
    tapped: Option<Vec<Tapped>>,
}

/// A datagram as somebody on the way sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tapped {
    /// From where.
    pub source: SocketAddr,
    /// To where.
    pub destination: SocketAddr,
    /// What is in it.
    pub payload: Bytes,
}

#[derive(Clone, Copy, Debug)]
struct Socket {
    host: usize,
    /// Where others reach it.
    reached_at: SocketAddr,
    role: SocketRole,
}

#[derive(Clone, Copy, Debug)]
enum SocketRole {
    Udp,
    Listener { accepted: u32 },
    Stream { connection: usize, side: usize },
}

#[derive(Clone)]
struct Packet<K> {
    to: K,
    source: SocketAddr,
    payload: Bytes,
}

enum Happening<K> {
    Deliver(K, Delivery),
    Connect {
        key: K,
        host: usize,
        to: SocketAddr,
    },
    Departed {
        connection: usize,
        to: usize,
        bytes: usize,
    },
    Arrived {
        connection: usize,
        to: usize,
        piece: Piece,
    },
}

impl<K: SocketKey> Network<K> {
    /// A network whose links are all like `conditions`.
    pub fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            seed,
            sockets: BTreeMap::new(),
            udp: BTreeMap::new(),
            listeners: BTreeMap::new(),
            connections: Vec::new(),
            connecting: Vec::new(),
            links: BTreeMap::new(),
            agenda: Agenda::default(),
            arrived: VecDeque::new(),
            next_port: 40_000,
            refusing: Vec::new(),
            names: Vec::new(),
            cut: Vec::new(),
            coalescing: false,
            tapped: None,
        }
    }

    /// The address of a host that has not chosen one.
    pub fn address_of(host: usize) -> IpAddr {
        let [.., high, low] = (host as u32 + 1).to_be_bytes();
        IpAddr::V4(Ipv4Addr::new(10, 0, high, low))
    }

    /// Opens a socket. [`Delivery::Bound`] follows.
    pub fn bind(&mut self, host: usize, key: K, kind: BindKind, address: SocketAddr, now: Instant) {
        let result = self.try_bind(host, key, kind, address);
        self.agenda
            .push(now, Happening::Deliver(key, Delivery::Bound(result)));
    }

    /// Opens a connection. [`StreamEvent::Connected`] follows. TLS is taken to be fine.
    pub fn connect(&mut self, host: usize, key: K, target: &StreamTarget, now: Instant) {
        if self.refusing.contains(&host) {
            self.connection_failed(key, "refused by the test", now);
            return;
        }
        self.connecting.push(key);
        let at = now + self.conditions.delay;
        let to = target.address;
        self.agenda.push(at, Happening::Connect { key, host, to });
    }

    /// Answers a question: all hosts are on one local network, whose names are made up here, and there is no router.
    pub fn inquire(&mut self, host: usize, key: K, inquiry: &Inquiry, now: Instant) {
        let finding = match inquiry {
            Inquiry::HideAddress(_) if self.refusing.contains(&host) => Finding::Unavailable,
            Inquiry::HideAddress(address) => {
                let name: Arc<str> = format!("hidden-{}.local", self.names.len()).into();
                self.names.push((name.clone(), *address));
                Finding::Name(name)
            }
            Inquiry::LocalName(wanted) => {
                let known = self.names.iter().find(|(name, _)| name == wanted);
                known.map_or(Finding::Unavailable, |(_, ip)| Finding::Address(*ip))
            }
            Inquiry::MapPort(_) => Finding::Unavailable,
        };
        let at = now + self.conditions.delay;
        self.agenda
            .push(at, Happening::Deliver(key, Delivery::Found(finding)));
    }

    /// Writes to a connection. What nobody reads any more is discarded.
    pub fn write(&mut self, key: K, payload: Bytes, now: Instant) {
        self.write_piece(key, Piece::Data(payload), now);
    }

    /// Stops or resumes the reading of a connection: what the other side writes waits there.
    pub fn hold(&mut self, key: K, held: bool, now: Instant) {
        if let Some(Socket {
            role: SocketRole::Stream { connection, side },
            ..
        }) = self.sockets.get(&key).copied()
        {
            self.connections[connection].to[side].is_held = held;
            self.pump(connection, side, now);
        }
    }

    /// Tells the other end of a connection that nothing more comes, after what was written before.
    pub fn shutdown(&mut self, key: K, now: Instant) {
        self.write_piece(key, Piece::Shutdown, now);
    }

    /// Closes a socket. What was written before still arrives.
    pub fn close(&mut self, key: K, now: Instant) {
        self.write_piece(key, Piece::End, now);
        self.connecting.retain(|other| *other != key);
        let Some(socket) = self.sockets.remove(&key) else {
            return;
        };
        match socket.role {
            SocketRole::Udp => {
                self.udp.remove(&socket.reached_at);
            }
            SocketRole::Listener { .. } => {
                self.listeners.remove(&socket.reached_at);
            }
            SocketRole::Stream { connection, side } => {
                self.connections[connection].keys[side] = None;
                self.connections[connection].to[side].is_held = false;
                self.pump(connection, side, now);
            }
        }
    }

    /// Sends one datagram, or several of `segment_size` bytes each. What goes nowhere is lost.
    pub fn transmit(
        &mut self,
        key: K,
        destination: SocketAddr,
        mut payload: Bytes,
        segment_size: usize,
        now: Instant,
    ) {
        let Some(&Socket {
            host,
            reached_at: source,
            role: SocketRole::Udp,
        }) = self.sockets.get(&key)
        else {
            return;
        };
        let Some(&to) = self.udp.get(&destination) else {
            return;
        };
        let Some(other) = self.sockets.get(&to).map(|socket| socket.host) else {
            return;
        };
        while segment_size > 0 && payload.len() > segment_size {
            let payload = payload.split_to(segment_size);
            self.tap(source, destination, &payload);
            let packet = Packet {
                to,
                source,
                payload,
            };
            self.link(host, other)
                .handle_input(packet, segment_size, now);
        }
        let size = payload.len();
        self.tap(source, destination, &payload);
        let packet = Packet {
            to,
            source,
            payload,
        };
        self.link(host, other).handle_input(packet, size, now);
    }

    /// Whether datagrams are recorded from now on, as they are sent ([`tapped`](Self::tapped)).
    pub fn set_tapped(&mut self, tapped: bool) {
        self.tapped = tapped.then(Vec::new);
    }

    /// What was recorded since the last time, lost datagrams included.
    pub fn tapped(&mut self) -> Vec<Tapped> {
        self.tapped.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn tap(&mut self, source: SocketAddr, destination: SocketAddr, payload: &Bytes) {
        if let Some(tapped) = &mut self.tapped {
            tapped.push(Tapped {
                source,
                destination,
                // What is decrypted where it lies is not what was sent.
                payload: Bytes::copy_from_slice(payload),
            });
        }
    }

    /// A datagram from an address that nobody has, as a stranger would send it.
    pub fn inject(
        &mut self,
        destination: SocketAddr,
        source: SocketAddr,
        payload: Bytes,
        now: Instant,
    ) {
        if let Some(&to) = self.udp.get(&destination) {
            let delivery = Delivery::Datagram {
                source,
                payload,
                segment_size: 0,
            };
            self.agenda.push(now, Happening::Deliver(to, delivery));
        }
    }

    /// The next thing that has happened by `now`, and to which socket.
    pub fn poll_output(&mut self, now: Instant) -> Option<(K, Delivery)> {
        while self.arrived.is_empty() && self.poll_timeout()? <= now {
            self.advance(now);
        }
        if self.coalescing {
            self.arrive_all(now);
            self.coalesce();
        }
        self.arrived.pop_front()
    }

    /// When the next thing happens.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.links
            .values()
            .filter_map(Netem::poll_timeout)
            .chain(self.agenda.next())
            .min()
    }

    /// Changes all links. What is on the way stays as it is.
    pub fn set_conditions(&mut self, conditions: Conditions) {
        for link in self.links.values_mut() {
            link.set_conditions(conditions.clone());
        }
        self.conditions = conditions;
    }

    /// Cuts or joins the way from one host to another. A cut loses datagrams and holds streams.
    pub fn set_cut(&mut self, from: usize, to: usize, cut: bool, now: Instant) {
        self.cut.retain(|pair| *pair != (from, to));
        if cut {
            self.cut.push((from, to));
        }
        self.link(from, to).set_partitioned(cut);
        for connection in 0..self.connections.len() {
            for side in 0..2 {
                self.pump(connection, side, now);
            }
        }
    }

    /// From now on, sockets and connections that `host` asks for are refused, or are had again.
    pub fn set_refusing(&mut self, host: usize, refusing: bool) {
        self.refusing.retain(|other| *other != host);
        if refusing {
            self.refusing.push(host);
        }
    }

    /// Whether datagrams of equal size that arrive together are handed out as one batch, as a kernel may.
    pub fn set_coalescing(&mut self, coalescing: bool) {
        self.coalescing = coalescing;
    }

    /// Breaks all connections: both sides learn it at once.
    pub fn reset_streams(&mut self, now: Instant) {
        for connection in &mut self.connections {
            for key in connection.keys.iter_mut().filter_map(Option::take) {
                self.sockets.remove(&key);
                let error = SocketError {
                    what: "stream",
                    why: "reset by the test".into(),
                };
                let closed = Delivery::Stream(StreamEvent::Closed(Some(error)));
                self.agenda.push(now, Happening::Deliver(key, closed));
            }
        }
    }

    /// Where others reach a socket.
    pub fn reached_at(&self, key: K) -> Option<SocketAddr> {
        self.sockets.get(&key).map(|socket| socket.reached_at)
    }

    /// The open sockets, in order.
    pub fn sockets(&self) -> impl Iterator<Item = K> + '_ {
        self.sockets.keys().copied()
    }

    /// Whether nothing is on the way.
    pub fn is_idle(&self) -> bool {
        self.arrived.is_empty() && self.poll_timeout().is_none()
    }

    fn link(&mut self, from: usize, to: usize) -> &mut Netem<Packet<K>> {
        let seed = self
            .seed
            .wrapping_add((from as u64) << 32)
            .wrapping_add(to as u64);
        self.links
            .entry((from, to))
            .or_insert_with(|| Netem::new(self.conditions.clone(), seed))
    }

    fn try_bind(
        &mut self,
        host: usize,
        key: K,
        kind: BindKind,
        address: SocketAddr,
    ) -> Result<SocketAddr, SocketError> {
        let fail = |why: &str| SocketError {
            what: "bind",
            why: why.into(),
        };
        if self.refusing.contains(&host) {
            return Err(fail("refused by the test"));
        }
        if self.sockets.contains_key(&key) {
            return Err(fail("the number is in use"));
        }
        let port = match address.port() {
            0 => self.free_port(),
            port => port,
        };
        let ip = if address.ip().is_unspecified() {
            Self::address_of(host)
        } else {
            address.ip()
        };
        let reached_at = SocketAddr::new(ip, port);
        let (space, role) = match kind {
            BindKind::Udp => (&mut self.udp, SocketRole::Udp),
            BindKind::TcpListener => (&mut self.listeners, SocketRole::Listener { accepted: 0 }),
            BindKind::TcpReserved => {
                return Err(fail("the test network has no simultaneous opens"));
            }
        };
        if space.contains_key(&reached_at) {
            return Err(fail("the address is in use"));
        }
        space.insert(reached_at, key);
        let socket = Socket {
            host,
            reached_at,
            role,
        };
        self.sockets.insert(key, socket);
        Ok(SocketAddr::new(address.ip(), port))
    }

    fn free_port(&mut self) -> u16 {
        self.next_port = self.next_port.checked_add(1).unwrap_or(40_000);
        self.next_port
    }

    /// Moves what is due next and happens inside the network.
    fn advance(&mut self, now: Instant) {
        let due = self
            .links
            .iter()
            .filter_map(|(pair, link)| Some((link.poll_timeout()?, *pair)))
            .min();
        let agenda_first = match (self.agenda.next(), due) {
            (Some(at), Some((link_at, _))) => at <= link_at,
            (at, _) => at.is_some(),
        };
        if agenda_first {
            if let Some(happening) = self.agenda.pop(now) {
                self.happen(happening, now);
            }
        } else if let Some((_, pair)) = due
            && let Some(packet) = self
                .links
                .get_mut(&pair)
                .and_then(|link| link.poll_output(now))
            && self.sockets.contains_key(&packet.to)
        {
            let delivery = Delivery::Datagram {
                source: packet.source,
                payload: packet.payload,
                segment_size: 0,
            };
            self.arrived.push_back((packet.to, delivery));
        }
    }

    fn arrive_all(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|at| at <= now) {
            self.advance(now);
        }
    }

    /// Joins the first datagram with those of the same way and size that follow it directly.
    fn coalesce(&mut self) {
        const SEGMENTS_MAX: usize = 64;
        let Some((
            key,
            Delivery::Datagram {
                source,
                payload,
                segment_size: 0,
            },
        )) = self.arrived.front()
        else {
            return;
        };
        let (key, source, size) = (*key, *source, payload.len());
        let mut joined = BytesMut::from(&payload[..]);
        let mut count = 1;
        while let Some((
            other,
            Delivery::Datagram {
                source: from,
                payload,
                segment_size: 0,
            },
        )) = self.arrived.get(1)
            && (*other, *from) == (key, source)
            && payload.len() <= size
            && !payload.is_empty()
            && count < SEGMENTS_MAX
        {
            let is_last = payload.len() < size;
            joined.extend_from_slice(payload);
            self.arrived.remove(1);
            count += 1;
            if is_last {
                break;
            }
        }
        if count > 1 {
            self.arrived[0] = (
                key,
                Delivery::Datagram {
                    source,
                    payload: joined.freeze(),
                    segment_size: size,
                },
            );
        }
    }

    fn happen(&mut self, happening: Happening<K>, now: Instant) {
        match happening {
            Happening::Deliver(key, delivery) => self.arrived.push_back((key, delivery)),
            Happening::Connect { key, host, to } => self.accept(key, host, to, now),
            Happening::Departed {
                connection,
                to,
                bytes,
            } => {
                let end = &mut self.connections[connection];
                end.to[to].waiting -= bytes;
                let waiting = end.to[to].waiting;
                self.tell(connection, 1 - to, StreamEvent::Buffered(waiting), now);
            }
            Happening::Arrived {
                connection,
                to,
                piece,
            } => match piece {
                Piece::Data(bytes) => self.tell(connection, to, StreamEvent::Data(bytes), now),
                Piece::Shutdown => self.tell(connection, to, StreamEvent::Finished, now),
                Piece::End => {
                    self.tell(connection, to, StreamEvent::Finished, now);
                    self.tell(connection, to, StreamEvent::Closed(None), now);
                }
            },
        }
    }
}

impl<K: SocketKey> fmt::Debug for Network<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network")
            .field("conditions", &self.conditions)
            .field("sockets", &self.sockets)
            .field("cut", &self.cut)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "network/tests.rs"]
mod tests;
