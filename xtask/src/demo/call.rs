//! The call after the file: two programs `call`, in processes of their own, at an XMPP server in this one. A WAV file goes in,
//! and what arrived comes out.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use session_core::Dialect;
use session_voice::audio::{
    AudioError, Babble, Resampler, SoundSink, SoundSource, WavSink, WavSource, similarity,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use super::view::View;
use crate::lab;
use crate::switchboard::{Background, DOMAIN, PASSWORD};
use crate::tools::{self, Failure};

/// Samples per second of what is written.
const RATE: u32 = 48_000;
/// How long what is said may be, in seconds.
const SECONDS_MAX: f64 = 60.0;
/// How long the call goes on after everything was said.
const SILENCE: f64 = 1.0;
/// How long it may take to log in, to find each other, and to end.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a call came to.
#[derive(Debug)]
pub(super) struct Called {
    written: PathBuf,
    seconds: f64,
    similarity: f64,
    /// What who listened said at the end.
    done: Value,
}

impl Called {
    pub(super) fn json(&self) -> Value {
        json!({
            "wav": self.written, "seconds": self.seconds, "similarity": self.similarity, "mos": self.done["mos"],
            "codec": self.done["codec"], "security": self.done["security"], "path": self.done["path"],
            "setup_seconds": self.done["setup_seconds"], "received": self.done["received"],
            "concealed": self.done["concealed"],
        })
    }

    pub(super) fn text(&self) -> String {
        let number = |name: &str| self.done[name].as_f64().unwrap_or_default();
        let word = |name: &str| self.done[name].as_str().unwrap_or("unknown").to_owned();
        let lines = [
            format!(
                "call of {:.1} s: {}, {}, heard {:.3} s after dialling",
                self.seconds,
                word("codec"),
                word("security"),
                number("setup_seconds")
            ),
            format!(
                "similarity {:.2} (1 is all of it), MOS {:.1} (4.4 is the most)",
                self.similarity,
                number("mos")
            ),
            format!("what was heard: {}", self.written.display()),
        ];
        lines.join("\n")
    }
}

/// Makes the call.
pub(super) fn run(
    wav: Option<&Path>,
    dialect: &'static Dialect,
    view: &View,
) -> Result<Called, Failure> {
    let program = lab::program("call")?;
    let folder = tools::target_dir().join("demo");
    fs::create_dir_all(&folder).map_err(|error| unwritten(&folder, &error))?;
    let said = match wav {
        Some(path) => path.to_path_buf(),
        None => {
            let path = folder.join("said.wav");
            write_speech(&path).map_err(|error| unwritten(&path, &error))?;
            path
        }
    };
    let sound = read(&said).map_err(|error| {
        let hint = "name a WAV file that is there";
        Failure::new(format!("read {}", said.display()), error.to_string(), hint)
    })?;
    let seconds = (sound.len() as f64 / f64::from(RATE)).min(SECONDS_MAX) + SILENCE;
    let server = Background::start()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| broken("start the asynchronous runtime", &error.to_string()))?;
    let stage = Stage {
        server: &server,
        program,
        folder,
        seconds,
        dialect: if dialect.name == Dialect::JINGLE.name {
            "jingle"
        } else {
            "gtalk"
        },
        view,
    };
    let done = runtime.block_on(stage.play(&said))?;
    let written = stage.heard();
    let heard = read(&written).map_err(|error| unwritten(&written, &error))?;
    Ok(Called {
        written,
        seconds,
        similarity: similarity(&sound, &heard, RATE),
        done,
    })
}

struct Stage<'a> {
    server: &'a Background,
    program: PathBuf,
    folder: PathBuf,
    seconds: f64,
    dialect: &'static str,
    view: &'a View,
}

impl Stage<'_> {
    /// Where what bob hears is written.
    fn heard(&self) -> PathBuf {
        self.folder.join("heard.wav")
    }

    /// Alice says it to bob. What bob says at the end.
    async fn play(&self, said: &Path) -> Result<Value, Failure> {
        for (name, text) in [
            ("ca.pem", self.server.authority()),
            ("password", PASSWORD),
            ("config.toml", ""),
        ] {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(|error| unwritten(&path, &error))?;
        }
        let heard = self.heard();
        let length = self.seconds.to_string();
        let mut bob = self.start("bob", &["answer"]);
        bob.args(&["--record", &heard.display().to_string(), "--for", &length]);
        let mut bob = bob.spawn()?;
        bob.until(self.view, "waiting").await?;
        let mut alice = self.start("alice", &["dial", &format!("bob@{DOMAIN}")]);
        alice.args(&["--play", &said.display().to_string()]);
        let mut alice = alice.spawn()?;
        let (one, two) = tokio::join!(alice.until(self.view, "done"), bob.until(self.view, "done"));
        one?;
        alice.end().await?;
        let done = two?;
        bob.end().await?;
        Ok(done)
    }

    fn start(&self, who: &'static str, words: &[&str]) -> Starting {
        let mut command = Command::new(&self.program);
        let path = |name: &str| self.folder.join(name).display().to_string();
        command.args(words).args(["--json", "--accept", "any"]);
        command.args(["--jid", &format!("{who}@{DOMAIN}"), "--server"]);
        command.arg(self.server.address());
        command.args(["--ca", &path("ca.pem"), "--config", &path("config.toml")]);
        command.args(["--password-file", &path("password")]);
        command.args(["--dialect", self.dialect]);
        Starting { who, command }
    }
}

/// A program that is about to start.
struct Starting {
    who: &'static str,
    command: Command,
}

impl Starting {
    fn args(&mut self, words: &[&str]) {
        self.command.args(words);
    }

    fn spawn(mut self) -> Result<Running, Failure> {
        let command = self.command.stdin(Stdio::null()).kill_on_drop(true);
        let child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = child.map_err(|error| broken("start `call`", &error.to_string()))?;
        let output = child.stdout.take();
        let output = output.ok_or_else(|| broken("hear `call`", "it has no output"))?;
        Ok(Running {
            who: self.who,
            child,
            lines: tokio::io::BufReader::new(output).lines(),
        })
    }
}

/// A program that runs, and ends when it is dropped.
struct Running {
    who: &'static str,
    child: Child,
    lines: tokio::io::Lines<tokio::io::BufReader<ChildStdout>>,
}

impl Running {
    /// Shows what it says, until it says this.
    async fn until(&mut self, view: &View, event: &str) -> Result<Value, Failure> {
        let limit = PATIENCE + Duration::from_secs_f64(SECONDS_MAX);
        loop {
            let line = timeout(limit, self.lines.next_line()).await;
            let Ok(Ok(Some(line))) = line else {
                return Err(broken("make a call", &self.why().await));
            };
            let said: Value = serde_json::from_str(&line).unwrap_or_default();
            let name = said["event"].as_str().unwrap_or_default();
            if name != "quality" && name != "done" {
                let facts = said.as_object().into_iter().flatten();
                let facts = facts.filter(|(key, _)| *key != "event");
                let facts: Vec<_> = facts.map(|(key, fact)| format!("{key} {fact}")).collect();
                view.fact(self.who, name, facts.join(", "));
            }
            if name == event {
                return Ok(said);
            }
        }
    }

    async fn end(mut self) -> Result<(), Failure> {
        match timeout(PATIENCE, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) | Err(_) => Err(broken("make a call", &self.why().await)),
        }
    }

    /// What it says of its failure.
    async fn why(&mut self) -> String {
        let mut text = String::new();
        if let Some(errors) = &mut self.child.stderr {
            // What is said within a second is enough.
            let _ = timeout(Duration::from_secs(1), errors.read_to_string(&mut text)).await;
        }
        format!("{}: {}", self.who, text.trim())
    }
}

/// Something like speech, for five seconds.
fn write_speech(path: &Path) -> Result<(), AudioError> {
    let mut sound = vec![0.0; RATE as usize * 5];
    Babble::new(1).read(&mut sound)?;
    let file = File::create(path).map_err(|error| AudioError::Write(error.into()))?;
    let mut sink = WavSink::new(BufWriter::new(file), RATE)?;
    sink.write(&sound)?;
    sink.finish()
}

/// The sound of a file, at 48 kHz.
fn read(path: &Path) -> Result<Vec<f32>, AudioError> {
    let file = File::open(path).map_err(|error| AudioError::Read(error.into()))?;
    let mut source = WavSource::new(BufReader::new(file))?;
    let mut resampler = Resampler::new(source.sample_rate(), RATE)?;
    let mut piece = vec![0.0; source.sample_rate() as usize / 10];
    let mut sound = Vec::new();
    loop {
        let count = source.read(&mut piece)?;
        resampler.push(&piece[..count], &mut sound)?;
        if count < piece.len() {
            return Ok(sound);
        }
    }
}

fn unwritten(path: &Path, error: &dyn std::fmt::Display) -> Failure {
    let what = format!("write {}", path.display());
    Failure::new(what, error.to_string(), "is there room on the disk?")
}

fn broken(what: &str, why: &str) -> Failure {
    let hint = "if it happens again, report it with what is shown";
    Failure::new(what, why, hint)
}
