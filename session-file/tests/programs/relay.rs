//! A relay that goes away while it carries a file.

#[allow(
    dead_code,
    unreachable_pub,
    reason = "it is shared with the tests of relays, which use all of it"
)]
#[path = "../../../transport-relay/tests/coturn/server.rs"]
mod server;

use super::kit::{Place, bytes, sha256};
use server::{Coturn, Login, USER};
use std::{
    net::{IpAddr, Ipv4Addr, UdpSocket},
    thread,
    time::Duration,
};

/// The address that programs gather from; it is enough to ask for a way, nothing is sent.
fn own_address() -> IpAddr {
    let local = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(("192.0.2.1", 9))?;
        socket.local_addr()
    });
    local.map_or_else(|_| Ipv4Addr::LOCALHOST.into(), |address| address.ip())
}

/// It knows none of the allocations any more when it is back.
#[test]
fn a_relay_that_is_killed_and_restarted_does_not_stop_a_file() {
    let Some(mut relay) = Coturn::start_at(own_address(), Login::LongTerm, "") else {
        return;
    };
    let place = Place::new("relay");
    let path = place.write("out/file", &bytes(24_000_000, 8));
    let turn = format!("turn:{}:{}@{}", USER.0, USER.1, relay.address);
    let way = ["--transports", "ice", "--relay-only", "--turn", &turn];
    let mut receiver = place.receiver("bob", "in", &[&way[..], &["--count", "1"]].concat());
    let words = ["send", &path, "bob@localhost", "--limit", "4M"];
    let sender = place.run("alice", &[&words[..], &way[..]].concat());
    for _ in 0..2 {
        receiver.event("progress");
    }
    relay.kill();
    thread::sleep(Duration::from_secs(1));
    relay.restart();
    let ended = sender.succeed();
    let sent = ended.event("sent");
    assert_eq!(sent["confirmed"], true, "{sent}");
    assert_eq!(sent["offset"], 0, "in the same transfer: {sent}");
    assert!(sent["path"].as_str().unwrap().contains("relay"), "{sent}");
    receiver.succeed();
    assert_eq!(sha256(&place.path("in/file")), sha256(path.as_ref()));
    place.assert_clean("in");
}
