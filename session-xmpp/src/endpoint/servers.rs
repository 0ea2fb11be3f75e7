//! The STUN and TURN servers of a domain, as its SRV records say (RFC 8489 §8.1, RFC 8656 §3.2).

use hickory_resolver::{TokioResolver, proto::rr::RData};
use session_core::SocketError;
use std::{cmp::Reverse, net::SocketAddr, sync::Arc};

/// Records of one service, and addresses of one host, that are looked at.
const RECORDS_MAX: usize = 8;

/// What a server does, and how it is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum IceService {
    /// STUN over UDP.
    Stun,
    /// TURN over UDP.
    Turn,
    /// TURN over TCP.
    TurnTcp,
    /// TURN over TLS.
    TurnTls,
}

impl IceService {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Stun, "_stun._udp"),
        (Self::Turn, "_turn._udp"),
        (Self::TurnTcp, "_turn._tcp"),
        (Self::TurnTls, "_turns._tcp"),
    ];
}

/// A server for ICE: what an application puts into the configuration of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct IceServer {
    /// What it does.
    pub service: IceService,
    /// Its name, for which its certificate is made.
    pub host: Arc<str>,
    /// One of its addresses.
    pub address: SocketAddr,
}

/// The servers that a domain names, by service, and within each by priority and then by weight, the greater first. None
/// is no error: most domains name none.
///
/// # Errors
/// When the system has no resolver.
pub async fn ice_servers(domain: &str) -> Result<Vec<IceServer>, SocketError> {
    let resolver = TokioResolver::builder_tokio().and_then(|builder| builder.build());
    let resolver = resolver.map_err(|error| SocketError {
        what: "the resolver",
        why: error.to_string().into(),
    })?;
    Ok(look_up(&resolver, domain).await)
}

async fn look_up(resolver: &TokioResolver, domain: &str) -> Vec<IceServer> {
    let [a, b, c, d] = IceService::ALL.map(|(service, name)| async move {
        let name = format!("{name}.{}.", domain.trim_end_matches('.'));
        of_service(resolver, service, name).await
    });
    let (a, b, c, d) = tokio::join!(a, b, c, d);
    [a, b, c, d].concat()
}

async fn of_service(resolver: &TokioResolver, service: IceService, name: String) -> Vec<IceServer> {
    let Ok(found) = resolver.srv_lookup(name).await else {
        return Vec::new();
    };
    let mut records: Vec<_> = found
        .answers()
        .iter()
        .filter_map(|record| {
            let RData::SRV(srv) = &record.data else {
                return None;
            };
            Some((
                srv.priority,
                Reverse(srv.weight),
                srv.port,
                srv.target.clone(),
            ))
        })
        .take(RECORDS_MAX)
        .collect();
    records.sort();
    let mut servers = Vec::new();
    for (_, _, port, target) in records {
        let host: Arc<str> = target.to_ascii().trim_end_matches('.').into();
        // A target of one dot says that there is no such service (RFC 2782).
        if host.is_empty() {
            continue;
        }
        let Ok(addresses) = resolver.lookup_ip(target).await else {
            continue;
        };
        servers.extend(addresses.iter().take(RECORDS_MAX).map(|ip| IceServer {
            service,
            host: host.clone(),
            address: SocketAddr::new(ip, port),
        }));
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_resolver::{
        config::{ConnectionConfig, NameServerConfig, ResolverConfig},
        net::runtime::TokioRuntimeProvider,
    };
    use std::net::{IpAddr, Ipv4Addr};
    use tokio::net::UdpSocket;

    fn name(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in text.split('.').filter(|label| !label.is_empty()) {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label.as_bytes());
        }
        bytes.push(0);
        bytes
    }

    fn srv(priority: u16, weight: u16, port: u16, target: &str) -> (u16, Vec<u8>) {
        let numbers = [priority, weight, port].map(u16::to_be_bytes).concat();
        (33, [numbers, name(target)].concat())
    }

    /// What the zone of the test says.
    fn zone(asked: &str, kind: u16) -> Vec<(u16, Vec<u8>)> {
        match (asked, kind) {
            ("_stun._udp.example.org", 33) => vec![
                srv(20, 0, 3_478, "b.example.org"),
                srv(10, 1, 3_479, "a.example.org"),
                srv(10, 9, 3_478, "a.example.org"),
            ],
            ("_turn._tcp.example.org", 33) => vec![srv(0, 0, 0, ".")],
            ("_turns._tcp.example.org", 33) => vec![srv(0, 0, 443, "a.example.org")],
            ("a.example.org", 1) => vec![(1, vec![192, 0, 2, 1])],
            ("b.example.org", 1) => vec![(1, vec![192, 0, 2, 2])],
            _ => Vec::new(),
        }
    }

    /// A name server in a few lines (RFC 1035 §4).
    async fn serve(socket: UdpSocket) {
        let mut buffer = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
            let query = &buffer[..length];
            let (mut labels, mut at) = (Vec::new(), 12);
            while query[at] != 0 {
                let end = at + 1 + usize::from(query[at]);
                labels.push(String::from_utf8_lossy(&query[at + 1..end]).to_ascii_lowercase());
                at = end;
            }
            let kind = u16::from_be_bytes([query[at + 1], query[at + 2]]);
            let answers = zone(&labels.join("."), kind);
            let mut reply = [&query[..2], &[0x85, 0x80, 0, 1]].concat();
            reply.extend((answers.len() as u16).to_be_bytes());
            reply.extend([0, 0, 0, 0]);
            reply.extend(&query[12..at + 5]);
            for (kind, data) in answers {
                reply.extend([0xc0, 12]);
                reply.extend(kind.to_be_bytes());
                reply.extend([0, 1, 0, 0, 0, 60]);
                reply.extend((data.len() as u16).to_be_bytes());
                reply.extend(data);
            }
            let _ = socket.send_to(&reply, from).await;
        }
    }

    #[tokio::test]
    #[allow(clippy::unwrap_used, reason = "a test")]
    async fn servers_come_in_the_order_of_their_records() {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut connection = ConnectionConfig::udp();
        connection.port = socket.local_addr().unwrap().port();
        let ip = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let server = NameServerConfig::new(ip, true, vec![connection]);
        let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
        let provider = TokioRuntimeProvider::default();
        let resolver = TokioResolver::builder_with_config(config, provider)
            .build()
            .unwrap();
        let task = tokio::spawn(serve(socket));
        let servers = look_up(&resolver, "example.org").await;
        task.abort();
        let found: Vec<_> = servers
            .iter()
            .map(|server| (server.service, &*server.host, server.address.to_string()))
            .collect();
        let expected = [
            (IceService::Stun, "a.example.org", "192.0.2.1:3478"),
            (IceService::Stun, "a.example.org", "192.0.2.1:3479"),
            (IceService::Stun, "b.example.org", "192.0.2.2:3478"),
            (IceService::TurnTls, "a.example.org", "192.0.2.1:443"),
        ];
        let expected = expected.map(|(service, host, at)| (service, host, at.to_owned()));
        assert_eq!(found, expected);
    }
}
