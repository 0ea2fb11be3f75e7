//! Streams that move to another transport: each side tells how much it has received, and the other goes on from there.
//!
//! It takes two of ours. Both say where they are when the stream begins, now and then while it runs, and when the
//! transport was replaced; in session-info, as
//! `<progress xmlns='https://pcp.example/ns/stream-progress' received='BYTES' total='BYTES' transport='NAMESPACE'
//! content='NAME'/>`. With `total`, nothing more follows after so many bytes; with `transport`, the stream goes on there,
//! from `received`; `content` says whose stream it is, where a session has several. With a peer that never said so, a
//! stream that was under way breaks when its transport does. Files say so only to who has agreed to it in the offer or the
//! answer ([`mark`]): some clients end a session when they are told what they do not know.

use crate::{File, OWN};
use bytes::{Buf, Bytes};
use session_core::{Element, PeerError};
use std::{collections::VecDeque, sync::Arc, time::Duration};

/// The namespace of what both sides tell.
pub(crate) const NAMESPACE: &str = "https://pcp.example/ns/stream-progress";

/// How long the peer may take to say where a stream goes on.
pub(crate) const MOVE_TIME: Duration = Duration::from_secs(60);

/// What is kept because the peer may not have it, and how often a receiver tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Keep {
    /// Most bytes.
    most: usize,
    /// Past it a sender waits. Otherwise the oldest are let go, and the stream cannot move until the peer has them.
    waits: bool,
    /// A receiver tells again after so many bytes, and not sooner than so long after the last time.
    every: (u64, Duration),
}

impl Keep {
    /// Tunnels: whatever happens, they go on.
    pub(crate) const TUNNEL: Self = Self {
        most: 16 << 20,
        waits: true,
        every: (1 << 20, Duration::ZERO),
    };
    /// Files: up to some 30 MB/s they always go on, and above that neither signalling nor memory is spent on it.
    pub(crate) const FILE: Self = Self {
        most: 4 << 20,
        waits: false,
        every: (1 << 20, Duration::from_millis(100)),
    };

    pub(crate) fn every(&self) -> (u64, Duration) {
        self.every
    }
}

/// The mark in `<file/>` that says that its stream can move.
pub(crate) fn mark() -> Element {
    Element::new(OWN, "moves")
}

/// Whether a description has it.
pub(crate) fn is_marked(file: &File) -> bool {
    file.extra.iter().any(|extra| extra.is(OWN, "moves"))
}

/// What one side tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    pub(crate) received: u64,
    pub(crate) total: Option<u64>,
    pub(crate) transport: Option<String>,
    pub(crate) content: Option<Arc<str>>,
}

impl Report {
    pub(crate) fn to_element(&self) -> Element {
        Element::new(NAMESPACE, "progress")
            .with("received", self.received)
            .with_opt("total", self.total)
            .with_opt("transport", self.transport.as_deref())
            .with_opt("content", self.content.as_deref())
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
            content: element.attribute("content").map(Into::into),
        })
    }
}

pub(crate) fn malformed(field: &'static str, problem: &'static str) -> PeerError {
    PeerError::Malformed { field, problem }
}

/// Whether the peer can go on elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Skill {
    /// Nothing is kept: nobody wants to go on, or the peer has not said that it can, and it is too late now.
    None,
    /// It has not said anything yet.
    Unknown,
    Proven,
}

/// What was sent and may have to be sent again.
#[derive(Debug)]
pub(crate) struct Retained {
    keep: Keep,
    skill: Skill,
    pieces: VecDeque<Bytes>,
    length: usize,
    /// Where in the stream the first of them is.
    base: u64,
}

impl Retained {
    pub(crate) fn new(keep: Keep) -> Self {
        Self {
            keep,
            skill: Skill::None,
            pieces: VecDeque::new(),
            length: 0,
            base: 0,
        }
    }

    /// Keeps what is sent from now on, which is the beginning.
    pub(crate) fn begin(&mut self) {
        self.skill = Skill::Unknown;
    }

    /// Whether the peer was told that we can.
    pub(crate) fn has_begun(&self) -> bool {
        self.skill != Skill::None
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
        self.keep.waits && self.skill == Skill::Proven && self.length >= self.keep.most
    }

    /// This was sent.
    pub(crate) fn push(&mut self, piece: Bytes) {
        let is_over = self.length + piece.len() > self.keep.most;
        if self.skill == Skill::Unknown && self.keep.waits && is_over {
            self.skill = Skill::None;
            self.pieces.clear();
            self.length = 0;
        }
        if self.skill != Skill::None {
            self.length += piece.len();
            self.pieces.push_back(piece);
        }
        while !self.keep.waits
            && self.length > self.keep.most
            && let Some(oldest) = self.pieces.pop_front()
        {
            self.length -= oldest.len();
            self.base += oldest.len() as u64;
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
        for (total, transport, content) in [
            (None, None, None),
            (Some(7), None, Some("file1".into())),
            (None, Some("urn:x".to_owned()), None),
        ] {
            let report = Report {
                received: u64::MAX,
                total,
                transport,
                content,
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
            let mut retained = Retained::new(Keep::TUNNEL);
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
        let mut retained = Retained::new(Keep::TUNNEL);
        retained.begin();
        for _ in 0..=Keep::TUNNEL.most / 65_536 {
            retained.push(Bytes::from(vec![0; 65_536]));
        }
        assert_eq!((retained.length, retained.is_full()), (0, false));
        retained.prove();
        assert!(!retained.is_proven());
    }

    #[test]
    fn of_a_file_the_newest_is_kept_and_nothing_waits() {
        let mut retained = Retained::new(Keep::FILE);
        retained.begin();
        let piece = 65_536;
        for _ in 0..3 * Keep::FILE.most / piece {
            retained.push(Bytes::from(vec![0; piece]));
            assert!(retained.length <= Keep::FILE.most && !retained.is_full());
        }
        retained.prove();
        assert!(retained.is_proven() && !retained.is_full());
        let sent = 3 * Keep::FILE.most as u64;
        let oldest = sent - Keep::FILE.most as u64;
        assert!(retained.rewind(oldest - 1).is_none(), "it was let go");
        let again: usize = retained
            .rewind(oldest)
            .unwrap()
            .map(|piece| piece.len())
            .sum();
        assert_eq!(again, Keep::FILE.most);
    }
}
