//! Stanzas as a [`Stranger`](super::Stranger) writes them.

use super::Persona;
use crate::{Element, ElementRef, Peer, Role};

pub(super) const CLIENT: &str = "jabber:client";
pub(super) const JINGLE: &str = "urn:xmpp:jingle:1";
pub(super) const ERRORS: &str = "urn:xmpp:jingle:errors:1";
pub(super) const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
pub(super) const JMI: &str = "urn:xmpp:jingle-message:0";
pub(super) const HINTS: &str = "urn:xmpp:hints";
pub(super) const DISCO: &str = "http://jabber.org/protocol/disco#info";
pub(super) const RTP: &str = "urn:xmpp:jingle:apps:rtp:1";
pub(super) const RTP_INFO: &str = "urn:xmpp:jingle:apps:rtp:info:1";
pub(super) const DTLS: &str = "urn:xmpp:jingle:apps:dtls:0";
pub(super) const FILE: &str = "urn:xmpp:jingle:apps:file-transfer:5";
pub(super) const HASHES: &str = "urn:xmpp:hashes:2";
pub(super) const S5B: &str = "urn:xmpp:jingle:transports:s5b:1";
pub(super) const IBB: &str = "urn:xmpp:jingle:transports:ibb:1";
pub(super) const ICE: &str = "urn:xmpp:jingle:transports:ice-udp:1";
pub(super) const GOOGLE_SESSION: &str = "http://www.google.com/session";
pub(super) const GOOGLE_PHONE: &str = "http://www.google.com/session/phone";
pub(super) const GOOGLE_P2P: &str = "http://www.google.com/transport/p2p";

pub(super) fn iq(kind: &str, id: &str, from: &Peer, to: &Peer) -> Element {
    Element::new(CLIENT, "iq")
        .with("from", from.as_str())
        .with("id", id)
        .with("to", to.as_str())
        .with("type", kind)
}

/// The error to a request, which is not repeated in it.
pub(super) fn error(
    request: &Element,
    kind: &str,
    condition: &str,
    special: Option<&str>,
) -> Element {
    let mut error = Element::new(CLIENT, "error")
        .with("type", kind)
        .child(Element::new(STANZAS, condition));
    if let Some(special) = special {
        error.push(Element::new(ERRORS, special));
    }
    answer(request, "error").child(error)
}

pub(super) fn answer(request: &Element, kind: &str) -> Element {
    Element::new(CLIENT, "iq")
        .with_opt("from", request.attribute("to"))
        .with_opt("id", request.attribute("id"))
        .with_opt("to", request.attribute("from"))
        .with("type", kind)
}

/// The condition of an error, for people.
pub(super) fn condition(error: &Element) -> String {
    let children = error
        .find(CLIENT, "error")
        .into_iter()
        .flat_map(ElementRef::children);
    let names: Vec<_> = children.map(ElementRef::name).collect();
    names.join(" ")
}

/// The reason that a message carries.
pub(super) fn reason_of(jingle: &Element) -> String {
    let reason = jingle.children().find(|child| child.name() == "reason");
    let named = reason.and_then(|reason| reason.children().next());
    named.map_or_else(|| "no reason".to_owned(), |named| named.name().to_owned())
}

pub(super) fn reason(persona: &Persona, name: &str) -> Element {
    let name = match persona.underscores {
        true => name.replace('-', "_"),
        false => name.to_owned(),
    };
    Element::new(JINGLE, "reason").child(Element::new(JINGLE, &name))
}

pub(super) fn role(role: Role) -> &'static str {
    role.as_str()
}

/// An account's address.
pub(super) fn bare(peer: &Peer) -> Peer {
    peer.account().into()
}

pub(super) fn contents(jingle: &Element) -> impl Iterator<Item = ElementRef<'_>> {
    jingle
        .children()
        .filter(|child| child.is(JINGLE, "content"))
}

pub(super) fn part<'a>(content: ElementRef<'a>, name: &str) -> Option<ElementRef<'a>> {
    content.children().find(|child| child.name() == name)
}
