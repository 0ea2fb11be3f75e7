//! From valid pairs to a path: nomination (RFC 8445 §8) and consent (RFC 7675).

use super::Agent;
use crate::ice::{
    candidate::CandidateKind,
    component::Component,
    pair::{Base, Pair, PairState, Path},
};
use crate::stun::{Attribute, Class, MessageBuilder, Method, Scan};
use session_core::Role;
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Consent checks whose answers are still taken: as many as fit between two consents.
const ASKED_MAX: usize = 10;
/// For how long the responder of a session whose path went waits for a restart of the initiator.
const RESPONDER_WAITS: Duration = Duration::from_secs(2);

impl Agent {
    /// As the controlling side: nominates the best valid pair once nothing better can come, or has had its time.
    pub(super) fn review_nominations(&mut self, now: Instant) {
        // Better ones come when nothing is withheld any more.
        if !self.controlling || !self.checking || self.withholds {
            return;
        }
        let (commit, commit_relayed) = (self.config.commit, self.config.commit_relayed);
        for &id in &*self.components.ids() {
            let best = self.best(id, |pair| pair.state == PairState::Succeeded);
            let Some(component) = self.components.get_mut(&id) else {
                continue;
            };
            let busy = component.nominating.is_some_and(|nominating| {
                self.pairs
                    .iter()
                    .any(|p| p.id == nominating && p.check.is_some())
            });
            let settled = component.completed || component.failed || busy;
            if settled || best.is_none() {
                component.commit_at = None;
            }
            let Some(best) = best else {
                continue;
            };
            if settled {
                let again = component.completed && !component.failed && !busy;
                if again && self.is_improvement(best) {
                    self.nominate(best, now);
                }
                continue;
            }
            let pair = &self.pairs[best];
            let better = self.pairs.iter().any(|other| {
                other.component == id && other.priority > pair.priority && other.is_open()
            });
            let wait = if pair.is_second_rate() {
                commit_relayed
            } else {
                commit
            };
            let until = *component.commit_at.get_or_insert(now + wait);
            // One without relay need not wait for as long as the first, relayed one would have.
            let until = until.min(now + wait);
            component.commit_at = Some(until);
            if !better || until <= now {
                component.commit_at = None;
                self.nominate(best, now);
            }
        }
    }

    fn nominate(&mut self, at: usize, now: Instant) {
        let pair = &self.pairs[at];
        if let Some(component) = self.components.get_mut(&pair.component) {
            component.nominating = Some(pair.id);
            self.send_check(at, true, now);
        }
    }

    /// Chooses each component's path: the best nominated pair, or until there is one the best valid pair.
    pub(super) fn review_paths(&mut self, now: Instant) {
        for &id in &*self.components.ids() {
            let nominated = self.last_nominated(id);
            let valid = || self.best(id, |pair| pair.state == PairState::Succeeded);
            let Some(best) = nominated.or_else(valid) else {
                continue;
            };
            if self
                .components
                .get(&id)
                .is_none_or(|c| c.completed && nominated.is_none())
            {
                continue;
            }
            self.use_pair(best, now);
            if nominated.is_some() {
                self.complete(id);
            }
        }
    }

    /// Consent has to be renewed, or is gone.
    pub(super) fn consent_timeout(&mut self, now: Instant) {
        let (mut lost, mut idle) = (false, false);
        for component in self.components.values_mut().filter(|c| !c.failed) {
            let Some(path) = &mut component.path else {
                continue;
            };
            if path.consent_until <= now {
                component.set_path(None);
                lost = true;
                continue;
            }
            if path.consent_at > now {
                continue;
            }
            path.consent_at = now + self.random.around(self.config.consent_every);
            idle = true;
            if self.config.lite {
                continue;
            }
            let transaction = self.random.transaction();
            path.asked.truncate(ASKED_MAX - 1);
            if path.asked.is_empty() {
                // Most often the next is asked after the last was answered.
                path.asked.reserve_exact(1);
            }
            path.asked.insert(0, (transaction, now));
            self.stats.consents_sent += 1;
            let role = if self.controlling {
                Attribute::IceControlling(self.tie_breaker)
            } else {
                Attribute::IceControlled(self.tie_breaker)
            };
            let request = MessageBuilder::new(Class::Request, Method::BINDING, transaction)
                .attribute(Attribute::Priority(0))
                .attribute(role)
                .username(&path.username);
            if let Ok(bytes) = request.finish(Some(&path.remote_key), true) {
                let (base, remote) = (path.base, path.remote);
                component.control(base, remote, bytes, now);
            }
        }
        if lost {
            self.path_lost(now);
        }
        if idle {
            self.shrink();
        }
    }

    /// The answer to a consent check, if it is one (RFC 7675 §5.1).
    pub(super) fn handle_consent(
        &mut self,
        id: u16,
        base: Base,
        source: SocketAddr,
        scan: &Scan<'_>,
        now: Instant,
    ) -> bool {
        let Some(path) = self.components.get_mut(&id).and_then(|c| c.path.as_mut()) else {
            return false;
        };
        let transaction = scan.transaction();
        let asked = path.asked.iter().find(|(id, _)| *id == transaction);
        let Some((_, asked_at)) = asked.filter(|_| (path.base, path.remote) == (base, source))
        else {
            return false;
        };
        let rtt = now.saturating_duration_since(*asked_at);
        if scan.class() == Class::Success && scan.verify_integrity(&path.remote_key).is_ok() {
            path.asked.clear();
            path.rtt = Some(rtt);
            self.stats.consents_answered += 1;
            path.consent_until = now + self.config.consent_for;
        }
        true
    }

    /// The initiator restarts when the path went; the responder lets it go first, so that the two seldom collide.
    pub(super) fn path_lost(&mut self, now: Instant) {
        for component in self.components.values_mut() {
            if component.path.is_none() {
                component.completed = false;
            }
        }
        let ids: Vec<_> = self
            .components
            .values()
            .filter(|component| component.path.is_none())
            .map(|component| component.id)
            .collect();
        self.pairs.retain(|pair| !ids.contains(&pair.component));
        if self.role == Role::Initiator {
            self.restart(now);
        } else {
            self.restart_at.get_or_insert(now + RESPONDER_WAITS);
        }
    }

    fn best(&self, id: u16, wanted: impl Fn(&Pair) -> bool) -> Option<usize> {
        (0..self.pairs.len())
            .filter(|at| self.pairs[*at].component == id && wanted(&self.pairs[*at]))
            .max_by_key(|at| self.pairs[*at].priority)
    }

    /// Of those that were nominated with the greatest number, the best.
    fn last_nominated(&self, id: u16) -> Option<usize> {
        (0..self.pairs.len())
            .filter(|at| self.pairs[*at].component == id && self.pairs[*at].nominated)
            .max_by_key(|at| (self.pairs[*at].nomination, self.pairs[*at].priority))
    }

    /// Whether the pair is better than the one in use, so that it is worth another nomination.
    fn is_improvement(&self, at: usize) -> bool {
        let pair = &self.pairs[at];
        let path = self
            .components
            .get(&pair.component)
            .and_then(|c| c.path.as_ref());
        let Some(path) = path.filter(|path| self.renomination && path.pair != pair.id) else {
            return false;
        };
        let used = self.position(path.pair).map(|at| self.pairs[at].priority);
        used.is_none_or(|used| used < pair.priority)
    }

    /// Who is lite does not ask for consent; the peer's own checks give it.
    pub(super) fn consent_by_request(
        &mut self,
        id: u16,
        base: Base,
        source: SocketAddr,
        now: Instant,
    ) {
        if let Some(path) = self.components.get_mut(&id).and_then(|c| c.path.as_mut())
            && self.config.lite
            && (path.base, path.remote) == (base, source)
        {
            path.consent_until = now + self.config.consent_for;
        }
    }

    fn use_pair(&mut self, at: usize, now: Instant) {
        let pair = &self.pairs[at];
        let in_use = |c: &Component| c.failed || c.path.as_ref().is_some_and(|p| p.pair == pair.id);
        if self.components.get(&pair.component).is_none_or(in_use) {
            return;
        }
        let username = self.outgoing_username();
        let Some(remote_key) = self.remote.as_ref().map(|remote| remote.key.clone()) else {
            return;
        };
        let pair = &self.pairs[at];
        let Some(component) = self.components.get_mut(&pair.component) else {
            return;
        };
        let local = match (pair.local.kind, pair.mapped) {
            (CandidateKind::Host | CandidateKind::Relayed, _) | (_, None) => pair.local.address,
            (CandidateKind::ServerReflexive | CandidateKind::PeerReflexive, Some(mapped)) => mapped,
        };
        let path = Path {
            base: pair.base,
            remote: pair.remote.address,
            kinds: (pair.local.kind, pair.remote.kind),
            local,
            pair: pair.id,
            rtt: pair.rtt,
            username,
            remote_key,
            // The check that made the pair valid was the first consent.
            consent_at: now + self.random.around(self.config.consent_every),
            consent_until: now + self.config.consent_for,
            asked: Vec::new(),
        };
        component.set_path(Some(path));
    }

    /// A pair is nominated: what is not valid is not worth another check.
    fn complete(&mut self, id: u16) {
        let Some(component) = self.components.get_mut(&id).filter(|c| !c.completed) else {
            return;
        };
        component.completed = true;
        component.nominating = None;
        component.commit_at = None;
        component.keepalive_at = None;
        if self.renomination {
            // The others stay in reserve, and a better one may still be found.
            return;
        }
        self.remember_ended(id);
        self.pairs
            .retain(|pair| pair.component != id || pair.state == PairState::Succeeded);
        for pair in self.pairs.iter_mut().filter(|pair| pair.component == id) {
            pair.check = None;
        }
        let pairs = &self.pairs;
        self.triggered
            .retain(|number| pairs.iter().any(|pair| pair.id == *number));
        self.close_unused_connections();
    }
}
