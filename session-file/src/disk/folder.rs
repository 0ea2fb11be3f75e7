//! [`Folder`]: one folder, below which everything happens.

use super::{
    DiskProblem, Existing,
    error::{DiskError, at},
};
use crate::{FileName, TreePath};
use rustix::{
    fd::OwnedFd,
    fs::{self, AtFlags, FileType, Mode, OFlags, Timespec, Timestamps},
    io::Errno,
};
use sha2::{Digest, Sha256};
use std::{
    fmt::Write as _,
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

/// What the names of files begin with that are not whole, and of their journals.
pub const RESERVED: &str = ".pcp-";

/// Bytes that are left free on a disk.
pub(super) const SPARE: u64 = 16 << 20;

/// Most bytes of what follows the last dot and counts as an extension.
const EXTENSION_MAX: usize = 32;

/// Bytes that are compared at a time.
const COMPARED: usize = 64 * 1024;

/// Names that are tried when one is taken.
const NAMES_MAX: u32 = 10_000;

/// A folder that is open. Names are looked up in it, and no link is followed, so that nothing leads out of it, also when
/// somebody puts links there meanwhile.
#[derive(Debug)]
pub struct Folder {
    fd: OwnedFd,
    path: PathBuf,
    takes_hidden: bool,
}

/// What is known of a file in a [`Folder`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Bytes.
    pub size: u64,
    /// When it was changed last: seconds after the beginning of 1970, and nanoseconds.
    pub modified: (i64, u32),
    /// Who may do what with it: the nine bits of POSIX.
    pub mode: u16,
    /// Whether it is a regular file.
    pub is_file: bool,
    /// Whether it is a folder.
    pub is_folder: bool,
}

impl Folder {
    /// Opens a folder that a user has named; links on the way to it are the user's.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn open(path: &Path) -> Result<Self, DiskError> {
        let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd = fs::open(path, flags, Mode::empty()).map_err(at("open", path))?;
        Ok(Self {
            fd,
            path: path.to_owned(),
            takes_hidden: true,
        })
    }

    /// The same, which takes nothing from others whose name begins with a dot: where programs look for what steers them.
    pub fn without_hidden(self) -> Self {
        Self {
            takes_hidden: false,
            ..self
        }
    }

    /// Whether what comes from others may have this name here.
    ///
    /// # Errors
    /// [`DiskProblem::Hidden`].
    pub fn check_hidden(&self, name: &FileName) -> Result<(), DiskError> {
        match name.is_hidden() && !self.takes_hidden {
            true => {
                let path = self.path.join(name.as_str());
                Err(DiskError::new("receive", path, DiskProblem::Hidden))
            }
            false => Ok(()),
        }
    }

    /// Opens a folder that a user has named, and makes it if it is not there.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn create(path: &Path) -> Result<Self, DiskError> {
        std::fs::create_dir_all(path)
            .map_err(|error| DiskError::io("make the folder", path, &error))?;
        Self::open(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of this name in it.
    ///
    /// # Errors
    /// [`DiskError`]; [`DiskProblem::Link`] or [`DiskProblem::NotAFolder`] when the name leads elsewhere.
    pub fn enter(&self, name: &FileName) -> Result<Self, DiskError> {
        let path = self.path.join(name.as_str());
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::RDONLY;
        let fd =
            fs::openat(&self.fd, name.as_str(), flags, Mode::empty()).map_err(at("open", &path))?;
        Ok(Self {
            fd,
            path,
            takes_hidden: true,
        })
    }

    /// Makes a folder of this name in it, with as much of this mode as the user's mask lets through; one that is there already
    /// is as good, and stays as it is. Whether it is new.
    ///
    /// # Errors
    /// [`DiskError`]; when something else has the name, too.
    pub fn make_folder(&self, name: &FileName, mode: u16) -> Result<bool, DiskError> {
        let path = self.path.join(name.as_str());
        let mode = Mode::from_raw_mode(u32::from(mode & 0o777) as _);
        match fs::mkdirat(&self.fd, name.as_str(), mode) {
            Ok(()) => Ok(true),
            Err(Errno::EXIST) => match self.meta(name.as_str())? {
                Some(meta) if meta.is_folder => Ok(false),
                Some(_) | None => Err(DiskError::new("enter", path, DiskProblem::NotAFolder)),
            },
            Err(errno) => Err(at("make the folder", &path)(errno)),
        }
    }

    /// The folder in which something of a tree is; `None` for this one.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn parent_of(&self, path: &TreePath) -> Result<Option<Self>, DiskError> {
        let Some(parent) = path.parent() else {
            return Ok(None);
        };
        let mut folder: Option<Self> = None;
        for name in parent.names() {
            let name = FileName::of_path(name);
            folder = Some(folder.as_ref().unwrap_or(self).enter(&name)?);
        }
        Ok(folder)
    }

    /// What has this name; `None` when nothing has.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn meta(&self, name: &str) -> Result<Option<Meta>, DiskError> {
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => {
                let kind = FileType::from_raw_mode(stat.st_mode);
                Ok(Some(Meta {
                    size: u64::try_from(stat.st_size).unwrap_or_default(),
                    modified: (
                        stat.st_mtime as i64,
                        u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
                    ),
                    mode: (stat.st_mode & 0o777) as u16,
                    is_file: kind == FileType::RegularFile,
                    is_folder: kind == FileType::Directory,
                }))
            }
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(at("look at", &self.path.join(name))(errno)),
        }
    }

    /// Whether this name is the one of a file that is open.
    pub(super) fn has(&self, name: &str, file: &File) -> Result<bool, DiskError> {
        let path = self.path.join(name);
        let ours = fs::fstat(file).map_err(at("look at", &path))?;
        match fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(there) => Ok((there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(at("look at", &path)(errno)),
        }
    }

    /// Opens a regular file for reading.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn read(&self, name: &str) -> Result<File, DiskError> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let path = self.path.join(name);
        let fd = fs::openat(&self.fd, name, flags, Mode::empty()).map_err(at("open", &path))?;
        let stat = fs::fstat(&fd).map_err(at("look at", &path))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(DiskError::new("open", path, DiskProblem::NotAFile));
        }
        Ok(File::from(fd))
    }

    /// Opens a file for reading and writing, with whatever is in it.
    pub(super) fn open_or_create(&self, name: &str) -> Result<File, DiskError> {
        self.open_to_write(name, OFlags::empty(), Mode::from_raw_mode(0o666))
    }

    fn open_to_write(&self, name: &str, more: OFlags, mode: Mode) -> Result<File, DiskError> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC | more;
        let fd =
            fs::openat(&self.fd, name, flags, mode).map_err(at("create", &self.path.join(name)))?;
        Ok(File::from(fd))
    }

    /// Takes a file away; one that is not there is no error.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn remove(&self, name: &str) -> Result<(), DiskError> {
        match fs::unlinkat(&self.fd, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(at("remove", &self.path.join(name))(errno)),
        }
    }

    /// Gives a file another name, in one step, in the place of whatever has it.
    pub(super) fn replace(&self, from: &str, to: &FileName) -> Result<(), DiskError> {
        fs::renameat(&self.fd, from, &self.fd, to.as_str())
            .map_err(at("rename to", &self.path.join(to.as_str())))
    }

    /// Gives a file another name, in one step, if nothing has that; whether it was so.
    pub(super) fn settle(&self, from: &str, to: &FileName) -> Result<bool, DiskError> {
        let path = self.path.join(to.as_str());
        #[cfg(any(target_os = "linux", target_os = "macos"))]
        match fs::renameat_with(
            &self.fd,
            from,
            &self.fd,
            to.as_str(),
            fs::RenameFlags::NOREPLACE,
        ) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            // Not every file system knows it.
            Err(Errno::INVAL | Errno::NOSYS | Errno::NOTSUP) => {}
            Err(errno) => return Err(at("rename to", &path)(errno)),
        }
        match fs::linkat(&self.fd, from, &self.fd, to.as_str(), AtFlags::empty()) {
            Ok(()) => {
                self.remove(from)?;
                return Ok(true);
            }
            Err(Errno::EXIST) => return Ok(false),
            // Nor hard links.
            Err(Errno::PERM | Errno::OPNOTSUPP | Errno::MLINK) => {}
            Err(errno) => return Err(at("rename to", &path)(errno)),
        }
        if self.meta(to.as_str())?.is_some() {
            return Ok(false);
        }
        self.replace(from, to)?;
        Ok(true)
    }

    /// Gives a file that is whole, and open, its name, or one beside it that nothing has: `photo (1).jpg`. The name it got.
    ///
    /// Where its name `was_free` when it was begun, another may have received the same file at the same time. That one is
    /// enough then.
    ///
    /// # Errors
    /// [`DiskError`].
    pub(super) fn settle_as(
        &self,
        (from, file): (&str, &File),
        to: &FileName,
        existing: Existing,
        was_free: bool,
    ) -> Result<FileName, DiskError> {
        if existing == Existing::Overwrite {
            self.replace(from, to)?;
            return Ok(to.clone());
        }
        if self.settle(from, to)? {
            return Ok(to.clone());
        }
        if was_free && self.is_same(to, file) {
            self.remove(from)?;
            return Ok(to.clone());
        }
        for number in 1..NAMES_MAX {
            let other = beside(to, number);
            if self.settle(from, &other)? {
                return Ok(other);
            }
        }
        let path = self.path.join(to.as_str());
        Err(DiskError::new(
            "find a free name for",
            path,
            DiskProblem::Exists,
        ))
    }

    /// Whether there is a file of this name with the same bytes. What cannot be read is another.
    fn is_same(&self, name: &FileName, file: &File) -> bool {
        let same = self
            .read(name.as_str())
            .ok()
            .map(|other| same_bytes(&other, file));
        same.is_some_and(|same| same.unwrap_or(false))
    }

    /// Waits until its names are on the disk.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn sync(&self) -> Result<(), DiskError> {
        match fs::fsync(&self.fd) {
            // Some file systems do not know it of folders.
            Ok(()) | Err(Errno::INVAL | Errno::BADF | Errno::ROFS) => Ok(()),
            Err(errno) => Err(at("write", &self.path)(errno)),
        }
    }

    /// Waits until everything that was written is on the disk: one barrier for many small files.
    pub(super) fn barrier(&self) -> Result<(), DiskError> {
        #[cfg(target_os = "linux")]
        let done = fs::syncfs(&self.fd);
        #[cfg(not(target_os = "linux"))]
        let done: Result<(), Errno> = {
            fs::sync();
            Ok(())
        };
        done.map_err(at("write", &self.path))
    }

    /// How many bytes can be written; `None` where the system does not say.
    pub fn room(&self) -> Option<u64> {
        let room = fs::fstatvfs(&self.fd).ok()?;
        room.f_frsize.checked_mul(room.f_bavail)
    }

    /// Whether so many bytes can be written, of so many in all, and something is left: as much as all of it, and 16 MiB at most.
    /// Where the system does not say, they can.
    pub(crate) fn has_room(&self, bytes: u64, all: u64) -> bool {
        let needed = bytes.saturating_add(SPARE.min(all));
        self.room().is_none_or(|room| needed <= room)
    }

    /// Sets mode and time of a folder in it.
    pub(super) fn dress(&self, mode: u16, modified: Option<(i64, u32)>) -> Result<(), DiskError> {
        fs::fchmod(&self.fd, Mode::from_raw_mode(u32::from(mode & 0o777) as _))
            .map_err(at("set the mode of", &self.path))?;
        set_time(&self.fd, modified).map_err(at("set the time of", &self.path))
    }
}

fn same_bytes(one: &File, other: &File) -> io::Result<bool> {
    if one.metadata()?.len() != other.metadata()?.len() {
        return Ok(false);
    }
    let (mut ours, mut theirs) = (vec![0; COMPARED], vec![0; COMPARED]);
    let mut at = 0;
    loop {
        let count = one.read_at(&mut ours, at)?;
        if count == 0 {
            return Ok(true);
        }
        other.read_exact_at(&mut theirs[..count], at)?;
        if ours[..count] != theirs[..count] {
            return Ok(false);
        }
        at += count as u64;
    }
}

/// Sets when a file was changed last.
pub(super) fn set_time(
    file: impl rustix::fd::AsFd,
    modified: Option<(i64, u32)>,
) -> Result<(), Errno> {
    let Some((seconds, nanoseconds)) = modified else {
        return Ok(());
    };
    let time = Timespec {
        tv_sec: seconds as _,
        tv_nsec: nanoseconds as _,
    };
    let times = Timestamps {
        last_access: time,
        last_modification: time,
    };
    fs::futimens(file, &times)
}

/// A name for what is not whole: always short enough, and the same for the same file.
pub(super) fn temporary(name: &str, kind: &str) -> String {
    format!("{}.{kind}", reserved(name))
}

/// The same for what is received beside another of its name, by its number.
pub(super) fn beside_of(name: &str, number: u32) -> String {
    format!("{}-{number}.part", reserved(name))
}

fn reserved(name: &str) -> String {
    let digest = Sha256::digest(name.as_bytes());
    let mut text = RESERVED.to_owned();
    for byte in &digest[..10] {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// Another name for a file whose own is taken: the number in front of the last extension.
fn beside(name: &FileName, number: u32) -> FileName {
    let name = name.as_str();
    let (stem, extension) = match name.rfind('.') {
        Some(at) if at > 0 && name.len() - at <= EXTENSION_MAX => name.split_at(at),
        Some(_) | None => (name, ""),
    };
    let mark = format!(" ({number})");
    let room = crate::NAME_BYTES_MAX.saturating_sub(mark.len() + extension.len());
    let mut cut = stem.len().min(room);
    while !stem.is_char_boundary(cut) {
        cut -= 1;
    }
    let stem = stem[..cut].trim_end();
    FileName::of_path(&format!("{stem}{mark}{extension}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sanitize_name;

    #[test]
    fn a_name_beside_another_is_one() {
        for (name, other) in [
            ("a.txt", "a (1).txt"),
            ("a", "a (1)"),
            (".profile", ".profile (1)"),
            ("a.tar.gz", "a.tar (1).gz"),
        ] {
            assert_eq!(beside(&FileName::of_path(name), 1).as_str(), other);
        }
        let long = "ü".repeat(127);
        let other = beside(&FileName::of_path(&long), 9_999);
        assert!(sanitize_name(other.as_str()).is_ok(), "{other}");
        let extension = format!("a.{}", "x".repeat(253));
        let other = beside(&FileName::of_path(&extension), 9_999);
        assert!(sanitize_name(other.as_str()).is_ok(), "{other}");
    }

    #[test]
    fn temporary_names_differ_and_are_short() {
        let names = ["a", "b", &"x".repeat(255)].map(|name| temporary(name, "part"));
        assert!(names[0] != names[1] && names[2].len() < 64);
        assert!(names.iter().all(|name| name.starts_with(RESERVED)));
    }
}
