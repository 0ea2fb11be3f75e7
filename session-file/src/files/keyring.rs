//! Who seals and opens the secrets of files that are encrypted within their stream (XEP-0391).

use crate::Transfer;
use session_core::{Element, Peer, Reason, ReasonCondition};

#[cfg(feature = "jet")]
use super::FileError;
#[cfg(feature = "jet")]
use crate::{
    Direction, File, Hasher, JET_BYTES_MAX, JetCipher, JetError, JetKeys, JetSecret, JetSecurity,
    moving,
    transfer::{Sealed, algorithms},
};
#[cfg(feature = "jet")]
use session_core::Session;
#[cfg(feature = "jet")]
use zeroize::Zeroizing;

/// The namespace of what says that a file is encrypted. It is known also where nothing can be done about it.
pub(super) const JET_NAMESPACE: &str = "urn:xmpp:jingle:jet:0";

/// What the application has given.
#[derive(Default)]
pub(super) struct Keyring {
    #[cfg(feature = "jet")]
    keys: Option<Box<dyn JetKeys + Send>>,
}

fn refuse(why: impl std::fmt::Display) -> Reason {
    Reason::new(ReasonCondition::SecurityError).with_text(why.to_string())
}

impl Keyring {
    /// Reads the secret of what a peer proposes. Where nobody can, the file is not to be taken for one in clear.
    ///
    /// # Errors
    /// Why it is refused.
    #[cfg(not(feature = "jet"))]
    #[allow(
        clippy::unused_self,
        clippy::needless_pass_by_ref_mut,
        reason = "there are no keys without the feature `jet`"
    )]
    pub(super) fn unseal(&mut self, _: &mut Transfer, _: &Element, _: &Peer) -> Result<(), Reason> {
        Err(refuse("it is encrypted, and nobody here can open it"))
    }

    /// Reads the secret of what a peer proposes. Where nobody can, the file is not to be taken for one in clear.
    ///
    /// # Errors
    /// Why it is refused.
    #[cfg(feature = "jet")]
    pub(super) fn unseal(
        &mut self,
        transfer: &mut Transfer,
        security: &Element,
        from: &Peer,
    ) -> Result<(), Reason> {
        let Some(keys) = &mut self.keys else {
            return Err(refuse(JetError::NoKeys));
        };
        let said = JetSecurity::from_element(security.view(), transfer.content());
        let said = said.map_err(refuse)?;
        let said = said.ok_or_else(|| refuse("not known what its security is"))?;
        let secret = said.open(&mut **keys, from).map_err(refuse)?;
        cover(transfer, &secret);
        Ok(())
    }

    /// Makes a secret for a proposal of ours, and seals it for who is to have it. What says so in the offer.
    ///
    /// # Errors
    /// [`JetError`].
    #[cfg(feature = "jet")]
    pub(super) fn seal(
        &mut self,
        transfer: &mut Transfer,
        cipher: JetCipher,
        to: &Peer,
        session: &Session,
    ) -> Result<Element, JetError> {
        let keys = self.keys.as_mut().ok_or(JetError::NoKeys)?;
        let mut bytes = Zeroizing::new(vec![0; cipher.secret_bytes()]);
        session.fill_random(&mut bytes);
        let secret = JetSecret::new(cipher, &bytes)?;
        let content = transfer.content().clone();
        let security = JetSecurity::seal(&mut **keys, to, content, &secret)?;
        cover(transfer, &secret);
        Ok(security.to_element())
    }
}

#[cfg(feature = "jet")]
impl Keyring {
    pub(super) fn set(&mut self, keys: Box<dyn JetKeys + Send>) {
        self.keys = Some(keys);
    }
}

/// Encrypts a transfer, or decrypts it.
#[cfg(feature = "jet")]
fn cover(transfer: &mut Transfer, secret: &JetSecret) {
    transfer.set_sealed(match transfer.direction() {
        Direction::Send => Sealed::sending(secret),
        Direction::Receive => {
            let file = transfer.file();
            // Ours name the hashes of files.
            let others = !moving::is_marked(file);
            Sealed::receiving(secret, others.then(|| Hasher::new(algorithms(file))))
        }
    });
}

/// Whether a file, or the rest of one, can be encrypted. `prefix`: the hasher of what is in front of the rest, where it is
/// received.
///
/// # Errors
/// [`FileError::Encryption`].
#[cfg(feature = "jet")]
pub(super) fn check(
    file: &File,
    direction: Direction,
    prefix: Option<&Hasher>,
) -> Result<(), FileError> {
    let offset = file.range.as_ref().map_or(0, |range| range.offset);
    if file.part_bytes().is_some_and(|bytes| bytes > JET_BYTES_MAX) {
        return Err(JetError::TooLong.into());
    }
    if crate::tree::mark(file).is_some() {
        return Err(JetError::Tree.into());
    }
    let known = prefix.is_some_and(|prefix| prefix.length() == offset);
    match direction == Direction::Receive && offset > 0 && !known {
        true => Err(JetError::NoPrefix.into()),
        false => Ok(()),
    }
}
