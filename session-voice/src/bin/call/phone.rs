//! A login with a client for calls.

use crate::{How, PROGRAM, failed, name};
use session_core::{Notice, Peer, Reason, ReasonCondition, SessionId};
use session_voice::{
    CallConfig, CallOffer, CallVerdict, JingleForm, MediaPacket, RTP, RTP_AUDIO, RtpDescription,
    VoiceClient, VoiceEngine, codecs,
};
use session_xmpp::cli::{Account, Online, Problem};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use transport_p2p::{
    dtls::{DtlsLayer, Identity},
    ice::ICE_UDP,
};

/// What a peer needs.
pub(crate) const FEATURES: &[&str] = &[RTP, RTP_AUDIO, "urn:xmpp:jingle:apps:dtls:0"];

/// The client for calls.
pub(crate) type Client = VoiceClient<JingleForm>;

/// What is between packets and sound: nothing before the call is answered and encrypted.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) engine: Option<VoiceEngine>,
    pub(crate) digits: String,
    session: Option<SessionId>,
}

impl Line {
    fn take(&mut self, session: SessionId, packet: MediaPacket, now: Instant) {
        let Some(engine) = self
            .engine
            .as_mut()
            .filter(|_| self.session == Some(session))
        else {
            return;
        };
        let event = match packet {
            MediaPacket::Rtp(packet) => engine.handle_rtp(packet, now),
            MediaPacket::Rtcp(packet) => engine.handle_rtcp(packet, now),
            MediaPacket::Other(_) => return,
        };
        // What cannot be read is counted by the engine.
        if let Ok(Some(session_voice::MediaEvent::Digit(digit))) = event {
            self.digits.push(digit.key());
        }
    }
}

/// A login with a client for calls.
pub(crate) struct Phone {
    pub(crate) online: Online,
    line: Arc<Mutex<Line>>,
}

impl Phone {
    pub(crate) async fn login(
        account: Account,
        how: &How,
        ring: Duration,
    ) -> Result<Self, Problem> {
        let mut config = CallConfig::new(audio());
        config.ring_for = ring;
        config.layer = Some(Arc::new(DtlsLayer::srtp(identity()?)));
        if let Some(wanted) = how.fingerprint.clone() {
            config.verify = Some(Arc::new(move |_, secured| {
                let found = secured.peer_fingerprint.as_ref().map(ToString::to_string);
                found.is_some_and(|found| found.ends_with(&wanted.to_ascii_uppercase()))
            }));
        }
        // One call at a time: whoever calls meanwhile hears that we are busy.
        config.calls_max = 1;
        let line = Arc::new(Mutex::new(Line::default()));
        let sink = Arc::clone(&line);
        let online = account
            .login(&PROGRAM, move |manager| {
                let mut client = Client::new(config);
                client.set_policy(|_| CallVerdict::Ring);
                client.set_sink(move |session, packet, now| lock(&sink).take(session, packet, now));
                manager.add_client(client)
            })
            .await?;
        Ok(Self { online, line })
    }

    pub(crate) fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.line)
    }

    /// Calls somebody.
    pub(crate) async fn dial(&self, to: &Peer) -> Result<(SessionId, Peer), Problem> {
        let found = self.online.find(to, FEATURES).await?;
        let device = found.device.clone();
        let own = self.online.address.clone();
        let dialled = self.online.endpoint.update(|manager, now| {
            let id = manager.create_session(own, RTP, now)?;
            if let Some(session) = manager.session(id) {
                session.set_potential_transports(&[ICE_UDP])?;
            }
            Client::dial(manager, id, device, now).map(|()| id)
        });
        let id = dialled.map_err(|error| failed("dial", "call", error, ""))?;
        self.say(&format!("calling {}", name(&found.device)));
        self.line().session = Some(id);
        Ok((id, found.device))
    }

    /// Waits for a call, and answers or declines it. None if it was declined, or ended before.
    pub(crate) async fn answer(
        &self,
        after: Duration,
        decline: bool,
    ) -> Result<Option<(SessionId, Peer)>, Problem> {
        let offers = self.online.endpoint.update(|manager, _| {
            let client = manager.find_client::<Client>();
            client.map(|client| client.signal_offer().connect())
        });
        let Some(mut offers) = offers else {
            return Ok(None);
        };
        self.say(&format!(
            "waiting for calls as {}",
            name(&self.online.address)
        ));
        let offer: CallOffer = loop {
            match offers.next().await {
                Some(
                    Notice::Value(offer)
                    | Notice::Snapshot {
                        last: Some(offer), ..
                    },
                ) => break offer,
                Some(Notice::Snapshot { last: None, .. }) => {}
                Some(Notice::Ended) | None => return Ok(None),
            }
        };
        let (id, from) = (offer.session, offer.from);
        self.say(&format!("{} calls", name(&from)));
        tokio::time::sleep(after).await;
        let done = self.online.endpoint.update(|manager, now| {
            if decline {
                let reason = Reason::new(ReasonCondition::Decline);
                return Client::decline(manager, id, reason, now);
            }
            Client::answer(manager, id, now)
        });
        done.map_err(|error| failed("answer", "answer", error, "it may have ended before"))?;
        if decline {
            self.say("declined");
            return Ok(None);
        }
        self.line().session = Some(id);
        Ok(Some((id, from)))
    }

    /// Ends the login in order.
    pub(crate) async fn finish(&self) -> Result<(), Problem> {
        let reason = Reason::new(ReasonCondition::Success);
        self.online
            .endpoint
            .shutdown(reason, Duration::from_secs(3))
            .await;
        Ok(())
    }

    /// Something for people.
    pub(crate) fn say(&self, text: &str) {
        if self.online.json {
            println!("{}", serde_json::json!({ "event": "said", "text": text }));
        } else if !self.online.quiet {
            println!("{text}");
        }
    }
}

/// What we can.
fn audio() -> RtpDescription {
    let mut audio = RtpDescription::new(session_voice::Media::Audio);
    audio.payload_types = codecs();
    audio.rtcp_mux = true;
    audio
}

/// A certificate for this run alone.
fn identity() -> Result<Identity, Problem> {
    let made = rcgen::generate_simple_self_signed(["call.invalid".to_owned()]);
    let made = made.map_err(|error| failed("identity", "make a certificate", error, ""))?;
    Ok(Identity::new(
        made.cert.der(),
        &made.signing_key.serialize_der(),
    ))
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}
