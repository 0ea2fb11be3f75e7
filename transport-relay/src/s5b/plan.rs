//! What both know before a connection is tried.

use super::{
    S5bConfig,
    candidate::{Candidate, CandidateKind, Said},
};
use crate::socks5::Destination;
use session_core::{Peer, Role, TransportError};
use std::{net::IpAddr, sync::Arc};

/// What the transport knows when it makes its channel.
#[derive(Clone)]
pub(super) struct Plan {
    pub(super) config: Arc<S5bConfig>,
    pub(super) role: Role,
    pub(super) local: Peer,
    pub(super) remote: Peer,
    /// To whom the offer went, if one of that account's devices has answered.
    pub(super) account: Option<Peer>,
    /// At which we listen.
    pub(super) listen: Arc<[IpAddr]>,
    pub(super) port: u16,
    /// Ours, as they are offered.
    pub(super) candidates: Arc<[Candidate]>,
    /// The initiator chooses it.
    pub(super) sid: Option<Arc<str>>,
}

impl Plan {
    pub(super) fn check(&self, said: &Said) -> Result<(), TransportError> {
        match &self.sid {
            Some(sid) if *sid != said.sid => {
                Err(TransportError::Unacceptable("this is about another stream"))
            }
            Some(_) | None => Ok(()),
        }
    }

    pub(super) fn destination(&self, first: &Peer, second: &Peer) -> Option<Destination> {
        let sid = self.sid.as_deref()?;
        Some(Destination::new(sid, first.as_str(), second.as_str()))
    }

    /// A device of the account that the offer went to is the peer now.
    pub(super) fn adopt(&mut self, remote: &Peer) {
        let account = std::mem::replace(&mut self.remote, remote.clone());
        self.account.get_or_insert(account);
    }

    /// Of the proxies that we offer (XEP-0260 §2.2), as the offer has it.
    pub(super) fn own_destination(&self) -> Option<Destination> {
        let offered_to = self.account.as_ref().unwrap_or(&self.remote);
        self.destination(&self.local, offered_to)
    }

    /// What may be asked for at our listener, and what we ask for at the peer's. The specification speaks of the initiator
    /// first; there are clients that begin with whose candidate it is.
    pub(super) fn direct_destinations(&self) -> Vec<Destination> {
        let peers = [Some(&self.remote), self.account.as_ref()];
        let destinations = peers.into_iter().flatten().flat_map(|peer| {
            let ours = self.destination(&self.local, peer);
            let theirs = self.destination(peer, &self.local);
            match self.role {
                Role::Initiator => [ours, theirs],
                Role::Responder => [theirs, ours],
            }
        });
        destinations.flatten().collect()
    }

    /// Whether what the peer names may learn our address.
    pub(super) fn may_reach(&self, candidate: &Candidate) -> bool {
        let is_proxy = |c: &Candidate| c.kind == CandidateKind::Proxy;
        let is_it = |own: &Candidate| is_proxy(own) && own.address == candidate.address;
        let known = is_proxy(candidate) && self.candidates.iter().any(is_it);
        known || !self.config.known_proxies_only
    }

    /// Whether we work on our own machine.
    pub(super) fn loopback(&self) -> bool {
        self.listen.iter().any(|ip| ip.is_loopback())
    }

    pub(super) fn own(&self, cid: &str) -> Option<&Candidate> {
        self.candidates.iter().find(|c| *c.cid == *cid)
    }
}
