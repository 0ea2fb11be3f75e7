//! What XEP-0261 and XEP-0047 say, and how it is read.

use super::{BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, IbbConfig, IbbStanza, NAMESPACE};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use session_core::{Element, PeerError, TransportError};
use std::{borrow::Cow, sync::Arc};

/// The namespace of XEP-0047.
pub(super) const STREAM: &str = "http://jabber.org/protocol/ibb";

/// Bytes of a stream's name.
const SID_MAX: usize = 256;

/// What both sides agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) sid: Arc<str>,
    pub(super) block_size: u16,
    pub(super) stanza: IbbStanza,
}

impl Terms {
    /// Of a `<transport/>`.
    pub(super) fn from_element(element: &Element) -> Result<Self, TransportError> {
        let malformed = |field, problem| TransportError::Malformed { field, problem };
        if !element.is(NAMESPACE, "transport") {
            return Err(malformed("transport", "not one of an in-band bytestream"));
        }
        let (sid, block_size, stanza) = read(element).map_err(|(f, p)| malformed(f, p))?;
        if block_size < BLOCK_SIZE_MIN {
            return Err(TransportError::Unacceptable("the blocks are too small"));
        }
        Ok(Self {
            sid: sid.into(),
            block_size,
            stanza,
        })
    }

    pub(super) fn to_element(&self) -> Element {
        self.write(Element::new(NAMESPACE, "transport"))
    }

    /// Our answer to the peer's offer, which may only be lower (XEP-0261 §2.1).
    pub(super) fn lowered(self, config: &IbbConfig) -> Self {
        Self {
            block_size: self.block_size.min(config.block_size),
            ..self
        }
    }

    /// Whether these may be the answer to `offered`.
    pub(super) fn check_answer_to(&self, offered: &Self) -> Result<(), TransportError> {
        if self.sid != offered.sid {
            return Err(TransportError::Unacceptable(
                "the answer names another stream",
            ));
        }
        if self.block_size > offered.block_size {
            return Err(TransportError::Unacceptable(
                "the answer has larger blocks than the offer",
            ));
        }
        Ok(())
    }

    /// The initiator's first word (XEP-0261 §2.1).
    pub(super) fn open(&self) -> Element {
        // Written out also where it is the default: some readers want it.
        let stanza = match self.stanza {
            IbbStanza::Iq => "iq",
            IbbStanza::Message => "message",
        };
        self.write(Element::new(STREAM, "open"))
            .with("stanza", stanza)
    }

    pub(super) fn close(&self) -> Element {
        Element::new(STREAM, "close").with("sid", &self.sid)
    }

    pub(super) fn data(&self, seq: u16, block: &[u8]) -> Element {
        Element::new(STREAM, "data")
            .with("seq", seq)
            .with("sid", &self.sid)
            .text(&STANDARD.encode(block))
    }

    /// Bytes of a block's stanza beside its addresses and its Base64, at most: names, namespaces, numbers.
    pub(super) fn envelope(&self) -> usize {
        const WORDS: usize = 192;
        WORDS + length(&self.sid)
    }

    fn write(&self, element: Element) -> Element {
        let element = element
            .with("block-size", self.block_size)
            .with("sid", &self.sid);
        match self.stanza {
            IbbStanza::Message if element.name() == "transport" => {
                element.with("stanza", "message")
            }
            IbbStanza::Iq | IbbStanza::Message => element,
        }
    }
}

/// Bytes of a text in an attribute, at most: some characters are written as references.
pub(super) fn length(text: &str) -> usize {
    let longest = "&quot;".len();
    let length = |c: char| match c {
        '&' | '<' | '>' | '"' | '\'' | '\t' | '\n' | '\r' => longest,
        other => other.len_utf8(),
    };
    text.chars().map(length).sum()
}

/// Characters of so many bytes in Base64.
pub(super) fn encoded_length(bytes: usize) -> usize {
    bytes.div_ceil(3) * 4
}

type Problem = (&'static str, &'static str);

/// The attributes that `<transport/>` and `<open/>` share.
fn read(element: &Element) -> Result<(&str, u16, IbbStanza), Problem> {
    let sid = element.attribute("sid").unwrap_or_default();
    if sid.is_empty() || sid.len() > SID_MAX {
        return Err(("sid", "missing or too long"));
    }
    let block_size = element.attribute("block-size").and_then(number);
    let Some(block_size) = block_size.filter(|size| *size > 0) else {
        return Err(("block-size", "no number from 1 to 65535"));
    };
    let stanza = match element.attribute("stanza") {
        None | Some("iq") => IbbStanza::Iq,
        Some("message") => IbbStanza::Message,
        Some(_) => return Err(("stanza", "neither iq nor message")),
    };
    Ok((sid, block_size, stanza))
}

/// A number of 16 bits in digits and nothing else.
fn number(text: &str) -> Option<u16> {
    const { assert!(BLOCK_SIZE_MAX == u16::MAX) };
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

/// What a stanza of the stream says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    Open { block_size: u16, stanza: IbbStanza },
    Data { seq: u16, text: Cow<'a, str> },
    Close,
}

/// Reads a stanza of the stream `sid`; `None` when it is about another, or about none.
pub(super) fn word<'a>(payload: &'a Element, sid: &str) -> Option<Result<Word<'a>, PeerError>> {
    if payload.namespace() != STREAM || payload.attribute("sid") != Some(sid) {
        return None;
    }
    Some(match payload.name() {
        "open" => read(payload)
            .map(|(_, block_size, stanza)| Word::Open { block_size, stanza })
            .map_err(|_| refusal::malformed("no stream can be opened with this")),
        "data" => match payload.attribute("seq").and_then(number) {
            Some(seq) => Ok(Word::Data {
                seq,
                text: payload.text_content(),
            }),
            None => Err(refusal::malformed("seq is no number of 16 bits")),
        },
        "close" => Ok(Word::Close),
        _ => Err(refusal::malformed("neither open nor data nor close")),
    })
}

/// The bytes of a block; `None` when it is no Base64 (RFC 4648 §4) or more than `max` bytes.
pub(super) fn decode(text: &str, max: u16) -> Option<Bytes> {
    let is_space = |b: u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    // Bounded before anything is allocated.
    let signs = text.bytes().filter(|b| !is_space(*b)).count();
    if signs > encoded_length(usize::from(max)) {
        return None;
    }
    let bytes = if signs == text.len() {
        STANDARD.decode(text)
    } else {
        let signs: Vec<u8> = text.bytes().filter(|b| !is_space(*b)).collect();
        STANDARD.decode(signs)
    };
    let bytes = bytes.ok()?;
    (bytes.len() <= usize::from(max)).then(|| bytes.into())
}

/// The refusals of XEP-0047 §2.
pub(super) mod refusal {
    use session_core::{Condition, ErrorKind, PeerError, StanzaError};

    fn of(condition: Condition, kind: ErrorKind, text: &str) -> PeerError {
        PeerError::Stanza(Box::new(StanzaError {
            text: Some(text.into()),
            ..StanzaError::new(condition, kind)
        }))
    }

    pub(in super::super) fn unknown() -> PeerError {
        let text = "there is no such stream";
        of(Condition::ItemNotFound, ErrorKind::Cancel, text)
    }

    pub(in super::super) fn sequence() -> PeerError {
        let text = "this block is not the next";
        of(Condition::UnexpectedRequest, ErrorKind::Cancel, text)
    }

    pub(in super::super) fn malformed(text: &str) -> PeerError {
        of(Condition::BadRequest, ErrorKind::Cancel, text)
    }

    pub(in super::super) fn block_size() -> PeerError {
        let text = "the blocks are larger than agreed";
        of(Condition::ResourceConstraint, ErrorKind::Modify, text)
    }

    pub(in super::super) fn unwanted() -> PeerError {
        let text = "the session's initiator opens the stream";
        of(Condition::NotAcceptable, ErrorKind::Cancel, text)
    }

    pub(in super::super) fn too_much() -> PeerError {
        let text = "more than there is room for";
        of(Condition::ResourceConstraint, ErrorKind::Cancel, text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_is_strict_but_for_white_space() {
        for (text, bytes) in [
            ("", &b""[..]),
            ("YQ==", b"a"),
            ("YWI=", b"ab"),
            (" YW\n\tJj\r\n", b"abc"),
        ] {
            assert_eq!(decode(text, 3).as_deref(), Some(bytes), "{text:?}");
        }
        for text in [
            "YQ",
            "YQ=",
            "=YQ=",
            "YQ==YQ==",
            "Y=Q=",
            "YQ==\u{a0}",
            "YR==",
            "YW*j",
            "-_-_",
            "YWJjZA==",
            "AAAA\0",
        ] {
            assert_eq!(decode(text, 3), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_are_digits() {
        for (text, value) in [("0", Some(0)), ("65535", Some(65_535)), ("00007", Some(7))] {
            assert_eq!(number(text), value);
        }
        for text in ["", "+1", "-1", " 1", "65536", "000001", "1e3", "\u{661}"] {
            assert_eq!(number(text), None, "{text:?}");
        }
    }

    #[test]
    fn an_answer_may_only_lower() {
        let terms = |block_size| Terms {
            sid: "s".into(),
            block_size,
            stanza: IbbStanza::Iq,
        };
        let offered = terms(4_096);
        assert_eq!(terms(4_096).check_answer_to(&offered), Ok(()));
        assert_eq!(terms(64).check_answer_to(&offered), Ok(()));
        assert!(terms(4_097).check_answer_to(&offered).is_err());
        let other = Terms {
            sid: "t".into(),
            ..terms(64)
        };
        assert!(other.check_answer_to(&offered).is_err());
    }

    proptest! {
        #[test]
        fn a_block_survives_the_wire(seq: u16, block in prop::collection::vec(any::<u8>(), 0..300)) {
            let terms = Terms { sid: "s'<&".into(), block_size: 299, stanza: IbbStanza::Iq };
            let element = terms.data(seq, &block);
            let Some(Ok(Word::Data { seq: found, text })) = word(&element, "s'<&") else {
                return Err(TestCaseError::fail("not read"));
            };
            prop_assert_eq!(found, seq);
            prop_assert_eq!(decode(&text, 299).unwrap(), block);
            prop_assert!(word(&element, "s").is_none());
        }

        #[test]
        fn any_text_is_refused_or_read_again(text in "[A-Za-z0-9+/= \n]{0,40}") {
            if let Some(bytes) = decode(&text, 64) {
                let signs: String = text.split_whitespace().collect();
                prop_assert_eq!(STANDARD.encode(&bytes), signs, "one text for each block: no covert channel");
            }
        }
    }
}
