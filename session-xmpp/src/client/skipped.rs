//! Stanzas that break a limit. A server relays what anybody writes, and says it again after each resumption: such a stanza is
//! skipped, and what came with it goes on.

use crate::{
    endpoint::head::Head,
    xml::{self, Context, XmlError, XmlErrorKind},
};
use bytes::Bytes;
use session_core::{Element, ElementLimits};

/// By what elements are measured.
pub(super) struct Measure<'a> {
    pub(super) context: &'a Context,
    pub(super) limits: &'a ElementLimits,
    /// Whether stanzas may come: what they break is skipped.
    pub(super) takes_stanzas: bool,
}

/// What was read.
pub(super) enum Read {
    Element(Element),
    /// A stanza that breaks a limit: as much of it as there is, the start tag at least.
    Skipped(Bytes),
}

impl Measure<'_> {
    /// Reads an element.
    ///
    /// # Errors
    /// [`XmlError`]: it is no XML, or breaks a limit and is no stanza.
    pub(super) fn read(&self, element: &[u8]) -> Result<Read, XmlError> {
        match xml::parse(element, self.context, self.limits) {
            Ok(element) => Ok(Read::Element(element)),
            Err(error) if is_limit(&error) => self.skip(element, error),
            Err(error) => Err(error),
        }
    }

    /// Takes an element that breaks a limit, as much of it as there is.
    ///
    /// # Errors
    /// [`XmlError`]: that one, if it is no stanza.
    pub(super) fn skip(&self, element: &[u8], error: XmlError) -> Result<Read, XmlError> {
        match self.takes_stanzas && is_stanza(element, self.context, self.limits)? {
            true => Ok(Read::Skipped(Bytes::copy_from_slice(element))),
            false => Err(error),
        }
    }
}

/// Whether an element is a stanza, by its start tag, after which there may be more. Of one that has no end yet, the name as
/// written decides, and so it does where the tag breaks a limit itself.
///
/// # Errors
/// [`XmlError`] when the tag is no XML.
fn is_stanza(element: &[u8], context: &Context, limits: &ElementLimits) -> Result<bool, XmlError> {
    let Some(inner) = inside(element) else {
        return Ok(is_stanza_name(name(element)));
    };
    let alone = [b"<", inner, b"/>"].concat();
    match xml::parse(&alone, context, limits) {
        Ok(element) => Ok(element.namespace() == context.default_namespace()
            && is_stanza_name(element.name().as_bytes())),
        Err(error) if is_limit(&error) => Ok(is_stanza_name(name(element))),
        Err(error) => Err(error),
    }
}

/// The answer to a skipped stanza that is a request: what a server says of a device that is not there, because whoever asks
/// may be a stranger. `own` is who asks if nobody is named (RFC 6120 §8.1.2.1).
pub(super) fn refusal(element: &Bytes, own: Option<&str>) -> Option<Bytes> {
    let head = Head::parse(element).filter(Head::is_request)?;
    let sender = head.attribute("from").or_else(|| own.map(Into::into))?;
    head.error(&sender, "cancel", "service-unavailable")
}

/// Whether an error says that a limit was broken, by what may be XML.
pub(super) fn is_limit(error: &XmlError) -> bool {
    matches!(error.kind, XmlErrorKind::Limit(_))
}

fn is_stanza_name(name: &[u8]) -> bool {
    matches!(name, b"iq" | b"message" | b"presence")
}

fn name(element: &[u8]) -> &[u8] {
    let name = element.get(1..).unwrap_or_default();
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | b'/' | b'>');
    &name[..name.iter().position(is_end).unwrap_or(name.len())]
}

/// What stands in a start tag, if that is complete.
fn inside(element: &[u8]) -> Option<&[u8]> {
    let mut quote = None;
    for (at, &byte) in element.iter().enumerate() {
        match (quote, byte) {
            (Some(open), _) if open == byte => quote = None,
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'>') => {
                let inner = &element[1..at];
                return Some(inner.strip_suffix(b"/").unwrap_or(inner));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stanza_is_known_by_its_start_tag() {
        let limits = ElementLimits::default();
        let is = |text: &str| is_stanza(text.as_bytes(), &Context::CLIENT, &limits);
        let many: String = (0..100).map(|number| format!(" a{number}='>'")).collect();
        for (text, expected) in [
            ("<iq>", true),
            ("<message/>", true),
            ("<presence a='>'><x", true),
            ("<iq xmlns='jabber:client'>", true),
            ("<c:iq xmlns:c='jabber:client'>", true),
            ("<iq xmlns='urn:example'>", false),
            ("<iqs>", false),
            ("<iq a='", true),
            ("<iqs a='", false),
            ("<", false),
        ] {
            assert_eq!(is(text), Ok(expected), "{text}");
        }
        assert_eq!(is(&format!("<iq{many}>")), Ok(true));
        assert_eq!(is(&format!("<q{many}>")), Ok(false));
        assert!(is("<iq a='' a=''>").is_err());
        assert!(is("<c:iq>").is_err());
    }

    #[test]
    fn only_requests_are_refused() {
        let refused = |text: &'static str| refusal(&Bytes::from_static(text.as_bytes()), None);
        assert!(refused("<iq type='get' id='1' from='a'><x").is_some());
        for text in [
            "<iq type='get' id='1'>",
            "<iq type='get' id='1' from='a",
            "<iq type='result' id='1' from='a'>",
            "<message from='a'>",
            "<presence from='a'>",
        ] {
            assert_eq!(refused(text), None, "{text}");
        }
        let own = refusal(&Bytes::from_static(b"<iq type='set' id='1'>"), Some("a@b"));
        assert!(own.is_some_and(|own| own.starts_with(b"<iq type='error' to='a@b' id='1'>")));
    }
}
