//! Going on over another transport, and beginning anew there.

use super::{Check, Transfer};
use crate::{
    Change, Direction, Phase,
    moving::{self, MOVE_TIME, Report},
};
use session_core::{PeerError, Session};
use std::time::Instant;

/// Going on over another transport.
impl Transfer {
    /// The stream has a channel. Where both sides can, the peer is told that it may move.
    pub(crate) fn begin(&mut self, session: &mut Session, now: Instant) {
        if moving::is_marked(&self.file) {
            self.flow.begin(session, now);
        }
    }

    /// Its transport was replaced. Whether the stream goes on over the new one.
    pub(crate) fn replaced(&mut self, session: &mut Session, now: Instant) -> bool {
        let goes_on = self.flow.replaced(session, now);
        if self.flow.is_moving() {
            self.move_due = now.checked_add(MOVE_TIME);
        }
        goes_on || self.begin_anew(now)
    }

    /// Whether it can begin anew over another transport, with a peer that cannot say what it has: one of ours has said so
    /// before it says anything of another transport, and others may repeat our mark without knowing it.
    pub(crate) fn can_begin_anew(&self) -> bool {
        let is_open = self.phase == Phase::Open && !self.duplex && !self.confirmed;
        let is_sized = self.bytes().is_some();
        // A key is for one pass: what is given again may be something else.
        is_open
            && is_sized
            && self.sealed.is_none()
            && !self.flow.can_move()
            && match self.direction {
                Direction::Send => self.gives_again,
                Direction::Receive => self.check.as_ref().is_some_and(Check::can_repeat),
            }
    }

    /// Both sides have lost what was on the way. A sender gives everything again; a receiver compares what it has with what
    /// comes, and goes on behind that.
    fn begin_anew(&mut self, now: Instant) -> bool {
        if !self.can_begin_anew() {
            return false;
        }
        self.verdict_due = None;
        match (self.direction, &mut self.check) {
            (Direction::Receive, Some(check)) => {
                check.repeat();
                self.flow.hear_anew();
            }
            (Direction::Receive, None) => return false,
            (Direction::Send, _) => {
                self.check = Some(self.fresh_check());
                self.flow.begin_anew();
                self.rewound = true;
                self.move_due = now.checked_add(MOVE_TIME);
                self.signal.emit(Change::Rewound);
            }
        }
        true
    }

    /// Whether everything is to be given again, and our application does not know.
    pub fn is_rewound(&self) -> bool {
        self.rewound
    }

    /// Our application gives everything again, from now on. Whether it was to.
    pub(crate) fn give_again(&mut self) -> bool {
        self.move_due = self.move_due.filter(|_| !self.rewound);
        std::mem::take(&mut self.rewound)
    }

    /// Bytes that have come anywhere, also those that came again.
    pub(crate) fn moved(&self) -> u64 {
        let progress = self.progress();
        let repeated = self.check.as_ref().map_or(0, Check::repeated);
        [progress.sent, progress.received, self.flow.peer_received()]
            .into_iter()
            .fold(repeated, u64::saturating_add)
    }

    /// Whether it is the peer's side that has to take bytes, to say that it has them all, or to send.
    pub(crate) fn is_held_up(&self) -> bool {
        let waits = match self.direction {
            Direction::Send if self.confirmed || self.flow.is_delivered() => false,
            Direction::Send => self.flow.has_unsent() || self.flow.is_finished(),
            // What has no size may have nothing to send for long.
            Direction::Receive if self.bytes().is_none() || self.is_complete() => false,
            // Whoever sends it hashes what is in front of the part first, however large that is.
            Direction::Receive if self.offset() > 0 && self.progress().received == 0 => false,
            Direction::Receive => !self.flow.is_paused() && self.flow.readable() == 0,
        };
        self.phase == Phase::Open && waits
    }

    /// What the peer tells about the stream.
    ///
    /// # Errors
    /// It cannot be.
    pub(crate) fn reported(
        &mut self,
        report: &Report,
        session: &mut Session,
    ) -> Result<bool, PeerError> {
        let Some(channel) = self.channel().filter(|_| moving::is_marked(&self.file)) else {
            return Err(PeerError::NotAllowed("nobody agreed on telling this"));
        };
        let ended = self.flow.told(report, session)?;
        session.set_movable(channel, self.flow.can_move());
        if !self.flow.is_moving() {
            self.move_due = None;
        }
        Ok(ended)
    }
}
