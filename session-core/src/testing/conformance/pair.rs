//! Two instances of a transport, and everything between them: what the session, the driver and the network would be.

mod outputs;
mod report;

use super::{Breach, Conformance, pattern::Pattern};
use crate::LayeredTransport;
use crate::testing::{
    epoch,
    netem::{Agenda, Conditions},
    network::{Delivery, Network, SocketKey},
};
use crate::{
    BindKind, Datagram, Element, InfoTarget, LocalSocket, Peer, PeerError, RequestAnswer, Role,
    SendError, SocketError, StanzaError, StreamEvent, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory,
};
use bytes::Bytes;
use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    task::Waker,
    time::{Duration, Instant},
};

/// More outputs of one call than this are endless.
const OUTPUTS_MAX: usize = 100_000;
/// How often a timer may want to be handled again at the same instant.
const REPEATS_MAX: u32 = 16;
/// How many lines of what happened are kept for the report.
const TRACE_LINES: usize = 30;

/// A stranger's number among the hosts, beside the two ends.
pub(super) const STRANGER: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) end: usize,
    pub(super) channel: usize,
    pub(super) socket: LocalSocket,
}

impl SocketKey for Key {
    fn accepted(self, connection: LocalSocket) -> Self {
        Self {
            socket: connection,
            ..self
        }
    }
}

/// What a scenario begins with.
pub(super) struct Setup<'a> {
    pub(super) factory: &'a Arc<dyn TransportFactory>,
    pub(super) options: &'a Conformance,
    pub(super) seed: u64,
    pub(super) conditions: Conditions,
}

pub(super) struct Pair {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) ends: [End; 2],
    pub(super) network: Network<Key>,
    pub(super) wire_delay: Duration,
    /// Every info arrives so often.
    pub(super) copies: usize,
    /// How often a timer was handled.
    pub(super) timeouts: u64,
    pub(super) transmits: u64,
    /// While it is there, datagrams are copied to it: where to, where from, what.
    pub(super) tap: Option<Vec<(SocketAddr, SocketAddr, Bytes)>>,
    wire: Agenda<Signalling>,
    /// Requests that are answered later: end, channel, its number for it, and who waits.
    deferred: Vec<(usize, usize, u32, Asker)>,
    breach: Option<Breach>,
    trace: VecDeque<String>,
    /// Grows with everything that either end wants: equal runs have equal digests.
    pub(super) digest: u64,
}

pub(super) struct End {
    pub(super) transport: Box<dyn Transport>,
    context: TransportContext,
    pub(super) channels: Vec<Channel>,
    /// For channels that do not exist yet.
    early: Vec<(InfoTarget, Element)>,
    /// The infos that this end sent, wrapped.
    pub(super) sent: Vec<Element>,
}

pub(super) struct Channel {
    pub(super) name: Arc<str>,
    pub(super) inner: Box<dyn TransportChannel>,
    pub(super) packets: Vec<Bytes>,
    /// Set by a scenario that checks a stream as it arrives, instead of keeping it.
    pub(super) expected: Option<Pattern>,
    pub(super) writable: bool,
    pub(super) writable_told: u32,
    pub(super) path: Option<bool>,
    pub(super) finished: u32,
    /// How many bytes were sent when it was finished.
    pub(super) finished_at: Option<u64>,
    pub(super) delivered: u32,
    pub(super) failed: Option<TransportError>,
    pub(super) paused: bool,
    /// Infos that were refused.
    pub(super) refused: Vec<TransportError>,
    pub(super) sockets: BTreeMap<LocalSocket, SocketState>,
    pub(super) asked_for_sockets: bool,
    repeats: (Instant, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SocketState {
    Wanted,
    Open,
    Closed,
}

/// Who asked, and under which number the answer is awaited, if it is.
#[derive(Clone, Copy, Debug)]
struct Asker {
    end: usize,
    channel: usize,
    token: Option<u32>,
}

enum Signalling {
    Info {
        to: usize,
        info: Element,
    },
    Request {
        asker: Asker,
        to: Option<Peer>,
        payload: Element,
    },
    Response {
        to: usize,
        channel: usize,
        token: u32,
        response: Result<Option<Element>, StanzaError>,
    },
}

/// The two ends of a fresh pair, not yet negotiated.
impl Pair {
    pub(super) fn new(setup: &Setup<'_>) -> Self {
        let start = epoch();
        let end = |role| {
            let context = context(setup, role);
            let mut transport = setup.factory.create(&context);
            if let Some(layer) = &setup.options.layer {
                transport = Box::new(LayeredTransport::new(transport, layer, &context));
            }
            End {
                transport,
                context,
                channels: Vec::new(),
                early: Vec::new(),
                sent: Vec::new(),
            }
        };
        Self {
            now: start,
            start,
            ends: [end(Role::Initiator), end(Role::Responder)],
            network: Network::new(setup.conditions.clone(), setup.seed),
            wire_delay: Duration::from_millis(50),
            copies: 1,
            timeouts: 0,
            transmits: 0,
            tap: None,
            wire: Agenda::default(),
            deferred: Vec::new(),
            breach: None,
            trace: VecDeque::new(),
            digest: 0xcbf2_9ce4_8422_2325,
        }
    }

    /// Negotiates and connects one channel on both ends, in the usual order.
    pub(super) fn connected(setup: &Setup<'_>) -> Result<Self, Breach> {
        let mut pair = Self::new(setup);
        pair.establish(setup.options.connect_within)?;
        Ok(pair)
    }

    /// What [`connected`](Self::connected) does, on a pair that was prepared.
    pub(super) fn establish(&mut self, within: Duration) -> Result<(), Breach> {
        self.create_channel(0, "data")?;
        self.connect(0, 0);
        let offer = self.ends[0].transport.offer();
        let answer = self.accept_offer(&offer)?;
        self.create_channel(1, "data")?;
        self.connect(1, 0);
        self.run_for(self.wire_delay)?;
        self.accept_answer(&answer)?;
        self.await_writable(within)
    }

    /// What the responder does with an offer; the `Ok` value is its answer.
    pub(super) fn accept_offer(&mut self, offer: &Element) -> Result<Element, Breach> {
        self.note(|| format!("B <- offer {offer:?}"));
        let answer = self.ends[1]
            .transport
            .accept_offer(offer)
            .map_err(|error| {
                Breach::new(
                    "offer",
                    format!("its own offer {offer:?} was refused: {error}"),
                )
            })?;
        self.handle_info(1, offer);
        Ok(answer)
    }

    pub(super) fn accept_answer(&mut self, answer: &Element) -> Result<(), Breach> {
        self.note(|| format!("A <- answer {answer:?}"));
        self.ends[0]
            .transport
            .accept_answer(answer)
            .map_err(|error| {
                Breach::new(
                    "answer",
                    format!("its own answer {answer:?} was refused: {error}"),
                )
            })?;
        self.handle_info(0, answer);
        self.check()
    }

    pub(super) fn create_channel(&mut self, end: usize, name: &str) -> Result<usize, Breach> {
        self.try_create_channel(end, name).map_err(|error| {
            Breach::new("channel", format!("no room for channel {name:?}: {error}"))
        })
    }

    pub(super) fn try_create_channel(
        &mut self,
        end: usize,
        name: &str,
    ) -> Result<usize, TransportError> {
        let side = &mut self.ends[end];
        let inner = side.transport.create_channel(name)?;
        side.channels.push(Channel {
            name: name.into(),
            inner,
            packets: Vec::new(),
            expected: None,
            writable: false,
            writable_told: 0,
            path: None,
            finished: 0,
            finished_at: None,
            delivered: 0,
            failed: None,
            paused: false,
            refused: Vec::new(),
            sockets: BTreeMap::new(),
            asked_for_sockets: false,
            repeats: (self.start, 0),
        });
        let index = side.channels.len() - 1;
        let early = std::mem::take(&mut side.early);
        self.drain(end, index);
        for (target, info) in early {
            self.info_to_target(end, target, &info);
        }
        Ok(index)
    }

    pub(super) fn connect(&mut self, end: usize, channel: usize) {
        self.note(|| format!("{} connect", Self::title(end)));
        let now = self.now;
        self.ends[end].channels[channel].inner.connect(now);
        self.drain(end, channel);
    }

    pub(super) fn send(
        &mut self,
        end: usize,
        channel: usize,
        packet: Bytes,
    ) -> Result<(), SendError> {
        let now = self.now;
        let result = self.ends[end].channels[channel].inner.send(packet, now);
        self.drain(end, channel);
        result
    }

    pub(super) fn pause(&mut self, end: usize, channel: usize, paused: bool) {
        self.note(|| format!("{} pause({paused})", Self::title(end)));
        let now = self.now;
        self.ends[end].channels[channel].paused = paused;
        self.ends[end].channels[channel].inner.pause(paused, now);
        self.drain(end, channel);
    }

    /// The end of a stream of which `sent` bytes were sent in all.
    pub(super) fn finish(&mut self, end: usize, channel: usize, sent: u64) {
        self.note(|| format!("{} finish", Self::title(end)));
        let now = self.now;
        self.ends[end].channels[channel].finished_at = Some(sent);
        self.ends[end].channels[channel].inner.finish(now);
        self.drain(end, channel);
    }

    /// A call of the scenario's own on a channel, as a session or driver may make it.
    pub(super) fn with_channel<R>(
        &mut self,
        end: usize,
        channel: usize,
        call: impl FnOnce(&mut dyn TransportChannel, Instant) -> R,
    ) -> R {
        let now = self.now;
        let result = call(&mut *self.ends[end].channels[channel].inner, now);
        self.drain(end, channel);
        result
    }
}

/// The clock.
impl Pair {
    pub(super) fn run_for(&mut self, duration: Duration) -> Result<(), Breach> {
        let until = self.now + duration;
        while self.next_event().is_some_and(|at| at <= until) {
            self.step()?;
        }
        self.now = until;
        self.check()
    }

    /// Whether `done` came true within the time.
    pub(super) fn run_until(
        &mut self,
        within: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Result<bool, Breach> {
        let until = self.now + within;
        loop {
            if done(self) {
                return Ok(true);
            }
            if self.next_event().is_none_or(|at| at > until) {
                self.now = until;
                return Ok(false);
            }
            self.step()?;
        }
    }

    pub(super) fn await_writable(&mut self, within: Duration) -> Result<(), Breach> {
        let writable =
            |pair: &Self| (0..2).all(|end| pair.ends[end].channels.iter().all(|c| c.writable));
        if self.run_until(within, writable)? {
            return Ok(());
        }
        let states: Vec<_> = self
            .ends
            .iter()
            .flat_map(|end| end.channels.iter().map(Channel::summary))
            .collect();
        Err(Breach::new(
            "connect",
            format!("not writable on both ends within {within:?}: {states:?}"),
        ))
    }

    /// Handles everything that is due next.
    pub(super) fn step(&mut self) -> Result<(), Breach> {
        if let Some(at) = self.next_event() {
            self.now = self.now.max(at);
        }
        while let Some(signalling) = self.wire.pop(self.now) {
            self.handle_signalling(signalling);
        }
        while let Some((key, delivery)) = self.network.poll_output(self.now) {
            self.handle_delivery(key, delivery);
        }
        for end in 0..2 {
            for channel in 0..self.ends[end].channels.len() {
                self.handle_timeout(end, channel);
            }
        }
        self.check()
    }

    pub(super) fn next_event(&self) -> Option<Instant> {
        self.ends
            .iter()
            .flat_map(|end| &end.channels)
            .filter(|channel| channel.failed.is_none())
            .filter_map(|channel| channel.inner.poll_timeout())
            .chain(self.network.poll_timeout())
            .chain(self.wire.next())
            .min()
    }

    /// What went wrong while nobody looked.
    pub(super) fn check(&mut self) -> Result<(), Breach> {
        self.breach.take().map_or(Ok(()), Err)
    }

    fn handle_timeout(&mut self, end: usize, channel: usize) {
        let now = self.now;
        let this = &mut self.ends[end].channels[channel];
        if this.failed.is_some() || this.inner.poll_timeout().is_none_or(|at| at > now) {
            return;
        }
        this.inner.handle_timeout(now);
        self.timeouts += 1;
        self.drain(end, channel);
        let this = &mut self.ends[end].channels[channel];
        let due = this.inner.poll_timeout().is_some_and(|at| at <= now);
        this.repeats = match this.repeats {
            (at, count) if at == now => (at, count + 1),
            _ => (now, 1),
        };
        if due && this.failed.is_none() && this.repeats.1 > REPEATS_MAX {
            self.breach(
                "timers",
                "after handle_timeout(now), poll_timeout still says now or earlier".into(),
            );
        }
    }
}

/// What arrives.
impl Pair {
    /// A `<transport/>` arrives at an end: as transport-info, or with an offer or answer.
    pub(super) fn handle_info(&mut self, end: usize, info: &Element) {
        match self.ends[end].transport.split_info(info) {
            Ok(parts) => {
                for (target, part) in parts {
                    self.info_to_target(end, target, &part);
                }
            }
            Err(error) => {
                self.note(|| format!("{} refuses {info:?}: {error}", Self::title(end)));
                if let Some(channel) = self.ends[end].channels.first_mut() {
                    channel.refused.push(error);
                }
            }
        }
    }

    /// What is for nobody who is there is kept, as a session does.
    fn info_to_target(&mut self, end: usize, target: InfoTarget, info: &Element) {
        let side = &mut self.ends[end];
        let meant = |channel: &Channel| match &target {
            InfoTarget::Channel(name) => channel.name == *name,
            InfoTarget::All => true,
        };
        let channels = side.channels.iter().enumerate();
        let found: Vec<_> = channels
            .filter(|(_, c)| meant(c))
            .map(|(at, _)| at)
            .collect();
        if found.is_empty() {
            side.early.push((target, info.clone()));
        }
        for channel in found {
            self.info_to(end, channel, info);
        }
    }

    fn info_to(&mut self, end: usize, channel: usize, info: &Element) {
        if self.ends[end].channels[channel].failed.is_some() {
            return;
        }
        self.note(|| format!("{} <- info {info:?}", Self::title(end)));
        let now = self.now;
        let this = &mut self.ends[end].channels[channel];
        let timeout = this.inner.poll_timeout();
        if let Err(error) = this.inner.handle_info(info, now) {
            let output = this.inner.poll_output();
            let moved = this.inner.poll_timeout() != timeout;
            this.refused.push(error.clone());
            if let Some(output) = output {
                self.breach(
                    "refused-info",
                    format!("refused {info:?} ({error}), and yet it caused {output:?}"),
                );
            } else if moved {
                self.breach(
                    "refused-info",
                    format!("refused {info:?} ({error}), and yet it moved the timer"),
                );
            }
        }
        self.drain(end, channel);
    }

    fn handle_signalling(&mut self, signalling: Signalling) {
        match signalling {
            Signalling::Info { to, info } => self.handle_info(to, &info),
            Signalling::Request { asker, to, payload } => self.handle_request(asker, to, &payload),
            Signalling::Response {
                to,
                channel,
                token,
                response,
            } => {
                self.with_channel(to, channel, |inner, now| {
                    inner.handle_response(token, response, now);
                });
            }
        }
    }

    fn handle_request(&mut self, asker: Asker, to: Option<Peer>, payload: &Element) {
        let end = 1 - asker.end;
        let from = self.ends[asker.end].context.local.clone();
        let mut answer = None;
        if to.is_none_or(|to| to == self.ends[end].context.local) {
            let now = self.now;
            for channel in 0..self.ends[end].channels.len() {
                let inner = &mut self.ends[end].channels[channel].inner;
                answer = inner.handle_request(&from, payload, now);
                if let Some(RequestAnswer::Later(token)) = answer {
                    // Known before the outputs are looked at: the answer may be among them.
                    self.deferred.push((end, channel, token, asker));
                }
                self.drain(end, channel);
                if answer.is_some() {
                    break;
                }
            }
        }
        match answer {
            Some(RequestAnswer::Now(answer)) => self.respond(asker, answer),
            Some(RequestAnswer::Later(_)) => {}
            None => {
                let error = PeerError::Stanza(Box::new(unavailable()));
                self.respond(asker, Err(error));
            }
        }
    }

    fn answer_later(
        &mut self,
        end: usize,
        channel: usize,
        token: u32,
        answer: Result<Option<Element>, PeerError>,
    ) {
        let known = |d: &(usize, usize, u32, Asker)| (d.0, d.1, d.2) == (end, channel, token);
        match self.deferred.iter().position(known) {
            Some(at) => {
                let asker = self.deferred.remove(at).3;
                self.respond(asker, answer);
            }
            None => {
                let what = format!("an answer to {token}, which nobody waits for");
                self.breach("unknown", what);
            }
        }
    }

    fn respond(&mut self, asker: Asker, answer: Result<Option<Element>, PeerError>) {
        let Some(token) = asker.token else {
            return;
        };
        let dialect = self.ends[asker.end].context.dialect;
        let back = Signalling::Response {
            to: asker.end,
            channel: asker.channel,
            token,
            response: answer.map_err(|error| error.to_stanza_error(dialect)),
        };
        self.wire.push(self.now + self.wire_delay, back);
    }

    fn handle_delivery(&mut self, key: Key, delivery: Delivery) {
        if key.end == STRANGER {
            return;
        }
        let now = self.now;
        let name = Self::title(key.end);
        let socket = key.socket;
        self.note(|| format!("{name} <- socket {} {}", socket.0, summary(&delivery)));
        let this = &mut self.ends[key.end].channels[key.channel];
        match delivery {
            Delivery::Bound(address) => {
                let state = if address.is_ok() {
                    SocketState::Open
                } else {
                    SocketState::Closed
                };
                this.sockets.insert(socket, state);
                this.inner.handle_bound(socket, address, now);
            }
            Delivery::Stream(event) => {
                match &event {
                    StreamEvent::Connected(Ok(_)) => {
                        this.sockets.insert(socket, SocketState::Open);
                    }
                    StreamEvent::Connected(Err(_)) => {
                        this.sockets.insert(socket, SocketState::Closed);
                    }
                    StreamEvent::Accepted { connection, .. } => {
                        this.sockets.insert(*connection, SocketState::Open);
                    }
                    StreamEvent::Data(_)
                    | StreamEvent::Buffered(_)
                    | StreamEvent::Finished
                    | StreamEvent::Closed(_) => {}
                }
                this.inner.handle_stream(socket, event, now);
            }
            Delivery::Found(finding) => this.inner.handle_finding(socket.0, finding, now),
            Delivery::Datagram {
                source,
                payload,
                segment_size,
            } => this.inner.handle_datagram(
                Datagram {
                    socket,
                    source,
                    payload,
                    segment_size,
                },
                now,
            ),
        }
        self.drain(key.end, key.channel);
    }
}

/// Addresses.
impl Pair {
    /// Where datagrams for an end's channel go.
    pub(super) fn udp_addresses(&self, end: usize) -> Vec<SocketAddr> {
        self.network
            .sockets()
            .filter(|key| key.end == end)
            .filter_map(|key| self.network.reached_at(key))
            .collect()
    }

    /// A stranger's own socket.
    pub(super) fn stranger(&mut self, number: u32, kind: BindKind) -> Key {
        let key = Key {
            end: STRANGER,
            channel: 0,
            socket: LocalSocket(number),
        };
        let any = SocketAddr::from(([0, 0, 0, 0], 0));
        self.network.bind(STRANGER, key, kind, any, self.now);
        key
    }
}

fn context(setup: &Setup<'_>, role: Role) -> TransportContext {
    let [alice, bob] = ["alice@a.example/1", "bob@b.example/2"].map(Peer::from);
    let (local, remote, salt) = match role {
        Role::Initiator => (alice, bob, 1),
        Role::Responder => (bob, alice, 2),
    };
    let mut seed = [salt; 32];
    seed[..8].copy_from_slice(&(setup.seed * 2 + u64::from(salt)).to_le_bytes());
    TransportContext {
        role,
        local,
        remote,
        sid: "conformance".into(),
        content: "main".into(),
        dialect: setup.options.dialect,
        seed,
        waker: Waker::noop().clone(),
    }
}

fn summary(delivery: &Delivery) -> String {
    match delivery {
        Delivery::Datagram {
            source, payload, ..
        } => format!("datagram of {} bytes from {source}", payload.len()),
        Delivery::Stream(StreamEvent::Data(bytes)) => format!("{} bytes", bytes.len()),
        Delivery::Bound(_) | Delivery::Stream(_) | Delivery::Found(_) => format!("{delivery:?}"),
    }
}

fn unavailable() -> StanzaError {
    StanzaError::new(
        crate::Condition::ServiceUnavailable,
        crate::ErrorKind::Cancel,
    )
}

/// A socket error as a test makes it.
pub(super) fn socket_error() -> SocketError {
    SocketError {
        what: "bind",
        why: "refused by the test".into(),
    }
}
