//! Every example of the XEPs that speak of sessions: parses, is written and parsed again to the same value, and means
//! what another XML library finds in it (`vectors/xep/expected.txt`, one line for each file).

#![allow(clippy::unwrap_used)]

#[path = "shared/describe.rs"]
mod describe;

use std::fs;
use std::path::{Path, PathBuf};

use session_core::{ContentPart, Element, ElementLimits, Message, Peer};
use session_xmpp::dialect::EncodeError;
use session_xmpp::stanza::{self, Incoming};
use session_xmpp::xml::{self, Context};

use describe::describe;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/xep")
}

fn local() -> Peer {
    Peer::from("local@example.org/here")
}

/// File and expectation.
fn examples() -> Vec<(String, String)> {
    let expected = fs::read_to_string(folder().join("expected.txt")).unwrap();
    let split = |line: &str| {
        let (file, expectation) = line.split_once(' ').unwrap();
        (file.to_owned(), expectation.to_owned())
    };
    expected.lines().map(split).collect()
}

fn parse(bytes: &[u8]) -> Result<Element, xml::XmlError> {
    xml::parse(bytes, &Context::CLIENT, &ElementLimits::default())
}

#[test]
fn all_files_are_expected() {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            for file in fs::read_dir(entry.path()).unwrap() {
                let path = file.unwrap().path();
                let path = path.strip_prefix(folder()).unwrap();
                found.push(path.to_str().unwrap().replace('\\', "/"));
            }
        }
    }
    found.sort();
    let mut expected: Vec<_> = examples().into_iter().map(|(file, _)| file).collect();
    expected.sort();
    assert_eq!(found, expected);
    assert!(found.len() > 290);
}

#[test]
fn examples_survive_writing() {
    for (file, expectation) in examples() {
        let bytes = fs::read(folder().join(&file)).unwrap();
        let parsed = parse(&bytes);
        if expectation.starts_with("malformed") {
            assert!(parsed.is_err(), "{file}");
            continue;
        }
        let element = parsed.unwrap_or_else(|error| panic!("{file}: {error}"));
        let mut written = Vec::new();
        xml::write(&element, &Context::CLIENT, &mut written).unwrap();
        assert_eq!(parse(&written).unwrap(), element, "{file}");
    }
}

#[test]
fn examples_mean_what_is_expected() {
    let mut messages = 0;
    for (file, expectation) in examples() {
        let bytes = fs::read(folder().join(&file)).unwrap();
        let Ok(element) = parse(&bytes) else { continue };
        let incoming = stanza::decode(element, &local());
        assert_eq!(describe(&incoming), expectation, "{file}");
        if let Incoming::Message { message, .. } = incoming {
            messages += 1;
            check_written_again(&file, &message);
        }
    }
    assert!(messages > 120, "{messages}");
}

/// Every example that is complete is written again to the same message.
fn check_written_again(file: &str, message: &Message) {
    let mut out = Vec::new();
    match stanza::encode_message("x", message, &Context::CLIENT, &mut out) {
        Ok(()) => {
            let again = stanza::decode(parse(&out).unwrap(), &local());
            let Incoming::Message { message: again, .. } = again else {
                panic!("{file}")
            };
            assert_eq!(&again, message, "{file}");
        }
        Err(error) => {
            let incomplete = |part: &ContentPart| part.name.is_empty() || part.creator.is_none();
            assert!(message.contents.iter().any(incomplete), "{file}: {error}");
            assert!(
                matches!(error, EncodeError::Invalid { .. }),
                "{file}: {error}"
            );
        }
    }
}
