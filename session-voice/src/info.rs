//! What sides tell each other of a running call (XEP-0167 §8).

use session_core::{Element, Role};
use std::sync::Arc;

/// The namespace of such information.
pub const RTP_INFO: &str = "urn:xmpp:jingle:apps:rtp:info:1";

/// A piece of information.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallInfo {
    /// Taking part again, after hold or mute.
    Active,
    /// Not listening for now: the other side stops sending, and goes on taking what comes.
    Hold,
    /// Listening again.
    Unhold,
    /// Not sending for now.
    Mute(Part),
    /// Sending again.
    Unmute(Part),
    /// The device rings; nobody has answered.
    Ringing,
}

/// What is muted: one content, or everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Part {
    /// The content's name; everything without.
    pub name: Option<Arc<str>>,
    /// Who made the content.
    pub creator: Option<Role>,
}

impl CallInfo {
    /// The element for a session-info.
    pub fn to_element(&self) -> Element {
        let element = |name| Element::new(RTP_INFO, name);
        let about = |name, part: &Part| {
            element(name)
                .with_opt("creator", part.creator.map(Role::as_str))
                .with_opt("name", part.name.as_deref())
        };
        match self {
            Self::Active => element("active"),
            Self::Hold => element("hold"),
            Self::Unhold => element("unhold"),
            Self::Mute(part) => about("mute", part),
            Self::Unmute(part) => about("unmute", part),
            Self::Ringing => element("ringing"),
        }
    }

    /// Reads it; none for what is not of this namespace, or a word that is not known.
    pub fn from_element(element: &Element) -> Option<Self> {
        if element.namespace() != RTP_INFO {
            return None;
        }
        let part = || Part {
            name: element.attribute("name").map(Into::into),
            creator: match element.attribute("creator") {
                Some("initiator") => Some(Role::Initiator),
                Some("responder") => Some(Role::Responder),
                Some(_) | None => None,
            },
        };
        Some(match element.name() {
            "active" => Self::Active,
            "hold" => Self::Hold,
            "unhold" => Self::Unhold,
            "mute" => Self::Mute(part()),
            "unmute" => Self::Unmute(part()),
            "ringing" => Self::Ringing,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_comes_back() {
        let part = Part {
            name: Some("audio".into()),
            creator: Some(Role::Responder),
        };
        let all = [
            CallInfo::Active,
            CallInfo::Hold,
            CallInfo::Unhold,
            CallInfo::Mute(Part::default()),
            CallInfo::Mute(part.clone()),
            CallInfo::Unmute(part),
            CallInfo::Ringing,
        ];
        for info in all {
            assert_eq!(CallInfo::from_element(&info.to_element()), Some(info));
        }
        assert_eq!(
            CallInfo::from_element(&Element::new(RTP_INFO, "dancing")),
            None
        );
        assert_eq!(
            CallInfo::from_element(&Element::new("urn:example", "hold")),
            None
        );
    }
}
