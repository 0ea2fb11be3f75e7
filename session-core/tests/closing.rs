//! A stream that its peer closes: after our last byte it is the peer's way to say that it has all of it.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use session_core::{
    Cause, Config, Session, State,
    testing::{Answer, Callback, MemoryStream, Note, RECORDER_NAMESPACE, Recorder, World},
};

const ALICE: usize = 0;
const BOB: usize = 1;

/// Alice sends, finishes her stream or does not, and Bob's side of it is closed before he says a word.
fn closed_by_the_peer(finishes: bool) -> (Option<State>, Vec<Callback>) {
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
    world.update(BOB, |manager, now| manager.destroy_session(theirs, now));
    world.settle();
    let told = world.log(ALICE).entries();
    let told = told.into_iter().map(|entry| entry.callback);
    (world.state(ALICE, id), told.collect())
}

#[test]
fn a_stream_that_is_closed_after_our_last_byte_does_not_end_the_session() {
    let (state, told) = closed_by_the_peer(true);
    assert_eq!(state, Some(State::InProgress), "its word is still to come");
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

#[test]
fn a_stream_that_is_closed_before_that_has_failed() {
    let (state, told) = closed_by_the_peer(false);
    assert_eq!(state, None);
    let lost = |callback: &Callback| matches!(callback, Callback::Error(error) if error.fatal && matches!(error.cause, Cause::Transport(_)));
    assert!(told.iter().any(lost), "{told:?}");
}
