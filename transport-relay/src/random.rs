//! Randomness out of one seed.

use crate::stun::TransactionId;
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::fmt;

/// HMAC-SHA1 over a counter, keyed with the seed: who does not know the seed cannot tell the next from what it saw.
#[derive(Clone)]
pub(crate) struct Random {
    key: Hmac<Sha1>,
    counter: u64,
}

impl Random {
    pub(crate) fn new(seed: &[u8; 32]) -> Self {
        Self {
            key: Hmac::<Sha1>::new_from_slice(seed)
                .unwrap_or_else(|_| Hmac::<Sha1>::new(&Default::default())),
            counter: 0,
        }
    }

    /// Unpredictable, as RFC 8489 §5 wants it.
    pub(crate) fn transaction(&mut self) -> TransactionId {
        let block = self.block();
        let mut id = [0; 12];
        id.copy_from_slice(&block[..12]);
        TransactionId(id)
    }

    /// Characters that a user name can be made of.
    #[cfg(feature = "gtalk")]
    pub(crate) fn text(&mut self, length: usize) -> String {
        const CHARACTERS: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::with_capacity(length);
        while text.len() < length {
            let block = self.block();
            let characters = block.iter().map(|byte| CHARACTERS[usize::from(*byte % 64)]);
            text.extend(characters.map(char::from).take(length - text.len()));
        }
        text
    }

    /// For what is created with randomness of its own.
    pub(crate) fn seed(&mut self) -> [u8; 32] {
        let mut seed = [0; 32];
        seed[..16].copy_from_slice(&self.block()[..16]);
        seed[16..].copy_from_slice(&self.block()[..16]);
        seed
    }

    fn block(&mut self) -> [u8; 20] {
        let mut mac = self.key.clone();
        mac.update(&self.counter.to_be_bytes());
        self.counter += 1;
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for Random {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Random(..)")
    }
}
