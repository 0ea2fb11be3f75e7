//! What one side tells the other: a signalling message as meaning, without syntax.

use crate::{Dialect, Element, Peer, Role};
use std::{fmt, sync::Arc};

/// One signalling message of a session (XEP-0166 §7.2; libjingle `<session/>`).
///
/// It is flat, as the wire forms are. Which fields an [`Action`] needs is checked where it is handled, so that a
/// peer's mistake gets the answer that names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Who sent it. Stamped by the server, never taken from the payload.
    pub from: Peer,
    /// Whom it is for.
    pub to: Peer,
    /// The session's name on the wire.
    pub sid: Arc<str>,
    /// Who the payload says initiated the session. Only a hint: `from` decides.
    pub initiator: Option<Peer>,
    /// Who the payload says answers for the responder.
    pub responder: Option<Peer>,
    /// In which vocabulary it arrived, or is to be written.
    pub dialect: &'static Dialect,
    /// What it asks for.
    pub action: Action,
    /// The contents it speaks of. The Google dialects have one content, whose name is then empty.
    pub contents: Vec<ContentPart>,
    /// Which contents share a transport (XEP-0338).
    pub groups: Vec<Group>,
    /// Why, for endings and refusals.
    pub reason: Option<Reason>,
    /// Where to, for [`Action::Redirect`].
    pub redirect: Option<Redirect>,
    /// Children that belong to none of the above, kept in order.
    pub extra: Vec<Element>,
}

impl Message {
    /// A message with nothing in it but its head.
    pub fn new(
        from: Peer,
        to: Peer,
        sid: impl Into<Arc<str>>,
        dialect: &'static Dialect,
        action: Action,
    ) -> Self {
        Self {
            from,
            to,
            sid: sid.into(),
            initiator: None,
            responder: None,
            dialect,
            action,
            contents: Vec::new(),
            groups: Vec::new(),
            reason: None,
            redirect: None,
            extra: Vec::new(),
        }
    }
}

/// What a [`Message`] asks for: the fifteen actions of XEP-0166 §7.2.1 and two that only the Google dialects have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Accept a content-add.
    ContentAccept,
    /// Add a content to the session.
    ContentAdd,
    /// Change a content's senders.
    ContentModify,
    /// Decline a content-add.
    ContentReject,
    /// Remove a content.
    ContentRemove,
    /// Parameters of the application have changed.
    DescriptionInfo,
    /// Parameters of the security preconditions.
    SecurityInfo,
    /// Accept the session.
    SessionAccept,
    /// Something of the application, or a ping when empty.
    SessionInfo,
    /// Offer a session.
    SessionInitiate,
    /// End the session.
    SessionTerminate,
    /// Accept a transport-replace; in the Google dialect, the answer to the transports offered.
    TransportAccept,
    /// Candidates and other parameters of a transport.
    TransportInfo,
    /// Decline a transport-replace.
    TransportReject,
    /// Offer another transport for a content.
    TransportReplace,
    /// Decline the session (Google: `reject`; Jingle says it by session-terminate).
    Reject,
    /// Try another address (Google: `redirect`).
    Redirect,
}

impl Action {
    /// The fifteen of XEP-0166 §7.2.1.
    pub const JINGLE: [Self; 15] = [
        Self::ContentAccept,
        Self::ContentAdd,
        Self::ContentModify,
        Self::ContentReject,
        Self::ContentRemove,
        Self::DescriptionInfo,
        Self::SecurityInfo,
        Self::SessionAccept,
        Self::SessionInfo,
        Self::SessionInitiate,
        Self::SessionTerminate,
        Self::TransportAccept,
        Self::TransportInfo,
        Self::TransportReject,
        Self::TransportReplace,
    ];

    /// The name in XEP-0166's terms; the two Google actions by their own names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ContentAccept => "content-accept",
            Self::ContentAdd => "content-add",
            Self::ContentModify => "content-modify",
            Self::ContentReject => "content-reject",
            Self::ContentRemove => "content-remove",
            Self::DescriptionInfo => "description-info",
            Self::SecurityInfo => "security-info",
            Self::SessionAccept => "session-accept",
            Self::SessionInfo => "session-info",
            Self::SessionInitiate => "session-initiate",
            Self::SessionTerminate => "session-terminate",
            Self::TransportAccept => "transport-accept",
            Self::TransportInfo => "transport-info",
            Self::TransportReject => "transport-reject",
            Self::TransportReplace => "transport-replace",
            Self::Reject => "reject",
            Self::Redirect => "redirect",
        }
    }

    /// The action of XEP-0166 with this name.
    pub fn from_jingle(name: &str) -> Option<Self> {
        Self::JINGLE
            .into_iter()
            .find(|action| action.as_str() == name)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One content as a [`Message`] speaks of it (XEP-0166 §7.3).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContentPart {
    /// Who added the content to the session; `None` where the peer leaves it out.
    pub creator: Option<Role>,
    /// The content's name. Empty means the session's only one.
    pub name: Arc<str>,
    /// Who sends; `None` where it is left out (XEP-0166 §7.3: both).
    pub senders: Option<Senders>,
    /// What the content is for; `None` means `session` (XEP-0166 §7.3).
    pub disposition: Option<Arc<str>>,
    /// What is sent. Its namespace is the kind of session.
    pub description: Option<Element>,
    /// How it is sent. More than one only in the Google dialect, most preferred first.
    pub transports: Vec<Element>,
    /// Security preconditions (XEP-0166 §7.3).
    pub security: Option<Element>,
    /// Children that belong to none of the above.
    pub extra: Vec<Element>,
}

impl ContentPart {
    /// A content with a name and nothing else.
    pub fn named(name: impl Into<Arc<str>>) -> Self {
        Self {
            name: name.into(),
            ..Self::default()
        }
    }
}

/// Who sends in a content (XEP-0166 §7.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Senders {
    /// Both.
    #[default]
    Both,
    /// Only the session's initiator.
    Initiator,
    /// Nobody: the content is on hold.
    None,
    /// Only the session's responder.
    Responder,
}

impl Senders {
    /// The attribute value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Initiator => "initiator",
            Self::None => "none",
            Self::Responder => "responder",
        }
    }

    /// The value with this spelling.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Both, Self::Initiator, Self::None, Self::Responder]
            .into_iter()
            .find(|senders| senders.as_str() == name)
    }

    /// Whether `role` may send.
    pub fn includes(self, role: Role) -> bool {
        match self {
            Self::Both => true,
            Self::None => false,
            Self::Initiator => role == Role::Initiator,
            Self::Responder => role == Role::Responder,
        }
    }
}

/// Contents that belong together (XEP-0338; libjingle's `google:jingle` group).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// How they belong together: `BUNDLE` means that they share a transport.
    pub semantics: Arc<str>,
    /// Their names. The first one's transport is shared.
    pub contents: Vec<Arc<str>>,
}

impl Group {
    /// The semantics of contents that share a transport.
    pub const BUNDLE: &'static str = "BUNDLE";

    /// What is left of it, where only some contents are there; `None` if that is no group any more: of those that were
    /// several, fewer than two.
    pub(crate) fn among(&self, has: impl Fn(&str) -> bool) -> Option<Self> {
        let contents = self.contents.iter().filter(|name| has(name));
        let contents: Vec<_> = contents.cloned().collect();
        // A bundle of one says something, too.
        let enough = contents.len() >= self.contents.len().clamp(1, 2);
        enough.then(|| Self {
            semantics: self.semantics.clone(),
            contents,
        })
    }
}

/// Where a redirected initiator is to go (libjingle `session.cc`, Redirect).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// The address to try.
    pub target: Peer,
    /// Opaque to the initiator, who hands it back in the next initiate.
    pub cookie: Option<Element>,
}

/// Why a session, a content or a transport ended (XEP-0166 §7.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    /// The condition.
    pub condition: ReasonCondition,
    /// For people.
    pub text: Option<Arc<str>>,
    /// An application's own condition beside the general one.
    pub extra: Option<Element>,
}

impl Reason {
    /// A reason without text.
    pub fn new(condition: ReasonCondition) -> Self {
        Self {
            condition,
            text: None,
            extra: None,
        }
    }

    /// The same with a text for people.
    #[must_use]
    pub fn with_text(self, text: impl Into<Arc<str>>) -> Self {
        Self {
            text: Some(text.into()),
            ..self
        }
    }
}

impl From<ReasonCondition> for Reason {
    fn from(condition: ReasonCondition) -> Self {
        Self::new(condition)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.condition.as_str())?;
        match &self.text {
            Some(text) => write!(f, " ({text})"),
            None => Ok(()),
        }
    }
}

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// The conditions of XEP-0166 §7.4, and any other by its own name.
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum ReasonCondition {
            $($(#[$doc])* $variant,)*
            /// Another session, by its sid, is used instead (XEP-0166 §7.4).
            AlternativeSession(Option<Arc<str>>),
            /// Not one of XEP-0166's: kept as it was spelled.
            Other(Arc<str>),
        }

        impl ReasonCondition {
            /// The conditions of XEP-0166 that carry nothing.
            pub const PLAIN: &'static [Self] = &[$(Self::$variant,)*];

            /// The element name.
            pub fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::AlternativeSession(_) => "alternative-session",
                    Self::Other(name) => name,
                }
            }

            /// The condition with this element name. Total: an unknown name is kept.
            pub fn from_name(name: &str) -> Self {
                match name {
                    $($name => Self::$variant,)*
                    "alternative-session" => Self::AlternativeSession(None),
                    other => Self::Other(other.into()),
                }
            }
        }
    };
}

reasons! {
    /// The peer is busy with another session.
    Busy = "busy",
    /// The initiator withdrew.
    Cancel = "cancel",
    /// No path, or the path broke.
    ConnectivityError = "connectivity-error",
    /// The user said no.
    Decline = "decline",
    /// The offer has run out.
    Expired = "expired",
    /// The application could not be set up.
    FailedApplication = "failed-application",
    /// The transport could not be set up.
    FailedTransport = "failed-transport",
    /// Something else went wrong.
    GeneralError = "general-error",
    /// The entity goes away.
    Gone = "gone",
    /// Parameters that cannot be met.
    IncompatibleParameters = "incompatible-parameters",
    /// The media failed.
    MediaError = "media-error",
    /// Security preconditions failed.
    SecurityError = "security-error",
    /// Done.
    Success = "success",
    /// No answer in time.
    Timeout = "timeout",
    /// No application that we know.
    UnsupportedApplications = "unsupported-applications",
    /// No transport that we know.
    UnsupportedTransports = "unsupported-transports",
}
