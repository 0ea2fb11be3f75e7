//! One file on its way: its bytes, its hash, how far it is, and how it ended.

mod again;
mod blocks;
mod check;
mod outcome;

pub(crate) use blocks::{block_bytes, mark, suitable};
#[cfg(feature = "cli")]
pub(crate) use check::algorithms;
pub(crate) use check::{Check, Judgement};
pub(crate) use outcome::reason_of;
pub use outcome::{Direction, Fault, Integrity, Outcome, TransferId};

use crate::{
    Change, Completeness, File, FileInfo, FileLimits, FileName, FileRange, Hash, Hasher, Phase,
    Progress, Read,
    flow::Flow,
    moving::{self, Keep},
};
use bytes::Bytes;
use session_core::{ChannelId, Reason, Role, Secured, Session, Signal};
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
        self.flow.progress()
    }

    /// How many bytes can be written now.
    pub fn room(&self) -> usize {
        match (self.phase, self.direction) {
            (_, Direction::Receive) if self.duplex && self.is_live() => self.flow.room(),
            (Phase::Ended, _) | (_, Direction::Receive) => 0,
            _ if self.rewound => 0,
            (_, Direction::Send) => {
                let left = self
                    .bytes()
                    .map_or(u64::MAX, |bytes| bytes - self.progress().written.min(bytes));
                self.flow
                    .room()
                    .min(usize::try_from(left).unwrap_or(usize::MAX))
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

    /// What protects its bytes, or did; `None` when nothing does, or none has left yet.
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
        self.duplex = crate::tree::mark(&self.file).is_some() && self.bytes().is_none();
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
        let block = block_bytes(&self.file);
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

    /// Takes as much of `bytes` as there is room for. What is to be told to the peer by now comes with it.
    pub(crate) fn write(&mut self, bytes: &mut Bytes) -> (usize, Vec<File>) {
        let written = self.progress().written;
        let left = self
            .bytes()
            .map_or(u64::MAX, |bytes| bytes.saturating_sub(written));
        let mut front = bytes.clone();
        front.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let offered = front.clone();
        let count = self.flow.write(&mut front);
        let _ = bytes.split_to(count);
        let mut told = Vec::new();
        if let Some(check) = self
            .check
            .as_mut()
            .filter(|_| self.direction == Direction::Send)
        {
            told = check.pass(&offered[..count]);
        }
        (count, told)
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
        if let Judgement::Differs(_) = check.judge() {
            return Err(Fault::Changed);
        }
        self.flow.finish();
        Ok(check.checksum())
    }

    /// The peer's application has it.
    pub(crate) fn confirm(&mut self) {
        if self.direction == Direction::Send && self.is_out() && !self.confirmed {
            self.confirmed = true;
            self.verdict_due = None;
            self.signal.emit(Change::Delivered);
        }
    }

    /// Whether the transport has every byte. A file without bytes can be taken before there is a path.
    pub(crate) fn is_out(&self) -> bool {
        self.flow.is_handed_over() || self.flow.is_finished() && self.bytes() == Some(0)
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

/// Receiving.
impl Transfer {
    /// Bytes of the peer.
    ///
    /// # Errors
    /// They are not what was announced.
    pub(crate) fn receive(
        &mut self,
        mut bytes: Bytes,
        session: &mut Session,
        now: Instant,
    ) -> Result<(), Fault> {
        let Some(check) = self.check.as_mut().filter(|_| self.phase == Phase::Open) else {
            return Ok(());
        };
        match self.direction {
            Direction::Receive => {
                check.skip(&mut bytes)?;
                check.arrive(&bytes)?;
            }
            // What flows back is the other side of a tree.
            Direction::Send if self.duplex => {}
            Direction::Send => return Ok(()),
        }
        if self.flow.receive(bytes, session, now) {
            self.signal.emit(Change::Readable);
        }
        Ok(())
    }

    /// What the peer says of the hash, while it sends or after that.
    ///
    /// # Errors
    /// It differs from what arrived.
    pub(crate) fn told(&mut self, file: &File) -> Result<(), Fault> {
        match (&mut self.check, self.direction) {
            (Some(check), Direction::Receive) => check.told(file),
            (None, _) | (_, Direction::Send) => Ok(()),
        }
    }

    /// Whether every byte has arrived, as far as we can know.
    pub(crate) fn is_complete(&self) -> bool {
        self.check
            .as_ref()
            .is_some_and(|check| check.is_complete(self.flow.has_peer_finished()))
    }

    /// Judges a file that is complete. `Some` is how long the peer may take to name a hash.
    ///
    /// # Errors
    /// It is another than announced.
    pub(crate) fn judge(
        &mut self,
        patience: [std::time::Duration; 2],
    ) -> Result<Option<std::time::Duration>, Fault> {
        let Some(check) = self.check.as_ref().filter(|_| self.integrity.is_none()) else {
            return Ok(None);
        };
        if check.awaits() {
            return Ok(None);
        }
        match check.judge() {
            Judgement::Equal(algorithm) => {
                self.settle(Integrity::Verified(algorithm));
                Ok(None)
            }
            Judgement::EqualPart(algorithm) => {
                self.settle(Integrity::Part(algorithm));
                Ok(None)
            }
            Judgement::Differs(algorithm) => Err(Fault::WrongHash(algorithm)),
            // Each file of a tree has its own hash, in the stream.
            Judgement::Open { .. } if self.duplex => {
                self.settle(Integrity::Unverified);
                Ok(None)
            }
            Judgement::Open { announced } => Ok(Some(patience[usize::from(announced)])),
        }
    }

    pub(crate) fn settle(&mut self, integrity: Integrity) {
        self.integrity = Some(integrity);
        self.verdict_due = None;
        self.signal.emit(Change::Readable);
    }

    /// The peer said that nothing more follows.
    ///
    /// # Errors
    /// Something was to follow.
    pub(crate) fn peer_finished(&mut self) -> Result<(), Fault> {
        if self.direction == Direction::Send || !self.flow.peer_finished() {
            return Ok(());
        }
        self.see_end()
    }

    /// The stream has come to its end. An application that hashes by itself waits for nothing else.
    ///
    /// # Errors
    /// Something was to follow.
    pub(crate) fn see_end(&mut self) -> Result<(), Fault> {
        self.signal.emit(Change::Readable);
        match self.check.as_ref().map(Check::missing) {
            Some(Some((received, expected))) => Err(Fault::TooLittle { received, expected }),
            Some(None) | None => Ok(()),
        }
    }

    /// The next bytes, and whether the peer may go on now.
    pub(crate) fn read(&mut self, max: usize) -> (Read, bool) {
        if let Some((bytes, resume)) = self.flow.read(max) {
            return (Read::Bytes(bytes), resume);
        }
        let read = match (&self.outcome, self.integrity) {
            (Some(Outcome::Failed(fault)), _) => Read::Broken(outcome::cause_of(fault)),
            (_, Some(_)) => Read::End(self.completeness()),
            (_, None) => Read::Pending,
        };
        (read, false)
    }

    /// Our application has read the end. Whether that is news.
    pub(crate) fn acknowledge(&mut self) -> bool {
        !std::mem::replace(&mut self.acknowledged, true)
    }

    /// What tells the peer that we have the file.
    pub(crate) fn received_info(&self) -> FileInfo {
        FileInfo::Received {
            creator: Some(self.creator),
            content: Some(self.content.clone()),
        }
    }

    /// What tells the peer a hash.
    pub(crate) fn checksum_info(&self, file: File) -> FileInfo {
        FileInfo::Checksum {
            creator: Some(self.creator),
            content: Some(self.content.clone()),
            file: Box::new(file),
        }
    }

    fn completeness(&self) -> Completeness {
        let known = self
            .check
            .as_ref()
            .is_some_and(|check| check.is_complete(self.flow.has_peer_finished()));
        if known {
            Completeness::Verified
        } else {
            Completeness::Unverified
        }
    }
}

/// Ending.
impl Transfer {
    pub(crate) fn channel(&self) -> Option<ChannelId> {
        self.flow.channel
    }

    /// It failed: what was not read is of no use.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if self.is_live() {
            self.flow.discard();
            self.end(Outcome::Failed(fault));
        }
    }

    /// The session, or its content, is over. What it means for the file depends on how far it was.
    pub(crate) fn ended(&mut self, fault: Fault, success: bool) {
        if !self.is_live() {
            return;
        }
        let outcome = match self.direction {
            Direction::Send if self.confirmed || success && self.is_out() => {
                Outcome::Sent { confirmed: true }
            }
            Direction::Send if self.flow.is_delivered() => Outcome::Sent { confirmed: false },
            Direction::Send => Outcome::Failed(fault),
            Direction::Receive => {
                let unsized_end = success
                    && self.phase == Phase::Open
                    && self.check.as_ref().is_some_and(Check::may_end);
                // What our application has not hashed yet nobody knows to be whole; it goes on another time.
                let hashed = !self.awaits_hash();
                if self.integrity.is_none() && hashed && (self.is_complete() || unsized_end) {
                    // No word of its hash can come any more.
                    match self.judge(Default::default()) {
                        Ok(_) => {
                            let integrity = self.integrity.unwrap_or(Integrity::Unverified);
                            self.settle(integrity);
                        }
                        Err(fault) => return self.fail(fault),
                    }
                }
                match self.integrity {
                    Some(integrity) => Outcome::Received(integrity),
                    None => Outcome::Failed(fault),
                }
            }
        };
        self.end(outcome);
    }

    fn end(&mut self, outcome: Outcome) {
        self.phase = Phase::Ended;
        self.verdict_due = None;
        self.move_due = None;
        self.outcome = Some(outcome);
        self.flow.close(true);
        self.signal.emit(Change::Ended);
    }
}
