//! Trees onto a disk, with whatever else is there.

use super::*;
use crate::{
    TreeSender,
    disk::{Partial, folder::SPARE},
};
use std::{
    env, fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread::{self, JoinHandle},
    time::Instant,
};
use tokio::sync::mpsc;

/// A folder that is there as long as the test.
struct Place(PathBuf);

impl Place {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("pcp-tree-{}-{number}", std::process::id());
        let path = env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn folder(&self) -> Arc<Folder> {
        Arc::new(Folder::open(&self.0).unwrap())
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.0.join(name)).unwrap()
    }

    /// The names of what is not whole.
    fn hidden(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(RESERVED)).collect()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A tree under way: the sender's side of it, and the thread that receives.
struct Far {
    tree: TreeSender,
    to: Sender<Vec<Bytes>>,
    from: Receiver<Bytes>,
    landing: JoinHandle<Result<TreeReport, TreeLanding>>,
}

impl Far {
    fn new(place: &Place, existing: Existing) -> Self {
        Self::with(place, existing, TreeLimits::default(), FOLDER_BYTES)
    }

    fn with(place: &Place, existing: Existing, limits: TreeLimits, folders: usize) -> Self {
        let (to, input) = mpsc::channel(4);
        let (output, from) = mpsc::channel(8);
        let root = place.folder();
        let landing = thread::spawn(move || {
            let meter = Meter::default();
            let mut landing = Landing::new(&root, limits, existing, &meter);
            landing.folders_max = folders;
            landing.run(input, &output)
        });
        Self {
            tree: TreeSender::new(TreeLimits::default()),
            to,
            from,
            landing,
        }
    }

    /// Gives what waits to the receiver, as far as somebody is there.
    fn flush(&mut self) {
        while let Some(bytes) = self.tree.poll_output(1 << 18) {
            let _ = self.to.blocking_send(vec![bytes]);
        }
    }

    fn push(&mut self, entry: &TreeEntry) -> u64 {
        self.tree.push(entry).unwrap()
    }

    /// Names a file and waits until it is asked for. From which byte on.
    fn ask(&mut self, path: &str, size: u64) -> u64 {
        self.push(&file(path, size));
        self.flush();
        loop {
            if let Some(demand) = self.tree.demand() {
                return demand.offset;
            }
            self.hear();
        }
    }

    fn hear(&mut self) {
        let answer = self.from.blocking_recv().unwrap();
        self.tree.handle(&answer).unwrap();
    }

    /// Sends some of what was asked for.
    fn send(&mut self, bytes: &[u8]) {
        self.tree.data(&Bytes::copy_from_slice(bytes)).unwrap();
        self.flush();
    }

    /// Names a file and sends it.
    fn give(&mut self, path: &str, bytes: &[u8]) {
        assert_eq!(self.ask(path, bytes.len() as u64), 0);
        self.tree.begin(None).unwrap();
        if !bytes.is_empty() {
            self.send(bytes);
        }
        self.flush();
    }

    /// Waits until what was sent is dealt with.
    fn settle(&mut self) {
        let path = format!("settle-{}", self.tree.counts().1);
        self.give(&path, b"");
    }

    /// Says that nothing more follows.
    fn end(mut self) -> Result<TreeReport, TreeLanding> {
        self.tree.end();
        self.flush();
        self.landing.join().unwrap()
    }

    /// Is gone in the middle.
    fn vanish(self) -> Result<TreeReport, TreeLanding> {
        drop(self.to);
        self.landing.join().unwrap()
    }
}

fn path(text: &str) -> TreePath {
    TreePath::new(text).unwrap()
}

fn file(text: &str, size: u64) -> TreeEntry {
    TreeEntry::file(path(text), size)
}

/// Two trees with a file of the same name, which the second begins while the first is at it.
fn both(existing: Existing, contents: [&[u8]; 2], last: usize) -> Place {
    let place = Place::new();
    let mut first = Far::new(&place, existing);
    let mut second = Far::new(&place, existing);
    for (far, content) in [&mut first, &mut second].into_iter().zip(contents) {
        assert_eq!(far.ask("same", content.len() as u64), 0);
        far.tree.begin(None).unwrap();
        far.send(&content[..content.len() / 2]);
        // When this is answered, that was dealt with.
        far.push(&file("later", 0));
        far.flush();
        far.hear();
    }
    assert!(!place.0.join("same").exists(), "neither is whole");
    let mut ends = [Some(first), Some(second)];
    for at in [1 - last, last] {
        let mut far = ends[at].take().unwrap();
        far.send(&contents[at][contents[at].len() / 2..]);
        far.tree.begin(None).unwrap();
        let report = far.end().unwrap();
        assert_eq!((report.received, report.failures), (2, 0), "{report:?}");
    }
    assert_eq!(place.hidden(), [""; 0]);
    place
}

#[test]
fn two_trees_with_the_same_file_at_once_both_end_well() {
    let large: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let mut other = large.clone();
    other[SIZE - 1] ^= 1;
    for (one, other) in [(&b"the same"[..], &b"different"[..]), (&large, &other)] {
        for last in [0, 1] {
            let place = both(Existing::Rename, [one, one], last);
            assert!(place.read("same") == one);
            assert!(!place.0.join("same (1)").exists(), "they are equal");

            let place = both(Existing::Rename, [one, other], last);
            let contents = [one, other];
            assert!(place.read("same") == contents[1 - last]);
            assert!(place.read("same (1)") == contents[last]);

            let place = both(Existing::Overwrite, [one, other], last);
            assert!(place.read("same") == contents[last]);
        }
    }
}

#[test]
fn an_interrupted_file_goes_on_in_one_of_two_trees_and_comes_whole_in_the_other() {
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let place = Place::new();
    begun(&place, &content);
    let mut first = Far::new(&place, Existing::Rename);
    let offset = first.ask("large", SIZE as u64) as usize;
    assert_eq!(offset, 2 << 20);
    let mut second = Far::new(&place, Existing::Rename);
    second.give("large", &content);
    let report = second.end().unwrap();
    assert_eq!((report.received, report.failures), (1, 0), "{report:?}");
    first
        .tree
        .begin(Some(sha256_of(&content[..offset])))
        .unwrap();
    first.send(&content[offset..]);
    let report = first.end().unwrap();
    assert_eq!((report.received, report.failures), (1, 0), "{report:?}");
    assert!(place.read("large") == content);
    assert!(!place.0.join("large (1)").exists());
    assert_eq!(place.hidden(), [""; 0]);
}

#[test]
fn nothing_stays_of_what_was_received_beside_another() {
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let place = Place::new();
    let start = |far: &mut Far| {
        far.ask("large", SIZE as u64);
        far.tree.begin(None).unwrap();
        far.send(&content[..2 << 20]);
        far.push(&file("later", 0));
        far.flush();
        far.hear();
    };
    let mut first = Far::new(&place, Existing::Rename);
    start(&mut first);
    let mut second = Far::new(&place, Existing::Rename);
    start(&mut second);
    assert!(!second.vanish().unwrap().whole);
    let left = |place: &Place| place.hidden().len();
    assert_eq!(
        left(&place),
        2,
        "the first and its journal: {:?}",
        place.hidden()
    );

    // What a crash leaves of one goes with the next look at its name.
    let crashed = place.0.join(super::super::folder::beside_of("large", 1));
    fs::write(&crashed, b"left").unwrap();
    // And what one that has arrived beside it makes useless goes with its owner.
    let mut third = Far::new(&place, Existing::Rename);
    third.give("large", &content);
    assert_eq!(third.end().unwrap().received, 1);
    assert!(!crashed.exists());
    assert!(!first.vanish().unwrap().whole);
    assert!(place.read("large") == content);
    assert_eq!(place.hidden(), [""; 0]);
}

#[test]
fn small_files_get_their_names_also_when_nothing_more_comes() {
    let place = Place::new();
    let mut far = Far::new(&place, Existing::Rename);
    far.give("small", b"small");
    far.settle();
    assert!(!place.0.join("small").exists(), "it waits for others");
    thread::sleep(file::BATCH_AGE);
    far.to.blocking_send(Vec::new()).unwrap();
    let begun = Instant::now();
    while !place.0.join("small").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60));
        thread::sleep(Duration::from_millis(1));
    }
    let mut again = Far::new(&place, Existing::Rename);
    again.give("small", b"small");
    assert_eq!(again.end().unwrap().renamed, 1);
    assert_eq!(far.vanish().unwrap().received, 2);
}

/// A large file of which more than a half has arrived.
const SIZE: usize = 3 << 20;

fn begun(place: &Place, content: &[u8]) {
    let mut far = Far::new(place, Existing::Rename);
    assert_eq!(far.ask("large", SIZE as u64), 0);
    far.tree.begin(None).unwrap();
    far.send(&content[..2 << 20]);
    assert!(!far.vanish().unwrap().whole);
}

/// Asks for the rest, lets somebody do something with what is there, and sends it.
fn go_on(place: &Place, content: &[u8], between: impl FnOnce(&mut fs::File)) -> TreeReport {
    let mut far = Far::new(place, Existing::Rename);
    let offset = far.ask("large", SIZE as u64);
    assert_eq!(offset, 2 << 20);
    let part = place.0.join(temporary("large", "part"));
    let mut part = fs::File::options().read(true).write(true).open(part);
    between(part.as_mut().unwrap());
    let (front, rest) = content.split_at(2 << 20);
    far.tree.begin(Some(sha256_of(front))).unwrap();
    far.send(rest);
    far.end().unwrap()
}

#[test]
fn what_others_wrote_to_a_part_meanwhile_is_noticed() {
    let content: Vec<u8> = (0..SIZE).map(|at| (at / 7) as u8).collect();
    let place = Place::new();
    begun(&place, &content);
    let report = go_on(&place, &content, |part| part.write_all(b"others").unwrap());
    assert_eq!((report.received, report.failures), (0, 1), "{report:?}");
    assert!(!place.0.join("large").exists());

    let place = Place::new();
    begun(&place, &content);
    // The same bytes once more change nothing.
    let report = go_on(&place, &content, |part| {
        part.write_all(&content[..9]).unwrap()
    });
    assert_eq!((report.received, report.failures), (1, 0), "{report:?}");
    assert!(place.read("large") == content);
    assert_eq!(place.hidden(), [""; 0]);
}

#[test]
fn a_small_file_that_was_begun_alone_goes_on_as_a_whole() {
    let content: Vec<u8> = (0..900_000).map(|at| (at / 3) as u8).collect();
    let place = Place::new();
    go_on_small(&place, &content);
    assert!(place.read("small") == content);
    go_on_small(&place, &content);
    assert!(place.read("small (1)") == content);
}

fn go_on_small(place: &Place, content: &[u8]) {
    let entry = file("small", content.len() as u64);
    let name = entry.path.name();
    let offered = entry.to_file().unwrap();
    let mut partial = Partial::open(&place.folder(), &name, &offered, true).unwrap();
    let (front, rest) = content.split_at(500_000);
    partial.write(&[Bytes::copy_from_slice(front)]).unwrap();
    partial.note().unwrap();
    drop(partial);
    let mut far = Far::new(place, Existing::Rename);
    let offset = far.ask("small", content.len() as u64);
    assert_eq!(offset, 500_000);
    far.tree.begin(Some(sha256_of(front))).unwrap();
    far.send(rest);
    let report = far.end().unwrap();
    assert_eq!((report.received, report.failures), (1, 0), "{report:?}");
    assert_eq!(place.hidden(), [""; 0]);
}

fn sha256_of(bytes: &[u8]) -> Hasher {
    let mut hasher = Hasher::new([crate::HashAlgorithm::Sha256]);
    hasher.update(bytes);
    hasher
}

#[test]
fn one_that_gets_no_name_takes_none_from_the_others() {
    let place = Place::new();
    let mut far = Far::new(&place, Existing::Overwrite);
    for name in ["a", "b", "c"] {
        far.give(name, name.as_bytes());
    }
    // It comes after the plan.
    fs::create_dir(place.0.join("b")).unwrap();
    far.settle();
    let report = far.end().unwrap();
    assert_eq!((report.received, report.failures), (3, 1), "{report:?}");
    assert_eq!(report.failed[0].0, path("b"));
    assert_eq!(
        (place.read("a"), place.read("c")),
        (b"a".into(), b"c".into())
    );
    assert!(place.0.join("b").is_dir());
    assert_eq!(place.hidden(), [""; 0]);
}

#[test]
fn a_folder_in_the_place_of_a_file_is_seen_before_a_byte_is_sent() {
    for (existing, wanted) in [
        (Existing::Rename, true),
        (Existing::Overwrite, false),
        (Existing::Skip, false),
    ] {
        let place = Place::new();
        fs::create_dir(place.0.join("file")).unwrap();
        let mut far = Far::new(&place, existing);
        let number = far.push(&file("file", 5));
        far.flush();
        far.hear();
        assert_eq!(far.tree.is_open(number), wanted, "{existing:?}");
        if wanted {
            far.tree.begin(None).unwrap();
            far.send(b"whole");
        }
        far.give("other", b"other");
        let report = far.end().unwrap();
        let refused = u64::from(existing == Existing::Overwrite);
        assert_eq!(report.failures, refused, "{existing:?}: {report:?}");
        assert_eq!(report.received, 1 + u64::from(wanted), "{existing:?}");
        assert_eq!(place.0.join("file (1)").exists(), wanted, "{existing:?}");
        assert_eq!(place.read("other"), b"other");
        assert!(place.0.join("file").is_dir());
        assert_eq!(place.hidden(), [""; 0]);
    }
}

/// When something was changed, and its mode.
const DATE: (i64, u32) = (1_000_000_000, 5);

fn folder(text: &str, mode: u16) -> TreeEntry {
    TreeEntry {
        mode,
        modified: Some(DATE),
        ..TreeEntry::folder(path(text))
    }
}

fn look(place: &Place, name: &str) -> (u32, i64) {
    let metadata = fs::metadata(place.0.join(name)).unwrap();
    (metadata.mode() & 0o777, metadata.mtime())
}

#[test]
fn folders_that_are_there_keep_their_modes_and_times() {
    let place = Place::new();
    let ssh = place.0.join(".ssh");
    fs::create_dir(&ssh).unwrap();
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o700)).unwrap();
    let before = look(&place, ".ssh");
    let mut far = Far::new(&place, Existing::Rename);
    far.push(&folder(".ssh", 0o777));
    far.push(&folder(".ssh/new", 0o750));
    far.push(&folder("new", 0o077));
    far.give("new/file", b"new");
    assert_eq!(far.end().unwrap().failures, 0);
    assert_eq!(look(&place, ".ssh").0, before.0);
    assert!(look(&place, ".ssh").1 >= before.1);
    assert_eq!(look(&place, ".ssh/new"), (0o750, DATE.0));
    assert_eq!(look(&place, "new"), (0o777, DATE.0), "ours to enter");

    // One that is as its sender's is was perhaps made by a part of the same tree, and stays so.
    let mut far = Far::new(&place, Existing::Rename);
    far.push(&folder("new", 0o077));
    far.give("new/more", b"more");
    assert_eq!(far.end().unwrap().failures, 0);
    assert_eq!(look(&place, "new"), (0o777, DATE.0));
}

#[test]
fn of_folders_no_more_is_kept_than_so_many_bytes() {
    let place = Place::new();
    let mut far = Far::with(&place, Existing::Rename, TreeLimits::default(), 64 << 10);
    let deep = "d".repeat(200);
    far.push(&folder(&deep, 0o755));
    for number in 0..400 {
        far.push(&folder(&format!("{deep}/{number}"), 0o755));
    }
    far.settle();
    let dressed = |number: &u32| look(&place, &format!("{deep}/{number}")).1 == DATE.0;
    let early = (0..400).filter(dressed).count();
    assert!((200..400).contains(&early), "{early}");
    let report = far.end().unwrap();
    assert_eq!((report.failures, report.received), (0, 1), "{report:?}");
    assert_eq!((0..400).filter(dressed).count(), 400);
}

/// Says where a small disk is.
const SMALL_DISK: &str = "PCP_TEST_SMALL_DISK";

#[test]
fn a_disk_is_not_filled_up_and_nothing_stays_that_cannot_go_on() {
    if let Ok(path) = env::var(SMALL_DISK) {
        let place = Place(path.into());
        what_leaves_no_room_is_not_begun(&place);
        a_file_of_unknown_size_leaves_room(&place);
        small_files_leave_room(&place);
        what_is_large_goes_on_when_there_is_room_again(&place);
        return what_is_small_goes_when_the_disk_is_full(&place);
    }
    let tried = Command::new("unshare").args(["-m", "true"]).status();
    if !tried.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no mount namespace here (unshare -m): a small disk cannot be tried");
        return;
    }
    let place = Place::new();
    let mount = format!(
        "mount -t tmpfs -o size=48m none '{}' && exec \"$@\"",
        place.0.display()
    );
    let name = "a_disk_is_not_filled_up_and_nothing_stays_that_cannot_go_on";
    let ended = Command::new("unshare")
        .args(["-m", "sh", "-c", &mount, "sh"])
        .arg(env::current_exe().unwrap())
        .args([name, "--nocapture"])
        .env(SMALL_DISK, &place.0)
        .output();
    let ended = ended.unwrap();
    let text = String::from_utf8_lossy(&ended.stderr);
    assert!(ended.status.success(), "{text}");
    assert!(String::from_utf8_lossy(&ended.stdout).contains("1 passed"));
}

fn room(place: &Place) -> u64 {
    place.folder().room().unwrap()
}

fn is_full(landed: &Result<TreeReport, TreeLanding>) -> bool {
    matches!(landed, Err(TreeLanding::Disk(error)) if error.problem == DiskProblem::Full)
}

/// Leaves no room at all, until it is taken away.
fn fill(place: &Place) -> PathBuf {
    let path = place.0.join("ballast");
    let mut file = fs::File::create(&path).unwrap();
    while file.write_all(&[1; 4_096]).is_ok() {}
    path
}

fn what_leaves_no_room_is_not_begun(place: &Place) {
    let before = room(place);
    let mut far = Far::new(place, Existing::Rename);
    far.ask("large", 40 << 20);
    far.tree.begin(None).unwrap();
    far.send(&[1; 1 << 20]);
    let landed = far.vanish();
    assert!(is_full(&landed), "{landed:?}");
    assert_eq!((place.hidden(), room(place)), (Vec::new(), before));
}

fn a_file_of_unknown_size_leaves_room(place: &Place) {
    let name = FileName::last_of("stream").unwrap();
    let mut partial = Partial::open(&place.folder(), &name, &crate::File::default(), true).unwrap();
    let piece = [Bytes::from(vec![1; 1 << 20])];
    let error = (0..48).find_map(|_| partial.write(&piece).err()).unwrap();
    assert_eq!(error.problem, DiskProblem::Full);
    assert!(partial.offset() >= 16 << 20, "{}", partial.offset());
    assert!(room(place) >= SPARE, "{}", room(place));
    partial.discard().unwrap();
}

fn small_files_leave_room(place: &Place) {
    let mut far = Far::new(place, Existing::Rename);
    let mut given = 0;
    for number in 0..200 {
        far.push(&file(&format!("small{number}"), 500_000));
        far.flush();
        let Some(answer) = far.from.blocking_recv() else {
            break;
        };
        far.tree.handle(&answer).unwrap();
        far.tree.begin(None).unwrap();
        far.send(&[1; 500_000]);
        given = number;
    }
    let landed = far.vanish();
    assert!(is_full(&landed), "{given}: {landed:?}");
    assert!(given > 50, "{given}");
    let left = room(place);
    assert!(
        (SPARE - (1 << 20)..SPARE + (1 << 20)).contains(&left),
        "{left}"
    );
    assert_eq!(place.hidden(), [""; 0]);
    for number in 0..200 {
        let _ = fs::remove_file(place.0.join(format!("small{number}")));
    }
}

fn what_is_large_goes_on_when_there_is_room_again(place: &Place) {
    let content = vec![7; 20 << 20];
    let mut far = Far::new(place, Existing::Rename);
    far.ask("large", content.len() as u64);
    far.tree.begin(None).unwrap();
    far.send(&content[..4 << 20]);
    far.push(&file("later", 0));
    far.flush();
    far.hear();
    let ballast = fill(place);
    far.send(&content[4 << 20..8 << 20]);
    let landed = far.vanish();
    assert!(is_full(&landed), "{landed:?}");
    fs::remove_file(ballast).unwrap();
    let mut far = Far::new(place, Existing::Rename);
    let offset = far.ask("large", content.len() as u64) as usize;
    assert!(offset >= 4 << 20, "{offset}");
    far.tree.begin(Some(sha256_of(&content[..offset]))).unwrap();
    far.send(&content[offset..]);
    assert_eq!(far.end().unwrap().received, 1);
    assert!(place.read("large") == content);
    fs::remove_file(place.0.join("large")).unwrap();
    assert_eq!(place.hidden(), [""; 0]);
}

fn what_is_small_goes_when_the_disk_is_full(place: &Place) {
    let mut far = Far::new(place, Existing::Rename);
    far.ask("small", 900_000);
    far.tree.begin(None).unwrap();
    far.send(&[1; 400_000]);
    far.push(&file("later", 0));
    far.flush();
    far.hear();
    let ballast = fill(place);
    far.send(&[1; 500_000]);
    let landed = far.vanish();
    assert!(is_full(&landed), "{landed:?}");
    assert_eq!(place.hidden(), [""; 0]);
    fs::remove_file(ballast).unwrap();
}
