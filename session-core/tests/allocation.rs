//! How often memory is asked for while data flows: not for a packet.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm
)]

use bytes::Bytes;
use session_core::{
    Batch, ChannelId, Config, SessionId, State,
    testing::{
        Answer, Crowd, MemoryDatagram, MemoryStream, Note, RECORDER_NAMESPACE, Recorder, World,
    },
};
use std::time::Duration;

const PACKETS: u64 = 10_000;

fn connected(stream: bool) -> (World, SessionId, ChannelId) {
    let mut world = World::new(1);
    for name in ["alice@a.example/1", "bob@b.example/2"] {
        world.add_host(name, Config::default(), |manager| {
            if stream {
                manager.add_transport(MemoryStream::new())?;
            } else {
                manager.add_transport(MemoryDatagram::new())?;
            }
            let recorder = Recorder::new().with_channel("data").with_echo();
            manager.add_client(
                recorder
                    .with_packets_kept(false)
                    .with_answer(Answer::Accept),
            )
        });
    }
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    assert!(world.run_until_state(0, id, State::InProgress));
    world.run_for(Duration::from_secs(1));
    let channel = world.manager(0).peek(id).unwrap().channel("data").unwrap();
    (world, id, channel)
}

/// Sends a packet, lets it arrive, and its echo, too.
fn round_trips(world: &mut World, id: SessionId, channel: ChannelId, packet: &Bytes) -> u64 {
    let round = |world: &mut World| {
        let sent = world.with_session(0, id, |session, now| {
            session.send(channel, packet.clone(), now)
        });
        assert_eq!(sent, Some(Ok(())));
        world.settle();
    };
    // The first ones make buffers grow to their size.
    (0..1_000).for_each(|_| round(world));
    let count = allocation_counter::measure(|| (0..PACKETS).for_each(|_| round(world)));
    count.count_total
}

#[test]
fn a_datagram_and_its_echo_allocate_nothing() {
    let (mut world, id, channel) = connected(false);
    let packet = Bytes::from(vec![7; 1_200]);
    assert_eq!(round_trips(&mut world, id, channel, &packet), 0);
    assert!(world.network().is_idle(), "all of them arrived");
    world.check();
}

#[test]
fn a_batch_allocates_nothing() {
    let (mut world, id, channel) = connected(false);
    let batch = Batch {
        payload: Bytes::from(vec![7; 12_000]),
        segment_size: 1_200,
    };
    let round = |world: &mut World| {
        let sent = world.with_session(0, id, |session, now| {
            session.send_batch(channel, batch.clone(), now)
        });
        assert_eq!(sent, Some(Ok(())));
        world.settle();
    };
    (0..100).for_each(|_| round(&mut world));
    let count = allocation_counter::measure(|| (0..1_000).for_each(|_| round(&mut world)));
    assert_eq!(count.count_total, 0);
}

/// The heads of frames are cut from blocks, of which each serves thousands.
#[test]
fn a_piece_of_a_stream_allocates_nothing_but_blocks_of_heads() {
    let (mut world, id, channel) = connected(true);
    let packet = Bytes::from(vec![7; 1_200]);
    let count = round_trips(&mut world, id, channel, &packet);
    assert!(
        count < PACKETS / 100,
        "{count} for {PACKETS} pieces there and back"
    );
}

#[test]
fn an_idle_session_takes_at_most_four_kibibytes() {
    const SESSIONS: usize = 1_000;
    let mut crowd = Crowd::new(Config::default());
    crowd.establish(1);
    let memory = allocation_counter::measure(|| crowd.establish(SESSIONS));
    let manager = crowd.manager();
    for id in manager.session_ids() {
        let session = manager.peek(id).unwrap();
        assert_eq!(session.state(), State::InProgress);
        assert!(session.writable(session.channel("data").unwrap()));
    }
    assert_eq!(manager.session_count(), SESSIONS + 1);
    let each = memory.bytes_current / SESSIONS as i64;
    println!(
        "an idle session takes {each} bytes in {} pieces",
        memory.count_current / SESSIONS as i64
    );
    assert!(each <= 4_096, "{each} bytes");
}
