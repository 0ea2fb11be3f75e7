//! The client: a session, then ways to the relay, then an address on it.

mod link;
mod up;

use super::{
    GoogleAccess, GoogleProtocol, GoogleRelayConfig,
    session::{self, RelaySession},
    wire::{self, MAGIC_COOKIE, Word},
};
use crate::{
    random::Random,
    source::{RELAY_SOCKETS_MAX, RelayOutput, RelaySource},
    stun::{Due, Retransmission, TransactionId},
};
use bytes::Bytes;
use link::{Heard, Link};
use session_core::{Batch, Datagram, LocalSocket, SocketError, StreamEvent, StreamTarget};
use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Instant,
};
use up::Up;

/// Characters of a user name that we make up.
const USERNAME_LENGTH: usize = 16;

/// A client of Google's relays for one channel: see [`GoogleRelayFactory`](super::GoogleRelayFactory).
pub struct GoogleRelaySource {
    config: Arc<GoogleRelayConfig>,
    random: Random,
    local: Vec<IpAddr>,
    stage: Stage,
    next_socket: u32,
    /// How often a lost allocation may still be replaced.
    recoveries: u32,
    /// Why it did not work so far.
    why: String,
    outputs: VecDeque<RelayOutput>,
}

enum Stage {
    Idle,
    Asking(Asking),
    Trying(Trying),
    Up(Box<Up>),
    Over,
}

/// A web server is asked for a session.
struct Asking {
    socket: LocalSocket,
    /// Which relay.
    relay: usize,
    /// How often one was asked.
    tries: u32,
    answer: Vec<u8>,
    due: Instant,
}

/// Ways are tried.
struct Trying {
    session: RelaySession,
    left: VecDeque<(GoogleProtocol, SocketAddr)>,
    attempts: Vec<Attempt>,
    next_at: Option<Instant>,
}

struct Attempt {
    link: Link,
    /// Until when the connection has to stand.
    due: Option<Instant>,
    question: Option<Question>,
}

/// A request that awaits its answer.
struct Question {
    transaction: TransactionId,
    bytes: Bytes,
    clock: Retransmission,
}

impl GoogleRelaySource {
    /// One that has asked nothing yet.
    pub(super) fn new(config: Arc<GoogleRelayConfig>, seed: [u8; 32]) -> Self {
        Self {
            recoveries: config.recoveries,
            config,
            random: Random::new(&seed),
            local: Vec::new(),
            stage: Stage::Idle,
            next_socket: 0,
            why: "there is no relay".to_owned(),
            outputs: VecDeque::new(),
        }
    }

    fn number(&mut self) -> LocalSocket {
        let number = LocalSocket(self.next_socket);
        self.next_socket = (self.next_socket + 1) % RELAY_SOCKETS_MAX;
        number
    }

    fn begin(&mut self, now: Instant) {
        match self.config.access {
            GoogleAccess::Token(_) => self.ask_web(0, now),
            GoogleAccess::Open => {
                let relays = &self.config.relays;
                let mut ways: Vec<_> = relays.iter().flat_map(|r| r.ways.clone()).collect();
                // By protocol: what is quickest on all relays first.
                ways.sort_by_key(|(protocol, _)| *protocol);
                let session = RelaySession {
                    username: self.random.text(USERNAME_LENGTH).into(),
                    magic_cookie: MAGIC_COOKIE,
                    ways,
                };
                self.try_ways(session, now);
            }
        }
    }

    fn give_up(&mut self) {
        self.stage = Stage::Over;
        let why = std::mem::take(&mut self.why);
        self.outputs.push_back(RelayOutput::Failed(why.into()));
    }
}

/// The session.
impl GoogleRelaySource {
    fn ask_web(&mut self, tries: u32, now: Instant) {
        let relays = self.config.relays.iter().enumerate();
        let webs: Vec<_> = relays
            .flat_map(|(at, relay)| relay.web.iter().map(move |web| (at, *web)))
            .collect();
        if tries >= self.config.session_tries || webs.is_empty() {
            return self.give_up();
        }
        let (relay, web) = webs[tries as usize % webs.len()];
        let socket = self.number();
        let target = StreamTarget::new(web);
        self.outputs.push_back(RelayOutput::Connect(socket, target));
        self.stage = Stage::Asking(Asking {
            socket,
            relay,
            tries,
            answer: Vec::new(),
            due: now + self.config.session_timeout,
        });
    }

    fn handle_web(&mut self, event: StreamEvent, now: Instant) {
        let Stage::Asking(asking) = &mut self.stage else {
            return;
        };
        match event {
            StreamEvent::Connected(Ok(_)) => {
                let name = &self.config.relays[asking.relay].name;
                let GoogleAccess::Token(token) = &self.config.access else {
                    return;
                };
                match session::request(name, token) {
                    Ok(request) => {
                        let write = RelayOutput::Write(asking.socket, request.into());
                        self.outputs.push_back(write);
                    }
                    Err(error) => self.web_failed(error.to_string(), now),
                }
            }
            StreamEvent::Connected(Err(error)) => self.web_failed(error.to_string(), now),
            StreamEvent::Data(bytes) => {
                asking.answer.extend_from_slice(&bytes);
                if asking.answer.len() > session::ANSWER_MAX {
                    self.web_failed("the answer is too long".to_owned(), now);
                }
            }
            StreamEvent::Finished | StreamEvent::Closed(_) => {
                match RelaySession::read(&asking.answer) {
                    Ok(session) => self.has_session(session, now),
                    Err(error) => self.web_failed(error.to_string(), now),
                }
            }
            StreamEvent::Buffered(_) | StreamEvent::Accepted { .. } | _ => {}
        }
    }

    fn web_failed(&mut self, why: String, now: Instant) {
        let Stage::Asking(asking) = &self.stage else {
            return;
        };
        let (socket, tries) = (asking.socket, asking.tries);
        self.outputs.push_back(RelayOutput::Close(socket));
        self.why = format!("no session with the relay: {why}");
        self.ask_web(tries + 1, now);
    }

    fn has_session(&mut self, mut session: RelaySession, now: Instant) {
        let Stage::Asking(asking) = &self.stage else {
            return;
        };
        self.outputs.push_back(RelayOutput::Close(asking.socket));
        if session.ways.is_empty() {
            session
                .ways
                .clone_from(&self.config.relays[asking.relay].ways);
        }
        self.try_ways(session, now);
    }
}

/// The ways.
impl GoogleRelaySource {
    fn try_ways(&mut self, mut session: RelaySession, now: Instant) {
        let ways = std::mem::take(&mut session.ways);
        self.stage = Stage::Trying(Trying {
            session,
            left: ways.into_iter().take(self.config.ways_max).collect(),
            attempts: Vec::new(),
            next_at: Some(now),
        });
        self.advance(now);
    }

    /// Tries the next way, if it is time.
    fn advance(&mut self, now: Instant) {
        loop {
            let Stage::Trying(trying) = &mut self.stage else {
                return;
            };
            let is_time = trying.next_at.is_some_and(|at| at <= now);
            if !is_time && !trying.attempts.is_empty() {
                return;
            }
            let Some((protocol, server)) = trying.left.pop_front() else {
                trying.next_at = None;
                if trying.attempts.is_empty() {
                    self.give_up();
                }
                return;
            };
            trying.next_at = Some(now + self.config.stagger);
            self.open(protocol, server, now);
        }
    }

    fn open(&mut self, protocol: GoogleProtocol, server: SocketAddr, now: Instant) {
        let socket = self.number();
        self.outputs.push_back(match protocol {
            GoogleProtocol::Udp => {
                let same = |ip: &&IpAddr| ip.is_ipv4() == server.is_ipv4();
                let any: IpAddr = match server.is_ipv4() {
                    true => Ipv4Addr::UNSPECIFIED.into(),
                    false => Ipv6Addr::UNSPECIFIED.into(),
                };
                let ip = self.local.iter().find(same).copied().unwrap_or(any);
                RelayOutput::Bind(socket, SocketAddr::new(ip, 0))
            }
            GoogleProtocol::Tcp | GoogleProtocol::SslTcp => {
                RelayOutput::Connect(socket, StreamTarget::new(server))
            }
        });
        let due = (protocol != GoogleProtocol::Udp).then(|| now + self.config.connection_timeout);
        if let Stage::Trying(trying) = &mut self.stage {
            trying.attempts.push(Attempt {
                link: Link::new(socket, protocol, server),
                due,
                question: None,
            });
        }
    }

    fn attempt_of(&self, socket: LocalSocket) -> Option<usize> {
        let Stage::Trying(trying) = &self.stage else {
            return None;
        };
        let mut attempts = trying.attempts.iter();
        attempts.position(|attempt| attempt.link.socket == socket)
    }

    fn attempt_failed(&mut self, at: usize, why: &str, now: Instant) {
        let Stage::Trying(trying) = &mut self.stage else {
            return;
        };
        let attempt = trying.attempts.remove(at);
        trying.next_at = Some(now);
        self.why = format!("no address on the relay: {why}");
        self.outputs
            .push_back(RelayOutput::Close(attempt.link.socket));
        self.advance(now);
    }

    /// A way is open: an address is asked for.
    fn allocate(&mut self, at: usize, now: Instant) {
        let timing = self.config.timing;
        let patience = self.config.connection_timeout;
        let transaction = self.random.transaction();
        let Stage::Trying(Trying {
            session, attempts, ..
        }) = &mut self.stage
        else {
            return;
        };
        let attempt = &mut attempts[at];
        let question = Question::allocate(session, transaction);
        let Some(bytes) = question else { return };
        let timing = attempt.link.timing(timing, patience);
        attempt.due = None;
        self.outputs.extend(attempt.link.write(&bytes));
        attempt.question = Some(Question {
            transaction,
            bytes,
            clock: Retransmission::new(timing, now),
        });
    }

    fn attempt_heard(&mut self, socket: LocalSocket, heard: &[Heard], now: Instant) {
        for heard in heard {
            let Some(at) = self.attempt_of(socket) else {
                // It serves already: what else came with the answer is for it.
                return self.up_heard(socket, std::slice::from_ref(heard), now);
            };
            match heard {
                Heard::Ready => self.allocate(at, now),
                Heard::Broken => self.attempt_failed(at, "it does not speak as one", now),
                Heard::Message(bytes) => self.attempt_answered(at, bytes, now),
            }
        }
    }

    fn attempt_answered(&mut self, at: usize, bytes: &[u8], now: Instant) {
        let Stage::Trying(trying) = &mut self.stage else {
            return;
        };
        let asked = trying.attempts[at].question.as_ref();
        let is_ours = |transaction| asked.is_some_and(|asked| asked.transaction == transaction);
        match wire::read(bytes, trying.session.magic_cookie) {
            Some(Word::Allocated {
                transaction,
                relayed,
                lifetime,
            }) if is_ours(transaction) => {
                let Stage::Trying(trying) = std::mem::replace(&mut self.stage, Stage::Idle) else {
                    return;
                };
                let mut attempts = trying.attempts;
                let chosen = attempts.remove(at);
                let closed = attempts.iter().map(|a| RelayOutput::Close(a.link.socket));
                self.outputs.extend(closed);
                let up = Up::new(trying.session, chosen.link, relayed, lifetime, now);
                self.stage = Stage::Up(Box::new(up));
                self.outputs.push_back(RelayOutput::Allocated {
                    relayed,
                    mapped: None,
                });
            }
            Some(Word::Refused { transaction, code }) if is_ours(transaction) => {
                let code = code.map_or_else(String::new, |code| format!(", with error {code}"));
                self.attempt_failed(at, &format!("it refuses{code}"), now);
            }
            Some(_) | None => {}
        }
    }

    fn trying_timeout(&mut self, now: Instant) {
        let mut at = 0;
        loop {
            let Stage::Trying(trying) = &mut self.stage else {
                return;
            };
            let Some(attempt) = trying.attempts.get_mut(at) else {
                break;
            };
            let late = attempt.due.is_some_and(|due| due <= now);
            let due = attempt
                .question
                .as_mut()
                .map(|q| q.clock.handle_timeout(now));
            match due {
                Some(Due::Send) => {
                    let bytes = attempt.question.as_ref().map(|q| q.bytes.clone());
                    let link = &attempt.link;
                    self.outputs
                        .extend(bytes.and_then(|bytes| link.write(&bytes)));
                }
                Some(Due::GiveUp) => {
                    self.attempt_failed(at, "it does not answer", now);
                    continue;
                }
                Some(Due::Nothing) | None if late => {
                    self.attempt_failed(at, "there is no connection to it", now);
                    continue;
                }
                Some(Due::Nothing) | None => {}
            }
            at += 1;
        }
        self.advance(now);
    }
}

impl Question {
    fn allocate(session: &RelaySession, id: TransactionId) -> Option<Bytes> {
        wire::allocate(id, session.magic_cookie, &session.username)
    }
}

impl RelaySource for GoogleRelaySource {
    fn start(&mut self, local: &[IpAddr], now: Instant) {
        self.local = local.to_vec();
        self.begin(now);
    }

    fn update_local(&mut self, local: &[IpAddr], now: Instant) {
        self.local = local.to_vec();
        self.check_local(now);
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        now: Instant,
    ) {
        let Some(at) = self.attempt_of(socket) else {
            return;
        };
        match address {
            Ok(address) => {
                if let Stage::Trying(trying) = &mut self.stage {
                    trying.attempts[at].link.local = Some(address.ip());
                }
                self.allocate(at, now);
            }
            Err(error) => self.attempt_failed(at, &error.to_string(), now),
        }
    }

    fn handle_datagram(&mut self, datagram: Datagram, now: Instant) {
        let (socket, source) = (datagram.socket, datagram.source);
        if let Some(at) = self.attempt_of(socket) {
            let Stage::Trying(trying) = &self.stage else {
                return;
            };
            if trying.attempts[at].link.server == source {
                let heard: Vec<_> = datagram.batch().map(Heard::Message).collect();
                self.attempt_heard(socket, &heard, now);
            }
            return;
        }
        self.up_batch(socket, source, datagram.batch(), now);
    }

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        if matches!(&self.stage, Stage::Asking(asking) if asking.socket == socket) {
            return self.handle_web(event, now);
        }
        let at = self.attempt_of(socket);
        let link = match (&mut self.stage, at) {
            (Stage::Trying(trying), Some(at)) => &mut trying.attempts[at].link,
            (Stage::Up(up), _) if up.link.socket == socket => &mut up.link,
            _ => return,
        };
        let why = match event {
            StreamEvent::Connected(Ok(address)) => {
                link.local = Some(address.ip());
                return match (link.hello(), at) {
                    (Some(hello), _) => self.outputs.push_back(hello),
                    (None, Some(at)) => self.allocate(at, now),
                    (None, None) => {}
                };
            }
            StreamEvent::Data(bytes) => {
                let heard = link.hear(&bytes);
                return match at {
                    Some(_) => self.attempt_heard(socket, &heard, now),
                    None => self.up_heard(socket, &heard, now),
                };
            }
            StreamEvent::Buffered(bytes) => return link.buffered = bytes,
            StreamEvent::Connected(Err(error)) => error.to_string(),
            StreamEvent::Finished => "the relay closed the connection".to_owned(),
            StreamEvent::Closed(error) => {
                error.map_or_else(|| "it broke".into(), |e| e.to_string())
            }
            StreamEvent::Accepted { .. } | _ => return,
        };
        match at {
            Some(at) => self.attempt_failed(at, &why, now),
            None => self.lost(&why, now),
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        match &self.stage {
            Stage::Asking(asking) if asking.due <= now => {
                self.web_failed("the web server does not answer".to_owned(), now);
            }
            Stage::Trying(_) => self.trying_timeout(now),
            Stage::Up(_) => self.up_timeout(now),
            Stage::Idle | Stage::Over | Stage::Asking(_) => {}
        }
    }

    /// Everybody is heard who knows the user name: there is nothing to permit.
    fn permit(&mut self, _: SocketAddr, _: Instant) {}

    fn send(&mut self, peer: SocketAddr, batch: Batch, _: Instant) {
        self.send_batch(peer, batch);
    }

    /// The protocol has no word for it: the allocation ends with its lifetime.
    fn close(&mut self, _: Instant) {
        self.stage = Stage::Over;
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match &self.stage {
            Stage::Idle | Stage::Over => None,
            Stage::Asking(asking) => Some(asking.due),
            Stage::Trying(trying) => {
                let attempts = trying.attempts.iter();
                let dues = attempts.flat_map(|attempt| {
                    let clock = attempt.question.as_ref().map(|q| q.clock.poll_timeout());
                    [attempt.due, clock]
                });
                dues.flatten().chain(trying.next_at).min()
            }
            Stage::Up(up) => Some(up.due()),
        }
    }

    fn poll_output(&mut self) -> Option<RelayOutput> {
        self.outputs.pop_front()
    }

    fn username(&self) -> Option<Arc<str>> {
        match &self.stage {
            Stage::Up(up) => Some(up.session.username.clone()),
            Stage::Idle | Stage::Asking(_) | Stage::Trying(_) | Stage::Over => None,
        }
    }
}

/// Without what opens the relay.
impl fmt::Debug for GoogleRelaySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match &self.stage {
            Stage::Idle => "Idle",
            Stage::Asking(_) => "Asking",
            Stage::Trying(_) => "Trying",
            Stage::Up(_) => "Up",
            Stage::Over => "Over",
        };
        f.debug_struct("GoogleRelaySource")
            .field("stage", &stage)
            .finish_non_exhaustive()
    }
}
