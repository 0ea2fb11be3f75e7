//! Namespaces of a login.

pub(super) const BIND: &str = "urn:ietf:params:xml:ns:xmpp-bind";
pub(super) const BIND2: &str = "urn:xmpp:bind:0";
pub(super) const LIMITS: &str = "urn:xmpp:stream-limits:0";
pub(super) const SASL: &str = "urn:ietf:params:xml:ns:xmpp-sasl";
pub(super) const SASL2: &str = "urn:xmpp:sasl:2";
pub(super) const SASL_CB: &str = "urn:xmpp:sasl-cb:0";
pub(super) const SESSION: &str = "urn:ietf:params:xml:ns:xmpp-session";
pub(super) const SM: &str = "urn:xmpp:sm:3";
pub(super) const STREAM_ERRORS: &str = "urn:ietf:params:xml:ns:xmpp-streams";
pub(super) const TLS: &str = "urn:ietf:params:xml:ns:xmpp-tls";
