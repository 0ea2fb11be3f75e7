//! QUIC as a layer, in the suite that every transport must pass.
#![cfg(feature = "quic")]
#![allow(clippy::unwrap_used)]

use session_core::testing::{Conformance, MemoryDatagram};
use std::net::SocketAddr;
use transport_p2p::{
    ice::{IceConfig, IceTransportFactory},
    quic::{Config, Control, Identity, QuicLayer},
    raw_udp::RawUdp,
};

/// Where the hosts of the suite's network are.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// TLS draws its keys from the system.
fn suite() -> Conformance {
    Conformance {
        deterministic: false,
        ..Conformance::new()
    }
}

fn layer(config: Config) -> QuicLayer {
    let made = rcgen::generate_simple_self_signed(["peer.invalid".to_owned()]).unwrap();
    let key = made.signing_key.serialize_der();
    QuicLayer::new(Identity::new(made.cert.der(), &key).unwrap(), config)
}

#[test]
fn over_memory_datagrams() {
    suite()
        .with_layer(layer(Config::default()))
        .run(MemoryDatagram::new());
}

#[test]
fn with_small_windows() {
    let config = Config {
        receive_window: 64 << 10,
        send_window: 64 << 10,
        control: Control::Cubic,
        ..Config::default()
    };
    suite().with_layer(layer(config)).run(MemoryDatagram::new());
}

#[test]
fn over_raw_udp() {
    let conformance = Conformance {
        notices_within: None,
        ..suite()
    };
    conformance
        .with_layer(layer(Config::default()))
        .run(RawUdp::new(HERE));
}

#[test]
fn over_ice() {
    let config = IceConfig::new(vec![HERE.ip()]);
    suite()
        .with_layer(layer(Config::default()))
        .run(IceTransportFactory::new(config));
}
