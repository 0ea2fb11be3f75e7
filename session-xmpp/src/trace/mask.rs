//! What of a stanza nobody but the two ends may see.

use crate::xml::{self, Context};
use session_core::{Element, ElementLimits, ElementRef, element::Node};

/// The most of one stanza that is told, in bytes.
const XML_MAX: usize = 64 * 1024;

/// What stands in the place of a secret.
const MASK: &str = "…";

/// Attributes that hold secrets, whatever they stand at: passwords of ICE and of relays, keys of SDES, tokens.
const ATTRIBUTES: &[&str] = &["key-params", "password", "pwd", "secret", "token"];

/// Elements whose text is a secret.
const TEXTS: &[&str] = &["key", "password", "secret", "token"];

/// Namespaces in which every text is a secret: SASL in both versions, and the registration of accounts.
const NAMESPACES: &[&str] = &[
    "urn:ietf:params:xml:ns:xmpp-sasl",
    "urn:xmpp:sasl:2",
    "jabber:iq:auth",
    "jabber:component:accept:handshake",
];

/// What of SASL's namespaces is none: the names of mechanisms.
const MECHANISM: &str = "mechanism";

/// In-band bytestreams (XEP-0047): the data of somebody, of which the length is told.
const IBB: &str = "http://jabber.org/protocol/ibb";

/// A stanza without its secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Masked {
    /// Its sender, where it says so.
    pub from: String,
    /// Its receiver, where it says so.
    pub to: String,
    /// All of it.
    pub xml: String,
}

/// A stanza as it may be shown. What cannot be parsed is not shown, as nobody knows what is in it.
pub fn mask(stanza: &[u8]) -> Masked {
    let hidden = |why: &str| Masked {
        xml: format!("<!-- {} bytes {why} -->", stanza.len()),
        ..Masked::default()
    };
    let Ok(element) = xml::parse(stanza, &Context::CLIENT, &ElementLimits::default()) else {
        return hidden("that are no XML");
    };
    let attribute = |name| element.attribute(name).unwrap_or_default().to_owned();
    let (from, to) = (attribute("from"), attribute("to"));
    let mut bytes = Vec::new();
    if xml::write(&copy(element.view()), &Context::CLIENT, &mut bytes).is_err() {
        return hidden("that cannot be written");
    }
    let mut xml = String::from_utf8_lossy(&bytes).into_owned();
    if xml.len() > XML_MAX {
        let mut end = XML_MAX;
        while !xml.is_char_boundary(end) {
            end -= 1;
        }
        let all = xml.len();
        xml.truncate(end);
        xml += &format!("<!-- {all} bytes in all -->");
    }
    Masked { from, to, xml }
}

fn copy(element: ElementRef<'_>) -> Element {
    let mut out = Element::new(element.namespace(), element.name());
    for attribute in element.attributes() {
        let secret = ATTRIBUTES.contains(&attribute.name);
        let value = if secret { MASK } else { attribute.value };
        out = match attribute.namespace {
            "" => out.with(attribute.name, value),
            namespace => out.with_ns(namespace, attribute.name, value),
        };
    }
    let secret = TEXTS.contains(&element.name())
        || (NAMESPACES.contains(&element.namespace()) && element.name() != MECHANISM);
    let data = element.is(IBB, "data");
    for node in element.nodes() {
        out = match node {
            Node::Element(child) => out.child(copy(child)),
            Node::Text(text) if data => out.text(&format!("{} characters", text.len())),
            Node::Text(text) if secret && !text.trim().is_empty() => out.text(MASK),
            Node::Text(text) => out.text(text),
        };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_others_in_is_not_shown() {
        for stanza in [
            "<iq type='set'><jingle xmlns='urn:xmpp:jingle:1'><content><transport \
             xmlns='urn:xmpp:jingle:transports:ice-udp:1' ufrag='u' pwd='SECRET'/></content></jingle></iq>",
            "<iq><crypto xmlns='urn:xmpp:jingle:apps:rtp:1' crypto-suite='s' key-params='inline:SECRET'/></iq>",
            "<iq><services xmlns='urn:xmpp:extdisco:2'><service type='turn' username='u' password='SECRET'/></services></iq>",
            "<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>SECRET</auth>",
            "<authenticate xmlns='urn:xmpp:sasl:2'><initial-response>SECRET</initial-response></authenticate>",
            "<iq><query xmlns='google:jingleinfo'><relay><token>SECRET</token></relay></query></iq>",
            "<iq><session xmlns='http://www.google.com/session'><candidate username='u' password='SECRET'/></session></iq>",
            "<message><data xmlns='http://jabber.org/protocol/ibb' seq='1'>SECRET</data></message>",
            "<iq><query xmlns='jabber:iq:register'><password>SECRET</password></query></iq>",
            "<iq SECRET",
        ] {
            let masked = mask(stanza.as_bytes());
            assert!(!masked.xml.contains("SECRET"), "{}", masked.xml);
        }
    }

    #[test]
    fn the_rest_stays_as_it_is() {
        let stanza = "<iq id='1' from='a@x/1' to='b@x/2'><q xmlns='n' a='b'>text<r/>more</q></iq>";
        let masked = mask(stanza.as_bytes());
        assert_eq!((&*masked.from, &*masked.to), ("a@x/1", "b@x/2"));
        let again = xml::parse(
            masked.xml.as_bytes(),
            &Context::CLIENT,
            &ElementLimits::default(),
        );
        let first = xml::parse(
            stanza.as_bytes(),
            &Context::CLIENT,
            &ElementLimits::default(),
        );
        assert_eq!(again.unwrap(), first.unwrap());
        let mechanisms = "<mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms>";
        assert!(mask(mechanisms.as_bytes()).xml.contains("PLAIN"));
        let long = format!("<message><body>{}</body></message>", "ü".repeat(XML_MAX));
        assert!(mask(long.as_bytes()).xml.len() < XML_MAX + 64);
    }
}
