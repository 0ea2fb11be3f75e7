//! Networks behind networks: NATs in a tree whose root is the internet, and what firewalls let through.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// How a host is connected: not at all hidden, behind NATs that do with mappings and with what comes in as RFC 4787 says,
/// or behind firewalls and proxies. The twelve of libjingle's own test (`p2p/base/p2ptransportchannel_unittest.cc`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    None,
    Full,
    Address,
    Port,
    Symmetric,
    /// No UDP at all.
    Blocked,
    /// Two full cones, one behind the other.
    DoubleCone,
    /// A symmetric one behind a full cone.
    SymmetricCone,
    /// No UDP, and no TCP connection comes in.
    BlockedIncoming,
    /// TCP connections to the ports of the web, and nothing else.
    WebOnly,
    /// TCP connections to the port of HTTPS, through a proxy.
    HttpsProxy,
    /// TCP connections to anywhere, through a proxy.
    SocksProxy,
}

impl Nat {
    /// Those of the lab with real NATs.
    pub const ALL: [Self; 6] = [
        Self::None,
        Self::Full,
        Self::Address,
        Self::Port,
        Self::Symmetric,
        Self::Blocked,
    ];

    /// Those of libjingle.
    pub const TWELVE: [Self; 12] = [
        Self::None,
        Self::Full,
        Self::Address,
        Self::Port,
        Self::Symmetric,
        Self::Blocked,
        Self::DoubleCone,
        Self::SymmetricCone,
        Self::BlockedIncoming,
        Self::WebOnly,
        Self::HttpsProxy,
        Self::SocksProxy,
    ];

    /// The boxes between the host and the internet, the nearest first.
    fn boxes(self) -> &'static [Self] {
        match self {
            Self::Full => &[Self::Full],
            Self::Address => &[Self::Address],
            Self::Port => &[Self::Port],
            Self::Symmetric => &[Self::Symmetric],
            Self::DoubleCone => &[Self::Full, Self::Full],
            Self::SymmetricCone => &[Self::Symmetric, Self::Full],
            _ => &[],
        }
    }

    /// Whether datagrams pass.
    pub fn has_udp(self) -> bool {
        !matches!(
            self,
            Self::Blocked
                | Self::BlockedIncoming
                | Self::WebOnly
                | Self::HttpsProxy
                | Self::SocksProxy
        )
    }

    /// Whether a TCP connection from outside reaches the host.
    pub fn is_reached_by_tcp(self) -> bool {
        matches!(self, Self::None | Self::Blocked)
    }

    /// Whether the host reaches this port outside over TCP.
    pub fn reaches_by_tcp(self, port: u16) -> bool {
        match self {
            Self::WebOnly => port == 80 || port == 443,
            Self::HttpsProxy => port == 443,
            _ => true,
        }
    }
}

/// The address of an end's only interface at first.
pub fn home(end: usize, nat: Nat) -> IpAddr {
    let end = end as u8;
    IpAddr::V4(match nat.boxes() {
        [] => Ipv4Addr::new(203, 0, 113, 100 + end),
        _ => Ipv4Addr::new(10, 0, end, 2),
    })
}

/// Who sent from where, through a NAT.
#[derive(Clone, Debug)]
struct Mapping {
    inside: SocketAddr,
    /// Only for a symmetric one.
    to: Option<SocketAddr>,
    outside: SocketAddr,
    contacted: BTreeSet<SocketAddr>,
    /// Asked for by the host: lets in everybody.
    asked: bool,
}

/// A NAT between two networks, which are numbers; 0 is the internet.
#[derive(Clone, Debug)]
struct NatBox {
    kind: Nat,
    inside: usize,
    outside: usize,
    ip: IpAddr,
    mappings: Vec<Mapping>,
}

/// All NATs.
#[derive(Clone, Debug, Default)]
pub struct Internet {
    boxes: Vec<NatBox>,
    networks: usize,
    /// The network of each end.
    homes: [usize; 2],
    /// Whether NATs let datagrams turn round that are for one of their own outside addresses.
    pub hairpins: bool,
}

/// What two ends share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shared {
    #[default]
    Nothing,
    /// The network behind the first one's NAT, which is thus both's.
    Network,
    /// A full cone, behind which each has its own.
    Cone,
}

impl Internet {
    pub fn new(nats: [Nat; 2], shared: Shared) -> Self {
        let mut this = Self::default();
        let outer = match shared {
            Shared::Cone => this.add(Nat::Full, 0, Ipv4Addr::new(203, 0, 113, 3)),
            Shared::Nothing | Shared::Network => 0,
        };
        for (end, nat) in nats.into_iter().enumerate() {
            if shared == Shared::Network && end == 1 {
                this.homes[1] = this.homes[0];
                continue;
            }
            let boxes = nat.boxes();
            let mut outside = outer;
            for (depth, kind) in boxes.iter().enumerate().rev() {
                let public = outside == 0;
                let last = 1 + end as u8;
                let ip = if public {
                    Ipv4Addr::new(203, 0, 113, last)
                } else {
                    Ipv4Addr::new(172, 16 + depth as u8, 0, last)
                };
                outside = this.add(*kind, outside, ip);
            }
            this.homes[end] = outside;
        }
        this
    }

    /// A NAT in front of a new network, whose number this is.
    fn add(&mut self, kind: Nat, outside: usize, ip: Ipv4Addr) -> usize {
        self.networks += 1;
        self.boxes.push(NatBox {
            kind,
            inside: self.networks,
            outside,
            ip: IpAddr::V4(ip),
            mappings: Vec::new(),
        });
        self.networks
    }

    /// Where a datagram of an end gets on its way out, and which source it has there. Hosts of the end's own network are
    /// reached at once.
    pub fn leave(
        &mut self,
        end: usize,
        inside: SocketAddr,
        to: SocketAddr,
        is_home: impl Fn(IpAddr, usize) -> bool,
    ) -> (usize, SocketAddr) {
        let (mut network, mut source) = (self.homes[end], inside);
        while network != 0 && !is_home(to.ip(), network) && !self.is_box(to.ip(), network) {
            let Some(at) = self.boxes.iter().position(|b| b.inside == network) else {
                break;
            };
            let nat = &mut self.boxes[at];
            source = nat.leave(source, to);
            network = nat.outside;
            if to.ip() == nat.ip && !self.hairpins {
                // It would have to turn round.
                return (usize::MAX, source);
            }
        }
        (network, source)
    }

    fn is_box(&self, ip: IpAddr, network: usize) -> bool {
        let mut boxes = self.boxes.iter();
        boxes.any(|nat| nat.outside == network && nat.ip == ip)
    }

    /// The inside address that a datagram gets to, and the network there; `None` when a NAT keeps it.
    pub fn enter(
        &mut self,
        network: usize,
        source: SocketAddr,
        to: SocketAddr,
    ) -> Option<(usize, SocketAddr)> {
        let (mut network, mut to) = (network, to);
        while let Some(nat) = self
            .boxes
            .iter_mut()
            .find(|nat| nat.outside == network && nat.ip == to.ip())
        {
            to = nat.enter(source, to)?;
            network = nat.inside;
        }
        Some((network, to))
    }

    /// The network that an end is in, and its outermost address.
    pub fn home_of(&self, end: usize) -> usize {
        self.homes[end]
    }

    /// Another way to the internet than before, without any NAT.
    pub fn move_out(&mut self, end: usize) {
        self.homes[end] = 0;
    }

    /// The address that the world sees an end at.
    pub fn outermost(&self, end: usize, inside: IpAddr) -> IpAddr {
        let (mut network, mut ip) = (self.homes[end], inside);
        while let Some(nat) = self.boxes.iter().find(|nat| nat.inside == network) {
            (network, ip) = (nat.outside, nat.ip);
        }
        ip
    }

    /// A port of the nearest NAT that leads to an inside address.
    pub fn map_port(&mut self, end: usize, inside: SocketAddr) -> Option<SocketAddr> {
        let home = self.homes[end];
        let nat = self.boxes.iter_mut().find(|nat| nat.inside == home)?;
        let outside = SocketAddr::new(nat.ip, 30_000 + nat.mappings.len() as u16);
        nat.mappings.push(Mapping {
            inside,
            to: None,
            outside,
            contacted: BTreeSet::new(),
            asked: true,
        });
        Some(outside)
    }
}

impl NatBox {
    fn leave(&mut self, inside: SocketAddr, to: SocketAddr) -> SocketAddr {
        // What answers a datagram that came by a port that was asked for leaves by it.
        let answers = |m: &&Mapping| m.asked && m.inside == inside && m.contacted.contains(&to);
        if let Some(mapping) = self.mappings.iter().find(answers) {
            return mapping.outside;
        }
        let wanted = (self.kind == Nat::Symmetric).then_some(to);
        let known = |m: &&mut Mapping| !m.asked && m.inside == inside && m.to == wanted;
        if let Some(mapping) = self.mappings.iter_mut().find(known) {
            mapping.contacted.insert(to);
            return mapping.outside;
        }
        let outside = SocketAddr::new(self.ip, 20_000 + self.mappings.len() as u16);
        self.mappings.push(Mapping {
            inside,
            to: wanted,
            outside,
            contacted: BTreeSet::from([to]),
            asked: false,
        });
        outside
    }

    fn enter(&mut self, source: SocketAddr, to: SocketAddr) -> Option<SocketAddr> {
        let mapping = self.mappings.iter_mut().find(|m| m.outside == to)?;
        if mapping.asked {
            mapping.contacted.insert(source);
            return Some(mapping.inside);
        }
        let passes = match self.kind {
            Nat::Full => true,
            Nat::Address => mapping.contacted.iter().any(|to| to.ip() == source.ip()),
            _ => mapping.contacted.contains(&source),
        };
        passes.then_some(mapping.inside)
    }
}
