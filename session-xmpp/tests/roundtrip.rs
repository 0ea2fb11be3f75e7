//! What is written is read as the same, for every dialect and whatever it can say; and nothing that is read panics.

#![allow(clippy::unwrap_used)]

#[path = "shared/damage.rs"]
mod damage;
#[path = "shared/strategies.rs"]
mod strategies;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use session_core::element::strategy::element;
use session_core::{
    Action, Condition, Dialect, Element, ElementLimits, ErrorKind, Message, Peer, StanzaError,
};
use session_xmpp::dialect::EncodeError;
use session_xmpp::stanza::{self, Head, Incoming};
use session_xmpp::xml::{self, Context};
use session_xmpp::{address, ns};

use damage::{mutated, mutation, nonsense};
use strategies::{compat, google_common, gtalk, hybrid, jingle, stanza_error};

fn local() -> Peer {
    Peer::from("local@example.org/here")
}

fn parse(bytes: &[u8]) -> Element {
    xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()).unwrap()
}

fn written(message: &Message) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::new();
    stanza::encode_message("x", message, &Context::CLIENT, &mut out)?;
    Ok(out)
}

fn read_back(message: &Message) -> Message {
    let incoming = stanza::decode(parse(&written(message).unwrap()), &local());
    let Incoming::Message { message, .. } = incoming else {
        panic!("{incoming:?}")
    };
    message
}

/// A stanza that was right before some changes.
fn nearly_right() -> impl Strategy<Value = Element> {
    let message = prop_oneof![jingle(), gtalk(), compat(), google_common(), hybrid()];
    (message, vec((0..14_usize, mutation()), 1..4)).prop_map(|(message, mutations)| {
        let mut stanza = parse(&written(&message).unwrap());
        for (at, mutation) in mutations {
            // The request itself stays.
            if let Some(changed) = mutated(stanza.view(), &mut Some(at + 1), &mutation).pop() {
                stanza = changed;
            }
        }
        stanza
    })
}

/// Reads any stanza; what can be written of it must be read as the same.
fn check_reading(stanza: Element) {
    let request = match stanza::decode(stanza, &local()) {
        Incoming::Message { request, message } => {
            if let Ok(bytes) = written(&message) {
                let Incoming::Message { message: again, .. } =
                    stanza::decode(parse(&bytes), &local())
                else {
                    panic!("{message:?}")
                };
                assert_eq!(again, message);
            }
            request
        }
        Incoming::Request(request) | Incoming::Refused { request, .. } => request,
        Incoming::Reply(_) | Incoming::Other(_) | Incoming::Unusable(_) => return,
    };
    let error = StanzaError::new(Condition::BadRequest, ErrorKind::Modify);
    for dialect in Dialect::ALL {
        check_reply(&request, dialect, Err(error.clone()));
    }
}

fn check_reply(
    request: &stanza::Request,
    dialect: &Dialect,
    reply: Result<Option<Element>, StanzaError>,
) {
    let mut out = Vec::new();
    stanza::encode_reply(request, dialect, &reply, &Context::CLIENT, &mut out).unwrap();
    let Incoming::Reply(read) = stanza::decode(parse(&out), request.from()) else {
        panic!()
    };
    assert_eq!(&*read.id, request.id());
    let attribute = |key| request.stanza().attribute(key);
    if attribute("from").is_some() && attribute("to").is_some() {
        assert_eq!((&read.from, &read.to), (request.to(), request.from()));
    }
    assert_eq!(read.reply, reply);
}

fn request(payload: Element) -> stanza::Request {
    let mut out = Vec::new();
    let from = Peer::from("alice@example.org/desk");
    let head = Head {
        kind: Some("set"),
        id: Some("7"),
        from: Some(&from),
        to: Some(&local()),
    };
    stanza::encode_iq(head, Some(&payload), &Context::CLIENT, &mut out).unwrap();
    match stanza::decode(parse(&out), &local()) {
        Incoming::Request(request)
        | Incoming::Message { request, .. }
        | Incoming::Refused { request, .. } => request,
        Incoming::Reply(_) | Incoming::Other(_) | Incoming::Unusable(_) => panic!("{payload}"),
    }
}

proptest! {
    // Rejected characters are drawn again, however often: a long run has many.
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        max_local_rejects: u32::MAX,
        ..ProptestConfig::default()
    })]

    #[test]
    fn jingle_is_read_as_it_was_written(message in jingle()) {
        prop_assert_eq!(read_back(&message), message);
    }

    #[test]
    fn google_0_4_is_read_as_it_was_written(message in gtalk()) {
        prop_assert_eq!(read_back(&message), message);
    }

    #[test]
    fn google_candidates_are_read_as_they_were_written(message in compat()) {
        prop_assert_eq!(&read_back(&message), &message);
        // The late variant writes the same.
        let late = Message { dialect: Dialect::GTALK_LATE, ..message.clone() };
        prop_assert_eq!(read_back(&late), message);
    }

    #[test]
    fn google_late_is_read_as_it_was_written(message in google_common()) {
        prop_assert_eq!(&read_back(&message), &message);
        let compat = Message { dialect: Dialect::GTALK_COMPAT, ..message.clone() };
        prop_assert_eq!(read_back(&compat), message);
    }

    #[test]
    fn hybrid_is_read_as_jingle(message in hybrid()) {
        let rejects = message.action == Action::Reject;
        let action = if rejects { Action::SessionTerminate } else { message.action };
        let expected = Message { dialect: Dialect::JINGLE, action, ..message.clone() };
        prop_assert_eq!(read_back(&message), expected);
    }

    #[test]
    fn replies_are_read_as_they_were_written(
        asked in element(),
        error in stanza_error(),
        payload in option::of(element()),
        dialect in select(Dialect::ALL.to_vec()),
    ) {
        let request = request(asked);
        check_reply(&request, dialect, Err(error));
        check_reply(&request, dialect, Ok(payload));
    }

    #[test]
    fn whatever_is_read_nothing_panics(stanza in prop_oneof![1 => element(), 3 => nonsense(), 6 => nearly_right()]) {
        check_reading(stanza);
    }

    #[test]
    fn addresses_in_stanzas_are_normalised(text in "[a-zA-Z.@/ -]{0,12}") {
        let stanza = Element::new(ns::CLIENT, "message").with("from", &text);
        match (stanza::decode(stanza, &local()), address::parse(&text)) {
            (Incoming::Other(envelope), Ok(from)) => prop_assert_eq!(envelope.from, from),
            (Incoming::Unusable(_), Err(_)) => {}
            (incoming, parsed) => prop_assert!(false, "{:?} {:?}", incoming, parsed),
        }
    }
}
