//! Fetching what somebody shares.

use super::kit::{self, Place, Via, bytes, long, pair};
use bytes::Bytes;
use session_core::Peer;
use session_file::{
    Decision, File, FileClient, FileConfig, FileRange, HashAlgorithm, Hasher, TransferId, TreePath,
    disk::Existing,
    pcp::{Shelf, Ways},
};
use session_xmpp::{
    cli::{Exit, Problem},
    endpoint::Router,
};
use std::{fs, path::PathBuf, time::Duration};

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
async fn no_folder_gives_its_place_to_a_file_that_is_fetched() {
    let place = Place::new("get-folder");
    place.write("shelf/report", &bytes(100_000, 1));
    place.write("in/report/mine", b"mine");
    let problem = fetch(&place, "report", Existing::Overwrite).await;
    assert_eq!(problem.unwrap_err().code, "file-exists");
    assert_eq!(place.read("in/report/mine"), b"mine");
    place.assert_clean("in");
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

/// Somebody's client that gives one file to whoever asks, and looks at nothing that is said of what is there.
struct Stranger {
    side: kit::Side,
    content: Bytes,
    /// What it says of the file's hash: nothing, that it follows, or what it is.
    names: Names,
    /// Written to before the first answer, by a program that heeds no lock.
    spoils: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Names {
    Nothing,
    Later,
    AtOnce,
    /// At once, and parts are not given.
    WholeAlone,
    /// Nothing, nor how large it is.
    NoSize,
}

impl Stranger {
    fn file(&self, whole: &Hasher) -> File {
        let mut file = File::new("report", self.content.len() as u64);
        file.range = (self.names != Names::WholeAlone).then(FileRange::default);
        file.hash_used.clear();
        match self.names {
            Names::Nothing => {}
            Names::NoSize => file.size = None,
            Names::Later => file.hash_used = vec![HashAlgorithm::Sha256.as_str().into()],
            Names::AtOnce | Names::WholeAlone => file.hashes = whole.hashes(),
        }
        file
    }

    async fn run(mut self) {
        let mut whole = Hasher::new([HashAlgorithm::Sha256]);
        whole.update(&self.content);
        let endpoint = self.side.hand.endpoint().clone();
        loop {
            let offers: Vec<_> = endpoint.update(|manager, _| {
                let client = manager.find_client::<FileClient>().unwrap();
                client.offers().collect()
            });
            for offer in offers {
                if let Some(path) = self.spoils.take() {
                    let part = fs::File::options().write(true).open(path).unwrap();
                    std::os::unix::fs::FileExt::write_all_at(&part, b"spoiled", 0).unwrap();
                }
                let content = offer.files[0].content.clone();
                let decision = Decision::Provide(self.file(&whole));
                endpoint
                    .update(|manager, now| {
                        let decisions = vec![(content.clone(), decision)];
                        FileClient::answer(manager, offer.session, decisions, now)
                    })
                    .unwrap();
                let session = offer.session;
                self.give(&TransferId { session, content }, &whole).await;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn give(&self, id: &TransferId, whole: &Hasher) {
        let endpoint = self.side.hand.endpoint();
        let mut rest: Option<Bytes> = None;
        loop {
            let done = endpoint.update(|manager, now| {
                let client = manager.find_client::<FileClient>().unwrap();
                let transfer = client.transfer(id)?;
                let (offset, over) = (transfer.offset(), transfer.outcome().is_some());
                let rest = rest.get_or_insert_with(|| self.content.slice(offset as usize..));
                if over {
                    return None;
                }
                let _ = FileClient::write(manager, id, rest, now);
                if rest.is_empty() {
                    let _ = FileClient::show(manager, id, whole, now);
                }
                Some(())
            });
            if done.is_none() {
                endpoint.update(|manager, now| {
                    let _ = FileClient::release(manager, id.session, now);
                });
                return;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

/// The part of what was begun.
fn part(place: &Place) -> PathBuf {
    let parts = fs::read_dir(place.path("in")).unwrap();
    let mut parts = parts.map(|entry| entry.unwrap().path());
    parts
        .find(|path| path.extension().is_some_and(|kind| kind == "part"))
        .unwrap()
}

async fn fetch_from_stranger(place: &Place, content: &[u8], names: Names, spoils: bool) -> Problem {
    let (alice, bob) = pair(Via::RawUdp, None);
    let address = Peer::from(bob.address.as_str());
    let stranger = Stranger {
        side: bob,
        content: Bytes::copy_from_slice(content),
        names,
        spoils: spoils.then(|| part(place)),
    };
    let _giving = kit::Task(tokio::spawn(stranger.run()));
    let inbox = kit::inbox(&place.path("in"), Existing::Rename);
    let path = TreePath::new("report").unwrap();
    let fetched = long(alice.hand.fetch(&address, &path, &inbox)).await;
    fetched.err().unwrap_or_else(|| {
        assert!(place.read("in/report") == content, "{names:?}");
        Problem::new(Exit::Done, "done", "", "", "")
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_part_of_another_file_is_kept_whatever_its_owner_says_of_the_hash() {
    for names in [
        Names::Nothing,
        Names::Later,
        Names::AtOnce,
        Names::WholeAlone,
    ] {
        let place = Place::new("get-stranger");
        place.write("shelf/report", &bytes(8_000_000, 1));
        begin(&place, "report").await;
        place.settle("in").await;
        let content = bytes(8_000_000, 2);
        let ended = fetch_from_stranger(&place, &content, names, false).await;
        assert_eq!(ended.code, "done", "{names:?}: {ended:?}");
        place.assert_clean("in");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_written_to_a_part_while_its_owner_was_asked_is_noticed() {
    for names in [Names::Nothing, Names::Later] {
        let place = Place::new("get-spoiled");
        let content = bytes(8_000_000, 1);
        place.write("shelf/report", &content);
        begin(&place, "report").await;
        place.settle("in").await;
        let ended = fetch_from_stranger(&place, &content, names, true).await;
        assert_eq!(ended.code, "done", "{names:?}: {ended:?}");
        place.assert_clean("in");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_fetch_the_same_file_at_once_both_get_it() {
    let place = Place::new("get-twice");
    let content = bytes(4_000_000, 1);
    place.write("shelf/report", &content);
    let (alice, bob) = pair(Via::RawUdp, Some(4_000_000));
    let _sharing = share(&place, &bob);
    let inbox = kit::inbox(&place.path("in"), Existing::Rename);
    let path = TreePath::new("report").unwrap();
    let fetch = || long(alice.hand.fetch(&bob.address, &path, &inbox));
    let (one, other) = tokio::join!(fetch(), fetch());
    one.unwrap();
    other.unwrap();
    assert!(place.read("in/report") == content);
    assert_eq!(fs::read_dir(place.path("in")).unwrap().count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_is_larger_than_may_be_is_told_as_such() {
    let place = Place::new("get-large");
    let router = Router::new();
    let ways = Ways::new(true).unwrap();
    let mut config = FileConfig::new(ways.layer());
    config.hashes_outside = true;
    config.limits.unsized_bytes = 1_000;
    let client = FileClient::new(config);
    let address = "alice@example.org/pcp";
    let alice = kit::side_with(&router, address, Via::RawUdp, (None, None), (&ways, client));
    let stranger = Stranger {
        side: kit::side(&router, "bob", Via::RawUdp, None, None),
        content: bytes(100_000, 1).into(),
        names: Names::NoSize,
        spoils: None,
    };
    let bob = stranger.side.address.clone();
    let _giving = kit::Task(tokio::spawn(stranger.run()));
    let inbox = kit::inbox(&place.path("in"), Existing::Rename);
    let path = TreePath::new("report").unwrap();
    let problem = long(alice.hand.fetch(&bob, &path, &inbox)).await;
    assert_eq!(problem.unwrap_err().code, "too-large");
    place.assert_clean("in");
}
