//! Requests of sessions that are answered late, twice, or never.

use crate::{
    LONG,
    nasty::{Nasty, Wrong},
    probe::{self, Over, Seen, Side},
};
use session_core::{Clocks, Config, Peer, Reason, ReasonCondition, State};
use session_xmpp::endpoint::Router;
use std::time::Duration;
use tokio::time::timeout;

/// How long an answer may take here.
const ANSWER: Duration = Duration::from_millis(250);

fn config() -> Config {
    Config {
        clocks: Clocks {
            answer: ANSWER,
            ..Clocks::default()
        },
        ..Config::default()
    }
}

fn is_answer(stanza: &str) -> bool {
    let head = stanza.split('>').next().unwrap_or_default();
    head.starts_with("<iq") && (head.contains("'result'") || head.contains("'error'"))
}

/// A session of alice's, to whom answers come as `wrong` says, with bob, from its beginning to its end.
async fn a_session(router: &Router, name: &str, wrong: Wrong) {
    let address = format!("{name}@x/1");
    let (manager, seen) = probe::manager_with(config(), Over::Udp, false);
    let link = Nasty::new(router.link(&*address), 7, wrong);
    let mut alice = Side::linked(link, Peer::from(&*address), manager, seen).await;
    let bob_address = format!("bob-of-{name}@x/1");
    let mut bob = Side::new(router, &bob_address, Over::Udp).await;
    let id = alice.offer(&bob.address);
    let wanted = [Seen::State(State::InProgress), Seen::Writable(true)];
    alice.until_all(&wanted).await;
    bob.until_all(&wanted).await;
    assert!(alice.send(id, "there"));
    assert_eq!(bob.packet().await, "there");
    // Asked several times, it was offered once.
    assert_eq!(bob.endpoint.update(|manager, _| manager.session_count()), 1);
    let done = Reason::new(ReasonCondition::Success);
    alice.endpoint.update(|manager, now| {
        let session = manager.session(id).unwrap();
        session.terminate(done.clone(), now).unwrap();
    });
    bob.until_seen(&Seen::Ended(Some(done))).await;
    alice.until_seen(&Seen::Destroyed).await;
    let created = |seen: &Seen| matches!(seen, Seen::Created(_));
    assert_eq!(bob.left().iter().filter(|seen| created(seen)).count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_stand_answers_that_come_late_or_twice_or_are_lost() {
    let router = Router::new();
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap();
    let late = Wrong {
        which: is_answer,
        copies: 1..=1,
        late: millis(ANSWER) + 50..=millis(ANSWER) + 150,
    };
    let twice = Wrong {
        copies: 2..=3,
        late: 0..=30,
        ..late.clone()
    };
    a_session(&router, "late", late).await;
    a_session(&router, "twice", twice).await;
}

/// Nobody answers: it is asked as often as the clocks say, and ends with its cause. What else is under way goes on.
#[tokio::test(flavor = "multi_thread")]
async fn an_offer_that_nobody_answers_ends_and_disturbs_nothing() {
    let router = Router::new();
    let (manager, seen) = probe::manager_with(config(), Over::Udp, false);
    let mut alice = Side::around(&router, "alice@x/1", manager, seen).await;
    let mut bob = Side::new(&router, "bob@x/1", Over::Udp).await;
    let mut silent = router.link("silent@x/1");
    let other = alice.offer(&bob.address);
    let wanted = [Seen::State(State::InProgress), Seen::Writable(true)];
    alice.until_all(&wanted).await;
    let id = alice.offer(&"silent@x/1".into());
    let mut ends = alice
        .endpoint
        .update(|manager, _| manager.signal_session_destroy().connect());
    let ended = timeout(LONG, ends.wait_for(|ended| *ended == id)).await;
    assert_eq!(ended.unwrap(), Some(id));
    let mut offers = Vec::new();
    while let Ok(stanza) = timeout(Duration::from_millis(50), crate::next_stanza(&mut silent)).await
    {
        if stanza.contains("action='session-initiate'") {
            offers.push(crate::attribute(&stanza, "id"));
        }
    }
    assert_eq!(offers.len(), usize::from(Clocks::default().attempts));
    offers.dedup();
    assert_eq!(offers.len(), 1, "it is one request each time");
    assert!(alice.send(other, "still there"));
    assert_eq!(bob.packet().await, "still there");
}
