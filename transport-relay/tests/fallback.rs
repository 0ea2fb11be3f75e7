//! Going on with another transport: whatever breaks, and whenever, two peers end up on one that works if there is one,
//! and otherwise both know that it is over.
#![allow(clippy::unwrap_used)]

mod faulty;

use bytes::Bytes;
use faulty::{Fault, Faulty, any_fault};
use proptest::prelude::*;
use session_core::{
    Action, Config, Element, SendError, SessionId, State,
    testing::{
        Answer, Callback, Conditions, MemoryStream, Note, Parcel, RECORDER_NAMESPACE, Recorder,
        World, memory,
    },
};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use transport_relay::{
    ibb::{self, Ibb},
    s5b::{self, S5b, S5bConfig},
};

/// Stands for a stream over ICE: it has candidates of its own, keeps its path alive, and notices when that is gone.
const DIRECT: &str = memory::STREAM_NAMESPACE;
const TRANSPORTS: [&str; 3] = [DIRECT, s5b::NAMESPACE, ibb::NAMESPACE];
const SECOND: Duration = Duration::from_secs(1);
/// Whatever happens, it is over or it works after so long: for each transport the time to connect or to miss the path,
/// and the answers between.
const BOUND: Duration = Duration::from_secs(3 * (65 + 45) + 60);

/// Who breaks what: by host, then by transport.
type Faults = [[Fault; 3]; 2];

fn world(seed: u64, order: &[&str], faults: Faults) -> World {
    let mut world = World::new(seed);
    for (name, faults) in ["alice@a.example/1", "bob@b.example/2"]
        .into_iter()
        .zip(faults)
    {
        world.add_host(name, Config::default(), |manager| {
            let s5b = S5b::new(S5bConfig {
                listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                ..S5bConfig::default()
            });
            manager.add_transport(Faulty::new(MemoryStream::new(), faults[0]))?;
            manager.add_transport(Faulty::new(s5b, faults[1]))?;
            manager.add_transport(Faulty::new(Ibb::new(), faults[2]))?;
            let recorder = Recorder::new()
                .with_channel("data")
                .with_answer(Answer::Accept)
                .with_transports(order);
            manager.add_client(recorder)
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world.set_network(Conditions::with_delay(Duration::from_millis(10)));
    world
}

/// Sends a word of four bytes. Whether it was taken.
fn send(world: &mut World, host: usize, id: SessionId, word: u32) -> bool {
    let bytes = Bytes::copy_from_slice(&word.to_be_bytes());
    let sent = world.with_session(host, id, |session, now| match session.channel("data") {
        Some(channel) => session.send(channel, bytes, now),
        None => Err(SendError::NoSuchChannel),
    });
    sent == Some(Ok(()))
}

/// All words that came, over whatever transport.
fn received(world: &World, host: usize, id: SessionId) -> Vec<u32> {
    let mut bytes = Vec::new();
    for entry in world.log(host).entries() {
        if let (true, Callback::Packet(_, packet)) = (entry.session == id, entry.callback) {
            bytes.extend_from_slice(&packet);
        }
    }
    assert!(bytes.len().is_multiple_of(4), "a word is torn");
    let words = bytes.chunks_exact(4);
    words
        .map(|word| u32::from_be_bytes(word.try_into().unwrap()))
        .collect()
}

/// Nothing comes twice, or before what was said before it; and what was said on the transport in use comes.
fn check_words(words: &[u32]) -> Result<(), TestCaseError> {
    let increasing = words.is_sorted_by(|a, b| a < b);
    prop_assert!(increasing, "twice, or out of order: {:?}", words);
    Ok(())
}

/// What a session came to: the transport, or the end.
fn outcome(world: &World, host: usize) -> Result<String, ()> {
    let id = world.sessions(host).first().copied().ok_or(())?;
    let session = world.manager(host).peek(id).ok_or(())?;
    Ok(session.transport().unwrap_or_default().to_owned())
}

/// Calls, lets everything break that is to break while both talk now and then, and says on which transport they are.
fn run(seed: u64, order: &[&str], faults: Faults) -> Result<Option<String>, TestCaseError> {
    let mut world = world(seed, order, faults);
    let id = world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(SECOND);
    let other = world.sessions(1).first().copied();
    let mut ticks = 0_u32;
    while world.time() < BOUND {
        // The responder falls silent now and then: it must not depend on what the other has to say.
        if ticks.is_multiple_of(3) {
            send(&mut world, 0, id, ticks);
        }
        if let Some(other) = other.filter(|_| ticks.is_multiple_of(7)) {
            send(&mut world, 1, other, ticks);
        }
        ticks += 1;
        world.run_for(SECOND);
    }
    prop_assert_eq!(world.breaches(), &[] as &[String]);
    check_words(&received(&world, 0, id))?;
    if let Some(other) = other {
        check_words(&received(&world, 1, other))?;
    }
    let outcomes = [outcome(&world, 0), outcome(&world, 1)];
    match outcomes {
        [Err(()), Err(())] => {
            for (host, id) in [Some(id), other].into_iter().enumerate() {
                let last = id.map(|id| world.log(host).states(id));
                let last = last.and_then(|states| states.last().copied());
                prop_assert!(last.is_none_or(|state| state == State::Deinit), "{last:?}");
            }
            Ok(None)
        }
        [Ok(ours), Ok(theirs)] => {
            prop_assert_eq!(&ours, &theirs, "they talk about different things");
            let other = other.unwrap();
            let before = [
                received(&world, 0, id).len(),
                received(&world, 1, other).len(),
            ];
            for word in [ticks, ticks + 1, ticks + 2] {
                prop_assert!(send(&mut world, 0, id, word), "on {}", ours);
                prop_assert!(send(&mut world, 1, other, word), "on {}", ours);
            }
            world.run_for(5 * SECOND);
            for (host, id) in [id, other].into_iter().enumerate() {
                let words = received(&world, host, id);
                let last = [ticks, ticks + 1, ticks + 2];
                prop_assert_eq!(&words[before[host]..], last, "on {}", ours);
            }
            Ok(Some(ours))
        }
        other => Err(TestCaseError::fail(format!(
            "one believes in a session, the other does not: {other:?}; {:?}",
            world
                .log(0)
                .entries()
                .iter()
                .chain(&world.log(1).entries())
                .map(|e| format!("{:?}", e.callback))
                .collect::<Vec<_>>()
        ))),
    }
}

fn judge(seed: u64, order: &[&str], faults: Faults) -> Result<(), TestCaseError> {
    let fine = |name: &&&str| {
        let at = TRANSPORTS.iter().position(|known| known == *name).unwrap();
        faults.iter().all(|host| host[at] == Fault::None)
    };
    let left: Vec<_> = order.iter().filter(fine).collect();
    let found = run(seed, order, faults)?;
    match found {
        Some(transport) => {
            // One that breaks later may still be what they are on, if it has not broken yet.
            prop_assert!(order.contains(&&*transport));
        }
        None => prop_assert!(left.is_empty(), "over, and {left:?} was left"),
    }
    Ok(())
}

fn orders() -> Vec<Vec<&'static str>> {
    let [a, b, c] = TRANSPORTS;
    vec![
        vec![a, b, c],
        vec![a, c, b],
        vec![b, a, c],
        vec![b, c, a],
        vec![c, a, b],
        vec![c, b, a],
        vec![b, c],
        vec![c, b],
        vec![a, c],
        vec![c],
    ]
}

const FINE: [Fault; 3] = [Fault::None; 3];

#[test]
fn the_first_of_any_order_is_used_when_nothing_breaks() {
    for order in orders() {
        assert_eq!(
            run(1, &order, [FINE; 2]).unwrap().as_deref(),
            Some(order[0])
        );
    }
}

#[test]
fn the_last_is_reached_whoever_breaks_the_others() {
    let kinds = [
        Fault::RefusesOffers,
        Fault::RefusesAnswers,
        Fault::RefusesChannels,
        Fault::FailsOnConnect,
        Fault::NeverConnects,
        Fault::FailsAfter(Duration::from_secs(5)),
    ];
    for order in orders() {
        for kind in kinds {
            for host in 0..2 {
                // It answers no offer of its own, and makes no answer that it could refuse.
                let role = usize::from(kind == Fault::RefusesOffers);
                if matches!(kind, Fault::RefusesOffers | Fault::RefusesAnswers) && host != role {
                    continue;
                }
                let mut faults = [FINE; 2];
                for (at, name) in TRANSPORTS.iter().enumerate() {
                    if *name != order[order.len() - 1] {
                        faults[host][at] = kind;
                    }
                }
                let found = run(7, &order, faults);
                let found =
                    found.unwrap_or_else(|error| panic!("{order:?} {kind:?} {host}: {error}"));
                assert_eq!(
                    found.as_deref(),
                    order.last().copied(),
                    "{order:?} {kind:?} by {host}"
                );
            }
        }
    }
}

#[test]
fn when_all_are_broken_both_know_that_it_is_over() {
    for order in orders() {
        for host in 0..2 {
            for kind in [Fault::FailsOnConnect, Fault::FailsAfter(2 * SECOND)] {
                let mut faults = [FINE; 2];
                faults[host] = [kind; 3];
                let found = run(3, &order, faults);
                let found =
                    found.unwrap_or_else(|error| panic!("{order:?} {kind:?} {host}: {error}"));
                assert_eq!(found, None, "{order:?} {kind:?} by {host}");
            }
        }
    }
}

/// Both sides can reach nobody, and the peer says so first. Dino refuses a replacement that comes before our own word.
#[test]
fn a_transport_says_its_last_word_before_another_takes_its_place() {
    let mut world = world(5, &[s5b::NAMESPACE, ibb::NAMESPACE], [FINE; 2]);
    for host in 0..2 {
        world.network().set_refusing(host, true);
    }
    world.hold(true);
    world
        .call(0, 1, RECORDER_NAMESPACE, &Note("call".into()))
        .unwrap();
    world.run_for(SECOND);
    // Bob accepts, tries, and fails, before Alice hears of any of it.
    world.deliver(0);
    world.run_for(10 * SECOND);
    let mut said = Vec::new();
    world.run_until(60 * SECOND, |world| {
        while let Some(envelope) = world.held().first() {
            if let (0, Parcel::Message { message, .. }) = (envelope.from, &envelope.parcel) {
                let mut transports = message.contents.iter().flat_map(|c| &c.transports);
                let gives_up = |t: &Element| t.find(s5b::NAMESPACE, "candidate-error").is_some();
                said.push((message.action, transports.any(gives_up)));
            }
            world.deliver(0);
        }
        said.iter()
            .any(|(action, _)| *action == Action::TransportReplace)
    });
    let replaced = said
        .iter()
        .position(|(action, _)| *action == Action::TransportReplace);
    let gave_up = said.iter().position(|(_, gives_up)| *gives_up);
    assert!(gave_up.is_some() && gave_up < replaced, "{said:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_transports_break_at_any_moment(
        seed: u64,
        order in prop::sample::select(orders()),
        faults in prop::array::uniform2(prop::array::uniform3(any_fault(60_000, false))),
    ) {
        judge(seed, &order, faults)?;
    }
}
