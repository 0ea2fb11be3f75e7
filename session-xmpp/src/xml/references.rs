//! References, line ends and white space in attribute values.

use super::characters::is_character;
use super::error::{XmlError, XmlErrorKind};

/// The character that a reference stands for; `body` is what is between `&` and `;`.
pub(super) fn resolve(body: &str) -> Result<char, XmlErrorKind> {
    match body {
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "amp" => Ok('&'),
        "apos" => Ok('\''),
        "quot" => Ok('"'),
        _ => match body.strip_prefix('#') {
            Some(number) => character(number).ok_or(XmlErrorKind::CharacterReference),
            None if super::characters::is_name(body) => Err(XmlErrorKind::Entity),
            None => Err(XmlErrorKind::Ampersand),
        },
    }
}

/// Appends an attribute's value as XML 1.0 §3.3.3 normalises it. `position` is where `raw` is, for errors.
pub(super) fn normalize_attribute(
    raw: &str,
    position: usize,
    out: &mut String,
) -> Result<(), XmlError> {
    let mut at = 0;
    while let Some(plain) = raw[at..].find(['&', '\t', '\n', '\r']) {
        let special = at + plain;
        out.push_str(&raw[at..special]);
        let rest = &raw[special..];
        if let Some(reference) = rest.strip_prefix('&') {
            let error = |kind| XmlError::new(kind, position + special);
            let end = reference
                .find(';')
                .ok_or_else(|| error(XmlErrorKind::Ampersand))?;
            out.push(resolve(&reference[..end]).map_err(error)?);
            at = special + 1 + end + 1;
        } else {
            out.push(' ');
            // A line end of two characters is one (XML 1.0 §2.11).
            at = special + if rest.starts_with("\r\n") { 2 } else { 1 };
        }
    }
    out.push_str(&raw[at..]);
    Ok(())
}

/// Appends text with its line ends as XML 1.0 §2.11 normalises them.
pub(super) fn normalize_line_ends(raw: &str, out: &mut String) {
    let mut rest = raw;
    while let Some((line, after)) = rest.split_once('\r') {
        out.push_str(line);
        out.push('\n');
        rest = after.strip_prefix('\n').unwrap_or(after);
    }
    out.push_str(rest);
}

/// The character with this number: decimal digits, or `x` and hexadecimal ones.
fn character(number: &str) -> Option<char> {
    let (digits, radix) = match number.strip_prefix('x') {
        Some(digits) => (digits, 16),
        None => (number, 10),
    };
    // `from_str_radix` would take a sign.
    if !digits.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(digits, radix)
        .ok()
        .and_then(char::from_u32)
        .filter(|&c| is_character(c))
}
