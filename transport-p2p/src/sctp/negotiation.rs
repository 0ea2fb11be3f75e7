//! What data channels say in signalling (XEP-0343), beside what their protection says.

use super::{
    Association, MAX_LABEL,
    layer::{Agreed, DataChannelConfig, StreamChannel},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use session_core::{
    ChannelLayer, Element, ElementRef, LayerNegotiation, TransportChannel, TransportContext,
    TransportError,
};
use std::sync::Arc;

/// The namespace of `<sctpmap/>` (XEP-0343 §4).
pub const NAMESPACE: &str = "urn:xmpp:jingle:transports:dtls-sctp:1";

/// The namespace in which peers of this project carry INIT chunks (draft-hancke-tsvwg-snap); nothing of XMPP's.
pub const INIT_NAMESPACE: &str = "https://pcp.example/ns/sctp-init";

/// The protocol of data channels in a map.
pub(super) const PROTOCOL: &str = "webrtc-datachannel";
/// Streams that are told: what browsers say.
const STREAMS: u16 = 1024;

pub(super) struct Negotiation {
    protection: Arc<dyn ChannelLayer>,
    below: Option<Box<dyn LayerNegotiation>>,
    config: DataChannelConfig,
    seed: [u8; 32],
    agreed: Agreed,
}

impl Negotiation {
    pub(super) fn new(
        protection: Arc<dyn ChannelLayer>,
        below: Option<Box<dyn LayerNegotiation>>,
        config: DataChannelConfig,
        seed_of_content: [u8; 32],
    ) -> Self {
        Self {
            protection,
            below,
            config,
            seed: seed(&seed_of_content),
            agreed: Agreed::default(),
        }
    }

    fn own(&self, init: bool) -> Vec<Element> {
        let config = &self.config.association;
        let map = Element::new(NAMESPACE, "sctpmap")
            .with("number", config.local_port)
            .with("protocol", PROTOCOL)
            .with("streams", STREAMS.min(config.streams));
        let init = init.then(|| {
            let chunk = Association::init_chunk_of(config, self.seed);
            Element::new(INIT_NAMESPACE, "init").text(&STANDARD.encode(chunk))
        });
        std::iter::once(map).chain(init).collect()
    }

    fn read(&self, transport: &Element) -> Result<Agreed, TransportError> {
        let map = transport
            .find(NAMESPACE, "sctpmap")
            .ok_or(TransportError::Unacceptable("no data channels are offered"))?;
        if map.attribute("protocol") != Some(PROTOCOL) {
            return Err(TransportError::Unacceptable(
                "SCTP for something else than data channels",
            ));
        }
        let number = map
            .attribute("number")
            .and_then(|number| number.parse().ok());
        let port = number
            .filter(|port| *port != 0)
            .ok_or(TransportError::Malformed {
                field: "sctpmap number",
                problem: "is no port",
            })?;
        let init = transport.find(INIT_NAMESPACE, "init");
        let init = init.map(|init| init.text_content().into_owned());
        let init = init.filter(|text| self.config.signal_init && text.len() <= MAX_LABEL);
        Ok(Agreed {
            port: Some(port),
            message_size: message_size(map),
            // What cannot be read is done without: the association opens in its own way.
            init: init.and_then(|text| STANDARD.decode(text).ok()),
        })
    }
}

/// The longest message that the peer takes; RFC 8841 §6 has 0 for no limit. Only other forms of signalling tell it.
fn message_size(map: ElementRef<'_>) -> Option<usize> {
    let size = map.attribute("max-message-size")?;
    size.parse().ok().filter(|size| *size > 0)
}

/// The association's own seed: the content's serves others too.
pub(super) fn seed(content: &[u8; 32]) -> [u8; 32] {
    super::setup::derive(content, b"sctp")
}

impl LayerNegotiation for Negotiation {
    fn owns(&self, child: ElementRef<'_>) -> bool {
        let ours = child.is(NAMESPACE, "sctpmap") || child.is(INIT_NAMESPACE, "init");
        ours || self.below.as_ref().is_some_and(|below| below.owns(child))
    }

    fn offer(&mut self) -> Vec<Element> {
        let mut offer = self.own(self.config.signal_init);
        offer.extend(self.below.iter_mut().flat_map(|below| below.offer()));
        offer
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Vec<Element>, TransportError> {
        let agreed = self.read(offer)?;
        let below = match &mut self.below {
            Some(below) => below.accept_offer(offer)?,
            None => Vec::new(),
        };
        let mut answer = self.own(agreed.init.is_some());
        answer.extend(below);
        self.agreed = agreed;
        Ok(answer)
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        let agreed = self.read(answer)?;
        if let Some(below) = &mut self.below {
            below.accept_answer(answer)?;
        }
        self.agreed = agreed;
        Ok(())
    }

    fn handle_info(&mut self, info: &Element) -> Result<(), TransportError> {
        match &mut self.below {
            Some(below) => below.handle_info(info),
            None => Ok(()),
        }
    }

    fn wrap(
        &mut self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        let inner = match &mut self.below {
            Some(below) => below.wrap(inner, context),
            None => self.protection.wrap(inner, context),
        };
        let agreed = self.agreed.clone();
        let config = self.config.clone();
        // The seed of what was told, whatever a later context has.
        Box::new(StreamChannel::new(
            inner,
            config,
            context.role,
            self.seed,
            agreed,
        ))
    }
}
