//! Bytes as one stanza: refused with an error, or read, written and read again to the same meaning.

use session_core::{Element, ElementLimits, Message};
use session_xmpp::stanza::{self, Incoming, Request};
use session_xmpp::xml::{self, Context};

/// Takes `data` for a stanza that arrived.
pub fn stanza(data: &[u8]) {
    let Ok(element) = parse(data) else { return };
    let mut written = Vec::new();
    xml::write(&element, &Context::CLIENT, &mut written).expect("what was read can be written");
    assert_eq!(
        parse(&written).as_ref(),
        Ok(&element),
        "{}",
        String::from_utf8_lossy(&written)
    );

    let local = session_xmpp::address::parse("bob@example.org/lap").expect("an address");
    match stanza::decode(element, &local) {
        Incoming::Message { request, message } => {
            check_message(&message, &local);
            check_reply(&request, message.dialect, Ok(None));
        }
        Incoming::Refused {
            request,
            dialect,
            error,
        } => check_reply(&request, dialect, Err(error)),
        Incoming::Request(request) => {
            check_reply(&request, session_core::Dialect::JINGLE, Ok(None));
        }
        Incoming::Reply(_) | Incoming::Other(_) | Incoming::Unusable(_) => {}
    }
}

/// What a dialect understood and can say itself, it understands again.
fn check_message(message: &Message, local: &session_core::Peer) {
    let mut written = Vec::new();
    if stanza::encode_message("1", message, &Context::CLIENT, &mut written).is_err() {
        assert!(written.is_empty(), "a refusal leaves nothing behind");
        return;
    }
    let element = parse(&written).expect("our own stanza");
    match stanza::decode(element, local) {
        Incoming::Message { message: again, .. } => {
            assert_eq!(&again, message, "{}", String::from_utf8_lossy(&written));
        }
        other => panic!("{other:?} from {}", String::from_utf8_lossy(&written)),
    }
}

/// An answer can always be written, and is a stanza.
fn check_reply(
    request: &Request,
    dialect: &session_core::Dialect,
    reply: Result<Option<Element>, session_core::StanzaError>,
) {
    let mut written = Vec::new();
    stanza::encode_reply(request, dialect, &reply, &Context::CLIENT, &mut written)
        .expect("an answer to what was read");
    assert!(
        parse(&written).is_ok(),
        "{}",
        String::from_utf8_lossy(&written)
    );
}

fn parse(bytes: &[u8]) -> Result<Element, xml::XmlError> {
    xml::parse(bytes, &Context::CLIENT, &ElementLimits::default())
}
