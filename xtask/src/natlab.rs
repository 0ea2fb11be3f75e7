//! `cargo xtask natlab`: two hosts behind every pair of NATs, with a STUN and TURN server that all can reach.
//!
//! Each pair gets network namespaces of its own, with NATs made of nftables rules and a real coturn, and in each of the
//! two hosts runs `cargo xtask peer`. Nothing leaves the namespaces.

mod nat;
mod space;

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use crate::interop::{Seen, connect, own_program};
use crate::tools::{Failure, Outcome};
use nat::Nat;
use space::{HOSTS, SERVER, Space, USER};

/// Bytes that each side sends over the path.
const BYTES: &str = "20000";
const LIMIT: Duration = Duration::from_secs(20);
/// What is needed beside this program.
const PROGRAMS: &[(&str, &str)] = &[
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("sysctl", "procps"),
    ("turnserver", "coturn"),
];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only this pair of none, full, addr, port, sym, blocked: port-sym
    pair: Option<String>,
    /// Speak ICE as Google had it
    #[arg(long)]
    google: bool,
    /// Print one JSON object a pair
    #[arg(long)]
    json: bool,
}

/// How a pair came together.
struct Meeting {
    nats: [Nat; 2],
    seen: [Seen; 2],
}

/// Connects all pairs, or one.
pub(crate) fn run(args: &Args) -> Outcome {
    let pairs = chosen(args.pair.as_deref())?;
    if let Some(missing) = missing() {
        return Ok(format!("natlab NOT RUN: {missing}"));
    }
    space::sweep();
    let mut relayed = 0;
    let mut wrong = Vec::new();
    let mut last = None;
    for nats in &pairs {
        // What is last is this command's answer.
        if let Some(line) = last.take() {
            println!("{line}");
        }
        let [a, b] = nats.map(Nat::name);
        match meet(*nats, args.google) {
            Ok(meeting) => {
                relayed += usize::from(meeting.is_relayed());
                if meeting.is_relayed() == Nat::meet_directly(*nats) {
                    wrong.push(format!("{a} x {b}: by the wrong way, {}", meeting.path()));
                }
                last = Some(if args.json {
                    meeting.json().to_string()
                } else {
                    meeting.line()
                });
            }
            Err(failure) => {
                wrong.push(format!("{a} x {b}: {failure}"));
                last = Some(if args.json {
                    json!({ "a": a, "b": b, "connected": false }).to_string()
                } else {
                    format!("{a:8} {b:8} not connected")
                });
            }
        }
    }
    let last = last.unwrap_or_default();
    if !wrong.is_empty() {
        println!("{last}");
        let hint = "cargo xtask natlab A-B runs one pair alone";
        return Err(Failure::findings("cargo xtask natlab", &wrong, hint));
    }
    if args.json {
        return Ok(last);
    }
    let direct = pairs.len() - relayed;
    Ok(format!(
        "{last}\n{} pairs connected: {direct} directly, {relayed} by relay",
        pairs.len()
    ))
}

fn chosen(pair: Option<&str>) -> Result<Vec<[Nat; 2]>, Failure> {
    let Some(text) = pair else {
        let all = Nat::ALL.iter().enumerate();
        let with = |(at, a): (usize, &Nat)| {
            let a = *a;
            Nat::ALL[at..].iter().map(move |b| [a, *b])
        };
        return Ok(all.flat_map(with).collect());
    };
    let nats = text.split_once(['-', '×', ',']).and_then(|(a, b)| {
        let named = |name: &str| Nat::ALL.into_iter().find(|nat| nat.name() == name);
        Some([named(a)?, named(b)?])
    });
    nats.map(|nats| vec![nats]).ok_or_else(|| {
        let names: Vec<&str> = Nat::ALL.map(Nat::name).to_vec();
        let why = format!("{text:?} is no pair");
        Failure::new(
            "cargo xtask natlab",
            why,
            format!("two of {}, as port-sym", names.join(", ")),
        )
    })
}

/// Why it cannot run here.
fn missing() -> Option<String> {
    for (program, package) in PROGRAMS {
        if Command::new(program).arg("--version").output().is_err() {
            return Some(format!(
                "{program} is wanted (Debian: apt-get install {package})"
            ));
        }
    }
    let user = Command::new("id").arg("-u").output().ok()?;
    let root = String::from_utf8_lossy(&user.stdout).trim() == "0";
    (!root).then(|| "network namespaces are made by root (sudo)".to_owned())
}

fn meet(nats: [Nat; 2], google: bool) -> Result<Meeting, Failure> {
    let space = Space::new(nats)?;
    let program = own_program()?;
    let commands = [0, 1].map(|side| {
        let mut command = space.inside(HOSTS[side].name);
        command.arg(&program).arg("peer");
        command.args([
            "--address",
            HOSTS[side].address,
            "--send",
            BYTES,
            "--expect",
            BYTES,
        ]);
        command.args(["--stun", SERVER, "--turn", SERVER, "--turn-user", USER]);
        if side == 0 {
            command.arg("--controlling");
        }
        if google {
            command.arg("--google");
        }
        command
    });
    let seen = connect(commands, LIMIT).map_err(|why| {
        let [a, b] = nats.map(Nat::name);
        Failure::new(format!("{a} x {b}"), why, "what A and B said stands above")
    })?;
    Ok(Meeting { nats, seen })
}

impl Meeting {
    fn is_relayed(&self) -> bool {
        self.seen.iter().any(|seen| {
            let path = seen.path.as_deref().unwrap_or_default();
            path.split(' ').any(|word| word == "relay")
        })
    }

    fn path(&self) -> &str {
        self.seen[0].path.as_deref().unwrap_or_default()
    }

    /// Of the slower side.
    fn slower(&self, time: impl Fn(&Seen) -> Option<f64>) -> f64 {
        let times = self.seen.iter().filter_map(time);
        times.fold(0.0, f64::max)
    }

    fn connected(&self) -> f64 {
        self.slower(|seen| seen.connected)
    }

    fn nominated(&self) -> f64 {
        self.slower(|seen| seen.nominated)
    }

    /// When the last of the two had its first relayed candidate.
    fn relay(&self) -> Option<f64> {
        let relay = |seen: &Seen| {
            let found = seen.gathered.iter().find(|(kind, _)| kind == "relay");
            found.map(|(_, time)| *time)
        };
        let times = [relay(&self.seen[0])?, relay(&self.seen[1])?];
        Some(times[0].max(times[1]))
    }

    fn json(&self) -> Value {
        let [a, b] = self.nats.map(Nat::name);
        json!({
            "a": a,
            "b": b,
            "connected": true,
            "path": if self.is_relayed() { "relay" } else { "direct" },
            "connected_ms": self.connected(),
            "nominated_ms": self.nominated(),
            "relay_candidate_ms": self.relay(),
        })
    }

    fn line(&self) -> String {
        let [a, b] = self.nats.map(Nat::name);
        let path = if self.is_relayed() { "relay" } else { "direct" };
        let relay = self.relay().map_or_else(String::new, |time| {
            format!("  relay candidate {time:7.1} ms")
        });
        format!(
            "{a:8} {b:8} {path:7} connected {:7.1} ms  nominated {:7.1} ms{relay}",
            self.connected(),
            self.nominated(),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_21_pairs_of_which_13_connect_directly() {
        let all = chosen(None).unwrap();
        assert_eq!(all.len(), 21);
        let direct = all.iter().filter(|nats| Nat::meet_directly(**nats)).count();
        assert_eq!(direct, 13);
        assert_eq!(
            chosen(Some("port-sym")).unwrap(),
            [[Nat::Port, Nat::Symmetric]]
        );
        assert!(chosen(Some("port")).is_err() && chosen(Some("port-x")).is_err());
    }
}
