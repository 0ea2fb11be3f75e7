//! See [`session_fuzz::stun`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| session_fuzz::stun(data));
