//! Strategies of proptest for elements.
//!
//! All elements made here can be written as XML and read back.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::Element;

/// The namespace of `xml:lang` and its kind, whose prefix needs no declaration.
const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// Elements of up to about 40 nodes and five levels, with colliding and exotic names, namespaces on elements and
/// attributes, and text full of markup.
pub fn element() -> impl Strategy<Value = Element> {
    let leaf = (open(), vec(text(), 0..2)).prop_map(|(element, texts)| {
        texts
            .iter()
            .fold(element, |element, text| element.text(text))
    });
    leaf.prop_recursive(4, 40, 5, |inner| {
        (
            open(),
            vec(
                prop_oneof![3 => inner.prop_map(Ok), 2 => text().prop_map(Err)],
                0..5,
            ),
        )
            .prop_map(|(element, content)| {
                content
                    .into_iter()
                    .fold(element, |element, node| match node {
                        Ok(child) => element.child(child),
                        Err(text) => element.text(&text),
                    })
            })
    })
}

/// Names without prefix (`NCName` of Namespaces in XML 1.0), mostly from a small set, so that they collide.
pub fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => select(vec!["iq", "content", "candidate", "type", "id", "lang", "a"]).prop_map(String::from),
        1 => "[A-Za-z_][A-Za-z0-9._-]{0,8}",
        1 => "[a-zà-öø-ʯͰ-ͽⰀ-\u{2fef}𐀀-𐏿][a-z0-9·à-öø-ʯ‿-⁀-]{0,4}",
    ]
}

/// Namespaces, the empty one among them.
pub fn namespace() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => select(vec!["jabber:client", "urn:xmpp:jingle:1", "urn:x", ""]).prop_map(String::from),
        1 => "urn:[a-z]{1,6}:[0-9&<'\"]{1,2}",
    ]
}

/// Text that is not empty, of characters that XML 1.0 allows, with those that need an escape more often than chance
/// would have them.
pub fn text() -> impl Strategy<Value = String> {
    let character = prop_oneof![
        4 => proptest::char::range('!', '~'),
        2 => select(vec!['<', '>', '&', '\'', '"', ' ', '\t', '\n', '\r', ']', '[', ';', '#']),
        1 => any::<char>().prop_map(|c| if is_xml_character(c) { c } else { '\u{fffd}' }),
        1 => select(vec!['\u{80}', '\u{85}', '\u{2028}', '\u{feff}', '\u{fffd}', '\u{10ffff}']),
    ];
    vec(character, 1..12).prop_map(String::from_iter)
}

/// An element with attributes only.
fn open() -> impl Strategy<Value = Element> {
    let attribute_namespace = prop_oneof![
        6 => Just(String::new()),
        1 => Just(String::from(XML)),
        2 => namespace(),
    ];
    let value = prop_oneof![4 => text(), 1 => Just(String::new())];
    (
        namespace(),
        name(),
        vec((attribute_namespace, name(), value), 0..5),
    )
        .prop_map(|(namespace, name, attributes)| {
            attributes.into_iter().fold(
                Element::new(&namespace, &name),
                |element, (namespace, key, value)| element.with_ns(&namespace, &key, value),
            )
        })
}

/// Production `Char` of XML 1.0 §2.2.
fn is_xml_character(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}
