//! The data plane of [`MemoryStream`](super::MemoryStream).

use super::{Candidate, Key, Mishap, SOCKET, Settings};
use crate::{
    BindKind, ChannelOutput, Datagram, Element, LocalSocket, Role, SendError, SocketError,
    StreamEvent, StreamTarget, TransportChannel, TransportError,
};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Instant};

/// How many bytes a sender may be ahead of what the peer's application took.
const WINDOW: usize = 256 * 1024;
/// Above this many bytes that wait for credit or for the driver, a send is refused.
const SEND_BUFFER: usize = 256 * 1024;
/// Above this many bytes in the driver's hands, nothing more is given to it.
const DRIVER_BUFFER: usize = 256 * 1024;
/// The largest piece that a single send takes.
const SEND_MAX: usize = 16 * 1024 * 1024;
/// The largest content of a frame.
const FRAME_MAX: usize = 64 * 1024;
/// How many connections may be open before one has shown the key.
const STRANGERS_MAX: usize = 8;
/// What is allocated at once for the heads of frames.
const HEADS: usize = 16 * 1024;

const HEAD: usize = 5;
const HELLO: u8 = 1;
const DATA: u8 = 2;
const CREDIT: u8 = 3;
const PING: u8 = 4;
const END: u8 = 5;
const ENDED: u8 = 6;

/// The connection of a side that connects.
const OUTGOING: LocalSocket = LocalSocket(1);

pub(super) struct StreamChannel {
    settings: Arc<Settings>,
    key: Key,
    role: Role,
    peer: Option<Candidate>,
    started: bool,
    failed: bool,
    fails_at: Option<Instant>,
    listening: bool,
    /// Accepted, and have not shown the key yet.
    strangers: Vec<(LocalSocket, Parser)>,
    connection: Option<LocalSocket>,
    /// The peer has shown the key.
    connected: bool,
    parser: Parser,
    path: bool,
    heard_at: Option<Instant>,
    ping_at: Option<Instant>,
    writable: bool,
    outputs: VecDeque<ChannelOutput>,
    heads: BytesMut,
    sending: Sending,
    receiving: Receiving,
}

#[derive(Default)]
struct Sending {
    waiting: VecDeque<Bytes>,
    bytes: usize,
    credit: usize,
    in_driver: usize,
    finished: bool,
    end_sent: bool,
    delivered: bool,
}

#[derive(Default)]
struct Receiving {
    /// Held back while paused.
    waiting: VecDeque<Bytes>,
    bytes: usize,
    paused: bool,
    /// Handed out, and not granted anew.
    taken: usize,
    finished: bool,
    end_told: bool,
}

impl StreamChannel {
    pub(super) fn new(settings: Arc<Settings>, key: Key, role: Role) -> Self {
        Self {
            settings,
            key,
            role,
            peer: None,
            started: false,
            failed: false,
            fails_at: None,
            listening: false,
            strangers: Vec::new(),
            connection: None,
            connected: false,
            parser: Parser::default(),
            path: false,
            heard_at: None,
            ping_at: None,
            writable: false,
            outputs: VecDeque::new(),
            heads: BytesMut::new(),
            sending: Sending {
                credit: WINDOW,
                ..Sending::default()
            },
            receiving: Receiving::default(),
        }
    }

    fn fail(&mut self, error: TransportError) {
        if !self.failed {
            self.outputs.push_back(ChannelOutput::Failed(error));
            self.failed = true;
            self.fails_at = None;
            self.ping_at = None;
            self.path = false;
        }
    }

    fn dial(&mut self) {
        if self.role == Role::Responder
            && self.started
            && self.connection.is_none()
            && let Some(peer) = self.peer
        {
            self.connection = Some(OUTGOING);
            let target = StreamTarget::new(peer.address);
            self.outputs
                .push_back(ChannelOutput::Connect(OUTGOING, target));
        }
    }

    fn handle_connected(&mut self, result: Result<SocketAddr, SocketError>) {
        match (result, self.peer) {
            (Ok(_), Some(peer)) => self.write_control(OUTGOING, HELLO, &peer.key.0),
            (Ok(_), None) => {}
            (Err(error), _) => self.fail(TransportError::Unreachable(error.to_string().into())),
        }
    }

    /// Bytes on a connection that has not shown the key.
    fn handle_stranger(&mut self, index: usize, mut bytes: Bytes, now: Instant) {
        let (socket, mut parser) = self.strangers.swap_remove(index);
        match parser.next(&mut bytes) {
            Ok(None) => self.strangers.push((socket, parser)),
            Ok(Some(Frame::Hello(key))) if key == self.key => {
                for (other, _) in std::mem::take(&mut self.strangers) {
                    self.outputs.push_back(ChannelOutput::Close(other));
                }
                self.outputs.push_back(ChannelOutput::Close(SOCKET));
                self.listening = false;
                self.connection = Some(socket);
                self.parser = parser;
                let key = self.key;
                self.write_control(socket, HELLO, &key.0);
                self.on_connected(now);
                self.handle_bytes(bytes, now);
            }
            Ok(Some(_)) | Err(_) => self.outputs.push_back(ChannelOutput::Close(socket)),
        }
    }

    fn on_connected(&mut self, now: Instant) {
        self.connected = true;
        self.heard_at = Some(now);
        self.ping_at = Some(now + self.settings.keepalive);
        self.set_path(true);
        self.flush();
    }

    fn set_path(&mut self, path: bool) {
        if self.path != path {
            self.path = path;
            self.outputs.push_back(ChannelOutput::Path(path));
        }
        self.tell_writable();
    }

    fn tell_writable(&mut self) {
        let most = if self.writable {
            SEND_BUFFER
        } else {
            SEND_BUFFER / 2
        };
        let writable = self.path && self.sending.bytes < most;
        if self.writable != writable {
            self.writable = writable;
            self.outputs.push_back(ChannelOutput::Writable(writable));
        }
    }

    fn handle_bytes(&mut self, mut bytes: Bytes, now: Instant) {
        if self.connected {
            self.heard_at = Some(now);
            self.set_path(true);
        }
        while !self.failed {
            match self.parser.next(&mut bytes) {
                Ok(Some(frame)) => self.handle_frame(frame, now),
                Ok(None) => return,
                Err(error) => self.fail(error),
            }
        }
    }

    fn handle_frame(&mut self, frame: Frame, now: Instant) {
        let malformed = |problem| TransportError::Malformed {
            field: "frame",
            problem,
        };
        match frame {
            Frame::Hello(key) => {
                if !self.connected && self.peer.is_some_and(|peer| peer.key == key) {
                    self.on_connected(now);
                } else {
                    self.fail(malformed("a hello that is wrong or in the wrong place"));
                }
            }
            _ if !self.connected => self.fail(malformed("comes before the hello")),
            Frame::Data(bytes) => {
                self.receiving.bytes += bytes.len();
                if self.receiving.finished || self.receiving.bytes + self.receiving.taken > WINDOW {
                    self.fail(malformed("data beyond the end or the credit"));
                } else if !bytes.is_empty() {
                    self.receiving.waiting.push_back(bytes);
                    self.hand_out();
                }
            }
            Frame::Credit(bytes) => {
                let credit = self.sending.credit.checked_add(bytes as usize);
                match credit.filter(|credit| *credit <= WINDOW) {
                    Some(credit) => {
                        self.sending.credit = credit;
                        self.flush();
                    }
                    None => self.fail(malformed("more credit than the window")),
                }
            }
            Frame::Ping => {}
            Frame::End => {
                self.receiving.finished = true;
                self.hand_out();
                if let Some(connection) = self.connection {
                    self.write_control(connection, ENDED, &[]);
                }
            }
            Frame::Ended if self.sending.end_sent && !self.sending.delivered => {
                self.sending.delivered = true;
                self.outputs.push_back(ChannelOutput::Delivered);
            }
            Frame::Ended => self.fail(malformed("acknowledges an end that was not said")),
        }
    }

    /// Gives the application what has arrived, unless it paused.
    fn hand_out(&mut self) {
        if self.receiving.paused {
            return;
        }
        while let Some(bytes) = self.receiving.waiting.pop_front() {
            self.receiving.bytes -= bytes.len();
            self.receiving.taken += bytes.len();
            self.outputs.push_back(ChannelOutput::Packet(bytes.into()));
        }
        if self.receiving.finished && !self.receiving.end_told {
            self.receiving.end_told = true;
            self.outputs.push_back(ChannelOutput::Finished);
        }
        if self.receiving.taken >= WINDOW / 4
            && !self.receiving.finished
            && let Some(connection) = self.connection
        {
            let taken = std::mem::take(&mut self.receiving.taken) as u32;
            self.write_control(connection, CREDIT, &taken.to_be_bytes());
        }
    }

    /// Gives the driver what credit and its own buffer allow.
    fn flush(&mut self) {
        let Some(connection) = self.connection.filter(|_| self.connected) else {
            return;
        };
        while self.sending.credit > 0
            && self.sending.in_driver < DRIVER_BUFFER
            && let Some(first) = self.sending.waiting.front_mut()
        {
            let size = first.len().min(self.sending.credit).min(FRAME_MAX);
            let piece = first.split_to(size);
            if first.is_empty() {
                self.sending.waiting.pop_front();
            }
            self.sending.bytes -= size;
            self.sending.credit -= size;
            self.write(connection, DATA, piece);
        }
        if self.sending.finished && self.sending.waiting.is_empty() && !self.sending.end_sent {
            self.sending.end_sent = true;
            self.write_control(connection, END, &[]);
        }
        self.tell_writable();
    }

    fn write(&mut self, connection: LocalSocket, kind: u8, content: Bytes) {
        self.begin_frame(kind, content.len());
        let head = self.heads.split().freeze();
        self.outputs
            .push_back(ChannelOutput::Write(connection, head));
        self.outputs
            .push_back(ChannelOutput::Write(connection, content));
    }

    fn write_control(&mut self, connection: LocalSocket, kind: u8, content: &[u8]) {
        self.begin_frame(kind, content.len());
        self.heads.put_slice(content);
        let frame = self.heads.split().freeze();
        self.outputs
            .push_back(ChannelOutput::Write(connection, frame));
    }

    fn begin_frame(&mut self, kind: u8, length: usize) {
        if self.heads.capacity() < HEAD + Key::SIZE {
            self.heads.reserve(HEADS);
        }
        self.heads.put_u8(kind);
        self.heads.put_u32(length as u32);
    }

    fn lost_at(&self) -> Option<Instant> {
        self.heard_at
            .filter(|_| self.path)
            .map(|at| at + self.settings.patience)
    }

    fn handle_closed(&mut self, socket: LocalSocket) {
        if let Some(index) = self
            .strangers
            .iter()
            .position(|(other, _)| *other == socket)
        {
            self.strangers.swap_remove(index);
        } else if self.connection == Some(socket) {
            if self.receiving.finished && self.sending.delivered {
                // Both sides said all they had to say.
                self.ping_at = None;
                self.heard_at = None;
            } else {
                self.fail(TransportError::Closed);
            }
        }
    }
}

impl TransportChannel for StreamChannel {
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
        self.started = true;
        match self.role {
            Role::Initiator => self.outputs.push_back(ChannelOutput::Bind(
                SOCKET,
                BindKind::TcpListener,
                self.settings.address,
            )),
            Role::Responder => self.dial(),
        }
    }

    fn handle_info(&mut self, info: &Element, _: Instant) -> Result<(), TransportError> {
        let candidate = Candidate::from_element(&self.settings.namespace, info)?;
        match self.peer {
            _ if self.role == Role::Initiator => Err(TransportError::Unacceptable(
                "the initiator listens, and nobody else",
            )),
            Some(peer) if peer != candidate => Err(TransportError::Unacceptable(
                "a channel has one candidate, and this is another",
            )),
            Some(_) => Ok(()),
            None => {
                self.peer = Some(candidate);
                self.dial();
                Ok(())
            }
        }
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        _: Instant,
    ) {
        if self.failed || self.listening || self.connected || socket != SOCKET || !self.started {
            return;
        }
        match address {
            Ok(address) => {
                self.listening = true;
                let candidate = Candidate {
                    address,
                    key: self.key,
                };
                let info = candidate.to_element(&self.settings.namespace);
                self.outputs.push_back(ChannelOutput::Info(info));
            }
            Err(error) => self.fail(TransportError::NoResource(error.to_string().into())),
        }
    }

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        if self.failed {
            return;
        }
        let is_current = self.connection == Some(socket);
        match event {
            StreamEvent::Connected(result) if is_current && !self.connected => {
                self.handle_connected(result);
            }
            StreamEvent::Accepted { connection, .. } if self.listening && socket == SOCKET => {
                if self.strangers.len() < STRANGERS_MAX {
                    self.strangers.push((connection, Parser::default()));
                } else {
                    self.outputs.push_back(ChannelOutput::Close(connection));
                }
            }
            StreamEvent::Data(bytes) if is_current => self.handle_bytes(bytes, now),
            StreamEvent::Data(bytes) => {
                let index = self
                    .strangers
                    .iter()
                    .position(|(other, _)| *other == socket);
                if let Some(index) = index {
                    self.handle_stranger(index, bytes, now);
                }
            }
            StreamEvent::Buffered(bytes) if is_current => {
                self.sending.in_driver = bytes;
                self.flush();
            }
            StreamEvent::Closed(_) => self.handle_closed(socket),
            StreamEvent::Connected(_)
            | StreamEvent::Accepted { .. }
            | StreamEvent::Buffered(_)
            | StreamEvent::Finished => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.fails_at.is_some_and(|at| at <= now) {
            self.fail(TransportError::Unreachable("fails after a while".into()));
            return;
        }
        if self.lost_at().is_some_and(|at| at <= now) {
            self.set_path(false);
        }
        if self.ping_at.is_some_and(|at| at <= now)
            && let Some(connection) = self.connection
        {
            self.ping_at = Some(now + self.settings.keepalive);
            // A driver that cannot get rid of what it has needs no more of it.
            if self.sending.in_driver < DRIVER_BUFFER {
                self.write_control(connection, PING, &[]);
            }
        }
    }

    fn send(&mut self, packet: Bytes, _: Instant) -> Result<(), SendError> {
        if self.failed {
            return Err(SendError::NoSuchChannel);
        }
        if self.sending.finished {
            return Err(SendError::Finished);
        }
        if packet.len() > SEND_MAX {
            return Err(SendError::TooLarge);
        }
        if !self.path || self.sending.bytes >= SEND_BUFFER {
            return Err(SendError::NotWritable);
        }
        if !packet.is_empty() {
            self.sending.bytes += packet.len();
            self.sending.waiting.push_back(packet);
            self.flush();
        }
        Ok(())
    }

    fn pause(&mut self, paused: bool, _: Instant) {
        self.receiving.paused = paused;
        self.hand_out();
    }

    fn finish(&mut self, _: Instant) {
        self.sending.finished = true;
        self.flush();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.ping_at, self.lost_at(), self.fails_at]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.outputs.pop_front()
    }

    fn describe(&self) -> Option<String> {
        let peer = self.peer?;
        Some(format!("memory stream to {}", peer.address))
    }
}

enum Frame {
    Hello(Key),
    Data(Bytes),
    Credit(u32),
    Ping,
    End,
    Ended,
}

/// Cuts frames out of a stream, wherever the stream itself is cut.
#[derive(Default)]
struct Parser {
    head: [u8; HEAD],
    head_read: usize,
    /// Of a data frame: how much of it is to come.
    data_left: usize,
    content: [u8; Key::SIZE],
    content_read: usize,
}

impl Parser {
    /// Takes the next frame, or the next piece of a data frame, from the front of `bytes`; `None` when they are used up.
    fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Frame>, TransportError> {
        if self.data_left == 0 {
            let wanted = (HEAD - self.head_read).min(bytes.len());
            self.head[self.head_read..self.head_read + wanted].copy_from_slice(&bytes[..wanted]);
            self.head_read += wanted;
            bytes.advance(wanted);
            if self.head_read < HEAD {
                return Ok(None);
            }
        }
        let [kind, length @ ..] = self.head;
        let length = u32::from_be_bytes(length) as usize;
        let right = match kind {
            HELLO => length == Key::SIZE,
            DATA => (1..=FRAME_MAX).contains(&length),
            CREDIT => length == 4,
            PING | END | ENDED => length == 0,
            _ => false,
        };
        if !right {
            return Err(TransportError::Malformed {
                field: "frame",
                problem: "a kind or a length that cannot be",
            });
        }
        if kind == DATA {
            return Ok(self.data(length, bytes));
        }
        let wanted = (length - self.content_read).min(bytes.len());
        self.content[self.content_read..self.content_read + wanted]
            .copy_from_slice(&bytes[..wanted]);
        self.content_read += wanted;
        bytes.advance(wanted);
        if self.content_read < length {
            return Ok(None);
        }
        self.head_read = 0;
        self.content_read = 0;
        let [a, b, c, d, ..] = self.content;
        Ok(Some(match kind {
            HELLO => Frame::Hello(Key(self.content)),
            CREDIT => Frame::Credit(u32::from_be_bytes([a, b, c, d])),
            PING => Frame::Ping,
            ENDED => Frame::Ended,
            _ => Frame::End,
        }))
    }

    fn data(&mut self, length: usize, bytes: &mut Bytes) -> Option<Frame> {
        if self.data_left == 0 {
            self.data_left = length;
        }
        if bytes.is_empty() {
            return None;
        }
        let piece = bytes.split_to(self.data_left.min(bytes.len()));
        self.data_left -= piece.len();
        if self.data_left == 0 {
            self.head_read = 0;
        }
        Some(Frame::Data(piece))
    }
}
