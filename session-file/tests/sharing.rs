//! Google's file share between two, in virtual time.
#![cfg(feature = "gtalk")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "common/plain.rs"]
#[allow(dead_code, unreachable_pub, reason = "others use the rest of it")]
mod plain;

use bytes::Bytes;
use plain::Plain;
use session_core::{
    Config, Dialect, ReasonCondition, SessionId,
    testing::{HostSocket, MemoryDatagram, MemoryStream, Network, Parcel, World},
};
use session_file::{
    SHARE, Share, ShareClient, ShareConfig, ShareError, ShareFetch, ShareInfo, ShareItem,
    ShareKind, ShareLimits, ShareRead, ShareState, ShareVerdict, TarError, TarEvent, TarReader,
    TreePath, tar_header, tar_padding,
};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use transport_p2p::{pseudotcp::PseudoTcpLayer, raw_udp::RawUdp};

const ALICE: usize = 0;
const BOB: usize = 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Stream,
    Plain,
    PseudoTcp,
}

const CARRIERS: [Carrier; 3] = [Carrier::Stream, Carrier::Plain, Carrier::PseudoTcp];

fn world_of(carrier: Carrier, dialect: &'static Dialect) -> World {
    world_with(carrier, dialect, ShareLimits::default())
}

fn world_with(carrier: Carrier, dialect: &'static Dialect, limits: ShareLimits) -> World {
    let mut world = World::new(7);
    for (host, name) in ["alice@a.example/desk", "bob@b.example/lap"]
        .into_iter()
        .enumerate()
    {
        let config = Config {
            dialect,
            ..Config::default()
        };
        world.add_host(name, config, |manager| {
            let layer: Arc<dyn session_core::ChannelLayer> = match carrier {
                Carrier::Stream | Carrier::Plain => Arc::new(Plain),
                Carrier::PseudoTcp => Arc::new(PseudoTcpLayer::default()),
            };
            match carrier {
                Carrier::Stream => manager.add_transport(MemoryStream::new())?,
                Carrier::Plain => manager.add_transport(MemoryDatagram::new())?,
                Carrier::PseudoTcp => {
                    let address = Network::<HostSocket>::address_of(host);
                    manager.add_transport(RawUdp::new(SocketAddr::new(address, 0)))?;
                }
            }
            let config = ShareConfig {
                limits,
                ..ShareConfig::new(layer)
            };
            manager.add_client(ShareClient::new(config))
        });
    }
    world
}

fn world(carrier: Carrier) -> World {
    world_of(carrier, Dialect::JINGLE)
}

fn item(name: &str, size: Option<u64>, kind: ShareKind) -> ShareItem {
    ShareItem {
        name: name.into(),
        size,
        kind,
    }
}

fn data(size: usize) -> Vec<u8> {
    (0..size)
        .map(|at| (at ^ (at >> 8) ^ (at >> 16)) as u8)
        .collect()
}

/// A folder of a file and an empty folder, as it travels.
fn archive() -> Vec<u8> {
    let path = |text: &str| TreePath::new(text).unwrap();
    let mut tar = tar_header(&path("notes"), None);
    tar.extend(tar_header(&path("notes/empty"), None));
    tar.extend(tar_header(&path("notes/a.txt"), Some(700)));
    tar.extend(data(700));
    tar.extend(vec![0; tar_padding(700)]);
    tar.extend(vec![0; 1_024]);
    tar
}

fn share() -> Share {
    let image = ShareKind::Image {
        width: 800,
        height: 600,
    };
    let items = vec![
        item("beach.jpg", Some(300_000), image),
        item("with space & ü.txt", Some(0), ShareKind::File),
        item("notes", None, ShareKind::Folder),
    ];
    Share::offer(items, "/temporary/1/", "/temporary/2/").unwrap()
}

fn open(world: &mut World, share: Share) -> SessionId {
    let (local, to) = (world.name(ALICE).clone(), world.name(BOB).clone());
    world.update(ALICE, |manager, now| {
        let id = manager.create_session(local, SHARE, now).unwrap();
        ShareClient::open(manager, id, to, share, now).unwrap();
        id
    })
}

fn client<R>(world: &mut World, host: usize, f: impl FnOnce(&mut ShareClient) -> R) -> R {
    world.update(host, |manager, _| {
        f(manager.find_client::<ShareClient>().unwrap())
    })
}

fn only(world: &mut World, host: usize) -> SessionId {
    client(world, host, |client| client.sessions().next().unwrap())
}

fn state(world: &mut World, host: usize, id: SessionId) -> ShareState {
    client(world, host, |client| client.state(id).unwrap())
}

/// What Alice has, and how far each answer is.
#[derive(Default)]
struct Server {
    left: BTreeMap<ShareFetch, Bytes>,
    /// Serves these bytes instead of an item's, as many as it says.
    instead: Option<(Option<u64>, Vec<u8>)>,
}

impl Server {
    fn step(&mut self, world: &mut World, session: SessionId) {
        let asked: Vec<_> = client(world, ALICE, |client| client.demands(session).collect());
        for demand in asked {
            let (bytes, content) =
                match (&self.instead, demand.request.preview, demand.request.item) {
                    (Some((bytes, content)), _, _) => (*bytes, content.clone()),
                    (None, Some((width, height)), _) => {
                        let picture = format!("{width}x{height}").into_bytes();
                        (Some(picture.len() as u64), picture)
                    }
                    (None, None, 0) => (Some(300_000), data(300_000)),
                    (None, None, 1) => (Some(0), Vec::new()),
                    (None, None, _) => (None, archive()),
                };
            self.left.insert(demand.id, content.into());
            world.update(ALICE, |manager, now| {
                ShareClient::answer(manager, demand.id, "x/y", bytes, now).unwrap();
            });
        }
        let ids: Vec<_> = self.left.keys().copied().collect();
        for id in ids {
            let left = self.left.get_mut(&id).unwrap();
            let done = world.update(ALICE, |manager, now| {
                let written = ShareClient::write(manager, id, left, now);
                if written.is_err() {
                    return true;
                }
                left.is_empty() && ShareClient::finish(manager, id, now).is_ok()
            });
            if done {
                self.left.remove(&id);
            }
        }
    }
}

fn fetch(
    world: &mut World,
    session: SessionId,
    item: usize,
    preview: Option<(u32, u32)>,
) -> Result<ShareFetch, ShareError> {
    world.update(BOB, |manager, now| {
        ShareClient::fetch(manager, session, item, preview, now)
    })
}

/// Reads something until its end.
fn take(
    world: &mut World,
    server: &mut Server,
    serving: SessionId,
    id: ShareFetch,
) -> (Vec<u8>, ShareRead) {
    let mut bytes = Vec::new();
    let mut end = ShareRead::Pending;
    world.run_until(Duration::from_secs(120), |world| {
        if world.manager(ALICE).session_count() > 0 {
            server.step(world, serving);
        }
        loop {
            let read = world.update(BOB, |manager, now| {
                ShareClient::read(manager, id, 10_000, now).unwrap()
            });
            match read {
                ShareRead::Bytes(piece) => bytes.extend_from_slice(&piece),
                ShareRead::Pending => return false,
                over @ (ShareRead::End | ShareRead::Missing | ShareRead::Broken) => {
                    end = over;
                    return true;
                }
            }
        }
    });
    (bytes, end)
}

#[test]
fn files_folders_and_previews_are_fetched_and_both_know_the_end() {
    for carrier in CARRIERS {
        let mut world = world(carrier);
        let alice = open(&mut world, share());
        world.settle();
        let bob = only(&mut world, BOB);
        let mut server = Server::default();
        // A preview before anything is accepted; the item itself is not to be had.
        assert_eq!(fetch(&mut world, bob, 0, None), Err(ShareError::NotThere));
        let preview = fetch(&mut world, bob, 0, Some((64, 48)));
        if let Ok(id) = preview {
            world.update(BOB, |manager, now| {
                ShareClient::accept(manager, bob, now).unwrap()
            });
            let read = take(&mut world, &mut server, alice, id);
            assert_eq!(read, (b"64x48".to_vec(), ShareRead::End), "{carrier:?}");
        } else {
            panic!("{carrier:?}: {preview:?}");
        }
        assert_eq!(state(&mut world, BOB, bob), ShareState::Transfer);
        for (at, content) in [data(300_000), Vec::new(), archive()]
            .into_iter()
            .enumerate()
        {
            let id = fetch(&mut world, bob, at, None).unwrap();
            let read = take(&mut world, &mut server, alice, id);
            assert!(
                read == (content, ShareRead::End),
                "{carrier:?} {at} {:?}",
                read.1
            );
        }
        assert_eq!(
            fetch(&mut world, bob, 1, Some((9, 9))),
            Err(ShareError::NotThere)
        );
        assert_eq!(fetch(&mut world, bob, 3, None), Err(ShareError::NotThere));
        world.update(BOB, |manager, now| {
            ShareClient::complete(manager, bob, now).unwrap()
        });
        world.run_for(Duration::from_secs(5));
        assert_eq!(
            state(&mut world, ALICE, alice),
            ShareState::Complete,
            "{carrier:?}"
        );
        assert_eq!(state(&mut world, BOB, bob), ShareState::Complete);
        assert_eq!(world.manager(ALICE).session_count(), 0);
        assert_eq!(world.manager(BOB).session_count(), 0);
    }
}

/// Bob has taken what Alice offers: a world, and the session at each.
fn accepted() -> (World, SessionId, SessionId) {
    let mut world = world(Carrier::Stream);
    client(&mut world, BOB, |client| {
        client.set_policy(|_| ShareVerdict::Accept)
    });
    let alice = open(&mut world, share());
    world.settle();
    let bob = only(&mut world, BOB);
    (world, alice, bob)
}

#[test]
fn several_are_fetched_at_once_and_one_that_is_not_there_is_missing() {
    let (mut world, alice, bob) = accepted();
    let first = fetch(&mut world, bob, 0, None).unwrap();
    let second = fetch(&mut world, bob, 2, None).unwrap();
    let picture = fetch(&mut world, bob, 0, Some((10, 10))).unwrap();
    world.run_for(Duration::from_secs(1));
    let asked: Vec<_> = client(&mut world, ALICE, |client| client.demands(alice).collect());
    assert_eq!(asked.len(), 3);
    let preview = asked
        .iter()
        .find(|demand| demand.request.preview.is_some())
        .unwrap();
    world.update(ALICE, |manager, now| {
        ShareClient::deny(manager, preview.id, now).unwrap()
    });
    let mut server = Server::default();
    assert_eq!(
        take(&mut world, &mut server, alice, picture).1,
        ShareRead::Missing
    );
    assert!(take(&mut world, &mut server, alice, second) == (archive(), ShareRead::End));
    assert!(take(&mut world, &mut server, alice, first) == (data(300_000), ShareRead::End));
    // Who has served everything, and is left without a word, takes it for complete.
    let last = fetch(&mut world, bob, 1, None).unwrap();
    assert_eq!(take(&mut world, &mut server, alice, last).1, ShareRead::End);
    world.update(BOB, |manager, now| {
        ShareClient::release(manager, bob, now).unwrap()
    });
    world.run_for(Duration::from_secs(1));
    assert_eq!(state(&mut world, ALICE, alice), ShareState::Complete);
}

#[test]
fn what_is_not_there_leaves_its_channel_to_others() {
    for carrier in CARRIERS {
        let mut world = world(carrier);
        client(&mut world, BOB, |client| {
            client.set_policy(|_| ShareVerdict::Accept)
        });
        let alice = open(&mut world, share());
        world.settle();
        let bob = only(&mut world, BOB);
        let mut server = Server::default();
        for _ in 0..20 {
            misses(&mut world, [alice, bob]);
        }
        let id = fetch(&mut world, bob, 2, None).unwrap();
        assert!(take(&mut world, &mut server, alice, id) == (archive(), ShareRead::End));
        let session = world.manager(BOB).peek(bob).unwrap();
        assert_eq!(session.channel_ids().count(), 1, "{carrier:?}");
    }
}

/// Bob asks for something that Alice does not have.
fn misses(world: &mut World, [alice, bob]: [SessionId; 2]) {
    let picture = fetch(world, bob, 0, Some((10, 10))).unwrap();
    world.run_for(Duration::from_secs(1));
    let demand = client(world, ALICE, |client| client.demands(alice).next().unwrap());
    world.update(ALICE, |manager, now| {
        ShareClient::deny(manager, demand.id, now).unwrap()
    });
    let read = take(world, &mut Server::default(), alice, picture);
    assert_eq!(read, (Vec::new(), ShareRead::Missing));
}

#[test]
fn a_channel_that_ends_leaves_its_place_to_another() {
    let (mut world, alice, bob) = accepted();
    for _ in 0..20 {
        misses(&mut world, [alice, bob]);
        world.with_session(ALICE, alice, |session, now| {
            let channels: Vec<_> = session.channel_ids().collect();
            for channel in channels {
                session.finish(channel, now);
            }
        });
        world.run_for(Duration::from_secs(1));
    }
    let id = fetch(&mut world, bob, 2, None).unwrap();
    let read = take(&mut world, &mut Server::default(), alice, id);
    assert!(read == (archive(), ShareRead::End));
    for (host, id) in [(ALICE, alice), (BOB, bob)] {
        let session = world.manager(host).peek(id).unwrap();
        assert!(session.channel_ids().count() < 8);
    }
}

/// A request that comes before the answer to the one before it has left; of answers of these many bytes some fill what may wait.
#[test]
fn a_request_behind_a_large_answer_is_answered() {
    for carrier in [Carrier::Stream, Carrier::Plain] {
        let fit = (1..200).take_while(|number| asks_behind(carrier, number * 2_000));
        let fit = fit.count();
        assert!((8..199).contains(&fit), "{carrier:?}: {fit}");
    }
}

/// Bob asks for two things, and reads the first of so many bytes only when Alice has given it. Whether she can before he reads.
fn asks_behind(carrier: Carrier, size: usize) -> bool {
    let limits = ShareLimits {
        send_bytes: 16 << 10,
        receive_bytes: 16 << 10,
        ..ShareLimits::default()
    };
    let mut world = world_with(carrier, Dialect::JINGLE, limits);
    let alice = open(&mut world, share());
    world.settle();
    let bob = only(&mut world, BOB);
    let first = fetch(&mut world, bob, 0, Some((64, 48))).unwrap();
    world.run_for(Duration::from_secs(1));
    let share = client(&mut world, BOB, |client| client.share(bob).cloned());
    let share = share.unwrap();
    let target = share.preview(&share.items[0], 10, 10).unwrap();
    let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\n\r\n");
    world.with_session(BOB, bob, |session, now| {
        let channel = session.channel_ids().next().unwrap();
        session.send(channel, request.into(), now).unwrap();
    });
    world.run_for(Duration::from_secs(1));
    let demand = client(&mut world, ALICE, |client| client.demands(alice).next());
    let id = demand.unwrap().id;
    let mut left = Bytes::from(data(size));
    world.update(ALICE, |manager, now| {
        ShareClient::answer(manager, id, "x/y", Some(size as u64), now).unwrap();
    });
    for _ in 0..10 {
        world.update(ALICE, |manager, now| {
            ShareClient::write(manager, id, &mut left, now).unwrap()
        });
        if left.is_empty() {
            break;
        }
        world.run_for(Duration::from_millis(100));
    }
    if !left.is_empty() {
        return false;
    }
    world.update(ALICE, |manager, now| {
        ShareClient::finish(manager, id, now).unwrap();
    });
    let (mut bytes, mut end) = (0, ShareRead::Pending);
    world.run_until(Duration::from_secs(60), |world| {
        while end == ShareRead::Pending {
            let read = world.update(BOB, |manager, now| {
                ShareClient::read(manager, first, 5_000, now).unwrap()
            });
            match read {
                ShareRead::Bytes(piece) => bytes += piece.len(),
                ShareRead::Pending => return false,
                over @ (ShareRead::End | ShareRead::Missing | ShareRead::Broken) => end = over,
            }
        }
        true
    });
    assert_eq!((bytes, end), (size, ShareRead::End), "{carrier:?}");
    world.run_for(Duration::from_secs(1));
    let asked = client(&mut world, ALICE, |client| client.demands(alice).count());
    assert_eq!(asked, 1, "{carrier:?}: {size}");
    true
}

#[test]
fn either_side_can_cancel() {
    for host in [ALICE, BOB] {
        let mut world = world(Carrier::Stream);
        let alice = open(&mut world, share());
        world.settle();
        let bob = only(&mut world, BOB);
        let id = if host == ALICE { alice } else { bob };
        world.update(host, |manager, now| {
            ShareClient::cancel(manager, id, ReasonCondition::Cancel.into(), now).unwrap();
        });
        world.run_for(Duration::from_secs(1));
        let states = [(ALICE, alice), (BOB, bob)].map(|(host, id)| state(&mut world, host, id));
        let expected = match host {
            ALICE => [ShareState::LocalCancel, ShareState::RemoteCancel],
            _ => [ShareState::RemoteCancel, ShareState::LocalCancel],
        };
        assert_eq!(states, expected);
    }
}

#[test]
fn bytes_that_were_not_announced_end_it_before_they_are_kept() {
    // More than the manifest says, less than it says, and more in chunks than it says.
    for (instead, most) in [
        ((Some(300_001), data(300_001)), 0),
        ((Some(299_999), data(299_999)), 299_999),
        ((None, data(900_000)), 300_000),
    ] {
        let mut world = world(Carrier::Stream);
        client(&mut world, BOB, |client| {
            client.set_policy(|_| ShareVerdict::Accept)
        });
        let alice = open(&mut world, share());
        world.settle();
        let bob = only(&mut world, BOB);
        let id = fetch(&mut world, bob, 0, None).unwrap();
        let mut server = Server {
            instead: Some(instead),
            ..Server::default()
        };
        let (bytes, end) = take(&mut world, &mut server, alice, id);
        assert_eq!(end, ShareRead::Broken);
        assert!(bytes.len() <= most, "{}", bytes.len());
        world.run_for(Duration::from_secs(1));
        assert_eq!(state(&mut world, BOB, bob), ShareState::Failure);
    }
}

#[test]
fn a_channel_that_is_there_already_and_channels_without_end_are_refused() {
    let (mut world, alice, bob) = accepted();
    let mut say = |name: &str| {
        world.hold(true);
        world.update(BOB, |manager, now| {
            let info = ShareInfo::Channel(name.into()).to_element();
            manager
                .session(bob)
                .unwrap()
                .send_info(vec![info], now)
                .unwrap();
        });
        world.deliver(0);
        let answer = world.held().first().cloned();
        world.deliver_all();
        world.hold(false);
        match answer.map(|envelope| envelope.parcel) {
            Some(Parcel::Reply { reply, .. }) => reply.is_ok(),
            other => panic!("{other:?}"),
        }
    };
    assert!(say("private-1"));
    assert!(!say("private-1"), "the same again");
    assert!(!say("../private"), "no channel of libjingle's");
    let taken = (2..1_000)
        .filter(|number| say(&format!("private-{number}")))
        .count();
    assert_eq!(taken, 7, "eight in all");
    assert_eq!(state(&mut world, ALICE, alice), ShareState::Transfer);
}

#[test]
fn archives_are_read_however_they_are_cut() {
    let events = |text: &[u8], piece: usize| {
        let mut reader = TarReader::default();
        let mut events = Vec::new();
        for piece in text.chunks(piece) {
            let mut input = Bytes::copy_from_slice(piece);
            while let Some(event) = reader.next(&mut input)? {
                match (events.last_mut(), event) {
                    (Some((TarEvent::File(..), content)), TarEvent::Bytes(bytes)) => {
                        let content: &mut Vec<u8> = content;
                        content.extend_from_slice(&bytes);
                    }
                    (_, event) => events.push((event, Vec::new())),
                }
            }
        }
        reader.finish().map(|()| events)
    };
    let path = |text: &str| TreePath::new(text).unwrap();
    let long = ["a-rather-long-name"; 12].join("/");
    let mut text = archive();
    text.truncate(text.len() - 1_024);
    text.extend(tar_header(&path(&long), Some(5)));
    text.extend(b"hello");
    text.extend(vec![0; tar_padding(5)]);
    let expected = vec![
        (TarEvent::Folder(path("notes")), Vec::new()),
        (TarEvent::Folder(path("notes/empty")), Vec::new()),
        (TarEvent::File(path("notes/a.txt"), 700), data(700)),
        (TarEvent::File(path(&long), 5), b"hello".to_vec()),
    ];
    for piece in [1, 100, 511, 512, 513, 100_000] {
        assert_eq!(events(&text, piece), Ok(expected.clone()), "{piece}");
    }
    assert_eq!(events(&text[..text.len() - 510], 100), Err(TarError::Short));
}

#[test]
fn archives_that_lead_elsewhere_are_refused() {
    let named = |name: &str, kind: u8| {
        let mut block = tar_header(&TreePath::new("x").unwrap(), Some(0));
        block[..100].fill(0);
        block[..name.len()].copy_from_slice(name.as_bytes());
        block[156] = kind;
        block[148..156].copy_from_slice(b"        ");
        let sum: u64 = block.iter().map(|byte| u64::from(*byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        block
    };
    let read = |block: Vec<u8>| TarReader::default().next(&mut block.into());
    for name in [
        "../x",
        "/etc/passwd",
        "a/../../b",
        "a//b",
        "C:\\x",
        "con",
        "a\n",
    ] {
        assert!(
            matches!(read(named(name, b'0')), Err(TarError::Name(_))),
            "{name:?}"
        );
        assert!(
            matches!(read(named(name, b'5')), Err(TarError::Name(_))),
            "{name:?}"
        );
    }
    // Links are left out, whatever they are called.
    assert!(matches!(
        read(named("link", b'2')),
        Ok(Some(TarEvent::LeftOut(Some(_))))
    ));
    assert!(matches!(
        read(named("../link", b'1')),
        Ok(Some(TarEvent::LeftOut(None)))
    ));
    let mut damaged = named("fine", b'0');
    assert!(matches!(
        read(damaged.clone()),
        Ok(Some(TarEvent::File(..)))
    ));
    damaged[0] ^= 1;
    assert_eq!(read(damaged), Err(TarError::Header));
}
