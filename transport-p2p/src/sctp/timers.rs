//! Deadlines, and what happens when they pass.

use super::{Association, Error, State};
use std::time::{Duration, Instant};

/// Longest retransmission timeout (RFC 9260 §16 says 60 s; a path that is back should be noticed sooner).
const MAX_RTO: Duration = Duration::from_secs(20);
/// What a peer may hold an acknowledgement back (RFC 9260 §6.2), and noise.
const PEER_DELAY: Duration = Duration::from_millis(250);
/// For how long a peer may put off the end of an association that we have told it of: five times the RTO.Max of
/// RFC 9260 §16, as its §9.2 has it.
const SHUTDOWN_GUARD: Duration = Duration::from_secs(300);
/// For the last packet before an acknowledgement that is not delayed.
const LEAST_PROBE: Duration = Duration::from_millis(5);

/// All deadlines; `None` means that nothing is pending.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Of whatever waits for an answer: INIT, cookie, data, shutdown.
    pub(super) retransmit: Option<Instant>,
    /// For a lost tail (RFC 8985 §7).
    pub(super) probe: Option<Instant>,
    /// For holes that may be reordering.
    pub(super) reordering: Option<Instant>,
    /// For what the pace holds back; whoever sees it pass polls what is to be sent.
    pub(super) pace: Option<Instant>,
    /// For a reset that is not answered.
    pub(super) reset: Option<Instant>,
    /// For an orderly end that does not come, whatever the peer answers (T5-shutdown-guard).
    pub(super) guard: Option<Instant>,
}

impl Timers {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// The peer is told of the end: from the first time on, nothing that it says gives it more time.
    pub(super) fn guard_shutdown(&mut self, now: Instant) {
        self.guard.get_or_insert(now + SHUTDOWN_GUARD);
    }
}

/// Takes a deadline that has passed.
fn expired(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}

impl Association {
    /// When [`handle_timeout`](Self::handle_timeout), and after it [`poll_transmit`](Self::poll_transmit), are to be called
    /// at the latest; `None` when nothing is pending. Read it after everything else of a turn.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [
            self.timers.retransmit,
            self.timers.probe,
            self.timers.reordering,
            self.timers.reset,
            self.timers.guard,
            self.acknowledgement.at,
            self.timers.pace,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Does what is due at `now`; harmless when nothing is.
    pub fn handle_timeout(&mut self, now: Instant) {
        if expired(&mut self.acknowledgement.at, now) {
            self.acknowledgement.due = true;
        }
        if expired(&mut self.timers.reordering, now) {
            self.judge(now);
        }
        if expired(&mut self.timers.probe, now) {
            self.probe_due = true;
            self.probed = true;
        }
        let _ = expired(&mut self.timers.pace, now);
        if expired(&mut self.timers.reset, now)
            && self.resets.repeat() > self.config.max_retransmits
        {
            // RFC 6525 §5.1.1: it counts as data that is not acknowledged.
            return self.fail(Error::TimedOut);
        }
        if expired(&mut self.timers.guard, now) {
            return self.fail(Error::TimedOut);
        }
        if expired(&mut self.timers.retransmit, now) {
            self.on_retransmit_timeout(now);
        }
    }

    /// The path is there again after an interruption, or is another one: asks at once for what is missing instead of
    /// waiting for the timeout.
    pub fn handle_path_up(&mut self, now: Instant) {
        self.backoff = 0;
        self.forget_mtu();
        self.resets.begin_anew();
        match self.state {
            State::CookieWait => self.setup.init_due = true,
            State::CookieEchoed => self.setup.cookie_due = true,
            State::Established | State::ShutdownPending | State::ShutdownReceived => {
                if !self.flight.is_empty() {
                    self.probe_due = true;
                    self.timers.retransmit = Some(now + self.rto());
                }
            }
            State::Idle | State::ShutdownSent | State::ShutdownAckSent | State::Closed => {}
        }
    }

    /// The present retransmission timeout (RFC 6298). Its floor is above what the peer may hold back, instead of a
    /// second: a lost tail is probed for long before.
    pub(super) fn rto(&self) -> Duration {
        self.rto_after(self.backoff)
    }

    /// The same after so many that have run out in a row.
    pub(super) fn rto_after(&self, backoff: u32) -> Duration {
        let floor = self.rtt.smoothed().unwrap_or_default() + PEER_DELAY;
        let base = self.rtt.timeout(0, MAX_RTO).max(floor);
        base.saturating_mul(1 << backoff.min(10)).min(MAX_RTO)
    }

    /// Restarts the timers after progress.
    pub(super) fn rearm(&mut self, now: Instant) {
        self.timers.probe = None;
        if self.waits_for_data() {
            self.timers.retransmit = Some(now + self.rto());
            self.arm_probe(now);
        } else if self.is_open() && self.state != State::ShutdownSent {
            self.timers.retransmit = None;
            self.timers.reordering = None;
        }
    }

    /// Starts the timer for a lost tail, once per progress.
    pub(super) fn arm_probe(&mut self, now: Instant) {
        if self.probed || self.backoff > 0 || self.flight.has_lost() {
            return;
        }
        let Some(smoothed) = self.rtt.smoothed() else {
            return;
        };
        let mut wait = smoothed * 2 + LEAST_PROBE;
        if self.flight.on_way() <= self.mtu.packet() as u64 {
            wait += PEER_DELAY;
        }
        if wait < self.rto() {
            self.timers.probe = Some(now + wait);
        }
    }

    fn on_retransmit_timeout(&mut self, now: Instant) {
        if self.is_idle() {
            return;
        }
        self.stats.timeouts += 1;
        self.backoff += 1;
        if self.backoff > self.config.max_retransmits {
            self.fail(match self.state {
                State::CookieWait | State::CookieEchoed => Error::ConnectTimedOut,
                State::Idle
                | State::Established
                | State::ShutdownPending
                | State::ShutdownSent
                | State::ShutdownReceived
                | State::ShutdownAckSent
                | State::Closed => Error::TimedOut,
            });
            return;
        }
        match self.state {
            State::CookieWait => self.setup.init_due = true,
            State::CookieEchoed => self.setup.cookie_due = true,
            State::Established | State::ShutdownPending | State::ShutdownReceived => {
                self.on_data_timeout(now);
            }
            State::ShutdownSent => self.ending.shutdown = true,
            State::ShutdownAckSent => self.ending.acknowledge = true,
            State::Idle | State::Closed => return,
        }
        self.timers.retransmit = Some(now + self.rto());
    }

    /// Whether the retransmission timer is the data's, and no data waits for it.
    fn is_idle(&self) -> bool {
        match self.state {
            State::Established | State::ShutdownPending | State::ShutdownReceived => {
                self.flight.is_empty()
            }
            State::Idle | State::Closed => true,
            State::CookieWait
            | State::CookieEchoed
            | State::ShutdownSent
            | State::ShutdownAckSent => false,
        }
    }

    fn on_data_timeout(&mut self, now: Instant) {
        self.flight.on_timeout(self.backoff > 1);
        self.on_black_hole(now);
        // A closed window is no congestion.
        self.asking = self.is_window_closed();
        if self.backoff == 1 && !self.asking {
            self.controller.on_timeout(now);
        }
        self.timers.probe = None;
        self.timers.reordering = None;
        self.probe_due = false;
        self.check_forward();
    }
}
