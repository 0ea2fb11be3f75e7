//! Typed messages: where stun-rs is, and nowhere else.

use super::integrity::{
    ATTRIBUTE_HEADER, FINGERPRINT_SIZE, INTEGRITY_SIZE, IntegrityKey, append_fingerprint,
    set_length,
};
use super::scan::{RawAttribute, Scan};
use super::{Class, HEADER_SIZE, MESSAGE_MAX, Method, StunError, TransactionId, kind};
use bytes::Bytes;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use stun_rs::attributes::stun::{
    AlternateServer, ErrorCode, MappedAddress, UnknownAttributes, XorMappedAddress,
};
use stun_rs::attributes::turn::{
    ChannelNumber, LifeTime, RequestedTrasport, XorPeerAddress, XorRelayedAddress,
};
use stun_rs::{
    MessageClass, MessageDecoderBuilder, MessageEncoderBuilder, StunAttribute, StunMessageBuilder,
};

/// Kinds that an UNKNOWN-ATTRIBUTES lists at most; the rest is left out.
const UNKNOWN_MAX: usize = 32;
/// Bytes of a reason phrase that are written; the rest is cut off. RFC 8489 §14.8 allows 509.
const REASON_MAX: usize = 128;
/// Messages up to this many bytes are read without copying them to the heap.
const SMALL: usize = 256;
/// The protocol number of UDP in REQUESTED-TRANSPORT.
const UDP: u8 = 17;

/// A typed attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// MAPPED-ADDRESS (RFC 8489 §14.1).
    MappedAddress(SocketAddr),
    /// XOR-MAPPED-ADDRESS (RFC 8489 §14.2).
    XorMappedAddress(SocketAddr),
    /// ERROR-CODE (RFC 8489 §14.8): 300 to 699, and a reason for people.
    Error(u16, Arc<str>),
    /// UNKNOWN-ATTRIBUTES (RFC 8489 §14.9).
    UnknownAttributes(Vec<u16>),
    /// ALTERNATE-SERVER (RFC 8489 §14.15).
    AlternateServer(SocketAddr),
    /// PRIORITY (RFC 8445 §16.1).
    Priority(u32),
    /// USE-CANDIDATE (RFC 8445 §16.1).
    UseCandidate,
    /// ICE-CONTROLLED with the tie-breaker (RFC 8445 §16.1).
    IceControlled(u64),
    /// ICE-CONTROLLING with the tie-breaker (RFC 8445 §16.1).
    IceControlling(u64),
    /// LIFETIME in seconds (RFC 8656 §18.2).
    Lifetime(u32),
    /// XOR-PEER-ADDRESS (RFC 8656 §18.3).
    XorPeerAddress(SocketAddr),
    /// XOR-RELAYED-ADDRESS (RFC 8656 §18.5).
    XorRelayedAddress(SocketAddr),
    /// CHANNEL-NUMBER (RFC 8656 §18.1).
    ChannelNumber(u16),
    /// REQUESTED-TRANSPORT (RFC 8656 §18.7) with UDP, the only one there is.
    RequestedTransportUdp,
}

/// A message whose attributes were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its class.
    pub class: Class,
    /// Its method.
    pub method: Method,
    /// Its transaction.
    pub transaction: TransactionId,
    attributes: List,
    unknown: Vec<u16>,
}

/// Attributes that an ordinary message has; those of one with more are on the heap.
const FEW: usize = 4;

/// A list that is on the heap only if it is long: a connectivity check is read without.
#[derive(Clone)]
struct List {
    few: [Attribute; FEW],
    /// Of `few`; the rest are fillers.
    count: usize,
    /// All, if they are more than a few.
    many: Vec<Attribute>,
}

impl List {
    fn new() -> Self {
        Self {
            few: [const { Attribute::UseCandidate }; FEW],
            count: 0,
            many: Vec::new(),
        }
    }

    fn push(&mut self, attribute: Attribute) {
        if self.many.is_empty() {
            if let Some(place) = self.few.get_mut(self.count) {
                *place = attribute;
                self.count += 1;
                return;
            }
            self.many.extend_from_slice(&self.few);
        }
        self.many.push(attribute);
    }

    fn extend(&mut self, others: &Self) {
        for attribute in others.as_slice() {
            self.push(attribute.clone());
        }
    }

    fn as_slice(&self) -> &[Attribute] {
        if self.many.is_empty() {
            &self.few[..self.count]
        } else {
            &self.many
        }
    }
}

impl PartialEq for List {
    fn eq(&self, other: &Self) -> bool {
        self.as_slice() == other.as_slice()
    }
}

impl Eq for List {}

impl fmt::Debug for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

macro_rules! getters {
    ($($(#[$doc:meta])* $name:ident, $variant:ident, $type:ty;)*) => {
        $($(#[$doc])*
        pub fn $name(&self) -> Option<$type> {
            self.find(|attribute| {
                if let Attribute::$variant(value) = attribute { Some(*value) } else { None }
            })
        })*
    };
}

impl Message {
    getters! {
        /// PRIORITY.
        priority, Priority, u32;
        /// ICE-CONTROLLED.
        ice_controlled, IceControlled, u64;
        /// ICE-CONTROLLING.
        ice_controlling, IceControlling, u64;
        /// LIFETIME in seconds.
        lifetime, Lifetime, u32;
        /// XOR-PEER-ADDRESS.
        peer_address, XorPeerAddress, SocketAddr;
        /// XOR-RELAYED-ADDRESS.
        relayed_address, XorRelayedAddress, SocketAddr;
        /// CHANNEL-NUMBER.
        channel_number, ChannelNumber, u16;
        /// ALTERNATE-SERVER.
        alternate_server, AlternateServer, SocketAddr;
    }

    /// XOR-MAPPED-ADDRESS, else MAPPED-ADDRESS.
    pub fn mapped_address(&self) -> Option<SocketAddr> {
        let xored = |attribute: &Attribute| {
            if let Attribute::XorMappedAddress(address) = attribute {
                Some(*address)
            } else {
                None
            }
        };
        let plain = |attribute: &Attribute| {
            if let Attribute::MappedAddress(address) = attribute {
                Some(*address)
            } else {
                None
            }
        };
        self.find(xored).or_else(|| self.find(plain))
    }

    /// The number of ERROR-CODE, 300 to 699.
    pub fn error(&self) -> Option<u16> {
        self.find(|attribute| {
            if let Attribute::Error(code, _) = attribute {
                Some(*code)
            } else {
                None
            }
        })
    }

    /// Whether there is USE-CANDIDATE.
    pub fn use_candidate(&self) -> bool {
        self.attributes().contains(&Attribute::UseCandidate)
    }

    /// All that were understood, in order; those of a check (see [`MessageBuilder::attribute`]) after the others.
    pub fn attributes(&self) -> &[Attribute] {
        self.attributes.as_slice()
    }

    /// The kinds that must be understood and are not known: a request with one is answered with error 420.
    pub fn unknown(&self) -> &[u16] {
        &self.unknown
    }

    fn find<T>(&self, choose: impl Fn(&Attribute) -> Option<T>) -> Option<T> {
        self.attributes().iter().find_map(choose)
    }
}

/// Writes a message.
#[derive(Debug)]
pub struct MessageBuilder {
    class: Class,
    method: Method,
    attributes: StunMessageBuilder,
    /// Bytes of `attributes`.
    size: usize,
    raw: Raw,
    error: Option<StunError>,
}

/// Bytes of raw attributes that are kept without the heap: a user name of ICE.
const RAW_SMALL: usize = 64;

/// Attributes as they are written.
#[derive(Debug)]
struct Raw {
    small: [u8; RAW_SMALL],
    count: usize,
    /// All, if they do not fit into `small`.
    large: Vec<u8>,
}

impl Raw {
    fn new() -> Self {
        Self {
            small: [0; RAW_SMALL],
            count: 0,
            large: Vec::new(),
        }
    }

    fn as_slice(&self) -> &[u8] {
        if self.large.is_empty() {
            &self.small[..self.count]
        } else {
            &self.large
        }
    }

    /// A value of a size that is known beforehand, and a multiple of four.
    fn put<const SIZE: usize>(&mut self, kind: u16, value: [u8; SIZE]) {
        match self.small.get_mut(self.count..self.count + 4 + SIZE) {
            Some(place) if self.large.is_empty() => {
                place[..2].copy_from_slice(&kind.to_be_bytes());
                place[2..4].copy_from_slice(&(SIZE as u16).to_be_bytes());
                place[4..].copy_from_slice(&value);
                self.count += 4 + SIZE;
            }
            _ => self.push(kind, SIZE as u16, &value),
        }
    }

    fn push(&mut self, kind: u16, length: u16, value: &[u8]) {
        let size = 4 + value.len().next_multiple_of(4);
        let header = (u32::from(kind) << 16 | u32::from(length)).to_be_bytes();
        if self.large.is_empty() {
            if let Some(place) = self.small.get_mut(self.count..self.count + size) {
                // What follows the value is zero, as it was made.
                place[..4].copy_from_slice(&header);
                place[4..4 + value.len()].copy_from_slice(value);
                self.count += size;
                return;
            }
            self.large.reserve_exact(self.count + size);
            self.large.extend_from_slice(&self.small[..self.count]);
        }
        self.large.extend_from_slice(&header);
        self.large.extend_from_slice(value);
        self.large.resize(self.large.len().next_multiple_of(4), 0);
    }
}

impl MessageBuilder {
    /// A message without attributes.
    pub fn new(class: Class, method: Method, transaction: TransactionId) -> Self {
        // The method is written afterwards, because stun-rs makes one only by a fallible call.
        let attributes = StunMessageBuilder::new(stun_rs::methods::BINDING, to_class(class))
            .with_transaction_id(transaction.0.into());
        Self {
            class,
            method,
            attributes,
            size: 0,
            raw: Raw::new(),
            error: None,
        }
    }

    /// Adds an attribute. Those of a check (PRIORITY, USE-CANDIDATE, ICE-CONTROLLED, ICE-CONTROLLING) are written in
    /// this order among the raw ones, all others in this order before them.
    #[must_use]
    pub fn attribute(mut self, attribute: Attribute) -> Self {
        match to_form(&attribute) {
            Ok(Form::Typed(typed)) => {
                self.size += attribute.size_max();
                self.attributes = self.attributes.with_attribute(typed);
            }
            Ok(Form::Flag(kind)) => self.raw.put(kind, []),
            Ok(Form::Short(kind, value)) => self.raw.put(kind, value.to_be_bytes()),
            Ok(Form::Long(kind, value)) => self.raw.put(kind, value.to_be_bytes()),
            Err(error) => self.error = Some(error),
        }
        self
    }

    /// Adds an attribute if the condition holds.
    #[must_use]
    pub fn attribute_if(self, condition: bool, attribute: Attribute) -> Self {
        if condition {
            self.attribute(attribute)
        } else {
            self
        }
    }

    /// Adds a USERNAME, which is taken as already prepared (RFC 8489 §14.3).
    #[must_use]
    pub fn username(self, username: &str) -> Self {
        self.raw(kind::USERNAME, username.as_bytes())
    }

    /// Adds an attribute of any kind.
    #[must_use]
    pub fn raw(mut self, kind: u16, value: &[u8]) -> Self {
        let Ok(length) = u16::try_from(value.len()) else {
            self.error = Some(StunError::TooLong);
            return self;
        };
        self.raw.push(kind, length, value);
        self
    }

    /// The bytes: with MESSAGE-INTEGRITY when there is a key, and with FINGERPRINT when it is wanted.
    ///
    /// # Errors
    /// [`StunError::TooLong`]; [`StunError::BadAttribute`] for an error code below 300 or above 699.
    pub fn finish(self, key: Option<&IntegrityKey>, fingerprint: bool) -> Result<Bytes, StunError> {
        if let Some(error) = self.error {
            return Err(error);
        }
        let typed = HEADER_SIZE + self.size;
        let raw = self.raw.as_slice();
        let integrity = key.map_or(0, |_| ATTRIBUTE_HEADER + INTEGRITY_SIZE);
        let end = integrity + usize::from(fingerprint) * (ATTRIBUTE_HEADER + FINGERPRINT_SIZE);
        let size = typed + raw.len() + end;
        if size > MESSAGE_MAX {
            return Err(StunError::TooLong);
        }
        // Exactly what it takes, so that it neither grows nor is made again for being shared.
        let mut bytes = Vec::with_capacity(size);
        bytes.resize(typed, 0);
        let written = MessageEncoderBuilder::default()
            .build()
            .encode(&mut bytes, &self.attributes.build())
            .map_err(|_| StunError::TooLong)?;
        bytes.truncate(written);
        bytes[..2].copy_from_slice(&message_type(self.class, self.method).to_be_bytes());
        bytes.extend_from_slice(raw);
        let end = bytes.len();
        set_length(&mut bytes, end);
        if let Some(key) = key {
            key.seal(&mut bytes);
        }
        if fingerprint {
            append_fingerprint(&mut bytes);
        }
        Ok(bytes.into())
    }
}

impl Attribute {
    /// Bytes on the wire with header and padding, at most.
    fn size_max(&self) -> usize {
        const HEADER: usize = 4;
        HEADER
            + match self {
                Self::MappedAddress(address)
                | Self::XorMappedAddress(address)
                | Self::AlternateServer(address)
                | Self::XorPeerAddress(address)
                | Self::XorRelayedAddress(address) => {
                    if address.is_ipv4() {
                        8
                    } else {
                        20
                    }
                }
                Self::Error(_, reason) => 4 + reason.len().min(REASON_MAX).next_multiple_of(4),
                Self::UnknownAttributes(kinds) => {
                    (2 * kinds.len().min(UNKNOWN_MAX)).next_multiple_of(4)
                }
                Self::Priority(_)
                | Self::Lifetime(_)
                | Self::ChannelNumber(_)
                | Self::RequestedTransportUdp => 4,
                Self::IceControlled(_) | Self::IceControlling(_) => 8,
                Self::UseCandidate => 0,
            }
    }
}

/// RFC 8489 §5: the class's two bits stand amid the method's.
fn message_type(class: Class, method: Method) -> u16 {
    let class = match class {
        Class::Request => 0x000,
        Class::Indication => 0x010,
        Class::Success => 0x100,
        Class::Error => 0x110,
    };
    let method = method.0;
    class | (method & 0x0f80) << 2 | (method & 0x0070) << 1 | (method & 0x000f)
}

/// Reads what [`Scan::decode`] promises.
pub(super) fn decode(scan: &Scan<'_>) -> Result<Message, StunError> {
    let mut message = Message {
        class: scan.class(),
        method: scan.method(),
        transaction: scan.transaction(),
        attributes: List::new(),
        unknown: Vec::new(),
    };
    // One message of all known attributes is the fast way; only if stun-rs refuses it, one message for each finds out
    // which is to blame.
    let mut small = [0; SMALL];
    let mut large = Vec::new();
    let known: &mut [u8] = if scan.size() <= SMALL {
        &mut small
    } else {
        large.resize(scan.size(), 0);
        &mut large
    };
    let mut end = HEADER_SIZE;
    known[..end].copy_from_slice(scan.header());
    let mut plain = List::new();
    for attribute in scan.attributes() {
        if is_plain(attribute.kind) {
            match read_plain(&attribute) {
                Some(attribute) => plain.push(attribute),
                None if is_required(attribute.kind) => {
                    return Err(StunError::BadAttribute(attribute.kind));
                }
                None => {}
            }
        } else if is_known(attribute.kind) {
            let next = end + attribute.whole.len();
            known[end..next].copy_from_slice(attribute.whole);
            end = next;
        } else if !is_handled(attribute.kind)
            && is_required(attribute.kind)
            && !message.unknown.contains(&attribute.kind)
        {
            message.unknown.push(attribute.kind);
        }
    }
    if end == HEADER_SIZE {
        message.attributes = plain;
        return Ok(message);
    }
    if let Some(attributes) = decode_known(&mut known[..end]) {
        message.attributes = attributes;
        message.attributes.extend(&plain);
        return Ok(message);
    }
    for attribute in scan.attributes().filter(|a| is_known(a.kind)) {
        match decode_one(scan, &attribute) {
            Some(attributes) => message.attributes.extend(&attributes),
            None if is_required(attribute.kind) => {
                return Err(StunError::BadAttribute(attribute.kind));
            }
            None => {}
        }
    }
    message.attributes.extend(&plain);
    Ok(message)
}

/// What a connectivity check carries, which is read as it is written ([`Form`]): without lists.
fn is_plain(kind: u16) -> bool {
    matches!(
        kind,
        kind::PRIORITY | kind::USE_CANDIDATE | kind::ICE_CONTROLLED | kind::ICE_CONTROLLING
    )
}

/// None if its size is wrong.
fn read_plain(attribute: &RawAttribute<'_>) -> Option<Attribute> {
    let long = || Some(u64::from_be_bytes(attribute.value.try_into().ok()?));
    match attribute.kind {
        kind::PRIORITY => {
            let number = attribute.value.try_into().ok().map(u32::from_be_bytes);
            number.map(Attribute::Priority)
        }
        kind::USE_CANDIDATE => attribute
            .value
            .is_empty()
            .then_some(Attribute::UseCandidate),
        kind::ICE_CONTROLLED => long().map(Attribute::IceControlled),
        kind::ICE_CONTROLLING => long().map(Attribute::IceControlling),
        _ => None,
    }
}

fn decode_one(scan: &Scan<'_>, attribute: &RawAttribute<'_>) -> Option<List> {
    let mut alone = scan.header().to_vec();
    alone.extend_from_slice(attribute.whole);
    decode_known(&mut alone)
}

fn decode_known(bytes: &mut [u8]) -> Option<List> {
    let end = bytes.len();
    set_length(bytes, end);
    let (message, _) = MessageDecoderBuilder::default()
        .build()
        .decode(bytes)
        .ok()?;
    let mut attributes = List::new();
    for attribute in message.attributes() {
        attributes.push(from_stun_rs(attribute)?);
    }
    Some(attributes)
}

/// Whether a message that carries this kind cannot be processed by who does not know it (RFC 8489 §14).
fn is_required(kind: u16) -> bool {
    kind < 0x8000
}

/// Known, but not to stun-rs here: found by the scan.
fn is_handled(kind: u16) -> bool {
    matches!(
        kind,
        kind::USERNAME
            | kind::REALM
            | kind::NONCE
            | kind::DATA
            | kind::MESSAGE_INTEGRITY
            | kind::MESSAGE_INTEGRITY_SHA256
            | kind::FINGERPRINT
    )
}

fn is_known(kind: u16) -> bool {
    matches!(
        kind,
        kind::MAPPED_ADDRESS
            | kind::ERROR_CODE
            | kind::UNKNOWN_ATTRIBUTES
            | kind::CHANNEL_NUMBER
            | kind::LIFETIME
            | kind::XOR_PEER_ADDRESS
            | kind::XOR_RELAYED_ADDRESS
            | kind::REQUESTED_TRANSPORT
            | kind::XOR_MAPPED_ADDRESS
            | kind::ALTERNATE_SERVER
    )
}

fn to_class(class: Class) -> MessageClass {
    match class {
        Class::Request => MessageClass::Request,
        Class::Indication => MessageClass::Indication,
        Class::Success => MessageClass::SuccessResponse,
        Class::Error => MessageClass::ErrorResponse,
    }
}

/// How an attribute is written.
enum Form {
    /// By stun-rs, which keeps those of a message in a list.
    Typed(StunAttribute),
    /// As it is, because a connectivity check needs no list: nothing but its kind.
    Flag(u16),
    /// As it is: a number of 32 bits.
    Short(u16, u32),
    /// As it is: a number of 64 bits.
    Long(u16, u64),
}

fn to_form(attribute: &Attribute) -> Result<Form, StunError> {
    Ok(Form::Typed(match attribute {
        Attribute::MappedAddress(address) => MappedAddress::from(*address).into(),
        Attribute::XorMappedAddress(address) => XorMappedAddress::from(*address).into(),
        Attribute::Error(code, reason) => {
            let mut end = reason.len().min(REASON_MAX);
            while !reason.is_char_boundary(end) {
                end -= 1;
            }
            let error = stun_rs::ErrorCode::new(*code, &reason[..end])
                .map_err(|_| StunError::BadAttribute(kind::ERROR_CODE))?;
            ErrorCode::from(error).into()
        }
        Attribute::UnknownAttributes(kinds) => {
            UnknownAttributes::from(&kinds[..kinds.len().min(UNKNOWN_MAX)]).into()
        }
        Attribute::AlternateServer(address) => AlternateServer::from(*address).into(),
        Attribute::Priority(priority) => return Ok(Form::Short(kind::PRIORITY, *priority)),
        Attribute::UseCandidate => return Ok(Form::Flag(kind::USE_CANDIDATE)),
        Attribute::IceControlled(number) => return Ok(Form::Long(kind::ICE_CONTROLLED, *number)),
        Attribute::IceControlling(number) => return Ok(Form::Long(kind::ICE_CONTROLLING, *number)),
        Attribute::Lifetime(seconds) => LifeTime::from(*seconds).into(),
        Attribute::XorPeerAddress(address) => XorPeerAddress::from(*address).into(),
        Attribute::XorRelayedAddress(address) => XorRelayedAddress::from(*address).into(),
        Attribute::ChannelNumber(number) => ChannelNumber::new(*number).into(),
        Attribute::RequestedTransportUdp => RequestedTrasport::from(stun_rs::protocols::UDP).into(),
    }))
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "stun-rs has many more; only those that were let through come here"
)]
fn from_stun_rs(attribute: &StunAttribute) -> Option<Attribute> {
    Some(match attribute {
        StunAttribute::MappedAddress(a) => Attribute::MappedAddress(*a.socket_address()),
        StunAttribute::XorMappedAddress(a) => Attribute::XorMappedAddress(*a.socket_address()),
        StunAttribute::ErrorCode(a) => {
            let error = a.error_code();
            Attribute::Error(error.error_code(), error.reason().into())
        }
        StunAttribute::UnknownAttributes(a) => {
            Attribute::UnknownAttributes(a.iter().copied().take(UNKNOWN_MAX).collect())
        }
        StunAttribute::AlternateServer(a) => Attribute::AlternateServer(*a.socket_address()),
        StunAttribute::LifeTime(a) => Attribute::Lifetime(a.as_u32()),
        StunAttribute::XorPeerAddress(a) => Attribute::XorPeerAddress(*a.socket_address()),
        StunAttribute::XorRelayedAddress(a) => Attribute::XorRelayedAddress(*a.socket_address()),
        StunAttribute::ChannelNumber(a) => Attribute::ChannelNumber(a.number()),
        StunAttribute::RequestedTrasport(a) if a.protocol().as_u8() == UDP => {
            Attribute::RequestedTransportUdp
        }
        _ => return None,
    })
}
