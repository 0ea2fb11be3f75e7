//! What a tunnel is for, as both sides see it: the description of the session.

use session_core::{Element, PeerError, Role, SessionDescription};
use std::{fmt, sync::Arc};
use thiserror::Error;

/// The namespace of tunnels: the session's type (libjingle `tunnelsessionclient.cc`).
pub const TUNNEL: &str = "http://www.google.com/talk/tunnel";

/// Most bytes of a tunnel's text.
pub const TEXT_BYTES_MAX: usize = 4096;

const SEND: &str = "send:";
const RECEIVE: &str = "recv:";

/// What a tunnel is for: a text that the initiator chose. On the wire
/// `<description xmlns="http://www.google.com/talk/tunnel"><type>TEXT</type></description>`.
///
/// Two texts have a meaning, that of libjingle's `pcp`. Both are written from the *responder's* point of view:
/// `recv:NAME` asks it to receive a file into NAME, `send:NAME` asks it to send the file NAME. A name is whatever the
/// peer wrote: it is to be judged by [`sanitize_name`](crate::sanitize_name) before anything is done with it.
///
/// ```
/// use session_core::{Role, SessionDescription};
/// use session_file::{Purpose, Tunnel};
///
/// let tunnel = Tunnel::receive("photo.jpg").unwrap();
/// assert_eq!(tunnel.text(), "recv:photo.jpg");
/// assert_eq!(tunnel.purpose(), Purpose::Receive("photo.jpg"));
/// assert_eq!(tunnel.sender(), Some(Role::Initiator));
/// assert_eq!(Tunnel::from_element(&tunnel.to_element()), Ok(tunnel));
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tunnel {
    text: Arc<str>,
}

/// What the text of a [`Tunnel`] means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The responder is to send the file of this name.
    Send(&'a str),
    /// The responder is to receive into this name.
    Receive(&'a str),
    /// Known to the two applications only. Both may send.
    Other(&'a str),
}

/// Why a text cannot describe a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TextError {
    /// There is none.
    #[error("a tunnel needs a text that says what it is for")]
    Empty,
    /// More than [`TEXT_BYTES_MAX`].
    #[error("a tunnel's text has at most {TEXT_BYTES_MAX} bytes, not {0}")]
    TooLong(usize),
    /// A character that XML cannot carry.
    #[error("a tunnel's text cannot contain {0:?}, which XML cannot carry")]
    Character(char),
}

impl Tunnel {
    /// The responder is asked to send the file `name`.
    ///
    /// # Errors
    /// [`TextError`], also when the name is empty.
    pub fn send(name: &str) -> Result<Self, TextError> {
        Self::with_prefix(SEND, name)
    }

    /// The responder is asked to receive into `name`.
    ///
    /// # Errors
    /// [`TextError`], also when the name is empty.
    pub fn receive(name: &str) -> Result<Self, TextError> {
        Self::with_prefix(RECEIVE, name)
    }

    /// A tunnel with any text.
    ///
    /// # Errors
    /// [`TextError`].
    pub fn new(text: &str) -> Result<Self, TextError> {
        check(text)?;
        Ok(Self { text: text.into() })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the text means.
    pub fn purpose(&self) -> Purpose<'_> {
        let named = |prefix| self.text.strip_prefix(prefix).filter(|n| !n.is_empty());
        match (named(SEND), named(RECEIVE)) {
            (Some(name), _) => Purpose::Send(name),
            (None, Some(name)) => Purpose::Receive(name),
            (None, None) => Purpose::Other(&self.text),
        }
    }

    /// Who sends the file; `None` when both may send.
    pub fn sender(&self) -> Option<Role> {
        match self.purpose() {
            Purpose::Send(_) => Some(Role::Responder),
            Purpose::Receive(_) => Some(Role::Initiator),
            Purpose::Other(_) => None,
        }
    }

    fn with_prefix(prefix: &str, name: &str) -> Result<Self, TextError> {
        if name.is_empty() {
            return Err(TextError::Empty);
        }
        Self::new(&[prefix, name].concat())
    }
}

impl SessionDescription for Tunnel {
    const NAMESPACE: &'static str = TUNNEL;

    fn to_element(&self) -> Element {
        Element::new(TUNNEL, "description").child(Element::new(TUNNEL, "type").text(&self.text))
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        let malformed = |problem| PeerError::Malformed {
            field: "type",
            problem,
        };
        let text = element
            .find(TUNNEL, "type")
            .ok_or_else(|| malformed("missing"))?;
        Self::new(&text.text_content()).map_err(|error| {
            malformed(match error {
                TextError::Empty => "empty",
                TextError::TooLong(_) => "too long",
                TextError::Character(_) => "a character that XML cannot carry",
            })
        })
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tunnel({:?})", self.text)
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn check(text: &str) -> Result<(), TextError> {
    if text.is_empty() {
        return Err(TextError::Empty);
    }
    if text.len() > TEXT_BYTES_MAX {
        return Err(TextError::TooLong(text.len()));
    }
    match text.chars().find(|&c| !is_xml(c)) {
        Some(character) => Err(TextError::Character(character)),
        None => Ok(()),
    }
}

/// XML 1.0 §2.2, Char.
fn is_xml(character: char) -> bool {
    match character {
        '\t' | '\n' | '\r' => true,
        '\u{fffe}' | '\u{ffff}' => false,
        other => other >= ' ',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn element(text: Option<&str>) -> Element {
        let description = Element::new(TUNNEL, "description");
        match text {
            Some(text) => description.child(Element::new(TUNNEL, "type").text(text)),
            None => description,
        }
    }

    fn problem(element: &Element) -> &'static str {
        match Tunnel::from_element(element) {
            Err(PeerError::Malformed {
                field: "type",
                problem,
            }) => problem,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_description_without_a_type_is_the_peers_mistake() {
        assert_eq!(problem(&element(None)), "missing");
        assert_eq!(problem(&element(Some(""))), "empty");
        assert_eq!(problem(&element(Some(&"x".repeat(4097)))), "too long");
        let foreign =
            Element::new(TUNNEL, "description").child(Element::new("x", "type").text("t"));
        assert_eq!(problem(&foreign), "missing");
    }

    #[test]
    fn the_texts_of_pcp_are_understood_and_others_are_kept() {
        let purpose = |text| {
            let tunnel = Tunnel::from_element(&element(Some(text))).unwrap();
            (format!("{:?}", tunnel.purpose()), tunnel.sender())
        };
        assert_eq!(
            purpose("send:a b"),
            ("Send(\"a b\")".into(), Some(Role::Responder))
        );
        assert_eq!(
            purpose("recv:recv:"),
            ("Receive(\"recv:\")".into(), Some(Role::Initiator))
        );
        assert_eq!(purpose("send:"), ("Other(\"send:\")".into(), None));
        assert_eq!(purpose(" send:x"), ("Other(\" send:x\")".into(), None));
        assert_eq!(purpose("SEND:x"), ("Other(\"SEND:x\")".into(), None));
    }

    #[test]
    fn what_xml_cannot_carry_is_refused_before_it_is_sent() {
        assert_eq!(Tunnel::send(""), Err(TextError::Empty));
        assert_eq!(Tunnel::new(""), Err(TextError::Empty));
        assert_eq!(Tunnel::new("a\0"), Err(TextError::Character('\0')));
        assert_eq!(
            Tunnel::receive("a\u{ffff}"),
            Err(TextError::Character('\u{ffff}'))
        );
        assert_eq!(
            Tunnel::new(&"x".repeat(5000)),
            Err(TextError::TooLong(5000))
        );
        assert!(Tunnel::new("tab\tand\nline").is_ok());
    }

    #[test]
    fn unknown_children_and_attributes_are_tolerated() {
        let description = Element::new(TUNNEL, "description")
            .with("later", "1")
            .child(Element::new("x", "y"))
            .child(Element::new(TUNNEL, "type").text("recv:f"))
            .child(Element::new(TUNNEL, "type").text("second"));
        let tunnel = Tunnel::from_element(&description).unwrap();
        assert_eq!(tunnel.purpose(), Purpose::Receive("f"));
    }

    proptest! {
        #[test]
        fn every_text_comes_back(text in "\\PC{1,40}") {
            let tunnel = Tunnel::new(&text).unwrap();
            prop_assert_eq!(Tunnel::from_element(&tunnel.to_element()), Ok(tunnel.clone()));
            prop_assert_eq!(tunnel.text(), text);
        }
    }
}
