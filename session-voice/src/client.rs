//! [`VoiceClient`]: the session client of calls.

mod actions;
mod config;
mod contents;
mod conversations;
mod early;
mod form;
mod secure;
#[cfg(test)]
mod tests;
mod watch;

pub use config::{CallConfig, CallError, CallOffer, CallVerdict, Verify};
pub use contents::{CallContent, ContentChange};
pub use conversations::{ConversationId, Focus};
pub use form::{CallForm, GoogleForm, JingleForm};

use crate::{
    Abilities, Call, CallChange, CallInfo, CallPhase, CallSecurity, Crypto, DTMF, DigitMessage,
    Encryption, KEY_BYTES, Media, NegotiationError, Part, Policy, RtpDescription,
    encryption::AES_CM_128_HMAC_SHA1_80, negotiate,
};
use bytes::Bytes;
use config::KeySource;
use secure::create_channel;
use session_core::{
    Cause, ChannelId, Dialect, Element, Misuse, Modification, PeerError, Pong, Reason,
    ReasonCondition, Role, Secured, Session, SessionClient, SessionId, SessionMap, Signal, State,
};
use std::{fmt, marker::PhantomData, time::Instant};

/// The name of the channel of RTP (libjingle `voicechannel.cc`).
pub const RTP_CHANNEL: &str = "rtp";

/// The name of the channel of RTCP, where it has one of its own.
pub const RTCP_CHANNEL: &str = "rtcp";

/// The name of the content with the sound, short and without blanks, as every client takes it.
pub const AUDIO_CONTENT: &str = "audio";

/// A packet of the peer's, as it came: still encrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MediaPacket {
    /// RTP.
    Rtp(Bytes),
    /// RTCP.
    Rtcp(Bytes),
    /// Something else on the same channel, such as DTLS (RFC 7983).
    Other(Bytes),
}

type Policing = Box<dyn FnMut(&CallOffer) -> CallVerdict + Send>;
type Sink = Box<dyn FnMut(SessionId, MediaPacket, Instant) + Send>;
type Others = Box<dyn FnMut(&mut Session, &str, Instant) -> bool + Send>;
type OtherSink = Box<dyn FnMut(SessionId, ChannelId, Bytes, Instant) + Send>;

/// The session client of calls (libjingle `PhoneSessionClient`, `MediaSessionClient`): who calls whom, with which codecs,
/// under whose keys, and what is said meanwhile. It carries packets and understands none of them.
///
/// `F` is the form of its descriptions: [`JingleForm`], which everybody speaks today, or [`GoogleForm`]. A manager may
/// have one of each.
///
/// What an application does with calls are functions that take the manager, because they act on a client and a session
/// of it at the same time, and because a call outlives its session until [`release`](Self::release).
///
/// What happens by itself:
/// - An offer that cannot be answered is declined with its reason before anybody hears of it.
/// - A call that nobody answers is given up after [`CallConfig::ring_for`].
/// - A peer that is not heard any more is asked whether it is there ([`CallConfig::ping_after`]).
/// - Media never go in clear unless [`CallConfig::allow_plain`] says that they may.
/// - Contents that are not sound are declined, unless the application takes them, at once ([`set_others`](Self::set_others)) or
///   when it likes ([`CallConfig::ask_contents`], [`accept_content`](Self::accept_content)); the call goes on either way.
///   [`Call::contents`] tells of them.
pub struct VoiceClient<F: CallForm = JingleForm> {
    config: CallConfig,
    /// Each in a place of its own, as the map has room for more than there are.
    calls: SessionMap<Box<Call>>,
    policy: Option<Policing>,
    keys: Option<KeySource>,
    sink: Option<Sink>,
    others: Option<Others>,
    other_sink: Option<OtherSink>,
    signal_offer: Signal<CallOffer>,
    focus: Focus,
    /// How many there have been.
    conversations: u64,
    form: PhantomData<fn() -> F>,
}

/// Setting up, and looking.
impl<F: CallForm> VoiceClient<F> {
    /// A client without a policy: every offer waits for the application.
    pub fn new(config: CallConfig) -> Self {
        Self {
            config,
            calls: SessionMap::new(),
            policy: None,
            keys: None,
            sink: None,
            others: None,
            other_sink: None,
            signal_offer: Signal::new(),
            focus: Focus::default(),
            conversations: 0,
            form: PhantomData,
        }
    }

    /// Who decides about offers before the application is asked.
    pub fn set_policy(&mut self, policy: impl FnMut(&CallOffer) -> CallVerdict + Send + 'static) {
        self.policy = Some(Box::new(policy));
    }

    /// Who makes keys that travel in signalling. Never the same twice.
    pub fn set_keys(&mut self, keys: impl FnMut() -> [u8; KEY_BYTES] + Send + 'static) {
        self.keys = Some(KeySource(Box::new(keys)));
    }

    /// Who gets the peers' packets, at once and in the order in which they came.
    pub fn set_sink(&mut self, sink: impl FnMut(SessionId, MediaPacket, Instant) + Send + 'static) {
        self.sink = Some(Box::new(sink));
    }

    /// Who takes contents beside the sound, such as video or a shared screen: it is given each that a peer offers with a
    /// call that is answered, or adds to one, by its name. `true` says that it was taken, `false` declines it.
    ///
    /// One that is taken belongs to the application: its description and what it means, its channels
    /// ([`Session::create_channel_in`]), and what is sent in them ([`Session::send`]). It is answered by
    /// [`Session::set_answer`] when it came with the call ([`Session::state`] is not yet accepted), and by
    /// [`Session::accept_content`] when it was added, then or later.
    pub fn set_others(
        &mut self,
        take: impl FnMut(&mut Session, &str, Instant) -> bool + Send + 'static,
    ) {
        self.others = Some(Box::new(take));
    }

    /// Who gets the packets of channels that the application has created in contents of its own.
    pub fn set_other_sink(
        &mut self,
        sink: impl FnMut(SessionId, ChannelId, Bytes, Instant) + Send + 'static,
    ) {
        self.other_sink = Some(Box::new(sink));
    }

    /// Announces each offer that waits for the application.
    pub fn signal_offer(&self) -> &Signal<CallOffer> {
        &self.signal_offer
    }

    /// A call to look at.
    pub fn call(&self, session: SessionId) -> Option<&Call> {
        self.calls.get(session).map(|call| &**call)
    }

    /// All calls that were not released.
    pub fn sessions(&self) -> impl Iterator<Item = SessionId> {
        self.calls.ids()
    }
}

impl<F: CallForm> VoiceClient<F> {
    fn policy_of_keys(&self) -> Policy {
        if self.config.dtls || self.keys.is_none() {
            Policy::Disabled
        } else {
            self.config.sdes
        }
    }

    fn check_room(&self) -> Result<(), CallError> {
        let max = self.config.calls_max;
        if self.calls.len() >= max {
            return Err(CallError::TooMany(max));
        }
        Ok(())
    }

    fn new_key(&mut self) -> [u8; KEY_BYTES] {
        self.keys.as_mut().map_or([0; KEY_BYTES], |keys| (keys.0)())
    }

    /// Whether a call that is offered to us may be, in the dialect of its session: without a certificate nobody can be
    /// verified, and Google's form in Jingle's words comes from nobody that has none.
    fn check_security(
        &self,
        security: &CallSecurity,
        dialect: &Dialect,
    ) -> Result<(), NegotiationError> {
        let is_googles = F::NAMESPACE == GoogleForm::NAMESPACE;
        let is_foreign = is_googles && dialect.name == Dialect::JINGLE.name;
        match security {
            CallSecurity::Dtls => Ok(()),
            CallSecurity::Sdes { .. } | CallSecurity::Plain if self.config.verify.is_some() => {
                Err(NegotiationError::NoCertificate)
            }
            CallSecurity::Sdes { .. } if is_foreign => Err(NegotiationError::NoCertificate),
            CallSecurity::Sdes { .. } | CallSecurity::Plain => Ok(()),
        }
    }

    /// What we offer.
    fn offer(&mut self) -> Result<RtpDescription, CallError> {
        if self.config.verify.is_some() && !self.config.dtls {
            return Err(NegotiationError::NoCertificate.into());
        }
        let mut offer = self.config.audio.clone();
        offer.media = Media::Audio;
        offer.encryption = None;
        if !self.config.dtls && self.config.sdes != Policy::Disabled {
            if self.keys.is_none() {
                return Err(CallError::NoKeys);
            }
            let key = self.new_key();
            offer.encryption = Some(Encryption {
                required: self.config.sdes == Policy::Required || !self.config.allow_plain,
                cryptos: vec![Crypto::new(1, AES_CM_128_HMAC_SHA1_80, &key)],
            });
        }
        Ok(offer)
    }

    /// What we would answer, and how media would be protected.
    fn negotiate(
        &mut self,
        offer: &RtpDescription,
    ) -> Result<(RtpDescription, CallSecurity), NegotiationError> {
        let abilities = Abilities {
            description: self.config.audio.clone(),
            policy: self.policy_of_keys(),
            dtls: self.config.dtls,
            preference: self.config.preference,
        };
        // A key is spent only where one is needed.
        let wanted = abilities.policy != Policy::Disabled && offer.encryption.is_some();
        let key = if wanted {
            self.new_key()
        } else {
            [0; KEY_BYTES]
        };
        let answer = abilities.answer(offer, &key)?;
        let ours = answer.encryption.as_ref().and_then(|e| e.cryptos.first());
        let security = match ours {
            _ if self.config.dtls => CallSecurity::Dtls,
            Some(ours) => {
                let theirs = offer.encryption.iter().flat_map(|e| &e.cryptos);
                let theirs = theirs.into_iter().find(|theirs| theirs.tag == ours.tag);
                let theirs = theirs.ok_or(NegotiationError::NoEncryption)?;
                CallSecurity::Sdes {
                    ours: ours.clone(),
                    theirs: theirs.clone(),
                }
            }
            None if self.config.allow_plain => CallSecurity::Plain,
            None => return Err(NegotiationError::NoEncryption),
        };
        Ok((answer, security))
    }

    /// What the peer's answer to our offer means.
    fn judge_answer(
        &self,
        offer: &RtpDescription,
        answer: &RtpDescription,
    ) -> Result<(RtpDescription, CallSecurity), NegotiationError> {
        let agreed = negotiate::confirm(offer, answer)?;
        let offered = offer.encryption.iter().flat_map(|e| &e.cryptos);
        let taken = answer.encryption.as_ref().and_then(|e| e.cryptos.first());
        let security = match taken {
            _ if self.config.dtls => CallSecurity::Dtls,
            Some(theirs) if theirs.is_usable() => {
                let same = |ours: &&Crypto| ours.tag == theirs.tag && ours.suite == theirs.suite;
                let ours = offered
                    .into_iter()
                    .find(same)
                    .ok_or(NegotiationError::NoEncryption)?;
                CallSecurity::Sdes {
                    ours: ours.clone(),
                    theirs: theirs.clone(),
                }
            }
            Some(_) => return Err(NegotiationError::NoEncryption),
            None if self.config.allow_plain => CallSecurity::Plain,
            None => return Err(NegotiationError::NoEncryption),
        };
        Ok((agreed, security))
    }

    /// A peer calls: the policy, then the application.
    fn receive_offer(&mut self, session: &mut Session, now: Instant) {
        let offer = session.remote_description().map(F::read);
        let Some(Ok(offer)) = offer else {
            let reason = Reason::new(ReasonCondition::IncompatibleParameters);
            return reject(session, reason, now);
        };
        if self.check_room().is_err() {
            return reject(session, ReasonCondition::Busy.into(), now);
        }
        let agreed = self.negotiate(&offer).and_then(|(answer, security)| {
            self.check_security(&security, session.dialect())?;
            Ok((answer, security))
        });
        let (answer, security) = match agreed {
            Ok(agreed) => agreed,
            Err(error) => return reject(session, error.reason(), now),
        };
        let id = session.id();
        let from = session.remote_name().clone();
        let offer = CallOffer {
            session: id,
            from: from.clone(),
            answer: answer.clone(),
            contents: session
                .contents()
                .skip(1)
                .filter_map(CallContent::new)
                .collect(),
        };
        let verdict = self
            .policy
            .as_mut()
            .map_or(CallVerdict::Ask, |policy| policy(&offer));
        if let CallVerdict::Decline(reason) = verdict {
            return reject(session, reason, now);
        }
        let (role, conversation) = (Role::Responder, self.new_conversation());
        let mut call = Call::new(from, role, CallPhase::Offered, answer, conversation);
        call.security = Some(security);
        // With the layer's answer in it the session's answer is whole, and hands are shaken while it rings.
        match self.secure_channel(session, RTP_CHANNEL, now) {
            Ok(channel) => call.gate.rtp = channel,
            Err(misuse) => {
                let reason = Reason::new(ReasonCondition::SecurityError);
                return reject(session, reason.with_text(misuse.to_string()), now);
            }
        }
        if self.config.early_media && verdict != CallVerdict::Answer {
            call.gate.early = early::prepare(session, call.gate.rtp).is_ok();
        }
        self.calls.insert(id, Box::new(call));
        match verdict {
            CallVerdict::Answer => {
                if let Err(error) = self.answer_in(session, now) {
                    let reason = Reason::new(ReasonCondition::FailedApplication);
                    reject(session, reason.with_text(error.to_string()), now);
                }
            }
            CallVerdict::Ring => {
                tell(session, &CallInfo::Ringing, now);
                self.signal_offer.emit(offer);
            }
            CallVerdict::Ask | CallVerdict::Decline(_) => self.signal_offer.emit(offer),
        }
    }

    fn answer_in(&mut self, session: &mut Session, now: Instant) -> Result<(), CallError> {
        let id = session.id();
        let call = self.calls.get(id).ok_or(CallError::Unknown(id))?;
        if call.gate.phase != CallPhase::Offered {
            return Err(CallError::NotOffered(id));
        }
        self.settle_others(session, now);
        let call = self.calls.get_mut(id).ok_or(CallError::Unknown(id))?;
        session.accept_with(F::write(&call.local), now)?;
        call.agreed = Some(call.local.clone());
        self.opened(session, now);
        Ok(())
    }

    /// Both sides have accepted.
    fn opened(&mut self, session: &mut Session, now: Instant) {
        let layer = self.layer();
        let Some(call) = self.calls.get_mut(session.id()) else {
            return;
        };
        if !matches!(call.gate.phase, CallPhase::Offered | CallPhase::Calling) {
            return;
        }
        call.gate.phase = CallPhase::Answered;
        call.answered_at = Some(now);
        session.set_timer(now.checked_add(self.config.ping_after));
        let shared = call.agreed.as_ref().is_some_and(|agreed| agreed.rtcp_mux);
        let wanted: &[&str] = if shared {
            &[RTP_CHANNEL]
        } else {
            &[RTP_CHANNEL, RTCP_CHANNEL]
        };
        for &name in wanted {
            let made = match session.channel(name) {
                Some(channel) => Ok(channel),
                None => create_channel(session, name, layer.as_ref(), now),
            };
            match (made, name) {
                (Ok(channel), RTP_CHANNEL) => call.gate.rtp = Some(channel),
                (Ok(channel), _) => call.gate.rtcp = Some(channel),
                // It ended meanwhile, which is told next.
                (Err(Misuse::TooLate(_)), _) => {}
                (Err(misuse), _) => {
                    let reason = Reason::new(ReasonCondition::FailedTransport);
                    return end(session, reason.with_text(misuse.to_string()), now);
                }
            }
        }
        call.follow(session);
        call.signal.emit(CallChange::Answered);
        self.settle_hold(session, now);
    }

    fn receive_accept(&mut self, session: &mut Session, now: Instant) {
        let id = session.id();
        let Some(offer) = self.calls.get(id).map(|call| call.local.clone()) else {
            return;
        };
        let Some(Ok(answer)) = session.remote_description().map(F::read) else {
            let reason = Reason::new(ReasonCondition::IncompatibleParameters);
            return end(session, reason.with_text("the answer cannot be read"), now);
        };
        match self.judge_answer(&offer, &answer) {
            Ok((agreed, security)) => {
                if let Some(call) = self.calls.get_mut(id) {
                    call.agreed = Some(agreed);
                    call.security = Some(security);
                }
                self.opened(session, now);
            }
            Err(error) => end(session, error.reason(), now),
        }
    }

    fn receive_info(&mut self, session: &Session, element: &Element) -> Result<bool, PeerError> {
        let Some(call) = self.calls.get_mut(session.id()) else {
            return Ok(false);
        };
        if element.is(DTMF, "dtmf") {
            let message = DigitMessage::from_element(element)?;
            call.signal.emit(CallChange::Digit(message.digit));
            return Ok(true);
        }
        let Some(info) = CallInfo::from_element(element) else {
            return Ok(false);
        };
        match info {
            CallInfo::Ringing if call.gate.phase == CallPhase::Calling && !call.rings => {
                call.rings = true;
                call.signal.emit(CallChange::Ringing);
            }
            CallInfo::Ringing => {}
            CallInfo::Hold => set(call, true, |call| &mut call.hold.there, CallChange::Held),
            CallInfo::Unhold => set(call, false, |call| &mut call.hold.there, CallChange::Held),
            // Of another content it says nothing of the sound; without a name it is of all (XEP-0167 §8.3).
            CallInfo::Mute(part) | CallInfo::Unmute(part) if is_of_another(session, &part) => {}
            CallInfo::Mute(_) => set(call, true, |call| &mut call.mute.there, CallChange::Muted),
            CallInfo::Unmute(_) => set(call, false, |call| &mut call.mute.there, CallChange::Muted),
            // It ends both (XEP-0167 §8.1).
            CallInfo::Active => {
                set(call, false, |call| &mut call.hold.there, CallChange::Held);
                set(call, false, |call| &mut call.mute.there, CallChange::Muted);
            }
        }
        Ok(true)
    }
}

impl<F: CallForm> SessionClient for VoiceClient<F> {
    fn namespace(&self) -> &str {
        F::NAMESPACE
    }

    fn check_offer(&mut self, description: &Element) -> Result<(), PeerError> {
        F::read(description).map(|_| ())
    }

    fn on_session_create(&mut self, session: &mut Session, received: bool, _: Instant) {
        if !received {
            // Without a content name yet; it cannot be taken by another.
            let _ = session.set_content_name(AUDIO_CONTENT);
        }
    }

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        match state {
            State::ReceivedInitiate => self.receive_offer(session, now),
            State::ReceivedAccept => self.receive_accept(session, now),
            State::Init
            | State::SentInitiate
            | State::SentAccept
            | State::SentModify
            | State::ReceivedModify
            | State::SentReject
            | State::ReceivedReject
            | State::SentRedirect
            | State::SentTerminate
            | State::ReceivedTerminate
            | State::InProgress
            | State::Deinit => {}
        }
    }

    fn on_packet(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        packet: Bytes,
        now: Instant,
    ) {
        let id = session.id();
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        call.gate.heard_at = Some(now);
        if ![call.gate.rtp, call.gate.rtcp].contains(&Some(channel)) {
            if let Some(sink) = &mut self.other_sink {
                sink(id, channel, packet, now);
            }
            return;
        }
        let Some(sink) = &mut self.sink else {
            return;
        };
        // What begins with 128 to 191 is RTP or RTCP (RFC 7983 §7).
        let packet = match packet.first() {
            Some(128..=191) if crate::is_rtcp(&packet) => MediaPacket::Rtcp(packet),
            Some(128..=191) => MediaPacket::Rtp(packet),
            Some(_) | None => MediaPacket::Other(packet),
        };
        sink(id, packet, now);
    }

    fn on_secured(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        secured: &Secured,
        now: Instant,
    ) {
        self.take_keys(session, channel, secured, now);
    }

    fn on_writable(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        writable: bool,
        now: Instant,
    ) {
        if let Some(call) = self.calls.get_mut(session.id())
            && call.gate.rtp == Some(channel)
            && call.connected != writable
        {
            call.connected = writable;
            call.signal.emit(CallChange::Connected(writable));
            self.check_path(session, now);
        }
    }

    fn on_channel_gone(
        &mut self,
        session: &mut Session,
        channel: ChannelId,
        _: &str,
        now: Instant,
    ) {
        let Some(call) = self.calls.get_mut(session.id()) else {
            return;
        };
        if call.gate.rtcp == Some(channel) {
            // Reports are a loss that a call outlives.
            (call.gate.rtcp, call.gate.no_reports) = (None, true);
        } else if call.gate.rtp == Some(channel) {
            let reason = Reason::new(ReasonCondition::FailedTransport);
            end(
                session,
                reason.with_text("the peer does not have the channel"),
                now,
            );
        }
    }

    fn on_info(
        &mut self,
        session: &mut Session,
        info: &[Element],
        _: Instant,
    ) -> Result<(), PeerError> {
        let mut understood = info.is_empty();
        for element in info {
            understood |= self.receive_info(session, element)?;
        }
        if understood {
            Ok(())
        } else {
            Err(PeerError::UnsupportedInfo)
        }
    }

    fn on_modify(&mut self, session: &mut Session, modification: &Modification, now: Instant) {
        self.content_changed(session, modification, now);
    }

    fn on_timer(&mut self, session: &mut Session, now: Instant) {
        let call = self.calls.get(session.id());
        if call.is_some_and(|call| call.gate.phase == CallPhase::Calling) {
            let reason = Reason::new(ReasonCondition::Timeout);
            end(session, reason.with_text("nobody answered"), now);
        } else {
            self.look_after(session, now);
        }
    }

    fn on_pong(&mut self, session: &mut Session, pong: &Pong, now: Instant) {
        self.answered_ping(session, pong, now);
    }

    fn on_session_destroy(&mut self, session: &mut Session, _: Instant) {
        let id = session.id();
        let cause = session.cause().cloned();
        let Some(call) = self.calls.get_mut(id) else {
            return;
        };
        let gone = || Cause::Local(Reason::new(ReasonCondition::Gone));
        let was_offer = call.gate.phase == CallPhase::Offered;
        call.ended(cause.unwrap_or_else(gone));
        if was_offer {
            // Nobody has taken it up, so that nobody will release it.
            self.calls.remove(id);
        }
    }
}

impl<F: CallForm> fmt::Debug for VoiceClient<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VoiceClient")
            .field("namespace", &F::NAMESPACE)
            .field("calls", &self.calls)
            .finish_non_exhaustive()
    }
}

/// Whether a content beside the sound is meant.
fn is_of_another(session: &Session, part: &Part) -> bool {
    let mut others = session.contents().skip(1);
    others.any(|content| part.name.as_ref() == Some(content.name()))
}

fn set(
    call: &mut Call,
    value: bool,
    field: impl FnOnce(&mut Call) -> &mut bool,
    change: impl FnOnce(bool) -> CallChange,
) {
    if std::mem::replace(field(call), value) != value {
        call.signal.emit(change(value));
    }
}

fn tell(session: &mut Session, info: &CallInfo, now: Instant) {
    // What is over needs no telling.
    let _ = session.send_info(vec![info.to_element()], now);
}

fn reject(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.reject(reason, now);
}

fn end(session: &mut Session, reason: Reason, now: Instant) {
    // What is over needs no end.
    let _ = session.terminate(reason, now);
}
