//! A path that loses packets: the test runs itself anew in a network of its own, in which nftables drop some of UDP.

use super::kit::{Place, Program, bytes, sha256};
use std::process::{Command, Stdio};

/// The test that runs within, and what tells it so.
const WITHIN: &str = "lossy::within";
const MARK: &str = "PCP_LOSSY";
/// The only address beside loopback; all that is sent to it passes `lo`.
const ADDRESS: &str = "10.77.0.1/24";

/// A network namespace, and its end.
struct Network(String);

impl Network {
    /// One in which `loss` of a hundred packets are lost. `None` where no network can be made at all.
    fn new(loss: u32) -> Option<Self> {
        let name = format!("pcp-lossy-{}-{loss}", std::process::id());
        let has_nft = quietly(Command::new("nft").arg("--version"));
        if !has_nft || !quietly(Command::new("ip").args(["netns", "add", &name])) {
            return None;
        }
        let network = Self(name);
        let rule = format!(
            "add rule inet lab in meta l4proto udp numgen random mod 100 < {loss} counter drop"
        );
        let lines: [&[&str]; 7] = [
            &["ip", "link", "set", "lo", "up"],
            &[
                "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan1",
            ],
            &["ip", "addr", "add", ADDRESS, "dev", "lan0"],
            &["ip", "link", "set", "lan0", "up"],
            &["ip", "link", "set", "lan1", "up"],
            &[
                "nft",
                "add table inet lab; add chain inet lab in { type filter hook input priority 0; }",
            ],
            &["nft", &rule],
        ];
        for line in lines {
            let done = network.inside(line).output().unwrap();
            let why = String::from_utf8_lossy(&done.stderr);
            assert!(done.status.success(), "{line:?}: {why}");
        }
        Some(network)
    }

    fn inside(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).args(words);
        command
    }

    /// How many packets it has lost.
    fn lost(&self) -> u64 {
        let listed = self
            .inside(&["nft", "list", "chain", "inet", "lab", "in"])
            .output();
        let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
        let number = listed.split("counter packets ").nth(1).unwrap();
        number.split(' ').next().unwrap().parse().unwrap()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        quietly(Command::new("ip").args(["netns", "del", &self.0]));
    }
}

fn quietly(command: &mut Command) -> bool {
    let run = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

#[test]
fn what_packets_are_lost_no_byte_is() {
    for loss in [1, 10] {
        let Some(network) = Network::new(loss) else {
            eprintln!(
                "NOT RUN: a network that loses packets needs root, ip (iproute2) and nft (nftables)"
            );
            return;
        };
        let program = std::env::current_exe().unwrap();
        let program = program.to_str().unwrap();
        let mut again = network.inside(&[program, WITHIN, "--exact", "--nocapture"]);
        let ended = again.env(MARK, "1").output().unwrap();
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        let why = String::from_utf8_lossy(&ended.stderr);
        assert!(
            ended.status.success() && said.contains("1 passed"),
            "{said}\n{why}"
        );
        let lost = network.lost();
        eprintln!("{loss} of 100: {lost} packets were lost, and no byte");
        assert!(lost > 10, "{lost}");
    }
}

/// Files over each transport that has packets. Outside of the network, where nobody marked it, it does nothing.
#[test]
fn within() {
    if std::env::var_os(MARK).is_none() {
        return;
    }
    for way in ["ice", "raw-udp"] {
        let place = Place::new(&format!("lossy-{way}"));
        let big = place.write("out/big", &bytes(60_000_000, 11));
        for number in 0..200_usize {
            place.write(
                &format!("out/tree/{number}"),
                &bytes(number * 90, number as u64),
            );
        }
        let receiver = place.receiver("bob", "in", &["--transports", way, "--count", "2"]);
        let send = |what: &str| -> Program {
            place.run(
                "alice",
                &["send", what, "bob@localhost", "--transports", way],
            )
        };
        for what in [big.clone(), place.text("out/tree")] {
            let sent = send(&what).succeed();
            assert_eq!(sent.event("sent")["confirmed"], true, "{way} {what}");
        }
        receiver.succeed();
        assert_eq!(sha256(&place.path("in/big")), sha256(big.as_ref()), "{way}");
        for number in 0..200_usize {
            let arrived = std::fs::read(place.path(&format!("in/tree/{number}"))).unwrap();
            assert!(
                arrived == bytes(number * 90, number as u64),
                "{way} {number}"
            );
        }
        place.assert_clean("in");
    }
}
