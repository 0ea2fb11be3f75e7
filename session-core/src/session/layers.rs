//! The layers above a content's transports, as channels name them.

use super::{Session, content::Carrier};
use crate::{
    ChannelLayer, ContentSpec, Element, Misuse, PeerError, State, TransportAnswer, TransportError,
    TransportKind, layer::Moment,
};
use std::{sync::Arc, time::Instant};

impl Session {
    /// As [`add_content`](Self::add_content), for a content whose channels go through `layer`. A proposal to a running
    /// session leaves at once, so that the layer has to be known before there are channels.
    ///
    /// # Errors
    /// [`Misuse`]; nothing has changed.
    pub fn add_content_with_layer(
        &mut self,
        spec: ContentSpec,
        layer: Arc<dyn ChannelLayer>,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.add(spec, Some(layer), now)
    }

    /// Names the layer that channels of the default content will go through, before there are any: so that the offer, or
    /// the answer to the peer's, carries what the layer has to say although the channels are created later.
    ///
    /// # Errors
    /// [`Misuse::Transport`] when it is too late for the layer's words, or the layer cannot work with the peer's offer.
    pub fn announce_layer(&mut self, layer: &Arc<dyn ChannelLayer>) -> Result<(), Misuse> {
        let content = self.default_content_name();
        self.announce_layer_in(&content, layer)
    }

    /// As [`announce_layer`](Self::announce_layer), for any content.
    ///
    /// # Errors
    /// As it, and [`Misuse::UnknownContent`].
    pub fn announce_layer_in(
        &mut self,
        content: &str,
        layer: &Arc<dyn ChannelLayer>,
    ) -> Result<(), Misuse> {
        let known = self.content(content).map(|content| content.name.clone());
        let name = known.ok_or_else(|| Misuse::UnknownContent(content.into()))?;
        let joined = self.join_layer(&name, layer);
        joined.map(|_| ()).map_err(Misuse::Transport)
    }

    /// Tells the peer, before its offer is answered, what the layers of a content say in the answer (a fingerprint, for
    /// example: XEP-0320 §2), by a transport-info: with the next candidates, or at once when all are told. A peer that
    /// understands it can begin with its side of the layers, so that data passes while it still rings; for others the
    /// answer says it all again.
    ///
    /// The value is whether there is something to tell that may be told now. Nothing may where candidates wait for the
    /// answer ([`Config::speculative`](crate::Config::speculative),
    /// [`set_candidates_in_offer`](Self::set_candidates_in_offer)), or where answers do not travel with the accept.
    ///
    /// # Errors
    /// [`Misuse::UnknownContent`]; [`Misuse::TooLate`] except in [`State::ReceivedInitiate`].
    pub fn tell_layers_early(&mut self, content: &str) -> Result<bool, Misuse> {
        if self.state != State::ReceivedInitiate {
            return Err(Misuse::TooLate(self.state));
        }
        let at = self.content_position(content);
        let at = at.ok_or_else(|| Misuse::UnknownContent(content.into()))?;
        let in_accept = self.dialect.transport_answer == TransportAnswer::InAccept;
        let told = in_accept && self.may_tell() && self.contents[at].layer_words().is_some();
        self.contents[at].tells_layers = told;
        self.stir();
        Ok(told)
    }

    /// A channel was created: its layer becomes one of its content's, as far as it can still be negotiated.
    /// The `Ok` value says whether it is new there.
    ///
    /// # Errors
    /// The layer has something to say, and it is too late for that, or it cannot work with the peer's offer.
    pub(crate) fn join_layer(
        &mut self,
        content: &Arc<str>,
        layer: &Arc<dyn ChannelLayer>,
    ) -> Result<bool, TransportError> {
        let Some((at, host)) = self.layer_hosts(content) else {
            return Ok(false);
        };
        let known = |known: &Arc<dyn ChannelLayer>| Arc::ptr_eq(known, layer);
        if self.contents[at].layers.iter().any(known) {
            return Ok(false);
        }
        let context = self.transport_context(content);
        let init = self.state == State::Init;
        let content = &mut self.contents[host];
        let open = content.offer.as_ref().filter(|_| content.answer.is_some());
        // What streams has no layers of ours, whatever its offer has in it.
        let has_layers = |carrier: &&mut Carrier| carrier.kind == TransportKind::Datagram;
        for carrier in content.carriers.iter_mut().filter(has_layers) {
            let moment = match open {
                _ if init => Moment::Early,
                Some(offer) => Moment::Offered(offer),
                None => Moment::Late(&carrier.namespace),
            };
            let said = carrier.layers.join(layer, &context, moment)?;
            if let Some(answer) = &mut content.answer {
                said.into_iter().for_each(|child| answer.push(child));
            }
        }
        if let Some(carrier) = content.replacing.as_mut().filter(has_layers) {
            let moment = Moment::Late(&carrier.namespace);
            carrier.layers.join(layer, &context, moment)?;
        }
        self.contents[at].layers.push(Arc::clone(layer));
        Ok(true)
    }

    /// A channel could not be created: its layer goes with it, unless others have it.
    pub(crate) fn part_layer(&mut self, content: &Arc<str>, layer: &Arc<dyn ChannelLayer>) {
        let others = self.channels.iter().filter_map(|c| c.layer.as_ref());
        if others.into_iter().any(|other| Arc::ptr_eq(other, layer)) {
            return;
        }
        if let Some((at, host)) = self.layer_hosts(content) {
            let known = |known: &Arc<dyn ChannelLayer>| Arc::ptr_eq(known, layer);
            self.contents[at].layers.retain(|layer| !known(layer));
            let host = &mut self.contents[host];
            for carrier in host.carriers.iter_mut().chain(&mut host.replacing) {
                carrier.layers.part(layer);
            }
        }
    }

    /// A content, and the one that has its transport.
    fn layer_hosts(&self, content: &str) -> Option<(usize, usize)> {
        let at = self.content_position(content)?;
        Some((at, self.host_of(at)))
    }

    /// The peer accepts a transport without a word about it.
    ///
    /// # Errors
    /// When a layer cannot do without the peer's words; then nothing has changed.
    pub(crate) fn take_unanswered(
        &mut self,
        at: usize,
        chosen: usize,
        now: Instant,
    ) -> Result<(), PeerError> {
        if let Some(carrier) = self.contents[at].carriers.get_mut(chosen) {
            let nothing = Element::new(&carrier.namespace, "transport");
            let judged = carrier.layers.take_answer(&nothing);
            judged.map_err(|error| self.blame(at, error))?;
        }
        self.take_carrier(at, chosen, now);
        Ok(())
    }
}
