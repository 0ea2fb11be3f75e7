//! Stanzas of session-xmpp: bytes to a message and back, against xmpp-parsers, the typed stanzas of the XMPP community
//! for Rust.

use std::hint::black_box;

use session_core::{ElementLimits, Message, Peer};
use session_xmpp::stanza::{self, Incoming};
use session_xmpp::xml::{self, Context};
use xmpp_parsers::iq::Iq;
use xmpp_parsers::jingle::Jingle;

use crate::Figure;
use crate::codec::session_initiate;
use crate::measure::compare;

pub(crate) const FIGURES: &[Figure] = &[
    ("codec.parse_2k", |name| {
        parse(name, &session_initiate(6, 4))
    }),
    ("codec.parse_20k", |name| {
        parse(name, &session_initiate(80, 40))
    }),
    ("codec.write_2k", |name| {
        write(name, &session_initiate(6, 4))
    }),
    ("codec.write_20k", |name| {
        write(name, &session_initiate(80, 40))
    }),
];

/// Bytes to a message.
fn parse(name: &str, sample: &str) {
    let local = local();
    compare(
        name,
        || {
            black_box(our_message(black_box(sample), &local));
        },
        || {
            black_box(their_message(black_box(sample)));
        },
    );
}

/// A message to bytes. Ours writes the whole request; the peer, what is in it.
fn write(name: &str, sample: &str) {
    let message = our_message(sample, &local());
    let jingle = their_message(sample);
    let mut out = Vec::new();
    compare(
        name,
        || {
            out.clear();
            stanza::encode_message("xs51r0k4", black_box(&message), &Context::CLIENT, &mut out)
                .expect("it was read");
            black_box(&out);
        },
        || {
            black_box(xso::to_vec(black_box(&jingle)).expect("it was read"));
        },
    );
}

fn local() -> Peer {
    Peer::from("juliet@capulet.lit/yn0cl4bnw0yr3vym")
}

fn our_message(sample: &str, local: &Peer) -> Message {
    let stanza = xml::parse(
        sample.as_bytes(),
        &Context::CLIENT,
        &ElementLimits::default(),
    );
    match stanza::decode(stanza.expect("the sample is a stanza"), local) {
        Incoming::Message { message, .. } => message,
        other => unreachable!("the sample is a message: {other:?}"),
    }
}

fn their_message(sample: &str) -> Jingle {
    match xso::from_bytes(sample.as_bytes()).expect("the sample is a stanza") {
        Iq::Set { payload, .. } => Jingle::try_from(payload).expect("the sample is a message"),
        other => unreachable!("the sample is a request: {other:?}"),
    }
}
