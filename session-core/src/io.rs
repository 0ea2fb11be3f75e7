//! Everything the world can do to a manager, and everything a manager can want from the world.

use crate::{
    Datagram, Dialect, Element, Finding, Inquiry, Message, Peer, RequestId, RequestKind, SocketId,
    StanzaError, StreamEvent, StreamTarget,
};
use bytes::Bytes;
use std::{net::SocketAddr, time::Instant};

/// Everything the world can do to us. A recorded `Vec<(Instant, Input)>` is a complete bug report.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Input {
    /// A signalling message. Exactly one [`Output::Reply`] with the same id follows.
    Message {
        /// The driver's number for it.
        id: RequestId,
        /// What it says.
        message: Message,
    },
    /// A request for a transport rather than for the session (an in-band bytestream's data, for example).
    /// Exactly one [`Output::Reply`] with the same id follows, perhaps not at once.
    Request {
        /// The driver's number for it.
        id: RequestId,
        /// Who sent it.
        from: Peer,
        /// To which of our addresses.
        to: Peer,
        /// What it asks.
        payload: Element,
    },
    /// The answer to an [`Output::Message`] or [`Output::Request`]. That there is none, the core notices by itself.
    Reply {
        /// The number that it was sent with.
        id: RequestId,
        /// The answer: the payload of a result, or an error.
        reply: Result<Option<Element>, StanzaError>,
    },
    /// The answer to [`Output::Bind`].
    Bound {
        /// Which socket.
        socket: SocketId,
        /// The address it has now, or why it has none.
        address: Result<SocketAddr, SocketError>,
    },
    /// Something happened to a stream socket.
    Stream {
        /// Which socket.
        socket: SocketId,
        /// What happened.
        event: StreamEvent,
    },
    /// The answer to [`Output::Inquire`].
    Found {
        /// The number that it was asked with.
        inquiry: SocketId,
        /// The answer.
        finding: Finding,
    },
    /// One datagram, or several of equal size that arrived together.
    Datagram {
        /// On which socket.
        socket: SocketId,
        /// From where.
        source: SocketAddr,
        /// The bytes.
        payload: Bytes,
        /// The size of each datagram but the last, when `payload` holds several; 0 when it is one.
        segment_size: usize,
    },
    /// The way for signalling is there, or not (libjingle SignalRequestSignaling/OnSignalingReady).
    Link(bool),
    /// The way for signalling is interrupted, or goes on. It is expected back with nothing lost (XEP-0198): what is said
    /// meanwhile is taken and arrives later, but nobody can answer before, so that no clock of an answer runs. Each
    /// [`Link`](Self::Link) ends it.
    Interrupted(bool),
    /// The instant of [`Output::Wait`] has come, or perhaps.
    Timeout,
}

impl Input {
    /// A [`Datagram`] that arrived on `socket`.
    pub fn datagram(socket: SocketId, datagram: Datagram) -> Self {
        Self::Datagram {
            socket,
            source: datagram.source,
            payload: datagram.payload,
            segment_size: datagram.segment_size,
        }
    }
}

/// Everything we can want from the world. Drain until [`Output::Wait`], which is always the last.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// A signalling message. Its answer comes back as [`Input::Reply`]. The same id may appear again: the message is
    /// then to be sent again as the same request.
    Message {
        /// The core's number for it.
        id: RequestId,
        /// What to say.
        message: Message,
    },
    /// A request of a transport.
    Request {
        /// The core's number for it.
        id: RequestId,
        /// From which of our addresses.
        from: Peer,
        /// Whom to ask.
        to: Peer,
        /// What to ask.
        payload: Element,
        /// Whether whoever is asked answers. If not, [`Input::Reply`] says that it has left.
        kind: RequestKind,
    },
    /// The answer to an [`Input::Message`] or [`Input::Request`]: exactly one for each.
    Reply {
        /// The driver's number of what is answered.
        id: RequestId,
        /// Who asked.
        to: Peer,
        /// In which dialect they asked.
        dialect: &'static Dialect,
        /// The answer.
        reply: Result<Option<Element>, StanzaError>,
    },
    /// Open a UDP socket, or listen for connections. Answered by [`Input::Bound`].
    Bind {
        /// Its number.
        socket: SocketId,
        /// What kind.
        kind: BindKind,
        /// Where. Port 0 lets the system choose.
        address: SocketAddr,
    },
    /// Open a connection. Answered by [`Input::Stream`].
    Connect {
        /// Its number.
        socket: SocketId,
        /// Where to and how.
        target: StreamTarget,
    },
    /// Bytes for a connection, in order.
    Write {
        /// Which connection.
        socket: SocketId,
        /// The bytes.
        payload: Bytes,
    },
    /// Stop reading a connection, or go on.
    Hold {
        /// Which connection.
        socket: SocketId,
        /// Whether to stop. A new connection is read.
        held: bool,
    },
    /// Find something out. Answered by [`Input::Found`]. A driver that cannot says [`Finding::Unavailable`].
    Inquire {
        /// Who asks; as the number of the socket, the number of the question, which is not one of a socket.
        id: SocketId,
        /// What.
        inquiry: Inquiry,
    },
    /// Tell the other end of a connection that nothing more will be written, after what was written before. No answer;
    /// reading goes on.
    Shutdown {
        /// Which connection.
        socket: SocketId,
    },
    /// Close a socket. No answer. What was written before is still to be sent.
    Close {
        /// Which socket.
        socket: SocketId,
    },
    /// One datagram, or several of equal size to one destination.
    Transmit {
        /// From which socket.
        socket: SocketId,
        /// Where to.
        destination: SocketAddr,
        /// The bytes.
        payload: Bytes,
        /// The size of each datagram but the last, when `payload` holds several; 0 when it is one.
        segment_size: usize,
    },
    /// Nothing is left to do before this instant, or before the next input.
    Wait(Option<Instant>),
}

/// What [`Output::Bind`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BindKind {
    /// A UDP socket.
    Udp,
    /// A TCP socket that accepts connections.
    TcpListener,
    /// A TCP port from which connections are opened ([`StreamTarget::from`](crate::StreamTarget::from)) and which takes
    /// none: for simultaneous opens (RFC 6544 §4.1), where the other side has to know it before.
    TcpReserved,
}

/// Why a socket could not be had or did not last.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {why}")]
pub struct SocketError {
    /// What was tried.
    pub what: &'static str,
    /// The system's word for the failure.
    pub why: std::sync::Arc<str>,
}
