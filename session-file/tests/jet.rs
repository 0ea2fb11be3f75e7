//! XEP-0391: what is said of a key, and what is done with it.
#![cfg(feature = "jet")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/keys.rs"]
mod keys;

use keys::{STUB, Stub};
use proptest::prelude::*;
use session_core::{Element, Peer};
use session_file::{JET, JetCipher, JetError, JetOpener, JetSealer, JetSecret, JetSecurity};
use std::sync::Arc;

fn hex(text: &str) -> Vec<u8> {
    keys::hex(text).unwrap()
}

fn seal(secret: &JetSecret, text: &[u8], piece: usize) -> Vec<u8> {
    let mut sealer = JetSealer::new(secret);
    let mut stream = text.to_vec();
    for piece in stream.chunks_mut(piece) {
        sealer.seal(piece).unwrap();
    }
    stream.extend(sealer.finish());
    stream
}

fn open(secret: &JetSecret, stream: &[u8], piece: usize) -> Result<Vec<u8>, JetError> {
    let mut opener = JetOpener::new(secret);
    let mut text = Vec::new();
    for piece in stream.chunks(piece) {
        text.extend(opener.open(piece)?);
    }
    opener.finish().map(|()| text)
}

/// The test cases 2, 4 (without additional data: 3), 14 and 15 of the Galois/Counter Mode specification (McGrew, Viega).
#[test]
fn the_cipher_is_that_of_the_specification() {
    let text = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72\
        1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b391aafd255";
    for (cipher, secret, text, stream) in [
        (
            JetCipher::Aes128Gcm,
            "00000000000000000000000000000000000000000000000000000000",
            "00000000000000000000000000000000",
            "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf",
        ),
        (
            JetCipher::Aes128Gcm,
            "feffe9928665731c6d6a8f9467308308cafebabefacedbaddecaf888",
            text,
            "42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e\
             21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091473f5985\
             4d5c2af327cd64a62cf35abd2ba6fab4",
        ),
        (
            JetCipher::Aes256Gcm,
            "0000000000000000000000000000000000000000000000000000000000000000000000000000000000000000",
            "00000000000000000000000000000000",
            "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919",
        ),
        (
            JetCipher::Aes256Gcm,
            "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308cafebabefacedbaddecaf888",
            text,
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa\
             8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662898015ad\
             b094dac5d93471bdec1a502270e3cc6c",
        ),
    ] {
        let secret = JetSecret::new(cipher, &hex(secret)).unwrap();
        for piece in [1, 7, 16, 17, 1_000] {
            assert_eq!(seal(&secret, &hex(text), piece), hex(stream), "{cipher:?}");
            assert_eq!(
                open(&secret, &hex(stream), piece),
                Ok(hex(text)),
                "{cipher:?}"
            );
        }
    }
}

#[test]
fn a_name_is_written_always_and_need_not_be_read() {
    let name: Arc<str> = "a-file-offer".into();
    let secret = JetSecret::new(JetCipher::Aes256Gcm, &[9; 44]).unwrap();
    let to = Peer::from("juliet@capulet.example/yn0cl4bnw0yr3vym");
    let said = JetSecurity::seal(&mut Stub::default(), &to, name.clone(), &secret).unwrap();
    let element = said.to_element();
    assert_eq!(
        element.attribute("name"),
        Some("a-file-offer"),
        "for Conversations"
    );
    let read = JetSecurity::from_element(element.view(), &name).unwrap();
    assert_eq!(read.as_ref(), Some(&said));
    assert_eq!(read.unwrap().open(&mut Stub::default(), &to), Ok(secret));

    // As Dino writes it, and with the cipher as the examples have it.
    let bare = Element::new(JET, "security")
        .with("cipher", "urn:xmpp:ciphers:aes-256-gcm-nopadding")
        .with("type", STUB)
        .child(said.envelope.clone());
    assert_eq!(
        JetSecurity::from_element(bare.view(), &name),
        Ok(Some(said))
    );
    let other = Element::new("urn:xmpp:jingle:security:xtls:0", "security");
    assert_eq!(JetSecurity::from_element(other.view(), &name), Ok(None));
}

#[test]
fn what_cannot_be_is_refused() {
    let name: Arc<str> = "file".into();
    let envelope = || Element::new(STUB, "encrypted");
    let whole = |name: &str, cipher: &str, kind: &str| {
        Element::new(JET, "security")
            .with("name", name)
            .with("cipher", cipher)
            .with("type", kind)
    };
    let cipher = JetCipher::Aes128Gcm.as_str();
    for element in [
        whole("another", cipher, STUB).child(envelope()),
        whole("file", "urn:xmpp:ciphers:rot13:0", STUB).child(envelope()),
        whole("file", cipher, "").child(envelope()),
        whole("file", cipher, STUB),
        Element::new(JET, "security").child(envelope()),
    ] {
        assert!(
            JetSecurity::from_element(element.view(), &name).is_err(),
            "{element:?}"
        );
    }
    let peer = Peer::from("mallory@example.org/x");
    let kind = whole("file", cipher, "urn:other").child(envelope());
    let kind = JetSecurity::from_element(kind.view(), &name)
        .unwrap()
        .unwrap();
    assert!(matches!(
        kind.open(&mut Stub::default(), &peer),
        Err(JetError::Kind(_))
    ));
    let short = envelope().child(Element::new(STUB, "payload").text("00ff"));
    let short = JetSecurity {
        envelope: short,
        kind: STUB.into(),
        ..kind
    };
    let expected = Err(JetError::Secret {
        bytes: 2,
        expected: 28,
    });
    assert_eq!(short.open(&mut Stub::default(), &peer), expected);
    let secret = JetSecret::new(JetCipher::Aes128Gcm, &[0xAB; 28]).unwrap();
    assert!(
        !format!("{secret:?}").contains("171"),
        "nobody sees it in a log"
    );
}

proptest! {
    #[test]
    fn what_was_sealed_is_opened_and_what_was_changed_is_not(
        text in proptest::collection::vec(any::<u8>(), 0..400),
        key in proptest::collection::vec(any::<u8>(), 44),
        pieces in (1_usize..50, 1_usize..50),
        long in any::<bool>(),
        at in any::<proptest::sample::Index>(),
    ) {
        let cipher = if long { JetCipher::Aes256Gcm } else { JetCipher::Aes128Gcm };
        let secret = JetSecret::new(cipher, &key[..cipher.secret_bytes()]).unwrap();
        let mut stream = seal(&secret, &text, pieces.0);
        prop_assert_eq!(open(&secret, &stream, pieces.1), Ok(text));
        let short = &stream[..stream.len() - 1];
        prop_assert_eq!(open(&secret, short, pieces.1), Err(JetError::Tag));
        let at = at.index(stream.len());
        stream[at] ^= 1;
        prop_assert_eq!(open(&secret, &stream, pieces.1), Err(JetError::Tag));
    }
}
