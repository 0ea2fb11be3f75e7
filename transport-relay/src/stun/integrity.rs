//! MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 §14.5, §14.7).

use super::{HEADER_SIZE, StunError, kind};
use md5::{Digest as _, Md5};
use sha1::{Sha1, block_api::compress};
use std::fmt;
use subtle::ConstantTimeEq as _;

/// Bytes of a MESSAGE-INTEGRITY value.
pub(super) const INTEGRITY_SIZE: usize = 20;
/// Bytes of a FINGERPRINT value.
pub(super) const FINGERPRINT_SIZE: usize = 4;
/// Bytes of an attribute before its value.
pub(super) const ATTRIBUTE_HEADER: usize = 4;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Bytes of a block of SHA-1.
const BLOCK: usize = 64;
/// Bytes at the end of the last block that tell the length.
const LENGTH: usize = 8;
/// What SHA-1 starts from (FIPS 180-4 §5.3.1).
const START: [u32; 5] = [
    0x6745_2301,
    0xefcd_ab89,
    0x98ba_dcfe,
    0x1032_5476,
    0xc3d2_e1f0,
];

/// A key for MESSAGE-INTEGRITY, prepared once: HMAC-SHA1 (RFC 2104) with the block of the key already absorbed.
///
/// It holds these two states and nothing else, because each session keeps several keys, and a check is sealed by
/// three runs of SHA-1's compression, beside which the copies of a general HMAC are half as much again.
#[derive(Clone)]
pub struct IntegrityKey {
    inner: [u32; 5],
    outer: [u32; 5],
}

impl IntegrityKey {
    /// Of the short-term credentials of ICE: the password (RFC 8489 §9.1.1). Passwords of ICE are ASCII, so that
    /// OpaqueString leaves them as they are.
    pub fn short_term(password: &str) -> Self {
        Self::from_bytes(password.as_bytes())
    }

    /// Of the long-term credentials of TURN (RFC 8489 §9.2.2, with MD5). All three are taken as already prepared by
    /// SASLprep or OpaqueString; ASCII needs no preparation.
    pub fn long_term(username: &str, realm: &str, password: &str) -> Self {
        let mut digest = Md5::new();
        for part in [username, ":", realm, ":", password] {
            digest.update(part.as_bytes());
        }
        Self::from_bytes(&digest.finalize())
    }

    /// Of any bytes.
    pub fn from_bytes(key: &[u8]) -> Self {
        let mut block = [0; BLOCK];
        if key.len() > BLOCK {
            block[..INTEGRITY_SIZE].copy_from_slice(&Sha1::digest(key));
        } else {
            block[..key.len()].copy_from_slice(key);
        }
        let absorb = |pad: u8| {
            let mut state = START;
            compress(&mut state, &[block.map(|byte| byte ^ pad)]);
            state
        };
        Self {
            inner: absorb(0x36),
            outer: absorb(0x5c),
        }
    }

    /// Appends MESSAGE-INTEGRITY to a message whose attributes so far are complete, and sets its length.
    pub(super) fn seal(&self, message: &mut Vec<u8>) {
        let end = message.len() + ATTRIBUTE_HEADER + INTEGRITY_SIZE;
        set_length(message, end);
        let value = self.mac(&[], message);
        message.extend_from_slice(&kind::MESSAGE_INTEGRITY.to_be_bytes());
        message.extend_from_slice(&(INTEGRITY_SIZE as u16).to_be_bytes());
        message.extend_from_slice(&value);
    }

    /// Compares in constant time.
    pub(super) fn verify(&self, message: &[u8], attribute: usize) -> Result<(), StunError> {
        let value = attribute + ATTRIBUTE_HEADER;
        let (Some(found), Some(covered)) = (
            message.get(value..value + INTEGRITY_SIZE),
            message.get(4..attribute),
        ) else {
            return Err(StunError::WrongIntegrity);
        };
        // The length that counts ends with this attribute, whatever follows it.
        let length = ((value + INTEGRITY_SIZE - HEADER_SIZE) as u16).to_be_bytes();
        let head = [message[0], message[1], length[0], length[1]];
        if bool::from(self.mac(&head, covered).ct_eq(found)) {
            Ok(())
        } else {
            Err(StunError::WrongIntegrity)
        }
    }

    /// HMAC-SHA1 of two pieces, of which the first is shorter than a block.
    fn mac(&self, head: &[u8], rest: &[u8]) -> [u8; INTEGRITY_SIZE] {
        let mut state = self.inner;
        let mut block = [0; BLOCK];
        block[..head.len()].copy_from_slice(head);
        let (mut filled, mut left) = (head.len(), rest);
        if filled > 0 && left.len() >= BLOCK - filled {
            let (now, later) = left.split_at(BLOCK - filled);
            block[filled..].copy_from_slice(now);
            compress(&mut state, &[block]);
            (filled, left) = (0, later);
        }
        if filled == 0 {
            let (blocks, later) = left.as_chunks();
            compress(&mut state, blocks);
            left = later;
        }
        block[filled..filled + left.len()].copy_from_slice(left);
        filled += left.len();
        let inner = finish(state, block, filled, head.len() + rest.len());

        let mut block = [0; BLOCK];
        block[..INTEGRITY_SIZE].copy_from_slice(&inner);
        finish(self.outer, block, INTEGRITY_SIZE, INTEGRITY_SIZE)
    }
}

/// The hash of `total` bytes after the block of a key, of which the last `filled` are in `block`.
fn finish(
    mut state: [u32; 5],
    mut block: [u8; BLOCK],
    filled: usize,
    total: usize,
) -> [u8; INTEGRITY_SIZE] {
    block[filled] = 0x80;
    block[filled + 1..].fill(0);
    if filled >= BLOCK - LENGTH {
        compress(&mut state, &[block]);
        block = [0; BLOCK];
    }
    let bits = 8 * (BLOCK + total) as u64;
    block[BLOCK - LENGTH..].copy_from_slice(&bits.to_be_bytes());
    compress(&mut state, &[block]);
    let mut hash = [0; INTEGRITY_SIZE];
    for (place, word) in hash.chunks_exact_mut(4).zip(state) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    hash
}

impl fmt::Debug for IntegrityKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntegrityKey(..)")
    }
}

/// Appends FINGERPRINT to a complete message and sets its length.
pub(super) fn append_fingerprint(message: &mut Vec<u8>) {
    let end = message.len() + ATTRIBUTE_HEADER + FINGERPRINT_SIZE;
    set_length(message, end);
    let value = crc32fast::hash(message) ^ FINGERPRINT_XOR;
    message.extend_from_slice(&kind::FINGERPRINT.to_be_bytes());
    message.extend_from_slice(&(FINGERPRINT_SIZE as u16).to_be_bytes());
    message.extend_from_slice(&value.to_be_bytes());
}

/// The attribute must be the last of the message.
pub(super) fn verify_fingerprint(message: &[u8], attribute: usize) -> Result<(), StunError> {
    let Some((covered, last)) = message.split_at_checked(attribute) else {
        return Err(StunError::NoFingerprint);
    };
    let Some(found) = last
        .get(ATTRIBUTE_HEADER..)
        .and_then(|v| v.try_into().ok())
        .map(u32::from_be_bytes)
    else {
        return Err(StunError::NoFingerprint);
    };
    if found == crc32fast::hash(covered) ^ FINGERPRINT_XOR {
        Ok(())
    } else {
        Err(StunError::WrongFingerprint)
    }
}

/// Makes a message say that it is `end` bytes long, its header included.
pub(super) fn set_length(message: &mut [u8], end: usize) {
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&((end - HEADER_SIZE) as u16).to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hmac::{Hmac, KeyInit as _, Mac as _};
    use proptest::prelude::*;

    proptest! {
        /// Of every length around the ends of blocks, it is what another HMAC says.
        #[test]
        fn it_is_hmac_sha1(
            key in proptest::collection::vec(any::<u8>(), 0..200),
            message in proptest::collection::vec(any::<u8>(), 0..300),
            head in 0_usize..5,
        ) {
            let (first, rest) = message.split_at(head.min(message.len()));
            let mut other = Hmac::<Sha1>::new_from_slice(&key).unwrap();
            other.update(&message);
            let expected = other.finalize().into_bytes();
            prop_assert_eq!(&IntegrityKey::from_bytes(&key).mac(first, rest)[..], &expected[..]);
        }
    }
}
