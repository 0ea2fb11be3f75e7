//! Calls and files between our programs and Dino, from Debian.
//!
//! Dino has no command line: its account is put into its database, its actions are called over D-Bus, and what there is no
//! action for is pressed. It asks DNS where its server is, trusts whom the system trusts, and its ICE leaves loopback out: so
//! everybody is in a network namespace, in which Prosody has the standard port and its authority is the system's.
//!
//! What Dino 0.4.2 cannot do is not among the cases: it takes no file through stanzas (it accepts the offer, and gives up at
//! the same moment without a word, "Establishing connection did not work"), and it does not fall back to them: in whose
//! offer no candidate was reached, it ends the session.

mod desk;

use super::Row;
use crate::lab::{self, DOMAIN, Process, Prosody, network::Network, program, sound};
use crate::setup::{self, has_package};
use desk::Dino;
use std::{
    fs,
    path::{Path, PathBuf},
    rc::Rc,
    thread::sleep,
    time::Duration,
};

pub(super) const NAME: &str = "Dino";
/// What we say in calls, in hertz.
const OURS: u32 = 440;
/// How long they talk.
const SECONDS: u64 = 4;
/// How much of it has to be heard at least: codecs, jitter and the beginning take the rest.
const HEARD_SECONDS: f64 = 2.0;
/// What `call dial` ends with when who is called declines.
const DECLINED: i32 = 4;
/// Larger than what is read or sent at once anywhere, and no multiple of it.
const FILE_BYTES: usize = 1_000_003;
/// Dino takes no larger ones without being asked.
const LARGE_BYTES: usize = 4_000_000;
const FILES: &str = "urn:xmpp:jingle:apps:file-transfer:5";
const CALLS: &str = "urn:xmpp:jingle:apps:rtp:audio";
/// The way that Dino and we have in common, as it is called, and how it is told once it is known where it leads.
const STREAMS: [&str; 2] = ["urn:xmpp:jingle:transports:s5b:1", "SOCKS5, direct"];

const WANTED: [lab::Wanted; 9] = [
    ("prosody", "prosody"),
    ("dino-im", "dino-im"),
    ("dbus-daemon", "dbus-daemon"),
    ("gdbus", "libglib2.0-bin"),
    ("sqlite3", "sqlite3"),
    ("Xvfb", "xvfb"),
    ("xdotool", "xdotool"),
    ("pulseaudio", "pulseaudio"),
    ("update-ca-certificates", "ca-certificates"),
];

/// Without these Dino does not call.
const SOUND: [&str; 2] = ["gstreamer1.0-plugins-good", "gstreamer1.0-pulseaudio"];

pub(super) fn missing() -> Option<String> {
    let sound = || {
        let package = SOUND.into_iter().find(|package| !has_package(package))?;
        let how = setup::command(&[package]);
        Some(format!("{NAME} not run: {package} not installed ({how})"))
    };
    lab::missing(NAME, &WANTED)
        .or_else(sound)
        .or_else(|| Network::missing(NAME))
}

pub(super) fn meet(folder: &Path) -> Result<Vec<Row>, String> {
    let place = Place {
        pcp: program("pcp").map_err(|failure| failure.to_string())?,
        call: program("call").map_err(|failure| failure.to_string())?,
        ..Place::new(folder)?
    };
    let version = format!(
        "{}, over Prosody {}",
        lab::debian_version("dino-im"),
        lab::prosody_version()
    );
    type Case = (
        &'static str,
        &'static str,
        fn(&Place) -> Result<String, String>,
    );
    let cases: [Case; 7] = [
        ("file, S5B", "initiator", Place::send),
        ("file, S5B", "responder", Place::receive),
        ("call", "initiator", Place::dial),
        ("call", "responder", Place::answer),
        ("call declined", "initiator", Place::declined),
        ("call given up", "initiator", Place::give_up),
        ("call given up", "responder", Place::given_up),
    ];
    let rows = cases
        .into_iter()
        .map(|(case, role, run)| Row::real((NAME, &version), (case, role), run(&place)));
    Ok(rows.collect())
}

struct Place {
    folder: PathBuf,
    dino: Dino,
    server: Prosody,
    network: Rc<Network>,
    pcp: PathBuf,
    call: PathBuf,
}

impl Place {
    fn new(folder: &Path) -> Result<Self, String> {
        let network = Rc::new(Network::new("dino")?);
        let server = Prosody::start_within(&network, folder)?;
        let dino = Dino::start(folder, &network)?;
        sound::write_tone(&folder.join("ours.wav"), OURS, 30.0)?;
        Ok(Self {
            folder: folder.to_path_buf(),
            dino,
            server,
            network,
            pcp: PathBuf::new(),
            call: PathBuf::new(),
        })
    }
}

impl Place {
    /// We send: what `pcp` prefers, an empty file, and one that is as large as Dino takes by itself.
    fn send(&self) -> Result<String, String> {
        let told: Result<Vec<String>, String> = [FILE_BYTES, 0, LARGE_BYTES]
            .into_iter()
            .map(|size| self.send_one(size))
            .collect();
        Ok(told?.join("; "))
    }

    fn send_one(&self, size: usize) -> Result<String, String> {
        let content = bytes(size);
        let path = self.folder.join(format!("letter-{size}.bin"));
        fs::write(&path, &content).map_err(|error| error.to_string())?;
        let before = self.dino.received()?;
        let (path, to) = (path.display().to_string(), format!("juliet@{DOMAIN}"));
        let mut pcp = self.start(&self.pcp, &["send", &path, &to])?;
        let ended = pcp.wait()?;
        if ended != 0 {
            return Err(format!("pcp ended with {ended}: {}", pcp.said()));
        }
        if self.dino.receive(before)? != content {
            return Err(format!("another file arrived: {}", pcp.said()));
        }
        how(&pcp, "sent", size)
    }

    /// Dino sends.
    fn receive(&self) -> Result<String, String> {
        let name = "from-dino.bin";
        let (content, into) = (bytes(FILE_BYTES), self.folder.join("inbox"));
        let path = self.folder.join(name);
        fs::write(&path, &content).map_err(|error| error.to_string())?;
        fs::create_dir_all(&into).map_err(|error| error.to_string())?;
        let to = into.display().to_string();
        let mut pcp = self.start(&self.pcp, &["receive", "--count", "1", "--into", &to])?;
        pcp.hear("\"ready\"")?;
        self.dino.know(&address(&pcp, "ready")?, FILES)?;
        self.dino.send(&path)?;
        let ended = pcp.wait()?;
        if ended != 0 {
            return Err(format!("pcp ended with {ended}: {}", pcp.said()));
        }
        let arrived = fs::read(into.join(name));
        if arrived.map_err(|error| error.to_string())? != content {
            return Err(format!("another file arrived: {}", pcp.said()));
        }
        how(&pcp, "received", FILE_BYTES)
    }

    /// We call, and hang up.
    fn dial(&self) -> Result<String, String> {
        let (mut call, number) = self.ring()?;
        let ear = self.listen()?;
        self.dino.accept(number)?;
        let ended = call.wait()?;
        self.judge(ended, &call, ear)
    }

    /// Dino calls, and hangs up.
    fn answer(&self) -> Result<String, String> {
        let mut call = self.phone(&["answer"])?;
        call.hear("\"waiting\"")?;
        self.dino.know(&address(&call, "waiting")?, CALLS)?;
        let ear = self.listen()?;
        self.dino.call()?;
        call.hear("\"connected\"")?;
        sleep(Duration::from_secs(SECONDS));
        self.dino.hang_up(|| call.has_ended())?;
        let ended = call.wait()?;
        self.judge(ended, &call, ear)
    }

    /// We call, and Dino declines.
    fn declined(&self) -> Result<String, String> {
        let (mut call, number) = self.ring()?;
        self.dino.reject(number)?;
        match call.wait()? {
            DECLINED => Ok("declined".to_owned()),
            other => Err(format!("call ended with {other}: {}", call.said())),
        }
    }

    /// We call, and give up.
    fn give_up(&self) -> Result<String, String> {
        let (mut call, number) = self.ring()?;
        call.interrupt()?;
        call.wait()?;
        self.dino.miss(number)?;
        Ok("missed there".to_owned())
    }

    /// Dino calls, and gives up.
    fn given_up(&self) -> Result<String, String> {
        let mut call = self.phone(&["answer", "--after", "60"])?;
        call.hear("\"waiting\"")?;
        self.dino.know(&address(&call, "waiting")?, CALLS)?;
        self.dino.call()?;
        call.hear("\"offered\"")?;
        self.dino.hang_up(|| call.has_ended())?;
        let ended = call.wait()?;
        let missed = call.said();
        match missed.contains("\"missed\"") {
            true => Ok(format!("missed here, {ended}")),
            false => Err(format!("call ended with {ended}: {missed}")),
        }
    }

    /// We call until it rings there.
    fn ring(&self) -> Result<(Process, u32), String> {
        let before = self.dino.calls()?;
        let (to, seconds) = (format!("juliet@{DOMAIN}"), SECONDS.to_string());
        let call = self.phone(&["dial", &to, "--for", &seconds])?;
        let number = self.dino.ring(before);
        let number = number.map_err(|why| format!("{why}; call: {}", call.said()))?;
        Ok((call, number))
    }

    fn phone(&self, words: &[&str]) -> Result<Process, String> {
        let path = |name: &str| self.folder.join(name).display().to_string();
        let (play, record) = (path("ours.wav"), path("here.wav"));
        let sound = ["--play", &play, "--record", &record];
        self.start(&self.call, &[words, &sound].concat())
    }

    /// Runs a program of ours as Romeo.
    fn start(&self, program: &Path, words: &[&str]) -> Result<Process, String> {
        let name = program.file_name().unwrap_or_default().to_string_lossy();
        // Dino encrypts files by OMEMO or not at all.
        let more: &[&str] = match program == self.pcp {
            true => &["--allow-plaintext"],
            false => &[],
        };
        let mut command = self.network.command(&program.display().to_string());
        command
            .args(words)
            .args(more)
            .arg("--json")
            .args(self.server.account("romeo"));
        Process::start(&name, &self.folder, &mut command)
    }

    fn listen(&self) -> Result<Process, String> {
        self.dino
            .listen(&self.folder, &self.folder.join("there.wav"))
    }

    /// Whether both heard each other, protected by DTLS.
    fn judge(&self, ended: i32, call: &Process, mut ear: Process) -> Result<String, String> {
        ear.interrupt()?;
        ear.wait()?;
        if ended != 0 {
            return Err(format!("call ended with {ended}: {}", call.said()));
        }
        let done = lab::event(&call.said(), "done").ok_or_else(|| call.said())?;
        let text = |key: &str| done[key].as_str().unwrap_or_default();
        if !text("security").to_lowercase().contains("dtls") {
            return Err(format!("not by DTLS: {done}"));
        }
        let here = sound::tone_seconds(&self.folder.join("here.wav"), desk::TONE)?;
        let there = sound::tone_seconds(&self.folder.join("there.wav"), OURS)?;
        if here.min(there) < HEARD_SECONDS {
            return Err(format!(
                "{here:.1} s and {there:.1} s were heard: {}",
                call.said()
            ));
        }
        Ok(format!(
            "{}, {}; {here:.1} s heard here and {there:.1} s there",
            text("codec"),
            text("security").split(' ').next().unwrap_or_default(),
        ))
    }
}

/// How many bytes went, if they went the right way.
fn how(pcp: &Process, event: &str, size: usize) -> Result<String, String> {
    let event = lab::event(&pcp.said(), event).ok_or_else(|| pcp.said())?;
    let path = event["path"].as_str().unwrap_or_default();
    match STREAMS.iter().any(|way| path.starts_with(way)) && event["bytes"] == size {
        true => Ok(format!("{size} bytes, SOCKS5")),
        false => Err(format!("not {size} bytes by SOCKS5: {event}")),
    }
}

/// Some bytes that do not repeat soon.
fn bytes(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at * 31 + at / 257) as u8).collect()
}

/// Where a program of ours is logged in, which it tells with this event.
fn address(program: &Process, event: &str) -> Result<String, String> {
    let event = lab::event(&program.said(), event).ok_or_else(|| program.said())?;
    Ok(event["address"].as_str().unwrap_or_default().to_owned())
}
