//! Calls and files with browsers: their WebRTC in a page of ours, with slixmpp for XMPP.

use super::{
    Row,
    jingle::{Begins, Place, THEIRS, Talk, Talked, hash_of, make_file, row},
};
use crate::lab::{self, program, sound};
use crate::setup::{self, Python, has_program};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// A browser, by its name and by its program, which is also what Debian calls its package.
pub(super) struct Browser {
    pub(super) name: &'static str,
    program: &'static str,
    /// Whether it does what applications wish of its Opus.
    wishes: bool,
}

pub(super) const CHROMIUM: Browser = Browser {
    name: "Chromium",
    program: "chromium",
    wishes: true,
};

pub(super) const FIREFOX: Browser = Browser {
    name: "Firefox",
    program: "firefox-esr",
    wishes: false,
};

/// What the browser does in a call, beside speaking: it mutes, adds a camera, and begins ICE anew.
const SCRIPT: &str = "mute,video,restart";
/// How long they talk meanwhile.
const LONGER: &str = "15";
/// What an application can wish of its browser's Opus: silence left out; or two channels, no copies, and few packets.
const WISHES: [&[&str]; 2] = [
    &["--script", "mute", "--wish", "usedtx=1"],
    &[
        "--script",
        "mute",
        "--wish",
        "stereo=1",
        "--wish",
        "useinbandfec=0",
        "--ptime",
        "60",
    ],
];
/// Bytes of the files: the least, and more than any window.
const SIZES: [usize; 2] = [1, 1 << 20];

impl Browser {
    pub(super) fn missing(&self) -> Option<String> {
        let server = [("prosody", "prosody")];
        let python = || {
            let why = Python::SLIXMPP.missing()?;
            Some(format!("{} not run: {why}", self.name))
        };
        lab::missing(self.name, &server)
            .or_else(python)
            .or_else(|| {
                let missing = !has_program(self.program);
                let how = setup::command(&[self.program]);
                let what = format!("{} not run: {}", self.name, self.program);
                missing.then(|| format!("{what} not installed ({how})"))
            })
    }

    pub(super) fn meet(&self, folder: &Path) -> Result<Vec<Row>, String> {
        let speech = folder.join("theirs.wav");
        sound::write_tone(&speech, THEIRS, 60.0)?;
        let path = |path: &Path| path.display().to_string();
        let (speech, log) = (path(&speech), path(&folder.join("browser.log")));
        let engine = ["--engine", "browser", "--browser", self.program];
        let engine = [&engine[..], &["--speech", &speech, "--browser-log", &log]].concat();
        let engine = engine.into_iter().map(str::to_owned).collect();
        let place = Place::new(folder, Python::SLIXMPP, engine)?;
        let version = format!(
            "{}, slixmpp {}, over Prosody {}",
            self.version(),
            Python::SLIXMPP.version(),
            lab::prosody_version()
        );
        let files = Files {
            place: &place,
            pcp: program("pcp").map_err(|failure| failure.to_string())?,
        };
        let mut rows = Vec::new();
        for (begins, wishes) in Begins::BOTH.into_iter().zip(WISHES) {
            let mut push = |case, came| rows.push(row(self.name, &version, case, begins, came));
            push("call", call(&place, begins));
            push("call, contents", scripted(&place, begins));
            if self.wishes {
                push("call, Opus as wished", wished(&place, begins, wishes));
            }
            push("file, data channel", files.both_sizes(begins));
        }
        Ok(rows)
    }

    fn version(&self) -> String {
        let output = Command::new(self.program).arg("--version").output();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
        let text = text.unwrap_or_default();
        let is_number = |word: &&str| word.starts_with(|c: char| c.is_ascii_digit());
        let number = text.split_whitespace().find(is_number);
        number.unwrap_or("of unknown version").to_owned()
    }
}

fn call(place: &Place<'_>, begins: Begins) -> Result<String, String> {
    let talked = place.talk(begins, Talk::plain())?;
    judge_stats(&talked)?;
    Ok(talked.how())
}

fn scripted(place: &Place<'_>, begins: Begins) -> Result<String, String> {
    let talk = Talk {
        peer: &["--script", SCRIPT],
        seconds: LONGER,
        ..Talk::plain()
    };
    let talked = place.talk(begins, talk)?;
    judge_script(&talked)?;
    Ok(talked.how())
}

fn wished(place: &Place<'_>, begins: Begins, wishes: &[&str]) -> Result<String, String> {
    let talk = Talk {
        peer: wishes,
        ..Talk::plain()
    };
    let talked = place.talk(begins, talk)?;
    judge_stats(&talked)?;
    judge_wishes(&talked, begins)?;
    Ok(talked.how())
}

/// Whether the browser says that it heard us, with hardly a gap.
fn judge_stats(talked: &Talked) -> Result<(), String> {
    let media = &talked.media;
    let number = |key: &str| media[key].as_f64().unwrap_or_default();
    let good =
        number("energy") > 0.0 && number("lost") * 50.0 < number("in") && number("jitter") < 0.1;
    match good {
        true => Ok(()),
        false => Err(format!("it did not hear us well: {media}")),
    }
}

/// Whether what the browser did in a call was told here, and answered.
fn judge_script(talked: &Talked) -> Result<(), String> {
    let all = || format!("call: {}\npeer: {}", talked.here, talked.there);
    for event in ["was-muted", "video-rejected", "restarted-both"] {
        lab::event(&talked.there, event).ok_or_else(|| format!("no {event}\n{}", all()))?;
    }
    for on in [true, false] {
        if talked.count("muted", "on", &Value::from(on)) != 1 {
            return Err(format!("that it is muted was not told: {on}\n{}", all()));
        }
    }
    let video = talked.count("content-added", "media", &Value::from("video"));
    match video {
        1 => Ok(()),
        count => Err(format!(
            "of the camera it was told {count} times\n{}",
            all()
        )),
    }
}

/// Whether the browser did as it was wished, by the packets that it sent in a second: while it was muted, and then.
fn judge_wishes(talked: &Talked, begins: Begins) -> Result<(), String> {
    let muted = lab::event(&talked.there, "was-muted").ok_or("it was not muted")?;
    let sent = ["sent_muted", "sent_then"].map(|key| muted[key].as_u64().unwrap_or(u64::MAX));
    let good = match begins {
        Begins::We => sent[0] < sent[1] / 2,
        Begins::They => sent[1] < 25,
    };
    match good {
        true => Ok(()),
        false => Err(format!(
            "in a second it sent {sent:?} packets: {}",
            talked.there
        )),
    }
}

struct Files<'a> {
    place: &'a Place<'a>,
    pcp: PathBuf,
}

impl Files<'_> {
    fn both_sizes(&self, begins: Begins) -> Result<String, String> {
        let each = SIZES.iter().map(|size| match begins {
            Begins::We => self.send(*size),
            Begins::They => self.take(*size),
        });
        let came: Result<Vec<String>, String> = each.collect();
        came.map(|how| how.join("; "))
    }

    /// We send, the browser takes.
    fn send(&self, size: usize) -> Result<String, String> {
        let path = self.place.folder.join("ours.bin");
        let hash = make_file(&path, size)?;
        let words = [&["--take-file", "--accept"], names(size)].concat();
        let mut peer = self.place.peer(&words)?;
        peer.hear("\"online\"")?;
        let mut command = Command::new(&self.pcp);
        command.arg("send").arg(&path);
        command
            .arg(format!("juliet@{}/peer", lab::DOMAIN))
            .arg("--json");
        let mut pcp = self.place.ours("pcp", &mut command)?;
        let ended = (pcp.wait()?, peer.wait()?);
        let all = || format!("{ended:?}\npcp: {}\npeer: {}", pcp.said(), peer.said());
        let came = lab::event(&peer.said(), "received").ok_or_else(all)?;
        match ended == (0, 0) && came["sha256"] == hash {
            true => Ok(format!("{size} bytes in {} ms", came["took"])),
            false => Err(all()),
        }
    }

    /// The browser sends, we take.
    fn take(&self, size: usize) -> Result<String, String> {
        let folder = self.place.folder.join(format!("taken-{size}"));
        fs::create_dir_all(&folder).map_err(|error| error.to_string())?;
        let mut command = Command::new(&self.pcp);
        command.args([
            "receive", "--json", "--count", "1", "--accept", "any", "--into",
        ]);
        let mut pcp = self.place.ours("pcp", command.arg(&folder))?;
        pcp.hear("\"ready\"")?;
        let (address, size_told) = (self.place.address(&pcp)?, size.to_string());
        let words = [
            &["--call", &address, "--send-file", &size_told],
            names(size),
        ]
        .concat();
        let mut peer = self.place.peer(&words)?;
        let ended = (peer.wait()?, pcp.wait()?);
        let all = || format!("{ended:?}\npcp: {}\npeer: {}", pcp.said(), peer.said());
        let sent = lab::event(&peer.said(), "sent").ok_or_else(all)?;
        let hash = hash_of(&folder.join("page.bin"))?;
        match ended == (0, 0) && sent["sha256"] == hash {
            true => Ok(format!("{size} bytes in {} ms", sent["took"])),
            false => Err(all()),
        }
    }
}

/// Large files travel between addresses that the browser hides behind names, as it does in pages without a microphone.
fn names(size: usize) -> &'static [&'static str] {
    match size {
        1 => &[],
        _ => &["--names"],
    }
}
