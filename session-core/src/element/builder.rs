//! From a codec's events to an element.

use std::ops::Range;
use std::sync::Arc;

use super::tree::{AttributeData, NO_NAMESPACE, NONE, NodeData, Span, Tree};
use super::{Element, ElementLimit, ElementLimits};

/// A namespace known to a [`TreeBuilder`]. Means nothing to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NamespaceId(u32);

impl NamespaceId {
    /// No namespace; known to every builder.
    pub const NONE: Self = Self(NO_NAMESPACE);
}

/// Why a [`TreeBuilder`] refused a call. After an error the builder is as before the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// A range that is not within the source, or divides a character.
    #[error("{start}..{end} is no part of the source")]
    Range {
        /// Where the range starts.
        start: usize,
        /// Where the range ends.
        end: usize,
    },
    /// A namespace of another builder.
    #[error("unknown namespace")]
    UnknownNamespace,
    /// An attribute, text or end outside of any element.
    #[error("no element is open")]
    NoElement,
    /// An element beside the root.
    #[error("a second root element")]
    SecondRoot,
    /// An attribute for an element that has content already.
    #[error("an attribute after content")]
    LateAttribute,
    /// Two attributes with one name and namespace in one element.
    #[error("an attribute given twice")]
    DuplicateAttribute,
    /// The end, while an element is open or before there was any.
    #[error("an unfinished element")]
    Unfinished,
    /// A limit was exceeded.
    #[error("too many {0}")]
    Limit(ElementLimit),
}

/// Builds an element from a codec's events, in document order.
///
/// The source is what the codec reads (its copy of the stanza); names and values are ranges of it, so that building
/// copies nothing. What cannot be found in the source as it is (a value with escapes) is given as text. Ranges are
/// checked when given, so that no element ever holds a bad one, and so are the limits.
///
/// ```
/// use session_core::{ElementLimits, NamespaceId, TreeBuilder};
/// let mut builder = TreeBuilder::new(String::from("<a b='c'>d</a>"), &ElementLimits::default())?;
/// builder.open(NamespaceId::NONE, 1..2)?;
/// builder.attribute(NamespaceId::NONE, 3..4, 6..7)?;
/// builder.text(9..10)?;
/// builder.close()?;
/// let element = builder.finish()?;
/// assert_eq!(element.attribute("b"), Some("c"));
/// assert_eq!(element.text_content(), "d");
/// # Ok::<(), session_core::TreeError>(())
/// ```
#[derive(Debug)]
pub struct TreeBuilder {
    tree: Tree,
    limits: ElementLimits,
    /// Length of the source; what follows it in the tree's text was appended.
    source: usize,
    elements: usize,
    /// The innermost open element; [`NONE`] before the root and after it.
    current: u32,
    /// How many child elements each open element has.
    children: Vec<usize>,
    /// Of the element opened last.
    attributes: AttributeState,
}

/// What has to be known of the attributes of the element opened last.
#[derive(Debug)]
struct AttributeState {
    allowed: bool,
    count: usize,
    last: u32,
    /// A bit for each hash of a name seen. Most elements have no two names with the same bit, and need no search.
    seen: u64,
}

impl TreeBuilder {
    /// A builder that takes names and values out of `source`.
    ///
    /// # Errors
    /// [`ElementLimit::Bytes`] if `source` is too long.
    pub fn new(source: String, limits: &ElementLimits) -> Result<Self, TreeError> {
        if source.len() > limits.bytes || source.len() >= NONE as usize / 4 {
            return Err(TreeError::Limit(ElementLimit::Bytes));
        }
        // Upper bounds for what is well-formed, so that building a typical stanza does not reallocate.
        let nodes = count(source.as_bytes(), b'<').min(limits.elements);
        let attributes = count(source.as_bytes(), b'=').min(limits.elements);
        Ok(Self {
            source: source.len(),
            tree: Tree::with_text(source, nodes, attributes),
            limits: *limits,
            elements: 0,
            current: NONE,
            children: Vec::with_capacity(limits.depth.min(16)),
            attributes: AttributeState {
                allowed: false,
                count: 0,
                last: NONE,
                seen: 0,
            },
        })
    }

    /// Makes a namespace known. The empty one is [`NamespaceId::NONE`].
    ///
    /// # Errors
    /// [`ElementLimit::Namespaces`] or [`ElementLimit::Bytes`].
    pub fn namespace(&mut self, namespace: &str) -> Result<NamespaceId, TreeError> {
        if let Some(known) = self.tree.find_namespace(namespace) {
            return Ok(NamespaceId(known));
        }
        self.check_namespaces()?;
        let span = self.append(namespace)?;
        Ok(NamespaceId(self.tree.add_namespace(span)))
    }

    /// Makes known the namespace that stands in the source at `range`.
    ///
    /// # Errors
    /// [`TreeError::Range`], [`ElementLimit::Namespaces`].
    pub fn namespace_at(&mut self, range: Range<usize>) -> Result<NamespaceId, TreeError> {
        let span = self.span(range)?;
        if let Some(known) = self.tree.find_namespace(self.tree.slice(span)) {
            return Ok(NamespaceId(known));
        }
        self.check_namespaces()?;
        Ok(NamespaceId(self.tree.add_namespace(span)))
    }

    /// The namespace itself; `None` if it is of another builder.
    pub fn namespace_name(&self, namespace: NamespaceId) -> Option<&str> {
        self.known(namespace)
            .ok()
            .map(|known| self.tree.namespace(known))
    }

    /// Begins an element, inside the one that is open.
    ///
    /// # Errors
    /// [`TreeError::Range`], [`TreeError::UnknownNamespace`], [`TreeError::SecondRoot`], and [`TreeError::Limit`] for
    /// depth, children and elements.
    pub fn open(&mut self, namespace: NamespaceId, name: Range<usize>) -> Result<(), TreeError> {
        let name = self.span(name)?;
        let namespace = self.known(namespace)?;
        if self.current == NONE && !self.tree.nodes.is_empty() {
            return Err(TreeError::SecondRoot);
        }
        if self.children.len() >= self.limits.depth {
            return Err(TreeError::Limit(ElementLimit::Depth));
        }
        if self.elements >= self.limits.elements {
            return Err(TreeError::Limit(ElementLimit::Elements));
        }
        if let Some(siblings) = self.children.last_mut() {
            if *siblings >= self.limits.children {
                return Err(TreeError::Limit(ElementLimit::Children));
            }
            *siblings += 1;
        }
        self.children.push(0);
        self.elements += 1;
        self.current = self
            .tree
            .link(self.current, NodeData::element(namespace, name));
        self.attributes = AttributeState {
            allowed: true,
            count: 0,
            last: NONE,
            seen: 0,
        };
        Ok(())
    }

    /// Adds an attribute to the element just opened.
    ///
    /// # Errors
    /// [`TreeError::Range`], [`TreeError::UnknownNamespace`], [`TreeError::NoElement`], [`TreeError::LateAttribute`],
    /// [`TreeError::DuplicateAttribute`], [`ElementLimit::Attributes`].
    #[inline]
    pub fn attribute(
        &mut self,
        namespace: NamespaceId,
        name: Range<usize>,
        value: Range<usize>,
    ) -> Result<(), TreeError> {
        let (name, bit) = self.check_attribute(namespace, name)?;
        let value = self.span(value)?;
        self.add_attribute(namespace, name, value, bit);
        Ok(())
    }

    /// As [`Self::attribute`], with a value that is not in the source as it is.
    ///
    /// # Errors
    /// Those of [`Self::attribute`], and [`ElementLimit::Bytes`].
    pub fn attribute_str(
        &mut self,
        namespace: NamespaceId,
        name: Range<usize>,
        value: &str,
    ) -> Result<(), TreeError> {
        let (name, bit) = self.check_attribute(namespace, name)?;
        let value = self.append(value)?;
        self.add_attribute(namespace, name, value, bit);
        Ok(())
    }

    /// Adds text to the element that is open. Texts in a row become one.
    ///
    /// # Errors
    /// [`TreeError::Range`], [`TreeError::NoElement`], [`ElementLimit::Bytes`].
    pub fn text(&mut self, range: Range<usize>) -> Result<(), TreeError> {
        let span = self.span(range.clone())?;
        self.check_open()?;
        if range.is_empty() {
            return Ok(());
        }
        self.attributes.allowed = false;
        let Some(last) = self.tree.last_text(self.current) else {
            self.tree.link(self.current, NodeData::text(span));
            return Ok(());
        };
        if self.tree.node(last).text.end == span.start {
            self.tree.nodes[last as usize].text.end = span.end;
            return Ok(());
        }
        self.check_appended(range.len() + self.cost_of_moving(last))?;
        let start = self.tree.move_to_end(last);
        self.tree.text.extend_from_within(range);
        self.set_text(last, start);
        Ok(())
    }

    /// As [`Self::text`], with text that is not in the source as it is.
    ///
    /// # Errors
    /// [`TreeError::NoElement`], [`ElementLimit::Bytes`].
    pub fn text_str(&mut self, text: &str) -> Result<(), TreeError> {
        self.check_open()?;
        if text.is_empty() {
            return Ok(());
        }
        self.attributes.allowed = false;
        let moved = self
            .tree
            .last_text(self.current)
            .map_or(0, |last| self.cost_of_moving(last));
        self.check_appended(text.len() + moved)?;
        self.tree.push_text(self.current, text);
        Ok(())
    }

    /// Ends the element opened last.
    ///
    /// # Errors
    /// [`TreeError::NoElement`].
    pub fn close(&mut self) -> Result<(), TreeError> {
        self.check_open()?;
        self.attributes.allowed = false;
        self.children.pop();
        self.current = self.tree.node(self.current).parent;
        Ok(())
    }

    /// How many elements are open.
    pub fn depth(&self) -> usize {
        self.children.len()
    }

    /// The element.
    ///
    /// # Errors
    /// [`TreeError::Unfinished`].
    pub fn finish(self) -> Result<Element, TreeError> {
        if self.current != NONE || self.tree.nodes.is_empty() {
            return Err(TreeError::Unfinished);
        }
        Ok(Element {
            tree: Arc::new(self.tree),
            root: 0,
        })
    }

    #[inline]
    fn check_open(&self) -> Result<(), TreeError> {
        if self.current == NONE {
            Err(TreeError::NoElement)
        } else {
            Ok(())
        }
    }

    fn check_namespaces(&self) -> Result<(), TreeError> {
        // The empty one is known from the beginning and does not count.
        if self.tree.namespace_count() > self.limits.namespaces {
            return Err(TreeError::Limit(ElementLimit::Namespaces));
        }
        Ok(())
    }

    /// The name of an attribute that may be added, and its bit in [`AttributeState::seen`].
    #[inline]
    fn check_attribute(
        &self,
        namespace: NamespaceId,
        name: Range<usize>,
    ) -> Result<(Span, u64), TreeError> {
        self.check_open()?;
        let name = self.span(name)?;
        let namespace = self.known(namespace)?;
        if !self.attributes.allowed {
            return Err(TreeError::LateAttribute);
        }
        if self.attributes.count >= self.limits.attributes {
            return Err(TreeError::Limit(ElementLimit::Attributes));
        }
        let bit = self.bit(name);
        if self.attributes.seen & bit != 0 && self.has_attribute(namespace, name) {
            return Err(TreeError::DuplicateAttribute);
        }
        Ok((name, bit))
    }

    #[inline]
    fn add_attribute(&mut self, namespace: NamespaceId, name: Span, value: Span, bit: u64) {
        self.attributes.seen |= bit;
        self.attributes.count += 1;
        let namespace = namespace.0;
        let data = AttributeData {
            namespace,
            name,
            value,
            next: NONE,
        };
        let last = self.attributes.last;
        self.attributes.last = self.tree.link_attribute(self.current, last, data);
    }

    /// The bit of a name in [`AttributeState::seen`].
    #[inline]
    fn bit(&self, name: Span) -> u64 {
        let name = &self.tree.text.as_bytes()[name.start as usize..name.end as usize];
        let first = name.first().copied().unwrap_or_default();
        let last = name.last().copied().unwrap_or_default();
        let hash = usize::from(first) * 5 + usize::from(last) * 3 + name.len();
        1 << (hash % 64)
    }

    fn has_attribute(&self, namespace: u32, name: Span) -> bool {
        let name = self.tree.slice(name);
        let mut at = self.tree.node(self.current).first_attribute;
        while at != NONE {
            let attribute = self.tree.attribute(at);
            if attribute.namespace == namespace && self.tree.slice(attribute.name) == name {
                return true;
            }
            at = attribute.next;
        }
        false
    }

    #[inline]
    fn known(&self, namespace: NamespaceId) -> Result<u32, TreeError> {
        if (namespace.0 as usize) < self.tree.namespace_count() {
            Ok(namespace.0)
        } else {
            Err(TreeError::UnknownNamespace)
        }
    }

    /// A range of the source, checked.
    #[inline]
    fn span(&self, range: Range<usize>) -> Result<Span, TreeError> {
        let Range { start, end } = range;
        if end > self.source || self.tree.text.get(start..end).is_none() {
            return Err(TreeError::Range { start, end });
        }
        // The source is shorter than NONE.
        Ok(Span {
            start: start as u32,
            end: end as u32,
        })
    }

    fn append(&mut self, text: &str) -> Result<Span, TreeError> {
        self.check_appended(text.len())?;
        Ok(self.tree.append(text))
    }

    fn check_appended(&self, more: usize) -> Result<(), TreeError> {
        let appended = self.tree.text.len() - self.source;
        // A text can be appended once more when it is moved; see `move_to_end`.
        let limit = self.limits.bytes.saturating_mul(2).min(NONE as usize / 2);
        if more > limit || appended > limit - more {
            return Err(TreeError::Limit(ElementLimit::Bytes));
        }
        Ok(())
    }

    fn cost_of_moving(&self, text: u32) -> usize {
        let span = self.tree.node(text).text;
        if span.end as usize == self.tree.text.len() {
            0
        } else {
            (span.end - span.start) as usize
        }
    }

    fn set_text(&mut self, node: u32, start: u32) {
        // Bounded by `check_appended`.
        let end = self.tree.text.len() as u32;
        self.tree.nodes[node as usize].text = Span { start, end };
    }
}

/// How often a byte occurs. In blocks whose count fits a byte, since the compiler turns that into vector instructions.
fn count(bytes: &[u8], byte: u8) -> usize {
    let in_block = |block: &[u8]| block.iter().map(|&b| u8::from(b == byte)).sum::<u8>();
    bytes
        .chunks(192)
        .map(|block| usize::from(in_block(block)))
        .sum()
}
