//! Names of things: peers, sessions, channels, sockets and requests.

use std::{fmt, sync::Arc};

/// Who is at one end of a session: an address as normalised text.
///
/// The core compares peers and never looks into them, with one exception: the text up to the first `/`
/// is the *account*, what follows is the *device*. `session-xmpp` fills it with a normalised JID, whose
/// bare form is the account and whose resource is the device.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Peer(Arc<str>);

impl Peer {
    /// The whole address.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The address without its device.
    pub fn account(&self) -> &str {
        self.0
            .split_once('/')
            .map_or(&*self.0, |(account, _)| account)
    }

    /// The part after the first `/`, if there is one.
    pub fn device(&self) -> Option<&str> {
        self.0.split_once('/').map(|(_, device)| device)
    }
}

impl From<&str> for Peer {
    fn from(address: &str) -> Self {
        Self(address.into())
    }
}

impl From<String> for Peer {
    fn from(address: String) -> Self {
        Self(address.into())
    }
}

impl AsRef<str> for Peer {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&*self.0, f)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A session's place in its [`SessionManager`](crate::SessionManager): small, copyable, never used twice.
///
/// What travels on the wire is [`Session::sid`](crate::Session::sid).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.slot, self.generation)
    }
}

/// The number of a channel within its session. Numbers are not used twice within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u32);

/// A channel's own number for one of its sockets.
///
/// Channels number what they ask for below [`LocalSocket::FIRST_ACCEPTED`]; connections that a listening
/// socket accepts are numbered by the driver from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LocalSocket(pub u32);

impl LocalSocket {
    /// The first number that a driver gives to an accepted connection.
    pub const FIRST_ACCEPTED: u32 = 1 << 31;
}

/// `SLOT.GENERATION/CHANNEL.SOCKET`, for people.
impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (session, socket) = (self.session, self.socket.0);
        write!(f, "{session}/{}.{socket}", self.channel.0)
    }
}

/// A socket of the whole manager: which session, which channel, the channel's own number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    pub(crate) session: SessionId,
    pub(crate) channel: ChannelId,
    /// Counts the transports that the channel has had: what arrives for an earlier one is dropped.
    pub(crate) epoch: u16,
    /// The channel's own number.
    pub socket: LocalSocket,
}

impl SocketId {
    /// The session that asked for this socket.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The channel that asked for this socket.
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The same session and channel, another of its sockets: what a driver uses to number an accepted connection.
    #[must_use]
    pub fn sibling(self, socket: LocalSocket) -> Self {
        Self { socket, ..self }
    }
}

/// Ties an answer to what it answers, in both directions.
///
/// For what leaves, the core numbers (`Output::Message`), and `Input::Reply` brings the number back. For what
/// arrives, the driver numbers (`Input::Message`), and `Output::Reply` brings it back. The two directions are
/// separate number spaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// Which side of a session one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Sent the session-initiate.
    Initiator,
    /// Received it.
    Responder,
}

impl Role {
    /// The other side.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Initiator => Self::Responder,
            Self::Responder => Self::Initiator,
        }
    }

    /// The attribute value of `creator` (XEP-0166 §7.3).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initiator => "initiator",
            Self::Responder => "responder",
        }
    }
}
