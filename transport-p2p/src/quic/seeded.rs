//! What quinn-proto would draw from the system, drawn from a seed; and what it would keep for a next time, not kept.

use hmac::{Hmac, KeyInit, Mac};
use quinn_proto::{
    ConnectionId, ConnectionIdGenerator, TimeSource,
    crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey},
};
use sha2::{Digest, Sha256};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// Length of our connection identifiers, in bytes. There are few connections on one path: it is for telling the one that
/// stands from attempts of others.
const CID_BYTES: usize = 5;

/// Bytes that nobody guesses who does not know the seed.
pub(super) fn derive(seed: &[u8; 32], label: &str, number: u64) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(seed);
    hash.update(number.to_be_bytes());
    hash.update(label);
    hash.finalize().into()
}

/// Names connections.
pub(super) struct Names {
    seed: [u8; 32],
    next: u64,
}

impl Names {
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Self { seed, next: 0 }
    }
}

impl ConnectionIdGenerator for Names {
    fn generate_cid(&mut self) -> ConnectionId {
        self.next += 1;
        let bytes = derive(&self.seed, "connection", self.next);
        ConnectionId::new(&bytes[..CID_BYTES])
    }

    fn cid_len(&self) -> usize {
        CID_BYTES
    }

    fn cid_lifetime(&self) -> Option<Duration> {
        None
    }
}

/// By what a client first names its peer, which must not be guessed (RFC 9000 §7.2).
pub(super) fn first_name(seed: [u8; 32]) -> impl Fn() -> ConnectionId + Send + Sync {
    let next = AtomicU64::new(0);
    move || {
        let number = next.fetch_add(1, Ordering::Relaxed);
        ConnectionId::new(&derive(&seed, "first", number)[..16])
    }
}

/// For tokens of stateless resets.
pub(super) struct ResetKey(pub(super) [u8; 32]);

impl ResetKey {
    fn mac(&self, data: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.0);
        let mut mac = mac.unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(data);
        mac
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&self.mac(data).finalize().into_bytes());
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.mac(data)
            .verify_slice(signature)
            .map_err(|_| CryptoError)
    }
}

/// Nobody is given a token for a next time, so that none is valid.
pub(super) struct NoTokens;

impl HandshakeTokenKey for NoTokens {
    fn aead_from_hkdf(&self, _random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Self)
    }
}

impl AeadKey for NoTokens {
    fn seal(&self, _data: &mut Vec<u8>, _additional_data: &[u8]) -> Result<(), CryptoError> {
        Err(CryptoError)
    }

    fn open<'a>(
        &self,
        _data: &'a mut [u8],
        _additional_data: &[u8],
    ) -> Result<&'a mut [u8], CryptoError> {
        Err(CryptoError)
    }
}

/// Tokens alone would have a date.
impl TimeSource for NoTokens {
    fn now(&self) -> SystemTime {
        UNIX_EPOCH
    }
}
