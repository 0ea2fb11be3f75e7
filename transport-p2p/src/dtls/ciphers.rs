//! What protects records, for dimpl: ring. The handshake stays with dimpl's own choice, which takes longer over a record.

use dimpl::{
    CryptoError, CryptoOperation,
    crypto::{
        Aad, Buf, Cipher, CryptoProvider, Dtls12CipherSuite, Dtls13CipherSuite, HashAlgorithm,
        Nonce, SupportedDtls12CipherSuite, SupportedDtls13CipherSuite, TmpBuf, rust_crypto,
    },
};
use ring::aead::{self, AES_128_GCM, AES_256_GCM, CHACHA20_POLY1305, LessSafeKey};

/// Bytes of a tag, of each cipher here.
const TAG: usize = 16;
/// Bytes of a nonce, of each cipher here.
const NONCE: usize = 12;

/// Everything for dimpl.
pub(super) fn provider() -> CryptoProvider {
    CryptoProvider {
        cipher_suites: DTLS12,
        dtls13_cipher_suites: DTLS13,
        ..rust_crypto::default_provider()
    }
}

/// The most preferred first.
static DTLS12: &[&dyn SupportedDtls12CipherSuite] = &[
    &Suite12 {
        name: Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256,
        hash: HashAlgorithm::SHA256,
        cipher: &AES_128_GCM,
        explicit: 8,
    },
    &Suite12 {
        name: Dtls12CipherSuite::ECDHE_ECDSA_AES256_GCM_SHA384,
        hash: HashAlgorithm::SHA384,
        cipher: &AES_256_GCM,
        explicit: 8,
    },
    &Suite12 {
        name: Dtls12CipherSuite::ECDHE_ECDSA_CHACHA20_POLY1305_SHA256,
        hash: HashAlgorithm::SHA256,
        cipher: &CHACHA20_POLY1305,
        explicit: 0,
    },
];

static DTLS13: &[&dyn SupportedDtls13CipherSuite] = &[
    &Suite13 {
        name: Dtls13CipherSuite::AES_128_GCM_SHA256,
        hash: HashAlgorithm::SHA256,
        cipher: &AES_128_GCM,
    },
    &Suite13 {
        name: Dtls13CipherSuite::AES_256_GCM_SHA384,
        hash: HashAlgorithm::SHA384,
        cipher: &AES_256_GCM,
    },
    &Suite13 {
        name: Dtls13CipherSuite::CHACHA20_POLY1305_SHA256,
        hash: HashAlgorithm::SHA256,
        cipher: &CHACHA20_POLY1305,
    },
];

#[derive(Debug)]
struct Suite12 {
    name: Dtls12CipherSuite,
    hash: HashAlgorithm,
    cipher: &'static aead::Algorithm,
    /// Bytes of the nonce that each record carries (RFC 5288 §3, RFC 7905 §2).
    explicit: usize,
}

impl SupportedDtls12CipherSuite for Suite12 {
    fn suite(&self) -> Dtls12CipherSuite {
        self.name
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.hash
    }

    fn key_lengths(&self) -> (usize, usize, usize) {
        (0, self.cipher.key_len(), NONCE - self.explicit)
    }

    fn explicit_nonce_len(&self) -> usize {
        self.explicit
    }

    fn tag_len(&self) -> usize {
        TAG
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        cipher(self.cipher, key)
    }
}

#[derive(Debug)]
struct Suite13 {
    name: Dtls13CipherSuite,
    hash: HashAlgorithm,
    cipher: &'static aead::Algorithm,
}

impl SupportedDtls13CipherSuite for Suite13 {
    fn suite(&self) -> Dtls13CipherSuite {
        self.name
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        self.hash
    }

    fn key_len(&self) -> usize {
        self.cipher.key_len()
    }

    fn iv_len(&self) -> usize {
        NONCE
    }

    fn tag_len(&self) -> usize {
        TAG
    }

    fn create_cipher(&self, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
        cipher(self.cipher, key)
    }

    /// One block (RFC 9147 §4.2.3), for which ring has no function that gives all of it.
    fn encrypt_sn(&self, key: &[u8], sample: &[u8; 16]) -> [u8; 16] {
        let theirs = rust_crypto::default_provider().dtls13_cipher_suites;
        let same = theirs.iter().find(|suite| suite.suite() == self.name);
        // Each of ours is one of theirs.
        same.map_or([0; 16], |suite| suite.encrypt_sn(key, sample))
    }
}

#[derive(Debug)]
struct Sealed(LessSafeKey);

fn cipher(of: &'static aead::Algorithm, key: &[u8]) -> Result<Box<dyn Cipher>, CryptoError> {
    let key = aead::UnboundKey::new(of, key);
    let key = key.map_err(|_| CryptoError::OperationFailed(CryptoOperation::CreateCipher))?;
    Ok(Box::new(Sealed(LessSafeKey::new(key))))
}

impl Cipher for Sealed {
    fn encrypt(&mut self, text: &mut Buf, aad: Aad, nonce: Nonce) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let sealed = self
            .0
            .seal_in_place_append_tag(nonce, aead::Aad::from(&aad[..]), text);
        sealed.map_err(|_| CryptoError::OperationFailed(CryptoOperation::Encrypt))
    }

    fn decrypt(
        &mut self,
        text: &mut TmpBuf<'_>,
        aad: Aad,
        nonce: Nonce,
    ) -> Result<(), CryptoError> {
        let nonce = aead::Nonce::assume_unique_for_key(nonce.0);
        let opened = self
            .0
            .open_in_place(nonce, aead::Aad::from(&aad[..]), text.as_mut());
        let opened = opened.map_err(|_| CryptoError::OperationFailed(CryptoOperation::Decrypt))?;
        let length = opened.len();
        text.truncate(length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use dimpl::{Config, Dtls, DtlsCertificate, Output};
    use session_core::testing::epoch;
    use std::sync::Arc;

    /// One end: ours, or one with all that dimpl has itself.
    fn end(suite: usize, version: u8, ours: bool, active: bool) -> Dtls {
        let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
        let certificate = DtlsCertificate {
            certificate: made.cert.der().to_vec(),
            private_key: made.signing_key.serialize_der(),
        };
        let config = Config::builder()
            .dtls12_cipher_suites(&[DTLS12[suite].suite()])
            .dtls13_cipher_suites(&[DTLS13[suite].suite()]);
        let config = if ours {
            config.with_crypto_provider(provider())
        } else {
            config.with_crypto_provider(rust_crypto::default_provider())
        };
        let config = Arc::new(config.build().unwrap());
        let mut end = match version {
            12 => Dtls::new_12(config, certificate, epoch()),
            _ => Dtls::new_13(config, certificate, epoch()),
        };
        end.set_active(active);
        end.handle_timeout(epoch()).unwrap();
        end
    }

    /// Carries what one wants to say to the other. Returns what data came out, and whether there was anything.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what else an end says is not looked at here"
    )]
    fn turn(from: &mut Dtls, to: &mut Dtls) -> (Vec<Vec<u8>>, bool) {
        let (mut data, mut any, mut buffer) = (Vec::new(), false, vec![0; 20_000]);
        loop {
            match from.poll_output(&mut buffer) {
                Output::Packet(packet) => {
                    any = true;
                    to.handle_packet(packet).unwrap();
                }
                Output::ApplicationData(bytes) => data.push(bytes.to_vec()),
                Output::Timeout(_) => return (data, any),
                _ => {}
            }
        }
    }

    #[test]
    fn records_are_those_of_any_other() {
        for (suite, version) in [(0, 12), (1, 12), (2, 12), (0, 13), (1, 13), (2, 13)] {
            let mut ours = end(suite, version, true, true);
            let mut theirs = end(suite, version, false, false);
            while turn(&mut ours, &mut theirs).1 | turn(&mut theirs, &mut ours).1 {}
            for size in [1, 15, 16, 1_200, 16_000] {
                let said = vec![size as u8; size];
                ours.send_application_data(&said).unwrap();
                theirs.send_application_data(&said).unwrap();
                turn(&mut ours, &mut theirs);
                let (heard, _) = turn(&mut theirs, &mut ours);
                assert_eq!(
                    heard,
                    std::slice::from_ref(&said),
                    "{size} in {suite} of {version}"
                );
                let (heard, _) = turn(&mut ours, &mut theirs);
                assert_eq!(heard, [said], "{size} in {suite} of {version}");
            }
        }
    }
}
