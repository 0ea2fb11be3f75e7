//! One file of a tree, and many small ones together.

use super::{LARGE, Wanted};
use crate::{
    FileName,
    disk::{
        DiskError, Existing, Folder, Partial,
        error::at,
        folder::{set_time, temporary},
        partial::{lock, write_pieces},
    },
};
use bytes::Bytes;
use rustix::fs::{self, Mode};
use std::{fs::File, sync::Arc};

/// Small files that wait for their names.
const BATCH_FILES: usize = 1_024;

/// Bytes of those.
const BATCH_BYTES: u64 = 64 << 20;

/// Folders of those, each of which is open.
const BATCH_FOLDERS: usize = 128;

/// A file that is written.
pub(super) enum Writing {
    /// A small one: when it is interrupted it begins anew.
    Small {
        folder: Arc<Folder>,
        part: String,
        name: FileName,
        file: File,
    },
    /// A large one.
    Large(Box<Partial>),
    /// What comes is not kept.
    Lost,
}

impl Writing {
    pub(super) fn open(folder: &Arc<Folder>, wanted: &Wanted) -> Result<Self, DiskError> {
        let name = wanted.entry.path.name();
        if wanted.size >= LARGE {
            let file = wanted.entry.to_file().unwrap_or_default();
            let partial = Partial::resume(folder, &name, &file, wanted.prefix.clone())?;
            return Ok(Self::Large(Box::new(partial)));
        }
        let part = temporary(name.as_str(), "part");
        let file = folder.open_or_create(&part)?;
        // Of two that receive it at once, one does not.
        lock(&file, &folder.path().join(name.as_str()))?;
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
    pub(super) fn interrupt(self) {
        match self {
            Self::Large(mut partial) => drop(partial.note()),
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

/// Small files that are whole and wait for one barrier.
#[derive(Default)]
pub(super) struct Batch {
    files: Vec<(Arc<Folder>, String, FileName)>,
    bytes: u64,
    /// About as many folders are open.
    pub(super) folders: usize,
}

impl Batch {
    /// Takes a file that is whole. `None` when it was lost; else whether it got another name.
    pub(super) fn take(
        &mut self,
        writing: Writing,
        wanted: &Wanted,
        existing: Existing,
    ) -> Result<Option<bool>, DiskError> {
        let (mode, modified) = (wanted.entry.mode, wanted.entry.modified);
        match writing {
            Writing::Lost => Ok(None),
            Writing::Large(mut partial) => {
                partial.dress(Some(mode), modified);
                let name = partial.name().clone();
                let kept = partial.keep(existing)?;
                Ok(Some(kept.name != name))
            }
            Writing::Small {
                folder,
                part,
                name,
                file,
            } => {
                let path = folder.path().join(name.as_str());
                fs::fchmod(&file, Mode::from_raw_mode(u32::from(mode & 0o777) as _))
                    .map_err(at("set the mode of", &path))?;
                set_time(&file, modified).map_err(at("set the time of", &path))?;
                self.bytes += wanted.size;
                self.files.push((folder, part, name));
                Ok(Some(false))
            }
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= BATCH_FILES
            || self.bytes >= BATCH_BYTES
            || self.folders >= BATCH_FOLDERS
    }

    /// Waits until all of them are on the disk, and gives them their names. How many got another.
    pub(super) fn settle(&mut self, root: &Folder, existing: Existing) -> Result<u64, DiskError> {
        let mut renamed = 0;
        self.bytes = 0;
        self.folders = 0;
        if self.files.is_empty() {
            return Ok(0);
        }
        root.barrier()?;
        for (folder, part, name) in self.files.drain(..) {
            match existing {
                Existing::Overwrite => folder.replace(&part, &name)?,
                Existing::Rename | Existing::Skip => {
                    renamed += u64::from(folder.settle_beside(&part, &name)? != name);
                }
            }
        }
        Ok(renamed)
    }
}
