//! Candidates in the words of SDP (RFC 8839 §5.1), which other agents speak, and in those of XEP-0176; and in Google's.

use session_core::{Element, ElementRef, GOOGLE_P2P};
use transport_p2p::{dtls, ice::ICE_UDP, sctp};

/// A `<transport/>` with credentials out of two words.
pub(super) fn credentials(words: &str) -> Option<Element> {
    let (ufrag, password) = words.split_once(' ')?;
    let transport = Element::new(ICE_UDP, "transport");
    Some(transport.with("ufrag", ufrag).with("pwd", password))
}

/// Prints what a `<transport/>` of ours says: its protection where there is one, then its credentials.
pub(super) fn say(transport: &Element) {
    if let Some(fingerprint) = transport.find(dtls::NAMESPACE, "fingerprint") {
        let get = |name| fingerprint.attribute(name).unwrap_or("-").to_owned();
        let text = fingerprint.text_content();
        println!("dtls {} {} {}", get("setup"), get("hash"), text.trim());
    }
    if let Some(map) = transport.find(sctp::NAMESPACE, "sctpmap") {
        println!("sctp {}", map.attribute("number").unwrap_or("-"));
    }
    let credential = |name| transport.attribute(name).unwrap_or("-").to_owned();
    println!("local {} {}", credential("ufrag"), credential("pwd"));
}

/// `dtls SETUP HASH FINGERPRINT` or `sctp PORT`, as a child of `<transport/>`.
pub(super) fn protection(line: &str) -> Option<Element> {
    match *line.split(' ').collect::<Vec<_>>() {
        ["dtls", setup, hash, fingerprint] => Some(
            Element::new(dtls::NAMESPACE, "fingerprint")
                .with("hash", hash)
                .with("setup", setup)
                .text(fingerprint),
        ),
        ["sctp", port] => Some(
            Element::new(sctp::NAMESPACE, "sctpmap")
                .with("number", port)
                .with("protocol", "webrtc-datachannel")
                .with("streams", 1024),
        ),
        _ => None,
    }
}

/// `candidate:FOUNDATION COMPONENT UDP PRIORITY IP PORT typ KIND [raddr IP rport PORT]`.
pub(super) fn to_sdp(candidate: ElementRef<'_>) -> Option<String> {
    if candidate.name() != "candidate" {
        return None;
    }
    let get = |name| candidate.attribute(name);
    let mut text = format!(
        "candidate:{} {} UDP {} {} {} typ {}",
        get("foundation")?,
        get("component")?,
        get("priority")?,
        get("ip")?,
        get("port")?,
        get("type")?
    );
    if let (Some(ip), Some(port)) = (get("rel-addr"), get("rel-port")) {
        text.push_str(&format!(" raddr {ip} rport {port}"));
    }
    Some(text)
}

/// The same read; what is not UDP is left out.
pub(super) fn from_sdp(text: &str) -> Option<Element> {
    let text = text.strip_prefix("candidate:").unwrap_or(text);
    let words: Vec<&str> = text.split_whitespace().collect();
    let [
        foundation,
        component,
        protocol,
        priority,
        ip,
        port,
        "typ",
        kind,
        ..,
    ] = words[..]
    else {
        return None;
    };
    if !protocol.eq_ignore_ascii_case("udp") {
        return None;
    }
    let after = |word| {
        let at = words.iter().position(|found| *found == word)?;
        words.get(at + 1).copied()
    };
    let candidate = Element::new(ICE_UDP, "candidate")
        .with("component", component)
        .with("foundation", foundation)
        .with("generation", 0)
        .with("id", format!("{foundation}p{port}"))
        .with("ip", ip)
        .with("network", 0)
        .with("port", port)
        .with("priority", priority)
        .with("protocol", "udp")
        .with("type", kind);
    Some(
        candidate
            .with_opt("rel-addr", after("raddr"))
            .with_opt("rel-port", after("rport")),
    )
}

/// `google IP PORT TYPE PREFERENCE USERNAME PASSWORD`.
pub(super) fn to_google(candidate: ElementRef<'_>) -> Option<String> {
    let get = |name| candidate.attribute(name);
    Some(format!(
        "google {} {} {} {} {} {}",
        get("address")?,
        get("port")?,
        get("type")?,
        get("preference")?,
        get("username")?,
        get("password")?,
    ))
}

/// The same read, for the channel of this name.
pub(super) fn from_google(text: &str, channel: &str) -> Option<Element> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["google", ip, port, kind, preference, username, password] = words[..] else {
        return None;
    };
    let candidate = Element::new(GOOGLE_P2P, "candidate")
        .with("name", channel)
        .with("address", ip)
        .with("port", port)
        .with("preference", preference)
        .with("username", username)
        .with("protocol", "udp")
        .with("generation", 0)
        .with("password", password)
        .with("type", kind)
        .with("network", 0);
    Some(Element::new(GOOGLE_P2P, "transport").child(candidate))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_survive_the_way_there_and_back() {
        for text in [
            "candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host",
            "candidate:2 1 UDP 1694498815 203.0.113.1 5000 typ srflx raddr 192.0.2.1 rport 4000",
        ] {
            let element = from_sdp(text).unwrap();
            let transport = Element::new(ICE_UDP, "transport").child(element);
            let child = transport.children().next().unwrap();
            assert_eq!(to_sdp(child).as_deref(), Some(text));
        }
        assert!(from_sdp("1 1 TCP 1 192.0.2.1 9 typ host tcptype active").is_none());
        assert!(from_sdp("1 1 UDP").is_none());
    }

    #[test]
    fn a_protection_is_read_as_it_is_said() {
        let said = protection("dtls active sha-256 AB:CD").unwrap();
        assert!(said.is(dtls::NAMESPACE, "fingerprint"));
        assert_eq!(said.attribute("setup"), Some("active"));
        assert_eq!(said.text_content(), "AB:CD");
        assert_eq!(
            protection("sctp 5000").unwrap().attribute("number"),
            Some("5000")
        );
        assert!(protection("dtls active").is_none());
    }

    #[test]
    fn so_do_those_of_google() {
        let text = "google 192.0.2.1 4000 local 0.99 aIq66Xy0LUKh1h4O pcf5e";
        let transport = from_google(text, "data").unwrap();
        let child = transport.children().next().unwrap();
        assert_eq!(to_google(child).as_deref(), Some(text));
        assert!(from_google("google 192.0.2.1", "data").is_none());
    }
}
