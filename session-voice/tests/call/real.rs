//! Calls over a real Prosody, directly and through a real coturn alone.

use crate::{
    ALIKE,
    coturn::{self, Coturn},
    kit::Place,
    lab::{self, ACCOUNTS, Folder, SCRAM},
    prosody::{self, Wishes},
    server::Server,
};

/// A Prosody with these wishes, as a server for calls. None where it is not installed, which is said.
pub(crate) fn start(name: &str, wishes: Wishes) -> Option<Place> {
    let running = prosody::start(name, wishes)?;
    let server = Server {
        port: running.starttls,
        domain: SCRAM,
        authority: running.certificates.authority.clone(),
        accounts: ACCOUNTS.to_vec(),
        process: Box::new(running),
    };
    Some(Place::new(name, server))
}

/// The same with a coturn that it tells of, and with what starts that again. None where one of them is not installed.
pub(crate) fn start_with_relay(name: &str) -> Option<(Place, Coturn, impl Fn() -> Coturn)> {
    if !lab::is_installed("turnserver", "coturn") {
        return None;
    }
    let folder = Folder::new(&format!("{name}-files"));
    let (ip, (port, _)) = (coturn::own_address(), lab::free_ports());
    let wishes = Wishes {
        modules: "\"external_services\";",
        settings: coturn::settings(ip, port).leak(),
        ..Wishes::default()
    };
    let place = start(name, wishes)?;
    let relay = move || Coturn::start(&folder, ip, port);
    Some((place, relay(), relay))
}

/// A call to the account, with sound both ways; the paths that both ends used.
fn call(place: &Place, options: &[&str]) -> [String; 2] {
    let (a, b) = (place.speech("a.wav", 1, 4), place.speech("b.wav", 2, 4));
    let (at_a, at_b) = (place.path("at-a.wav"), place.path("at-b.wav"));
    let answer = ["answer", "--play", &b, "--record", &at_b, "--for", "5"];
    let bob = place.call("bob", &[&answer, options].concat());
    bob.event("waiting");
    let to = place.address("bob");
    let dial = ["dial", &to, "--play", &a, "--record", &at_a];
    let mut alice = place.call("alice", &[&dial, options].concat());
    alice.event("announced");
    alice.event("ringing");
    alice.event("connected");
    alice.press("hh7");
    bob.wait("held", |event| {
        event["event"] == "held" && event["on"] == false
    });
    let (alice, bob) = (alice.end(), bob.end());
    alice.assert_well();
    bob.assert_well();
    assert_eq!(bob.done()["digits"], "7");
    let heard = [
        place.likeness("a.wav", "at-b.wav"),
        place.likeness("b.wav", "at-a.wav"),
    ];
    assert!(heard.iter().all(|like| *like > ALIKE), "{heard:?}");
    [&alice, &bob].map(|ended| ended.done()["path"].to_string())
}

#[test]
fn over_prosody() {
    let Some(place) = start("call-prosody", Wishes::default()) else {
        return;
    };
    let paths = call(&place, &[]);
    assert!(paths.iter().all(|path| path.contains("host")), "{paths:?}");
    // A second device of bob's stops ringing when the first answers, and one who declines is heard of.
    let desk = place.call("bob/desk", &["answer", "--after", "100"]);
    let phone = place.call("bob/phone", &["answer", "--after", "1"]);
    desk.event("waiting");
    phone.event("waiting");
    let mut alice = place.call("alice", &["dial", &place.address("bob")]);
    alice.event("connected");
    let desk = desk.end();
    desk.assert_problem(1, "answered-elsewhere");
    assert!(desk.problem["why"].as_str().unwrap().contains("/phone"));
    alice.press("q");
    alice.end().assert_well();
    phone.end().assert_well();
    let desk = place.call("bob/desk", &["answer", "--after", "100"]);
    let phone = place.call("bob/phone", &["answer", "--after", "1", "--decline"]);
    desk.event("waiting");
    phone.event("waiting");
    let alice = place.call("alice", &["dial", &place.address("bob")]);
    alice.end().assert_problem(4, "declined");
    phone.end().assert_well();
    desk.end().assert_problem(1, "declined-elsewhere");
}

#[test]
fn through_coturn_alone() {
    let Some((place, _relay, _restart)) = start_with_relay("call-relay") else {
        return;
    };
    let paths = call(&place, &["--relay-only"]);
    for path in paths {
        assert!(path.contains("relay") && !path.contains("host"), "{path}");
    }
}
