//! Every transport with every kind of content.

use super::{
    kit::{Place, Program, bytes, is_long, sha256},
    names::{ODD, list},
};
use std::{fs, os::unix::fs::FileExt as _, path::Path};

/// How the two reach each other, and what that needs to be said.
const WAYS: [(&str, &[&str]); 5] = [
    ("ice", &[]),
    ("ice-tcp", &[]),
    ("raw-udp", &[]),
    ("s5b", &["--allow-plaintext"]),
    ("ibb", &["--allow-plaintext"]),
];

const SIZES: [usize; 4] = [0, 1, (1 << 20) - 1, 1 << 20];

/// A large file with holes, and something at its beginning, in its midst and at its end.
fn sparse(path: &Path, size: u64) {
    let file = fs::File::create(path).unwrap();
    file.set_len(size).unwrap();
    for at in [0, size / 2 + 4_097, size - 1_000] {
        file.write_all_at(&bytes(1_000, at), at).unwrap();
    }
}

fn forest(place: &Place, files: usize) {
    for (at, name) in ODD.iter().enumerate() {
        place.write(
            &format!("out/tree/{name}/{name}"),
            &bytes(at * 1_000, at as u64),
        );
    }
    let deep = vec!["deep"; 60].join("/");
    place.write(&format!("out/tree/{deep}/leaf"), b"leaf");
    fs::create_dir_all(place.path("out/tree/empty/emptier")).unwrap();
    for number in 0..files {
        place.write(
            &format!("out/tree/many/{}/{number}", number % 17),
            &bytes(number % 3_400, number as u64),
        );
    }
}

fn send(place: &Place, what: &str, words: &[&str]) -> Program {
    let mut all = vec!["send", what, "bob@localhost"];
    all.extend(words);
    place.run("alice", &all)
}

#[test]
fn every_transport_carries_every_kind_of_content() {
    for (way, more) in WAYS {
        let place = Place::new(way);
        let mut words = vec!["--transports", way];
        words.extend(more);
        let transfers = (SIZES.len() + 2).to_string();
        let mut receiving = words.clone();
        receiving.extend(["--count", &transfers]);
        let receiver = place.receiver("bob", "in", &receiving);
        for size in SIZES {
            let path = place.write(&format!("out/file{size}"), &bytes(size, size as u64));
            let ended = send(&place, &path, &words).succeed();
            let sent = ended.event("sent");
            assert_eq!(sent["sha256"], sha256(Path::new(&path)), "{way} {size}");
            let protection = sent["protection"].as_str().unwrap();
            let encrypted = protection.starts_with("encrypted: QUIC");
            assert!(
                encrypted == more.is_empty() || size == 0,
                "{way} {protection}"
            );
        }
        let size = match (is_long(), way) {
            (true, "ice") => 5 << 30,
            (_, "ibb") => 6 << 20,
            _ => 48 << 20,
        };
        let path = place.path("out/sparse");
        sparse(&path, size);
        send(&place, path.to_str().unwrap(), &words).succeed();
        forest(&place, if is_long() { 10_000 } else { 800 });
        let sent = send(&place, &place.text("out/tree"), &words).succeed();
        assert_eq!(sent.event("sent")["failed"], 0, "{way}");
        receiver.succeed();
        for size in SIZES {
            let arrived = fs::read(place.path(&format!("in/file{size}"))).unwrap();
            assert!(arrived == bytes(size, size as u64), "{way} {size}");
        }
        assert_eq!(sha256(&place.path("in/sparse")), sha256(&path), "{way}");
        let (ours, theirs) = (list(&place.path("out/tree")), list(&place.path("in/tree")));
        assert_eq!(ours.len(), theirs.len(), "{way}");
        for (ours, theirs) in ours.iter().zip(&theirs) {
            assert!(ours == theirs, "{way}: {} {}", ours.0, theirs.0);
        }
        place.assert_clean("in");
    }
}

/// Whoever keeps what is there has it told on both sides, of a file alone and of one in a folder.
#[test]
fn what_is_not_taken_as_another_is_there_is_told_on_both_sides() {
    let place = Place::new("refused");
    place.write("in/photo", b"of bob");
    place.write("in/tree/photo", b"of bob");
    let file = place.write("out/photo", b"of alice, longer");
    place.write("out/tree/photo", b"of alice, longer");
    place.write("out/tree/new", b"new");
    let receiver = place.receiver("bob", "in", &["--existing", "skip", "--count", "2"]);
    let ended = send(&place, &file, &[]).finish();
    assert_eq!((ended.code, ended.problem()), (Some(4), "declined"));
    let ended = send(&place, &place.text("out/tree"), &[]).finish();
    assert_eq!(ended.code, Some(1), "{ended:?}");
    let sent = ended.event("sent");
    let counts = ["files", "skipped", "refused", "failed"].map(|key| sent[key].as_u64());
    assert_eq!(counts, [1, 0, 1, 1].map(Some), "{sent}");
    let why = ended.event("left-out")["why"].as_str().unwrap();
    assert!(why.contains("another file has its name"), "{why}");
    let ended = receiver.succeed();
    assert_eq!(ended.event("refused")["name"], "photo");
    assert_eq!(ended.event("received")["refused"], 1);
    for name in ["in/photo", "in/tree/photo"] {
        assert_eq!(fs::read(place.path(name)).unwrap(), b"of bob");
    }
    assert_eq!(fs::read(place.path("in/tree/new")).unwrap(), b"new");
    place.assert_clean("in");
}

#[test]
fn a_stream_goes_through_and_a_shared_file_is_fetched() {
    use std::{io::Write as _, process::Stdio};
    let place = Place::new("streams");
    let content = bytes(3_000_000, 8);
    let receiver = place.receiver("bob", "in", &["--count", "1"]);
    let words = place.words(
        "alice",
        &["send", "-", "bob@localhost", "--name", "all.tar"],
    );
    let mut command = std::process::Command::new(&words[0]);
    command.args(&words[1..]);
    let mut sender = Program::spawn(command, Stdio::piped());
    let mut input = sender.input();
    input.write_all(&content).unwrap();
    // The end comes by itself, when everything else has long arrived.
    std::thread::sleep(std::time::Duration::from_millis(500));
    drop(input);
    assert_eq!(sender.succeed().event("sent")["confirmed"], true);
    receiver.succeed();
    assert!(fs::read(place.path("in/all.tar")).unwrap() == content);

    place.write("shelf/photos/beach.jpg", &content);
    let shelf = place.text("shelf");
    let mut sharer = place.run("carol", &["share", &shelf]);
    sharer.event("ready");
    let into = place.text("in");
    let get = |what: &str| place.run("alice", &["get", what, "--into", &into]);
    get("carol@localhost:photos/beach.jpg").succeed();
    assert!(fs::read(place.path("in/beach.jpg")).unwrap() == content);
    let ended = get("carol@localhost:photos/none.jpg").finish();
    assert_eq!((ended.code, ended.problem()), (Some(1), "no-such-file"));
}

/// What a pipe gives arrives at once, and nobody waits for a pipe when the other side has gone.
#[test]
fn a_stream_is_not_one_piece_behind_and_ends_with_its_receiver() {
    use std::{io::Write as _, process::Stdio, time::Duration};
    let place = Place::new("pipe");
    let mut receiver = place.receiver("bob", "in", &["--count", "1"]);
    let words = place.words("alice", &["send", "-", "bob@localhost", "--name", "log"]);
    let mut command = std::process::Command::new(&words[0]);
    command.args(&words[1..]);
    let mut sender = Program::spawn(command, Stdio::piped());
    let mut input = sender.input();
    input.write_all(b"hello").unwrap();
    receiver.event("begin");
    let told = |_| receiver.event("progress")["done"] == 5;
    assert!((0..10).any(told), "they arrive while the pipe is open");
    receiver.ask_to_end();
    // The pipe stays as it is, and says nothing.
    let over = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(100));
        sender.is_over()
    });
    assert!(over, "the sender waits for its pipe");
    let ended = sender.finish();
    assert_eq!(ended.problem(), "cancelled", "{ended:?}");
    drop(input);
}
