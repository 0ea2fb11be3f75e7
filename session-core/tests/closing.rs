//! A stream that its peer closes: after our last byte it is the peer's way to say that it has all of it. And one that fails
//! while it is paused.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use session_core::{
    Cause, Config, ReasonCondition, Session, SessionId, State, TransportError,
    testing::{Answer, Callback, MemoryStream, Mishap, Note, RECORDER_NAMESPACE, Recorder, World},
};
use std::time::Duration;

const ALICE: usize = 0;
const BOB: usize = 1;

/// Alice sends, finishes her stream or does not, and Bob ends the session: the stream is closed before his word comes, if
/// it comes.
fn closed_by_the_peer(finishes: bool) -> (World, SessionId) {
    let mut world = World::new(1);
    for name in ["alice@a.example/1", "bob@b.example/2"] {
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(MemoryStream::new())?;
            manager.add_client(
                Recorder::new()
                    .with_channel("data")
                    .with_answer(Answer::Accept),
            )
        });
    }
    let id = world
        .call(ALICE, BOB, RECORDER_NAMESPACE, &Note("hello".into()))
        .unwrap();
    assert!(world.run_until_state(ALICE, id, State::InProgress));
    world.settle();
    let channel = |session: &Session| session.channel("data").unwrap();
    world.with_session(ALICE, id, |session, now| {
        session
            .send(channel(session), Bytes::from_static(b"all of it"), now)
            .unwrap();
        if finishes {
            session.finish(channel(session), now);
        }
    });
    let theirs = world.sessions(BOB)[0];
    world.hold(true);
    world.with_session(BOB, theirs, |session, now| {
        session
            .terminate(ReasonCondition::MediaError.into(), now)
            .unwrap();
    });
    world.run_for(Duration::from_secs(1));
    (world, id)
}

fn told(world: &World) -> Vec<Callback> {
    let told = world.log(ALICE).entries();
    told.into_iter().map(|entry| entry.callback).collect()
}

#[test]
fn a_stream_that_is_closed_after_our_last_byte_does_not_end_the_session() {
    let (mut world, id) = closed_by_the_peer(true);
    world.run_for(Duration::from_secs(10));
    let state = world.state(ALICE, id);
    assert_eq!(state, Some(State::InProgress), "its word is still to come");
    let told = told(&world);
    assert!(
        told.iter()
            .any(|callback| matches!(callback, Callback::ChannelGone(_)))
    );
    assert!(
        !told
            .iter()
            .any(|callback| matches!(callback, Callback::Error(_)))
    );
}

/// It is faster than the word that says why.
#[test]
fn a_stream_that_is_closed_before_that_waits_for_the_peers_word() {
    let (mut world, id) = closed_by_the_peer(false);
    assert_eq!(world.state(ALICE, id), Some(State::InProgress));
    assert!(!told(&world).iter().any(|c| matches!(c, Callback::Error(_))));
    world.deliver_all();
    world.hold(false);
    world.settle();
    assert_eq!(world.state(ALICE, id), None);
    let told = told(&world);
    let said = |callback: &Callback| matches!(callback, Callback::TerminateReason(Some(reason)) if reason.condition == ReasonCondition::MediaError);
    assert!(told.iter().any(said), "{told:?}");
    world.check_empty();
}

#[test]
fn a_stream_that_is_closed_without_a_word_has_failed_soon() {
    let (mut world, id) = closed_by_the_peer(false);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.state(ALICE, id), None);
    let told = told(&world);
    let lost = |callback: &Callback| matches!(callback, Callback::Error(error) if error.fatal && error.cause == Cause::Transport(TransportError::Closed));
    assert!(told.iter().any(lost), "{told:?}");
}

/// The client held its peer back on a transport that failed, and has not said that it may go on.
#[test]
fn a_stream_that_is_paused_stays_so_on_the_next_transport() {
    const SECOND: &str = "https://example.org/second";
    let mut world = World::new(1);
    for (host, name) in ["alice@a.example/1", "bob@b.example/2"].iter().enumerate() {
        let mut first = MemoryStream::new();
        if host == BOB {
            first = first.with_mishap(Mishap::FailsAfter(Duration::from_secs(2)));
        }
        world.add_host(name, Config::default(), |manager| {
            manager.add_transport(first)?;
            manager.add_transport(MemoryStream::new().with_namespace(SECOND))?;
            manager.add_client(
                Recorder::new()
                    .with_channel("data")
                    .with_answer(Answer::Accept),
            )
        });
    }
    let id = world
        .call(ALICE, BOB, RECORDER_NAMESPACE, &Note("hello".into()))
        .unwrap();
    assert!(world.run_until_state(ALICE, id, State::InProgress));
    let theirs = world.sessions(BOB)[0];
    let pause = |world: &mut World, paused| {
        world.with_session(BOB, theirs, |session, now| {
            session.pause(session.channel("data").unwrap(), paused, now);
        });
    };
    pause(&mut world, true);
    let send = |world: &mut World, bytes: &'static [u8]| {
        world.with_session(ALICE, id, |session, now| {
            let channel = session.channel("data").unwrap();
            session.send(channel, Bytes::from_static(bytes), now)
        })
    };
    let got = |world: &World, bytes: &[u8]| {
        let told = world.log(BOB).entries();
        told.iter()
            .any(|entry| matches!(&entry.callback, Callback::Packet(_, data) if data == bytes))
    };
    world.run_for(Duration::from_secs(5));
    assert_eq!(send(&mut world, b"second"), Some(Ok(())), "it was replaced");
    world.run_for(Duration::from_secs(5));
    assert!(!got(&world, b"second"), "it is paused");
    pause(&mut world, false);
    world.run_for(Duration::from_secs(5));
    assert!(got(&world, b"second"));
}
