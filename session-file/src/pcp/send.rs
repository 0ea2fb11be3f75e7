//! `pcp send`.

mod one;
mod tree;

use super::{failing, hand::Hand};
use crate::{
    Hash,
    disk::{DiskError, DiskProblem, Found, Skipped, Source, Walk},
};
use session_core::Peer;
use session_xmpp::cli::{Exit, Problem};
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub(super) use one::{now, serve, start};

/// The name under which standard input is sent.
const STANDARD_INPUT: &str = "stdin";

/// What is to be sent.
#[derive(Debug)]
pub(super) enum Order {
    /// Standard input, under a name.
    Stream(String),
    /// One file, under a name.
    File(PathBuf, String),
    /// Files and folders.
    Many(Vec<PathBuf>),
}

/// Something that was sent.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// What, for people.
    pub name: String,
    /// Bytes that were sent.
    pub bytes: u64,
    /// The SHA-256 of a file.
    pub hash: Option<Hash>,
    /// Files of a folder that were sent, and that the other side had already.
    pub files: (u64, u64),
    /// Files of a folder that the other side did not take, as others have their names there.
    pub refused: u64,
    /// What was left out, could not be sent, or was refused, and how many should have been sent.
    pub left_out: (Vec<Skipped>, u64),
    /// From where on it was sent.
    pub offset: u64,
    /// What carried it.
    pub path: String,
    /// What protected it.
    pub protection: String,
    /// How long it took.
    pub took: Duration,
    /// Whether the other side said that it has it.
    pub confirmed: bool,
}

impl Order {
    pub(super) fn new(what: &[PathBuf], name: Option<&str>) -> Result<Self, Problem> {
        let paths = expand(what)?;
        let stream = Path::new("-");
        if let [only] = &paths[..] {
            if only == stream {
                return Ok(Self::Stream(name.unwrap_or(STANDARD_INPUT).to_owned()));
            }
            let source = only.metadata();
            let metadata =
                source.map_err(|error| failing::disk(&DiskError::io("send", only, &error)))?;
            if !metadata.is_dir() {
                let own = || {
                    let name = only.file_name().unwrap_or_default();
                    name.to_str().map(str::to_owned)
                };
                let name = name.map(str::to_owned).or_else(own);
                let fail = |problem| failing::disk(&DiskError::new("send", only, problem));
                let why = DiskProblem::Other("its name is not UTF-8".to_owned());
                let name = name.ok_or_else(|| fail(why))?;
                // Told before anybody is asked for a password.
                let source = Source::open(only).map_err(|error| failing::disk(&error))?;
                source.offer(&name).map_err(|error| failing::disk(&error))?;
                return Ok(Self::File(only.clone(), name));
            }
        }
        if name.is_some() {
            let hint = "leave --name out, or send one file";
            return Err(Problem::usage("--name", "it can name one file only", hint));
        }
        for path in &paths {
            if path == stream {
                let hint = "send standard input by itself";
                return Err(Problem::usage("-", "it cannot be one of several", hint));
            }
            path.metadata()
                .map_err(|error| failing::disk(&DiskError::io("send", path, &error)))?;
        }
        Ok(Self::Many(paths))
    }

    /// Sends it; `ours` when the peer knows whole trees.
    pub(super) async fn run(self, hand: &Hand, to: &Peer, ours: bool) -> Result<Exit, Problem> {
        match self {
            Self::Stream(name) => {
                let open = || Source::standard_input();
                one::send(hand, to, &name, open).await.map(|_| Exit::Done)
            }
            Self::File(path, name) => {
                let open = || Source::open(&path);
                one::send(hand, to, &name, open).await.map(|_| Exit::Done)
            }
            Self::Many(paths) if ours => {
                let delivery = tree::send(hand, to, paths).await?;
                Ok(exit(delivery.left_out.1))
            }
            Self::Many(paths) => one_by_one(hand, to, paths).await,
        }
    }
}

impl Hand {
    /// Sends one file under its name.
    ///
    /// # Errors
    /// Why it did not arrive.
    pub async fn send_file(&self, to: &Peer, path: &Path) -> Result<Delivery, Problem> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        one::send(self, to, &name, || Source::open(path)).await
    }

    /// Sends files and folders in one stream, to one of ours.
    ///
    /// # Errors
    /// Why they did not arrive. What failed for single files is in the [`Delivery`].
    pub async fn send_tree(&self, to: &Peer, paths: Vec<PathBuf>) -> Result<Delivery, Problem> {
        tree::send(self, to, paths).await
    }
}

/// For peers that know files alone.
async fn one_by_one(hand: &Hand, to: &Peer, paths: Vec<PathBuf>) -> Result<Exit, Problem> {
    let mut tally = Tally::default();
    for found in Walk::new(paths) {
        match found {
            Found::Entry(entry, path) if entry.to_file().is_some() => {
                let name = entry.path.name();
                let sent = one::send(hand, to, name.as_str(), || Source::open(&path)).await;
                match sent {
                    Ok(_) => tally.sent += 1,
                    Err(problem) if is_of_one(&problem) => {
                        match problem.exit {
                            Exit::Declined => tally.declined += 1,
                            Exit::Done | Exit::Failed | Exit::Usage | Exit::NoLogin => {
                                tally.failed += 1
                            }
                        }
                        hand.view().problem(&problem);
                    }
                    // Nobody is there for the next one either.
                    Err(problem) => return Err(problem),
                }
            }
            // Folders are in nobody's words but ours.
            Found::Entry(..) => {}
            Found::Skipped(what) => {
                tally.failed += u64::from(what.is_failure());
                hand.view().left_out(&what);
            }
        }
    }
    Ok(tally.exit())
}

/// What became of files.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    sent: u64,
    declined: u64,
    failed: u64,
}

impl Tally {
    /// As of one file, where all of them went the same way.
    fn exit(self) -> Exit {
        match self {
            Self {
                declined: 0,
                failed,
                ..
            } => exit(failed),
            Self {
                sent: 0, failed: 0, ..
            } => Exit::Declined,
            Self { .. } => Exit::Failed,
        }
    }
}

/// Whether others may go well all the same: it was declined, or something is with the file, here or there.
fn is_of_one(problem: &Problem) -> bool {
    problem.exit == Exit::Declined || failing::is_of_a_file(problem.code)
}

fn exit(failures: u64) -> Exit {
    match failures {
        0 => Exit::Done,
        _ => Exit::Failed,
    }
}

/// What patterns stand for, where no file has their name.
fn expand(what: &[PathBuf]) -> Result<Vec<PathBuf>, Problem> {
    let mut paths = Vec::new();
    for path in what {
        let text = path.to_string_lossy();
        if path.symlink_metadata().is_ok() || !text.contains(['*', '?', '[']) {
            paths.push(path.clone());
            continue;
        }
        let hint = "patterns know *, ?, [a-z] and **";
        let found = glob::glob(&text)
            .map_err(|error| Problem::usage(text.clone(), error.to_string(), hint))?;
        let before = paths.len();
        for path in found {
            paths.push(path.map_err(|error| {
                failing::disk(&DiskError::io("look into", error.path(), error.error()))
            })?);
        }
        if paths.len() == before {
            let why = "no file has a name like that";
            let what = format!("send {text}");
            return Err(Problem::new(Exit::Failed, "no-such-file", what, why, hint));
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_which_none_is_wanted_are_declined_as_one_is() {
        let exit = |sent, declined, failed| {
            Tally {
                sent,
                declined,
                failed,
            }
            .exit()
        };
        assert_eq!(exit(0, 0, 0), Exit::Done);
        assert_eq!(exit(2, 0, 0), Exit::Done);
        assert_eq!(exit(0, 2, 0), Exit::Declined);
        for mixed in [exit(1, 1, 0), exit(0, 1, 1), exit(1, 0, 1), exit(1, 1, 1)] {
            assert_eq!(mixed, Exit::Failed);
        }
    }
}
