//! Several files in one session, with clients that are not ours; and offers that are taken back.

use super::kit::{self, Place, Side, Via, bytes, long, pair};
use bytes::Bytes;
use session_core::{Cause, Peer, ReasonCondition};
use session_file::{
    FILE_TRANSFER, Fault, File, FileClient, FileRange, Outcome, Phase, Proposal, Read, TransferId,
    disk::{Existing, Source},
    pcp::{Shelf, Ways, client_that_takes_nothing},
};
use session_xmpp::{cli::Exit, endpoint::Router};
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

/// Proposes this in one session.
fn open(from: &Side, to: &Peer, proposals: Vec<Proposal>) -> Vec<TransferId> {
    let local = from.address.clone();
    from.hand.endpoint().update(|manager, now| {
        let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
        FileClient::open(manager, id, to.clone(), proposals, now).unwrap()
    })
}

fn ask(name: &str) -> Proposal {
    let file = File {
        name: Some(name.into()),
        ..File::default()
    };
    Proposal::Request(file, None)
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

/// Reads each to its end.
async fn take(side: &Side, all: &[TransferId]) -> Vec<Vec<u8>> {
    let mut got: BTreeMap<_, _> = all.iter().map(|id| (id, Vec::new())).collect();
    let mut left: Vec<_> = all.iter().collect();
    long(async {
        while !left.is_empty() {
            left.retain(|id| {
                let read = side
                    .hand
                    .endpoint()
                    .update(|manager, now| FileClient::read(manager, id, 1 << 20, now).unwrap());
                match read {
                    Read::Bytes(bytes) => got.get_mut(id).unwrap().extend_from_slice(&bytes),
                    Read::Pending => {}
                    Read::End(_) => return false,
                    Read::Broken(why) => panic!("{why:?}"),
                }
                true
            });
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    got.into_values().collect()
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_shared_files_that_are_asked_for_in_one_session_all_arrive() {
    let place = Place::new("share-several");
    let files = [
        ("a", bytes(700_000, 1)),
        ("b", bytes(3_000_000, 2)),
        ("c", bytes(5, 3)),
    ];
    for (name, content) in &files {
        place.write(&format!("shelf/{name}"), content);
    }
    let router = Router::new();
    let alice = kit::stranger(&router, "alice", Duration::from_secs(35));
    let bob = kit::side(&router, "bob", Via::RawUdp, None, None);
    let shelf = Shelf::new(&place.path("shelf")).unwrap();
    let hand = bob.hand.clone();
    let _sharing = kit::Task(tokio::spawn(async move { shelf.run(&hand).await }));
    let proposals = files.iter().map(|(name, _)| ask(name)).collect();
    let ids = open(&alice, &bob.address, proposals);
    let got = take(&alice, &ids).await;
    assert!(
        got.into_iter()
            .eq(files.into_iter().map(|(_, content)| content))
    );
    released(&[&alice, &bob]).await;
}

/// Waits until their sessions are let go of.
async fn released(sides: &[&Side]) {
    let lives = |side: &&Side| {
        let endpoint = side.hand.endpoint();
        endpoint.update(|manager, _| manager.session_count() > 0)
    };
    long(async {
        while sides.iter().any(lives) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

/// As many files at a time as sessions, whoever asks for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_files_that_are_asked_for_in_one_session_some_are_given() {
    let place = Place::new("share-many");
    let content = bytes(100_000, 1);
    let names: Vec<_> = (0..11).map(|number| number.to_string()).collect();
    for name in &names {
        place.write(&format!("shelf/{name}"), &content);
    }
    let router = Router::new();
    let alice = kit::stranger(&router, "alice", Duration::from_secs(35));
    let bob = kit::side(&router, "bob", Via::RawUdp, Some(400_000), None);
    let shelf = Shelf::new(&place.path("shelf")).unwrap();
    let hand = bob.hand.clone();
    let _sharing = kit::Task(tokio::spawn(async move { shelf.run(&hand).await }));
    let ids = open(&alice, &bob.address, names.iter().map(|n| ask(n)).collect());
    let decided = |id: &TransferId| {
        alice.hand.endpoint().update(|manager, _| {
            let client = manager.find_client::<FileClient>().unwrap();
            let transfer = client.transfer(id).unwrap();
            (transfer.phase() != Phase::Waiting).then(|| transfer.fault().cloned())
        })
    };
    let faults = long(async {
        loop {
            let decided: Option<Vec<_>> = ids.iter().map(decided).collect();
            if let Some(decided) = decided {
                return decided;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert_eq!(faults[..8], vec![None; 8]);
    for fault in &faults[8..] {
        let (Some(Fault::Aborted(why)) | Some(Fault::Declined(why))) = fault else {
            panic!("{faults:?}");
        };
        assert_eq!(why.as_ref().unwrap().condition, ReasonCondition::Busy);
    }
    let got = take(&alice, &ids[..8]).await;
    assert!(got.iter().all(|got| *got == content));
    released(&[&alice, &bob]).await;
}

/// Others offer it what they have all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_takes_nothing_says_so_at_once() {
    let router = Router::new();
    let alice = kit::stranger(&router, "alice", Duration::from_secs(35));
    let ways = Ways::new(true).unwrap();
    let client = client_that_takes_nothing(&ways);
    let address = "bob@example.org/pcp";
    let bob = kit::side_with(&router, address, Via::RawUdp, (None, None), (&ways, client));
    for proposal in [offer("a", b"a"), ask("a")] {
        let ids = open(&alice, &bob.address, vec![proposal]);
        let all = [(&ids[0], &b"a"[..])];
        let given = tokio::time::timeout(Duration::from_secs(20), give(&alice, &all));
        let outcomes = given.await.unwrap();
        let Outcome::Failed(Fault::Session(Cause::Remote(Some(reason)))) = &outcomes[0] else {
            panic!("{outcomes:?}");
        };
        assert_eq!(reason.condition, ReasonCondition::Decline);
        assert!(reason.text.is_some());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_output_takes_one_of_several_files() {
    let router = Router::new();
    let alice = kit::stranger(&router, "alice", Duration::from_secs(35));
    let bob = kit::side(&router, "bob", Via::RawUdp, None, None);
    let receiving = bob.receive(Path::new("-"), Existing::Rename, 1);
    let (a, b) = (&b"this is a file\n"[..], &b"and this is another one\n"[..]);
    let ids = open(&alice, &bob.address, vec![offer("a", a), offer("b", b)]);
    let outcomes = give(&alice, &[(&ids[0], a), (&ids[1], b)]).await;
    assert_eq!(outcomes[0], Outcome::Sent { confirmed: true });
    assert!(matches!(outcomes[1], Outcome::Failed(_)), "{outcomes:?}");
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
}

/// A part of `out/file` is in `in`, and somebody is at it: so whoever is offered that file again decides late. What lets go of it.
async fn held(place: &Place) -> (PathBuf, fs::File) {
    let path = place.write("out/file", &bytes(6_000_000, 1));
    {
        let (alice, bob) = pair(Via::RawUdp, Some(2_000_000));
        let _receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
        let sending = alice.hand.send_file(&bob.address, &path);
        let cut = tokio::time::timeout(Duration::from_millis(2_500), sending).await;
        assert!(cut.is_err(), "the limit makes it last 3 s");
    }
    place.settle("in").await;
    let parts = fs::read_dir(place.path("in")).unwrap();
    let mut parts = parts.map(|entry| entry.unwrap().path());
    let is_part = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "part");
    let part = fs::File::open(parts.find(is_part).unwrap()).unwrap();
    part.lock().unwrap();
    (path, part)
}

/// As `pcp` would offer it.
fn offer_again(path: &Path) -> Proposal {
    let mut file = Source::open(path).unwrap().offer("file").unwrap();
    file.range = Some(FileRange::default());
    Proposal::Offer(file)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_offer_that_is_taken_back_while_it_is_looked_at_is_no_transfer() {
    let place = Place::new("taken-back");
    let (path, part) = held(&place).await;
    let (alice, bob) = pair(Via::RawUdp, None);
    let mut receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let id = open(&alice, &bob.address, vec![offer_again(&path)]).remove(0);
    tokio::time::sleep(Duration::from_secs(1)).await;
    let endpoint = alice.hand.endpoint();
    endpoint
        .update(|manager, now| FileClient::release(manager, id.session, now))
        .unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    part.unlock().unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(1), &mut receiving).await;
    assert!(ended.is_err(), "it waits for a transfer: {ended:?}");
    // What was there of it was given back.
    let sent = long(alice.hand.send_file(&bob.address, &path)).await;
    assert!(sent.unwrap().offset > 0);
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_added_while_an_offer_is_looked_at_arrives_as_well() {
    let place = Place::new("added");
    let (path, part) = held(&place).await;
    let router = Router::new();
    let alice = kit::stranger(&router, "alice", Duration::from_secs(35));
    let bob = kit::side(&router, "bob", Via::RawUdp, None, None);
    // What was added waits for the offer, and is looked at together.
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 2);
    let first = open(&alice, &bob.address, vec![offer_again(&path)]).remove(0);
    let (b, c) = (bytes(300_000, 2), bytes(2_000_000, 3));
    let add = |name: &str, content: &[u8]| {
        let endpoint = alice.hand.endpoint();
        let added = endpoint.update(|manager, now| {
            FileClient::add(manager, first.session, offer(name, content), now)
        });
        added.unwrap()
    };
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = add("b", &b);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let third = add("c", &c);
    tokio::time::sleep(Duration::from_millis(500)).await;
    part.unlock().unwrap();
    let a = fs::read(&path).unwrap();
    let all = [(&first, &a[..]), (&second, &b[..]), (&third, &c[..])];
    let outcomes = give(&alice, &all).await;
    let sent = Outcome::Sent { confirmed: true };
    assert_eq!(outcomes, [sent.clone(), sent.clone(), sent]);
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    for (name, content) in [("file", a), ("b", b), ("c", c)] {
        assert!(place.read(&format!("in/{name}")) == content, "{name}");
    }
    place.assert_clean("in");
}
