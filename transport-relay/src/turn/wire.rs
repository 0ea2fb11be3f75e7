//! What TURN adds to STUN messages, and what it takes from them.

use crate::stun::{HEADER_SIZE, MAGIC_COOKIE, Scan, StunError, TransactionId, kind};
use bytes::{BufMut, BytesMut};
use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

/// The numbers of attributes that only TURN has (RFC 8656 §18, RFC 6062 §6.2).
pub(super) mod attribute {
    pub(in crate::turn) const REQUESTED_ADDRESS_FAMILY: u16 = 0x0017;
    pub(in crate::turn) const DONT_FRAGMENT: u16 = 0x001a;
    pub(in crate::turn) const CONNECTION_ID: u16 = 0x002a;
    pub(in crate::turn) const ADDITIONAL_ADDRESS_FAMILY: u16 = 0x8000;
    pub(in crate::turn) const ADDRESS_ERROR_CODE: u16 = 0x8001;
    pub(in crate::turn) const ALTERNATE_DOMAIN: u16 = 0x8003;
}

/// The protocol numbers of REQUESTED-TRANSPORT (RFC 8656 §18.7, RFC 6062 §6.1).
pub(super) const UDP: u8 = 17;
pub(super) const TCP: u8 = 6;

/// The families of REQUESTED-ADDRESS-FAMILY (RFC 8656 §18.6).
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// Type bits of a Send indication (RFC 8656 §17).
const SEND_INDICATION: u16 = 0x0016;
/// Characters of a reason phrase that are kept.
const REASON_MAX: usize = 128;

/// The value of REQUESTED-ADDRESS-FAMILY and ADDITIONAL-ADDRESS-FAMILY.
pub(super) fn family(v6: bool) -> [u8; 4] {
    [if v6 { IPV6 } else { IPV4 }, 0, 0, 0]
}

/// What an answer or an indication says, as far as TURN asks.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) error: Option<(u16, Arc<str>)>,
    pub(super) unknown: Vec<u16>,
    pub(super) lifetime: Option<u32>,
    /// One of each family, at most.
    pub(super) relayed: Vec<SocketAddr>,
    pub(super) mapped: Option<SocketAddr>,
    pub(super) alternate: Option<SocketAddr>,
    pub(super) domain: Option<Arc<str>>,
    pub(super) connection: Option<u32>,
    pub(super) peer: Option<SocketAddr>,
    /// Why there is no address of the other family (RFC 8656 §7.3).
    pub(super) other_family: Option<(u16, Arc<str>)>,
}

impl Answer {
    /// Reads the attributes that count; of each kind the first.
    pub(super) fn read(scan: &Scan<'_>) -> Self {
        let transaction = scan.transaction();
        let mut answer = Self::default();
        for attribute in scan.attributes() {
            let value = attribute.value;
            match attribute.kind {
                kind::ERROR_CODE => set(&mut answer.error, error(value)),
                kind::UNKNOWN_ATTRIBUTES => {
                    let kinds = value.chunks_exact(2).take(32);
                    answer.unknown = kinds.map(|k| u16::from_be_bytes([k[0], k[1]])).collect();
                }
                kind::LIFETIME => set(&mut answer.lifetime, number(value)),
                kind::XOR_RELAYED_ADDRESS => {
                    if let Some(address) = xor_address(value, transaction)
                        && !answer
                            .relayed
                            .iter()
                            .any(|a| a.is_ipv4() == address.is_ipv4())
                    {
                        answer.relayed.push(address);
                    }
                }
                kind::XOR_MAPPED_ADDRESS => {
                    set(&mut answer.mapped, xor_address(value, transaction));
                }
                kind::XOR_PEER_ADDRESS => set(&mut answer.peer, xor_address(value, transaction)),
                kind::ALTERNATE_SERVER => set(&mut answer.alternate, address(value)),
                attribute::ALTERNATE_DOMAIN => {
                    let name = std::str::from_utf8(value).ok();
                    set(&mut answer.domain, name.map(Into::into));
                }
                attribute::CONNECTION_ID => set(&mut answer.connection, number(value)),
                attribute::ADDRESS_ERROR_CODE => {
                    set(&mut answer.other_family, error(value));
                }
                _ => {}
            }
        }
        answer
    }
}

fn set<T>(slot: &mut Option<T>, value: Option<T>) {
    if slot.is_none() {
        *slot = value;
    }
}

fn number(value: &[u8]) -> Option<u32> {
    value.try_into().ok().map(u32::from_be_bytes)
}

/// ERROR-CODE and ADDRESS-ERROR-CODE stand alike behind their first two bytes. The reason is for people, so that what
/// could play with a terminal is escaped.
fn error(value: &[u8]) -> Option<(u16, Arc<str>)> {
    let [_, _, class, number, reason @ ..] = value else {
        return None;
    };
    let code = u16::from(class & 7) * 100 + u16::from(*number);
    let reason = String::from_utf8_lossy(reason);
    let reason: String = reason
        .trim_end_matches('\0')
        .chars()
        .take(REASON_MAX)
        .flat_map(char::escape_debug)
        .collect();
    (300..700).contains(&code).then(|| (code, reason.into()))
}

fn address(value: &[u8]) -> Option<SocketAddr> {
    let (&[_, family, a, b], ip) = value.split_first_chunk::<4>()?;
    let port = u16::from_be_bytes([a, b]);
    let ip = match family {
        IPV4 => IpAddr::from(<[u8; 4]>::try_from(ip).ok()?),
        IPV6 => IpAddr::from(<[u8; 16]>::try_from(ip).ok()?),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// RFC 8489 §14.2: the address is mixed with the cookie, and one of IPv6 with the transaction too.
pub(super) fn xor_address(value: &[u8], transaction: TransactionId) -> Option<SocketAddr> {
    address(value).map(|address| mix(address, transaction))
}

fn mix(address: SocketAddr, transaction: TransactionId) -> SocketAddr {
    let port = address.port() ^ u16::from_be_bytes([MAGIC_COOKIE[0], MAGIC_COOKIE[1]]);
    let cookie = u32::from_be_bytes(MAGIC_COOKIE);
    let ip = match address.ip() {
        IpAddr::V4(ip) => IpAddr::from((u32::from(ip) ^ cookie).to_be_bytes()),
        IpAddr::V6(ip) => {
            let mut mask = [0; 16];
            mask[..4].copy_from_slice(&MAGIC_COOKIE);
            mask[4..].copy_from_slice(&transaction.0);
            Ipv6Addr::from_bits(ip.to_bits() ^ u128::from_be_bytes(mask)).into()
        }
    };
    SocketAddr::new(ip, port)
}

/// Bytes that [`write_send`] writes for a payload of this size.
pub(super) fn send_size(peer: SocketAddr, payload: usize, dont_fragment: bool) -> usize {
    let address = if peer.is_ipv4() { 12 } else { 24 };
    HEADER_SIZE + address + if dont_fragment { 4 } else { 0 } + 4 + payload.next_multiple_of(4)
}

/// Appends a Send indication (RFC 8656 §11.1).
///
/// # Errors
/// [`StunError::TooLong`]; nothing is written.
pub(super) fn write_send(
    buffer: &mut BytesMut,
    transaction: TransactionId,
    peer: SocketAddr,
    payload: &[u8],
    dont_fragment: bool,
) -> Result<(), StunError> {
    let size = send_size(peer, payload.len(), dont_fragment);
    let (Ok(length), Ok(data)) = (
        u16::try_from(size - HEADER_SIZE),
        u16::try_from(payload.len()),
    ) else {
        return Err(StunError::TooLong);
    };
    buffer.reserve(size);
    buffer.put_u16(SEND_INDICATION);
    buffer.put_u16(length);
    buffer.put_slice(&MAGIC_COOKIE);
    buffer.put_slice(&transaction.0);
    let mixed = mix(peer, transaction);
    buffer.put_u16(kind::XOR_PEER_ADDRESS);
    buffer.put_u16(if peer.is_ipv4() { 8 } else { 20 });
    buffer.put_u8(0);
    buffer.put_u8(family(peer.is_ipv6())[0]);
    buffer.put_u16(mixed.port());
    match mixed.ip() {
        IpAddr::V4(ip) => buffer.put_slice(&ip.octets()),
        IpAddr::V6(ip) => buffer.put_slice(&ip.octets()),
    }
    if dont_fragment {
        buffer.put_u16(attribute::DONT_FRAGMENT);
        buffer.put_u16(0);
    }
    buffer.put_u16(kind::DATA);
    buffer.put_u16(data);
    buffer.put_slice(payload);
    buffer.put_bytes(0, payload.len().next_multiple_of(4) - payload.len());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stun::{Attribute, Class, MessageBuilder, Method};

    #[test]
    fn a_send_indication_is_what_another_codec_reads() {
        for peer in ["192.0.2.7:4000", "[2001:db8::7]:4000"] {
            let peer: SocketAddr = peer.parse().unwrap();
            for (size, dont_fragment) in [(0, false), (5, true), (1200, false)] {
                let payload = vec![7; size];
                let mut buffer = BytesMut::new();
                let id = TransactionId([9; 12]);
                write_send(&mut buffer, id, peer, &payload, dont_fragment).unwrap();
                assert_eq!(buffer.len(), send_size(peer, size, dont_fragment));
                let scan = Scan::new(&buffer).unwrap();
                assert_eq!(
                    (scan.class(), scan.method()),
                    (Class::Indication, Method::SEND)
                );
                assert_eq!(scan.data(), Some(&payload[..]));
                let message = scan.decode().unwrap();
                assert_eq!(message.peer_address(), Some(peer));
                assert_eq!(Answer::read(&scan).peer, Some(peer));
            }
        }
        let peer = "192.0.2.7:4000".parse().unwrap();
        let mut buffer = BytesMut::new();
        let refused = write_send(
            &mut buffer,
            TransactionId([0; 12]),
            peer,
            &[0; 65_520],
            false,
        );
        assert_eq!((refused, buffer.len()), (Err(StunError::TooLong), 0));
    }

    #[test]
    fn answers_are_read_as_another_codec_writes_them() {
        let (four, six) = (
            "192.0.2.1:1".parse().unwrap(),
            "[2001:db8::1]:2".parse().unwrap(),
        );
        let bytes = MessageBuilder::new(Class::Error, Method::ALLOCATE, TransactionId([3; 12]))
            .attribute(Attribute::Error(300, "Try\u{7} Alternate".into()))
            .attribute(Attribute::UnknownAttributes(vec![0x1a, 0x17]))
            .attribute(Attribute::AlternateServer(four))
            .attribute(Attribute::XorRelayedAddress(six))
            .attribute(Attribute::XorRelayedAddress(four))
            .attribute(Attribute::XorRelayedAddress(four))
            .attribute(Attribute::XorMappedAddress(six))
            .attribute(Attribute::Lifetime(600))
            .raw(attribute::ALTERNATE_DOMAIN, b"turn.example.org")
            .raw(attribute::CONNECTION_ID, &[0, 0, 1, 0])
            .raw(attribute::ADDRESS_ERROR_CODE, &[2, 0, 4, 40])
            .finish(None, false)
            .unwrap();
        let answer = Answer::read(&Scan::new(&bytes).unwrap());
        assert_eq!(answer.error, Some((300, "Try\\u{7} Alternate".into())));
        assert_eq!(answer.unknown, [0x1a, 0x17]);
        assert_eq!(answer.relayed, [six, four]);
        assert_eq!((answer.alternate, answer.mapped), (Some(four), Some(six)));
        assert_eq!((answer.lifetime, answer.connection), (Some(600), Some(256)));
        assert_eq!(answer.domain.as_deref(), Some("turn.example.org"));
        assert_eq!(answer.other_family, Some((440, "".into())));
    }
}
