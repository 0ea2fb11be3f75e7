//! The bytes of one channel, both ways: what waits, how far it is, and who is held back. Tunnels and files share it.

use crate::{
    Progress,
    moving::{Keep, Report, Retained, malformed},
    queue::ByteQueue,
};
use bytes::Bytes;
use session_core::{ChannelId, PeerError, Reason, ReasonCondition, SendError, Session};
use std::{sync::Arc, time::Instant};

/// Most bytes that are handed to the channel at once.
const PIECE_MAX: usize = 64 * 1024;

/// A channel that does not take this many bytes at once takes nothing.
const PIECE_MIN: usize = 256;

/// A stream of bytes each way over one channel.
#[derive(Debug)]
pub(crate) struct Flow {
    pub(crate) channel: Option<ChannelId>,
    /// Most bytes that wait to be sent.
    send_bytes: usize,
    /// Bytes that wait to be read, beyond which the peer is held back.
    receive_bytes: usize,
    outgoing: ByteQueue,
    incoming: ByteQueue,
    /// Most bytes that the channel takes at once, as far as we know.
    piece: usize,
    /// Somebody was refused, or the queue was filled, and is to be told when there is room.
    refused: bool,
    finish: bool,
    finish_told: bool,
    /// An earlier transport was given all of it.
    handed_over: bool,
    delivered: bool,
    peer_finished: bool,
    paused: bool,
    progress: Progress,
    keep: Keep,
    retained: Retained,
    /// The content whose stream it is, where that has to be said.
    content: Option<Arc<str>>,
    /// How much the peer was told that we have, and when.
    told: u64,
    told_at: Option<Instant>,
    /// The peer was told how much there is in all.
    total_told: bool,
    /// The transport was replaced, and the peer has not said where to go on.
    moving: bool,
    /// The channel has come to an end, which counts if everything has come.
    ended: bool,
    /// How much the peer sends in all.
    peer_total: Option<u64>,
    /// How much the peer has said that it has.
    peer_received: u64,
}

impl Flow {
    pub(crate) fn new(
        (send_bytes, receive_bytes): (usize, usize),
        keep: Keep,
        content: Option<Arc<str>>,
    ) -> Self {
        Self {
            channel: None,
            send_bytes,
            receive_bytes,
            outgoing: ByteQueue::default(),
            incoming: ByteQueue::default(),
            piece: PIECE_MAX,
            refused: false,
            finish: false,
            finish_told: false,
            handed_over: false,
            delivered: false,
            peer_finished: false,
            paused: false,
            progress: Progress::default(),
            keep,
            retained: Retained::new(keep),
            content,
            told: 0,
            told_at: None,
            total_told: false,
            moving: false,
            ended: false,
            peer_total: None,
            peer_received: 0,
        }
    }

    /// How many bytes of the stream have come how far. Of one that is encrypted within itself its tag is one, and what is
    /// read is what was encrypted.
    pub(crate) fn progress(&self) -> Progress {
        self.progress
    }

    /// How many bytes can be written now.
    pub(crate) fn room(&self) -> usize {
        if self.finish {
            return 0;
        }
        self.send_bytes.saturating_sub(self.outgoing.length())
    }

    /// How many bytes can be read now.
    pub(crate) fn readable(&self) -> usize {
        self.incoming.length()
    }

    /// Whether bytes have been on the way in either direction, so that the stream cannot begin anew.
    pub(crate) fn is_under_way(&self) -> bool {
        self.progress.sent > 0 || self.progress.received > 0 || self.finish_told
    }

    /// Whether nothing more will be written.
    pub(crate) fn is_finished(&self) -> bool {
        self.finish
    }

    /// Whether the transport had every byte acknowledged, after we finished.
    pub(crate) fn is_delivered(&self) -> bool {
        self.delivered
    }

    /// Whether the transport was given every byte, and told that it was the last.
    pub(crate) fn is_handed_over(&self) -> bool {
        self.handed_over || self.finish_told && self.outgoing.is_empty()
    }

    /// Whether the peer said that nothing more follows.
    pub(crate) fn has_peer_finished(&self) -> bool {
        self.peer_finished
    }

    /// Whether something waits for the channel to take it.
    pub(crate) fn has_unsent(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether the peer is held back, because nobody reads.
    pub(crate) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Takes as much of `bytes` as there is room for, and returns how much that is.
    pub(crate) fn write(&mut self, bytes: &mut Bytes) -> usize {
        let count = bytes.len().min(self.room());
        if count < bytes.len() {
            self.refused = true;
        }
        if count > 0 {
            self.outgoing.push(bytes.split_to(count));
            self.progress.written += count as u64;
        }
        count
    }

    /// Somebody would write more if there were room, and is to be told when there is.
    pub(crate) fn want_room(&mut self) {
        self.refused = true;
    }

    /// The last bytes of the stream, beyond what there is room for.
    pub(crate) fn append(&mut self, bytes: Bytes) {
        self.progress.written += bytes.len() as u64;
        self.outgoing.push(bytes);
    }

    pub(crate) fn finish(&mut self) {
        self.finish = true;
        self.refused = false;
    }

    /// Hands to the channel what it takes now. Whether somebody who was refused has room now.
    ///
    /// # Errors
    /// The channel takes not even the smallest piece.
    pub(crate) fn pump(&mut self, session: &mut Session, now: Instant) -> Result<bool, Reason> {
        let Some(channel) = self.channel else {
            return Ok(false);
        };
        if self.moving {
            return Ok(false);
        }
        while session.writable(channel)
            && !self.retained.is_full()
            && let Some(piece) = self.outgoing.pop(self.piece)
        {
            let size = piece.len();
            let result = session.send(channel, piece.clone(), now);
            if result.is_ok() {
                self.progress.sent += size as u64;
                self.retained.push(piece);
                continue;
            }
            self.outgoing.unpop(piece);
            match result {
                Ok(()) | Err(SendError::NotWritable) => break,
                Err(SendError::TooLarge) if self.piece > PIECE_MIN => self.piece /= 2,
                Err(SendError::TooLarge | SendError::NoSuchChannel | SendError::Finished) => {
                    let reason = Reason::new(ReasonCondition::FailedTransport);
                    return Err(reason.with_text("the channel takes no more bytes"));
                }
            }
        }
        // A stream that ends before it began would not tell the peer.
        let began = self.progress.sent > 0 || session.writable(channel);
        if self.finish && !self.finish_told && self.outgoing.is_empty() && began {
            self.finish_told = true;
            session.finish(channel, now);
        }
        // Also when the peer shows only after the end that it wants to know.
        if self.finish_told && !self.total_told && self.retained.is_proven() {
            self.tell(None, session, now);
        }
        let room = self.refused && self.outgoing.length() <= self.send_bytes / 2;
        if room {
            self.refused = false;
        }
        Ok(room)
    }

    /// Bytes of the peer. More than our limit is taken: it was under way when we held the peer back. Whether they are
    /// the first to be read.
    pub(crate) fn receive(&mut self, bytes: Bytes, session: &mut Session, now: Instant) -> bool {
        let carried = bytes.len();
        self.receive_as(bytes, carried, session, now)
    }

    /// As [`receive`](Self::receive), where so many bytes of the stream were read as others.
    pub(crate) fn receive_as(
        &mut self,
        bytes: Bytes,
        carried: usize,
        session: &mut Session,
        now: Instant,
    ) -> bool {
        if carried == 0 {
            return false;
        }
        self.progress.received += carried as u64;
        let is_first = self.incoming.is_empty() && !bytes.is_empty();
        if !bytes.is_empty() {
            self.incoming.push(bytes);
        }
        if !self.paused
            && self.incoming.length() >= self.receive_bytes
            && let Some(channel) = self.channel
        {
            self.paused = true;
            session.pause(channel, true, now);
        }
        if self.retained.is_proven() && self.is_time_to_tell(now) {
            self.tell(None, session, now);
        }
        is_first
    }

    fn is_time_to_tell(&self, now: Instant) -> bool {
        let (bytes, pause) = self.keep.every();
        let rested = self
            .told_at
            .is_none_or(|at| now.saturating_duration_since(at) >= pause);
        rested && self.progress.received - self.told >= bytes
    }

    /// The next bytes, and whether the peer may go on now.
    pub(crate) fn read(&mut self, max: usize) -> Option<(Bytes, bool)> {
        let bytes = self.incoming.pop(max.max(1))?;
        self.progress.read += bytes.len() as u64;
        let resume = self.paused && self.incoming.length() <= self.receive_bytes / 2;
        if resume {
            self.paused = false;
        }
        Some((bytes, resume))
    }

    /// The channel has come to its end. Whether the stream has, and that is news.
    ///
    /// A connection that breaks may look like one that ends. A peer that can go on elsewhere says how much there is.
    pub(crate) fn peer_finished(&mut self) -> bool {
        self.ended = true;
        self.review_end()
    }

    /// Whether the stream has come to its end, and that is news.
    fn review_end(&mut self) -> bool {
        let whole = match self.peer_total {
            Some(total) => self.progress.received == total,
            None => !self.retained.is_proven(),
        };
        self.ended && whole && !std::mem::replace(&mut self.peer_finished, true)
    }

    /// Whether the stream can go on when its transport is replaced.
    pub(crate) fn can_move(&self) -> bool {
        self.retained.is_proven()
    }

    /// Whether the peer has still to say where to go on.
    pub(crate) fn is_moving(&self) -> bool {
        self.moving
    }

    /// Lets the stream go on elsewhere, if the peer can, too: it is told that we can.
    pub(crate) fn begin(&mut self, session: &mut Session, now: Instant) {
        self.retained.begin();
        self.tell(None, session, now);
    }

    /// Tells the peer where we are; with a transport, that the stream goes on there.
    pub(crate) fn tell(&mut self, transport: Option<String>, session: &mut Session, now: Instant) {
        if !session.dialect().has_modify {
            return;
        }
        self.told = self.progress.received;
        self.told_at = Some(now);
        self.total_told |= self.finish;
        let report = Report {
            received: self.progress.received,
            total: self.finish.then_some(self.progress.written),
            transport,
            content: self.content.clone(),
        };
        // A session that is over needs no more of it.
        let _ = session.send_info(vec![report.to_element()], now);
    }

    /// The channel has another transport now. Whether the stream goes on there.
    pub(crate) fn replaced(&mut self, session: &mut Session, now: Instant) -> bool {
        if !self.retained.is_proven() {
            let begins_anew = !self.is_under_way();
            if begins_anew && self.retained.has_begun() {
                // Who has heard of us already waits for our word.
                let transport = self.transport(session).map(str::to_owned);
                self.tell(transport, session, now);
            }
            return begins_anew;
        }
        self.moving = true;
        self.ended = false;
        self.handed_over = self.is_handed_over();
        self.finish_told = false;
        let transport = self.transport(session).map(str::to_owned);
        self.tell(transport, session, now);
        true
    }

    /// Everything is to be written again: the peer cannot say what it has.
    pub(crate) fn begin_anew(&mut self) {
        self.outgoing.clear();
        (self.progress.written, self.progress.sent) = (0, 0);
        self.piece = PIECE_MAX;
        (self.finish, self.finish_told) = (false, false);
        (self.handed_over, self.delivered) = (false, false);
    }

    /// The peer sends everything again, to its end.
    pub(crate) fn hear_anew(&mut self) {
        (self.ended, self.peer_finished) = (false, false);
    }

    /// How much the peer has said that it has.
    pub(crate) fn peer_received(&self) -> u64 {
        self.peer_received
    }

    /// The transport that carries it.
    fn transport<'s>(&self, session: &'s Session) -> Option<&'s str> {
        match &self.content {
            Some(content) => session.content(content)?.transport(),
            None => session.transport(),
        }
    }

    /// What the peer tells. Whether the stream has come to its end, and that is news.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn told(&mut self, report: &Report, session: &Session) -> Result<bool, PeerError> {
        if report.received > self.progress.sent {
            return Err(malformed("received", "more than was sent"));
        }
        if let Some(total) = report.total {
            let other = self.peer_total.is_some_and(|known| known != total);
            if other || total < self.progress.received {
                return Err(malformed("total", "not what it was"));
            }
        }
        self.retained.prove();
        self.peer_received = self.peer_received.max(report.received);
        self.peer_total = self.peer_total.or(report.total);
        let here =
            report.transport.is_some() && report.transport.as_deref() == self.transport(session);
        if !(here && self.moving) {
            self.retained.release(report.received);
            return Ok(self.review_end());
        }
        let Some(again) = self.retained.rewind(report.received) else {
            return Err(malformed("received", "less than it was"));
        };
        again.for_each(|piece| self.outgoing.unpop(piece));
        self.progress.sent = report.received;
        self.moving = false;
        Ok(self.review_end())
    }

    /// The transport had everything acknowledged. Whether that is news.
    pub(crate) fn everything_delivered(&mut self) -> bool {
        self.finish_told && !std::mem::replace(&mut self.delivered, true)
    }

    /// The channel is gone. What waits to be read stays; what waits to be sent stays only if somebody will have it.
    pub(crate) fn close(&mut self, forget: bool) {
        self.channel = None;
        if forget {
            self.outgoing.clear();
        }
    }

    /// Lets go of what was not read: nobody is to have it.
    pub(crate) fn discard(&mut self) {
        self.incoming.clear();
    }
}
