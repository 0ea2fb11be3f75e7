//! SASL from the server's side.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use hmac::{Hmac, KeyInit, Mac};
use session_xmpp::endpoint::rustls;
use sha1::{Digest, Sha1};
use sha2::Sha256;

/// How often a password is hashed; as RFC 7677 §4 asks for at least.
const ITERATIONS: u32 = 4_096;

/// The hash functions of SCRAM here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    fn digest(self, data: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha1 => Sha1::digest(data).to_vec(),
            Self::Sha256 => Sha256::digest(data).to_vec(),
        }
    }

    fn mac(self, key: &[u8], data: &[u8]) -> Vec<u8> {
        fn mac<M: Mac + KeyInit>(key: &[u8], data: &[u8]) -> Vec<u8> {
            let mac = <M as KeyInit>::new_from_slice(key);
            mac.map_or_else(
                |_| Vec::new(),
                |mut mac| {
                    mac.update(data);
                    mac.finalize().into_bytes().to_vec()
                },
            )
        }
        match self {
            Self::Sha1 => mac::<Hmac<Sha1>>(key, data),
            Self::Sha256 => mac::<Hmac<Sha256>>(key, data),
        }
    }

    fn keys(self, password: &str, salt: &[u8]) -> Keys {
        let mut salted = vec![0; self.digest(b"").len()];
        let password = password.as_bytes();
        match self {
            Self::Sha1 => pbkdf2::pbkdf2_hmac::<Sha1>(password, salt, ITERATIONS, &mut salted),
            Self::Sha256 => pbkdf2::pbkdf2_hmac::<Sha256>(password, salt, ITERATIONS, &mut salted),
        }
        Keys {
            stored: self.digest(&self.mac(&salted, b"Client Key")),
            server: self.mac(&salted, b"Server Key"),
        }
    }
}

/// What a server keeps of a password (RFC 5802 §3).
#[derive(Clone)]
struct Keys {
    stored: Vec<u8>,
    server: Vec<u8>,
}

/// An account.
pub(super) struct Account {
    salt: [u8; 16],
    sha1: Keys,
    sha256: Keys,
}

impl Account {
    pub(super) fn new(password: &str) -> Self {
        let salt = random();
        Self {
            sha1: Hash::Sha1.keys(password, &salt),
            sha256: Hash::Sha256.keys(password, &salt),
            salt,
        }
    }

    fn keys(&self, hash: Hash) -> &Keys {
        match hash {
            Hash::Sha1 => &self.sha1,
            Hash::Sha256 => &self.sha256,
        }
    }

    fn has_password(&self, password: &str) -> bool {
        equal(
            &Hash::Sha256.keys(password, &self.salt).stored,
            &self.sha256.stored,
        )
    }
}

/// The name and password of PLAIN (RFC 4616), checked.
pub(super) fn plain(accounts: &BTreeMap<String, Account>, message: &[u8]) -> Option<String> {
    let mut parts = std::str::from_utf8(message).ok()?.splitn(3, '\0');
    let (_, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let account = accounts.get(user)?;
    account.has_password(password).then(|| user.to_owned())
}

/// An exchange after the client's first message.
pub(super) struct Scram {
    hash: Hash,
    user: String,
    keys: Keys,
    /// What the client's last message has to repeat: its header, and the binding.
    header: Vec<u8>,
    nonce: String,
    first: String,
}

impl Scram {
    /// Begins; the exchange and the challenge. `binding` is what a mechanism with `-PLUS` is bound to.
    pub(super) fn begin(
        accounts: &BTreeMap<String, Account>,
        hash: Hash,
        message: &[u8],
        (plus, binding): (bool, Option<&[u8]>),
    ) -> Option<(Self, String)> {
        let message = std::str::from_utf8(message).ok()?;
        let mut parts = message.splitn(3, ',');
        let (flag, authzid, bare) = (parts.next()?, parts.next()?, parts.next()?);
        let mut header = format!("{flag},{authzid},").into_bytes();
        match (plus, flag) {
            (true, "p=tls-exporter") => header.extend_from_slice(binding?),
            (false, "n") => {}
            // It would bind, and believes that we do not: somebody has changed our offer (RFC 5802 §6).
            (false, "y") if binding.is_none() => {}
            _ => return None,
        }
        let mut fields = bare.split(',');
        let user = fields.next()?.strip_prefix("n=")?;
        let user = user.replace("=2C", ",").replace("=3D", "=");
        let theirs = fields.next()?.strip_prefix("r=")?;
        let nonce = format!("{theirs}{}", BASE64.encode(random::<18>()));
        // Who asks for somebody unknown learns that no sooner than who has a wrong password.
        let unknown = || Account::new(&BASE64.encode(random::<16>()));
        let (salt, keys) = accounts.get(&user).map_or_else(
            || {
                let account = unknown();
                (account.salt, account.keys(hash).clone())
            },
            |account| (account.salt, account.keys(hash).clone()),
        );
        let challenge = format!("r={nonce},s={},i={ITERATIONS}", BASE64.encode(salt));
        let scram = Self {
            hash,
            user,
            keys,
            header,
            nonce,
            first: format!("{bare},{challenge}"),
        };
        Some((scram, challenge))
    }

    /// Ends; who it is, and our own proof.
    pub(super) fn finish(self, message: &[u8]) -> Option<(String, String)> {
        let message = std::str::from_utf8(message).ok()?;
        let (rest, proof) = message.rsplit_once(",p=")?;
        let mut fields = rest.split(',');
        let header = BASE64.decode(fields.next()?.strip_prefix("c=")?).ok()?;
        let nonce = fields.next()?.strip_prefix("r=")?;
        if header != self.header || nonce != self.nonce {
            return None;
        }
        let all = format!("{},{rest}", self.first);
        let signature = self.hash.mac(&self.keys.stored, all.as_bytes());
        let proof = BASE64
            .decode(proof)
            .ok()
            .filter(|proof| proof.len() == signature.len())?;
        let key: Vec<u8> = proof.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        if !equal(&self.hash.digest(&key), &self.keys.stored) {
            return None;
        }
        let ours = self.hash.mac(&self.keys.server, all.as_bytes());
        Some((self.user, format!("v={}", BASE64.encode(ours))))
    }
}

/// Compares in a time that does not tell where the difference is.
fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |all, (a, b)| all | (a ^ b)) == 0
}

/// Random bytes of the system, by way of the TLS library.
pub(super) fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let filled = rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut bytes);
    filled.expect("the system has randomness");
    bytes
}
