//! What ICE says and understands in the words of XEP-0176.

#![allow(clippy::unwrap_used, clippy::wildcard_enum_match_arm)]

use session_core::testing::epoch;
use session_core::{
    BindKind, ChannelOutput, Dialect, Element, InfoTarget, Role, Transport, TransportChannel,
    TransportContext, TransportError, TransportFactory,
};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    task::Waker,
};
use transport_p2p::ice::{Companion, ICE_0, ICE_UDP, IceConfig, IceTransportFactory};

const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";

fn context(role: Role) -> TransportContext {
    TransportContext {
        role,
        local: "a@example.org/1".into(),
        remote: "b@example.org/2".into(),
        sid: "sid".into(),
        content: "main".into(),
        dialect: Dialect::JINGLE,
        seed: [3; 32],
        waker: Waker::noop().clone(),
    }
}

fn config() -> IceConfig {
    IceConfig::new(vec![IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1))])
}

fn transport(config: IceConfig) -> Box<dyn Transport> {
    IceTransportFactory::new(config).create(&context(Role::Initiator))
}

/// The infos of a channel that got its socket.
fn infos(channel: &mut dyn TransportChannel) -> Vec<Element> {
    let now = epoch();
    channel.connect(now);
    let mut infos = Vec::new();
    while let Some(output) = channel.poll_output() {
        match output {
            ChannelOutput::Bind(socket, BindKind::Udp | BindKind::TcpListener, address) => {
                let address = SocketAddr::new(address.ip(), 4_000);
                channel.handle_bound(socket, Ok(address), now);
            }
            ChannelOutput::Info(info) => infos.push(info),
            _ => {}
        }
    }
    infos
}

fn peer() -> Element {
    Element::new(ICE_UDP, "transport")
        .with("ufrag", "8hhy")
        .with("pwd", "asd88fgpdd777uzjYhagZg")
}

/// As in the examples of XEP-0176 §5.2.
fn candidate() -> Element {
    Element::new(ICE_UDP, "candidate")
        .with("component", 1)
        .with("foundation", 1)
        .with("generation", 0)
        .with("id", "el0747fg11")
        .with("ip", "10.0.1.1")
        .with("network", 1)
        .with("port", 8_998)
        .with("priority", 2_130_706_431_u32)
        .with("protocol", "udp")
        .with("type", "host")
}

#[test]
fn a_candidate_travels_with_all_its_attributes_and_its_credentials() {
    let mut transport = transport(config());
    let offer = transport.offer();
    assert!(offer.is_empty(), "candidates follow one by one");
    let mut channel = transport.create_channel("rtp").unwrap();
    let infos = infos(&mut *channel);
    assert_eq!(infos.len(), 1);
    let info = transport.wrap_info(vec![("rtp".into(), infos[0].clone())]);
    for key in ["ufrag", "pwd"] {
        assert!(info.attribute(key).is_some());
        assert_eq!(info.attribute(key), offer.attribute(key));
    }
    let candidate = info.children().next().unwrap();
    let keys: Vec<_> = candidate
        .attributes()
        .map(|attribute| attribute.name)
        .collect();
    assert_eq!(
        keys,
        [
            "component",
            "foundation",
            "generation",
            "id",
            "ip",
            "network",
            "port",
            "priority",
            "protocol",
            "type"
        ]
    );
    assert_eq!(
        candidate.attribute("priority"),
        Some("2130706431"),
        "RFC 8445 §5.1.2.1"
    );
    assert_eq!(candidate.attribute("ip"), Some("203.0.113.1"));
    assert!(
        candidate
            .attribute("id")
            .unwrap()
            .starts_with(char::is_alphabetic),
        "an NCName"
    );
}

/// XEP-0371 §4: the same, and TCP.
#[test]
fn in_the_newer_words_candidates_may_use_tcp() {
    let mut transport = IceTransportFactory::with_tcp(config()).create(&context(Role::Initiator));
    let offer = transport.offer();
    assert!(offer.is(ICE_0, "transport"));
    let mut channel = transport.create_channel("rtp").unwrap();
    let told: Vec<_> = infos(&mut *channel)
        .iter()
        .map(|info| {
            let candidate = info.children().next().unwrap();
            let of = |key| candidate.attribute(key).map(str::to_owned);
            [of("protocol"), of("tcptype"), of("port")].map(Option::unwrap_or_default)
        })
        .collect();
    assert_eq!(
        told,
        [
            ["udp", "", "4000"],
            ["tcp", "active", "9"],
            ["tcp", "passive", "4000"]
        ]
    );
    let candidate = |kind: Option<&str>| {
        let candidate = Element::new(ICE_0, "candidate")
            .with("component", 1)
            .with("foundation", 1)
            .with("id", "a")
            .with("ip", "10.0.1.1")
            .with("port", 9)
            .with("priority", 1)
            .with("protocol", "tcp")
            .with_opt("tcptype", kind);
        Element::new(ICE_0, "transport").child(candidate)
    };
    for kind in ["active", "passive", "so"] {
        transport.split_info(&candidate(Some(kind))).unwrap();
    }
    for kind in [None, Some("lazy")] {
        let Err(TransportError::Malformed { field, .. }) = transport.split_info(&candidate(kind))
        else {
            panic!("{kind:?} was taken");
        };
        assert_eq!(field, "tcptype");
    }
    // The older words do not know TCP, and whoever says it there is not refused for it.
    let older = Element::new(ICE_UDP, "candidate");
    let older = candidate(None)
        .children()
        .next()
        .unwrap()
        .attributes()
        .fold(older, |older, a| older.with(a.name, a.value));
    let mut transport = self::transport(config());
    transport.split_info(&peer().child(older)).unwrap();
    assert!(transport.offer().is(ICE_UDP, "transport"));
}

#[test]
fn several_infos_in_one_message_are_one_transport() {
    let mut config = config();
    config.tell_end = true;
    let mut transport = transport(config);
    let mut rtp = transport.create_channel("rtp").unwrap();
    let infos = infos(&mut *rtp);
    let named = infos.into_iter().map(|info| ("rtp".into(), info)).collect();
    let whole = transport.wrap_info(named);
    let names: Vec<_> = whole.children().map(|child| child.name()).collect();
    assert_eq!(names, ["candidate", "gathering-complete"]);
    // And it is understood as one.
    let mut other = IceTransportFactory::new(self::config()).create(&context(Role::Responder));
    let _channel = other.create_channel("other name").unwrap();
    let parts = other.split_info(&whole).unwrap();
    assert_eq!(parts, [(InfoTarget::Channel("other name".into()), whole)]);
}

#[test]
fn what_is_malformed_is_refused_by_name() {
    let mut transport = transport(config());
    for (key, value, field) in [
        ("component", "0", "component"),
        ("component", "257", "component"),
        ("port", "65536", "port"),
        ("port", "-1", "port"),
        ("priority", "high", "priority"),
        ("generation", "-1", "generation"),
        ("network", "x", "network"),
        (
            "foundation",
            "123456789012345678901234567890123",
            "foundation",
        ),
    ] {
        let info = peer().child(candidate().with(key, value));
        let Err(TransportError::Malformed { field: found, .. }) = transport.split_info(&info)
        else {
            panic!("{key}={value} was taken");
        };
        assert_eq!(found, field);
    }
    for key in ["ip", "port", "component", "priority"] {
        let mut bare = Element::new(ICE_UDP, "candidate");
        for attribute in candidate()
            .attributes()
            .filter(|attribute| attribute.name != key)
        {
            bare.set_attribute(attribute.name, attribute.value);
        }
        assert!(
            transport.split_info(&peer().child(bare)).is_err(),
            "without {key}"
        );
    }
    let half = Element::new(ICE_UDP, "transport").with("ufrag", "8hhy");
    for (bad, what) in [
        (half.clone(), "pwd"),
        (half.with("pwd", ""), "pwd"),
        (peer().with("ufrag", "a:b"), "ufrag"),
        (peer().with("ufrag", "a".repeat(257)), "ufrag"),
        (Element::new(ICE_UDP, "transport"), "ufrag"),
        (Element::new("urn:example:other", "transport"), "transport"),
    ] {
        let Err(TransportError::Malformed { field, .. }) = transport.accept_answer(&bad) else {
            panic!("{bad:?} was taken");
        };
        assert_eq!(field, what);
    }
    // A kind that is not known yet is of no use, and no offence.
    let guest = peer().child(candidate().with("type", "guest"));
    transport.split_info(&guest).unwrap();
    // An example of the XEP has a priority of more than 32 bits.
    let large = peer().child(candidate().with("priority", 21_149_780_477_u64));
    transport.split_info(&large).unwrap();
    transport.accept_answer(&peer()).unwrap();
}

#[test]
fn offers_do_not_carry_what_a_policy_hides() {
    let mut config = config();
    config.relay_only = true;
    let mut transport = transport(config);
    let mut channel = transport.create_channel("rtp").unwrap();
    assert!(infos(&mut *channel).is_empty());
}

#[test]
fn the_dialects_that_know_ice_udp_are_those_of_jingle() {
    let factory = IceTransportFactory::new(config());
    assert!(factory.supports(Dialect::JINGLE));
    assert!(!factory.supports(Dialect::GTALK));
}

/// Keeps fingerprints.
#[derive(Default)]
struct Fingerprints(Mutex<Vec<Element>>);

impl Companion for Fingerprints {
    fn local(&self, context: &TransportContext) -> Vec<Element> {
        let setup = if context.role == Role::Initiator {
            "actpass"
        } else {
            "active"
        };
        vec![
            Element::new(DTLS, "fingerprint")
                .with("setup", setup)
                .text("00:11"),
        ]
    }

    fn remote(&self, _: &TransportContext, children: Vec<Element>) -> Result<(), TransportError> {
        if children
            .iter()
            .any(|child| child.attribute("setup").is_none())
        {
            return Err(TransportError::Unacceptable("no setup"));
        }
        self.0.lock().unwrap().extend(children);
        Ok(())
    }
}

#[test]
fn what_is_not_ice_is_passed_on_as_it_is() {
    let fingerprints = Arc::new(Fingerprints::default());
    let mut config = config();
    config.companion = Some(fingerprints.clone());
    let mut transport = transport(config);
    let offer = transport.offer();
    let ours = offer.find(DTLS, "fingerprint").unwrap();
    assert_eq!(ours.attribute("setup"), Some("actpass"));

    let theirs = Element::new(DTLS, "fingerprint")
        .with("hash", "sha-256")
        .with("setup", "active");
    let theirs = theirs.text("AA:BB");
    let unknown = Element::new("urn:example:new", "thing")
        .with("setup", 1)
        .child(candidate());
    let answer = peer()
        .child(theirs.clone())
        .child(candidate())
        .child(unknown.clone());
    transport.accept_answer(&answer).unwrap();
    assert_eq!(*fingerprints.0.lock().unwrap(), [theirs, unknown]);

    let refused = peer().child(Element::new(DTLS, "fingerprint"));
    let error = transport.accept_answer(&refused);
    assert_eq!(error, Err(TransportError::Unacceptable("no setup")));
}
