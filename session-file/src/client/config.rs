//! How tunnels behave, and what is said about them.

use crate::Tunnel;
use session_core::{Cause, ChannelLayer, Misuse, Peer, Reason, SessionId};
use std::{fmt, sync::Arc, time::Duration};
use thiserror::Error;

/// How tunnels behave.
#[derive(Clone)]
pub struct TunnelConfig {
    /// Makes a stream of a transport that carries datagrams. Tunnels to libjingle use PseudoTCP
    /// (`transport_p2p`); `None` where only streaming transports are registered.
    pub layer: Option<Arc<dyn ChannelLayer>>,
    /// How long a sender whose file was delivered waits for the receiver to end the session. One that knows the end of
    /// a stream does so when its application has read it, which tells the sender more than any acknowledgement;
    /// libjingle's never does. Default 1 s.
    pub linger: Duration,
    /// Bounds.
    pub limits: TunnelLimits,
}

impl TunnelConfig {
    /// The defaults, with this layer.
    pub fn new(layer: Arc<dyn ChannelLayer>) -> Self {
        Self {
            layer: Some(layer),
            ..Self::default()
        }
    }
}

impl Default for TunnelConfig {
    fn default() -> Self {
        Self {
            layer: None,
            linger: Duration::from_secs(1),
            limits: TunnelLimits::default(),
        }
    }
}

/// Bounds of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TunnelLimits {
    /// Bytes of one tunnel that wait to be sent, at least 1. Default 1 MiB.
    pub send_bytes: usize,
    /// Bytes of one tunnel that wait to be read, beyond which the peer is held back. What the transport holds by then
    /// may come on top. Default 1 MiB.
    pub receive_bytes: usize,
    /// Tunnels at a time, those included that are over and not released. Default 1,024.
    pub streams: usize,
    /// Offers of peers that wait for our decision; further ones are declined as busy. Default 16.
    pub offers: usize,
}

impl Default for TunnelLimits {
    fn default() -> Self {
        Self {
            send_bytes: 1 << 20,
            receive_bytes: 1 << 20,
            streams: 1_024,
            offers: 16,
        }
    }
}

/// A tunnel that a peer offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The session.
    pub session: SessionId,
    /// Who offers it.
    pub from: Peer,
    /// What for. The name in it is the peer's: see [`sanitize_name`](crate::sanitize_name).
    pub tunnel: Tunnel,
}

/// What a policy says to an [`Offer`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The application decides, by [`accept`](crate::TunnelClient::accept) or [`decline`](crate::TunnelClient::decline).
    #[default]
    Ask,
    /// Accepted at once.
    Accept,
    /// Declined at once, for this reason.
    Decline(Reason),
}

/// Why a call on a tunnel was not possible. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TunnelError {
    /// No [`TunnelClient`](crate::TunnelClient) is registered with the manager.
    #[error("no client for tunnels is registered")]
    NoClient,
    /// There is no such tunnel, or it was released.
    #[error("there is no tunnel {0}")]
    Unknown(SessionId),
    /// The offer was decided, or it was ours.
    #[error("tunnel {0} is not an offer that waits for a decision")]
    NotOffered(SessionId),
    /// The session was used for a tunnel already.
    #[error("session {0} has its tunnel already")]
    InUse(SessionId),
    /// More than we keep.
    #[error("more than {max} {limit}")]
    TooMany {
        /// The name of the limit in [`TunnelLimits`].
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// Our direction was finished.
    #[error("nothing can be written after the end")]
    Finished,
    /// The tunnel is over.
    #[error("the tunnel is over: {0}")]
    Ended(Cause),
    /// The session does not allow it.
    #[error(transparent)]
    Session(#[from] Misuse),
}

impl fmt::Debug for TunnelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelConfig")
            .field("layer", &self.layer.is_some())
            .field("limits", &self.limits)
            .finish()
    }
}
