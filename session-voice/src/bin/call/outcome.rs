//! Why there was no call, as a program's end.

use session_core::{Action, Cause, Peer, ReasonCondition};
use session_xmpp::{
    cli::{Exit, Problem},
    jmi::JmiEnd,
};

/// A session that ended before anybody was heard.
pub(crate) fn no_call(peer: &Peer, cause: Option<&Cause>) -> Problem {
    let why = cause.map_or_else(String::new, ToString::to_string);
    of(peer, cause.and_then(condition), why)
}

/// Whether somebody has hung up, rather than something has gone wrong.
pub(crate) fn is_farewell(cause: &Cause) -> bool {
    let is_end = |condition: &ReasonCondition| {
        matches!(
            condition,
            ReasonCondition::Success
                | ReasonCondition::Cancel
                | ReasonCondition::Decline
                | ReasonCondition::Gone
                | ReasonCondition::Expired
        )
    };
    matches!(cause, Cause::Remote(None))
        || gone(cause).is_none() && condition(cause).is_some_and(is_end)
}

/// Why the peer is thought to be gone, which has said nothing itself.
fn gone(cause: &Cause) -> Option<&str> {
    if let Cause::Local(reason) = cause
        && reason.condition == ReasonCondition::Gone
    {
        return Some(reason.text.as_deref().unwrap_or("the other side is gone"));
    }
    let is_forgotten = matches!(cause, Cause::Refused { action: Action::SessionInfo, error } if error.is_unknown_session());
    is_forgotten.then_some("the other side does not know the call any more")
}

/// A call in which both were heard, and which ended otherwise.
pub(crate) fn cut_off(peer: &Peer, cause: &Cause) -> Problem {
    if let Some(why) = gone(cause) {
        return problem(Exit::Failed, "peer-gone", peer, why.to_owned());
    }
    let code = match (condition(cause), cause) {
        (Some(ReasonCondition::SecurityError), _) => "not-trusted",
        (Some(ReasonCondition::ConnectivityError | ReasonCondition::FailedTransport), _)
        | (None, Cause::ConnectionLost | Cause::NoConnectivity | Cause::Transport(_)) => {
            let why = format!("the connection was lost, and did not come back ({cause})");
            return problem(Exit::Failed, "connection-lost", peer, why);
        }
        (Some(_) | None, _) => "cut-off",
    };
    problem(Exit::Failed, code, peer, cause.to_string())
}

/// The reason that one side gave.
fn condition(cause: &Cause) -> Option<&ReasonCondition> {
    if let Cause::Remote(Some(reason)) | Cause::Local(reason) = cause {
        return Some(&reason.condition);
    }
    None
}

/// An announced call of ours that led to no session.
pub(crate) fn unanswered(peer: &Peer, end: &JmiEnd) -> Problem {
    let plain = |code, why: &str| problem(Exit::Failed, code, peer, why.to_owned());
    match end {
        JmiEnd::Rejected(Some(reason)) => {
            let why = format!("ended by the peer: {reason}");
            let is_busy = reason.condition == ReasonCondition::Busy;
            let condition = if is_busy {
                ReasonCondition::Busy
            } else {
                ReasonCondition::Decline
            };
            of(peer, Some(&condition), why)
        }
        JmiEnd::Rejected(None) => of(peer, Some(&ReasonCondition::Decline), "declined".to_owned()),
        JmiEnd::Unanswered => of(
            peer,
            Some(&ReasonCondition::Timeout),
            "nobody answered".to_owned(),
        ),
        JmiEnd::Unreachable => plain("peer-offline", "no device of it is there"),
        JmiEnd::TieBreak { .. } => plain("crossed", "it calls us at this moment"),
        JmiEnd::Retracted(_)
        | JmiEnd::AnsweredElsewhere(_)
        | JmiEnd::RejectedElsewhere
        | JmiEnd::Migrated(_)
        | JmiEnd::Finished(_)
        | JmiEnd::Ours
        | _ => plain("no-call", "it ended before it began"),
    }
}

/// Whoever is called has no certificate that a fingerprint could be compared with.
pub(crate) fn unproved(peer: &Peer) -> Problem {
    let why =
        "it speaks Google's dialect, which has no certificates: no fingerprint proves who it is";
    let what = format!("speak with {peer}");
    let hint = "call another device of it, or without --fingerprint";
    Problem::new(Exit::Failed, "not-trusted", what, why, hint)
}

/// Who called has given up.
pub(crate) fn missed(from: &Peer) -> Problem {
    problem(Exit::Failed, "missed", from, "it gave up before".to_owned())
}

/// Another device of ours has taken the call, or declined it.
pub(crate) fn elsewhere(from: &Peer, by: Option<&Peer>) -> Problem {
    match by {
        Some(by) => problem(
            Exit::Failed,
            "answered-elsewhere",
            from,
            format!("{by} has answered"),
        ),
        None => {
            let why = "another device has declined".to_owned();
            problem(Exit::Failed, "declined-elsewhere", from, why)
        }
    }
}

fn of(peer: &Peer, condition: Option<&ReasonCondition>, why: String) -> Problem {
    let (exit, code) = match condition {
        Some(ReasonCondition::Decline) => (Exit::Declined, "declined"),
        Some(ReasonCondition::Busy) => (Exit::Declined, "busy"),
        Some(ReasonCondition::Timeout) => (Exit::Failed, "no-answer"),
        Some(ReasonCondition::SecurityError) => (Exit::Failed, "not-trusted"),
        Some(_) | None => (Exit::Failed, "no-call"),
    };
    problem(exit, code, peer, why)
}

fn problem(exit: Exit, code: &'static str, peer: &Peer, why: String) -> Problem {
    let hint = match code {
        "not-trusted" => "compare the fingerprints by another way; somebody may stand between you",
        "answered-elsewhere" | "declined-elsewhere" => "",
        "peer-gone" => "its program has ended, or its network is gone; call it again",
        _ => "try again later",
    };
    Problem::new(exit, code, format!("speak with {peer}"), why, hint)
}
