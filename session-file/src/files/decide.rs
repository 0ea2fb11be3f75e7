//! What is decided about files that a peer offers or asks for.

use super::{
    Acceptance, Decision, FileError,
    exchange::Exchange,
    keyring::{JET_NAMESPACE, Keyring},
};
use crate::{
    Direction, File, FileDescription, FileRange, Hasher, Phase, Transfer, TransferId,
    file_not_available, moving, resume::prefix_mark, transfer::block_bytes,
};
use session_core::{
    Content, ContentState, Element, Peer, Reason, ReasonCondition, Role, SessionDescription,
    SessionId,
};
use std::sync::Arc;

/// What is accepted.
pub(super) struct Taken {
    pub(super) content: Arc<str>,
    /// The file as we know it from now on.
    pub(super) file: File,
    /// The file as the answer names it.
    pub(super) answer: File,
    pub(super) acceptance: Acceptance,
}

impl Taken {
    /// Its stream cannot move to another transport.
    pub(super) fn unmark_moves(&mut self) {
        let other = |extra: &Element| *extra != moving::mark();
        self.file.extra.retain(other);
        self.answer.extra.retain(other);
    }
}

/// What decisions are about, checked before anything is done. Of what waits, only `about` is decided, where that is said.
#[allow(clippy::type_complexity, reason = "what is taken, and what is skipped")]
pub(super) fn judge(
    exchange: &Exchange,
    session: SessionId,
    decisions: Vec<(Arc<str>, Decision)>,
    about: Option<&[Arc<str>]>,
    blocks: bool,
) -> Result<(Vec<Taken>, Vec<(Arc<str>, Reason)>), FileError> {
    let (mut taken, mut skipped) = (Vec::new(), Vec::new());
    let mut left: Vec<&Transfer> = exchange
        .transfers
        .iter()
        .filter(|t| exchange.is_asked(t))
        .filter(|t| about.is_none_or(|about| about.contains(t.content())))
        .collect();
    for (content, decision) in decisions {
        let id = || TransferId {
            session,
            content: content.clone(),
        };
        let Some(at) = left.iter().position(|t| t.content() == &content) else {
            return Err(match exchange.find(&content) {
                Some(_) => FileError::NotOffered(id()),
                None => FileError::Unknown(id()),
            });
        };
        let transfer = left.remove(at);
        match (decision, transfer.direction()) {
            (Decision::Skip(reason), _) => skipped.push((content, reason)),
            (Decision::Accept(acceptance), Direction::Receive) => {
                taken.push(accept(transfer, acceptance, blocks)?);
            }
            (Decision::Provide(file), Direction::Send) => {
                taken.push(provide(transfer, file, blocks)?)
            }
            (Decision::Accept(_), Direction::Send) | (Decision::Provide(_), Direction::Receive) => {
                return Err(FileError::WrongWay(id()));
            }
        }
    }
    for transfer in left {
        let reason = match transfer.direction() {
            Direction::Receive => ReasonCondition::Decline.into(),
            Direction::Send => file_not_available(),
        };
        skipped.push((transfer.content().clone(), reason));
    }
    Ok((taken, skipped))
}

fn accept(
    transfer: &Transfer,
    mut acceptance: Acceptance,
    blocks: bool,
) -> Result<Taken, FileError> {
    let offered = transfer.file();
    if acceptance.name.is_none() {
        acceptance.name = Some(offered.file_name()?);
    }
    let mut file = offered.clone();
    let start = transfer.offset();
    let offset = acceptance.offset.max(start);
    if offset > start {
        let end = offered
            .range
            .as_ref()
            .and_then(FileRange::end)
            .or(offered.size);
        if offered.range.is_none() || end.is_some_and(|end| offset > end) {
            return Err(FileError::Range);
        }
        let length = end
            .map(|end| end - offset)
            .filter(|_| offered.range.as_ref().is_some_and(|r| r.length.is_some()));
        file.range = Some(FileRange {
            offset,
            length,
            hashes: Vec::new(),
        });
    }
    if !blocks {
        drop_blocks(&mut file);
    }
    if !acceptance.tree {
        file.extra.retain(|extra| !extra.is(crate::OWN, "tree"));
    }
    check_encryption(transfer, &file, acceptance.prefix.as_ref())?;
    let prefix = acceptance
        .prefix
        .as_ref()
        .filter(|prefix| offset > 0 && prefix.length() == offset);
    let mut answer = brief(&file);
    answer.extra.extend(prefix.and_then(prefix_mark));
    Ok(Taken {
        content: transfer.content().clone(),
        answer,
        file,
        acceptance,
    })
}

fn provide(transfer: &Transfer, mut file: File, blocks: bool) -> Result<Taken, FileError> {
    let size = file.size.unwrap_or(u64::MAX);
    // Who asks for what is behind the end has a part of another file, and gets this one from the beginning.
    let asked = transfer.file().range.as_ref();
    let asked = asked.filter(|asked| file.range.is_some() && asked.offset <= size);
    if let Some(asked) = asked {
        let length = asked.length.map(|length| length.min(size - asked.offset));
        file.range = Some(FileRange {
            offset: asked.offset,
            length,
            hashes: Vec::new(),
        });
    }
    check_encryption(transfer, &file, None)?;
    drop_blocks(&mut file);
    if let Some(mark) = transfer
        .file()
        .extra
        .iter()
        .find(|extra| extra.is(crate::OWN, "blocks"))
        && blocks
        && block_bytes(transfer.file()).is_some()
    {
        file.extra.push(mark.clone());
    }
    if moving::is_marked(transfer.file()) {
        file.extra.push(moving::mark());
    }
    let answer = file.clone();
    // What the receiver has, its request says.
    let claim = transfer
        .file()
        .extra
        .iter()
        .find(|extra| extra.is(crate::OWN, "prefix"));
    file.extra.extend(claim.cloned());
    Ok(Taken {
        content: transfer.content().clone(),
        answer,
        file,
        acceptance: Acceptance::default(),
    })
}

/// Whether what is encrypted can go on as it is decided.
#[cfg(feature = "jet")]
fn check_encryption(
    transfer: &Transfer,
    file: &File,
    prefix: Option<&Hasher>,
) -> Result<(), FileError> {
    match transfer.is_encrypted() {
        true => super::keyring::check(file, transfer.direction(), prefix),
        false => Ok(()),
    }
}

#[cfg(not(feature = "jet"))]
#[allow(
    clippy::unnecessary_wraps,
    reason = "nothing is encrypted without the feature `jet`"
)]
fn check_encryption(_: &Transfer, _: &File, _: Option<&Hasher>) -> Result<(), FileError> {
    Ok(())
}

/// What of an offer is worth repeating in the answer.
fn brief(file: &File) -> File {
    File {
        texts: Vec::new(),
        thumbnails: Vec::new(),
        extra: file
            .extra
            .iter()
            .filter(|extra| extra.namespace() == crate::OWN)
            .cloned()
            .collect(),
        ..file.clone()
    }
}

fn drop_blocks(file: &mut File) {
    file.extra.retain(|extra| !extra.is(crate::OWN, "blocks"));
}

/// A content that the peer proposes, as a transfer.
///
/// # Errors
/// Why it is refused: it makes no sense, or it is encrypted, and nobody here has its secret.
pub(super) fn offered(
    content: &Content,
    limits: crate::FileLimits,
    keyring: &mut Keyring,
    from: &Peer,
) -> Result<Transfer, Reason> {
    let senseless = || Reason::new(ReasonCondition::IncompatibleParameters);
    let mut transfer = read(content, limits).ok_or_else(senseless)?;
    let security = content.security();
    if let Some(security) = security.filter(|said| said.namespace() == JET_NAMESPACE) {
        keyring.unseal(&mut transfer, security, from)?;
    }
    Ok(transfer)
}

/// What a content says of a file; `None` when it makes no sense.
fn read(content: &Content, limits: crate::FileLimits) -> Option<Transfer> {
    let ours = matches!(
        content.state(),
        ContentState::Offered | ContentState::ProposedThere
    );
    let description = content.remote_description().filter(|_| ours)?;
    let file = FileDescription::from_element(description).ok()?.file;
    // Some leave `senders` out of an offer, or say `both`: who offers, sends.
    let sender = match content.senders() {
        session_core::Senders::Initiator => Role::Initiator,
        session_core::Senders::Responder => Role::Responder,
        session_core::Senders::Both => content.creator(),
        session_core::Senders::None => return None,
    };
    let direction = if sender == content.creator() {
        Direction::Receive
    } else {
        Direction::Send
    };
    let name = content.name().clone();
    Some(Transfer::new(
        name,
        content.creator(),
        direction,
        Phase::Offered,
        file,
        limits,
    ))
}
