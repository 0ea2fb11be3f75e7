//! A typed view of `<description/>`: typed at the edges, an [`Element`] in between.

use crate::{Element, PeerError};

/// What a session is about, as one application understands it (libjingle `sessiondescription.h`).
///
/// The core carries the element and compares its namespace; the crate that owns the namespace gives it meaning.
///
/// # For implementers
/// `from_element(&d.to_element())` must give `d` back. Unknown children and attributes are to be tolerated; what is
/// missing or impossible is to be named by [`PeerError::Malformed`].
pub trait SessionDescription: Sized {
    /// The namespace of the element, which is the session's type.
    const NAMESPACE: &'static str;

    /// The element, whose namespace is [`Self::NAMESPACE`].
    fn to_element(&self) -> Element;

    /// The meaning of an element.
    ///
    /// # Errors
    /// [`PeerError::Malformed`] names the field.
    fn from_element(element: &Element) -> Result<Self, PeerError>;
}
