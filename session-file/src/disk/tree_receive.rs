//! A tree, from a stream onto a disk.

mod file;

use super::{
    DiskError, DiskProblem, Existing, Folder, Meter, Plan,
    folder::{RESERVED, temporary},
    partial::{Partial, sweep},
    plan,
};
use crate::{
    EntryKind, FileName, Hasher, TreeEntry, TreeError, TreeEvent, TreeLimits, TreePath,
    TreeReceiver,
};
use bytes::Bytes;
use file::{Batch, Taken, Writing};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::sync::mpsc::{Receiver, Sender};

/// Bytes that go to the sender at once.
const ANSWER: usize = 64 * 1024;

/// What went wrong is told one by one, up to so many.
const TOLD_MAX: usize = 1_000;

/// Files of at least so many bytes have a journal, and go on where they were.
const LARGE: u64 = 1 << 20;

/// Most bytes that are kept of folders until the tree is whole. With more they get their modes and times before, and the times
/// of those into which more comes are what they become.
const FOLDER_BYTES: usize = 32 << 20;

/// Interrupted files that are held until the rest of them comes. Whoever interrupts trees leaves one of each; further ones
/// begin anew, as not many files can be open.
const HELD_MAX: usize = 64;

/// What an entry takes of a disk beside its bytes, about.
const ENTRY_BYTES: u64 = 4_096;

/// What we may do with folders that we make in any case: look into them and put something in.
const OURS: u16 = 0o700;

/// How often whoever carries a tree says that time has passed.
pub const TREE_TICK: Duration = Duration::from_secs(1);

/// What came of a tree that was received.
#[derive(Debug, Default)]
pub struct TreeReport {
    /// Files that arrived.
    pub received: u64,
    /// Files that were there already.
    pub skipped: u64,
    /// Files that were not taken, as others have their names ([`Existing::Skip`]). Their sender knows.
    pub refused: u64,
    /// Bytes that arrived.
    pub bytes: u64,
    /// What could not be received, and why; the first thousand.
    pub failed: Vec<(TreePath, String)>,
    /// How many could not.
    pub failures: u64,
    /// How many of those the sender takes for received, as it has sent them: it is to be told.
    pub unkept: u64,
    /// Files that got another name because theirs was taken.
    pub renamed: u64,
    /// Whether everything was said.
    pub whole: bool,
}

/// Why a tree cannot go on.
#[derive(Debug)]
pub enum TreeLanding {
    /// The sender says what it must not.
    Tree(TreeError),
    /// The disk takes no more.
    Disk(DiskError),
}

impl fmt::Display for TreeLanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tree(error) => error.fmt(f),
            Self::Disk(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TreeLanding {}

impl From<TreeError> for TreeLanding {
    fn from(error: TreeError) -> Self {
        Self::Tree(error)
    }
}

impl From<DiskError> for TreeLanding {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

/// What is to become of a file that was named.
enum Judged {
    /// It is wanted; with the hasher of what is there of it.
    Wanted(Wanted, Option<Hasher>),
    /// It is there.
    Have,
    /// Another has its name, and stays.
    Taken,
}

/// A file that was named, and is wanted.
pub(super) struct Wanted {
    pub(super) entry: TreeEntry,
    pub(super) size: u64,
    /// What is there of it already. Nobody else goes on with it.
    pub(super) held: Option<Box<Partial>>,
    /// Nothing has its name.
    pub(super) was_free: bool,
    /// It is there as a whole, and only compared.
    compare: bool,
}

struct Landing<'a> {
    root: Arc<Folder>,
    tree: TreeReceiver,
    existing: Existing,
    meter: &'a Meter,
    /// The folder that was used last.
    last: Option<(TreePath, Arc<Folder>)>,
    wanted: BTreeMap<u64, Wanted>,
    current: Option<(u64, Writing)>,
    batch: Batch,
    /// Folders that get their sender's mode and time when everything in them has its name, and how many bytes these are.
    folders: (Vec<TreeEntry>, usize),
    folders_max: usize,
    /// How much of the disk all of it has taken, or is to take.
    taken: u64,
    report: TreeReport,
}

/// Receives a tree into a folder. What `input` gives is the sender's word, what goes to `output` is for it. On a thread that
/// may wait.
///
/// Small files get their names together, when they are many or time has passed. So that it passes also when nothing comes,
/// `input` gives nothing (an empty list) every [`TREE_TICK`].
///
/// # Errors
/// [`TreeLanding`]; what was whole by then is kept, and what was under way goes on another time.
pub fn receive_tree(
    root: &Arc<Folder>,
    limits: TreeLimits,
    existing: Existing,
    input: Receiver<Vec<Bytes>>,
    output: &Sender<Bytes>,
    meter: &Meter,
) -> Result<TreeReport, TreeLanding> {
    Landing::new(root, limits, existing, meter).run(input, output)
}

impl<'a> Landing<'a> {
    fn new(root: &Arc<Folder>, limits: TreeLimits, existing: Existing, meter: &'a Meter) -> Self {
        Self {
            root: root.clone(),
            tree: TreeReceiver::new(limits),
            existing,
            meter,
            last: None,
            wanted: BTreeMap::new(),
            current: None,
            batch: Batch::new(),
            folders: (Vec::new(), 0),
            folders_max: FOLDER_BYTES,
            taken: 0,
            report: TreeReport::default(),
        }
    }

    fn run(
        mut self,
        mut input: Receiver<Vec<Bytes>>,
        output: &Sender<Bytes>,
    ) -> Result<TreeReport, TreeLanding> {
        let mut outcome = Ok(());
        while !self.report.whole {
            let Some(pieces) = input.blocking_recv() else {
                break;
            };
            outcome = pieces
                .iter()
                .try_for_each(|piece| self.take(piece, output))
                .and_then(|()| self.settle_if_due());
            if outcome.is_err() {
                input.close();
                break;
            }
        }
        // What is whole is kept, whatever became of the rest; what was under way goes on another time.
        if let Some((_, writing)) = self.current.take() {
            writing.interrupt();
        }
        let settled = self.settle();
        outcome?;
        settled?;
        Ok(self.report)
    }

    fn take(&mut self, bytes: &[u8], output: &Sender<Bytes>) -> Result<(), TreeLanding> {
        self.tree.handle(bytes)?;
        while let Some(event) = self.tree.poll_event() {
            self.event(event)?;
        }
        while let Some(answer) = self.tree.poll_output(ANSWER) {
            if output.blocking_send(answer).is_err() {
                // Nobody is there any more, which the stream's end tells.
                break;
            }
        }
        Ok(())
    }

    fn event(&mut self, event: TreeEvent) -> Result<(), TreeLanding> {
        match event {
            TreeEvent::Entry { file, entry } => self.entry(file, entry),
            TreeEvent::Data { file, bytes } => self.data(file, &bytes),
            TreeEvent::Whole { file } => self.whole(file),
            TreeEvent::Damaged { file } => {
                let compared = self.wanted.get(&file).is_some_and(|wanted| wanted.compare);
                let why = match compared {
                    true => "yours has the same size and date, and is another; it stays",
                    false => "it arrived damaged",
                };
                self.report.unkept += 1;
                self.lose(file, why);
                Ok(())
            }
            TreeEvent::Gone { file } => {
                self.lose(
                    file,
                    "its sender does not have it any more, or it was changed",
                );
                Ok(())
            }
            TreeEvent::Finished => {
                self.report.whole = true;
                Ok(())
            }
        }
    }

    fn entry(&mut self, file: u64, entry: TreeEntry) -> Result<(), TreeLanding> {
        if let Err(error) = self.root.check_hidden(&entry.path.top()) {
            match entry.kind {
                EntryKind::File { size, .. } => {
                    self.tree.skip(file)?;
                    self.pass_over(size);
                }
                EntryKind::Folder => self.meter.no_file(),
            }
            return self.fault(&entry.path, error);
        }
        let EntryKind::File { size, .. } = entry.kind else {
            self.meter.no_file();
            return match self.folder(&entry) {
                Ok(true) => self.keep_folder(entry),
                Ok(false) => Ok(()),
                Err(error) => self.fault(&entry.path, error),
            };
        };
        match self.judge(&entry, size) {
            Ok(Judged::Wanted(wanted, prefix)) => {
                let there = prefix.as_ref().map_or(0, Hasher::length);
                self.tree.want(file, prefix)?;
                self.meter.skip(there);
                self.wanted.insert(file, wanted);
            }
            Ok(Judged::Have) => {
                self.tree.skip(file)?;
                self.pass_over(size);
                self.report.skipped += 1;
            }
            Ok(Judged::Taken) => {
                self.tree.refuse(file)?;
                self.pass_over(size);
                self.report.refused += 1;
            }
            Err(error) => {
                self.tree.skip(file)?;
                self.pass_over(size);
                self.fault(&entry.path, error)?;
            }
        }
        Ok(())
    }

    /// Nothing of a file is to come.
    fn pass_over(&self, size: u64) {
        self.meter.skip(size);
        self.meter.file();
    }

    /// Makes a folder. Whether it is to get its sender's mode and time in the end: one that was there is its owner's. It has
    /// both already where it was made by a part of the same tree, and gets the time back that its files take from it.
    fn folder(&mut self, entry: &TreeEntry) -> Result<bool, DiskError> {
        let name = entry.path.name();
        if name.as_str().starts_with(RESERVED) {
            let path = self.root.path().join(entry.path.as_str());
            return Err(DiskError::new(
                "make the folder",
                path,
                DiskProblem::Reserved,
            ));
        }
        let parent = self.parent(&entry.path)?;
        let mode = entry.mode | OURS;
        if parent.make_folder(&name, mode)? {
            return self.claim(&parent, &name, 0).map(|()| true);
        }
        let there = parent.meta(name.as_str())?;
        Ok(there.is_some_and(|meta| meta.mode == mode && entry.modified == Some(meta.modified)))
    }

    /// Whether there is room for an entry with so many bytes. What was announced says nothing of that: somebody else may have
    /// filled the disk since, and not everybody says what is true.
    fn claim(&mut self, folder: &Folder, name: &FileName, bytes: u64) -> Result<(), DiskError> {
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        self.taken = self.taken.saturating_add(bytes);
        if folder.has_room(bytes, self.taken) {
            return Ok(());
        }
        let path = folder.path().join(name.as_str());
        Err(DiskError::new("receive", path, DiskProblem::Full))
    }

    fn keep_folder(&mut self, entry: TreeEntry) -> Result<(), TreeLanding> {
        let (kept, bytes) = &mut self.folders;
        *bytes += entry.path.as_str().len() + size_of::<TreeEntry>();
        kept.push(entry);
        match *bytes > self.folders_max {
            true => self.settle(),
            false => Ok(()),
        }
    }

    /// The folder in which something is.
    fn parent(&mut self, path: &TreePath) -> Result<Arc<Folder>, DiskError> {
        let Some(parent) = path.parent() else {
            return Ok(self.root.clone());
        };
        if let Some((known, folder)) = &self.last
            && *known == parent
        {
            return Ok(folder.clone());
        }
        let folder = self.root.parent_of(path)?.map(Arc::new);
        let folder = folder.unwrap_or_else(|| self.root.clone());
        self.last = Some((parent, folder.clone()));
        Ok(folder)
    }

    /// What is to become of a file.
    fn judge(&mut self, entry: &TreeEntry, size: u64) -> Result<Judged, DiskError> {
        let name = entry.path.name();
        let folder = self.parent(&entry.path)?;
        if name.as_str().starts_with(RESERVED) {
            let path = folder.path().join(name.as_str());
            return Err(DiskError::new("receive", path, DiskProblem::Reserved));
        }
        sweep(&folder, &name)?;
        let there = folder.meta(name.as_str())?;
        let wanted = |held: Option<Box<Partial>>, compare| Wanted {
            entry: entry.clone(),
            size,
            held,
            was_free: there.is_none(),
            compare,
        };
        // One that is begun was large, or came alone.
        let begun = folder.meta(&temporary(name.as_str(), "journal"))?.is_some();
        if there.is_none() && !begun {
            return Ok(Judged::Wanted(wanted(None, false), None));
        }
        let file = entry.to_file().unwrap_or_default();
        let plan = match plan(&folder, &name, &file, entry.modified, self.existing, false) {
            // Somebody else receives it now.
            Err(error) if error.problem == DiskProblem::Exists => {
                return Ok(Judged::Wanted(wanted(None, false), None));
            }
            plan => plan?,
        };
        Ok(match plan {
            Plan::Have => Judged::Have,
            Plan::Skip => Judged::Taken,
            Plan::Compare(hasher) => Judged::Wanted(wanted(None, true), Some(hasher)),
            Plan::Receive(partial) if partial.offset() == 0 => {
                partial.discard()?;
                Judged::Wanted(wanted(None, false), None)
            }
            Plan::Receive(partial) => {
                let held = |wanted: &&Wanted| wanted.held.is_some();
                if self.wanted.values().filter(held).count() >= HELD_MAX {
                    return Ok(Judged::Wanted(wanted(None, false), None));
                }
                let prefix = partial.hasher().clone();
                Judged::Wanted(wanted(Some(partial), false), Some(prefix))
            }
        })
    }

    fn data(&mut self, file: u64, bytes: &Bytes) -> Result<(), TreeLanding> {
        if self.current.as_ref().is_none_or(|(now, _)| *now != file) {
            if self.current.is_some() {
                // Ours send one file after another; many that are begun would be many that are open.
                return Err(
                    TreeError::OutOfOrder("a file before the one before it was done").into(),
                );
            }
            let Some(wanted) = self.wanted.get(&file) else {
                return Err(TreeError::Unknown(file).into());
            };
            let path = wanted.entry.path.clone();
            self.meter.name(path.as_str());
            let writing = match self.open(file) {
                Ok(writing) => writing,
                Err(error) => {
                    self.fault(&path, error)?;
                    Writing::Lost
                }
            };
            self.current = Some((file, writing));
        }
        let Some((_, writing)) = &mut self.current else {
            return Ok(());
        };
        self.meter.add(bytes.len() as u64);
        self.report.bytes += bytes.len() as u64;
        if let Err(error) = writing.write(std::slice::from_ref(bytes)) {
            std::mem::replace(writing, Writing::Lost).interrupt();
            let path = self.wanted.get(&file).map(|w| w.entry.path.clone());
            if let Some(path) = path {
                self.fault(&path, error)?;
            }
        }
        Ok(())
    }

    fn open(&mut self, file: u64) -> Result<Writing, DiskError> {
        let Some(wanted) = self.wanted.get(&file) else {
            return Ok(Writing::Lost);
        };
        let path = wanted.entry.path.clone();
        let there = wanted.held.as_ref().map_or(0, |held| held.offset());
        let left = wanted.size.saturating_sub(there);
        let folder = self.parent(&path)?;
        self.claim(&folder, &path.name(), left)?;
        match self.wanted.get_mut(&file) {
            Some(wanted) => Writing::open(&folder, wanted),
            None => Ok(Writing::Lost),
        }
    }

    fn whole(&mut self, file: u64) -> Result<(), TreeLanding> {
        let compared = self.wanted.get(&file).is_some_and(|wanted| wanted.compare);
        self.meter.file();
        if compared {
            self.wanted.remove(&file);
            self.report.skipped += 1;
            return Ok(());
        }
        let writing = match self.current.take() {
            Some((now, writing)) if now == file => Ok(writing),
            other => {
                self.current = other;
                // One without bytes, or of which every byte was there.
                self.open(file)
            }
        };
        let Some(wanted) = self.wanted.remove(&file) else {
            return Ok(());
        };
        let path = wanted.entry.path.clone();
        let kept = writing.and_then(|writing| self.batch.take(writing, &wanted, self.existing));
        match kept {
            Ok(Taken::Kept { renamed }) => {
                self.report.received += 1;
                self.report.renamed += u64::from(renamed);
            }
            Ok(Taken::Waits | Taken::Lost) => {}
            Err(error) => self.fault(&path, error)?,
        }
        self.settle_if_due()
    }

    fn settle_if_due(&mut self) -> Result<(), TreeLanding> {
        match self.batch.is_due() {
            true => self.settle_batch(),
            false => Ok(()),
        }
    }

    /// Gives small files that are whole their names.
    fn settle_batch(&mut self) -> Result<(), TreeLanding> {
        let settled = self.batch.settle(&self.root, self.existing);
        self.report.received += settled.kept;
        self.report.renamed += settled.renamed;
        let mut over = Ok(());
        for (path, error) in settled.faults {
            over = self.fault(&path, error).and(over);
        }
        over
    }

    /// A wanted file does not come.
    fn lose(&mut self, file: u64, why: &str) {
        if let Some((_, writing)) = self.current.take_if(|(now, _)| *now == file) {
            writing.discard();
        }
        self.meter.file();
        if let Some(wanted) = self.wanted.remove(&file) {
            self.tell(&wanted.entry.path, why.to_owned());
        }
    }

    /// Something failed with one file. The others go on, but where none could.
    fn fault(&mut self, path: &TreePath, error: DiskError) -> Result<(), TreeLanding> {
        if matches!(error.problem, DiskProblem::Full | DiskProblem::ReadOnly) {
            return Err(error.into());
        }
        self.report.unkept += 1;
        self.tell(path, error.to_string());
        Ok(())
    }

    fn tell(&mut self, path: &TreePath, why: String) {
        self.report.failures += 1;
        if self.report.failed.len() < TOLD_MAX {
            self.report.failed.push((path.clone(), why));
        }
    }

    /// Gives what is whole its names, and the folders their modes and times.
    fn settle(&mut self) -> Result<(), TreeLanding> {
        let mut over = self.settle_batch();
        let (folders, _) = std::mem::take(&mut self.folders);
        for entry in folders.into_iter().rev() {
            let name: FileName = entry.path.name();
            let dressed = self
                .parent(&entry.path)
                .and_then(|parent| parent.enter(&name))
                .and_then(|folder| folder.dress(entry.mode | OURS, entry.modified));
            if let Err(error) = dressed {
                over = self.fault(&entry.path, error).and(over);
            }
        }
        over
    }
}

#[cfg(test)]
mod tests;
