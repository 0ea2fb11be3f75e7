//! An agent against a peer that is written out by hand: lite, aggressive, or up to no good.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use session_core::testing::epoch;
use session_core::{
    ChannelOutput, Datagram, Dialect, Element, LocalSocket, Role, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    task::Waker,
    time::{Duration, Instant},
};
use transport_p2p::ice::{ICE_UDP, IceConfig, IceTransportFactory, Interfaces};
use transport_p2p::stun::{
    Attribute, Class, IntegrityKey, Message, MessageBuilder, Method, Scan, TransactionId,
};

const PEER_UFRAG: &str = "peer";
const PEER_PASSWORD: &str = "the password of the peer";
const HOST: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// One agent with one channel, and what left it.
struct Agent {
    transport: Box<dyn Transport>,
    channel: Box<dyn TransportChannel>,
    now: Instant,
    sent: Vec<(SocketAddr, Bytes)>,
    packets: Vec<Bytes>,
    infos: Vec<Element>,
    writable: bool,
    key: IntegrityKey,
    ufrag: String,
}

fn peer(number: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, number], 9))
}

fn peer_transport() -> Element {
    Element::new(ICE_UDP, "transport")
        .with("ufrag", PEER_UFRAG)
        .with("pwd", PEER_PASSWORD)
}

fn candidate(number: u8) -> Element {
    Element::new(ICE_UDP, "candidate")
        .with("component", 1)
        .with("foundation", number)
        .with("generation", 0)
        .with("id", format!("c{number}"))
        .with("ip", peer(number).ip())
        .with("network", 0)
        .with("port", 9)
        .with("priority", 1_000 + u32::from(number))
        .with("protocol", "udp")
        .with("type", "host")
}

impl Agent {
    fn new(role: Role, configure: impl Fn(&mut IceConfig)) -> Self {
        let mut config = IceConfig::new(vec![IpAddr::V4(HOST)]);
        configure(&mut config);
        let mut transport = IceTransportFactory::new(config).create(&TransportContext {
            role,
            local: "a@example.org/1".into(),
            remote: "b@example.org/2".into(),
            sid: "sid".into(),
            content: "main".into(),
            dialect: Dialect::JINGLE,
            seed: [9; 32],
            waker: Waker::noop().clone(),
        });
        let own = match role {
            Role::Initiator => {
                let offer = transport.offer();
                transport.accept_answer(&peer_transport()).unwrap();
                offer
            }
            Role::Responder => transport.accept_offer(&peer_transport()).unwrap(),
        };
        let channel = transport.create_channel("data").unwrap();
        let mut agent = Self {
            transport,
            channel,
            now: epoch(),
            sent: Vec::new(),
            packets: Vec::new(),
            infos: Vec::new(),
            writable: false,
            key: IntegrityKey::short_term(own.attribute("pwd").unwrap()),
            ufrag: own.attribute("ufrag").unwrap().to_owned(),
        };
        agent.channel.connect(agent.now);
        agent.drain();
        agent
    }

    fn drain(&mut self) {
        while let Some(output) = self.channel.poll_output() {
            if let ChannelOutput::Bind(socket, _, address) = output {
                let address = SocketAddr::new(address.ip(), 4_000);
                self.channel.handle_bound(socket, Ok(address), self.now);
            } else if let ChannelOutput::Transmit(transmit) = output {
                self.sent.push((transmit.destination, transmit.payload));
            } else if let ChannelOutput::Packet(batch) = output {
                self.packets.extend(batch);
            } else if let ChannelOutput::Info(info) = output {
                self.infos
                    .push(self.transport.wrap_info(vec![("data".into(), info)]));
            } else if let ChannelOutput::Writable(writable) = output {
                self.writable = writable;
            }
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
            socket: LocalSocket(0),
            source,
            payload: payload.into(),
            segment_size: 0,
        };
        self.channel.handle_datagram(datagram, self.now);
        self.drain();
    }

    fn info(&mut self, info: &Element) {
        for (_, part) in self.transport.split_info(info).unwrap() {
            self.channel.handle_info(&part, self.now).unwrap();
        }
        self.drain();
    }

    /// The peer's check, with these attributes.
    fn check(&self, number: u8, attributes: &[Attribute]) -> Bytes {
        let username = format!("{}:{PEER_UFRAG}", self.ufrag);
        let mut request =
            MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([number; 12]))
                .username(&username)
                .attribute(Attribute::Priority(1_000));
        for attribute in attributes {
            request = request.attribute(attribute.clone());
        }
        request.finish(Some(&self.key), true).unwrap()
    }

    /// What was sent since the last time, decoded; only what is STUN.
    fn messages(&mut self) -> Vec<(SocketAddr, Message)> {
        let read = |(to, bytes): (SocketAddr, Bytes)| {
            Some((to, Scan::new(&bytes).ok()?.decode().unwrap()))
        };
        self.sent.drain(..).filter_map(read).collect()
    }

    /// Answers every check that was sent to this address, as the peer.
    fn answer(&mut self, address: SocketAddr) -> Vec<Message> {
        let checks: Vec<_> = self
            .messages()
            .into_iter()
            .filter(|(to, message)| *to == address && message.class == Class::Request)
            .map(|(_, message)| message)
            .collect();
        for check in &checks {
            let answer = success(check.transaction)
                .finish(Some(&peer_key()), true)
                .unwrap();
            self.receive(address, answer);
        }
        checks
    }
}

fn success(transaction: TransactionId) -> MessageBuilder {
    MessageBuilder::new(Class::Success, Method::BINDING, transaction)
        .attribute(Attribute::XorMappedAddress(SocketAddr::from((HOST, 4_000))))
}

fn peer_key() -> IntegrityKey {
    IntegrityKey::short_term(PEER_PASSWORD)
}

const CONTROLLING: Attribute = Attribute::IceControlling(u64::MAX);

#[test]
fn a_lite_peer_only_answers() {
    for role in [Role::Initiator, Role::Responder] {
        let mut agent = Agent::new(role, |config| config.remote_lite = true);
        agent.info(&peer_transport().child(candidate(1)));
        agent.run_for(Duration::from_millis(30));
        let checks = agent.answer(peer(1));
        assert!(checks[0].ice_controlling().is_some() && !checks[0].use_candidate());
        assert!(agent.writable);
        // The only pair is the best: it is nominated at once.
        let nominations = agent.answer(peer(1));
        assert!(nominations.len() == 1 && nominations[0].use_candidate());
        agent
            .channel
            .send(Bytes::from_static(b"data"), agent.now)
            .unwrap();
        agent.drain();
        assert_eq!(agent.sent, [(peer(1), Bytes::from_static(b"data"))]);
    }
}

#[test]
fn an_aggressive_peer_nominates_with_every_check_and_the_best_wins() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    for number in [1, 2] {
        agent.info(&peer_transport().child(candidate(number)));
        let check = agent.check(number, &[CONTROLLING, Attribute::UseCandidate]);
        agent.receive(peer(number), check);
        agent.run_for(Duration::from_millis(30));
    }
    let sent = agent.sent.clone();
    agent.answer(peer(1));
    assert!(agent.writable);
    assert!(agent.channel.describe().unwrap().contains("192.0.2.1:9"));
    // The better one becomes valid later; the peer repeats itself.
    agent.sent = sent;
    agent.answer(peer(2));
    let check = agent.check(3, &[CONTROLLING, Attribute::UseCandidate]);
    agent.receive(peer(2), check);
    agent.run_for(Duration::from_millis(30));
    agent.answer(peer(2));
    assert!(agent.channel.describe().unwrap().contains("192.0.2.2:9"));
}

#[test]
fn wrong_credentials_get_no_answer_and_change_nothing() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    agent.run_for(Duration::from_secs(1));
    agent.sent.clear();
    let timeout = agent.channel.poll_timeout();
    let username = format!("{}:{PEER_UFRAG}", agent.ufrag);
    let request = |name: &str, key: Option<&IntegrityKey>| {
        MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12]))
            .username(name)
            .attribute(CONTROLLING)
            .attribute(Attribute::UseCandidate)
            .finish(key, true)
            .unwrap()
    };
    let key = agent.key.clone();
    for forged in [
        request(&username, None),
        request(&username, Some(&peer_key())),
        request(&username, Some(&IntegrityKey::from_bytes(b""))),
        request("nobody:peer", Some(&key)),
        request("nocolon", Some(&key)),
        Bytes::from_static(b"\x00\x01\x00\x00\x21\x12\xa4\x42............"),
    ] {
        agent.receive(peer(66), forged);
    }
    agent.receive(peer(66), &b"data of a stranger"[..]);
    assert_eq!(agent.channel.poll_timeout(), timeout);
    agent.run_for(Duration::from_secs(1));
    assert!(agent.sent.is_empty() && agent.packets.is_empty() && !agent.writable);
}

#[test]
fn forged_answers_make_no_path() {
    let mut agent = Agent::new(Role::Initiator, |_| {});
    agent.info(&peer_transport().child(candidate(1)));
    agent.run_for(Duration::from_millis(30));
    let check = agent.messages().remove(0).1;
    let wrong_key = success(check.transaction)
        .finish(Some(&IntegrityKey::short_term("guessed")), true)
        .unwrap();
    let unsealed = success(check.transaction).finish(None, true).unwrap();
    let other = success(TransactionId([0; 12]))
        .finish(Some(&peer_key()), true)
        .unwrap();
    let refusal = MessageBuilder::new(Class::Error, Method::BINDING, check.transaction)
        .attribute(Attribute::Error(487, "Role Conflict".into()))
        .finish(None, true)
        .unwrap();
    for forged in [wrong_key, unsealed, other, refusal] {
        agent.receive(peer(1), forged);
        assert!(!agent.writable);
    }
    // They have not spoilt the check either.
    let right = success(check.transaction)
        .finish(Some(&peer_key()), true)
        .unwrap();
    agent.receive(peer(1), right);
    assert!(agent.writable);
}

#[test]
fn an_answer_from_elsewhere_fails_its_pair() {
    let mut agent = Agent::new(Role::Initiator, |_| {});
    agent.info(&peer_transport().child(candidate(1)));
    agent.run_for(Duration::from_millis(30));
    let check = agent.messages().remove(0).1;
    let answer = success(check.transaction)
        .finish(Some(&peer_key()), true)
        .unwrap();
    agent.receive(peer(2), answer);
    assert!(!agent.writable);
    let text = agent.channel.describe().unwrap();
    assert!(text.contains("the answer came from elsewhere"), "{text}");
}

#[test]
fn a_storm_of_role_conflicts_costs_one_answer_each_and_a_bounded_number_of_checks() {
    let mut agent = Agent::new(Role::Initiator, |_| {});
    agent.info(&peer_transport().child(candidate(1)));
    agent.sent.clear();
    for number in 0..200_u8 {
        let role = if number % 2 == 0 {
            Attribute::IceControlled(u64::MAX)
        } else {
            CONTROLLING
        };
        let check = agent.check(number, &[role]);
        agent.receive(peer(1), check);
    }
    let (answers, checks): (Vec<_>, Vec<_>) = agent
        .messages()
        .into_iter()
        .partition(|(_, message)| message.class != Class::Request);
    assert_eq!(answers.len(), 200);
    assert!(checks.len() <= 2, "{} checks at one instant", checks.len());
    agent.run_for(Duration::from_millis(50));
    agent.answer(peer(1));
    assert!(agent.writable, "and it connects nevertheless");
}

/// RFC 8445 §7.3.1.1: the greater tie-breaker controls.
#[test]
fn the_greater_tie_breaker_controls() {
    for (role, theirs, refused) in [
        (Role::Initiator, Attribute::IceControlling(u64::MAX), false),
        (Role::Initiator, Attribute::IceControlling(0), true),
        (Role::Responder, Attribute::IceControlled(u64::MAX), true),
        (Role::Responder, Attribute::IceControlled(0), false),
    ] {
        let mut agent = Agent::new(role, |_| {});
        let check = agent.check(1, std::slice::from_ref(&theirs));
        agent.receive(peer(1), check);
        let messages = agent.messages();
        let (_, answer) = &messages[0];
        assert_eq!(
            answer.error(),
            refused.then_some(487),
            "{role:?} {theirs:?}"
        );
        // Who was not refused is asked, by one that has switched.
        let asked = messages
            .get(1)
            .map(|(_, check)| check.ice_controlling().is_some());
        let expected = (!refused).then_some(role == Role::Responder);
        assert_eq!(asked, expected, "{role:?} {theirs:?}");
    }
}

/// What is frozen behind a pair of its foundation is checked once there is nothing else to do.
#[test]
fn a_dead_component_does_not_hold_up_another() {
    let mut agent = Agent::new(Role::Initiator, |_| {});
    let mut second = agent.transport.create_channel("rtcp").unwrap();
    second.connect(agent.now);
    let Some(ChannelOutput::Bind(socket, _, _)) = second.poll_output() else {
        panic!("no socket was asked for");
    };
    let address = SocketAddr::from((HOST, 4_001));
    second.handle_bound(socket, Ok(address), agent.now);
    agent.info(&peer_transport().child(candidate(1)));
    agent.info(&peer_transport().child(candidate(1).with("component", 2).with("port", 10)));
    agent.run_for(Duration::from_millis(100));
    let checked = std::iter::from_fn(|| second.poll_output()).any(|output| {
        matches!(output, ChannelOutput::Transmit(transmit) if transmit.destination.port() == 10)
    });
    assert!(checked);
}

#[test]
fn consent_is_the_peers_to_give_and_nobody_elses() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    agent.info(&peer_transport().child(candidate(1)));
    let check = agent.check(1, &[CONTROLLING, Attribute::UseCandidate]);
    agent.receive(peer(1), check);
    agent.run_for(Duration::from_millis(30));
    agent.answer(peer(1));
    assert!(agent.writable);
    let mut gaps = Vec::new();
    let (start, mut last) = (agent.now, agent.now);
    while agent.writable && agent.now < start + Duration::from_secs(60) {
        agent.run_for(Duration::from_millis(100));
        for (to, message) in agent.messages() {
            assert_eq!((to, message.class), (peer(1), Class::Request));
            gaps.push((agent.now - last).as_millis());
            last = agent.now;
            for (from, key) in [
                (peer(1), None),
                (peer(1), Some(&agent.key.clone())),
                (peer(2), Some(&peer_key())),
            ] {
                let forged = success(message.transaction).finish(key, true).unwrap();
                agent.receive(from, forged);
            }
            // Data is not consent.
            agent.receive(peer(1), &b"still here"[..]);
        }
    }
    let lost_after = agent.now - start;
    assert!(
        (29_900..=30_200).contains(&lost_after.as_millis()),
        "{lost_after:?}"
    );
    assert!(
        gaps.iter().all(|gap| (3_900..=6_100).contains(gap)),
        "{gaps:?}"
    );
    assert!(
        gaps.iter().any(|gap| *gap < 4_900) && gaps.iter().any(|gap| *gap > 5_100),
        "{gaps:?}"
    );
    agent.sent.clear();
    assert!(
        agent
            .channel
            .send(Bytes::from_static(b"no"), agent.now)
            .is_err()
    );
}

#[test]
fn what_must_be_understood_and_is_not_is_named_in_error_420() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    let username = format!("{}:{PEER_UFRAG}", agent.ufrag);
    let request = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12]))
        .username(&username)
        .raw(0x7abc, b"?")
        .finish(Some(&agent.key), true)
        .unwrap();
    agent.receive(peer(1), request);
    let (_, answer) = agent.messages().remove(0);
    assert_eq!(answer.error(), Some(420));
    let named = Attribute::UnknownAttributes(vec![0x7abc]);
    assert!(answer.attributes().contains(&named));
}

/// The form that Conversations uses: credentials and no candidate, answered by the like.
#[test]
fn a_restart_of_the_peer_is_answered_with_new_credentials_and_candidates() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    agent.info(&peer_transport().child(candidate(1)));
    let check = agent.check(1, &[CONTROLLING, Attribute::UseCandidate]);
    agent.receive(peer(1), check);
    agent.run_for(Duration::from_millis(30));
    agent.answer(peer(1));
    agent.infos.clear();
    let restart = Element::new(ICE_UDP, "transport")
        .with("ufrag", "anew")
        .with("pwd", "another password of the peer");
    agent.info(&restart);
    // One without candidates would look like an offer of our own.
    let [candidate] = &agent.infos[..] else {
        panic!("{:?}", agent.infos);
    };
    assert_ne!(candidate.attribute("ufrag"), Some(&*agent.ufrag));
    let candidate = candidate.children().next().unwrap();
    assert_eq!(candidate.attribute("generation"), Some("1"));
    // The old path goes on, and the same words again mean nothing new.
    assert!(agent.writable);
    agent.info(&restart);
    assert_eq!(agent.infos.len(), 1);
    // Consent checks of the peer with the old credentials are still answered.
    agent.sent.clear();
    let old = agent.check(2, &[CONTROLLING]);
    agent.receive(peer(1), old);
    assert_eq!(agent.messages().remove(0).1.class, Class::Success);
    // Late candidates of the old generation are not believed.
    agent.info(&peer_transport().child(self::candidate(3)));
    agent.run_for(Duration::from_secs(1));
    assert!(agent.sent.iter().all(|(to, _)| *to != peer(3)));
}

/// A restart of ours, and how the peer's words are understood before and after it has acknowledged it.
#[test]
fn a_restart_that_crosses_ours_is_refused_by_the_initiator_alone() {
    let bare = Element::new(ICE_UDP, "transport")
        .with("ufrag", "anew")
        .with("pwd", "another password of the peer");
    for (role, acknowledged, refused) in [
        (Role::Initiator, false, true),
        (Role::Initiator, true, false),
        (Role::Responder, false, false),
        (Role::Responder, true, false),
    ] {
        let interfaces = Interfaces::from(vec![IpAddr::V4(HOST)]);
        let shared = interfaces.clone();
        let mut agent = Agent::new(role, |config| config.interfaces = shared.clone());
        agent.info(&peer_transport().child(candidate(1)));
        agent.run_for(Duration::from_millis(30));
        agent.answer(peer(1));
        assert!(agent.writable);
        agent.run_for(Duration::from_secs(1));
        agent.infos.clear();
        interfaces.update(vec![IpAddr::V4(Ipv4Addr::new(203, 0, 113, 2))]);
        agent.run_for(Duration::from_millis(30));
        let offer = agent.infos.remove(0);
        assert!(offer.is_empty(), "{offer:?}");
        assert!(!agent.infos.is_empty(), "candidates follow");
        if acknowledged {
            agent.transport.handle_info_reply(&offer, Ok(()), agent.now);
        }
        agent.infos.clear();
        let result = agent.transport.split_info(&bare);
        if refused {
            assert_eq!(result, Err(TransportError::TieBreak));
            // Its candidates of that generation answer ours nevertheless.
            agent.info(&bare.clone().child(candidate(2)));
        } else {
            agent.info(&bare);
            let told = agent.infos.iter().filter(|info| !info.is_empty()).count();
            let answers = role == Role::Responder && !acknowledged;
            assert_eq!(told > 0, answers, "{role:?} {:?}", agent.infos);
            agent.info(&bare.clone().child(candidate(2)));
        }
        assert!(agent.infos.iter().all(|info| !info.is_empty()));
        agent.run_for(Duration::from_millis(30));
        let asked = agent.sent.iter().any(|(to, _)| *to == peer(2));
        assert!(asked, "{role:?} {acknowledged}");
    }
}

/// The form of XEP-0176 §5.4: candidates of the next generation come with the credentials.
#[test]
fn candidates_of_the_next_generation_restart_as_well() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    let infos = agent.infos.len();
    let anew = Element::new(ICE_UDP, "transport")
        .with("ufrag", "anew")
        .with("pwd", "another password of the peer");
    agent.info(&anew.child(candidate(1).with("generation", 1)));
    assert!(agent.infos.len() > infos);
    assert_ne!(agent.infos[infos].attribute("ufrag"), Some(&*agent.ufrag));
    agent.run_for(Duration::from_millis(30));
    let key = IntegrityKey::short_term("another password of the peer");
    let (to, check) = agent.sent.remove(0);
    assert_eq!(to, peer(1));
    let scan = Scan::new(&check).unwrap();
    scan.verify_integrity(&key).unwrap();
    assert!(scan.username().unwrap().starts_with(b"anew:"));
}

#[test]
fn changed_credentials_beside_a_candidate_are_no_restart() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    let infos = agent.infos.len();
    for (ufrag, password) in [
        ("other", PEER_PASSWORD),
        (PEER_UFRAG, "other"),
        ("other", "other"),
    ] {
        let info = Element::new(ICE_UDP, "transport")
            .with("ufrag", ufrag)
            .with("pwd", password);
        agent.info(&info.child(candidate(1)));
    }
    agent.run_for(Duration::from_secs(1));
    assert_eq!(agent.infos.len(), infos);
    assert!(
        agent.sent.is_empty(),
        "candidates of nobody's credentials are not checked"
    );
    // One that says nothing about them is of the present ones.
    agent.info(&Element::new(ICE_UDP, "transport").child(candidate(1)));
    agent.run_for(Duration::from_millis(30));
    assert_eq!(agent.sent.len(), 1);
}

#[test]
fn unusable_candidates_are_neither_errors_nor_checked() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    for (key, value) in [
        ("protocol", "tcp"),
        ("ip", "0123abcd.local"),
        ("ip", "2001:db8::1"),
        ("ip", "255.255.255.255"),
        ("ip", "224.0.0.1"),
        ("ip", "0.0.0.0"),
        ("ip", "127.0.0.1"),
        ("port", "0"),
        ("component", "2"),
    ] {
        agent.info(&peer_transport().child(candidate(1).with(key, value)));
    }
    agent.info(&peer_transport().child(Element::new(ICE_UDP, "gathering-complete")));
    let selected = Element::new(ICE_UDP, "remote-candidate").with("component", 1);
    agent.info(&peer_transport().child(selected));
    agent.info(&peer_transport().child(Element::new("urn:xmpp:jingle:apps:dtls:0", "fingerprint")));
    agent.run_for(Duration::from_secs(1));
    assert!(agent.sent.is_empty());
}

/// libjingle.md §8.1, T1: a STUN request without USERNAME brought libjingle 0.4 down. Sealed or not, it gets no answer
/// and changes nothing.
#[test]
fn t1_a_request_without_username_is_ignored() {
    let mut agent = Agent::new(Role::Responder, |_| {});
    agent.run_for(Duration::from_secs(1));
    agent.sent.clear();
    let timeout = agent.channel.poll_timeout();
    for key in [None, Some(agent.key.clone()), Some(peer_key())] {
        let request = MessageBuilder::new(Class::Request, Method::BINDING, TransactionId([1; 12]))
            .attribute(Attribute::Priority(1))
            .attribute(CONTROLLING)
            .finish(key.as_ref(), true)
            .unwrap();
        agent.receive(peer(1), request);
    }
    assert_eq!(agent.channel.poll_timeout(), timeout);
    agent.run_for(Duration::from_secs(1));
    assert!(agent.sent.is_empty() && agent.packets.is_empty() && !agent.writable);
}
