//! What is in folders that are sent.

use super::{DiskError, DiskProblem, RESERVED};
use crate::{EntryKind, TreeEntry, TreePath};
use std::{
    fs::ReadDir,
    io,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// Goes through files and folders, folders before what is in them, in the order of names. A link that is named is followed, those
/// that are found are not. It keeps the names of the folders that it is in, and nothing else.
#[derive(Debug)]
pub struct Walk {
    /// Where to begin, last first.
    roots: Vec<PathBuf>,
    /// The folders in which we are: what is still to come of each, last first.
    inside: Vec<(Option<TreePath>, Vec<PathBuf>)>,
}

/// Something on the way.
#[derive(Debug)]
pub enum Found {
    /// What is sent.
    Entry(TreeEntry, PathBuf),
    /// What is not.
    Skipped(Skipped),
}

/// What is not sent, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// Links are not.
    Link(PathBuf),
    /// What is neither file nor folder is not.
    Special(PathBuf),
    /// What is not whole is not: another transfer is at it.
    Unfinished(PathBuf),
    /// It cannot be.
    Fault(DiskError),
    /// The receiver does not take it: another file has its name there.
    Refused(PathBuf),
}

impl Skipped {
    /// Whether it should have been sent.
    pub fn is_failure(&self) -> bool {
        match self {
            Self::Fault(_) | Self::Refused(_) => true,
            Self::Link(_) | Self::Special(_) | Self::Unfinished(_) => false,
        }
    }
}

impl Walk {
    /// Through these files and folders, each under its own name.
    pub fn new(roots: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut roots: Vec<PathBuf> = roots.into_iter().collect();
        roots.reverse();
        Self {
            roots,
            inside: Vec::new(),
        }
    }

    /// Through what is in this folder, each under its own name there. No link is followed.
    ///
    /// # Errors
    /// It cannot be looked into.
    pub fn inside(folder: &Path) -> io::Result<Self> {
        Ok(Self {
            roots: Vec::new(),
            inside: vec![(None, list(folder)?)],
        })
    }

    fn find(&mut self) -> Option<(Option<TreePath>, PathBuf, bool)> {
        while let Some((parent, left)) = self.inside.last_mut() {
            if let Some(path) = left.pop() {
                return Some((parent.clone(), path, false));
            }
            self.inside.pop();
        }
        self.roots.pop().map(|path| (None, path, true))
    }

    fn look(&mut self, parent: Option<&TreePath>, path: PathBuf, root: bool) -> Found {
        let place = within(parent, &path);
        // Under the link's name goes what it leads to, which is opened later as what is no link.
        let target = (root && path.is_symlink()).then(|| path.canonicalize());
        let path = target.and_then(Result::ok).unwrap_or(path);
        let fault = |what, error: &io::Error| {
            Found::Skipped(Skipped::Fault(DiskError::io(what, &path, error)))
        };
        let metadata = match path.symlink_metadata() {
            Ok(metadata) => metadata,
            Err(error) => return fault("look at", &error),
        };
        let kind = metadata.file_type();
        if kind.is_symlink() {
            return Found::Skipped(Skipped::Link(path));
        }
        if !kind.is_file() && !kind.is_dir() {
            return Found::Skipped(Skipped::Special(path));
        }
        let Some(tree_path) = place else {
            let why = "its name is none on every system".to_owned();
            let error = DiskError::new("send", path, DiskProblem::Other(why));
            return Found::Skipped(Skipped::Fault(error));
        };
        if tree_path.name().as_str().starts_with(RESERVED) {
            return Found::Skipped(Skipped::Unfinished(path));
        }
        let mut entry = match kind.is_dir() {
            true => TreeEntry::folder(tree_path),
            false => TreeEntry::file(tree_path, metadata.len()),
        };
        entry.mode = (metadata.permissions().mode() & 0o777) as u16;
        entry.modified = Some((
            metadata.mtime(),
            u32::try_from(metadata.mtime_nsec()).unwrap_or_default(),
        ));
        if entry.kind == EntryKind::Folder {
            match list(&path) {
                Ok(names) => self.inside.push((Some(entry.path.clone()), names)),
                Err(error) => return fault("open", &error),
            }
        }
        Found::Entry(entry, path)
    }
}

impl Iterator for Walk {
    type Item = Found;

    fn next(&mut self) -> Option<Found> {
        let (parent, path, root) = self.find()?;
        Some(self.look(parent.as_ref(), path, root))
    }
}

/// The place in the tree; `None` when it has no name that every system takes.
fn within(parent: Option<&TreePath>, path: &Path) -> Option<TreePath> {
    let named;
    let name = match path.file_name() {
        Some(name) => name,
        // The folder in which we are, say.
        None => {
            named = path.canonicalize().ok()?;
            named.file_name()?
        }
    };
    let name = name.to_str()?;
    let text = match parent {
        Some(parent) => format!("{parent}/{name}"),
        None => name.to_owned(),
    };
    TreePath::new(&text).ok()
}

/// What is in a folder, last name first.
fn list(path: &Path) -> io::Result<Vec<PathBuf>> {
    let folder: ReadDir = std::fs::read_dir(path)?;
    let mut names = folder
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort_unstable_by(|a, b| b.cmp(a));
    Ok(names)
}
