//! A link on which things go wrong on their way to us.

use session_xmpp::endpoint::{Link, LinkError, LinkEvent, RouterLink};
use std::{
    future::Future,
    ops::RangeInclusive,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep};

/// What goes wrong with which stanzas.
#[derive(Clone)]
pub(crate) struct Wrong {
    pub(crate) which: fn(&str) -> bool,
    /// How often each of them comes.
    pub(crate) copies: RangeInclusive<u64>,
    /// By how many milliseconds each of these is late; they overtake each other.
    pub(crate) late: RangeInclusive<u64>,
}

pub(crate) struct Nasty {
    link: RouterLink,
    wrong: Wrong,
    state: u64,
    late: Vec<(Instant, LinkEvent)>,
    timer: Pin<Box<Sleep>>,
}

impl Nasty {
    pub(crate) fn new(link: RouterLink, seed: u64, wrong: Wrong) -> Self {
        Self {
            link,
            wrong,
            state: seed,
            late: Vec::new(),
            timer: Box::pin(sleep(Duration::ZERO)),
        }
    }

    fn random(&mut self, range: &RangeInclusive<u64>) -> u64 {
        self.state = self
            .state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        range.start() + (self.state >> 33) % (range.end() - range.start() + 1)
    }
}

impl Link for Nasty {
    fn send(&mut self, stanza: bytes::Bytes) -> Result<(), LinkError> {
        self.link.send(stanza)
    }

    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Option<LinkEvent>> {
        let Wrong {
            which,
            copies,
            late,
        } = self.wrong.clone();
        let fits = |event: &LinkEvent| match event {
            LinkEvent::Stanza(stanza) => which(&String::from_utf8_lossy(stanza)),
            _ => false,
        };
        while let Poll::Ready(event) = self.link.poll_event(cx) {
            let Some(event) = event.clone().filter(fits) else {
                // The rest keeps its place.
                return Poll::Ready(event);
            };
            for _ in 0..self.random(&copies) {
                let due = Instant::now() + Duration::from_millis(self.random(&late));
                self.late.push((due, event.clone()));
            }
        }
        let due = self.late.iter().map(|(due, _)| *due).enumerate();
        let Some((at, due)) = due.min_by_key(|(_, due)| *due) else {
            return Poll::Pending;
        };
        self.timer.as_mut().reset(due);
        match self.timer.as_mut().poll(cx) {
            Poll::Ready(()) => Poll::Ready(Some(self.late.swap_remove(at).1)),
            Poll::Pending => Poll::Pending,
        }
    }
}
