//! A peer that is gone without a word in mid-call, and one that only seems to be.
#![allow(
    clippy::unwrap_used,
    dead_code,
    unreachable_pub,
    reason = "a test that cannot go on fails, and names only what it looks for"
)]

mod scene;

use scene::{ALICE, BOB, Scene, TICK};
use session_core::testing::{Conditions, Envelope, Parcel};
use session_core::{Cause, Condition, ErrorKind, ReasonCondition, StanzaError};
use session_voice::{Call, CallPhase, CallVerdict};
use std::time::Duration;
use transport_p2p::ice::ICE_UDP;

const SECOND: Duration = Duration::from_secs(1);

/// What a server does whose client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Server {
    /// Says that nobody is there.
    Answers,
    /// Waits for it to come back (XEP-0198), and says nothing.
    Waits,
}

fn talking() -> Scene {
    let mut scene = Scene::new(&CallVerdict::Answer, None);
    scene.dial(&[ICE_UDP]);
    scene.talk(3 * SECOND);
    assert!(scene.line(ALICE).taken.len() > 50);
    scene
}

fn network(loss: f64) -> Conditions {
    Conditions {
        loss,
        ..Conditions::with_delay(Duration::from_millis(25))
    }
}

/// Nothing of Bob's arrives any more, and nothing reaches him.
fn cut(scene: &mut Scene) {
    scene.world.set_network(network(1.0));
    scene.world.hold(true);
}

/// Alice's side goes on for so long, or until her call is over: how long that was.
fn alone(scene: &mut Scene, time: Duration, server: Server) -> Duration {
    let begun = scene.world.time();
    while scene.world.time() - begun < time {
        scene.world.run_for(TICK);
        scene.step(ALICE);
        while server == Server::Answers && !scene.world.held().is_empty() {
            let Envelope { from, parcel, .. } = scene.world.discard(0);
            let (Parcel::Message { id, .. } | Parcel::Request { id, .. }) = parcel else {
                continue;
            };
            let error = StanzaError::new(Condition::ServiceUnavailable, ErrorKind::Cancel);
            let (to, reply) = (from, Err(error));
            if from == ALICE {
                let parcel = Parcel::Reply { id, reply };
                scene.world.forge(Envelope { from, to, parcel });
            }
        }
        if scene.call(ALICE, Call::phase) == Some(CallPhase::Ended) {
            break;
        }
    }
    scene.world.time() - begun
}

fn assert_gone(scene: &mut Scene, why: &str) {
    let cause = scene.call(ALICE, |call| call.cause().cloned()).flatten();
    let Some(Cause::Local(reason)) = &cause else {
        panic!("{cause:?}")
    };
    assert_eq!(reason.condition, ReasonCondition::Gone);
    assert_eq!(reason.text.as_deref(), Some(why));
}

#[test]
fn its_server_is_asked_and_the_call_ends_within_seconds() {
    let mut scene = talking();
    cut(&mut scene);
    let took = alone(&mut scene, 100 * SECOND, Server::Answers);
    assert!(took < 6 * SECOND, "{took:?}");
    assert_gone(&mut scene, "the other side is gone");
}

#[test]
fn where_nobody_answers_the_call_ends_with_the_path() {
    let mut scene = talking();
    cut(&mut scene);
    let took = alone(&mut scene, 200 * SECOND, Server::Waits);
    assert!(25 * SECOND < took && took < 36 * SECOND, "{took:?}");
    assert_gone(&mut scene, "the other side does not answer any more");
}

#[test]
fn who_is_cut_off_for_twenty_seconds_is_heard_again() {
    let mut scene = talking();
    cut(&mut scene);
    alone(&mut scene, 22 * SECOND, Server::Waits);
    scene.world.set_network(network(0.0));
    scene.world.deliver_all();
    scene.world.hold(false);
    scene.talk(3 * SECOND);
    let since = scene.world.now();
    scene.talk(60 * SECOND);
    for host in [ALICE, BOB] {
        let phase = scene.call(host, |call| (call.phase(), call.is_connected()));
        assert_eq!(phase, Some((CallPhase::Answered, true)), "{host}");
        let gap = scene.gap(host, since);
        assert!(gap < SECOND, "{host} hears nothing for {gap:?}");
    }
}

/// Its engine stands still; its session answers.
#[test]
fn who_only_says_nothing_may_go_on_with_that() {
    let mut scene = talking();
    let took = alone(&mut scene, 300 * SECOND, Server::Waits);
    assert_eq!(took, 300 * SECOND);
    let call = scene.call(ALICE, |call| (call.phase(), call.is_connected()));
    assert_eq!(call, Some((CallPhase::Answered, true)));
}
