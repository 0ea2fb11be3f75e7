//! Error replies: `<error/>` (RFC 6120 §8.3), with Jingle's conditions (XEP-0166 §7.5) or as libjingle writes it.

use session_core::{
    Condition, Dialect, Element, ElementRef, ErrorKind, ErrorStyle, JingleCondition, StanzaError,
};

use crate::xml::{Context, Writer};
use crate::{address, ns};

/// The number that old errors have for a redirection (XEP-0086 §3); libjingle writes it to this day.
const REDIRECT_CODE: &str = "302";

/// The error in a reply of type `error`, as far as it is understood.
///
/// The `<error/>` is the last child of that name, since what is echoed precedes it. Without one, without a type or
/// without a known condition, the error is as general as what is missing. A redirection, in whichever of the three forms
/// it came, has the condition [`Condition::Redirect`] and as [`StanzaError::extra`] a `<redirect/>` of
/// `http://www.google.com/session` with the text `xmpp:` and the normalised address.
pub(super) fn read(stanza: &Element) -> StanzaError {
    let mut errors = stanza
        .children()
        .filter(|child| child.is(stanza.namespace(), "error"));
    let Some(element) = errors.by_ref().last() else {
        return StanzaError::new(Condition::UndefinedCondition, ErrorKind::Cancel);
    };
    let code = element.attribute("code").and_then(legacy);
    let mut parts = Parts::default();
    element.children().for_each(|child| parts.take(child));
    let condition = parts.condition.or_else(|| Some(code?.0));
    let kind = element.attribute("type").and_then(ErrorKind::from_name);
    let mut error = StanzaError {
        condition: condition.unwrap_or(Condition::UndefinedCondition),
        kind: kind.or_else(|| Some(code?.1)).unwrap_or(ErrorKind::Cancel),
        jingle: parts.jingle,
        extra: parts.extra.map(ElementRef::to_element),
        text: parts.text.map(|text| text.text_content().into()),
    };
    if let Some(redirect) = parts.redirect {
        read_redirect(redirect, &mut error);
    }
    error
}

/// The children of an `<error/>`.
#[derive(Default)]
struct Parts<'a> {
    condition: Option<Condition>,
    jingle: Option<JingleCondition>,
    extra: Option<ElementRef<'a>>,
    text: Option<ElementRef<'a>>,
    redirect: Option<ElementRef<'a>>,
}

impl<'a> Parts<'a> {
    fn take(&mut self, child: ElementRef<'a>) {
        match (child.namespace(), child.name()) {
            (ns::STANZAS, "text") => {
                self.text.get_or_insert(child);
            }
            (ns::STANZAS | ns::GOOGLE_SESSION, "redirect") => self.take_redirect(child),
            (ns::STANZAS, name) => self.take_condition(name, child),
            (ns::JINGLE_ERRORS, name) => match JingleCondition::from_name(name) {
                Some(condition) => self.jingle = self.jingle.or(Some(condition)),
                None => self.take_extra(child),
            },
            _ => self.take_extra(child),
        }
    }

    fn take_condition(&mut self, name: &str, child: ElementRef<'a>) {
        match Condition::from_name(name) {
            // libjingle puts it before the condition proper.
            Some(Condition::UndefinedCondition) => {}
            Some(condition) => self.condition = self.condition.or(Some(condition)),
            None => self.take_extra(child),
        }
    }

    fn take_redirect(&mut self, child: ElementRef<'a>) {
        self.condition = self.condition.or(Some(Condition::Redirect));
        if self.redirect.is_none() || child.namespace() == ns::GOOGLE_SESSION {
            self.redirect = Some(child);
        }
    }

    fn take_extra(&mut self, child: ElementRef<'a>) {
        self.extra.get_or_insert(child);
    }
}

fn read_redirect(redirect: ElementRef<'_>, error: &mut StanzaError) {
    let google = redirect.namespace() == ns::GOOGLE_SESSION;
    match address::from_uri(&redirect.text_content()) {
        Ok(target) => {
            let element = Element::new(ns::GOOGLE_SESSION, "redirect");
            error.extra = Some(element.text(&format!("xmpp:{target}")));
        }
        // Where to is unknown, but not that.
        Err(_) if google && error.extra.is_none() => error.extra = Some(redirect.to_element()),
        Err(_) => {}
    }
}

/// What the numbers of old errors mean (XEP-0086 §3).
fn legacy(code: &str) -> Option<(Condition, ErrorKind)> {
    Some(match code {
        REDIRECT_CODE => (Condition::Redirect, ErrorKind::Modify),
        "400" => (Condition::BadRequest, ErrorKind::Modify),
        "401" => (Condition::NotAuthorized, ErrorKind::Auth),
        "403" => (Condition::Forbidden, ErrorKind::Auth),
        "404" => (Condition::ItemNotFound, ErrorKind::Cancel),
        "405" => (Condition::NotAllowed, ErrorKind::Cancel),
        "406" => (Condition::NotAcceptable, ErrorKind::Modify),
        "407" => (Condition::RegistrationRequired, ErrorKind::Auth),
        "408" | "504" => (Condition::RemoteServerTimeout, ErrorKind::Wait),
        "409" => (Condition::Conflict, ErrorKind::Cancel),
        "500" => (Condition::InternalServerError, ErrorKind::Wait),
        "501" => (Condition::FeatureNotImplemented, ErrorKind::Cancel),
        "502" | "503" => (Condition::ServiceUnavailable, ErrorKind::Cancel),
        _ => return None,
    })
}

/// Writes the content of an error reply to `asked`.
///
/// libjingle first echoes what was asked, gives the condition, the application's own, and the text; in Jingle the text
/// precedes what is specific (RFC 6120 §8.3.2).
pub(super) fn write<'a>(
    asked: &'a Element,
    error: &'a StanzaError,
    dialect: &Dialect,
    context: &'a Context,
    writer: &mut Writer<'a>,
) {
    let google = dialect.errors == ErrorStyle::Google;
    if google {
        for child in asked.children() {
            writer.element(child);
        }
    }
    let redirects = error.condition == Condition::Redirect;
    writer
        .open(context.default_namespace(), "error")
        .attribute_opt("code", (google && redirects).then_some(REDIRECT_CODE))
        .attribute("type", error.kind.as_str());
    let target = error
        .extra
        .as_ref()
        .filter(|_| redirects)
        .and_then(redirect_target);
    writer.open(ns::STANZAS, error.condition.as_str());
    if let Some(target) = &target {
        writer.text(target);
    }
    writer.close();
    if !google {
        write_text(error, None, writer);
    }
    if let Some(jingle) = error.jingle {
        writer.open(ns::JINGLE_ERRORS, jingle.as_str()).close();
    }
    match (&error.extra, &target) {
        (Some(_), Some(target)) => {
            writer
                .open(ns::GOOGLE_SESSION, "redirect")
                .text(target)
                .close();
        }
        (Some(extra), None) => {
            writer.element(extra.view());
        }
        (None, _) => {}
    }
    if google {
        write_text(error, Some("en"), writer);
    }
    writer.close();
}

fn write_text<'a>(error: &'a StanzaError, language: Option<&str>, writer: &mut Writer<'a>) {
    let Some(text) = &error.text else { return };
    writer.open(ns::STANZAS, "text");
    if let Some(language) = language {
        writer.lang(language);
    }
    writer.text(text).close();
}

/// The URI of the target, if the element is a redirection.
fn redirect_target(extra: &Element) -> Option<String> {
    if !extra.is(ns::GOOGLE_SESSION, "redirect") {
        return None;
    }
    let text = extra.text_content();
    let target = address::parse(text.trim().trim_start_matches("xmpp:")).ok()?;
    Some(address::to_uri(&target))
}
