//! [`SessionManager`]: owns sessions, clients and transports, and is the one machine that a driver drives.

mod drive;
mod routing;

use crate::{
    ChannelId, Config, Dialect, Entropy, Message, Misuse, Output, Peer, Reason, RequestId, Role,
    SendError, Session, SessionClient, SessionId, Signal, TransportFactory, TransportRegistry,
    session::{Parts, Spare, Way},
    shared::Shared,
};
use bytes::Bytes;
use prefetch_index::prefetch_index;
use std::{
    any::Any,
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque},
    fmt,
    mem::offset_of,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

/// Owns sessions, clients and transports (libjingle `sessionmanager.h`).
///
/// The run loop of a driver, which `session_xmpp::Endpoint` is:
/// 1. something happens: [`handle_input`](Self::handle_input), or a call on a session;
/// 2. [`poll_output`](Self::poll_output) until it is [`Output::Wait`], doing what each output says;
/// 3. wait for that instant ([`Input::Timeout`](crate::Input::Timeout)) or for the next thing to happen.
///
/// The cost of a round grows with the sessions that took part in it, not with those that are idle.
pub struct SessionManager {
    shared: Arc<Shared>,
    clients: Vec<Box<dyn SessionClient>>,
    registry: TransportRegistry,
    slots: Vec<Slot>,
    free: Vec<u32>,
    live: usize,
    index: BTreeMap<Key, SessionId>,
    accounts: BTreeMap<Arc<str>, usize>,
    dirty: VecDeque<SessionId>,
    /// When sessions want to be called; entries that their slot does not confirm are stale.
    deadlines: BinaryHeap<Reverse<(Instant, SessionId)>>,
    /// When requests that no session answers for run out.
    request_deadlines: BTreeSet<(Instant, RequestId)>,
    /// Datagrams that pass by their sessions.
    passing: VecDeque<Output>,
    replies: VecDeque<Output>,
    parting: VecDeque<Output>,
    owners: BTreeMap<RequestId, Owner>,
    next_request: u64,
    last_words: VecDeque<Box<Message>>,
    farewells: BTreeMap<RequestId, Farewell>,
    farewell_repeats: Vec<RequestId>,
    /// Queues of sessions that rest, for those that do not.
    spares: Vec<Spare>,
    ended: BTreeMap<Key, Instant>,
    ended_order: VecDeque<(Instant, Key)>,
    link: bool,
    /// Whether answers can arrive. While they cannot, their clocks stand still.
    answers: bool,
    signal_session_create: Signal<(SessionId, bool)>,
    signal_session_destroy: Signal<SessionId>,
}

/// A session is known by who is at the other end, its name on the wire, and who we are in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    remote: Peer,
    sid: Arc<str>,
    local: Peer,
}

/// The place of a session. What each packet asks is in the first line of the cache, because the memory of thousands of sessions
/// is far away.
#[derive(Default)]
#[repr(C, align(64))]
struct Slot {
    generation: u32,
    /// Where data passes by the session, unless it is dirty.
    way: Option<Way>,
    session: Option<Box<Session>>,
    /// The position of its client.
    client: u32,
    dirty: bool,
    filed: Filed,
}

const _: () = assert!(offset_of!(Slot, dirty) < 64, "within the first line");

/// Under what a session is filed.
#[derive(Default)]
struct Filed {
    key: Option<Key>,
    account: Option<Arc<str>>,
    deadline: Option<Instant>,
}

/// Who gets the answer to a request of ours.
#[derive(Clone, Copy, Debug)]
enum Owner {
    Session(SessionId),
    Channel {
        session: SessionId,
        channel: ChannelId,
        epoch: u16,
        token: u32,
        patience: Duration,
        due: Option<Instant>,
    },
    Farewell,
}

/// The last word of a session that is gone, until it is acknowledged.
#[derive(Debug)]
struct Farewell {
    message: Box<Message>,
    attempts: u8,
    due: Option<Instant>,
}

impl SessionManager {
    /// A manager without clients and transports. The link counts as up.
    pub fn new(config: Config, entropy: impl Entropy + 'static) -> Self {
        Self {
            shared: Arc::new(Shared::new(config, Box::new(entropy))),
            clients: Vec::new(),
            registry: TransportRegistry::default(),
            slots: Vec::new(),
            free: Vec::new(),
            live: 0,
            index: BTreeMap::new(),
            accounts: BTreeMap::new(),
            dirty: VecDeque::new(),
            deadlines: BinaryHeap::new(),
            request_deadlines: BTreeSet::new(),
            passing: VecDeque::new(),
            replies: VecDeque::new(),
            parting: VecDeque::new(),
            owners: BTreeMap::new(),
            next_request: 0,
            last_words: VecDeque::new(),
            farewells: BTreeMap::new(),
            farewell_repeats: Vec::new(),
            spares: Vec::new(),
            ended: BTreeMap::new(),
            ended_order: VecDeque::new(),
            link: true,
            answers: true,
            signal_session_create: Signal::new(),
            signal_session_destroy: Signal::new(),
        }
    }

    /// Registers a client for its namespace (libjingle AddClient).
    ///
    /// # Errors
    /// [`Misuse::DuplicateClient`].
    pub fn add_client(&mut self, client: impl SessionClient) -> Result<(), Misuse> {
        if self.client_position(client.namespace()).is_some() {
            return Err(Misuse::DuplicateClient(client.namespace().into()));
        }
        self.clients.push(Box::new(client));
        Ok(())
    }

    /// Takes a client out (libjingle RemoveClient). Its live sessions are ended first.
    ///
    /// # Errors
    /// [`Misuse::UnknownClient`].
    pub fn remove_client(
        &mut self,
        namespace: &str,
        now: Instant,
    ) -> Result<Box<dyn SessionClient>, Misuse> {
        let at = self
            .client_position(namespace)
            .ok_or_else(|| Misuse::UnknownClient(namespace.into()))?;
        for id in self.session_ids() {
            if self.slots[id.slot as usize].client as usize == at {
                self.end_and_destroy(id, now);
            }
        }
        for slot in &mut self.slots {
            if slot.client as usize > at {
                slot.client -= 1;
            }
        }
        Ok(self.clients.remove(at))
    }

    /// Registers a transport.
    ///
    /// # Errors
    /// [`Misuse::DuplicateTransport`].
    pub fn add_transport(
        &mut self,
        factory: impl TransportFactory + 'static,
    ) -> Result<(), Misuse> {
        self.registry.register(factory)
    }

    /// What transports with I/O of their own wake. A driver sets it once.
    pub fn set_waker(&mut self, waker: Waker) {
        self.shared.set_bell(waker);
    }

    /// Chooses the dialect of the sessions that we initiate, from what is known of a peer. Asked on
    /// [`Session::initiate`] unless [`Session::set_dialect`] was called.
    pub fn set_dialect_policy(
        &mut self,
        policy: impl Fn(&Peer) -> &'static Dialect + Send + 'static,
    ) {
        self.shared.set_dialect_policy(Box::new(policy));
    }

    /// Decides for each new session whether its channels may connect before it is accepted, where
    /// [`Config::speculative`] allows that at all: by who offers it, or by whom it is offered to. A stranger who
    /// calls learns none of our addresses then until the call is accepted.
    pub fn set_speculation_policy(&mut self, policy: impl Fn(&Peer) -> bool + Send + 'static) {
        self.shared.set_speculation_policy(Box::new(policy));
    }

    /// The dialect to speak to a peer first: the policy's, or the configured one.
    pub fn dialect_for(&self, peer: &Peer) -> &'static Dialect {
        self.shared.dialect_for(peer)
    }

    /// Decides whether a session follows a redirection from one address to another. The default follows within an
    /// account only, so that nobody can send our calls elsewhere.
    pub fn set_redirect_policy(&mut self, policy: impl Fn(&Peer, &Peer) -> bool + Send + 'static) {
        self.shared.set_redirect_policy(Box::new(policy));
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// A session of ours, in state [`State::Init`](crate::State::Init) (libjingle CreateSession).
    ///
    /// # Errors
    /// [`Misuse::UnknownClient`], [`Misuse::TooMany`].
    pub fn create_session(
        &mut self,
        local: Peer,
        session_type: &str,
        now: Instant,
    ) -> Result<SessionId, Misuse> {
        let client = self.client_position(session_type);
        let client = client.ok_or_else(|| Misuse::UnknownClient(session_type.into()))?;
        let max = self.shared.config.limits.sessions;
        if self.live >= max {
            return Err(Misuse::TooMany {
                limit: "sessions",
                max,
            });
        }
        let dialect = self.shared.config.dialect;
        let sid = self.shared.sid(dialect);
        Ok(self.create(
            local,
            Peer::from(""),
            sid,
            Role::Initiator,
            dialect,
            client,
            now,
        ))
    }

    /// A session to act on. The next [`poll_output`](Self::poll_output) carries out what it wants.
    pub fn session(&mut self, id: SessionId) -> Option<&mut Session> {
        self.mark(id);
        self.slot_mut(id)?.session.as_deref_mut()
    }

    /// As [`Session::send`], for who wants nothing else of the session: a datagram that leaves as it is costs least here.
    ///
    /// # Errors
    /// See [`SendError`]; the packet was not taken.
    pub fn send(
        &mut self,
        session: SessionId,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) -> Result<(), SendError> {
        let room = self.passing.len() < self.shared.config.limits.queued_outputs;
        let slot = self.slot_mut(session).filter(|slot| !slot.dirty && room);
        if let Some(session) = slot.as_ref().and_then(|slot| slot.session.as_deref()) {
            // Who sends hears something soon, most often, and then it is asked for its name.
            session.prefetch();
        }
        let way = slot.and_then(|slot| slot.way.as_ref());
        let way = way.and_then(|way| way.leaves(session, channel, packet.len()));
        if let Some((socket, destination)) = way {
            self.passing.push_back(Output::Transmit {
                socket,
                destination,
                payload: packet,
                segment_size: 0,
            });
            return Ok(());
        }
        let session = self.session(session).ok_or(SendError::NoSuchChannel)?;
        session.send(channel, packet, now)
    }

    /// A session to look at.
    pub fn peek(&self, id: SessionId) -> Option<&Session> {
        let slot = self.slots.get(id.slot as usize)?;
        slot.session
            .as_deref()
            .filter(|_| slot.generation == id.generation)
    }

    /// Asks the processor for the place of a session, which each of its packets touches, and does not wait for it. For what a
    /// packet that arrives touches of the session itself, [`send`](Self::send) asks, as who sends hears something soon. Who
    /// serves thousands of sessions in one thread, and knows whose turn is next, does this before it turns to the one whose turn
    /// it is. It changes nothing, and does nothing on processors that cannot be asked (others than x86 and 64-bit ARM).
    pub fn prefetch(&self, id: SessionId) {
        prefetch_index(&self.slots, id.slot as usize);
    }

    /// Whether a registered transport knows the words of a request: only then is a stanza that is no iq one
    /// ([`Input::Request`](crate::Input::Request)).
    pub fn knows_request(&self, payload: &crate::Element) -> bool {
        self.registry.unclaimed_request(payload).is_some()
    }

    /// Whether `local` has a session with this device.
    pub fn has_session_with(&self, remote: &Peer, local: &Peer) -> bool {
        self.sessions_with(remote, local).next().is_some()
    }

    /// The session's client, if it is a `C`, beside the session.
    pub fn client<C: SessionClient>(&mut self, id: SessionId) -> Option<(&mut C, &mut Session)> {
        self.mark(id);
        let slot = self
            .slots
            .get_mut(id.slot as usize)
            .filter(|s| s.generation == id.generation)?;
        let session = slot.session.as_deref_mut()?;
        let client: &mut dyn Any = self.clients.get_mut(slot.client as usize)?.as_mut();
        Some((client.downcast_mut()?, session))
    }

    /// The first registered client that is a `C`.
    pub fn find_client<C: SessionClient>(&mut self) -> Option<&mut C> {
        self.clients.iter_mut().find_map(|client| {
            let client: &mut dyn Any = client.as_mut();
            client.downcast_mut()
        })
    }

    /// The live sessions, in no particular order.
    pub fn session_ids(&self) -> Vec<SessionId> {
        let ids = self
            .slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.session.is_some());
        ids.map(|(at, slot)| SessionId {
            slot: at as u32,
            generation: slot.generation,
        })
        .collect()
    }

    /// How many sessions there are.
    pub fn session_count(&self) -> usize {
        self.live
    }

    /// Ends every session once (libjingle TerminateAll). They are gone after the next drain.
    pub fn terminate_all(&mut self, reason: Reason, now: Instant) {
        for id in self.session_ids() {
            if let Some(session) = self.session(id) {
                // What is over already needs no end.
                let _ = session.terminate(reason.clone(), now);
            }
        }
    }

    /// Lets go of a session without a word to the peer (libjingle DestroySession). Unknown ids are ignored.
    pub fn destroy_session(&mut self, id: SessionId, now: Instant) {
        if self.peek(id).is_some() {
            self.destroy(id, now);
        }
    }

    /// Whether signalling can leave.
    pub fn link(&self) -> bool {
        self.link
    }

    /// Announces each new session, and whether the peer offers it.
    pub fn signal_session_create(&self) -> &Signal<(SessionId, bool)> {
        &self.signal_session_create
    }

    /// Announces each session that is gone.
    pub fn signal_session_destroy(&self) -> &Signal<SessionId> {
        &self.signal_session_destroy
    }
}

impl SessionManager {
    #[allow(
        clippy::too_many_arguments,
        reason = "the parts of a session have no better grouping"
    )]
    fn create(
        &mut self,
        local: Peer,
        remote: Peer,
        sid: Arc<str>,
        role: Role,
        dialect: &'static Dialect,
        client: usize,
        now: Instant,
    ) -> SessionId {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            (self.slots.len() - 1) as u32
        });
        let id = SessionId {
            slot,
            generation: self.slots[slot as usize].generation,
        };
        let parts = Parts {
            id,
            sid,
            local,
            remote,
            role,
            session_type: self.clients[client].namespace().into(),
            dialect,
            registry: self.registry.clone(),
            shared: Arc::clone(&self.shared),
        };
        let mut session = Box::new(Session::new(parts));
        let received = role == Role::Responder;
        self.clients[client].on_session_create(&mut session, received, now);
        let slot = &mut self.slots[id.slot as usize];
        slot.session = Some(session);
        slot.client = client as u32;
        self.live += 1;
        if received {
            self.rekey(id);
        }
        self.signal_session_create.emit((id, received));
        self.mark(id);
        id
    }

    fn client_position(&self, namespace: &str) -> Option<usize> {
        self.clients.iter().position(|c| c.namespace() == namespace)
    }

    fn slot_mut(&mut self, id: SessionId) -> Option<&mut Slot> {
        self.slots
            .get_mut(id.slot as usize)
            .filter(|slot| slot.generation == id.generation && slot.session.is_some())
    }

    /// Something may have happened to this session, of which the manager learns when it is drained.
    fn mark(&mut self, id: SessionId) {
        let slot = self.slots.get_mut(id.slot as usize);
        if let Some(slot) = slot.filter(|slot| slot.generation == id.generation && !slot.dirty)
            && let Some(session) = slot.session.as_deref_mut()
        {
            slot.dirty = true;
            session.wake(&mut self.spares);
            self.dirty.push_back(id);
        }
    }

    /// Files the session under the name that the peer uses for it.
    fn rekey(&mut self, id: SessionId) {
        let Some(slot) = self.slots.get_mut(id.slot as usize) else {
            return;
        };
        let Some(session) = slot.session.as_deref_mut() else {
            return;
        };
        session.rekeyed = false;
        let key = Key {
            remote: session.remote_name().clone(),
            sid: session.sid().clone(),
            local: session.name().clone(),
        };
        let account: Arc<str> = key.remote.account().into();
        let old = slot.filed.key.replace(key.clone());
        if let Some(old) = old {
            self.index.remove(&old);
        }
        self.index.insert(key, id);
        let old = slot.filed.account.replace(account.clone());
        *self.accounts.entry(account).or_default() += 1;
        self.leave_account(old);
    }

    fn leave_account(&mut self, account: Option<Arc<str>>) {
        let Some(account) = account else { return };
        if let Some(count) = self.accounts.get_mut(&account) {
            *count -= 1;
            if *count == 0 {
                self.accounts.remove(&account);
            }
        }
    }

    fn end_and_destroy(&mut self, id: SessionId, now: Instant) {
        if let Some(session) = self.session(id) {
            let reason = Reason::new(crate::ReasonCondition::Gone);
            // What is over already needs no end.
            let _ = session.terminate(reason, now);
        }
        self.destroy(id, now);
    }

    /// The end of a session: its last words are kept, its sockets are closed, its client is told.
    fn destroy(&mut self, id: SessionId, now: Instant) {
        let Some(slot) = self.slot_mut(id) else {
            return;
        };
        let Some(mut session) = slot.session.take() else {
            return;
        };
        let client = slot.client as usize;
        let Filed { key, account, .. } = std::mem::take(&mut slot.filed);
        slot.way = None;
        slot.generation = slot.generation.wrapping_add(1);
        slot.dirty = false;
        self.free.push(id.slot);
        self.live -= 1;
        session.destroy();
        self.dispatch_last(client, &mut session, now);
        self.clients[client].on_session_destroy(&mut session, now);
        self.signal_session_destroy.emit(id);
        // The client's last wishes, if any, come too late; what was said before is still said.
        self.part(&mut session);
        if let Some(key) = key {
            if self.index.get(&key) == Some(&id) {
                self.index.remove(&key);
            }
            self.remember(key, now);
        }
        self.leave_account(account);
    }
}

impl fmt::Debug for SessionManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionManager")
            .field("sessions", &self.live)
            .field("transports", &self.registry)
            .field("link", &self.link)
            .finish_non_exhaustive()
    }
}
