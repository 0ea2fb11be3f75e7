//! Clients that others wrote, run on this machine over a private Prosody.
//!
//! Where something is not installed, that is said, and its cases are not run.

mod aiortc;
mod browser;
mod dino;
mod gajim;
mod jingle;
mod libervia;

use super::Row;
use crate::lab::Folder;
use crate::tools::Failure;
use browser::{CHROMIUM, FIREFOX};
use std::path::Path;

/// What real clients made of us, and which of them are not here.
#[derive(Debug, Default)]
pub(super) struct Met {
    pub(super) rows: Vec<Row>,
    pub(super) absent: Vec<String>,
}

/// One of them: its name, why it is not here, and what meets it.
type Client = (
    &'static str,
    fn() -> Option<String>,
    fn(&Path) -> Result<Vec<Row>, String>,
);

/// Those without a screen, which do what they are told.
const BARE: &[Client] = &[
    (libervia::NAME, libervia::missing, libervia::meet),
    (aiortc::NAME, aiortc::missing, aiortc::meet),
];

/// What people use, on a screen of its own. A click may go astray on another machine, so they are met when they are asked for.
const SCREENED: &[Client] = &[
    (gajim::NAME, gajim::missing, gajim::meet),
    (dino::NAME, dino::missing, dino::meet),
    (
        CHROMIUM.name,
        || CHROMIUM.missing(),
        |folder| CHROMIUM.meet(folder),
    ),
    (
        FIREFOX.name,
        || FIREFOX.missing(),
        |folder| FIREFOX.meet(folder),
    ),
];

/// Which of them.
#[derive(Clone, Copy, Debug)]
pub(super) enum Which<'a> {
    Bare,
    Screened,
    /// Whose name begins so, in lower case.
    Named(&'a str),
}

/// Meets them.
pub(super) fn meet(which: Which<'_>) -> Result<Met, Failure> {
    let (clients, wanted) = match which {
        Which::Bare => (vec![BARE], ""),
        Which::Screened => (vec![SCREENED], ""),
        Which::Named(name) => (vec![BARE, SCREENED], name),
    };
    let mut met = Met::default();
    for (name, missing, client) in clients.into_iter().flatten() {
        if !name.to_lowercase().starts_with(wanted) {
            continue;
        }
        if let Some(missing) = missing() {
            met.absent.push(missing);
            continue;
        }
        let rows = Folder::new("matrix").and_then(|folder| client(folder.path()));
        met.rows.extend(rows.map_err(|why| {
            let what = format!("cargo xtask matrix --real {name}");
            Failure::new(
                what,
                why,
                "cargo xtask setup --clients installs what it takes",
            )
        })?);
    }
    Ok(met)
}
