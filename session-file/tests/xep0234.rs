//! Descriptions of files: every example of the specifications, every value of ours, and what hostile peers write.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "the examples stand in files")]

use proptest::prelude::*;
use session_core::{
    Element, ElementLimits, ElementRef, PeerError, Reason, ReasonCondition, Role,
    SessionDescription, element::Step,
};
use session_file::{
    FILE_TRANSFER, File, FileDate, FileDescription, FileInfo, FileRange, FileText, Hash,
    HashAlgorithm, THUMBNAILS, Thumbnail, file_limits, file_not_available, file_too_large,
};
use session_xmpp::xml::{self, Context};
use std::{fs, path::Path};

fn parse(text: &str) -> Element {
    xml::parse(text.as_bytes(), &Context::CLIENT, &ElementLimits::default()).unwrap()
}

/// The text of what is written, read again: what a peer gets.
fn over_the_wire(element: &Element) -> Element {
    let mut bytes = Vec::new();
    xml::write(element, &Context::CLIENT, &mut bytes).unwrap();
    parse(std::str::from_utf8(&bytes).unwrap())
}

fn description(element: &Element) -> Result<FileDescription, PeerError> {
    FileDescription::from_element(element)
}

fn file(children: &str) -> Result<File, PeerError> {
    let text =
        format!("<description xmlns='{FILE_TRANSFER}'><file>{children}</file></description>");
    description(&parse(&text)).map(|description| description.file)
}

fn found<'a>(stanza: &'a Element, name: &str) -> Vec<ElementRef<'a>> {
    let open = |step| match step {
        Step::Open(element) => Some(element),
        Step::Text(_) | Step::Close(_) => None,
    };
    let elements = stanza.walk().filter_map(open);
    elements.filter(|e| e.is(FILE_TRANSFER, name)).collect()
}

/// Of XEP-0234 and of those that carry files in their examples.
#[test]
fn every_example_is_read_and_written_to_the_same_value() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../session-xmpp/tests/vectors/xep");
    let (mut descriptions, mut checksums, mut received) = (0, 0, 0);
    for xep in [
        "xep-0234", "xep-0260", "xep-0261", "xep-0343", "xep-0391", "xep-0396",
    ] {
        for entry in fs::read_dir(folder.join(xep)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "xml") {
                continue;
            }
            let stanza = parse(&fs::read_to_string(&path).unwrap());
            for element in found(&stanza, "description") {
                let element = element.detach();
                let value = description(&element).unwrap_or_else(|e| panic!("{path:?}: {e}"));
                assert_eq!(
                    description(&over_the_wire(&value.to_element())),
                    Ok(value),
                    "{path:?}"
                );
                descriptions += 1;
            }
            for name in ["checksum", "received"] {
                for element in found(&stanza, name) {
                    let value = FileInfo::from_element(element).unwrap().unwrap();
                    assert_eq!(value.content().map(|n| &**n), Some("a-file-offer"));
                    let again = over_the_wire(&value.to_element());
                    assert_eq!(
                        FileInfo::from_element(again.view()),
                        Ok(Some(value)),
                        "{path:?}"
                    );
                    match name {
                        "checksum" => checksums += 1,
                        _ => received += 1,
                    }
                }
            }
        }
    }
    assert!(descriptions >= 6, "{descriptions} descriptions");
    assert_eq!((checksums, received), (2, 1));
}

#[test]
fn the_example_of_the_format_means_what_it_says() {
    let file = file(
        "<media-type>text/plain</media-type><name>test.txt</name><date>2015-07-26T21:46:00+01:00</date>\
         <size>6144</size><hash xmlns='urn:xmpp:hashes:2' algo='sha-1'>w0mcJylzCn+AfvuGdqkty2+KP48=</hash>\
         <range offset='1024'/>",
    )
    .unwrap();
    assert_eq!(file.name.as_deref(), Some("test.txt"));
    assert_eq!(file.size, Some(6144));
    assert_eq!(file.media_type.as_deref(), Some("text/plain"));
    assert_eq!(file.date.map(FileDate::unix), Some(1_437_943_560));
    assert_eq!(file.hashes[0].algorithm(), Some(HashAlgorithm::Sha1));
    assert_eq!(file.range, Some(FileRange::from_offset(1024)));
    assert_eq!(file.part_bytes(), Some(5120));
    assert_eq!(file.file_name().unwrap().as_str(), "test.txt");
}

#[test]
fn a_date_that_cannot_be_read_costs_nobody_the_file() {
    for text in ["yesterday", "", "2015-07-26T21:46:00"] {
        let file = file(&format!("<date>{text}</date><size>5</size>"));
        let file = file.unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((file.date, file.size), (None, Some(5)), "{text}");
    }
}

#[test]
fn a_media_type_is_read_in_both_spellings_and_written_in_both() {
    let ours = "<media-type>a/b</media-type>";
    let theirs = "<mediaType>c/d</mediaType>";
    for (text, media) in [
        (ours.to_owned(), "a/b"),
        (theirs.to_owned(), "c/d"),
        (format!("{theirs}{ours}"), "a/b"),
        (format!("{ours}{theirs}"), "a/b"),
        (format!("{theirs}<media-type/>"), "c/d"),
    ] {
        assert_eq!(
            file(&text).unwrap().media_type.as_deref(),
            Some(media),
            "{text}"
        );
    }
    let element = FileDescription::from(file(ours).unwrap()).to_element();
    for name in ["media-type", "mediaType"] {
        assert_eq!(found(&element, name)[0].text_content(), "a/b");
    }
}

#[test]
fn an_empty_hash_only_says_what_will_be_used() {
    let file = file(
        "<hash xmlns='urn:xmpp:hashes:2' algo='sha-1'/><hash-used xmlns='urn:xmpp:hashes:2' algo='sha-256'/>",
    );
    let file = file.unwrap();
    assert!(file.hashes.is_empty());
    assert_eq!(file.hash_used, ["sha-1".into(), "sha-256".into()]);
}

#[test]
fn what_is_impossible_is_refused_with_the_field_at_fault() {
    let hash =
        |algo: &str, text: &str| format!("<hash xmlns='urn:xmpp:hashes:2' {algo}>{text}</hash>");
    for (children, field, problem) in [
        ("<size>-1</size>".to_owned(), "size", "not a number"),
        ("<size>+1</size>".to_owned(), "size", "not a number"),
        ("<size/>".to_owned(), "size", "not a number"),
        ("<size>1e3</size>".to_owned(), "size", "not a number"),
        (
            "<size>18446744073709551616</size>".to_owned(),
            "size",
            "not a number of 64 bits",
        ),
        ("<range offset='x'/>".to_owned(), "offset", "not a number"),
        ("<range length='-5'/>".to_owned(), "length", "not a number"),
        (
            "<range offset='18446744073709551615' length='1'/>".to_owned(),
            "range",
            "its end is not a number of 64 bits",
        ),
        (
            "<size>5</size><range offset='6'/>".to_owned(),
            "range",
            "beyond the size",
        ),
        (
            "<size>5</size><range offset='2' length='4'/>".to_owned(),
            "range",
            "beyond the size",
        ),
        (hash("", "AA=="), "algo", "missing"),
        (
            hash("algo='sha-256'", "AA=="),
            "hash",
            "a digest of the wrong length",
        ),
        (
            format!("<range>{}</range>", hash("algo='sha-1'", "!")),
            "hash",
            "not Base64",
        ),
        (
            format!("<name>{}</name>", "x".repeat(4097)),
            "name",
            "too long",
        ),
        (
            format!("<desc>{}</desc>", "x".repeat(16_385)),
            "desc",
            "too long",
        ),
        (
            format!("<thumbnail xmlns='{THUMBNAILS}'/>"),
            "uri",
            "missing",
        ),
        (
            format!("<thumbnail xmlns='{THUMBNAILS}' uri='cid:x' width='70000'/>"),
            "width",
            "not a number of 16 bits",
        ),
    ] {
        assert_eq!(
            file(&children),
            Err(PeerError::Malformed { field, problem }),
            "{children}"
        );
    }
}

#[test]
fn without_a_file_there_is_nothing_described() {
    let none = parse(&format!("<description xmlns='{FILE_TRANSFER}'/>"));
    let missing = PeerError::Malformed {
        field: "file",
        problem: "missing",
    };
    assert_eq!(description(&none), Err(missing.clone()));
    let checksum = parse(&format!("<checksum xmlns='{FILE_TRANSFER}'/>"));
    assert_eq!(FileInfo::from_element(checksum.view()), Err(missing));
}

#[test]
fn a_description_has_bounds() {
    for (child, limit, max) in [
        ("<desc>x</desc>".to_owned(), "desc", file_limits::TEXTS),
        (
            "<hash xmlns='urn:xmpp:hashes:2' algo='sha-1'>w0mcJylzCn+AfvuGdqkty2+KP48=</hash>"
                .to_owned(),
            "hash",
            file_limits::HASHES,
        ),
        (
            "<hash-used xmlns='urn:xmpp:hashes:2' algo='sha-1'/>".to_owned(),
            "hash-used",
            file_limits::HASHES,
        ),
        (
            format!("<thumbnail xmlns='{THUMBNAILS}' uri='x'/>"),
            "thumbnails",
            file_limits::THUMBNAILS,
        ),
        ("<new/>".to_owned(), "extra", file_limits::EXTRA),
        ("<x xmlns='y'/>".to_owned(), "extra", file_limits::EXTRA),
    ] {
        assert!(file(&child.repeat(max)).is_ok(), "{child}");
        assert_eq!(
            file(&child.repeat(max + 1)),
            Err(PeerError::TooMany { limit, max }),
            "{child}"
        );
    }
}

#[test]
fn what_is_not_known_is_kept_and_what_is_said_twice_is_taken_once() {
    let file = file("<new xmlns='urn:y'><deep a='1'/></new><name>first</name><name>second</name><size>1</size><size>x</size><later/>").unwrap();
    assert_eq!(file.name.as_deref(), Some("first"));
    assert_eq!(file.extra.len(), 2);
    let element = FileDescription::from(file.clone()).to_element();
    assert!(
        element
            .find(FILE_TRANSFER, "file")
            .unwrap()
            .find("urn:y", "new")
            .is_some()
    );
    assert_eq!(description(&over_the_wire(&element)).unwrap().file, file);
    let beside = parse(&format!(
        "<description xmlns='{FILE_TRANSFER}'><file/><x xmlns='y'/></description>"
    ));
    assert_eq!(description(&beside).unwrap().to_element(), beside);
}

#[test]
fn infos_of_others_are_none_of_ours_and_theirs_may_lack_what_should_be_there() {
    let info = |text: &str| FileInfo::from_element(parse(text).view());
    assert_eq!(info("<received xmlns='urn:other'/>"), Ok(None));
    assert_eq!(
        info(&format!("<active xmlns='{FILE_TRANSFER}'/>")),
        Ok(None)
    );
    let bare = info(&format!(
        "<received xmlns='{FILE_TRANSFER}' creator='nobody'/>"
    ))
    .unwrap()
    .unwrap();
    assert_eq!(
        bare,
        FileInfo::Received {
            creator: None,
            content: None
        }
    );
    let whole = FileInfo::Received {
        creator: Some(Role::Responder),
        content: Some("c".into()),
    };
    let text = format!("<received xmlns='{FILE_TRANSFER}' creator='responder' name='c'/>");
    assert_eq!(whole.to_element(), parse(&text));
}

#[test]
fn reasons_carry_the_conditions_of_the_specification() {
    let named = |reason: Reason| (reason.condition, reason.extra.unwrap().name().to_owned());
    assert_eq!(
        named(file_not_available()),
        (
            ReasonCondition::FailedApplication,
            "file-not-available".into()
        )
    );
    assert_eq!(
        named(file_too_large()),
        (ReasonCondition::MediaError, "file-too-large".into())
    );
}

#[test]
fn a_selector_picks_what_all_of_it_is_true_of() {
    let hash = |byte| Hash::new(HashAlgorithm::Sha256, &[byte; 32]).unwrap();
    let file = File::new("a", 5).with_hash(hash(1)).with_media_type("a/b");
    let nothing = File::default();
    let by_name = File {
        name: Some("a".into()),
        ..File::default()
    };
    let by_hash = nothing.clone().with_hash(hash(1));
    assert!(!nothing.selects(&file));
    assert!(by_name.selects(&file) && by_hash.selects(&file));
    assert!(!by_name.clone().with_hash(hash(2)).selects(&file));
    assert!(
        !File {
            size: Some(6),
            ..by_name.clone()
        }
        .selects(&file)
    );
    assert!(!by_name.with_media_type("x/y").selects(&file));
    assert!(
        !by_hash.selects(&File::new("a", 5)),
        "a hash that is not known is not equal"
    );
}

fn texts() -> impl Strategy<Value = std::sync::Arc<str>> {
    "[ -~äß名\u{1f4c4}]{1,30}".prop_map(Into::into)
}

fn hashes() -> impl Strategy<Value = Vec<Hash>> {
    let one = (
        prop::sample::select(&HashAlgorithm::ALL[..]),
        any::<[u8; 32]>(),
    );
    let one = one.prop_map(|(algorithm, bytes)| {
        Hash::new(algorithm, &bytes.repeat(2)[..algorithm.digest_bytes()]).unwrap()
    });
    prop::collection::vec(one, 0..4)
}

prop_compose! {
    fn files()(
        name in prop::option::of(texts()),
        media_type in prop::option::of(texts()),
        date in prop::option::of(-62_167_219_200..253_402_300_800i64),
        texts in prop::collection::vec((prop::option::of(texts()), texts()), 0..3),
        hashes_of in (hashes(), hashes()),
        used in prop::collection::vec("[a-z0-9-]{1,12}", 0..3),
        size in prop::option::of(any::<u64>()),
        part in prop::option::of((any::<u64>(), prop::option::of(any::<u64>()))),
        thumbnail in prop::option::of((texts(), prop::option::of(texts()), any::<Option<u16>>(), any::<Option<u16>>())),
    ) -> File {
        let range = part.map(|(at, length)| {
            let end = size.unwrap_or(u64::MAX);
            let offset = if end == 0 { 0 } else { at % end };
            let length = length.map(|length| length % (end - offset).max(1));
            FileRange { offset, length, hashes: hashes_of.1 }
        });
        File {
            name, size, media_type, range,
            date: date.and_then(FileDate::from_unix),
            texts: texts.into_iter().map(|(language, text)| FileText { language, text }).collect(),
            hashes: hashes_of.0,
            hash_used: used.into_iter().map(Into::into).collect(),
            thumbnails: thumbnail.into_iter().map(|(uri, media_type, width, height)| Thumbnail { uri, media_type, width, height }).collect(),
            extra: Vec::new(),
        }
    }
}

proptest! {
    #[test]
    fn every_file_comes_back_over_the_wire(file in files()) {
        let description = FileDescription::from(file.clone());
        prop_assert_eq!(FileDescription::from_element(&over_the_wire(&description.to_element())), Ok(description));
        let info = FileInfo::Checksum { creator: Some(Role::Initiator), content: Some("c".into()), file: Box::new(file) };
        prop_assert_eq!(FileInfo::from_element(over_the_wire(&info.to_element()).view()), Ok(Some(info)));
    }

    /// Whatever stands there, there is an answer, and what is taken is written to the same value.
    #[test]
    fn nothing_makes_it_panic(element in session_core::element::strategy::element()) {
        let wrapped = Element::new(FILE_TRANSFER, "description").child(Element::new(FILE_TRANSFER, "file").child(element.clone()));
        for element in [element, wrapped] {
            if let Ok(value) = FileDescription::from_element(&element) {
                prop_assert_eq!(FileDescription::from_element(&value.to_element()), Ok(value));
            }
            let _ = FileInfo::from_element(element.view());
        }
    }
}
