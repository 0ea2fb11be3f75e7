//! Files between our program `pcp` and Gajim, from Debian, which a plugin of ours steers.
//!
//! Gajim 1.7.3 fails on every offer, and nbxmpp 4.2.2 on every in-band stream that comes; the plugin mends both (`steered.py`).
//! What it sends it sends as it is. It declines with `cancel`, cancels by closing the stream, and has no ranges.

mod client;

use super::Row;
use crate::lab::{self, DOMAIN, Process, Prosody, program};
use client::Gajim;
use serde_json::{Value, json};
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

pub(super) const NAME: &str = "Gajim";

/// An address of loopback that is not 127.0.0.1: to that one Gajim never connects.
const PROXY: &str = "127.0.0.2";
/// A file, by its name and size.
type Letter = (&'static str, usize);

const EMPTY: Letter = ("empty.bin", 0);
const SMALL: Letter = ("one.bin", 1);
const ODD: Letter = ("Übung №1 «ж» {a} & b.bin", 70_001);
const LARGE: Letter = ("large.bin", 3 << 20);
/// For in-band streams, and for what is stopped in its middle at [`SLOWLY`].
const MIDDLE: Letter = ("middle.bin", 400_000);
const SLOWLY: [&str; 2] = ["--limit", "100k"];
const STREAMS: [&str; 2] = ["--transports", "s5b,ibb"];
const IN_BAND: [&str; 2] = ["--transports", "ibb"];

type Came = Result<String, String>;

/// A column, who begins, and what is tried.
type Case = (&'static str, &'static str, fn(&Place<'_>) -> Came);

// Gajim sends no empty files, and of one that comes over SOCKS5 it tells an error.
const CASES: [Case; 6] = [
    ("file, S5B", "initiator", |place| {
        let letters = [SMALL, ODD, LARGE];
        // Directly, where there is an address besides 127.0.0.1, to which it never connects.
        let streams = place.send("SOCKS5", &letters, &STREAMS)?;
        let relayed = [&STREAMS[..], &["--relay-only"]].concat();
        let proxy = place.send("proxy", &[LARGE], &relayed)?;
        Ok(format!("{streams}; {proxy}; {}", place.left()?))
    }),
    ("file, S5B", "responder", |place| {
        place.receive("SOCKS5", &[SMALL, ODD, LARGE], &STREAMS)
    }),
    ("file, S5B fails, IBB", "initiator", |place| place.cut()),
    ("file declined", "initiator", |place| place.declined()),
    ("file, IBB", "initiator", |place| {
        place.send("in-band", &[EMPTY, MIDDLE], &IN_BAND)
    }),
    ("file, IBB", "responder", |place| {
        place.receive("in-band", &[SMALL, MIDDLE], &IN_BAND)
    }),
];

pub(super) fn missing() -> Option<String> {
    lab::missing(NAME, &client::WANTED)
}

pub(super) fn meet(folder: &Path) -> Result<Vec<Row>, String> {
    let pcp = program("pcp").map_err(|failure| failure.to_string())?;
    let port = lab::free_port()?;
    let proxy = format!(
        "proxy65_ports = {{ {port} }}\nproxy65_interfaces = {{ \"{PROXY}\" }}\n\
         Component \"proxy.{DOMAIN}\" \"proxy65\"\nproxy65_address = \"{PROXY}\"\n"
    );
    let server = Prosody::start(folder, "", &proxy)?;
    let gajim = Gajim::start(folder, server.port)?;
    let version = format!(
        "{}, mended where it receives, over Prosody {}",
        gajim.version(),
        lab::prosody_version()
    );
    let place = Place {
        folder,
        server: &server,
        gajim: &gajim,
        pcp: &pcp,
    };
    let mut rows = Vec::new();
    for (case, role, run) in CASES {
        rows.push(Row::real((NAME, &version), (case, role), run(&place)));
    }
    Ok(rows)
}

struct Place<'a> {
    folder: &'a Path,
    server: &'a Prosody,
    gajim: &'a Gajim,
    pcp: &'a Path,
}

impl Place<'_> {
    /// We send files, one after the other, over what is described so.
    fn send(&self, way: &str, letters: &[Letter], words: &[&str]) -> Came {
        self.gajim.answer("accept")?;
        for letter in letters {
            let path = self.file(way, *letter)?;
            let pcp = self.sender(&path, words)?;
            self.arrives(&path, pcp)?;
            self.went(way)?;
        }
        Ok(format!("{} files, {way}", letters.len()))
    }

    /// Gajim sends, and we receive.
    fn receive(&self, way: &str, letters: &[Letter], words: &[&str]) -> Came {
        let into = self.folder.join(format!("inbox {way}"));
        let (folder, count) = (into.display().to_string(), letters.len().to_string());
        let receive = ["receive", "--count", &count, "--into", &folder];
        let mut pcp = self.pcp(&[&receive, words].concat())?;
        pcp.hear("\"ready\"")?;
        let ready = lab::event(&pcp.said(), "ready").unwrap_or_default();
        for (number, letter) in letters.iter().enumerate() {
            let path = self.file(way, *letter)?;
            let to = &ready["address"];
            self.gajim
                .steer(&json!({ "do": "send", "to": to, "path": path }))?;
            let arrived = lab::wait("what Gajim sends", || {
                events(&pcp.said(), "received").len() > number || !pcp.runs()
            });
            let name = path.file_name().unwrap_or_default();
            let arrived = arrived.and_then(|()| same(&path, &into.join(name)));
            arrived.map_err(|why| self.all(&why, &pcp))?;
        }
        let ended = pcp.wait()?;
        let received = events(&pcp.said(), "received");
        if ended != 0 || received.iter().any(|event| event["verified"] != true) {
            return Err(self.all(&format!("pcp ended with {ended}"), &pcp));
        }
        self.without_errors()?;
        self.went(way)?;
        Ok(format!("{count} files, {way}"))
    }

    /// In the middle Gajim cuts the stream: so it cancels, without a word, and takes all of it over another transport.
    fn cut(&self) -> Came {
        let (path, pcp) = self.begin("cut", &STREAMS)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.gajim.steer(&json!({ "do": "cancel", "name": name }))?;
        self.arrives(&path, pcp)?;
        self.went("in-band")?;
        Ok("all of it came in-band after a break".to_owned())
    }

    /// We leave in the middle, and send it again.
    fn left(&self) -> Came {
        let (path, mut pcp) = self.begin("left", &STREAMS)?;
        pcp.interrupt()?;
        let ended = pcp.wait()?;
        let problem = lab::event(&pcp.said(), "problem").unwrap_or_default();
        if ended != 1 || problem["code"] != "interrupted" {
            return Err(self.all(&format!("pcp ended with {ended}"), &pcp));
        }
        self.without_errors()?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let stopped = |event: &Value| event["event"] == "error" && event["name"] == *name;
        self.gajim.hear(stopped)?;
        let pcp = self.sender(&path, &STREAMS)?;
        self.arrives(&path, pcp)?;
        Ok("one that was cancelled came when it was sent again".to_owned())
    }

    /// Gajim does not want it.
    fn declined(&self) -> Came {
        self.gajim.answer("decline")?;
        let path = self.file("declined", SMALL)?;
        let mut pcp = self.sender(&path, &STREAMS)?;
        let ended = pcp.wait()?;
        let problem = lab::event(&pcp.said(), "problem").unwrap_or_default();
        match (ended, problem["code"].as_str()) {
            (4, Some("cancelled")) => self.without_errors()?,
            _ => return Err(self.all(&format!("pcp ended with {ended}"), &pcp)),
        }
        Ok(problem["why"].as_str().unwrap_or_default().to_owned())
    }

    /// A transfer to Gajim, of which some has arrived.
    fn begin(&self, what: &str, words: &[&str]) -> Result<(PathBuf, Process), String> {
        self.gajim.answer("accept")?;
        let path = self.file(what, MIDDLE)?;
        let pcp = self.sender(&path, &[words, &SLOWLY].concat())?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let moves = |event: &Value| event["event"] == "progress" && event["name"] == *name;
        self.gajim.hear(moves)?;
        Ok((path, pcp))
    }

    /// All of a file comes to Gajim, both say so, and nobody answered an error.
    fn arrives(&self, path: &Path, mut pcp: Process) -> Result<(), String> {
        let ended = pcp.wait()?;
        let sent = lab::event(&pcp.said(), "sent").unwrap_or_default();
        if ended != 0 || sent["confirmed"] != true {
            return Err(self.all(&format!("pcp ended with {ended}"), &pcp));
        }
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let completed = |event: &Value| event["event"] == "completed" && event["name"] == *name;
        let event = self.gajim.hear(completed)?;
        let over = |told: &Value| told["event"] == "ended" && told["sid"] == event["sid"];
        let over = self.gajim.hear(over)?;
        if over["reason"] != "success" {
            return Err(format!("for Gajim it ended so: {over}"));
        }
        same(path, &self.gajim.received().join(&*name))?;
        self.without_errors()
    }

    fn trace(&self) -> Result<String, String> {
        fs::read_to_string(self.folder.join("pcp.trace")).map_err(|error| error.to_string())
    }

    /// What our program did last went, at last, over what is described so.
    fn went(&self, way: &str) -> Result<(), String> {
        let paths = events(&self.trace()?, "path");
        let path = paths.last().and_then(|event| event["path"].as_str());
        match path {
            Some(path) if path.contains(way) => Ok(()),
            other => Err(format!("it went over {other:?}")),
        }
    }

    /// No error was answered by either side to what our program did last.
    fn without_errors(&self) -> Result<(), String> {
        let trace = self.trace()?;
        let is_error = |event: &Value| {
            let text = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            let xml = text("xml");
            // It does not know `received`, and says so (XEP-0166 §6.8).
            let is_usual = xml.contains("<unsupported-info ") && xml.contains("<received ")
                // It closes a stream in stanzas when its file may be there and the session over.
                || xml.contains("there is no such stream");
            text("peer").ends_with("/gajim") && xml.contains("type='error'") && !is_usual
        };
        match events(&trace, "stanza").into_iter().find(is_error) {
            None => Ok(()),
            Some(error) => Err(format!("an error was answered: {error}\n{trace}")),
        }
    }

    /// A file, under a name of its own.
    fn file(&self, what: &str, (name, size): Letter) -> Result<PathBuf, String> {
        let folder = self.folder.join("outbox");
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let path = folder.join(format!("{what} {name}"));
        let bytes: Vec<u8> = (0..size).map(|at| (at * 31 + at / 257) as u8).collect();
        fs::write(&path, bytes).map_err(|error| error.to_string())?;
        Ok(path)
    }

    fn sender(&self, path: &Path, words: &[&str]) -> Result<Process, String> {
        let to = format!("juliet@{DOMAIN}/gajim");
        self.pcp(&[&["send", &path.display().to_string(), &to], words].concat())
    }

    /// Our program, for Romeo. Gajim has no encryption for files.
    fn pcp(&self, words: &[&str]) -> Result<Process, String> {
        let mut command = Command::new(self.pcp);
        command
            .args(words)
            .args(["--json", "--allow-plaintext"])
            .args(self.server.account("romeo"))
            .arg("--trace")
            .arg(self.folder.join("pcp.trace"));
        Process::start("pcp", self.folder, &mut command)
    }

    /// What went wrong, and what all have said.
    fn all(&self, why: &str, pcp: &Process) -> String {
        let trace = self.trace().unwrap_or_default();
        let (pcp, gajim) = (pcp.said(), self.gajim.said());
        format!("{why}\npcp: {pcp}\nGajim: {gajim}\n{trace}")
    }
}

/// All events of this name among lines of JSON.
fn events(lines: &str, name: &str) -> Vec<Value> {
    let lines = lines
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.filter(|event| event["event"] == name).collect()
}

fn same(ours: &Path, theirs: &Path) -> Result<(), String> {
    match (fs::read(ours), fs::read(theirs)) {
        (Ok(ours), Ok(theirs)) if ours == theirs => Ok(()),
        (_, Err(error)) => Err(format!("{}: {error}", theirs.display())),
        _ => Err(format!("{}: another file arrived", theirs.display())),
    }
}
