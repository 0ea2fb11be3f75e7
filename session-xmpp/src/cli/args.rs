//! The options.

use session_core::Dialect;
use std::path::PathBuf;

/// The options of an account, to be flattened into those of a program. What is not given may stand in the configuration file,
/// under the same name ([`configure`](Self::configure)), but for `config`, `remember` and `switchboard`.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Account and network")]
#[non_exhaustive]
pub struct AccountArgs {
    /// Your address: alice@example.org, or alice@example.org/desk
    #[arg(long, value_name = "JID")]
    pub jid: Option<String>,
    /// Log in as nobody in particular at a domain that allows this
    #[arg(long, value_name = "DOMAIN", conflicts_with = "jid")]
    pub anonymous: Option<String>,
    /// Where the password stands, in the first line
    #[arg(long, value_name = "FILE")]
    pub password_file: Option<PathBuf>,
    /// The environment variable that holds the password
    #[arg(long, value_name = "NAME")]
    pub password_env: Option<String>,
    /// A command that prints the password: "secret-tool lookup jid alice@example.org", "pass show xmpp"
    #[arg(long, value_name = "COMMAND")]
    pub password_command: Option<String>,
    /// Put the password into the system's keyring after a login
    #[cfg(feature = "keyring")]
    #[arg(long)]
    pub remember: bool,
    /// The server, whatever DNS says: HOST:PORT, or wss://HOST/PATH where only the web gets through
    #[arg(long, value_name = "HOST:PORT|WSS")]
    pub server: Option<String>,
    /// TLS begins at once at the port of --server, instead of by STARTTLS
    #[arg(long, requires = "server")]
    pub direct_tls: bool,
    /// The certificate of the authority that certified the server, in PEM; trusts no other
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Use the server that `cargo xtask switchboard` runs on this machine, whose accounts have the password "secret"
    #[arg(
        long,
        value_name = "PEM",
        num_args = 0..=1,
        default_missing_value = "target/switchboard.pem",
        conflicts_with = "ca"
    )]
    pub switchboard: Option<PathBuf>,
    /// A file with what stands here but --config, --remember and --switchboard, as in jid = "alice@example.org"; in a table
    /// pcp or call for that program alone [default: jingle/config.toml in $XDG_CONFIG_HOME, else in ~/.config]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How to talk to peers of whom it is not known how they talk
    #[arg(long, value_enum)]
    pub dialect: Option<DialectName>,
    /// The ways to a peer, best first [default: ice,s5b,ibb, as far as the program can use them]
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',')]
    pub transports: Vec<TransportName>,
    /// Tell nobody our addresses: go through relays and proxies, or through the XMPP server where ibb is one of the ways
    #[arg(long)]
    pub relay_only: bool,
    /// Tell a peer our addresses only when it has accepted; until then as with --relay-only
    #[arg(long)]
    pub relay_until_accepted: bool,
    /// A STUN server; may be given again
    #[arg(long, value_name = "HOST[:PORT]")]
    pub stun: Vec<String>,
    /// A relay; may be given again. turns: is TLS; the default transport is UDP
    #[arg(
        long,
        value_name = "[turn:|turns:]USER:PASSWORD@HOST[:PORT][?transport=tcp]"
    )]
    pub turn: Vec<String>,
    /// Who may start sessions: those in the roster (the default), anybody, or these addresses and domains
    #[arg(long, value_name = "roster|any|JID", value_delimiter = ',')]
    pub accept: Vec<String>,
    /// Write everything that happens to this file, a line of JSON each; secrets are masked (cargo xtask trace shows it)
    #[arg(long, value_name = "FILE")]
    pub trace: Option<PathBuf>,
    /// Speak JSON, an object a line
    #[arg(long)]
    pub json: bool,
    /// Say nothing but failures
    #[arg(long, short)]
    pub quiet: bool,
    /// Whether the configuration file was read.
    #[arg(skip)]
    pub(super) configured: bool,
}

/// A dialect, as an option names it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DialectName {
    /// What the peer's capabilities say, else Jingle
    #[default]
    Auto,
    /// Jingle (XEP-0166)
    Jingle,
    /// Google Talk, libjingle 0.4
    Gtalk,
    /// Google Talk, with the candidates of the first versions
    GtalkCompat,
    /// Google Talk, libjingle 0.5 and later
    GtalkLate,
    /// Both vocabularies in one offer
    Hybrid,
}

impl DialectName {
    /// The dialect itself; `None` for [`Auto`](Self::Auto).
    pub fn dialect(self) -> Option<&'static Dialect> {
        match self {
            Self::Auto => None,
            Self::Jingle => Some(Dialect::JINGLE),
            Self::Gtalk => Some(Dialect::GTALK),
            Self::GtalkCompat => Some(Dialect::GTALK_COMPAT),
            Self::GtalkLate => Some(Dialect::GTALK_LATE),
            Self::Hybrid => Some(Dialect::HYBRID),
        }
    }
}

/// A transport, as an option names it. Its form for Google's dialects comes along, where there is one.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum, serde::Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum TransportName {
    /// ICE over UDP (XEP-0176)
    Ice,
    /// ICE over UDP and TCP (XEP-0371)
    IceTcp,
    /// SOCKS5 bytestreams (XEP-0260)
    S5b,
    /// In-band bytestreams (XEP-0261)
    Ibb,
    /// Raw UDP (XEP-0177): only where both reach each other directly
    RawUdp,
}

impl TransportName {
    /// What is used when nothing is said, best first.
    pub const DEFAULT: [Self; 3] = [Self::Ice, Self::S5b, Self::Ibb];
}
