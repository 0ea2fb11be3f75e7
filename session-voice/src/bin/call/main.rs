//! `call`: a voice call from the command line.
#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    clippy::print_stdout,
    reason = "a program has a clock, files and a screen"
)]

mod keys;
mod phone;
mod report;
mod sound;
mod talk;

use clap::{Parser, Subcommand};
use phone::Phone;
use session_core::Peer;
use session_xmpp::cli::{AccountArgs, Exit, Problem, Program};
use std::{path::PathBuf, process::ExitCode, time::Duration};

/// Voice calls over XMPP, encrypted, straight from one device to the other
#[derive(Debug, Parser)]
#[command(name = "call", version)]
struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Call somebody
    Dial {
        /// Whom: bob@example.org, or bob@example.org/desk
        to: String,
        #[command(flatten)]
        how: How,
    },
    /// Wait for a call and answer it
    Answer {
        /// Ring for so many seconds before the call is answered
        #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
        after: f64,
        /// Decline the call instead
        #[arg(long)]
        decline: bool,
        #[command(flatten)]
        how: How,
    },
}

/// What is said and heard.
#[derive(Clone, Debug, clap::Args)]
struct How {
    /// Say what is in this WAV file; without it the microphone, and a tone where there is none
    #[arg(long, value_name = "WAV")]
    play: Option<PathBuf>,
    /// Write what is heard to this WAV file; without it the loudspeaker, if there is one
    #[arg(long, value_name = "WAV")]
    record: Option<PathBuf>,
    /// Hang up after so many seconds of conversation
    #[arg(long = "for", value_name = "SECONDS")]
    length: Option<f64>,
    /// Give up when nobody answers for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    ring: f64,
    /// Leave out silence
    #[arg(long)]
    dtx: bool,
    /// Write a page that shows how the call went
    #[arg(long, value_name = "HTML")]
    report: Option<PathBuf>,
    /// End the call if the peer's certificate has another fingerprint than this (sha-256, as in AB:CD:…)
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<String>,
    #[command(flatten)]
    account: AccountArgs,
}

const PROGRAM: Program = Program {
    name: "call",
    node: "https://example.org/call",
    kind: "phone",
    features: phone::FEATURES,
    calls: false,
};

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (What::Dial { how, .. } | What::Answer { how, .. }) = &args.what;
    let (json, quiet) = (how.account.json, how.account.quiet);
    match run(args).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => problem.report(PROGRAM.name, json, quiet),
    }
}

async fn run(args: Args) -> Result<(), Problem> {
    let (how, to) = match &args.what {
        What::Dial { to, how } => (how.clone(), Some(Problem::address("TO", to)?)),
        What::Answer { how, .. } => (how.clone(), None),
    };
    let (ring, length) = (seconds("--ring", how.ring)?, how.length);
    let length = length.map(|length| seconds("--for", length)).transpose()?;
    let sound = sound::Sound::open(&how)?;
    let account = how.account.clone().resolve(&PROGRAM)?;
    let phone = Phone::login(account, &how, ring).await?;
    let session = match (&args.what, to) {
        (What::Answer { after, decline, .. }, _) => {
            let after = seconds("--after", *after)?;
            phone.answer(after, *decline).await?
        }
        (What::Dial { .. }, Some(to)) => Some(phone.dial(&to).await?),
        (What::Dial { .. }, None) => None,
    };
    let Some((session, peer)) = session else {
        return phone.finish().await;
    };
    let result = talk::talk(&phone, session, sound, &how, length).await;
    let ended = phone.finish().await;
    let talked = result?;
    ended?;
    talked.tell(&phone, &peer, &how)
}

/// A time in an option.
fn seconds(option: &str, seconds: f64) -> Result<Duration, Problem> {
    Duration::try_from_secs_f64(seconds).map_err(|error| {
        let hint = "give a number of seconds, such as 10 or 2.5";
        Problem::usage(format!("{option} {seconds}"), error.to_string(), hint)
    })
}

/// What does not work, and is nobody's mistake in an option.
fn failed(code: &'static str, what: &str, why: impl ToString, hint: &str) -> Problem {
    Problem::new(Exit::Failed, code, what, why.to_string(), hint)
}

/// How somebody is called in what people read.
fn name(peer: &Peer) -> &str {
    peer.as_str()
}
