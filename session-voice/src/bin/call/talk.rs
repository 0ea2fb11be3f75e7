//! The call itself: sound in and out in steps of ten milliseconds, keys, and what is shown of it.

use crate::{
    How, failed,
    keys::{Key, keys},
    phone::{Client, Phone},
    report::{self, Moment},
    sound::Sound,
};
use session_core::{Cause, Peer, Reason, ReasonCondition, SessionId};
use session_voice::{
    CallPhase, CallSecurity, EngineConfig, EngineStats, MediaOutput, Protection, VoiceEngine,
};
use session_xmpp::cli::{Exit, Problem};
use std::{
    hash::{BuildHasher, RandomState},
    io::Write,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc::Receiver, time::MissedTickBehavior};

const TICK: Duration = Duration::from_millis(10);

/// Ticks between two looks at how it goes.
const LOOK_EVERY: u32 = 100;

/// How a call was.
#[derive(Debug, Default)]
pub(crate) struct Talked {
    cause: Option<Cause>,
    /// From dialling or answering to the first sound that was heard.
    first_sound: Option<Duration>,
    lasted: Duration,
    stats: EngineStats,
    codec: &'static str,
    security: String,
    path: String,
    digits: String,
    moments: Vec<Moment>,
    hung_up: bool,
}

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
    phone: &Phone,
    session: SessionId,
    mut sound: Sound,
    how: &How,
    length: Option<Duration>,
) -> Result<Talked, Problem> {
    let begun = Instant::now();
    let mut talk = Talk {
        phone,
        session,
        talked: Talked::default(),
        answered: None,
        dtx: how.dtx,
        keys: keys(),
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
    if !phone.online.json && !phone.online.quiet {
        println!();
    }
    talk.end();
    let finished = sound.finish();
    finished.map_err(|error| failed("record", "write what was heard", error, ""))?;
    Ok(talk.talked)
}

struct Talk<'a> {
    phone: &'a Phone,
    session: SessionId,
    talked: Talked,
    answered: Option<Instant>,
    dtx: bool,
    keys: Receiver<Key>,
}

impl Talk<'_> {
    fn look(&self) -> Option<Look> {
        let id = self.session;
        self.phone.online.endpoint.update(|manager, _| {
            let path = manager.peek(id).and_then(|session| {
                let channel = session.channel(session_voice::RTP_CHANNEL)?;
                session.describe_channel(channel)
            });
            let call = manager.find_client::<Client>()?.call(id)?;
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
        let mut line = self.phone.line();
        if line.engine.is_some() || look.phase != CallPhase::Answered {
            return Ok(());
        }
        let (Some(config), Some(protection)) = (&look.config, &look.protection) else {
            return Ok(());
        };
        let [one, two] = [random(), random()];
        let mut seed = [0; 16];
        seed[..8].copy_from_slice(&one);
        seed[8..].copy_from_slice(&two);
        let config = EngineConfig {
            cname: one.iter().map(|byte| format!("{byte:02x}")).collect(),
            dtx: self.dtx,
            ..config.clone()
        };
        let engine = VoiceEngine::new(&config, protection.clone(), seed, now);
        let engine = engine.map_err(|error| failed("codec", "speak with the peer", error, ""))?;
        self.talked.codec = engine.codec();
        line.engine = Some(engine);
        drop(line);
        self.answered = Some(now);
        let text = format!("connected, {}, {}", self.talked.codec, look.security);
        self.phone.say(&text);
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
        let id = self.session;
        self.phone.online.endpoint.update(|manager, now| {
            for output in outputs {
                // What cannot be sent now is lost, as packets are.
                let _ = match output {
                    MediaOutput::Rtp(packet) => Client::send_rtp(manager, id, packet, now),
                    MediaOutput::Rtcp(packet) => Client::send_rtcp(manager, id, packet, now),
                };
            }
        });
    }

    fn press_keys(&mut self, now: Instant) {
        while let Ok(key) = self.keys.try_recv() {
            if let Key::Digit(digit) = key
                && let Some(engine) = &mut self.phone.line().engine
                && engine.press(digit, now).is_ok()
            {
                continue;
            }
            let id = self.session;
            let done = self.phone.online.endpoint.update(|manager, now| {
                let call = manager.find_client::<Client>().and_then(|c| c.call(id));
                let (mutes, holds) =
                    call.map_or((false, false), |call| (call.mute().here, call.hold().here));
                match key {
                    Key::Mute => Client::set_mute(manager, id, !mutes, now),
                    Key::Hold => Client::set_hold(manager, id, !holds, now),
                    Key::Digit(digit) => Client::press(manager, id, digit, now),
                    Key::Quit => Ok(()),
                }
            });
            match (key, done) {
                (Key::Quit, _) => self.hang_up(),
                (_, Ok(())) => {}
                (_, Err(error)) => self.phone.say(&error.to_string()),
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
        if self.phone.online.json {
            println!("{}", moment.json(&path));
        } else if !self.phone.online.quiet {
            print!("\r\x1b[K{}  {path}", moment.text());
            // A line that is shown late is of no use.
            let _ = std::io::stdout().flush();
        }
        self.talked.path = path;
        self.talked.moments.push(moment);
    }

    fn hang_up(&mut self) {
        self.talked.hung_up = true;
        let goodbye = match &mut self.phone.line().engine {
            Some(engine) => engine.goodbye("hung up", Instant::now()),
            None => None,
        };
        self.send(goodbye.map(MediaOutput::Rtcp).into_iter().collect());
        let (id, answered) = (self.session, self.answered.is_some());
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
            .update(|manager, now| Client::hang_up(manager, id, reason, now));
    }

    fn end(&mut self) {
        let now = Instant::now();
        let line = self.phone.line();
        self.talked.digits.clone_from(&line.digits);
        if let Some(engine) = &line.engine {
            self.talked.stats = engine.stats(now);
        }
        self.talked.lasted = self.answered.map_or(Duration::ZERO, |at| now - at);
    }
}

impl Talked {
    /// Says how it was, in words, in JSON and as a page; and whether there was a call at all.
    pub(crate) fn tell(self, phone: &Phone, peer: &Peer, how: &How) -> Result<(), Problem> {
        let media = &self.stats.media;
        let mos = media.quality.map(|quality| quality.mos);
        if phone.online.json {
            let done = serde_json::json!({
                "event": "done", "peer": peer.as_str(), "seconds": self.lasted.as_secs_f64(),
                "setup_seconds": self.first_sound.map(|time| time.as_secs_f64()), "codec": self.codec,
                "security": self.security, "path": self.path, "sent": media.sent.0, "received": media.received,
                "concealed": media.playout.concealed, "recovered": media.playout.recovered, "late": media.playout.late,
                "round_trip_ms": media.round_trip.map(|time| time.as_secs_f64() * 1e3), "mos": mos,
                "digits": self.digits, "cause": self.cause.as_ref().map(ToString::to_string),
            });
            println!("{done}");
        } else if !phone.online.quiet && !self.codec.is_empty() {
            let mos = mos.map_or_else(|| "unknown".to_owned(), |mos| format!("{mos:.1}"));
            let seconds = self.lasted.as_secs_f64();
            println!(
                "{seconds:.1} s with {peer}: {}, {}",
                self.codec, self.security
            );
            println!(
                "{} packets sent, {} received, {} frames made up, {} recovered; MOS {mos}",
                media.sent.0, media.received, media.playout.concealed, media.playout.recovered
            );
            if !self.digits.is_empty() {
                println!("digits: {}", self.digits);
            }
        }
        if let Some(path) = &how.report {
            let page = report::page(peer.as_str(), &self.security, &self.path, &self.moments);
            std::fs::write(path, page).map_err(|error| {
                let what = format!("write {}", path.display());
                failed(
                    "report",
                    &what,
                    error,
                    "choose a folder that is there and yours",
                )
            })?;
        }
        if !self.codec.is_empty() || self.hung_up {
            return Ok(());
        }
        let is_no = matches!(
            &self.cause,
            Some(Cause::Remote(Some(reason)))
                if [ReasonCondition::Decline, ReasonCondition::Busy].contains(&reason.condition)
        );
        let why = self
            .cause
            .map_or_else(String::new, |cause| cause.to_string());
        let (exit, code) = if is_no {
            (Exit::Declined, "declined")
        } else {
            (Exit::Failed, "no-call")
        };
        let hint = "try again later";
        Err(Problem::new(
            exit,
            code,
            format!("speak with {peer}"),
            why,
            hint,
        ))
    }
}

/// A hasher's keys come from the operating system.
fn random() -> [u8; 8] {
    RandomState::new().hash_one(0).to_le_bytes()
}
