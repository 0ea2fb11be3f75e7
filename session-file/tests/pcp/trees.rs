//! Folders.

use super::{
    kit::{Place, Task, Via, bytes, long, offer_tree, pair, side},
    names::{ODD, list},
};
use session_file::pcp::Inbox;
use session_file::{
    TreeEntry, TreeLimits, TreePath, TreeSender,
    disk::{Existing, Folder, Meter, Skipped, Walk, receive_tree, send_tree},
};
use session_xmpp::{cli::Exit, endpoint::Router};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
    thread,
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

fn plant(place: &Place) {
    for (at, name) in ODD.iter().enumerate() {
        let path = place.write(
            &format!("out/tree/{name}/{name}"),
            &bytes(at * 1_000, at as u64),
        );
        let mode = [0o600, 0o644, 0o755, 0o400][at % 4];
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let date = SystemTime::UNIX_EPOCH + Duration::new(1_000_000_000 + at as u64, 5);
        fs::File::open(&path).unwrap().set_modified(date).unwrap();
    }
    let deep = vec!["d"; 50].join("/");
    place.write(&format!("out/tree/{deep}/leaf"), b"deep");
    place.write("out/tree/large", &bytes(5_000_000, 99));
    place.write("out/tree/none", b"");
    fs::create_dir_all(place.path("out/tree/empty/emptier")).unwrap();
    for number in 0..600 {
        place.write(
            &format!("out/tree/many/{}/{number}", number % 7),
            &bytes(number, 1),
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_arrives_as_it_is_and_is_not_sent_twice() {
    let place = Place::new("tree");
    plant(&place);
    let (alice, bob) = pair(Via::RawUdp, None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 2);
    let paths = || vec![place.path("out/tree")];
    let sent = long(alice.hand.send_tree(&bob.address, paths()))
        .await
        .unwrap();
    assert_eq!(
        (sent.files.1, sent.left_out.1),
        (0, 0),
        "{:?}",
        sent.left_out
    );
    let (ours, theirs) = (list(&place.path("out")), list(&place.path("in")));
    assert_eq!(ours.len(), theirs.len());
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert!(
            ours == theirs,
            "{} {:o} {}; {} {:o} {}",
            ours.0,
            ours.1,
            ours.2,
            theirs.0,
            theirs.1,
            theirs.2
        );
    }
    let again = long(alice.hand.send_tree(&bob.address, paths()))
        .await
        .unwrap();
    assert_eq!(again.bytes, 0, "everything is there");
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    assert!(list(&place.path("in")) == theirs, "nothing was touched");
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tree_that_was_interrupted_goes_on() {
    let place = Place::new("again");
    for number in 0..50 {
        place.write(&format!("out/tree/a{number:02}"), &bytes(100_000, number));
    }
    place.write("out/tree/b", &bytes(12_000_000, 77));
    let paths = || vec![place.path("out/tree")];
    {
        let (alice, bob) = pair(Via::RawUdp, Some(4_000_000));
        let _receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
        let sending = alice.hand.send_tree(&bob.address, paths());
        assert!(
            tokio::time::timeout(Duration::from_millis(3_800), sending)
                .await
                .is_err()
        );
    }
    place.settle("in/tree").await;
    assert!(!place.exists("in/tree/b"));
    let (alice, bob) = pair(Via::Ibb, None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let sent = long(alice.hand.send_tree(&bob.address, paths()))
        .await
        .unwrap();
    assert!(sent.bytes < 12_000_000, "{}", sent.bytes);
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    assert!(list(&place.path("in")) == list(&place.path("out")));
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_announced_is_not_taken() {
    let place = Place::new("lies");
    let (alice, bob) = pair(Via::RawUdp, None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 2);
    let mut tree = TreeSender::new(TreeLimits::default());
    let large = TreePath::new("large").unwrap();
    tree.push(&TreeEntry::file(large, 1 << 30)).unwrap();
    let frames = tree.poll_output(1 << 20).unwrap();
    let fault = long(offer_tree(&alice, &bob.address, frames)).await;
    let why = fault.expect("it is refused").to_string();
    assert!(why.contains("more than 67108864 bytes"), "{why}");

    let mut tree = TreeSender::new(TreeLimits::default());
    for number in 0..2_000 {
        let path = TreePath::new(&number.to_string()).unwrap();
        tree.push(&TreeEntry::folder(path)).unwrap();
    }
    let frames = tree.poll_output(1 << 20).unwrap();
    let fault = long(offer_tree(&alice, &bob.address, frames)).await;
    let why = fault.expect("it is refused").to_string();
    assert!(why.contains("more than 1024 entries"), "{why}");
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Failed);
    assert!(fs::read_dir(place.path("in")).unwrap().count() <= 1_024);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn links_lead_nowhere() {
    let place = Place::new("links");
    place.write("out/tree/folder/file", b"new");
    place.write("out/tree/file", b"new");
    std::os::unix::fs::symlink("/etc", place.path("out/tree/etc")).unwrap();
    place.write("elsewhere/file", b"old");
    fs::create_dir_all(place.path("in/tree")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("in/tree/folder")).unwrap();
    std::os::unix::fs::symlink(place.path("elsewhere/file"), place.path("in/tree/file")).unwrap();
    let (alice, bob) = pair(Via::RawUdp, None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let paths = vec![place.path("out/tree")];
    // What could not be kept is not for its sender to throw away.
    let problem = long(alice.hand.send_tree(&bob.address, paths))
        .await
        .unwrap_err();
    assert_eq!((problem.exit, problem.code), (Exit::Failed, "peer-failed"));
    assert!(
        problem
            .why
            .contains("2 of its files and folders could not be kept"),
        "{}",
        problem.why
    );
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Failed);
    assert_eq!(place.read("elsewhere/file"), b"old");
    assert_eq!(fs::read_dir(place.path("elsewhere")).unwrap().count(), 1);
    assert_eq!(place.read("in/tree/file (1)"), b"new");
    assert!(!place.exists("in/tree/etc"));
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_named_is_followed() {
    let place = Place::new("named-links");
    place.write("else/target.txt", b"target");
    place.write("else/folder/inside.txt", b"inside");
    fs::create_dir_all(place.path("out")).unwrap();
    for (name, target) in [
        ("link.txt", "else/target.txt"),
        ("folder-link", "else/folder"),
    ] {
        let link = place.path(&format!("out/{name}"));
        std::os::unix::fs::symlink(place.path(target), link).unwrap();
    }
    let (alice, bob) = pair(Via::RawUdp, None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let paths = ["link.txt", "folder-link"].map(|name| place.path(&format!("out/{name}")));
    let sent = long(alice.hand.send_tree(&bob.address, paths.to_vec()))
        .await
        .unwrap();
    assert_eq!(
        (sent.files.0, sent.left_out.1),
        (2, 0),
        "{:?}",
        sent.left_out
    );
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    assert_eq!(place.read("in/link.txt"), b"target");
    assert_eq!(place.read("in/folder-link/inside.txt"), b"inside");
    place.assert_clean("in");
}

/// What programs look for in a home folder is nobody's to put there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_home_folder_takes_no_hidden_names_at_its_top() {
    let place = Place::new("home");
    place.write("out/.profile", b"profile");
    place.write("out/.ssh/authorized_keys", b"key");
    place.write("out/tree/.hidden", b"hidden");
    place.write("home/.ssh/known", b"known");
    let (alice, bob) = pair(Via::RawUdp, None);
    let inbox = Inbox::without_hidden(&place.path("home"), Existing::Overwrite).unwrap();
    let hand = bob.hand.clone();
    let receiving = Task(tokio::spawn(async move { inbox.run(&hand, Some(2)).await }));
    let paths = [".profile", ".ssh", "tree"].map(|name| place.path(&format!("out/{name}")));
    let sent = long(alice.hand.send_tree(&bob.address, paths.to_vec())).await;
    // Whoever sends it does not take it for received.
    assert!(sent.is_err() || sent.unwrap().files.0 == 1);
    let profile = place.path("out/.profile");
    let alone = long(alice.hand.send_file(&bob.address, &profile)).await;
    assert_eq!(alone.unwrap_err().exit, Exit::Failed);
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Failed);
    assert_eq!(place.read("home/tree/.hidden"), b"hidden");
    assert!(!place.exists("home/.profile"));
    assert!(!place.exists("home/.ssh/authorized_keys"));
    place.assert_clean("home");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_tree_learns_what_could_not_be_kept() {
    let place = Place::new("unkept");
    let path = place.write("out/tree/mine", b"new");
    place.write("out/tree/other", b"new");
    let date = fs::metadata(&path).unwrap().modified().unwrap();
    let mine = place.write("in/tree/mine", b"old");
    fs::File::options()
        .write(true)
        .open(mine)
        .unwrap()
        .set_modified(date)
        .unwrap();
    for existing in [Existing::Rename, Existing::Skip] {
        let (alice, bob) = pair(Via::RawUdp, None);
        let receiving = bob.receive(&place.path("in"), existing, 1);
        let sent = long(
            alice
                .hand
                .send_tree(&bob.address, vec![place.path("out/tree")]),
        )
        .await;
        assert_eq!(sent.unwrap_err().code, "peer-failed", "{existing:?}");
        assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Failed);
        assert_eq!(place.read("in/tree/mine"), b"old");
        assert_eq!(place.read("in/tree/other"), b"new");
    }
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_sender_does_not_have_any_more_was_not_lost_here() {
    let place = Place::new("gone");
    for number in 0..40 {
        place.write(&format!("out/tree/a{number:02}"), &bytes(100_000, number));
    }
    place.write("out/tree/b", b"here");
    let (alice, bob) = pair(Via::RawUdp, Some(2_000_000));
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let sending = alice
        .hand
        .send_tree(&bob.address, vec![place.path("out/tree")]);
    let removing = async {
        place.appears("in/tree").await;
        fs::remove_file(place.path("out/tree/b")).unwrap();
    };
    let (sent, ()) = long(async { tokio::join!(sending, removing) }).await;
    let sent = sent.unwrap();
    assert_eq!(
        (sent.left_out.1, sent.confirmed),
        (1, true),
        "{:?}",
        sent.left_out
    );
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Failed);
    assert!(!place.exists("in/tree/b"));
    assert_eq!(place.read("in/tree/a39"), bytes(100_000, 39));
}

/// Two people send a file of the same name at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_files_of_one_name_that_come_at_once_both_arrive() {
    let place = Place::new("at-once");
    let router = Router::new();
    let side = |name, rate| side(&router, name, Via::RawUdp, rate, None);
    let (alice, carol) = (side("alice", Some(1_500_000)), side("carol", None));
    let bob = side("bob", None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 2);
    let slow = place.write("alice/file", &bytes(6_000_000, 1));
    let fast = place.write("carol/file", &bytes(2_000_000, 2));
    let sending = alice.hand.send_file(&bob.address, &slow);
    let meanwhile = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        carol.hand.send_file(&bob.address, &fast).await
    };
    let (slow, fast) = long(async { tokio::join!(sending, meanwhile) }).await;
    slow.unwrap();
    fast.unwrap();
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    assert!(place.read("in/file") == bytes(2_000_000, 2));
    assert!(place.read("in/file (1)") == bytes(6_000_000, 1));
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sends_a_tree_learns_what_was_not_taken_as_another_is_there() {
    let place = Place::new("refused");
    for name in ["new", "same", "other"] {
        place.write(&format!("out/tree/{name}"), b"of the sender");
    }
    let date = fs::metadata(place.path("out/tree/same"))
        .unwrap()
        .modified()
        .unwrap();
    let same = place.write("in/tree/same", b"of the sender");
    let same = fs::File::options().write(true).open(same).unwrap();
    same.set_modified(date).unwrap();
    place.write("in/tree/other", b"of the receiver");
    let (alice, bob) = pair(Via::RawUdp, None);
    let receiving = bob.receive(&place.path("in"), Existing::Skip, 1);
    let paths = vec![place.path("out/tree")];
    let sent = long(alice.hand.send_tree(&bob.address, paths))
        .await
        .unwrap();
    assert_eq!((sent.files, sent.refused), ((1, 1), 1), "{sent:?}");
    assert_eq!(sent.left_out.1, 1, "the program fails");
    let refused = Skipped::Refused(place.path("out/tree/other"));
    assert_eq!(sent.left_out.0, [refused]);
    assert!(sent.confirmed);
    // It was its user's wish.
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    assert_eq!(place.read("in/tree/other"), b"of the receiver");
    assert_eq!(place.read("in/tree/new"), b"of the sender");
    place.assert_clean("in");
}

/// Of files that arrive, that are there, that are not taken and that cannot be, in more folders than files.
#[test]
fn what_is_shown_of_a_tree_comes_to_its_end_on_both_sides() {
    let place = Place::new("progress");
    for (at, name) in ["new", "there", "other", "large", "f"].iter().enumerate() {
        place.write(
            &format!("out/tree/{at}/{name}"),
            &bytes(100_000 * (at + 1), 1),
        );
        fs::create_dir_all(place.path(&format!("out/tree/{at}/empty"))).unwrap();
    }
    let there = place.write("in/tree/1/there", &bytes(200_000, 1));
    let date = fs::metadata(place.path("out/tree/1/there"))
        .unwrap()
        .modified();
    let there = fs::File::options().write(true).open(there).unwrap();
    there.set_modified(date.unwrap()).unwrap();
    place.write("in/tree/2/other", b"of bob");
    // What cannot be received is done with, too.
    place.write("in/tree/4", b"no folder");
    let (ours, theirs) = (Arc::new(Meter::default()), Arc::new(Meter::default()));
    let total = 1_500_000;
    ours.expect(5, Some(total));
    // Sixteen entries: folders are not told from files before they come.
    theirs.expect(16, Some(total));
    let (to_them, their_input) = mpsc::channel(4);
    let (to_us, our_input) = mpsc::channel(4);
    let (output, mut sent) = mpsc::channel(4);
    let (answers, mut answered) = mpsc::channel(4);
    let folder = Arc::new(Folder::open(&place.path("in")).unwrap());
    let walk = Walk::new([place.path("out/tree")]);
    let limits = TreeLimits::default();
    let meters = (ours.clone(), theirs.clone());
    thread::scope(|scope| {
        scope.spawn(move || {
            while let Some(bytes) = sent.blocking_recv() {
                let _ = to_them.blocking_send(vec![bytes]);
            }
        });
        scope.spawn(move || {
            while let Some(bytes) = answered.blocking_recv() {
                let _ = to_us.blocking_send(vec![bytes]);
            }
        });
        let receiving = scope.spawn(move || {
            receive_tree(
                &folder,
                limits,
                Existing::Skip,
                their_input,
                &answers,
                &meters.1,
            )
        });
        let sent = send_tree(walk, limits, our_input, output, &meters.0).unwrap();
        assert_eq!((sent.sent, sent.skipped, sent.refused), (2, 2, 1));
        let report = receiving.join().unwrap().unwrap();
        assert!(report.whole && report.failures > 0, "{report:?}");
    });
    for meter in [ours, theirs] {
        assert_eq!(meter.files(), (5, 5));
        assert_eq!(meter.bytes(), (total, Some(total)));
    }
}
