//! The layer, and what it says in signalling.

use super::{
    Config, Fingerprint, Identity,
    channel::{QuicChannel, Setup},
    seeded::derive,
};
use session_core::{
    ChannelLayer, ChannelOutput, Datagram, Element, ElementRef, LayerNegotiation, LocalSocket,
    SendError, SocketError, TransportChannel, TransportContext, TransportError,
};
use std::{net::SocketAddr, time::Instant};

/// The namespace of what this layer says in signalling. It is of nobody's domain and of no registry (RFC 9562 §4), as is
/// everything that this project adds to the specifications.
pub const NAMESPACE: &str = "urn:uuid:5f0c6f0e-3a57-4b7a-9d1e-8c1b7c3d2a46";

/// Makes a stream of a datagram channel, with a peer that has the same layer.
///
/// It says `<quic xmlns='…'><fingerprint hash='sha-256'>…</fingerprint></quic>` in the `<transport/>` of offer and answer
/// ([`NAMESPACE`]). A peer that does not know it does not answer so; beside other layers
/// ([`LayerChoice`](session_core::LayerChoice)) one of those is used then.
///
/// # What a finished stream means
/// [`finish`](TransportChannel::finish) ends our direction, and the peer is told behind the last byte.
/// [`ChannelOutput::Delivered`] comes when the peer's QUIC has acknowledged everything. A peer that lets go of the channel
/// is noticed at once: the channel has no path then, and fails soon after unless signalling ends the session, or both
/// directions had ended before.
#[derive(Clone, Debug)]
pub struct QuicLayer {
    config: Config,
    identity: Identity,
}

impl QuicLayer {
    /// A layer whose connections are set up with `config`, and in which we are `identity`.
    pub fn new(identity: Identity, config: Config) -> Self {
        Self { config, identity }
    }
}

impl ChannelLayer for QuicLayer {
    /// Without a fingerprint of the peer there is no QUIC: the channel fails.
    fn wrap(
        &self,
        _inner: Box<dyn TransportChannel>,
        _context: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        Box::new(Unagreed(Some(ChannelOutput::Failed(NOT_AGREED))))
    }

    fn negotiate(&self, context: &TransportContext) -> Option<Box<dyn LayerNegotiation>> {
        Some(Box::new(QuicNegotiation {
            layer: self.clone(),
            seed: context.seed,
            peer: None,
        }))
    }
}

const NOT_AGREED: TransportError =
    TransportError::Unacceptable("the peer does not offer QUIC as this project has it");

struct QuicNegotiation {
    layer: QuicLayer,
    seed: [u8; 32],
    peer: Option<Fingerprint>,
}

impl QuicNegotiation {
    fn say(&self) -> Element {
        let fingerprint = Element::new(NAMESPACE, "fingerprint")
            .with("hash", Fingerprint::HASH)
            .text(&self.layer.identity.fingerprint().to_string());
        Element::new(NAMESPACE, "quic").child(fingerprint)
    }

    fn hear(&mut self, transport: &Element) -> Result<(), TransportError> {
        let said = transport.children().find(|child| self.owns(*child));
        let said = said.ok_or(NOT_AGREED)?;
        self.peer = Some(read(said)?);
        Ok(())
    }
}

/// The fingerprint in it, by the one hash that we know. Others may stand beside it.
fn read(quic: ElementRef<'_>) -> Result<Fingerprint, TransportError> {
    let known = quic.children().find(|child| {
        child.is(NAMESPACE, "fingerprint") && child.attribute("hash") == Some(Fingerprint::HASH)
    });
    let text = known.map(|known| known.text_content());
    let fingerprint = text.and_then(|text| text.trim().parse().ok());
    fingerprint.ok_or(TransportError::Malformed {
        field: "fingerprint",
        problem: "not a SHA-256 as RFC 8122 §5 writes it",
    })
}

impl LayerNegotiation for QuicNegotiation {
    fn owns(&self, child: ElementRef<'_>) -> bool {
        child.is(NAMESPACE, "quic")
    }

    fn offer(&mut self) -> Vec<Element> {
        vec![self.say()]
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Vec<Element>, TransportError> {
        self.hear(offer)?;
        Ok(vec![self.say()])
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        // It may have been told before, in a transport-info.
        let said = answer.children().any(|child| self.owns(child));
        match self.peer {
            Some(_) if !said => Ok(()),
            _ => self.hear(answer),
        }
    }

    fn handle_info(&mut self, info: &Element) -> Result<(), TransportError> {
        let known = self.peer;
        self.hear(info)?;
        if known.is_some_and(|known| self.peer != Some(known)) {
            self.peer = known;
            return Err(TransportError::Malformed {
                field: "fingerprint",
                problem: "not what it was",
            });
        }
        Ok(())
    }

    fn wrap(
        &mut self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        let Some(peer) = self.peer else {
            return self.layer.wrap(inner, context);
        };
        // Channels of one content share what was said, and nothing else.
        let next = derive(&self.seed, "next", 0);
        let seed = std::mem::replace(&mut self.seed, next);
        Box::new(QuicChannel::new(
            inner,
            Setup {
                config: self.layer.config.clone(),
                role: context.role,
                identity: self.layer.identity.clone(),
                peer,
                seed,
            },
        ))
    }
}

/// What stands in for a channel that was not agreed on.
struct Unagreed(Option<ChannelOutput>);

impl TransportChannel for Unagreed {
    fn connect(&mut self, _now: Instant) {}

    fn handle_info(&mut self, _info: &Element, _now: Instant) -> Result<(), TransportError> {
        Ok(())
    }

    fn handle_bound(
        &mut self,
        _socket: LocalSocket,
        _address: Result<SocketAddr, SocketError>,
        _now: Instant,
    ) {
    }

    fn handle_datagram(&mut self, _datagram: Datagram, _now: Instant) {}

    fn handle_timeout(&mut self, _now: Instant) {}

    fn send(&mut self, _packet: bytes::Bytes, _now: Instant) -> Result<(), SendError> {
        Err(SendError::NoSuchChannel)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.0.take()
    }
}
