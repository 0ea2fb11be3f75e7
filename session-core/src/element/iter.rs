//! Iterators over a tree.

use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

use super::ElementRef;
use super::tree::{NONE, Tree};

/// An attribute of an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attribute<'a> {
    /// The namespace; empty for nearly all attributes.
    pub namespace: &'a str,
    /// The name, without prefix.
    pub name: &'a str,
    /// The value.
    pub value: &'a str,
}

/// A part of an element's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node<'a> {
    /// A child element.
    Element(ElementRef<'a>),
    /// A run of text, never empty and never beside another.
    Text(&'a str),
}

/// A step of a [`Walk`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step<'a> {
    /// An element begins.
    Open(ElementRef<'a>),
    /// A run of text, never empty and never beside another.
    Text(&'a str),
    /// The element opened last, and not yet closed, ends.
    Close(ElementRef<'a>),
}

/// The attributes of an element. See [`ElementRef::attributes`].
#[derive(Clone)]
pub struct Attributes<'a> {
    tree: &'a Tree,
    next: u32,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(tree: &'a Tree, first: u32) -> Self {
        Self { tree, next: first }
    }
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Attribute<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == NONE {
            return None;
        }
        let data = self.tree.attribute(self.next);
        self.next = data.next;
        Some(Attribute {
            namespace: self.tree.namespace(data.namespace),
            name: self.tree.slice(data.name),
            value: self.tree.slice(data.value),
        })
    }
}

impl FusedIterator for Attributes<'_> {}

impl fmt::Debug for Attributes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// The content of an element. See [`ElementRef::nodes`].
#[derive(Clone)]
pub struct Nodes<'a> {
    tree: &'a Arc<Tree>,
    next: u32,
}

impl<'a> Nodes<'a> {
    pub(super) fn new(tree: &'a Arc<Tree>, first: u32) -> Self {
        Self { tree, next: first }
    }
}

impl<'a> Iterator for Nodes<'a> {
    type Item = Node<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.next == NONE {
            return None;
        }
        let at = self.next;
        let data = self.tree.node(at);
        self.next = data.next;
        Some(if data.is_text() {
            Node::Text(self.tree.slice(data.text))
        } else {
            Node::Element(ElementRef {
                tree: self.tree,
                node: at,
            })
        })
    }
}

impl FusedIterator for Nodes<'_> {}

impl fmt::Debug for Nodes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.clone()).finish()
    }
}

/// The child elements of an element. See [`ElementRef::children`].
#[derive(Debug, Clone)]
pub struct Children<'a>(Nodes<'a>);

impl<'a> Children<'a> {
    pub(super) fn new(nodes: Nodes<'a>) -> Self {
        Self(nodes)
    }
}

impl<'a> Iterator for Children<'a> {
    type Item = ElementRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.0.find_map(|node| match node {
            Node::Element(element) => Some(element),
            Node::Text(_) => None,
        })
    }
}

impl FusedIterator for Children<'_> {}

/// A subtree in document order. See [`ElementRef::walk`].
#[derive(Clone)]
pub struct Walk<'a> {
    root: ElementRef<'a>,
    /// What the next step shows; [`NONE`] at the end.
    at: u32,
    /// Whether that step leaves the node `at`, rather than entering it.
    leaving: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: ElementRef<'a>) -> Self {
        Self {
            root,
            at: root.node,
            leaving: false,
        }
    }

    /// The elements that are open after the steps made so far, from the innermost to the one that is walked. Right after
    /// [`Step::Open`] the first is the element opened, right after [`Step::Close`] the one around the element closed.
    pub fn open_elements(&self) -> OpenElements<'a> {
        let at = if self.at == NONE || self.leaving {
            self.at
        } else {
            self.outside(self.at)
        };
        OpenElements {
            walk: self.clone(),
            at,
        }
    }

    /// The element around a node of this walk; [`NONE`] around its root.
    fn outside(&self, node: u32) -> u32 {
        if node == self.root.node {
            NONE
        } else {
            self.root.tree.node(node).parent
        }
    }

    /// Goes past the node `at`, which is done with.
    fn go_past(&mut self, next: u32, parent: u32) {
        if self.at == self.root.node {
            self.at = NONE;
        } else if next == NONE {
            self.at = parent;
            self.leaving = true;
        } else {
            self.at = next;
            self.leaving = false;
        }
    }
}

impl<'a> Iterator for Walk<'a> {
    type Item = Step<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == NONE {
            return None;
        }
        let tree = self.root.tree;
        let data = tree.node(self.at);
        let element = ElementRef {
            tree,
            node: self.at,
        };
        if data.is_text() {
            self.go_past(data.next, data.parent);
            Some(Step::Text(tree.slice(data.text)))
        } else if self.leaving {
            self.go_past(data.next, data.parent);
            Some(Step::Close(element))
        } else {
            if data.first_child == NONE {
                self.leaving = true;
            } else {
                self.at = data.first_child;
            }
            Some(Step::Open(element))
        }
    }
}

impl FusedIterator for Walk<'_> {}

impl fmt::Debug for Walk<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Walk")
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// The elements that are open at a point of a [`Walk`]. See [`Walk::open_elements`].
#[derive(Debug, Clone)]
pub struct OpenElements<'a> {
    walk: Walk<'a>,
    at: u32,
}

impl<'a> Iterator for OpenElements<'a> {
    type Item = ElementRef<'a>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.at == NONE {
            return None;
        }
        let element = ElementRef {
            tree: self.walk.root.tree,
            node: self.at,
        };
        self.at = self.walk.outside(self.at);
        Some(element)
    }
}

impl FusedIterator for OpenElements<'_> {}
