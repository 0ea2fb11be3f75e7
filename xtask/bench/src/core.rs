//! What sessions cost: agreeing, being polled beside idle ones, and lying idle. Elements, not bytes; no sockets.

use crate::{Figure, measure, room::Room};
use bytes::Bytes;
use session_core::{
    Config, Element, Limits, Reason, ReasonCondition, SeededEntropy, Session, SessionClient,
    SessionId, SessionManager, State,
    testing::{Crowd, MemoryDatagram, epoch},
};
use std::{
    process::Command,
    time::{Duration, Instant},
};

pub(crate) const FIGURES: &[Figure] = &[
    ("core.negotiation", negotiation),
    ("core.negotiation_instructions", instructions),
    (LOOP, negotiate_often),
    ("core.poll_1k", |name| poll(name, 1_000)),
    ("core.poll_100k", |name| poll(name, 100_000)),
    ("core.idle_bytes", idle_bytes),
];

pub(crate) const TYPE: &str = "https://example.org/bench";
/// What an idle established session may hold (heap bytes, one side).
const IDLE_LIMIT: usize = 4 * 1024;

fn negotiation(name: &str) {
    let mut pair = Pair::new();
    measure::alone(name, || {
        let id = pair.call();
        pair.end(id);
    });
}

/// Instructions of one negotiation, as valgrind counts them: the difference between many and twice as many.
fn instructions(name: &str) {
    const COUNT: u64 = 300;
    let count = |negotiations: u64| {
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg(std::env::current_exe().ok()?)
            .arg(LOOP)
            .env(NEGOTIATIONS, negotiations.to_string())
            .output()
            .ok()?;
        let report = String::from_utf8_lossy(&output.stderr).into_owned();
        let line = report
            .lines()
            .find_map(|line| line.split_once("Collected :"))?;
        line.1.trim().parse::<u64>().ok()
    };
    match (count(COUNT), count(2 * COUNT)) {
        (Some(once), Some(twice)) => {
            let each = (twice - once) / COUNT;
            println!("bench {name} ours={each} peer=none ratio=1");
        }
        _ => println!("{name}: valgrind, which counts instructions, is not installed here"),
    }
}

/// What [`instructions`] runs under valgrind; nothing otherwise.
const LOOP: &str = "loop.negotiation";
const NEGOTIATIONS: &str = "BENCH_NEGOTIATIONS";

fn negotiate_often(_: &str) {
    let count = std::env::var(NEGOTIATIONS).ok();
    let mut pair = Pair::new();
    for _ in 0..count.and_then(|count| count.parse().ok()).unwrap_or(0_u64) {
        let id = pair.call();
        pair.end(id);
    }
}

/// A packet for one session while so many others are idle. What plays the network costs the same whatever their number.
fn poll(name: &str, idle: usize) {
    let crowd = |sessions| {
        let mut crowd = Crowd::new(Config::default());
        crowd.establish(sessions);
        crowd
    };
    let (mut few, mut many) = (crowd(10), crowd(idle));
    let packet = Bytes::from_static(b"ping");
    measure::compare(
        name,
        || many.hear(packet.clone()),
        || few.hear(packet.clone()),
    );
}

fn idle_bytes(name: &str) {
    const SESSIONS: usize = 1_000;
    let mut kept = None;
    let info = allocation_counter::measure(|| {
        let mut pair = Pair::new();
        pair.call_many(SESSIONS);
        pair.forget_time();
        kept = Some(pair);
    });
    let each = info.bytes_current as usize / (2 * SESSIONS);
    drop(kept);
    println!(
        "bench {name} ours={each}B peer={IDLE_LIMIT}B ratio={:.2} peer_is=our-limit",
        IDLE_LIMIT as f64 / each as f64
    );
}

/// Accepts whatever is offered; one channel.
pub(crate) struct Client;

impl SessionClient for Client {
    fn namespace(&self) -> &str {
        TYPE
    }

    fn on_session_create(&mut self, session: &mut Session, _: bool, now: Instant) {
        session
            .create_channel("data", now)
            .expect("the first channel");
    }

    fn on_state(&mut self, session: &mut Session, state: State, now: Instant) {
        if state == State::ReceivedInitiate {
            let answer = Element::new(TYPE, "description");
            session
                .accept_with(answer, now)
                .expect("it was just offered");
        }
    }
}

/// Two managers in one room.
struct Pair {
    room: Room,
    calls: u32,
}

impl Pair {
    fn new() -> Self {
        let side = |seed| {
            let limits = Limits {
                sessions_per_account: usize::MAX,
                ..Limits::default()
            };
            let config = Config {
                limits,
                ..Config::default()
            };
            let mut manager = SessionManager::new(config, SeededEntropy::new(seed));
            manager.add_client(Client).expect("the only client");
            let hour = Duration::from_secs(3600);
            let transport = MemoryDatagram::new().with_keepalive(hour, 3 * hour);
            manager
                .add_transport(transport)
                .expect("the only transport");
            manager
        };
        Self {
            room: Room::new([side(1), side(2)], epoch()),
            calls: 0,
        }
    }

    /// From the offer to data flowing on both sides.
    fn call(&mut self) -> SessionId {
        let now = self.room.now;
        self.calls += 1;
        let caller = format!("alice{}@a.example/1", self.calls).into();
        let alice = &mut self.room.sides[0];
        let id = alice.create_session(caller, TYPE, now).expect("room");
        let session = alice.session(id).expect("just created");
        let offer = Element::new(TYPE, "description");
        session
            .initiate_with("bob@b.example/2".into(), Vec::new(), offer, now)
            .expect("new");
        self.room.run();
        let session = self.room.sides[0].session(id).expect("accepted");
        let channel = session.channel("data").expect("created");
        assert!(session.state() == State::InProgress && session.writable(channel));
        id
    }

    fn call_many(&mut self, count: usize) {
        (0..count).for_each(|_| {
            self.call();
        });
    }

    fn end(&mut self, id: SessionId) {
        let now = self.room.now;
        let session = self.room.sides[0].session(id).expect("alive");
        session
            .terminate(Reason::new(ReasonCondition::Success), now)
            .expect("alive");
        self.room.run();
    }

    /// Ended sessions are remembered for a minute; then only what lives counts.
    fn forget_time(&mut self) {
        self.room.now += Duration::from_secs(120);
        self.room.wake();
        self.room.run();
        self.room.forget_addresses();
    }
}
