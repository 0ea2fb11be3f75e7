//! The program `call`, in two processes and more over a server in another: what it says, what is heard, how it ends.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "it is about files, processes and time"
)]

#[path = "../../session-xmpp/tests/servers/coturn.rs"]
mod coturn;
#[path = "call/devices.rs"]
mod devices;
#[path = "call/failing.rs"]
mod failing;
#[path = "call/kit.rs"]
mod kit;
#[path = "../../session-xmpp/tests/servers/lab.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod lab;
#[path = "../../session-xmpp/tests/servers/prosody.rs"]
#[allow(dead_code, reason = "others use more of it")]
mod prosody;
#[path = "call/real.rs"]
mod real;
#[path = "call/server.rs"]
mod server;

use kit::{Place, Running};
use server::switchboard;

/// How much has to be heard of what was said. Opus is no codec for waveforms, and loud and soft parts count alike.
const ALIKE: f64 = 0.6;

fn place(name: &str) -> Place {
    Place::new(name, switchboard(name))
}

/// A device of bob's that waits.
fn waiting(place: &Place, who: &str, words: &[&str]) -> Running {
    let bob = place.call(who, &[&["answer"], words].concat());
    bob.event("waiting");
    bob
}

#[test]
fn both_hear_each_other_and_who_answered_hangs_up() {
    let place = place("sound");
    let (a, b) = (place.speech("a.wav", 1, 4), place.speech("b.wav", 2, 4));
    let (at_a, at_b, page) = (
        place.path("at-a.wav"),
        place.path("at-b.wav"),
        place.path("page.html"),
    );
    let bob = waiting(
        &place,
        "bob/desk",
        &["--play", &b, "--record", &at_b, "--for", "5"],
    );
    let to = place.address("bob");
    let alice = place.call(
        "alice",
        &[
            "dial", &to, "--play", &a, "--record", &at_a, "--report", &page,
        ],
    );
    let ringing = alice.event("ringing");
    assert_eq!(ringing["by"], format!("{to}/desk"));
    let offered = bob.event("offered");
    assert_eq!(offered["peer"], format!("{}/here", place.address("alice")));
    let connected = alice.event("connected");
    assert_eq!(connected["codec"], "opus");
    assert!(
        connected["security"].as_str().unwrap().starts_with("DTLS"),
        "{connected}"
    );
    let (alice, bob) = (alice.end(), bob.end());
    alice.assert_well();
    bob.assert_well();
    let rings = |event: &&serde_json::Value| event["event"] == "ringing";
    assert_eq!(alice.events.iter().filter(rings).count(), 1);
    let misses_path = |event: &serde_json::Value| event["event"] == "path";
    assert!(!alice.events.iter().chain(&bob.events).any(misses_path));
    let heard = [
        place.likeness("a.wav", "at-b.wav"),
        place.likeness("b.wav", "at-a.wav"),
    ];
    let crossed = place.likeness("a.wav", "at-a.wav");
    assert!(
        heard.iter().all(|like| *like > ALIKE) && crossed < 0.3,
        "{heard:?}, {crossed}"
    );
    for (done, path) in [(alice.done(), "host"), (bob.done(), "host")] {
        assert!(done["received"].as_u64() > Some(150), "{done}");
        assert!(done["mos"].as_f64() > Some(3.5), "{done}");
        assert!(done["path"].as_str().unwrap().contains(path), "{done}");
        assert!(done["setup_seconds"].as_f64() < Some(5.0), "{done}");
    }
    assert!(alice.done()["cause"].as_str().unwrap().contains("success"));
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<polyline").count(), 5);
}

#[test]
fn keys_hold_mute_dial_digits_and_hang_up() {
    let place = place("keys");
    let at_b = place.path("at-b.wav");
    let mut bob = waiting(&place, "bob", &["--record", &at_b]);
    let a = place.speech("a.wav", 1, 4);
    let mut alice = place.call("alice", &["dial", &place.address("bob"), "--play", &a]);
    alice.event("connected");
    bob.event("connected");
    let switched = |running: &Running, what: &str, on: bool| {
        running.wait(what, |event| {
            event["event"] == "switched" && event["what"] == what && event["on"] == on
        });
    };
    let told = |running: &Running, what: &str, on: bool| {
        running.wait(what, |event| event["event"] == what && event["on"] == on);
    };
    for (key, what, event) in [("h", "hold", "held"), ("m", "mute", "muted")] {
        for on in [true, false] {
            alice.press(key);
            switched(&alice, what, on);
            told(&bob, event, on);
        }
    }
    bob.press("h");
    told(&alice, "held", true);
    bob.press("h");
    told(&alice, "held", false);
    // More at once than wait in the stream.
    let number = "0123456789".repeat(4);
    alice.press(&number);
    alice.press("12#");
    bob.wait("digit", |event| event["digit"] == "#");
    bob.press("9");
    alice.wait("digit", |event| event["digit"] == "9");
    alice.press("q");
    let (alice, bob) = (alice.end(), bob.end());
    alice.assert_well();
    bob.assert_well();
    assert_eq!(bob.done()["digits"], format!("{number}12#"));
    assert_eq!(alice.done()["digits"], "9");
    assert!(bob.done()["cause"].as_str().unwrap().contains("success"));
}

#[test]
fn who_is_muted_is_not_heard() {
    let place = place("muted");
    let at_b = place.path("at-b.wav");
    let bob = waiting(&place, "bob", &["--record", &at_b, "--for", "4"]);
    let mut alice = place.call("alice", &["dial", &place.address("bob"), "--dtx"]);
    // Before anything is heard: what is said of the call waits for it.
    alice.event("calling");
    alice.event("connected");
    alice.press("m");
    bob.event("muted");
    let (alice, bob) = (alice.end(), bob.end());
    alice.assert_well();
    bob.assert_well();
    let (sent, received) = (&alice.done()["sent"], &bob.done()["received"]);
    assert!(
        sent.as_u64() < Some(100) && received.as_u64() < Some(100),
        "{sent}, {received}"
    );
    assert!(place.loudest("at-b.wav") < 0.2);
}

/// What is played while it rings is heard before the answer, by a device that is called and by one that was asked to.
#[test]
fn the_caller_hears_what_is_played_while_it_rings() {
    let place = place("early");
    let [a, b, rings] = [("a.wav", 1), ("b.wav", 2), ("rings.wav", 3)]
        .map(|(name, seed)| place.speech(name, seed, 3));
    for to in [
        format!("{}/desk", place.address("bob")),
        place.address("bob"),
    ] {
        let (at_a, at_b) = (place.path("at-a.wav"), place.path("at-b.wav"));
        let early = ["--after", "8", "--early-media", &rings, "--for", "3.5"];
        let bob = waiting(
            &place,
            "bob/desk",
            &[&early[..], &["--play", &b, "--record", &at_b]].concat(),
        );
        let dial = ["dial", &to, "--play", &a, "--record", &at_a];
        let mut alice = place.call("alice", &dial);
        let early = alice.event("early-media");
        assert_eq!(early["by"], format!("{}/desk", place.address("bob")));
        // Nothing of the caller's leaves before the answer, and it is told so.
        alice.press("5");
        alice.event("refused");
        assert!(!alice.has("connected") && !bob.has("connected"));
        let (alice, bob) = (alice.end(), bob.end());
        alice.assert_well();
        bob.assert_well();
        // First what rings, then what is said; and what the caller says begins when somebody listens.
        let heard = [
            place.likeness("rings.wav", "at-a.wav"),
            place.likeness("b.wav", "at-a.wav"),
            place.likeness("a.wav", "at-b.wav"),
        ];
        assert!(heard.iter().all(|like| *like > ALIKE), "{to}: {heard:?}");
        assert_eq!(bob.done()["digits"], "");
    }

    // An announcement why nobody answers.
    let words = ["--decline", "--after", "1", "--early-media", &rings];
    let bob = waiting(&place, "bob/desk", &words);
    let alice = place.call(
        "alice",
        &["dial", &format!("{}/desk", place.address("bob"))],
    );
    alice.event("early-media");
    alice.end().assert_problem(4, "declined");
    bob.end().assert_well();
}

#[test]
fn a_call_may_be_declined() {
    let place = place("declined");
    // To the account, and to the device alone.
    for to in [
        place.address("bob"),
        format!("{}/desk", place.address("bob")),
    ] {
        let bob = waiting(&place, "bob/desk", &["--decline", "--after", "0.3"]);
        let alice = place.call("alice", &["dial", &to]);
        alice.end().assert_problem(4, "declined");
        let bob = bob.end();
        bob.assert_well();
        assert!(bob.events.iter().any(|event| event["event"] == "declined"));
    }
}

#[test]
fn who_speaks_already_is_busy() {
    let place = place("busy");
    let bob = waiting(&place, "bob/desk", &[]);
    let mut alice = place.call("alice", &["dial", &place.address("bob")]);
    bob.event("connected");
    for to in [
        place.address("bob"),
        format!("{}/desk", place.address("bob")),
    ] {
        let carol = place.call("carol", &["dial", &to]);
        carol.end().assert_problem(4, "busy");
    }
    assert!(!bob.has("done"), "the first call goes on");
    alice.event("connected");
    alice.press("q");
    alice.end().assert_well();
    bob.end().assert_well();

    // Somebody has announced a call, which rings: whoever calls meanwhile hears no ringing.
    let bob = waiting(&place, "bob/desk", &["--after", "100"]);
    let mut alice = place.call("alice", &["dial", &place.address("bob")]);
    alice.event("ringing");
    let to = format!("{}/desk", place.address("bob"));
    let carol = place.call("carol", &["dial", &to]).end();
    carol.assert_problem(4, "busy");
    assert!(!carol.events.iter().any(|event| event["event"] == "ringing"));
    alice.press("q");
    alice.end();
    bob.end().assert_problem(1, "missed");
}

#[test]
fn nobody_answers() {
    let place = place("silent");
    for to in [
        place.address("bob"),
        format!("{}/desk", place.address("bob")),
    ] {
        let bob = waiting(&place, "bob/desk", &["--after", "100"]);
        let alice = place.call("alice", &["dial", &to, "--ring", "5"]);
        alice.event("ringing");
        alice.end().assert_problem(1, "no-answer");
        bob.end().assert_problem(1, "missed");
    }
    let nobody = place.call("alice", &["dial", &place.address("carol"), "--ring", "1.5"]);
    let nobody = nobody.end();
    assert!(
        nobody.code == 1
            && ["no-answer", "peer-offline"].contains(&nobody.problem["code"].as_str().unwrap())
    );
}

#[test]
fn one_device_answers_and_the_others_stop() {
    let place = place("devices");
    let desk = waiting(&place, "bob/desk", &["--after", "100"]);
    let kitchen = waiting(&place, "bob/kitchen", &["--after", "100"]);
    let phone = waiting(&place, "bob/phone", &["--after", "1"]);
    let mut alice = place.call("alice", &["dial", &place.address("bob")]);
    let connected = phone.event("connected");
    assert!(connected["security"].as_str().unwrap().starts_with("DTLS"));
    for other in [desk, kitchen] {
        let ended = other.end();
        ended.assert_problem(1, "answered-elsewhere");
        let by = ended.problem["why"].as_str().unwrap();
        assert!(by.contains("/phone"), "{by}");
    }
    alice.event("connected");
    alice.press("q");
    alice.end().assert_well();
    phone.end().assert_well();

    // One declines for all.
    let desk = waiting(&place, "bob/desk", &["--after", "100"]);
    let phone = waiting(&place, "bob/phone", &["--after", "1", "--decline"]);
    let alice = place.call("alice", &["dial", &place.address("bob")]);
    alice.end().assert_problem(4, "declined");
    phone.end().assert_well();
    desk.end().assert_problem(1, "declined-elsewhere");
}

#[test]
fn a_fingerprint_that_is_not_the_known_one_ends_the_call() {
    let place = place("fingerprint");
    let known = |running: &Running| {
        let online = running.event("online");
        online["fingerprint"].as_str().unwrap().to_owned()
    };
    let bob = waiting(&place, "bob", &["--for", "1"]);
    let right = known(&bob);
    let alice = place.call(
        "alice",
        &["dial", &place.address("bob"), "--fingerprint", &right],
    );
    let connected = alice.event("connected");
    assert!(
        connected["security"].as_str().unwrap().ends_with(&right),
        "{connected}"
    );
    bob.end().assert_well();
    alice.end().assert_well();

    // Of the run before: the certificate is another one each time.
    let bob = waiting(&place, "bob", &[]);
    assert_ne!(known(&bob), right);
    let alice = place.call(
        "alice",
        &["dial", &place.address("bob"), "--fingerprint", &right],
    );
    let alice = alice.end();
    alice.assert_problem(1, "not-trusted");
    assert!(
        alice
            .events
            .iter()
            .all(|event| event["event"] != "connected")
    );
    // Whether or not it was connected on this side: it is no call that ended well.
    bob.end().assert_problem(1, "not-trusted");
}

/// Keys in signalling prove nothing of the peer: with a fingerprint there is no call without a certificate, in either role.
#[test]
fn with_a_fingerprint_no_call_goes_on_without_a_certificate() {
    let place = place("certificate");
    let (to, some) = (
        format!("{}/desk", place.address("bob")),
        ["AB"; 32].join(":"),
    );
    let bob = waiting(&place, "bob/desk", &["--fingerprint", &some]);
    let google = ["dial", &to, "--dialect", "gtalk"];
    let alice = place.call("alice", &google).end();
    alice.assert_problem(1, "not-trusted");
    let connected = |event: &serde_json::Value| event["event"] == "connected";
    assert!(!alice.events.iter().any(connected));
    assert!(!bob.has("offered") && !bob.has("connected"));
    drop(bob);

    let bob = waiting(&place, "bob/desk", &[]);
    let words = [&google[..], &["--fingerprint", &some]].concat();
    let alice = place.call("alice", &words).end();
    alice.assert_problem(1, "not-trusted");
    assert!(!alice.events.iter().any(connected) && !bob.has("offered"));
}

#[test]
fn google_talk_carries_the_sound_with_keys_in_signalling() {
    let place = place("google");
    let (a, b) = (place.speech("a.wav", 3, 3), place.speech("b.wav", 4, 3));
    let (at_a, at_b) = (place.path("at-a.wav"), place.path("at-b.wav"));
    let words = ["--dialect", "gtalk", "--for", "4"];
    let bob = waiting(
        &place,
        "bob",
        &[&["--play", &b, "--record", &at_b], &words[..]].concat(),
    );
    let to = place.address("bob");
    let dial = ["dial", &to, "--play", &a, "--record", &at_a];
    let alice = place.call("alice", &[&dial, &words[..]].concat());
    let connected = alice.event("connected");
    assert_eq!(connected["security"], "keys in signalling");
    let (alice, bob) = (alice.end(), bob.end());
    alice.assert_well();
    bob.assert_well();
    let heard = [
        place.likeness("a.wav", "at-b.wav"),
        place.likeness("b.wav", "at-a.wav"),
    ];
    assert!(heard.iter().all(|like| *like > ALIKE), "{heard:?}");
}

#[test]
fn strangers_are_not_let_in() {
    let place = place("strangers");
    let bob = waiting(&place, "bob/desk", &["--accept", &place.address("carol")]);
    for to in [
        place.address("bob"),
        format!("{}/desk", place.address("bob")),
    ] {
        let alice = place.call("alice", &["dial", &to, "--ring", "1.5"]).end();
        assert_eq!(alice.code, 1);
        assert!(!bob.has("offered"));
    }
    let mut carol = place.call("carol", &["dial", &place.address("bob")]);
    bob.event("connected");
    carol.event("connected");
    carol.press("q");
    carol.end().assert_well();
    bob.end().assert_well();
}
