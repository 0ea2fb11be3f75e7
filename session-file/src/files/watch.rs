//! Whether the peer is still there, when nothing moves that should.
//!
//! A program that is killed says nothing. A path notices that late or never: a TCP connection through a proxy may stay, and
//! consent ends after 30 s (RFC 7675). So a peer of a transfer that stands still is asked by an empty session-info (XEP-0166
//! §6.8), which its server answers in its stead when it is gone.

use super::{FileClient, events::lost_channel, exchange::end};
use crate::{Direction, Phase, Transfer, transfer::Fault};
use session_core::{Pong, Reason, ReasonCondition, Session, State};
use std::time::Instant;

/// How often it is looked whether something has moved, before somebody is asked.
const LOOKS: u32 = 4;

/// How many times longer a peer has before it is asked whether it is there, while somebody decides about our offer: Gajim 1.7
/// takes the question for an error, after which its user cannot accept any more.
const UNDECIDED: u32 = 6;

/// What a session's bytes did when somebody looked last.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Watch {
    /// Bytes that had moved, of all files.
    moved: u64,
    /// Since when nothing has.
    since: Option<Instant>,
    /// When to look next.
    pub(super) due: Option<Instant>,
    /// When to ask, if nothing moves until then.
    ask: Option<Instant>,
    /// The peer was asked, and nothing has moved since.
    asked: bool,
}

/// Whether something of this transfer is the peer's to do.
fn waits(transfer: &Transfer) -> bool {
    match transfer.phase() {
        Phase::Waiting => true,
        Phase::Open => {
            let has_all = transfer.is_complete() && !transfer.is_silent();
            !has_all || transfer.direction() == Direction::Send
        }
        Phase::Offered | Phase::Ended => false,
    }
}

fn has_path(session: &Session, transfer: &Transfer) -> bool {
    let channel = transfer.channel();
    channel.is_some_and(|channel| session.has_path(channel))
}

impl FileClient {
    /// The files of a session that wait for the peer, and how many bytes have moved in all; `None` when none waits.
    fn moved(&self, session: &Session) -> Option<u64> {
        let transfers = &self.exchanges.get(&session.id())?.transfers;
        // A path that comes is a step, too.
        let moved = transfers.iter().map(|transfer| {
            transfer
                .moved()
                .saturating_add(has_path(session, transfer).into())
        });
        let moved = moved.fold(0, u64::saturating_add);
        transfers.iter().any(waits).then_some(moved)
    }

    /// Looks whether something has moved, and asks the peer if not.
    pub(super) fn look_after(&mut self, session: &mut Session, now: Instant) {
        let moved = self.moved(session);
        let stall = self.config.stall;
        let Some(exchange) = self.exchanges.get_mut(&session.id()) else {
            return;
        };
        let watch = &mut exchange.watch;
        let undecided = session.state() == State::SentInitiate;
        let patience = stall * if undecided { UNDECIDED } else { 1 };
        let Some(moved) = moved else {
            *watch = Watch::default();
            return;
        };
        if watch.due.is_some_and(|due| due > now) {
            return;
        }
        if watch.due.is_none() || watch.moved != moved {
            watch.asked = false;
            watch.moved = moved;
            watch.since = Some(now);
            watch.ask = now.checked_add(patience);
        } else if watch.ask.is_some_and(|ask| ask <= now) {
            watch.asked = true;
            watch.ask = now.checked_add(patience);
            // Where nothing can be said, it is over.
            let _ = session.ping(now);
        }
        // Somebody may have decided since.
        watch.ask = watch.ask.min(now.checked_add(patience));
        watch.due = now.checked_add(stall / LOOKS);
    }

    /// Gives up transports over which nothing has moved for long, although the peer is there.
    pub(super) fn look_for_standstill(&mut self, session: &mut Session, now: Instant) {
        let moved = self.moved(session);
        let patience = self.config.standstill;
        let Some(exchange) = self.exchanges.get_mut(&session.id()) else {
            return;
        };
        let still = |since: Instant| now.saturating_duration_since(since) >= patience;
        if moved != Some(exchange.watch.moved) || !exchange.watch.since.is_some_and(still) {
            return;
        }
        exchange.watch.since = Some(now);
        let transfers = exchange.transfers.iter();
        // Where there is no path, other clocks run.
        let transfers = transfers.filter(|t| t.is_held_up() && has_path(session, t));
        let held_up: Vec<_> = transfers
            .map(|t| (t.content().clone(), t.flow.can_move() || t.can_begin_anew()))
            .collect();
        for (content, can_go_on) in held_up {
            if !can_go_on || !session.fall_back(&content, now) {
                self.fail(session, &content, lost_channel(), now);
            }
        }
    }

    /// What came of a question.
    pub(super) fn answered_ping(&mut self, session: &mut Session, pong: &Pong, now: Instant) {
        let moved = self.moved(session);
        let stands = |watch: Watch| watch.asked && Some(watch.moved) == moved;
        let exchange = self.exchanges.get(&session.id());
        if !exchange.is_some_and(|exchange| stands(exchange.watch)) {
            return;
        }
        let why = match pong {
            Pong::Gone(_) => "the other side is gone",
            Pong::Silent if self.is_held_up(session) => "the other side does not answer any more",
            Pong::Silent | Pong::Here => return,
        };
        let reason = Reason::new(ReasonCondition::Gone).with_text(why);
        self.gone(session, None, &Fault::Aborted(Some(reason.clone())), false);
        end(session, reason, now);
    }

    /// Whether bytes wait for the peer, and not for our application: one that is held back by us need not answer.
    fn is_held_up(&self, session: &Session) -> bool {
        let transfers = self.exchanges.get(&session.id()).map(|e| &e.transfers);
        transfers.into_iter().flatten().any(|transfer| {
            waits(transfer)
                && match transfer.direction() {
                    Direction::Send => transfer.flow.has_unsent() || transfer.flow.is_finished(),
                    Direction::Receive => !transfer.flow.is_paused(),
                }
        })
    }
}
