//! SOCKS5 bytestreams in the suite that every transport must pass.

use session_core::testing::Conformance;
use std::net::{IpAddr, Ipv4Addr};
use transport_relay::s5b::{S5b, S5bConfig};

/// A connection tells only by what the application misses that its peer is gone.
fn suite() -> Conformance {
    Conformance {
        notices_within: None,
        ..Conformance::new()
    }
}

#[test]
fn both_listen() {
    let config = S5bConfig {
        listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ..S5bConfig::default()
    };
    suite().run(S5b::new(config));
}
