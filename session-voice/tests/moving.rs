//! A call that moves while people talk: to another network, and to another transport.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test that cannot go on fails, and names only what it looks for"
)]

mod scene;

use scene::{ALICE, BOB, Scene, address};
use session_core::{Input, State};
use session_voice::{AUDIO_CONTENT, CallPhase, CallVerdict};
use std::time::Duration;
use transport_p2p::ice::ICE_UDP;

const SECOND: Duration = Duration::from_secs(1);

/// How long nothing may be heard.
const GAP_MAX: Duration = Duration::from_millis(500);

const MEMORY: &str = "urn:example:memory";

fn talking() -> Scene {
    let mut scene = Scene::new(&CallVerdict::Answer, Some(MEMORY));
    scene.dial(&[ICE_UDP]);
    scene.talk(3 * SECOND);
    for host in [ALICE, BOB] {
        assert!(scene.line(host).taken.len() > 50, "{host}");
    }
    scene
}

#[test]
fn who_moves_to_another_network_is_heard_again_within_half_a_second() {
    for mover in [ALICE, BOB] {
        let mut scene = talking();
        let since = scene.world.now();
        scene.interfaces[mover].update(vec![address(mover, 9)]);
        // What the driver does when it is woken.
        scene.world.update(mover, |manager, now| {
            manager.handle_input(Input::Timeout, now)
        });
        scene.talk(4 * SECOND);
        for host in [ALICE, BOB] {
            let gap = scene.gap(host, since);
            assert!(
                gap <= GAP_MAX,
                "{mover} moves, {host} hears nothing for {gap:?}"
            );
        }
        let path = scene.call(mover, |call| (call.phase(), call.is_connected()));
        assert_eq!(path, Some((CallPhase::Answered, true)));
        scene.world.check();
    }
}

#[test]
fn another_transport_takes_over_within_half_a_second() {
    let mut scene = talking();
    let since = scene.world.now();
    let keys = scene.call(ALICE, session_voice::Call::protection);
    let id = scene.sessions[ALICE].unwrap();
    let replaced = scene
        .world
        .with_session(ALICE, id, |session, now| {
            session.replace_transport(AUDIO_CONTENT, MEMORY, now)
        })
        .unwrap();
    replaced.unwrap();
    scene.talk(4 * SECOND);
    let session = scene.world.manager(ALICE).peek(id).unwrap();
    assert_eq!(
        (session.transport(), session.state()),
        (Some(MEMORY), State::InProgress)
    );
    for host in [ALICE, BOB] {
        let gap = scene.gap(host, since);
        assert!(gap <= GAP_MAX, "{host} hears nothing for {gap:?}");
    }
    assert_ne!(
        scene.call(ALICE, session_voice::Call::protection),
        keys,
        "new keys"
    );
    scene.world.check();
}

/// While it rings the path is found; after the answer only hands are shaken.
#[test]
fn the_path_stands_before_the_answer() {
    let mut scene = Scene::new(&CallVerdict::Ring, None);
    scene.dial(&[ICE_UDP]);
    scene.talk(3 * SECOND);
    let bob = scene.sessions[BOB].unwrap();
    scene.world.update(BOB, |manager, now| {
        session_voice::VoiceClient::<session_voice::JingleForm>::answer(manager, bob, now).unwrap();
    });
    let answered = scene.world.now();
    scene.talk(SECOND);
    for host in [ALICE, BOB] {
        let first = *scene.line(host).taken.first().unwrap();
        let waited = first - answered;
        // The answer takes 50 ms, a flight of the handshake 25.
        assert!(waited <= Duration::from_millis(200), "{host}: {waited:?}");
    }
}
