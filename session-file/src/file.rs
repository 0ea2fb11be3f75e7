//! What is said of a file: the description of a session that transfers one (XEP-0234 §5, XEP-0264).

mod codec;
mod date;
mod info;

pub use date::{DateError, FileDate};
pub use info::{FileInfo, file_not_available, file_too_large};

use crate::{Hash, HashAlgorithm, NameError, name::FileName};
use session_core::{Element, PeerError, SessionDescription};
use std::sync::Arc;

/// The namespace of Jingle file transfer: the session's type (XEP-0234).
pub const FILE_TRANSFER: &str = "urn:xmpp:jingle:apps:file-transfer:5";

/// The namespace of its own conditions (XEP-0234 §10).
pub const FILE_TRANSFER_ERRORS: &str = "urn:xmpp:jingle:apps:file-transfer:errors:0";

/// The namespace of thumbnails (XEP-0264).
pub const THUMBNAILS: &str = "urn:xmpp:thumbs:1";

/// What a peer may say of one file, at most; past it the description is refused.
pub mod file_limits {
    /// Bytes of a name, a media type, a language or a URI.
    pub const NAME_BYTES: usize = 4096;
    /// Bytes of one text for people.
    pub const TEXT_BYTES: usize = 16 * 1024;
    /// Texts for people, in different languages.
    pub const TEXTS: usize = 32;
    /// Hashes, and likewise names of algorithms.
    pub const HASHES: usize = 16;
    /// Thumbnails.
    pub const THUMBNAILS: usize = 8;
    /// Children that we do not know.
    pub const EXTRA: usize = 32;
}

/// The description of one content: one file (XEP-0234 §5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileDescription {
    /// The file.
    pub file: File,
    /// Children beside it that we do not know, kept in order.
    pub extra: Vec<Element>,
}

/// A file, as far as it is described (XEP-0234 §5, `<file/>`).
///
/// Nothing is mandatory: an offer has at least `size` and one of `hashes` and `hash_used` if it means to be understood
/// by all, and a request has whatever picks the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// The name that the peer gives it. It is no path: see [`file_name`](Self::file_name).
    pub name: Option<Arc<str>>,
    /// Bytes of the whole file, whatever the range.
    pub size: Option<u64>,
    /// The media type; `None` means `application/octet-stream`.
    pub media_type: Option<Arc<str>>,
    /// When it was changed last.
    pub date: Option<FileDate>,
    /// Texts for people.
    pub texts: Vec<FileText>,
    /// Hashes of the whole file.
    pub hashes: Vec<Hash>,
    /// Names of algorithms whose hash follows later ([`FileInfo::Checksum`]).
    pub hash_used: Vec<Arc<str>>,
    /// Which part is meant. Its presence in an offer says that parts can be had.
    pub range: Option<FileRange>,
    /// Where small pictures of it can be had.
    pub thumbnails: Vec<Thumbnail>,
    /// Children that we do not know, kept in order.
    pub extra: Vec<Element>,
}

/// A text for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileText {
    /// The language (`xml:lang`).
    pub language: Option<Arc<str>>,
    /// The text.
    pub text: Arc<str>,
}

/// A part of a file (XEP-0234 §6.4). The default is all of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileRange {
    /// The first byte.
    pub offset: u64,
    /// How many bytes; `None` means up to the end.
    pub length: Option<u64>,
    /// Hashes of the part.
    pub hashes: Vec<Hash>,
}

impl FileRange {
    /// From this byte to the end.
    pub fn from_offset(offset: u64) -> Self {
        Self {
            offset,
            ..Self::default()
        }
    }

    /// The byte behind the last; `None` where that is the end of the file.
    pub fn end(&self) -> Option<u64> {
        self.length.map(|length| self.offset.saturating_add(length))
    }

    /// Whether it is the whole file.
    pub fn is_whole(&self) -> bool {
        self.offset == 0 && self.length.is_none()
    }
}

/// A small picture (XEP-0264 §4). Its dimensions are the peer's word: nothing is to be allocated by them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// Where it can be had, often `cid:` (XEP-0231).
    pub uri: Arc<str>,
    /// Its media type.
    pub media_type: Option<Arc<str>>,
    /// Pixels across.
    pub width: Option<u16>,
    /// Pixels down.
    pub height: Option<u16>,
}

impl File {
    /// A file with a name and a size, whose SHA-256 follows when it is known, and of which parts can be had.
    pub fn new(name: &str, size: u64) -> Self {
        Self {
            name: Some(name.into()),
            size: Some(size),
            hash_used: vec![HashAlgorithm::Sha256.as_str().into()],
            range: Some(FileRange::default()),
            ..Self::default()
        }
    }

    /// The same with its media type.
    #[must_use]
    pub fn with_media_type(self, media_type: &str) -> Self {
        Self {
            media_type: Some(media_type.into()),
            ..self
        }
    }

    /// The same with one more hash. Its algorithm is no longer announced as to follow.
    #[must_use]
    pub fn with_hash(mut self, hash: Hash) -> Self {
        self.hash_used.retain(|name| **name != *hash.name());
        self.hashes.push(hash);
        self
    }

    /// The same with another part.
    #[must_use]
    pub fn with_range(self, range: FileRange) -> Self {
        Self {
            range: Some(range),
            ..self
        }
    }

    /// The name under which the file may be kept in a directory of our choice: what follows the last separator, if that
    /// is a name on every system.
    ///
    /// # Errors
    /// [`NameError`]; [`NameError::Empty`] also when there is none.
    pub fn file_name(&self) -> Result<FileName, NameError> {
        FileName::last_of(self.name.as_deref().unwrap_or_default())
    }

    /// How many bytes the part has; `None` when that is not known.
    pub fn part_bytes(&self) -> Option<u64> {
        let offset = self.range.as_ref().map_or(0, |range| range.offset);
        let rest = self.size.map(|size| size.saturating_sub(offset));
        match (rest, self.range.as_ref().and_then(|range| range.length)) {
            (Some(rest), Some(length)) => Some(rest.min(length)),
            (rest, length) => rest.or(length),
        }
    }

    /// Whether this selector picks `file`: everything that it says of name, size, media type and hash is true of it
    /// (XEP-0234 §6.2, RFC 5547 §5). A selector that says nothing picks nothing.
    pub fn selects(&self, file: &Self) -> bool {
        let says = self.name.is_some() || self.size.is_some() || !self.hashes.is_empty();
        let hash = self.hashes.is_empty()
            || crate::hash::compare(&self.hashes, &file.hashes).is_some_and(|(_, equal)| equal);
        says && hash
            && self
                .name
                .as_ref()
                .is_none_or(|name| file.name.as_ref() == Some(name))
            && self.size.is_none_or(|size| file.size == Some(size))
            && self
                .media_type
                .as_ref()
                .is_none_or(|media| file.media_type.as_ref() == Some(media))
    }
}

impl From<File> for FileDescription {
    fn from(file: File) -> Self {
        Self {
            file,
            extra: Vec::new(),
        }
    }
}

impl SessionDescription for FileDescription {
    const NAMESPACE: &'static str = FILE_TRANSFER;

    fn to_element(&self) -> Element {
        Element::new(FILE_TRANSFER, "description")
            .child(codec::write(&self.file))
            .children_from(self.extra.iter().cloned())
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        let file = element
            .find(FILE_TRANSFER, "file")
            .ok_or(PeerError::Malformed {
                field: "file",
                problem: "missing",
            })?;
        let unknown = element
            .children()
            .filter(|child| !child.is(FILE_TRANSFER, "file"));
        Ok(Self {
            file: codec::read(file)?,
            extra: codec::keep(unknown)?,
        })
    }
}
