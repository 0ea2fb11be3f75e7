//! The figures at the end.

use serde_json::{Value, json};
use session_core::Dialect;
use session_file::Completeness;

use super::ceiling::Ceiling;
use super::transfer::Transfer;
use crate::tools::Failure;

const MIB: f64 = (1 << 20) as f64;

/// A transfer in which everything that was sent arrived.
pub(super) struct Report {
    dialect: &'static str,
    transfer: Transfer,
    seconds: f64,
    /// MiB/s.
    rate: f64,
    /// MiB/s of raw datagrams, one for each system call.
    plain: f64,
    /// MiB/s of raw datagrams, in batches.
    ceiling: f64,
}

impl Report {
    /// Compares the two ends.
    pub(super) fn new(
        dialect: &Dialect,
        transfer: Transfer,
        ceiling: &Ceiling,
    ) -> Result<Self, Failure> {
        let (sent, received) = (&transfer.sent, &transfer.received);
        if (sent.bytes, &sent.hash) != (received.bytes, &received.hash) {
            return Err(Failure::new(
                "compare what was sent with what arrived",
                format!(
                    "{} bytes with SHA-256 {} became {} bytes with SHA-256 {}",
                    sent.bytes, sent.hash, received.bytes, received.hash
                ),
                "this is a defect: please report it, with what --trace FILE writes",
            ));
        }
        let seconds = transfer.time().as_secs_f64();
        Ok(Self {
            dialect: dialect.name,
            seconds,
            rate: sent.bytes as f64 / MIB / seconds.max(1e-9),
            plain: ceiling.plain / MIB,
            ceiling: ceiling.batched / MIB,
            transfer,
        })
    }

    pub(super) fn json(&self) -> Value {
        let Transfer { sent, received } = &self.transfer;
        json!({
            "ok": true,
            "name": sent.name,
            "bytes": sent.bytes,
            "seconds": self.seconds,
            "setup_seconds": sent.setup.as_secs_f64(),
            "mib_per_second": self.rate,
            "sha256_sent": sent.hash,
            "sha256_received": received.hash,
            "complete": completeness(received.completeness),
            "dialect": self.dialect,
            "transport": sent.transport,
            "udp_ceiling": self.ceiling,
            "udp_plain": self.plain,
            "datagram_bytes": sent.datagram,
        })
    }

    pub(super) fn text(&self) -> String {
        let Transfer { sent, received } = &self.transfer;
        let lines = [
            format!(
                "{} bytes in {:.3} s: {:.1} MiB/s, after {:.3} s of setting up",
                sent.bytes,
                self.seconds,
                self.rate,
                sent.setup.as_secs_f64()
            ),
            format!("over {} ({})", sent.transport, self.dialect),
            format!(
                "raw UDP of {} bytes here: {:.0} MiB/s one by one, {:.0} MiB/s in batches",
                sent.datagram, self.plain, self.ceiling
            ),
            format!("SHA-256 sent      {}", sent.hash),
            format!("SHA-256 received  {}  equal", received.hash),
            format!("complete: {}", completeness(received.completeness)),
        ];
        lines.join("\n")
    }
}

fn completeness(completeness: Completeness) -> &'static str {
    match completeness {
        Completeness::Verified => "verified by end-of-stream",
        Completeness::Unverified => "unverified",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: Ceiling = Ceiling {
        plain: 100.0 * MIB,
        batched: 1_000.0 * MIB,
    };

    #[test]
    fn what_arrives_otherwise_than_it_was_sent_is_a_failure() {
        let equal = Transfer::example("aa", 7, "aa", 7);
        assert!(Report::new(Dialect::JINGLE, equal, &CEILING).is_ok());
        for transfer in [
            Transfer::example("aa", 7, "ab", 7),
            Transfer::example("aa", 7, "aa", 6),
        ] {
            let failure = Report::new(Dialect::JINGLE, transfer, &CEILING)
                .err()
                .unwrap();
            assert!(failure.to_string().contains("compare"), "{failure}");
        }
    }

    #[test]
    fn the_figures_are_whole() {
        let transfer = Transfer::example("aa", 1 << 20, "aa", 1 << 20);
        let report = Report::new(Dialect::GTALK, transfer, &CEILING).unwrap();
        let json = report.json();
        for key in [
            "bytes",
            "seconds",
            "sha256_sent",
            "sha256_received",
            "dialect",
            "transport",
        ] {
            assert!(!json[key].is_null(), "{key}");
        }
        assert_eq!(json["mib_per_second"], 0.5);
        assert_eq!(json["udp_ceiling"], 1_000.0);
        assert!(report.text().contains("0.5 MiB/s"));
    }
}
