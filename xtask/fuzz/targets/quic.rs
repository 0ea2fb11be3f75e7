//! See [`session_fuzz::quic`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| session_fuzz::quic(data));
