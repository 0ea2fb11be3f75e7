//! Going on with a file that was interrupted: what has to be known of it, and how that is kept.

mod journal;

pub use journal::{Journal, JournalError, JournalState};

use crate::{
    Acceptance, File, FileName, FileRange, Hash, HashAlgorithm, Hasher, OWN, Proposal,
    hash::{HASHES, compare},
};
use session_core::Element;

/// What is known of a file of which only the beginning is there.
///
/// It is what a new session, over whatever transport, needs to go on: which file, how much of it is here, and the hash of
/// that. A program keeps it in a [`Journal`] beside the partial file. It says what *was* on the disk: before it is used,
/// what is there now is hashed and shown to [`holds`](Self::holds).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumeToken {
    /// The file, as it was offered.
    pub file: File,
    /// How many bytes from its beginning are here.
    pub offset: u64,
    /// The hash of these.
    pub prefix: Hash,
}

impl ResumeToken {
    /// A token for what `hasher` has seen; `None` when it computes nothing.
    pub fn new(file: File, hasher: &Hasher) -> Option<Self> {
        let prefix = hasher.hashes().into_iter().max_by_key(Hash::algorithm)?;
        Some(Self {
            file,
            offset: hasher.length(),
            prefix,
        })
    }

    /// The algorithms with which to hash what is there, so that it can be compared with the token, and the whole file with
    /// what its sender says of it.
    pub fn algorithms(&self) -> Vec<HashAlgorithm> {
        let announced = self
            .file
            .hash_used
            .iter()
            .filter_map(|name| HashAlgorithm::from_name(name));
        let named = self.file.hashes.iter().filter_map(Hash::algorithm);
        let mut all: Vec<_> = announced
            .chain(named)
            .chain(self.prefix.algorithm())
            .collect();
        all.sort_unstable();
        all.dedup();
        all
    }

    /// Whether what `hasher` has seen is what the token speaks of.
    pub fn holds(&self, hasher: &Hasher) -> bool {
        let same = compare(&hasher.hashes(), std::slice::from_ref(&self.prefix));
        hasher.length() == self.offset && same.is_some_and(|(_, equal)| equal)
    }

    /// Whether an offered file can be the one that was interrupted: of the same size, with a hash in common where both name
    /// one, else with the same name and date. That it is, its hash tells in the end; where neither that nor a date is told,
    /// nothing says so.
    pub fn continues(&self, offered: &File) -> bool {
        can_be(&self.file, offered) && offered.size.is_none_or(|size| size >= self.offset)
    }

    /// How an offer of the file is accepted, with the hasher of what is there.
    pub fn acceptance(&self, name: Option<FileName>, hasher: Hasher) -> Acceptance {
        Acceptance {
            name,
            offset: self.offset,
            prefix: Some(hasher),
            tree: false,
        }
    }

    /// What asks the peer for the rest, with the hasher of what is there.
    pub fn request(&self, hasher: Hasher) -> Proposal {
        let selector = File {
            name: self.file.name.clone(),
            size: self.file.size,
            hashes: self.file.hashes.clone(),
            range: Some(FileRange::from_offset(self.offset)),
            ..File::default()
        };
        Proposal::Request(selector, Some(hasher))
    }
}

/// Whether a file that is offered can be one that is known.
pub(crate) fn can_be(known: &File, offered: &File) -> bool {
    if known.size != offered.size {
        return false;
    }
    match compare(&known.hashes, &offered.hashes) {
        Some((_, equal)) => equal,
        None => {
            let told = offered.date.is_some() || !offered.hash_used.is_empty();
            let proven = told || !offered.hashes.is_empty();
            known.name == offered.name && known.date == offered.date && proven
        }
    }
}

/// The mark in `<file/>` that tells the sender the hash of what the receiver has, so that it can compare before it sends.
/// Others ignore it.
pub(crate) fn prefix_mark(prefix: &Hasher) -> Option<Element> {
    let hashes = prefix.hashes();
    let mark = Element::new(OWN, "prefix").with("bytes", prefix.length());
    (!hashes.is_empty()).then(|| mark.children_from(hashes.iter().map(Hash::to_element)))
}

/// What the receiver says that it has: how many bytes, and their hashes.
pub(crate) fn claim(file: &File) -> Option<(u64, Vec<Hash>)> {
    let mark = file.extra.iter().find(|extra| extra.is(OWN, "prefix"))?;
    let bytes = mark.attribute("bytes")?.parse().ok()?;
    let hashes = mark.children().filter(|child| child.is(HASHES, "hash"));
    let hashes = hashes.take(HashAlgorithm::ALL.len());
    Some((
        bytes,
        hashes
            .filter_map(|hash| Hash::from_element(hash).ok()?)
            .collect(),
    ))
}
