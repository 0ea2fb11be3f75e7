//! How a transfer ends.

use super::{Check, Direction, Fault, Outcome, Sealed, Transfer};
use crate::{Change, Phase};
use session_core::{Cause, ChannelId, ReasonCondition};

impl Transfer {
    pub(crate) fn channel(&self) -> Option<ChannelId> {
        self.flow.channel
    }

    /// It failed: what was not read is of no use.
    pub(crate) fn fail(&mut self, fault: Fault) {
        if self.is_live() {
            self.flow.discard();
            self.end(Outcome::Failed(fault));
        }
    }

    /// The session, or its content, is over. What it means for the file depends on how far it was.
    pub(crate) fn ended(&mut self, fault: Fault, success: bool) {
        if !self.is_live() {
            return;
        }
        let outcome = match self.direction {
            Direction::Send if self.confirmed || success && self.is_out() => {
                Outcome::Sent { confirmed: true }
            }
            Direction::Send if self.flow.is_delivered() && !is_refused(&fault) => {
                Outcome::Sent { confirmed: false }
            }
            Direction::Send => Outcome::Failed(fault),
            Direction::Receive => match self.last_word(success) {
                Ok(()) => self
                    .integrity
                    .map_or(Outcome::Failed(fault), Outcome::Received),
                Err(fault) => return self.fail(fault),
            },
        };
        self.end(outcome);
    }

    /// What can be said of a file that was received, now that no word of its hash can come any more.
    ///
    /// # Errors
    /// It is not what it should be.
    fn last_word(&mut self, success: bool) -> Result<(), Fault> {
        // What our application has not hashed yet nobody knows to be whole; it goes on another time. So does what was here before
        // anything was said of it.
        let is_unknown = self.awaits_hash() || self.is_silent() && !success;
        if self.integrity.is_some() || is_unknown {
            return Ok(());
        }
        let unsized_end =
            success && self.phase == Phase::Open && self.check.as_ref().is_some_and(Check::may_end);
        if unsized_end {
            self.sealed.as_mut().map_or(Ok(()), Sealed::end)?;
        }
        if (unsized_end || self.is_complete()) && self.judge(Default::default())?.is_some() {
            self.settle_unnamed()?;
        }
        Ok(())
    }

    fn end(&mut self, outcome: Outcome) {
        self.phase = Phase::Ended;
        self.verdict_due = None;
        self.move_due = None;
        self.outcome = Some(outcome);
        self.flow.close(true);
        self.signal.emit(Change::Ended);
    }
}

/// Whether the peer says that what it was given is of no use to it. That it was given everything changes nothing then.
fn is_refused(fault: &Fault) -> bool {
    let (Fault::Session(Cause::Remote(Some(reason))) | Fault::Aborted(Some(reason))) = fault else {
        return false;
    };
    [
        ReasonCondition::FailedApplication,
        ReasonCondition::MediaError,
        ReasonCondition::SecurityError,
    ]
    .contains(&reason.condition)
}
