//! magic-wormhole, with a server of its own. In a network of its own, too: it looks for addresses of the machine by itself,
//! and finds none but loopback's there.

use super::PATIENCE;
use crate::link::ip;
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

pub(super) const NAME: &str = "magic-wormhole";

/// Where its server listens: nobody else does in that network.
const SERVER: &str = "ws://127.0.0.1:4000/v1";

/// A server that runs, and the network that it runs in.
pub(super) struct Wormhole {
    programs: PathBuf,
    network: String,
    server: Child,
}

impl Wormhole {
    /// `None` where it is not installed, or a network of its own cannot be had, which is said.
    pub(super) fn start(folder: &Path) -> Option<Self> {
        let python = PathBuf::from(env::var_os("BENCH_WORMHOLE")?);
        let network = format!("bench{}w", std::process::id());
        let made = ip(&["netns", "add", &network])
            .and_then(|()| ip(&["-n", &network, "link", "set", "lo", "up"]));
        if let Err(why) = made {
            println!("SKIPPED {NAME}: {why}");
            return None;
        }
        fs::create_dir_all(folder).expect("room");
        let programs = python.parent().expect("a program in a folder").to_owned();
        let mut command = inside(&network, &programs.join("twist"));
        command
            .args(["wormhole-mailbox", "--port=tcp:4000:interface=127.0.0.1"])
            .args(["--channel-db=:memory:", "--usage-db=:memory:"])
            .current_dir(folder)
            .stdout(Stdio::null());
        let this = Self {
            server: command.spawn().expect("installed"),
            programs,
            network,
        };
        let begun = Instant::now();
        while !this.listens() {
            assert!(begun.elapsed() < Duration::from_secs(30), "{NAME} listens");
            thread::sleep(Duration::from_millis(100));
        }
        Some(this)
    }

    fn listens(&self) -> bool {
        let mut command = inside(&self.network, &self.programs.join("python"));
        let knock = "import socket; socket.create_connection(('127.0.0.1', 4000))";
        let knock = command.args(["-c", knock]).stderr(Stdio::null());
        knock.status().is_ok_and(|status| status.success())
    }

    /// One end; the code stands for both, so that nobody has to read it.
    fn end(&self, from: &Path) -> Command {
        let mut command = inside(&self.network, &self.programs.join("wormhole"));
        command
            .args(["--relay-url", SERVER, "--transit-helper", ""])
            .current_dir(from)
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command
    }

    /// How long a copy takes, from two command lines to the file.
    pub(super) fn copy(&self, what: &Path, into: &Path) -> Duration {
        let begun = Instant::now();
        let mut sender = self.end(into);
        sender.args(["send", "--hide-progress", "--code", "1-two-words"]);
        let mut receiver = self.end(into);
        receiver.args(["receive", "--hide-progress", "--accept-file", "1-two-words"]);
        let mut ends = [sender.arg(what), &mut receiver].map(|end| end.spawn().expect("installed"));
        // Each waits for the other for good, so that both have to be looked at.
        loop {
            let ended = ends.each_mut().map(|end| end.try_wait().expect("ours"));
            if ended.iter().all(|end| end.is_some_and(|end| end.success())) {
                return begun.elapsed();
            }
            let failed = ended.iter().flatten().any(|end| !end.success());
            if failed || begun.elapsed() > PATIENCE {
                for end in &mut ends {
                    let _ = end.kill();
                    let _ = end.wait();
                }
                panic!("{NAME}, sender and receiver: {ended:?}");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Wormhole {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
        let _ = ip(&["netns", "del", &self.network]);
    }
}

/// A program in that network. `ip` becomes the program, so that ending one ends the other.
fn inside(network: &str, program: &Path) -> Command {
    let mut command = Command::new("ip");
    command.args(["netns", "exec", network]).arg(program);
    command
}
