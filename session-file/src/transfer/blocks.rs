//! Hashes of blocks, so that a file that arrives damaged is known to be while it arrives.
//!
//! XEP-0234 §8.2 lets a sender name the hash of any part at any time. Two of ours agree on blocks of one size by a child
//! of `<file/>` of our own, which others ignore: the sender names the hash of each block when it has sent it.

use super::Fault;
use crate::{
    File, FileRange, HashAlgorithm, Hasher, OWN,
    hash::{Hash, compare},
};
use session_core::Element;
use std::collections::VecDeque;

/// The smallest block.
pub(crate) const BLOCK_MIN: u64 = 16 << 20;
/// A file has no more blocks than this, so that signalling stays small.
const BLOCKS_MAX: u64 = 64;
/// As many blocks, ours or the peer's, wait for the other's word.
const KEPT: usize = 8;

const ALGORITHM: HashAlgorithm = HashAlgorithm::Sha256;

#[derive(Debug)]
pub(crate) struct Blocks {
    bytes: u64,
    /// Where the block begins that is under way.
    start: u64,
    hasher: Hasher,
    /// Blocks that have passed: where they begin, and their hashes.
    passed: VecDeque<(u64, Vec<Hash>)>,
    /// Blocks that the peer has named, and that have not passed.
    named: VecDeque<(u64, Vec<Hash>)>,
}

/// The mark in `<file/>` that asks for blocks, or takes them.
pub(crate) fn mark(bytes: u64) -> Element {
    Element::new(OWN, "blocks").with("bytes", bytes)
}

/// Blocks of which size suit a file.
pub(crate) fn suitable(size: u64) -> u64 {
    size.div_ceil(BLOCKS_MAX).max(BLOCK_MIN)
}

/// The size of blocks that a description names, if it is a sensible one.
pub(crate) fn block_bytes(file: &File) -> Option<u64> {
    let mark = file.extra.iter().find(|extra| extra.is(OWN, "blocks"))?;
    let bytes: u64 = mark.attribute("bytes")?.parse().ok()?;
    (bytes >= BLOCK_MIN).then_some(bytes)
}

impl Blocks {
    pub(crate) fn new(bytes: u64, offset: u64) -> Self {
        Self {
            bytes,
            start: offset,
            hasher: Hasher::new([ALGORITHM]),
            passed: VecDeque::new(),
            named: VecDeque::new(),
        }
    }

    /// Bytes that we send; the checksums of the blocks that they complete.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<File> {
        let mut told = Vec::new();
        self.cut(bytes, |start, length, hashes| {
            let range = FileRange {
                offset: start,
                length: Some(length),
                hashes,
            };
            told.push(File::default().with_range(range));
        });
        told
    }

    /// Bytes that the peer sends.
    ///
    /// # Errors
    /// A block is another than the one that the peer named.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let mut fresh = Vec::new();
        self.cut(bytes, |start, _, hashes| fresh.push((start, hashes)));
        for (start, hashes) in fresh {
            if let Some(at) = self.named.iter().position(|(named, _)| *named == start)
                && let Some((_, named)) = self.named.remove(at)
            {
                agree(&hashes, &named)?;
            } else {
                keep(&mut self.passed, (start, hashes));
            }
        }
        Ok(())
    }

    /// The peer names the hash of a part; one that is no block of ours says nothing to us.
    ///
    /// # Errors
    /// What arrived is another.
    pub(crate) fn told(&mut self, range: &FileRange) -> Result<(), Fault> {
        if range.length != Some(self.bytes) {
            return Ok(());
        }
        if let Some((_, hashes)) = self.passed.iter().find(|(start, _)| *start == range.offset) {
            return agree(hashes, &range.hashes);
        }
        let ours = |hash: &&Hash| hash.algorithm() == Some(ALGORITHM);
        let hashes: Vec<Hash> = range
            .hashes
            .iter()
            .find(ours)
            .cloned()
            .into_iter()
            .collect();
        if range.offset >= self.start && !hashes.is_empty() {
            keep(&mut self.named, (range.offset, hashes));
        }
        Ok(())
    }

    fn cut(&mut self, mut bytes: &[u8], mut done: impl FnMut(u64, u64, Vec<Hash>)) {
        while !bytes.is_empty() {
            let left = self.bytes - self.hasher.length();
            let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.hasher.update(&bytes[..count]);
            bytes = &bytes[count..];
            if self.hasher.length() == self.bytes {
                done(self.start, self.bytes, self.hasher.hashes());
                self.start += self.bytes;
                self.hasher = Hasher::new([ALGORITHM]);
            }
        }
    }
}

fn agree(ours: &[Hash], theirs: &[Hash]) -> Result<(), Fault> {
    match compare(ours, theirs) {
        Some((algorithm, false)) => Err(Fault::WrongHash(algorithm)),
        Some((_, true)) | None => Ok(()),
    }
}

fn keep(queue: &mut VecDeque<(u64, Vec<Hash>)>, block: (u64, Vec<Hash>)) {
    if queue.len() >= KEPT {
        queue.pop_front();
    }
    queue.push_back(block);
}
