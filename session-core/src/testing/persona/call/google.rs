//! Google's `<session/>` as `<jingle/>`, and back: one content, whose transport is meant and not said.

use crate::{Action, Element, ElementRef, testing::persona::wire};

/// None for what has no equivalent and needs no answer but yes.
pub(in crate::testing::persona) fn read(session: ElementRef<'_>) -> Option<Element> {
    let action = match session.attribute("type")? {
        "initiate" => Action::SessionInitiate,
        "accept" => Action::SessionAccept,
        "reject" | "terminate" => Action::SessionTerminate,
        "candidates" | "transport-info" => Action::TransportInfo,
        "info" => Action::SessionInfo,
        _ => return None,
    };
    let mut jingle = Element::new(wire::JINGLE, "jingle")
        .with("action", action.as_str())
        .with_opt("initiator", session.attribute("initiator"))
        .with_opt("sid", session.attribute("id"));
    if action == Action::SessionInfo {
        return Some(jingle.children_from(session.children().map(ElementRef::to_element)));
    }
    if action == Action::SessionTerminate {
        let declined = session.attribute("type") == Some("reject");
        let name = if declined { "decline" } else { "success" };
        let reason = Element::new(wire::JINGLE, "reason").child(Element::new(wire::JINGLE, name));
        return Some(jingle.child(reason));
    }
    let said = session.children().find(|child| child.name() == "transport");
    let candidates = said.unwrap_or(session).children();
    let candidates = candidates.filter(|child| child.name() == "candidate");
    // They stand in the namespace of the session, where no transport is said.
    let candidates = candidates.map(|candidate| rename(candidate, wire::GOOGLE_P2P));
    let transport = Element::new(wire::GOOGLE_P2P, "transport").children_from(candidates);
    let description = session
        .children()
        .find(|child| child.name() == "description");
    let content = Element::new(wire::JINGLE, "content")
        .with("creator", "initiator")
        .with("name", "audio")
        .children_from(description.map(ElementRef::to_element))
        .child(transport);
    jingle.push(content);
    Some(jingle)
}

/// `declines`: whether an end is a refusal of the offer.
pub(in crate::testing::persona) fn write(jingle: &Element, declines: bool) -> Element {
    let action = jingle.attribute("action").and_then(Action::from_jingle);
    let kind = match action {
        Some(Action::SessionInitiate) => "initiate",
        Some(Action::SessionAccept) => "accept",
        Some(Action::SessionTerminate) if declines => "reject",
        Some(Action::SessionTerminate) => "terminate",
        Some(Action::SessionInfo) => "info",
        _ => "candidates",
    };
    let session = Element::new(wire::GOOGLE_SESSION, "session")
        .with_opt("id", jingle.attribute("sid"))
        .with_opt("initiator", jingle.attribute("initiator"))
        .with("type", kind);
    let children = match kind {
        "info" => jingle.children().map(ElementRef::to_element).collect(),
        "terminate" | "reject" => Vec::new(),
        _ => parts(jingle, kind == "candidates"),
    };
    session.children_from(children)
}

fn parts(jingle: &Element, only_candidates: bool) -> Vec<Element> {
    let parts = wire::contents(jingle).flat_map(ElementRef::children);
    if only_candidates {
        let candidates = parts.filter(|part| part.name() == "transport");
        let candidates = candidates.flat_map(ElementRef::children);
        return candidates
            .map(|candidate| rename(candidate, wire::GOOGLE_SESSION))
            .collect();
    }
    let descriptions = parts.filter(|part| part.name() == "description");
    descriptions.map(ElementRef::to_element).collect()
}

fn rename(element: ElementRef<'_>, namespace: &str) -> Element {
    let mut renamed = Element::new(namespace, element.name());
    for attribute in element.attributes() {
        renamed.set_attribute(attribute.name, attribute.value);
    }
    renamed
}
