//! Interrupted files: cut at any moment, continued in new sessions over other transports; and what the journal says.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use bytes::Bytes;
use filekit::*;
use proptest::prelude::*;
use session_core::testing::World;
use session_file::{
    Acceptance, Decision, Direction, File, FileClient, FileDate, FileVerdict, HashAlgorithm,
    Hasher, Journal, JournalError, JournalState, Proposal, Read, ResumeToken, TransferId,
};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

/// What survives a crash of the receiver, and what does not.
struct Disk {
    /// The partial file, as far as it was written.
    bytes: Vec<u8>,
    journal: Vec<u8>,
    /// As far as it was synced.
    synced: usize,
}

/// The program that receives.
struct Program {
    disk: Disk,
    journal: Journal,
    hasher: Hasher,
    done: bool,
}

impl Program {
    fn fresh(file: &File) -> Self {
        let (journal, bytes) = Journal::create(file);
        let disk = Disk {
            bytes: Vec::new(),
            journal: bytes,
            synced: 0,
        };
        Self {
            disk,
            journal,
            hasher: Hasher::new([HashAlgorithm::Sha256]),
            done: false,
        }
    }

    /// What a program does when it starts: reads the journal, looks at the file.
    fn recover(disk: Disk, file: &File) -> (Self, Option<ResumeToken>) {
        let Ok(journal) = Journal::read(&disk.journal) else {
            return (Self::fresh(file), None);
        };
        match journal.state() {
            JournalState::Partial(token) => {
                let mut hasher = Hasher::new(token.algorithms());
                let there = disk.bytes.get(..token.offset as usize);
                hasher.update(there.unwrap_or_default());
                if !token.holds(&hasher) {
                    return (Self::fresh(file), None);
                }
                let mut disk = disk;
                disk.bytes.truncate(token.offset as usize);
                disk.journal.truncate(journal.bytes() as usize);
                disk.synced = disk.bytes.len();
                (
                    Self {
                        disk,
                        journal,
                        hasher,
                        done: false,
                    },
                    Some(*token),
                )
            }
            JournalState::Nothing => (Self::fresh(file), None),
            JournalState::Whole { bytes, .. } => {
                assert_eq!(disk.bytes.len() as u64, bytes, "whole");
                let hasher = hashed(&disk.bytes);
                (
                    Self {
                        disk,
                        journal,
                        hasher,
                        done: true,
                    },
                    None,
                )
            }
        }
    }

    fn write(&mut self, bytes: &Bytes) {
        self.disk.bytes.extend_from_slice(bytes);
        self.hasher.update(bytes);
    }

    fn sync(&mut self) {
        self.disk.synced = self.disk.bytes.len();
        self.disk
            .journal
            .extend(self.journal.advance(&self.hasher).unwrap());
    }

    fn complete(&mut self) {
        self.disk.synced = self.disk.bytes.len();
        self.disk
            .journal
            .extend(self.journal.complete(&self.hasher).unwrap());
        self.done = true;
    }

    /// What a crash leaves: of what was not synced anything, or something else.
    fn crash(mut self, lost: f64, torn: f64, garbage: bool) -> Disk {
        let loose = self.disk.bytes.len() - self.disk.synced;
        let kept = self.disk.synced + (loose as f64 * lost) as usize;
        self.disk.bytes.truncate(kept);
        if garbage && !self.done {
            let from = self.disk.synced;
            self.disk.bytes[from..].fill(0);
            self.disk.bytes.extend_from_slice(&[0; 99]);
        }
        if !self.done && torn < 0.5 {
            // The last line was not synced itself.
            let line = self.disk.journal[..self.disk.journal.len() - 1]
                .iter()
                .rposition(|&b| b == b'\n');
            let from = line.map_or(0, |at| at + 1);
            let keep = ((self.disk.journal.len() - from) as f64 * torn * 2.0) as usize;
            self.disk.journal.truncate(from + keep);
        }
        self.disk
    }
}

/// One session, cut after so many steps of the world.
struct Round {
    carrier: Carrier,
    /// Encrypted within its stream (XEP-0391), where that can be.
    sealed: bool,
    asks: bool,
    steps: usize,
    sync_every: usize,
    seed: u64,
}

/// Runs it; whether the receiver began at an offset, and how many bytes came.
fn round(
    program: &mut Program,
    token: Option<&ResumeToken>,
    source: &Bytes,
    file: &File,
    round: &Round,
) -> (u64, u64) {
    let mut world = world_with(round.carrier, round.seed, |config| {
        config.limits.send_bytes = 20_000;
        config.limits.receive_bytes = 20_000;
    });
    world.set_network(session_core::testing::Conditions::with_delay(
        Duration::from_millis(5),
    ));
    let token = token.filter(|token| token.continues(file)).cloned();
    if token.is_none() {
        *program = Program::fresh(file);
    }
    let hasher = program.hasher.clone();
    let sealed = round.sealed;
    share_keys(&mut world);
    if round.asks {
        let theirs = file.clone();
        set_policy(&mut world, ALICE, move |offer| {
            let asked = &offer.files[0];
            assert_eq!(asked.direction, Direction::Send);
            assert!(asked.file.selects(&theirs));
            assert_eq!(asked.encrypted, sealed && cfg!(feature = "jet"));
            FileVerdict::Decide(vec![(
                asked.content.clone(),
                Decision::Provide(theirs.clone()),
            )])
        });
        let proposal = match &token {
            Some(token) => token.request(hasher),
            None => Proposal::Request(
                File {
                    name: file.name.clone(),
                    ..File::default()
                },
                None,
            ),
        };
        open(&mut world, BOB, vec![seal(proposal, sealed)]).unwrap();
    } else {
        let acceptance =
            token.map_or_else(Acceptance::default, |token| token.acceptance(None, hasher));
        let acceptance = Arc::new(Mutex::new(Some(acceptance)));
        set_policy(&mut world, BOB, move |offer| {
            let acceptance = acceptance.lock().unwrap().take().unwrap();
            FileVerdict::Decide(vec![(
                offer.files[0].content.clone(),
                Decision::Accept(acceptance),
            )])
        });
        let proposal = seal(Proposal::Offer(file.clone()), sealed);
        open(&mut world, ALICE, vec![proposal]).unwrap();
    }
    let mut alice = App {
        piece: 9_000,
        ..App::new()
    }
    .with("f", source.clone());
    receive(&mut world, &mut alice, program, round)
}

fn receive(world: &mut World, alice: &mut App, program: &mut Program, round: &Round) -> (u64, u64) {
    let mut came = 0;
    for step in 0..round.steps {
        alice.step(world, ALICE);
        if !world.step() {
            break;
        }
        let Some(id) = client(world, BOB, |client| {
            let session = client.sessions().next()?;
            let content = client.transfers(session).next()?.content().clone();
            Some(TransferId { session, content })
        }) else {
            continue;
        };
        loop {
            let read = world.update(BOB, |manager, now| {
                FileClient::read(manager, &id, 4_096, now).unwrap()
            });
            match read {
                Read::Bytes(bytes) => {
                    if came == 0 {
                        let offset = look(world, BOB, &id, |t| t.offset());
                        if offset == 0 && !program.disk.bytes.is_empty() {
                            *program = Program::fresh(&program.journal.file().clone());
                        }
                        assert_eq!(
                            offset,
                            program.disk.bytes.len() as u64,
                            "it goes on where it was"
                        );
                    }
                    came += bytes.len() as u64;
                    program.write(&bytes);
                }
                Read::End(_) => {
                    program.complete();
                    return (1, came);
                }
                Read::Broken(_) => return (2, came),
                Read::Pending => break,
            }
        }
        if step % round.sync_every == 0 && !program.disk.bytes.is_empty() {
            program.sync();
        }
    }
    (0, came)
}

fn file(size: usize) -> File {
    File {
        date: FileDate::from_unix(1_700_000_000),
        ..File::new("f", size as u64)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    /// Cut at any moment, whatever the crash leaves, over any transport, asked for or offered, encrypted each time with
    /// another key or not: in the end the file is there, once and whole, and nothing was sent again but what was lost.
    #[test]
    fn a_file_that_is_cut_again_and_again_arrives_exactly_once(
        size in 1..400_000usize,
        cuts in prop::collection::vec(((0..CARRIERS.len(), any::<bool>(), any::<bool>()), 1..120usize, 1..9usize, 0.0..1.0f64, 0.0..1.0f64, any::<bool>()), 0..8),
        sealed_at_last in any::<bool>(),
        seed in any::<u64>(),
    ) {
        let source = data("f", size);
        let file = file(size);
        let mut program = Program::fresh(&file);
        let mut token = None;
        let (mut came, mut lost) = (0, 0);
        let last = ((0, false, sealed_at_last), usize::MAX, 5, 1.0, 1.0, false);
        for (at, ((carrier, asks, sealed), steps, sync_every, kept, torn, garbage)) in cuts.into_iter().chain([last]).enumerate() {
            let plan = Round { carrier: CARRIERS[carrier], sealed, asks, steps, sync_every, seed: seed ^ at as u64 };
            let before = program.disk.bytes.len() as u64;
            prop_assert_eq!(token.as_ref().map_or(0, |token: &ResumeToken| token.offset), before);
            let (end, bytes) = round(&mut program, token.as_ref(), &source, &file, &plan);
            prop_assert_ne!(end, 2, "nothing is wrong with it");
            came += bytes;
            let reached = program.disk.bytes.len() as u64;
            prop_assert!(source.starts_with(&program.disk.bytes));
            let disk = program.crash(kept, torn, garbage);
            let (next, found) = Program::recover(disk, &file);
            program = next;
            token = found;
            lost += reached - program.disk.bytes.len().min(reached as usize) as u64;
            if program.done {
                break;
            }
        }
        prop_assert!(program.done, "it arrives");
        prop_assert!(program.disk.bytes == source);
        prop_assert_eq!(came, size as u64 + lost, "only what was lost came again");
    }

    /// The sender's file is another one by the time: never a mixture.
    #[test]
    fn a_file_that_changed_meanwhile_is_begun_anew(sealed in any::<bool>(), size in 30_000..200_000usize, steps in 20..100usize, asks in any::<bool>(), named in any::<bool>(), seed in any::<u64>()) {
        let (old, new) = (data("old", size), data("new", size));
        let name = |bytes: &Bytes| match named {
            true => file(size).with_hash(hashed(bytes).hashes()[1].clone()),
            false => file(size),
        };
        let mut program = Program::fresh(&name(&old));
        let mut token = None;
        for (at, (source, steps)) in [(&old, steps), (&new, usize::MAX), (&new, usize::MAX)].into_iter().enumerate() {
            let plan = Round { carrier: Carrier::Stream, sealed, asks, steps, sync_every: 1, seed: seed ^ at as u64 };
            let (end, _) = round(&mut program, token.as_ref(), source, &name(source), &plan);
            if program.done {
                let whole = if at == 0 { &old } else { &new };
                prop_assert!(program.disk.bytes == *whole, "of one of them");
                break;
            }
            let disk = program.crash(1.0, 1.0, false);
            (program, token) = Program::recover(disk, &name(source));
            if end == 2 {
                // What is here is not of this file.
                (program, token) = (Program::fresh(&name(source)), None);
            }
        }
        prop_assert!(program.done);
    }

    /// Whatever happens to a journal: it never says more than was true, and never that a part is the whole.
    #[test]
    fn a_damaged_journal_says_nothing_that_was_never_true(
        marks in prop::collection::vec(1..1_000usize, 1..8),
        finishes in any::<bool>(),
        cut in 0.0..1.0f64,
        flips in prop::collection::vec((0.0..1.0f64, 0..8u8), 0..3),
        tail in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let size: usize = marks.iter().sum();
        let source = data("f", size);
        let (mut journal, mut bytes) = Journal::create(&file(size));
        let mut hasher = Hasher::new([HashAlgorithm::Sha256]);
        let (mut at, mut truths) = (0, vec![journal.state()]);
        for mark in marks {
            hasher.update(&source[at..at + mark]);
            at += mark;
            bytes.extend(journal.advance(&hasher).unwrap());
            truths.push(journal.state());
        }
        if finishes {
            bytes.extend(journal.complete(&hasher).unwrap());
            truths.push(journal.state());
        }
        prop_assert_eq!(Journal::read(&bytes), Ok(journal.clone()));
        prop_assert_eq!(journal.bytes(), bytes.len() as u64);
        bytes.truncate((bytes.len() as f64 * cut) as usize);
        let whole_lines = bytes.clone();
        for (place, bit) in flips {
            let place = (bytes.len() as f64 * place) as usize;
            if let Some(byte) = bytes.get_mut(place) {
                *byte ^= 1 << bit;
            }
        }
        bytes.extend(&tail);
        if let Ok(found) = Journal::read(&bytes) {
            prop_assert!(truths.contains(&found.state()), "{:?}", found.state());
            prop_assert!(found.bytes() as usize <= whole_lines.len().max(bytes.len()));
            // It goes on from there.
            if let JournalState::Partial(_) | JournalState::Nothing = found.state() {
                bytes.truncate(found.bytes() as usize);
                let mut again = found;
                let mut whole = Hasher::new([HashAlgorithm::Sha256]);
                whole.update(&source);
                bytes.extend(again.complete(&whole).unwrap());
                let whole = matches!(Journal::read(&bytes).unwrap().state(), JournalState::Whole { .. });
                prop_assert!(whole);
            }
        }
    }
}

#[test]
fn a_journal_refuses_what_cannot_be() {
    let (mut journal, _) = Journal::create(&file(10));
    assert_eq!(journal.state(), JournalState::Nothing);
    let of = |count: usize| hashed(&data("f", count));
    assert_eq!(
        journal.advance(&of(11)),
        Err(JournalError::Bytes {
            bytes: 11,
            before: 0
        })
    );
    assert_eq!(
        journal.advance(&Hasher::default()),
        Err(JournalError::NoHash)
    );
    assert_eq!(journal.complete(&of(9)), Err(JournalError::NotWhole));
    journal.advance(&of(6)).unwrap();
    assert_eq!(
        journal.advance(&of(5)),
        Err(JournalError::Bytes {
            bytes: 5,
            before: 6
        })
    );
    journal.complete(&of(10)).unwrap();
    assert_eq!(journal.advance(&of(10)), Err(JournalError::Over));
    let named = file(10).with_hash(of(10).hashes()[1].clone());
    let (mut journal, _) = Journal::create(&named);
    assert_eq!(
        journal.complete(&hashed(&data("g", 10))),
        Err(JournalError::NotWhole)
    );
    assert!(journal.complete(&of(10)).is_ok());
    for bytes in [
        &b""[..],
        b"session-file journal 1",
        b"session-file journal 1\n",
        b"session-file journal 2\nfile x\n",
        &[0xff; 9],
    ] {
        assert_eq!(Journal::read(bytes), Err(JournalError::NotOne));
    }
}

#[test]
fn a_journal_keeps_names_of_every_kind() {
    for name in [
        "a b",
        "%",
        "-",
        "=x",
        "\n",
        "名前\u{1f4c4}",
        " lead",
        "a%20b",
    ] {
        let file = File {
            name: Some(name.into()),
            ..file(5)
        }
        .with_media_type("text/x y")
        .with_hash(hashed(b"x").hashes()[3].clone());
        let (journal, bytes) = Journal::create(&file);
        assert_eq!(bytes.iter().filter(|&&byte| byte == b'\n').count(), 2);
        assert_eq!(Journal::read(&bytes), Ok(journal.clone()));
        assert_eq!(journal.file().name, file.name);
        assert_eq!(journal.file().hashes, file.hashes);
    }
}
