//! `cargo xtask interop`: our ICE agent against agents that others wrote, over loopback, in both roles, with data both ways.
//!
//! aioice comes from PyPI into an environment of its own below the target folder; libnice is asked of the system, and a
//! small program around it is compiled there. What cannot be had is named, with what to install, and not run.

mod lines;

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

pub(crate) use lines::{Seen, connect};

use crate::tools::{self, Failure, Outcome};

/// The version that the program around it was written for.
const AIOICE: &str = "aioice==0.10.1";
const AIOICE_PEER: &str = include_str!("interop/aioice_peer.py");
const NICE_PEER: &str = include_str!("interop/nice_peer.c");
/// Bytes that each side sends.
const BYTES: &str = "100000";
const LIMIT: Duration = Duration::from_secs(20);

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only those whose name begins so: aioice, libnice
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
    Libnice,
}

const MEETINGS: &[Meeting] = &[
    Meeting::new("aioice controlled", Theirs::Aioice, true, &[]),
    Meeting::new("aioice controlling", Theirs::Aioice, false, &[]),
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
    for theirs in [Theirs::Aioice, Theirs::Libnice] {
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
        let mut ours = Command::new(own_program()?);
        ours.args([
            "peer",
            "--address",
            "127.0.0.1",
            "--send",
            BYTES,
            "--expect",
            BYTES,
        ]);
        let mut theirs = Command::new(&program[0]);
        theirs
            .args(&program[1..])
            .args(["--send", BYTES, "--expect", BYTES]);
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
    /// The program and its first arguments, or what is missing.
    fn prepare(self, folder: &std::path::Path) -> Result<Vec<PathBuf>, String> {
        match self {
            Self::Aioice => {
                let environment = folder.join("aioice");
                let python = environment.join("bin/python");
                let missing =
                    || !tools::succeeds(Command::new(&python).args(["-c", "import aioice"]));
                if missing() {
                    let made = tools::succeeds(
                        Command::new("python3")
                            .args(["-m", "venv"])
                            .arg(&environment),
                    ) && tools::succeeds(
                        Command::new(&python).args(["-m", "pip", "install", "--quiet", AIOICE]),
                    );
                    if !made || missing() {
                        return Err(format!(
                            "python3 with venv, and {AIOICE} from PyPI, are wanted (Debian: apt-get install python3-venv)"
                        ));
                    }
                }
                let script = folder.join("aioice_peer.py");
                fs::write(&script, AIOICE_PEER).map_err(|error| error.to_string())?;
                Ok(vec![python, script])
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
