//! What an endpoint counts.

use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What an [`Endpoint`](super::Endpoint) could not use, and how much of it. All zero on a good day.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        #[non_exhaustive]
        pub struct Stats {
            $($(#[$doc])* pub $name: u64,)*
        }

        /// The same, counted from several threads.
        #[derive(Debug, Default)]
        pub(super) struct Counters {
            $(pub(super) $name: Counter,)*
        }

        impl Counters {
            pub(super) fn stats(&self) -> Stats {
                Stats {
                    $($name: self.$name.0.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Datagrams that were not sent because too many waited for the system's buffer.
    datagrams_dropped,
    /// Datagrams that the system did not send: too large, to nowhere, forbidden.
    datagrams_refused,
    /// Accepted connections that were closed at once because their listener had too many.
    connections_refused,
    /// Stanzas that could not be read. Requests among them were answered with an error.
    stanzas_malformed,
    /// Stanzas that nobody here has a use for.
    stanzas_ignored,
    /// Answers to what was not asked, or was asked of somebody else.
    replies_unexpected,
    /// Stanzas that the link did not take.
    stanzas_unsent,
}

/// One number.
#[derive(Debug, Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }
}
