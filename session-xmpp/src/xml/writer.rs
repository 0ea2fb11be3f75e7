//! An element to bytes.

use std::fmt::{self, Display, Write as _};

use session_core::ElementRef;
use session_core::element::{Attribute, Step};

use super::characters::{is_character, is_name};
use super::context::Context;
use super::error::WriteError;
use super::{NS_XML, NS_XMLNS};

/// What begins each prefix that is made here, for attributes in a namespace.
const GENERATED: &str = "ns";

/// How many open elements a [`Writer`] tracks without allocating.
const INLINE: usize = 16;

/// Writes XML in document order: `open`, attributes, content, `close`.
///
/// Escapes, declares namespaces where they change, and never writes what is not well-formed: the first thing that XML
/// cannot carry is remembered, [`Writer::finish`] reports it, and nothing is left in the output. An attribute must come
/// after an `open` or another attribute; elsewhere it is an error too.
///
/// ```
/// use session_xmpp::xml::{Context, Writer};
/// let mut out = Vec::new();
/// let mut writer = Writer::new(&Context::CLIENT, &mut out);
/// writer.open("jabber:client", "iq").attribute("type", "set");
/// writer.open("urn:xmpp:jingle:1", "jingle").number("n", 5_u32).text("<").close();
/// writer.close();
/// writer.finish()?;
/// assert_eq!(out, b"<iq type='set'><jingle xmlns='urn:xmpp:jingle:1' n='5'>&lt;</jingle></iq>");
/// # Ok::<(), session_xmpp::xml::WriteError>(())
/// ```
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut Vec<u8>,
    context: &'a Context,
    /// How long the output was at the beginning.
    start: usize,
    open: Stack<'a>,
    /// Whether the last tag still lacks its `>`.
    in_tag: bool,
    error: Option<WriteError>,
}

/// An element that is open.
#[derive(Debug, Clone, Copy, Default)]
struct Open<'a> {
    prefix: &'a str,
    name: &'a str,
    /// The default namespace within the element.
    default: &'a str,
}

impl<'a> Writer<'a> {
    /// A writer that appends to `out` what is to stand in `context`.
    pub fn new(context: &'a Context, out: &'a mut Vec<u8>) -> Self {
        let start = out.len();
        Self {
            out,
            context,
            start,
            open: Stack::default(),
            in_tag: false,
            error: None,
        }
    }

    /// Begins an element. Within its parent's namespace, give that of the parent.
    pub fn open(&mut self, namespace: &'a str, name: &'a str) -> &mut Self {
        self.end_tag();
        let default = self.default_namespace();
        let (prefix, default) = self.start_tag(namespace, name, default);
        self.open.push(Open {
            prefix,
            name,
            default,
        });
        self
    }

    /// Adds an attribute to the element just begun. Giving one twice is the caller's error, and not noticed.
    pub fn attribute(&mut self, key: &str, value: &str) -> &mut Self {
        self.key(key);
        self.attribute_value(value);
        self.out.push(b'\'');
        self
    }

    /// Adds an attribute if there is a value for it.
    pub fn attribute_opt(&mut self, key: &str, value: Option<&str>) -> &mut Self {
        match value {
            Some(value) => self.attribute(key, value),
            None => self,
        }
    }

    /// Adds an attribute of anything that can be displayed.
    pub fn display(&mut self, key: &str, value: impl Display) -> &mut Self {
        self.key(key);
        // The adapter does not fail. A Display that reports an error of its own has its output cut there.
        let _ = write!(AttributeValue(self), "{value}");
        self.out.push(b'\'');
        self
    }

    /// Adds an attribute that is a number; as [`Self::display`], but faster.
    pub fn number(&mut self, key: &str, value: impl Into<u64>) -> &mut Self {
        self.key(key);
        push_number(value.into(), self.out);
        self.out.push(b'\'');
        self
    }

    /// Adds `xml:lang` (RFC 6120 §8.1.5).
    pub fn lang(&mut self, value: &str) -> &mut Self {
        self.attribute_in("xml", "lang", value);
        self
    }

    /// Adds text.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.end_tag();
        escape::<false>(text, self.out, &mut self.error);
        self
    }

    /// Adds a whole element.
    pub fn element(&mut self, element: ElementRef<'_>) -> &mut Self {
        self.end_tag();
        let outer = self.default_namespace();
        let mut walk = element.walk();
        loop {
            // The default namespace that the next step stands in: that of the innermost element without prefix.
            let open = walk.open_elements().map(ElementRef::namespace);
            let mut unprefixed = open.filter(|namespace| self.prefix_of(namespace).is_none());
            let default = unprefixed.next().unwrap_or(outer);
            let Some(step) = walk.next() else { break };
            match step {
                Step::Open(element) => {
                    self.end_tag();
                    self.start_tag(element.namespace(), element.name(), default);
                    self.attributes(element);
                }
                Step::Text(text) => {
                    self.text(text);
                }
                Step::Close(element) => {
                    // As in the start tag: an element has a prefix if it does not set the default within.
                    let inherited = element.namespace() == default;
                    let prefix = if inherited {
                        None
                    } else {
                        self.prefix_of(element.namespace())
                    };
                    self.close_tag(prefix.unwrap_or_default(), element.name());
                }
            }
        }
        self
    }

    /// Ends the element begun last. Without one, nothing happens.
    pub fn close(&mut self) -> &mut Self {
        if let Some(open) = self.open.pop() {
            self.close_tag(open.prefix, open.name);
        }
        self
    }

    /// Ends all elements that are open.
    ///
    /// # Errors
    /// The first thing that could not be written. The output is then as it was when the writer was made.
    pub fn finish(mut self) -> Result<(), WriteError> {
        while !self.open.is_empty() {
            self.close();
        }
        match self.error.take() {
            Some(error) => {
                self.out.truncate(self.start);
                Err(error)
            }
            None => Ok(()),
        }
    }
}

/// The stream header; see [`super::write_header`].
pub(super) fn write_header(
    header: ElementRef<'_>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let mut writer = Writer::new(context, out);
    writer.out.extend_from_slice(b"<?xml version='1.0'?>");
    let prefix = match writer.prefix_of(header.namespace()) {
        None if header.namespace() == context.default_namespace() => "",
        Some(prefix) => prefix,
        None => return Err(WriteError::Namespace(header.namespace().to_owned())),
    };
    writer.start_name(prefix, header.name());
    if !context.default_namespace().is_empty() {
        writer.declaration("", context.default_namespace());
    }
    for (prefix, namespace) in context.prefixes() {
        if !is_name(prefix) {
            writer.fail(|| WriteError::Name(prefix.to_owned()));
        }
        if namespace.is_empty() || namespace == NS_XML || matches!(prefix, "xml" | "xmlns") {
            writer.fail(|| WriteError::Namespace(prefix.to_owned()));
        }
        writer.declaration(prefix, namespace);
    }
    writer.attributes(header);
    writer.end_tag();
    writer.finish()
}

impl<'a> Writer<'a> {
    fn default_namespace(&self) -> &'a str {
        self.open
            .last()
            .map_or_else(|| self.context.default_namespace(), |open| open.default)
    }

    /// The prefix that names in `namespace` are written with.
    fn prefix_of(&self, namespace: &str) -> Option<&'a str> {
        if namespace == NS_XML {
            return Some("xml");
        }
        // A prefix like those made here could be hidden by one of them.
        self.context
            .prefix_of(namespace)
            .filter(|prefix| !prefix.starts_with(GENERATED))
    }

    /// `<`, the name, and the declaration of its namespace if needed. Gives the prefix used, and the default namespace
    /// within.
    fn start_tag<'n>(
        &mut self,
        namespace: &'n str,
        name: &str,
        default: &'n str,
    ) -> (&'a str, &'n str) {
        let prefix = if namespace == default {
            None
        } else {
            self.prefix_of(namespace)
        };
        self.start_name(prefix.unwrap_or_default(), name);
        match prefix {
            Some(prefix) => return (prefix, default),
            None if namespace == default => {}
            None => self.declaration("", namespace),
        }
        ("", namespace)
    }

    fn start_name(&mut self, prefix: &str, name: &str) {
        self.out.push(b'<');
        self.name(prefix, name);
        self.in_tag = true;
    }

    fn close_tag(&mut self, prefix: &str, name: &str) {
        if self.in_tag {
            self.out.extend_from_slice(b"/>");
            self.in_tag = false;
        } else {
            self.out.extend_from_slice(b"</");
            self.name(prefix, name);
            self.out.push(b'>');
        }
    }

    /// Ends a start tag whose element has content.
    fn end_tag(&mut self) {
        if self.in_tag {
            self.out.push(b'>');
            self.in_tag = false;
        }
    }

    fn name(&mut self, prefix: &str, name: &str) {
        if !is_name(name) {
            self.fail(|| WriteError::Name(name.to_owned()));
        }
        if !prefix.is_empty() {
            self.out.extend_from_slice(prefix.as_bytes());
            self.out.push(b':');
        }
        self.out.extend_from_slice(name.as_bytes());
    }

    /// `xmlns='…'`, or `xmlns:prefix='…'`.
    fn declaration(&mut self, prefix: &str, namespace: &str) {
        if namespace == NS_XMLNS {
            self.fail(|| WriteError::Namespace(namespace.to_owned()));
        }
        self.out.extend_from_slice(b" xmlns");
        if !prefix.is_empty() {
            self.out.push(b':');
            self.out.extend_from_slice(prefix.as_bytes());
        }
        self.out.extend_from_slice(b"='");
        self.attribute_value(namespace);
        self.out.push(b'\'');
    }

    /// All attributes of an element, with prefixes for those in a namespace.
    fn attributes(&mut self, element: ElementRef<'_>) {
        for (index, attribute) in element.attributes().enumerate() {
            match attribute.namespace {
                "" => {
                    self.attribute(attribute.name, attribute.value);
                }
                NS_XML => self.attribute_in("xml", attribute.name, attribute.value),
                _ => self.attribute_with_prefix(element, index, attribute),
            }
        }
    }

    /// Attributes of one namespace share a prefix, which is numbered after the first of them.
    fn attribute_with_prefix(
        &mut self,
        element: ElementRef<'_>,
        index: usize,
        attribute: Attribute<'_>,
    ) {
        let mut namespaces = element.attributes().map(|other| other.namespace);
        let first = namespaces
            .position(|ns| ns == attribute.namespace)
            .unwrap_or(index);
        let mut prefix = Prefix::default();
        // A fixed buffer, which holds the stem and 20 digits.
        let _ = write!(prefix, "{GENERATED}{first}");
        if first == index {
            self.declaration(prefix.as_str(), attribute.namespace);
        }
        self.attribute_in(prefix.as_str(), attribute.name, attribute.value);
    }

    fn attribute_in(&mut self, prefix: &str, name: &str, value: &str) {
        self.check_in_tag(name);
        self.out.push(b' ');
        self.name(prefix, name);
        self.out.extend_from_slice(b"='");
        self.attribute_value(value);
        self.out.push(b'\'');
    }

    /// ` key='`.
    fn key(&mut self, key: &str) {
        self.check_in_tag(key);
        if key == "xmlns" {
            self.fail(|| WriteError::Name(key.to_owned()));
        }
        self.out.push(b' ');
        self.name("", key);
        self.out.extend_from_slice(b"='");
    }

    fn attribute_value(&mut self, value: &str) {
        escape::<true>(value, self.out, &mut self.error);
    }

    fn check_in_tag(&mut self, key: &str) {
        if !self.in_tag {
            self.fail(|| WriteError::LateAttribute(key.to_owned()));
        }
    }

    fn fail(&mut self, error: impl FnOnce() -> WriteError) {
        self.error.get_or_insert_with(error);
    }
}

/// Escapes what is displayed.
struct AttributeValue<'w, 'a>(&'w mut Writer<'a>);

impl fmt::Write for AttributeValue<'_, '_> {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        self.0.attribute_value(part);
        Ok(())
    }
}

/// For text, or for the value of an attribute in single quotes: what a byte is replaced by. `None`: the byte may begin a
/// character that is not allowed.
const fn replacement(byte: u8, attribute: bool) -> Option<&'static str> {
    match byte {
        b'<' => Some("&lt;"),
        b'>' => Some("&gt;"),
        b'&' => Some("&amp;"),
        b'\r' => Some("&#13;"),
        b'\'' if attribute => Some("&apos;"),
        b'\t' if attribute => Some("&#9;"),
        b'\n' if attribute => Some("&#10;"),
        _ => None,
    }
}

/// For text `[0]` and attributes `[1]`: the bytes that need attention.
const SPECIAL: [[bool; 256]; 2] = {
    let mut special = [[false; 256]; 2];
    let mut byte = 0;
    while byte < 256 {
        // 0xef begins U+FFFE and U+FFFF.
        let forbidden =
            (byte < 0x20 && !matches!(byte as u8, b'\t' | b'\n' | b'\r')) || byte == 0xef;
        special[0][byte] = forbidden || replacement(byte as u8, false).is_some();
        special[1][byte] = forbidden || replacement(byte as u8, true).is_some();
        byte += 1;
    }
    special
};

fn escape<const ATTRIBUTE: bool>(text: &str, out: &mut Vec<u8>, error: &mut Option<WriteError>) {
    let special = &SPECIAL[ATTRIBUTE as usize];
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if !special[byte as usize] {
            continue;
        }
        match replacement(byte, ATTRIBUTE) {
            Some(replacement) => {
                out.extend_from_slice(&bytes[done..at]);
                out.extend_from_slice(replacement.as_bytes());
                done = at + 1;
            }
            None => {
                let character = text.get(at..).and_then(|rest| rest.chars().next());
                if let Some(character) = character.filter(|&c| !is_character(c)) {
                    error.get_or_insert(WriteError::Character(character));
                }
            }
        }
    }
    out.extend_from_slice(&bytes[done..]);
}

/// Appends a number in decimal.
fn push_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// A short text that needs no allocation.
#[derive(Default)]
struct Prefix {
    bytes: [u8; GENERATED.len() + 20],
    len: usize,
}

impl Prefix {
    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.len]).unwrap_or_default()
    }
}

impl fmt::Write for Prefix {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let end = self.len + part.len();
        self.bytes
            .get_mut(self.len..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(part.as_bytes());
        self.len = end;
        Ok(())
    }
}

/// The elements that are open: the first ones in place, the others on the heap.
#[derive(Debug, Default)]
struct Stack<'a> {
    inline: [Open<'a>; INLINE],
    len: usize,
    spilled: Vec<Open<'a>>,
}

impl<'a> Stack<'a> {
    fn push(&mut self, open: Open<'a>) {
        match self.inline.get_mut(self.len) {
            Some(slot) => *slot = open,
            None => self.spilled.push(open),
        }
        self.len += 1;
    }

    fn pop(&mut self) -> Option<Open<'a>> {
        let last = *self.last()?;
        self.len -= 1;
        self.spilled.pop();
        Some(last)
    }

    fn last(&self) -> Option<&Open<'a>> {
        self.spilled
            .last()
            .or_else(|| self.inline.get(self.len.checked_sub(1)?))
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }
}
