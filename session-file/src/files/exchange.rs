//! The files of one session, and what is done about them.

use super::{
    Decision, FILE_CHANNEL, FileClient, FileError, FileOffer, FileVerdict, OfferedFile,
    decide::{judge, offered},
    events::lost_channel,
    watch::Watch,
};
use crate::{
    Direction, FileDescription, Outcome, Phase, Transfer, TransferId,
    transfer::{Fault, reason_of},
};
use session_core::{
    Element, Misuse, Peer, Reason, ReasonCondition, Role, Session, SessionDescription, SessionId,
    State,
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// One session and its files.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) peer: Peer,
    pub(crate) role: Role,
    /// In the order in which they were proposed.
    pub(crate) transfers: Vec<Transfer>,
    /// What the peer added before the session was agreed on. It is decided about when it is.
    later: Vec<Arc<str>>,
    named: u32,
    /// When we end a session whose every file was delivered.
    pub(crate) linger_due: Option<Instant>,
    /// When we end a session in which nothing is left to do.
    end_due: Option<Instant>,
    /// Whether something moves.
    pub(super) watch: Watch,
}

impl Exchange {
    pub(crate) fn new(peer: Peer, role: Role) -> Self {
        Self {
            peer,
            role,
            transfers: Vec::new(),
            later: Vec::new(),
            named: 0,
            linger_due: None,
            end_due: None,
            watch: Watch::default(),
        }
    }

    /// A name for a content of ours, which the peer's never have.
    pub(crate) fn next_name(&mut self) -> Arc<str> {
        self.named += 1;
        match self.role {
            Role::Initiator => format!("file{}", self.named),
            Role::Responder => format!("back{}", self.named),
        }
        .into()
    }

    pub(crate) fn find(&self, content: &str) -> Option<&Transfer> {
        self.transfers.iter().find(|t| &**t.content() == content)
    }

    pub(crate) fn find_mut(&mut self, content: &str) -> Option<&mut Transfer> {
        self.transfers
            .iter_mut()
            .find(|t| &**t.content() == content)
    }

    pub(crate) fn ids(&self, session: SessionId) -> impl Iterator<Item = TransferId> {
        self.transfers.iter().map(move |transfer| TransferId {
            session,
            content: transfer.content().clone(),
        })
    }

    /// Lets go of a file that a peer added and that nobody took: a peer could add such for ever.
    fn forget(&mut self, content: &str) {
        self.transfers.retain(|t| &**t.content() != content);
        self.later.retain(|later| &**later != content);
    }

    /// Whether it waits for a decision of ours.
    pub(super) fn is_asked(&self, transfer: &Transfer) -> bool {
        transfer.phase() == Phase::Offered && !self.later.contains(transfer.content())
    }

    /// What waits for a decision of ours, of what is asked about.
    pub(crate) fn offer(
        &self,
        session: SessionId,
        about: impl Fn(&Transfer) -> bool,
    ) -> Option<FileOffer> {
        let waiting = self
            .transfers
            .iter()
            .filter(|t| self.is_asked(t) && about(t));
        let files: Vec<_> = waiting
            .map(|transfer| OfferedFile {
                content: transfer.content().clone(),
                direction: transfer.direction(),
                file: transfer.file().clone(),
                encrypted: transfer.is_encrypted(),
            })
            .collect();
        (!files.is_empty()).then(|| FileOffer {
            session,
            from: self.peer.clone(),
            files,
        })
    }

    pub(crate) fn is_undecided(&self) -> bool {
        self.role == Role::Responder && self.transfers.iter().all(|t| t.phase() == Phase::Offered)
    }

    /// Whether everything has arrived, as far as this side can know.
    pub(super) fn is_done(&self) -> bool {
        let has_arrived = |transfer: &Transfer| match transfer.outcome() {
            Some(Outcome::Received(_) | Outcome::Sent { .. }) => true,
            Some(Outcome::Failed(_)) => false,
            None => transfer.is_acknowledged() || transfer.is_confirmed(),
        };
        !self.transfers.is_empty() && self.transfers.iter().all(has_arrived)
    }
}

/// What the peer offers.
impl FileClient {
    /// A peer's session: the policy, then the application.
    pub(super) fn receive_offer(&mut self, session: &mut Session, now: Instant) {
        let waiting = self.offers().count();
        if self.check_room().is_err() || waiting >= self.config.limits.offers {
            return reject(session, ReasonCondition::Busy.into(), now);
        }
        let mut exchange = Exchange::new(session.remote_name().clone(), Role::Responder);
        let limits = self.config.limits;
        let mut refused = Vec::new();
        for content in session.contents() {
            match offered(content, limits, &mut self.keyring, &exchange.peer) {
                Ok(transfer) => exchange.transfers.push(transfer),
                Err(reason) => refused.push((content.name().clone(), reason)),
            }
        }
        if exchange.transfers.is_empty() {
            let first = refused.into_iter().next().map(|(_, reason)| reason);
            let nothing = || ReasonCondition::IncompatibleParameters.into();
            return reject(session, first.unwrap_or_else(nothing), now);
        }
        for (name, reason) in refused {
            // It is gone if that is not possible any more.
            let _ = session.remove_content(&name, reason, now);
        }
        self.exchanges.insert(session.id(), exchange);
        self.decide(session, |_| true, now);
    }

    /// The peer adds a file to a session.
    pub(super) fn receive_content(&mut self, session: &mut Session, name: &str, now: Instant) {
        let id = session.id();
        let limits = self.config.limits;
        let waiting = self.offers().count();
        let peer = session.remote_name().clone();
        let pending = session.state().is_pending();
        let exchange = self.exchanges.get_mut(&id);
        let exchange = exchange
            .filter(|exchange| exchange.transfers.len() < limits.files && waiting < limits.offers);
        let accepted = match (exchange, session.content(name)) {
            (Some(exchange), Some(content)) if exchange.find(name).is_none() => {
                // What is refused anyway is not opened.
                let transfer = offered(content, limits, &mut self.keyring, &peer);
                transfer.map(|transfer| {
                    if pending {
                        exchange.later.push(transfer.content().clone());
                    }
                    exchange.transfers.push(transfer);
                    exchange.linger_due = None;
                })
            }
            (Some(_), _) => Err(ReasonCondition::IncompatibleParameters.into()),
            (None, _) => Err(ReasonCondition::Busy.into()),
        };
        match accepted {
            // What is accepted before the offer is has no session.
            Ok(()) if pending => {}
            Ok(()) => self.decide(session, |transfer| &**transfer.content() == name, now),
            Err(reason) => {
                // It is gone if that is not possible any more.
                let _ = session.reject_content(name, reason, now);
            }
        }
    }

    /// The session is agreed on: what was added before that waits for a decision now.
    pub(super) fn decide_later(&mut self, session: &mut Session, now: Instant) {
        let exchange = self.exchanges.get_mut(&session.id());
        let later = exchange.map(|exchange| std::mem::take(&mut exchange.later));
        for content in later.unwrap_or_default() {
            self.decide(session, |transfer| *transfer.content() == content, now);
        }
    }

    fn decide(&mut self, session: &mut Session, about: impl Fn(&Transfer) -> bool, now: Instant) {
        let id = session.id();
        let Some(offer) = self
            .exchanges
            .get(&id)
            .and_then(|exchange| exchange.offer(id, about))
        else {
            return;
        };
        let verdict = self
            .policy
            .as_mut()
            .map_or(FileVerdict::Ask, |policy| policy(&offer));
        let decisions = match verdict {
            FileVerdict::Ask => {
                self.signal_offer.emit(offer);
                return;
            }
            FileVerdict::Decide(decisions) => decisions,
            FileVerdict::Decline(reason) => {
                let skip =
                    |file: &OfferedFile| (file.content.clone(), Decision::Skip(reason.clone()));
                offer.files.iter().map(skip).collect()
            }
        };
        let about: Vec<Arc<str>> = offer
            .files
            .iter()
            .map(|file| file.content.clone())
            .collect();
        if let Err(error) = self.answer_in(session, decisions, Some(&about), now) {
            let reason =
                Reason::new(ReasonCondition::FailedApplication).with_text(error.to_string());
            let skip = |file: &OfferedFile| (file.content.clone(), Decision::Skip(reason.clone()));
            // Nothing can be wrong with skipping.
            let decisions = offer.files.iter().map(skip).collect();
            let _ = self.answer_in(session, decisions, Some(&about), now);
        }
    }

    pub(super) fn answer_in(
        &mut self,
        session: &mut Session,
        decisions: Vec<(Arc<str>, Decision)>,
        about: Option<&[Arc<str>]>,
        now: Instant,
    ) -> Result<(), FileError> {
        let id = session.id();
        let layer = self.config.layer.clone();
        let blocks = self.config.blocks && !self.config.hashes_outside;
        let moves = self.config.moves;
        let exchange = self
            .exchanges
            .get_mut(&id)
            .ok_or(FileError::UnknownSession(id))?;
        let fresh = exchange.role == Role::Responder && session.state() == State::ReceivedInitiate;
        let (taken, skipped) = judge(exchange, id, decisions, about, blocks)?;
        if fresh && taken.is_empty() {
            let reason = skipped.into_iter().next().map(|(_, reason)| reason);
            self.exchanges.remove(&id);
            session.reject(
                reason.unwrap_or_else(|| ReasonCondition::Decline.into()),
                now,
            )?;
            return Ok(());
        }
        for (content, reason) in skipped {
            // It is gone if that is not possible any more.
            let _ = match fresh {
                true => session.remove_content(&content, reason.clone(), now),
                false => session.reject_content(&content, reason.clone(), now),
            };
            if let Some(transfer) = exchange.find_mut(&content) {
                transfer.fail(Fault::Declined(Some(reason)));
            }
            if !fresh {
                exchange.forget(&content);
            }
        }
        let mut opened = Vec::new();
        for mut taken in taken {
            if !moves {
                taken.unmark_moves();
            }
            let Some(transfer) = exchange.find_mut(&taken.content) else {
                continue;
            };
            transfer.set_file(taken.file.clone());
            transfer.set_prefix(taken.acceptance.prefix);
            transfer.set_name(taken.acceptance.name);
            // Before the answer, for the same reason as before an offer. What fails is told when it is opened.
            let created =
                session.create_channel_in(&taken.content, FILE_CHANNEL, layer.clone(), now);
            transfer.flow.channel = created.ok();
            let description = FileDescription::from(taken.answer).to_element();
            if let Some(layer) = &self.config.layer {
                session.announce_layer_in(&taken.content, layer)?;
            }
            if fresh {
                session.set_answer(&taken.content, description)?;
            } else {
                session.accept_content(&taken.content, description, now)?;
            }
            opened.push(taken.content);
        }
        if fresh {
            let first = session.description().cloned();
            session.accept_with(
                first.unwrap_or_else(|| Element::new(super::FILE_TRANSFER, "description")),
                now,
            )?;
        }
        for content in opened {
            self.open_transfer(session, &content, now);
        }
        if fresh {
            self.decide_later(session, now);
        }
        Ok(())
    }
}

/// What happens to one file.
impl FileClient {
    /// Both sides have agreed on a file: it gets its channel.
    pub(super) fn open_transfer(&mut self, session: &mut Session, content: &str, now: Instant) {
        let layer = self.config.layer.clone();
        let (outside, again) = (self.config.hashes_outside, self.config.gives_again);
        let Some(transfer) = self.live_transfer(session, content) else {
            return;
        };
        transfer.open(outside, again);
        let known = transfer.flow.channel;
        let created = match known {
            Some(channel) => Ok(channel),
            None => session.create_channel_in(content, FILE_CHANNEL, layer, now),
        };
        let Some(transfer) = self.live_transfer(session, content) else {
            return;
        };
        match created {
            Ok(channel) => {
                transfer.flow.channel = Some(channel);
                transfer.begin(session, now);
            }
            // It ended meanwhile, which is told next.
            Err(Misuse::TooLate(_)) => return,
            Err(misuse) => {
                let reason =
                    Reason::new(ReasonCondition::FailedTransport).with_text(misuse.to_string());
                return self.fail(session, content, Fault::Aborted(Some(reason)), now);
            }
        }
        if self
            .live_transfer(session, content)
            .is_some_and(|t| t.offset() == 0)
        {
            // Behind an offset the application has something to show first.
            self.finish_if_written(session, content, now);
        }
        self.pump(session, content, now);
        // A file without bytes is whole already.
        self.review(session, content, now);
        self.set_clock(session, now);
    }

    pub(super) fn live_transfer(
        &mut self,
        session: &Session,
        content: &str,
    ) -> Option<&mut Transfer> {
        let transfer = self.exchanges.get_mut(&session.id())?.find_mut(content)?;
        transfer.is_live().then_some(transfer)
    }

    pub(super) fn finish_if_written(&mut self, session: &mut Session, content: &str, now: Instant) {
        let written = self.live_transfer(session, content).is_some_and(|t| {
            t.direction() == Direction::Send && !t.flow.is_finished() && t.is_written()
        });
        if written {
            self.finish_in(session, content, now);
        }
    }

    pub(super) fn finish_in(&mut self, session: &mut Session, content: &str, now: Instant) {
        let Some(transfer) = self.live_transfer(session, content) else {
            return;
        };
        match transfer.finish() {
            Ok(Some(checksum)) => {
                let info = transfer.checksum_info(checksum).to_element();
                // A receiver that does not hear of it cannot verify, which is not our loss.
                let _ = session.send_info(vec![info], now);
            }
            Ok(None) => {}
            Err(fault) => self.fail(session, content, fault, now),
        }
    }

    pub(super) fn pump(&mut self, session: &mut Session, content: &str, now: Instant) {
        let plaintext = self.config.plaintext;
        let Some(transfer) = self.live_transfer(session, content) else {
            return;
        };
        if !plaintext && transfer.is_bare(session) {
            return self.fail(session, content, Fault::Unprotected, now);
        }
        if let Err(reason) = transfer.pump(session, now) {
            self.fail(session, content, Fault::Aborted(Some(reason)), now);
        }
    }

    /// Looks at a file that may be whole by now.
    pub(super) fn review(&mut self, session: &mut Session, content: &str, now: Instant) {
        let (unannounced, checksum) = (self.config.unannounced, self.config.checksum);
        let Some(transfer) = self.live_transfer(session, content) else {
            return;
        };
        if transfer.direction() == Direction::Send || !transfer.is_complete() {
            return;
        }
        // Of what is all here, nothing says that its sender has hashed it but the end of its stream, however large it is.
        let announced = if transfer.is_silent() {
            Duration::MAX
        } else {
            checksum
        };
        match transfer.judge([unannounced, announced]) {
            Ok(Some(patience)) if transfer.verdict_due.is_none() => {
                transfer.verdict_due = now.checked_add(patience);
            }
            Ok(_) => {}
            Err(fault) => return self.fail(session, content, fault, now),
        }
        self.set_clock(session, now);
    }

    /// Our application has a file.
    pub(super) fn acknowledged(&mut self, session: &mut Session, content: &str, now: Instant) {
        if let Some(transfer) = self.live_transfer(session, content) {
            let info = transfer.received_info().to_element();
            // That the session ends says it, too.
            let _ = session.send_info(vec![info], now);
        }
        self.conclude(session, now);
    }

    /// One file came to nothing: it leaves the session, or ends it when it was the last.
    pub(super) fn fail(
        &mut self,
        session: &mut Session,
        content: &str,
        fault: Fault,
        now: Instant,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&session.id()) else {
            return;
        };
        let others = exchange
            .transfers
            .iter()
            .any(|t| &**t.content() != content && t.is_live());
        let Some(transfer) = exchange.find_mut(content).filter(|t| t.is_live()) else {
            return;
        };
        let reason = reason_of(&fault);
        transfer.fail(fault);
        let removed = others && session.remove_content(content, reason.clone(), now).is_ok();
        if !removed {
            if exchange.is_undecided() {
                return reject(session, reason, now);
            }
            return end(session, reason, now);
        }
        self.conclude(session, now);
    }

    /// Ends a session in which nothing is left to do.
    pub(super) fn conclude(&mut self, session: &mut Session, now: Instant) {
        let linger = self.config.linger;
        let Some(exchange) = self.exchanges.get_mut(&session.id()) else {
            return;
        };
        let lingered = exchange.linger_due.is_some_and(|due| due <= now);
        let transfers = &exchange.transfers;
        let settled = transfers.iter().all(|t| t.is_settled(lingered));
        let receives = transfers
            .iter()
            .any(|t| t.direction() == Direction::Receive && t.is_live());
        if settled && (receives || lingered || transfers.iter().all(|t| !t.is_live())) {
            // What was said last, `received`, goes out before the end.
            exchange.end_due = Some(now);
            return self.set_clock(session, now);
        }
        exchange.linger_due = exchange.linger_due.filter(|_| !lingered);
        // What is left is for the peer to say; it may never.
        let waits = transfers
            .iter()
            .all(|t| t.is_settled(false) || t.awaits_word());
        if waits && exchange.linger_due.is_none() {
            exchange.linger_due = now.checked_add(linger);
        }
        self.set_clock(session, now);
    }

    /// The next instant at which there is something to do.
    pub(super) fn set_clock(&mut self, session: &mut Session, now: Instant) {
        self.look_after(session, now);
        let Some(exchange) = self.exchanges.get(&session.id()) else {
            return;
        };
        let dues = exchange.transfers.iter();
        let dues = dues.flat_map(|t| [t.verdict_due, t.move_due]).flatten();
        session.set_timer(
            dues.chain(exchange.linger_due)
                .chain(exchange.end_due)
                .chain(exchange.watch.due)
                .min(),
        );
    }

    pub(super) fn handle_timer(&mut self, session: &mut Session, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&session.id()) else {
            return;
        };
        let (mut lost, mut cut) = (Vec::new(), Vec::new());
        let mut unproven = Vec::new();
        for transfer in &mut exchange.transfers {
            if transfer.move_due.is_some_and(|due| due <= now) {
                lost.push(transfer.content().clone());
            }
            if transfer.verdict_due.is_some_and(|due| due <= now) {
                match transfer.direction() {
                    Direction::Receive if !transfer.is_complete() => {
                        cut.push(transfer.content().clone())
                    }
                    Direction::Receive => {
                        if let Err(fault) = transfer.settle_unnamed() {
                            unproven.push((transfer.content().clone(), fault));
                        }
                    }
                    Direction::Send
                        if transfer.can_begin_anew()
                            && session.fall_back(transfer.content(), now) =>
                    {
                        transfer.verdict_due = None
                    }
                    Direction::Send => lost.push(transfer.content().clone()),
                }
            }
        }
        let ends = exchange.end_due.is_some_and(|due| due <= now);
        for content in lost {
            self.fail(session, &content, lost_channel(), now);
        }
        for (content, fault) in unproven {
            self.fail(session, &content, fault, now);
        }
        for content in cut {
            let ended = self.live_transfer(session, &content).map(Transfer::see_end);
            if let Some(Err(fault)) = ended {
                self.fail(session, &content, fault, now);
            }
        }
        self.look_for_standstill(session, now);
        if ends {
            return end(session, ReasonCondition::Success.into(), now);
        }
        let Some(exchange) = self.exchanges.get(&session.id()) else {
            return;
        };
        if exchange.linger_due.is_some_and(|due| due <= now) {
            self.conclude(session, now);
        }
        self.set_clock(session, now);
    }

    /// The session, or one content of it, is over.
    pub(super) fn gone(
        &mut self,
        session: &Session,
        content: Option<&str>,
        fault: &Fault,
        success: bool,
    ) {
        let Some(exchange) = self.exchanges.get_mut(&session.id()) else {
            return;
        };
        if let Some(content) = content
            && exchange
                .find(content)
                .is_some_and(|t| t.phase() == Phase::Offered)
        {
            return exchange.forget(content);
        }
        for transfer in &mut exchange.transfers {
            if content.is_none_or(|content| content == &**transfer.content()) {
                transfer.ended(fault.clone(), success);
            }
        }
        debug_assert!(
            content.is_some() || exchange.transfers.iter().all(|t| t.outcome().is_some())
        );
    }
}

/// Whether a session in which something was sent or received ended as it should.
pub(super) fn is_success(reason: Option<&Reason>) -> bool {
    reason.is_some_and(|reason| reason.condition == ReasonCondition::Success)
}

pub(super) fn reject(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.reject(reason, now);
}

pub(super) fn end(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.terminate(reason, now);
}
