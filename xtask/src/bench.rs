//! `cargo xtask bench`: the benchmarks, which live with their peers in a package of their own.

use std::fs;

use crate::setup::{self, Python};
use crate::switchboard::Background;
use crate::tools::{self, Failure, Outcome};

const MANIFEST: &str = "xtask/bench/Cargo.toml";

/// The figures that run `pcp` itself, which needs a server; the first meets magic-wormhole, too.
const PROGRAMS: [&str; 3] = ["file.one_big", "file.many_small", "file.peak_memory"];

/// The figures for which somebody speaks, and somebody judges how it sounds; the first stands for all of its kind.
const SPOKEN: [&str; 2] = ["voice.pesq.", "voice.networks"];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Only benchmarks whose name begins with this (`codec`, `core.negotiation`)
    name: Option<String>,
    /// For how long `xmpp.soak` lets sessions come and go; it is not run without this. Three minutes at least
    #[arg(long, value_name = "SECONDS")]
    soak: Option<u64>,
}

/// Builds the package in release and runs it. Its lines `bench NAME ours=… peer=… ratio=…` pass through as they are.
pub(crate) fn run(args: &Args) -> Outcome {
    let hint = "`cargo xtask bench` alone runs all; xtask/bench holds them and the peers they compare with";
    let mut arguments = vec![
        "run",
        "--quiet",
        "--release",
        "--manifest-path",
        MANIFEST,
        "--",
    ];
    arguments.extend(args.name.as_deref());
    let mut command = tools::cargo(&arguments);
    let name = args.name.as_deref().unwrap_or_default();
    let wanted = |figure: &&str| figure.starts_with(name);
    if SPOKEN
        .iter()
        .any(|figure| figure.starts_with(name) || name.starts_with(figure))
    {
        setup::packages(&["espeak-ng", "python3-venv", "python3-dev"])?;
        Python::PESQ.install()?;
        command.env("BENCH_PESQ", Python::PESQ.program());
    }
    if wanted(&PROGRAMS[0]) {
        setup::packages(&["python3-venv"])?;
        Python::WORMHOLE.install()?;
        command.env("BENCH_WORMHOLE", Python::WORMHOLE.program());
    }
    // It lasts as long as the figures do.
    let _server = match PROGRAMS.iter().any(wanted) {
        true => Some(program(&mut command)?),
        false => None,
    };
    let mut figures = 0_u32;
    let mut malformed = Vec::new();
    if let Some(seconds) = args.soak {
        command.env("BENCH_SOAK_SECONDS", seconds.to_string());
    }
    tools::tee(&mut command, hint, |line| match well_formed(line) {
        Some(true) => figures += 1,
        Some(false) => malformed.push(line.to_owned()),
        None => {}
    })?;
    if figures == 0 || !malformed.is_empty() {
        malformed.insert(0, format!("{figures} figures were printed"));
        return Err(Failure::findings(
            "bench",
            &malformed,
            "a figure is `bench NAME ours=… peer=… ratio=…`",
        ));
    }
    Ok(format!(
        "{figures} figures; ratio says how many times better than the peer ours is"
    ))
}

/// Builds `pcp`, runs a server, and tells the benchmarks of both.
fn program(command: &mut std::process::Command) -> Result<Background, Failure> {
    let what = [
        "build",
        "--release",
        "-p",
        "session-file",
        "--features",
        "cli",
    ];
    let mut build = tools::cargo(&what);
    tools::run(build.args(["--bin", "pcp"]), "it is what is measured")?;
    let server = Background::start()?;
    let authority = tools::target_dir().join("bench.pem");
    fs::write(&authority, server.authority()).map_err(|error| {
        let hint = "is there room on the disk?";
        Failure::new(authority.display().to_string(), error.to_string(), hint)
    })?;
    command
        .env("BENCH_PCP", tools::target_dir().join("release/pcp"))
        .env("BENCH_SERVER", server.address())
        .env("BENCH_AUTHORITY", authority);
    Ok(server)
}

/// Whether a line that reports a figure has the agreed form; none for any other line.
fn well_formed(line: &str) -> Option<bool> {
    let rest = line.strip_prefix("bench ")?;
    let words: Vec<&str> = rest.split_whitespace().collect();
    let value = |key: &str| words.iter().find_map(|word| word.strip_prefix(key));
    let ratio = value("ratio=").and_then(|ratio| ratio.parse::<f64>().ok());
    Some(
        words.first().is_some_and(|name| !name.contains('='))
            && value("ours=").is_some_and(|ours| !ours.is_empty())
            && value("peer=").is_some_and(|peer| !peer.is_empty())
            && ratio.is_some_and(|ratio| ratio.is_finite() && ratio > 0.0),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_a_name_two_values_and_a_ratio() {
        let good = "bench codec.parse_2k ours=9.9us peer=179us ratio=18.1";
        assert_eq!(well_formed(good), Some(true));
        assert_eq!(
            well_formed("bench core.negotiation ours=20us peer=none ratio=1 peers none"),
            Some(true)
        );
        assert_eq!(well_formed("building"), None);
        for bad in [
            "bench ours=1 peer=1 ratio=1",
            "bench a ours=1 ratio=1",
            "bench a ours= peer=1 ratio=1",
            "bench a ours=1 peer=1 ratio=NaN",
            "bench a ours=1 peer=1 ratio=fast",
        ] {
            assert_eq!(well_formed(bad), Some(false), "{bad}");
        }
    }
}
