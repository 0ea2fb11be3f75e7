//! The client for calls in its two forms, as functions: which one a call has is known only when it begins.

use session_core::{Misuse, Peer, Reason, SessionId, SessionManager, Slot};
use session_voice::{
    Call, CallConfig, CallError, CallForm, CallOffer, CallVerdict, Digit, GOOGLE_PHONE, GoogleForm,
    JingleForm, MediaPacket, RTP, VoiceClient,
};
use std::time::Instant;

type Act = fn(&mut SessionManager, SessionId, Instant) -> Result<(), CallError>;
pub(crate) type Switch = fn(&mut SessionManager, SessionId, bool, Instant) -> Result<(), CallError>;
type Send = fn(&mut SessionManager, SessionId, bytes::Bytes, Instant) -> Result<(), CallError>;
type End = fn(&mut SessionManager, SessionId, Reason, Instant) -> Result<(), CallError>;

/// What a program does with calls, in one form.
#[derive(Clone, Copy)]
pub(crate) struct Form {
    pub(crate) namespace: &'static str,
    pub(crate) dial: fn(&mut SessionManager, SessionId, Peer, Instant) -> Result<(), CallError>,
    pub(crate) answer: Act,
    pub(crate) speak_early: fn(&mut SessionManager, SessionId) -> Result<(), CallError>,
    pub(crate) decline: End,
    pub(crate) hang_up: End,
    pub(crate) release: Act,
    pub(crate) hold: Switch,
    pub(crate) mute: Switch,
    pub(crate) press: fn(&mut SessionManager, SessionId, Digit, Instant) -> Result<(), CallError>,
    pub(crate) send_rtp: Send,
    pub(crate) send_rtcp: Send,
    pub(crate) call: for<'a> fn(&'a mut SessionManager, SessionId) -> Option<&'a Call>,
    pub(crate) offers: fn(&mut SessionManager) -> Option<Slot<CallOffer>>,
}

/// XEP-0167.
pub(crate) const JINGLE: Form = form::<JingleForm>(RTP);

/// Google's `session/phone`.
pub(crate) const GOOGLE: Form = form::<GoogleForm>(GOOGLE_PHONE);

const fn form<F: CallForm>(namespace: &'static str) -> Form {
    Form {
        namespace,
        dial: VoiceClient::<F>::dial,
        answer: VoiceClient::<F>::answer,
        speak_early: VoiceClient::<F>::speak_early,
        decline: VoiceClient::<F>::decline,
        hang_up: VoiceClient::<F>::hang_up,
        release: VoiceClient::<F>::release,
        hold: VoiceClient::<F>::set_hold,
        mute: VoiceClient::<F>::set_mute,
        press: VoiceClient::<F>::press,
        send_rtp: VoiceClient::<F>::send_rtp,
        send_rtcp: VoiceClient::<F>::send_rtcp,
        call: |manager, id| manager.find_client::<VoiceClient<F>>()?.call(id),
        offers: |manager| {
            let client = manager.find_client::<VoiceClient<F>>()?;
            Some(client.signal_offer().connect())
        },
    }
}

/// Registers a client whose packets go to `sink`, and which rings for whom `rings` says so and is busy otherwise.
pub(crate) fn register<F: CallForm>(
    manager: &mut SessionManager,
    config: CallConfig,
    keys: impl FnMut() -> [u8; session_voice::KEY_BYTES] + std::marker::Send + 'static,
    rings: impl Fn(&Peer) -> bool + std::marker::Send + 'static,
    sink: impl FnMut(SessionId, MediaPacket, Instant) + std::marker::Send + 'static,
) -> Result<(), Misuse> {
    let mut client = VoiceClient::<F>::new(config);
    client.set_keys(keys);
    client.set_policy(move |offer| match rings(&offer.from) {
        true => CallVerdict::Ring,
        false => CallVerdict::Decline(session_core::ReasonCondition::Busy.into()),
    });
    client.set_sink(sink);
    manager.add_client(client)
}
