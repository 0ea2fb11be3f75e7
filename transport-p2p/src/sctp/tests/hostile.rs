use super::{
    super::{Association, Config, Error, State, fuzz::fuzz_chunks, wire},
    network::{Path, World},
};
use bytes::{BufMut, BytesMut};
use proptest::prelude::*;
use session_core::testing::epoch;
use std::time::Duration;

fn open() -> World {
    let config = Config {
        receive_buffer: 100_000,
        max_message_size: 10_000,
        interleave: false,
        ..Config::default()
    };
    World::open(Path::clean(), [config.clone(), config])
}

/// A packet of the peer of end 0 with one chunk.
fn packet(world: &World, kind: u8, flags: u8, value: &[u8]) -> BytesMut {
    let header = wire::Header {
        tag: world.ends[0].local_tag,
        ..world.ends[0].header()
    };
    let mut packet = BytesMut::new();
    wire::begin_packet(&mut packet, header);
    wire::put_chunk(&mut packet, kind, flags, |buffer| buffer.put_slice(value));
    wire::end_packet(&mut packet, 0, false);
    packet
}

fn data(world: &World, ahead: u32, flags: u8, number: u16, payload: &[u8]) -> BytesMut {
    data_on(world, 0, ahead, flags, number, payload)
}

fn data_on(
    world: &World,
    stream: u16,
    ahead: u32,
    flags: u8,
    number: u16,
    payload: &[u8],
) -> BytesMut {
    let mut value = Vec::new();
    value.put_u32((world.ends[0].inbound.next() as u32).wrapping_add(ahead));
    value.put_u16(stream);
    value.put_u16(number);
    value.put_u32(53);
    value.extend_from_slice(payload);
    packet(world, wire::kind::DATA, flags, &value)
}

#[test]
fn what_does_not_know_the_tag_changes_nothing() {
    let mut world = open();
    let before = world.ends[0].stats();
    for kind in 0..=255 {
        let mut bytes = packet(&world, kind, 0, &[0; 40]);
        for tag in [0u32, 1, !0, world.ends[0].remote_tag] {
            bytes[4..8].copy_from_slice(&tag.to_be_bytes());
            bytes[8..12].fill(0);
            wire::end_packet(&mut bytes, 0, false);
            world.ends[0].handle_packet(&bytes, world.now);
        }
    }
    let after = world.ends[0].stats();
    assert_eq!(after.packets_received, before.packets_received);
    assert_eq!(world.ends[0].state(), State::Established);
    assert_eq!(world.ends[0].poll_transmit(world.now, 8), None);
}

#[test]
fn a_damaged_packet_is_dropped() {
    let world = open();
    let mut end = Association::new(
        Config {
            no_checksums: false,
            ..Config::default()
        },
        [3; 32],
        world.now,
    );
    let mut init = BytesMut::new();
    wire::begin_packet(
        &mut init,
        wire::Header {
            tag: 0,
            ..end.header()
        },
    );
    init.put_slice(&world.ends[1].init_chunk());
    wire::end_packet(&mut init, 0, false);
    for at in 0..init.len() * 8 {
        let mut bytes = init.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        end.handle_packet(&bytes, world.now);
        assert_eq!(end.poll_transmit(world.now, 1), None, "bit {at}");
    }
    end.handle_packet(&init, world.now);
    assert!(end.poll_transmit(world.now, 1).is_some());
    assert_eq!(end.state(), State::Idle, "nothing is kept");
}

#[test]
fn a_forged_cookie_opens_nothing() {
    let now = epoch();
    let mut server = Association::new(Config::default(), [1; 32], now);
    let client = Association::new(Config::default(), [2; 32], now);
    let mut init = BytesMut::new();
    wire::begin_packet(
        &mut init,
        wire::Header {
            tag: 0,
            ..client.header()
        },
    );
    init.put_slice(&client.init_chunk());
    wire::end_packet(&mut init, 0, false);
    server.handle_packet(&init, now);
    let answer = server.poll_transmit(now, 1).expect("INIT ACK").payload;
    let chunk = wire::chunks(&answer).next().expect("a chunk");
    let (_, cookie) = wire::parameters(&chunk.value[16..])
        .next()
        .expect("a cookie");
    let echo = |cookie: &[u8]| {
        let mut packet = BytesMut::new();
        wire::begin_packet(
            &mut packet,
            wire::Header {
                tag: server.local_tag,
                ..client.header()
            },
        );
        wire::put_chunk(&mut packet, wire::kind::COOKIE_ECHO, 0, |buffer| {
            buffer.put_slice(cookie)
        });
        wire::end_packet(&mut packet, 0, false);
        packet
    };
    let packets: Vec<_> = (0..cookie.len() * 8)
        .map(|at| {
            let mut forged = cookie.to_vec();
            forged[at / 8] ^= 1 << (at % 8);
            echo(&forged)
        })
        .collect();
    let right = echo(cookie);
    for packet in packets {
        server.handle_packet(&packet, now);
        assert_eq!(server.state(), State::Idle);
    }
    server.handle_packet(&right, now + Duration::from_secs(61));
    assert_eq!(server.state(), State::Idle, "stale");
    server.handle_packet(&right, now + Duration::from_secs(59));
    assert_eq!(server.state(), State::Established);
}

#[test]
fn memory_stays_within_the_window() {
    // Holes everywhere, one byte each; messages of a number that never comes; a message without end.
    let mut world = open();
    for ahead in 0..200_000u32 {
        let bytes = data(&world, 1 + ahead * 2 % 400_000, 0, 0, b"x");
        world.ends[0].handle_packet(&bytes, world.now);
    }
    assert!(world.ends[0].received() <= 110_000);
    let mut world = open();
    for number in 1..60_000u16 {
        let bytes = data(&world, 0, wire::BEGIN | wire::END, number, &[7; 100]);
        world.ends[0].handle_packet(&bytes, world.now);
    }
    assert!(
        world.ends[0].received() <= 122_000,
        "{}",
        world.ends[0].received()
    );
    assert!(matches!(world.ends[0].error(), Some(Error::Violation(_))));
    let mut world = open();
    let mut flags = wire::BEGIN;
    for _ in 0..20 {
        let bytes = data(&world, 0, std::mem::take(&mut flags), 0, &[7; 1000]);
        world.ends[0].handle_packet(&bytes, world.now);
    }
    assert_eq!(
        world.ends[0].error(),
        Some(Error::Violation("message is longer than permitted"))
    );
}

/// What is thrown away is acknowledged, and what is acknowledged out of order is remembered.
#[test]
fn holes_between_data_of_no_stream_count() {
    let mut world = open();
    let whole = wire::BEGIN | wire::END;
    for ahead in 0..40_000 {
        let bytes = data_on(&world, u16::MAX, 1 + ahead * 2, whole, 0, b"x");
        world.ends[0].handle_packet(&bytes, world.now);
    }
    let held = world.ends[0].received();
    assert!(held >= 16 * 1000, "{held}");
    assert!(held <= 110_000, "{held}");
    // They are passed over when the holes are filled.
    let filling = data(&world, 0, whole, 0, b"x");
    world.ends[0].handle_packet(&filling, world.now);
    assert_eq!(world.ends[0].state(), State::Established);
    assert!(world.ends[0].read(world.now).is_some());
}

#[test]
fn an_acknowledgement_of_what_was_not_sent_ends_it() {
    let mut world = open();
    let next = world.ends[0].flight.next() as u32;
    let mut value = Vec::new();
    value.put_u32(next);
    value.put_u32(1000);
    value.put_u32(0);
    let bytes = packet(&world, wire::kind::SACK, 0, &value);
    world.ends[0].handle_packet(&bytes, world.now);
    assert!(matches!(world.ends[0].error(), Some(Error::Violation(_))));
}

/// It answers at once, so that no wait ever comes to its end.
#[test]
fn a_peer_for_whom_every_cookie_is_too_old_is_given_up() {
    let now = epoch();
    let mut server = Association::new(Config::default(), [1; 32], now);
    let mut client = Association::new(Config::default(), [2; 32], now);
    let most = Config::default().max_retransmits;
    client.connect(now);
    let mut cookies = 0;
    while let Some(packet) = client.poll_transmit(now, 1) {
        let kind = wire::chunks(&packet.payload).next().map(|chunk| chunk.kind);
        if kind == Some(wire::kind::COOKIE_ECHO) {
            cookies += 1;
            assert!(cookies <= most + 1);
            let mut error = BytesMut::new();
            let tag = client.local_tag;
            wire::begin_packet(
                &mut error,
                wire::Header {
                    tag,
                    ..server.header()
                },
            );
            wire::put_chunk(&mut error, wire::kind::ERROR, 0, |buffer| {
                buffer.put_u16(wire::cause::STALE_COOKIE);
                buffer.put_u16(8);
                buffer.put_u32(1);
            });
            wire::end_packet(&mut error, 0, false);
            client.handle_packet(&error, now);
        } else {
            server.handle_packet(&packet.payload, now);
            while let Some(answer) = server.poll_transmit(now, 1) {
                client.handle_packet(&answer.payload, now);
            }
        }
    }
    assert_eq!(cookies, most + 1);
    assert_eq!(client.error(), Some(Error::ConnectTimedOut));
}

/// A peer that answers whatever it likes, but not that it has heard of the end (RFC 9260 §9.2).
#[test]
fn an_end_that_is_never_answered_comes_all_the_same() {
    let heartbeat = |world: &World| packet(world, wire::kind::HEARTBEAT, 0, &[0, 1, 0, 4]);
    let message = |world: &World, at: u16| data(world, 0, wire::BEGIN | wire::END, at, b"x");
    let closed = |world: &World| {
        let mut value = Vec::new();
        value.put_u32((world.ends[0].flight.base() - 1) as u32);
        value.put_u64(0);
        packet(world, wire::kind::SACK, 0, &value)
    };
    for which in 0..3 {
        let mut world = open();
        let begun = world.now;
        world.ends[0].shutdown(begun);
        let mut last = None;
        let mut at = 0;
        while world.ends[0].state() != State::Closed && at < 1_000 {
            assert_eq!(world.ends[0].state(), State::ShutdownSent, "{which}");
            let bytes = match which {
                0 => heartbeat(&world),
                1 => message(&world, at),
                _ => closed(&world),
            };
            world.ends[0].handle_packet(&bytes, world.now);
            while world.ends[0].poll_transmit(world.now, 8).is_some() {}
            let _ = world.ends[0].read(world.now);
            world.now += Duration::from_secs(1);
            world.ends[0].handle_timeout(world.now);
            at += 1;
        }
        while let Some(batch) = world.ends[0].poll_transmit(world.now, 8) {
            last = wire::chunks(&batch.payload).last().map(|chunk| chunk.kind);
        }
        assert_eq!(world.ends[0].error(), Some(Error::TimedOut), "{which}");
        assert_eq!(last, Some(wire::kind::ABORT), "{which}: the peer is told");
        assert!(world.now - begun <= Duration::from_secs(300), "{which}");
        assert_eq!(world.ends[0].poll_timeout(), None, "{which}");
    }
}

#[test]
fn blocks_that_promise_too_much_are_harmless() {
    let mut world = open();
    world.send(0, 0, vec![1; 50_000]);
    world.drain();
    let mut value = Vec::new();
    value.put_u32((world.ends[0].flight.base() - 1) as u32);
    value.put_u32(1 << 20);
    value.put_u16(3);
    value.put_u16(0);
    for block in [[2u16, 0xffff], [0xffff, 1], [1, 1]] {
        block.iter().for_each(|edge| value.put_u16(*edge));
    }
    let bytes = packet(&world, wire::kind::SACK, 0, &value);
    world.ends[0].handle_packet(&bytes, world.now);
    // Even such a peer gets everything in the end: it may take back what it had not acknowledged for good.
    let done = world.run_until(Duration::from_secs(100), |world| {
        world.ends[0].is_delivered()
    });
    assert!(done || world.ends[0].error().is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn survives_what_a_fuzzer_makes(data in prop::collection::vec(any::<u8>(), 0..600)) {
        fuzz_chunks(&data);
    }
}
