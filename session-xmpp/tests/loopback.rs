//! Two endpoints in one process, over real sockets of the loopback interface.
#![cfg(feature = "endpoint")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test names only what it looks for"
)]

#[path = "loopback/probe.rs"]
mod probe;

use bytes::Bytes;
use probe::{Over, Seen, Side, soon};
use session_core::{Clocks, Config, Reason, ReasonCondition, State, testing::MemoryDatagram};
use session_xmpp::endpoint::{Link, LinkError, LinkEvent, LinkState, Passed, Router, RouterLink};
use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::sync::mpsc;

const A: &str = "a@example.org/1";
const B: &str = "b@example.org/1";

async fn pair(router: &Router, over: Over) -> (Side, Side) {
    let a = Side::new(router, A, over).await;
    let b = Side::new(router, B, over).await;
    (a, b)
}

fn gone() -> Reason {
    Reason::new(ReasonCondition::Gone)
}

fn text(passed: &Passed) -> &str {
    std::str::from_utf8(&passed.stanza).unwrap()
}

#[tokio::test]
async fn datagrams_go_both_ways() {
    let router = Router::new();
    let (mut a, mut b) = pair(&router, Over::Udp).await;
    let at_a = a.offer(&b.address);
    let at_b = b.session().await;
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;
    for number in 0..100_u8 {
        assert!(a.send(at_a, vec![number; 1_200]));
        assert_eq!(b.packet().await, vec![number; 1_200]);
        assert!(b.send(at_b, vec![number; 100]));
        assert_eq!(a.packet().await, vec![number; 100]);
    }
    assert_eq!(a.endpoint.stats(), Default::default());
    assert_eq!(b.endpoint.stats(), Default::default());
}

#[tokio::test]
async fn a_stream_goes_both_ways_and_ends() {
    let router = Router::new();
    let (mut a, mut b) = pair(&router, Over::Tcp).await;
    let at_a = a.offer(&b.address);
    let at_b = b.session().await;
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;
    let content: Bytes = (0..5_000_000_u32).map(|n| (n % 251) as u8).collect();
    let mut left = content.clone();
    let mut arrived = Vec::new();
    while arrived.len() < content.len() {
        while !left.is_empty() {
            let piece = left.slice(..left.len().min(50_000));
            if !a.send(at_a, piece.clone()) {
                break;
            }
            left = left.slice(piece.len()..);
        }
        arrived.extend_from_slice(&b.packet().await);
    }
    assert!(arrived == content);
    assert!(b.send(at_b, "thanks"));
    assert_eq!(a.packet().await, "thanks");
    a.endpoint.update(|manager, now| {
        let session = manager.session(at_a).unwrap();
        let channel = session.channel(probe::CHANNEL).unwrap();
        session.finish(channel, now);
    });
    b.until_seen(&Seen::Finished).await;
}

#[tokio::test]
async fn what_nobody_hears_is_said_again_once_the_link_is_back() {
    let router = Router::new();
    let (mut a, mut b) = pair(&router, Over::Udp).await;
    let at_a = a.offer(&b.address);
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;

    router.set_up(&a.address, false);
    while a.endpoint.link_state() == LinkState::Up(a.address.clone()) {
        tokio::task::yield_now().await;
    }
    assert!(!a.endpoint.update(|manager, _| manager.link()));
    // Media goes on, and what is to be said waits.
    assert!(a.send(at_a, "still here"));
    assert_eq!(b.packet().await, "still here");
    let mut tap = router.tap();
    a.endpoint.update(|manager, now| {
        let note = session_core::Element::new("https://example.org/probe", "note");
        let session = manager.session(at_a).unwrap();
        session.send_info(vec![note], now).unwrap();
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(tap.try_next(), None);
    router.set_up(&a.address, true);
    b.until_seen(&Seen::Info("note".into())).await;
    let first = soon(tap.next()).await.unwrap();
    assert!(text(&first).contains("session-info"), "{}", text(&first));
}

#[tokio::test]
async fn shutting_down_tells_the_peer_and_waits_for_its_answer() {
    let router = Router::new();
    let (mut a, mut b) = pair(&router, Over::Udp).await;
    a.offer(&b.address);
    b.until_seen(&Seen::Writable(true)).await;
    let mut tap = router.tap();
    assert!(soon(a.endpoint.shutdown(gone(), Duration::from_secs(10))).await);
    b.until_seen(&Seen::Ended(Some(gone()))).await;
    b.until_seen(&Seen::Destroyed).await;
    let said: Vec<_> = std::iter::from_fn(|| tap.try_next()).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(
        text(&said[1]).contains("type='result'"),
        "{}",
        text(&said[1])
    );
    assert_eq!(a.endpoint.link_state(), LinkState::Ended);
    assert!(!router.deliver(&a.address, "<message/>"), "detached");
    // What is done afterwards does no harm and has no effect.
    a.left();
    assert!(soon(a.endpoint.shutdown(gone(), Duration::from_secs(1))).await);
    a.offer(&b.address);
    let again = a.endpoint.shutdown(gone(), Duration::from_secs(1));
    assert!(!soon(again).await, "nobody can be told");
    assert!(b.left().is_empty());
}

#[tokio::test]
async fn shutting_down_does_not_wait_for_ever() {
    let router = Router::new();
    let a = Side::new(&router, A, Over::Udp).await;
    let silent = router.link(B);
    a.offer(&silent.address().clone());
    let orderly = soon(a.endpoint.shutdown(gone(), Duration::from_millis(50))).await;
    assert!(!orderly, "nobody answers");
}

#[tokio::test]
async fn dropping_the_last_handle_tells_the_peer_and_closes() {
    let router = Router::new();
    let (a, mut b) = pair(&router, Over::Udp).await;
    let mut a = a;
    a.offer(&b.address);
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;
    let kept = a.endpoint.clone();
    drop(a);
    assert!(b.left().iter().all(|seen| !matches!(seen, Seen::Ended(_))));
    drop(kept);
    b.until_seen(&Seen::Ended(Some(gone()))).await;
    assert!(!router.deliver(&A.into(), "<message/>"), "detached");
}

#[tokio::test]
async fn an_endpoint_that_lost_its_peer_notices() {
    let router = Router::new();
    let (mut a, b) = pair(&router, Over::Udp).await;
    a.offer(&"nobody@example.org/1".into());
    a.until_seen(&Seen::Destroyed).await;
    drop(b);
    let dropped = a.offer(&B.into());
    a.until_seen(&Seen::State(State::SentInitiate)).await;
    a.until_seen(&Seen::Destroyed).await;
    assert!(
        a.endpoint
            .update(|manager, _| manager.peek(dropped).is_none())
    );
}

#[tokio::test]
async fn a_timer_that_is_moved_forward_goes_off_in_time() {
    let router = Router::new();
    let mut a = Side::new(&router, A, Over::Udp).await;
    let _silent = router.link(B);
    let id = a.offer(&B.into());
    let set = |after: Option<Duration>| {
        a.endpoint.update(|manager, now| {
            let at = after.map(|after| now + after);
            manager.session(id).unwrap().set_timer(at);
            now
        })
    };
    set(Some(Duration::from_secs(100)));
    tokio::time::sleep(Duration::from_millis(5)).await;
    let started = set(Some(Duration::from_millis(20)));
    a.until_seen(&Seen::Timer).await;
    let took = Instant::now().saturating_duration_since(started);
    assert!(took >= Duration::from_millis(20), "{took:?}");
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_thread_outside_of_the_runtime_may_do_anything() {
    let router = Router::new();
    let (a, mut b) = pair(&router, Over::Udp).await;
    let to = b.address.clone();
    let offering = std::thread::spawn(move || {
        a.offer(&to);
        a
    });
    let mut a = offering.join().unwrap();
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;
}

#[tokio::test]
async fn shutting_down_waits_for_a_link_that_is_down() {
    let router = Router::new();
    let (mut a, mut b) = pair(&router, Over::Udp).await;
    a.offer(&b.address);
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;
    router.set_up(&a.address, false);
    let mut slot = a.endpoint.connect_link_state();
    while a.endpoint.link_state() == LinkState::Up(a.address.clone()) {
        soon(slot.next()).await;
    }
    let endpoint = a.endpoint.clone();
    let closing =
        tokio::spawn(async move { endpoint.shutdown(gone(), Duration::from_secs(10)).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(!closing.is_finished());
    router.set_up(&a.address, true);
    assert!(soon(closing).await.unwrap());
    b.until_seen(&Seen::Ended(Some(gone()))).await;
}

#[tokio::test]
async fn a_link_that_has_ended_keeps_nobody() {
    let router = Router::new();
    let (mut a, mut b) = pair(&router, Over::Udp).await;
    let at_a = a.offer(&b.address);
    a.until_seen(&Seen::Writable(true)).await;
    b.until_seen(&Seen::Writable(true)).await;
    let _successor = router.link(A);
    let mut slot = a.endpoint.connect_link_state();
    while a.endpoint.link_state() != LinkState::Ended {
        soon(slot.next()).await;
    }
    assert!(a.send(at_a, "media goes on"));
    assert_eq!(b.packet().await, "media goes on");
    let told = a.endpoint.shutdown(gone(), Duration::from_secs(10));
    assert!(!soon(told).await, "the peer cannot be told");
}

#[tokio::test]
async fn a_socket_that_cannot_be_had_ends_the_session() {
    let router = Router::new();
    let (mut manager, seen) = probe::bare_manager(false);
    let nowhere = "192.0.2.1:0".parse().unwrap();
    let transport = MemoryDatagram::new().with_address(nowhere);
    manager.add_transport(transport).unwrap();
    let mut a = Side::around(&router, A, manager, seen).await;
    let mut b = Side::new(&router, B, Over::Udp).await;
    a.offer(&b.address);
    a.until_seen(&Seen::Destroyed).await;
    assert_eq!(b.left(), [], "the offer never left");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_threads_at_once_leave_nothing_behind() {
    const EACH: usize = 50;
    let router = Router::new();
    let (a, b) = pair(&router, Over::Udp).await;
    let sides = Arc::new([a, b]);
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            let sides = sides.clone();
            std::thread::spawn(move || {
                let (us, them) = (&sides[thread % 2], &sides[1 - thread % 2]);
                for round in 0..EACH {
                    let id = us.offer(&them.address);
                    if round % 3 == 0 {
                        std::thread::sleep(Duration::from_millis(2));
                    }
                    us.endpoint.update(|manager, now| {
                        if let Some(session) = manager.session(id) {
                            session.terminate(gone(), now).unwrap();
                        }
                    });
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    for side in sides.iter() {
        let empty = async {
            while side.endpoint.update(|manager, _| manager.session_count()) > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        soon(empty).await;
    }
    for side in sides.iter() {
        assert!(soon(side.endpoint.shutdown(gone(), Duration::from_secs(15))).await);
        assert_eq!(side.endpoint.stats(), Default::default());
    }
}

/// A login whose connection is lost and comes back, as is told.
struct Wavering {
    link: RouterLink,
    told: mpsc::Receiver<LinkEvent>,
}

impl Link for Wavering {
    fn send(&mut self, stanza: Bytes) -> Result<(), LinkError> {
        self.link.send(stanza)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        match self.told.poll_recv(cx) {
            Poll::Ready(Some(event)) => Poll::Ready(Some(event)),
            Poll::Ready(None) | Poll::Pending => self.link.poll_event(cx),
        }
    }
}

#[tokio::test]
async fn while_a_login_is_suspended_nobody_counts_as_silent() {
    let router = Router::new();
    let _silent = router.link(B);
    let config = Config {
        clocks: Clocks {
            answer: Duration::from_millis(50),
            ..Clocks::default()
        },
        ..Config::default()
    };
    let (manager, seen) = probe::manager_with(config, Over::Udp, false);
    let (tell, told) = mpsc::channel(2);
    let link = Wavering {
        link: router.link(A),
        told,
    };
    let mut a = Side::linked(link, A.into(), manager, seen).await;
    tell.try_send(LinkEvent::Suspended).unwrap();
    a.offer(&B.into());
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!a.left().contains(&Seen::Destroyed));
    assert_eq!(a.endpoint.link_state(), LinkState::Up(A.into()));
    tell.try_send(LinkEvent::Resumed).unwrap();
    a.until_seen(&Seen::Destroyed).await;
}
