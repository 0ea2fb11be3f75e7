//! Entry points for fuzzers: bytes in, a panic if something that must hold does not.

use session_core::{Dialect, Element, ElementLimits, Message, Peer};

use crate::stanza::{self, Incoming, Request};
use crate::xml::{self, Context};

/// One stanza: it is read or refused, and what was read and can be written is read as the same again, element, message
/// and reply.
///
/// # Panics
/// If that does not hold.
pub fn stanza(bytes: &[u8]) {
    let Ok(element) = xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()) else {
        return;
    };
    let mut written = Vec::new();
    xml::write(&element, &Context::CLIENT, &mut written).expect("what was read can be written");
    assert_eq!(parse(&written), element);
    match stanza::decode(element, &local()) {
        Incoming::Message { request, message } => {
            check_message(&message);
            check_replies(&request);
        }
        Incoming::Refused {
            request,
            error,
            dialect,
        } => {
            check_reply(&request, dialect, &Err(error));
        }
        Incoming::Request(request) => check_replies(&request),
        Incoming::Reply(_) | Incoming::Other(_) | Incoming::Unusable(_) => {}
    }
}

fn local() -> Peer {
    Peer::from("local@example.org/here")
}

fn parse(bytes: &[u8]) -> Element {
    // Escapes, declarations and what a reply adds may exceed the limits that the original kept.
    let limits = ElementLimits::default();
    let limits = ElementLimits {
        bytes: 16 * limits.bytes,
        elements: 2 * limits.elements,
        children: 2 * limits.children,
        namespaces: 2 * limits.namespaces,
        ..limits
    };
    xml::parse(bytes, &Context::CLIENT, &limits).expect("what was written can be read")
}

fn check_message(message: &Message) {
    let mut out = Vec::new();
    if stanza::encode_message("1", message, &Context::CLIENT, &mut out).is_err() {
        assert!(out.is_empty());
        return;
    }
    let again = stanza::decode(parse(&out), &local());
    let Incoming::Message { message: again, .. } = again else {
        panic!("{again:?}")
    };
    assert_eq!(&again, message);
}

fn check_replies(request: &Request) {
    for dialect in Dialect::ALL {
        let error = session_core::PeerError::UnknownSession.to_stanza_error(dialect);
        check_reply(request, dialect, &Err(error));
    }
    check_reply(request, Dialect::JINGLE, &Ok(None));
}

fn check_reply(
    request: &Request,
    dialect: &Dialect,
    reply: &Result<Option<Element>, session_core::StanzaError>,
) {
    let mut out = Vec::new();
    stanza::encode_reply(request, dialect, reply, &Context::CLIENT, &mut out)
        .expect("what was read can be echoed");
    let read = stanza::decode(parse(&out), request.from());
    let Incoming::Reply(read) = read else {
        panic!("{read:?}")
    };
    assert_eq!(&read.reply, reply);
}
