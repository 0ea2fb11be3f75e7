//! The data plane of both vocabularies: one socket, one peer.

use super::Settings;
use bytes::Bytes;
use session_core::{
    Batch, BindKind, ChannelOutput, Datagram, Element, LocalSocket, SendError, SocketError,
    Transmit, TransportChannel, TransportError,
};
use std::{collections::VecDeque, net::SocketAddr, time::Instant};

/// The largest payload of a UDP datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;

/// How many datagrams or batches may wait to be polled; past it a send is refused.
const SEND_QUEUE_MAX: usize = 256;

const SOCKET: LocalSocket = LocalSocket(0);

/// How a vocabulary says where a channel is.
pub(super) trait Words: Send {
    /// What is told to the peer's channel; `None` if it knows already.
    fn say(&self, address: SocketAddr) -> Option<Element>;

    /// What the peer's channel says; `None` if it is not about this channel.
    fn read(&self, info: &Element) -> Result<Option<Said>, TransportError>;
}

/// What a peer said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) address: SocketAddr,
    /// A higher one replaces a lower one.
    pub(super) generation: u32,
}

pub(super) struct RawChannel<W> {
    words: W,
    settings: Settings,
    index: u16,
    bound: bool,
    said: Option<Said>,
    /// Where the peer is: what it said, but for the port that a NAT gives it.
    peer: Option<SocketAddr>,
    latch: Latch,
    writable: bool,
    failed: bool,
    outputs: VecDeque<ChannelOutput>,
    /// How many of the outputs are to be sent.
    queued: usize,
}

/// Whether the peer may send from another port than it said: a symmetric NAT gives it a new one towards us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Latch {
    /// No.
    Never,
    /// The first datagram from the peer's host decides about the port.
    Open,
    /// It has come.
    Shut,
}

impl<W: Words> RawChannel<W> {
    pub(super) fn new(words: W, settings: Settings, index: u16, latch: Latch) -> Self {
        Self {
            words,
            settings,
            index,
            bound: false,
            said: None,
            peer: None,
            latch,
            writable: false,
            failed: false,
            outputs: VecDeque::new(),
            queued: 0,
        }
    }

    /// Takes over what the peer says; the latest of the highest generation counts.
    pub(super) fn learn(&mut self, said: Said) -> Result<(), TransportError> {
        self.settings.judge(said.address)?;
        let old = self
            .said
            .is_some_and(|known| known.generation > said.generation || known == said);
        if !old {
            self.said = Some(said);
            self.peer = Some(said.address);
            if self.latch == Latch::Shut {
                self.latch = Latch::Open;
            }
            self.review();
        }
        Ok(())
    }

    fn is_up(&self) -> bool {
        self.bound && self.peer.is_some() && !self.failed
    }

    fn review(&mut self) {
        if self.is_up() && !self.writable {
            self.outputs.push_back(ChannelOutput::Path(true));
            self.tell_writable(true);
        }
    }

    fn tell_writable(&mut self, writable: bool) {
        if self.writable != writable {
            self.writable = writable;
            self.outputs.push_back(ChannelOutput::Writable(writable));
        }
    }

    fn fail(&mut self, error: TransportError) {
        if !self.failed {
            self.failed = true;
            self.outputs.push_back(ChannelOutput::Failed(error));
        }
    }

    /// Whether a datagram from there is the peer's.
    fn knows(&mut self, source: SocketAddr) -> bool {
        let source = SocketAddr::new(source.ip().to_canonical(), source.port());
        let Some(peer) = &mut self.peer else {
            return false;
        };
        if peer.ip() == source.ip() && self.latch == Latch::Open {
            self.latch = Latch::Shut;
            *peer = source;
        }
        *peer == source
    }
}

impl<W: Words> TransportChannel for RawChannel<W> {
    fn connect(&mut self, _: Instant) {
        let address = self.settings.bind(self.index);
        self.outputs
            .push_back(ChannelOutput::Bind(SOCKET, BindKind::Udp, address));
    }

    fn handle_info(&mut self, info: &Element, _: Instant) -> Result<(), TransportError> {
        self.words
            .read(info)?
            .map_or(Ok(()), |said| self.learn(said))
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        _: Instant,
    ) {
        if self.failed || self.bound || socket != SOCKET {
            return;
        }
        let told = match address {
            Ok(address) => self.settings.told(self.index, address).ok_or_else(|| {
                TransportError::NoResource("no address that the peer could be told".into())
            }),
            Err(error) => Err(TransportError::NoResource(error.to_string().into())),
        };
        match told {
            Ok(told) => {
                self.bound = true;
                let info = self.words.say(told).map(ChannelOutput::Info);
                self.outputs.extend(info);
                self.review();
            }
            Err(error) => self.fail(error),
        }
    }

    fn handle_datagram(&mut self, datagram: Datagram, _: Instant) {
        if self.bound && !self.failed && datagram.socket == SOCKET && self.knows(datagram.source) {
            self.outputs
                .push_back(ChannelOutput::Packet(datagram.batch()));
        }
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        self.send_batch(packet.into(), now)
    }

    fn send_batch(&mut self, batch: Batch, _: Instant) -> Result<(), SendError> {
        if self.failed {
            return Err(SendError::NoSuchChannel);
        }
        let largest = match batch.segment_size {
            0 => batch.payload.len(),
            size => size.min(batch.payload.len()),
        };
        if largest > DATAGRAM_MAX {
            return Err(SendError::TooLarge);
        }
        let Some(peer) = self.peer.filter(|_| self.bound) else {
            return Err(SendError::NotWritable);
        };
        if self.queued >= SEND_QUEUE_MAX {
            self.tell_writable(false);
            return Err(SendError::NotWritable);
        }
        self.queued += 1;
        self.outputs.push_back(ChannelOutput::Transmit(Transmit {
            socket: SOCKET,
            destination: peer,
            payload: batch.payload,
            segment_size: batch.segment_size,
        }));
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        let output = self.outputs.pop_front();
        if let Some(ChannelOutput::Transmit(_)) = output {
            self.queued -= 1;
            if self.is_up() && self.queued <= SEND_QUEUE_MAX / 2 {
                self.tell_writable(true);
            }
        }
        output
    }

    fn describe(&self) -> Option<String> {
        self.peer.map(|peer| format!("raw UDP to {peer}"))
    }
}
