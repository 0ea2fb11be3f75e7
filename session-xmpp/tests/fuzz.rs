//! The fuzzers' entry points, over all vectors and over what small damage makes of them.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};

use session_xmpp::fuzz;

fn vectors() -> Vec<PathBuf> {
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")];
    let mut files = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path)
            } else {
                files.push(path)
            }
        }
    }
    files.sort();
    files
}

#[test]
fn vectors_and_their_damaged_copies_hold() {
    let mut damaged = 0_u32;
    for path in vectors() {
        let bytes = fs::read(path).unwrap();
        fuzz::stanza(&bytes);
        for at in (0..bytes.len()).step_by(37) {
            let mut copy = bytes.clone();
            damaged = damaged.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            copy[at] = b"<>&'\"/= \0ax\xff"[(damaged >> 16) as usize % 12];
            fuzz::stanza(&copy);
            fuzz::stanza(&bytes[..at]);
        }
    }
}
