//! Digests of certificates, in the words of XEP-0320.

use session_core::{Element, Fingerprint, TransportError};
use sha1::Sha1;
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};
use std::fmt::Write as _;

/// The namespace of `<fingerprint/>` (XEP-0320).
pub const NAMESPACE: &str = "urn:xmpp:jingle:apps:dtls:0";

/// How many fingerprints of one certificate a peer may name: there are five hashes.
const FINGERPRINTS_MAX: usize = 8;

/// Hash functions, the weakest first, with the bytes of their digests (RFC 8122 §5, without what is broken for this).
const HASHES: [(&str, usize); 5] = [
    ("sha-1", 20),
    ("sha-224", 28),
    ("sha-256", 32),
    ("sha-384", 48),
    ("sha-512", 64),
];

/// Who begins the handshake (RFC 4145 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Setup {
    Active,
    Passive,
    ActPass,
    HoldConn,
}

/// What a peer says of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// At least one, of hashes that we know.
    pub(super) fingerprints: Vec<Fingerprint>,
    pub(super) setup: Option<Setup>,
}

/// What a `<transport/>` says; `None` when it has no `<fingerprint/>`.
///
/// # Errors
/// What is wrong with it.
pub(super) fn read(transport: &Element) -> Result<Option<Announcement>, TransportError> {
    let mut read = Announcement {
        fingerprints: Vec::new(),
        setup: None,
    };
    let own = |child: &session_core::ElementRef<'_>| child.is(NAMESPACE, "fingerprint");
    let mut found = false;
    for child in transport.children().filter(own).take(FINGERPRINTS_MAX) {
        found = true;
        let malformed = |field, problem| TransportError::Malformed { field, problem };
        let name = child.attribute("hash");
        let name = name
            .ok_or_else(|| malformed("hash", "missing"))?
            .to_ascii_lowercase();
        read.setup = match child.attribute("setup") {
            None => read.setup,
            Some("active") => Some(Setup::Active),
            Some("passive") => Some(Setup::Passive),
            Some("actpass") => Some(Setup::ActPass),
            Some("holdconn") => Some(Setup::HoldConn),
            Some(_) => return Err(malformed("setup", "not a role")),
        };
        let Some(&(hash, bytes)) = HASHES.iter().find(|(known, _)| *known == name) else {
            continue;
        };
        let text = child.text_content();
        let digest =
            parse(text.trim(), bytes).ok_or_else(|| malformed("fingerprint", "not a digest"))?;
        read.fingerprints.push(Fingerprint {
            hash: hash.into(),
            digest: digest.into(),
        });
    }
    if found && read.fingerprints.is_empty() {
        let what = "the peer's fingerprint is of no hash that we know";
        return Err(TransportError::Unacceptable(what));
    }
    Ok(found.then_some(read))
}

/// Our words.
pub(super) fn write(fingerprint: &Fingerprint, setup: &str) -> Element {
    let mut text = String::with_capacity(3 * fingerprint.digest.len());
    for byte in fingerprint.digest.iter() {
        let colon = if text.is_empty() { "" } else { ":" };
        // Writing into a string cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    Element::new(NAMESPACE, "fingerprint")
        .with("hash", &fingerprint.hash)
        .with("setup", setup)
        .text(&text)
}

/// The announced fingerprint that a certificate has, among those of the strongest hash.
pub(super) fn matching<'a>(
    announced: &'a [Fingerprint],
    certificate: &[u8],
) -> Option<&'a Fingerprint> {
    let rank = |f: &Fingerprint| HASHES.iter().position(|(name, _)| *name == &*f.hash);
    let strongest = announced.iter().map(rank).max()?;
    announced
        .iter()
        .filter(|f| rank(f) == strongest)
        .find(|f| digest(&f.hash, certificate).as_deref() == Some(&*f.digest))
}

pub(super) fn sha256(certificate: &[u8]) -> Fingerprint {
    Fingerprint {
        hash: "sha-256".into(),
        digest: Sha256::digest(certificate).as_slice().into(),
    }
}

fn digest(hash: &str, certificate: &[u8]) -> Option<Vec<u8>> {
    Some(match hash {
        "sha-1" => Sha1::digest(certificate).to_vec(),
        "sha-224" => Sha224::digest(certificate).to_vec(),
        "sha-256" => Sha256::digest(certificate).to_vec(),
        "sha-384" => Sha384::digest(certificate).to_vec(),
        "sha-512" => Sha512::digest(certificate).to_vec(),
        _ => return None,
    })
}

/// Pairs of digits with colons between them, of either case.
fn parse(text: &str, bytes: usize) -> Option<Vec<u8>> {
    if text.len() != 3 * bytes - 1 || !text.is_ascii() {
        return None;
    }
    text.split(':')
        .map(|pair| {
            let digits = pair.len() == 2 && pair.bytes().all(|b| b.is_ascii_hexdigit());
            digits.then(|| u8::from_str_radix(pair, 16).ok()).flatten()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(hash: &str, text: &str) -> Element {
        let fingerprint = Element::new(NAMESPACE, "fingerprint").with("hash", hash);
        Element::new("urn:example", "transport").child(fingerprint.text(text))
    }

    #[test]
    fn what_we_write_we_read() {
        let ours = sha256(b"certificate");
        let element = Element::new("urn:example", "transport").child(write(&ours, "actpass"));
        let read = read(&element).unwrap().unwrap();
        assert_eq!(read.fingerprints, [ours]);
        assert_eq!(read.setup, Some(Setup::ActPass));
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        let good = "a9:4a:8f:e5:cc:b1:9b:a6:1c:4c:08:73:d3:91:e9:87:98:2f:bb:d3";
        let upper = read(&transport("SHA-1", &format!("\n {good} ")))
            .unwrap()
            .unwrap();
        assert!(matching(&upper.fingerprints, b"test").is_some());
        assert!(matching(&upper.fingerprints, b"tesu").is_none());
        for (hash, text) in [
            ("sha-256", good),
            ("sha-1", ""),
            ("sha-1", &good[1..]),
            ("sha-1", &good.replace(':', "-")),
            ("sha-1", &good.replace("a9", "+9")),
            ("sha-1", &good.replace("a9:", "a94:")),
            ("sha-1", &good.replace("a9", "é")),
        ] {
            read(&transport(hash, text)).unwrap_err();
        }
        read(&transport("md5", good)).unwrap_err();
        assert_eq!(
            read(&Element::new("urn:example", "transport")).unwrap(),
            None
        );
    }

    #[test]
    fn a_weak_digest_does_not_stand_for_a_strong_one() {
        let weak = Fingerprint {
            hash: "sha-1".into(),
            digest: digest("sha-1", b"theirs").unwrap().into(),
        };
        let strong = sha256(b"other");
        assert!(matching(std::slice::from_ref(&weak), b"theirs").is_some());
        assert!(matching(&[weak, strong], b"theirs").is_none());
    }
}
