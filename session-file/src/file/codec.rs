//! `<file/>` and what is in it, read and written.

use super::{
    FILE_TRANSFER, File, FileRange, FileText, THUMBNAILS, Thumbnail,
    file_limits::{
        EXTRA, HASHES as HASHES_MAX, NAME_BYTES, TEXT_BYTES, TEXTS, THUMBNAILS as THUMBNAILS_MAX,
    },
};
use crate::hash::{HASHES, Hash, algorithm_name, hash_used};
use session_core::{Element, ElementRef, PeerError};
use std::sync::Arc;

const XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The spelling of the specification, and that of Conversations, which reads no other (jingle-peers: 3.1).
const MEDIA_TYPES: [&str; 2] = ["media-type", "mediaType"];

pub(super) fn read(element: ElementRef<'_>) -> Result<File, PeerError> {
    let mut file = File::default();
    let mut media_rank = MEDIA_TYPES.len();
    for child in element.children() {
        if child.namespace() == HASHES {
            read_hash(child, &mut file.hashes, Some(&mut file.hash_used))?;
            continue;
        }
        if child.is(THUMBNAILS, "thumbnail") {
            full(file.thumbnails.len(), "thumbnails", THUMBNAILS_MAX)?;
            file.thumbnails.push(read_thumbnail(child)?);
            continue;
        }
        let name = child.name();
        if child.namespace() != FILE_TRANSFER {
            full(file.extra.len(), "extra", EXTRA)?;
            file.extra.push(child.detach());
            continue;
        }
        match name {
            // What is said twice is taken as it was said first.
            "name" if file.name.is_none() => file.name = short(child, "name")?,
            "size" if file.size.is_none() => {
                file.size = Some(number(&child.text_content(), "size")?)
            }
            "date" if file.date.is_none() => {
                // It is good for the time of the file and no more: one that cannot be read is left out.
                file.date = child.text_content().parse().ok();
            }
            "range" if file.range.is_none() => file.range = Some(read_range(child)?),
            "desc" => {
                full(file.texts.len(), "desc", TEXTS)?;
                file.texts.push(read_text(child)?);
            }
            "name" | "size" | "date" | "range" => {}
            other => {
                if let Some(rank) = MEDIA_TYPES.iter().position(|&known| known == other) {
                    if rank < media_rank
                        && let Some(media) = short(child, "media-type")?
                    {
                        file.media_type = Some(media);
                        media_rank = rank;
                    }
                } else {
                    full(file.extra.len(), "extra", EXTRA)?;
                    file.extra.push(child.detach());
                }
            }
        }
    }
    check_range(&file)?;
    Ok(file)
}

pub(super) fn write(file: &File) -> Element {
    let leaf = |name: &str, text: &str| Element::new(FILE_TRANSFER, name).text(text);
    let mut element = Element::new(FILE_TRANSFER, "file");
    if let Some(date) = file.date {
        element.push(leaf("date", &date.to_string()));
    }
    for FileText { language, text } in &file.texts {
        let mut desc = leaf("desc", text);
        if let Some(language) = language {
            desc.set_attribute_ns(XML, "lang", language);
        }
        element.push(desc);
    }
    if let Some(media) = &file.media_type {
        for name in MEDIA_TYPES {
            element.push(leaf(name, media));
        }
    }
    if let Some(name) = &file.name {
        element.push(leaf("name", name));
    }
    if let Some(range) = &file.range {
        element.push(write_range(range));
    }
    if let Some(size) = file.size {
        element.push(leaf("size", &size.to_string()));
    }
    let used = file.hash_used.iter().map(|name| hash_used(name));
    element
        .children_from(file.hashes.iter().map(Hash::to_element))
        .children_from(used)
        .children_from(file.thumbnails.iter().map(write_thumbnail))
        .children_from(file.extra.iter().cloned())
}

/// Children that nobody here understands.
pub(super) fn keep<'a>(
    unknown: impl Iterator<Item = ElementRef<'a>>,
) -> Result<Vec<Element>, PeerError> {
    let mut kept = Vec::new();
    for child in unknown {
        full(kept.len(), "extra", EXTRA)?;
        kept.push(child.detach());
    }
    Ok(kept)
}

/// A `<hash/>` or a `<hash-used/>`; an empty `<hash/>` is the older form of the latter.
fn read_hash(
    child: ElementRef<'_>,
    hashes: &mut Vec<Hash>,
    used: Option<&mut Vec<Arc<str>>>,
) -> Result<(), PeerError> {
    let value = match child.name() {
        "hash" => Hash::from_element(child)?,
        "hash-used" => None,
        _ => return Ok(()),
    };
    match (value, used) {
        (Some(hash), _) => {
            full(hashes.len(), "hash", HASHES_MAX)?;
            hashes.push(hash);
        }
        (None, Some(used)) => {
            full(used.len(), "hash-used", HASHES_MAX)?;
            used.push(algorithm_name(child)?.into());
        }
        (None, None) => {}
    }
    Ok(())
}

fn read_range(element: ElementRef<'_>) -> Result<FileRange, PeerError> {
    let offset = match element.attribute("offset") {
        Some(text) => number(text, "offset")?,
        None => 0,
    };
    let length = element
        .attribute("length")
        .map(|text| number(text, "length"));
    let mut range = FileRange {
        offset,
        length: length.transpose()?,
        hashes: Vec::new(),
    };
    if range
        .length
        .is_some_and(|length| offset.checked_add(length).is_none())
    {
        return Err(malformed("range", "its end is not a number of 64 bits"));
    }
    for child in element
        .children()
        .filter(|child| child.namespace() == HASHES)
    {
        read_hash(child, &mut range.hashes, None)?;
    }
    Ok(range)
}

fn write_range(range: &FileRange) -> Element {
    let offset = Some(range.offset).filter(|&offset| offset > 0);
    Element::new(FILE_TRANSFER, "range")
        .with_opt("offset", offset)
        .with_opt("length", range.length)
        .children_from(range.hashes.iter().map(Hash::to_element))
}

fn check_range(file: &File) -> Result<(), PeerError> {
    let (Some(size), Some(range)) = (file.size, &file.range) else {
        return Ok(());
    };
    if range.offset > size || range.end().is_some_and(|end| end > size) {
        return Err(malformed("range", "beyond the size"));
    }
    Ok(())
}

fn read_text(element: ElementRef<'_>) -> Result<FileText, PeerError> {
    let text = element.text_content();
    let language = element.attribute_ns(XML, "lang");
    if text.len() > TEXT_BYTES || language.is_some_and(|l| l.len() > NAME_BYTES) {
        return Err(malformed("desc", "too long"));
    }
    Ok(FileText {
        language: language.map(Into::into),
        text: text.as_ref().into(),
    })
}

fn read_thumbnail(element: ElementRef<'_>) -> Result<Thumbnail, PeerError> {
    let text = |field: &'static str| match element.attribute(field) {
        Some(value) if value.len() > NAME_BYTES => Err(malformed("thumbnail", "too long")),
        value => Ok(value.map(Arc::<str>::from)),
    };
    let pixels = |field: &'static str| match element.attribute(field) {
        Some(value) => match value.trim().parse::<u16>() {
            Ok(pixels) => Ok(Some(pixels)),
            Err(_) => Err(malformed(field, "not a number of 16 bits")),
        },
        None => Ok(None),
    };
    Ok(Thumbnail {
        uri: text("uri")?.ok_or_else(|| malformed("uri", "missing"))?,
        media_type: text("media-type")?,
        width: pixels("width")?,
        height: pixels("height")?,
    })
}

fn write_thumbnail(thumbnail: &Thumbnail) -> Element {
    Element::new(THUMBNAILS, "thumbnail")
        .with("uri", &thumbnail.uri)
        .with_opt("media-type", thumbnail.media_type.as_ref())
        .with_opt("width", thumbnail.width)
        .with_opt("height", thumbnail.height)
}

/// A text of moderate length; an empty one says nothing.
fn short(element: ElementRef<'_>, field: &'static str) -> Result<Option<Arc<str>>, PeerError> {
    let text = element.text_content();
    match text.len() {
        0 => Ok(None),
        length if length > NAME_BYTES => Err(malformed(field, "too long")),
        _ => Ok(Some(text.as_ref().into())),
    }
}

/// Digits and nothing else, but for blanks around them.
fn number(text: &str, field: &'static str) -> Result<u64, PeerError> {
    let digits = text.trim();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(malformed(field, "not a number"));
    }
    digits
        .parse()
        .map_err(|_| malformed(field, "not a number of 64 bits"))
}

fn full(count: usize, limit: &'static str, max: usize) -> Result<(), PeerError> {
    if count >= max {
        return Err(PeerError::TooMany { limit, max });
    }
    Ok(())
}

fn malformed(field: &'static str, problem: &'static str) -> PeerError {
    PeerError::Malformed { field, problem }
}
