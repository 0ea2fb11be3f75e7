//! One share, and its channels.

use super::{
    ShareChange, ShareOffer, ShareRead, ShareState,
    http::{self, Body, HeadReader, HttpError},
};
use crate::{Share, ShareRequest, flow::Flow, moving::Keep};
use bytes::Bytes;
use session_core::{Peer, Reason, Role, Session, SessionId, Signal};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// So much room there has to be for a head, or for what stands around a chunk.
pub(super) const HEAD_ROOM: usize = 4 * 1_024;

/// Most bytes of a chunk.
const CHUNK: usize = 64 * 1_024;

/// Most bytes that are looked at together.
const PIECE: usize = 64 * 1_024;

#[derive(Debug)]
pub(super) struct Room {
    pub(super) peer: Peer,
    /// The initiator has the files.
    pub(super) role: Role,
    pub(super) share: Share,
    pub(super) state: ShareState,
    pub(super) links: Vec<Link>,
    pub(super) next: u32,
    /// Items that were served to their end.
    pub(super) served: BTreeSet<usize>,
    pub(super) signal: Signal<ShareChange>,
}

impl Room {
    pub(super) fn new(peer: Peer, role: Role, share: Share) -> Self {
        Self {
            peer,
            role,
            share,
            state: ShareState::Offer,
            links: Vec::new(),
            next: 0,
            served: BTreeSet::new(),
            signal: Signal::new(),
        }
    }

    pub(super) fn is_offered(&self) -> bool {
        self.role == Role::Responder && self.state == ShareState::Offer
    }

    pub(super) fn offer(&self, session: SessionId) -> ShareOffer {
        ShareOffer {
            session,
            from: self.peer.clone(),
            share: self.share.clone(),
        }
    }

    /// The first final state stays.
    pub(super) fn enter(&mut self, state: ShareState) {
        if self.state.is_final() || self.state == state {
            return;
        }
        self.state = state;
        self.signal.emit(ShareChange::State(state));
    }

    pub(super) fn number(&mut self) -> u32 {
        self.next += 1;
        self.next
    }

    pub(super) fn link(&mut self, number: u32) -> Option<&mut Link> {
        self.links
            .iter_mut()
            .find(|link| link.number() == Some(number))
    }

    pub(super) fn has_served_all(&self) -> bool {
        self.role == Role::Initiator && self.served.len() == self.share.items.len()
    }
}

/// One channel, and what it is used for.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: Arc<str>,
    pub(super) flow: Flow,
    /// What was taken of the flow and not looked at.
    raw: Bytes,
    pub(super) work: Work,
    /// Nothing more comes.
    pub(super) ended: bool,
}

#[derive(Debug)]
pub(super) enum Work {
    /// A sender waits for a request.
    Waits(HeadReader),
    /// The application is to answer.
    Asked(u32, ShareRequest),
    /// It answers: how many bytes are left, where that was said.
    Serves(u32, ShareRequest, Option<u64>),
    /// A receiver asks for nothing.
    Free,
    /// It awaits something.
    Fetches(Box<Fetch>),
}

/// Something that is fetched.
#[derive(Debug)]
pub(super) struct Fetch {
    number: u32,
    head: HeadReader,
    body: Option<Body>,
    /// How many bytes it may have; and must have, where the manifest says so.
    most: u64,
    exact: bool,
    received: u64,
}

impl Link {
    pub(super) fn new(name: Arc<str>, work: Work, (send, receive): (usize, usize)) -> Self {
        Self {
            name,
            flow: Flow::new((send.max(4 * HEAD_ROOM), receive), Keep::TUNNEL, None),
            raw: Bytes::new(),
            work,
            ended: false,
        }
    }

    pub(super) fn number(&self) -> Option<u32> {
        match &self.work {
            Work::Asked(number, _) | Work::Serves(number, ..) => Some(*number),
            Work::Fetches(fetch) => Some(fetch.number),
            Work::Waits(_) | Work::Free => None,
        }
    }

    pub(super) fn demand(&self) -> Option<(u32, ShareRequest)> {
        match &self.work {
            Work::Asked(number, request) => Some((*number, *request)),
            Work::Waits(_) | Work::Serves(..) | Work::Free | Work::Fetches(_) => None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        matches!(self.work, Work::Free) && !self.ended
    }

    /// What is whole to the client goes to the flow, for which there is room.
    pub(super) fn say(&mut self, text: String) {
        let mut bytes = Bytes::from(text);
        self.flow.write(&mut bytes);
        debug_assert!(bytes.is_empty(), "there is room for a head");
    }

    /// Bytes to be looked at, if there are any.
    fn refill(&mut self, max: usize, session: Option<(&mut Session, Instant)>) -> bool {
        if !self.raw.is_empty() {
            return true;
        }
        let Some((bytes, resume)) = self.flow.read(max) else {
            return false;
        };
        self.raw = bytes;
        if let (true, Some(channel), Some((session, now))) = (resume, self.flow.channel, session) {
            session.pause(channel, false, now);
        }
        true
    }

    /// A sender looks at what came. The request for something that is there, once one is whole.
    pub(super) fn listen(
        &mut self,
        share: &Share,
        session: &mut Session,
        now: Instant,
    ) -> Result<Option<ShareRequest>, HttpError> {
        while matches!(self.work, Work::Waits(_))
            && self.flow.room() >= HEAD_ROOM
            && self.refill(PIECE, Some((session, now)))
        {
            let Work::Waits(head) = &mut self.work else {
                break;
            };
            let Some(head) = head.push(&mut self.raw)? else {
                continue;
            };
            self.work = Work::Waits(HeadReader::default());
            match http::target(&head)? {
                None => self.say(http::without(405, "Method Not Allowed")),
                Some(target) => match share.request(target) {
                    None => self.say(http::without(404, "Not Found")),
                    Some(request) => return Ok(Some(request)),
                },
            }
        }
        Ok(None)
    }

    /// A receiver asks.
    pub(super) fn ask(&mut self, number: u32, target: &str, host: &str, most: (u64, bool)) {
        self.say(http::request(target, host));
        self.work = Work::Fetches(Box::new(Fetch {
            number,
            head: HeadReader::default(),
            body: None,
            most: most.0,
            exact: most.1,
            received: 0,
        }));
    }

    /// A receiver reads what it asked for.
    pub(super) fn read(
        &mut self,
        max: usize,
        mut session: Option<(&mut Session, Instant)>,
    ) -> Result<ShareRead, HttpError> {
        loop {
            let there = match &mut session {
                Some((session, now)) => self.refill(max, Some((session, *now))),
                None => self.refill(max, None),
            };
            let Work::Fetches(fetch) = &mut self.work else {
                return Ok(ShareRead::Broken);
            };
            if !there && self.ended {
                match &mut fetch.body {
                    Some(body) => body.end()?,
                    None => return Err(HttpError::Short),
                }
            }
            let Some(body) = &mut fetch.body else {
                if !there {
                    return Ok(ShareRead::Pending);
                }
                let Some(head) = fetch.head.push(&mut self.raw)? else {
                    continue;
                };
                match Body::of(&head)? {
                    Some(body) => {
                        if body.bytes.is_some_and(|bytes| bytes > fetch.most) {
                            return Err(HttpError::Length);
                        }
                        fetch.body = Some(body);
                    }
                    None => {
                        // Whatever it says besides is not looked for.
                        self.ended = true;
                        self.work = Work::Free;
                        return Ok(ShareRead::Missing);
                    }
                }
                continue;
            };
            if let Some(piece) = body.take(&mut self.raw)? {
                fetch.received += piece.len() as u64;
                if fetch.received > fetch.most {
                    return Err(HttpError::Length);
                }
                return Ok(ShareRead::Bytes(piece));
            }
            if body.is_done() {
                if fetch.exact && fetch.received != fetch.most || !self.raw.is_empty() {
                    return Err(HttpError::Length);
                }
                self.work = Work::Free;
                return Ok(ShareRead::End);
            }
            if !there {
                return Ok(ShareRead::Pending);
            }
        }
    }

    /// Takes what there is room for of an answer in chunks.
    pub(super) fn write_chunks(&mut self, bytes: &mut Bytes) -> usize {
        let mut taken = 0;
        while !bytes.is_empty() {
            let room = self.flow.room().saturating_sub(HEAD_ROOM);
            if room == 0 {
                self.flow.want_room();
                break;
            }
            let mut piece = bytes.split_to(bytes.len().min(room).min(CHUNK));
            taken += piece.len();
            self.say(format!("{:x}\r\n", piece.len()));
            self.flow.write(&mut piece);
            self.say("\r\n".to_owned());
        }
        taken
    }

    pub(super) fn pump(&mut self, session: &mut Session, now: Instant) -> Result<bool, Reason> {
        self.flow.pump(session, now)
    }
}
