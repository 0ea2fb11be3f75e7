//! The program `pcp` (feature `cli`): copies files and folders to people, and takes theirs.
//!
//! What it does is here, and not in the binary, so that tests run it on endpoints of their own: [`Hand`] is one end, on any
//! [`Endpoint`](session_xmpp::Endpoint); [`run`] puts it together with an account, after what stands on a command line.

#![allow(
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "files, threads and time are the program's, which is this part of the crate"
)]
#![allow(
    clippy::unnecessary_cast,
    reason = "the types of what a system says of files differ between systems"
)]

mod args;
mod board;
mod failing;
mod get;
mod hand;
mod limit;
mod pump;
mod receive;
mod send;
mod share;
mod show;

pub use args::{Args, Command, GetArgs, RateArgs, ReceiveArgs, SendArgs, ShareArgs, TransferArgs};
pub use board::{Listed, PUBLISHED_MAX};
pub use hand::{Hand, PROGRAM, Ways, client, client_that_takes_nothing};
pub use limit::{Limit, parse_rate};
pub use receive::{Arrival, Inbox};
pub use send::Delivery;
pub use share::Shelf;
pub use show::{Mode, Shown, View};

use clap::Parser as _;
use session_core::{Reason, ReasonCondition};
use session_xmpp::{
    cli::{Exit, Problem, Stop},
    client::ClientState,
    endpoint::LinkState,
};
use std::{process::ExitCode, sync::Arc, time::Duration};

/// How long it may take to take back what was told of shared files: there may be hundreds.
const WITHDRAW_MAX: Duration = Duration::from_secs(10);

/// Does what the command line says, and gives the program's exit code: 0 done, 1 failed, 2 usage, 3 no login, 4 declined.
pub fn main() -> ExitCode {
    let mut args = Args::parse();
    // The configuration file may want JSON, also of what goes wrong.
    let configured = args.account_mut().configure(&PROGRAM);
    let (json, quiet) = (args.account().json, args.account().quiet);
    if let Err(problem) = configured {
        return problem.report(PROGRAM.name, json, quiet);
    }
    crate::disk::raise_descriptors();
    // Files have threads of their own. One more for all the rest: with a second one buffers wander between the two, which
    // takes more memory and no less time.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let outcome = match runtime {
        Ok(runtime) => {
            let outcome = runtime.block_on(run(args));
            // A thread that waits for standard input ends with the process.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => {
            let hint = "is the number of threads or files limited (ulimit -a)?";
            let what = "start the asynchronous runtime";
            Err(Problem::new(
                Exit::Failed,
                "runtime",
                what,
                error.to_string(),
                hint,
            ))
        }
    };
    match outcome {
        Ok(exit) => exit.into(),
        Err(problem) => problem.report(PROGRAM.name, json, quiet),
    }
}

/// Logs in, does what is asked, and logs out.
///
/// # Errors
/// What went wrong, with the exit code. What failed for single files is told by itself, and is [`Exit::Failed`] in the end.
pub async fn run(args: Args) -> Result<Exit, Problem> {
    let mut work = args.check()?;
    let mut account = args.account().clone().resolve(&PROGRAM)?;
    let view = View::new(&account);
    let view = Arc::new(if work.is_stream() {
        view.beside_file()
    } else {
        view
    });
    let ways = Ways::new(args.transfer().allow_plaintext)?;
    ways.adapt(&mut account.ways)?;
    let board = work.board(&account.policy).map(|(board, service)| {
        account.services.push(service);
        board
    });
    let client = work.client(&ways);
    let online = account
        .login(&work.program(), move |manager| manager.add_client(client))
        .await?;
    let hand = Hand::new(online.endpoint.clone(), view.clone(), args.limit());
    let mut stop = Stop::new().map_err(|error| failing::io("listen for Ctrl-C", &error))?;
    let is_endless = work.is_endless();
    let outcome = tokio::select! {
        outcome = work.run(&hand, &online) => outcome,
        () = stop.asked() => match is_endless && hand.is_at_rest() {
            // It has no other end.
            true => Ok(Exit::Done),
            false => Err(interrupt()),
        },
    };
    let is_over = matches!(online.client.state(), ClientState::Ended(_));
    let outcome = match outcome {
        // Why it is says more than that it is.
        Err(problem) if is_over && problem.code == failing::OFFLINE => Err(online.ended().await),
        outcome => outcome,
    };
    let condition = match &outcome {
        Ok(_) => ReasonCondition::Success,
        Err(_) => ReasonCondition::Cancel,
    };
    let finishing = async {
        // Without a connection nobody hears of it.
        if let (Some(board), LinkState::Up(_)) = (board, online.endpoint.link_state()) {
            let withdrawn = board.withdraw(&online.endpoint);
            let _ = tokio::time::timeout(WITHDRAW_MAX, withdrawn).await;
        }
        online.finish(Reason::new(condition)).await
    };
    let finished = tokio::select! {
        finished = finishing => finished,
        // Whoever asks twice does not want to wait for it.
        () = stop.asked() => return Err(interrupt()),
    };
    let exit = outcome?;
    finished?;
    Ok(exit)
}

fn interrupt() -> Problem {
    let hint = "give the same command again: it goes on where it was";
    Problem::new(
        Exit::Failed,
        "interrupted",
        "go on",
        "it was interrupted",
        hint,
    )
}
