//! Files that can be had, told in advance (XEP-0358): somebody publishes what it would send, and sends it to whoever asks.

use crate::{File, FileDescription, file::FILE_TRANSFER};
use session_core::{Element, ElementRef, PeerError, SessionDescription as _};
use std::sync::Arc;

/// The namespace (XEP-0358 §2).
pub const JINGLE_PUB: &str = "urn:xmpp:jinglepub:1";

/// Bytes of an identifier or of a session's, at most.
pub const PUBLICATION_ID_MAX: usize = 1_024;

/// Texts and descriptions of a publication, at most.
const PARTS_MAX: usize = 64;

/// A file, or several, that somebody would send.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publication {
    /// Who would; `None` where it was left out, as in the specification's own message: then it is who says so.
    pub from: Option<Arc<str>>,
    /// By which it is asked for.
    pub id: Arc<str>,
    /// Another way to it.
    pub uri: Option<Arc<str>>,
    /// What people may want to know.
    pub texts: Vec<PublicationText>,
    /// What would be sent. Descriptions of other kinds are left out here.
    pub files: Vec<File>,
}

/// A text of a [`Publication`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublicationText {
    /// The language (`xml:lang`).
    pub language: Option<Arc<str>>,
    /// A title.
    pub title: Option<Arc<str>>,
    /// More than that.
    pub summary: Option<Arc<str>>,
}

impl Publication {
    /// The element, for a message or a node of pubsub.
    pub fn to_element(&self) -> Element {
        let text = |text: &PublicationText| {
            let meta = Element::new(JINGLE_PUB, "meta");
            let meta = match &text.language {
                Some(language) => meta.with_ns(XML, "lang", language),
                None => meta,
            };
            meta.with_opt("title", text.title.as_ref())
                .with_opt("summary", text.summary.as_ref())
        };
        let uri = self.uri.as_ref();
        let uri = uri.map(|uri| Element::new(JINGLE_PUB, "uri").text(uri));
        let file = |file: &File| FileDescription::from(file.clone()).to_element();
        Element::new(JINGLE_PUB, "jinglepub")
            .with_opt("from", self.from.as_ref())
            .with("id", &self.id)
            .children_from(uri)
            .children_from(self.texts.iter().map(text))
            .children_from(self.files.iter().map(file))
    }

    /// Its meaning; `None` when the element is of something else.
    ///
    /// # Errors
    /// [`PeerError::Malformed`] names the field: no identifier or one that is too long, too many parts, a file's
    /// description that cannot be.
    pub fn from_element(element: ElementRef<'_>) -> Result<Option<Self>, PeerError> {
        if !element.is(JINGLE_PUB, "jinglepub") {
            return Ok(None);
        }
        let mut publication = Self {
            from: element.attribute("from").map(Into::into),
            id: bounded(element.attribute("id"), "id")?,
            ..Self::default()
        };
        for child in element.children() {
            if publication.texts.len() + publication.files.len() >= PARTS_MAX {
                return Err(malformed("jinglepub", "too many children"));
            }
            match (child.namespace(), child.name()) {
                (JINGLE_PUB, "uri") if publication.uri.is_none() => {
                    publication.uri = Some(child.text_content().trim().into());
                }
                (JINGLE_PUB, "meta") => publication.texts.push(PublicationText {
                    language: child.attribute_ns(XML, "lang").map(Into::into),
                    title: child.attribute("title").map(Into::into),
                    summary: child.attribute("summary").map(Into::into),
                }),
                (FILE_TRANSFER, "description") => {
                    let description = FileDescription::from_element(&child.to_element())?;
                    publication.files.push(description.file);
                }
                _ => {}
            }
        }
        Ok(Some(publication))
    }
}

/// The question for what was published: an IQ of type `get` (XEP-0358 §2.2).
pub fn publication_start(id: &str) -> Element {
    Element::new(JINGLE_PUB, "start").with("id", id)
}

/// What the question is about; `None` when the element is none. Some write the identifier as text.
///
/// # Errors
/// [`PeerError::Malformed`] when there is no identifier, or one that is too long.
pub fn publication_asked(element: ElementRef<'_>) -> Result<Option<Arc<str>>, PeerError> {
    if !element.is(JINGLE_PUB, "start") {
        return Ok(None);
    }
    let text = element.text_content();
    let id = element.attribute("id").unwrap_or_else(|| text.trim());
    bounded(Some(id), "id").map(Some)
}

/// The answer: the session that follows.
pub fn publication_starting(sid: &str) -> Element {
    Element::new(JINGLE_PUB, "starting").with("sid", sid)
}

/// The session that an answer tells of; `None` when the element is no such answer.
///
/// # Errors
/// [`PeerError::Malformed`] when it names none, or its name is too long.
pub fn publication_session(element: ElementRef<'_>) -> Result<Option<Arc<str>>, PeerError> {
    match element.is(JINGLE_PUB, "starting") {
        true => bounded(element.attribute("sid"), "sid").map(Some),
        false => Ok(None),
    }
}

/// The address by which people pass a publication on (XEP-0358 §2.3).
pub fn publication_uri(from: &str, id: &str) -> String {
    let mut uri = format!("xmpp:{from}?jingle;id=");
    for byte in id.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                uri.push(char::from(byte));
            }
            _ => {
                use std::fmt::Write as _;
                // Writing into a string does not fail.
                let _ = write!(uri, "%{byte:02X}");
            }
        }
    }
    uri
}

const XML: &str = "http://www.w3.org/XML/1998/namespace";

fn bounded(text: Option<&str>, field: &'static str) -> Result<Arc<str>, PeerError> {
    match text {
        None | Some("") => Err(malformed(field, "missing")),
        Some(text) if text.len() > PUBLICATION_ID_MAX => Err(malformed(field, "too long")),
        Some(text) => Ok(text.into()),
    }
}

fn malformed(field: &'static str, problem: &'static str) -> PeerError {
    PeerError::Malformed { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn publication() -> Publication {
        Publication {
            from: Some("bard@shakespeare.lit".into()),
            id: "9559976B-3FBF-4E7E-B457-2DAA225972BB".into(),
            uri: Some("https://shakespeare.lit/hamlet".into()),
            texts: vec![PublicationText {
                language: Some("en".into()),
                title: Some("Act III, Scene I of Hamlet".into()),
                summary: None,
            }],
            files: vec![File::new("hamlet.ogg", 1_234), File::new("notes.txt", 5)],
        }
    }

    #[test]
    fn what_is_published_is_read_again() {
        let said = publication();
        let read = Publication::from_element(said.to_element().view());
        assert_eq!(read, Ok(Some(said)));
        let other = Element::new(FILE_TRANSFER, "description");
        assert_eq!(Publication::from_element(other.view()), Ok(None));
    }

    #[test]
    fn what_others_describe_is_left_out_and_who_says_nothing_is_who_sends() {
        let rtp = Element::new("urn:xmpp:jingle:apps:rtp:1", "description").with("media", "audio");
        let element = Element::new(JINGLE_PUB, "jinglepub")
            .with("id", "x")
            .child(rtp);
        let read = Publication::from_element(element.view()).unwrap().unwrap();
        assert_eq!((read.from, read.files.len(), &*read.id), (None, 0, "x"));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let bare = || Element::new(JINGLE_PUB, "jinglepub");
        let long = "x".repeat(PUBLICATION_ID_MAX + 1);
        let meta = || Element::new(JINGLE_PUB, "meta");
        let many = bare()
            .with("id", "x")
            .children_from((0..65).map(|_| meta()));
        for element in [
            bare(),
            bare().with("id", ""),
            bare().with("id", &long),
            many,
        ] {
            assert!(Publication::from_element(element.view()).is_err());
        }
        let nothing = Element::new(JINGLE_PUB, "start");
        assert!(publication_asked(nothing.view()).is_err());
        let nothing = Element::new(JINGLE_PUB, "starting");
        assert!(publication_session(nothing.view()).is_err());
    }

    #[test]
    fn a_question_and_its_answer() {
        assert_eq!(
            publication_asked(publication_start("a").view()),
            Ok(Some("a".into()))
        );
        let text = Element::new(JINGLE_PUB, "start").text(" b ");
        assert_eq!(publication_asked(text.view()), Ok(Some("b".into())));
        let answer = publication_starting("851ba2");
        assert_eq!(
            publication_session(answer.view()),
            Ok(Some("851ba2".into()))
        );
        assert_eq!(publication_asked(answer.view()), Ok(None));
        assert_eq!(
            publication_uri("files.montague.net", "a b/ü"),
            "xmpp:files.montague.net?jingle;id=a%20b%2F%C3%BC"
        );
    }
}
