//! The side that sends a tree.

use super::{
    EntryKind, TreeEntry, TreeError, TreeLimits,
    frame::{DATA_MAX, Frame},
    path::Names,
};
use crate::{Hash, HashAlgorithm, Hasher};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// Sends a tree: names entries, learns which files are wanted, and gives them out one after another.
///
/// It does no I/O: what [`poll_output`](Self::poll_output) gives goes into the transfer's stream, what comes out of that goes
/// to [`handle`](Self::handle). Entries are added while there is [`room`](Self::room), which there is again as files are
/// done, so that a tree of any size takes little memory.
#[derive(Debug)]
pub struct TreeSender {
    limits: TreeLimits,
    names: Names,
    entries: u64,
    bytes: u64,
    ended: bool,
    finished: bool,
    /// Files that were named and are not done: their sizes.
    open: BTreeMap<u64, u64>,
    wanted: VecDeque<Demand>,
    current: Option<Current>,
    input: BytesMut,
    output: BytesMut,
    skipped: u64,
    sent: u64,
    /// Bytes of what was skipped or refused.
    declined: u64,
    refused: VecDeque<u64>,
}

/// A file that the receiver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demand {
    /// Which: what [`TreeSender::push`] returned.
    pub file: u64,
    /// From which byte on.
    pub offset: u64,
}

#[derive(Debug)]
struct Current {
    file: u64,
    size: u64,
    hasher: Hasher,
    /// The receiver has all of it, and only compares.
    there: bool,
}

impl TreeSender {
    /// A sender of a tree of which nothing was named yet.
    pub fn new(limits: TreeLimits) -> Self {
        Self {
            limits,
            names: Names::default(),
            entries: 0,
            bytes: 0,
            ended: false,
            finished: false,
            open: BTreeMap::new(),
            wanted: VecDeque::new(),
            current: None,
            input: BytesMut::new(),
            output: BytesMut::new(),
            skipped: 0,
            sent: 0,
            declined: 0,
            refused: VecDeque::new(),
        }
    }

    /// How many entries can be named now.
    pub fn room(&self) -> usize {
        if self.ended {
            return 0;
        }
        self.limits.ahead.saturating_sub(self.open.len())
    }

    /// Names an entry, and returns its number. A folder comes before what is in it.
    ///
    /// # Errors
    /// [`TreeError`]; nothing has changed. [`TreeError::OutOfOrder`] when there is no room.
    pub fn push(&mut self, entry: &TreeEntry) -> Result<u64, TreeError> {
        if self.room() == 0 {
            return Err(TreeError::OutOfOrder("no room for an entry"));
        }
        let size = match &entry.kind {
            EntryKind::Folder => 0,
            EntryKind::File { size, hash } => {
                if hash
                    .as_ref()
                    .is_some_and(|h| h.algorithm() != Some(HashAlgorithm::Sha256))
                {
                    return Err(TreeError::Malformed {
                        field: "hash",
                        problem: "not a SHA-256",
                    });
                }
                *size
            }
        };
        let bytes = self.bytes.saturating_add(size);
        super::within("entries", self.entries + 1, self.limits.entries)?;
        super::within("bytes", bytes, self.limits.bytes)?;
        self.names.add(entry)?;
        let number = self.entries;
        self.entries += 1;
        self.bytes = bytes;
        if entry.kind != EntryKind::Folder {
            self.open.insert(number, size);
        }
        Frame::Entry(entry.clone()).write(&mut self.output);
        Ok(number)
    }

    /// There are no more entries.
    pub fn end(&mut self) {
        if !self.ended {
            self.ended = true;
            Frame::End.write(&mut self.output);
            self.finish();
        }
    }

    /// Bytes of the receiver.
    ///
    /// # Errors
    /// [`TreeError`]: the transfer cannot go on.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.input.extend_from_slice(bytes);
        while let Some(frame) = Frame::read(&mut self.input)? {
            match frame {
                Frame::Want(file, offset) => {
                    let size = *self.open.get(&file).ok_or(TreeError::Unknown(file))?;
                    let asked = self.wanted.iter().any(|demand| demand.file == file)
                        || self
                            .current
                            .as_ref()
                            .is_some_and(|current| current.file == file);
                    if asked {
                        return Err(TreeError::Unknown(file));
                    }
                    if offset > size {
                        return Err(TreeError::Size(file));
                    }
                    self.wanted.push_back(Demand { file, offset });
                }
                Frame::Skip(file) => {
                    self.unwanted(file)?;
                    self.skipped += 1;
                }
                Frame::Refuse(file) => {
                    self.unwanted(file)?;
                    self.refused.push_back(file);
                }
                Frame::Entry(_)
                | Frame::End
                | Frame::Data(..)
                | Frame::Done(..)
                | Frame::Gone(_)
                | Frame::Finished => {
                    return Err(TreeError::OutOfOrder("a receiver does not send this"));
                }
            }
        }
        Ok(())
    }

    /// A file that was named is not to be sent.
    fn unwanted(&mut self, file: u64) -> Result<(), TreeError> {
        let asked = self.wanted.iter().any(|demand| demand.file == file);
        let size = if asked { None } else { self.open.remove(&file) };
        self.declined += size.ok_or(TreeError::Unknown(file))?;
        self.finish();
        Ok(())
    }

    /// A file that the receiver does not take, as another has its name there. To be looked at after each
    /// [`handle`](Self::handle).
    pub fn poll_refused(&mut self) -> Option<u64> {
        self.refused.pop_front()
    }

    /// The file to send now. It stays the same until its last byte was given, or it is [`gone`](Self::gone).
    pub fn demand(&self) -> Option<Demand> {
        match &self.current {
            Some(current) => Some(Demand {
                file: current.file,
                offset: current.hasher.length(),
            }),
            None => self.wanted.front().copied(),
        }
    }

    /// Whether a file that was named is not done: sent, skipped or gone.
    pub fn is_open(&self, file: u64) -> bool {
        self.open.contains_key(&file)
    }

    /// The size under which a file that is not done was named.
    pub fn size(&self, file: u64) -> Option<u64> {
        self.open.get(&file).copied()
    }

    /// Begins the file that is asked for. `prefix` is the hasher (of SHA-256) of what is in front of its offset; an empty one
    /// for a file that is sent from its beginning. A file without bytes is done with it.
    ///
    /// # Errors
    /// [`TreeError::OutOfOrder`] when none is asked for or one is begun, [`TreeError::Size`] when the hasher has seen another
    /// number of bytes.
    pub fn begin(&mut self, prefix: Option<Hasher>) -> Result<(), TreeError> {
        let Some(demand) = self
            .wanted
            .front()
            .copied()
            .filter(|_| self.current.is_none())
        else {
            return Err(TreeError::OutOfOrder("no file is asked for"));
        };
        let hasher = prefix.unwrap_or_else(|| Hasher::new([HashAlgorithm::Sha256]));
        if hasher.length() != demand.offset || sha256(&hasher).is_none() {
            return Err(TreeError::Size(demand.file));
        }
        let size = self.open.get(&demand.file).copied().unwrap_or_default();
        self.wanted.pop_front();
        self.current = Some(Current {
            file: demand.file,
            size,
            hasher,
            there: size > 0 && demand.offset == size,
        });
        self.conclude();
        Ok(())
    }

    /// The next bytes of the file that was begun.
    ///
    /// # Errors
    /// [`TreeError::OutOfOrder`] when none was begun, [`TreeError::Size`] when the file has not so many.
    pub fn data(&mut self, bytes: &Bytes) -> Result<(), TreeError> {
        let Some(current) = &mut self.current else {
            return Err(TreeError::OutOfOrder("no file was begun"));
        };
        if bytes.len() as u64 > current.size - current.hasher.length() {
            return Err(TreeError::Size(current.file));
        }
        current.hasher.update(bytes);
        let file = current.file;
        let mut rest = bytes.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(DATA_MAX));
            Frame::Data(file, piece).write(&mut self.output);
        }
        self.conclude();
        Ok(())
    }

    /// The file that is asked for is not there any more, or is shorter than it was.
    ///
    /// # Errors
    /// [`TreeError::OutOfOrder`] when none is asked for.
    pub fn gone(&mut self) -> Result<(), TreeError> {
        let current = self.current.take().map(|current| current.file);
        let file = current.or_else(|| self.wanted.pop_front().map(|demand| demand.file));
        let file = file.ok_or(TreeError::OutOfOrder("no file is asked for"))?;
        self.open.remove(&file);
        Frame::Gone(file).write(&mut self.output);
        self.finish();
        Ok(())
    }

    /// The next bytes for the stream, at most `max`.
    pub fn poll_output(&mut self, max: usize) -> Option<Bytes> {
        let count = self.output.len().min(max);
        (count > 0).then(|| self.output.split_to(count).freeze())
    }

    /// How many bytes wait for the stream. Whoever adds data looks at it first.
    pub fn waiting(&self) -> usize {
        self.output.len()
    }

    /// Whether everything was said: what waits is the last.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// How many files the receiver had already, and how many were sent.
    pub fn counts(&self) -> (u64, u64) {
        (self.skipped, self.sent)
    }

    /// How many bytes the files have that the receiver does not take: it has them already, or another file has their name.
    pub fn declined(&self) -> u64 {
        self.declined
    }

    fn conclude(&mut self) {
        let whole = |current: &&Current| current.hasher.length() == current.size;
        let Some(current) = self.current.as_ref().filter(whole) else {
            return;
        };
        if let Some(hash) = sha256(&current.hasher) {
            Frame::Done(current.file, hash).write(&mut self.output);
        }
        self.open.remove(&current.file);
        match current.there {
            true => self.skipped += 1,
            false => self.sent += 1,
        }
        self.current = None;
        self.finish();
    }

    fn finish(&mut self) {
        if self.ended && self.open.is_empty() && !self.finished {
            self.finished = true;
            Frame::Finished.write(&mut self.output);
        }
    }
}

pub(super) fn sha256(hasher: &Hasher) -> Option<Hash> {
    hasher
        .hashes()
        .into_iter()
        .find(|hash| hash.algorithm() == Some(HashAlgorithm::Sha256))
}
