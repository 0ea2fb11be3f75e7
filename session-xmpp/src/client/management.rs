//! Stream management (XEP-0198): what has arrived is counted on both sides, so that a stream can go on over another
//! connection, and nothing is lost or said twice.

use bytes::Bytes;
use std::collections::VecDeque;

/// Stanzas that may wait for the server's confirmation, or for a connection.
pub const QUEUE_STANZAS: usize = 8_192;

/// Bytes of stanzas that may wait for the server's confirmation, or for a connection.
pub const QUEUE_BYTES: usize = 8 << 20;

/// The longest name of a stream that is kept.
const ID_MAX: usize = 4_000;

/// The books of one stream.
#[derive(Debug, Default)]
pub(super) struct Management {
    /// How many of our stanzas the server has confirmed. All counts wrap at 2³² (XEP-0198 §4).
    confirmed: u32,
    /// How many of the server's stanzas have arrived.
    handled: u32,
    /// What is not confirmed, in order.
    queue: VecDeque<Bytes>,
    bytes: usize,
    /// How many of the queue have been sent over the present connection.
    sent: usize,
    /// Under which name the stream can be resumed.
    id: Option<String>,
    /// Whether a confirmation is under way.
    asked: bool,
}

/// A count that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadCount;

impl Management {
    /// The books of a stream that the server allows to resume under this name, if under any.
    pub(super) fn new(id: Option<&str>) -> Self {
        let id = id.filter(|id| !id.is_empty() && id.len() <= ID_MAX);
        Self {
            id: id.map(str::to_owned),
            ..Self::default()
        }
    }

    /// The name under which the stream can be resumed.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// Whether something was taken that is not confirmed.
    pub(super) fn is_pending(&self) -> bool {
        !self.queue.is_empty()
    }

    /// How many of the server's stanzas have arrived.
    pub(super) fn handled(&self) -> u32 {
        self.handled
    }

    /// One more has arrived.
    pub(super) fn count_handled(&mut self) {
        self.handled = self.handled.wrapping_add(1);
    }

    /// Takes a stanza of ours. Returns whether there was room.
    pub(super) fn push(&mut self, stanza: Bytes) -> bool {
        let bytes = self.bytes + stanza.len();
        if self.queue.len() >= QUEUE_STANZAS || bytes > QUEUE_BYTES {
            return false;
        }
        self.bytes = bytes;
        self.queue.push_back(stanza);
        true
    }

    /// The next stanza that is to be sent over the present connection.
    pub(super) fn next_unsent(&mut self) -> Option<&Bytes> {
        let stanza = self.queue.get(self.sent)?;
        self.sent += 1;
        Some(stanza)
    }

    /// Whether the server is to be asked for its count now; it is then taken for asked.
    pub(super) fn take_ask(&mut self) -> bool {
        let ask = !self.asked && self.sent > 0;
        self.asked |= ask;
        ask
    }

    /// The server has handled this many of ours.
    ///
    /// # Errors
    /// More than were sent, or fewer than it said before.
    pub(super) fn confirm(&mut self, count: u32) -> Result<(), BadCount> {
        let fresh = usize::try_from(count.wrapping_sub(self.confirmed)).map_err(|_| BadCount)?;
        if fresh > self.sent {
            return Err(BadCount);
        }
        for stanza in self.queue.drain(..fresh) {
            self.bytes -= stanza.len();
        }
        self.sent -= fresh;
        self.confirmed = count;
        self.asked = false;
        Ok(())
    }

    /// The stream goes on over a new connection, and the server has handled this many. What it has not is sent again.
    ///
    /// # Errors
    /// As [`Self::confirm`].
    pub(super) fn resume(&mut self, count: u32) -> Result<(), BadCount> {
        self.confirm(count)?;
        self.sent = 0;
        Ok(())
    }

    /// The connection broke.
    pub(super) fn interrupt(&mut self) {
        self.asked = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stanza(number: u32) -> Bytes {
        number.to_be_bytes().to_vec().into()
    }

    fn unsent(books: &mut Management) -> Vec<Bytes> {
        std::iter::from_fn(|| books.next_unsent().cloned()).collect()
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut books = Management::default();
        for number in 0..QUEUE_STANZAS as u32 {
            assert!(books.push(stanza(number)));
        }
        assert!(!books.push(stanza(0)));
        let mut books = Management::default();
        assert!(books.push(vec![0; QUEUE_BYTES].into()));
        assert!(!books.push(stanza(0)));
        assert_eq!(unsent(&mut books).len(), 1);
        assert_eq!(books.confirm(1), Ok(()));
        assert!(books.push(stanza(0)), "room again");
    }

    #[test]
    fn counts_that_cannot_be_are_refused() {
        let mut books = Management::default();
        assert!(books.push(stanza(1)) && books.push(stanza(2)));
        assert_eq!(books.confirm(1), Err(BadCount), "nothing was sent");
        assert_eq!(unsent(&mut books).len(), 2);
        assert_eq!(books.confirm(3), Err(BadCount));
        assert_eq!(books.confirm(2), Ok(()));
        assert_eq!(books.confirm(1), Err(BadCount), "it was more before");
    }

    proptest! {
        /// A server that loses connections at random gets everything once and in order, also past 2³².
        #[test]
        fn everything_arrives_once_and_in_order(
            start in prop_oneof![Just(0_u32), Just(u32::MAX - 3)],
            steps in proptest::collection::vec(0_u8..6, 1..80),
        ) {
            let mut books = Management { confirmed: start, ..Management::default() };
            let (mut count, mut next) = (start, 0_u32);
            // What is on its way, and what the server has.
            let (mut wire, mut arrived) = (VecDeque::new(), Vec::new());
            for step in steps {
                match step {
                    0 | 1 => {
                        books.push(stanza(next));
                        next += 1;
                    }
                    2 => wire.extend(unsent(&mut books)),
                    3 => if let Some(one) = wire.pop_front() {
                        arrived.push(one);
                        count = count.wrapping_add(1);
                    },
                    4 => prop_assert_eq!(books.confirm(count), Ok(())),
                    _ => {
                        wire.clear();
                        books.interrupt();
                        prop_assert_eq!(books.resume(count), Ok(()));
                    }
                }
            }
            wire.extend(unsent(&mut books));
            arrived.extend(wire);
            prop_assert_eq!(arrived, (0..next).map(stanza).collect::<Vec<_>>());
        }
    }
}
