//! A layer that negotiates: each side names a key, and a datagram is taken only with the peer's key before it.

use bytes::Bytes;
use session_core::*;
use std::{collections::VecDeque, net::SocketAddr, time::Instant};

/// Both sides name their key under the layer's namespace.
#[derive(Clone, Copy, Debug)]
pub struct Seal {
    pub namespace: &'static str,
    /// Our key; it must not be empty.
    pub key: &'static str,
    /// Whether it does without when the peer does not name one.
    pub optional: bool,
    /// Whether it begins before the answer, when the peer has named its key by then.
    pub early: bool,
}

pub fn seal(namespace: &'static str, key: &'static str) -> Seal {
    Seal {
        namespace,
        key,
        optional: false,
        early: false,
    }
}

impl ChannelLayer for Seal {
    fn wrap(
        &self,
        _: Box<dyn TransportChannel>,
        _: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        panic!("a layer that negotiates is wrapped by its negotiation")
    }

    fn negotiate(&self, _: &TransportContext) -> Option<Box<dyn LayerNegotiation>> {
        Some(Box::new(Negotiation {
            seal: *self,
            peer: None,
            begun: false,
        }))
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }
}

struct Negotiation {
    seal: Seal,
    peer: Option<String>,
    begun: bool,
}

impl Negotiation {
    fn ours(&self) -> Element {
        Element::new(self.seal.namespace, "seal").with("key", self.seal.key)
    }

    fn hear(&mut self, transport: &Element) -> Result<(), TransportError> {
        let Some(theirs) = transport.find(self.seal.namespace, "seal") else {
            return match self.seal.optional || self.begun {
                true => Ok(()),
                false => Err(TransportError::Unacceptable("no seal")),
            };
        };
        let key = theirs.attribute("key").filter(|key| !key.is_empty());
        let key = key.ok_or(TransportError::Malformed {
            field: "key",
            problem: "missing",
        })?;
        match &self.peer {
            Some(known) if known != key => Err(TransportError::Untrusted("another key")),
            _ => {
                self.peer = Some(key.to_owned());
                Ok(())
            }
        }
    }
}

impl LayerNegotiation for Negotiation {
    fn owns(&self, child: ElementRef<'_>) -> bool {
        child.is(self.seal.namespace, "seal")
    }

    fn offer(&mut self) -> Vec<Element> {
        vec![self.ours()]
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Vec<Element>, TransportError> {
        self.peer = None;
        self.hear(offer)?;
        Ok(self.peer.iter().map(|_| self.ours()).collect())
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        // Judged once in a session, and several times by the suite for transports.
        if !self.begun {
            self.peer = None;
        }
        self.hear(answer)
    }

    fn handle_info(&mut self, info: &Element) -> Result<(), TransportError> {
        self.hear(info)
    }

    fn begin_early(&mut self) -> bool {
        self.begun = self.seal.early && self.peer.is_some();
        self.begun
    }

    fn wrap(
        &mut self,
        inner: Box<dyn TransportChannel>,
        _: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        match &self.peer {
            Some(peer) => Box::new(Sealed {
                inner,
                ours: self.seal.key,
                theirs: peer.clone(),
                outputs: VecDeque::new(),
                told: false,
            }),
            None => inner,
        }
    }
}

struct Sealed {
    inner: Box<dyn TransportChannel>,
    ours: &'static str,
    theirs: String,
    outputs: VecDeque<ChannelOutput>,
    told: bool,
}

impl Sealed {
    fn secured(&self) -> Secured {
        Secured {
            protocol: format!("seal {}", self.theirs).into(),
            side: HandshakeSide::Client,
            local_fingerprint: None,
            peer_fingerprint: None,
            srtp: None,
        }
    }
}

impl TransportChannel for Sealed {
    fn connect(&mut self, now: Instant) {
        self.inner.connect(now);
    }
    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        self.inner.handle_info(info, now)
    }
    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        self.inner.handle_bound(socket, address, now);
    }
    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        self.inner.handle_datagram(datagram, now);
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.inner.handle_timeout(now);
    }
    fn send(&mut self, packet: Bytes, now: Instant) -> Result<(), SendError> {
        let sealed = [self.ours.as_bytes(), &packet].concat();
        self.inner.send(sealed.into(), now)
    }
    fn close(&mut self) {
        self.inner.close();
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.inner.poll_timeout()
    }
    fn poll_output(&mut self) -> Option<ChannelOutput> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            match self.inner.poll_output()? {
                ChannelOutput::Packet(batch) => {
                    for packet in batch {
                        if packet.starts_with(self.theirs.as_bytes()) {
                            let opened = packet.slice(self.theirs.len()..);
                            self.outputs.push_back(ChannelOutput::Packet(opened.into()));
                        }
                    }
                }
                ChannelOutput::Writable(true) if !std::mem::replace(&mut self.told, true) => {
                    self.outputs.push_back(ChannelOutput::Writable(true));
                    return Some(ChannelOutput::Secured(self.secured()));
                }
                other => return Some(other),
            }
        }
    }
}
