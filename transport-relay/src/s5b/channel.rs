//! The data plane: who reaches whom, which way is used, and then the stream.

use super::{
    BYTESTREAMS,
    attempts::{Attempt, Early},
    candidate::{Candidate, CandidateKind, Said, Word, is_usable},
    pipe::Pipe,
    plan::Plan,
    visitors::Visitors,
};
use bytes::Bytes;
use session_core::{
    BindKind, ChannelOutput, Datagram, Element, LocalSocket, Peer, RequestKind, Role, SendError,
    SocketError, StanzaError, StreamEvent, TransportChannel, TransportError,
};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long a candidate that we reached waits for a better one that we may still reach.
const GRACE: Duration = Duration::from_millis(400);
/// Numbers of sockets: listeners from 0, our proxy, the peer's candidates.
const PROXY: LocalSocket = LocalSocket(64);
const FIRST_ATTEMPT: u32 = 128;
/// How many numbers an attempt may use.
const STRIDE: u32 = 4;
/// The number of the request that activates the bytestream.
const ACTIVATION: u32 = 1;

enum Phase {
    /// Until both have said what they reached, and one is chosen.
    Choosing,
    /// Ours was chosen, and is a proxy: we connect to it.
    Connecting(Box<Attempt>),
    /// We are connected to it, and have asked it to begin.
    Activating(Box<Attempt>),
    /// The peer's proxy was chosen, and the peer asks it to begin.
    Awaiting(Box<Attempt>),
    Open(Pipe),
    /// With what was received before.
    Failed(Option<Pipe>),
}

pub(super) struct S5bChannel {
    plan: Plan,
    theirs: Option<Said>,
    started: bool,
    listening: Vec<LocalSocket>,
    visitors: Visitors,
    attempts: Option<Vec<Attempt>>,
    /// Since when one of them is ready.
    ready: Option<Instant>,
    our_word: Option<Word>,
    their_word: Option<Word>,
    /// What the peer says of its proxy.
    activated: Option<Arc<str>>,
    proxy_failed: bool,
    /// Until when the peer has to say its word.
    verdict: Option<Instant>,
    phase: Phase,
    paused: bool,
    finished: bool,
    outputs: VecDeque<ChannelOutput>,
}

impl S5bChannel {
    pub(super) fn new(plan: Plan, theirs: Option<Said>) -> Self {
        Self {
            plan,
            theirs,
            started: false,
            listening: Vec::new(),
            visitors: Visitors::default(),
            attempts: None,
            ready: None,
            our_word: None,
            their_word: None,
            activated: None,
            proxy_failed: false,
            verdict: None,
            phase: Phase::Choosing,
            paused: false,
            finished: false,
            outputs: VecDeque::new(),
        }
    }

    fn fail(&mut self, error: TransportError) {
        let before = std::mem::replace(&mut self.phase, Phase::Failed(None));
        self.phase = match before {
            Phase::Failed(pipe) => {
                self.phase = Phase::Failed(pipe);
                return;
            }
            Phase::Open(pipe) => Phase::Failed(Some(pipe)),
            Phase::Choosing | Phase::Connecting(_) | Phase::Activating(_) | Phase::Awaiting(_) => {
                Phase::Failed(None)
            }
        };
        self.verdict = None;
        self.outputs.push_back(ChannelOutput::Failed(error));
    }

    fn unreachable(&mut self, why: &str) {
        self.fail(TransportError::Unreachable(why.into()));
    }

    fn say(&mut self, word: &Word) {
        self.outputs
            .push_back(ChannelOutput::Info(word.to_element()));
    }

    /// Does all that can be done now.
    fn drive(&mut self, now: Instant) {
        if let Phase::Choosing = self.phase {
            self.begin(now);
            for attempt in self.attempts.iter_mut().flatten() {
                attempt.handle_timeout(now, &mut self.outputs);
            }
            self.visitors.handle_timeout(now, &mut self.outputs);
            self.judge(now);
            self.choose(now);
        }
        if let Phase::Connecting(attempt) = &mut self.phase {
            attempt.handle_timeout(now, &mut self.outputs);
            self.proxy_connected(now);
        }
        if self.verdict.is_some_and(|due| due <= now) {
            self.unreachable("the peer does not say what it reached");
        }
    }

    /// Connects to the peer's candidates, once they are known.
    fn begin(&mut self, now: Instant) {
        let Some(said) = self.theirs.as_ref().filter(|_| self.started) else {
            return;
        };
        if self.attempts.is_some() {
            return;
        }
        let loopback = self.plan.loopback();
        let mut usable: Vec<Candidate> = said.candidates.clone();
        usable.retain(|candidate| {
            is_usable(candidate.address, loopback) && self.plan.may_reach(candidate)
        });
        usable.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
        let config = &self.plan.config;
        let direct = self.plan.direct_destinations();
        let relayed = said
            .destination
            .or_else(|| self.plan.destination(&self.plan.remote, &self.plan.local));
        let mut start = now;
        let mut attempts: Vec<Attempt> = Vec::new();
        for (number, candidate) in usable.into_iter().enumerate() {
            let is_proxy = candidate.kind == CandidateKind::Proxy;
            if number > 0 {
                let first = is_proxy
                    && attempts
                        .iter()
                        .all(|a| a.candidate.kind != CandidateKind::Proxy);
                start += config.stagger;
                start += if first {
                    config.proxy_delay
                } else {
                    Duration::ZERO
                };
            }
            let destinations = if is_proxy {
                relayed.into_iter().collect()
            } else {
                direct.clone()
            };
            let socket = LocalSocket(FIRST_ATTEMPT + number as u32 * STRIDE);
            let attempt = Attempt::new(candidate, socket, destinations, start, config.attempt);
            attempts.push(attempt);
        }
        self.attempts = Some(attempts);
    }

    /// Says which of the peer's candidates we use, as soon as no better one can be had.
    fn judge(&mut self, now: Instant) {
        let Some(attempts) = self.attempts.as_mut().filter(|_| self.our_word.is_none()) else {
            return;
        };
        let ready = attempts.iter().position(Attempt::is_ready);
        // From the first one on, as long as there is one: what was ready may break.
        let since = self.ready.unwrap_or(now);
        self.ready = ready.map(|_| since);
        // What is no better than what the peer reached, or we did, is not worth the time.
        let floor = match &self.their_word {
            Some(Word::Used(cid)) => self.plan.own(cid).map(|c| c.priority),
            Some(Word::Error | Word::Activated(_) | Word::ProxyError) | None => None,
        };
        let floor = floor.max(ready.map(|at| attempts[at].candidate.priority));
        for attempt in attempts.iter_mut().filter(|a| a.is_pending()) {
            if floor.is_some_and(|floor| attempt.candidate.priority <= floor) {
                attempt.close(&mut self.outputs);
            }
        }
        let waits = attempts.iter().any(Attempt::is_pending);
        let patient = self.ready.is_none_or(|since| now < since + GRACE);
        if waits && patient {
            return;
        }
        let word = match ready {
            Some(at) => Word::Used(attempts[at].candidate.cid.clone()),
            None => Word::Error,
        };
        let used = ready.map(|at| attempts[at].socket());
        for attempt in attempts.iter_mut().filter(|a| Some(a.socket()) != used) {
            attempt.close(&mut self.outputs);
        }
        self.say(&word);
        self.our_word = Some(word);
        self.verdict = now.checked_add(self.plan.config.verdict);
    }

    /// XEP-0260 §2.4: both have spoken.
    fn choose(&mut self, now: Instant) {
        let (Some(ours), Some(theirs)) = (&self.our_word, &self.their_word) else {
            return;
        };
        let reached = match ours {
            Word::Used(cid) => self.attempt(cid).map(|a| a.candidate.clone()),
            Word::Error | Word::Activated(_) | Word::ProxyError => None,
        };
        let offered = match theirs {
            Word::Used(cid) => self.plan.own(cid).cloned(),
            Word::Error | Word::Activated(_) | Word::ProxyError => None,
        };
        match (reached, offered) {
            (None, None) => self.unreachable("neither side reached the other"),
            (Some(reached), None) => self.use_theirs(&reached, now),
            (None, Some(offered)) => self.use_ours(offered, now),
            (Some(reached), Some(offered)) => {
                let equal = reached.priority == offered.priority;
                let theirs = reached.priority > offered.priority
                    || equal && self.plan.role == Role::Initiator;
                if theirs {
                    self.use_theirs(&reached, now);
                } else {
                    self.use_ours(offered, now);
                }
            }
        }
    }

    fn attempt(&self, cid: &str) -> Option<&Attempt> {
        let mut attempts = self.attempts.iter().flatten();
        attempts.find(|a| *a.candidate.cid == *cid)
    }

    /// A candidate of the peer, to which we are connected.
    fn use_theirs(&mut self, candidate: &Candidate, now: Instant) {
        let attempts = self.attempts.get_or_insert_default();
        let at = attempts
            .iter()
            .position(|a| a.candidate.cid == candidate.cid && a.is_ready());
        let Some(attempt) = at.map(|at| attempts.swap_remove(at)) else {
            return self.unreachable("the connection that was chosen is gone");
        };
        self.visitors.close(&mut self.outputs);
        self.close_listeners();
        if candidate.kind == CandidateKind::Proxy {
            self.verdict = now.checked_add(self.plan.config.verdict);
            self.phase = Phase::Awaiting(Box::new(attempt));
            self.review_activation();
        } else {
            self.open_attempt(attempt);
        }
    }

    /// A candidate of ours, to which the peer is connected.
    fn use_ours(&mut self, candidate: Candidate, now: Instant) {
        for attempt in self.attempts.iter_mut().flatten() {
            attempt.close(&mut self.outputs);
        }
        self.close_listeners();
        if candidate.kind == CandidateKind::Proxy {
            self.visitors.close(&mut self.outputs);
            self.verdict = None;
            let destination = self.plan.own_destination();
            let time = self.plan.config.attempt;
            let mut attempt = Attempt::new(candidate, PROXY, destination, now, time);
            attempt.handle_timeout(now, &mut self.outputs);
            self.phase = Phase::Connecting(Box::new(attempt));
            return;
        }
        let Some((socket, early)) = self.visitors.take_guest() else {
            return self.unreachable("the peer says that it is connected, and is not");
        };
        self.visitors.close(&mut self.outputs);
        self.open(socket, early);
    }

    fn close_listeners(&mut self) {
        let listening = std::mem::take(&mut self.listening);
        self.outputs
            .extend(listening.into_iter().map(ChannelOutput::Close));
    }

    /// What became of our connection to our own proxy.
    fn proxy_connected(&mut self, now: Instant) {
        match std::mem::replace(&mut self.phase, Phase::Choosing) {
            Phase::Connecting(attempt) if attempt.is_ready() => {
                let activate = Element::new(BYTESTREAMS, "query")
                    .with_opt("sid", self.plan.sid.as_deref())
                    .child(Element::new(BYTESTREAMS, "activate").text(self.plan.remote.as_str()));
                self.outputs.push_back(ChannelOutput::Request {
                    token: ACTIVATION,
                    to: Some(attempt.candidate.jid.clone()),
                    payload: activate,
                    kind: RequestKind::Query,
                    patience: None,
                });
                self.verdict = now.checked_add(self.plan.config.verdict);
                self.phase = Phase::Activating(attempt);
            }
            Phase::Connecting(attempt) if !attempt.is_pending() => {
                self.proxy_broken("our proxy cannot be reached");
            }
            other @ (Phase::Choosing
            | Phase::Connecting(_)
            | Phase::Activating(_)
            | Phase::Awaiting(_)
            | Phase::Open(_)
            | Phase::Failed(_)) => self.phase = other,
        }
    }

    fn proxy_broken(&mut self, why: &str) {
        self.say(&Word::ProxyError);
        self.unreachable(why);
    }

    /// Whether the peer's proxy has begun.
    fn review_activation(&mut self) {
        match std::mem::replace(&mut self.phase, Phase::Choosing) {
            Phase::Awaiting(_) if self.proxy_failed => {
                self.unreachable("the peer's proxy does not work");
            }
            Phase::Awaiting(attempt) if !attempt.is_ready() => {
                self.proxy_broken("the peer's proxy hung up");
            }
            Phase::Awaiting(attempt) if self.activated == Some(attempt.candidate.cid.clone()) => {
                self.open_attempt(*attempt);
            }
            other @ (Phase::Choosing
            | Phase::Connecting(_)
            | Phase::Activating(_)
            | Phase::Awaiting(_)
            | Phase::Open(_)
            | Phase::Failed(_)) => self.phase = other,
        }
    }

    fn open_attempt(&mut self, attempt: Attempt) {
        let socket = attempt.socket();
        match attempt.into_early() {
            Some(early) => self.open(socket, early),
            None => self.unreachable("the connection that was chosen is gone"),
        }
    }

    fn open(&mut self, socket: LocalSocket, early: Early) {
        self.verdict = None;
        self.attempts = Some(Vec::new());
        let mut pipe = Pipe::new(socket, early.bytes, early.ended);
        self.outputs.push_back(ChannelOutput::Path(true));
        pipe.pause(self.paused, &mut self.outputs);
        if self.finished {
            pipe.finish(&mut self.outputs);
        }
        self.phase = Phase::Open(pipe);
    }

    /// Whether what the peer says can be, before anything of it counts.
    fn check_word(&self, word: &Word) -> Result<(), TransportError> {
        let wrong = |what| Err(TransportError::Unacceptable(what));
        match word {
            Word::Used(cid) if self.plan.own(cid).is_none() => wrong("no candidate has this cid"),
            Word::Used(_) | Word::Error
                if self.their_word.as_ref().is_some_and(|said| said != word) =>
            {
                wrong("the candidate was chosen already")
            }
            Word::Activated(cid) if !self.is_their_proxy(cid) => {
                wrong("no proxy was offered with this cid")
            }
            Word::Used(_) | Word::Error | Word::Activated(_) | Word::ProxyError => Ok(()),
        }
    }

    fn is_their_proxy(&self, cid: &str) -> bool {
        let candidates = self.theirs.iter().flat_map(|said| &said.candidates);
        let mut proxies = candidates.filter(|c| c.kind == CandidateKind::Proxy);
        proxies.any(|c| *c.cid == *cid)
    }

    fn hear(&mut self, word: Word) {
        match word {
            Word::Used(_) | Word::Error => self.their_word = Some(word),
            Word::Activated(cid) => self.activated = Some(cid),
            Word::ProxyError => self.proxy_failed = true,
        }
    }
}

impl TransportChannel for S5bChannel {
    fn handle_remote(&mut self, remote: &Peer) {
        self.plan.adopt(remote);
    }

    fn connect(&mut self, now: Instant) {
        self.started = true;
        for (number, ip) in self.plan.listen.iter().enumerate() {
            let socket = LocalSocket(number as u32);
            let address = SocketAddr::new(*ip, self.plan.port);
            let bind = ChannelOutput::Bind(socket, BindKind::TcpListener, address);
            self.outputs.push_back(bind);
        }
        self.drive(now);
    }

    fn handle_info(&mut self, info: &Element, now: Instant) -> Result<(), TransportError> {
        let said = Said::from_element(info)?;
        self.plan.check(&said)?;
        if matches!(self.phase, Phase::Open(_) | Phase::Failed(_)) {
            // It comes again, or too late.
            return Ok(());
        }
        said.words.iter().try_for_each(|w| self.check_word(w))?;
        if said.words.is_empty() {
            if self.plan.sid.is_none() {
                self.plan.sid = Some(said.sid.clone());
            }
            self.theirs.get_or_insert(said);
        } else {
            said.words.into_iter().for_each(|word| self.hear(word));
        }
        self.review_activation();
        self.drive(now);
        Ok(())
    }

    fn handle_bound(
        &mut self,
        socket: LocalSocket,
        address: Result<SocketAddr, SocketError>,
        _: Instant,
    ) {
        let ours = (socket.0 as usize) < self.plan.listen.len() && self.started;
        if !ours || address.is_err() || self.listening.contains(&socket) {
            // Without a listener our direct candidates lead nowhere; the peer's remain.
            return;
        }
        match self.phase {
            Phase::Choosing => self.listening.push(socket),
            Phase::Connecting(_) | Phase::Activating(_) | Phase::Awaiting(_) | Phase::Open(_) => {
                self.outputs.push_back(ChannelOutput::Close(socket))
            }
            Phase::Failed(_) => {}
        }
    }

    fn handle_datagram(&mut self, _: Datagram, _: Instant) {}

    fn handle_stream(&mut self, socket: LocalSocket, event: StreamEvent, now: Instant) {
        match &mut self.phase {
            Phase::Failed(_) => return,
            Phase::Open(pipe) if pipe.socket() == socket => {
                if pipe.handle(event, &mut self.outputs).is_err() {
                    self.fail(TransportError::Closed);
                }
                return;
            }
            Phase::Connecting(attempt) | Phase::Activating(attempt) | Phase::Awaiting(attempt)
                if attempt.socket() == socket =>
            {
                attempt.handle(event, &mut self.outputs);
                self.review_activation();
                self.proxy_connected(now);
                if let Phase::Activating(attempt) = &self.phase
                    && !attempt.is_ready()
                {
                    self.proxy_broken("our proxy hung up");
                }
                return;
            }
            Phase::Choosing
            | Phase::Connecting(_)
            | Phase::Activating(_)
            | Phase::Awaiting(_)
            | Phase::Open(_) => {}
        }
        match event {
            StreamEvent::Accepted { connection, .. } if self.listening.contains(&socket) => {
                self.visitors.accept(connection, now, &mut self.outputs);
            }
            StreamEvent::Accepted { connection, .. }
                if (socket.0 as usize) < self.plan.listen.len() =>
            {
                // The listener was closed meanwhile.
                self.outputs.push_back(ChannelOutput::Close(connection));
            }
            event @ (StreamEvent::Connected(_)
            | StreamEvent::Accepted { .. }
            | StreamEvent::Data(_)
            | StreamEvent::Buffered(_)
            | StreamEvent::Finished
            | StreamEvent::Closed(_)
            | _) => {
                let mut attempts = self.attempts.iter_mut().flatten();
                if let Some(attempt) = attempts.find(|a| a.socket() == socket) {
                    attempt.handle(event, &mut self.outputs);
                } else {
                    let accepts = self.plan.direct_destinations();
                    self.visitors
                        .handle(socket, event, &accepts, &mut self.outputs);
                }
            }
        }
        self.drive(now);
    }

    fn handle_response(
        &mut self,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
        _: Instant,
    ) {
        match std::mem::replace(&mut self.phase, Phase::Choosing) {
            Phase::Activating(attempt) if token == ACTIVATION => match response {
                Ok(_) => {
                    self.say(&Word::Activated(attempt.candidate.cid.clone()));
                    self.open_attempt(*attempt);
                }
                Err(error) => {
                    self.proxy_broken(&format!("our proxy does not begin: {error}"));
                }
            },
            other @ (Phase::Choosing
            | Phase::Connecting(_)
            | Phase::Activating(_)
            | Phase::Awaiting(_)
            | Phase::Open(_)
            | Phase::Failed(_)) => self.phase = other,
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.drive(now);
    }

    fn send(&mut self, packet: Bytes, _: Instant) -> Result<(), SendError> {
        match &mut self.phase {
            Phase::Open(pipe) => pipe.send(packet, &mut self.outputs),
            Phase::Failed(_) => Err(SendError::NoSuchChannel),
            Phase::Choosing | Phase::Connecting(_) | Phase::Activating(_) | Phase::Awaiting(_) => {
                Err(SendError::NotWritable)
            }
        }
    }

    fn pause(&mut self, paused: bool, _: Instant) {
        self.paused = paused;
        match &mut self.phase {
            Phase::Open(pipe) => pipe.pause(paused, &mut self.outputs),
            Phase::Failed(Some(pipe)) if !paused => pipe.rest(&mut self.outputs),
            Phase::Choosing
            | Phase::Connecting(_)
            | Phase::Activating(_)
            | Phase::Awaiting(_)
            | Phase::Failed(_) => {}
        }
    }

    fn finish(&mut self, _: Instant) {
        self.finished = true;
        if let Phase::Open(pipe) = &mut self.phase {
            pipe.finish(&mut self.outputs);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let attempts = self.attempts.iter().flatten();
        let times = match &self.phase {
            Phase::Choosing => {
                let grace = self.ready.filter(|_| self.our_word.is_none());
                let attempts = attempts.filter_map(Attempt::timeout).min();
                [
                    attempts,
                    self.visitors.timeout(),
                    grace.map(|at| at + GRACE),
                ]
            }
            Phase::Connecting(attempt) => [attempt.timeout(), None, None],
            Phase::Activating(_) | Phase::Awaiting(_) | Phase::Open(_) | Phase::Failed(_) => {
                [None; 3]
            }
        };
        times.into_iter().chain([self.verdict]).flatten().min()
    }

    fn poll_output(&mut self) -> Option<ChannelOutput> {
        self.outputs.pop_front()
    }

    fn describe(&self) -> Option<String> {
        match &self.phase {
            Phase::Open(_) => Some(self.describe_path()),
            Phase::Choosing
            | Phase::Connecting(_)
            | Phase::Activating(_)
            | Phase::Awaiting(_)
            | Phase::Failed(_) => None,
        }
    }
}

impl S5bChannel {
    fn describe_path(&self) -> String {
        let (ours, theirs) = (self.our_word.as_ref(), self.their_word.as_ref());
        let used = |word: Option<&Word>, of: &[Candidate]| match word {
            Some(Word::Used(cid)) => of.iter().find(|c| c.cid == *cid).cloned(),
            Some(Word::Error | Word::Activated(_) | Word::ProxyError) | None => None,
        };
        let theirs_offered = self.theirs.as_ref().map(|s| &*s.candidates);
        let reached = used(ours, theirs_offered.unwrap_or_default());
        let offered = used(theirs, &self.plan.candidates);
        let best = reached
            .into_iter()
            .chain(offered)
            .max_by_key(|c| c.priority);
        match best {
            Some(best) => format!("SOCKS5, {} at {}", best.kind.as_str(), best.address),
            None => "SOCKS5".into(),
        }
    }
}
