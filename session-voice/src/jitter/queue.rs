//! The frames that wait, by their timestamps: few, nearly always in order, and touched with every packet, so that they lie
//! beside each other, always in the same place.

use super::Waiting;
use crate::lines::prefetch_all;
use smallvec::SmallVec;

/// More than wait on most networks.
const FEW: usize = 4;

/// Sorted by timestamp, each of which is there once. The names of the methods are those of a map.
#[derive(Clone, Debug, Default)]
pub(super) struct Queue(SmallVec<[(u64, Waiting); FEW]>);

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Asks the processor for the frames, and for where the next one will be.
    pub(super) fn prefetch(&self) {
        prefetch_all(&self.0[..self.0.len().min(FEW)]);
    }

    /// The earliest timestamp.
    pub(super) fn first(&self) -> Option<u64> {
        self.0.first().map(|(timestamp, _)| *timestamp)
    }

    /// Whether the first is no frame but a pause, before this timestamp.
    pub(super) fn begins_with_pause(&self, before: u64) -> bool {
        let first = self.0.first();
        first.is_some_and(|(timestamp, first)| first.pauses && *timestamp < before)
    }

    /// Whether the last is no frame but a pause.
    pub(super) fn ends_with_pause(&self) -> bool {
        self.0.last().is_some_and(|(_, last)| last.pauses)
    }

    pub(super) fn get(&self, timestamp: u64) -> Option<&Waiting> {
        let at = self.position(timestamp).ok()?;
        self.0.get(at).map(|(_, frame)| frame)
    }

    /// A frame whose timestamp is not there yet.
    pub(super) fn insert(&mut self, timestamp: u64, frame: Waiting) {
        if let Err(at) = self.position(timestamp) {
            self.0.insert(at, (timestamp, frame));
        }
    }

    pub(super) fn remove(&mut self, timestamp: u64) -> Option<Waiting> {
        let at = self.position(timestamp).ok()?;
        Some(self.0.remove(at).1)
    }

    pub(super) fn pop_first(&mut self) -> Option<(u64, Waiting)> {
        (!self.0.is_empty()).then(|| self.0.remove(0))
    }

    /// Where it is, or where it belongs: most often at one of the ends.
    fn position(&self, timestamp: u64) -> Result<usize, usize> {
        match (self.0.first(), self.0.last()) {
            (_, Some((last, _))) if *last < timestamp => Err(self.0.len()),
            (Some((first, _)), _) if *first == timestamp => Ok(0),
            _ => self.0.binary_search_by_key(&timestamp, |(known, _)| *known),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// It does what a map does.
        #[test]
        fn as_a_map(steps in prop::collection::vec((0..4, 0..40_u64), 1..200)) {
            let (mut queue, mut map) = (Queue::default(), BTreeMap::new());
            for (step, timestamp) in steps {
                match step {
                    0 | 1 => {
                        prop_assert_eq!(queue.get(timestamp).is_some(), map.contains_key(&timestamp));
                        let copies = map.len() as u16;
                        queue.insert(timestamp, Waiting { copies, ..Waiting::default() });
                        map.entry(timestamp).or_insert(copies);
                    }
                    2 => {
                        let removed = queue.remove(timestamp).map(|frame| frame.copies);
                        prop_assert_eq!(removed, map.remove(&timestamp));
                    }
                    _ => {
                        let popped = queue.pop_first().map(|(at, frame)| (at, frame.copies));
                        prop_assert_eq!(popped, map.pop_first());
                    }
                }
                prop_assert_eq!(queue.len(), map.len());
                prop_assert_eq!(queue.is_empty(), map.is_empty());
                prop_assert_eq!(queue.first(), map.keys().next().copied());
                let found = queue.get(timestamp).map(|frame| frame.copies);
                prop_assert_eq!(found, map.get(&timestamp).copied());
            }
        }
    }
}
