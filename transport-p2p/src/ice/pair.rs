//! One pair of the checklist, and the path that comes of it (RFC 8445 §6.1.2).

use super::agent::Group;
use super::candidate::{Candidate, CandidateKind};
use crate::stun::{IntegrityKey, Retransmission, TransactionId};
use bytes::Bytes;
use session_core::LocalSocket;
use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// From where datagrams of a pair leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Base {
    /// A socket of the component.
    Host(LocalSocket),
    /// The relay with this number.
    Relay(usize),
    /// Connections from the address of this socket (RFC 6544): of a local candidate, not of a pair.
    TcpActive(LocalSocket),
    /// Connections to this listener: of a local candidate, not of a pair.
    TcpPassive(LocalSocket),
    /// Connections that both sides open at once, from this port: of a local candidate, not of a pair.
    TcpSimultaneous(LocalSocket),
    /// A TCP connection.
    Tcp(LocalSocket),
}

/// Where a pair is in its life (RFC 8445 §6.1.2.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PairState {
    /// One like it is to be checked first.
    Frozen,
    /// It waits for its turn.
    Waiting,
    /// A check was sent and not answered yet.
    InProgress,
    /// A check was answered: it is valid.
    Succeeded,
    /// It was refused, or given up.
    Failed,
}

pub(super) struct Pair {
    pub(super) id: u32,
    pub(super) component: u16,
    pub(super) base: Base,
    pub(super) local: Arc<Candidate>,
    pub(super) remote: Arc<Candidate>,
    /// The foundations of the two: pairs with the same numbers are alike.
    pub(super) groups: (Group, Group),
    pub(super) state: PairState,
    pub(super) priority: u64,
    pub(super) check: Option<Box<Check>>,
    /// Of checks that were replaced while in flight: their answers still count.
    pub(super) replaced: Vec<(TransactionId, Instant)>,
    /// The peer's own check came through here.
    pub(super) requested: bool,
    /// The peer nominated it before it was valid.
    pub(super) nominate_when_valid: bool,
    /// The number of its last nomination; 0 without renomination (draft-thatcher-ice-renomination).
    pub(super) nomination: u32,
    pub(super) nominated: bool,
    /// How the peer sees us on it.
    pub(super) mapped: Option<SocketAddr>,
    pub(super) rtt: Option<Duration>,
    pub(super) sent: u32,
    /// Checks that were answered.
    pub(super) answered: u32,
    /// Why it is as it is, for people.
    pub(super) note: &'static str,
}

/// A check in flight.
pub(super) struct Check {
    pub(super) transaction: TransactionId,
    pub(super) bytes: Bytes,
    pub(super) clock: Retransmission,
    pub(super) sent_at: Instant,
    /// Whether it nominates, and with which number.
    pub(super) nominates: Option<u32>,
    /// As what it was sent.
    pub(super) controlling: bool,
}

/// Replaced checks whose answers are still taken.
const REPLACED_MAX: usize = 2;

impl Pair {
    /// One that nothing has happened to.
    pub(super) fn new(
        id: u32,
        base: Base,
        local: Arc<Candidate>,
        remote: Arc<Candidate>,
        groups: (Group, Group),
        priority: u64,
        state: PairState,
    ) -> Self {
        Self {
            id,
            component: local.component,
            base,
            local,
            remote,
            groups,
            state,
            priority,
            check: None,
            replaced: Vec::new(),
            requested: false,
            nominate_when_valid: false,
            nomination: 0,
            nominated: false,
            mapped: None,
            rtt: None,
            sent: 0,
            answered: 0,
            note: "new",
        }
    }

    /// Why it is where it is, for people.
    pub(super) fn why(&self) -> &'static str {
        match self.state {
            PairState::Frozen => "waits for one of its foundation",
            PairState::Waiting if self.sent == 0 && self.requested => "the peer asked, it is next",
            PairState::Waiting if self.sent == 0 => "waits for its turn",
            PairState::Waiting
            | PairState::InProgress
            | PairState::Succeeded
            | PairState::Failed => self.note,
        }
    }

    /// Whether something may still come of it.
    pub(super) fn is_open(&self) -> bool {
        matches!(
            self.state,
            PairState::Frozen | PairState::Waiting | PairState::InProgress
        )
    }

    /// Whether one without would be worth waiting for: it goes through a relay, or over TCP.
    pub(super) fn is_second_rate(&self) -> bool {
        matches!(self.base, Base::Relay(_) | Base::Tcp(_))
            || self.remote.kind == CandidateKind::Relayed
    }

    pub(super) fn is_on(&self, component: u16, base: Base, remote: SocketAddr) -> bool {
        self.component == component && self.base == base && self.remote.address == remote
    }

    /// Takes the check out of flight; its answer still counts.
    pub(super) fn replace_check(&mut self) {
        if let Some(check) = self.check.take() {
            self.replaced.truncate(REPLACED_MAX - 1);
            self.replaced.insert(0, (check.transaction, check.sent_at));
        }
    }
}

/// Where data goes: it outlives the pair it came of when ICE restarts.
pub(super) struct Path {
    pub(super) base: Base,
    pub(super) remote: SocketAddr,
    pub(super) kinds: (CandidateKind, CandidateKind),
    pub(super) local: SocketAddr,
    pub(super) pair: u32,
    pub(super) rtt: Option<Duration>,
    /// For consent checks: who asks whom.
    pub(super) username: Arc<str>,
    pub(super) remote_key: Arc<IntegrityKey>,
    /// When to ask next, and until when it holds.
    pub(super) consent_at: Instant,
    pub(super) consent_until: Instant,
    pub(super) asked: Vec<(TransactionId, Instant)>,
}
