//! The command line.

use super::{
    board::Board,
    get,
    hand::{Hand, PROGRAM, RECEIVER, RECEIVES, SHARER, SHARES, Ways, client},
    parse_rate,
    receive::Inbox,
    send, share,
};
use crate::{FILE_TRANSFER, FileClient, disk::Existing, pcp::client_that_takes_nothing};
use clap::{Args as ClapArgs, Parser, Subcommand};
use session_core::Peer;
use session_xmpp::{
    cli::{AccountArgs, Exit, Online, Problem, Program},
    client::Policy,
    endpoint::Service,
};
use std::path::{Path, PathBuf};

/// What the exit codes mean.
const EXITS: &str = "\
Exit codes: 0 it is done; 1 it failed, or not all of it went well; 2 the options make no sense; 3 there is no login; 4 the other
side does not want it. receive without --count and share end by Ctrl-C: 0 when nothing was under way then, else 1.";

/// Copies files and folders to people, directly and encrypted, and goes on where it was interrupted.
#[derive(Debug, Parser)]
#[command(name = "pcp", version, after_help = EXITS)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Send files and folders to somebody
    Send(SendArgs),
    /// Receive what others send, until Ctrl-C
    Receive(ReceiveArgs),
    /// Fetch a file that somebody shares, or list what is shared
    Get(GetArgs),
    /// Let others fetch what is in a folder, until Ctrl-C
    ///
    /// Contacts see what there is, and how large. What a run has told that was killed goes with the next one, when its device is
    /// not there any more; other runs of the same account are left alone
    Share(ShareArgs),
}

/// How things are transferred.
#[derive(ClapArgs, Clone, Debug)]
#[command(next_help_heading = "Transfer")]
pub struct TransferArgs {
    /// Go on without encryption where the other side can do no better
    #[arg(long)]
    pub allow_plaintext: bool,
}

/// How fast something is sent.
#[derive(ClapArgs, Clone, Copy, Debug)]
#[command(next_help_heading = "Transfer")]
pub struct RateArgs {
    /// Send at most this fast: 500k, 2.5M (bytes a second, of 1,000)
    #[arg(long, value_name = "RATE", value_parser = parse_rate)]
    pub limit: Option<u64>,
}

/// Options of `pcp send`.
#[derive(ClapArgs, Debug)]
pub struct SendArgs {
    /// Files, folders, patterns such as 'photos/*.jpg', or - for standard input
    #[arg(required = true, value_name = "FILE|DIR|-")]
    pub what: Vec<PathBuf>,
    /// To whom: bob@example.org, or bob@example.org/desk
    pub to: String,
    /// The name under which standard input, or the only file, is sent
    #[arg(long)]
    pub name: Option<String>,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub rate: RateArgs,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub transfer: TransferArgs,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub account: AccountArgs,
}

/// Options of `pcp receive`.
#[derive(ClapArgs, Debug)]
pub struct ReceiveArgs {
    /// Where to put what arrives; - writes one file to standard output
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
    /// What to do when another file has the name of one that arrives
    #[arg(long, value_enum, default_value_t)]
    pub existing: Existing,
    /// Take names that begin with a dot into a home folder, too, where they may steer programs
    #[arg(long)]
    pub hidden: bool,
    /// End after this many transfers; with - it is one
    #[arg(long, value_name = "NUMBER")]
    pub count: Option<u64>,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub transfer: TransferArgs,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub account: AccountArgs,
}

/// Options of `pcp get`.
#[derive(ClapArgs, Debug)]
pub struct GetArgs {
    /// Whose file, and which: bob@example.org:photos/beach.jpg; of an address alone, what it shares is listed
    #[arg(value_name = "JID[:NAME]")]
    pub what: String,
    /// Where to put it; - is standard output
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub into: PathBuf,
    /// What to do when another file has its name
    #[arg(long, value_enum, default_value_t)]
    pub existing: Existing,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub transfer: TransferArgs,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub account: AccountArgs,
}

/// Options of `pcp share`.
#[derive(ClapArgs, Debug)]
pub struct ShareArgs {
    /// What others may fetch: all that is in it
    #[arg(value_name = "DIR")]
    pub what: PathBuf,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub rate: RateArgs,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub transfer: TransferArgs,
    #[allow(missing_docs, reason = "would be taken for help")]
    #[command(flatten)]
    pub account: AccountArgs,
}

/// What is to be done, checked as far as that is possible without a login.
pub(super) enum Work {
    Send(send::Order, Peer),
    Receive(Inbox, Option<u64>),
    Get(get::Order, Peer),
    List(Peer),
    Share(share::Shelf),
}

impl Args {
    /// The options of the account.
    pub fn account(&self) -> &AccountArgs {
        match &self.command {
            Command::Send(args) => &args.account,
            Command::Receive(args) => &args.account,
            Command::Get(args) => &args.account,
            Command::Share(args) => &args.account,
        }
    }

    /// The same, to be changed.
    pub fn account_mut(&mut self) -> &mut AccountArgs {
        match &mut self.command {
            Command::Send(args) => &mut args.account,
            Command::Receive(args) => &mut args.account,
            Command::Get(args) => &mut args.account,
            Command::Share(args) => &mut args.account,
        }
    }

    /// How things are transferred.
    pub fn transfer(&self) -> &TransferArgs {
        match &self.command {
            Command::Send(args) => &args.transfer,
            Command::Receive(args) => &args.transfer,
            Command::Get(args) => &args.transfer,
            Command::Share(args) => &args.transfer,
        }
    }

    /// How many bytes a second are sent at most.
    pub fn limit(&self) -> Option<u64> {
        match &self.command {
            Command::Send(args) => args.rate.limit,
            Command::Share(args) => args.rate.limit,
            Command::Receive(_) | Command::Get(_) => None,
        }
    }

    /// What is wrong is better told before a password is asked for.
    pub(super) fn check(&self) -> Result<Work, Problem> {
        Ok(match &self.command {
            Command::Send(args) => {
                let to = Problem::address("TO", &args.to)?;
                Work::Send(send::Order::new(&args.what, args.name.as_deref())?, to)
            }
            Command::Receive(args) => {
                let inbox = match !args.hidden && is_home(&args.into) {
                    true => Inbox::without_hidden(&args.into, args.existing)?,
                    false => Inbox::new(&args.into, args.existing)?,
                };
                let count = if inbox.is_stream() {
                    Some(1)
                } else {
                    args.count
                };
                Work::Receive(inbox, count)
            }
            Command::Get(args) => {
                let (whom, name) = get::split(&args.what)?;
                let Some(name) = name else {
                    return Ok(Work::List(whom));
                };
                let inbox = Inbox::new(&args.into, args.existing)?;
                Work::Get(get::Order::new(name, inbox)?, whom)
            }
            Command::Share(args) => Work::Share(share::Shelf::new(&args.what)?),
        })
    }
}

/// Whether this is the user's home folder.
fn is_home(path: &Path) -> bool {
    let whole = |path: &Path| path.canonicalize().ok();
    std::env::home_dir()
        .is_some_and(|home| whole(&home).is_some_and(|home| whole(path) == Some(home)))
}

impl Work {
    /// Whether a file goes to standard output.
    pub(super) fn is_stream(&self) -> bool {
        match self {
            Self::Receive(inbox, _) => inbox.is_stream(),
            Self::Get(order, _) => order.is_stream(),
            Self::Send(..) | Self::List(_) | Self::Share(_) => false,
        }
    }

    /// What the program is meanwhile.
    pub(super) fn program(&self) -> Program {
        match self {
            Self::Send(..) | Self::Get(..) | Self::List(_) => PROGRAM,
            Self::Receive(..) => RECEIVER,
            Self::Share(_) => SHARER,
        }
    }

    /// What it does files with.
    pub(super) fn client(&self, ways: &Ways) -> FileClient {
        match self {
            Self::Send(..) | Self::Get(..) | Self::List(_) => client_that_takes_nothing(ways),
            Self::Receive(..) | Self::Share(_) => client(ways),
        }
    }

    /// Whether it goes on until somebody asks it to end.
    pub(super) fn is_endless(&self) -> bool {
        match self {
            Self::Receive(_, count) => count.is_none(),
            Self::Share(_) => true,
            Self::Send(..) | Self::Get(..) | Self::List(_) => false,
        }
    }

    /// What is told while it lasts, and what takes the questions about it.
    pub(super) fn board(&mut self, policy: &Policy) -> Option<(Board, Box<dyn Service>)> {
        match self {
            Self::Share(shelf) => {
                let service = shelf.service(policy);
                Some((shelf.board(), service))
            }
            Self::Send(..) | Self::Receive(..) | Self::Get(..) | Self::List(_) => None,
        }
    }

    pub(super) async fn run(self, hand: &Hand, online: &Online) -> Result<Exit, Problem> {
        match self {
            Self::Send(order, to) => {
                let found = online.find_rather(&to, &[FILE_TRANSFER], &[RECEIVES]);
                let found = found.await?;
                let ours = found.info.has(crate::OWN);
                order
                    .run(&hand.towards(&found.info), &found.device, ours)
                    .await
            }
            Self::Receive(inbox, count) => {
                hand.view().waiting(online.address.as_str(), &inbox);
                inbox.run(hand, count).await
            }
            Self::Get(order, whom) => {
                let found = online.find_rather(&whom, &[FILE_TRANSFER], &[SHARES]);
                let found = found.await?;
                order.run(&hand.towards(&found.info), &found.device).await
            }
            Self::List(whom) => {
                let listed = hand.list(&whom).await?;
                hand.view().listed(&listed);
                Ok(Exit::Done)
            }
            Self::Share(shelf) => {
                hand.view().sharing(online.address.as_str(), &shelf);
                shelf.run(hand).await
            }
        }
    }
}
