//! Against a real coturn on loopback. Skips with a line that says so when it is not installed.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a real server, real sockets and the real clock"
)]

#[path = "coturn/pump.rs"]
mod pump;
#[path = "coturn/server.rs"]
mod server;

use pump::{Pump, run_until};
use server::{Coturn, Login, SECRET, USER};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use transport_relay::turn::{
    Credentials, SharedCredentials, TurnConfig, TurnFactory, TurnProtocol, TurnServer,
};

fn user() -> Credentials {
    Credentials::new(USER.0, USER.1)
}

/// Valid for this many seconds.
fn rest(seconds: u64) -> Credentials {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    Credentials::rest(SECRET.as_bytes(), "alice", now.as_secs() + seconds)
}

fn config(server: &Coturn, protocol: TurnProtocol, credentials: Credentials) -> TurnConfig {
    TurnConfig::new(vec![TurnServer::new(server.address, protocol, credentials)])
}

fn pump(server: &Coturn, protocol: TurnProtocol, credentials: Credentials, seed: u8) -> Pump {
    Pump::start(
        &TurnFactory::new(config(server, protocol, credentials)),
        seed,
    )
}

fn allocated(pumps: &mut [&mut Pump]) {
    run_until(pumps, 10, |pumps| {
        pumps.iter().all(|p| !p.relayed.is_empty())
    });
}

/// Both say something until the other has heard it, which also opens the way back.
fn greet(a: &mut Pump, b: &mut Pump) {
    let (to_a, to_b) = (a.relayed[0], b.relayed[0]);
    a.received.clear();
    b.received.clear();
    let until = Instant::now() + Duration::from_secs(20);
    while a.received.is_empty() || b.received.is_empty() {
        assert!(Instant::now() < until, "nobody hears the other");
        a.send(to_b, b"hello, Bob");
        b.send(to_a, b"hello, Alice");
        let wait = Instant::now() + Duration::from_millis(50);
        run_until(&mut [a, b], 5, |_| Instant::now() >= wait);
    }
    assert_eq!(a.received[0], (to_b, b"hello, Alice".to_vec()));
    assert_eq!(b.received[0], (to_a, b"hello, Bob".to_vec()));
}

#[test]
fn two_clients_talk_over_udp() {
    let Some(server) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    let mut a = pump(&server, TurnProtocol::Udp, user(), 1);
    let mut b = pump(&server, TurnProtocol::Udp, user(), 2);
    let started = Instant::now();
    allocated(&mut [&mut a, &mut b]);
    println!("allocated after {:?}", started.elapsed());
    greet(&mut a, &mut b);
    let _ = (SharedCredentials::new(rest(1)), Duration::ZERO);
}
