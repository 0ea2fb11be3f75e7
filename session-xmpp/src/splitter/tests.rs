#![allow(clippy::unwrap_used)]

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use session_core::element::strategy;

use super::*;
use crate::xml::{Context, XmlErrorKind as Kind};

/// A frame that owns its bytes, with its position.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Owned {
    Open(u64, String),
    Stanza(u64, String),
    Skipped(u64, String, ElementLimit),
    Close,
}

const LIMITS: ElementLimits = ElementLimits {
    depth: 3,
    children: 10,
    attributes: 10,
    elements: 10,
    namespaces: 10,
    bytes: 60,
};

/// All frames of a stream that arrives in these pieces, and how it ends.
fn split<'p>(
    framing: Framing,
    limits: &ElementLimits,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Owned>, Result<(), XmlError>) {
    let mut splitter = Splitter::new(framing, limits);
    let mut frames = Vec::new();
    for piece in pieces {
        splitter.push(piece);
        loop {
            let frame = match splitter.next_frame() {
                Ok(None) => break,
                Ok(Some(frame)) => frame,
                Err(error) => {
                    assert_eq!(splitter.next_frame(), Err(error));
                    splitter.push(b"<a/>");
                    assert_eq!(splitter.next_frame(), Err(error));
                    return (frames, Err(error));
                }
            };
            let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let frame = match frame {
                Frame::Open(bytes) => Owned::Open(0, owned(bytes)),
                Frame::Stanza(bytes) => Owned::Stanza(0, owned(bytes)),
                Frame::Close => Owned::Close,
            };
            frames.push(match frame {
                Owned::Open(_, text) => Owned::Open(splitter.frame_position(), text),
                Owned::Stanza(_, text) => Owned::Stanza(splitter.frame_position(), text),
                Owned::Skipped(..) | Owned::Close => Owned::Close,
            });
        }
        assert!(splitter.held() <= limits.bytes);
    }
    (frames, Ok(()))
}

/// All parts of a stream that arrives in these pieces, and how it ends.
fn parts<'p>(
    framing: Framing,
    limits: &ElementLimits,
    pieces: impl IntoIterator<Item = &'p [u8]>,
) -> (Vec<Owned>, Result<(), XmlError>) {
    let mut splitter = Splitter::new(framing, limits);
    let mut parts = Vec::new();
    for piece in pieces {
        splitter.push(piece);
        loop {
            let owned = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let part = match splitter.next_part() {
                Ok(None) => break,
                Err(error) => return (parts, Err(error)),
                Ok(Some(Part::Frame(Frame::Open(bytes)))) => Owned::Open(0, owned(bytes)),
                Ok(Some(Part::Frame(Frame::Stanza(bytes)))) => Owned::Stanza(0, owned(bytes)),
                Ok(Some(Part::Frame(Frame::Close))) => Owned::Close,
                Ok(Some(Part::Skipped { tag, limit })) => Owned::Skipped(0, owned(tag), limit),
            };
            let at = splitter.frame_position();
            parts.push(match part {
                Owned::Open(_, text) => Owned::Open(at, text),
                Owned::Stanza(_, text) => Owned::Stanza(at, text),
                Owned::Skipped(_, text, limit) => Owned::Skipped(at, text, limit),
                Owned::Close => Owned::Close,
            });
        }
        assert!(splitter.held() <= limits.bytes);
    }
    (parts, Ok(()))
}

fn whole(framing: Framing, stream: &str) -> (Vec<Owned>, Result<(), XmlError>) {
    split(framing, &LIMITS, [stream.as_bytes()])
}

/// What [`whole`] gives, however the stream is cut in two or into bytes.
fn every_way(framing: Framing, stream: &str) -> (Vec<Owned>, Result<(), XmlError>) {
    let expected = whole(framing, stream);
    let bytes = stream.as_bytes();
    assert_eq!(
        split(framing, &LIMITS, bytes.chunks(1)),
        expected,
        "{stream}"
    );
    for cut in 0..=bytes.len() {
        let (one, other) = bytes.split_at(cut);
        assert_eq!(
            split(framing, &LIMITS, [one, other]),
            expected,
            "{stream} cut at {cut}"
        );
    }
    expected
}

#[test]
fn a_stream_is_cut_into_its_parts() {
    let stream = "<?xml version='1.0'?>\n<s:s a='/>'> <a b=\">'/\"/>\n<b><c/><a>x>/</a ></b><c><![CDATA[<a>]]]]>]]><![CDATA[]>]<]]>\
                  </c><é/></s:s > ";
    let (frames, end) = every_way(Framing::Stream, stream);
    assert_eq!(end, Ok(()));
    let stanza = |text: &str| Owned::Stanza(stream.find(text).unwrap() as u64, text.into());
    assert_eq!(
        frames,
        [
            Owned::Open(22, "<s:s a='/>'>".into()),
            stanza("<a b=\">'/\"/>"),
            stanza("<b><c/><a>x>/</a ></b>"),
            stanza("<c><![CDATA[<a>]]]]>]]><![CDATA[]>]<]]></c>"),
            stanza("<é/>"),
            Owned::Close,
        ]
    );
}

#[test]
fn bare_stanzas_need_no_stream() {
    let (frames, end) = every_way(Framing::Bare, " <a/><b>x</b>\n<c");
    assert_eq!(end, Ok(()));
    assert_eq!(
        frames,
        [
            Owned::Stanza(1, "<a/>".into()),
            Owned::Stanza(5, "<b>x</b>".into())
        ]
    );
}

#[test]
fn a_stream_that_is_an_empty_element_opens_and_closes() {
    let (frames, end) = every_way(Framing::Stream, "<s:s/> ");
    assert_eq!(
        (frames, end),
        (vec![Owned::Open(0, "<s:s/>".into()), Owned::Close], Ok(()))
    );
}

#[test]
fn what_may_not_be_in_a_stream_is_refused_at_its_place() {
    let too_long = format!("<s><a b='{}'/>", "x".repeat(52));
    let too_long_space = format!("<s><a {}/>", " ".repeat(60));
    let mut wrong = Vec::new();
    for (stream, kind, position) in [
        ("<s><!-- c -->", Kind::Comment, 3),
        ("<s><a><!-- c -->", Kind::Comment, 6),
        ("<!-- c --><s>", Kind::Comment, 0),
        ("<s/><!-- c -->", Kind::SecondRoot, 4),
        ("<!DOCTYPE s>", Kind::Doctype, 0),
        ("<s><a><!ELEMENT", Kind::Markup, 6),
        ("<s><a><![cdata[", Kind::Markup, 6),
        ("<s><![CDATA[x]]>", Kind::TextOutside, 3),
        ("<?pi?><s>", Kind::ProcessingInstruction, 0),
        ("<?xml-stylesheet?><s>", Kind::ProcessingInstruction, 0),
        ("<s><?xm?>", Kind::ProcessingInstruction, 3),
        ("<s><a><?xmlx?>", Kind::ProcessingInstruction, 6),
        ("<s><?xml version='1.0'?>", Kind::Declaration, 3),
        (" <?xml version='1.0'?><s>", Kind::Declaration, 1),
        (
            "<?xml version='1.0'?><?xml version='1.0'?>",
            Kind::Declaration,
            21,
        ),
        ("<?xml version='1.1'?>", Kind::Declaration, 0),
        ("<?xml?>", Kind::Declaration, 0),
        ("<?xml version='1.0' encoding='x'?>", Kind::Encoding, 0),
        ("x", Kind::TextOutside, 0),
        ("\u{feff}<s>", Kind::TextOutside, 0),
        ("<s>\n&amp;", Kind::TextOutside, 4),
        ("<s> x<a/>", Kind::TextOutside, 4),
        ("<s>\0", Kind::TextOutside, 3),
        ("<s></s>x", Kind::TextOutside, 7),
        ("<s></s><a", Kind::SecondRoot, 7),
        ("<s></s></s>", Kind::SecondRoot, 7),
        ("<s></t>", Kind::EndTag, 3),
        ("<s></ s>", Kind::EndTag, 3),
        ("<s:s></s>", Kind::EndTag, 5),
        ("</s>", Kind::EndTag, 0),
        ("<s><>", Kind::Name, 4),
        ("<s>< a/>", Kind::Name, 4),
        ("<s><1/>", Kind::Name, 4),
        ("<s><=", Kind::Name, 4),
        ("<s><<", Kind::Name, 4),
        ("<s><a <b/>", Kind::LessThan, 6),
        ("<s><a b='<'/>", Kind::LessThan, 9),
        ("<s><a></a</a>", Kind::LessThan, 9),
        ("<s><a / >", Kind::Tag, 7),
        ("<s><a b=c/d>", Kind::Tag, 10),
        ("<s><a /'/>", Kind::Tag, 7),
        ("<s><a><a><a><a/>", Kind::Limit(ElementLimit::Depth), 12),
        ("<s><a><a><a><a>", Kind::Limit(ElementLimit::Depth), 12),
        (&too_long, Kind::Limit(ElementLimit::Bytes), 63),
        (&too_long_space, Kind::Limit(ElementLimit::Bytes), 63),
    ] {
        let (expected, found) = (
            Err(XmlError { kind, position }),
            every_way(Framing::Stream, stream).1,
        );
        if found != expected {
            wrong.push(format!("{stream:?}: {found:?}, not {expected:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    for (stream, kind, position) in [
        ("</a>", Kind::EndTag, 0),
        ("<a/></a>", Kind::EndTag, 4),
        ("<?xml version='1.0'?>", Kind::Declaration, 0),
    ] {
        assert_eq!(
            every_way(Framing::Bare, stream).1,
            Err(XmlError { kind, position }),
            "{stream}"
        );
    }
}

#[test]
fn a_stanza_may_be_as_long_and_deep_as_the_limits_say() {
    let longest = format!(
        "<s>{0}<a b='{1}'/><a>{2}</a>",
        " ".repeat(100),
        "x".repeat(51),
        "y".repeat(53)
    );
    let (frames, end) = every_way(Framing::Stream, &longest);
    assert_eq!((frames.len(), end), (3, Ok(())));
    let (frames, end) = every_way(Framing::Stream, "<s><a><a><a></a><a/></a></a>");
    assert_eq!((frames.len(), end), (2, Ok(())));
}

#[test]
fn a_restart_expects_a_new_header_and_keeps_what_follows() {
    let mut splitter = Splitter::new(Framing::Stream, &LIMITS);
    splitter.push(b"<s><success/><?xml version='1.0'?><t><a/>");
    assert_eq!(splitter.next_frame(), Ok(Some(Frame::Open(b"<s>"))));
    assert_eq!(
        splitter.next_frame(),
        Ok(Some(Frame::Stanza(b"<success/>")))
    );
    splitter.restart();
    assert_eq!(splitter.next_frame(), Ok(Some(Frame::Open(b"<t>"))));
    assert_eq!(splitter.frame_position(), 34);
    assert_eq!(splitter.next_frame(), Ok(Some(Frame::Stanza(b"<a/>"))));
    splitter.push(b"</t>");
    assert_eq!(splitter.next_frame(), Ok(Some(Frame::Close)));
    splitter.restart();
    splitter.push(b"<?xml ");
    assert_eq!(splitter.next_frame(), Ok(None));
}

#[test]
fn a_reset_forgets_everything_and_tells_how_much() {
    let mut splitter = Splitter::new(Framing::Stream, &LIMITS);
    splitter.push(b"<s><proceed/><injected");
    assert_eq!(splitter.next_frame(), Ok(Some(Frame::Open(b"<s>"))));
    assert_eq!(
        splitter.next_frame(),
        Ok(Some(Frame::Stanza(b"<proceed/>")))
    );
    assert_eq!(splitter.reset(), "<injected".len());
    assert_eq!(splitter.held(), 0);
    splitter.push(b"x");
    assert_eq!(
        splitter.next_frame(),
        Err(XmlError {
            kind: Kind::TextOutside,
            position: 0
        })
    );
    assert_eq!(splitter.reset(), 0);
    splitter.push(b"<s>");
    assert_eq!(splitter.next_frame(), Ok(Some(Frame::Open(b"<s>"))));
}

#[test]
fn memory_is_bounded_by_the_limit_and_given_back() {
    let limits = ElementLimits::default();
    let mut splitter = Splitter::new(Framing::Bare, &limits);
    for _ in 0..100 {
        splitter.push(&[b' '; 4_096]);
        assert_eq!(splitter.next_frame(), Ok(None));
        assert_eq!(splitter.held(), 0);
    }
    assert!(splitter.buffer.capacity() <= 2 * 4_096);
    splitter.push(b"<a>");
    let mut pushed = 3;
    let error = loop {
        splitter.push(&[b'x'; 1_000]);
        pushed += 1_000;
        match splitter.next_frame() {
            Ok(frame) => assert_eq!(frame, None),
            Err(error) => break error,
        }
        assert!(splitter.held() <= limits.bytes);
    };
    assert_eq!(error.kind, Kind::Limit(ElementLimit::Bytes));
    assert!(pushed <= limits.bytes + 1_000);
    assert_eq!(splitter.buffer.capacity(), 0);

    splitter.reset();
    let large = format!("<a>{}</a>", "x".repeat(100_000));
    splitter.push(large.as_bytes());
    assert!(matches!(splitter.next_frame(), Ok(Some(Frame::Stanza(_)))));
    splitter.push(b"");
    assert_eq!(splitter.buffer.capacity(), 0);
}

#[test]
fn what_breaks_a_limit_is_skipped_to_its_end() {
    let long = "x".repeat(LIMITS.bytes);
    let stanzas = [
        "<a i='>'>y<b><c><d>z</d><e/></c></b><![CDATA[</a>]]></a>".to_owned(),
        format!("<f g=\"h\">{long}<i><j/></i></f>"),
        format!("<k l='{long}>'/>"),
        format!("<m n='{long}'><o></o></m>"),
        "<p/>".to_owned(),
    ];
    let begun = &format!("<k l='{long}")[..LIMITS.bytes];
    let begun_too = &format!("<m n='{long}")[..LIMITS.bytes];
    let stream = format!("<s>{}</s>", stanzas.join(" "));
    let at = |number: usize| stream.find(&stanzas[number]).unwrap() as u64;
    let skipped = |number, tag: &str, limit| Owned::Skipped(at(number), tag.to_owned(), limit);
    let expected = [
        Owned::Open(0, "<s>".to_owned()),
        skipped(0, "<a i='>'>", ElementLimit::Depth),
        skipped(1, "<f g=\"h\">", ElementLimit::Bytes),
        skipped(2, begun, ElementLimit::Bytes),
        skipped(3, begun_too, ElementLimit::Bytes),
        Owned::Stanza(at(4), "<p/>".to_owned()),
        Owned::Close,
    ];
    let bytes = stream.as_bytes();
    for size in 1..=bytes.len() {
        let (found, end) = parts(Framing::Stream, &LIMITS, bytes.chunks(size));
        assert_eq!((&found[..], end), (&expected[..], Ok(())), "{size}");
    }
}

#[test]
fn what_is_skipped_is_markup_all_the_same() {
    let begun = format!("<a>{}<b>", "x".repeat(LIMITS.bytes));
    for (rest, kind) in [
        ("<!-- -->", Kind::Comment),
        ("<?x?>", Kind::ProcessingInstruction),
        ("<!DOCTYPE x>", Kind::Doctype),
        ("<c d='<'/>", Kind::LessThan),
        ("< c/>", Kind::Name),
        ("</b></a></a>", Kind::EndTag),
    ] {
        let stream = format!("{begun}{rest}");
        let bytes = stream.as_bytes();
        let (_, expected) = parts(Framing::Bare, &LIMITS, [bytes]);
        assert_eq!(expected.unwrap_err().kind, kind, "{rest}");
        for size in 1..bytes.len() {
            let (_, end) = parts(Framing::Bare, &LIMITS, bytes.chunks(size));
            assert_eq!(end, expected, "{rest} in pieces of {size}");
        }
    }
}

#[test]
fn what_is_skipped_takes_no_memory() {
    let mut splitter = Splitter::new(Framing::Bare, &ElementLimits::default());
    splitter.push(b"<a>");
    for _ in 0..100 {
        splitter.push(&b"<b c='d'>".repeat(10_000));
        assert_eq!(splitter.next_part(), Ok(None));
    }
    assert!(splitter.held() < 100_000);
    assert!(splitter.buffer.capacity() <= 2 * ElementLimits::BYTES);
    for _ in 0..100 {
        splitter.push(&b"</b>".repeat(10_000));
        assert_eq!(splitter.next_part(), Ok(None));
        assert_eq!(splitter.held(), 0);
    }
    splitter.push(b"</a><e/>");
    let (tag, limit) = (&b"<a>"[..], ElementLimit::Depth);
    assert_eq!(splitter.next_part(), Ok(Some(Part::Skipped { tag, limit })));
    let next = Part::Frame(Frame::Stanza(b"<e/>"));
    assert_eq!(splitter.next_part(), Ok(Some(next)));
    splitter.push(&b"<a>".repeat(100));
    assert_eq!(splitter.next_part(), Ok(None));
    assert_eq!(splitter.next_frame(), Ok(None));
    splitter.push(&b"</a>".repeat(100));
    let error = splitter.next_frame().unwrap_err();
    assert_eq!(error.kind, Kind::Limit(ElementLimit::Depth), "not a frame");
}

/// Streams that are sometimes right, out of pieces that a splitter has to tell apart.
fn stream() -> impl Strategy<Value = String> {
    let piece = select(vec![
        "<a>",
        "</a>",
        "<a/>",
        "<a b='",
        "'",
        "\"",
        "/>",
        ">",
        "<",
        "/",
        "!",
        "<![CDATA[",
        "]]>",
        "]",
        "[",
        "<?xml version='1.0'?>",
        "<?",
        "?>",
        "<!--",
        "-->",
        "x",
        "é",
        " ",
        "\n",
        "&amp;",
        "xml",
        "CDATA",
    ]);
    let whole = select(vec![
        "<a b='>'/>",
        "<b><![CDATA[</b>]]></b>",
        "<c>x</c>",
        " ",
        "<d><e/></d>",
    ]);
    let start = select(vec!["", "<s>", "<?xml version='1.0'?><s>", "<s x='>'>"]);
    (
        start,
        vec(prop_oneof![3 => whole, 1 => piece], 0..12),
        select(vec!["", "</s>", "</a>"]),
    )
        .prop_map(|(start, pieces, end)| format!("{start}{}{end}", pieces.concat()))
}

proptest! {
    #[test]
    fn how_a_stream_is_cut_does_not_matter(
        stream in stream(),
        sizes in vec(1_usize..9, 1..20),
        bare in any::<bool>(),
        bytes in 8_usize..80,
    ) {
        let framing = if bare { Framing::Bare } else { Framing::Stream };
        let limits = ElementLimits { bytes, ..LIMITS };
        let mut rest = stream.as_bytes();
        let mut pieces = Vec::new();
        for size in sizes.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*size).min(rest.len()));
            pieces.push(piece);
            rest = after;
        }
        let whole = split(framing, &limits, [stream.as_bytes()]);
        prop_assert_eq!(&split(framing, &limits, pieces.clone()), &whole);
        let with_skipped = parts(framing, &limits, [stream.as_bytes()]);
        prop_assert_eq!(&parts(framing, &limits, pieces), &with_skipped);
        let (frames, end) = whole;
        if end.is_ok() {
            prop_assert_eq!(with_skipped, (frames, end));
        } else {
            prop_assert!(with_skipped.0.starts_with(&frames));
        }
    }

    #[test]
    fn what_was_written_is_split_and_read_back(elements in vec(strategy::element(), 0..4), size in 1_usize..200) {
        let mut stream = Vec::new();
        for element in &elements {
            xml::write(element, &Context::CLIENT, &mut stream).unwrap();
            stream.push(b'\n');
        }
        let limits = ElementLimits::default();
        let mut splitter = Splitter::new(Framing::Bare, &limits);
        let mut read = Vec::new();
        for piece in stream.chunks(size) {
            splitter.push(piece);
            while let Some(frame) = splitter.next_frame().unwrap() {
                match frame {
                    Frame::Stanza(bytes) => read.push(xml::parse(bytes, &Context::CLIENT, &limits).unwrap()),
                    Frame::Open(_) | Frame::Close => prop_assert!(false),
                }
            }
        }
        prop_assert_eq!(read, elements);
    }

    /// A stanza that parses is one that the splitter gives as one; so nothing can be smuggled between the two.
    #[test]
    fn the_splitter_and_the_parser_agree_on_where_a_stanza_ends(stream in stream()) {
        let limits = ElementLimits { bytes: 1_000, ..LIMITS };
        let Ok(_) = xml::parse(stream.as_bytes(), &Context::NONE, &limits) else { return Ok(()) };
        let (frames, end) = split(Framing::Bare, &limits, [stream.as_bytes()]);
        prop_assert_eq!(end, Ok(()));
        match frames.as_slice() {
            [Owned::Stanza(at, text)] => {
                prop_assert_eq!(text.trim(), stream.trim());
                prop_assert_eq!(*at as usize, stream.len() - stream.trim_start().len());
            }
            other => prop_assert!(false, "{:?}", other),
        }
    }
}

/// What was given out before an error was subtracted from what is held after it.
#[test]
fn after_an_error_nothing_is_held() {
    let mut splitter = Splitter::new(Framing::Stream, &ElementLimits::default());
    splitter.push(b"<stream:stream><presence/><<<");
    assert!(matches!(splitter.next_frame(), Ok(Some(Frame::Open(_)))));
    assert!(matches!(splitter.next_frame(), Ok(Some(Frame::Stanza(_)))));
    let error = splitter.next_frame().unwrap_err();
    assert_eq!((splitter.held(), splitter.next_frame()), (0, Err(error)));
    assert_eq!(splitter.reset(), 0);
    splitter.push(b"<stream:stream>");
    assert!(matches!(splitter.next_frame(), Ok(Some(Frame::Open(_)))));
}
