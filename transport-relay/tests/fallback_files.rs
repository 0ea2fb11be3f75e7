//! Files between two of ours while transports break, at any moment: whatever was delivered is delivered once, and the file
//! arrives whole whenever a transport is left.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod faulty;

use bytes::Bytes;
use faulty::{Fault, Faulty, any_fault};
use proptest::prelude::*;
use session_core::{
    Config, SessionId,
    testing::{Conditions, MemoryStream, World, memory},
};
use session_file::{
    Acceptance, Decision, FILE_TRANSFER, File, FileClient, FileConfig, FileVerdict, Outcome,
    Proposal, Read, Transfer, TransferId,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use transport_relay::{
    ibb::{self, Ibb},
    s5b::{self, S5b, S5bConfig},
};

const TRANSPORTS: [&str; 3] = [memory::STREAM_NAMESPACE, s5b::NAMESPACE, ibb::NAMESPACE];
const NAMES: [&str; 2] = ["alice@a.example/1", "bob@b.example/2"];
/// For each transport the time to connect or to miss the path, and the answers between; and the file.
const BOUND: Duration = Duration::from_secs(3 * (65 + 45 + 30) + 120);
/// After what time without a byte a path counts as dead.
const STANDSTILL: Duration = Duration::from_secs(30);
const PACE: Duration = Duration::from_millis(100);
const PIECE: usize = 2_000;

/// `moves`: whether each tells the other where its stream goes on, as ours do and other people's do not.
fn world(seed: u64, faults: [[Fault; 3]; 2], moves: [bool; 2]) -> World {
    let mut world = World::new(seed);
    for ((name, faults), moves) in NAMES.into_iter().zip(faults).zip(moves) {
        world.add_host(name, Config::default(), |manager| {
            let s5b = S5b::new(S5bConfig {
                listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
                ..S5bConfig::default()
            });
            manager.add_transport(Faulty::new(MemoryStream::new(), faults[0]))?;
            manager.add_transport(Faulty::new(s5b, faults[1]))?;
            manager.add_transport(Faulty::new(Ibb::new(), faults[2]))?;
            manager.add_client(FileClient::new(FileConfig {
                moves,
                gives_again: true,
                standstill: STANDSTILL,
                ..FileConfig::default()
            }))
        });
    }
    world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
    world.set_network(Conditions::with_delay(Duration::from_millis(10)));
    world
}

fn client<R>(world: &mut World, host: usize, f: impl FnOnce(&mut FileClient) -> R) -> R {
    world.update(host, |manager, _| f(manager.find_client().unwrap()))
}

fn transfer(world: &mut World, host: usize) -> Option<TransferId> {
    client(world, host, |files| {
        let session: SessionId = files.sessions().next()?;
        let content = files.transfers(session).next()?.content().clone();
        Some(TransferId { session, content })
    })
}

fn outcome(world: &mut World, host: usize, id: &TransferId) -> Option<Outcome> {
    client(world, host, |files| {
        files.transfer(id).and_then(|t| t.outcome().cloned())
    })
}

fn offer(world: &mut World, order: &[&str], size: usize) -> TransferId {
    client(world, 1, |files| {
        files.set_policy(|offer| {
            let content = offer.files[0].content.clone();
            FileVerdict::Decide(vec![(content, Decision::Accept(Acceptance::default()))])
        });
    });
    world.update(0, |manager, now| {
        let session = manager
            .create_session(NAMES[0].into(), FILE_TRANSFER, now)
            .unwrap();
        let chosen = manager.session(session).unwrap();
        chosen.set_potential_transports(order).unwrap();
        let file = Proposal::Offer(File::new("f", size as u64));
        let opened = FileClient::open(manager, session, NAMES[1].into(), vec![file], now);
        opened.unwrap().remove(0)
    })
}

/// Whether everything is to be given again.
fn begins_again(world: &mut World, id: &TransferId) -> bool {
    let rewound = client(world, 0, |files| {
        files.transfer(id).is_some_and(Transfer::is_rewound)
    });
    rewound
        && world
            .update(0, |manager, now| FileClient::begin_again(manager, id, now))
            .is_ok()
}

/// Sends a file at its pace, and judges what came of it.
fn judge(
    seed: u64,
    order: &[&str],
    faults: [[Fault; 3]; 2],
    moves: [bool; 2],
    size: usize,
) -> Result<(), TestCaseError> {
    let mut world = world(seed, faults, moves);
    let all: Bytes = (0..size).map(|at| (at ^ (at >> 8)) as u8).collect();
    let ours = offer(&mut world, order, size);
    let mut left = all.clone();
    let mut received: Vec<u8> = Vec::new();
    let mut theirs = None;
    while world.time() < BOUND {
        if begins_again(&mut world, &ours) {
            left = all.clone();
        }
        if !left.is_empty() {
            let count = PIECE.min(left.len());
            let mut piece = left.slice(..count);
            // Not yet, or not any more: the outcome tells.
            let _ = world.update(0, |m, now| FileClient::write(m, &ours, &mut piece, now));
            let _ = left.split_to(count - piece.len());
        }
        world.run_for(PACE);
        theirs = theirs.or_else(|| transfer(&mut world, 1));
        let Some(id) = &theirs else { continue };
        while let Ok(Read::Bytes(bytes)) = world.update(1, |manager, now| {
            FileClient::read(manager, id, usize::MAX, now)
        }) {
            received.extend_from_slice(&bytes);
        }
        if (0..2).all(|host| world.manager(host).session_count() == 0) {
            break;
        }
    }
    prop_assert_eq!(world.breaches(), &[] as &[String]);
    prop_assert!(all.starts_with(&received), "a byte is lost, or comes twice");
    let sent = outcome(&mut world, 0, &ours);
    let counted = theirs.as_ref().and_then(|id| {
        client(&mut world, 1, |files| {
            files.transfer(id).map(|t| t.progress().received)
        })
    });
    let taken = theirs.and_then(|id| outcome(&mut world, 1, &id));
    let fine = |name: &&&str| {
        let at = TRANSPORTS.iter().position(|known| known == *name).unwrap();
        faults.iter().all(|host| host[at] == Fault::None)
    };
    let is_left = order.iter().any(|name| fine(&name));
    let arrived = matches!(taken, Some(Outcome::Received(_)));
    let text = || format!("{sent:?} and {taken:?} after {} bytes", received.len());
    prop_assert!(sent.is_some(), "it does not end: {}", text());
    prop_assert!(arrived || !is_left, "one was left: {}", text());
    if arrived {
        prop_assert_eq!(received.len(), size);
        prop_assert_eq!(counted, Some(size as u64), "what came again does not count");
        // Who sends may have lost the last transport before it heard of the end; with one left it knows.
        let knows = matches!(sent, Some(Outcome::Sent { .. }));
        prop_assert!(knows || !is_left, "{}", text());
    } else {
        // A connection that breaks may look like one that the peer has ended: then nobody confirms it.
        let known = taken
            .as_ref()
            .is_none_or(|taken| matches!(taken, Outcome::Failed(_)));
        let claims = matches!(sent, Some(Outcome::Sent { confirmed: true }));
        prop_assert!(known && !claims, "both know: {}", text());
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
    ]
}

/// One after the other, each in the middle of the file.
#[test]
fn a_file_moves_twice_and_no_byte_comes_twice() {
    for order in orders() {
        let mut faults = [[Fault::None; 3]; 2];
        for (at, name) in order[..order.len() - 1].iter().enumerate() {
            let place = TRANSPORTS.iter().position(|known| known == name).unwrap();
            faults[at % 2][place] = Fault::FailsAfter(Duration::from_secs(3));
        }
        for moves in [[true; 2], [false, true], [true, false], [false; 2]] {
            let judged = judge(1, &order, faults, moves, 300_000);
            judged.unwrap_or_else(|error| panic!("{order:?} {moves:?}: {error}"));
        }
    }
}

/// Whoever finds that out, and before or after the answer.
#[test]
fn a_file_goes_on_where_a_transport_has_no_room_for_a_channel() {
    for order in orders() {
        for host in 0..2 {
            let mut faults = [[Fault::None; 3]; 2];
            for name in &order[..order.len() - 1] {
                let place = TRANSPORTS.iter().position(|known| known == name).unwrap();
                faults[host][place] = Fault::RefusesChannels;
            }
            let judged = judge(1, &order, faults, [true; 2], 20_000);
            judged.unwrap_or_else(|error| panic!("{order:?} by {host}: {error}"));
        }
    }
}

/// All of it is written, the other side answers when it is asked, and the path is dead.
#[test]
fn a_dead_path_that_does_not_say_so_is_left_in_time() {
    for moves in [[true; 2], [false; 2]] {
        for (order, host) in orders()
            .into_iter()
            .flat_map(|order| [(order.clone(), 0), (order, 1)])
        {
            let mut faults = [[Fault::None; 3]; 2];
            for name in &order[..order.len() - 1] {
                let place = TRANSPORTS.iter().position(|known| known == name).unwrap();
                faults[host][place] = Fault::SilentAfter(Duration::from_secs(1));
            }
            let judged = judge(1, &order, faults, moves, 40_000);
            judged.unwrap_or_else(|error| panic!("{order:?} {moves:?} by {host}: {error}"));
        }
    }
}

/// A stream that is dead on its receiver's side has every byte acknowledged, and then everything goes again.
#[test]
fn what_is_given_again_is_waited_for_anew() {
    let order = [s5b::NAMESPACE, memory::STREAM_NAMESPACE, ibb::NAMESPACE];
    let late = Fault::SilentAfter(Duration::from_millis(160));
    let theirs = [Fault::SilentAfter(Duration::ZERO), late, Fault::None];
    let ours = [Fault::NeverConnects, Fault::None, Fault::None];
    judge(0, &order, [ours, theirs], [false; 2], 48_001).unwrap_or_else(|error| panic!("{error}"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn any_transports_break_while_a_file_is_under_way(
        seed: u64,
        order in prop::sample::select(orders()),
        faults in prop::array::uniform2(prop::array::uniform3(any_fault(20_000, true))),
        moves: [bool; 2],
        size in 1..200_000_usize,
    ) {
        judge(seed, &order, faults, moves, size)?;
    }
}
