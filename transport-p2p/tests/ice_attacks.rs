//! What an attacker gets of an agent: no state, no memory, no reflection.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

mod ice_pair;

use bytes::Bytes;
use ice_pair::{Pair, address};
use session_core::{Datagram, Finding, LocalSocket, Transmit};
use std::{net::SocketAddr, time::Duration};
use transport_p2p::ice::{Candidate, CandidateKind, Credentials, Foundation, Output};
use transport_p2p::stun::{
    Attribute, Class, IntegrityKey, MessageBuilder, Method, Scan, TransactionId,
};

fn attacker(number: u32) -> SocketAddr {
    SocketAddr::from(([198, 18, (number >> 8) as u8, number as u8], 9))
}

/// One end hears this from there; what it sends at once.
fn tell(pair: &mut Pair, end: usize, source: SocketAddr, payload: Bytes) -> Vec<Transmit> {
    let now = pair.now;
    let end = &mut pair.ends[end];
    let datagram = Datagram {
        socket: *end.sockets.keys().next().unwrap(),
        source,
        payload,
        segment_size: 0,
    };
    end.agent.handle_datagram(datagram, now);
    let mut sent = Vec::new();
    while let Some(output) = end.agent.poll_output() {
        match output {
            Output::Transmit(transmit) => sent.push(transmit),
            Output::Packet(component, batch) => {
                end.packets.extend(batch.map(|packet| (component, packet)));
            }
            Output::Writable(_, writable) => end.writable = writable,
            _ => {}
        }
    }
    sent
}

/// A check as only the two can make it.
fn check(pair: &Pair, end: usize, number: u32, priority: u32, attributes: &[Attribute]) -> Bytes {
    let credentials = pair.ends[end].agent.local_credentials();
    let theirs = pair.ends[1 - end].agent.local_credentials();
    let username = format!("{}:{}", credentials.ufrag(), theirs.ufrag());
    let mut id = [7; 12];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let mut request = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId(id))
        .username(&username)
        .attribute(Attribute::Priority(priority));
    for attribute in attributes {
        request = request.attribute(attribute.clone());
    }
    let key = IntegrityKey::short_term(credentials.password());
    request.finish(Some(&key), true).unwrap()
}

fn connected() -> Pair {
    let mut pair = Pair::new(1, |_| {});
    pair.start();
    assert!(pair.run_until(Duration::from_secs(1), Pair::selected));
    pair.run_for(Duration::from_millis(100));
    pair
}

/// Begun, and nothing arrives.
fn alone() -> Pair {
    let mut pair = Pair::new(1, |_| {});
    pair.reaches = |_, _| false;
    pair.start();
    pair.run_for(Duration::from_millis(30));
    pair
}

/// Messages that nobody who knows the credentials would send.
fn forgeries(pair: &Pair) -> Vec<Bytes> {
    let agent = &pair.ends[0].agent;
    let ours = agent.local_credentials().ufrag().to_owned();
    let guessed = IntegrityKey::short_term("a guess");
    let name = format!("{ours}:peer");
    let id = TransactionId([1; 12]);
    let request = |name: &str| {
        MessageBuilder::new(Class::Request, Method::BINDING, id)
            .username(name)
            .attribute(Attribute::Priority(u32::MAX))
            .attribute(Attribute::IceControlling(u64::MAX))
            .attribute(Attribute::UseCandidate)
    };
    let answer = |class| {
        MessageBuilder::new(class, Method::BINDING, id)
            .attribute(Attribute::XorMappedAddress(attacker(1)))
    };
    let conflict = MessageBuilder::new(Class::Error, Method::BINDING, id)
        .attribute(Attribute::Error(487, "Role Conflict".into()));
    [
        request(&name).finish(None, true),
        request(&name).finish(Some(&guessed), true),
        request(&name).finish(Some(&guessed), false),
        request("someone:else").finish(Some(&guessed), true),
        request(&name)
            .raw(0x7777, b"what is that")
            .finish(Some(&guessed), true),
        answer(Class::Success).finish(None, true),
        answer(Class::Success).finish(Some(&guessed), true),
        answer(Class::Indication).finish(None, true),
        conflict.finish(Some(&guessed), true),
        MessageBuilder::new(Class::Request, Method::ALLOCATE, id).finish(None, true),
    ]
    .into_iter()
    .map(Result::unwrap)
    .collect()
}

#[test]
fn who_does_not_know_the_credentials_gets_nothing_and_changes_nothing() {
    for mut pair in [alone(), connected()] {
        let before = (
            pair.ends[0].agent.pairs(),
            pair.ends[0].agent.selected_pair(1),
            pair.ends[0].agent.poll_timeout(),
            pair.ends[0].agent.is_controlling(),
        );
        let peer = SocketAddr::new(address(1, 0), 4_000);
        for forged in forgeries(&pair) {
            for source in [attacker(1), peer] {
                let sent = tell(&mut pair, 0, source, forged.clone());
                assert!(sent.is_empty(), "{sent:?}");
            }
        }
        let sent = tell(&mut pair, 0, attacker(1), Bytes::from_static(b"data"));
        assert!(sent.is_empty() && pair.ends[0].packets.is_empty());
        let agent = &pair.ends[0].agent;
        let after = (
            agent.pairs(),
            agent.selected_pair(1),
            agent.poll_timeout(),
            agent.is_controlling(),
        );
        assert_eq!(after, before);
    }
}

/// Neither data before consent nor data of the right address before its first check reaches the application.
#[test]
fn packets_before_consent_are_dropped() {
    let mut pair = alone();
    let peer = SocketAddr::new(address(1, 0), 4_000);
    for number in 0..1_000 {
        for source in [peer, attacker(number)] {
            tell(&mut pair, 0, source, Bytes::from_static(b"too early"));
        }
    }
    assert!(pair.ends[0].packets.is_empty());
    assert_eq!(pair.ends[0].agent.stats().strangers, 2_000);
    assert!(!pair.ends[0].writable);
}

/// The peer is gone. Answers that somebody makes up, even with the right transactions, do not keep consent.
#[test]
fn consent_cannot_be_spoofed() {
    let mut pair = connected();
    pair.reaches = |_, _| false;
    let peer = SocketAddr::new(address(1, 0), 4_000);
    let guessed = IntegrityKey::short_term("a guess");
    let end = pair.now + Duration::from_secs(40);
    while pair.now < end && pair.ends[0].writable {
        let Some(at) = pair.ends[0].agent.poll_timeout() else {
            break;
        };
        pair.now = at.max(pair.now);
        let now = pair.now;
        pair.ends[0].agent.handle_timeout(now);
        let mut asked = Vec::new();
        while let Some(output) = pair.ends[0].agent.poll_output() {
            match output {
                Output::Transmit(transmit) => asked.push(transmit.payload),
                Output::Writable(_, writable) => pair.ends[0].writable = writable,
                _ => {}
            }
        }
        for payload in asked {
            let id = Scan::new(&payload).unwrap().transaction();
            let answer = || {
                MessageBuilder::new(Class::Success, Method::BINDING, id)
                    .attribute(Attribute::XorMappedAddress(address_of(&pair, 0)))
            };
            for forged in [
                answer().finish(None, true),
                answer().finish(Some(&guessed), true),
            ] {
                let forged = forged.unwrap();
                let sent = tell(&mut pair, 0, peer, forged.clone());
                assert!(sent.is_empty());
                tell(&mut pair, 0, attacker(1), forged);
            }
        }
    }
    assert!(!pair.ends[0].writable, "consent ran out");
    let stats = pair.ends[0].agent.stats();
    assert!(
        stats.consents_sent >= 5 && stats.consents_answered == 0,
        "{stats:?}"
    );
    assert!(pair.ends[0].agent.send(1, Bytes::new(), pair.now).is_err());
}

fn address_of(pair: &Pair, end: usize) -> SocketAddr {
    *pair.ends[end].sockets.values().next().unwrap()
}

/// A peer that knows the credentials sends valid checks from addresses that are not its own. Each is answered once, to
/// no more bytes than came; only some addresses are asked, at the pace of checks; and memory is bounded.
#[test]
fn a_peer_that_lies_about_its_address_does_not_make_us_a_weapon() {
    let mut pair = alone();
    let mut answered = 0;
    let flood = allocation_counter::measure(|| {
        for number in 0..20_000 {
            let request = check(&pair, 0, number, number << 8, &[]);
            let size = request.len();
            let sent = tell(&mut pair, 0, attacker(number), request);
            let (answers, checks): (Vec<_>, Vec<_>) = sent.iter().partition(|transmit| {
                Scan::new(&transmit.payload).unwrap().class() != Class::Request
            });
            assert!(answers.len() == 1 && answers[0].payload.len() <= size);
            assert!(checks.len() <= 1);
            answered += 1;
        }
    });
    assert_eq!(answered, 20_000);
    assert!(flood.bytes_current < 200_000, "{flood:?}");
    let before = pair.ends[0].agent.stats().checks_sent;
    pair.run_for(Duration::from_secs(120));
    let sent = pair.ends[0].agent.stats().checks_sent - before;
    // 64 addresses that never answered and the one that was told, seven times each, and as often once more for a check
    // that was replaced.
    assert!(sent <= 65 * 8, "{sent} checks");
}

/// Checks of a peer whose credentials have not come are kept, but few of them.
#[test]
fn early_checks_are_bounded() {
    let mut pair = Pair::new(1, |_| {});
    for end in &mut pair.ends {
        end.agent.gather(pair.now);
    }
    pair.signalling = false;
    pair.drain();
    let flood = allocation_counter::measure(|| {
        for number in 0..5_000 {
            let request = check(&pair, 0, number, 1, &[Attribute::UseCandidate]);
            tell(&mut pair, 0, attacker(number), request);
        }
    });
    assert!(flood.bytes_current < 20_000, "{flood:?}");
    assert!(pair.ends[0].agent.pairs().is_empty());
    assert_eq!(pair.ends[0].agent.stats().checks_sent, 0, "nobody is asked");
}

/// Candidates, of which there are more than anybody has, and which are no hosts.
#[test]
fn a_flood_of_candidates_is_bounded() {
    let mut pair = alone();
    let socket = LocalSocket(u32::MAX);
    let now = pair.now;
    let agent = &mut pair.ends[0].agent;
    let flood = allocation_counter::measure(|| {
        for number in 0..50_000_u32 {
            let candidate = Candidate {
                component: 1,
                foundation: Foundation::new("1").unwrap(),
                address: attacker(number),
                priority: number,
                kind: CandidateKind::Host,
                related: None,
                generation: 0,
                network: 0,
                ..template()
            };
            agent.add_remote_candidate(candidate, now);
        }
        for text in [
            "0.0.0.0 9",
            "224.0.0.1 9",
            "255.255.255.255 9",
            "::ffff:127.0.0.1 9",
            "192.0.2.9 0",
            "127.0.0.1 9",
        ] {
            let line = format!("candidate:x 1 udp 4294967295 {text} typ host");
            agent.handle_remote_attribute(&line, now).unwrap();
        }
    });
    assert!(flood.bytes_current < 100_000, "{flood:?}");
    assert!(agent.pairs().len() <= 64);
    assert!(
        agent.pairs().iter().all(
            |pair| matches!(pair.remote.ip(), std::net::IpAddr::V4(ip) if ip.octets()[0] != 127)
        )
    );
    // A socket that there is not, of a component that there is not.
    agent.handle_bound(socket, Ok(attacker(1)), now);
    let before = agent.stats().checks_sent;
    pair.run_for(Duration::from_secs(120));
    let sent = pair.ends[0].agent.stats().checks_sent - before;
    assert!(sent <= 64 * 7, "{sent} checks");
}

fn template() -> Candidate {
    "candidate:1 1 udp 1 192.0.2.1 9 typ host".parse().unwrap()
}

/// Both sides claim the same role over and over; each claim costs one answer, and the two connect.
#[test]
fn a_storm_of_role_conflicts_is_weathered() {
    let mut pair = Pair::new(1, |_| {});
    pair.start();
    let peer = SocketAddr::new(address(1, 0), 4_000);
    for number in 0..2_000 {
        let tie_breaker = u64::from(number % 3) << 62;
        let role = if number % 2 == 0 {
            Attribute::IceControlling(tie_breaker)
        } else {
            Attribute::IceControlled(tie_breaker)
        };
        let request = check(&pair, 0, number, 1, &[role]);
        let sent = tell(&mut pair, 0, peer, request);
        assert!(sent.len() <= 2, "an answer, and at most one check");
    }
    assert!(pair.run_until(Duration::from_secs(3), Pair::selected));
    let controlling = [0, 1].map(|end| pair.ends[end].agent.is_controlling());
    assert!(controlling[0] != controlling[1]);
}

/// Credentials of any size and of any bytes are no way in.
#[test]
fn odd_credentials_are_no_way_in() {
    let mut pair = Pair::new(1, |_| {});
    pair.signalling = false;
    let now = pair.now;
    let agent = &mut pair.ends[0].agent;
    for (ufrag, password) in [("", ""), ("a:b", "x"), ("é", "ü")] {
        agent.set_remote_credentials(Credentials::new(ufrag, password), now);
    }
    for line in ["ice-ufrag:", "ice-ufrag:a:b", "ice-pwd:ü", "ice-pwd:"] {
        assert!(agent.handle_remote_attribute(line, now).is_err(), "{line}");
    }
    agent.gather(now);
    pair.drain();
    pair.run_for(Duration::from_secs(1));
}

/// Who answers for a name of the local network says what it likes. No address is no answer, and a later one still counts.
#[test]
fn a_name_without_an_address_leads_nowhere() {
    for nothing in ["0.0.0.0", "::"] {
        let mut pair = Pair::new(1, |config| config.look_up_names = true);
        pair.signalling = false;
        pair.start();
        let now = pair.now;
        let agent = &mut pair.ends[0].agent;
        for port in [9, 10] {
            let named = format!("candidate:1 1 udp 2130706431 somebody.local {port} typ host");
            agent.handle_remote_attribute(&named, now).unwrap();
        }
        let asked: Vec<_> = std::iter::from_fn(|| agent.poll_output())
            .filter_map(|output| match output {
                Output::Inquire(number, _) => Some(number),
                _ => None,
            })
            .collect();
        assert_eq!(asked.len(), 1, "one name, one question");
        agent.handle_finding(asked[0], Finding::Address(nothing.parse().unwrap()), now);
        let third = "candidate:1 1 udp 2130706431 somebody.local 11 typ host";
        agent.handle_remote_attribute(third, now).unwrap();
        assert_eq!(agent.pairs().len(), 0, "{nothing}");
        agent.handle_finding(asked[0], Finding::Address(address(1, 0)), now);
        assert_eq!(agent.pairs().len(), 3, "{nothing}");
    }
}
