//! Our programs with the Jingle peer of `matrix/jingle`, whose engine somebody else has written: each in a process of its own.

use super::Row;
use crate::lab::{self, Process, Prosody, program, sound};
use crate::setup::Python;
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What each side says in calls, in hertz.
pub(super) const OURS: u32 = 440;
pub(super) const THEIRS: u32 = 660;
/// How much of it has to be heard at least: codecs, jitter and the beginning take the rest.
const HEARD_SECONDS: f64 = 2.0;
/// How long the peers talk, if nobody says so.
pub(super) const SECONDS: &str = "4";

/// The peer's parts, which stand beside each other.
const SCRIPTS: [(&str, &str); 6] = [
    ("peer.py", include_str!("../jingle/peer.py")),
    ("mapping.py", include_str!("../jingle/mapping.py")),
    ("files.py", include_str!("../jingle/files.py")),
    (
        "aiortc_engine.py",
        include_str!("../jingle/aiortc_engine.py"),
    ),
    ("browser.py", include_str!("../jingle/browser.py")),
    ("browser.html", include_str!("../jingle/browser.html")),
];

/// A server, our programs, and the peer with one engine.
pub(super) struct Place<'a> {
    pub(super) folder: &'a Path,
    server: Prosody,
    call: PathBuf,
    python: Python,
    /// What the peer is told of its engine.
    engine: Vec<String>,
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// We.
    We,
    /// The peer.
    They,
}

/// What is particular in a call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Talk<'a> {
    pub(super) codec: &'a str,
    /// What the peer is told besides.
    pub(super) peer: &'a [&'a str],
    /// For how long we talk when we have called.
    pub(super) seconds: &'a str,
}

/// What both said of a call.
pub(super) struct Talked {
    pub(super) here: String,
    pub(super) there: String,
    done: Value,
    pub(super) media: Value,
    heard: f64,
}

impl Talk<'_> {
    /// Nothing.
    pub(super) fn plain() -> Self {
        Self {
            codec: "opus",
            peer: &[],
            seconds: SECONDS,
        }
    }
}

impl Begins {
    pub(super) const BOTH: [Self; 2] = [Self::We, Self::They];

    /// Our role.
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::We => "initiator",
            Self::They => "responder",
        }
    }
}

impl<'a> Place<'a> {
    pub(super) fn new(
        folder: &'a Path,
        python: Python,
        engine: Vec<String>,
    ) -> Result<Self, String> {
        let call = program("call").map_err(|failure| failure.to_string())?;
        let server = Prosody::start(folder, "", "")?;
        for (name, text) in SCRIPTS {
            lab::write(&folder.join(name), text)?;
        }
        sound::write_tone(&folder.join("ours.wav"), OURS, 20.0)?;
        Ok(Self {
            folder,
            server,
            call,
            python,
            engine,
        })
    }

    /// A call, from its beginning to its end, in which both heard each other by the codec that was wanted, protected by DTLS.
    pub(super) fn talk(&self, begins: Begins, talk: Talk<'_>) -> Result<Talked, String> {
        match begins {
            Begins::We => self.dial(talk),
            Begins::They => self.answer(talk),
        }
    }

    fn dial(&self, talk: Talk<'_>) -> Result<Talked, String> {
        let mut peer = self.peer(&[&["--codec", talk.codec, "--accept"], talk.peer].concat())?;
        peer.hear("\"online\"")?;
        let to = format!("juliet@{}/peer", lab::DOMAIN);
        let mut call = self.call(&["dial", &to, "--ring", "30", "--for", talk.seconds])?;
        let ended = call.wait()?;
        self.judge(talk, ended, &call, &mut peer)
    }

    fn answer(&self, talk: Talk<'_>) -> Result<Talked, String> {
        let mut call = self.call(&["answer", "--accept", "any"])?;
        call.hear("\"waiting\"")?;
        let address = self.address(&call)?;
        let words = ["--codec", talk.codec, "--call", &address];
        let seconds = ["--seconds", SECONDS];
        let mut peer = self.peer(&[&words[..], &seconds, talk.peer].concat())?;
        let ended = call.wait()?;
        self.judge(talk, ended, &call, &mut peer)
    }

    /// As whom a program of ours has logged in.
    pub(super) fn address(&self, process: &Process) -> Result<String, String> {
        let said = process.said();
        let own = format!("romeo@{}/", lab::DOMAIN);
        let at = said.find(&own).ok_or("it does not say who it is")?;
        let address = said[at..].split(['"', ' ', '\n']).next();
        Ok(address.unwrap_or_default().to_owned())
    }

    fn call(&self, words: &[&str]) -> Result<Process, String> {
        let mut command = Command::new(&self.call);
        command
            .args(words)
            .args(["--json", "--play"])
            .arg(self.folder.join("ours.wav"))
            .arg("--record")
            .arg(self.folder.join("heard.wav"));
        self.ours("call", &mut command)
    }

    /// Starts a program of ours, logged in as Romeo.
    pub(super) fn ours(&self, name: &str, command: &mut Command) -> Result<Process, String> {
        Process::start(
            name,
            self.folder,
            command.args(self.server.account("romeo")),
        )
    }

    /// Starts the peer, logged in as Juliet.
    pub(super) fn peer(&self, words: &[&str]) -> Result<Process, String> {
        let mut command = Command::new(self.python.program());
        command
            .arg(self.folder.join("peer.py"))
            .args(&self.engine)
            .args(["--jid", &format!("juliet@{}/peer", lab::DOMAIN)])
            .arg("--password-file")
            .arg(self.folder.join("juliet.password"))
            .args(["--host", "127.0.0.1"])
            .args(["--port", &self.server.port.to_string()])
            .arg("--ca")
            .arg(self.folder.join("ca.pem"))
            .args(["--tone", &THEIRS.to_string()])
            .args(words)
            .env("PYTHONDONTWRITEBYTECODE", "1");
        Process::start("peer", self.folder, &mut command)
    }

    fn judge(
        &self,
        talk: Talk<'_>,
        ended: i32,
        call: &Process,
        peer: &mut Process,
    ) -> Result<Talked, String> {
        let theirs = peer.wait()?;
        let (here, there) = (call.said(), peer.said());
        let all = || format!("call: {here}\npeer: {there}");
        if (ended, theirs) != (0, 0) {
            return Err(format!("they ended with {ended} and {theirs}\n{}", all()));
        }
        let done = lab::event(&here, "done").ok_or_else(all)?;
        let media = lab::event(&there, "media").ok_or_else(all)?;
        let text = |key: &str| done[key].as_str().unwrap_or_default().to_lowercase();
        if !text("codec").contains(talk.codec) || !text("security").contains("dtls") {
            return Err(format!("not {} by DTLS: {done}", talk.codec));
        }
        let heard = sound::tone_seconds(&self.folder.join("heard.wav"), THEIRS)?;
        if heard < HEARD_SECONDS {
            return Err(format!("{heard:.1} s of their tone were heard\n{}", all()));
        }
        // Where nothing plays there is no height, and what is loud has to do.
        let hertz = match media["hertz"].is_null() {
            true => u64::from(OURS),
            false => media["hertz"].as_u64().unwrap_or_default(),
        };
        if hertz.abs_diff(u64::from(OURS)) > 20 {
            return Err(format!(
                "they heard {hertz} Hz instead of {OURS}\n{}",
                all()
            ));
        }
        Ok(Talked {
            here,
            there,
            done,
            media,
            heard,
        })
    }
}

impl Talked {
    /// A line about it.
    pub(super) fn how(&self) -> String {
        format!(
            "{}, {}; {:.1} s of their tone heard, {} packets in and {} out there",
            self.done["codec"].as_str().unwrap_or_default(),
            self.done["security"]
                .as_str()
                .and_then(|text| text.split(' ').next())
                .unwrap_or_default(),
            self.heard,
            self.media["in"],
            self.media["out"]
        )
    }

    /// How many events of a name, with this value under this key, were told here.
    pub(super) fn count(&self, event: &str, key: &str, value: &Value) -> usize {
        let told = self.here.lines();
        let told = told.filter_map(|line| serde_json::from_str::<Value>(line).ok());
        told.filter(|told| told["event"] == event && told[key] == *value)
            .count()
    }
}

/// A line of the matrix.
pub(super) fn row(
    peer: &'static str,
    version: &str,
    case: &'static str,
    begins: Begins,
    came: Result<String, String>,
) -> Row {
    Row::real((peer, version), (case, begins.role()), came)
}

/// A file of so many bytes, and its hash of SHA-256 in digits.
pub(super) fn make_file(path: &Path, size: usize) -> Result<String, String> {
    let bytes: Vec<u8> = (0..size).map(|at| (at * 31 + at / 257) as u8).collect();
    fs::write(path, &bytes).map_err(|error| error.to_string())?;
    hash_of(path)
}

/// What a file's hash of SHA-256 is, in digits.
pub(super) fn hash_of(path: &Path) -> Result<String, String> {
    let bytes = fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut hasher = session_file::Hasher::new([session_file::HashAlgorithm::Sha256]);
    hasher.update(&bytes);
    let hashes = hasher.hashes();
    let hash = hashes.first().ok_or("no hash")?;
    Ok(hash
        .value()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect())
}
