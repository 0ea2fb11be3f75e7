//! Trees of hostile peers: names that lead elsewhere, frames that make no sense, and more of everything than is good.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod filekit;

use bytes::Bytes;
use filekit::{tree::*, *};
use proptest::prelude::*;
use session_file::{
    EntryKind, NameError, PathError, TreeEntry, TreeError, TreeEvent, TreeLimits, TreePath,
    TreeReceiver, TreeSender, TreeTotals, tree_offer, tree_totals,
};

/// What a peer may call a file so that something else is written, overwritten, run, hidden or confused.
const HOSTILE: [&str; 132] = [
    "",
    "/",
    "//",
    "/etc/passwd",
    "/a",
    "a/",
    "a//b",
    "./a",
    "a/./b",
    ".",
    "..",
    "../a",
    "a/..",
    "a/../b",
    "a/../../b",
    "../../../../etc/shadow",
    "..\\a",
    "a\\b",
    "\\\\server\\share\\x",
    "\\a",
    "a\\..\\..\\b",
    "C:",
    "C:\\",
    "C:\\Windows\\x",
    "C:/Windows/x",
    "C:a",
    "c:/x",
    "a:b",
    "a::$DATA",
    "a.txt:stream",
    "a.txt::$INDEX_ALLOCATION",
    "//?/C:/x",
    "\\\\.\\PhysicalDrive0",
    "\\\\?\\C:\\x",
    "file:///etc/passwd",
    "~/../x",
    "a/ ",
    " /a",
    " a",
    "a ",
    "a/ b",
    "a. ",
    "a.",
    "a..",
    "...",
    "....",
    ". .",
    ".. ",
    "a/...",
    "a\u{a0}",
    "\u{a0}a",
    "\u{3000}",
    "a\u{2003}",
    "a\0b",
    "a\0",
    "\0",
    "a\nb",
    "a\r",
    "\ta",
    "a\tb",
    "\x1b[2J",
    "a\x07",
    "a\x7f",
    "a\u{80}",
    "a\u{9b}31m",
    "a\u{85}b",
    "CON",
    "con",
    "Con.txt",
    "con.tar.gz",
    "PRN",
    "AUX",
    "aux.c",
    "NUL",
    "nul",
    "nul.",
    "NUL .txt",
    "COM1",
    "com9.x",
    "COM¹",
    "com².txt",
    "LPT1",
    "lpt³",
    "CONIN$",
    "conout$",
    "a/con/b",
    "a/nul",
    "x/COM0",
    "a*",
    "*",
    "?",
    "a?b",
    "a\"b",
    "<a",
    "a>b",
    "a|b",
    "a|",
    "gpj.\u{202e}exe.",
    "a\u{202e}gpj.exe",
    "\u{202a}x",
    "x\u{202c}",
    "\u{2066}x\u{2069}",
    "a\u{2067}b",
    "a\u{200e}b",
    "a\u{200f}b",
    "a\u{61c}b",
    "\u{feff}a",
    "a\u{2028}b",
    "a\u{2029}b",
    "a/\u{202e}b/c",
    "a/b\u{0}/c",
    "..%00/",
    "..\u{0}",
    "a/..\\..\\b",
    "..;/a:",
    "\\..\\..\\a",
    "/..",
    "a/.. ",
    "a/. ",
    "./",
    "../",
    "/./",
    "a/\t",
    "a/b/../../..",
    "a:/../b",
    "|calc",
    "a/b/",
    "/\u{202e}",
    "Aux/x",
    "x/Prn.doc",
    "LpT9",
    "CONOUT$.x",
];

#[test]
fn no_hostile_name_becomes_a_path() {
    for name in HOSTILE {
        let error = TreePath::new(name);
        assert!(error.is_err(), "{name:?} is taken");
    }
    for (text, error) in [
        (vec!["a"; 65].join("/"), PathError::TooDeep(65)),
        ("a".repeat(4_097), PathError::TooLong(4_097)),
        (
            "a".repeat(256),
            PathError::Name {
                at: 0,
                error: NameError::TooLong(256),
            },
        ),
        (
            "a/..".to_owned(),
            PathError::Name {
                at: 1,
                error: NameError::Directory,
            },
        ),
    ] {
        assert_eq!(TreePath::new(&text), Err(error));
    }
    for name in [
        "a",
        "a/b/c",
        ".hidden/x",
        "名前/файл/αρχείο.txt",
        "a b/c",
        "..a",
        "a..b",
        "-rf",
        "a'b",
        "%2e%2e",
    ] {
        assert_eq!(TreePath::new(name).unwrap().to_string(), name);
    }
}

#[test]
fn names_that_some_system_takes_for_one_collide() {
    for (first, second) in [
        ("a", "a"),
        ("a", "A"),
        ("straße", "STRASSE"),
        ("Ä", "a\u{308}"),
        ("\u{e9}", "e\u{301}"),
        ("ﬁle", "file"),
        ("K", "\u{212a}"),
        ("Σ", "ς"),
        ("İx", "i\u{307}X"),
    ] {
        let mut sender = TreeSender::new(TreeLimits::default());
        sender.push(&file(first, 1)).unwrap();
        assert_eq!(
            sender.push(&folder(second)),
            Err(TreeError::Collision(path(second))),
            "{first} {second}"
        );
        sender.push(&file("else", 1)).unwrap();
    }
}

#[test]
fn what_is_below_a_file_or_in_no_folder_is_refused() {
    let mut sender = TreeSender::new(TreeLimits::default());
    sender.push(&file("f", 1)).unwrap();
    assert_eq!(
        sender.push(&file("f/x", 1)),
        Err(TreeError::Collision(path("f/x")))
    );
    assert_eq!(
        sender.push(&file("d/x", 1)),
        Err(TreeError::NoFolder(path("d/x")))
    );
    sender.push(&folder("d")).unwrap();
    sender.push(&file("D/x", 1)).unwrap();
    assert_eq!(
        sender.push(&file("d/X", 1)),
        Err(TreeError::Collision(path("d/X")))
    );
    let odd = TreeEntry {
        kind: EntryKind::File {
            size: 1,
            hash: hashed(b"").hashes().pop(),
        },
        ..file("h", 1)
    };
    assert!(matches!(
        sender.push(&odd),
        Err(TreeError::Malformed { field: "hash", .. })
    ));
}

/// The frames of entries that a sender of ours refuses to name: as another would.
fn forged(entries: &[(&str, u8)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (path, kind) in entries {
        out.extend([*kind, 0x80 | 0x24, 0x03, 0]);
        if *kind == 2 {
            out.push(1);
        }
        let length = path.len() as u64;
        out.extend([(length & 0x7f) as u8 | 0x80, (length >> 7) as u8]);
        out.extend(path.as_bytes());
    }
    out
}

#[test]
fn a_receiver_refuses_hostile_entries_whoever_sends_them() {
    for name in HOSTILE {
        for kind in [1, 2] {
            let mut receiver = TreeReceiver::new(TreeLimits::default());
            let result = receiver.handle(&forged(&[("good", 1), (name, kind)]));
            assert!(
                matches!(result, Err(TreeError::Path(_))),
                "{name:?}: {result:?}"
            );
        }
    }
    for (entries, error) in [
        (vec![("a", 2), ("A", 2)], TreeError::Collision(path("A"))),
        (
            vec![("a", 2), ("a/b", 2)],
            TreeError::Collision(path("a/b")),
        ),
        (vec![("a/b", 2)], TreeError::NoFolder(path("a/b"))),
    ] {
        let mut receiver = TreeReceiver::new(TreeLimits::default());
        assert_eq!(receiver.handle(&forged(&entries)), Err(error));
    }
    let mut receiver = TreeReceiver::new(TreeLimits::default());
    receiver.handle(&forged(&[("ok", 2)])).unwrap();
    // Set-user-id and the like are not taken; a link is no kind of entry.
    assert!(
        matches!(receiver.poll_event(), Some(TreeEvent::Entry { entry, .. }) if entry.mode == 0o644)
    );
    let link = receiver.handle(&forged(&[("link", 9)]));
    assert!(matches!(
        link,
        Err(TreeError::Malformed { field: "frame", .. })
    ));
}

#[test]
fn a_receiver_refuses_what_makes_no_sense() {
    let fresh = || {
        let mut receiver = TreeReceiver::new(TreeLimits::default());
        receiver.handle(&forged(&[("f", 2)])).unwrap();
        receiver
    };
    for (bytes, error) in [
        (vec![5, 0, 1, 9], TreeError::Unknown(0)),
        (
            vec![6, 1].into_iter().chain([0; 32]).collect(),
            TreeError::Unknown(1),
        ),
        (vec![7, 0], TreeError::Unknown(0)),
        (vec![8], TreeError::OutOfOrder("the end before all files")),
        (
            vec![4, 4],
            TreeError::OutOfOrder("a second end of the entries"),
        ),
        (vec![4, 1], TreeError::OutOfOrder("an entry after the last")),
        (
            vec![16, 0, 0],
            TreeError::OutOfOrder("a sender does not send this"),
        ),
        (
            vec![5, 0, 0],
            TreeError::Malformed {
                field: "data",
                problem: "not between 1 and 65,536 bytes",
            },
        ),
        (
            vec![5, 0, 0xff, 0xff, 0xff, 1],
            TreeError::Malformed {
                field: "data",
                problem: "not between 1 and 65,536 bytes",
            },
        ),
        (
            vec![7].into_iter().chain([0xff; 10]).collect(),
            TreeError::Malformed {
                field: "number",
                problem: "more than 64 bits",
            },
        ),
    ] {
        let bytes: Vec<u8> = bytes;
        let entry = if bytes.starts_with(&[4, 1]) {
            [vec![4], forged(&[("g", 1)])].concat()
        } else {
            bytes
        };
        assert_eq!(fresh().handle(&entry), Err(error), "{entry:?}");
    }
    let mut receiver = fresh();
    receiver.want(0, None).unwrap();
    assert_eq!(
        receiver.handle(&[5, 0, 2, 1, 1]),
        Err(TreeError::Size(0)),
        "more than was named"
    );
    let mut receiver = fresh();
    receiver.want(0, None).unwrap();
    assert_eq!(
        receiver.handle(&[[6, 0].as_slice(), &[0; 32]].concat()),
        Err(TreeError::Size(0)),
        "less than was named"
    );
    let mut receiver = fresh();
    receiver.want(0, None).unwrap();
    receiver
        .handle(&[[5, 0, 1, 9, 6, 0].as_slice(), &[0; 32]].concat())
        .unwrap();
    let events: Vec<_> = std::iter::from_fn(|| receiver.poll_event()).collect();
    assert_eq!(events.last(), Some(&TreeEvent::Damaged { file: 0 }));
    let mut receiver = fresh();
    receiver.skip(0).unwrap();
    assert_eq!(receiver.want(0, None), Err(TreeError::Unknown(0)));
    receiver.handle(&[4, 8]).unwrap();
    assert!(receiver.handle(&[8]).is_err(), "nothing follows the end");
}

#[test]
fn a_sender_refuses_what_makes_no_sense() {
    let fresh = || {
        let mut sender = TreeSender::new(TreeLimits::default());
        sender.push(&file("f", 5)).unwrap();
        sender
    };
    for (bytes, error) in [
        (vec![16, 1, 0], TreeError::Unknown(1)),
        (vec![16, 0, 6], TreeError::Size(0)),
        (vec![16, 0, 0, 16, 0, 0], TreeError::Unknown(0)),
        (vec![16, 0, 0, 17, 0], TreeError::Unknown(0)),
        (vec![17, 0, 17, 0], TreeError::Unknown(0)),
        (
            vec![4],
            TreeError::OutOfOrder("a receiver does not send this"),
        ),
    ] {
        assert_eq!(fresh().handle(&bytes), Err(error), "{bytes:?}");
    }
    let mut sender = fresh();
    assert!(
        sender.begin(None).is_err()
            && sender.data(&Bytes::new()).is_err()
            && sender.gone().is_err()
    );
    sender.handle(&[16, 0, 2]).unwrap();
    assert_eq!(
        sender.begin(None),
        Err(TreeError::Size(0)),
        "what is in front is to be shown"
    );
    sender.begin(Some(sha256(b"ab"))).unwrap();
    assert_eq!(
        sender.data(&Bytes::from_static(b"cdef")),
        Err(TreeError::Size(0))
    );
    sender.data(&Bytes::from_static(b"cde")).unwrap();
    assert_eq!(sender.counts(), (0, 1));
}

#[test]
fn a_million_files_are_refused_by_their_number_and_cost_nothing() {
    let limits = TreeLimits::default();
    let million = TreeTotals {
        entries: 1_000_000,
        bytes: 1,
    };
    let refused = TreeError::TooMany {
        limit: "entries",
        max: limits.entries,
    };
    assert_eq!(
        tree_totals(&tree_offer("t", million), &limits),
        Err(refused.clone())
    );
    let bomb = TreeTotals {
        entries: 1,
        bytes: u64::MAX,
    };
    assert!(tree_totals(&tree_offer("t", bomb), &limits).is_err());

    // One that says nothing of it and sends them: folders, which wait for nobody.
    let mut receiver = TreeReceiver::new(limits);
    let mut error = None;
    for at in 0..1_000_000 {
        let name = format!("d{at}");
        if let Err(refusal) = receiver.handle(&forged(&[(&name, 1)])) {
            error = Some((at, refusal));
            break;
        }
        while receiver.poll_event().is_some() {}
    }
    assert_eq!(error, Some((limits.entries, refused)));

    // Files, which wait for a decision.
    let mut receiver = TreeReceiver::new(limits);
    let names: Vec<String> = (0..2_000).map(|at| format!("f{at}")).collect();
    let entries: Vec<(&str, u8)> = names.iter().map(|name| (name.as_str(), 2)).collect();
    let ahead = TreeError::TooMany {
        limit: "ahead",
        max: 1_024,
    };
    assert_eq!(receiver.handle(&forged(&entries)), Err(ahead));

    // Sizes that add up to more than there is.
    let mut huge = forged(&[("x", 2)]);
    huge.splice(
        4..5,
        [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
    );
    let bytes = TreeError::TooMany {
        limit: "bytes",
        max: limits.bytes,
    };
    assert_eq!(TreeReceiver::new(limits).handle(&huge), Err(bytes));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Bytes from anywhere: an answer, and no memory to speak of.
    #[test]
    fn nothing_makes_either_side_panic(pieces in prop::collection::vec(prop::collection::vec(prop_oneof![0..20u8, any::<u8>()], 0..200), 0..20)) {
        let mut receiver = TreeReceiver::new(TreeLimits::default());
        let mut sender = TreeSender::new(TreeLimits::default());
        sender.push(&file("a", 3)).unwrap();
        for piece in pieces {
            let _ = receiver.handle(&piece);
            while receiver.poll_event().is_some() {}
            let _ = sender.handle(&piece);
        }
    }
}
