//! How things are shared, and what is said about it.

use crate::{Share, ShareRequest};
use bytes::Bytes;
use session_core::{ChannelLayer, Misuse, Peer, Reason, SessionId};
use std::{fmt, sync::Arc, time::Duration};
use thiserror::Error;

/// How things are shared.
#[derive(Clone)]
pub struct ShareConfig {
    /// Makes a stream of a transport that carries datagrams; `None` where only streaming transports are registered.
    pub layer: Option<Arc<dyn ChannelLayer>>,
    /// How long a receiver that has everything waits for the sender to end the session. Default 10 s.
    pub linger: Duration,
    /// Bounds.
    pub limits: ShareLimits,
}

impl ShareConfig {
    /// The defaults, with this layer.
    pub fn new(layer: Arc<dyn ChannelLayer>) -> Self {
        Self {
            layer: Some(layer),
            ..Self::default()
        }
    }
}

impl Default for ShareConfig {
    fn default() -> Self {
        Self {
            layer: None,
            linger: Duration::from_secs(10),
            limits: ShareLimits::default(),
        }
    }
}

impl fmt::Debug for ShareConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShareConfig")
            .field("layer", &self.layer.is_some())
            .field("linger", &self.linger)
            .field("limits", &self.limits)
            .finish()
    }
}

/// Bounds of shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareLimits {
    /// Sessions at a time, those included that are over and not released. Default 256.
    pub sessions: usize,
    /// Offers that wait for our decision; further ones are declined as busy. Default 16.
    pub offers: usize,
    /// Channels of a session. Default 8.
    pub channels: usize,
    /// Bytes of one channel that wait to be sent, at least 16 KiB. Default 1 MiB.
    pub send_bytes: usize,
    /// Bytes of one channel that wait to be read, beyond which the peer is held back. Default 1 MiB.
    pub receive_bytes: usize,
    /// Most bytes that are taken of something whose size the manifest does not say. Default 4 GiB.
    pub unsized_bytes: u64,
}

impl Default for ShareLimits {
    fn default() -> Self {
        Self {
            sessions: 256,
            offers: 16,
            channels: 8,
            send_bytes: 1 << 20,
            receive_bytes: 1 << 20,
            unsized_bytes: 4 << 30,
        }
    }
}

/// Something that a peer offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShareOffer {
    /// The session.
    pub session: SessionId,
    /// Who offers.
    pub from: Peer,
    /// What.
    pub share: Share,
}

/// What a policy says to an offer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ShareVerdict {
    /// The application decides.
    #[default]
    Ask,
    /// It is accepted.
    Accept,
    /// It is declined.
    Decline(Reason),
}

/// How far a share is (libjingle `FileShareState`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareState {
    /// It is offered; previews can be fetched.
    Offer,
    /// It is accepted.
    Transfer,
    /// The receiver has everything.
    Complete,
    /// We have ended it.
    LocalCancel,
    /// The peer has ended it.
    RemoteCancel,
    /// Something was wrong.
    Failure,
}

impl ShareState {
    /// Whether nothing more happens.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Offer | Self::Transfer)
    }
}

/// What has changed in a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShareChange {
    /// Its state.
    State(ShareState),
    /// The receiver asks for something.
    Asked,
    /// There is something to read.
    Readable,
    /// There is room to write.
    Writable,
}

/// Something that is fetched, or served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareFetch {
    /// The session.
    pub session: SessionId,
    /// Which of the session's, as this side counts.
    pub number: u32,
}

/// Something that a receiver asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShareDemand {
    /// What to answer to.
    pub id: ShareFetch,
    /// What is wanted.
    pub request: ShareRequest,
}

/// What there is of something that is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ShareRead {
    /// The next bytes.
    Bytes(Bytes),
    /// Nothing now.
    Pending,
    /// That was all of it.
    End,
    /// The sender does not have it, or makes no preview of it.
    Missing,
    /// It will not come.
    Broken,
}

/// Why a call about a share was not possible. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ShareError {
    /// No [`ShareClient`](crate::ShareClient) is registered with the manager.
    #[error("no client for shares is registered")]
    NoClient,
    /// There is no such session, or it was released.
    #[error("there is no session {0} that shares something")]
    UnknownSession(SessionId),
    /// The session was used already.
    #[error("session {0} shares something already")]
    InUse(SessionId),
    /// Nothing of this number is fetched or served.
    #[error("number {} of session {} is not fetched or served", .0.number, .0.session)]
    Unknown(ShareFetch),
    /// It was decided already, or it was ours.
    #[error("session {0} does not wait for a decision")]
    NotOffered(SessionId),
    /// The sender serves, and the receiver fetches.
    #[error("that is for the other side to do")]
    WrongWay,
    /// There is no such item, or no preview of it, or items can be fetched only when the share is accepted.
    #[error("that cannot be fetched")]
    NotThere,
    /// More than we keep.
    #[error("more than {max} {limit}")]
    TooMany {
        /// The name of the limit in [`ShareLimits`].
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// Another number of bytes than was said.
    #[error("another number of bytes than was said")]
    Length,
    /// The session does not allow it.
    #[error(transparent)]
    Session(#[from] Misuse),
}
