//! What this crate offers to sessions, in the suite that every transport must pass.
#![allow(clippy::unwrap_used)]

use session_core::{
    Dialect,
    testing::{Conformance, MemoryDatagram},
};
use std::net::SocketAddr;
use transport_p2p::{
    pseudotcp::{Config, PseudoTcpLayer},
    raw_udp::{GoogleRawUdp, RawUdp},
};

/// Where the hosts of the suite's network are.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// A transport without checks can only find out by what the application misses that its peer is gone.
fn without_checks() -> Conformance {
    Conformance {
        notices_within: None,
        ..Conformance::new()
    }
}

#[test]
fn raw_udp() {
    without_checks().run(RawUdp::new(HERE));
}

#[test]
fn google_raw_udp() {
    let options = Conformance {
        dialect: Dialect::GTALK,
        ..without_checks()
    };
    options.run(GoogleRawUdp::new(HERE));
}

#[test]
fn pseudotcp_over_raw_udp() {
    without_checks()
        .with_layer(PseudoTcpLayer::default())
        .run(RawUdp::new(HERE));
}

#[test]
fn pseudotcp_over_memory_datagrams() {
    Conformance::new()
        .with_layer(PseudoTcpLayer::default())
        .run(MemoryDatagram::new());
}

#[test]
fn pseudotcp_without_our_own_extension() {
    let config = Config {
        sack: false,
        ..Config::default()
    };
    Conformance::new()
        .with_layer(PseudoTcpLayer::new(config))
        .run(MemoryDatagram::new());
}

#[test]
fn pseudotcp_with_small_buffers() {
    let config = Config {
        receive_buffer: 60 * 1024,
        send_buffer: 32 * 1024,
        ..Config::default()
    };
    Conformance::new()
        .with_layer(PseudoTcpLayer::new(config))
        .run(MemoryDatagram::new());
}
