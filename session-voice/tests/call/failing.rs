//! What goes wrong in a call, and what is said of it.

use crate::{place, real, waiting};
use serde_json::Value;

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

/// Whoever is gone says nothing: the path is missed first, then the call ends, and says why.
#[test]
fn a_peer_that_crashes_ends_the_call() {
    let place = place("crash");
    let other = waiting(&place, "bob", &[]);
    let staying = place.call("alice", &["dial", &place.address("bob")]);
    staying.event("connected");
    other.event("connected");
    let hears = |event: &Value| event["level_in_db"].as_f64() > Some(-60.0);
    staying.wait("sound", hears);
    other.crash();
    staying.wait("path", |event| {
        event["event"] == "path" && event["on"] == false
    });
    let ended = staying.end();
    ended.assert_problem(1, "connection-lost");
    let why = ended.problem["why"].as_str().unwrap();
    assert!(why.starts_with("the connection was lost"), "{why}");
    assert!(ended.done()["received"].as_u64() > Some(0));
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
    let _relay = restart();
    alice.wait("path", |event| {
        event["event"] == "path" && event["on"] == true
    });
    alice.press("q");
    alice.end().assert_well();
    bob.end().assert_well();
}
