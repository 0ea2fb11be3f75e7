//! AES in Galois counter mode (NIST SP 800-38D) over a stream, of which only a piece is here at a time.

use super::{IV_BYTES, JET_BYTES_MAX, JET_TAG_BYTES, JetCipher, JetError, JetSecret};
use aes::{
    Aes128, Aes256,
    cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipher},
};
use ctr::{Ctr32BE, CtrCore};
use ghash::{GHash, universal_hash::UniversalHash};
use std::fmt;
use subtle::ConstantTimeEq as _;

/// Bytes of a block.
const BLOCK: usize = 16;

/// Bytes of a stream that are encrypted, and hashed as they then are.
enum Keystream {
    Short(Box<Ctr32BE<Aes128>>),
    Long(Box<Ctr32BE<Aes256>>),
}

/// What both directions share: the key stream, and the hash of what is encrypted.
struct Galois {
    stream: Keystream,
    hash: GHash,
    /// The beginning of a block that is not full.
    rest: [u8; BLOCK],
    held: usize,
    bytes: u64,
    /// What the tag is masked with.
    mask: [u8; BLOCK],
}

impl Galois {
    fn new(secret: &JetSecret) -> Self {
        let mut counter = [0; BLOCK];
        counter[..IV_BYTES].copy_from_slice(secret.iv());
        counter[BLOCK - 1] = 1;
        let (mut mask, mut zero) = (counter, [0; BLOCK]);
        // The first counter is the tag's.
        counter[BLOCK - 1] = 2;
        let stream = match secret.cipher() {
            JetCipher::Aes128Gcm => {
                let mut key = [0; 16];
                key.copy_from_slice(secret.key());
                let cipher = Aes128::new(&key.into());
                begin(&cipher, &mut mask, &mut zero);
                let core = CtrCore::inner_iv_init(cipher, &counter.into());
                Keystream::Short(Box::new(Ctr32BE::from_core(core)))
            }
            JetCipher::Aes256Gcm => {
                let mut key = [0; 32];
                key.copy_from_slice(secret.key());
                let cipher = Aes256::new(&key.into());
                begin(&cipher, &mut mask, &mut zero);
                let core = CtrCore::inner_iv_init(cipher, &counter.into());
                Keystream::Long(Box::new(Ctr32BE::from_core(core)))
            }
        };
        Self {
            stream,
            hash: GHash::new(&zero.into()),
            rest: [0; BLOCK],
            held: 0,
            bytes: 0,
            mask,
        }
    }

    /// Counts more bytes.
    fn take(&mut self, count: usize) -> Result<(), JetError> {
        let bytes = self.bytes.saturating_add(count as u64);
        if bytes > JET_BYTES_MAX {
            return Err(JetError::TooLong);
        }
        self.bytes = bytes;
        Ok(())
    }

    fn apply(&mut self, bytes: &mut [u8]) {
        match &mut self.stream {
            Keystream::Short(stream) => stream.apply_keystream(bytes),
            Keystream::Long(stream) => stream.apply_keystream(bytes),
        }
    }

    /// Hashes what is encrypted.
    fn pass(&mut self, mut bytes: &[u8]) {
        if self.held > 0 {
            let count = bytes.len().min(BLOCK - self.held);
            self.rest[self.held..self.held + count].copy_from_slice(&bytes[..count]);
            self.held += count;
            bytes = &bytes[count..];
            if self.held < BLOCK {
                return;
            }
            self.hash.update(&[self.rest.into()]);
            self.held = 0;
        }
        let whole = bytes.len() - bytes.len() % BLOCK;
        self.hash.update_padded(&bytes[..whole]);
        self.held = bytes.len() - whole;
        self.rest[..self.held].copy_from_slice(&bytes[whole..]);
    }

    fn tag(mut self) -> [u8; JET_TAG_BYTES] {
        self.hash.update_padded(&self.rest[..self.held]);
        let mut lengths = [0; BLOCK];
        lengths[8..].copy_from_slice(&(self.bytes * 8).to_be_bytes());
        self.hash.update(&[lengths.into()]);
        let mut tag: [u8; BLOCK] = self.hash.finalize().into();
        tag.iter_mut()
            .zip(self.mask)
            .for_each(|(byte, mask)| *byte ^= mask);
        tag
    }
}

/// The mask of the tag, and the key of the hash.
fn begin<C>(cipher: &C, mask: &mut [u8; BLOCK], zero: &mut [u8; BLOCK])
where
    C: BlockCipherEncrypt<BlockSize = aes::cipher::consts::U16>,
{
    for block in [mask, zero] {
        let mut encrypted = (*block).into();
        cipher.encrypt_block(&mut encrypted);
        *block = encrypted.into();
    }
}

/// Encrypts a file, piece by piece.
pub struct JetSealer(Galois);

impl JetSealer {
    /// For one file.
    pub fn new(secret: &JetSecret) -> Self {
        Self(Galois::new(secret))
    }

    /// Encrypts the next bytes where they are.
    ///
    /// # Errors
    /// [`JetError::TooLong`]; they stay as they are.
    pub fn seal(&mut self, bytes: &mut [u8]) -> Result<(), JetError> {
        self.0.take(bytes.len())?;
        self.0.apply(bytes);
        self.0.pass(bytes);
        Ok(())
    }

    /// What follows the last byte.
    pub fn finish(self) -> [u8; JET_TAG_BYTES] {
        self.0.tag()
    }
}

/// Decrypts a file, piece by piece. What it gives is the file only when [`finish`](Self::finish) has said so: nobody may use
/// it before.
pub struct JetOpener {
    galois: Galois,
    /// The last bytes so far: what may be the tag.
    last: Vec<u8>,
}

impl JetOpener {
    /// For one file.
    pub fn new(secret: &JetSecret) -> Self {
        Self {
            galois: Galois::new(secret),
            last: Vec::new(),
        }
    }

    /// Decrypts the next bytes. The last of all are held back, as they may be the tag.
    ///
    /// # Errors
    /// [`JetError::TooLong`].
    pub fn open(&mut self, bytes: &[u8]) -> Result<Vec<u8>, JetError> {
        let mut text = std::mem::take(&mut self.last);
        text.extend_from_slice(bytes);
        self.last = text.split_off(text.len().saturating_sub(JET_TAG_BYTES));
        self.galois.take(text.len())?;
        self.galois.pass(&text);
        self.galois.apply(&mut text);
        Ok(text)
    }

    /// Judges what came, when nothing more does.
    ///
    /// # Errors
    /// [`JetError::Tag`]: nothing of it may be used.
    pub fn finish(self) -> Result<(), JetError> {
        let tag = self.galois.tag();
        match bool::from(tag[..].ct_eq(&self.last[..])) {
            true => Ok(()),
            false => Err(JetError::Tag),
        }
    }
}

impl fmt::Debug for JetSealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetSealer")
            .field("bytes", &self.0.bytes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JetOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetOpener")
            .field("bytes", &self.galois.bytes)
            .finish_non_exhaustive()
    }
}
