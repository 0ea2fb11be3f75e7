//! `pcp` within one process: two of its hands on one router, real disks, real sockets on loopback.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is about files and time"
)]

#[path = "pcp/channels.rs"]
mod channels;
#[cfg(feature = "jet")]
#[path = "pcp/encrypted.rs"]
mod encrypted;
#[path = "pcp/getting.rs"]
mod getting;
#[cfg(feature = "jet")]
#[path = "common/keys.rs"]
mod keys;
#[path = "pcp/kit.rs"]
mod kit;
#[path = "pcp/names.rs"]
mod names;
#[path = "pcp/several.rs"]
mod several;
#[path = "pcp/trees.rs"]
mod trees;

use kit::{ALL, Place, Via, bytes, long, pair};
use session_core::{Condition, Element, Peer};
use session_file::{
    File, FileName, Publication, TreePath, disk::Existing, pcp::Shelf, publication_session,
    publication_start,
};
use session_xmpp::{
    cli::Exit,
    client::{Policy, Rule},
    endpoint::{QueryKind, Router},
};
use std::{fs, os::unix::fs::MetadataExt as _, path::Path, time::Duration};

const SIZES: [usize; 5] = [0, 1, (1 << 20) - 1, 1 << 20, 5_000_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_every_size_arrive_over_every_transport() {
    for via in ALL {
        let place = Place::new("sizes");
        let (alice, bob) = pair(via, None);
        let receiving = bob.receive(&place.path("in"), Existing::Rename, SIZES.len() as u64);
        for size in SIZES {
            let name = format!("file{size}");
            let path = place.write(&format!("out/{name}"), &bytes(size, size as u64));
            let sent = long(alice.hand.send_file(&bob.address, &path))
                .await
                .unwrap();
            assert_eq!((sent.bytes, sent.offset), (size as u64, 0), "{via:?}");
            assert!(sent.confirmed && sent.hash.is_some());
            // Where nothing else is allowed it is encrypted, and where QUIC is possible it is used.
            let encrypted = sent.protection.starts_with("encrypted: QUIC");
            let datagrams = matches!(via, Via::Ice | Via::RawUdp);
            assert!(
                encrypted == datagrams || size == 0,
                "{via:?}: {}",
                sent.protection
            );
        }
        assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
        for size in SIZES {
            let arrived = place.read(&format!("in/file{size}"));
            assert!(arrived == bytes(size, size as u64), "{via:?}: {size}");
        }
        place.assert_clean("in");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_file_goes_on_in_a_new_session_over_another_transport() {
    let place = Place::new("resume");
    let content = bytes(20_000_000, 7);
    let path = place.write("out/file", &content);
    {
        let (alice, bob) = pair(Via::RawUdp, Some(4_000_000));
        let _receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
        let sending = alice.hand.send_file(&bob.address, &path);
        let cut = tokio::time::timeout(Duration::from_millis(3_500), sending).await;
        assert!(cut.is_err(), "the limit makes it last 5 s");
        // Both are gone without a word.
    }
    place.settle("in").await;
    assert!(!place.exists("in/file"), "what is not whole has no name");
    let (alice, bob) = pair(Via::S5b, None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let sent = long(alice.hand.send_file(&bob.address, &path))
        .await
        .unwrap();
    assert!(sent.offset > 0, "it goes on where it was");
    assert_eq!(sent.bytes + sent.offset, content.len() as u64);
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    assert!(place.read("in/file") == content);
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_file_of_the_same_size_and_date_is_no_continuation() {
    let place = Place::new("other");
    let path = place.write("out/file", &bytes(6_000_000, 1));
    let date = fs::metadata(&path).unwrap().modified().unwrap();
    {
        let (alice, bob) = pair(Via::RawUdp, Some(1_500_000));
        let _receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
        let sending = alice.hand.send_file(&bob.address, &path);
        let _ = tokio::time::timeout(Duration::from_millis(3_000), sending).await;
    }
    place.settle("in").await;
    let content = bytes(6_000_000, 2);
    fs::write(&path, &content).unwrap();
    fs::File::options()
        .write(true)
        .open(&path)
        .unwrap()
        .set_modified(date)
        .unwrap();
    let (alice, bob) = pair(Via::RawUdp, None);
    // The sender sees that the receiver has something else, and offers it again, as another.
    let _receiving = bob.receive(&place.path("in"), Existing::Rename, 9);
    let sent = long(alice.hand.send_file(&bob.address, &path))
        .await
        .unwrap();
    assert_eq!((sent.offset, sent.bytes), (0, 6_000_000));
    place.appears("in/file").await;
    assert!(place.read("in/file") == content);
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_not_sent_again_and_what_differs_gets_a_number() {
    let place = Place::new("there");
    let path = place.write("out/photo.jpg", &bytes(3_000_000, 1));
    let (alice, bob) = pair(Via::RawUdp, None);
    let _receiving = bob.receive(&place.path("in"), Existing::Rename, 9);
    let first = long(alice.hand.send_file(&bob.address, &path))
        .await
        .unwrap();
    assert_eq!(first.bytes, 3_000_000);
    place.appears("in/photo.jpg").await;
    let inode = fs::metadata(place.path("in/photo.jpg")).unwrap().ino();
    let again = long(alice.hand.send_file(&bob.address, &path))
        .await
        .unwrap();
    assert_eq!((again.bytes, again.offset), (0, 3_000_000));
    assert_eq!(
        fs::metadata(place.path("in/photo.jpg")).unwrap().ino(),
        inode
    );
    fs::write(&path, bytes(2_000_000, 2)).unwrap();
    long(alice.hand.send_file(&bob.address, &path))
        .await
        .unwrap();
    place.appears("in/photo (1).jpg").await;
    assert!(place.read("in/photo (1).jpg") == bytes(2_000_000, 2));
    assert!(
        place.read("in/photo.jpg") == bytes(3_000_000, 1),
        "it stays"
    );
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_changes_while_it_is_read_is_not_taken_for_whole() {
    let place = Place::new("changes");
    let path = place.write("out/log", &bytes(8_000_000, 1));
    let (alice, bob) = pair(Via::RawUdp, Some(4_000_000));
    let _receiving = bob.receive(&place.path("in"), Existing::Rename, 9);
    let changing = async {
        tokio::time::sleep(Duration::from_millis(900)).await;
        fs::write(&path, bytes(8_000_000, 2)).unwrap();
        std::future::pending::<()>().await;
    };
    let problem = tokio::select! {
        sent = long(alice.hand.send_file(&bob.address, &path)) => sent.unwrap_err(),
        () = changing => unreachable!("it never ends"),
    };
    assert_eq!((problem.code, problem.exit), ("file-changed", Exit::Failed));
    place.settle("in").await;
    assert!(!place.exists("in/log"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_file_is_fetched_and_nothing_beside_it() {
    let place = Place::new("share");
    place.write("shelf/photos/beach.jpg", &bytes(2_500_000, 3));
    place.write("secret", b"secret");
    std::os::unix::fs::symlink(place.path("secret"), place.path("shelf/link")).unwrap();
    let (alice, bob) = pair(Via::RawUdp, None);
    let shelf = Shelf::new(&place.path("shelf")).unwrap();
    let sharer = bob.hand.clone();
    let _sharing = kit::Task(tokio::spawn(async move { shelf.run(&sharer).await }));
    let inbox = kit::inbox(&place.path("in"), Existing::Rename);
    let wanted = TreePath::new("photos/beach.jpg").unwrap();
    long(alice.hand.fetch(&bob.address, &wanted, &inbox))
        .await
        .unwrap();
    assert!(place.read("in/beach.jpg") == bytes(2_500_000, 3));
    for name in ["link", "photos", "missing", "photos/missing"] {
        let path = TreePath::new(name).unwrap();
        let problem = long(alice.hand.fetch(&bob.address, &path, &inbox)).await;
        assert_eq!(problem.unwrap_err().exit, Exit::Failed, "{name}");
    }
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_shared_is_told_to_contacts_and_offered_to_who_asks_for_it() {
    let place = Place::new("told");
    place.write("shelf/photos/beach.jpg", &bytes(300_000, 3));
    place.write("shelf/notes.txt", b"notes");
    place.write("secret", b"secret");
    std::os::unix::fs::symlink(place.path("secret"), place.path("shelf/link")).unwrap();
    let router = Router::new();
    let (node, _there) = kit::node(&router, "bob@example.org");
    let mut shelf = Shelf::new(&place.path("shelf")).unwrap();
    let policy = Policy::new(["alice@example.org".parse().unwrap()]);
    let service = shelf.service(&policy);
    let bob = kit::side(&router, "bob", Via::RawUdp, None, Some(service));
    let side = |name| kit::side(&router, name, Via::RawUdp, None, None);
    let (alice, carol) = (side("alice"), side("carol"));
    let sharer = bob.hand.clone();
    let _sharing = kit::Task(tokio::spawn(async move { shelf.run(&sharer).await }));
    long(async {
        while node.lock().unwrap().len() < 2 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let listed = long(alice.hand.list(&"bob@example.org".into()))
        .await
        .unwrap();
    let mut names: Vec<_> = listed
        .iter()
        .map(|l| (l.file.name.as_deref(), l.file.size))
        .collect();
    names.sort_unstable();
    let known = [
        (Some("notes.txt"), Some(5)),
        (Some("photos/beach.jpg"), Some(300_000)),
    ];
    assert_eq!(names, known);
    assert!(listed.iter().all(|listed| listed.from == bob.address));
    let desk = Peer::from("bob@example.org/desk");
    assert_eq!(
        long(alice.hand.list(&desk)).await.unwrap_err().code,
        "nothing-shared"
    );

    let receiving = alice.receive(&place.path("in"), Existing::Rename, 1);
    let ask = async |side: &kit::Side, id: &str| {
        let question = publication_start(id);
        let endpoint = side.hand.endpoint();
        let answer = endpoint.query(
            QueryKind::Get,
            bob.address.clone(),
            question,
            Duration::from_secs(60),
        );
        answer.await.map_err(|error| error.condition)
    };
    assert_eq!(
        ask(&carol, "notes.txt").await,
        Err(Condition::ServiceUnavailable)
    );
    for missing in ["link", "photos", "../secret", "missing"] {
        assert_eq!(
            ask(&alice, missing).await,
            Err(Condition::ItemNotFound),
            "{missing}"
        );
    }
    let answer = ask(&alice, "photos/beach.jpg").await.unwrap().unwrap();
    let sid = publication_session(answer.view()).unwrap();
    assert!(sid.is_some_and(|sid| sid.len() == 32));
    long(receiving).await.unwrap().unwrap();
    assert!(place.read("in/beach.jpg") == bytes(300_000, 3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_was_told_that_a_file_begins_gets_it_however_many_ask() {
    let place = Place::new("many");
    for number in 0..12_usize {
        place.write(&format!("shelf/{number}"), &bytes(200_000, number as u64));
    }
    let router = Router::new();
    let (node, _there) = kit::node(&router, "bob@example.org");
    let mut shelf = Shelf::new(&place.path("shelf")).unwrap();
    let service = shelf.service(&Policy::new([Rule::Any]));
    let bob = kit::side(&router, "bob", Via::RawUdp, Some(600_000), Some(service));
    let side = |name| kit::side(&router, name, Via::RawUdp, None, None);
    let others = [side("alice"), side("carol")];
    let sharer = bob.hand.clone();
    let _sharing = kit::Task(tokio::spawn(async move { shelf.run(&sharer).await }));
    long(async {
        while node.lock().unwrap().len() < 12 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // Each of them takes eight at a time.
    let receiving = [0, 1].map(|at| {
        let into = place.path(&format!("in{at}"));
        others[at].receive(&into, Existing::Rename, 6)
    });
    for number in 0..12 {
        let endpoint = others[number % 2].hand.endpoint();
        let answer = endpoint.query(
            QueryKind::Get,
            bob.address.clone(),
            publication_start(&number.to_string()),
            Duration::from_secs(60),
        );
        assert!(answer.await.is_ok(), "{number}");
    }
    for receiving in receiving {
        assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    }
    for number in 0..12 {
        let arrived = place.read(&format!("in{}/{number}", number % 2));
        assert!(arrived == bytes(200_000, number as u64), "{number}");
    }
}

/// Lets a device of Bob's share a folder, as long as the result lives.
fn shares(router: &Router, device: &str, path: &Path) -> impl Drop + use<> {
    let mut shelf = Shelf::new(path).unwrap();
    let service = shelf.service(&Policy::new([Rule::Any]));
    let address = format!("bob@example.org/{device}");
    let service = Some(kit::pinged(service));
    let side = kit::side_at(router, &address, Via::RawUdp, None, service);
    kit::Task(tokio::spawn(async move { shelf.run(&side.hand).await }))
}

/// Waits until this is told, and stays so.
async fn tells(node: &kit::Items, expected: &[&str]) {
    let told = || {
        let items = node.lock().unwrap();
        let read = |item: &Element| {
            let publication = item.children().next().unwrap();
            let publication = Publication::from_element(publication).unwrap().unwrap();
            publication.id.to_string()
        };
        let mut names: Vec<_> = items.values().map(read).collect();
        names.sort_unstable();
        names
    };
    long(async {
        while told() != expected {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(told(), expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_killed_run_has_told_is_taken_back_by_the_next_and_nothing_of_one_that_lives() {
    let place = Place::new("killed");
    for name in ["killed/a", "killed/b", "lives/c", "next/d"] {
        place.write(name, b"shared");
    }
    let router = Router::new();
    let (node, _there) = kit::node(&router, "bob@example.org");
    let killed = shares(&router, "1", &place.path("killed"));
    tells(&node, &["a", "b"]).await;
    drop(killed);
    // Another program tells something, whose device is not there either.
    let publication = Publication {
        from: Some("bob@example.org/gone".into()),
        id: "e".into(),
        files: vec![File::new("e", 6)],
        ..Publication::default()
    };
    let item = Element::new("http://jabber.org/protocol/pubsub", "item").with("id", "its-own");
    let item = item.child(publication.to_element());
    node.lock().unwrap().insert("its-own".to_owned(), item);
    let lives = shares(&router, "2", &place.path("lives"));
    tells(&node, &["c", "e"]).await;
    let next = shares(&router, "3", &place.path("next"));
    tells(&node, &["c", "d", "e"]).await;
    drop((lives, next));
    // The same device again, with something else to share.
    let again = shares(&router, "3", &place.path("killed"));
    tells(&node, &["a", "b", "e"]).await;
    drop(again);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_that_are_none_are_declined_before_a_byte_is_sent() {
    let place = Place::new("names");
    let (alice, bob) = pair(Via::RawUdp, None);
    let _receiving = bob.receive(&place.path("in"), Existing::Rename, 1_000);
    let names = kit::tricks();
    assert!(names.len() >= 100, "{}", names.len());
    for name in names {
        let outcome = long(kit::offer_raw(&alice, &bob.address, &name)).await;
        // Of a path the last name counts, if it is one: it is what people mean.
        let last = FileName::last_of(&name);
        let plain = last.is_ok_and(|last| !last.as_str().starts_with(".pcp-"));
        assert!(outcome.is_err() || plain, "{name:?}");
    }
    let whole = |entry: fs::DirEntry| !entry.file_name().to_string_lossy().starts_with(".pcp-");
    let files = fs::read_dir(place.path("in")).unwrap();
    assert!(!files.map(Result::unwrap).any(whole));
    assert_eq!(
        fs::read_dir(place.path("")).unwrap().count(),
        1,
        "nothing is beside it"
    );
}

/// What stands in the configuration file holds also for what goes wrong before anybody logs in.
#[test]
fn who_wants_json_by_the_configuration_gets_it_of_failures() {
    let place = Place::new("json");
    let config = place.write("config.toml", b"json = true\n");
    let ended = std::process::Command::new(env!("CARGO_BIN_EXE_pcp"))
        .args(["send", "/no/such/file", "bob@example.org", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let told = String::from_utf8(ended.stderr).unwrap();
    let problem: serde_json::Value = serde_json::from_str(told.trim_end()).expect(&told);
    assert_eq!(problem["code"], "no-such-file");
    assert_eq!(ended.status.code(), Some(1));
}
