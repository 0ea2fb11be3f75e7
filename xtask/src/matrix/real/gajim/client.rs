//! Gajim as a process that no person looks at.

use crate::lab::{self, DOMAIN, Process, wait, write};
use crate::setup::is_root;
use serde_json::{Value, json};
use std::{
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

pub(super) const WANTED: [lab::Wanted; 3] =
    [("prosody", "prosody"), ("gajim", "gajim"), ("Xvfb", "xvfb")];

const PLUGIN: &str = include_str!("steered.py");
const PREPARE: &str = include_str!("prepare.py");
/// It does not run for root. Who runs it then is nobody, who reaches all files nevertheless.
const NOBODY: &str = "65534";
const AS_NOBODY: [&str; 5] = [
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=+dac_override",
    "--ambient-caps=+dac_override",
];

/// Gajim, with a screen of its own, logged in as Juliet.
pub(super) struct Gajim {
    home: PathBuf,
    process: Process,
    _screen: Process,
}

impl Gajim {
    pub(super) fn start(folder: &Path, port: u16) -> Result<Self, String> {
        let home = folder.join("gajim");
        prepare(folder, &home, port)?;
        let mut screen = Command::new("Xvfb");
        screen.args(["-displayfd", "1", "-screen", "0", "1024x768x24"]);
        let screen = Process::start("screen", folder, screen.args(["-nolisten", "tcp"]))?;
        let mut display = None;
        // Before its number stands what it says of numbers that others have.
        wait("the screen", || {
            let said = screen.said();
            let mut lines = said
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            display = lines.find_map(|line| line.trim().parse::<u32>().ok());
            display.is_some()
        })?;
        let display = display.ok_or_else(|| screen.said())?;
        let mut command = Command::new("gajim");
        if is_root() {
            command = Command::new("setpriv");
            command.args(AS_NOBODY).arg("gajim");
        }
        command.args(["--separate", "--config-path"]);
        command.arg(home.join("config")).current_dir(&home);
        environment(&mut command, &home, display);
        let process = Process::start("gajim", folder, &mut command)?;
        let mut gajim = Self {
            home,
            process,
            _screen: screen,
        };
        gajim.process.hear("\"online\"")?;
        Ok(gajim)
    }

    pub(super) fn version(&self) -> String {
        let online = lab::event(&self.process.said(), "online").unwrap_or_default();
        let version = online["version"].as_str();
        version.unwrap_or("of unknown version").to_owned()
    }

    /// Where it puts what it receives.
    pub(super) fn received(&self) -> PathBuf {
        self.home.join("received")
    }

    /// Tells the plugin to do something.
    pub(super) fn steer(&self, command: &Value) -> Result<(), String> {
        let path = self.home.join("config/plugins/steered/commands");
        let mut file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.as_mut().map_err(|error| error.to_string())?;
        writeln!(file, "{command}").map_err(|error| error.to_string())
    }

    /// What is done with what comes from now on: `accept`, `decline`, or `ignore`.
    pub(super) fn answer(&self, how: &str) -> Result<(), String> {
        let into = self.received();
        self.steer(&json!({ "do": "answer", "answer": how, "into": into }))
    }

    /// All that the plugin has told.
    pub(super) fn told(&self) -> Vec<Value> {
        let said = self.process.said();
        let lines = said.lines();
        lines
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    /// Waits until the plugin has told of something; what it told then.
    pub(super) fn hear(&self, what: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let mut heard = None;
        wait("what Gajim tells", || {
            heard = self.told().into_iter().find(|event| what(event));
            heard.is_some()
        })
        .map_err(|why| format!("{why}: {}", self.said()))?;
        heard.ok_or_else(|| self.said())
    }

    /// The end of what it has said, for people.
    pub(super) fn said(&self) -> String {
        let said = self.process.said();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}

/// Its settings, our plugin, and where it keeps its state.
fn prepare(folder: &Path, home: &Path, port: u16) -> Result<(), String> {
    let path = |name: &str| home.join(name).display().to_string();
    write(&home.join("config/plugins/steered/steered.py"), PLUGIN)?;
    write(&home.join("prepare.py"), PREPARE)?;
    let certificate = fs::read_to_string(folder.join("server.crt"));
    let certificate = certificate.map_err(|error| error.to_string())?;
    // It asks a person about authorities that it does not know, but for a certificate that one has approved.
    write(&home.join("config/cert_store/server"), &certificate)?;
    for name in ["received", "run"] {
        fs::create_dir_all(home.join(name)).map_err(|error| error.to_string())?;
    }
    let mut command = Command::new("/usr/bin/python3");
    command
        .args([&path("prepare.py"), &path("config"), DOMAIN])
        .args([port.to_string(), lab::free_port()?.to_string()])
        .arg(format!("proxy.{DOMAIN}"));
    run(&mut command)?;
    run(Command::new("chmod").args(["700", &path("run")]))?;
    if is_root() {
        let owner = format!("{NOBODY}:{NOBODY}");
        run(Command::new("chown").args(["-R", &owner]).arg(home))?;
    }
    Ok(())
}

fn environment(command: &mut Command, home: &Path, display: u32) {
    command
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("LANG", "C.UTF-8")
        .env("HOME", home)
        .env("DISPLAY", format!(":{display}"))
        .env("PYTHONUNBUFFERED", "1")
        // No message bus: it runs without one, and starts nothing of the desktop then.
        .env("DBUS_SESSION_BUS_ADDRESS", "disabled:")
        .env("NO_AT_BRIDGE", "1")
        .env("GSETTINGS_BACKEND", "memory");
    let folders = [
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_CONFIG_HOME", "desktop"),
        ("XDG_DATA_HOME", "share"),
        ("XDG_RUNTIME_DIR", "run"),
    ];
    for (name, folder) in folders {
        command.env(name, home.join(folder));
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let said = String::from_utf8_lossy(&output.stderr);
    match output.status.success() {
        true => Ok(()),
        false => Err(format!("{:?}: {said}", command.get_program())),
    }
}
