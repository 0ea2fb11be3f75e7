//! One file, or a stream.

use super::Delivery;
use crate::{
    Fault, File, FileRange, Hasher, Outcome, Proposal, TransferId,
    disk::{DiskError, Meter, PIECES, Read, Source},
    pcp::{failing, hand::Hand, pump::Line},
};
use session_core::{Peer, ReasonCondition};
use session_xmpp::cli::Problem;
use std::{sync::Arc, time::Instant};
use tokio::{sync::mpsc, task::JoinHandle};

/// What is left of one try.
enum Try {
    Done(Box<Delivery>),
    /// What the receiver has of it is another file: it begins anew.
    Anew,
}

/// Sends what `open` gives.
pub(super) async fn send(
    hand: &Hand,
    to: &Peer,
    name: &str,
    open: impl Fn() -> Result<Source, DiskError>,
) -> Result<Delivery, Problem> {
    let mut fresh = false;
    loop {
        let source = open().map_err(|error| failing::disk(&error))?;
        let mut file = source.offer(name).map_err(|error| failing::disk(&error))?;
        // It may begin wherever the receiver is, unless what that has is of another file.
        file.range = (!fresh && source.stamp().is_some()).then(FileRange::default);
        let mut line = hand
            .propose(to, None, Proposal::Offer(file.clone()))
            .await?;
        let tried = attempt(hand, &mut line, &file, source, fresh).await;
        hand.release(&line);
        match tried? {
            Try::Done(delivery) => return Ok(*delivery),
            Try::Anew => fresh = true,
        }
    }
}

/// Sends it in a session that whoever began it lets go of.
async fn attempt(
    hand: &Hand,
    line: &mut Line,
    file: &File,
    source: Source,
    fresh: bool,
) -> Result<Try, Problem> {
    let begun = now();
    let name = file.name.as_deref().unwrap_or_default().to_owned();
    let what = format!("send {name}");
    let meter = Arc::new(Meter::default());
    meter.expect(1, file.size);
    let shown = hand.view().track(&name, &meter);
    let carried = carry(hand, line, &source, &meter).await;
    let protection = line.protection();
    let (offset, read, path, outcome) = match carried {
        Ok(carried) => carried,
        Err(Stopped::Fault(Fault::Changed)) if !fresh => return Ok(Try::Anew),
        Err(Stopped::Fault(fault)) => return Err(failing::fault(&what, &fault)),
        Err(Stopped::Problem(problem)) => return Err(problem),
    };
    let confirmed = outcome == Outcome::Sent { confirmed: true };
    meter.file();
    drop(shown);
    let delivery = Delivery {
        name,
        bytes: read.hasher.length() - offset,
        hash: crate::disk::sha256(&read.hasher),
        files: (1, 0),
        refused: 0,
        left_out: (Vec::new(), 0),
        offset,
        path,
        protection,
        took: now().saturating_duration_since(begun),
        confirmed,
    };
    hand.view().sent(&delivery);
    Ok(Try::Done(Box::new(delivery)))
}

/// Serves a file that a peer has asked for, and that was provided. Others may be in its session.
pub(in crate::pcp) async fn serve(
    hand: &Hand,
    id: &TransferId,
    source: Source,
    name: &str,
) -> Result<(), Problem> {
    let mut line = Line::new(hand.endpoint(), id)?;
    let file = File {
        name: Some(name.into()),
        size: source.stamp().map(|stamp| stamp.size),
        ..File::default()
    };
    let served = attempt(hand, &mut line, &file, source, true).await;
    if served.is_err() {
        // Where that is why it failed, it is over.
        line.cancel(ReasonCondition::FailedApplication.into());
    }
    served.map(|_| ())
}

/// Offers a file in the session that was named to whoever wants it.
pub(in crate::pcp) async fn start(
    hand: &Hand,
    to: &Peer,
    sid: &str,
    source: Source,
    file: File,
) -> Result<(), Problem> {
    let offer = Proposal::Offer(file.clone());
    let mut line = hand.propose(to, Some(sid), offer).await?;
    let sent = attempt(hand, &mut line, &file, source, true).await;
    hand.release(&line);
    sent.map(|_| ())
}

enum Stopped {
    Fault(Fault),
    Problem(Problem),
}

impl From<Fault> for Stopped {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl From<Problem> for Stopped {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Sends it, and once more when its transport broke and the peer cannot say what it has. From where on, what was read, what
/// carried it, and how it ended.
async fn carry(
    hand: &Hand,
    line: &mut Line,
    source: &Source,
    meter: &Arc<Meter>,
) -> Result<(u64, Read, String, Outcome), Stopped> {
    loop {
        let again = source.again().map_err(|error| failing::disk(&error))?;
        let poured = pour(hand, line, again, meter).await;
        if !line.begin_again() {
            let (offset, read) = poured?;
            let path = line.path();
            if let Some(outcome) = line.over().await? {
                return Ok((offset, read, path, outcome));
            }
            line.begin_again();
        }
        meter.restart();
    }
}

/// Sends every byte that the receiver does not have. From where on, and what was read.
async fn pour(
    hand: &Hand,
    line: &mut Line,
    source: Source,
    meter: &Arc<Meter>,
) -> Result<(u64, Read), Stopped> {
    let offset = line.opened().await?;
    let (source, prefix) = front(source, offset).await?;
    if offset > 0 {
        meter.skip(offset);
        line.prime(prefix.clone())?;
    }
    let sized = source.stamp().is_some();
    let (sender, mut pieces) = mpsc::channel(PIECES);
    let counted = meter.clone();
    let reading: JoinHandle<_> =
        tokio::task::spawn_blocking(move || source.pour(prefix, &sender, &counted));
    let written = line.write_all(&mut pieces, hand.limit()).await;
    drop(pieces);
    if let (false, Err(fault)) = (sized, &written) {
        // The thread waits for what a stream may give at any time, or never.
        return Err(fault.clone().into());
    }
    let read = match reading.await {
        Ok(Ok(Some(read))) => read,
        Ok(Ok(None)) => {
            written?;
            return Err(Fault::Aborted(None).into());
        }
        Ok(Err(error)) => {
            line.cancel(failing::reason(&error));
            return Err(failing::disk(&error).into());
        }
        Err(error) => return Err(failing::thread(&error).into()),
    };
    written?;
    line.show(&read.hasher)?;
    if !sized {
        line.finish()?;
    }
    Ok((offset, read))
}

/// The hasher of what the receiver has.
async fn front(mut source: Source, offset: u64) -> Result<(Source, Hasher), Stopped> {
    let hashed = tokio::task::spawn_blocking(move || {
        let hasher = source.hash_front(offset)?;
        Ok::<_, DiskError>((source, hasher))
    });
    match hashed.await {
        Ok(Ok((source, hasher))) if hasher.length() == offset => Ok((source, hasher)),
        // It has become shorter than it was offered.
        Ok(Ok(_)) => Err(Fault::Changed.into()),
        Ok(Err(error)) => Err(failing::disk(&error).into()),
        Err(error) => Err(failing::thread(&error).into()),
    }
}

pub(in crate::pcp) fn now() -> Instant {
    Instant::now()
}
