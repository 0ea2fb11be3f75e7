//! Elements in logs.

use std::fmt::{self, Write as _};

use super::iter::Step;
use super::{Element, ElementRef};

/// One line that looks like XML, for people. It is not the wire form: it need not be well-formed, and control
/// characters are shown as Rust escapes, so that a peer cannot forge lines of a log.
impl fmt::Display for ElementRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut walk = self.walk();
        let mut outer = None;
        while let Some(step) = walk.next() {
            match step {
                Step::Open(element) => write_open(element, outer, f)?,
                Step::Text(text) => write!(f, "{}", Printable(text))?,
                Step::Close(element) if element.is_empty() => {}
                Step::Close(element) => write!(f, "</{}>", Printable(element.name()))?,
            }
            outer = walk.open_elements().next();
        }
        Ok(())
    }
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for ElementRef<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One line that looks like XML, for people; see [`ElementRef`].
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.view(), f)
    }
}

/// As [`Display`](fmt::Display).
impl fmt::Debug for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.view(), f)
    }
}

fn write_open(
    element: ElementRef<'_>,
    outer: Option<ElementRef<'_>>,
    f: &mut fmt::Formatter<'_>,
) -> fmt::Result {
    write!(f, "<{}", Printable(element.name()))?;
    let namespace = element.namespace();
    if outer.map_or("", ElementRef::namespace) != namespace {
        write!(f, " xmlns='{}'", Printable(namespace))?;
    }
    for attribute in element.attributes() {
        f.write_char(' ')?;
        if !attribute.namespace.is_empty() {
            // James Clark's notation, since this form has no prefixes.
            write!(f, "{{{}}}", Printable(attribute.namespace))?;
        }
        write!(
            f,
            "{}='{}'",
            Printable(attribute.name),
            Printable(attribute.value)
        )?;
    }
    f.write_str(if element.is_empty() { "/>" } else { ">" })
}

/// Text with markup as entities and control characters as Rust escapes.
struct Printable<'a>(&'a str);

impl fmt::Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(|c: char| matches!(c, '<' | '&' | '\'') || c.is_control()) {
            let (plain, special) = rest.split_at(at);
            f.write_str(plain)?;
            let mut characters = special.chars();
            match characters.next() {
                Some('<') => f.write_str("&lt;")?,
                Some('&') => f.write_str("&amp;")?,
                Some('\'') => f.write_str("&apos;")?,
                Some(control) => write!(f, "{}", control.escape_default())?,
                None => {}
            }
            rest = characters.as_str();
        }
        f.write_str(rest)
    }
}
