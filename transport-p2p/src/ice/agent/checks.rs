//! The checklist: forming pairs, choosing the next, sending checks (RFC 8445 §6.1.2, §6.1.4, §7.2).

use super::{Agent, Group, Remote};
use crate::ice::{
    candidate::{
        Candidate, CandidateKind, Foundation, Protocol, can_reach, is_usable, pair_priority,
        priority,
    },
    component::Local,
    pair::{Base, Check, Pair, PairState},
};
use crate::stun::{Attribute, Class, Due, MessageBuilder, Method, Retransmission};
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The least time between two triggered checks. They answer the peer's own, so that they are as many as these.
const TRIGGERED_PACE: Duration = Duration::from_millis(5);

/// The attribute of a numbered nomination, as libwebrtc has it (draft-thatcher-ice-renomination §3).
pub(super) const NOMINATION: u16 = 0xc001;

impl Agent {
    /// The credentials of the peer are known: pairs are formed, and checks that came early count.
    pub(super) fn start_checks(&mut self, now: Instant) {
        self.checking = true;
        self.started.get_or_insert(now);
        for &id in &*self.components.ids() {
            self.pair_remotes(id, now);
        }
        let ufrag = self.remote.as_ref().map(|remote| remote.ufrag.clone());
        for early in std::mem::take(&mut self.early) {
            if Some(&early.ufrag) == ufrag.as_ref() {
                self.apply_check(
                    early.component,
                    early.base,
                    early.source,
                    early.priority,
                    early.nominates,
                );
            }
        }
    }

    /// A candidate of the peer. Duplicates and what is beyond the limit are ignored.
    pub(super) fn add_remote(&mut self, candidate: Candidate, now: Instant) {
        if candidate.name.is_some() && candidate.address.ip().is_unspecified() {
            return self.look_up(candidate, now);
        }
        let of_component = |other: &&Remote| other.candidate.component == candidate.component;
        let count = self.remotes.iter().filter(of_component).count();
        let all = self.config.remote_candidates_max * self.config.components_max.min(4);
        if !is_usable(candidate.address)
            || count >= self.config.remote_candidates_max
            || self.remotes.len() >= all
        {
            return;
        }
        let same = |other: &&mut Remote| {
            let other = &other.candidate;
            (other.component, other.address, other.protocol)
                == (candidate.component, candidate.address, candidate.protocol)
        };
        if let Some(known) = self.remotes.iter_mut().find(same) {
            // Known by its checks: now it has a name.
            if known.candidate.kind == CandidateKind::PeerReflexive {
                Arc::make_mut(&mut known.candidate).kind = candidate.kind;
                for pair in &mut self.pairs {
                    if pair.component == candidate.component
                        && pair.remote.address == candidate.address
                        && pair.remote.protocol == candidate.protocol
                    {
                        pair.remote = known.candidate.clone();
                    }
                }
            }
            return;
        }
        let group = self.remote_group(&candidate.foundation);
        let candidate = Arc::new(candidate);
        self.remotes.push(Remote {
            candidate: candidate.clone(),
            group,
        });
        let locals = self
            .components
            .get(&candidate.component)
            .map_or(0, |c| c.locals.len());
        for local in 0..locals {
            self.pair(candidate.component, local, &candidate, group, now);
        }
    }

    pub(super) fn pair_remotes(&mut self, id: u16, now: Instant) {
        let locals = self.components.get(&id).map_or(0, |c| c.locals.len());
        for local in 0..locals {
            self.pair_local(id, local, now);
        }
    }

    pub(super) fn pair_local(&mut self, id: u16, local: usize, now: Instant) {
        for at in 0..self.remotes.len() {
            let remote = &self.remotes[at];
            if remote.candidate.component == id {
                let (candidate, group) = (remote.candidate.clone(), remote.group);
                self.pair(id, local, &candidate, group, now);
            }
        }
    }

    fn pair(
        &mut self,
        id: u16,
        local: usize,
        remote: &Arc<Candidate>,
        remote_group: Group,
        now: Instant,
    ) {
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        let Some(local) = component.locals.get(local) else {
            return;
        };
        let (base, usable) = (local.base, local.paired);
        let reachable = match base {
            Base::Host(_) | Base::TcpActive(_) | Base::TcpSimultaneous(_) => {
                can_reach(local.candidate.address.ip(), remote.address.ip())
            }
            Base::Relay(_) => local.candidate.address.is_ipv4() == remote.address.is_ipv4(),
            // Who is passive waits for the other (RFC 6544 §6.2).
            Base::TcpPassive(_) | Base::Tcp(_) => false,
        };
        let reachable = reachable && local.candidate.protocol.pairs_with(remote.protocol);
        if !self.checking || !usable || !reachable || component.failed {
            return;
        }
        // What is decided is decided, unless both know how to decide anew.
        if component.completed && !self.renomination {
            return;
        }
        let groups = (local.group, remote_group);
        let candidate = local.candidate.clone();
        if let Base::Relay(relay) = base {
            component.with_relay(relay, |source| source.permit(remote.address, now));
        }
        let base = match base {
            Base::TcpActive(_) | Base::TcpSimultaneous(_) => {
                component.prepare_connection(base, candidate.address, remote.address)
            }
            Base::Host(_) | Base::Relay(_) | Base::TcpPassive(_) | Base::Tcp(_) => base,
        };
        self.add_pair(base, candidate, remote.clone(), groups);
    }

    /// The number of the pair from this base to this address.
    fn find_pair(&self, component: u16, base: Base, remote: SocketAddr) -> Option<u32> {
        self.pairs
            .iter()
            .find(|pair| pair.is_on(component, base, remote))
            .map(|pair| pair.id)
    }

    /// Adds a pair that is not there yet; its number. When there are too many, the least goes, if it is open.
    fn add_pair(
        &mut self,
        base: Base,
        local: Arc<Candidate>,
        remote: Arc<Candidate>,
        groups: (Group, Group),
    ) -> Option<u32> {
        let priority = self.pair_priority(&local, &remote);
        if self.pairs.len() >= self.config.pairs_max {
            let least = (0..self.pairs.len())
                .filter(|at| self.pairs[*at].state != PairState::Succeeded)
                .min_by_key(|at| self.pairs[*at].priority)?;
            if self.pairs[least].priority >= priority {
                return None;
            }
            let least = self.pairs.remove(least);
            self.triggered.retain(|id| *id != least.id);
        }
        let id = self.next_pair;
        self.next_pair += 1;
        let state = self.first_state(groups);
        self.pairs
            .push(Pair::new(id, base, local, remote, groups, priority, state));
        Some(id)
    }

    /// RFC 8838 §12: beside one of its foundation that is being checked, a new pair waits for the outcome.
    fn first_state(&self, groups: (Group, Group)) -> PairState {
        let mut state = PairState::Waiting;
        if !self.any_alike {
            return state;
        }
        for pair in self.pairs.iter().filter(|pair| pair.groups == groups) {
            match pair.state {
                PairState::Succeeded => return PairState::Waiting,
                PairState::Waiting | PairState::InProgress | PairState::Frozen => {
                    state = PairState::Frozen;
                }
                PairState::Failed => {}
            }
        }
        state
    }

    fn pair_priority(&self, local: &Candidate, remote: &Candidate) -> u64 {
        if self.controlling {
            pair_priority(local.priority, remote.priority)
        } else {
            pair_priority(remote.priority, local.priority)
        }
    }

    /// The role changed (RFC 8445 §7.2.5.1): priorities of pairs depend on it.
    pub(super) fn switch_role(&mut self) {
        self.controlling = !self.controlling;
        self.stats.role_switches += 1;
        for at in 0..self.pairs.len() {
            self.pairs[at].priority =
                self.pair_priority(&self.pairs[at].local, &self.pairs[at].remote);
        }
        for component in self.components.values_mut() {
            component.nominating = None;
            component.commit_at = None;
        }
    }

    /// Checks that were not answered yet.
    pub(super) fn checks_timeout(&mut self, now: Instant) {
        let mut again = Vec::new();
        for pair in &mut self.pairs {
            let Some(check) = &mut pair.check else {
                continue;
            };
            match check.clock.handle_timeout(now) {
                Due::Nothing => {}
                // TCP repeats by itself.
                Due::Send if matches!(pair.base, Base::Tcp(_)) => {}
                Due::Send => {
                    pair.sent += 1;
                    self.stats.checks_sent += 1;
                    again.push((
                        pair.component,
                        pair.base,
                        pair.remote.address,
                        check.bytes.clone(),
                    ));
                }
                Due::GiveUp => {
                    pair.check = None;
                    pair.state = PairState::Failed;
                    pair.note = "no answer";
                }
            }
        }
        for (id, base, to, bytes) in again {
            if let Some(component) = self.components.get_mut(&id) {
                component.control(base, to, bytes, now);
            }
        }
        self.send_due_checks(now);
    }

    /// Sends what may be sent by now: triggered checks first, then one ordinary one each Ta.
    pub(super) fn send_due_checks(&mut self, now: Instant) {
        while !self.triggered.is_empty() && self.next_triggered.is_none_or(|at| at <= now) {
            let Some(id) = self.triggered.pop_front() else {
                break;
            };
            if let Some(at) = self.position(id)
                && self.pairs[at].state != PairState::Succeeded
            {
                self.send_check(at, false, now);
                self.next_triggered = Some(now + TRIGGERED_PACE);
            }
        }
        if self.next_check.is_none_or(|at| at > now) {
            return;
        }
        match self.next_ordinary() {
            Some(at) => {
                self.send_check(at, false, now);
                self.next_check = Some(now + self.config.pace);
            }
            None => self.next_check = None,
        }
    }

    /// The best that waits; else one that is frozen and whose foundation nobody checks (RFC 8445 §6.1.4.2).
    fn next_ordinary(&self) -> Option<usize> {
        let best = |state| {
            (0..self.pairs.len())
                .filter(|at| self.pairs[*at].state == state)
                .max_by_key(|at| {
                    (
                        self.pairs[*at].priority,
                        std::cmp::Reverse(self.pairs[*at].id),
                    )
                })
        };
        if let Some(at) = best(PairState::Waiting) {
            return Some(at);
        }
        let is_checked = |frozen: &Pair| {
            self.pairs
                .iter()
                .any(|pair| pair.state == PairState::InProgress && pair.groups == frozen.groups)
        };
        (0..self.pairs.len())
            .filter(|at| {
                self.pairs[*at].state == PairState::Frozen && !is_checked(&self.pairs[*at])
            })
            .max_by_key(|at| self.pairs[*at].priority)
            // All that are left wait for others of their foundation: with nothing else to do, they need not.
            .or_else(|| best(PairState::Frozen))
    }

    /// Sends a check on a pair, in place of one that is in flight (RFC 8445 §7.2.2).
    pub(super) fn send_check(&mut self, at: usize, nominates: bool, now: Instant) {
        let Some(remote) = self.remote.clone() else {
            return;
        };
        let renominates = nominates && self.renomination;
        self.nominations += u32::from(renominates);
        let nomination = self.nominations;
        let transaction = self.random.transaction();
        let username = self.outgoing_username();
        let pair = &mut self.pairs[at];
        let preference = (pair.local.priority >> 8) as u16;
        let protocol = pair.local.protocol;
        let prflx = priority(
            CandidateKind::PeerReflexive.preference(protocol),
            preference,
            pair.component,
        );
        let role = if self.controlling {
            Attribute::IceControlling(self.tie_breaker)
        } else {
            Attribute::IceControlled(self.tie_breaker)
        };
        let request = MessageBuilder::new(Class::Request, Method::BINDING, transaction)
            .attribute(Attribute::Priority(prflx))
            .attribute(role)
            .attribute_if(nominates, Attribute::UseCandidate)
            .username(&username);
        let request = match renominates {
            true => request.raw(NOMINATION, &nomination.to_be_bytes()),
            false => request,
        };
        let Ok(bytes) = request.finish(Some(&remote.key), true) else {
            return;
        };
        pair.replace_check();
        pair.sent += 1;
        self.stats.checks_sent += 1;
        if pair.state != PairState::Succeeded {
            pair.state = PairState::InProgress;
            pair.note = "asked";
        }
        pair.check = Some(Box::new(Check {
            transaction,
            bytes: bytes.clone(),
            clock: Retransmission::new(self.config.timing, now),
            sent_at: now,
            nominates: nominates.then_some(nomination),
            controlling: self.controlling,
        }));
        let (id, base, to) = (pair.component, pair.base, pair.remote.address);
        if let Some(component) = self.components.get_mut(&id) {
            component.control(base, to, bytes, now);
        }
    }

    /// The peer's user fragment and ours (RFC 8445 §7.2.2).
    pub(super) fn outgoing_username(&mut self) -> Arc<str> {
        let remote = self.remote.as_ref().map_or("", |remote| &*remote.ufrag);
        let mut parts = self.username.split(':');
        if parts.next() != Some(remote) || parts.next() != Some(&self.local.ufrag) {
            self.username = format!("{remote}:{}", self.local.ufrag).into();
        }
        self.username.clone()
    }

    /// What a valid check of the peer means (RFC 8445 §7.3.1.3 to §7.3.1.5).
    pub(super) fn apply_check(
        &mut self,
        id: u16,
        base: Base,
        source: SocketAddr,
        remote_priority: u32,
        nominates: Option<u32>,
    ) {
        let Some(component) = self.components.get(&id) else {
            return;
        };
        let origin = component.origin_of(base);
        let on_base = |local: &&Local| local.base == origin && local.paired;
        let Some(local) = component
            .locals
            .iter()
            .find(on_base)
            .map(|l| (l.candidate.clone(), l.group))
        else {
            return;
        };
        if component.failed || (self.hides_hosts() && !matches!(base, Base::Relay(_))) {
            return;
        }
        let known = self.find_pair(id, base, source).or_else(|| {
            let (remote, group) = self.remote_at(id, base, source, remote_priority)?;
            self.add_pair(base, local.0, remote, (local.1, group))
        });
        let Some(pair) = known.and_then(|id| self.position(id)) else {
            return;
        };
        let nominates = nominates.filter(|_| !self.controlling);
        let pair = &mut self.pairs[pair];
        pair.requested = true;
        pair.nomination = pair.nomination.max(nominates.unwrap_or(0));
        if self.config.lite && pair.state != PairState::Succeeded {
            // Who is lite asks nothing: what it answers is valid (RFC 8445 §8.2).
            pair.state = PairState::Succeeded;
            pair.note = "asked for by the peer";
        }
        if pair.state == PairState::Succeeded {
            pair.nominated |= nominates.is_some();
            return;
        }
        pair.nominate_when_valid |= nominates.is_some();
        let number = pair.id;
        pair.state = match pair.state {
            PairState::InProgress => PairState::InProgress,
            PairState::Frozen | PairState::Waiting | PairState::Failed | PairState::Succeeded => {
                PairState::Waiting
            }
        };
        // What was asked just now is probably being answered. If the peer's NAT was still shut and dropped it, it is
        // asked again a moment later.
        let fresh = pair
            .check
            .as_ref()
            .filter(|check| check.nominates.is_none());
        let wait = fresh.map(|check| check.sent_at + TRIGGERED_PACE);
        if let Some(at) = wait.filter(|at| self.now.is_some_and(|now| *at > now)) {
            self.next_triggered = self.next_triggered.max(Some(at));
        }
        if !self.triggered.contains(&number) {
            self.triggered.push_back(number);
        }
    }

    /// The remote candidate with this address; a peer-reflexive one if it was not told (RFC 8445 §7.3.1.3).
    /// None when there are too many: each is an address that the peer can make us send checks to.
    fn remote_at(
        &mut self,
        id: u16,
        base: Base,
        source: SocketAddr,
        remote_priority: u32,
    ) -> Option<(Arc<Candidate>, Group)> {
        // Who connected to us is active, and its port is not the one that it told.
        let origin = self.components.get(&id).map(|c| c.origin_of(base));
        let protocol = match (base, origin) {
            (Base::Tcp(_), Some(Base::TcpSimultaneous(_))) => Protocol::TcpSimultaneous,
            (Base::Tcp(_), _) => Protocol::TcpActive,
            _ => Protocol::Udp,
        };
        let known = |remote: &&Remote| {
            let remote = &remote.candidate;
            (remote.component, remote.address, remote.protocol) == (id, source, protocol)
        };
        if let Some(known) = self.remotes.iter().find(known) {
            return Some((known.candidate.clone(), known.group));
        }
        let reflexive = |remote: &&Remote| remote.candidate.kind == CandidateKind::PeerReflexive;
        if self.remotes.iter().filter(reflexive).count() >= self.config.remote_candidates_max {
            return None;
        }
        self.reflexive = self.reflexive.wrapping_add(1);
        let candidate = Arc::new(Candidate {
            component: id,
            foundation: Foundation::numbered(Some(b'p'), self.reflexive),
            address: source,
            priority: remote_priority,
            kind: CandidateKind::PeerReflexive,
            related: None,
            generation: self.remote_generation,
            network: 0,
            protocol,
            name: None,
        });
        let group = self.new_group();
        self.remotes.push(Remote {
            candidate: candidate.clone(),
            group,
        });
        Some((candidate, group))
    }

    pub(super) fn position(&self, id: u32) -> Option<usize> {
        self.pairs.iter().position(|pair| pair.id == id)
    }

    /// A pair became valid: those like it are worth a check (RFC 8445 §7.2.5.3.3).
    pub(super) fn unfreeze_alike(&mut self, at: usize) {
        let groups = self.pairs[at].groups;
        for pair in &mut self.pairs {
            if pair.state == PairState::Frozen && pair.groups == groups {
                pair.state = PairState::Waiting;
            }
        }
    }
}
