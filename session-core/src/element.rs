//! A namespaced tree as a value: what a stanza carries, without its syntax.
//!
//! [`Element`] has names, attributes, children and text; it knows nothing of angle brackets, prefixes or escapes. Bytes
//! become elements, and elements bytes, in the codec (crate `session-xmpp`).
//!
//! A tree lives in one arena: a text buffer (for a parsed stanza: the stanza itself), a vector of nodes and one of
//! attributes that point into it. Cloning an element and taking a part of it ([`ElementRef::to_element`]) share the
//! arena; changing an element copies it first if it is shared. No operation recurses, so no tree can exhaust the stack.
//!
//! ```
//! use session_core::Element;
//! let candidate = Element::new("urn:xmpp:jingle:transports:raw-udp:1", "candidate")
//!     .with("component", 1)
//!     .with("ip", "203.0.113.7")
//!     .with("port", 13_540);
//! let transport = Element::new("urn:xmpp:jingle:transports:raw-udp:1", "transport").child(candidate);
//! let port = transport.children().next().and_then(|candidate| candidate.attribute("port"));
//! assert_eq!(port, Some("13540"));
//! ```

mod builder;
mod format;
mod iter;
mod limits;
#[cfg(feature = "testing")]
pub mod strategy;
mod tree;

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;

pub use builder::{NamespaceId, TreeBuilder, TreeError};
pub use iter::{Attribute, Attributes, Children, Node, Nodes, OpenElements, Step, Walk};
pub use limits::{ElementLimit, ElementLimits};
use tree::{NONE, Tree};

/// Replaced text is dropped, by copying the rest, once it is more than this many bytes and more than half of all text.
const GARBAGE_KEPT: usize = 1024;

/// An element and all that is in it.
///
/// A value: clones are independent, though they share memory until one of them is changed. Two elements are equal when
/// namespace, name, attributes (in any order), and the sequence of children and text are equal.
///
/// Names and characters are taken as they come. The codec refuses to write what XML cannot carry (a name with a space,
/// a NUL in a text), with a typed error.
///
/// # Panics
/// The changing methods panic when one tree would exceed 4 GiB of text or 2³² nodes. What a peer can send is bounded
/// far below by [`ElementLimits`].
#[derive(Clone)]
pub struct Element {
    tree: Arc<Tree>,
    root: u32,
}

/// A borrowed element: a place in a tree. As cheap to copy as a reference.
#[derive(Clone, Copy)]
pub struct ElementRef<'a> {
    tree: &'a Arc<Tree>,
    node: u32,
}

/// Building.
impl Element {
    /// An element without attributes and content. An empty `namespace` means none.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            tree: Arc::new(Tree::with_root(namespace, name)),
            root: 0,
        }
    }

    /// Adds an attribute (without namespace), or replaces its value.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Display) -> Self {
        self.set_attribute(key, value);
        self
    }

    /// Adds an attribute if there is a value for it.
    #[must_use]
    pub fn with_opt(self, key: &str, value: Option<impl Display>) -> Self {
        match value {
            Some(value) => self.with(key, value),
            None => self,
        }
    }

    /// Adds an attribute in a namespace, or replaces its value: `xml:lang` is
    /// `with_ns("http://www.w3.org/XML/1998/namespace", "lang", "en")`.
    #[must_use]
    pub fn with_ns(mut self, namespace: &str, key: &str, value: impl Display) -> Self {
        self.set_attribute_ns(namespace, key, value);
        self
    }

    /// Appends a child.
    #[must_use]
    pub fn child(mut self, child: Self) -> Self {
        self.push(child);
        self
    }

    /// Appends each child of a sequence.
    #[must_use]
    pub fn children_from(mut self, children: impl IntoIterator<Item = Self>) -> Self {
        for child in children {
            self.push(child);
        }
        self
    }

    /// Appends text.
    #[must_use]
    pub fn text(mut self, text: &str) -> Self {
        self.push_text(text);
        self
    }

    /// Sets an attribute (without namespace), in its place if it is there already, else at the end.
    pub fn set_attribute(&mut self, key: &str, value: impl Display) {
        self.set_attribute_ns("", key, value);
    }

    /// Sets an attribute in a namespace, in its place if it is there already, else at the end.
    pub fn set_attribute_ns(&mut self, namespace: &str, key: &str, value: impl Display) {
        let root = self.root_for_writing();
        let tree = Arc::make_mut(&mut self.tree);
        tree.set_attribute(root, namespace, key, value);
        self.drop_garbage();
    }

    /// Appends a child. Its tree is copied into this one.
    pub fn push(&mut self, child: Self) {
        let root = self.root_for_writing();
        Arc::make_mut(&mut self.tree).graft(root, child.view());
    }

    /// Appends text; after text this lengthens it, since there are no two texts beside each other. An empty `text`
    /// changes nothing.
    pub fn push_text(&mut self, text: &str) {
        let root = self.root_for_writing();
        Arc::make_mut(&mut self.tree).push_text(root, text);
        self.drop_garbage();
    }

    /// A copy of this subtree alone, in memory of exactly its size.
    ///
    /// For what is kept for long: an element taken out of a stanza otherwise keeps the whole stanza alive.
    #[must_use]
    pub fn detach(&self) -> Self {
        self.view().detach()
    }

    /// The bytes on the heap that this element keeps alive, approximately; memory shared with others counts in full.
    pub fn heap_size(&self) -> usize {
        // The two counters of an Arc precede its value.
        self.tree.heap_size() + size_of::<Tree>() + 2 * size_of::<usize>()
    }

    /// Makes the root of the arena this element, since only then may the arena be changed, and gives its index.
    fn root_for_writing(&mut self) -> u32 {
        if self.root != 0 {
            *self = self.detach();
        }
        self.root
    }

    fn drop_garbage(&mut self) {
        let garbage = self.tree.garbage();
        if garbage > GARBAGE_KEPT && garbage > self.tree.text_len() / 2 {
            *self = self.detach();
        }
    }
}

/// Reading. Each method is that of [`ElementRef`].
impl Element {
    /// A borrowed view of this element.
    #[inline]
    pub fn view(&self) -> ElementRef<'_> {
        ElementRef {
            tree: &self.tree,
            node: self.root,
        }
    }

    /// The namespace; empty if there is none.
    #[inline]
    pub fn namespace(&self) -> &str {
        self.view().namespace()
    }

    /// The name, without prefix.
    #[inline]
    pub fn name(&self) -> &str {
        self.view().name()
    }

    /// Whether namespace and name are these.
    #[inline]
    pub fn is(&self, namespace: &str, name: &str) -> bool {
        self.view().is(namespace, name)
    }

    /// The value of the attribute `key` that is in no namespace.
    #[inline]
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.view().attribute(key)
    }

    /// The value of the attribute `key` in `namespace`.
    #[inline]
    pub fn attribute_ns(&self, namespace: &str, key: &str) -> Option<&str> {
        self.view().attribute_ns(namespace, key)
    }

    /// All attributes, in order of appearance.
    #[inline]
    pub fn attributes(&self) -> Attributes<'_> {
        self.view().attributes()
    }

    /// The child elements, without the text between them.
    #[inline]
    pub fn children(&self) -> Children<'_> {
        self.view().children()
    }

    /// The child elements and the text, in order.
    #[inline]
    pub fn nodes(&self) -> Nodes<'_> {
        self.view().nodes()
    }

    /// The first child element with this namespace and name.
    #[inline]
    pub fn find(&self, namespace: &str, name: &str) -> Option<ElementRef<'_>> {
        self.view().find(namespace, name)
    }

    /// The element's own text (not that of its children), joined.
    pub fn text_content(&self) -> Cow<'_, str> {
        self.view().text_content()
    }

    /// Whether there are neither children nor text; attributes do not matter.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.view().is_empty()
    }

    /// The whole subtree, step by step in document order.
    pub fn walk(&self) -> Walk<'_> {
        self.view().walk()
    }
}

impl<'a> ElementRef<'a> {
    /// The namespace; empty if there is none.
    #[inline]
    pub fn namespace(self) -> &'a str {
        self.tree.namespace(self.tree.node(self.node).namespace)
    }

    /// The name, without prefix.
    #[inline]
    pub fn name(self) -> &'a str {
        self.tree.slice(self.tree.node(self.node).text)
    }

    /// Whether namespace and name are these.
    #[inline]
    pub fn is(self, namespace: &str, name: &str) -> bool {
        self.name() == name && self.namespace() == namespace
    }

    /// The value of the attribute `key` that is in no namespace.
    #[inline]
    pub fn attribute(self, key: &str) -> Option<&'a str> {
        self.attribute_ns("", key)
    }

    /// The value of the attribute `key` in `namespace`.
    #[inline]
    pub fn attribute_ns(self, namespace: &str, key: &str) -> Option<&'a str> {
        self.attributes()
            .find(|attribute| attribute.name == key && attribute.namespace == namespace)
            .map(|attribute| attribute.value)
    }

    /// All attributes, in order of appearance.
    #[inline]
    pub fn attributes(self) -> Attributes<'a> {
        Attributes::new(self.tree, self.tree.node(self.node).first_attribute)
    }

    /// The child elements, without the text between them.
    #[inline]
    pub fn children(self) -> Children<'a> {
        Children::new(self.nodes())
    }

    /// The child elements and the text, in order.
    #[inline]
    pub fn nodes(self) -> Nodes<'a> {
        Nodes::new(self.tree, self.tree.node(self.node).first_child)
    }

    /// The first child element with this namespace and name.
    #[inline]
    pub fn find(self, namespace: &str, name: &str) -> Option<Self> {
        self.children().find(|child| child.is(namespace, name))
    }

    /// The element's own text (not that of its children), joined. Borrowed unless children interrupt it.
    pub fn text_content(self) -> Cow<'a, str> {
        let mut joined = Cow::Borrowed("");
        for node in self.nodes() {
            match node {
                Node::Element(_) => {}
                Node::Text(text) => joined += text,
            }
        }
        joined
    }

    /// Whether there are neither children nor text; attributes do not matter.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.tree.node(self.node).first_child == NONE
    }

    /// The whole subtree, step by step in document order, beginning with this element's own [`Step::Open`] and ending
    /// with its [`Step::Close`]. Allocates nothing.
    pub fn walk(self) -> Walk<'a> {
        Walk::new(self)
    }

    /// This element as a value that shares the tree. Takes constant time, and keeps the whole tree alive: see
    /// [`Self::detach`].
    pub fn to_element(self) -> Element {
        Element {
            tree: Arc::clone(self.tree),
            root: self.node,
        }
    }

    /// A copy of this subtree alone, in memory of exactly its size.
    pub fn detach(self) -> Element {
        Element {
            tree: Arc::new(Tree::copy_of(self)),
            root: 0,
        }
    }

    fn same_attributes(self, other: Self) -> bool {
        // Keys are unique within an element, so equal numbers and inclusion make equal sets. In the usual case the
        // order is the same too, which saves the search.
        if self.attributes().eq(other.attributes()) {
            return true;
        }
        self.attributes().count() == other.attributes().count()
            && self.attributes().all(|attribute| {
                other.attribute_ns(attribute.namespace, attribute.name) == Some(attribute.value)
            })
    }
}

impl PartialEq for ElementRef<'_> {
    fn eq(&self, other: &Self) -> bool {
        if Arc::ptr_eq(self.tree, other.tree) && self.node == other.node {
            return true;
        }
        let mut others = other.walk();
        for step in self.walk() {
            let equal = match (step, others.next()) {
                (Step::Open(mine), Some(Step::Open(theirs))) => {
                    mine.is(theirs.namespace(), theirs.name()) && mine.same_attributes(theirs)
                }
                (Step::Text(mine), Some(Step::Text(theirs))) => mine == theirs,
                (Step::Close(_), Some(Step::Close(_))) => true,
                (Step::Open(_) | Step::Text(_) | Step::Close(_), _) => false,
            };
            if !equal {
                return false;
            }
        }
        true
    }
}

impl Eq for ElementRef<'_> {}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.view() == other.view()
    }
}

impl Eq for Element {}

impl PartialEq<Element> for ElementRef<'_> {
    fn eq(&self, other: &Element) -> bool {
        *self == other.view()
    }
}

impl PartialEq<ElementRef<'_>> for Element {
    fn eq(&self, other: &ElementRef<'_>) -> bool {
        self.view() == *other
    }
}

impl<'a> From<&'a Element> for ElementRef<'a> {
    fn from(element: &'a Element) -> Self {
        element.view()
    }
}

#[cfg(test)]
#[path = "element/tests.rs"]
mod tests;
