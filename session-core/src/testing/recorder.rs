//! [`Recorder`]: a client that writes down everything it is told, and does what it was told to.

use crate::{
    ChannelId, ChannelLayer, Element, Modification, Peer, PeerError, Pong, Reason, Secured,
    Session, SessionClient, SessionDescription, SessionError, SessionId, State,
};
use bytes::Bytes;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

/// The namespace of a [`Recorder`] unless it is given another.
pub const RECORDER_NAMESPACE: &str = "https://pcp.example/ns/recorder";

/// A description that says nothing but a text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Note(pub String);

impl SessionDescription for Note {
    const NAMESPACE: &'static str = RECORDER_NAMESPACE;

    fn to_element(&self) -> Element {
        Element::new(RECORDER_NAMESPACE, "description").text(&self.0)
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        Ok(Self(element.text_content().into_owned()))
    }
}

/// What a client can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Callback {
    /// A session came into being; whether the peer offers it.
    Created(bool),
    /// A new state.
    State(State),
    /// A packet.
    Packet(ChannelId, Bytes),
    /// A channel can take data, or can no longer.
    Writable(ChannelId, bool),
    /// The peer finished a stream.
    Finished(ChannelId),
    /// Everything that was sent on a finished stream has arrived.
    Delivered(ChannelId),
    /// A layer protects a channel.
    Secured(ChannelId, Box<Secured>),
    /// A channel is of no more use.
    ChannelGone(ChannelId),
    /// Information of the peer's application.
    Info(Vec<Element>),
    /// A change of the running session.
    Modify(Modification),
    /// An error.
    Error(SessionError),
    /// The peer ended it.
    TerminateReason(Option<Reason>),
    /// The application's timer.
    Timer,
    /// What came of a ping.
    Pong(Pong),
    /// The session is gone.
    Destroyed,
}

/// A [`Callback`], when it came and about which session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Instant,
    /// Which session, by its place in the manager.
    pub session: SessionId,
    /// Which session, by its name on the wire at that time.
    pub sid: Arc<str>,
    /// Which of our addresses it runs at.
    pub local: Peer,
    /// Who was at the other end at that time.
    pub remote: Peer,
    /// What.
    pub callback: Callback,
}

/// What a [`Recorder`] has written down. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Entries>>);

#[derive(Debug, Default)]
struct Entries {
    list: Vec<Entry>,
    /// How many were taken out before.
    taken: usize,
}

impl Log {
    /// Everything so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.lock().list.clone()
    }

    /// Everything since the last call.
    pub fn take(&self) -> Vec<Entry> {
        let mut entries = self.lock();
        entries.taken += entries.list.len();
        std::mem::take(&mut entries.list)
    }

    /// The states that a session was told to be in, in order.
    pub fn states(&self, session: SessionId) -> Vec<State> {
        let mut states = Vec::new();
        for entry in self
            .lock()
            .list
            .iter()
            .filter(|entry| entry.session == session)
        {
            if let Callback::State(state) = entry.callback {
                states.push(state);
            }
        }
        states
    }

    /// The packets of a channel, joined.
    pub fn received(&self, session: SessionId, channel: ChannelId) -> Vec<u8> {
        let mut bytes = Vec::new();
        for entry in self
            .lock()
            .list
            .iter()
            .filter(|entry| entry.session == session)
        {
            if let Callback::Packet(from, packet) = &entry.callback
                && *from == channel
            {
                bytes.extend_from_slice(packet);
            }
        }
        bytes
    }

    /// Shows what was written after the first `from` entries ever, and says how many there ever were.
    pub(super) fn since(&self, from: usize, mut see: impl FnMut(&Entry)) -> usize {
        let entries = self.lock();
        let skip = from.saturating_sub(entries.taken);
        entries.list.iter().skip(skip).for_each(&mut see);
        entries.taken + entries.list.len()
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        // A test that panicked while it held the lock has said what there is to say.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a [`Recorder`] does with an offer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// Nothing: the test decides.
    #[default]
    Wait,
    /// Accepts it at once.
    Accept,
}

type Layer = Option<Arc<dyn ChannelLayer>>;
type Reaction = Box<dyn FnMut(&mut Session, &Callback, Instant) + Send>;

/// A client that logs every callback. It creates the channels that it was told to, and accepts if it was told to.
pub struct Recorder {
    namespace: Arc<str>,
    log: Log,
    channels: Vec<(Arc<str>, Layer)>,
    transports: Option<Vec<Arc<str>>>,
    answer: Answer,
    keeps_packets: bool,
    echoes: bool,
    reaction: Option<Reaction>,
}

impl Recorder {
    /// A recorder without channels that waits for the test to act.
    pub fn new() -> Self {
        Self {
            namespace: RECORDER_NAMESPACE.into(),
            log: Log::default(),
            channels: Vec::new(),
            transports: None,
            answer: Answer::Wait,
            keeps_packets: true,
            echoes: false,
            reaction: None,
        }
    }

    /// Another namespace, to register several.
    #[must_use]
    pub fn with_namespace(mut self, namespace: &str) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// A channel of the default content, in every session.
    #[must_use]
    pub fn with_channel(mut self, name: &str) -> Self {
        self.channels.push((name.into(), None));
        self
    }

    /// A channel of the default content through a layer, in every session.
    #[must_use]
    pub fn with_layered(self, name: &str, layer: Arc<dyn ChannelLayer>) -> Self {
        self.with_stream(name, layer)
    }

    /// A channel of the default content that carries a stream, in every session.
    #[must_use]
    pub fn with_stream(mut self, name: &str, layer: Arc<dyn ChannelLayer>) -> Self {
        self.channels.push((name.into(), Some(layer)));
        self
    }

    /// The potential transports of every session.
    #[must_use]
    pub fn with_transports(mut self, namespaces: &[&str]) -> Self {
        self.transports = Some(namespaces.iter().map(|&n| n.into()).collect());
        self
    }

    /// What to do with an offer.
    #[must_use]
    pub fn with_answer(mut self, answer: Answer) -> Self {
        self.answer = answer;
        self
    }

    /// Whether packets are logged. Default yes; a test that counts allocations needs them out of the way.
    #[must_use]
    pub fn with_packets_kept(mut self, kept: bool) -> Self {
        self.keeps_packets = kept;
        self
    }

    /// Whether the responder sends every packet back.
    #[must_use]
    pub fn with_echo(mut self) -> Self {
        self.echoes = true;
        self
    }

    /// What to do on each callback, after it was logged.
    #[must_use]
    pub fn with_reaction(
        mut self,
        reaction: impl FnMut(&mut Session, &Callback, Instant) + Send + 'static,
    ) -> Self {
        self.reaction = Some(Box::new(reaction));
        self
    }

    /// What it writes down.
    pub fn log(&self) -> Log {
        self.log.clone()
    }

    fn tell(&mut self, session: &mut Session, callback: Callback, now: Instant) {
        self.log.lock().list.push(Entry {
            at: now,
            session: session.id(),
            sid: session.sid().clone(),
            local: session.name().clone(),
            remote: session.remote_name().clone(),
            callback: callback.clone(),
        });
        if let Some(reaction) = &mut self.reaction {
            reaction(session, &callback, now);
        }
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self::new()
    }
}

impl SessionClient for Recorder {
    fn namespace(&self) -> &str {
        &self.namespace
    }

    fn on_session_create(&mut self, session: &mut Session, received: bool, now: Instant) {
        if let Some(transports) = &self.transports {
            let names: Vec<&str> = transports.iter().map(|n| &**n).collect();
            // A name that the test did not register shows as a session without transports.
            let _ = session.set_potential_transports(&names);
        }
        for (name, layer) in &self.channels {
            // What cannot be created shows as a channel that is not there.
            let _ = match layer {
                Some(layer) => session.create_layered_channel(name, Arc::clone(layer), now),
                None => session.create_channel(name, now),
            };
        }
        self.tell(session, Callback::Created(received), now);
    }

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        self.tell(session, Callback::State(state), now);
        if state == State::ReceivedInitiate && self.answer == Answer::Accept {
            // The state may be further already.
            let _ = session.accept(&Note("accepted".into()), now);
        }
    }

    fn on_packet(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) {
        if self.echoes && session.role() == crate::Role::Responder {
            // A datagram that cannot be sent is one that is lost.
            let _ = session.send(channel, packet.clone(), now);
        }
        if self.keeps_packets {
            self.tell(session, Callback::Packet(channel, packet), now);
        }
    }

    fn on_writable(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        writable: bool,
        now: Instant,
    ) {
        self.tell(session, Callback::Writable(channel, writable), now);
    }

    fn on_finished(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {
        self.tell(session, Callback::Finished(channel), now);
    }

    fn on_delivered(&mut self, session: &mut Session, channel: ChannelId, now: Instant) {
        self.tell(session, Callback::Delivered(channel), now);
    }

    fn on_secured(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        secured: &Secured,
        now: Instant,
    ) {
        let secured = Box::new(secured.clone());
        self.tell(session, Callback::Secured(channel, secured), now);
    }

    fn on_channel_gone(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        _: &str,
        now: Instant,
    ) {
        self.tell(session, Callback::ChannelGone(channel), now);
    }

    fn on_info(
        &mut self,
        session: &mut Session,
        info: &[Element],
        now: Instant,
    ) -> Result<(), PeerError> {
        self.tell(session, Callback::Info(info.to_vec()), now);
        Ok(())
    }

    fn on_modify(&mut self, session: &mut Session, modification: &Modification, now: Instant) {
        self.tell(session, Callback::Modify(modification.clone()), now);
    }

    fn on_error(&mut self, session: &mut Session, error: &SessionError, now: Instant) {
        self.tell(session, Callback::Error(error.clone()), now);
    }

    fn on_terminate_reason(
        &mut self,
        session: &mut Session,
        reason: Option<&Reason>,
        now: Instant,
    ) {
        self.tell(session, Callback::TerminateReason(reason.cloned()), now);
    }

    fn on_timer(&mut self, session: &mut Session, now: Instant) {
        self.tell(session, Callback::Timer, now);
    }

    fn on_pong(&mut self, session: &mut Session, pong: &Pong, now: Instant) {
        self.tell(session, Callback::Pong(pong.clone()), now);
    }

    fn on_session_destroy(&mut self, session: &mut Session, now: Instant) {
        self.tell(session, Callback::Destroyed, now);
    }
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder")
            .field("namespace", &self.namespace)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}
