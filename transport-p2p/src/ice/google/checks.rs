//! Pings, and which connection is the best (libjingle p2p/base/p2ptransportchannel.cc).

use super::{
    candidate::GoogleCandidate,
    channel::GoogleChannel,
    connection::{Connection, Part, Write},
    wire,
};
use crate::ice::{
    candidate::{CandidateKind, Protocol, can_reach, pair_priority, priority},
    pair::Base,
};
use crate::stun::{Class, Method, Scan};
use session_core::{Batch, ChannelOutput, Role, TransportError};
use std::{net::SocketAddr, sync::Arc, time::Instant};

impl GoogleChannel {
    /// A connection for a local and a remote candidate, unless there is one.
    pub(super) fn connect_to(&mut self, local: usize, remote: &GoogleCandidate, now: Instant) {
        let Some(local) = self.locals.get(local) else {
            return;
        };
        let reachable = match local.base {
            Base::Host(_) => can_reach(local.address.ip(), remote.address.ip()),
            Base::Relay(_) => local.address.is_ipv4() == remote.address.is_ipv4(),
            Base::TcpActive(_) | Base::TcpPassive(_) | Base::TcpSimultaneous(_) | Base::Tcp(_) => {
                false
            }
        };
        if !reachable || self.outlet.has_failed() {
            return;
        }
        let (base, on, address) = (local.base, local.address, remote.address);
        let kinds = (local.kind, remote.kind);
        // The initiator's stands first on both sides.
        let priority = match self.role {
            Role::Initiator => pair_priority(local.priority, remote.priority),
            Role::Responder => pair_priority(remote.priority, local.priority),
        };
        if let Base::Relay(relay) = base {
            self.outlet
                .with_relay(relay, |source| source.permit(address, now));
        }
        let is_same = |connection: &&mut Connection| connection.is_on(base, address);
        if let Some(known) = self.connections.iter_mut().find(is_same) {
            // The peer has another name there now.
            if known.username != remote.username && known.write != Write::Able {
                known.username = remote.username.clone();
                known.revive();
            }
            return;
        }
        self.make_room(priority);
        if self.connections.len() < self.config.pairs_max {
            let id = self.next_connection;
            self.next_connection = id.wrapping_add(1);
            let ends = (base, on, address);
            let username = remote.username.clone();
            self.connections
                .push(Connection::new(id, ends, kinds, username, priority));
        }
    }

    /// The least that does not work goes, if this one is better.
    fn make_room(&mut self, priority: u64) {
        if self.connections.len() < self.config.pairs_max {
            return;
        }
        let least = (0..self.connections.len())
            .filter(|at| self.connections[*at].write != Write::Able)
            .min_by_key(|at| self.connections[*at].priority)
            .filter(|at| self.connections[*at].priority < priority);
        if let Some(least) = least {
            self.connections.remove(least);
        }
    }

    /// Packets from a socket or through a relay.
    pub(super) fn handle_packets(
        &mut self,
        base: Base,
        source: SocketAddr,
        batch: Batch,
        now: Instant,
    ) {
        let may_be_stun = |packet: &[u8]| Scan::is_stun(packet) || Scan::is_legacy(packet);
        if !batch.clone().any(|packet| may_be_stun(&packet)) {
            return self.handle_data(base, source, batch, now);
        }
        for packet in batch {
            match Scan::new(&packet) {
                Ok(scan) => self.handle_stun(base, source, &scan, now),
                Err(_) if Scan::is_stun(&packet) => {}
                Err(_) => {
                    // Without the cookie only what names us is a message: other data may look so too.
                    let legacy = Scan::legacy(&packet).ok();
                    match legacy.filter(|scan| self.remote_name(base, scan).is_some()) {
                        Some(scan) => self.handle_stun(base, source, &scan, now),
                        None => self.handle_data(base, source, packet.into(), now),
                    }
                }
            }
        }
    }

    /// Hands out what comes from an address that the peer was seen at, and nothing else.
    fn handle_data(&mut self, base: Base, source: SocketAddr, batch: Batch, now: Instant) {
        let known = self
            .connections
            .iter()
            .any(|connection| connection.is_on(base, source) && connection.is_readable(now));
        if known {
            self.outlet.push(ChannelOutput::Packet(batch));
        }
    }

    fn handle_stun(&mut self, base: Base, source: SocketAddr, scan: &Scan<'_>, now: Instant) {
        if scan.method() != Method::BINDING {
            return;
        }
        match scan.class() {
            Class::Request => self.handle_ping(base, source, scan, now),
            Class::Success | Class::Error => {
                if !self.handle_gathered(base, source, scan, now) {
                    self.handle_pong(base, source, scan);
                }
                self.review(now);
            }
            Class::Indication => {}
        }
    }

    /// The peer's part of the user name in a ping that begins with ours.
    fn remote_name<'a>(&self, base: Base, scan: &Scan<'a>) -> Option<&'a [u8]> {
        scan.username()?
            .strip_prefix(self.own_name(base).as_bytes())
            .filter(|_| scan.class() == Class::Request)
    }

    /// What we are called where something leaves and arrives.
    fn own_name(&self, base: Base) -> &Arc<str> {
        let local = self.locals.iter().find(|local| local.base == base);
        local.map_or(&self.name.username, |local| &local.username)
    }

    /// A ping of the peer. Without a user name, or with somebody else's, it gets no answer: libjingle's 400 and 401
    /// would serve those who forge their address, and make the peer do nothing that silence does not.
    fn handle_ping(&mut self, base: Base, source: SocketAddr, scan: &Scan<'_>, now: Instant) {
        let Some(name) = self.remote_name(base, scan) else {
            return;
        };
        let named = |remote: &&GoogleCandidate| remote.username.as_bytes() == name;
        let known = self.remotes.iter().find(named).cloned();
        let at = self.connections.iter().position(|connection| {
            connection.is_on(base, source) && connection.username.as_bytes() == name
        });
        if at.is_none() && known.is_none() {
            // It is ahead of its signalling, and will ask again.
            if let Some(answer) = wire::refusal(scan, wire::STALE_CREDENTIALS, "Stale Credentials")
            {
                self.outlet.control(base, source, answer, now);
            }
            return;
        }
        if let Some(answer) = wire::pong(scan, source) {
            self.outlet.control(base, source, answer, now);
        }
        if at.is_none()
            && let Some(known) = known
        {
            self.meet(base, source, known, now);
        }
        let is_same = |connection: &&mut Connection| connection.is_on(base, source);
        if let Some(connection) = self.connections.iter_mut().find(is_same)
            && connection.heard(now)
            && !self.triggered.contains(&connection.id)
        {
            self.triggered.push_back(connection.id);
        }
        self.review(now);
    }

    /// A known name at an unknown address: the peer as a NAT shows it.
    fn meet(&mut self, base: Base, source: SocketAddr, known: GoogleCandidate, now: Instant) {
        let told = self
            .remotes
            .iter()
            .any(|remote| remote.address == source && remote.username == known.username);
        let (kind, priority) = if told {
            (known.kind, known.priority)
        } else {
            let preference = (known.priority >> 8) as u16;
            let kind = CandidateKind::PeerReflexive;
            (
                kind,
                priority(kind.preference(Protocol::Udp), preference, 1).min(known.priority),
            )
        };
        let remote = GoogleCandidate {
            address: source,
            kind,
            priority,
            ..known
        };
        let on_base = |local: &super::channel::Local| local.base == base;
        if let Some(local) = self.locals.iter().position(on_base) {
            self.connect_to(local, &remote, now);
        }
    }

    /// The answer to one of our pings.
    fn handle_pong(&mut self, base: Base, source: SocketAddr, scan: &Scan<'_>) {
        let Some(now) = self.now else { return };
        let is_same = |connection: &&mut Connection| connection.is_on(base, source);
        let Some(connection) = self.connections.iter_mut().find(is_same) else {
            return;
        };
        if scan.class() == Class::Success {
            connection.answered(scan.transaction(), now);
        } else {
            let may_change = wire::may_change(wire::error_code(scan));
            connection.refused(scan.transaction(), may_change);
        }
    }

    /// Pings what is due: what the peer has pinged at once, then one connection each Ta.
    pub(super) fn ping_due(&mut self, now: Instant) {
        while let Some(id) = self.triggered.pop_front() {
            if let Some(at) = self.position(id) {
                self.ping(at, now);
            }
        }
        if self.next_ping.is_some_and(|at| at > now) {
            return;
        }
        let due = (0..self.connections.len())
            .filter(|at| self.ping_at(*at, now).is_some_and(|due| due <= now))
            .min_by_key(|at| {
                let due = self.ping_at(*at, now);
                (due, std::cmp::Reverse(self.connections[*at].priority))
            });
        if let Some(at) = due {
            self.ping(at, now);
            self.next_ping = Some(now + self.config.pace);
        }
    }

    /// When the next ping is due.
    pub(super) fn ping_timeout(&self) -> Option<Instant> {
        let now = self.now?;
        if !self.triggered.is_empty() {
            return Some(now);
        }
        let pings = (0..self.connections.len()).filter_map(|at| self.ping_at(at, now));
        let paced = pings
            .min()
            .map(|at| self.next_ping.map_or(at, |next| next.max(at)));
        let ready = self.connections.iter().filter_map(Connection::ready_at);
        let ready = ready.filter(|_| !self.outlet.has_path());
        paced
            .into_iter()
            .chain(ready)
            .chain(self.patience_until())
            .min()
    }

    fn ping_at(&self, at: usize, now: Instant) -> Option<Instant> {
        let connection = &self.connections[at];
        connection.ping_at(self.part(connection), now)
    }

    fn part(&self, connection: &Connection) -> Part {
        let Some(best) = self.path() else {
            return Part::Hopeful;
        };
        if best.id == connection.id {
            Part::Best
        } else if connection.priority > best.priority {
            Part::Hopeful
        } else if connection.write == Write::Able && connection.base != best.base {
            Part::Warm
        } else {
            Part::Pruned
        }
    }

    fn ping(&mut self, at: usize, now: Instant) {
        let transaction = self.random.transaction();
        let connection = &self.connections[at];
        let own = self.own_name(connection.base);
        let username: Arc<str> = format!("{}{own}", connection.username).into();
        let Some(bytes) = wire::ping(transaction, &username) else {
            return;
        };
        let connection = &mut self.connections[at];
        connection.pinged(transaction, now);
        let (base, remote) = (connection.base, connection.remote);
        self.outlet.control(base, remote, bytes, now);
    }

    /// Draws the conclusions of whatever has happened.
    pub(super) fn review(&mut self, now: Instant) {
        if self.outlet.has_failed() {
            return;
        }
        self.connections
            .iter_mut()
            .for_each(|connection| connection.age(now));
        let had = self.best;
        let current = self.path().filter(|best| best.write == Write::Able);
        let current = current.map(|best| (best.priority, best.id));
        let better = self
            .connections
            .iter()
            .filter(|connection| connection.is_ready(now))
            .max_by_key(|connection| connection.priority)
            .map(|connection| (connection.priority, connection.id));
        // As good is not good enough: switching costs the application its idea of the path.
        let chosen = match (current, better) {
            (Some(current), Some(better)) if better.0 > current.0 => Some(better),
            (Some(current), _) => Some(current),
            (None, better) => better,
        };
        self.best = chosen.map(|(_, id)| id);
        if had.is_some() && self.best.is_none() {
            self.without_path_since = Some(now);
            self.connections.iter_mut().for_each(Connection::revive);
        } else if self.best.is_some() {
            self.without_path_since = None;
        }
        self.outlet.tell_path(self.best.is_some());
        if !self.triggered.is_empty() || self.next_ping.is_none_or(|at| at <= now) {
            self.ping_due(now);
        }
        if self.patience_until().is_some_and(|at| at <= now) {
            let why = self.why_no_path();
            self.fail(TransportError::Unreachable(why.into()));
        }
    }

    /// When to give up: the initiator does, because replacing a transport is the initiator's to do.
    fn patience_until(&self) -> Option<Instant> {
        let since = self.without_path_since?;
        (self.role == Role::Initiator && !self.outlet.has_path())
            .then(|| since + self.config.patience)
    }

    /// The connection in use.
    pub(super) fn path(&self) -> Option<&Connection> {
        let best = self.best?;
        self.connections
            .iter()
            .find(|connection| connection.id == best)
    }

    fn position(&self, id: u32) -> Option<usize> {
        self.connections
            .iter()
            .position(|connection| connection.id == id)
    }

    /// One line for people.
    pub(super) fn why_no_path(&self) -> String {
        let why = if self.remotes.is_empty() {
            "the peer told no address"
        } else if self.connections.is_empty() {
            "no address of the peer can be reached from an address of ours (families differ, or policy forbids it)"
        } else {
            "no ping was answered"
        };
        format!(
            "{why} ({} connections, {} remote candidates)",
            self.connections.len(),
            self.remotes.len()
        )
    }
}
