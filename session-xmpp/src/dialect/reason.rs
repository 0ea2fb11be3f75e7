//! Why something ended: Jingle's `<reason/>`, and how conditions are named.

use std::sync::Arc;

use session_core::{ElementRef, Reason, ReasonCondition};

use crate::ns;
use crate::xml::Writer;

/// The reason in a `<reason/>` (XEP-0166 §7.4), or `None` if it says nothing.
///
/// What has a text or an element of an application, but no condition, is `general-error`, which says the least.
pub(crate) fn read(reason: ElementRef<'_>) -> Option<Reason> {
    let mut named = None;
    let mut text = None;
    let mut extra = None;
    for child in reason.children() {
        if child.namespace() != ns::JINGLE {
            extra.get_or_insert(child);
        } else if child.name() == "text" {
            text.get_or_insert(child);
        } else {
            named.get_or_insert(child);
        }
    }
    if named.is_none() && text.is_none() && extra.is_none() {
        return None;
    }
    Some(Reason {
        condition: named.map_or(ReasonCondition::GeneralError, condition),
        text: text.map(|text| text.text_content().into()),
        extra: extra.map(ElementRef::to_element),
    })
}

/// The condition that an element names. Some clients spell the names with underscores; the unknown is kept as it is.
pub(super) fn condition(element: ElementRef<'_>) -> ReasonCondition {
    let name = element.name();
    let mut condition = ReasonCondition::from_name(name);
    if is_unknown(&condition) && name.contains('_') {
        let hyphenated = ReasonCondition::from_name(&name.replace('_', "-"));
        if !is_unknown(&hyphenated) {
            condition = hyphenated;
        }
    }
    with_sid(condition, element)
}

fn is_unknown(condition: &ReasonCondition) -> bool {
    matches!(condition, ReasonCondition::Other(_))
}

fn with_sid(condition: ReasonCondition, element: ElementRef<'_>) -> ReasonCondition {
    if !matches!(condition, ReasonCondition::AlternativeSession(_)) {
        return condition;
    }
    let sid = element.find(element.namespace(), "sid");
    let sid: Option<Arc<str>> = sid.map(|sid| sid.text_content().trim().into());
    ReasonCondition::AlternativeSession(sid.filter(|sid| !sid.is_empty()))
}

/// Writes a `<reason/>`.
pub(super) fn write<'a>(reason: &'a Reason, writer: &mut Writer<'a>) {
    writer.open(ns::JINGLE, "reason");
    writer.open(ns::JINGLE, reason.condition.as_str());
    write_sid(reason, ns::JINGLE, writer);
    writer.close();
    if let Some(text) = &reason.text {
        writer.open(ns::JINGLE, "text").text(text).close();
    }
    if let Some(extra) = &reason.extra {
        writer.element(extra.view());
    }
    writer.close();
}

/// Writes the session that is used instead, where the condition names one.
pub(super) fn write_sid<'a>(reason: &'a Reason, namespace: &'a str, writer: &mut Writer<'a>) {
    if let ReasonCondition::AlternativeSession(Some(sid)) = &reason.condition {
        writer.open(namespace, "sid").text(sid).close();
    }
}
