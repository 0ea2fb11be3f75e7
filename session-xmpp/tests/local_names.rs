//! Names of the local network over real sockets, on loopback.

#![cfg(feature = "mdns")]
#![allow(clippy::unwrap_used)]

#[path = "inquiries/asking.rs"]
mod asking;

use asking::Asking;
use session_core::{ChannelOutput, Finding, Inquiry};
use session_xmpp::endpoint::{LocalNames, Options};
use std::{
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use tokio::time::timeout;

fn names() -> LocalNames {
    LocalNames::new()
        .and_then(LocalNames::with_loopback)
        .unwrap()
}

#[tokio::test]
async fn what_one_announces_another_finds() {
    let (one, other) = (names(), names());
    let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let name = one.announce(address).unwrap();
    assert!(name.ends_with(".local"), "{name}");
    assert_ne!(
        one.announce(address).unwrap(),
        name,
        "a name for each who asks"
    );
    let found = timeout(Duration::from_secs(3), other.look_up(&name)).await;
    assert_eq!(found, Ok(Some(address)));
}

#[tokio::test]
async fn what_nobody_announces_is_not_found() {
    let names = names();
    assert_eq!(
        names.look_up("example.org").await,
        None,
        "not of the local network"
    );
    let nobody = names.look_up("00000000-0000-4000-8000-000000000000.local");
    assert_eq!(timeout(Duration::from_secs(8), nobody).await, Ok(None));
}

/// A channel hides an address, looks up the name that it got, and is writable once that leads back.
#[tokio::test]
async fn a_channel_asks_through_its_endpoint() {
    let asking = Asking {
        first: || {
            let hide = Inquiry::HideAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
            ChannelOutput::Inquire(1, hide)
        },
        bound: || None,
        found: |inquiry, finding| match (inquiry, finding) {
            (1, Finding::Name(name)) => Some(ChannelOutput::Inquire(2, Inquiry::LocalName(name))),
            (2, Finding::Address(ip)) if ip.is_loopback() => Some(ChannelOutput::Writable(true)),
            _ => None,
        },
    };
    let options = || {
        let mut options = Options::default();
        options.local_names = Some(names());
        options
    };
    drop(asking::call(asking, options).await);
}
