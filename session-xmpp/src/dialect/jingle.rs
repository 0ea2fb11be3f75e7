//! `<jingle/>`: XEP-0166 with groups (XEP-0338 and libjingle's older form of them).

use session_core::{
    Action, ContentPart, Dialect, ElementRef, Group, Message, Peer, PeerError, Role, Senders,
};

use super::{EncodeError, check_name, hint, missing, reason, required};
use crate::ns;
use crate::xml::Writer;

/// Reads a `<jingle/>` as live peers write it.
///
/// Tolerated: `creator` missing or unknown; `senders`, `name`, `initiator` and `responder` missing, the last two also
/// malformed; a `session-terminate` without `sid`, which is then empty; reasons with underscores or of any name;
/// children in any order; unknown children, which are kept.
pub(super) fn read(jingle: ElementRef<'_>, from: &Peer, to: &Peer) -> Result<Message, PeerError> {
    let action = jingle
        .attribute("action")
        .ok_or_else(|| missing("action"))?;
    let action = Action::from_jingle(action).ok_or(PeerError::NotImplemented(
        "an action that XEP-0166 does not define",
    ))?;
    let sid = jingle.attribute("sid").unwrap_or_default();
    if sid.is_empty() && action != Action::SessionTerminate {
        return Err(missing("sid"));
    }
    let mut message = Message::new(from.clone(), to.clone(), sid, Dialect::JINGLE, action);
    message.initiator = hint(jingle, "initiator", [from, to]);
    message.responder = hint(jingle, "responder", [from, to]);
    for child in jingle.children() {
        match (child.namespace(), child.name()) {
            (ns::JINGLE, "content") => message.contents.push(read_content(child)?),
            (ns::JINGLE, "reason") if message.reason.is_none() => {
                message.reason = reason::read(child);
            }
            (ns::GROUPING, "group") => message.groups.push(read_group(child, "semantics")),
            (ns::GOOGLE_JINGLE, "group") => message.groups.push(read_group(child, "type")),
            _ => message.extra.push(child.to_element()),
        }
    }
    Ok(message)
}

fn read_content(content: ElementRef<'_>) -> Result<ContentPart, PeerError> {
    let mut part = ContentPart::named(content.attribute("name").unwrap_or_default());
    part.creator = content.attribute("creator").and_then(role);
    part.disposition = content.attribute("disposition").map(Into::into);
    part.senders = content.attribute("senders").map(senders).transpose()?;
    for child in content.children() {
        match child.name() {
            "description" if part.description.is_none() => {
                part.description = Some(child.to_element());
            }
            "transport" => part.transports.push(child.to_element()),
            "security" if part.security.is_none() => part.security = Some(child.to_element()),
            _ => part.extra.push(child.to_element()),
        }
    }
    Ok(part)
}

fn role(name: &str) -> Option<Role> {
    [Role::Initiator, Role::Responder]
        .into_iter()
        .find(|role| role.as_str() == name)
}

/// Unlike a wrong `creator`, a wrong `senders` cannot be guessed: the guess could make us send what nobody wants to have.
fn senders(name: &str) -> Result<Senders, PeerError> {
    Senders::from_name(name).ok_or(PeerError::Malformed {
        field: "senders",
        problem: "is none of both, initiator, none and responder",
    })
}

fn read_group(group: ElementRef<'_>, semantics: &str) -> Group {
    let contents = group.children().filter(|child| child.name() == "content");
    Group {
        semantics: group.attribute(semantics).unwrap_or_default().into(),
        contents: contents
            .filter_map(|content| content.attribute("name"))
            .map(Into::into)
            .collect(),
    }
}

/// Whether the message can be said in Jingle, as `action`.
pub(super) fn check(message: &Message, action: Action) -> Result<(), EncodeError> {
    let cannot = |what| {
        Err(EncodeError::Cannot {
            dialect: Dialect::JINGLE.name,
            what,
        })
    };
    if matches!(action, Action::Reject) {
        return cannot("reject: it is a session-terminate with a reason");
    }
    if matches!(action, Action::Redirect) || message.redirect.is_some() {
        return cannot("redirect: it is an error reply");
    }
    if message.sid.is_empty() {
        return Err(required("sid"));
    }
    for part in &message.contents {
        if part.name.is_empty() {
            return Err(required("content name"));
        }
        if part.creator.is_none() {
            return Err(required("content creator"));
        }
        if part.transports.len() > 1 {
            return cannot("several transports of one content");
        }
        check_name(part.description.as_ref(), "description")?;
        check_name(part.transports.first(), "transport")?;
        check_name(part.security.as_ref(), "security")?;
    }
    Ok(())
}

/// Writes a `<jingle/>` as XEP-0166 §7.1 has it, as `action`.
pub(super) fn write<'a>(message: &'a Message, action: Action, writer: &mut Writer<'a>) {
    writer
        .open(ns::JINGLE, "jingle")
        .attribute("action", action.as_str())
        .attribute_opt("initiator", message.initiator.as_ref().map(Peer::as_str))
        .attribute_opt("responder", message.responder.as_ref().map(Peer::as_str))
        .attribute("sid", &message.sid);
    for part in &message.contents {
        write_content(part, writer);
    }
    if let Some(reason) = &message.reason {
        reason::write(reason, writer);
    }
    write_groups(message, writer);
    for extra in &message.extra {
        writer.element(extra.view());
    }
    writer.close();
}

fn write_content<'a>(part: &'a ContentPart, writer: &mut Writer<'a>) {
    writer
        .open(ns::JINGLE, "content")
        .attribute_opt("creator", part.creator.map(Role::as_str))
        .attribute_opt("disposition", part.disposition.as_deref())
        .attribute("name", &part.name)
        .attribute_opt("senders", part.senders.map(Senders::as_str));
    let known = part
        .description
        .iter()
        .chain(&part.transports)
        .chain(&part.security);
    for element in known.chain(&part.extra) {
        writer.element(element.view());
    }
    writer.close();
}

/// Writes the groups in the form that the peer reads: only libjingle and its kin use the transport of Google within
/// Jingle, and they know no form but their own.
fn write_groups<'a>(message: &'a Message, writer: &mut Writer<'a>) {
    if message.groups.is_empty() {
        return;
    }
    let mut transports = message.contents.iter().flat_map(|part| &part.transports);
    let google = transports.any(|transport| transport.namespace() == ns::GOOGLE_P2P);
    let (namespace, semantics) = if google {
        (ns::GOOGLE_JINGLE, "type")
    } else {
        (ns::GROUPING, "semantics")
    };
    for group in &message.groups {
        writer
            .open(namespace, "group")
            .attribute(semantics, &group.semantics);
        for name in &group.contents {
            writer
                .open(namespace, "content")
                .attribute("name", name)
                .close();
        }
        writer.close();
    }
}
