//! What the server says, and what follows from it.

use super::{Allocation, AllocationOutput, Challenge, Framing, Pending, Purpose, State, TurnError};
use crate::stun::{Class, Method, Scan};
use crate::turn::wire::{Answer, attribute};
use bytes::Bytes;
use session_core::Batch;
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// How often in a row a server may call its own nonces stale.
const STALE_MAX: u32 = 8;
/// Bytes of a realm and of a nonce (RFC 8489 §14.9, §14.10).
const WORD_MAX: usize = 763;

const TRY_ALTERNATE: u16 = 300;
const BAD_REQUEST: u16 = 400;
const UNAUTHENTICATED: u16 = 401;
const UNKNOWN_ATTRIBUTE: u16 = 420;
const MISMATCH: u16 = 437;
const STALE_NONCE: u16 = 438;
const WRONG_CREDENTIALS: u16 = 441;
const QUOTA: u16 = 486;
const CAPACITY: u16 = 508;

impl Allocation {
    pub(super) fn handle_message(&mut self, bytes: &Bytes, scan: &Scan<'_>, now: Instant) {
        match scan.class() {
            Class::Indication if scan.method() == Method::DATA => {
                let peer = Answer::read(scan).peer;
                if let (Some(peer), Some(data)) = (peer, scan.data()) {
                    self.handle_data(peer, bytes.slice_ref(data), now);
                }
            }
            Class::Indication if scan.method() == Method::CONNECTION_ATTEMPT => {
                self.handle_attempt(&Answer::read(scan), now);
            }
            Class::Success | Class::Error => self.handle_answer(scan, now),
            Class::Indication | Class::Request => {}
        }
    }

    fn handle_answer(&mut self, scan: &Scan<'_>, now: Instant) {
        let matches = |pending: &Pending| {
            pending.transaction == scan.transaction() && pending.purpose.method() == scan.method()
        };
        let Some(index) = self.pending.iter().position(matches) else {
            return;
        };
        if scan.class() == Class::Success {
            // Errors need not be sealed (RFC 8489 §9.2.4), and who can forge them could as well swallow the request.
            if let Some(key) = &self.pending[index].key
                && scan.verify_integrity(key).is_err()
            {
                self.wrong_seal = true;
                return;
            }
            let pending = self.pending.swap_remove(index);
            self.wrong_seal = false;
            // What was asked with the old name says nothing about the new one.
            if pending.login == self.logins {
                self.old_login = None;
            }
            return self.granted(&pending, &Answer::read(scan), now);
        }
        let pending = self.pending.swap_remove(index);
        let answer = Answer::read(scan);
        match &answer.error {
            Some((code @ (UNAUTHENTICATED | STALE_NONCE), reason)) => {
                self.challenged(pending, scan, *code, reason, now);
            }
            Some((code, reason)) => self.refused(&pending, &answer, *code, reason, now),
            None => self.fail(TurnError::Nonsense("an error without a number")),
        }
    }

    fn granted(&mut self, pending: &Pending, answer: &Answer, now: Instant) {
        match pending.purpose {
            Purpose::Allocate => self.allocated(answer, pending.since, now),
            Purpose::Refresh(0) => self.end(AllocationOutput::Closed),
            Purpose::Refresh(_) => match answer.lifetime {
                Some(0) => self.fail(TurnError::Gone {
                    code: 0,
                    reason: "it gives no more time".into(),
                }),
                Some(seconds) => self.set_lifetime(seconds, now),
                None => self.set_lifetime(u32::MAX, now),
            },
            Purpose::Permission(peer) => self.permissions.grant(peer.ip(), now),
            Purpose::Channel(peer) => self.peers.bound(peer, now),
            Purpose::Connect(peer) => self.connected(peer, answer),
        }
    }

    /// The server made it, at the earliest when it was asked for the first time (`since`).
    fn allocated(&mut self, answer: &Answer, since: Instant, now: Instant) {
        let usable = |address: &SocketAddr| {
            address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
        };
        self.relayed = answer.relayed.iter().copied().filter(usable).collect();
        self.state = State::Standing;
        if self.closing {
            return self.request(Purpose::Refresh(0), now);
        }
        if self.relayed.is_empty() {
            return self.fail(TurnError::Nonsense("no relayed address"));
        }
        self.set_lifetime(answer.lifetime.unwrap_or(u32::MAX).max(1), since);
        if self.expires_at.is_some_and(|at| at <= now) {
            // Of the copies of a request for what lives so shortly a later one may have made another, at another address.
            return self.abandon(TurnError::Expired, now);
        }
        self.keepalive_at = Some(now + self.config.keepalive);
        let missing = answer.other_family.clone();
        self.outputs.push_back(AllocationOutput::Allocated {
            relayed: self.relayed.clone(),
            mapped: answer.mapped,
            missing: missing.map(|(code, reason)| TurnError::Refused { code, reason }),
        });
    }

    /// 401 and 438 bring a realm and a nonce, with which to ask again (RFC 8489 §9.2.5).
    fn challenged(
        &mut self,
        mut pending: Pending,
        scan: &Scan<'_>,
        code: u16,
        reason: &Arc<str>,
        now: Instant,
    ) {
        let known = self.login.challenge.as_ref();
        let realm = match scan.realm().map(std::str::from_utf8) {
            Some(Ok(realm)) if realm.len() <= WORD_MAX => Arc::from(realm),
            Some(_) => return self.fail(TurnError::Nonsense("a realm that is no text")),
            // A stale nonce may come without.
            None => match known {
                Some(known) => known.realm.clone(),
                None => return self.fail(TurnError::Nonsense("it asks for a name without realm")),
            },
        };
        let Some(nonce) = scan.nonce().filter(|nonce| nonce.len() <= WORD_MAX) else {
            return self.fail(TurnError::Nonsense("it asks for a name without nonce"));
        };
        let same = known.is_some_and(|known| known.nonce == nonce && known.realm == realm);
        if code == STALE_NONCE {
            pending.stale += 1;
            if pending.stale > STALE_MAX {
                return self.fail(TurnError::Nonsense("it calls each of its nonces stale"));
            }
        } else if pending.key.is_some() {
            if self.restore_login() {
                return self.ask(pending.purpose, (0, 0), now);
            }
            pending.refused += 1;
            if same || pending.refused > 1 {
                return self.reject_credentials(&pending, code, reason);
            }
        }
        self.login.challenge = Some(Challenge {
            key: self.login.credentials.key(&realm),
            realm,
            nonce: Bytes::copy_from_slice(nonce),
        });
        if self.closing && pending.purpose == Purpose::Allocate && pending.key.is_none() {
            return self.end(AllocationOutput::Closed);
        }
        self.ask(pending.purpose, (pending.refused, pending.stale), now);
    }

    /// Goes back to the credentials that worked; whether there are any.
    fn restore_login(&mut self) -> bool {
        match self.old_login.take() {
            Some(old) if self.state == State::Standing => {
                self.login = old;
                true
            }
            Some(_) | None => false,
        }
    }

    fn reject_credentials(&mut self, pending: &Pending, code: u16, reason: &Arc<str>) {
        if self.closing && pending.purpose != Purpose::Allocate {
            return self.end(AllocationOutput::Closed);
        }
        self.fail(TurnError::Credentials {
            code,
            reason: reason.clone(),
        });
    }

    fn refused(
        &mut self,
        pending: &Pending,
        answer: &Answer,
        code: u16,
        reason: &Arc<str>,
        now: Instant,
    ) {
        let text = || reason.clone();
        if code == WRONG_CREDENTIALS && self.restore_login() {
            return self.ask(pending.purpose, (0, 0), now);
        }
        if self.closing {
            return self.end(AllocationOutput::Closed);
        }
        match pending.purpose {
            Purpose::Allocate => match self.without_extra(answer, code) {
                true => self.ask(pending.purpose, (pending.refused, pending.stale), now),
                false => self.fail(allocate_error(answer, code, reason)),
            },
            _ if code == MISMATCH => self.abandon(gone(code, reason), now),
            _ if code == WRONG_CREDENTIALS => self.reject_credentials(pending, code, reason),
            // Some that have lost an allocation say this instead of 437, and nothing else can be bad about a refresh.
            Purpose::Refresh(_) if code == BAD_REQUEST => self.abandon(gone(code, reason), now),
            Purpose::Refresh(_) => self.refresh_later(now),
            Purpose::Connect(peer) => {
                let reason = text();
                self.not_connected(peer, TurnError::Refused { code, reason });
                self.doubt(code, now);
            }
            Purpose::Permission(peer) => {
                self.permissions.refuse(peer.ip(), now);
                self.doubt(code, now);
            }
            Purpose::Channel(peer) => {
                self.peers.refuse_channel(peer, now);
                self.doubt(code, now);
            }
        }
    }

    /// There is no allocation any more. If there is one nevertheless, nobody needs it. The end of a connection says that
    /// by itself.
    fn abandon(&mut self, why: TurnError, now: Instant) {
        if self.config.framing == Framing::Datagram {
            self.request(Purpose::Refresh(0), now);
        }
        self.fail(why);
    }

    /// A server that finds a correct request bad may have lost the allocation.
    fn doubt(&mut self, code: u16, now: Instant) {
        if code == BAD_REQUEST {
            self.refresh(now);
        }
    }

    /// Whether the server can be asked again without something that it does not know.
    fn without_extra(&mut self, answer: &Answer, code: u16) -> bool {
        let unknown = answer.unknown.contains(&attribute::DONT_FRAGMENT);
        code == UNKNOWN_ATTRIBUTE && unknown && std::mem::take(&mut self.config.dont_fragment)
    }

    /// Data by indication.
    fn handle_data(&mut self, peer: SocketAddr, data: Bytes, now: Instant) {
        // A server that keeps to the rules tells nothing of those whom we did not permit.
        if self.state != State::Standing || !self.permissions.touch(peer.ip(), now) {
            return;
        }
        if let Some(index) = self.peers.heard(peer, now)
            && !self.closing
        {
            self.bind_if_due(index, now);
        }
        let batch = Batch::from(data);
        self.outputs
            .push_back(AllocationOutput::Received { peer, batch });
    }
}

fn gone(code: u16, reason: &Arc<str>) -> TurnError {
    let reason = reason.clone();
    TurnError::Gone { code, reason }
}

fn allocate_error(answer: &Answer, code: u16, reason: &Arc<str>) -> TurnError {
    let reason = reason.clone();
    match (code, answer.alternate) {
        (TRY_ALTERNATE, Some(server)) => TurnError::Redirected(server, answer.domain.clone()),
        (MISMATCH, _) => TurnError::Mismatch(reason),
        (WRONG_CREDENTIALS, _) => TurnError::Credentials { code, reason },
        (QUOTA, _) => TurnError::Quota(reason),
        (CAPACITY, _) => TurnError::Capacity(reason),
        _ => TurnError::Refused { code, reason },
    }
}
