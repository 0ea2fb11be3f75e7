//! The cases: what is done with each persona, and what has to come of it.

use super::{
    ours::{self, Choice},
    stage::{OURS, Stage, THEIRS, hash},
};
use bytes::Bytes;
use session_core::{
    Cause, Peer, Reason, ReasonCondition, Role, SessionManager,
    testing::persona::{Medium, Persona, Script, Verdict},
};
use session_file::{
    Acceptance, Decision, FILE_TRANSFER, File, FileClient, FileVerdict, Outcome, Proposal, Read,
    TransferId,
};
use session_voice::{CallForm, CallPhase, CallVerdict, GoogleForm, JingleForm, VoiceClient};
use session_xmpp::jmi::{JmiEnd, JmiOutput};
use std::time::Duration;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(180);
/// How large the file is.
const FILE_BYTES: usize = 100_000;
const FILE_NAME: &str = "letter.txt";

/// What happened in a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Result {
    pub(super) ok: bool,
    /// What came of it, in one line.
    pub(super) why: String,
    pub(super) transcript: Vec<String>,
}

/// A case, with each persona that it fits and in each role.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    pub(super) name: &'static str,
    kind: Kind,
    verdict: Verdict,
    early: bool,
    beside: bool,
    s5b: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Call,
    File,
}

const CALL: Case = Case {
    name: "call",
    kind: Kind::Call,
    verdict: Verdict::Accept,
    early: false,
    beside: false,
    s5b: true,
};
const FILE: Case = Case {
    name: "file",
    kind: Kind::File,
    ..CALL
};

/// All of them. The role is ours.
pub(super) const ALL: [Case; 9] = [
    CALL,
    Case {
        name: "call, early candidates",
        early: true,
        ..CALL
    },
    Case {
        name: "call, mute, hold, odd candidates",
        early: true,
        beside: true,
        ..CALL
    },
    Case {
        name: "call declined",
        verdict: Verdict::Decline,
        ..CALL
    },
    Case {
        name: "call, busy",
        verdict: Verdict::Busy,
        ..CALL
    },
    Case {
        name: "call given up",
        verdict: Verdict::Silent,
        ..CALL
    },
    Case {
        name: "file, S5B",
        ..FILE
    },
    Case {
        name: "file, S5B fails, IBB",
        s5b: false,
        ..FILE
    },
    Case {
        name: "file declined",
        verdict: Verdict::Decline,
        ..FILE
    },
];

impl Case {
    pub(super) fn fits(&self, persona: &Persona) -> bool {
        match self.kind {
            Kind::Call => persona.call.is_some(),
            Kind::File => persona.file.is_some(),
        }
    }

    /// Runs it, in this role of ours.
    pub(super) fn run(&self, persona: Persona, role: Role) -> Result {
        // Who decides about the offer: the other side always accepts.
        let theirs = match role {
            Role::Initiator => self.verdict,
            Role::Responder => Verdict::Accept,
        };
        let script = Script {
            verdict: theirs,
            early: self.early,
            odd: self.beside,
            infos: self.beside,
            hash,
        };
        let mut stage = Stage::new(persona, script, self.s5b);
        let outcome = match (self.kind, ours::is_google(&persona)) {
            (Kind::Call, false) => self.call::<JingleForm>(&mut stage, &persona, role),
            (Kind::Call, true) => self.call::<GoogleForm>(&mut stage, &persona, role),
            (Kind::File, _) => self.file(&mut stage, &persona, role),
        };
        let refused = stage
            .stranger
            .heard()
            .iter()
            .filter(|heard| heard.starts_with("error"));
        let refused: Vec<_> = refused
            .map(|error| format!("we answer it {error}"))
            .collect();
        stage.faults.extend(refused);
        let objections = stage.stranger.objections().join("; ");
        let (ok, why) = match outcome {
            Ok(why) if stage.faults.is_empty() && objections.is_empty() => (true, why),
            Ok(why) | Err(why) => {
                let mut parts = vec![why];
                parts.extend((!objections.is_empty()).then(|| format!("it objects: {objections}")));
                parts.extend(stage.faults.iter().cloned());
                (false, parts.join("; "))
            }
        };
        Result {
            ok,
            why,
            transcript: stage.transcript,
        }
    }
}

type Verdicted = core::result::Result<String, String>;

/// Calls.
impl Case {
    fn call<F: CallForm>(&self, stage: &mut Stage, persona: &Persona, role: Role) -> Verdicted {
        let verdict = self.verdict;
        stage.update(|manager, _| {
            if let Some(calls) = manager.find_client::<VoiceClient<F>>() {
                calls.set_policy(move |_| match verdict {
                    Verdict::Accept => CallVerdict::Answer,
                    Verdict::Decline => CallVerdict::Decline(ReasonCondition::Decline.into()),
                    Verdict::Busy => CallVerdict::Decline(ReasonCondition::Busy.into()),
                    Verdict::Silent => CallVerdict::Ring,
                });
            }
        });
        match role {
            Role::Initiator => self.dial::<F>(stage, persona)?,
            Role::Responder => {
                stage.theirs(|stranger, now| stranger.begin(Medium::Call, now));
                self.be_called(stage, persona)?;
            }
        }
        match self.verdict {
            Verdict::Accept => self.talk::<F>(stage, persona, role),
            Verdict::Decline => ended::<F>(stage, &["decline"]),
            Verdict::Busy => ended::<F>(stage, &["busy"]),
            Verdict::Silent => self.give_up::<F>(stage, role),
        }
    }

    /// We call, with an announcement where the peer knows them.
    fn dial<F: CallForm>(
        &self,
        stage: &mut Stage,
        persona: &Persona,
    ) -> core::result::Result<(), String> {
        let choice = Choice::of(persona.features);
        let session = stage.update(|manager, now| {
            let id = manager.create_session(OURS.into(), F::NAMESPACE, now)?;
            if let Some(session) = manager.session(id) {
                session.set_dialect(choice.dialect)?;
                session.set_potential_transports(&[choice.call_transport])?;
            }
            Ok::<_, session_core::Misuse>(id)
        });
        let session = session.map_err(|error| error.to_string())?;
        let mut to = Peer::from(THEIRS);
        if choice.announces {
            let sid = stage
                .manager
                .peek(session)
                .map(|session| session.sid().to_string());
            let sid = sid.unwrap_or_default();
            let what = vec![ours::announcement()];
            let said = stage.announce(|jmi, now| jmi.propose(&sid, &to, what, now));
            said.map_err(|error| error.to_string())?;
            let within = if self.verdict == Verdict::Silent {
                Duration::from_secs(1)
            } else {
                PATIENCE
            };
            let told = stage.run(within, |stage| {
                let decided = |told: &JmiOutput| {
                    matches!(told, JmiOutput::Proceed { .. } | JmiOutput::Over { .. })
                };
                stage.announced.iter().any(decided)
            });
            let with = stage.announced.iter().find_map(|told| match told {
                JmiOutput::Proceed { with, .. } => Some(with.clone()),
                _ => None,
            });
            match with {
                Some(with) => to = with,
                // Declined, or still ringing: there is no session.
                None if told || self.verdict == Verdict::Silent => return Ok(()),
                None => return Err("nobody answered the announcement".into()),
            }
        }
        let dialled =
            stage.update(|manager, now| VoiceClient::<F>::dial(manager, session, to, now));
        dialled.map_err(|error| format!("cannot call: {error}"))
    }

    /// We are called: the announcement is answered as the call would be.
    fn be_called(&self, stage: &mut Stage, persona: &Persona) -> core::result::Result<(), String> {
        if persona.call.is_none_or(|habits| habits.jmi.is_none()) {
            return Ok(());
        }
        let proposed = |told: &JmiOutput| match told {
            JmiOutput::Proposed { id, .. } => Some(id.clone()),
            _ => None,
        };
        stage.run(PATIENCE, |stage| {
            stage.announced.iter().any(|t| proposed(t).is_some())
        });
        let id = stage.announced.iter().find_map(proposed);
        let id = id.ok_or("the announcement did not arrive")?;
        let verdict = self.verdict;
        let done = stage.announce(|jmi, now| match verdict {
            Verdict::Accept => jmi.ring(&id).and_then(|()| jmi.accept(&id, now)),
            Verdict::Decline => jmi.reject(&id, &ReasonCondition::Decline.into()),
            Verdict::Busy => jmi.reject(&id, &ReasonCondition::Busy.into()),
            Verdict::Silent => jmi.ring(&id),
        });
        done.map_err(|error| error.to_string())
    }

    /// Both hear each other; then one hangs up.
    fn talk<F: CallForm>(&self, stage: &mut Stage, persona: &Persona, role: Role) -> Verdicted {
        let heard = stage.run(PATIENCE, |stage| {
            say::<F>(stage);
            stage.stranger.ending().is_some() || is_heard(stage)
        });
        if !heard || !is_heard(stage) {
            return Err(format!(
                "no words in both directions: {}",
                state::<F>(stage)
            ));
        }
        let transport = stage.stranger.transport().unwrap_or_default().to_owned();
        if self.beside {
            beside::<F>(stage)?;
        }
        stage.run(Duration::from_secs(20), |_| false);
        if !stage.stranger.is_connected() || stage.stranger.ending().is_some() {
            return Err(format!("it did not last: {}", state::<F>(stage)));
        }
        let Some(session) = stage.session() else {
            return Err(format!("our session did not last: {}", state::<F>(stage)));
        };
        let protocol = protocol::<F>(stage);
        if protocol.is_some() != Choice::of(persona.features).dtls {
            return Err(format!("the keys come from {protocol:?}"));
        }
        match role {
            Role::Initiator => {
                let reason = Reason::new(ReasonCondition::Success);
                let hung =
                    stage.update(|m, now| VoiceClient::<F>::hang_up(m, session, reason, now));
                hung.map_err(|error| error.to_string())?;
            }
            Role::Responder => stage.theirs(|stranger, now| stranger.hang_up("success", now)),
        }
        ended::<F>(stage, &["success"])?;
        Ok(format!(
            "both heard each other over {}{}, and hung up",
            short(&transport),
            protocol.map_or_else(String::new, |protocol| format!(" with {protocol}"))
        ))
    }

    /// Who called withdraws.
    fn give_up<F: CallForm>(&self, stage: &mut Stage, role: Role) -> Verdicted {
        stage.run(Duration::from_secs(5), |_| false);
        match role {
            Role::Initiator => {
                let ids: Vec<_> = stage.jmi.calls().cloned().collect();
                for id in ids {
                    let reason = Reason::new(ReasonCondition::Cancel);
                    let done = stage.announce(|jmi, _| jmi.retract(&id, &reason));
                    done.map_err(|error| error.to_string())?;
                }
                let called = |manager: &mut SessionManager| {
                    let calls = manager.find_client::<VoiceClient<F>>()?;
                    calls.sessions().next()
                };
                if let Some(session) = stage.update(|manager, _| called(manager)) {
                    let reason = Reason::new(ReasonCondition::Cancel);
                    let hung =
                        stage.update(|m, now| VoiceClient::<F>::hang_up(m, session, reason, now));
                    hung.map_err(|error| error.to_string())?;
                }
            }
            Role::Responder => stage.theirs(|stranger, now| stranger.hang_up("cancel", now)),
        }
        ended::<F>(stage, &["cancel"])
    }
}

/// Says something in the call, when there is a path.
fn say<F: CallForm>(stage: &mut Stage) {
    let Some(session) = stage.session() else {
        return;
    };
    let heard = stage
        .stranger
        .received()
        .iter()
        .any(|packet| packet.ends_with(b"ours"));
    let ready = stage.manager.find_client::<VoiceClient<F>>();
    let ready = ready
        .and_then(|calls| calls.call(session))
        .is_some_and(|call| call.is_connected());
    if ready && !heard {
        let packet = Bytes::from([&[0x80, 0][..], &[0; 10], b"ours"].concat());
        // Whether it was heard is asked at the other end.
        let _ = stage.update(|m, now| VoiceClient::<F>::send_rtp(m, session, packet, now));
    }
}

/// By what protocol the peer has proved who it is, if it had to.
fn protocol<F: CallForm>(stage: &mut Stage) -> Option<String> {
    let session = stage.session()?;
    stage.update(|manager, _| {
        let call = manager.find_client::<VoiceClient<F>>()?.call(session)?;
        Some(call.secured()?.protocol.to_string())
    })
}

fn is_heard(stage: &Stage) -> bool {
    let ours = stage
        .stranger
        .received()
        .iter()
        .any(|packet| packet.ends_with(b"ours"));
    let packets = stage
        .packets
        .lock()
        .map(|packets| packets.clone())
        .unwrap_or_default();
    ours && packets.iter().any(|packet| packet.ends_with(b"theirs"))
}

/// Mute and hold, and back; the session stays, whatever the peer makes of it.
fn beside<F: CallForm>(stage: &mut Stage) -> core::result::Result<(), String> {
    for on in [true, false] {
        let Some(session) = stage.session() else {
            return Err("our session is gone".into());
        };
        let told = stage.update(|manager, now| {
            VoiceClient::<F>::set_mute(manager, session, on, now)?;
            VoiceClient::<F>::set_hold(manager, session, on, now)
        });
        told.map_err(|error| error.to_string())?;
        stage.run(Duration::from_secs(3), |_| false);
    }
    Ok(())
}

/// Both sides know that it is over, for this reason as whoever ended it said it.
fn ended<F: CallForm>(stage: &mut Stage, wanted: &[&str]) -> Verdicted {
    let both = |stage: &mut Stage| stage.stranger.ending().is_some() && ours_ended::<F>(stage);
    if !stage.run(PATIENCE, both) {
        return Err(format!(
            "one side does not know of the end: {}",
            state::<F>(stage)
        ));
    }
    let ending = stage.stranger.ending().cloned();
    let reason = ending.map(|ending| ending.reason).unwrap_or_default();
    let google = F::NAMESPACE == GoogleForm::NAMESPACE
        && ["no reason", "decline", "success"].contains(&&*reason);
    match google || wanted.iter().any(|wanted| reason.ends_with(wanted)) {
        true => Ok(format!("over on both sides: {reason}")),
        false => Err(format!("over for another reason: {}", state::<F>(stage))),
    }
}

fn ours_ended<F: CallForm>(stage: &mut Stage) -> bool {
    let live = stage.update(|manager, _| {
        let Some(calls) = manager.find_client::<VoiceClient<F>>() else {
            return false;
        };
        let ids: Vec<_> = calls.sessions().collect();
        ids.iter().any(|id| {
            calls
                .call(*id)
                .is_some_and(|call| call.phase() != CallPhase::Ended)
        })
    });
    let announced = stage
        .announced
        .iter()
        .filter(|told| matches!(told, JmiOutput::Over { .. }));
    !live && (announced.count() > 0 || stage.jmi.calls().count() == 0 || stage.session().is_none())
}

/// Where both sides stand, for people.
fn state<F: CallForm>(stage: &mut Stage) -> String {
    let ours = stage.update(|manager, _| {
        let calls = manager.find_client::<VoiceClient<F>>()?;
        let ids: Vec<_> = calls.sessions().collect();
        let call = ids.iter().find_map(|id| calls.call(*id))?;
        let cause = call.cause().map(Cause::to_string);
        Some(format!(
            "{:?}{}",
            call.phase(),
            cause.map(|c| format!(" ({c})")).unwrap_or_default()
        ))
    });
    let theirs = stage.stranger.ending().map(|ending| {
        let who = if ending.by_persona {
            "it ended"
        } else {
            "it was told"
        };
        format!("{who}: {}", ending.reason)
    });
    let announced = stage.announced.iter().find_map(|told| match told {
        JmiOutput::Over { end, .. } if *end != JmiEnd::Ours => {
            Some(format!(", announcement {end:?}"))
        }
        _ => None,
    });
    format!(
        "ours {}, theirs {}{}",
        ours.unwrap_or_else(|| "no call".into()),
        theirs.unwrap_or_else(|| "goes on".into()),
        announced.unwrap_or_default()
    )
}

/// Files.
impl Case {
    fn file(&self, stage: &mut Stage, persona: &Persona, role: Role) -> Verdicted {
        let bytes = Bytes::from(
            (0..FILE_BYTES)
                .map(|at| (at * 7 + at / 251) as u8)
                .collect::<Vec<_>>(),
        );
        let verdict = self.verdict;
        stage.update(|manager, _| {
            if let Some(files) = manager.find_client::<FileClient>() {
                files.set_policy(move |offer| match verdict {
                    Verdict::Accept => {
                        let all = offer.files.iter().map(|file| {
                            (
                                file.content.clone(),
                                Decision::Accept(Acceptance::default()),
                            )
                        });
                        FileVerdict::Decide(all.collect())
                    }
                    Verdict::Decline | Verdict::Busy | Verdict::Silent => {
                        FileVerdict::Decline(ReasonCondition::Decline.into())
                    }
                });
            }
        });
        match role {
            Role::Initiator => self.send(stage, bytes),
            Role::Responder => {
                let medium = Medium::File {
                    name: FILE_NAME.into(),
                    bytes: bytes.clone(),
                };
                stage.theirs(|stranger, now| stranger.begin(medium, now));
                let forgets = persona
                    .file
                    .is_some_and(|habits| habits.forgets_replacement);
                match forgets && !self.s5b {
                    true => lost(stage),
                    false => self.receive(stage, &bytes),
                }
            }
        }
    }

    fn send(&self, stage: &mut Stage, bytes: Bytes) -> Verdicted {
        let id = stage.update(|manager, now| {
            let session = manager.create_session(OURS.into(), FILE_TRANSFER, now);
            let session = session.map_err(|error| error.to_string())?;
            if let Some(session) = manager.session(session) {
                let chosen = session.set_potential_transports(&ours::FILE_TRANSPORTS);
                chosen.map_err(|error| error.to_string())?;
            }
            let offer = Proposal::Offer(File::new(FILE_NAME, bytes.len() as u64));
            let opened = FileClient::open(manager, session, THEIRS.into(), vec![offer], now);
            let opened = opened.map_err(|error| error.to_string())?;
            opened
                .into_iter()
                .next()
                .ok_or_else(|| "no transfer".to_owned())
        })?;
        let mut left = bytes.clone();
        let over = stage.run(PATIENCE, |stage| {
            if !left.is_empty() {
                // Not yet, or not any more: the outcome tells.
                let _ = stage.update(|m, now| FileClient::write(m, &id, &mut left, now));
            }
            outcome(stage, &id).is_some() && stage.stranger.ending().is_some()
        });
        let outcome = outcome(stage, &id);
        if self.verdict == Verdict::Decline {
            return declined(over, outcome.as_ref(), stage);
        }
        let whole = stage.stranger.received().concat() == bytes;
        let confirmed = matches!(outcome, Some(Outcome::Sent { .. }));
        match over && whole && confirmed && stage.stranger.verified() != Some(false) {
            true => Ok(format!(
                "sent over {}: {}",
                transport(stage),
                said(outcome.as_ref())
            )),
            false => Err(format!(
                "{}; they have {} bytes, over {}, and {}",
                said(outcome.as_ref()),
                stage.stranger.received().concat().len(),
                transport(stage),
                theirs(stage),
            )),
        }
    }

    fn receive(&self, stage: &mut Stage, bytes: &Bytes) -> Verdicted {
        let mut received: Vec<u8> = Vec::new();
        let mut transfer: Option<TransferId> = None;
        let over = stage.run(PATIENCE, |stage| {
            if transfer.is_none() {
                transfer = find(stage);
            }
            let Some(known) = &transfer else {
                return stage.stranger.ending().is_some();
            };
            while let Ok(Read::Bytes(bytes)) =
                stage.update(|m, now| FileClient::read(m, known, usize::MAX, now))
            {
                received.extend_from_slice(&bytes);
            }
            outcome(stage, known).is_some() && stage.stranger.ending().is_some()
        });
        let outcome = transfer.and_then(|id| outcome(stage, &id));
        if self.verdict == Verdict::Decline {
            return declined(over, outcome.as_ref(), stage);
        }
        let fine = matches!(outcome, Some(Outcome::Received(_)));
        match over && fine && received == *bytes {
            true => Ok(format!(
                "received over {}: {}",
                transport(stage),
                said(outcome.as_ref())
            )),
            false => Err(format!(
                "{}; we have {} bytes, over {}, and {}",
                said(outcome.as_ref()),
                received.len(),
                transport(stage),
                theirs(stage),
            )),
        }
    }
}

/// It refuses the answer to its own offer of another transport (dino#1554): the one end that this can have.
fn lost(stage: &mut Stage) -> Verdicted {
    let mut transfer = None;
    let over = stage.run(PATIENCE, |stage| {
        transfer = transfer.take().or_else(|| find(stage));
        let ours = transfer
            .as_ref()
            .is_some_and(|id| outcome(stage, id).is_some());
        ours && stage.stranger.ending().is_some()
    });
    let reason = stage.stranger.ending().map(|ending| ending.reason.clone());
    match over && reason.as_deref() == Some("connectivity-error") {
        true => Ok("over on both sides: connectivity-error, because it refuses the transport that it asked for".into()),
        false => Err(format!("no clear end: {}", theirs(stage))),
    }
}

fn declined(over: bool, outcome: Option<&Outcome>, stage: &Stage) -> Verdicted {
    let reason = stage.stranger.ending().map(|ending| ending.reason.clone());
    match over && reason.as_deref() == Some("decline") {
        true => Ok("over on both sides: decline".into()),
        false => Err(format!("{}; {}", said(outcome), theirs(stage))),
    }
}

fn find(stage: &mut Stage) -> Option<TransferId> {
    stage.update(|manager, _| {
        let files = manager.find_client::<FileClient>()?;
        files.sessions().find_map(|session| {
            let content = files.transfers(session).next()?.content().clone();
            Some(TransferId { session, content })
        })
    })
}

fn outcome(stage: &mut Stage, id: &TransferId) -> Option<Outcome> {
    stage.update(|manager, _| {
        manager
            .find_client::<FileClient>()?
            .transfer(id)?
            .outcome()
            .cloned()
    })
}

fn said(outcome: Option<&Outcome>) -> String {
    outcome.map_or_else(|| "no outcome".into(), |outcome| format!("{outcome:?}"))
}

fn theirs(stage: &Stage) -> String {
    stage.stranger.ending().map_or_else(
        || "for them it goes on".into(),
        |ending| format!("for them it ended with {}", ending.reason),
    )
}

fn transport(stage: &Stage) -> String {
    short(stage.stranger.transport().unwrap_or_default())
}

fn short(namespace: &str) -> String {
    let name = match namespace {
        session_core::GOOGLE_P2P => "Google's ICE",
        _ => namespace.trim_start_matches("urn:xmpp:jingle:transports:"),
    };
    name.to_owned()
}
