//! Trees between two of ours, in one stream, and with others, file by file.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use bytes::Bytes;
use filekit::{tree::*, *};
use proptest::prelude::*;
use session_core::testing::{Conditions, World};
use session_file::{
    Acceptance, Decision, EntryKind, FileClient, FileVerdict, Outcome, Phase, Proposal, Read,
    TransferId, TreeEntry, TreeLimits, TreeReceiver, TreeSender, TreeTotals, tree_offer,
    tree_totals,
};
use std::{collections::BTreeMap, time::Duration};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever the tree, the pieces and what is there already: every file is there with its bytes, once.
    #[test]
    fn every_tree_arrives(
        shape in prop::collection::vec((0..4usize, 0..3_000usize, any::<bool>(), 0..4u8), 0..60),
        ahead in 1..20usize,
        pieces in (1..5_000usize, 1..5_000usize),
        modified in any::<i64>(),
        mode in 0..0o1000u16,
    ) {
        let mut entries = Vec::new();
        let mut bytes = BTreeMap::new();
        let mut has = Has::new();
        let mut folders = vec![String::new()];
        for (at, (place, size, is_folder, there)) in shape.into_iter().enumerate() {
            let name = format!("{}n{at} ä", folders[place % folders.len()]);
            if is_folder {
                entries.push(TreeEntry { mode, ..folder(&name) });
                folders.push(format!("{name}/"));
                continue;
            }
            let data = data(&name, size);
            let mut entry = TreeEntry { modified: Some((modified, 999_999_999)), mode, ..file(&name, size) };
            match there {
                0 => { has.insert(name.clone(), data[..size / 2].to_vec()); }
                1 => {
                    has.insert(name.clone(), data.to_vec());
                    entry.kind = EntryKind::File { size: size as u64, hash: Some(sha256(&data).hashes().remove(0)) };
                }
                2 => { has.insert(name.clone(), vec![7; size + 1]); }
                _ => {}
            }
            bytes.insert(name, data);
            entries.push(entry);
        }
        let limits = TreeLimits { ahead, ..TreeLimits::default() };
        let arrived = copy(&entries, &bytes, &has, limits, pieces);
        prop_assert_eq!(arrived.entries.values().cloned().collect::<Vec<_>>(), {
            let mut all = entries.clone();
            all.sort_by_key(|entry| entry.path.to_string());
            all
        });
        prop_assert!(arrived.damaged.is_empty() && arrived.gone.is_empty());
        for (name, data) in &bytes {
            let there = arrived.bytes.get(name).map_or_else(|| has[name].clone(), Clone::clone);
            prop_assert!(&there == data, "{}", name);
        }
        prop_assert_eq!(arrived.whole.len(), arrived.bytes.len());
    }
}

/// The program that sends: whatever it can do now.
fn give(
    world: &mut World,
    id: &TransferId,
    sender: &mut TreeSender,
    source: &mut Source<'_>,
    prompt: bool,
) {
    if look(world, ALICE, id, |t| t.phase()) != Phase::Open {
        return;
    }
    assert!(look(world, ALICE, id, |t| t.is_tree()));
    exchange(world, ALICE, id, |input| sender.handle(&input).unwrap());
    source.feed(sender);
    while let Some(mut out) = sender.poll_output(look(world, ALICE, id, |t| t.room())) {
        world.update(ALICE, |manager, now| {
            FileClient::write(manager, id, &mut out, now).unwrap()
        });
        assert!(out.is_empty());
        source.feed(sender);
    }
    if prompt && sender.is_finished() && sender.waiting() == 0 {
        world.update(ALICE, |manager, now| {
            FileClient::finish(manager, id, now).unwrap()
        });
    }
}

/// The program that receives: whatever it can do now.
fn get(
    world: &mut World,
    id: &TransferId,
    receiver: &mut TreeReceiver,
    arrived: &mut Arrived,
    has: &Has,
) {
    exchange(world, BOB, id, |input| {
        receiver.handle(&input).unwrap();
        take(receiver, arrived, has);
    });
    while let Some(mut out) = receiver.poll_output(look(world, BOB, id, |t| t.room())) {
        world.update(BOB, |manager, now| {
            FileClient::write(manager, id, &mut out, now).unwrap()
        });
    }
    if receiver.is_finished() && look(world, BOB, id, |t| t.phase()) == Phase::Open {
        world.update(BOB, |manager, now| {
            FileClient::finish(manager, id, now).unwrap()
        });
    }
}

/// Sends a tree through a session. One who is `prompt` says at once that nothing more follows, others are slower than the peer.
fn send(
    carrier: Carrier,
    prompt: bool,
    delay: u64,
    entries: &[TreeEntry],
    bytes: &BTreeMap<String, Bytes>,
    has: &Has,
) -> (Arrived, Duration, Option<Outcome>) {
    let mut world = world(carrier);
    world.set_network(Conditions::with_delay(Duration::from_millis(delay)));
    set_policy(&mut world, BOB, |offer| {
        let totals = tree_totals(&offer.files[0].file, &TreeLimits::default());
        assert!(totals.unwrap().unwrap().entries > 0);
        let acceptance = Acceptance {
            tree: true,
            ..Acceptance::default()
        };
        let content = offer.files[0].content.clone();
        FileVerdict::Decide(vec![(content, Decision::Accept(acceptance))])
    });
    let totals = TreeTotals {
        entries: entries.len() as u64,
        bytes: bytes.values().map(|b| b.len() as u64).sum(),
    };
    let proposal = Proposal::Offer(tree_offer("tree", totals));
    let id = open(&mut world, ALICE, vec![proposal]).unwrap().remove(0);
    let mut sender = TreeSender::new(TreeLimits::default());
    let mut receiver = TreeReceiver::new(TreeLimits::default());
    let mut source = Source::new(entries, bytes, 40_000);
    let mut arrived = Arrived::default();
    let mut theirs: Option<TransferId> = None;
    let done = world.run_until(Duration::from_secs(600), |world| {
        give(world, &id, &mut sender, &mut source, prompt);
        if theirs.is_none() && client(world, BOB, |c| c.sessions().count()) == 1 {
            theirs = Some(other(world, ALICE, &id));
        }
        if let Some(theirs) = &theirs {
            get(world, theirs, &mut receiver, &mut arrived, has);
        }
        is_over(world, ALICE) && is_over(world, BOB)
    });
    assert!(done, "both sessions end");
    world.check();
    let took = world.time();
    (arrived, took, outcome(&mut world, ALICE, &id))
}

fn exchange(world: &mut World, host: usize, id: &TransferId, mut handle: impl FnMut(Bytes)) {
    loop {
        match world.update(host, |manager, now| {
            FileClient::read(manager, id, 65_536, now).unwrap()
        }) {
            Read::Bytes(bytes) => handle(bytes),
            Read::Pending | Read::End(_) | Read::Broken(_) => return,
        }
    }
}

#[test]
fn a_tree_travels_in_one_session_with_its_empty_folders_times_and_modes() {
    let entries = [
        TreeEntry {
            mode: 0o700,
            modified: Some((-5, 7)),
            ..folder("empty")
        },
        folder("d"),
        folder("d/e"),
        TreeEntry {
            mode: 0o755,
            modified: Some((1_700_000_000, 999_999_999)),
            ..file("d/e/run.sh", 70_000)
        },
        file("d/none", 0),
        file("top", 3_000_000),
        file("vanished", 10),
    ];
    let bytes: BTreeMap<String, Bytes> =
        [("d/e/run.sh", 70_000), ("d/none", 0), ("top", 3_000_000)]
            .into_iter()
            .map(|(name, size)| (name.to_owned(), data(name, size)))
            .collect();
    let has = Has::from([("top".into(), data("top", 3_000_000)[..2_000_000].to_vec())]);
    for carrier in CARRIERS {
        let (arrived, _, outcome) = send(carrier, true, 5, &entries, &bytes, &has);
        assert!(arrived.finished);
        assert_eq!(arrived.entries.len(), entries.len());
        for entry in &entries {
            assert_eq!(&arrived.entries[entry.path.as_str()], entry);
        }
        for (name, bytes) in &bytes {
            assert!(arrived.bytes[name] == *bytes, "{carrier:?} {name}");
        }
        assert_eq!(arrived.gone, ["vanished"]);
        assert_eq!(outcome, Some(Outcome::Sent { confirmed: true }));
    }
}

#[test]
fn the_word_of_who_has_a_tree_counts_before_its_sender_says_that_nothing_follows() {
    let entries = [folder("d"), file("d/a", 100_000)];
    let bytes = BTreeMap::from([("d/a".to_owned(), data("d/a", 100_000))]);
    for carrier in CARRIERS {
        let (arrived, _, outcome) = send(carrier, false, 5, &entries, &bytes, &Has::new());
        assert!(arrived.finished);
        let sent = Outcome::Sent { confirmed: true };
        assert_eq!(outcome, Some(sent), "{carrier:?}");
    }
}

#[test]
fn ten_thousand_small_files_do_not_cost_ten_thousand_round_trips() {
    let entries: Vec<TreeEntry> = (0..10_000)
        .map(|at| file(&format!("f{at}"), 1_700))
        .collect();
    let bytes: BTreeMap<String, Bytes> = entries
        .iter()
        .map(|e| (e.path.to_string(), data(e.path.as_str(), 1_700)))
        .collect();
    let (arrived, took, outcome) = send(Carrier::Stream, true, 25, &entries, &bytes, &Has::new());
    assert_eq!(arrived.whole.len(), 10_000);
    assert_eq!(outcome, Some(Outcome::Sent { confirmed: true }));
    // 17 MB through a window of 256 KiB takes 65 round trips of 50 ms, 3.3 s, however many files they are.
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[test]
fn a_peer_without_trees_is_offered_each_file() {
    let mut world = world(Carrier::Stream);
    accept_all(&mut world, BOB);
    let totals = TreeTotals {
        entries: 2,
        bytes: 30,
    };
    let ids = open(
        &mut world,
        ALICE,
        vec![Proposal::Offer(tree_offer("tree", totals))],
    )
    .unwrap();
    world.run_for(Duration::from_millis(1));
    assert!(!look(&mut world, ALICE, &ids[0], |t| t.is_tree()));
    world.update(ALICE, |manager, now| {
        FileClient::release(manager, ids[0].session, now).unwrap()
    });
    world.settle();
    let old = only(&mut world, BOB);
    world.update(BOB, |manager, now| {
        FileClient::release(manager, old, now).unwrap()
    });

    let entries = [folder("d"), file("d/a", 10), file("b", 20)];
    let files: Vec<_> = entries
        .iter()
        .filter_map(TreeEntry::to_file)
        .map(Proposal::Offer)
        .collect();
    assert_eq!(files.len(), 2);
    let ids = open(&mut world, ALICE, files).unwrap();
    let mut both = [
        App::new().with("a", data("a", 10)).with("b", data("b", 20)),
        App::new(),
    ];
    run(&mut world, &mut both);
    for id in &ids {
        assert_eq!(
            outcome(&mut world, ALICE, id),
            Some(Outcome::Sent { confirmed: true })
        );
    }
}
