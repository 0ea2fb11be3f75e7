//! What two of ours agree on, and others ignore.

/// The namespace of everything that this project adds to the specifications' elements. It is of nobody's domain and of no
/// registry, so that nobody else can mean something by it (RFC 9562 §4).
pub const OWN: &str = "urn:uuid:5f0c6f0e-3a57-4b7a-9d1e-8c1b7c3d2a46";
