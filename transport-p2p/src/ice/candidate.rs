//! Candidates, their priorities and foundations, and credentials (RFC 8445 §5).

use crate::stun::IntegrityKey;
use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    ops::Deref,
    sync::Arc,
};

/// What kind of address a candidate is (RFC 8445 §4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// Of an own interface.
    Host,
    /// As a STUN server sees it.
    ServerReflexive,
    /// As the peer sees it.
    PeerReflexive,
    /// Of a relay.
    Relayed,
}

impl CandidateKind {
    /// The preference of RFC 8445 §5.1.2.2. What goes over TCP stands below all that goes over UDP without a relay
    /// (RFC 6544 §4.2).
    pub(super) fn preference(self, protocol: Protocol) -> u32 {
        match (self, protocol) {
            (Self::Relayed, _) => 0,
            (Self::Host, Protocol::Udp) => 126,
            (Self::PeerReflexive, Protocol::Udp) => 110,
            (Self::ServerReflexive, Protocol::Udp) => 100,
            (Self::Host, _) => 90,
            (Self::PeerReflexive, _) => 80,
            (Self::ServerReflexive, _) => 70,
        }
    }

    /// The word of RFC 8839 §5.1 and XEP-0176.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::ServerReflexive => "srflx",
            Self::PeerReflexive => "prflx",
            Self::Relayed => "relay",
        }
    }

    /// The kind with this word.
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Host,
            Self::ServerReflexive,
            Self::PeerReflexive,
            Self::Relayed,
        ]
        .into_iter()
        .find(|kind| kind.as_str() == name)
    }
}

/// An address at which an agent may be reached (RFC 8445 §5.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// For which component, 1 to 256.
    pub component: u16,
    /// Equal for candidates that behave alike (RFC 8445 §5.1.1.3).
    pub foundation: Foundation,
    /// Where.
    pub address: SocketAddr,
    /// The higher the better (RFC 8445 §5.1.2).
    pub priority: u32,
    /// What kind.
    pub kind: CandidateKind,
    /// For people: the base of a reflexive candidate, the mapped address of a relayed one.
    pub related: Option<SocketAddr>,
    /// Counts restarts (XEP-0176 §5.4).
    pub generation: u32,
    /// Which interface, in no particular order.
    pub network: u32,
    /// How to get there.
    pub protocol: Protocol,
    /// What stands in place of the IP address, which is then unspecified or not to be told
    /// (draft-ietf-mmusic-mdns-ice-candidates).
    pub name: Option<Arc<str>>,
}

impl Candidate {
    /// What stands for the host: its name, else its IP address.
    pub(super) fn host(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => self.address.ip().to_string(),
        }
    }
}

/// Whether it is a name of the local network in the form of browsers
/// (draft-ietf-mmusic-mdns-ice-candidates §3.1.1): one label and `.local`.
pub(super) fn is_local_name(name: &str) -> bool {
    let label = name.strip_suffix(".local").unwrap_or("");
    let fits = |c: u8| c.is_ascii_alphanumeric() || c == b'-';
    (1..=63).contains(&label.len()) && label.bytes().all(fits)
}

/// How datagrams get to a candidate (RFC 8445 §5.1.1.1, RFC 6544 §4.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// As they are.
    #[default]
    Udp,
    /// Over TCP connections that it opens and never takes.
    TcpActive,
    /// Over TCP connections that it takes.
    TcpPassive,
    /// Over TCP connections that both sides open at the same time.
    TcpSimultaneous,
}

impl Protocol {
    /// The `tcptype` of RFC 6544 §4.5; `None` for UDP.
    pub fn tcp_type(self) -> Option<&'static str> {
        match self {
            Self::Udp => None,
            Self::TcpActive => Some("active"),
            Self::TcpPassive => Some("passive"),
            Self::TcpSimultaneous => Some("so"),
        }
    }

    /// TCP with this `tcptype`.
    pub fn from_tcp_type(name: &str) -> Option<Self> {
        [Self::TcpActive, Self::TcpPassive, Self::TcpSimultaneous]
            .into_iter()
            .find(|protocol| protocol.tcp_type() == Some(name))
    }

    /// Whether a pair can be formed of the two (RFC 6544 §6.2).
    pub(super) fn pairs_with(self, remote: Self) -> bool {
        match self {
            Self::Udp => remote == Self::Udp,
            Self::TcpActive => remote == Self::TcpPassive,
            Self::TcpPassive => remote == Self::TcpActive,
            Self::TcpSimultaneous => remote == Self::TcpSimultaneous,
        }
    }
}

/// The foundation of a candidate: a word of at most [`MAX`](Self::MAX) bytes (RFC 8839 §5.1), kept without the heap.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Foundation {
    /// Zeroes behind the word.
    bytes: [u8; Self::MAX],
    length: u8,
}

impl Foundation {
    /// Bytes at most (RFC 8839 §5.1).
    pub const MAX: usize = 32;

    /// This word; `None` when it is longer than [`MAX`](Self::MAX) bytes.
    pub fn new(word: &str) -> Option<Self> {
        let mut bytes = [0; Self::MAX];
        bytes
            .get_mut(..word.len())?
            .copy_from_slice(word.as_bytes());
        Some(Self {
            bytes,
            length: word.len() as u8,
        })
    }

    /// The word of a letter, if any, and a number.
    pub(super) fn numbered(letter: Option<u8>, number: u32) -> Self {
        let (mut digits, mut at, mut rest) = ([0; 11], 11, number);
        while at == 11 || rest > 0 {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        if let Some(letter) = letter {
            at -= 1;
            digits[at] = letter;
        }
        let mut bytes = [0; Self::MAX];
        bytes[..11 - at].copy_from_slice(&digits[at..]);
        Self {
            bytes,
            length: (11 - at) as u8,
        }
    }
}

impl Deref for Foundation {
    type Target = str;

    fn deref(&self) -> &str {
        let word = &self.bytes[..usize::from(self.length)];
        std::str::from_utf8(word).unwrap_or_default()
    }
}

impl fmt::Display for Foundation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Foundation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

/// The formula of RFC 8445 §5.1.2.1.
pub(super) fn priority(type_preference: u32, local_preference: u16, component: u16) -> u32 {
    type_preference << 24
        | u32::from(local_preference) << 8
        | 256_u32.saturating_sub(u32::from(component))
}

/// The formula of RFC 8445 §6.1.2.3.
pub(super) fn pair_priority(controlling: u32, controlled: u32) -> u64 {
    let (least, most) = (
        u64::from(controlling.min(controlled)),
        u64::from(controlling.max(controlled)),
    );
    // A peer may claim more than the 31 bits that a priority has.
    (least << 32)
        .saturating_add(2 * most)
        .saturating_add(u64::from(controlling > controlled))
}

/// Interfaces in the order of RFC 8421 §4: IPv6 and IPv4 take turns, each in the order given, so that no family waits
/// for all of the other.
pub(super) fn interleave(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut six = addresses.iter().filter(|a| a.is_ipv6());
    let mut four = addresses.iter().filter(|a| a.is_ipv4());
    let mut all = Vec::with_capacity(addresses.len());
    while all.len() < addresses.len() {
        all.extend(six.next().into_iter().chain(four.next()).copied());
    }
    all
}

/// Whether a datagram to this address can mean a single host that may be told to us by a peer.
pub(super) fn is_usable(address: SocketAddr) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    address.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast && !mapped
}

/// Whether an address says nothing outside of our own network: RFC 1918, RFC 3927, RFC 4193, RFC 4291 §2.5.6, RFC 6598.
pub(super) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_link_local() || v4.is_loopback() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_unicast_link_local() || v6.is_loopback(),
    }
}

/// Whether the two can talk at all: one family, and loopback and link-local only among themselves.
pub(super) fn can_reach(local: IpAddr, remote: IpAddr) -> bool {
    let link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    local.is_ipv4() == remote.is_ipv4()
        && local.is_loopback() == remote.is_loopback()
        && link_local(local) == link_local(remote)
}

/// A user fragment and a password (RFC 8445 §5.3), with the key made of it.
#[derive(Clone)]
pub struct Credentials {
    pub(super) ufrag: Arc<str>,
    pub(super) password: Arc<str>,
    pub(super) key: Arc<IntegrityKey>,
}

impl Credentials {
    /// The key is prepared here, once.
    pub fn new(ufrag: &str, password: &str) -> Self {
        Self {
            ufrag: ufrag.into(),
            password: password.into(),
            key: Arc::new(IntegrityKey::short_term(password)),
        }
    }

    /// The user fragment.
    pub fn ufrag(&self) -> &str {
        &self.ufrag
    }

    /// The password.
    pub fn password(&self) -> &str {
        &self.password
    }
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.ufrag == other.ufrag && self.password == other.password
    }
}

impl Eq for Credentials {}

/// Without the password.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({})", self.ufrag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ips(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns() {
        let given = ips(&[
            "10.0.0.1",
            "10.0.0.2",
            "10.0.0.3",
            "2001:db8::1",
            "2001:db8::2",
        ]);
        let order = ips(&[
            "2001:db8::1",
            "10.0.0.1",
            "2001:db8::2",
            "10.0.0.2",
            "10.0.0.3",
        ]);
        assert_eq!(interleave(&given), order);
        assert_eq!(interleave(&given[..2]), &given[..2]);
        assert_eq!(interleave(&[]), ips(&[]));
    }

    #[test]
    fn priorities_are_those_of_the_rfc() {
        let udp = |kind: CandidateKind| kind.preference(Protocol::Udp);
        let host = udp(CandidateKind::Host);
        assert_eq!(priority(host, 65_535, 1), 2_130_706_431);
        let reflexive = udp(CandidateKind::ServerReflexive);
        assert_eq!(priority(reflexive, 65_535, 1), 1_694_498_815);
        assert_eq!(priority(udp(CandidateKind::Relayed), 0, 256), 0);
        let tcp = CandidateKind::Host.preference(Protocol::TcpPassive);
        assert!(udp(CandidateKind::Relayed) < tcp && tcp < reflexive);
        assert_eq!(pair_priority(2, 1), (1 << 32) + 2 * 2 + 1);
        assert_eq!(pair_priority(1, 2), (1 << 32) + 2 * 2);
        assert_eq!(pair_priority(u32::MAX, u32::MAX), u64::MAX, "no overflow");
    }

    #[test]
    fn foundations_are_words() {
        for (letter, number, word) in [
            (None, 0, "0"),
            (None, 1_203, "1203"),
            (Some(b'p'), 7, "p7"),
            (Some(b'p'), u32::MAX, "p4294967295"),
        ] {
            let foundation = Foundation::numbered(letter, number);
            assert_eq!(&*foundation, word);
            assert_eq!(Some(foundation), Foundation::new(word));
        }
        assert_eq!(
            Foundation::new(&"é".repeat(16)).as_deref(),
            Some(&*"é".repeat(16))
        );
        assert_eq!(Foundation::new(&"a".repeat(33)), None);
    }

    #[test]
    fn who_can_reach_whom() {
        let reach = |a: &str, b: &str| can_reach(a.parse().unwrap(), b.parse().unwrap());
        assert!(reach("10.0.0.1", "203.0.113.1"));
        assert!(!reach("10.0.0.1", "2001:db8::1"));
        assert!(
            !reach("10.0.0.1", "127.0.0.1"),
            "nobody is made to talk to itself"
        );
        assert!(reach("127.0.0.1", "127.0.0.2"));
        assert!(reach("fe80::1", "fe80::2") && !reach("fe80::1", "2001:db8::1"));
        let usable = |text: &str| is_usable(text.parse().unwrap());
        assert!(usable("203.0.113.1:1") && !usable("203.0.113.1:0"));
        assert!(
            !usable("[::ffff:127.0.0.1]:1"),
            "an address that is of another family in disguise"
        );
    }
}
