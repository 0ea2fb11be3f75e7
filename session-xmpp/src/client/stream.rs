//! [`Stream`]: one account's stream to its server, without I/O.
//!
//! A stream outlives its connections: what it has learned at one login (the better mechanism, the salted password, the
//! name under which to resume) it uses at the next. Whoever drives it tells it of connections, bytes and time, and does
//! what [`Stream::poll_output`] says.

mod negotiate;
mod online;
mod sasl2;

use super::{
    error::LoginError,
    management::Management,
    ns,
    sasl::{Credentials, Exchange, Mechanism, Secured},
    scram::Salted,
    skipped::{Measure, Read},
};
use crate::{
    endpoint::LinkError,
    splitter::{Frame, Framing, Part, Splitter},
    xml::{self, Context, NS_STREAMS, XmlError, XmlErrorKind},
};
use bytes::Bytes;
use session_core::{Element, ElementLimits, Entropy, Peer};
use std::{
    collections::VecDeque,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// Bytes that may wait to be sent over a connection.
pub const OUTBOX_BYTES: usize = 8 << 20;

/// What is to be logged in to, and how.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Login {
    /// The domain of the account, which its server has to prove to serve.
    pub domain: String,
    /// Who we are there.
    pub credentials: Credentials,
    /// The device; without one, the server makes up a name.
    pub resource: Option<String>,
    /// Whether to log in without TLS where the server offers none. For a server on the same machine, and nowhere else:
    /// whoever stands in between can take the offer away.
    pub allow_unencrypted: bool,
    /// Whether the login has to be bound to its TLS connection (`-PLUS`); else it is where the server offers that.
    pub require_channel_binding: bool,
    /// Whether to use stream management, where the server has it (XEP-0198).
    pub manage: bool,
    /// What a stanza may be. One that is more is skipped; if it is a request, it is refused.
    pub limits: ElementLimits,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// After how long a silence the server is asked whether it is still there, and how long it then has to answer.
    pub idle: Duration,
    /// How long a stream that lost its connection is kept for resumption, where the server does not say.
    pub resume_for: Duration,
}

impl Login {
    /// A login with these credentials at this domain, with the defaults: TLS required, stream management, half a minute
    /// for the login, one minute of silence, five minutes to resume.
    pub fn new(domain: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            domain: domain.into(),
            credentials,
            resource: None,
            allow_unencrypted: false,
            require_channel_binding: false,
            manage: true,
            limits: ElementLimits::default(),
            login_timeout: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            resume_for: Duration::from_secs(300),
        }
    }
}

/// What a [`Stream`] wants, or has to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Output {
    /// These bytes are to be sent over the connection.
    Transmit(Bytes),
    /// TLS is to be begun on the connection; then [`Stream::handle_secured`].
    StartTls,
    /// There is a login, under this address. Stanzas can be sent.
    Up(Peer),
    /// The connection is lost, and the login is kept to be resumed: what is sent meanwhile waits. [`Self::Resumed`] or
    /// [`Self::Down`] follows.
    Suspended,
    /// The login that was suspended goes on, and nothing was lost.
    Resumed,
    /// A stanza arrived: one element, as it would stand in a stream of the namespace `jabber:client`.
    Stanza(Bytes),
    /// The login is gone, and what was not confirmed may be lost.
    Down(LoginError),
    /// The connection is to be closed, for this reason; then [`Stream::handle_disconnected`].
    Disconnect(LoginError),
    /// There is nothing more until something happens, or until then.
    Wait(Option<Instant>),
}

/// See the [module](self).
pub struct Stream {
    login: Login,
    entropy: Box<dyn Entropy>,
    splitter: Splitter,
    /// What the server's stanzas inherit from its header.
    context: Context,
    phase: Phase,
    secured: Option<Secured>,
    outbox: Vec<u8>,
    outputs: VecDeque<Output>,
    /// Stanzas that came before the login was complete.
    early: Vec<Bytes>,
    /// The address of the login that lasts, also while its connection is lost.
    address: Option<Peer>,
    management: Option<Management>,
    /// Until when the server keeps the stream after a loss.
    resume_for: Duration,
    suspended_until: Option<Instant>,
    mechanism: Option<Mechanism>,
    salted: Option<Salted>,
    /// When the present state has lasted too long.
    deadline: Option<Instant>,
    /// Bytes of the largest stanza that the server says it takes, of this connection.
    stanza_max: Option<usize>,
    /// Whether the server's silence is being probed.
    probing: bool,
    /// Whether the server waits for our count: however often it asks before it takes the answer, that is one.
    owes_count: bool,
}

/// How far a connection has come.
enum Phase {
    /// There is none.
    Idle,
    /// The header is sent, the server's is awaited.
    Header { authenticated: bool },
    /// The server's offers are awaited.
    Features { authenticated: bool },
    /// STARTTLS is asked for.
    StartTls,
    /// TLS is being negotiated.
    Securing,
    /// A mechanism is under way.
    Authenticating {
        exchange: Exchange,
        mechanism: Mechanism,
        namespace: &'static str,
    },
    /// There is an address, and the server's further offers are awaited.
    Bound { address: Peer },
    /// The old stream is asked back; else a resource is bound.
    Resuming { session: bool },
    /// A resource is asked for: ours, or any.
    Binding {
        ours: bool,
        session: bool,
        management: bool,
    },
    /// The session of RFC 3921 is asked for.
    Session { address: Peer, management: bool },
    /// Stream management is asked for.
    Enabling { address: Peer },
    /// Stanzas flow.
    Online,
    /// Over.
    Closed,
}

/// What the splitter found, apart from its buffer.
enum Item {
    Open(Element, Context),
    /// A stanza that can be handed on as it is.
    Stanza(Bytes),
    Element(Element),
    /// A stanza that breaks a limit: as much of it as there is, the start tag at least.
    Skipped(Bytes),
    Close,
}

impl From<Read> for Item {
    fn from(read: Read) -> Self {
        match read {
            Read::Element(element) => Self::Element(element),
            Read::Skipped(bytes) => Self::Skipped(bytes),
        }
    }
}

impl Stream {
    /// A stream without a connection.
    pub fn new(login: Login, entropy: impl Entropy + 'static) -> Self {
        Self {
            splitter: Splitter::new(Framing::Stream, &login.limits),
            resume_for: login.resume_for,
            login,
            entropy: Box::new(entropy),
            context: Context::CLIENT,
            phase: Phase::Idle,
            secured: None,
            outbox: Vec::new(),
            outputs: VecDeque::new(),
            early: Vec::new(),
            address: None,
            management: None,
            suspended_until: None,
            mechanism: None,
            salted: None,
            deadline: None,
            stanza_max: None,
            probing: false,
            owes_count: false,
        }
    }

    /// The address under which we are logged in, also while the connection is lost and can be resumed.
    pub fn address(&self) -> Option<&Peer> {
        self.address.as_ref()
    }

    /// Whether stanzas flow at this moment.
    pub fn is_online(&self) -> bool {
        matches!(self.phase, Phase::Online)
    }

    /// The mechanism of the last login.
    pub fn mechanism(&self) -> Option<Mechanism> {
        self.mechanism
    }

    /// Whether the connection is protected by TLS.
    pub fn is_secured(&self) -> bool {
        self.secured.is_some()
    }

    /// Bytes of the largest stanza that the server takes, where it says so (XEP-0478).
    pub fn stanza_max(&self) -> Option<usize> {
        self.stanza_max
    }

    /// What the login is.
    pub fn login(&self) -> &Login {
        &self.login
    }

    /// Whether the server has been told of everything that was taken, and has confirmed it where it can.
    pub fn is_settled(&self) -> bool {
        let unconfirmed = self.management.as_ref().is_some_and(Management::is_pending);
        self.outbox.is_empty() && !unconfirmed
    }

    /// A new connection stands; `secured` if its TLS was negotiated already (direct TLS, XEP-0368).
    pub fn handle_connected(&mut self, secured: Option<Secured>, now: Instant) {
        self.splitter.reset();
        self.outbox.clear();
        self.owes_count = false;
        self.stanza_max = None;
        self.early.clear();
        self.secured = secured;
        self.deadline = now.checked_add(self.login.login_timeout);
        self.open(false);
    }

    /// TLS, which was asked for, stands.
    pub fn handle_secured(&mut self, secured: Secured) {
        if let Phase::Securing = self.phase {
            self.secured = Some(secured);
            self.open(false);
        }
    }

    /// Bytes arrived.
    pub fn handle_bytes(&mut self, bytes: &[u8], now: Instant) {
        if matches!(self.phase, Phase::Idle | Phase::Closed) {
            return;
        }
        if let Phase::Online = self.phase {
            self.heard(now);
        }
        self.splitter.push(bytes);
        // What comes after `<proceed/>` is no longer ours to read.
        while !matches!(self.phase, Phase::Idle | Phase::Closed | Phase::Securing) {
            match self.next_item() {
                Ok(Some(item)) => self.item(item, now),
                Ok(None) => return,
                Err(error) => {
                    self.stream_error(error.condition());
                    return self.disconnect(LoginError::protocol(error.to_string()));
                }
            }
        }
    }

    /// The connection is gone, whoever ended it.
    pub fn handle_disconnected(&mut self, why: LoginError, now: Instant) {
        if let Phase::Idle = self.phase {
            return;
        }
        self.phase = Phase::Idle;
        self.deadline = None;
        self.outbox.clear();
        self.owes_count = false;
        if self.address.is_none() {
            return;
        }
        let resumable = self
            .management
            .as_mut()
            .filter(|books| books.id().is_some());
        match resumable {
            Some(books) if why.is_temporary() => {
                books.interrupt();
                if self.suspended_until.is_none() {
                    self.suspended_until = now.checked_add(self.resume_for);
                    self.outputs.push_back(Output::Suspended);
                }
            }
            Some(_) | None => self.give_up(why),
        }
    }

    /// The instant of [`Output::Wait`] has come, or perhaps.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.suspended_until.is_some_and(|until| until <= now) {
            self.suspended_until = None;
            self.give_up(LoginError::Timeout);
        }
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            if self.is_online() && !self.probing {
                self.probe(now);
            } else {
                self.stream_error("connection-timeout");
                self.disconnect(LoginError::Timeout);
            }
        }
    }

    /// Takes a stanza: it is sent at once, or when the lost connection is resumed.
    ///
    /// # Errors
    /// [`LinkError::Down`] without a login, [`LinkError::Full`] when too much waits.
    pub fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        if self.address.is_none() {
            return Err(LinkError::Down);
        }
        let is_online = self.is_online();
        // A server can confirm what it has not read.
        if self.outbox.len() + stanza.len() > OUTBOX_BYTES {
            return Err(LinkError::Full);
        }
        if let Some(books) = &mut self.management {
            if !books.push(stanza) {
                return Err(LinkError::Full);
            }
            if is_online {
                self.flush();
            }
            return Ok(());
        }
        if !is_online {
            return Err(LinkError::Down);
        }
        self.outbox.extend_from_slice(&stanza);
        Ok(())
    }

    /// Ends the stream in an orderly way. What was taken is sent first, as far as there is a connection.
    pub fn close(&mut self) {
        self.tell_count();
        // What is not confirmed will not be any more, and the server need not keep it (XEP-0198 §5).
        self.management = None;
        self.address = None;
        self.suspended_until = None;
        if matches!(self.phase, Phase::Idle | Phase::Closed | Phase::Securing) {
            return;
        }
        self.outbox.extend_from_slice(b"</stream:stream>");
        self.disconnect(LoginError::Closed);
    }

    /// What is to be done next. [`Output::Wait`] is the last.
    pub fn poll_output(&mut self) -> Output {
        self.tell_count();
        if !self.outbox.is_empty() {
            return Output::Transmit(std::mem::take(&mut self.outbox).into());
        }
        self.poll_blocked()
    }

    /// As [`Self::poll_output`], while the connection takes nothing: all but [`Output::Transmit`], which waits.
    pub fn poll_blocked(&mut self) -> Output {
        if let Some(output) = self.outputs.pop_front() {
            return output;
        }
        let both = [self.deadline, self.suspended_until];
        Output::Wait(both.into_iter().flatten().min())
    }

    /// Sends our header (RFC 6120 §4.7).
    fn open(&mut self, authenticated: bool) {
        let mut header = Element::new(NS_STREAMS, "stream")
            .with("to", &self.login.domain)
            .with("version", "1.0");
        header.set_attribute_ns(xml::NS_XML, "lang", "en");
        self.phase = Phase::Header { authenticated };
        // The domain is the one thing in it that is not ours, and what XML cannot carry is no domain.
        if let Err(error) = xml::write_header(&header, &Context::CLIENT, &mut self.outbox) {
            self.disconnect(LoginError::UnknownHost {
                domain: self.login.domain.as_str().into(),
                why: error.to_string().into(),
            });
        }
    }

    fn next_item(&mut self) -> Result<Option<Item>, XmlError> {
        let online = matches!(self.phase, Phase::Online);
        let limits = &self.login.limits;
        let measure = Measure {
            context: &self.context,
            limits,
            takes_stanzas: self.takes_stanzas(),
        };
        let frame = match self.splitter.next_part()? {
            None => return Ok(None),
            Some(Part::Frame(frame)) => frame,
            Some(Part::Skipped { tag, limit }) => {
                let broken = XmlError::new(XmlErrorKind::Limit(limit), 0);
                let skipped = measure.skip(tag, broken);
                let at = self.splitter.frame_position();
                return skipped
                    .map(|read| Some(read.into()))
                    .map_err(|error| error.offset_by(at));
            }
        };
        Ok(Some(match frame {
            Frame::Close => Item::Close,
            Frame::Open(bytes) => {
                let (header, context) = xml::parse_header(bytes, limits)?;
                Item::Open(header, context)
            }
            Frame::Stanza(bytes) if online && is_stanza(bytes, &self.context) => {
                Item::Stanza(Bytes::copy_from_slice(bytes))
            }
            Frame::Stanza(bytes) => measure.read(bytes)?.into(),
        }))
    }

    /// Whether stanzas may come: from the first address on.
    fn takes_stanzas(&self) -> bool {
        match self.phase {
            Phase::Online
            | Phase::Binding { .. }
            | Phase::Session { .. }
            | Phase::Enabling { .. } => true,
            Phase::Idle
            | Phase::Header { .. }
            | Phase::Features { .. }
            | Phase::StartTls
            | Phase::Securing
            | Phase::Authenticating { .. }
            | Phase::Bound { .. }
            | Phase::Resuming { .. }
            | Phase::Closed => false,
        }
    }

    fn item(&mut self, item: Item, now: Instant) {
        let outcome = match item {
            Item::Close => {
                self.outbox.extend_from_slice(b"</stream:stream>");
                Err(LoginError::Closed)
            }
            Item::Open(header, context) => self.header(&header, context),
            Item::Stanza(bytes) => {
                self.stanza(bytes);
                Ok(())
            }
            Item::Skipped(bytes) => {
                self.skipped(&bytes);
                Ok(())
            }
            Item::Element(element) if element.is(NS_STREAMS, "error") => {
                Err(self.their_error(&element))
            }
            Item::Element(element) => self.element(&element, now),
        };
        if let Err(error) = outcome {
            self.disconnect(error);
        }
    }

    fn header(&mut self, header: &Element, context: Context) -> Result<(), LoginError> {
        let Phase::Header { authenticated } = self.phase else {
            return Err(LoginError::protocol("a second header"));
        };
        if !header.is(NS_STREAMS, "stream") || context.default_namespace() != crate::ns::CLIENT {
            return Err(LoginError::protocol("not the stream of a client"));
        }
        if !header
            .attribute("version")
            .is_some_and(|version| version.starts_with("1."))
        {
            return Err(LoginError::protocol("a stream of before RFC 3920"));
        }
        self.context = context;
        self.phase = Phase::Features { authenticated };
        Ok(())
    }

    /// What the server's `<stream:error/>` says.
    fn their_error(&self, element: &Element) -> LoginError {
        let (condition, text) = condition(element, ns::STREAM_ERRORS);
        match &*condition {
            "host-unknown" | "host-gone" => LoginError::UnknownHost {
                domain: self.login.domain.as_str().into(),
                why: format!("the server says {condition}").into(),
            },
            _ => LoginError::Stream { condition, text },
        }
    }

    /// Tells the server why the stream ends (RFC 6120 §4.9).
    fn stream_error(&mut self, condition: &str) {
        let error = format!(
            "<stream:error><{condition} xmlns='{}'/></stream:error></stream:stream>",
            ns::STREAM_ERRORS
        );
        self.outbox.extend_from_slice(error.as_bytes());
    }

    fn disconnect(&mut self, why: LoginError) {
        self.phase = Phase::Closed;
        self.deadline = None;
        self.owes_count = false;
        self.outputs.push_back(Output::Disconnect(why));
    }

    /// The login is gone for good.
    fn give_up(&mut self, why: LoginError) {
        self.management = None;
        self.suspended_until = None;
        if self.address.take().is_some() {
            self.outputs.push_back(Output::Down(why));
        }
    }

    fn write(&mut self, element: &Element) -> Result<(), LoginError> {
        xml::write(element, &Context::CLIENT, &mut self.outbox)
            .map_err(|error| LoginError::protocol(error.to_string()))
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("login", &self.login)
            .field("address", &self.address)
            .field("online", &self.is_online())
            .finish_non_exhaustive()
    }
}

/// Whether a frame is a stanza that means the same in the stream of [`Context::CLIENT`].
fn is_stanza(bytes: &[u8], context: &Context) -> bool {
    let name = bytes.get(1..).unwrap_or_default();
    let end = name
        .iter()
        .position(|byte| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>'));
    let name = &name[..end.unwrap_or(name.len())];
    *context == Context::CLIENT && matches!(name, b"iq" | b"message" | b"presence")
}

/// The condition and the text of an error: a child in this namespace, and what it says to people.
fn condition(element: &Element, namespace: &str) -> (Arc<str>, Option<Arc<str>>) {
    let mut children = element
        .children()
        .filter(|child| child.namespace() == namespace);
    let text = element
        .find(namespace, "text")
        .map(|text| text.text_content().trim().into());
    let name = children.find(|child| child.name() != "text");
    let name = name.map_or("undefined-condition", |child| child.name());
    (name.into(), text.filter(|text: &Arc<str>| !text.is_empty()))
}

#[cfg(test)]
mod tests;
