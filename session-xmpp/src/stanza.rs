//! Stanzas: who, to whom, and whether a request, its answer, or neither.
//!
//! [`decode`] tells what an [`Element`] from a stream is, and reads what concerns sessions. The `encode_*` functions
//! write straight into a buffer, without a tree in between.
//!
//! The core numbers what it asks ([`RequestId`](session_core::RequestId)); on the wire a request has an `id` of text, which
//! is unique only together with the other's address: both ends count from 1. Which text stands for which number is the
//! caller's book-keeping.
//!
//! ```
//! use session_core::{Element, ElementLimits};
//! use session_xmpp::stanza::{self, Incoming};
//! use session_xmpp::{address, xml};
//! let bytes = b"<iq type='set' id='x1' from='alice@example.org/desk' to='bob@example.org/lap'>\
//!     <jingle xmlns='urn:xmpp:jingle:1' action='session-terminate' sid='s1'>\
//!     <reason><success/></reason></jingle></iq>";
//! let local = address::parse("bob@example.org/lap")?;
//! let iq = xml::parse(bytes, &xml::Context::CLIENT, &ElementLimits::default())?;
//! let Incoming::Message { request, message } = stanza::decode(iq, &local) else { panic!() };
//! assert_eq!((request.id(), &*message.sid), ("x1", "s1"));
//!
//! let mut out = Vec::new();
//! stanza::encode_reply(&request, message.dialect, &Ok(None), &xml::Context::CLIENT, &mut out)?;
//! assert_eq!(
//!     String::from_utf8(out)?,
//!     "<iq from='bob@example.org/lap' id='x1' to='alice@example.org/desk' type='result'/>"
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod error;

use std::sync::Arc;

use session_core::{
    Condition, Dialect, Element, ElementRef, ErrorKind, Message, Peer, StanzaError,
};

use crate::dialect::{self, EncodeError};
use crate::xml::{Context, Writer};
use crate::{address, ns};

/// What a stanza is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "made once and taken apart at once, never stored"
)]
pub enum Incoming {
    /// A session's message. To be answered exactly once.
    Message {
        /// What to answer.
        request: Request,
        /// What it says.
        message: Message,
    },
    /// Another request. To be answered exactly once.
    Request(Request),
    /// A request that is to be answered with this error, and is done with.
    Refused {
        /// What to answer.
        request: Request,
        /// In which dialect.
        dialect: &'static Dialect,
        /// The answer.
        error: StanzaError,
    },
    /// The answer to a request of ours.
    Reply(Reply),
    /// A `<message/>` or `<presence/>`.
    Other(Envelope),
    /// What is no stanza of RFC 6120 §8, has an address that is none, or is a request or an answer without `id`: nobody
    /// could be answered, and nothing assigned.
    Unusable(Element),
}

/// A request (`<iq/>` of type `get` or `set`), kept until it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    envelope: Envelope,
}

impl Request {
    /// The name under which the sender awaits the answer.
    pub fn id(&self) -> &str {
        self.envelope.id().unwrap_or_default()
    }

    /// Who asks.
    pub fn from(&self) -> &Peer {
        &self.envelope.from
    }

    /// Which of our addresses was asked.
    pub fn to(&self) -> &Peer {
        &self.envelope.to
    }

    /// Whether something is asked for (`get`) rather than to be done (`set`).
    pub fn is_get(&self) -> bool {
        self.envelope.kind() == Some("get")
    }

    /// What is asked: the first child, which by RFC 6120 §8.2.3 is the only one.
    pub fn payload(&self) -> Option<ElementRef<'_>> {
        self.envelope.stanza.children().next()
    }

    /// The whole stanza.
    pub fn stanza(&self) -> &Element {
        &self.envelope.stanza
    }
}

/// An answer (`<iq/>` of type `result` or `error`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// The name that the request had. Only together with `from` does it tell which request.
    pub id: Arc<str>,
    /// Who answers.
    pub from: Peer,
    /// To which of our addresses.
    pub to: Peer,
    /// The answer: the payload of a result, or an error.
    pub reply: Result<Option<Element>, StanzaError>,
}

/// A stanza with its addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Who sent it: what the server stamped, or our own account where there is no stamp (RFC 6120 §8.1.2.1).
    pub from: Peer,
    /// To which of our addresses: the local one where the stanza does not say.
    pub to: Peer,
    /// The stanza.
    pub stanza: Element,
}

impl Envelope {
    /// Whether this is a `<message/>`, and no `<presence/>`.
    pub fn is_message(&self) -> bool {
        self.stanza.name() == "message"
    }

    /// The attribute `type`.
    pub fn kind(&self) -> Option<&str> {
        self.stanza.attribute("type")
    }

    /// The attribute `id`.
    pub fn id(&self) -> Option<&str> {
        self.stanza.attribute("id")
    }
}

/// Tells what a stanza is. Total: whatever the element, it is one of [`Incoming`].
///
/// `local` is our full address, as the stream bound it. The namespace of the stanza may be that of a client, a server
/// or a component, or none.
pub fn decode(stanza: Element, local: &Peer) -> Incoming {
    if !matches!(
        stanza.namespace(),
        ns::CLIENT | ns::SERVER | ns::COMPONENT | ""
    ) {
        return Incoming::Unusable(stanza);
    }
    let to = match stanza.attribute("to") {
        Some(text) if text != local.as_str() => address::parse(text),
        Some(_) | None => Ok(local.clone()),
    };
    let from = match stanza.attribute("from") {
        Some(text) => address::parse(text),
        None => Ok(address::bare(local)),
    };
    let (Ok(from), Ok(to)) = (from, to) else {
        return Incoming::Unusable(stanza);
    };
    let envelope = Envelope { from, to, stanza };
    match envelope.stanza.name() {
        "iq" if envelope.id().is_some_and(|id| !id.is_empty()) => decode_iq(envelope),
        "message" | "presence" => Incoming::Other(envelope),
        _ => Incoming::Unusable(envelope.stanza),
    }
}

fn decode_iq(envelope: Envelope) -> Incoming {
    match envelope.kind() {
        Some("set") => decode_set(Request { envelope }),
        Some("get") => Incoming::Request(Request { envelope }),
        Some("result") => {
            let payload = envelope
                .stanza
                .children()
                .next()
                .map(ElementRef::to_element);
            decode_reply(envelope, Ok(payload))
        }
        Some("error") => {
            let error = error::read(&envelope.stanza);
            decode_reply(envelope, Err(error))
        }
        Some(_) | None => {
            // RFC 6120 §8.2.3: the type is one of four.
            let error = StanzaError::new(Condition::BadRequest, ErrorKind::Modify);
            Incoming::Refused {
                request: Request { envelope },
                dialect: Dialect::JINGLE,
                error,
            }
        }
    }
}

fn decode_set(request: Request) -> Incoming {
    match dialect::read(request.stanza(), request.from(), request.to()) {
        None => Incoming::Request(request),
        Some(Ok(message)) => Incoming::Message { request, message },
        Some(Err((error, dialect))) => Incoming::Refused {
            request,
            dialect,
            error: error.to_stanza_error(dialect),
        },
    }
}

fn decode_reply(envelope: Envelope, reply: Result<Option<Element>, StanzaError>) -> Incoming {
    let id = envelope.id().unwrap_or_default().into();
    Incoming::Reply(Reply {
        id,
        from: envelope.from,
        to: envelope.to,
        reply,
    })
}

/// Appends the request that carries a session's message.
///
/// # Errors
/// [`EncodeError`] if the message's dialect cannot say it; `out` is then as before.
pub fn encode_message(
    id: &str,
    message: &Message,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    dialect::check(message)?;
    let mut writer = Writer::new(context, out);
    let head = Head {
        kind: Some("set"),
        id: Some(id),
        from: Some(&message.from),
        to: Some(&message.to),
    };
    head.write("iq", context, &mut writer);
    dialect::write(message, &mut writer);
    Ok(writer.finish()?)
}

/// What stands in a stanza's start tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Head<'a> {
    /// The attribute `type`.
    pub kind: Option<&'a str>,
    /// The attribute `id`.
    pub id: Option<&'a str>,
    /// The sender. A server checks or replaces it.
    pub from: Option<&'a Peer>,
    /// The receiver; without one, it is our server.
    pub to: Option<&'a Peer>,
}

impl Head<'_> {
    fn write<'a>(self, name: &'static str, context: &'a Context, writer: &mut Writer<'a>) {
        writer
            .open(context.default_namespace(), name)
            .attribute_opt("from", self.from.map(Peer::as_str))
            .attribute_opt("id", self.id)
            .attribute_opt("to", self.to.map(Peer::as_str))
            .attribute_opt("type", self.kind);
    }
}

/// Appends an `<iq/>` of any kind: a request of a transport, a question to a server.
///
/// # Errors
/// [`EncodeError::Xml`]; `out` is then as before.
pub fn encode_iq(
    head: Head<'_>,
    payload: Option<&Element>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode("iq", head, payload, context, out)
}

/// Appends a `<message/>`.
///
/// # Errors
/// [`EncodeError::Xml`]; `out` is then as before.
pub fn encode_chat<'p>(
    head: Head<'_>,
    payloads: impl IntoIterator<Item = &'p Element>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode("message", head, payloads, context, out)
}

/// Appends a `<presence/>`.
///
/// # Errors
/// [`EncodeError::Xml`]; `out` is then as before.
pub fn encode_presence<'p>(
    head: Head<'_>,
    payloads: impl IntoIterator<Item = &'p Element>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    encode("presence", head, payloads, context, out)
}

fn encode<'p>(
    name: &'static str,
    head: Head<'_>,
    payloads: impl IntoIterator<Item = &'p Element>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let mut writer = Writer::new(context, out);
    head.write(name, context, &mut writer);
    for payload in payloads {
        writer.element(payload.view());
    }
    Ok(writer.finish()?)
}

/// Appends the refusal of a stanza that is no request: a message that a transport cannot use (RFC 6120 §8.3.1). Says
/// nothing when the stanza is an error itself.
///
/// # Errors
/// [`EncodeError::Xml`]; `out` is then as before.
pub fn encode_refusal(
    refused: &Envelope,
    error: &StanzaError,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let stanza = &refused.stanza;
    if refused.kind() == Some("error") {
        return Ok(());
    }
    let name: &'static str = match stanza.name() {
        "presence" => "presence",
        _ => "message",
    };
    let mut writer = Writer::new(context, out);
    writer
        .open(context.default_namespace(), name)
        .attribute_opt("from", stanza.attribute("to"))
        .attribute_opt("id", stanza.attribute("id"))
        .attribute_opt("to", stanza.attribute("from"))
        .attribute("type", "error");
    error::write(stanza, error, Dialect::JINGLE, context, &mut writer);
    Ok(writer.finish()?)
}

/// Appends the answer to a request, in the words of a dialect: that of the message, or [`Dialect::JINGLE`] for requests
/// that have nothing to do with sessions (its errors are those of RFC 6120 §8.3).
///
/// # Errors
/// [`EncodeError::Xml`]; `out` is then as before.
pub fn encode_reply(
    request: &Request,
    dialect: &Dialect,
    reply: &Result<Option<Element>, StanzaError>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    let asked = request.stanza();
    let mut writer = Writer::new(context, out);
    writer
        .open(context.default_namespace(), "iq")
        // As the sender wrote them: it may compare the text.
        .attribute_opt("from", asked.attribute("to"))
        .attribute("id", request.id())
        .attribute_opt("to", asked.attribute("from"))
        .attribute("type", if reply.is_ok() { "result" } else { "error" });
    match reply {
        Ok(None) => {}
        Ok(Some(payload)) => {
            writer.element(payload.view());
        }
        Err(error) => error::write(asked, error, dialect, context, &mut writer),
    }
    Ok(writer.finish()?)
}
