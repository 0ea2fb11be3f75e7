//! Stanzas that real peers wrote: libjingle 0.7.1 in both vocabularies, Libervia, and a peer in Python. What they mean
//! (`vectors/peers/expected.txt`), and that writing them gives the same again.

#![allow(clippy::unwrap_used)]

#[path = "shared/describe.rs"]
mod describe;

use std::fs;
use std::path::Path;

use session_core::{ElementLimits, Peer};
use session_xmpp::stanza::{self, Incoming};
use session_xmpp::xml::{self, Context};

use describe::describe;

#[test]
fn real_stanzas_are_understood_and_written_again() {
    let local = Peer::from("bob@localhost/pcp");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/peers");
    let decode = |bytes: &[u8]| {
        let stanza = xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()).unwrap();
        stanza::decode(stanza, &local)
    };
    let expected = fs::read_to_string(folder.join("expected.txt")).unwrap();
    for line in expected.lines() {
        let (file, expectation) = line.split_once(' ').unwrap();
        let incoming = decode(&fs::read(folder.join(file)).unwrap());
        let described = describe(&incoming);
        let Incoming::Message { message, .. } = incoming else {
            panic!("{file}: {described}")
        };
        assert_eq!(
            format!("{} {described}", message.dialect),
            expectation,
            "{file}"
        );
        let mut out = Vec::new();
        stanza::encode_message("7", &message, &Context::CLIENT, &mut out).unwrap();
        let Incoming::Message { message: again, .. } = decode(&out) else {
            panic!("{file}")
        };
        assert_eq!(again, message, "{file}");
    }
    let files = fs::read_dir(folder).unwrap().count();
    assert_eq!(files, expected.lines().count() + 1);
}
