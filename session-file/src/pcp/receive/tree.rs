//! Files and folders in one stream.

use super::{Arrival, Inbox};
use crate::{
    File, TransferId, TreeLimits,
    disk::{Meter, PIECES, TREE_TICK, TreeLanding, TreeReport, receive_tree},
    pcp::{
        failing,
        hand::Hand,
        pump::{BATCHES, Line},
        send::now,
    },
    tree_totals,
};
use bytes::Bytes;
use session_core::{Reason, ReasonCondition};
use session_xmpp::cli::{Exit, Problem};
use std::sync::Arc;
use tokio::{
    sync::mpsc::{self, WeakSender},
    time::sleep,
};

pub(super) async fn receive(
    hand: &Hand,
    inbox: &Inbox,
    id: &TransferId,
    from: &str,
    file: &File,
) -> Result<(), Problem> {
    let begun = now();
    let name = file.name.as_deref().unwrap_or_default().to_owned();
    let what = format!("receive {name}");
    let totals = tree_totals(file, &TreeLimits::default());
    let totals = totals.ok().flatten().unwrap_or_default();
    let meter = Arc::new(Meter::default());
    meter.expect(totals.entries, Some(totals.bytes));
    let mut line = Line::new(hand.endpoint(), id)?;
    let shown = hand.view().track(&name, &meter);
    let opened = line.opened().await;
    opened.map_err(|fault| failing::fault(&what, &fault))?;
    // There is room for what was announced.
    let limits = TreeLimits::default().for_offer(totals);
    let report = stream(hand, inbox, &mut line, &what, limits, &meter).await?;
    let (path, protection) = (line.path(), line.protection());
    match report.unkept {
        0 => line
            .finish()
            .map_err(|fault| failing::fault(&what, &fault))?,
        some => line.cancel(unkept(some)),
    }
    drop(shown);
    let failures = report.failures;
    let failed = report.failed.into_iter();
    hand.view().received(&Arrival {
        from: from.to_owned(),
        name: name.clone(),
        bytes: report.bytes,
        hash: None,
        verified: true,
        files: (report.received, report.skipped),
        refused: report.refused,
        failed: (
            failed.map(|(path, why)| (path.to_string(), why)).collect(),
            failures,
        ),
        offset: 0,
        path,
        protection,
        took: now().saturating_duration_since(begun),
    });
    match failures {
        0 => Ok(()),
        some => {
            let why = format!("{some} files failed");
            let hint =
                "when the cause is gone, let it be sent again: what is here is not sent twice";
            Err(Problem::new(Exit::Failed, "incomplete", what, why, hint))
        }
    }
}

async fn stream(
    hand: &Hand,
    inbox: &Inbox,
    line: &mut Line,
    what: &str,
    limits: TreeLimits,
    meter: &Arc<Meter>,
) -> Result<TreeReport, Problem> {
    let Some(folder) = inbox.folder().cloned() else {
        return Ok(TreeReport::default());
    };
    let (sender, from) = mpsc::channel(PIECES);
    let (to, input) = mpsc::channel(BATCHES);
    let (counted, existing) = (meter.clone(), inbox.existing());
    let thread = tokio::task::spawn_blocking(move || {
        receive_tree(&folder, limits, existing, input, &sender, &counted)
    });
    let ticks = to.downgrade();
    let fault = {
        let carrying = line.exchange(from, to, hand.limit());
        tokio::pin!(carrying);
        tokio::select! {
            fault = &mut carrying => fault?,
            () = tick(ticks) => carrying.await?,
        }
    };
    match thread.await.map_err(|error| failing::thread(&error))? {
        Ok(report) if report.whole => Ok(report),
        Ok(_) => {
            let fault = fault.unwrap_or(crate::Fault::Aborted(None));
            Err(failing::fault(what, &fault))
        }
        Err(TreeLanding::Disk(error)) => {
            line.cancel(failing::reason(&error));
            Err(failing::disk(&error))
        }
        Err(TreeLanding::Tree(error)) => {
            let reason = Reason::new(ReasonCondition::MediaError);
            line.cancel(reason.with_text(error.to_string()));
            let hint = "nothing of it is needed any more; tell whoever sent it";
            Err(Problem::new(
                Exit::Failed,
                "bad-tree",
                what,
                error.to_string(),
                hint,
            ))
        }
    }
}

/// What the sender is told who has sent everything: its copy may be the only one. Why it is so is nobody's affair.
fn unkept(count: u64) -> Reason {
    let text = format!("{count} of its files and folders could not be kept");
    Reason::new(ReasonCondition::FailedApplication).with_text(text)
}

/// Tells a thread that time passes, as long as it is told anything.
async fn tick(pieces: WeakSender<Vec<Bytes>>) {
    while let Some(pieces) = pieces.upgrade() {
        // Where others wait it has enough to do, and looks at its clock then.
        let _ = pieces.try_send(Vec::new());
        drop(pieces);
        sleep(TREE_TICK).await;
    }
}
