//! Everything a developer of this workspace runs: `cargo xtask COMMAND`.
//!
//! One module a command; each has `run`, which answers a one-line summary or a [`tools::Failure`] that says what failed,
//! why, and what to try. `check` is the only definition of what must hold: continuous integration calls nothing else.
#![allow(clippy::print_stdout, reason = "a program for the terminal")]

mod bench;
mod check;
mod demo;
mod diagrams;
mod features;
mod fuzz;
mod interop;
mod lab;
mod layering;
mod matrix;
mod natlab;
mod peer;
mod programs;
mod purity;
mod setup;
mod simulate;
mod switchboard;
mod tidy;
mod tools;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The workspace's own commands.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Send a file between two endpoints of this process over real UDP sockets, show everything, and compare
    Demo(demo::Args),
    /// Run everything that must hold: formatting, lints, tests, documentation, layering, purity, tidiness
    Test(check::Args),
    /// Run the benchmarks, or those whose name begins with NAME
    Bench(bench::Args),
    /// Fuzz one target with libFuzzer on the stable toolchain, list the targets, or replay the corpora
    Fuzz(fuzz::Args),
    /// Run the model of two session cores over a bad network with many seeds
    Simulate(simulate::Args),
    /// Connect our ICE agent with those of others, which are installed or built for it where that is possible
    Interop(interop::Args),
    /// Call and send files with other people's clients, simulated and real, and show what comes of it
    Matrix(matrix::Args),
    /// Run our two programs in processes of their own over a real server: files, calls, relays, restarts, failures
    Programs(programs::Args),
    /// Connect two hosts behind every pair of NATs, in network namespaces (needs root)
    Natlab(natlab::Args),
    /// Be one side of a connection, driven by lines on standard input and output
    Peer(peer::Args),
    /// Run an XMPP server for trying things out on this machine; a development tool, nothing is kept
    Switchboard(switchboard::Args),
    /// Show what --trace of a program has written: who said what to whom, and why it ended
    Trace(trace::Args),
    /// Install the servers, peers and libraries that the tests meet (Debian, as root)
    Setup(setup::Args),
    /// Check that the pure crates carry no sockets, clocks or randomness in their dependency trees
    Purity,
    /// Check which crate depends on which
    Layering,
    /// Check sizes, words and places that the compiler does not
    Tidy,
    /// Write the state diagram into ARCHITECTURE.md from the transition table
    Diagrams(diagrams::Args),
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Demo(args) => demo::run(&args),
        Command::Test(args) => check::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Simulate(args) => simulate::run(&args),
        Command::Interop(args) => interop::run(&args),
        Command::Matrix(args) => matrix::run(&args),
        Command::Programs(args) => programs::run(&args),
        Command::Natlab(args) => natlab::run(&args),
        Command::Peer(args) => peer::run(&args),
        Command::Switchboard(args) => switchboard::run(&args),
        Command::Trace(args) => trace::run(&args),
        Command::Setup(args) => setup::run(&args),
        Command::Purity => purity::run(),
        Command::Layering => layering::run(),
        Command::Tidy => tidy::run(),
        Command::Diagrams(args) => diagrams::run(&args),
    };
    match outcome {
        Ok(summary) => {
            println!("{summary}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}
