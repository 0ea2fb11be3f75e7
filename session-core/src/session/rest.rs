//! A session at rest: what it keeps, and the data that passes by without waking it.

use super::{Session, SessionEvent, channels::Channel};
use crate::{ChannelId, Datagram, DirectPath, LocalSocket, Output, SessionId, SocketId};
use prefetch_index::prefetch_index;
use std::{collections::VecDeque, net::SocketAddr, slice};

/// The largest payload of a UDP datagram over IPv4: what may be larger is the channel's to refuse.
const DATAGRAM_MAX: usize = 65_507;

/// What is asked of a session when data passes by it: together, so that it is one line of the cache.
#[derive(Clone, Copy, Debug)]
pub(super) struct Passing {
    pub(super) id: SessionId,
    /// The manager knows when the first of all clocks runs out, those of channels included.
    reviewed: bool,
}

impl Passing {
    pub(super) fn new(id: SessionId) -> Self {
        Self {
            id,
            reviewed: false,
        }
    }
}

/// Empty queues with room in them.
#[derive(Debug)]
pub(crate) struct Spare {
    data: VecDeque<Output>,
    events: VecDeque<SessionEvent>,
}

impl Session {
    /// Nothing is left to do: lets go of memory that an idle session has no use for. What carries data goes back to the
    /// manager, whose sessions share it.
    pub(crate) fn rest(&mut self) -> Option<Spare> {
        if self.outbox.is_empty() {
            self.outbox = VecDeque::new();
        }
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        let empty = self.data.is_empty() && self.events.is_empty();
        (empty && self.data.capacity() > 0).then(|| Spare {
            data: std::mem::take(&mut self.data),
            events: std::mem::take(&mut self.events),
        })
    }

    /// Something may happen: takes memory from the manager, unless it has its own.
    pub(crate) fn wake(&mut self, spares: &mut Vec<Spare>) {
        if self.data.capacity() == 0
            && self.events.is_empty()
            && let Some(Spare { data, events }) = spares.pop()
        {
            self.data = data;
            self.events = events;
        }
    }

    /// Something other than data has happened: clocks and paths are to be looked at again, also when it was the client that
    /// did it while it heard of data.
    pub(crate) fn stir(&mut self) {
        self.passing.reviewed = false;
    }

    /// The manager has looked at the clocks: where data may pass by until the session is stirred again.
    pub(crate) fn reviewed(&mut self) -> Option<Way> {
        self.passing.reviewed = true;
        self.channels.iter().find_map(Way::of)
    }

    /// Asks the processor for what data that passes by touches.
    pub(crate) fn prefetch(&self) {
        prefetch_index(slice::from_ref(&self.passing), 0);
    }

    /// Whether the manager has something to do, or to look at.
    pub(crate) fn is_stirred(&self) -> bool {
        debug_assert!(
            !self.passing.reviewed
                || self.events.is_empty()
                    && self.data.is_empty()
                    && self.manager_requests.is_empty(),
            "what is put into a queue stirs the session"
        );
        !self.passing.reviewed
    }
}

/// The path on which data passes by a session at rest, and whose it is. The manager keeps it where it finds it without
/// a look at the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    channel: ChannelId,
    socket: LocalSocket,
    remote: SocketAddr,
    epoch: u16,
    first_byte: u8,
}

impl Way {
    /// A channel's, unless data is held back there.
    fn of(channel: &Channel) -> Option<Self> {
        let flows = !channel.paused && !channel.finished;
        let implementation = channel.implementation.as_ref().filter(|_| flows)?;
        let DirectPath {
            socket,
            remote,
            first_byte,
        } = implementation.direct()?;
        Some(Self {
            channel: channel.id,
            socket,
            remote,
            epoch: channel.epoch,
            first_byte,
        })
    }

    /// From where and to where a datagram of a channel leaves.
    pub(crate) fn leaves(
        &self,
        session: SessionId,
        channel: ChannelId,
        size: usize,
    ) -> Option<(SocketId, SocketAddr)> {
        if self.channel != channel || size > DATAGRAM_MAX {
            return None;
        }
        let socket = SocketId {
            session,
            channel,
            epoch: self.epoch,
            socket: self.socket,
        };
        Some((socket, self.remote))
    }

    /// The channel whose application gets these datagrams as they are.
    pub(crate) fn arrives(&self, socket: SocketId, datagram: &Datagram) -> Option<ChannelId> {
        let known = (socket.channel, socket.epoch) == (self.channel, self.epoch)
            && self.socket == datagram.socket
            && self.remote == datagram.source;
        let is_data = |packet: &[u8]| {
            packet
                .first()
                .is_some_and(|first| *first >= self.first_byte)
        };
        let all_data = match datagram.segment_size {
            0 => is_data(&datagram.payload),
            size => datagram.payload.chunks(size).all(is_data),
        };
        (known && all_data).then_some(self.channel)
    }
}
