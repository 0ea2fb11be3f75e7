//! Calls where more than one device has a part: who dials whom at once, who takes what, and what moves.

use crate::{kit::Running, place};

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
    }
}
