//! A tree, from a disk into a stream.

use super::{Found, Meter, PIECE, Skipped, Source, Walk};
use crate::{EntryKind, Hasher, TreeError, TreeLimits, TreeSender};
use bytes::Bytes;
use std::{collections::BTreeMap, path::PathBuf};
use tokio::sync::mpsc::{Receiver, Sender, error::TryRecvError};

/// So many bytes wait for the stream before nothing more is read.
const WAITING_MAX: usize = 2 * PIECE;

/// What was not sent is told one by one, up to so many.
const TOLD_MAX: usize = 1_000;

/// What came of a tree that was sent.
#[derive(Debug, Default)]
pub struct TreeSent {
    /// Files that were sent.
    pub sent: u64,
    /// Files that the receiver had already.
    pub skipped: u64,
    /// Files that the receiver did not take, as others have their names there. They are among those that were left out and
    /// should have been sent.
    pub refused: u64,
    /// Bytes that were sent.
    pub bytes: u64,
    /// What was left out, or could not be sent; the first thousand.
    pub left_out: Vec<Skipped>,
    /// Of those, and of those that are not told, how many should have been sent.
    pub failed: u64,
    /// Whether everything was said. If not, nobody takes it any more.
    pub whole: bool,
}

impl TreeSent {
    fn skip(&mut self, what: Skipped) {
        self.failed += u64::from(what.is_failure());
        if self.left_out.len() < TOLD_MAX {
            self.left_out.push(what);
        }
    }
}

struct Sending<'a> {
    tree: TreeSender,
    walk: Option<Walk>,
    ahead: usize,
    paths: BTreeMap<u64, PathBuf>,
    current: Option<(Source, u64)>,
    output: Sender<Bytes>,
    meter: &'a Meter,
    /// Bytes that the receiver does not take, as far as they were counted.
    declined: u64,
    /// Files that could not be sent.
    lost: u64,
    report: TreeSent,
}

/// Sends what is in these files and folders. What `input` gives is the receiver's word, what goes to `output` is for the
/// stream. On a thread that may wait.
///
/// # Errors
/// [`TreeError`] when the receiver says what it must not, or there is more than `limits` allows.
pub fn send_tree(
    walk: Walk,
    limits: TreeLimits,
    mut input: Receiver<Vec<Bytes>>,
    output: Sender<Bytes>,
    meter: &Meter,
) -> Result<TreeSent, TreeError> {
    let mut sending = Sending {
        tree: TreeSender::new(limits),
        walk: Some(walk),
        ahead: limits.ahead,
        paths: BTreeMap::new(),
        current: None,
        output,
        meter,
        declined: 0,
        lost: 0,
        report: TreeSent::default(),
    };
    loop {
        sending.name()?;
        loop {
            match input.try_recv() {
                Ok(pieces) => sending.hear(&pieces)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(sending.report),
            }
        }
        let busy = sending.step()?;
        let full = sending.tree.waiting() >= PIECE;
        if (full || !busy) && !sending.flush(!busy) {
            return Ok(sending.report);
        }
        if sending.tree.is_finished() && sending.tree.waiting() == 0 {
            (sending.report.skipped, sending.report.sent) = sending.count();
            sending.report.whole = true;
            return Ok(sending.report);
        }
        let may_name = sending.walk.is_some() && sending.tree.room() > 0;
        if !busy && !may_name {
            match input.blocking_recv() {
                Some(pieces) => sending.hear(&pieces)?,
                None => return Ok(sending.report),
            }
        }
    }
}

impl Sending<'_> {
    fn hear(&mut self, pieces: &[Bytes]) -> Result<(), TreeError> {
        for piece in pieces {
            self.tree.handle(piece)?;
            while let Some(file) = self.tree.poll_refused() {
                self.report.refused += 1;
                let path = self.paths.remove(&file).unwrap_or_default();
                self.report.skip(Skipped::Refused(path));
            }
        }
        let before = std::mem::replace(&mut self.declined, self.tree.declined());
        self.meter.skip(self.declined - before);
        Ok(())
    }

    /// Counts the files that are done: that the receiver had, and that were sent, which is the result, and others.
    fn count(&self) -> (u64, u64) {
        let (skipped, sent) = self.tree.counts();
        let others = self.report.refused + self.lost;
        self.meter.files_done(skipped + sent + others);
        (skipped, sent)
    }

    /// Names entries, as many as there is room for.
    fn name(&mut self) -> Result<(), TreeError> {
        while let Some(walk) = &mut self.walk
            && self.tree.room() > 0
            && self.tree.waiting() < WAITING_MAX
        {
            match walk.next() {
                None => {
                    self.walk = None;
                    self.tree.end();
                }
                Some(Found::Skipped(what)) => self.report.skip(what),
                Some(Found::Entry(entry, path)) => match self.tree.push(&entry) {
                    Ok(number) if entry.kind != EntryKind::Folder => {
                        self.paths.insert(number, path);
                    }
                    Ok(_) => {}
                    // Two names that are one elsewhere, or what is in a folder that could not be named.
                    Err(error @ (TreeError::Collision(_) | TreeError::NoFolder(_))) => {
                        let problem = super::DiskProblem::Other(error.to_string());
                        let fault = super::DiskError::new("send", path, problem);
                        self.lost += u64::from(entry.kind != EntryKind::Folder);
                        self.report.skip(Skipped::Fault(fault));
                    }
                    Err(error) => return Err(error),
                },
            }
        }
        if self.paths.len() > 2 * self.ahead {
            let tree = &self.tree;
            self.paths.retain(|number, _| tree.is_open(*number));
        }
        self.count();
        Ok(())
    }

    /// Reads the next piece of what is wanted; whether there was something to do.
    fn step(&mut self) -> Result<bool, TreeError> {
        let Some(demand) = self.tree.demand() else {
            return Ok(false);
        };
        if self.tree.waiting() >= WAITING_MAX {
            return Ok(true);
        }
        if self.current.is_none() && !self.begin(demand.file, demand.offset)? {
            return Ok(true);
        }
        let Some((source, left)) = &mut self.current else {
            return Ok(true);
        };
        let most = usize::try_from(*left).unwrap_or(PIECE).min(PIECE);
        let read = source.read(most).and_then(|piece| {
            if piece.len() < most {
                let problem = super::DiskProblem::Changed;
                return Err(super::DiskError::new("read", source.path(), problem));
            }
            if piece.len() as u64 == *left {
                source.check()?;
            }
            Ok(piece)
        });
        match read {
            Ok(piece) => {
                *left -= piece.len() as u64;
                let done = *left == 0;
                self.meter.add(piece.len() as u64);
                self.report.bytes += piece.len() as u64;
                self.tree.data(&piece)?;
                if done {
                    self.current = None;
                    self.paths.remove(&demand.file);
                }
            }
            Err(fault) => self.give_up(demand.file, Skipped::Fault(fault))?,
        }
        Ok(true)
    }

    /// Opens what is wanted. Whether bytes of it follow.
    fn begin(&mut self, file: u64, offset: u64) -> Result<bool, TreeError> {
        let Some(path) = self.paths.get(&file) else {
            self.tree.gone()?;
            self.lost += 1;
            return Ok(false);
        };
        let opened = Source::open_itself(path).and_then(|mut source| {
            let prefix: Option<Hasher> = match offset {
                0 => None,
                offset => Some(source.hash_front(offset)?),
            };
            Ok((source, prefix))
        });
        let (source, prefix) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                self.give_up(file, Skipped::Fault(fault))?;
                return Ok(false);
            }
        };
        self.meter.name(&path.to_string_lossy());
        let size = source.stamp().map_or(0, |stamp| stamp.size);
        let short = prefix.as_ref().is_some_and(|p| p.length() < offset);
        if short || self.tree.size(file) != Some(size) {
            let problem = super::DiskProblem::Changed;
            let fault = super::DiskError::new("read", path, problem);
            self.give_up(file, Skipped::Fault(fault))?;
            return Ok(false);
        }
        self.tree.begin(prefix)?;
        self.meter.skip(offset);
        if size == offset {
            self.paths.remove(&file);
            return Ok(false);
        }
        self.current = Some((source, size - offset));
        Ok(true)
    }

    fn give_up(&mut self, file: u64, why: Skipped) -> Result<(), TreeError> {
        self.tree.gone()?;
        self.lost += 1;
        self.current = None;
        self.paths.remove(&file);
        self.report.skip(why);
        Ok(())
    }

    /// Gives what waits to the stream; all of it, or only whole pieces. Whether somebody takes it.
    fn flush(&mut self, all: bool) -> bool {
        while self.tree.waiting() >= if all { 1 } else { PIECE } {
            let Some(bytes) = self.tree.poll_output(PIECE) else {
                break;
            };
            if self.output.blocking_send(bytes).is_err() {
                return false;
            }
        }
        true
    }
}
