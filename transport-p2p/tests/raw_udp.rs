//! The words of raw UDP, and whose datagrams it takes.
#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use session_core::{
    ChannelOutput, Datagram, Dialect, Element, InfoTarget, LocalSocket, Role, SendError,
    SocketError, Transport, TransportChannel, TransportContext, TransportError, TransportFactory,
    testing::epoch,
};
use std::{net::SocketAddr, task::Waker};
use transport_p2p::raw_udp::{GOOGLE_NAMESPACE, GoogleRawUdp, NAMESPACE, RawUdp};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn context(dialect: &'static Dialect) -> TransportContext {
    TransportContext {
        role: Role::Initiator,
        local: "romeo@montague.lit/orchard".into(),
        remote: "juliet@capulet.lit/balcony".into(),
        sid: "a73sjjvkla37jfea".into(),
        content: "voice".into(),
        dialect,
        seed: [0xab; 32],
        waker: Waker::noop().clone(),
    }
}

fn jingle(factory: &RawUdp) -> Box<dyn Transport> {
    factory.create(&context(Dialect::JINGLE))
}

fn google(factory: &GoogleRawUdp) -> Box<dyn Transport> {
    factory.create(&context(Dialect::GTALK))
}

/// A candidate of XEP-0177's examples, whose first private address is fine and whose second is public.
fn candidate(component: &str, ip: &str, port: &str) -> Element {
    Element::new(NAMESPACE, "candidate")
        .with("component", component)
        .with("generation", 0)
        .with("id", "a9j3mnbtu1")
        .with("ip", ip)
        .with("port", port)
}

fn transport(candidates: impl IntoIterator<Item = Element>) -> Element {
    Element::new(NAMESPACE, "transport").children_from(candidates)
}

fn bound(channel: &mut dyn TransportChannel, address: &str) -> Vec<ChannelOutput> {
    channel.connect(epoch());
    assert!(matches!(
        channel.poll_output(),
        Some(ChannelOutput::Bind(LocalSocket(0), _, _))
    ));
    channel.handle_bound(LocalSocket(0), Ok(at(address)), epoch());
    drain(channel)
}

fn drain(channel: &mut dyn TransportChannel) -> Vec<ChannelOutput> {
    std::iter::from_fn(|| channel.poll_output()).collect()
}

fn arrives(channel: &mut dyn TransportChannel, source: &str) -> bool {
    let datagram = Datagram {
        socket: LocalSocket(0),
        source: at(source),
        payload: Bytes::from_static(b"media"),
        segment_size: 0,
    };
    channel.handle_datagram(datagram, epoch());
    !drain(channel).is_empty()
}

/// Where a datagram goes.
fn destination(channel: &mut dyn TransportChannel) -> SocketAddr {
    channel.send(Bytes::from_static(b"x"), epoch()).unwrap();
    match drain(channel).as_slice() {
        [ChannelOutput::Transmit(transmit)] => transmit.destination,
        other => panic!("{other:?}"),
    }
}

#[test]
fn candidate_is_told_when_the_port_is_known() {
    let mut transport = jingle(&RawUdp::new(at("198.51.100.4:0")));
    assert!(transport.offer().is_empty());
    let mut channel = transport.create_channel("rtp").unwrap();
    let told = bound(&mut *channel, "198.51.100.4:13540");
    let info = Element::new(NAMESPACE, "candidate")
        .with("component", 1)
        .with("generation", 0)
        .with("id", "abababababababab1")
        .with("ip", "198.51.100.4")
        .with("port", 13540);
    assert_eq!(told, [ChannelOutput::Info(info.clone())]);
    let wrapped = transport.wrap_info(vec![("rtp".into(), info.clone())]);
    assert_eq!(
        wrapped,
        self::transport([info]),
        "no name: XEP-0177 has none"
    );
}

/// A host that moves offers the address that it has now; what was offered before stays.
#[test]
fn new_transports_are_at_the_address_of_their_time() {
    let binds = |mut transport: Box<dyn Transport>| {
        let mut channel = transport.create_channel("rtp").unwrap();
        channel.connect(epoch());
        match channel.poll_output() {
            Some(ChannelOutput::Bind(_, _, address)) => address,
            other => panic!("{other:?}"),
        }
    };
    let factory = RawUdp::new(at("198.51.100.4:0"));
    let early = jingle(&factory);
    factory.bind().set(at("[2001:db8::4]:0"));
    assert_eq!(binds(early), at("198.51.100.4:0"));
    assert_eq!(binds(jingle(&factory)), at("[2001:db8::4]:0"));
    let factory = GoogleRawUdp::new(at("198.51.100.4:0"));
    let early = google(&factory);
    factory.bind().set(at("198.51.100.5:0"));
    assert_eq!(binds(early), at("198.51.100.4:0"));
    assert_eq!(binds(google(&factory)), at("198.51.100.5:0"));
}

#[test]
fn candidate_is_in_the_offer_when_the_port_is_known_beforehand() {
    let factory = RawUdp::new(at("0.0.0.0:5000")).with_advertised(at("203.0.113.9:6000"));
    let mut transport = jingle(&factory);
    let offer = transport.offer();
    let first = offer.children().next().unwrap();
    assert_eq!(first.attribute("ip"), Some("203.0.113.9"));
    assert_eq!(first.attribute("port"), Some("6000"));
    let mut channel = transport.create_channel("rtp").unwrap();
    assert!(bound(&mut *channel, "0.0.0.0:5000").is_empty(), "said");
    let mut second = transport.create_channel("rtcp").unwrap();
    second.connect(epoch());
    let asked = second.poll_output();
    assert!(matches!(asked, Some(ChannelOutput::Bind(_, _, address)) if address.port() == 5001));
}

#[test]
fn components_find_their_channels_in_any_order() {
    let mut transport = jingle(&RawUdp::new(at("192.0.2.1:0")));
    let offer = self::transport([
        candidate("1", "208.68.163.214", "9876"),
        candidate("2", "208.68.163.214", "9877"),
    ]);
    transport.accept_offer(&offer).unwrap();
    assert!(transport.split_info(&offer).unwrap().is_empty(), "kept");
    let mut rtcp = transport.create_channel("rtcp").unwrap();
    let mut rtp = transport.create_channel("rtp").unwrap();
    for (channel, port) in [(&mut rtcp, 9877), (&mut rtp, 9876)] {
        let told = bound(&mut **channel, "192.0.2.1:4000");
        assert_eq!(
            told[1..],
            [ChannelOutput::Path(true), ChannelOutput::Writable(true)]
        );
        assert_eq!(destination(&mut **channel).port(), port);
    }
    let infos = transport.split_info(&offer).unwrap();
    assert_eq!(infos[0].0, InfoTarget::Channel("rtp".into()));
    assert_eq!(infos[1].0, InfoTarget::Channel("rtcp".into()));
}

#[test]
fn strangers_are_not_heard() {
    let mut transport = jingle(&RawUdp::new(at("192.0.2.1:0")));
    let mut channel = transport.create_channel("rtp").unwrap();
    bound(&mut *channel, "192.0.2.1:4000");
    assert!(!arrives(&mut *channel, "198.51.100.7:9000"), "nobody yet");
    assert_eq!(
        channel.send(Bytes::new(), epoch()),
        Err(SendError::NotWritable)
    );
    let said = candidate("1", "198.51.100.7", "9000");
    channel.handle_info(&said, epoch()).unwrap();
    assert_eq!(drain(&mut *channel).len(), 2);
    assert!(arrives(&mut *channel, "198.51.100.7:9000"));
    assert!(!arrives(&mut *channel, "198.51.100.7:9001"));
    assert!(!arrives(&mut *channel, "198.51.100.8:9000"));
}

#[test]
fn newer_generation_replaces_an_older_one() {
    let mut transport = jingle(&RawUdp::new(at("192.0.2.1:0")));
    let mut channel = transport.create_channel("rtp").unwrap();
    bound(&mut *channel, "192.0.2.1:4000");
    let say = |generation: u32, port: &str| {
        let mut candidate = candidate("1", "198.51.100.7", port);
        candidate.set_attribute("generation", generation);
        candidate
    };
    for (generation, port, counts) in [
        (1, "9000", 9000),
        (0, "9001", 9000),
        (1, "9002", 9002),
        (2, "9003", 9003),
    ] {
        channel
            .handle_info(&say(generation, port), epoch())
            .unwrap();
        drain(&mut *channel);
        assert_eq!(destination(&mut *channel).port(), counts);
    }
}

#[test]
fn what_is_wrong_is_named() {
    let mut transport = jingle(&RawUdp::new(at("192.0.2.1:0")));
    for (bad, expected) in [
        (candidate("0", "198.51.100.7", "9000"), "component"),
        (candidate("256", "198.51.100.7", "9000"), "component"),
        (candidate("1", "example.org", "9000"), "ip"),
        (candidate("1", "198.51.100.7", "ninety"), "port"),
        (candidate("1", "198.51.100.7", "65536"), "port"),
        (candidate("1", "0.0.0.0", "9000"), "address"),
        (Element::new(NAMESPACE, "other"), "candidate"),
    ] {
        let good = candidate("1", "198.51.100.7", "9000");
        let refused = transport
            .split_info(&self::transport([good, bad]))
            .unwrap_err();
        assert!(
            matches!(refused, TransportError::Malformed { field, .. } if field == expected),
            "{refused} is not about {expected}"
        );
    }
    // What layers say stands beside, in words of their own.
    let good = candidate("1", "198.51.100.7", "9000");
    let others = Element::new(GOOGLE_NAMESPACE, "candidate");
    let mut another = jingle(&RawUdp::new(at("192.0.2.1:0")));
    let taken = another.split_info(&self::transport([good, others]));
    assert!(taken.is_ok(), "{taken:?}");
    for ip in ["127.0.0.1", "224.0.0.1", "2001:db8::1"] {
        let offer = self::transport([candidate("1", ip, "9000")]);
        let refused = transport.accept_offer(&offer).unwrap_err();
        assert!(matches!(refused, TransportError::Unacceptable(_)), "{ip}");
    }
    let mut channel = transport.create_channel("rtp").unwrap();
    assert!(
        bound(&mut *channel, "192.0.2.1:4000").len() == 1,
        "no trace"
    );
}

#[test]
fn no_socket_and_no_address_are_failures() {
    let error = SocketError {
        what: "bind",
        why: "in use".into(),
    };
    let mut transport = jingle(&RawUdp::new(at("0.0.0.0:0")));
    for answer in [Err(error), Ok(at("0.0.0.0:4000"))] {
        let mut channel = transport.create_channel("x").unwrap();
        channel.connect(epoch());
        drain(&mut *channel);
        channel.handle_bound(LocalSocket(0), answer, epoch());
        assert!(matches!(
            drain(&mut *channel)[..],
            [ChannelOutput::Failed(TransportError::NoResource(_))]
        ));
    }
}

#[test]
fn google_offers_agree_only_without_symmetric_nats() {
    let here = GoogleRawUdp::new(at("192.0.2.1:0"));
    let offer = google(&here).offer();
    assert_eq!(
        offer,
        Element::new(GOOGLE_NAMESPACE, "transport")
            .with("behind-symmetric-nat", "false")
            .with("can-receive-from-symmetric-nat", "true")
    );
    let answer = google(&here).accept_offer(&offer).unwrap();
    assert!(answer.is_empty());
    google(&here).accept_answer(&answer).unwrap();
    google(&here)
        .accept_answer(&answer.child(Element::new(GOOGLE_NAMESPACE, "channel")))
        .unwrap_err();
    for (behind, receives) in [(true, false), (true, true), (false, false)] {
        let there = here
            .clone()
            .with_symmetric_nat(behind)
            .with_symmetric_peers(receives);
        let offer = google(&there).offer();
        let refused = google(&here).accept_offer(&offer).unwrap_err();
        assert!(matches!(refused, TransportError::Unacceptable(_)));
    }
    let nothing = Element::new(GOOGLE_NAMESPACE, "transport");
    google(&here).accept_offer(&nothing).unwrap_err();
}

#[test]
fn google_channels_say_where_they_are() {
    let mut transport = google(&GoogleRawUdp::new(at("192.0.2.1:0")));
    let mut channel = transport.create_channel("rtp").unwrap();
    let told = bound(&mut *channel, "192.0.2.1:4000");
    let [ChannelOutput::Info(info)] = &told[..] else {
        panic!("{told:?}")
    };
    let wrapped = transport.wrap_info(vec![("rtp".into(), info.clone())]);
    let expected = Element::new(GOOGLE_NAMESPACE, "transport").child(
        Element::new(GOOGLE_NAMESPACE, "channel")
            .with("address", "192.0.2.1")
            .with("port", 4000)
            .with("name", "rtp"),
    );
    assert_eq!(wrapped, expected);

    let of_peer = Element::new(GOOGLE_NAMESPACE, "transport").child(
        Element::new(GOOGLE_NAMESPACE, "channel")
            .with("name", "rtp")
            .with("address", "203.0.113.9")
            .with("port", 50004),
    );
    let infos = transport.split_info(&of_peer).unwrap();
    assert_eq!(infos[0].0, InfoTarget::Channel("rtp".into()));
    channel.handle_info(&infos[0].1, epoch()).unwrap();
    drain(&mut *channel);
    assert_eq!(destination(&mut *channel), at("203.0.113.9:50004"));
}

#[test]
fn symmetric_nat_may_change_the_port_once() {
    let peer = Element::new(GOOGLE_NAMESPACE, "channel")
        .with("address", "203.0.113.9")
        .with("port", 50004);
    for receives in [true, false] {
        let factory = GoogleRawUdp::new(at("192.0.2.1:0")).with_symmetric_peers(receives);
        let mut channel = google(&factory).create_channel("rtp").unwrap();
        bound(&mut *channel, "192.0.2.1:4000");
        channel.handle_info(&peer, epoch()).unwrap();
        drain(&mut *channel);
        assert!(!arrives(&mut *channel, "203.0.113.10:50004"));
        assert_eq!(arrives(&mut *channel, "203.0.113.9:61000"), receives);
        let port = if receives { 61000 } else { 50004 };
        assert_eq!(destination(&mut *channel).port(), port);
        assert!(!arrives(&mut *channel, "203.0.113.9:61001"), "only once");
        channel.handle_info(&peer, epoch()).unwrap();
        assert_eq!(destination(&mut *channel).port(), port, "said again");
    }
}

#[test]
fn each_vocabulary_belongs_to_its_dialects() {
    let raw = RawUdp::new(at("192.0.2.1:0"));
    let google = GoogleRawUdp::new(at("192.0.2.1:0"));
    for dialect in Dialect::ALL {
        assert_eq!(raw.supports(dialect), dialect == Dialect::JINGLE);
        assert_eq!(google.supports(dialect), dialect == Dialect::GTALK);
    }
}
