//! One file of a tree, and many small ones together.

use super::{LARGE, Wanted};
use crate::{
    FileName, TreePath,
    disk::{
        DiskError, DiskProblem, Existing, Folder, Partial,
        descriptors::descriptors,
        error::at,
        folder::{set_time, temporary},
        partial::{now, open_beside, open_locked, write_pieces},
    },
};
use bytes::Bytes;
use rustix::fs::{self, Mode};
use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

/// Small files that wait for their names, at most. Each of them is open, which keeps others out of it, and so is its folder.
const BATCH_FILES: u64 = 512;

/// Where few files may be open, one of so many: eight trees may come at a time.
const BATCH_SHARE: u64 = 20;

/// How long they wait. Until then nobody else can receive files of these names, and a crash takes them away.
pub(super) const BATCH_AGE: Duration = Duration::from_secs(2);

/// Bytes of those.
const BATCH_BYTES: u64 = 64 << 20;

/// A file that is written.
pub(super) enum Writing {
    /// A small one: when it is interrupted it begins anew.
    Small {
        folder: Arc<Folder>,
        part: String,
        name: FileName,
        file: File,
    },
    /// A large one, or one that goes on where it was.
    Large(Box<Partial>),
    /// What comes is not kept.
    Lost,
}

impl Writing {
    /// Opens what is wanted. What somebody else receives at the same time is received once more beside that: who is done last
    /// finds the name taken.
    pub(super) fn open(folder: &Arc<Folder>, wanted: &mut Wanted) -> Result<Self, DiskError> {
        if let Some(mut partial) = wanted.held.take() {
            if let Err(error) = partial.check() {
                if error.problem == DiskProblem::Changed {
                    partial.discard()?;
                }
                return Err(error);
            }
            return Ok(Self::Large(partial));
        }
        let name = wanted.entry.path.name();
        let taken = |error: &DiskError| error.problem == DiskProblem::Exists;
        if wanted.size >= LARGE {
            let file = wanted.entry.to_file().unwrap_or_default();
            let partial = match Partial::open(folder, &name, &file, true) {
                Err(error) if taken(&error) => Partial::beside(folder, &name, &file)?,
                opened => opened?,
            };
            return Ok(Self::Large(Box::new(partial.was_free(wanted.was_free))));
        }
        let part = temporary(name.as_str(), "part");
        let (part, file) = match open_locked(folder, &part, &name) {
            Err(error) if taken(&error) => open_beside(folder, &name)?,
            opened => (part, opened?),
        };
        fs::ftruncate(&file, 0).map_err(at("write", &folder.path().join(name.as_str())))?;
        Ok(Self::Small {
            folder: folder.clone(),
            part,
            name,
            file,
        })
    }

    pub(super) fn write(&mut self, bytes: &[Bytes]) -> Result<(), DiskError> {
        match self {
            Self::Small {
                folder, name, file, ..
            } => write_pieces(file, bytes)
                .map_err(|error| DiskError::io("write", folder.path().join(name.as_str()), &error)),
            Self::Large(partial) => {
                partial.write(bytes)?;
                partial.note_if_due()
            }
            Self::Lost => Ok(()),
        }
    }

    /// No more comes of it for now. What cannot be put down begins anew.
    ///
    /// A large one stays also when the disk is full: there was room for all of it when it began, so that somebody else has
    /// filled it, and who makes room finds it where it was.
    pub(super) fn interrupt(self) {
        match self {
            Self::Large(partial) => partial.leave(),
            small @ (Self::Small { .. } | Self::Lost) => small.discard(),
        }
    }

    /// It is not wanted any more. What cannot be taken away is no file of that name in any case.
    pub(super) fn discard(self) {
        match self {
            Self::Small { folder, part, .. } => drop(folder.remove(&part)),
            Self::Large(partial) => drop(partial.discard()),
            Self::Lost => {}
        }
    }
}

/// What became of a file that is whole.
pub(super) enum Taken {
    /// It has a name; whether that is another than its own.
    Kept { renamed: bool },
    /// It waits for its name.
    Waits,
    /// It was not written.
    Lost,
}

/// What became of those that waited.
#[derive(Default)]
pub(super) struct Settled {
    /// How many have names.
    pub(super) kept: u64,
    /// How many of those have others than their own.
    pub(super) renamed: u64,
    /// Which have none, and why.
    pub(super) faults: Vec<(TreePath, DiskError)>,
}

/// A small file that is whole and has not its name yet.
struct Waiting {
    path: TreePath,
    folder: Arc<Folder>,
    part: String,
    name: FileName,
    /// As long as it is open nobody else takes it for a part to write to.
    file: File,
    was_free: bool,
}

/// Small files that are whole and wait for one barrier.
pub(super) struct Batch {
    files: Vec<Waiting>,
    most: usize,
    bytes: u64,
    /// Since when the first of them waits.
    since: Option<Instant>,
}

impl Batch {
    pub(super) fn new() -> Self {
        let most = (descriptors() / BATCH_SHARE).clamp(1, BATCH_FILES);
        Self {
            files: Vec::new(),
            most: usize::try_from(most).unwrap_or(1),
            bytes: 0,
            since: None,
        }
    }

    /// Takes a file that is whole.
    pub(super) fn take(
        &mut self,
        writing: Writing,
        wanted: &Wanted,
        existing: Existing,
    ) -> Result<Taken, DiskError> {
        let (mode, modified) = (wanted.entry.mode, wanted.entry.modified);
        match writing {
            Writing::Lost => Ok(Taken::Lost),
            Writing::Large(mut partial) => {
                partial.dress(Some(mode), modified);
                let name = partial.name().clone();
                let kept = partial.keep(existing)?;
                let renamed = kept.name != name;
                Ok(Taken::Kept { renamed })
            }
            Writing::Small {
                folder,
                part,
                name,
                file,
            } => {
                let path = folder.path().join(name.as_str());
                let dressed = fs::fchmod(&file, Mode::from_raw_mode(u32::from(mode & 0o777) as _))
                    .map_err(at("set the mode of", &path))
                    .and_then(|()| set_time(&file, modified).map_err(at("set the time of", &path)));
                if let Err(error) = dressed {
                    let _ = folder.remove(&part);
                    return Err(error);
                }
                self.bytes += wanted.size;
                self.since.get_or_insert_with(now);
                self.files.push(Waiting {
                    path: wanted.entry.path.clone(),
                    folder,
                    part,
                    name,
                    file,
                    was_free: wanted.was_free,
                });
                Ok(Taken::Waits)
            }
        }
    }

    /// Whether they have waited long enough, or are as many as may.
    pub(super) fn is_due(&self) -> bool {
        let waited = self
            .since
            .map(|since| now().saturating_duration_since(since));
        self.files.len() >= self.most
            || self.bytes >= BATCH_BYTES
            || waited.is_some_and(|waited| waited >= BATCH_AGE)
    }

    /// Waits until all of them are on the disk, and gives them their names. What gets none goes, as it begins anew in any case,
    /// and the others get theirs.
    pub(super) fn settle(&mut self, root: &Folder, existing: Existing) -> Settled {
        let mut settled = Settled::default();
        self.bytes = 0;
        self.since = None;
        if self.files.is_empty() {
            return settled;
        }
        let barrier = root.barrier();
        for waiting in self.files.drain(..) {
            match barrier.clone().and_then(|()| waiting.settle(existing)) {
                Ok(renamed) => {
                    settled.kept += 1;
                    settled.renamed += u64::from(renamed);
                }
                Err(error) => {
                    let _ = waiting.folder.remove(&waiting.part);
                    settled.faults.push((waiting.path, error));
                }
            }
            // Only now others may have it.
            drop(waiting.file);
        }
        settled
    }
}

impl Waiting {
    /// Gives it its name. Whether that is another than its own.
    fn settle(&self, existing: Existing) -> Result<bool, DiskError> {
        let part = (&self.part[..], &self.file);
        let name = self
            .folder
            .settle_as(part, &self.name, existing, self.was_free)?;
        Ok(name != self.name)
    }
}
