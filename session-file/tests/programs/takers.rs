//! Which of an account's programs is met, and how those end that wait until they are asked to.

use super::kit::{Place, Program, bytes};
use std::{
    fs,
    io::Write as _,
    process::{ChildStdin, Command, Stdio},
    thread,
    time::Duration,
};

/// How long something small may take: far less than anybody waits who is not answered.
const SOON: Duration = Duration::from_secs(30);

/// Bob sends to Carol for as long as the result's pipe is open.
fn sends_for_long(place: &Place) -> (Program, Program, ChildStdin) {
    let mut carol = place.receiver("carol", "of-carol", &[]);
    let words = place.words("bob", &["send", "-", "carol@localhost", "--name", "log"]);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    let mut sender = Program::spawn(command, Stdio::piped());
    let mut input = sender.input();
    input.write_all(b"hello").unwrap();
    carol.event("begin");
    (sender, carol, input)
}

#[test]
fn what_is_sent_goes_to_who_receives_and_not_to_who_sends_himself() {
    let place = Place::new("beside");
    let photo = place.write("out/photo", b"photo");
    let receiver = place.receiver("bob", "in", &["--count", "1"]);
    let _sending = sends_for_long(&place);
    let send = || place.run("alice", &["send", &photo, "bob@localhost"]);
    let mut sender = send();
    sender.event_within("sent", SOON);
    sender.succeed();
    receiver.succeed();
    assert_eq!(fs::read(place.path("in/photo")).unwrap(), b"photo");
    // Now there is nobody but who sends.
    let mut sender = send();
    let is_over = (0..SOON.as_secs() * 10).any(|_| {
        thread::sleep(Duration::from_millis(100));
        sender.is_over()
    });
    assert!(is_over, "nobody is asked, and nobody answers");
    let ended = sender.finish();
    assert_eq!((ended.code, ended.problem()), (Some(1), "peer-cannot"));
}

#[test]
fn what_is_sent_goes_to_who_receives_and_what_is_fetched_comes_from_who_shares() {
    let place = Place::new("both");
    let (photo, song) = (bytes(100_000, 1), bytes(100_000, 2));
    let path = place.write("out/photo", &photo);
    place.write("shelf/song", &song);
    let shelf = place.text("shelf");
    let share = |user: &str| {
        let mut program = place.run(user, &["share", &shelf]);
        program.event("ready");
        program
    };
    // Of two that are alike the one is taken that was heard of last.
    let _bob = (place.receiver("bob", "in", &[]), share("bob"));
    let _carol = (share("carol"), place.receiver("carol", "in", &[]));
    let sent = place.run("alice", &["send", &path, "bob@localhost"]);
    sent.succeed();
    assert!(fs::read(place.path("in/photo")).unwrap() == photo);
    let into = place.text("got");
    let got = place.run("alice", &["get", "carol@localhost:song", "--into", &into]);
    got.succeed();
    assert!(fs::read(place.path("got/song")).unwrap() == song);
}

#[test]
fn who_waits_until_he_is_asked_to_end_ends_well() {
    let place = Place::new("asked");
    let photo = place.write("out/photo", b"photo");
    let asked = |program: Program| {
        program.ask_to_end();
        let ended = program.finish();
        (ended.code, ended.problem().to_owned())
    };
    let mut receiver = place.receiver("bob", "in", &[]);
    let sent = place.run("alice", &["send", &photo, "bob@localhost"]);
    receiver.event("received");
    sent.succeed();
    assert_eq!(asked(receiver), (Some(0), String::new()));
    let mut sharer = place.run("bob", &["share", &place.text("out")]);
    sharer.event("ready");
    assert_eq!(asked(sharer), (Some(0), String::new()));
    // Who is to take so many has not, and what is under way is not whole.
    let counting = place.receiver("bob", "in", &["--count", "1"]);
    assert_eq!(asked(counting), (Some(1), "interrupted".to_owned()));
    let (_sender, carol, _pipe) = sends_for_long(&place);
    assert_eq!(asked(carol), (Some(1), "interrupted".to_owned()));
}
