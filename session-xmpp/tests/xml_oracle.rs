//! The codec against rxml, an independent strict reader of the same restricted XML.
#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rxml::Parse as _;
use session_core::element::Step;
use session_core::element::strategy;
use session_core::{Element, ElementLimits, ElementRef};
use session_xmpp::xml::{self, Context, XmlErrorKind};

/// What rxml makes of a document.
fn oracle(document: &[u8]) -> Option<Element> {
    let mut parser = rxml::Parser::new();
    // rxml refuses white space before the root.
    let mut rest = document.trim_ascii_start();
    let mut open: Vec<Element> = Vec::new();
    let mut root = None;
    while let Some(event) = parser.parse(&mut rest, true).ok()? {
        match event {
            rxml::Event::XmlDeclaration(..) => return None,
            rxml::Event::StartElement(_, (namespace, name), attributes) => {
                let mut element = Element::new(namespace.as_str(), name.as_str());
                for ((namespace, key), value) in attributes.iter() {
                    element.set_attribute_ns(namespace.as_str(), key.as_str(), value);
                }
                open.push(element);
            }
            rxml::Event::EndElement(_) => {
                let element = open.pop()?;
                match open.last_mut() {
                    Some(parent) => parent.push(element),
                    None => root = Some(element),
                }
            }
            rxml::Event::Text(_, text) => open.last_mut()?.push_text(&text),
        }
    }
    root
}

/// Where rxml 0.14 differs from the specifications: it drops or refuses carriage returns without a line feed in values
/// (XML 1.0 §2.11), and does not know the names from U+FDF0 to U+FFFD (XML 1.0 §2.3).
fn is_beyond_the_oracle(document: &str) -> bool {
    document.replace("\r\n", "").contains('\r')
        || document.contains(|c| matches!(c, '\u{fdf0}'..='\u{fffd}'))
}

/// Both readers agree, but for what rxml is known not to check.
fn compare(document: &[u8]) -> Result<(), TestCaseError> {
    let ours = xml::parse(document, &Context::NONE, &ElementLimits::default());
    let theirs = oracle(document);
    let text = String::from_utf8_lossy(document);
    match (&ours, &theirs) {
        (Ok(_), _) if is_beyond_the_oracle(&text) => {}
        (Ok(ours), Some(theirs)) => prop_assert_eq!(ours, theirs, "{:?}", text),
        (Ok(ours), None) => prop_assert!(false, "rxml refuses {}, read as {}", text, ours),
        (Err(error), Some(theirs)) => {
            // rxml lets declarations of namespaces be repeated and bind the namespace of declarations, lets references
            // to white space stand outside of the root, and has none of these limits.
            let at = document.get(error.position as usize..).unwrap_or_default();
            let kind = error.kind;
            let known = matches!(kind, XmlErrorKind::Limit(_))
                || (kind == XmlErrorKind::DuplicateAttribute && at.starts_with(b"xmlns"))
                || (kind == XmlErrorKind::ReservedNamespace && text.contains(xml::NS_XMLNS))
                || (kind == XmlErrorKind::TextOutside && at.starts_with(b"&#"));
            prop_assert!(
                known,
                "{} in {}, which rxml reads as {}",
                error,
                text,
                theirs
            );
        }
        (Err(error), None) => prop_assert!(error.position <= document.len() as u64, "{}", error),
    }
    Ok(())
}

/// How to write what can be written in several ways; drawn from when there is a choice.
struct Choices(std::vec::IntoIter<u8>);

impl Choices {
    fn of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[usize::from(self.0.next().unwrap_or_default()) % choices.len()]
    }

    /// An element with other quotes, prefixes, escapes and white space than ours would have.
    fn element(&mut self, element: ElementRef<'_>, out: &mut String) {
        let mut names = Vec::new();
        for step in element.walk() {
            match step {
                Step::Open(element) => names.push(self.start_tag(element, out)),
                Step::Text(text) => self.text(text, out),
                Step::Close(_) => {
                    let name = names.pop().unwrap();
                    *out += &format!("</{name}{}>", self.of(&["", " ", "\n"]));
                }
            }
        }
    }

    fn start_tag(&mut self, element: ElementRef<'_>, out: &mut String) -> String {
        let mut attributes = Vec::new();
        let mut namespaces: Vec<&str> = element.attributes().map(|a| a.namespace).collect();
        let prefixed = !element.namespace().is_empty() && self.of(&[true, false]);
        namespaces.push(if prefixed { element.namespace() } else { "" });
        namespaces.retain(|namespace| !namespace.is_empty() && *namespace != xml::NS_XML);
        namespaces.sort_unstable();
        namespaces.dedup();
        let prefix = |namespace: &str| match namespace {
            "" => String::new(),
            xml::NS_XML => "xml:".into(),
            _ => format!(
                "p{}:",
                namespaces.iter().position(|ns| *ns == namespace).unwrap()
            ),
        };
        for (index, namespace) in namespaces.iter().enumerate() {
            attributes.push((format!("xmlns:p{index}"), *namespace));
        }
        if !prefixed {
            attributes.push(("xmlns".into(), element.namespace()));
        }
        for attribute in element.attributes() {
            let key = format!("{}{}", prefix(attribute.namespace), attribute.name);
            attributes.push((key, attribute.value));
        }
        if self.of(&[true, false]) {
            attributes.reverse();
        }
        let name = format!(
            "{}{}",
            prefix(if prefixed { element.namespace() } else { "" }),
            element.name()
        );
        *out += &format!("<{name}");
        for (key, value) in attributes {
            let quote = self.of(&['\'', '"']);
            *out += &format!(
                "{}{key}{}={quote}",
                self.of(&[" ", "\t ", "\r\n"]),
                self.of(&["", " "])
            );
            value.chars().for_each(|c| self.character(c, true, out));
            out.push(quote);
        }
        *out += self.of(&[">", " >"]);
        name
    }

    fn text(&mut self, text: &str, out: &mut String) {
        if self.of(&[false, false, true]) && !text.contains(['\r']) && !text.contains("]]>") {
            *out += &format!("<![CDATA[{text}]]>");
        } else {
            text.chars().for_each(|c| self.character(c, false, out));
        }
    }

    fn character(&mut self, c: char, attribute: bool, out: &mut String) {
        let must = matches!(c, '<' | '&' | '\r' | '>' | '\'' | '"')
            || (attribute && matches!(c, '\n' | '\t'));
        let named = match c {
            '<' => Some("&lt;"),
            '>' => Some("&gt;"),
            '&' => Some("&amp;"),
            '\'' => Some("&apos;"),
            '"' => Some("&quot;"),
            _ => None,
        };
        match (
            must || self.of(&[false, false, false, true]),
            self.of(&[0, 1, 2]),
        ) {
            (false, _) if c == '\n' => *out += self.of(&["\n", "\r\n"]),
            (false, _) => out.push(c),
            (true, 0) if named.is_some() => *out += named.unwrap(),
            (true, 1) => *out += &format!("&#{};", u32::from(c)),
            (true, _) => *out += &format!("&#x00{:x};", u32::from(c)),
        }
    }
}

fn choices() -> impl Strategy<Value = Choices> {
    vec(any::<u8>(), 200).prop_map(|bytes| Choices(bytes.into_iter()))
}

impl std::fmt::Debug for Choices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Choices({:?})", self.0.as_slice())
    }
}

/// What to put into a document to break it, or to bring out something rare.
fn fragment() -> impl Strategy<Value = Vec<u8>> {
    let known = select(vec![
        "<",
        ">",
        "/",
        "'",
        "\"",
        "=",
        "&",
        ";",
        "#",
        ":",
        "!",
        "?",
        "-",
        "]]>",
        "<![CDATA[",
        "]]",
        "<!--",
        "-->",
        "<?",
        "?>",
        "<!DOCTYPE a>",
        "&lt;",
        "&#9;",
        "&#x0;",
        "&#xfffe;",
        "&#xD800;",
        "&x;",
        "&amp",
        "xmlns=''",
        " xmlns='u'",
        " xmlns:p='u'",
        " xmlns:q='u'",
        " xmlns:p=''",
        " p:a='1'",
        " q:a='1'",
        " a='1'",
        "p:",
        "q:",
        "xmlns:",
        "xml:",
        " xmlns:xml='u'",
        " xmlns:p='http://www.w3.org/2000/xmlns/'",
        "<a>",
        "</a>",
        "<a/>",
        "<p:a/>",
        " ",
        "\n",
        "\r",
        "\r\n",
        "\t",
        "\0",
        "\u{1}",
        "\u{7f}",
        "\u{fffe}",
        "\u{feff}",
        "\u{b7}",
        "\u{d7}",
        "é",
        "1",
        "a",
        "_",
        ".",
        "<?xml version='1.0'?>",
        " http://www.w3.org/XML/1998/namespace",
    ]);
    prop_oneof![9 => known.prop_map(|text| text.as_bytes().to_vec()), 1 => vec(any::<u8>(), 1..3)]
}

#[derive(Debug, Clone)]
enum Edit {
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    Replace(Index, Vec<u8>),
}

fn edit() -> impl Strategy<Value = Edit> {
    prop_oneof![
        (any::<Index>(), fragment()).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<Index>(), 1_usize..4).prop_map(|(at, count)| Edit::Remove(at, count)),
        (any::<Index>(), fragment()).prop_map(|(at, bytes)| Edit::Replace(at, bytes)),
    ]
}

fn apply(edit: &Edit, document: &mut Vec<u8>) {
    let (Edit::Insert(index, _) | Edit::Remove(index, _) | Edit::Replace(index, _)) = edit;
    let at = index.index(document.len() + 1);
    match edit {
        Edit::Insert(_, bytes) => drop(document.splice(at..at, bytes.iter().copied())),
        Edit::Remove(_, count) => drop(document.drain(at..(at + count).min(document.len()))),
        Edit::Replace(_, bytes) => {
            let end = (at + bytes.len()).min(document.len());
            drop(document.splice(at..end, bytes.iter().copied()));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn what_is_written_reads_back(element in strategy::element(), client in any::<bool>()) {
        let context = if client { Context::CLIENT } else { Context::NONE };
        let mut bytes = Vec::new();
        xml::write(&element, &context, &mut bytes).unwrap();
        let read = xml::parse(&bytes, &context, &ElementLimits::default());
        prop_assert_eq!(read.as_ref(), Ok(&element), "{}", String::from_utf8_lossy(&bytes));
        if !client {
            prop_assert_eq!(oracle(&bytes), Some(element));
        }
    }

    #[test]
    fn every_way_to_write_an_element_reads_the_same(element in strategy::element(), mut choices in choices()) {
        let mut document = String::new();
        choices.element(element.view(), &mut document);
        let read = xml::parse(document.as_bytes(), &Context::NONE, &ElementLimits::default());
        prop_assert_eq!(read.as_ref(), Ok(&element), "{}", document);
        prop_assert_eq!(oracle(document.as_bytes()), Some(element), "{}", document);
    }

    #[test]
    fn damaged_documents_are_judged_alike(
        element in strategy::element(),
        mut choices in choices(),
        edits in vec(edit(), 1..4),
    ) {
        let mut document = String::new();
        choices.element(element.view(), &mut document);
        let mut document = document.into_bytes();
        for edit in &edits {
            apply(edit, &mut document);
        }
        compare(&document)?;
    }

    #[test]
    fn heaps_of_fragments_are_judged_alike(
        frame in select(vec![("<a xmlns:p='p'", "></a>"), ("<a xmlns:p='p'>", "</a>"), ("<a b='", "'/>"), ("", "")]),
        fragments in vec(fragment(), 0..6),
    ) {
        let mut document = frame.0.as_bytes().to_vec();
        document.extend(fragments.concat());
        document.extend(frame.1.as_bytes());
        compare(&document)?;
    }
}

/// A property that compares nothing could not fail: most of the damaged documents must be refused, many must not.
#[test]
fn the_damage_is_of_both_kinds() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;
    let mut runner = TestRunner::deterministic();
    let strategy = (strategy::element(), choices(), edit());
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..500 {
        let (element, mut choices, edit) = strategy.new_tree(&mut runner).unwrap().current();
        let mut document = String::new();
        choices.element(element.view(), &mut document);
        let mut document = document.into_bytes();
        apply(&edit, &mut document);
        match xml::parse(&document, &Context::NONE, &ElementLimits::default()) {
            Ok(_) => accepted += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(
        accepted > 50 && refused > 150,
        "{accepted} accepted, {refused} refused"
    );
}
