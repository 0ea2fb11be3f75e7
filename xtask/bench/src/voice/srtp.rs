//! SRTP by itself.

use crate::measure::compare;
use bytes::{Bytes, BytesMut};
use rtc_ice::crypto;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};
use session_voice::{SrtpMaster, SrtpProfile, SrtpReceiver, SrtpSender};
use std::hint::black_box;

/// Bytes of a packet: 20 ms of G.711.
const SIZE: usize = 12 + 160;

/// Protects a packet and takes it up again, with AES-CM and HMAC-SHA1-80, the profile that everybody has. The peer is
/// rtc-srtp.
pub(super) fn srtp(name: &str) {
    let (key, salt) = ([7; 16], [9; 14]);
    let master = SrtpMaster::new(SrtpProfile::Aes128CmSha1_80, &key, &salt).expect("a key");
    let (mut sender, mut receiver) = (SrtpSender::new(&master), SrtpReceiver::new(&master));
    let provider = crypto::default_provider().expect("a provider is built in");
    let context = || {
        let profile = ProtectionProfile::Aes128CmHmacSha1_80;
        Context::new(&key, &salt, profile, None, None, provider.crypto()).expect("a key")
    };
    let (mut encrypt, mut decrypt) = (context(), context());
    let (mut sequence, mut peers_sequence) = (0_u16, 0_u16);
    let mut buffer = BytesMut::with_capacity(SIZE + 64);
    compare(
        name,
        || {
            sequence = sequence.wrapping_add(1);
            buffer.clear();
            buffer.extend_from_slice(&packet(sequence));
            sender.protect_rtp(&mut buffer).expect("a packet");
            receiver.unprotect_rtp(&mut buffer).expect("a packet");
            assert_eq!(black_box(&buffer).len(), SIZE);
        },
        || {
            peers_sequence = peers_sequence.wrapping_add(1);
            let sealed = encrypt.encrypt_rtp(&packet(peers_sequence));
            let sealed: Bytes = sealed.expect("a packet").freeze();
            let opened = decrypt.decrypt_rtp(&sealed).expect("a packet");
            assert_eq!(black_box(opened).len(), SIZE);
        },
    );
}

fn packet(sequence: u16) -> [u8; SIZE] {
    let mut packet = [5; SIZE];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}
