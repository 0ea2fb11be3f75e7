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

/// Meets those whose name begins so, in lower case.
pub(super) fn meet(wanted: &str) -> Result<Met, Failure> {
    type Client = (
        &'static str,
        fn() -> Option<String>,
        fn(&Path) -> Result<Vec<Row>, String>,
    );
    const ALL: [Client; 6] = [
        (libervia::NAME, libervia::missing, libervia::meet),
        (gajim::NAME, gajim::missing, gajim::meet),
        (aiortc::NAME, aiortc::missing, aiortc::meet),
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
    let mut met = Met::default();
    for (name, missing, client) in ALL {
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
            Failure::new(what, why, "cargo xtask setup installs what it takes")
        })?);
    }
    Ok(met)
}
