//! Files that a peer has encrypted within their stream (XEP-0391).

use super::keys::Stub;
use super::kit::{Place, Side, Via, bytes, long, pair};
use bytes::Bytes;
use session_core::{Cause, Peer, ReasonCondition};
use session_file::{
    FILE_TRANSFER, Fault, File, FileClient, JetCipher, Outcome, Phase, Proposal, disk::Existing,
};
use session_xmpp::cli::Exit;
use std::time::Duration;

const CIPHER: JetCipher = JetCipher::Aes256Gcm;

fn set_keys(side: &Side, keys: u8) {
    side.hand.endpoint().update(|manager, _| {
        let client = manager.find_client::<FileClient>().unwrap();
        client.set_keys(Stub::new(keys));
    });
}

/// What becomes of a file that somebody encrypts.
async fn send(from: &Side, to: &Peer, name: &str, content: &[u8]) -> Outcome {
    let (local, endpoint) = (from.address.clone(), from.hand.endpoint());
    let file = File::new(name, content.len() as u64);
    let proposal = Proposal::Offer(file).encrypted(CIPHER);
    let opened = endpoint.update(|manager, now| {
        let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
        FileClient::open(manager, id, to.clone(), vec![proposal], now)
    });
    let id = opened.unwrap().remove(0);
    let mut left = Bytes::copy_from_slice(content);
    let mut hasher = session_file::Hasher::new([session_file::HashAlgorithm::Sha256]);
    hasher.update(content);
    loop {
        let outcome = endpoint.update(|manager, now| {
            let client = manager.find_client::<FileClient>().unwrap();
            let transfer = client.transfer(&id).unwrap();
            let outcome = transfer.outcome().cloned();
            if outcome.is_none() && transfer.phase() == Phase::Open {
                if !left.is_empty() {
                    FileClient::write(manager, &id, &mut left, now).unwrap();
                }
                if left.is_empty() {
                    // Said again when nothing waits for it, which changes nothing.
                    FileClient::show(manager, &id, &hasher, now).unwrap();
                }
            }
            outcome
        });
        if let Some(outcome) = outcome {
            return outcome;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Whether the peer says that it is not safe.
fn is_unsafe(outcome: &Outcome) -> bool {
    let reason = match outcome {
        Outcome::Failed(Fault::Aborted(reason) | Fault::Declined(reason)) => reason,
        Outcome::Failed(Fault::Session(Cause::Remote(reason))) => reason,
        Outcome::Received(_) | Outcome::Sent { .. } | Outcome::Failed(_) => return false,
    };
    let condition = reason.as_ref().map(|reason| &reason.condition);
    condition == Some(&ReasonCondition::SecurityError)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_encrypted_by_itself_stands_under_its_name_when_it_is_proved() {
    for via in [Via::S5b, Via::Ibb, Via::Ice] {
        let place = Place::new("encrypted");
        let (alice, bob) = pair(via, None);
        let content = bytes(300_000, 5);
        set_keys(&alice, 1);
        set_keys(&bob, 2);
        let receiving = bob.receive(&place.path("in"), Existing::Rename, 2);
        // With another secret it is noise, and nothing stays of it.
        let outcome = long(send(&alice, &bob.address, "file", &content)).await;
        assert!(is_unsafe(&outcome), "{via:?} {outcome:?}");
        place.settle("in").await;
        place.assert_clean("in");
        assert!(!place.exists("in/file"), "{via:?}");
        set_keys(&bob, 1);
        let outcome = long(send(&alice, &bob.address, "file", &content)).await;
        assert_eq!(outcome, Outcome::Sent { confirmed: true }, "{via:?}");
        assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Failed);
        assert!(place.read("in/file") == content);
        place.assert_clean("in");
    }
}

/// A program without keys does not keep what it cannot read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_keys_nothing_is_kept() {
    let place = Place::new("keyless");
    let (alice, bob) = pair(Via::Ibb, None);
    set_keys(&alice, 1);
    let _receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let outcome = long(send(&alice, &bob.address, "file", b"hello")).await;
    assert!(is_unsafe(&outcome), "{outcome:?}");
    assert!(!place.exists("in/file"));
    place.assert_clean("in");
}
