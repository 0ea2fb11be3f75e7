//! What a file transfer means, as a pure session client.
//!
//! A *tunnel* is a session with one stream of bytes (libjingle `talk/session/tunnel`): the initiator says in a text what
//! it is for, and libjingle's `pcp` says `recv:NAME` or `send:NAME`. [`TunnelClient`] is registered with a
//! [`SessionManager`](session_core::SessionManager), offers and accepts tunnels, and keeps for each one what waits to be
//! sent and what waits to be read, within [`TunnelLimits`]. It knows no socket, no file and no clock: whoever drives the
//! manager carries the bytes, and the application reads and writes files.
//!
//! A *file* is described (XEP-0234: name, size, hashes, the part that is meant), offered or asked for, alone or with others
//! in one session. [`FileClient`] has the same form as the tunnels' client, and adds what a description makes possible:
//! each file is accepted, skipped or renamed for itself, continues at an offset, has the size that was announced, and is
//! verified by its hash while it arrives. It speaks with other people's clients as each of them is used to.
//!
//! A *tree* is a folder with all that is in it: between two of ours one stream of a file's session carries it
//! ([`TreeSender`], [`TreeReceiver`]); others are offered its files one by one.
//!
//! # Who writes, who waits
//! [`TunnelClient::write`] takes what there is room for; [`TunnelClient::read`] hands out what there is. Whoever could not
//! go on waits for the tunnel's [`signal`](TunnelStream::signal) and tries again: a listener that connected before it
//! tried misses nothing. A receiver that does not read holds its peer back.
//!
//! # Whether it is whole
//! libjingle's streams end without a mark, so that its receivers cannot notice a truncated file. Between two of ours the
//! end travels in the stream. What is known is said: [`Read::End`] carries a [`Completeness`].
//!
//! # Names
//! A name that a peer gives is no path. [`sanitize_name`] takes what is a name on every system and refuses the rest.
//!
//! # The program
//! With the feature `cli` there is `pcp`: `cargo install --path session-file --features cli`. Given again, a command goes on
//! where it was interrupted.
//! ```console
//! $ pcp receive --jid bob@example.org --into Downloads      # from those in the roster, or --accept
//! $ pcp send holiday.mp4 photos/ bob@example.org --jid alice@example.org
//! $ tar c / | pcp send - bob@example.org --name all.tar     # pcp receive --into - writes one file to standard output
//! $ pcp share music/ --jid bob@example.org                  # pcp get bob@example.org:song.ogg fetches one
//! ```
//! With nothing installed: `cargo xtask switchboard`, and `--jid bob@localhost --switchboard --accept any`.
//!
//! # Features
//! - `gtalk`: `ShareClient`, Google's file share: files and folders fetched over HTTP within a session.
//! - `jet`: files encrypted within their stream (XEP-0391), with keys by whatever encryption an application has.
//! - `cli`: the program `pcp`, and what it is made of.
//!
//! # Example
//! A file of eleven bytes, between two managers in a world without sockets:
//! ```
//! use bytes::Bytes;
//! use session_core::{Config, testing::{MemoryStream, World}};
//! use session_file::{Completeness, Read, TUNNEL, Tunnel, TunnelClient, TunnelConfig, Verdict};
//!
//! let mut world = World::new(1);
//! for name in ["alice@a.example/desk", "bob@b.example/lap"] {
//!     world.add_host(name, Config::default(), |manager| {
//!         manager.add_transport(MemoryStream::new())?;
//!         let mut client = TunnelClient::new(TunnelConfig::default());
//!         client.set_policy(|_offer| Verdict::Accept);
//!         manager.add_client(client)
//!     });
//! }
//! let (alice, bob) = (0, 1);
//! let (local, to) = (world.name(alice).clone(), world.name(bob).clone());
//!
//! let sending = world.update(alice, |manager, now| {
//!     let id = manager.create_session(local, TUNNEL, now).unwrap();
//!     TunnelClient::open(manager, id, to, &Tunnel::receive("hello.txt").unwrap(), now).unwrap();
//!     let mut bytes = Bytes::from_static(b"hello, Bob!");
//!     assert_eq!(TunnelClient::write(manager, id, &mut bytes, now), Ok(11));
//!     TunnelClient::finish(manager, id, now).unwrap();
//!     id
//! });
//! world.settle();
//!
//! let read = world.update(bob, |manager, now| {
//!     let id = manager.session_ids()[0];
//!     let first = TunnelClient::read(manager, id, usize::MAX, now).unwrap();
//!     (first, TunnelClient::read(manager, id, usize::MAX, now).unwrap())
//! });
//! assert_eq!(read.0, Read::Bytes(Bytes::from_static(b"hello, Bob!")));
//! assert_eq!(read.1, Read::End(Completeness::Verified));
//! world.settle();
//! world.update(alice, |manager, _| {
//!     let client = manager.find_client::<TunnelClient>().unwrap();
//!     assert!(client.stream(sending).unwrap().is_delivered());
//! });
//! ```

mod client;
#[cfg(all(feature = "cli", unix))]
pub mod disk;
mod file;
mod files;
mod flow;
mod hash;
#[cfg(feature = "jet")]
mod jet;
mod moving;
mod name;
mod own;
#[cfg(all(feature = "cli", unix))]
pub mod pcp;
mod publish;
mod queue;
mod resume;
mod share;
#[cfg(feature = "gtalk")]
mod sharing;
mod stream;
mod transfer;
mod tree;
mod tunnel;

pub use client::{
    CHANNEL, CONTENT, Offer, TunnelClient, TunnelConfig, TunnelError, TunnelLimits, Verdict,
};
pub use file::{
    DateError, FILE_TRANSFER, FILE_TRANSFER_ERRORS, File, FileDate, FileDescription, FileInfo,
    FileRange, FileText, THUMBNAILS, Thumbnail, file_limits, file_not_available, file_too_large,
};
pub use files::{
    Acceptance, Decision, FILE_CHANNEL, FileClient, FileConfig, FileError, FileLimits, FileOffer,
    FileVerdict, OfferedFile, Proposal,
};
pub use hash::{HASH_BYTES_MAX, HASH_NAME_MAX, HASHES, Hash, HashAlgorithm, Hasher};
#[cfg(feature = "jet")]
pub use jet::{
    JET, JET_BYTES_MAX, JET_TAG_BYTES, JetCipher, JetError, JetKeys, JetOpener, JetSealer,
    JetSecret, JetSecurity,
};
pub use name::{FileName, NAME_BYTES_MAX, NameError, sanitize_name};
pub use own::OWN;
pub use publish::{
    JINGLE_PUB, PUBLICATION_ID_MAX, Publication, PublicationText, publication_asked,
    publication_session, publication_start, publication_starting, publication_uri,
};
pub use resume::{Journal, JournalError, JournalState, ResumeToken};
pub use share::{
    PREVIEW_MAX, SHARE, SHARE_ITEMS_MAX, Share, ShareInfo, ShareItem, ShareKind, ShareRequest,
};
#[cfg(feature = "gtalk")]
pub use sharing::{
    ShareChange, ShareClient, ShareConfig, ShareDemand, ShareError, ShareFetch, ShareLimits,
    ShareOffer, ShareRead, ShareState, ShareVerdict, TAR_BLOCK, TAR_ENTRIES_MAX, TarError,
    TarEvent, TarReader, tar_header, tar_padding,
};
pub use stream::{Change, Completeness, Phase, Progress, Read, TunnelStream};
pub use transfer::{Direction, Fault, Integrity, Outcome, Transfer, TransferId};
pub use tree::{
    Demand, EntryKind, PathError, TreeEntry, TreeError, TreeEvent, TreeLimits, TreePath,
    TreeReceiver, TreeSender, TreeTotals, tree_offer, tree_totals,
};
pub use tunnel::{Purpose, TEXT_BYTES_MAX, TUNNEL, TextError, Tunnel};
