//! Calls where more than one device has a part: who dials whom at once, who takes what, and what moves.

use crate::{
    kit::{Running, STRANGER},
    place, waiting,
};
use serde_json::Value;

/// Both speak, and one hangs up.
fn speak(mut one: Running, other: Running) {
    one.event("connected");
    other.event("connected");
    one.press("q");
    one.end().assert_well();
    other.end().assert_well();
}

/// Who dials each other wants this very call: whichever offer counts, both speak. The first waits until the second is there.
#[test]
fn who_dial_each_other_at_once_speak() {
    let place = place("crossed");
    let (alice, bob) = (place.address("alice"), place.address("bob"));
    let dial = |who: &str, to: &str| place.call(who, &["dial", to, "--ring", "20"]);
    for _ in 0..3 {
        // Both are announced.
        let first = dial("alice", &bob);
        speak(first, dial("bob/desk", &alice));
        // One of them names the device.
        let first = dial("alice", &bob);
        first.event("online");
        speak(first, dial("bob/desk", &format!("{alice}/here")));
        // None of them is announced.
        let first = dial("bob/phone", &bob);
        speak(first, dial("bob/desk", &bob));
    }
}

/// All other devices of the account still ring for a second call, and one of them takes it.
#[test]
fn who_speaks_leaves_other_calls_to_other_devices() {
    let place = place("leaves");
    let bob = place.address("bob");
    let desk = waiting(&place, "bob/desk", &[]);
    let mut alice = place.call("alice", &["dial", &bob]);
    desk.event("connected");
    alice.event("connected");
    let phone = waiting(&place, "bob/phone", &["--after", "1"]);
    let carol = place.call("carol", &["dial", &bob]);
    carol.wait("ringing", |event| {
        event["event"] == "ringing" && event["by"] == format!("{bob}/phone")
    });
    speak(carol, phone);
    assert!(!desk.has("done"), "the first call goes on");
    alice.press("q");
    alice.end().assert_well();
    desk.end().assert_well();
}

/// A call goes on at another device of who speaks, without a question (XEP-0353 §4.2), and as muted as it was.
#[test]
fn a_call_moves_to_another_device_of_the_peer() {
    let place = place("moves");
    let bob = place.address("bob");
    let mut desk = waiting(&place, "bob/desk", &["--after", "0.5"]);
    let first = place.call("alice/first", &["dial", &bob]);
    first.event("connected");
    desk.event("connected");
    desk.press("m");
    first.event("muted");
    let mut second = place.call("alice/second", &["dial", &bob]);
    let moved = desk.event("moved");
    assert_eq!(
        moved["to"],
        format!("{}/second", place.address("alice")),
        "{moved}"
    );
    first.end().assert_well();
    second.event("connected");
    second.event("muted");
    desk.press("m");
    second.wait("muted", |event| {
        event["event"] == "muted" && event["on"] == false
    });
    second.press("q");
    second.end().assert_well();
    let desk = desk.end();
    desk.assert_well();
    let connected = |event: &&Value| event["event"] == "connected";
    assert_eq!(desk.events.iter().filter(connected).count(), 2);
    assert!(desk.done()["cause"].as_str().unwrap().contains("success"));
}

/// Announcements go to others; our own devices are called directly, and this one is none of them.
#[test]
fn our_own_account_is_another_device_of_ours() {
    let place = place("own");
    let desk = waiting(&place, "bob/desk", &[]);
    let phone = place.call("bob/phone", &["dial", &place.address("bob")]);
    let calling = phone.event("calling");
    assert_eq!(calling["peer"], format!("{}/desk", place.address("bob")));
    speak(phone, desk);
    let alone = place.call("bob/phone", &["dial", &place.address("bob")]);
    alone.end().assert_problem(1, "peer-offline");
}

/// What is pressed while it rings is not lost in silence: mute and hold wait for the answer, digits are refused.
#[test]
fn keys_before_the_answer_are_kept_or_refused() {
    let place = place("before");
    let pressed = |running: &Running| {
        running.wait("switched", |event| {
            event["event"] == "switched" && event["what"] == "mute" && event["on"] == true
        });
        running.event("refused");
    };
    let to_account = place.address("bob");
    let to_device = format!("{to_account}/desk");
    for to in [&to_account, &to_device] {
        let at_b = place.path("at-b.wav");
        let words = ["--after", "3", "--record", &at_b];
        let bob = waiting(&place, "bob/desk", &words);
        let mut alice = place.call("alice", &["dial", to]);
        bob.event("offered");
        alice.press("m5");
        pressed(&alice);
        assert!(!alice.has("connected"));
        alice.event("connected");
        bob.event("muted");
        alice.wait("sound", |event| event["event"] == "quality");
        alice.press("q");
        alice.end().assert_well();
        bob.end().assert_well();
        assert!(place.loudest("at-b.wav") < 0.001, "{to}");
    }
    // Who is called may be muted from the beginning, too.
    let mut bob = waiting(&place, "bob/desk", &["--after", "3"]);
    bob.press("m5");
    pressed(&bob);
    let alice = place.call("alice", &["dial", &to_account]);
    alice.event("muted");
    speak(alice, bob);
}

/// Without `--accept` those in the roster may call, and nobody else finds out that somebody is here.
#[test]
fn who_know_each_other_call_without_an_option() {
    let place = place("known");
    let desk = format!("{}/desk", place.address("bob"));
    let bob = place.call_by_defaults("bob/desk", &["answer"]);
    bob.event("waiting");
    for to in [&place.address("bob"), &desk] {
        let dial = ["dial", to, "--ring", "1.5"];
        let stranger = place.call_by_defaults(STRANGER, &dial).end();
        assert_eq!(stranger.code, 1, "{}", stranger.problem);
        assert!(!bob.has("offered"));
    }
    let alice = place.call_by_defaults("alice", &["dial", &place.address("bob")]);
    speak(alice, bob);
}
