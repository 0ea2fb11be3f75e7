//! The layers of one transport of a content, and what they have agreed on so far.

use super::{ChannelLayer, LayerNegotiation, pending::PendingChannel};
use crate::{
    Element, ElementRef, InfoTarget, Transport, TransportChannel, TransportContext, TransportError,
    TransportKind, element::Node,
};
use std::{
    borrow::Cow,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The layers of one transport of a content. Empty over a transport that streams.
#[derive(Default)]
pub(crate) struct Layers(Vec<Layer>);

struct Layer {
    layer: Arc<dyn ChannelLayer>,
    negotiation: Option<Shared>,
}

/// A negotiation, shared with the channels that wait for its end. A session is driven by one thread at a time, so that
/// nobody waits.
#[derive(Clone)]
pub(super) struct Shared(Arc<Mutex<Negotiation>>);

pub(super) struct Negotiation {
    /// Whether both sides have said what they have to say.
    pub(super) settled: bool,
    pub(super) layer: Box<dyn LayerNegotiation>,
}

impl Shared {
    fn new(layer: Box<dyn LayerNegotiation>) -> Self {
        Self(Arc::new(Mutex::new(Negotiation {
            settled: false,
            layer,
        })))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Negotiation> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Composition with a transport.
impl Layers {
    pub(crate) fn new(
        layers: &[Arc<dyn ChannelLayer>],
        kind: TransportKind,
        context: &TransportContext,
    ) -> Self {
        let layers = layers.iter().filter(|_| kind == TransportKind::Datagram);
        Self(layers.map(|layer| Layer::new(layer, context)).collect())
    }

    pub(crate) fn offer(&self, transport: &mut dyn Transport) -> Element {
        let offers = self
            .negotiations()
            .flat_map(|shared| shared.lock().layer.offer());
        transport.offer().children_from(offers)
    }

    /// # Errors
    /// Of the transport, or of the first layer that refuses.
    pub(crate) fn accept_offer(
        &self,
        transport: &mut dyn Transport,
        offer: &Element,
    ) -> Result<Element, TransportError> {
        // The layers first: what one of them refuses must not have changed the transport.
        let mut children = Vec::new();
        for shared in self.negotiations() {
            children.extend(shared.lock().layer.accept_offer(offer)?);
        }
        let answer = transport.accept_offer(&self.bare(offer))?;
        self.settle();
        Ok(answer.children_from(children))
    }

    /// # Errors
    /// Of the transport, or of the first layer that refuses.
    pub(crate) fn accept_answer(
        &self,
        transport: &mut dyn Transport,
        answer: &Element,
    ) -> Result<(), TransportError> {
        self.judge_answer(answer)?;
        transport.accept_answer(&self.bare(answer))?;
        self.settle();
        Ok(())
    }

    fn judge_answer(&self, answer: &Element) -> Result<(), TransportError> {
        self.negotiations()
            .try_for_each(|shared| shared.lock().layer.accept_answer(answer))
    }

    fn settle(&self) {
        self.negotiations()
            .for_each(|shared| shared.lock().settled = true);
    }

    /// The peer answered, perhaps without a word: then `answer` is empty.
    ///
    /// # Errors
    /// Of the first layer that refuses.
    pub(crate) fn take_answer(&self, answer: &Element) -> Result<(), TransportError> {
        self.judge_answer(answer)?;
        self.settle();
        Ok(())
    }

    /// What is in it for the transport's channels.
    ///
    /// # Errors
    /// Of the transport.
    pub(crate) fn split_info(
        &self,
        transport: &mut dyn Transport,
        info: &Element,
    ) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        let bare = self.bare(info);
        let all_ours = matches!(bare, Cow::Owned(_)) && bare.is_empty();
        if all_ours && bare.attributes().next().is_none() {
            return Ok(Vec::new());
        }
        transport.split_info(&bare)
    }

    /// As [`split_info`](Self::split_info); what is for layers is handed to them.
    ///
    /// # Errors
    /// Of the transport, or of the first layer that refuses.
    pub(crate) fn take_info(
        &self,
        transport: &mut dyn Transport,
        info: &Element,
    ) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        let infos = self.split_info(transport, info)?;
        for shared in self.negotiations() {
            let mut negotiation = shared.lock();
            if info.children().any(|child| negotiation.layer.owns(child)) {
                negotiation.layer.handle_info(info)?;
                negotiation.settled = negotiation.settled || negotiation.layer.begin_early();
            }
        }
        Ok(infos)
    }

    /// Of our answer, what the layers say in it.
    pub(crate) fn words<'a>(&self, answer: &'a Element) -> impl Iterator<Item = ElementRef<'a>> {
        answer.children().filter(|child| self.own(*child))
    }

    /// # Errors
    /// Of the transport.
    pub(crate) fn create_channel(
        &self,
        transport: &mut dyn Transport,
        name: &str,
        layer: Option<&Arc<dyn ChannelLayer>>,
        context: &TransportContext,
    ) -> Result<Box<dyn TransportChannel>, TransportError> {
        let inner = transport.create_channel(name)?;
        let Some(layer) = layer else {
            return Ok(inner);
        };
        Ok(match self.find(layer).map(|layer| &layer.negotiation) {
            Some(Some(shared)) if shared.lock().settled => shared.lock().layer.wrap(inner, context),
            Some(Some(shared)) => {
                Box::new(PendingChannel::new(inner, shared.clone(), context.clone()))
            }
            Some(None) | None => layer.wrap(inner, context),
        })
    }

    fn bare<'a>(&self, element: &'a Element) -> Cow<'a, Element> {
        let owned = |child: ElementRef<'_>| self.own(child);
        if self.0.is_empty() || !element.children().any(owned) {
            return Cow::Borrowed(element);
        }
        let mut bare = Element::new(element.namespace(), element.name());
        for attribute in element.attributes() {
            bare.set_attribute_ns(attribute.namespace, attribute.name, attribute.value);
        }
        for node in element.nodes() {
            match node {
                Node::Element(child) if owned(child) => {}
                Node::Element(child) => bare.push(child.to_element()),
                Node::Text(text) => bare.push_text(text),
            }
        }
        Cow::Owned(bare)
    }

    /// Whether a child of `<transport/>` is for one of them.
    fn own(&self, child: ElementRef<'_>) -> bool {
        self.negotiations()
            .any(|shared| shared.lock().layer.owns(child))
    }

    fn negotiations(&self) -> impl Iterator<Item = &Shared> {
        self.0.iter().filter_map(|layer| layer.negotiation.as_ref())
    }

    fn find(&self, layer: &Arc<dyn ChannelLayer>) -> Option<&Layer> {
        self.0.iter().find(|known| Arc::ptr_eq(&known.layer, layer))
    }
}

/// Layers that come and go.
impl Layers {
    /// A channel of a transport that is there already names a layer. What is to be said of it still can be: the `Ok`
    /// value is for the answer.
    ///
    /// # Errors
    /// The layer cannot work with the offer.
    pub(crate) fn join(
        &mut self,
        layer: &Arc<dyn ChannelLayer>,
        context: &TransportContext,
        moment: Moment<'_>,
    ) -> Result<Vec<Element>, TransportError> {
        if self.find(layer).is_some() {
            return Ok(Vec::new());
        }
        let new = Layer::new(layer, context);
        let said = match (&new.negotiation, moment) {
            (None, _) | (Some(_), Moment::Early) => Vec::new(),
            (Some(shared), Moment::Offered(offer)) => shared.accept_offer(offer)?,
            (Some(shared), Moment::Late(namespace)) => {
                // Nobody will ever hear of it, as if the peer did not know it.
                shared.accept_answer(&Element::new(namespace, "transport"))?;
                Vec::new()
            }
        };
        self.0.push(new);
        Ok(said)
    }

    /// Takes over what another transport's layers have agreed on, because that is carried here from now on.
    pub(crate) fn adopt(&mut self, other: Self) {
        for layer in other.0 {
            if self.find(&layer.layer).is_none() {
                self.0.push(layer);
            }
        }
    }

    pub(crate) fn part(&mut self, layer: &Arc<dyn ChannelLayer>) {
        self.0.retain(|known| !Arc::ptr_eq(&known.layer, layer));
    }
}

/// When a channel names a layer, seen from the transport's negotiation.
pub(crate) enum Moment<'a> {
    /// The offer was not made yet.
    Early,
    /// This offer of the peer was not answered yet.
    Offered(&'a Element),
    /// It is past: everything was said about a transport of this namespace.
    Late(&'a str),
}

impl Layer {
    fn new(layer: &Arc<dyn ChannelLayer>, context: &TransportContext) -> Self {
        Self {
            layer: Arc::clone(layer),
            negotiation: layer.negotiate(context).map(Shared::new),
        }
    }
}

impl Shared {
    fn accept_offer(&self, offer: &Element) -> Result<Vec<Element>, TransportError> {
        let mut negotiation = self.lock();
        let answer = negotiation.layer.accept_offer(offer)?;
        negotiation.settled = true;
        Ok(answer)
    }

    fn accept_answer(&self, answer: &Element) -> Result<(), TransportError> {
        let mut negotiation = self.lock();
        negotiation.layer.accept_answer(answer)?;
        negotiation.settled = true;
        Ok(())
    }
}
