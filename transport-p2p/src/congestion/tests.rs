//! The controller on simulated links, in virtual time.

mod bbr;
mod cubic;
mod link;

use self::{
    bbr::Bbr,
    cubic::Cubic,
    link::{Flow, Link, PACKET, World},
};
use super::{Ack, Congestion, Loss, Model};
use proptest::prelude::*;
use session_core::testing::epoch;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

fn model(now: Instant) -> Box<dyn Congestion> {
    Box::new(Model::new(PACKET, now))
}

/// One flow alone: the part of the link it takes after five seconds of start.
fn alone(link: Link) -> (f64, Flow) {
    let start = epoch();
    let mut world = World::new(link, vec![Flow::new(model(start), start)], start);
    world.run(start + 5 * SECOND);
    world.flows[0].reset();
    world.run(start + 25 * SECOND);
    let flow = world.flows.remove(0);
    (flow.delivered as f64 / (link.rate * 20.0), flow)
}

/// Two flows, the second of which comes two seconds later: the parts that they take of a minute.
fn beside(link: Link, flows: [Box<dyn Congestion>; 2]) -> [f64; 2] {
    let start = epoch();
    let [first, second] = flows;
    let flows = vec![
        Flow::new(first, start),
        Flow::new(second, start + 2 * SECOND),
    ];
    let mut world = World::new(link, flows, start);
    world.run(start + 10 * SECOND);
    world.flows.iter_mut().for_each(Flow::reset);
    world.run(start + 70 * SECOND);
    [0, 1].map(|flow| world.flows[flow].delivered as f64 / (link.rate * 60.0))
}

#[test]
fn fills_a_clean_link_without_a_standing_queue() {
    for (rate, milliseconds) in [(12.5e6, 50), (1.25e6, 50), (12.5e6, 200), (125e6, 10)] {
        let link = Link {
            rate,
            round_trip: Duration::from_millis(milliseconds),
            buffer: (rate * milliseconds as f64 / 1000.0) as u64,
            ..Link::usual()
        };
        let (part, flow) = alone(link);
        assert!(part >= 0.97, "{part} of {link:?}");
        assert_eq!(flow.lost, 0, "{link:?}");
        assert!(flow.mean_queue() < Duration::from_millis(8), "{link:?}");
        if milliseconds == 50 {
            let queue = flow.worst_queue;
            assert!(queue <= Duration::from_millis(15), "{queue:?} of {link:?}");
        }
    }
}

#[test]
fn random_loss_is_no_congestion() {
    for (loss, least) in [(0.001, 0.97), (0.01, 0.96), (0.03, 0.93)] {
        let link = Link {
            loss,
            ..Link::usual()
        };
        let (part, flow) = alone(link);
        assert!(part >= least, "{part} at {loss}");
        // It loses what the link loses, and nothing by its own overflow.
        assert!((flow.lost as f64) < flow.sent as f64 * loss * 1.2);
    }
}

#[test]
fn the_start_is_quick() {
    let start = epoch();
    let mut world = World::new(Link::usual(), vec![Flow::new(model(start), start)], start);
    world.run(start + SECOND);
    let flow = &world.flows[0];
    // What the start does not carry is worth some five round trips of twenty.
    assert!(flow.delivered as f64 > 12.5e6 * 0.72, "{}", flow.delivered);
    assert!(flow.lost < 625_000, "{}", flow.lost);
}

/// What a handshake has delivered is little because there was little, and the pace of the start does not follow from it.
#[test]
fn a_handshake_does_not_slow_the_start() {
    let (mut now, round) = (epoch(), Duration::from_millis(50));
    let mut controller = Model::new(PACKET, now);
    assert_eq!(controller.pacing_rate(), None);
    assert_eq!(controller.window(), 10 * PACKET, "they leave at once");
    for _ in 0..3 {
        controller.on_sent(now, 136, 136);
        controller.on_limited(136);
        let sent = now;
        now += round;
        controller.on_ack(&Ack {
            now,
            sent,
            bytes: 136,
            rtt: Some(round),
            in_flight: 0,
        });
        assert!(controller.window() >= 32 * PACKET);
        let within = controller.pacing_rate().unwrap() as f64 * round.as_secs_f64();
        assert!(within >= (32 * PACKET) as f64, "{within} in a round trip");
    }
}

#[test]
fn shares_with_cubic_and_bbr() {
    for buffer in [625_000, 1_250_000, 2_500_000] {
        let link = Link {
            buffer,
            ..Link::usual()
        };
        let now = epoch();
        let later = now + 2 * SECOND;
        let cubic = || Box::new(Cubic::new(PACKET));
        let bbr = |now| Box::new(Bbr::new(PACKET, now));
        let fair = |part: f64, with: &str| {
            assert!((0.25..=0.75).contains(&part), "{part} {with}, {buffer}");
        };
        fair(beside(link, [model(now), cubic()])[0], "before cubic");
        fair(beside(link, [cubic(), model(later)])[1], "after cubic");
        fair(beside(link, [model(now), bbr(later)])[0], "before bbr");
        fair(beside(link, [bbr(now), model(later)])[1], "after bbr");
    }
}

#[test]
fn two_share_and_leave_nothing_unused() {
    let now = epoch();
    let parts = beside(Link::usual(), [model(now), model(now + 2 * SECOND)]);
    assert!(parts[0] + parts[1] > 0.96, "{parts:?}");
    assert!(parts.iter().all(|part| *part > 0.25), "{parts:?}");
}

#[test]
fn follows_a_link_that_changes() {
    let start = epoch();
    let mut world = World::new(Link::usual(), vec![Flow::new(model(start), start)], start);
    let mut until = start;
    for rate in [12.5e6, 2.5e6, 25e6, 0.5e6, 12.5e6] {
        world.link.rate = rate;
        until += 10 * SECOND;
        world.run(until);
        world.flows[0].reset();
        until += 10 * SECOND;
        world.run(until);
        let part = world.flows[0].delivered as f64 / (rate * 10.0);
        assert!(part > 0.9, "{part} of {rate}");
    }
}

#[test]
fn an_application_that_sends_little_leaves_the_model_alone() {
    let mut now = epoch();
    let mut controller = Model::new(PACKET, now);
    let round = Duration::from_millis(50);
    let mut packets = |controller: &mut Model, count: u64, limited: bool| {
        let sent = now;
        controller.on_sent(now, count * PACKET, count * PACKET);
        if limited {
            controller.on_limited(count * PACKET);
        }
        now += round;
        controller.on_ack(&Ack {
            now,
            sent,
            bytes: count * PACKET,
            rtt: Some(round),
            in_flight: 0,
        });
    };
    for _ in 0..20 {
        let count = controller.window() / PACKET;
        packets(&mut controller, count.min(1000), false);
    }
    let before = controller.bandwidth();
    for _ in 0..200 {
        packets(&mut controller, 3, true);
    }
    assert!(controller.bandwidth() * 10 >= before * 9, "{before}");
}

#[derive(Clone, Debug)]
enum Step {
    Sent(u64),
    Ack(u64, u64, bool),
    Loss(u64),
    Timeout,
    Limited,
    Spurious,
    Wait(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..100_000u64).prop_map(Step::Sent),
        4 => (1..100_000u64, 0..10_000_000u64, any::<bool>()).prop_map(|(a, b, c)| Step::Ack(a, b, c)),
        2 => (1..100_000u64).prop_map(Step::Loss),
        1 => Just(Step::Timeout),
        1 => Just(Step::Limited),
        1 => Just(Step::Spurious),
        3 => (0..10_000_000_000u64).prop_map(Step::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Whatever a peer makes up: no panic, never a closed window, never a pace of nothing.
    #[test]
    fn never_stops(steps in prop::collection::vec(step(), 1..200)) {
        let mut now = epoch() + Duration::from_secs(100);
        let mut controller = Model::new(PACKET, now);
        let mut in_flight = 0u64;
        for step in steps {
            match step {
                Step::Sent(bytes) => {
                    in_flight += bytes;
                    controller.on_sent(now, bytes, in_flight);
                }
                Step::Ack(bytes, age, known) => {
                    in_flight = in_flight.saturating_sub(bytes);
                    let age = Duration::from_micros(age);
                    controller.on_ack(&Ack { now, sent: now - age, bytes, rtt: known.then_some(age), in_flight });
                }
                Step::Loss(bytes) => {
                    in_flight = in_flight.saturating_sub(bytes);
                    controller.on_loss(&Loss { now, sent: now, bytes, in_flight });
                }
                Step::Timeout => controller.on_timeout(now),
                Step::Limited => controller.on_limited(in_flight),
                Step::Spurious => controller.on_spurious(now),
                Step::Wait(nanoseconds) => now += Duration::from_nanos(nanoseconds),
            }
            prop_assert!(controller.window() >= 4 * PACKET);
            prop_assert!(controller.pacing_rate().is_none_or(|rate| rate > 0));
        }
    }
}
