//! What passes by, against what was said of it: how many bytes, and which hash.

use super::{Fault, blocks::Blocks};
use crate::{File, FileRange, Hash, HashAlgorithm, Hasher, hash::compare};
use bytes::{Buf, Bytes};

/// Most algorithms that a receiver computes of those that a sender announces.
const ANNOUNCED_MAX: usize = 2;

/// Counts and hashes the bytes of one transfer.
#[derive(Debug)]
pub(crate) struct Check {
    offset: u64,
    /// Bytes of the part, where known.
    expected: Option<u64>,
    /// Most bytes that are taken where it is not known.
    most: u64,
    passed: u64,
    /// Of the file from its beginning; `None` when we do not have what is in front of the part.
    whole: Option<Hasher>,
    /// Of the part, where that does not begin with the file.
    part: Option<Hasher>,
    /// Whether the part reaches to the end of the file.
    to_end: bool,
    hashes: Vec<Hash>,
    part_hashes: Vec<Hash>,
    /// The peer said that a hash would follow.
    announced: bool,
    blocks: Option<Blocks>,
    /// Our application hashes, and has not shown what came of it.
    awaits: bool,
    /// The hasher as it was before the first byte, of what is received.
    start: Option<Hasher>,
    repeat: Option<Repeat>,
    /// Bytes that came again, in all.
    repeated: u64,
}

/// What the peer sends again, because it begins anew.
#[derive(Debug)]
struct Repeat {
    /// Bytes of it that are to come.
    left: u64,
    hasher: Hasher,
}

/// The algorithms that a receiver computes, after what a sender says of its file.
pub(crate) fn algorithms(file: &File) -> Vec<HashAlgorithm> {
    let named = file.hashes.iter().filter_map(Hash::algorithm).max();
    let mut announced: Vec<_> = file
        .hash_used
        .iter()
        .filter_map(|name| HashAlgorithm::from_name(name))
        .collect();
    // The best are enough, and nobody makes us compute all that there are.
    announced.sort_unstable_by(|a, b| b.cmp(a));
    announced.dedup();
    announced.truncate(ANNOUNCED_MAX);
    let algorithms: Vec<_> = named.into_iter().chain(announced).collect();
    if algorithms.is_empty() {
        // Old peers send a checksum without having said of which kind: it is one of these (jingle-peers: 3.1).
        return vec![HashAlgorithm::Sha1, HashAlgorithm::Sha256];
    }
    algorithms
}

/// What the hashes say of a file that has passed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// The hash is the one that was named.
    Equal(HashAlgorithm),
    /// The hash of the part is the one that was named; of what is in front of it nothing is known.
    EqualPart(HashAlgorithm),
    /// The hash is another.
    Differs(HashAlgorithm),
    /// None was named that can be compared; `announced` when one is to follow.
    Open { announced: bool },
}

impl Check {
    pub(crate) fn sender(
        file: &File,
        prefix: Option<Hasher>,
        bytes: Option<u64>,
        block: Option<u64>,
    ) -> Self {
        let announced = file
            .hash_used
            .iter()
            .filter_map(|name| HashAlgorithm::from_name(name));
        let known = file.hashes.iter().filter_map(Hash::algorithm);
        let algorithms: Vec<_> = known.chain(announced).collect();
        Self::new(file, prefix, bytes, &algorithms, block)
    }

    pub(crate) fn receiver(
        file: &File,
        prefix: Option<Hasher>,
        bytes: Option<u64>,
        most: u64,
        block: Option<u64>,
    ) -> Self {
        let algorithms = algorithms(file);
        let mut check = Self::new(file, prefix, bytes, &algorithms, block);
        check.most = most;
        check.start = check.whole.clone().or_else(|| check.part.clone());
        check
    }

    fn new(
        file: &File,
        prefix: Option<Hasher>,
        expected: Option<u64>,
        algorithms: &[HashAlgorithm],
        block: Option<u64>,
    ) -> Self {
        let range = file.range.clone().unwrap_or_default();
        let fresh = || Hasher::new(algorithms.iter().copied());
        let whole = match (range.offset, prefix) {
            (0, _) => Some(fresh()),
            (_, prefix) => prefix.filter(|p| {
                let has: Vec<_> = p.algorithms().collect();
                algorithms.iter().any(|a| has.contains(a)) || algorithms.is_empty()
            }),
        };
        let part = (range.offset > 0 || range.length.is_some()).then(fresh);
        Self {
            offset: range.offset,
            expected,
            most: u64::MAX,
            passed: 0,
            whole,
            part,
            to_end: match (range.end(), file.size) {
                (None, _) => true,
                (Some(end), Some(size)) => end >= size,
                (Some(_), None) => false,
            },
            hashes: file.hashes.clone(),
            part_hashes: range.hashes,
            announced: !file.hash_used.is_empty(),
            blocks: block.map(|bytes| Blocks::new(bytes, range.offset)),
            awaits: false,
            start: None,
            repeat: None,
            repeated: 0,
        }
    }

    /// Leaves hashing to our application, where it has the file from its beginning to its end.
    pub(crate) fn outside(mut self) -> Self {
        let hashes = |hasher: &Option<Hasher>| {
            hasher
                .as_ref()
                .is_some_and(|h| h.algorithms().next().is_some())
        };
        if self.to_end && (hashes(&self.whole) || hashes(&self.part)) {
            self.awaits = true;
            (self.whole, self.part, self.blocks) = (None, None, None);
            self.start = None;
        }
        self
    }

    /// Whether it can be told that what comes again is what came before.
    pub(crate) fn can_repeat(&self) -> bool {
        self.start.is_some()
    }

    /// The peer begins anew: what has arrived comes again.
    pub(crate) fn repeat(&mut self) {
        let left = self.passed;
        let start = self.start.clone().filter(|_| left > 0);
        self.repeat = start.map(|hasher| Repeat { left, hasher });
    }

    /// Bytes that came again, in all.
    pub(crate) fn repeated(&self) -> u64 {
        self.repeated
    }

    /// Takes off the front of what the peer sends what has arrived before.
    ///
    /// # Errors
    /// It is not what it was: the peer goes on somewhere else, or its file has changed.
    pub(crate) fn skip(&mut self, bytes: &mut Bytes) -> Result<(), Fault> {
        let Some(repeat) = &mut self.repeat else {
            return Ok(());
        };
        let count = usize::try_from(repeat.left).unwrap_or(usize::MAX);
        let count = count.min(bytes.len());
        repeat.hasher.update(&bytes[..count]);
        repeat.left -= count as u64;
        self.repeated += count as u64;
        bytes.advance(count);
        if repeat.left > 0 {
            return Ok(());
        }
        let before = self.whole.as_ref().or(self.part.as_ref());
        let same = before.is_some_and(|before| before.hashes() == repeat.hasher.hashes());
        self.repeat = None;
        if same { Ok(()) } else { Err(Fault::Changed) }
    }

    /// Whether our application has still to show what it has hashed.
    pub(crate) fn awaits(&self) -> bool {
        self.awaits
    }

    /// What our application has hashed: the file from its beginning. Whether it is all that passed by.
    pub(crate) fn shown(&mut self, hasher: &Hasher) -> bool {
        let fits = self.awaits && hasher.length() == self.offset + self.passed;
        if fits {
            self.awaits = false;
            self.whole = Some(hasher.clone());
        }
        fits
    }

    /// Bytes that we send; the blocks that they complete, as checksums.
    pub(crate) fn pass(&mut self, bytes: &[u8]) -> Vec<File> {
        self.count(bytes);
        match &mut self.blocks {
            Some(blocks) => blocks.pass(bytes),
            None => Vec::new(),
        }
    }

    /// Bytes that the peer sends.
    ///
    /// # Errors
    /// They are too many, or those of a block are other than the peer had named the hash of.
    pub(crate) fn arrive(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let most = self.expected.unwrap_or(self.most);
        if bytes.len() as u64 > most.saturating_sub(self.passed) {
            return Err(Fault::TooMuch(most));
        }
        self.count(bytes);
        match &mut self.blocks {
            Some(blocks) => blocks.arrive(bytes),
            None => Ok(()),
        }
    }

    /// The peer names hashes: of the whole file, or of a part of it.
    ///
    /// # Errors
    /// They are others than those of what arrived.
    pub(crate) fn told(&mut self, file: &File) -> Result<(), Fault> {
        // What was named in the offer stays named: a peer cannot take back what it said.
        add(&mut self.hashes, &file.hashes);
        let Some(range) = file.range.as_ref().filter(|range| !range.hashes.is_empty()) else {
            return Ok(());
        };
        if self.is_ours(range) {
            add(&mut self.part_hashes, &range.hashes);
            return Ok(());
        }
        match &mut self.blocks {
            Some(blocks) => blocks.told(range),
            None => Ok(()),
        }
    }

    /// Whether every byte is there: as many as announced, or all up to the end of the stream.
    pub(crate) fn is_complete(&self, ended: bool) -> bool {
        match self.expected {
            Some(expected) => self.passed == expected,
            None => ended,
        }
    }

    /// Whether a session that ends with success may end here: nothing is known to be missing.
    pub(crate) fn may_end(&self) -> bool {
        self.expected.is_none_or(|expected| self.passed == expected)
    }

    /// How many bytes there are, of how many, when some are missing.
    pub(crate) fn missing(&self) -> Option<(u64, u64)> {
        let expected = self.expected?;
        (self.passed < expected).then_some((self.passed, expected))
    }

    /// What the hashes say, once every byte is there. `wire`: those of the stream where it is encrypted, which some name
    /// instead of the file's (jingle-peers: 3.1).
    pub(crate) fn judge(&self, wire: &[Hash]) -> Judgement {
        let whole = self.whole.as_ref().filter(|_| self.to_end);
        let whole = whole.and_then(|hasher| compare(&hasher.hashes(), &self.hashes));
        let whole = match (whole, compare(wire, &self.hashes)) {
            (Some((_, false)), Some((algorithm, true))) => Some((algorithm, true)),
            (whole, _) => whole,
        };
        let part = self
            .part
            .as_ref()
            .and_then(|hasher| compare(&hasher.hashes(), &self.part_hashes));
        match (whole, part) {
            (Some((algorithm, false)), _) | (_, Some((algorithm, false))) => {
                Judgement::Differs(algorithm)
            }
            (Some((algorithm, true)), _) => Judgement::Equal(algorithm),
            (None, Some((algorithm, true))) => Judgement::EqualPart(algorithm),
            (None, None) => Judgement::Open {
                announced: self.announced,
            },
        }
    }

    /// What is in front of the part, for one who sends it. Whether it is of use: nothing has passed yet.
    pub(crate) fn prime(&mut self, prefix: Hasher) -> bool {
        let fits = self.passed == 0 && prefix.length() == self.offset;
        if fits && !self.awaits {
            self.whole = Some(prefix);
        }
        fits
    }

    /// The hashes so far.
    pub(crate) fn hashes(&self) -> Vec<Hash> {
        let hasher = self.whole.as_ref().or(self.part.as_ref());
        hasher.map_or_else(Vec::new, Hasher::hashes)
    }

    /// What the peer does not know yet of the hashes of what we sent.
    pub(crate) fn checksum(&self) -> Option<File> {
        // Of a part the receiver may not have what is in front of it: only the part's own hash tells it something.
        if !self.announced && self.part.is_none() {
            return None;
        }
        let whole = self
            .whole
            .as_ref()
            .filter(|_| self.to_end)
            .map_or_else(Vec::new, Hasher::hashes);
        let range = self.part.as_ref().map(|part| FileRange {
            offset: self.offset,
            length: Some(self.passed),
            hashes: part.hashes(),
        });
        Some(File {
            hashes: whole,
            range,
            ..File::default()
        })
    }

    fn count(&mut self, bytes: &[u8]) {
        self.passed += bytes.len() as u64;
        for hasher in self.whole.iter_mut().chain(&mut self.part) {
            hasher.update(bytes);
        }
    }

    fn is_ours(&self, range: &FileRange) -> bool {
        range.offset == self.offset
            && self.part.is_some()
            && (range.length.is_none() || self.expected.is_none() || range.length == self.expected)
    }
}

/// Keeps what a peer names first of each algorithm, and a second word that differs, which then decides.
fn add(hashes: &mut Vec<Hash>, more: &[Hash]) {
    for hash in more {
        if !hashes.contains(hash) && hashes.len() < crate::file_limits::HASHES * 2 {
            hashes.push(hash.clone());
        }
    }
}
