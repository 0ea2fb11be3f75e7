//! One channel: its candidates and its connections. Channels of a transport have nothing in common.

use super::{
    candidate::{self, GoogleCandidate},
    connection::Connection,
    outlet::{Outlet, Relay},
};
use crate::ice::{
    candidate::{CandidateKind, Protocol, interleave, is_usable, priority},
    config::IceConfig,
    pair::Base,
    random::Random,
    relay::RelayOutput,
};
use crate::stun::{Class, Due, MessageBuilder, Method, Retransmission, Scan, TransactionId};
use bytes::Bytes;
use session_core::{
    Batch, ChannelOutput, Datagram, Element, LocalSocket, Role, SendError, SocketError,
    StreamEvent, TransportChannel, TransportContext, TransportError,
};
use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

/// What a channel is called in pings, for all its candidates.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub(super) username: Arc<str>,
    pub(super) password: Arc<str>,
}

pub(super) struct GoogleChannel {
    pub(super) config: Arc<IceConfig>,
    pub(super) random: Random,
    pub(super) role: Role,
    component: u16,
    pub(super) name: Name,
    pub(super) outlet: Outlet,
    pub(super) locals: Vec<Local>,
    gathers: Vec<Gather>,
    /// Of the newest generation.
    pub(super) remotes: Vec<GoogleCandidate>,
    remote_generation: u32,
    pub(super) connections: Vec<Connection>,
    pub(super) next_connection: u32,
    /// The connection in use.
    pub(super) best: Option<u32>,
    pub(super) triggered: VecDeque<u32>,
    /// Before then no ping that nothing asked for is sent.
    pub(super) next_ping: Option<Instant>,
    /// Since when there is no path, though the peer has shown itself.
    pub(super) without_path_since: Option<Instant>,
    pub(super) connected: bool,
    pub(super) why: Option<String>,
    interfaces_seen: u64,
    _watch: Option<Arc<()>>,
    pub(super) now: Option<Instant>,
}

/// An address of ours that is paired, and from where its datagrams leave.
pub(super) struct Local {
    pub(super) base: Base,
    pub(super) address: SocketAddr,
    pub(super) kind: CandidateKind,
    pub(super) priority: u32,
    /// What it is called in pings: as the channel, but where a relay wants it otherwise.
    pub(super) username: Arc<str>,
}

/// A question to a STUN server.
struct Gather {
    socket: LocalSocket,
    server: SocketAddr,
    transaction: TransactionId,
    bytes: Bytes,
    /// `None` when it was answered, or never will be.
    clock: Option<Retransmission>,
    answered: bool,
    /// When to ask again, so that the mapping lives.
    again: Option<Instant>,
}

impl GoogleChannel {
    pub(super) fn new(
        config: Arc<IceConfig>,
        context: &TransportContext,
        component: u16,
        name: Name,
        seed: &[u8; 32],
    ) -> Self {
        Self {
            random: Random::new(seed),
            role: context.role,
            component,
            name,
            outlet: Outlet::default(),
            locals: Vec::new(),
            gathers: Vec::new(),
            remotes: Vec::new(),
            remote_generation: 0,
            connections: Vec::new(),
            next_connection: 0,
            best: None,
            triggered: VecDeque::new(),
            next_ping: None,
            without_path_since: None,
            connected: false,
            why: None,
            interfaces_seen: config.interfaces.version(),
            _watch: config.interfaces.watch(&context.waker),
            now: None,
            config,
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = interleave(&self.config.interfaces.addresses());
        addresses.truncate(self.config.interfaces_max);
        addresses
    }

    /// Addresses came or went.
    fn update_interfaces(&mut self, now: Instant) {
        let version = self.config.interfaces.version();
        if version == self.interfaces_seen {
            return;
        }
        self.interfaces_seen = version;
        let addresses = self.addresses();
        let gone: Vec<LocalSocket> = self
            .outlet
            .sockets
            .extract_if(.., |socket| !addresses.contains(&socket.ip))
            .map(|socket| socket.number)
            .collect();
        for number in &gone {
            self.outlet.push(ChannelOutput::Close(*number));
        }
        let is_gone = |base| matches!(base, Base::Host(number) if gone.contains(&number));
        self.locals.retain(|local| !is_gone(local.base));
        self.gathers.retain(|gather| !gone.contains(&gather.socket));
        self.connections
            .retain(|connection| !is_gone(connection.base));
        self.outlet.open_all(&addresses);
        for number in 0..self.outlet.relays.len() {
            self.outlet
                .with_relay(number, |source| source.update_local(&addresses, now));
        }
        self.review(now);
    }

    fn socket_opened(&mut self, number: LocalSocket, address: SocketAddr, now: Instant) {
        if is_usable(address) {
            self.add_local(Base::Host(number), CandidateKind::Host, address, now);
        }
        if self.config.relay_only {
            return;
        }
        let servers = self.config.stun_servers.clone();
        for server in servers {
            if server.is_ipv4() != address.is_ipv4() {
                continue;
            }
            let transaction = self.random.transaction();
            let request = MessageBuilder::new(Class::Request, Method::BINDING, transaction);
            let Ok(bytes) = request.finish(None, false) else {
                continue;
            };
            self.outlet
                .control(Base::Host(number), server, bytes.clone(), now);
            self.gathers.push(Gather {
                socket: number,
                server,
                transaction,
                bytes,
                clock: Some(Retransmission::new(self.config.timing, now)),
                answered: false,
                again: None,
            });
        }
    }

    /// A candidate: told, and if datagrams leave from it, paired.
    fn add_local(&mut self, base: Base, kind: CandidateKind, address: SocketAddr, now: Instant) {
        let allowed = !self.config.relay_only || kind == CandidateKind::Relayed;
        if !allowed || self.outlet.has_failed() {
            return;
        }
        let network = match base {
            Base::Host(number)
            | Base::TcpActive(number)
            | Base::TcpPassive(number)
            | Base::TcpSimultaneous(number)
            | Base::Tcp(number) => number.0,
            Base::Relay(relay) => relay as u32,
        };
        let preference = u16::MAX - (network.min(0xff) as u16) * 0x100;
        let priority = priority(kind.preference(Protocol::Udp), preference, self.component);
        let username = match base {
            Base::Relay(relay) => self.outlet.relay_username(relay),
            Base::Host(_)
            | Base::TcpActive(_)
            | Base::TcpPassive(_)
            | Base::TcpSimultaneous(_)
            | Base::Tcp(_) => None,
        };
        let username = username.unwrap_or_else(|| self.name.username.clone());
        let told = candidate::write(&GoogleCandidate {
            address,
            username: username.clone(),
            password: self.name.password.clone(),
            kind,
            priority,
            generation: 0,
            network,
        });
        self.outlet.push(ChannelOutput::Info(told));
        if matches!(kind, CandidateKind::Host | CandidateKind::Relayed) {
            self.locals.push(Local {
                base,
                address,
                kind,
                priority,
                username,
            });
            for at in 0..self.remotes.len() {
                let remote = self.remotes[at].clone();
                self.connect_to(self.locals.len() - 1, &remote, now);
            }
            self.review(now);
        }
    }

    /// Repeats questions, and asks again what keeps mappings alive.
    fn gather_timeout(&mut self, now: Instant) {
        let keepalive = self.config.keepalive;
        let without_path = !self.outlet.has_path();
        for gather in &mut self.gathers {
            let due = gather.clock.as_mut().map(|clock| clock.handle_timeout(now));
            let again = gather.again.is_some_and(|at| at <= now);
            if again {
                gather.again = without_path.then(|| now + keepalive);
            }
            match due {
                Some(Due::GiveUp) => gather.clock = None,
                Some(Due::Nothing) | None if !(again && without_path) => {}
                Some(Due::Send | Due::Nothing) | None => {
                    let base = Base::Host(gather.socket);
                    let bytes = gather.bytes.clone();
                    self.outlet.control(base, gather.server, bytes, now);
                }
            }
        }
    }

    /// The answer of a STUN server, if it is one.
    pub(super) fn handle_gathered(
        &mut self,
        base: Base,
        source: SocketAddr,
        scan: &Scan<'_>,
        now: Instant,
    ) -> bool {
        let transaction = scan.transaction();
        let Some(gather) = self.gathers.iter_mut().find(|gather| {
            Base::Host(gather.socket) == base
                && gather.server == source
                && gather.transaction == transaction
        }) else {
            return false;
        };
        if std::mem::replace(&mut gather.answered, true) {
            return true;
        }
        gather.clock = None;
        gather.again = Some(now + self.config.keepalive);
        let socket = gather.socket;
        let mapped = match scan.decode() {
            Ok(message) if message.class == Class::Success => message.mapped_address(),
            Ok(_) | Err(_) => None,
        };
        let own = self.outlet.address(socket);
        if let Some(mapped) = mapped.filter(|mapped| is_usable(*mapped) && Some(*mapped) != own) {
            self.add_local(base, CandidateKind::ServerReflexive, mapped, now);
        }
        true
    }

    /// What relays said.
    fn hear_relays(&mut self, now: Instant) {
        while let Some((number, event)) = self.outlet.relay_events.pop_front() {
            let base = Base::Relay(number);
            match event {
                RelayOutput::Allocated { relayed, .. } => {
                    self.add_local(base, CandidateKind::Relayed, relayed, now);
                }
                RelayOutput::Received { peer, batch } => {
                    self.handle_packets(base, peer, batch, now)
                }
                RelayOutput::Lost { relayed, .. } => {
                    let lost = |local: SocketAddr| local.is_ipv4() == relayed.is_ipv4();
                    self.lose_relay(base, lost, now);
                }
                RelayOutput::Failed(_) => {
                    if let Some(relay) = self.outlet.relays.get_mut(number) {
                        relay.failed = true;
                    }
                    self.lose_relay(base, |_| true, now);
                }
                RelayOutput::Bind(..)
                | RelayOutput::Connect(..)
                | RelayOutput::Write(..)
                | RelayOutput::Close(_)
                | RelayOutput::Transmit(_) => {}
            }
        }
        self.fail_without_sockets();
    }

    /// Addresses on a relay are no more.
    fn lose_relay(&mut self, base: Base, lost: impl Fn(SocketAddr) -> bool, now: Instant) {
        self.locals
            .retain(|local| local.base != base || !lost(local.address));
        self.connections
            .retain(|connection| connection.base != base || !lost(connection.local));
        self.review(now);
    }

    /// Nothing to send from: there is no use in waiting.
    fn fail_without_sockets(&mut self) {
        let mut why = None;
        let dead = self.outlet.sockets.iter().all(|socket| {
            let error = socket.error();
            why = why.take().or_else(|| error.map(ToString::to_string));
            error.is_some()
        });
        let relays_dead = self.outlet.relays.iter().all(|relay| relay.failed);
        if let (true, true, Some(why)) = (dead, relays_dead, why) {
            self.fail(TransportError::NoResource(why.into()));
        }
    }

    pub(super) fn fail(&mut self, error: TransportError) {
        self.why.get_or_insert_with(|| error.to_string());
        self.outlet.fail(error);
        self.connections.clear();
        self.gathers.clear();
        self.triggered.clear();
    }

    /// A candidate of the peer. Those of older generations are forgotten, their connections are not.
    fn add_remote(&mut self, remote: GoogleCandidate, now: Instant) {
        if remote.generation < self.remote_generation {
            return;
        }
        if remote.generation > self.remote_generation {
            self.remote_generation = remote.generation;
            self.remotes.clear();
        }
        if self.remotes.contains(&remote) || self.remotes.len() >= self.config.remote_candidates_max
        {
            return;
        }
        self.remotes.push(remote.clone());
        if self.without_path_since.is_none() && !self.outlet.has_path() {
            self.without_path_since = Some(now);
        }
        for local in 0..self.locals.len() {
            self.connect_to(local, &remote, now);
        }
        self.review(now);
    }
}

impl TransportChannel for GoogleChannel {
    fn connect(&mut self, now: Instant) {
        self.now = Some(now);
        self.connected = true;
        let addresses = self.addresses();
        self.outlet.open_all(&addresses);
        let relays = self.config.relays.clone();
        for (number, factory) in relays.iter().enumerate() {
            self.outlet.relays.push(Relay {
                source: factory.create(self.random.seed()),
                failed: false,
            });
            self.outlet
                .with_relay(number, |source| source.start(&addresses, now));
        }
        self.hear_relays(now);
    }

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        self.now = Some(now);
        if let Some(remote) = candidate::read(info)? {
            self.add_remote(remote, now);
        }
        Ok(())
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.now = Some(now);
        if let Some((relay, socket)) = self.outlet.relay_of(socket) {
            self.outlet
                .with_relay(relay, |source| source.handle_bound(socket, address, now));
        } else if let Some(address) = self.outlet.bound(socket, address, now) {
            self.socket_opened(socket, address, now);
        }
        self.hear_relays(now);
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        self.now = Some(now);
        if let Some((relay, socket)) = self.outlet.relay_of(datagram.socket) {
            let datagram = Datagram { socket, ..datagram };
            self.outlet
                .with_relay(relay, |source| source.handle_datagram(datagram, now));
            self.hear_relays(now);
        } else if self.outlet.address(datagram.socket).is_some() && !self.outlet.has_failed() {
            let (base, source) = (Base::Host(datagram.socket), datagram.source);
            self.handle_packets(base, source, datagram.batch(), now);
        }
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        self.now = Some(now);
        if let Some((relay, socket)) = self.outlet.relay_of(socket) {
            self.outlet
                .with_relay(relay, |source| source.handle_stream(socket, event, now));
            self.hear_relays(now);
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
        if !self.connected || self.outlet.has_failed() {
            return;
        }
        self.update_interfaces(now);
        self.outlet.open_again(now);
        self.gather_timeout(now);
        for number in 0..self.outlet.relays.len() {
            let at = self.outlet.relays[number].source.poll_timeout();
            if at.is_some_and(|at| at <= now) {
                self.outlet
                    .with_relay(number, |source| source.handle_timeout(now));
            }
        }
        self.hear_relays(now);
        self.ping_due(now);
        self.review(now);
    }

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.send_batch(packet.into(), now)
    }

    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        let path = self.path().map(|best| (best.base, best.remote));
        self.outlet.send(path, batch, now)
    }

    fn close(&mut self) {
        if let Some(now) = self.now {
            self.outlet.close(now);
        }
        self.connections.clear();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        if !self.connected || self.outlet.has_failed() {
            return None;
        }
        if self.config.interfaces.version() != self.interfaces_seen {
            return self.now;
        }
        let gathers = self.gathers.iter().flat_map(|gather| {
            let clock = gather.clock.as_ref().map(Retransmission::poll_timeout);
            [clock, gather.again].into_iter().flatten()
        });
        gathers
            .chain(self.outlet.poll_timeout())
            .chain(self.ping_timeout())
            .min()
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.outlet.poll_output()
    }

    fn describe(&self) -> Option<String> {
        if let Some(best) = self.path().filter(|_| self.outlet.has_path()) {
            return Some(format!("google ice {best}"));
        }
        if let Some(why) = &self.why {
            return Some(format!("google ice: {why}"));
        }
        let mut text = format!("google ice: no path: {}", self.why_no_path());
        for connection in &self.connections {
            text.push_str("; ");
            text.push_str(&connection.to_string());
        }
        Some(text)
    }
}
