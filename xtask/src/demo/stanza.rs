//! A stanza as a person reads it.

use session_core::{ContentPart, Element, ElementLimits, Message, Peer, SessionDescription};
use session_file::{TUNNEL, Tunnel};
use session_xmpp::stanza::{Incoming, decode};
use session_xmpp::xml::{self, Context};

/// What a stanza says, in a few words.
pub(super) fn describe(bytes: &[u8], to: &Peer) -> String {
    let stanza = match xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()) {
        Ok(stanza) => stanza,
        Err(error) => return format!("not XML: {error}"),
    };
    match decode(stanza, to) {
        Incoming::Message { message, .. } => describe_message(&message),
        Incoming::Reply(reply) => match reply.reply {
            Ok(_) => format!("result {}", reply.id),
            Err(error) => format!("error {} {error}", reply.id),
        },
        Incoming::Refused { error, .. } => format!("a request that is no message: {error}"),
        Incoming::Request(request) => {
            let payload = request.payload();
            format!("request {}", payload.map_or("of nothing", |p| p.name()))
        }
        Incoming::Other(other) => other.stanza.name().to_owned(),
        Incoming::Unusable(stanza) => format!("unusable <{}/>", stanza.name()),
    }
}

fn describe_message(message: &Message) -> String {
    let mut words = vec![message.action.to_string(), format!("sid={}", message.sid)];
    words.extend(message.contents.iter().map(describe_content));
    words.extend(message.reason.as_ref().map(|r| format!("because {r}")));
    let extra = message.extra.iter().map(|e| format!("<{}/>", e.name()));
    words.extend(extra);
    words.join("  ")
}

fn describe_content(part: &ContentPart) -> String {
    let mut words = Vec::new();
    if !part.name.is_empty() {
        words.push(format!("{}:", part.name));
    }
    words.extend(part.description.as_ref().map(describe_description));
    words.extend(part.transports.iter().map(describe_transport));
    words.join(" ")
}

fn describe_description(description: &Element) -> String {
    match Tunnel::from_element(description) {
        Ok(tunnel) if description.namespace() == TUNNEL => format!("tunnel {:?}", tunnel.text()),
        Ok(_) | Err(_) => format!("description {}", short(description.namespace())),
    }
}

/// A transport by its name, with the addresses in it.
fn describe_transport(transport: &Element) -> String {
    let addresses: Vec<String> = transport.children().filter_map(address).collect();
    let name = short(transport.namespace());
    if addresses.is_empty() {
        name
    } else {
        format!("{name} {}", addresses.join(" "))
    }
}

/// Where a candidate is: XEP-0177 says `ip`, Google says `address`.
fn address(candidate: session_core::ElementRef<'_>) -> Option<String> {
    let ip = candidate
        .attribute("ip")
        .or_else(|| candidate.attribute("address"))?;
    Some(match candidate.attribute("port") {
        Some(port) => format!("{ip}:{port}"),
        None => ip.to_owned(),
    })
}

/// The end of a namespace, which is what tells it from others.
pub(super) fn short(namespace: &str) -> String {
    let parts: Vec<&str> = namespace.split(['/', ':']).collect();
    match parts.as_slice() {
        [.., before, last] if last.chars().all(|c| c.is_ascii_digit()) => {
            format!("{before}:{last}")
        }
        [.., last] => (*last).to_owned(),
        [] => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(stanza: &str) -> String {
        describe(stanza.as_bytes(), &Peer::from("bob@example.org/b"))
    }

    #[test]
    fn stanzas_of_both_vocabularies_become_lines() {
        let jingle = "<iq type='set' id='1' from='a@example.org/1' to='bob@example.org/b'>\
            <jingle xmlns='urn:xmpp:jingle:1' action='session-initiate' sid='x' initiator='a@example.org/1'>\
            <content creator='initiator' name='tunnel'>\
            <description xmlns='http://www.google.com/talk/tunnel'><type>recv:f</type></description>\
            <transport xmlns='urn:xmpp:jingle:transports:raw-udp:1'>\
            <candidate component='1' generation='0' id='i' ip='127.0.0.1' port='5000'/></transport>\
            </content></jingle></iq>";
        assert_eq!(
            line(jingle),
            "session-initiate  sid=x  tunnel: tunnel \"recv:f\" raw-udp:1 127.0.0.1:5000"
        );
        let google = "<iq type='set' id='2' from='a@example.org/1' to='bob@example.org/b'>\
            <session xmlns='http://www.google.com/session' type='terminate' id='7' initiator='a@example.org/1'/></iq>";
        assert_eq!(line(google), "session-terminate  sid=7");
    }

    #[test]
    fn what_is_no_message_is_told_too() {
        let result = "<iq type='result' id='9' from='a@example.org/1' to='bob@example.org/b'/>";
        assert_eq!(line(result), "result 9");
        let error = "<iq type='error' id='9' from='a@example.org/1' to='bob@example.org/b'>\
            <error type='cancel'><item-not-found xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
        assert!(line(error).starts_with("error 9 item-not-found"));
        assert!(line("<iq").starts_with("not XML: "));
        assert!(line("<presence/>").starts_with("presence"));
    }

    #[test]
    fn names_of_transports_are_short() {
        assert_eq!(short("urn:xmpp:jingle:transports:raw-udp:1"), "raw-udp:1");
        assert_eq!(short("http://www.google.com/transport/raw-udp"), "raw-udp");
        assert_eq!(short("x"), "x");
    }
}
