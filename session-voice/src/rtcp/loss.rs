//! Which packets were lost, one by one (RFC 3611 §4.1): what tells bursts from chance.

/// Packets that a [`ReceivedMap`] remembers.
const REMEMBERED: u64 = 512;

/// The Loss RLE block of RFC 3611 §4.1, where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossRuns<'a> {
    /// Who measured.
    pub sender: u32,
    /// Whose packets.
    pub source: u32,
    /// The first sequence number that is reported.
    pub begin: u16,
    /// The one behind the last.
    pub end: u16,
    pub(super) chunks: &'a [u8],
}

/// How many packets were lost, and in how many runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LossCount {
    /// Packets that were reported on.
    pub packets: u32,
    /// Of those, packets that were lost.
    pub lost: u32,
    /// Runs of lost packets.
    pub runs: u32,
}

impl LossRuns<'_> {
    /// Whether each packet arrived, from the first to the last that is reported.
    pub fn iter(&self) -> impl Iterator<Item = bool> {
        let chunks = self.chunks.as_chunks::<2>().0.iter();
        let words = chunks.map(|chunk| u16::from_be_bytes(*chunk));
        // A zero fills up.
        let bits = words.take_while(|word| *word != 0).flat_map(|word| {
            let vector = word & 0x8000 != 0;
            let count = if vector { 15 } else { word & 0x3FFF };
            (0..count).map(move |at| {
                if vector {
                    word >> (14 - at) & 1 != 0
                } else {
                    word & 0x4000 != 0
                }
            })
        });
        bits.take(usize::from(self.end.wrapping_sub(self.begin)))
    }

    /// How many were lost, and in how many runs.
    pub fn count(&self) -> LossCount {
        count(self.iter())
    }
}

/// Remembers which of the newest packets of a source arrived.
#[derive(Clone, Debug)]
pub(crate) struct ReceivedMap {
    /// The one behind the newest.
    end: u64,
    /// The first that is to be reported next.
    next: u64,
    bits: [u64; REMEMBERED as usize / 64],
}

impl ReceivedMap {
    pub(crate) fn new() -> Self {
        Self {
            end: 0,
            next: 0,
            bits: [0; REMEMBERED as usize / 64],
        }
    }

    /// A packet came, with the rounds of its sequence number.
    pub(crate) fn insert(&mut self, sequence: u64) {
        if self.end == 0 {
            (self.next, self.end) = (sequence, sequence);
        }
        let from = self.end.max((sequence + 1).saturating_sub(REMEMBERED));
        for skipped in from..=sequence {
            *self.word(skipped) &= !(1 << (skipped % 64));
        }
        self.end = self.end.max(sequence + 1);
        if sequence + REMEMBERED >= self.end {
            *self.word(sequence) |= 1 << (sequence % 64);
        }
    }

    /// The first packet that was not yet reported, and whether each from there on arrived. The newest few wait for the next
    /// report, because they may still come.
    pub(crate) fn report(&mut self) -> Option<(u64, impl Iterator<Item = bool> + Clone + '_)> {
        const MAY_COME: u64 = 8;
        let end = self.end.saturating_sub(MAY_COME);
        let begin = self.next.max(self.end.saturating_sub(REMEMBERED));
        if begin >= end {
            return None;
        }
        self.next = end;
        let bits = &self.bits;
        let arrived = (begin..end).map(move |sequence| {
            let word = bits[(sequence % REMEMBERED) as usize / 64];
            word >> (sequence % 64) & 1 != 0
        });
        Some((begin, arrived))
    }

    fn word(&mut self, sequence: u64) -> &mut u64 {
        &mut self.bits[(sequence % REMEMBERED) as usize / 64]
    }
}

fn count(packets: impl Iterator<Item = bool>) -> LossCount {
    let mut count = LossCount::default();
    let mut arrived_before = true;
    for arrived in packets {
        count.packets += 1;
        count.lost += u32::from(!arrived);
        count.runs += u32::from(!arrived && arrived_before);
        arrived_before = arrived;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Rtcp, RtcpPacket, RtcpWriter};
    use proptest::prelude::*;

    proptest! {
        /// What arrived is reported once and as it was, over any number of reports and a wrap of the numbers.
        #[test]
        fn what_was_lost_comes_over(arrived in prop::collection::vec(prop::bool::weighted(0.8), 1..2_000), first: u16, every in 1..400_usize) {
            let mut map = ReceivedMap::new();
            let first = u64::from(first) + 65_536;
            map.insert(first);
            let mut told = Vec::new();
            for (at, came) in arrived.iter().enumerate() {
                if *came {
                    map.insert(first + 1 + at as u64);
                }
                if at % every == 0 && let Some((begin, bits)) = map.report() {
                    let mut writer = RtcpWriter::new();
                    writer.loss_runs(1, 2, begin as u16, bits);
                    let bytes = writer.finish();
                    let Some(Ok(RtcpPacket::LossRuns(runs))) = Rtcp::new(&bytes).next() else {
                        panic!("{bytes:?}");
                    };
                    prop_assert_eq!((runs.sender, runs.source), (1, 2));
                    prop_assert_eq!(begin, first + told.len() as u64);
                    prop_assert_eq!(u16::from_ne_bytes(runs.begin.to_ne_bytes()), begin as u16);
                    told.extend(runs.iter());
                }
            }
            let sent = [true].into_iter().chain(arrived);
            prop_assert!(sent.zip(&told).all(|(sent, told)| sent == *told));
        }

        #[test]
        fn any_block_is_bounded(chunks in prop::collection::vec(any::<u8>(), 0..64), begin: u16, end: u16) {
            let runs = LossRuns { sender: 0, source: 0, begin, end, chunks: &chunks };
            prop_assert!(runs.iter().count() <= 65_535);
            prop_assert!(runs.count().lost >= runs.count().runs);
        }
    }
}
