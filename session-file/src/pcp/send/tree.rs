//! Files and folders in one stream.

use super::{Delivery, one::now};
use crate::{
    EntryKind, Outcome, Proposal, TreeLimits, TreeTotals,
    disk::{Found, Meter, PIECES, TreeSent, Walk, send_tree},
    pcp::{
        failing,
        hand::Hand,
        pump::{BATCHES, Line},
    },
    tree_offer,
};
use session_core::{Peer, Reason, ReasonCondition};
use session_xmpp::cli::{Exit, Problem};
use std::{path::PathBuf, sync::Arc};
use tokio::sync::mpsc;

pub(super) async fn send(hand: &Hand, to: &Peer, paths: Vec<PathBuf>) -> Result<Delivery, Problem> {
    let begun = now();
    let name = title(&paths);
    let what = format!("send {name}");
    let walked = paths.clone();
    let totals = tokio::task::spawn_blocking(move || count(walked)).await;
    let (totals, files) = totals.map_err(|error| failing::thread(&error))?;
    let limits = TreeLimits::default();
    if totals.entries > limits.entries || totals.bytes > limits.bytes {
        let why = format!(
            "more than {} files or {} bytes are too many at once",
            limits.entries, limits.bytes
        );
        let hint = "send it in parts";
        return Err(Problem::new(Exit::Failed, "too-many", what, why, hint));
    }
    let meter = Arc::new(Meter::default());
    meter.expect(files, Some(totals.bytes));
    let offer = Proposal::Offer(tree_offer(&name, totals));
    let mut line = hand.propose(to, None, offer).await?;
    let shown = hand.view().track(&name, &meter);
    let sent = stream(hand, &mut line, paths, &what, &meter).await;
    let sent = match sent {
        Ok(sent) => sent,
        Err(problem) => {
            hand.release(&line);
            return Err(problem);
        }
    };
    let path = line.path();
    // Who has all of it may have said so and be gone: then it is over, and that says how.
    let _ = line.finish();
    let outcome = line.over().await;
    let protection = line.protection();
    hand.release(&line);
    drop(shown);
    let outcome = outcome.map_err(|fault| {
        hand.view().all_left_out(&sent.left_out);
        failing::fault(&what, &fault)
    })?;
    let delivery = Delivery {
        name,
        bytes: sent.bytes,
        hash: None,
        files: (sent.sent, sent.skipped),
        refused: sent.refused,
        left_out: (sent.left_out, sent.failed),
        offset: 0,
        path,
        protection,
        took: now().saturating_duration_since(begun),
        confirmed: outcome == Some(Outcome::Sent { confirmed: true }),
    };
    hand.view().sent(&delivery);
    Ok(delivery)
}

async fn stream(
    hand: &Hand,
    line: &mut Line,
    paths: Vec<PathBuf>,
    what: &str,
    meter: &Arc<Meter>,
) -> Result<TreeSent, Problem> {
    let opened = line.opened().await;
    opened.map_err(|fault| failing::fault(what, &fault))?;
    if line.look(crate::Transfer::is_tree) != Some(true) {
        let reason = Reason::new(ReasonCondition::UnsupportedApplications);
        line.cancel(reason);
        let why = "the other side does not know folders, though it says so";
        let hint = "pack it into an archive first";
        return Err(Problem::new(Exit::Failed, "no-folders", what, why, hint));
    }
    let (sender, from) = mpsc::channel(PIECES);
    let (to, input) = mpsc::channel(BATCHES);
    let counted = meter.clone();
    let thread = tokio::task::spawn_blocking(move || {
        send_tree(
            Walk::new(paths),
            TreeLimits::default(),
            input,
            sender,
            &counted,
        )
    });
    let fault = line.exchange(from, to, hand.limit()).await?;
    let sent = thread.await.map_err(|error| failing::thread(&error))?;
    match sent {
        Ok(sent) if sent.whole => Ok(sent),
        Ok(_) => {
            let fault = fault.unwrap_or(crate::Fault::Aborted(None));
            Err(failing::fault(what, &fault))
        }
        Err(error) => {
            let reason = Reason::new(ReasonCondition::GeneralError);
            line.cancel(reason.with_text(error.to_string()));
            let hint = "report it, with what --trace FILE writes";
            Err(Problem::new(
                Exit::Failed,
                "tree",
                what,
                error.to_string(),
                hint,
            ))
        }
    }
}

/// How much there is, as far as it can be sent, and how many files.
fn count(paths: Vec<PathBuf>) -> (TreeTotals, u64) {
    let (mut totals, mut files) = (TreeTotals::default(), 0);
    for found in Walk::new(paths) {
        if let Found::Entry(entry, _) = found {
            totals.entries += 1;
            if let EntryKind::File { size, .. } = entry.kind {
                totals.bytes = totals.bytes.saturating_add(size);
                files += 1;
            }
        }
    }
    (totals, files)
}

/// What it is called, for people.
fn title(paths: &[PathBuf]) -> String {
    match paths {
        [only] => {
            let full = only.canonicalize();
            let path = full.as_ref().unwrap_or(only);
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            match crate::sanitize_name(&name) {
                Ok(name) => name.as_str().to_owned(),
                Err(_) => "folder".to_owned(),
            }
        }
        several => format!("{} files and folders", several.len()),
    }
}
