//! Programs that send and receive a tree, without sessions.

use bytes::Bytes;
use session_file::{
    Demand, EntryKind, HashAlgorithm, Hasher, TreeEntry, TreeError, TreeEvent, TreeLimits,
    TreePath, TreeReceiver, TreeSender,
};
use std::collections::BTreeMap;

pub fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

pub fn file(text: &str, size: usize) -> TreeEntry {
    TreeEntry::file(path(text), size as u64)
}

pub fn folder(text: &str) -> TreeEntry {
    TreeEntry::folder(path(text))
}

pub fn sha256(bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new([HashAlgorithm::Sha256]);
    hasher.update(bytes);
    hasher
}

/// What arrived.
#[derive(Default)]
pub struct Arrived {
    pub entries: BTreeMap<String, TreeEntry>,
    pub files: BTreeMap<u64, String>,
    pub bytes: BTreeMap<String, Vec<u8>>,
    pub whole: Vec<String>,
    pub damaged: Vec<String>,
    pub gone: Vec<String>,
    pub finished: bool,
}

/// How the receiver decides: what it has already.
pub type Has = BTreeMap<String, Vec<u8>>;

pub fn take(receiver: &mut TreeReceiver, arrived: &mut Arrived, has: &Has) {
    while let Some(event) = receiver.poll_event() {
        match event {
            TreeEvent::Entry { file, entry } => {
                let name = entry.path.to_string();
                if let EntryKind::File { size, hash } = &entry.kind {
                    let there = has.get(&name).map(|bytes| sha256(bytes));
                    let same = there
                        .as_ref()
                        .is_some_and(|t| t.hashes().first() == hash.as_ref());
                    if same {
                        receiver.skip(file).unwrap();
                    } else {
                        let there = there.filter(|there| there.length() <= *size);
                        let begun = there.as_ref().map_or(0, Hasher::length) as usize;
                        let bytes = has
                            .get(&name)
                            .map(|bytes| bytes[..begun.min(bytes.len())].to_vec());
                        arrived.bytes.insert(
                            name.clone(),
                            bytes.filter(|_| begun > 0).unwrap_or_default(),
                        );
                        receiver.want(file, there).unwrap();
                    }
                }
                arrived.files.insert(file, name.clone());
                arrived.entries.insert(name, entry);
            }
            TreeEvent::Data { file, bytes } => arrived
                .bytes
                .get_mut(&arrived.files[&file])
                .unwrap()
                .extend(&bytes),
            TreeEvent::Whole { file } => arrived.whole.push(arrived.files[&file].clone()),
            TreeEvent::Damaged { file } => arrived.damaged.push(arrived.files[&file].clone()),
            TreeEvent::Gone { file } => arrived.gone.push(arrived.files[&file].clone()),
            TreeEvent::Finished => arrived.finished = true,
        }
    }
}

/// What is on the sender's disk, and how far its program is.
pub struct Source<'a> {
    pub entries: &'a [TreeEntry],
    pub next: usize,
    pub names: BTreeMap<u64, String>,
    pub bytes: &'a BTreeMap<String, Bytes>,
    pub piece: usize,
}

impl<'a> Source<'a> {
    pub fn new(entries: &'a [TreeEntry], bytes: &'a BTreeMap<String, Bytes>, piece: usize) -> Self {
        Self {
            entries,
            next: 0,
            names: BTreeMap::new(),
            bytes,
            piece,
        }
    }

    /// What a program does when it may.
    pub fn feed(&mut self, sender: &mut TreeSender) {
        while sender.room() > 0 && sender.waiting() < 64 * 1024 {
            let Some(entry) = self.entries.get(self.next) else {
                sender.end();
                break;
            };
            let file = sender.push(entry).unwrap();
            self.names.insert(file, entry.path.to_string());
            self.next += 1;
        }
        while sender.waiting() < 64 * 1024
            && let Some(Demand { file, offset }) = sender.demand()
        {
            let Some(bytes) = self.bytes.get(&self.names[&file]) else {
                sender.gone().unwrap();
                continue;
            };
            let offset = offset as usize;
            // A file that is begun goes on; one that is not is begun.
            match sender.begin(Some(sha256(&bytes[..offset]))) {
                Ok(()) => continue,
                Err(TreeError::OutOfOrder(_)) => {}
                Err(other) => panic!("{other}"),
            }
            let end = (offset + self.piece).min(bytes.len());
            sender.data(&bytes.slice(offset..end)).unwrap();
        }
    }
}

/// Sender and receiver with nothing between them but pieces of these sizes.
pub fn copy(
    entries: &[TreeEntry],
    bytes: &BTreeMap<String, Bytes>,
    has: &Has,
    limits: TreeLimits,
    pieces: (usize, usize),
) -> Arrived {
    let (mut sender, mut receiver) = (TreeSender::new(limits), TreeReceiver::new(limits));
    let mut source = Source::new(entries, bytes, pieces.0);
    let mut arrived = Arrived::default();
    for _ in 0..2_000_000 {
        source.feed(&mut sender);
        if let Some(bytes) = sender.poll_output(pieces.1) {
            receiver.handle(&bytes).unwrap();
        }
        take(&mut receiver, &mut arrived, has);
        if let Some(bytes) = receiver.poll_output(pieces.1) {
            sender.handle(&bytes).unwrap();
        }
        if arrived.finished && sender.is_finished() {
            assert!(receiver.is_finished());
            return arrived;
        }
    }
    panic!("it has no end");
}
