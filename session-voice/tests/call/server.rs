//! The server that `cargo xtask switchboard` runs, in a process of its own.

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

/// An XMPP server on loopback.
pub(crate) struct Server {
    pub(crate) port: u16,
    pub(crate) domain: &'static str,
    /// The certificate of its authority.
    pub(crate) authority: String,
    /// Names and passwords.
    pub(crate) accounts: Vec<(&'static str, &'static str)>,
    /// What runs it, and ends with it.
    #[allow(dead_code, reason = "it is held to live as long")]
    pub(crate) process: Box<dyn std::any::Any>,
}

/// A switchboard, which is ended with its holder.
struct Switchboard(Child);

impl Drop for Switchboard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A switchboard with three accounts, which lets in strangers.
pub(crate) fn switchboard(name: &str) -> Server {
    let accounts = vec![("alice", "secret"), ("bob", "pencil"), ("carol", "paper")];
    let ca = std::env::temp_dir().join(format!("call-{name}-{}.pem", std::process::id()));
    let mut command = Command::new(xtask());
    command
        .args(["switchboard", "--anonymous", "--port", "0", "--ca"])
        .arg(&ca);
    for (user, password) in &accounts {
        command.args(["--account", &format!("{user}:{password}")]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped());
    let mut running = Switchboard(command.spawn().unwrap());
    let lines = BufReader::new(running.0.stdout.take().unwrap()).lines();
    let lines: Vec<String> = lines
        .map_while(Result::ok)
        .take_while(|line| !line.starts_with("Ctrl-C"))
        .collect();
    let place = lines.iter().find(|line| line.starts_with("listening"));
    let place = place.unwrap_or_else(|| panic!("it does not start: {lines:?}"));
    let place = place.split_whitespace().nth(1).unwrap();
    let (_, port) = place.rsplit_once(':').unwrap();
    let authority = fs::read_to_string(&ca).unwrap();
    let _ = fs::remove_file(ca);
    Server {
        port: port.parse().unwrap(),
        domain: "localhost",
        authority,
        accounts,
        process: Box::new(running),
    }
}

/// The program `xtask`: the one that runs these tests, or the one that is built beside the program under test.
fn xtask() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| {
        if let Some(path) = std::env::var_os("XTASK") {
            return path.into();
        }
        let beside = Path::new(env!("CARGO_BIN_EXE_call")).parent().unwrap();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "xtask"]);
        if beside.ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "xtask is not built");
        beside.join("xtask")
    })
}
