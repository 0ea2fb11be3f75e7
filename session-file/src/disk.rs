//! Files and folders on a disk, for programs (feature `cli`).
//!
//! Beside the pure client stands what reads and writes: threads that may wait for a disk, joined to the client by short
//! queues of [`Bytes`](bytes::Bytes). A full queue holds the other side back, so that a file of any size takes little memory.
//!
//! What arrives is written under a temporary name, beside a [`Journal`](crate::Journal), and gets its own name when it is
//! whole, verified, and on the disk. So nothing that is incomplete ever stands under the name of a file, and what was
//! interrupted, by a crash as well, goes on where the journal says.
//!
//! All names that a peer gives are opened below one [`Folder`], component by component, and no link is followed.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "files, threads and time are the program's, which is this part of the crate"
)]
#![allow(
    clippy::unnecessary_cast,
    reason = "the types of what a system says of files differ between systems"
)]

mod descriptors;
mod error;
mod folder;
mod partial;
mod plan;
mod sink;
mod source;
mod tree_receive;
mod tree_send;
mod walk;

pub use descriptors::raise_descriptors;
pub use error::{DiskError, DiskProblem};
pub use folder::{Folder, Meta, RESERVED};
pub use partial::{JOURNAL_EVERY, JOURNAL_EVERY_BYTES, Kept, Partial};
pub(crate) use partial::{algorithms, sha256};
pub use plan::{Existing, Plan, plan};
pub use sink::{Landed, Sink, into_file, into_stream};
pub use source::{PIECE, PIECES, Read, Source, Stamp};
pub use tree_receive::{TREE_TICK, TreeLanding, TreeReport, receive_tree};
pub use tree_send::{TreeSent, send_tree};
pub use walk::{Found, Skipped, Walk};

use std::sync::{
    Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

/// How many bytes there are of what has no size.
const UNKNOWN: u64 = u64::MAX;

/// How far something is, for whoever shows it: threads count, and a display looks now and then.
#[derive(Debug, Default)]
pub struct Meter {
    bytes: AtomicU64,
    /// Of these, what was there before.
    there: AtomicU64,
    files: AtomicU64,
    total_bytes: AtomicU64,
    total_files: AtomicU64,
    name: Mutex<String>,
}

impl Meter {
    /// How much there is to do, as far as that is known.
    pub fn expect(&self, files: u64, bytes: Option<u64>) {
        self.total_files.store(files, Ordering::Relaxed);
        let bytes = bytes.unwrap_or(UNKNOWN);
        self.total_bytes.store(bytes, Ordering::Relaxed);
    }

    /// So many bytes more.
    pub fn add(&self, bytes: u64) {
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// So many bytes need not be moved: they are there.
    pub fn skip(&self, bytes: u64) {
        self.there.fetch_add(bytes, Ordering::Relaxed);
        self.add(bytes);
    }

    /// It begins anew.
    pub fn restart(&self) {
        self.there.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
    }

    /// How many bytes were there before, of those [so far](Self::bytes).
    pub fn there(&self) -> u64 {
        self.there.load(Ordering::Relaxed)
    }

    /// One file more is done, however that went.
    pub fn file(&self) {
        self.files.fetch_add(1, Ordering::Relaxed);
    }

    /// So many files are done.
    pub fn files_done(&self, files: u64) {
        self.files.store(files, Ordering::Relaxed);
    }

    /// One of those that were [expected](Self::expect) is no file.
    pub fn no_file(&self) {
        let less = |files: u64| files.checked_sub(1);
        // More than was announced may come.
        let _ = self
            .total_files
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// What is under way.
    pub fn name(&self, name: &str) {
        let mut now = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        now.clear();
        now.push_str(name);
    }

    /// Bytes so far, and in all, where that is known.
    pub fn bytes(&self) -> (u64, Option<u64>) {
        let total = self.total_bytes.load(Ordering::Relaxed);
        let total = (total != UNKNOWN).then_some(total);
        (self.bytes.load(Ordering::Relaxed), total)
    }

    /// Files so far, and in all.
    pub fn files(&self) -> (u64, u64) {
        (
            self.files.load(Ordering::Relaxed),
            self.total_files.load(Ordering::Relaxed),
        )
    }

    /// The name of what is under way.
    pub fn current(&self) -> String {
        let now = self.name.lock().unwrap_or_else(PoisonError::into_inner);
        now.clone()
    }
}
