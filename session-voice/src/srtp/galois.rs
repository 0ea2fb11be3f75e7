//! AES in Galois counter mode: by ring where the feature `ring` is on, or else by RustCrypto's crates.

#[cfg(not(feature = "ring"))]
pub(super) use by_rust_crypto::GaloisKey;
#[cfg(feature = "ring")]
pub(super) use with_ring::GaloisKey;

/// Bytes of a tag.
pub(super) const TAG_BYTES: usize = 16;

/// Bytes of a nonce.
pub(super) const NONCE_BYTES: usize = 12;

#[cfg(feature = "ring")]
mod with_ring {
    use super::{NONCE_BYTES, TAG_BYTES};
    use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, Tag, UnboundKey};

    /// A key of 16 or of 32 bytes.
    pub(in super::super) struct GaloisKey(Option<LessSafeKey>);

    impl GaloisKey {
        /// Of another size, it protects nothing and opens nothing.
        pub(in super::super) fn new(key: &[u8]) -> Self {
            let algorithm = match key.len() {
                32 => &AES_256_GCM,
                _ => &AES_128_GCM,
            };
            Self(UnboundKey::new(algorithm, key).ok().map(LessSafeKey::new))
        }

        /// Encrypts, and authenticates also what stays in clear. `None` for what no packet is: 64 GiB of them.
        pub(in super::super) fn seal(
            &self,
            nonce: [u8; NONCE_BYTES],
            clear: &[u8],
            body: &mut [u8],
        ) -> Option<[u8; TAG_BYTES]> {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let key = self.0.as_ref()?;
            let tag = key.seal_in_place_separate_tag(nonce, Aad::from(clear), body);
            tag.ok()?.as_ref().try_into().ok()
        }

        /// Whether the tag was right; then `body` is decrypted.
        pub(in super::super) fn open(
            &self,
            nonce: [u8; NONCE_BYTES],
            clear: &[u8],
            body: &mut [u8],
            tag: [u8; TAG_BYTES],
        ) -> bool {
            let nonce = Nonce::assume_unique_for_key(nonce);
            let (clear, tag) = (Aad::from(clear), Tag::from(tag));
            self.0.as_ref().is_some_and(|key| {
                key.open_in_place_separate_tag(nonce, clear, tag, body, 0..)
                    .is_ok()
            })
        }
    }
}

#[cfg(any(test, not(feature = "ring")))]
mod by_rust_crypto {
    use super::{NONCE_BYTES, TAG_BYTES};
    use aes_gcm::{
        AesGcm, KeyInit,
        aead::AeadInOut,
        aes::{Aes128Enc, Aes256Enc, cipher::consts::U12},
    };

    /// A key of 16 or of 32 bytes. Of blocks, this mode only ever encrypts: without what decrypts them, a key is half as large.
    #[allow(
        clippy::large_enum_variant,
        reason = "there is one for each direction of a call, and what is boxed is another page with each packet"
    )]
    pub(in super::super) enum GaloisKey {
        Aes128(AesGcm<Aes128Enc, U12>),
        Aes256(AesGcm<Aes256Enc, U12>),
        Neither,
    }

    impl GaloisKey {
        /// Of another size, it protects nothing and opens nothing.
        pub(in super::super) fn new(key: &[u8]) -> Self {
            if let Ok(key) = AesGcm::new_from_slice(key) {
                Self::Aes128(key)
            } else if let Ok(key) = AesGcm::new_from_slice(key) {
                Self::Aes256(key)
            } else {
                Self::Neither
            }
        }

        /// Encrypts, and authenticates also what stays in clear. `None` for what no packet is: 64 GiB of them.
        pub(in super::super) fn seal(
            &self,
            nonce: [u8; NONCE_BYTES],
            clear: &[u8],
            body: &mut [u8],
        ) -> Option<[u8; TAG_BYTES]> {
            let nonce = nonce.into();
            let tag = match self {
                Self::Aes128(key) => key.encrypt_inout_detached(&nonce, clear, body.into()),
                Self::Aes256(key) => key.encrypt_inout_detached(&nonce, clear, body.into()),
                Self::Neither => return None,
            };
            tag.ok().map(Into::into)
        }

        /// Whether the tag was right; then `body` is decrypted.
        pub(in super::super) fn open(
            &self,
            nonce: [u8; NONCE_BYTES],
            clear: &[u8],
            body: &mut [u8],
            tag: [u8; TAG_BYTES],
        ) -> bool {
            let (nonce, body, tag) = (nonce.into(), body.into(), tag.into());
            match self {
                Self::Aes128(key) => key.decrypt_inout_detached(&nonce, clear, body, &tag),
                Self::Aes256(key) => key.decrypt_inout_detached(&nonce, clear, body, &tag),
                Self::Neither => return false,
            }
            .is_ok()
        }
    }
}

#[cfg(all(test, feature = "ring"))]
mod tests {
    use super::{NONCE_BYTES, TAG_BYTES, by_rust_crypto, with_ring};
    use proptest::prelude::*;

    proptest! {
        /// What one of them seals, the other opens, unless a bit of it has changed.
        #[test]
        fn both_are_the_same(
            is_long: bool,
            key: [u8; 32],
            nonce: [u8; NONCE_BYTES],
            clear in prop::collection::vec(any::<u8>(), 0..80),
            text in prop::collection::vec(any::<u8>(), 0..400),
            changed: prop::sample::Index,
        ) {
            let key = if is_long { &key[..] } else { &key[..16] };
            let (one, other) = (with_ring::GaloisKey::new(key), by_rust_crypto::GaloisKey::new(key));
            let (mut body, mut others) = (text.clone(), text.clone());
            let tag = one.seal(nonce, &clear, &mut body).unwrap();
            prop_assert_eq!(other.seal(nonce, &clear, &mut others).unwrap(), tag);
            prop_assert_eq!(&body, &others);
            let mut wrong = [&clear[..], &body, &tag].concat();
            let at = changed.index(wrong.len());
            wrong[at] ^= 1 << (at % 8);
            let (changed_clear, rest) = wrong.split_at(clear.len());
            let (changed_body, changed_tag) = rest.split_at(body.len());
            let changed_tag: [u8; TAG_BYTES] = changed_tag.try_into().unwrap();
            prop_assert!(!one.open(nonce, changed_clear, &mut changed_body.to_vec(), changed_tag));
            prop_assert!(!other.open(nonce, changed_clear, &mut changed_body.to_vec(), changed_tag));
            prop_assert!(one.open(nonce, &clear, &mut body, tag));
            prop_assert!(other.open(nonce, &clear, &mut others, tag));
            prop_assert_eq!(&body, &text);
            prop_assert_eq!(&others, &text);
        }
    }

    #[test]
    fn a_key_of_another_size_does_nothing() {
        for size in [0, 15, 17, 31, 33] {
            let key = vec![1; size];
            let (one, other) = (
                with_ring::GaloisKey::new(&key),
                by_rust_crypto::GaloisKey::new(&key),
            );
            let body = &mut [7; 20];
            assert_eq!(one.seal([0; NONCE_BYTES], &[], body), None);
            assert_eq!(other.seal([0; NONCE_BYTES], &[], body), None);
            assert!(!one.open([0; NONCE_BYTES], &[], body, [0; TAG_BYTES]));
            assert!(!other.open([0; NONCE_BYTES], &[], body, [0; TAG_BYTES]));
        }
    }
}
