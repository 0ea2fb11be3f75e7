//! How calls behave, and what is said about them.

use super::CallContent;
use crate::{KEY_BYTES, NegotiationError, Policy, Preference, RtpDescription};
use session_core::{Cause, ChannelLayer, Misuse, Peer, Reason, Secured, SessionId};
use std::{fmt, sync::Arc, time::Duration};
use thiserror::Error;

/// Whether what was proved of a peer is to be trusted: a comparison with fingerprints known by another way, for example.
pub type Verify = Arc<dyn Fn(&Peer, &Secured) -> bool + Send + Sync>;

/// How calls behave.
#[derive(Clone)]
pub struct CallConfig {
    /// Our codecs in order of preference, header extensions, feedback and whether RTCP may share RTP's channel.
    pub audio: RtpDescription,
    /// Whose order of codecs an answer has.
    pub preference: Preference,
    /// Whether DTLS makes the keys. With a [`layer`](Self::layer) that happens by itself; without one the application does
    /// it, and adds the fingerprints (XEP-0320) to its transports. Default yes.
    pub dtls: bool,
    /// The layer that shakes hands for the keys, over every transport of datagrams: `transport_p2p::dtls::DtlsLayer::srtp`.
    /// Used while [`dtls`](Self::dtls) is on. A call whose peer does not take part is declined, or ends. Default none.
    pub layer: Option<Arc<dyn ChannelLayer>>,
    /// Asked once for each channel whose peer the layer has recognised. A call that is not to be trusted ends, and without
    /// [`dtls`](Self::dtls) there is none: what keys in signalling prove is nothing to ask about
    /// ([`NegotiationError::NoCertificate`]). Default none: what signalling names is believed.
    pub verify: Option<Verify>,
    /// Keys in signalling, where DTLS does not make them. Needs [`VoiceClient::set_keys`](crate::VoiceClient::set_keys).
    /// [`GoogleForm`](crate::GoogleForm) takes them in Google's dialects alone. Default none.
    pub sdes: Policy,
    /// Whether a call may go on without encryption. Default no: such an offer is declined, such an answer ends the call.
    pub allow_plain: bool,
    /// Whether we [speak early](crate::VoiceClient::speak_early) to everybody who calls and is not answered at once. Default
    /// no.
    pub early_media: bool,
    /// Whether contents that a peer adds to a call wait for [`accept_content`](crate::VoiceClient::accept_content) or
    /// [`decline_content`](crate::VoiceClient::decline_content) when nobody takes them at once. Default no: they are
    /// declined. Those that come with a call wait for its answer, and are declined with it.
    pub ask_contents: bool,
    /// How long our call rings until it is given up. Default 60 s.
    pub ring_for: Duration,
    /// How long nothing may come from the peer of an answered call until it is asked whether it is there
    /// ([`Session::ping`](session_core::Session::ping)), and between two such questions. If its server says that it is gone, the
    /// call ends at once, and if nobody answers, when the path is given up as well, with
    /// [`ReasonCondition::Gone`](session_core::ReasonCondition::Gone). Default 5 s, as often as reports come (RFC 3550 §6.2).
    pub ping_after: Duration,
    /// Calls at a time, those included that are over and not released; further offers are declined as busy. Default 8.
    pub calls_max: usize,
}

impl CallConfig {
    /// The defaults, with these codecs.
    pub fn new(audio: RtpDescription) -> Self {
        Self {
            audio,
            preference: Preference::default(),
            dtls: true,
            layer: None,
            verify: None,
            sdes: Policy::Disabled,
            allow_plain: false,
            early_media: false,
            ask_contents: false,
            ring_for: Duration::from_secs(60),
            ping_after: Duration::from_secs(5),
            calls_max: 8,
        }
    }
}

impl fmt::Debug for CallConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallConfig")
            .field("audio", &self.audio)
            .field("preference", &self.preference)
            .field("dtls", &self.dtls)
            .field("layer", &self.layer.is_some())
            .field("verify", &self.verify.is_some())
            .field("sdes", &self.sdes)
            .field("allow_plain", &self.allow_plain)
            .field("early_media", &self.early_media)
            .field("ask_contents", &self.ask_contents)
            .field("ring_for", &self.ring_for)
            .field("ping_after", &self.ping_after)
            .field("calls_max", &self.calls_max)
            .finish()
    }
}

/// A call that a peer offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallOffer {
    /// The session.
    pub session: SessionId,
    /// Who calls.
    pub from: Peer,
    /// The answer that would be given.
    pub answer: RtpDescription,
    /// What the peer offers beside the sound.
    pub contents: Vec<CallContent>,
}

/// What a policy says to a [`CallOffer`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum CallVerdict {
    /// The application decides, by [`answer`](crate::VoiceClient::answer) or [`decline`](crate::VoiceClient::decline).
    #[default]
    Ask,
    /// As [`Ask`](Self::Ask), and the caller hears that it rings.
    Ring,
    /// Answered at once.
    Answer,
    /// Declined at once, for this reason.
    Decline(Reason),
}

/// Why something was not possible. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CallError {
    /// No [`VoiceClient`](crate::VoiceClient) is registered with the manager.
    #[error("no client for calls is registered")]
    NoClient,
    /// There is no such call, or it was released.
    #[error("there is no call {0}")]
    Unknown(SessionId),
    /// The offer was decided, or it was ours.
    #[error("call {0} is not an offer that waits for a decision")]
    NotOffered(SessionId),
    /// The session was used for a call already.
    #[error("session {0} has its call already")]
    InUse(SessionId),
    /// More calls than we keep.
    #[error("more than {0} calls")]
    TooMany(usize),
    /// Keys are to travel in signalling, and nobody makes them.
    #[error("keys are to travel in signalling, and nothing was set to make them")]
    NoKeys,
    /// The peer cannot be heard yet, or no longer.
    #[error("the call is not connected")]
    NotConnected,
    /// To this peer nothing can be said before the answer: nothing of ours is told before, or the keys travel in signalling.
    /// With those the callee's key is in the session-accept and nowhere else (XEP-0167 §7, RFC 4568 §5.1.2), for which
    /// libjingle waited, too. XEP-0269 has a content for early media, with keys of its own, that the callee adds before it
    /// answers; no client is known to take one.
    #[error("nothing can be said to the peer before the answer")]
    NotEarly,
    /// There is no such conversation, or no call of it any more.
    #[error("there is no such conversation")]
    NoConversation,
    /// The call is over.
    #[error("the call is over: {0}")]
    Ended(Cause),
    /// No agreement with the offer.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// The session does not allow it.
    #[error(transparent)]
    Session(#[from] Misuse),
}

/// Makes keys. It is asked for one per call with keys in signalling, and must never give the same twice.
pub(crate) struct KeySource(pub(crate) Box<dyn FnMut() -> [u8; KEY_BYTES] + Send>);

impl fmt::Debug for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeySource")
    }
}
