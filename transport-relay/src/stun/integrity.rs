//! MESSAGE-INTEGRITY and FINGERPRINT (RFC 8489 §14.5, §14.7).

use super::{HEADER_SIZE, StunError, kind};
use hmac::{Hmac, KeyInit, Mac};
use md5::{Digest as _, Md5};
use sha1::Sha1;
use std::fmt;

/// Bytes of a MESSAGE-INTEGRITY value.
pub(super) const INTEGRITY_SIZE: usize = 20;
/// Bytes of a FINGERPRINT value.
pub(super) const FINGERPRINT_SIZE: usize = 4;
/// Bytes of an attribute before its value.
pub(super) const ATTRIBUTE_HEADER: usize = 4;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// A key for MESSAGE-INTEGRITY, prepared once: HMAC-SHA1 with its two blocks already absorbed.
#[derive(Clone)]
pub struct IntegrityKey(Hmac<Sha1>);

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
        // HMAC takes a key of any length; the fallback is there for the type, and equals no key that is in use.
        Self(
            Hmac::<Sha1>::new_from_slice(key)
                .unwrap_or_else(|_| Hmac::<Sha1>::new(&Default::default())),
        )
    }

    /// Appends MESSAGE-INTEGRITY to a message whose attributes so far are complete, and sets its length.
    pub(super) fn seal(&self, message: &mut Vec<u8>) {
        let end = message.len() + ATTRIBUTE_HEADER + INTEGRITY_SIZE;
        set_length(message, end);
        let mut mac = self.0.clone();
        mac.update(message);
        message.extend_from_slice(&kind::MESSAGE_INTEGRITY.to_be_bytes());
        message.extend_from_slice(&(INTEGRITY_SIZE as u16).to_be_bytes());
        message.extend_from_slice(&mac.finalize().into_bytes());
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
        let mut mac = self.0.clone();
        mac.update(&message[..2]);
        // The length that counts ends with this attribute, whatever follows it.
        mac.update(&((value + INTEGRITY_SIZE - HEADER_SIZE) as u16).to_be_bytes());
        mac.update(covered);
        mac.verify_slice(found)
            .map_err(|_| StunError::WrongIntegrity)
    }
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
