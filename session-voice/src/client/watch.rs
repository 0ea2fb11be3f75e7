//! Whether the peer of a call is still there, when nothing comes from it.
//!
//! A program that is killed says nothing, and a path is missed late: consent ends after 30 s (RFC 7675 §5.1), and a restart
//! of ICE that nobody answers takes as long again. So a peer that is not heard for a while is asked (XEP-0166 §6.8).

use super::{CallForm, VoiceClient, end};
use crate::{Call, CallPhase};
use session_core::{Pong, Reason, ReasonCondition, Session};
use std::time::{Duration, Instant};

impl Call {
    /// Since when nothing has come from the peer.
    fn quiet_since(&self) -> Option<Instant> {
        self.gate.heard_at.max(self.answered_at)
    }

    fn is_quiet(&self, now: Instant, time: Duration) -> bool {
        let since = self.quiet_since();
        since.is_some_and(|since| now.saturating_duration_since(since) >= time)
    }
}

impl<F: CallForm> VoiceClient<F> {
    /// Asks the peer of a call whether it is there, if it is not heard; otherwise looks again later.
    pub(super) fn look_after(&mut self, session: &mut Session, now: Instant) {
        let quiet = self.config.ping_after;
        let Some(call) = self.answered(session) else {
            return;
        };
        let since = if call.is_quiet(now, quiet) {
            // Where nothing can be said, it is over.
            let _ = session.ping(now);
            now
        } else {
            // Whatever it has not answered before, it is there.
            call.answers = true;
            call.quiet_since().unwrap_or(now)
        };
        session.set_timer(since.checked_add(quiet));
    }

    /// What came of the question. What has come from the peer meanwhile is the better answer.
    pub(super) fn answered_ping(&mut self, session: &mut Session, pong: &Pong, now: Instant) {
        let quiet = self.config.ping_after;
        let Some(call) = self.answered(session) else {
            return;
        };
        call.answers = *pong == Pong::Here || !call.is_quiet(now, quiet);
        if call.answers {
            return;
        }
        match pong {
            Pong::Gone(_) => end(session, gone("the other side is gone"), now),
            Pong::Here | Pong::Silent => self.check_path(session, now),
        }
    }

    /// A peer that is cut off answers nothing, as one that is gone does: it has until the path is given up to come back.
    /// Where nothing was ever heard, other clocks run: the path may not have been found yet.
    pub(super) fn check_path(&mut self, session: &mut Session, now: Instant) {
        let quiet = self.config.ping_after;
        let is_lost = |call: &mut Call| {
            let was_heard = call.gate.heard_at.is_some();
            was_heard && !call.connected && !call.answers && call.is_quiet(now, quiet)
        };
        if self.answered(session).is_some_and(is_lost) {
            end(
                session,
                gone("the other side does not answer any more"),
                now,
            );
        }
    }

    fn answered(&mut self, session: &Session) -> Option<&mut Call> {
        let call = self.calls.get_mut(session.id())?;
        (call.gate.phase == CallPhase::Answered).then_some(&mut **call)
    }
}

fn gone(text: &str) -> Reason {
    Reason::new(ReasonCondition::Gone).with_text(text)
}
