//! Sequence numbers without wrap-around, and sorted sets of ranges of them.

use std::{collections::VecDeque, ops::Range};

/// Where 32-bit sequence number 0 of the first lap lies, so that no difference of two positions can fall below zero.
pub(crate) const ORIGIN: u64 = 1 << 32;

/// The position that the wire number `wire` means, given one that it must be near to (within 2 GiB).
///
/// Positions count on past 4 GiB where the wire's numbers wrap, so that plain comparisons hold for transfers of any
/// length.
pub(crate) fn expand(near: u64, wire: u32) -> u64 {
    let distance = wire.wrapping_sub(near as u32).cast_signed();
    near.wrapping_add_signed(distance.into())
}

/// A sorted set of disjoint, non-adjacent ranges.
#[derive(Debug, Default)]
pub(crate) struct Ranges {
    ranges: VecDeque<Range<u64>>,
    length: u64,
}

impl Ranges {
    /// Sum of the lengths of all ranges, in bytes.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// How many ranges there are.
    pub(crate) fn count(&self) -> usize {
        self.ranges.len()
    }

    pub(crate) fn first(&self) -> Option<&Range<u64>> {
        self.ranges.front()
    }

    pub(crate) fn last(&self) -> Option<&Range<u64>> {
        self.ranges.back()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Range<u64>> {
        self.ranges.iter()
    }

    pub(crate) fn clear(&mut self) {
        self.ranges.clear();
        self.length = 0;
    }

    /// Adds a range, merging it with those that it touches.
    pub(crate) fn insert(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let from = self.ranges.partition_point(|held| held.end < range.start);
        let mut to = from;
        while let Some(held) = self.ranges.get(to).filter(|held| held.start <= range.end) {
            range.start = range.start.min(held.start);
            range.end = range.end.max(held.end);
            self.length -= held.end - held.start;
            to += 1;
        }
        self.length += range.end - range.start;
        if from == to {
            self.ranges.insert(from, range);
        } else {
            self.ranges[from] = range;
            self.ranges.drain(from + 1..to);
        }
    }

    /// Takes a range out of the set, cutting those that it overlaps.
    pub(crate) fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let mut at = self.ranges.partition_point(|held| held.end <= range.start);
        while let Some(held) = self
            .ranges
            .get(at)
            .filter(|held| held.start < range.end)
            .cloned()
        {
            self.length -= held.end.min(range.end) - held.start.max(range.start);
            match (held.start < range.start, held.end > range.end) {
                (true, true) => {
                    self.ranges[at].end = range.start;
                    self.ranges.insert(at + 1, range.end..held.end);
                    return;
                }
                (true, false) => {
                    self.ranges[at].end = range.start;
                    at += 1;
                }
                (false, true) => {
                    self.ranges[at].start = range.end;
                    return;
                }
                (false, false) => {
                    self.ranges.remove(at);
                }
            }
        }
    }

    /// Forgets everything below `position`.
    pub(crate) fn remove_below(&mut self, position: u64) {
        while let Some(first) = self
            .ranges
            .front_mut()
            .filter(|first| first.start < position)
        {
            if first.end > position {
                self.length -= position - first.start;
                first.start = position;
                return;
            }
            self.length -= first.end - first.start;
            self.ranges.pop_front();
        }
    }

    /// The parts of `span` that are not in the set, in order.
    pub(crate) fn gaps(&self, span: Range<u64>) -> impl Iterator<Item = Range<u64>> + '_ {
        let first = self.ranges.partition_point(|held| held.end <= span.start);
        let mut at = span.start;
        let mut held = self.ranges.range(first..);
        std::iter::from_fn(move || {
            while at < span.end {
                let (end, next) = match held.next() {
                    Some(block) if block.start < span.end => (block.start, block.end),
                    _ => (span.end, span.end),
                };
                let gap = at..end;
                at = next;
                if !gap.is_empty() {
                    return Some(gap);
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn wire_numbers_expand_across_laps() {
        assert_eq!(expand(ORIGIN, 0), ORIGIN);
        assert_eq!(expand(ORIGIN, u32::MAX), ORIGIN - 1);
        assert_eq!(expand(ORIGIN + 0xffff_fff0, 5), 2 * ORIGIN + 5);
        assert_eq!(expand(9 * ORIGIN + 5, 0xffff_fff0), 9 * ORIGIN - 16);
        assert_eq!(expand(ORIGIN, 1 << 31), ORIGIN - (1 << 31));
    }

    proptest! {
        #[test]
        fn ranges_are_a_set(ops in prop::collection::vec((0..4u8, 0..200u64, 0..40u64), 1..80)) {
            let mut model = BTreeSet::new();
            let mut ranges = Ranges::default();
            for (op, start, length) in ops {
                let range = start..start + length;
                match op {
                    0 | 1 => {
                        model.extend(range.clone());
                        ranges.insert(range);
                    }
                    2 => {
                        model.retain(|at| !range.contains(at));
                        ranges.remove(range);
                    }
                    _ => {
                        model.retain(|at| *at >= start / 4);
                        ranges.remove_below(start / 4);
                    }
                }
                let held: Vec<u64> = ranges.ranges.iter().cloned().flatten().collect();
                prop_assert_eq!(&held, &model.iter().copied().collect::<Vec<_>>());
                prop_assert_eq!(ranges.length(), held.len() as u64);
                prop_assert!(ranges.ranges.iter().zip(ranges.ranges.iter().skip(1)).all(|(a, b)| a.end < b.start));
                let gaps: Vec<u64> = ranges.gaps(20..150).flatten().collect();
                prop_assert_eq!(gaps, (20..150).filter(|at| !model.contains(at)).collect::<Vec<_>>());
            }
        }
    }
}
