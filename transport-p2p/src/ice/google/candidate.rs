//! `<candidate/>` in Google's form and back (libjingle p2p/base/p2ptransport.cc).

use crate::ice::candidate::{CandidateKind, is_usable};
use session_core::{Element, GOOGLE_P2P, TransportError};
use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

/// Characters of a user name that are taken; libjingle and libnice have 16.
const USERNAME_MAX: usize = 256;

/// An address at which a channel may be reached, with its own user name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoogleCandidate {
    pub(super) address: SocketAddr,
    pub(super) username: Arc<str>,
    /// Said, and never used.
    pub(super) password: Arc<str>,
    pub(super) kind: CandidateKind,
    /// The higher the better; its highest byte is what is told.
    pub(super) priority: u32,
    pub(super) generation: u32,
    pub(super) network: u32,
}

/// The word for a kind; a peer-reflexive one is never told.
fn word(kind: CandidateKind) -> &'static str {
    match kind {
        CandidateKind::Host => "local",
        CandidateKind::ServerReflexive | CandidateKind::PeerReflexive => "stun",
        CandidateKind::Relayed => "relay",
    }
}

/// A preference out of a priority: of 127 steps, to two digits, cut off (libjingle p2p/base/candidate.h).
fn preference(priority: u32) -> String {
    match (priority >> 24).min(127) * 100 / 127 {
        0 => "0".to_owned(),
        100 => "1".to_owned(),
        hundredths => format!("0.{hundredths:02}"),
    }
}

/// The priority that a preference stands for.
fn priority(preference: f64) -> u32 {
    ((preference.min(1.0) * 127.0) as u32) << 24
}

/// Without the name of its channel, which the transport adds.
pub(super) fn write(candidate: &GoogleCandidate) -> Element {
    Element::new(GOOGLE_P2P, "candidate")
        .with("address", candidate.address.ip())
        .with("port", candidate.address.port())
        .with("preference", preference(candidate.priority))
        .with("username", &candidate.username)
        .with("protocol", "udp")
        .with("generation", candidate.generation)
        .with("password", &candidate.password)
        .with("type", word(candidate.kind))
        .with("network", candidate.network)
}

/// Reads a candidate. `None`: well-formed, and of no use to us: another protocol, a name instead of an address, an
/// address that means no host, or a port that belongs to somebody else's service (libjingle refuses those below 1024
/// but 80 and 443).
pub(super) fn read(element: &Element) -> Result<Option<GoogleCandidate>, TransportError> {
    if !element.is(GOOGLE_P2P, "candidate") {
        return Err(malformed("candidate", "another name or namespace"));
    }
    let required = |field| {
        let value = element.attribute(field);
        value.ok_or_else(|| malformed(field, "missing"))
    };
    let port: u16 = required("port")?
        .parse()
        .map_err(|_| malformed("port", "not a number in its range"))?;
    let preference: f64 = required("preference")?
        .parse()
        .ok()
        .filter(|number: &f64| number.is_finite() && *number >= 0.0)
        .ok_or_else(|| malformed("preference", "not a number of 0 or more"))?;
    let username = required("username")?;
    if username.is_empty() || username.len() > USERNAME_MAX || !username.is_ascii() {
        return Err(malformed("username", "empty, too long, or not ASCII"));
    }
    let number = |field| match element.attribute(field) {
        None => Ok(0),
        Some(text) => text.parse().map_err(|_| malformed(field, "not a number")),
    };
    let generation = number("generation")?;
    let address = required("address")?.parse::<IpAddr>();
    let udp = required("protocol")? == "udp";
    let kind = match element.attribute("type") {
        None | Some("local") => CandidateKind::Host,
        Some("stun") => CandidateKind::ServerReflexive,
        Some("relay") => CandidateKind::Relayed,
        Some(_) => return Err(malformed("type", "none of local, stun, relay")),
    };
    let Ok(ip) = address else {
        return Ok(None);
    };
    let address = SocketAddr::new(ip, port);
    let of_a_service = port < 1_024 && port != 80 && port != 443;
    let usable = udp && is_usable(address) && !of_a_service;
    Ok(usable.then(|| GoogleCandidate {
        address,
        username: username.into(),
        password: element.attribute("password").unwrap_or_default().into(),
        kind,
        priority: priority(preference),
        generation,
        network: 0,
    }))
}

fn malformed(field: &'static str, problem: &'static str) -> TransportError {
    TransportError::Malformed { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate() -> Element {
        Element::new(GOOGLE_P2P, "candidate")
            .with("name", "tcp")
            .with("address", "127.0.0.1")
            .with("port", 44_303)
            .with("preference", "0.99")
            .with("username", "aIq66Xy0LUKh1h4O")
            .with("protocol", "udp")
            .with("generation", 0)
            .with("password", "pcf5e/omjwfzeYBRV2V6AV4t")
            .with("type", "local")
            .with("network", "lo")
    }

    /// Of a transfer between two libjingle 0.7.1.
    #[test]
    fn what_libjingle_writes_is_read() {
        let read = read(&candidate()).unwrap().unwrap();
        assert_eq!(read.address, "127.0.0.1:44303".parse().unwrap());
        assert_eq!(
            (&*read.username, read.kind),
            ("aIq66Xy0LUKh1h4O", CandidateKind::Host)
        );
        assert_eq!(read.priority >> 24, 125, "0.99 of 127");
        let ours = GoogleCandidate {
            priority: 126 << 24,
            ..read
        };
        let written = write(&ours).with("name", "tcp").with("network", "lo");
        let sorted = |element: &Element| {
            let mut all: Vec<_> = element
                .attributes()
                .map(|a| (a.name.to_owned(), a.value.to_owned()))
                .collect();
            all.sort();
            all
        };
        assert_eq!(sorted(&written), sorted(&candidate()));
    }

    /// libjingle.md §4.6.
    #[test]
    fn preferences_are_priorities_to_two_digits() {
        for (kind, text) in [
            (126, "0.99"),
            (110, "0.86"),
            (90, "0.70"),
            (0, "0"),
            (127, "1"),
        ] {
            assert_eq!(preference(kind << 24), text);
        }
        for (preference, top) in [(1.0, 127), (0.9, 114), (0.5, 63), (0.0, 0), (7e9, 127)] {
            assert_eq!(priority(preference) >> 24, top);
        }
    }

    #[test]
    fn what_is_wrong_is_named_and_what_is_of_no_use_is_left_out() {
        for (field, value) in [
            ("port", "x"),
            ("port", "65536"),
            ("preference", "NaN"),
            ("preference", "-1"),
            ("username", ""),
            ("generation", "x"),
            ("type", "host"),
        ] {
            let error = read(&candidate().with(field, value)).unwrap_err();
            assert!(
                matches!(error, TransportError::Malformed { field: named, .. } if named == field),
                "{field}: {error}"
            );
        }
        for (field, value) in [
            ("protocol", "ssltcp"),
            ("protocol", "tcp"),
            ("address", "host.example"),
            ("address", "0.0.0.0"),
            ("address", "255.255.255.255"),
            ("port", "0"),
            ("port", "53"),
        ] {
            assert_eq!(
                read(&candidate().with(field, value)).unwrap(),
                None,
                "{field} {value}"
            );
        }
        assert!(read(&candidate().with("port", 443)).unwrap().is_some());
        assert!(read(&Element::new(GOOGLE_P2P, "candidate")).is_err());
        assert!(read(&Element::new("urn:example:x", "candidate")).is_err());
    }
}
