//! Disks that are full, and files that may not be read or written.

use super::kit::{Ended, Place, Program, bytes, sha256};
use std::{
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    process::{Command, Stdio},
    thread,
};

/// Runs `pcp` within something else: a shell's limits, another user, another view of the file system.
fn within(place: &Place, outer: &[&str], user: &str, words: &[&str]) -> Program {
    let mut command = Command::new(outer[0]);
    command.args(&outer[1..]).args(place.words(user, words));
    Program::spawn(command, Stdio::null())
}

/// Sends what has no size to be checked beforehand.
fn send_stream(place: &Place, content: Vec<u8>) -> Ended {
    let words = place.words("alice", &["send", "-", "bob@localhost", "--name", "file"]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut sender = Program::spawn(command, Stdio::piped());
    let mut input = sender.input();
    // It stops reading when the other side has failed.
    let writing = thread::spawn(move || input.write_all(&content));
    let ended = sender.finish();
    let _ = writing.join();
    ended
}

#[test]
fn a_full_disk_is_told_to_both_and_leaves_no_file() {
    // Files of at most 4 MiB, in blocks of 512 bytes; the signal would end a program that does not ask for the error.
    let limit = "trap '' XFSZ; ulimit -f 8192; exec \"$@\"";
    let place = Place::new("limit");
    let into = place.text("in");
    let words = ["receive", "--into", &into, "--count", "1"];
    let mut receiver = within(&place, &["sh", "-c", limit, "sh"], "bob", &words);
    receiver.event("ready");
    let sent = send_stream(&place, bytes(12_000_000, 1));
    let received = receiver.finish();
    assert_eq!(
        (received.code, received.problem()),
        (Some(1), "disk"),
        "{received:?}"
    );
    assert_eq!(
        (sent.code, sent.problem()),
        (Some(1), "peer-failed"),
        "{sent:?}"
    );
    assert!(!place.path("in/file").exists());

    if !can_mount() {
        eprintln!("SKIPPED: no mount namespace here (unshare -m): a small disk cannot be tried");
        return;
    }
    let place = Place::new("small");
    let into = place.text("in");
    fs::create_dir_all(&into).unwrap();
    let mount = format!("mount -t tmpfs -o size=6m none '{into}' && exec \"$@\"");
    let words = ["receive", "--into", &into, "--count", "2"];
    let outer = ["unshare", "-m", "sh", "-c", &mount, "sh"];
    let mut receiver = within(&place, &outer, "bob", &words);
    receiver.event("ready");
    let sent = send_stream(&place, bytes(12_000_000, 1));
    assert_eq!(
        (sent.code, sent.problem()),
        (Some(1), "peer-failed"),
        "{sent:?}"
    );
    // What says how large it is, is refused before a byte is sent.
    let path = place.write("out/large", &bytes(7_000_000, 2));
    let sent = place
        .run("alice", &["send", &path, "bob@localhost"])
        .finish();
    assert_eq!(
        (sent.code, sent.problem()),
        (Some(1), "peer-failed"),
        "{sent:?}"
    );
    let received = receiver.finish();
    assert_eq!(
        (received.code, received.problem()),
        (Some(1), "disk-full"),
        "{received:?}"
    );
}

fn can_mount() -> bool {
    let tried = Command::new("unshare").args(["-m", "true"]).status();
    tried.is_ok_and(|status| status.success())
}

/// What makes `pcp` somebody who may not do everything.
fn nobody() -> &'static [&'static str] {
    match fs::metadata("/proc/self").unwrap().uid() == 0 {
        true => &[
            "setpriv",
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
        ],
        false => &["env"],
    }
}

#[test]
fn what_may_not_be_read_or_written_is_told_by_name() {
    let place = Place::new("denied");
    let path = place.write("out/secret", &bytes(1_000, 1));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o000)).unwrap();
    let ended = within(&place, nobody(), "alice", &["send", &path, "bob@localhost"]).finish();
    assert_eq!(
        (ended.code, ended.problem()),
        (Some(1), "not-allowed"),
        "{ended:?}"
    );

    fs::create_dir_all(place.path("in")).unwrap();
    fs::set_permissions(place.path("in"), fs::Permissions::from_mode(0o555)).unwrap();
    let into = place.text("in");
    let words = ["receive", "--into", &into, "--count", "1"];
    let mut receiver = within(&place, nobody(), "bob", &words);
    receiver.event("ready");
    let path = place.write("out/file", &bytes(1_000, 1));
    let sent = place
        .run("alice", &["send", &path, "bob@localhost"])
        .finish();
    assert_ne!(sent.code, Some(0), "{sent:?}");
    let received = receiver.finish();
    assert_eq!(
        (received.code, received.problem()),
        (Some(1), "not-allowed"),
        "{received:?}"
    );
    assert!(!place.path("in/file").exists());

    let ended = place
        .run("alice", &["send", &place.text("out/none"), "bob@localhost"])
        .finish();
    assert_eq!(
        (ended.code, ended.problem()),
        (Some(1), "no-such-file"),
        "{ended:?}"
    );
}

#[test]
fn a_source_that_changes_is_told_and_goes_anew() {
    let place = Place::new("changed");
    let path = place.write("out/log", &bytes(12_000_000, 1));
    let mut receiver = place.receiver("bob", "in", &[]);
    let words = ["send", &path, "bob@localhost", "--limit", "4M"];
    let sender = place.run("alice", &words);
    receiver.event("progress");
    fs::write(&path, bytes(12_000_000, 2)).unwrap();
    let ended = sender.finish();
    assert_eq!(
        (ended.code, ended.problem()),
        (Some(1), "file-changed"),
        "{ended:?}"
    );
    assert!(!place.path("in/log").exists());
    place.run("alice", &words[..3]).succeed();
    receiver.event("received");
    assert_eq!(sha256(&place.path("in/log")), sha256(path.as_ref()));
    place.assert_clean("in");
}

#[test]
fn nobody_there_is_told() {
    let place = Place::new("nobody");
    let path = place.write("out/file", b"x");
    let ended = place
        .run("alice", &["send", &path, "bob@localhost"])
        .finish();
    assert_eq!(
        (ended.code, ended.problem()),
        (Some(1), "peer-offline"),
        "{ended:?}"
    );
}
