//! Data channels over ICE pass the suite of transports: as a layer, and in Conversations' form; above a protection that
//! does nothing, and above DTLS.

use session_core::{
    ChannelLayer, Dialect, Element, Role, TransportChannel, TransportContext, TransportFactory,
    testing::Conformance,
};
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    task::Waker,
};
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    sctp::{DataChannelConfig, DataChannelLayer, DataChannelTransportFactory, TRANSPORT_NAMESPACE},
};

struct Bare;

impl ChannelLayer for Bare {
    fn wrap(
        &self,
        inner: Box<dyn TransportChannel>,
        _: &TransportContext,
    ) -> Box<dyn TransportChannel> {
        inner
    }
}

fn ice() -> IceTransportFactory {
    IceTransportFactory::new(IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]))
}

fn conversations(protection: impl ChannelLayer + 'static) -> DataChannelTransportFactory {
    DataChannelTransportFactory::new(
        Arc::new(ice()),
        Arc::new(protection),
        DataChannelConfig::default(),
    )
}

fn layer(protection: impl ChannelLayer + 'static) -> DataChannelLayer {
    DataChannelLayer::new(Arc::new(protection), DataChannelConfig::default())
}

#[test]
fn as_a_layer() {
    let conformance = Conformance {
        seeds: 3,
        ..Conformance::new()
    };
    conformance.with_layer(layer(Bare)).run(ice());
}

#[test]
fn as_conversations_has_it() {
    let conformance = Conformance {
        seeds: 3,
        ..Conformance::new()
    };
    conformance.run(conversations(Bare));
}

/// Handshakes draw keys from the system, so that no two runs are equal.
#[cfg(feature = "dtls")]
mod over_dtls {
    use super::{Conformance, conversations, ice, layer};
    use transport_p2p::dtls::{DtlsConfig, DtlsLayer, Identity, Versions};

    fn protection(versions: Versions) -> DtlsLayer {
        let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()])
            .expect("a certificate and its key");
        let key = made.signing_key.serialize_der();
        DtlsLayer::data(Identity::new(made.cert.der(), &key)).with_config(DtlsConfig {
            versions,
            ..DtlsConfig::default()
        })
    }

    fn suite() -> Conformance {
        Conformance {
            deterministic: false,
            seeds: 2,
            ..Conformance::new()
        }
    }

    #[test]
    fn as_a_layer() {
        suite()
            .with_layer(layer(protection(Versions::Any)))
            .run(ice());
    }

    #[test]
    fn as_a_layer_with_the_older_version() {
        suite()
            .with_layer(layer(protection(Versions::Dtls12)))
            .run(ice());
    }

    #[test]
    fn as_conversations_has_it() {
        suite().run(conversations(protection(Versions::Any)));
    }
}

#[test]
fn the_envelope_is_conversations() {
    let context = |role| TransportContext {
        role,
        local: "a@a.example/1".into(),
        remote: "b@b.example/2".into(),
        sid: "sid".into(),
        content: "file".into(),
        dialect: Dialect::JINGLE,
        seed: [role as u8; 32],
        waker: Waker::noop().clone(),
    };
    let nested = "urn:xmpp:jingle:transports:ice-udp:1";
    let offer = conversations(Bare)
        .create(&context(Role::Initiator))
        .offer();
    assert!(offer.is(TRANSPORT_NAMESPACE, "transport"));
    assert_eq!(offer.attribute("sctp-port"), Some("5000"));
    assert_eq!(offer.attribute("max-message-size"), Some("262144"));
    let inner = offer.find(nested, "transport").expect("ICE inside");
    assert!(inner.attribute("ufrag").is_some() && inner.attribute("pwd").is_some());
    assert!(inner.children().all(|child| child.name() != "sctpmap"));

    // What Conversations would offer: nothing beside the envelope and ICE.
    let theirs = |port: Option<&str>, size: Option<&str>| {
        let ice = Element::new(nested, "transport")
            .with("ufrag", "8hhy")
            .with("pwd", "asd88fgpdd777uzjYhagZg");
        Element::new(TRANSPORT_NAMESPACE, "transport")
            .with_opt("sctp-port", port)
            .with_opt("max-message-size", size)
            .child(ice)
    };
    let answer = |offer: &Element| {
        conversations(Bare)
            .create(&context(Role::Responder))
            .accept_offer(offer)
    };
    let accepted = answer(&theirs(Some("5000"), Some("262144"))).expect("acceptable");
    assert!(accepted.find(nested, "transport").is_some());
    assert_eq!(
        accepted.children().count(),
        1,
        "nothing that it would not know"
    );
    for (port, size) in [
        (None, Some("1")),
        (Some("5000"), None),
        (Some("x"), Some("1")),
        (Some("0"), Some("1")),
        (Some("65536"), Some("1")),
    ] {
        assert!(answer(&theirs(port, size)).is_err(), "{port:?} {size:?}");
    }
    let empty = Element::new(TRANSPORT_NAMESPACE, "transport")
        .with("sctp-port", 5000)
        .with("max-message-size", 1);
    assert!(answer(&empty).is_err());
}
