//! The agent: one per transport, shared by its channels, each of which is a component (RFC 8445).
//!
//! Everything that happens ends in [`Agent::review`], which forms no opinion of its own but compares: which pair is the
//! best of each component, is it time to nominate it, is there anything left to check.

mod checks;
mod gather;
mod names;
mod nominate;
mod receive;
mod report;
mod restart;
mod tcp;

use names::Names;
pub(super) use restart::Reply;

use super::{
    candidate::{Candidate, Credentials, Foundation},
    component::Component,
    components::Components,
    config::IceConfig,
    description::Description,
    pair::{Base, Pair, PairState},
    random::Random,
    report::{PairReport, Stats},
};
use session_core::{Batch, ChannelOutput, LocalSocket, Role, SendError, TransportError};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, task::Waker, time::Instant};

/// Checks that came before the peer's credentials, kept until these come.
const EARLY_MAX: usize = 16;

pub(super) struct Agent {
    pub(super) config: Arc<IceConfig>,
    /// Whether to offer candidates over TCP: the words of the transport have to know them.
    pub(super) tcp: bool,
    random: Random,
    role: Role,
    /// Only what goes through relays is told and used for now (`relay_until_answer`).
    withholds: bool,
    controlling: bool,
    tie_breaker: u64,
    pub(super) local: Credentials,
    /// Of the generation before: the peer may still ask with them.
    old_local: Option<Credentials>,
    /// Those of a restart that the peer has not answered in time: it may yet.
    given_up: Option<Credentials>,
    remote: Option<Credentials>,
    /// The last user name that checks were sent with.
    username: Arc<str>,
    old_remote: Option<Credentials>,
    generation: u32,
    remote_generation: u32,
    /// We restarted, and the peer has not said its new credentials yet.
    restarting: Option<Restart>,
    /// When the responder restarts, whose path went, unless the initiator does so before.
    restart_at: Option<Instant>,
    components: Components,
    names: Names,
    /// Both know renomination, and how often we have nominated.
    pub(super) renomination: bool,
    nominations: u32,
    remotes: Vec<Remote>,
    remote_ended: bool,
    /// Counts peer-reflexive candidates, each of which has a foundation of its own.
    reflexive: u32,
    /// Counts foundations: see [`Group`].
    next_group: Group,
    /// Some foundation belongs to more than one candidate. Until then no pair waits for another.
    any_alike: bool,
    pairs: Vec<Pair>,
    next_pair: u32,
    triggered: VecDeque<u32>,
    early: VecDeque<EarlyCheck>,
    next_check: Option<Instant>,
    next_triggered: Option<Instant>,
    /// The peer's credentials of this generation are known and were acted upon.
    checking: bool,
    /// Since when patience counts in this generation.
    started: Option<Instant>,
    interfaces_seen: u64,
    _watch: Option<Arc<()>>,
    pub(super) stats: Stats,
    /// Pairs of this generation that were given up unchecked, for people.
    ended: Vec<PairReport>,
    /// The last instant that anyone told.
    now: Option<Instant>,
    /// Something happened outside of time, so that a timeout is due at once.
    due: bool,
}

/// The number of a foundation, of local candidates or of remote ones: alike are two pairs both of whose numbers are.
pub(super) type Group = u32;

/// A candidate of the peer.
struct Remote {
    candidate: Arc<Candidate>,
    group: Group,
}

/// What leaves a component.
#[derive(Debug)]
pub(super) enum Output {
    /// For whoever drives the channel.
    Channel(ChannelOutput),
    /// For the peer's agent, in the words of the transport.
    Tell(Box<Description>),
}

/// A restart that the peer has not answered with credentials yet.
#[derive(Default)]
struct Restart {
    /// The peer has acknowledged the offer: what comes now answers it, and does not cross it.
    acknowledged: bool,
    /// When the peer is taken for one that has understood nothing of it.
    ignored_at: Option<Instant>,
    /// The peer's candidates before, for a peer that refuses to restart.
    remotes: Vec<Remote>,
}

/// A valid check of a peer whose credentials are not known yet.
struct EarlyCheck {
    component: u16,
    base: Base,
    source: SocketAddr,
    /// The peer's user fragment.
    ufrag: Arc<str>,
    priority: u32,
    nominates: Option<u32>,
}

impl Agent {
    /// All randomness comes from `seed`; `waker` is woken when there are other interfaces.
    pub(super) fn new(config: Arc<IceConfig>, role: Role, seed: &[u8; 32], waker: &Waker) -> Self {
        let mut random = Random::new(seed);
        Self {
            tcp: false,
            withholds: config.relay_until_answer && role == Role::Initiator,
            role,
            controlling: (role == Role::Initiator || config.remote_lite) && !config.lite,
            tie_breaker: random.next_u64(),
            local: random.credentials(),
            random,
            old_local: None,
            given_up: None,
            remote: None,
            username: "".into(),
            old_remote: None,
            generation: 0,
            remote_generation: 0,
            restarting: None,
            restart_at: None,
            components: Components::new(),
            names: Names::default(),
            renomination: false,
            nominations: 0,
            remotes: Vec::new(),
            remote_ended: false,
            reflexive: 0,
            next_group: 0,
            any_alike: false,
            pairs: Vec::new(),
            next_pair: 0,
            triggered: VecDeque::new(),
            early: VecDeque::new(),
            next_check: None,
            next_triggered: None,
            checking: false,
            started: None,
            interfaces_seen: config.interfaces.version(),
            _watch: config.interfaces.watch(waker),
            stats: Stats::default(),
            ended: Vec::new(),
            now: None,
            due: false,
            config,
        }
    }

    pub(super) fn add_component(&mut self, id: u16) {
        self.components.insert(Component::new(id));
    }

    /// Gives back what a component holds on relays; nothing else follows from it.
    pub(super) fn close_component(&mut self, id: u16) {
        if let (Some(component), Some(now)) = (self.components.get_mut(&id), self.now) {
            component.close(now);
        }
    }

    pub(super) fn remove_component(&mut self, id: u16) {
        self.components.remove(&id);
        self.pairs.retain(|pair| pair.component != id);
        self.early.retain(|early| early.component != id);
    }

    /// The lowest component that there is.
    pub(super) fn first_component(&self) -> Option<u16> {
        self.components.ids().first().copied()
    }

    pub(super) fn send(&mut self, id: u16, batch: Batch, now: Instant) -> Result<(), SendError> {
        self.now = Some(now);
        let Some(component) = self.components.get_mut(&id) else {
            return Err(SendError::NoSuchChannel);
        };
        let (packets, bytes) = (batch.len() as u64, batch.payload.len() as u64);
        component.send(batch, now)?;
        self.stats.packets_sent += packets;
        self.stats.bytes_sent += bytes;
        Ok(())
    }

    /// The way of a datagram that need not pass the queue.
    pub(super) fn send_direct(
        &mut self,
        id: u16,
        size: usize,
    ) -> Option<(LocalSocket, SocketAddr)> {
        let way = self.components.get(&id)?.direct(size)?;
        self.stats.packets_sent += 1;
        self.stats.bytes_sent += size as u64;
        Some(way)
    }

    /// The same for whatever is sent next, and received: it is not counted.
    pub(super) fn direct(&self, id: u16) -> Option<(LocalSocket, SocketAddr)> {
        self.components.get(&id)?.direct(0)
    }

    pub(super) fn poll_output(&mut self, id: u16) -> Option<Output> {
        self.components.get_mut(&id)?.poll_output()
    }

    /// What the peer said.
    pub(super) fn handle_remote(&mut self, remote: Description, now: Instant) {
        self.now = Some(now);
        self.apply_remote(remote, now);
        self.review(now);
    }

    /// The peer's offer or answer, which comes without time: what follows from it happens with the next timeout.
    pub(super) fn handle_remote_credentials(&mut self, credentials: &Credentials) {
        if self.remote.is_none() && self.restarting.is_none() {
            self.remote = Some(credentials.clone());
            self.due = true;
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        self.now = Some(now);
        self.due = false;
        self.update_interfaces(now);
        self.gather_timeout(now);
        self.consent_timeout(now);
        self.restart_timeout(now);
        self.checks_timeout(now);
        self.review(now);
        self.check_patience(now);
    }

    /// When the component's channel is to call [`handle_timeout`](Self::handle_timeout). Timers are the agent's, so
    /// that any of its channels may drive them.
    pub(super) fn poll_timeout(&self, id: u16) -> Option<Instant> {
        let component = self.components.get(&id)?;
        if component.failed || !self.components.values().any(|c| c.connected) {
            return None;
        }
        // Another component's call left something for this one, or something was told without the time.
        let waiting = component.has_output()
            || self.due
            || self.config.interfaces.version() != self.interfaces_seen;
        if waiting {
            return self.now;
        }
        let triggered = self.next_triggered.filter(|_| !self.triggered.is_empty());
        let checks = self
            .pairs
            .iter()
            .filter_map(|pair| Some(pair.check.as_ref()?.clock.poll_timeout()));
        let patience = self.patience_until();
        let ignored = self.ignored_at();
        [
            self.next_check,
            triggered,
            patience,
            self.restart_at,
            ignored,
        ]
        .into_iter()
        .flatten()
        .chain(checks)
        .chain(self.components.values().filter_map(Component::poll_timeout))
        .min()
    }

    /// Draws the conclusions of whatever has happened.
    fn review(&mut self, now: Instant) {
        self.hear_relays(now);
        if self.remote.is_some() && !self.checking {
            self.start_checks(now);
        }
        self.review_paths(now);
        self.review_nominations(now);
        self.tell_end();
        self.say_gathered();
        self.fail_without_sockets();
        let open = !self.config.lite
            && self
                .pairs
                .iter()
                .any(|pair| matches!(pair.state, PairState::Waiting | PairState::Frozen));
        if open && self.remote.is_some() {
            self.next_check.get_or_insert(now);
        } else {
            self.next_check = None;
        }
        // What is due at once is done at once: a check should not wait for the driver to come round.
        if self.next_check.is_some_and(|at| at <= now) || !self.triggered.is_empty() {
            self.send_due_checks(now);
        }
    }

    /// Gives back what the search for a path needed: most agents have theirs for long.
    fn shrink(&mut self) {
        self.pairs.shrink_to_fit();
        self.remotes.shrink_to_fit();
        self.triggered.shrink_to_fit();
        self.early.shrink_to_fit();
        for component in self.components.values_mut() {
            component.shrink();
        }
    }

    /// Tells the peer's agent something, by whichever component there is.
    fn tell(&mut self, candidate: Option<Candidate>, complete: bool, id: Option<u16>) {
        let id = id.or_else(|| self.first_component());
        if let Some(component) = id.and_then(|id| self.components.get_mut(&id)) {
            component.tell(Description {
                credentials: Some(self.local.clone()),
                has_candidates: candidate.is_some(),
                candidates: candidate.into_iter().collect(),
                complete,
                renomination: false,
            });
        }
    }

    /// The number of a local foundation that was met before, else a new one.
    fn local_group(&mut self, foundation: &Foundation) -> Group {
        let locals = self.components.values().flat_map(|c| &c.locals);
        let known = locals
            .filter(|local| local.candidate.foundation == *foundation)
            .map(|local| local.group)
            .next();
        self.any_alike |= known.is_some();
        known.unwrap_or_else(|| self.new_group())
    }

    /// The same of the peer's.
    fn remote_group(&mut self, foundation: &Foundation) -> Group {
        let known = self
            .remotes
            .iter()
            .find(|remote| remote.candidate.foundation == *foundation)
            .map(|remote| remote.group);
        self.any_alike |= known.is_some();
        known.unwrap_or_else(|| self.new_group())
    }

    fn new_group(&mut self) -> Group {
        self.next_group = self.next_group.wrapping_add(1);
        self.next_group
    }

    /// When to give up; only the initiator does, because the responder does not know since when the initiator can
    /// check (it may ring for long), and because replacing a transport is the initiator's to do.
    fn patience_until(&self) -> Option<Instant> {
        let without_path = self
            .components
            .values()
            .any(|c| c.path.is_none() && !c.failed);
        let since = self.started?;
        let at = since + self.config.patience;
        let settled = self.now.is_some_and(|now| at <= now) && self.pairs.iter().any(Pair::is_open);
        (self.role == Role::Initiator && without_path && !settled).then_some(at)
    }

    fn check_patience(&mut self, now: Instant) {
        if self.patience_until().is_none_or(|at| at > now) {
            return;
        }
        let reason = self.why_no_path();
        for component in self.components.values_mut() {
            let id = component.id;
            let open = self.pairs.iter().any(|p| p.component == id && p.is_open());
            if component.path.is_none() && !open {
                component.fail(TransportError::Unreachable(reason.as_str().into()));
            }
        }
        let failed: Vec<_> = self
            .components
            .values()
            .filter(|c| c.failed)
            .map(|c| c.id)
            .collect();
        self.pairs.retain(|pair| !failed.contains(&pair.component));
    }
}
