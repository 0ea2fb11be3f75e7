//! What people are told: the path, the life of the pairs, one line that says why there is no path.

use super::Agent;
use crate::ice::{
    candidate::{Candidate, CandidateKind},
    report::{PairReport, SelectedPair},
};

use std::{net::SocketAddr, time::Duration};

/// The headers of IP, without options, and UDP.
const IPV4_UDP: usize = 20 + 8;
const IPV6_UDP: usize = 40 + 8;

/// Pairs that are remembered after they were given up.
const ENDED_MAX: usize = 16;

impl Agent {
    pub(in crate::ice) fn is_controlling(&self) -> bool {
        self.controlling
    }

    pub(in crate::ice) fn is_completed(&self, id: u16) -> bool {
        self.components.get(&id).is_some_and(|c| c.completed)
    }

    pub(in crate::ice) fn selected_pair(&self, id: u16) -> Option<SelectedPair> {
        let path = self.components.get(&id)?.path.as_ref()?;
        Some(SelectedPair::new(id, path))
    }

    /// Those of the checklist, best first, then those that were given up and are not there again.
    pub(in crate::ice) fn pair_reports(&self) -> Vec<PairReport> {
        let mut reports: Vec<_> = self.pairs.iter().map(PairReport::new).collect();
        reports.sort_by_key(|report| std::cmp::Reverse(report.priority));
        let lives = |ended: &PairReport| reports.iter().any(|report| report.is_of_pair(ended));
        let ended = self.ended.iter().filter(|ended| !lives(ended));
        let ended: Vec<_> = ended.cloned().collect();
        reports.extend(ended);
        reports
    }

    /// Remembers the best of the pairs that are given up because another was nominated.
    pub(super) fn remember_ended(&mut self, id: u16) {
        let mut ended: Vec<_> = self
            .pairs
            .iter()
            .filter(|pair| pair.component == id && pair.is_open())
            .collect();
        ended.sort_by_key(|pair| std::cmp::Reverse(pair.priority));
        ended.truncate(ENDED_MAX.saturating_sub(self.ended.len()));
        let reports = ended.into_iter().map(|pair| PairReport {
            why: "given up: another was nominated",
            ..PairReport::new(pair)
        });
        self.ended.extend(reports);
    }

    /// The largest datagram that leaves this host on the path of a component, if that is known. While there is none, on
    /// each that the peer's checks came by: it may send already.
    pub(in crate::ice) fn datagram_max(&self, id: u16) -> Option<usize> {
        let component = self.components.get(&id)?;
        let most = |base, remote: SocketAddr| {
            let from = component.address(base)?;
            let headers = if from.is_ipv4() { IPV4_UDP } else { IPV6_UDP };
            let mtu = self.config.interfaces.mtu(from, remote.ip())?;
            mtu.checked_sub(headers)
        };
        if let Some(path) = &component.path {
            return most(path.base, path.remote);
        }
        let pairs = self.pairs.iter();
        let requested = pairs.filter(|pair| pair.component == id && pair.requested);
        let each = requested.map(|pair| most(pair.base, pair.remote.address));
        each.min().flatten()
    }

    /// The round trip of a component's path, by the last check of it that was answered.
    pub(in crate::ice) fn round_trip(&self, id: u16) -> Option<Duration> {
        self.components.get(&id)?.path.as_ref()?.rtt
    }

    /// The path of a component, and whether it is nominated; without one, why there is none, and the table of pairs.
    pub(in crate::ice) fn describe(&self, id: u16) -> Option<String> {
        let component = self.components.get(&id)?;
        if let Some(path) = self.selected_pair(id) {
            let nominated = if component.completed {
                ", nominated"
            } else {
                ""
            };
            return Some(format!("ice {path}{nominated}"));
        }
        if let Some(why) = &component.why {
            return Some(format!("ice: {why}"));
        }
        let mut text = format!("ice: no path: {}", self.why_no_path());
        for pair in self.pairs.iter().filter(|pair| pair.component == id) {
            text.push_str("; ");
            text.push_str(&PairReport::new(pair).to_string());
        }
        Some(text)
    }

    /// One line for people.
    pub(super) fn why_no_path(&self) -> String {
        let sent: u32 = self.pairs.iter().map(|pair| pair.sent).sum();
        let mut text = format!(
            "{} ({} pairs, {sent} checks sent, {} remote candidates{})",
            self.why(),
            self.pairs.len(),
            self.remotes.len(),
            if self.remote_ended {
                ", no more to come"
            } else {
                ""
            },
        );
        let relays = self.components.values().flat_map(|c| &c.relays);
        for why in relays.filter_map(|relay| relay.failed.as_deref()) {
            text.push_str("; relay: ");
            text.push_str(why);
        }
        text
    }

    fn why(&self) -> &'static str {
        let relays = || self.components.values().flat_map(|c| &c.relays);
        let offered = self
            .remotes
            .iter()
            .any(|remote| remote.candidate.kind == CandidateKind::Relayed);
        if self.remote.is_none() {
            return "the peer's credentials have not come";
        }
        if self.remotes.is_empty() && relays().any(|relay| relay.failed.is_some()) {
            return "no relay could be had, and the peer, which may want the same one, told no address";
        }
        if self.remotes.is_empty() {
            return "the peer told no address, and none of its checks arrived";
        }
        if self.pairs.is_empty() {
            return "no address of the peer can be reached from an address of ours (families differ, or policy forbids it)";
        }
        if self.pairs.iter().any(|pair| pair.requested) {
            return "checks of the peer arrive, and its answers to ours do not";
        }
        if relays().any(|relay| relay.relayed.is_some()) || offered {
            return "no check was answered, not even through a relay";
        }
        if relays().next().is_some() {
            return "no check was answered, and no relay could be had";
        }
        let locals = self.components.values().flat_map(|c| &c.locals);
        let ours = is_symmetric(locals.map(|local| &*local.candidate));
        let theirs = is_symmetric(self.remotes.iter().map(|remote| &*remote.candidate));
        match (ours, theirs) {
            (true, true) => {
                "both sides are behind symmetric NATs, and no relay is configured or offered"
            }
            (true, false) => {
                "no check was answered: we are behind a symmetric NAT, and no relay is configured or offered"
            }
            (false, true) => {
                "no check was answered: the peer is behind a symmetric NAT, and no relay is configured or offered"
            }
            (false, false) => "no check was answered, and no relay is configured or offered",
        }
    }
}

/// Whether one base is seen at several addresses: its NAT maps anew for each destination (RFC 4787 §4.1).
fn is_symmetric<'a>(candidates: impl Iterator<Item = &'a Candidate>) -> bool {
    let reflexive: Vec<_> = candidates
        .filter(|c| c.kind == CandidateKind::ServerReflexive && c.related.is_some())
        .map(|c| (c.component, c.related, c.address))
        .collect();
    let split = |(component, related, address): &(_, _, SocketAddr)| {
        reflexive.iter().any(|other| {
            (other.0, other.1) == (*component, *related)
                && other.2 != *address
                && other.2.is_ipv4() == address.is_ipv4()
        })
    };
    reflexive.iter().any(split)
}
