//! What an application does with shares.

use super::{
    ShareClient, ShareError, ShareFetch, ShareRead, ShareState,
    events::{end, reject},
    http,
    room::{Link, Room, Work},
};
use crate::{Share, ShareInfo, ShareKind, sharing::http::HeadReader};
use bytes::Bytes;
use session_core::{
    Misuse, Peer, Reason, ReasonCondition, Role, Session, SessionId, SessionManager,
};
use std::time::Instant;

/// What both sides do.
impl ShareClient {
    /// Offers a share to `to`, in a session that was made by [`SessionManager::create_session`] with
    /// [`SHARE`](crate::SHARE) as its type.
    ///
    /// # Errors
    /// [`ShareError`]; nothing was sent.
    pub fn open(
        manager: &mut SessionManager,
        session: SessionId,
        to: Peer,
        share: Share,
        now: Instant,
    ) -> Result<(), ShareError> {
        let (client, session) = both(manager, session)?;
        let id = session.id();
        if client.rooms.contains_key(&id) {
            return Err(ShareError::InUse(id));
        }
        client.check_room()?;
        if let Some(layer) = &client.config.layer {
            session.announce_layer(layer)?;
        }
        session.initiate(to.clone(), Vec::new(), &share, now)?;
        client
            .rooms
            .insert(id, Room::new(to, Role::Initiator, share));
        Ok(())
    }

    /// Accepts an offer; then its items can be fetched.
    ///
    /// # Errors
    /// [`ShareError`]; then the offer still waits.
    pub fn accept(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), ShareError> {
        let (client, session) = both(manager, session)?;
        client.accept_in(session, now)
    }

    /// Ends a share with a reason: declines an offer, takes back one of ours, stops what is under way. It stays to be looked
    /// at until it is released.
    ///
    /// # Errors
    /// [`ShareError::NoClient`], [`ShareError::UnknownSession`].
    pub fn cancel(
        manager: &mut SessionManager,
        session: SessionId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), ShareError> {
        let room = client(manager)?.rooms.get_mut(&session);
        let room = room.ok_or(ShareError::UnknownSession(session))?;
        let offered = room.is_offered();
        room.enter(ShareState::LocalCancel);
        if let Some(session) = manager.session(session) {
            match offered {
                true => reject(session, reason, now),
                false => end(session, reason, now),
            }
        }
        Ok(())
    }

    /// Lets go of a share. One that is not over is cancelled.
    ///
    /// # Errors
    /// [`ShareError::NoClient`], [`ShareError::UnknownSession`].
    pub fn release(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), ShareError> {
        Self::cancel(manager, session, ReasonCondition::Cancel.into(), now)?;
        client(manager)?.rooms.remove(&session);
        Ok(())
    }
}

/// What a receiver does.
impl ShareClient {
    /// Asks for an item, or for a preview of at most so many pixels across and down. Items can be had once the share is
    /// accepted, previews before.
    ///
    /// # Errors
    /// [`ShareError`]; [`ShareError::TooMany`] while every channel is busy.
    pub fn fetch(
        manager: &mut SessionManager,
        session: SessionId,
        item: usize,
        preview: Option<(u32, u32)>,
        now: Instant,
    ) -> Result<ShareFetch, ShareError> {
        let (client, session) = both(manager, session)?;
        let id = session.id();
        let limits = client.config.limits;
        let room = client.rooms.get_mut(&id);
        let room = room.ok_or(ShareError::UnknownSession(id))?;
        if room.role == Role::Initiator {
            return Err(ShareError::WrongWay);
        }
        let wanted = room.share.items.get(item).ok_or(ShareError::NotThere)?;
        let (target, most) = match preview {
            Some((width, height)) => (
                room.share.preview(wanted, width, height),
                (limits.unsized_bytes, false),
            ),
            None if room.state != ShareState::Transfer => return Err(ShareError::NotThere),
            None => {
                // What is said of a folder is the bytes in it, without what its archive adds.
                let exact = wanted.kind != ShareKind::Folder;
                let size = wanted.size.filter(|_| exact);
                let most = size.unwrap_or(limits.unsized_bytes);
                (room.share.source(wanted), (most, size.is_some()))
            }
        };
        let target = target.ok_or(ShareError::NotThere)?;
        if room.state.is_final() {
            return Err(ShareError::NotThere);
        }
        let free = room.links.iter().position(Link::is_free);
        let at = match free {
            Some(at) => at,
            None => client.connect(session, now)?,
        };
        let room = client.rooms.get_mut(&id);
        let room = room.ok_or(ShareError::UnknownSession(id))?;
        let number = room.number();
        room.links[at].ask(number, &target, id_host(&room.peer), most);
        client.pump(session, now);
        Ok(ShareFetch {
            session: id,
            number,
        })
    }

    /// What there is of something that is fetched, at most `max` bytes of it. Possible also when the session is over.
    ///
    /// # Errors
    /// [`ShareError::NoClient`], [`ShareError::UnknownSession`], [`ShareError::Unknown`]: also after its end was read.
    pub fn read(
        manager: &mut SessionManager,
        id: ShareFetch,
        max: usize,
        now: Instant,
    ) -> Result<ShareRead, ShareError> {
        client(manager)?;
        let Some((client, session)) = manager.client::<Self>(id.session) else {
            let room = client(manager)?.rooms.get_mut(&id.session);
            let room = room.ok_or(ShareError::UnknownSession(id.session))?;
            let link = room.link(id.number).ok_or(ShareError::Unknown(id))?;
            link.ended = true;
            return Ok(link.read(max.max(1), None).unwrap_or(ShareRead::Broken));
        };
        let room = client.rooms.get_mut(&id.session);
        let room = room.ok_or(ShareError::UnknownSession(id.session))?;
        let link = room.link(id.number).ok_or(ShareError::Unknown(id))?;
        match link.read(max.max(1), Some((session, now))) {
            Ok(read) => Ok(read),
            Err(error) => {
                client.broken(session, &error.to_string(), now);
                Ok(ShareRead::Broken)
            }
        }
    }

    /// Everything that is wanted is here, and kept: the sender is told, and ends the session.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn complete(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), ShareError> {
        let (client, session) = both(manager, session)?;
        let id = session.id();
        let linger = client.config.linger;
        let room = client.rooms.get_mut(&id);
        let room = room.ok_or(ShareError::UnknownSession(id))?;
        if room.role == Role::Initiator || room.state != ShareState::Transfer {
            return Err(ShareError::WrongWay);
        }
        session.send_info(vec![ShareInfo::Complete.to_element()], now)?;
        room.enter(ShareState::Complete);
        session.set_timer(now.checked_add(linger));
        Ok(())
    }
}

/// What a sender does.
impl ShareClient {
    /// Answers a demand: `bytes` are how many follow, `None` when that is not known, as of a folder's archive. `kind` is a
    /// media type; libjingle says `application/octet-stream` of files and `application/x-tar` of folders.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn answer(
        manager: &mut SessionManager,
        id: ShareFetch,
        kind: &str,
        bytes: Option<u64>,
        now: Instant,
    ) -> Result<(), ShareError> {
        let plain = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
        let kind = match kind.bytes().all(plain) {
            true => kind,
            false => "application/octet-stream",
        };
        Self::respond(manager, id, http::found(kind, bytes), Some(bytes), now)
    }

    /// Answers a demand: there is no such thing, or no preview is made.
    ///
    /// # Errors
    /// [`ShareError`].
    pub fn deny(
        manager: &mut SessionManager,
        id: ShareFetch,
        now: Instant,
    ) -> Result<(), ShareError> {
        Self::respond(manager, id, http::without(404, "Not Found"), None, now)
    }

    fn respond(
        manager: &mut SessionManager,
        id: ShareFetch,
        head: String,
        body: Option<Option<u64>>,
        now: Instant,
    ) -> Result<(), ShareError> {
        let (client, session) = both(manager, id.session)?;
        let link = client.link(id)?;
        let Work::Asked(number, request) = link.work else {
            return Err(ShareError::Unknown(id));
        };
        link.say(head);
        link.work = match body {
            Some(left) => Work::Serves(number, request, left),
            None => Work::Waits(HeadReader::default()),
        };
        client.pump(session, now);
        client.listen(session, now);
        Ok(())
    }

    /// Takes as much of `bytes` as there is room for off its front, and returns how much that is. When it is not all,
    /// [`ShareChange::Writable`](super::ShareChange::Writable) follows.
    ///
    /// # Errors
    /// [`ShareError`]; [`ShareError::Length`] for more bytes than were said. Nothing was taken.
    pub fn write(
        manager: &mut SessionManager,
        id: ShareFetch,
        bytes: &mut Bytes,
        now: Instant,
    ) -> Result<usize, ShareError> {
        let (client, session) = both(manager, id.session)?;
        let link = client.link(id)?;
        let Work::Serves(_, _, left) = &mut link.work else {
            return Err(ShareError::Unknown(id));
        };
        let taken = match left {
            Some(left) => {
                if bytes.len() as u64 > *left {
                    return Err(ShareError::Length);
                }
                let taken = link.flow.write(bytes);
                *left -= taken as u64;
                taken
            }
            None => link.write_chunks(bytes),
        };
        client.pump(session, now);
        Ok(taken)
    }

    /// That was all of it.
    ///
    /// # Errors
    /// [`ShareError`]; [`ShareError::Length`] for less bytes than were said.
    pub fn finish(
        manager: &mut SessionManager,
        id: ShareFetch,
        now: Instant,
    ) -> Result<(), ShareError> {
        let (client, session) = both(manager, id.session)?;
        let link = client.link(id)?;
        let Work::Serves(_, request, left) = link.work else {
            return Err(ShareError::Unknown(id));
        };
        match left {
            Some(0) => {}
            Some(_) => return Err(ShareError::Length),
            None => link.say("0\r\n\r\n".to_owned()),
        }
        link.work = Work::Waits(HeadReader::default());
        if request.preview.is_none()
            && let Some(room) = client.rooms.get_mut(&id.session)
        {
            room.served.insert(request.item);
        }
        client.pump(session, now);
        client.listen(session, now);
        Ok(())
    }
}

impl ShareClient {
    pub(super) fn check_room(&self) -> Result<(), ShareError> {
        let max = self.config.limits.sessions;
        match self.rooms.len() >= max {
            true => Err(ShareError::TooMany {
                limit: "sessions",
                max,
            }),
            false => Ok(()),
        }
    }

    pub(super) fn accept_in(&self, session: &mut Session, now: Instant) -> Result<(), ShareError> {
        let id = session.id();
        let room = self.rooms.get(&id).ok_or(ShareError::UnknownSession(id))?;
        if !room.is_offered() {
            return Err(ShareError::NotOffered(id));
        }
        if let Some(layer) = &self.config.layer {
            session.announce_layer(layer)?;
        }
        session.accept(&Share::answer(), now)?;
        Ok(())
    }

    fn link(&mut self, id: ShareFetch) -> Result<&mut Link, ShareError> {
        let room = self.rooms.get_mut(&id.session);
        let room = room.ok_or(ShareError::UnknownSession(id.session))?;
        room.link(id.number).ok_or(ShareError::Unknown(id))
    }

    /// A receiver's further channel: its place.
    fn connect(&mut self, session: &mut Session, now: Instant) -> Result<usize, ShareError> {
        let id = session.id();
        let max = self.config.limits.channels;
        self.drop_spent(session, now);
        let room = self.rooms.get_mut(&id);
        let room = room.ok_or(ShareError::UnknownSession(id))?;
        if room.links.len() >= max {
            return Err(ShareError::TooMany {
                limit: "channels",
                max,
            });
        }
        room.named += 1;
        let name: std::sync::Arc<str> = format!("private-{}", room.named).into();
        // The sender makes its end when it is told.
        session.send_info(vec![ShareInfo::Channel(name.clone()).to_element()], now)?;
        self.add_link(session, name, Work::Free, now)?;
        let room = self.rooms.get(&id).ok_or(ShareError::UnknownSession(id))?;
        Ok(room.links.len() - 1)
    }

    /// Ends channels that are of no more use.
    pub(super) fn drop_spent(&mut self, session: &mut Session, now: Instant) {
        let room = self.rooms.get_mut(&session.id());
        for channel in room.map(Room::take_spent).unwrap_or_default() {
            // What is gone needs no end.
            let _ = session.destroy_channel(channel, now);
        }
    }

    pub(super) fn add_link(
        &mut self,
        session: &mut Session,
        name: std::sync::Arc<str>,
        work: Work,
        now: Instant,
    ) -> Result<(), Misuse> {
        let limits = self.config.limits;
        let channel = match &self.config.layer {
            Some(layer) => session.create_stream_channel(&name, layer.clone(), now)?,
            None => session.create_channel(&name, now)?,
        };
        let mut link = Link::new(name, work, (limits.send_bytes, limits.receive_bytes));
        link.flow.channel = Some(channel);
        if let Some(room) = self.rooms.get_mut(&session.id()) {
            room.links.push(link);
        }
        Ok(())
    }
}

/// Whom HTTP is spoken to; nobody looks at it.
fn id_host(peer: &Peer) -> &str {
    let plain = |byte: u8| byte.is_ascii_graphic();
    match peer.as_str().bytes().all(plain) {
        true => peer.as_str(),
        false => "peer.invalid",
    }
}

fn client(manager: &mut SessionManager) -> Result<&mut ShareClient, ShareError> {
    manager.find_client().ok_or(ShareError::NoClient)
}

fn both(
    manager: &mut SessionManager,
    session: SessionId,
) -> Result<(&mut ShareClient, &mut Session), ShareError> {
    client(manager)?;
    manager
        .client(session)
        .ok_or(ShareError::UnknownSession(session))
}
