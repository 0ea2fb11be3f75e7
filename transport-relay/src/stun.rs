//! STUN (RFC 8489): messages, their integrity, and transactions. Pure: bytes and instants in, bytes and instants out.
//!
//! Header and typed attributes are read and written by the crate stun-rs, which nothing outside of this module sees.
//! Around it stands what it does not do:
//!
//! - [`Scan`] looks at the type-length-values first. It is what decides whether something is a message, and it finds
//!   what is needed before anything can be verified: the user name, the place of the integrity.
//! - Integrity and fingerprint are sealed and verified here, over an [`IntegrityKey`] that is prepared once. That they
//!   are *there* is part of verifying them.
//! - One bad attribute does not spoil a message unless it must be understood; what follows the integrity is not read.
//!
//! ```
//! use transport_relay::stun::{Attribute, Class, IntegrityKey, MessageBuilder, Method, Scan, TransactionId};
//! let key = IntegrityKey::short_term("VOkJxbRl1RmTxUk/WvJxBt");
//! let request = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([7; 12]))
//!     .username("evtj:h6vY")
//!     .attribute(Attribute::Priority(1_845_494_271))
//!     .finish(Some(&key), true)?;
//!
//! let scan = Scan::new(&request)?;
//! assert_eq!(scan.username(), Some(&b"evtj:h6vY"[..]));
//! scan.verify_fingerprint()?;
//! scan.verify_integrity(&key)?;
//! assert_eq!(scan.decode()?.priority(), Some(1_845_494_271));
//! # Ok::<(), transport_relay::stun::StunError>(())
//! ```

mod integrity;
mod message;
mod scan;
mod transaction;

pub use integrity::IntegrityKey;
pub use message::{Attribute, Message, MessageBuilder};
pub use scan::Scan;
pub use transaction::{Due, Retransmission, Timing};

use std::fmt;
use thiserror::Error;

/// The bytes before the attributes (RFC 8489 §5).
pub const HEADER_SIZE: usize = 20;
/// The largest message that is read or written, in bytes. A message over UDP without knowledge of the path should stay
/// below 576 (RFC 8489 §6.1); a TURN indication carries a whole datagram.
pub const MESSAGE_MAX: usize = HEADER_SIZE + 0xfffc;
/// The attributes of one message that are looked at.
pub const ATTRIBUTES_MAX: usize = 64;
/// What every message since RFC 5389 has in its fifth to eighth byte.
pub const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What kind of message (RFC 8489 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Something is asked.
    Request,
    /// Something is said, and no answer follows.
    Indication,
    /// What was asked was done.
    Success,
    /// What was asked was not done.
    Error,
}

/// What a message is about: one of 256 (RFC 8489 §18.2), so that the first byte stays below 4 (RFC 9443).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Method(pub(crate) u16);

impl Method {
    /// Binding (RFC 8489 §3): where do you see me?
    pub const BINDING: Self = Self(0x001);
    /// Allocate (RFC 8656 §7).
    pub const ALLOCATE: Self = Self(0x003);
    /// Refresh (RFC 8656 §8).
    pub const REFRESH: Self = Self(0x004);
    /// Send (RFC 8656 §11).
    pub const SEND: Self = Self(0x006);
    /// Data (RFC 8656 §11).
    pub const DATA: Self = Self(0x007);
    /// CreatePermission (RFC 8656 §10).
    pub const CREATE_PERMISSION: Self = Self(0x008);
    /// ChannelBind (RFC 8656 §12).
    pub const CHANNEL_BIND: Self = Self(0x009);
    /// Connect (RFC 6062 §4.3).
    pub const CONNECT: Self = Self(0x00a);
    /// ConnectionBind (RFC 6062 §4.3).
    pub const CONNECTION_BIND: Self = Self(0x00b);
    /// ConnectionAttempt (RFC 6062 §4.4).
    pub const CONNECTION_ATTEMPT: Self = Self(0x00c);

    /// The method with this number, of which the lower 8 bits count.
    pub const fn new(number: u16) -> Self {
        Self(number & 0xff)
    }

    /// Its number, below 256.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Ties a response to its request (RFC 8489 §5). Drawn by the caller, and unpredictable in production.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransactionId(pub [u8; 12]);

impl fmt::Debug for TransactionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StunError {
    /// Too short, another first byte, another cookie, a length that is not that of the bytes.
    #[error("not a STUN message")]
    NotStun,
    /// An attribute that reaches beyond the end.
    #[error("an attribute reaches beyond the end of the message")]
    Truncated,
    /// More than [`ATTRIBUTES_MAX`].
    #[error("more than {ATTRIBUTES_MAX} attributes")]
    TooManyAttributes,
    /// An attribute that must be understood and has a value that it cannot have.
    #[error("attribute {0:#06x} has an impossible value")]
    BadAttribute(u16),
    /// There is no MESSAGE-INTEGRITY.
    #[error("no MESSAGE-INTEGRITY")]
    NoIntegrity,
    /// The MESSAGE-INTEGRITY was made with another key, or of another message.
    #[error("wrong MESSAGE-INTEGRITY")]
    WrongIntegrity,
    /// There is no FINGERPRINT at the end.
    #[error("no FINGERPRINT at the end")]
    NoFingerprint,
    /// The FINGERPRINT is that of another message.
    #[error("wrong FINGERPRINT")]
    WrongFingerprint,
    /// What is to be written does not fit into a message.
    #[error("does not fit into a message")]
    TooLong,
}

/// The numbers of attributes that this module has to know by itself (RFC 8489 §18.3, RFC 8445 §16.1).
pub(crate) mod kind {
    pub(crate) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(crate) const USERNAME: u16 = 0x0006;
    pub(crate) const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub(crate) const ERROR_CODE: u16 = 0x0009;
    pub(crate) const UNKNOWN_ATTRIBUTES: u16 = 0x000a;
    pub(crate) const CHANNEL_NUMBER: u16 = 0x000c;
    pub(crate) const LIFETIME: u16 = 0x000d;
    pub(crate) const XOR_PEER_ADDRESS: u16 = 0x0012;
    pub(crate) const DATA: u16 = 0x0013;
    pub(crate) const REALM: u16 = 0x0014;
    pub(crate) const NONCE: u16 = 0x0015;
    pub(crate) const XOR_RELAYED_ADDRESS: u16 = 0x0016;
    pub(crate) const REQUESTED_TRANSPORT: u16 = 0x0019;
    pub(crate) const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub(crate) const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub(crate) const PRIORITY: u16 = 0x0024;
    pub(crate) const USE_CANDIDATE: u16 = 0x0025;
    pub(crate) const ALTERNATE_SERVER: u16 = 0x8023;
    pub(crate) const FINGERPRINT: u16 = 0x8028;
    pub(crate) const ICE_CONTROLLED: u16 = 0x8029;
    pub(crate) const ICE_CONTROLLING: u16 = 0x802a;
}

#[cfg(test)]
mod tests;
