//! What a layer that protects a channel tells those above it: [`Secured`].

use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// The protection of a channel: what was proved about its other end, and the keys for those who protect packets themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// The protocol, for people: `DTLS 1.3`, for example.
    pub protocol: Arc<str>,
    /// Which side of the handshake we were.
    pub side: HandshakeSide,
    /// The digest of our certificate that the peer was told, where the protocol has certificates.
    pub local_fingerprint: Option<Fingerprint>,
    /// The digest of the peer's certificate, which was compared to what signalling announced. Signalling is only as
    /// trustworthy as those who carry it: an application may compare both by another way.
    pub peer_fingerprint: Option<Fingerprint>,
    /// Keys for SRTP, when that was agreed on: then the layer passes packets as they are, and its client protects them.
    pub srtp: Option<SrtpKeys>,
}

/// Which side of a handshake one is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HandshakeSide {
    /// The one that begins (`setup='active'`).
    Client,
    /// The one that waits (`setup='passive'`).
    Server,
}

/// Keys for SRTP out of a handshake (RFC 5764 §4.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SrtpKeys {
    /// The protection profile.
    pub profile: SrtpProfile,
    /// Exported with the label `EXTRACTOR-dtls_srtp`: client's key, server's key, client's salt, server's salt.
    pub material: KeyingMaterial,
}

/// An SRTP protection profile, by its number in the IANA registry (RFC 5764 §4.1.2, RFC 7714 §14.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SrtpProfile(pub u16);

impl SrtpProfile {
    /// AES-CM with 128 bits, HMAC-SHA1 with a tag of 80 bits.
    pub const AES128_CM_HMAC_SHA1_80: Self = Self(0x0001);
    /// AES-CM with 128 bits, HMAC-SHA1 with a tag of 32 bits.
    pub const AES128_CM_HMAC_SHA1_32: Self = Self(0x0002);
    /// AES-GCM with 128 bits.
    pub const AEAD_AES_128_GCM: Self = Self(0x0007);
    /// AES-GCM with 256 bits.
    pub const AEAD_AES_256_GCM: Self = Self(0x0008);
}

/// Secret bytes out of a handshake. Clones share them, the last one wipes them, and no `Debug` shows them.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyingMaterial(Arc<Zeroizing<Vec<u8>>>);

impl KeyingMaterial {
    /// These bytes, which are moved, not copied.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(Arc::new(Zeroizing::new(bytes)))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for KeyingMaterial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyingMaterial({} bytes)", self.0.len())
    }
}

/// The digest of a certificate, as signalling tells it (RFC 8122 §5). `Display` is `sha-256 AB:CD:…`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fingerprint {
    /// The hash, in its textual name: `sha-256`.
    pub hash: Arc<str>,
    /// The digest.
    pub digest: Arc<[u8]>,
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.hash)?;
        for (at, byte) in self.digest.iter().enumerate() {
            let colon = if at == 0 { "" } else { ":" };
            write!(f, "{colon}{byte:02X}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_not_shown_and_fingerprints_are() {
        let keys = SrtpKeys {
            profile: SrtpProfile::AEAD_AES_128_GCM,
            material: KeyingMaterial::new(vec![0xAB; 56]),
        };
        let shown = format!("{keys:?}").to_lowercase();
        assert!(shown.contains("56 bytes"), "{shown}");
        assert!(!shown.contains("171") && !shown.contains("ab,"), "{shown}");
        let fingerprint = Fingerprint {
            hash: "sha-256".into(),
            digest: [0x02, 0x1A].into(),
        };
        assert_eq!(fingerprint.to_string(), "sha-256 02:1A");
    }
}
