//! Odd names, and what is in a folder.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

/// Names that are odd, and names all the same: of many scripts, directions, and shells' own signs.
pub(crate) const ODD: [&str; 28] = [
    "plain",
    "with space",
    "Ünïcødé",
    "名前.txt",
    "파일",
    "ひらがな",
    "имя файла",
    "όνομα",
    "اسم الملف",
    "שם הקובץ",
    "नाम",
    "பெயர்",
    "ชื่อ",
    "ფაილი",
    "ֆայլ",
    "ስም",
    "ᠨᠡᠷ᠎ᠡ",
    "😀🎉.png",
    "👩‍👩‍👧‍👦",
    "𝒻𝒾𝓁𝑒",
    "-rf",
    "--help",
    "a'b`c$(d)&;",
    ".hidden",
    "a,b;c=d",
    "%20",
    "e\u{301}",
    "x…y",
];

/// What is in a folder: its paths, with modes, dates and contents.
pub(crate) fn list(root: &Path) -> Vec<(String, u32, i64, Option<Vec<u8>>)> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = path.symlink_metadata().unwrap();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let content = metadata.is_file().then(|| fs::read(&path).unwrap());
            if metadata.is_dir() {
                folders.push(path);
            }
            found.push((name, metadata.mode() & 0o777, metadata.mtime(), content));
        }
    }
    found.sort();
    found
}
