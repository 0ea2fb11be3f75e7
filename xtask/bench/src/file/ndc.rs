//! libdatachannel, in Node (npm node-datachannel), behind the words of `cargo xtask peer`.

use super::{ends::Wire, said::Said};
use std::{
    io::{BufRead, BufReader, Lines, Write},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

const SCRIPT: &str = include_str!("../../../src/interop/datachannel_peer.cjs");

struct Peer {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // An error says that it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The folder that `cargo xtask setup` makes, with the program in it.
///
/// # Errors
/// What is missing.
pub(super) fn prepare() -> Result<PathBuf, String> {
    let folder = crate::target_folder().join("node");
    if !folder.join("node_modules/node-datachannel").exists() {
        return Err("node-datachannel-is-not-installed(cargo-xtask-setup)".to_owned());
    }
    let script = folder.join("datachannel_peer.cjs");
    std::fs::write(&script, SCRIPT).map_err(|why| format!("{}:{why}", script.display()))?;
    Ok(script)
}

pub(super) fn send(wire: &Wire, bytes: u64) -> Instant {
    let mut peer = Peer::start(wire, &["--controlling", "--send", &bytes.to_string()]);
    wire.tell(peer.said());
    let answer = wire.hear();
    peer.say(&answer.words());
    peer.until("connected");
    let begun = Instant::now();
    peer.say("start\n");
    while !wire.is_over() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    begun
}

pub(super) fn receive(wire: &Wire, bytes: u64) -> Instant {
    let mut peer = Peer::start(wire, &["--expect", &bytes.to_string()]);
    let offer = wire.hear();
    peer.say(&offer.words());
    wire.tell(peer.said());
    peer.until("done");
    Instant::now()
}

impl Peer {
    fn start(wire: &Wire, options: &[&str]) -> Self {
        let script = prepare().expect("asked before");
        let mut command = match &wire.host {
            Some((link, host)) => link.command(*host, "node"),
            None => Command::new("node"),
        };
        let mut child = command
            .arg(script)
            .args(options)
            .args(["--address", &wire.address.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node, which was there");
        let stdin = child.stdin.take().expect("piped");
        let stdout = child.stdout.take().expect("piped");
        Self {
            child,
            stdin,
            lines: BufReader::new(stdout).lines(),
        }
    }

    fn line(&mut self) -> String {
        let line = self.lines.next().expect("it says more");
        line.expect("text")
    }

    fn said(&mut self) -> Said {
        let mut said = Said::default();
        while !said.hear(&self.line()) {}
        said
    }

    fn until(&mut self, word: &str) {
        while !self.line().starts_with(word) {}
    }

    fn say(&mut self, text: &str) {
        let said = self.stdin.write_all(text.as_bytes());
        said.and_then(|()| self.stdin.flush()).expect("it listens");
    }
}
