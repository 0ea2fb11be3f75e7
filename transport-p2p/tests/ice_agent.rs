//! The agent by itself: `transport_p2p::Agent`, without sessions.

#![allow(clippy::unwrap_used)]

mod ice_pair;

use bytes::Bytes;
use ice_pair::{Pair, address};
use session_core::{Batch, SendError};
use std::{net::SocketAddr, time::Duration};
use transport_p2p::ice::{Candidate, CandidateKind, Foundation, PairState, Protocol};

#[test]
fn two_agents_connect_and_carry_data_both_ways() {
    let mut pair = Pair::new(2, |_| {});
    assert_eq!(
        pair.ends[0]
            .agent
            .send(1, Bytes::from_static(b"x"), pair.now),
        Err(SendError::NotWritable)
    );
    pair.start();
    assert!(pair.run_until(Duration::from_millis(200), Pair::selected));
    for end in 0..2 {
        let batch = Batch {
            payload: Bytes::from_static(b"onetwo3"),
            segment_size: 3,
        };
        pair.ends[end].agent.send(1, batch, pair.now).unwrap();
    }
    pair.drain();
    pair.run_for(Duration::from_millis(20));
    for end in &pair.ends {
        let packets: Vec<_> = end.packets.iter().map(|(_, packet)| &packet[..]).collect();
        assert_eq!(packets, [&b"one"[..], b"two", b"3"]);
        let selected = end.agent.selected_pair(1).unwrap();
        assert_eq!(selected.rtt, Some(2 * pair.delay));
        assert_eq!(selected.local_kind, CandidateKind::Host);
        assert!(!selected.is_relayed());
        let stats = end.agent.stats();
        assert_eq!((stats.packets_sent, stats.bytes_sent), (3, 7));
        assert_eq!((stats.packets_received, stats.bytes_received), (3, 7));
        assert!(stats.checks_sent > 0 && stats.answers_received > 0 && stats.refused == 0);
    }
    let [a, b] = [0, 1].map(|end| pair.ends[end].agent.selected_pair(1).unwrap());
    assert_eq!((a.local, a.remote), (b.remote, b.local));
    assert_eq!(a.local.ip(), address(0, 0), "the best of four");
}

/// For people without XMPP: everything they exchange is text.
#[test]
fn attributes_of_sdp_are_enough() {
    let mut pair = Pair::new(1, |config| config.tell_end = true);
    pair.signalling = false;
    for end in &mut pair.ends {
        end.agent.gather(pair.now);
    }
    pair.drain();
    for end in 0..2 {
        let other = &pair.ends[1 - end];
        let mut lines = vec!["a=ice-options:trickle".to_owned()];
        lines.extend(other.candidates.iter().map(|c| format!("a={c}")));
        let credentials = other.agent.local_credentials().attributes();
        lines.extend(credentials.iter().map(|a| format!("a={a}\r\n")));
        lines.push("a=end-of-candidates".to_owned());
        lines.push("a=candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype active".to_owned());
        let now = pair.now;
        for line in lines {
            pair.ends[end]
                .agent
                .handle_remote_attribute(&line, now)
                .unwrap();
        }
        let bad = pair.ends[end]
            .agent
            .handle_remote_attribute("a=candidate:1", now);
        assert!(bad.is_err());
    }
    pair.drain();
    assert!(pair.run_until(Duration::from_millis(200), Pair::selected));
}

#[test]
fn several_components_have_sockets_and_paths_of_their_own() {
    let mut pair = Pair::new(1, |config| config.components_max = 1_000);
    for end in &mut pair.ends {
        assert!(end.agent.add_component(2) && end.agent.add_component(256));
        assert!(!end.agent.add_component(2) && !end.agent.add_component(0));
        assert!(!end.agent.add_component(257));
    }
    pair.start();
    pair.run_for(Duration::from_secs(1));
    for component in [1, 2, 256] {
        let text = Bytes::from(format!("to {component}"));
        let now = pair.now;
        pair.ends[0].agent.send(component, text, now).unwrap();
    }
    assert!(pair.ends[0].agent.send(3, Bytes::new(), pair.now).is_err());
    pair.drain();
    pair.run_for(Duration::from_millis(20));
    let expected = [1, 2, 256].map(|c| (c, Bytes::from(format!("to {c}"))));
    assert_eq!(pair.ends[1].packets, expected);
    assert_eq!(pair.ends[1].sockets.len(), 3);
}

#[test]
fn a_restart_by_either_keeps_the_data_flowing() {
    for by in 0..2 {
        let mut pair = Pair::new(2, |_| {});
        pair.start();
        assert!(pair.run_until(Duration::from_secs(1), Pair::selected));
        let before = pair.ends[by].agent.local_credentials().clone();
        let now = pair.now;
        pair.ends[by].agent.restart(now);
        pair.drain();
        assert_ne!(pair.ends[by].agent.local_credentials(), &before);
        for end in 0..2 {
            let now = pair.now;
            let sent = pair.ends[end].agent.send(1, Bytes::from_static(b"on"), now);
            assert_eq!(sent, Ok(()));
            let told = pair.ends[end].credentials.last();
            assert_eq!(told, Some(pair.ends[end].agent.local_credentials()));
        }
        pair.drain();
        assert!(pair.run_until(Duration::from_secs(1), Pair::selected));
        for end in &pair.ends {
            assert_eq!(end.agent.stats().restarts, 1);
            assert_eq!(end.packets, [(1, Bytes::from_static(b"on"))]);
        }
    }
}

/// Why each pair is where it is, while the last of four is the only one that works.
#[test]
fn every_pair_tells_its_life() {
    let mut pair = Pair::new(2, |_| {});
    pair.reaches = |a, b| {
        let last = |ip: std::net::IpAddr| ip == address(0, 1) || ip == address(1, 1);
        last(a) && last(b)
    };
    pair.start();
    let states = |pair: &Pair| -> Vec<_> {
        let reports = pair.ends[0].agent.pairs();
        reports
            .iter()
            .map(|report| (report.state, report.why))
            .collect()
    };
    let waiting = (PairState::Waiting, "waits for its turn");
    let asked = (PairState::InProgress, "asked");
    assert_eq!(states(&pair), [asked, waiting, waiting, waiting]);
    assert!(pair.run_until(Duration::from_millis(400), Pair::selected));
    let reports = pair.ends[0].agent.pairs();
    assert_eq!(reports.len(), 4);
    let valid = &reports[0];
    assert_eq!(valid.state, PairState::Succeeded);
    assert!(valid.nominated && valid.rtt == Some(2 * pair.delay) && valid.answered > 0);
    for given_up in &reports[1..] {
        assert_eq!(given_up.why, "given up: another was nominated");
        assert!(given_up.sent > 0 && given_up.answered == 0 && given_up.rtt.is_none());
    }
    let text = reports[0].to_string();
    assert!(
        text.starts_with("1 host 203.0.112.2:4001 -> host 203.0.113.2:4001 Succeeded nominated"),
        "{text}"
    );
}

fn reflexive(port: u16) -> Candidate {
    Candidate {
        component: 1,
        foundation: Foundation::new("s").unwrap(),
        address: SocketAddr::from(([198, 51, 100, 1], port)),
        priority: 1_000 + u32::from(port),
        kind: CandidateKind::ServerReflexive,
        related: Some("10.0.0.1:5000".parse().unwrap()),
        generation: 0,
        network: 0,
        protocol: Protocol::Udp,
        name: None,
    }
}

/// One line says why there is no path.
#[test]
fn a_failed_connection_says_why() {
    let fail = |candidates: &[Candidate]| {
        let mut pair = Pair::new(1, |_| {});
        pair.reaches = |_, _| false;
        pair.signalling = candidates.is_empty();
        pair.start();
        for candidate in candidates {
            let now = pair.now;
            pair.ends[0]
                .agent
                .add_remote_candidate(candidate.clone(), now);
        }
        pair.drain();
        pair.run_for(Duration::from_secs(120));
        assert!(pair.ends[0].agent.poll_timeout().is_none(), "it is over");
        pair.ends[0].failed.clone().unwrap().to_string()
    };
    let why = fail(&[]);
    assert!(why.contains("no relay is configured or offered"), "{why}");
    let why = fail(&[reflexive(1), reflexive(2)]);
    assert!(why.contains("the peer is behind a symmetric NAT"), "{why}");
    let relayed = Candidate {
        kind: CandidateKind::Relayed,
        ..reflexive(3)
    };
    let why = fail(&[relayed]);
    assert!(why.contains("not even through a relay"), "{why}");
}
