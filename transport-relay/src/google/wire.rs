//! Messages between a client and a relay: STUN of 2003 with a magic cookie of its own.

use crate::stun::{Class, HEADER_SIZE, MessageBuilder, Method, TransactionId};
use bytes::Bytes;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// What marks a message for the relay itself, in its first attribute.
pub const MAGIC_COOKIE: [u8; 4] = [0x72, 0xc6, 0x4b, 0xc6];

/// Where the magic cookie stands.
const COOKIE_AT: usize = HEADER_SIZE + 4;

/// A relay sends no more attributes than this.
const ATTRIBUTES_MAX: usize = 16;

mod kind {
    pub(super) const MAPPED_ADDRESS: u16 = 0x0001;
    pub(super) const ERROR_CODE: u16 = 0x0009;
    pub(super) const LIFETIME: u16 = 0x000d;
    pub(super) const MAGIC_COOKIE: u16 = 0x000f;
    pub(super) const DESTINATION_ADDRESS: u16 = 0x0011;
    pub(super) const SOURCE_ADDRESS: u16 = 0x0012;
    pub(super) const DATA: u16 = 0x0013;
    pub(super) const OPTIONS: u16 = 0x8001;
}

/// The bit of OPTIONS that asks for the lock, and grants it.
const LOCK: u32 = 1;

const ALLOCATE: Method = Method::ALLOCATE;
/// Its number is that of Refresh today.
const SEND: Method = Method(0x004);

const ALLOCATE_RESPONSE: u16 = 0x0103;
const ALLOCATE_ERROR: u16 = 0x0113;
const SEND_RESPONSE: u16 = 0x0104;
const SEND_ERROR: u16 = 0x0114;
const DATA_INDICATION: u16 = 0x0115;

/// Whether bytes are a message of a relay, or would be taken for one.
pub(super) fn is_marked(bytes: &[u8], cookie: [u8; 4]) -> bool {
    bytes.get(COOKIE_AT..COOKIE_AT + 4) == Some(&cookie)
}

/// Asks for an address, or for more time with the one that there is.
pub(super) fn allocate(
    transaction: TransactionId,
    cookie: [u8; 4],
    username: &str,
) -> Option<Bytes> {
    MessageBuilder::new(Class::Request, ALLOCATE, transaction)
        .raw(kind::MAGIC_COOKIE, &cookie)
        .username(username)
        .finish(None, false)
        .ok()
}

/// Something for a peer. `None` for an address that these messages have no form for, or when it is too long.
pub(super) fn send(
    transaction: TransactionId,
    cookie: [u8; 4],
    username: &str,
    (peer, lock): (SocketAddr, bool),
    data: &[u8],
) -> Option<Bytes> {
    let message = MessageBuilder::new(Class::Request, SEND, transaction)
        .raw(kind::MAGIC_COOKIE, &cookie)
        .username(username)
        .raw(kind::DESTINATION_ADDRESS, &address_value(peer)?);
    let message = match lock {
        true => message.raw(kind::OPTIONS, &LOCK.to_be_bytes()),
        false => message,
    };
    message.raw(kind::DATA, data).finish(None, false).ok()
}

/// What a relay says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word<'a> {
    /// There is an address, for so many seconds.
    Allocated {
        transaction: TransactionId,
        relayed: SocketAddr,
        lifetime: Option<u32>,
    },
    /// There is none.
    Refused {
        transaction: TransactionId,
        code: Option<u16>,
    },
    /// Something went to a peer; whether the lock holds.
    Sent {
        transaction: TransactionId,
        locked: bool,
    },
    /// It did not.
    NotSent { transaction: TransactionId },
    /// Something of a peer.
    Data { peer: SocketAddr, data: &'a [u8] },
}

/// Reads a message; `None` when it is none, or of no use.
///
/// Old relays write no padding behind the last attribute, and no cookie of RFC 8489 into what nobody has asked for.
pub(super) fn read(bytes: &[u8], cookie: [u8; 4]) -> Option<Word<'_>> {
    let (header, body) = bytes.split_at_checked(HEADER_SIZE)?;
    let number = |at: usize| u16::from_be_bytes([header[at], header[at + 1]]);
    if usize::from(number(2)) != body.len() {
        return None;
    }
    let first = body.get(..4)?;
    let marked = first == [&kind::MAGIC_COOKIE.to_be_bytes()[..], &[0, 4]].concat();
    if !marked || !is_marked(bytes, cookie) {
        return None;
    }
    let transaction = TransactionId(header[8..].try_into().ok()?);
    let found = |wanted| attribute(body, wanted);
    Some(match number(0) {
        ALLOCATE_RESPONSE => Word::Allocated {
            transaction,
            relayed: found(kind::MAPPED_ADDRESS).and_then(address)?,
            lifetime: found(kind::LIFETIME).and_then(word),
        },
        ALLOCATE_ERROR => Word::Refused {
            transaction,
            code: found(kind::ERROR_CODE).and_then(code),
        },
        SEND_RESPONSE => Word::Sent {
            transaction,
            locked: found(kind::OPTIONS)
                .and_then(word)
                .is_some_and(|options| options & LOCK != 0),
        },
        SEND_ERROR => Word::NotSent { transaction },
        DATA_INDICATION => Word::Data {
            peer: found(kind::SOURCE_ADDRESS).and_then(address)?,
            data: found(kind::DATA)?,
        },
        _ => return None,
    })
}

/// The value of the first attribute of a kind.
fn attribute(mut body: &[u8], wanted: u16) -> Option<&[u8]> {
    for _ in 0..ATTRIBUTES_MAX {
        let (&[a, b, c, d], rest) = body.split_first_chunk::<4>()?;
        let length = usize::from(u16::from_be_bytes([c, d]));
        let value = rest.get(..length)?;
        if u16::from_be_bytes([a, b]) == wanted {
            return Some(value);
        }
        body = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

fn address_value(address: SocketAddr) -> Option<[u8; 8]> {
    let SocketAddr::V4(address) = address else {
        return None;
    };
    let [a, b, c, d] = address.ip().octets();
    let [high, low] = address.port().to_be_bytes();
    Some([0, 1, high, low, a, b, c, d])
}

fn address(value: &[u8]) -> Option<SocketAddr> {
    let [_, 1, high, low, a, b, c, d] = *value else {
        return None;
    };
    let ip = Ipv4Addr::new(a, b, c, d);
    let port = u16::from_be_bytes([high, low]);
    let usable = port != 0 && !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast();
    usable.then_some(SocketAddr::new(IpAddr::V4(ip), port))
}

fn word(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// Google's class is the hundreds' place of 256 (libjingle p2p/base/stun.h).
fn code(value: &[u8]) -> Option<u16> {
    let [_, _, class, number] = *value.first_chunk::<4>()?;
    Some(u16::from(class) << 8 | u16::from(number))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: TransactionId = TransactionId([7; 12]);

    fn peer() -> SocketAddr {
        "192.0.2.1:4660".parse().unwrap()
    }

    /// A message as a relay writes it.
    fn message(kind: u16, attributes: &[(u16, &[u8])], pad: bool) -> Vec<u8> {
        let mut body = Vec::new();
        for (kind, value) in attributes {
            body.extend(kind.to_be_bytes());
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
            if pad {
                body.resize(body.len().next_multiple_of(4), 0);
            }
        }
        let mut bytes = kind.to_be_bytes().to_vec();
        bytes.extend((body.len() as u16).to_be_bytes());
        // Old ones have no cookie of RFC 8489.
        bytes.extend([1, 2, 3, 4]);
        bytes.extend([7; 12]);
        bytes.extend(body);
        bytes
    }

    /// libjingle.md §4.10.
    #[test]
    fn requests_begin_with_the_magic_cookie() {
        let request = allocate(ID, MAGIC_COOKIE, "0123456789abcdef").unwrap();
        assert_eq!(request[..4], [0, 3, 0, 28]);
        assert_eq!(request[20..28], [0, 15, 0, 4, 0x72, 0xc6, 0x4b, 0xc6]);
        assert_eq!(request[28..32], [0, 6, 0, 16]);
        assert!(is_marked(&request, MAGIC_COOKIE));
        let request = send(ID, MAGIC_COOKIE, "0123", (peer(), true), b"data").unwrap();
        assert_eq!(request[..2], [0, 4]);
        assert_eq!(
            request[36..48],
            [0, 0x11, 0, 8, 0, 1, 0x12, 0x34, 192, 0, 2, 1]
        );
        assert_eq!(request[48..56], [0x80, 1, 0, 4, 0, 0, 0, 1]);
        assert_eq!(request[56..], [0, 0x13, 0, 4, b'd', b'a', b't', b'a']);
        let six = "[2001:db8::1]:1".parse().unwrap();
        assert_eq!(send(ID, MAGIC_COOKIE, "0123", (six, false), b""), None);
    }

    #[test]
    fn what_a_relay_says_is_read_with_and_without_padding() {
        let cookie = (kind::MAGIC_COOKIE, &MAGIC_COOKIE[..]);
        let place = [0, 1, 0x12, 0x34, 192, 0, 2, 1];
        let lifetime = 600_u32.to_be_bytes();
        let bytes = message(
            0x0103,
            &[cookie, (1, &place), (kind::LIFETIME, &lifetime)],
            true,
        );
        let allocated = Word::Allocated {
            transaction: ID,
            relayed: peer(),
            lifetime: Some(600),
        };
        assert_eq!(read(&bytes, MAGIC_COOKIE), Some(allocated));
        for pad in [true, false] {
            let data = (kind::DATA, &b"datum"[..]);
            let bytes = message(0x0115, &[cookie, (kind::SOURCE_ADDRESS, &place), data], pad);
            let found = read(&bytes, MAGIC_COOKIE);
            assert_eq!(
                found,
                Some(Word::Data {
                    peer: peer(),
                    data: b"datum"
                })
            );
        }
        let bytes = message(0x0104, &[cookie, (kind::OPTIONS, &[0, 0, 0, 3])], true);
        let sent = Word::Sent {
            transaction: ID,
            locked: true,
        };
        assert_eq!(read(&bytes, MAGIC_COOKIE), Some(sent));
        let bytes = message(0x0113, &[cookie, (kind::ERROR_CODE, &[0, 0, 1, 174])], true);
        let refused = Word::Refused {
            transaction: ID,
            code: Some(430),
        };
        assert_eq!(read(&bytes, MAGIC_COOKIE), Some(refused));
    }

    #[test]
    fn what_is_not_marked_or_lies_about_addresses_is_nothing() {
        let cookie = (kind::MAGIC_COOKIE, &MAGIC_COOKIE[..]);
        let other = (kind::MAGIC_COOKIE, &[1, 2, 3, 4][..]);
        let good = (1, &[0, 1, 0, 9, 192, 0, 2, 1][..]);
        assert!(read(&message(0x0103, &[cookie, good], true), MAGIC_COOKIE).is_some());
        assert_eq!(
            read(&message(0x0103, &[good, cookie], true), MAGIC_COOKIE),
            None
        );
        assert_eq!(
            read(&message(0x0103, &[other, good], true), MAGIC_COOKIE),
            None
        );
        for bad in [
            &[0, 1, 0, 0, 192, 0, 2, 1][..],
            &[0, 1, 0, 9, 0, 0, 0, 0],
            &[0, 1, 0, 9, 224, 0, 0, 1],
            &[0, 2, 0, 9, 192, 0, 2, 1],
            &[0, 1, 0, 9, 192],
        ] {
            let bytes = message(0x0103, &[cookie, (1, bad)], true);
            assert_eq!(read(&bytes, MAGIC_COOKIE), None, "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_that_a_relay_sends_is_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            read(&bytes, MAGIC_COOKIE);
            let mut marked = message(0x0115, &[(kind::MAGIC_COOKIE, &MAGIC_COOKIE)], true);
            marked.extend(&bytes);
            let length = (marked.len() - HEADER_SIZE) as u16;
            marked[2..4].copy_from_slice(&length.to_be_bytes());
            read(&marked, MAGIC_COOKIE);
        }
    }
}
