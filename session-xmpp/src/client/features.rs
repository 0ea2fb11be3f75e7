//! What a server offers (RFC 6120 §4.3.2).

use super::{ns, sasl::Offer};
use session_core::{Element, ElementRef};

/// Offers that are looked at, of each kind. Nobody has as many mechanisms.
const OFFERS_MAX: usize = 64;

/// A server's offers, as far as we have a use for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Features {
    /// STARTTLS (RFC 6120 §5).
    pub(super) starttls: bool,
    /// SASL as of RFC 6120 §6.
    pub(super) sasl: Offer,
    /// SASL as of XEP-0388, with what can be done along with it.
    pub(super) sasl2: Option<Sasl2>,
    /// Binding of a resource (RFC 6120 §7).
    pub(super) bind: bool,
    /// The session of RFC 3921 §3, where the server insists on it.
    pub(super) session: bool,
    /// Stream management (XEP-0198).
    pub(super) management: bool,
    /// The bytes of the largest stanza that the server takes (XEP-0478).
    pub(super) stanza_max: Option<usize>,
}

/// SASL as of XEP-0388.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sasl2 {
    pub(super) offer: Offer,
    /// A stream can be resumed along with it (XEP-0198 §8).
    pub(super) resume: bool,
    /// A resource can be bound along with it (XEP-0386).
    pub(super) bind: bool,
    /// Stream management can be enabled along with the binding.
    pub(super) management: bool,
}

impl Features {
    /// Reads `<stream:features/>`.
    pub(super) fn read(element: &Element) -> Self {
        let kinds = element.find(ns::SASL_CB, "sasl-channel-binding");
        let bindings = kinds.map(|kinds| {
            let kinds = kinds
                .children()
                .filter(|kind| kind.is(ns::SASL_CB, "channel-binding"));
            let kinds = kinds.filter_map(|kind| kind.attribute("type"));
            kinds.take(OFFERS_MAX).map(str::to_owned).collect()
        });
        let offer = |namespace, list: Option<ElementRef<'_>>| Offer {
            mechanisms: list.map_or_else(Vec::new, |list| mechanisms(namespace, list)),
            bindings: bindings.clone(),
        };
        let session = element.find(ns::SESSION, "session");
        let sasl2 = element.find(ns::SASL2, "authentication");
        let limits = element.find(ns::LIMITS, "limits");
        let bytes = limits.and_then(|limits| limits.find(ns::LIMITS, "max-bytes"));
        Self {
            starttls: element.find(ns::TLS, "starttls").is_some(),
            sasl: offer(ns::SASL, element.find(ns::SASL, "mechanisms")),
            sasl2: sasl2.map(|list| Sasl2::read(list, offer(ns::SASL2, Some(list)))),
            bind: element.find(ns::BIND, "bind").is_some(),
            session: session.is_some_and(|it| it.find(ns::SESSION, "optional").is_none()),
            management: element.find(ns::SM, "sm").is_some(),
            stanza_max: bytes.and_then(|bytes| bytes.text_content().trim().parse().ok()),
        }
    }
}

impl Sasl2 {
    fn read(element: ElementRef<'_>, offer: Offer) -> Self {
        let inline = element.find(ns::SASL2, "inline");
        let bind = inline.and_then(|inline| inline.find(ns::BIND2, "bind"));
        let features = bind.and_then(|bind| bind.find(ns::BIND2, "inline"));
        let mut features = features.into_iter().flat_map(ElementRef::children);
        Self {
            offer,
            resume: inline.is_some_and(|inline| inline.find(ns::SM, "sm").is_some()),
            bind: bind.is_some(),
            management: features.any(|feature| feature.attribute("var") == Some(ns::SM)),
        }
    }
}

fn mechanisms(namespace: &str, list: ElementRef<'_>) -> Vec<String> {
    let names = list
        .children()
        .filter(|child| child.is(namespace, "mechanism"));
    let names = names.map(|name| name.text_content().trim().to_owned());
    names.take(OFFERS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{self, Context};
    use session_core::ElementLimits;

    fn read(inner: &str) -> Features {
        let text = format!("<stream:features>{inner}</stream:features>");
        let element = xml::parse(text.as_bytes(), &Context::CLIENT, &ElementLimits::default());
        Features::read(&element.unwrap())
    }

    #[test]
    fn what_prosody_offers() {
        let before = read(
            "<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls>\
             <mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>SCRAM-SHA-1</mechanism>\
             <mechanism> PLAIN </mechanism></mechanisms>",
        );
        assert!(before.starttls && !before.bind && !before.management);
        assert_eq!(before.sasl.mechanisms, ["SCRAM-SHA-1", "PLAIN"]);
        assert_eq!(before.sasl.bindings, None);
        let after = read(
            "<bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><required/></bind>\
             <session xmlns='urn:ietf:params:xml:ns:xmpp-session'><optional/></session>\
             <sm xmlns='urn:xmpp:sm:3'><optional/></sm>",
        );
        assert!(after.bind && !after.session && after.management);
        let limits = |bytes: &str| {
            read(&format!(
                "<limits xmlns='urn:xmpp:stream-limits:0'><max-bytes>{bytes}</max-bytes></limits>"
            ))
            .stanza_max
        };
        assert_eq!(limits(" 262144 "), Some(262_144));
        assert_eq!(
            (limits("-1"), limits(""), after.stanza_max),
            (None, None, None)
        );
        let old = read("<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/>");
        assert!(old.session);
    }

    #[test]
    fn what_can_be_done_along_with_sasl() {
        let features = read(
            "<authentication xmlns='urn:xmpp:sasl:2'><mechanism>SCRAM-SHA-256-PLUS</mechanism><inline>\
             <bind xmlns='urn:xmpp:bind:0'><inline><feature var='urn:xmpp:sm:3'/></inline></bind>\
             <sm xmlns='urn:xmpp:sm:3'/></inline></authentication>\
             <sasl-channel-binding xmlns='urn:xmpp:sasl-cb:0'><channel-binding type='tls-exporter'/></sasl-channel-binding>",
        );
        let sasl2 = features.sasl2.unwrap();
        assert!(sasl2.bind && sasl2.resume && sasl2.management);
        assert_eq!(sasl2.offer.mechanisms, ["SCRAM-SHA-256-PLUS"]);
        assert_eq!(
            sasl2.offer.bindings.as_deref(),
            Some(&["tls-exporter".to_owned()][..])
        );
    }
}
