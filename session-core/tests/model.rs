//! Two managers, a bad network, applications that do anything: whatever happens, the two come to one view.
//!
//! `SIMULATE_SEEDS=100000 cargo test --release --test model` runs more of it than the usual 10,000 cases.
#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use proptest::prelude::*;
use session_core::{
    Config, ContentState, Dialect, Input, Modification, Session, SessionId, State,
    testing::{
        Callback, Conditions, MemoryDatagram, MemoryStream, Mishap, Note, Operation, Recorder,
        World, strategies::operations,
    },
};
use std::time::Duration;

const TRANSPORTS: [&str; 3] = ["urn:example:one", "urn:example:two", "urn:example:stream"];
/// After the last fault, in virtual time: all attempts at an answer, the time for a path, for each transport once.
const HEALING: Duration = Duration::from_secs(900);

/// What goes wrong with the transports of one host.
type Mishaps = [Mishap; 3];

fn mishap() -> impl Strategy<Value = Mishap> {
    prop_oneof![
        12 => Just(Mishap::None),
        1 => Just(Mishap::RefusesOffers),
        1 => Just(Mishap::RefusesAnswers),
        1 => Just(Mishap::RefusesChannels),
        1 => Just(Mishap::FailsOnConnect),
        1 => Just(Mishap::FailsAfter(Duration::from_secs(20))),
        1 => Just(Mishap::NeverConnects),
    ]
}

fn world(seed: u64, dialect: &'static Dialect, mishaps: [Mishaps; 2]) -> World {
    let mut world = World::new(seed);
    for (name, mishaps) in ["alice@a.example/1", "bob@b.example/2"]
        .into_iter()
        .zip(mishaps)
    {
        let config = Config {
            dialect,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            let every = (Duration::from_secs(10), Duration::from_secs(35));
            for (namespace, mishap) in TRANSPORTS.into_iter().zip(mishaps) {
                if namespace == TRANSPORTS[2] {
                    let stream = MemoryStream::new().with_namespace(namespace);
                    manager.add_transport(
                        stream.with_keepalive(every.0, every.1).with_mishap(mishap),
                    )?;
                } else {
                    let datagram = MemoryDatagram::new().with_namespace(namespace);
                    manager.add_transport(
                        datagram
                            .with_keepalive(every.0, every.1)
                            .with_mishap(mishap),
                    )?;
                }
            }
            manager.add_client(Recorder::new().with_channel("data"))
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world.set_network(Conditions::with_delay(Duration::from_millis(20)));
    world
}

/// Everything works again, and both applications want to talk.
fn heal(world: &mut World) {
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    let now = world.now();
    for host in 0..2 {
        world.set_link(host, true);
        world.network().set_cut(host, 1 - host, false, now);
    }
    for host in 0..2 {
        for id in world.sessions(host) {
            world.with_session(host, id, |session, now| {
                session.set_ringing_timeout(Some(Duration::from_secs(300)), now);
            });
        }
    }
    let mut left = HEALING;
    while !left.is_zero() {
        let round = left.min(Duration::from_secs(30));
        for host in 0..2 {
            for id in world.sessions(host) {
                agree(world, host, id);
            }
        }
        world.run_for(round);
        left -= round;
    }
}

fn agree(world: &mut World, host: usize, id: SessionId) {
    world.with_session(host, id, |session, now| {
        if session.state() == State::ReceivedInitiate {
            let _ = session.accept(&Note("at last".into()), now);
        }
        let open: Vec<_> = session
            .contents()
            .filter(|content| content.state() == ContentState::ProposedThere)
            .map(|content| content.name().clone())
            .collect();
        for name in open {
            let _ = session.accept_content(
                &name,
                session_core::Element::new("urn:example", "description"),
                now,
            );
        }
        // Whether the peer still knows the session.
        let _ = session.send_info(Vec::new(), now);
    });
}

/// What one side holds of a session. Who sends is left out where it cannot be known: when a change was not answered,
/// and when changes overtook each other, which XMPP forbids (RFC 6120 §10.1).
fn view(session: &Session, with_senders: bool) -> String {
    let mut contents: Vec<_> = session
        .contents()
        .map(|c| {
            let senders = with_senders.then(|| c.senders());
            (c.name(), c.state(), senders, c.transport())
        })
        .collect();
    contents.sort();
    format!("{:?} {contents:?}", session.state())
}

/// Both have it, running over the same transports, or neither has.
fn agreed(world: &World, in_order: bool) -> Result<(), String> {
    for host in 0..2 {
        for id in world.sessions(host) {
            let session = world.manager(host).peek(id).unwrap();
            let sid = session.sid();
            let other = world.find(1 - host, sid);
            let Some(other) = other.and_then(|id| world.manager(1 - host).peek(id)) else {
                if session.channel_ids().next().is_none() && !session.dialect().has_modify {
                    // Nothing can tell it: no path that breaks, no error that says why.
                    continue;
                }
                let view = view(session, true);
                return Err(format!(
                    "host {host} has {sid} and the other has nothing: {view}"
                ));
            };
            let answered = in_order && (0..2).all(|host| no_change_was_lost(world, host, sid));
            let [here, there] = [session, other].map(|session| view(session, answered));
            if session.state() != State::InProgress || here != there {
                return Err(format!("{sid}: {here} here, {there} there"));
            }
        }
    }
    Ok(())
}

fn no_change_was_lost(world: &World, host: usize, sid: &str) -> bool {
    let lost =
        |callback: &Callback| matches!(callback, Callback::Modify(Modification::Refused { .. }));
    let entries = world.log(host).entries();
    !entries
        .iter()
        .any(|entry| *entry.sid == *sid && lost(&entry.callback))
}

fn run(
    seed: u64,
    dialect: &'static Dialect,
    mishaps: [Mishaps; 2],
    operations: &[Operation],
    interruptions: &[Interruption],
) -> Result<(), TestCaseError> {
    let mut world = world(seed, dialect, mishaps);
    for (operation, interruption) in operations.iter().zip(interruptions) {
        if let Some((host, interrupted)) = *interruption {
            world.handle_input(host, Input::Interrupted(interrupted));
        }
        world.apply(operation);
        prop_assert!(
            world.breaches().is_empty(),
            "{}",
            world.breaches().join("\n")
        );
    }
    let keeps_order = |operation: &Operation| match operation {
        Operation::Wire(conditions) => conditions.duplicate == 0.0 && conditions.reorder == 0.0,
        _ => true,
    };
    let in_order = operations.iter().all(keeps_order);
    heal(&mut world);
    let story = || story(&world);
    prop_assert!(
        world.breaches().is_empty(),
        "{}\n{}",
        world.breaches().join("\n"),
        story()
    );
    if let Err(disagreement) = agreed(&world, in_order) {
        return Err(TestCaseError::fail(format!("{disagreement}\n{}", story())));
    }
    for host in 0..2 {
        world.apply(&Operation::TerminateAll { host });
    }
    world.run_for(Duration::from_secs(300));
    let left = [world.breaches(), &world.leftovers()].concat().join("\n");
    prop_assert!(left.is_empty(), "{left}\n{}", self::story(&world));
    Ok(())
}

/// What the applications saw, for the reader of a failure.
fn story(world: &World) -> String {
    let mut lines = Vec::new();
    for host in 0..2 {
        for entry in world.log(host).entries() {
            if !matches!(
                entry.callback,
                Callback::Packet(..) | Callback::Writable(..)
            ) {
                let time = (entry.at - (world.now() - world.time())).as_secs_f64();
                lines.push((
                    entry.at,
                    format!("{time:>9.3}s {host} {} {:?}", entry.sid, entry.callback),
                ));
            }
        }
    }
    lines.sort_by_key(|(at, _)| *at);
    let skip = lines.len().saturating_sub(60);
    lines
        .into_iter()
        .skip(skip)
        .map(|(_, line)| line)
        .collect::<Vec<_>>()
        .join("\n")
}

#[allow(
    clippy::disallowed_methods,
    reason = "how many cases to run is the caller's choice"
)]
fn cases() -> u32 {
    let seeds = std::env::var("SIMULATE_SEEDS").ok();
    seeds.and_then(|seeds| seeds.parse().ok()).unwrap_or(10_000)
}

/// The most operations of a case.
const MOST: usize = 40;

/// Before an operation, the signalling of a host is interrupted, or goes on.
type Interruption = Option<(usize, bool)>;

fn interruptions() -> impl Strategy<Value = Vec<Interruption>> {
    let one = proptest::option::weighted(0.1, (0..2_usize, any::<bool>()));
    proptest::collection::vec(one, MOST)
}

fn config() -> ProptestConfig {
    ProptestConfig {
        cases: cases() / 2,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn two_peers_agree_in_jingle(
        seed in any::<u64>(),
        mishaps in [[mishap(), mishap(), mishap()], [mishap(), mishap(), mishap()]],
        operations in operations(2, MOST),
        interruptions in interruptions(),
    ) {
        run(seed, Dialect::JINGLE, mishaps, &operations, &interruptions)?;
    }

    #[test]
    fn two_peers_agree_in_the_google_dialect(
        seed in any::<u64>(),
        mishaps in [[mishap(), mishap(), mishap()], [mishap(), mishap(), mishap()]],
        operations in operations(2, MOST),
        interruptions in interruptions(),
    ) {
        run(seed, Dialect::GTALK, mishaps, &operations, &interruptions)?;
    }
}
