//! `cargo xtask fuzz`: libFuzzer on the stable toolchain, and the replay of what it kept.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::tools::{self, Failure, Outcome};

const MANIFEST: &str = "xtask/fuzz/Cargo.toml";
/// What instruments the code for libFuzzer without a nightly compiler. There is no address sanitizer on stable; the crates
/// forbid unsafe code.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1 -Cdebug-assertions=on -Coverflow-checks=on";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What to fuzz
    #[arg(required_unless_present_any = ["list", "replay"])]
    target: Option<String>,
    /// For how long
    #[arg(default_value_t = 60)]
    seconds: u32,
    /// Name the targets
    #[arg(long)]
    list: bool,
    /// Afterwards, copy what reached new code into the committed corpus
    #[arg(long)]
    keep: bool,
    /// Run every input of the committed corpora once, without instruments
    #[arg(long)]
    replay: bool,
}

pub(crate) fn run(args: &Args) -> Outcome {
    match &args.target {
        _ if args.list => Ok(targets().join("\n")),
        Some(target) if !args.replay => fuzz(target, args.seconds, args.keep),
        _ => replay(),
    }
}

/// Runs every input of the committed corpora through its target.
pub(crate) fn replay() -> Outcome {
    let hint = "the last input named is the one: run it alone, `cargo run --manifest-path xtask/fuzz/Cargo.toml --bin replay FILE`";
    let arguments = [
        "run",
        "--quiet",
        "--manifest-path",
        MANIFEST,
        "--bin",
        "replay",
    ];
    let output = tools::capture(&mut tools::cargo(&arguments), hint)?;
    Ok(output.trim_end().to_owned())
}

/// The names of the targets, sorted.
fn targets() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(tools::root().join("xtask/fuzz/targets"))
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().to_string_lossy().into_owned();
            Some(name.strip_suffix(".rs")?.to_owned())
        })
        .collect();
    names.sort();
    names
}

fn fuzz(target: &str, seconds: u32, keep: bool) -> Outcome {
    if !targets().iter().any(|name| name == target) {
        return Err(Failure::new(
            format!("cargo xtask fuzz {target}"),
            format!("the targets are {}", targets().join(", ")),
            "cargo xtask fuzz --list",
        ));
    }
    let program = build(target)?;
    let found = tools::target_dir().join("fuzz").join(target);
    let (findings, grown) = (found.join("findings"), found.join("corpus"));
    for folder in [&findings, &grown] {
        fs::create_dir_all(folder).map_err(|error| {
            let what = format!("create {}", folder.display());
            Failure::new(what, error.to_string(), "is there space?")
        })?;
    }
    let committed = format!("xtask/fuzz/corpus/{target}");
    let mut hunt = Command::new(&program);
    hunt.current_dir(tools::root())
        .arg(&grown)
        .arg(&committed)
        .arg(format!("-max_total_time={seconds}"))
        .arg(format!("-artifact_prefix={}/", findings.display()))
        .args(["-timeout=10", "-rss_limit_mb=2048", "-print_final_stats=1"]);
    let words = format!("xtask/fuzz/{target}.dict");
    if tools::root().join(&words).is_file() {
        hunt.arg(format!("-dict={words}"));
    }
    tools::run(
        &mut hunt,
        &format!(
            "the input is in {}: give it a speaking name in {committed}, then `cargo xtask fuzz --replay`",
            findings.display()
        ),
    )?;
    let place = if keep {
        // By code reached alone; counting how often would keep ten times as many.
        let mut merge = Command::new(&program);
        merge.current_dir(tools::root()).arg(&committed).arg(&grown);
        merge.args(["-set_cover_merge=1", "-use_counters=0", "-use_cmp=0"]);
        tools::run(&mut merge, "is the corpus writable?")?;
        committed
    } else {
        grown.display().to_string()
    };
    Ok(format!(
        "{target}: {seconds} s without a finding; what is new is in {place}"
    ))
}

/// Builds a target with instruments; answers where it is.
fn build(target: &str) -> Result<PathBuf, Failure> {
    let compiler = env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    tools::capture(
        Command::new(compiler).arg("--version"),
        "libFuzzer is C++: install a C++ compiler (Debian: apt-get install g++) or name it in CXX; nothing else here needs one",
    )?;
    let host = host()?;
    // The target is named so that cargo leaves build scripts and macros without instruments.
    let mut arguments = vec!["build", "--release", "--manifest-path", MANIFEST];
    arguments.extend([
        "--features",
        "libfuzzer",
        "--target",
        &host,
        "--bin",
        target,
    ]);
    let mut command = tools::cargo(&arguments);
    command.env("RUSTFLAGS", RUSTFLAGS);
    tools::run(&mut command, "does the package build without instruments?")?;
    Ok(tools::target_dir().join(&host).join("release").join(target))
}

/// The triple that the compiler builds for by itself.
fn host() -> Result<String, Failure> {
    let hint = "does `rustc -vV` run?";
    let text = tools::capture(Command::new("rustc").arg("-vV"), hint)?;
    text.lines()
        .find_map(|line| line.strip_prefix("host: "))
        .map(str::to_owned)
        .ok_or_else(|| Failure::new("rustc -vV", "names no host", hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_is_a_triple() {
        assert!(host().unwrap().split('-').count() >= 3);
    }

    #[test]
    fn every_target_has_a_corpus() {
        for target in targets() {
            let corpus = tools::root().join("xtask/fuzz/corpus").join(&target);
            assert!(
                fs::read_dir(corpus).is_ok_and(|inputs| inputs.count() > 0),
                "{target}"
            );
        }
        let failure = fuzz("sing", 1, false).unwrap_err().to_string();
        assert!(failure.contains("the targets are"), "{failure}");
    }
}
