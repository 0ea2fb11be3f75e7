//! One connection of a component, as a state machine without I/O (XEP-0114 §3).

use crate::{
    client::{
        LoginError, Password,
        ns::STREAM_ERRORS,
        skipped::{self, Measure, Read},
    },
    splitter::{Frame, Framing, Part, Splitter},
    xml::{self, Context, NS_STREAMS, XmlError, XmlErrorKind},
};
use bytes::Bytes;
use session_core::{Element, ElementLimits};
use sha1::{Digest, Sha1};
use std::{collections::VecDeque, fmt, mem};

/// What a [`ComponentStream`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ComponentOutput {
    /// The server takes us for the component: stanzas can be sent.
    Up,
    /// A stanza arrived: one element, as it would stand in a stream of the namespace `jabber:client`.
    Stanza(Bytes),
    /// The connection is to be closed, when what [`ComponentStream::transmit`] gives has left.
    Disconnect(LoginError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    /// The server's header is awaited.
    Header,
    /// Its consent is awaited.
    Handshake,
    Online,
    Closed,
}

/// The head of its module says more. After each `handle_*`, drain [`poll_output`](Self::poll_output) and
/// [`transmit`](Self::transmit).
pub struct ComponentStream {
    domain: String,
    secret: Password,
    limits: ElementLimits,
    splitter: Splitter,
    context: Context,
    phase: Phase,
    /// Whether this connection has been online.
    stood: bool,
    outbox: Vec<u8>,
    outputs: VecDeque<ComponentOutput>,
}

enum Item {
    Open(Element, Context),
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

impl ComponentStream {
    /// Without a connection.
    pub fn new(domain: impl Into<String>, secret: Password, limits: ElementLimits) -> Self {
        Self {
            splitter: Splitter::new(Framing::Stream, &limits),
            domain: domain.into(),
            secret,
            limits,
            context: Context::COMPONENT,
            phase: Phase::Idle,
            stood: false,
            outbox: Vec::new(),
            outputs: VecDeque::new(),
        }
    }

    /// Whether stanzas can be sent.
    pub fn is_online(&self) -> bool {
        self.phase == Phase::Online
    }

    /// Whether this connection, or the last one, has been online.
    pub fn was_up(&self) -> bool {
        self.stood
    }

    /// A new connection stands.
    pub fn handle_connected(&mut self) {
        self.splitter.reset();
        self.outbox.clear();
        self.outputs.clear();
        self.phase = Phase::Header;
        self.stood = false;
        let header = Element::new(NS_STREAMS, "stream").with("to", &self.domain);
        if let Err(error) = xml::write_header(&header, &Context::COMPONENT, &mut self.outbox) {
            self.disconnect(LoginError::UnknownHost {
                domain: self.domain.as_str().into(),
                why: error.to_string().into(),
            });
        }
    }

    /// Bytes arrived.
    pub fn handle_bytes(&mut self, bytes: &[u8]) {
        if matches!(self.phase, Phase::Idle | Phase::Closed) {
            return;
        }
        self.splitter.push(bytes);
        while !matches!(self.phase, Phase::Idle | Phase::Closed) {
            match self.next_item() {
                Ok(Some(item)) => self.item(item),
                Ok(None) => return,
                Err(error) => {
                    let condition = error.condition();
                    let text = format!(
                        "<stream:error><{condition} xmlns='{STREAM_ERRORS}'/></stream:error>"
                    );
                    self.outbox.extend_from_slice(text.as_bytes());
                    self.disconnect(LoginError::protocol(error.to_string()));
                }
            }
        }
    }

    /// Takes a stanza, which has a sender.
    pub fn send(&mut self, stanza: &[u8]) {
        if self.is_online() {
            self.outbox.extend_from_slice(stanza);
        }
    }

    /// Ends the stream in order.
    pub fn close(&mut self) {
        match self.phase {
            Phase::Idle | Phase::Closed => self.phase = Phase::Closed,
            Phase::Header | Phase::Handshake | Phase::Online => self.disconnect(LoginError::Closed),
        }
    }

    /// The connection is gone.
    pub fn handle_disconnected(&mut self) {
        self.phase = Phase::Idle;
        self.outbox.clear();
    }

    /// What is to be sent over the connection; empty when there is nothing.
    pub fn transmit(&mut self) -> Bytes {
        mem::take(&mut self.outbox).into()
    }

    /// Bytes that wait in [`transmit`](Self::transmit).
    pub fn waiting(&self) -> usize {
        self.outbox.len()
    }

    /// What is to be told next.
    pub fn poll_output(&mut self) -> Option<ComponentOutput> {
        self.outputs.pop_front()
    }

    fn next_item(&mut self) -> Result<Option<Item>, XmlError> {
        let online = self.is_online();
        let measure = Measure {
            context: &self.context,
            limits: &self.limits,
            takes_stanzas: online,
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
                let (header, context) = xml::parse_header(bytes, &self.limits)?;
                Item::Open(header, context)
            }
            Frame::Stanza(bytes) if online && inherits_all(bytes, &self.context) => {
                Item::Stanza(Bytes::copy_from_slice(bytes))
            }
            Frame::Stanza(bytes) => measure.read(bytes)?.into(),
        }))
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Close => self.disconnect(LoginError::Closed),
            Item::Open(header, context) => self.header(&header, context),
            Item::Stanza(bytes) => self.outputs.push_back(ComponentOutput::Stanza(bytes)),
            Item::Skipped(bytes) => {
                if let Some(refusal) = skipped::refusal(&bytes, None) {
                    self.send(&refusal);
                }
            }
            Item::Element(element) if element.is(NS_STREAMS, "error") => {
                let error = self.their_error(&element);
                self.disconnect(error);
            }
            Item::Element(element) => self.element(&element),
        }
    }

    fn header(&mut self, header: &Element, context: Context) {
        if self.phase != Phase::Header {
            return self.disconnect(LoginError::protocol("a second header"));
        }
        if !header.is(NS_STREAMS, "stream") || context.default_namespace() != crate::ns::COMPONENT {
            return self.disconnect(LoginError::protocol("not the stream of a component"));
        }
        let Some(id) = header.attribute("id") else {
            return self.disconnect(LoginError::protocol("a stream without id"));
        };
        let digest = Sha1::new()
            .chain_update(id)
            .chain_update(self.secret.bytes())
            .finalize();
        let proof: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        self.outbox
            .extend_from_slice(format!("<handshake>{proof}</handshake>").as_bytes());
        self.context = context;
        self.phase = Phase::Handshake;
    }

    fn element(&mut self, element: &Element) {
        match self.phase {
            Phase::Handshake if element.is(crate::ns::COMPONENT, "handshake") => {
                self.phase = Phase::Online;
                self.stood = true;
                self.outputs.push_back(ComponentOutput::Up);
            }
            Phase::Online => {
                // It spells its namespaces otherwise than by the header.
                let mut bytes = Vec::new();
                match xml::write(element, &Context::COMPONENT, &mut bytes) {
                    Ok(()) => self
                        .outputs
                        .push_back(ComponentOutput::Stanza(bytes.into())),
                    Err(error) => self.disconnect(LoginError::protocol(error.to_string())),
                }
            }
            Phase::Idle | Phase::Header | Phase::Handshake | Phase::Closed => {
                self.disconnect(LoginError::protocol(format!(
                    "<{}/> before consent",
                    element.name()
                )));
            }
        }
    }

    fn their_error(&self, error: &Element) -> LoginError {
        let mut parts = error
            .children()
            .filter(|child| child.namespace() == STREAM_ERRORS);
        let condition = parts.clone().find(|child| child.name() != "text");
        let condition = condition.map_or("undefined-condition", |child| child.name());
        let text = parts.find(|child| child.name() == "text");
        let text = text.map(|text| text.text_content().into_owned().into());
        match condition {
            "not-authorized" => LoginError::WrongPassword(text),
            "host-unknown" => LoginError::UnknownHost {
                domain: self.domain.as_str().into(),
                why: "the server knows no such component".into(),
            },
            condition => LoginError::Stream {
                condition: condition.into(),
                text,
            },
        }
    }

    fn disconnect(&mut self, why: LoginError) {
        if !matches!(self.phase, Phase::Idle | Phase::Closed) {
            self.outbox.extend_from_slice(b"</stream:stream>");
        }
        self.phase = Phase::Closed;
        self.outputs.push_back(ComponentOutput::Disconnect(why));
    }
}

/// Without the secret.
impl fmt::Debug for ComponentStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ComponentStream")
            .field("domain", &self.domain)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// Whether a stanza takes its namespaces from the header, so that it means the same in a client's stream.
fn inherits_all(bytes: &[u8], context: &Context) -> bool {
    let declares = memchr::memmem::find(bytes, b"jabber:component:accept").is_some();
    let prefixes = context
        .prefixes()
        .all(|(prefix, namespace)| prefix == "stream" && namespace == NS_STREAMS);
    let is_stanza = [&b"<iq"[..], b"<message", b"<presence"]
        .iter()
        .any(|name| bytes.starts_with(name));
    !declares && prefixes && is_stanza
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "<stream:stream xmlns='jabber:component:accept' \
        xmlns:stream='http://etherx.jabber.org/streams' id='3BF96D32' from='c.x'>";

    fn stream() -> ComponentStream {
        let mut stream =
            ComponentStream::new("c.x", Password::new("secret"), ElementLimits::default());
        stream.handle_connected();
        let sent = String::from_utf8(stream.transmit().to_vec()).unwrap();
        assert!(
            sent.contains("xmlns='jabber:component:accept'") && sent.contains("to='c.x'"),
            "{sent}"
        );
        stream
    }

    fn online() -> ComponentStream {
        let mut stream = stream();
        stream.handle_bytes(HEADER.as_bytes());
        // printf 3BF96D32secret | sha1sum
        let proof = "<handshake>".to_owned()
            + &Sha1::digest(b"3BF96D32secret")
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect::<String>()
            + "</handshake>";
        assert_eq!(stream.transmit(), proof);
        stream.handle_bytes(b"<handshake/>");
        assert_eq!(stream.poll_output(), Some(ComponentOutput::Up));
        stream
    }

    #[test]
    fn stanzas_are_those_of_a_client() {
        let mut stream = online();
        stream.handle_bytes(b"<iq id='1' type='get' from='a@x/1' to='c.x'><q xmlns='q'/></iq>");
        let plain = stream.poll_output();
        assert!(
            matches!(plain, Some(ComponentOutput::Stanza(bytes)) if bytes.starts_with(b"<iq id='1'"))
        );
        let spelled =
            "<c:message xmlns:c='jabber:component:accept' to='c.x'><c:body>x</c:body></c:message>";
        stream.handle_bytes(spelled.as_bytes());
        let Some(ComponentOutput::Stanza(bytes)) = stream.poll_output() else {
            panic!()
        };
        let element = xml::parse(&bytes, &Context::CLIENT, &ElementLimits::default()).unwrap();
        assert!(element.is(crate::ns::CLIENT, "message"), "{element:?}");
        assert!(element.find(crate::ns::CLIENT, "body").is_some());
        stream.send(b"<message/>");
        assert_eq!(stream.transmit(), "<message/>");
    }

    #[test]
    fn a_stanza_that_breaks_a_limit_is_skipped_and_a_request_refused() {
        let deep = format!("{}{}", "<d>".repeat(64), "</d>".repeat(64));
        let many: String = (0..100).map(|number| format!(" a{number}=''")).collect();
        let mut stream = online();
        for stanza in [
            format!("<message from='a@x' to='c.x'>{deep}</message>"),
            format!("<message from='a@x' xmlns='jabber:component:accept'><a{many}/></message>"),
        ] {
            stream.handle_bytes(stanza.as_bytes());
        }
        assert_eq!(stream.transmit(), "");
        let asked = format!("<iq type='get' id='1' from='a@x' to='c.x'>{deep}</iq><message/>");
        stream.handle_bytes(asked.as_bytes());
        let refused = stream.transmit();
        assert!(refused.starts_with(b"<iq type='error' to='a@x' from='c.x' id='1'>"));
        let next = ComponentOutput::Stanza(Bytes::from_static(b"<message/>"));
        assert_eq!(stream.poll_output(), Some(next));
        stream.handle_bytes(format!("<other>{deep}</other>").as_bytes());
        let end = stream.poll_output();
        assert!(matches!(end, Some(ComponentOutput::Disconnect(_))));
    }

    #[test]
    fn what_goes_wrong_has_a_name() {
        let mut refused = stream();
        refused.handle_bytes(HEADER.as_bytes());
        let error =
            format!("<stream:error><not-authorized xmlns='{STREAM_ERRORS}'/></stream:error>");
        refused.handle_bytes(error.as_bytes());
        let wrong = ComponentOutput::Disconnect(LoginError::WrongPassword(None));
        assert_eq!(refused.poll_output(), Some(wrong));
        for bytes in [
            "<handshake/>",
            "x",
            "<stream:stream xmlns='jabber:client' \
            xmlns:stream='http://etherx.jabber.org/streams' id='1'>",
            "\u{0}",
        ] {
            let mut stream = stream();
            stream.handle_bytes(bytes.as_bytes());
            let end = stream.poll_output();
            assert!(
                matches!(end, Some(ComponentOutput::Disconnect(_))),
                "{bytes}: {end:?}"
            );
        }
        let mut early = stream();
        early.handle_bytes(HEADER.as_bytes());
        early.handle_bytes(b"<message/>");
        assert!(matches!(
            early.poll_output(),
            Some(ComponentOutput::Disconnect(_))
        ));
        let mut ended = online();
        ended.handle_bytes(b"</stream:stream>");
        assert_eq!(
            ended.poll_output(),
            Some(ComponentOutput::Disconnect(LoginError::Closed))
        );
        assert_eq!(ended.transmit(), "</stream:stream>");
        assert!(!format!("{ended:?}").contains("secret"));
    }
}
