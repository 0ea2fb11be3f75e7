//! Where things are in a tree, and names that are too alike.

use super::{EntryKind, TreeEntry, TreeError};
use crate::{FileName, NameError, sanitize_name};
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, sync::Arc};
use thiserror::Error;
use unicode_normalization::UnicodeNormalization as _;

/// Most names in a path.
const DEPTH_MAX: usize = 64;

/// Most bytes of a path.
pub(super) const PATH_BYTES_MAX: usize = 4_096;

/// A path within a tree: names with slashes between them. Each is a [`FileName`], so that it leads nowhere else, on any
/// system.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TreePath {
    text: Arc<str>,
}

/// Why a text is no [`TreePath`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PathError {
    /// One of its names is none. A path that begins or ends with a slash has an empty one.
    #[error("name {at} of the path: {error}")]
    Name {
        /// Which, from 0.
        at: usize,
        /// What is wrong with it.
        error: NameError,
    },
    /// More bytes than 4,096.
    #[error("the path has {0} bytes")]
    TooLong(usize),
    /// More names than 64.
    #[error("the path is {0} names deep")]
    TooDeep(usize),
}

impl TreePath {
    /// The path in this text, whose names have slashes between them.
    ///
    /// # Errors
    /// [`PathError`].
    ///
    /// ```
    /// use session_file::TreePath;
    /// let path = TreePath::new("holiday/beach.jpg").unwrap();
    /// assert_eq!(path.name().as_str(), "beach.jpg");
    /// assert_eq!(path.parent().unwrap().to_string(), "holiday");
    /// assert!(TreePath::new("../etc/passwd").is_err());
    /// ```
    pub fn new(text: &str) -> Result<Self, PathError> {
        if text.len() > PATH_BYTES_MAX {
            return Err(PathError::TooLong(text.len()));
        }
        let depth = text.split('/').count();
        if depth > DEPTH_MAX {
            return Err(PathError::TooDeep(depth));
        }
        for (at, name) in text.split('/').enumerate() {
            sanitize_name(name).map_err(|error| PathError::Name { at, error })?;
        }
        Ok(Self { text: text.into() })
    }

    /// The names, outermost first.
    pub fn names(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.text.split('/')
    }

    /// The last name.
    pub fn name(&self) -> FileName {
        FileName::of_path(self.names().next_back().unwrap_or_default())
    }

    /// The first name: of what it is at the top of the tree, or in which of these.
    pub fn top(&self) -> FileName {
        FileName::of_path(self.names().next().unwrap_or_default())
    }

    /// The folder that it is in; `None` at the top of the tree.
    pub fn parent(&self) -> Option<Self> {
        let (parent, _) = self.text.rsplit_once('/')?;
        Some(Self {
            text: parent.into(),
        })
    }

    /// The path as a text.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for TreePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The entries of a tree so far, as far as names can collide.
#[derive(Debug, Default)]
pub(super) struct Names {
    /// What is left of a path when case and form of its letters do not matter, shortened; and whether it is a folder.
    known: BTreeMap<[u8; 16], bool>,
}

impl Names {
    /// Takes an entry in.
    ///
    /// # Errors
    /// [`TreeError::NoFolder`], [`TreeError::Collision`].
    pub(super) fn add(&mut self, entry: &TreeEntry) -> Result<(), TreeError> {
        if let Some(parent) = entry.path.parent() {
            match self.known.get(&folded(parent.as_str())) {
                Some(true) => {}
                Some(false) => return Err(TreeError::Collision(entry.path.clone())),
                None => return Err(TreeError::NoFolder(entry.path.clone())),
            }
        }
        let folder = entry.kind == EntryKind::Folder;
        match self.known.insert(folded(entry.path.as_str()), folder) {
            Some(_) => Err(TreeError::Collision(entry.path.clone())),
            None => Ok(()),
        }
    }
}

/// Equal for paths that a file system may take for one: Windows and macOS do not tell upper from lower case, and macOS not
/// composed from decomposed letters.
fn folded(path: &str) -> [u8; 16] {
    let text: String = path
        .nfkd()
        .flat_map(char::to_lowercase)
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .nfkd()
        .collect();
    let digest = Sha256::digest(text.as_bytes());
    let mut short = [0; 16];
    short.copy_from_slice(&digest[..16]);
    short
}
