//! What is said of a file while it travels (XEP-0234 §8), and why it does not (§10).

use super::{FILE_TRANSFER, FILE_TRANSFER_ERRORS, File, codec};
use session_core::{Element, ElementRef, PeerError, Reason, ReasonCondition, Role};
use std::sync::Arc;

/// A session-info about one content (XEP-0234 §8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileInfo {
    /// The sender knows the hash now: of the whole file, or of the part in [`File::range`].
    Checksum {
        /// Who added the content; `None` where the peer leaves it out.
        creator: Option<Role>,
        /// The content's name; `None` where the peer leaves it out.
        content: Option<Arc<str>>,
        /// The hashes, and nothing else that matters.
        file: Box<File>,
    },
    /// The receiver has the file.
    Received {
        /// Who added the content; `None` where the peer leaves it out.
        creator: Option<Role>,
        /// The content's name; `None` where the peer leaves it out.
        content: Option<Arc<str>>,
    },
}

impl FileInfo {
    /// The element of the session-info.
    pub fn to_element(&self) -> Element {
        let element = |name: &str, creator: &Option<Role>, content: &Option<Arc<str>>| {
            let creator = creator.map(|role| match role {
                Role::Initiator => "initiator",
                Role::Responder => "responder",
            });
            Element::new(FILE_TRANSFER, name)
                .with_opt("creator", creator)
                .with_opt("name", content.as_ref())
        };
        match self {
            Self::Checksum {
                creator,
                content,
                file,
            } => element("checksum", creator, content).child(codec::write(file)),
            Self::Received { creator, content } => element("received", creator, content),
        }
    }

    /// The meaning of an element of a session-info; `None` when it is of something else.
    ///
    /// # Errors
    /// [`PeerError::Malformed`] names the field.
    pub fn from_element(element: ElementRef<'_>) -> Result<Option<Self>, PeerError> {
        if element.namespace() != FILE_TRANSFER {
            return Ok(None);
        }
        let creator = match element.attribute("creator") {
            Some("initiator") => Some(Role::Initiator),
            Some("responder") => Some(Role::Responder),
            // The name alone tells, where nobody added two of the same.
            Some(_) | None => None,
        };
        let content = element.attribute("name").map(Into::into);
        match element.name() {
            "received" => Ok(Some(Self::Received { creator, content })),
            "checksum" => {
                let file = element
                    .find(FILE_TRANSFER, "file")
                    .ok_or(PeerError::Malformed {
                        field: "file",
                        problem: "missing",
                    })?;
                let file = Box::new(codec::read(file)?);
                Ok(Some(Self::Checksum {
                    creator,
                    content,
                    file,
                }))
            }
            _ => Ok(None),
        }
    }

    /// The content that it speaks of; `None` where the peer leaves it out.
    pub fn content(&self) -> Option<&Arc<str>> {
        match self {
            Self::Checksum { content, .. } | Self::Received { content, .. } => content.as_ref(),
        }
    }
}

/// A requested file is not there, or not for this peer (XEP-0234 §10.1).
pub fn file_not_available() -> Reason {
    with_condition(ReasonCondition::FailedApplication, "file-not-available")
}

/// More than we take, or more than was announced (XEP-0234 §10.2).
pub fn file_too_large() -> Reason {
    with_condition(ReasonCondition::MediaError, "file-too-large")
}

fn with_condition(condition: ReasonCondition, name: &str) -> Reason {
    Reason {
        extra: Some(Element::new(FILE_TRANSFER_ERRORS, name)),
        ..Reason::new(condition)
    }
}
