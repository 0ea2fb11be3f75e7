//! What a stanza means, in one line.

use std::fmt::Write as _;

use session_core::{ContentPart, Element, Message, Reason, ReasonCondition, StanzaError};
use session_xmpp::stanza::Incoming;

/// One line that says what a stanza is, and everything in it that the codec knows.
pub(crate) fn describe(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Message { message, .. } => describe_message(message),
        Incoming::Request(request) => {
            let kind = if request.is_get() { "get" } else { "set" };
            format!(
                "request {kind} {}",
                qualified(&request.payload().unwrap().to_element())
            )
        }
        Incoming::Refused { error, .. } => format!("refused {}", error.condition.as_str()),
        Incoming::Reply(reply) => match &reply.reply {
            Ok(payload) => {
                format!(
                    "result {}",
                    payload.as_ref().map_or_else(|| "-".to_owned(), qualified)
                )
            }
            Err(error) => describe_error(error),
        },
        Incoming::Other(envelope) => format!("other {}", envelope.stanza.name()),
        Incoming::Unusable(element) => format!("unusable {}", element.name()),
    }
}

fn describe_message(message: &Message) -> String {
    let mut line = format!("message {} sid={}", message.action, message.sid);
    for (key, peer) in [
        ("initiator", &message.initiator),
        ("responder", &message.responder),
    ] {
        if let Some(peer) = peer {
            write!(line, " {key}={peer}").unwrap();
        }
    }
    for part in &message.contents {
        write!(line, " content[{}]", describe_content(part)).unwrap();
    }
    if let Some(reason) = &message.reason {
        write!(line, " reason[{}]", describe_reason(reason)).unwrap();
    }
    if let Some(redirect) = &message.redirect {
        let cookie = redirect
            .cookie
            .as_ref()
            .map_or_else(|| "-".to_owned(), qualified);
        write!(line, " redirect[{} {cookie}]", redirect.target).unwrap();
    }
    for group in &message.groups {
        write!(
            line,
            " group[{} {}]",
            group.semantics,
            group.contents.join(" ")
        )
        .unwrap();
    }
    for extra in &message.extra {
        write!(line, " extra={}", qualified(extra)).unwrap();
    }
    line
}

fn describe_error(error: &StanzaError) -> String {
    let jingle = error.jingle.map_or("-", |jingle| jingle.as_str());
    let mut line = format!(
        "error {} {} {jingle}",
        error.condition.as_str(),
        error.kind.as_str()
    );
    if let Some(extra) = &error.extra {
        write!(line, " extra={}", qualified(extra)).unwrap();
    }
    line
}

fn describe_content(part: &ContentPart) -> String {
    let transports: Vec<_> = part
        .transports
        .iter()
        .map(|transport| {
            format!(
                "{}({})",
                transport.namespace(),
                transport.children().count()
            )
        })
        .collect();
    let extra: Vec<_> = part.extra.iter().map(qualified).collect();
    format!(
        "{} {} {} {} description={} transports={} security={} extra={}",
        part.creator.map_or("-", |role| role.as_str()),
        part.name,
        part.senders.map_or("-", |senders| senders.as_str()),
        part.disposition.as_deref().unwrap_or("-"),
        part.description.as_ref().map_or("-", Element::namespace),
        if transports.is_empty() {
            "-".to_owned()
        } else {
            transports.join("+")
        },
        part.security.as_ref().map_or("-", Element::namespace),
        if extra.is_empty() {
            "-".to_owned()
        } else {
            extra.join("+")
        },
    )
}

fn describe_reason(reason: &Reason) -> String {
    let mut line = reason.condition.as_str().to_owned();
    if let ReasonCondition::AlternativeSession(Some(sid)) = &reason.condition {
        write!(line, "/{sid}").unwrap();
    }
    if let Some(text) = &reason.text {
        write!(line, " text=\"{}\"", text.replace('\'', "\"")).unwrap();
    }
    if let Some(extra) = &reason.extra {
        write!(line, " extra={}", qualified(extra)).unwrap();
    }
    line
}

fn qualified(element: &Element) -> String {
    format!("{}#{}", element.namespace(), element.name())
}
