//! One content of a session: what is sent, how, and how far the agreement on it has come.

use crate::{
    ChannelLayer, ContentPart, Element, InfoTarget, Role, Senders, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind, layer::Layers,
};
use std::{collections::VecDeque, fmt, sync::Arc};

/// One content of a session (XEP-0166 §7.3).
pub struct Content {
    pub(crate) name: Arc<str>,
    pub(crate) creator: Role,
    pub(crate) senders: Senders,
    /// Somebody changed the senders after the offer, which an accept that was overtaken does not know.
    pub(crate) senders_changed: bool,
    /// What is to be said about the senders once the change under way is answered.
    pub(crate) senders_wanted: Option<Senders>,
    pub(crate) disposition: Option<Arc<str>>,
    pub(crate) description: Option<Element>,
    pub(crate) remote_description: Option<Element>,
    pub(crate) security: Option<Element>,
    pub(crate) state: ContentState,
    /// The transports on offer; once agreed, exactly the one in use.
    pub(crate) carriers: Vec<Carrier>,
    /// Whether `carriers` is the one that both sides agreed on.
    pub(crate) agreed: bool,
    /// Potential transports that were not offered yet.
    pub(crate) untried: VecDeque<Arc<str>>,
    /// The transport failed before the peer accepted it: the next one is offered then, because many clients take a
    /// transport-replace only in an accepted session.
    pub(crate) deferred: bool,
    /// Our transport-replace that awaits its answer.
    pub(crate) replacing: Option<Carrier>,
    /// The peer's transport-replace that was accepted last.
    pub(crate) taken: Option<Element>,
    /// Replacements of the peer that were refused in a row.
    pub(crate) refused: u8,
    /// The answer to the peer's offer, for the accept.
    pub(crate) answer: Option<Element>,
    /// The peer's offer of the transport in use, until the agreement: a channel may come with a layer that has to see it.
    pub(crate) offer: Option<Element>,
    /// What the layers say in the answer is to be said before it.
    pub(crate) tells_layers: bool,
    /// The layers of its channels.
    pub(crate) layers: Vec<Arc<dyn ChannelLayer>>,
    /// The content whose transport this one shares.
    pub(crate) bundled: Option<Arc<str>>,
    /// What arrived for channels or transports that do not exist yet: transport, target, payload. Without a target the
    /// payload is a whole `<transport/>` that only its transport can take apart.
    pub(crate) early: VecDeque<(Arc<str>, Option<InfoTarget>, Element)>,
    /// Children of transport elements accepted so far.
    pub(crate) candidates: usize,
    /// What our channels want to tell theirs.
    pub(crate) infos: Vec<(Arc<str>, Element)>,
    /// What was told before the agreement, for an offer that goes out again.
    pub(crate) told: Vec<(Arc<str>, Element)>,
    /// Namespaces of transports that were replaced: what arrives for them is late.
    pub(crate) retired: Vec<Arc<str>>,
}

/// How far the agreement on a [`Content`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ContentState {
    /// Part of the offer that the session's initiate makes.
    Offered,
    /// Proposed by us for a session that was offered already; the peer has not answered.
    ProposedHere,
    /// Proposed by the peer for a session that was offered already; we have not answered.
    ProposedThere,
    /// Agreed on.
    Active,
}

/// What a `<transport/>` says to channels.
pub(crate) type Infos = Vec<(InfoTarget, Element)>;

/// A transport of a content, with the layers above it.
pub(crate) struct Carrier {
    pub(crate) namespace: Arc<str>,
    pub(crate) kind: TransportKind,
    pub(crate) transport: Box<dyn Transport>,
    pub(crate) layers: Layers,
}

/// What [`Session::add_content`](crate::Session::add_content) adds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentSpec {
    /// Its name, unique in the session.
    pub name: Arc<str>,
    /// Who sends.
    pub senders: Senders,
    /// What it is for; `None` means `session`.
    pub disposition: Option<Arc<str>>,
    /// What is sent.
    pub description: Element,
    /// Security preconditions.
    pub security: Option<Element>,
}

impl ContentSpec {
    /// A content in which both send.
    pub fn new(name: impl Into<Arc<str>>, description: Element) -> Self {
        Self {
            name: name.into(),
            senders: Senders::Both,
            disposition: None,
            description,
            security: None,
        }
    }
}

impl Content {
    /// Its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Who added it.
    pub fn creator(&self) -> Role {
        self.creator
    }

    /// Who sends.
    pub fn senders(&self) -> Senders {
        self.senders
    }

    /// What it is for; `None` means `session`.
    pub fn disposition(&self) -> Option<&str> {
        self.disposition.as_deref()
    }

    /// What we said is sent.
    pub fn description(&self) -> Option<&Element> {
        self.description.as_ref()
    }

    /// What the peer said is sent, in its offer or its answer.
    pub fn remote_description(&self) -> Option<&Element> {
        self.remote_description.as_ref()
    }

    /// Security preconditions, ours or the peer's, as far as there are any.
    pub fn security(&self) -> Option<&Element> {
        self.security.as_ref()
    }

    /// How far the agreement on it has come.
    pub fn state(&self) -> ContentState {
        self.state
    }

    /// The namespace of the transport that was agreed on.
    pub fn transport(&self) -> Option<&str> {
        self.agreed
            .then(|| self.carriers.first().map(|c| &*c.namespace))
            .flatten()
    }

    /// The namespaces of the transports that are on offer, or of the one that was agreed on.
    pub fn transports(&self) -> impl Iterator<Item = &str> {
        self.carriers.iter().map(|c| &*c.namespace)
    }

    /// The content whose transport this one shares (XEP-0338).
    pub fn bundled_with(&self) -> Option<&str> {
        self.bundled.as_deref()
    }

    pub(crate) fn new(name: Arc<str>, creator: Role, state: ContentState) -> Self {
        Self {
            name,
            creator,
            senders: Senders::Both,
            senders_changed: false,
            senders_wanted: None,
            disposition: None,
            description: None,
            remote_description: None,
            security: None,
            state,
            carriers: Vec::new(),
            agreed: false,
            untried: VecDeque::new(),
            deferred: false,
            replacing: None,
            taken: None,
            refused: 0,
            answer: None,
            offer: None,
            tells_layers: false,
            layers: Vec::new(),
            bundled: None,
            early: VecDeque::new(),
            candidates: 0,
            infos: Vec::new(),
            told: Vec::new(),
            retired: Vec::new(),
        }
    }

    /// A content as the peer proposes it. What is kept for long is detached from the stanza that it came in.
    pub(crate) fn proposed(
        part: &ContentPart,
        name: Arc<str>,
        state: ContentState,
        from: Role,
    ) -> Self {
        Self {
            senders: part.senders.unwrap_or_default(),
            disposition: part.disposition.clone(),
            remote_description: part.description.as_ref().map(Element::detach),
            security: part.security.as_ref().map(Element::detach),
            ..Self::new(name, from, state)
        }
    }

    pub(crate) fn describe(&mut self, spec: ContentSpec) {
        self.senders = spec.senders;
        self.disposition = spec.disposition;
        self.description = Some(spec.description.detach());
        self.security = spec.security.map(|s| s.detach());
    }

    /// Its part of a message, with nothing but what identifies it.
    pub(crate) fn part(&self) -> ContentPart {
        ContentPart {
            creator: Some(self.creator),
            ..ContentPart::named(self.name.clone())
        }
    }

    /// Its part of an offer or of an accept: everything but the transports.
    pub(crate) fn described_part(&self) -> ContentPart {
        ContentPart {
            senders: Some(self.senders),
            disposition: self.disposition.clone(),
            description: self.description.clone(),
            security: self.security.clone(),
            ..self.part()
        }
    }

    /// Whether it waits for an answer of its own, beside that to the session's offer.
    pub(crate) fn is_proposed(&self) -> bool {
        match self.state {
            ContentState::ProposedHere | ContentState::ProposedThere => true,
            ContentState::Offered | ContentState::Active => false,
        }
    }

    /// Whether the transport that the channels use, or will use, is settled.
    pub(crate) fn is_settled(&self) -> bool {
        self.agreed || self.bundled.is_some()
    }

    /// Of our answer, what the layers say: a `<transport/>` with nothing else but its attributes. None without words.
    pub(crate) fn layer_words(&self) -> Option<Element> {
        let (answer, carrier) = (self.answer.as_ref()?, self.carriers.first()?);
        let mut said = Element::new(answer.namespace(), answer.name());
        for attribute in answer.attributes() {
            said.set_attribute_ns(attribute.namespace, attribute.name, attribute.value);
        }
        for word in carrier.layers.words(answer) {
            said.push(word.to_element());
        }
        (!said.is_empty()).then_some(said)
    }

    /// Drops what was only needed until the agreement.
    pub(crate) fn settle(&mut self) {
        self.told = Vec::new();
        self.answer = None;
        self.offer = None;
        self.carriers.shrink_to_fit();
    }
}

impl Carrier {
    pub(crate) fn new(
        factory: &dyn TransportFactory,
        layers: &[Arc<dyn ChannelLayer>],
        context: &TransportContext,
    ) -> Self {
        let kind = factory.kind();
        Self {
            namespace: factory.namespace().into(),
            kind,
            transport: factory.create(context),
            layers: Layers::new(layers, kind, context),
        }
    }

    pub(crate) fn offer(&mut self) -> Element {
        self.layers.offer(self.transport.as_mut())
    }

    pub(crate) fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        self.layers.accept_offer(self.transport.as_mut(), offer)
    }

    pub(crate) fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        self.layers.accept_answer(self.transport.as_mut(), answer)
    }

    /// What an offer or an answer says to channels.
    pub(crate) fn split_info(&mut self, info: &Element) -> Result<Infos, TransportError> {
        self.layers.split_info(self.transport.as_mut(), info)
    }

    /// What a transport-info says to channels; what it says to layers they get here.
    pub(crate) fn take_info(&mut self, info: &Element) -> Result<Infos, TransportError> {
        self.layers.take_info(self.transport.as_mut(), info)
    }

    pub(crate) fn create_channel(
        &mut self,
        name: &str,
        layer: Option<&Arc<dyn ChannelLayer>>,
        context: &TransportContext,
    ) -> Result<Box<dyn TransportChannel>, TransportError> {
        let streams = self.kind == TransportKind::Streaming;
        if streams && layer.is_some_and(|layer| layer.kind() == TransportKind::Datagram) {
            let what = "it streams, and the channel's layer needs datagrams";
            return Err(TransportError::Unacceptable(what));
        }
        let layer = layer.filter(|_| !streams);
        let transport = self.transport.as_mut();
        self.layers.create_channel(transport, name, layer, context)
    }
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Content")
            .field("name", &self.name)
            .field("creator", &self.creator)
            .field("senders", &self.senders)
            .field("state", &self.state)
            .field("transports", &self.transports().collect::<Vec<_>>())
            .field("agreed", &self.agreed)
            .finish_non_exhaustive()
    }
}
