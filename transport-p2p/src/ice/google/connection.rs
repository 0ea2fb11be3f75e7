//! A pair of addresses and what is known of it (libjingle p2p/base/port.cc, `Connection`).

use crate::ice::{candidate::CandidateKind, pair::Base};
use crate::stun::TransactionId;
use std::{
    collections::VecDeque,
    fmt,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// Pings whose answers are still taken.
const PINGS_MAX: usize = 16;
/// After this many pings without an answer, and [`LOST_AFTER`], it can no longer be written to.
const LOST_PINGS: u32 = 5;
const LOST_AFTER: Duration = Duration::from_secs(5);
/// Without an answer for so long, it is given up.
const GIVEN_UP_AFTER: Duration = Duration::from_secs(15);
/// The wait after the first ping, which doubles with each, and is never longer than `GAP_MAX`.
const GAP_MIN: Duration = Duration::from_millis(50);
const GAP_MAX: Duration = Duration::from_millis(800);
/// Between pings on the path in use, and after one of them was not answered at once.
const BEST_EVERY: Duration = Duration::from_millis(900);
const BEST_AGAIN: Duration = Duration::from_millis(480);
/// Between pings on one that may be needed.
const WARM_EVERY: Duration = Duration::from_millis(2_500);
/// Who has pinged within so long may send.
const READABLE_FOR: Duration = Duration::from_secs(30);
/// How long to wait for the peer's ping on what we can already write to.
const WAITS_FOR_PING: Duration = Duration::from_secs(1);

/// Whether it can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Write {
    /// Not known yet.
    Connect,
    /// The last pings were answered.
    Able,
    /// Given up, until the peer pings.
    Timeout,
}

/// What part a connection plays, which decides how often it is pinged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The one in use.
    Best,
    /// One that may become the best.
    Hopeful,
    /// One that works, and may be needed.
    Warm,
    /// Not needed, as things are.
    Pruned,
}

pub(super) struct Connection {
    pub(super) id: u32,
    pub(super) base: Base,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    pub(super) kinds: (CandidateKind, CandidateKind),
    /// The peer's, for pings.
    pub(super) username: Arc<str>,
    pub(super) priority: u64,
    pub(super) write: Write,
    pub(super) rtt: Option<Duration>,
    pings: VecDeque<(TransactionId, Instant)>,
    unanswered: u32,
    first_unanswered: Option<Instant>,
    last_ping: Option<Instant>,
    able_since: Option<Instant>,
    heard: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        id: u32,
        (base, local, remote): (Base, SocketAddr, SocketAddr),
        kinds: (CandidateKind, CandidateKind),
        username: Arc<str>,
        priority: u64,
    ) -> Self {
        Self {
            id,
            base,
            local,
            remote,
            kinds,
            username,
            priority,
            write: Write::Connect,
            rtt: None,
            pings: VecDeque::new(),
            unanswered: 0,
            first_unanswered: None,
            last_ping: None,
            able_since: None,
            heard: None,
        }
    }

    pub(super) fn is_on(&self, base: Base, remote: SocketAddr) -> bool {
        self.base == base && self.remote == remote
    }

    /// A ping was sent.
    pub(super) fn pinged(&mut self, transaction: TransactionId, now: Instant) {
        self.pings.truncate(PINGS_MAX - 1);
        self.pings.push_front((transaction, now));
        self.unanswered += 1;
        self.first_unanswered.get_or_insert(now);
        self.last_ping = Some(now);
    }

    /// Whether this answers one of our pings, which makes it writable.
    pub(super) fn answered(&mut self, transaction: TransactionId, now: Instant) -> bool {
        let Some(sent) = self.sent_at(transaction) else {
            return false;
        };
        let sample = now.saturating_duration_since(sent);
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 3 + sample) / 4));
        self.write = Write::Able;
        self.able_since.get_or_insert(now);
        self.settle();
        true
    }

    /// Whether this refuses one of our pings; for good, unless the peer may still come to know us.
    pub(super) fn refused(&mut self, transaction: TransactionId, may_change: bool) -> bool {
        if self.sent_at(transaction).is_none() {
            return false;
        }
        self.pings.retain(|(id, _)| *id != transaction);
        if !may_change {
            self.write = Write::Timeout;
            self.able_since = None;
        }
        true
    }

    fn sent_at(&self, transaction: TransactionId) -> Option<Instant> {
        let of = |(id, _): &&(TransactionId, Instant)| *id == transaction;
        self.pings.iter().find(of).map(|(_, at)| *at)
    }

    /// A valid ping of the peer. Whether it is to be pinged at once.
    pub(super) fn heard(&mut self, now: Instant) -> bool {
        self.heard = Some(now);
        match self.write {
            Write::Able => false,
            Write::Connect => true,
            Write::Timeout => {
                self.revive();
                true
            }
        }
    }

    /// From the beginning.
    pub(super) fn revive(&mut self) {
        self.write = Write::Connect;
        self.able_since = None;
        self.settle();
    }

    fn settle(&mut self) {
        self.pings.clear();
        self.unanswered = 0;
        self.first_unanswered = None;
    }

    /// What time does to it.
    pub(super) fn age(&mut self, now: Instant) {
        let Some(first) = self.first_unanswered else {
            return;
        };
        let waiting = now.saturating_duration_since(first);
        // Its round trips are known well enough to say that the fifth has been lost too.
        let patience = self.rtt.map_or(Duration::from_secs(3), |rtt| {
            (rtt * 2).clamp(Duration::from_millis(100), Duration::from_secs(3))
        });
        let last = self.last_ping.unwrap_or(first);
        let fifth_is_late =
            now.saturating_duration_since(last) >= patience || self.unanswered > LOST_PINGS;
        if self.write == Write::Able
            && self.unanswered >= LOST_PINGS
            && fifth_is_late
            && waiting > LOST_AFTER
        {
            self.write = Write::Connect;
            self.able_since = None;
        }
        if self.write == Write::Connect && waiting > GIVEN_UP_AFTER {
            self.write = Write::Timeout;
        }
    }

    /// Whether datagrams from there are the peer's.
    pub(super) fn is_readable(&self, now: Instant) -> bool {
        let recent = |at| now.saturating_duration_since(at) < READABLE_FOR;
        self.write == Write::Able || self.heard.is_some_and(recent)
    }

    /// Whether data should go there. libjingle drops what comes before its own pings were answered: so the peer's ping
    /// is waited for, a while.
    pub(super) fn is_ready(&self, now: Instant) -> bool {
        self.write == Write::Able
            && (self.heard.is_some() || self.ready_at().is_some_and(|at| at <= now))
    }

    /// When waiting for the peer's ping ends.
    pub(super) fn ready_at(&self) -> Option<Instant> {
        let waits = self.write == Write::Able && self.heard.is_none();
        self.able_since
            .filter(|_| waits)
            .map(|at| at + WAITS_FOR_PING)
    }

    /// When to ping next; `None`: not, as things are. One that was never pinged is due since ever.
    pub(super) fn ping_at(&self, part: Part, now: Instant) -> Option<Instant> {
        let gap = match (part, self.write) {
            (Part::Pruned, _) => return None,
            (_, Write::Timeout) => return None,
            (Part::Best, Write::Able) if self.unanswered > 1 => BEST_AGAIN,
            (Part::Best, Write::Able) => BEST_EVERY,
            (Part::Warm | Part::Hopeful, Write::Able) => WARM_EVERY,
            (_, Write::Connect) => GAP_MAX.min(GAP_MIN * (1 << self.unanswered.clamp(1, 8) >> 1)),
        };
        Some(self.last_ping.map_or(now, |at| at + gap))
    }
}

/// The path, or a line of the table.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, remote) = self.kinds;
        write!(
            f,
            "{} {} -> {} {}",
            local.as_str(),
            self.local,
            remote.as_str(),
            self.remote
        )?;
        match self.rtt {
            Some(rtt) => write!(f, ", rtt {:.1} ms", rtt.as_secs_f64() * 1e3),
            None => write!(f, ", {:?}", self.write),
        }
    }
}
