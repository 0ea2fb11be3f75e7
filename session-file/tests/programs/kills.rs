//! Processes that are killed, and links that are lost.

use super::kit::{Place, Program, bytes, sha256};
use std::{
    thread,
    time::{Duration, Instant},
};

/// Within so long a peer that was killed is missed: it stands still for 10 s, then its server is asked.
const MISSED: Duration = Duration::from_secs(25);

fn send(place: &Place, path: &str, words: &[&str]) -> Program {
    let mut all = vec!["send", path, "bob@localhost"];
    all.extend(words);
    place.run("alice", &all)
}

/// A path that is noticed late to be gone, and a connection that breaks at once.
const WAYS: [&[&str]; 2] = [
    &["--transports", "ice"],
    &["--transports", "s5b", "--allow-plaintext"],
];

/// A file of which so much has arrived that going on is worth it: its path, who sends it, and who receives it.
fn under_way(place: &Place, way: &[&str]) -> (String, Program, Program) {
    let path = place.write("out/file", &bytes(24_000_000, 3));
    let mut receiver = place.receiver("bob", "in", way);
    let mut words = way.to_vec();
    words.extend(["--limit", "4M"]);
    let sender = send(place, &path, &words);
    // What is there is put down every two seconds.
    for _ in 0..4 {
        receiver.event("progress");
    }
    (path, sender, receiver)
}

#[test]
fn a_receiver_that_is_killed_is_missed_and_the_same_command_goes_on() {
    for way in WAYS {
        let place = Place::new("missed");
        let (path, sender, receiver) = under_way(&place, way);
        receiver.kill();
        let killed = Instant::now();
        let ended = sender.finish();
        assert!(killed.elapsed() < MISSED, "{:?}", killed.elapsed());
        // A TCP connection breaks at once, and nothing else is left.
        let problem = match way.len() {
            2 => "peer-gone",
            _ => "connection-lost",
        };
        assert_eq!(
            (ended.code, ended.problem()),
            (Some(1), problem),
            "{ended:?}"
        );
        assert!(!place.path("in/file").exists());
        let mut words = vec!["--count", "1"];
        words.extend(way);
        let receiver = place.receiver("bob", "in", &words);
        let ended = send(&place, &path, way).succeed();
        assert!(
            ended.event("sent")["offset"].as_u64().unwrap() > 0,
            "{ended:?}"
        );
        receiver.succeed();
        assert_eq!(sha256(&place.path("in/file")), sha256(path.as_ref()));
        place.assert_clean("in");
    }
}

#[test]
fn a_sender_that_is_killed_is_missed_and_the_same_command_goes_on() {
    for way in WAYS {
        let place = Place::new("missing");
        let (path, sender, mut receiver) = under_way(&place, way);
        sender.kill();
        // Whoever receives waits for another transport where a connection breaks, until the server says that nobody is there.
        let problem = receiver.event_within("peer-gone", MISSED);
        assert!(problem["hint"].is_string(), "{problem}");
        assert!(!place.path("in/file").exists());
        let ended = send(&place, &path, way).succeed();
        assert!(
            ended.event("sent")["offset"].as_u64().unwrap() > 0,
            "{ended:?}"
        );
        receiver.event("received");
        assert_eq!(sha256(&place.path("in/file")), sha256(path.as_ref()));
        place.assert_clean("in");
    }
}

/// A number from a seed, below `most`.
fn number(seed: u64, most: u64) -> u64 {
    let raw: [u8; 8] = bytes(8, seed.wrapping_add(77))[..].try_into().unwrap();
    u64::from_le_bytes(raw) % most
}

#[test]
fn whoever_is_killed_at_whatever_moment_nothing_is_lost_or_corrupted() {
    let kills = std::env::var("PCP_KILLS").ok();
    let kills: u64 = kills.and_then(|kills| kills.parse().ok()).unwrap_or(10);
    let place = Place::new("kills");
    let path = place.write("out/file", &bytes(16_000_000, 5));
    let hash = sha256(path.as_ref());
    let (mut killed, mut whole, mut resumed) = (0, 0, 0);
    while killed < kills {
        let into = format!("in{whole}");
        let mut receiver = place.receiver("bob", &into, &["--count", "1"]);
        let mut sender = send(&place, &path, &["--limit", "4M"]);
        let seed = killed * 4;
        thread::sleep(Duration::from_millis(number(seed, 4_500)));
        let over = sender.is_over() || receiver.is_over();
        let target = place.path(&format!("{into}/file"));
        match number(seed + 1, 3) {
            _ if over => {}
            0 => receiver.crash(),
            1 => sender.crash(),
            // Both at once.
            _ => {}
        }
        // The rest dies a little later: nobody waits to be missed.
        thread::sleep(Duration::from_millis(number(seed + 2, 200)));
        receiver.crash();
        sender.crash();
        killed += 1;
        if target.exists() {
            // Whole, or not there at all.
            assert_eq!(sha256(&target), hash, "after {killed}");
            whole += 1;
            continue;
        }
        if number(seed + 3, 2) == 0 {
            // And again, before it is whole.
            continue;
        }
        let receiver = place.receiver("bob", &into, &["--count", "1"]);
        let ended = send(&place, &path, &[]).succeed();
        receiver.succeed();
        resumed += u64::from(ended.event("sent")["offset"].as_u64() > Some(0));
        assert_eq!(sha256(&target), hash, "after {killed}");
        place.assert_clean(&into);
        whole += 1;
    }
    eprintln!("killed {killed} times: {whole} files came, {resumed} of them went on after that");
    assert!(whole > 0);
}

#[test]
fn a_server_that_is_gone_for_a_while_does_not_stop_a_file() {
    let mut place = Place::new("link");
    let path = place.write("out/file", &bytes(24_000_000, 6));
    let mut receiver = place.receiver("bob", "in", &["--count", "1"]);
    let sender = send(&place, &path, &["--limit", "4M"]);
    receiver.event("progress");
    place.server.shut();
    thread::sleep(Duration::from_secs(1));
    place.server.open();
    let ended = sender.succeed();
    assert_eq!(ended.event("sent")["confirmed"], true);
    receiver.succeed();
    assert_eq!(sha256(&place.path("in/file")), sha256(path.as_ref()));
    place.assert_clean("in");
}
