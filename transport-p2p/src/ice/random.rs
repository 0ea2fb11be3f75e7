//! Randomness out of one seed: credentials, transaction ids, jitter.

use super::candidate::Credentials;
use crate::stun::TransactionId;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::{fmt, time::Duration};

/// The characters of user fragments and passwords (RFC 8839 §5.4, `ice-char`).
const ICE_CHARS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// Characters of a user fragment: 48 bits, where RFC 8445 §5.3 asks for 24. Some peers take no user name above 32 bytes.
const UFRAG_LENGTH: usize = 8;
/// Characters of a password: 144 bits, where RFC 8445 §5.3 asks for 128.
const PASSWORD_LENGTH: usize = 24;

/// HMAC-SHA1 over a counter, keyed with the seed: who does not know the seed cannot tell the next from what it saw.
#[derive(Clone)]
pub(super) struct Random {
    /// The seed and not the key that is made of it, which is four times as large and not needed often.
    seed: [u8; 32],
    counter: u64,
    block: [u8; 20],
    used: u8,
}

impl Random {
    pub(super) fn new(seed: &[u8; 32]) -> Self {
        Self {
            seed: *seed,
            counter: 0,
            block: [0; 20],
            used: 20,
        }
    }

    pub(super) fn fill(&mut self, buffer: &mut [u8]) {
        for byte in buffer {
            if usize::from(self.used) == self.block.len() {
                let mut mac = Hmac::<Sha1>::new_from_slice(&self.seed)
                    .unwrap_or_else(|_| Hmac::<Sha1>::new(&Default::default()));
                mac.update(&self.counter.to_be_bytes());
                self.block = mac.finalize().into_bytes().into();
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[usize::from(self.used)];
            self.used += 1;
        }
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        let mut bytes = [0; 8];
        self.fill(&mut bytes);
        u64::from_be_bytes(bytes)
    }

    pub(super) fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        self.fill(&mut seed);
        seed
    }

    pub(super) fn transaction(&mut self) -> TransactionId {
        let mut id = [0; 12];
        self.fill(&mut id);
        TransactionId(id)
    }

    /// So many characters of those that user fragments and passwords are made of.
    pub(super) fn text(&mut self, length: usize) -> String {
        let mut bytes = vec![0; length];
        self.fill(&mut bytes);
        for byte in &mut bytes {
            *byte = ICE_CHARS[usize::from(*byte & 63)];
        }
        String::from_utf8(bytes).unwrap_or_default()
    }

    pub(super) fn credentials(&mut self) -> Credentials {
        let ufrag = self.text(UFRAG_LENGTH);
        Credentials::new(&ufrag, &self.text(PASSWORD_LENGTH))
    }

    /// Between 0.8 and 1.2 of `mean` (RFC 7675 §5.1).
    pub(super) fn around(&mut self, mean: Duration) -> Duration {
        mean * (800 + (self.next_u64() % 401) as u32) / 1_000
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}
