//! Whom the server lets through, and whose data travels in a channel (RFC 8656 §9, §12).

use super::{Allocation, Purpose, State};
use crate::turn::frame::CHANNEL_NUMBERS;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// A permission lives for 5 min (RFC 8656 §9), and is renewed before.
const PERMISSION_RENEW: Duration = Duration::from_secs(240);
/// After a refusal, which may have been for lack of something.
const AGAIN: Duration = Duration::from_secs(30);
/// A channel lives for 10 min (RFC 8656 §12), and is renewed before.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
const CHANNEL_RENEW: Duration = Duration::from_secs(540);
/// The same, and the time that a request may be under way.
const CHANNEL_ASKED: Duration = Duration::from_secs(660);
/// A number may be given to another peer so long after its channel ended (RFC 8656 §12).
const CHANNEL_REST: Duration = Duration::from_secs(300);
/// Who neither sent nor was sent anything for so long is kept alive no longer.
const IDLE: Duration = Duration::from_secs(300);
/// Datagrams to a peer that never answered, after which it gets a channel nevertheless.
const BIND_AFTER: u32 = 8;

/// The addresses that the server lets through. Ports do not matter to it.
#[derive(Debug)]
pub(super) struct Permissions {
    max: usize,
    table: BTreeMap<IpAddr, Permission>,
}

#[derive(Debug)]
struct Permission {
    /// The address with a port that we were told.
    peer: SocketAddr,
    used: Instant,
    state: Grant,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Grant {
    /// The server was asked.
    Asked,
    /// Until it has to be asked again.
    Granted(Instant),
    /// Until it may be asked again.
    Refused(Instant),
}

impl Permissions {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max,
            table: BTreeMap::new(),
        }
    }

    pub(super) fn grant(&mut self, ip: IpAddr, now: Instant) {
        self.set(ip, Grant::Granted(now + PERMISSION_RENEW));
    }

    pub(super) fn refuse(&mut self, ip: IpAddr, now: Instant) {
        self.set(ip, Grant::Refused(now + AGAIN));
    }

    fn set(&mut self, ip: IpAddr, state: Grant) {
        if let Some(permission) = self.table.get_mut(&ip) {
            permission.state = state;
        }
    }

    /// Whether there is one that was asked for; it is in use.
    pub(super) fn touch(&mut self, ip: IpAddr, now: Instant) -> bool {
        let permission = self.table.get_mut(&ip);
        permission.map(|permission| permission.used = now).is_some()
    }

    pub(super) fn is_refused(&self, ip: IpAddr) -> bool {
        let permission = self.table.get(&ip);
        permission.is_some_and(|permission| matches!(permission.state, Grant::Refused(_)))
    }

    /// When one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.table.values().filter_map(Permission::due).min()
    }

    fn make_room(&mut self, now: Instant) -> bool {
        if self.table.len() >= self.max {
            self.table
                .retain(|_, permission| now.saturating_duration_since(permission.used) < IDLE);
        }
        self.table.len() < self.max
    }
}

impl Permission {
    fn due(&self) -> Option<Instant> {
        match self.state {
            Grant::Granted(at) | Grant::Refused(at) => Some(at),
            Grant::Asked => None,
        }
    }
}

/// The peers that something was sent to, each with a number for a channel of its own.
#[derive(Debug)]
pub(super) struct Peers {
    max: usize,
    slots: Vec<Peer>,
    by_address: BTreeMap<SocketAddr, usize>,
}

#[derive(Debug)]
struct Peer {
    address: SocketAddr,
    used: Instant,
    sent: u32,
    heard: bool,
    channel: Channel,
    /// When the channel that it has ends.
    bound_until: Option<Instant>,
    /// Until when the server may take it for bound, whatever became of the answers.
    asked_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Channel {
    /// Data goes by indication.
    None,
    /// The server was asked.
    Asked,
    /// It stands until it has to be asked for again; `None` while it is.
    Bound(Option<Instant>),
    /// The server does not give one, and is asked again after this.
    Refused(Instant),
}

impl Peers {
    pub(super) fn new(max: usize) -> Self {
        Self {
            max: max.min(CHANNEL_NUMBERS.len()),
            slots: Vec::new(),
            by_address: BTreeMap::new(),
        }
    }

    pub(super) fn number(&self, peer: usize) -> u16 {
        CHANNEL_NUMBERS.start() + peer as u16
    }

    pub(super) fn address(&self, peer: usize) -> SocketAddr {
        self.slots[peer].address
    }

    /// The peer that a channel belongs to.
    pub(super) fn of_channel(&mut self, number: u16, now: Instant) -> Option<SocketAddr> {
        let index = usize::from(number.checked_sub(*CHANNEL_NUMBERS.start())?);
        let peer = self.slots.get_mut(index)?;
        // It may be used by the server before its answer is here, or without that it comes.
        peer.asked_until.filter(|until| now < *until)?;
        (peer.used, peer.heard) = (now, true);
        Some(peer.address)
    }

    /// It sent something; its index, when something was sent to it before.
    pub(super) fn heard(&mut self, address: SocketAddr, now: Instant) -> Option<usize> {
        let index = *self.by_address.get(&address)?;
        let peer = &mut self.slots[index];
        (peer.used, peer.heard) = (now, true);
        Some(index)
    }

    /// The peer at an address, which is counted as in use; `None` when there are too many.
    pub(super) fn find(
        &mut self,
        address: SocketAddr,
        count: usize,
        now: Instant,
    ) -> Option<usize> {
        let index = match self.by_address.get(&address) {
            Some(&index) => index,
            None => self.add(address, now)?,
        };
        let peer = &mut self.slots[index];
        peer.used = now;
        peer.sent = peer.sent.saturating_add(count as u32);
        Some(index)
    }

    fn add(&mut self, address: SocketAddr, now: Instant) -> Option<usize> {
        let peer = Peer {
            address,
            used: now,
            sent: 0,
            heard: false,
            channel: Channel::None,
            bound_until: None,
            asked_until: None,
        };
        let index = if self.slots.len() < self.max {
            self.slots.push(peer);
            self.slots.len() - 1
        } else {
            let index = self.slots.iter().position(|old| old.is_spent(now))?;
            let old = std::mem::replace(&mut self.slots[index], peer);
            self.by_address.remove(&old.address);
            index
        };
        self.by_address.insert(address, index);
        Some(index)
    }

    pub(super) fn has_channel(&self, peer: usize) -> bool {
        matches!(self.slots[peer].channel, Channel::Bound(_))
    }

    fn wants_channel(&self, peer: usize, now: Instant) -> bool {
        let peer = &self.slots[peer];
        let free = match peer.channel {
            Channel::None => true,
            Channel::Refused(until) => until <= now,
            Channel::Asked | Channel::Bound(_) => false,
        };
        free && (peer.heard || peer.sent > BIND_AFTER)
    }

    /// The server is asked for a channel, or for more of it.
    fn asked(&mut self, peer: usize, channel: Channel, now: Instant) {
        let peer = &mut self.slots[peer];
        peer.channel = channel;
        peer.asked_until = Some(now + CHANNEL_ASKED);
    }

    /// The server made the channel.
    pub(super) fn bound(&mut self, peer: usize, now: Instant) {
        let peer = &mut self.slots[peer];
        peer.channel = Channel::Bound(Some(now + CHANNEL_RENEW));
        peer.bound_until = Some(now + CHANNEL_LIFETIME);
    }

    /// The server gives no channel.
    pub(super) fn refuse_channel(&mut self, peer: usize, now: Instant) {
        self.slots[peer].channel = Channel::Refused(now + AGAIN);
    }

    /// When one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let due = |peer: &Peer| match peer.channel {
            Channel::Bound(renew_at) => renew_at.or(peer.bound_until),
            Channel::None | Channel::Asked | Channel::Refused(_) => None,
        };
        self.slots.iter().filter_map(due).min()
    }
}

impl Peer {
    /// Whether its place and number can be given to another.
    fn is_spent(&self, now: Instant) -> bool {
        let rested = |until: Instant| until + CHANNEL_REST <= now;
        !matches!(self.channel, Channel::Asked | Channel::Bound(_))
            && self.asked_until.is_none_or(rested)
            && now.saturating_duration_since(self.used) >= IDLE
    }
}

impl Allocation {
    /// Lets through what comes from a peer's address. To be called before something is sent to it, and as often as one
    /// likes; who is neither named here nor heard of for 5 min is forgotten. Without an allocation it does nothing, nor
    /// for a peer of a family in which there is no relayed address.
    pub fn permit(&mut self, peer: SocketAddr, now: Instant) {
        if self.permissions.touch(peer.ip(), now) {
            return;
        }
        let family = |relayed: &SocketAddr| relayed.is_ipv4() == peer.is_ipv4();
        if self.state != State::Standing
            || self.closing
            || !self.relayed.iter().any(family)
            || !self.permissions.make_room(now)
        {
            return;
        }
        let permission = Permission {
            peer,
            used: now,
            state: Grant::Asked,
        };
        self.permissions.table.insert(peer.ip(), permission);
        self.request(Purpose::Permission(peer), now);
        self.rearm();
    }

    pub(super) fn renew_permissions(&mut self, now: Instant) {
        let mut ask = Vec::new();
        self.permissions.table.retain(|_, permission| {
            if permission.due().is_none_or(|due| now < due) {
                return true;
            }
            let used = now.saturating_duration_since(permission.used) < IDLE;
            if used {
                permission.state = Grant::Asked;
                ask.push(permission.peer);
            }
            used
        });
        for peer in ask {
            self.request(Purpose::Permission(peer), now);
        }
    }

    /// Asks for a channel once it pays.
    pub(super) fn bind_if_due(&mut self, peer: usize, now: Instant) {
        if self.peers.wants_channel(peer, now) {
            self.peers.asked(peer, Channel::Asked, now);
            self.request(Purpose::Channel(peer), now);
            self.rearm();
        }
    }

    pub(super) fn renew_channels(&mut self, now: Instant) {
        for index in 0..self.peers.slots.len() {
            let peer = &mut self.peers.slots[index];
            let Channel::Bound(renew_at) = peer.channel else {
                continue;
            };
            if peer.bound_until.is_none_or(|until| until <= now) {
                peer.channel = Channel::None;
            } else if renew_at.is_some_and(|at| at <= now) {
                peer.channel = Channel::Bound(None);
                if now.saturating_duration_since(peer.used) < IDLE {
                    self.peers.asked(index, Channel::Bound(None), now);
                    self.request(Purpose::Channel(index), now);
                }
            }
        }
    }
}
