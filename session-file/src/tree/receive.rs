//! The side that receives a tree.

use super::{EntryKind, TreeEntry, TreeError, TreeLimits, frame::Frame, path::Names, send::sha256};
use crate::{HashAlgorithm, Hasher};
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};

/// Receives a tree: is told its entries, says which files it wants, and gets their bytes.
///
/// It does no I/O: what comes out of the transfer's stream goes to [`handle`](Self::handle), what
/// [`poll_output`](Self::poll_output) gives goes into it. Paths that it gives out stay in the tree, have their folders
/// before them, and collide with no other on any system.
#[derive(Debug)]
pub struct TreeReceiver {
    limits: TreeLimits,
    names: Names,
    entries: u64,
    bytes: u64,
    ended: bool,
    finished: bool,
    open: BTreeMap<u64, Incoming>,
    events: VecDeque<TreeEvent>,
    input: BytesMut,
    output: BytesMut,
}

#[derive(Debug)]
struct Incoming {
    size: u64,
    /// Of the file from its beginning, once it is wanted.
    hasher: Option<Hasher>,
}

/// What a [`TreeReceiver`] tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TreeEvent {
    /// The next entry. A file waits for [`TreeReceiver::want`], [`TreeReceiver::skip`] or [`TreeReceiver::refuse`].
    Entry {
        /// Its number.
        file: u64,
        /// What it is.
        entry: TreeEntry,
    },
    /// The next bytes of a wanted file.
    Data {
        /// Its number.
        file: u64,
        /// The bytes.
        bytes: Bytes,
    },
    /// A wanted file is whole, and has the hash that its sender named.
    Whole {
        /// Its number.
        file: u64,
    },
    /// A wanted file has every byte, and not the hash that its sender named: it is to be thrown away.
    Damaged {
        /// Its number.
        file: u64,
    },
    /// A wanted file is not there any more at its sender.
    Gone {
        /// Its number.
        file: u64,
    },
    /// Everything was said.
    Finished,
}

impl TreeReceiver {
    /// A receiver of a tree of which nothing was heard yet.
    pub fn new(limits: TreeLimits) -> Self {
        Self {
            limits,
            names: Names::default(),
            entries: 0,
            bytes: 0,
            ended: false,
            finished: false,
            open: BTreeMap::new(),
            events: VecDeque::new(),
            input: BytesMut::new(),
            output: BytesMut::new(),
        }
    }

    /// Bytes of the sender. What they mean is in [`poll_event`](Self::poll_event), to be taken before more is given.
    ///
    /// # Errors
    /// [`TreeError`]: the transfer cannot go on.
    pub fn handle(&mut self, bytes: &[u8]) -> Result<(), TreeError> {
        self.input.extend_from_slice(bytes);
        while let Some(frame) = Frame::read(&mut self.input)? {
            if self.finished {
                return Err(TreeError::OutOfOrder("something after the end"));
            }
            self.take(frame)?;
        }
        Ok(())
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<TreeEvent> {
        self.events.pop_front()
    }

    /// A file is wanted, all of it, or what follows what `prefix` (of SHA-256) has seen, which is here already.
    ///
    /// # Errors
    /// [`TreeError::Unknown`] when it does not wait for a decision, [`TreeError::Size`] when it has not so many bytes.
    pub fn want(&mut self, file: u64, prefix: Option<Hasher>) -> Result<(), TreeError> {
        let incoming = self
            .open
            .get_mut(&file)
            .filter(|incoming| incoming.hasher.is_none());
        let incoming = incoming.ok_or(TreeError::Unknown(file))?;
        let hasher = prefix.unwrap_or_else(|| Hasher::new([HashAlgorithm::Sha256]));
        if hasher.length() > incoming.size || sha256(&hasher).is_none() {
            return Err(TreeError::Size(file));
        }
        Frame::Want(file, hasher.length()).write(&mut self.output);
        incoming.hasher = Some(hasher);
        Ok(())
    }

    /// A file is here already.
    ///
    /// # Errors
    /// [`TreeError::Unknown`] when it does not wait for a decision.
    pub fn skip(&mut self, file: u64) -> Result<(), TreeError> {
        self.decide(file)?;
        Frame::Skip(file).write(&mut self.output);
        Ok(())
    }

    /// A file is not taken: another has its name, for example. Its sender is told so.
    ///
    /// # Errors
    /// [`TreeError::Unknown`] when it does not wait for a decision.
    pub fn refuse(&mut self, file: u64) -> Result<(), TreeError> {
        self.decide(file)?;
        Frame::Refuse(file).write(&mut self.output);
        Ok(())
    }

    /// A file that waits for a decision is not wanted.
    fn decide(&mut self, file: u64) -> Result<(), TreeError> {
        if self
            .open
            .get(&file)
            .is_none_or(|incoming| incoming.hasher.is_some())
        {
            return Err(TreeError::Unknown(file));
        }
        self.open.remove(&file);
        Ok(())
    }

    /// The next bytes for the stream, at most `max`.
    pub fn poll_output(&mut self, max: usize) -> Option<Bytes> {
        let count = self.output.len().min(max);
        (count > 0).then(|| self.output.split_to(count).freeze())
    }

    /// Whether everything was said: a stream that ends before is not whole.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    fn take(&mut self, frame: Frame) -> Result<(), TreeError> {
        match frame {
            Frame::Entry(entry) => self.take_entry(entry),
            Frame::End if !self.ended => {
                self.ended = true;
                Ok(())
            }
            Frame::Data(file, bytes) => {
                let (size, hasher) = self.wanted(file)?;
                if bytes.len() as u64 > size - hasher.length() {
                    return Err(TreeError::Size(file));
                }
                hasher.update(&bytes);
                self.events.push_back(TreeEvent::Data { file, bytes });
                Ok(())
            }
            Frame::Done(file, hash) => {
                let (size, hasher) = self.wanted(file)?;
                if hasher.length() != size {
                    return Err(TreeError::Size(file));
                }
                let event = match sha256(hasher) == Some(hash) {
                    true => TreeEvent::Whole { file },
                    false => TreeEvent::Damaged { file },
                };
                self.open.remove(&file);
                self.events.push_back(event);
                Ok(())
            }
            Frame::Gone(file) => {
                self.wanted(file)?;
                self.open.remove(&file);
                self.events.push_back(TreeEvent::Gone { file });
                Ok(())
            }
            Frame::Finished if self.ended && self.open.is_empty() => {
                self.finished = true;
                self.events.push_back(TreeEvent::Finished);
                Ok(())
            }
            Frame::Finished => Err(TreeError::OutOfOrder("the end before all files")),
            Frame::End => Err(TreeError::OutOfOrder("a second end of the entries")),
            Frame::Want(..) | Frame::Skip(_) | Frame::Refuse(_) => {
                Err(TreeError::OutOfOrder("a sender does not send this"))
            }
        }
    }

    fn take_entry(&mut self, entry: TreeEntry) -> Result<(), TreeError> {
        if self.ended {
            return Err(TreeError::OutOfOrder("an entry after the last"));
        }
        super::within("entries", self.entries + 1, self.limits.entries)?;
        if let EntryKind::File { size, .. } = &entry.kind {
            let bytes = self.bytes.saturating_add(*size);
            super::within("bytes", bytes, self.limits.bytes)?;
            super::within(
                "ahead",
                self.open.len() as u64 + 1,
                self.limits.ahead as u64,
            )?;
            self.bytes = bytes;
        }
        self.names.add(&entry)?;
        let file = self.entries;
        self.entries += 1;
        if let EntryKind::File { size, .. } = &entry.kind {
            self.open.insert(
                file,
                Incoming {
                    size: *size,
                    hasher: None,
                },
            );
        }
        self.events.push_back(TreeEvent::Entry { file, entry });
        Ok(())
    }

    fn wanted(&mut self, file: u64) -> Result<(u64, &mut Hasher), TreeError> {
        let incoming = self.open.get_mut(&file).ok_or(TreeError::Unknown(file))?;
        let size = incoming.size;
        let hasher = incoming.hasher.as_mut().ok_or(TreeError::Unknown(file))?;
        Ok((size, hasher))
    }
}
