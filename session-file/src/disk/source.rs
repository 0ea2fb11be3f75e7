//! Reading ahead.

use super::{DiskError, DiskProblem, Meter, partial::hash_front};
use crate::{File, FileDate, FileText, HashAlgorithm, Hasher, sanitize_name};
use bytes::Bytes;
use rustix::{
    buffer::spare_capacity,
    fs::{self, FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    fs::File as Handle,
    io::{Seek as _, SeekFrom},
    path::{Path, PathBuf},
};
use tokio::sync::mpsc;

/// Bytes of one piece of a file.
pub const PIECE: usize = 256 * 1024;

/// Pieces that wait between a disk and the network.
pub const PIECES: usize = 8;

/// What a file was when it was opened: when it is another at the end, it was changed meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// When it was changed last.
    pub modified: (i64, u32),
    /// Which file of which disk.
    id: (u64, u64),
}

/// Something to send.
#[derive(Debug)]
pub struct Source {
    handle: Handle,
    path: PathBuf,
    stamp: Option<Stamp>,
}

/// What came of reading.
#[derive(Debug)]
pub struct Read {
    /// What was read, from the beginning of the file.
    pub hasher: Hasher,
}

impl Source {
    /// A regular file.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        // A pipe would wait for somebody to write.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        Self::open_with(path, flags)
    }

    /// The same, when no link may stand in its place.
    pub(super) fn open_itself(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW;
        Self::open_with(path, flags)
    }

    fn open_with(path: &Path, flags: OFlags) -> Result<Self, DiskError> {
        let fail = |errno: Errno| DiskError::io("read", path, &errno.into());
        let fd = fs::open(path, flags, Mode::empty()).map_err(fail)?;
        let (stamp, kind) = stamp(&fd).map_err(fail)?;
        if kind != FileType::RegularFile {
            return Err(DiskError::new("read", path, DiskProblem::NotAFile));
        }
        Ok(Self {
            handle: Handle::from(fd),
            path: path.to_owned(),
            stamp: Some(stamp),
        })
    }

    /// A regular file that is open already.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn of(handle: Handle, path: &Path) -> Result<Self, DiskError> {
        let (stamp, _) =
            stamp(&handle).map_err(|errno| DiskError::io("read", path, &errno.into()))?;
        Ok(Self {
            handle,
            path: path.to_owned(),
            stamp: Some(stamp),
        })
    }

    /// What standard input gives, until it ends. How much that is, nobody knows.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn standard_input() -> Result<Self, DiskError> {
        let path = PathBuf::from("standard input");
        let fd = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3)
            .map_err(|errno| DiskError::io("read", &path, &errno.into()))?;
        Ok(Self {
            handle: Handle::from(fd),
            path,
            stamp: None,
        })
    }

    /// The same, to be read once more. Both are at the same place of it, so that one is read after the other.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn again(&self) -> Result<Self, DiskError> {
        let handle = self.handle.try_clone();
        let handle = handle.map_err(|error| DiskError::io("read", &self.path, &error))?;
        Ok(Self {
            handle,
            path: self.path.clone(),
            stamp: self.stamp,
        })
    }

    /// What it was when it was opened; `None` for a stream.
    pub fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// How it is offered under this name.
    ///
    /// # Errors
    /// [`DiskError`] when no other system would take the name.
    pub fn offer(&self, name: &str) -> Result<File, DiskError> {
        sanitize_name(name).map_err(|error| {
            DiskError::new("offer", &self.path, DiskProblem::Other(error.to_string()))
        })?;
        let mut file = match self.stamp {
            Some(stamp) => File::new(name, stamp.size),
            None => File {
                name: Some(name.into()),
                ..File::default()
            },
        };
        file.date = self
            .stamp
            .and_then(|stamp| FileDate::from_unix(stamp.modified.0));
        // Libervia takes no file without a text.
        file.texts = vec![FileText {
            language: None,
            text: name.into(),
        }];
        file.hash_used = vec![HashAlgorithm::Sha256.as_str().into()];
        Ok(file)
    }

    /// The hasher of so many bytes from its beginning.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn hash_front(&mut self, bytes: u64) -> Result<Hasher, DiskError> {
        let hasher = Hasher::new([HashAlgorithm::Sha256]);
        hash_front(&mut self.handle, hasher, bytes)
            .map_err(|error| DiskError::io("read", &self.path, &error))
    }

    /// Whether it is what it was when it was opened.
    ///
    /// # Errors
    /// [`DiskProblem::Changed`], or what the system says.
    pub fn check(&self) -> Result<(), DiskError> {
        let Some(before) = self.stamp else {
            return Ok(());
        };
        let (now, _) = stamp(&self.handle)
            .map_err(|errno| DiskError::io("read", &self.path, &errno.into()))?;
        if now != before {
            return Err(DiskError::new("read", &self.path, DiskProblem::Changed));
        }
        Ok(())
    }

    /// Goes to this byte.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn seek(&mut self, offset: u64) -> Result<(), DiskError> {
        self.handle
            .seek(SeekFrom::Start(offset))
            .map(|_| ())
            .map_err(|error| DiskError::io("read", &self.path, &error))
    }

    /// The next bytes, as many as fit in a piece of so many; none at the end.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read(&mut self, most: usize) -> Result<Bytes, DiskError> {
        let mut piece = Vec::with_capacity(most);
        while piece.len() < most {
            match rustix::io::read(&self.handle, spare_capacity(&mut piece)) {
                Ok(0) => break,
                // A stream gives what it has.
                Ok(_) if self.stamp.is_none() => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno) => return Err(DiskError::io("read", &self.path, &errno.into())),
            }
        }
        Ok(Bytes::from(piece))
    }

    /// Reads everything from `offset` on, with `prefix` as the hasher of what is before, and hands out pieces: of a file the
    /// last one only when it is still what it was, so that nobody takes a mixture for whole, of a stream each at once. On a
    /// thread that may wait.
    ///
    /// # Errors
    /// [`DiskError`]. `Ok(None)` when nobody takes it any more.
    pub fn pour(
        mut self,
        prefix: Hasher,
        pieces: &mpsc::Sender<Bytes>,
        meter: &Meter,
    ) -> Result<Option<Read>, DiskError> {
        let offset = prefix.length();
        let mut hasher = prefix;
        if self.stamp.is_some() {
            self.seek(offset)?;
        }
        let size = self.stamp.map(|stamp| stamp.size);
        let mut ahead = size.map(|_| self.read(PIECE)).transpose()?;
        loop {
            let piece = match ahead.take() {
                Some(piece) => piece,
                None => self.read(PIECE)?,
            };
            if piece.is_empty() {
                break;
            }
            hasher.update(&piece);
            if let Some(size) = size {
                let next = self.read(PIECE)?;
                if hasher.length() > size {
                    return Err(DiskError::new("read", self.path, DiskProblem::Changed));
                }
                if next.is_empty() {
                    self.check()?;
                }
                ahead = Some(next);
            }
            let count = piece.len() as u64;
            if pieces.blocking_send(piece).is_err() {
                return Ok(None);
            }
            meter.add(count);
        }
        if size.is_some_and(|size| hasher.length() < size) {
            return Err(DiskError::new("read", self.path, DiskProblem::Changed));
        }
        Ok(Some(Read { hasher }))
    }
}

fn stamp(file: impl rustix::fd::AsFd) -> Result<(Stamp, FileType), Errno> {
    let stat = fs::fstat(file)?;
    let stamp = Stamp {
        size: u64::try_from(stat.st_size).unwrap_or_default(),
        modified: (
            stat.st_mtime as i64,
            u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        ),
        id: (stat.st_dev as u64, stat.st_ino as u64),
    };
    Ok((stamp, FileType::from_raw_mode(stat.st_mode)))
}
