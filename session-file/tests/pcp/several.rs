//! Several files in one session, with clients that are not ours.

use super::kit::{self, Place, Side, Via, bytes, long};
use bytes::Bytes;
use session_core::Peer;
use session_file::{
    FILE_TRANSFER, File, FileClient, Outcome, Phase, Proposal, TransferId, disk::Existing,
};
use session_xmpp::{cli::Exit, endpoint::Router};
use std::time::Duration;

/// Proposes this in one session.
fn open(from: &Side, to: &Peer, proposals: Vec<Proposal>) -> Vec<TransferId> {
    let local = from.address.clone();
    from.hand.endpoint().update(|manager, now| {
        let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
        FileClient::open(manager, id, to.clone(), proposals, now).unwrap()
    })
}

fn offer(name: &str, content: &[u8]) -> Proposal {
    Proposal::Offer(File::new(name, content.len() as u64))
}

/// Writes each, until all of them have ended.
async fn give(side: &Side, all: &[(&TransferId, &[u8])]) -> Vec<Outcome> {
    let step = || {
        side.hand.endpoint().update(|manager, now| {
            let mut outcomes = Vec::new();
            for (id, content) in all {
                let client = manager.find_client::<FileClient>().unwrap();
                let transfer = client.transfer(id).unwrap();
                outcomes.extend(transfer.outcome().cloned());
                if transfer.phase() == Phase::Open {
                    let from = (transfer.offset() + transfer.progress().written) as usize;
                    let mut rest = Bytes::copy_from_slice(&content[from..]);
                    let _ = FileClient::write(manager, id, &mut rest, now);
                }
            }
            outcomes
        })
    };
    long(async {
        loop {
            let outcomes = step();
            if outcomes.len() == all.len() {
                return outcomes;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await
}

/// XEP-0234 §6.6 lets a sender end the session when it has sent everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_kept_whose_sender_ends_the_session_behind_their_last_byte() {
    let (a, b) = (bytes(900_000, 1), bytes(100_000, 2));
    for files in [vec![("a", &a)], vec![("a", &a), ("b", &b)]] {
        let place = Place::new("ends-first");
        let router = Router::new();
        let alice = kit::stranger(&router, "alice", Duration::ZERO);
        let bob = kit::side(&router, "bob", Via::RawUdp, None, None);
        let receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
        let proposals = files.iter().map(|(name, content)| offer(name, content));
        let ids = open(&alice, &bob.address, proposals.collect());
        let all: Vec<_> = ids
            .iter()
            .zip(&files)
            .map(|(id, (_, c))| (id, &c[..]))
            .collect();
        let outcomes = give(&alice, &all).await;
        let sent = |outcome: &Outcome| matches!(outcome, Outcome::Sent { .. });
        assert!(outcomes.iter().all(sent), "{outcomes:?}");
        assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
        for (name, content) in files {
            assert!(place.read(&format!("in/{name}")) == *content, "{name}");
        }
        place.assert_clean("in");
    }
}
