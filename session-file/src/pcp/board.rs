//! What is shared is told: to whoever sees the account's presence, by a node of its own (XEP-0163), as files that can be had
//! (XEP-0358). Who knows only that asks us to begin; who is ours fetches by name.
//!
//! Each device has items of its own in the node, by its whole address. A program that ends takes its own back; those of one that
//! was killed stay at the server until the next `pcp share` of the account finds that nobody answers at their device
//! ([`Board::tidy`]). What a device tells that answers stays, and so does what other programs tell.

use super::{failing, hand::Hand};
use crate::{
    EntryKind, File, FileDate, JINGLE_PUB, Publication, PublicationText, TreeEntry, disk::Found,
    disk::Walk, publication_asked, publication_starting,
};
use session_core::{Condition, Element, ElementRef, ErrorKind, Peer, SessionManager, StanzaError};
use session_xmpp::{
    Endpoint,
    cli::{Exit, Problem, random},
    client::{Policy, Verdict},
    endpoint::{QueryKind, Service},
    stanza::Request,
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, task::JoinSet};

/// Files that are told, at most: as many as servers keep in one node. Others can still be had by their names.
pub const PUBLISHED_MAX: usize = 256;

/// Requests to the server that are under way at a time.
const AT_ONCE: usize = 8;

/// How long the server may take for each.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Devices that are asked whether they are there, at most.
const ASKED_MAX: usize = 32;

/// Wishes that wait to be looked at.
const WANTED_MAX: usize = 32;

const PUBSUB: &str = "http://jabber.org/protocol/pubsub";
const FORM: &str = "jabber:x:data";
const PING: &str = "urn:xmpp:ping";

/// A file that somebody wants us to offer, in the session that we named.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) to: Peer,
    pub(super) sid: String,
    pub(super) path: String,
}

/// What is told. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub(super) struct Board(Arc<Mutex<Told>>);

/// What the server was told.
#[derive(Debug, Default)]
struct Told {
    /// The device that has it, which another login may have given another name since.
    by: Option<Peer>,
    files: BTreeMap<Arc<str>, File>,
}

/// A file of somebody's that can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// What it is. Its name is what it is asked for by.
    pub file: File,
    /// The device that has it.
    pub from: Peer,
}

impl Board {
    /// Answers who asks for what is told, if the policy lets them in.
    pub(super) fn service(&self, policy: Policy) -> (Box<dyn Service>, mpsc::Receiver<Wanted>) {
        let (wishes, wanted) = mpsc::channel(WANTED_MAX);
        let board = self.clone();
        let service = Starter {
            board,
            policy,
            wishes,
        };
        (Box::new(service), wanted)
    }

    fn lock(&self) -> MutexGuard<'_, Told> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells what this device has now, and of what has gone that it has. Of another device, which we were before, nothing is
    /// known any more. Returns how many files are told.
    ///
    /// # Errors
    /// The server's first one. What it took until then stays told.
    pub(super) async fn update(
        &self,
        endpoint: &Endpoint,
        own: &Peer,
        mut files: BTreeMap<Arc<str>, File>,
    ) -> Result<usize, StanzaError> {
        let told = {
            let mut told = self.lock();
            if told.by.as_ref() != Some(own) {
                *told = Told {
                    by: Some(own.clone()),
                    ..Told::default()
                };
            }
            told.files.clone()
        };
        let mut requests: Vec<_> = told
            .keys()
            .filter(|path| !files.contains_key(*path))
            .map(|path| (path.clone(), None))
            .collect();
        files.retain(|path, file| told.get(path) != Some(file));
        requests.extend(files.into_iter().map(|(path, file)| (path, Some(file))));
        let mut first = None;
        let mut running = JoinSet::new();
        loop {
            while running.len() < AT_ONCE
                && first.is_none()
                && let Some((path, file)) = requests.pop()
            {
                // From now on the server may have it, whatever we hear of that.
                if let Some(file) = &file {
                    self.lock().files.insert(path.clone(), file.clone());
                }
                running.spawn(say(endpoint.clone(), own.clone(), path, file));
            }
            let Some(done) = running.join_next().await else {
                break;
            };
            match done {
                Ok((_, true, Ok(()))) => {}
                Ok((path, false, Ok(()))) => drop(self.lock().files.remove(&path)),
                Ok((path, is_there, Err(error))) => {
                    // It is as it was, and is tried again with the next look.
                    match told.get(&path).filter(|_| is_there) {
                        Some(before) => drop(self.lock().files.insert(path, before.clone())),
                        None if is_there => drop(self.lock().files.remove(&path)),
                        None => {}
                    }
                    first.get_or_insert(error);
                }
                Err(_) => {}
            }
        }
        let count = self.lock().files.len();
        first.map_or(Ok(count), Err)
    }

    /// Takes back what this program has told before and nobody can have any more: of our own device what is not told now, of
    /// others of the account everything, when their server says that they are not there. Whether something of others is left,
    /// which may be gone later: their server may wait for a while until it gives up a connection that was lost.
    ///
    /// # Errors
    /// The server's, when it does not say what is told.
    pub(super) async fn tidy(&self, endpoint: &Endpoint, own: &Peer) -> Result<bool, StanzaError> {
        let mut others: BTreeMap<Peer, Vec<Arc<str>>> = BTreeMap::new();
        let mut gone = Vec::new();
        for (id, publication) in items(endpoint, &Peer::from(own.account())).await? {
            let path = publication.id;
            let Some(from) = publication.from.as_deref().map(Peer::from) else {
                continue;
            };
            // What another program tells is its affair.
            if from.account() != own.account() || item(&from, &path) != id {
                continue;
            }
            if from != *own {
                others.entry(from).or_default().push(path);
            } else if !self.lock().files.contains_key(&path) {
                gone.push((from, path));
            }
        }
        let mut asked = JoinSet::new();
        let mut left = others.len() > ASKED_MAX;
        for (device, paths) in others.into_iter().take(ASKED_MAX) {
            let endpoint = endpoint.clone();
            asked.spawn(async move { (is_gone(&endpoint, &device).await, device, paths) });
        }
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok((true, device, paths)) => {
                    gone.extend(paths.into_iter().map(|path| (device.clone(), path)));
                }
                Ok((false, ..)) | Err(_) => left = true,
            }
        }
        let mut running = JoinSet::new();
        while !gone.is_empty() || !running.is_empty() {
            while running.len() < AT_ONCE
                && let Some((from, path)) = gone.pop()
            {
                running.spawn(say(endpoint.clone(), from, path, None));
            }
            left |= !matches!(running.join_next().await, Some(Ok((.., Ok(())))));
        }
        Ok(left)
    }

    /// Takes back what was told, by the address under which it was.
    pub(super) async fn withdraw(&self, endpoint: &Endpoint) {
        let by = self.lock().by.clone();
        if let Some(by) = by {
            // The server forgets it or not: we are gone.
            let _ = self.update(endpoint, &by, BTreeMap::new()).await;
        }
    }
}

/// Says one thing to the server: of which file, whether it is there, and what the server said.
async fn say(
    endpoint: Endpoint,
    own: Peer,
    path: Arc<str>,
    file: Option<File>,
) -> (Arc<str>, bool, Result<(), StanzaError>) {
    let item = Element::new(PUBSUB, "item").with("id", item(&own, &path));
    let request = match &file {
        Some(file) => publish(item.child(publication(&own, file).to_element())),
        None => Element::new(PUBSUB, "pubsub").child(
            Element::new(PUBSUB, "retract")
                .with("node", JINGLE_PUB)
                .with("notify", "true")
                .child(item),
        ),
    };
    let account = Peer::from(own.account());
    let answer = endpoint
        .query(QueryKind::Set, account, request, ANSWER_MAX)
        .await;
    (path, file.is_some(), answer.map(|_| ()))
}

fn publication(own: &Peer, file: &File) -> Publication {
    let name = file.name.clone().unwrap_or_default();
    Publication {
        from: Some(own.as_str().into()),
        id: name.clone(),
        texts: vec![PublicationText {
            title: Some(name),
            ..PublicationText::default()
        }],
        files: vec![file.clone()],
        ..Publication::default()
    }
}

/// One for each file of each device.
fn item(own: &Peer, path: &str) -> String {
    let digest = Sha256::new()
        .chain_update(own.as_str())
        .chain_update([0])
        .chain_update(path)
        .finalize();
    hex(&digest[..16])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Publishes into a node that keeps as many, and shows them to contacts (XEP-0222 §3, with the access of XEP-0163).
fn publish(item: Element) -> Element {
    let field = |name: &str, value: &str| {
        Element::new(FORM, "field")
            .with("var", name)
            .child(Element::new(FORM, "value").text(value))
    };
    let form = Element::new(FORM, "x")
        .with("type", "submit")
        .child(
            field(
                "FORM_TYPE",
                "http://jabber.org/protocol/pubsub#publish-options",
            )
            .with("type", "hidden"),
        )
        .child(field("pubsub#access_model", "presence"))
        .child(field("pubsub#persist_items", "true"))
        .child(field("pubsub#max_items", &PUBLISHED_MAX.to_string()));
    Element::new(PUBSUB, "pubsub")
        .child(
            Element::new(PUBSUB, "publish")
                .with("node", JINGLE_PUB)
                .child(item),
        )
        .child(Element::new(PUBSUB, "publish-options").child(form))
}

/// The files of a folder as they are now, by their paths in it, and whether there are more than are told. It reads folders.
pub(super) fn files(folder: &Path) -> (BTreeMap<Arc<str>, File>, bool) {
    let mut files = BTreeMap::new();
    // The folder itself may have any name.
    let Ok(walk) = Walk::inside(folder) else {
        return (files, false);
    };
    for found in walk {
        let Found::Entry(entry, _) = found else {
            continue;
        };
        let Some(size) = size_of(&entry) else {
            continue;
        };
        let path = entry.path.as_str();
        if files.len() == PUBLISHED_MAX {
            return (files, true);
        }
        let mut file = File::new(path, size);
        file.date = entry
            .modified
            .and_then(|(seconds, _)| FileDate::from_unix(seconds));
        files.insert(Arc::from(path), file);
    }
    (files, false)
}

fn size_of(entry: &TreeEntry) -> Option<u64> {
    match entry.kind {
        EntryKind::File { size, .. } => Some(size),
        EntryKind::Folder => None,
    }
}

impl Hand {
    /// What somebody's account tells its contacts that can be had; of one device, if the address names it.
    ///
    /// # Errors
    /// `nothing-shared`, `not-a-contact`, `not-told`: why nothing is known.
    pub async fn list(&self, whom: &Peer) -> Result<Vec<Listed>, Problem> {
        list(self.endpoint(), whom).await
    }
}

/// What an account tells, by the ids of the items.
async fn items(
    endpoint: &Endpoint,
    account: &Peer,
) -> Result<Vec<(String, Publication)>, StanzaError> {
    let items = Element::new(PUBSUB, "items").with("node", JINGLE_PUB);
    let query = Element::new(PUBSUB, "pubsub").child(items);
    let answer = endpoint
        .query(QueryKind::Get, account.clone(), query, ANSWER_MAX)
        .await?;
    let items = answer.as_ref().map(Element::view);
    let items = items.and_then(|answer| answer.find(PUBSUB, "items"));
    let mut told = Vec::new();
    for item in items.into_iter().flat_map(|items| items.children()) {
        let id = item.attribute("id").unwrap_or_default();
        // What makes no sense is another program's affair.
        let read = item.children().filter_map(read);
        told.extend(read.map(|publication| (id.to_owned(), publication)));
    }
    Ok(told)
}

/// Whether the server says that a device of ours is not there. One that does not answer in time may come back.
async fn is_gone(endpoint: &Endpoint, device: &Peer) -> bool {
    let ping = Element::new(PING, "ping");
    let answer = endpoint.query(QueryKind::Get, device.clone(), ping, ANSWER_MAX);
    answer.await.is_err_and(|error| {
        matches!(
            error.condition,
            Condition::ServiceUnavailable
                | Condition::RecipientUnavailable
                | Condition::ItemNotFound
        )
    })
}

async fn list(endpoint: &Endpoint, whom: &Peer) -> Result<Vec<Listed>, Problem> {
    let what = format!("list what {whom} shares");
    let account = Peer::from(whom.account());
    let told = items(endpoint, &account).await;
    let mut listed = Vec::new();
    for (_, publication) in told.map_err(|error| failing::unlisted(&what, &error))? {
        let from = publication
            .from
            .as_deref()
            .map_or_else(|| account.clone(), Peer::from);
        // Nobody tells of what others have.
        if from.account() != account.account() || whom.device().is_some() && from != *whom {
            continue;
        }
        let files = publication.files.into_iter();
        listed.extend(files.map(|file| Listed {
            file,
            from: from.clone(),
        }));
    }
    if listed.is_empty() {
        let hint = "ask its owner, or name a file: pcp get JID:NAME";
        return Err(Problem::new(
            Exit::Failed,
            "nothing-shared",
            what,
            "nothing is told",
            hint,
        ));
    }
    Ok(listed)
}

fn read(element: ElementRef<'_>) -> Option<Publication> {
    Publication::from_element(element).ok().flatten()
}

/// Takes the question of XEP-0358 §2.2.
struct Starter {
    board: Board,
    policy: Policy,
    wishes: mpsc::Sender<Wanted>,
}

impl Service for Starter {
    fn handle_request(
        &mut self,
        request: &Request,
        _: &mut SessionManager,
        now: Instant,
    ) -> Option<Result<Option<Element>, StanzaError>> {
        let start = request
            .payload()
            .filter(|payload| payload.is(JINGLE_PUB, "start"))?;
        Some(self.answer(request, start, now).map(Some))
    }
}

impl Starter {
    fn answer(
        &self,
        request: &Request,
        start: ElementRef<'_>,
        now: Instant,
    ) -> Result<Element, StanzaError> {
        let refused = |condition| Err(StanzaError::new(condition, ErrorKind::Cancel));
        let from = request.from();
        if self.policy.decide(from) != Verdict::Admit || !self.policy.count(from, now) {
            return refused(Condition::ServiceUnavailable);
        }
        let Ok(Some(path)) = publication_asked(start) else {
            return Err(StanzaError::new(Condition::BadRequest, ErrorKind::Modify));
        };
        if !request.is_get() {
            return refused(Condition::NotAllowed);
        }
        if !self.board.lock().files.contains_key(&path) {
            return refused(Condition::ItemNotFound);
        }
        let mut bytes = [0; 16];
        random(&mut bytes);
        let sid = hex(&bytes);
        let answer = publication_starting(&sid);
        let wanted = Wanted {
            to: from.clone(),
            sid,
            path: path.to_string(),
        };
        let full = |_| StanzaError::new(Condition::ResourceConstraint, ErrorKind::Wait);
        self.wishes.try_send(wanted).map_err(full)?;
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use session_core::{Config, SeededEntropy};
    use session_xmpp::endpoint::{Options, Router};
    use std::{collections::BTreeSet, fs};

    #[test]
    fn a_folder_of_any_name_is_told() {
        let name = format!("pcp-board-{}", std::process::id());
        let place = std::env::temp_dir().join(name);
        // No file could have this name everywhere.
        let folder = place.join("what: now?");
        fs::create_dir_all(folder.join("photos")).unwrap();
        fs::write(folder.join("photos/beach"), b"beach").unwrap();
        fs::write(folder.join("notes"), b"notes").unwrap();
        std::os::unix::fs::symlink(folder.join("notes"), folder.join("link")).unwrap();
        let (told, more) = files(&folder);
        fs::remove_dir_all(place).unwrap();
        let names: Vec<_> = told.keys().map(|path| &**path).collect();
        assert_eq!((names, more), (vec!["notes", "photos/beach"], false));
    }

    /// The node of an account, by the ids of its items.
    #[derive(Clone, Default)]
    struct Node(Arc<Mutex<BTreeSet<String>>>);

    impl Node {
        fn len(&self) -> usize {
            self.0.lock().unwrap().len()
        }
    }

    impl Service for Node {
        fn handle_request(
            &mut self,
            request: &Request,
            _: &mut SessionManager,
            _: Instant,
        ) -> Option<Result<Option<Element>, StanzaError>> {
            let verb = request.payload()?.children().next()?;
            let id = verb.children().next()?.attribute("id")?.to_owned();
            let mut items = self.0.lock().unwrap();
            let _ = match verb.name() {
                "publish" => items.insert(id),
                _ => items.remove(&id),
            };
            Some(Ok(None))
        }
    }

    #[tokio::test]
    async fn what_was_told_is_taken_back_by_the_address_of_then() {
        let router = Router::new();
        let end = |address: &str, service| {
            let manager = SessionManager::new(Config::default(), SeededEntropy::new(1));
            let mut options = Options::default();
            options.service = service;
            Endpoint::spawn_with(manager, router.link(address), options)
        };
        let node = Node::default();
        let _account = end("bob@example.org", Some(Box::new(node.clone())));
        let (before, now) = ("bob@example.org/before", "bob@example.org/now");
        let ours = end(now, None);
        let board = Board::default();
        let files = |name: &str| BTreeMap::from([(Arc::from(name), File::new(name, 1))]);
        let told = board.update(&ours, &before.into(), files("a")).await;
        assert_eq!((told, node.len()), (Ok(1), 1));
        board.withdraw(&ours).await;
        assert_eq!(node.len(), 0, "though the device has another name by now");
        for (own, name) in [(before, "a"), (now, "b")] {
            let told = board.update(&ours, &own.into(), files(name)).await;
            assert_eq!(told, Ok(1), "of another device nothing is known");
        }
        assert_eq!(node.len(), 2);
    }
}
