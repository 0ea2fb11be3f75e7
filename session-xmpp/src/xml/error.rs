//! What can be wrong with XML.

use session_core::ElementLimit;

/// Why bytes are not the XML that XMPP allows. Every such error ends a stream (RFC 6120 §4.9.1.1), with the stream
/// error that [`XmlError::condition`] names; but a stanza that is too much can be skipped
/// ([`Splitter::next_part`](crate::splitter::Splitter::next_part)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} at byte {position}")]
pub struct XmlError {
    /// What is wrong.
    pub kind: XmlErrorKind,
    /// Where: bytes since the start of the slice, or, in errors of a [`Splitter`](crate::splitter::Splitter), since the
    /// start of the stream.
    pub position: u64,
}

impl XmlError {
    pub(crate) fn new(kind: XmlErrorKind, position: usize) -> Self {
        Self {
            kind,
            position: position as u64,
        }
    }

    /// The error as seen from a point `offset` bytes before the slice it was found in.
    #[must_use]
    pub fn offset_by(self, offset: u64) -> Self {
        Self {
            position: self.position.saturating_add(offset),
            ..self
        }
    }

    /// The name of the stream error that answers this: `restricted-xml`, `unsupported-encoding`, `policy-violation` or
    /// `not-well-formed` (RFC 6120 §4.9.3).
    pub fn condition(&self) -> &'static str {
        self.kind.condition()
    }
}

/// What is wrong with bytes that should be XML.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum XmlErrorKind {
    /// A comment, which RFC 6120 §11.1 forbids.
    #[error("comment")]
    Comment,
    /// A processing instruction, which RFC 6120 §11.1 forbids.
    #[error("processing instruction")]
    ProcessingInstruction,
    /// A document type declaration, which RFC 6120 §11.1 forbids.
    #[error("document type declaration")]
    Doctype,
    /// A reference to an entity other than `lt`, `gt`, `amp`, `apos` and `quot` (RFC 6120 §11.1).
    #[error("reference to an entity that is not predefined")]
    Entity,
    /// Bytes that are not UTF-8 (RFC 6120 §11.6).
    #[error("bytes that are not UTF-8")]
    Utf8,
    /// A declaration of an encoding other than UTF-8 (RFC 6120 §11.6).
    #[error("declared encoding other than UTF-8")]
    Encoding,
    /// More than the limits allow.
    #[error("limit exceeded: {0}")]
    Limit(ElementLimit),
    /// A character that XML 1.0 §2.2 does not allow.
    #[error("forbidden character {0:?}")]
    Character(char),
    /// A character reference that names no character allowed by XML 1.0 §2.2, or is malformed.
    #[error("bad character reference")]
    CharacterReference,
    /// An `&` that begins no reference.
    #[error("stray '&'")]
    Ampersand,
    /// A `<` within a tag or an attribute's value.
    #[error("stray '<'")]
    LessThan,
    /// `]]>` in text (XML 1.0 §2.4).
    #[error("']]>' in text")]
    CDataEnd,
    /// No name, or one that Namespaces in XML 1.0 §4 does not allow, where an element's or attribute's name should be.
    #[error("bad name")]
    Name,
    /// A tag that does not follow the grammar of XML 1.0 §3.1: no space between attributes, no `=`, no quotes.
    #[error("malformed tag")]
    Tag,
    /// An end tag that is not that of the element which is open.
    #[error("end tag without its start tag")]
    EndTag,
    /// `<!` that begins nothing known.
    #[error("unknown markup")]
    Markup,
    /// An XML declaration that is malformed, of another version than 1.0, or not at the very beginning of a stream.
    #[error("bad XML declaration")]
    Declaration,
    /// Two attributes of an element that are the same, perhaps by way of two prefixes, or two declarations of a prefix.
    #[error("attribute given twice")]
    DuplicateAttribute,
    /// A prefix that is not declared.
    #[error("undeclared namespace prefix")]
    UndeclaredPrefix,
    /// A prefix declared with the empty namespace (Namespaces in XML 1.0 §2.2).
    #[error("prefix bound to no namespace")]
    UnboundPrefix,
    /// A declaration that binds `xml` or `xmlns`, or their namespaces, otherwise than they are (Namespaces in XML 1.0 §3).
    #[error("reserved prefix or namespace declared")]
    ReservedNamespace,
    /// Text outside of the element, or between stanzas.
    #[error("text outside of any element")]
    TextOutside,
    /// A second element where one is expected, or one after the end of the stream.
    #[error("element after the end")]
    SecondRoot,
    /// The input ends within the element, or has none.
    #[error("incomplete element")]
    Incomplete,
}

impl XmlErrorKind {
    /// See [`XmlError::condition`].
    pub fn condition(self) -> &'static str {
        match self {
            Self::Comment | Self::ProcessingInstruction | Self::Doctype | Self::Entity => {
                "restricted-xml"
            }
            Self::Utf8 | Self::Encoding => "unsupported-encoding",
            Self::Limit(_) => "policy-violation",
            Self::Character(_)
            | Self::CharacterReference
            | Self::Ampersand
            | Self::LessThan
            | Self::CDataEnd
            | Self::Name
            | Self::Tag
            | Self::EndTag
            | Self::Markup
            | Self::Declaration
            | Self::DuplicateAttribute
            | Self::UndeclaredPrefix
            | Self::UnboundPrefix
            | Self::ReservedNamespace
            | Self::TextOutside
            | Self::SecondRoot
            | Self::Incomplete => "not-well-formed",
        }
    }
}

/// Why an element cannot be written as XML.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The name of an element or attribute that is no name in XML, or `xmlns`, which is no attribute.
    #[error("{0:?} is not a name in XML")]
    Name(String),
    /// A character that XML 1.0 §2.2 cannot carry, not even escaped, in text or in an attribute's value.
    #[error("{0:?} cannot be written in XML")]
    Character(char),
    /// An attribute, of this name, for an element that has content already, or for none.
    #[error("attribute {0:?} is not in a start tag")]
    LateAttribute(String),
    /// A name in the namespace of namespace declarations, or a context that binds a reserved namespace or prefix.
    #[error("{0:?} is a reserved namespace or prefix")]
    Namespace(String),
}
