//! What an entity is and can (XEP-0030), and the hash that stands for it (XEP-0115).

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use session_core::{Element, ElementRef};
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};
use std::collections::{BTreeMap, BTreeSet};

/// What an entity is and can.
pub const DISCO_INFO: &str = "http://jabber.org/protocol/disco#info";
/// The hash in presence.
pub const CAPS: &str = "http://jabber.org/protocol/caps";
const DATA: &str = "jabber:x:data";

/// Identities, features and forms that are read of one answer, each.
const PARTS_MAX: usize = 512;

/// What an entity is (XEP-0030 §3.1).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Identity {
    /// What kind of thing: `client`.
    pub category: String,
    /// Which of that kind: `pc`, `phone`.
    pub kind: String,
    /// The language of the name.
    pub lang: String,
    /// What people call it.
    pub name: String,
}

/// What an entity is and can.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Info {
    identities: Vec<Identity>,
    features: BTreeSet<String>,
    /// By FORM_TYPE: the fields with their values (XEP-0128).
    forms: BTreeMap<String, BTreeMap<String, Vec<String>>>,
    /// Ill-formed in a way that lets two of them have one hash (XEP-0115 §5.4).
    ambiguous: bool,
}

impl Info {
    /// Of somebody who is this and can that, and of course what this module is for.
    pub fn new<'a>(
        category: &str,
        kind: &str,
        name: &str,
        features: impl IntoIterator<Item = &'a str>,
    ) -> Self {
        let all = features.into_iter().chain([DISCO_INFO, CAPS]);
        Self {
            identities: vec![Identity {
                category: category.to_owned(),
                kind: kind.to_owned(),
                lang: String::new(),
                name: name.to_owned(),
            }],
            features: all.map(str::to_owned).collect(),
            forms: BTreeMap::new(),
            ambiguous: false,
        }
    }

    /// Reads a `<query/>`.
    ///
    /// One in which the same identity, feature or form stands twice, or the character that separates the parts, has no
    /// [`hash`](Self::hash), because another could have the same (XEP-0115 §5.4). Of who says it, it is believed: Libervia
    /// repeats features.
    pub fn read(query: ElementRef<'_>) -> Self {
        let mut info = Self::default();
        for child in query.children().take(PARTS_MAX) {
            let attribute = |name| child.attribute(name).unwrap_or_default().to_owned();
            match (child.namespace(), child.name()) {
                (DISCO_INFO, "identity") => {
                    let lang = child.attribute_ns(crate::xml::NS_XML, "lang");
                    let identity = Identity {
                        category: attribute("category"),
                        kind: attribute("type"),
                        lang: lang.unwrap_or_default().to_owned(),
                        name: attribute("name"),
                    };
                    info.ambiguous |= info.identities.contains(&identity);
                    info.identities.push(identity);
                }
                (DISCO_INFO, "feature") => {
                    info.ambiguous |= !info.features.insert(attribute("var"));
                }
                (DATA, "x") => info.ambiguous |= !info.form(child),
                _ => {}
            }
        }
        let apart = |text: &str| !text.contains('<');
        let separable = info.features.iter().all(|feature| apart(feature))
            && info.identities.iter().all(|identity| apart(&identity.name));
        info.ambiguous |= !separable;
        info
    }

    /// Reads a form; one without a type does not count (XEP-0115 §5.4). Whether it is the first of its type.
    fn form(&mut self, form: ElementRef<'_>) -> bool {
        let mut fields = BTreeMap::new();
        for field in form
            .children()
            .filter(|child| child.is(DATA, "field"))
            .take(PARTS_MAX)
        {
            let values = field.children().filter(|child| child.is(DATA, "value"));
            let values = values.map(|value| value.text_content().into_owned());
            let mut values: Vec<String> = values.take(PARTS_MAX).collect();
            values.sort_unstable();
            fields.insert(
                field.attribute("var").unwrap_or_default().to_owned(),
                values,
            );
        }
        let Some(kind) = fields
            .remove("FORM_TYPE")
            .and_then(|mut values| values.pop())
        else {
            return true;
        };
        self.forms.insert(kind, fields).is_none()
    }

    /// Whether it can this.
    pub fn has(&self, feature: &str) -> bool {
        self.features.contains(feature)
    }

    /// All that it can, sorted.
    pub fn features(&self) -> impl Iterator<Item = &str> {
        self.features.iter().map(String::as_str)
    }

    /// What it is.
    pub fn identities(&self) -> &[Identity] {
        &self.identities
    }

    /// The answer to who asks, with the node that was asked for.
    pub fn to_element(&self, node: Option<&str>) -> Element {
        let identities = self.identities.iter().map(|identity| {
            let element = Element::new(DISCO_INFO, "identity")
                .with("category", &identity.category)
                .with("type", &identity.kind)
                .with("name", &identity.name);
            if identity.lang.is_empty() {
                return element;
            }
            element.with_ns(crate::xml::NS_XML, "lang", &identity.lang)
        });
        let features = self.features.iter();
        let features = features.map(|var| Element::new(DISCO_INFO, "feature").with("var", var));
        Element::new(DISCO_INFO, "query")
            .with_opt("node", node)
            .children_from(identities)
            .children_from(features)
    }

    /// What the hash is made of (XEP-0115 §5.1).
    fn text(&self) -> String {
        let mut identities: Vec<_> = self.identities.iter().collect();
        identities.sort_unstable();
        let mut text = String::new();
        for identity in identities {
            let Identity {
                category,
                kind,
                lang,
                name,
            } = identity;
            text += &format!("{category}/{kind}/{lang}/{name}<");
        }
        for feature in &self.features {
            text += &format!("{feature}<");
        }
        for (kind, fields) in &self.forms {
            text += &format!("{kind}<");
            for (field, values) in fields {
                text += &format!("{field}<");
                values.iter().for_each(|value| text += &format!("{value}<"));
            }
        }
        text
    }

    /// The hash by the function of this name (RFC 3174 §4 of IANA's register); `None` for functions that we lack, and where
    /// something else could have the same.
    pub fn hash(&self, function: &str) -> Option<String> {
        if self.ambiguous {
            return None;
        }
        let text = self.text();
        Some(match function {
            "sha-1" => BASE64.encode(Sha1::digest(text)),
            "sha-256" => BASE64.encode(Sha256::digest(text)),
            "sha-512" => BASE64.encode(Sha512::digest(text)),
            _ => return None,
        })
    }

    /// The element that stands for it in presence.
    pub fn caps(&self, node: &str) -> Element {
        let ver = BASE64.encode(Sha1::digest(self.text()));
        Element::new(CAPS, "c")
            .with("hash", "sha-1")
            .with("node", node)
            .with("ver", ver)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::xml::{self, Context};
    use session_core::ElementLimits;

    fn read(inner: &str) -> Info {
        let text = format!("<query xmlns='{DISCO_INFO}'>{inner}</query>");
        let element = xml::parse(text.as_bytes(), &Context::NONE, &ElementLimits::default());
        Info::read(element.unwrap().view())
    }

    const SIMPLE: &str = "<identity category='client' type='pc' name='Exodus 0.9.1'/>\
        <feature var='http://jabber.org/protocol/caps'/><feature var='http://jabber.org/protocol/disco#info'/>\
        <feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>";

    /// XEP-0115 §5.2 and §5.3.
    #[test]
    fn the_examples_of_the_specification() {
        let simple = read(SIMPLE);
        assert_eq!(
            simple.hash("sha-1").as_deref(),
            Some("QgayPKawpkPSDYmwT/WM94uAlu0=")
        );
        let complex = read(
            "<identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>\
             <identity xml:lang='el' category='client' name='Ψ 0.11' type='pc'/>\
             <feature var='http://jabber.org/protocol/muc'/><feature var='http://jabber.org/protocol/caps'/>\
             <feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/>\
             <x xmlns='jabber:x:data' type='result'>\
             <field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>\
             <field var='ip_version'><value>ipv6</value><value>ipv4</value></field>\
             <field var='os_version'><value>10.5.1</value></field><field var='os'><value>Mac</value></field>\
             <field var='software'><value>Psi</value></field><field var='software_version'><value>0.11</value></field></x>",
        );
        assert_eq!(
            complex.hash("sha-1").as_deref(),
            Some("q07IKJEyjvHSyhy//CH0CxmKi8w=")
        );
        assert_eq!(complex.hash("md5"), None);
    }

    #[test]
    fn what_could_have_the_hash_of_another_has_none_and_is_what_its_speaker_can() {
        let hash = |inner: &str| read(inner).hash("sha-1");
        let feature = "<feature var='a'/>";
        assert!(hash(feature).is_some());
        assert_eq!(hash(&format!("{feature}{feature}")), None);
        assert!(read(&format!("{feature}{feature}")).has("a"));
        assert_eq!(hash("<feature var='a&lt;b'/>"), None);
        let identity = "<identity category='c' type='t'/>";
        assert_eq!(hash(&format!("{identity}{identity}")), None);
        let form = "<x xmlns='jabber:x:data'><field var='FORM_TYPE'><value>f</value></field></x>";
        assert_eq!(hash(&format!("{form}{form}")), None);
        assert!(hash("<x xmlns='jabber:x:data'/><x xmlns='jabber:x:data'/>").is_some());
    }

    #[test]
    fn what_is_said_is_understood() {
        let info = Info::new("client", "pc", "pcp", ["urn:xmpp:jingle:1"]);
        let said = info.to_element(Some("n#v"));
        assert_eq!(said.attribute("node"), Some("n#v"));
        assert_eq!(Info::read(said.view()), info);
        assert!(info.has("urn:xmpp:jingle:1") && info.has(CAPS) && !info.has("x"));
        assert_eq!(
            info.caps("n").attribute("ver"),
            info.hash("sha-1").as_deref()
        );
    }
}
