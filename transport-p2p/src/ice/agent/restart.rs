//! Restarts by either side (RFC 8445 §9, XEP-0176 §5.4), in the form that clients use: a transport-info without
//! candidates and with new credentials, answered by the like.

use super::Agent;
use crate::ice::{
    candidate::{Candidate, Credentials},
    description::Description,
};
use session_core::Role;
use std::time::Instant;

impl Agent {
    /// Begins anew with new credentials. Data flows on along the old path until there is a new one.
    pub(in crate::ice) fn restart(&mut self, now: Instant) {
        if self.restarting || self.remote.is_none() {
            return;
        }
        self.restarting = true;
        self.old_remote = self.remote.take();
        self.renew(now);
    }

    /// What the peer said: credentials that begin a generation, candidates of the present one, or both.
    pub(super) fn apply_remote(&mut self, remote: Description, now: Instant) {
        let generation = remote.candidates.iter().map(|c| c.generation).max();
        let current = match &remote.credentials {
            None => self.remote.is_some() || !self.restarting,
            Some(credentials) => {
                let restarts = !remote.has_candidates
                    || generation.is_some_and(|generation| generation > self.remote_generation);
                self.apply_credentials(credentials, restarts, now)
            }
        };
        if !current {
            return;
        }
        if let Some(generation) = generation {
            self.remote_generation = generation;
        }
        for candidate in remote.candidates {
            if usable_component(&candidate, self.config.components_max) {
                self.add_remote(candidate, now);
            }
        }
        self.remote_ended |= remote.complete;
    }

    /// Whether what came with these credentials is of the present generation.
    fn apply_credentials(&mut self, new: &Credentials, restarts: bool, now: Instant) -> bool {
        let differs = |old: &Credentials| old.ufrag != new.ufrag && old.password != new.password;
        match (&self.remote, &self.old_remote) {
            (Some(current), _) if current == new => true,
            // Late words of the generation before.
            (_, Some(old)) if old == new => false,
            (Some(current), _) => {
                let accepted = restarts && differs(current);
                if accepted {
                    self.old_remote = self.remote.replace(new.clone());
                    self.renew(now);
                }
                accepted
            }
            (None, _) => {
                self.remote = Some(new.clone());
                // Both may have restarted at once. Each then takes the other's words for the answer; but an initiator
                // that refuses ours still waits for one.
                if std::mem::take(&mut self.restarting) && self.role == Role::Responder {
                    self.tell(None, false, None);
                }
                true
            }
        }
    }

    /// New credentials of ours, told before anything else, and nothing left of the old checks.
    fn renew(&mut self, now: Instant) {
        self.old_local = Some(std::mem::replace(
            &mut self.local,
            self.random.credentials(),
        ));
        self.generation += 1;
        self.pairs.clear();
        self.triggered.clear();
        self.early.clear();
        self.remotes.clear();
        self.remote_ended = false;
        self.checking = false;
        self.started = Some(now);
        for component in self.components.values_mut() {
            component.completed = false;
            component.nominating = None;
            component.commit_at = None;
        }
        self.tell(None, false, None);
        self.tell_candidates();
    }
}

fn usable_component(candidate: &Candidate, components_max: usize) -> bool {
    usize::from(candidate.component) <= components_max
}
