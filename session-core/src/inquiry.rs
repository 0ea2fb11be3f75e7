//! What a channel can ask of its host beside sockets: names on the local network, and ports of a router.

use crate::LocalSocket;
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// A question to the host that runs a channel. Answered by a [`Finding`], perhaps late, perhaps never.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Inquiry {
    /// The address behind a `.local` name, by multicast DNS (RFC 6762): the peer hides its own like this
    /// (draft-ietf-mmusic-mdns-ice-candidates §3.2). Answered by [`Finding::Address`].
    LocalName(Arc<str>),
    /// A `.local` name that says nothing about this address of ours, announced as long as the session lasts
    /// (draft-ietf-mmusic-mdns-ice-candidates §3.1). Answered by [`Finding::Name`].
    HideAddress(IpAddr),
    /// A port of the router in front of us that leads to this socket of the channel, kept as long as the socket (RFC 6887,
    /// RFC 6886, UPnP IGD). Answered by [`Finding::Mapped`].
    MapPort(LocalSocket),
}

/// The answer to an [`Inquiry`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Finding {
    /// The name has this address.
    Address(IpAddr),
    /// The address has this name.
    Name(Arc<str>),
    /// Who sends to this address reaches the socket.
    Mapped(SocketAddr),
    /// There is no answer, or the host does not do this.
    Unavailable,
}
