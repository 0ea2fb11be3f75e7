//! Which packets came before (RFC 3711 §3.3.2).

/// How far back a packet may come late.
const WINDOW: u64 = 128;

/// The last 128 indices.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct ReplayWindow {
    /// The highest index, plus one; 0 before there was any.
    end: u64,
    /// Bit n: the index `end - 1 - n` came.
    seen: u128,
}

impl ReplayWindow {
    /// Whether it did not come before, as far as one can tell.
    pub(super) fn is_new(&self, index: u64) -> bool {
        match self.end.checked_sub(index + 1) {
            None => true,
            Some(behind) => behind < WINDOW && self.seen >> behind & 1 == 0,
        }
    }

    /// It came, and is genuine.
    pub(super) fn accept(&mut self, index: u64) {
        match (index + 1).checked_sub(self.end) {
            Some(ahead) if ahead > 0 => {
                self.seen = u32::try_from(ahead)
                    .ok()
                    .and_then(|ahead| self.seen.checked_shl(ahead))
                    .unwrap_or(0)
                    | 1;
                self.end = index + 1;
            }
            Some(_) | None => {
                let behind = self.end - 1 - index;
                if behind < WINDOW {
                    self.seen |= 1 << behind;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Against a set that forgets nothing.
        #[test]
        fn each_index_once(steps in prop::collection::vec((-140..140_i64, prop::bool::weighted(0.05)), 1..300)) {
            let (mut window, mut seen, mut highest) = (ReplayWindow::default(), BTreeSet::new(), 500_i64);
            for (step, jump) in steps {
                let index = (highest + step + if jump { 1_000 } else { 0 }).max(0);
                let (known, old) = (seen.contains(&index), !seen.is_empty() && highest - index >= WINDOW as i64);
                prop_assert_eq!(window.is_new(index as u64), !known && !old);
                if !known && !old {
                    window.accept(index as u64);
                    highest = if seen.is_empty() { index } else { highest.max(index) };
                    seen.insert(index);
                }
            }
        }
    }
}
