//! What is said in Google's file share, as libjingle says it, and as a hostile peer might.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use proptest::prelude::*;
use session_core::{Element, ElementLimits, PeerError, SessionDescription};
use session_file::{
    NameError, PREVIEW_MAX, SHARE, SHARE_ITEMS_MAX, Share, ShareInfo, ShareItem, ShareKind,
    ShareRequest,
};
use session_xmpp::xml::{self, Context};

fn parse(text: &str) -> Element {
    xml::parse(text.as_bytes(), &Context::NONE, &ElementLimits::default()).unwrap()
}

/// The description of libjingle.md §5.3.
const LIBJINGLE: &str = r#"<description xmlns="http://www.google.com/session/share">
  <manifest>
    <file size="48213"><name>beach.jpg</name><image width="1024" height="768"/></file>
    <folder size="910233"><name>notes</name></folder>
  </manifest>
  <protocol><http>
    <url name="source-path">/temporary/0cc175b9c0f1b6a831c399e269772661/</url>
    <url name="preview-path">/temporary/92eb5ffee6ae2fec3ad71c777531578f/</url>
  </http></protocol>
</description>"#;

fn with(manifest: &str, protocol: &str) -> Result<Share, PeerError> {
    Share::from_element(&parse(&format!(
        "<description xmlns='{SHARE}'>{manifest}{protocol}</description>"
    )))
}

const HTTP: &str = "<protocol><http><url name='source-path'>/s/</url><url name='preview-path'>/p/</url></http></protocol>";

fn items(manifest: &str) -> Result<Vec<ShareItem>, PeerError> {
    with(&format!("<manifest>{manifest}</manifest>"), HTTP).map(|share| share.items)
}

#[test]
fn what_libjingle_says_is_understood_and_said_again() {
    let share = Share::from_element(&parse(LIBJINGLE)).unwrap();
    assert_eq!(share.items.len(), 2);
    assert_eq!(
        share.items[0].kind,
        ShareKind::Image {
            width: 1024,
            height: 768
        }
    );
    assert_eq!(
        (share.items[1].kind, share.items[1].size),
        (ShareKind::Folder, Some(910_233))
    );
    assert_eq!(Share::from_element(&share.to_element()), Ok(share.clone()));
    let source = share.source(&share.items[1]).unwrap();
    assert_eq!(source, "/temporary/0cc175b9c0f1b6a831c399e269772661/notes");
    assert_eq!(
        share.request(&source),
        Some(ShareRequest {
            item: 1,
            preview: None
        })
    );
    let preview = share.preview(&share.items[0], 96, 5_000).unwrap();
    assert_eq!(
        preview,
        "/temporary/92eb5ffee6ae2fec3ad71c777531578f/beach.jpg?width=96&height=1024"
    );
    assert_eq!(
        share.request(&preview),
        Some(ShareRequest {
            item: 0,
            preview: Some((96, 1_024))
        })
    );
    assert_eq!(
        share.preview(&share.items[1], 1, 1),
        None,
        "a folder has no picture"
    );
    let answer = Share::answer().to_element();
    assert_eq!(Share::from_element(&answer), Ok(Share::answer()));
    assert!(
        answer
            .find(SHARE, "protocol")
            .unwrap()
            .find(SHARE, "http")
            .is_some()
    );
}

fn malformed<T>(field: &'static str, problem: &'static str) -> Result<T, PeerError> {
    Err(PeerError::Malformed { field, problem })
}

#[test]
fn a_description_without_its_parts_is_an_error_and_not_an_empty_one() {
    let file = "<manifest><file><name>a</name></file></manifest>";
    assert_eq!(with("", HTTP), malformed("manifest", "missing"));
    assert_eq!(with(file, ""), malformed("protocol", "missing"));
    assert_eq!(
        with(file, "<protocol><raw/></protocol>"),
        malformed("http", "missing")
    );
    assert_eq!(
        with(file, "<protocol><http/></protocol>"),
        malformed("source-path", "missing")
    );
    assert_eq!(
        items("<file size='x'><name>a</name></file>"),
        malformed("size", "not a number of 64 bits")
    );
    assert_eq!(
        items("<file size='18446744073709551616'><name>a</name></file>"),
        malformed("size", "not a number of 64 bits")
    );
    let long = format!("<file><name>{}</name></file>", "x".repeat(1_025));
    assert_eq!(items(&long), malformed("name", "too long"));
    for path in [
        "",
        "/",
        "s/",
        "/s",
        "//evil.example/",
        "/../",
        "/a/./",
        "/a?b/",
        "/a#b/",
        "/%2e%2e/",
        "/a b/",
        "http://evil.example/",
        "/a\\b/",
    ] {
        let protocol =
            format!("<protocol><http><url name='source-path'>{path}</url></http></protocol>");
        let taken = with(file, &protocol);
        assert_eq!(taken.is_ok(), path == "/", "{path:?}: {taken:?}");
    }
}

#[test]
fn what_cannot_be_believed_is_left_out_and_names_are_judged() {
    let kinds = |text: &str| {
        items(text)
            .unwrap()
            .into_iter()
            .map(|item| item.kind)
            .collect::<Vec<_>>()
    };
    let image = |width, height| {
        format!("<file><name>a</name><image width='{width}' height='{height}'/></file>")
    };
    assert_eq!(
        kinds(&image("16", "32768")),
        [ShareKind::Image {
            width: 16,
            height: 32_768
        }]
    );
    for (width, height) in [("15", "100"), ("100", "32769"), ("-1", "100"), ("", "100")] {
        assert_eq!(kinds(&image(width, height)), [ShareKind::File]);
    }
    assert_eq!(
        kinds("<file/><file><name/></file><link><name>a</name></link><x xmlns='y'/>"),
        []
    );
    let hostile = items("<file><name>../../.ssh/authorized_keys</name></file>").unwrap();
    assert_eq!(hostile[0].file_name(), Err(NameError::Character('/')));
    let one = "<file><name>a</name></file>";
    assert_eq!(
        items(&one.repeat(SHARE_ITEMS_MAX)).unwrap().len(),
        SHARE_ITEMS_MAX
    );
    let limit = PeerError::TooMany {
        limit: "items",
        max: SHARE_ITEMS_MAX,
    };
    assert_eq!(items(&one.repeat(SHARE_ITEMS_MAX + 1)), Err(limit));
}

#[test]
fn a_request_reaches_what_was_offered_and_nothing_else() {
    let item = |name: &str, kind| ShareItem {
        name: name.into(),
        size: None,
        kind,
    };
    let image = ShareKind::Image {
        width: 20,
        height: 20,
    };
    let share = Share::offer(
        vec![item("a b", image), item("n", ShareKind::File)],
        "/s/",
        "/p/",
    )
    .unwrap();
    for (target, found) in [
        (
            "/s/a%20b",
            Some(ShareRequest {
                item: 0,
                preview: None,
            }),
        ),
        (
            "/s/a+b",
            Some(ShareRequest {
                item: 0,
                preview: None,
            }),
        ),
        (
            "/s/n?width=5",
            Some(ShareRequest {
                item: 1,
                preview: None,
            }),
        ),
        (
            "/p/a%20b?height=2&width=1",
            Some(ShareRequest {
                item: 0,
                preview: Some((1, 2)),
            }),
        ),
        ("/p/a%20b?width=1", None),
        ("/p/a%20b?width=0&height=1", None),
        ("/p/a%20b?width=1025&height=1", None),
        ("/p/n?width=1&height=1", None),
        ("/s/", None),
        ("/s/../etc/passwd", None),
        ("/s/%2e%2e%2fetc", None),
        ("/s/n/", None),
        ("/s/%ff", None),
        ("/s/%4", None),
        ("/s/%+1n", None),
        ("n", None),
        ("", None),
        ("http://x/s/n", None),
    ] {
        assert_eq!(share.request(target), found, "{target}");
    }
    assert_eq!(Share::answer().request("/s/n"), None);
    assert_eq!(
        share.preview(&share.items[0], 0, PREVIEW_MAX + 1).unwrap(),
        "/p/a%20b?width=1&height=1024"
    );
    assert!(Share::offer(vec![item("", image)], "/s/", "/p/").is_err());
}

#[test]
fn infos_are_those_of_libjingle() {
    let info = |text: &str| ShareInfo::from_element(parse(text).view());
    assert_eq!(
        info(&format!("<complete xmlns='{SHARE}'/>")),
        Ok(Some(ShareInfo::Complete))
    );
    assert_eq!(info(&format!("<other xmlns='{SHARE}'/>")), Ok(None));
    assert_eq!(info("<complete xmlns='x'/>"), Ok(None));
    let channel = ShareInfo::Channel("private-12".into());
    assert_eq!(
        ShareInfo::from_element(channel.to_element().view()),
        Ok(Some(channel))
    );
    for name in [
        "",
        "private-",
        "private-x",
        "tcp",
        "private-1234567890",
        "proxy--1",
        "private-1 ",
    ] {
        assert!(
            info(&format!("<channel xmlns='{SHARE}' name='{name}'/>")).is_err(),
            "{name}"
        );
    }
    assert!(info(&format!("<channel xmlns='{SHARE}'/>")).is_err());
}

proptest! {
    #[test]
    fn every_share_comes_back_and_every_item_is_found(
        names in prop::collection::btree_set("[ -~äß名/%+?&=]{1,20}", 1..6),
        sizes in prop::collection::vec(any::<Option<u64>>(), 6),
        kinds in prop::collection::vec((0..3u8, 16..32_768u32, 16..32_768u32), 6),
    ) {
        let item = |((name, size), (kind, width, height)): ((String, Option<u64>), (u8, u32, u32))| ShareItem {
            name: name.as_str().into(),
            size,
            kind: [ShareKind::File, ShareKind::Folder, ShareKind::Image { width, height }][usize::from(kind)],
        };
        let items: Vec<_> = names.into_iter().zip(sizes).zip(kinds).map(item).collect();
        let share = Share::offer(items, "/one/", "/two/").unwrap();
        prop_assert_eq!(Share::from_element(&share.to_element()), Ok(share.clone()));
        for (at, item) in share.items.iter().enumerate() {
            let source = share.source(item).unwrap();
            prop_assert_eq!(share.request(&source), Some(ShareRequest { item: at, preview: None }));
            if let Some(preview) = share.preview(item, 7, 8) {
                prop_assert_eq!(share.request(&preview), Some(ShareRequest { item: at, preview: Some((7, 8)) }));
            }
        }
    }
}
