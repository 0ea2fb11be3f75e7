//! Requests to begin streams anew that are repeated (RFC 6525).

use super::{
    super::{
        Config, Error, Event, State,
        wire::{self, kind, parameter},
    },
    network::{Path, World},
};
use bytes::{BufMut, Bytes, BytesMut};
use std::time::Duration;

const PERFORMED: u32 = 1;
const IN_PROGRESS: u32 = 6;

fn open() -> World {
    World::open(Path::clean(), [Config::default(), Config::default()])
}

/// The values of a parameter of this kind in everything that an end sends now.
fn told(world: &mut World, end: usize, wanted: u16) -> Vec<Bytes> {
    let mut told = Vec::new();
    while let Some(batch) = world.ends[end].poll_transmit(world.now, 64) {
        for packet in batch {
            for chunk in wire::chunks(&packet).filter(|chunk| chunk.kind == kind::RE_CONFIG) {
                let values = wire::parameters(chunk.value).filter(|(kind, _)| *kind == wanted);
                told.extend(values.map(|(_, value)| Bytes::copy_from_slice(value)));
            }
        }
    }
    told
}

#[test]
fn a_repeated_request_says_the_same_whatever_was_sent_since() {
    let mut world = open();
    world.send(0, 1, "before");
    assert!(world.run_until(Duration::from_secs(5), |world| {
        world.ends[0].is_delivered()
    }));
    world.ends[0].reset_streams(&[1]);
    let first = told(&mut world, 0, parameter::OUTGOING_RESET);
    assert_eq!(first.len(), 1);
    world.send(0, 2, "meanwhile");
    while world.ends[0].poll_transmit(world.now, 64).is_some() {}
    world.now += Duration::from_secs(2);
    let now = world.now;
    world.ends[0].handle_timeout(now);
    let again = told(&mut world, 0, parameter::OUTGOING_RESET);
    assert_eq!(again, first);
}

/// What end 0 answers to a request of its peer.
fn ask(world: &mut World, number: u32, last: u32) -> u32 {
    let mut value = Vec::new();
    value.put_u32(number);
    value.put_u32(0);
    value.put_u32(last);
    value.put_u16(7);
    let header = wire::Header {
        tag: world.ends[0].local_tag,
        ..world.ends[0].header()
    };
    let mut packet = BytesMut::new();
    wire::begin_packet(&mut packet, header);
    wire::put_chunk(&mut packet, kind::RE_CONFIG, 0, |buffer| {
        wire::put_parameter(buffer, parameter::OUTGOING_RESET, &value);
    });
    wire::end_packet(&mut packet, 0, false);
    let now = world.now;
    world.ends[0].handle_packet(&packet, now);
    let answers = told(world, 0, parameter::RESET_RESPONSE);
    assert_eq!(wire::u32_at(&answers[0], 0), Some(number));
    wire::u32_at(&answers[0], 4).expect("a result")
}

/// Some peers name another last chunk when they repeat a request.
#[test]
fn what_is_not_performed_is_not_said_to_be() {
    let mut world = open();
    let next = world.ends[0].inbound.next() as u32;
    assert_eq!(ask(&mut world, next, next), IN_PROGRESS);
    assert_eq!(ask(&mut world, next, next), IN_PROGRESS);
    assert_eq!(ask(&mut world, next, next.wrapping_add(3)), IN_PROGRESS);
    world.send(1, 7, "the last");
    let reset = Event::IncomingReset(vec![7]);
    assert!(world.run_until(Duration::from_secs(5), |world| {
        world.events[0].contains(&reset)
    }));
    assert_eq!(ask(&mut world, next, next), PERFORMED);
    assert_eq!(world.ends[0].state(), State::Established);
}

/// RFC 6525 §5.1.1: it counts as data does. A path may be away for a while.
#[test]
fn a_request_that_nobody_answers_ends_like_data_that_nobody_acknowledges() {
    let closed = |world: &mut World| world.ends[0].state() == State::Closed;
    let mut world = open();
    world.ends[0].reset_streams(&[1]);
    world.path.loss = 1.0;
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.ends[0].state(), State::Established);
    // When it is back, that is the end of it.
    world.path.loss = 0.0;
    assert!(world.run_until(Duration::from_secs(30), |world| {
        world.events[0].contains(&Event::OutgoingReset(vec![1], true))
    }));
    world.path.loss = 1.0;
    assert!(!world.run_until(Duration::from_secs(600), closed));
    world.ends[0].reset_streams(&[2]);
    assert!(world.run_until(Duration::from_secs(300), closed));
    assert_eq!(world.ends[0].error(), Some(Error::TimedOut));
}
