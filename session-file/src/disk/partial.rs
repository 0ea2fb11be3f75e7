//! [`Partial`]: a file that is not whole yet.

use super::{
    DiskError, DiskProblem, Existing, Folder,
    error::at,
    folder::{RESERVED, beside_of, set_time, temporary},
};
use crate::{
    File, FileName, Hash, HashAlgorithm, Hasher, Journal, JournalState, ResumeToken, resume::can_be,
};
use bytes::Bytes;
use rustix::{
    fs::{self, FlockOperation, Mode},
    io::Errno,
};
use std::{
    fs::File as Handle,
    io::{self, IoSlice, Read as _, Seek as _, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a file is written at most until what is there is put down in its journal.
pub const JOURNAL_EVERY: Duration = Duration::from_secs(2);

/// The same in bytes.
pub const JOURNAL_EVERY_BYTES: u64 = 64 << 20;

/// Most bytes that are read of a journal.
const JOURNAL_MAX: u64 = 16 << 20;

/// Bytes that are read at once of what is there.
const READ_BYTES: usize = 1 << 20;

/// Pieces that are written at once.
const SLICES: usize = 512;

/// How often a part is opened that others are done with just then.
const OPENED_MAX: u32 = 100;

/// Files of one name that are received at the same time, beside the first.
const BESIDE_MAX: u32 = 64;

/// So often it is looked whether there is room for a file whose size nobody has said, in bytes of it.
const ROOM_EVERY: u64 = 8 << 20;

/// So many zeros in a row are not written, and leave a hole.
const HOLE: usize = 64 * 1024;

/// A file that is not whole yet, under a temporary name, with its journal. Nobody else writes to it meanwhile.
///
/// Dropped, it stays for another time. It is [`keep`](Self::keep)-t when it is whole, or [`discard`](Self::discard)-ed.
#[derive(Debug)]
pub struct Partial {
    folder: Arc<Folder>,
    name: FileName,
    part: String,
    file: Handle,
    journal: Journal,
    /// What is on the disk of that, and its name; `None` where nobody would look for it.
    paper: Option<(String, Handle)>,
    /// Nothing had its name when it was begun.
    was_free: bool,
    /// What it was when it was read.
    mark: Option<Mark>,
    hasher: Hasher,
    size: Option<u64>,
    /// Up to where there was room when that was looked at.
    roomy: u64,
    noted: u64,
    noted_at: Instant,
    mode: Option<u16>,
    modified: Option<(i64, u32)>,
}

/// Which file a part was, how many bytes it had, and when anything was done to it last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mark {
    id: (u64, u64),
    size: u64,
    changed: (i64, i64),
}

/// A file that was whole and has its name now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// Its name, which may be another than was wanted.
    pub name: FileName,
    /// Bytes.
    pub bytes: u64,
    /// Its SHA-256.
    pub hash: Option<Hash>,
}

impl Partial {
    /// Opens what is there of a file that was interrupted, as far as it is what the journal says and what is offered, or
    /// begins with nothing. What is there is read and hashed, which takes its time. With `fresh` it begins with nothing in
    /// any case.
    ///
    /// # Errors
    /// [`DiskError`]; [`DiskProblem::Exists`] when somebody else receives it right now.
    pub fn open(
        folder: &Arc<Folder>,
        name: &FileName,
        file: &File,
        fresh: bool,
    ) -> Result<Self, DiskError> {
        let mut partial = Self::bare(folder, name, file)?;
        let known = match fresh {
            true => None,
            false => partial.known(Some(file))?,
        };
        if let Some((token, hasher)) = known {
            partial.hasher = hasher;
            partial.noted = token.offset;
        }
        partial.begin(file)?;
        Ok(partial)
    }

    /// Begins with nothing, while somebody else receives a file of this name: under a temporary name of its own, and without a
    /// journal, as nobody would look for that. Of the two, whoever is done last finds the name taken.
    ///
    /// # Errors
    /// [`DiskError`]; [`DiskProblem::Exists`] when too many are at it.
    pub fn beside(folder: &Arc<Folder>, name: &FileName, file: &File) -> Result<Self, DiskError> {
        let (part, handle) = open_beside(folder, name)?;
        let mut partial = Self::of(folder, name, file, part, handle, None)?;
        partial.begin(file)?;
        Ok(partial)
    }

    /// Opens what is there of a file that was interrupted, whichever it is; `None` when there is nothing to go on with. Nobody
    /// else goes on with it as long as this is kept.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn find(folder: &Arc<Folder>, name: &FileName) -> Result<Option<Self>, DiskError> {
        sweep(folder, name)?;
        if folder.meta(&temporary(name.as_str(), "journal"))?.is_none() {
            return Ok(None);
        }
        let mut partial = Self::bare(folder, name, &File::default())?;
        let Some((token, hasher)) = partial.known(None)? else {
            partial.discard()?;
            return Ok(None);
        };
        partial.noted = token.offset;
        partial.hasher = hasher;
        partial.journal = Journal::create(&token.file).0;
        Ok(Some(partial))
    }

    /// Whether what somebody receives under this name right now may be this file.
    pub(crate) fn is_perhaps(folder: &Folder, name: &FileName, file: &File) -> bool {
        let paper = folder.read(&temporary(name.as_str(), "journal"));
        let journal = paper.ok().and_then(|paper| read_journal(&paper).ok()?);
        journal.is_some_and(|journal| can_be(journal.file(), file))
    }

    /// The file of which it is a part, as far as its sender said what tells files apart.
    pub fn file(&self) -> &File {
        self.journal.file()
    }

    /// Goes on with what was [found](Self::find), as this file. Time has passed since, and programs that heed no lock could
    /// write to it: then it is read again.
    ///
    /// # Errors
    /// As [`open`](Self::open); [`DiskProblem::Changed`] when something else is there by now.
    pub fn go_on(&mut self, file: &File) -> Result<(), DiskError> {
        self.check()?;
        self.size = file.size;
        self.begin(file)
    }

    /// Begins anew in the place of what was [found](Self::find), with this file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn begin_anew(&mut self, file: &File) -> Result<(), DiskError> {
        (self.hasher, self.noted) = (Hasher::new(algorithms(file)), 0);
        self.size = file.size;
        self.begin(file)
    }

    /// Whether what is there is still what was read, for who goes on after some time.
    ///
    /// # Errors
    /// [`DiskProblem::Changed`] when it is not, or what the system says.
    pub(super) fn check(&mut self) -> Result<(), DiskError> {
        if self.mark == Some(self.look()?) {
            return Ok(());
        }
        let (before, offset) = (self.hasher.hashes(), self.offset());
        let algorithms: Vec<_> = before.iter().filter_map(Hash::algorithm).collect();
        let again = hash_front(&mut self.file, Hasher::new(algorithms), offset)
            .map_err(|error| self.fault("read", &error))?;
        if again.length() != offset || again.hashes() != before {
            return Err(DiskError::new(
                "go on with",
                self.path(),
                DiskProblem::Changed,
            ));
        }
        self.file
            .seek(SeekFrom::Start(self.offset()))
            .map_err(|error| self.fault("read", &error))?;
        Ok(())
    }

    /// What it is now.
    fn look(&self) -> Result<Mark, DiskError> {
        let stat = fs::fstat(&self.file).map_err(at("look at", &self.path()))?;
        Ok(Mark {
            id: (stat.st_dev as u64, stat.st_ino as u64),
            size: u64::try_from(stat.st_size).unwrap_or_default(),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
        })
    }

    /// The files, locked, and nothing known of them.
    fn bare(folder: &Arc<Folder>, name: &FileName, file: &File) -> Result<Self, DiskError> {
        let part = temporary(name.as_str(), "part");
        let handle = open_locked(folder, &part, name)?;
        let journal = temporary(name.as_str(), "journal");
        let paper = (journal.clone(), folder.open_or_create(&journal)?);
        Self::of(folder, name, file, part, handle, Some(paper))
    }

    fn of(
        folder: &Arc<Folder>,
        name: &FileName,
        file: &File,
        part: String,
        handle: Handle,
        paper: Option<(String, Handle)>,
    ) -> Result<Self, DiskError> {
        Ok(Self {
            was_free: folder.meta(name.as_str())?.is_none(),
            folder: folder.clone(),
            name: name.clone(),
            part,
            file: handle,
            journal: Journal::create(file).0,
            paper,
            mark: None,
            hasher: Hasher::new(algorithms(file)),
            size: file.size,
            roomy: 0,
            noted: 0,
            noted_at: now(),
            mode: None,
            modified: None,
        })
    }

    /// What the journal says, if it is about the offered file and what is there is what it says.
    fn known(
        &mut self,
        offered: Option<&File>,
    ) -> Result<Option<(ResumeToken, Hasher)>, DiskError> {
        let Some((_, journal)) = &self.paper else {
            return Ok(None);
        };
        let read = read_journal(journal).map_err(|error| self.fault("read", &error))?;
        let Some(journal) = read else {
            return Ok(None);
        };
        let token = match journal.state() {
            JournalState::Partial(token) => *token,
            JournalState::Whole { bytes, hash } => ResumeToken {
                file: journal.file().clone(),
                offset: bytes,
                prefix: hash,
            },
            JournalState::Nothing => return Ok(None),
        };
        if offered.is_some_and(|offered| !token.continues(offered)) {
            return Ok(None);
        }
        let offered = offered.unwrap_or(&token.file);
        let wanted = token.algorithms().into_iter().chain(algorithms(offered));
        let hasher = hash_front(&mut self.file, Hasher::new(wanted), token.offset)
            .map_err(|error| self.fault("read", &error))?;
        self.mark = Some(self.look()?);
        Ok(token.holds(&hasher).then_some((token, hasher)))
    }

    /// Cuts off what is not known, and writes the journal anew: what is behind a crash does not go on.
    fn begin(&mut self, file: &File) -> Result<(), DiskError> {
        let offset = self.hasher.length();
        let (mut journal, mut text) = Journal::create(file);
        if offset > 0
            && let Ok(line) = journal.advance(&self.hasher)
        {
            text.extend_from_slice(&line);
        }
        self.file
            .set_len(offset)
            .and_then(|()| self.file.seek(SeekFrom::Start(offset)))
            .map_err(|error| self.fault("write", &error))?;
        if let Some((_, paper)) = &mut self.paper {
            let written = paper
                .set_len(0)
                .and_then(|()| paper.seek(SeekFrom::Start(0)))
                .and_then(|_| paper.write_all(&text));
            written.map_err(|error| self.fault("write the journal of", &error))?;
        }
        self.journal = journal;
        self.mark = Some(self.look()?);
        Ok(())
    }

    /// Throws away what is there, which is known to be wrong.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn empty(&mut self) -> Result<(), DiskError> {
        self.folder.remove(&self.part)?;
        self.forget()
    }

    fn forget(&self) -> Result<(), DiskError> {
        match &self.paper {
            Some((name, _)) => self.folder.remove(name),
            None => Ok(()),
        }
    }

    /// How many bytes from its beginning are there.
    pub fn offset(&self) -> u64 {
        self.hasher.length()
    }

    /// The hasher of these.
    pub fn hasher(&self) -> &Hasher {
        &self.hasher
    }

    /// The name that it is to have.
    pub fn name(&self) -> &FileName {
        &self.name
    }

    /// Where it is to be.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join(self.name.as_str())
    }

    /// What mode and time it is to have.
    pub fn dress(&mut self, mode: Option<u16>, modified: Option<(i64, u32)>) {
        self.mode = mode;
        self.modified = modified;
    }

    /// The next bytes, in pieces.
    ///
    /// # Errors
    /// [`DiskError`]; what was there before is still there. [`DiskProblem::Full`] also where the size of the file is not known
    /// and it would leave no room to others: for one whose size is known that is seen before it begins.
    pub fn write(&mut self, pieces: &[Bytes]) -> Result<(), DiskError> {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let end = self.offset() + bytes as u64;
        if self.size.is_none() && end > self.roomy {
            let more = bytes as u64 + ROOM_EVERY;
            if !self.folder.has_room(more, end) {
                return Err(DiskError::new("write", self.path(), DiskProblem::Full));
            }
            self.roomy = self.offset() + more;
        }
        if bytes >= HOLE && pieces.iter().all(|piece| is_zero(piece)) {
            self.file
                .seek(SeekFrom::Current(bytes as i64))
                .map_err(|error| self.fault("write", &error))?;
        } else {
            write_pieces(&mut self.file, pieces).map_err(|error| self.fault("write", &error))?;
        }
        for piece in pieces {
            self.hasher.update(piece);
        }
        Ok(())
    }

    /// Puts down what is there when it is time for that.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn note_if_due(&mut self) -> Result<(), DiskError> {
        let new = self.offset() - self.noted;
        let late = now().saturating_duration_since(self.noted_at) >= JOURNAL_EVERY;
        if new >= JOURNAL_EVERY_BYTES || new > 0 && late {
            self.note()?;
        }
        Ok(())
    }

    /// Waits until everything that was written is on the disk, and puts that down.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn note(&mut self) -> Result<(), DiskError> {
        let offset = self.offset();
        // What ends with a hole has no end yet.
        self.file
            .set_len(offset)
            .map_err(|error| self.fault("write", &error))?;
        fs::fdatasync(&self.file).map_err(at("write", &self.path()))?;
        if let Ok(line) = self.journal.advance(&self.hasher) {
            self.append(&line)?;
            if let Some((_, paper)) = &self.paper {
                fs::fdatasync(paper).map_err(at("write", &self.path()))?;
            }
        }
        self.noted = offset;
        self.noted_at = now();
        Ok(())
    }

    /// Lets go of it for another time, when what is there is put down. Of what nothing could be put down nothing could go on
    /// either, so that it goes; as does what somebody else has received meanwhile.
    pub fn leave(mut self) {
        // Where there is no room for that, it goes on where it was put down last.
        let _ = self.note();
        if self.noted == 0 || self.paper.is_none() || self.is_there() {
            let _ = self.discard();
        }
    }

    /// Whether a file of its size has got its name since it was begun.
    fn is_there(&self) -> bool {
        let there = self.folder.meta(self.name.as_str()).ok().flatten();
        self.was_free && there.is_some_and(|there| Some(there.size) == self.size)
    }

    /// Takes away what others have left of a file of this name that has come beside it, and would never go on.
    fn clear(&self) -> Result<(), DiskError> {
        let part = temporary(self.name.as_str(), "part");
        if self.paper.is_some() || self.folder.meta(&part)?.is_none() {
            return Ok(());
        }
        match Self::bare(&self.folder, &self.name, &File::default()) {
            Ok(left) => left.discard(),
            Err(error) if error.problem == DiskProblem::Exists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives a file that is whole its own name, when it is on the disk.
    ///
    /// # Errors
    /// [`DiskError`]; [`DiskProblem::Changed`] when it is not what was announced. Then it stays what it was.
    pub fn keep(mut self, existing: Existing) -> Result<Kept, DiskError> {
        let bytes = self.offset();
        if self.size.is_some_and(|size| size != bytes) {
            return Err(DiskError::new("keep", self.path(), DiskProblem::Changed));
        }
        self.file
            .set_len(bytes)
            .map_err(|error| self.fault("write", &error))?;
        if let Some(mode) = self.mode {
            fs::fchmod(
                &self.file,
                Mode::from_raw_mode(u32::from(mode & 0o777) as _),
            )
            .map_err(at("set the mode of", &self.path()))?;
        }
        set_time(&self.file, self.modified).map_err(at("set the time of", &self.path()))?;
        fs::fsync(&self.file).map_err(at("write", &self.path()))?;
        let line = self.journal.complete(&self.hasher).map_err(|error| {
            DiskError::new("keep", self.path(), DiskProblem::Other(error.to_string()))
        })?;
        self.append(&line)?;
        let part = (&self.part[..], &self.file);
        let name = self
            .folder
            .settle_as(part, &self.name, existing, self.was_free)?;
        self.folder.sync()?;
        self.forget()?;
        self.clear()?;
        Ok(Kept {
            name,
            bytes,
            hash: sha256(&self.hasher),
        })
    }

    /// Takes it off the disk.
    ///
    /// # Errors
    /// [`DiskError`].
    pub fn discard(mut self) -> Result<(), DiskError> {
        self.empty()
    }

    /// Whether nothing had its name when somebody looked, before it was begun.
    pub(super) fn was_free(mut self, was_free: bool) -> Self {
        self.was_free = was_free;
        self
    }

    fn append(&mut self, line: &[u8]) -> Result<(), DiskError> {
        let Some((_, paper)) = &mut self.paper else {
            return Ok(());
        };
        let written = paper.write_all(line);
        written.map_err(|error| self.fault("write the journal of", &error))
    }

    fn fault(&self, what: &'static str, error: &io::Error) -> DiskError {
        DiskError::io(what, self.path(), error)
    }
}

/// What is hashed of a file: what its sender may name, and SHA-256 for its user.
pub(crate) fn algorithms(file: &File) -> impl Iterator<Item = HashAlgorithm> + use<> {
    let named = crate::transfer::algorithms(file);
    named.into_iter().chain([HashAlgorithm::Sha256])
}

/// The SHA-256 of what a hasher has seen.
pub(crate) fn sha256(hasher: &Hasher) -> Option<Hash> {
    let wanted = |hash: &Hash| hash.algorithm() == Some(HashAlgorithm::Sha256);
    hasher.hashes().into_iter().find(wanted)
}

/// Hashes so many bytes from the beginning of a file, or as many as it has.
pub(super) fn hash_front(file: &mut Handle, mut hasher: Hasher, bytes: u64) -> io::Result<Hasher> {
    if bytes == 0 {
        // A stream cannot be sought in, and needs not to be.
        return Ok(hasher);
    }
    file.seek(SeekFrom::Start(0))?;
    let mut buffer = vec![
        0;
        READ_BYTES
            .min(usize::try_from(bytes).unwrap_or(READ_BYTES))
            .max(1)
    ];
    while hasher.length() < bytes {
        let left = usize::try_from(bytes - hasher.length()).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        match file.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(hasher)
}

/// What a journal says; `None` when it is none.
fn read_journal(file: &Handle) -> io::Result<Option<Journal>> {
    let mut text = Vec::new();
    io::BufReader::new(file.take(JOURNAL_MAX)).read_to_end(&mut text)?;
    Ok(Journal::read(&text).ok())
}

/// Opens a file that is not whole, makes it if it is not there, and keeps others out of it as long as it is open. `name` is
/// the one that it is to have.
pub(super) fn open_locked(
    folder: &Folder,
    part: &str,
    name: &FileName,
) -> Result<Handle, DiskError> {
    let path = folder.path().join(name.as_str());
    if name.as_str().starts_with(RESERVED) {
        return Err(DiskError::new("receive", path, DiskProblem::Reserved));
    }
    for _ in 0..OPENED_MAX {
        let file = folder.open_or_create(part)?;
        lock(&file, &path)?;
        // Whoever had it may have given it its own name in between: then it is no part any more.
        if folder.has(part, &file)? {
            return Ok(file);
        }
    }
    Err(DiskError::new("receive", path, DiskProblem::Exists))
}

/// The same under the first temporary name that nobody has, beside the one where others look; with that name.
pub(super) fn open_beside(folder: &Folder, name: &FileName) -> Result<(String, Handle), DiskError> {
    for number in 1..=BESIDE_MAX {
        let part = beside_of(name.as_str(), number);
        match open_locked(folder, &part, name) {
            Ok(file) => return Ok((part, file)),
            Err(error) if error.problem == DiskProblem::Exists => {}
            Err(error) => return Err(error),
        }
    }
    let path = folder.path().join(name.as_str());
    Err(DiskError::new("receive", path, DiskProblem::Exists))
}

/// Takes away what a crash has left of files that were received [beside](open_beside) another.
pub(super) fn sweep(folder: &Folder, name: &FileName) -> Result<(), DiskError> {
    for number in 1..=BESIDE_MAX {
        let part = beside_of(name.as_str(), number);
        if folder.meta(&part)?.is_none() {
            return Ok(());
        }
        match open_locked(folder, &part, name) {
            Ok(_locked) => folder.remove(&part)?,
            Err(error) if error.problem == DiskProblem::Exists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps others out of a file, as long as it is open.
fn lock(file: &Handle, path: &Path) -> Result<(), DiskError> {
    match fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        // Where files cannot be locked nobody is kept out.
        Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK) => Ok(()),
        Err(Errno::WOULDBLOCK) => Err(DiskError::new("receive", path, DiskProblem::Exists)),
        Err(errno) => Err(at("lock", path)(errno)),
    }
}

/// Writes pieces with few calls.
pub(super) fn write_pieces(file: &mut impl Write, pieces: &[Bytes]) -> io::Result<()> {
    if let [piece] = pieces {
        return file.write_all(piece);
    }
    for some in pieces.chunks(SLICES) {
        let mut slices: Vec<IoSlice<'_>> = some.iter().map(|piece| IoSlice::new(piece)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            match file.write_vectored(left) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut left, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}

fn is_zero(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(64);
    chunks.all(|chunk| *chunk == [0; 64]) && chunks.remainder().iter().all(|&byte| byte == 0)
}

pub(super) fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Several that take turns at a file: none gets hold of what another has given its name.
    #[test]
    fn what_has_its_name_is_no_part_any_more() {
        let path = std::env::temp_dir().join(format!("pcp-part-{}", std::process::id()));
        let folder = Folder::create(&path).unwrap();
        let name = FileName::of_path("file");
        let work = || {
            for _ in 0..500 {
                let mut file = loop {
                    match open_locked(&folder, ".pcp-part", &name) {
                        Err(error) => assert_eq!(error.problem, DiskProblem::Exists),
                        Ok(file) => break file,
                    }
                };
                file.set_len(0).unwrap();
                file.write_all(b"whole").unwrap();
                folder.replace(".pcp-part", &name).unwrap();
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });
        assert_eq!(std::fs::read(path.join("file")).unwrap(), b"whole");
        std::fs::remove_dir_all(&path).unwrap();
    }
}
