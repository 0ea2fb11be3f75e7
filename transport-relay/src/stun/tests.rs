use super::*;
use proptest::prelude::*;
use std::time::{Duration, Instant};

/// RFC 5769 §2.1.
const REQUEST: &str = "000100582112a442b7e7a701bc34d686fa87dfae\
    802200105354554e207465737420636c69656e74002400046e0001ff80290008932ff9b151263b36\
    000600096576746a3a68367659202020000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a280280004e57a3bcf";
/// RFC 5769 §2.2.
const RESPONSE_IPV4: &str = "0101003c2112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220002000080001a147e112a643\
    000800142b91f599fd9e90c38c7489f92af9ba53f06be7d780280004c07d4c96";
/// RFC 5769 §2.3.
const RESPONSE_IPV6: &str = "010100482112a442b7e7a701bc34d686fa87dfae\
    8022000b7465737420766563746f7220002000140002a1470113a9faa5d3f179bc25f4b5bed2b9d9\
    00080014a382954e4be67bf11784c97c8292c275bfe3ed4180280004c8fb0b4c";
/// RFC 5769 §2.4.
const LONG_TERM: &str = "000100602112a44278ad3433c6ad72c029da412e\
    00060012e3839ee38388e383aae38383e382afe382b900000015001c662f2f3439396b39353464364f4c33346f4c394653547679363473\
    410014000b6578616d706c652e6f72670000080014f67024656dd64a3e02b8e0712e85c9a28ca89666";
const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text.chars().filter_map(|c| c.to_digit(16)).collect();
    digits
        .chunks(2)
        .map(|pair| (pair[0] * 16 + pair[1]) as u8)
        .collect()
}

#[test]
fn rfc_5769_request() {
    let bytes = hex(REQUEST);
    let scan = Scan::new(&bytes).unwrap();
    assert_eq!(
        (scan.class(), scan.method()),
        (Class::Request, Method::BINDING)
    );
    assert_eq!(scan.username(), Some(&b"evtj:h6vY"[..]));
    scan.verify_integrity(&IntegrityKey::short_term(PASSWORD))
        .unwrap();
    scan.verify_fingerprint().unwrap();
    let message = scan.decode().unwrap();
    assert_eq!(message.priority(), Some(0x6e00_01ff));
    assert_eq!(message.ice_controlled(), Some(0x932f_f9b1_5126_3b36));
    assert!(message.unknown().is_empty() && !message.use_candidate());
}

#[test]
fn rfc_5769_responses() {
    let key = IntegrityKey::short_term(PASSWORD);
    for (vector, address) in [
        (RESPONSE_IPV4, "192.0.2.1:32853"),
        (
            RESPONSE_IPV6,
            "[2001:db8:1234:5678:11:2233:4455:6677]:32853",
        ),
    ] {
        let bytes = hex(vector);
        let scan = Scan::new(&bytes).unwrap();
        assert_eq!(scan.class(), Class::Success);
        scan.verify_integrity(&key).unwrap();
        scan.verify_fingerprint().unwrap();
        let message = scan.decode().unwrap();
        assert_eq!(message.mapped_address(), Some(address.parse().unwrap()));
    }
}

#[test]
fn rfc_5769_long_term() {
    let bytes = hex(LONG_TERM);
    let scan = Scan::new(&bytes).unwrap();
    assert_eq!(scan.username(), Some("マトリックス".as_bytes()));
    assert_eq!(scan.realm(), Some(&b"example.org"[..]));
    assert_eq!(scan.nonce(), Some(&b"f//499k954d6OL34oL9FSTvy64sA"[..]));
    let key = IntegrityKey::long_term("マトリックス", "example.org", "TheMatrIX");
    scan.verify_integrity(&key).unwrap();
    assert_eq!(scan.verify_fingerprint(), Err(StunError::NoFingerprint));
    assert!(scan.decode().unwrap().unknown().is_empty());
}

/// The seal over the bytes of the vectors, whose padding is not ours, is that of the vectors.
#[test]
fn rfc_5769_sealing() {
    let key = IntegrityKey::short_term(PASSWORD);
    for vector in [REQUEST, RESPONSE_IPV4, RESPONSE_IPV6] {
        let bytes = hex(vector);
        let mut again = bytes[..bytes.len() - 32].to_vec();
        key.seal(&mut again);
        integrity::append_fingerprint(&mut again);
        assert_eq!(again, bytes);
    }
}

#[test]
fn integrity_and_fingerprint_must_be_there_and_right() {
    let key = IntegrityKey::short_term("right");
    let build = |key: Option<&IntegrityKey>, fingerprint| {
        MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12]))
            .username("a:b")
            .finish(key, fingerprint)
            .unwrap()
    };
    let bare = build(None, false);
    let scan = Scan::new(&bare).unwrap();
    assert_eq!(scan.verify_integrity(&key), Err(StunError::NoIntegrity));
    assert_eq!(scan.verify_fingerprint(), Err(StunError::NoFingerprint));
    assert!(!scan.has_integrity() && !scan.has_fingerprint());

    let wrong = build(Some(&IntegrityKey::short_term("wrong")), true);
    let scan = Scan::new(&wrong).unwrap();
    assert_eq!(scan.verify_integrity(&key), Err(StunError::WrongIntegrity));
    scan.verify_fingerprint().unwrap();

    let mut broken = build(Some(&key), true).to_vec();
    let last = broken.len() - 1;
    broken[last] ^= 1;
    let scan = Scan::new(&broken).unwrap();
    scan.verify_integrity(&key).unwrap();
    assert_eq!(scan.verify_fingerprint(), Err(StunError::WrongFingerprint));
    let empty = IntegrityKey::from_bytes(&[]);
    assert_eq!(
        scan.verify_integrity(&empty),
        Err(StunError::WrongIntegrity)
    );
}

#[test]
fn what_follows_the_integrity_is_not_read() {
    let key = IntegrityKey::short_term("right");
    let mut bytes = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12]))
        .attribute(Attribute::Priority(7))
        .finish(Some(&key), false)
        .unwrap()
        .to_vec();
    // USE-CANDIDATE, a user name and an attribute that nobody knows, all unsealed.
    for late in [
        &[0, 0x25, 0, 0][..],
        &[0, 6, 0, 4, b'e', b'v', b'i', b'l'],
        &[0, 0x77, 0, 0],
    ] {
        bytes.extend_from_slice(late);
    }
    let end = bytes.len();
    integrity::set_length(&mut bytes, end);
    integrity::append_fingerprint(&mut bytes);
    let scan = Scan::new(&bytes).unwrap();
    scan.verify_integrity(&key).unwrap();
    scan.verify_fingerprint().unwrap();
    assert_eq!(scan.username(), None);
    let message = scan.decode().unwrap();
    assert_eq!(message.priority(), Some(7));
    assert!(!message.use_candidate() && message.unknown().is_empty());
}

#[test]
fn only_what_must_be_understood_can_spoil_a_message() {
    let build = |kind, value: &[u8]| {
        MessageBuilder::new(Class::Success, Method::BINDING, TransactionId([1; 12]))
            .attribute(Attribute::Priority(7))
            .raw(kind, value)
            .finish(None, true)
            .unwrap()
    };
    // ALTERNATE-SERVER and ICE-CONTROLLED of a wrong size: optional, left out. A vendor's own too.
    for (kind, value) in [
        (kind::ALTERNATE_SERVER, &[1][..]),
        (kind::ICE_CONTROLLED, &[1, 2]),
        (0xc057, &[0, 3, 0, 10]),
    ] {
        let bytes = build(kind, value);
        let message = Scan::new(&bytes).unwrap().decode().unwrap();
        assert_eq!(message.attributes(), [Attribute::Priority(7)]);
        assert!(message.unknown().is_empty());
    }
    let bytes = build(kind::XOR_MAPPED_ADDRESS, &[0, 9, 1, 2, 3, 4, 5, 6]);
    assert_eq!(
        Scan::new(&bytes).unwrap().decode(),
        Err(StunError::BadAttribute(kind::XOR_MAPPED_ADDRESS))
    );
    let bytes = build(0x7777, &[]);
    assert_eq!(
        Scan::new(&bytes).unwrap().decode().unwrap().unknown(),
        [0x7777]
    );
}

#[test]
fn sizes_are_those_of_the_datagram() {
    let bytes = hex(REQUEST);
    assert!(Scan::is_stun(&bytes));
    for end in 0..bytes.len() {
        assert_eq!(Scan::new(&bytes[..end]).err(), Some(StunError::NotStun));
    }
    let mut longer = bytes.clone();
    longer.extend_from_slice(&[0; 4]);
    assert_eq!(Scan::new(&longer).err(), Some(StunError::NotStun));
    let mut cookie = bytes.clone();
    cookie[4] = 0;
    assert_eq!(Scan::new(&cookie).err(), Some(StunError::NotStun));
    let mut beyond = bytes;
    beyond[23] = 0xf0;
    assert_eq!(Scan::new(&beyond).err(), Some(StunError::Truncated));

    let many = (0..=ATTRIBUTES_MAX).fold(
        MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12])),
        |builder, _| builder.raw(0x8022, b""),
    );
    let many = many.finish(None, false).unwrap();
    assert_eq!(Scan::new(&many).err(), Some(StunError::TooManyAttributes));
    let long = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12]));
    let long = long.raw(kind::DATA, &vec![0; 0x1_0000]);
    assert_eq!(long.finish(None, false), Err(StunError::TooLong));
    let error = MessageBuilder::new(Class::Error, Method::BINDING, TransactionId([1; 12]));
    let error = error.attribute(Attribute::Error(1_000, "".into()));
    assert_eq!(
        error.finish(None, false),
        Err(StunError::BadAttribute(kind::ERROR_CODE))
    );
}

/// RFC 8489 §6.2.1: with an RTO of 500 ms a request is sent at 0, 500, 1500, 3500, 7500, 15500 and 31500 ms, and given
/// up at 39500 ms.
#[test]
fn a_request_is_repeated_as_the_rfc_says() {
    #[allow(clippy::disallowed_methods, reason = "only differences are used")]
    let start = Instant::now();
    let mut clock = Retransmission::new(Timing::default(), start);
    let mut times = vec![0];
    let given_up = loop {
        let now = clock.poll_timeout();
        let early = clock.handle_timeout(now - Duration::from_millis(1));
        assert_eq!(early, Due::Nothing);
        match clock.handle_timeout(now) {
            Due::Send => times.push((now - start).as_millis()),
            Due::GiveUp => break (now - start).as_millis(),
            Due::Nothing => unreachable!("it is time"),
        }
    };
    assert_eq!(times, [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!((given_up, clock.sent()), (39_500, 7));
}

fn address() -> impl Strategy<Value = std::net::SocketAddr> {
    prop_oneof![
        any::<([u8; 4], u16)>().prop_map(Into::into),
        any::<([u8; 16], u16)>().prop_map(Into::into),
    ]
}

fn attribute() -> impl Strategy<Value = Attribute> {
    prop_oneof![
        address().prop_map(Attribute::MappedAddress),
        address().prop_map(Attribute::XorMappedAddress),
        (300_u16..=699, "[a-z ]{0,40}").prop_map(|(code, why)| Attribute::Error(code, why.into())),
        proptest::collection::btree_set(any::<u16>(), 0..8)
            .prop_map(|kinds| Attribute::UnknownAttributes(kinds.into_iter().collect())),
        address().prop_map(Attribute::AlternateServer),
        any::<u32>().prop_map(Attribute::Priority),
        Just(Attribute::UseCandidate),
        any::<u64>().prop_map(Attribute::IceControlled),
        any::<u64>().prop_map(Attribute::IceControlling),
        any::<u32>().prop_map(Attribute::Lifetime),
        address().prop_map(Attribute::XorPeerAddress),
        address().prop_map(Attribute::XorRelayedAddress),
        any::<u16>().prop_map(Attribute::ChannelNumber),
        Just(Attribute::RequestedTransportUdp),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read(
        class in 0_u8..4, method in 0_u16..0x100, id: [u8; 12],
        attributes in proptest::collection::vec(attribute(), 0..8),
        username in "[a-z:]{0,30}", key: Vec<u8>,
    ) {
        let class = [Class::Request, Class::Indication, Class::Success, Class::Error][usize::from(class)];
        let key = IntegrityKey::from_bytes(&key);
        let mut builder = MessageBuilder::new(class, Method::new(method), TransactionId(id)).username(&username);
        for attribute in &attributes {
            builder = builder.attribute(attribute.clone());
        }
        let bytes = builder.finish(Some(&key), true).unwrap();
        let scan = Scan::new(&bytes).unwrap();
        scan.verify_integrity(&key).unwrap();
        scan.verify_fingerprint().unwrap();
        prop_assert_eq!(scan.username(), Some(username.as_bytes()));
        let message = scan.decode().unwrap();
        prop_assert_eq!((message.class, message.method, message.transaction), (class, Method::new(method), TransactionId(id)));
        // Those of a check stand after the others.
        let of_check = |attribute: &Attribute| matches!(
            attribute,
            Attribute::Priority(_) | Attribute::UseCandidate | Attribute::IceControlled(_) | Attribute::IceControlling(_)
        );
        let mut expected = attributes;
        expected.sort_by_key(of_check);
        prop_assert_eq!(message.attributes(), &expected[..]);
    }

    /// Any change of any byte of a sealed message is seen, and none is a panic.
    #[test]
    fn a_changed_message_is_refused(at: prop::sample::Index, flip in 1_u8..) {
        let key = IntegrityKey::short_term(PASSWORD);
        let mut bytes = hex(REQUEST);
        let at = at.index(bytes.len() - 8);
        bytes[at] ^= flip;
        let verified = Scan::new(&bytes).and_then(|scan| {
            let _ = scan.decode();
            scan.verify_integrity(&key)
        });
        prop_assert!(verified.is_err());
    }

    #[test]
    fn nothing_is_a_panic(head: [u8; 2], id: [u8; 12], kinds in proptest::collection::vec((any::<u16>(), prop::sample::select(vec![
            1_u16, 6, 8, 9, 10, 12, 13, 18, 20, 22, 25, 32, 36, 37, 0x8023, 0x8028, 0x8029, 0x802a,
        ]), proptest::collection::vec(any::<u8>(), 0..24), any::<bool>()), 0..6), tail: Vec<u8>) {
        let mut bytes = vec![head[0] & 3, head[1], 0, 0];
        bytes.extend_from_slice(&MAGIC_COOKIE);
        bytes.extend_from_slice(&id);
        for (any, known, value, usual) in kinds {
            bytes.extend_from_slice(&if usual { known } else { any }.to_be_bytes());
            bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
            bytes.extend_from_slice(&value);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes.extend_from_slice(&tail[..tail.len().min(8)]);
        let end = bytes.len();
        integrity::set_length(&mut bytes, end);
        if let Ok(scan) = Scan::new(&bytes) {
            let _ = (scan.decode(), scan.verify_fingerprint(), scan.verify_integrity(&IntegrityKey::short_term("x")));
        }
    }
}
