//! What a channel needs of an implementation of DTLS.

use session_core::SrtpKeys;
use std::{sync::Arc, time::Instant};

/// One end of one connection, without I/O.
///
/// Time is told before anything else happens at a new instant; after each call [`poll`](Self::poll) is called until it
/// says [`Event::Idle`].
pub(super) trait Endpoint: Send {
    /// # Errors
    /// The connection is over.
    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsError>;

    /// A datagram of the peer's, or anybody's.
    ///
    /// # Errors
    /// The connection is over.
    fn handle_datagram(&mut self, datagram: &[u8]) -> Result<(), DtlsError>;

    /// Data for the peer, once connected.
    ///
    /// # Errors
    /// The connection is over.
    fn send(&mut self, data: &[u8]) -> Result<(), DtlsError>;

    /// The last call but `poll`: the peer is told.
    fn close(&mut self);

    /// The next event; what it is about stands at the beginning of `buffer`.
    fn poll(&mut self, buffer: &mut [u8]) -> Event;

    /// The version that is spoken, for people.
    fn version(&self) -> &'static str;
}

/// What an [`Endpoint`] wants or tells. Numbers are bytes in the buffer.
#[derive(Debug)]
pub(super) enum Event {
    /// A datagram for the peer.
    Datagram(usize),
    /// The peer's certificate, in DER. Comes before `Connected`.
    Certificate(usize),
    /// The handshake is over.
    Connected,
    /// Keys for SRTP, when both sides want such. Comes in the same round as `Connected`.
    Keys(SrtpKeys),
    /// Data of the peer.
    Data(usize),
    /// The peer has closed the connection.
    Closed,
    /// The buffer is too small for what comes next, which needs so many bytes.
    TooSmall(usize),
    /// Nothing more; the instant is when time is to be told.
    Idle(Option<Instant>),
}

/// Why a connection is over, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DtlsError(pub(super) Arc<str>);
