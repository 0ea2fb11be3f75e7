//! How large an element from a peer may be.

use std::fmt;

/// Bounds on one element with all its content, which a [`TreeBuilder`](super::TreeBuilder) enforces. All are inclusive.
///
/// They bound memory and time: a tree needs 32 bytes per element and per run of text, 24 per attribute, and at most three
/// times [`Self::bytes`] for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElementLimits {
    /// Levels of elements; an element without children has one.
    pub depth: usize,
    /// Child elements of one element.
    pub children: usize,
    /// Attributes of one element.
    pub attributes: usize,
    /// Elements in all.
    pub elements: usize,
    /// Different namespaces in all; for a codec also declarations of namespaces that apply at one place.
    pub namespaces: usize,
    /// Bytes of the source. What is not taken from the source as it is (because of escapes) may need twice as many
    /// again.
    pub bytes: usize,
}

impl ElementLimits {
    /// Default for [`Self::depth`]. The deepest stanzas in use have about 12 levels.
    pub const DEPTH: usize = 64;
    /// Default for [`Self::children`]. A roster or a list of services has some hundreds, sometimes thousands.
    pub const CHILDREN: usize = 4_096;
    /// Default for [`Self::attributes`]. The richest element in use, an ICE candidate, has 14.
    pub const ATTRIBUTES: usize = 64;
    /// Default for [`Self::elements`]. Twice the children, since each child of a long list has at least one of its own.
    pub const ELEMENTS: usize = 8_192;
    /// Default for [`Self::namespaces`]. Names are compared with all of them, so this bounds the time for one name.
    pub const NAMESPACES: usize = 64;
    /// Default for [`Self::bytes`]: what common servers accept from their clients.
    pub const BYTES: usize = 256 * 1024;
    /// The least value for [`Self::bytes`] with which an entity conforms to RFC 6120 §13.12.
    pub const BYTES_MINIMUM: usize = 10_000;
}

impl Default for ElementLimits {
    fn default() -> Self {
        Self {
            depth: Self::DEPTH,
            children: Self::CHILDREN,
            attributes: Self::ATTRIBUTES,
            elements: Self::ELEMENTS,
            namespaces: Self::NAMESPACES,
            bytes: Self::BYTES,
        }
    }
}

/// Which of the [`ElementLimits`] was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElementLimit {
    /// [`ElementLimits::depth`].
    Depth,
    /// [`ElementLimits::children`].
    Children,
    /// [`ElementLimits::attributes`].
    Attributes,
    /// [`ElementLimits::elements`].
    Elements,
    /// [`ElementLimits::namespaces`].
    Namespaces,
    /// [`ElementLimits::bytes`].
    Bytes,
}

impl fmt::Display for ElementLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Depth => "depth",
            Self::Children => "children of one element",
            Self::Attributes => "attributes of one element",
            Self::Elements => "elements",
            Self::Namespaces => "namespaces",
            Self::Bytes => "bytes",
        })
    }
}
