//! Raw UDP: each side says one address, and datagrams go there. No checks, no NAT traversal, no encryption.
//!
//! Hit or miss: it works between hosts that reach each other directly, towards gateways and relays, and in tests. For
//! everything else there is ICE. Two vocabularies say the same:
//!
//! - [`RawUdp`]: XEP-0177, `urn:xmpp:jingle:transports:raw-udp:1`. A `<candidate component= id= ip= port=
//!   generation=/>` for each channel. The channel whose name ends in `rtcp` is component 2; others are numbered from
//!   1 in the order in which they are created, which both sides must share.
//! - [`GoogleRawUdp`]: libjingle 0.4's `http://www.google.com/transport/raw-udp`. The offer says two things about
//!   symmetric NATs, and each channel one `<channel name= address= port=/>`.
//!
//! # Which address is said
//! That to which the socket was bound ([`Bind`] says which for new transports), or [`with_advertised`](RawUdp::with_advertised): the outside of a port
//! forwarding, say. If the port of what is said is known beforehand, it is in the offer or answer, as XEP-0177 §4.2
//! wants it (and component 2 takes the next port); otherwise it follows in a transport-info as soon as the system has
//! chosen a port.
//!
//! # Whose datagrams are taken
//! Those from the address that the peer has said. libjingle took them from anybody. Addresses are judged by
//! libjingle's rules: numeric, no 0.0.0.0, no loopback (unless we are bound to it ourselves), no multicast, and no
//! port below 1024 but 80 and 443 on public addresses, so that nobody can make us talk to a system service.

mod channel;
mod google;
mod jingle;

pub use self::{
    google::{GOOGLE_NAMESPACE, GoogleRawUdp},
    jingle::{NAMESPACE, RawUdp},
};

use session_core::{Element, TransportError};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

/// Where new transports of a factory open their sockets, shared with whoever knows when this host gets another address. Cheap to
/// clone.
#[derive(Clone, Debug)]
pub struct Bind(Arc<Mutex<SocketAddr>>);

impl Bind {
    fn new(address: SocketAddr) -> Self {
        Self(Arc::new(Mutex::new(address)))
    }

    /// Another one from now on. Transports that there are already keep that of their time.
    pub fn set(&self, address: SocketAddr) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = address;
    }

    fn get(&self) -> SocketAddr {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where to open sockets, and what to say.
#[derive(Clone, Copy, Debug)]
struct Settings {
    bind: SocketAddr,
    advertised: Option<SocketAddr>,
}

impl Settings {
    /// Where the channel with this index, from 0, opens its socket.
    fn bind(&self, index: u16) -> SocketAddr {
        shifted(self.bind, index)
    }

    /// What the channel with this index says when its socket is at `bound`; `None` if that is no address that a peer
    /// could use.
    fn told(&self, index: u16, bound: SocketAddr) -> Option<SocketAddr> {
        let mut told = match self.advertised {
            Some(advertised) => shifted(advertised, index),
            None => bound,
        };
        if told.port() == 0 {
            told.set_port(bound.port());
        }
        (!told.ip().is_unspecified() && told.port() != 0).then_some(told)
    }

    /// What the channel with this index will say, if that is known before its socket is there.
    fn foretold(&self, index: u16) -> Option<SocketAddr> {
        self.told(index, self.bind(index))
    }

    /// Whether we could send to this address, and should.
    fn judge(&self, peer: SocketAddr) -> Result<(), TransportError> {
        if peer.is_ipv4() != self.bind.is_ipv4() {
            return Err(TransportError::Unacceptable(
                "the peer's address is of the other family",
            ));
        }
        judge(peer, self.bind.ip().is_loopback())
    }
}

/// The port of the channel with this index; 0 stays 0.
fn shifted(mut address: SocketAddr, index: u16) -> SocketAddr {
    if address.port() != 0 {
        address.set_port(address.port().saturating_add(index));
    }
    address
}

/// The common rules for addresses that a peer names (libjingle transport.cc).
fn judge(peer: SocketAddr, loopback: bool) -> Result<(), TransportError> {
    let (ip, port) = (peer.ip(), peer.port());
    if ip.is_unspecified() || port == 0 {
        return Err(TransportError::Malformed {
            field: "address",
            problem: "no host has this address or port",
        });
    }
    if ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(TransportError::Unacceptable("an address of many hosts"));
    }
    if ip.is_loopback() && !loopback {
        return Err(TransportError::Unacceptable("the loopback address"));
    }
    if port < 1024 && (!matches!(port, 80 | 443) || is_private(ip)) {
        return Err(TransportError::Unacceptable("the port of a system service"));
    }
    Ok(())
}

fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_private() || ip.is_link_local() || ip.is_loopback(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_loopback(),
    }
}

/// The address in two attributes.
fn address(
    element: &Element,
    ip: &'static str,
    port: &'static str,
) -> Result<SocketAddr, TransportError> {
    let malformed = |field, problem| TransportError::Malformed { field, problem };
    let host: IpAddr = element
        .attribute(ip)
        .ok_or_else(|| malformed(ip, "missing"))?
        .parse()
        .map_err(|_| malformed(ip, "not a numeric address"))?;
    let number = element
        .attribute(port)
        .ok_or_else(|| malformed(port, "missing"))?
        .parse()
        .map_err(|_| malformed(port, "not a port number"))?;
    Ok(SocketAddr::new(host.to_canonical(), number))
}

/// Checks the element that every offer, answer and info is.
fn expect_transport(namespace: &str, element: &Element) -> Result<(), TransportError> {
    if element.is(namespace, "transport") {
        return Ok(());
    }
    Err(TransportError::Malformed {
        field: "transport",
        problem: "another name or namespace",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepts(address: &str, loopback: bool) -> bool {
        judge(address.parse().unwrap(), loopback).is_ok()
    }

    #[test]
    fn addresses_are_judged_as_libjingle_did() {
        for (address, fine) in [
            ("198.51.100.7:4000", true),
            ("198.51.100.7:80", true),
            ("198.51.100.7:443", true),
            ("198.51.100.7:53", false),
            ("198.51.100.7:1023", false),
            ("10.1.2.3:1024", true),
            ("10.1.2.3:80", false),
            ("192.168.7.7:443", false),
            ("0.0.0.0:4000", false),
            ("198.51.100.7:0", false),
            ("127.0.0.1:4000", false),
            ("224.0.0.251:5353", false),
            ("255.255.255.255:4000", false),
            ("[2001:db8::1]:4000", true),
            ("[fd00::1]:80", false),
            ("[::]:4000", false),
            ("[::1]:4000", false),
            ("[ff02::fb]:5353", false),
        ] {
            assert_eq!(accepts(address, false), fine, "{address}");
        }
        assert!(accepts("127.0.0.1:4000", true));
        assert!(!accepts("127.0.0.1:80", true));
    }

    #[test]
    fn what_is_said_is_what_the_peer_can_use() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        let any = Settings {
            bind: at("0.0.0.0:0"),
            advertised: None,
        };
        assert_eq!(any.told(0, at("0.0.0.0:5000")), None);
        assert_eq!(any.foretold(0), None);
        let forwarded = Settings {
            bind: at("0.0.0.0:5000"),
            advertised: Some(at("203.0.113.9:6000")),
        };
        assert_eq!(forwarded.bind(1), at("0.0.0.0:5001"));
        assert_eq!(forwarded.foretold(1), Some(at("203.0.113.9:6001")));
        let host_known = Settings {
            bind: at("0.0.0.0:0"),
            advertised: Some(at("203.0.113.9:0")),
        };
        assert_eq!(host_known.foretold(0), None);
        assert_eq!(
            host_known.told(0, at("0.0.0.0:5000")),
            Some(at("203.0.113.9:5000"))
        );
    }
}
