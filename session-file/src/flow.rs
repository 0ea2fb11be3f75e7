//! The bytes of one channel, both ways: what waits, how far it is, and who is held back. Tunnels and files share it.

use crate::{Progress, queue::ByteQueue};
use bytes::Bytes;
use session_core::{ChannelId, Reason, ReasonCondition, SendError, Session};
use std::time::Instant;

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
    delivered: bool,
    peer_finished: bool,
    paused: bool,
    progress: Progress,
}

impl Flow {
    pub(crate) fn new(send_bytes: usize, receive_bytes: usize) -> Self {
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
            delivered: false,
            peer_finished: false,
            paused: false,
            progress: Progress::default(),
        }
    }

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
        self.finish_told && self.outgoing.is_empty()
    }

    /// Whether the peer said that nothing more follows.
    pub(crate) fn has_peer_finished(&self) -> bool {
        self.peer_finished
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
        while session.writable(channel)
            && let Some(piece) = self.outgoing.pop(self.piece)
        {
            let size = piece.len();
            let result = session.send(channel, piece.clone(), now);
            if result.is_ok() {
                self.progress.sent += size as u64;
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
        let room = self.refused && self.outgoing.length() <= self.send_bytes / 2;
        if room {
            self.refused = false;
        }
        Ok(room)
    }

    /// Bytes of the peer. More than our limit is taken: it was under way when we held the peer back. Whether they are
    /// the first to be read.
    pub(crate) fn receive(&mut self, bytes: Bytes, session: &mut Session, now: Instant) -> bool {
        if bytes.is_empty() {
            return false;
        }
        self.progress.received += bytes.len() as u64;
        let was_empty = self.incoming.is_empty();
        self.incoming.push(bytes);
        if !self.paused
            && self.incoming.length() >= self.receive_bytes
            && let Some(channel) = self.channel
        {
            self.paused = true;
            session.pause(channel, true, now);
        }
        was_empty
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

    /// The peer said that nothing more follows. Whether that is news.
    pub(crate) fn peer_finished(&mut self) -> bool {
        !std::mem::replace(&mut self.peer_finished, true)
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
