//! Files encrypted within their stream (XEP-0391), from the offer to the last byte.
#![cfg(feature = "jet")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;
#[path = "jet_files/foreign.rs"]
mod foreign;
#[path = "jet_files/stranger.rs"]
mod stranger;

use filekit::{keys::Stub, *};
use session_core::{
    Cause, Reason, ReasonCondition,
    testing::{Conditions, World},
};
use session_file::{
    Acceptance, Decision, Direction, Fault, File, FileClient, FileError, FileRange, FileVerdict,
    HashAlgorithm, Integrity, JET_BYTES_MAX, JetCipher, JetError, JetSecret, OWN, Outcome,
    Proposal, Read, ResumeToken, Transfer, TreeTotals,
};
use std::time::Duration;
use stranger::stream;

const VERIFIED: Outcome = Outcome::Received(Integrity::Verified(HashAlgorithm::Sha256));
const CIPHERS: [JetCipher; 2] = [JetCipher::Aes128Gcm, JetCipher::Aes256Gcm];

/// Takes what is offered, and gives what is asked for.
fn take_and_give(offer: &session_file::FileOffer) -> FileVerdict {
    let decide = |file: &session_file::OfferedFile| match file.direction {
        Direction::Receive => Decision::Accept(Acceptance::default()),
        Direction::Send => {
            let name = file.file.name.as_ref().unwrap();
            Decision::Provide(File::new(name, name.parse().unwrap()))
        }
    };
    let files = offer.files.iter();
    FileVerdict::Decide(files.map(|f| (f.content.clone(), decide(f))).collect())
}

/// Two of ours with these keys, or without.
fn ours(carrier: Carrier, keys: [Option<&Stub>; 2]) -> World {
    let mut world = world(carrier);
    for (host, keys) in keys.into_iter().enumerate() {
        set_policy(&mut world, host, take_and_give);
        if let Some(keys) = keys {
            client(&mut world, host, |client| client.set_keys(keys.clone()));
        }
    }
    world.set_network(Conditions::with_delay(Duration::from_millis(5)));
    world
}

/// A file that has its size as its name.
fn sized(size: usize) -> File {
    File::new(&size.to_string(), size as u64)
}

fn selector(size: usize) -> File {
    File {
        name: Some(size.to_string().into()),
        ..File::default()
    }
}

fn source(size: usize) -> bytes::Bytes {
    data(&size.to_string(), size)
}

fn offers(size: usize, cipher: JetCipher) -> Vec<Proposal> {
    vec![Proposal::Offer(sized(size)).encrypted(cipher)]
}

fn secret(cipher: JetCipher, seed: u8) -> JetSecret {
    let bytes = (0..cipher.secret_bytes()).map(|at| at as u8 ^ seed);
    JetSecret::new(cipher, &bytes.collect::<Vec<_>>()).unwrap()
}

/// Whether the peer says that it is not safe.
fn is_unsafe(outcome: Option<Outcome>) -> bool {
    let said = |reason: Option<Reason>| {
        reason.is_some_and(|reason| reason.condition == ReasonCondition::SecurityError)
    };
    match outcome {
        Some(Outcome::Failed(Fault::Declined(reason) | Fault::Aborted(reason))) => said(reason),
        Some(Outcome::Failed(Fault::Session(Cause::Remote(reason)))) => said(reason),
        Some(Outcome::Received(_) | Outcome::Sent { .. } | Outcome::Failed(_)) | None => false,
    }
}

/// Whoever offers it or asks for it, whichever way it goes.
#[test]
fn a_file_arrives_as_it_was_over_every_stream() {
    for carrier in CARRIERS.into_iter().chain(STREAMS) {
        for (at, size) in [0, 1, 16, 200_001].into_iter().enumerate() {
            for (opener, asks) in [(ALICE, false), (BOB, false), (ALICE, true), (BOB, true)] {
                let (cipher, keys) = (CIPHERS[at % 2], Stub::new(3));
                let mut world = ours(carrier, [Some(&keys), Some(&keys)]);
                let proposal = match asks {
                    true => Proposal::Request(selector(size), None),
                    false => Proposal::Offer(sized(size)),
                };
                let ids = open(&mut world, opener, vec![proposal.encrypted(cipher)]).unwrap();
                let from = if asks { 1 - opener } else { opener };
                let mut apps = [App::new(), App::new()];
                apps[from].sources.insert(size.to_string(), source(size));
                run(&mut world, &mut apps);
                let text = format!("{size} {carrier:?} {cipher:?} {opener} {asks}");
                let theirs = other(&mut world, 1 - opener, &ids[0]);
                let mut both = [ids[0].clone(), theirs];
                both.rotate_left(usize::from(from != opener));
                let [sent, received] = both;
                for (host, id) in [(from, &sent), (1 - from, &received)] {
                    let used = look(&mut world, host, id, |t| (t.is_encrypted(), t.cipher()));
                    assert_eq!(used, (true, Some(cipher)), "{text}");
                }
                let confirmed = Some(Outcome::Sent { confirmed: true });
                assert_eq!(outcome(&mut world, from, &sent), confirmed, "{text}");
                assert_eq!(
                    outcome(&mut world, 1 - from, &received),
                    Some(VERIFIED),
                    "{text}"
                );
                assert_eq!(apps[1 - from].received[&received], source(size), "{text}");
                assert!(matches!(apps[1 - from].ends[&received], Read::End(_)));
                let progress = look(&mut world, from, &sent, Transfer::progress);
                assert_eq!(
                    (progress.written, progress.sent),
                    (size as u64, size as u64)
                );
                let progress = look(&mut world, 1 - from, &received, Transfer::progress);
                assert_eq!(
                    (progress.received, progress.read),
                    (size as u64, size as u64)
                );
            }
        }
    }
}

/// What the channel carries is what AES-GCM makes of the file, with the secret of the offer or of the request.
#[test]
fn nothing_of_it_passes_in_clear() {
    let asked = secret(JetCipher::Aes256Gcm, 9);
    for carrier in [Carrier::Stream, Carrier::S5b, Carrier::Ibb, Carrier::Ice] {
        for asks in [None, Some(&asked)] {
            let seen = stranger::seen(carrier, asks, "f", &data("f", 70_000));
            let own = || JetSecret::new(JetCipher::Aes128Gcm, &seen.secret).unwrap();
            let secret = asks.cloned().unwrap_or_else(own);
            assert_eq!(secret.as_bytes(), &seen.secret[..]);
            let expected = stream(&secret, &data("f", 70_000));
            assert!(seen.bytes == expected, "{carrier:?} {}", seen.bytes.len());
        }
    }
}

#[test]
fn encrypted_files_and_others_share_a_session() {
    let keys = Stub::new(3);
    let mut world = ours(Carrier::Stream, [Some(&keys), Some(&keys)]);
    let proposals = vec![
        Proposal::Offer(sized(5_000)),
        Proposal::Offer(sized(70_000)).encrypted(JetCipher::Aes128Gcm),
    ];
    let ids = open(&mut world, ALICE, proposals).unwrap();
    world.settle();
    let session = only(&mut world, BOB);
    let back = world.update(BOB, |manager, now| {
        let back = offers(9_000, JetCipher::Aes128Gcm).remove(0);
        FileClient::add(manager, session, back, now).unwrap()
    });
    let mut apps = [
        App::new()
            .with("5000", source(5_000))
            .with("70000", source(70_000)),
        App::new().with("9000", source(9_000)),
    ];
    run(&mut world, &mut apps);
    for (id, size) in [(&ids[0], 5_000), (&ids[1], 70_000)] {
        let id = other(&mut world, BOB, id);
        assert_eq!(apps[BOB].received[&id], source(size));
        let encrypted = look(&mut world, BOB, &id, Transfer::is_encrypted);
        assert_eq!(encrypted, size == 70_000);
    }
    let back = other(&mut world, ALICE, &back);
    assert_eq!(apps[ALICE].received[&back], source(9_000));
    let secrets = keys.secrets();
    assert!(secrets.len() == 2 && secrets[0] != secrets[1], "one each");
}

/// One of several that cannot be opened is refused, and the others go on.
#[test]
fn what_cannot_be_opened_is_refused_with_a_reason() {
    let keys = Stub::new(3);
    for proposal in [
        Proposal::Offer(sized(10)),
        Proposal::Request(selector(10), None),
    ] {
        let mut world = ours(Carrier::Stream, [Some(&keys), None]);
        let proposal = proposal.encrypted(JetCipher::Aes128Gcm);
        let ids = open(&mut world, ALICE, vec![proposal.clone()]).unwrap();
        world.settle();
        assert!(is_unsafe(outcome(&mut world, ALICE, &ids[0])));
        assert_eq!(
            client(&mut world, BOB, |client| client.sessions().count()),
            0
        );

        let mut world = ours(Carrier::Stream, [Some(&keys), None]);
        let plain = Proposal::Offer(sized(5_000));
        let ids = open(&mut world, ALICE, vec![proposal.clone(), plain]).unwrap();
        world.settle();
        let later = world.update(ALICE, |manager, now| {
            FileClient::add(manager, ids[0].session, proposal, now).unwrap()
        });
        let mut apps = [App::new().with("5000", source(5_000)), App::new()];
        run(&mut world, &mut apps);
        for id in [&ids[0], &later] {
            assert!(is_unsafe(outcome(&mut world, ALICE, id)));
        }
        let confirmed = Some(Outcome::Sent { confirmed: true });
        assert_eq!(outcome(&mut world, ALICE, &ids[1]), confirmed);
        assert_eq!(apps[BOB].received.len(), 1, "nothing of the others");
    }
}

#[test]
fn what_cannot_be_encrypted_is_not_proposed() {
    let keys = Stub::new(3);
    let mut world = ours(Carrier::Stream, [Some(&keys), Some(&keys)]);
    let part = |bytes| File {
        range: Some(FileRange::from_offset(bytes)),
        ..sized(100)
    };
    let long = File::new("a", JET_BYTES_MAX + 1);
    let tree = session_file::tree_offer("a", TreeTotals::default());
    for (proposal, error) in [
        (Proposal::Offer(long), JetError::TooLong),
        (Proposal::Offer(tree), JetError::Tree),
        (Proposal::Request(part(10), None), JetError::NoPrefix),
        (
            Proposal::Request(part(10), Some(prefix(b"12345"))),
            JetError::NoPrefix,
        ),
    ] {
        let refused = open(&mut world, ALICE, vec![proposal.encrypted(CIPHERS[0])]);
        assert_eq!(refused, Err(FileError::Encryption(error)));
    }
    let mut bare = ours(Carrier::Stream, [None, Some(&keys)]);
    let refused = open(&mut bare, ALICE, offers(10, CIPHERS[0]));
    assert_eq!(refused, Err(FileError::Encryption(JetError::NoKeys)));
    for world in [world, bare] {
        assert_eq!(world.manager(BOB).session_count(), 0, "nothing was said");
    }
}

/// In a session that runs nothing is left behind of it either.
#[test]
fn what_cannot_be_encrypted_is_not_added() {
    let mut world = ours(Carrier::Stream, [None, None]);
    let ids = open(&mut world, ALICE, vec![Proposal::Offer(sized(5_000))]).unwrap();
    world.settle();
    let refused = world.update(ALICE, |manager, now| {
        FileClient::add(
            manager,
            ids[0].session,
            offers(10, CIPHERS[0]).remove(0),
            now,
        )
    });
    assert_eq!(refused, Err(FileError::Encryption(JetError::NoKeys)));
    let files = client(&mut world, ALICE, |c| c.transfers(ids[0].session).count());
    assert_eq!(files, 1);
    let mut apps = [App::new().with("5000", source(5_000)), App::new()];
    run(&mut world, &mut apps);
    let confirmed = Some(Outcome::Sent { confirmed: true });
    assert_eq!(outcome(&mut world, ALICE, &ids[0]), confirmed);
}

/// Keys that are not the same: what arrives is noise, and its tag proves nothing. Who sent it hears of it, also where its
/// transport was told that every byte is there.
#[test]
fn with_another_secret_nothing_is_received() {
    let (one, another) = (Stub::new(3), Stub::new(4));
    let carriers = [Carrier::Stream, Carrier::PseudoTcp];
    for carrier in carriers.into_iter().chain(STREAMS) {
        let mut world = ours(carrier, [Some(&one), Some(&another)]);
        world.set_wire(Conditions::with_delay(Duration::from_millis(50)));
        let ids = open(&mut world, ALICE, offers(5_000, CIPHERS[1])).unwrap();
        let mut apps = [App::new().with("5000", source(5_000)), App::new()];
        run(&mut world, &mut apps);
        let theirs = other(&mut world, BOB, &ids[0]);
        let forged = Some(Outcome::Failed(Fault::Forged));
        assert_eq!(outcome(&mut world, BOB, &theirs), forged);
        assert!(matches!(apps[BOB].ends[&theirs], Read::Broken(_)));
        let told = outcome(&mut world, ALICE, &ids[0]);
        assert!(is_unsafe(told.clone()), "{carrier:?} {told:?}");
    }
}

/// With others a file begins anew over another transport. What is given again may be something else by then, and that must
/// not be encrypted with a key that was used: it begins anew in another session.
#[test]
fn a_key_is_for_one_pass() {
    for moves in [true, false] {
        let keys = Stub::new(3);
        let carrier = Carrier::Failing(Duration::from_millis(40));
        let mut world = world_with(carrier, 1, |config| {
            (config.moves, config.gives_again) = (moves, true);
            (config.limits.send_bytes, config.limits.receive_bytes) = (50_000, 50_000);
        });
        for host in [ALICE, BOB] {
            client(&mut world, host, |client| client.set_keys(keys.clone()));
            set_policy(&mut world, host, take_and_give);
        }
        world.set_network(Conditions::with_delay(Duration::from_millis(5)));
        let ids = open(&mut world, ALICE, offers(1_000_000, CIPHERS[0])).unwrap();
        let mut apps = [App::new().with("1000000", source(1_000_000)), App::new()];
        run(&mut world, &mut apps);
        let theirs = other(&mut world, BOB, &ids[0]);
        let sent = look(&mut world, ALICE, &ids[0], |t| t.progress().sent);
        assert!(sent > 0, "bytes were under way");
        let received = outcome(&mut world, BOB, &theirs);
        match moves {
            true => assert_eq!(received, Some(VERIFIED), "the same bytes go on"),
            false => assert!(matches!(received, Some(Outcome::Failed(_))), "{received:?}"),
        }
        assert!(!look(&mut world, ALICE, &ids[0], Transfer::is_rewound));
    }
}

/// What is interrupted goes on where it was, with another secret, whoever proposes it.
#[test]
fn an_interrupted_file_goes_on_with_another_secret() {
    for asks in [false, true] {
        let (keys, size) = (Stub::new(3), 500_000);
        let all = data("f", size);
        let file = File::new("f", size as u64);
        let mut whole = Vec::new();
        for session in 0..3 {
            let mut world = world_with(Carrier::Ibb, session + 1, |config| {
                (config.limits.send_bytes, config.limits.receive_bytes) = (20_000, 20_000);
            });
            for host in [ALICE, BOB] {
                client(&mut world, host, |client| client.set_keys(keys.clone()));
            }
            let provided = file.clone();
            set_policy(&mut world, ALICE, move |offer| {
                let content = offer.files[0].content.clone();
                FileVerdict::Decide(vec![(content, Decision::Provide(provided.clone()))])
            });
            let token = ResumeToken::new(file.clone(), &prefix(&whole)).unwrap();
            let acceptance = token.acceptance(None, prefix(&whole));
            set_policy(&mut world, BOB, move |offer| {
                let content = offer.files[0].content.clone();
                FileVerdict::Decide(vec![(content, Decision::Accept(acceptance.clone()))])
            });
            let (opener, proposal) = match asks {
                true => (BOB, token.request(prefix(&whole))),
                false => (ALICE, Proposal::Offer(file.clone())),
            };
            open(&mut world, opener, vec![proposal.encrypted(CIPHERS[1])]).unwrap();
            let before = whole.len();
            let mut apps = [App::new().with("f", all.clone()), App::new()];
            apps[BOB].reads = (session < 2).then_some(100_000);
            // Nobody reads on, and both are gone without a word.
            world.run_until(Duration::from_secs(60), |world| {
                apps[ALICE].step(world, ALICE);
                apps[BOB].step(world, BOB);
                is_over(world, ALICE) && is_over(world, BOB)
            });
            let received = apps[BOB].received.values().next().unwrap();
            whole.extend_from_slice(received);
            assert!(
                whole.len() > before && all.starts_with(&whole),
                "where it was"
            );
            let ended = apps[BOB]
                .ends
                .values()
                .any(|end| matches!(end, Read::End(_)));
            assert_eq!(ended, session == 2);
        }
        assert!(whole == all);
        let mut secrets = keys.secrets();
        secrets.sort_unstable();
        secrets.dedup();
        assert_eq!(secrets.len(), 3, "one for each session");
    }
}

/// The hashes of blocks would tell whoever carries signalling more of it than it takes.
#[test]
fn no_hashes_of_parts_are_named() {
    let keys = Stub::new(3);
    let mut world = ours(Carrier::Stream, [Some(&keys), Some(&keys)]);
    let file = File::new("a", 100 << 20);
    let proposals = vec![
        Proposal::Offer(file.clone()),
        Proposal::Offer(file).encrypted(CIPHERS[0]),
    ];
    let ids = open(&mut world, ALICE, proposals).unwrap();
    world.settle();
    let blocks = ids.iter().map(|id| {
        let id = other(&mut world, BOB, id);
        look(&mut world, BOB, &id, |t| {
            t.file().extra.iter().any(|extra| extra.is(OWN, "blocks"))
        })
    });
    assert_eq!(blocks.collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_file_whose_size_nobody_knows_ends_with_its_tag() {
    for carrier in [Carrier::Stream, Carrier::Plain, Carrier::Ibb] {
        for size in [0, 1, 50_000] {
            let keys = Stub::new(3);
            let mut world = ours(carrier, [Some(&keys), Some(&keys)]);
            let file = File {
                size: None,
                ..sized(size)
            };
            let proposal = Proposal::Offer(file).encrypted(CIPHERS[0]);
            let ids = open(&mut world, ALICE, vec![proposal]).unwrap();
            let mut apps = [App::new().with(&size.to_string(), source(size)), App::new()];
            run(&mut world, &mut apps);
            let theirs = other(&mut world, BOB, &ids[0]);
            let received = outcome(&mut world, BOB, &theirs);
            assert_eq!(received, Some(VERIFIED), "{carrier:?} {size}");
            assert_eq!(apps[BOB].received[&theirs], source(size));
        }
    }
}

/// What the file client asks of what is to come: a policy sees whether it is encrypted.
#[test]
fn a_policy_may_take_only_what_is_encrypted() {
    let keys = Stub::new(3);
    let mut world = ours(Carrier::Stream, [Some(&keys), Some(&keys)]);
    set_policy(&mut world, BOB, |offer| {
        let decide = |file: &session_file::OfferedFile| match file.encrypted {
            true => Decision::Accept(Acceptance::default()),
            false => Decision::Skip(ReasonCondition::SecurityError.into()),
        };
        let files = offer.files.iter();
        FileVerdict::Decide(files.map(|f| (f.content.clone(), decide(f))).collect())
    });
    let proposals = vec![
        Proposal::Offer(sized(10)),
        Proposal::Offer(sized(20)).encrypted(CIPHERS[0]),
    ];
    let ids = open(&mut world, ALICE, proposals).unwrap();
    let mut apps = [App::new().with("20", source(20)), App::new()];
    run(&mut world, &mut apps);
    let first = outcome(&mut world, ALICE, &ids[0]);
    assert!(is_unsafe(first));
    let confirmed = Some(Outcome::Sent { confirmed: true });
    assert_eq!(outcome(&mut world, ALICE, &ids[1]), confirmed);
}

/// Who refuses plaintext gets files that are encrypted by themselves over whatever carries them, and no others.
#[test]
fn without_plaintext_encryption_within_the_stream_is_protection_enough() {
    for strict in [[true, false], [false, true], [true, true]] {
        for encrypted in [false, true] {
            for asks in [false, true] {
                let keys = Stub::new(3);
                let mut world = World::new(7);
                for (host, name) in NAMES.into_iter().enumerate() {
                    world.add_host(name, session_core::Config::default(), |manager| {
                        add_transports(manager, Carrier::Ibb, host)?;
                        let mut config = config(Carrier::Ibb);
                        config.plaintext = !strict[host];
                        let mut files = FileClient::new(config);
                        files.set_keys(keys.clone());
                        files.set_policy(take_and_give);
                        manager.add_client(files)
                    });
                }
                let proposal = match asks {
                    true => Proposal::Request(selector(30_000), None),
                    false => Proposal::Offer(sized(30_000)),
                };
                let proposal = match encrypted {
                    true => proposal.encrypted(CIPHERS[1]),
                    false => proposal,
                };
                let ids = open(&mut world, ALICE, vec![proposal]).unwrap();
                let app = || App::new().with("30000", source(30_000));
                let mut apps = [app(), app()];
                run(&mut world, &mut apps);
                let (ours, received) = (outcome(&mut world, ALICE, &ids[0]), usize::from(!asks));
                let bytes: usize = apps[received].received.values().map(Vec::len).sum();
                let text = format!("{strict:?} {encrypted} {asks} {ours:?}");
                if encrypted {
                    assert!(!matches!(ours, Some(Outcome::Failed(_))), "{text}");
                    assert_eq!(bytes, 30_000, "{text}");
                    continue;
                }
                let unprotected = Some(Outcome::Failed(Fault::Unprotected));
                assert!(ours == unprotected || is_unsafe(ours), "{text}");
                assert_eq!(bytes, 0, "{text}");
            }
        }
    }
}

/// An encrypted file of which the receiver has the beginning already.
#[derive(Clone, Copy, Debug)]
struct Rest {
    /// The receiver asks for it, in place of being offered it.
    asks: bool,
    /// Bytes that it has, and whether they are those of the file.
    offset: usize,
    right: bool,
    /// The sender knows what is in front of the rest, and can name the hash of the whole.
    primes: bool,
    /// It says that it will name one.
    named: bool,
}

/// What comes of it: the outcome, and the file as far as it was given out.
fn go_on(rest: Rest) -> (Option<Outcome>, Vec<u8>) {
    let keys = Stub::new(3);
    let mut world = ours(Carrier::S5b, [Some(&keys), Some(&keys)]);
    let all = data("f", 90_000);
    let mut there = all[..rest.offset].to_vec();
    there[rest.offset / 2] ^= u8::from(!rest.right);
    let mut file = File::new("f", 90_000);
    file.hash_used.retain(|_| rest.named);
    let (offset, hasher) = (rest.offset as u64, prefix(&there));
    let proposal = if rest.asks {
        let theirs = file.clone();
        set_policy(&mut world, ALICE, move |offer| {
            let content = offer.files[0].content.clone();
            FileVerdict::Decide(vec![(content, Decision::Provide(theirs.clone()))])
        });
        file.range = Some(FileRange::from_offset(offset));
        Proposal::Request(file, Some(hasher))
    } else {
        let acceptance = Acceptance {
            offset,
            prefix: Some(hasher),
            ..Acceptance::default()
        };
        set_policy(&mut world, BOB, move |offer| {
            let content = offer.files[0].content.clone();
            FileVerdict::Decide(vec![(content, Decision::Accept(acceptance.clone()))])
        });
        Proposal::Offer(file)
    };
    let opener = if rest.asks { BOB } else { ALICE };
    let ids = open(&mut world, opener, vec![proposal.encrypted(CIPHERS[0])]).unwrap();
    let mut apps = [App::new().with("f", all), App::new()];
    apps[ALICE].primes = rest.primes;
    run(&mut world, &mut apps);
    let id = other(&mut world, BOB, &ids[0]);
    there.extend(apps[BOB].received.remove(&id).unwrap_or_default());
    (outcome(&mut world, BOB, &id), there)
}

/// The tag of the rest says nothing of what came before it, under another key.
#[test]
fn what_was_there_before_the_rest_is_proved_by_the_hash_of_the_whole() {
    for (asks, offset) in [false, true]
        .into_iter()
        .flat_map(|asks| [1, 16, 50_000, 90_000].map(|offset| (asks, offset)))
    {
        let fine = Rest {
            asks,
            offset,
            right: true,
            primes: true,
            named: true,
        };
        let (got, whole) = go_on(fine);
        assert_eq!(got, Some(VERIFIED), "{fine:?}");
        assert!(whole == data("f", 90_000));
        for named in [true, false] {
            let rest = Rest {
                primes: false,
                named,
                ..fine
            };
            let (got, _) = go_on(rest);
            assert_eq!(got, Some(Outcome::Failed(Fault::Unproven)), "{rest:?}");
        }
        for (primes, named) in [(true, true), (true, false), (false, true), (false, false)] {
            let wrong = Rest {
                right: false,
                primes,
                named,
                ..fine
            };
            let (got, _) = go_on(wrong);
            assert!(matches!(got, Some(Outcome::Failed(_))), "{wrong:?} {got:?}");
        }
    }
}

/// Without its hash nobody could tell.
#[test]
fn the_rest_of_what_nobody_can_prove_is_not_accepted() {
    let keys = Stub::new(3);
    for hasher in [None, Some(prefix(b"123"))] {
        let mut world = ours(Carrier::Stream, [Some(&keys), Some(&keys)]);
        set_policy(&mut world, BOB, |_| FileVerdict::Ask);
        let ids = open(&mut world, ALICE, offers(5_000, CIPHERS[0])).unwrap();
        world.settle();
        let id = other(&mut world, BOB, &ids[0]);
        let acceptance = Acceptance {
            offset: 1_000,
            prefix: hasher,
            ..Acceptance::default()
        };
        let decision = vec![(id.content.clone(), Decision::Accept(acceptance))];
        let refused = world.update(BOB, |manager, now| {
            FileClient::answer(manager, id.session, decision, now)
        });
        assert_eq!(refused, Err(FileError::Encryption(JetError::NoPrefix)));
    }
}
