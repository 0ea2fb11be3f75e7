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
    /// Where things stand: on connecting, and whenever values were missed.
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

    /// A new listener. Its first notice is a snapshot.
    pub fn connect(&self) -> Slot<T> {
        let outlets = self.outlets.get_or_init(|| Outlets {
            state: watch::Sender::new((self.sequence, self.last.as_deref().cloned())),
            events: broadcast::Sender::new(SIGNAL_CAPACITY),
        });
        // Events first: what is emitted between the two lines is in the snapshot and skipped as an event.
        let events = outlets.events.subscribe();
        Slot {
            state: outlets.state.subscribe(),
            events,
            seen: 0,
            phase: Phase::Fresh,
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
    phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Fresh,
    Live,
    Done,
}

impl<T: Clone> Slot<T> {
    /// The next notice; `None` after [`Notice::Ended`]. Needs no runtime of its own and is cancel-safe.
    pub async fn next(&mut self) -> Option<Notice<T>> {
        match self.phase {
            Phase::Done => return None,
            Phase::Fresh => return Some(self.snapshot()),
            Phase::Live => {}
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
        match self.phase {
            Phase::Done => return None,
            Phase::Fresh => return Some(self.snapshot()),
            Phase::Live => {}
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

    fn fresh(&mut self, sequence: u64, value: T) -> Option<Notice<T>> {
        (sequence > self.seen).then(|| {
            self.seen = sequence;
            Notice::Value(value)
        })
    }

    fn snapshot(&mut self) -> Notice<T> {
        let state = self.state.borrow_and_update();
        let missed = match self.phase {
            Phase::Fresh | Phase::Done => 0,
            Phase::Live => state.0 - self.seen,
        };
        let last = state.1.clone();
        self.seen = state.0;
        self.phase = Phase::Live;
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
            .field("phase", &self.phase)
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
                last: Some(3)
            }),
            "the first snapshot is of the moment it is read"
        );
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
            let mut slot = signal.connect();
            slot.try_next();
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
            assert_eq!(told, burst * 10);
            assert_eq!(last, signal.last().copied());
        }
    }
}
