//! Peers that lie about files: a typed refusal, bounded memory, and nothing of it kept as if it were whole.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use bytes::Bytes;
use filekit::*;
use session_core::{
    ChannelId, Config, Element, Senders, Session, SessionClient, SessionDescription, State,
    testing::World,
};
use session_file::{
    FILE_TRANSFER, Fault, File, FileClient, FileDescription, FileInfo, HashAlgorithm, OWN, Outcome,
    Read, TransferId,
};
use std::time::Instant;

/// A client that says and sends what it likes.
struct Liar {
    bytes: Bytes,
    /// Goes on sending the same for ever.
    endless: bool,
    sent: usize,
    /// What it tells at which byte.
    infos: Vec<(usize, Element)>,
    finishes: bool,
    channel: Option<ChannelId>,
}

impl Liar {
    fn new(bytes: Bytes) -> Self {
        Self {
            bytes,
            endless: false,
            sent: 0,
            infos: Vec::new(),
            finishes: true,
            channel: None,
        }
    }

    fn push(&mut self, session: &mut Session, now: Instant) {
        let Some(channel) = self.channel else { return };
        while session.writable(channel) {
            if let Some(at) = self.infos.iter().position(|(from, _)| *from <= self.sent) {
                let (_, info) = self.infos.remove(at);
                let _ = session.send_info(vec![info], now);
            }
            if self.sent >= self.bytes.len() && !self.endless {
                if self.finishes {
                    session.finish(channel, now);
                }
                return;
            }
            let at = self.sent % self.bytes.len();
            let end = (at + 16_384).min(self.bytes.len());
            if session
                .send(channel, self.bytes.slice(at..end), now)
                .is_err()
            {
                return;
            }
            self.sent += end - at;
        }
    }
}

impl SessionClient for Liar {
    fn namespace(&self) -> &str {
        FILE_TRANSFER
    }
    fn on_session_create(&mut self, _: &mut Session, _: bool, _: Instant) {}
    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        if state == State::ReceivedAccept {
            self.channel = session.create_channel("file", now).ok();
        }
    }
    fn on_writable(&mut self, session: &mut Session, _: ChannelId, writable: bool, now: Instant) {
        if writable {
            self.push(session, now);
        }
    }
}

fn meet(liar: Liar) -> World {
    let mut world = World::new(3);
    let mut liar = Some(liar);
    for (host, name) in NAMES.into_iter().enumerate() {
        world.add_host(name, Config::default(), |manager| {
            add_transports(manager, Carrier::Stream, host)?;
            match host {
                ALICE => manager.add_client(liar.take().unwrap()),
                _ => {
                    let mut config = config(Carrier::Stream);
                    config.limits.unsized_bytes = 1_000_000;
                    manager.add_client(FileClient::new(config))
                }
            }
        });
    }
    accept_all(&mut world, BOB);
    world
}

/// What Bob makes of it: the outcome, how much he was given to read, and how.
fn falls_for(liar: Liar, file: File) -> (Outcome, usize, Read) {
    let mut world = meet(liar);
    world
        .call(ALICE, BOB, FILE_TRANSFER, &FileDescription::from(file))
        .unwrap();
    world.settle();
    let mut app = App::new();
    let done = world.run_until(std::time::Duration::from_secs(300), |world| {
        app.step(world, BOB);
        is_over(world, BOB)
    });
    assert!(done, "it ends");
    app.step(&mut world, BOB);
    let session = only(&mut world, BOB);
    let content = client(&mut world, BOB, |c| {
        c.transfers(session).next().unwrap().content().clone()
    });
    let id = TransferId { session, content };
    world.check();
    (
        outcome(&mut world, BOB, &id).unwrap(),
        app.received[&id].len(),
        app.ends[&id].clone(),
    )
}

fn checksum(file: File) -> Element {
    FileInfo::Checksum {
        creator: None,
        content: None,
        file: Box::new(file),
    }
    .to_element()
}

#[test]
fn more_bytes_than_announced_are_refused_before_they_are_read() {
    let mut liar = Liar::new(data("x", 50_000));
    liar.endless = true;
    let (outcome, read, end) = falls_for(liar, File::new("x", 40_000));
    assert_eq!(outcome, Outcome::Failed(Fault::TooMuch(40_000)));
    assert!(read <= 40_000 && matches!(end, Read::Broken(_)));
    let (outcome, _, _) = falls_for(Liar::new(data("x", 1)), File::new("x", 0));
    assert_eq!(outcome, Outcome::Failed(Fault::TooMuch(0)));
}

#[test]
fn data_without_end_and_without_a_size_is_cut_off() {
    let mut liar = Liar::new(data("x", 50_000));
    liar.endless = true;
    let (outcome, read, _) = falls_for(
        liar,
        File {
            size: None,
            ..File::new("x", 0)
        },
    );
    assert_eq!(outcome, Outcome::Failed(Fault::TooMuch(1_000_000)));
    assert!(read <= 1_000_000);
}

#[test]
fn less_than_announced_is_not_a_whole_file() {
    let (outcome, _, end) = falls_for(Liar::new(data("x", 39_999)), File::new("x", 40_000));
    assert_eq!(
        outcome,
        Outcome::Failed(Fault::TooLittle {
            received: 39_999,
            expected: 40_000
        })
    );
    assert!(matches!(end, Read::Broken(_)));
}

#[test]
fn a_hash_that_is_wrong_is_noticed_whether_it_comes_before_during_or_after() {
    let wrong = || hashed(b"y").hashes()[1].clone();
    let right = || hashed(&data("x", 40_000)).hashes()[1].clone();
    let of = |hash| {
        checksum(File {
            hashes: vec![hash],
            ..File::default()
        })
    };
    let fault = Outcome::Failed(Fault::WrongHash(HashAlgorithm::Sha256));
    let (outcome, _, end) = falls_for(
        Liar::new(data("x", 40_000)),
        File::new("x", 40_000).with_hash(wrong()),
    );
    assert_eq!(outcome, fault);
    assert!(matches!(end, Read::Broken(_)));
    for at in [0, 20_000, 40_000] {
        let mut liar = Liar::new(data("x", 40_000));
        liar.infos = vec![(at, of(wrong()))];
        assert_eq!(falls_for(liar, File::new("x", 40_000)).0, fault, "{at}");
    }
    // One of two words that contradict each other is a lie.
    for hashes in [vec![right(), wrong()], vec![wrong(), right()]] {
        let mut liar = Liar::new(data("x", 40_000));
        liar.infos = vec![(
            0,
            checksum(File {
                hashes,
                ..File::default()
            }),
        )];
        assert_eq!(falls_for(liar, File::new("x", 40_000)).0, fault);
    }
}

#[test]
fn a_block_that_is_wrong_ends_it_long_before_the_file_does() {
    let size = 48 << 20;
    let block = 16 << 20;
    let mut file = File::new("x", size);
    file.extra
        .push(Element::new(OWN, "blocks").with("bytes", block));
    let mut liar = Liar::new(data("x", 1 << 20));
    liar.endless = true;
    let range = session_file::FileRange {
        offset: 0,
        length: Some(block),
        hashes: hashed(b"y").hashes(),
    };
    liar.infos = vec![(1_000, checksum(File::default().with_range(range)))];
    let (outcome, read, _) = falls_for(liar, file);
    assert_eq!(
        outcome,
        Outcome::Failed(Fault::WrongHash(HashAlgorithm::Sha256))
    );
    assert!(read as u64 <= block + (2 << 20), "{read} bytes of {size}");
}

#[test]
fn infos_without_end_and_about_nothing_cost_nothing() {
    let mut world = meet(Liar {
        finishes: false,
        ..Liar::new(data("x", 1))
    });
    let id = world
        .call(
            ALICE,
            BOB,
            FILE_TRANSFER,
            &FileDescription::from(File::new("x", 1_000)),
        )
        .unwrap();
    world.settle();
    for round in 0..2_000u64 {
        let mut hashes = hashed(&round.to_be_bytes()).hashes();
        hashes.truncate(1);
        let range = session_file::FileRange {
            offset: round,
            length: Some(1 << 24),
            hashes: hashes.clone(),
        };
        let infos = [
            checksum(
                File {
                    hashes,
                    ..File::default()
                }
                .with_range(range),
            ),
            FileInfo::Received {
                creator: None,
                content: Some("nobody".into()),
            }
            .to_element(),
            FileInfo::Received {
                creator: None,
                content: None,
            }
            .to_element(),
        ];
        for info in infos {
            world.with_session(ALICE, id, |session, now| {
                session.send_info(vec![info], now).unwrap()
            });
        }
        world.settle();
    }
    let session = only(&mut world, BOB);
    let debug = client(&mut world, BOB, |c| {
        format!("{:?}", c.transfers(session).next().unwrap()).len()
    });
    assert!(debug < 40_000, "{debug} characters describe it");
    assert_eq!(
        world.manager(BOB).session_count(),
        1,
        "and nothing has happened"
    );
}

#[test]
fn contents_without_end_are_refused_and_so_are_offers() {
    // In one offer.
    let mut world = meet(Liar::new(data("x", 1)));
    let limits = session_core::Limits {
        contents: 1 << 20,
        channels: 1 << 20,
        ..session_core::Limits::default()
    };
    let mut rich = World::new(1);
    for (host, name) in NAMES.into_iter().enumerate() {
        let limits = if host == ALICE {
            limits.clone()
        } else {
            session_core::Limits::default()
        };
        rich.add_host(
            name,
            Config {
                limits,
                ..Config::default()
            },
            |manager| {
                add_transports(manager, Carrier::Stream, host)?;
                manager.add_client(FileClient::new(config(Carrier::Stream)))
            },
        );
    }
    let files = (0..2_000).map(|at| session_file::Proposal::Offer(File::new(&at.to_string(), 1)));
    let ids = open(&mut rich, ALICE, files.collect()).unwrap();
    rich.settle();
    assert_eq!(rich.manager(BOB).session_count(), 0);
    assert!(matches!(
        outcome(&mut rich, ALICE, &ids[0]),
        Some(Outcome::Failed(Fault::Session(_)))
    ));
    rich.check();

    // One after another.
    set_policy(&mut world, BOB, |_| session_file::FileVerdict::Ask);
    let description = FileDescription::from(File::new("x", 1_000));
    let mut offers = 0;
    for _ in 0..60 {
        offers += usize::from(world.call(ALICE, BOB, FILE_TRANSFER, &description).is_ok());
        world.settle();
    }
    assert_eq!(offers, 60);
    assert_eq!(client(&mut world, BOB, |c| c.offers().count()), 16);
    assert_eq!(world.manager(BOB).session_count(), 16);
}

#[test]
fn contents_that_make_no_sense_are_left_out_and_the_rest_is_offered() {
    let mut world = meet(Liar::new(data("x", 10)));
    let (local, to) = (world.name(ALICE).clone(), world.name(BOB).clone());
    let description = FileDescription::from(File::new("x", 10)).to_element();
    world.update(ALICE, |manager, now| {
        let id = manager.create_session(local, FILE_TRANSFER, now).unwrap();
        let session = manager.session(id).unwrap();
        session.set_content_name("good").unwrap();
        let none = session_core::ContentSpec {
            senders: Senders::None,
            ..session_core::ContentSpec::new("none", description.clone())
        };
        session.add_content(none, now).unwrap();
        session
            .initiate_with(to, Vec::new(), description, now)
            .unwrap();
    });
    world.settle();
    let session = only(&mut world, BOB);
    let names = client(&mut world, BOB, |c| {
        c.transfers(session)
            .map(|t| t.content().to_string())
            .collect::<Vec<_>>()
    });
    assert_eq!(names, ["good"]);
}

#[test]
fn files_that_are_added_without_end_are_forgotten_when_nobody_takes_them() {
    let mut world = meet(Liar {
        finishes: false,
        ..Liar::new(data("x", 1))
    });
    let first = FileDescription::from(File::new("x", 1_000));
    let id = world.call(ALICE, BOB, FILE_TRANSFER, &first).unwrap();
    world.settle();
    let session = only(&mut world, BOB);
    let count = |world: &mut World| client(world, BOB, |c| c.transfers(session).count());
    let add = |world: &mut World, at: usize| {
        let description = FileDescription::from(File::new("more", 1)).to_element();
        let spec = session_core::ContentSpec::new(format!("c{at}"), description);
        world.with_session(ALICE, id, |session, now| {
            session.add_content(spec, now).unwrap()
        });
        world.settle();
    };
    set_policy(&mut world, BOB, |_| {
        session_file::FileVerdict::Decline(session_core::ReasonCondition::Decline.into())
    });
    for at in 0..500 {
        add(&mut world, at);
    }
    assert_eq!(count(&mut world), 1, "declined");
    set_policy(&mut world, BOB, |_| session_file::FileVerdict::Ask);
    for at in 500..1_000 {
        add(&mut world, at);
        let name = format!("c{at}");
        let reason = session_core::ReasonCondition::Cancel;
        world.with_session(ALICE, id, |session, now| {
            session.remove_content(&name, reason.into(), now).unwrap();
        });
        world.settle();
    }
    assert_eq!(count(&mut world), 1, "withdrawn");
    // One that waits is not decided with the next.
    add(&mut world, 1_000);
    accept_all(&mut world, BOB);
    add(&mut world, 1_001);
    let waiting = client(&mut world, BOB, |c| {
        c.offers().flat_map(|o| o.files).count()
    });
    assert_eq!((count(&mut world), waiting), (3, 1));
}

#[test]
fn of_many_algorithms_the_best_are_computed() {
    let mut file = File::new("x", 40_000);
    let all = HashAlgorithm::ALL.map(|algorithm| algorithm.as_str().into());
    file.hash_used = [all.as_slice(), &["md5".into()], &all].concat();
    let mut liar = Liar::new(data("x", 40_000));
    let hashes = hashed(&data("x", 40_000)).hashes();
    liar.infos = vec![(
        0,
        checksum(File {
            hashes,
            ..File::default()
        }),
    )];
    let (outcome, _, _) = falls_for(liar, file);
    let best = session_file::Integrity::Verified(HashAlgorithm::Blake2b512);
    assert_eq!(outcome, Outcome::Received(best));
}
