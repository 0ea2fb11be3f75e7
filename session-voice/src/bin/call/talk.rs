//! The call itself: sound in and out in steps of ten milliseconds, keys, and what is shown of it.

use crate::{
    How, failed,
    keys::{Key, Keys},
    phone::{Conversation, Phone},
    report::Moment,
    sound::Sound,
    talked::Talked,
};
use serde_json::json;
use session_core::{Cause, Notice, Reason, ReasonCondition, Slot};
use session_voice::{
    CallChange, CallPhase, CallSecurity, EngineConfig, MediaOutput, Protection, VoiceEngine,
};
use session_xmpp::cli::{self, Problem};
use std::time::{Duration, Instant};
use tokio::time::MissedTickBehavior;

const TICK: Duration = Duration::from_millis(10);

/// Ticks between two looks at how it goes.
const LOOK_EVERY: u32 = 100;

/// What is looked at in each step.
struct Look {
    phase: CallPhase,
    may_send: bool,
    holds: bool,
    protection: Option<Protection>,
    config: Option<EngineConfig>,
    security: String,
    path: String,
    cause: Option<Cause>,
}

/// Runs a call to its end.
pub(crate) async fn talk(
    phone: &mut Phone,
    call: &mut Conversation,
    mut sound: Sound,
    how: &How,
    length: Option<Duration>,
    keys: &mut Keys,
) -> Result<Talked, Problem> {
    let begun = Instant::now();
    let changes = call.changes.take();
    let mut talk = Talk {
        phone,
        call,
        changes,
        talked: Talked::default(),
        answered: None,
        keys_of_engine: None,
        dtx: how.dtx,
        keys,
    };
    let mut ticks = tokio::time::interval(TICK);
    // Sound is due for all the time that passes.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut number = 0_u32;
    loop {
        ticks.tick().await;
        let now = Instant::now();
        let Some(look) = talk.look() else { break };
        talk.talked.security.clone_from(&look.security);
        talk.hear_of_changes();
        if look.phase == CallPhase::Ended {
            talk.talked.cause = look.cause;
            break;
        }
        talk.press_keys(now);
        talk.begin(&look, now)?;
        let step = talk.step(&look, &mut sound, begun, now);
        step.map_err(|error| failed("sound", "speak and hear", error, ""))?;
        number += 1;
        if number.is_multiple_of(LOOK_EVERY) {
            talk.show(look.path, now);
        }
        let is_long = length.is_some_and(|length| {
            talk.answered
                .is_some_and(|answered| now - answered >= length)
        });
        if is_long {
            talk.hang_up();
        }
    }
    talk.end();
    let finished = sound.finish();
    finished.map_err(|error| failed("record", "write what was heard", error, ""))?;
    Ok(talk.talked)
}

struct Talk<'a> {
    phone: &'a mut Phone,
    call: &'a Conversation,
    changes: Option<Slot<CallChange>>,
    talked: Talked,
    answered: Option<Instant>,
    /// With which the engine works.
    keys_of_engine: Option<Protection>,
    dtx: bool,
    keys: &'a mut Keys,
}

impl Talk<'_> {
    /// Tells what the peer has done.
    fn hear_of_changes(&mut self) {
        while let Some(notice) = self.changes.as_mut().and_then(Slot::try_next) {
            let change = match notice {
                // Of what went by unread, the last is told.
                Notice::Snapshot { missed: 0, .. }
                | Notice::Snapshot { last: None, .. }
                | Notice::Ended => continue,
                Notice::Snapshot {
                    last: Some(change), ..
                }
                | Notice::Value(change) => change,
            };
            let (event, facts, text) = match change {
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
                    self.phone.line().digits.push(digit.key());
                    continue;
                }
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
        self.hear_of_digits();
        while let Ok(event) = self.phone.events.try_recv() {
            self.phone.turn_away(&event);
        }
    }

    /// Tells which digits have come since the last time.
    fn hear_of_digits(&mut self) {
        let digits = self.phone.line().digits.clone();
        let new: Vec<char> = digits
            .chars()
            .skip(self.talked.digits.chars().count())
            .collect();
        for digit in new {
            let facts = json!({ "digit": digit.to_string() });
            self.phone
                .screen
                .tell("digit", facts, &format!("digit {digit}"));
        }
        self.talked.digits = digits;
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
                protection: call.protection(),
                config: EngineConfig::of_call(call, "call"),
                security,
                path: path.unwrap_or_default(),
                cause: call.cause().cloned(),
            })
        })
    }

    /// The engine, once the call is answered and its keys are there.
    fn begin(&mut self, look: &Look, now: Instant) -> Result<(), Problem> {
        if look.phase != CallPhase::Answered {
            return Ok(());
        }
        let (Some(config), Some(protection)) = (&look.config, &look.protection) else {
            return Ok(());
        };
        let mut line = self.phone.line();
        let before = self.keys_of_engine.replace(protection.clone());
        if let Some(engine) = &mut line.engine {
            // Another transport took over, and hands were shaken again.
            if before.as_ref() != Some(protection) {
                engine.set_protection(protection);
            }
            return Ok(());
        }
        let (mut seed, mut name) = ([0; 16], [0; 8]);
        cli::random(&mut seed);
        cli::random(&mut name);
        let config = EngineConfig {
            cname: name.iter().map(|byte| format!("{byte:02x}")).collect(),
            dtx: self.dtx,
            ..config.clone()
        };
        let engine = VoiceEngine::new(&config, protection.clone(), seed, now);
        let engine = engine.map_err(|error| failed("codec", "speak with the peer", error, ""))?;
        self.talked.codec = engine.codec();
        line.engine = Some(engine);
        drop(line);
        self.answered = Some(now);
        let (codec, security) = (self.talked.codec, &look.security);
        let facts = json!({ "codec": codec, "security": security, "path": look.path });
        let text = format!("connected, {codec}, {security}");
        self.phone.screen.tell("connected", facts, &text);
        Ok(())
    }

    /// Ten milliseconds of sound, both ways.
    fn step(
        &mut self,
        look: &Look,
        sound: &mut Sound,
        begun: Instant,
        now: Instant,
    ) -> Result<(), session_voice::audio::AudioError> {
        let mut line = self.phone.line();
        let Some(engine) = &mut line.engine else {
            return Ok(());
        };
        engine.set_sending(look.may_send);
        engine.set_listening(!look.holds);
        let spoken = sound.speak(engine.record_rate())?;
        engine.record(&spoken, now);
        if engine.poll_timeout().is_some_and(|at| at <= now) {
            engine.handle_timeout(now);
        }
        let rate = engine.play_rate();
        let mut heard = vec![0.0; (rate / 100) as usize];
        engine.play(&mut heard, now);
        sound.hear(&heard, rate)?;
        let outputs: Vec<_> = std::iter::from_fn(|| engine.poll_output()).collect();
        if self.talked.first_sound.is_none() && engine.stats(now).media.playout.played > 0 {
            self.talked.first_sound = Some(now - begun);
        }
        // The endpoint takes the line while it hands in packets: never both the other way round.
        drop(line);
        self.send(outputs);
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

    fn press_keys(&mut self, now: Instant) {
        while let Some(key) = self.keys.try_next() {
            if let Key::Digit(digit) = key
                && let Some(engine) = &mut self.phone.line().engine
                && engine.press(digit, now).is_ok()
            {
                continue;
            }
            if key == Key::Quit {
                self.hang_up();
                continue;
            }
            let (id, form) = (self.call.session, self.call.form);
            let done = self.phone.online.endpoint.update(|manager, now| {
                let call = (form.call)(manager, id);
                let (mutes, holds) =
                    call.map_or((false, false), |call| (call.mute().here, call.hold().here));
                match key {
                    Key::Mute => {
                        (form.mute)(manager, id, !mutes, now).map(|()| Some(("mute", !mutes)))
                    }
                    Key::Hold => {
                        (form.hold)(manager, id, !holds, now).map(|()| Some(("hold", !holds)))
                    }
                    Key::Digit(digit) => (form.press)(manager, id, digit, now).map(|()| None),
                    Key::Quit => Ok(None),
                }
            });
            match done {
                Ok(Some((what, on))) => {
                    let facts = json!({ "what": what, "on": on });
                    let text = format!("{what} {}", if on { "on" } else { "off" });
                    self.phone.screen.tell("switched", facts, &text);
                }
                Ok(None) => {}
                Err(error) => {
                    let text = error.to_string();
                    self.phone
                        .screen
                        .tell("refused", json!({ "why": text }), &text);
                }
            }
        }
    }

    fn show(&mut self, path: String, now: Instant) {
        let line = self.phone.line();
        let Some(engine) = &line.engine else {
            return;
        };
        let stats = engine.stats(now);
        drop(line);
        let moment = Moment::new(self.answered.map_or(Duration::ZERO, |at| now - at), &stats);
        let text = format!("{}  {path}", moment.text());
        self.phone.screen.show("quality", moment.json(&path), &text);
        self.talked.path = path;
        self.talked.moments.push(moment);
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
        self.talked.lasted = self.answered.map_or(Duration::ZERO, |at| now - at);
    }
}
