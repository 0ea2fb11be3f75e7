//! SRTP by itself: a packet is protected, and taken up again.

use crate::measure::{compare, compare_with};
use bytes::{Bytes, BytesMut};
use rtc_ice::crypto;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};
use session_voice::{SrtpMaster, SrtpProfile, SrtpReceiver, SrtpSender};
use std::{
    hint::black_box,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

/// Bytes of a packet: 20 ms of G.711.
const SIZE: usize = 12 + 160;

const KEY: [u8; 16] = [7; 16];
const SALT: [u8; 14] = [9; 14];

/// Ours, and the packet that is on its way.
struct Pair {
    sender: SrtpSender,
    receiver: SrtpReceiver,
    buffer: BytesMut,
    sequence: u16,
}

impl Pair {
    fn new(profile: SrtpProfile) -> Self {
        let salt = &SALT[..profile.salt_bytes()];
        let master = SrtpMaster::new(profile, &KEY, salt).expect("a key");
        Self {
            sender: SrtpSender::new(&master),
            receiver: SrtpReceiver::new(&master),
            buffer: BytesMut::with_capacity(SIZE + 64),
            sequence: 0,
        }
    }

    fn round_trip(&mut self) {
        self.sequence = self.sequence.wrapping_add(1);
        self.buffer.clear();
        self.buffer.extend_from_slice(&packet(self.sequence));
        self.sender.protect_rtp(&mut self.buffer).expect("a packet");
        self.receiver
            .unprotect_rtp(&mut self.buffer)
            .expect("a packet");
        assert_eq!(black_box(&self.buffer).len(), SIZE);
    }
}

/// With AES-CM and HMAC-SHA1-80, the profile that everybody has. The peer is rtc-srtp.
pub(super) fn counter(name: &str) {
    let (ours, theirs) = (
        SrtpProfile::Aes128CmSha1_80,
        ProtectionProfile::Aes128CmHmacSha1_80,
    );
    beside_rtc(name, ours, theirs);
}

/// With AES-GCM, which our own calls agree on.
pub(super) fn galois(name: &str) {
    let (ours, theirs) = (SrtpProfile::AeadAes128Gcm, ProtectionProfile::AeadAes128Gcm);
    beside_rtc(name, ours, theirs);
}

fn beside_rtc(name: &str, ours: SrtpProfile, theirs: ProtectionProfile) {
    let provider = crypto::default_provider().expect("a provider is built in");
    let salt = &SALT[..ours.salt_bytes()];
    let context =
        || Context::new(&KEY, salt, theirs, None, None, provider.crypto()).expect("a key");
    let (mut encrypt, mut decrypt) = (context(), context());
    let mut peers_sequence = 0_u16;
    let mut pair = Pair::new(ours);
    compare(
        name,
        || pair.round_trip(),
        || {
            peers_sequence = peers_sequence.wrapping_add(1);
            let sealed = encrypt.encrypt_rtp(&packet(peers_sequence));
            let sealed: Bytes = sealed.expect("a packet").freeze();
            let opened = decrypt.decrypt_rtp(&sealed).expect("a packet");
            assert_eq!(black_box(opened).len(), SIZE);
        },
    );
}

/// With AES-CM and HMAC-SHA1-80, beside libsrtp as the system has it: Debian's encrypts by NSS, and takes several times
/// what one that does so by OpenSSL takes.
pub(super) fn counter_libsrtp(name: &str) {
    beside_libsrtp(name, SrtpProfile::Aes128CmSha1_80, "cm");
}

/// With AES-GCM, beside the same.
pub(super) fn galois_libsrtp(name: &str) {
    beside_libsrtp(name, SrtpProfile::AeadAes128Gcm, "gcm");
}

fn beside_libsrtp(name: &str, profile: SrtpProfile, word: &str) {
    let Some(program) = crate::c_peer("srtp_pair", "libsrtp2") else {
        println!(
            "{name}: not run: libsrtp and a C compiler are wanted (Debian: apt-get install libsrtp2-dev gcc pkg-config)"
        );
        return;
    };
    let mut peer = LibSrtp::start(&program, word);
    // What theirs protects is taken, so that both do the same work.
    let mut theirs = BytesMut::from(&peer.first[..]);
    Pair::new(profile)
        .receiver
        .unprotect_rtp(&mut theirs)
        .expect("libsrtp's packet");
    assert_eq!(theirs[..], packet(1));
    let mut pair = Pair::new(profile);
    compare_with(name, "libsrtp", || pair.round_trip(), || peer.sample());
}

struct LibSrtp {
    process: Child,
    answers: BufReader<ChildStdout>,
    /// The packet with the number 1, protected.
    first: Vec<u8>,
}

impl LibSrtp {
    fn start(program: &Path, profile: &str) -> Self {
        let mut process = Command::new(program)
            .args([profile, &SIZE.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it was just built");
        let output = process.stdout.take().expect("it is piped");
        let mut peer = Self {
            process,
            answers: BufReader::new(output),
            first: Vec::new(),
        };
        let hex = peer.answer();
        peer.first = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal"))
            .collect();
        peer
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).expect("libsrtp's line");
        line.trim().to_owned()
    }

    fn sample(&mut self) -> f64 {
        let input = self.process.stdin.as_mut().expect("it is piped");
        input.write_all(b"\n").expect("libsrtp listens");
        self.answer().parse().expect("nanoseconds")
    }
}

impl Drop for LibSrtp {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
    }
}

fn packet(sequence: u16) -> [u8; SIZE] {
    let mut packet = [5; SIZE];
    packet[..2].copy_from_slice(&[0x80, 0]);
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet
}
