//! The start tag of a stanza: as much of it as a server needs in order to pass the stanza on.

use bytes::Bytes;
use quick_xml::escape::{escape, unescape};
use std::{borrow::Cow, ops::Range};

/// Attributes of a stanza that are looked at. RFC 6120 §8.1 knows five, with `xml:lang`.
const ATTRIBUTES_MAX: usize = 64;

/// The start tag of a stanza.
#[derive(Debug)]
pub(crate) struct Head<'a> {
    stanza: &'a Bytes,
    name: &'a str,
    /// Name, value as written, and where both stand with the white space before them.
    attributes: Vec<(&'a str, &'a str, Range<usize>)>,
    name_end: usize,
}

impl<'a> Head<'a> {
    /// Reads it; `None` when it is none.
    pub(crate) fn parse(stanza: &'a Bytes) -> Option<Self> {
        let text = std::str::from_utf8(stanza).ok()?;
        let inner = text.strip_prefix('<')?;
        let name_end = 1 + inner.find(|c: char| is_space(c) || c == '/' || c == '>')?;
        let name = &text[1..name_end];
        let mut attributes = Vec::new();
        let mut at = name_end;
        loop {
            let rest = text[at..].trim_start_matches(is_space);
            if rest.starts_with('>') || rest.starts_with("/>") {
                break;
            }
            let from = at;
            let (attribute, rest) = rest.split_once('=')?;
            let rest = rest.trim_start_matches(is_space);
            let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''))?;
            let (value, rest) = rest[1..].split_once(quote)?;
            let attribute = attribute.trim_end_matches(is_space);
            if value.contains('<') || attributes.len() == ATTRIBUTES_MAX {
                return None;
            }
            at = text.len() - rest.len();
            attributes.push((attribute, value, from..at));
        }
        (!name.is_empty()).then_some(Self {
            stanza,
            name,
            attributes,
            name_end,
        })
    }

    /// The value of an attribute. Absent when it holds a reference that XML does not know by itself.
    pub(crate) fn attribute(&self, name: &str) -> Option<Cow<'a, str>> {
        let found = self.attributes.iter().find(|(n, _, _)| *n == name)?;
        unescape(found.1).ok()
    }

    /// Whether somebody waits for an answer.
    pub(crate) fn is_request(&self) -> bool {
        self.name == "iq" && matches!(self.attribute("type").as_deref(), Some("get" | "set"))
    }

    /// The stanza with this `from`, whatever it had before (RFC 6120 §8.1.2.1).
    pub(crate) fn stamped(&self, from: &str) -> Bytes {
        let mut out = Vec::with_capacity(self.stanza.len() + from.len() + " from=''".len());
        out.extend_from_slice(&self.stanza[..self.name_end]);
        out.extend_from_slice(format!(" from='{}'", escape(from)).as_bytes());
        let mut at = self.name_end;
        for (name, _, range) in &self.attributes {
            if *name == "from" {
                out.extend_from_slice(&self.stanza[at..range.start]);
                at = range.end;
            }
        }
        out.extend_from_slice(&self.stanza[at..]);
        out.into()
    }

    /// The error that answers it, from whom it was for; `None` for what is not answered (RFC 6120 §8.3.1).
    pub(crate) fn error(&self, sender: &str, kind: &str, condition: &str) -> Option<Bytes> {
        let answered = match self.name {
            "iq" => self.is_request(),
            "message" => self.attribute("type").as_deref() != Some("error"),
            _ => false,
        };
        if !answered {
            return None;
        }
        let mut out = format!("<{} type='error' to='{}'", self.name, escape(sender));
        for (theirs, ours) in [("to", "from"), ("id", "id")] {
            if let Some(value) = self.attribute(theirs) {
                out += &format!(" {ours}='{}'", escape(&*value));
            }
        }
        out += &format!(
            "><error type='{kind}'><{condition} xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></{}>",
            self.name
        );
        Some(out.into())
    }
}

/// White space of XML.
fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stanza(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn attributes_are_found_and_unescaped() {
        let bytes = stanza("<iq\n to = \"a&amp;b@c/d'e\" type='set'\tid='1'><x to='no'/></iq>");
        let head = Head::parse(&bytes).unwrap();
        assert_eq!(head.attribute("to").as_deref(), Some("a&b@c/d'e"));
        assert_eq!(head.attribute("id").as_deref(), Some("1"));
        assert_eq!(head.attribute("from"), None);
        assert!(head.is_request());
    }

    #[test]
    fn the_sender_is_stamped_over_what_was_claimed() {
        for (before, after) in [
            (
                "<iq id='1' from='mallory' to='b'/>",
                "<iq from='a&amp;&apos;b' id='1' to='b'/>",
            ),
            ("<message/>", "<message from='a&amp;&apos;b'/>"),
            (
                "<iq from='x' from='y'>t</iq>",
                "<iq from='a&amp;&apos;b'>t</iq>",
            ),
        ] {
            let bytes = stanza(before);
            assert_eq!(Head::parse(&bytes).unwrap().stamped("a&'b"), after);
        }
    }

    #[test]
    fn only_what_is_answered_gets_an_error() {
        let error = |text| {
            let bytes = stanza(text);
            Head::parse(&bytes)
                .unwrap()
                .error("a", "cancel", "service-unavailable")
        };
        assert_eq!(
            error("<iq type='get' id='&lt;1' to='b/&amp;'/>").unwrap(),
            "<iq type='error' to='a' from='b/&amp;' id='&lt;1'><error type='cancel'>\
             <service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>"
        );
        assert!(error("<message to='b'/>").is_some());
        assert!(error("<message type='error' to='b'/>").is_none());
        assert!(error("<iq type='result' id='1' to='b'/>").is_none());
        assert!(error("<presence to='b'/>").is_none());
    }

    #[test]
    fn what_is_no_start_tag_is_refused() {
        for text in [
            "",
            "<",
            "<>",
            "x<iq/>",
            "<iq",
            "<iq a",
            "<iq a=b>",
            "<iq a='b>",
            "<iq a='<'>",
            "<iq /",
            "< iq/>",
            "<iq / >",
        ] {
            let bytes = stanza(text);
            assert!(Head::parse(&bytes).is_none(), "{text:?}");
        }
        assert!(Head::parse(&Bytes::from_static(b"<iq \xff='1'/>")).is_none());
    }
}
