//! `cargo xtask switchboard`: an XMPP server for trying things out on one machine, with nothing installed.
//!
//! A development tool and no more: it listens on loopback alone, keeps nothing, knows no other servers, and shows everybody
//! to everybody. STARTTLS with a certificate made at the start, SCRAM, PLAIN, ANONYMOUS, binding, discovery, external
//! services (XEP-0215), carbons, and stanzas between its accounts. For anything else there are Prosody and ejabberd.

mod auth;
mod connection;
mod router;
mod server;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::tools::{self, Failure, Outcome};
use server::Relay;
pub(crate) use server::{Config, Server};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Where to listen; an address of this machine alone
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// The TCP port; 0 takes a free one
    #[arg(long, default_value_t = 5222)]
    port: u16,
    /// The domain of its accounts
    #[arg(long, default_value = "localhost")]
    domain: String,
    /// An account, as NAME:PASSWORD; alice and bob with the password "secret" if there is none
    #[arg(long = "account", value_name = "NAME:PASSWORD")]
    accounts: Vec<String>,
    /// Lets in anybody by ANONYMOUS
    #[arg(long)]
    anonymous: bool,
    /// A STUN server to tell of, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT")]
    stun: Vec<String>,
    /// A TURN server to tell of, as HOST:PORT
    #[arg(long, value_name = "HOST:PORT", requires = "turn_secret")]
    turn: Vec<String>,
    /// The secret that the TURN server shares (coturn: static-auth-secret)
    #[arg(long)]
    turn_secret: Option<String>,
    /// Where to put the certificate of its authority; target/switchboard.pem if not said
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> Outcome {
    let hint = "cargo xtask switchboard --help";
    let failed = |what: String, why: String| Failure::new(what, why, hint);
    if !args.address.is_loopback() {
        return Err(failed(
            format!("--address {}", args.address),
            "it is for this machine alone, and that is no loopback address".to_owned(),
        ));
    }
    let config = config(args).map_err(|why| failed("the arguments".to_owned(), why))?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| failed("tokio".to_owned(), error.to_string()))?;
    let address = SocketAddr::new(args.address, args.port);
    runtime.block_on(async {
        let server = Server::bind(address, config)
            .await
            .map_err(|error| failed(format!("listening at {address}"), error.to_string()))?;
        let ca = args
            .ca
            .clone()
            .unwrap_or_else(|| tools::target_dir().join("switchboard.pem"));
        fs::write(&ca, server.authority())
            .map_err(|error| failed(ca.display().to_string(), error.to_string()))?;
        println!("A development tool: loopback only, nothing is kept.");
        println!("listening  {} (STARTTLS)", server.address());
        println!("domain     {}", args.domain);
        println!("authority  {}", ca.display());
        println!("accounts   {}", server.accounts().join(", "));
        println!("Ctrl-C ends it.");
        server.serve().await;
        Ok(String::new())
    })
}

/// The domain of [`Background`].
pub(crate) const DOMAIN: &str = "localhost";
/// The password of its accounts.
pub(crate) const PASSWORD: &str = "secret";

/// A server for alice and bob, on a port of its own, while somebody holds it.
pub(crate) struct Background {
    // It runs what serves.
    _runtime: tokio::runtime::Runtime,
    address: String,
    authority: String,
}

impl Background {
    pub(crate) fn start() -> Result<Self, Failure> {
        let failed = |error: std::io::Error| {
            Failure::new(
                "a server on loopback",
                error.to_string(),
                "is there a free port?",
            )
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(failed)?;
        let accounts = ["alice", "bob"].map(|name| (name.to_owned(), PASSWORD.to_owned()));
        let config = Config {
            domain: DOMAIN.to_owned(),
            accounts: BTreeMap::from(accounts),
            ..Config::default()
        };
        let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
        let server = runtime.block_on(Server::bind(address, config));
        let server = server.map_err(failed)?;
        let (address, authority) = (server.address(), server.authority().to_owned());
        runtime.spawn(server.serve());
        Ok(Self {
            _runtime: runtime,
            address,
            authority,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// The certificate of its authority, in PEM.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }
}

fn config(args: &Args) -> Result<Config, String> {
    let mut accounts = BTreeMap::new();
    for account in &args.accounts {
        let (name, password) = account
            .split_once(':')
            .filter(|(name, password)| !name.is_empty() && !password.is_empty())
            .ok_or_else(|| format!("{account:?} is not NAME:PASSWORD"))?;
        accounts.insert(name.to_owned(), password.to_owned());
    }
    if accounts.is_empty() && !args.anonymous {
        for name in ["alice", "bob"] {
            accounts.insert(name.to_owned(), PASSWORD.to_owned());
        }
    }
    let mut relays = Vec::new();
    let secret = args.turn_secret.clone();
    let stun = args.stun.iter().map(|place| (place, None));
    let turn = args.turn.iter().map(|place| (place, secret.clone()));
    for (place, secret) in stun.chain(turn) {
        let (host, port) = place
            .rsplit_once(':')
            .and_then(|(host, port)| Some((host, port.parse().ok()?)))
            .ok_or_else(|| format!("{place:?} is not HOST:PORT"))?;
        relays.push(Relay {
            host: host.to_owned(),
            port,
            secret,
        });
    }
    Ok(Config {
        domain: args.domain.clone(),
        accounts,
        anonymous: args.anonymous,
        relays,
    })
}
