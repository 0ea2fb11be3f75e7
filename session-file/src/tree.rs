//! Folders: what is in a tree, and how two of ours send all of it in one stream.
//!
//! A tree is offered as a file that has a mark of our own in its description ([`tree_offer`]); a peer that knows the mark
//! repeats it, and the transfer's stream then carries frames both ways. Other peers do not repeat it, and are offered each
//! file for itself ([`TreeEntry::to_file`]).
//!
//! The sender names entries ahead of their bytes, the receiver says of each file whether it wants it, and from which byte
//! on; so many small files cost no round trip each, and what is there already is not sent. Neither side keeps more than
//! [`TreeLimits`] says, however large the tree is.

mod frame;
mod path;
mod receive;
mod send;

pub use path::{PathError, TreePath};
pub use receive::{TreeEvent, TreeReceiver};
pub use send::{Demand, TreeSender};

use crate::{File, FileDate, Hash, OWN};
use session_core::Element;
use thiserror::Error;

/// Bounds of trees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TreeLimits {
    /// Entries of a tree. A receiver keeps 17 bytes of each, to notice names that collide. Default 262,144.
    pub entries: u64,
    /// Bytes of all files of a tree together. Default 1 TiB.
    pub bytes: u64,
    /// Files that the sender has named and that are not done; both sides must have the same. Default 1,024.
    pub ahead: usize,
}

impl Default for TreeLimits {
    fn default() -> Self {
        Self {
            entries: 262_144,
            bytes: 1 << 40,
            ahead: 1_024,
        }
    }
}

/// Entries more than were announced that are taken of any tree.
const SLACK_ENTRIES: u64 = 1_024;

/// Bytes more than were announced that are taken of any tree.
const SLACK_BYTES: u64 = 64 << 20;

/// One more for so many that were announced.
const SLACK_SHARE: u64 = 8;

impl TreeLimits {
    /// What is taken of a tree that was offered with these totals: what was announced, for which its receiver has room, and
    /// some more, as folders may grow between the offer and the end. That is an eighth, 1,024 entries and 64 MiB. More than
    /// these limits it never is.
    ///
    /// ```
    /// use session_file::{TreeLimits, TreeTotals};
    /// let announced = TreeTotals { entries: 80_000, bytes: 1 << 30 };
    /// let limits = TreeLimits::default().for_offer(announced);
    /// assert_eq!(limits.entries, 91_024);
    /// assert_eq!(limits.bytes, (1 << 30) + (128 << 20) + (64 << 20));
    /// ```
    #[must_use]
    pub fn for_offer(self, totals: TreeTotals) -> Self {
        let most = |announced: u64, slack: u64| {
            let more = (announced / SLACK_SHARE).saturating_add(slack);
            announced.saturating_add(more)
        };
        Self {
            entries: self.entries.min(most(totals.entries, SLACK_ENTRIES)),
            bytes: self.bytes.min(most(totals.bytes, SLACK_BYTES)),
            ahead: self.ahead,
        }
    }
}

/// One thing in a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeEntry {
    /// Where in the tree.
    pub path: TreePath,
    /// What it is. Links are not sent: a sender leaves them out, or sends what they lead to within the tree.
    pub kind: EntryKind,
    /// Who may do what with it: the nine bits of POSIX. More are not taken from a peer.
    pub mode: u16,
    /// When it was changed last: seconds after the beginning of 1970, and nanoseconds.
    pub modified: Option<(i64, u32)>,
}

/// What a [`TreeEntry`] is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A folder, perhaps without anything in it. It comes before what is in it.
    Folder,
    /// A file.
    File {
        /// Its bytes.
        size: u64,
        /// Its SHA-256, if the sender knows it already. A receiver that has a file with it skips this one.
        hash: Option<Hash>,
    },
}

impl TreeEntry {
    /// A folder that everybody may look into.
    pub fn folder(path: TreePath) -> Self {
        Self {
            path,
            kind: EntryKind::Folder,
            mode: 0o755,
            modified: None,
        }
    }

    /// A file that everybody may read.
    pub fn file(path: TreePath, size: u64) -> Self {
        Self {
            path,
            kind: EntryKind::File { size, hash: None },
            mode: 0o644,
            modified: None,
        }
    }

    /// The file of this entry as other clients are offered it, alone: its last name, and the whole path as a text for
    /// people. `None` for a folder.
    pub fn to_file(&self) -> Option<File> {
        let EntryKind::File { size, hash } = &self.kind else {
            return None;
        };
        let mut file = File::new(self.path.name().as_str(), *size);
        if let Some(hash) = hash {
            file = file.with_hash(hash.clone());
        }
        file.date = self
            .modified
            .and_then(|(seconds, _)| FileDate::from_unix(seconds));
        file.texts.push(crate::FileText {
            language: None,
            text: self.path.to_string().into(),
        });
        Some(file)
    }
}

/// What is wrong with a tree, or with what a peer sends of it. It cannot go on then.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TreeError {
    /// Bytes that are no frame.
    #[error("{field}: {problem}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A path that leads out of the tree, or that some system would not take.
    #[error(transparent)]
    Path(#[from] PathError),
    /// Two entries that some system cannot tell apart, or one below a file.
    #[error("{0} collides with another entry")]
    Collision(TreePath),
    /// An entry below a folder that was not named before.
    #[error("{0} is in no folder of the tree")]
    NoFolder(TreePath),
    /// More than we keep.
    #[error("more than {max} {limit}")]
    TooMany {
        /// The name of the limit in [`TreeLimits`].
        limit: &'static str,
        /// Its value.
        max: u64,
    },
    /// A frame that makes no sense now.
    #[error("not now: {0}")]
    OutOfOrder(&'static str),
    /// A file that is not one, or is done.
    #[error("there is no file {0} to speak of")]
    Unknown(u64),
    /// A file has more or less bytes than were named.
    #[error("file {0} has not the size that was named")]
    Size(u64),
}

/// How much a tree has, by the word of whoever offers it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TreeTotals {
    /// Entries.
    pub entries: u64,
    /// Bytes of its files.
    pub bytes: u64,
}

/// What offers a tree of this name: to be proposed as a file.
pub fn tree_offer(name: &str, totals: TreeTotals) -> File {
    let mark = Element::new(OWN, "tree")
        .with("version", 1)
        .with("entries", totals.entries)
        .with("bytes", totals.bytes);
    File {
        name: Some(name.into()),
        extra: vec![mark],
        ..File::default()
    }
}

/// What the description of a file says of a tree; `None` when it is one file.
///
/// # Errors
/// [`TreeError::TooMany`] when there is more than `limits` allows, [`TreeError::Malformed`].
pub fn tree_totals(file: &File, limits: &TreeLimits) -> Result<Option<TreeTotals>, TreeError> {
    let Some(mark) = mark(file) else {
        return Ok(None);
    };
    let number = |field: &'static str| {
        let value = mark
            .attribute(field)
            .and_then(|value| value.parse::<u64>().ok());
        value.ok_or(TreeError::Malformed {
            field,
            problem: "not a number",
        })
    };
    let totals = TreeTotals {
        entries: number("entries")?,
        bytes: number("bytes")?,
    };
    within("entries", totals.entries, limits.entries)?;
    within("bytes", totals.bytes, limits.bytes)?;
    Ok(Some(totals))
}

/// The mark of a tree that we understand.
pub(crate) fn mark(file: &File) -> Option<&Element> {
    let known = |extra: &&Element| extra.is(OWN, "tree") && extra.attribute("version") == Some("1");
    file.extra.iter().find(known)
}

fn within(limit: &'static str, value: u64, max: u64) -> Result<(), TreeError> {
    if value > max {
        return Err(TreeError::TooMany { limit, max });
    }
    Ok(())
}
