//! Hashing while bytes pass by.

use super::{Hash, HashAlgorithm};
use blake2::{Blake2b256, Blake2b512};
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};
use sha3::{Sha3_256, Sha3_512};
use std::fmt;

/// Computes one or several hashes of bytes that pass by, in one go.
///
/// It can be asked at any time, and goes on after that; a clone goes its own way. So the hash of a prefix costs no
/// second reading, and a transfer that resumes begins with the hasher of what is there.
///
/// ```
/// use session_file::{HashAlgorithm, Hasher};
/// let mut hasher = Hasher::new([HashAlgorithm::Sha256]);
/// hasher.update(b"a");
/// let prefix = hasher.hashes();
/// hasher.update(b"bc");
/// assert_eq!(hasher.length(), 3);
/// assert_ne!(hasher.hashes(), prefix);
/// assert!(hasher.hashes()[0].to_string().starts_with("sha-256:ba7816bf"));
/// ```
#[derive(Clone, Default)]
pub struct Hasher {
    states: Vec<State>,
    length: u64,
}

#[derive(Clone)]
enum State {
    Sha1(Sha1),
    Sha256(Sha256),
    Sha512(Sha512),
    Sha3_256(Sha3_256),
    Sha3_512(Sha3_512),
    Blake2b256(Blake2b256),
    Blake2b512(Blake2b512),
}

/// The same for each function.
macro_rules! each {
    ($state:expr, $digest:ident => $do:expr) => {
        match $state {
            State::Sha1($digest) => $do,
            State::Sha256($digest) => $do,
            State::Sha512($digest) => $do,
            State::Sha3_256($digest) => $do,
            State::Sha3_512($digest) => $do,
            State::Blake2b256($digest) => $do,
            State::Blake2b512($digest) => $do,
        }
    };
}

impl Hasher {
    /// A hasher for these algorithms; each is computed once, however often it is named.
    pub fn new(algorithms: impl IntoIterator<Item = HashAlgorithm>) -> Self {
        let mut wanted: Vec<HashAlgorithm> = algorithms.into_iter().collect();
        wanted.sort_unstable();
        wanted.dedup();
        Self {
            states: wanted.into_iter().map(State::new).collect(),
            length: 0,
        }
    }

    /// The next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        for state in &mut self.states {
            each!(state, digest => digest.update(bytes));
        }
    }

    /// How many bytes there were.
    pub fn length(&self) -> u64 {
        self.length
    }

    /// What is computed.
    pub fn algorithms(&self) -> impl Iterator<Item = HashAlgorithm> {
        self.states.iter().map(State::algorithm)
    }

    /// The hashes of the bytes so far. Nothing is disturbed.
    pub fn hashes(&self) -> Vec<Hash> {
        let digest = |state: &State| {
            let value = each!(state.clone(), digest => digest.finalize().to_vec());
            Hash::new(state.algorithm(), &value)
        };
        self.states.iter().filter_map(digest).collect()
    }
}

impl State {
    fn new(algorithm: HashAlgorithm) -> Self {
        match algorithm {
            HashAlgorithm::Sha1 => Self::Sha1(Sha1::new()),
            HashAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            HashAlgorithm::Sha512 => Self::Sha512(Sha512::new()),
            HashAlgorithm::Sha3_256 => Self::Sha3_256(Sha3_256::new()),
            HashAlgorithm::Sha3_512 => Self::Sha3_512(Sha3_512::new()),
            HashAlgorithm::Blake2b256 => Self::Blake2b256(Blake2b256::new()),
            HashAlgorithm::Blake2b512 => Self::Blake2b512(Blake2b512::new()),
        }
    }

    fn algorithm(&self) -> HashAlgorithm {
        match self {
            Self::Sha1(_) => HashAlgorithm::Sha1,
            Self::Sha256(_) => HashAlgorithm::Sha256,
            Self::Sha512(_) => HashAlgorithm::Sha512,
            Self::Sha3_256(_) => HashAlgorithm::Sha3_256,
            Self::Sha3_512(_) => HashAlgorithm::Sha3_512,
            Self::Blake2b256(_) => HashAlgorithm::Blake2b256,
            Self::Blake2b512(_) => HashAlgorithm::Blake2b512,
        }
    }
}

impl fmt::Debug for Hasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hasher")
            .field("algorithms", &self.algorithms().collect::<Vec<_>>())
            .field("length", &self.length)
            .finish()
    }
}
