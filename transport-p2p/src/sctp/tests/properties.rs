use super::{
    super::{Config, Delivery, Error, Event, State},
    network::{Path, World},
};
use bytes::Bytes;
use proptest::prelude::*;
use std::{collections::BTreeMap, time::Duration};

#[derive(Clone, Debug)]
enum Step {
    Send {
        end: usize,
        stream: u16,
        length: usize,
        unordered: bool,
    },
    Read(usize),
    Wait(u64),
    Reset(usize, u16),
    /// The path is gone for so many milliseconds.
    Outage(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..2usize, 0..4u16, 1..20_000usize, any::<bool>())
            .prop_map(|(end, stream, length, unordered)| Step::Send { end, stream, length, unordered }),
        4 => (0..2usize).prop_map(Step::Read),
        4 => (1..400u64).prop_map(Step::Wait),
        1 => (0..2usize, 0..4u16).prop_map(|(end, stream)| Step::Reset(end, stream)),
        1 => (1..3000u64).prop_map(Step::Outage),
    ]
}

fn path() -> impl Strategy<Value = Path> {
    (0.0..0.3f64, 0.0..0.2f64, 0.0..0.5f64, any::<u64>(), 0..3u8).prop_map(
        |(loss, double, reorder, seed, kind)| Path {
            loss,
            double,
            reorder,
            seed,
            // The first packets have up to 4,000 bytes.
            mtu: 4_000 + (seed % 6_000) as usize,
            rate: if kind == 0 { 500_000.0 } else { 0.0 },
            buffer: if kind == 0 { 20_000 } else { u64::MAX },
            ..Path::clean()
        },
    )
}

fn config() -> impl Strategy<Value = Config> {
    (any::<bool>(), any::<bool>(), 512..4000usize, 0..3u8).prop_map(
        |(interleave, no_checksums, max_packet, buffers)| Config {
            interleave,
            no_checksums,
            max_packet,
            max_message_size: 20_000,
            receive_buffer: [40_000, 100_000, 8 << 20][usize::from(buffers)],
            send_buffer: [1, 50_000, 8 << 20][usize::from(buffers)],
            ..Config::default()
        },
    )
}

/// A message tells its stream's count and is filled with it.
fn message(count: u32, length: usize) -> Bytes {
    let mut bytes = count.to_be_bytes().repeat(length / 4 + 1);
    bytes.truncate(length.max(4));
    bytes.into()
}

/// What an end has sent and the other has read, by stream.
#[derive(Default)]
struct Ledger {
    sent: BTreeMap<(u16, bool), Vec<Bytes>>,
    read: BTreeMap<(u16, bool), Vec<Bytes>>,
}

fn read(world: &mut World, ledgers: &mut [Ledger; 2], end: usize) {
    while let Some(message) = world.ends[end].read(world.now) {
        assert_eq!(message.protocol, 53);
        let key = (message.stream, message.unordered);
        ledgers[1 - end]
            .read
            .entry(key)
            .or_default()
            .push(message.payload);
    }
}

fn check(ledger: &Ledger, whole: bool) {
    for (key, read) in &ledger.read {
        let sent = ledger.sent.get(key).expect("nothing that was not sent");
        if key.1 {
            let (mut sent, mut read) = (sent.clone(), read.clone());
            sent.sort();
            read.sort();
            if whole {
                assert_eq!(sent, read);
            } else {
                // Each at most as often as it was sent.
                for one in &read {
                    let at = sent.binary_search(one).expect("was sent");
                    sent.remove(at);
                }
            }
        } else {
            assert_eq!(&sent[..read.len()], &read[..], "in order");
            assert!(!whole || sent.len() == read.len());
        }
    }
    if whole {
        assert_eq!(ledger.sent.len(), ledger.read.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// Every message arrives exactly once, and in order where that was asked for, or the association has ended with an
    /// error.
    #[test]
    fn exactly_once_and_in_order(
        path in path(),
        configs in [config(), config()],
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let limits: Vec<usize> = configs.iter().map(|config| config.receive_buffer + 40_000).collect();
        let mut world = World::new(path, configs);
        let now = world.now;
        world.ends.iter_mut().for_each(|end| end.connect(now));
        let mut ledgers = [Ledger::default(), Ledger::default()];
        for (count, step) in steps.into_iter().enumerate() {
            match step {
                Step::Send { end, stream, length, unordered } => {
                    let payload = message(count as u32, length);
                    let delivery = Delivery { unordered, ..Delivery::default() };
                    let now = world.now;
                    if world.ends[end].send(stream, 53, payload.clone(), &delivery, now).is_ok() {
                        ledgers[end].sent.entry((stream, unordered)).or_default().push(payload);
                    }
                }
                Step::Read(end) => read(&mut world, &mut ledgers, end),
                Step::Wait(milliseconds) => world.run_for(Duration::from_millis(milliseconds)),
                Step::Reset(end, stream) => world.ends[end].reset_streams(&[stream]),
                Step::Outage(milliseconds) => {
                    let loss = std::mem::replace(&mut world.path.loss, 1.0);
                    world.run_for(Duration::from_millis(milliseconds));
                    world.path.loss = loss;
                }
            }
            for (end, limit) in world.ends.iter().zip(&limits) {
                prop_assert!(end.received() <= *limit);
            }
        }
        let settled = |world: &World| {
            world.ends.iter().all(|end| end.is_delivered() && end.state() == State::Established)
                || world.ends.iter().any(|end| end.state() == State::Closed)
        };
        let done = world.run_until(Duration::from_secs(3000), |world| {
            (0..2).for_each(|end| read(world, &mut ledgers, end));
            settled(world)
        });
        prop_assert!(done, "stuck: {:?}", world.ends.each_ref().map(|end| (end.state(), end.buffered())));
        (0..2).for_each(|end| read(&mut world, &mut ledgers, end));
        let whole = world.ends.iter().all(|end| end.state() == State::Established);
        for end in &world.ends {
            // Only a path that is as bad as that may end it.
            prop_assert!(matches!(end.error(), None | Some(Error::TimedOut | Error::ConnectTimedOut | Error::Reset)), "{:?}", end.error());
        }
        ledgers.iter().for_each(|ledger| check(ledger, whole));
        prop_assert!(world.events.iter().all(|events| events.iter().filter(|event| **event == Event::Open).count() <= 1));
    }

    /// With messages that may be given up, what arrives was sent, at most once, in order; and nothing hangs.
    #[test]
    fn partial_reliability_never_hangs(
        path in path(),
        config in config(),
        messages in prop::collection::vec((0..3u16, 1..20_000usize, any::<bool>(), 0..4u16), 1..40),
    ) {
        let config = Config { send_buffer: 8 << 20, ..config };
        let mut world = World::open(path, [config.clone(), config]);
        let mut ledgers = [Ledger::default(), Ledger::default()];
        for (count, (stream, length, unordered, limit)) in messages.into_iter().enumerate() {
            let payload = message(count as u32, length);
            let delivery = Delivery {
                unordered,
                max_retransmits: (limit < 2).then_some(limit),
                lifetime: (limit == 2).then_some(Duration::from_millis(60)),
            };
            let now = world.now;
            world.ends[0].send(stream, 53, payload.clone(), &delivery, now).expect("room");
            ledgers[0].sent.entry((stream, unordered)).or_default().push(payload);
            world.run_for(Duration::from_millis(5));
            read(&mut world, &mut ledgers, 1);
        }
        let done = world.run_until(Duration::from_secs(3000), |world| {
            read(world, &mut ledgers, 1);
            world.ends[0].is_delivered() || world.ends[0].state() == State::Closed
        });
        prop_assert!(done, "stuck: {:?}", world.ends[0].buffered());
        read(&mut world, &mut ledgers, 1);
        for (key, read) in &ledgers[0].read {
            let mut sent = ledgers[0].sent[key].iter();
            for one in read {
                // A subsequence, or with unordered ones a subset.
                if key.1 {
                    prop_assert!(ledgers[0].sent[key].contains(one));
                } else {
                    prop_assert!(sent.any(|other| other == one));
                }
            }
        }
        if world.ends[0].state() == State::Established {
            prop_assert_eq!(world.ends[1].received(), 0);
        }
    }
}
