//! What the session tells the client.

use super::{
    ShareChange, ShareClient, ShareState, ShareVerdict,
    http::HeadReader,
    room::{Link, Room, Work},
};
use crate::{Share, ShareInfo, share::SHARE};
use bytes::Bytes;
use session_core::{
    Cause, ChannelId, Element, PeerError, Reason, ReasonCondition, Role, Session, SessionClient,
    SessionDescription as _, State,
};
use std::time::Instant;

impl SessionClient for ShareClient {
    fn namespace(&self) -> &str {
        SHARE
    }

    fn check_offer(&mut self, description: &Element) -> Result<(), PeerError> {
        Share::from_element(description).map(|_| ())
    }

    fn on_session_create(&mut self, _: &mut Session, _: bool, _: Instant) {}

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        match state {
            State::ReceivedInitiate => self.receive_offer(session, now),
            State::SentAccept | State::ReceivedAccept => {
                if let Some(room) = self.rooms.get_mut(&session.id()) {
                    room.enter(ShareState::Transfer);
                }
            }
            State::Init
            | State::SentInitiate
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
        let Some(room) = self.rooms.get_mut(&session.id()) else {
            return;
        };
        let Some(link) = of_channel(room, channel) else {
            return;
        };
        if link.flow.receive(packet, session, now) && room.role == Role::Responder {
            room.signal.emit(ShareChange::Readable);
        }
        self.listen(session, now);
    }

    fn on_writable(&mut self, session: &mut Session, _: ChannelId, writable: bool, now: Instant) {
        if writable {
            self.pump(session, now);
        }
    }

    fn on_finished(&mut self, session: &mut Session, channel: ChannelId, _: Instant) {
        self.ended(session, channel);
    }

    fn on_channel_gone(&mut self, session: &mut Session, channel: ChannelId, _: &str, _: Instant) {
        self.ended(session, channel);
    }

    fn on_info(
        &mut self,
        session: &mut Session,
        info: &[Element],
        now: Instant,
    ) -> Result<(), PeerError> {
        for element in info {
            match ShareInfo::from_element(element.view())? {
                Some(ShareInfo::Channel(name)) => self.receive_channel(session, &name, now)?,
                Some(ShareInfo::Complete) => {
                    let room = self.rooms.get_mut(&session.id());
                    if let Some(room) = room.filter(|room| room.role == Role::Initiator) {
                        room.enter(ShareState::Complete);
                        // The answer to this leaves before the end does.
                        session.set_timer(Some(now));
                    }
                }
                None => {}
            }
        }
        Ok(())
    }

    fn on_timer(&mut self, session: &mut Session, now: Instant) {
        end(session, ReasonCondition::Success.into(), now);
    }

    fn on_session_destroy(&mut self, session: &mut Session, _: Instant) {
        let Some(room) = self.rooms.get_mut(&session.id()) else {
            return;
        };
        let state = match session.cause() {
            Some(Cause::Remote(_)) if room.has_served_all() => ShareState::Complete,
            Some(Cause::Remote(_)) => ShareState::RemoteCancel,
            Some(Cause::Local(_)) | None => ShareState::LocalCancel,
            Some(_) => ShareState::Failure,
        };
        room.enter(state);
        for link in &mut room.links {
            link.ended = true;
            link.flow.close(true);
        }
        room.signal.emit(ShareChange::Readable);
    }
}

impl ShareClient {
    fn receive_offer(&mut self, session: &mut Session, now: Instant) {
        let share = session.remote_description().map(Share::from_element);
        let Some(Ok(share)) = share else {
            return reject(session, ReasonCondition::IncompatibleParameters.into(), now);
        };
        let waiting = self.offers().count();
        if self.check_room().is_err() || waiting >= self.config.limits.offers {
            return reject(session, ReasonCondition::Busy.into(), now);
        }
        let room = Room::new(session.remote_name().clone(), Role::Responder, share);
        let offer = room.offer(session.id());
        let verdict = self.policy.as_mut().map(|policy| policy(&offer));
        if let Some(ShareVerdict::Decline(reason)) = verdict {
            return reject(session, reason, now);
        }
        self.rooms.insert(session.id(), room);
        if verdict != Some(ShareVerdict::Accept) {
            self.signal_offer.emit(offer);
        } else if let Err(error) = self.accept_in(session, now) {
            let reason = Reason::new(ReasonCondition::FailedApplication);
            reject(session, reason.with_text(error.to_string()), now);
        }
    }

    /// The receiver has made a channel.
    fn receive_channel(
        &mut self,
        session: &mut Session,
        name: &std::sync::Arc<str>,
        now: Instant,
    ) -> Result<(), PeerError> {
        let max = self.config.limits.channels;
        let malformed = |problem| PeerError::Malformed {
            field: "channel",
            problem,
        };
        self.drop_spent(session, now);
        let room = self.rooms.get(&session.id());
        let room = room.filter(|room| room.role == Role::Initiator);
        let room = room.ok_or_else(|| malformed("for who has the files"))?;
        if room.links.iter().any(|link| link.name == *name) {
            return Err(malformed("there already"));
        }
        if room.links.len() >= max {
            return Err(PeerError::TooMany {
                limit: "channels",
                max,
            });
        }
        let work = Work::Waits(HeadReader::default());
        let added = self.add_link(session, name.clone(), work, now);
        added.map_err(|_| malformed("not possible now"))
    }

    /// Looks for requests in what came, until there is none, or no room for what is answered.
    pub(super) fn listen(&mut self, session: &mut Session, now: Instant) {
        while self.hear(session, now) && self.push(session, now) {}
    }

    /// Looks for requests in what came. Whether all of it made sense.
    fn hear(&mut self, session: &mut Session, now: Instant) -> bool {
        let Some(room) = self.rooms.get_mut(&session.id()) else {
            return false;
        };
        let mut wrong = None;
        for at in 0..room.links.len() {
            match room.links[at].listen(&room.share, session, now) {
                Ok(Some(request)) => {
                    let number = room.number();
                    room.links[at].work = Work::Asked(number, request);
                    room.signal.emit(ShareChange::Asked);
                }
                Ok(None) => {}
                Err(error) => wrong = Some(error),
            }
        }
        if let Some(error) = &wrong {
            self.broken(session, &error.to_string(), now);
        }
        wrong.is_none()
    }

    /// Hands on what waits, and looks at what had to wait for that.
    pub(super) fn pump(&mut self, session: &mut Session, now: Instant) {
        if self.push(session, now) {
            self.listen(session, now);
        }
    }

    /// Hands on what waits. Whether there is room now on a channel that waits for requests.
    fn push(&mut self, session: &mut Session, now: Instant) -> bool {
        let Some(room) = self.rooms.get_mut(&session.id()) else {
            return false;
        };
        let (mut lost, mut waits) = (None, false);
        for link in &mut room.links {
            match link.pump(session, now) {
                Ok(true) if link.waits() => waits = true,
                Ok(true) => room.signal.emit(ShareChange::Writable),
                Ok(false) => {}
                Err(reason) => lost = Some(reason),
            }
        }
        if let Some(reason) = lost {
            room.enter(ShareState::Failure);
            end(session, reason, now);
            return false;
        }
        waits
    }

    /// What a peer says makes no sense: the whole share is over.
    pub(super) fn broken(&mut self, session: &mut Session, why: &str, now: Instant) {
        if let Some(room) = self.rooms.get_mut(&session.id()) {
            room.enter(ShareState::Failure);
        }
        let reason = Reason::new(ReasonCondition::MediaError).with_text(why);
        end(session, reason, now);
    }

    fn ended(&mut self, session: &Session, channel: ChannelId) {
        let Some(room) = self.rooms.get_mut(&session.id()) else {
            return;
        };
        if let Some(link) = of_channel(room, channel) {
            link.ended = true;
            room.signal.emit(ShareChange::Readable);
        }
    }
}

fn of_channel(room: &mut Room, channel: ChannelId) -> Option<&mut Link> {
    let mut links = room.links.iter_mut();
    links.find(|link| link.flow.channel == Some(channel))
}

pub(super) fn reject(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.reject(reason, now);
}

pub(super) fn end(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.terminate(reason, now);
}
