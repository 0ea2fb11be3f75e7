//! Candidates and credentials as attributes of SDP (RFC 8839 §5), for those who have no XMPP.

use super::candidate::{
    Candidate, CandidateKind, Credentials, Foundation, Protocol, is_local_name,
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    str::{FromStr, SplitAsciiWhitespace},
};
use thiserror::Error;

/// Characters of an attribute that are read at most.
const ATTRIBUTE_MAX: usize = 1_024;
/// Characters of a user fragment and of a password (RFC 8839 §5.4).
const CREDENTIAL_MAX: usize = 256;

/// What is wrong with an attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum AttributeError {
    /// Not an attribute of ICE.
    #[error("not an attribute of ICE")]
    Unknown,
    /// A field is missing, or is not what it must be.
    #[error("{0} is missing or not what it must be")]
    Malformed(&'static str),
    /// It is well-formed, and of no use here: another protocol than UDP and TCP, or a name that is
    /// not of the local network instead of an address.
    #[error("{0} is of a kind that is not supported")]
    Unsupported(&'static str),
}

/// One attribute of ICE (RFC 8839 §5), with or without `a=` before it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Attribute {
    /// `candidate:…` (§5.1).
    Candidate(Candidate),
    /// `ice-ufrag:…` (§5.4).
    Ufrag(String),
    /// `ice-pwd:…` (§5.4).
    Password(String),
    /// `end-of-candidates` (RFC 8840 §8.2).
    EndOfCandidates,
    /// `ice-lite` (§5.3).
    Lite,
    /// `ice-options:…` (§5.6), in which nothing is of importance here.
    Options,
}

impl FromStr for Attribute {
    type Err = AttributeError;

    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let text = text.trim_ascii();
        let text = text.strip_prefix("a=").unwrap_or(text);
        if text.len() > ATTRIBUTE_MAX {
            return Err(AttributeError::Malformed("the attribute (too long)"));
        }
        let (name, value) = text.split_once(':').unwrap_or((text, ""));
        Ok(match name {
            "candidate" => Self::Candidate(text.parse()?),
            "ice-ufrag" => Self::Ufrag(credential(value, "ice-ufrag")?),
            "ice-pwd" => Self::Password(credential(value, "ice-pwd")?),
            "end-of-candidates" => Self::EndOfCandidates,
            "ice-lite" => Self::Lite,
            "ice-options" => Self::Options,
            _ => return Err(AttributeError::Unknown),
        })
    }
}

/// Without `a=`.
impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candidate(candidate) => candidate.fmt(f),
            Self::Ufrag(ufrag) => write!(f, "ice-ufrag:{ufrag}"),
            Self::Password(password) => write!(f, "ice-pwd:{password}"),
            Self::EndOfCandidates => f.write_str("end-of-candidates"),
            Self::Lite => f.write_str("ice-lite"),
            Self::Options => f.write_str("ice-options:trickle ice2"),
        }
    }
}

/// RFC 8839 §5.4: of letters, digits, `+` and `/`. Others are taken too, as long as a user name can be made of them.
fn credential(value: &str, field: &'static str) -> Result<String, AttributeError> {
    let fits = |c: char| c.is_ascii_graphic() && c != ':';
    if value.is_empty() || value.len() > CREDENTIAL_MAX || !value.chars().all(fits) {
        return Err(AttributeError::Malformed(field));
    }
    Ok(value.to_owned())
}

impl Credentials {
    /// As `ice-ufrag:…` and `ice-pwd:…`.
    pub fn attributes(&self) -> [Attribute; 2] {
        [
            Attribute::Ufrag(self.ufrag().to_owned()),
            Attribute::Password(self.password().to_owned()),
        ]
    }
}

/// `candidate:FOUNDATION COMPONENT udp PRIORITY ADDRESS PORT typ TYPE …` (RFC 8839 §5.1), without `a=`.
impl fmt::Display for Candidate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tcp_type = self.protocol.tcp_type();
        write!(
            f,
            "candidate:{} {} {} {} {} {} typ {}",
            self.foundation,
            self.component,
            if tcp_type.is_some() { "tcp" } else { "udp" },
            self.priority,
            self.host(),
            self.address.port(),
            self.kind.as_str(),
        )?;
        if let Some(related) = self.related {
            write!(f, " raddr {} rport {}", related.ip(), related.port())?;
        }
        if let Some(tcp_type) = tcp_type {
            write!(f, " tcptype {tcp_type}")?;
        }
        if self.generation > 0 {
            write!(f, " generation {}", self.generation)?;
        }
        Ok(())
    }
}

impl FromStr for Candidate {
    type Err = AttributeError;

    fn from_str(text: &str) -> Result<Self, AttributeError> {
        let text = text.trim_ascii();
        let text = text.strip_prefix("a=").unwrap_or(text);
        let text = text
            .strip_prefix("candidate:")
            .ok_or(AttributeError::Unknown)?;
        if text.len() > ATTRIBUTE_MAX {
            return Err(AttributeError::Malformed("the attribute (too long)"));
        }
        let mut words = text.split_ascii_whitespace();
        let foundation = words
            .next()
            .filter(|word| !word.is_empty())
            .and_then(Foundation::new)
            .ok_or(AttributeError::Malformed("the foundation"))?;
        let component = number(&mut words, "the component")?;
        if !(1..=256).contains(&component) {
            return Err(AttributeError::Malformed("the component"));
        }
        let protocol = words.next().unwrap_or("");
        let priority = number(&mut words, "the priority")?;
        let ip = words
            .next()
            .ok_or(AttributeError::Malformed("the address"))?;
        let port = number::<u16>(&mut words, "the port")?;
        if words.next() != Some("typ") {
            return Err(AttributeError::Malformed("typ"));
        }
        let kind = words
            .next()
            .and_then(CandidateKind::from_name)
            .ok_or(AttributeError::Malformed("the type"))?;
        let tcp = protocol.eq_ignore_ascii_case("tcp");
        if !tcp && !protocol.eq_ignore_ascii_case("udp") {
            return Err(AttributeError::Unsupported("the protocol"));
        }
        let (ip, name) = match ip.parse() {
            Ok(ip) => (ip, None),
            Err(_) if is_local_name(ip) => (Ipv4Addr::UNSPECIFIED.into(), Some(ip.into())),
            Err(_) => return Err(AttributeError::Unsupported("the address (a name)")),
        };
        let mut candidate = Self {
            component,
            foundation,
            address: SocketAddr::new(ip, port),
            priority,
            kind,
            related: None,
            generation: 0,
            network: 0,
            protocol: Protocol::Udp,
            name,
        };
        candidate.read_extensions(words)?;
        if tcp == (candidate.protocol == Protocol::Udp) {
            return Err(AttributeError::Malformed("tcptype"));
        }
        Ok(candidate)
    }
}

impl Candidate {
    /// Pairs of a name and a value; unknown ones are left out.
    fn read_extensions(
        &mut self,
        mut words: SplitAsciiWhitespace<'_>,
    ) -> Result<(), AttributeError> {
        let (mut address, mut port) = (None, 0);
        while let Some(name) = words.next() {
            match name {
                // Browsers that hide it write 0.0.0.0, or nothing that is an address.
                "raddr" => {
                    address = words.next().and_then(|ip| ip.parse::<IpAddr>().ok());
                }
                "rport" => port = number(&mut words, "rport")?,
                "tcptype" => {
                    self.protocol = words
                        .next()
                        .and_then(Protocol::from_tcp_type)
                        .ok_or(AttributeError::Malformed("tcptype"))?;
                }
                "generation" => self.generation = number(&mut words, "generation")?,
                "network-id" => self.network = number(&mut words, "network-id")?,
                _ => drop(words.next()),
            }
        }
        self.related = address.map(|ip| SocketAddr::new(ip, port));
        Ok(())
    }
}

fn number<T: FromStr>(
    words: &mut SplitAsciiWhitespace<'_>,
    field: &'static str,
) -> Result<T, AttributeError> {
    words
        .next()
        .and_then(|word| word.parse().ok())
        .ok_or(AttributeError::Malformed(field))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// RFC 8839 §5.1 and its appendix, and what browsers write.
    #[test]
    fn examples_are_read_and_written() {
        for text in [
            "candidate:1 1 udp 2130706431 203.0.113.141 8998 typ host",
            "candidate:2 1 udp 1694498815 192.0.2.3 45664 typ srflx raddr 203.0.113.141 rport 8998",
            "candidate:1 2 udp 2130706430 2001:db8::1 8999 typ host generation 3",
        ] {
            let candidate: Candidate = text.parse().unwrap();
            assert_eq!(candidate.to_string(), text);
            assert_eq!(
                format!("a={text}").parse(),
                Ok(Attribute::Candidate(candidate))
            );
        }
        let browser = "a=candidate:842163049 1 UDP 1677729535 198.51.100.7 5000 typ srflx raddr 0.0.0.0 rport 0 \
                       generation 0 ufrag EsAw network-id 2 network-cost 10";
        let candidate: Candidate = browser.parse().unwrap();
        assert_eq!(candidate.network, 2);
        assert_eq!(candidate.related, Some("0.0.0.0:0".parse().unwrap()));
        assert_eq!(
            "a=ice-ufrag:8hhY\r\n".parse(),
            Ok(Attribute::Ufrag("8hhY".into()))
        );
    }

    #[test]
    fn what_is_wrong_is_named() {
        use AttributeError::{Malformed, Unknown, Unsupported};
        for (text, error) in [
            ("rtcp-mux", Unknown),
            ("candidate:", Malformed("the foundation")),
            (
                "candidate:1 0 udp 1 192.0.2.1 9 typ host",
                Malformed("the component"),
            ),
            (
                "candidate:1 1 udp x 192.0.2.1 9 typ host",
                Malformed("the priority"),
            ),
            (
                "candidate:1 1 udp 1 192.0.2.1 99999 typ host",
                Malformed("the port"),
            ),
            ("candidate:1 1 udp 1 192.0.2.1 9 host", Malformed("typ")),
            (
                "candidate:1 1 udp 1 192.0.2.1 9 typ cat",
                Malformed("the type"),
            ),
            (
                "candidate:1 1 sctp 1 192.0.2.1 9 typ host",
                Unsupported("the protocol"),
            ),
            (
                "candidate:1 1 udp 1 a.example 9 typ host",
                Unsupported("the address (a name)"),
            ),
            (
                "candidate:1 1 tcp 1 192.0.2.1 9 typ host",
                Malformed("tcptype"),
            ),
            (
                "candidate:1 1 tcp 1 192.0.2.1 9 typ host tcptype shy",
                Malformed("tcptype"),
            ),
            ("ice-ufrag:a:b", Malformed("ice-ufrag")),
            ("ice-pwd:", Malformed("ice-pwd")),
        ] {
            assert_eq!(text.parse::<Attribute>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            component in 1..=256_u16, foundation in "[a-zA-Z0-9+/]{1,32}", priority: u32, port: u16, v6: [u8; 16],
            kind in prop::sample::select(vec![CandidateKind::Host, CandidateKind::ServerReflexive,
                CandidateKind::PeerReflexive, CandidateKind::Relayed]), generation: u32, related: Option<([u8; 4], u16)>,
            protocol in prop::sample::select(vec![Protocol::Udp, Protocol::TcpActive, Protocol::TcpPassive,
                Protocol::TcpSimultaneous]), name: Option<u32>,
        ) {
            let candidate = Candidate {
                component,
                foundation: Foundation::new(&foundation).unwrap(),
                address: match name {
                    Some(_) => ([0, 0, 0, 0], port).into(),
                    None => (v6, port).into(),
                },
                priority,
                kind,
                related: related.map(Into::into),
                generation,
                network: 0,
                protocol,
                name: name.map(|name| format!("{name:x}.local").into()),
            };
            prop_assert_eq!(candidate.to_string().parse(), Ok(candidate));
        }

        #[test]
        fn nothing_is_a_panic(text: String, words in "(a=)?candidate:[a-z0-9 .:]{0,80}") {
            let _ = (text.parse::<Attribute>(), words.parse::<Candidate>());
        }
    }
}
