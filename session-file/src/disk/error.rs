//! What goes wrong with files.

use rustix::io::Errno;
use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// What was tried with which file, and why it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskError {
    /// What was tried: `write`, for example.
    pub what: &'static str,
    /// With what.
    pub path: PathBuf,
    /// Why it failed.
    pub problem: DiskProblem,
}

/// Why something with a file failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DiskProblem {
    /// There is no room.
    Full,
    /// The user may not.
    Denied,
    /// The file system takes no changes.
    ReadOnly,
    /// It is not there.
    Missing,
    /// It is there already.
    Exists,
    /// It is a link, or a link stands on the way to it, and those are not followed.
    Link,
    /// It is no regular file: a device or a pipe, for example.
    NotAFile,
    /// It is no folder.
    NotAFolder,
    /// A folder has its name.
    Folder,
    /// It was changed while it was read.
    Changed,
    /// Its name is kept for files that are not whole.
    Reserved,
    /// Its name begins with a dot, and the folder takes none of those from others.
    Hidden,
    /// More files are open than the system allows.
    TooManyOpen,
    /// What the system says.
    Other(String),
}

impl DiskError {
    /// A problem of ours.
    pub fn new(what: &'static str, path: impl Into<PathBuf>, problem: DiskProblem) -> Self {
        Self {
            what,
            path: path.into(),
            problem,
        }
    }

    /// What the system says.
    pub fn io(what: &'static str, path: impl Into<PathBuf>, error: &io::Error) -> Self {
        let problem = match error.raw_os_error().map(Errno::from_raw_os_error) {
            Some(Errno::NOSPC | Errno::DQUOT) => DiskProblem::Full,
            Some(Errno::ACCESS | Errno::PERM) => DiskProblem::Denied,
            Some(Errno::ROFS) => DiskProblem::ReadOnly,
            Some(Errno::NOENT) => DiskProblem::Missing,
            Some(Errno::EXIST) => DiskProblem::Exists,
            Some(Errno::LOOP) => DiskProblem::Link,
            Some(Errno::NOTDIR) => DiskProblem::NotAFolder,
            Some(Errno::ISDIR) => DiskProblem::Folder,
            Some(Errno::MFILE | Errno::NFILE) => DiskProblem::TooManyOpen,
            Some(_) | None => DiskProblem::Other(error.to_string()),
        };
        Self::new(what, path, problem)
    }

    /// What may help.
    pub fn hint(&self) -> &'static str {
        match self.problem {
            DiskProblem::Full => {
                "make room, then give the same command again: it goes on where it was"
            }
            DiskProblem::Denied => "check who owns it (ls -l), or choose another folder",
            DiskProblem::ReadOnly => "choose a folder on a disk that can be written",
            DiskProblem::Missing => "check the name",
            DiskProblem::Exists => "see --existing",
            DiskProblem::Link => "name what it leads to",
            DiskProblem::NotAFile => "only files and folders are sent; use - for a stream",
            DiskProblem::NotAFolder => "something else stands in the place of a folder",
            DiskProblem::Folder => "give one of the two another name, or see --existing",
            DiskProblem::Changed => "give the same command again when nobody writes to it",
            DiskProblem::Reserved => "give it another name",
            DiskProblem::Hidden => "choose another folder, or add --hidden",
            DiskProblem::TooManyOpen => "ulimit -n raises the limit",
            DiskProblem::Other(_) => "is the disk in order?",
        }
    }
}

/// Makes an error of what the system says about a path.
pub(super) fn at(what: &'static str, path: &Path) -> impl FnOnce(Errno) -> DiskError {
    let path = path.to_owned();
    move |errno| DiskError::io(what, path, &io::Error::from(errno))
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what, self.path.display(), self.problem)
    }
}

impl fmt::Display for DiskProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Full => "there is no room on the disk",
            Self::Denied => "that is not allowed",
            Self::ReadOnly => "the file system cannot be written to",
            Self::Missing => "it is not there",
            Self::Exists => "it is there already",
            Self::Link => "it is a link, which is not followed",
            Self::NotAFile => "it is not a file",
            Self::NotAFolder => "it is not a folder",
            Self::Folder => "a folder has its name",
            Self::Changed => "it was changed while it was read",
            Self::Reserved => "the name is kept for files that are not whole",
            Self::Hidden => {
                "names that begin with a dot may steer programs, and are not taken here"
            }
            Self::TooManyOpen => "too many files are open",
            Self::Other(text) => text,
        })
    }
}

impl std::error::Error for DiskError {}
