//! A round of attempts: who begins when, who wins, and what happens when nobody does.

use super::{
    Recovery, TurnSource,
    attempt::{Attempt, Stage},
};
use crate::source::RelayOutput;
use crate::turn::{
    allocation::TurnError,
    config::{TurnProtocol, TurnServer},
};
use session_core::LocalSocket;
use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

/// Between the rounds of a recovery: at first, and at most.
const WAIT_MIN: Duration = Duration::from_millis(500);
const WAIT_MAX: Duration = Duration::from_secs(8);
/// What is lost before it has stood for so long is sought as if it had not been found: a server may forget each
/// allocation as soon as it is used.
const PROVEN: Duration = Duration::from_secs(30);
/// Reasons that are told in the end.
const WHYS_MAX: usize = 8;

/// An address of a server, and that of ours from which it is reached over UDP.
type Way = (SocketAddr, Option<IpAddr>);

impl TurnSource {
    /// All servers at once, the addresses of each one after another.
    pub(super) fn begin_round(&mut self, now: Instant) {
        self.hold_until = None;
        self.whys.clear();
        self.begin(self.all_ways(&self.local), now);
    }

    /// Attempts for the ways to each server, as many as there is room for beside those that are under way.
    fn begin(&mut self, ways: Vec<Vec<Way>>, now: Instant) {
        let config = self.config.clone();
        // First addresses of all come before the second of any, so that a limit takes nobody's only one.
        let mut all = Vec::new();
        for (number, (server, ways)) in config.servers.iter().zip(ways).enumerate() {
            for (place, (address, local)) in ways.into_iter().enumerate() {
                let at = now + config.stagger.saturating_mul(place as u32);
                all.push((
                    place,
                    Attempt::new(server.clone(), number, address, local, at),
                ));
            }
        }
        all.sort_by_key(|(place, _)| *place);
        all.truncate(config.attempts_max.saturating_sub(self.live().count()));
        self.attempts
            .extend(all.into_iter().map(|(_, attempt)| attempt));
        self.handle_waiting(now);
        self.review(now);
    }

    /// Those that are wanted.
    fn live(&self) -> impl Iterator<Item = &Attempt> {
        self.attempts.iter().filter(|attempt| !attempt.releasing)
    }

    /// Opens whose turn it is.
    fn handle_waiting(&mut self, now: Instant) {
        let due = |a: &Attempt| matches!(a.stage, Stage::Waiting(at) if at <= now);
        while let Some(index) = self.attempts.iter().position(due) {
            self.attempt_timeout(index, now);
        }
    }

    /// How to reach each server, over UDP from these addresses of ours.
    fn all_ways(&self, local: &[IpAddr]) -> Vec<Vec<Way>> {
        let servers = self.config.servers.iter();
        let ways = |server: &TurnServer| ways(&server.protocol, &server.addresses, local);
        servers.map(ways).collect()
    }

    /// An attempt has got its allocation.
    pub(super) fn stood(&mut self, index: usize, now: Instant) {
        if self.chosen.is_some() || self.attempts[index].releasing || self.ended {
            return self.release(index, now);
        }
        self.hold_until.get_or_insert(now + self.config.grace);
        self.review(now);
    }

    /// An attempt has ended, or the chosen one has.
    pub(super) fn failed(&mut self, index: usize, error: TurnError, now: Instant) {
        let attempt = &self.attempts[index];
        let (number, releasing) = (attempt.number, attempt.releasing);
        let was_chosen = self.chosen.is_some() && self.chosen == attempt.socket;
        let why = format!("{}: {error}", attempt.name());
        if releasing {
            return self.drop_attempt(index);
        }
        if was_chosen {
            self.drop_attempt(index);
            return self.lost(&why, now);
        }
        if !self.try_elsewhere(index, &error, now) {
            self.note(why);
            // The next of this server need not wait longer.
            let mine = self.attempts.iter_mut().filter(|a| a.number == number);
            let waiting = mine.filter_map(|a| match &mut a.stage {
                Stage::Waiting(at) => Some(at),
                Stage::Opening(_) | Stage::Asking(_) => None,
            });
            if let Some(at) = waiting.min() {
                *at = now.min(*at);
            }
        }
        self.drop_attempt(index);
        self.review(now);
    }

    /// Will be told if nothing else helps.
    fn note(&mut self, why: String) {
        if self.whys.len() < WHYS_MAX && !self.whys.contains(&why) {
            self.whys.push(why);
        }
    }

    /// Is there one to be chosen, or is there none left?
    pub(super) fn review(&mut self, now: Instant) {
        if self.chosen.is_some() || self.ended {
            return;
        }
        let best = self
            .live()
            .filter(|attempt| attempt.allocated.is_some())
            .min_by_key(|attempt| attempt.server.protocol.rank());
        if let Some((best, rank)) = best.map(|a| (a.socket, a.server.protocol.rank())) {
            let better = self.live().any(|a| {
                a.allocated.is_none()
                    && a.server.protocol.rank() < rank
                    && !matches!(a.stage, Stage::Waiting(_))
            });
            if !better || self.hold_until.is_none_or(|until| until <= now) {
                self.choose(best, now);
            }
        } else if self.live().next().is_none() {
            self.nobody(now);
        }
    }

    fn choose(&mut self, socket: Option<LocalSocket>, now: Instant) {
        self.chosen = socket;
        self.chosen_at = Some(now);
        self.hold_until = None;
        if let Some(recovery) = &mut self.recovery {
            recovery.next_at = None;
        }
        self.whys.clear();
        let chosen = self.attempts.iter().find(|a| a.socket == socket);
        if let Some((relayed, mapped)) = chosen.and_then(|a| a.allocated.clone()) {
            for relayed in &relayed {
                self.outputs.push_back(RelayOutput::Allocated {
                    relayed: *relayed,
                    mapped,
                });
            }
            self.relayed = relayed;
        }
        let others = |a: &Attempt| a.socket != socket && !a.releasing;
        while let Some(index) = self.attempts.iter().position(others) {
            self.release(index, now);
        }
    }

    /// The address is gone: another is sought.
    fn lost(&mut self, why: &str, now: Instant) {
        self.chosen = None;
        for relayed in std::mem::take(&mut self.relayed) {
            let why = why.into();
            self.outputs.push_back(RelayOutput::Lost { relayed, why });
        }
        if self.ended {
            return;
        }
        let since = self.chosen_at.take().unwrap_or(now);
        let stood = now.saturating_duration_since(since);
        if let Some(recovery) = self.recovery.as_mut().filter(|_| stood < PROVEN) {
            // While it stood nothing was sought.
            recovery.until += stood;
            self.whys = vec![why.to_owned()];
            return self.nobody(now);
        }
        self.recovery = Some(self.new_recovery(now));
        self.begin_round(now);
    }

    /// There are servers, and no address of ours from which one of them could be reached: one may be yet to come.
    pub(super) fn lacks_address(&self) -> bool {
        let mut servers = self.config.servers.iter();
        servers.any(|server| !server.addresses.is_empty())
            && self.all_ways(&self.local).iter().all(Vec::is_empty)
    }

    /// The addresses of this host were these, and are others now.
    pub(super) fn moved(&mut self, old: &[IpAddr], now: Instant) {
        let local = self.local.clone();
        let mut lost = None;
        // Connections are bound to no address that we know of; they notice by themselves.
        let gone = |attempt: &Attempt| attempt.local.is_some_and(|ip| !local.contains(&ip));
        while let Some(index) = self.attempts.iter().position(gone) {
            let attempt = &self.attempts[index];
            let why = TurnError::Connection("its local address is gone".into());
            let why = format!("{}: {why}", attempt.name());
            match self.chosen.is_some() && self.chosen == attempt.socket {
                _ if attempt.releasing => {}
                true => lost = Some(why),
                false => self.note(why),
            }
            self.drop_attempt(index);
        }
        if let Some(why) = lost {
            // That says nothing about the server.
            self.recovery = None;
            return self.lost(&why, now);
        }
        let added: Vec<_> = local
            .iter()
            .copied()
            .filter(|ip| !old.contains(ip))
            .collect();
        let same = added.is_empty() && old.iter().all(|ip| local.contains(ip));
        if same || self.chosen.is_some() || self.ended {
            return;
        }
        // A network that changes is reason enough to try again whatever fails meanwhile.
        self.recovery = Some(self.new_recovery(now));
        let alone = self.live().next().is_none();
        match (added.is_empty(), alone) {
            (true, _) => self.review(now),
            (false, true) => self.begin_round(now),
            (false, false) => {
                let mut ways = self.all_ways(&added);
                // A connection gains nothing by a further address.
                let bound = |(_, local): &Way| local.is_some();
                ways.iter_mut().for_each(|ways| ways.retain(bound));
                self.begin(ways, now);
            }
        }
    }

    pub(super) fn new_recovery(&self, now: Instant) -> Recovery {
        Recovery {
            next_at: None,
            wait: WAIT_MIN,
            until: now + self.config.recover_for,
        }
    }

    /// The round has come to nothing, or to nothing that lasts.
    fn nobody(&mut self, now: Instant) {
        if let Some(recovery) = &mut self.recovery {
            if recovery.next_at.is_some() {
                return;
            }
            let next = now + recovery.wait;
            if next < recovery.until {
                recovery.next_at = Some(next);
                recovery.wait = WAIT_MAX.min(recovery.wait * 2);
                return;
            }
        }
        self.ended = true;
        self.recovery = None;
        let why = if self.whys.is_empty() {
            "no TURN server can be reached from here".to_owned()
        } else {
            self.whys.join("; ")
        };
        self.outputs.push_back(RelayOutput::Failed(why.into()));
    }

    pub(super) fn round_timeout(&mut self, now: Instant) {
        if self.hold_until.is_some_and(|until| until <= now) {
            self.hold_until = None;
            self.review(now);
        }
        let recovery = self.recovery.as_mut();
        if let Some(recovery) = recovery.filter(|r| r.next_at.is_some_and(|at| at <= now)) {
            recovery.next_at = None;
            self.begin_round(now);
        }
    }
}

/// Whether there is any use in sending from one to the other.
pub(super) fn can_reach(local: IpAddr, remote: IpAddr) -> bool {
    let link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    local.is_ipv4() == remote.is_ipv4()
        && (local.is_unspecified()
            || (local.is_loopback() == remote.is_loopback()
                && link_local(local) == link_local(remote)))
}

/// How to reach a server: the families in turn, and over UDP from each of these addresses of ours.
fn ways(protocol: &TurnProtocol, addresses: &[SocketAddr], local: &[IpAddr]) -> Vec<Way> {
    let locals = |address: SocketAddr| -> Vec<_> {
        match protocol {
            TurnProtocol::Udp => {
                let local = local.iter().copied();
                let usable = local.filter(|ip| can_reach(*ip, address.ip()));
                usable.map(|ip| (address, Some(ip))).collect()
            }
            TurnProtocol::Tcp | TurnProtocol::Tls(_) => vec![(address, None)],
        }
    };
    let first_is_v4 = addresses.first().is_some_and(SocketAddr::is_ipv4);
    let of = |v4: bool| addresses.iter().filter(move |a| a.is_ipv4() == v4);
    let mut families = [
        of(first_is_v4)
            .flat_map(|a| locals(*a))
            .collect::<Vec<_>>()
            .into_iter(),
        of(!first_is_v4)
            .flat_map(|a| locals(*a))
            .collect::<Vec<_>>()
            .into_iter(),
    ];
    let mut ways = Vec::new();
    loop {
        let before = ways.len();
        ways.extend(families.iter_mut().filter_map(Iterator::next));
        if ways.len() == before {
            return ways;
        }
    }
}
