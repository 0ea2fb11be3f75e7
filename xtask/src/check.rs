//! `cargo xtask test`: everything that must hold, in one list. Continuous integration calls this and nothing else.

use std::process::Command;
use std::time::Instant;

use crate::tidy::CRATES;
use crate::tools::{self, Failure, Outcome};
use crate::{diagrams, features, fuzz, interop, layering, matrix, programs, purity, setup, tidy};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Run only these steps
    steps: Vec<String>,
    /// Name the steps and run none
    #[arg(long)]
    list: bool,
}

/// One thing that must hold.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn() -> Outcome,
}

/// In order: what is quick to know comes first.
const STEPS: &[Step] = &[
    Step {
        name: "toolchain",
        about: "Rust, rustfmt, clippy and a linker are here",
        run: toolchain,
    },
    Step {
        name: "setup",
        about: "servers and peers that the tests meet",
        run: setup::prepare,
    },
    Step {
        name: "fmt",
        about: "every file is formatted",
        run: format,
    },
    Step {
        name: "tidy",
        about: "sizes, words and places",
        run: tidy::run,
    },
    Step {
        name: "layering",
        about: "which crate depends on which",
        run: layering::run,
    },
    Step {
        name: "purity",
        about: "no sockets or randomness below pure crates",
        run: purity::run,
    },
    Step {
        name: "deny",
        about: "licences and sources of dependencies",
        run: deny,
    },
    Step {
        name: "diagrams",
        about: "ARCHITECTURE.md shows the table",
        run: diagrams::check,
    },
    Step {
        name: "matrix",
        about: "README.md shows what other people's clients make of us",
        run: matrix::check,
    },
    Step {
        name: "clippy",
        about: "each crate alone, warnings are errors",
        run: clippy,
    },
    Step {
        name: "msrv",
        about: "the oldest Rust that is promised compiles it",
        run: msrv,
    },
    Step {
        name: "tests",
        about: "unit, property, model and scenario tests",
        run: tests,
    },
    Step {
        name: "doctests",
        about: "the examples in the documentation",
        run: doctests,
    },
    Step {
        name: "outside",
        about: "a transport and a client on public API only",
        run: outside,
    },
    Step {
        name: "interop",
        about: "ICE and data channels with those that others wrote",
        run: interop::all,
    },
    Step {
        name: "peers",
        about: "files and calls with clients that others wrote",
        run: matrix::peers,
    },
    Step {
        name: "programs",
        about: "ours in separate processes over a real server",
        run: programs::all,
    },
    Step {
        name: "corpora",
        about: "every input that fuzzing kept",
        run: fuzz::replay,
    },
    Step {
        name: "doc",
        about: "the documentation builds without a warning",
        run: doc,
    },
];

/// What runs only when it is named, because of what it takes.
const BY_NAME: &[Step] = &[
    Step {
        name: "benches",
        about: "the benchmarks compile, with their peers, without a warning",
        run: benches,
    },
    Step {
        name: "clients",
        about: "Dino, Gajim, Chromium and Firefox, as far as they are installed",
        run: matrix::clients,
    },
];

/// Runs the steps, each named and timed; the first failure ends the run.
pub(crate) fn run(args: &Args) -> Outcome {
    if args.list {
        let line = |step: &Step| format!("{:10} {}", step.name, step.about);
        let by_name = BY_NAME.iter().map(|step| line(step) + " (only by name)");
        let lines: Vec<String> = STEPS.iter().map(line).chain(by_name).collect();
        return Ok(lines.join("\n"));
    }
    let all = || STEPS.iter().chain(BY_NAME);
    let known = |name: &&String| all().any(|step| step.name == name.as_str());
    if let Some(name) = args.steps.iter().find(|name| !known(name)) {
        return Err(Failure::new(
            format!("cargo xtask test {name}"),
            "there is no such step",
            "cargo xtask test --list",
        ));
    }
    let chosen: Vec<&Step> = match args.steps.as_slice() {
        [] => STEPS.iter().collect(),
        names => all()
            .filter(|step| names.iter().any(|name| name == step.name))
            .collect(),
    };

    let begun = Instant::now();
    let mut lines = Vec::new();
    for (index, step) in chosen.iter().enumerate() {
        println!(
            "\n[{}/{}] {}: {}",
            index + 1,
            chosen.len(),
            step.name,
            step.about
        );
        let start = Instant::now();
        let outcome = (step.run)();
        let time = tools::seconds(Instant::now().saturating_duration_since(start));
        match outcome {
            Ok(summary) => {
                println!("      {summary} ({time})");
                lines.push(format!("  {:10} {time:>8}  {summary}", step.name));
            }
            Err(failure) => {
                println!(
                    "\n{} failed after {time}; {} of {} steps had passed",
                    step.name,
                    index,
                    chosen.len()
                );
                return Err(failure);
            }
        }
    }
    let time = tools::seconds(Instant::now().saturating_duration_since(begun));
    Ok(format!(
        "\nEverything holds ({} steps, {time}):\n{}",
        chosen.len(),
        lines.join("\n")
    ))
}

/// The tools that the other steps use. Missing components of the toolchain are installed if rustup is here.
fn toolchain() -> Outcome {
    let wanted = promised()?;
    let hint = "install or update Rust: https://rustup.rs, then `rustup update stable`";
    let rustc = tools::capture(Command::new("rustc").arg("--version"), hint)?;
    let found = layering::version(rustc.trim_start_matches(|c: char| !c.is_ascii_digit()));
    if found < layering::version(&wanted) {
        return Err(Failure::new(
            "rustc --version",
            format!("{} is older than {wanted}", rustc.trim()),
            hint,
        ));
    }
    for (component, command) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        let missing = || !tools::succeeds(&mut tools::cargo(&[command, "--version"]));
        if missing() {
            println!("      {component} is missing: rustup component add {component}");
            tools::run(
                Command::new("rustup").args(["component", "add", component]),
                "without rustup, install this component as your Rust was installed (Debian: apt-get install rustfmt rust-clippy)",
            )?;
        }
    }
    let linker = "install a C compiler and linker (Debian: apt-get install gcc libc6-dev)";
    tools::capture(Command::new("cc").arg("--version"), linker)?;
    Ok(format!("{}, rustfmt, clippy, cc", rustc.trim()))
}

fn format() -> Outcome {
    let hint = "cargo fmt --all (and with --manifest-path for a package outside the workspace)";
    tools::run(&mut tools::cargo(&["fmt", "--all", "--check"]), hint)?;
    let outside = tools::outside_packages();
    for manifest in &outside {
        tools::run(
            &mut tools::cargo(&["fmt", "--manifest-path", manifest, "--check"]),
            hint,
        )?;
    }
    Ok(format!(
        "the workspace and {} packages beside it",
        outside.len()
    ))
}

/// cargo-deny takes minutes to build, so it is not asked for.
fn deny() -> Outcome {
    if !tools::succeeds(&mut tools::cargo(&["deny", "--version"])) {
        return Ok("not run: cargo-deny is not installed (cargo install cargo-deny)".to_owned());
    }
    tools::run(
        &mut tools::cargo(&["deny", "check", "licenses", "bans", "sources"]),
        "deny.toml says what is allowed; choose another dependency, or argue there",
    )?;
    Ok("licences, bans and sources".to_owned())
}

/// Each package alone: over the workspace, features unify and hide what a crate misses by itself.
fn clippy() -> Outcome {
    let mut runs: Vec<Vec<String>> = Vec::new();
    let run = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
    for name in CRATES.iter().copied().chain(["xtask"]) {
        let mut all: Vec<String> = run(&["-p", name, "--all-targets"]);
        all.extend(features::all(Some(name))?);
        runs.push(all);
        runs.push(run(&["-p", name]));
    }
    runs.push(run(&["-p", "session-xmpp", "--no-default-features"]));
    runs.push(run(&["-p", "session-xmpp", "--features", "client"]));
    for manifest in ["xtask/outside/Cargo.toml", "xtask/fuzz/Cargo.toml"] {
        runs.push(run(&["--manifest-path", manifest, "--all-targets"]));
    }
    lint(&runs)
}

/// With the peers that are compared with; without xmpp-parsers, which takes longer to build than all the others.
fn benches() -> Outcome {
    let words = ["--manifest-path", "xtask/bench/Cargo.toml"];
    let words = words
        .into_iter()
        .chain(["--all-targets", "--no-default-features"]);
    lint(&[words.map(str::to_owned).collect()])
}

fn lint(runs: &[Vec<String>]) -> Outcome {
    for run in runs {
        let mut arguments = vec!["clippy", "--quiet"];
        arguments.extend(run.iter().map(String::as_str));
        arguments.extend(["--", "-D", "warnings"]);
        println!("      cargo clippy {}", run.join(" "));
        tools::run(
            &mut tools::cargo(&arguments),
            "do what the lint asks; an exception carries its reason",
        )?;
    }
    Ok(format!("{} runs, no warning", runs.len()))
}

/// A second toolchain is not asked for; without it, `layering` compares what the dependencies promise.
fn msrv() -> Outcome {
    let version = promised()?;
    let mut rustup = Command::new("rustup");
    if !tools::succeeds(rustup.args(["run", &version, "cargo", "--version"])) {
        return Ok(format!(
            "not run: rustup toolchain install {version} --profile minimal"
        ));
    }
    let chosen = features::all(None)?;
    let mut arguments = vec!["run", &version, "cargo", "check", "--workspace"];
    arguments.extend(chosen.iter().map(String::as_str));
    let mut command = Command::new("rustup");
    command.args(arguments).current_dir(tools::root());
    command.env("CARGO_TARGET_DIR", tools::target_dir());
    // Set by the toolchain that runs this program; they would win over the one that is named.
    for variable in ["CARGO", "RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(variable);
    }
    tools::run(
        &mut command,
        "use what that version has, or raise rust-version in the root Cargo.toml and say so in CHANGELOG.md",
    )?;
    Ok(format!("Rust {version}"))
}

fn tests() -> Outcome {
    let chosen = features::all(None)?;
    let mut arguments = vec!["test", "--workspace"];
    arguments.extend(chosen.iter().map(String::as_str));
    arguments.extend(["--lib", "--bins", "--tests", "--examples"]);
    counted(
        &arguments,
        "run the failing test alone: cargo test -p CRATE NAME; a property prints its smallest input",
    )
}

fn doctests() -> Outcome {
    let chosen = features::all(None)?;
    let mut arguments = vec!["test", "--workspace", "--doc"];
    arguments.extend(chosen.iter().map(String::as_str));
    counted(
        &arguments,
        "the example in the documentation does not do what it says: correct it or the code",
    )
}

fn outside() -> Outcome {
    counted(
        &["test", "--manifest-path", "xtask/outside/Cargo.toml"],
        "what an outsider needs has left the public API, or changed: say so in CHANGELOG.md",
    )
}

fn doc() -> Outcome {
    let chosen = features::all(None)?;
    let mut arguments = vec!["doc", "--workspace", "--no-deps"];
    arguments.extend(chosen.iter().map(String::as_str));
    let mut command = tools::cargo(&arguments);
    tools::run(
        command.env("RUSTDOCFLAGS", "-D warnings"),
        "a link in the documentation leads nowhere, or is ambiguous",
    )?;
    Ok(format!("{}/doc", tools::target_dir().display()))
}

/// Runs `cargo test`, adds up what it reports, and does not take silence for success.
fn counted(arguments: &[&str], hint: &str) -> Outcome {
    let mut total = Counts::default();
    tools::tee(&mut tools::cargo(arguments), hint, |line| total.add(line))?;
    if total.passed == 0 || total.ignored > 0 {
        return Err(Failure::new(
            format!("cargo {}", arguments.join(" ")),
            format!(
                "{} tests passed and {} were ignored",
                total.passed, total.ignored
            ),
            "every test runs, and there is at least one",
        ));
    }
    Ok(format!(
        "{} passed in {} programs",
        total.passed, total.programs
    ))
}

/// Sums of the lines `test result: ok. 12 passed; 0 failed; 0 ignored; …`.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    passed: u32,
    ignored: u32,
    programs: u32,
}

impl Counts {
    fn add(&mut self, line: &str) {
        let Some(rest) = line.strip_prefix("test result: ") else {
            return;
        };
        let number_before = |word: &str| {
            let before = rest.split_once(word)?.0;
            before.rsplit(' ').next()?.parse::<u32>().ok()
        };
        self.passed += number_before(" passed").unwrap_or(0);
        self.ignored += number_before(" ignored").unwrap_or(0);
        self.programs += 1;
    }
}

/// The oldest Rust that the workspace promises to compile with.
fn promised() -> Result<String, Failure> {
    let manifest = tools::read(&tools::root().join("Cargo.toml"))?;
    let value = manifest
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "))
        .map(|value| value.trim_matches('"').to_owned());
    value.ok_or_else(|| {
        Failure::new(
            "Cargo.toml",
            "no rust-version is promised",
            "name it in [workspace.package]",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_add_up() {
        let mut counts = Counts::default();
        counts.add("running 3 tests");
        counts.add("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s");
        counts.add("test result: ok. 3 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!(
            counts,
            Counts {
                passed: 15,
                ignored: 1,
                programs: 2
            }
        );
    }

    #[test]
    fn an_unknown_step_is_refused_and_the_list_is_complete() {
        let args = Args {
            steps: vec!["sing".to_owned()],
            list: false,
        };
        assert!(run(&args).unwrap_err().to_string().contains("no such step"));
        let list = run(&Args {
            steps: Vec::new(),
            list: true,
        })
        .unwrap();
        assert_eq!(list.lines().count(), STEPS.len() + BY_NAME.len());
    }
}
