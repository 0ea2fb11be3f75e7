#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::strategy;
use super::*;

const NS: &str = "urn:x";

fn sample() -> Element {
    Element::new(NS, "a")
        .with("k", 1)
        .with_ns("urn:y", "k", "two")
        .text("before")
        .child(Element::new(NS, "b").text("in b"))
        .text("after")
        .child(
            Element::new("urn:y", "b")
                .with_opt("none", None::<&str>)
                .with_opt("some", Some(3)),
        )
}

#[test]
fn readers_give_what_was_built() {
    let a = sample();
    assert!(a.is(NS, "a") && !a.is("urn:y", "a") && !a.is(NS, "b"));
    assert_eq!((a.namespace(), a.name()), (NS, "a"));
    assert_eq!(a.attribute("k"), Some("1"));
    assert_eq!(a.attribute_ns("urn:y", "k"), Some("two"));
    assert_eq!(a.attribute_ns("urn:z", "k"), None);
    assert_eq!(
        a.attributes()
            .map(|a| (a.namespace, a.value))
            .collect::<Vec<_>>(),
        [("", "1"), ("urn:y", "two")]
    );
    assert_eq!(
        a.children().map(ElementRef::namespace).collect::<Vec<_>>(),
        [NS, "urn:y"]
    );
    assert_eq!(a.find("urn:y", "b").unwrap().attribute("some"), Some("3"));
    assert_eq!(a.find("urn:y", "b").unwrap().attribute("none"), None);
    assert!(a.find("urn:y", "a").is_none());
    assert_eq!(a.text_content(), "beforeafter");
    assert!(matches!(
        a.find(NS, "b").unwrap().text_content(),
        Cow::Borrowed("in b")
    ));
    assert!(!a.is_empty() && a.find("urn:y", "b").unwrap().is_empty());
    assert!(
        !Element::new("", "t").text("x").is_empty() && Element::new("", "t").text("").is_empty()
    );
}

#[test]
fn setting_an_attribute_again_replaces_it_in_its_place() {
    let element = Element::new(NS, "a").with("x", 1).with("y", 2).with("x", 3);
    let values: Vec<_> = element.attributes().map(|a| (a.name, a.value)).collect();
    assert_eq!(values, [("x", "3"), ("y", "2")]);
}

#[test]
fn replacing_for_ever_does_not_grow() {
    let mut element = Element::new(NS, "a");
    for count in 0..20_000 {
        element.set_attribute("count", count);
    }
    assert_eq!(element.attribute("count"), Some("19999"));
    assert!(
        element.heap_size() < 8 * GARBAGE_KEPT,
        "{} bytes",
        element.heap_size()
    );
}

#[test]
fn clones_and_parts_are_independent_values() {
    let original = sample();
    let mut clone = original.clone();
    clone.set_attribute("k", "changed");
    let mut part = original.find(NS, "b").unwrap().to_element();
    part.push_text(", more");
    part.push(Element::new(NS, "c"));
    assert_eq!(original, sample());
    assert_eq!(clone.attribute("k"), Some("changed"));
    assert_eq!(
        part,
        Element::new(NS, "b")
            .text("in b, more")
            .child(Element::new(NS, "c"))
    );
}

#[test]
fn an_element_can_be_pushed_into_itself() {
    let mut element = Element::new(NS, "a").text("t");
    element.push(element.clone());
    assert_eq!(
        element,
        Element::new(NS, "a")
            .text("t")
            .child(Element::new(NS, "a").text("t"))
    );
}

#[test]
fn a_part_shares_memory_until_it_is_detached() {
    let big = Element::new(NS, "big")
        .text(&"x".repeat(10_000))
        .child(Element::new(NS, "b").with("k", "v"));
    let part = big.find(NS, "b").unwrap().to_element();
    assert_eq!(part.heap_size(), big.heap_size());
    let detached = part.detach();
    assert_eq!(detached, part);
    let exact = "urn:x".len() + "b".len() + "kv".len() + 32 + 24 + 2 * 8 + size_of::<Tree>() + 16;
    assert_eq!(detached.heap_size(), exact);
}

#[test]
fn equality_ignores_the_order_of_attributes_and_how_text_was_given() {
    let one = Element::new(NS, "a").with("x", 1).with("y", 2).text("ab");
    let other = Element::new(NS, "a")
        .with("y", 2)
        .with("x", 1)
        .text("a")
        .text("")
        .text("b");
    assert_eq!(one, other);
    for different in [
        Element::new(NS, "a").with("x", 1).text("ab"),
        Element::new(NS, "a")
            .with("x", 1)
            .with("y", 2)
            .with("z", 3)
            .text("ab"),
        Element::new(NS, "a").with("x", 1).with("y", 3).text("ab"),
        Element::new(NS, "a")
            .with("x", 1)
            .with_ns(NS, "y", 2)
            .text("ab"),
        Element::new(NS, "a")
            .with("x", 1)
            .with("y", 2)
            .text("ab")
            .child(Element::new(NS, "b")),
        Element::new(NS, "a")
            .with("x", 1)
            .with("y", 2)
            .child(Element::new(NS, "b"))
            .text("ab"),
        Element::new(NS, "b").with("x", 1).with("y", 2).text("ab"),
        Element::new("", "a").with("x", 1).with("y", 2).text("ab"),
    ] {
        assert_ne!(one, different);
        assert_ne!(different, one);
    }
}

#[test]
fn a_deep_tree_does_not_exhaust_the_stack() {
    let build = || {
        let mut deep = Element::new(NS, "leaf");
        for _ in 0..400 {
            deep = Element::new(NS, "level").child(deep);
        }
        let mut tree = Tree::clone(&deep.tree);
        let mut innermost = 0;
        for _ in 0..200_000 {
            innermost = tree.link(innermost, tree::NodeData::element(0, tree::Span::EMPTY));
        }
        Element {
            tree: Arc::new(tree),
            root: 0,
        }
    };
    let (one, other) = (build(), build());
    assert_eq!(one, other);
    assert_eq!(one.detach(), one);
    assert_eq!(one.to_string(), format!("{other:?}"));
}

#[test]
fn a_walk_knows_what_is_open_and_stays_inside() {
    let outer = sample();
    let inner = outer.find(NS, "b").unwrap();
    let mut walk = inner.walk();
    assert_eq!(walk.open_elements().next(), None);
    assert_eq!(walk.next(), Some(Step::Open(inner)));
    assert_eq!(walk.open_elements().collect::<Vec<_>>(), [inner]);
    assert_eq!(walk.next(), Some(Step::Text("in b")));
    assert_eq!(walk.open_elements().collect::<Vec<_>>(), [inner]);
    assert_eq!(walk.next(), Some(Step::Close(inner)));
    assert_eq!(walk.open_elements().next(), None);
    assert_eq!(walk.next(), None);
    assert_eq!(walk.next(), None);
}

#[test]
fn a_log_line_shows_namespaces_where_they_change_and_hides_control_characters() {
    let element = sample().with("n", "a\nb'<&\u{7f}");
    assert_eq!(
        element.to_string(),
        "<a xmlns='urn:x' k='1' {urn:y}k='two' n='a\\nb&apos;&lt;&amp;\\u{7f}'>before<b>in b</b>after\
         <b xmlns='urn:y' some='3'/></a>"
    );
}

fn builder(source: &str) -> TreeBuilder {
    TreeBuilder::new(source.into(), &ElementLimits::default()).unwrap()
}

#[test]
fn the_builder_refuses_bad_ranges_and_stays_usable() {
    let mut builder = builder("aé");
    for range in [0..4, 4..4, 1..2, 2..3, usize::MAX - 1..usize::MAX] {
        let error = TreeError::Range {
            start: range.start,
            end: range.end,
        };
        assert_eq!(builder.open(NamespaceId::NONE, range.clone()), Err(error));
        assert_eq!(builder.namespace_at(range), Err(error));
    }
    #[expect(clippy::reversed_empty_ranges, reason = "a caller can")]
    let reversed = 2..1;
    assert!(matches!(
        builder.open(NamespaceId::NONE, reversed),
        Err(TreeError::Range { .. })
    ));
    builder.open(NamespaceId::NONE, 1..3).unwrap();
    assert_eq!(
        builder.attribute(NamespaceId::NONE, 0..1, 2..3),
        Err(TreeError::Range { start: 2, end: 3 })
    );
    builder
        .attribute_str(NamespaceId::NONE, 0..1, "appended")
        .unwrap();
    // The appended text lies behind the source, and is no part of it.
    assert_eq!(
        builder.text(3..5),
        Err(TreeError::Range { start: 3, end: 5 })
    );
    builder.close().unwrap();
    assert_eq!(
        builder.finish().unwrap(),
        Element::new("", "é").with("a", "appended")
    );
}

#[test]
fn the_builder_refuses_calls_out_of_order() {
    let mut stranger = builder("");
    let foreign = stranger.namespace(NS).unwrap();
    let mut builder = builder("ab");
    assert_eq!(builder.text_str("x"), Err(TreeError::NoElement));
    assert_eq!(builder.text(0..1), Err(TreeError::NoElement));
    assert_eq!(builder.close(), Err(TreeError::NoElement));
    assert_eq!(
        builder.attribute(NamespaceId::NONE, 0..1, 0..1),
        Err(TreeError::NoElement)
    );
    assert_eq!(
        builder.open(foreign, 0..1),
        Err(TreeError::UnknownNamespace)
    );
    builder.open(NamespaceId::NONE, 0..1).unwrap();
    assert_eq!(
        builder.attribute(foreign, 0..1, 0..1),
        Err(TreeError::UnknownNamespace)
    );
    builder.attribute(NamespaceId::NONE, 0..1, 0..1).unwrap();
    assert_eq!(
        builder.attribute(NamespaceId::NONE, 0..1, 1..2),
        Err(TreeError::DuplicateAttribute)
    );
    let namespace = builder.namespace(NS).unwrap();
    assert_eq!(builder.namespace(NS), Ok(namespace));
    builder.attribute(namespace, 0..1, 1..2).unwrap();
    builder.text_str("x").unwrap();
    assert_eq!(
        builder.attribute(NamespaceId::NONE, 1..2, 0..1),
        Err(TreeError::LateAttribute)
    );
    builder.close().unwrap();
    assert_eq!(
        builder.open(NamespaceId::NONE, 0..1),
        Err(TreeError::SecondRoot)
    );
    assert_eq!(builder.text_str("x"), Err(TreeError::NoElement));
    assert!(builder.finish().is_ok());
    assert_eq!(stranger.finish().unwrap_err(), TreeError::Unfinished);
}

#[test]
fn limits_may_be_none() {
    let limits = ElementLimits {
        depth: usize::MAX,
        children: usize::MAX,
        attributes: usize::MAX,
        elements: usize::MAX,
        namespaces: usize::MAX,
        bytes: usize::MAX,
    };
    let mut builder = TreeBuilder::new("a".into(), &limits).unwrap();
    builder.open(NamespaceId::NONE, 0..1).unwrap();
    builder.text_str("more").unwrap();
    builder.close().unwrap();
    assert_eq!(builder.finish().unwrap().text_content(), "more");
}

#[test]
fn every_limit_is_kept_at_its_value() {
    let limits = ElementLimits {
        depth: 2,
        children: 2,
        attributes: 2,
        elements: 4,
        namespaces: 2,
        bytes: 10,
    };
    let over = |limit| Err(TreeError::Limit(limit));
    assert!(TreeBuilder::new("12345678901".into(), &limits).is_err());
    let mut builder = TreeBuilder::new("abcdefghij".into(), &limits).unwrap();
    let none = NamespaceId::NONE;
    for namespace in ["1", "2"] {
        builder.namespace(namespace).unwrap();
    }
    assert_eq!(
        builder.namespace("3").map(drop),
        over(ElementLimit::Namespaces)
    );
    assert_eq!(
        builder.namespace_at(0..1).map(drop),
        over(ElementLimit::Namespaces)
    );
    builder.open(none, 0..1).unwrap();
    builder.attribute(none, 0..1, 0..1).unwrap();
    builder.attribute(none, 1..2, 0..1).unwrap();
    assert_eq!(
        builder.attribute(none, 2..3, 0..1),
        over(ElementLimit::Attributes)
    );
    for _ in 0..2 {
        builder.open(none, 0..1).unwrap();
        assert_eq!(builder.depth(), 2);
        assert_eq!(builder.open(none, 0..1), over(ElementLimit::Depth));
        builder.close().unwrap();
    }
    assert_eq!(builder.open(none, 0..1), over(ElementLimit::Children));
    assert_eq!(
        builder.text_str("1234567890123456789"),
        over(ElementLimit::Bytes)
    );
    builder.text_str("123456789").unwrap();
    assert_eq!(builder.text(0..10), over(ElementLimit::Bytes));
    builder.close().unwrap();
    assert!(builder.finish().is_ok());

    let limits = ElementLimits {
        elements: 2,
        ..ElementLimits::default()
    };
    let mut builder = TreeBuilder::new("a".into(), &limits).unwrap();
    builder.open(none, 0..1).unwrap();
    builder.open(none, 0..1).unwrap();
    assert_eq!(builder.open(none, 0..1), over(ElementLimit::Elements));
}

#[test]
fn texts_in_a_row_become_one_whatever_their_origin() {
    let mut builder = builder("<a>one&amp;two<b/>");
    let none = NamespaceId::NONE;
    builder.open(none, 1..2).unwrap();
    builder.text(3..6).unwrap();
    builder.text_str("&").unwrap();
    builder.text(11..12).unwrap();
    builder.text(12..14).unwrap();
    builder.open(none, 15..16).unwrap();
    builder.close().unwrap();
    builder.text(3..5).unwrap();
    builder.text(5..6).unwrap();
    builder.close().unwrap();
    let element = builder.finish().unwrap();
    let texts: Vec<_> = element
        .nodes()
        .filter(|n| matches!(n, Node::Text(_)))
        .collect();
    assert_eq!(texts, [Node::Text("one&two"), Node::Text("one")]);
}

type Call = Box<dyn Fn(&mut TreeBuilder)>;

/// Builds the same element again, call by call, through a [`TreeBuilder`].
fn rebuild(element: &Element) -> Element {
    let mut source = String::new();
    let mut put = |text: &str| {
        source.push_str(text);
        source.len() - text.len()..source.len()
    };
    let mut calls: Vec<Call> = Vec::new();
    for step in element.walk() {
        match step {
            Step::Open(element) => {
                let (namespace, name) = (put(element.namespace()), put(element.name()));
                calls.push(Box::new(move |builder| {
                    let namespace = builder.namespace_at(namespace.clone()).unwrap();
                    builder.open(namespace, name.clone()).unwrap();
                }));
                for (at, attribute) in element.attributes().enumerate() {
                    let (name, value) = (put(attribute.name), put(attribute.value));
                    let (namespace, text) =
                        (attribute.namespace.to_owned(), attribute.value.to_owned());
                    calls.push(Box::new(move |builder| {
                        let namespace = builder.namespace(&namespace).unwrap();
                        if at % 2 == 0 {
                            builder
                                .attribute(namespace, name.clone(), value.clone())
                                .unwrap();
                        } else {
                            builder
                                .attribute_str(namespace, name.clone(), &text)
                                .unwrap();
                        }
                    }));
                }
            }
            Step::Text(text) => {
                let (range, text) = (put(text), text.to_owned());
                calls.push(Box::new(move |builder| {
                    builder.text(range.clone()).unwrap();
                    builder.text_str(&text).unwrap();
                }));
            }
            Step::Close(_) => calls.push(Box::new(|builder| builder.close().unwrap())),
        }
    }
    let mut builder = TreeBuilder::new(source, &ElementLimits::default()).unwrap();
    for call in calls {
        call(&mut builder);
    }
    builder.finish().unwrap()
}

/// The element with each text twice, which is what [`rebuild`] makes of it.
fn doubled(element: ElementRef<'_>) -> Element {
    let mut copy = Element::new(element.namespace(), element.name());
    for attribute in element.attributes() {
        copy.set_attribute_ns(attribute.namespace, attribute.name, attribute.value);
    }
    for node in element.nodes() {
        match node {
            Node::Element(child) => copy.push(doubled(child)),
            Node::Text(text) => {
                copy.push_text(text);
                copy.push_text(text);
            }
        }
    }
    copy
}

proptest! {
    #[test]
    fn the_builder_and_the_methods_build_the_same(element in strategy::element()) {
        prop_assert_eq!(rebuild(&element), doubled(element.view()));
    }

    #[test]
    fn copies_are_equal_and_exact(element in strategy::element()) {
        let copy = element.detach();
        prop_assert_eq!(&copy, &element);
        let again = copy.detach();
        prop_assert_eq!(again.heap_size(), copy.heap_size());
        prop_assert_eq!(copy.tree.text.capacity(), copy.tree.text.len());
        prop_assert!(copy.heap_size() <= element.heap_size());
    }

    #[test]
    fn a_walk_is_balanced_and_agrees_with_the_readers(element in strategy::element()) {
        let mut open: Vec<ElementRef<'_>> = Vec::new();
        let mut walk = element.walk();
        let mut count = 0;
        while let Some(step) = walk.next() {
            match step {
                Step::Open(element) => {
                    count += 1 + element.nodes().count() - element.children().count();
                    open.push(element);
                }
                Step::Text(text) => prop_assert!(!text.is_empty()),
                Step::Close(element) => prop_assert_eq!(open.pop().map(|e| e.node), Some(element.node)),
            }
            prop_assert!(walk.open_elements().map(|e| e.node).eq(open.iter().rev().map(|e| e.node)));
        }
        prop_assert!(open.is_empty());
        prop_assert_eq!(count, element.detach().tree.nodes.len());
    }
}
