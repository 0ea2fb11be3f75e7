//! `<transport xmlns='urn:xmpp:jingle:transports:ice-udp:1'/>` and back (XEP-0176 §5).

use super::{
    candidate::{Candidate, CandidateKind, Credentials, Foundation, Protocol, is_local_name},
    description::Description,
    transport::ICE_0,
};
use session_core::{Element, ElementRef, TransportError};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

/// The namespace of what Conversations says of an agent's abilities (jingle-peers §2).
const OPTION: &str = "http://gultsch.de/xmpp/drafts/jingle/transports/ice-udp/option";
/// Characters of a user fragment and of a password (RFC 8839 §5.4).
const CREDENTIAL_MAX: usize = 256;

/// A `<transport/>` that says this.
pub(super) fn transport(namespace: &str, description: &Description) -> Element {
    let mut transport = Element::new(namespace, "transport");
    if let Some(credentials) = &description.credentials {
        transport.set_attribute("pwd", &*credentials.password);
        transport.set_attribute("ufrag", &*credentials.ufrag);
    }
    for candidate in &description.candidates {
        transport.push(self::candidate(namespace, candidate));
    }
    if description.renomination {
        transport.push(Element::new(OPTION, "renomination"));
    }
    if description.complete {
        transport.push(Element::new(namespace, "gathering-complete"));
    }
    transport
}

fn candidate(namespace: &str, candidate: &Candidate) -> Element {
    let id = format!(
        "c{}g{}n{}p{}",
        candidate.component,
        candidate.generation,
        candidate.foundation,
        candidate.address.port()
    );
    let (related, tcp_type) = (candidate.related, candidate.protocol.tcp_type());
    Element::new(namespace, "candidate")
        .with("component", candidate.component)
        .with("foundation", &*candidate.foundation)
        .with("generation", candidate.generation)
        .with("id", id)
        .with("ip", candidate.host())
        .with("network", candidate.network)
        .with("port", candidate.address.port())
        .with("priority", candidate.priority)
        .with("protocol", if tcp_type.is_some() { "tcp" } else { "udp" })
        .with_opt("rel-addr", related.map(|address| address.ip()))
        .with_opt("rel-port", related.map(|address| address.port()))
        .with_opt("tcptype", tcp_type)
        .with("type", candidate.kind.as_str())
}

/// Whether a child is ICE's own.
pub(super) fn is_own(namespace: &str, child: ElementRef<'_>) -> bool {
    let ours = matches!(
        child.name(),
        "candidate" | "remote-candidate" | "gathering-complete"
    );
    child.namespace() == OPTION || (ours && child.namespace() == namespace)
}

/// Reads all of a `<transport/>`, or nothing.
///
/// What is well-formed and of no use to us is left out: candidates of other kinds and protocols, with names other than `.local`.
pub(super) fn parse(namespace: &str, element: &Element) -> Result<Description, TransportError> {
    if !element.is(namespace, "transport") {
        return Err(malformed("transport", "another name or namespace"));
    }
    let mut remote = Description {
        credentials: credentials(element)?,
        renomination: element.find(OPTION, "renomination").is_some(),
        ..Description::default()
    };
    for child in element.children().filter(|c| is_own(namespace, *c)) {
        match child.name() {
            "candidate" => {
                remote.has_candidates = true;
                remote.candidates.extend(parse_candidate(namespace, child)?);
            }
            "gathering-complete" => remote.complete = true,
            _ if child.namespace() == OPTION => {}
            // Which pair the initiator uses is known from its nomination.
            _ => remote.has_candidates = true,
        }
    }
    Ok(remote)
}

fn credentials(element: &Element) -> Result<Option<Credentials>, TransportError> {
    match (element.attribute("ufrag"), element.attribute("pwd")) {
        (None, None) => Ok(None),
        (Some(ufrag), Some(password)) => {
            let fits = |text: &str| {
                !text.is_empty() && text.len() <= CREDENTIAL_MAX && !text.contains(':')
            };
            if !fits(ufrag) {
                return Err(malformed("ufrag", "empty, too long, or with a colon"));
            }
            if password.is_empty() || password.len() > CREDENTIAL_MAX {
                return Err(malformed("pwd", "empty or too long"));
            }
            Ok(Some(Credentials::new(ufrag, password)))
        }
        (Some(_), None) => Err(malformed("pwd", "missing beside ufrag")),
        (None, Some(_)) => Err(malformed("ufrag", "missing beside pwd")),
    }
}

fn parse_candidate(
    namespace: &str,
    element: ElementRef<'_>,
) -> Result<Option<Candidate>, TransportError> {
    let component = number(element, "component", 1, 256)? as u16;
    let port = number(element, "port", 0, u64::from(u16::MAX))? as u16;
    let priority = number(element, "priority", 0, u64::MAX)?;
    let generation = optional(element, "generation")?.unwrap_or(0);
    let network = optional(element, "network")?.unwrap_or(0);
    let ip = required(element, "ip")?;
    let kind = match element.attribute("type") {
        None => Some(CandidateKind::Host),
        // RFC 8839 §5.1 leaves room for others, and some clients end a session at the first error.
        Some(name) => CandidateKind::from_name(name),
    };
    let foundation = Foundation::new(element.attribute("foundation").unwrap_or(""))
        .ok_or_else(|| malformed("foundation", "longer than 32 characters"))?;
    let (Some(kind), Some(protocol)) = (kind, protocol(namespace, element)?) else {
        return Ok(None);
    };
    let (ip, name) = match ip.parse::<IpAddr>() {
        Ok(ip) => (ip, None),
        Err(_) if is_local_name(ip) => (IpAddr::V4(Ipv4Addr::UNSPECIFIED), Some(ip.into())),
        Err(_) => return Ok(None),
    };
    let related = element
        .attribute("rel-addr")
        .and_then(|ip| ip.parse().ok())
        .map(|ip: IpAddr| {
            let port = element.attribute("rel-port").and_then(|p| p.parse().ok());
            SocketAddr::new(ip, port.unwrap_or(0))
        });
    Ok(Some(Candidate {
        component,
        foundation,
        address: SocketAddr::new(ip, port),
        // An example of XEP-0176 has more than 32 bits.
        priority: priority.min(u64::from(u32::MAX)) as u32,
        kind,
        related,
        generation,
        network,
        protocol,
        name,
    }))
}

/// What XEP-0176 has is UDP; XEP-0371 §4 knows TCP. `None` for what we cannot use.
fn protocol(namespace: &str, element: ElementRef<'_>) -> Result<Option<Protocol>, TransportError> {
    let name = element.attribute("protocol").unwrap_or("udp");
    if name.eq_ignore_ascii_case("udp") {
        return Ok(Some(Protocol::Udp));
    }
    if namespace != ICE_0 || !name.eq_ignore_ascii_case("tcp") {
        return Ok(None);
    }
    Protocol::from_tcp_type(required(element, "tcptype")?)
        .map(Some)
        .ok_or_else(|| malformed("tcptype", "none of active, passive, so"))
}

fn required<'a>(element: ElementRef<'a>, field: &'static str) -> Result<&'a str, TransportError> {
    element
        .attribute(field)
        .ok_or_else(|| malformed(field, "missing"))
}

fn number(
    element: ElementRef<'_>,
    field: &'static str,
    least: u64,
    most: u64,
) -> Result<u64, TransportError> {
    required(element, field)?
        .parse()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .ok_or_else(|| malformed(field, "not a number in its range"))
}

fn optional(element: ElementRef<'_>, field: &'static str) -> Result<Option<u32>, TransportError> {
    element
        .attribute(field)
        .map(|text| text.parse().map_err(|_| malformed(field, "not a number")))
        .transpose()
}

fn malformed(field: &'static str, problem: &'static str) -> TransportError {
    TransportError::Malformed { field, problem }
}
