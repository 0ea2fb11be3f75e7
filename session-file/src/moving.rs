//! Streams that move to another transport: each side tells how much it has received, and the other goes on from there.
//!
//! It takes two of ours. Both say where they are when the stream begins, now and then while it runs, and when the
//! transport was replaced; in session-info, as
//! `<progress xmlns='https://pcp.example/ns/stream-progress' received='BYTES' total='BYTES' transport='NAMESPACE'/>`. With
//! `total`, nothing more follows after so many bytes; with `transport`, the stream goes on there, from `received`. With a
//! peer that never said so, a stream that was under way breaks when its transport does.

use bytes::{Buf, Bytes};
use session_core::{Element, PeerError};
use std::collections::VecDeque;

/// The namespace of what both sides tell.
pub(crate) const NAMESPACE: &str = "https://pcp.example/ns/stream-progress";

/// Most bytes that are kept because the peer may not have them. Past it a sender waits.
pub(crate) const RETAINED_MAX: usize = 16 << 20;

/// After so many bytes a receiver tells again.
pub(crate) const TELL_EVERY: u64 = 1 << 20;

/// What one side tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) received: u64,
    pub(crate) total: Option<u64>,
    pub(crate) transport: Option<String>,
}

impl Report {
    pub(crate) fn to_element(&self) -> Element {
        Element::new(NAMESPACE, "progress")
            .with("received", self.received)
            .with_opt("total", self.total)
            .with_opt("transport", self.transport.as_deref())
    }

    /// `None` when none of the elements is one.
    pub(crate) fn find(info: &[Element]) -> Option<Result<Self, PeerError>> {
        let element = info.iter().find(|e| e.is(NAMESPACE, "progress"))?;
        Some(Self::from_element(element))
    }

    fn from_element(element: &Element) -> Result<Self, PeerError> {
        let number = |field| match element.attribute(field) {
            None => Ok(None),
            Some(text) => match text.parse() {
                Ok(number) if text.bytes().all(|b| b.is_ascii_digit()) => Ok(Some(number)),
                Ok(_) | Err(_) => Err(malformed(field, "no number of bytes")),
            },
        };
        Ok(Self {
            received: number("received")?.ok_or_else(|| malformed("received", "missing"))?,
            total: number("total")?,
            transport: element.attribute("transport").map(str::to_owned),
        })
    }
}

pub(crate) fn malformed(field: &'static str, problem: &'static str) -> PeerError {
    PeerError::Malformed { field, problem }
}

/// Whether the peer can go on elsewhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Skill {
    /// Nothing is kept: nobody wants to go on, or the peer has not said that it can, and it is too late now.
    #[default]
    None,
    /// It has not said anything yet.
    Unknown,
    Proven,
}

/// What was sent and may have to be sent again.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    skill: Skill,
    pieces: VecDeque<Bytes>,
    length: usize,
    /// Where in the stream the first of them is.
    base: u64,
}

impl Retained {
    /// Keeps what is sent from now on, which is the beginning.
    pub(crate) fn begin(&mut self) {
        self.skill = Skill::Unknown;
    }

    /// The peer has spoken.
    pub(crate) fn prove(&mut self) {
        if self.skill == Skill::Unknown {
            self.skill = Skill::Proven;
        }
    }

    /// Whether the stream can go on over another transport.
    pub(crate) fn is_proven(&self) -> bool {
        self.skill == Skill::Proven
    }

    /// Whether nothing more may be sent before the peer has said what it has.
    pub(crate) fn is_full(&self) -> bool {
        self.skill == Skill::Proven && self.length >= RETAINED_MAX
    }

    /// This was sent.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if self.skill == Skill::Unknown && self.length + piece.len() > RETAINED_MAX {
            self.skill = Skill::None;
            self.pieces.clear();
            self.length = 0;
        }
        if self.skill != Skill::None {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
    }

    /// The peer has everything before this place of the stream.
    pub(crate) fn release(&mut self, received: u64) {
        while self.base < received
            && let Some(first) = self.pieces.front_mut()
        {
            let count = usize::try_from(received - self.base).unwrap_or(usize::MAX);
            let count = count.min(first.len());
            first.advance(count);
            self.base += count as u64;
            self.length -= count;
            if first.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    /// What follows this place of the stream, last piece first, to be sent again. `None` when it is not kept.
    pub(crate) fn rewind(&mut self, received: u64) -> Option<impl Iterator<Item = Bytes> + use<>> {
        if received < self.base {
            return None;
        }
        self.release(received);
        self.length = 0;
        Some(std::mem::take(&mut self.pieces).into_iter().rev())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_report_is_read_as_it_was_written() {
        for (total, transport) in [
            (None, None),
            (Some(7), None),
            (None, Some("urn:x".to_owned())),
        ] {
            let report = Report {
                received: u64::MAX,
                total,
                transport,
            };
            let found = Report::find(&[Element::new("urn:other", "x"), report.to_element()]);
            assert_eq!(found, Some(Ok(report)));
        }
        assert_eq!(Report::find(&[Element::new(NAMESPACE, "other")]), None);
        for bad in ["", "-1", "+1", "18446744073709551616", "x"] {
            let element = Element::new(NAMESPACE, "progress").with("received", bad);
            assert!(matches!(Report::find(&[element]), Some(Err(_))), "{bad:?}");
        }
        let missing = Element::new(NAMESPACE, "progress").with("total", 1);
        assert!(matches!(Report::find(&[missing]), Some(Err(_))));
    }

    proptest! {
        #[test]
        fn what_the_peer_has_not_is_sent_again(
            pieces in prop::collection::vec(1..5_000_usize, 1..40),
            reports in prop::collection::vec(any::<prop::sample::Index>(), 1..10),
        ) {
            let total: usize = pieces.iter().sum();
            let stream: Vec<u8> = (0..total).map(|n| (n % 251) as u8).collect();
            let mut retained = Retained::default();
            retained.begin();
            retained.prove();
            let mut at = 0;
            for size in pieces {
                retained.push(Bytes::copy_from_slice(&stream[at..at + size]));
                at += size;
            }
            let mut places: Vec<usize> = reports.iter().map(|index| index.index(total + 1)).collect();
            places.sort_unstable();
            let last = places.pop().unwrap();
            for place in &places {
                retained.release(*place as u64);
            }
            let mut again: Vec<u8> = Vec::new();
            for piece in retained.rewind(last as u64).unwrap() {
                again.splice(0..0, piece);
            }
            prop_assert_eq!(&again[..], &stream[last..]);
            prop_assert!(last == 0 || retained.rewind(last as u64 - 1).is_none(), "it said that it had it");
        }
    }

    #[test]
    fn for_a_peer_that_says_nothing_no_more_is_kept_than_fits() {
        let mut retained = Retained::default();
        retained.begin();
        for _ in 0..=RETAINED_MAX / 65_536 {
            retained.push(Bytes::from(vec![0; 65_536]));
        }
        assert_eq!((retained.length, retained.is_full()), (0, false));
        retained.prove();
        assert!(!retained.is_proven());
    }
}
