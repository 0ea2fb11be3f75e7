//! With what a side closes: codes of CONNECTION_CLOSE (RFC 9000 §19.19, type 0x1d) and of RESET_STREAM and STOP_SENDING.

/// It is let go by whoever used it. Signalling says why.
pub const GONE: u32 = 0;

/// It cannot go on.
pub const FAILED: u32 = 1;
