//! Namespaces that this crate gives a meaning to.

/// A client's stream (RFC 6120 §4.8.2).
pub const CLIENT: &str = "jabber:client";
/// A server's stream (RFC 6120 §4.8.2).
pub const SERVER: &str = "jabber:server";
/// A component's stream (XEP-0114 §3).
pub const COMPONENT: &str = "jabber:component:accept";
/// The conditions of error replies (RFC 6120 §8.3.3).
pub const STANZAS: &str = "urn:ietf:params:xml:ns:xmpp-stanzas";
/// Jingle (XEP-0166).
pub const JINGLE: &str = "urn:xmpp:jingle:1";
/// Jingle's own error conditions (XEP-0166 §7.5).
pub const JINGLE_ERRORS: &str = "urn:xmpp:jingle:errors:1";
/// Groups of contents (XEP-0338).
pub const GROUPING: &str = "urn:xmpp:jingle:apps:grouping:0";
/// libjingle's additions to Jingle, `<group/>` among them.
pub const GOOGLE_JINGLE: &str = "google:jingle";
/// libjingle's `<session/>`, and what has no namespace of its own in it.
pub const GOOGLE_SESSION: &str = session_core::GOOGLE_SESSION;
/// libjingle's peer-to-peer transport and its candidates.
pub const GOOGLE_P2P: &str = session_core::GOOGLE_P2P;
/// libjingle's description of an audio call.
pub const GOOGLE_PHONE: &str = "http://www.google.com/session/phone";
/// libjingle's description of a video call, the audio included.
pub const GOOGLE_VIDEO: &str = "http://www.google.com/session/video";
