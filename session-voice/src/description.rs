//! What is said of a medium: [`RtpDescription`], and its forms on the wire.

mod google;
mod jingle;
#[cfg(test)]
mod tests;

pub use google::{GOOGLE_PHONE, GOOGLE_VIDEO, PhoneDescription};
pub use jingle::{
    GROUPING, RTCP_FEEDBACK, RTP, RTP_AUDIO, RTP_HEADER_EXTENSIONS, RTP_SOURCES, RTP_VIDEO,
};

use crate::{encryption::Encryption, payload::PayloadType};
use session_core::{Element, PeerError, Senders};
use std::{fmt, sync::Arc};

/// Most payload types of one description: there are no more ids.
pub const PAYLOAD_TYPES_MAX: usize = 128;

/// Most parameters, feedback types, header extensions, sources or groups in one place.
pub const LIST_MAX: usize = 64;

/// What kind of media (the attribute `media` of XEP-0167 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Media {
    /// Sound.
    Audio,
    /// Pictures.
    Video,
    /// Something else, verbatim.
    Other(Arc<str>),
}

impl Media {
    /// The word on the wire.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
            Self::Other(name) => name,
        }
    }
}

impl From<&str> for Media {
    fn from(name: &str) -> Self {
        match name {
            "audio" => Self::Audio,
            "video" => Self::Video,
            other => Self::Other(other.into()),
        }
    }
}

impl fmt::Display for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parameter {
    /// The name.
    pub name: Arc<str>,
    /// The value; empty where there was none.
    pub value: Arc<str>,
}

impl Parameter {
    /// A name and a value.
    pub fn new(name: &str, value: &str) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// A kind of RTCP feedback (XEP-0293, RFC 4585 §4.2): `nack`, or `nack` with `pli`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feedback {
    /// The type, such as `nack`, `ccm`, `transport-cc`.
    pub kind: Arc<str>,
    /// The subtype, such as `pli`, `fir`.
    pub subtype: Option<Arc<str>>,
    /// What else there is to it.
    pub parameters: Vec<Parameter>,
}

impl Feedback {
    /// A type without or with a subtype.
    pub fn new(kind: &str, subtype: Option<&str>) -> Self {
        Self {
            kind: kind.into(),
            subtype: subtype.map(Into::into),
            parameters: Vec::new(),
        }
    }
}

/// A header extension under the id that it has in this session (XEP-0294, RFC 8285).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderExtension {
    /// 1 to 14 in the short form, to 255 in the long one. Offers may use 4096 to 4351 to let the answer choose (RFC 8285 §6).
    pub id: u16,
    /// What it is.
    pub uri: Arc<str>,
    /// Who sends it; both where nobody said.
    pub senders: Senders,
    /// What else there is to it.
    pub parameters: Vec<Parameter>,
}

impl HeaderExtension {
    /// One that both send.
    pub fn new(id: u16, uri: &str) -> Self {
        Self {
            id,
            uri: uri.into(),
            senders: Senders::Both,
            parameters: Vec::new(),
        }
    }
}

/// At most how much the sender of the description wants to receive (XEP-0167 §7, RFC 8866 §5.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bandwidth {
    /// `AS` or `CT`, or something else.
    pub kind: Arc<str>,
    /// In kbit/s for the two that there are.
    pub value: Arc<str>,
}

/// A source of packets (XEP-0339, RFC 5576).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its synchronisation source.
    pub ssrc: u32,
    /// `cname`, `msid` and others. Values are always written, as peers ask for them.
    pub parameters: Vec<Parameter>,
}

/// Sources that belong together (XEP-0339 §3.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceGroup {
    /// `FID`, `SIM` or another.
    pub semantics: Arc<str>,
    /// In the order that the semantics give a meaning.
    pub sources: Vec<u32>,
}

/// A medium with its codecs: the description of XEP-0167 and of what extends it.
///
/// Read tolerantly, written strictly: children that are not understood are kept in [`extra`](Self::extra) and written
/// again. [`PhoneDescription`] is the same in Google's old form.
///
/// ```
/// use session_core::SessionDescription;
/// use session_voice::{Media, PayloadType, RtpDescription};
///
/// let mut offer = RtpDescription::new(Media::Audio);
/// offer.payload_types = vec![PayloadType::opus(111), PayloadType::new(0, "PCMU", 8_000)];
/// offer.rtcp_mux = true;
/// assert_eq!(RtpDescription::from_element(&offer.to_element()), Ok(offer));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RtpDescription {
    /// Which kind.
    pub media: Media,
    /// The synchronisation source of the only stream, in the old way; [`sources`](Self::sources) say more.
    pub ssrc: Option<u32>,
    /// The RTP profile, where somebody wrote one.
    pub profile: Option<Arc<str>>,
    /// In order of preference.
    pub payload_types: Vec<PayloadType>,
    /// Feedback for all payload types (XEP-0293 §3).
    pub feedback: Vec<Feedback>,
    /// `rtcp-fb-trr-int` for all payload types, in milliseconds.
    pub feedback_interval: Option<u32>,
    /// Header extensions (XEP-0294).
    pub header_extensions: Vec<HeaderExtension>,
    /// One- and two-byte extension headers may be mixed (XEP-0294 §5, RFC 8285 §4.1.2).
    pub mixed_extensions: bool,
    /// RTP and RTCP share a component (XEP-0167 §6, RFC 5761).
    pub rtcp_mux: bool,
    /// How much we want to receive.
    pub bandwidth: Option<Bandwidth>,
    /// Keys in signalling (XEP-0167 §7.1, SDES); none where DTLS makes them.
    pub encryption: Option<Encryption>,
    /// Who sends (XEP-0339).
    pub sources: Vec<Source>,
    /// And how they belong together.
    pub source_groups: Vec<SourceGroup>,
    /// What else was said, verbatim.
    pub extra: Vec<Element>,
}

impl RtpDescription {
    /// Of a kind, with nothing in it.
    pub fn new(media: Media) -> Self {
        Self {
            media,
            ssrc: None,
            profile: None,
            payload_types: Vec::new(),
            feedback: Vec::new(),
            feedback_interval: None,
            header_extensions: Vec::new(),
            mixed_extensions: false,
            rtcp_mux: false,
            bandwidth: None,
            encryption: None,
            sources: Vec::new(),
            source_groups: Vec::new(),
            extra: Vec::new(),
        }
    }

    /// A payload type by its id.
    pub fn payload_type(&self, id: u8) -> Option<&PayloadType> {
        self.payload_types.iter().find(|codec| codec.id == id)
    }

    /// Adds a payload type that was read.
    pub(crate) fn add_payload_type(&mut self, codec: PayloadType) -> Result<(), PeerError> {
        if self.payload_type(codec.id).is_some() {
            return Err(malformed("payload-type", "two with one id"));
        }
        push(&mut self.payload_types, codec, PAYLOAD_TYPES_MAX)
    }
}

pub(crate) fn malformed(field: &'static str, problem: &'static str) -> PeerError {
    PeerError::Malformed { field, problem }
}

/// Adds to a list that a peer makes longer.
pub(crate) fn push<T>(list: &mut Vec<T>, item: T, max: usize) -> Result<(), PeerError> {
    if list.len() >= max {
        return Err(PeerError::TooMany {
            limit: "entries in one list of a description",
            max,
        });
    }
    list.push(item);
    Ok(())
}

/// An attribute that is a number, if it is there.
pub(crate) fn number<T: std::str::FromStr>(
    text: Option<&str>,
    field: &'static str,
) -> Result<Option<T>, PeerError> {
    let parse = |text: &str| {
        text.trim()
            .parse()
            .map_err(|_| malformed(field, "not a number that it can be"))
    };
    text.map(parse).transpose()
}
