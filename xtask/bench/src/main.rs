//! Figures, each against a peer, in the form `bench NAME ours=… peer=… ratio=…`; a ratio says how many times better ours
//! is. `bench` prints all of them, `bench PREFIX` those whose name begins with it.
//!
//! To add figures: a module with a `pub(crate) const FIGURES: &[Figure]`, and its line in [`ALL`].

#![allow(
    clippy::disallowed_methods,
    reason = "what is measured is time, and peers are threads and processes"
)]

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

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

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

/// Builds a peer that is written in C, from `peers/NAME.c`, when a C compiler and the headers of the library that pkg-config
/// knows by this name are there.
fn c_peer(name: &str, library: &str) -> Option<PathBuf> {
    let flags = Command::new("pkg-config")
        .args(["--cflags", "--libs", library])
        .output()
        .ok()?;
    let flags = String::from_utf8(flags.stdout)
        .ok()
        .filter(|_| flags.status.success())?;
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let folder = target_folder().join("interop");
    std::fs::create_dir_all(&folder).ok()?;
    let program = folder.join(name);
    let built = Command::new("cc")
        .args(["-O2", "-o"])
        .arg(&program)
        .arg(here.join("peers").join(name).with_extension("c"))
        .args(flags.split_whitespace())
        .status();
    built
        .is_ok_and(|status| status.success())
        .then_some(program)
}
