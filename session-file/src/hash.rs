//! Hashes of files: names, values, elements (XEP-0300), and hashing while bytes stream.

mod hasher;

pub use hasher::Hasher;

use base64::{
    Engine, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use session_core::{Element, ElementRef, PeerError};
use std::{fmt, sync::Arc};

/// The namespace of `<hash/>` and `<hash-used/>` (XEP-0300 §8.1).
pub const HASHES: &str = "urn:xmpp:hashes:2";

/// Most bytes of a value whose algorithm we do not know.
pub const HASH_BYTES_MAX: usize = 128;

/// Most bytes of an algorithm's name.
pub const HASH_NAME_MAX: usize = 64;

/// Some peers leave the padding out; none of ours does.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The hash functions that we can compute, weakest first: of two that both sides know, the greater is the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HashAlgorithm {
    /// SHA-1 (RFC 3174). For old peers only: it does not withstand a peer that wants two files to look alike.
    Sha1,
    /// SHA-256 (FIPS 180-4).
    Sha256,
    /// SHA-512 (FIPS 180-4).
    Sha512,
    /// SHA3-256 (FIPS 202).
    Sha3_256,
    /// SHA3-512 (FIPS 202).
    Sha3_512,
    /// BLAKE2b with a digest of 256 bits (RFC 7693).
    Blake2b256,
    /// BLAKE2b with a digest of 512 bits (RFC 7693).
    Blake2b512,
}

impl HashAlgorithm {
    /// All of them, weakest first.
    pub const ALL: [Self; 7] = [
        Self::Sha1,
        Self::Sha256,
        Self::Sha512,
        Self::Sha3_256,
        Self::Sha3_512,
        Self::Blake2b256,
        Self::Blake2b512,
    ];

    /// The name in `<hash algo=…/>` (IANA's hash function textual names, and the table of XEP-0300 §3).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha1 => "sha-1",
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
            Self::Sha3_256 => "sha3-256",
            Self::Sha3_512 => "sha3-512",
            Self::Blake2b256 => "blake2b-256",
            Self::Blake2b512 => "blake2b-512",
        }
    }

    /// The algorithm of this name, in any case of letters.
    pub fn from_name(name: &str) -> Option<Self> {
        let named = |a: &Self| a.as_str().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(named)
    }

    /// The feature that says to others that we know it (XEP-0300 §8.3, whose registry spells BLAKE2 in its own way).
    pub fn feature(self) -> String {
        let name = match self {
            Self::Blake2b256 => "id-blake2b256",
            Self::Blake2b512 => "id-blake2b512",
            Self::Sha1 | Self::Sha256 | Self::Sha512 | Self::Sha3_256 | Self::Sha3_512 => {
                self.as_str()
            }
        };
        format!("urn:xmpp:hash-function-text-names:{name}")
    }

    /// Bytes of a digest.
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 | Self::Sha3_256 | Self::Blake2b256 => 32,
            Self::Sha512 | Self::Sha3_512 | Self::Blake2b512 => 64,
        }
    }
}

impl fmt::Display for HashAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The digest of something, and how it was made: `<hash xmlns='urn:xmpp:hashes:2' algo='sha-256'>…</hash>`.
///
/// An algorithm that we do not know is kept as it came, so that it can be handed on.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hash {
    name: Arc<str>,
    value: Arc<[u8]>,
}

impl Hash {
    /// A digest of a known algorithm; `None` when it has not as many bytes as the algorithm makes.
    pub fn new(algorithm: HashAlgorithm, digest: &[u8]) -> Option<Self> {
        (digest.len() == algorithm.digest_bytes()).then(|| Self {
            name: algorithm.as_str().into(),
            value: digest.into(),
        })
    }

    /// The algorithm, if we know it.
    pub fn algorithm(&self) -> Option<HashAlgorithm> {
        HashAlgorithm::from_name(&self.name)
    }

    /// The algorithm's name as it was written.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The digest.
    pub fn value(&self) -> &[u8] {
        &self.value
    }

    /// The digest in Base64, as the element carries it.
    pub fn to_base64(&self) -> String {
        BASE64.encode(&self.value)
    }

    /// A digest of a known algorithm, in Base64.
    ///
    /// # Errors
    /// [`PeerError::Malformed`] with the field `hash`.
    pub fn from_base64(algorithm: HashAlgorithm, text: &str) -> Result<Self, PeerError> {
        Self::new(algorithm, &decode(text)?).ok_or_else(|| malformed(WRONG_LENGTH))
    }

    /// `<hash/>`.
    pub fn to_element(&self) -> Element {
        Element::new(HASHES, "hash")
            .with("algo", &self.name)
            .text(&self.to_base64())
    }

    /// The meaning of a `<hash/>`; `None` for one without a value, which only announces its algorithm
    /// (XEP-0234 §5, as older versions wrote it).
    ///
    /// # Errors
    /// [`PeerError::Malformed`] with the field `hash` or `algo`.
    pub fn from_element(element: ElementRef<'_>) -> Result<Option<Self>, PeerError> {
        let name = algorithm_name(element)?;
        let text = element.text_content();
        if text.bytes().all(|b| b.is_ascii_whitespace()) {
            return Ok(None);
        }
        let mut value = decode(&text)?;
        if let Some(algorithm) = HashAlgorithm::from_name(name) {
            value = from_hexadecimal(algorithm, &value).unwrap_or(value);
        }
        match HashAlgorithm::from_name(name) {
            Some(algorithm) if value.len() != algorithm.digest_bytes() => {
                return Err(malformed(WRONG_LENGTH));
            }
            None if value.is_empty() || value.len() > HASH_BYTES_MAX => {
                return Err(malformed(WRONG_LENGTH));
            }
            Some(_) | None => {}
        }
        Ok(Some(Self {
            name: name.into(),
            value: value.into(),
        }))
    }
}

const WRONG_LENGTH: &str = "a digest of the wrong length";

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hash({self})")
    }
}

/// The algorithm, a colon and the digest in hexadecimal.
impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name)?;
        self.value
            .iter()
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// `<hash-used/>`: with what the hash will be made that follows later.
pub(crate) fn hash_used(name: &str) -> Element {
    Element::new(HASHES, "hash-used").with("algo", name)
}

/// The name that a `<hash/>` or a `<hash-used/>` gives its algorithm.
pub(crate) fn algorithm_name(element: ElementRef<'_>) -> Result<&str, PeerError> {
    let problem = match element.attribute("algo") {
        None => "missing",
        Some("") => "empty",
        Some(name) if name.len() > HASH_NAME_MAX => "too long",
        Some(name) => return Ok(name),
    };
    Err(PeerError::Malformed {
        field: "algo",
        problem,
    })
}

/// Whether the hashes that we computed are those that were named, as far as they can be compared, and by which algorithm.
pub(crate) fn compare(computed: &[Hash], named: &[Hash]) -> Option<(HashAlgorithm, bool)> {
    let common = named.iter().filter_map(|hash| {
        let algorithm = hash.algorithm()?;
        let ours = computed.iter().find(|h| h.algorithm() == Some(algorithm))?;
        Some((algorithm, hash.value == ours.value))
    });
    // One that differs decides: a peer that gives two must give two that are right.
    let mut best: Option<(HashAlgorithm, bool)> = None;
    for (algorithm, equal) in common {
        best = match best {
            Some((known, false)) => Some((known, false)),
            Some((known, true)) if equal => Some((known.max(algorithm), true)),
            Some((_, true)) | None => Some((algorithm, equal)),
        };
    }
    best
}

fn decode(text: &str) -> Result<Vec<u8>, PeerError> {
    // Written without blanks (XEP-0300 §3), but indented by some.
    let compact: Vec<u8> = text.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if compact.len() > HASH_BYTES_MAX * 2 {
        return Err(malformed("too long"));
    }
    BASE64.decode(compact).map_err(|_| malformed("not Base64"))
}

/// What was meant by digits in place of bytes: Libervia puts the hexadecimal form into Base64.
fn from_hexadecimal(algorithm: HashAlgorithm, value: &[u8]) -> Option<Vec<u8>> {
    if value.len() != 2 * algorithm.digest_bytes() {
        return None;
    }
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let byte = |pair: &[u8]| u8::try_from(digit(pair[0])? * 16 + digit(pair[1])?).ok();
    value.chunks_exact(2).map(byte).collect()
}

fn malformed(problem: &'static str) -> PeerError {
    PeerError::Malformed {
        field: "hash",
        problem,
    }
}

#[cfg(test)]
#[path = "hash/tests.rs"]
mod tests;
