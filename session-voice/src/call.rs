//! One call, as our side sees it.

use crate::{
    ContentChange, ConversationId, Crypto, PayloadType, Protection, RtpDescription, SrtpMaster,
    lines, payload::TELEPHONE_EVENT,
};
use session_core::{Cause, ChannelId, Peer, Role, Secured, Signal};
use std::{slice, time::Instant};

/// A call. It is there from the offer until [`VoiceClient::release`](crate::VoiceClient::release), also when its session
/// is gone.
#[derive(Debug)]
pub struct Call {
    peer: Peer,
    role: Role,
    pub(crate) conversation: ConversationId,
    pub(crate) gate: Gate,
    pub(crate) rings: bool,
    pub(crate) local: RtpDescription,
    pub(crate) agreed: Option<RtpDescription>,
    pub(crate) security: Option<CallSecurity>,
    /// What a handshake made: for the channel of RTP, and for RTCP's where that has its own.
    pub(crate) protection: Option<Protection>,
    pub(crate) control_protection: Option<Protection>,
    pub(crate) secured: Option<Secured>,
    pub(crate) connected: bool,
    /// It has answered when it was asked last whether it is there, or was not asked.
    pub(crate) answers: bool,
    /// We are among those who send in the content of the sound.
    pub(crate) sounds: bool,
    pub(crate) hold: Sides,
    /// We have put the peer on hold, whoever has the focus.
    pub(crate) wants_hold: bool,
    pub(crate) mute: Sides,
    pub(crate) answered_at: Option<Instant>,
    pub(crate) cause: Option<Cause>,
    pub(crate) signal: Signal<CallChange>,
    pub(crate) contents: Signal<ContentChange>,
}

/// What each packet asks: whether it may pass, and by which channel. Together, because the memory of thousands of calls is
/// far away.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(crate) struct Gate {
    pub(crate) rtp: Option<ChannelId>,
    pub(crate) rtcp: Option<ChannelId>,
    /// Reports have no way any more: the channel of their own is gone, and the peer does not take them among the sound.
    pub(crate) no_reports: bool,
    pub(crate) phase: CallPhase,
    /// Our sound may be sent before the answer.
    pub(crate) early: bool,
    /// When something came last.
    pub(crate) heard_at: Option<Instant>,
}

impl Gate {
    /// Asks the processor for it.
    pub(crate) fn prefetch(&self) {
        lines::prefetch_all(slice::from_ref(self));
    }
}

/// Where a call is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallPhase {
    /// The peer calls; nobody has decided.
    Offered,
    /// We call; the peer has not decided. Whether it rings there, [`Call::rings`] tells.
    Calling,
    /// Both sides have accepted.
    Answered,
    /// It is over.
    Ended,
}

/// What a call announces. The getters of [`Call`] tell where things stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CallChange {
    /// It rings at the peer's.
    Ringing,
    /// Both sides have accepted.
    Answered,
    /// The peer is recognised, and the keys are there: [`Call::protection`]. Again when another transport took over. Before
    /// [`Answered`](Self::Answered) it says that early media may follow (XEP-0269): what the peer plays while it rings
    /// there. What is needed to hear it is [`Call::expected`].
    Secured,
    /// There is a path, or there is none any more. It may be there before the answer.
    Connected(bool),
    /// The peer put us on hold, or took us off.
    Held(bool),
    /// The peer muted itself, or unmuted.
    Muted(bool),
    /// The peer pressed a key, in a message.
    Digit(crate::Digit),
    /// The call is over.
    Ended,
}

/// How media are protected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallSecurity {
    /// By keys that DTLS makes.
    Dtls,
    /// By keys in signalling: ours, with which we send, and the peer's.
    Sdes {
        /// With which we send.
        ours: Crypto,
        /// With which the peer sends.
        theirs: Crypto,
    },
    /// Not at all, as [`CallConfig::allow_plain`](crate::CallConfig::allow_plain) allowed.
    Plain,
}

/// What each side has switched on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sides {
    /// We have.
    pub here: bool,
    /// The peer has.
    pub there: bool,
}

impl Call {
    pub(crate) fn new(
        peer: Peer,
        role: Role,
        phase: CallPhase,
        local: RtpDescription,
        conversation: ConversationId,
    ) -> Self {
        Self {
            peer,
            role,
            conversation,
            gate: Gate {
                rtp: None,
                rtcp: None,
                no_reports: false,
                phase,
                early: false,
                heard_at: None,
            },
            rings: false,
            local,
            agreed: None,
            security: None,
            protection: None,
            control_protection: None,
            secured: None,
            connected: false,
            answers: true,
            sounds: true,
            hold: Sides::default(),
            wants_hold: false,
            mute: Sides::default(),
            answered_at: None,
            cause: None,
            signal: Signal::new(),
            contents: Signal::new(),
        }
    }

    /// Who is at the other end.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Who called: the initiator.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The conversation that it is part of.
    pub fn conversation(&self) -> ConversationId {
        self.conversation
    }

    /// Where it is in its life.
    pub fn phase(&self) -> CallPhase {
        self.gate.phase
    }

    /// Whether the peer has said that it rings there.
    pub fn rings(&self) -> bool {
        self.rings
    }

    /// What we offered, or would answer.
    pub fn local(&self) -> &RtpDescription {
        &self.local
    }

    /// What both agreed on: the answer, ours or theirs. None before there is one.
    pub fn agreed(&self) -> Option<&RtpDescription> {
        self.agreed.as_ref()
    }

    /// What both have agreed on, or as much as is known of that before the answer: our answer as it will be, or what we
    /// offered, of which the peer's answer will be a part. With it early media can be spoken, or heard.
    pub fn expected(&self) -> &RtpDescription {
        self.agreed.as_ref().unwrap_or(&self.local)
    }

    /// The codec to send with: the first that both have and that is no digits, noise or repair.
    pub fn codec(&self) -> Option<&PayloadType> {
        let codecs = &self.agreed.as_ref()?.payload_types;
        codecs
            .iter()
            .find(|codec| !crate::negotiate::is_auxiliary(codec))
    }

    /// The payload type that carries digits in the clock rate of the codec, if both have one.
    pub fn digits(&self) -> Option<&PayloadType> {
        let rate = self.codec()?.clock_rate;
        let codecs = &self.agreed.as_ref()?.payload_types;
        codecs
            .iter()
            .find(|codec| codec.is(TELEPHONE_EVENT) && codec.clock_rate == rate)
    }

    /// How media are protected, once that is agreed.
    pub fn security(&self) -> Option<&CallSecurity> {
        self.security.as_ref()
    }

    /// The keys of the call, or that it has none: what a [`MediaStream`](crate::MediaStream) is made with. `None` while
    /// they are not there yet, and always when the application does DTLS by itself.
    pub fn protection(&self) -> Option<Protection> {
        match self.security.as_ref()? {
            CallSecurity::Dtls => self.protection.clone(),
            CallSecurity::Sdes { ours, theirs } => Some(Protection::Srtp {
                ours: SrtpMaster::from_crypto(ours)?,
                theirs: SrtpMaster::from_crypto(theirs)?,
            }),
            CallSecurity::Plain => Some(Protection::Plain),
        }
    }

    /// The same for RTCP, which has keys of its own where it has a channel of its own and DTLS makes the keys.
    pub fn control_protection(&self) -> Option<Protection> {
        match (&self.security, self.gate.rtcp) {
            (Some(CallSecurity::Dtls), Some(_)) => self.control_protection.clone(),
            _ => self.protection(),
        }
    }

    /// What the handshake has proved about the peer, to be shown or compared.
    pub fn secured(&self) -> Option<&Secured> {
        self.secured.as_ref()
    }

    /// Whether there is a path.
    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Who has put whom on hold.
    pub fn hold(&self) -> Sides {
        self.hold
    }

    /// Who is muted.
    pub fn mute(&self) -> Sides {
        self.mute
    }

    /// Whether our sound is to be sent now: the call is answered, or is one in which we
    /// [speak early](crate::VoiceClient::speak_early) under keys that are there; there is a path, we are not muted, nobody
    /// holds, and we are among those who send (XEP-0166 §7.3).
    pub fn may_send(&self) -> bool {
        self.may_speak()
            && self.connected
            && self.sounds
            && !self.mute.here
            && !self.hold.here
            && !self.hold.there
    }

    /// Whether our sound may leave at all: the call is answered, or we speak before that.
    pub(crate) fn may_speak(&self) -> bool {
        match self.gate.phase {
            CallPhase::Answered => true,
            CallPhase::Offered | CallPhase::Calling => {
                self.gate.early && self.protection().is_some()
            }
            CallPhase::Ended => false,
        }
    }

    /// When it was answered.
    pub fn answered_at(&self) -> Option<Instant> {
        self.answered_at
    }

    /// Why it is over, once it is.
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Announces what changes.
    pub fn signal(&self) -> &Signal<CallChange> {
        &self.signal
    }

    /// Announces what happens to its contents beside the sound.
    pub fn contents(&self) -> &Signal<ContentChange> {
        &self.contents
    }

    /// The channel of RTCP: RTP's own, where both share one.
    pub(crate) fn control_channel(&self) -> Option<ChannelId> {
        let shared = self.gate.rtp.filter(|_| !self.gate.no_reports);
        self.gate.rtcp.or(shared)
    }

    pub(crate) fn ended(&mut self, cause: Cause) {
        if self.gate.phase != CallPhase::Ended {
            self.gate.phase = CallPhase::Ended;
            self.connected = false;
            (self.gate.rtp, self.gate.rtcp) = (None, None);
            self.cause = Some(cause);
            self.signal.emit(CallChange::Ended);
        }
    }
}
