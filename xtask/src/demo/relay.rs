//! A relay for the demo: the TURN server of webrtc-rs, on loopback, for as long as the demo lasts.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use transport_relay::turn::{Credentials, TurnProtocol, TurnServer};
use turn::auth::{AuthHandler, generate_auth_key};
use turn::relay::relay_static::RelayAddressGeneratorStatic;
use turn::server::Server;
use turn::server::config::{ConnConfig, ServerConfig};
use webrtc_util::vnet::net::Net;

use crate::tools::Failure;

const REALM: &str = "demo.example";
const USER: &str = "demo";
/// It never leaves the machine, and the relay ends with the demo.
const PASSWORD: &str = "relayed";

/// A relay that runs.
pub(super) struct Relay {
    server: Server,
    address: SocketAddr,
}

struct OneUser;

impl AuthHandler for OneUser {
    fn auth_handle(
        &self,
        username: &str,
        realm: &str,
        _: SocketAddr,
    ) -> Result<Vec<u8>, turn::Error> {
        if username == USER {
            Ok(generate_auth_key(username, realm, PASSWORD))
        } else {
            Err(turn::Error::ErrNoSuchUser)
        }
    }
}

impl Relay {
    /// Starts one.
    pub(super) async fn start() -> Result<Self, Failure> {
        let failed = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(
                format!("start a relay on loopback: {what}"),
                error.to_string(),
                "leave out --only turn: the other ways need no relay",
            )
        };
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let socket = UdpSocket::bind((loopback, 0)).await;
        let socket = socket.map_err(|error| failed("bind a socket", &error))?;
        let address = socket.local_addr();
        let address = address.map_err(|error| failed("learn its address", &error))?;
        let relayed = RelayAddressGeneratorStatic {
            relay_address: loopback,
            address: loopback.to_string(),
            net: Arc::new(Net::new(None)),
        };
        let config = ServerConfig {
            conn_configs: vec![ConnConfig {
                conn: Arc::new(socket),
                relay_addr_generator: Box::new(relayed),
            }],
            realm: REALM.to_owned(),
            auth_handler: Arc::new(OneUser),
            // Its own default.
            channel_bind_timeout: Duration::ZERO,
            alloc_close_notify: None,
        };
        let server = Server::new(config).await;
        let server = server.map_err(|error| failed("the server", &error))?;
        Ok(Self { server, address })
    }

    /// How an agent finds it.
    pub(super) fn turn_server(&self) -> TurnServer {
        let credentials = Credentials::new(USER, PASSWORD);
        TurnServer::new(self.address, TurnProtocol::Udp, credentials)
    }

    /// Ends it.
    pub(super) async fn stop(self) {
        // What it still holds ends with the process in any case.
        let _ = self.server.close().await;
    }
}
