//! `pcp receive`.

mod one;
mod tree;

use super::{failing, hand::Hand, pump::Line};
use crate::{
    Acceptance, Decision, Direction, FileClient, FileName, FileOffer, Hash, OfferedFile,
    TransferId, TreeLimits,
    disk::{DiskError, Existing, Folder},
    file_not_available, tree_totals,
};
use session_core::{Notice, Reason, ReasonCondition, SessionId};
use session_xmpp::cli::{Exit, Problem};
use std::{
    collections::BTreeSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Notify, task::JoinSet};

pub(super) use one::{Landing, Proof, bad_name, check_room, land};

/// Transfers that run at a time. Further ones are declined as busy.
const AT_ONCE: usize = 8;

/// Where things go that arrive.
#[derive(Clone, Debug)]
pub struct Inbox {
    folder: Option<Arc<Folder>>,
    existing: Existing,
}

/// Something that arrived.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// From whom.
    pub from: String,
    /// What, for people: under which name it is kept.
    pub name: String,
    /// Bytes that arrived now.
    pub bytes: u64,
    /// The SHA-256 of a file.
    pub hash: Option<Hash>,
    /// Whether the sender's hash was compared.
    pub verified: bool,
    /// Files of a folder that arrived, and that were there already.
    pub files: (u64, u64),
    /// Files of a folder that were not taken, as others have their names.
    pub refused: u64,
    /// What failed, and how much.
    pub failed: (Vec<(String, String)>, u64),
    /// From where on it was received.
    pub offset: u64,
    /// What carried it.
    pub path: String,
    /// What protected it.
    pub protection: String,
    /// How long it took.
    pub took: Duration,
}

impl Inbox {
    /// A folder, which is made if it is not there; `-` for standard output.
    ///
    /// # Errors
    /// Why it cannot be used.
    pub fn new(into: &Path, existing: Existing) -> Result<Self, Problem> {
        Self::open(into, existing, Folder::create)
    }

    /// The same, which takes nothing whose name begins with a dot, as a home folder should: `.profile` steers programs.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn without_hidden(into: &Path, existing: Existing) -> Result<Self, Problem> {
        Self::open(into, existing, |path| {
            Folder::create(path).map(Folder::without_hidden)
        })
    }

    fn open(
        into: &Path,
        existing: Existing,
        create: impl FnOnce(&Path) -> Result<Folder, DiskError>,
    ) -> Result<Self, Problem> {
        let folder = match into == Path::new("-") {
            true => None,
            false => {
                let folder = create(into).map_err(|error| failing::disk(&error))?;
                Some(Arc::new(folder))
            }
        };
        Ok(Self { folder, existing })
    }

    /// Whether it is standard output.
    pub fn is_stream(&self) -> bool {
        self.folder.is_none()
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        let path = self.folder.as_ref().map(|folder| folder.path());
        path.map_or_else(
            || "standard output".to_owned(),
            |path| path.display().to_string(),
        )
    }

    pub(super) fn folder(&self) -> Option<&Arc<Folder>> {
        self.folder.as_ref()
    }

    pub(super) fn existing(&self) -> Existing {
        self.existing
    }

    /// Takes what is offered, until there were so many transfers, or for ever.
    ///
    /// # Errors
    /// When nothing can come any more. What fails for single transfers is told, and is [`Exit::Failed`] in the end.
    pub async fn run(self, hand: &Hand, count: Option<u64>) -> Result<Exit, Problem> {
        let mut offers = hand
            .endpoint()
            .update(|manager, _| {
                Some(
                    manager
                        .find_client::<FileClient>()?
                        .signal_offer()
                        .connect(),
                )
            })
            .ok_or_else(|| failing::misuse("wait for files", &crate::FileError::NoClient))?;
        let mut running = JoinSet::new();
        let (mut taken, mut failures) = (0, 0);
        let mut looked_at = BTreeSet::new();
        let mut exit = Exit::Done;
        let landing = Arc::new(Landings::default());
        let ended = hand.ended();
        tokio::pin!(ended);
        let mut is_over = false;
        loop {
            if count.is_some_and(|count| taken >= count) && running.is_empty() {
                return Ok(exit);
            }
            if is_over && running.is_empty() {
                return Err(failing::offline("wait for files"));
            }
            for mut offer in waiting(hand) {
                let session = offer.session;
                // What is looked at still waits.
                offer
                    .files
                    .retain(|file| !looked_at.contains(&(session, file.content.clone())));
                if offer.files.is_empty() {
                    continue;
                }
                let enough = |number| count.is_some_and(|count| taken + number >= count);
                if running.len() >= AT_ONCE || enough(landing.number.load(Relaxed)) {
                    decline(hand, &offer, ReasonCondition::Busy.into());
                    continue;
                }
                if enough(running.len() as u64) {
                    // What is decided about at this moment may be no transfer.
                    continue;
                }
                looked_at.extend(names(&offer));
                running.spawn(take(hand.clone(), self.clone(), offer, landing.clone()));
            }
            tokio::select! {
                notice = offers.next(), if !is_over => {
                    is_over = matches!(notice, None | Some(Notice::Ended));
                }
                // What runs needs no server.
                () = &mut ended, if !is_over => is_over = true,
                () = landing.more.notified() => {}
                Some(done) = running.join_next() => {
                    let outcome = match done {
                        Ok((done, outcome)) => {
                            // Others of its session may be looked at yet.
                            for file in &done {
                                looked_at.remove(file);
                            }
                            outcome
                        }
                        Err(error) => Err(failing::thread(&error)),
                    };
                    taken += u64::from(!matches!(outcome, Ok(false)));
                    if let Err(problem) = outcome {
                        hand.view().problem(&problem);
                        failures += 1;
                    }
                    exit = if failures == 0 { Exit::Done } else { Exit::Failed };
                }
            }
        }
    }
}

/// How many of those that run are transfers for sure.
#[derive(Debug, Default)]
struct Landings {
    number: AtomicU64,
    more: Notify,
}

/// One of them, as long as it runs.
struct Lands<'a>(&'a Landings);

impl<'a> Lands<'a> {
    fn new(all: &'a Landings) -> Self {
        all.number.fetch_add(1, Relaxed);
        all.more.notify_one();
        Self(all)
    }
}

impl Drop for Lands<'_> {
    fn drop(&mut self) {
        self.0.number.fetch_sub(1, Relaxed);
    }
}

/// What waits for a decision.
fn waiting(hand: &Hand) -> Vec<FileOffer> {
    hand.endpoint().update(|manager, _| {
        let client = manager.find_client::<FileClient>();
        client.map_or_else(Vec::new, |client| client.offers().collect())
    })
}

fn decline(hand: &Hand, offer: &FileOffer, reason: Reason) {
    let skip = |file: &OfferedFile| (file.content.clone(), Decision::Skip(reason.clone()));
    let decisions = offer.files.iter().map(skip).collect();
    // It may be over already.
    let _ = hand.answer(offer.session, decisions);
}

/// What is to become of one file.
struct Choice {
    decision: Decision,
    landing: Option<Landing>,
    /// There is no more to it, and it was a transfer: of what we have already.
    is_done: bool,
}

impl Choice {
    /// Nothing that we could take.
    fn none(reason: Reason) -> Self {
        Self {
            decision: Decision::Skip(reason),
            landing: None,
            is_done: false,
        }
    }

    /// Nothing but one file, which goes to standard output.
    fn one_alone() -> Self {
        let reason = Reason::new(ReasonCondition::Decline);
        Self::none(reason.with_text("only one file can be taken here"))
    }
}

/// What an offer is of.
fn names(offer: &FileOffer) -> Vec<(SessionId, Arc<str>)> {
    let name = |file: &OfferedFile| (offer.session, file.content.clone());
    offer.files.iter().map(name).collect()
}

/// Decides about an offer, and receives what of it is taken. Whether it was a transfer: what is no file for us is none, nor what is
/// taken back while it is looked at, and who offers another one in its place has not been heard yet.
async fn take(
    hand: Hand,
    inbox: Inbox,
    offer: FileOffer,
    landing: Arc<Landings>,
) -> (Vec<(SessionId, Arc<str>)>, Result<bool, Problem>) {
    let taken = take_all(&hand, &inbox, &offer, &landing).await;
    (names(&offer), taken)
}

async fn take_all(
    hand: &Hand,
    inbox: &Inbox,
    offer: &FileOffer,
    landing: &Landings,
) -> Result<bool, Problem> {
    let mut landings = Vec::new();
    let mut decisions = Vec::new();
    let mut faults = Vec::new();
    let mut is_transfer = false;
    for file in &offer.files {
        match decide(inbox, file, landings.len()).await {
            Ok(Choice {
                decision,
                landing,
                is_done,
            }) => {
                if let (Decision::Skip(reason), Direction::Receive) = (&decision, file.direction) {
                    let name = file.file.name.as_deref().unwrap_or_default();
                    hand.view().refused(offer.from.as_str(), name, reason);
                }
                decisions.push((file.content.clone(), decision));
                landings.extend(landing.map(|landing| (file.clone(), landing)));
                is_transfer |= is_done;
            }
            Err(error) => {
                let decision = Decision::Skip(failing::reason(&error));
                decisions.push((file.content.clone(), decision));
                faults.push(failing::disk(&error));
            }
        }
    }
    let answered = hand.answer(offer.session, decisions);
    let mut accepted = Vec::new();
    for (file, landing) in landings {
        let id = TransferId {
            session: offer.session,
            content: file.content.clone(),
        };
        match answered.is_ok() && Line::new(hand.endpoint(), &id).is_ok() {
            true => accepted.push((id, file, landing)),
            // It was taken back meanwhile, or what is offered is not what is there.
            false => one::give_back(landing).await,
        }
    }
    answered.map_err(|error| failing::misuse("accept what is offered", &error))?;
    let from = offer.from.as_str();
    // Of what is there already, its sender may think again.
    let sure = |(.., landing): &(_, _, Landing)| !matches!(landing, Landing::There(..));
    let _lands = accepted.iter().any(sure).then(|| Lands::new(landing));
    for (id, file, landing) in accepted {
        let done = match landing {
            Landing::Tree => {
                let received = tree::receive(hand, inbox, &id, from, &file.file).await;
                received.map(|()| true)
            }
            other @ (Landing::Sink(_) | Landing::There(..)) => {
                let how = (inbox.existing, Proof::Had);
                land(hand, &id, from, &file.file, other, how).await
            }
        };
        match done {
            Ok(landed) => is_transfer |= landed,
            Err(problem) => faults.push(problem),
        }
    }
    hand.release_if_over(offer.session);
    let last = faults.pop();
    for problem in &faults {
        hand.view().problem(problem);
    }
    last.map_or(Ok(is_transfer), Err)
}

/// Decides about a file, behind so many others of its offer that are taken.
async fn decide(inbox: &Inbox, offered: &OfferedFile, taken: usize) -> Result<Choice, DiskError> {
    if offered.direction == Direction::Send {
        return Ok(Choice::none(file_not_available()));
    }
    if inbox.is_stream() && taken > 0 {
        return Ok(Choice::one_alone());
    }
    let file = &offered.file;
    match tree_totals(file, &TreeLimits::default()) {
        Ok(None) => {}
        Ok(Some(totals)) => {
            let Some(folder) = &inbox.folder else {
                return Ok(Choice::one_alone());
            };
            check_room(folder, totals.bytes, file)?;
            let acceptance = Acceptance {
                name: FileName::last_of("folder").ok(),
                tree: true,
                ..Acceptance::default()
            };
            return Ok(Choice {
                decision: Decision::Accept(acceptance),
                landing: Some(Landing::Tree),
                is_done: false,
            });
        }
        Err(error) => {
            let reason = Reason::new(ReasonCondition::Decline).with_text(error.to_string());
            return Ok(Choice::none(reason));
        }
    }
    let name = file.file_name();
    let Ok(name) = name else {
        let reason = Reason::new(ReasonCondition::Decline);
        let text = "its name cannot be that of a file here";
        return Ok(Choice::none(reason.with_text(text)));
    };
    let (decision, landing) = one::decide(inbox, name, file).await?;
    Ok(Choice {
        decision,
        is_done: landing.is_none(),
        landing,
    })
}
