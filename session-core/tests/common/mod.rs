//! Two managers on a table: every message is in the test's hand, every socket is a number.
#![allow(dead_code, unreachable_pub)]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

use bytes::Bytes;
use session_core::*;
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

pub const TYPE: &str = "https://example.org/test";
pub const ONE: &str = "https://example.org/one";
pub const TWO: &str = "https://example.org/two";
/// A fake channel that gets this has no path any more.
pub const CUT: &[u8] = b"cut";

pub fn description(text: &str) -> Element {
    Element::new(TYPE, "description").text(text)
}

/// A transport that connects when both sides know each other's address.
#[derive(Clone)]
pub struct Fake {
    pub namespace: &'static str,
    /// Refuses every offer.
    pub picky: bool,
    /// Its sockets cannot be had.
    pub broken: bool,
    /// Data may pass by its channels, which count what does not.
    pub direct: Option<Arc<AtomicUsize>>,
}

pub fn fake(namespace: &'static str) -> Fake {
    Fake {
        namespace,
        picky: false,
        broken: false,
        direct: None,
    }
}

impl TransportFactory for Fake {
    fn namespace(&self) -> &str {
        self.namespace
    }
    fn kind(&self) -> TransportKind {
        TransportKind::Datagram
    }
    fn create(&self, _: &TransportContext) -> Box<dyn Transport> {
        Box::new(self.clone())
    }
}

impl Transport for Fake {
    fn namespace(&self) -> &str {
        self.namespace
    }
    fn offer(&mut self) -> Element {
        Element::new(self.namespace, "transport")
    }
    fn accept_offer(&mut self, _: &Element) -> Result<Element, TransportError> {
        if self.picky {
            return Err(TransportError::Unacceptable("picky"));
        }
        Ok(self.offer())
    }
    fn accept_answer(&mut self, answer: &Element) -> Result<(), TransportError> {
        match answer.attribute("bad") {
            Some(_) => Err(TransportError::Malformed {
                field: "bad",
                problem: "present",
            }),
            None => Ok(()),
        }
    }
    fn create_channel(&mut self, _: &str) -> Result<Box<dyn TransportChannel>, TransportError> {
        Ok(Box::new(FakeChannel {
            broken: self.broken,
            direct: self.direct.clone(),
            ..FakeChannel::default()
        }))
    }
    fn split_info(&mut self, info: &Element) -> Result<Vec<(InfoTarget, Element)>, TransportError> {
        info.children()
            .map(|child| {
                let name = child.attribute("name");
                let name = name.ok_or(TransportError::Malformed {
                    field: "name",
                    problem: "missing",
                })?;
                let address = child.attribute("address").unwrap_or_default();
                let address: Result<SocketAddr, _> = address.parse();
                address.map_err(|_| TransportError::Malformed {
                    field: "address",
                    problem: "not an address",
                })?;
                Ok((InfoTarget::Channel(name.into()), child.to_element()))
            })
            .collect()
    }
}

#[derive(Default)]
struct FakeChannel {
    broken: bool,
    direct: Option<Arc<AtomicUsize>>,
    remote: Option<SocketAddr>,
    bound: bool,
    writable: bool,
    out: VecDeque<ChannelOutput>,
}

impl FakeChannel {
    fn count(&self) {
        if let Some(count) = &self.direct {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn review(&mut self) {
        if self.bound && self.remote.is_some() && !self.writable {
            self.writable = true;
            self.out.push_back(ChannelOutput::Writable(true));
        }
    }
}

impl TransportChannel for FakeChannel {
    fn connect(&mut self, _: Instant) {
        let any = "0.0.0.0:0".parse().unwrap();
        self.out
            .push_back(ChannelOutput::Bind(LocalSocket(0), BindKind::Udp, any));
    }
    fn handle_info(&mut self, info: &Element, _: Instant) -> Result<(), TransportError> {
        self.remote = Some(info.attribute("address").unwrap().parse().unwrap());
        self.review();
        Ok(())
    }
    fn handle_bound(
        &mut self,
        _: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        _: Instant,
    ) {
        if self.broken {
            self.out
                .push_back(ChannelOutput::Failed(TransportError::NoResource(
                    "broken".into(),
                )));
            return;
        }
        let candidate = Element::new("", "candidate").with("address", address.unwrap());
        self.out.push_back(ChannelOutput::Info(candidate));
        self.bound = true;
        self.review();
    }
    fn handle_datagram(&mut self, datagram: Datagram, _: Instant) {
        self.count();
        if *datagram.payload == *CUT {
            (self.remote, self.writable) = (None, false);
            self.out.push_back(ChannelOutput::Writable(false));
            return;
        }
        self.out.push_back(ChannelOutput::Packet(datagram.batch()));
    }
    fn handle_timeout(&mut self, _: Instant) {}
    fn send(&mut self, payload: Bytes, _: Instant) -> Result<(), SendError> {
        self.count();
        let destination = self
            .remote
            .filter(|_| self.writable)
            .ok_or(SendError::NotWritable)?;
        let transmit = Transmit {
            socket: LocalSocket(0),
            destination,
            payload,
            segment_size: 0,
        };
        self.out.push_back(ChannelOutput::Transmit(transmit));
        Ok(())
    }
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.out.pop_front()
    }
    fn direct(&self) -> Option<DirectPath> {
        let remote = self
            .remote
            .filter(|_| self.writable && self.direct.is_some())?;
        Some(DirectPath {
            socket: LocalSocket(0),
            remote,
            first_byte: b'a',
        })
    }
}

/// What a client does when it is called.
pub type Reaction = Box<dyn FnMut(&mut Session, Instant) + Send>;

/// What a client saw, as lines.
pub type Log = Arc<Mutex<Vec<String>>>;

/// Creates the channels it is told to, writes everything down, and does what the test asks for in callbacks.
pub struct Client {
    pub channels: Vec<&'static str>,
    pub log: Log,
    pub on_received: Option<Reaction>,
    pub on_packet: Option<Reaction>,
    pub destroyed: usize,
}

impl Client {
    fn note(&self, line: String) {
        self.log.lock().unwrap().push(line);
    }
}

impl SessionClient for Client {
    fn namespace(&self) -> &str {
        TYPE
    }
    fn on_session_create(&mut self, session: &mut Session, received: bool, now: Instant) {
        self.note(format!("create received={received}"));
        for name in &self.channels {
            session.create_channel(name, now).unwrap();
        }
    }
    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        self.note(format!("{state}"));
        if state == State::ReceivedInitiate
            && let Some(react) = &mut self.on_received
        {
            react(session, now);
        }
    }
    fn on_packet(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) {
        let name = session.channel_name(channel).unwrap_or_default().to_owned();
        self.note(format!(
            "packet {name} {}",
            String::from_utf8_lossy(&packet)
        ));
        if let Some(react) = &mut self.on_packet {
            react(session, now);
        }
    }
    fn on_writable(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        writable: bool,
        _: Instant,
    ) {
        let name = session.channel_name(channel).unwrap_or_default().to_owned();
        self.note(format!("writable {name} {writable}"));
    }
    fn on_channel_gone(&mut self, _: &mut Session, _: ChannelId, name: &str, _: Instant) {
        self.note(format!("gone {name}"));
    }
    fn on_info(&mut self, _: &mut Session, info: &[Element], _: Instant) -> Result<(), PeerError> {
        self.note(format!("info {}", info[0].name()));
        if info[0].name() == "unknown" {
            Err(PeerError::UnsupportedInfo)
        } else {
            Ok(())
        }
    }
    fn on_modify(&mut self, _: &mut Session, modification: &Modification, _: Instant) {
        self.note(
            format!("modify {modification:?}")
                .chars()
                .take(60)
                .collect(),
        );
    }
    fn on_error(&mut self, _: &mut Session, error: &SessionError, _: Instant) {
        self.note(format!(
            "error {:?} fatal={} {error}",
            error.code, error.fatal
        ));
    }
    fn on_terminate_reason(&mut self, _: &mut Session, reason: Option<&Reason>, _: Instant) {
        self.note(format!(
            "reason {:?}",
            reason.map(|r| r.condition.as_str().to_owned())
        ));
    }
    fn on_pong(&mut self, _: &mut Session, pong: &Pong, _: Instant) {
        self.note(match pong {
            Pong::Gone(error) => format!("pong gone {error}"),
            Pong::Here | Pong::Silent => format!("pong {pong:?}"),
        });
    }
    fn on_session_destroy(&mut self, _: &mut Session, _: Instant) {
        self.destroyed += 1;
        self.note("destroy".into());
    }
}

/// One manager and what it has said and not yet been carried.
pub struct Side {
    pub name: Peer,
    pub manager: SessionManager,
    pub log: Log,
    pub out: VecDeque<Output>,
    next_in: u64,
    /// What our incoming numbers stand for: the sender's number.
    theirs: Vec<(RequestId, RequestId)>,
    port: u16,
    sockets: Vec<(SocketId, SocketAddr)>,
}

impl Side {
    /// The socket that is bound there, and its address.
    pub fn socket_at(&self, address: SocketAddr) -> (SocketId, SocketAddr) {
        let known = self.sockets.iter().find(|(_, at)| *at == address);
        *known.expect("somebody is there")
    }
}

pub struct Table {
    pub now: Instant,
    pub alice: Side,
    pub bob: Side,
    /// Everything that was said, as `from action` or `from result`/`from error …`.
    pub said: Vec<String>,
    pub datagrams: VecDeque<(SocketAddr, SocketAddr, Bytes)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Who {
    Alice,
    Bob,
}
pub use Who::*;

impl Who {
    pub fn other(self) -> Self {
        if self == Alice { Bob } else { Alice }
    }
}

pub struct Setup {
    pub dialect: &'static Dialect,
    pub alice: Vec<Fake>,
    pub bob: Vec<Fake>,
    pub channels: Vec<&'static str>,
    pub config: Config,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            dialect: Dialect::JINGLE,
            alice: vec![fake(ONE)],
            bob: vec![fake(ONE)],
            channels: vec!["a", "b"],
            config: Config::default(),
        }
    }
}

impl Table {
    pub fn new(setup: Setup) -> Self {
        let side = |name: &str, transports: Vec<Fake>, port| {
            let config = Config {
                dialect: setup.dialect,
                ..setup.config.clone()
            };
            let mut manager = SessionManager::new(config, SeededEntropy::new(u64::from(port)));
            let log = Log::default();
            let client = Client {
                channels: setup.channels.clone(),
                log: log.clone(),
                on_received: None,
                on_packet: None,
                destroyed: 0,
            };
            manager.add_client(client).unwrap();
            for transport in transports {
                manager.add_transport(transport).unwrap();
            }
            Side {
                name: name.into(),
                manager,
                log,
                out: VecDeque::new(),
                next_in: 0,
                theirs: Vec::new(),
                port,
                sockets: Vec::new(),
            }
        };
        Self {
            now: start(),
            alice: side("alice@example.org/desk", setup.alice, 1000),
            bob: side("bob@example.org/lap", setup.bob, 2000),
            said: Vec::new(),
            datagrams: VecDeque::new(),
        }
    }

    pub fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Alice => &mut self.alice,
            Bob => &mut self.bob,
        }
    }

    pub fn client(&mut self, who: Who) -> &mut Client {
        self.side(who).manager.find_client::<Client>().unwrap()
    }

    /// Alice creates a session and offers it to Bob.
    pub fn call(&mut self) -> SessionId {
        let (name, to, now) = (self.alice.name.clone(), self.bob.name.clone(), self.now);
        let id = self.alice.manager.create_session(name, TYPE, now).unwrap();
        let session = self.alice.manager.session(id).unwrap();
        session
            .initiate_with(to, vec![], description("offer"), now)
            .unwrap();
        self.drain(Alice);
        id
    }

    /// The one session of a side.
    pub fn only(&mut self, who: Who) -> &mut Session {
        let manager = &mut self.side(who).manager;
        let ids = manager.session_ids();
        assert_eq!(ids.len(), 1, "one session");
        manager.session(ids[0]).unwrap()
    }

    pub fn state(&mut self, who: Who) -> State {
        self.only(who).state()
    }

    pub fn act<R>(&mut self, who: Who, act: impl FnOnce(&mut Session, Instant) -> R) -> R {
        let now = self.now;
        let result = act(self.only(who), now);
        self.drain(who);
        result
    }

    /// Takes everything a side wants; sockets and datagrams are dealt with at once, stanzas wait in `out`.
    pub fn drain(&mut self, who: Who) {
        let now = self.now;
        loop {
            let side = self.side(who);
            let output = side.manager.poll_output(now);
            match output {
                Output::Wait(_) => break,
                Output::Bind { socket, .. } => {
                    side.port += 1;
                    let address = SocketAddr::from(([10, 0, 0, 1], side.port));
                    side.sockets.push((socket, address));
                    side.manager.handle_input(
                        Input::Bound {
                            socket,
                            address: Ok(address),
                        },
                        now,
                    );
                }
                Output::Close { socket } => side.sockets.retain(|s| s.0 != socket),
                Output::Transmit {
                    socket,
                    destination,
                    payload,
                    ..
                } => {
                    let source = side.sockets.iter().find(|s| s.0 == socket).unwrap().1;
                    self.datagrams.push_back((source, destination, payload));
                }
                stanza => side.out.push_back(stanza),
            }
        }
    }

    /// Carries the oldest stanza of a side to the other. Returns it as text, or `None` when there is none.
    pub fn carry(&mut self, from: Who) -> Option<String> {
        let stanza = self.side(from).out.pop_front()?;
        Some(self.deliver(from, stanza))
    }

    pub fn deliver(&mut self, from: Who, stanza: Output) -> String {
        let now = self.now;
        let to = self.side(from.other());
        let line = match stanza {
            Output::Message { id, message } => {
                let line = message.action.to_string();
                to.next_in += 1;
                let number = RequestId(to.next_in);
                to.theirs.push((number, id));
                to.manager.handle_input(
                    Input::Message {
                        id: number,
                        message,
                    },
                    now,
                );
                line
            }
            Output::Reply { id, reply, .. } => {
                let line = match &reply {
                    Ok(_) => "result".to_owned(),
                    Err(error) => format!("error {error}"),
                };
                let answered = self.side(from).theirs.iter().position(|t| t.0 == id);
                let (_, original) = self
                    .side(from)
                    .theirs
                    .remove(answered.expect("one reply per request"));
                let to = self.side(from.other());
                to.manager.handle_input(
                    Input::Reply {
                        id: original,
                        reply,
                    },
                    now,
                );
                line
            }
            other => panic!("not a stanza: {other:?}"),
        };
        self.said.push(format!("{from:?} {line}"));
        self.drain(from.other());
        line
    }

    /// Hands a message to a side as if the other had sent it; the reply as text.
    pub fn inject(&mut self, to: Who, message: Message) -> String {
        let now = self.now;
        let side = self.side(to);
        let before = side.out.len();
        side.next_in += 1;
        let number = RequestId(side.next_in);
        side.manager.handle_input(
            Input::Message {
                id: number,
                message,
            },
            now,
        );
        self.drain(to);
        let side = self.side(to);
        let replies: Vec<_> = side
            .out
            .iter()
            .skip(before)
            .filter_map(|o| match o {
                Output::Reply { id, reply, .. } if *id == number => Some(match reply {
                    Ok(_) => "result".to_owned(),
                    Err(error) => format!("error {error}"),
                }),
                _ => None,
            })
            .collect();
        assert_eq!(replies.len(), 1, "exactly one reply");
        side.out
            .retain(|o| !matches!(o, Output::Reply { id, .. } if *id == number));
        replies.into_iter().next().unwrap()
    }

    /// Carries everything until nobody has anything more to say.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            self.drain(Alice);
            self.drain(Bob);
            if self.carry(Alice).is_none() && self.carry(Bob).is_none() {
                return;
            }
        }
        panic!("they never stop talking");
    }

    pub fn carry_datagrams(&mut self) {
        let now = self.now;
        while let Some((source, destination, payload)) = self.datagrams.pop_front() {
            for who in [Alice, Bob] {
                let side = self.side(who);
                if let Some(&(socket, _)) = side.sockets.iter().find(|s| s.1 == destination) {
                    let input = Input::Datagram {
                        socket,
                        source,
                        payload: payload.clone(),
                        segment_size: 0,
                    };
                    side.manager.handle_input(input, now);
                }
            }
            self.drain(Alice);
            self.drain(Bob);
        }
    }

    /// Lets time pass, with every timer on the way.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let mut next = end;
            for who in [Alice, Bob] {
                self.drain(who);
                let now = self.now;
                if let Output::Wait(Some(at)) = self.side(who).manager.poll_output(now) {
                    next = next.min(at.max(now + Duration::from_millis(1)));
                }
            }
            self.now = next;
            for who in [Alice, Bob] {
                self.side(who).manager.handle_input(Input::Timeout, next);
                self.drain(who);
            }
            if next == end {
                return;
            }
        }
    }

    /// As [`pass`](Self::pass), with everything carried meanwhile.
    pub fn live(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            self.settle();
        }
    }

    pub fn lines(&self, who: Who) -> Vec<String> {
        let side = if who == Alice { &self.alice } else { &self.bob };
        side.log.lock().unwrap().clone()
    }

    pub fn saw(&self, who: Who, line: &str) -> bool {
        self.lines(who).iter().any(|l| l == line)
    }

    /// A message as `from` would send it in the session of Alice's making.
    pub fn message(&mut self, from: Who, action: Action) -> Message {
        let sid = self.only(Alice).sid().clone();
        let dialect = self.only(Alice).dialect();
        let (local, remote) = (
            self.side(from).name.clone(),
            self.side(from.other()).name.clone(),
        );
        Message::new(local, remote, sid, dialect, action)
    }
}

/// Where time begins. It only moves when the test says so.
#[allow(
    clippy::disallowed_methods,
    reason = "some instant is needed to count from"
)]
fn start() -> Instant {
    Instant::now()
}

pub fn decline() -> Reason {
    Reason::new(ReasonCondition::Decline)
}

pub fn success() -> Reason {
    Reason::new(ReasonCondition::Success)
}
