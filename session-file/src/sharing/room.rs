//! One share, and its channels.

use super::{
    ShareChange, ShareOffer, ShareRead, ShareState,
    http::{self, Body, HeadReader, HttpError},
};
use crate::{Share, ShareRequest, flow::Flow, moving::Keep};
use bytes::Bytes;
use session_core::{ChannelId, Peer, Reason, Role, Session, SessionId, Signal};
use std::{collections::BTreeSet, sync::Arc, time::Instant};

/// So much room there has to be for a head, or for what stands around a chunk.
pub(super) const HEAD_ROOM: usize = 4 * 1_024;

/// Most bytes of a chunk.
const CHUNK: usize = 64 * 1_024;

/// Most bytes that are looked at together.
const PIECE: usize = 64 * 1_024;

/// Most bytes of what is said instead of an item, which are read past.
const MISSING_MAX: u64 = 64 * 1_024;

#[derive(Debug)]
pub(super) struct Room {
    pub(super) peer: Peer,
    /// The initiator has the files.
    pub(super) role: Role,
    pub(super) share: Share,
    pub(super) state: ShareState,
    pub(super) links: Vec<Link>,
    pub(super) next: u32,
    /// Channels that were named.
    pub(super) named: u32,
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
            named: 0,
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

    /// Takes out those whose channels are of no more use: their channels.
    pub(super) fn take_spent(&mut self) -> Vec<ChannelId> {
        let spent = self.links.extract_if(.., |link| link.is_spent());
        spent.filter_map(|link| link.flow.channel).collect()
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

impl Fetch {
    /// Reads past what is said instead of what was asked for. Once that is over, whether the next answer cannot be found
    /// behind it.
    fn skip(&mut self, raw: &mut Bytes) -> Option<bool> {
        let body = self.body.as_mut()?;
        if body.is_open() || body.bytes.is_some_and(|bytes| bytes > MISSING_MAX) {
            return Some(true);
        }
        loop {
            match body.take(raw) {
                Ok(Some(piece)) => self.received += piece.len() as u64,
                Ok(None) if body.is_done() => return Some(!raw.is_empty()),
                Ok(None) => return None,
                Err(_) => return Some(true),
            }
            if self.received > MISSING_MAX {
                return Some(true);
            }
        }
    }
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

    /// Nothing comes or leaves on it, and nobody waits for anything of it.
    fn is_spent(&self) -> bool {
        let idle = matches!(self.work, Work::Free | Work::Waits(_));
        idle && self.ended && !self.flow.has_unsent()
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
        while matches!(self.work, Work::Waits(_)) {
            if self.flow.room() < HEAD_ROOM {
                // The answer before it has not left yet.
                self.flow.want_room();
                break;
            }
            if !self.refill(PIECE, Some((session, now))) {
                break;
            }
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
                    Some(body) if body.found => body.end()?,
                    Some(_) => return Ok(self.missing(true)),
                    None => return Err(HttpError::Short),
                }
            }
            let Some(body) = &mut fetch.body else {
                if !there {
                    return Ok(ShareRead::Pending);
                }
                if let Some(head) = fetch.head.push(&mut self.raw)? {
                    fetch.body = Body::of(&head)?;
                }
                continue;
            };
            if !body.found {
                match fetch.skip(&mut self.raw) {
                    Some(ended) => return Ok(self.missing(ended)),
                    None if there => continue,
                    None => return Ok(ShareRead::Pending),
                }
            }
            if body.bytes.is_some_and(|bytes| bytes > fetch.most) {
                return Err(HttpError::Length);
            }
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

    /// What it asked for is not there. Whether that was the last answer on this channel.
    fn missing(&mut self, ended: bool) -> ShareRead {
        self.ended |= ended;
        self.work = Work::Free;
        ShareRead::Missing
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

    /// Whether a sender waits for a request on it.
    pub(super) fn waits(&self) -> bool {
        matches!(self.work, Work::Waits(_))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads past a body that comes in pieces: what becomes of the channel, and what is left.
    fn skip(framing: &str, body: &[u8]) -> (Option<bool>, usize) {
        let head = format!("HTTP/1.1 404 Not Found\r\n{framing}\r\n");
        let mut fetch = Fetch {
            number: 1,
            head: HeadReader::default(),
            body: Body::of(&head).unwrap(),
            most: 3,
            exact: true,
            received: 0,
        };
        let mut raw = Bytes::new();
        let mut over = fetch.skip(&mut raw);
        for piece in body.chunks(1_000) {
            if over.is_none() {
                raw = Bytes::copy_from_slice(piece);
                over = fetch.skip(&mut raw);
            }
        }
        (over, raw.len())
    }

    #[test]
    fn what_is_said_instead_of_an_item_is_read_past() {
        let (free, ended) = (Some(false), Some(true));
        let chunked = "Transfer-Encoding: chunked\r\n";
        assert_eq!(skip("Content-Length: 0\r\n", b""), (free, 0));
        assert_eq!(skip("Content-Length: 9\r\n", b"Not Found"), (free, 0));
        assert_eq!(skip("Content-Length: 9\r\n", b"Not"), (None, 0));
        let words = [b"1388\r\n", &[b'x'; 5_000][..], b"\r\n0\r\n\r\n"].concat();
        assert_eq!(skip(chunked, &words), (free, 0));
        // Behind it nothing was asked for.
        assert_eq!(skip("Content-Length: 3\r\n", b"Not Found").0, ended);
        assert_eq!(skip(chunked, b"no number\r\n").0, ended);
        assert_eq!(skip("", b"Not Found").0, ended);
        assert_eq!(skip("Content-Length: 65537\r\n", b"").0, ended);
        let endless = [b"fffff\r\n", &[b'x'; 100_000][..]].concat();
        assert_eq!(skip(chunked, &endless).0, ended);
    }
}
