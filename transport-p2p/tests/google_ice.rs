//! ICE as Google had it: in the suite for transports, and opposite a peer that is written out by hand.
#![cfg(feature = "gtalk")]
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use proptest::prelude::*;
use session_core::testing::{Conformance, epoch};
use session_core::{
    ChannelOutput, Datagram, Dialect, Element, GOOGLE_P2P, LocalSocket, Role, SocketError,
    Transport, TransportChannel, TransportContext, TransportFactory,
};
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::ice::{GoogleIceFactory, IceConfig, Interfaces};
use transport_p2p::pseudotcp::PseudoTcpLayer;
use transport_p2p::stun::{Attribute, Class, MessageBuilder, Method, Scan, TransactionId};

const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
/// Of the candidate of the peer (libjingle 0.7.1, in `transcripts`).
const PEER_NAME: &str = "qwgqNJmDQJxI37OF";

fn suite() -> Conformance {
    Conformance {
        dialect: Dialect::GTALK,
        ..Conformance::new()
    }
}

#[test]
fn conformance_with_one_address() {
    let config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    suite().run(GoogleIceFactory::new(config));
}

#[test]
fn conformance_with_four_addresses_and_two_dead_servers() {
    let mut config = IceConfig::new(vec![
        IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(Ipv6Addr::LOCALHOST),
        IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)),
        IpAddr::V4(Ipv4Addr::new(10, 9, 8, 7)),
    ]);
    config.stun_servers = vec![
        "192.0.2.1:3478".parse().unwrap(),
        "[2001:db8::1]:3478".parse().unwrap(),
    ];
    let options = Conformance {
        seeds: 3,
        ..suite()
    };
    options.run(GoogleIceFactory::new(config));
}

#[test]
fn conformance_with_pseudotcp_above() {
    let config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    let options = Conformance {
        seeds: 3,
        ..suite()
    };
    options
        .with_layer(PseudoTcpLayer::default())
        .run(GoogleIceFactory::new(config));
}

/// Google's form is not for standard sessions, unless that is asked for.
#[test]
fn a_session_of_jingle_has_it_only_when_asked() {
    let config = || IceConfig::new(vec![IpAddr::V4(HOST)]);
    let factory = GoogleIceFactory::new(config());
    for dialect in Dialect::ALL {
        assert_eq!(
            factory.supports(dialect),
            dialect != Dialect::JINGLE,
            "{dialect}"
        );
    }
    assert!(
        GoogleIceFactory::new(config())
            .with_jingle(true)
            .supports(Dialect::JINGLE)
    );
}

fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 54_696))
}

/// One channel, and what left it.
struct End {
    transport: Box<dyn Transport>,
    channel: Box<dyn TransportChannel>,
    now: Instant,
    sent: Vec<(SocketAddr, Bytes)>,
    packets: Vec<Bytes>,
    infos: Vec<Element>,
    writable: bool,
    failed: bool,
    name: String,
    interfaces: Interfaces,
    /// The last socket that was asked for, and those that cannot be had.
    socket: LocalSocket,
    unready: Vec<(IpAddr, u32)>,
}

impl End {
    fn new(role: Role) -> Self {
        let interfaces = Interfaces::from(vec![IpAddr::V4(HOST)]);
        let config = IceConfig::new(interfaces.clone());
        let mut transport = GoogleIceFactory::new(config).create(&TransportContext {
            role,
            local: "a@example.org/1".into(),
            remote: "b@example.org/2".into(),
            sid: "sid".into(),
            content: "main".into(),
            dialect: Dialect::GTALK,
            seed: [9; 32],
            waker: Waker::noop().clone(),
        });
        let channel = transport.create_channel("tcp").unwrap();
        let mut end = Self {
            transport,
            channel,
            now: epoch(),
            sent: Vec::new(),
            packets: Vec::new(),
            infos: Vec::new(),
            writable: false,
            failed: false,
            name: String::new(),
            interfaces,
            socket: LocalSocket(0),
            unready: Vec::new(),
        };
        end.channel.connect(end.now);
        end.drain();
        end.name = end.candidate().attribute("username").unwrap().to_owned();
        end
    }

    fn candidate(&self) -> Element {
        self.infos[0].children().next().unwrap().to_element()
    }

    fn drain(&mut self) {
        while let Some(output) = self.channel.poll_output() {
            if let ChannelOutput::Bind(socket, _, address) = output {
                let address = SocketAddr::new(address.ip(), 4_000);
                let bound = self.bound(address);
                self.socket = socket;
                self.channel.handle_bound(socket, bound, self.now);
            } else if let ChannelOutput::Transmit(transmit) = output {
                self.sent.push((transmit.destination, transmit.payload));
            } else if let ChannelOutput::Packet(batch) = output {
                self.packets.extend(batch);
            } else if let ChannelOutput::Info(info) = output {
                let info = self.transport.wrap_info(vec![("tcp".into(), info)]);
                self.infos.push(info);
            } else if let ChannelOutput::Writable(writable) = output {
                self.writable = writable;
            } else if let ChannelOutput::Failed(_) = output {
                self.failed = true;
            }
        }
    }

    /// What binding comes to.
    fn bound(&mut self, address: SocketAddr) -> Result<SocketAddr, SocketError> {
        let unready = self.unready.iter_mut().find(|(ip, _)| *ip == address.ip());
        match unready {
            Some((_, times)) if *times > 0 => {
                *times -= 1;
                Err(SocketError {
                    what: "bind",
                    why: "not ready".into(),
                })
            }
            _ => Ok(address),
        }
    }

    fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while let Some(at) = self.channel.poll_timeout().filter(|at| *at <= until) {
            self.now = self.now.max(at);
            self.channel.handle_timeout(self.now);
            self.drain();
        }
        self.now = until;
    }

    fn receive(&mut self, source: SocketAddr, payload: impl Into<Bytes>) {
        let datagram = Datagram {
            socket: self.socket,
            source,
            payload: payload.into(),
            segment_size: 0,
        };
        self.channel.handle_datagram(datagram, self.now);
        self.drain();
    }

    fn told(&mut self, number: u8) {
        let candidate = Element::new(GOOGLE_P2P, "candidate")
            .with("name", "tcp")
            .with("address", peer(number).ip())
            .with("port", peer(number).port())
            .with("preference", "0.99")
            .with("username", PEER_NAME)
            .with("protocol", "udp")
            .with("generation", 0)
            .with("password", "tZHX6QA4PhAlVvy/TiZA3NEi")
            .with("type", "local")
            .with("network", "lo");
        let info = Element::new(GOOGLE_P2P, "transport").child(candidate);
        for (_, part) in self.transport.split_info(&info).unwrap() {
            self.channel.handle_info(&part, self.now).unwrap();
        }
        self.drain();
    }

    /// A ping of the peer.
    fn ping(&self) -> Bytes {
        ping(&format!("{}{PEER_NAME}", self.name))
    }

    /// Answers all pings to this address as libjingle does, and says how many there were.
    fn answer(&mut self, address: SocketAddr) -> usize {
        let pings: Vec<_> = std::mem::take(&mut self.sent)
            .into_iter()
            .filter(|(to, bytes)| *to == address && bytes[..2] == [0, 1])
            .collect();
        for (_, ping) in &pings {
            let answer = MessageBuilder::new(
                Class::Success,
                Method::BINDING,
                Scan::new(ping).unwrap().transaction(),
            )
            .attribute(Attribute::MappedAddress(SocketAddr::from((HOST, 4_000))));
            let name = format!("{PEER_NAME}{}", self.name);
            let answer = answer.username(&name).finish(None, false).unwrap();
            self.receive(address, answer);
        }
        pings.len()
    }

    fn connected() -> Self {
        let mut end = Self::new(Role::Initiator);
        end.told(1);
        end.run_for(Duration::from_millis(10));
        end.receive(peer(1), end.ping());
        assert!(end.answer(peer(1)) >= 1 && end.writable);
        end.sent.clear();
        end
    }
}

fn ping(username: &str) -> Bytes {
    MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([3; 12]))
        .username(username)
        .finish(None, false)
        .unwrap()
}

/// libjingle.md §8.1, T1: a STUN request without USERNAME brought libjingle 0.4 down.
#[test]
fn t1_a_request_without_username_is_ignored() {
    let bare = |class| MessageBuilder::new(class, Method::BINDING, TransactionId([1; 12]));
    let mut legacy = vec![0, 1, 0, 0];
    legacy.extend(1..=16);
    let unnamed = [
        bare(Class::Request).finish(None, false).unwrap(),
        bare(Class::Request).finish(None, true).unwrap(),
        ping(""),
        Bytes::from(legacy),
    ];
    for told in [false, true] {
        let mut end = End::new(Role::Responder);
        if told {
            end.told(1);
            end.run_for(Duration::from_secs(20));
        }
        end.sent.clear();
        let timeout = end.channel.poll_timeout();
        for request in &unnamed {
            end.receive(peer(1), request.clone());
        }
        assert!(end.sent.is_empty() && end.packets.is_empty() && !end.writable);
        assert_eq!(end.channel.poll_timeout(), timeout);
    }
}

/// libjingle-live.md §6: what 0.7.1 asks and answers.
#[test]
fn pings_are_those_of_libjingle() {
    let mut end = End::new(Role::Initiator);
    let candidate = end.candidate();
    for (key, value) in [
        ("name", "tcp"),
        ("address", "203.0.113.1"),
        ("port", "4000"),
        ("preference", "0.99"),
        ("protocol", "udp"),
        ("generation", "0"),
        ("type", "local"),
    ] {
        assert_eq!(candidate.attribute(key), Some(value));
    }
    assert_eq!(end.name.len(), 16);
    end.told(1);
    end.run_for(Duration::from_millis(10));
    let (to, bytes) = end.sent.remove(0);
    let scan = Scan::new(&bytes).unwrap();
    assert_eq!((to, bytes.len()), (peer(1), 56));
    let expected = format!("{PEER_NAME}{}", end.name);
    assert_eq!(scan.username(), Some(expected.as_bytes()));
    assert!(!scan.has_integrity() && !scan.has_fingerprint());
    // Its ping is answered with MAPPED-ADDRESS and its own USERNAME, and nothing else.
    end.sent.clear();
    end.receive(peer(1), end.ping());
    let (_, bytes) = end.sent.remove(0);
    let scan = Scan::new(&bytes).unwrap();
    assert_eq!((scan.class(), bytes.len()), (Class::Success, 20 + 12 + 36));
    let own = scan.decode().unwrap();
    assert_eq!(own.attributes(), [Attribute::MappedAddress(peer(1))]);
    assert_eq!(
        scan.username(),
        Some(format!("{}{PEER_NAME}", end.name).as_bytes())
    );
    // And pinged back at once.
    assert_eq!(end.sent.remove(0).0, peer(1));
}

#[test]
fn a_ping_ahead_of_its_signalling_is_refused_with_430_and_works_later() {
    let mut end = End::new(Role::Responder);
    end.receive(peer(1), end.ping());
    let (_, refusal) = end.sent.remove(0);
    let scan = Scan::new(&refusal).unwrap();
    assert_eq!(scan.class(), Class::Error);
    assert_eq!(
        scan.raw(0x0009).unwrap()[..4],
        [0, 0, 1, 174],
        "430 as 1 * 256 + 174"
    );
    assert!(end.sent.is_empty());
    end.told(1);
    end.receive(peer(1), end.ping());
    end.run_for(Duration::from_millis(10));
    assert!(end.answer(peer(1)) >= 1 && end.writable);
}

/// The peer as a NAT shows it: a name that is known at an address that is not.
#[test]
fn a_known_name_at_an_unknown_address_is_met() {
    let mut end = End::new(Role::Responder);
    end.told(1);
    end.receive(peer(2), end.ping());
    assert!(end.answer(peer(2)) >= 1 && end.writable);
    assert!(end.channel.describe().unwrap().contains("prflx 192.0.2.2"));
    end.receive(peer(2), &b"data"[..]);
    assert_eq!(end.packets, [&b"data"[..]]);
}

#[test]
fn strangers_and_forged_answers_change_nothing() {
    let mut end = End::new(Role::Initiator);
    end.told(1);
    end.run_for(Duration::from_millis(10));
    let asked = Scan::new(&end.sent[0].1).unwrap().transaction();
    end.sent.clear();
    let success = |id| {
        MessageBuilder::new(Class::Success, Method::BINDING, id)
            .attribute(Attribute::MappedAddress(peer(9)))
            .finish(None, false)
            .unwrap()
    };
    end.receive(peer(2), success(asked));
    end.receive(peer(1), success(TransactionId([0; 12])));
    end.receive(peer(66), ping("nobody"));
    end.receive(peer(66), ping(&format!("{PEER_NAME}{}", end.name)));
    end.receive(peer(66), &b"data of a stranger"[..]);
    assert!(!end.writable && end.packets.is_empty() && end.sent.is_empty());
    // Who knows our name alone learns that we are here, and nothing comes of it.
    end.receive(peer(66), ping(&format!("{}guess", end.name)));
    assert_eq!(end.sent.remove(0).1[..2], [1, 0x11]);
    end.run_for(Duration::from_secs(1));
    assert!(end.sent.iter().all(|(to, _)| *to == peer(1)) && !end.writable);
}

/// What never answers is left alone after 15 s.
#[test]
fn an_address_that_never_answers_gets_few_pings() {
    let mut end = End::new(Role::Responder);
    end.told(1);
    end.run_for(Duration::from_secs(60));
    assert!((10..30).contains(&end.sent.len()), "{}", end.sent.len());
    end.sent.clear();
    end.run_for(Duration::from_secs(60));
    assert!(end.sent.is_empty());
    // Its own ping revives it.
    end.receive(peer(1), end.ping());
    assert!(end.answer(peer(1)) >= 1 && end.writable);
}

#[test]
fn a_path_is_pinged_while_it_is_there_and_lost_when_nobody_answers() {
    let mut end = End::connected();
    for _ in 0..60 {
        end.run_for(Duration::from_millis(500));
        end.answer(peer(1));
    }
    assert!(end.writable);
    end.run_for(Duration::from_secs(4));
    assert!(end.writable, "some loss is no reason");
    end.run_for(Duration::from_secs(6));
    assert!(!end.writable);
    assert!(
        end.channel
            .send(Bytes::from_static(b"no"), end.now)
            .is_err()
    );
    end.answer(peer(1));
    assert!(end.writable, "and it comes back");
}

/// An IPv6 address can be bound about a second after it has come (RFC 4862 §5.4).
#[test]
fn an_address_that_is_not_ready_yet_is_waited_for() {
    let mut end = End::connected();
    let other = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2));
    end.unready = vec![(other, 1)];
    end.interfaces.update(vec![other]);
    end.run_for(Duration::from_secs(1));
    assert!(!end.writable && !end.failed);
    end.run_for(Duration::from_secs(2));
    end.receive(peer(1), end.ping());
    assert!(end.answer(peer(1)) >= 1 && end.writable && !end.failed);
}

/// The first address of a new network cannot be had at all, and another one comes later.
#[test]
fn an_address_that_comes_later_is_used() {
    let [first, second] = [2, 3].map(|n| IpAddr::V4(Ipv4Addr::new(203, 0, 113, n)));
    let mut end = End::connected();
    end.unready = vec![(first, 2)];
    end.interfaces.update(vec![first]);
    end.run_for(Duration::from_secs(3));
    assert!(!end.failed);
    // What could not be had before may be now.
    end.interfaces.update(vec![second, first]);
    end.run_for(Duration::from_millis(10));
    let told = |info: &Element| {
        let candidate = info.children().next();
        candidate.and_then(|c| c.attribute("address").map(str::to_owned))
    };
    let told: Vec<_> = end.infos.iter().filter_map(told).collect();
    assert_eq!(told, ["203.0.113.1", "203.0.113.3", "203.0.113.2"]);
    end.receive(peer(1), end.ping());
    assert!(end.answer(peer(1)) >= 1 && end.writable);
}

/// RFC 3489, as libnice speaks in its Google compatibility: sixteen bytes of transaction, and no cookie.
#[test]
fn messages_without_cookie_are_understood_and_other_data_is_not_taken_for_them() {
    let mut end = End::connected();
    let mut legacy = end.ping().to_vec();
    legacy[4..8].copy_from_slice(b"abcd");
    end.receive(peer(1), legacy.clone());
    let (_, answer) = end.sent.remove(0);
    assert_eq!(answer[..2], [1, 1]);
    assert_eq!(answer[4..20], legacy[4..20]);
    // Of the same shape, and not for us.
    legacy[30] ^= 1;
    end.receive(peer(1), legacy.clone());
    assert_eq!(end.packets, [legacy]);
}

/// Something like a message of the peer: a right one with some bytes changed, cut off or added, or anything at all.
fn datagrams(name: String) -> impl Strategy<Value = Vec<u8>> {
    let right = ping(&format!("{name}{PEER_NAME}")).to_vec();
    let changed = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
    let damaged = (
        changed,
        0..80_usize,
        prop::collection::vec(any::<u8>(), 0..24),
    )
        .prop_map(move |(changes, keep, more)| {
            let mut bytes = right.clone();
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            bytes.truncate(keep);
            bytes.extend(more);
            // The length may be right all the same.
            if let Some(length) = bytes.len().checked_sub(20) {
                bytes[2..4].copy_from_slice(&(length as u16).to_be_bytes());
            }
            bytes
        });
    prop_oneof![damaged, prop::collection::vec(any::<u8>(), 0..64)]
}

proptest! {
    /// Strangers send what they like: at most one answer to each, none longer than what was asked and an address, no
    /// data is handed out, and the peer still gets through.
    #[test]
    fn strangers_get_at_most_one_answer_each_and_change_nothing(
        datagrams in prop::collection::vec(datagrams(End::new(Role::Responder).name), 0..40),
    ) {
        let mut end = End::new(Role::Responder);
        for bytes in &datagrams {
            end.sent.clear();
            end.receive(peer(66), bytes.clone());
            prop_assert!(end.sent.len() <= 1 && !end.writable && end.packets.is_empty());
            let longest = end.sent.iter().map(|(_, sent)| sent.len()).max();
            prop_assert!(longest.unwrap_or(0) <= bytes.len() + 28);
        }
        end.told(1);
        end.receive(peer(1), end.ping());
        end.run_for(Duration::from_millis(50));
        prop_assert!(end.answer(peer(1)) >= 1 && end.writable);
    }

    /// A candidate with anything in it is understood, left out or refused; what is refused leaves no trace.
    #[test]
    fn candidates_of_any_kind_do_no_harm(
        attributes in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "name", "address", "port", "preference", "username", "protocol",
                    "generation", "password", "type", "network",
                ]),
                prop_oneof![
                    "[ -~]{0,20}",
                    "[0-9.:-]{0,12}",
                    any::<u32>().prop_map(|number| number.to_string()),
                ],
            ),
            0..6,
        ),
    ) {
        let mut end = End::new(Role::Responder);
        let mut candidate = Element::new(GOOGLE_P2P, "candidate")
            .with("name", "tcp")
            .with("address", "192.0.2.9")
            .with("port", 4_000)
            .with("preference", "0.99")
            .with("username", PEER_NAME)
            .with("protocol", "udp");
        for (name, value) in &attributes {
            candidate.set_attribute(name, value);
        }
        let info = Element::new(GOOGLE_P2P, "transport").child(candidate);
        let before = end.channel.poll_timeout();
        match end.transport.split_info(&info) {
            Ok(parts) => {
                for (_, part) in parts {
                    prop_assert!(end.channel.handle_info(&part, end.now).is_ok());
                }
            }
            Err(_) => prop_assert_eq!(end.channel.poll_timeout(), before),
        }
        end.drain();
        end.run_for(Duration::from_secs(1));
        prop_assert!(end.sent.len() <= 8);
    }
}
