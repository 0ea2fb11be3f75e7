//! Randomness as an argument.

/// Where random bytes come from.
///
/// The core draws session ids, the seeds of transports and what clients ask for
/// ([`Session::fill_random`](crate::Session::fill_random)) from here and from nowhere else. An application passes one that
/// the operating system fills; a test passes a seeded one and gets the same run every time.
///
/// # For implementers
/// What is drawn must be unpredictable to peers: session ids, transport credentials and keys depend on it.
pub trait Entropy: Send {
    /// Fills `buffer` with random bytes.
    fn fill(&mut self, buffer: &mut [u8]);
}

impl<F: FnMut(&mut [u8]) + Send> Entropy for F {
    fn fill(&mut self, buffer: &mut [u8]) {
        self(buffer);
    }
}

/// A small deterministic generator (SplitMix64) for tests and simulations. **Not for production**: predictable.
#[derive(Clone, Debug)]
pub struct SeededEntropy(u64);

impl SeededEntropy {
    /// The same seed gives the same bytes.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl Entropy for SeededEntropy {
    fn fill(&mut self, buffer: &mut [u8]) {
        for chunk in buffer.chunks_mut(8) {
            let bytes = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&bytes[..chunk.len()]);
        }
    }
}
