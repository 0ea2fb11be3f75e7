//! `cargo xtask simulate`: the model test of two session cores, with as many seeds as there is time for.

use crate::tools::{self, Failure, Outcome};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seeds, each one run of two peers over a bad network
    #[arg(long, default_value_t = 100_000)]
    seeds: u32,
}

/// Runs the same test that `cargo test` runs with fewer seeds; a failure names its seed and its smallest sequence.
pub(crate) fn run(args: &Args) -> Outcome {
    let hint = "the output names the failing case: keep it as a regression test beside the model";
    let mut command = tools::cargo(&[
        "test",
        "-p",
        "session-core",
        "--features",
        "testing",
        "--release",
        "--test",
        "model",
        "--",
        "--nocapture",
    ]);
    command.env("SIMULATE_SEEDS", args.seeds.to_string());
    command.env("PROPTEST_CASES", args.seeds.to_string());
    let mut passed = false;
    tools::tee(&mut command, hint, |line| {
        passed |= line.starts_with("test result: ok.") && !line.contains(" 0 passed");
    })?;
    if passed {
        Ok(format!("{} seeds, every property held", args.seeds))
    } else {
        Err(Failure::new("simulate", "no test of the model ran", hint))
    }
}
