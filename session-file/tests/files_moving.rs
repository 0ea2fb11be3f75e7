//! Files whose transport fails while bytes are under way: between two of ours they go on over the next one from where the
//! receiver is; with others they end, and begin anew another time.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use filekit::{
    persona::{Persona, all},
    *,
};
use proptest::prelude::*;
use session_core::{
    Config, SessionManager,
    testing::{Conditions, World},
};
use session_file::{
    Completeness, FILE_TRANSFER, File, FileClient, Integrity, Outcome, Proposal, Read, TransferId,
};
use std::time::Duration;

fn delays(world: &mut World) {
    world.set_wire(Conditions::with_delay(Duration::from_millis(20)));
    world.set_network(Conditions::with_delay(Duration::from_millis(25)));
}

/// What is under way, and when its first transport fails.
#[derive(Clone, Copy, Debug)]
struct Plan {
    after: Duration,
    size: usize,
    /// Bytes that are written at a time, and how often.
    piece: usize,
    pace: Duration,
    /// Where the receiver begins.
    offset: usize,
    /// Whether the size is told.
    sized: bool,
    /// Whether the receiver asked for it.
    asked: bool,
    /// Whether it is encrypted within its stream (XEP-0391), where that can be.
    sealed: bool,
}

const PLAN: Plan = Plan {
    after: Duration::from_secs(1),
    size: 500_000,
    piece: 5_000,
    pace: Duration::from_millis(50),
    offset: 0,
    sized: true,
    asked: false,
    sealed: false,
};

/// Writes a piece of what is left. Whether that was the last.
fn write(
    manager: &mut SessionManager,
    id: &TransferId,
    all: &bytes::Bytes,
    plan: Plan,
    now: std::time::Instant,
) -> bool {
    let transfer = manager
        .find_client::<FileClient>()
        .unwrap()
        .transfer(id)
        .unwrap();
    let offset = transfer.offset() as usize;
    let at = offset + transfer.progress().written as usize;
    if plan.sealed && offset > 0 && at == offset {
        // Of what is encrypted only the hash of the whole proves the beginning. Said again it is refused.
        let _ = FileClient::prime(manager, id, prefix(&all[..offset]), now);
    }
    let mut bytes = all.slice(at..(at + plan.piece).min(all.len()));
    let last = at + bytes.len() == all.len();
    FileClient::write(manager, id, &mut bytes, now).unwrap();
    if last && bytes.is_empty() && !plan.sized {
        FileClient::finish(manager, id, now).unwrap();
    }
    last && bytes.is_empty()
}

fn moves(plan: Plan) {
    let mut world = world(Carrier::Failing(plan.after));
    share_keys(&mut world);
    delays(&mut world);
    let all = data("f", plan.size);
    let mut file = File::new("f", plan.size as u64);
    if !plan.sized {
        (file.size, file.range) = (None, None);
    }
    let (sender, receiver) = match plan.asked {
        false => (ALICE, BOB),
        true => (BOB, ALICE),
    };
    let id = begin(&mut world, file, plan);
    let ids = [id.clone(), other(&mut world, BOB, &id)];
    let sealed = look(&mut world, sender, &ids[sender], |t| t.is_encrypted());
    assert_eq!(sealed, plan.sealed && cfg!(feature = "jet"));
    let mut app = App::new();
    let mut written = false;
    let over = world.run_until(Duration::from_secs(600), |_| true);
    assert!(over);
    for _ in 0..4_000 {
        if !written {
            written = world.update(sender, |manager, now| {
                let id = &ids[sender];
                let transfer = manager
                    .find_client::<FileClient>()
                    .unwrap()
                    .transfer(id)
                    .unwrap();
                if transfer.phase() != session_file::Phase::Open {
                    return false;
                }
                write(manager, id, &all, plan, now)
            });
        }
        world.run_for(plan.pace);
        app.step(&mut world, receiver);
        if is_over(&world, ALICE) && is_over(&world, BOB) {
            break;
        }
    }
    let received = app
        .received
        .get(&ids[receiver])
        .cloned()
        .unwrap_or_default();
    let end = app.ends.get(&ids[receiver]);
    assert_eq!(end, Some(&Read::End(Completeness::Verified)), "{plan:?}");
    assert!(
        received == all[plan.offset..],
        "{plan:?}: each byte once and in order"
    );
    let sent = outcome(&mut world, sender, &ids[sender]);
    assert_eq!(sent, Some(Outcome::Sent { confirmed: true }), "{plan:?}");
    let taken = outcome(&mut world, receiver, &ids[receiver]);
    assert!(
        matches!(taken, Some(Outcome::Received(_))),
        "{plan:?}: {taken:?}"
    );
    if plan.offset == 0 && plan.sized && !plan.asked {
        let integrity = Integrity::Verified(session_file::HashAlgorithm::Sha256);
        assert_eq!(taken, Some(Outcome::Received(integrity)), "{plan:?}");
    }
    world.check();
}

/// Offers the file, or asks for it; the transfer of who began.
fn begin(world: &mut World, file: File, plan: Plan) -> TransferId {
    use session_file::{Acceptance, Decision, FileVerdict};
    let all = data("f", plan.size);
    if plan.asked {
        let provided = file.clone();
        set_policy(world, BOB, move |offer| {
            let provide = Decision::Provide(Box::new(provided.clone()).as_ref().clone());
            FileVerdict::Decide(vec![(offer.files[0].content.clone(), provide)])
        });
        let id = open(
            world,
            ALICE,
            vec![seal(Proposal::Request(file, None), plan.sealed)],
        )
        .unwrap();
        world.run_for(Duration::from_millis(200));
        return id.into_iter().next().unwrap();
    }
    let offset = plan.offset;
    set_policy(world, BOB, move |offer| {
        let acceptance = Acceptance {
            offset: offset as u64,
            prefix: (offset > 0).then(|| prefix(&all[..offset])),
            ..Acceptance::default()
        };
        let content = offer.files[0].content.clone();
        FileVerdict::Decide(vec![(content, Decision::Accept(acceptance))])
    });
    let mut file = file;
    file.hash_used = vec!["sha-256".into()];
    let id = open(world, ALICE, vec![seal(Proposal::Offer(file), plan.sealed)]).unwrap();
    world.run_for(Duration::from_millis(30));
    id.into_iter().next().unwrap()
}

#[test]
fn a_file_that_is_under_way_moves_and_no_byte_comes_twice() {
    for ms in [10, 100, 500, 1_000, 2_490, 4_990, 5_030, 9_000] {
        for (offset, sized, asked) in [
            (0, true, false),
            (123_456, true, false),
            (0, false, false),
            (0, true, true),
        ] {
            for sealed in [false, true] {
                moves(Plan {
                    after: Duration::from_millis(ms),
                    offset,
                    sized,
                    asked,
                    sealed,
                    ..PLAN
                });
            }
        }
    }
}

/// Several files in one session, each with a transport of its own.
#[test]
fn each_file_of_a_session_goes_on_by_itself() {
    let mut world = world(Carrier::Failing(Duration::from_millis(700)));
    delays(&mut world);
    accept_all(&mut world, BOB);
    let files = [("one", 300_000), ("two", 200_000), ("three", 0)];
    offer(&mut world, &files);
    let mut apps = [App::new(), App::new()];
    for (name, size) in files {
        apps[ALICE]
            .sources
            .insert(name.to_owned(), data(name, size));
    }
    apps[ALICE].piece = 2_000;
    apps[BOB].piece = 2_000;
    run(&mut world, &mut apps);
    let all: Vec<_> = apps[BOB].received.values().collect();
    assert_eq!(all.len(), 3);
    for (name, size) in files {
        assert!(
            all.iter().any(|bytes| ***bytes == *data(name, size)),
            "{name}"
        );
    }
    assert!(
        apps[BOB]
            .ends
            .values()
            .all(|end| matches!(end, Read::End(_)))
    );
}

/// Others know nothing of it, whatever they repeat of our offer: a file that was under way ends at once.
#[test]
fn with_others_it_ends_and_nothing_comes_twice() {
    for habits in all() {
        let persona = Persona::new(habits.clone(), bytes::Bytes::new());
        let diary = persona.diary.clone();
        let mut persona = Some(persona);
        let carrier = Carrier::Failing(Duration::from_secs(1));
        let mut world = World::new(3);
        for (host, name) in NAMES.into_iter().enumerate() {
            world.add_host(name, Config::default(), |manager| {
                add_transports(manager, carrier, host)?;
                match host == BOB {
                    true => manager.add_client(persona.take().unwrap()),
                    false => manager.add_client(FileClient::new(config(carrier))),
                }
            });
        }
        delays(&mut world);
        let id = offer(&mut world, &[("f", 500_000)]).remove(0);
        let all = data("f", 500_000);
        for _ in 0..100 {
            world.update(ALICE, |manager, now| {
                let transfer = manager
                    .find_client::<FileClient>()
                    .unwrap()
                    .transfer(&id)
                    .unwrap();
                if transfer.phase() == session_file::Phase::Open {
                    write(manager, &id, &all, PLAN, now);
                }
            });
            world.run_for(PLAN.pace);
        }
        let name = habits.name;
        assert!(is_over(&world, ALICE) && is_over(&world, BOB), "{name}");
        let outcome = outcome(&mut world, ALICE, &id).unwrap();
        assert!(matches!(outcome, Outcome::Failed(_)), "{name}: {outcome:?}");
        let received = diary.lock().unwrap().received.clone();
        assert!(!received.is_empty() && all.starts_with(&received), "{name}");
        assert_eq!(FILE_TRANSFER, "urn:xmpp:jingle:apps:file-transfer:5");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whenever_the_transport_fails_each_byte_comes_once(
        after in 0..4_000u64,
        size in 1..200_000usize,
        piece in 500..20_000usize,
        pace in 1..80u64,
        part in 0.0..1.0f64,
        (resumed, sized, asked, sealed) in any::<(bool, bool, bool, bool)>(),
    ) {
        let plain = resumed && sized && !asked;
        moves(Plan {
            after: Duration::from_millis(after),
            size,
            piece,
            pace: Duration::from_millis(pace),
            offset: if plain { (size as f64 * part) as usize } else { 0 },
            sized: sized || asked,
            asked,
            sealed,
        });
    }
}
