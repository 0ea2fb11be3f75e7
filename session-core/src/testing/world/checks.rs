//! What must hold whatever happens.

use super::World;
use crate::{
    Action, Message, Peer, RequestId, SessionId, State,
    state::TRANSITIONS,
    testing::recorder::{Callback, Entry},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// What tells a session from all others on the wire: host, its own address, the peer's, and the session's name. A host
/// has several addresses, and a peer may use one name with each of them.
type Name = (usize, Peer, Peer, Arc<str>);

#[derive(Default)]
pub(super) struct Checks {
    breaches: Vec<String>,
    /// What was asked and not answered yet: host and number.
    open: BTreeSet<(usize, RequestId)>,
    answered: BTreeSet<(usize, RequestId)>,
    /// The last state of sessions that are gone.
    gone: BTreeMap<Name, State>,
    states: BTreeMap<(usize, SessionId), State>,
    destroyed: BTreeSet<(usize, SessionId)>,
    read: Vec<usize>,
    said_something: bool,
}

impl Checks {
    pub(super) fn breach(&mut self, host: usize, time: Duration, what: String) {
        self.breaches
            .push(format!("{:.3}s host {host}: {what}", time.as_secs_f64()));
    }

    pub(super) fn asked(&mut self, host: usize, id: RequestId) {
        self.open.insert((host, id));
    }

    pub(super) fn begin_drain(&mut self) {
        self.said_something = false;
    }

    pub(super) fn replies(&mut self, host: usize, time: Duration, id: RequestId) {
        if self.answered.contains(&(host, id)) {
            self.breach(host, time, format!("a second reply to #{}", id.0));
        } else if !self.open.remove(&(host, id)) {
            self.breach(
                host,
                time,
                format!("a reply to #{}, which nobody asked", id.0),
            );
        }
        if self.said_something {
            let what = format!("the reply to #{} leaves after what it caused", id.0);
            self.breach(host, time, what);
        }
        self.answered.insert((host, id));
    }

    pub(super) fn sends(&mut self, host: usize, time: Duration, message: &Message) {
        self.said_something = true;
        let (local, remote) = (message.from.clone(), message.to.clone());
        let Some(last) = self.gone.get(&(host, local, remote, message.sid.clone())) else {
            return;
        };
        let fine = match message.action {
            Action::SessionTerminate => matches!(
                last,
                // An offer of which nothing can be used is acknowledged, and ended without a state of its own.
                State::SentTerminate
                    | State::SentReject
                    | State::SentRedirect
                    | State::ReceivedInitiate
            ),
            Action::Reject => *last == State::SentReject,
            Action::Redirect => *last == State::SentRedirect,
            Action::ContentAccept
            | Action::ContentAdd
            | Action::ContentModify
            | Action::ContentReject
            | Action::ContentRemove
            | Action::DescriptionInfo
            | Action::SecurityInfo
            | Action::SessionAccept
            | Action::SessionInfo
            | Action::SessionInitiate
            | Action::TransportAccept
            | Action::TransportInfo
            | Action::TransportReject
            | Action::TransportReplace => false,
        };
        if !fine {
            let what = format!("{} after the end in {last:?}", message.action);
            self.breach(host, time, what);
        }
    }

    fn read(&mut self, host: usize, time: Duration, entry: &Entry) {
        let key = (host, entry.session);
        if self.destroyed.contains(&key) {
            let what = format!("{:?} after the session was destroyed", entry.callback);
            self.breach(host, time, what);
        }
        let (local, remote) = (entry.local.clone(), entry.remote.clone());
        let name = (host, local, remote, entry.sid.clone());
        let before = self.states.get(&key).copied();
        match &entry.callback {
            Callback::Created(_) => {
                if before.is_some() {
                    self.breach(host, time, "a session was created twice".into());
                }
                self.states.insert(key, State::Init);
                // A name may come again once it is forgotten.
                self.gone.remove(&name);
            }
            Callback::State(state) => {
                let from = before.unwrap_or(State::Init);
                let known = TRANSITIONS
                    .iter()
                    .any(|(source, _, to)| *source == from && to == state);
                if !known {
                    self.breach(host, time, format!("{from:?} was followed by {state:?}"));
                }
                self.states.insert(key, *state);
                if *state == State::Deinit {
                    self.gone.insert(name, from);
                }
            }
            Callback::Destroyed => {
                if before != Some(State::Deinit) {
                    self.breach(host, time, format!("destroyed in state {before:?}"));
                }
                self.destroyed.insert(key);
            }
            Callback::Packet(..)
            | Callback::Writable(..)
            | Callback::Finished(_)
            | Callback::Delivered(_)
            | Callback::Secured(..)
            | Callback::ChannelGone(_)
            | Callback::Info(_)
            | Callback::Modify(_)
            | Callback::Error(_)
            | Callback::TerminateReason(_)
            | Callback::Timer
            | Callback::Pong(_) => {
                if before == Some(State::Deinit) {
                    self.breach(host, time, format!("{:?} after Deinit", entry.callback));
                }
            }
        }
    }
}

impl World {
    /// Fails if something was seen that must never be: a request without a reply at once, or with two; a reply that
    /// leaves after what the request caused; a state that the table does not know as the next one; anything after
    /// [`State::Deinit`] and the session's destruction; a message of a session after its end, other than its last word;
    /// a timer that does not move on.
    ///
    /// # Panics
    /// With everything that was seen.
    #[track_caller]
    pub fn check(&self) {
        let breaches = self.breaches();
        assert!(breaches.is_empty(), "{}", breaches.join("\n"));
    }

    /// What [`check`](Self::check) would fail with.
    pub fn breaches(&self) -> &[String] {
        &self.checks.breaches
    }

    /// As [`check`](Self::check), and that everything is at rest: see [`leftovers`](Self::leftovers).
    ///
    /// # Panics
    /// With what is not at rest.
    #[track_caller]
    pub fn check_empty(&self) {
        self.check();
        let leftovers = self.leftovers();
        assert!(leftovers.is_empty(), "{}", leftovers.join("\n"));
    }

    /// What keeps the world from being at rest: sessions, timers, sockets, signalling that waits.
    pub fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        for (index, host) in self.hosts.iter().enumerate() {
            let sessions = host.manager.session_count();
            if sessions > 0 {
                left.push(format!("host {index} has {sessions} sessions"));
            }
            if let Some(at) = host.wait {
                let time = at.saturating_duration_since(self.start);
                left.push(format!("host {index} waits until {time:?}"));
            }
        }
        let open = self.network.sockets();
        left.extend(open.map(|socket| format!("{socket:?} is open")));
        left.extend(
            self.held()
                .iter()
                .map(|envelope| format!("{envelope} waits")),
        );
        left
    }

    pub(super) fn read_log(&mut self, host: usize) {
        let time = self.now - self.start;
        self.checks.read.resize(self.hosts.len(), 0);
        let from = self.checks.read[host];
        let checks = &mut self.checks;
        let log = &self.hosts[host].log;
        checks.read[host] = log.since(from, |entry| checks.read(host, time, entry));
    }

    pub(super) fn end_drain(&mut self, host: usize) {
        self.read_log(host);
        let time = self.now - self.start;
        if self.hosts[host].link {
            while let Some((host, id)) = self.checks.open.pop_first() {
                let what = format!("no reply to #{}", id.0);
                self.checks.breach(host, time, what);
            }
        }
    }
}
