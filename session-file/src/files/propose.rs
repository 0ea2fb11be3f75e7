//! What we propose to a peer.

use super::{FileClient, FileError, Proposal, exchange::Exchange};
use crate::{
    Direction, File, FileDescription, Phase, Transfer, moving,
    transfer::{mark, suitable},
};
use session_core::{ContentSpec, Role, Senders, Session, SessionDescription};

impl FileClient {
    /// Adds a transfer of ours, and gives the content that tells the peer.
    ///
    /// # Errors
    /// It cannot be encrypted; nothing was added.
    #[cfg_attr(
        not(feature = "jet"),
        allow(
            clippy::needless_pass_by_ref_mut,
            clippy::unnecessary_wraps,
            reason = "with the feature `jet` it uses keys, which may be missing"
        )
    )]
    pub(super) fn propose(
        &mut self,
        exchange: &mut Exchange,
        proposal: Proposal,
        session: &Session,
    ) -> Result<ContentSpec, FileError> {
        #[cfg(feature = "jet")]
        let cipher = match &proposal {
            Proposal::Offer(_) | Proposal::Request(..) => None,
            Proposal::EncryptedOffer(_, cipher) | Proposal::EncryptedRequest(.., cipher) => {
                Some(*cipher)
            }
        };
        #[cfg(not(feature = "jet"))]
        let _ = session;
        let (direction, mut file, prefix) = match proposal {
            Proposal::Offer(file) => (Direction::Send, file, None),
            Proposal::Request(file, prefix) => (Direction::Receive, file, prefix),
            #[cfg(feature = "jet")]
            Proposal::EncryptedOffer(file, _) => (Direction::Send, file, None),
            #[cfg(feature = "jet")]
            Proposal::EncryptedRequest(file, prefix, _) => (Direction::Receive, file, prefix),
        };
        #[cfg(feature = "jet")]
        if cipher.is_some() {
            super::keyring::check(&file, direction, prefix.as_ref())?;
        }
        if self.config.blocks && !self.config.hashes_outside {
            mark_blocks(&mut file);
        }
        file.extra.extend(self.config.moves.then(moving::mark));
        let offset = file.range.as_ref().map_or(0, |range| range.offset);
        let has = prefix
            .as_ref()
            .filter(|prefix| offset > 0 && prefix.length() == offset);
        file.extra.extend(has.and_then(crate::resume::prefix_mark));
        let name = exchange.next_name();
        let sender = match direction {
            Direction::Send => exchange.role,
            Direction::Receive => exchange.role.other(),
        };
        let (creator, limits) = (exchange.role, self.config.limits);
        let mut transfer = Transfer::new(
            name.clone(),
            creator,
            direction,
            Phase::Waiting,
            file,
            limits,
        );
        transfer.set_prefix(prefix);
        #[cfg(not(feature = "jet"))]
        let security = None;
        #[cfg(feature = "jet")]
        let security = match cipher {
            Some(cipher) => {
                let keys = &mut self.keyring;
                Some(keys.seal(&mut transfer, cipher, &exchange.peer, session)?)
            }
            None => None,
        };
        let description = FileDescription::from(transfer.file().clone()).to_element();
        if direction == Direction::Receive {
            let known = transfer.file().file_name().ok();
            transfer.set_name(known);
        }
        exchange.transfers.push(transfer);
        Ok(ContentSpec {
            senders: match sender {
                Role::Initiator => Senders::Initiator,
                Role::Responder => Senders::Responder,
            },
            security,
            ..ContentSpec::new(name, description)
        })
    }
}

/// Offers the hashes of blocks for a file that has several.
fn mark_blocks(file: &mut File) {
    if let Some(size) = file.size.filter(|&size| size > suitable(size))
        && crate::transfer::block_bytes(file).is_none()
    {
        file.extra.push(mark(suitable(size)));
    }
}
