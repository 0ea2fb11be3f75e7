//! What an agent tells people: its path, the life of every pair, counters.

use super::candidate::CandidateKind;
use super::pair::{Base, Pair, PairState, Path};
use session_core::PathReport;
use std::{fmt, net::SocketAddr, time::Duration};

/// The pair that data takes (RFC 8445 §8).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SelectedPair {
    /// Of which component.
    pub component: u16,
    /// Where the peer sees us, or at a relay: where the relay sees it.
    pub local: SocketAddr,
    /// What kind of address that is.
    pub local_kind: CandidateKind,
    /// Where the peer is.
    pub remote: SocketAddr,
    /// What kind of address that is.
    pub remote_kind: CandidateKind,
    /// The last round trip of a check on it.
    pub rtt: Option<Duration>,
    /// Whether it is a TCP connection (RFC 6544). A relay may be reached over one of its own all the same.
    pub tcp: bool,
}

impl SelectedPair {
    pub(super) fn new(component: u16, path: &Path) -> Self {
        Self {
            component,
            local: path.local,
            local_kind: path.kinds.0,
            remote: path.remote,
            remote_kind: path.kinds.1,
            rtt: path.rtt,
            tcp: matches!(path.base, Base::Tcp(_)),
        }
    }

    /// Whether a relay of either side is on the way.
    pub fn is_relayed(&self) -> bool {
        CandidateKind::Relayed == self.local_kind || CandidateKind::Relayed == self.remote_kind
    }
}

/// `host 192.0.2.1:4000 -> srflx 198.51.100.2:5000, rtt 12.3 ms`.
impl fmt::Display for SelectedPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (local, remote) = (self.local_kind.as_str(), self.remote_kind.as_str());
        if self.tcp {
            f.write_str("tcp ")?;
        }
        write!(f, "{local} {} -> {remote} {}", self.local, self.remote)?;
        match self.rtt {
            Some(rtt) => write!(f, ", rtt {:.1} ms", rtt.as_secs_f64() * 1e3),
            None => Ok(()),
        }
    }
}

/// The life of one pair of the checklist (RFC 8445 §6.1.2).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PairReport {
    /// Of which component.
    pub component: u16,
    /// The address that datagrams leave from, or of the relay.
    pub local: SocketAddr,
    /// What kind of address that is.
    pub local_kind: CandidateKind,
    /// Where they go.
    pub remote: SocketAddr,
    /// What kind of address that is.
    pub remote_kind: CandidateKind,
    /// The higher the better (RFC 8445 §6.1.2.3).
    pub priority: u64,
    /// Where it is in its life (RFC 8445 §6.1.2.6).
    pub state: PairState,
    /// Why it is there, in a few words.
    pub why: &'static str,
    /// Whether it was nominated.
    pub nominated: bool,
    /// Whether a check of the peer came through.
    pub requested: bool,
    /// Checks sent, repetitions included.
    pub sent: u32,
    /// Checks that were answered.
    pub answered: u32,
    /// The last round trip that could be measured.
    pub rtt: Option<Duration>,
}

impl PairReport {
    /// Whether the other is about the same two addresses.
    pub(super) fn is_of_pair(&self, other: &Self) -> bool {
        let ends = |report: &Self| (report.component, report.local, report.remote);
        ends(self) == ends(other)
    }

    pub(super) fn new(pair: &Pair) -> Self {
        Self {
            component: pair.component,
            local: pair.local.address,
            local_kind: pair.local.kind,
            remote: pair.remote.address,
            remote_kind: pair.remote.kind,
            priority: pair.priority,
            state: pair.state,
            why: pair.why(),
            nominated: pair.nominated,
            requested: pair.requested,
            sent: pair.sent,
            answered: pair.answered,
            rtt: pair.rtt,
        }
    }

    /// The same for traces, without what changes all the time.
    pub(super) fn path(&self) -> PathReport {
        let nominated = if self.nominated { " nominated" } else { "" };
        PathReport {
            local: format!("{} {}", self.local_kind.as_str(), self.local),
            remote: format!("{} {}", self.remote_kind.as_str(), self.remote),
            state: format!("{:?}{nominated}", self.state),
            detail: self.why.to_owned(),
        }
    }
}

/// A line of the table of pairs.
impl fmt::Display for PairReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} {} -> {} {} {:?}",
            self.component,
            self.local_kind.as_str(),
            self.local,
            self.remote_kind.as_str(),
            self.remote,
            self.state,
        )?;
        if self.nominated {
            f.write_str(" nominated")?;
        }
        if let Some(rtt) = self.rtt {
            write!(f, " rtt {:.1} ms", rtt.as_secs_f64() * 1e3)?;
        }
        write!(f, " {}/{} answered: {}", self.answered, self.sent, self.why)
    }
}

/// Counts of what an agent did, over all components and generations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connectivity checks sent, repetitions included.
    pub checks_sent: u64,
    /// Valid checks of the peer.
    pub checks_received: u64,
    /// Valid answers to our checks.
    pub answers_received: u64,
    /// Checks and answers with wrong credentials.
    pub refused: u64,
    /// Answers to nothing that is asked: too late, or made up.
    pub unexpected: u64,
    /// Consent checks sent (RFC 7675).
    pub consents_sent: u64,
    /// Consent checks that were answered.
    pub consents_answered: u64,
    /// Data datagrams handed to the network.
    pub packets_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Data datagrams of the peer handed to the application.
    pub packets_received: u64,
    /// Their bytes.
    pub bytes_received: u64,
    /// Datagrams that were no STUN and came from no address of the peer.
    pub strangers: u64,
    /// Role conflicts after which we switched (RFC 8445 §7.3.1.1).
    pub role_switches: u64,
    /// Restarts, by either side (RFC 8445 §9).
    pub restarts: u64,
}
