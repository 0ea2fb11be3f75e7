//! In which words calls are described.

use crate::{PhoneDescription, RtpDescription};
use session_core::{Element, PeerError, SessionDescription};

mod sealed {
    #[allow(unnameable_types, reason = "that is the point of it")]
    pub trait Sealed {}
}

/// A form of descriptions. There are two, and no others can be made outside.
pub trait CallForm: sealed::Sealed + 'static {
    /// The namespace of its descriptions.
    const NAMESPACE: &'static str;

    /// Reads a description.
    ///
    /// # Errors
    /// [`PeerError::Malformed`], which names the field.
    fn read(element: &Element) -> Result<RtpDescription, PeerError>;

    /// Writes one.
    fn write(description: &RtpDescription) -> Element;
}

/// XEP-0167.
#[derive(Clone, Copy, Debug)]
pub enum JingleForm {}

/// Google's `session/phone`.
#[derive(Clone, Copy, Debug)]
pub enum GoogleForm {}

impl sealed::Sealed for JingleForm {}
impl sealed::Sealed for GoogleForm {}

impl CallForm for JingleForm {
    const NAMESPACE: &'static str = RtpDescription::NAMESPACE;

    fn read(element: &Element) -> Result<RtpDescription, PeerError> {
        RtpDescription::from_element(element)
    }

    fn write(description: &RtpDescription) -> Element {
        description.to_element()
    }
}

impl CallForm for GoogleForm {
    const NAMESPACE: &'static str = PhoneDescription::NAMESPACE;

    fn read(element: &Element) -> Result<RtpDescription, PeerError> {
        PhoneDescription::from_element(element).map(|PhoneDescription(description)| description)
    }

    fn write(description: &RtpDescription) -> Element {
        PhoneDescription(description.clone()).to_element()
    }
}
