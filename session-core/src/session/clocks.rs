//! The clocks of a session: answers, ringing, connectivity, the loss of a path that was there, and a parting word.

use super::{Session, SessionEvent, channels::Channel};
use crate::{Cause, TransportError};
use std::time::{Duration, Instant};

/// When each clock runs out; `None` while it does not run. Answers have theirs in each pending request.
#[derive(Clone, Debug, Default)]
pub(super) struct Timers {
    ringing: Option<Instant>,
    connectivity: Option<Instant>,
    writability: Option<Instant>,
    parting: Option<Instant>,
    application: Option<Instant>,
    /// Until when the offer or the answer waits for its candidates.
    pub(super) gathering: Option<Instant>,
}

impl Session {
    /// When [`SessionClient::on_timer`](crate::SessionClient::on_timer) is to be called; `None` for not at all.
    pub fn set_timer(&mut self, at: Option<Instant>) {
        self.timers.application = at;
        self.stir();
    }

    /// How long the session may stay unanswered by a person, from now on. It is the application's clock: none by
    /// default. When it runs out the session ends with [`Cause::RingingTimeout`].
    pub fn set_ringing_timeout(&mut self, after: Option<Duration>, now: Instant) {
        self.timers.ringing = after.and_then(|after| now.checked_add(after));
        self.stir();
    }

    /// Starts and stops clocks after anything that they depend on.
    pub(crate) fn review_clocks(&mut self, now: Instant) {
        self.stir();
        if self.state.is_ended() {
            self.timers = Timers::default();
            return;
        }
        if !(self.state.is_pending() || self.state == crate::State::Init) {
            self.timers.ringing = None;
        }
        if !self.state.is_accepted() || self.awaiting_path().is_none() {
            self.timers.connectivity = None;
        } else if self.timers.connectivity.is_none() {
            self.timers.connectivity = now.checked_add(self.connectivity_time());
        }
        let lost = self.first_lost().map(|(lost, _)| lost);
        self.timers.writability =
            lost.and_then(|lost| lost.checked_add(self.shared.config.clocks.writability));
    }

    /// The peer closed the last transport there is: it has a while to say why before that is the end.
    pub(crate) fn await_parting(&mut self, now: Instant) {
        if self.timers.parting.is_none() {
            self.timers.parting = now.checked_add(self.shared.config.clocks.parting);
        }
    }

    /// A transport was replaced: its successor has all the time again.
    pub(crate) fn restart_connectivity(&mut self, now: Instant) {
        self.timers.parting = None;
        self.await_path(now);
    }

    /// A content was accepted: however long that took, it has all the time to find a path.
    pub(crate) fn await_path(&mut self, now: Instant) {
        self.timers.connectivity = None;
        self.review_clocks(now);
    }

    /// When something is due; `None` when nothing is pending.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let timers = &self.timers;
        [
            timers.ringing,
            timers.connectivity,
            timers.writability,
            timers.parting,
            timers.application,
            timers.gathering,
            self.pending.iter().filter_map(|p| p.due).min(),
            self.next_channel_timeout(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        let due = |timer: &mut Option<Instant>| timer.take_if(|at| *at <= now).is_some();
        if due(&mut self.timers.application) {
            self.events.push_back(SessionEvent::Timer);
        }
        self.answers_overdue(now);
        if due(&mut self.timers.ringing) && self.state.is_pending() {
            self.fail(Cause::RingingTimeout, false, now);
        }
        if due(&mut self.timers.connectivity)
            && let Some(at) = self.awaiting_path()
        {
            self.give_up_transport(at, Cause::NoConnectivity, now);
        }
        if due(&mut self.timers.writability)
            && let Some((_, at)) = self.first_lost()
        {
            self.give_up_transport(at, Cause::ConnectionLost, now);
        }
        if due(&mut self.timers.parting) {
            self.fail(Cause::Transport(TransportError::Closed), false, now);
        }
        self.channel_timeouts(now);
        self.settle(now);
    }

    /// The first content that should have a path by now and never had one, or lost it while another transport is
    /// proposed. What is only proposed may wait for as long as people take to answer.
    fn awaiting_path(&self) -> Option<usize> {
        (0..self.contents.len()).find(|&at| {
            let content = &self.contents[at];
            if content.is_proposed() {
                return false;
            }
            // One that was lost has a clock of its own, but not while the answer to a proposal decides.
            let replacing = self.replacing_for(at).is_some();
            let unwatched = |c: &Channel| c.path_lost.is_none() || replacing;
            let mut channels = self
                .channels
                .iter()
                .filter(|c| c.content == content.name)
                .peekable();
            !content.is_settled()
                || channels.peek().is_some() && channels.all(|c| !c.path && unwatched(c))
        })
    }

    /// The content that has been without a path for longest, if it had one, and since when.
    fn first_lost(&self) -> Option<(Instant, usize)> {
        // Most often there is none, which is seen without a look at each channel for each content.
        self.channels.iter().find_map(|c| c.path_lost)?;
        let lost = (0..self.contents.len()).filter_map(|at| Some((self.path_lost(at)?, at)));
        lost.min()
    }

    /// Since when none of a content's channels has a path, if one had.
    fn path_lost(&self, at: usize) -> Option<Instant> {
        let channels = || {
            self.channels
                .iter()
                .filter(|c| c.content == self.contents[at].name)
        };
        // While another transport is proposed, its answer decides.
        if self.replacing_for(at).is_some() || channels().any(|c| c.path) {
            return None;
        }
        channels().filter_map(|c| c.path_lost).max()
    }

    fn connectivity_time(&self) -> Duration {
        let clocks = &self.shared.config.clocks;
        match self.role {
            crate::Role::Initiator => clocks.connectivity,
            crate::Role::Responder => clocks.connectivity.saturating_add(clocks.answer),
        }
    }
}
