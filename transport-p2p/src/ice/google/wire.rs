//! Pings and their answers: STUN without integrity and fingerprint, and with or without the cookie (libjingle
//! p2p/base/port.cc, libnice in its Google compatibility).

use crate::stun::{Attribute, Class, MessageBuilder, Method, Scan, TransactionId};
use bytes::Bytes;
use std::net::SocketAddr;

/// ERROR-CODE.
const ERROR_CODE: u16 = 0x0009;
/// The user names are right as far as they are ours, and the peer's is not known (yet).
pub(super) const STALE_CREDENTIALS: u16 = 430;

/// A ping. The user names stand one after the other with nothing between them: the peer's, then ours.
pub(super) fn ping(transaction: TransactionId, username: &str) -> Option<Bytes> {
    MessageBuilder::new(Class::Request, Method::BINDING, transaction)
        .username(username)
        .finish(None, false)
        .ok()
}

/// The answer to a ping: where it came from, and its own user name. libjingle 0.4 takes nothing else.
pub(super) fn pong(request: &Scan<'_>, source: SocketAddr) -> Option<Bytes> {
    const USERNAME: u16 = 0x0006;
    let answer = MessageBuilder::new(Class::Success, Method::BINDING, request.transaction())
        .attribute(Attribute::MappedAddress(source))
        .raw(USERNAME, request.username().unwrap_or_default());
    finish(answer, request)
}

/// The refusal of a ping. Google's class is the hundreds' place of 256 (libjingle p2p/base/stun.h).
pub(super) fn refusal(request: &Scan<'_>, code: u16, reason: &str) -> Option<Bytes> {
    const USERNAME: u16 = 0x0006;
    let [class, number] = code.to_be_bytes();
    let mut value = vec![0, 0, class, number];
    value.extend_from_slice(reason.as_bytes());
    let answer = MessageBuilder::new(Class::Error, Method::BINDING, request.transaction())
        .raw(ERROR_CODE, &value)
        .raw(USERNAME, request.username().unwrap_or_default());
    finish(answer, request)
}

/// With the cookie of the request, or what it had in its place.
fn finish(answer: MessageBuilder, request: &Scan<'_>) -> Option<Bytes> {
    let mut bytes = answer.finish(None, false).ok()?.to_vec();
    bytes.get_mut(4..8)?.copy_from_slice(&request.cookie());
    Some(bytes.into())
}

/// The code of an error answer, in Google's encoding (classes below 3) or in that of RFC 8489 §14.8.
pub(super) fn error_code(answer: &Scan<'_>) -> Option<u16> {
    let [_, _, class, number] = *answer.raw(ERROR_CODE)?.first_chunk::<4>()?;
    match class & 7 {
        class @ 0..3 => Some(u16::from(class) << 8 | u16::from(number)),
        class if number < 100 => Some(u16::from(class) * 100 + u16::from(number)),
        _ => None,
    }
}

/// Whether the peer may still take what it refused so (libjingle p2p/base/port.cc, `OnConnectionRequestErrorResponse`).
pub(super) fn may_change(code: Option<u16>) -> bool {
    matches!(code, Some(401 | 420 | STALE_CREDENTIALS | 500))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: SocketAddr = SocketAddr::new(
        std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
        0x1234,
    );

    #[test]
    fn a_ping_is_a_header_and_a_user_name() {
        let ping = ping(TransactionId([7; 12]), "aIq66Xy0LUKh1h4OqwgqNJmDQJxI37OF").unwrap();
        let mut expected = vec![0, 1, 0, 36, 0x21, 0x12, 0xa4, 0x42];
        expected.extend([7; 12]);
        expected.extend([0, 6, 0, 32]);
        expected.extend(b"aIq66Xy0LUKh1h4OqwgqNJmDQJxI37OF");
        assert_eq!(ping, expected);
    }

    #[test]
    fn the_answer_to_a_message_without_cookie_has_its_whole_transaction() {
        let mut request = vec![0, 1, 0, 8];
        request.extend(1..=16);
        request.extend([0, 6, 0, 4]);
        request.extend(b"abcd");
        assert!(Scan::new(&request).is_err());
        let scan = Scan::legacy(&request).unwrap();
        assert_eq!(scan.username(), Some(&b"abcd"[..]));
        let mut expected = vec![1, 1, 0, 20];
        expected.extend(1..=16);
        expected.extend([0, 1, 0, 8, 0, 1, 0x12, 0x34, 192, 0, 2, 1]);
        expected.extend([0, 6, 0, 4]);
        expected.extend(b"abcd");
        assert_eq!(pong(&scan, SOURCE).unwrap(), expected);
    }

    /// libjingle.md §4.7: class = code / 256, number = code % 256.
    #[test]
    fn errors_have_an_encoding_of_their_own() {
        let ping = ping(TransactionId([7; 12]), "abcd").unwrap();
        let refusal = refusal(&Scan::new(&ping).unwrap(), 430, "Stale").unwrap();
        assert_eq!(refusal[..4], [1, 0x11, 0, 24]);
        assert_eq!(refusal[20..29], [0, 9, 0, 9, 0, 0, 1, 174, b'S']);
        assert_eq!(error_code(&Scan::new(&refusal).unwrap()), Some(430));
        for (code, class, number) in [(401, 1, 145), (487, 1, 231), (600, 2, 88)] {
            let [high, low] = u16::to_be_bytes(code);
            assert_eq!([high, low], [class, number]);
        }
        let standard = MessageBuilder::new(Class::Error, Method::BINDING, TransactionId([7; 12]))
            .attribute(Attribute::Error(487, "Role Conflict".into()));
        let standard = standard.finish(None, false).unwrap();
        assert_eq!(error_code(&Scan::new(&standard).unwrap()), Some(487));
        assert!(may_change(Some(430)) && !may_change(Some(400)) && !may_change(None));
    }
}
