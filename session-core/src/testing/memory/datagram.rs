//! The data plane of [`MemoryDatagram`](super::MemoryDatagram).

use super::{Candidate, Key, Mishap, SOCKET, Settings};
use crate::{
    Batch, BindKind, ChannelOutput, Datagram, Element, LocalSocket, SendError, SocketError,
    Transmit, TransportChannel, TransportError,
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// The largest payload of a UDP datagram over IPv4.
const DATAGRAM_MAX: usize = 65_507;
/// How many datagrams (or batches) may wait to be polled. Past it a send is refused.
const SEND_QUEUE_MAX: usize = 256;
/// How many pings and answers may wait on top. Past it they are left out.
const CONTROL_QUEUE_MAX: usize = 64;
/// How soon the first ping is repeated; each further one takes twice as long, up to the keepalive.
const PING_FIRST: Duration = Duration::from_millis(100);

const PING: u8 = 1;
const PONG: u8 = 2;

pub(super) fn answer_to_ping(datagram: &[u8]) -> Option<Bytes> {
    match datagram.get(Key::SIZE..)?.split_first()? {
        (&PING, key) if key.len() == Key::SIZE => Some([key, &[PONG]].concat().into()),
        _ => None,
    }
}

/// Nothing is sent before both the socket and the peer's candidate are there, or the peer's ping is.
pub(super) struct DatagramChannel {
    settings: Arc<Settings>,
    key: Key,
    peer: Option<Candidate>,
    bound: bool,
    /// The peer answers.
    path: bool,
    heard_at: Option<Instant>,
    ping_at: Option<Instant>,
    ping_interval: Duration,
    fails_at: Option<Instant>,
    failed: bool,
    /// What was said last. It is less than the path while the queue is full.
    writable: bool,
    outputs: VecDeque<ChannelOutput>,
    /// How many of the outputs are datagrams to send.
    queued: usize,
}

impl DatagramChannel {
    pub(super) fn new(settings: Arc<Settings>, key: Key) -> Self {
        Self {
            settings,
            key,
            peer: None,
            bound: false,
            path: false,
            heard_at: None,
            ping_at: None,
            ping_interval: PING_FIRST,
            fails_at: None,
            failed: false,
            writable: false,
            outputs: VecDeque::new(),
            queued: 0,
        }
    }

    fn fail(&mut self, error: TransportError) {
        self.outputs.push_back(ChannelOutput::Failed(error));
        self.failed = true;
        self.ping_at = None;
        self.fails_at = None;
        self.path = false;
    }

    /// Begins to ping as soon as it is known where to.
    fn begin(&mut self, now: Instant) {
        if self.bound && self.peer.is_some() && self.ping_at.is_none() {
            self.ping_interval = PING_FIRST;
            self.ping_at = Some(now);
            self.ping(now);
        }
    }

    fn ping(&mut self, now: Instant) {
        self.ping_at = Some(now + self.ping_interval);
        self.ping_interval = (self.ping_interval * 2).min(self.settings.keepalive);
        if let Some(peer) = self.peer {
            let mut ping = Vec::with_capacity(2 * Key::SIZE + 1);
            ping.extend_from_slice(&peer.key.0);
            ping.push(PING);
            ping.extend_from_slice(&self.key.0);
            self.control(peer.address, ping);
        }
    }

    fn control(&mut self, destination: SocketAddr, payload: Vec<u8>) {
        if self.queued < SEND_QUEUE_MAX + CONTROL_QUEUE_MAX {
            self.transmit(destination, payload.into(), 0);
        }
    }

    fn transmit(&mut self, destination: SocketAddr, payload: Bytes, segment_size: usize) {
        self.queued += 1;
        self.outputs.push_back(ChannelOutput::Transmit(Transmit {
            socket: SOCKET,
            destination,
            payload,
            segment_size,
        }));
    }

    /// A datagram that begins with our key: nobody but the peer can have made it.
    fn handle_control(&mut self, source: SocketAddr, message: &[u8], now: Instant) {
        match message.split_first() {
            Some((&PING, peer_key)) => {
                let Ok(peer_key) = peer_key.try_into().map(Key) else {
                    return;
                };
                if self.peer.is_some_and(|peer| peer.key != peer_key) {
                    return;
                }
                // The peer may be somewhere else than it believes, or its candidate be late.
                self.peer = Some(Candidate {
                    address: source,
                    key: peer_key,
                });
                let mut pong = Vec::with_capacity(Key::SIZE + 1);
                pong.extend_from_slice(&peer_key.0);
                pong.push(PONG);
                self.control(source, pong);
                self.begin(now);
                if self.path {
                    self.heard_at = Some(now);
                } else {
                    // It is there again, so that it is worth to ask at once.
                    self.ping_at = self.ping_at.map(|at| at.min(now + PING_FIRST));
                }
            }
            Some((&PONG, [])) => {
                self.heard_at = Some(now);
                if !self.path {
                    self.path = true;
                    self.outputs.push_back(ChannelOutput::Path(true));
                    self.tell_writable(true);
                }
            }
            Some(_) | None => {}
        }
    }

    fn handle_data(&mut self, source: SocketAddr, batch: Batch, now: Instant) {
        if self.peer.is_some_and(|peer| peer.address == source) {
            if self.path {
                self.heard_at = Some(now);
            }
            self.outputs.push_back(ChannelOutput::Packet(batch));
        }
    }

    fn tell_writable(&mut self, writable: bool) {
        if self.writable != writable {
            self.writable = writable;
            self.outputs.push_back(ChannelOutput::Writable(writable));
        }
    }

    fn lost_at(&self) -> Option<Instant> {
        self.heard_at
            .filter(|_| self.path)
            .map(|at| at + self.settings.patience)
    }
}

impl TransportChannel for DatagramChannel {
    fn connect(&mut self, now: Instant) {
        match self.settings.mishap {
            Mishap::FailsOnConnect => {
                self.fail(TransportError::Unreachable("fails to connect".into()));
                return;
            }
            Mishap::FailsAfter(after) => self.fails_at = Some(now + after),
            Mishap::NeverConnects => return,
            Mishap::None
            | Mishap::RefusesOffers
            | Mishap::RefusesAnswers
            | Mishap::RefusesChannels => {}
        }
        self.outputs.push_back(ChannelOutput::Bind(
            SOCKET,
            BindKind::Udp,
            self.settings.address,
        ));
    }

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        let candidate = Candidate::from_element(&self.settings.namespace, info)?;
        match self.peer {
            Some(peer) if peer.key != candidate.key => Err(TransportError::Unacceptable(
                "a channel has one candidate, and this is another",
            )),
            Some(_) => Ok(()),
            None => {
                self.peer = Some(candidate);
                self.begin(now);
                Ok(())
            }
        }
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        if self.failed || self.bound || socket != SOCKET {
            return;
        }
        match address {
            Ok(address) => {
                self.bound = true;
                let candidate = Candidate {
                    address,
                    key: self.key,
                };
                let info = candidate.to_element(&self.settings.namespace);
                self.outputs.push_back(ChannelOutput::Info(info));
                self.begin(now);
            }
            Err(error) => self.fail(TransportError::NoResource(error.to_string().into())),
        }
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        if self.failed || !self.bound || datagram.socket != SOCKET {
            return;
        }
        let source = datagram.source;
        let key = self.key;
        let is_control = |packet: &[u8]| packet.starts_with(&key.0);
        let batch = datagram.batch();
        if !batch.clone().any(|packet| is_control(&packet)) {
            self.handle_data(source, batch, now);
            return;
        }
        for packet in batch {
            if is_control(&packet) {
                self.handle_control(source, &packet[Key::SIZE..], now);
            } else {
                self.handle_data(source, packet.into(), now);
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.fails_at.is_some_and(|at| at <= now) {
            self.fail(TransportError::Unreachable("fails after a while".into()));
            return;
        }
        if self.lost_at().is_some_and(|at| at <= now) {
            self.path = false;
            self.ping_interval = PING_FIRST;
            self.outputs.push_back(ChannelOutput::Path(false));
            self.tell_writable(false);
        }
        if self.ping_at.is_some_and(|at| at <= now) {
            self.ping(now);
        }
    }

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
        let Some(peer) = self.peer.filter(|_| self.path) else {
            return Err(SendError::NotWritable);
        };
        if self.queued >= SEND_QUEUE_MAX {
            self.tell_writable(false);
            return Err(SendError::NotWritable);
        }
        self.transmit(peer.address, batch.payload, batch.segment_size);
        Ok(())
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.ping_at, self.lost_at(), self.fails_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        let output = self.outputs.pop_front();
        if let Some(ChannelOutput::Transmit(_)) = output {
            self.queued -= 1;
            if self.path && self.queued <= SEND_QUEUE_MAX / 2 {
                self.tell_writable(true);
            }
        }
        output
    }

    fn describe(&self) -> Option<String> {
        self.peer.map(|peer| format!("memory to {}", peer.address))
    }
}
