//! What a transport author implements: [`TransportFactory`], [`Transport`], [`TransportChannel`].
//!
//! A factory is registered once and holds configuration. It makes a [`Transport`] for each content, which negotiates.
//! The transport makes a [`TransportChannel`] for each named channel, which carries data. None of them sees a socket,
//! a clock or a task: a channel numbers the sockets that it wants, and everything arrives as a call.
//!
//! # Writing a transport
//! 1. Implement [`TransportFactory`]: a namespace, a [`TransportKind`], and `create`.
//! 2. Implement [`Transport`]: what you offer, what you accept, and how a channel's messages are wrapped. The provided
//!    [`wrap_info`](Transport::wrap_info) and [`split_info`](Transport::split_info) put each message as a child with a
//!    `name` attribute into a `<transport/>`.
//! 3. Implement [`TransportChannel`]: a state machine that answers every call by queueing [`ChannelOutput`]s.
//! 4. Call `session_core::testing::conformance` from a test.
//!
//! A transport with I/O of its own runs it elsewhere, shares a queue with its channel and wakes
//! [`TransportContext::waker`]; the driver then polls.

use crate::{
    BindKind, Dialect, Element, Finding, Inquiry, Peer, PeerError, Role, Secured, SocketError,
    StanzaError, TransportError,
};
use crate::{LocalSocket, SendError};
use bytes::Bytes;
use std::{
    fmt,
    net::SocketAddr,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

/// Makes a [`Transport`] for each content; registered once, looked up by namespace.
pub trait TransportFactory: Send + Sync {
    /// The namespace of the `<transport/>` element: the key of the negotiation.
    fn namespace(&self) -> &str;

    /// What its channels carry.
    fn kind(&self) -> TransportKind;

    /// A transport for one content of one session.
    fn create(&self, context: &TransportContext) -> Box<dyn Transport>;

    /// What a request in this transport's words is answered that no channel took. `None` when the words are others'.
    fn unclaimed_request(&self, payload: &Element) -> Option<PeerError> {
        let _ = payload;
        None
    }

    /// Whether the transport can be used in this dialect. A Google dialect does not know ice-udp, for example.
    fn supports(&self, dialect: &Dialect) -> bool {
        let _ = dialect;
        true
    }
}

/// What channels of a transport carry, in the terms of XEP-0166 §4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TransportKind {
    /// Datagrams: they may be lost, doubled and reordered.
    Datagram,
    /// A reliable stream of bytes.
    Streaming,
}

/// The negotiation of one transport for one content.
pub trait Transport: Send {
    /// The namespace of its factory.
    fn namespace(&self) -> &str;

    /// What we put into the offer. Called again when the offer is made again.
    fn offer(&mut self) -> Element;

    /// Judges the peer's offer; the `Ok` value is our answer. Candidates in the offer come separately, by
    /// [`split_info`](Self::split_info). After an `Err` it may be called again, with another offer.
    ///
    /// # Errors
    /// Why we cannot work with it; the next transport is tried.
    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError>;

    /// Judges the peer's answer to our offer. After an `Err` it may be called again, with another answer. Channels that
    /// have begun before are asked for outputs afterwards.
    ///
    /// # Errors
    /// Why we cannot work with it.
    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError>;

    /// The offer went to an account, and this device of it is the peer from now on. What the offer said stands. Channels
    /// are asked for outputs afterwards, once each has been told, too. The default is for transports that do not need the
    /// peer's address.
    fn handle_remote(&mut self, remote: &Peer) {
        let _ = remote;
    }

    /// The data plane of one named channel. The session owns it and drives it.
    ///
    /// # Errors
    /// When the transport has no room for it.
    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError>;

    /// Puts what channels want to say ([`ChannelOutput::Info`]) into one `<transport/>`. With a dialect that does not
    /// batch, `infos` has one item.
    fn wrap_info(&mut self, infos: Vec<(Arc<str>, Element)>) -> Element {
        Element::new(self.namespace(), "transport").children_from(
            infos
                .into_iter()
                .map(|(name, info)| info.with("name", name)),
        )
    }

    /// Takes a `<transport/>` apart: for whom is what. Nothing is applied before the whole of it was understood. Of an offer
    /// or an answer this comes before [`accept_offer`](Self::accept_offer) or [`accept_answer`](Self::accept_answer), or
    /// after it: neither may rely on the other, which may still refuse.
    ///
    /// Children of other namespaces are to be passed over: they are for layers ([`LayerNegotiation`](crate::LayerNegotiation))
    /// that we do not have, or have not here.
    ///
    /// # Errors
    /// What is wrong; then no part of it is applied.
    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        Ok(info
            .children()
            .filter(|child| child.namespace() == self.namespace())
            .map(|child| {
                let target = match child.attribute("name") {
                    Some(name) => InfoTarget::Channel(name.into()),
                    None => InfoTarget::All,
                };
                (target, child.to_element())
            })
            .collect())
    }

    /// Whether its channels say when they know all their candidates ([`ChannelOutput::Gathered`]), so that an offer with
    /// candidates can wait for that.
    fn gathers(&self) -> bool {
        false
    }

    /// The peer answered a `<transport/>` that [`wrap_info`](Self::wrap_info) had made: it took it, or refused it. Silence
    /// is not told. Channels are asked for outputs afterwards.
    fn handle_info_reply(&mut self, info: &Element, reply: Result<(), &StanzaError>, now: Instant) {
        let _ = (info, reply, now);
    }
}

/// For whom a part of a `<transport/>` is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InfoTarget {
    /// The channel with this name. Kept for a while when it does not exist yet.
    Channel(Arc<str>),
    /// Every channel there is.
    All,
}

/// One logical flow of packets or bytes: a state machine, driven by its session.
///
/// # For implementers
/// After each call, or after several that are made in one go ([`connect`](Self::connect) with [`pause`](Self::pause) and
/// [`finish`](Self::finish)), and after waking the [`Waker`], the session drains [`poll_output`](Self::poll_output) and then
/// asks [`poll_timeout`](Self::poll_timeout). What comes from the network may be anything: no panic, no unbounded memory.
/// Every socket that was asked for is closed by the session when the channel goes; there is no need to emit
/// [`ChannelOutput::Close`] then.
pub trait TransportChannel: Send {
    /// Start. May come before the peer has answered. Called once.
    fn connect(&mut self, now: Instant);

    /// A message of the peer's channel of the same name.
    ///
    /// # Errors
    /// What is wrong with it; then nothing of it is applied.
    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError>;

    /// The answer to [`ChannelOutput::Bind`].
    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    );

    /// One datagram, or a batch.
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant);

    /// Something happened to a stream socket of this channel.
    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        let _ = (socket, event, now);
    }

    /// The answer to [`ChannelOutput::Inquire`].
    fn handle_finding(&mut self, inquiry: u32, finding: Finding, now: Instant) {
        let _ = (inquiry, finding, now);
    }

    /// As [`Transport::handle_remote`], for channels that were created before.
    fn handle_remote(&mut self, remote: &Peer) {
        let _ = remote;
    }

    /// A request of the peer that may be for this channel. `None` when it is not.
    fn handle_request(
        &mut self,
        from: &Peer,
        payload: &Element,
        now: Instant,
    ) -> Option<RequestAnswer> {
        let _ = (from, payload, now);
        None
    }

    /// The answer to [`ChannelOutput::Request`]; an `Err` also when none came.
    fn handle_response(
        &mut self,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
        now: Instant,
    ) {
        let _ = (token, response, now);
    }

    /// The instant of [`poll_timeout`](Self::poll_timeout) has come.
    fn handle_timeout(&mut self, now: Instant);

    /// Sends a datagram, or the next bytes of a stream.
    ///
    /// # Errors
    /// The packet was not taken; see [`SendError`].
    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError>;

    /// Sends several datagrams of equal size. The default sends them one by one and stops at the first that is refused.
    ///
    /// # Errors
    /// As [`send`](Self::send). Datagrams before the refused one were taken.
    fn send_batch(&mut self, batch: Batch, now: Instant) -> Result<(), SendError> {
        batch
            .into_iter()
            .try_for_each(|packet| self.send(packet, now))
    }

    /// Stop or resume handing out received bytes. A stream holds its peer back; a datagram channel may ignore it.
    fn pause(&mut self, paused: bool, now: Instant) {
        let _ = (paused, now);
    }

    /// Nothing more will be sent: a stream tells the peer once everything has arrived, and us by
    /// [`ChannelOutput::Delivered`].
    fn finish(&mut self, now: Instant) {
        let _ = now;
    }

    /// The session lets go of it: the last call. What it transmits or writes in answer still leaves, to give back what
    /// it holds elsewhere; every other output is ignored. A layer passes it on to what is below.
    fn close(&mut self) {}

    /// When [`handle_timeout`](Self::handle_timeout) is due; `None` when nothing is pending.
    fn poll_timeout(&self) -> Option<Instant>;

    /// The next thing this channel wants.
    fn poll_output(&mut self) -> Option<ChannelOutput>;

    /// The path on which datagrams of the application pass as they are, while there is one. Asked for after each call;
    /// as long as it stands, what goes along it need not pass the channel, so that nothing that the channel does may
    /// depend on having seen it. A layer that passes datagrams on as they are may answer what the channel below answers,
    /// with a higher [`first_byte`](DirectPath::first_byte); the default is for all others.
    fn direct(&self) -> Option<DirectPath> {
        None
    }

    /// The largest datagram that leaves this host on the path in use, in bytes: what the network interface takes. The rest
    /// of the path may carry less. `None` when it is not known, which is the default, and of streams.
    fn datagram_max(&self) -> Option<usize> {
        None
    }

    /// The round trip of the path in use, as it was measured last; `None` when none was, which is the default.
    fn round_trip(&self) -> Option<Duration> {
        None
    }

    /// A line for people about the path in use.
    fn describe(&self) -> Option<String> {
        None
    }

    /// The paths that were tried or are being tried, for traces. The default knows none.
    fn report(&self) -> Vec<PathReport> {
        Vec::new()
    }
}

/// A path on which datagrams of the application pass as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DirectPath {
    /// The channel's own number of the UDP socket.
    pub socket: LocalSocket,
    /// The peer's address. What comes from elsewhere is for the channel.
    pub remote: SocketAddr,
    /// What arrives is the application's if its first byte is this or higher; otherwise it is for the channel.
    pub first_byte: u8,
}

/// One way that a channel tries, for people and for traces: a pair of candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathReport {
    /// Our end: what kind of address, and which.
    pub local: String,
    /// The peer's end.
    pub remote: String,
    /// How far it has come, in one or two words.
    pub state: String,
    /// Why it is there, in a few words.
    pub detail: String,
}

/// Everything a channel can want from the world.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelOutput {
    /// Tell the peer's channel of the same name (becomes transport-info).
    Info(Element),
    /// Ask somebody something that is not signalling (an in-band bytestream, a proxy). Answered by
    /// [`TransportChannel::handle_response`] with the same token.
    Request {
        /// The channel's own number for it.
        token: u32,
        /// Whom to ask; `None` is the session's peer.
        to: Option<Peer>,
        /// What to ask.
        payload: Element,
        /// Whether an answer is expected.
        kind: RequestKind,
        /// How long the answer may take; `None` is [`Clocks::answer`](crate::Clocks::answer).
        patience: Option<Duration>,
    },
    /// The answer to a request of the peer for which [`RequestAnswer::Later`] was said, by its number.
    Answer {
        /// The channel's own number for it.
        token: u32,
        /// The answer.
        answer: Result<Option<Element>, PeerError>,
    },
    /// Open a UDP socket or a listener. Answered by [`TransportChannel::handle_bound`].
    Bind(LocalSocket, BindKind, SocketAddr),
    /// Open a connection. Answered by [`TransportChannel::handle_stream`].
    Connect(LocalSocket, StreamTarget),
    /// Bytes for a connection.
    Write(LocalSocket, Bytes),
    /// Stop reading a connection (`true`), or go on: so a stream that was [paused](TransportChannel::pause) holds its
    /// peer back.
    Hold(LocalSocket, bool),
    /// No [`Info`](Self::Info) is to be expected for now: all candidates are known. Of interest when they travel in the
    /// offer. Only of channels whose transport [gathers](Transport::gathers).
    Gathered,
    /// Find something out. Answered by [`TransportChannel::handle_finding`] with the same number, which is the channel's
    /// own.
    Inquire(u32, Inquiry),
    /// Nothing more will be written to a connection: its other end is told so ([`StreamEvent::Finished`]) once what was
    /// written before has left. Reading goes on.
    Shutdown(LocalSocket),
    /// Close a socket.
    Close(LocalSocket),
    /// Datagrams for the network.
    Transmit(Transmit),
    /// Datagrams, or bytes of the stream, for the application.
    Packet(Batch),
    /// The channel can carry data, or can no longer. The first `true` means that a path is there.
    Writable(bool),
    /// The path came or went, independent of [`Writable`](Self::Writable), which also says "the buffer is full". A
    /// channel that never emits it has its path whenever it is writable.
    Path(bool),
    /// The peer will send nothing more on this stream.
    Finished,
    /// After [`TransportChannel::finish`]: everything that was sent has reached the peer, as far as the protocol can
    /// tell, and with it the end of the stream where the protocol has a word for that. Once.
    Delivered,
    /// A layer has proved who is at the other end, and protects what passes, or hands keys upward with which others do.
    /// Comes before [`Writable`](Self::Writable), and again when what it says has changed.
    Secured(Secured),
    /// The channel is of no more use. Nothing follows but what it had received and held back, which is asked for by
    /// [`TransportChannel::pause`] with `false`.
    Failed(TransportError),
}

/// Whether a request is answered by whom it is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RequestKind {
    /// It is asked, and answered (an iq stanza).
    #[default]
    Query,
    /// It is told (a message stanza). The response is an empty result once the way for signalling has taken it, so that
    /// a sender is held back by that; or an error, ours or the peer's, which may come after it and is then ignored.
    Notice,
}

/// What a channel says to a request of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestAnswer {
    /// This, at once.
    Now(Result<Option<Element>, PeerError>),
    /// It will be told by [`ChannelOutput::Answer`] with this number of the channel's own. That is how a channel holds
    /// back a peer that waits for answers. When the channel goes first, the peer is told that there is none.
    Later(u32),
}

/// What a factory is told about the content for which it creates a transport.
#[derive(Clone, Debug)]
pub struct TransportContext {
    /// Which side of the session we are.
    pub role: Role,
    /// Our address.
    pub local: Peer,
    /// The peer's address, as known now.
    pub remote: Peer,
    /// The session's name on the wire.
    pub sid: Arc<str>,
    /// The content's name.
    pub content: Arc<str>,
    /// The session's vocabulary.
    pub dialect: &'static Dialect,
    /// Fresh randomness, for credentials and identifiers.
    pub seed: [u8; 32],
    /// For transports with I/O of their own: wake it, and the driver polls again.
    pub waker: Waker,
}

/// One datagram that arrived, or several of equal size that arrived together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// On which of the channel's sockets.
    pub socket: LocalSocket,
    /// From where.
    pub source: SocketAddr,
    /// The bytes.
    pub payload: Bytes,
    /// The size of each but the last, when there are several; 0 when there is one.
    pub segment_size: usize,
}

impl Datagram {
    /// The datagrams in it.
    pub fn batch(self) -> Batch {
        Batch {
            payload: self.payload,
            segment_size: self.segment_size,
        }
    }
}

/// One datagram to send, or several of equal size to one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From which of the channel's sockets.
    pub socket: LocalSocket,
    /// Where to.
    pub destination: SocketAddr,
    /// The bytes.
    pub payload: Bytes,
    /// The size of each but the last, when there are several; 0 when there is one.
    pub segment_size: usize,
}

/// Packets in one buffer: all of the same size but the last, which may be shorter.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    /// The packets, one after another.
    pub payload: Bytes,
    /// The size of each; 0 when `payload` is a single packet.
    pub segment_size: usize,
}

impl Batch {
    /// How many packets there are.
    pub fn len(&self) -> usize {
        if self.segment_size == 0 {
            1
        } else {
            self.payload.len().div_ceil(self.segment_size)
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl From<Bytes> for Batch {
    fn from(payload: Bytes) -> Self {
        Self {
            payload,
            segment_size: 0,
        }
    }
}

/// Takes the packets out one by one, without copying.
impl Iterator for Batch {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if self.segment_size == 0 {
            // An exhausted batch is one of segments, none of which is left.
            self.segment_size = 1;
            return Some(std::mem::take(&mut self.payload));
        }
        let size = self.segment_size.min(self.payload.len());
        (size > 0).then(|| self.payload.split_to(size))
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Batch({} bytes by {})",
            self.payload.len(),
            self.segment_size
        )
    }
}

/// Where a stream socket is to connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamTarget {
    /// The address.
    pub address: SocketAddr,
    /// TLS, when wanted.
    pub tls: Option<TlsTarget>,
    /// From which address of ours, when that matters: one that was bound as
    /// [`BindKind::TcpReserved`](crate::BindKind::TcpReserved).
    pub from: Option<SocketAddr>,
}

impl StreamTarget {
    /// In clear, from any port of ours.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            tls: None,
            from: None,
        }
    }
}

/// Whom TLS is to find at the other end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsTarget {
    /// The name that the certificate must be for.
    pub server_name: Arc<str>,
    /// Application protocols offered, most preferred first.
    pub alpn: Vec<Arc<str>>,
}

/// What can happen to a stream socket.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamEvent {
    /// The connection stands (with TLS where wanted); our own address. Or it failed.
    Connected(Result<SocketAddr, SocketError>),
    /// A listening socket accepted a connection, which has this number from now on.
    Accepted {
        /// Its number: [`LocalSocket::FIRST_ACCEPTED`] or above.
        connection: LocalSocket,
        /// From where.
        remote: SocketAddr,
    },
    /// Bytes, in order.
    Data(Bytes),
    /// How many bytes written so far have not left: a channel holds back above its own mark. Comes each time that some
    /// have left, so that a channel may add what it writes in between.
    Buffered(usize),
    /// The peer will send nothing more.
    Finished,
    /// The connection is gone.
    Closed(Option<SocketError>),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_comes_apart_into_its_packets() {
        let packets = |payload: &'static [u8], segment_size| {
            Batch {
                payload: Bytes::from_static(payload),
                segment_size,
            }
            .map(|p| p.to_vec())
            .collect::<Vec<_>>()
        };
        assert_eq!(
            packets(b"abcdefg", 3),
            [b"abc".to_vec(), b"def".to_vec(), b"g".to_vec()]
        );
        assert_eq!(packets(b"abcdef", 3).len(), 2);
        assert_eq!(packets(b"abc", 0), [b"abc".to_vec()]);
        assert_eq!(
            packets(b"", 0),
            [b"".to_vec()],
            "an empty datagram is a datagram"
        );
        assert!(packets(b"", 3).is_empty());
        assert_eq!(Batch::from(Bytes::from_static(b"abc")).len(), 1);
    }
}
