//! In-band bytestreams: a stream through the XMPP server itself (XEP-0261, XEP-0047), the transport of last resort.
//!
//! [`Ibb`] is the factory. Its one channel is a stream of blocks in stanzas, which session-core carries as requests of a
//! transport. What holds a sender back: so many blocks may be unanswered ([`IbbConfig::window`]); a receiver that is
//! paused keeps its answers to itself; and a block in a message stanza counts as unanswered until the link has taken it.
//!
//! # The server's limit
//! A server ends the connection of who sends a larger stanza than it takes, and some (ejabberd) count all that they read at
//! once as one. So everything that is unanswered together stays below [`IbbConfig::stanza_max`], in blocks of such a size
//! that two are under way. It begins with what every server must take, 10,000 bytes, which over a long way is slow: at
//! 100 ms from block to answer some 55 KB/s. Who knows that the server takes more says so ([`Ibb::stanza_limit`]): it may
//! tell (XEP-0478), or be one's own. Of blocks in message stanzas nobody learns whether the server has read them, so that
//! they are bounded by the link alone.
//!
//! # Words that XEP-0047 leaves open
//! - A block whose number was used already is refused, and nothing else happens. One that is ahead shows that a block is
//!   lost: it is refused, and the stream ends, as the specification asks.
//! - A stream that breaks is not closed on the wire: a peer could not tell that from its orderly end. The session says what
//!   follows, by another transport or by its end.
//! - `<close/>` says that nothing more follows, and is answered at once. Whoever has still something to send may go on
//!   and close later; a peer for which the stream is over then answers that it knows of none, and the channel ends.
//! - White space between the characters of Base64 is taken, as in the specification's own examples; nothing else is.

mod channel;
mod words;

use channel::IbbChannel;
use session_core::{
    Dialect, Element, ErrorStyle, InfoTarget, Peer, PeerError, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory, TransportKind,
};
use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use words::{Terms, refusal};

/// The namespace of XEP-0261.
pub const NAMESPACE: &str = "urn:xmpp:jingle:transports:ibb:1";

/// The namespace of XEP-0047, in which the bytes travel.
pub const STREAM_NAMESPACE: &str = words::STREAM;

/// The largest block that XEP-0047 §2.1 allows, in bytes.
pub const BLOCK_SIZE_MAX: u16 = 65_535;

/// A smaller block than this is not accepted: its stanzas would be nearly all envelope.
pub const BLOCK_SIZE_MIN: u16 = 64;

/// The most blocks that may await their answers, whatever is configured: a session bounds the requests of all its
/// channels.
pub const WINDOW_MAX: usize = 64;

/// Bytes of a stanza that every server takes (RFC 6120 §13.12).
pub const STANZA_MAX: usize = 10_000;

/// In which stanzas blocks travel (XEP-0047 §2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IbbStanza {
    /// Requests: each block is acknowledged.
    #[default]
    Iq,
    /// Messages: nobody says that a block arrived, and a server may lose it silently.
    Message,
}

/// How in-band streams are offered, accepted and sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IbbConfig {
    /// Bytes in a block: what is offered, and the most that is accepted. Default 4,096, as XEP-0047 §5 recommends.
    pub block_size: u16,
    /// What is offered; the peer's choice is followed. Default [`IbbStanza::Iq`].
    pub stanza: IbbStanza,
    /// How many blocks may await their answers, from 1 to [`WINDOW_MAX`]. Default 8.
    pub window: usize,
    /// Bytes of the largest stanza that the server is known to take: all that awaits answers is kept a fifth below it.
    /// Default [`STANZA_MAX`].
    pub stanza_max: usize,
    /// How long the answer to one block may take before the stream counts as broken. Default 60 s.
    pub patience: Duration,
}

impl Default for IbbConfig {
    fn default() -> Self {
        Self {
            block_size: 4_096,
            stanza: IbbStanza::Iq,
            window: 8,
            stanza_max: STANZA_MAX,
            patience: Duration::from_secs(60),
        }
    }
}

/// The largest stanza that the server takes, shared with whoever learns it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct StanzaLimit(Arc<AtomicUsize>);

impl StanzaLimit {
    /// So many bytes, for the streams that run as for those that begin. Less than [`STANZA_MAX`] counts as that.
    pub fn set(&self, bytes: usize) {
        self.0.store(bytes.max(STANZA_MAX), Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The factory of in-band streams.
#[derive(Clone, Debug)]
pub struct Ibb {
    config: IbbConfig,
    limit: StanzaLimit,
}

impl Default for Ibb {
    fn default() -> Self {
        Self::with_config(IbbConfig::default())
    }
}

impl Ibb {
    /// With the usual configuration.
    pub fn new() -> Self {
        Self::default()
    }

    /// With this configuration; what is out of range is moved into it.
    pub fn with_config(mut config: IbbConfig) -> Self {
        config.block_size = config.block_size.max(BLOCK_SIZE_MIN);
        config.window = config.window.clamp(1, WINDOW_MAX);
        let limit = StanzaLimit(Arc::default());
        limit.set(config.stanza_max);
        Self { config, limit }
    }

    /// The limit of the server: to be set when it is known. It begins as [`IbbConfig::stanza_max`].
    pub fn stanza_limit(&self) -> StanzaLimit {
        self.limit.clone()
    }
}

impl TransportFactory for Ibb {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn kind(&self) -> TransportKind {
        TransportKind::Streaming
    }

    fn create(&self, context: &TransportContext) -> Box<dyn Transport> {
        let mut sid = String::from("ibb-");
        for byte in &context.seed[..16] {
            let _ = write!(sid, "{byte:02x}");
        }
        Box::new(IbbTransport {
            config: self.config.clone(),
            limit: self.limit.clone(),
            context: context.clone(),
            offered: Terms {
                sid: sid.into(),
                block_size: self.config.block_size,
                stanza: self.config.stanza,
            },
            agreed: None,
            has_channel: false,
        })
    }

    /// A stream that nobody has (XEP-0047 §2.2: item-not-found).
    fn unclaimed_request(&self, payload: &Element) -> Option<PeerError> {
        (payload.namespace() == STREAM_NAMESPACE).then(refusal::unknown)
    }

    fn supports(&self, dialect: &Dialect) -> bool {
        dialect.errors == ErrorStyle::Jingle
    }
}

struct IbbTransport {
    config: IbbConfig,
    limit: StanzaLimit,
    context: TransportContext,
    offered: Terms,
    agreed: Option<Terms>,
    has_channel: bool,
}

impl Transport for IbbTransport {
    fn namespace(&self) -> &str {
        NAMESPACE
    }

    fn offer(&mut self) -> Element {
        self.offered.to_element()
    }

    fn accept_offer(&mut self, offer: &Element) -> Result<Element, TransportError> {
        let terms = Terms::from_element(offer)?.lowered(&self.config);
        let answer = terms.to_element();
        self.agreed = Some(terms);
        Ok(answer)
    }

    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        let terms = Terms::from_element(answer)?;
        terms.check_answer_to(&self.offered)?;
        self.agreed = Some(terms);
        Ok(())
    }

    fn handle_remote(&mut self, remote: &Peer) {
        self.context.remote = remote.clone();
    }

    /// There is one: further streams beside it (XEP-0261 §2.4) have no user.
    fn create_channel(&mut self, name: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        if self.has_channel {
            let why = format!("an in-band bytestream carries one channel, and {name:?} is another");
            return Err(TransportError::NoResource(why.into()));
        }
        self.has_channel = true;
        Ok(Box::new(IbbChannel::new(
            self.config.clone(),
            self.limit.clone(),
            &self.context,
            self.offered.clone(),
            self.agreed.clone(),
        )))
    }

    /// The terms, which the channel has to learn.
    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        Terms::from_element(info)?;
        Ok(vec![(InfoTarget::All, info.clone())])
    }

    fn wrap_info(&mut self, _: Vec<(Arc<str>, Element)>) -> Element {
        // Channels have nothing to tell each other beside the stream.
        self.offered.to_element()
    }
}
