//! See [`session_fuzz::description`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| session_fuzz::description(data));
