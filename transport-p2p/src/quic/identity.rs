//! Who a peer is: a certificate, its key, and the fingerprint by which the other side knows it.

use rustls::{
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
    sign::CertifiedKey,
};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr, sync::Arc};
use thiserror::Error;

/// The largest certificate, in bytes. A server may answer three times what a client has sent (RFC 9000 §8.1), so a larger
/// one would cost a round trip, or several.
pub const CERTIFICATE_MAX: usize = 2_048;

/// The SHA-256 of a certificate in DER, as it is told in signalling (RFC 8122 §5, XEP-0320).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// The name of the hash function in signalling.
    pub const HASH: &str = "sha-256";

    /// That of a certificate in DER.
    pub fn of(certificate: &[u8]) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// The hash.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Pairs of upper-case digits with colons between them (RFC 8122 §5).
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, byte) in self.0.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl From<Fingerprint> for session_core::Fingerprint {
    fn from(fingerprint: Fingerprint) -> Self {
        Self {
            hash: Fingerprint::HASH.into(),
            digest: fingerprint.0.into(),
        }
    }
}

/// Why a text is no fingerprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a fingerprint is 32 pairs of hexadecimal digits with colons between them")]
pub struct NoFingerprint;

/// Digits of either case are taken.
impl FromStr for Fingerprint {
    type Err = NoFingerprint;

    fn from_str(text: &str) -> Result<Self, NoFingerprint> {
        let text = text.as_bytes();
        let mut hash = [0; 32];
        if text.len() != 3 * hash.len() - 1 {
            return Err(NoFingerprint);
        }
        let digit = |byte: u8| (byte as char).to_digit(16).ok_or(NoFingerprint);
        for (byte, pair) in hash.iter_mut().zip(text.chunks(3)) {
            if pair.len() == 3 && pair[2] != b':' {
                return Err(NoFingerprint);
            }
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Ok(Self(hash))
    }
}

/// A certificate and its private key. The host makes them, for each session or for each run of a program: nothing is
/// vouched for by anybody, the fingerprint alone counts.
#[derive(Clone)]
pub struct Identity {
    key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
}

/// Why an identity cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// Larger than [`CERTIFICATE_MAX`].
    #[error("the certificate has {0} bytes, at most {CERTIFICATE_MAX} are carried")]
    CertificateTooLarge(usize),
    /// The key is not one of PKCS #8, of a kind that is not known, or not that of the certificate.
    #[error("the certificate and its key are of no use: {0}")]
    Unusable(Arc<str>),
}

impl Identity {
    /// A certificate (X.509 in DER) and its private key (PKCS #8 in DER; ECDSA with P-256 is the usual kind, and Ed25519
    /// or RSA will do).
    ///
    /// # Errors
    /// See [`IdentityError`].
    pub fn new(certificate: &[u8], private_key: &[u8]) -> Result<Self, IdentityError> {
        if certificate.len() > CERTIFICATE_MAX {
            return Err(IdentityError::CertificateTooLarge(certificate.len()));
        }
        let fingerprint = Fingerprint::of(certificate);
        let chain = vec![CertificateDer::from(certificate.to_vec())];
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(private_key.to_vec()));
        let key = CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
            .map_err(|error| IdentityError::Unusable(error.to_string().into()))?;
        Ok(Self {
            key: Arc::new(key),
            fingerprint,
        })
    }

    /// What the peer is to be told.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub(super) fn key(&self) -> Arc<CertifiedKey> {
        self.key.clone()
    }
}

/// Shows no key.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.fingerprint).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_fingerprint_is_read_as_it_is_written(hash: [u8; 32]) {
            let fingerprint = Fingerprint(hash);
            prop_assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint));
            prop_assert_eq!(fingerprint.to_string().to_lowercase().parse(), Ok(fingerprint));
        }

        #[test]
        fn nothing_else_is_one(text in "[0-9A-Fa-f:+ é]{0,100}") {
            if let Ok(fingerprint) = text.parse::<Fingerprint>() {
                prop_assert_eq!(fingerprint.to_string(), text.to_uppercase());
            }
        }
    }

    #[test]
    fn what_is_nearly_a_fingerprint_is_none() {
        let good = Fingerprint::of(b"").to_string();
        assert!(good.starts_with("E3:B0:C4:42:98:FC"), "{good}");
        for bad in [
            String::new(),
            good.replace(':', ""),
            good.replace(':', "-"),
            format!("{good}:00"),
            good[..good.len() - 1].to_owned(),
            good.replacen("E3", "+3", 1),
            good.replacen("E3", "G3", 1),
        ] {
            assert_eq!(bad.parse::<Fingerprint>(), Err(NoFingerprint), "{bad}");
        }
    }

    #[test]
    fn an_identity_needs_a_key_that_fits_and_shows_none() {
        let (a, b) = (make(), make());
        let identity = Identity::new(&a.0, &a.1).expect("they belong together");
        assert_eq!(identity.fingerprint(), Fingerprint::of(&a.0));
        assert!(format!("{identity:?}").len() < 120, "{identity:?}");
        assert!(Identity::new(&a.0, &b.1).is_err());
        assert!(Identity::new(&a.0, b"no key").is_err());
        assert!(Identity::new(b"no certificate", &a.1).is_err());
        let large = vec![0; CERTIFICATE_MAX + 1];
        assert!(matches!(
            Identity::new(&large, &a.1),
            Err(IdentityError::CertificateTooLarge(_))
        ));
    }

    fn make() -> (Vec<u8>, Vec<u8>) {
        let made =
            rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).expect("a certificate");
        let key = made.signing_key.serialize_der();
        (made.cert.der().to_vec(), key)
    }
}
