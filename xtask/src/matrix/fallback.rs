//! Files with other people's clients while transports break, at any moment: it ends within a bound, no byte is lost or comes
//! twice, and the file arrives whenever a transport is left and that client can get there.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use super::{
    ours,
    stage::{OURS, Stage, THEIRS, hash},
};
use bytes::Bytes;
use faulty::{Fault, Faulty, any_fault};
use proptest::prelude::*;
use session_core::{
    Config, Role, SeededEntropy, SessionManager,
    testing::persona::{
        FileHabits, Medium, Midway, Persona, Replaces, Script, Stranger, Verdict, catalogue,
    },
};
use session_file::{
    Acceptance, Decision, FILE_TRANSFER, File, FileClient, FileConfig, FileVerdict, Outcome,
    Proposal, Read, Transfer, TransferId,
};
use std::{net::IpAddr, time::Duration};
use transport_relay::{
    ibb::Ibb,
    s5b::{S5b, S5bConfig},
};

#[path = "../../../transport-relay/tests/faulty/mod.rs"]
mod faulty;

const SIZE: usize = 60_000;
/// Bytes a second: what breaks breaks while bytes are under way.
const RATE: u64 = 40_000;
/// Both transports' time to connect, or to be missed, and all that is said between.
const BOUND: Duration = Duration::from_secs(2 * (65 + 45 + 30) + 120);
/// After what time without a byte a path counts as dead.
const STANDSTILL: Duration = Duration::from_secs(30);
const PIECE: usize = 2_000;
const PACE: Duration = Duration::from_millis(50);

/// Who plays opposite us: each falls back in its own way.
const PERSONAS: [Persona; 7] = [
    catalogue::DINO,
    catalogue::CONVERSATIONS,
    catalogue::SWIFT,
    catalogue::GAJIM,
    catalogue::LIBERVIA,
    catalogue::PSI,
    LITERAL,
];

/// Who takes XEP-0166 at its word: a stream that breaks is replaced, and a file begins anew over the new one. All others end
/// with a stream that broke in its middle.
const LITERAL: Persona = Persona {
    name: "a literal client",
    file: match catalogue::GAJIM.file {
        Some(habits) => Some(FileHabits {
            replaces: Replaces::Always,
            midway: Midway::Restarts,
            break_ends: false,
            ..habits
        }),
        None => None,
    },
    ..catalogue::GAJIM
};

/// What breaks: SOCKS5 and in-band bytestreams, of ours and of theirs.
type Faults = [[Fault; 2]; 2];

fn transports(address: IpAddr, faults: [Fault; 2]) -> (Faulty<S5b>, Faulty<Ibb>) {
    let s5b = S5b::new(S5bConfig {
        listen: vec![address],
        ..S5bConfig::default()
    });
    (
        Faulty::new(s5b, faults[0]),
        Faulty::new(Ibb::new(), faults[1]),
    )
}

fn stage(persona: Persona, seed: u64, faults: Faults) -> Stage {
    let mut entropy = SeededEntropy::new(seed);
    let fill = move |buffer: &mut [u8]| session_core::Entropy::fill(&mut entropy, buffer);
    let mut manager = SessionManager::new(Config::default(), fill);
    let (s5b, ibb) = transports(Stage::address(0), faults[0]);
    manager.add_transport(s5b).unwrap();
    manager.add_transport(ibb).unwrap();
    let mut files = FileClient::new(FileConfig {
        gives_again: true,
        standstill: STANDSTILL,
        ..FileConfig::default()
    });
    files.set_policy(|offer| {
        let content = offer.files[0].content.clone();
        FileVerdict::Decide(vec![(content, Decision::Accept(Acceptance::default()))])
    });
    manager.add_client(files).unwrap();
    let script = Script {
        verdict: Verdict::Accept,
        early: false,
        odd: false,
        infos: true,
        hash,
    };
    let (s5b, ibb) = transports(Stage::address(1), faults[1]);
    let stranger = Stranger::new(persona, script, THEIRS.into(), OURS.into(), seed)
        .with_transport(s5b)
        .with_transport(ibb);
    let mut stage = Stage::with(manager, stranger);
    stage.set_rate(RATE);
    stage
}

/// What came of it.
#[derive(Debug)]
struct Played {
    ours: Option<Outcome>,
    theirs: Option<String>,
    received: Vec<u8>,
    sent: Bytes,
}

fn content() -> Bytes {
    (0..SIZE).map(|at| (at ^ (at >> 8)) as u8).collect()
}

fn look(stage: &mut Stage) -> Option<(TransferId, Option<Outcome>)> {
    stage.update(|manager, _| {
        let files = manager.find_client::<FileClient>()?;
        let session = files.sessions().next()?;
        let transfer = files.transfers(session).next()?;
        let content = transfer.content().clone();
        Some((TransferId { session, content }, transfer.outcome().cloned()))
    })
}

/// Whether everything is to be given again.
fn begins_again(stage: &mut Stage, id: &TransferId) -> bool {
    stage.update(|manager, now| {
        let files = manager.find_client::<FileClient>();
        let transfer = files.as_ref().and_then(|files| files.transfer(id));
        let is_rewound = transfer.is_some_and(Transfer::is_rewound);
        is_rewound && FileClient::begin_again(manager, id, now).is_ok()
    })
}

fn play(persona: Persona, role: Role, seed: u64, faults: Faults) -> Played {
    let mut stage = stage(persona, seed, faults);
    let bytes = content();
    match role {
        Role::Initiator => stage.update(|manager, now| {
            let session = manager
                .create_session(OURS.into(), FILE_TRANSFER, now)
                .unwrap();
            let chosen = manager.session(session).unwrap();
            chosen
                .set_potential_transports(&ours::FILE_TRANSPORTS)
                .unwrap();
            let offer = Proposal::Offer(File::new("f", SIZE as u64));
            FileClient::open(manager, session, THEIRS.into(), vec![offer], now).unwrap();
        }),
        Role::Responder => {
            let medium = Medium::File {
                name: "f".into(),
                bytes: bytes.clone(),
            };
            stage.theirs(|stranger, now| stranger.begin(medium, now));
        }
    }
    let mut left = bytes.clone();
    let mut received = Vec::new();
    let mut ours = None;
    for _ in 0..BOUND.as_millis() / PACE.as_millis() {
        stage.run(PACE, |_| false);
        let Some((id, outcome)) = look(&mut stage) else {
            if stage.stranger.ending().is_some() && stage.session().is_none() {
                break;
            }
            continue;
        };
        ours = outcome;
        if begins_again(&mut stage, &id) {
            left = bytes.clone();
        }
        match role {
            Role::Initiator if !left.is_empty() => {
                let mut piece = left.slice(..PIECE.min(left.len()));
                let count = piece.len();
                // Not yet, or not any more: the outcome tells.
                let _ = stage.update(|m, now| FileClient::write(m, &id, &mut piece, now));
                let _ = left.split_to(count - piece.len());
            }
            Role::Initiator => {}
            Role::Responder => {
                while let Ok(Read::Bytes(bytes)) =
                    stage.update(|m, now| FileClient::read(m, &id, usize::MAX, now))
                {
                    received.extend_from_slice(&bytes);
                }
            }
        }
        if ours.is_some() && stage.session().is_none() && stage.stranger.ending().is_some() {
            break;
        }
    }
    if role == Role::Initiator {
        received = stage.stranger.received().concat();
    }
    assert_eq!(stage.faults, [] as [String; 0]);
    assert!(
        stage.session().is_none(),
        "a session is left: {}",
        stage.transcript.join("\n")
    );
    Played {
        ours,
        theirs: stage.stranger.ending().map(|ending| ending.reason.clone()),
        received,
        sent: bytes,
    }
}

/// Whether the file has to arrive: a transport works on both sides, and this client goes on from whatever broke the other
/// one.
fn must_arrive(persona: &Persona, role: Role, faults: Faults) -> bool {
    let [ours, theirs] = faults;
    let [s5b, ibb] = [0, 1].map(|at| [ours[at], theirs[at]]);
    let fine = |both: [Fault; 2]| both == [Fault::None; 2];
    if fine(s5b) {
        return true;
    }
    let habits = persona.file.unwrap();
    // It takes the answer to its own offer for another's (dino#1554).
    let forgets = habits.forgets_replacement && role == Role::Responder;
    fine(ibb) && !forgets && goes_on(s5b, role, !habits.break_ends)
}

/// Whether both get beyond SOCKS5 that breaks so here and there; `anew`: also when bytes have flowed.
fn goes_on([ours, theirs]: [Fault; 2], role: Role, anew: bool) -> bool {
    let begins = role == Role::Initiator;
    let here = match ours {
        Fault::None | Fault::FailsOnConnect | Fault::RefusesChannels | Fault::NeverConnects => true,
        // An answer that is of no use to us we replace; an offer is refused with the session.
        Fault::RefusesAnswers | Fault::RefusesOffers => begins,
        Fault::FailsAfter(_) => anew,
        // Who sends notices, and has to be the one who replaces.
        Fault::SilentAfter(_) => anew && begins,
    };
    let there = match theirs {
        Fault::None | Fault::FailsOnConnect | Fault::RefusesChannels => true,
        Fault::NeverConnects | Fault::RefusesAnswers => begins,
        Fault::RefusesOffers => !begins,
        Fault::FailsAfter(_) => anew,
        Fault::SilentAfter(_) => anew && begins,
    };
    here && there
}

fn judge(persona: Persona, role: Role, seed: u64, faults: Faults) -> Result<(), TestCaseError> {
    let result = play(persona, role, seed, faults);
    let text = || {
        let Played {
            ours,
            theirs,
            received,
            ..
        } = &result;
        format!(
            "{} {role:?} {faults:?}: {ours:?} and {theirs:?} after {} bytes",
            persona.name,
            received.len()
        )
    };
    let success = result.theirs.as_deref() == Some("success");
    // Who appends what comes again finds by the hash that it is another file.
    let appends = persona.file.unwrap().midway == Midway::Appends && !success;
    prop_assert!(
        appends || result.sent.starts_with(&result.received),
        "a byte is lost or comes twice: {}",
        text()
    );
    let whole = result.received == result.sent;
    match &result.ours {
        Some(Outcome::Received(_) | Outcome::Sent { confirmed: true }) => {
            prop_assert!(whole, "it is said to be whole: {}", text());
        }
        Some(Outcome::Sent { .. } | Outcome::Failed(_)) | None => {}
    }
    if must_arrive(&persona, role, faults) {
        let fine = matches!(
            result.ours,
            Some(Outcome::Received(_) | Outcome::Sent { .. })
        );
        prop_assert!(whole && fine, "a transport was left: {}", text());
    }
    Ok(())
}

/// When some bytes of a file are there, and others are not.
const MIDDLE: Duration = Duration::from_millis(700);
const FINE: [Fault; 2] = [Fault::None; 2];

#[test]
fn a_first_transport_that_fails_at_once_is_replaced_with_everybody() {
    for persona in PERSONAS {
        for role in [Role::Initiator, Role::Responder] {
            for fault in [Fault::FailsOnConnect, Fault::RefusesChannels] {
                for broken in [[true, false], [false, true], [true, true]] {
                    let faults = broken.map(|broken| match broken {
                        true => [fault, Fault::None],
                        false => FINE,
                    });
                    judge(persona, role, 1, faults).unwrap_or_else(|error| panic!("{error}"));
                }
            }
        }
    }
}

/// What jingle-peers.md tells of each: a transport-reject that Conversations answers with nothing, a replace that is not
/// taken, an answer that Dino forgets. Each is one end on both sides.
#[test]
fn without_a_transport_left_it_ends_and_both_know() {
    for persona in PERSONAS {
        for role in [Role::Initiator, Role::Responder] {
            for fault in [
                Fault::RefusesOffers,
                Fault::RefusesAnswers,
                Fault::NeverConnects,
                Fault::FailsOnConnect,
            ] {
                for host in 0..2 {
                    let mut faults = [FINE; 2];
                    faults[host] = [Fault::FailsOnConnect, fault];
                    let result = play(persona, role, 3, faults);
                    let ended = !matches!(result.ours, Some(Outcome::Received(_)));
                    let whole = result.received == result.sent;
                    assert!(
                        ended || whole,
                        "{} {role:?} {fault:?} {host}: {result:?}",
                        persona.name
                    );
                    assert!(
                        result.theirs.is_some(),
                        "{} {role:?} {fault:?} {host} does not know",
                        persona.name
                    );
                }
            }
        }
    }
}

/// Dino replaces a transport that failed on its side alone, again after each refusal. Ours has not noticed yet.
#[test]
fn a_peer_that_replaces_for_ever_what_is_refused_for_ever_is_left() {
    let ours = [Fault::NeverConnects, Fault::RefusesOffers];
    let theirs = [Fault::FailsAfter(Duration::from_millis(60)), Fault::None];
    let result = play(catalogue::DINO, Role::Initiator, 0, [ours, theirs]);
    let failed = matches!(result.ours, Some(Outcome::Failed(_)));
    assert!(failed && result.theirs.is_some(), "{result:?}");
}

/// While bytes flow, on either side.
#[test]
fn a_file_begins_anew_with_who_waits_for_another_transport() {
    for role in [Role::Initiator, Role::Responder] {
        for host in 0..2 {
            for after in [300, 700, 1_100] {
                let mut faults = [FINE; 2];
                faults[host][0] = Fault::FailsAfter(Duration::from_millis(after));
                judge(LITERAL, role, 1, faults).unwrap_or_else(|error| panic!("{error}"));
            }
        }
    }
}

/// jingle-peers.md, and their sources: none of them goes on when bytes have flowed, each in a way of its own. Our side is
/// dead and does not say so, so that it is the replacement that they hear of first.
#[test]
fn in_the_middle_of_a_file_the_others_end_and_both_know() {
    for persona in PERSONAS {
        for fault in [Fault::FailsAfter(MIDDLE), Fault::SilentAfter(MIDDLE)] {
            for role in [Role::Initiator, Role::Responder] {
                for host in 0..2 {
                    let mut faults = [FINE; 2];
                    faults[host][0] = fault;
                    judge(persona, role, 1, faults).unwrap_or_else(|error| panic!("{error}"));
                    let result = play(persona, role, 1, faults);
                    let whole = result.received == result.sent;
                    let failed = matches!(result.ours, Some(Outcome::Failed(_)));
                    let text = || format!("{} {role:?} {fault:?} {host}: {result:?}", persona.name);
                    assert!(whole || failed, "{}", text());
                    assert!(result.theirs.is_some(), "{} does not know", text());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_transports_break_at_any_moment_with_anybody(
        persona in prop::sample::select(PERSONAS.to_vec()),
        ours_begins: bool,
        seed: u64,
        faults in prop::array::uniform2(prop::array::uniform2(any_fault(20_000, true))),
    ) {
        let role = if ours_begins { Role::Initiator } else { Role::Responder };
        judge(persona, role, seed, faults)?;
    }
}
