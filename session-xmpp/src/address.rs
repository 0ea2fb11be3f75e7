//! Addresses: a JID as text from the wire, and the core's [`Peer`]. Nothing else in this workspace looks into a JID.
//!
//! A [`Peer`] made here is *normalised*: the local part case-folded, the domain in lower case without a final dot, the
//! resource prepared (RFC 6122, by the crate `jid`). So two addresses are the same exactly when the peers are equal, and
//! a session's messages find it however the sender spells its own name.
//!
//! ```
//! use session_xmpp::address;
//! let romeo = address::parse("Romeo@Montague.LIT/orchard")?;
//! assert_eq!(romeo.as_str(), "romeo@montague.lit/orchard");
//! assert_eq!(address::bare(&romeo).as_str(), "romeo@montague.lit");
//! assert_eq!(address::domain(&romeo), "montague.lit");
//! # Ok::<(), address::AddressError>(())
//! ```

use jid::Jid;
use session_core::Peer;

/// The most bytes that a JID can have: three parts of 1,023, and `@` and `/` (RFC 7622 §3.1).
pub const MAX_BYTES: usize = 3 * 1023 + 2;

/// How often preparing may change an address before it is refused.
const PREPARATIONS: usize = 4;

/// Why a text is not an address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// More than [`MAX_BYTES`].
    #[error("longer than {MAX_BYTES} bytes")]
    TooLong,
    /// No JID; in the words of the crate `jid`.
    #[error("{0}")]
    Invalid(String),
    /// Preparing it gives another address each time.
    #[error("no normal form")]
    Unstable,
    /// Not the form of RFC 5122.
    #[error("not an address of the form xmpp:account@domain/resource")]
    Uri,
}

/// The peer with this address, normalised.
///
/// # Errors
/// [`AddressError::TooLong`], [`AddressError::Invalid`], [`AddressError::Unstable`].
pub fn parse(address: &str) -> Result<Peer, AddressError> {
    Ok(from_jid(&parse_jid(address)?))
}

/// The peer with this JID.
pub fn from_jid(jid: &Jid) -> Peer {
    Peer::from(jid.as_str())
}

/// The JID of a peer.
///
/// # Errors
/// As [`parse`]; not for peers made here.
pub fn to_jid(peer: &Peer) -> Result<Jid, AddressError> {
    parse_jid(peer.as_str())
}

/// The account without the device: the bare JID.
pub fn bare(peer: &Peer) -> Peer {
    match peer.device() {
        None => peer.clone(),
        Some(_) => Peer::from(peer.account()),
    }
}

/// The server that the account is on.
pub fn domain(peer: &Peer) -> &str {
    let account = peer.account();
    account
        .split_once('@')
        .map_or(account, |(_, domain)| domain)
}

/// The peer that a URI names, as redirections do: `xmpp:bob@example.org/phone` (RFC 5122 §2.2). A bare JID without
/// `xmpp:` passes too; a query and a fragment are ignored.
///
/// # Errors
/// [`AddressError::Uri`] for escapes that make no text, else as [`parse`].
pub fn from_uri(uri: &str) -> Result<Peer, AddressError> {
    let uri = uri.trim();
    let Some(path) = uri.strip_prefix("xmpp:") else {
        return parse(uri);
    };
    let path = path.split(['?', '#']).next().unwrap_or_default();
    if path.len() > 3 * MAX_BYTES {
        return Err(AddressError::TooLong);
    }
    parse(&unescape(path).ok_or(AddressError::Uri)?)
}

/// The URI of a peer (RFC 5122 §2.2).
pub fn to_uri(peer: &Peer) -> String {
    let mut uri = String::with_capacity("xmpp:".len() + peer.as_str().len());
    uri.push_str("xmpp:");
    for character in peer.as_str().chars() {
        if is_escaped(character) {
            // Only ASCII is escaped, so that this is one byte.
            uri.push_str(&format!("%{:02X}", u32::from(character)));
        } else {
            uri.push(character);
        }
    }
    uri
}

fn parse_jid(address: &str) -> Result<Jid, AddressError> {
    // The preparation of the parts takes time with their length, and is not limited by itself.
    if address.len() > MAX_BYTES {
        return Err(AddressError::TooLong);
    }
    let mut jid = new_jid(address)?;
    if jid.as_str() == address {
        return Ok(jid);
    }
    // Preparing can give what preparing changes again (U+03F9 becomes a capital sigma), and equal peers need equal text.
    for _ in 0..PREPARATIONS {
        let again = new_jid(jid.as_str())?;
        if again == jid {
            return Ok(jid);
        }
        jid = again;
    }
    Err(AddressError::Unstable)
}

/// One preparation, and the domain's final dot stripped (RFC 7622 §3.2): the crate `jid` keeps the dot if nothing else has
/// to be changed, and then miscounts where the resource begins.
fn new_jid(address: &str) -> Result<Jid, AddressError> {
    let end = address.find('/').unwrap_or(address.len());
    let (account, device) = address.split_at(end);
    let jid = match account.strip_suffix('.') {
        None => Jid::new(address),
        Some(account) if account.ends_with('.') => Err(jid::Error::Idna),
        Some(account) => Jid::new(&[account, device].concat()),
    };
    jid.map_err(|error| AddressError::Invalid(error.to_string()))
}

/// What a URI's path cannot hold as it is (RFC 3986 §3.3; RFC 5122 §2.2 keeps the rest).
fn is_escaped(character: char) -> bool {
    character.is_ascii_control() || " \"#%<>?[\\]^`{|}".contains(character)
}

/// Percent escapes undone. `None` if one is malformed, or what they spell is not UTF-8.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, after)) = rest.split_first() {
        if byte != b'%' {
            bytes.push(byte);
            rest = after;
            continue;
        }
        let (digits, after) = after.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        if !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn one_person_has_one_peer() {
        // S20: libjingle compared the text.
        let spellings = [
            "romeo@montague.lit/orchard",
            "ROMEO@montague.lit/orchard",
            "romeo@MONTAGUE.lit/orchard",
            "romeo@montague.lit./orchard",
            "Romeo@Montague.Lit./orchard",
        ];
        for spelling in spellings {
            assert_eq!(
                parse(spelling).unwrap(),
                Peer::from("romeo@montague.lit/orchard")
            );
        }
        assert_eq!(
            parse("Σίσυφος@example.org").unwrap(),
            parse("σίσυφοσ@example.org").unwrap()
        );
    }

    #[test]
    fn resources_keep_their_case() {
        assert_ne!(parse("a@b/Desk").unwrap(), parse("a@b/desk").unwrap());
        assert_eq!(parse("a@b/x@y/z").unwrap().device(), Some("x@y/z"));
    }

    #[test]
    fn what_is_no_address_is_refused() {
        let long = format!("{}@b", "a".repeat(MAX_BYTES));
        assert_eq!(parse(&long), Err(AddressError::TooLong));
        for bad in [
            "", "@b", "a@", "a@b/", "a@b@c", "a b@c", "a@b c", "\u{0}@b", "a@-b-.", ".",
        ] {
            assert!(
                matches!(parse(bad), Err(AddressError::Invalid(_))),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn uris() {
        let plain = from_uri("xmpp:Bob@example.org/phone").unwrap();
        assert_eq!(plain.as_str(), "bob@example.org/phone");
        assert_eq!(to_uri(&plain), "xmpp:bob@example.org/phone");
        assert_eq!(from_uri(" bob@example.org/phone\n").unwrap(), plain);
        assert_eq!(
            from_uri("xmpp:bob@example.org/phone?call;x=y#z").unwrap(),
            plain
        );
        let odd = parse("bob@example.org/a b?%é").unwrap();
        assert_eq!(to_uri(&odd), "xmpp:bob@example.org/a%20b%3F%25é");
        assert_eq!(from_uri(&to_uri(&odd)).unwrap(), odd);
        for bad in ["xmpp:a@b/%", "xmpp:a@b/%4", "xmpp:a@b/%+4", "xmpp:a@b/%FF"] {
            assert_eq!(from_uri(bad), Err(AddressError::Uri), "{bad}");
        }
    }

    fn address() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<String>(),
            "[a-zA-Zß-ỿ\u{1F600}.@/%-]{0,20}",
            "[a-zA-Zà-ɏͰ-Ͽ֐-׿]{1,4}@[a-zA-Zß-ɏ.]{1,8}\\.?(/.{1,8})?",
        ]
    }

    proptest! {
        #[test]
        fn normalising_twice_is_normalising_once(text in address()) {
            if let Ok(peer) = parse(&text) {
                prop_assert_eq!(parse(peer.as_str()), Ok(peer.clone()));
                prop_assert_eq!(&from_jid(&to_jid(&peer).unwrap()), &peer);
                prop_assert_eq!(from_uri(&to_uri(&peer)), Ok(peer));
            }
        }
    }
}
