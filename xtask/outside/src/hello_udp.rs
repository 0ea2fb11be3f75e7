//! A datagram transport: one UDP socket a side, and a question now and then, whose answer shows that packets pass.

use session_core::{
    BindKind, ChannelOutput, Datagram, Element, LocalSocket, SendError, SocketError, Transmit,
    Transport, TransportChannel, TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{collections::VecDeque, net::IpAddr, net::SocketAddr, time::Duration, time::Instant};

/// The namespace of its `<transport/>`.
pub const NAMESPACE: &str = "urn:example:hello-udp:0";

const SOCKET: LocalSocket = LocalSocket(0);
const ASK_EVERY: Duration = Duration::from_millis(200);
const PATIENCE: Duration = Duration::from_secs(10);
// A packet of the application that equals one of these is lost.
const QUESTION: &[u8] = b"\0hello-udp: do you hear me?";
const ANSWER: &[u8] = b"\0hello-udp: I hear you";

/// Registered with a manager; the interface to use. The port is the system's choice.
#[derive(Clone, Debug)]
pub struct HelloUdp(pub IpAddr);

impl TransportFactory for HelloUdp {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }

    fn create(&self, _: &TransportContext) -> Box<dyn Transport> {
        Box::new(self.clone())
    }
}

impl Transport for HelloUdp {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn offer(&mut self) -> Element {
        Element::new(NAMESPACE, "transport")
    }

    fn accept_offer(&mut self, _: &Element) -> Result<Element, TransportError> {
        Ok(self.offer())
    }

    fn accept_answer(&mut self, _: &Element) -> Result<(), TransportError> {
        Ok(())
    }

    fn create_channel(&mut self, _: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        Ok(Box::new(Channel {
            local: SocketAddr::new(self.0, 0),
            remote: None,
            answered: None,
            deadline: None,
            queue: VecDeque::new(),
        }))
    }
}

struct Channel {
    local: SocketAddr,
    remote: Option<SocketAddr>,
    /// When the last answer came, while there is a path.
    answered: Option<Instant>,
    deadline: Option<Instant>,
    queue: VecDeque<ChannelOutput>,
}

impl TransportChannel for Channel {
    fn connect(&mut self, now: Instant) {
        self.queue = [ChannelOutput::Bind(SOCKET, BindKind::Udp, self.local)].into();
        self.deadline = Some(now);
    }

    fn handle_bound(&mut self, on: LocalSocket, at: Result<SocketAddr, SocketError>, _: Instant) {
        self.queue.extend(match at {
            _ if on != SOCKET => None,
            Ok(at) => {
                self.local = at;
                let info = Element::new(NAMESPACE, "socket").with("at", at);
                Some(ChannelOutput::Info(info))
            }
            Err(e) => Some(ChannelOutput::Failed(TransportError::NoResource(e.why))),
        });
    }

    fn handle_info(&mut self, info: &Element, _: Instant) -> Result<(), TransportError> {
        let (field, problem) = ("at", "not an address");
        let at = info.attribute(field).and_then(|at| at.parse().ok());
        self.remote = Some(at.ok_or(TransportError::Malformed { field, problem })?);
        Ok(())
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        let known = datagram.socket == SOCKET && self.remote == Some(datagram.source);
        for packet in datagram.batch().filter(|_| known) {
            if packet == QUESTION {
                self.emit(bytes::Bytes::from_static(ANSWER));
            } else if packet != ANSWER {
                self.queue.push_back(ChannelOutput::Packet(packet.into()));
            } else if self.answered.replace(now).is_none() {
                self.queue.push_back(ChannelOutput::Writable(true));
            }
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            let lost = self.answered.take_if(|at| now > *at + PATIENCE);
            let lost = lost.map(|_| ChannelOutput::Writable(false));
            self.queue.extend(lost);
            self.emit(bytes::Bytes::from_static(QUESTION));
            self.deadline = Some(now + ASK_EVERY);
        }
    }

    fn send(&mut self, packet: bytes::Bytes, _: Instant) -> Result<(), SendError> {
        let fits = packet.len() <= 1_400;
        self.answered.ok_or(SendError::NotWritable)?;
        fits.then(|| self.emit(packet)).ok_or(SendError::TooLarge)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.queue.pop_front()
    }
}

impl Channel {
    fn emit(&mut self, payload: bytes::Bytes) {
        let remote = self.remote.filter(|_| self.local.port() != 0);
        self.queue.extend(remote.map(|destination| {
            ChannelOutput::Transmit(Transmit {
                socket: SOCKET,
                destination,
                payload,
                segment_size: 0,
            })
        }));
    }
}
