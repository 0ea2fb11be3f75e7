//! One manager of ours, one stranger, the bytes between them, a network and a clock: all virtual.

use super::ours;
use bytes::Bytes;
use session_core::{
    ChannelOutput, Config, ElementLimits, Input, LocalSocket, Output, Peer, RequestId, RequestKind,
    SeededEntropy, SessionId, SessionManager, SocketId,
    testing::{
        Conditions, Delivery, Network, SocketKey, epoch,
        persona::{Persona, Script, Stranger, StrangerOutput},
    },
};
use session_file::{Hash, HashAlgorithm, Hasher};
use session_xmpp::{
    jmi::{Jmi, JmiConfig, JmiOutput},
    stanza::{self, Head, Incoming, Request},
    xml::{self, Context},
};
use std::{
    collections::{BTreeMap, VecDeque},
    net::IpAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

pub(super) const OURS: &str = "romeo@ours.example/desk";
pub(super) const THEIRS: &str = "juliet@theirs.example/phone";

const CONTEXT: &Context = &Context::CLIENT;
/// How long a stanza is under way.
const STANZA_DELAY: Duration = Duration::from_millis(40);
/// More steps than this are a conversation that does not end.
const STEPS_MAX: usize = 200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Ours(SocketId),
    Theirs(u32, LocalSocket),
}

impl SocketKey for Key {
    fn accepted(self, connection: LocalSocket) -> Self {
        match self {
            Self::Ours(socket) => Self::Ours(socket.accepted(connection)),
            Self::Theirs(number, _) => Self::Theirs(number, connection),
        }
    }
}

/// To whom a stanza goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum To {
    Us,
    Them,
}

pub(super) struct Stage {
    pub(super) now: Instant,
    start: Instant,
    pub(super) manager: SessionManager,
    pub(super) stranger: Stranger,
    pub(super) jmi: Jmi,
    /// What the announcements came to, for us.
    pub(super) announced: Vec<JmiOutput>,
    network: Network<Key>,
    wait: Option<Instant>,
    under_way: VecDeque<(Instant, To, Bytes)>,
    requests: BTreeMap<RequestId, Request>,
    count: u64,
    pub(super) packets: Arc<Mutex<Vec<Bytes>>>,
    /// What we could not say or read, which must never happen.
    pub(super) faults: Vec<String>,
    /// Every stanza, with who said it.
    pub(super) transcript: Vec<String>,
}

/// A hash as the stranger asks for it.
pub(super) fn hash(algorithm: &str, bytes: &[u8]) -> Option<String> {
    let algorithm = HashAlgorithm::from_name(algorithm)?;
    let mut hasher = Hasher::new([algorithm]);
    hasher.update(bytes);
    let hash: Hash = hasher.hashes().pop()?;
    Some(hash.to_element().text_content().trim().to_owned())
}

/// From one to the other.
const DELAY: Duration = Duration::from_millis(10);

impl Stage {
    /// Before anything has happened: the network carries so many bytes a second.
    #[cfg(test)]
    pub(super) fn set_rate(&mut self, rate: u64) {
        let conditions = Conditions {
            rate: Some(rate),
            ..Conditions::with_delay(DELAY)
        };
        self.network = Network::new(conditions, 5);
    }

    /// Ours in front of a persona. `s5b`: whether SOCKS5 bytestreams lead anywhere.
    pub(super) fn new(persona: Persona, script: Script, s5b: bool) -> Self {
        let mut entropy = SeededEntropy::new(17);
        let fill = move |buffer: &mut [u8]| session_core::Entropy::fill(&mut entropy, buffer);
        let mut manager = SessionManager::new(Config::default(), fill);
        let packets = Arc::default();
        ours::equip(&mut manager, &persona, Self::address(0), s5b, &packets);
        let stranger = Stranger::new(persona, script, THEIRS.into(), OURS.into(), 23);
        let stranger = ours::equip_stranger(stranger, &persona, Self::address(1), s5b);
        Self {
            packets,
            ..Self::with(manager, stranger)
        }
    }

    /// A manager in front of a stranger, whatever they have.
    pub(super) fn with(manager: SessionManager, stranger: Stranger) -> Self {
        let start = epoch();
        let mut stage = Self {
            now: start,
            start,
            manager,
            stranger,
            jmi: Jmi::new(OURS.into(), JmiConfig::default()),
            announced: Vec::new(),
            network: Network::new(Conditions::with_delay(DELAY), 5),
            wait: None,
            under_way: VecDeque::new(),
            requests: BTreeMap::new(),
            count: 0,
            packets: Arc::default(),
            faults: Vec::new(),
            transcript: Vec::new(),
        };
        stage.drain();
        stage
    }

    /// Where a side is: ours is the first.
    pub(super) fn address(host: usize) -> IpAddr {
        Network::<Key>::address_of(host)
    }

    /// Does something with our side.
    pub(super) fn update<R>(&mut self, f: impl FnOnce(&mut SessionManager, Instant) -> R) -> R {
        let result = f(&mut self.manager, self.now);
        self.drain();
        result
    }

    /// Does something with the stranger.
    pub(super) fn theirs<R>(&mut self, f: impl FnOnce(&mut Stranger, Instant) -> R) -> R {
        let result = f(&mut self.stranger, self.now);
        self.drain();
        result
    }

    /// Does something with our announcements.
    pub(super) fn announce<R>(&mut self, f: impl FnOnce(&mut Jmi, Instant) -> R) -> R {
        let result = f(&mut self.jmi, self.now);
        self.drain();
        result
    }

    /// Our only session.
    pub(super) fn session(&self) -> Option<SessionId> {
        self.manager.session_ids().first().copied()
    }

    /// Lets things happen until `done`, or for so long. Whether it is done.
    pub(super) fn run(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&mut Self) -> bool,
    ) -> bool {
        let until = self.now + within;
        for _ in 0..STEPS_MAX {
            if done(self) {
                return true;
            }
            let Some(at) = self.next_event().filter(|at| *at <= until) else {
                self.now = until;
                return done(self);
            };
            self.now = self.now.max(at);
            self.happen();
        }
        self.faults.push("it does not come to rest".to_owned());
        false
    }

    fn next_event(&self) -> Option<Instant> {
        let stanza = self.under_way.front().map(|(at, ..)| *at);
        let clocks = [
            self.wait,
            self.stranger.poll_timeout(),
            self.jmi.poll_timeout(),
        ];
        let clocks = clocks.into_iter().flatten();
        clocks
            .chain(stanza)
            .chain(self.network.poll_timeout())
            .min()
    }

    fn happen(&mut self) {
        let now = self.now;
        while self.under_way.front().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, to, bytes)) = self.under_way.pop_front() else {
                break;
            };
            match to {
                To::Us => self.hear(&bytes),
                To::Them => match xml::parse(&bytes, CONTEXT, &ElementLimits::default()) {
                    Ok(stanza) => self.stranger.handle_stanza(&stanza, now),
                    Err(error) => self.faults.push(format!("what we say is no XML: {error}")),
                },
            }
            self.drain();
        }
        while let Some((key, delivery)) = self.network.poll_output(now) {
            match key {
                Key::Ours(socket) => self.manager.handle_input(input(socket, delivery), now),
                Key::Theirs(number, socket) => {
                    self.stranger.handle_delivery(number, socket, delivery, now);
                }
            }
            self.drain();
        }
        if self.wait.is_some_and(|at| at <= now) {
            self.manager.handle_input(Input::Timeout, now);
        }
        if self.stranger.poll_timeout().is_some_and(|at| at <= now) {
            self.stranger.handle_timeout(now);
        }
        if self.jmi.poll_timeout().is_some_and(|at| at <= now) {
            let session = self.session().and_then(|id| self.manager.peek(id));
            if let Some(session) = session {
                self.jmi.begun(session.sid());
            }
            self.jmi.handle_timeout(now);
        }
        self.drain();
    }

    /// A stanza of theirs arrives here.
    fn hear(&mut self, bytes: &[u8]) {
        let own = Peer::from(OURS);
        let stanza = match xml::parse(bytes, CONTEXT, &ElementLimits::default()) {
            Ok(stanza) => stanza,
            Err(error) => {
                return self
                    .faults
                    .push(format!("what they say is no XML: {error}"));
            }
        };
        self.count += 1;
        let id = RequestId(self.count);
        match stanza::decode(stanza, &own) {
            Incoming::Message { request, message } => {
                self.requests.insert(id, request);
                self.manager
                    .handle_input(Input::Message { id, message }, self.now);
            }
            Incoming::Request(request) => {
                let from = request.from().clone();
                let payload = request.payload().map(session_core::ElementRef::to_element);
                let Some(payload) = payload else { return };
                self.requests.insert(id, request);
                let to = own;
                self.manager.handle_input(
                    Input::Request {
                        id,
                        from,
                        to,
                        payload,
                    },
                    self.now,
                );
            }
            Incoming::Refused {
                request,
                dialect,
                error,
            } => {
                let mut out = Vec::new();
                if stanza::encode_reply(&request, dialect, &Err(error), CONTEXT, &mut out).is_ok() {
                    self.post(To::Them, out);
                }
            }
            Incoming::Reply(reply) => {
                let number = reply.id.strip_prefix('o').and_then(|id| id.parse().ok());
                if let Some(id) = number.map(RequestId) {
                    let reply = reply.reply;
                    self.manager
                        .handle_input(Input::Reply { id, reply }, self.now);
                }
            }
            Incoming::Other(envelope) => {
                self.jmi.handle_message(&envelope, None, self.now);
            }
            Incoming::Unusable(stanza) => {
                self.faults
                    .push(format!("a stanza of no use: {}", stanza.name()));
            }
        }
    }

    fn post(&mut self, to: To, bytes: Vec<u8>) {
        let who = match to {
            To::Us => "theirs",
            To::Them => "ours",
        };
        let at = self.now.saturating_duration_since(self.start).as_millis();
        let text = String::from_utf8_lossy(&bytes);
        self.transcript.push(format!("{at:6} {who:6} {text}"));
        self.under_way
            .push_back((self.now + STANZA_DELAY, to, bytes.into()));
    }

    /// Carries out what everybody wants.
    fn drain(&mut self) {
        loop {
            let mut idle = true;
            while let Some(output) = self.jmi.poll_output() {
                idle = false;
                match output {
                    JmiOutput::Send(message) => self.write(To::Them, &message),
                    told => self.announced.push(told),
                }
            }
            while let Some(output) = self.stranger.poll_output() {
                idle = false;
                match output {
                    StrangerOutput::Stanza(stanza) => self.write(To::Us, &stanza),
                    StrangerOutput::Network(number, output) => self.for_them(number, output),
                }
            }
            loop {
                match self.manager.poll_output(self.now) {
                    Output::Wait(at) => {
                        self.wait = at;
                        break;
                    }
                    output => self.for_us(output),
                }
            }
            if idle {
                return;
            }
        }
    }

    fn write(&mut self, to: To, stanza: &session_core::Element) {
        let is_for_them = stanza
            .attribute("to")
            .is_some_and(|to| to.starts_with("juliet"));
        if to == To::Them && !is_for_them {
            // For our own other devices.
            return;
        }
        if to == To::Us
            && stanza
                .attribute("to")
                .is_none_or(|to| !to.starts_with("romeo"))
        {
            return;
        }
        // A server stamps who sent it.
        let mut stanza = stanza.clone();
        stanza.set_attribute("from", if to == To::Us { THEIRS } else { OURS });
        let mut out = Vec::new();
        match xml::write(&stanza, CONTEXT, &mut out) {
            Ok(()) => self.post(to, out),
            Err(error) => self.faults.push(format!("cannot be written: {error}")),
        }
    }

    fn for_us(&mut self, output: Output) {
        let now = self.now;
        let key = Key::Ours;
        match output {
            Output::Message { id, message } => {
                let mut out = Vec::new();
                let name = format!("o{}", id.0);
                match stanza::encode_message(&name, &message, CONTEXT, &mut out) {
                    Ok(()) => self.post(To::Them, out),
                    Err(error) => self.faults.push(format!("{}: {error}", message.action)),
                }
            }
            Output::Request {
                id,
                from,
                to,
                payload,
                kind,
            } => self.ask(id, &from, &to, &payload, kind),
            Output::Reply {
                id, dialect, reply, ..
            } => {
                let Some(request) = self.requests.remove(&id) else {
                    return;
                };
                let mut out = Vec::new();
                match stanza::encode_reply(&request, dialect, &reply, CONTEXT, &mut out) {
                    Ok(()) => self.post(To::Them, out),
                    Err(error) => self.faults.push(format!("an answer: {error}")),
                }
            }
            Output::Bind {
                socket,
                kind,
                address,
            } => {
                self.network.bind(0, key(socket), kind, address, now);
            }
            Output::Connect { socket, target } => {
                self.network.connect(0, key(socket), &target, now)
            }
            Output::Write { socket, payload } => self.network.write(key(socket), payload, now),
            Output::Hold { socket, held } => self.network.hold(key(socket), held, now),
            Output::Inquire { id, inquiry } => self.network.inquire(0, key(id), &inquiry, now),
            Output::Shutdown { socket } => self.network.shutdown(key(socket), now),
            Output::Close { socket } => self.network.close(key(socket), now),
            Output::Transmit {
                socket,
                destination,
                payload,
                segment_size,
            } => {
                self.network
                    .transmit(key(socket), destination, payload, segment_size, now);
            }
            _ => {}
        }
    }

    fn ask(
        &mut self,
        id: RequestId,
        from: &Peer,
        to: &Peer,
        payload: &session_core::Element,
        kind: RequestKind,
    ) {
        let mut out = Vec::new();
        let name = format!("o{}", id.0);
        let head = Head {
            kind: Some("set"),
            id: Some(&name),
            from: Some(from),
            to: Some(to),
        };
        match stanza::encode_iq(head, Some(payload), CONTEXT, &mut out) {
            Ok(()) => self.post(To::Them, out),
            Err(error) => self.faults.push(format!("a request: {error}")),
        }
        if kind == RequestKind::Notice {
            self.manager.handle_input(
                Input::Reply {
                    id,
                    reply: Ok(None),
                },
                self.now,
            );
        }
    }

    fn for_them(&mut self, number: u32, output: ChannelOutput) {
        let now = self.now;
        let key = |socket| Key::Theirs(number, socket);
        match output {
            ChannelOutput::Bind(socket, kind, address) => {
                self.network.bind(1, key(socket), kind, address, now);
            }
            ChannelOutput::Connect(socket, target) => {
                self.network.connect(1, key(socket), &target, now);
            }
            ChannelOutput::Write(socket, payload) => self.network.write(key(socket), payload, now),
            ChannelOutput::Hold(socket, held) => self.network.hold(key(socket), held, now),
            ChannelOutput::Inquire(id, inquiry) => {
                self.network.inquire(1, key(LocalSocket(id)), &inquiry, now);
            }
            ChannelOutput::Shutdown(socket) => self.network.shutdown(key(socket), now),
            ChannelOutput::Close(socket) => self.network.close(key(socket), now),
            ChannelOutput::Transmit(transmit) => self.network.transmit(
                key(transmit.socket),
                transmit.destination,
                transmit.payload,
                transmit.segment_size,
                now,
            ),
            _ => {}
        }
    }
}

fn input(socket: SocketId, delivery: Delivery) -> Input {
    match delivery {
        Delivery::Bound(address) => Input::Bound { socket, address },
        Delivery::Stream(event) => Input::Stream { socket, event },
        Delivery::Found(finding) => Input::Found {
            inquiry: socket,
            finding,
        },
        Delivery::Datagram {
            source,
            payload,
            segment_size,
        } => Input::Datagram {
            socket,
            source,
            payload,
            segment_size,
        },
    }
}
