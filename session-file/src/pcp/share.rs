//! `pcp share`.

use super::{
    board::{self, Board, Wanted},
    failing,
    hand::Hand,
    send,
};
use crate::{
    Decision, Direction, File, FileClient, FileOffer, FileRange, OfferedFile, TransferId, TreePath,
    disk::{DiskError, DiskProblem, Folder, Source},
    file_not_available,
};
use session_core::{Notice, Reason, ReasonCondition, SessionId};
use session_xmpp::{
    cli::{Exit, Problem},
    client::Policy,
    endpoint::Service,
};
use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};
use tokio::{sync::mpsc, task::JoinSet};

/// How often the folder is looked at for what is told of it.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// Files that are given at a time. Further ones are declined as busy.
const AT_ONCE: usize = 8;

/// What others may fetch.
#[derive(Debug)]
pub struct Shelf {
    folder: Arc<Folder>,
    board: Board,
    wanted: Option<mpsc::Receiver<Wanted>>,
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
            board: Board::default(),
            wanted: None,
        })
    }

    /// For the options of an endpoint: with it contacts are told what is here, by the account's node (XEP-0163), and who
    /// asks for something of that is offered it (XEP-0358), if the policy lets them in.
    pub fn service(&mut self, policy: &Policy) -> Box<dyn Service> {
        let (service, wanted) = self.board.service(policy.clone());
        self.wanted = Some(wanted);
        service
    }

    /// What is told of it.
    pub(super) fn board(&self) -> Board {
        self.board.clone()
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Serves whoever is let in.
    ///
    /// # Errors
    /// When nobody can come any more.
    pub async fn run(mut self, hand: &Hand) -> Result<Exit, Problem> {
        let mut wanted = self.wanted.take();
        let _telling = wanted.is_some().then(|| self.tell(hand));
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
        let mut served = Served::default();
        let ended = hand.ended();
        tokio::pin!(ended);
        let mut is_over = false;
        loop {
            if is_over && running.is_empty() {
                return Err(failing::offline("share files"));
            }
            let waiting = hand.endpoint().update(|manager, _| {
                let client = manager.find_client::<FileClient>();
                client.map_or_else(Vec::new, |client| client.offers().collect())
            });
            for offer in waiting {
                let room = AT_ONCE.saturating_sub(running.len());
                match self.answer(hand, &offer, room) {
                    Ok(given) => {
                        for file in given {
                            served.begins(offer.session);
                            running.spawn(serve(hand.clone(), offer.session, file));
                        }
                    }
                    Err(problem) => hand.view().problem(&problem),
                }
            }
            tokio::select! {
                notice = offers.next(), if !is_over => {
                    is_over = matches!(notice, None | Some(Notice::Ended));
                }
                // What runs needs no server.
                () = &mut ended, if !is_over => is_over = true,
                // They were told that it begins, and wait; further ones are told to come again.
                Some(wanted) = next(&mut wanted), if running.len() < AT_ONCE => {
                    running.spawn(start(hand.clone(), self.folder.clone(), wanted));
                }
                Some(done) = running.join_next() => match done {
                    Ok((session, outcome)) => {
                        tell(hand, outcome);
                        served.ends(hand, session);
                    }
                    Err(error) => hand.view().problem(&failing::thread(&error)),
                }
            }
        }
    }

    /// Decides about what somebody wants: what is given, as far as there is room.
    fn answer(&self, hand: &Hand, offer: &FileOffer, room: usize) -> Result<Vec<Given>, Problem> {
        let mut decisions = Vec::new();
        let mut given = Vec::new();
        for OfferedFile {
            content,
            direction,
            file,
            ..
        } in &offer.files
        {
            let decision = match direction {
                Direction::Receive => {
                    let reason = Reason::new(ReasonCondition::Decline);
                    Decision::Skip(reason.with_text("files are only given here, not taken"))
                }
                Direction::Send if given.len() >= room => {
                    Decision::Skip(ReasonCondition::Busy.into())
                }
                Direction::Send => {
                    match find(&self.folder, file.name.as_deref().unwrap_or_default()) {
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
                    }
                }
            };
            decisions.push((content.clone(), decision));
        }
        hand.answer(offer.session, decisions)
            .map_err(|error| failing::misuse("give what is asked for", &error))?;
        Ok(given)
    }

    /// Tells contacts what is there, and what becomes of it, as long as the result lives.
    fn tell(&self, hand: &Hand) -> JoinSet<()> {
        let (board, hand) = (self.board.clone(), hand.clone());
        let path = self.folder.path().to_path_buf();
        let mut telling = JoinSet::new();
        telling.spawn(async move {
            let (mut last, mut device, mut left) = (None, None, true);
            loop {
                let path = path.clone();
                let looked = tokio::task::spawn_blocking(move || board::files(&path)).await;
                let Ok((files, more)) = looked else { return };
                // While there is no connection nobody is told; the next look is as good.
                if let Ok(own) = hand.online().await {
                    if device.as_ref().is_some_and(|device| *device != own) {
                        board.withdraw(hand.endpoint()).await;
                        left = true;
                    }
                    device = Some(own.clone());
                    let told = board.update(hand.endpoint(), &own, files).await;
                    let now = match &told {
                        Ok(count) => Ok((*count, more)),
                        Err(error) => Err(error.condition),
                    };
                    if last.replace(now) != Some(now) {
                        match told {
                            Ok(count) => hand.view().published(count, more),
                            Err(error) => hand.view().unpublished(&error),
                        }
                    }
                    if left {
                        // What the server does not say now it says perhaps with the next look.
                        left = board.tidy(hand.endpoint(), &own).await.unwrap_or(true);
                    }
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
        });
        telling
    }
}

/// Opens what somebody asks for.
fn find(shelf: &Folder, text: &str) -> Result<(Source, File), DiskError> {
    let missing = || DiskError::new("find", text.replace('\0', "_"), DiskProblem::Missing);
    let path = TreePath::new(text).map_err(|_| missing())?;
    let name = path.name();
    if name.as_str().starts_with(crate::disk::RESERVED) {
        return Err(missing());
    }
    let parent = shelf.parent_of(&path)?;
    let folder = parent.as_ref().unwrap_or(shelf);
    let source = Source::of(
        folder.read(name.as_str())?,
        &folder.path().join(name.as_str()),
    )?;
    let mut file = source.offer(name.as_str())?;
    file.range = Some(FileRange::default());
    Ok((source, file))
}

/// The next wish; none ever where none can come.
async fn next(wanted: &mut Option<mpsc::Receiver<Wanted>>) -> Option<Wanted> {
    match wanted {
        Some(wanted) => wanted.recv().await,
        None => None,
    }
}

/// What became of a file, and the session in which somebody has asked for it.
type Done = (Option<SessionId>, Result<(), Problem>);

/// Offers what somebody asked for by what was told.
async fn start(hand: Hand, folder: Arc<Folder>, wanted: Wanted) -> Done {
    let started = async {
        let Wanted { to, sid, path } = wanted;
        let found = tokio::task::spawn_blocking(move || find(&folder, &path)).await;
        let found = found.map_err(|error| failing::thread(&error))?;
        let (source, file) = found.map_err(|error| failing::disk(&error))?;
        send::start(&hand, &to, &sid, source, file).await
    };
    (None, started.await)
}

/// Sends what was asked for, beside others of its session: whoever asks may wait for any of it first.
async fn serve(hand: Hand, session: SessionId, given: Given) -> Done {
    let Given {
        content,
        source,
        name,
    } = given;
    let id = TransferId { session, content };
    let served = send::serve(&hand, &id, source, &name).await;
    (Some(session), served)
}

/// How many files are given in which session.
#[derive(Debug, Default)]
struct Served(BTreeMap<SessionId, usize>);

impl Served {
    fn begins(&mut self, session: SessionId) {
        *self.0.entry(session).or_default() += 1;
    }

    /// One of them has ended. With the last one its session is let go of, and not before: whoever follows a file hears how it
    /// ended.
    fn ends(&mut self, hand: &Hand, session: Option<SessionId>) {
        let Some(session) = session else { return };
        let left = self.0.get(&session).copied().unwrap_or_default();
        if left > 1 {
            self.0.insert(session, left - 1);
            return;
        }
        self.0.remove(&session);
        // Others of it may have been asked for since.
        hand.release_if_over(session);
    }
}

fn tell(hand: &Hand, outcome: Result<(), Problem>) {
    if let Err(problem) = outcome {
        hand.view().problem(&problem);
    }
}
