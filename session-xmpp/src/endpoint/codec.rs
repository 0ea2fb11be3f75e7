//! Stanzas as bytes, as the driver needs them.

use super::{QueryKind, head::Head, queries::Answer};
use crate::{
    dialect::EncodeError,
    stanza::{self, Incoming, Request},
    xml::{self, Context, WriteError, XmlError},
};
use bytes::Bytes;
use session_core::{Dialect, Element, ElementLimits, Message, Peer};

/// What stanzas on a [`Link`](super::Link) inherit.
const CONTEXT: &Context = &Context::CLIENT;

/// What a stanza is. `own` is the address that the link is up under.
pub(super) fn read(bytes: &[u8], own: &Peer, limits: &ElementLimits) -> Result<Incoming, XmlError> {
    let element = xml::parse(bytes, CONTEXT, limits)?;
    Ok(stanza::decode(element, own))
}

/// The answer to a request that is no XML beyond its start tag.
pub(super) fn refusal(bytes: &Bytes) -> Option<Bytes> {
    let head = Head::parse(bytes).filter(Head::is_request)?;
    let sender = head.attribute("from")?;
    head.error(&sender, "modify", "bad-request")
}

/// A session's message as a request with this id.
pub(super) fn message(id: &str, message: &Message) -> Result<Bytes, EncodeError> {
    let mut out = Vec::new();
    stanza::encode_message(id, message, CONTEXT, &mut out)?;
    Ok(out.into())
}

/// Any other request with this id.
pub(super) fn request(
    id: &str,
    kind: QueryKind,
    from: Option<&Peer>,
    to: &Peer,
    payload: &Element,
) -> Result<Bytes, EncodeError> {
    let head = stanza::Head {
        kind: Some(match kind {
            QueryKind::Get => "get",
            QueryKind::Set => "set",
        }),
        id: Some(id),
        from,
        to: Some(to),
    };
    let mut out = Vec::new();
    stanza::encode_iq(head, Some(payload), CONTEXT, &mut out)?;
    Ok(out.into())
}

/// What a transport tells without asking: a message with this id.
pub(super) fn notice(
    id: &str,
    from: &Peer,
    to: &Peer,
    payload: &Element,
) -> Result<Bytes, EncodeError> {
    let head = stanza::Head {
        kind: None,
        id: Some(id),
        from: Some(from),
        to: Some(to),
    };
    let mut out = Vec::new();
    stanza::encode_chat(head, Some(payload), CONTEXT, &mut out)?;
    Ok(out.into())
}

/// The refusal of a message.
pub(super) fn refuse_notice(
    notice: &stanza::Envelope,
    error: &session_core::StanzaError,
) -> Result<Bytes, EncodeError> {
    let mut out = Vec::new();
    stanza::encode_refusal(notice, error, CONTEXT, &mut out)?;
    Ok(out.into())
}

/// What a transport's request is. One that only names what it wants to know asks: a proxy for its address
/// (XEP-0065 §4.2). All others change something.
pub(super) fn query_kind(payload: &Element) -> QueryKind {
    if payload.name() == "query" && payload.children().next().is_none() {
        QueryKind::Get
    } else {
        QueryKind::Set
    }
}

/// An answer.
pub(super) fn reply(
    request: &Request,
    dialect: &Dialect,
    reply: &Answer,
) -> Result<Bytes, EncodeError> {
    let mut out = Vec::new();
    stanza::encode_reply(request, dialect, reply, CONTEXT, &mut out)?;
    Ok(out.into())
}

/// A stanza as it is.
pub(super) fn stanza(element: &Element) -> Result<Bytes, WriteError> {
    let mut out = Vec::new();
    xml::write(element, CONTEXT, &mut out)?;
    Ok(out.into())
}
