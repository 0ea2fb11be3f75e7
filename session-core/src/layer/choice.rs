//! One of several layers, as both sides have it.

use super::{ChannelLayer, LayerNegotiation};
use crate::{
    Element, ElementRef, TransportChannel, TransportContext, TransportError, TransportKind,
};
use std::{fmt, sync::Arc};

/// Several layers for one channel: an offer names all of them, the answer picks one, and the channel gets that.
///
/// The responder picks the first of its own order that the offer names and that accepts the offer. A layer that does not
/// negotiate (PseudoTCP) is what is used when none is named: it stands last. Without such a layer that is a failure.
///
/// Layers beside each other need children of `<transport/>` that differ, because the answer is told by them.
#[derive(Clone)]
pub struct LayerChoice {
    layers: Arc<[Arc<dyn ChannelLayer>]>,
}

impl LayerChoice {
    /// Of these layers, most preferred first, which all carry the same ([`ChannelLayer::kind`]).
    ///
    /// # Panics
    /// Without layers, or with such as carry different things: that is a mistake in the program.
    pub fn new(layers: impl IntoIterator<Item = Arc<dyn ChannelLayer>>) -> Self {
        let layers: Arc<[_]> = layers.into_iter().collect();
        let kind = layers.first().map(|layer| layer.kind());
        assert!(kind.is_some(), "a choice of no layers");
        assert!(
            layers.iter().all(|layer| Some(layer.kind()) == kind),
            "layers of one channel carry the same"
        );
        Self { layers }
    }
}

impl ChannelLayer for LayerChoice {
    /// The layer that does not negotiate, or else the last.
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        let plain = |layer: &&Arc<dyn ChannelLayer>| layer.negotiate(context).is_none();
        match self
            .layers
            .iter()
            .find(plain)
            .or_else(|| self.layers.last())
        {
            Some(layer) => layer.wrap(inner, context),
            None => inner,
        }
    }

    fn negotiate(&self, context: &TransportContext) -> Option<Box<dyn LayerNegotiation>> {
        let mut plain = None;
        let mut negotiations = Vec::with_capacity(self.layers.len());
        for layer in self.layers.iter() {
            match layer.negotiate(context) {
                Some(negotiation) => negotiations.push(negotiation),
                None => plain = plain.or_else(|| Some(Arc::clone(layer))),
            }
        }
        (!negotiations.is_empty()).then(|| {
            Box::new(Choice {
                negotiations,
                plain,
                chosen: Chosen::Open,
                heard: None,
            }) as _
        })
    }

    fn kind(&self) -> TransportKind {
        let first = self.layers.first();
        first.map_or(TransportKind::Streaming, |layer| layer.kind())
    }
}

struct Choice {
    negotiations: Vec<Box<dyn LayerNegotiation>>,
    /// What is used when none of them is.
    plain: Option<Arc<dyn ChannelLayer>>,
    chosen: Chosen,
    /// The one of which the peer spoke before it answered.
    heard: Option<usize>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Chosen {
    Open,
    One(usize),
    Plain,
}

impl Choice {
    fn names(&self, at: usize, transport: &Element) -> bool {
        transport
            .children()
            .any(|child| self.negotiations[at].owns(child))
    }

    fn choose_plain(&mut self) -> Result<(), TransportError> {
        if self.plain.is_none() {
            return Err(TransportError::Unacceptable(
                "the peer names no layer that we know",
            ));
        }
        self.chosen = Chosen::Plain;
        Ok(())
    }
}

impl LayerNegotiation for Choice {
    fn owns(&self, child: ElementRef<'_>) -> bool {
        self.negotiations.iter().any(|layer| layer.owns(child))
    }

    fn offer(&mut self) -> Vec<Element> {
        self.negotiations
            .iter_mut()
            .flat_map(|layer| layer.offer())
            .collect()
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Vec<Element>, TransportError> {
        let mut error = None;
        for at in 0..self.negotiations.len() {
            if !self.names(at, offer) {
                continue;
            }
            match self.negotiations[at].accept_offer(offer) {
                Ok(answer) => {
                    self.chosen = Chosen::One(at);
                    return Ok(answer);
                }
                Err(refusal) => error = error.or(Some(refusal)),
            }
        }
        match error {
            // What was named and cannot be used is no reason to do without.
            Some(error) => Err(error),
            None => self.choose_plain().map(|()| Vec::new()),
        }
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        let mut named = (0..self.negotiations.len()).filter(|&at| self.names(at, answer));
        let (first, second) = (named.next(), named.next());
        if second.is_some() {
            return Err(TransportError::Malformed {
                field: "transport",
                problem: "the answer names more than one layer",
            });
        }
        let begun = match self.chosen {
            Chosen::One(at) => Some(at),
            Chosen::Open | Chosen::Plain => None,
        };
        if begun.is_some() && first.is_some_and(|at| Some(at) != begun) {
            return Err(TransportError::Untrusted(
                "the peer has begun with another layer",
            ));
        }
        let Some(at) = first.or(self.heard) else {
            return self.choose_plain();
        };
        self.negotiations[at].accept_answer(answer)?;
        self.chosen = Chosen::One(at);
        Ok(())
    }

    fn handle_info(&mut self, info: &Element) -> Result<(), TransportError> {
        for at in 0..self.negotiations.len() {
            let meant = self.chosen == Chosen::One(at) || self.chosen == Chosen::Open;
            if meant && self.names(at, info) {
                self.negotiations[at].handle_info(info)?;
                self.heard = self.heard.or(Some(at));
            }
        }
        Ok(())
    }

    fn begin_early(&mut self) -> bool {
        let Some(at) = self.heard.filter(|_| self.chosen == Chosen::Open) else {
            return false;
        };
        let begins = self.negotiations[at].begin_early();
        if begins {
            self.chosen = Chosen::One(at);
        }
        begins
    }

    fn wrap(
        &mut self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        match (self.chosen, &self.plain) {
            (Chosen::One(at), _) => self.negotiations[at].wrap(inner, context),
            (Chosen::Open | Chosen::Plain, Some(plain)) => plain.wrap(inner, context),
            (Chosen::Open | Chosen::Plain, None) => inner,
        }
    }
}

impl fmt::Debug for LayerChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LayerChoice")
            .field("layers", &self.layers.len())
            .finish_non_exhaustive()
    }
}
