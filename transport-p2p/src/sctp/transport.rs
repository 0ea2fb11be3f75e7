//! Data channels as Conversations has them: a transport of its own around ICE.

use super::{
    layer::{DataChannelConfig, DataChannelLayer},
    negotiation::{self, INIT_NAMESPACE, PROTOCOL},
};
use session_core::{
    ChannelLayer, Dialect, Element, InfoTarget, LayeredTransport, StanzaError, Transport,
    TransportChannel, TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{fmt, sync::Arc, time::Instant};

/// The namespace of Conversations' transport, which is in no XEP.
pub const TRANSPORT_NAMESPACE: &str = "urn:xmpp:jingle:transports:webrtc-datachannel:1";

/// Makes transports of Conversations' form: a `<transport/>` that tells `sctp-port` and `max-message-size`, with a whole
/// `<transport/>` of ICE in it, fingerprint included. Its channels are streams.
pub struct DataChannelTransportFactory {
    below: Arc<dyn TransportFactory>,
    layer: Arc<dyn ChannelLayer>,
    config: DataChannelConfig,
}

impl fmt::Debug for DataChannelTransportFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DataChannelTransportFactory")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl DataChannelTransportFactory {
    /// Data channels above `protection` (DTLS) above the transports of `below` (ICE).
    pub fn new(
        below: Arc<dyn TransportFactory>,
        protection: Arc<dyn ChannelLayer>,
        config: DataChannelConfig,
    ) -> Self {
        let layer = Arc::new(DataChannelLayer::new(protection, config.clone()));
        Self {
            below,
            layer,
            config,
        }
    }
}

impl TransportFactory for DataChannelTransportFactory {
    fn namespace(&self) -> &str {
        TRANSPORT_NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Streaming
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        let below = self.below.create(context);
        Box::new(DataChannelTransport {
            below: LayeredTransport::new(below, &self.layer, context),
            port: self.config.association.local_port,
            max_message_size: self.config.association.max_message_size,
        })
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        self.below.supports(dialect)
    }
}

/// ICE with data channels, and the envelope around what it says.
struct DataChannelTransport {
    below: LayeredTransport,
    port: u16,
    max_message_size: usize,
}

impl DataChannelTransport {
    /// What ICE and the layers say, in the envelope: which tells what the map would.
    fn seal(&self, inner: &Element) -> Element {
        let mut bare = Element::new(inner.namespace(), inner.name());
        for attribute in inner.attributes() {
            bare.set_attribute_ns(attribute.namespace, attribute.name, attribute.value);
        }
        let map =
            |child: &session_core::ElementRef<'_>| child.is(negotiation::NAMESPACE, "sctpmap");
        let inits = inner
            .find(INIT_NAMESPACE, "init")
            .map(|init| init.to_element());
        let rest = inner
            .children()
            .filter(|child| !map(child) && !child.is(INIT_NAMESPACE, "init"));
        rest.for_each(|child| bare.push(child.to_element()));
        Element::new(TRANSPORT_NAMESPACE, "transport")
            .with("sctp-port", self.port)
            .with("max-message-size", self.max_message_size)
            .child(bare)
            .children_from(inits)
    }

    /// What the envelope holds, with a map that tells what the envelope does.
    fn unseal(&self, envelope: &Element, whole: bool) -> Result<Element, TransportError> {
        let inner = envelope.find(self.below.namespace(), "transport");
        let inner = inner.ok_or(TransportError::Malformed {
            field: "transport",
            problem: "has no transport of ICE in it",
        })?;
        if !whole {
            return Ok(inner.to_element());
        }
        let number = |field: &'static str| {
            let value = envelope
                .attribute(field)
                .and_then(|value| value.parse::<u64>().ok());
            value.ok_or(TransportError::Malformed {
                field,
                problem: "is missing or no number",
            })
        };
        let map = Element::new(negotiation::NAMESPACE, "sctpmap")
            .with("protocol", PROTOCOL)
            .with("number", number("sctp-port")?)
            .with("max-message-size", number("max-message-size")?);
        let init = envelope
            .find(INIT_NAMESPACE, "init")
            .map(|init| init.to_element());
        Ok(inner.to_element().child(map).children_from(init))
    }
}

impl Transport for DataChannelTransport {
    fn namespace(&self) -> &str {
        TRANSPORT_NAMESPACE
    }

    fn offer(&mut self) -> Element {
        let inner = self.below.offer();
        self.seal(&inner)
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        let inner = self.unseal(offer, true)?;
        let answer = self.below.accept_offer(&inner)?;
        Ok(self.seal(&answer))
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        let inner = self.unseal(answer, true)?;
        self.below.accept_answer(&inner)
    }

    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        self.below.create_channel(name)
    }

    fn wrap_info(&mut self, infos: Vec<(Arc<str>, Element)>) -> Element {
        let inner = self.below.wrap_info(infos);
        self.seal(&inner)
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        let inner = self.unseal(info, false)?;
        self.below.split_info(&inner)
    }

    fn gathers(&self) -> bool {
        self.below.gathers()
    }

    fn handle_info_reply(&mut self, info: &Element, reply: Result<(), &StanzaError>, now: Instant) {
        if let Ok(inner) = self.unseal(info, false) {
            self.below.handle_info_reply(&inner, reply, now);
        }
    }
}
