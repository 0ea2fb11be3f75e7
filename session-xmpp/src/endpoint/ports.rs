//! Ports of the router in front of us that lead to our sockets: PCP (RFC 6887), NAT-PMP (RFC 6886) and UPnP IGD.

use crab_nat::{InternetProtocol, PortMapping, PortMappingOptions, PortMappingType, TimeoutConfig};
use igd_next::{
    PortMappingProtocol, SearchOptions,
    aio::{Gateway, tokio::Tokio},
};
use session_core::BindKind;
use std::{
    future::Future,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    num::NonZeroU16,
    pin::pin,
    time::Duration,
};
use thiserror::Error;
use tokio::time::sleep;
use tracing::debug;

/// How long a port is asked for. It is renewed after half of what was granted.
const LIFETIME: Duration = Duration::from_secs(1_200);
/// How long a router of PCP or NAT-PMP is asked before UPnP is tried beside it.
const HEAD_START: Duration = Duration::from_millis(250);
/// How long one is looked for in all.
const PATIENCE: Duration = Duration::from_secs(5);
/// A router that is there answers in milliseconds: 250 ms, 500 ms and 1 s are waited for it.
const TIMING: TimeoutConfig = TimeoutConfig {
    initial_timeout: Duration::from_millis(250),
    max_retries: 2,
    max_retry_timeout: Some(Duration::from_secs(1)),
};
/// What the router's list shows of us.
const DESCRIPTION: &str = "peer-to-peer session";

/// Asks the router in front of us for ports that lead to sockets of ours.
///
/// PCP is tried first, then NAT-PMP where the router says so, and UPnP beside them after a quarter of a second; the first
/// that succeeds is used. Nothing is sent until a channel asks
/// ([`Inquiry::MapPort`](session_core::Inquiry::MapPort)).
#[derive(Clone, Debug)]
pub struct PortMapper {
    gateway: Option<IpAddr>,
    search: SocketAddr,
}

/// A port of the router that leads to a socket, until its lease ends.
#[derive(Debug)]
pub struct MappedPort {
    external: SocketAddr,
    lease: Lease,
}

/// Why there is no such port.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PortError {
    /// The socket has no port, or is not for IPv4.
    #[error("{0} is no address that a router could map a port to")]
    Address(SocketAddr),
    /// Nobody gave one.
    #[error("no router gives a port (PCP and NAT-PMP: {pcp}; UPnP: {upnp})")]
    Refused {
        /// What became of PCP and NAT-PMP.
        pcp: String,
        /// What became of UPnP.
        upnp: String,
    },
}

#[derive(Debug)]
enum Lease {
    Asked(Box<PortMapping>),
    Upnp {
        gateway: Box<Gateway<Tokio>>,
        protocol: PortMappingProtocol,
        local: SocketAddr,
        port: u16,
    },
}

impl Default for PortMapper {
    fn default() -> Self {
        Self {
            gateway: None,
            search: SocketAddr::from(([239, 255, 255, 250], 1900)),
        }
    }
}

impl PortMapper {
    /// Asks the default gateway of the system by PCP and NAT-PMP (on Linux, which tells who that is), and whoever answers
    /// by UPnP.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks this router by PCP and NAT-PMP.
    #[must_use]
    pub fn with_gateway(mut self, gateway: IpAddr) -> Self {
        self.gateway = Some(gateway);
        self
    }

    /// Asks this router by UPnP instead of whoever answers at the multicast address of SSDP.
    #[must_use]
    pub fn with_search(mut self, search: SocketAddr) -> Self {
        self.search = search;
        self
    }

    /// A port that leads to the socket with this address. It ends with its lease, after at most twenty minutes, unless
    /// [`MappedPort::keep_until`] runs.
    ///
    /// # Errors
    /// [`PortError`], after at most five seconds.
    pub async fn map(&self, kind: BindKind, local: SocketAddr) -> Result<MappedPort, PortError> {
        let (IpAddr::V4(_), Some(port)) = (local.ip(), NonZeroU16::new(local.port())) else {
            return Err(PortError::Address(local));
        };
        let mut pcp = pin!(limited(self.ask(kind, local.ip(), port)));
        let mut upnp = pin!(limited(async {
            sleep(HEAD_START).await;
            self.find(kind, local).await
        }));
        let refused = |pcp, upnp| PortError::Refused { pcp, upnp };
        tokio::select! {
            found = &mut pcp => match found {
                Ok(port) => Ok(port),
                Err(pcp) => upnp.await.map_err(|upnp| refused(pcp, upnp)),
            },
            found = &mut upnp => match found {
                Ok(port) => Ok(port),
                Err(upnp) => pcp.await.map_err(|pcp| refused(pcp, upnp)),
            },
        }
    }

    /// By PCP or NAT-PMP.
    async fn ask(
        &self,
        kind: BindKind,
        client: IpAddr,
        port: NonZeroU16,
    ) -> Result<MappedPort, String> {
        let gateway = self.gateway.or_else(default_gateway);
        let gateway = gateway.ok_or("the system does not tell who the router is")?;
        let protocol = match kind {
            BindKind::Udp => InternetProtocol::Udp,
            BindKind::TcpListener | BindKind::TcpReserved => InternetProtocol::Tcp,
        };
        let options = PortMappingOptions {
            external_port: Some(port),
            lifetime_seconds: Some(LIFETIME.as_secs() as u32),
            timeout_config: Some(TIMING),
        };
        let mapping = PortMapping::new(gateway.into(), client, protocol, port, options)
            .await
            .map_err(|error| error.to_string())?;
        let ip = match mapping.mapping_type() {
            PortMappingType::Pcp { external_ip, .. } => external_ip,
            PortMappingType::NatPmp => {
                crab_nat::natpmp::external_address(gateway.into(), Some(TIMING))
                    .await
                    .map_err(|error| error.to_string())?
                    .into()
            }
        };
        let external = usable(ip, mapping.external_port().get())?;
        let lease = Lease::Asked(Box::new(mapping));
        Ok(MappedPort { external, lease })
    }

    /// By UPnP.
    async fn find(&self, kind: BindKind, local: SocketAddr) -> Result<MappedPort, String> {
        let mut options = SearchOptions::default();
        options.bind_addr = SocketAddr::new(local.ip(), 0);
        options.broadcast_address = self.search;
        options.timeout = Some(PATIENCE);
        if !self.search.ip().is_multicast() {
            // Who names a router trusts it, wherever it is.
            options.allowed_gateway_ips.push(self.search.ip());
        }
        let gateway = igd_next::aio::tokio::search_gateway(options)
            .await
            .map_err(|error| error.to_string())?;
        let protocol = match kind {
            BindKind::Udp => PortMappingProtocol::UDP,
            BindKind::TcpListener | BindKind::TcpReserved => PortMappingProtocol::TCP,
        };
        let seconds = LIFETIME.as_secs() as u32;
        let found = gateway
            .get_any_address(protocol, local, seconds, DESCRIPTION)
            .await
            .map_err(|error| error.to_string())?;
        let external = usable(found.ip(), found.port())?;
        let lease = Lease::Upnp {
            gateway: Box::new(gateway),
            protocol,
            local,
            port: found.port(),
        };
        Ok(MappedPort { external, lease })
    }
}

impl MappedPort {
    /// Who sends to this address reaches the socket.
    pub fn external(&self) -> SocketAddr {
        self.external
    }

    /// Renews the lease until `closed` is ready, and gives the port back then. Ends early when the router no longer
    /// renews it, after which the port leads nowhere.
    pub async fn keep_until(mut self, closed: impl Future) {
        let mut closed = pin!(closed);
        let mut failures = 0;
        while failures < 3 {
            // A failure is tried again before the lease is over.
            let pause = self.granted() / if failures == 0 { 2 } else { 8 };
            tokio::select! {
                _ = &mut closed => {
                    self.give_back().await;
                    return;
                }
                () = sleep(pause) => {}
            }
            match self.renew().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    debug!(%error, external = %self.external, "the router does not renew a port");
                    failures += 1;
                }
            }
        }
    }

    fn granted(&self) -> Duration {
        match &self.lease {
            Lease::Asked(mapping) => Duration::from_secs(mapping.lifetime().max(8).into()),
            Lease::Upnp { .. } => LIFETIME,
        }
    }

    async fn renew(&mut self) -> Result<(), String> {
        match &mut self.lease {
            Lease::Asked(mapping) => mapping.renew().await.map_err(|error| error.to_string()),
            Lease::Upnp {
                gateway,
                protocol,
                local,
                port,
            } => {
                let seconds = LIFETIME.as_secs() as u32;
                gateway
                    .add_port(*protocol, *port, *local, seconds, DESCRIPTION)
                    .await
                    .map_err(|error| error.to_string())
            }
        }
    }

    async fn give_back(self) {
        let outcome = match self.lease {
            Lease::Asked(mapping) => mapping.try_drop().await.map_err(|(e, _)| e.to_string()),
            Lease::Upnp {
                gateway,
                protocol,
                port,
                ..
            } => gateway
                .remove_port(protocol, port)
                .await
                .map_err(|error| error.to_string()),
        };
        if let Err(error) = outcome {
            debug!(%error, external = %self.external, "the router does not take a port back");
        }
    }
}

async fn limited<T>(asking: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let outcome = tokio::time::timeout(PATIENCE, asking).await;
    outcome.unwrap_or_else(|_| Err("no answer".to_owned()))
}

/// An external address that somebody could send to.
fn usable(ip: IpAddr, port: u16) -> Result<SocketAddr, String> {
    if ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || port == 0 {
        return Err(format!(
            "the router names {ip} port {port}, where nobody is"
        ));
    }
    Ok(SocketAddr::new(ip, port))
}

/// The router of the default route over IPv4, as Linux tells it.
fn default_gateway() -> Option<IpAddr> {
    gateway_in(&std::fs::read_to_string("/proc/net/route").ok()?)
}

/// The lines are: interface, destination, gateway, flags and more, addresses as hexadecimal numbers in the order of the
/// host. The route with the lowest metric is used.
fn gateway_in(routes: &str) -> Option<IpAddr> {
    const HAS_GATEWAY: u32 = 0x2;
    let best = routes.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |at: usize| u32::from_str_radix(fields.get(at)?, 16).ok();
        let metric: u32 = fields.get(6)?.parse().ok()?;
        let is_default = number(1)? == 0 && number(7)? == 0;
        let gateway = Ipv4Addr::from(number(2)?.to_ne_bytes());
        (is_default && number(3)? & HAS_GATEWAY != 0).then_some((metric, gateway))
    });
    best.min().map(|(_, gateway)| gateway.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_router_is_in_the_table_of_routes() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            wlan0\t00000000\t0100000A\t0003\t0\t0\t50\t00000000\t0\t0\t0\n\
            eth0\t0000A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0\n\
            short line\n";
        if cfg!(target_endian = "little") {
            assert_eq!(gateway_in(table), Some([10, 0, 0, 1].into()));
        }
        assert_eq!(gateway_in(""), None);
    }

    #[test]
    fn addresses_where_nobody_is_are_refused() {
        for (ip, port) in [
            ("0.0.0.0", 1),
            ("127.0.0.1", 1),
            ("224.0.0.1", 1),
            ("192.0.2.1", 0),
        ] {
            assert!(usable(ip.parse().unwrap(), port).is_err(), "{ip}");
        }
        assert!(usable("192.0.2.1".parse().unwrap(), 5).is_ok());
    }
}
