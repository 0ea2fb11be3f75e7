//! Segments of a peer that does not mean well.

/// Feeds `data` to a stream as segments, at times that `data` says.
pub fn pseudotcp(data: &[u8]) {
    transport_p2p::pseudotcp::fuzz::fuzz_segments(data);
}
