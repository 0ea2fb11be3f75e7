//! The client of Google's relays.

/// See [`transport_relay::fuzz::google_relay`].
pub fn google_relay(data: &[u8]) {
    transport_relay::fuzz::google_relay(data);
}
