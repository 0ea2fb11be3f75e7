//! A certificate and its key.

use super::fingerprint;
use session_core::Fingerprint;
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// A certificate and its private key. The host makes them, for each session or for each run of a program: nothing is proved
/// by the certificate but that signalling named its digest. Clones share them; the key is wiped with the last.
#[derive(Clone)]
pub struct Identity {
    certificate: Arc<[u8]>,
    private_key: Arc<Zeroizing<Vec<u8>>>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// A certificate (X.509 in DER) and its private key (PKCS #8 in DER). ECDSA with P-256 is what every peer knows.
    ///
    /// Whether they are of use shows in a handshake: a channel fails then.
    pub fn new(certificate: &[u8], private_key: &[u8]) -> Self {
        Self {
            certificate: certificate.into(),
            private_key: Arc::new(Zeroizing::new(private_key.to_vec())),
            fingerprint: fingerprint::sha256(certificate),
        }
    }

    /// The SHA-256 of the certificate, which signalling tells.
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    pub(super) fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    pub(super) fn private_key(&self) -> &[u8] {
        &self.private_key
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.fingerprint)
    }
}
