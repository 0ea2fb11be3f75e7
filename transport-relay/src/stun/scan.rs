//! A look at the type-length-values, before anything is believed.

use super::integrity::{FINGERPRINT_SIZE, INTEGRITY_SIZE, IntegrityKey, verify_fingerprint};
use super::message::{self, Message};
use super::{
    ATTRIBUTES_MAX, Class, HEADER_SIZE, MAGIC_COOKIE, MESSAGE_MAX, Method, StunError,
    TransactionId, kind,
};

/// What can be said of a message without believing it. Borrows the bytes and allocates nothing.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    username: Option<&'a [u8]>,
    realm: Option<&'a [u8]>,
    nonce: Option<&'a [u8]>,
    data: Option<&'a [u8]>,
    /// Where the attribute stands.
    integrity: Option<usize>,
    fingerprint: Option<usize>,
    /// Where reading ends: at the integrity, else at the fingerprint, else at the end.
    end: usize,
}

impl<'a> Scan<'a> {
    /// Whether it looks like STUN: what RFC 8489 §5 and RFC 9443 tell apart by. Cheap, for the data path; that the
    /// attributes are well-formed it does not say.
    pub fn is_stun(bytes: &[u8]) -> bool {
        bytes.len() >= HEADER_SIZE
            && bytes[0] < 4
            && bytes[4..8] == MAGIC_COOKIE
            && usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) + HEADER_SIZE == bytes.len()
            && bytes.len().is_multiple_of(4)
    }

    /// Looks at a datagram, which must be one message and nothing more.
    ///
    /// # Errors
    /// [`StunError::NotStun`], [`StunError::Truncated`], [`StunError::TooManyAttributes`].
    pub fn new(bytes: &'a [u8]) -> Result<Self, StunError> {
        if !Self::is_stun(bytes) || bytes.len() > MESSAGE_MAX {
            return Err(StunError::NotStun);
        }
        Self::walk(bytes)
    }

    /// Whether it may be a Binding message of RFC 3489 §11.1, which has no cookie: its type and its length say so, and
    /// so may those of other data. Only for peers that are known to speak so.
    pub fn is_legacy(bytes: &[u8]) -> bool {
        bytes.len() >= HEADER_SIZE
            && matches!(bytes[..2], [0x00, 0x01] | [0x01, 0x01 | 0x11])
            && usize::from(u16::from_be_bytes([bytes[2], bytes[3]])) + HEADER_SIZE == bytes.len()
            && bytes.len().is_multiple_of(4)
    }

    /// Looks at a Binding message with or without the cookie. Without, the [`cookie`](Self::cookie) is a part of the
    /// transaction, and [`decode`](Self::decode) is not for it.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn legacy(bytes: &'a [u8]) -> Result<Self, StunError> {
        if !Self::is_legacy(bytes) || bytes.len() > MESSAGE_MAX {
            return Err(StunError::NotStun);
        }
        Self::walk(bytes)
    }

    fn walk(bytes: &'a [u8]) -> Result<Self, StunError> {
        let mut scan = Self {
            bytes,
            username: None,
            realm: None,
            nonce: None,
            data: None,
            integrity: None,
            fingerprint: None,
            end: bytes.len(),
        };
        for attribute in Attributes::new(bytes).take(ATTRIBUTES_MAX + 1).enumerate() {
            let (number, attribute) = attribute;
            if number == ATTRIBUTES_MAX {
                return Err(StunError::TooManyAttributes);
            }
            scan.note(&attribute?);
        }
        Ok(scan)
    }

    /// The class.
    pub fn class(&self) -> Class {
        match (self.bytes[0] & 1, self.bytes[1] & 0x10) {
            (0, 0) => Class::Request,
            (0, _) => Class::Indication,
            (_, 0) => Class::Success,
            (_, _) => Class::Error,
        }
    }

    /// The method.
    pub fn method(&self) -> Method {
        let kind = u16::from_be_bytes([self.bytes[0], self.bytes[1]]);
        Method((kind & 0x3e00) >> 2 | (kind & 0x00e0) >> 1 | (kind & 0x000f))
    }

    /// The transaction.
    pub fn transaction(&self) -> TransactionId {
        let mut id = [0; 12];
        id.copy_from_slice(&self.bytes[8..HEADER_SIZE]);
        TransactionId(id)
    }

    /// The four bytes before the transaction: [`MAGIC_COOKIE`], but for a message of RFC 3489.
    pub fn cookie(&self) -> [u8; 4] {
        let mut cookie = [0; 4];
        cookie.copy_from_slice(&self.bytes[4..8]);
        cookie
    }

    /// The value of the first attribute of this kind, as it came.
    pub fn raw(&self, kind: u16) -> Option<&'a [u8]> {
        let mut attributes = self.attributes();
        let found = attributes.find(|attribute| attribute.kind == kind);
        found.map(|attribute| attribute.value)
    }

    /// The USERNAME, as it came.
    pub fn username(&self) -> Option<&'a [u8]> {
        self.username
    }

    /// The REALM, as it came.
    pub fn realm(&self) -> Option<&'a [u8]> {
        self.realm
    }

    /// The NONCE, as it came.
    pub fn nonce(&self) -> Option<&'a [u8]> {
        self.nonce
    }

    /// The DATA of a TURN indication.
    pub fn data(&self) -> Option<&'a [u8]> {
        self.data
    }

    /// Whether it carries MESSAGE-INTEGRITY, true or false.
    pub fn has_integrity(&self) -> bool {
        self.integrity.is_some()
    }

    /// Whether it carries FINGERPRINT, true or false.
    pub fn has_fingerprint(&self) -> bool {
        self.fingerprint.is_some()
    }

    /// Whether the message was sealed with this key. Constant time in what is compared.
    ///
    /// # Errors
    /// [`StunError::NoIntegrity`], [`StunError::WrongIntegrity`].
    pub fn verify_integrity(&self, key: &IntegrityKey) -> Result<(), StunError> {
        let attribute = self.integrity.ok_or(StunError::NoIntegrity)?;
        key.verify(self.bytes, attribute)
    }

    /// Whether the message ends in its own fingerprint.
    ///
    /// # Errors
    /// [`StunError::NoFingerprint`], [`StunError::WrongFingerprint`].
    pub fn verify_fingerprint(&self) -> Result<(), StunError> {
        let attribute = self.fingerprint.ok_or(StunError::NoFingerprint)?;
        verify_fingerprint(self.bytes, attribute)
    }

    /// The typed attributes: of those before the integrity, the first of each kind.
    ///
    /// An attribute that need not be understood and is unknown or broken is left out.
    ///
    /// # Errors
    /// [`StunError::BadAttribute`]: one that must be understood is broken.
    pub fn decode(&self) -> Result<Message, StunError> {
        message::decode(self)
    }

    /// The attributes that count: those before the integrity.
    pub(crate) fn attributes(&self) -> impl Iterator<Item = RawAttribute<'a>> {
        Attributes::new(&self.bytes[..self.end]).filter_map(Result::ok)
    }

    /// Bytes of the whole message.
    pub(super) fn size(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn header(&self) -> &'a [u8] {
        &self.bytes[..HEADER_SIZE]
    }

    fn note(&mut self, attribute: &RawAttribute<'a>) {
        // What follows the integrity is not read, but for the fingerprint (RFC 8489 §14.5).
        if attribute.kind == kind::FINGERPRINT {
            if attribute.value.len() == FINGERPRINT_SIZE && self.fingerprint.is_none() {
                self.fingerprint = Some(attribute.at);
                self.end = self.end.min(attribute.at);
            }
            return;
        }
        if self.integrity.is_some() || self.fingerprint.is_some() {
            return;
        }
        let first = |slot: &mut Option<&'a [u8]>| {
            slot.get_or_insert(attribute.value);
        };
        match attribute.kind {
            kind::USERNAME => first(&mut self.username),
            kind::REALM => first(&mut self.realm),
            kind::NONCE => first(&mut self.nonce),
            kind::DATA => first(&mut self.data),
            kind::MESSAGE_INTEGRITY if attribute.value.len() == INTEGRITY_SIZE => {
                self.integrity = Some(attribute.at);
                self.end = attribute.at;
            }
            _ => {}
        }
    }
}

/// One attribute, as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RawAttribute<'a> {
    pub(crate) kind: u16,
    pub(crate) value: &'a [u8],
    /// With header and padding.
    pub(super) whole: &'a [u8],
    /// Where it begins.
    pub(super) at: usize,
}

struct Attributes<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Attributes<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: HEADER_SIZE,
        }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Result<RawAttribute<'a>, StunError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.bytes.get(self.at..).filter(|rest| !rest.is_empty())?;
        let at = self.at;
        let parsed = (|| {
            let (&header, body) = rest.split_first_chunk::<4>()?;
            let [a, b, c, d] = header;
            let length = usize::from(u16::from_be_bytes([c, d]));
            Some(RawAttribute {
                kind: u16::from_be_bytes([a, b]),
                value: body.get(..length)?,
                whole: rest.get(..4 + length.next_multiple_of(4))?,
                at,
            })
        })();
        self.at = match &parsed {
            Some(attribute) => at + attribute.whole.len(),
            None => self.bytes.len(),
        };
        Some(parsed.ok_or(StunError::Truncated))
    }
}
