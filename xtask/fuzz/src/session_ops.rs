//! Two managers, applications that do anything, and between them a stranger who forges messages.

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::{Config as RunnerConfig, RngAlgorithm, TestRng, TestRunner},
};
use session_core::{
    Config, Dialect, Input, Message, Peer,
    testing::{
        Conditions, MemoryDatagram, Operation, Recorder, World,
        strategies::{any_message, operation},
    },
};
use std::time::Duration;

/// The most operations of one case.
const MOST: usize = 48;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Operation(Operation),
    /// A message that claims to come from the other host, or from somebody else.
    Forged(usize, Box<Message>, bool),
}

/// Draws operations and forged messages from `data`, runs them, and asks whether every promise was kept: one reply to
/// each request, no panic, nothing said after the end, `Deinit` last and once, nothing left when all is over.
pub fn session_ops(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else {
        return;
    };
    // Eight bytes are one step, so that a change of the data changes few steps.
    let strategy = step();
    let steps = data.chunks(8).take(MOST).filter_map(|chunk| {
        let mut seed = [0; 32];
        seed[..chunk.len()].copy_from_slice(chunk);
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        let mut runner = TestRunner::new_with_rng(RunnerConfig::default(), rng);
        Some(strategy.new_tree(&mut runner).ok()?.current())
    });
    run(first, &steps.collect::<Vec<_>>());
}

fn step() -> impl Strategy<Value = Step> {
    proptest::prop_oneof![
        3 => operation(2).prop_map(Step::Operation),
        1 => (0..2_usize, any_message(), proptest::bool::weighted(0.8))
            .prop_map(|(host, message, known)| Step::Forged(host, Box::new(message), known)),
    ]
}

fn run(first: u8, steps: &[Step]) {
    let dialect = Dialect::ALL[usize::from(first) % Dialect::ALL.len()];
    let mut world = World::new(u64::from(first));
    for name in ["alice@a.example/1", "bob@b.example/2"] {
        let config = Config {
            dialect,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            let every = (Duration::from_secs(10), Duration::from_secs(35));
            manager.add_transport(MemoryDatagram::new().with_keepalive(every.0, every.1))?;
            let google = MemoryDatagram::new().with_namespace(session_core::GOOGLE_P2P);
            manager.add_transport(google.with_keepalive(every.0, every.1))?;
            manager.add_client(Recorder::new().with_channel("data"))
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world.set_network(Conditions::with_delay(Duration::from_millis(20)));
    for step in steps {
        match step {
            Step::Operation(operation) => {
                world.apply(operation);
            }
            Step::Forged(host, message, known) => forge(&mut world, *host, message, *known),
        }
        assert!(
            world.breaches().is_empty(),
            "{}",
            world.breaches().join("\n")
        );
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    // Twice: an offer that was overtaken by its own end, as only a broken wire does it, rings until somebody ends it.
    for _ in 0..2 {
        for host in 0..2 {
            world.set_link(host, true);
            world.apply(&Operation::TerminateAll { host });
        }
        world.run_for(Duration::from_secs(600));
    }
    let left = [world.breaches(), &world.leftovers()].concat().join("\n");
    assert!(left.is_empty(), "{left}");
}

/// A message out of the blue, mostly for a session that exists.
fn forge(world: &mut World, host: usize, message: &Message, known: bool) {
    if !world.manager(host).link() {
        return;
    }
    let mut message = message.clone();
    message.to = world.name(host).clone();
    message.from = match known {
        true => world.name(1 - host).clone(),
        false => Peer::from("mallory@m.example/3"),
    };
    if let Some(&session) = world.sessions(host).first()
        && let Some(session) = world.manager(host).peek(session)
        && *session.remote_name() == message.from
    {
        message.sid = session.sid().clone();
    }
    let id = world.request_id();
    world.handle_input(host, Input::Message { id, message });
}
