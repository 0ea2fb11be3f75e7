//! Keys in signalling (XEP-0167 §7.1, RFC 4568): what is offered, and which of it is taken.
//!
//! The peer's server, and everybody else who reads the signalling, can read these keys. They are for peers who know
//! nothing better: Google's dialect, and whoever asks for it by name.

use crate::description::{LIST_MAX, malformed, number, push};
use session_core::{Element, ElementRef, PeerError};
use std::{fmt, sync::Arc};
use thiserror::Error;

/// The suite that everybody has.
pub const AES_CM_128_HMAC_SHA1_80: &str = "AES_CM_128_HMAC_SHA1_80";

/// The same with short tags.
pub const AES_CM_128_HMAC_SHA1_32: &str = "AES_CM_128_HMAC_SHA1_32";

/// Bytes of a key with its salt, for both suites (RFC 4568 §6.2).
pub const KEY_BYTES: usize = 30;

/// The element `<encryption/>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Encryption {
    /// Without it no session.
    pub required: bool,
    /// In order of preference.
    pub cryptos: Vec<Crypto>,
}

/// One offer of a key. [`Debug`] does not show the key.
#[derive(Clone, PartialEq, Eq)]
pub struct Crypto {
    /// Names it in the answer.
    pub tag: u32,
    /// Such as [`AES_CM_128_HMAC_SHA1_80`].
    pub suite: Arc<str>,
    /// `inline:` and the key in base64.
    pub key_params: Arc<str>,
    /// Session parameters, of which none is supported.
    pub session_params: Option<Arc<str>>,
}

impl fmt::Debug for Crypto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Crypto")
            .field("tag", &self.tag)
            .field("suite", &self.suite)
            .finish_non_exhaustive()
    }
}

/// What a side asks of keys in signalling (libjingle `SecurePolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// None are offered and none are taken. The default: DTLS makes the keys.
    #[default]
    Disabled,
    /// Taken where there are some.
    Enabled,
    /// No session without.
    Required,
}

/// Why there is no agreement on keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum EncryptionMismatch {
    /// The peer insists, and we do not take keys from signalling.
    #[error("the peer requires keys in signalling, which are switched off here")]
    PeerRequires,
    /// We insist, and the peer offers none that we can use.
    #[error("encryption is required here, and the peer offers none that can be used")]
    WeRequire,
    /// Both insist, and the peer's suites are unknown here.
    #[error("the peer requires encryption with suites that are unknown here")]
    NoCommonSuite,
}

impl Crypto {
    /// A suite with a key and its salt.
    pub fn new(tag: u32, suite: &str, key: &[u8; KEY_BYTES]) -> Self {
        Self {
            tag,
            suite: suite.into(),
            key_params: format!("inline:{}", base64(key)).into(),
            session_params: None,
        }
    }

    /// Whether it is a suite that we have, with a key of its size, and without lifetime, index or session parameters,
    /// which libjingle refuses too.
    pub fn is_usable(&self) -> bool {
        let known = [AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32].contains(&&*self.suite);
        known && self.session_params.is_none() && self.key().is_some()
    }

    /// The key with its salt, if the parameters are exactly that.
    pub fn key(&self) -> Option<[u8; KEY_BYTES]> {
        unbase64(self.key_params.strip_prefix("inline:")?)
    }
}

impl Encryption {
    pub(crate) fn to_element(&self, namespace: &str) -> Element {
        let crypto = |crypto: &Crypto| {
            Element::new(namespace, "crypto")
                .with("crypto-suite", &crypto.suite)
                .with("key-params", &crypto.key_params)
                .with_opt("session-params", crypto.session_params.as_deref())
                .with("tag", crypto.tag)
        };
        Element::new(namespace, "encryption")
            .with_opt("required", self.required.then_some("1"))
            .children_from(self.cryptos.iter().map(crypto))
    }

    pub(crate) fn from_element(element: ElementRef<'_>) -> Result<Self, PeerError> {
        let required = matches!(element.attribute("required"), Some("1" | "true"));
        let mut cryptos = Vec::new();
        for child in element.children().filter(|child| child.name() == "crypto") {
            let text = |key, field| {
                child
                    .attribute(key)
                    .ok_or_else(|| malformed(field, "missing"))
            };
            let crypto = Crypto {
                tag: number(child.attribute("tag"), "crypto tag")?
                    .ok_or_else(|| malformed("crypto tag", "missing"))?,
                suite: text("crypto-suite", "crypto crypto-suite")?.into(),
                key_params: text("key-params", "crypto key-params")?.into(),
                session_params: child.attribute("session-params").map(Into::into),
            };
            push(&mut cryptos, crypto, LIST_MAX)?;
        }
        Ok(Self { required, cryptos })
    }

    /// Which of the peer's offers is taken; none where media will go in clear, or DTLS makes the keys
    /// (libjingle `mediasession.cc`, the table of libjingle.md §6.2).
    ///
    /// # Errors
    /// [`EncryptionMismatch`]: no session.
    pub fn choose(
        offer: Option<&Self>,
        policy: Policy,
    ) -> Result<Option<&Crypto>, EncryptionMismatch> {
        let required = offer.is_some_and(|offer| offer.required);
        let usable = offer.and_then(|offer| offer.cryptos.iter().find(|crypto| crypto.is_usable()));
        match (policy, usable) {
            (Policy::Disabled, _) if required => Err(EncryptionMismatch::PeerRequires),
            (Policy::Disabled, _) => Ok(None),
            (Policy::Enabled | Policy::Required, Some(crypto)) => Ok(Some(crypto)),
            (Policy::Enabled, None) if required => Err(EncryptionMismatch::NoCommonSuite),
            (Policy::Enabled, None) => Ok(None),
            (Policy::Required, None) if required => Err(EncryptionMismatch::NoCommonSuite),
            (Policy::Required, None) => Err(EncryptionMismatch::WeRequire),
        }
    }
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Thirty bytes are forty letters, without padding, so that this is all the base64 that is needed here.
fn base64(key: &[u8; KEY_BYTES]) -> String {
    let mut text = String::with_capacity(KEY_BYTES / 3 * 4);
    for bytes in key.chunks_exact(3) {
        let word = bytes
            .iter()
            .fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        for shift in [18, 12, 6, 0] {
            text.push(char::from(ALPHABET[(word >> shift & 63) as usize]));
        }
    }
    text
}

fn unbase64(text: &str) -> Option<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    if text.len() != KEY_BYTES / 3 * 4 {
        return None;
    }
    for (letters, bytes) in text.as_bytes().chunks_exact(4).zip(key.chunks_exact_mut(3)) {
        let mut word = 0_u32;
        for letter in letters {
            let value = ALPHABET.iter().position(|known| known == letter)?;
            word = word << 6 | value as u32;
        }
        bytes.copy_from_slice(&word.to_be_bytes()[1..]);
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn crypto(suite: &str) -> Crypto {
        Crypto::new(7, suite, &[3; KEY_BYTES])
    }

    fn offer(required: bool, suite: &str) -> Encryption {
        Encryption {
            required,
            cryptos: vec![crypto("UNKNOWN"), crypto(suite)],
        }
    }

    /// libjingle.md §6.2, row by row.
    #[test]
    fn the_policy_table() {
        use EncryptionMismatch::{NoCommonSuite, PeerRequires, WeRequire};
        let good = Some(7);
        let table = [
            (None, [Ok(None), Ok(None), Err(WeRequire)]),
            (
                Some(offer(false, AES_CM_128_HMAC_SHA1_80)),
                [Ok(None), Ok(good), Ok(good)],
            ),
            (
                Some(offer(true, AES_CM_128_HMAC_SHA1_32)),
                [Err(PeerRequires), Ok(good), Ok(good)],
            ),
            (
                Some(offer(false, "F8_128")),
                [Ok(None), Ok(None), Err(WeRequire)],
            ),
            (
                Some(offer(true, "F8_128")),
                [Err(PeerRequires), Err(NoCommonSuite), Err(NoCommonSuite)],
            ),
        ];
        for (offer, expected) in table {
            for (policy, expected) in [Policy::Disabled, Policy::Enabled, Policy::Required]
                .into_iter()
                .zip(expected)
            {
                let chosen = Encryption::choose(offer.as_ref(), policy);
                assert_eq!(
                    chosen.map(|crypto| crypto.map(|c| c.tag)),
                    expected,
                    "{offer:?} {policy:?}"
                );
            }
        }
    }

    #[test]
    fn what_is_more_than_a_key_is_not_used() {
        let usable = |params: &str| {
            Crypto {
                key_params: params.into(),
                ..crypto(AES_CM_128_HMAC_SHA1_80)
            }
            .is_usable()
        };
        let key = crypto(AES_CM_128_HMAC_SHA1_80).key_params;
        assert!(usable(&key));
        for bad in [
            "",
            "inline:",
            &key[7..],
            &format!("{key}|2^20"),
            &format!("{key}|2^20|1:4"),
            &format!("{}=", &key[..46]),
            &format!("{}é", &key[..45]),
        ] {
            assert!(!usable(bad), "{bad}");
        }
        let params = Crypto {
            session_params: Some("KDR=0".into()),
            ..crypto(AES_CM_128_HMAC_SHA1_80)
        };
        assert!(!params.is_usable());
    }

    #[test]
    fn keys_are_not_shown() {
        let shown = format!("{:?}", crypto(AES_CM_128_HMAC_SHA1_80));
        assert!(!shown.contains("inline"), "{shown}");
    }

    /// RFC 4568 §9.1 has this key, and libjingle's tests the other.
    #[test]
    fn keys_of_others() {
        for text in [
            "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz",
            "NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj",
        ] {
            assert_eq!(base64(&unbase64(text).unwrap()), text);
        }
        assert_eq!(
            &unbase64("WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz").unwrap()[..6],
            b"YS___s"
        );
    }

    proptest! {
        #[test]
        fn keys_come_back(key: [u8; KEY_BYTES]) {
            prop_assert_eq!(unbase64(&base64(&key)), Some(key));
        }
    }
}
