//! The XML declaration at the start of a stream.

use session_core::ElementLimits;

use super::attributes::{self, RawAttribute};
use super::error::{XmlError, XmlErrorKind};

/// Checks `<?xml …?>` (XML 1.0 §2.8): version 1.0, encoding UTF-8 if any, in this order.
pub(crate) fn check_declaration(bytes: &[u8]) -> Result<(), XmlError> {
    let malformed = XmlError::new(XmlErrorKind::Declaration, 0);
    let text = std::str::from_utf8(bytes).map_err(|_| malformed)?;
    let (Some(_), Some(_)) = (text.strip_prefix("<?xml"), text.strip_suffix("?>")) else {
        return Err(malformed);
    };
    let mut found: Vec<RawAttribute> = Vec::new();
    let (start, end) = ("<?xml".len(), text.len() - "?>".len());
    if start > end {
        return Err(malformed);
    }
    attributes::scan(text, start..end, &ElementLimits::default(), &mut found)
        .map_err(|_| malformed)?;
    let value = |attribute: &RawAttribute| text.get(attribute.value()).unwrap_or_default();
    let mut rest = found.iter().peekable();
    let mut take = |name: &str| {
        rest.next_if(|attribute| text.get(attribute.qualified_name()) == Some(name))
            .map(value)
    };
    if take("version") != Some("1.0") {
        return Err(malformed);
    }
    if take("encoding").is_some_and(|encoding| !encoding.eq_ignore_ascii_case("utf-8")) {
        return Err(XmlError::new(XmlErrorKind::Encoding, 0));
    }
    if take("standalone").is_some_and(|standalone| !matches!(standalone, "yes" | "no")) {
        return Err(malformed);
    }
    if rest.next().is_some() {
        Err(malformed)
    } else {
        Ok(())
    }
}
