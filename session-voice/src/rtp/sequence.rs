//! Sequence numbers that do not wrap.

/// Makes 16-bit sequence numbers into 64-bit ones that go on counting: each is taken as the one nearest to the highest
/// that was seen (RFC 3711 §3.3.1, RFC 3550 appendix A.1).
///
/// ```
/// use session_voice::SequenceExtender;
///
/// let mut extender = SequenceExtender::default();
/// assert_eq!(extender.extend(65_535), 65_535);
/// assert_eq!(extender.extend(0), 65_536);
/// // Late, so of the round before.
/// assert_eq!(extender.extend(65_534), 65_534);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceExtender {
    highest: Option<u64>,
}

impl SequenceExtender {
    /// What `sequence` stands for, which becomes the highest if it is ahead.
    pub fn extend(&mut self, sequence: u16) -> u64 {
        let extended = self.guess(sequence);
        self.accept(extended);
        extended
    }

    /// What `sequence` stands for. Nothing changes: for a packet that is not yet known to be genuine.
    pub fn guess(&self, sequence: u16) -> u64 {
        let Some(highest) = self.highest else {
            return u64::from(sequence);
        };
        // The distance ahead, as a signed number of 16 bits; exactly half a round counts as behind.
        let ahead = i64::from(sequence.wrapping_sub(highest as u16) as i16);
        match highest.checked_add_signed(ahead) {
            Some(extended) => extended,
            // Before the first round there is none.
            None => u64::from(sequence),
        }
    }

    /// A packet of this number was genuine.
    pub fn accept(&mut self, extended: u64) {
        self.highest = self.highest.max(Some(extended));
    }

    /// The highest so far.
    pub fn highest(&self) -> Option<u64> {
        self.highest
    }
}
