//! Figures, each against a peer, in the form `bench NAME ours=… peer=… ratio=…`; a ratio says how many times better ours
//! is. `bench` prints all of them, `bench PREFIX` those whose name begins with it.
//!
//! To add figures: a module with a `pub(crate) const FIGURES: &[Figure]`, and its line in [`ALL`].

mod codec;
mod core;
mod file;
mod ice;
mod link;
mod measure;
mod relay;
mod room;
#[cfg(feature = "xmpp-parsers")]
mod stanza;
mod stream;
mod stun;
mod voice;
mod xmpp;

use std::{path::PathBuf, process::ExitCode};

/// A name, and what measures and prints it.
type Figure = (&'static str, fn(&str));

const ALL: &[&[Figure]] = &[
    codec::FIGURES,
    core::FIGURES,
    file::FIGURES,
    file::PROGRAM,
    ice::FIGURES,
    relay::FIGURES,
    #[cfg(feature = "xmpp-parsers")]
    stanza::FIGURES,
    stream::FIGURES,
    stun::FIGURES,
    voice::FIGURES,
    voice::PESQ,
    xmpp::FIGURES,
];

fn main() -> ExitCode {
    let prefix = std::env::args().nth(1).unwrap_or_default();
    let chosen = ALL
        .iter()
        .copied()
        .flatten()
        .filter(|(name, _)| name.starts_with(&prefix));
    let mut count = 0;
    for (name, measure) in chosen {
        measure(name);
        count += 1;
    }
    if count == 0 {
        eprintln!("no figure's name begins with {prefix:?}; there are:");
        ALL.iter()
            .copied()
            .flatten()
            .for_each(|(name, _)| eprintln!("  {name}"));
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Where programs and scripts of peers lie.
fn target_folder() -> PathBuf {
    let told = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    told.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"))
}
