//! Runs inputs through their targets, without instruments: all committed corpora, or the files named.
//!
//! A file belongs to the target whose name its folder has.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs, panic};

use session_fuzz::TARGETS;

fn main() -> ExitCode {
    let named: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let inputs = if named.is_empty() { corpora() } else { named };
    let mut counts = vec![0_usize; TARGETS.len()];
    for path in &inputs {
        let folder = path.parent().and_then(Path::file_name).unwrap_or_default();
        let Some(index) = TARGETS.iter().position(|(name, _)| *name == folder) else {
            eprintln!("{}: its folder is not named as a target", path.display());
            return ExitCode::FAILURE;
        };
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("{}: {error}", path.display());
                return ExitCode::FAILURE;
            }
        };
        if panic::catch_unwind(|| TARGETS[index].1(&bytes)).is_err() {
            println!("{} fails", path.display());
            return ExitCode::FAILURE;
        }
        counts[index] += 1;
    }
    let counts: Vec<String> = TARGETS
        .iter()
        .zip(&counts)
        .map(|((name, _), count)| format!("{name} {count}"))
        .collect();
    println!("inputs that hold: {}", counts.join(", "));
    ExitCode::SUCCESS
}

/// Every committed input, sorted.
fn corpora() -> Vec<PathBuf> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut inputs: Vec<PathBuf> = TARGETS
        .iter()
        .flat_map(|(name, _)| files(&corpus.join(name)))
        .collect();
    inputs.sort();
    inputs
}

fn files(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.is_file())
        .collect()
}
