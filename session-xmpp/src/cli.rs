//! Accounts for programs: options, a configuration file, a login, and transports (feature `cli`).
//!
//! What `pcp` and `call` share, and any other program that wants the same. A program flattens [`AccountArgs`] into its own
//! options, says what it is ([`Program`]), and gets a running [`Endpoint`](crate::Endpoint) with everything around it:
//!
//! 1. [`AccountArgs::configure`] and [`AccountArgs::resolve`]: options over the configuration file, the password from where it
//!    is, an [`Account`];
//! 2. [`Account::login`]: the login, the servers for STUN and TURN (options, XEP-0215, DNS), the transports in the order of
//!    `--transports`, presence with what the program can: an [`Online`];
//! 3. [`Online::find`]: the device of a peer that can take part, or why there is none;
//! 4. [`Online::finish`]: an orderly end.
//!
//! Whatever goes wrong is a [`Problem`]: what, why, what to try, a code for machines, and the program's [`Exit`] code.
//!
//! ```no_run
//! use clap::Parser;
//! use session_file::{TunnelClient, TunnelConfig};
//! use session_xmpp::cli::{AccountArgs, Online, Problem, Program};
//! use std::{process::ExitCode, sync::Arc};
//! use transport_p2p::pseudotcp::PseudoTcpLayer;
//!
//! /// Sends things to people.
//! #[derive(Parser)]
//! struct Args {
//!     #[command(flatten)]
//!     account: AccountArgs,
//!     /// To whom
//!     to: String,
//! }
//!
//! const PROGRAM: Program = Program {
//!     name: "things",
//!     node: "https://example.org/things",
//!     kind: "pc",
//!     features: &[session_file::TUNNEL],
//!     calls: false,
//! };
//!
//! #[tokio::main]
//! async fn main() -> ExitCode {
//!     let mut args = Args::parse();
//!     // The configuration file may want JSON, also of what goes wrong.
//!     let configured = args.account.configure(&PROGRAM);
//!     let (json, quiet) = (args.account.json, args.account.quiet);
//!     let outcome = match configured {
//!         Ok(()) => run(args).await,
//!         Err(problem) => Err(problem),
//!     };
//!     match outcome {
//!         Ok(()) => ExitCode::SUCCESS,
//!         Err(problem) => problem.report(PROGRAM.name, json, quiet),
//!     }
//! }
//!
//! async fn run(args: Args) -> Result<(), Problem> {
//!     let account = args.account.resolve(&PROGRAM)?;
//!     let peer = Problem::address("TO", &args.to)?;
//!     let layer = Arc::new(PseudoTcpLayer::default());
//!     let online: Online = account
//!         .login(&PROGRAM, |manager| manager.add_client(TunnelClient::new(TunnelConfig::new(layer))))
//!         .await?;
//!     let found = online.find(&peer, PROGRAM.features).await?;
//!     println!("{} takes things", found.device);
//!     online.finish(session_core::Reason::new(session_core::ReasonCondition::Success)).await;
//!     Ok(())
//! }
//! ```

mod account;
mod args;
mod config;
mod greet;
mod login;
mod network;
mod online;
mod password;
mod problem;
mod relays;
mod stop;

pub use account::Account;
pub use args::{AccountArgs, DialectName, TransportName};
pub use network::{INTERFACES_EVERY, Ways};
pub use online::{Found, Online};
pub use problem::{Exit, Problem};
pub use stop::Stop;

/// Fills `bytes` with what nobody can guess: for keys, ids and seeds.
pub fn random(bytes: &mut [u8]) {
    crate::client::driver_random(bytes);
}

/// What a program is, and tells others that it is (XEP-0030, XEP-0115).
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// Its name: the beginning of its device's name, and its table in the configuration file.
    pub name: &'static str,
    /// An address that names it (XEP-0115 §4).
    pub node: &'static str,
    /// What kind of client it is: `pc`, `phone` or `console`, of the register of XEP-0030.
    pub kind: &'static str,
    /// What it can, beside Jingle and the transports, which are added.
    pub features: &'static [&'static str],
    /// Whether its sessions may be announced by messages (XEP-0353), and [`Online::calls`] takes them.
    pub calls: bool,
}
