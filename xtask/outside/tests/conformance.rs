//! The suite that every transport must pass.

#[test]
fn hello_udp_is_a_transport() {
    let interface = std::net::Ipv4Addr::LOCALHOST.into();
    session_core::testing::conformance(outside::hello_udp::HelloUdp(interface));
}
