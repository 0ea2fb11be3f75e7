//! Candidates, and what XEP-0260 says about them in a `<transport/>`.

use super::NAMESPACE;
use crate::socks5::Destination;
use session_core::{Element, ElementRef, Peer, Role, TransportError};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Candidates of a peer that are looked at.
pub(super) const CANDIDATES_MAX: usize = 16;

/// Bytes of an identifier, of a stream or a candidate.
const ID_MAX: usize = 256;

/// How a candidate is reached (XEP-0260 §2.4), most preferred first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CandidateKind {
    /// An address of the peer itself.
    Direct,
    /// An address on a router that passes on to the peer.
    Assisted,
    /// An address in a tunnel.
    Tunnel,
    /// A proxy (XEP-0065 §6).
    Proxy,
}

impl CandidateKind {
    const ALL: [Self; 4] = [Self::Direct, Self::Assisted, Self::Tunnel, Self::Proxy];

    /// The attribute value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Assisted => "assisted",
            Self::Tunnel => "tunnel",
            Self::Proxy => "proxy",
        }
    }

    /// XEP-0260 §2.4.
    fn preference(self) -> u32 {
        match self {
            Self::Direct => 126,
            Self::Assisted => 120,
            Self::Tunnel => 110,
            Self::Proxy => 10,
        }
    }

    fn from_name(name: Option<&str>) -> Option<Self> {
        // XEP-0260 §2.2: direct is the default.
        let name = name.unwrap_or("direct");
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }
}

/// Where a stream can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) cid: Arc<str>,
    pub(super) address: SocketAddr,
    pub(super) jid: Peer,
    pub(super) priority: u32,
    pub(super) kind: CandidateKind,
}

impl Candidate {
    /// The priority of our candidate number `index` of a kind. No two of a session are equal, so that it does not matter
    /// who decides when they are, which clients do differently: `salt` is the session's, initiators have the even ones,
    /// and Conversations, Dino and all who give every candidate the same stay below 40,000 (jingle-peers §3.1, §3.2).
    pub(super) fn priority(kind: CandidateKind, index: usize, salt: u16, role: Role) -> u32 {
        let base = 40_000 + 2 * (u32::from(salt) % 10_000) + 2 * CANDIDATES_MAX as u32;
        let index = 2 * index.min(CANDIDATES_MAX) as u32;
        let odd = u32::from(role == Role::Responder);
        (kind.preference() << 16) + base - index + odd
    }

    pub(super) fn to_element(&self) -> Element {
        Element::new(NAMESPACE, "candidate")
            .with("cid", &self.cid)
            .with("host", self.address.ip())
            .with("jid", &self.jid)
            .with("port", self.address.port())
            .with("priority", self.priority)
            .with("type", self.kind.as_str())
    }

    /// `Ok(None)` for one that we have no use for: a kind of the future, a host by name.
    fn from_element(element: ElementRef<'_>) -> Result<Option<Self>, TransportError> {
        let malformed = |field| TransportError::Malformed {
            field,
            problem: "missing, or not what it can be",
        };
        let cid = identifier(element, "cid")?;
        let host = element.attribute("host").ok_or_else(|| malformed("host"))?;
        let port = number(element.attribute("port").unwrap_or_default());
        let port = port.and_then(|port| u16::try_from(port).ok());
        let port = port.ok_or_else(|| malformed("port"))?;
        let priority = number(element.attribute("priority").unwrap_or_default());
        let priority = priority.ok_or_else(|| malformed("priority"))?;
        let jid = element.attribute("jid").ok_or_else(|| malformed("jid"))?;
        let kind = CandidateKind::from_name(element.attribute("type"));
        let ip = host.parse::<IpAddr>().ok();
        Ok(ip.zip(kind).map(|(ip, kind)| Self {
            cid,
            address: SocketAddr::new(ip.to_canonical(), port),
            jid: jid.into(),
            priority,
            kind,
        }))
    }
}

/// Whether it makes sense to connect to an address that a stranger names. Our own machine is nobody else's business,
/// unless we are told to work on it.
pub(super) fn is_usable(address: SocketAddr, loopback: bool) -> bool {
    let ip = address.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // Without a scope nobody knows on which link.
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    address.port() != 0
        && !ip.is_unspecified()
        && !ip.is_multicast()
        && !broadcast
        && !link_local
        && (loopback || !ip.is_loopback())
}

/// What one side says to the other beside its candidates.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Word {
    /// It connected to this one.
    Used(Arc<str>),
    /// It could connect to none.
    Error,
    /// The proxy passes bytes on.
    Activated(Arc<str>),
    /// The proxy does not.
    ProxyError,
}

impl Word {
    pub(super) fn to_element(&self) -> Element {
        let (name, cid) = match self {
            Self::Used(cid) => ("candidate-used", Some(cid)),
            Self::Error => ("candidate-error", None),
            Self::Activated(cid) => ("activated", Some(cid)),
            Self::ProxyError => ("proxy-error", None),
        };
        Element::new(NAMESPACE, name).with_opt("cid", cid)
    }

    fn from_element(element: ElementRef<'_>) -> Result<Option<Self>, TransportError> {
        Ok(match element.name() {
            "candidate-used" => Some(Self::Used(identifier(element, "cid")?)),
            "candidate-error" => Some(Self::Error),
            "activated" => Some(Self::Activated(identifier(element, "cid")?)),
            "proxy-error" => Some(Self::ProxyError),
            _ => None,
        })
    }
}

/// A `<transport/>`, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) sid: Arc<str>,
    pub(super) destination: Option<Destination>,
    pub(super) candidates: Vec<Candidate>,
    pub(super) words: Vec<Word>,
}

impl Said {
    pub(super) fn from_element(element: &Element) -> Result<Self, TransportError> {
        let malformed = |field, problem| TransportError::Malformed { field, problem };
        if !element.is(NAMESPACE, "transport") {
            return Err(malformed("transport", "not one of a SOCKS5 bytestream"));
        }
        if element.attribute("mode").is_some_and(|mode| mode != "tcp") {
            return Err(TransportError::Unacceptable("only TCP is spoken here"));
        }
        let destination = match element.attribute("dstaddr") {
            None | Some("") => None,
            Some(text) => Some(
                Destination::parse(text)
                    .ok_or_else(|| malformed("dstaddr", "no SHA-1 in hexadecimal"))?,
            ),
        };
        let mut said = Self {
            sid: identifier(element.view(), "sid")?,
            destination,
            candidates: Vec::new(),
            words: Vec::new(),
        };
        for child in element.children().filter(|c| c.namespace() == NAMESPACE) {
            if child.name() == "candidate" {
                let room = said.candidates.len() < CANDIDATES_MAX;
                let candidate = Candidate::from_element(child)?.filter(|_| room);
                said.candidates.extend(candidate);
            } else {
                said.words.extend(Word::from_element(child)?);
            }
        }
        Ok(said)
    }
}

fn identifier(element: ElementRef<'_>, name: &'static str) -> Result<Arc<str>, TransportError> {
    match element.attribute(name) {
        Some(id) if !id.is_empty() && id.len() <= ID_MAX => Ok(id.into()),
        Some(_) | None => Err(TransportError::Malformed {
            field: name,
            problem: "missing or too long",
        }),
    }
}

/// Digits and nothing else.
fn number(text: &str) -> Option<u32> {
    let digits = (1..=10).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|_| digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn priorities_are_nobody_elses() {
        let others = (0..64).flat_map(|i| [(126 << 16) + i, (126 << 16) + 32_768 - i, 655_360 + i]);
        let others: BTreeSet<u32> = others.collect();
        for salt in [0, 1, 9_999, 10_000, u16::MAX] {
            let mut seen = others.clone();
            for role in [Role::Initiator, Role::Responder] {
                let mut last = u32::MAX;
                for kind in CandidateKind::ALL {
                    for index in 0..CANDIDATES_MAX {
                        let priority = Candidate::priority(kind, index, salt, role);
                        assert!(seen.insert(priority), "{priority} comes twice");
                        assert!(priority < last, "the earlier is the better");
                        assert_eq!(priority >> 16, kind.preference());
                        last = priority;
                    }
                }
            }
        }
    }

    #[test]
    fn addresses_that_a_stranger_may_name() {
        let usable = |text: &str| is_usable(text.parse().unwrap(), false);
        for text in ["192.0.2.1:1", "10.0.0.1:65535", "[2001:db8::1]:1080"] {
            assert!(usable(text), "{text}");
        }
        for text in [
            "192.0.2.1:0",
            "0.0.0.0:1",
            "[::]:1",
            "224.0.0.1:1",
            "[ff02::1]:1",
            "255.255.255.255:1",
            "127.0.0.1:25",
            "[::1]:25",
            "[fe80::1]:1",
        ] {
            assert!(!usable(text), "{text}");
        }
        assert!(is_usable("127.0.0.1:25".parse().unwrap(), true));
        let mapped = Element::new(NAMESPACE, "candidate")
            .with("cid", "c")
            .with("host", "::ffff:127.0.0.1")
            .with("jid", "j")
            .with("port", 25)
            .with("priority", 1);
        let candidate = Candidate::from_element(mapped.view()).unwrap().unwrap();
        assert!(!is_usable(candidate.address, false), "the same in disguise");
    }

    #[test]
    fn a_candidate_is_read_as_it_was_written() {
        let candidate = Candidate {
            cid: "c1".into(),
            address: "192.0.2.7:1080".parse().unwrap(),
            jid: "proxy.example".into(),
            priority: 7,
            kind: CandidateKind::Proxy,
        };
        let transport = Element::new(NAMESPACE, "transport")
            .with("sid", "s")
            .child(candidate.to_element())
            .child(Word::Used("x".into()).to_element())
            .child(Element::new("urn:example:other", "candidate"));
        let said = Said::from_element(&transport).unwrap();
        assert_eq!(said.candidates, [candidate]);
        assert_eq!(said.words, [Word::Used("x".into())]);
        assert!(Said::from_element(&transport.clone().with("mode", "udp")).is_err());
        assert!(Said::from_element(&transport.clone().with("dstaddr", "no")).is_err());
        let nameless = transport.child(Element::new(NAMESPACE, "candidate-used"));
        assert!(Said::from_element(&nameless).is_err());
    }
}
