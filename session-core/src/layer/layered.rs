//! A transport with a layer above each of its channels, as one transport.

use super::{ChannelLayer, Layers};
use crate::{
    Element, InfoTarget, StanzaError, Transport, TransportChannel, TransportContext,
    TransportError, TransportKind,
};
use std::{fmt, sync::Arc, time::Instant};

/// A transport of datagrams with a layer above each of its channels: what a session makes of both, as one transport.
/// For transports that others have as one, with words of their own around both.
pub struct LayeredTransport {
    transport: Box<dyn Transport>,
    layer: Arc<dyn ChannelLayer>,
    layers: Layers,
    context: TransportContext,
}

impl fmt::Debug for LayeredTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayeredTransport")
            .field("namespace", &self.transport.namespace())
            .finish_non_exhaustive()
    }
}

impl LayeredTransport {
    /// `layer` above the channels of `transport`, which carries datagrams.
    pub fn new(
        transport: Box<dyn Transport>,
        layer: &Arc<dyn ChannelLayer>,
        context: &TransportContext,
    ) -> Self {
        let only = std::slice::from_ref(layer);
        Self {
            transport,
            layer: Arc::clone(layer),
            layers: Layers::new(only, TransportKind::Datagram, context),
            context: context.clone(),
        }
    }
}

impl Transport for LayeredTransport {
    fn namespace(&self) -> &str {
        self.transport.namespace()
    }

    fn offer(&mut self) -> Element {
        self.layers.offer(self.transport.as_mut())
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        self.layers.accept_offer(self.transport.as_mut(), offer)
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        self.layers.accept_answer(self.transport.as_mut(), answer)
    }

    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        let transport = self.transport.as_mut();
        self.layers
            .create_channel(transport, name, Some(&self.layer), &self.context)
    }

    fn wrap_info(&mut self, infos: Vec<(Arc<str>, Element)>) -> Element {
        self.transport.wrap_info(infos)
    }

    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        self.layers.take_info(self.transport.as_mut(), info)
    }

    fn gathers(&self) -> bool {
        self.transport.gathers()
    }

    fn handle_info_reply(&mut self, info: &Element, reply: Result<(), &StanzaError>, now: Instant) {
        self.transport.handle_info_reply(info, reply, now);
    }
}
