//! See [`session_fuzz::google_ice`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| session_fuzz::google_ice(data));
