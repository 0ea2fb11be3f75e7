//! [`Session`]: one conversation with one peer, from the offer to the end.

mod bundle;
mod channels;
mod clocks;
mod collect;
mod content;
mod getters;
mod infos;
mod layers;
mod modify;
mod offer;
mod ping;
mod receive;
mod replace;
mod requests;
mod rest;

pub use content::{Content, ContentSpec, ContentState};
pub use ping::Pong;
pub use replace::TRANSPORT_FAILED;

use crate::{
    Action, Cause, ChannelId, Dialect, Element, Event, Group, Limits, Message, Misuse,
    Modification, Output, Peer, Reason, ReasonCondition, Redirect, RequestId, Role, Secured,
    SessionDescription, SessionError, SessionId, Signal, State, TransportRegistry, shared::Shared,
};
use bytes::Bytes;
use channels::Channel;
use clocks::Timers;
use requests::{Deferred, Pending};
pub(crate) use requests::{Outgoing, is_last_word};
use rest::Passing;
pub(crate) use rest::{Spare, Way};
use std::{collections::VecDeque, fmt, sync::Arc, task::Waker, time::Instant};

/// One conversation with one peer (libjingle `session.h`, XEP-0166).
///
/// A session belongs to its [`SessionManager`](crate::SessionManager) and is reached through it. It has *contents*;
/// the short calls of the seed ([`initiate`](Self::initiate), [`create_channel`](Self::create_channel),
/// [`transport`](Self::transport)) act on the first one, its default content.
///
/// Methods come in three kinds: getters, which are nouns; calls of the application, which return [`Misuse`] when they
/// make no sense now and then change nothing; and signals, to connect to.
pub struct Session {
    passing: Passing,
    sid: Arc<str>,
    local: Peer,
    remote: Peer,
    initiator: Peer,
    role: Role,
    session_type: Arc<str>,
    dialect: &'static Dialect,
    dialect_chosen: bool,
    state: State,
    speculative: bool,
    speculative_chosen: bool,
    /// Whether candidates travel in the offer or the answer.
    batches: bool,
    contents: Vec<Content>,
    groups: Vec<Group>,
    channels: Vec<Channel>,
    next_channel: u32,
    registry: TransportRegistry,
    potential: Option<Vec<Arc<str>>>,
    shared: Arc<Shared>,
    waker: Waker,
    /// What was said in the initiate beside the contents, for an offer that goes out again.
    extra: Vec<Element>,
    reoffers: usize,
    initiate_acknowledged: bool,
    /// Set when the application redirects before the initiate was answered, in a dialect that says it in the answer.
    pub(crate) redirected: Option<Peer>,
    pub(crate) outbox: VecDeque<Outgoing>,
    pub(crate) data: VecDeque<Output>,
    pub(crate) events: VecDeque<SessionEvent>,
    pub(crate) pending: Vec<Pending>,
    /// Requests of transports that were not answered yet.
    asked: usize,
    /// Requests of the peer to transports that we have not answered yet.
    deferred: Vec<Deferred>,
    /// Requests whose answers no longer matter: the manager forgets whose they are.
    pub(crate) abandoned: Vec<RequestId>,
    /// Messages that go out again under their old numbers.
    pub(crate) repeats: VecDeque<(RequestId, Box<Message>)>,
    timers: Timers,
    cause: Option<Box<Cause>>,
    /// A transport was replaced since the state was last settled.
    replaced: bool,
    /// The key under which the manager has to find this session has changed.
    pub(crate) rekeyed: bool,
    pub(crate) manager_requests: Vec<ManagerRequest>,
    signals: Signals,
}

/// What a client leaves for the manager from inside a callback.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ManagerRequest {
    TerminateAll(Reason),
}

/// What the manager tells the client, in order.
#[derive(Debug)]
pub(crate) enum SessionEvent {
    State(State),
    Packet(ChannelId, Bytes),
    Writable(ChannelId, bool),
    Finished(ChannelId),
    Delivered(ChannelId),
    Secured(ChannelId, Box<Secured>),
    ChannelGone(ChannelId, Arc<str>),
    Modify(Modification),
    Error(SessionError),
    TerminateReason(Option<Reason>),
    Timer,
    Pong(Pong),
}

#[derive(Debug, Default)]
struct Signals {
    state: Signal<State>,
    error: Signal<SessionError>,
    info: Signal<Arc<[Element]>>,
    terminate_reason: Signal<Option<Reason>>,
    channel_gone: Signal<Arc<str>>,
    modification: Signal<Modification>,
}

/// What a session is made of.
pub(crate) struct Parts {
    pub(crate) id: SessionId,
    pub(crate) sid: Arc<str>,
    pub(crate) local: Peer,
    pub(crate) remote: Peer,
    pub(crate) role: Role,
    pub(crate) session_type: Arc<str>,
    pub(crate) dialect: &'static Dialect,
    pub(crate) registry: TransportRegistry,
    pub(crate) shared: Arc<Shared>,
}

/// The name of the default content where nobody gives it another.
pub const DEFAULT_CONTENT: &str = "main";

/// Calls of the application.
impl Session {
    /// Offers the session to `to` (libjingle Initiate): local candidates are sought and the offer goes out.
    ///
    /// `extra` are elements of the application's own that travel beside the contents; `description` is that of the
    /// default content. Contents added before are offered with it.
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn initiate(
        &mut self,
        to: Peer,
        extra: Vec<Element>,
        description: &impl SessionDescription,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.initiate_with(to, extra, description.to_element(), now)
    }

    /// As [`initiate`](Self::initiate), with the description as an element.
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn initiate_with(
        &mut self,
        to: Peer,
        extra: Vec<Element>,
        description: Element,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.allowed(Event::SendInitiate)?;
        self.check_description(&description)?;
        let max = self.limits().extra_elements;
        if extra.len() > max {
            return Err(Misuse::TooMany {
                limit: "extra_elements",
                max,
            });
        }
        let before = (self.dialect, self.speculative, self.remote.clone());
        self.address(to);
        if !self.dialect_chosen {
            self.dialect = self.shared.dialect_for(&self.remote);
        }
        if let Err(misuse) = self.check_contents().and_then(|()| self.prepare_offers()) {
            (self.dialect, self.speculative, self.remote) = before;
            return Err(misuse);
        }
        if self.dialect.errors != before.0.errors {
            self.sid = self.shared.sid(self.dialect);
        }
        self.contents[0].description = Some(description.detach());
        self.extra = extra;
        self.rekeyed = true;
        self.step(Event::SendInitiate);
        self.send_offer(now);
        self.settle(now);
        Ok(())
    }

    /// Accepts what the peer offered (libjingle Accept), with the answer for the default content. Other contents of the
    /// offer are accepted as they are unless [`set_answer`](Self::set_answer) said otherwise.
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn accept(
        &mut self,
        description: &impl SessionDescription,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.accept_with(description.to_element(), now)
    }

    /// As [`accept`](Self::accept), with the description as an element.
    ///
    /// # Errors
    /// [`Misuse`]; nothing was sent.
    pub fn accept_with(&mut self, description: Element, now: Instant) -> Result<(), Misuse> {
        self.allowed(Event::SendAccept)?;
        self.check_description(&description)?;
        self.contents[0].description = Some(description.detach());
        self.step(Event::SendAccept);
        self.send_accept(now);
        self.settle(now);
        Ok(())
    }

    /// The answer for a content other than the default one, before [`accept`](Self::accept).
    ///
    /// # Errors
    /// [`Misuse::UnknownContent`].
    pub fn set_answer(&mut self, content: &str, description: Element) -> Result<(), Misuse> {
        let at = self.position_of(content)?;
        self.contents[at].description = Some(description.detach());
        Ok(())
    }

    /// Declines what the peer offered (libjingle Reject).
    ///
    /// # Errors
    /// [`Misuse::NotNow`].
    pub fn reject(&mut self, reason: Reason, now: Instant) -> Result<(), Misuse> {
        self.allowed(Event::SendReject)?;
        let action = if self.dialect.has_reject {
            Action::Reject
        } else {
            Action::SessionTerminate
        };
        let message = Message {
            reason: Some(reason.clone()),
            ..self.message(action)
        };
        self.say(message, now);
        self.cause = Some(Box::new(Cause::Local(reason)));
        self.step(Event::SendReject);
        self.settle(now);
        Ok(())
    }

    /// Sends the initiator to another address (libjingle Redirect). `cookie` comes back in its next initiate.
    ///
    /// # Errors
    /// [`Misuse::NotNow`], and [`Misuse::DialectCannot`] where the dialect says it in the answer to the initiate and
    /// that is out already: then it is possible only inside the first callbacks.
    pub fn redirect(
        &mut self,
        target: Peer,
        cookie: Option<Element>,
        now: Instant,
    ) -> Result<(), Misuse> {
        self.allowed(Event::SendRedirect)?;
        if self.dialect.has_redirect {
            let redirect = Some(Redirect { target, cookie });
            let message = Message {
                redirect,
                ..self.message(Action::Redirect)
            };
            self.say(message, now);
        } else if self.initiate_acknowledged {
            let (dialect, what) = (
                self.dialect.name,
                "a redirect after the offer was acknowledged",
            );
            return Err(Misuse::DialectCannot { dialect, what });
        } else {
            self.redirected = Some(target);
        }
        self.step(Event::SendRedirect);
        self.settle(now);
        Ok(())
    }

    /// Ends the session (libjingle Terminate). From [`State::Init`] nothing is sent of a session of ours, because nobody
    /// knows of it; the peer hears that its own is declined, with this reason.
    ///
    /// # Errors
    /// [`Misuse::NotNow`] when it is over already.
    pub fn terminate(&mut self, reason: Reason, now: Instant) -> Result<(), Misuse> {
        self.allowed(Event::SendTerminate)?;
        self.cause = Some(Box::new(Cause::Local(reason.clone())));
        self.end(Some(reason), now);
        Ok(())
    }

    /// Sends something of the application to the peer's client (libjingle SendInfoMessage). Without elements it is a
    /// [`ping`](Self::ping).
    ///
    /// # Errors
    /// [`Misuse`] before the offer and after the end, or past a limit.
    pub fn send_info(&mut self, info: Vec<Element>, now: Instant) -> Result<(), Misuse> {
        if self.state == State::Init || self.state.is_ended() {
            return Err(Misuse::NotNow {
                state: self.state,
                event: Event::SendModify,
            });
        }
        let max = self.limits().extra_elements;
        if info.len() > max {
            return Err(Misuse::TooMany {
                limit: "extra_elements",
                max,
            });
        }
        let message = Message {
            extra: info,
            ..self.message(Action::SessionInfo)
        };
        self.say(message, now);
        self.settle(now);
        Ok(())
    }

    /// Which of the registered transports may be used, most preferred first (libjingle SetPotentialTransports).
    ///
    /// Offering, this order is our preference. Receiving, the first of the *offered* order that is in the list and
    /// accepts the offer's parameters is taken. Called again it replaces; never called, all registered transports are
    /// potential, in the order of their registration.
    ///
    /// # Errors
    /// [`Misuse::UnknownTransport`] for a name that is not registered, [`Misuse::TooLate`] after [`State::Init`]. The
    /// list is then as it was.
    pub fn set_potential_transports(&mut self, namespaces: &[&str]) -> Result<(), Misuse> {
        self.only_in_init()?;
        let mut list: Vec<Arc<str>> = Vec::with_capacity(namespaces.len());
        for &namespace in namespaces {
            if self.registry.factory(namespace).is_none() {
                return Err(Misuse::UnknownTransport(namespace.into()));
            }
            if !list.iter().any(|known| &**known == namespace) {
                list.push(namespace.into());
            }
        }
        self.potential = Some(list);
        Ok(())
    }

    /// In which vocabulary to speak. Chosen from the peer's capabilities.
    ///
    /// # Errors
    /// [`Misuse::TooLate`] after [`State::Init`]; [`Misuse::ReceivedSession`], which keeps the peer's.
    pub fn set_dialect(&mut self, dialect: &'static Dialect) -> Result<(), Misuse> {
        self.only_in_init()?;
        if self.role == Role::Responder {
            return Err(Misuse::ReceivedSession);
        }
        self.dialect = dialect;
        self.dialect_chosen = true;
        self.sid = self.shared.sid(dialect);
        Ok(())
    }

    /// The name of the default content, [`DEFAULT_CONTENT`] unless changed. The Google dialects do not write it.
    ///
    /// # Errors
    /// [`Misuse::TooLate`] after [`State::Init`], [`Misuse::DuplicateContent`].
    pub fn set_content_name(&mut self, name: &str) -> Result<(), Misuse> {
        self.only_in_init()?;
        if self.contents[1..].iter().any(|c| &*c.name == name) {
            return Err(Misuse::DuplicateContent(name.into()));
        }
        let old = std::mem::replace(&mut self.contents[0].name, name.into());
        for channel in self.channels.iter_mut().filter(|c| c.content == old) {
            channel.content = name.into();
        }
        Ok(())
    }

    /// Which contents share one transport (XEP-0338), before the offer. The first one's transport is shared.
    ///
    /// # Errors
    /// [`Misuse::TooLate`] after [`State::Init`], [`Misuse::UnknownContent`].
    pub fn bundle(&mut self, contents: &[&str]) -> Result<(), Misuse> {
        self.only_in_init()?;
        for &content in contents {
            self.position_of(content)?;
        }
        self.groups = vec![Group {
            semantics: Group::BUNDLE.into(),
            contents: contents.iter().map(|&name| name.into()).collect(),
        }];
        Ok(())
    }

    /// Ends every session of the manager, once the callback that this is called from has returned (the seed's way
    /// from a session to its manager; outside callbacks use the manager itself).
    pub fn terminate_all(&mut self, reason: Reason) {
        self.stir();
        self.manager_requests
            .push(ManagerRequest::TerminateAll(reason));
    }
}

impl Session {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            id,
            sid,
            local,
            remote,
            role,
            session_type,
            dialect,
            registry,
            shared,
        } = parts;
        let initiator = match role {
            Role::Initiator => local.clone(),
            Role::Responder => remote.clone(),
        };
        // Whom one of ours goes to is not known yet: the policy is asked about it then.
        let speculative = role == Role::Responder && shared.speculates(&remote);
        let content = Content::new(
            DEFAULT_CONTENT.into(),
            Role::Initiator,
            ContentState::Offered,
        );
        Self {
            passing: Passing::new(id),
            sid,
            local,
            remote,
            initiator,
            role,
            session_type,
            dialect,
            dialect_chosen: role == Role::Responder,
            state: State::Init,
            speculative,
            speculative_chosen: false,
            batches: false,
            contents: vec![content],
            groups: Vec::new(),
            channels: Vec::new(),
            next_channel: 0,
            registry,
            potential: None,
            waker: shared.waker(id),
            shared,
            extra: Vec::new(),
            reoffers: 0,
            initiate_acknowledged: false,
            redirected: None,
            outbox: VecDeque::new(),
            data: VecDeque::new(),
            events: VecDeque::new(),
            abandoned: Vec::new(),
            pending: Vec::new(),
            asked: 0,
            deferred: Vec::new(),
            repeats: VecDeque::new(),
            timers: Timers::default(),
            cause: None,
            replaced: false,
            rekeyed: false,
            manager_requests: Vec::new(),
            signals: Signals::default(),
        }
    }

    /// The only place where the state is written. Callers have asked [`allowed`](Self::allowed) or know the table.
    pub(crate) fn step(&mut self, event: Event) {
        let Some(next) = self.state.after(event) else {
            debug_assert!(false, "{event:?} in {:?}", self.state);
            return;
        };
        self.stir();
        // A re-offer is not a new state (libjingle: redirect signals nothing).
        if next != self.state {
            self.state = next;
            self.signals.state.emit(next);
            self.events.push_back(SessionEvent::State(next));
        }
    }

    fn allowed(&self, event: Event) -> Result<(), Misuse> {
        match self.state.after(event) {
            Some(_) => Ok(()),
            None => Err(Misuse::NotNow {
                state: self.state,
                event,
            }),
        }
    }

    fn only_in_init(&self) -> Result<(), Misuse> {
        if self.state == State::Init {
            Ok(())
        } else {
            Err(Misuse::TooLate(self.state))
        }
    }

    fn check_description(&self, description: &Element) -> Result<(), Misuse> {
        if description.namespace() == &*self.session_type {
            return Ok(());
        }
        Err(Misuse::WrongDescription {
            expected: self.session_type.clone(),
            found: description.namespace().into(),
        })
    }

    fn limits(&self) -> &Limits {
        &self.shared.config.limits
    }

    /// Called at the end of whatever may have changed the agreement.
    pub(crate) fn settle(&mut self, now: Instant) {
        if self.contents.is_empty() && !self.state.is_ended() {
            // The last one was removed or declined (XEP-0166 §7.2.5).
            let reason = Reason::new(ReasonCondition::Success);
            self.cause = Some(Box::new(Cause::Local(reason.clone())));
            self.end(Some(reason), now);
        }
        let negotiated = matches!(self.state, State::SentAccept | State::ReceivedAccept)
            && self
                .contents
                .iter()
                .all(|content| content.is_settled() || content.is_proposed());
        if negotiated {
            self.step(Event::Negotiated);
            // What is still proposed keeps what its answer needs.
            let agreed = self.contents.iter_mut().filter(|c| !c.is_proposed());
            agreed.for_each(Content::settle);
            self.extra = Vec::new();
        }
        self.settle_modifications();
        self.review_clocks(now);
    }

    /// Ends the session from here, saying so to the peer unless it cannot know of it.
    pub(crate) fn end(&mut self, reason: Option<Reason>, now: Instant) {
        if self.state != State::Init {
            let message = Message {
                reason,
                ..self.message(Action::SessionTerminate)
            };
            // What was not said yet makes no sense any more.
            self.outbox.clear();
            self.say(message, now);
        }
        self.step(Event::SendTerminate);
        self.release_all();
    }

    /// Announces an error that does not end the session.
    pub(crate) fn warn(&mut self, cause: Cause) {
        self.announce(cause, false);
    }

    /// Ends the session because of `cause`. `silent` when the peer knows of no session.
    pub(crate) fn fail(&mut self, cause: Cause, silent: bool, now: Instant) {
        if self.state.is_ended() {
            return;
        }
        let reason = Reason::new(reason_for(&cause)).with_text(cause.to_string());
        self.announce(cause.clone(), true);
        self.cause = Some(Box::new(cause));
        if silent {
            self.outbox.clear();
            self.step(Event::SendTerminate);
            self.release_all();
        } else {
            self.end(Some(reason), now);
        }
    }

    fn announce(&mut self, cause: Cause, fatal: bool) {
        let error = SessionError {
            code: cause.code(),
            fatal,
            cause,
        };
        self.stir();
        self.signals.error.emit(error.clone());
        self.events.push_back(SessionEvent::Error(error));
    }

    /// The last act.
    pub(crate) fn destroy(&mut self) {
        if self.state != State::Deinit {
            self.release_all();
            self.step(Event::Destroy);
        }
    }

    pub(crate) fn default_content_name(&self) -> Arc<str> {
        self.contents
            .first()
            .map_or_else(|| DEFAULT_CONTENT.into(), |c| c.name.clone())
    }

    pub(crate) fn content_position(&self, name: &str) -> Option<usize> {
        self.contents.iter().position(|c| &*c.name == name)
    }

    fn position_of(&self, name: &str) -> Result<usize, Misuse> {
        self.content_position(name)
            .ok_or_else(|| Misuse::UnknownContent(name.into()))
    }

    /// A device of the account that we offered to has answered.
    pub(crate) fn adopt_remote(&mut self, remote: Peer, now: Instant) {
        for content in &mut self.contents {
            for carrier in content.carriers.iter_mut().chain(&mut content.replacing) {
                carrier.transport.handle_remote(&remote);
            }
        }
        for channel in &mut self.channels {
            if let Some(implementation) = &mut channel.implementation {
                implementation.handle_remote(&remote);
            }
        }
        self.remote = remote;
        self.collect_all(now);
    }

    /// The reason with which the client ended the session while it was being created for the peer's offer.
    pub(crate) fn declined_at_birth(&self) -> Option<Reason> {
        match self.cause.as_deref() {
            Some(Cause::Local(reason)) if self.state.is_ended() => Some(reason.clone()),
            _ => None,
        }
    }

    /// The initiate is answered now; `Some` when the answer is that the initiator is to go elsewhere.
    pub(crate) fn answer_initiate(&mut self) -> Option<Peer> {
        self.initiate_acknowledged = true;
        self.redirected.take()
    }

    pub(crate) fn announce_info(&mut self, info: Arc<[Element]>) {
        self.signals.info.emit(info);
    }

    pub(crate) fn modified(&mut self, modification: Modification) {
        self.stir();
        self.signals.modification.emit(modification.clone());
        self.events.push_back(SessionEvent::Modify(modification));
    }
}

/// What the peer is told when a session fails here.
fn reason_for(cause: &Cause) -> ReasonCondition {
    match cause {
        Cause::NoAnswer(_) | Cause::RingingTimeout => ReasonCondition::Timeout,
        Cause::NoConnectivity | Cause::ConnectionLost => ReasonCondition::ConnectivityError,
        Cause::Transport(crate::TransportError::Untrusted(_)) => ReasonCondition::SecurityError,
        Cause::Transport(_) => ReasonCondition::FailedTransport,
        Cause::NoCommonTransport => ReasonCondition::UnsupportedTransports,
        Cause::Refused { .. }
        | Cause::TieBreak
        | Cause::BadRedirect(_)
        | Cause::QueueFull(_)
        | Cause::Local(_)
        | Cause::Remote(_) => ReasonCondition::GeneralError,
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("id", &self.passing.id)
            .field("sid", &self.sid)
            .field("local", &self.local)
            .field("remote", &self.remote)
            .field("role", &self.role)
            .field("dialect", &self.dialect.name)
            .field("state", &self.state)
            .field("contents", &self.contents)
            .finish_non_exhaustive()
    }
}
