#![allow(clippy::unwrap_used)]

use session_core::element::Node;
use session_core::{Element, ElementLimit, ElementLimits};

use super::XmlErrorKind as Kind;
use super::*;

fn read(xml: &str) -> Result<Element, XmlError> {
    parse(xml.as_bytes(), &Context::NONE, &ElementLimits::default())
}

fn written(element: &Element, context: &Context) -> String {
    let mut out = Vec::new();
    write(element, context, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// What quick-xml, or a lenient reader built on it, would let pass; and the rest of what is not well-formed.
const REJECTED: &[(&str, Kind, u64)] = &[
    // RFC 6120 §11.1.
    ("<!DOCTYPE a><a/>", Kind::Doctype, 0),
    ("<!doctype a [<!ENTITY e 'x'>]><a/>", Kind::Doctype, 0),
    ("<!DOCTYPE>", Kind::Doctype, 9),
    ("<a><!DOCTYPE a</a>", Kind::Doctype, 3),
    ("<a><!-- c --></a>", Kind::Comment, 3),
    ("<!-- c --><a/>", Kind::Comment, 0),
    ("<a/><!-- c -->", Kind::Comment, 4),
    ("<a><!-- c</a>", Kind::Comment, 3),
    ("<a><?pi x?></a>", Kind::ProcessingInstruction, 3),
    ("<?pi?><a/>", Kind::ProcessingInstruction, 0),
    ("<a><?pi</a>", Kind::ProcessingInstruction, 3),
    ("<a>&nbsp;</a>", Kind::Entity, 3),
    ("<a b='x&nbsp;'/>", Kind::Entity, 7),
    ("<a xmlns='&x;'/>", Kind::Entity, 10),
    ("<a>&LT;</a>", Kind::Entity, 3),
    // The XML declaration is for the start of a stream.
    ("<?xml version='1.0'?><a/>", Kind::Declaration, 0),
    (" <?xml version='1.0'?><a/>", Kind::Declaration, 1),
    ("<a><?xml version='1.0'?></a>", Kind::Declaration, 3),
    ("<a/><?xml version='1.0'?>", Kind::Declaration, 4),
    // Characters.
    ("<a>\u{1}</a>", Kind::Character('\u{1}'), 3),
    ("<a b='\u{0}'/>", Kind::Character('\0'), 6),
    ("<a>\u{b}</a>", Kind::Character('\u{b}'), 3),
    ("<a>\u{1f}</a>", Kind::Character('\u{1f}'), 3),
    ("<a>\u{fffe}</a>", Kind::Character('\u{fffe}'), 3),
    ("<a b='\u{ffff}'/>", Kind::Character('\u{ffff}'), 6),
    ("<a>&#1;</a>", Kind::CharacterReference, 3),
    ("<a>&#0;</a>", Kind::CharacterReference, 3),
    ("<a>&#xFFFE;</a>", Kind::CharacterReference, 3),
    ("<a>&#xD800;</a>", Kind::CharacterReference, 3),
    ("<a>&#x110000;</a>", Kind::CharacterReference, 3),
    ("<a>&#99999999999;</a>", Kind::CharacterReference, 3),
    ("<a>&#;</a>", Kind::CharacterReference, 3),
    ("<a>&#x;</a>", Kind::CharacterReference, 3),
    ("<a>&#X41;</a>", Kind::CharacterReference, 3),
    ("<a>&#+65;</a>", Kind::CharacterReference, 3),
    ("<a>&# 65;</a>", Kind::CharacterReference, 3),
    ("<a b='&#x1F;'/>", Kind::CharacterReference, 6),
    ("<a>&</a>", Kind::Ampersand, 3),
    ("<a>&lt</a>", Kind::Ampersand, 3),
    ("<a>& ;</a>", Kind::Ampersand, 3),
    ("<a>&;</a>", Kind::Ampersand, 3),
    ("<a>&lt ;</a>", Kind::Ampersand, 3),
    ("<a b='&'/>", Kind::Ampersand, 6),
    ("<a b='x&lt'/>", Kind::Ampersand, 7),
    ("<a>x]]>y</a>", Kind::CDataEnd, 4),
    ("<a>]]]></a>", Kind::CDataEnd, 4),
    ("<a b='<'/>", Kind::LessThan, 6),
    // Names and tags.
    ("<1a/>", Kind::Name, 1),
    ("<-a/>", Kind::Name, 1),
    ("<a!/>", Kind::Tag, 2),
    ("<a:b:c/>", Kind::Tag, 4),
    ("<:a/>", Kind::Name, 1),
    ("<a:/>", Kind::Name, 3),
    ("<></>", Kind::Name, 1),
    ("<a b='1'c='2'/>", Kind::Tag, 8),
    ("<a b='1'=''/>", Kind::Tag, 8),
    ("<a 1b='1'/>", Kind::Name, 3),
    ("<a :b='1'/>", Kind::Name, 3),
    ("<a b:='1'/>", Kind::Name, 5),
    ("<a ='1'/>", Kind::Name, 3),
    ("<a/ >", Kind::Tag, 2),
    ("<a /b/>", Kind::Name, 3),
    ("< a/>", Kind::Name, 1),
    ("<a b/>", Kind::Tag, 4),
    ("<a b=/>", Kind::Tag, 5),
    ("<a b=1/>", Kind::Tag, 5),
    ("<a b='1/>", Kind::Incomplete, 0),
    ("<a b=\"1'/>", Kind::Incomplete, 0),
    ("<a b='1' 'c'/>", Kind::Name, 9),
    ("<a><b></a></b>", Kind::EndTag, 6),
    ("<a></a b='1'>", Kind::EndTag, 3),
    ("<a></ a>", Kind::EndTag, 3),
    ("<a></A>", Kind::EndTag, 3),
    ("</a>", Kind::EndTag, 0),
    ("<a/></a>", Kind::EndTag, 4),
    ("<a\u{d7}/>", Kind::Tag, 2),
    ("<\u{b7}a/>", Kind::Name, 1),
    ("<a><![cdata[x]]></a>", Kind::Incomplete, 3),
    ("<a><![CDATA[x]]</a>", Kind::Incomplete, 3),
    ("<a><!ELEMENT a></a>", Kind::Markup, 3),
    ("<a><!></a>", Kind::Markup, 3),
    ("<a><", Kind::Incomplete, 3),
    // Attributes and namespaces.
    ("<a b='1' b='2'/>", Kind::DuplicateAttribute, 9),
    (
        "<a xmlns:p='u' xmlns:q='u' p:b='1' q:b='2'/>",
        Kind::DuplicateAttribute,
        35,
    ),
    ("<a xmlns='u' xmlns='u'/>", Kind::DuplicateAttribute, 13),
    ("<a xmlns:p='u' xmlns:p='v'/>", Kind::DuplicateAttribute, 15),
    ("<p:a/>", Kind::UndeclaredPrefix, 1),
    ("<a p:b='1'/>", Kind::UndeclaredPrefix, 3),
    ("<a><b xmlns:p='u'/><p:c/></a>", Kind::UndeclaredPrefix, 20),
    ("<xmlns:a/>", Kind::UndeclaredPrefix, 1),
    ("<a xmlns:p=''/>", Kind::UnboundPrefix, 3),
    ("<a xmlns:xml='u'/>", Kind::ReservedNamespace, 3),
    ("<a xmlns:xmlns='u'/>", Kind::ReservedNamespace, 3),
    (
        "<a xmlns:xmlns='http://www.w3.org/2000/xmlns/'/>",
        Kind::ReservedNamespace,
        3,
    ),
    (
        "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
        Kind::ReservedNamespace,
        3,
    ),
    (
        "<a xmlns='http://www.w3.org/XML/1998/namespace'/>",
        Kind::ReservedNamespace,
        3,
    ),
    (
        "<a xmlns:p='http://www.w3.org/XML/1998/&#110;amespace'/>",
        Kind::ReservedNamespace,
        3,
    ),
    // One element, complete.
    ("", Kind::Incomplete, 0),
    (" ", Kind::Incomplete, 1),
    ("<a>", Kind::Incomplete, 3),
    ("<a><b/>", Kind::Incomplete, 7),
    ("<a", Kind::Incomplete, 0),
    ("<a/><b/>", Kind::SecondRoot, 5),
    ("<a/><a>", Kind::SecondRoot, 5),
    ("x<a/>", Kind::TextOutside, 0),
    ("<a/> x", Kind::TextOutside, 5),
    ("<a/>&#32;", Kind::TextOutside, 4),
    ("<![CDATA[ ]]><a/>", Kind::TextOutside, 0),
    ("\u{feff}<a/>", Kind::TextOutside, 0),
];

#[test]
fn everything_that_is_not_restricted_xml_is_rejected_at_its_place() {
    let mut wrong = Vec::new();
    for &(xml, kind, position) in REJECTED {
        let (expected, found) = (Err(XmlError { kind, position }), read(xml));
        if found != expected {
            wrong.push(format!("{xml:?}: {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn bytes_that_are_not_utf8_are_rejected() {
    let context = Context::NONE;
    for (bytes, position) in [
        (b"<a>\xff</a>".as_slice(), 3),
        (b"<a b='\xc0\xaf'/>", 6),
        (b"<a>\xed\xa0\x80</a>", 3),
        (b"<a>x\xe2\x82", 4),
    ] {
        let error = parse(bytes, &context, &ElementLimits::default()).unwrap_err();
        assert_eq!(
            error,
            XmlError {
                kind: Kind::Utf8,
                position
            }
        );
        assert_eq!(error.condition(), "unsupported-encoding");
    }
}

#[test]
fn an_error_says_what_and_where_and_names_the_stream_error() {
    let text = |xml| {
        read(xml)
            .map_err(|error| (error.to_string(), error.condition()))
            .unwrap_err()
    };
    assert_eq!(
        text("<a><!-- --></a>"),
        ("comment at byte 3".into(), "restricted-xml")
    );
    assert_eq!(
        text("<a>\u{1}</a>"),
        (
            "forbidden character '\\u{1}' at byte 3".into(),
            "not-well-formed"
        )
    );
    let deep = "<a>".repeat(ElementLimits::DEPTH + 1);
    assert_eq!(
        text(&deep),
        (
            "limit exceeded: depth at byte 193".into(),
            "policy-violation"
        )
    );
    assert_eq!(read("x").unwrap_err().offset_by(40).position, 40);
}

#[test]
fn text_and_values_are_unescaped_and_normalised() {
    for (xml, expected) in [
        (
            "<a>&lt;&gt;&amp;&apos;&quot;&#65;&#x4a;&#x10FFFF;</a>",
            "<>&'\"AJ\u{10ffff}",
        ),
        (
            "<a>1\r\n2\r3\n4\r\r\n5&#13;&#xd;\n</a>",
            "1\n2\n3\n4\n\n5\r\r\n",
        ),
        (
            "<a><![CDATA[<&\r\n]]]]><![CDATA[>]]>&amp;x</a>",
            "<&\n]]>&x",
        ),
        ("<a><![CDATA[]]></a>", ""),
        ("<a>]]&gt;]>]</a>", "]]>]>]"),
        ("<a> \t</a>", " \t"),
        (
            "<a>\u{feff}\u{ef80}\u{85}\u{2028}</a>",
            "\u{feff}\u{ef80}\u{85}\u{2028}",
        ),
    ] {
        let element = read(xml).unwrap();
        assert_eq!(element.text_content(), expected, "{xml}");
        assert!(element.nodes().count() <= 1, "{xml}");
    }
    for (xml, expected) in [
        ("<a b='1\r\n2\r3\n4\t5&#13;&#10;&#9;'/>", "1 2 3 4 5\r\n\t"),
        ("<a b='\r\r\n'/>", "  "),
        ("<a b = \"&lt;'>]]>&quot;&#x41;\"/>", "<'>]]>\"A"),
        ("<a b=''/>", ""),
    ] {
        assert_eq!(read(xml).unwrap().attribute("b"), Some(expected), "{xml}");
    }
}

#[test]
fn names_resolve_to_namespaces_wherever_the_declaration_stands() {
    let xml = "<p:a p:x='1' x='2' xmlns:p='urn:p' xmlns='urn:d' xml:lang='en'><b xmlns=''><c/></b>\
               <b y='3'/><p:b xmlns:p='urn:q'/><p:b/></p:a>";
    let d = "urn:d";
    let expected = Element::new("urn:p", "a")
        .with("x", 2)
        .with_ns("urn:p", "x", 1)
        .with_ns(NS_XML, "lang", "en")
        .child(Element::new("", "b").child(Element::new("", "c")))
        .child(Element::new(d, "b").with("y", 3))
        .child(Element::new("urn:q", "b"))
        .child(Element::new("urn:p", "b"));
    assert_eq!(read(xml).unwrap(), expected);
    let escaped = read("<a xmlns='urn&#58;x' xmlns:p=' urn:&lt;\n'><p:b/></a>").unwrap();
    assert_eq!(escaped.namespace(), "urn:x");
    assert_eq!(escaped.children().next().unwrap().namespace(), " urn:< ");
}

#[test]
fn odd_but_well_formed_xml_is_accepted() {
    for xml in [
        " \r\n<a/>\t",
        "<a></a >",
        "<a></a\n>",
        "<a\tb='1'\r\nc\n=\t'2' />",
        "<_.-1/>",
        "<é·/>",
        "<𐀀/>",
        "<a b='>' c=\"'\" d='\"'/>",
        "<a xmlns:xml='http://www.w3.org/XML/1998/namespace' xml:a='1'/>",
        "<xml:a/>",
        "<xmlfoo xmlns:xmlbar='u' xmlbar:a=''/>",
        "<a p:xmlns='1' xmlns:p='u'/>",
        "<a xmlnsx='1'/>",
        "<a p:b='1' b='2' q:b='3' xmlns:p='u' xmlns:q='v'/>",
    ] {
        read(xml).unwrap();
    }
}

#[test]
fn the_context_is_inherited_and_can_be_overridden() {
    let read = |xml: &str| parse(xml.as_bytes(), &Context::CLIENT, &ElementLimits::default());
    assert!(read("<iq/>").unwrap().is("jabber:client", "iq"));
    assert!(read("<stream:error/>").unwrap().is(NS_STREAMS, "error"));
    assert!(read("<iq xmlns=''/>").unwrap().is("", "iq"));
    assert!(read("<stream:a xmlns:stream='u'/>").unwrap().is("u", "a"));
    assert_eq!(read("<x:a/>").unwrap_err().kind, Kind::UndeclaredPrefix);
    assert_eq!(
        read("<iq a='' xmlns='v' stream:a=''/>")
            .unwrap()
            .attributes()
            .count(),
        2
    );
}

#[test]
fn a_stream_header_gives_its_attributes_and_its_context() {
    let xml = "<s:stream xmlns='jabber:client' to='a' xmlns:s='http://etherx.jabber.org/streams' \
               xmlns:db='jabber:server:dialback' version='1.0'>";
    let (header, context) = parse_header(xml.as_bytes(), &ElementLimits::default()).unwrap();
    assert_eq!(
        header,
        Element::new(NS_STREAMS, "stream")
            .with("to", "a")
            .with("version", "1.0")
    );
    let prefixes = [("s", NS_STREAMS), ("db", "jabber:server:dialback")];
    assert_eq!(context, Context::new("jabber:client", prefixes));
    assert!(
        parse(b"<db:a/>", &context, &ElementLimits::default())
            .unwrap()
            .is("jabber:server:dialback", "a")
    );
    let complete = parse_header(b"<a/>", &ElementLimits::default()).unwrap();
    assert_eq!(complete, (Element::new("", "a"), Context::NONE));

    for (xml, kind) in [
        ("", Kind::Tag),
        (" <a>", Kind::Tag),
        ("<a>x", Kind::Tag),
        ("<a></a>", Kind::Tag),
        ("</a>", Kind::EndTag),
        ("<a", Kind::Incomplete),
        ("<p:a>", Kind::UndeclaredPrefix),
        ("\u{feff}<a>", Kind::Tag),
        ("<!-- -->", Kind::Tag),
    ] {
        let error = parse_header(xml.as_bytes(), &ElementLimits::default()).unwrap_err();
        assert_eq!(error.kind, kind, "{xml}");
    }
}

#[test]
fn a_written_header_reads_back() {
    let header = Element::new(NS_STREAMS, "stream")
        .with("to", "a'b")
        .with("version", "1.0");
    let mut out = Vec::new();
    write_header(&header, &Context::CLIENT, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(
        text,
        "<?xml version='1.0'?><stream:stream xmlns='jabber:client' \
         xmlns:stream='http://etherx.jabber.org/streams' to='a&apos;b' version='1.0'>"
    );
    let tag = text.strip_prefix("<?xml version='1.0'?>").unwrap();
    let read = parse_header(tag.as_bytes(), &ElementLimits::default()).unwrap();
    assert_eq!(read, (header.clone(), Context::CLIENT));

    let refused = |context: Context| write_header(&header, &context, &mut Vec::new()).unwrap_err();
    assert_eq!(
        refused(Context::NONE),
        WriteError::Namespace(NS_STREAMS.into())
    );
    let with = |prefix, ns| Context::new(NS_STREAMS, [(prefix, ns)]);
    assert_eq!(refused(with("a b", "u")), WriteError::Name("a b".into()));
    assert_eq!(
        refused(with("xmlns", "u")),
        WriteError::Namespace("xmlns".into())
    );
    assert_eq!(refused(with("p", "")), WriteError::Namespace("p".into()));
}

#[test]
fn limits_are_kept() {
    let limits = ElementLimits {
        depth: 2,
        children: 2,
        attributes: 2,
        elements: 4,
        namespaces: 2,
        bytes: 60,
    };
    let kind = |xml: &str| {
        parse(xml.as_bytes(), &Context::NONE, &limits)
            .map(drop)
            .map_err(|e| e.kind)
    };
    let over = |limit| Err(Kind::Limit(limit));
    assert_eq!(kind("<a b='' c=''><a/><a/></a>"), Ok(()));
    assert_eq!(kind("<a><a><a/></a></a>"), over(ElementLimit::Depth));
    assert_eq!(kind("<a><a/><a/><a/></a>"), over(ElementLimit::Children));
    assert_eq!(kind("<a b='' c='' d=''/>"), over(ElementLimit::Attributes));
    assert_eq!(
        kind("<a xmlns='u' c='' d=''/>"),
        over(ElementLimit::Attributes)
    );
    assert_eq!(kind("<a xmlns='u' xmlns:v='v'/>"), Ok(()));
    assert_eq!(
        kind("<a xmlns='u' xmlns:v='v'><a xmlns='u'/></a>"),
        over(ElementLimit::Namespaces)
    );
    assert_eq!(kind(&format!("<a>{}</a>", "x".repeat(53))), Ok(()));
    assert_eq!(
        kind(&format!("<a>{}</a>", "x".repeat(54))),
        over(ElementLimit::Bytes)
    );
    // All of it valid, and nearly all of it escapes.
    let limits = ElementLimits {
        bytes: 5_000,
        ..ElementLimits::default()
    };
    let text = format!("<a>{}</a>", "&#9;\r".repeat(998));
    parse(text.as_bytes(), &Context::NONE, &limits).unwrap();
}

#[test]
fn namespaces_are_declared_only_where_they_change() {
    let jingle = "urn:xmpp:jingle:1";
    let iq = Element::new("jabber:client", "iq")
        .with("type", "set")
        .child(
            Element::new(jingle, "jingle")
                .child(Element::new(jingle, "content").child(Element::new("", "x")))
                .child(Element::new("jabber:client", "y").text("<&>\"'\r\n\t")),
        );
    assert_eq!(
        written(&iq, &Context::CLIENT),
        "<iq type='set'><jingle xmlns='urn:xmpp:jingle:1'><content><x xmlns=''/></content>\
         <y xmlns='jabber:client'>&lt;&amp;&gt;\"'&#13;\n\t</y></jingle></iq>"
    );
    assert!(
        written(&iq, &Context::NONE).starts_with("<iq xmlns='jabber:client' type='set'><jingle")
    );
}

#[test]
fn prefixes_are_used_for_what_needs_them() {
    let lang = Element::new("u", "a")
        .with_ns(NS_XML, "lang", "en")
        .with_ns("v", "b", "1")
        .with_ns("w", "b", "2")
        .with_ns("v", "c", "'\t\n\r")
        .child(
            Element::new(NS_XML, "d")
                .child(Element::new("u", "e"))
                .child(Element::new("v", "f")),
        );
    assert_eq!(
        written(&lang, &Context::NONE),
        "<a xmlns='u' xml:lang='en' xmlns:ns1='v' ns1:b='1' xmlns:ns2='w' ns2:b='2' \
         ns1:c='&apos;&#9;&#10;&#13;'><xml:d><e/><f xmlns='v'/></xml:d></a>"
    );
    let features = Element::new(NS_STREAMS, "features")
        .child(Element::new("jabber:client", "a").child(Element::new(NS_STREAMS, "b").text("t")));
    assert_eq!(
        written(&features, &Context::CLIENT),
        "<stream:features><a><stream:b>t</stream:b></a></stream:features>"
    );
    let same = Context::new(NS_STREAMS, [("stream", NS_STREAMS)]);
    assert_eq!(
        written(&Element::new(NS_STREAMS, "a").text("x"), &same),
        "<a>x</a>"
    );
    // This prefix could be hidden by one made for an attribute.
    let hidden = Element::new("u", "a")
        .with_ns("v", "b", "")
        .child(Element::new("u", "c"));
    assert_eq!(
        written(&hidden, &Context::new("", [("ns0", "u")])),
        "<a xmlns='u' xmlns:ns0='v' ns0:b=''><c/></a>"
    );
}

#[test]
fn what_xml_cannot_carry_is_refused_and_leaves_no_trace() {
    let new = |name: &str| Element::new("u", name);
    for (element, error) in [
        (new("a b"), WriteError::Name("a b".into())),
        (new(""), WriteError::Name(String::new())),
        (new("a:b"), WriteError::Name("a:b".into())),
        (new("a/><b"), WriteError::Name("a/><b".into())),
        (
            new("a").with("x='1' y", ""),
            WriteError::Name("x='1' y".into()),
        ),
        (
            new("a").with("xmlns", "v"),
            WriteError::Name("xmlns".into()),
        ),
        (
            new("a").with_ns(NS_XMLNS, "p", "v"),
            WriteError::Namespace(NS_XMLNS.into()),
        ),
        (
            Element::new(NS_XMLNS, "a"),
            WriteError::Namespace(NS_XMLNS.into()),
        ),
        (new("a").with("b", "\u{0}"), WriteError::Character('\0')),
        (
            new("a").text("x\u{ffff}y\u{1}"),
            WriteError::Character('\u{ffff}'),
        ),
        (
            Element::new("u\u{1b}", "a"),
            WriteError::Character('\u{1b}'),
        ),
    ] {
        let mut out = b"before".to_vec();
        let parent = Element::new("u", "parent").child(new("ok")).child(element);
        assert_eq!(write(&parent, &Context::NONE, &mut out), Err(error));
        assert_eq!(out, b"before");
    }
    assert_eq!(
        written(
            &Element::new("", "a").text("\u{fffd}\u{ef80}"),
            &Context::NONE
        ),
        "<a>\u{fffd}\u{ef80}</a>"
    );
}

#[test]
fn the_writer_writes_piece_by_piece() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&Context::CLIENT, &mut out);
    writer
        .open("jabber:client", "iq")
        .attribute("id", "<'")
        .attribute_opt("to", None)
        .lang("en");
    writer
        .open("u", "a")
        .display("d", format_args!("{}&{}", 1, 2))
        .number("n", u64::MAX)
        .number("z", 0_u32);
    writer.element(
        Element::new("u", "b")
            .child(Element::new("jabber:client", "c"))
            .view(),
    );
    writer.open("jabber:client", "d").text("t").close();
    writer.open(NS_STREAMS, "e").close();
    writer.open("u", "f").attribute_opt("g", Some("h"));
    writer.finish().unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "<iq id='&lt;&apos;' xml:lang='en'><a xmlns='u' d='1&amp;2' n='18446744073709551615' z='0'>\
         <b><c xmlns='jabber:client'/></b><d xmlns='jabber:client'>t</d><stream:e/><f g='h'/></a></iq>"
    );
}

#[test]
fn the_writer_refuses_an_attribute_out_of_place() {
    let mut out = Vec::new();
    let mut writer = Writer::new(&Context::NONE, &mut out);
    writer.attribute("a", "b");
    assert_eq!(writer.finish(), Err(WriteError::LateAttribute("a".into())));
    let mut writer = Writer::new(&Context::NONE, &mut out);
    writer.open("", "a").text("t").lang("en").close().close();
    assert_eq!(
        writer.finish(),
        Err(WriteError::LateAttribute("lang".into()))
    );
    assert!(out.is_empty());
}

#[test]
fn the_writer_goes_as_deep_as_asked() {
    let names: Vec<String> = (0..100).map(|level| format!("n{level}")).collect();
    let mut out = Vec::new();
    let mut writer = Writer::new(&Context::NONE, &mut out);
    for (level, name) in names.iter().enumerate() {
        writer.open(if level % 3 == 0 { "u" } else { "v" }, name);
    }
    writer.close().text("x");
    writer.finish().unwrap();
    let limits = ElementLimits {
        depth: 100,
        namespaces: 100,
        ..ElementLimits::default()
    };
    let read = parse(&out, &Context::NONE, &limits).unwrap();
    let mut at = read.view();
    for name in &names[1..99] {
        at = at.children().next().unwrap();
        assert_eq!(at.name(), name);
    }
    assert!(at.find("u", "n99").unwrap().is_empty());
    assert_eq!(at.nodes().last(), Some(Node::Text("x")));
}

#[test]
fn an_xml_declaration_is_checked() {
    for (declaration, kind) in [
        ("<?xml version='1.0'?>", None),
        (
            "<?xml version=\"1.0\" encoding='utf-8' standalone='yes' ?>",
            None,
        ),
        ("<?xml version='1.0' encoding='UTF-8'?>", None),
        (
            "<?xml version='1.0' encoding='UTF-16'?>",
            Some(Kind::Encoding),
        ),
        (
            "<?xml version='1.0' encoding='latin1'?>",
            Some(Kind::Encoding),
        ),
        ("<?xml version='1.1'?>", Some(Kind::Declaration)),
        ("<?xml encoding='UTF-8'?>", Some(Kind::Declaration)),
        (
            "<?xml encoding='UTF-8' version='1.0'?>",
            Some(Kind::Declaration),
        ),
        (
            "<?xml version='1.0' standalone='perhaps'?>",
            Some(Kind::Declaration),
        ),
        (
            "<?xml version='1.0' standalone='yes' encoding='UTF-8'?>",
            Some(Kind::Declaration),
        ),
        ("<?xml version='1.0' x='y'?>", Some(Kind::Declaration)),
        (
            "<?xml version='1.0' version='1.0'?>",
            Some(Kind::Declaration),
        ),
        (
            "<?xml version='1.0'encoding='UTF-8'?>",
            Some(Kind::Declaration),
        ),
        ("<?xml version=1.0?>", Some(Kind::Declaration)),
        ("<?xmlversion='1.0'?>", Some(Kind::Declaration)),
        ("<?xml version='1.0'>", Some(Kind::Declaration)),
        ("<?xml?>", Some(Kind::Declaration)),
        ("<?xml>", Some(Kind::Declaration)),
    ] {
        assert_eq!(
            check_declaration(declaration.as_bytes())
                .err()
                .map(|e| e.kind),
            kind,
            "{declaration}"
        );
    }
    assert!(check_declaration(b"<?xml version='1.0' \xff?>").is_err());
}
