//! When to send a request again (RFC 8489 §6.2.1).

use std::time::{Duration, Instant};

/// How often and how long a request over UDP is repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// The wait after the first sending, which doubles with each (RTO). Default 500 ms.
    pub rto: Duration,
    /// How often it is sent in all (Rc), at least once. Default 7.
    pub requests: u32,
    /// How many times the RTO to wait after the last (Rm). Default 16.
    pub last: u32,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            rto: Duration::from_millis(500),
            requests: 7,
            last: 16,
        }
    }
}

/// The clock of one request that was sent and not yet answered.
#[derive(Clone, Copy, Debug)]
pub struct Retransmission {
    timing: Timing,
    sent: u32,
    next: Instant,
}

/// What [`Retransmission::handle_timeout`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet.
    Nothing,
    /// Send the same bytes again.
    Send,
    /// No answer will come.
    GiveUp,
}

impl Retransmission {
    /// The request was sent for the first time.
    pub fn new(timing: Timing, now: Instant) -> Self {
        let mut this = Self {
            timing,
            sent: 0,
            next: now,
        };
        this.count(now);
        this
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due.
    pub fn poll_timeout(&self) -> Instant {
        self.next
    }

    /// How often it was sent.
    pub fn sent(&self) -> u32 {
        self.sent
    }

    /// The instant has come. A late call skips nothing: the next wait counts from `now`.
    pub fn handle_timeout(&mut self, now: Instant) -> Due {
        if now < self.next {
            return Due::Nothing;
        }
        if self.sent >= self.timing.requests {
            return Due::GiveUp;
        }
        self.count(now);
        Due::Send
    }

    fn count(&mut self, now: Instant) {
        self.sent += 1;
        let factor = if self.sent >= self.timing.requests {
            self.timing.last
        } else {
            1 << (self.sent - 1).min(16)
        };
        self.next = now + self.timing.rto.saturating_mul(factor);
    }
}
