//! Stanzas that make no sense, and changes that take the sense out of one.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use session_core::element::Node;
use session_core::element::strategy::text;
use session_core::{Element, ElementRef};
use session_xmpp::ns;

const NAMESPACES: &[&str] = &[
    ns::CLIENT,
    ns::JINGLE,
    ns::GOOGLE_SESSION,
    ns::GOOGLE_P2P,
    ns::GOOGLE_VIDEO,
    ns::GOOGLE_PHONE,
    ns::STANZAS,
    ns::JINGLE_ERRORS,
    ns::GROUPING,
    "",
];

const NAMES: &[&str] = &[
    "jingle",
    "session",
    "content",
    "description",
    "transport",
    "candidate",
    "reason",
    "group",
    "error",
    "redirect",
    "text",
    "sid",
    "target",
    "cookie",
    "busy",
    "alternative_session",
    "security",
    "success",
];

const KEYS: &[&str] = &[
    "action",
    "type",
    "sid",
    "id",
    "initiator",
    "responder",
    "name",
    "creator",
    "senders",
    "disposition",
    "semantics",
    "code",
];

const VALUES: &[&str] = &[
    "session-initiate",
    "session-terminate",
    "transport-info",
    "session-info",
    "initiate",
    "accept",
    "candidates",
    "terminate",
    "reject",
    "redirect",
    "update",
    "info",
    "error",
    "set",
    "7",
    "alice@example.org/desk",
    "@",
    "video_rtp",
    "rtp",
    "both",
    "initiator",
    "302",
    "",
    "modify",
    "audio",
    "video",
];

const KINDS: &[&str] = &[
    "session-initiate",
    "session-accept",
    "transport-info",
    "session-terminate",
    "initiate",
    "accept",
    "candidates",
    "terminate",
    "reject",
    "redirect",
    "update",
    "info",
    "transport-accept",
];

/// Elements of the right names, put together without sense.
fn tree() -> impl Strategy<Value = Element> {
    let leaf = (
        select(NAMESPACES),
        select(NAMES),
        vec((select(KEYS), select(VALUES)), 0..5),
        option::of(text()),
    );
    let leaf = leaf.prop_map(|(namespace, name, attributes, text)| {
        let element = Element::new(namespace, name).text(&text.unwrap_or_default());
        attributes
            .into_iter()
            .fold(element, |element, (key, value)| element.with(key, value))
    });
    let leaf = leaf.boxed();
    leaf.clone().prop_recursive(4, 24, 4, move |inner| {
        (leaf.clone(), vec(inner, 0..4))
            .prop_map(|(element, children)| element.children_from(children))
    })
}

/// A stanza of the right names, put together without sense.
pub(crate) fn nonsense() -> impl Strategy<Value = Element> {
    let envelopes = vec![
        (ns::JINGLE, "jingle", "action", "sid"),
        (ns::GOOGLE_SESSION, "session", "type", "id"),
    ];
    let payload = (select(envelopes), select(KINDS), vec(tree(), 0..4));
    let payload = payload.prop_map(|((namespace, name, action, sid), kind, children)| {
        Element::new(namespace, name)
            .with(action, kind)
            .with(sid, "7")
            .with("initiator", "alice@example.org/desk")
            .children_from(children)
    });
    let kind =
        prop_oneof![6 => Just("set"), 2 => Just("error"), 1 => Just("result"), 1 => Just("x")];
    let child = prop_oneof![3 => payload, 1 => tree()];
    (kind, super::strategies::peer(), vec(child, 0..3)).prop_map(|(kind, from, children)| {
        Element::new(ns::CLIENT, "iq")
            .with("type", kind)
            .with("id", "1")
            .with("from", from)
            .with("to", "local@example.org/here")
            .children_from(children)
    })
}

/// A small change somewhere in a stanza.
#[derive(Clone, Debug)]
pub(crate) enum Mutation {
    Namespace(&'static str),
    Name(&'static str),
    Attribute(&'static str, &'static str),
    Text(&'static str),
    Drop,
    Twice,
    Child(Element),
}

pub(crate) fn mutation() -> impl Strategy<Value = Mutation> {
    let namespaces = vec![
        ns::JINGLE,
        ns::GOOGLE_SESSION,
        ns::GOOGLE_P2P,
        ns::GOOGLE_VIDEO,
        ns::GOOGLE_PHONE,
        "",
    ];
    let names = vec![
        "description",
        "transport",
        "candidate",
        "content",
        "reason",
        "sid",
        "text",
        "cookie",
        "target",
        "alternative-session",
        "failed_application",
        "security",
        "x",
    ];
    let attributes = vec![
        ("type", "initiate"),
        ("type", "accept"),
        ("type", "update"),
        ("type", "candidates"),
        ("type", "terminate"),
        ("type", "redirect"),
        ("action", "session-initiate"),
        ("action", "session-terminate"),
        ("name", "video_rtp"),
        ("name", ""),
        ("creator", "x"),
        ("senders", "x"),
        ("sid", ""),
        ("id", ""),
        ("initiator", "@"),
        ("semantics", ""),
    ];
    prop_oneof![
        3 => select(namespaces.clone()).prop_map(Mutation::Namespace),
        3 => select(names.clone()).prop_map(Mutation::Name),
        3 => select(attributes).prop_map(|(key, value)| Mutation::Attribute(key, value)),
        1 => select(vec![" ", " a "]).prop_map(Mutation::Text),
        1 => Just(Mutation::Drop),
        1 => Just(Mutation::Twice),
        3 => (select(namespaces), select(names))
            .prop_map(|(namespace, name)| Mutation::Child(Element::new(namespace, name))),
    ]
}

/// The element with the mutation made at the element with this number, in document order.
pub(crate) fn mutated(
    element: ElementRef<'_>,
    at: &mut Option<usize>,
    mutation: &Mutation,
) -> Vec<Element> {
    let here = *at == Some(0);
    *at = at.and_then(|at| at.checked_sub(1));
    let (mut namespace, mut name) = (element.namespace(), element.name());
    match mutation {
        Mutation::Drop if here => return vec![],
        Mutation::Namespace(other) if here => namespace = other,
        Mutation::Name(other) if here => name = other,
        Mutation::Drop | Mutation::Namespace(_) | Mutation::Name(_) => {}
        Mutation::Attribute(..) | Mutation::Text(_) | Mutation::Twice | Mutation::Child(_) => {}
    }
    let mut copy = Element::new(namespace, name);
    for attribute in element.attributes() {
        copy.set_attribute_ns(attribute.namespace, attribute.name, attribute.value);
    }
    for node in element.nodes() {
        match node {
            Node::Text(text) => copy.push_text(text),
            Node::Element(child) => {
                mutated(child, at, mutation)
                    .into_iter()
                    .for_each(|child| copy.push(child));
            }
        }
    }
    match mutation {
        Mutation::Attribute(key, value) if here => vec![copy.with(key, value)],
        Mutation::Text(text) if here => vec![copy.text(text)],
        Mutation::Child(child) if here => vec![copy.child(child.clone())],
        Mutation::Twice if here => vec![copy.clone(), copy],
        Mutation::Attribute(..) | Mutation::Text(_) | Mutation::Twice | Mutation::Child(_) => {
            vec![copy]
        }
        Mutation::Drop | Mutation::Namespace(_) | Mutation::Name(_) => vec![copy],
    }
}
