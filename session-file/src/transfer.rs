//! One file on its way: its bytes, its hash, how far it is, and how it ended.

mod again;
mod blocks;
mod check;
mod ending;
mod outcome;
mod receiving;
#[cfg(feature = "jet")]
mod sealed;
#[cfg(not(feature = "jet"))]
#[path = "transfer/unsealed.rs"]
mod sealed;

pub(crate) use blocks::{block_bytes, mark, suitable};
#[cfg(any(feature = "cli", feature = "jet"))]
pub(crate) use check::algorithms;
pub(crate) use check::{Check, Judgement};
pub(crate) use outcome::reason_of;
pub use outcome::{Direction, Fault, Integrity, Outcome, TransferId};
pub(crate) use sealed::Sealed;

use crate::{
    Change, File, FileInfo, FileLimits, FileName, FileRange, Hash, Hasher, Phase, Progress,
    flow::Flow,
    moving::{self, Keep},
};
use bytes::Bytes;
use session_core::{Reason, Role, Secured, Session, Signal};
use std::{sync::Arc, time::Instant};

/// One file, seen from our side. It is there from the offer until [`FileClient::release`](crate::FileClient::release),
/// also when its session is gone.
#[derive(Debug)]
pub struct Transfer {
    file: File,
    direction: Direction,
    creator: Role,
    content: Arc<str>,
    phase: Phase,
    name: Option<FileName>,
    pub(crate) flow: Flow,
    limits: FileLimits,
    /// What is in front of the part, as far as our application knows it.
    prefix: Option<Hasher>,
    /// From where on we may begin at all; what our application asked for or offered.
    wanted: u64,
    check: Option<Check>,
    integrity: Option<Integrity>,
    /// When we stop waiting: for a hash that may follow, or for the word of a peer that has closed the stream.
    pub(crate) verdict_due: Option<Instant>,
    /// Until when the peer may say where to go on over another transport.
    pub(crate) move_due: Option<Instant>,
    /// Our application has read the end.
    acknowledged: bool,
    /// Both sides know the frames of trees: bytes flow both ways.
    duplex: bool,
    confirmed: bool,
    /// Our application hashes by itself.
    outside: bool,
    /// Our application can give the bytes again.
    gives_again: bool,
    /// It is to, and has not heard of it.
    rewound: bool,
    /// What encrypts its bytes within the stream, or decrypts them.
    sealed: Option<Sealed>,
    outcome: Option<Outcome>,
    pub(crate) secured: Option<Box<Secured>>,
    signal: Signal<Change>,
}

/// What outsiders may know.
impl Transfer {
    /// The file, as it is known by now: what was offered or asked for, and what the answer added.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// Which way it goes.
    pub fn direction(&self) -> Direction {
        self.direction
    }

    /// The content's name.
    pub fn content(&self) -> &Arc<str> {
        &self.content
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Under which name it is kept here: the one that was chosen on accepting, or the peer's if that is one.
    pub fn name(&self) -> Option<&FileName> {
        self.name.as_ref()
    }

    /// Where in the file the bytes of this transfer begin. A receiver has what is in front of that; a sender should show
    /// what it has there ([`FileClient::prime`](crate::FileClient::prime)).
    pub fn offset(&self) -> u64 {
        self.file.range.as_ref().map_or(0, |range| range.offset)
    }

    /// How many bytes this transfer has; `None` when that is not known.
    pub fn bytes(&self) -> Option<u64> {
        self.file.part_bytes()
    }

    /// How many bytes have come how far, of those that this transfer has.
    pub fn progress(&self) -> Progress {
        let stream = self.flow.progress();
        self.sealed
            .as_ref()
            .map_or(stream, |sealed| sealed.of_file(stream))
    }

    /// Whether its bytes are encrypted within the stream (XEP-0391), whatever carries that.
    pub fn is_encrypted(&self) -> bool {
        self.sealed.is_some()
    }

    /// How its bytes are encrypted within the stream; `None` when they are not.
    #[cfg(feature = "jet")]
    pub fn cipher(&self) -> Option<crate::JetCipher> {
        self.sealed.as_ref().map(Sealed::cipher)
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        match (self.phase, self.direction) {
            (_, Direction::Receive) if self.duplex && self.is_live() => self.flow.room(),
            (Phase::Ended, _) | (_, Direction::Receive) => 0,
            _ if self.rewound => 0,
            (_, Direction::Send) => {
                let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
                self.flow.room().min(left)
            }
        }
    }

    /// How many bytes can be read now.
    pub fn readable(&self) -> usize {
        self.flow.readable()
    }

    /// What is known of the hash of a file that arrived, once every byte has.
    pub fn integrity(&self) -> Option<Integrity> {
        self.integrity
    }

    /// The hashes of what passed by so far: of the whole file up to here where we know it from its beginning, else of
    /// this transfer's part.
    pub fn hashes(&self) -> Vec<Hash> {
        self.check.as_ref().map_or_else(Vec::new, Check::hashes)
    }

    /// How it ended, once it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// What protects its bytes on the path that they take now, or took last; `None` when nothing does there, or none has
    /// left yet. They may be encrypted within the stream beside that ([`is_encrypted`](Self::is_encrypted)).
    pub fn secured(&self) -> Option<&Secured> {
        self.secured.as_deref()
    }

    /// Why it failed, if it did.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.outcome {
            Some(Outcome::Failed(fault)) => Some(fault),
            Some(Outcome::Received(_) | Outcome::Sent { .. }) | None => None,
        }
    }

    /// Whether its stream carries the frames of a tree, because both sides know them. Then both write and both read.
    pub fn is_tree(&self) -> bool {
        self.duplex
    }

    /// Whether its bytes pass now as they are, and nothing protects them.
    pub(crate) fn is_bare(&self, session: &Session) -> bool {
        let bare = |channel| session.writable(channel) && session.secured(channel).is_none();
        self.sealed.is_none() && self.flow.channel.is_some_and(bare)
    }

    /// Whether our application has read the end of what was received.
    pub fn is_acknowledged(&self) -> bool {
        self.acknowledged
    }

    /// Announces what changes. A listener looks at the getters after each notice; it may miss steps, never the end.
    pub fn signal(&self) -> &Signal<Change> {
        &self.signal
    }
}

/// Its life.
impl Transfer {
    pub(crate) fn new(
        content: Arc<str>,
        creator: Role,
        direction: Direction,
        phase: Phase,
        file: File,
        limits: FileLimits,
    ) -> Self {
        Self {
            direction,
            creator,
            flow: Flow::new(
                (limits.send_bytes, limits.receive_bytes),
                Keep::FILE,
                Some(content.clone()),
            ),
            content,
            phase,
            name: None,
            limits,
            prefix: None,
            wanted: file.range.as_ref().map_or(0, |range| range.offset),
            file,
            check: None,
            integrity: None,
            verdict_due: None,
            move_due: None,
            acknowledged: false,
            duplex: false,
            confirmed: false,
            outside: false,
            gives_again: false,
            rewound: false,
            sealed: None,
            outcome: None,
            secured: None,
            signal: Signal::new(),
        }
    }

    pub(crate) fn set_name(&mut self, name: Option<FileName>) {
        self.name = name;
    }

    /// What our application has in front of the offset.
    pub(crate) fn set_prefix(&mut self, prefix: Option<Hasher>) {
        self.prefix = prefix;
    }

    /// Its bytes are encrypted within the stream. The hashes of blocks are not named then, which would tell whoever carries
    /// signalling of parts of the file; a tree is none, as its bytes flow both ways.
    #[cfg(feature = "jet")]
    pub(crate) fn set_sealed(&mut self, sealed: Sealed) {
        let other = |extra: &session_core::Element| {
            !extra.is(crate::OWN, "blocks") && !extra.is(crate::OWN, "tree")
        };
        self.file.extra.retain(other);
        self.sealed = Some(sealed);
    }

    pub(crate) fn set_file(&mut self, file: File) {
        self.file = file;
    }

    /// Both sides have agreed on it. `outside` leaves hashing to our application; `gives_again` says that it can give its
    /// bytes again.
    pub(crate) fn open(&mut self, outside: bool, gives_again: bool) {
        if self.phase == Phase::Ended {
            return;
        }
        self.phase = Phase::Open;
        let is_tree = crate::tree::mark(&self.file).is_some() && self.bytes().is_none();
        self.duplex = is_tree && self.sealed.is_none();
        // Who may have to compare what comes again hashes by himself.
        let compares = self.direction == Direction::Receive
            && self.bytes().is_some()
            && !moving::is_marked(&self.file);
        (self.outside, self.gives_again) = (outside && !compares, gives_again);
        self.check = Some(self.fresh_check());
        self.signal.emit(Change::Opened);
    }

    /// What a transfer begins with of which nothing has passed.
    fn fresh_check(&self) -> Check {
        let offset = self.offset();
        let prefix = self.prefix.clone();
        let prefix = prefix.filter(|prefix| prefix.length() == offset);
        let block = block_bytes(&self.file).filter(|_| self.sealed.is_none());
        let bytes = self.bytes();
        // A tree says the size of each of its files, and is bounded by that.
        let unsized_bytes = match self.duplex {
            true => u64::MAX,
            false => self.limits.unsized_bytes,
        };
        let check = match self.direction {
            Direction::Send => Check::sender(&self.file, prefix, bytes, block),
            Direction::Receive if self.duplex => Check::sender(&File::default(), None, None, None),
            Direction::Receive => Check::receiver(&self.file, prefix, bytes, unsized_bytes, block),
        };
        match self.outside {
            true => check.outside(),
            false => check,
        }
    }

    /// The peer's answer to what we offered or asked for.
    ///
    /// # Errors
    /// [`Fault::WrongRange`].
    pub(crate) fn answered(&mut self, answer: &File) -> Result<(), Fault> {
        let part = answer.range.clone();
        let offset = part.as_ref().map_or(0, |range| range.offset);
        match self.direction {
            Direction::Send => {
                let mark = |extra: &&session_core::Element| extra.is(crate::OWN, "prefix");
                self.file
                    .extra
                    .extend(answer.extra.iter().find(mark).cloned());
                let Some(range) = part.filter(|range| !range.is_whole()) else {
                    // One that repeats nothing of the part that we offered takes it as offered.
                    return Ok(());
                };
                let allowed = self.file.range.is_some();
                let end = range.end().unwrap_or(offset);
                if !allowed
                    || offset < self.wanted
                    || self.file.size.is_some_and(|size| end.max(offset) > size)
                {
                    return Err(Fault::WrongRange);
                }
                self.file.range = Some(FileRange {
                    hashes: Vec::new(),
                    ..range
                });
            }
            Direction::Receive => {
                // The beginning instead of what was asked for is an answer, too: the peer cannot do better.
                if offset != 0 && offset != self.wanted {
                    return Err(Fault::WrongRange);
                }
                let length = self.file.range.as_ref().and_then(|range| range.length);
                let mut file = answer.clone();
                if let (Some(range), Some(length)) = (&mut file.range, length)
                    && range.offset == self.wanted
                {
                    range.length = Some(range.length.map_or(length, |theirs| theirs.min(length)));
                }
                if file.hashes.is_empty() {
                    file.hashes.clone_from(&self.file.hashes);
                }
                if file.name.is_none() {
                    file.name.clone_from(&self.file.name);
                }
                self.file = file;
            }
        }
        Ok(())
    }

    /// Our own marks, for the hashes of blocks and for trees, count when both sides have set them.
    pub(crate) fn agree_on_marks(&mut self, answer: &File) {
        if block_bytes(answer) != block_bytes(&self.file) {
            self.file
                .extra
                .retain(|extra| !extra.is(crate::OWN, "blocks"));
        }
        if !moving::is_marked(answer) {
            self.file
                .extra
                .retain(|extra| !extra.is(crate::OWN, "moves"));
        }
        if crate::tree::mark(answer).is_none() {
            let others = |extra: &session_core::Element| !extra.is(crate::OWN, "tree");
            self.file.extra.retain(others);
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        self.phase != Phase::Ended
    }

    /// Our application has the file, or the peer's has, as far as we are told.
    pub(crate) fn is_settled(&self, lingered: bool) -> bool {
        if self.outcome.is_some() {
            return true;
        }
        match self.direction {
            Direction::Receive => self.acknowledged,
            Direction::Send => self.confirmed || lingered && self.flow.is_delivered(),
        }
    }

    /// Whether nothing is left for us to do but to wait for the peer's word.
    pub(crate) fn awaits_word(&self) -> bool {
        self.direction == Direction::Send && self.flow.is_delivered() && self.is_live()
    }

    pub(crate) fn is_confirmed(&self) -> bool {
        self.confirmed
    }
}

/// Sending.
impl Transfer {
    /// What our application has in front of the part that it sends.
    ///
    /// # Errors
    /// [`Fault::Changed`] when the receiver has something else there. `Ok(false)` when it is of no use.
    pub(crate) fn prime(&mut self, prefix: Hasher) -> Result<bool, Fault> {
        let claim = crate::resume::claim(&self.file).filter(|(bytes, _)| *bytes == prefix.length());
        if let Some((_, hashes)) = claim
            && let Some((_, false)) = crate::hash::compare(&prefix.hashes(), &hashes)
        {
            return Err(Fault::Changed);
        }
        self.prefix = Some(prefix.clone());
        Ok(self.check.as_mut().is_some_and(|check| check.prime(prefix)))
    }

    /// Most bytes that it has; `None` when that is not known.
    pub(crate) fn most(&self) -> Option<u64> {
        self.bytes().or_else(|| Some(self.sealed.as_ref()?.most()))
    }

    /// How many bytes may be written yet.
    fn left(&self) -> u64 {
        let written = self.progress().written;
        self.most()
            .map_or(u64::MAX, |most| most.saturating_sub(written))
    }

    /// Takes as much of `bytes` as there is room for. What is to be told to the peer by now comes with it.
    ///
    /// # Errors
    /// [`Fault::TooMuch`]: more than a key is for; nothing was taken.
    pub(crate) fn write(&mut self, bytes: &mut Bytes) -> Result<(usize, Vec<File>), Fault> {
        let mut front = bytes.clone();
        front.truncate(usize::try_from(self.left()).unwrap_or(usize::MAX));
        if front.len() > self.flow.room() {
            front.truncate(self.flow.room());
            self.flow.want_room();
        }
        let mut leaves = match &mut self.sealed {
            Some(sealed) => sealed.seal(front.clone())?,
            None => front.clone(),
        };
        let count = front.len();
        let _ = bytes.split_to(count);
        let mut told = Vec::new();
        if let Some(check) = self
            .check
            .as_mut()
            .filter(|_| self.direction == Direction::Send)
        {
            told = check.pass(&front);
        }
        self.flow.write(&mut leaves);
        Ok((count, told))
    }

    /// Whether every byte of the part was written, and hashed.
    pub(crate) fn is_written(&self) -> bool {
        self.bytes() == Some(self.progress().written) && !self.awaits_hash()
    }

    /// Whether our application hashes, and has not shown what came of it.
    pub fn awaits_hash(&self) -> bool {
        self.check.as_ref().is_some_and(Check::awaits)
    }

    /// What our application has hashed. Whether it is all that passed by.
    pub(crate) fn shown(&mut self, hasher: &Hasher) -> bool {
        self.check.as_mut().is_some_and(|check| check.shown(hasher))
    }

    /// Nothing more will be written; the checksum that the peer is to be told, if it does not know it.
    ///
    /// # Errors
    /// What was written is not what was announced.
    pub(crate) fn finish(&mut self) -> Result<Option<File>, Fault> {
        if let Some(expected) = self.bytes() {
            let received = self.progress().written;
            if received < expected {
                return Err(Fault::TooLittle { received, expected });
            }
        }
        let Some(check) = &self.check else {
            return Ok(None);
        };
        if let Judgement::Differs(_) = check.judge(&[]) {
            return Err(Fault::Changed);
        }
        if let Some(tag) = self.sealed.as_mut().and_then(Sealed::tag) {
            self.flow.append(tag);
        }
        self.flow.finish();
        Ok(check.checksum())
    }

    /// What tells the peer a hash.
    pub(crate) fn checksum_info(&self, file: File) -> FileInfo {
        FileInfo::Checksum {
            creator: Some(self.creator),
            content: Some(self.content.clone()),
            file: Box::new(file),
        }
    }

    /// The peer's application has it.
    pub(crate) fn confirm(&mut self) {
        // The frames of a tree say themselves which is the last: its receiver has it, perhaps, before our application says
        // that nothing more follows.
        let is_out = self.is_out() || self.duplex && !self.flow.has_unsent();
        if self.direction == Direction::Send && is_out && !self.confirmed {
            self.confirmed = true;
            self.verdict_due = None;
            self.signal.emit(Change::Delivered);
        }
    }

    /// Whether the transport has every byte. A stream without bytes can be taken before there is a path.
    pub(crate) fn is_out(&self) -> bool {
        let is_empty = self.bytes() == Some(0) && self.sealed.is_none();
        self.flow.is_handed_over() || self.flow.is_finished() && is_empty
    }

    pub(crate) fn everything_delivered(&mut self) {
        if self.flow.everything_delivered() {
            self.signal.emit(Change::Delivered);
        }
    }

    pub(crate) fn pump(&mut self, session: &mut Session, now: Instant) -> Result<(), Reason> {
        if self.is_live() && self.flow.pump(session, now)? {
            self.signal.emit(Change::Writable);
        }
        Ok(())
    }
}
