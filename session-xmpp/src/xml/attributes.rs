//! The attributes of a tag, as they stand.

use std::ops::Range;

use session_core::{ElementLimit, ElementLimits};

use super::characters::{find_any, is_space, name_end};
use super::error::{XmlError, XmlErrorKind};

/// Where the parts of an attribute are in the input.
#[derive(Debug, Clone, Copy)]
pub(super) struct RawAttribute {
    /// Where the prefix starts, if there is one; else where the name starts.
    start: u32,
    /// Where the name starts.
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
    /// Whether the value has an `&`.
    pub(super) references: bool,
    /// Whether this declares a namespace.
    pub(super) declaration: bool,
}

impl RawAttribute {
    /// The prefix, the colon and the name.
    pub(super) fn qualified_name(&self) -> Range<usize> {
        self.start as usize..self.name_end as usize
    }

    /// The prefix; empty if there is none.
    pub(super) fn prefix(&self) -> Range<usize> {
        self.start as usize
            ..(self.name as usize)
                .saturating_sub(1)
                .max(self.start as usize)
    }

    pub(super) fn name(&self) -> Range<usize> {
        self.name as usize..self.name_end as usize
    }

    pub(super) fn value(&self) -> Range<usize> {
        self.value as usize..self.value_end as usize
    }
}

/// Reads the attributes in `range` of `input`, which is what follows the name in a tag, and appends them to `found`.
/// Strictly by the productions `STag` and `Attribute` of XML 1.0 §3.1; `input` is shorter than 4 GiB.
pub(super) fn scan(
    input: &str,
    range: Range<usize>,
    limits: &ElementLimits,
    found: &mut Vec<RawAttribute>,
) -> Result<(), XmlError> {
    // Cut off behind the tag, so that nothing here can look further.
    let input = input.get(..range.end).unwrap_or_default();
    let bytes = input.as_bytes();
    let mut at = range.start;
    loop {
        let space = at;
        at = skip_space(bytes, at);
        if at == bytes.len() {
            return Ok(());
        }
        if at == space {
            return Err(XmlError::new(XmlErrorKind::Tag, at));
        }
        if found.len() >= limits.attributes {
            return Err(XmlError::new(
                XmlErrorKind::Limit(ElementLimit::Attributes),
                at,
            ));
        }
        let start = at;
        let (name, name_end) = qualified_name(input, at)?;
        at = skip_space(bytes, name_end);
        if bytes.get(at) != Some(&b'=') {
            return Err(XmlError::new(XmlErrorKind::Tag, at));
        }
        at = skip_space(bytes, at + 1);
        let Some(&quote @ (b'\'' | b'"')) = bytes.get(at) else {
            return Err(XmlError::new(XmlErrorKind::Tag, at));
        };
        let value = at + 1;
        let (value_end, references) = end_of_value(bytes, value, quote)?;
        at = value_end + 1;
        found.push(RawAttribute {
            start: start as u32,
            name: name as u32,
            name_end: name_end as u32,
            value: value as u32,
            value_end: value_end as u32,
            references,
            declaration: is_declaration(&bytes[start..name_end]),
        });
    }
}

/// Where, in a name with or without prefix at `at`, the name proper starts, and where it ends.
#[inline]
pub(super) fn qualified_name(input: &str, at: usize) -> Result<(usize, usize), XmlError> {
    let part = |at: usize| match name_end(input, at) {
        end if end == at => Err(XmlError::new(XmlErrorKind::Name, at)),
        end => Ok(end),
    };
    let end = part(at)?;
    if input.as_bytes().get(end) == Some(&b':') {
        Ok((end + 1, part(end + 1)?))
    } else {
        Ok((at, end))
    }
}

fn is_declaration(qualified_name: &[u8]) -> bool {
    match qualified_name.strip_prefix(b"xmlns") {
        Some(rest) => rest.is_empty() || rest[0] == b':',
        None => false,
    }
}

fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|&byte| is_space(byte)) {
        at += 1;
    }
    at
}

/// Where the closing quote is, and whether there is an `&` before it.
fn end_of_value(bytes: &[u8], start: usize, quote: u8) -> Result<(usize, bool), XmlError> {
    let mut at = start;
    let mut references = false;
    while let Some(found) = find_any([quote, b'<', b'&'], &bytes[at..]) {
        at += found;
        match bytes[at] {
            b'<' => return Err(XmlError::new(XmlErrorKind::LessThan, at)),
            b'&' => references = true,
            _ => return Ok((at, references)),
        }
        at += 1;
    }
    Err(XmlError::new(XmlErrorKind::Tag, start))
}
