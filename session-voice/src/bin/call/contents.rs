//! What is told of contents beside the sound. This program has nothing to show them with, and says so.

use serde_json::{Value, json};
use session_core::{Element, Peer, Reason};
use session_voice::{CallContent, ContentChange, Media};

/// An event's name, its facts, and words for people. None where nothing is to be told.
pub(crate) fn words(change: &ContentChange, peer: &Peer) -> Option<(&'static str, Value, String)> {
    let because = |reason: &Option<Reason>| {
        let reason = reason.as_ref();
        reason.map_or_else(String::new, |reason| format!(": {reason}"))
    };
    Some(match change {
        ContentChange::Proposed(content) => {
            let text = format!("{peer} adds {}", named(content));
            ("content-added", facts(content), text)
        }
        ContentChange::Declined(name) => {
            let text = format!("“{name}” is declined: there is only sound here");
            ("content-declined", json!({ "name": &**name }), text)
        }
        ContentChange::Removed { name, reason } => {
            let why = reason.as_ref().map(ToString::to_string);
            let facts = json!({ "name": &**name, "why": why });
            let text = format!("{peer} takes “{name}” out{}", because(reason));
            ("content-removed", facts, text)
        }
        ContentChange::Senders { name, senders } => {
            let facts = json!({ "name": &**name, "senders": senders.as_str() });
            let text = format!("who sends in “{name}” from now on: {}", senders.as_str());
            ("content-senders", facts, text)
        }
        ContentChange::Described { name, description } => {
            let facts = json!({ "name": &**name, "namespace": description.namespace() });
            ("content-described", facts, said(description, name))
        }
        // We add none.
        ContentChange::Accepted(_) | ContentChange::Refused { .. } | ContentChange::Secured(_) => {
            return None;
        }
    })
}

/// A content that comes with a call, or is added to one.
pub(crate) fn facts(content: &CallContent) -> Value {
    json!({
        "name": &*content.name,
        "media": content.media.as_ref().map(Media::as_str),
        "senders": content.senders.as_str(),
        "namespace": content.description.namespace(),
    })
}

/// Contents that come with a call, for people.
pub(crate) fn list(contents: &[CallContent]) -> String {
    let names: Vec<_> = contents.iter().map(named).collect();
    match names.is_empty() {
        true => String::new(),
        false => format!(", with {}", names.join(" and ")),
    }
}

fn named(content: &CallContent) -> String {
    let kind = match &content.media {
        Some(media) => media.as_str(),
        None => content.description.namespace(),
    };
    format!("{kind} “{}”", content.name)
}

fn said(description: &Element, name: &str) -> String {
    format!("new parameters for “{name}” ({})", description.namespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::{ReasonCondition, Senders};

    fn content(media: Option<Media>) -> CallContent {
        CallContent {
            name: "screen".into(),
            senders: Senders::Initiator,
            media,
            description: Element::new("urn:x", "description"),
        }
    }

    #[test]
    fn people_and_programs_are_told_what_and_who() {
        let peer = Peer::from("bob@b.example/desk");
        let told = |change| words(&change, &peer).unwrap();
        let (event, facts, text) = told(ContentChange::Proposed(content(Some(Media::Video))));
        assert_eq!(
            (event, &*text),
            ("content-added", "bob@b.example/desk adds video “screen”")
        );
        let expected = json!({
            "name": "screen", "media": "video", "senders": "initiator", "namespace": "urn:x",
        });
        assert_eq!(facts, expected);
        let (event, facts, text) = told(ContentChange::Removed {
            name: "screen".into(),
            reason: Some(ReasonCondition::Gone.into()),
        });
        assert_eq!(event, "content-removed");
        assert_eq!(facts, json!({ "name": "screen", "why": "gone" }));
        assert_eq!(text, "bob@b.example/desk takes “screen” out: gone");
        assert_eq!(words(&ContentChange::Accepted("x".into()), &peer), None);
        assert_eq!(list(&[content(None)]), ", with urn:x “screen”");
        assert_eq!(list(&[]), "");
    }
}
