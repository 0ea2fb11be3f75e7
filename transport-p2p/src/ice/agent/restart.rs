//! Restarts by either side (RFC 8445 §9, XEP-0176 §5.4), in the form that clients use: a transport-info without
//! candidates and with new credentials, answered by candidates with the other side's new credentials.
//!
//! Both may restart at once. Stanzas arrive in order, so that an offer of the peer which arrives before it has
//! acknowledged ours crosses ours. Then the session's initiator goes on with its own and answers conflict with tie-break
//! (jingle-peers §3.1), and the responder, whose offer is refused, takes the initiator's.

use super::{Agent, Restart};
use crate::ice::{
    candidate::{Candidate, Credentials},
    component::Component,
    description::Description,
};
use session_core::Role;
use std::time::{Duration, Instant};

/// What the peer answers to a description of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ice) enum Reply {
    /// It was understood.
    Taken,
    /// It crosses the peer's own, which goes on.
    Crossed,
    /// Another error.
    Refused,
}

/// How long a peer that has acknowledged a restart has until it answers with its own new credentials.
const ANSWER_MAX: Duration = Duration::from_secs(5);

impl Agent {
    /// Begins anew with new credentials. Data flows on along the old path until there is a new one.
    pub(super) fn restart(&mut self, now: Instant) {
        if self.restarting.is_some() || self.remote.is_none() {
            return;
        }
        self.restarting = Some(Restart {
            acknowledged: false,
            ignored_at: None,
            remotes: std::mem::take(&mut self.remotes),
        });
        self.old_remote = self.remote.take();
        match self.given_up.take() {
            // The peer may yet answer that offer. Beside another one nobody could tell which of the two an answer is to.
            Some(ours) => self.renew_with(ours, now),
            None => self.renew(now),
        }
        self.tell(None, false, None);
        self.tell_candidates();
    }

    /// The path of the responder went, and the initiator has not restarted.
    pub(super) fn restart_timeout(&mut self, now: Instant) {
        if self.restart_at.is_some_and(|at| at <= now) {
            self.restart_at = None;
            let lost = |c: &Component| c.path.is_none() && c.had_path && !c.failed;
            if self.components.values().any(lost) {
                self.restart(now);
            }
        }
        if self.ignored_at().is_some_and(|at| at <= now) {
            self.restart_refused();
            self.given_up.clone_from(&self.old_local);
        }
    }

    /// When a peer that has acknowledged our restart and said nothing since is taken for one that cannot restart: it knows its
    /// first credentials and no others, and only with those there is a path.
    pub(super) fn ignored_at(&self) -> Option<Instant> {
        let lost = |c: &Component| c.path.is_none() && c.had_path && !c.failed;
        let at = self.restarting.as_ref()?.ignored_at?;
        self.components.values().any(lost).then_some(at)
    }

    /// Whether what the peer said offers a restart that crosses ours, which goes on.
    pub(in crate::ice) fn is_crossing(&self, remote: &Description) -> bool {
        let unanswered = self.restarting.as_ref().is_some_and(|r| !r.acknowledged);
        let known = |new: &Credentials| self.old_remote.as_ref() == Some(new);
        self.role == Role::Initiator
            && unanswered
            && !remote.has_candidates
            && !remote.complete
            && remote.credentials.as_ref().is_some_and(|new| !known(new))
    }

    /// The peer's answer to what we told with this user fragment: of interest is the one to a restart. `bare` is what had
    /// no candidates.
    pub(in crate::ice) fn handle_reply(
        &mut self,
        ufrag: &str,
        bare: bool,
        reply: Reply,
        now: Instant,
    ) {
        self.now = Some(now);
        let ours = *ufrag == *self.local.ufrag;
        let Some(restart) = self.restarting.as_mut().filter(|_| ours) else {
            return;
        };
        match reply {
            Reply::Taken => {
                restart.acknowledged = true;
                restart.ignored_at.get_or_insert(now + ANSWER_MAX);
            }
            // The initiator's own offer has arrived, or is about to.
            Reply::Crossed => {}
            Reply::Refused if bare => self.restart_refused(),
            Reply::Refused => {}
        }
        self.review(now);
    }

    /// The peer does not restart. It still answers checks with the old credentials, perhaps from where we are now.
    fn restart_refused(&mut self) {
        let (Some(restart), Some(old)) = (self.restarting.take(), self.old_local.take()) else {
            return;
        };
        self.old_local = Some(std::mem::replace(&mut self.local, old));
        self.remote = self.old_remote.take();
        self.remotes = restart.remotes;
        self.tell_candidates();
    }

    /// Restarts because the application wants it.
    pub(in crate::ice) fn begin_restart(&mut self, now: Instant) {
        self.now = Some(now);
        self.restart(now);
        self.review(now);
    }

    /// Whoever signals by other means than stanzas has no replies to tell crossing offers by: any credentials of the
    /// peer are its answer to ours.
    pub(in crate::ice) fn acknowledge_restart(&mut self) {
        if let Some(restart) = &mut self.restarting {
            restart.acknowledged = true;
        }
    }

    /// What the peer said: credentials that begin a generation, candidates of the present one, or both.
    pub(super) fn apply_remote(&mut self, remote: Description, now: Instant) {
        let generation = remote.candidates.iter().map(|c| c.generation).max();
        let current = match &remote.credentials {
            None => self.remote.is_some() || self.restarting.is_none(),
            Some(credentials) => {
                let restarts = !remote.has_candidates
                    || generation.is_some_and(|generation| generation > self.remote_generation);
                self.apply_credentials(credentials, restarts, !remote.has_candidates, now)
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
    fn apply_credentials(
        &mut self,
        new: &Credentials,
        restarts: bool,
        bare: bool,
        now: Instant,
    ) -> bool {
        let differs = |old: &Credentials| old.ufrag != new.ufrag && old.password != new.password;
        match (&self.remote, &self.old_remote) {
            (Some(current), _) if current == new => true,
            // Late words of the generation before.
            (_, Some(old)) if old == new => false,
            (Some(current), _) => {
                let accepted = restarts && differs(current);
                if accepted {
                    self.old_remote = self.remote.replace(new.clone());
                    match self.given_up.take() {
                        // The late answer to ours, not a restart of the peer's, which would go on for ever.
                        Some(ours) => self.renew_with(ours, now),
                        None => self.renew(now),
                    }
                    self.answer_restart();
                }
                accepted
            }
            (None, _) => {
                self.remote = Some(new.clone());
                let restart = self.restarting.take();
                let crosses = bare && restart.is_some_and(|restart| !restart.acknowledged);
                if crosses && self.role == Role::Responder {
                    // Ours is refused, and this is the initiator's, which wants an answer.
                    self.answer_restart();
                }
                true
            }
        }
    }

    /// New credentials of ours, and nothing left of the old checks.
    fn renew(&mut self, now: Instant) {
        let new = self.random.credentials();
        self.generation += 1;
        self.renew_with(new, now);
    }

    fn renew_with(&mut self, new: Credentials, now: Instant) {
        self.old_local = Some(std::mem::replace(&mut self.local, new));
        self.given_up = None;
        self.restart_at = None;
        self.stats.restarts += 1;
        self.ended.clear();
        self.pairs.clear();
        self.close_unused_connections();
        self.triggered.clear();
        self.early.clear();
        self.remotes.clear();
        if let Some(names) = self.names.there() {
            // Those of a generation that is over.
            names.forget_remote();
        }
        self.remote_ended = false;
        self.checking = false;
        self.started = Some(now);
        for component in self.components.values_mut() {
            component.completed = false;
            component.nominating = None;
            component.commit_at = None;
        }
    }

    /// Candidates are the answer. Without any it looks like an offer of our own, but the peer has to know our credentials.
    fn answer_restart(&mut self) {
        if !self.tell_candidates() {
            self.tell(None, false, None);
        }
    }
}

fn usable_component(candidate: &Candidate, components_max: usize) -> bool {
    usize::from(candidate.component) <= components_max
}
