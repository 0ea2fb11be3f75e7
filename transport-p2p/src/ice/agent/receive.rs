//! What arrives: data, checks, answers (RFC 8445 §7.2.5, §7.3).

use super::{Agent, EARLY_MAX, EarlyCheck, checks::NOMINATION};
use crate::ice::{
    candidate::{CandidateKind, Credentials},
    component::Component,
    pair::{Base, PairState},
};
use crate::stun::{Attribute, Class, Message, MessageBuilder, Method, Scan, TransactionId};
use session_core::{Batch, ChannelOutput, Datagram, LocalSocket};
use std::{net::SocketAddr, sync::Arc, time::Instant};

/// The error of RFC 8445 §7.3.1.1.
const ROLE_CONFLICT: u16 = 487;
/// The error of RFC 8489 §14.8 for what must be understood and is not.
const UNKNOWN_ATTRIBUTE: u16 = 420;

impl Agent {
    pub(in crate::ice) fn handle_datagram(&mut self, id: u16, datagram: Datagram, now: Instant) {
        self.now = Some(now);
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        let stun = any_stun(&datagram.payload, datagram.segment_size);
        if !stun && component.is_path(Base::Host(datagram.socket), datagram.source) {
            // Data alone changes nothing: no review.
            let batch = datagram.batch();
            self.stats.packets_received += batch.len() as u64;
            self.stats.bytes_received += batch.payload.len() as u64;
            component.push(ChannelOutput::Packet(batch));
            return;
        }
        if let Some((relay, socket)) = component.relay_of(datagram.socket) {
            component.with_relay(relay, |source| {
                source.handle_datagram(Datagram { socket, ..datagram }, now);
            });
        } else if component.is_open(datagram.socket) && !component.failed {
            let (base, source) = (Base::Host(datagram.socket), datagram.source);
            let batch = datagram.batch();
            if !stun {
                self.handle_data(id, base, source, batch);
                return;
            }
            self.handle_packets(id, base, source, batch, now);
        }
        self.review(now);
    }

    /// Whether it is data on the path, which is counted and changes nothing.
    pub(in crate::ice) fn receive_direct(
        &mut self,
        id: u16,
        socket: LocalSocket,
        source: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let direct = !Scan::is_stun(payload)
            && self.components.get(&id).is_some_and(|component| {
                !component.failed && component.is_path(Base::Host(socket), source)
            });
        if direct {
            self.stats.packets_received += 1;
            self.stats.bytes_received += payload.len() as u64;
        }
        direct
    }

    /// Packets from a socket or through a relay.
    pub(super) fn handle_packets(
        &mut self,
        id: u16,
        base: Base,
        source: SocketAddr,
        batch: Batch,
        now: Instant,
    ) {
        if !any_stun(&batch.payload, batch.segment_size) {
            return self.handle_data(id, base, source, batch);
        }
        for packet in batch {
            match Scan::new(&packet) {
                Ok(scan) => self.handle_stun(id, base, source, &scan, now),
                Err(_) if Scan::is_stun(&packet) => {}
                Err(_) => self.handle_data(id, base, source, packet.into()),
            }
        }
    }

    /// Hands out what comes from an address that the peer was seen at, and nothing else.
    fn handle_data(&mut self, id: u16, base: Base, source: SocketAddr, batch: Batch) {
        let Some(component) = self.components.get_mut(&id) else {
            return;
        };
        let (packets, bytes) = (batch.len() as u64, batch.payload.len() as u64);
        let known = component.is_path(base, source)
            || self.pairs.iter().any(|pair| {
                pair.is_on(id, base, source)
                    && (pair.requested || pair.state == PairState::Succeeded)
            })
            || self
                .early
                .iter()
                .any(|early| (early.component, early.base, early.source) == (id, base, source));
        if known {
            component.push(ChannelOutput::Packet(batch));
            self.stats.packets_received += packets;
            self.stats.bytes_received += bytes;
        } else {
            self.stats.strangers += packets;
        }
    }

    fn handle_stun(
        &mut self,
        id: u16,
        base: Base,
        source: SocketAddr,
        scan: &Scan<'_>,
        now: Instant,
    ) {
        if scan.method() != Method::BINDING
            || (scan.has_fingerprint() && scan.verify_fingerprint().is_err())
        {
            return;
        }
        match scan.class() {
            Class::Request => self.handle_request(id, base, source, scan, now),
            Class::Success | Class::Error => {
                if let Base::Host(socket) = base
                    && self.handle_gathered(id, socket, source, scan, now)
                {
                    return;
                }
                if !self.handle_consent(id, base, source, scan, now) {
                    self.handle_answer(base, source, scan, now);
                }
            }
            // A keepalive has done its work by arriving.
            Class::Indication => {}
        }
    }

    /// A check of the peer. Who does not know our credentials gets no answer at all, so that nobody can be reflected
    /// at with our help.
    fn handle_request(
        &mut self,
        id: u16,
        base: Base,
        source: SocketAddr,
        scan: &Scan<'_>,
        now: Instant,
    ) {
        let Some((ours, theirs)) = scan
            .username()
            .and_then(|name| std::str::from_utf8(name).ok())
            .and_then(|name| name.split_once(':'))
        else {
            return;
        };
        let (credentials, current) = if ours == &*self.local.ufrag {
            (self.local.clone(), true)
        } else if let Some(old) = self.old_local.as_ref().filter(|old| ours == &*old.ufrag) {
            (old.clone(), false)
        } else {
            self.stats.refused += 1;
            return;
        };
        if scan.verify_integrity(&credentials.key).is_err() {
            self.stats.refused += 1;
            return;
        }
        self.stats.checks_received += 1;
        let Ok(request) = scan.decode() else {
            return;
        };
        if !request.unknown().is_empty() {
            let kinds = Attribute::UnknownAttributes(request.unknown().to_vec());
            let answer = error(&request, UNKNOWN_ATTRIBUTE, "Unknown Attribute").attribute(kinds);
            return self.answer(id, base, source, answer, &credentials, now);
        }
        if current && !self.settle_roles(&request) {
            let answer = error(&request, ROLE_CONFLICT, "Role Conflict");
            return self.answer(id, base, source, answer, &credentials, now);
        }
        let answer = MessageBuilder::new(Class::Success, Method::BINDING, request.transaction)
            .attribute(Attribute::XorMappedAddress(source));
        self.answer(id, base, source, answer, &credentials, now);
        if !current {
            return;
        }
        self.consent_by_request(id, base, source, now);
        let (priority, nominates) = (
            request.priority().unwrap_or(0),
            self.nomination(scan, &request),
        );
        match &self.remote {
            Some(remote) if self.checking && *theirs == *remote.ufrag => {
                self.apply_check(id, base, source, priority, nominates);
            }
            Some(_) if self.checking => {}
            Some(_) | None => self.keep_early(EarlyCheck {
                component: id,
                base,
                source,
                ufrag: theirs.into(),
                priority,
                nominates,
            }),
        }
    }

    /// Whether a check nominates, and with which number.
    fn nomination(&self, scan: &Scan<'_>, request: &Message) -> Option<u32> {
        let number = scan.raw(NOMINATION).filter(|_| self.renomination);
        let number = number.and_then(|value| value.try_into().ok());
        let plain = request.use_candidate().then_some(0);
        number.map(u32::from_be_bytes).or(plain)
    }

    fn keep_early(&mut self, early: EarlyCheck) {
        let same = |other: &&mut EarlyCheck| {
            (other.component, other.base, other.source, &other.ufrag)
                == (early.component, early.base, early.source, &early.ufrag)
        };
        if let Some(known) = self.early.iter_mut().find(same) {
            known.nominates = known.nominates.max(early.nominates);
        } else if self.early.len() < EARLY_MAX {
            self.early.push_back(early);
        }
    }

    /// RFC 8445 §7.3.1.1. False: the peer is to switch.
    fn settle_roles(&mut self, request: &Message) -> bool {
        if self.config.lite {
            // Who is lite never controls (RFC 8445 §6.1.1).
            return request.ice_controlled().is_none();
        }
        let (theirs, conflict) = if self.controlling {
            (request.ice_controlling(), true)
        } else {
            (request.ice_controlled(), false)
        };
        let Some(theirs) = theirs else {
            return true;
        };
        // The greater tie-breaker controls.
        let we_control = self.tie_breaker >= theirs;
        if we_control == conflict {
            return false;
        }
        self.switch_role();
        true
    }

    fn answer(
        &mut self,
        id: u16,
        base: Base,
        to: SocketAddr,
        answer: MessageBuilder,
        credentials: &Credentials,
        now: Instant,
    ) {
        if let (Ok(bytes), Some(component)) = (
            answer.finish(Some(&credentials.key), true),
            self.components.get_mut(&id),
        ) {
            component.control(base, to, bytes, now);
        }
    }

    /// The answer to one of our checks (RFC 8445 §7.2.5).
    fn handle_answer(&mut self, base: Base, source: SocketAddr, scan: &Scan<'_>, now: Instant) {
        let transaction = scan.transaction();
        let Some(at) = self.pairs.iter().position(|pair| {
            pair.check
                .as_ref()
                .is_some_and(|check| check.transaction == transaction)
                || pair.replaced.iter().any(|(id, _)| *id == transaction)
        }) else {
            self.stats.unexpected += 1;
            return;
        };
        let Some(remote) = &self.remote else {
            return;
        };
        if scan.verify_integrity(&remote.key).is_err() {
            self.stats.refused += 1;
            return;
        }
        self.stats.answers_received += 1;
        let Ok(answer) = scan.decode() else {
            return;
        };
        let pair = &mut self.pairs[at];
        if pair.base != base || pair.remote.address != source {
            pair.check = None;
            pair.state = PairState::Failed;
            pair.note = "the answer came from elsewhere";
            return;
        }
        match (answer.class, answer.error()) {
            (Class::Error, Some(ROLE_CONFLICT)) => self.role_conflict(at, transaction),
            (Class::Error, _) => {
                pair.check = None;
                pair.state = PairState::Failed;
                pair.note = "refused";
            }
            (Class::Success | Class::Request | Class::Indication, _) => {
                self.check_succeeded(at, &answer, now);
            }
        }
    }

    /// We are to switch, unless we did already, and ask again (RFC 8445 §7.2.5.1).
    fn role_conflict(&mut self, at: usize, transaction: TransactionId) {
        let pair = &mut self.pairs[at];
        let sent_as = pair
            .check
            .take_if(|check| check.transaction == transaction)
            .map(|check| check.controlling);
        pair.state = PairState::Waiting;
        pair.note = "role conflict";
        let id = pair.id;
        self.triggered.push_back(id);
        if sent_as == Some(self.controlling) {
            self.switch_role();
        }
    }

    fn check_succeeded(&mut self, at: usize, answer: &Message, now: Instant) {
        let transaction = answer.transaction;
        let controlling = self.controlling;
        let pair = &mut self.pairs[at];
        let check = pair.check.take_if(|check| check.transaction == transaction);
        let sent_at = check.as_ref().map(|check| check.sent_at).or_else(|| {
            pair.replaced
                .iter()
                .find(|(id, _)| *id == transaction)
                .map(|(_, at)| *at)
        });
        if check.as_ref().is_none_or(|check| check.clock.sent() == 1) {
            pair.rtt = sent_at
                .map(|at| now.saturating_duration_since(at))
                .or(pair.rtt);
        }
        let nominating = pair.check.as_ref().and_then(|check| check.nominates);
        if check.is_none() && nominating.is_none() {
            pair.check = None;
        }
        pair.answered += 1;
        pair.mapped = answer.mapped_address();
        pair.state = PairState::Succeeded;
        pair.note = "valid";
        if controlling {
            let sent = check.filter(|check| check.controlling);
            let nominates = sent.and_then(|check| check.nominates);
            pair.nominated |= nominates.is_some();
            pair.nomination = pair.nomination.max(nominates.unwrap_or(0));
        } else {
            pair.nominated |= pair.nominate_when_valid;
        }
        // A local candidate that only the peer's answer shows (RFC 8445 §7.2.5.3.1) leaves from the same base.
        let (id, mapped, base) = (pair.component, pair.mapped, pair.base);
        let known = |component: &Component| {
            component
                .locals
                .iter()
                .find(|l| Some(l.candidate.address) == mapped && l.base == base)
                .map(|l| l.candidate.kind)
        };
        let kind = self.components.get(&id).and_then(known);
        let kind = match (base, kind) {
            (Base::Relay(_), _) => CandidateKind::Relayed,
            // A connection has a port of its own, which is nobody's candidate.
            (
                Base::Tcp(_) | Base::TcpActive(_) | Base::TcpPassive(_) | Base::TcpSimultaneous(_),
                _,
            ) => CandidateKind::Host,
            (Base::Host(_), Some(kind)) => kind,
            (Base::Host(_), None) => CandidateKind::PeerReflexive,
        };
        let local = &mut self.pairs[at].local;
        if local.kind != kind {
            Arc::make_mut(local).kind = kind;
        }
        let number = self.pairs[at].id;
        self.triggered.retain(|other| *other != number);
        self.unfreeze_alike(at);
    }
}

fn error(request: &Message, code: u16, reason: &str) -> MessageBuilder {
    MessageBuilder::new(Class::Error, Method::BINDING, request.transaction)
        .attribute(Attribute::Error(code, reason.into()))
}

/// Whether one of these packets looks like STUN.
fn any_stun(payload: &[u8], segment_size: usize) -> bool {
    match segment_size {
        0 => Scan::is_stun(payload),
        size => payload.chunks(size).any(Scan::is_stun),
    }
}
