//! The journal of a partial file: which file it is, and how much of it is surely there.
//!
//! It is text, a line for each thing that became true, each with a check over itself and all lines before it. A line that
//! was written only in part, or damaged, is none, nor is anything behind it: so what a crash leaves is always a state that
//! was true once, and never more than that.

use super::ResumeToken;
use crate::{File, FileDate, Hash, HashAlgorithm, Hasher, hash::compare};
use sha2::{Digest, Sha256};
use std::{fmt::Write as _, sync::Arc};
use thiserror::Error;

/// The first line, and what the checks begin with.
const HEAD: &str = "session-file journal 1";

/// Most bytes that are read of a line.
const LINE_MAX: usize = 32 * 1024;

/// Bytes of a check.
const CHECK: usize = 8;

/// What a [`Journal`] says of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JournalState {
    /// This much of it is there.
    Partial(Box<ResumeToken>),
    /// Nothing of it is surely there.
    Nothing,
    /// All of it is there, and was verified as far as its sender let us.
    Whole {
        /// Bytes of the file.
        bytes: u64,
        /// Its hash.
        hash: Hash,
    },
}

/// Why a journal cannot be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum JournalError {
    /// It is none, or its beginning is damaged.
    #[error("not a journal of a file")]
    NotOne,
    /// The hasher computes nothing that can be kept.
    #[error("a journal needs a hash")]
    NoHash,
    /// There would be less of the file than before, or more than it has.
    #[error("{bytes} bytes cannot follow {before}")]
    Bytes {
        /// What was to be said.
        bytes: u64,
        /// What was said before.
        before: u64,
    },
    /// The file is not whole, or is another.
    #[error("the file is not what was offered: it is not whole")]
    NotWhole,
    /// It was said that the file is whole.
    #[error("the file is whole already")]
    Over,
}

/// The journal of one file. A program appends to its own file what these calls return, in this order: the bytes of the file
/// are on the disk, then the line that says so is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Journal {
    file: File,
    reached: Option<(u64, Hash)>,
    whole: bool,
    check: [u8; CHECK],
    bytes: u64,
}

impl Journal {
    /// A journal for a file of which nothing is there, and the bytes that it begins with.
    pub fn create(file: &File) -> (Self, Vec<u8>) {
        let mut journal = Self {
            file: identity(file),
            reached: None,
            whole: false,
            check: first_check(),
            bytes: 0,
        };
        let mut text = format!("{HEAD}\n");
        journal.bytes = text.len() as u64;
        let body = describe(&journal.file);
        text.push_str(&journal.line(&body));
        (journal, text.into_bytes())
    }

    /// This much of the file is on the disk now, synced: the bytes to append.
    ///
    /// # Errors
    /// [`JournalError`]; nothing has changed.
    pub fn advance(&mut self, hasher: &Hasher) -> Result<Vec<u8>, JournalError> {
        let (bytes, hash) = self.next(hasher)?;
        let line = self.line(&format!("at {bytes} {}", hash_text(&hash)));
        self.reached = Some((bytes, hash));
        Ok(line.into_bytes())
    }

    /// All of the file is on the disk now, synced, under its temporary name: the bytes to append before it gets its own.
    ///
    /// # Errors
    /// [`JournalError::NotWhole`] when it has not the size or not the hash that were named. Nothing has changed.
    pub fn complete(&mut self, hasher: &Hasher) -> Result<Vec<u8>, JournalError> {
        let (bytes, hash) = self.next(hasher)?;
        let differs = compare(&hasher.hashes(), &self.file.hashes).is_some_and(|(_, equal)| !equal);
        if self.file.size.is_some_and(|size| size != bytes) || differs {
            return Err(JournalError::NotWhole);
        }
        let line = self.line(&format!("whole {bytes} {}", hash_text(&hash)));
        self.reached = Some((bytes, hash));
        self.whole = true;
        Ok(line.into_bytes())
    }

    /// The journal in these bytes. What is behind the last line that is sound is not looked at: a program cuts it off
    /// ([`bytes`](Self::bytes)) before it appends.
    ///
    /// # Errors
    /// [`JournalError::NotOne`] when not even the file is known.
    pub fn read(bytes: &[u8]) -> Result<Self, JournalError> {
        let mut lines = Lines { rest: bytes };
        if lines.next() != Some(HEAD) {
            return Err(JournalError::NotOne);
        }
        let mut journal = Self {
            file: File::default(),
            reached: None,
            whole: false,
            check: first_check(),
            bytes: HEAD.len() as u64 + 1,
        };
        let body = lines.next().and_then(|line| journal.sound(line));
        journal.file = body.and_then(parse_file).ok_or(JournalError::NotOne)?;
        for line in lines {
            let Some(entry) = journal.entry(line) else {
                break;
            };
            (journal.whole, journal.reached) = (entry.0, Some((entry.1, entry.2)));
        }
        Ok(journal)
    }

    /// What it says.
    pub fn state(&self) -> JournalState {
        match &self.reached {
            Some((bytes, hash)) if self.whole => JournalState::Whole {
                bytes: *bytes,
                hash: hash.clone(),
            },
            Some((offset, prefix)) if *offset > 0 => JournalState::Partial(Box::new(ResumeToken {
                file: self.file.clone(),
                offset: *offset,
                prefix: prefix.clone(),
            })),
            Some(_) | None => JournalState::Nothing,
        }
    }

    /// The file that it is about.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// How many bytes it has on the disk.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    fn next(&self, hasher: &Hasher) -> Result<(u64, Hash), JournalError> {
        if self.whole {
            return Err(JournalError::Over);
        }
        let bytes = hasher.length();
        let before = self.reached.as_ref().map_or(0, |(bytes, _)| *bytes);
        if bytes < before || self.file.size.is_some_and(|size| bytes > size) {
            return Err(JournalError::Bytes { bytes, before });
        }
        let hash = hasher.hashes().into_iter().max_by_key(Hash::algorithm);
        Ok((bytes, hash.ok_or(JournalError::NoHash)?))
    }

    /// A line with its check, which it is now behind.
    fn line(&mut self, body: &str) -> String {
        self.check = chain(self.check, body);
        let line = format!("{body} {}\n", hex(&self.check));
        self.bytes += line.len() as u64;
        line
    }

    /// The body of a line whose check is right.
    fn sound<'a>(&mut self, line: &'a str) -> Option<&'a str> {
        let (body, check) = line.rsplit_once(' ')?;
        let expected = chain(self.check, body);
        if check != hex(&expected) {
            return None;
        }
        self.check = expected;
        self.bytes += line.len() as u64 + 1;
        Some(body)
    }

    fn entry(&mut self, line: &str) -> Option<(bool, u64, Hash)> {
        if self.whole {
            return None;
        }
        let before = (self.check, self.bytes);
        let entry = self
            .sound(line)
            .and_then(parse_entry)
            .filter(|(whole, bytes, _)| {
                let grows = self
                    .reached
                    .as_ref()
                    .is_none_or(|(reached, _)| reached <= bytes);
                let fits = self.file.size.is_none_or(|size| {
                    if *whole {
                        *bytes == size
                    } else {
                        *bytes <= size
                    }
                });
                grows && fits
            });
        if entry.is_none() {
            (self.check, self.bytes) = before;
        }
        entry
    }
}

/// Lines that end; the rest of a line that does not is none.
struct Lines<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Lines<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let window = &self.rest[..self.rest.len().min(LINE_MAX)];
        let end = window.iter().position(|&byte| byte == b'\n')?;
        let line = std::str::from_utf8(&self.rest[..end]).ok()?;
        self.rest = &self.rest[end + 1..];
        Some(line)
    }
}

/// What of a file tells which one it is.
fn identity(file: &File) -> File {
    let known = |hash: &&Hash| hash.algorithm().is_some();
    let names = |name: &&Arc<str>| HashAlgorithm::from_name(name).is_some();
    File {
        name: file.name.clone(),
        size: file.size,
        media_type: file.media_type.clone(),
        date: file.date,
        hashes: file.hashes.iter().filter(known).cloned().collect(),
        hash_used: file.hash_used.iter().filter(names).cloned().collect(),
        ..File::default()
    }
}

fn describe(file: &File) -> String {
    let mut body = "file".to_owned();
    let mut field = |key: &str, value: &str| {
        let _ = write!(body, " {key}={}", escape(value));
    };
    if let Some(name) = &file.name {
        field("name", name);
    }
    if let Some(size) = file.size {
        field("size", &size.to_string());
    }
    if let Some(media) = &file.media_type {
        field("media", media);
    }
    if let Some(date) = file.date {
        field("date", &date.to_string());
    }
    for hash in &file.hashes {
        field("hash", &hash_text(hash));
    }
    for name in &file.hash_used {
        field("used", name);
    }
    body
}

fn parse_file(body: &str) -> Option<File> {
    let mut file = File::default();
    let mut fields = body.split(' ');
    if fields.next() != Some("file") {
        return None;
    }
    for field in fields {
        let (key, value) = field.split_once('=')?;
        let value = unescape(value)?;
        match key {
            "name" => file.name = Some(value.into()),
            "size" => file.size = Some(value.parse().ok()?),
            "media" => file.media_type = Some(value.into()),
            "date" => file.date = Some(value.parse::<FileDate>().ok()?),
            "hash" => file.hashes.push(parse_hash(&value)?),
            "used" => file.hash_used.push(value.into()),
            // Of a later version.
            _ => {}
        }
    }
    Some(file)
}

fn parse_entry(body: &str) -> Option<(bool, u64, Hash)> {
    let mut words = body.split(' ');
    let whole = match words.next()? {
        "at" => false,
        "whole" => true,
        _ => return None,
    };
    let bytes = words.next()?.parse().ok()?;
    let hash = parse_hash(words.next()?)?;
    words.next().is_none().then_some((whole, bytes, hash))
}

fn hash_text(hash: &Hash) -> String {
    format!("{}:{}", hash.name(), hash.to_base64())
}

fn parse_hash(text: &str) -> Option<Hash> {
    let (name, value) = text.split_once(':')?;
    Hash::from_base64(HashAlgorithm::from_name(name)?, value).ok()
}

/// Everything but what stands in a line without a second meaning, as %XX of its UTF-8.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && byte != b'%' {
            out.push(char::from(byte));
        } else {
            let _ = write!(out, "%{byte:02x}");
        }
    }
    out
}

fn unescape(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || char::from(bytes.next()?).to_digit(16);
        out.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(out).ok()
}

fn first_check() -> [u8; CHECK] {
    chain([0; CHECK], HEAD)
}

fn chain(before: [u8; CHECK], body: &str) -> [u8; CHECK] {
    let digest = Sha256::new()
        .chain_update(before)
        .chain_update(body)
        .finalize();
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest[..CHECK]);
    check
}

fn hex(check: &[u8; CHECK]) -> String {
    check.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
