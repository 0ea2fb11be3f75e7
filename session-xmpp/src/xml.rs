//! Bytes to [`Element`] and back, with the XML that RFC 6120 §11 allows and no other.
//!
//! [`parse`] takes one complete stanza, as the [splitter](crate::splitter) cuts it out of a stream; [`write()`] gives the
//! bytes of one. quick-xml tells where tags, text and references begin and end; everything that it is lenient about is
//! checked here: names, attributes, namespaces, characters, references, and what RFC 6120 §11.1 forbids. What is accepted
//! is namespace-well-formed XML 1.0 in UTF-8 (Fifth Edition), within [`ElementLimits`].
//!
//! ```
//! use session_core::ElementLimits;
//! use session_xmpp::xml::{self, Context};
//! let bytes = b"<iq type='get' id='1'><ping xmlns='urn:xmpp:ping'/></iq>";
//! let iq = xml::parse(bytes, &Context::CLIENT, &ElementLimits::default())?;
//! assert!(iq.is("jabber:client", "iq") && iq.find("urn:xmpp:ping", "ping").is_some());
//! let mut out = Vec::new();
//! xml::write(&iq, &Context::CLIENT, &mut out)?;
//! assert_eq!(out, bytes);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod attributes;
mod characters;
mod context;
mod declaration;
mod error;
mod reader;
mod references;
mod writer;

use session_core::{Element, ElementLimits, ElementRef};

pub(crate) use characters::{find_any, is_space};
pub use context::Context;
pub(crate) use declaration::check_declaration;
pub use error::{WriteError, XmlError, XmlErrorKind};
pub use writer::Writer;

/// The namespace of `xml:lang` and its kind, bound to the prefix `xml` everywhere (Namespaces in XML 1.0 §3).
pub const NS_XML: &str = "http://www.w3.org/XML/1998/namespace";

/// The namespace of namespace declarations, which no name may be in (Namespaces in XML 1.0 §3).
pub const NS_XMLNS: &str = "http://www.w3.org/2000/xmlns/";

/// The namespace of a stream's header, features and errors (RFC 6120 §4.8.1).
pub const NS_STREAMS: &str = "http://etherx.jabber.org/streams";

/// Reads one element, around which there may be nothing but white space.
///
/// `context` is what the element inherits from the stream that it came in; [`Context::NONE`] for bytes that stand alone.
///
/// # Errors
/// [`XmlError`], with the position in `bytes` and the stream error that answers it.
pub fn parse(bytes: &[u8], context: &Context, limits: &ElementLimits) -> Result<Element, XmlError> {
    reader::parse(bytes, context, limits)
}

/// Reads the start tag of a stream (or a complete element without content), and gives it as an element without content,
/// with the context in which the stream's stanzas stand.
///
/// # Errors
/// As [`parse`].
pub fn parse_header(bytes: &[u8], limits: &ElementLimits) -> Result<(Element, Context), XmlError> {
    reader::parse_header(bytes, limits)
}

/// Appends the bytes of an element that is to stand in `context`.
///
/// Namespaces are declared where they change. Apart from `out`, nothing is allocated.
///
/// # Errors
/// [`WriteError`] if the element holds what XML cannot carry; `out` is then as before.
pub fn write<'e>(
    element: impl Into<ElementRef<'e>>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    let mut writer = Writer::new(context, out);
    writer.element(element.into());
    writer.finish()
}

/// Appends an XML declaration and the start tag of a stream: the name and the attributes of `header`, and the
/// declarations that make `context` that of the stream.
///
/// # Errors
/// As [`write()`]; also if `context` binds what cannot be bound.
pub fn write_header<'e>(
    header: impl Into<ElementRef<'e>>,
    context: &Context,
    out: &mut Vec<u8>,
) -> Result<(), WriteError> {
    writer::write_header(header.into(), context, out)
}

#[cfg(test)]
mod tests;
