//! The arena behind an element.

use std::fmt::{Display, Write as _};

use super::ElementRef;
use super::iter::Step;

/// No node, no attribute.
pub(super) const NONE: u32 = u32::MAX;
/// The index of the empty namespace in every tree.
pub(super) const NO_NAMESPACE: u32 = 0;
/// In [`NodeData::namespace`]: this node is text.
const TEXT: u32 = u32::MAX;

/// A part of [`Tree::text`].
///
/// Every span of a tree lies in that tree's text, on character boundaries: spans come only from `append*` and from the
/// checked ranges of the builder, and text is never shortened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    pub(super) const EMPTY: Self = Self { start: 0, end: 0 };

    fn len(self) -> usize {
        (self.end - self.start) as usize
    }

    fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// An element, or a run of text.
#[derive(Debug, Clone, Copy)]
pub(super) struct NodeData {
    /// Index into the namespaces, or [`TEXT`].
    pub(super) namespace: u32,
    /// The name of an element, the content of a text.
    pub(super) text: Span,
    pub(super) parent: u32,
    pub(super) next: u32,
    pub(super) first_child: u32,
    pub(super) last_child: u32,
    pub(super) first_attribute: u32,
}

impl NodeData {
    pub(super) fn element(namespace: u32, name: Span) -> Self {
        Self {
            namespace,
            text: name,
            parent: NONE,
            next: NONE,
            first_child: NONE,
            last_child: NONE,
            first_attribute: NONE,
        }
    }

    pub(super) fn text(text: Span) -> Self {
        Self::element(TEXT, text)
    }

    pub(super) fn is_text(&self) -> bool {
        self.namespace == TEXT
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct AttributeData {
    pub(super) namespace: u32,
    pub(super) name: Span,
    pub(super) value: Span,
    pub(super) next: u32,
}

/// Nodes and attributes are linked by index. Node 0 is the root. No two texts are neighbours, and no text is empty.
#[derive(Debug, Clone)]
pub(super) struct Tree {
    pub(super) text: String,
    pub(super) nodes: Vec<NodeData>,
    pub(super) attributes: Vec<AttributeData>,
    namespaces: Vec<Span>,
    garbage: usize,
}

impl Tree {
    /// A tree without nodes; `text` is what spans may point into from the beginning.
    pub(super) fn with_text(text: String, nodes: usize, attributes: usize) -> Self {
        Self {
            text,
            nodes: Vec::with_capacity(nodes),
            attributes: Vec::with_capacity(attributes),
            namespaces: vec![Span::EMPTY],
            garbage: 0,
        }
    }

    pub(super) fn with_root(namespace: &str, name: &str) -> Self {
        let mut tree = Self::with_text(String::with_capacity(namespace.len() + name.len()), 1, 0);
        let namespace = tree.intern(namespace);
        let name = tree.append(name);
        tree.link(NONE, NodeData::element(namespace, name));
        tree
    }

    /// The subtree at `source` alone.
    pub(super) fn copy_of(source: ElementRef<'_>) -> Self {
        let mut size = Size::default();
        size.add(source);
        let mut tree = Self::with_text(
            String::with_capacity(size.text),
            size.nodes,
            size.attributes,
        );
        tree.namespaces.reserve_exact(size.namespaces.len());
        tree.graft(NONE, source);
        tree
    }

    #[inline]
    pub(super) fn slice(&self, span: Span) -> &str {
        let slice = self.text.get(span.range());
        debug_assert!(slice.is_some(), "a span outside of its text");
        slice.unwrap_or_default()
    }

    #[inline]
    pub(super) fn node(&self, index: u32) -> &NodeData {
        &self.nodes[index as usize]
    }

    #[inline]
    pub(super) fn attribute(&self, index: u32) -> &AttributeData {
        &self.attributes[index as usize]
    }

    #[inline]
    pub(super) fn namespace(&self, index: u32) -> &str {
        self.namespaces
            .get(index as usize)
            .map_or("", |&span| self.slice(span))
    }

    pub(super) fn namespace_count(&self) -> usize {
        self.namespaces.len()
    }

    /// How many bytes of the text were replaced and are no longer pointed at.
    pub(super) fn garbage(&self) -> usize {
        self.garbage
    }

    pub(super) fn text_len(&self) -> usize {
        self.text.len()
    }

    pub(super) fn heap_size(&self) -> usize {
        self.text.capacity()
            + self.nodes.capacity() * size_of::<NodeData>()
            + self.attributes.capacity() * size_of::<AttributeData>()
            + self.namespaces.capacity() * size_of::<Span>()
    }

    /// The index of a namespace, which is added if it is new.
    pub(super) fn intern(&mut self, namespace: &str) -> u32 {
        match self.find_namespace(namespace) {
            Some(known) => known,
            None => {
                let span = self.append(namespace);
                self.add_namespace(span)
            }
        }
    }

    pub(super) fn find_namespace(&self, namespace: &str) -> Option<u32> {
        let found = self
            .namespaces
            .iter()
            .position(|&known| self.slice(known) == namespace)?;
        Some(index(found))
    }

    /// Adds a namespace that is known to be new.
    pub(super) fn add_namespace(&mut self, span: Span) -> u32 {
        self.namespaces.push(span);
        index(self.namespaces.len() - 1)
    }

    pub(super) fn append(&mut self, text: &str) -> Span {
        let start = index(self.text.len());
        self.text.push_str(text);
        Span {
            start,
            end: index(self.text.len()),
        }
    }

    fn append_display(&mut self, value: impl Display) -> Span {
        let start = index(self.text.len());
        // Writing to a String does not fail. A Display that reports an error of its own has its output cut there.
        let _ = write!(self.text, "{value}");
        Span {
            start,
            end: index(self.text.len()),
        }
    }

    /// Adds a node, as the last child of `parent` unless that is [`NONE`].
    pub(super) fn link(&mut self, parent: u32, node: NodeData) -> u32 {
        let added = index(self.nodes.len());
        self.nodes.push(NodeData { parent, ..node });
        if parent != NONE {
            let last = std::mem::replace(&mut self.nodes[parent as usize].last_child, added);
            if last == NONE {
                self.nodes[parent as usize].first_child = added;
            } else {
                self.nodes[last as usize].next = added;
            }
        }
        added
    }

    /// Adds an attribute, known to be new, to `node`, whose last attribute is `last`.
    #[inline]
    pub(super) fn link_attribute(&mut self, node: u32, last: u32, attribute: AttributeData) -> u32 {
        let added = index(self.attributes.len());
        self.attributes.push(attribute);
        if last == NONE {
            self.nodes[node as usize].first_attribute = added;
        } else {
            self.attributes[last as usize].next = added;
        }
        added
    }

    pub(super) fn set_attribute(
        &mut self,
        node: u32,
        namespace: &str,
        name: &str,
        value: impl Display,
    ) {
        let mut last = NONE;
        let mut at = self.node(node).first_attribute;
        while at != NONE {
            let attribute = *self.attribute(at);
            if self.slice(attribute.name) == name
                && self.namespace(attribute.namespace) == namespace
            {
                let value = self.append_display(value);
                self.attributes[at as usize].value = value;
                self.garbage += attribute.value.len();
                return;
            }
            last = at;
            at = attribute.next;
        }
        let namespace = self.intern(namespace);
        let name = self.append(name);
        let value = self.append_display(value);
        self.link_attribute(
            node,
            last,
            AttributeData {
                namespace,
                name,
                value,
                next: NONE,
            },
        );
    }

    /// Appends text to the content of `parent`.
    pub(super) fn push_text(&mut self, parent: u32, text: &str) {
        if text.is_empty() {
            return;
        }
        match self.last_text(parent) {
            Some(node) => {
                let start = self.move_to_end(node);
                let end = self.append(text).end;
                self.nodes[node as usize].text = Span { start, end };
            }
            None => {
                let text = self.append(text);
                self.link(parent, NodeData::text(text));
            }
        }
    }

    /// The last child of `parent`, if that is a text.
    pub(super) fn last_text(&self, parent: u32) -> Option<u32> {
        let last = self.node(parent).last_child;
        (last != NONE && self.node(last).is_text()).then_some(last)
    }

    /// Copies the content of a text node to the end of all text, unless it is there already, so that more can be
    /// appended to it. Gives where it starts.
    pub(super) fn move_to_end(&mut self, node: u32) -> u32 {
        let span = self.node(node).text;
        if span.end as usize == self.text.len() {
            return span.start;
        }
        let start = index(self.text.len());
        self.text.extend_from_within(span.range());
        self.garbage += span.len();
        start
    }

    /// Copies a subtree of any tree to the end of `parent`'s content, or makes it the root if `parent` is [`NONE`].
    pub(super) fn graft(&mut self, parent: u32, source: ElementRef<'_>) {
        let mut parent = parent;
        for step in source.walk() {
            match step {
                Step::Open(element) => {
                    let namespace = self.intern(element.namespace());
                    let name = self.append(element.name());
                    parent = self.link(parent, NodeData::element(namespace, name));
                    self.copy_attributes(parent, element);
                }
                Step::Text(text) => self.push_text(parent, text),
                Step::Close(_) => parent = self.node(parent).parent,
            }
        }
    }

    fn copy_attributes(&mut self, node: u32, source: ElementRef<'_>) {
        let mut last = NONE;
        for attribute in source.attributes() {
            let namespace = self.intern(attribute.namespace);
            let name = self.append(attribute.name);
            let value = self.append(attribute.value);
            let data = AttributeData {
                namespace,
                name,
                value,
                next: NONE,
            };
            last = self.link_attribute(node, last, data);
        }
    }
}

/// What a copy of a subtree needs.
#[derive(Default)]
struct Size<'a> {
    text: usize,
    nodes: usize,
    attributes: usize,
    namespaces: Vec<&'a str>,
}

impl<'a> Size<'a> {
    fn add(&mut self, subtree: ElementRef<'a>) {
        for step in subtree.walk() {
            match step {
                Step::Open(element) => {
                    self.nodes += 1;
                    self.text += element.name().len();
                    self.add_namespace(element.namespace());
                    for attribute in element.attributes() {
                        self.attributes += 1;
                        self.text += attribute.name.len() + attribute.value.len();
                        self.add_namespace(attribute.namespace);
                    }
                }
                Step::Text(text) => {
                    self.nodes += 1;
                    self.text += text.len();
                }
                Step::Close(_) => {}
            }
        }
    }

    fn add_namespace(&mut self, namespace: &'a str) {
        if !namespace.is_empty() && !self.namespaces.contains(&namespace) {
            self.namespaces.push(namespace);
            self.text += namespace.len();
        }
    }
}

/// A length as an index; the panic is documented at [`super::Element`].
#[inline]
fn index(length: usize) -> u32 {
    u32::try_from(length)
        .ok()
        .filter(|&index| index != NONE)
        .expect("an element of 4 GiB")
}
