//! SOCKS5 framing comes to the same verdict however its bytes are cut.

/// See [`transport_relay::fuzz::socks5`].
pub fn socks5(data: &[u8]) {
    transport_relay::fuzz::socks5(data);
}
