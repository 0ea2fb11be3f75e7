//! `cargo xtask interop`: our ICE agent, and our data channels above it, against those that others wrote, over loopback, in
//! both roles, with data both ways.
//!
//! aioice and aiortc come from PyPI, libdatachannel from npm, each into a folder of its own below the target folder; libnice
//! is asked of the system, and a small program around it is compiled there. What cannot be had is named, with what to
//! install, and not run.

mod lines;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub(crate) use lines::{Seen, connect};

use crate::setup::{self, DATACHANNEL, Python};
use crate::tools::{self, Failure, Outcome};

const AIOICE_PEER: &str = include_str!("interop/aioice_peer.py");
const AIORTC_PEER: &str = include_str!("interop/aiortc_peer.py");
const DATACHANNEL_PEER: &str = include_str!("interop/datachannel_peer.cjs");
const NICE_PEER: &str = include_str!("interop/nice_peer.c");
/// Bytes that each side sends, as datagrams and in a data channel.
const BYTES: &str = "100000";
const STREAM_BYTES: &str = "3000000";
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those whose name begins so: aioice, aiortc, libdatachannel, libnice
    name: Option<String>,
}

/// One way to meet somebody else's agent.
struct Meeting {
    name: &'static str,
    theirs: Theirs,
    /// Whether ours controls.
    controlling: bool,
    /// What theirs is told beside that.
    options: &'static [&'static str],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Theirs {
    Aioice,
    Aiortc,
    Libdatachannel,
    Libnice,
}

const MEETINGS: &[Meeting] = &[
    Meeting::new("aioice controlled", Theirs::Aioice, true, &[]),
    Meeting::new("aioice controlling", Theirs::Aioice, false, &[]),
    Meeting::new("aiortc controlled", Theirs::Aiortc, true, &[]),
    Meeting::new("aiortc controlling", Theirs::Aiortc, false, &[]),
    Meeting::new("libdatachannel answers", Theirs::Libdatachannel, true, &[]),
    Meeting::new("libdatachannel offers", Theirs::Libdatachannel, false, &[]),
    Meeting::new("libnice controlled", Theirs::Libnice, true, &[]),
    Meeting::new(
        "libnice controlling, aggressive",
        Theirs::Libnice,
        false,
        &[],
    ),
    Meeting::new(
        "libnice controlling, regular",
        Theirs::Libnice,
        false,
        &["--regular"],
    ),
    Meeting::new(
        "libnice of Google, controlled",
        Theirs::Libnice,
        true,
        &["--google"],
    ),
    Meeting::new(
        "libnice of Google, controlling",
        Theirs::Libnice,
        false,
        &["--google"],
    ),
];

impl Meeting {
    const fn new(
        name: &'static str,
        theirs: Theirs,
        controlling: bool,
        options: &'static [&'static str],
    ) -> Self {
        Self {
            name,
            theirs,
            controlling,
            options,
        }
    }
}

/// All of them, as a step of `cargo xtask test`.
pub(crate) fn all() -> Outcome {
    run(&Args { name: None })
}

/// Meets them one after the other.
pub(crate) fn run(args: &Args) -> Outcome {
    let wanted = |meeting: &&Meeting| {
        let prefix = args.name.as_deref().unwrap_or("");
        meeting.name.starts_with(prefix)
    };
    let chosen: Vec<&Meeting> = MEETINGS.iter().filter(wanted).collect();
    if chosen.is_empty() {
        let names: Vec<&str> = MEETINGS.iter().map(|meeting| meeting.name).collect();
        let name = args.name.as_deref().unwrap_or("");
        let why = format!("nobody's name begins with {name:?}");
        return Err(Failure::new("cargo xtask interop", why, names.join(", ")));
    }
    let folder = tools::target_dir().join("interop");
    fs::create_dir_all(&folder).map_err(|error| cannot("make", &folder, &error))?;
    let mut met = 0;
    let mut absent = Vec::new();
    for theirs in [
        Theirs::Aioice,
        Theirs::Aiortc,
        Theirs::Libdatachannel,
        Theirs::Libnice,
    ] {
        let meetings: Vec<_> = chosen.iter().filter(|m| m.theirs == theirs).collect();
        if meetings.is_empty() {
            continue;
        }
        let program = match theirs.prepare(&folder) {
            Ok(program) => program,
            Err(why) => {
                println!("      {theirs:?} NOT RUN: {why}");
                absent.push(format!("{theirs:?}"));
                continue;
            }
        };
        for meeting in meetings {
            meeting.hold(&program)?;
            met += 1;
        }
    }
    let absent = if absent.is_empty() {
        String::new()
    } else {
        format!("; NOT RUN: {}", absent.join(", "))
    };
    Ok(format!("connected {met} times, data both ways{absent}"))
}

impl Meeting {
    fn hold(&self, program: &[PathBuf]) -> Result<(), Failure> {
        let streams = self.theirs.streams();
        let bytes = if streams { STREAM_BYTES } else { BYTES };
        let amount = ["--send", bytes, "--expect", bytes];
        let mut ours = Command::new(own_program()?);
        ours.args(["peer", "--address", "127.0.0.1"]).args(amount);
        if streams {
            ours.arg("--data-channel");
        }
        let mut theirs = Command::new(&program[0]);
        theirs.args(&program[1..]).args(amount);
        theirs.args(self.options);
        if self.options.contains(&"--google") {
            ours.arg("--google");
        }
        let controlling = if self.controlling {
            &mut ours
        } else {
            &mut theirs
        };
        controlling.arg("--controlling");
        let seen = connect([ours, theirs], LIMIT).map_err(|why| {
            Failure::new(
                self.name,
                why,
                format!("cargo xtask interop '{}'", self.name),
            )
        })?;
        let [connected, nominated] =
            [seen[0].connected, seen[0].nominated].map(Option::unwrap_or_default);
        println!(
            "      {:34} connected {connected:6.1} ms, nominated {nominated:6.1} ms",
            self.name
        );
        Ok(())
    }
}

impl Theirs {
    /// Whether it carries data channels.
    fn streams(self) -> bool {
        matches!(self, Self::Aiortc | Self::Libdatachannel)
    }

    /// The program and its first arguments, or what is missing.
    fn prepare(self, folder: &std::path::Path) -> Result<Vec<PathBuf>, String> {
        match self {
            Self::Aioice => python(&Python::AIOICE, folder, "aioice_peer.py", AIOICE_PEER),
            Self::Aiortc => python(&Python::JINGLE, folder, "aiortc_peer.py", AIORTC_PEER),
            Self::Libdatachannel => {
                let packages = setup::node_package(DATACHANNEL).map_err(|why| why.to_string())?;
                let script = packages.join("datachannel_peer.cjs");
                fs::write(&script, DATACHANNEL_PEER).map_err(|error| error.to_string())?;
                Ok(vec!["node".into(), script])
            }
            Self::Libnice => {
                let hint = "libnice and a C compiler are wanted (Debian: apt-get install libnice-dev gcc pkg-config)";
                let flags = Command::new("pkg-config")
                    .args(["--cflags", "--libs", "nice", "gio-2.0"])
                    .output();
                let flags = flags
                    .ok()
                    .filter(|output| output.status.success())
                    .ok_or(hint)?;
                let flags = String::from_utf8_lossy(&flags.stdout).into_owned();
                let (source, program) = (folder.join("nice_peer.c"), folder.join("nice_peer"));
                fs::write(&source, NICE_PEER).map_err(|error| error.to_string())?;
                let mut compile = Command::new("cc");
                compile
                    .args(["-O1", "-Wall", "-Werror", "-o"])
                    .arg(&program)
                    .arg(&source);
                compile.args(flags.split_whitespace());
                tools::capture(&mut compile, hint).map_err(|failure| failure.to_string())?;
                Ok(vec![program])
            }
        }
    }
}

/// A peer in Python: its interpreter and its script.
fn python(
    environment: &Python,
    folder: &std::path::Path,
    name: &str,
    script: &str,
) -> Result<Vec<PathBuf>, String> {
    environment.install().map_err(|why| why.to_string())?;
    let path = folder.join(name);
    fs::write(&path, script).map_err(|error| error.to_string())?;
    Ok(vec![environment.program(), path])
}

/// This program.
pub(crate) fn own_program() -> Result<PathBuf, Failure> {
    env::current_exe().map_err(|error| {
        let hint = "is it still where it was started from?";
        Failure::new("find this program", error.to_string(), hint)
    })
}

fn cannot(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    let what = format!("{what} {}", path.display());
    Failure::new(
        what,
        error.to_string(),
        "is there room, and the right to write?",
    )
}
