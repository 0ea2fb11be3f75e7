//! One file.

use super::{Arrival, Inbox};
use crate::{
    Acceptance, Decision, Fault, File, FileName, Hasher, Integrity, TransferId,
    disk::{
        DiskError, DiskProblem, Existing, Folder, Kept, Landed, Meter, Partial, Plan, Sink, plan,
    },
    pcp::{
        failing,
        hand::Hand,
        pump::{BATCHES, Line, Stop},
        send::now,
    },
};
use session_core::{Reason, ReasonCondition};
use session_xmpp::cli::{Exit, Problem};
use std::{sync::Arc, thread, time::Duration};
use tokio::sync::mpsc;

/// How often it is tried to go on with a file that another transfer is at: until that is missed, where its sender is gone. Then
/// it is received beside it.
const TRIES: u32 = 300;

/// How long to wait in between.
const TRY_EVERY: Duration = Duration::from_millis(100);

/// Where something goes that was accepted.
#[derive(Debug)]
pub(in crate::pcp) enum Landing {
    /// Into a file, or to standard output.
    Sink(Sink),
    /// It is there already, as far as its hash says so.
    There(Hasher, FileName),
    /// It is a tree.
    Tree,
}

/// Whether so much can be written.
pub(in crate::pcp) fn check_room(
    folder: &Arc<Folder>,
    bytes: u64,
    file: &File,
) -> Result<(), DiskError> {
    let name = file.name.as_deref().unwrap_or_default();
    if !folder.has_room(bytes, bytes) {
        let path = folder.path().join(name.replace(['/', '\0'], "_"));
        return Err(DiskError::new("receive", path, DiskProblem::Full));
    }
    Ok(())
}

pub(super) async fn decide(
    inbox: &Inbox,
    name: FileName,
    file: &File,
) -> Result<(Decision, Option<Landing>), DiskError> {
    let Some(folder) = inbox.folder.clone() else {
        let hasher = Hasher::new(crate::disk::algorithms(file));
        let acceptance = Acceptance {
            name: Some(name),
            ..Acceptance::default()
        };
        let landing = Landing::Sink(Sink::Stream(hasher));
        return Ok((Decision::Accept(acceptance), Some(landing)));
    };
    let (existing, offered, kept) = (inbox.existing, file.clone(), name.clone());
    // Without a range it cannot go on; one of ours offers none when it is another file than we have.
    let fresh = file.range.is_none();
    let modified = file.date.map(|date| (date.unix(), 0));
    let planned = tokio::task::spawn_blocking(move || {
        let mut tries = 0;
        let plan = loop {
            match plan(&folder, &kept, &offered, modified, existing, fresh) {
                Err(error) if error.problem == DiskProblem::Exists => {
                    // The transfer that is to go on is perhaps not quite over.
                    if tries < TRIES && Partial::is_perhaps(&folder, &kept, &offered) {
                        tries += 1;
                        thread::sleep(TRY_EVERY);
                        continue;
                    }
                    let mut partial = Partial::beside(&folder, &kept, &offered)?;
                    partial.dress(None, modified);
                    break Plan::Receive(Box::new(partial));
                }
                plan => break plan?,
            }
        };
        if let Plan::Receive(partial) = &plan {
            let left = offered
                .size
                .unwrap_or_default()
                .saturating_sub(partial.offset());
            check_room(&folder, left, &offered)?;
        }
        Ok(plan)
    });
    let planned = match planned.await {
        Ok(planned) => planned?,
        Err(error) => {
            let problem = DiskProblem::Other(error.to_string());
            return Err(DiskError::new("receive", name.as_str(), problem));
        }
    };
    let accept = |offset, prefix: Option<Hasher>| {
        Decision::Accept(Acceptance {
            name: Some(name.clone()),
            offset,
            prefix,
            tree: false,
        })
    };
    Ok(match planned {
        Plan::Receive(partial) => {
            let offset = partial.offset();
            let prefix = (offset > 0).then(|| partial.hasher().clone());
            let landing = Landing::Sink(Sink::File(partial));
            (accept(offset, prefix), Some(landing))
        }
        Plan::Compare(hasher) => {
            let decision = accept(hasher.length(), Some(hasher.clone()));
            (decision, Some(Landing::There(hasher, name.clone())))
        }
        Plan::Have => (skip("it is here already"), None),
        Plan::Skip => (skip("another file has its name"), None),
    })
}

fn skip(text: &str) -> Decision {
    Decision::Skip(Reason::new(ReasonCondition::Decline).with_text(text))
}

/// Whether what was here of a file is to be proven by its hash, for it to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::pcp) enum Proof {
    /// It is, as nothing else says that it is of this file.
    Needed,
    /// It was compared with what was offered.
    Had,
}

/// Receives a file that was accepted. Whether it did: another one is offered in the place of one that is not what is here.
pub(in crate::pcp) async fn land(
    hand: &Hand,
    id: &TransferId,
    from: &str,
    file: &File,
    landing: Landing,
    (existing, proof): (Existing, Proof),
) -> Result<bool, Problem> {
    let begun = now();
    let name = file.name.as_deref().unwrap_or_default().to_owned();
    let what = format!("receive {name}");
    let mut line = Line::new(hand.endpoint(), id)?;
    let meter = Arc::new(Meter::default());
    meter.expect(1, file.size);
    let shown = hand.view().track(&name, &meter);
    let offset = match line.opened().await {
        Ok(offset) => offset,
        Err(fault) => {
            give_back(landing).await;
            return Err(failing::fault(&what, &fault));
        }
    };
    meter.skip(offset);
    let (kept, integrity, path) = match landing {
        Landing::Sink(sink) => {
            let (sink, integrity) = fill(&mut line, sink, &what, &meter).await?;
            let verified = matches!(integrity, Integrity::Verified(_));
            if offset > 0 && proof == Proof::Needed && !verified {
                give_up(sink, &Fault::Changed);
                line.cancel(ReasonCondition::MediaError.into());
                return Err(failing::fault(&what, &Fault::Changed));
            }
            let path = line.path();
            (keep(&line, sink, existing).await?, integrity, path)
        }
        Landing::There(hasher, name) => {
            let compared = compare(&mut line, &hasher).await;
            let Ok(integrity) = compared else {
                // Its sender offers it again, as another; one that does not know of it is told.
                line.cancel(ReasonCondition::MediaError.into());
                return Ok(false);
            };
            let kept = Kept {
                name,
                bytes: hasher.length(),
                hash: crate::disk::sha256(&hasher),
            };
            (Some(kept), integrity, line.path())
        }
        Landing::Tree => return Ok(false),
    };
    let protection = line.protection();
    line.acknowledge();
    meter.file();
    drop(shown);
    let bytes = meter.bytes().0.saturating_sub(offset);
    let (name, hash) = match kept {
        Some(kept) => (kept.name.as_str().to_owned(), kept.hash),
        None => (name, None),
    };
    hand.view().received(&Arrival {
        from: from.to_owned(),
        name,
        bytes,
        hash,
        verified: matches!(integrity, Integrity::Verified(_)),
        files: (1, 0),
        refused: 0,
        failed: (Vec::new(), 0),
        offset,
        path,
        protection,
        took: now().saturating_duration_since(begun),
    });
    Ok(true)
}

/// Lets go of where something was to go that does not come.
pub(super) async fn give_back(landing: Landing) {
    if let Landing::Sink(sink) = landing {
        let given_back = move || give_up(sink, &Fault::Aborted(None));
        // What a thread has left of it, the next one finds.
        let _ = tokio::task::spawn_blocking(given_back).await;
    }
}

/// Takes every byte, and waits for what its hash says.
async fn fill(
    line: &mut Line,
    sink: Sink,
    what: &str,
    meter: &Arc<Meter>,
) -> Result<(Sink, Integrity), Problem> {
    let (sender, pieces) = mpsc::channel(BATCHES);
    let counted = meter.clone();
    let writing = tokio::task::spawn_blocking(move || sink.fill(pieces, &counted));
    let read = line.read_all(&sender).await;
    drop(sender);
    let Landed { sink, fault } = writing.await.map_err(|error| failing::thread(&error))?;
    if let Some(error) = fault {
        line.cancel(failing::reason(&error));
        give_up(sink, &Fault::Aborted(None));
        return Err(failing::disk(&error));
    }
    let fault = match read {
        Err(Stop::Over(fault)) => Err(fault),
        Err(Stop::Done) => Err(Fault::Aborted(None)),
        Ok(()) => match line.show(sink.hasher()) {
            Ok(()) => line.judged().await,
            Err(fault) => Err(fault),
        },
    };
    match fault {
        Ok(integrity) => Ok((sink, integrity)),
        Err(fault) => {
            give_up(sink, &fault);
            Err(failing::fault(what, &fault))
        }
    }
}

/// What was interrupted is put down in its journal; what is known to be wrong is thrown away. Where the disk does not take that
/// either, what was put down before is read with care.
fn give_up(sink: Sink, fault: &Fault) {
    let Sink::File(partial) = sink else {
        return;
    };
    match fault {
        Fault::WrongHash(_)
        | Fault::TooMuch(_)
        | Fault::Changed
        | Fault::Forged
        | Fault::Unproven => drop(partial.discard()),
        Fault::TooLittle { .. }
        | Fault::WrongRange
        | Fault::Unprotected
        | Fault::Declined(_)
        | Fault::Aborted(_)
        | Fault::Session(_) => partial.leave(),
    }
}

/// Gives the file its name. `None` where it has none.
async fn keep(line: &Line, sink: Sink, existing: Existing) -> Result<Option<Kept>, Problem> {
    let Sink::File(partial) = sink else {
        return Ok(None);
    };
    let kept = tokio::task::spawn_blocking(move || Partial::keep(*partial, existing)).await;
    match kept.map_err(|error| failing::thread(&error))? {
        Ok(kept) => Ok(Some(kept)),
        Err(error) => {
            line.cancel(failing::reason(&error));
            Err(failing::disk(&error))
        }
    }
}

async fn compare(line: &mut Line, hasher: &Hasher) -> Result<Integrity, Fault> {
    line.show(hasher)?;
    match line.judged().await? {
        Integrity::Verified(algorithm) => Ok(Integrity::Verified(algorithm)),
        Integrity::Part(_) | Integrity::Authenticated | Integrity::Unverified => {
            Err(Fault::Changed)
        }
    }
}

/// A name that is none.
pub(in crate::pcp) fn bad_name(name: &str, why: &str) -> Problem {
    let hint = "names look like photos/beach.jpg";
    Problem::new(Exit::Usage, "usage", format!("get {name:?}"), why, hint)
}
