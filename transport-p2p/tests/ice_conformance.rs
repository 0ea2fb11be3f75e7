//! ICE passes the suite that every transport must pass.

#![allow(clippy::unwrap_used)]

use session_core::testing::Conformance;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use transport_p2p::ice::{IceConfig, IceTransportFactory};

#[test]
fn with_one_address() {
    let config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    Conformance::new().run(IceTransportFactory::new(config));
}

#[test]
fn with_four_addresses_and_two_dead_servers() {
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
    config.tell_end = true;
    let conformance = Conformance {
        seeds: 3,
        ..Conformance::new()
    };
    conformance.run(IceTransportFactory::new(config));
}

#[test]
fn with_candidates_over_tcp() {
    let mut config = IceConfig::new(vec![IpAddr::V4(Ipv4Addr::LOCALHOST)]);
    config.hide_by_name = true;
    let conformance = Conformance {
        seeds: 3,
        ..Conformance::new()
    };
    conformance.run(IceTransportFactory::with_tcp(config));
}
