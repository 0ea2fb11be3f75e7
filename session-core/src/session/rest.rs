//! A session at rest: what it keeps, and the data that passes by without waking it.

use super::{Session, SessionEvent, channels::Channel};
use crate::{ChannelId, Datagram, DirectPath, Output, SessionId, SocketId};
use std::{collections::VecDeque, net::SocketAddr};

/// The largest payload of a UDP datagram over IPv4: what may be larger is the channel's to refuse.
const DATAGRAM_MAX: usize = 65_507;

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
        self.timers.reviewed = false;
    }

    /// The manager has looked at the clocks: where data may pass by until the session is stirred again.
    pub(crate) fn reviewed(&mut self) -> Option<Way> {
        self.timers.reviewed = true;
        self.channels.iter().find_map(Way::of)
    }

    /// Whether the manager has something to do, or to look at.
    pub(crate) fn is_stirred(&self) -> bool {
        debug_assert!(
            !self.timers.reviewed
                || self.events.is_empty()
                    && self.data.is_empty()
                    && self.manager_requests.is_empty(),
            "what is put into a queue stirs the session"
        );
        !self.timers.reviewed
    }
}

/// The path on which data passes by a session at rest, and whose it is. The manager keeps it where it finds it without
/// a look at the session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    channel: ChannelId,
    epoch: u16,
    path: DirectPath,
}

impl Way {
    /// A channel's, unless data is held back there.
    fn of(channel: &Channel) -> Option<Self> {
        let flows = !channel.paused && !channel.finished;
        let implementation = channel.implementation.as_ref().filter(|_| flows)?;
        Some(Self {
            channel: channel.id,
            epoch: channel.epoch,
            path: implementation.direct()?,
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
            socket: self.path.socket,
        };
        Some((socket, self.path.remote))
    }

    /// The channel whose application gets these datagrams as they are.
    pub(crate) fn arrives(&self, socket: SocketId, datagram: &Datagram) -> Option<ChannelId> {
        let path = &self.path;
        let known = (socket.channel, socket.epoch) == (self.channel, self.epoch)
            && path.socket == datagram.socket
            && path.remote == datagram.source;
        let is_data = |packet: &[u8]| {
            packet
                .first()
                .is_some_and(|first| *first >= path.first_byte)
        };
        let all_data = match datagram.segment_size {
            0 => is_data(&datagram.payload),
            size => datagram.payload.chunks(size).all(is_data),
        };
        (known && all_data).then_some(self.channel)
    }
}
