//! What a stanza inherits from its stream.

use std::borrow::Cow;

use super::NS_STREAMS;

/// The namespaces that are bound around an element: those which the header of its stream declared.
///
/// The prefix `xml` is always bound and never part of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    default_namespace: Cow<'static, str>,
    prefixes: Cow<'static, [(Cow<'static, str>, Cow<'static, str>)]>,
}

/// The prefixes of every stream that this crate opens.
const STREAM: &[(Cow<'static, str>, Cow<'static, str>)] =
    &[(Cow::Borrowed("stream"), Cow::Borrowed(NS_STREAMS))];

impl Context {
    /// No namespace is bound: for elements that stand alone.
    pub const NONE: Self = Self {
        default_namespace: Cow::Borrowed(""),
        prefixes: Cow::Borrowed(&[]),
    };

    /// A client's stream: `jabber:client`, and the prefix `stream` (RFC 6120 §4.8).
    pub const CLIENT: Self = Self {
        default_namespace: Cow::Borrowed("jabber:client"),
        prefixes: Cow::Borrowed(STREAM),
    };

    /// A component's stream: `jabber:component:accept`, and the prefix `stream` (XEP-0114 §3).
    pub const COMPONENT: Self = Self {
        default_namespace: Cow::Borrowed("jabber:component:accept"),
        prefixes: Cow::Borrowed(STREAM),
    };

    /// A context with these bindings. An empty `default_namespace` is none.
    pub fn new<P, N>(
        default_namespace: impl Into<Cow<'static, str>>,
        prefixes: impl IntoIterator<Item = (P, N)>,
    ) -> Self
    where
        P: Into<Cow<'static, str>>,
        N: Into<Cow<'static, str>>,
    {
        let prefixes = prefixes
            .into_iter()
            .map(|(prefix, ns)| (prefix.into(), ns.into()));
        Self {
            default_namespace: default_namespace.into(),
            prefixes: prefixes.collect(),
        }
    }

    /// The namespace of elements without prefix; empty if there is none.
    pub fn default_namespace(&self) -> &str {
        &self.default_namespace
    }

    /// Each prefix with its namespace.
    pub fn prefixes(&self) -> impl Iterator<Item = (&str, &str)> {
        self.prefixes
            .iter()
            .map(|(prefix, namespace)| (prefix.as_ref(), namespace.as_ref()))
    }

    /// The namespace bound to `prefix`, which is not empty.
    pub(super) fn namespace_of(&self, prefix: &str) -> Option<&str> {
        self.prefixes()
            .find(|&(known, _)| known == prefix)
            .map(|(_, namespace)| namespace)
    }

    /// A prefix bound to `namespace`.
    pub(super) fn prefix_of(&self, namespace: &str) -> Option<&str> {
        self.prefixes()
            .find(|&(_, known)| known == namespace)
            .map(|(prefix, _)| prefix)
    }
}

/// [`Context::NONE`].
impl Default for Context {
    fn default() -> Self {
        Self::NONE
    }
}
