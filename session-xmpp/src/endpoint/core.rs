//! What an endpoint's lock protects: the manager, and the hands that do what it wants.

use super::{
    LinkState, Observer, Options, QueryKind, Service, Shared, codec,
    link::{Link, LinkError, LinkEvent},
    queries::{Answer, Queries},
    requests::{Asked, Requests},
    sockets::Sockets,
    stats::Counters,
};
use crate::stanza::{Envelope, Incoming, Reply, Request};
use bytes::Bytes;
use session_core::{
    Condition, Dialect, Element, ElementLimits, ElementRef, ErrorKind, Input, Message, Output,
    Peer, Reason, ReasonCondition, RequestId, RequestKind, SessionManager, Signal, StanzaError,
    StreamEvent,
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    hash::{BuildHasher, RandomState},
    ops::ControlFlow,
    sync::Arc,
    task::{Context, Poll, Wake},
    time::{Duration, Instant},
};
use tokio::sync::{mpsc, oneshot};
use tracing::{debug, trace};

/// Addresses of the past that are remembered. Past it, what is still to be said under the oldest goes out.
const FORMER_MAX: usize = 16;
/// How many stanzas wait for a link that is full. Past it requests are refused and answers are lost.
const BACKLOG_MAX: usize = 1_024;

/// When a link that was full is tried again: it has no word for having room.
const BACKLOG_RETRY: Duration = Duration::from_millis(10);

/// What became of a stanza.
enum Sent {
    Gone,
    Waits,
}

pub(super) struct Core {
    pub(super) manager: SessionManager,
    pub(super) sockets: Sockets,
    /// When the manager wants to be called.
    pub(super) deadline: Option<Instant>,
    /// When the driver's task will wake up by itself.
    pub(super) armed: Option<Instant>,
    pub(super) link_signal: Signal<LinkState>,
    link: Option<Box<dyn Link>>,
    requests: Requests,
    queries: Queries,
    /// The address that the link was last up under.
    address: Option<Peer>,
    /// Addresses that were ours on this link and are not any more, the latest last.
    former: VecDeque<Peer>,
    service: Option<Box<dyn Service>>,
    observer: Option<Box<dyn Observer>>,
    limits: ElementLimits,
    /// What a link that was full did not take, in order, and whose leaving is to be told.
    backlog: VecDeque<(Bytes, Option<RequestId>)>,
    counters: Arc<Counters>,
    connections: Option<mpsc::Receiver<Infallible>>,
}

impl Core {
    pub(super) fn new(
        manager: SessionManager,
        link: Box<dyn Link>,
        options: Options,
        counters: Arc<Counters>,
    ) -> Self {
        // Fresh for each run, and nobody's secret.
        let nonce = RandomState::new().hash_one("an endpoint's requests") >> 32;
        let (sockets, connections) = Sockets::new();
        let mut link_signal = Signal::new();
        link_signal.emit(LinkState::Down("not yet up".into()));
        Self {
            manager,
            sockets,
            deadline: None,
            armed: None,
            link_signal,
            link: Some(link),
            requests: Requests::new(nonce),
            queries: Queries::new(nonce),
            address: None,
            former: VecDeque::new(),
            service: options.service,
            observer: options.observer,
            limits: options.stanza_limits,
            backlog: VecDeque::new(),
            counters,
            connections: Some(connections),
        }
    }

    pub(super) fn link_state(&self) -> LinkState {
        self.link_signal.last().cloned().unwrap_or(LinkState::Ended)
    }

    /// Tells the manager, and does what it wants.
    pub(super) fn input(&mut self, shared: &Arc<Shared>, input: Input) {
        let now = Instant::now();
        self.observe_input(&input);
        self.manager.handle_input(input, now);
        self.drain(shared, now);
    }

    fn observe_input(&mut self, input: &Input) {
        if let Some(observer) = &mut self.observer {
            let is_data = matches!(input, Input::Datagram { .. })
                || matches!(
                    input,
                    Input::Stream {
                        event: StreamEvent::Data(_) | StreamEvent::Buffered(_),
                        ..
                    }
                );
            if !is_data {
                observer.input(input);
            }
        }
    }

    /// Does what the manager wants, until it wants nothing more.
    pub(super) fn drain(&mut self, shared: &Arc<Shared>, now: Instant) {
        let retry = self.flush_backlog(now);
        let deadline = loop {
            let output = self.manager.poll_output(now);
            if let ControlFlow::Break(deadline) = self.carry_out(output, Some(shared), now) {
                break deadline;
            }
        };
        let waits = || {
            now.checked_add(BACKLOG_RETRY)
                .filter(|_| !self.backlog.is_empty())
        };
        let deadline = deadline.into_iter().chain(retry.or_else(waits)).min();
        self.deadline = deadline;
        if let Some(observer) = &mut self.observer {
            observer.drained(&self.manager, now);
        }
        let is_earlier = match (deadline, self.armed) {
            (Some(deadline), Some(armed)) => deadline < armed,
            (Some(_), None) => true,
            (None, _) => false,
        };
        if is_earlier {
            shared.bell.wake_by_ref();
        }
    }

    /// The last handle is gone: what can still be said without waiting, is.
    pub(super) fn abandon(&mut self, now: Instant) {
        if self.link.is_none() && self.connections.is_none() {
            return;
        }
        let reason = Reason::new(ReasonCondition::Gone);
        self.manager.terminate_all(reason, now);
        loop {
            let output = self.manager.poll_output(now);
            if self.carry_out(output, None, now).is_break() {
                return;
            }
        }
    }

    /// Lets go of the world: the link, and what ends when the last connection has sent its last byte.
    pub(super) fn close(
        &mut self,
        shared: &Arc<Shared>,
    ) -> (Option<Box<dyn Link>>, Option<mpsc::Receiver<Infallible>>) {
        self.input(shared, Input::Link(false));
        let (sockets, _) = Sockets::new();
        self.sockets = sockets;
        if self.link_state() != LinkState::Ended {
            self.link_signal.emit(LinkState::Ended);
        }
        (self.link.take(), self.connections.take())
    }

    /// Whether requests sent since then await their answers.
    pub(super) fn awaits_answers_since(&self, instant: Instant) -> bool {
        self.requests.sent_since(instant)
    }

    /// Sends a query of the application.
    pub(super) fn query(
        &mut self,
        kind: QueryKind,
        to: Peer,
        payload: &Element,
    ) -> Result<oneshot::Receiver<Answer>, StanzaError> {
        let (id, answer) = self.queries.open(to.clone())?;
        let bytes = codec::request(&id, kind, None, &to, payload);
        let bytes = bytes.map_err(|error| unsayable(&error))?;
        match self.send(bytes) {
            Ok(()) | Err(LinkError::Down) => Ok(answer),
            Err(LinkError::Full) => Err(congested()),
        }
    }

    /// Gives a stanza to the link.
    pub(super) fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        trace!(stanza = %stanza.escape_ascii(), "sent");
        let link = self.link.as_mut().ok_or(LinkError::Down);
        let sent = link.and_then(|link| link.send(stanza));
        if let Err(error) = sent {
            debug!(%error, "a stanza was not sent");
            self.counters.stanzas_unsent.add(1);
        }
        sent
    }

    /// Handles the link's next event, if there is one.
    pub(super) fn poll_link(&mut self, shared: &Arc<Shared>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(link) = &mut self.link else {
            return Poll::Pending;
        };
        let Poll::Ready(event) = link.poll_event(cx) else {
            return Poll::Pending;
        };
        match event {
            Some(LinkEvent::Stanza(stanza)) => self.stanza(shared, &stanza),
            Some(LinkEvent::Up(address)) => {
                debug!(%address, "the link is up");
                self.moved(&address);
                self.link_signal.emit(LinkState::Up(address));
                self.input(shared, Input::Link(true));
                shared.bell.progress.notify_waiters();
            }
            Some(LinkEvent::Down(why)) => {
                debug!(%why, "the link is down");
                self.link_signal.emit(LinkState::Down(why));
                self.input(shared, Input::Link(false));
            }
            Some(LinkEvent::Suspended) => self.input(shared, Input::Interrupted(true)),
            Some(LinkEvent::Resumed) => self.input(shared, Input::Interrupted(false)),
            None => {
                debug!("the link has ended");
                self.link = None;
                self.link_signal.emit(LinkState::Ended);
                self.input(shared, Input::Link(false));
                shared.bell.progress.notify_waiters();
            }
        }
        Poll::Ready(())
    }

    /// The link is up under this address. Sessions of another one are over: their peers would not know us, and a server
    /// may end the stream of whoever speaks in a name that is not his (RFC 6120 §8.1.2.1).
    fn moved(&mut self, address: &Peer) {
        let former = self.address.replace(address.clone());
        self.former.retain(|former| former != address);
        let Some(former) = former.filter(|former| former != address) else {
            return;
        };
        let now = Instant::now();
        for id in self.manager.session_ids() {
            let session = self.manager.peek(id);
            if session.is_some_and(|session| *session.name() == former) {
                self.manager.destroy_session(id, now);
            }
        }
        if self.former.len() == FORMER_MAX {
            self.former.pop_front();
        }
        self.former.push_back(former);
    }

    /// A stanza arrived.
    fn stanza(&mut self, shared: &Arc<Shared>, bytes: &Bytes) {
        trace!(stanza = %bytes.escape_ascii(), "received");
        let own = match self.link_signal.last() {
            Some(LinkState::Up(address)) => address.clone(),
            Some(LinkState::Down(_) | LinkState::Ended) | None => Peer::from(""),
        };
        let incoming = match codec::read(bytes, &own, &self.limits) {
            Ok(incoming) => incoming,
            Err(error) => {
                debug!(%error, "a stanza is no XML");
                self.counters.stanzas_malformed.add(1);
                if let Some(answer) = codec::refusal(bytes) {
                    // A link that does not take it has counted it.
                    let _ = self.send(answer);
                }
                return;
            }
        };
        match incoming {
            Incoming::Message { request, message } => {
                let dialect = message.dialect;
                let now = Instant::now();
                let service = self.service.as_mut();
                if let Some(Err(error)) = service.map(|service| service.admit(&message, now)) {
                    return self.reply(&request, dialect, &Err(error));
                }
                self.request(shared, request, dialect, |id| Input::Message {
                    id,
                    message,
                });
            }
            Incoming::Request(request) => self.other_request(shared, request),
            Incoming::Refused {
                request,
                dialect,
                error,
            } => {
                debug!(from = %request.from(), %error, "a request cannot be read");
                self.counters.stanzas_malformed.add(1);
                self.reply(&request, dialect, &Err(error));
            }
            Incoming::Reply(reply) => self.answer(shared, reply),
            Incoming::Other(other) => {
                let now = Instant::now();
                let taken = self
                    .service
                    .as_mut()
                    .is_some_and(|service| service.handle_other(&other, &mut self.manager, now));
                if !taken {
                    self.notice(shared, other);
                }
                self.drain(shared, now);
            }
            Incoming::Unusable(stanza) => {
                debug!(name = stanza.name(), "a stanza of no use");
                self.counters.stanzas_malformed.add(1);
            }
        }
    }

    /// A request that is not a session's: of a service, else of a transport.
    fn other_request(&mut self, shared: &Arc<Shared>, request: Request) {
        let now = Instant::now();
        let answer = self
            .service
            .as_mut()
            .and_then(|service| service.handle_request(&request, &mut self.manager, now));
        if let Some(reply) = answer {
            self.reply(&request, Dialect::JINGLE, &reply);
            return self.drain(shared, now);
        }
        let Some(payload) = request.payload() else {
            let empty = StanzaError::new(Condition::BadRequest, ErrorKind::Modify);
            return self.reply(&request, Dialect::JINGLE, &Err(empty));
        };
        let payload = payload.to_element();
        let (from, to) = (request.from().clone(), request.to().clone());
        self.request(shared, request, Dialect::JINGLE, |id| Input::Request {
            id,
            from,
            to,
            payload,
        });
    }

    fn request(
        &mut self,
        shared: &Arc<Shared>,
        request: Request,
        dialect: &'static Dialect,
        input: impl FnOnce(RequestId) -> Input,
    ) {
        match self.requests.receive(Asked::Query(request)) {
            Ok(id) => self.input(shared, input(id)),
            Err(asked) => self.respond(&asked, dialect, &Err(congested())),
        }
    }

    /// A message that may be a transport's: a block of an in-band bytestream. Only who has a session with us is told that
    /// it was of no use: anybody can write to an account, and an error would show that this device is here.
    fn notice(&mut self, shared: &Arc<Shared>, other: Envelope) {
        let is_message = other.stanza.name() == "message" && other.kind() != Some("error");
        let expected = is_message && self.manager.has_session_with(&other.from, &other.to);
        let payloads = other.stanza.children().filter(|_| expected);
        let mut payloads = payloads.map(ElementRef::to_element);
        let Some(payload) = payloads.find(|payload| self.manager.knows_request(payload)) else {
            self.counters.stanzas_ignored.add(1);
            return;
        };
        let (from, to) = (other.from.clone(), other.to.clone());
        match self.requests.receive(Asked::Notice(other)) {
            Ok(id) => {
                let input = Input::Request {
                    id,
                    from,
                    to,
                    payload,
                };
                self.input(shared, input);
            }
            Err(asked) => self.respond(&asked, Dialect::JINGLE, &Err(congested())),
        }
    }

    fn answer(&mut self, shared: &Arc<Shared>, answer: Reply) {
        let Reply {
            id, from, reply, ..
        } = answer;
        let Some(reply) = self.queries.answered(&from, &id, reply) else {
            return;
        };
        match self.requests.answered(&from, &id) {
            Some(id) => {
                self.input(shared, Input::Reply { id, reply });
                shared.bell.progress.notify_waiters();
            }
            None => {
                debug!(%from, %id, "an answer to nothing");
                self.counters.replies_unexpected.add(1);
            }
        }
    }

    /// Does one thing; breaks off when there is nothing to do before an instant. Without `shared`, what needs a task
    /// is left out.
    fn carry_out(
        &mut self,
        output: Output,
        shared: Option<&Arc<Shared>>,
        now: Instant,
    ) -> ControlFlow<Option<Instant>> {
        if let Some(observer) = &mut self.observer
            && !matches!(output, Output::Transmit { .. } | Output::Write { .. })
        {
            observer.output(&output);
        }
        match output {
            Output::Message { id, message } => self.message(id, &message, now),
            Output::Request {
                id,
                from,
                to,
                payload,
                kind,
            } => {
                let wire = self.requests.send(id, to.clone(), now);
                let bytes = match kind {
                    RequestKind::Query => {
                        let kind = codec::query_kind(&payload);
                        codec::request(&wire, kind, Some(&from), &to, &payload)
                    }
                    RequestKind::Notice => codec::notice(&wire, &from, &to, &payload),
                };
                let bytes = bytes.map_err(|error| unsayable(&error));
                self.ask(id, bytes, kind, now);
            }
            Output::Reply {
                id, dialect, reply, ..
            } => {
                if let Some(asked) = self.requests.answer(id) {
                    self.respond(&asked, dialect, &reply);
                }
            }
            Output::Bind {
                socket,
                kind,
                address,
            } => {
                if let Some(shared) = shared {
                    let address = self.sockets.bind(shared, socket, kind, address);
                    let input = Input::Bound { socket, address };
                    self.observe_input(&input);
                    self.manager.handle_input(input, now);
                }
            }
            Output::Connect { socket, target } => {
                if let Some(shared) = shared {
                    self.sockets.connect(shared, socket, target);
                }
            }
            Output::Write { socket, payload } => self.sockets.write(socket, payload),
            Output::Hold { socket, held } => self.sockets.hold(socket, held),
            Output::Inquire { id, inquiry } => self.inquire(shared, id, inquiry, now),
            Output::Shutdown { socket } => self.sockets.shutdown(socket),
            Output::Close { socket } => self.sockets.close(socket),
            Output::Transmit {
                socket,
                destination,
                payload,
                segment_size,
            } => {
                self.sockets
                    .transmit(socket, destination, payload, segment_size);
            }
            Output::Wait(deadline) => return ControlFlow::Break(deadline),
            _ => debug!("an output that this driver does not know"),
        }
        ControlFlow::Continue(())
    }

    fn message(&mut self, id: RequestId, message: &Message, now: Instant) {
        if self.former.contains(&message.from) {
            debug!(from = %message.from, "a last word under an address that is no longer ours");
            return;
        }
        let wire = self.requests.send(id, message.to.clone(), now);
        let bytes = codec::message(&wire, message).map_err(|error| unsayable(&error));
        self.ask(id, bytes, RequestKind::Query, now);
    }

    /// Sends a request. What cannot be sent is answered here; what a link that is down did not take is lost, as what
    /// is under way when a link breaks. What a link that is full did not take waits, and what follows waits behind it.
    fn ask(
        &mut self,
        id: RequestId,
        bytes: Result<Bytes, StanzaError>,
        kind: RequestKind,
        now: Instant,
    ) {
        let notice = (kind == RequestKind::Notice).then_some(id);
        let reply = match bytes.map(|bytes| self.send_in_turn(bytes, notice)) {
            Ok(Ok(Sent::Gone)) if notice.is_some() => Ok(None),
            Ok(Ok(Sent::Gone | Sent::Waits) | Err(LinkError::Down)) => return,
            Ok(Err(LinkError::Full)) => Err(congested()),
            Err(error) => Err(error),
        };
        self.requests.forget(id);
        self.manager.handle_input(Input::Reply { id, reply }, now);
    }

    /// Gives a stanza to the link, or to those that wait for it.
    fn send_in_turn(
        &mut self,
        stanza: Bytes,
        notice: Option<RequestId>,
    ) -> Result<Sent, LinkError> {
        if self.backlog.is_empty() {
            match self.send(stanza.clone()) {
                Ok(()) => return Ok(Sent::Gone),
                Err(LinkError::Full) => {}
                Err(LinkError::Down) => return Err(LinkError::Down),
            }
        }
        if self.backlog.len() >= BACKLOG_MAX {
            return Err(LinkError::Full);
        }
        self.backlog.push_back((stanza, notice));
        Ok(Sent::Waits)
    }

    /// Gives the link what it did not take before. `Some` says when to try again.
    fn flush_backlog(&mut self, now: Instant) -> Option<Instant> {
        while let Some((stanza, notice)) = self.backlog.pop_front() {
            let link = self.link.as_mut().ok_or(LinkError::Down);
            match link.and_then(|link| link.send(stanza.clone())) {
                Ok(()) => {
                    trace!(stanza = %stanza.escape_ascii(), "sent");
                    if let Some(id) = notice {
                        self.requests.forget(id);
                        let reply = Ok(None);
                        self.manager.handle_input(Input::Reply { id, reply }, now);
                    }
                }
                Err(LinkError::Full) => {
                    self.backlog.push_front((stanza, notice));
                    return now.checked_add(BACKLOG_RETRY);
                }
                // It is lost, with what waits behind it, as what is under way.
                Err(LinkError::Down) => self.backlog.clear(),
            }
        }
        None
    }

    fn respond(&mut self, asked: &Asked, dialect: &'static Dialect, reply: &Answer) {
        match (asked, reply) {
            (Asked::Query(request), reply) => self.reply(request, dialect, reply),
            (Asked::Notice(_), Ok(_)) => {}
            (Asked::Notice(notice), Err(error)) => {
                let bytes = codec::refuse_notice(notice, error);
                // As with answers: the peer learns it later in another way.
                let _ = bytes.map(|bytes| self.send_in_turn(bytes, None));
            }
        }
    }

    fn reply(&mut self, request: &Request, dialect: &'static Dialect, reply: &Answer) {
        let bytes = codec::reply(request, dialect, reply).or_else(|error| {
            debug!(%error, "an answer cannot be written");
            codec::reply(request, dialect, &Err(unsayable(&error)))
        });
        // A link that does not take it has counted it; the peer will ask again or give up.
        let _ = bytes.map(|bytes| self.send_in_turn(bytes, None));
    }
}

/// Too much waits.
fn congested() -> StanzaError {
    StanzaError::new(Condition::ResourceConstraint, ErrorKind::Wait)
}

/// What cannot be written.
fn unsayable(error: &dyn std::error::Error) -> StanzaError {
    StanzaError {
        text: Some(error.to_string().into()),
        ..StanzaError::new(Condition::InternalServerError, ErrorKind::Cancel)
    }
}
