//! `pcp get`.

use super::{
    failing,
    hand::Hand,
    receive::{Inbox, Landing, Proof, bad_name, check_room, land},
};
use crate::{
    File, FileName, FileRange, Hasher, Proposal, TreePath,
    disk::{DiskError, DiskProblem, Existing, Folder, Partial, Sink},
    hash::compare,
};
use session_core::{Peer, ReasonCondition};
use session_xmpp::cli::{Exit, Problem};
use std::sync::Arc;

/// What an address may begin with (RFC 5122).
const SCHEME: &str = "xmpp:";

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Order {
    name: TreePath,
    inbox: Inbox,
}

/// `JID:NAME`, or an address alone. The first colon divides them that is neither behind the scheme of an address nor in a host
/// that is one of IPv6; so a device with a colon in its name is written as `xmpp:bob@example.org/a%3Ab`.
pub(super) fn split(text: &str) -> Result<(Peer, Option<String>), Problem> {
    let account = match text.strip_prefix(SCHEME) {
        Some(_) => SCHEME.len(),
        None => 0,
    };
    let rest = &text[account..];
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let host = account + rest[..end].find('@').map_or(0, |at| at + 1);
    let behind = match text[host..].strip_prefix('[').and_then(|it| it.find(']')) {
        Some(closed) => host + 1 + closed,
        None => host,
    };
    let (whom, name) = match text[behind..].split_once(':') {
        Some((before, name)) => (&text[..behind + before.len()], Some(name.to_owned())),
        None => (text, None),
    };
    Ok((Problem::address("JID:NAME", whom)?, name))
}

impl Order {
    pub(super) fn new(name: String, inbox: Inbox) -> Result<Self, Problem> {
        let path = TreePath::new(&name);
        let path = path.map_err(|error| bad_name(&name, &error.to_string()))?;
        Ok(Self { name: path, inbox })
    }

    /// Whether it goes to standard output.
    pub(super) fn is_stream(&self) -> bool {
        self.inbox.is_stream()
    }

    /// Fetches it.
    pub(super) async fn run(self, hand: &Hand, from: &Peer) -> Result<Exit, Problem> {
        hand.fetch(from, &self.name, &self.inbox).await?;
        Ok(Exit::Done)
    }
}

impl Hand {
    /// Asks somebody for a file that is shared, and takes it; from where it was interrupted before. What is here of it is kept
    /// only when its sender's hash says that it is of the same file; else all of it is fetched anew.
    ///
    /// # Errors
    /// Why it did not arrive.
    pub async fn fetch(&self, from: &Peer, path: &TreePath, inbox: &Inbox) -> Result<(), Problem> {
        let name = path.name();
        check_name(inbox, &name)?;
        let known = known(inbox, &name).await?;
        let goes_on = known.is_some();
        match self.fetch_behind(from, path, inbox, known).await {
            Err(Missed::Part(_)) if goes_on => self
                .fetch_behind(from, path, inbox, None)
                .await
                .map_err(Missed::problem),
            fetched => fetched.map_err(Missed::problem),
        }
    }

    /// The same, behind what is known already.
    async fn fetch_behind(
        &self,
        from: &Peer,
        path: &TreePath,
        inbox: &Inbox,
        known: Option<Box<Partial>>,
    ) -> Result<(), Missed> {
        let what = format!("get {path}");
        let name = path.name();
        let prefix = known.as_ref().map(|known| known.hasher().clone());
        let asked = File {
            name: Some(path.as_str().into()),
            range: prefix
                .as_ref()
                .map(|prefix| FileRange::from_offset(prefix.length())),
            ..File::default()
        };
        let mut line = self
            .propose(from, None, Proposal::Request(asked, prefix))
            .await?;
        let offset = match line.opened().await {
            Ok(offset) => offset,
            Err(fault) => {
                self.release(&line);
                let problem = failing::fault(&what, &fault);
                return Err(match failing::is_refusal(&fault) {
                    true => Missed::Part(problem),
                    false => Missed::All(problem),
                });
            }
        };
        let file = line.look(|transfer| transfer.file().clone());
        let file = file.unwrap_or_default();
        if known.as_ref().is_some_and(|known| differs(known, &file)) && offset > 0 {
            line.cancel(ReasonCondition::Cancel.into());
            self.release(&line);
            let changed = failing::fault(&what, &crate::Fault::Changed);
            return Err(Missed::Part(changed));
        }
        let landing = open(inbox, name, file.clone(), (known, offset)).await;
        let landing = match landing {
            Ok(landing) => landing,
            Err(error) => {
                line.cancel(failing::reason(&error));
                self.release(&line);
                return Err(failing::disk(&error).into());
            }
        };
        let how = (inbox.existing(), Proof::Needed);
        let landed = land(self, line.id(), from.as_str(), &file, landing, how).await;
        self.finish(&mut line).await;
        landed.map(|_| ()).map_err(Missed::from)
    }

    /// Lets the session come to its end, which is the other side's to hear.
    async fn finish(&self, line: &mut super::pump::Line) {
        // Whatever it came to was told.
        let _ = line.over().await;
        self.release(line);
    }
}

/// Why a file was not fetched.
#[derive(Debug)]
enum Missed {
    /// What is here of it may be why.
    Part(Problem),
    /// It would not come from its beginning either.
    All(Problem),
}

impl Missed {
    fn problem(self) -> Problem {
        match self {
            Self::Part(problem) | Self::All(problem) => problem,
        }
    }
}

impl From<Problem> for Missed {
    fn from(problem: Problem) -> Self {
        match failing::is_of_another(&problem) {
            true => Self::Part(problem),
            false => Self::All(problem),
        }
    }
}

/// Whether a part is of another file than this one, as far as their hashes say so before a byte has come.
fn differs(part: &Partial, file: &File) -> bool {
    compare(&part.file().hashes, &file.hashes).is_some_and(|(_, equal)| !equal)
}

/// Whether the name is free, where it has to be. Nobody is asked for what would not be kept.
fn check_name(inbox: &Inbox, name: &FileName) -> Result<(), Problem> {
    let Some(folder) = inbox.folder() else {
        return Ok(());
    };
    let there = folder.meta(name.as_str());
    let there = there.map_err(|error| failing::disk(&error))?;
    let (what, problem) = match (inbox.existing(), there) {
        (Existing::Skip, Some(_)) => ("get", DiskProblem::Exists),
        // None is thrown away for a file, with all that is in it.
        (Existing::Overwrite, Some(meta)) if meta.is_folder => ("overwrite", DiskProblem::Folder),
        (Existing::Skip | Existing::Overwrite | Existing::Rename, _) => return Ok(()),
    };
    let path = folder.path().join(name.as_str());
    Err(failing::disk(&DiskError::new(what, path, problem)))
}

/// What is there of it. Of what somebody else fetches right now there is nothing for us.
async fn known(inbox: &Inbox, name: &FileName) -> Result<Option<Box<Partial>>, Problem> {
    let Some(folder) = inbox.folder().cloned() else {
        return Ok(None);
    };
    let name = name.clone();
    let found = tokio::task::spawn_blocking(move || Partial::find(&folder, &name)).await;
    match found.map_err(|error| failing::thread(&error))? {
        Err(error) if error.problem == DiskProblem::Exists => Ok(None),
        found => Ok(found.map_err(|error| failing::disk(&error))?.map(Box::new)),
    }
}

/// Where it goes: behind what is there, when the other side begins there.
async fn open(
    inbox: &Inbox,
    name: FileName,
    file: File,
    (known, offset): (Option<Box<Partial>>, u64),
) -> Result<Landing, DiskError> {
    let Some(folder) = inbox.folder().cloned() else {
        let hasher = Hasher::new(crate::disk::algorithms(&file));
        return Ok(Landing::Sink(Sink::Stream(hasher)));
    };
    let opened = tokio::task::spawn_blocking(move || {
        let left = file.size.unwrap_or_default().saturating_sub(offset);
        check_room(&folder, left, &file)?;
        let mut partial = match known {
            Some(mut known) if known.offset() == offset => known.go_on(&file).map(|()| known)?,
            Some(mut known) => known.begin_anew(&file).map(|()| known)?,
            None => Box::new(begin(&folder, &name, &file)?),
        };
        partial.dress(None, file.date.map(|date| (date.unix(), 0)));
        Ok::<_, DiskError>(partial)
    });
    let partial = match opened.await {
        Ok(opened) => opened?,
        Err(error) => {
            let problem = DiskProblem::Other(error.to_string());
            return Err(DiskError::new("open", "", problem));
        }
    };
    Ok(Landing::Sink(Sink::File(partial)))
}

/// Begins with nothing, beside whoever else receives it right now.
fn begin(folder: &Arc<Folder>, name: &FileName, file: &File) -> Result<Partial, DiskError> {
    match Partial::open(folder, name, file, true) {
        Err(error) if error.problem == DiskProblem::Exists => Partial::beside(folder, name, file),
        opened => opened,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_file_and_which() {
        for (text, whom, name) in [
            ("bob@example.org", "bob@example.org", None),
            ("xmpp:bob@example.org", "bob@example.org", None),
            ("bob@[::1]", "bob@[::1]", None),
            (
                "bob@example.org:a/b:c.txt",
                "bob@example.org",
                Some("a/b:c.txt"),
            ),
            (
                "bob@example.org/desk:a:b",
                "bob@example.org/desk",
                Some("a:b"),
            ),
            ("xmpp:bob@example.org:song", "bob@example.org", Some("song")),
            (
                "xmpp:bob@example.org/a%3Ab:song",
                "bob@example.org/a:b",
                Some("song"),
            ),
            ("bob@[::1]/desk:song", "bob@[::1]/desk", Some("song")),
            ("[::1]:[1]:a@b", "[::1]", Some("[1]:a@b")),
            (
                "bob@example.org:a@[b:c]",
                "bob@example.org",
                Some("a@[b:c]"),
            ),
        ] {
            let (peer, got) = split(text).unwrap();
            assert_eq!((peer.as_str(), got.as_deref()), (whom, name), "{text}");
        }
        for text in ["@:x", "xmpp::x", "[::1:x"] {
            assert!(split(text).is_err(), "{text}");
        }
    }
}
