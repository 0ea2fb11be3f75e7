//! Against a real coturn on loopback. Skips with a line that says so when it is not installed.

#![allow(
    dead_code,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a real server, real sockets and the real clock"
)]

#[path = "coturn/pump.rs"]
mod pump;
#[path = "coturn/server.rs"]
mod server;
#[path = "coturn/tcp.rs"]
mod tcp;

use pump::{Pump, run_until};
use server::{Coturn, Login, SECRET, USER};
use std::{
    net::SocketAddr,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};
use transport_relay::turn::{
    Credentials, Families, SharedCredentials, TurnConfig, TurnFactory, TurnProtocol, TurnServer,
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
    greet_at(a, b, a.relayed[0], b.relayed[0]);
}

fn greet_at(a: &mut Pump, b: &mut Pump, to_a: SocketAddr, to_b: SocketAddr) {
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

fn wait(pumps: &mut [&mut Pump], time: Duration) {
    let until = Instant::now() + time;
    run_until(pumps, 3600, |_| Instant::now() >= until);
}

/// What was sent to the server since, by the kind of message.
fn sent(pump: &Pump, since: usize) -> (usize, usize) {
    let later = &pump.sent[since..];
    let indications = later.iter().filter(|kind| **kind == [0x00, 0x16]).count();
    let channel = later.iter().filter(|kind| kind[0] == 0x40).count();
    (indications, channel)
}

/// Until data goes in channels, and then as much as one likes.
fn settle(a: &mut Pump, b: &mut Pump) {
    greet(a, b);
    wait(&mut [a, b], Duration::from_millis(300));
    let since = (a.sent.len(), b.sent.len());
    greet(a, b);
    for (pump, since) in [(a, since.0), (b, since.1)] {
        let (indications, channel) = sent(pump, since);
        assert_eq!(indications, 0, "a channel stands");
        assert!(channel > 0);
    }
}

fn two(server: &Coturn, protocol: &TurnProtocol, credentials: &Credentials) -> (Pump, Pump) {
    let mut a = pump(server, protocol.clone(), credentials.clone(), 1);
    let mut b = pump(server, protocol.clone(), credentials.clone(), 2);
    let started = Instant::now();
    allocated(&mut [&mut a, &mut b]);
    println!("{protocol}: allocated after {:?}", started.elapsed());
    (a, b)
}

#[test]
fn two_clients_talk_in_channels_over_udp_and_tcp() {
    let Some(server) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let (mut a, mut b) = two(&server, &protocol, &user());
        settle(&mut a, &mut b);
    }
}

#[test]
fn rest_credentials_are_taken_and_wrong_ones_refused_with_a_reason() {
    let Some(server) = Coturn::start(Login::Secret, "") else {
        return;
    };
    let (mut a, mut b) = two(&server, &TurnProtocol::Udp, &rest(600));
    settle(&mut a, &mut b);
    let expires = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs()
        + 600;
    let wrong = Credentials::rest(b"south", "alice", expires);
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let mut client = pump(&server, protocol, wrong.clone(), 3);
        run_until(&mut [&mut client], 5, |pumps| pumps[0].failed.is_some());
        let why = client.failed.unwrap();
        println!("{why}");
        assert!(why.contains("refuses the credentials (401"), "{why}");
        assert!(!why.contains("alice"), "{why}");
    }
}

/// What the documentation tells a server to deny, it takes and denies: loopback among it, which is allowed otherwise here.
#[test]
fn the_denied_ranges_of_the_documentation_are_denied() {
    let documented: Vec<&str> = include_str!("../src/turn.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//! "))
        .filter(|line| line.starts_with("denied-peer-ip="))
        .collect();
    assert!(documented.len() > 10, "{documented:?}");
    let Some(server) = Coturn::start(Login::LongTerm, &documented.join("\n")) else {
        return;
    };
    let (mut a, mut b) = two(&server, &TurnProtocol::Udp, &user());
    let (to_a, to_b) = (a.relayed[0], b.relayed[0]);
    for _ in 0..20 {
        a.send(to_b, b"is anybody there?");
        b.send(to_a, b"is anybody there?");
        wait(&mut [&mut a, &mut b], Duration::from_millis(50));
    }
    assert!(a.received.is_empty() && b.received.is_empty());
    let log = server.log();
    assert!(!log.contains("Wrong address range"), "{log}");
    assert!(log.contains("403: Forbidden IP"), "{log}");
    assert!(
        a.lost.is_empty() && b.lost.is_empty(),
        "the allocations stand"
    );
}

#[test]
fn nonces_that_live_for_two_seconds_are_no_obstacle() {
    let Some(server) = Coturn::start(Login::LongTerm, "stale-nonce=2") else {
        return;
    };
    let (mut a, mut b) = two(&server, &TurnProtocol::Udp, &user());
    settle(&mut a, &mut b);
    for seed in 3..5 {
        wait(&mut [&mut a, &mut b], Duration::from_millis(3_500));
        let mut c = pump(&server, TurnProtocol::Udp, user(), seed);
        allocated(&mut [&mut c, &mut a, &mut b]);
        wait(&mut [&mut a, &mut b, &mut c], Duration::from_millis(3_500));
        // A new peer needs a permission and a channel, both with a new nonce.
        settle(&mut a, &mut c);
    }
    settle(&mut a, &mut b);
    assert!(a.lost.is_empty() && b.lost.is_empty());
}

#[test]
fn a_server_that_was_restarted_gives_another_address() {
    let Some(mut server) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let (mut a, mut b) = two(&server, &protocol, &user());
        settle(&mut a, &mut b);
        let peer = b.relayed[0];
        server.kill();
        let killed = Instant::now();
        // The application goes on, and so the loss is noticed.
        while killed.elapsed() < Duration::from_secs(2) {
            a.send(peer, b"are you there?");
            b.send(peer, b"anybody?");
            wait(&mut [&mut a, &mut b], Duration::from_millis(50));
        }
        server.restart();
        let restarted = Instant::now();
        while a.lost.is_empty() || b.lost.is_empty() || a.relayed.is_empty() || b.relayed.is_empty()
        {
            assert!(
                restarted.elapsed() < Duration::from_secs(20),
                "{:?} {:?}",
                a.lost,
                b.lost
            );
            a.send(peer, b"are you there?");
            b.send(peer, b"anybody?");
            wait(&mut [&mut a, &mut b], Duration::from_millis(20));
        }
        println!(
            "{protocol}: a new one {:?} after the restart: {:?}",
            restarted.elapsed(),
            a.lost
        );
        assert_eq!((a.lost.len(), b.lost.len()), (1, 1));
        settle(&mut a, &mut b);
    }
}

#[test]
fn what_is_closed_is_given_back_and_a_quota_is_named() {
    let Some(server) = Coturn::start(Login::LongTerm, "user-quota=1") else {
        return;
    };
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let mut first = pump(&server, protocol.clone(), user(), 1);
        allocated(&mut [&mut first]);
        let mut second = pump(&server, protocol.clone(), user(), 2);
        run_until(&mut [&mut second], 5, |pumps| pumps[0].failed.is_some());
        let why = second.failed.unwrap();
        println!("{why}");
        assert!(why.contains("quota") && why.contains("486"), "{why}");
        first.source.close(Instant::now());
        first.drain();
        run_until(&mut [&mut first], 5, |pumps| pumps[0].sockets() == 0);
        // It keeps its books once a second.
        wait(&mut [&mut first], Duration::from_secs(2));
        let mut third = pump(&server, protocol, user(), 3);
        allocated(&mut [&mut third]);
        third.source.close(Instant::now());
        third.drain();
        wait(&mut [&mut third], Duration::from_secs(2));
    }
}

#[test]
fn a_short_lifetime_is_renewed_and_what_ran_out_is_replaced() {
    let Some(server) = Coturn::start(Login::LongTerm, "max-allocate-lifetime=6") else {
        return;
    };
    let (mut a, mut b) = two(&server, &TurnProtocol::Udp, &user());
    settle(&mut a, &mut b);
    wait(&mut [&mut a, &mut b], Duration::from_secs(14));
    settle(&mut a, &mut b);
    assert!(a.lost.is_empty() && b.lost.is_empty(), "{:?}", a.lost);
    // Asleep, as a laptop is.
    std::thread::sleep(Duration::from_secs(9));
    run_until(&mut [&mut a, &mut b], 10, |pumps| {
        pumps
            .iter()
            .all(|p| p.lost.len() == 1 && !p.relayed.is_empty())
    });
    println!("{:?}", a.lost);
    settle(&mut a, &mut b);
}

#[test]
fn new_credentials_in_mid_call() {
    let Some(server) = Coturn::start(Login::Secret, "max-allocate-lifetime=6\nstale-nonce=2")
    else {
        return;
    };
    // Those of the beginning end in 3 s; a refresh with them is refused after that.
    let shared = SharedCredentials::new(rest(3));
    let mut server_config = TurnServer::new(server.address, TurnProtocol::Udp, rest(3));
    server_config.credentials = shared.clone();
    let mut a = Pump::start(&TurnFactory::new(TurnConfig::new(vec![server_config])), 1);
    let mut b = pump(&server, TurnProtocol::Udp, rest(600), 2);
    allocated(&mut [&mut a, &mut b]);
    settle(&mut a, &mut b);
    wait(&mut [&mut a, &mut b], Duration::from_secs(1));
    shared.update(rest(600));
    wait(&mut [&mut a, &mut b], Duration::from_secs(12));
    println!("{:?} {}", a.lost, server.log());
    settle(&mut a, &mut b);
    assert!(b.lost.is_empty(), "{:?}", b.lost);
}

#[test]
fn an_alternate_server_is_gone_to() {
    let Some(target) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    let alternate = format!("alternate-server={}", target.address);
    let Some(server) = Coturn::start(Login::LongTerm, &alternate) else {
        return;
    };
    for protocol in [TurnProtocol::Udp, TurnProtocol::Tcp] {
        let (mut a, mut b) = two(&server, &protocol, &user());
        settle(&mut a, &mut b);
    }
    assert!(
        target.log().contains("new, realm=<example.org>"),
        "{}",
        target.log()
    );
}

#[test]
fn the_first_of_several_wins_and_the_others_are_given_back() {
    let Some(server) = Coturn::start(Login::LongTerm, "") else {
        return;
    };
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let refusing = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let servers = vec![
        TurnServer::new(silent.local_addr().unwrap(), TurnProtocol::Udp, user()),
        TurnServer::new(refusing, TurnProtocol::Tcp, user()),
        TurnServer::new(server.address, TurnProtocol::Tcp, user()),
        TurnServer::new(server.address, TurnProtocol::Udp, user()),
        TurnServer::new(server.address, TurnProtocol::Udp, user()),
    ];
    let mut a = Pump::start(&TurnFactory::new(TurnConfig::new(servers)), 1);
    let mut b = pump(&server, TurnProtocol::Udp, user(), 2);
    allocated(&mut [&mut a, &mut b]);
    settle(&mut a, &mut b);
    wait(&mut [&mut a, &mut b], Duration::from_secs(1));
    assert_eq!(a.sockets(), 1, "one is in use");
    let log = server.log();
    let count = |word: &str| log.lines().filter(|line| line.contains(word)).count();
    println!(
        "{} made, {} deleted",
        count(": new, realm"),
        count("delete: realm")
    );
    assert_eq!(count(": new, realm") - count("delete: realm"), 2, "{log}");
    // Where UDP gets no answer at all, TCP serves.
    let servers = vec![
        TurnServer::new(silent.local_addr().unwrap(), TurnProtocol::Udp, user()),
        TurnServer::new(server.address, TurnProtocol::Tcp, user()),
    ];
    let started = Instant::now();
    let mut c = Pump::start(&TurnFactory::new(TurnConfig::new(servers)), 3);
    allocated(&mut [&mut c]);
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "{:?}",
        started.elapsed()
    );
    settle(&mut c, &mut b);
}

#[test]
fn addresses_of_both_families() {
    if std::net::UdpSocket::bind("[::1]:0").is_err() {
        eprintln!(
            "SKIPPED: this host has no IPv6 on loopback (sysctl net.ipv6.conf.lo.disable_ipv6=0)"
        );
        return;
    }
    let Some(server) = Coturn::start(Login::LongTerm, "listening-ip=::1\nrelay-ip=::1") else {
        return;
    };
    let start = |families, seed| {
        let mut config = config(&server, TurnProtocol::Udp, user());
        config.families = families;
        config.dont_fragment = true;
        Pump::start(&TurnFactory::new(config), seed)
    };
    let (mut a, mut b) = (start(Families::Both, 1), start(Families::Both, 2));
    allocated(&mut [&mut a, &mut b]);
    let mut only_six = start(Families::V6, 3);
    allocated(&mut [&mut only_six]);
    println!("{:?} {:?} {:?}", a.relayed, b.relayed, only_six.relayed);
    let of = |pump: &Pump, v6: bool| *pump.relayed.iter().find(|r| r.is_ipv6() == v6).unwrap();
    // coturn 4.6 knows dual allocations and gives one address nevertheless, which is what it may do.
    let dual = a.relayed.len() == 2 && b.relayed.len() == 2;
    for v6 in [false, true].into_iter().filter(|v6| dual || !v6) {
        let (to_a, to_b) = (of(&a, v6), of(&b, v6));
        greet_at(&mut a, &mut b, to_a, to_b);
    }
    let mut other_six = start(Families::V6, 4);
    allocated(&mut [&mut other_six]);
    let (to_other, to_six) = (of(&other_six, true), of(&only_six, true));
    greet_at(&mut other_six, &mut only_six, to_other, to_six);
    // To a family in which it has no address nothing goes.
    let before = only_six.sent.len();
    only_six.send(of(&a, false), b"hello");
    assert_eq!(only_six.sent.len(), before);
}

#[test]
fn connections_through_the_relay() {
    let Some(server) = Coturn::start(Login::LongTerm, "stale-nonce=2") else {
        return;
    };
    let (mut a, mut b) = (
        tcp::Control::start(&server, user(), 1),
        tcp::Control::start(&server, user(), 2),
    );
    tcp::run(&mut [&mut a, &mut b], |all| {
        all.iter().all(|c| c.relayed.is_some())
    });
    let (at_a, at_b) = (a.relayed.unwrap(), b.relayed.unwrap());
    let now = Instant::now();
    a.allocation.permit(at_b, now);
    b.allocation.permit(at_a, now);
    let until = now + Duration::from_millis(2_500);
    tcp::run(&mut [&mut a, &mut b], |_| Instant::now() >= until);
    // The nonces are stale by now.
    a.allocation.connect(at_b, Instant::now());
    tcp::run(&mut [&mut a, &mut b], |all| {
        all.iter()
            .all(|c| c.data.first().is_some_and(|data| data.bound))
    });
    assert!(!a.data[0].incoming && a.data[0].peer == at_b);
    assert!(b.data[0].incoming && b.data[0].peer.ip() == at_a.ip());
    a.data[0].write(b"hello, Bob");
    b.data[0].write(b"hello, Alice");
    tcp::run(&mut [&mut a, &mut b], |all| {
        all[0].data[0].received == b"hello, Alice" && all[1].data[0].received == b"hello, Bob"
    });
    // Where nobody listens.
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    a.allocation.connect(closed, Instant::now());
    tcp::run(&mut [&mut a, &mut b], |all| all[0].refused.is_some());
    println!("{}", a.refused.unwrap());
}
