//! How often memory is asked for: never while writing, a few times while reading.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::hint::black_box;
use std::path::Path;

use session_core::{ElementLimits, Peer};
use session_xmpp::stanza::{self, Incoming};
use session_xmpp::xml::{self, Context};

fn vector(path: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/vectors")
            .join(path),
    )
    .unwrap()
}

fn decode(bytes: &[u8], local: &Peer) -> Incoming {
    let stanza = xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()).unwrap();
    stanza::decode(stanza, local)
}

/// Messages of the dialects whose forms differ, with candidates and without.
const MESSAGES: [&str; 6] = [
    "xep/xep-0320/01.xml",
    "xep/xep-0234/01.xml",
    "peers/libjingle-0.7.1-jingle-transport-info.xml",
    "gtalk/initiate.xml",
    "gtalk/transport-info.xml",
    "gtalk/terminate-success.xml",
];

#[test]
fn writing_a_message_allocates_nothing() {
    let local = Peer::from("bob@example.org/lap");
    for path in MESSAGES {
        let Incoming::Message { request, message } = decode(&vector(path), &local) else {
            panic!()
        };
        let mut out = Vec::with_capacity(8_192);
        let count = allocation_counter::measure(|| {
            stanza::encode_message("7", &message, &Context::CLIENT, &mut out).unwrap();
            stanza::encode_reply(
                &request,
                message.dialect,
                &Ok(None),
                &Context::CLIENT,
                &mut out,
            )
            .unwrap();
        });
        assert_eq!(count.count_total, 0, "{path}");
        assert!(out.len() > 250, "{path}");
    }
}

#[test]
fn a_message_costs_few_allocations_beyond_its_tree() {
    let local = Peer::from("juliet@capulet.lit/balcony");
    let bytes = vector("xep/xep-0320/01.xml");
    let mut stanza = xml::parse(&bytes, &Context::CLIENT, &ElementLimits::default()).ok();
    let count = allocation_counter::measure(|| {
        black_box(stanza::decode(stanza.take().unwrap(), &local));
    });
    // The sender (twice), the sid, the list of contents, its content's name and list of transports.
    assert_eq!(count.count_total, 6, "{count:?}");
}
