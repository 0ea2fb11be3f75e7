//! Signals in sigslot's style: announced to whoever listens, and never a lost ending.
//!
//! A signal announces; a getter tells. Everything that a signal carries can be read again, so a listener that lags
//! loses nothing but the intermediate steps, and it is told how many.
//!
//! A signal without listeners is a counter and a value: it allocates when the first [`Slot`] connects.

use std::{fmt, sync::OnceLock};
use tokio::sync::{
    broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    watch,
};

/// How many values a slow listener may be behind before it gets a [`Notice::Snapshot`] instead.
pub const SIGNAL_CAPACITY: usize = 16;

/// Announces values of `T` to any number of [`Slot`]s. Emitting never blocks and never fails.
pub struct Signal<T> {
    sequence: u64,
    /// Boxed, because most signals of most sessions never emit.
    last: Option<Box<T>>,
    outlets: OnceLock<Outlets<T>>,
}

struct Outlets<T> {
    state: watch::Sender<(u64, Option<T>)>,
    events: broadcast::Sender<(u64, T)>,
}

/// What a [`Slot`] receives, in this order: one snapshot, then values (and a snapshot after each gap), then the end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice<T> {
    /// Where things stood on connecting, and where they stand whenever values were missed.
    Snapshot {
        /// How many values were missed since the previous notice.
        missed: u64,
        /// The value emitted last, if there ever was one.
        last: Option<T>,
    },
    /// A value, in order and without a gap since the previous notice.
    Value(T),
    /// The signal is gone. Exactly once, and the last notice.
    Ended,
}

impl<T: Clone> Signal<T> {
    /// A signal that has emitted nothing.
    pub const fn new() -> Self {
        Self {
            sequence: 0,
            last: None,
            outlets: OnceLock::new(),
        }
    }

    /// Announces `value`.
    pub fn emit(&mut self, value: T) {
        self.sequence += 1;
        if let Some(outlets) = self.outlets.get() {
            // The state goes first: a value that a slot holds is never newer than the snapshot it can read.
            outlets
                .state
                .send_replace((self.sequence, Some(value.clone())));
            let _ = outlets.events.send((self.sequence, value.clone()));
        }
        self.last = Some(Box::new(value));
    }

    /// The value emitted last.
    pub fn last(&self) -> Option<&T> {
        self.last.as_deref()
    }

    /// How many values were emitted.
    pub fn count(&self) -> u64 {
        self.sequence
    }

    /// A new listener. Its first notice is a snapshot of this moment, whenever it is read; what is emitted from now on
    /// follows value by value, up to [`SIGNAL_CAPACITY`] that nobody has read.
    pub fn connect(&self) -> Slot<T> {
        let last = || self.last.as_deref().cloned();
        let outlets = self.outlets.get_or_init(|| Outlets {
            state: watch::Sender::new((self.sequence, last())),
            events: broadcast::Sender::new(SIGNAL_CAPACITY),
        });
        Slot {
            events: outlets.events.subscribe(),
            state: outlets.state.subscribe(),
            seen: self.sequence,
            phase: Phase::Fresh(last()),
        }
    }
}

impl<T: Clone> Default for Signal<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: fmt::Debug> fmt::Debug for Signal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signal")
            .field("count", &self.sequence)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}

/// One listener of a [`Signal`]. Independent of the signal's owner and of any lock around it.
pub struct Slot<T> {
    state: watch::Receiver<(u64, Option<T>)>,
    events: broadcast::Receiver<(u64, T)>,
    seen: u64,
    phase: Phase<T>,
}

enum Phase<T> {
    /// Connected, and with what was emitted last before.
    Fresh(Option<T>),
    Live,
    Done,
}

impl<T: Clone> Slot<T> {
    /// The next notice; `None` after [`Notice::Ended`]. Needs no runtime of its own and is cancel-safe.
    pub async fn next(&mut self) -> Option<Notice<T>> {
        if let Some(first) = self.first() {
            return Some(first);
        }
        if matches!(self.phase, Phase::Done) {
            return None;
        }
        loop {
            match self.events.recv().await {
                Ok((sequence, value)) => {
                    if let Some(notice) = self.fresh(sequence, value) {
                        return Some(notice);
                    }
                }
                Err(RecvError::Lagged(_)) => return Some(self.snapshot()),
                Err(RecvError::Closed) => return Some(self.end()),
            }
        }
    }

    /// The next notice that is already there.
    pub fn try_next(&mut self) -> Option<Notice<T>> {
        if let Some(first) = self.first() {
            return Some(first);
        }
        if matches!(self.phase, Phase::Done) {
            return None;
        }
        loop {
            match self.events.try_recv() {
                Ok((sequence, value)) => {
                    if let Some(notice) = self.fresh(sequence, value) {
                        return Some(notice);
                    }
                }
                Err(TryRecvError::Lagged(_)) => return Some(self.snapshot()),
                Err(TryRecvError::Empty) => return None,
                Err(TryRecvError::Closed) => return Some(self.end()),
            }
        }
    }

    /// Waits until a value or a snapshot satisfies `wanted`; `None` when the signal ends first.
    pub async fn wait_for(&mut self, mut wanted: impl FnMut(&T) -> bool) -> Option<T> {
        while let Some(notice) = self.next().await {
            match notice {
                Notice::Snapshot {
                    last: Some(value), ..
                }
                | Notice::Value(value)
                    if wanted(&value) =>
                {
                    return Some(value);
                }
                Notice::Snapshot { .. } | Notice::Value(_) => {}
                Notice::Ended => return None,
            }
        }
        None
    }

    /// Where things stood on connecting, once.
    fn first(&mut self) -> Option<Notice<T>> {
        let Phase::Fresh(last) = &mut self.phase else {
            return None;
        };
        let (missed, last) = (0, last.take());
        self.phase = Phase::Live;
        Some(Notice::Snapshot { missed, last })
    }

    fn fresh(&mut self, sequence: u64, value: T) -> Option<Notice<T>> {
        (sequence > self.seen).then(|| {
            self.seen = sequence;
            Notice::Value(value)
        })
    }

    fn snapshot(&mut self) -> Notice<T> {
        let state = self.state.borrow_and_update();
        let (missed, last) = (state.0 - self.seen, state.1.clone());
        self.seen = state.0;
        Notice::Snapshot { missed, last }
    }

    fn end(&mut self) -> Notice<T> {
        self.phase = Phase::Done;
        Notice::Ended
    }
}

impl<T> fmt::Debug for Slot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot")
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_slot_sees_where_things_stand_then_what_follows_then_the_end() {
        let mut signal = Signal::new();
        signal.emit(1);
        signal.emit(2);
        let mut slot = signal.connect();
        signal.emit(3);
        assert_eq!(
            slot.try_next(),
            Some(Notice::Snapshot {
                missed: 0,
                last: Some(2)
            }),
            "the first snapshot is of the moment of connecting"
        );
        assert_eq!(slot.try_next(), Some(Notice::Value(3)));
        signal.emit(4);
        assert_eq!(slot.try_next(), Some(Notice::Value(4)));
        assert_eq!(slot.try_next(), None);
        signal.emit(5);
        drop(signal);
        assert_eq!(slot.try_next(), Some(Notice::Value(5)));
        assert_eq!(slot.try_next(), Some(Notice::Ended));
        assert_eq!(slot.try_next(), None);
    }

    #[test]
    fn a_lagging_slot_is_told_how_many_it_missed_and_still_sees_the_last() {
        let mut signal = Signal::new();
        let mut slot = signal.connect();
        assert_eq!(
            slot.try_next(),
            Some(Notice::Snapshot {
                missed: 0,
                last: None
            })
        );
        for n in 0..100 {
            signal.emit(n);
        }
        drop(signal);
        assert_eq!(
            slot.try_next(),
            Some(Notice::Snapshot {
                missed: 100,
                last: Some(99)
            })
        );
        assert_eq!(slot.try_next(), Some(Notice::Ended));
    }

    #[test]
    fn values_and_missed_counts_add_up() {
        for burst in 1..40 {
            let mut signal = Signal::new();
            // Read for the first time when much has been emitted since.
            let mut slot = signal.connect();
            let (mut told, mut last) = (0, None);
            for round in 0..10_u64 {
                (0..burst).for_each(|n| signal.emit(round * 100 + n));
                while let Some(notice) = slot.try_next() {
                    match notice {
                        Notice::Snapshot { missed, last: l } => (told, last) = (told + missed, l),
                        Notice::Value(v) => (told, last) = (told + 1, Some(v)),
                        Notice::Ended => unreachable!("the signal lives"),
                    }
                }
            }
            assert_eq!(told, burst * 10, "each is told or counted");
            assert_eq!(last, signal.last().copied());
        }
    }
}
