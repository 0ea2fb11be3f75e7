//! What arrives from other people's clients, as they encrypt it, and as somebody has changed it.

use super::{CIPHERS, VERIFIED, secret};
use crate::{
    filekit::{keys::STUB, *},
    stranger::{CONTENT, Offer, security, stream},
};
use proptest::prelude::*;
use session_core::{Element, ReasonCondition};
use session_file::{Fault, File, HashAlgorithm, Integrity, JET, JetCipher, Outcome};

fn hashes(bytes: &[u8]) -> File {
    let algorithms = [HashAlgorithm::Sha1, HashAlgorithm::Sha256];
    File {
        hashes: persona::hashes(bytes, &algorithms),
        ..File::default()
    }
}

/// Dino names neither content nor hash. Conversations names its content, and after the bytes the hash of what it has
/// encrypted (jingle-peers: 3.1).
#[test]
fn a_file_of_dino_and_of_conversations_is_opened() {
    let (text, key) = (data("a", 60_000), secret(JetCipher::Aes128Gcm, 9));
    let sealed = stream(&key, &text);
    let dino = Offer::new(&key, text.len(), sealed.clone());
    let authenticated = Outcome::Received(Integrity::Authenticated);
    assert_eq!(dino.made().0, Some(authenticated));
    assert_eq!(dino.made().1, text);
    let conversations = |checksum| Offer {
        security: security(&key).with("name", CONTENT),
        checksum: Some(checksum),
        ..dino.clone()
    };
    for checksum in [hashes(&sealed), hashes(&text)] {
        let (got, bytes, _) = conversations(checksum).made();
        assert_eq!((got, bytes), (Some(VERIFIED), text.to_vec()));
    }
    let (got, bytes, told) = conversations(hashes(b"something else")).made();
    let wrong = matches!(got, Some(Outcome::Failed(Fault::WrongHash(_))));
    assert!(wrong && bytes.is_empty(), "{got:?}");
    assert_eq!(told, Some(ReasonCondition::MediaError));
}

#[test]
fn what_was_changed_or_cut_on_the_way_is_not_received() {
    let (text, key) = (data("a", 10_000), secret(JetCipher::Aes256Gcm, 9));
    let whole = stream(&key, &text);
    let made = |sends: Vec<u8>| Offer::new(&key, text.len(), sends).made();
    for at in [0, 5_000, 9_999, 10_000, 10_015] {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        let (got, bytes, told) = made(changed);
        let forged = Some(Outcome::Failed(Fault::Forged));
        assert_eq!((got, bytes.len()), (forged, 0), "{at}");
        assert_eq!(told, Some(ReasonCondition::SecurityError));
    }
    for cut in [0, 1, 9_999, 10_000, 10_015] {
        let (got, bytes, told) = made(whole[..cut].to_vec());
        let received = cut.saturating_sub(16) as u64;
        let short = Fault::TooLittle {
            received,
            expected: 10_000,
        };
        assert_eq!(
            (got, bytes.len()),
            (Some(Outcome::Failed(short)), 0),
            "{cut}"
        );
        assert_eq!(told, Some(ReasonCondition::MediaError));
    }
    // In clear, which would look whole if nobody asked for the tag.
    let (got, bytes, _) = made([&text[..], &[0; 16]].concat());
    assert_eq!(
        (got, bytes.len()),
        (Some(Outcome::Failed(Fault::Forged)), 0)
    );
    let (got, bytes, _) = made([&whole[..], &[0]].concat());
    let more = Some(Outcome::Failed(Fault::TooMuch(10_000)));
    assert_eq!((got, bytes.len()), (more, 0));
}

/// A file without bytes, and one without a size, have a tag as well.
#[test]
fn nothing_is_no_proof_of_nothing() {
    let key = secret(JetCipher::Aes128Gcm, 9);
    let forged = Some(Outcome::Failed(Fault::Forged));
    for (sends, fine) in [
        (stream(&key, b""), true),
        (Vec::new(), false),
        (vec![0; 16], false),
        (stream(&key, b"x"), false),
    ] {
        let sized = Offer::new(&key, 0, sends.clone());
        let (got, ..) = sized.made();
        assert_eq!(
            matches!(got, Some(Outcome::Received(_))),
            fine,
            "{sends:?} {got:?}"
        );
        if sends.len() > 16 {
            continue;
        }
        let mut free = sized;
        free.file.size = None;
        let (got, ..) = free.made();
        let received = Some(Outcome::Received(Integrity::Authenticated));
        assert_eq!(
            got,
            if fine { received } else { forged.clone() },
            "{sends:?}"
        );
    }
}

#[test]
fn an_offer_whose_secret_cannot_be_had_is_refused() {
    let key = secret(JetCipher::Aes128Gcm, 9);
    let whole = || {
        Element::new(JET, "security")
            .with("cipher", JetCipher::Aes128Gcm.as_str())
            .with("type", STUB)
    };
    let envelope = |text: &str| {
        let payload = Element::new(STUB, "payload").text(text);
        Element::new(STUB, "encrypted").child(payload)
    };
    for bad in [
        whole(),
        whole().child(Element::new(STUB, "encrypted")),
        whole().child(envelope("00ff")),
        whole().child(envelope("zz")),
        security(&key).with("name", "another"),
        security(&key).with("name", ""),
        Element::new(JET, "security").with("cipher", "urn:xmpp:ciphers:rot13:0"),
        Element::new(JET, "other"),
    ] {
        let mut offer = Offer::new(&key, 10, b"0123456789".to_vec());
        offer.security = bad;
        let security = Some(ReasonCondition::SecurityError);
        assert_eq!(
            offer.made(),
            (None, Vec::new(), security),
            "{:?}",
            offer.security
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However the stream is cut into pieces, what is received is the file if nobody has changed, added, removed or
    /// swapped anything, and nothing otherwise.
    #[test]
    fn in_whatever_pieces_it_comes_it_is_the_file_or_nothing(
        size in 0..5_000usize,
        pieces in prop::collection::vec(1..600usize, 1..12),
        seed in any::<u8>(),
        long in any::<bool>(),
        harm in prop::option::of((0..5u8, any::<prop::sample::Index>(), 1..=255u8)),
        known in any::<bool>(),
    ) {
        let text = data("a", size);
        let key = secret(CIPHERS[usize::from(long)], seed);
        let mut sends = stream(&key, &text);
        let whole = sends.clone();
        if let Some((kind, at, byte)) = &harm {
            let at = at.index(sends.len());
            match kind {
                0 => sends[at] ^= byte,
                1 => sends.truncate(at),
                2 => sends.insert(at, *byte),
                3 => drop(sends.remove(at)),
                _ => sends.swap(at, 0),
            }
        }
        let mut offer = Offer::new(&key, size, sends.clone());
        offer.pieces = pieces;
        if !known {
            offer.file.size = None;
        }
        let (got, bytes, _) = offer.made();
        if sends == whole {
            prop_assert_eq!(got, Some(Outcome::Received(Integrity::Authenticated)));
            prop_assert_eq!(bytes, text);
        } else {
            prop_assert!(matches!(got, Some(Outcome::Failed(_))), "{:?}", got);
            prop_assert!(bytes.is_empty());
        }
    }
}
