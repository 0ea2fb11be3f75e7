//! From `<session/>` to a message.

use session_core::{
    Action, ContentPart, Dialect, Element, ElementRef, Message, Peer, PeerError, Reason, Redirect,
};

use super::super::{hint, missing, reason};
use super::{AUDIO, VIDEO, media};
use crate::{address, ns};

/// Reads a `<session/>`.
///
/// Tolerated: `initiator` missing or malformed; a `terminate` without `id`, which is then empty; several `<transport/>`s;
/// reasons with underscores, of any name and in any namespace; unknown children, which are kept.
pub(in super::super) fn read(
    session: ElementRef<'_>,
    from: &Peer,
    to: &Peer,
) -> Result<Message, PeerError> {
    let kind = session.attribute("type").ok_or_else(|| missing("type"))?;
    let action = action(kind).ok_or(PeerError::Malformed {
        field: "type",
        problem: "is not one that is known",
    })?;
    let sid = session.attribute("id").unwrap_or_default();
    if sid.is_empty() && action != Action::SessionTerminate {
        return Err(missing("id"));
    }
    let mut message = Message::new(from.clone(), to.clone(), sid, Dialect::GTALK_LATE, action);
    message.initiator = hint(session, "initiator", [from, to]);
    match kind {
        "initiate" | "accept" | "update" => read_offer(session, &mut message),
        "transport-info" | "transport-accept" => read_transports(session, &mut message),
        "candidates" => read_candidates(session, &mut message),
        "reject" | "terminate" => read_ending(session, &mut message),
        "redirect" => read_redirect(session, &mut message)?,
        _ => message.extra = session.children().map(ElementRef::to_element).collect(),
    }
    Ok(message)
}

fn action(kind: &str) -> Option<Action> {
    Some(match kind {
        "initiate" => Action::SessionInitiate,
        "accept" => Action::SessionAccept,
        "update" => Action::DescriptionInfo,
        "transport-info" | "candidates" => Action::TransportInfo,
        "transport-accept" => Action::TransportAccept,
        "reject" => Action::Reject,
        "terminate" => Action::SessionTerminate,
        "redirect" => Action::Redirect,
        "info" => Action::SessionInfo,
        _ => return None,
    })
}

fn read_offer(session: ElementRef<'_>, message: &mut Message) {
    let mut description = None;
    let mut transports = Vec::new();
    for child in session.children() {
        match child.name() {
            "description" if description.is_none() => description = Some(child),
            "transport" => transports.push(child.to_element()),
            _ => message.extra.push(child.to_element()),
        }
    }
    let merged = description.filter(|description| description.namespace() == ns::GOOGLE_VIDEO);
    if message.action == Action::SessionInitiate && !transports.is_empty() && merged.is_none() {
        message.dialect = Dialect::GTALK;
    } else {
        transports.retain(|transport| !media::is_implied(transport));
    }
    if let Some(merged) = merged {
        let (audio, video) = media::split(merged);
        message.contents = vec![
            content(AUDIO, Some(audio), transports.clone()),
            content(VIDEO, Some(video), transports),
        ];
    } else if description.is_some() || !transports.is_empty() {
        message.contents = vec![content(
            "",
            description.map(ElementRef::to_element),
            transports,
        )];
    }
}

fn read_transports(session: ElementRef<'_>, message: &mut Message) {
    message.dialect = Dialect::GTALK;
    let mut transports = Vec::new();
    for child in session.children() {
        if child.name() == "transport" {
            transports.push(child.to_element());
        } else {
            message.extra.push(child.to_element());
        }
    }
    if !transports.is_empty() {
        message.contents = vec![content("", None, transports)];
    }
}

fn read_candidates(session: ElementRef<'_>, message: &mut Message) {
    message.dialect = Dialect::GTALK_COMPAT;
    let mut first = Element::new(ns::GOOGLE_P2P, "transport");
    let mut video = Element::new(ns::GOOGLE_P2P, "transport");
    for child in session.children() {
        if !child.is(ns::GOOGLE_SESSION, "candidate") {
            message.extra.push(child.to_element());
            continue;
        }
        let transport = if media::is_video_candidate(child) {
            &mut video
        } else {
            &mut first
        };
        transport.push(media::in_namespace(child, ns::GOOGLE_P2P));
    }
    // Without video among them, it does not show whether the session has one content or two: the name stays empty.
    message.contents = match (first.is_empty(), video.is_empty()) {
        (_, true) => vec![content("", None, vec![first])],
        (true, false) => vec![content(VIDEO, None, vec![video])],
        (false, false) => {
            vec![
                content(AUDIO, None, vec![first]),
                content(VIDEO, None, vec![video]),
            ]
        }
    };
}

fn content(name: &str, description: Option<Element>, transports: Vec<Element>) -> ContentPart {
    ContentPart {
        description,
        transports,
        ..ContentPart::named(name)
    }
}

fn read_ending(session: ElementRef<'_>, message: &mut Message) {
    let mut children = session.children();
    message.reason = children.next().map(read_reason);
    message.extra = children.map(ElementRef::to_element).collect();
}

fn read_reason(element: ElementRef<'_>) -> Reason {
    let mut reason = Reason::new(reason::condition(element));
    let text = element.text_content();
    if !text.trim().is_empty() {
        reason.text = Some(text.into());
    }
    let carries_sid = reason.condition.as_str() == "alternative-session";
    let is_sid = |child: ElementRef<'_>| carries_sid && child.is(element.namespace(), "sid");
    let mut children = element.children().filter(|&child| !is_sid(child));
    if let Some(child) = children.next() {
        let is_remark = child.namespace() == element.namespace() && child.is_empty();
        if is_remark && reason.text.is_none() {
            reason.text = Some(child.name().into());
        } else {
            reason.extra = Some(child.to_element());
        }
    }
    reason
}

fn read_redirect(session: ElementRef<'_>, message: &mut Message) -> Result<(), PeerError> {
    message.dialect = Dialect::GTALK;
    let mut target = None;
    let mut cookie = None;
    for child in session.children() {
        match (child.namespace(), child.name()) {
            (ns::GOOGLE_SESSION, "target") if target.is_none() => target = Some(child),
            (ns::GOOGLE_SESSION, "cookie") if cookie.is_none() => cookie = Some(child.to_element()),
            _ => message.extra.push(child.to_element()),
        }
    }
    let target = target.and_then(|target| target.attribute("name"));
    let target = target.ok_or_else(|| missing("target name"))?;
    let target = address::parse(target).map_err(|_| PeerError::Malformed {
        field: "target name",
        problem: "is no address",
    })?;
    message.redirect = Some(Redirect { target, cookie });
    Ok(())
}
