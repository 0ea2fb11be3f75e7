//! A stanza as a person reads it.

use std::collections::BTreeSet;

use session_core::{
    ContentPart, Element, ElementLimits, ElementRef, Message, Peer, SessionDescription,
};
use session_file::{TUNNEL, Tunnel};
use session_xmpp::stanza::{Incoming, decode};
use session_xmpp::xml::{self, Context};
use transport_relay::ibb::STREAM_NAMESPACE;

/// What a stanza says, in a few words; `None` for one more block of an in-band bytestream, or its answer.
pub(crate) fn describe(bytes: &[u8], to: &Peer, blocks: &mut Blocks) -> Option<String> {
    let text = describe_all(bytes, to, blocks);
    (!blocks.hides).then_some(text)
}

/// The blocks of in-band bytestreams: the first are shown, the rest would be all that is.
#[derive(Debug, Default)]
pub(crate) struct Blocks {
    count: usize,
    unanswered: BTreeSet<String>,
    hides: bool,
}

/// How many blocks are shown.
const BLOCKS_SHOWN: usize = 3;

impl Blocks {
    /// How many there were that were not shown.
    pub(super) fn hidden(&self) -> usize {
        self.count.saturating_sub(BLOCKS_SHOWN)
    }

    fn request(&mut self, id: &str, payload: Option<ElementRef<'_>>) {
        if payload.is_some_and(|payload| payload.is(STREAM_NAMESPACE, "data")) {
            self.count += 1;
            self.hides = self.count > BLOCKS_SHOWN;
            if self.hides {
                self.unanswered.insert(id.to_owned());
            }
        }
    }
}

fn describe_all(bytes: &[u8], to: &Peer, blocks: &mut Blocks) -> String {
    blocks.hides = false;
    let stanza = match xml::parse(bytes, &Context::CLIENT, &ElementLimits::default()) {
        Ok(stanza) => stanza,
        Err(error) => return format!("not XML: {error}"),
    };
    match decode(stanza, to) {
        Incoming::Message { message, .. } => describe_message(&message),
        Incoming::Reply(reply) => match reply.reply {
            Ok(_) => {
                blocks.hides = blocks.unanswered.remove(&*reply.id);
                format!("result {}", reply.id)
            }
            Err(error) => format!("error {} {error}", reply.id),
        },
        Incoming::Refused { error, .. } => format!("a request that is no message: {error}"),
        Incoming::Request(request) => {
            let payload = request.payload();
            blocks.request(request.id(), payload);
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

/// Where a candidate is: XEP-0177 says `ip`, XEP-0260 `host`, Google says `address`.
fn address(candidate: ElementRef<'_>) -> Option<String> {
    let ip = candidate
        .attribute("ip")
        .or_else(|| candidate.attribute("address"))
        .or_else(|| candidate.attribute("host"))?;
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
        let to = Peer::from("bob@example.org/b");
        describe(stanza.as_bytes(), &to, &mut Blocks::default()).unwrap()
    }

    #[test]
    fn of_many_blocks_the_first_are_shown() {
        let mut blocks = Blocks::default();
        let to = Peer::from("bob@example.org/b");
        let mut shown = 0;
        for id in 0..10 {
            let block = format!(
                "<iq type='set' id='{id}' from='a@example.org/1' to='bob@example.org/b'>\
                 <data xmlns='http://jabber.org/protocol/ibb' sid='s' seq='{id}'>eA==</data></iq>"
            );
            let answer = format!("<iq type='result' id='{id}' from='bob@example.org/b'/>");
            for stanza in [block, answer] {
                shown += usize::from(describe(stanza.as_bytes(), &to, &mut blocks).is_some());
            }
        }
        assert_eq!(
            (shown, blocks.hidden()),
            (2 * BLOCKS_SHOWN, 10 - BLOCKS_SHOWN)
        );
        let other = "<iq type='result' id='3' from='bob@example.org/b'/>";
        assert!(describe(other.as_bytes(), &to, &mut blocks).is_some());
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
