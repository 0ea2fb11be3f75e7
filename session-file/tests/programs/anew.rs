//! A program and somebody else's client, which cannot say how much of a file it has when its transport breaks.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is shared with the tests of transports, which use all of it"
)]
#[path = "../../../transport-relay/tests/faulty/mod.rs"]
mod faulty;

use super::kit::{LONG, Place, bytes};
use clap::Parser as _;
use faulty::{Fault, Faulty};
use session_core::Reason;
use session_file::{
    Acceptance, Decision, FILE_TRANSFER, FileClient, FileConfig, FileVerdict, Integrity, Outcome,
    Read, TransferId,
    pcp::{Args, PROGRAM},
};
use session_xmpp::cli::{Online, Program};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};
use transport_relay::s5b::{self, S5b, S5bConfig};

/// What the other client tells of itself.
const OTHER: Program = Program {
    features: &[FILE_TRANSFER],
    ..PROGRAM
};

/// What the other client got.
#[derive(Debug, Default)]
struct Got {
    bytes: Vec<u8>,
    /// Of those, over the connection that broke.
    before: usize,
    /// As it counts them itself.
    counted: u64,
    outcome: Option<Outcome>,
}

/// It logs in, and its connections break so long after they began. What breaks first is offered first.
async fn log_in(words: &[String], breaks: Duration) -> Online {
    let args = Args::parse_from(words);
    let account = args.account().clone().resolve(&OTHER).unwrap();
    let mut files = FileClient::new(FileConfig {
        moves: false,
        ..FileConfig::default()
    });
    files.set_policy(|offer| {
        let content = offer.files[0].content.clone();
        FileVerdict::Decide(vec![(content, Decision::Accept(Acceptance::default()))])
    });
    let direct = S5b::new(S5bConfig {
        listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ..S5bConfig::default()
    });
    let online = account.login(&OTHER, |manager| {
        manager.add_transport(Faulty::new(direct, Fault::FailsAfter(breaks)))?;
        manager.add_client(files)
    });
    online.await.unwrap()
}

/// Reads what comes until the session is over.
async fn take(online: &Online) -> Got {
    let mut got = Got::default();
    let until = Instant::now() + LONG;
    while got.outcome.is_none() {
        assert!(
            Instant::now() < until,
            "it does not end: {}",
            got.bytes.len()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
        online.endpoint.update(|manager, now| {
            let files = manager.find_client::<FileClient>().unwrap();
            let Some(session) = files.sessions().next() else {
                return;
            };
            let content = files.transfers(session).next().unwrap().content().clone();
            let id = TransferId { session, content };
            while let Read::Bytes(bytes) = FileClient::read(manager, &id, usize::MAX, now).unwrap()
            {
                got.bytes.extend_from_slice(&bytes);
            }
            let session = manager.peek(session);
            if session.is_some_and(|session| session.transport() == Some(s5b::NAMESPACE)) {
                got.before = got.bytes.len();
            }
            let files = manager.find_client::<FileClient>().unwrap();
            let transfer = files.transfer(&id).unwrap();
            got.counted = transfer.progress().received;
            got.outcome = transfer.outcome().cloned();
        });
    }
    got
}

#[test]
fn a_file_for_somebody_elses_client_begins_anew_and_arrives_once() {
    let place = Place::new("anew");
    let content = bytes(1_500_000, 4);
    let path = place.write("out/file", &content);
    let into = place.text("in");
    let other = place.words(
        "bob",
        &[
            "receive",
            "--into",
            &into,
            "--transports",
            "ibb",
            "--allow-plaintext",
        ],
    );
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let online = log_in(&other, Duration::from_millis(1_500)).await;
        let words = ["send", &path, "bob@localhost", "--limit", "500K"];
        let ways = ["--transports", "s5b,ibb", "--allow-plaintext"];
        let sender = place.run("alice", &[&words[..], &ways[..]].concat());
        let got = take(&online).await;
        let size = content.len();
        assert!(
            0 < got.before && got.before < size,
            "{} of {size}",
            got.before
        );
        assert!(got.bytes == content, "each byte once: {}", got.bytes.len());
        assert_eq!(got.counted, size as u64, "what came again does not count");
        let verified = Integrity::Verified(session_file::HashAlgorithm::Sha256);
        assert_eq!(got.outcome, Some(Outcome::Received(verified)));
        let ended = tokio::task::spawn_blocking(move || sender.succeed());
        let ended = ended.await.unwrap();
        let sent = ended.event("sent");
        assert_eq!(
            (&sent["confirmed"], &sent["bytes"]),
            (&true.into(), &size.into())
        );
        let reason = Reason::new(session_core::ReasonCondition::Success);
        online.finish(reason).await.unwrap();
    });
}
