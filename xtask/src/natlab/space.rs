//! The namespaces, and the server in one of them.
//!
//! ```text
//! host a 192.0.2.2    -- router a 192.0.2.1    | 203.0.113.21 --+
//!                                                               core (a switch) -- server 203.0.113.10
//! host b 198.51.100.2 -- router b 198.51.100.1 | 203.0.113.22 --+
//! ```
//!
//! The addresses are those for documentation (RFC 5737).

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::nat::Nat;
use crate::tools::{self, Failure};

/// A host behind its router.
pub(super) struct Host {
    pub(super) name: &'static str,
    pub(super) address: &'static str,
    router: &'static str,
    /// The router's address inside and outside, and the network inside.
    gateway: &'static str,
    public: &'static str,
    network: &'static str,
}

pub(super) const HOSTS: [Host; 2] = [
    Host {
        name: "a",
        address: "192.0.2.2",
        router: "nata",
        gateway: "192.0.2.1",
        public: "203.0.113.21",
        network: "192.0.2.0/24",
    },
    Host {
        name: "b",
        address: "198.51.100.2",
        router: "natb",
        gateway: "198.51.100.1",
        public: "203.0.113.22",
        network: "198.51.100.0/24",
    },
];

/// The STUN and TURN server.
pub(super) const SERVER: &str = "203.0.113.10:3478";
/// Who may have an address on it.
pub(super) const USER: &str = "alice:secret";
const SERVER_IP: &str = "203.0.113.10";
/// How long the server may take until its first answer.
const START: Duration = Duration::from_secs(5);

/// Before the number of the process that made them.
const PREFIX: &str = "natlab";

const NAMES: [&str; 6] = ["core", "server", "nata", "natb", "a", "b"];

/// The namespaces of one pair. They go with it, and so does the server.
pub(super) struct Space {
    prefix: String,
    folder: PathBuf,
    server: Option<Child>,
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            // An error says that it has ended already.
            let _ = server.kill();
            let _ = server.wait();
        }
        self.remove();
    }
}

/// Removes what runs left behind that were killed.
pub(super) fn sweep() {
    let list = Command::new("ip").args(["netns", "list"]).output();
    let list = list.map(|output| output.stdout).unwrap_or_default();
    let mut prefixes: Vec<String> = String::from_utf8_lossy(&list)
        .lines()
        .filter_map(|line| {
            Some(
                line.split_whitespace()
                    .next()?
                    .split_once('-')?
                    .0
                    .to_owned(),
            )
        })
        .filter(|prefix| {
            let process = prefix.strip_prefix(PREFIX);
            let number = process.and_then(|number| number.parse::<u32>().ok());
            number.is_some_and(|number| !Path::new(&format!("/proc/{number}")).exists())
        })
        .collect();
    prefixes.dedup();
    for prefix in prefixes {
        let space = Space::named(prefix);
        let pids = Command::new("ip")
            .args(["netns", "pids", &space.full("server")])
            .output();
        let pids = pids.map(|output| output.stdout).unwrap_or_default();
        for pid in String::from_utf8_lossy(&pids).lines() {
            let _ = Command::new("kill").arg(pid).output();
        }
    }
}

impl Space {
    pub(super) fn new(nats: [Nat; 2]) -> Result<Self, Failure> {
        let mut space = Self::named(format!("{PREFIX}{}", std::process::id()));
        space.build(nats)?;
        for (host, nat) in HOSTS.iter().zip(nats) {
            let mut command = space.inside(host.router);
            feed(command.args(["nft", "-f", "-"]), &nat.rules(host.address))?;
        }
        space.serve()?;
        Ok(space)
    }

    fn named(prefix: String) -> Self {
        Self {
            folder: std::env::temp_dir().join(&prefix),
            prefix,
            server: None,
        }
    }

    fn remove(&self) {
        for name in NAMES {
            let mut command = Command::new("ip");
            // What was not made need not be removed.
            let _ = command.args(["netns", "del", &self.full(name)]).output();
        }
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// A command that runs in the namespace of this name.
    pub(super) fn inside(&self, name: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.full(name)]);
        command
    }

    fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// Links, addresses and routes.
    fn build(&self, nats: [Nat; 2]) -> Result<(), Failure> {
        let full = |name: &str| self.full(name);
        let mut lines: Vec<String> = NAMES
            .iter()
            .map(|name| format!("netns add {}", full(name)))
            .collect();
        let link = |a: &str, a_if: &str, b: &str, b_if: &str| {
            let (a, b) = (full(a), full(b));
            format!("link add {a_if} netns {a} type veth peer name {b_if} netns {b}")
        };
        for name in ["server", "nata", "natb"] {
            lines.push(link(name, "pub0", "core", &format!("c{name}")));
        }
        for host in &HOSTS {
            lines.push(link(host.name, "eth0", host.router, "lan0"));
        }
        feed(Command::new("ip").args(["-batch", "-"]), &lines.join("\n"))?;
        // Everybody has a default route, into a core that drops: on the Internet, what is sent to somebody's private
        // address vanishes silently. Without one, a relay's sending fails, and coturn 4.6 gives up the allocation.
        self.ip(
            "core",
            "link set lo up\nlink add br0 type bridge\nlink set br0 up\n\
             link set cserver master br0 up\nlink set cnata master br0 up\nlink set cnatb master br0 up\n\
             addr add 203.0.113.254/24 dev br0",
        )?;
        self.set(
            "core",
            &["net.ipv4.ip_forward=0", "net.ipv4.icmp_ratelimit=0"],
        )?;
        let mut server = format!(
            "link set lo up\nlink set pub0 up\naddr add {SERVER_IP}/24 dev pub0\nroute add default via 203.0.113.254\n"
        );
        for (at, host) in HOSTS.iter().enumerate() {
            let other = &HOSTS[1 - at];
            let mut router = format!(
                "link set lo up\nlink set lan0 up\nlink set pub0 up\naddr add {}/24 dev lan0\naddr add {}/24 dev pub0\n\
                 route add default via 203.0.113.254\n",
                host.gateway, host.public
            );
            // Who is public has a route from everywhere; the others have none.
            if nats[1 - at] == Nat::None {
                router.push_str(&format!(
                    "route add {} via {}\n",
                    other.network, other.public
                ));
                server.push_str(&format!(
                    "route add {} via {}\n",
                    other.network, other.public
                ));
            }
            self.ip(host.router, &router)?;
            self.set(host.router, &["net.ipv4.ip_forward=1"])?;
            let inside = format!(
                "link set lo up\nlink set eth0 up\naddr add {}/24 dev eth0\nroute add default via {}\n",
                host.address, host.gateway
            );
            self.ip(host.name, &inside)?;
        }
        self.ip("server", &server)
    }

    fn ip(&self, name: &str, lines: &str) -> Result<(), Failure> {
        feed(
            Command::new("ip").args(["-n", &self.full(name), "-batch", "-"]),
            lines,
        )
    }

    fn set(&self, name: &str, values: &[&str]) -> Result<(), Failure> {
        let mut command = self.inside(name);
        command.args(["sysctl", "-qw"]).args(values);
        tools::capture(
            &mut command,
            "may the settings of a namespace be changed here?",
        )
        .map(|_| ())
    }

    /// Starts coturn, and waits until it listens.
    fn serve(&mut self) -> Result<(), Failure> {
        let folder = self.folder.display().to_string();
        let settings = format!(
            "listening-ip={SERVER_IP}\nrelay-ip={SERVER_IP}\nlistening-port=3478\nmin-port=50000\nmax-port=50999\n\
             realm=natlab.example\nlt-cred-mech\nuser={USER}\nfingerprint\nno-cli\nno-tls\nno-dtls\nno-rfc5780\n\
             no-software-attribute\nuserdb={folder}/turn.db\npidfile={folder}/turn.pid\nlog-file={folder}/turn.log\n\
             simple-log\n"
        );
        let path = self.folder.join("turn.conf");
        let written = fs::create_dir_all(&self.folder).and_then(|()| fs::write(&path, settings));
        written.map_err(|error| {
            let hint = "is there room, and the right to write?";
            Failure::new(format!("write {}", path.display()), error.to_string(), hint)
        })?;
        let hint = "apt-get install coturn";
        let failed = |why: String| Failure::new("start turnserver", why, hint);
        let mut command = self.inside("server");
        command.arg("turnserver").arg("-c").arg(&path);
        let command = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.server = Some(command.spawn().map_err(|error| failed(error.to_string()))?);
        // Its first answer takes long, and is not what is measured.
        let deadline = Instant::now() + START;
        while Instant::now() < deadline {
            let mut ask = self.inside("server");
            // What was asked too early is never answered.
            ask.args([
                "timeout",
                "0.3",
                "turnutils_stunclient",
                "-p",
                "3478",
                SERVER_IP,
            ]);
            let answer = ask.output().map_err(|error| failed(error.to_string()))?;
            if String::from_utf8_lossy(&answer.stdout).contains("reflexive") {
                return Ok(());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Err(failed(format!("it does not answer within {START:?}")))
    }
}

/// Runs a command with this standard input.
fn feed(command: &mut Command, input: &str) -> Result<(), Failure> {
    let shown = tools::shown(command);
    let failed = |why: String| {
        let hint = "does the kernel have network namespaces, veth, bridges and nftables?";
        Failure::new(format!("`{shown}`"), why, hint)
    };
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| failed(error.to_string()))?;
    if let Some(mut stdin) = child.stdin.take() {
        // Who does not read all of it says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child
        .wait_with_output()
        .map_err(|error| failed(error.to_string()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(failed(
        String::from_utf8_lossy(&output.stderr).trim().to_owned(),
    ))
}
