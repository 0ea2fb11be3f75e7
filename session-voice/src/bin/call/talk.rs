//! The call itself: sound in and out in steps of ten milliseconds, keys, and what is shown of it.

use crate::{
    How, Ringing,
    announce::is_sound,
    contents, failed,
    form::{Form, Switch},
    keys::{Key, Keys, Wishes},
    outcome,
    phone::{Changes, Conversation, Phone, keep},
    report::Moment,
    sound::Sound,
    talked::Talked,
};
use serde_json::json;
use session_core::{Cause, Notice, Peer, Reason, ReasonCondition, Slot};
use session_voice::{
    Call, CallChange, CallError, CallPhase, CallSecurity, Digit, EngineConfig, EngineError,
    MediaOutput, Protection, VoiceEngine, audio::AudioError,
};
use session_xmpp::{
    cli::{self, Problem},
    jmi::JmiOutput,
};
use std::{
    collections::VecDeque,
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

const TICK: Duration = Duration::from_millis(10);

/// Ticks between two looks at how it goes.
const LOOK_EVERY: u32 = 100;

/// Digits that wait at most until the stream takes them: about three a second leave.
const PRESSED_MAX: usize = 256;

/// What is looked at in each step.
struct Look {
    phase: CallPhase,
    may_send: bool,
    holds: bool,
    connected: bool,
    protection: Option<Protection>,
    control_protection: Option<Protection>,
    config: EngineConfig,
    security: String,
    path: String,
    cause: Option<Cause>,
}

/// How a session ended.
pub(crate) enum Ended {
    /// It was declined here.
    Declined,
    /// It is over.
    Over,
    /// The call goes on in the session that this device of the peer offers, after the announcement of this id.
    Moved(Arc<str>, Peer),
}

/// Runs a session to its end; of what was `talked` in the session before, if there was one, it goes on.
pub(crate) async fn talk(
    phone: &mut Phone,
    call: &mut Conversation,
    talked: &mut Talked,
    sound: &mut Sound,
    how: &How,
    length: Option<Duration>,
    keys: &mut Keys,
) -> Result<Ended, Problem> {
    let now = Instant::now();
    let (changes, ringing) = (call.changes.take(), call.ringing.take());
    let mut talk = Talk {
        phone,
        call,
        changes,
        talked,
        begun: now,
        rings_until: ringing.as_ref().map(|ringing| now + ringing.length),
        ringing,
        answered: None,
        agreed: false,
        spoken: Loudness::default(),
        heard: Loudness::default(),
        dtx: how.dtx,
        misses_login: false,
        pressed: VecDeque::new(),
        moves: None,
        keys,
    };
    let mut ticks = tokio::time::interval(TICK);
    // Sound is due for all the time that passes.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0_u32;
    loop {
        ticks.tick().await;
        let now = Instant::now();
        talk.fulfil();
        let Some(look) = talk.look() else {
            if talk.rings_until.is_some() {
                return Err(outcome::missed(&talk.call.peer));
            }
            break;
        };
        talk.talked.security.clone_from(&look.security);
        talk.hear_of_changes();
        if look.phase == CallPhase::Ended {
            talk.talked.cause = look.cause;
            break;
        }
        if let Some((id, from)) = talk.moves.take()
            && talk.leave(&id, &from)
        {
            return Ok(Ended::Moved(id, from));
        }
        if talk.ring(now)?.is_break() {
            return Ok(Ended::Declined);
        }
        talk.begin(&look, now)?;
        talk.press_keys(&look, now);
        let step = talk.step(&look, sound, now);
        step.map_err(|error| failed("sound", "speak and hear", error, ""))?;
        number += 1;
        if number.is_multiple_of(LOOK_EVERY) {
            talk.miss_login();
            talk.show(look.path, now);
        }
        let is_long = length.is_some_and(|length| {
            talk.answered
                .is_some_and(|answered| talk.talked.lasted + (now - answered) >= length)
        });
        if is_long {
            talk.hang_up();
        }
    }
    talk.end();
    Ok(Ended::Over)
}

struct Talk<'a> {
    phone: &'a mut Phone,
    call: &'a Conversation,
    changes: Option<Changes>,
    talked: &'a mut Talked,
    /// When it was dialled, or answered here.
    begun: Instant,
    /// When it is to be answered, while it rings here.
    rings_until: Option<Instant>,
    ringing: Option<Ringing>,
    answered: Option<Instant>,
    /// The engine has what both sides agreed on.
    agreed: bool,
    /// How loud it was here and there since the last look.
    spoken: Loudness,
    heard: Loudness,
    dtx: bool,
    /// It was told that the login is over.
    misses_login: bool,
    /// Digits that wait for those before them, or for the path to come back.
    pressed: VecDeque<Digit>,
    /// Another device of the peer takes the call over: its announcement.
    moves: Option<(Arc<str>, Peer)>,
    keys: &'a mut Keys,
}

impl Talk<'_> {
    /// Tells what the peer has done.
    fn hear_of_changes(&mut self) {
        let slot = self.changes.as_mut().map(|changes| &mut changes.call);
        // What came together is seen together.
        let changes: Vec<_> = slot.map_or_else(Vec::new, |slot| {
            let endpoint = &self.phone.online.endpoint;
            endpoint.update(|_, _| std::iter::from_fn(|| next(slot)).collect())
        });
        let is_over = changes.contains(&CallChange::Ended);
        for change in changes {
            let (event, facts, text) = match change {
                // It may have been announced before there was a session.
                CallChange::Ringing if self.phone.rings_there => continue,
                CallChange::Ringing => {
                    let by = self.call.peer.as_str();
                    ("ringing", json!({ "by": by }), format!("it rings at {by}"))
                }
                CallChange::Held(on) => {
                    let text = if on { "on hold" } else { "no longer on hold" };
                    ("held", json!({ "on": on }), text.to_owned())
                }
                CallChange::Muted(on) => {
                    let text = if on {
                        "the peer is muted"
                    } else {
                        "the peer is no longer muted"
                    };
                    ("muted", json!({ "on": on }), text.to_owned())
                }
                CallChange::Digit(digit) => {
                    self.phone.line().hear(digit);
                    continue;
                }
                // With the call it goes anyway.
                CallChange::Connected(false) if is_over => continue,
                CallChange::Connected(on) if self.answered.is_some() => {
                    let text = if on {
                        "there is a path again"
                    } else {
                        "the path is gone"
                    };
                    ("path", json!({ "on": on }), text.to_owned())
                }
                CallChange::Connected(_)
                | CallChange::Answered
                | CallChange::Secured
                | CallChange::Ended => continue,
            };
            self.phone.screen.tell(event, facts, &text);
        }
        while let Some(change) = self.changes.as_mut().and_then(|c| next(&mut c.contents)) {
            if let Some((event, facts, text)) = contents::words(&change, &self.call.peer) {
                self.phone.screen.tell(event, facts, &text);
            }
        }
        self.hear_of_digits();
        while let Ok(event) = self.phone.events.try_recv() {
            if let JmiOutput::Proposed {
                id,
                from,
                descriptions,
                continues: Some(old),
            } = &event
                && self.call.announced.as_ref() == Some(old)
                && self.rings_until.is_none()
                && is_sound(descriptions)
            {
                self.moves = Some((id.clone(), from.clone()));
            } else {
                self.phone.turn_away(&event);
            }
        }
    }

    /// Leaves the session for the one that was announced (XEP-0353 §4.2), muted and on hold as it is. False if that is over
    /// already.
    fn leave(&mut self, announced: &Arc<str>, to: &Peer) -> bool {
        if self.phone.take_up(announced, to).is_err() {
            return false;
        }
        let (id, form) = (self.call.session, self.call.form);
        let wishes = &mut self.keys.wishes;
        self.phone.online.endpoint.update(|manager, now| {
            if let Some(call) = (form.call)(manager, id) {
                wishes.mute |= call.mute().here;
                wishes.hold |= call.hold().here;
            }
            // What is over needs no end.
            let _ = (form.hang_up)(manager, id, ReasonCondition::Expired.into(), now);
            let _ = (form.release)(manager, id, now);
        });
        self.end();
        let (from, to) = (self.call.peer.as_str(), to.as_str());
        let text = format!("the call moves from {from} to {to}");
        let facts = json!({ "from": from, "to": to });
        self.phone.screen.tell("moved", facts, &text);
        true
    }

    /// Does what was pressed before the answer, once that is there.
    fn fulfil(&mut self) {
        let wishes = self.keys.wishes;
        if wishes == Wishes::default() {
            return;
        }
        let (id, form) = (self.call.session, self.call.form);
        let done = self.phone.online.endpoint.update(|manager, now| {
            let call = (form.call)(manager, id)?;
            (call.phase() == CallPhase::Answered).then(|| {
                if wishes.mute {
                    (form.mute)(manager, id, true, now)?;
                }
                if wishes.hold {
                    (form.hold)(manager, id, true, now)?;
                }
                Ok::<_, CallError>(())
            })
        });
        match done {
            None => return,
            Some(Ok(())) => {}
            Some(Err(error)) => self.phone.screen.refused(&error.to_string()),
        }
        self.keys.wishes = Wishes::default();
    }

    /// Tells once that the login is over, as sound alone does not show it. The call goes on.
    fn miss_login(&mut self) {
        if let Some(problem) = self.phone.online.over()
            && !std::mem::replace(&mut self.misses_login, true)
        {
            let text = format!(
                "the login is over: {}; the call goes on without it",
                problem.why
            );
            let facts = json!({ "code": problem.code, "why": problem.why });
            self.phone.screen.tell("offline", facts, &text);
        }
    }

    /// Tells which digits have come since the last time.
    fn hear_of_digits(&mut self) {
        let new = std::mem::take(&mut self.phone.line().digits);
        for digit in new.chars() {
            keep(&mut self.talked.digits, digit);
            let facts = json!({ "digit": digit.to_string() });
            self.phone
                .screen
                .tell("digit", facts, &format!("digit {digit}"));
        }
    }

    fn look(&self) -> Option<Look> {
        let (id, form) = (self.call.session, self.call.form);
        self.phone.online.endpoint.update(|manager, _| {
            let path = manager.peek(id).and_then(|session| {
                let channel = session.channel(session_voice::RTP_CHANNEL)?;
                session.describe_channel(channel)
            });
            let call = (form.call)(manager, id)?;
            let fingerprint = call.secured().and_then(|secured| {
                let peer = secured.peer_fingerprint.as_ref()?;
                Some(format!("{} with {peer}", secured.protocol))
            });
            let security = match call.security() {
                Some(CallSecurity::Dtls) => fingerprint.unwrap_or_else(|| "DTLS".to_owned()),
                Some(CallSecurity::Sdes { .. }) => "keys in signalling".to_owned(),
                Some(CallSecurity::Plain) => "NOT ENCRYPTED".to_owned(),
                None => String::new(),
            };
            Some(Look {
                phase: call.phase(),
                may_send: call.may_send(),
                holds: call.hold().here,
                connected: call.is_connected(),
                protection: call.protection(),
                control_protection: call.control_protection(),
                config: EngineConfig::early(call, "call"),
                security,
                path: path.unwrap_or_default(),
                cause: call.cause().cloned(),
            })
        })
    }

    /// Answers or declines a call that has rung here for long enough. Breaks when it was declined.
    fn ring(&mut self, now: Instant) -> Result<ControlFlow<()>, Problem> {
        if self.rings_until.is_none_or(|until| now < until) {
            return Ok(ControlFlow::Continue(()));
        }
        let (id, form) = (self.call.session, self.call.form);
        let ringing = self.ringing.take();
        self.rings_until = None;
        if ringing.is_some_and(|ringing| ringing.declines) {
            self.phone.refuse(id, form, ReasonCondition::Decline);
            let facts = json!({ "peer": self.call.peer.as_str() });
            self.phone.screen.tell("declined", facts, "declined");
            return Ok(ControlFlow::Break(()));
        }
        let endpoint = &self.phone.online.endpoint;
        let answered = endpoint.update(|manager, now| (form.answer)(manager, id, now));
        answered.map_err(|error| failed("answer", "answer", error, "it may have ended before"))?;
        self.phone.line().rings = false;
        self.begun = now;
        Ok(ControlFlow::Continue(()))
    }

    /// The engine, once the keys are there: with the answer, or before it for early media.
    fn begin(&mut self, look: &Look, now: Instant) -> Result<(), Problem> {
        let wanted = match look.phase {
            CallPhase::Answered | CallPhase::Calling => true,
            CallPhase::Offered => self.ringing.as_ref().is_some_and(|r| r.played.is_some()),
            CallPhase::Ended => false,
        };
        let Some(protection) = look.protection.as_ref().filter(|_| wanted) else {
            return Ok(());
        };
        let broken = |error| failed("codec", "speak with the peer", error, "");
        let mut line = self.phone.line();
        if look.phase == CallPhase::Answered {
            line.dials = None;
        }
        let before = line.keys.replace(protection.clone());
        match &mut line.engine {
            // Another transport took over, and hands were shaken again.
            Some(engine) if before.as_ref() != Some(protection) => {
                engine.set_protection(protection);
            }
            Some(_) => {}
            none => {
                let engine = engine(&look.config, protection, self.dtx, now).map_err(broken)?;
                *none = Some(engine);
            }
        }
        if let (Some(engine), Some(keys)) = (&mut line.engine, &look.control_protection) {
            engine.set_control_protection(keys);
        }
        let Some(engine) = line.engine.as_mut().filter(|_| self.answered.is_none()) else {
            return Ok(());
        };
        if look.phase != CallPhase::Answered {
            return Ok(());
        }
        if !std::mem::replace(&mut self.agreed, true) {
            engine.set_agreed(&look.config.agreed).map_err(broken)?;
        }
        // With keys in signalling there may be no path yet.
        if !look.connected {
            return Ok(());
        }
        self.talked.codec = engine.codec();
        drop(line);
        self.answered = Some(now);
        let (codec, security) = (self.talked.codec, &look.security);
        let facts = json!({ "codec": codec, "security": security, "path": look.path });
        let text = format!("connected, {codec}, {security}");
        self.phone.screen.tell("connected", facts, &text);
        Ok(())
    }

    /// Ten milliseconds of sound, both ways.
    fn step(&mut self, look: &Look, sound: &mut Sound, now: Instant) -> Result<(), AudioError> {
        let mut line = self.phone.line();
        let Some(engine) = &mut line.engine else {
            return Ok(());
        };
        // What waits for the answer holds from its first packet on.
        engine.set_sending(look.may_send && self.keys.wishes == Wishes::default());
        engine.set_listening(!look.holds);
        let played = self.ringing.as_mut().and_then(|r| r.played.as_mut());
        // What we have to say begins with the answer, ours or the peer's.
        let speaker = match look.phase {
            CallPhase::Offered => played,
            CallPhase::Answered => Some(&mut *sound),
            CallPhase::Calling | CallPhase::Ended => None,
        };
        if let Some(speaker) = speaker {
            let spoken = speaker.speak(engine.record_rate())?;
            engine.record(&spoken, now);
            self.spoken.add(&spoken);
        }
        if engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
        }
        let mut is_first = false;
        if look.phase != CallPhase::Offered {
            let rate = engine.play_rate();
            let mut heard = vec![0.0; (rate / 100) as usize];
            engine.play(&mut heard, now);
            sound.hear(&heard, rate)?;
            self.heard.add(&heard);
            is_first =
                self.talked.first_sound.is_none() && engine.stats(now).media.playout.played > 0;
        }
        let outputs: Vec<_> = std::iter::from_fn(|| engine.poll_output()).collect();
        // The endpoint takes the line while it hands in packets: never both the other way round.
        drop(line);
        self.send(outputs);
        if is_first {
            self.talked.first_sound = Some(now - self.begun);
            if look.phase == CallPhase::Calling {
                let by = self.call.peer.as_str();
                let text = format!("early media: {by} is heard, and has not answered yet");
                self.phone
                    .screen
                    .tell("early-media", json!({ "by": by }), &text);
            }
        }
        Ok(())
    }

    fn send(&self, outputs: Vec<MediaOutput>) {
        if outputs.is_empty() {
            return;
        }
        let (id, form) = (self.call.session, self.call.form);
        self.phone.online.endpoint.update(|manager, now| {
            for output in outputs {
                // What cannot be sent now is lost, as packets are.
                let _ = match output {
                    MediaOutput::Rtp(packet) => (form.send_rtp)(manager, id, packet, now),
                    MediaOutput::Rtcp(packet) => (form.send_rtcp)(manager, id, packet, now),
                };
            }
        });
    }

    fn press_keys(&mut self, look: &Look, now: Instant) {
        while let Some(key) = self.keys.try_next() {
            match (key, &mut self.ringing) {
                (Key::Quit, Some(ringing)) => {
                    ringing.declines = true;
                    self.rings_until = Some(now);
                }
                (Key::Quit, None) => self.hang_up(),
                _ if look.phase != CallPhase::Answered => {
                    self.keys.wish(key, &self.phone.screen);
                }
                (Key::Digit(digit), _) if self.pressed.len() < PRESSED_MAX => {
                    self.pressed.push_back(digit);
                }
                (Key::Digit(_), _) => {
                    let why = format!("{PRESSED_MAX} digits wait already");
                    self.phone.screen.refused(&why);
                }
                (Key::Mute, _) => {
                    self.switch("mute", |form| form.mute, |call| call.mute().here);
                }
                (Key::Hold, _) => {
                    self.switch("hold", |form| form.hold, |call| call.hold().here);
                }
            }
        }
        // Who has hung up says no more.
        if look.phase == CallPhase::Answered && !self.talked.hung_up {
            while self.send_digit(look, now) {}
        }
    }

    /// Switches something on that is off, or off.
    fn switch(&self, what: &str, switch: fn(&Form) -> Switch, is_on: fn(&Call) -> bool) {
        let (id, form) = (self.call.session, self.call.form);
        let done = self.phone.online.endpoint.update(|manager, now| {
            let on = !(form.call)(manager, id).is_some_and(is_on);
            switch(&form)(manager, id, on, now).map(|()| on)
        });
        match done {
            Ok(on) => self.phone.screen.switched(what, on),
            Err(error) => self.phone.screen.refused(&error.to_string()),
        }
    }

    /// Sends the first of the digits that wait. False if there is none, or it has to wait on: among the sound one leaves after
    /// the other, and none without a path. Only where none was agreed on for the sound, it is said in a message.
    fn send_digit(&mut self, look: &Look, now: Instant) -> bool {
        let Some(digit) = self.pressed.front().copied() else {
            return false;
        };
        let mut line = self.phone.line();
        let Some(engine) = &mut line.engine else {
            return false;
        };
        if engine.takes_digits() {
            let is_free = look.connected && !engine.is_pressing();
            if !is_free || engine.press(digit, now).is_err() {
                return false;
            }
            drop(line);
        } else {
            drop(line);
            let (id, form) = (self.call.session, self.call.form);
            let endpoint = &self.phone.online.endpoint;
            let said = endpoint.update(|manager, now| (form.press)(manager, id, digit, now));
            if let Err(error) = said {
                self.phone.screen.refused(&error.to_string());
            }
        }
        self.pressed.pop_front();
        true
    }

    fn show(&mut self, path: String, now: Instant) {
        let line = self.phone.line();
        let Some(engine) = &line.engine else {
            return;
        };
        let mut stats = engine.stats(now);
        drop(line);
        // Of the whole second: who looks at an instant finds pauses.
        (stats.level_in, stats.level_out) = (self.heard.take(), self.spoken.take());
        let lasted = self.answered.map_or(Duration::ZERO, |at| now - at);
        let moment = Moment::new(self.talked.lasted + lasted, &stats);
        let answered = self.answered.is_some();
        let early = if answered { "" } else { "early media  " };
        let text = format!("{early}{}  {path}", moment.text());
        self.phone.screen.show("quality", moment.json(&path), &text);
        self.talked.path = path;
        if answered {
            self.talked.moments.push(moment);
        }
    }

    fn hang_up(&mut self) {
        if std::mem::replace(&mut self.talked.hung_up, true) {
            return;
        }
        let goodbye = match &mut self.phone.line().engine {
            Some(engine) => engine.goodbye("hung up", Instant::now()),
            None => None,
        };
        self.send(goodbye.map(MediaOutput::Rtcp).into_iter().collect());
        let (id, form, answered) = (self.call.session, self.call.form, self.answered.is_some());
        let reason = Reason::new(if answered {
            ReasonCondition::Success
        } else {
            ReasonCondition::Cancel
        });
        // What is over needs no end.
        let _ = self
            .phone
            .online
            .endpoint
            .update(|manager, now| (form.hang_up)(manager, id, reason, now));
    }

    fn end(&mut self) {
        let now = Instant::now();
        let line = self.phone.line();
        if let Some(engine) = &line.engine {
            self.talked.stats = engine.stats(now);
        }
        drop(line);
        self.talked.lasted += self.answered.map_or(Duration::ZERO, |at| now - at);
        self.talked.unsent += self.pressed.len();
    }
}

/// The root of the mean square of sound.
#[derive(Default)]
struct Loudness {
    power: f32,
    samples: usize,
}

impl Loudness {
    fn add(&mut self, sound: &[f32]) {
        self.power += sound.iter().map(|sample| sample * sample).sum::<f32>();
        self.samples += sound.len();
    }

    fn take(&mut self) -> f32 {
        let Self { power, samples } = std::mem::take(self);
        (power / samples.max(1) as f32).sqrt()
    }
}

/// The next that is announced; of what went by unread, the last.
fn next<T: Clone>(slot: &mut Slot<T>) -> Option<T> {
    loop {
        match slot.try_next()? {
            Notice::Snapshot { missed: 0, .. } | Notice::Snapshot { last: None, .. } => {}
            Notice::Ended => return None,
            Notice::Snapshot {
                last: Some(change), ..
            }
            | Notice::Value(change) => return Some(change),
        }
    }
}

fn engine(
    config: &EngineConfig,
    protection: &Protection,
    dtx: bool,
    now: Instant,
) -> Result<VoiceEngine, EngineError> {
    let (mut seed, mut name) = ([0; 16], [0; 8]);
    cli::random(&mut seed);
    cli::random(&mut name);
    let config = EngineConfig {
        cname: name.iter().map(|byte| format!("{byte:02x}")).collect(),
        dtx,
        ..config.clone()
    };
    VoiceEngine::new(&config, protection.clone(), seed, now)
}
