//! Who we are to a TURN server. None of it is ever shown by `Debug`.

use crate::stun::IntegrityKey;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;
use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A user name and a password of the long-term mechanism (RFC 8489 §9.2). Both are taken as already prepared by
/// OpaqueString; ASCII needs no preparation.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub(super) username: Arc<str>,
    pub(super) password: Arc<str>,
}

impl Credentials {
    /// With this name and password.
    pub fn new(username: impl Into<Arc<str>>, password: impl Into<Arc<str>>) -> Self {
        Self {
            username: username.into(),
            password: password.into(),
        }
    }

    /// Out of a secret that is shared with the server, for `user` and until `expires`, in seconds since 1970: what
    /// coturn calls `use-auth-secret`, and what XMPP servers hand out by XEP-0215 (draft-uberti-behave-turn-rest-00
    /// §2.2).
    pub fn rest(secret: &[u8], user: &str, expires: u64) -> Self {
        let username = if user.is_empty() {
            expires.to_string()
        } else {
            format!("{expires}:{user}")
        };
        let mut mac = Hmac::<Sha1>::new_from_slice(secret)
            .unwrap_or_else(|_| Hmac::<Sha1>::new(&Default::default()));
        mac.update(username.as_bytes());
        let password = STANDARD.encode(mac.finalize().into_bytes());
        Self::new(username, password)
    }

    /// The key for a realm (RFC 8489 §9.2.2).
    pub(super) fn key(&self, realm: &str) -> IntegrityKey {
        IntegrityKey::long_term(&self.username, realm, &self.password)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(..)")
    }
}

/// Credentials that can be exchanged while they are in use. Cheap to clone; all clones are the same.
#[derive(Clone)]
pub struct SharedCredentials(Arc<Shared>);

struct Shared {
    version: AtomicU64,
    current: Mutex<Credentials>,
}

impl SharedCredentials {
    /// The ones to begin with.
    pub fn new(credentials: Credentials) -> Self {
        Self(Arc::new(Shared {
            version: AtomicU64::new(0),
            current: Mutex::new(credentials),
        }))
    }

    /// New ones, of which allocations that stand make use with their next refresh, and new ones at once.
    pub fn update(&self, credentials: Credentials) {
        *self.lock() = credentials;
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Whether the two are the same, so that an update of one is one of the other.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(super) fn get(&self) -> Credentials {
        self.lock().clone()
    }

    /// Counts the updates.
    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Credentials> {
        self.0
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl From<Credentials> for SharedCredentials {
    fn from(credentials: Credentials) -> Self {
        Self::new(credentials)
    }
}

impl fmt::Debug for SharedCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedCredentials(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rest_credentials_are_those_of_coturn() {
        // openssl: printf '1700000000:alice' | openssl dgst -sha1 -hmac north -binary | base64
        let credentials = Credentials::rest(b"north", "alice", 1_700_000_000);
        assert_eq!(&*credentials.username, "1700000000:alice");
        assert_eq!(&*credentials.password, "Cd/49soE35ICqcJF/bCTn8Z4OyE=");
        assert_eq!(&*Credentials::rest(b"north", "", 17).username, "17");
    }

    #[test]
    fn nothing_of_them_is_shown() {
        let shared = SharedCredentials::new(Credentials::new("alice", "sesame"));
        let shown = format!("{:?} {shared:?}", shared.get());
        assert!(
            !shown.contains("alice") && !shown.contains("sesame"),
            "{shown}"
        );
        shared.update(Credentials::new("bob", "other"));
        assert_eq!((&*shared.get().username, shared.version()), ("bob", 1));
    }
}
