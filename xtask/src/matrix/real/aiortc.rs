//! Voice calls between our program `call` and a peer made of aiortc (ICE, DTLS-SRTP, RTP, codecs) and slixmpp (XMPP), each in a
//! process of its own.

use super::Row;
use crate::lab::{self, Process, Prosody, program, sound};
use crate::setup::Python;
use std::{path::Path, process::Command};

pub(super) const NAME: &str = "aiortc";
/// What each side says, in hertz.
const OURS: u32 = 440;
const THEIRS: u32 = 660;
/// How long they talk.
const SECONDS: &str = "4";
/// And when contents come and go meanwhile.
const LONGER: &str = "15";
/// How much of it has to be heard at least: codecs, jitter and the beginning take the rest.
const HEARD_SECONDS: f64 = 2.0;
const SCRIPT: &str = include_str!("../jingle_peer.py");

pub(super) fn missing() -> Option<String> {
    lab::missing(NAME, &[("prosody", "prosody")]).or_else(|| {
        Python::JINGLE
            .missing()
            .map(|why| format!("{NAME} not run: {why}"))
    })
}

pub(super) fn meet(folder: &Path) -> Result<Vec<Row>, String> {
    let call = program("call").map_err(|failure| failure.to_string())?;
    let server = Prosody::start(folder, "", "")?;
    lab::write(&folder.join("peer.py"), SCRIPT)?;
    sound::write_tone(&folder.join("ours.wav"), OURS, 20.0)?;
    let version = format!(
        "{}, over Prosody {}",
        Python::JINGLE.version(),
        lab::prosody_version()
    );
    let place = Place {
        folder,
        server: &server,
        call: &call,
    };
    let mut rows = Vec::new();
    let cases: [(_, _, &[&str]); 3] = [
        ("call", "opus", &[]),
        ("call, PCMU", "pcmu", &[]),
        ("call, contents", "opus", &["--contents"]),
    ];
    for (case, codec, more) in cases {
        for role in ["initiator", "responder"] {
            let came = match role {
                "initiator" => place.dial(codec, more),
                _ => place.answer(codec, more),
            };
            let (ok, why) = match came {
                Ok(how) => (true, how),
                Err(why) => (false, why),
            };
            rows.push(Row {
                peer: NAME,
                real: true,
                version: version.clone(),
                case,
                role,
                ok,
                why,
                transcript: Vec::new(),
            });
        }
    }
    Ok(rows)
}

struct Place<'a> {
    folder: &'a Path,
    server: &'a Prosody,
    call: &'a Path,
}

impl Place<'_> {
    /// We call.
    fn dial(&self, codec: &str, more: &[&str]) -> Result<String, String> {
        let mut peer = self.peer(codec, &[&["--accept"], more].concat())?;
        peer.hear("\"online\"")?;
        let to = format!("juliet@{}/peer", lab::DOMAIN);
        let seconds = if more.is_empty() { SECONDS } else { LONGER };
        let mut call = self.call(&["dial", &to, "--for", seconds])?;
        let ended = call.wait()?;
        self.judge(codec, more, ended, &call, &mut peer)
    }

    /// They call.
    fn answer(&self, codec: &str, more: &[&str]) -> Result<String, String> {
        let mut call = self.call(&["answer", "--accept", "any"])?;
        call.hear("\"waiting\"")?;
        let said = call.said();
        let own = format!("romeo@{}/", lab::DOMAIN);
        let at = said.find(&own).ok_or("it does not say who it is")?;
        let address = said[at..]
            .split(['"', ' ', '\n'])
            .next()
            .unwrap_or_default();
        let words = ["--call", address, "--seconds", SECONDS];
        let mut peer = self.peer(codec, &[&words, more].concat())?;
        let ended = call.wait()?;
        self.judge(codec, more, ended, &call, &mut peer)
    }

    fn call(&self, words: &[&str]) -> Result<Process, String> {
        let mut command = Command::new(self.call);
        command
            .args(words)
            .args(["--json", "--play"])
            .arg(self.folder.join("ours.wav"))
            .arg("--record")
            .arg(self.folder.join("heard.wav"))
            .args(["--ring", "30"])
            .args(self.server.account("romeo"));
        Process::start("call", self.folder, &mut command)
    }

    fn peer(&self, codec: &str, words: &[&str]) -> Result<Process, String> {
        let mut command = Command::new(Python::JINGLE.program());
        command
            .arg(self.folder.join("peer.py"))
            .args(["--jid", &format!("juliet@{}/peer", lab::DOMAIN)])
            .arg("--password-file")
            .arg(self.folder.join("juliet.password"))
            .args([
                "--host",
                "127.0.0.1",
                "--port",
                &self.server.port.to_string(),
            ])
            .arg("--ca")
            .arg(self.folder.join("ca.pem"))
            .args(["--codec", codec, "--tone", &THEIRS.to_string()])
            .args(words);
        Process::start("peer", self.folder, &mut command)
    }

    /// Whether both heard each other, by the codec that was wanted, protected by DTLS.
    fn judge(
        &self,
        codec: &str,
        more: &[&str],
        ended: i32,
        call: &Process,
        peer: &mut Process,
    ) -> Result<String, String> {
        let theirs = peer.wait()?;
        let all = || format!("call: {}\npeer: {}", call.said(), peer.said());
        if (ended, theirs) != (0, 0) {
            return Err(format!("they ended with {ended} and {theirs}\n{}", all()));
        }
        let done = lab::event(&call.said(), "done").ok_or_else(all)?;
        let media = lab::event(&peer.said(), "media").ok_or_else(all)?;
        if !more.is_empty() {
            judge_contents(&call.said(), &peer.said())
                .map_err(|why| format!("{why}\n{}", all()))?;
        }
        let text = |key: &str| done[key].as_str().unwrap_or_default().to_lowercase();
        if !text("codec").contains(codec) || !text("security").contains("dtls") {
            return Err(format!("not {codec} by DTLS: {done}"));
        }
        let heard = sound::tone_seconds(&self.folder.join("heard.wav"), THEIRS)?;
        if heard < HEARD_SECONDS {
            return Err(format!("{heard:.1} s of their tone were heard\n{}", all()));
        }
        let there = media["hertz"].as_u64().unwrap_or_default();
        if there.abs_diff(u64::from(OURS)) > 20 {
            return Err(format!(
                "they heard {there} Hz instead of {OURS}\n{}",
                all()
            ));
        }
        Ok(format!(
            "{}, {}; {heard:.1} s of their tone heard, {} packets in and {} out there",
            done["codec"].as_str().unwrap_or_default(),
            done["security"]
                .as_str()
                .and_then(|text| text.split(' ').next())
                .unwrap_or_default(),
            media["in"],
            media["out"]
        ))
    }
}

/// Whether what the peer did with contents was told here, and answered with a reason: there is only sound.
fn judge_contents(here: &str, there: &str) -> Result<(), String> {
    let rejected = lab::event(there, "rejected").ok_or("nothing was rejected")?;
    lab::event(there, "alone").ok_or("it was not left to speak alone")?;
    let told: Vec<serde_json::Value> = here
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    let count = |event: &str, key: &str, value: &str| {
        let fits = |told: &&serde_json::Value| told["event"] == event && told[key] == value;
        told.iter().filter(fits).count()
    };
    for name in ["camera", "screen", "board"] {
        if rejected[name] != "unsupported-applications" {
            return Err(format!("{name} was rejected so: {}", rejected[name]));
        }
        let events = ["content-added", "content-declined"].map(|event| count(event, "name", name));
        if events != [1, 1] {
            return Err(format!("of {name} it was told {events:?} times"));
        }
    }
    if count("content-added", "media", "video") < 2 || count("content-added", "media", "audio") > 0
    {
        return Err("it was told of other media than were added".to_owned());
    }
    let both = count("content-senders", "senders", "both");
    let one = count("content-senders", "senders", "initiator")
        + count("content-senders", "senders", "responder");
    match (one, both) {
        (1, 1) => Ok(()),
        other => Err(format!("who sends was told {other:?} times")),
    }
}
