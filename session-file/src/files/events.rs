//! What the session tells the client.

use super::{
    FileClient,
    exchange::{end, is_success},
};
use crate::{
    Direction, FileDescription, FileInfo, Phase, Transfer, file::FILE_TRANSFER, moving::Report,
    transfer::Fault,
};
use bytes::Bytes;
use session_core::{
    Cause, ChannelId, ContentState, Element, Modification, PeerError, Pong, Reason,
    ReasonCondition, Role, Secured, Session, SessionClient, SessionDescription, SessionError,
    State,
};
use std::{sync::Arc, time::Instant};

impl SessionClient for FileClient {
    fn namespace(&self) -> &str {
        FILE_TRANSFER
    }

    fn check_offer(&mut self, description: &Element) -> Result<(), PeerError> {
        FileDescription::from_element(description).map(|_| ())
    }

    fn on_session_create(&mut self, _: &mut Session, _: bool, _: Instant) {}

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        match state {
            State::ReceivedInitiate => self.receive_offer(session, now),
            State::ReceivedAccept => {
                let accepted = session
                    .contents()
                    .filter(|c| c.state() == ContentState::Active);
                let names: Vec<Arc<str>> = accepted.map(|c| c.name().clone()).collect();
                for name in names {
                    self.accepted(session, &name, now);
                }
                self.decide_later(session, now);
            }
            State::Init
            | State::SentInitiate
            | State::SentAccept
            | State::SentModify
            | State::ReceivedModify
            | State::SentReject
            | State::ReceivedReject
            | State::SentRedirect
            | State::SentTerminate
            | State::ReceivedTerminate
            | State::InProgress
            | State::Deinit => {}
        }
    }

    fn on_packet(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) {
        let plaintext = self.config.plaintext;
        let Some(transfer) = self.transfer_of(session, channel) else {
            return;
        };
        let content = transfer.content().clone();
        if !plaintext && transfer.is_bare(session) {
            return self.fail(session, &content, Fault::Unprotected, now);
        }
        match transfer.receive(packet, session, now) {
            Ok(()) => self.review(session, &content, now),
            Err(fault) => self.fail(session, &content, fault, now),
        }
    }

    fn on_writable(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        writable: bool,
        now: Instant,
    ) {
        if let Some(transfer) = self.transfer_of(session, channel).filter(|_| writable) {
            let content = transfer.content().clone();
            self.pump(session, &content, now);
        }
    }

    fn on_finished(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {
        let patience = self.config.checksum;
        let Some(transfer) = self.transfer_of(session, channel) else {
            return;
        };
        let content = transfer.content().clone();
        match transfer.peer_finished() {
            Ok(()) => self.review(session, &content, now),
            // A connection that breaks may look like one that ends: the peer may go on over another transport.
            Err(Fault::TooLittle { .. }) if transfer.can_begin_anew() => {
                let begins = session.role() == Role::Initiator;
                if !begins || !session.fall_back(&content, now) {
                    transfer.verdict_due = now.checked_add(patience);
                }
                self.set_clock(session, now);
            }
            Err(fault) => self.fail(session, &content, fault, now),
        }
    }

    fn on_delivered(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {
        if let Some(transfer) = self.transfer_of(session, channel) {
            transfer.everything_delivered();
            self.conclude(session, now);
        }
    }

    fn on_secured(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        secured: &Secured,
        _: Instant,
    ) {
        if let Some(transfer) = self.transfer_of(session, channel) {
            transfer.secured = Some(Box::new(secured.clone()));
        }
    }

    fn on_timer(&mut self, session: &mut Session, now: Instant) {
        self.handle_timer(session, now);
    }

    fn on_channel_gone(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        _: &str,
        now: Instant,
    ) {
        let patience = self.config.checksum;
        let Some(transfer) = self.transfer_of(session, channel) else {
            return;
        };
        if transfer.is_complete() && transfer.direction() == Direction::Receive {
            return;
        }
        if transfer.is_out() {
            // The peer may have closed it because it has the file: its word is slower.
            transfer.verdict_due = now.checked_add(patience);
            return self.set_clock(session, now);
        }
        let content = transfer.content().clone();
        self.fail(session, &content, lost_channel(), now);
    }

    fn on_info(
        &mut self,
        session: &mut Session,
        info: &[Element],
        now: Instant,
    ) -> Result<(), PeerError> {
        let mut infos = Vec::new();
        for element in info {
            // What is of others is acknowledged: some clients end a session on any error (jingle-peers: 3.0).
            infos.extend(FileInfo::from_element(element.view())?);
        }
        for info in infos {
            self.informed(session, &info, now);
        }
        match Report::find(info) {
            Some(report) => self.reported(session, &report?, now),
            None => Ok(()),
        }
    }

    #[allow(
        clippy::wildcard_enum_match_arm,
        reason = "who sends a file cannot change, and what is said of it counts when it is accepted"
    )]
    fn on_modify(&mut self, session: &mut Session, modification: &Modification, now: Instant) {
        match modification {
            Modification::ContentAdded { name } => self.receive_content(session, name, now),
            Modification::ContentAccepted { name } => self.accepted(session, name, now),
            Modification::ContentRejected { name, reason } => {
                self.gone(session, Some(name), &Fault::Declined(reason.clone()), false);
                self.conclude(session, now);
            }
            Modification::ContentRemoved { name, reason } => {
                let success = is_success(reason.as_ref());
                let undecided = self
                    .live_transfer(session, name)
                    .is_some_and(|t| t.phase() != Phase::Open);
                let fault = match undecided {
                    true => Fault::Declined(reason.clone()),
                    false => Fault::Aborted(reason.clone()),
                };
                self.gone(session, Some(name), &fault, success);
                self.conclude(session, now);
            }
            Modification::TransportReplaced { name } => self.replaced(session, name, now),
            _ => {}
        }
    }

    fn on_pong(&mut self, session: &mut Session, pong: &Pong, now: Instant) {
        self.answered_ping(session, pong, now);
    }

    fn on_error(&mut self, session: &mut Session, error: &SessionError, now: Instant) {
        let lost = matches!(error.cause, Cause::Transport(_) | Cause::ConnectionLost);
        let Some(exchange) = self
            .exchanges
            .get(&session.id())
            .filter(|_| lost && !error.fatal)
        else {
            return;
        };
        // The session would go on with another transport. Of several files it is not said whose was lost.
        let mut live = exchange.transfers.iter().filter(|t| t.is_live());
        if let (Some(transfer), None) = (live.next(), live.next())
            && !transfer.flow.can_move()
            && !transfer.can_begin_anew()
        {
            let content = transfer.content().clone();
            self.broken(session, &content, &error.to_string(), now);
        }
    }

    fn on_session_destroy(&mut self, session: &mut Session, _: Instant) {
        let cause = session.cause().cloned();
        let cause = cause.unwrap_or_else(|| Cause::Local(ReasonCondition::Gone.into()));
        let id = session.id();
        if self
            .exchanges
            .get(&id)
            .is_some_and(super::exchange::Exchange::is_undecided)
        {
            // Nobody has asked for it.
            self.exchanges.remove(&id);
            return;
        }
        let success = matches!(&cause, Cause::Remote(reason) if is_success(reason.as_ref()));
        self.gone(session, None, &Fault::Session(cause), success);
    }
}

/// Nothing more can be sent or received.
pub(super) fn lost_channel() -> Fault {
    let reason = Reason::new(ReasonCondition::FailedTransport);
    Fault::Aborted(Some(reason.with_text("the channel is gone")))
}

impl FileClient {
    /// The peer has accepted a file of ours.
    fn accepted(&mut self, session: &mut Session, name: &str, now: Instant) {
        let answer = session
            .content(name)
            .and_then(|content| content.remote_description());
        let answer = answer.map(FileDescription::from_element);
        // Who has said it twice has said it.
        let transfer = self.live_transfer(session, name);
        let Some(transfer) = transfer.filter(|t| t.phase() == Phase::Waiting) else {
            return;
        };
        let agreed = match answer {
            Some(Ok(answer)) => {
                transfer.agree_on_marks(&answer.file);
                transfer.answered(&answer.file)
            }
            Some(Err(error)) => {
                let reason = Reason::new(ReasonCondition::IncompatibleParameters);
                Err(Fault::Aborted(Some(reason.with_text(error.to_string()))))
            }
            None => Ok(()),
        };
        match agreed {
            Ok(()) => self.open_transfer(session, name, now),
            Err(fault) => self.fail(session, name, fault, now),
        }
    }

    /// The peer tells something about a file.
    fn informed(&mut self, session: &mut Session, info: &FileInfo, now: Instant) {
        let Some(exchange) = self.exchanges.get_mut(&session.id()) else {
            return;
        };
        // Without a name the only one that it can be about is meant.
        let direction = match info {
            FileInfo::Checksum { .. } => Direction::Receive,
            FileInfo::Received { .. } => Direction::Send,
        };
        let mut meant = exchange.transfers.iter_mut().filter(|transfer| {
            transfer.is_live()
                && transfer.direction() == direction
                && info.content().is_none_or(|name| name == transfer.content())
        });
        let (Some(transfer), None) = (meant.next(), meant.next()) else {
            return;
        };
        let content = transfer.content().clone();
        match info {
            FileInfo::Received { .. } => {
                transfer.confirm();
                self.conclude(session, now);
            }
            FileInfo::Checksum { file, .. } => match transfer.told(file) {
                Ok(()) => self.review(session, &content, now),
                Err(fault) => self.fail(session, &content, fault, now),
            },
        }
    }

    /// The peer tells how far a stream has come.
    ///
    /// # Errors
    /// It cannot be, or nobody agreed on telling it.
    fn reported(
        &mut self,
        session: &mut Session,
        report: &Report,
        now: Instant,
    ) -> Result<(), PeerError> {
        let exchange = self.exchanges.get_mut(&session.id());
        let transfers = exchange.into_iter().flat_map(|e| &mut e.transfers);
        let named = |transfer: &&mut Transfer| Some(transfer.content()) == report.content.as_ref();
        // One that is over here may be told of for a while.
        let Some(transfer) = transfers.into_iter().find(named).filter(|t| t.is_live()) else {
            return Ok(());
        };
        let content = transfer.content().clone();
        let ended = transfer.reported(report, session)?;
        let whole = if ended { transfer.see_end() } else { Ok(()) };
        self.set_clock(session, now);
        self.pump(session, &content, now);
        match whole {
            Ok(()) => self.review(session, &content, now),
            Err(fault) => self.fail(session, &content, fault, now),
        }
        Ok(())
    }

    /// A file has another transport. What was on the way is lost, and a stream must not have a gap: two of ours go on from
    /// where the receiver is.
    fn replaced(&mut self, session: &mut Session, content: &str, now: Instant) {
        let Some(transfer) = self.live_transfer(session, content) else {
            return;
        };
        // What protected it may not protect it any more.
        transfer.secured = None;
        if transfer.replaced(session, now) {
            let anew = transfer.is_rewound();
            if let Some(exchange) = self.exchanges.get_mut(&session.id()).filter(|_| anew) {
                // What was delivered does not count any more.
                exchange.linger_due = None;
            }
            return self.set_clock(session, now);
        }
        let why = "a stream cannot move to another transport";
        self.broken(session, content, why, now);
    }

    /// The transport is gone while bytes were under way.
    fn broken(&mut self, session: &mut Session, content: &str, why: &str, now: Instant) {
        let Some(transfer) = self.live_transfer(session, content) else {
            return;
        };
        if !transfer.flow.is_under_way() || transfer.integrity().is_some() {
            return;
        }
        if transfer.is_confirmed() {
            return end(session, ReasonCondition::Success.into(), now);
        }
        let reason = Reason::new(ReasonCondition::FailedTransport).with_text(why);
        self.fail(session, content, Fault::Aborted(Some(reason)), now);
    }

    /// The transfer of a session whose channel this is.
    fn transfer_of(&mut self, session: &Session, channel: ChannelId) -> Option<&mut Transfer> {
        let exchange = self.exchanges.get_mut(&session.id())?;
        exchange
            .transfers
            .iter_mut()
            .find(|transfer| transfer.channel() == Some(channel))
    }
}
