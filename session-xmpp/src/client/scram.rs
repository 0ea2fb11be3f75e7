//! SCRAM (RFC 5802, RFC 7677): both sides prove that they know the password, and neither shows it.

use super::{error::LoginError, sasl::Binding};
use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};
use zeroize::Zeroizing;

/// Fewer rounds than this make a password cheap to guess for whoever has recorded a login (RFC 5802 §5.1).
pub const ITERATIONS_MIN: u32 = 4_096;

/// More rounds than this would let a server keep our processor busy for seconds.
pub const ITERATIONS_MAX: u32 = 1_000_000;

/// The most bytes of a salt, and of a nonce as a whole.
const FIELD_MAX: usize = 1_024;

/// The hash function of a mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// SHA-1: SCRAM-SHA-1 (RFC 5802).
    Sha1,
    /// SHA-256: SCRAM-SHA-256 (RFC 7677).
    Sha256,
    /// SHA-512: SCRAM-SHA-512, as Prosody's and ejabberd's accounts may have it.
    Sha512,
}

impl Hash {
    fn digest(self, data: &[u8]) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
            Self::Sha512 => Sha512::digest(data).to_vec(),
        })
    }

    fn mac(self, key: &[u8], data: &[u8]) -> Zeroizing<Vec<u8>> {
        fn mac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
            // HMAC takes keys of any length, so that this is never the empty one.
            let Ok(mut mac) = <M as KeyInit>::new_from_slice(key) else {
                return Vec::new();
            };
            mac.update(data);
            mac.finalize().into_bytes().to_vec()
        }
        Zeroizing::new(match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, data),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, data),
            Self::Sha512 => mac::<Hmac<Sha512>>(key, data),
        })
    }

    fn salted(self, password: &str, salt: &[u8], iterations: u32) -> Zeroizing<Vec<u8>> {
        let password = password.as_bytes();
        let mut out = Zeroizing::new(vec![0; self.digest(b"").len()]);
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, iterations, &mut out),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, iterations, &mut out),
            Self::Sha512 => pbkdf2::pbkdf2_hmac::<Sha512>(password, salt, iterations, &mut out),
        }
        out
    }
}

/// A password with the salt of a server mixed in. Making it is the slow part of a login, so it is kept for the next one.
#[derive(Clone)]
pub(super) struct Salted {
    hash: Hash,
    salt: Vec<u8>,
    iterations: u32,
    password: Zeroizing<Vec<u8>>,
}

/// One exchange, from the client's side.
pub(super) struct Scram {
    hash: Hash,
    password: Zeroizing<String>,
    /// What the header of our first message says about channel binding, and the binding's own bytes.
    header: Vec<u8>,
    first_bare: String,
    nonce: String,
    /// What the server has to send in the end.
    signature: Option<Zeroizing<Vec<u8>>>,
}

impl Scram {
    /// Begins. `user` and `password` are prepared with SASLprep already (RFC 5802 §5.1); `nonce` is fresh and unpredictable.
    pub(super) fn new(
        hash: Hash,
        user: &str,
        password: Zeroizing<String>,
        binding: &Binding,
        nonce: &[u8],
    ) -> Self {
        let nonce = BASE64.encode(nonce);
        let user = user.replace('=', "=3D").replace(',', "=2C");
        Self {
            hash,
            password,
            header: binding.header(),
            first_bare: format!("n={user},r={nonce}"),
            nonce,
            signature: None,
        }
    }

    /// The first message.
    pub(super) fn first(&self, binding: &Binding) -> String {
        format!("{}{}", binding.gs2(), self.first_bare)
    }

    /// Answers the server's first message. `cache` holds the salted password of an earlier login, and afterwards that of
    /// this one.
    ///
    /// # Errors
    /// A message that is none, and demands that are too low or too high.
    pub(super) fn respond(
        &mut self,
        message: &[u8],
        cache: &mut Option<Salted>,
    ) -> Result<String, LoginError> {
        let broken = |what: &str| LoginError::protocol(format!("SCRAM: {what}"));
        let message = std::str::from_utf8(message).map_err(|_| broken("not UTF-8"))?;
        let mut fields = message.split(',');
        // In this order, and `m=` before all: an extension that must be understood (RFC 5802 §5.1).
        let mut field = |name: &str| {
            let field = fields.next().filter(|field| field.len() <= FIELD_MAX);
            field.and_then(|field| field.strip_prefix(name))
        };
        let nonce = field("r=").ok_or_else(|| broken("no nonce"))?;
        let salt = field("s=").and_then(|salt| BASE64.decode(salt).ok());
        let salt = salt.ok_or_else(|| broken("no salt"))?;
        let iterations = field("i=").and_then(|count| count.parse::<u32>().ok());
        let iterations = iterations.ok_or_else(|| broken("no number of iterations"))?;
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err(broken("the nonce is not ours"));
        }
        if !(ITERATIONS_MIN..=ITERATIONS_MAX).contains(&iterations) {
            return Err(broken(&format!("{iterations} iterations")));
        }
        if self.signature.is_some() {
            return Err(broken("a second challenge"));
        }
        let known = cache.as_ref().filter(|known| {
            known.hash == self.hash && known.salt == salt && known.iterations == iterations
        });
        let salted = known.cloned().unwrap_or_else(|| Salted {
            hash: self.hash,
            password: self.hash.salted(&self.password, &salt, iterations),
            salt,
            iterations,
        });
        let hash = self.hash;
        let key = hash.mac(&salted.password, b"Client Key");
        let without_proof = format!("c={},r={nonce}", BASE64.encode(&self.header));
        let all = format!("{},{message},{without_proof}", self.first_bare);
        let signature = hash.mac(&hash.digest(&key), all.as_bytes());
        let proof: Vec<u8> = key.iter().zip(&*signature).map(|(a, b)| a ^ b).collect();
        let server_key = hash.mac(&salted.password, b"Server Key");
        self.signature = Some(hash.mac(&server_key, all.as_bytes()));
        *cache = Some(salted);
        Ok(format!("{without_proof},p={}", BASE64.encode(proof)))
    }

    /// Checks what comes with the server's consent.
    ///
    /// # Errors
    /// [`LoginError::ServerProof`], unless the server has proven that it knows the password.
    pub(super) fn verify(&self, message: &[u8]) -> Result<(), LoginError> {
        let field = message.split(|&byte| byte == b',').next();
        let theirs = field.and_then(|field| field.strip_prefix(b"v="));
        let theirs = theirs.and_then(|value| BASE64.decode(value).ok());
        match (&self.signature, theirs) {
            (Some(ours), Some(theirs)) if equal(ours, &theirs) => Ok(()),
            _ => Err(LoginError::ServerProof),
        }
    }
}

/// Compares in a time that does not tell where the difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exchange(hash: Hash, user: &str, password: &str, nonce: &str) -> Scram {
        let password = Zeroizing::new(password.to_owned());
        let mut scram = Scram::new(hash, user, password, &Binding::Unsupported, b"");
        scram.nonce = nonce.to_owned();
        scram.first_bare = format!("n={user},r={nonce}");
        scram
    }

    /// RFC 5802 §5 and RFC 7677 §3.
    #[test]
    fn the_examples_of_the_specifications() {
        let vectors = [
            (
                Hash::Sha1,
                "fyko+d2lbbFgONRv9qkxdawL",
                "r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,s=QSXCR+Q6sek8bf92,i=4096",
                "c=biws,r=fyko+d2lbbFgONRv9qkxdawL3rfcNHYJY1ZVvWVs7j,p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKQ=",
            ),
            (
                Hash::Sha256,
                "rOprNGfwEbeRWgbNEkqO",
                "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
                "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=",
                "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
            ),
        ];
        for (hash, nonce, challenge, answer, last) in vectors {
            let mut cache = None;
            let mut scram = exchange(hash, "user", "pencil", nonce);
            assert_eq!(
                scram.first(&Binding::Unsupported),
                format!("n,,n=user,r={nonce}")
            );
            let said = scram.respond(challenge.as_bytes(), &mut cache);
            assert_eq!(said.as_deref(), Ok(answer));
            assert_eq!(scram.verify(last.as_bytes()), Ok(()));
            let again = scram.respond(challenge.as_bytes(), &mut cache);
            assert!(again.is_err(), "one challenge an exchange");
            // What was kept gives the same answer as what was computed.
            let mut second = exchange(hash, "user", "not looked at", nonce);
            let said = second.respond(challenge.as_bytes(), &mut cache);
            assert_eq!(said.as_deref(), Ok(answer));
            for wrong in [
                "",
                "v=",
                "v=AAAA",
                "e=other-error",
                "v=rmF9pqV8S7suAoZWja4dJRkFsKR=",
            ] {
                let refused = scram.verify(wrong.as_bytes());
                assert_eq!(refused, Err(LoginError::ServerProof), "{wrong}");
            }
        }
    }

    #[test]
    fn a_server_cannot_ask_for_too_little_or_too_much() {
        let salt = "QSXCR+Q6sek8bf92";
        for bad in [
            format!("r=abc,s={salt},i=4096"),
            format!("r=abx1,s={salt},i=4096"),
            format!("r=abc1,s={salt},i=4095"),
            format!("r=abc1,s={salt},i=1000001"),
            format!("r=abc1,s={salt},i=-1"),
            format!("r=abc1,s={salt}"),
            format!("m=x,r=abc1,s={salt},i=4096"),
            format!("r=abc{},s={salt},i=4096", "1".repeat(FIELD_MAX)),
            "r=abc1,s=*,i=4096".to_owned(),
            String::new(),
        ] {
            let mut scram = exchange(Hash::Sha256, "u", "p", "abc");
            let refused = scram.respond(bad.as_bytes(), &mut None);
            assert!(matches!(refused, Err(LoginError::Protocol(_))), "{bad}");
            assert_eq!(scram.verify(b"v="), Err(LoginError::ServerProof));
        }
    }

    #[test]
    fn names_are_escaped_and_the_binding_is_sent_back() {
        let binding = Binding::Bound {
            kind: "tls-exporter",
            data: vec![1, 2, 3],
        };
        let scram = Scram::new(
            Hash::Sha1,
            "a=b,c",
            Zeroizing::default(),
            &binding,
            b"nonce",
        );
        let first = scram.first(&binding);
        assert_eq!(first, "p=tls-exporter,,n=a=3Db=2Cc,r=bm9uY2U=");
        assert_eq!(scram.header, b"p=tls-exporter,,\x01\x02\x03");
    }
}
