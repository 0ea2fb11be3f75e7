//! Purity: what must not stand in the dependency tree of a crate without I/O.

use std::collections::BTreeSet;

use crate::tidy::CRATES;
use crate::tools::{self, Failure, Outcome};

/// Crates that read sockets or randomness.
const IMPURE: &[&str] = &["getrandom", "mio", "quinn-udp", "rand", "socket2"];
/// What the STUN codec stun-rs brings: it draws transaction ids when it is given none, and it is always given one.
const STUN_CODEC: &[&str] = &["getrandom", "rand"];
/// The crates that have it.
const STUN_CRATES: &[&str] = &["transport-relay", "transport-p2p"];
/// Brings the tables of Unicode, and XMPP's addresses, which only session-xmpp knows.
const ADDRESSES: &str = "jid";

const HINT: &str = "move the dependency behind an optional feature, or the code to session-xmpp's driver; \
    `cargo tree -p CRATE -e normal -i NAME` shows who asks for it";

/// Checks each crate alone (features unify over a workspace, so only `-p` tells the truth), session-xmpp as the bare codec.
pub(crate) fn run() -> Outcome {
    let mut counts = Vec::new();
    let mut findings = Vec::new();
    for name in CRATES {
        let mut arguments = vec![
            "tree", "-p", name, "-e", "normal", "--prefix", "none", "--format", "{p}",
        ];
        if *name == "session-xmpp" {
            arguments.push("--no-default-features");
        }
        let tree = tools::capture(&mut tools::cargo(&arguments), HINT)?;
        let crates = crates_in(&tree);
        findings.extend(offences(name, &crates));
        counts.push(format!("{name} {}", crates.len()));
    }
    if findings.is_empty() {
        Ok(format!("crates in each tree: {}", counts.join(", ")))
    } else {
        Err(Failure::findings("purity", &findings, HINT))
    }
}

/// The different crates (name and version) of a tree printed one a line; the crate itself is one of them.
fn crates_in(tree: &str) -> BTreeSet<(String, String)> {
    tree.lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            Some((words.next()?.to_owned(), words.next()?.to_owned()))
        })
        .collect()
}

fn offences(name: &str, crates: &BTreeSet<(String, String)>) -> Vec<String> {
    crates
        .iter()
        .filter(|(found, _)| {
            let excused = STUN_CRATES.contains(&name) && STUN_CODEC.contains(&found.as_str());
            (IMPURE.contains(&found.as_str()) && !excused)
                || (found == ADDRESSES && name != "session-xmpp")
        })
        .map(|(found, version)| format!("{name} has {found} {version} in its tree"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trees_are_counted_without_repetition() {
        let crates = crates_in("a v0.1.0 (/x)\nbytes v1.0.0\nb v1.0.0\nbytes v1.0.0 (*)\n\n");
        assert_eq!(crates.len(), 3);
    }

    #[test]
    fn sockets_randomness_and_addresses_are_offences() {
        let crates =
            crates_in("a v0.1.0\nmio v1.0.0\ngetrandom v0.3.0\nrand_core v0.9.0\njid v0.12.0\n");
        assert_eq!(offences("session-core", &crates).len(), 3);
        assert_eq!(offences("session-xmpp", &crates).len(), 2);
        assert_eq!(offences("transport-p2p", &crates).len(), 2);
    }
}
