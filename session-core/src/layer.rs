//! Layers between a transport's channels and a client: [`ChannelLayer`], and [`LayerNegotiation`], by which one speaks in
//! signalling.

mod choice;
mod layered;
mod layers;
mod pending;

pub use choice::LayerChoice;
pub use layered::LayeredTransport;
pub(crate) use layers::{Layers, Moment};

use crate::{
    Element, ElementRef, TransportChannel, TransportContext, TransportError, TransportKind,
};

/// Puts one channel above another: a stream above datagrams, or protection around them.
///
/// A client names a layer when it creates a channel
/// ([`Session::create_stream_channel`](crate::Session::create_stream_channel),
/// [`Session::create_layered_channel`](crate::Session::create_layered_channel)). It is used when the transport that is
/// chosen carries datagrams. Over a transport that streams already, a layer that makes a stream is left out; one that
/// carries datagrams ([`kind`](Self::kind)) cannot be had there, and such transports are then neither offered nor
/// accepted for its content.
///
/// A layer that has nothing to say in signalling implements [`wrap`](Self::wrap) alone. One that has also implements
/// [`negotiate`](Self::negotiate).
pub trait ChannelLayer: Send + Sync {
    /// The upper channel, which drives `inner`. For layers that do not negotiate.
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel>;

    /// What the layer says and hears in signalling: one negotiation for each transport of a content, shared by those
    /// channels of the content that name the same layer. The default has nothing to say.
    fn negotiate(&self, context: &TransportContext) -> Option<Box<dyn LayerNegotiation>> {
        let _ = context;
        None
    }

    /// What the upper channel carries. Default [`TransportKind::Streaming`].
    fn kind(&self) -> TransportKind {
        TransportKind::Streaming
    }
}

/// What a layer and its counterpart say to each other in children of `<transport/>`, and what came of it.
///
/// First [`offer`](Self::offer) and [`accept_answer`](Self::accept_answer), or [`accept_offer`](Self::accept_offer);
/// then [`wrap`](Self::wrap) for each channel. A channel that is needed before, to find a path, waits below the layer:
/// what arrives for it meanwhile is kept, within a limit. When the offer goes to another address, or another transport
/// takes over, a new negotiation begins.
pub trait LayerNegotiation: Send {
    /// Whether a child of `<transport/>` is for this layer. The transport does not see those.
    fn owns(&self, child: ElementRef<'_>) -> bool;

    /// What we put into the offer. Called again when the offer is made again, and then says the same.
    fn offer(&mut self) -> Vec<Element>;

    /// Judges the peer's `<transport/>`, whole; the `Ok` value is what we put into the answer. An offer in which nothing
    /// is for this layer is the peer's way of saying that it does not know it.
    ///
    /// # Errors
    /// Why we cannot work with it, or not without it; the next transport is tried.
    fn accept_offer(&mut self, offer: &Element) -> Result<Vec<Element>, TransportError>;

    /// Judges the peer's answer, which is empty where the peer gave none.
    ///
    /// # Errors
    /// Why we cannot work with it, or not without it.
    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError>;

    /// A `<transport/>` of a transport-info, in which something is for this layer. May come before the answer.
    ///
    /// # Errors
    /// What is wrong with it; then nothing of it is applied.
    fn handle_info(&mut self, info: &Element) -> Result<(), TransportError>;

    /// Asked after [`handle_info`](Self::handle_info) while the answer is still to come: whether what the peer has said
    /// suffices to begin. After `true` [`wrap`](Self::wrap) may follow at once, and what the peer answers later must not
    /// change what was begun. The default waits for the answer.
    fn begin_early(&mut self) -> bool {
        false
    }

    /// The upper channel as it was agreed. Without an agreement to use the layer this may be `inner` itself.
    fn wrap(
        &mut self,
        inner: Box<dyn TransportChannel>,
        context: &TransportContext,
    ) -> Box<dyn TransportChannel>;
}
