//! Chunks of a peer that does not mean well.

/// Feeds `data` to an association as chunks, between calls of its application that `data` says too.
pub fn sctp(data: &[u8]) {
    transport_p2p::sctp::fuzz::fuzz_chunks(data);
}
