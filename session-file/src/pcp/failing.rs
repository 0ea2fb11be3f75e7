//! What goes wrong, as this program's problems.

use super::show::printable;
use crate::{
    Fault, FileError,
    disk::{DiskError, DiskProblem},
};
use session_core::{Cause, Condition, Reason, ReasonCondition, StanzaError, TransportError};
use session_xmpp::cli::{Exit, Problem};
use std::io;

/// What may help where a connection was lost.
const AGAIN: &str = "give the same command again: it goes on where it was";

/// What may help where the other side takes no file as large as this.
const IN_PARTS: &str = "send it in parts, or ask the other side to take more";

/// The code of a file that is not what it was.
const FILE_CHANGED: &str = "file-changed";

/// The code of a file that is not what was announced of it, as the other side found.
const FILE_DIFFERS: &str = "file-differs";

/// The code of a file that is larger than the other side takes.
const TOO_LARGE: &str = "too-large";

/// The code of a file whose hash is not the one that was named.
const DAMAGED: &str = "damaged";

/// The code of a file that is not there.
const NO_SUCH_FILE: &str = "no-such-file";

/// Whether a part of a file may be of another than the one that is there now.
pub(super) fn is_of_another(problem: &Problem) -> bool {
    [FILE_CHANGED, FILE_DIFFERS, DAMAGED].contains(&problem.code)
}

/// Whether it was the other side's word that ended something before it began: it may be about the part that was asked for.
pub(super) fn is_refusal(fault: &Fault) -> bool {
    matches!(
        fault,
        Fault::Declined(_)
            | Fault::WrongRange
            | Fault::Changed
            | Fault::Session(Cause::Remote(_) | Cause::Refused { .. })
    )
}

/// Something of ours.
pub(super) fn misuse(what: &str, error: &FileError) -> Problem {
    let hint = "report it, with what --trace FILE writes";
    Problem::new(Exit::Failed, "misuse", what, error.to_string(), hint)
}

/// The code of what needs a connection to the server.
pub(super) const OFFLINE: &str = "offline";

/// There will be no connection to the server any more.
pub(super) fn offline(what: &str) -> Problem {
    let why = "the connection is gone for good";
    let hint = "start it again, when the account can log in";
    Problem::new(Exit::Failed, OFFLINE, what, why, hint)
}

/// Something with a thread.
pub(super) fn thread(error: &tokio::task::JoinError) -> Problem {
    let hint = "report it, with what --trace FILE writes";
    Problem::new(Exit::Failed, "misuse", "go on", error.to_string(), hint)
}

/// What somebody shares is not known.
#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "what a server may say besides is told as it is"
)]
pub(super) fn unlisted(what: &str, error: &StanzaError) -> Problem {
    let (code, why, hint) = match error.condition {
        Condition::ItemNotFound => (
            "nothing-shared",
            "nothing is told there".to_owned(),
            "ask its owner, or name a file: pcp get JID:NAME",
        ),
        Condition::Forbidden | Condition::NotAuthorized | Condition::NotAllowed => (
            "not-a-contact",
            "it shows that to its contacts alone".to_owned(),
            "let its owner add you, or name a file: pcp get JID:NAME",
        ),
        _ => (
            "not-told",
            printable(&error.to_string()),
            "its server may not keep such lists; name a file: pcp get JID:NAME",
        ),
    };
    Problem::new(Exit::Failed, code, what, why, hint)
}

/// Something of the system.
pub(super) fn io(what: &str, error: &io::Error) -> Problem {
    Problem::new(Exit::Failed, "system", what, error.to_string(), "")
}

/// Something with a disk.
pub(super) fn disk(error: &DiskError) -> Problem {
    let code = match error.problem {
        DiskProblem::Full => "disk-full",
        DiskProblem::Denied | DiskProblem::ReadOnly | DiskProblem::Hidden => "not-allowed",
        DiskProblem::Missing => NO_SUCH_FILE,
        DiskProblem::Changed => FILE_CHANGED,
        DiskProblem::Exists | DiskProblem::Folder => "file-exists",
        DiskProblem::Link
        | DiskProblem::NotAFile
        | DiskProblem::NotAFolder
        | DiskProblem::Reserved
        | DiskProblem::TooManyOpen
        | DiskProblem::Other(_) => "disk",
    };
    // Also a name on our own disk may be somebody else's.
    let path = printable(&error.path.to_string_lossy());
    let what = format!("{} {path}", error.what);
    Problem::new(
        Exit::Failed,
        code,
        what,
        error.problem.to_string(),
        error.hint(),
    )
}

/// Whether a code of [`disk`] or [`fault`] is about one file, and not about who is to have it.
pub(super) fn is_of_a_file(code: &str) -> bool {
    const CODES: [&str; 8] = [
        "disk",
        NO_SUCH_FILE,
        "not-allowed",
        TOO_LARGE,
        FILE_CHANGED,
        FILE_DIFFERS,
        "file-exists",
        "peer-failed",
    ];
    CODES.contains(&code)
}

/// What the other side is told of something with a disk.
pub(super) fn reason(error: &DiskError) -> Reason {
    let text = match error.problem {
        DiskProblem::Full => "there is no room on the disk",
        DiskProblem::Changed => "the file was changed while it was read",
        DiskProblem::Hidden => "names that begin with a dot are not taken there",
        // Where what is on our disk is nobody's affair.
        DiskProblem::Denied
        | DiskProblem::ReadOnly
        | DiskProblem::Missing
        | DiskProblem::Exists
        | DiskProblem::Link
        | DiskProblem::NotAFile
        | DiskProblem::NotAFolder
        | DiskProblem::Folder
        | DiskProblem::Reserved
        | DiskProblem::TooManyOpen
        | DiskProblem::Other(_) => "the disk does not take it",
    };
    Reason::new(ReasonCondition::FailedApplication).with_text(text)
}

/// A file that did not arrive.
pub(super) fn fault(what: &str, fault: &Fault) -> Problem {
    let (exit, code, hint) = match fault {
        Fault::Declined(_) => (Exit::Declined, "declined", "ask whoever is there"),
        Fault::Changed => (Exit::Failed, FILE_CHANGED, AGAIN),
        Fault::WrongHash(_) | Fault::Forged | Fault::Unproven => {
            (Exit::Failed, DAMAGED, "give the same command again")
        }
        Fault::Unprotected => (
            Exit::Failed,
            "not-encrypted",
            "add --allow-plaintext, if whoever is on the way may read it",
        ),
        Fault::Session(cause) => of_cause(cause),
        Fault::Aborted(Some(reason)) if reason.condition == ReasonCondition::FailedTransport => {
            (Exit::Failed, "connection-lost", AGAIN)
        }
        Fault::Aborted(Some(reason)) if reason.condition == ReasonCondition::Gone => (
            Exit::Failed,
            "peer-gone",
            "when the other side is back, give the same command again: it goes on where it was",
        ),
        // A connection that breaks looks like one that ends.
        Fault::TooLittle { .. } => (Exit::Failed, "connection-lost", AGAIN),
        Fault::TooMuch(_) => (
            Exit::Failed,
            TOO_LARGE,
            "let it be sent again when nobody writes to it",
        ),
        Fault::Aborted(Some(reason)) if is_too_large(reason) => (Exit::Failed, TOO_LARGE, IN_PARTS),
        Fault::Aborted(_) | Fault::WrongRange => (Exit::Failed, "aborted", AGAIN),
    };
    // Both may be the other side's words.
    let (what, why) = (printable(what), printable(&fault.to_string()));
    Problem::new(exit, code, what, why, hint)
}

#[allow(
    clippy::wildcard_enum_match_arm,
    reason = "whatever else ends a session is told by its text"
)]
fn of_cause(cause: &Cause) -> (Exit, &'static str, &'static str) {
    match cause {
        Cause::Remote(Some(reason)) if declines(reason) => {
            (Exit::Declined, "declined", "ask whoever is there")
        }
        // In the middle, or instead of an answer: so Gajim declines.
        Cause::Remote(Some(reason)) if reason.condition == ReasonCondition::Cancel => (
            Exit::Declined,
            "cancelled",
            "ask whoever is there; the same command goes on where it was",
        ),
        Cause::Remote(Some(reason)) if reason.extra == crate::file_not_available().extra => {
            (Exit::Failed, NO_SUCH_FILE, "see what there is: pcp get JID")
        }
        Cause::Remote(Some(reason)) if reason.condition == ReasonCondition::FailedApplication => (
            Exit::Failed,
            "peer-failed",
            "when the cause is gone, give the same command again: it goes on where it was",
        ),
        Cause::Remote(Some(reason)) if is_too_large(reason) => (Exit::Failed, TOO_LARGE, IN_PARTS),
        Cause::Remote(Some(reason)) if reason.condition == ReasonCondition::MediaError => (
            Exit::Failed,
            FILE_DIFFERS,
            "give the same command again when nobody writes to it",
        ),
        // There was a path, and the other end of it went away.
        Cause::Transport(TransportError::Closed) => (Exit::Failed, "connection-lost", AGAIN),
        Cause::NoConnectivity | Cause::Transport(_) | Cause::NoCommonTransport => (
            Exit::Failed,
            "no-path",
            "is a firewall in the way? --turn names a relay; without encryption --allow-plaintext adds ways through servers",
        ),
        Cause::NoAnswer(_) => (
            Exit::Failed,
            "peer-silent",
            "is the other side still there?",
        ),
        Cause::ConnectionLost | Cause::Remote(_) | Cause::RingingTimeout => {
            (Exit::Failed, "connection-lost", AGAIN)
        }
        Cause::Refused { .. } => (
            Exit::Failed,
            "refused",
            "does the other side let us in (--accept)?",
        ),
        _ => (Exit::Failed, "ended", AGAIN),
    }
}

fn is_too_large(reason: &Reason) -> bool {
    reason.extra == crate::file_too_large().extra
}

fn declines(reason: &Reason) -> bool {
    matches!(
        reason.condition,
        ReasonCondition::Decline | ReasonCondition::Busy | ReasonCondition::SecurityError
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_that_the_other_side_cancels_is_no_lost_connection() {
        let told = |cause| fault("send x", &Fault::Session(cause));
        let cancelled = told(Cause::Remote(Some(ReasonCondition::Cancel.into())));
        assert_eq!(
            (cancelled.exit, cancelled.code),
            (Exit::Declined, "cancelled")
        );
        let lost = told(Cause::ConnectionLost);
        assert_eq!((lost.exit, lost.code), (Exit::Failed, "connection-lost"));
    }

    #[test]
    fn what_the_other_side_says_looks_like_no_line_of_ours() {
        let said = Reason::new(ReasonCondition::Decline).with_text("no\nreceived all\u{9b}2J");
        let told = fault("receive a\u{202e}b\nc", &Fault::Declined(Some(said)));
        let text = format!("{} {}", told.what, told.why);
        assert!(text.contains("received all"), "{text}");
        assert!(!text.chars().any(crate::name::misleads), "{text:?}");
        let told = disk(&DiskError::new("send", "a\u{1b}[2Jb", DiskProblem::Missing));
        assert_eq!(told.what, "send a\u{fffd}[2Jb");
    }
}
