//! How files are transferred, and what is said about them.

use crate::{Direction, File, FileName, Hasher, NameError, TransferId};
#[cfg(feature = "jet")]
use crate::{JetCipher, JetError};
use session_core::{ChannelLayer, Misuse, Peer, Reason, SessionId};
use std::{fmt, sync::Arc, time::Duration};
use thiserror::Error;

/// How files are transferred.
#[derive(Clone)]
pub struct FileConfig {
    /// Makes a stream of a transport that carries datagrams; `None` where only streaming transports are registered.
    pub layer: Option<Arc<dyn ChannelLayer>>,
    /// How long a sender whose every file was delivered waits for the receiver to end the session, which it does when its
    /// application has the files (XEP-0234 §6.6). Psi takes up to 30 s. Default 35 s.
    pub linger: Duration,
    /// How long a receiver that has every byte waits for a hash that the sender said would follow. Default 5 s, as Swift.
    pub checksum: Duration,
    /// The same where the sender said nothing: Conversations names a hash then, Dino does not. Default 1 s.
    pub unannounced: Duration,
    /// How long nothing may move that the peer is to do, before it is asked whether it is there (XEP-0166 §6.8), and again
    /// after that. One whose server says that it is gone, or that does not answer at all, is given up. Default 10 s.
    pub stall: Duration,
    /// How long nothing may move while the peer's side is to take bytes, to say that it has them all, or to send those of a
    /// file of known size, although the peer answers when it is asked: a path may be dead that does not show it. Then
    /// another transport is tried, and without one the file fails. What an operating system holds on both sides, a few MiB,
    /// has to arrive in that time, because nobody sees it move. Of a part that is not at the beginning of a file, its
    /// receiver waits for the first byte however long that takes, because the sender may hash what is in front of it. For
    /// the end of a file that is all here already it waits as long, if a hash was announced. Default 10 min.
    pub standstill: Duration,
    /// Whether two of ours tell each other where a stream goes on when its transport is replaced in its middle. Without it,
    /// as with other people's clients, a file begins anew there. Default true.
    pub moves: bool,
    /// Whether the application can give the bytes of a file that it sends again
    /// ([`Change::Rewound`](crate::Change::Rewound)). Without it, a file to other people's clients fails when its transport
    /// breaks in its middle. Default false.
    pub gives_again: bool,
    /// Whether the hashes of blocks are named to peers that take them, so that a damaged file is noticed early. Default
    /// true.
    pub blocks: bool,
    /// Whether the application hashes what it reads and writes, on a thread of its own, and shows it by
    /// [`FileClient::show`](crate::FileClient::show). Then the hashes of blocks are not named. Default false: this client
    /// hashes while bytes pass.
    pub hashes_outside: bool,
    /// Whether bytes may pass that nothing protects: neither what carries them ([`session_core::Secured`]) nor their own
    /// encryption (XEP-0391). Otherwise a file fails before the first of them does, in either direction, as
    /// [`Fault::Unprotected`](crate::Fault::Unprotected). Default true: most clients have neither.
    pub plaintext: bool,
    /// Bounds.
    pub limits: FileLimits,
}

impl FileConfig {
    /// The defaults, with this layer.
    pub fn new(layer: Arc<dyn ChannelLayer>) -> Self {
        Self {
            layer: Some(layer),
            ..Self::default()
        }
    }
}

impl Default for FileConfig {
    fn default() -> Self {
        Self {
            layer: None,
            linger: Duration::from_secs(35),
            checksum: Duration::from_secs(5),
            unannounced: Duration::from_secs(1),
            stall: Duration::from_secs(10),
            standstill: Duration::from_mins(10),
            moves: true,
            gives_again: false,
            blocks: true,
            hashes_outside: false,
            plaintext: true,
            limits: FileLimits::default(),
        }
    }
}

/// Bounds of files on their way. How many files a session has, [`session_core::Limits::contents`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileLimits {
    /// Bytes of one file that wait to be sent, at least 1. Default 1 MiB.
    pub send_bytes: usize,
    /// Bytes of one file that wait to be read, beyond which the peer is held back. What the transport holds by then may
    /// come on top. Default 1 MiB.
    pub receive_bytes: usize,
    /// Sessions at a time, those included that are over and not released. Default 1,024.
    pub sessions: usize,
    /// Offers of peers that wait for our decision; further ones are declined as busy. Default 16.
    pub offers: usize,
    /// Files of a session, those included that are over, beyond which no more are taken of the peer. Default 4,096.
    pub files: usize,
    /// Most bytes that are taken of a file whose size the peer did not say. Default 4 GiB.
    pub unsized_bytes: u64,
}

impl Default for FileLimits {
    fn default() -> Self {
        Self {
            send_bytes: 1 << 20,
            receive_bytes: 1 << 20,
            sessions: 1_024,
            offers: 16,
            files: 4_096,
            unsized_bytes: 4 << 30,
        }
    }
}

/// What a session is to do with one file.
#[derive(Clone, Debug)]
pub enum Proposal {
    /// We send it (XEP-0234 §6.1). With an offset in its range we send from there on.
    Offer(File),
    /// The peer is to send the file that this picks (XEP-0234 §6.2). With an offset in its range we have what is in front
    /// of that, and the hasher of it, if any, lets the whole file be verified.
    Request(File, Option<Hasher>),
    /// As [`Offer`](Self::Offer), encrypted within the stream (XEP-0391). Each proposal has a secret of its own, so that a
    /// file that was interrupted goes on with another. To be proposed to who announces [`JET`](crate::JET) and the
    /// encryption of its keys: others keep what was encrypted.
    #[cfg(feature = "jet")]
    EncryptedOffer(File, JetCipher),
    /// As [`Request`](Self::Request), and the peer is to encrypt it with our secret (XEP-0391 §4.2).
    #[cfg(feature = "jet")]
    EncryptedRequest(File, Option<Hasher>, JetCipher),
}

#[cfg(feature = "jet")]
impl Proposal {
    /// The same, encrypted.
    #[must_use]
    pub fn encrypted(self, cipher: JetCipher) -> Self {
        match self {
            Self::Offer(file) | Self::EncryptedOffer(file, _) => Self::EncryptedOffer(file, cipher),
            Self::Request(file, prefix) | Self::EncryptedRequest(file, prefix, _) => {
                Self::EncryptedRequest(file, prefix, cipher)
            }
        }
    }
}

/// Files that a peer offers, or asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileOffer {
    /// The session.
    pub session: SessionId,
    /// Who offers.
    pub from: Peer,
    /// The files: all of a session's offer, or what was added to a session.
    pub files: Vec<OfferedFile>,
}

/// One file of a [`FileOffer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfferedFile {
    /// The content's name.
    pub content: Arc<str>,
    /// [`Direction::Receive`] when the peer offers it, [`Direction::Send`] when it asks for it.
    pub direction: Direction,
    /// The file. What is said in it is the peer's word.
    pub file: File,
    /// Whether its bytes are encrypted within the stream (XEP-0391). Its secret is known then.
    pub encrypted: bool,
}

/// What is decided about one file that a peer offers or asks for.
#[derive(Clone, Debug)]
pub enum Decision {
    /// It is received.
    Accept(Acceptance),
    /// It is sent; this is its description. Where it has a range, the part that was asked for is sent, else all of it.
    Provide(File),
    /// It is not wanted, or not available.
    Skip(Reason),
}

/// How a file is received.
#[derive(Clone, Debug, Default)]
pub struct Acceptance {
    /// Under which name it is kept; `None` keeps the peer's, which must then be one ([`File::file_name`]).
    pub name: Option<FileName>,
    /// We have this many bytes from its beginning, and receive the rest. Possible where the offer has a range.
    pub offset: u64,
    /// The hasher of what we have. With it the whole file is verified, without it only the rest.
    pub prefix: Option<Hasher>,
    /// What is offered is a tree ([`tree_totals`](crate::tree_totals)), and its frames are understood here. Without it the
    /// peer offers each file for itself.
    pub tree: bool,
}

/// What a policy says to a [`FileOffer`].
#[derive(Clone, Debug, Default)]
pub enum FileVerdict {
    /// The application decides, by [`FileClient::answer`](crate::FileClient::answer).
    #[default]
    Ask,
    /// Decided at once, by the content's name. What is not named is skipped.
    Decide(Vec<(Arc<str>, Decision)>),
    /// All of it is declined, for this reason.
    Decline(Reason),
}

/// Why a call about a file was not possible. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FileError {
    /// No [`FileClient`](crate::FileClient) is registered with the manager.
    #[error("no client for files is registered")]
    NoClient,
    /// There is no such session, or it was released.
    #[error("there is no session {0} with files")]
    UnknownSession(SessionId),
    /// There is no such file.
    #[error("there is no file {0}")]
    Unknown(TransferId),
    /// The session was used already.
    #[error("session {0} has its files already")]
    InUse(SessionId),
    /// Nothing was proposed.
    #[error("a session needs a file")]
    Nothing,
    /// More than we keep.
    #[error("more than {max} {limit}")]
    TooMany {
        /// The name of the limit in [`FileLimits`] or [`session_core::Limits`].
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// It was decided already, or it was ours.
    #[error("file {0} does not wait for a decision")]
    NotOffered(TransferId),
    /// What is offered is to be received, and what is asked for is to be sent.
    #[error("file {0} goes the other way")]
    WrongWay(TransferId),
    /// The name cannot stand for a file here. Choose one.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The part is not one of the file, or the peer cannot send parts.
    #[error("the peer cannot send this part of the file")]
    Range,
    /// Both sides have not accepted it yet, or it is over.
    #[error("file {0} is not on its way")]
    NotOpen(TransferId),
    /// More bytes than the file has.
    #[error("the file has no more than {0} bytes")]
    TooMuch(u64),
    /// Less bytes than the file has.
    #[error("the file has {expected} bytes, and {written} were written")]
    TooLittle {
        /// What was written.
        written: u64,
        /// What was announced.
        expected: u64,
    },
    /// The transport broke, and everything is to be given again ([`FileClient::begin_again`](crate::FileClient::begin_again)).
    #[error("file {0} is to be given from its beginning again")]
    Rewound(TransferId),
    /// Our direction was finished.
    #[error("nothing can be written after the end")]
    Finished,
    /// It cannot be encrypted, or not go on so.
    #[cfg(feature = "jet")]
    #[error("not encrypted: {0}")]
    Encryption(#[from] JetError),
    /// The session does not allow it.
    #[error(transparent)]
    Session(#[from] Misuse),
}

impl fmt::Debug for FileConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileConfig")
            .field("layer", &self.layer.is_some())
            .field("linger", &self.linger)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
