//! A login with clients for calls, and how a call comes about on it.

use crate::{
    How, PROGRAM, Ringing,
    announce::is_sound,
    contents, failed,
    form::{self, Form, GOOGLE, JINGLE},
    keys::Keys,
    screen::Screen,
};
use serde_json::json;
use session_core::{Notice, Peer, Reason, ReasonCondition, SessionId, SessionManager, Slot};
use session_voice::{
    CallChange, CallConfig, CallContent, CallOffer, ContentChange, Digit, GoogleForm, JingleForm,
    KEY_BYTES, MediaPacket, Policy, Protection, RTP, RTP_AUDIO, RtpDescription, VoiceEngine,
    codecs,
};
use session_xmpp::{
    cli::{self, Account, Online, Problem, Program, TransportName, Ways},
    jmi::JmiOutput,
};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::sleep};
use transport_p2p::dtls::{DtlsLayer, Identity};

/// What a peer needs.
pub(crate) const FEATURES: &[&str] = &[RTP, RTP_AUDIO, "urn:xmpp:jingle:apps:dtls:0"];

/// What we can in Google's dialects besides.
const GOOGLE_FEATURES: &[&str] = &[
    RTP,
    RTP_AUDIO,
    "urn:xmpp:jingle:apps:dtls:0",
    "http://www.google.com/xmpp/protocol/voice/v1",
];

/// Transports that carry packets; a stream would hold back all that follow on a lost one.
const TRANSPORTS: [TransportName; 3] = [
    TransportName::Ice,
    TransportName::IceTcp,
    TransportName::RawUdp,
];

/// Digits of a peer's that are kept at most: as many as anybody reads.
const DIGITS_KEPT: usize = 1_024;

/// How long our device rings at most.
const RING_MAX: Duration = Duration::from_secs(3_600);

/// What is between packets and sound: nothing before the call is encrypted.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) engine: Option<VoiceEngine>,
    /// With which the engine works.
    pub(crate) keys: Option<Protection>,
    /// It still rings here: who calls is not heard, whatever it sends.
    pub(crate) rings: bool,
    /// What the peer has pressed and nobody has taken yet.
    pub(crate) digits: String,
    pub(crate) session: Option<SessionId>,
    /// Somebody is called, or calls here: whoever calls us meanwhile finds us busy.
    pub(crate) calls: bool,
    /// Whose announced call is answered: the session may come from nobody else.
    expects: Option<Peer>,
    /// Whom we call, and who has not answered: if it calls us at this moment, both want the same call.
    pub(crate) dials: Option<Peer>,
    /// That has happened: an offer waits that is to be taken in the place of ours.
    pub(crate) crossed: bool,
}

impl Line {
    /// Whether a call of somebody may come here, which it then does.
    fn lets_in(&mut self, from: &Peer) -> bool {
        let is_same = |to: &mut Peer| match to.device() {
            Some(_) => to == from,
            None => to.account() == from.account(),
        };
        if self.dials.take_if(is_same).is_some() {
            self.crossed = true;
            return true;
        }
        let fits = |expected: &Peer| expected.account() == from.account();
        if self.session.is_some() || self.calls || !self.expects.as_ref().is_none_or(fits) {
            return false;
        }
        // Among those of one account, the session that was announced is found.
        self.calls = self.expects.is_none();
        true
    }

    /// Somebody is called, and nobody else may come here.
    pub(super) fn dial(&mut self, to: &Peer) {
        (self.calls, self.dials) = (true, Some(to.clone()));
    }

    /// The next session is one of this peer's. Which it was before.
    pub(crate) fn expect(&mut self, from: &Peer) -> Option<SessionId> {
        (self.calls, self.expects, self.dials) = (false, Some(from.clone()), None);
        self.session.take()
    }

    fn take(&mut self, session: SessionId, packet: MediaPacket, now: Instant) {
        let Some(engine) = self
            .engine
            .as_mut()
            .filter(|_| self.session == Some(session))
        else {
            return;
        };
        let event = match packet {
            MediaPacket::Rtp(_) if self.rings => return,
            MediaPacket::Rtp(packet) => engine.handle_rtp(packet, now),
            MediaPacket::Rtcp(packet) => engine.handle_rtcp(packet, now),
            MediaPacket::Other(_) => return,
        };
        // What cannot be read is counted by the engine.
        if let Ok(Some(session_voice::MediaEvent::Digit(digit))) = event {
            self.hear(digit);
        }
    }

    /// The peer has pressed a key. What is more than anybody takes in one step is lost.
    pub(crate) fn hear(&mut self, digit: Digit) {
        keep(&mut self.digits, digit.key());
    }
}

/// A call that has come about: offered by us, or to us.
pub(crate) struct Conversation {
    pub(crate) session: SessionId,
    pub(crate) form: Form,
    pub(crate) peer: Peer,
    /// The id of the messages that announced it (XEP-0353).
    pub(crate) announced: Option<Arc<str>>,
    /// What the peer does, from the beginning.
    pub(crate) changes: Option<Changes>,
    /// It is not answered yet, and rings here.
    pub(crate) ringing: Option<Ringing>,
}

/// What the peer does: with the call, and with what is in it.
pub(crate) struct Changes {
    pub(crate) call: Slot<CallChange>,
    pub(crate) contents: Slot<ContentChange>,
}

/// What the peer does from now on. Taken in one step with what it may react to.
pub(super) fn changes(manager: &mut SessionManager, form: Form, id: SessionId) -> Option<Changes> {
    (form.call)(manager, id).map(|call| Changes {
        call: call.signal().connect(),
        contents: call.contents().connect(),
    })
}

/// A login with clients for calls.
pub(crate) struct Phone {
    pub(crate) online: Online,
    pub(crate) screen: Screen,
    pub(super) events: mpsc::Receiver<JmiOutput>,
    pub(super) offers: Offers,
    /// It has been told that it rings at the peer's.
    pub(crate) rings_there: bool,
    line: Arc<Mutex<Line>>,
}

/// Somebody calls.
pub(super) enum Incoming {
    /// With the offer itself.
    Offer(Box<CallOffer>, Form),
    /// With a message to all of our devices.
    Announced { id: Arc<str>, from: Peer },
    /// Nobody any more: we are to stop.
    Stop,
    /// Nobody any more: the login is over.
    Over(Box<Problem>),
}

/// Where offers are told.
pub(super) struct Offers([(Form, Option<Slot<CallOffer>>); 2]);

impl Phone {
    pub(crate) async fn login(
        mut account: Account,
        how: &How,
        ring: Option<Duration>,
        screen: Screen,
    ) -> Result<Self, Problem> {
        choose_ways(&mut account.ways)?;
        let speaks_google = account
            .dialect
            .dialect()
            .is_some_and(|dialect| dialect.name != "jingle");
        let program = match speaks_google {
            true => Program {
                features: GOOGLE_FEATURES,
                ..PROGRAM
            },
            false => PROGRAM,
        };
        let identity = identity()?;
        let fingerprint = identity.fingerprint().to_string();
        let mut config = CallConfig::new(audio());
        config.ring_for = ring.unwrap_or(config.ring_for);
        // One call at a time, of which the line knows; for a moment there is another, where both call at once.
        config.calls_max = 2;
        config.layer = Some(Arc::new(DtlsLayer::srtp(identity)));
        if let Some(wanted) = how.fingerprint.clone() {
            config.verify = Some(Arc::new(move |_, secured| {
                let found = secured.peer_fingerprint.as_ref().map(ToString::to_string);
                found.is_some_and(|found| is_same(&found, &wanted))
            }));
        }
        // What is to be verified in one form is so in the other, where nothing can prove it.
        let google = CallConfig {
            dtls: false,
            sdes: Policy::Required,
            ..config.clone()
        };
        let line = Arc::new(Mutex::new(Line::default()));
        let [one, two] = [Arc::clone(&line), Arc::clone(&line)];
        let [here, there] = [Arc::clone(&line), Arc::clone(&line)];
        let mut online = account
            .login(&program, move |manager| {
                let free = move |from: &Peer| lock(&here).lets_in(from);
                form::register::<JingleForm>(
                    manager,
                    config,
                    key,
                    free,
                    move |id, packet, now| {
                        lock(&one).take(id, packet, now);
                    },
                )?;
                let free = move |from: &Peer| lock(&there).lets_in(from);
                form::register::<GoogleForm>(manager, google, key, free, move |id, packet, now| {
                    lock(&two).take(id, packet, now);
                })
            })
            .await?;
        let events = online.events.take();
        let events = events.ok_or_else(|| failed("misuse", "hear of calls", "no events", ""))?;
        let offers = Offers::of(&online);
        let (address, text) = (online.address.as_str(), format!("our {fingerprint}"));
        let facts = json!({ "address": address, "fingerprint": fingerprint });
        screen.tell("online", facts, &text);
        Ok(Self {
            online,
            screen,
            events,
            offers,
            rings_there: false,
            line,
        })
    }

    pub(crate) fn line(&self) -> MutexGuard<'_, Line> {
        lock(&self.line)
    }

    /// Waits for a call, which then rings here, or has done so. None if it was declined, or we were interrupted.
    pub(crate) async fn answer(
        &mut self,
        mut ringing: Ringing,
        keys: &mut Keys,
    ) -> Result<Option<Conversation>, Problem> {
        let config = {
            let mut config = session_xmpp::jmi::JmiConfig::default();
            config.ring = RING_MAX;
            config
        };
        self.online
            .calls
            .update(|calls, _| calls.set_config(config));
        let own = self.online.address.as_str().to_owned();
        self.screen.tell(
            "waiting",
            json!({ "address": own }),
            &format!("waiting for calls as {own}"),
        );
        match self.incoming(keys).await {
            Incoming::Stop => Ok(None),
            Incoming::Over(problem) => Err(*problem),
            Incoming::Offer(offer, form) => {
                self.rings(&offer.from, &offer.contents);
                Ok(Some(self.take(&offer, form, None, ringing)))
            }
            Incoming::Announced { id, from } => {
                self.rings(&from, &[]);
                if ringing.played.is_none() {
                    // Nothing is to be heard before the session, so that all devices may ring until then.
                    let answered = self.ring_announced(&id, &from, &ringing, keys);
                    if !answered.await? {
                        return Ok(None);
                    }
                    ringing.length = Duration::ZERO;
                } else {
                    self.take_up(&id, &from)?;
                }
                self.take_announced(&id, &from, ringing, keys).await
            }
        }
    }

    async fn incoming(&mut self, keys: &mut Keys) -> Incoming {
        loop {
            tokio::select! {
                (offer, form) = self.offers.next() => return Incoming::Offer(Box::new(offer), form),
                () = keys.quit(&self.screen) => return Incoming::Stop,
                problem = self.online.ended() => return Incoming::Over(Box::new(problem)),
                event = self.events.recv() => match event {
                    Some(JmiOutput::Proposed { id, from, descriptions, .. }) => {
                        if is_sound(&descriptions) {
                            return Incoming::Announced { id, from };
                        }
                    }
                    Some(_) => {}
                    None => return Incoming::Stop,
                },
            }
        }
    }

    /// Says that somebody calls, and with what beside sound.
    fn rings(&self, from: &Peer, with: &[CallContent]) {
        let others: Vec<_> = with.iter().map(contents::facts).collect();
        let facts = json!({ "peer": from.as_str(), "contents": others });
        let text = format!("{from} calls{}", contents::list(with));
        self.screen.tell("offered", facts, &text);
    }

    /// Takes an offer, which rings here from now on.
    pub(super) fn take(
        &self,
        offer: &CallOffer,
        form: Form,
        announced: Option<Arc<str>>,
        ringing: Ringing,
    ) -> Conversation {
        let id = offer.session;
        let mut line = self.line();
        // Of a session before it, nothing is left.
        *line = Line {
            session: Some(id),
            rings: true,
            ..Line::default()
        };
        drop(line);
        let early = ringing.played.is_some();
        let changes = self.online.endpoint.update(|manager, _| {
            if early && let Err(error) = (form.speak_early)(manager, id) {
                let text = format!("it rings without early media: {error}");
                self.screen
                    .tell("silent", json!({ "why": error.to_string() }), &text);
            }
            changes(manager, form, id)
        });
        Conversation {
            session: id,
            form,
            peer: offer.from.clone(),
            announced,
            changes,
            ringing: Some(ringing),
        }
    }

    /// Declines an offer.
    pub(crate) fn refuse(&self, session: SessionId, form: Form, reason: ReasonCondition) {
        // One that is over needs no answer.
        let _ = self
            .online
            .endpoint
            .update(|manager, now| (form.decline)(manager, session, reason.into(), now));
    }

    /// Ends the login in order; of an announced call all devices are told (XEP-0353 §5.5).
    pub(crate) async fn finish(
        self,
        conversation: Option<&Conversation>,
        reason: &Reason,
    ) -> Result<(), Problem> {
        if let Some(id) = conversation.and_then(|call| call.announced.as_ref()) {
            // The other side may have said so before.
            let _ = self
                .online
                .calls
                .update(|calls, _| calls.finish(id, reason));
        }
        self.online.finish(reason.clone()).await
    }
}

impl Offers {
    fn of(online: &Online) -> Self {
        let connect = |form: Form| {
            let slot = online.endpoint.update(|manager, _| (form.offers)(manager));
            (form, slot)
        };
        Self([connect(JINGLE), connect(GOOGLE)])
    }

    pub(super) async fn next(&mut self) -> (CallOffer, Form) {
        let [(one, here), (two, there)] = &mut self.0;
        tokio::select! {
            offer = next_of(here) => (offer, *one),
            offer = next_of(there) => (offer, *two),
        }
    }
}

/// The next that is announced; for ever, when nothing is any more.
async fn next_of(slot: &mut Option<Slot<CallOffer>>) -> CallOffer {
    while let Some(offers) = slot {
        match offers.next().await {
            Some(
                Notice::Value(offer)
                | Notice::Snapshot {
                    last: Some(offer), ..
                },
            ) => return offer,
            Some(Notice::Snapshot { last: None, .. }) => {}
            Some(Notice::Ended) | None => break,
        }
    }
    loop {
        sleep(RING_MAX).await;
    }
}

/// Leaves the ways to a peer that carry packets: of no others is to be told.
fn choose_ways(ways: &mut Ways) -> Result<(), Problem> {
    ways.transports.retain(|name| TRANSPORTS.contains(name));
    if !ways.transports.is_empty() {
        return Ok(());
    }
    let hint = "leave it out, or name ice, ice-tcp or raw-udp";
    let why = "none of these carries the packets of a call";
    Err(Problem::usage("--transports", why, hint))
}

/// Whether a fingerprint with its hash, as `sha-256 AB:CD`, is the one that was given with or without it.
fn is_same(found: &str, wanted: &str) -> bool {
    !wanted.trim().is_empty() && digits(found).eq_ignore_ascii_case(digits(wanted))
}

/// Whether it can be a fingerprint by SHA-256, with or without the name of the hash.
pub(crate) fn is_fingerprint(text: &str) -> bool {
    let is_byte = |pair: &str| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut pairs = digits(text).split(':');
    pairs.clone().count() == 32 && pairs.all(is_byte)
}

fn digits(fingerprint: &str) -> &str {
    fingerprint
        .split_whitespace()
        .next_back()
        .unwrap_or_default()
}

/// Adds a digit to those that are kept, if there is room.
pub(crate) fn keep(kept: &mut String, digit: char) {
    if kept.len() < DIGITS_KEPT {
        kept.push(digit);
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

/// A key that travels in signalling.
fn key() -> [u8; KEY_BYTES] {
    let mut key = [0; KEY_BYTES];
    cli::random(&mut key);
    key
}

fn lock(line: &Mutex<Line>) -> MutexGuard<'_, Line> {
    line.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{DIGITS_KEPT, Line, is_fingerprint, is_same, keep};
    use session_voice::Digit;

    #[test]
    fn a_fingerprint_is_compared_whole() {
        let found = "sha-256 AB:CD";
        assert!(is_same(found, "ab:cd") && is_same(found, "sha-256 AB:CD"));
        assert!(!is_same(found, "CD") && !is_same(found, "") && !is_same(found, " "));
    }

    /// However fast a peer presses keys, no more are kept than anybody reads, and each step begins with none.
    #[test]
    fn digits_of_a_peer_are_kept_up_to_a_limit() {
        let (mut line, mut kept) = (Line::default(), String::new());
        for number in 0..100_000_u32 {
            line.hear(Digit::from_event((number % 16) as u8).unwrap());
            if number % 5_000 == 0 {
                let new = std::mem::take(&mut line.digits);
                assert!((1..=DIGITS_KEPT).contains(&new.len()));
                new.chars().for_each(|digit| keep(&mut kept, digit));
            }
        }
        assert_eq!((line.digits.len(), kept.len()), (DIGITS_KEPT, DIGITS_KEPT));
        assert!(kept.starts_with("0123456789*#ABCD"), "{kept}");
    }

    #[test]
    fn what_is_no_fingerprint_is_seen() {
        let right = ["aB"; 32].join(":");
        assert!(is_fingerprint(&right) && is_fingerprint(&format!("sha-256 {right}")));
        for wrong in [
            "",
            "garbage",
            "AB:CD",
            &right[1..],
            &right.replace('a', "g"),
        ] {
            assert!(!is_fingerprint(wrong), "{wrong}");
        }
    }
}
