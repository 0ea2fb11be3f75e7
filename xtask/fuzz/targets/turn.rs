//! See [`session_fuzz::turn`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| session_fuzz::turn(data));
