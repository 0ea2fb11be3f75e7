//! Errors by who is at fault: the peer ([`PeerError`]), the caller ([`Misuse`]), the world ([`SessionError`]).
//!
//! A peer's fault becomes an error reply and leaves the session as it was. The caller's comes back as `Err`. What ends
//! a session is announced with its cause. A panic is a bug of this crate, and nothing that a peer sends reaches one.

use crate::{Action, Dialect, Element, ErrorStyle, Event, Reason, State};
use std::{fmt, sync::Arc};
use thiserror::Error;

/// The peer did something that we refuse. The session, if there is one, is unharmed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PeerError {
    /// A message for a session that does not exist (XEP-0166 §7.5).
    #[error("there is no such session")]
    UnknownSession,
    /// A message that the session's state does not allow (XEP-0166 §7.5).
    #[error("{action} is out of order in state {state}")]
    OutOfOrder {
        /// What was asked.
        action: Action,
        /// The state in which it was asked.
        state: State,
    },
    /// Both sides asked at once, and ours goes on (XEP-0166 §7.2.16).
    #[error("a request of ours crosses this one and goes on")]
    TieBreak,
    /// A session-info that nobody understands (XEP-0166 §7.5).
    #[error("no part of the application understands this information")]
    UnsupportedInfo,
    /// A field is missing or has a value that it cannot have.
    #[error("{field}: {problem}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A content that the session does not have.
    #[error("the session has no content named {0:?}")]
    UnknownContent(Arc<str>),
    /// A channel that the transport does not have (libjingle `unknown-channel-name`).
    #[error("the transport {namespace} has no channel named {name:?}")]
    UnknownChannel {
        /// The channel's name.
        name: Arc<str>,
        /// The transport's namespace.
        namespace: Arc<str>,
    },
    /// More than we keep.
    #[error("more than {max} {limit}")]
    TooMany {
        /// The name of the limit in [`Limits`](crate::Limits).
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// Nothing that was offered can be used.
    #[error("none of the transports offered can be used")]
    NoUsableTransport,
    /// No client is registered for the application.
    #[error("nobody here understands {0:?}")]
    UnsupportedApplication(Arc<str>),
    /// The peer may not do this.
    #[error("not allowed: {0}")]
    NotAllowed(&'static str),
    /// A request that no part of this implementation handles.
    #[error("not implemented: {0}")]
    NotImplemented(&'static str),
    /// The application wants the initiator to go elsewhere (libjingle 0.5+: an error reply to the initiate).
    #[error("redirected to {0}")]
    Redirect(Arc<str>),
    /// A transport's refusal, in the very words that its specification asks for.
    #[error("{0}")]
    Stanza(Box<StanzaError>),
}

impl PeerError {
    /// The error reply in a dialect's catalogue (XEP-0166 §7.5; libjingle.md §1.2).
    pub fn to_stanza_error(&self, dialect: &Dialect) -> StanzaError {
        if let Self::Stanza(error) = self {
            return StanzaError::clone(error);
        }
        let style = dialect.errors;
        let google = style == ErrorStyle::Google;
        let (condition, kind, jingle) = match self {
            Self::UnknownSession if google => (Condition::BadRequest, ErrorKind::Modify, None),
            Self::UnknownSession => (
                Condition::ItemNotFound,
                ErrorKind::Cancel,
                Some(JingleCondition::UnknownSession),
            ),
            Self::OutOfOrder { .. } if google => (Condition::NotAllowed, ErrorKind::Modify, None),
            Self::OutOfOrder { .. } => (
                Condition::UnexpectedRequest,
                ErrorKind::Wait,
                Some(JingleCondition::OutOfOrder),
            ),
            Self::TieBreak => (
                Condition::Conflict,
                ErrorKind::Cancel,
                Some(JingleCondition::TieBreak),
            ),
            Self::UnsupportedInfo => (
                Condition::FeatureNotImplemented,
                ErrorKind::Modify,
                Some(JingleCondition::UnsupportedInfo),
            ),
            Self::Malformed { .. } | Self::UnknownChannel { .. } => {
                (Condition::BadRequest, ErrorKind::Modify, None)
            }
            Self::UnknownContent(_) if google => (Condition::BadRequest, ErrorKind::Modify, None),
            Self::UnknownContent(_) => (Condition::ItemNotFound, ErrorKind::Cancel, None),
            Self::TooMany { .. } => (Condition::ResourceConstraint, ErrorKind::Wait, None),
            Self::NoUsableTransport => (Condition::NotAcceptable, ErrorKind::Modify, None),
            Self::UnsupportedApplication(_) if google => {
                (Condition::BadRequest, ErrorKind::Modify, None)
            }
            Self::UnsupportedApplication(_) => {
                (Condition::ServiceUnavailable, ErrorKind::Cancel, None)
            }
            Self::NotAllowed(_) => (Condition::NotAllowed, ErrorKind::Cancel, None),
            Self::NotImplemented(_) => (Condition::FeatureNotImplemented, ErrorKind::Cancel, None),
            Self::Redirect(_) => (Condition::Redirect, ErrorKind::Modify, None),
            Self::Stanza(error) => (error.condition, error.kind, error.jingle),
        };
        let extra = match self {
            Self::UnknownChannel { name, namespace } => {
                Some(Element::new(namespace, "unknown-channel-name").with("name", name))
            }
            Self::Redirect(target) => {
                Some(Element::new(GOOGLE_SESSION, "redirect").text(&format!("xmpp:{target}")))
            }
            Self::UnknownSession
            | Self::OutOfOrder { .. }
            | Self::TieBreak
            | Self::UnsupportedInfo
            | Self::Malformed { .. }
            | Self::UnknownContent(_)
            | Self::TooMany { .. }
            | Self::NoUsableTransport
            | Self::UnsupportedApplication(_)
            | Self::NotAllowed(_)
            | Self::NotImplemented(_)
            | Self::Stanza(_) => None,
        };
        StanzaError {
            condition,
            kind,
            jingle,
            extra,
            text: Some(self.to_string().into()),
        }
    }
}

/// The namespace of libjingle's `<session/>`, in which a redirect in an error reply is written.
pub const GOOGLE_SESSION: &str = "http://www.google.com/session";

/// An error reply, sent or received (RFC 6120 §8.3, XEP-0166 §7.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StanzaError {
    /// The general condition.
    pub condition: Condition,
    /// What the sender may do about it.
    pub kind: ErrorKind,
    /// Jingle's own condition.
    pub jingle: Option<JingleCondition>,
    /// An application's or a transport's own condition.
    pub extra: Option<Element>,
    /// For people.
    pub text: Option<Arc<str>>,
}

impl StanzaError {
    /// An error with nothing but the general condition.
    pub fn new(condition: Condition, kind: ErrorKind) -> Self {
        Self {
            condition,
            kind,
            jingle: None,
            extra: None,
            text: None,
        }
    }

    /// Whether the peer says that the session does not exist for it.
    pub fn is_unknown_session(&self) -> bool {
        self.jingle == Some(JingleCondition::UnknownSession)
    }

    /// Whether nobody is there to answer: what a server says in the stead of a client that is gone (RFC 6120 §8.3.3).
    pub fn is_unreachable(&self) -> bool {
        matches!(
            self.condition,
            Condition::Gone
                | Condition::ItemNotFound
                | Condition::RecipientUnavailable
                | Condition::RemoteServerNotFound
                | Condition::RemoteServerTimeout
                | Condition::ServiceUnavailable
        )
    }

    /// Whether our request lost against one of the peer's.
    pub fn is_tie_break(&self) -> bool {
        self.jingle == Some(JingleCondition::TieBreak)
    }
}

impl fmt::Display for StanzaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.as_str())?;
        if let Some(jingle) = self.jingle {
            write!(f, "/{}", jingle.as_str())?;
        }
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for StanzaError {}

macro_rules! names {
    ($(#[$doc:meta])* $type:ident { $($(#[$vdoc:meta])* $variant:ident = $name:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $type {
            $($(#[$vdoc])* $variant,)*
        }

        impl $type {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The name on the wire.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                }
            }

            /// The value with this name.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$variant),)*
                    _ => None,
                }
            }
        }
    };
}

names! {
    /// The general conditions of RFC 6120 §8.3.3.
    Condition {
        /// Malformed.
        BadRequest = "bad-request",
        /// Something with that name exists, or crosses.
        Conflict = "conflict",
        /// Understood, and not implemented.
        FeatureNotImplemented = "feature-not-implemented",
        /// Not authorised.
        Forbidden = "forbidden",
        /// Gone, perhaps for a new address.
        Gone = "gone",
        /// A fault of the server.
        InternalServerError = "internal-server-error",
        /// No such thing.
        ItemNotFound = "item-not-found",
        /// The address is malformed.
        JidMalformed = "jid-malformed",
        /// Understood, and does not meet our criteria.
        NotAcceptable = "not-acceptable",
        /// Nobody may do this.
        NotAllowed = "not-allowed",
        /// Credentials first.
        NotAuthorized = "not-authorized",
        /// A local policy forbids it.
        PolicyViolation = "policy-violation",
        /// The peer is not there.
        RecipientUnavailable = "recipient-unavailable",
        /// Try another address.
        Redirect = "redirect",
        /// Register first.
        RegistrationRequired = "registration-required",
        /// The peer's server was not found.
        RemoteServerNotFound = "remote-server-not-found",
        /// The peer's server did not answer.
        RemoteServerTimeout = "remote-server-timeout",
        /// Too busy.
        ResourceConstraint = "resource-constraint",
        /// Nothing here provides this.
        ServiceUnavailable = "service-unavailable",
        /// Subscribe first.
        SubscriptionRequired = "subscription-required",
        /// Any other.
        UndefinedCondition = "undefined-condition",
        /// Out of order.
        UnexpectedRequest = "unexpected-request",
    }
}

names! {
    /// What the sender of the request may do (RFC 6120 §8.3.2).
    ErrorKind {
        /// Retry after providing credentials.
        Auth = "auth",
        /// Do not retry.
        Cancel = "cancel",
        /// Go on: it was a warning.
        Continue = "continue",
        /// Retry after changing it.
        Modify = "modify",
        /// Retry after waiting.
        Wait = "wait",
    }
}

names! {
    /// Jingle's own conditions (XEP-0166 §7.5).
    JingleCondition {
        /// Not in this state.
        OutOfOrder = "out-of-order",
        /// Security first.
        SecurityRequired = "security-required",
        /// Ours crosses yours and goes on.
        TieBreak = "tie-break",
        /// No such session.
        UnknownSession = "unknown-session",
        /// Nobody understands this session-info.
        UnsupportedInfo = "unsupported-info",
    }
}

/// The caller asked for what cannot be done. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Misuse {
    /// The table of transitions does not allow it now.
    #[error("{event:?} is not possible in state {state}")]
    NotNow {
        /// The state.
        state: State,
        /// What was asked.
        event: Event,
    },
    /// Not possible in this state. Most often it had to be done before the session was offered; what says so tells when it
    /// is possible.
    #[error("not possible in state {0}: it is too late, or too early")]
    TooLate(State),
    /// The peer has offered the session, and what it is in this is the peer's to say.
    #[error("this is the peer's to say, who has offered the session")]
    ReceivedSession,
    /// There is no such session, or no longer.
    #[error("there is no session {0}")]
    NoSuchSession(crate::SessionId),
    /// No client is registered for this namespace.
    #[error("no client is registered for {0:?}")]
    UnknownClient(Arc<str>),
    /// A client is registered for this namespace already.
    #[error("a client for {0:?} is registered already")]
    DuplicateClient(Arc<str>),
    /// No transport is registered under this name.
    #[error("no transport is registered as {0:?}")]
    UnknownTransport(Arc<str>),
    /// A transport is registered under this name already.
    #[error("a transport is registered as {0:?} already")]
    DuplicateTransport(Arc<str>),
    /// Not one transport to offer: none is registered and potential that serves the dialect and the layers.
    #[error(
        "none of the session's transports can be offered in this dialect and with these layers"
    )]
    NoTransport,
    /// The session has no such content.
    #[error("the session has no content named {0:?}")]
    UnknownContent(Arc<str>),
    /// The name is taken.
    #[error("the session has a content named {0:?} already")]
    DuplicateContent(Arc<str>),
    /// The session has no such channel.
    #[error("the session has no such channel")]
    UnknownChannel,
    /// The name is taken.
    #[error("the content has a channel named {0:?} already")]
    DuplicateChannel(Arc<str>),
    /// More than we keep.
    #[error("more than {max} {limit}")]
    TooMany {
        /// The name of the limit in [`Limits`](crate::Limits).
        limit: &'static str,
        /// Its value.
        max: usize,
    },
    /// The session's dialect has no words for this.
    #[error("the {dialect} dialect cannot say this: {what}")]
    DialectCannot {
        /// The dialect.
        dialect: &'static str,
        /// What it cannot say.
        what: &'static str,
    },
    /// Nothing is open that could be answered.
    #[error("no proposal of the peer is open")]
    NothingToAnswer,
    /// The description is of another kind than the session.
    #[error("the description is {found:?}, the session is {expected:?}")]
    WrongDescription {
        /// The session's kind.
        expected: Arc<str>,
        /// The description's namespace.
        found: Arc<str>,
    },
    /// A change of the same kind is under way.
    #[error("a change of this content is under way")]
    ChangePending,
    /// No id that a session can have.
    #[error("the session's id is empty or too long")]
    BadSid,
    /// The transport has no room for this channel.
    #[error("the transport refused the channel: {0}")]
    Transport(TransportError),
}

/// A transport cannot do what was asked or offered.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum TransportError {
    /// Understood, and we cannot work with it.
    #[error("unacceptable: {0}")]
    Unacceptable(&'static str),
    /// A field is missing or has a value that it cannot have.
    #[error("{field}: {problem}")]
    Malformed {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// No path to the peer.
    #[error("no path to the peer: {0}")]
    Unreachable(Arc<str>),
    /// The peer says that it is another than it said before. In an answer this ends the session, with security-error.
    #[error("not to be trusted: {0}")]
    Untrusted(&'static str),
    /// A socket or another resource could not be had.
    #[error("no resource: {0}")]
    NoResource(Arc<str>),
    /// A channel name that this transport does not have.
    #[error("there is no channel named {0:?}")]
    UnknownChannel(Arc<str>),
    /// What the peer asks crosses what we asked, and ours goes on (a crossing restart of ICE: XEP-0176 §5.4). The peer is
    /// answered conflict with tie-break.
    #[error("crosses ours, which goes on")]
    TieBreak,
    /// The peer closed the path.
    #[error("closed by the peer")]
    Closed,
}

/// Why a packet was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum SendError {
    /// Not now. A `Writable(true)` follows. The packet was not taken.
    #[error("the channel cannot take data now")]
    NotWritable,
    /// Larger than the path can carry.
    #[error("the packet is larger than the path can carry")]
    TooLarge,
    /// There is no such channel, or no longer.
    #[error("there is no such channel")]
    NoSuchChannel,
    /// The sending direction was finished.
    #[error("the channel was finished")]
    Finished,
}

/// The kinds of the seed (`libjingle session.h`, Error).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ErrorCode {
    /// No error.
    #[default]
    None,
    /// Something took too long: see [`Cause::NoAnswer`], [`Cause::NoConnectivity`], [`Cause::ConnectionLost`].
    Time,
    /// The peer answered with an error.
    Response,
    /// Resources could not be had, or the transport failed.
    Network,
}

/// An error of a session (libjingle SignalError), with its cause.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionError {
    /// The kind in the seed's terms.
    pub code: ErrorCode,
    /// Whether the session ends because of it.
    pub fatal: bool,
    /// What happened.
    pub cause: Cause,
}

impl fmt::Display for SessionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.cause, f)
    }
}

impl std::error::Error for SessionError {}

/// What happened, so that an application can say it and act on it.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Cause {
    /// The peer did not answer a message that decides about the session.
    #[error("the peer did not answer {0}")]
    NoAnswer(Action),
    /// No path was found in time.
    #[error("no connection to the peer came about in time")]
    NoConnectivity,
    /// A path was there and did not come back in time.
    #[error("the connection to the peer was lost")]
    ConnectionLost,
    /// The application's own ringing time ran out.
    #[error("nobody answered in time")]
    RingingTimeout,
    /// The peer answered one of our messages with an error.
    #[error("the peer refused {action}: {error}")]
    Refused {
        /// What we asked.
        action: Action,
        /// The answer.
        error: StanzaError,
    },
    /// Our offer crossed one of the peer's, which goes on instead.
    #[error("the peer's own offer goes on instead")]
    TieBreak,
    /// The redirection leads to another account, or there were too many.
    #[error("the peer redirects to {0}, which is not followed")]
    BadRedirect(crate::Peer),
    /// Every transport failed; this is the last one's error.
    #[error("transport: {0}")]
    Transport(TransportError),
    /// The peer knows none of our transports.
    #[error("no transport in common")]
    NoCommonTransport,
    /// Too many messages wait for the link.
    #[error("more than {0} messages wait for the link")]
    QueueFull(usize),
    /// Ended by the application.
    #[error("ended here: {0}")]
    Local(Reason),
    /// Ended by the peer.
    #[error("ended by the peer{}", .0.as_ref().map(|r| format!(": {r}")).unwrap_or_default())]
    Remote(Option<Reason>),
}

impl Cause {
    /// The seed's kind of this cause.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoAnswer(_)
            | Self::NoConnectivity
            | Self::ConnectionLost
            | Self::RingingTimeout => ErrorCode::Time,
            Self::Refused { .. } | Self::TieBreak | Self::BadRedirect(_) => ErrorCode::Response,
            Self::Transport(_) | Self::NoCommonTransport | Self::QueueFull(_) => ErrorCode::Network,
            Self::Local(_) | Self::Remote(_) => ErrorCode::None,
        }
    }
}
