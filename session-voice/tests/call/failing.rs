//! What goes wrong in a call, and what is said of it.

use crate::{kit::Place, place, prosody::Wishes, real, waiting};
use serde_json::Value;
use std::time::{Duration, Instant};

#[test]
fn a_missing_device_is_told_and_the_call_goes_on() {
    let place = place("devices-missing");
    let bob = waiting(&place, "bob/desk", &["--for", "2"]);
    let alice = place.call("alice", &["dial", &place.address("bob")]);
    for (device, instead) in [
        ("microphone", "a tone is sent"),
        ("loudspeaker", "nothing is heard"),
    ] {
        for running in [&alice, &bob] {
            let told = running.wait("no-device", |event| {
                event["event"] == "no-device" && event["device"] == device
            });
            assert_eq!(told["instead"], instead);
            let why = told["why"].as_str().unwrap();
            assert!(why.contains("--play") || why.contains("--record"), "{why}");
        }
    }
    let (alice, bob) = (alice.end(), bob.end());
    alice.assert_well();
    bob.assert_well();
    assert!(alice.done()["received"].as_u64() > Some(50));
}

/// Who has crashed says nothing. Its server says that nobody is there, long before the path is missed.
fn crash(place: &Place) -> Duration {
    let other = waiting(place, "bob", &[]);
    let staying = place.call("alice", &["dial", &place.address("bob")]);
    staying.event("connected");
    other.event("connected");
    let hears = |event: &Value| event["level_in_db"].as_f64() > Some(-60.0);
    staying.wait("sound", hears);
    let crashed = Instant::now();
    other.crash();
    let ended = staying.end();
    let took = crashed.elapsed();
    ended.assert_problem(1, "peer-gone");
    let why = ended.problem["why"].as_str().unwrap();
    assert!(why.starts_with("the other side"), "{why}");
    assert!(ended.done()["received"].as_u64() > Some(0));
    took
}

#[test]
fn a_peer_that_crashes_ends_the_call() {
    let took = crash(&place("crash"));
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Prosody waits for a client that may come back (XEP-0198), and answers for nobody meanwhile. So the path decides.
#[test]
fn a_peer_that_crashes_at_prosody_ends_the_call() {
    let Some(place) = real::start("call-crash", Wishes::default()) else {
        return;
    };
    let took = crash(&place);
    assert!(took < Duration::from_secs(45), "{took:?}");
}

/// What can be known before is said before, not after an hour of talk.
#[test]
fn what_is_wrong_is_said_before_anybody_is_called() {
    let place = place("wrong");
    let (bob, alice) = (
        place.address("bob"),
        format!("{}/here", place.address("alice")),
    );
    let report = place.path("nowhere/page.html");
    let cases: [(&[&str], i32, &str); 4] = [
        (&["dial", &bob, "--report", &report], 1, "report"),
        (&["dial", &bob, "--fingerprint", "AB:CD"], 2, "usage"),
        (&["dial", "bob"], 2, "usage"),
        (&["dial", &alice], 2, "usage"),
    ];
    for (words, exit, code) in cases {
        let ended = place.call("alice", words).end();
        ended.assert_problem(exit, code);
        let told = ["announced", "calling"];
        let called = |event: &Value| told.iter().any(|name| event["event"] == *name);
        assert!(!ended.events.iter().any(called), "{words:?}");
        assert_ne!(ended.problem["hint"], "", "{words:?}");
    }
    // A page that can be written is there at the end only.
    let page = place.path("page.html");
    let ended = place
        .call("alice", &["dial", &bob, "--ring", "1", "--report", &page])
        .end();
    assert_eq!(ended.code, 1);
    assert!(!std::path::Path::new(&page).exists());
}

/// Ctrl-C, or the end that whoever manages processes asks for: the other side hears of it at once, whatever the phase.
#[test]
fn who_is_asked_to_end_says_goodbye() {
    let place = place("signals");
    let to = place.address("bob");
    // While nothing happens.
    let bob = waiting(&place, "bob", &[]);
    bob.signal("TERM");
    bob.end().assert_well();
    // While it rings, at the one and at the other.
    let bob = waiting(&place, "bob", &["--after", "100"]);
    let alice = place.call("alice", &["dial", &to]);
    alice.event("ringing");
    alice.signal("INT");
    alice.end().assert_well();
    bob.end().assert_problem(1, "missed");
    let bob = waiting(&place, "bob", &["--after", "100"]);
    let alice = place.call("alice", &["dial", &to]);
    alice.event("ringing");
    bob.signal("TERM");
    bob.end().assert_well();
    alice.end().assert_problem(4, "declined");
    // In mid-call.
    for signal in ["INT", "TERM"] {
        let bob = waiting(&place, "bob", &[]);
        let alice = place.call("alice", &["dial", &to]);
        alice.event("connected");
        bob.event("connected");
        alice.signal(signal);
        let (alice, bob) = (alice.end(), bob.end());
        alice.assert_well();
        bob.assert_well();
        assert!(bob.done()["cause"].as_str().unwrap().contains("success"));
    }
}

/// Another program takes the name of our device, which Prosody gives to whoever came last: nothing can be said any more, but
/// by sound.
#[test]
fn a_login_that_is_over_is_told_in_mid_call() {
    let Some(place) = real::start("call-conflict", Wishes::default()) else {
        return;
    };
    let bob = waiting(&place, "bob", &[]);
    let mut alice = place.call("alice", &["dial", &place.address("bob")]);
    alice.event("connected");
    bob.event("connected");
    let other = waiting(&place, "alice", &[]);
    let offline = alice.event("offline");
    assert_ne!(offline["why"], "");
    assert!(!alice.has("done"), "the call goes on");
    alice.press("q");
    alice.end().assert_well();
    // The other program knows nothing of the session.
    bob.end().assert_problem(1, "peer-gone");
    drop(other);
}

/// The relay is gone for a moment, and forgets whom it served: the call finds a way through the new one.
#[test]
fn a_call_outlives_a_restart_of_its_relay() {
    let Some((place, relay, restart)) = real::start_with_relay("call-relay-restart") else {
        return;
    };
    let bob = place.call("bob", &["answer", "--relay-only"]);
    bob.event("waiting");
    let mut alice = place.call("alice", &["dial", &place.address("bob"), "--relay-only"]);
    alice.event("connected");
    bob.event("connected");
    alice.wait("quality", |event| {
        event["level_in_db"].as_f64() > Some(-60.0)
    });
    drop(relay);
    alice.wait("path", |event| {
        event["event"] == "path" && event["on"] == false
    });
    // Digits wait for the way, and for each other.
    alice.press("12");
    std::thread::sleep(Duration::from_secs(1));
    alice.press("3");
    std::thread::sleep(Duration::from_secs(1));
    assert!(!bob.has("digit"));
    let _relay = restart();
    alice.wait("path", |event| {
        event["event"] == "path" && event["on"] == true
    });
    bob.wait("digit", |event| event["digit"] == "3");
    // What cannot be sent any more is told.
    alice.press("45q");
    let (alice, bob) = (alice.end(), bob.end());
    alice.assert_well();
    bob.assert_well();
    assert_eq!(bob.done()["digits"], "123");
    assert_eq!(bob.done()["digits_unsent"], 0);
    assert_eq!(alice.done()["digits_unsent"], 2);
}

/// The same while it rings there, and while it rings here: nobody waits for what can no longer be heard of.
#[test]
fn a_login_that_is_over_is_noticed_while_it_rings() {
    let Some(place) = real::start("call-conflict-rings", Wishes::default()) else {
        return;
    };
    let bob = waiting(&place, "bob", &["--after", "100"]);
    let alice = place.call("alice", &["dial", &place.address("bob"), "--ring", "100"]);
    alice.event("ringing");
    for (ringing, who) in [(bob, "bob"), (alice, "alice")] {
        let other = waiting(&place, who, &[]);
        let since = Instant::now();
        let ended = ringing.end();
        assert_eq!(ended.code, 3, "{who}: {}", ended.problem);
        let took = since.elapsed();
        assert!(took < Duration::from_secs(3), "{who}: {took:?}");
        drop(other);
    }
}

/// Ways that carry no packets are no ways for sound, and are told to nobody.
#[test]
fn ways_that_carry_no_sound_are_refused_before_the_login() {
    let place = place("ways");
    let bob = place.address("bob");
    for ways in ["ibb", "s5b,ibb"] {
        let ended = place
            .call("alice", &["dial", &bob, "--transports", ways])
            .end();
        ended.assert_problem(2, "usage");
        let online = |event: &Value| event["event"] == "online";
        assert!(!ended.events.iter().any(online), "{ways}");
    }
    let ended = place.call("alice", &["answer", "--ring", "5"]).end();
    assert_eq!(ended.code, 2, "it is who dials that gives up");
}
