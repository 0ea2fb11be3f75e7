//! Deadlines, and what happens when they pass.

use super::{
    Error, PseudoTcp, State,
    rtt::{MAX_CONNECT_RTO, MAX_RTO},
};
use std::time::{Duration, Instant};

/// How long the reordering timer waits at least: below this, the clock's and the scheduler's noise looks like
/// reordering.
const LEAST_REORDERING: Duration = Duration::from_millis(2);

/// What a delayed acknowledgement may add to the round trip of a lone segment; libjingle's and our default.
const PEER_ACK_DELAY: Duration = Duration::from_millis(100);

/// FINs that are sent before the last acknowledgement of a stream that is over in all else is done without.
const LAST_FIN_RETRIES: u32 = 5;

/// How long an end that is done answers what the peer repeats: about six of its timeouts.
const LINGER: Duration = Duration::from_secs(30);

/// All deadlines; `None` means that nothing is pending.
#[derive(Debug, Default)]
pub(super) struct Timers {
    /// Of the first unacknowledged segment, or of the CONNECT.
    pub(super) retransmit: Option<Instant>,
    /// For a lost tail (RFC 8985 §7).
    pub(super) probe: Option<Instant>,
    /// For holes that may be reordering.
    pub(super) reordering: Option<Instant>,
    /// For a window that stays closed.
    pub(super) window: Option<Instant>,
    pub(super) linger: Option<Instant>,
    /// For what the pace holds back; whoever sees it pass polls what is to be sent.
    pub(super) pace: Option<Instant>,
}

impl Timers {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    fn earliest(&self) -> Option<Instant> {
        [
            self.retransmit,
            self.probe,
            self.reordering,
            self.window,
            self.linger,
            self.pace,
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// Takes a deadline that has passed.
fn expired(timer: &mut Option<Instant>, now: Instant) -> bool {
    timer.take_if(|at| *at <= now).is_some()
}

impl PseudoTcp {
    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest; `None` when nothing is pending.
    /// Read it after everything else of a turn.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.timers.earliest(), self.acknowledgement.at]
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
            let lost = self.flight.lost();
            let began = self.flight.judge(self.mss, true);
            self.tell_loss(lost, now);
            if began {
                self.on_loss(now);
            }
        }
        if expired(&mut self.timers.probe, now) {
            self.probe_due = true;
            self.probed = true;
        }
        if expired(&mut self.timers.window, now) {
            self.on_window_timeout();
        }
        if expired(&mut self.timers.retransmit, now) {
            self.on_retransmit_timeout(now);
        }
        let _ = expired(&mut self.timers.pace, now);
        if expired(&mut self.timers.linger, now) {
            self.end(None);
        }
    }

    /// (Re)starts the retransmission timer.
    pub(super) fn arm_retransmit(&mut self, now: Instant) {
        self.timers.retransmit = Some(now + self.rto());
    }

    /// Restarts the timers after progress.
    pub(super) fn rearm(&mut self, now: Instant) {
        self.timers.probe = None;
        if self.flight.is_empty() {
            self.timers.retransmit = None;
            self.timers.reordering = None;
        } else {
            self.arm_retransmit(now);
            self.arm_probe(now);
        }
    }

    /// Starts the timer for a lost tail, once per progress.
    pub(super) fn arm_probe(&mut self, now: Instant) {
        if self.probed || self.flight.in_recovery() || self.backoff > 0 {
            return;
        }
        let Some(smoothed) = self.rtt.smoothed() else {
            return;
        };
        let mut wait = smoothed * 2 + LEAST_REORDERING;
        if self.flight.pipe() <= self.mss {
            wait += PEER_ACK_DELAY;
        }
        if wait < self.rto() {
            self.timers.probe = Some(now + wait);
        }
    }

    /// Starts the timer for holes whose cause is open.
    pub(super) fn arm_reordering(&mut self, now: Instant) {
        if !self.options.sack || !self.flight.has_suspects() {
            self.timers.reordering = None;
        } else if self.timers.reordering.is_none() {
            let wait = self.rtt.smoothed().unwrap_or_default() / 4;
            self.timers.reordering = Some(now + wait.max(LEAST_REORDERING));
        }
    }

    /// Starts the timer for a closed window.
    pub(super) fn arm_window(&mut self, now: Instant) {
        if self.timers.window.is_none() {
            let wait = self.rtt.timeout(self.unanswered.min(16), MAX_RTO);
            self.timers.window = Some(now + wait);
        }
    }

    /// Starts to wait for what the peer repeats.
    pub(super) fn arm_linger(&mut self, now: Instant) {
        self.timers.linger = Some(now + LINGER);
    }

    /// The present retransmission timeout.
    pub(super) fn rto(&self) -> Duration {
        let most = match self.state {
            State::SynSent | State::SynReceived => MAX_CONNECT_RTO,
            State::Listen
            | State::Established
            | State::Closing
            | State::Lingering
            | State::Closed => MAX_RTO,
        };
        self.rtt.timeout(self.backoff, most)
    }

    fn on_window_timeout(&mut self) {
        if self.unanswered >= self.config.max_retransmits {
            self.fail(Error::TimedOut);
            return;
        }
        self.unanswered += 1;
        self.window_probe_due = true;
    }

    fn on_retransmit_timeout(&mut self, now: Instant) {
        self.stats.timeouts += 1;
        self.backoff += 1;
        match self.state {
            State::SynSent | State::SynReceived => {
                if self.backoff > self.config.max_connect_retransmits {
                    self.fail(Error::ConnectTimedOut);
                } else {
                    self.connect_due = true;
                }
            }
            State::Established | State::Closing => {
                if self.only_fin_is_missing() && self.backoff > LAST_FIN_RETRIES {
                    self.end(None);
                } else if self.backoff > self.config.max_retransmits {
                    self.fail(Error::TimedOut);
                } else {
                    self.on_stream_timeout(now);
                }
            }
            State::Listen | State::Lingering | State::Closed => {}
        }
    }

    fn on_stream_timeout(&mut self, now: Instant) {
        self.flight.on_timeout();
        if self.backoff == 1 {
            self.controller.on_timeout(now);
        }
        self.window_edge = self.flight.una() + self.window;
        self.timers.probe = None;
        self.timers.reordering = None;
        self.probe_due = false;
        self.arm_retransmit(now);
    }
}
