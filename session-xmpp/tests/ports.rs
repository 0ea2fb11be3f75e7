//! Ports of a router: one that speaks NAT-PMP, one that speaks UPnP, none; and the way from a channel to the router and back.
#![cfg(feature = "port-mapping")]
#![allow(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test may"
)]

#[path = "inquiries/asking.rs"]
mod asking;
#[path = "inquiries/routers.rs"]
mod routers;

use asking::Asking;
use routers::{Igd, NatPmp};
use session_core::{BindKind, ChannelOutput, Finding, Inquiry, LocalSocket};
use session_xmpp::endpoint::{Options, PortError, PortMapper};
use std::{net::SocketAddr, time::Duration};
use tokio::{net::UdpSocket, sync::oneshot, time::timeout};

const LONG: Duration = Duration::from_secs(60);

/// Where nobody answers, and the system says so at once.
async fn nowhere() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.local_addr().unwrap()
}

async fn local() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

#[tokio::test]
async fn a_router_of_nat_pmp_gives_a_port_renews_it_and_takes_it_back() {
    // So short a lease that it is renewed at once.
    let router = NatPmp::start(8).await;
    let mapper = PortMapper::new()
        .with_gateway(router.address)
        .with_search(nowhere().await);
    let (_socket, address) = local().await;
    let port = timeout(LONG, mapper.map(BindKind::Udp, address))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        port.external(),
        SocketAddr::new([203, 0, 113, 7].into(), address.port())
    );
    let (close, closed) = oneshot::channel::<()>();
    let keeping = tokio::spawn(port.keep_until(closed));
    timeout(
        LONG,
        router.until(|asked| asked.iter().filter(|l| **l > 0).count() >= 2),
    )
    .await
    .unwrap();
    drop(close);
    timeout(LONG, keeping).await.unwrap().unwrap();
    assert_eq!(
        router.asked().last(),
        Some(&0),
        "a lifetime of nothing gives it back"
    );
}

#[tokio::test]
async fn a_router_of_upnp_gives_a_port_and_takes_it_back() {
    let router = Igd::start().await;
    // Nobody speaks PCP there.
    let mapper = PortMapper::new()
        .with_gateway([127, 0, 0, 1].into())
        .with_search(router.search);
    let (_socket, address) = local().await;
    let port = timeout(LONG, mapper.map(BindKind::TcpListener, address))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        port.external().ip(),
        std::net::IpAddr::from([203, 0, 113, 9])
    );
    let (close, closed) = oneshot::channel::<()>();
    drop(close);
    timeout(LONG, port.keep_until(closed)).await.unwrap();
    let said = router.said();
    let actions: Vec<_> = said.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(
        actions,
        [
            "GetExternalIPAddress",
            "AddPortMapping",
            "DeletePortMapping"
        ]
    );
    let (_, added) = &said[1];
    assert!(added.contains("<NewProtocol>TCP</NewProtocol>"), "{added}");
    let inside = format!("<NewInternalPort>{}</NewInternalPort>", address.port());
    assert!(added.contains(&inside), "{added}");
}

#[tokio::test]
async fn without_a_router_it_says_what_was_tried() {
    let mapper = PortMapper::new()
        .with_gateway([127, 0, 0, 1].into())
        .with_search(nowhere().await);
    let (_socket, address) = local().await;
    let error = timeout(LONG, mapper.map(BindKind::Udp, address))
        .await
        .unwrap()
        .unwrap_err();
    assert!(matches!(error, PortError::Refused { .. }), "{error}");
    let six = SocketAddr::from(([0_u16, 0, 0, 0, 0, 0, 0, 1], 5));
    let error = mapper.map(BindKind::Udp, six).await.unwrap_err();
    assert_eq!(error, PortError::Address(six));
}

/// A channel binds a socket, asks for a port of the router, and gives it back with the socket.
#[tokio::test]
async fn a_channel_asks_through_its_endpoint() {
    let router = NatPmp::start(1_200).await;
    let (gateway, search) = (router.address, nowhere().await);
    let asking = Asking {
        first: || {
            let address = SocketAddr::from(([127, 0, 0, 1], 0));
            ChannelOutput::Bind(LocalSocket(0), BindKind::Udp, address)
        },
        bound: || {
            let ask = Inquiry::MapPort(LocalSocket(0));
            Some(ChannelOutput::Inquire(1, ask))
        },
        found: |_, finding| match finding {
            Finding::Mapped(address)
                if address.ip() == std::net::IpAddr::from([203, 0, 113, 7]) =>
            {
                Some(ChannelOutput::Writable(true))
            }
            _ => None,
        },
    };
    let options = || {
        let mut options = Options::default();
        options.port_mapper = Some(PortMapper::new().with_gateway(gateway).with_search(search));
        options
    };
    let endpoints = asking::call(asking, options).await;
    let given = |asked: &[u32], wanted| asked.iter().filter(|l| wanted == (**l == 0)).count();
    timeout(LONG, router.until(|asked| given(asked, false) == 2))
        .await
        .unwrap();
    drop(endpoints);
    timeout(LONG, router.until(|asked| given(asked, true) == 2))
        .await
        .unwrap();
}
