//! Local candidates: own addresses, as STUN servers see them, and of relays (RFC 8445 §5.1.1).

use super::{Agent, tcp::protocol_of};
use crate::ice::{
    candidate::{
        Candidate, CandidateKind, Foundation, interleave, is_private, is_usable, priority,
    },
    component::{
        BIND_AGAIN, BIND_AGAIN_MAX, Component, Gather, GatherState, Local, Relay, Socket,
        SocketState,
    },
    pair::{Base, PairState, Path},
    relay::RelayOutput,
};
use crate::stun::{Class, Due, MessageBuilder, Method, Retransmission, Scan};
use session_core::{
    BindKind, ChannelOutput, LocalSocket, SocketError, StreamEvent, TransportError,
};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Instant,
};

impl Agent {
    /// A component's channel begins.
    pub(in crate::ice) fn connect(&mut self, id: u16, now: Instant) {
        self.now = Some(now);
        let addresses = self.addresses();
        let mut relays: Vec<_> = self.config.relays.clone();
        if self.config.lite {
            relays.clear();
        }
        let seeds: Vec<_> = relays.iter().map(|_| self.random.seed()).collect();
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        component.connected = true;
        for ip in &addresses {
            component.open(*ip, 0);
        }
        for (number, (factory, seed)) in relays.iter().zip(seeds).enumerate() {
            component.relays.push(Relay {
                source: factory.create(seed),
                relayed: None,
                failed: None,
            });
            component.with_relay(number, |source| source.start(&addresses, now));
        }
        // Candidates of the peer may have come before.
        self.pair_remotes(id, now);
        self.review(now);
    }

    pub(in crate::ice) fn handle_bound(
        &mut self,
        id: u16,
        number: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.now = Some(now);
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        if let Some((relay, socket)) = component.relay_of(number) {
            component.with_relay(relay, |source| source.handle_bound(socket, address, now));
        } else if let Some(socket) = component
            .sockets
            .iter_mut()
            .find(|s| s.number == number && matches!(s.state, SocketState::Binding))
        {
            match address {
                Ok(address) => {
                    socket.state = SocketState::Open(address);
                    self.socket_opened(id, number, address, now);
                }
                Err(error) => {
                    socket.state = SocketState::Failed(error);
                    // An address that has just come may not be ready yet (RFC 4862 §5.4).
                    let again = component.had_path && socket.tries < BIND_AGAIN_MAX;
                    socket.again_at = again.then(|| now + BIND_AGAIN);
                }
            }
        } else {
            self.listening(id, number, address, now);
        }
        self.review(now);
    }

    pub(in crate::ice) fn handle_stream(
        &mut self,
        id: u16,
        number: LocalSocket,
        event: StreamEvent,
        now: Instant,
    ) {
        self.now = Some(now);
        if let Some(component) = self.components.get_mut(&id)
            && let Some((relay, socket)) = component.relay_of(number)
        {
            component.with_relay(relay, |source| source.handle_stream(socket, event, now));
        } else {
            self.handle_tcp(id, number, event, now);
        }
        self.review(now);
    }

    /// Addresses came or went (RFC 8445 §2.4 leaves it to restarts).
    pub(super) fn update_interfaces(&mut self, now: Instant) {
        let version = self.config.interfaces.version();
        if version == self.interfaces_seen {
            return;
        }
        self.interfaces_seen = version;
        let addresses = self.addresses();
        let mut lost_path = false;
        for component in self
            .components
            .values_mut()
            .filter(|c| c.connected && !c.failed)
        {
            let gone: Vec<_> = component
                .sockets
                .extract_if(.., |socket| !addresses.contains(&socket.ip))
                .map(|socket| socket.number)
                .collect();
            for number in &gone {
                component.push(ChannelOutput::Close(*number));
            }
            let silent = component.close_listeners(|ip| addresses.contains(&ip));
            let is_gone = |base| match base {
                Base::Host(number) | Base::TcpActive(number) => gone.contains(&number),
                Base::TcpPassive(number) | Base::TcpSimultaneous(number) => {
                    silent.contains(&number)
                }
                Base::Relay(_) | Base::Tcp(_) => false,
            };
            component.locals.retain(|local| !is_gone(local.base));
            component
                .gathers
                .retain(|gather| !gone.contains(&gather.socket));
            let id = component.id;
            self.pairs
                .retain(|pair| pair.component != id || !is_gone(pair.base));
            if component
                .path
                .as_ref()
                .is_some_and(|path| is_gone(path.base))
            {
                component.set_path(None);
                lost_path = true;
            }
            // What has failed may do now.
            component
                .sockets
                .retain(|socket| !matches!(socket.state, SocketState::Failed(_)));
            for ip in &addresses {
                if !component.sockets.iter().any(|socket| socket.ip == *ip) {
                    component.open(*ip, 0);
                }
            }
            for number in 0..component.relays.len() {
                component.with_relay(number, |source| source.update_local(&addresses, now));
            }
        }
        if lost_path && !self.has_substitute() {
            self.restart(now);
        }
    }

    /// Who may decide anew needs no restart as long as there are other valid pairs.
    fn has_substitute(&mut self) -> bool {
        let pairs = &self.pairs;
        let valid = |id| {
            let mut valid = pairs.iter().filter(|p| p.state == PairState::Succeeded);
            valid.any(|p| p.component == id)
        };
        let lost = |c: &&mut Component| c.path.is_none() && c.had_path && !c.failed;
        let found = self.renomination
            && self.controlling
            && self
                .components
                .values_mut()
                .filter(lost)
                .all(|c| valid(c.id));
        if found {
            for component in self.components.values_mut().filter(lost) {
                component.completed = false;
            }
        }
        found
    }

    /// Repeats questions, gives up on servers, keeps mappings alive, wakes relays.
    pub(super) fn gather_timeout(&mut self, now: Instant) {
        let keepalive = self.config.keepalive;
        for component in self.components.values_mut().filter(|c| !c.failed) {
            component.open_again(now);
            let mut again = Vec::new();
            for gather in &mut component.gathers {
                if let GatherState::Asking { clock, bytes, .. } = &mut gather.state {
                    match clock.handle_timeout(now) {
                        Due::Nothing => {}
                        Due::Send => again.push((gather.socket, gather.server, bytes.clone())),
                        Due::GiveUp => gather.state = GatherState::Failed,
                    }
                }
            }
            if component.keepalive_at.is_some_and(|at| at <= now) {
                component.keepalive_at = (component.path.is_none()).then(|| now + keepalive);
                let indication = MessageBuilder::new(
                    Class::Indication,
                    Method::BINDING,
                    self.random.transaction(),
                );
                if let (Ok(bytes), None) = (indication.finish(None, true), &component.path) {
                    let answered = |gather: &&Gather| matches!(gather.state, GatherState::Answered);
                    again.extend(
                        component
                            .gathers
                            .iter()
                            .filter(answered)
                            .map(|g| (g.socket, g.server, bytes.clone())),
                    );
                }
            }
            for (socket, server, bytes) in again {
                component.control(Base::Host(socket), server, bytes, now);
            }
            for number in 0..component.relays.len() {
                if component.relays[number]
                    .source
                    .poll_timeout()
                    .is_some_and(|at| at <= now)
                {
                    component.with_relay(number, |source| source.handle_timeout(now));
                }
            }
        }
    }

    /// The answer of a STUN server, if it is one.
    pub(super) fn handle_gathered(
        &mut self,
        id: u16,
        socket: LocalSocket,
        source: SocketAddr,
        scan: &Scan<'_>,
        now: Instant,
    ) -> bool {
        let transaction = scan.transaction();
        let Some(component) = self.components.get_mut(&id) else {
            return false;
        };
        let Some(gather) = component.gathers.iter_mut().find(|gather| {
            gather.socket == socket
                && gather.server == source
                && matches!(&gather.state, GatherState::Asking { transaction: t, .. } if *t == transaction)
        }) else {
            return false;
        };
        let mapped = match scan.decode() {
            Ok(message) if message.class == Class::Success => message.mapped_address(),
            Ok(_) | Err(_) => None,
        };
        let Some(mapped) = mapped.filter(|mapped| is_usable(*mapped)) else {
            gather.state = GatherState::Failed;
            return true;
        };
        gather.state = GatherState::Answered;
        component
            .keepalive_at
            .get_or_insert(now + self.config.keepalive);
        let base = component.sockets.iter().find_map(|s| match s.state {
            SocketState::Open(address) if s.number == socket => Some(address),
            SocketState::Open(_) | SocketState::Binding | SocketState::Failed(_) => None,
        });
        if let Some(base) = base.filter(|base| *base != mapped) {
            self.add_local(
                id,
                Base::Host(socket),
                CandidateKind::ServerReflexive,
                mapped,
                Some(base),
                now,
            );
        }
        true
    }

    /// What relays said.
    pub(super) fn hear_relays(&mut self, now: Instant) {
        for &id in &*self.components.ids() {
            while let Some((number, event)) = self
                .components
                .get_mut(&id)
                .and_then(|c| c.relay_events.pop_front())
            {
                self.hear_relay(id, number, event, now);
            }
        }
    }

    fn hear_relay(&mut self, id: u16, number: usize, event: RelayOutput, now: Instant) {
        match event {
            RelayOutput::Allocated { relayed, mapped } => {
                if let Some(relay) = self
                    .components
                    .get_mut(&id)
                    .and_then(|c| c.relays.get_mut(number))
                {
                    relay.relayed = Some(relayed);
                    let base = Base::Relay(number);
                    self.add_local(id, base, CandidateKind::Relayed, relayed, mapped, now);
                }
            }
            RelayOutput::Received { peer, batch } => {
                self.handle_packets(id, Base::Relay(number), peer, batch, now);
            }
            RelayOutput::Lost { relayed, .. } => self.lose_relay(id, number, Some(relayed), now),
            RelayOutput::Failed(why) => {
                self.lose_relay(id, number, None, now);
                if let Some(relay) = self
                    .components
                    .get_mut(&id)
                    .and_then(|c| c.relays.get_mut(number))
                {
                    relay.failed = Some(why);
                }
            }
            // What it wants was done when it said so.
            RelayOutput::Bind(..)
            | RelayOutput::Connect(..)
            | RelayOutput::Write(..)
            | RelayOutput::Close(_)
            | RelayOutput::Transmit(_) => {}
        }
    }

    /// An address on a relay is gone, or all of them.
    fn lose_relay(&mut self, id: u16, number: usize, relayed: Option<SocketAddr>, now: Instant) {
        let base = Base::Relay(number);
        let is_v4 = relayed.map(|address| address.is_ipv4());
        let gone = |b: Base, address: SocketAddr| {
            b == base && is_v4.is_none_or(|v4| v4 == address.is_ipv4())
        };
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        let locals = &mut component.locals;
        locals.retain(|local| !gone(local.base, local.candidate.address));
        let others = locals.iter().find(|local| local.base == base);
        let others = others.map(|local| local.candidate.address);
        if let Some(relay) = component.relays.get_mut(number) {
            relay.relayed = others;
        }
        self.pairs
            .retain(|pair| pair.component != id || !gone(pair.base, pair.local.address));
        let on_path = |path: &Path| gone(path.base, path.remote);
        if component.path.as_ref().is_some_and(on_path) {
            component.set_path(None);
            self.restart(now);
        }
    }

    fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = interleave(&self.config.interfaces.addresses());
        addresses.truncate(self.config.interfaces_max);
        addresses
    }

    /// Whether nothing but relays is told and used.
    pub(super) fn hides_hosts(&self) -> bool {
        self.config.relay_only || self.withholds
    }

    /// The peer has answered: what was withheld until then is gathered and told.
    pub(in crate::ice) fn handle_remote_answer(&mut self) {
        let Some(now) = self.now.filter(|_| self.withholds) else {
            self.withholds = false;
            return;
        };
        self.withholds = false;
        let mut open = Vec::new();
        for component in self.components.values() {
            for socket in &component.sockets {
                if let SocketState::Open(address) = socket.state {
                    open.push((component.id, socket.number, address));
                }
            }
        }
        for (id, number, address) in open {
            self.socket_opened(id, number, address, now);
        }
        self.due = true;
    }

    fn socket_opened(&mut self, id: u16, number: LocalSocket, address: SocketAddr, now: Instant) {
        if is_usable(address) {
            self.add_local(
                id,
                Base::Host(number),
                CandidateKind::Host,
                address,
                None,
                now,
            );
        }
        if self.hides_hosts() || self.config.lite {
            return;
        }
        self.gather_tcp(id, number, address.ip(), now);
        if self.config.map_ports && is_private(address.ip()) && !address.ip().is_loopback() {
            self.map_port(id, number);
        }
        let servers: Vec<_> = self
            .config
            .stun_servers
            .iter()
            .copied()
            .filter(|server| server.is_ipv4() == address.is_ipv4())
            .collect();
        for server in servers {
            let transaction = self.random.transaction();
            let request = MessageBuilder::new(Class::Request, Method::BINDING, transaction);
            let (Ok(bytes), Some(component)) =
                (request.finish(None, true), self.components.get_mut(&id))
            else {
                return;
            };
            component.control(Base::Host(number), server, bytes.clone(), now);
            component.gathers.push(Gather {
                socket: number,
                server,
                state: GatherState::Asking {
                    transaction,
                    bytes,
                    clock: Retransmission::new(self.config.timing, now),
                },
            });
        }
    }

    /// A new local candidate, unless there is an equal one (RFC 8445 §5.1.3): told, and paired.
    pub(super) fn add_local(
        &mut self,
        id: u16,
        base: Base,
        kind: CandidateKind,
        address: SocketAddr,
        related: Option<SocketAddr>,
        now: Instant,
    ) {
        let allowed = !self.hides_hosts() || kind == CandidateKind::Relayed;
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        let known = |local: &Local| local.candidate.address == address && local.base == base;
        if !allowed || component.failed || component.locals.iter().any(known) {
            return;
        }
        let (network, preference) = component.preference(base);
        let protocol = protocol_of(base);
        let candidate = Arc::new(Candidate {
            component: id,
            foundation: foundation(kind, base, network),
            address,
            priority: priority(kind.preference(protocol), preference, id),
            kind,
            related,
            generation: self.generation,
            network,
            protocol,
            name: None,
        });
        let group = self.local_group(&candidate.foundation);
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        component.locals.push(Local {
            candidate: candidate.clone(),
            group,
            base,
            paired: matches!(kind, CandidateKind::Host | CandidateKind::Relayed),
        });
        let last = component.locals.len() - 1;
        if let Some(told) = self.disclose(&candidate) {
            self.tell(Some(told), false, Some(id));
        }
        self.pair_local(id, last, now);
    }

    /// All candidates of all components again, as of this generation. Returns whether there was one that may be told.
    pub(super) fn tell_candidates(&mut self) -> bool {
        let generation = self.generation;
        let mut all = Vec::new();
        for component in self.components.values_mut() {
            component.told_end = false;
            for local in &mut component.locals {
                Arc::make_mut(&mut local.candidate).generation = generation;
                all.push(local.candidate.clone());
            }
        }
        let mut any = false;
        for candidate in all {
            if let Some(told) = self.disclose(&candidate) {
                let id = told.component;
                self.tell(Some(told), false, Some(id));
                any = true;
            }
        }
        any
    }

    /// Says once that all candidates are known, for an offer that waits for them.
    pub(super) fn say_gathered(&mut self) {
        if self.names.are_awaited() {
            return;
        }
        for component in self.components.values_mut() {
            if !component.told_gathered && component.has_gathered() {
                component.told_gathered = true;
                component.push(ChannelOutput::Gathered);
            }
        }
    }

    /// Tells once that no candidate follows.
    pub(super) fn tell_end(&mut self) {
        if !self.config.tell_end
            || self.names.are_awaited()
            || self.components.values().any(|c| c.told_end)
            || !self.components.values().all(Component::has_gathered)
        {
            return;
        }
        for component in self.components.values_mut() {
            component.told_end = true;
        }
        self.tell(None, true, None);
    }

    /// Nothing to send from: there is no use in waiting.
    pub(super) fn fail_without_sockets(&mut self) {
        let relay_only = self.config.relay_only;
        for component in self
            .components
            .values_mut()
            .filter(|c| c.connected && !c.failed)
        {
            let mut why = None;
            let dead = component.sockets.iter().all(|socket| match &socket.state {
                SocketState::Failed(error) if socket.again_at.is_none() => {
                    why.get_or_insert_with(|| error.to_string());
                    true
                }
                SocketState::Open(_) | SocketState::Binding | SocketState::Failed(_) => false,
            });
            let relays_dead = component.relays.iter().all(|relay| relay.failed.is_some());
            if relay_only && relays_dead {
                let whys = component.relays.iter().find_map(|r| r.failed.as_deref());
                let why = whys.unwrap_or("none is configured, and nothing else is allowed");
                component.fail(TransportError::NoResource(
                    format!("no relay: {why}").into(),
                ));
            } else if let (true, true, Some(why)) = (dead, relays_dead, why) {
                component.fail(TransportError::NoResource(why.into()));
            }
        }
    }
}

impl Component {
    /// Asks again for sockets that failed.
    fn open_again(&mut self, now: Instant) {
        let is_due = |socket: &mut Socket| socket.again_at.is_some_and(|at| at <= now);
        let due: Vec<_> = self.sockets.extract_if(.., is_due).collect();
        for socket in due {
            self.open(socket.ip, socket.tries + 1);
        }
    }

    /// Asks for a socket at an address.
    fn open(&mut self, ip: IpAddr, tries: u8) {
        let number = LocalSocket(self.next_socket);
        if Self::relay_socket(0, number).is_none() {
            return;
        }
        self.next_socket += 1;
        self.sockets.push(Socket {
            number,
            ip,
            state: SocketState::Binding,
            tries,
            again_at: None,
        });
        self.push(ChannelOutput::Bind(
            number,
            BindKind::Udp,
            SocketAddr::new(ip, 0),
        ));
    }

    /// The number of the network that a base is on, and its local preference (RFC 8445 §5.1.2.1, RFC 8421 §4).
    fn preference(&self, base: Base) -> (u32, u16) {
        let network = match base {
            Base::Host(number)
            | Base::TcpActive(number)
            | Base::TcpPassive(number)
            | Base::TcpSimultaneous(number)
            | Base::Tcp(number) => number.0,
            Base::Relay(relay) => relay as u32,
        };
        // The other ways over TCP need less luck (RFC 6544 §4.2).
        let luck = if matches!(base, Base::TcpSimultaneous(_)) {
            0x80
        } else {
            0
        };
        (
            network,
            u16::MAX - luck - (network.min(0xff) as u16) * 0x100,
        )
    }

    pub(in crate::ice) fn poll_timeout(&self) -> Option<Instant> {
        if self.failed {
            return None;
        }
        let gathers = self
            .gathers
            .iter()
            .filter_map(|gather| match &gather.state {
                GatherState::Asking { clock, .. } => Some(clock.poll_timeout()),
                GatherState::Answered | GatherState::Failed => None,
            });
        let relays = self.relays.iter().filter(|r| r.failed.is_none());
        let consent = self
            .path
            .as_ref()
            .map(|path| path.consent_at.min(path.consent_until));
        let sockets = self.sockets.iter().filter_map(|socket| socket.again_at);
        gathers
            .chain(sockets)
            .chain(relays.filter_map(|relay| relay.source.poll_timeout()))
            .chain(self.keepalive_at)
            .chain(self.commit_at)
            .chain(consent)
            .min()
    }
}

/// Alike are candidates of one kind, from one address, by one server (RFC 8445 §5.1.1.3). All servers are asked from
/// the same base, so that they count as one.
fn foundation(kind: CandidateKind, base: Base, network: u32) -> Foundation {
    let way = match base {
        Base::Host(_) => 0,
        Base::Relay(_) => 1,
        Base::TcpActive(_) | Base::Tcp(_) => 2,
        Base::TcpPassive(_) => 3,
        Base::TcpSimultaneous(_) => 4,
    };
    Foundation::numbered(None, way * 10_000 + network * 4 + kind as u32 + 1)
}
