//! From a message to `<session/>`.

use session_core::{
    Action, ContentPart, Dialect, Element, Message, Offers, Peer, Reason, Role, Senders,
};

use super::super::{EncodeError, check_name, reason, required};
use super::media;
use crate::ns;
use crate::xml::Writer;

/// Whether the message can be said in this dialect, which is not always the message's: a hybrid message says here what
/// it can, and the rest in Jingle beside it.
pub(in super::super) fn check(message: &Message, dialect: &Dialect) -> Result<(), EncodeError> {
    let say = Say { message, dialect };
    say.kind()?;
    if message.sid.is_empty() {
        return Err(required("id"));
    }
    if message.initiator.is_none() {
        return Err(required("initiator"));
    }
    say.check_common()?;
    match message.action {
        Action::SessionInitiate | Action::SessionAccept => say.check_offer(),
        Action::TransportInfo | Action::TransportAccept => say.check_transports(),
        Action::Reject | Action::SessionTerminate => say.check_ending(),
        Action::Redirect => say.check_redirect(),
        Action::SessionInfo
        | Action::DescriptionInfo
        | Action::ContentAccept
        | Action::ContentAdd
        | Action::ContentModify
        | Action::ContentReject
        | Action::ContentRemove
        | Action::SecurityInfo
        | Action::TransportReject
        | Action::TransportReplace => say.check_no_contents(),
    }
}

/// What is to be said, and how.
struct Say<'a> {
    message: &'a Message,
    dialect: &'a Dialect,
}

impl Say<'_> {
    fn kind(&self) -> Result<&'static str, EncodeError> {
        Ok(match self.message.action {
            Action::SessionInitiate => "initiate",
            Action::SessionAccept => "accept",
            Action::SessionInfo => "info",
            Action::SessionTerminate => "terminate",
            Action::Reject => "reject",
            Action::Redirect if self.dialect.has_redirect => "redirect",
            Action::Redirect => return self.cannot("redirect: it is an error reply"),
            Action::TransportInfo if self.has_transports() => "transport-info",
            Action::TransportInfo => "candidates",
            Action::TransportAccept if self.has_transports() => "transport-accept",
            Action::TransportAccept => return self.cannot("transport-accept"),
            Action::DescriptionInfo => return self.cannot("description-info"),
            Action::ContentAccept
            | Action::ContentAdd
            | Action::ContentModify
            | Action::ContentReject
            | Action::ContentRemove
            | Action::SecurityInfo
            | Action::TransportReject
            | Action::TransportReplace => return self.cannot("changes of a running session"),
        })
    }

    fn cannot<T>(&self, what: &'static str) -> Result<T, EncodeError> {
        Err(EncodeError::Cannot {
            dialect: self.dialect.name,
            what,
        })
    }

    /// Whether transports have a place of their own; otherwise there is one, and it goes without saying.
    fn has_transports(&self) -> bool {
        self.dialect.offers == Offers::All
    }

    /// Whether what cannot be said here is said in Jingle.
    fn has_jingle_beside(&self) -> bool {
        *self.dialect == *Dialect::HYBRID
    }

    fn check_common(&self) -> Result<(), EncodeError> {
        let message = self.message;
        if message.redirect.is_some() && message.action != Action::Redirect {
            return self.cannot("a redirection in another message");
        }
        let ends = matches!(message.action, Action::Reject | Action::SessionTerminate);
        if message.reason.is_some() && !ends {
            return self.cannot("a reason for something else than an end");
        }
        if self.has_jingle_beside() {
            return Ok(());
        }
        if !message.groups.is_empty() {
            return self.cannot("groups of contents");
        }
        // Who answers is who sends the answer: that alone goes without saying.
        let responder = message.responder.as_ref();
        if responder.is_some_and(|responder| ![&message.from, &message.to].contains(&responder)) {
            return self.cannot("a responder who is neither of the two");
        }
        message
            .contents
            .iter()
            .try_for_each(|part| self.check_content(part))
    }

    fn check_content(&self, part: &ContentPart) -> Result<(), EncodeError> {
        if part.creator == Some(Role::Responder) {
            return self.cannot("a content of the responder");
        }
        if !matches!(part.senders, None | Some(Senders::Both)) {
            return self.cannot("a content that not both send");
        }
        if part.security.is_some() {
            return self.cannot("security preconditions");
        }
        if !matches!(part.disposition.as_deref(), None | Some("session")) {
            return self.cannot("a disposition");
        }
        if !part.extra.is_empty() {
            return self.cannot("elements within a content");
        }
        Ok(())
    }

    fn check_offer(&self) -> Result<(), EncodeError> {
        match self.message.contents.as_slice() {
            [] => Err(required("description")),
            [single] => {
                let description = single
                    .description
                    .as_ref()
                    .ok_or_else(|| required("description"))?;
                if description.namespace() == ns::GOOGLE_VIDEO {
                    return self.cannot("video without audio");
                }
                check_name(Some(description), "description")?;
                self.check_offered(single)
            }
            several => self.check_pair(several),
        }
    }

    fn check_pair(&self, contents: &[ContentPart]) -> Result<(), EncodeError> {
        let Some((audio, video)) = media::pair(contents).filter(|_| !self.has_transports()) else {
            return self.cannot("several contents");
        };
        let (Some(spoken), Some(seen)) = (&audio.description, &video.description) else {
            return Err(required("description"));
        };
        if !media::are_separable(spoken, seen) {
            return self.cannot("descriptions of audio and video that are not Google's own");
        }
        self.check_offered(audio)?;
        self.check_offered(video)
    }

    /// What may be offered: any transports where transports are named, else the one that is meant, without content.
    fn check_offered(&self, part: &ContentPart) -> Result<(), EncodeError> {
        if self.has_transports() && self.message.action == Action::SessionInitiate {
            return part
                .transports
                .iter()
                .try_for_each(|t| check_name(Some(t), "transport"));
        }
        if part.transports.iter().all(media::is_implied) {
            Ok(())
        } else {
            self.cannot("a transport here, other than the one that is meant")
        }
    }

    fn check_transports(&self) -> Result<(), EncodeError> {
        let contents = &self.message.contents;
        if contents.is_empty() || contents.iter().any(|part| part.transports.is_empty()) {
            return Err(required("transport"));
        }
        if contents.iter().any(|part| part.description.is_some()) {
            return self.cannot("a description here");
        }
        if contents.len() > 1 && (self.has_transports() || media::pair(contents).is_none()) {
            return self.cannot("several contents");
        }
        let mut transports = contents.iter().flat_map(|part| &part.transports);
        if self.has_transports() {
            return transports.try_for_each(|transport| check_name(Some(transport), "transport"));
        }
        contents
            .iter()
            .try_for_each(|part| self.check_candidates(part))
    }

    fn check_candidates(&self, part: &ContentPart) -> Result<(), EncodeError> {
        for transport in &part.transports {
            if !transport.is(ns::GOOGLE_P2P, "transport") {
                return self.cannot("candidates of another transport than the one that is meant");
            }
            for candidate in transport.children() {
                if !candidate.is(ns::GOOGLE_P2P, "candidate") {
                    return self.cannot("parameters of a transport beside candidates");
                }
                if !media::belongs_to(&part.name, candidate) {
                    return self.cannot("a candidate for a channel of the other medium");
                }
            }
        }
        Ok(())
    }

    fn check_ending(&self) -> Result<(), EncodeError> {
        match &self.message.reason {
            None if !self.message.extra.is_empty() => {
                return self.cannot("elements without a reason");
            }
            Some(Reason {
                extra: Some(extra), ..
            }) if extra.namespace() == ns::GOOGLE_SESSION => {
                return self.cannot("an application's condition in the namespace of the session");
            }
            Some(_) | None => {}
        }
        self.check_no_contents()
    }

    fn check_redirect(&self) -> Result<(), EncodeError> {
        let redirect = self
            .message
            .redirect
            .as_ref()
            .ok_or_else(|| required("target"))?;
        let is_cookie = |cookie: &Element| cookie.is(ns::GOOGLE_SESSION, "cookie");
        if !redirect.cookie.iter().all(is_cookie) {
            let problem = "is an element of another name";
            return Err(EncodeError::Invalid {
                field: "cookie",
                problem,
            });
        }
        self.check_no_contents()
    }

    fn check_no_contents(&self) -> Result<(), EncodeError> {
        if self.message.contents.is_empty() {
            Ok(())
        } else {
            self.cannot("contents here")
        }
    }
}

/// Writes a `<session/>`. To be called only for what [`check`] has passed.
pub(in super::super) fn write<'a>(
    message: &'a Message,
    dialect: &Dialect,
    writer: &mut Writer<'a>,
) {
    let say = Say { message, dialect };
    let Ok(kind) = say.kind() else { return };
    writer
        .open(ns::GOOGLE_SESSION, "session")
        .attribute("type", kind)
        .attribute("id", &message.sid)
        .attribute_opt("initiator", message.initiator.as_ref().map(Peer::as_str));
    match kind {
        "initiate" => write_offer(message, say.has_transports(), writer),
        "accept" => write_offer(message, false, writer),
        "candidates" => write_candidates(message, writer),
        "redirect" => write_redirect(message, writer),
        _ => message
            .contents
            .iter()
            .for_each(|part| write_transports(part, writer)),
    }
    if let Some(reason) = &message.reason {
        write_reason(reason, writer);
    }
    for extra in &message.extra {
        writer.element(extra.view());
    }
    writer.close();
}

fn write_offer(message: &Message, with_transports: bool, writer: &mut Writer<'_>) {
    if let Some((audio, video)) = media::pair(&message.contents) {
        if let (Some(audio), Some(video)) = (&audio.description, &video.description) {
            writer.element(media::merge(audio, video).view());
        }
        return;
    }
    for part in &message.contents {
        if let Some(description) = &part.description {
            writer.element(description.view());
        }
        if with_transports {
            write_transports(part, writer);
        }
    }
}

fn write_transports(part: &ContentPart, writer: &mut Writer<'_>) {
    for transport in &part.transports {
        writer.element(transport.view());
    }
}

fn write_candidates(message: &Message, writer: &mut Writer<'_>) {
    let transports = message.contents.iter().flat_map(|part| &part.transports);
    for candidate in transports.flat_map(Element::children) {
        writer.element(media::in_namespace(candidate, ns::GOOGLE_SESSION).view());
    }
}

fn write_redirect<'a>(message: &'a Message, writer: &mut Writer<'a>) {
    let Some(redirect) = &message.redirect else {
        return;
    };
    writer
        .open(ns::GOOGLE_SESSION, "target")
        .attribute("name", redirect.target.as_str())
        .close();
    if let Some(cookie) = &redirect.cookie {
        writer.element(cookie.view());
    }
}

fn write_reason<'a>(reason: &'a Reason, writer: &mut Writer<'a>) {
    writer.open(ns::GOOGLE_SESSION, reason.condition.as_str());
    if let Some(text) = &reason.text {
        writer.text(text);
    }
    reason::write_sid(reason, ns::GOOGLE_SESSION, writer);
    if let Some(extra) = reason.extra.as_ref().map(Element::view) {
        writer.element(extra);
    }
    writer.close();
}
