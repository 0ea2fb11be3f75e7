//! Fetching what somebody shares.

use super::kit::{self, Place, Via, bytes, long, pair};
use session_file::{TreePath, disk::Existing, pcp::Shelf};
use session_xmpp::cli::{Exit, Problem};
use std::{fs, time::Duration};

/// Lets somebody fetch what is in a folder, as long as the result lives.
fn share(place: &Place, side: &kit::Side) -> impl Drop + use<> {
    let shelf = Shelf::new(&place.path("shelf")).unwrap();
    let hand = side.hand.clone();
    kit::Task(tokio::spawn(async move { shelf.run(&hand).await }))
}

/// Fetches a file that is shared, as fast as it goes.
async fn fetch(place: &Place, name: &str, existing: Existing) -> Result<(), Problem> {
    let (alice, bob) = pair(Via::RawUdp, None);
    let _sharing = share(place, &bob);
    let inbox = kit::inbox(&place.path("in"), existing);
    let path = TreePath::new(name).unwrap();
    long(alice.hand.fetch(&bob.address, &path, &inbox)).await
}

/// Fetches a part of a file, and is gone.
async fn begin(place: &Place, name: &str) {
    let (alice, bob) = pair(Via::RawUdp, Some(2_000_000));
    let _sharing = share(place, &bob);
    let inbox = kit::inbox(&place.path("in"), Existing::Rename);
    let path = TreePath::new(name).unwrap();
    let fetching = alice.hand.fetch(&bob.address, &path, &inbox);
    let cut = tokio::time::timeout(Duration::from_millis(3_000), fetching).await;
    assert!(cut.is_err(), "the limit makes it last 5 s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_part_of_another_file_does_not_stand_in_the_way() {
    // One that ends behind the part, and one that ends before.
    for size in [8_000_000, 1_000] {
        let place = Place::new("get-other");
        place.write("shelf/report", &bytes(10_000_000, 1));
        begin(&place, "report").await;
        place.settle("in").await;
        let part = fs::read_dir(place.path("in")).unwrap().count();
        assert!(part > 0, "something is there to go on with");
        let content = bytes(size, 2);
        fs::write(place.path("shelf/report"), &content).unwrap();
        fetch(&place, "report", Existing::Rename).await.unwrap();
        assert!(place.read("in/report") == content);
        place.assert_clean("in");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_file_is_fetched_from_there_on() {
    let place = Place::new("get-on");
    let content = bytes(10_000_000, 1);
    place.write("shelf/report", &content);
    begin(&place, "report").await;
    place.settle("in").await;
    fetch(&place, "report", Existing::Rename).await.unwrap();
    assert!(place.read("in/report") == content);
    place.assert_clean("in");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_there_is_not_fetched_where_that_was_said() {
    let place = Place::new("get-skip");
    place.write("shelf/report", b"new");
    place.write("in/report", b"old");
    let problem = fetch(&place, "report", Existing::Skip).await;
    let problem = problem.unwrap_err();
    assert_eq!((problem.code, problem.exit), ("file-exists", Exit::Failed));
    assert_eq!(place.read("in/report"), b"old");
    assert_eq!(fs::read_dir(place.path("in")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_who_offers_no_file_and_who_offers_it_again_use_up_no_transfer() {
    let place = Place::new("get-count");
    let path = place.write("out/file", &bytes(300_000, 1));
    // The same size and date, and something else in it: the sender learns that, and offers it again, as another.
    place.write("in/file", &bytes(300_000, 2));
    let date = fs::metadata(&path).unwrap().modified().unwrap();
    let there = fs::File::options()
        .write(true)
        .open(place.path("in/file"))
        .unwrap();
    there.set_modified(date).unwrap();
    let (alice, bob) = pair(Via::RawUdp, None);
    let receiving = bob.receive(&place.path("in"), Existing::Rename, 1);
    let inbox = kit::inbox(&place.path("got"), Existing::Rename);
    let wanted = TreePath::new("anything").unwrap();
    let asked = long(alice.hand.fetch(&bob.address, &wanted, &inbox)).await;
    assert!(asked.is_err(), "nothing is shared there");
    for name in ["..", "con"] {
        let offered = long(kit::offer_raw(&alice, &bob.address, name)).await;
        assert!(offered.is_err(), "{name}");
    }
    long(alice.hand.send_file(&bob.address, &path))
        .await
        .unwrap();
    assert_eq!(long(receiving).await.unwrap().unwrap(), Exit::Done);
    assert!(place.read("in/file (1)") == bytes(300_000, 1));
    assert!(place.read("in/file") == bytes(300_000, 2));
}
