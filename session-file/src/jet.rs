//! Files that are encrypted within their stream (XEP-0391): a key in the offer, sealed by whatever end-to-end encryption
//! the two have (XEP-0396 for OMEMO), and AES in Galois counter mode over the bytes.
//!
//! What seals and opens keys is not here: [`JetKeys`] is the place for it. What travels is the file encrypted, and behind it
//! a tag of [`JET_TAG_BYTES`]; the size that a description names is that of the file itself.
//!
//! The tag proves what came in one go. Of a file that went on at an offset, in another session with another secret, the
//! beginning is proved by the hash of the whole alone, which signalling carries: whoever can change both, and knows the
//! file, can forge its beginning.
//!
//! ```
//! use session_file::{JetCipher, JetOpener, JetSealer, JetSecret};
//!
//! let secret = JetSecret::new(JetCipher::Aes128Gcm, &[7; 28]).unwrap();
//! let mut sealer = JetSealer::new(&secret);
//! let mut stream = b"hello, Juliet".to_vec();
//! sealer.seal(&mut stream).unwrap();
//! stream.extend(sealer.finish());
//!
//! let mut opener = JetOpener::new(&secret);
//! let mut text = opener.open(&stream[..5]).unwrap();
//! text.extend(opener.open(&stream[5..]).unwrap());
//! assert_eq!(text, b"hello, Juliet");
//! assert!(opener.finish().is_ok(), "nobody has changed it");
//! ```

mod cipher;

pub use cipher::{JetOpener, JetSealer};

use session_core::{Element, ElementRef, Peer, PeerError};
use std::{fmt, sync::Arc};
use thiserror::Error;
use zeroize::Zeroizing;

/// The namespace (XEP-0391 §4).
pub const JET: &str = "urn:xmpp:jingle:jet:0";

/// Bytes behind the file that say whether it is whole and nobody has changed it.
pub const JET_TAG_BYTES: usize = 16;

/// Most bytes of one file: counter mode has no more counters (NIST SP 800-38D §5.2.1.1).
pub const JET_BYTES_MAX: u64 = (1 << 36) - 32;

/// Bytes of an initialization vector.
pub(crate) const IV_BYTES: usize = 12;

/// How bytes are encrypted (XEP-0391 §5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JetCipher {
    /// AES-128, which Conversations and Dino use.
    Aes128Gcm,
    /// AES-256.
    Aes256Gcm,
}

impl JetCipher {
    /// Its namespace.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Aes128Gcm => "urn:xmpp:ciphers:aes-128-gcm-nopadding:0",
            Self::Aes256Gcm => "urn:xmpp:ciphers:aes-256-gcm-nopadding:0",
        }
    }

    /// The cipher of a namespace, also of one without its version, as the specification's own examples have it.
    pub fn find(namespace: &str) -> Option<Self> {
        let all = [Self::Aes128Gcm, Self::Aes256Gcm];
        all.into_iter().find(|cipher| {
            let own = cipher.as_str();
            own == namespace || own.strip_suffix(":0") == Some(namespace)
        })
    }

    /// Bytes of its key.
    pub fn key_bytes(self) -> usize {
        match self {
            Self::Aes128Gcm => 16,
            Self::Aes256Gcm => 32,
        }
    }

    /// Bytes of a secret: a key, and an initialization vector behind it.
    pub fn secret_bytes(self) -> usize {
        self.key_bytes() + IV_BYTES
    }
}

/// The `<security/>` of a content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JetSecurity {
    /// The content's name. Dino leaves it out and does not ask for it; Conversations takes a file without it for one that is
    /// not encrypted, so that it is always written.
    pub content: Arc<str>,
    /// How the bytes are encrypted.
    pub cipher: JetCipher,
    /// How the secret is sealed: the namespace of an encryption.
    pub kind: Arc<str>,
    /// The sealed secret, in that encryption's own words.
    pub envelope: Element,
}

impl JetSecurity {
    /// The element.
    pub fn to_element(&self) -> Element {
        Element::new(JET, "security")
            .with("name", &self.content)
            .with("cipher", self.cipher.as_str())
            .with("type", &self.kind)
            .child(self.envelope.clone())
    }

    /// The meaning of the `<security/>` of the content of this name; `None` when it is of something else. A name that is
    /// missing is that of the content.
    ///
    /// # Errors
    /// [`PeerError::Malformed`] names the attribute or element: another content's name, a cipher that nobody knows, no
    /// envelope. A file is then not to be received: it would be kept encrypted.
    pub fn from_element(
        element: ElementRef<'_>,
        content: &Arc<str>,
    ) -> Result<Option<Self>, PeerError> {
        let malformed = |field, problem| PeerError::Malformed { field, problem };
        if !element.is(JET, "security") {
            return Ok(None);
        }
        if element
            .attribute("name")
            .is_some_and(|name| *name != **content)
        {
            return Err(malformed("name", "of another content"));
        }
        let cipher = element.attribute("cipher").and_then(JetCipher::find);
        let kind = element.attribute("type").filter(|kind| !kind.is_empty());
        Ok(Some(Self {
            content: content.clone(),
            cipher: cipher.ok_or_else(|| malformed("cipher", "not known"))?,
            kind: kind.ok_or_else(|| malformed("type", "missing"))?.into(),
            envelope: element
                .children()
                .next()
                .ok_or_else(|| malformed("security", "without an envelope"))?
                .detach(),
        }))
    }
}

/// A key and its initialization vector. They are for one file: a second one, or the rest of one that was interrupted, needs
/// others (XEP-0391 §4.3).
#[derive(Clone, PartialEq, Eq)]
pub struct JetSecret {
    cipher: JetCipher,
    bytes: Zeroizing<Vec<u8>>,
}

impl JetSecret {
    /// Of so many bytes as [`JetCipher::secret_bytes`] says, which nobody can guess: the key, then the vector.
    ///
    /// # Errors
    /// [`JetError::Secret`] when it is another number.
    pub fn new(cipher: JetCipher, bytes: &[u8]) -> Result<Self, JetError> {
        if bytes.len() != cipher.secret_bytes() {
            return Err(JetError::Secret {
                bytes: bytes.len(),
                expected: cipher.secret_bytes(),
            });
        }
        Ok(Self {
            cipher,
            bytes: bytes.to_vec().into(),
        })
    }

    /// Which cipher it is for.
    pub fn cipher(&self) -> JetCipher {
        self.cipher
    }

    /// What is sealed: the key, then the vector.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn key(&self) -> &[u8] {
        &self.bytes[..self.cipher.key_bytes()]
    }

    pub(crate) fn iv(&self) -> &[u8] {
        &self.bytes[self.cipher.key_bytes()..]
    }
}

impl fmt::Debug for JetSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JetSecret")
            .field("cipher", &self.cipher)
            .finish_non_exhaustive()
    }
}

/// What seals secrets for a peer, and opens those that a peer has sealed: an application's OMEMO, or whatever it has.
pub trait JetKeys {
    /// The namespace of the encryption, which [`JetSecurity::kind`] is to say.
    fn kind(&self) -> &str;

    /// Seals a secret for a peer.
    ///
    /// # Errors
    /// [`JetError::Keys`] when there is no encryption with this peer.
    fn seal(&mut self, to: &Peer, secret: &JetSecret) -> Result<Element, JetError>;

    /// Opens what a peer has sealed: the bytes of a [`JetSecret`].
    ///
    /// # Errors
    /// [`JetError::Keys`] when it is not for us, or not of this peer.
    fn open(&mut self, from: &Peer, envelope: &Element) -> Result<Zeroizing<Vec<u8>>, JetError>;
}

impl JetSecurity {
    /// Seals a secret for the content of this name.
    ///
    /// # Errors
    /// What [`JetKeys::seal`] says.
    pub fn seal(
        keys: &mut dyn JetKeys,
        to: &Peer,
        content: Arc<str>,
        secret: &JetSecret,
    ) -> Result<Self, JetError> {
        Ok(Self {
            content,
            cipher: secret.cipher(),
            kind: keys.kind().into(),
            envelope: keys.seal(to, secret)?,
        })
    }

    /// Opens the secret that a peer has sealed.
    ///
    /// # Errors
    /// [`JetError::Kind`] for another encryption than that of `keys`, [`JetError::Secret`] for a secret of another length
    /// than the cipher needs, and what [`JetKeys::open`] says.
    pub fn open(&self, keys: &mut dyn JetKeys, from: &Peer) -> Result<JetSecret, JetError> {
        if *self.kind != *keys.kind() {
            return Err(JetError::Kind(self.kind.clone()));
        }
        JetSecret::new(self.cipher, &keys.open(from, &self.envelope)?)
    }
}

/// Why a file cannot be encrypted, or was not what it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum JetError {
    /// A secret of another length than its cipher needs.
    #[error("a secret of {bytes} bytes instead of {expected}")]
    Secret {
        /// Its bytes.
        bytes: usize,
        /// What the cipher needs.
        expected: usize,
    },
    /// Sealed by an encryption that we do not have.
    #[error("sealed by {0}, which is not known here")]
    Kind(Arc<str>),
    /// No end-to-end encryption was set ([`FileClient::set_keys`](crate::FileClient::set_keys)).
    #[error("there is no end-to-end encryption here")]
    NoKeys,
    /// A tree, whose bytes flow both ways.
    #[error("a tree cannot be encrypted: its files can, each for itself")]
    Tree,
    /// The rest of a file, without the hasher of what is there: nothing would prove that.
    #[error("the rest of an encrypted file needs the hash of what is there")]
    NoPrefix,
    /// The end-to-end encryption's own reason.
    #[error("{0}")]
    Keys(Arc<str>),
    /// More than [`JET_BYTES_MAX`] bytes.
    #[error("more than {JET_BYTES_MAX} bytes cannot be encrypted with one key")]
    TooLong,
    /// Somebody has changed it, or it was not encrypted with this secret, or its end is missing.
    #[error("its end does not prove it to be whole and unchanged")]
    Tag,
}
