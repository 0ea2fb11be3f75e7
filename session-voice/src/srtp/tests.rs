use super::*;
use proptest::prelude::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex
        .chars()
        .filter_map(|letter| letter.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits
        .chunks(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// RFC 3711 appendix B.3: the keys that are derived from a master key show in what they make.
#[test]
fn rfc_3711_key_derivation() {
    let master = bytes("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = bytes("0EC675AD498AFEEBB6960B3AABE6");
    let derived = Cipher::derive(SrtpProfile::Aes128CmSha1_80, &master, &salt, 0);
    let expected = Cipher::counter(
        &bytes("C61E7A93744F39EE10734AFE3FF7A087"),
        bytes("30CBBC08863D8C85D49DB34A9AE1").try_into().unwrap(),
        &bytes("CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
    );
    let (mut a, mut b) = ([0; 40], [0; 40]);
    derived.apply(7, 9, &mut a);
    expected.apply(7, 9, &mut b);
    assert_eq!(a, b);
    assert_eq!(
        derived.tag(b"packet", Some(3)),
        expected.tag(b"packet", Some(3))
    );
}

/// RFC 3711 appendix B.2.
#[test]
fn rfc_3711_counter_mode() {
    let salt = bytes("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
    let cipher = Cipher::counter(&bytes("2B7E151628AED2A6ABF7158809CF4F3C"), salt, &[0; 20]);
    let mut stream = [0; 48];
    cipher.apply(0, 0, &mut stream);
    let expected = "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0";
    assert_eq!(stream[..], bytes(expected));
}

const RTP_CLEAR: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573";

/// RFC 7714 §16.1.1.
#[test]
fn rfc_7714_rtp() {
    let cipher = Cipher::galois(
        &bytes("000102030405060708090a0b0c0d0e0f"),
        bytes("517569642070726f2071756f").try_into().unwrap(),
    );
    let mut packet = bytes(RTP_CLEAR);
    let (clear, body) = packet.split_at_mut(12);
    let tag = cipher.seal(0x5501_a0b2, 0xf17b, clear, &[], body);
    let sealed = [&packet[..], &tag].concat();
    let expected = "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833 899d7f27 beb16a91 52cf765e e4390cce";
    assert_eq!(sealed, bytes(expected));
}

fn profiles() -> impl Strategy<Value = SrtpProfile> {
    prop_oneof![
        Just(SrtpProfile::Aes128CmSha1_80),
        Just(SrtpProfile::Aes128CmSha1_32),
        Just(SrtpProfile::AeadAes128Gcm),
        Just(SrtpProfile::AeadAes256Gcm),
    ]
}

fn master(profile: SrtpProfile, seed: u8) -> SrtpMaster {
    SrtpMaster::new(
        profile,
        &vec![seed; profile.key_bytes()],
        &vec![seed ^ 0x55; profile.salt_bytes()],
    )
    .unwrap()
}

fn packet(ssrc: u32, sequence: u16, payload: &[u8]) -> BytesMut {
    let mut packet = BytesMut::new();
    let contributors: &[u32] = if sequence.is_multiple_of(3) {
        &[5]
    } else {
        &[]
    };
    crate::RtpHeader {
        sequence,
        ssrc,
        contributors,
        extensions: &[(1, b"level")],
        ..crate::RtpHeader::default()
    }
    .write(&mut packet);
    packet.put_slice(payload);
    packet
}

proptest! {
    /// Over many rounds, late and early within bounds, twice or changed: each genuine packet once, nothing else ever.
    #[test]
    fn each_packet_once_and_none_but_ours(
        profile in profiles(),
        start: u16,
        steps in prop::collection::vec((0..3_000_u64, 0..10_u8, any::<(usize, u8)>(), prop::collection::vec(any::<u8>(), 0..80)), 1..60),
    ) {
        let master = master(profile, 7);
        let (mut sender, mut receiver) = (SrtpSender::new(&master), SrtpReceiver::new(&master));
        let mut index = u64::from(start);
        let mut taken = 0;
        for (ahead, what, (at, with), payload) in steps {
            // A sender goes on by less than half a round, as must be.
            index += 1 + ahead;
            let clear = packet(9, index as u16, &payload);
            let mut protected = clear.clone();
            sender.protect_rtp(&mut protected).unwrap();
            prop_assert_eq!(protected.len(), clear.len() + profile.rtp_tag());
            if what == 0 {
                let mut forged = protected.clone();
                let at = at % forged.len();
                forged[at] ^= with.max(1);
                prop_assert!(receiver.unprotect_rtp(&mut forged).is_err());
            }
            if what == 1 && taken > 1 {
                // Lost, for now.
                continue;
            }
            let mut again = protected.clone();
            receiver.unprotect_rtp(&mut protected).unwrap();
            prop_assert_eq!(&protected, &clear);
            taken += 1;
            prop_assert_eq!(receiver.unprotect_rtp(&mut again), Err(SrtpError::Replayed));
        }
    }

    #[test]
    fn compounds_come_back_once(profile in profiles(), bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..20), at: usize, with: u8) {
        let master = master(profile, 3);
        let (mut sender, mut receiver) = (SrtpSender::new(&master), SrtpReceiver::new(&master));
        for body in bodies {
            let mut packet = BytesMut::from(&[0x80, 201, 0, 1, 0, 0, 0, 9][..]);
            packet.put_slice(&body);
            let clear = packet.clone();
            sender.protect_rtcp(&mut packet).unwrap();
            prop_assert_eq!(packet.len(), clear.len() + profile.rtcp_tag() + INDEX_BYTES);
            let mut forged = packet.clone();
            let at = at % forged.len();
            forged[at] ^= with.max(1);
            prop_assert!(receiver.unprotect_rtcp(&mut forged).is_err());
            let mut again = packet.clone();
            receiver.unprotect_rtcp(&mut packet).unwrap();
            prop_assert_eq!(&packet, &clear);
            prop_assert_eq!(receiver.unprotect_rtcp(&mut again), Err(SrtpError::Replayed));
        }
    }

    #[test]
    fn garbage_is_refused(profile in profiles(), bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut receiver = SrtpReceiver::new(&master(profile, 1));
        prop_assert!(receiver.unprotect_rtp(&mut BytesMut::from(&bytes[..])).is_err());
        prop_assert!(receiver.unprotect_rtcp(&mut BytesMut::from(&bytes[..])).is_err());
        prop_assert!(receiver.sources.is_empty());
    }
}

#[test]
fn keys_of_another_size_are_refused_and_none_are_shown() {
    let profile = SrtpProfile::AeadAes256Gcm;
    assert_eq!(
        SrtpMaster::new(profile, &[0; 16], &[0; 12]),
        Err(SrtpError::KeySize("key"))
    );
    assert_eq!(
        SrtpMaster::new(profile, &[0; 32], &[0; 14]),
        Err(SrtpError::KeySize("salt"))
    );
    assert_eq!(
        SrtpMaster::from_dtls(profile, &[0; 87]),
        Err(SrtpError::KeySize("salt"))
    );
    let material: Vec<u8> = (0..60).collect();
    let [client, server] = SrtpMaster::from_dtls(SrtpProfile::Aes128CmSha1_80, &material).unwrap();
    assert_eq!(
        (client.key[0], server.key[0], client.salt[0], server.salt[0]),
        (0, 16, 32, 46)
    );
    assert!(!format!("{client:?}").contains("32"));
    for number in 0..20 {
        let profile = SrtpProfile::from_number(number);
        assert!(profile.is_none_or(|profile| profile.number() == number));
        // What a handshake names is the same by its number.
        let named = session_core::SrtpProfile(number);
        match SrtpProfile::try_from(named) {
            Ok(known) => assert_eq!((Some(known), named), (profile, known.into())),
            Err(error) => assert_eq!((None, error), (profile, UnknownProfile(number))),
        }
    }
}

#[test]
fn a_flood_of_sources_is_bounded() {
    let master = master(SrtpProfile::Aes128CmSha1_80, 1);
    let (mut sender, mut receiver) = (SrtpSender::new(&master), SrtpReceiver::new(&master));
    for ssrc in 0..SOURCES_MAX as u32 {
        let mut packet = packet(ssrc, 1, b"x");
        sender.protect_rtp(&mut packet).unwrap();
        receiver.unprotect_rtp(&mut packet).unwrap();
    }
    let mut more = packet(1_000, 1, b"x");
    assert_eq!(
        sender.protect_rtp(&mut more),
        Err(SrtpError::TooManySources)
    );
    more.put_slice(&[0; 10]);
    assert_eq!(
        receiver.unprotect_rtp(&mut more),
        Err(SrtpError::TooManySources)
    );
}

#[test]
fn a_packet_in_clear_is_not_taken() {
    let mut receiver = SrtpReceiver::new(&master(SrtpProfile::Aes128CmSha1_80, 1));
    let mut clear = BytesMut::from(&[0x80, 201, 0, 1, 0, 0, 0, 9][..]);
    clear.put_slice(&[0, 0, 0, 1]);
    clear.put_slice(&[0; 10]);
    assert_eq!(
        receiver.unprotect_rtcp(&mut clear),
        Err(SrtpError::NotEncrypted)
    );
}

#[test]
fn keys_wear_out() {
    let mut sender = SrtpSender::new(&master(SrtpProfile::Aes128CmSha1_80, 1));
    sender.rtcp_index = RTCP_INDEX_END - 2;
    let mut packet = BytesMut::from(&[0x80, 201, 0, 1, 0, 0, 0, 9][..]);
    assert_eq!(sender.protect_rtcp(&mut packet.clone()), Ok(()));
    assert_eq!(
        sender.protect_rtcp(&mut packet),
        Err(SrtpError::KeyExhausted)
    );
    assert_eq!(packet.len(), 8);
}

#[test]
fn rtp_and_rtcp_have_keys_of_their_own() {
    let keys = master(SrtpProfile::Aes128CmSha1_80, 1).keys();
    assert_ne!(keys.rtp.tag(b"x", None), keys.rtcp().tag(b"x", None));
}
