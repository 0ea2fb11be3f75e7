//! `pcp get`.

use super::{
    failing,
    hand::Hand,
    receive::{Inbox, Landing, bad_name, check_room, land},
};
use crate::{
    File, FileName, FileRange, Hasher, Proposal, TreePath,
    disk::{DiskError, DiskProblem, Existing, Partial, Sink},
};
use session_core::Peer;
use session_xmpp::cli::{Exit, Problem};

/// What is to be fetched.
#[derive(Debug)]
pub(super) struct Order {
    name: TreePath,
    inbox: Inbox,
}

/// `JID:NAME`, or an address alone. A colon may stand in the device of an address, where a slash is before it; so the last is
/// meant that has none of the name's own before it.
pub(super) fn split(text: &str) -> Result<(Peer, Option<String>), Problem> {
    let (whom, name) = match text.split_once(':') {
        Some((whom, name)) => (whom, Some(name.to_owned())),
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
    /// Asks somebody for a file that is shared, and takes it; from where it was interrupted before.
    ///
    /// # Errors
    /// Why it did not arrive.
    pub async fn fetch(&self, from: &Peer, path: &TreePath, inbox: &Inbox) -> Result<(), Problem> {
        let name = path.name();
        check_name(inbox, &name)?;
        let known = known(inbox, &name).await?;
        let goes_on = known.is_some();
        match self.fetch_behind(from, path, inbox, known).await {
            // What we have a part of was another file, or is not any more what it was.
            Err(problem) if goes_on && failing::is_of_another(&problem) => {
                self.fetch_behind(from, path, inbox, None).await
            }
            fetched => fetched,
        }
    }

    /// The same, behind what is known already.
    async fn fetch_behind(
        &self,
        from: &Peer,
        path: &TreePath,
        inbox: &Inbox,
        known: Option<Hasher>,
    ) -> Result<(), Problem> {
        let what = format!("get {path}");
        let name = path.name();
        let asked = File {
            name: Some(path.as_str().into()),
            range: known
                .as_ref()
                .map(|prefix| FileRange::from_offset(prefix.length())),
            ..File::default()
        };
        let mut line = self
            .propose(from, None, Proposal::Request(asked, known.clone()))
            .await?;
        let opened = line.opened().await;
        let offset = opened.map_err(|fault| failing::fault(&what, &fault))?;
        let file = line.look(|transfer| transfer.file().clone());
        let file = file.unwrap_or_default();
        let prefix = known.filter(|prefix| prefix.length() == offset);
        let landing = open(inbox, name, file.clone(), prefix).await;
        let landing = match landing {
            Ok(landing) => landing,
            Err(error) => {
                line.cancel(failing::reason(&error));
                self.release(&line);
                return Err(failing::disk(&error));
            }
        };
        let existing = inbox.existing();
        let landed = land(self, line.id(), from.as_str(), &file, landing, existing).await;
        self.finish(&mut line).await;
        landed.map(|_| ())
    }

    /// Lets the session come to its end, which is the other side's to hear.
    async fn finish(&self, line: &mut super::pump::Line) {
        // Whatever it came to was told.
        let _ = line.over().await;
        self.release(line);
    }
}

/// Whether the name is free, where it has to be. Nobody is asked for what would not be kept.
fn check_name(inbox: &Inbox, name: &FileName) -> Result<(), Problem> {
    let Some(folder) = inbox
        .folder()
        .filter(|_| inbox.existing() == Existing::Skip)
    else {
        return Ok(());
    };
    match folder.meta(name.as_str()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => {
            let path = folder.path().join(name.as_str());
            let taken = DiskError::new("get", path, DiskProblem::Exists);
            Err(failing::disk(&taken))
        }
        Err(error) => Err(failing::disk(&error)),
    }
}

/// What is there of it.
async fn known(inbox: &Inbox, name: &FileName) -> Result<Option<Hasher>, Problem> {
    let Some(folder) = inbox.folder().cloned() else {
        return Ok(None);
    };
    let name = name.clone();
    let found = tokio::task::spawn_blocking(move || Partial::peek(&folder, &name)).await;
    let found = found.map_err(|error| failing::thread(&error))?;
    found.map_err(|error| failing::disk(&error))
}

/// Where it goes.
async fn open(
    inbox: &Inbox,
    name: FileName,
    file: File,
    prefix: Option<Hasher>,
) -> Result<Landing, DiskError> {
    let Some(folder) = inbox.folder().cloned() else {
        let hasher = Hasher::new(crate::disk::algorithms(&file));
        return Ok(Landing::Sink(Sink::Stream(hasher)));
    };
    let opened = tokio::task::spawn_blocking(move || {
        let there = prefix.as_ref().map_or(0, Hasher::length);
        let left = file.size.unwrap_or_default().saturating_sub(there);
        check_room(&folder, left, &file)?;
        let mut partial = Partial::resume(&folder, &name, &file, prefix)?;
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
    Ok(Landing::Sink(Sink::File(Box::new(partial))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whose_file_and_which() {
        let (whom, name) = split("bob@example.org:a/b:c.txt").unwrap();
        let name = name.as_deref();
        assert_eq!(
            (whom.as_str(), name),
            ("bob@example.org", Some("a/b:c.txt"))
        );
        let (whom, name) = split("bob@example.org").unwrap();
        assert_eq!((whom.as_str(), name), ("bob@example.org", None));
        assert!(split("@:x").is_err());
    }
}
