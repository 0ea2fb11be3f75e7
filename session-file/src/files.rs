//! [`FileClient`]: the session client of files (XEP-0234).

mod config;
mod decide;
mod events;
mod exchange;
mod keyring;
mod propose;
mod watch;

pub use config::{
    Acceptance, Decision, FileConfig, FileError, FileLimits, FileOffer, FileVerdict, OfferedFile,
    Proposal,
};

use crate::{
    Direction, Hasher, Integrity, Outcome, Phase, Read, Transfer, TransferId, file::FILE_TRANSFER,
    transfer::Fault,
};
use bytes::Bytes;
use exchange::{Exchange, end, reject};
use keyring::Keyring;
use session_core::{
    ContentSpec, Misuse, Peer, Reason, ReasonCondition, Role, Session, SessionId, SessionManager,
    Signal,
};
use std::{collections::BTreeMap, fmt, sync::Arc, time::Instant};

/// The name of the one channel that each content has.
pub const FILE_CHANNEL: &str = "file";

type Policy = Box<dyn FnMut(&FileOffer) -> FileVerdict + Send>;

/// The session client of files (XEP-0234).
///
/// It is registered once ([`SessionManager::add_client`]). A session has one or several files, each with a content, a
/// transport and a stream of its own, offered or asked for by either side, before and while it runs. What an application
/// does with them are functions that take the manager, because they act on a client and a session of it at the same
/// time, and because a [`Transfer`] outlives its session: what had arrived can be read until
/// [`release`](Self::release).
///
/// What happens by itself:
/// - Bytes are hashed while they pass. A sender that announced a hash names it as soon as it is known, and never waits for
///   the receiver's word. A receiver compares it: with a hash that differs, with more bytes than announced, and with a
///   stream that ends early, the file is refused with `media-error`, and nothing more of it is read.
/// - A receiver whose application has read [`Read::End`] says `received`, and when that was the last file of the session,
///   ends the session with `success`. A sender ends it only when the receiver did not within [`FileConfig::linger`].
/// - One file that fails is taken out of the session; the others go on.
/// - When the transport is replaced while bytes are under way, two of ours go on where the receiver is, as long as not
///   more than 4 MiB are under way. Beyond that the file fails, and continues at its offset in a new session. With others
///   a file whose size is known begins anew: a sender gives everything again, if it can ([`FileConfig::gives_again`]), and a
///   receiver compares what comes again with what it has. Its application reads every byte once.
///
/// ```
/// use bytes::Bytes;
/// use session_core::{Config, testing::{MemoryStream, World}};
/// use session_file::{
///     Acceptance, Decision, FILE_TRANSFER, File, FileClient, FileConfig, FileVerdict, Outcome, Proposal, Read, TransferId,
/// };
///
/// let mut world = World::new(1);
/// for name in ["alice@a.example/desk", "bob@b.example/lap"] {
///     world.add_host(name, Config::default(), |manager| {
///         manager.add_transport(MemoryStream::new())?;
///         let mut client = FileClient::new(FileConfig::default());
///         client.set_policy(|offer| {
///             let take = |file: &session_file::OfferedFile| (file.content.clone(), Decision::Accept(Acceptance::default()));
///             FileVerdict::Decide(offer.files.iter().map(take).collect())
///         });
///         manager.add_client(client)
///     });
/// }
/// let (alice, bob) = (0, 1);
/// let (local, to) = (world.name(alice).clone(), world.name(bob).clone());
///
/// let id = world.update(alice, |manager, now| {
///     let session = manager.create_session(local, FILE_TRANSFER, now).unwrap();
///     let offer = Proposal::Offer(File::new("hello.txt", 11));
///     FileClient::open(manager, session, to, vec![offer], now).unwrap().remove(0)
/// });
/// world.settle();
/// world.update(alice, |manager, now| {
///     FileClient::write(manager, &id, &mut Bytes::from_static(b"hello, Bob!"), now).unwrap()
/// });
/// world.settle();
///
/// let read = world.update(bob, |manager, now| {
///     let theirs = TransferId { session: manager.session_ids()[0], ..id.clone() };
///     let bytes = FileClient::read(manager, &theirs, usize::MAX, now).unwrap();
///     let end = FileClient::read(manager, &theirs, usize::MAX, now).unwrap();
///     assert!(matches!(end, Read::End(_)), "every byte is there, and the hash is that which Alice named");
///     bytes
/// });
/// assert_eq!(read, Read::Bytes(Bytes::from_static(b"hello, Bob!")));
/// world.settle();
/// world.update(alice, |manager, _| {
///     let client = manager.find_client::<FileClient>().unwrap();
///     assert_eq!(client.transfer(&id).unwrap().outcome(), Some(&Outcome::Sent { confirmed: true }));
/// });
/// ```
pub struct FileClient {
    config: FileConfig,
    exchanges: BTreeMap<SessionId, Exchange>,
    policy: Option<Policy>,
    keyring: Keyring,
    signal_offer: Signal<FileOffer>,
}

/// Setting up, and looking.
impl FileClient {
    /// A client without a policy: every offer waits for the application.
    pub fn new(mut config: FileConfig) -> Self {
        config.limits.send_bytes = config.limits.send_bytes.max(1);
        Self {
            config,
            exchanges: BTreeMap::new(),
            policy: None,
            keyring: Keyring::default(),
            signal_offer: Signal::new(),
        }
    }

    /// Who decides about offers before the application is asked.
    pub fn set_policy(&mut self, policy: impl FnMut(&FileOffer) -> FileVerdict + Send + 'static) {
        self.policy = Some(Box::new(policy));
    }

    /// What seals the secrets of files that are encrypted within their stream (XEP-0391), and opens those of peers. Without
    /// it such files are refused, with `security-error`.
    #[cfg(feature = "jet")]
    pub fn set_keys(&mut self, keys: impl crate::JetKeys + Send + 'static) {
        self.keyring.set(Box::new(keys));
    }

    /// Announces each offer that waits for the application.
    pub fn signal_offer(&self) -> &Signal<FileOffer> {
        &self.signal_offer
    }

    /// What waits for the application, a session at a time.
    pub fn offers(&self) -> impl Iterator<Item = FileOffer> {
        self.exchanges
            .iter()
            .filter_map(|(id, exchange)| exchange.offer(*id, |_| true))
    }

    /// A file to look at.
    pub fn transfer(&self, id: &TransferId) -> Option<&Transfer> {
        self.exchanges.get(&id.session)?.find(&id.content)
    }

    /// The files of a session, in the order in which they were proposed.
    pub fn transfers(&self, session: SessionId) -> impl Iterator<Item = &Transfer> {
        self.exchanges
            .get(&session)
            .into_iter()
            .flat_map(|exchange| &exchange.transfers)
    }

    /// All sessions that were not released.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.exchanges.keys().copied()
    }
}

/// Proposing, and deciding.
impl FileClient {
    /// Offers files to `to`, and asks for others, in a session that was made by [`SessionManager::create_session`] with
    /// [`FILE_TRANSFER`] as its type. Transports of the session may be chosen before.
    ///
    /// # Errors
    /// [`FileError`]; nothing was sent. The session is of no use then.
    pub fn open(
        manager: &mut SessionManager,
        session: SessionId,
        to: Peer,
        proposals: Vec<Proposal>,
        now: Instant,
    ) -> Result<Vec<TransferId>, FileError> {
        let max = manager.config().limits.contents;
        let (client, session) = both(manager, session)?;
        let id = session.id();
        if client.exchanges.contains_key(&id) {
            return Err(FileError::InUse(id));
        }
        if proposals.len() > max {
            return Err(FileError::TooMany {
                limit: "contents",
                max,
            });
        }
        client.check_room()?;
        let mut exchange = Exchange::new(to.clone(), Role::Initiator);
        let mut first = None;
        for proposal in proposals {
            let spec = client.propose(&mut exchange, proposal, session)?;
            if first.is_none() {
                session.set_content_name(&spec.name)?;
                session.set_senders(&spec.name, spec.senders, now)?;
                if let Some(security) = &spec.security {
                    session.set_security(&spec.name, security)?;
                }
                if let Some(layer) = &client.config.layer {
                    session.announce_layer_in(&spec.name, layer)?;
                }
                first = Some(spec.description);
            } else {
                client.add_content(session, spec, now)?;
            }
        }
        let first = first.ok_or(FileError::Nothing)?;
        // Before the offer, so that a layer can say in it what it has to say.
        for transfer in &mut exchange.transfers {
            let (content, layer) = (transfer.content().clone(), client.config.layer.clone());
            let channel = session.create_channel_in(&content, FILE_CHANNEL, layer, now)?;
            transfer.flow.channel = Some(channel);
        }
        session.initiate_with(to, Vec::new(), first, now)?;
        let ids = exchange.ids(id).collect();
        client.exchanges.insert(id, exchange);
        client.set_clock(session, now);
        Ok(ids)
    }

    /// Offers or asks for another file in a session that runs (XEP-0234 §6.3).
    ///
    /// # Errors
    /// [`FileError`]; nothing was sent.
    pub fn add(
        manager: &mut SessionManager,
        session: SessionId,
        proposal: Proposal,
        now: Instant,
    ) -> Result<TransferId, FileError> {
        let (client, session) = both(manager, session)?;
        let id = session.id();
        let mut exchange = client
            .exchanges
            .remove(&id)
            .ok_or(FileError::UnknownSession(id))?;
        let files = exchange.transfers.len();
        let proposed = client.propose(&mut exchange, proposal, session);
        let added = proposed.and_then(|spec| {
            let content = spec.name.clone();
            client.add_content(session, spec, now)?;
            Ok(content)
        });
        if added.is_err() {
            exchange.transfers.truncate(files);
        }
        exchange.linger_due = exchange.linger_due.filter(|_| added.is_err());
        client.exchanges.insert(id, exchange);
        Ok(TransferId {
            session: id,
            content: added?,
        })
    }

    /// What the layer has to say belongs into the offer; the channel comes after the answer.
    fn add_content(
        &self,
        session: &mut Session,
        spec: ContentSpec,
        now: Instant,
    ) -> Result<(), Misuse> {
        match &self.config.layer {
            Some(layer) => session.add_content_with_layer(spec, Arc::clone(layer), now),
            None => session.add_content(spec, now),
        }
    }

    /// Decides about what a peer offers or asks for. Of the offer that begins a session all is decided at once, and what is
    /// not named is skipped; without any of it there is no session, whatever was added to it. What is added waits for
    /// that, and then until it is named.
    ///
    /// # Errors
    /// [`FileError`]; then everything still waits.
    pub fn answer(
        manager: &mut SessionManager,
        session: SessionId,
        decisions: Vec<(Arc<str>, Decision)>,
        now: Instant,
    ) -> Result<(), FileError> {
        let (client, session) = both(manager, session)?;
        let named: Vec<_> = decisions.iter().map(|(name, _)| name.clone()).collect();
        let about = (!session.state().is_pending()).then_some(&named[..]);
        client.answer_in(session, decisions, about, now)
    }
}

/// Acting.
impl FileClient {
    /// Shows what a sender has in front of the part that it is to send ([`Transfer::offset`]), before its first byte is
    /// written: then the hash of the whole file is told, and a receiver of ours that has something else there learns it
    /// before a byte is sent, as [`Fault::Changed`](crate::Fault::Changed). It begins anew then.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Range`] when the hasher has seen another number of bytes, or some were written.
    pub fn prime(
        manager: &mut SessionManager,
        id: &TransferId,
        prefix: Hasher,
        now: Instant,
    ) -> Result<(), FileError> {
        let (client, session) = live(manager, id)?;
        let transfer = client.transfer_mut(id)?;
        if transfer.direction() == Direction::Receive {
            return Err(FileError::WrongWay(id.clone()));
        }
        if transfer.is_rewound() {
            return Err(FileError::Rewound(id.clone()));
        }
        match transfer.prime(prefix) {
            Ok(true) => Ok(()),
            Ok(false) => Err(FileError::Range),
            Err(fault) => {
                client.fail(session, &id.content, fault, now);
                Ok(())
            }
        }
    }

    /// Gives the bytes of a file again after [`Change::Rewound`](crate::Change::Rewound), to be called before the first of
    /// them is written. Where in the file to begin: [`Transfer::offset`]. What was written before that is forgotten; until
    /// this is called nothing can be written ([`FileError::Rewound`]), and after a minute without it the file fails. When
    /// nothing is to be given again, nothing happens.
    ///
    /// # Errors
    /// [`FileError`].
    pub fn begin_again(
        manager: &mut SessionManager,
        id: &TransferId,
        now: Instant,
    ) -> Result<u64, FileError> {
        let (client, session) = live(manager, id)?;
        let transfer = client.transfer_mut(id)?;
        let offset = transfer.offset();
        if transfer.give_again() {
            client.set_clock(session, now);
        }
        Ok(offset)
    }

    /// Takes as much of `bytes` as there is room for off its front, and returns how much that is. When it is not all,
    /// [`Change::Writable`](crate::Change::Writable) follows. Possible once both sides have accepted
    /// ([`Change::Opened`](crate::Change::Opened)), because only then it is known where in the file to begin:
    /// [`Transfer::offset`]. With the last byte of a file of known size it is finished.
    ///
    /// # Errors
    /// [`FileError`]; nothing was taken.
    pub fn write(
        manager: &mut SessionManager,
        id: &TransferId,
        bytes: &mut Bytes,
        now: Instant,
    ) -> Result<usize, FileError> {
        let (client, session) = live(manager, id)?;
        let transfer = client.transfer_mut(id)?;
        if transfer.direction() == Direction::Receive && !transfer.is_tree() {
            return Err(FileError::WrongWay(id.clone()));
        }
        if transfer.is_rewound() {
            return Err(FileError::Rewound(id.clone()));
        }
        if transfer.flow.is_finished() && !bytes.is_empty() {
            return Err(match transfer.bytes() {
                Some(most) => FileError::TooMuch(most),
                None => FileError::Finished,
            });
        }
        let most = transfer.most();
        if let Some(most) = most
            && bytes.len() as u64 > most - transfer.progress().written
        {
            return Err(FileError::TooMuch(most));
        }
        let written = transfer.write(bytes);
        let (count, told) = written.map_err(|_| FileError::TooMuch(most.unwrap_or(u64::MAX)))?;
        let infos: Vec<_> = told
            .into_iter()
            .map(|file| transfer.checksum_info(file).to_element())
            .collect();
        for info in infos {
            // Without it the damage is noticed later.
            let _ = session.send_info(vec![info], now);
        }
        client.finish_if_written(session, &id.content, now);
        client.pump(session, &id.content, now);
        Ok(count)
    }

    /// Shows what the application has hashed ([`FileConfig::hashes_outside`]): the file from its beginning, in the
    /// algorithms that its description names. A sender shows it behind the last byte that it writes, and the file is
    /// finished; a receiver when it has read every byte, and the file is judged. Where this client hashes itself, nothing
    /// happens, and nothing to a file that is here and was judged before its sender ended the session.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Range`] when the hasher has seen another number of bytes than have passed.
    pub fn show(
        manager: &mut SessionManager,
        id: &TransferId,
        hasher: &Hasher,
        now: Instant,
    ) -> Result<(), FileError> {
        let outcome = client(manager)?.transfer_mut(id)?.outcome();
        if matches!(outcome, Some(Outcome::Received(_))) {
            return Ok(());
        }
        let (client, session) = live(manager, id)?;
        let transfer = client.transfer_mut(id)?;
        if transfer.is_rewound() {
            return Err(FileError::Rewound(id.clone()));
        }
        if !transfer.awaits_hash() {
            return Ok(());
        }
        if !transfer.shown(hasher) {
            return Err(FileError::Range);
        }
        client.finish_if_written(session, &id.content, now);
        client.pump(session, &id.content, now);
        client.review(session, &id.content, now);
        Ok(())
    }

    /// Nothing more will be written, to a file whose size was not known, or of which the receiver has all bytes already.
    /// Said again it changes nothing.
    ///
    /// The receiver of a tree says it, too, when the frames have come to their end ([`is_finished`](crate::TreeReceiver::is_finished)) and its application has the tree: not every stream shows its end.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::TooLittle`] when the file has more bytes than were written.
    pub fn finish(
        manager: &mut SessionManager,
        id: &TransferId,
        now: Instant,
    ) -> Result<(), FileError> {
        let (client, session) = live(manager, id)?;
        let transfer = client.transfer_mut(id)?;
        if transfer.direction() == Direction::Receive {
            if !transfer.is_tree() {
                return Err(FileError::WrongWay(id.clone()));
            }
            if transfer.acknowledge() {
                transfer.settle(Integrity::Unverified);
                client.acknowledged(session, &id.content, now);
            }
            return Ok(());
        }
        if transfer.is_rewound() {
            return Err(FileError::Rewound(id.clone()));
        }
        if transfer.flow.is_finished() {
            return Ok(());
        }
        if let Some(expected) = transfer.bytes() {
            let written = transfer.progress().written;
            if written < expected {
                return Err(FileError::TooLittle { written, expected });
            }
        }
        client.finish_in(session, &id.content, now);
        client.pump(session, &id.content, now);
        Ok(())
    }

    /// What there is to read, at most `max` bytes of it. Possible also when the session is over.
    ///
    /// The end is given once every byte is there and the hash was compared, or none came. To read it is to say that the
    /// file is kept: the peer is told. An application that could not keep it cancels the transfer before that.
    ///
    /// # Errors
    /// [`FileError::NoClient`], [`FileError::Unknown`], [`FileError::WrongWay`].
    pub fn read(
        manager: &mut SessionManager,
        id: &TransferId,
        max: usize,
        now: Instant,
    ) -> Result<Read, FileError> {
        let client = client(manager)?;
        let transfer = client.transfer_mut(id)?;
        if transfer.direction() == Direction::Send && !transfer.is_tree() {
            return Err(FileError::WrongWay(id.clone()));
        }
        let (read, resume) = transfer.read(max);
        let channel = transfer.channel().filter(|_| resume);
        let ended = matches!(read, Read::End(_)) && transfer.acknowledge();
        if channel.is_none() && !ended {
            return Ok(read);
        }
        if let Some((client, session)) = manager.client::<Self>(id.session) {
            if let Some(channel) = channel {
                session.pause(channel, false, now);
            }
            if ended {
                client.acknowledged(session, &id.content, now);
            }
        }
        Ok(read)
    }

    /// Takes one file out of its session, whatever is under way (XEP-0234 §6.5). With the last one the session ends.
    ///
    /// # Errors
    /// [`FileError::NoClient`], [`FileError::Unknown`].
    pub fn cancel(
        manager: &mut SessionManager,
        id: &TransferId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), FileError> {
        client(manager)?.transfer_mut(id)?;
        if let Some((client, session)) = manager.client::<Self>(id.session) {
            client.fail(session, &id.content, Fault::Aborted(Some(reason)), now);
        }
        Ok(())
    }

    /// Ends a session with a reason, whatever is under way. Its files stay to be looked at until they are released.
    ///
    /// # Errors
    /// [`FileError::NoClient`], [`FileError::UnknownSession`].
    pub fn close(
        manager: &mut SessionManager,
        session: SessionId,
        reason: Reason,
        now: Instant,
    ) -> Result<(), FileError> {
        if !client(manager)?.exchanges.contains_key(&session) {
            return Err(FileError::UnknownSession(session));
        }
        if let Some(session) = manager.session(session) {
            end(session, reason, now);
        }
        Ok(())
    }

    /// Lets go of a session's files, with what was not read. A session that is not over is ended: well when all of its files
    /// are where they belong, otherwise as cancelled; an offer is declined.
    ///
    /// # Errors
    /// [`FileError::NoClient`], [`FileError::UnknownSession`].
    pub fn release(
        manager: &mut SessionManager,
        session: SessionId,
        now: Instant,
    ) -> Result<(), FileError> {
        let exchange = client(manager)?.exchanges.remove(&session);
        let exchange = exchange.ok_or(FileError::UnknownSession(session))?;
        if let Some(session) = manager.session(session) {
            if exchange.is_undecided() {
                reject(session, ReasonCondition::Decline.into(), now);
            } else if exchange.is_done() {
                end(session, ReasonCondition::Success.into(), now);
            } else {
                end(session, ReasonCondition::Cancel.into(), now);
            }
        }
        Ok(())
    }
}

impl FileClient {
    fn check_room(&self) -> Result<(), FileError> {
        let max = self.config.limits.sessions;
        if self.exchanges.len() >= max {
            return Err(FileError::TooMany {
                limit: "sessions",
                max,
            });
        }
        Ok(())
    }

    fn transfer_mut(&mut self, id: &TransferId) -> Result<&mut Transfer, FileError> {
        let exchange = self.exchanges.get_mut(&id.session);
        let transfer = exchange.and_then(|exchange| exchange.find_mut(&id.content));
        transfer.ok_or_else(|| FileError::Unknown(id.clone()))
    }
}

impl fmt::Debug for FileClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileClient")
            .field("config", &self.config)
            .field("exchanges", &self.exchanges)
            .finish_non_exhaustive()
    }
}

fn client(manager: &mut SessionManager) -> Result<&mut FileClient, FileError> {
    manager.find_client().ok_or(FileError::NoClient)
}

fn both(
    manager: &mut SessionManager,
    session: SessionId,
) -> Result<(&mut FileClient, &mut Session), FileError> {
    client(manager)?;
    manager
        .client(session)
        .ok_or(FileError::UnknownSession(session))
}

/// As [`both`], for what needs a file that is on its way.
fn live<'a>(
    manager: &'a mut SessionManager,
    id: &TransferId,
) -> Result<(&'a mut FileClient, &'a mut Session), FileError> {
    let transfer = client(manager)?.transfer_mut(id)?;
    if transfer.phase() != Phase::Open {
        return Err(FileError::NotOpen(id.clone()));
    }
    manager
        .client(id.session)
        .ok_or(FileError::Session(Misuse::NoSuchSession(id.session)))
}
