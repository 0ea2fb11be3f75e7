//! `pcp share`.

use super::{failing, hand::Hand, send};
use crate::{
    Decision, Direction, File, FileClient, FileOffer, FileRange, OfferedFile, TransferId, TreePath,
    disk::{DiskError, DiskProblem, Folder, Source},
    file_not_available,
};
use session_core::{Notice, Reason, ReasonCondition, SessionId};
use session_xmpp::cli::{Exit, Problem};
use std::{path::Path, sync::Arc};
use tokio::task::JoinSet;

/// Transfers that run at a time. Further ones are declined as busy.
const AT_ONCE: usize = 8;

/// What others may fetch.
#[derive(Clone, Debug)]
pub struct Shelf {
    folder: Arc<Folder>,
}

/// A file that is given.
#[derive(Debug)]
struct Given {
    content: Arc<str>,
    source: Source,
    name: Arc<str>,
}

impl Shelf {
    /// All that is in a folder.
    ///
    /// # Errors
    /// Why that cannot be.
    pub fn new(path: &Path) -> Result<Self, Problem> {
        let folder = Folder::open(path).map_err(|error| failing::disk(&error))?;
        Ok(Self {
            folder: Arc::new(folder),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Serves whoever is let in.
    ///
    /// # Errors
    /// When nobody can come any more.
    pub async fn run(self, hand: &Hand) -> Result<Exit, Problem> {
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
            .ok_or_else(|| failing::misuse("share files", &crate::FileError::NoClient))?;
        let mut running = JoinSet::new();
        loop {
            let waiting = hand.endpoint().update(|manager, _| {
                let client = manager.find_client::<FileClient>();
                client.map_or_else(Vec::new, |client| client.offers().collect())
            });
            for offer in waiting {
                let busy = running.len() >= AT_ONCE;
                match self.answer(hand, &offer, busy) {
                    Ok(given) if given.is_empty() => {}
                    Ok(given) => {
                        running.spawn(serve(hand.clone(), offer.session, given));
                    }
                    Err(problem) => hand.view().problem(&problem),
                }
            }
            tokio::select! {
                notice = offers.next() => if matches!(notice, None | Some(Notice::Ended)) {
                    let why = "the connection is gone for good";
                    return Err(Problem::new(Exit::Failed, "offline", "share files", why, ""));
                },
                Some(done) = running.join_next() => match done {
                    Ok(outcome) => tell(hand, outcome),
                    Err(error) => hand.view().problem(&failing::thread(&error)),
                }
            }
        }
    }

    /// Decides about what somebody wants: what is given.
    fn answer(&self, hand: &Hand, offer: &FileOffer, busy: bool) -> Result<Vec<Given>, Problem> {
        let mut decisions = Vec::new();
        let mut given = Vec::new();
        for OfferedFile {
            content,
            direction,
            file,
        } in &offer.files
        {
            let decision = match direction {
                _ if busy => Decision::Skip(ReasonCondition::Busy.into()),
                Direction::Receive => {
                    let reason = Reason::new(ReasonCondition::Decline);
                    Decision::Skip(reason.with_text("files are only given here, not taken"))
                }
                Direction::Send => match self.find(file) {
                    Ok((source, file)) => {
                        let name = file.name.clone().unwrap_or_default();
                        given.push(Given {
                            content: content.clone(),
                            source,
                            name,
                        });
                        Decision::Provide(file)
                    }
                    // Why is nobody's affair.
                    Err(_) => Decision::Skip(file_not_available()),
                },
            };
            decisions.push((content.clone(), decision));
        }
        let answered = hand
            .endpoint()
            .update(|manager, now| FileClient::answer(manager, offer.session, decisions, now));
        answered.map_err(|error| failing::misuse("give what is asked for", &error))?;
        Ok(given)
    }

    /// Opens what somebody asks for.
    fn find(&self, asked: &File) -> Result<(Source, File), DiskError> {
        let text = asked.name.as_deref().unwrap_or_default();
        let missing = || DiskError::new("find", text.replace('\0', "_"), DiskProblem::Missing);
        let path = TreePath::new(text).map_err(|_| missing())?;
        let name = path.name();
        if name.as_str().starts_with(crate::disk::RESERVED) {
            return Err(missing());
        }
        let parent = self.folder.parent_of(&path)?;
        let folder = parent.as_ref().unwrap_or(&self.folder);
        let source = Source::of(
            folder.read(name.as_str())?,
            &folder.path().join(name.as_str()),
        )?;
        let mut file = source.offer(name.as_str())?;
        file.range = Some(FileRange::default());
        Ok((source, file))
    }
}

fn tell(hand: &Hand, outcome: Result<(), Problem>) {
    if let Err(problem) = outcome {
        hand.view().problem(&problem);
    }
}

/// Sends what was asked for.
async fn serve(hand: Hand, session: SessionId, given: Vec<Given>) -> Result<(), Problem> {
    for Given {
        content,
        source,
        name,
    } in given
    {
        let id = TransferId { session, content };
        send::serve(&hand, &id, source, &name).await?;
    }
    Ok(())
}
